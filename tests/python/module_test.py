"""Tests the Python module as a user sees it: module_test.py SOURCE, with the built package on PYTHONPATH.

Runs on the CPU, or on the device in NEUROGEN_TEST_DEVICE."""

import ast
import inspect
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import unittest

try:
    import numpy as np
except ImportError:
    sys.exit(print("skipped: there is no NumPy for", sys.executable))

import neurogen

SOURCE = pathlib.Path(sys.argv.pop())
DEVICE = os.environ.get("NEUROGEN_TEST_DEVICE", "cpu")
BRAIN = """{"name": "test", "vocabulary": 300, "embedding": 32,
  "thalamus": {"neurons": 64, "outputs": 32, "fan_in": 32}, "wernicke": {"neurons": 192, "outputs": 64, "fan_in": 48},
  "hippocampus": {"neurons": 256, "outputs": 64, "fan_in": 32}, "basal_ganglia": {"neurons": 64, "outputs": 32, "fan_in": 32},
  "prefrontal": {"neurons": 256, "outputs": 64, "fan_in": 32}, "broca": {"neurons": 320, "outputs": 64, "fan_in": 32}}"""


def text(tokens, begin=0):
    return (np.arange(begin, begin + tokens) * 7 % 50).astype(np.int32)


class Module(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = lambda name: os.path.join(directory.name, name)
        with open(self.path("brain.json"), "w") as file:
            file.write(BRAIN)

    def engine(self, **options):
        return neurogen.Engine(**{"arch": self.path("brain.json"), "device": DEVICE, "threads": 2, "batch": 2, "window": 24, **options})

    def train(self, engine, steps, begin=0):
        for i in range(begin, begin + steps):
            loss = engine.train_step_batch(text(48, i).reshape(2, 24), text(48, i + 1).reshape(2, 24))
        return loss

    def test_learns_and_speaks(self):
        engine = self.engine()
        before = engine.evaluate(text(200, 1000))
        self.train(engine, 60)
        self.assertEqual(engine.steps, 60)
        self.assertLess(engine.evaluate(text(200, 1000)), before - 2)
        said = engine.generate(text(20), 10, temperature=0)
        self.assertEqual(said.dtype, np.int32)
        np.testing.assert_array_equal(said, text(10, 20))
        np.testing.assert_array_equal(engine.generate(text(20), 10, seed=3), engine.generate(text(20), 10, seed=3))
        self.assertEqual(len(engine.generate(text(20), 0)), 0)

    def test_saves_and_loads(self):
        engine = self.engine(seed=4)
        self.train(engine, 4)
        engine.save(self.path("four.ngck"))
        on = self.train(engine, 2, 4)
        for other in (self.engine(), self.engine(checkpoint=self.path("four.ngck"), arch="auto")):
            other.load(self.path("four.ngck"))
            self.assertEqual(other.steps, 4)
            self.assertEqual(self.train(other, 2, 4), on)
        self.assertEqual(self.engine(init=self.path("four.ngck")).steps, 0)

    def test_shows_its_inside_without_copies(self):
        engine = self.engine()
        self.train(engine, 1)
        self.assertEqual(engine.modules, ["thalamus", "wernicke", "hippocampus", "basal_ganglia", "prefrontal", "broca"])
        out = engine.output("broca")
        self.assertEqual((out.shape, out.dtype), ((2, 24, 64), np.float32))
        again = np.empty((48, 64), np.float32)
        self.assertIs(engine.output("broca", again), again)
        np.testing.assert_array_equal(out.reshape(48, 64), again)

    @unittest.skipIf(DEVICE != "cpu", "a GPU's memory cannot be looked at")
    def test_shows_the_embedding_without_copies(self):
        engine = self.engine()
        self.train(engine, 1)
        row = engine.embedding_row(7)
        self.assertEqual((row.shape, row.dtype, row.flags.owndata, row.flags.writeable), ((32,), np.float32, False, False))
        self.assertEqual(engine.embedding_row(8).ctypes.data - row.ctypes.data, 32 * 4)
        before = row.copy()
        self.train(engine, 1)
        self.assertFalse(np.array_equal(row, before))
        del engine  # the row keeps it alive
        self.assertTrue(np.isfinite(row).all())

    def test_copies_rows_of_the_embedding(self):
        engine = self.engine()
        row = engine.read_embedding_row(7)
        self.assertEqual((row.shape, row.dtype), ((32,), np.float32))
        self.assertIs(engine.read_embedding_row(8, row), row)
        self.assertFalse(np.array_equal(row, engine.read_embedding_row(7)))
        if DEVICE == "cpu":
            np.testing.assert_array_equal(row, engine.embedding_row(8))
        self.train(engine, 1)
        self.assertFalse(np.array_equal(row, engine.read_embedding_row(8)))

    def test_reads_batches_where_they_lie(self):
        engine = self.engine()
        both = np.stack([text(48), text(48, 1)])
        self.train(engine, 1)
        engine.train_step_batch(both[0], both[1])  # rows of the caller's own array
        engine.train_step_batch(memoryview(both[0]), both[1])  # any object with a buffer
        self.assertEqual(engine.allocations_since_construction, 0)
        engine.save(self.path("saved.ngck"))
        self.assertEqual(engine.allocations_since_construction, 0)
        engine.load(self.path("saved.ngck"))
        self.assertGreater(engine.allocations_since_construction, 0)

    def test_plans(self):
        engine = self.engine(budget=10**9)
        plan = engine.plan
        self.assertEqual(plan.budget, 10**9)
        self.assertEqual(plan.total, plan.device_arena + plan.host_arena + plan.overhead)
        self.assertIn("device arena", str(plan))
        self.assertEqual((plan.batch, plan.window), (2, 24))
        self.engine(budget=plan.minimum)
        with self.assertRaisesRegex(ValueError, f"at least {plan.minimum}"):
            self.engine(budget=plan.minimum - 1)

    def test_raises_sentences(self):
        engine, ids = self.engine(), text(48)
        before = self.train(engine, 1)
        for kind, part, call in [
            (ValueError, "window is 0", lambda: self.engine(window=0)),
            (ValueError, "huge", lambda: self.engine(arch="huge")),
            (ValueError, 'batch is "many"', lambda: self.engine(batch="many")),
            (TypeError, "unexpected keyword argument", lambda: self.engine(colour="red")),
            (ValueError, "input_ids has 47", lambda: engine.train_step_batch(ids[:47], ids)),
            (ValueError, "use ids from", lambda: engine.train_step_batch(ids + 300, ids)),
            (TypeError, "not a contiguous array of int32", lambda: engine.train_step_batch(ids.astype(np.int64), ids)),
            (TypeError, "not a contiguous array of int32", lambda: engine.train_step_batch(ids.astype(np.float32), ids)),
            (TypeError, "not a contiguous array of int32", lambda: engine.evaluate(np.repeat(ids, 2)[::2])),
            (TypeError, "not a contiguous array of int32", lambda: engine.evaluate([1, 2, 3])),
            (TypeError, "cannot be interpreted as an integer", lambda: self.engine(window=24.5)),
            (TypeError, "expected str", lambda: self.engine(arch=7)),
            (TypeError, "cannot be interpreted as an integer", lambda: engine.generate(ids, 5.5)),
            (ValueError, "could not convert string to float", lambda: engine.generate(ids, temperature="hot")),
            (ValueError, "seed is 18446744073709551617: use a number of 64 bits", lambda: self.engine(seed=2**64 + 1)),
            (ValueError, "NUL", lambda: engine.save(self.path("a\0b"))),
            (ValueError, "no module cerebellum", lambda: engine.output("cerebellum")),
            (ValueError, "out has 3", lambda: engine.output("broca", np.empty(3, np.float32))),
            (TypeError, "not a contiguous array of float32", lambda: engine.output("broca", np.empty(3072))),
            (ValueError, "id is 300", lambda: engine.read_embedding_row(300)),
            (ValueError, "out has 3", lambda: engine.read_embedding_row(7, np.empty(3, np.float32))),
            (ValueError, "top-p is 2", lambda: engine.generate(ids, top_p=2)),
            (ValueError, "max_tokens is -1", lambda: engine.generate(ids, -1)),
            (ValueError, "prompt", lambda: engine.generate(ids[:0])),
            (ValueError, "none", lambda: engine.load(self.path("none"))),
            (RuntimeError, "No such file", lambda: engine.save(self.path("no/file"))),
        ]:
            with self.subTest(part), self.assertRaisesRegex(kind, part) as caught:
                call()
            if kind is not TypeError:
                self.assertEqual(str(caught.exception).count("\n"), 0)
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
        """Defaults are those of the C++ library."""
        headers = "".join((SOURCE / f"include/neurogen/{name}.h").read_text() for name in ("settings", "recipe", "engine"))
        other_names = {"arch": "architecture", "synapse_rate": "synapse", "table_rate": "table", "decoder_rate": "decoder"}
        not_in_headers = {"learning_rate": None, "synapse_rate": None, "checkpoint": "", "init": "", "document_end": None, "max_tokens": 100, "out": None}
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
                if name == "MemoryPlan" and member == "__init__":
                    continue  # made by dataclass
                signature = inspect.signature(function)
                self.assertTrue(function.__doc__, member)
                self.assertIsNot(signature.return_annotation, inspect.Signature.empty, member)
                for parameter in list(signature.parameters.values())[1:]:
                    self.assertIsNot(parameter.annotation, inspect.Parameter.empty, (member, parameter))
                    if parameter.default is inspect.Parameter.empty:
                        continue
                    if parameter.name in not_in_headers:
                        self.assertEqual(parameter.default, not_in_headers[parameter.name])
                        continue
                    initial = re.search(rf"[ ,]{other_names.get(parameter.name, parameter.name)} = ([^,;]+)[,;]", headers)
                    self.assertIsNotNone(initial, parameter.name)
                    self.assertEqual(parameter.default, ast.literal_eval(initial[1]), parameter.name)

    def test_example(self):
        result = subprocess.run([sys.executable, SOURCE / "examples/train.py", SOURCE / "README.md", "60"], capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("allocations since construction: 0", result.stdout)


if __name__ == "__main__":
    unittest.main()
