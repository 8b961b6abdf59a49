"""The beginning that the scripts of this folder share. They are called as SCRIPT BUILD ..., with what was built and a Python that has the
packages of PyPI that each of them names; without these they print "skipped"."""
import importlib
import pathlib
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
sys.path[:0] = [str(BUILD / "python"), str(SOURCE / "tests" / "python")]
sys.dont_write_bytecode = True


def imported(*names):
    """The modules of these names, neurogen's of this build; ends the script if one is missing."""
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as missing:
        sys.exit(print(f"skipped: {missing}"))


def program(name, *words):
    """Runs a program of ours with these words, and returns what it prints."""
    result = subprocess.run([BUILD / "bin" / name, *map(str, words)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def engine(*words):
    return program("neurogen-engine", *words)
