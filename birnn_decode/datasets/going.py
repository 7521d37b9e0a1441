"""A run that goes on: what is missing, answers that are taken and written in parts, and counts."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

from birnn_decode.datasets.decoder import Decoder
from birnn_decode.datasets.parts import Answered, Run
from birnn_decode.datasets.questions import Batch, QuestionFile
from birnn_decode.scorers.joint import JointScorer
from birnn_decode.scorers.pair import Pair

AHEAD = 2  # batches that are read while another one is decoded
LARGEST_PART = 4096  # answers
T = TypeVar("T")
Advance = Callable[[int, int, int], None]


class BadQuestionError(ValueError):
    """A question has a fault, and the run was asked to stop at the first."""


def loaded(models: Any) -> Any:
    """Return models, or what the function that loads them returns."""
    return models if isinstance(models, (Pair, JointScorer)) or not callable(models) else models()


class Going:
    """A run that goes on: it takes answers, writes them in parts, and counts."""

    def __init__(
        self,
        run: Run,
        questions: QuestionFile,
        there: frozenset[tuple[int, int]],
        save_every: float,
        strict: bool,
        advance: Advance | None = None,
        done: int = 0,
        errors: int = 0,
    ):
        self.run, self.questions, self.there = run, questions, there
        self.save_every, self.strict = save_every, strict
        self.advance: Advance = advance or (lambda done, errors, total: None)
        self.done, self.errors = done, errors
        self.kept: list[Answered] = []
        self.since = time.monotonic()

    def missing(self) -> list[int]:
        """Return the windows that are not complete."""
        return [window for window in range(self.questions.windows) if self.missing_of(window)]

    def missing_of(self, window: int) -> list[int]:
        """Return the numbers of the batches of a window that are missing."""
        return [at for at in range(self.questions.batch_count(window)) if (window, at) not in self.there]

    def batches(self, window: int) -> list[Batch]:
        """Read the batches of a window that are missing."""
        return [one for one in self.questions.batches(window) if one.key not in self.there]

    def decode(self, decoder: Decoder) -> None:
        """Decode what is missing in this process. Batches are read ahead in a thread."""
        with decoder.ready():
            read = (decoder.prepare(batch) for window in self.missing() for batch in self.batches(window))
            with closing(_ahead(read)) as batches:  # an early end must not leave the thread behind
                self.take(map(decoder.answer, batches))

    def take(self, answered: Iterable[Answered]) -> None:
        """Take the answers to batches, and write them. End early if the run is to stop."""
        self.advance(self.done, self.errors, self.questions.count)
        try:
            for one in answered:
                self.kept.append(one)
                self.done += len(one.lines)
                self.errors += one.errors
                if self.strict and one.errors:
                    raise BadQuestionError(_first_error(one))
                late = time.monotonic() - self.since >= self.save_every
                if late or sum(len(kept.lines) for kept in self.kept) >= LARGEST_PART:
                    self.write()
                self.advance(self.done, self.errors, self.questions.count)
                if self.run.stop.exists():
                    break
        finally:
            self.write()

    def write(self) -> None:
        """Write the answers that are kept as a part."""
        kept, self.kept = self.kept, []
        if kept:
            self.run.write_part(kept)
        self.since = time.monotonic()


def _ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Compute the next items in a thread while one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as pool:
        waiting = deque(pool.submit(next, items, None) for _ in range(AHEAD))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, items, None))
            yield item


def _first_error(answered: Answered) -> str:
    rows = map(json.loads, answered.lines)
    row = next(row for row in rows if row["error"] is not None)
    return f"question {row['id']!r}: {row['error']}"
