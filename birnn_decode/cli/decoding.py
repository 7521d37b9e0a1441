"""The commands that decode: demo, fill, caption, compare; and the one that draws pictures for them."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from birnn_decode.cli.common import (
    birnn_option,
    check_provable,
    console,
    exact_option,
    model_option,
    models_of,
    new_folder,
    warm_up,
)
from birnn_decode.cli.constraining import Demanded, constraint_options
from birnn_decode.decode import COMPARED

if TYPE_CHECKING:
    from birnn_decode.captions import WordVocabulary
    from birnn_decode.cli.common import Pair
    from birnn_decode.models import Captioner
    from birnn_decode.result import DecodeResult
    from birnn_decode.template import Template

DEMO_SEED = 2
DEMO_SCENE = 4

TEMPLATE_HELP = """
In a TEMPLATE, _ is one missing word, {3} three of them, {1-6} one to six; everything else is a word of the sentence.
"""


@dataclass(frozen=True)
class Decoding:
    """What the options that all decoding commands share say."""

    model: Path | None
    beam_size: int
    max_rounds: int
    top: int
    as_json: bool
    demanded: Demanded
    birnn: Path | None = None
    exact_rows: int | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What is given to the functions that decode."""
        return {"beam_size": self.beam_size, "max_rounds": self.max_rounds, **self.demanded.arguments}

    @functools.cached_property
    def models(self) -> tuple[Pair | None, Any]:
        """The pair and the Bi-RNN that are asked, as `models_of` says."""
        return models_of(self.model, self.birnn)

    @property
    def captioner(self) -> Captioner:
        """One of those asked: what they see and which words they know is the same for all."""
        pair, joint = self.models
        captioner: Captioner = joint.forward_half if pair is None else pair[0]
        return captioner

    @property
    def vocabulary(self) -> WordVocabulary:
        """The words of all that are asked."""
        return self.captioner.vocabulary

    def image(self, given: Path) -> Path | None:
        """The picture; - stands for none."""
        model = self.captioner
        if not model.feature_size:
            if given != Path("-"):
                raise click.UsageError("the model was trained without images: write - in place of the picture")
            return None
        if given == Path("-"):
            raise click.UsageError("- is for models that were trained without images; this one needs a picture")
        pair, joint = self.models
        for name, one in (
            (f"--model {self.model}", pair and pair[0]),
            (f"--birnn {self.birnn}", joint and joint.forward_half),
        ):
            if one is not None and one.encoder is None:
                raise click.UsageError(f"{name} has no image encoder and cannot see pictures: see `train --encoder`")
        return given

    def template(self, text: str) -> Template:
        """A template, which must have a blank."""
        from birnn_decode.template import Template

        template = Template.from_text(text, self.vocabulary)
        if not template.gaps:
            raise click.UsageError(f"the template {text!r} has no blank: write _ for a missing word")
        return template


