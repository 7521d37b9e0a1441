"""The commands that compare methods: on blanks and whole sentences, and along curves."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from birnn_decode.captions.datasets import SPLITS, CaptionedImage
from birnn_decode.cli.checking import imported_check
from birnn_decode.cli.common import (
    WIDTH_OF_FILES,
    Data,
    LineData,
    Models,
    beam_size_option,
    birnn_option,
    bundled,
    check_one_kind,
    check_provable,
    console,
    count_option,
    data_options,
    device_option,
    exact_option,
    left_out_lines,
    line_options,
    max_rounds_option,
    model_option,
    new_folder,
    progress,
)
from birnn_decode.cli.constraining import Demanded, constraint_options
from birnn_decode.evaluation.asking import BIRNN_METHODS
from birnn_decode.methods import METHODS
from birnn_decode.request import DEFAULT_MAX_LENGTH

if TYPE_CHECKING:
    from birnn_decode.evaluation import Question, Report
    from birnn_decode.evaluation.curves import Point
    from birnn_decode.result import DecodeResult

WHOLE = "whole"
SEED_OF_LIMIT = 0
ASKED = tuple(name for name in METHODS if name != "exact")  # exact has its own option
NOT_BY_DEFAULT = "bscd-paper"
LEAST_KNOWN_WORDS = 0.5  # of a data set's words; below that, the model was trained on something else


@dataclass(frozen=True)
class Asking:
    """The values of the options about models and questions that both commands share."""

    model: Path | None
    device: str
    split: str
    min_words: int
    limit: int | None
    batch_size: int
    out: Path | None
    birnn: Path | None = None

    @functools.cached_property
    def models(self) -> Models:
        """The pair and the Bi-RNN."""
        return Models.load(self.model, self.birnn, self.device)

    def read(self, data: Data, lined: LineData) -> tuple[list[CaptionedImage], dict[str, Any], Mapping[str, int]]:
        """Return the images or the lines of the split, their sources by name, and what was left out, by reason."""
        if lined.lines:
            return self._lines(lined)
        file = data.read()
        images = file.of(self.split)
        _check_words(images, self.models.captioner.vocabulary, "captions")
        inputs, _ = data.inputs(file, images, self.models.captioner.encoder)
        self.models.check_source(next(iter(inputs.values())), "see --features, --images and --no-image")
        return images, inputs, file.left_out

    def _lines(self, lined: LineData) -> tuple[list[CaptionedImage], dict[str, Any], Mapping[str, int]]:
        lines = lined.splits(self.split)[self.split]
        images, inputs = [], {}
        for number, text, source in lines:
            images.append(CaptionedImage(f"line {number}", number, self.split, (text,)))
            inputs[images[-1].name] = source
        self.models.check_source(inputs[images[0].name], "see --sources")
        _check_words(images, self.models.captioner.vocabulary, "lines")
        return images, inputs, lines.file.left_out

    def questions(
        self,
        images: Sequence[CaptionedImage],
        inputs: Mapping[str, Any],
        blank: str | float,
        unknown_width: bool,
    ) -> tuple[list[Question], Counter[str]]:
        """Return the questions of one kind, and the number of sentences left out, by reason."""
        from birnn_decode.evaluation import blank_questions, caption_questions

        vocabulary = self.models.captioner.vocabulary
        if blank == WHOLE:
            questions, left_out = caption_questions(images, inputs, vocabulary)
        else:
            ask = functools.partial(blank_questions, images, inputs, vocabulary, float(blank), min_words=self.min_words)
            questions, left_out = ask()
            if unknown_width and questions:
                # All blanks get the same range, so that it tells nothing about any of them.
                widest = max(one.template.gaps[0].low for one in questions if one.template is not None)
                questions, left_out = ask(widths=(1, widest))
        if not questions:
            what = ", ".join(f"{count} {why}" for why, count in left_out.items())
            raise ValueError(f"no sentence is left to ask about: {what or 'the split has none'}")
        if self.limit is not None and self.limit < len(questions):
            # Files are often sorted, so the first questions would be about a few kinds of images only.
            drawn = np.random.default_rng(SEED_OF_LIMIT).permutation(len(questions))[: self.limit]
            questions = [questions[number] for number in sorted(drawn.tolist())]
        return questions, left_out


asking_options = bundled(
    "asking",
    Asking,
    model_option,
    device_option,
    click.option(
        "--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Split whose sentences are used."
    ),
    count_option("--min-words", default=1, help="Make no blank in a sentence of fewer than N words."),
    count_option("--limit", help="Ask only N of the questions, drawn at random."),
    count_option("--batch-size", default=64, help="Number of questions decoded at a time."),
    click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="FOLDER",
        help="A new folder for the results.",
    ),
)


@click.command(short_help="Compare the methods on your captions or lines.")
@data_options
@line_options
@asking_options
@click.option(
    "--blank",
    "blanks",
    default="0.25,0.5,0.75",
    show_default=True,
    metavar="SHARES",
    help="Shares of the words that are missing from the middle of each sentence; of the characters, if the model knows "
    'characters. With the share "whole", the methods write the whole sentence.',
)
@birnn_option(
    "It is compared with the pair of --model, or evaluated alone without --model. If FILE holds a pair, the scores of "
    "its two models are added before one softmax."
)
@click.option(
    "--methods",
    metavar="NAMES",
    help=f"The methods, in the order of the tables. For a pair: {', '.join(ASKED)}. For a Bi-RNN: "
    f"{', '.join(BIRNN_METHODS)}. gibbs takes as many rows as bscd, and birnn-gibbs as many as birnn-bscd. Default: "
    f"all methods of the given models, except {NOT_BY_DEFAULT}.",
)
@click.option(
    "--width",
    type=click.Choice(("known", "unknown")),
    default="known",
    show_default=True,
    help="known: the methods know how many words are missing. unknown: a blank may have any number of words, from 1 to "
    "the number in the widest blank.",
)
@click.option(
    "--length",
    default="auto",
    show_default=True,
    metavar="RULE",
    help="Rule that ranks sentences of different lengths: auto, none, average, or a reward in nats per word.",
)
@beam_size_option
@max_rounds_option
@exact_option(
    "Prove which sentence is the best, for at most ROWS rows per question, and count how often each method misses it."
)
@click.option(
    "--check",
    metavar="MODULE:FUNCTION",
    help="Check of finished sentences: a function that takes the text and returns True or False. MODULE is a Python "
    "module or a .py file. The tables then show the shares of questions whose best answer passes (valid), and with an "
    "answer among the B that passes (valid in B).",
)
@constraint_options
def evaluate(
    data: Data,
    lined: LineData,
    asking: Asking,
    demanded: Demanded,
    blanks: str,
    methods: str | None,
    width: str,
    length: str,
    beam_size: int,
    max_rounds: int,
    exact_rows: int | None,
    check: str | None,
) -> None:
    """Remove words from sentences, let every method fill the blanks, and compare the answers.

    The sentences are captions of images (--captions) or the lines of a file (--lines).

    All methods get the same questions. J is the sum of the log-probabilities of the completed sentence under the two
    models of the pair. PLL is its pseudo-log-likelihood under the Bi-RNN. Every figure has a 95 % bootstrap interval
    over images or lines. Methods are compared on the same resamples. With --out, the command writes figures.csv,
    figures.json, and the answers in COCO's results format.
    """
    from birnn_decode import Objective
    from birnn_decode.evaluation import asked
    from birnn_decode.methods import Exact

    check_one_kind(data, lined)
    objective = Objective(length=_length(length))
    kinds = [_kind(text) for text in blanks.split(",")]
    names = _methods(methods, pair=asking.model is not None or asking.birnn is None, birnn=asking.birnn is not None)
    if exact_rows is not None:
        check_provable(asking.model, asking.birnn)
        if WHOLE in kinds:
            raise click.UsageError(
                "--exact: nothing can be proved about whole sentences, because their lengths are open"
            )
        names.append("exact")
    if WHOLE in kinds and any(name in BIRNN_METHODS for name in names):
        raise click.UsageError("--blank whole: a Bi-RNN does not predict where a sentence ends: ask a pair alone")
    options = {"beam_size": beam_size, "objective": objective, **demanded.options}
    passes = None if check is None else imported_check("--check", check)
    models = asking.models
    if asking.out is not None:
        new_folder(asking.out)
    images, inputs, not_read = asking.read(data, lined)
    reports = []
    for kind in kinds:
        questions, not_asked = asking.questions(images, inputs, kind, width == "unknown")
        notes = _left_out(not_read, not_asked)
        models.warm_up(questions[0].image, questions[0].template)
        put = asked(names, models.pair, models.birnn, max_rounds, exact_rows or Exact.max_rows)
        lengths = {}
        if kind == WHOLE and lined.lines:
            longest = max(len(truth) for one in questions for truth in one.truths)
            lengths = {"max_length": max(DEFAULT_MAX_LENGTH, longest)}
        batches, interrupted = _ask(asking, put, questions, {**options, **lengths})
        if interrupted:
            done = sum(map(len, batches))
            notes.append(f"interrupted: the figures are for the first {done} of {len(questions)} questions")
            questions = questions[:done]
        answered = [bool(one) for batch in batches for one in batch]
        if not all(answered):
            notes.append(
                f"left out: {answered.count(False)} questions without an answer that satisfies the constraints"
            )
            questions = [one for one, there in zip(questions, answered, strict=True) if there]
            batches = [own for batch in batches if (own := [one for one in batch if one])]
        if not questions and not interrupted:
            raise ValueError("no question has an answer that satisfies the constraints")
        if questions:
            name = _name(kind, lined, questions[0], f", width {width}")
            one, stopped = _report(name, questions, batches, passes, notes)
            reports.append(one)
            interrupted = interrupted or stopped
            _print_report(reports[-1], over="lines" if lined.lines else "images")
            if asking.out is not None:
                _write(asking.out, reports)
        if interrupted:
            raise SystemExit(130)
    if asking.out is not None:
        click.echo(f"figures.csv, figures.json and the answers are in {asking.out}")


def _methods(given: str | None, pair: bool, birnn: bool) -> list[str]:
    """Return the names of the methods. Default: all methods of the models that are given, except one."""
    there = [*(ASKED if pair else ()), *(BIRNN_METHODS if birnn else ())]
    default = [name for name in there if name != NOT_BY_DEFAULT]
    names = default if given is None else [name.strip() for name in given.split(",")]
    if unknown := [name for name in names if name not in (*ASKED, *BIRNN_METHODS)]:
        cure = "give --exact ROWS" if unknown[0] == "exact" else f"use some of {','.join(there)}"
        raise click.UsageError(f"--methods {unknown[0]}: {cure}")
    if lacking := [name for name in names if name not in there]:
        raise click.UsageError(f"--methods {lacking[0]}: give {'--model' if birnn else '--birnn'} as well")
    if twice := [name for name in names if names.count(name) > 1]:
        raise click.UsageError(f"--methods: {twice[0]} is named twice")
    return names


def _left_out(not_read: Mapping[str, int], not_asked: Mapping[str, int]) -> list[str]:
    return left_out_lines(not_read) + left_out_lines(not_asked, of=" of the split")


def _kind(text: str) -> str | float:
    text = text.strip()
    if text == WHOLE:
        return WHOLE
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise click.UsageError(f'--blank {text}: give shares above 0 and at most 1, or "whole", separated by commas')
    return share


def _length(text: str) -> str | float:
    if text in ("auto", "none", "average"):
        return text
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"--length {text}: use auto, none, average, or a number of nats per word") from None


def _check_words(images: Sequence[CaptionedImage], vocabulary: Any, sentences: str) -> None:
    from birnn_decode.evaluation.blanks import unit_of
    from birnn_decode.vocabularies import UNK

    known = Counter(
        token != UNK for image in images for text in image.captions for token in vocabulary.encode(text, unknown=UNK)
    )
    share = known[True] / max(known.total(), 1)
    if share < LEAST_KNOWN_WORDS:
        raise ValueError(
            f"the model knows only {share:.0%} of the {unit_of(vocabulary)}s of these {sentences}: it was trained on "
            f"other {sentences}"
        )


def _ask(
    asking: Asking, methods: Mapping[str, Any], questions: Sequence[Question], options: Mapping[str, Any]
) -> tuple[list[list[dict[str, DecodeResult]]], bool]:
    """Return the results of all batches that were done before an interruption, and whether there was one."""
    from birnn_decode.evaluation import ask

    batches: list[list[dict[str, DecodeResult]]] = []
    try:
        with progress() as bar:
            task = bar.add_task("filling blanks", total=len(questions))
            for batch in ask(methods, questions, batch_size=asking.batch_size, **options):
                if any(one["exact"].stop == "interrupted" for one in batch if "exact" in one):
                    return batches, True
                batches.append(batch)
                bar.advance(task, len(batch))
    except KeyboardInterrupt:
        return batches, True
    return batches, False


def _name(kind: str | float, lined: LineData, question: Question, more: str) -> str:
    """Return what was asked; ``more`` is said of blanks."""
    from birnn_decode.evaluation.blanks import unit_of

    if kind == WHOLE:
        return "whole lines" if lined.lines else "whole captions"
    return f"{_percent(kind)} of the {unit_of(question.vocabulary)}s{more}"


def _report(
    name: str,
    questions: Sequence[Question],
    batches: Sequence[Sequence[dict[str, DecodeResult]]],
    check: Callable[[str], bool] | None,
    notes: list[str],
) -> tuple[Report, bool]:
    """Return the figures, and whether an interruption left some out."""
    from birnn_decode.evaluation import report

    of_words = not questions[0].vocabulary.exact
    captioning = of_words and importlib.util.find_spec("pycocoevalcap") is not None
    if of_words and not captioning:
        notes = [*notes, "no BLEU, ROUGE-L, METEOR and CIDEr: install birnn_decode[evaluation] for these"]
    try:
        return report(name, questions, batches, captioning=captioning, check=check, notes=notes), False
    except KeyboardInterrupt:
        notes = [*notes, "interrupted: without BLEU, ROUGE-L, METEOR and CIDEr"]
        return report(name, questions, batches, captioning=False, notes=notes), True


def _print_report(one: Report, over: str) -> None:
    from birnn_decode.show.tables import report_tables

    terminal = console(at_least=WIDTH_OF_FILES)
    terminal.print(f"\n{one.name}: {one.questions} questions", style="bold", highlight=False)
    for table in report_tables(one):
        terminal.print(table)
        terminal.print()
    terminal.print(
        f"[low, high]: 95 % interval over {over}. ±: half of its width. Scores are in nats.",
        highlight=False,
        markup=False,
    )
    if any("search errors" in figures for figures in one.figures.values()):
        terminal.print(
            "search errors: share of the questions with a proved best sentence where the method found a worse one. "
            "score lost: by how much, on the same questions. below the bound: distance to the upper bound, on all.",
            highlight=False,
            markup=False,
        )
    for line in (*one.notes, *(f"{method}: {signature}" for method, signature in one.signatures.items())):
        terminal.print(line, highlight=False, markup=False)


def _write(folder: Path, reports: Sequence[Report]) -> None:
    """Write all results so far, with the options of the command."""
    from birnn_decode.evaluation import reports_csv, reports_json
    from birnn_decode.files import write_whole

    asked = click.get_current_context().params
    about = {
        name: value if isinstance(value, (int, float, str)) or value is None else str(value)
        for name, value in asked.items()
    }
    write_whole(folder / "figures.csv", reports_csv(reports).encode())
    write_whole(folder / "figures.json", reports_json(reports, {"options": about}).encode())
    for method, answers in reports[-1].answers.items():
        kind = reports[-1].name.replace("%", " percent").replace(",", "").replace(" ", "-")
        write_whole(folder / f"answers-{kind}-{method}.json", json.dumps(answers, indent=1).encode())


def _percent(share: str | float) -> str:
    return f"{100 * float(share):g}%"


@click.command(short_help="Draw curves for several beam sizes, rounds and rows.")
@data_options
@line_options
@asking_options
@click.option(
    "--blank",
    default="0.25",
    show_default=True,
    metavar="SHARE",
    help="Share of the words that are missing from each sentence.",
)
@click.option(
    "--beam-sizes",
    default="1,2,5,10,20,50,100",
    show_default=True,
    metavar="SIZES",
    help="Beam sizes to measure, for all methods but gibbs.",
)
@count_option("--beam-size", default=5, metavar="B", help="Beam size while rounds and rows vary.")
@count_option("--rounds", least=0, default=5, help="Measure bscd with 0, 1, … N rounds.")
@click.option(
    "--budgets",
    default="1,2,4,8",
    show_default=True,
    metavar="TIMES",
    help="Rows that gibbs may take, as multiples of the rows that bscd takes.",
)
def curves(
    data: Data,
    lined: LineData,
    asking: Asking,
    blank: str,
    beam_sizes: str,
    beam_size: int,
    rounds: int,
    budgets: str,
) -> None:
    """Measure words right and J for several beam sizes, rounds and rows, and draw them as PNG and SVG into --out.

    Every figure is written to curves.csv as soon as it is measured. If the command is interrupted, it draws the figures
    measured so far.
    """
    import matplotlib  # noqa: F401 - report a missing package before measuring

    from birnn_decode.evaluation.curves import measure, points_csv, steps
    from birnn_decode.files import write_whole
    from birnn_decode.show.curves import draw_curves

    check_one_kind(data, lined)
    sizes, times = _counts("--beam-sizes", beam_sizes), _counts("--budgets", budgets)
    kind = _kind(blank)
    if asking.out is None:
        raise click.UsageError("--out FOLDER is missing: name a new folder for the pictures")
    new_folder(asking.out)
    images, inputs, not_read = asking.read(data, lined)
    questions, not_asked = asking.questions(images, inputs, kind, unknown_width=False)
    for line in _left_out(not_read, not_asked):
        click.echo(line)
    points: list[Point] = []
    interrupted = False
    try:
        with progress() as bar:
            task = bar.add_task("measuring", total=steps(sizes, rounds, times))
            for new in measure(
                asking.models.pair,
                questions,
                beam_sizes=sizes,
                fixed_beam=beam_size,
                rounds=rounds,
                budgets=times,
                batch_size=asking.batch_size,
            ):
                points += new
                write_whole(asking.out / "curves.csv", points_csv(points).encode())
                bar.advance(task)
    except KeyboardInterrupt:
        interrupted = True
    if not points:
        click.echo("interrupted before anything was measured", err=True)
        raise SystemExit(130)
    what = _name(kind, lined, questions[0], " missing")
    drawn = draw_curves(points, asking.out, f"{what}, {len(questions)} questions", beam_size)
    click.echo(f"curves.csv and {len(drawn)} pictures are in {asking.out}")
    if interrupted:
        raise SystemExit(130)


def _counts(option: str, text: str) -> list[int]:
    try:
        counts = sorted({int(number) for number in text.split(",")})
    except ValueError:
        counts = [0]
    if counts[0] < 1:
        raise click.UsageError(f"{option} {text}: give positive integers, separated by commas")
    return counts
