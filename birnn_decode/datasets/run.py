"""Decode a whole data set, so that nothing is lost and nothing is answered twice."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from birnn_decode.checks import check_count, check_number, check_type
from birnn_decode.datasets.answers import format_of
from birnn_decode.datasets.cluster import decode_on_ray
from birnn_decode.datasets.decoder import Decoder, Job, fingerprint
from birnn_decode.datasets.going import Advance, Going, loaded
from birnn_decode.datasets.parts import TEMPORARY, Run
from birnn_decode.datasets.questions import QuestionFile, as_lines, file_checksum, read_questions
from birnn_decode.methods import BSCD, Method
from birnn_decode.request import DEFAULTS, Models, Options
from birnn_decode.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Unpack

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class DatasetRun:
    """What a run over a data set has done.

    Attributes:
        output: the file of the answers.
        answers: the number of answers.
        errors: the number of answers that are errors.
        seconds: the time of this call, in seconds.
        decoded: the number of questions that this call has decoded; the others were there before.
        damaged: the number of parts of an earlier run that were damaged, and were decoded again.

    Example:
        >>> from birnn_decode.datasets import DatasetRun
        >>> DatasetRun("answers.jsonl", answers=1000, errors=2, seconds=21.0, decoded=1000).errors
        2
    """

    output: str
    answers: int
    errors: int
    seconds: float
    decoded: int
    damaged: int = 0


def decode_dataset(
    models: Any,
    questions: Any,
    method: Method = BSCD(),
    output: str | os.PathLike[str] = "answers.jsonl",
    *,
    images: str | os.PathLike[str] | None = None,
    features: str | os.PathLike[str] | None = None,
    split: str | None = None,
    form: str | None = None,
    batch_size: int = 64,
    device: str | None = None,
    threads: int = 1,
    workers: int = 0,
    address: str | None = None,
    save_every: float = 10.0,
    strict: bool = False,
    advance: Advance | None = None,
    **options: Unpack[Options],
) -> DatasetRun:
    """Decode a file of questions into a file of answers.

    Answers are kept in parts beside ``output`` while the run goes on. If it is interrupted in any way, the same call
    does what is missing. The answers are the same, byte for byte, however often a run was interrupted and however many
    workers decoded. The guide "Decode a data set" describes the questions, the answers and the files.

    Args:
        models: the models as for `decode`, or a function without arguments that returns them. With workers, each worker
            calls the function.
        questions: a file of questions in JSON Lines (.jsonl), Parquet (.parquet) or captions (.json), or an iterable of
            dicts.
        method: the method (default: ``BSCD()``).
        output: the file of the answers (default: "answers.jsonl").
        images: the folder that paths of images are relative to (default: the folder of the questions).
        features: an .npz or HDF5 file of feature vectors and ids, if questions name their vectors (default: None).
        split: for a file of captions, the split that is asked about: "train", "val" or "test" (default: all images).
        form: "jsonl", "parquet" or "coco" for COCO's results (default: by the ending of ``output``).
        batch_size: the number of questions that are decoded together (default: 64).
        device: the device that the models are moved to, such as "cuda" (default: None, they stay where they are).
        threads: the number of threads that PyTorch computes with, in each worker (default: 1).
        workers: the number of worker processes of Ray. 0 decodes in this process, without Ray (default: 0).
        address: the address of a running Ray cluster, as HOST:PORT (default: None, workers run on this machine).
        save_every: the seconds after which answers are written to a part (default: 10.0). A killed run loses at most
            the work of this time and of one batch.
        strict: whether to stop at the first question with a fault (default: False, the fault is its answer).
        advance: a function that is called with the number of answers, the number of errors among them, and the number
            of questions, whenever answers are written (default: None).
        **options: the keywords of `decode`.

    Returns:
        Counts and times.

    Raises:
        OSError: a file cannot be read or written. What is complete is kept.
        ValueError: the questions are malformed, the files beside ``output`` are of another run, or a setting is wrong.
        KeyboardInterrupt: Ctrl-C was pressed. The batch at hand was finished and kept.

    Example:
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.datasets import decode_dataset, read_answers
        >>> from birnn_decode.models import default_pair
        >>> make_scene(seed=2, number=4).picture().save("scene.png")
        >>> questions = [
        ...     {"id": "one", "image": "scene.png", "template": "a small green circle _ _ _ _ a small purple triangle"},
        ...     {"id": "two", "image": "nothing.png"},
        ... ]
        >>> decode_dataset(default_pair(), questions, output="answers.jsonl", images=".").errors
        1
        >>> for answer in read_answers("answers.jsonl"):
        ...     print(answer["text"] or answer["error"])
        a small green circle to the right of a small purple triangle
        there is no picture nothing.png
    """
    began = time.perf_counter()
    output = Path(output)
    _check(method, batch_size, threads, workers, save_every, options)
    if address is not None and not workers:
        raise ValueError("address is that of a Ray cluster: say how many workers it shall start (workers)")
    if address is None and workers > (there := os.cpu_count() or 1):
        raise ValueError(f"{workers} workers are more than the {there} CPU cores of this machine: ask for fewer")
    form = format_of(output, form)
    run = Run(output)
    with run.locked():
        asked = _read(run, questions, batch_size, images, split)
        here = loaded(models)
        about = {
            "questions": {"count": asked.count, "sha256": asked.checksum},
            "settings": {
                "method": _said(method),
                **{name: _said(options.get(name, default)) for name, default in DEFAULTS.items()},
                "models": fingerprint(Models.wrap(here, options.get("vocabulary"))),
                "features": None if features is None else file_checksum(Path(features)),
                "format": form,
                "batch_size": batch_size,
                "device": device,
                "threads": threads,
                "version": __version__,
            },
        }
        if (complete := run.begin(about)) is not None:
            answers = complete["answers"]
            return DatasetRun(str(output), answers["count"], answers["errors"], time.perf_counter() - began, 0)
        places, damaged = run.found()
        before = sum(len(place.numbers) for place in places.values())
        job = Job(method, options, asked.folder, None if features is None else Path(features), device, threads)
        going = Going(
            run,
            asked,
            frozenset(places),
            save_every,
            strict,
            advance,
            before,
            sum(place.errors for place in places.values()),
        )
        with _interruptible(run) as interrupted:
            if going.done < asked.count:
                if workers:
                    decode_on_ray(going, models, job, workers, address)
                else:
                    going.decode(Decoder(here, job))
            places, _ = run.found()
            if sum(len(place.numbers) for place in places.values()) < asked.count:
                assert interrupted()
                raise KeyboardInterrupt
        manifest = run.finish(about, asked, form, places)
    errors = manifest["answers"]["errors"]
    return DatasetRun(str(output), asked.count, errors, time.perf_counter() - began, asked.count - before, damaged)


@contextlib.contextmanager
def _interruptible(run: Run) -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C end the run after the batch at hand. Pressed once more, it ends the run at once."""
    pressed: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)
        run.stop.touch()

    if callable(before):  # not where the shell has it ignored
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def _read(
    run: Run, given: Any, batch_size: int, images: str | os.PathLike[str] | None, split: str | None
) -> QuestionFile:
    """Read the questions once. What is no file of lines or Parquet is written to one beside the parts."""
    lines = as_lines(given, split)
    folder = None if images is None else Path(images)
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} for the images")
    if lines is None:
        return read_questions(given, batch_size, folder)
    if folder is None:
        folder = Path(given).parent if isinstance(given, (str, os.PathLike)) else Path()
    path = run.parts / "questions.jsonl"
    temporary = path.with_name(f"{path.name}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.writelines(lines)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:  # raised by this package, which says what cannot be read
            raise
        raise OSError(f"cannot write the questions to {path}: {error.strerror}") from None
    named = given if isinstance(given, (str, os.PathLike)) else "the given questions"
    try:
        return read_questions(path, batch_size, folder)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), str(named))) from None


def _check(method: Any, batch_size: Any, threads: Any, workers: Any, save_every: Any, options: Any) -> None:
    check_type("method", method, Method, "BSCD()")
    check_count("batch_size", batch_size, 1)
    check_count("threads", threads, 1)
    check_count("workers", workers)
    check_number("save_every", save_every, "a number of seconds, 0 or larger", 0)
    if unknown := sorted({*options} - {*DEFAULTS}):
        raise TypeError(f"unknown keywords: {', '.join(unknown)}. See decode_dataset and decode for the keywords.")


def _said(value: Any) -> str:
    """A setting as text that is the same in another process."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_said, value))}]"
    if isinstance(value, functools.partial) or not hasattr(value, "__qualname__"):
        return ADDRESS.sub("", repr(value))
    return f"{value.__module__}.{value.__qualname__}"
