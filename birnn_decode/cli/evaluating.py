"""The commands that compare methods: on blanks and whole captions, and along curves."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from birnn_decode.captions.datasets import SPLITS
from birnn_decode.cli.common import (
    WIDTH_OF_FILES,
    Data,
    birnn_option,
    check_provable,
    console,
    data_options,
    exact_option,
    left_out_lines,
    model_option,
    models_of,
    new_folder,
    pair_of,
    progress,
    warm_up,
)
from birnn_decode.cli.constraining import Demanded, constraint_options
from birnn_decode.decode import MAX_ROWS, METHODS
from birnn_decode.joint import JOINT_METHODS

if TYPE_CHECKING:
    from birnn_decode.captions import CaptionedImage, WordVocabulary
    from birnn_decode.evaluation import Question, Report
    from birnn_decode.evaluation.curves import Point
    from birnn_decode.models import BiRNN, Captioner
    from birnn_decode.result import DecodeResult

WHOLE = "whole"
SEED_OF_LIMIT = 0
ASKED = tuple(name for name in METHODS if name != "exact")  # of a pair; exact has an option of its own
LEAST_KNOWN_WORDS = 0.5  # of a data set's words; below that, the model was trained on something else


@dataclass(frozen=True)
class Asking:
    """What the options that both commands share say: which questions are put, to whom."""

    model: Path | None
    split: str
    min_words: int
    limit: int | None
    batch_size: int
    out: Path | None

    @functools.cached_property
    def pair(self) -> tuple[Captioner, Captioner]:
        """The forward and the backward captioner."""
        return pair_of(self.model)

    def images(self, data: Data, model: Captioner | BiRNN) -> tuple[list[CaptionedImage], dict[str, Any], Counter[str]]:
        """The images of the split, what the models take for them, and what was left out of the file."""
        file = data.read()
        images = file.of(self.split)
        _check_words(images, model)
        inputs, _ = data.inputs(file, images, model.encoder)
        given = next(iter(inputs.values()))
        size, wanted = 0 if given is None else len(given), model.feature_size
        if size != wanted:
            raise ValueError(
                f"the model was trained {f'with feature vectors of {wanted} numbers' if wanted else 'without images'}; "
                f"given {f'vectors of {size}' if size else '--no-image'}"
            )
        return images, inputs, Counter(file.left_out)

    def questions(
        self,
        images: Sequence[CaptionedImage],
        inputs: Mapping[str, Any],
        vocabulary: WordVocabulary,
        blank: str | float,
        unknown_width: bool,
    ) -> tuple[list[Question], Counter[str]]:
        """The questions of one kind, and what was left out."""
        from birnn_decode.evaluation import blank_questions, caption_questions

        if blank == WHOLE:
            questions, left_out = caption_questions(images, inputs, vocabulary)
        else:
            ask = functools.partial(blank_questions, images, inputs, vocabulary, float(blank), min_words=self.min_words)
            questions, left_out = ask()
            if unknown_width and questions:
                # All blanks are asked for alike, so that the range tells nothing about any of them.
                widest = max(one.template.gaps[0].low for one in questions if one.template is not None)
                questions, left_out = ask(widths=(1, widest))
        if not questions:
            what = ", ".join(f"{count} {why}" for why, count in left_out.items())
            raise ValueError(f"no caption is left to ask about: {what or 'there are none'}")
        if self.limit is not None and self.limit < len(questions):
            # Files are often sorted; the first questions would be of a few kinds of images only.
            drawn = np.random.default_rng(SEED_OF_LIMIT).permutation(len(questions))[: self.limit]
            questions = [questions[number] for number in sorted(drawn.tolist())]
        return questions, left_out


def asking_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which questions are put, and hand them over as one `Asking`."""

    @model_option
    @click.option(
        "--split",
        type=click.Choice(SPLITS),
        default="test",
        show_default=True,
        help="The split whose captions are asked for.",
    )
    @click.option(
        "--min-words",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="No blanks are made in shorter captions.",
    )
    @click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only N of the questions, drawn at random.")
    @click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=64,
        show_default=True,
        metavar="N",
        help="Questions decoded at a time.",
    )
    @click.option(
        "--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="Where to write the results."
    )
    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        shared = {entry.name: given.pop(entry.name) for entry in fields(Asking)}
        command(asking=Asking(**shared), **given)

    return with_options


