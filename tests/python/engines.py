"""Small engines for the tests of the Python module: NAME_test.py SOURCE, with the built package on PYTHONPATH.

They run on the CPU, or on the device in NEUROGEN_TEST_DEVICE."""

import os
import pathlib
import sys
import tempfile
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


class EngineTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = lambda name: os.path.join(directory.name, name)
        with open(self.path("brain.json"), "w") as file:
            file.write(BRAIN)

    def engine(self, **options):
        return neurogen.Engine(**{"architecture": self.path("brain.json"), "device": DEVICE, "threads": 2, "batch": 2, "window": 24, **options})

    def train(self, engine, steps, begin=0):
        for i in range(begin, begin + steps):
            step = engine.train_step_batch(text(48, i).reshape(2, 24), text(48, i + 1).reshape(2, 24))
        return step.loss