def decoding_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every command that decodes, and hand them over as one `Decoding`."""

    @model_option
    @constraint_options
    @click.option(
        "--beam-size",
        type=click.IntRange(min=1),
        default=5,
        show_default=True,
        metavar="B",
        help="Prefixes kept at each position, and sentences found.",
    )
    @click.option(
        "--max-rounds",
        type=click.IntRange(min=0),
        default=10,
        show_default=True,
        metavar="N",
        help="Rounds of sweeps that BSCD takes at most.",
    )
    @click.option(
        "--top",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="Sentences to print of each method, at most B; the JSON has all.",
    )
    @click.option(
        "--json", "as_json", is_flag=True, help='Print everything as JSON, for programs; the log of 0 is "-inf".'
    )
    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        shared = {entry.name: given.pop(entry.name) for entry in fields(Decoding) if entry.name in given}
        command(decoding=Decoding(**shared), **given)

    return with_options


@click.command(short_help="Draw a picture, and let every method fill a blank.")
@click.option("--seed", default=DEMO_SEED, show_default=True, type=click.IntRange(min=0), help="Of the random scenes.")
@click.option(
    "--scene",
    default=DEMO_SCENE,
    show_default=True,
    type=click.IntRange(min=0),
    metavar="NUMBER",
    help="Which of the seed's scenes.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("scene.png"),
    show_default=True,
    metavar="PNG",
    help="Where to draw it; replaces what is there.",
)
@decoding_options
def demo(decoding: Decoding, seed: int, scene: int, out: Path) -> None:
    """Draw a scene, take out the middle half of its caption, and let every method fill the blank.

    URNN-f and URNN-b are beam search with the forward and with the backward model alone; +end ranks the same beams by
    the whole sentence; rerank reorders both beams by J; bscd searches with both. J is log P→ + log P←, the
    log-probabilities of the whole sentence under the two models, in nats.
    """
    from birnn_decode.captions import make_scene, middle_blank

    drawn = make_scene(seed, scene)
    picture = drawn.picture()
    caption = drawn.captions[0]
    truth = decoding.vocabulary.encode(caption)
    template = middle_blank(truth, 0.5)
    picture.save(out)
    results = _compare(decoding, picture, template)
    about = {"picture": str(out), "caption": caption, "template": template.to_text(decoding.vocabulary)}
    if decoding.as_json:
        _print_json(about, results)
        return
    terminal = console()
    for name, text in about.items():
        terminal.print(f"{name:9} {text}", highlight=False)
    terminal.print()
    _print_table(terminal, decoding, results, template, truth)
    terminal.print("✓ the very words that were taken out. J = log P→ + log P←, in nats. rows: tokens read, for J too.")


@click.command(epilog=TEMPLATE_HELP, short_help="Fill the blanks of a sentence about a picture.")
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("template")
@exact_option("Go on from BSCD's answer until the best sentences are proved, in at most so many rows.")
@birnn_option(", to fill the blanks in place of a pair.")
@decoding_options
def fill(decoding: Decoding, image: Path, template: str) -> None:
    """Fill the blanks of TEMPLATE, a sentence about the picture IMAGE, by BSCD.

    IMAGE is - for a model that was trained without images.
    """
    if decoding.birnn is not None and decoding.model is not None:
        raise click.UsageError("fill asks one model: give --model or --birnn; `compare` takes both")
    if decoding.exact_rows is not None:
        check_provable(decoding.model, decoding.birnn)
    _answer(decoding, image, decoding.template(template))


@click.command(short_help="Write a sentence about a picture.")
@click.argument("image", type=click.Path(path_type=Path))
@decoding_options
def caption(decoding: Decoding, image: Path) -> None:
    """Write a sentence about the picture IMAGE, by BSCD; its length is found by the search."""
    _answer(decoding, image, None)


@click.command(epilog=TEMPLATE_HELP, short_help="Fill the blanks by every method.")
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("template")
@exact_option("Prove the best sentence as well, in at most so many rows.")
@birnn_option(", to be asked as well; without --model by itself.")
@decoding_options
def compare(decoding: Decoding, image: Path, template: str) -> None:
    """Fill the blanks of TEMPLATE, a sentence about the picture IMAGE, by every method (see `demo --help`)."""
    if decoding.exact_rows is not None:
        check_provable(decoding.model, decoding.birnn)
    parsed = decoding.template(template)
    results = _compare(decoding, decoding.image(image), parsed)
    if decoding.as_json:
        _print_json({"picture": str(image), "template": parsed.to_text(decoding.vocabulary)}, results)
    else:
        _print_table(console(), decoding, results, parsed)


@click.command(short_help="Draw pictures of shapes, with captions.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(min=1), default=10, show_default=True, metavar="N", help="How many.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=DEMO_SEED,
    show_default=True,
    help="Other seeds draw other scenes.",
)
@click.option(
    "--sentences", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="About each picture."
)
def scenes(out: Path, count: int, seed: int, sentences: int) -> None:
    """Draw scenes into the new folder OUT, with their captions in OUT/dataset.json.

    The file has the layout of Karpathy's caption data sets: a list "images" of file names with their sentences.
    """
    from rich.progress import track

    from birnn_decode.captions import make_scene, words_of
    from birnn_decode.files import write_whole

    new_folder(out)
    images = []
    for number in track(range(count), "drawing", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        scene = make_scene(seed, number, sentences)
        name = f"{number:04d}.png"
        scene.picture().save(out / name)
        written = [{"raw": caption, "tokens": words_of(caption)} for caption in scene.captions]
        images.append({"filename": name, "imgid": number, "split": "test", "sentences": written})
    write_whole(out / "dataset.json", json.dumps({"dataset": "scenes", "images": images}, indent=1).encode())
    console().print(f"{count} pictures and dataset.json in {out}", highlight=False)


def _answer(decoding: Decoding, image: Path, template: Template | None) -> None:
    from birnn_decode import bscd_decode, exact_decode, joint_decode

    given = decoding.image(image)
    pair, joint = decoding.models
    warm_up(pair, joint, given, template)
    if pair is None:
        method, result = "birnn-bscd", joint_decode(joint, given, template, **decoding.arguments)
    elif decoding.exact_rows is None:
        method, result = "bscd", bscd_decode(*pair, given, template, **decoding.arguments)
    else:
        arguments = {**decoding.arguments, "max_rows": decoding.exact_rows}
        method, result = "exact", exact_decode(*pair, given, template, **arguments)
    if decoding.as_json:
        text = None if template is None else template.to_text(decoding.vocabulary)
        _print_json({"picture": str(image), "template": text}, {method: result})
        return
    terminal = console()
    _print_table(terminal, decoding, {method: result}, template)
    if method == "exact":
        return
    rounds = "1 round" if result.rounds == 1 else f"{result.rounds} rounds"
    terminal.print(f"{result.stop} after {rounds}. {result.stop.advice}", highlight=False)


def _compare(decoding: Decoding, image: Any, template: Template) -> dict[str, DecodeResult]:
    from birnn_decode import compare as compare_methods
    from birnn_decode import joint_compare
    from birnn_decode.evaluation import with_both_scores

    pair, joint = decoding.models
    warm_up(pair, joint, image, template)
    results: dict[str, DecodeResult] = {}
    if pair is not None:
        arguments = {**decoding.arguments, "methods": COMPARED}
        if decoding.exact_rows is not None:
            arguments |= {"methods": (*COMPARED, "exact"), "max_rows": decoding.exact_rows}
        results |= compare_methods(*pair, image, template, **arguments)
    if joint is not None:
        results |= joint_compare(joint, image, template, **decoding.arguments)
    if pair is not None and joint is not None:
        (results,) = with_both_scores(*pair, joint, [image], [results], top=decoding.beam_size)
    return results


def _print_table(
    terminal: Console,
    decoding: Decoding,
    results: Mapping[str, DecodeResult],
    template: Template | None,
    truth: Sequence[int] | None = None,
) -> None:
    from birnn_decode.show.tables import answers_table

    terminal.print(answers_table(results, decoding.vocabulary, template, truth=truth, top=decoding.top))
    terminal.print()
    if template is None or not template.width_known:
        pair, joint = decoding.models
        rule = "J per word" if template is None else "J and half a nat per word"
        if joint is not None:
            rule = "PLL" if pair is None else f"{rule}; of a Bi-RNN, PLL"
            if "birnn-f" in results:
                rule += ", of a half by itself its log P and a quarter of a nat per word"
        terminal.print(f"score: what sentences of different lengths are ranked by, {rule}", highlight=False)
    if any(one.penalty for result in results.values() for one in result.hypotheses):
        terminal.print("score: less what words cost that a sentence of a group before has", highlight=False)
    if "exact" in results:
        _print_proof(terminal, results["exact"])
    for method, result in results.items():
        if result.hypotheses and result.best.broken:
            broken = "; ".join(result.best.broken)
            terminal.print(f"{method} found no sentence that satisfies all constraints: {broken}", highlight=False)


def _print_proof(terminal: Console, result: DecodeResult) -> None:
    if result.proved:
        said = "no other sentence has a higher score than those that it found"
    elif result.stop == "dead_end":
        said = "no sentence that satisfies all constraints is possible"
    elif result.gap == math.inf:
        said = "nothing is proved"
    elif result.gap == 0:
        said = "the best sentence is proved"
    else:
        said = f"not proved; the score of the best of all may be higher by {result.gap:.2f}"
    terminal.print(f"exact: {said}", highlight=False)


def _print_json(about: Mapping[str, Any], results: Mapping[str, DecodeResult]) -> None:
    methods = {method: result.to_dict() for method, result in results.items()}
    print(json.dumps({**about, "methods": methods}, indent=1))