@click.command(short_help="Compare the methods on captions of yours.")
@data_options
@asking_options
@click.option(
    "--blank",
    "blanks",
    default="0.25,0.5,0.75",
    show_default=True,
    metavar="SHARES",
    help='How much of each caption is missing, from its middle; "whole": write the caption of each image.',
)
@birnn_option(
    ", to be asked as well; without --model by itself. Of a pair's file the scores are added, and one softmax taken of "
    "the sum."
)
@click.option(
    "--methods",
    metavar="NAMES",
    help=f"Which, and in which order: of a pair {', '.join(ASKED)}; of a Bi-RNN {', '.join(JOINT_METHODS)}; all of "
    "them if not given. gibbs is given as many rows as bscd takes, and birnn-gibbs as birnn-bscd.",
)
@click.option(
    "--width",
    type=click.Choice(("known", "unknown")),
    default="known",
    show_default=True,
    help="unknown: every blank may have from 1 to as many words as the widest.",
)
@click.option(
    "--length",
    default="auto",
    show_default=True,
    metavar="RULE",
    help="How sentences of different lengths are ranked: none, average, or a reward in nats per word.",
)
@click.option("--beam-size", type=click.IntRange(min=1), default=5, show_default=True, metavar="B", help="For all.")
@click.option(
    "--max-rounds", type=click.IntRange(min=0), default=10, show_default=True, metavar="N", help="Of bscd, at most."
)
@exact_option("Prove the best sentence, in at most so many rows a question, and tell how often each method misses it.")
@constraint_options
def evaluate(
    data: Data,
    asking: Asking,
    demanded: Demanded,
    blanks: str,
    birnn: Path | None,
    methods: str | None,
    width: str,
    length: str,
    beam_size: int,
    max_rounds: int,
    exact_rows: int | None,
) -> None:
    """Take words out of captions, let every method fill the blanks, and compare what they find.

    Every method is asked the same. J is the pair's log-probability of the completed sentence, both directions added;
    PLL the Bi-RNN's pseudo-log-likelihood of it. Figures have 95 % bootstrap intervals, images drawn with replacement;
    methods are compared on the same draws. With --out: figures.csv, figures.json, and the answers in the format of
    COCO's results.
    """
    from birnn_decode import Objective

    objective = Objective(length=_length(length))
    kinds = [_kind(text) for text in blanks.split(",")]
    names = _methods(methods, pair=asking.model is not None or birnn is None, birnn=birnn is not None)
    if exact_rows is not None:
        check_provable(asking.model, birnn)
        if WHOLE in kinds:
            raise click.UsageError("--exact: a whole caption has no width, and nothing can be proved of all of them")
        names.append("exact")
    if WHOLE in kinds and any(name in JOINT_METHODS for name in names):
        raise click.UsageError("--blank whole: a Bi-RNN does not say where a sentence ends; ask a pair alone")
    pair, joint = models_of(asking.model, birnn)
    known = joint.forward_half if pair is None else pair[0]
    if asking.out is not None:
        new_folder(asking.out)
    images, inputs, not_read = asking.images(data, known)
    reports = []
    for kind in kinds:
        questions, not_asked = asking.questions(images, inputs, known.vocabulary, kind, width == "unknown")
        notes = _left_out(not_read, not_asked)
        warm_up(pair, joint, questions[0].image, questions[0].template)
        models = (*(pair or (None, None)), joint)
        max_rows = MAX_ROWS if exact_rows is None else exact_rows
        arguments = {"beam_size": beam_size, "max_rounds": max_rounds, "objective": objective, "max_rows": max_rows}
        batches, interrupted = _ask(asking, models, questions, names, {**arguments, **demanded.arguments})
        if interrupted:
            done = sum(map(len, batches))
            notes.append(f"interrupted: the figures are of the first {done} of {len(questions)} questions")
            questions = questions[:done]
        answered = [bool(one) for batch in batches for one in batch]
        if not all(answered):
            notes.append(f"left out: {answered.count(False)} questions that no answer to satisfies the constraints")
            questions = [one for one, there in zip(questions, answered, strict=True) if there]
            batches = [own for batch in batches if (own := [one for one in batch if one])]
        if not questions and not interrupted:
            raise ValueError("no answer to any of the questions satisfies the constraints")
        if questions:
            one, stopped = _report(kind, width, questions, batches, notes)
            reports.append(one)
            interrupted = interrupted or stopped
            _print_report(reports[-1])
            if asking.out is not None:
                _write(asking.out, reports)
        if interrupted:
            raise SystemExit(130)
    if asking.out is not None:
        click.echo(f"figures.csv, figures.json and the answers are in {asking.out}")


