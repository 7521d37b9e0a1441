"""What a program pays before its first answer: `pytest benchmarks/test_start.py -s`.

Each is a fresh process, timed from its start to its end, and what Python alone takes is a line of its own.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("torch")

from measuring import in_turns, record

FIRST = """
import numpy as np
from birnn_decode import decode
from birnn_decode.models import default_pair

picture = np.full((64, 64, 3), 200, dtype=np.uint8)
print(decode(default_pair(), picture, "a {1-3} circle is left of a _ square").best.text)
"""
PROGRAMS = {
    "Python alone": "pass",
    "import torch": "import torch",
    "import birnn_decode": "import birnn_decode",
    "first decode of the pair on board": FIRST,
}


def test_start(benchmark: Any) -> None:
    def run(program: str) -> None:
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)

    times = in_turns(benchmark, {name: lambda name=name: run(PROGRAMS[name]) for name in PROGRAMS})
    for name, seconds in times.items():
        record(benchmark, "start", what=name, seconds=times.median(name), low=min(seconds), high=max(seconds))
