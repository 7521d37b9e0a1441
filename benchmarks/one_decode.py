"""What `test_growth.py` decodes; as a program, the most memory that one such decode takes, in a process of its own.

`python benchmarks/one_decode.py '{"items": 8, "vocabulary": 4000}'` prints MiB and rows as JSON.
"""

from __future__ import annotations

import functools
import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import models

from birnn_decode import BSCD, BeamSearch, DecodeResult, Pair, Template, decode
from birnn_decode.template import Gap

# Fewer rounds than the pair would need, so that their number does not vary with the size.
METHODS = {"bscd": BSCD(max_rounds=2), "beam": BeamSearch("forward")}
ONE_NUMBER = 4  # bytes of a float32
MIB = 2**20
PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Point:
    """The size of a decode.

    Attributes:
        items: templates in the batch.
        beams: B.
        words: missing in each template, where their number is known.
        vocabulary: ids.
        widths: so many are allowed, ``{1-widths}``; 0: `words` is the only one.
        hidden: units of each LSTM.
    """

    items: int = 8
    beams: int = 5
    words: int = 8
    vocabulary: int = 4_000
    widths: int = 0
    hidden: int = 128

    def pair(self) -> Pair:
        return Pair(*(_model(direction, self.hidden, self.vocabulary) for direction in ("forward", "backward")))

    def decode(self, method: str = "bscd") -> list[DecodeResult]:
        gap = Gap(1, self.widths) if self.widths else Gap(self.words, self.words)
        # No two items with the same words around the blank.
        templates = [Template((10 + item, 11, gap, 12, 13 + item)) for item in range(self.items)]
        images = [None] * self.items
        models, how = self.pair(), METHODS[method]
        if method == "beam":
            models = Pair(models.forward)
        return decode(models, images, templates, how, beam_size=self.beams)

    def bound(self, rows: int) -> float:
        """In MiB: what the rows keep, and half of it again; three arrays over the blank positions; the LSTM's states.

        Where several widths are allowed, the blank positions are those of the widest alone.
        """
        scores = 1.5 * rows * self.vocabulary
        steps = 3 * self.items * (self.widths or self.words) * self.vocabulary
        states = rows * 2 * self.hidden
        return (scores + steps + states) * ONE_NUMBER / MIB


@functools.cache
def _model(direction: str, hidden: int, vocabulary: int) -> Any:
    return models.lstm(direction, hidden, vocabulary)


def row_count(results: Sequence[DecodeResult]) -> int:
    return sum(result.rows_evaluated for result in results)


def _resident(which: str) -> float:
    """A line of the kernel's account of this process, in MiB."""
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:")) / 1024


def measured(point: Point) -> dict[str, float] | None:
    """The peak of resident memory during a decode, over what there was before, and the rows that it read.

    None where the system does not let the peak begin anew.
    """
    replace(point, items=1, beams=1, words=1, widths=0).decode()  # what is made once is there now, the pair included
    gc.collect()
    try:
        (PROCESS / "clear_refs").write_text("5")  # the peak begins anew
    except OSError:
        return None
    before = _resident("VmRSS")
    results = point.decode()
    return {"peak_mib": _resident("VmHWM") - before, "rows": row_count(results)}


if __name__ == "__main__":
    print(json.dumps(measured(Point(**json.loads(sys.argv[1])))))
