"""Compare the search of an earlier commit with the present one: search.py REV DATA BLANK LIMIT BEAMS [options].

For example, with ``BIRNN_DECODE_DATA`` and ``BIRNN_DECODE_PAIRS`` as for the other benchmarks:

    python benchmarks/search.py HEAD~1 molecules 0.5 100 1,5,25 --split val --exact 20000

DATA is a data set of ``questions.py``, and BLANK the share of the words that are missing. Each version runs in a
process of its own, with one thread. Both answer the same batches of questions by turns, so whatever else the machine
does falls on both. Prints CSV, one row for each beam size and version:

- ``J``, ``J of B``, ``hypotheses``: mean J of the best sentence, and of all sentences that are returned; their number.
- ``rows``, and its parts: rows of the first two beam searches, of the rounds, and of the scores after the last round.
- ``valid``: of molecules, the share of best sentences that are a molecule.
- ``missed``: with ``--exact ROWS``, the share of the ``proved`` questions whose best sentence was missed. The exact
  search is that of REV, with that many rows.
- ``seconds``: median of the repetitions, for all questions.
- of the present version only, against REV: ``J gained`` with its 95 % interval, the ratio of the rows, and the ratio of
  the seconds with the quartiles of the single repetitions.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import Times
from questions import DIGITS, FLICKR, MOLECULES, SCENES, UCM, pair_file, questions

from birnn_decode.evaluation import Question, mean_metric, paired_difference

HERE = Path(__file__).resolve().parent
BATCH = 20
PRESENT = "present"
LOST = 1e-4  # nats; two sentences whose J differ by less are equally good
COLUMNS = [
    *("beam size", "version", "J", "J of B", "hypotheses", "rows", "rows of beams", "rows of rounds", "rows after"),
    *("valid", "proved", "missed", "seconds", "J gained", "J low", "J high"),
    *("ratio of rows", "ratio of seconds", "ratio low", "ratio high", "questions"),
]


class Version:
    """A version of the library in a process of its own."""

    def __init__(self, checkout: Path, arguments: Sequence[str], program: str = "one_search.py") -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / program), *arguments],
            env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        used = Path(self.read())
        assert used.is_relative_to(checkout), f"{used} was imported, and not the library in {checkout}"

    def read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a version of the library failed; see its error above")
        return json.loads(line)

    def ask(self, batch: tuple[int, int], beam_size: int, exact: int | None = None) -> dict[str, Any]:
        """Seconds and answers for a batch of questions."""
        return self.answer({"begin": batch[0], "end": batch[1], "beam_size": beam_size, "exact": exact})

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the program answers to a request."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    given = arguments()
    _, asked = questions(given.data, given.blank, given.limit, given.split)
    batches = [(begin, begin + BATCH) for begin in range(0, len(asked), BATCH)]
    writer = csv.DictWriter(sys.stdout, COLUMNS, restval="", lineterminator="\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write_questions(asked, folder / "questions.pt")
        started = [str(folder / "questions.pt"), *([] if given.data == SCENES else [str(pair_file(given.data))])]
        versions = {
            given.rev: Version(unpacked(given.rev, folder / "rev"), started),
            PRESENT: Version(HERE.parent, started),
        }
        best = None
        if given.exact is not None:
            best = [one for batch in batches for one in versions[given.rev].ask(batch, 1, given.exact)["answers"]]
        writer.writeheader()
        for version in versions.values():
            version.ask(batches[0], given.beams[0])  # the first call takes longer and does not count
        for beam_size in given.beams:
            answers, times = by_turns(versions, batches, beam_size, given.repetitions)
            rows = {version: figures(own, best, given.data == MOLECULES) for version, own in answers.items()}
            rows[PRESENT] |= against(answers, rows, times, given.rev, asked)
            for version, row in rows.items():
                row |= {"beam size": beam_size, "version": version, "seconds": times.median(version)}
                writer.writerow({key: f"{one:.6g}" if isinstance(one, float) else one for key, one in row.items()})
            sys.stdout.flush()
        for version in versions.values():
            version.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare the search of an earlier commit with the present one.")
    parser.add_argument("rev", metavar="REV", help="the earlier commit")
    parser.add_argument("data", metavar="DATA", choices=(SCENES, UCM, FLICKR, MOLECULES, DIGITS))
    parser.add_argument("blank", metavar="BLANK", type=float, help="the share of the words that are missing")
    parser.add_argument("limit", metavar="LIMIT", type=int, help="the largest number of questions")
    parser.add_argument("beams", metavar="BEAMS", type=lambda text: [int(size) for size in text.split(",")])
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--repetitions", type=int, default=5, help="of each time (default: 5)")
    parser.add_argument(
        "--exact", metavar="ROWS", type=int, help="prove the best sentences within ROWS rows a question"
    )
    given = parser.parse_args()
    if given.rev == PRESENT:
        parser.error(f"REV is {PRESENT}: give an earlier commit, for example HEAD")
    return given


def write_questions(asked: Sequence[Question], path: Path) -> None:
    """Without the library's own types, which another version may not know."""
    sentences = []
    for question in asked:
        assert question.template is not None
        (template,) = question.template.fixed()
        truth = question.truths[0]
        sentences.append([None if template.undecided(at) else token for at, token in enumerate(truth)])
    torch.save(([question.image for question in asked], sentences), path)


