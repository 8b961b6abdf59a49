"""The Python module as a user sees it: sentences, threads, the tokenizer, types and the example."""

import ast
import inspect
import pathlib
import re
import subprocess
import sys
import threading
import unittest

from engines import SOURCE, EngineTest, neurogen, np, text
from neurogen._records import native_options, native_sampling


class Module(EngineTest):
    def test_raises_sentences(self):
        engine, ids = self.engine(), text(48)
        before = self.train(engine, 1)
        for kind, part, call in [
            (ValueError, "window is 0", lambda: self.engine(window=0)),
            (ValueError, 'architecture is "huge"', lambda: self.engine(architecture="huge")),
            (ValueError, "batch is -1: use 1 to 1048576", lambda: self.engine(batch=-1)),
            (TypeError, "cannot be interpreted as an integer", lambda: self.engine(batch="many")),
            (ValueError, 'budget "lots" is not a size', lambda: self.engine(budget="lots")),
            (ValueError, 'budget "-1" is not a size', lambda: self.engine(budget=-1)),
            (ValueError, 'overhead "x" is not a size', lambda: self.engine(overhead="x")),
            (ValueError, 'device is "tpu": use auto, cpu or cuda', lambda: self.engine(device="tpu")),
            (ValueError, 'device is "cuda:x": use', lambda: self.engine(device="cuda:x")),
            (ValueError, "gpu is 65537: use 0 to 65536", lambda: self.engine(device="cuda:65537")),
            (ValueError, 'compute is "fp64": use auto, fp32, bf16 or fp16', lambda: self.engine(compute="fp64")),
            (ValueError, 'decoder_storage is "8bit": use auto, fp32 or 16bit', lambda: self.engine(decoder_storage="8bit")),
            (ValueError, "synapse_rate is -1", lambda: self.engine(synapse_rate=-1)),
            (TypeError, "unexpected keyword argument", lambda: self.engine(colour="red")),
            (ValueError, "input_ids has 47", lambda: engine.train_step_batch(ids[:47], ids)),
            (ValueError, "use ids from", lambda: engine.train_step_batch(ids + 300, ids)),
            (TypeError, "not a contiguous array of int32", lambda: engine.train_step_batch(ids.astype(np.int64), ids)),
            (TypeError, "not a contiguous array of int32", lambda: engine.train_step_batch(ids.astype(np.float32), ids)),
            (TypeError, "not a contiguous array of int32", lambda: engine.evaluate(np.repeat(ids, 2)[::2])),
            (TypeError, "not a contiguous array of int32", lambda: engine.evaluate([1, 2, 3])),
            (TypeError, "cannot be interpreted as an integer", lambda: self.engine(window=24.5)),
            (TypeError, "expected str", lambda: self.engine(architecture=7)),
            (TypeError, "cannot be interpreted as an integer", lambda: engine.generate(ids, 5.5)),
            (TypeError, 'temperature is "hot": use a number', lambda: engine.generate(ids, temperature="hot")),
            (ValueError, "seed is 18446744073709551617: use a number of 64 bits", lambda: self.engine(seed=2**64 + 1)),
            (ValueError, "path has a NUL", lambda: engine.save(self.path("a\0b"))),
            (ValueError, 'module is "cerebellum"', lambda: engine.output("cerebellum")),
            (ValueError, "out has 3", lambda: engine.output("broca", np.empty(3, np.float32))),
            (TypeError, "not a contiguous array of float32", lambda: engine.output("broca", np.empty(3072))),
            (ValueError, "id is 300", lambda: engine.read_embedding_row(300)),
            (ValueError, "out has 3", lambda: engine.read_embedding_row(7, np.empty(3, np.float32))),
            (ValueError, "top_p is 2", lambda: engine.generate(ids, top_p=2)),
            (ValueError, "max_tokens is -1", lambda: engine.generate(ids, -1)),
            (ValueError, "prompt", lambda: engine.generate(ids[:0])),
            (TypeError, "unexpected keyword argument 'heat'", lambda: engine.generate(ids, heat=1)),
            (ValueError, "does not exist", lambda: engine.load(self.path("none"))),
            (RuntimeError, "No such file", lambda: engine.save(self.path("no/file"))),
        ]:
            with self.subTest(part), self.assertRaisesRegex(kind, part) as caught:
                call()
            if kind is not TypeError:
                self.assertEqual(str(caught.exception).count("\n"), 0)
                self.assertIsInstance(caught.exception, neurogen.Refused if kind is ValueError else neurogen.Failed)
                named = re.match(r"(\w+) (is|has|\")", part)
                self.assertEqual(caught.exception.field, named[1] if named else caught.exception.field)
        readonly = np.empty((2, 24, 64), np.float32)
        readonly.flags.writeable = False
        with self.assertRaisesRegex(ValueError, "read-only"):
            engine.output("broca", readonly)
        other = self.engine()
        self.assertEqual(self.train(other, 1), before)
        self.assertEqual(self.train(engine, 1, 1), self.train(other, 1, 1))  # nothing was lost

    def test_frees_the_interpreter(self):
        """While one thread is inside a call, this one counts; threads that share an engine take turns."""
        engine, ids, following = self.engine(), text(48), text(48, 1)  # NumPy releases the interpreter too
        inside, counted = threading.Event(), []

        def count():
            inside.wait()
            counted.append(sum(range(1000)))

        counter = threading.Thread(target=count)
        counter.start()
        old = sys.getswitchinterval()
        sys.setswitchinterval(1000)  # a thread gets the interpreter only if another releases it
        try:
            inside.set()
            for _ in range(300):
                engine.train_step_batch(ids, following)
                if counted:
                    break
            given_away = bool(counted)
        finally:
            sys.setswitchinterval(old)
        counter.join()
        self.assertTrue(given_away)

        shared, alone = self.engine(), self.engine()
        threads = [threading.Thread(target=lambda: [shared.train_step_batch(text(48), text(48, 1)) for _ in range(5)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(20):
            alone.train_step_batch(text(48), text(48, 1))
        self.assertEqual(shared.evaluate(text(90)), alone.evaluate(text(90)))

    def test_tokenizes(self):
        corpus = pathlib.Path(neurogen.__file__).parents[2] / "bin/corpus"
        if not corpus.exists():
            self.skipTest("the program corpus, which trains a tokenizer, is not beside the module")
        with open(self.path("text.txt"), "w") as file:
            file.writelines(f"line {i} has the number {i * i % 97}\n" for i in range(300))
        model = self.path("t.model")
        subprocess.run([corpus, "train-tokenizer", self.path("text.txt"), "--vocabulary", "300", "--out", model], check=True, stdout=subprocess.DEVNULL)
        tokenizer = neurogen.Tokenizer(model)
        self.assertEqual((tokenizer.vocabulary, tokenizer.line_end, tokenizer.document_end), (300, 3, 2))
        texts = ["", "\n", " \r\n\n\tline 7  \n", "caf\u00e9 \u4e2d \U0001f600 \x00 \u2585\n", "line 8 has " * 9000]
        for written in texts + ["\u2581 is no space"]:
            ids = tokenizer.encode(written)
            self.assertEqual(ids.dtype, np.int32)
            self.assertEqual(tokenizer.decode(ids), written)
        self.assertEqual(tokenizer.decode(tokenizer.encode("\u4e2d")[:2]), "\ufffd")
        for kind, part, call in [
            (ValueError, "none does not exist", lambda: neurogen.Tokenizer(self.path("none"))),
            (ValueError, "use ids from 0 to 299", lambda: tokenizer.decode(np.full(1, 300, np.int32))),
            (TypeError, "not a contiguous array of int32", lambda: tokenizer.decode(np.zeros(1))),
            (TypeError, "'bytes'", lambda: tokenizer.encode(b"line")),
        ]:
            with self.subTest(part), self.assertRaisesRegex(kind, part):
                call()
        try:
            import sentencepiece
        except ImportError:
            self.skipTest("there is no sentencepiece to compare with")
        processor = sentencepiece.SentencePieceProcessor(model_file=model)
        for written in texts:
            self.assertEqual(processor.encode(written), tokenizer.encode(written).tolist())
            self.assertEqual(processor.decode(tokenizer.encode(written).tolist()), written)

    def test_everything_is_typed_and_documented(self):
        """Options have the names and the defaults of the C++ library."""
        headers = "".join((SOURCE / f"include/neurogen/{name}.h").read_text() for name in ("settings", "recipe", "engine"))
        for name in [*neurogen.Options.__annotations__, *neurogen.Sampling.__annotations__]:
            self.assertRegex(headers, rf"[ ,]{name}(;| = )")
        for kind, native in ((neurogen.Options, native_options), (neurogen.Sampling, native_sampling)):
            defaults = re.findall(r"^    (\w+) \((.*?)\): ", kind.__doc__, re.M)
            self.assertEqual([name for name, _ in defaults], list(kind.__annotations__))
            for name, default in defaults:
                self.assertEqual(getattr(native({name: ast.literal_eval(default)}), name), getattr(native({}), name), name)
        for name in neurogen.__all__:
            real = getattr(neurogen, name)
            self.assertTrue(real.__doc__)
            for member, found in vars(real).items():
                if isinstance(found, property):
                    function = found.fget
                elif inspect.isfunction(found) and (member in ("__init__", "__str__") or not member.startswith("_")):
                    function = found
                else:
                    continue
                if name in ("MemoryPlan", "TrainingStepReport") and member == "__init__":
                    continue  # made by dataclass
                signature = inspect.signature(function)
                self.assertTrue(function.__doc__, member)
                self.assertIsNot(signature.return_annotation, inspect.Signature.empty, member)
                for parameter in list(signature.parameters.values())[1:]:
                    self.assertIsNot(parameter.annotation, inspect.Parameter.empty, (member, parameter))

    def test_example(self):
        result = subprocess.run([sys.executable, SOURCE / "examples/train.py", SOURCE / "README.md", "60"], capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("allocations since construction: 0", result.stdout)


if __name__ == "__main__":
    unittest.main()