def _methods(given: str | None, pair: bool, birnn: bool) -> list[str]:
    """Who is asked; for a pair and a Bi-RNN, as far as there are these."""
    there = (ASKED if pair else ()) + (JOINT_METHODS if birnn else ())
    names = list(there) if given is None else [name.strip() for name in given.split(",")]
    if unknown := [name for name in names if name not in ASKED + JOINT_METHODS]:
        cure = "give --exact ROWS" if unknown[0] == "exact" else f"use some of {','.join(there)}"
        raise click.UsageError(f"--methods {unknown[0]}: {cure}")
    if lacking := [name for name in names if name not in there]:
        raise click.UsageError(f"--methods {lacking[0]}: give {'--model' if birnn else '--birnn'} as well")
    for gibbs, bscd in (("gibbs", "bscd"), ("birnn-gibbs", "birnn-bscd")):
        if gibbs in names and bscd not in names:
            raise click.UsageError(
                f"--methods: {gibbs} is given as many rows as {bscd} takes, so {bscd} must be among them, too"
            )
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
        raise click.UsageError(f'--blank {text}: give shares above 0 and at most 1, or "whole", with commas between')
    return share


def _length(text: str) -> str | float:
    if text in ("auto", "none", "average"):
        return text
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"--length {text}: use auto, none, average, or a number of nats per word") from None


def _check_words(images: Sequence[CaptionedImage], model: Any) -> None:
    from birnn_decode.captions import words_of

    known = set(model.vocabulary.words)
    words = [word for image in images for caption in image.captions for word in words_of(caption)]
    share = sum(word in known for word in words) / max(len(words), 1)
    if share < LEAST_KNOWN_WORDS:
        raise ValueError(f"the model knows {share:.0%} of the words of these captions: it was trained on others")


def _ask(
    asking: Asking,
    models: tuple[Any, Any, Any],
    questions: Sequence[Question],
    methods: Sequence[str],
    arguments: Mapping[str, Any],
) -> tuple[list[list[dict[str, DecodeResult]]], bool]:
    """The results of all batches, or of those that were done when the user had enough."""
    from birnn_decode.evaluation import ask

    batches: list[list[dict[str, DecodeResult]]] = []
    try:
        with progress() as bar:
            task = bar.add_task("filling blanks", total=len(questions))
            for batch in ask(
                *models[:2],
                questions,
                methods=methods,
                joint=models[2],
                batch_size=asking.batch_size,
                **arguments,
            ):
                if any(one["exact"].stop == "interrupted" for one in batch if "exact" in one):
                    return batches, True
                batches.append(batch)
                bar.advance(task, len(batch))
    except KeyboardInterrupt:
        return batches, True
    return batches, False


