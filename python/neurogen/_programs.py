"""Console scripts of the wheel: neurogen-engine, neurogen-plan and neurogen-corpus."""

import os
import sys
from pathlib import Path


def run() -> None:
    program = Path(sys.argv[0]).name
    os.execv(Path(__file__).parent / "bin" / program, [program, *sys.argv[1:]])
