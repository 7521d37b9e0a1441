"""The commands that decode (demo, fill, caption, compare), and the command that draws pictures for them (scenes)."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from birnn_decode.cli.common import (
    Models,
    beam_size_option,
    birnn_option,
    bundled,
    check_provable,
    console,
    count_option,
    device_option,
    exact_option,
    max_rounds_option,
    model_option,
    new_folder,
)
from birnn_decode.cli.constraining import Demanded, constraint_options

if TYPE_CHECKING:
    from birnn_decode.captions import WordVocabulary
    from birnn_decode.result import DecodeResult
    from birnn_decode.template import Template

DEMO_SEED = 2
DEMO_SCENE = 4

TEMPLATE_HELP = """
In a TEMPLATE, _ is one missing word, {3} is three missing words, and {1-6} is one to six. Everything else is a word of
the sentence.
"""


@dataclass(frozen=True)
class Decoding:
    """The values of the options that all decoding commands share."""

    model: Path | None
    device: str
    beam_size: int
    max_rounds: int
    top: int
    as_json: bool
    demanded: Demanded
    birnn: Path | None = None
    exact_rows: int | None = None

    @functools.cached_property
    def models(self) -> Models:
        """The pair and the Bi-RNN."""
        return Models.load(self.model, self.birnn, self.device)

    @property
    def vocabulary(self) -> WordVocabulary:
        """The words of all models."""
        return self.models.captioner.vocabulary

    def results(self, names: Sequence[str], image: Any, template: Template | None) -> dict[str, DecodeResult]:
        """Answer the question by methods, named as in an evaluation."""
        from birnn_decode import compare
        from birnn_decode.evaluation import asked, with_both_scores

        pair, birnn = self.models.pair, self.models.birnn
        self.models.warm_up(image, template)
        found: dict[str, DecodeResult] = {}
        methods = asked(names, pair, birnn, self.max_rounds, self.exact_rows or 1)
        for models in self.models.each:
            own = {name: method for name, (of, method) in methods.items() if of is models}
            by_method = compare(
                models, image, template, list(own.values()), beam_size=self.beam_size, **self.demanded.options
            )
            found |= {name: by_method[method.name] for name, method in own.items()}
        if pair is not None and birnn is not None:
            (found,) = with_both_scores(pair, birnn, [image], [found], top=self.beam_size)
        return found

    def image(self, given: Path) -> Path | None:
        """Return the picture; - stands for no picture."""
        if not self.models.captioner.feature_size:
            if given != Path("-"):
                raise click.UsageError("the model was trained without images: write - in place of the picture")
            return None
        if given == Path("-"):
            raise click.UsageError("this model needs a picture: - is for models that were trained without images")
        pair, birnn = self.models.pair, self.models.birnn
        given_models = [] if pair is None else [(f"--model {self.model}", pair.forward)]
        given_models += [] if birnn is None else [(f"--birnn {self.birnn}", birnn.forward_half)]
        for name, captioner in given_models:
            if captioner.encoder is None:
                raise click.UsageError(f"{name} has no image encoder and cannot see pictures: see `train --encoder`")
        return given

    def template(self, text: str) -> Template:
        """Read a template, which must have a blank."""
        from birnn_decode.template import Template

        template = Template.from_text(text, self.vocabulary)
        if not template.gaps:
            raise click.UsageError(f"the template {text!r} has no blank: write _ for a missing word")
        return template


decoding_options = bundled(
    "decoding",
    Decoding,
    model_option,
    device_option,
    constraint_options,
    beam_size_option,
    max_rounds_option,
    count_option(
        "--top", default=1, help="Number of sentences to print for each method, at most B. --json prints all."
    ),
    click.option(
        "--json", "as_json", is_flag=True, help='Print everything as JSON, for programs. The log of 0 is "-inf".'
    ),
)


@click.command(short_help="Draw a picture and let every method fill a blank.")
@count_option("--seed", least=0, default=DEMO_SEED, metavar="SEED", help="Seed of the random scenes.")
@count_option("--scene", least=0, default=DEMO_SCENE, metavar="NUMBER", help="Number of the scene.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("scene.png"),
    show_default=True,
    metavar="PNG",
    help="File to draw the picture to. An existing file is replaced.",
)
@decoding_options
def demo(decoding: Decoding, seed: int, scene: int, out: Path) -> None:
    """Draw a scene, remove the middle half of its caption, and let every method fill the blank.

    urnn-f and urnn-b are beam search with the forward and with the backward model alone. +end ranks the same beams by
    the whole sentence. rerank ranks both beams by J. bscd searches with both models. J is log P→ + log P←, the sum of
    the log-probabilities of the whole sentence under the two models, in nats.
    """
    from birnn_decode.captions import make_scene, middle_blank

    drawn = make_scene(seed, scene)
    picture = drawn.picture()
    caption = drawn.captions[0]
    truth = decoding.vocabulary.encode(caption)
    template = middle_blank(truth, 0.5)
    picture.save(out)
    results = decoding.results(decoding.models.methods, picture, template)
    about = {"picture": str(out), "caption": caption, "template": template.to_text(decoding.vocabulary)}
    if decoding.as_json:
        _print_json(about, results)
        return
    terminal = console()
    for name, text in about.items():
        terminal.print(f"{name:9} {text}", highlight=False)
    terminal.print()
    _print_table(terminal, decoding, results, template, truth)
    terminal.print(
        "✓: exactly the words that were removed. J = log P→ + log P←, in nats. rows: tokens read, also to compute J."
    )


@click.command(epilog=TEMPLATE_HELP, short_help="Fill the blanks of a sentence about a picture.")
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("template")
@exact_option("After BSCD, search until the best sentences are proved to be the best, for at most ROWS rows.")
@birnn_option("It fills the blanks instead of a pair.")
@decoding_options
def fill(decoding: Decoding, image: Path, template: str) -> None:
    """Fill the blanks of TEMPLATE, a sentence about the picture IMAGE, with BSCD.

    Write - for IMAGE if the model was trained without images.
    """
    if decoding.birnn is not None and decoding.model is not None:
        raise click.UsageError("fill takes one kind of models: give --model or --birnn; `compare` takes both")
    if decoding.exact_rows is not None:
        check_provable(decoding.model, decoding.birnn)
    _answer(decoding, image, decoding.template(template))


@click.command(short_help="Write a sentence about a picture.")
@click.argument("image", type=click.Path(path_type=Path))
@decoding_options
def caption(decoding: Decoding, image: Path) -> None:
    """Write a sentence about the picture IMAGE with BSCD. The search finds the length of the sentence."""
    _answer(decoding, image, None)


@click.command(epilog=TEMPLATE_HELP, short_help="Fill the blanks with every method.")
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("template")
@exact_option("Also prove which sentence is the best, for at most ROWS rows.")
@birnn_option("It is compared with the pair of --model, or used alone without --model.")
@decoding_options
def compare(decoding: Decoding, image: Path, template: str) -> None:
    """Fill the blanks of TEMPLATE, a sentence about the picture IMAGE, with every method.

    `birnn-decode demo --help` explains the methods.
    """
    if decoding.exact_rows is not None:
        check_provable(decoding.model, decoding.birnn)
    parsed = decoding.template(template)
    proved = [] if decoding.exact_rows is None else ["exact"]
    results = decoding.results(decoding.models.methods + proved, decoding.image(image), parsed)
    if decoding.as_json:
        _print_json({"picture": str(image), "template": parsed.to_text(decoding.vocabulary)}, results)
    else:
        _print_table(console(), decoding, results, parsed)


@click.command(short_help="Draw pictures of shapes, with captions.")
@click.argument("out", type=click.Path(path_type=Path))
@count_option("--count", default=10, help="Number of scenes.")
@count_option("--seed", least=0, default=DEMO_SEED, metavar="SEED", help="Seed of the random scenes.")
@count_option("--sentences", default=5, help="Captions of each picture.")
def scenes(out: Path, count: int, seed: int, sentences: int) -> None:
    """Draw scenes into the new folder OUT, with their captions in OUT/dataset.json.

    The file has the layout of Karpathy's caption data sets: a list "images" of file names with their captions.
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
    given = decoding.image(image)
    method = "birnn-bscd" if decoding.models.pair is None else "bscd" if decoding.exact_rows is None else "exact"
    results = decoding.results([method], given, template)
    if decoding.as_json:
        text = None if template is None else template.to_text(decoding.vocabulary)
        _print_json({"picture": str(image), "template": text}, results)
        return
    terminal, result = console(), results[method]
    _print_table(terminal, decoding, results, template)
    if method != "exact":
        rounds = "1 round" if result.rounds == 1 else f"{result.rounds} rounds"
        terminal.print(f"{result.stop} after {rounds}. {result.stop.advice}", highlight=False)


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
        models = decoding.models
        rule = "J per word" if template is None else "J plus half a nat per word"
        if models.birnn is not None:
            rule = "PLL" if models.pair is None else f"{rule}; of a Bi-RNN, PLL"
            if "birnn-f" in results:
                rule += ", of a half alone its log P plus a quarter of a nat per word"
        terminal.print(f"score: the value that ranks sentences of different lengths, {rule}", highlight=False)
    if any(one.penalty for result in results.values() for one in result.hypotheses):
        terminal.print("score: includes the cost of words that a sentence of an earlier group has", highlight=False)
    if "exact" in results:
        _print_proof(terminal, results["exact"])
    for method, result in results.items():
        if result.hypotheses and result.best.broken:
            broken = "; ".join(result.best.broken)
            terminal.print(f"{method} found no sentence that satisfies all constraints: {broken}", highlight=False)


def _print_proof(terminal: Console, result: DecodeResult) -> None:
    if result.proved:
        said = "proved: no other sentence has a higher score"
    elif result.stop == "dead_end":
        said = "no possible sentence satisfies all constraints"
    elif result.gap == math.inf:
        said = "nothing is proved"
    elif result.gap == 0:
        said = "the best sentence is proved"
    else:
        said = f"not proved; another sentence may have a score higher by up to {result.gap:.2f}"
    terminal.print(f"exact: {said}", highlight=False)


def _print_json(about: Mapping[str, Any], results: Mapping[str, DecodeResult]) -> None:
    print(json.dumps({**about, "methods": {name: result.to_dict() for name, result in results.items()}}, indent=1))