def unpacked(rev: str, folder: Path) -> Path:
    """The files of a commit in a new folder."""
    made = subprocess.run(["git", "archive", rev], cwd=HERE.parent, capture_output=True, check=False)
    if made.returncode:
        raise SystemExit(f"REV is {rev}, which git cannot read: {made.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def by_turns(
    versions: dict[str, Version], batches: Sequence[tuple[int, int]], beam_size: int, repetitions: int
) -> tuple[dict[str, list[dict[str, Any]]], Times]:
    """The answers of each version, and the seconds of each repetition. The versions take turns in being the first."""
    answers: dict[str, list[dict[str, Any]]] = {version: [] for version in versions}
    times = Times({version: [0.0] * repetitions for version in versions})
    order = list(versions)
    for repetition in range(repetitions):
        for batch in batches:
            for version in order:
                reply = versions[version].ask(batch, beam_size)
                times[version][repetition] += reply["seconds"]
                if repetition == 0:
                    answers[version] += reply["answers"]
            order.reverse()
    return answers, times


def figures(
    answers: Sequence[dict[str, Any]], best: Sequence[dict[str, Any]] | None, molecules: bool
) -> dict[str, Any]:
    """What one version has found, and how many rows that took."""
    mean = statistics.fmean
    row = {
        "J": mean(one["J"][0] for one in answers),
        "J of B": mean(mean(one["J"]) for one in answers),
        "hypotheses": mean(len(one["J"]) for one in answers),
        "rows": mean(one["rows"] for one in answers),
        "rows of beams": mean(one["of rounds"][0] for one in answers),
        "rows of rounds": mean(sum(one["of rounds"][1:]) for one in answers),
        "rows after": mean(one["rows"] - sum(one["of rounds"]) for one in answers),
        "questions": len(answers),
    }
    if molecules:
        from birnn_decode.molecules import is_molecule

        row["valid"] = mean(is_molecule(one["text"]) for one in answers)
    if best is not None:
        missed = [one["J"][0] < sure["J"][0] - LOST for one, sure in zip(answers, best, strict=True) if sure["proved"]]
        row["proved"] = len(missed)
        row["missed"] = mean(missed) if missed else ""
    return row


def against(
    answers: dict[str, list[dict[str, Any]]], rows: dict[str, dict[str, Any]], times: Times, rev: str, asked: Any
) -> dict[str, Any]:
    """The present version against the earlier one."""
    now, then = (mean_metric("J", [one["J"][0] for one in answers[version]]) for version in (PRESENT, rev))
    gained = paired_difference(now, then, [question.source.name for question in asked])
    ratio = times.ratio(PRESENT, rev)
    return {
        "J gained": gained.value,
        "J low": gained.low,
        "J high": gained.high,
        "ratio of rows": rows[PRESENT]["rows"] / rows[rev]["rows"],
        "ratio of seconds": ratio["ratio"],
        "ratio low": ratio["low"],
        "ratio high": ratio["high"],
    }


if __name__ == "__main__":
    main()
