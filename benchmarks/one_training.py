"""What `test_training.py` trains on; as a program, the most memory that `birnn-decode train` takes on a file of lines.

`python benchmarks/one_training.py '{"megabytes": 1000}'` writes random lines to a temporary folder, trains small models
on them until SIGINT after some steps, and prints the peak memory in MiB and the seconds before the first step as JSON.
Other settings are those of `Run`. The training is a process of its own, a child of this one, which imports no PyTorch.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHARACTERS = "CNOScnos()=#123456[]@H+-"
WORDS = 5_000
LENGTHS = (15, 60)  # characters of a line
IN_WORDS = (2, 10)  # words of a line, which has about as many characters
AT_ONCE = 10_000  # lines
TO_KIB = 1024 if sys.platform == "darwin" else 1  # the peak is in bytes there

# The command, which gets SIGINT in the middle of a step.
INTERRUPTED = """
import os, signal, sys, time
from birnn_decode import training

began, done, step = time.monotonic(), 0, training._Descent.step

def counted(*given):
    global done
    done += 1
    if done == 1:
        print(f"reading took {time.monotonic() - began:.1f} s", flush=True)
    if done == int(os.environ["STEPS"]):
        os.kill(os.getpid(), signal.SIGINT)
    return step(*given)

training._Descent.step = counted
from birnn_decode.cli import main
main()
"""


def lines(tokens: str = "characters", seed: int = 0) -> Iterator[str]:
    """Random lines without end: text like SMILES, or words."""
    generator = random.Random(seed)
    separator, kinds, (shortest, longest) = "", list(CHARACTERS), LENGTHS
    if tokens == "words":
        separator, (shortest, longest) = " ", IN_WORDS
        kinds = ["".join(generator.choices("abcdefghij", k=generator.randint(2, 9))) for _ in range(WORDS)]
    drawn = generator.choices(kinds, k=1_000_000)
    while True:
        length = generator.randint(shortest, longest)
        begin = generator.randrange(len(drawn) - length)
        yield separator.join(drawn[begin : begin + length])


@dataclass(frozen=True)
class Run:
    """What is measured.

    Attributes:
        megabytes: size of the file of lines, and of the file of sources.
        tokens: "characters" or "words".
        sources: whether there is a file of sentences as sources.
        precision: "float32" or "bfloat16".
        steps: number of steps until SIGINT. The first one reads a pool of 102,400 lines, as large as any later one.
    """

    megabytes: float = 50
    tokens: str = "characters"
    sources: bool = False
    precision: str = "float32"
    steps: int = 300

    def measured(self) -> dict[str, Any]:
        """The peak memory in MiB, and how long the passes over the file took before the first step."""
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", INTERRUPTED, "train", "--lines", "lines.txt", "--tokens", self.tokens]
            command += ["--hidden-size", "16", "--precision", self.precision, "--unknown", "unk", "--out", "pair"]
            for number, name in enumerate(["lines"] + ["sources"] * self.sources):
                self.write(Path(folder, f"{name}.txt"), number)
            if self.sources:
                command += ["--sources", "sources.txt"]
            environment = {**os.environ, "STEPS": str(self.steps)}
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as running:
                output, errors = running.communicate()
            assert running.returncode == 130, errors
            assert Path(folder, "pair.checkpoint").exists()
        import resource

        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / TO_KIB / 1024
        reading = re.search(r"reading took ([\d.]+) s", output)
        assert reading, output
        return {"peak_mib": peak, "reading_s": float(reading[1])}

    def write(self, path: Path, seed: int) -> None:
        # As many lines in both files: a line has about as many characters in each.
        drawn = lines(self.tokens, seed)
        count = int(self.megabytes * 1e6 / (sum(LENGTHS) / 2 + 1))
        with path.open("w") as file:
            for begin in range(0, count, AT_ONCE):
                file.write("".join(f"{next(drawn)}\n" for _ in range(min(AT_ONCE, count - begin))))


if __name__ == "__main__":
    print(json.dumps(Run(**json.loads(sys.argv[1])).measured()))