def _report(
    kind: str | float,
    width: str,
    questions: Sequence[Question],
    batches: Sequence[Sequence[dict[str, DecodeResult]]],
    notes: list[str],
) -> tuple[Report, bool]:
    """The figures, and whether the user had enough before all of them were there."""
    from birnn_decode.evaluation import report

    name = "whole captions" if kind == WHOLE else f"{_percent(kind)} of the words, width {width}"
    captioning = importlib.util.find_spec("pycocoevalcap") is not None
    if not captioning:
        notes = [*notes, "BLEU, ROUGE-L, METEOR and CIDEr need birnn_decode[evaluation], which is not installed"]
    try:
        return report(name, questions, batches, captioning=captioning, notes=notes), False
    except KeyboardInterrupt:
        notes = [*notes, "interrupted: without BLEU, ROUGE-L, METEOR and CIDEr"]
        return report(name, questions, batches, captioning=False, notes=notes), True


def _print_report(one: Report) -> None:
    from birnn_decode.show.tables import report_tables

    terminal = console(at_least=WIDTH_OF_FILES)
    terminal.print(f"\n{one.name}: {one.questions} questions", style="bold", highlight=False)
    for table in report_tables(one):
        terminal.print(table)
        terminal.print()
    terminal.print(
        "[low, high]: 95 % interval over images; ±: half of its width. Scores in nats.",
        highlight=False,
        markup=False,
    )
    if any("search errors" in figures for figures in one.figures.values()):
        terminal.print(
            "search errors: of the questions whose best sentence is proved, the share where the method's is a worse "
            "one; score lost: on the same; below the bound: on all, how far the score is below the upper bound.",
            highlight=False,
            markup=False,
        )
    for line in (*one.notes, *(f"{method}: {signature}" for method, signature in one.signatures.items())):
        terminal.print(line, highlight=False, markup=False)


def _write(folder: Path, reports: Sequence[Report]) -> None:
    """All results so far, and what was asked for."""
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


@click.command(short_help="Draw how the methods do as they are given more.")
@data_options
@asking_options
@click.option(
    "--blank", default="0.25", show_default=True, metavar="SHARE", help="How much of each caption is missing."
)
@click.option(
    "--beam-sizes",
    default="1,2,5,10,20,50,100",
    show_default=True,
    metavar="SIZES",
    help="B for all methods but gibbs.",
)
@click.option(
    "--beam-size",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="B",
    help="While rounds and the rows of gibbs are varied.",
)
@click.option(
    "--rounds", type=click.IntRange(min=0), default=5, show_default=True, metavar="N", help="Of bscd: 0, 1, … N."
)
@click.option(
    "--budgets", default="1,2,4,8", show_default=True, metavar="TIMES", help="Rows of gibbs, over those of bscd."
)
def curves(data: Data, asking: Asking, blank: str, beam_sizes: str, beam_size: int, rounds: int, budgets: str) -> None:
    """Measure words right and J against beam size, rounds and rows, and draw them as PNG and SVG into --out.

    What is measured is written to curves.csv as it comes. After an interruption, what there is is drawn.
    """
    import matplotlib  # noqa: F401 - what is missing is said before anything is measured

    from birnn_decode.evaluation.curves import measure, points_csv, steps
    from birnn_decode.files import write_whole
    from birnn_decode.show.curves import draw_curves

    sizes, times = _counts("--beam-sizes", beam_sizes), _counts("--budgets", budgets)
    kind = _kind(blank)
    if asking.out is None:
        raise click.UsageError("--out FOLDER is missing: where are the pictures to go?")
    new_folder(asking.out)
    known = asking.pair[0]
    images, inputs, not_read = asking.images(data, known)
    questions, not_asked = asking.questions(images, inputs, known.vocabulary, kind, unknown_width=False)
    for line in _left_out(not_read, not_asked):
        click.echo(line)
    points: list[Point] = []
    interrupted = False
    try:
        with progress() as bar:
            task = bar.add_task("measuring", total=steps(sizes, rounds, times))
            for new in measure(
                *asking.pair,
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
    what = "whole captions" if kind == WHOLE else f"{_percent(kind)} of the words missing"
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
        raise click.UsageError(f"{option} {text}: give whole numbers from 1 on, with commas between")
    return counts
