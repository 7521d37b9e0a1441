"""The commands about whole data sets: decode a file of questions, and look at the answers."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from birnn_decode.captions.datasets import SPLITS
from birnn_decode.cli.common import (
    Models,
    beam_size_option,
    birnn_option,
    bundled,
    checked_device,
    console,
    count_option,
    device_option,
    file_option,
    max_rounds_option,
    model_option,
)
from birnn_decode.cli.constraining import Demanded, constraint_options
from birnn_decode.evaluation.asking import asked
from birnn_decode.methods import METHODS

ERRORS = 3  # exit code if some answers are errors

FILES_HELP = """
\b
A file of questions in JSON Lines has an object in each line:
  {"id": 1, "image": "0001.png", "template": "a small _ {1-3} star", "references": ["…"]}
  {"id": 2, "features": "0001.png"}         a vector of the file of --features, and a whole caption
  {"id": 3, "features": [0.1, 0.7, …]}      a vector
  {"id": 4, "source": "a sentence to translate"}

All fields may be left out. Other fields are copied into the answers. ANSWERS is JSON Lines (.jsonl) or Parquet
(.parquet). The guide "Decode a data set" explains all fields and columns.
"""


@dataclass(frozen=True)
class Placed:
    """The values of the options about machines."""

    device: str
    batch_size: int
    threads: int
    workers: int
    address: str | None
    save_every: float


def load(model: Path | None, birnn: Path | None) -> Any:
    """Load the models of a file, on the CPU; by default the pair that comes with the package."""
    (models,) = Models.load(model, birnn, "cpu").each
    return models


@click.command(epilog=FILES_HELP, short_help="Decode a file of questions.")
@click.argument("questions", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    metavar="ANSWERS",
    help="File of the answers. While the command works, finished parts are in ANSWERS.parts.",
)
@click.option(
    "--method", type=click.Choice(list(METHODS)), default="bscd", show_default=True, help="Method that decodes."
)
@file_option("--images", "FOLDER", "Folder of the pictures. Default: the folder of QUESTIONS.")
@file_option("--features", "FILE", "File of feature vectors and ids (.npz or HDF5), if questions name their vectors.")
@click.option("--split", type=click.Choice(SPLITS), help="Split of a caption file to decode. Default: all images.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("jsonl", "parquet", "coco")),
    help="Format of ANSWERS; coco is COCO's JSON of results. Default: by the ending of ANSWERS.",
)
@click.option("--strict", is_flag=True, help="Stop at the first question with an error.")
@model_option
@birnn_option("It decodes in place of a pair.")
@constraint_options
@beam_size_option
@max_rounds_option
@bundled(
    "placed",
    Placed,
    device_option,
    count_option("--batch-size", default=64, help="Number of questions decoded at a time."),
    count_option("--threads", default=1, help="Number of threads that PyTorch computes with, in each worker."),
    count_option("--workers", least=0, default=0, help="Number of worker processes (Ray). 0: no Ray, one process."),
    click.option("--address", metavar="HOST:PORT", help="A running Ray cluster. Default: this machine."),
    click.option(
        "--save-every",
        type=click.FloatRange(min=0),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="Time after which finished answers are saved. A killed run loses at most this time and a batch.",
    ),
)
def decode(
    questions: Path,
    output: Path,
    method: str,
    images: Path | None,
    features: Path | None,
    split: str | None,
    form: str | None,
    strict: bool,
    model: Path | None,
    birnn: Path | None,
    demanded: Demanded,
    beam_size: int,
    max_rounds: int,
    placed: Placed,
) -> None:
    """Decode all questions of the file QUESTIONS: JSON Lines (.jsonl), Parquet (.parquet), or captions (.json).

    Write - for QUESTIONS to read JSON Lines from standard input.

    If the command is interrupted in any way, run it again: it does what is missing. The answers are in the order of the
    questions. The exit code is 0 if every question has an answer without an error, 3 if some answers are errors, 2 if
    nothing could be done, and 130 after Ctrl-C.
    """
    from birnn_decode import Pair
    from birnn_decode.datasets import decode_dataset

    if model is not None and birnn is not None:
        raise click.UsageError("decode takes one kind of models: give --model or --birnn")
    if not placed.workers:
        checked_device(placed.device)
    factory = functools.partial(load, model, birnn)
    value = asked([method], Pair(None), max_rounds=max_rounds)[method][1]
    with _bar() as advance:
        try:
            done = decode_dataset(
                factory,
                sys.stdin.buffer if str(questions) == "-" else questions,
                value,
                output,
                images=images,
                features=features,
                split=split,
                form=form,
                strict=strict,
                advance=advance,
                beam_size=beam_size,
                **vars(placed),
                **demanded.options,
            )
        except KeyboardInterrupt:
            click.echo(f"interrupted: finished answers are in {output}.parts; run the same command to go on", err=True)
            raise SystemExit(130) from None
    if done.damaged:
        click.echo(f"{done.damaged} damaged parts of an earlier run were decoded again", err=True)
    if not done.decoded:
        click.echo(f"{output} was complete before: {done.answers} answers, {done.errors} errors")
    else:
        click.echo(
            f"{done.answers} answers, {done.errors} errors in {output}; {done.decoded} decoded in {done.seconds:.0f} s"
        )
    if done.errors:
        raise SystemExit(ERRORS)


@contextmanager
def _bar() -> Iterator[Callable[[int, int, int], None]]:
    """Show a progress bar with the speed, the time left and the errors; in a log, nothing."""
    bar = Progress(
        TextColumn("decoding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}, {task.fields[errors]} errors,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    task = bar.add_task("decoding", total=None, speed="starting", errors=0)
    first: list[int] = []

    def advance(done: int, errors: int, total: int) -> None:
        if not first:
            first.append(done)
            bar.reset(task, total=total, completed=done, errors=errors)
        speed = (done - first[0]) / (bar.tasks[0].elapsed or 1.0)
        bar.update(task, completed=done, errors=errors, speed=f"{speed:.1f} per second" if speed else "starting")

    with bar:
        yield advance


@click.command(short_help="Look at the answers of `decode`.")
@click.argument("answers", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A page in HTML to write. It holds everything that it shows, pictures included.",
)
@file_option("--images", "FOLDER", "Folder of the pictures. Default: the folder that `decode` took them from.")
def report(answers: Path, output: Path | None, images: Path | None) -> None:
    """Describe the file ANSWERS of `birnn-decode decode`: counts, scores, stop reasons, errors and examples.

    If the questions had references, the report has the metrics of `birnn-decode evaluate` for them.
    """
    from birnn_decode.datasets.parts import images_of
    from birnn_decode.evaluation import describe
    from birnn_decode.files import write_whole
    from birnn_decode.show.answers import page, print_description

    described = describe(answers)
    print_description(console(), described)
    if output is not None:
        write_whole(output, page(described, images or images_of(answers)).encode())
        click.echo(f"the page is {output}")
