"""What an engine does in Python."""

import pathlib
import unittest

from engines import DEVICE, EngineTest, neurogen, np, text


class Engine(EngineTest):
    def test_learns_and_speaks(self):
        engine = self.engine()
        before = engine.evaluate(text(200, 1000))
        self.train(engine, 60)
        self.assertEqual(engine.steps, 60)
        self.assertLess(engine.evaluate(text(200, 1000)), before - 2)
        self.assertEqual(list(engine.generate(text(20), 10, temperature=0)), text(10, 20).tolist())
        self.assertEqual(list(engine.generate(text(20), 10, seed=3)), list(engine.generate(text(20), 10, seed=3)))
        self.assertEqual(list(engine.generate(text(20), 0)), [])

    def test_generates_token_by_token(self):
        engine = self.engine(document_end=7)
        self.train(engine, 3)
        whole = list(engine.generate(text(5), 12))
        said = engine.generate(text(5), 12)
        begun = [next(said) for _ in range(4)]
        engine.evaluate(text(90))  # other calls may come between
        self.assertEqual(begun + list(said), whole)
        self.assertTrue(7 not in whole or whole.index(7) == len(whole) - 1)
        first, second = engine.generate(text(5)), engine.generate(text(6))
        with self.assertRaisesRegex(neurogen.Refused, "another text has been begun"):
            next(first)
        next(second)

    def test_continues_several_prompts(self):
        engine = self.engine()
        self.train(engine, 3)
        prompts = [text(5), text(1, 40), text(17, 3)]
        together = [[] for _ in prompts]
        for prompt, token in engine.generate_many(prompts, 9, seed=4):
            together[prompt].append(token)
        self.assertEqual(together, [list(engine.generate(prompt, 9, seed=4)) for prompt in prompts])
        self.assertEqual(list(engine.generate_many([])), [])

    def test_reports_steps(self):
        engine = self.engine(warmup=2, learning_rate=1e-3)
        steps = [engine.train_step_batch(text(48), text(48, 1)) for _ in range(2)]
        self.assertGreater(steps[0].gradient_norm, 0)
        self.assertAlmostEqual(steps[0].learning_rate, 5e-4)
        self.assertAlmostEqual(steps[1].learning_rate, 1e-3)
        self.assertIs(steps[1].skipped, False)

    def test_takes_a_step_in_several_micro_batches(self):
        parts, whole = self.engine(accumulate=3), self.engine(batch=6)
        self.assertEqual(parts.memory_plan.accumulate, 3)
        self.assertIn("3 x 2 x 24 tokens a step", repr(parts))
        for i in range(3):
            both = [engine.train_step_batch(text(144, i), text(144, i + 1)) for engine in (parts, whole)]
            self.assertAlmostEqual(both[0].loss, both[1].loss, places=4)

    def test_gives_losses_and_logits(self):
        engine, inputs, targets = self.engine(), text(48), text(48, 1)
        self.train(engine, 3)
        targets[5] = -1
        losses, logits = engine.losses(inputs, targets), engine.logits(inputs)
        self.assertEqual((losses.shape, losses.dtype), ((2, 24), np.float32))
        self.assertEqual((logits.shape, logits.dtype), ((2, 24, 300), np.float32))
        rows = logits.reshape(48, 300).astype(np.float64)
        expected = np.log(np.exp(rows).sum(1)) - rows[np.arange(48), targets]
        expected[5] = 0
        np.testing.assert_allclose(losses.reshape(48), expected, atol=1e-4)
        self.assertIs(engine.losses(inputs, targets, losses), losses)
        self.assertIs(engine.logits(inputs, logits), logits)

    def test_reads_writes_and_exports_parameters(self):
        engine, other = self.engine(), self.engine()
        self.train(engine, 3)
        self.assertEqual(list(engine.parameters)[0], "embedding.weight")
        self.assertEqual(engine.parameters["broca.gain"].shape, (64,))
        self.assertEqual(repr(engine.parameters["broca.gain"]), "<neurogen.Parameter broca.gain [64]>")
        for name, parameter in engine.parameters.items():
            values = parameter.read()
            self.assertEqual((values.shape, values.dtype), (parameter.shape, np.float32))
            self.assertIs(parameter.read(values), values)
            other.parameters[name].write(values)
        self.assertEqual(other.evaluate(text(90)), engine.evaluate(text(90)))
        engine.export_weights(self.path("w.safetensors"))
        self.assertEqual(self.engine(init=self.path("w.safetensors")).evaluate(text(90)), engine.evaluate(text(90)))
        gain = engine.parameters["broca.gain"]
        with self.assertRaisesRegex(neurogen.Refused, r"values has 3 elements: it needs 64, \[64\]"):
            gain.write(np.ones(3, np.float32))
        with self.assertRaisesRegex(TypeError, "values is not a contiguous array of float32"):
            gain.write(np.ones(64))
        with self.assertRaisesRegex(neurogen.Refused, "not finite"):
            gain.write(np.full(64, np.nan, np.float32))

    def test_closes(self):
        with self.engine() as engine:
            self.train(engine, 1)
            self.assertRegex(repr(engine), r"<neurogen.Engine on .*: 2 x 24 tokens a step, \d+ bytes, step 1>")
            said, parameter = engine.generate(text(5)), engine.parameters["broca.gain"]
            row = engine.embedding_row(7) if DEVICE == "cpu" else np.ones(32)
            before = row.copy()
        self.engine(seed=5)  # would take the place of the memory, which the view holds
        np.testing.assert_array_equal(row, before)
        self.assertEqual(repr(engine), "<neurogen.Engine, closed>")
        engine.close()  # again
        ids = text(48)
        for call in [
            lambda: self.train(engine, 1),
            lambda: engine.evaluate(ids),
            lambda: engine.losses(ids, ids),
            lambda: engine.logits(ids),
            lambda: engine.generate(ids),
            lambda: next(said),
            lambda: parameter.read(),
            lambda: parameter.write(np.ones(64, np.float32)),
            lambda: engine.output("broca"),
            lambda: engine.embedding_row(7),
            lambda: engine.read_embedding_row(7),
            lambda: engine.save(self.path("a")),
            lambda: engine.export_weights(self.path("a")),
            lambda: engine.load(self.path("a")),
            lambda: (engine.memory_plan, engine.device, engine.steps),
            lambda: engine.__enter__(),
        ]:
            with self.assertRaisesRegex(neurogen.Refused, "the engine is closed"):
                call()

    @unittest.skipIf(DEVICE != "cpu", "measures the process")
    def test_close_gives_the_memory_back(self):
        def mapped():
            return int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * 4096

        engine = self.engine()
        before = mapped()
        engine.close()
        self.assertLess(mapped(), before - engine._plan.device_arena * 0.9)

    def test_saves_and_loads(self):
        engine = self.engine(seed=4)
        self.train(engine, 4)
        engine.save(self.path("four.ngck"))
        on = self.train(engine, 2, 4)
        for other in (self.engine(), self.engine(checkpoint=self.path("four.ngck"), architecture="auto")):
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
        plan = engine.memory_plan
        self.assertEqual(plan.budget, 10**9)
        self.assertEqual(plan.total, plan.device_arena + plan.host_arena + plan.overhead)
        self.assertIn("device arena", str(plan))
        self.assertEqual((plan.batch, plan.window), (2, 24))
        self.engine(budget=plan.minimum)
        with self.assertRaisesRegex(ValueError, f"at least {plan.minimum}"):
            self.engine(budget=plan.minimum - 1)

    def test_plans_without_an_engine(self):
        options = {"architecture": self.path("brain.json"), "device": DEVICE, "threads": 2, "batch": 2, "window": 24}
        self.assertEqual(neurogen.Engine.plan(**options), self.engine().memory_plan)
        small = neurogen.Engine.plan(**options, budget="1M")
        self.assertIs(small.fits, False)
        self.assertIn("settings that would fit", small.refusal)
        self.assertEqual(neurogen.Engine.plan(**{**options, "device": "cuda:1", "batch": "auto"}).batch, 32)  # present or not
        self.assertEqual(neurogen.Engine.plan(**options, overhead="1M").overhead, 10**6)
        self.assertEqual(neurogen.Engine.plan(**options, overhead="auto", document_end=None), neurogen.Engine.plan(**options))


if __name__ == "__main__":
    unittest.main()
