"""What a run has done so far: a manifest, and parts that are complete or not there.

A part is a file of answers to some batches. Its first line says which batches it has, where each begins, and the
checksum of the rest. A part is written under a temporary name, flushed to the disk, and renamed. So a run that was
killed leaves whole parts, and at most a temporary file that nobody reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import uuid
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from birnn_decode.datasets.answers import write_answers
from birnn_decode.datasets.questions import CHUNK, Batch, QuestionFile, file_checksum
from birnn_decode.files import write_whole

TEMPORARY = ".unfinished"
LONGEST = 120  # characters of a setting in a message


@dataclass(frozen=True)
class Answered:
    """The answers to a batch.

    Attributes:
        batch: the batch.
        lines: the line of each answer, in the order of the batch.
        errors: the number of answers that are errors.
        seconds: the time that the search took.
    """

    batch: Batch
    lines: Sequence[bytes]
    errors: int
    seconds: float


@dataclass(frozen=True)
class Place:
    """Where the answers to a batch stand.

    Attributes:
        path: the part.
        begin: the first byte.
        numbers: the numbers of the questions.
        errors: the number of answers that are errors.
        seconds: the time that the search took.
    """

    path: Path
    begin: int
    numbers: Sequence[int]
    errors: int
    seconds: float


@dataclass(frozen=True)
class Run:
    """The files of a run.

    Attributes:
        output: the file of the answers.
    """

    output: Path

    @property
    def manifest(self) -> Path:
        """The file that says what the answers are of, and whether they are complete."""
        return self.output.with_name(f"{self.output.name}.manifest.json")

    @property
    def parts(self) -> Path:
        """The folder of the parts, and of questions that came through a pipe."""
        return self.output.with_name(f"{self.output.name}.parts")

    @property
    def stop(self) -> Path:
        """The file that tells workers to finish the batch at hand."""
        return self.parts / "stop"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs off these files. A killed run leaves no lock.

        Raises:
            ValueError: another run holds the lock.
            OSError: the folder of the parts cannot be made.
        """
        _check_folder(self.output)
        try:
            self.parts.mkdir(exist_ok=True)
            lock = (self.parts / "lock").open("wb")
        except OSError as error:
            raise _cannot_write(self.output, error) from None
        with lock:
            if sys.platform != "win32":
                import fcntl

                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise ValueError(f"another run writes {self.output} now: wait, or name another output") from None
            for path in (*self.parts.glob(f"*{TEMPORARY}"), self.stop):
                path.unlink(missing_ok=True)
            try:
                yield
            finally:
                if not any(self.parts.glob("part-*")):
                    shutil.rmtree(self.parts, ignore_errors=True)

    def begin(self, about: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Check that an earlier run was about the same, and write the manifest if there was none.

        Args:
            about: questions and settings, as JSON can hold them.

        Returns:
            The manifest of a run that is complete; else None.

        Raises:
            ValueError: an earlier run was about something else, or the answers are none of this command.
        """
        if not self.manifest.exists():
            if self.output.exists():
                raise ValueError(f"{self.output} exists and is not of this command: name another output")
            write_whole(self.manifest, _json({**about, "answers": None}))
            return None
        try:
            before = json.loads(self.manifest.read_bytes())
            answers = before.pop("answers")
        except (ValueError, KeyError, AttributeError, OSError):
            raise ValueError(f"{self.manifest} is no manifest of this command: name another output") from None
        if differences := _differences(before, json.loads(_json(about))):
            raise ValueError(
                f"{self.output} was begun with other settings: {'; '.join(differences)}. Name another output, or "
                f"delete {self.manifest}, {self.parts} and {self.output} to begin anew"
            )
        if answers is None or not self.output.exists():
            return None
        if file_checksum(self.output) != answers["sha256"]:
            raise ValueError(f"{self.output} was changed after it was written: move it away to have it written anew")
        return {**before, "answers": answers}

    def found(self) -> tuple[dict[tuple[int, int], Place], int]:
        """Return where the answers to each batch stand, and the number of damaged parts, which are deleted."""
        places: dict[tuple[int, int], Place] = {}
        damaged = 0
        for path in sorted(self.parts.glob("part-*.jsonl")):
            own = _read_part(path)
            if own is None:
                path.unlink()
                damaged += 1
            else:
                # A worker that was killed after it wrote a part may have had its batches decoded again.
                places = {**own, **places}
        return places, damaged

    def write_part(self, answered: Sequence[Answered]) -> None:
        """Write answers as a part: completely or not at all."""
        body = b"".join(line for one in answered for line in one.lines)
        begin, batches = 0, []
        for one in answered:
            batches.append(
                {
                    "window": one.batch.window,
                    "batch": one.batch.number,
                    "begin": begin,
                    "numbers": [question.number for question in one.batch.questions],
                    "errors": one.errors,
                    "seconds": round(one.seconds, 4),
                }
            )
            begin += sum(map(len, one.lines))
        head = {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body), "batches": batches}
        first = answered[0].batch
        path = self.parts / f"part-{first.window:08d}-{first.number:02d}-{uuid.uuid4().hex}.jsonl"

        def write(file: BinaryIO) -> None:
            file.write(json.dumps(head).encode() + b"\n")
            file.write(body)

        _write_durably(path, write, self.output)

    def finish(
        self, about: Mapping[str, Any], questions: QuestionFile, form: str, places: Mapping[tuple[int, int], Place]
    ) -> Mapping[str, Any]:
        """Write the answers in the order of the questions, then the manifest, and delete the parts.

        Returns:
            The manifest.
        """
        _write_durably(
            self.output, lambda file: write_answers(file, _merged(questions, places), form, questions), self.output
        )
        errors = sum(place.errors for place in places.values())
        answers = {
            "count": questions.count,
            "errors": errors,
            "seconds_decoding": round(sum(place.seconds for place in places.values()), 3),
            "sha256": file_checksum(self.output),
            "images": str(questions.folder.resolve()),
        }
        manifest = {**about, "answers": answers}
        write_whole(self.manifest, _json(manifest))
        for path in self.parts.glob("part-*"):
            path.unlink()
        return manifest


def images_of(output: Path) -> Path:
    """Return the folder that paths of images in a file of answers are relative to."""
    try:
        return Path(json.loads(Run(output).manifest.read_bytes())["answers"]["images"])
    except (OSError, ValueError, LookupError, TypeError):
        return output.parent


def _merged(questions: QuestionFile, places: Mapping[tuple[int, int], Place]) -> Iterator[bytes]:
    """The lines of all answers in the order of the questions. One window is in memory at a time."""
    number = 0
    for window in range(questions.windows):
        found: dict[int, bytes] = {}
        for batch in range(questions.batch_count(window)):
            place = places[window, batch]
            with place.path.open("rb") as file:
                file.seek(place.begin)
                found.update(zip(place.numbers, file, strict=False))
        while number in found:
            yield found.pop(number)
            number += 1
        if found:
            raise RuntimeError(f"question {number} has no answer")  # the batches of a window hold all its questions


def _read_part(path: Path) -> dict[tuple[int, int], Place] | None:
    """Return where the answers of a part stand, or None if the part is damaged."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            line = file.readline()
            head = json.loads(line)
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != head["sha256"]:
            return None
        return {
            (one["window"], one["batch"]): Place(
                path, len(line) + one["begin"], array("I", one["numbers"]), one["errors"], one["seconds"]
            )
            for one in head["batches"]
        }
    except (ValueError, KeyError, TypeError):
        return None


def _write_durably(path: Path, write: Callable[[BinaryIO], None], output: Path) -> None:
    """Write a file that is complete, and on the disk, before it has its name."""
    temporary = path.with_name(f"{path.name}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _cannot_write(output, error) from None


def _sync_folder(path: Path) -> None:
    """Flush the names of a folder to the disk, where the system can."""
    if sys.platform == "win32":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _cannot_write(output: Path, error: OSError) -> OSError:
    return OSError(
        f"cannot write the answers of {output}: {error.strerror or error}. What is complete is kept; run the same "
        "command again to go on"
    )


def _check_folder(output: Path) -> None:
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a folder: name a file for the answers")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"cannot write {output}: there is no folder {output.parent}")


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two manifests, in words."""
    said = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            said += _differences(old, new)
        elif old != new:
            said.append(f"{name} was {_short(old)} and is now {_short(new)}")
    return said


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _json(about: Mapping[str, Any]) -> bytes:
    return json.dumps(about, indent=1).encode() + b"\n"
