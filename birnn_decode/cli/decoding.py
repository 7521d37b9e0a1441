"""The commands that decode (fill, caption, compare), and the command that draws pictures for them (scenes)."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
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
    file_option,
    max_rounds_option,
    model_option,
    new_folder,
)
from birnn_decode.cli.constraining import Demanded, constraint_options
from birnn_decode.files import reading

if TYPE_CHECKING:
    from birnn_decode.posterior import Posterior
    from birnn_decode.result import DecodeResult
    from birnn_decode.template import Template

DEMO_SEED = 2

TEMPLATE_HELP = """
In a TEMPLATE, _ is one missing word, {3} is three missing words, and {1-6} is one to six. Everything else is known text
of the sentence. Write \\_ and \\{ for an underscore and a brace that belong to the text, and \\\\ for a backslash
directly before _ or {. If the model writes characters, bytes or subwords, they are counted in place of words.
"""


@dataclass(frozen=True)
class Decoding:
    """The values of the options that all decoding commands share."""

    model: Path | None
    device: str
    beam_size: int
    max_rounds: int
    demanded: Demanded
    top: int = 1
    as_json: bool = False
    birnn: Path | None = None
    exact_rows: int | None = None

    @functools.cached_property
    def models(self) -> Models:
        """The pair and the Bi-RNN."""
        return Models.load(self.model, self.birnn, self.device)

    @property
    def vocabulary(self) -> Any:
        """The vocabulary of all models."""
        return self.models.captioner.vocabulary

    @property
    def method(self) -> str:
        """The method that answers if only one does."""
        return "birnn-bscd" if self.models.pair is None else "bscd" if self.exact_rows is None else "exact"

    def results(
        self, names: Sequence[str], source: Any, templates: Sequence[Template | None], record: bool = False
    ) -> list[dict[str, DecodeResult]]:
        """Answer each template by methods, named as in an evaluation, and record the searches if asked to."""
        from birnn_decode import compare
        from birnn_decode.evaluation import asked, with_both_scores

        pair, birnn = self.models.pair, self.models.birnn
        self.models.warm_up(source, templates[0])
        found: list[dict[str, DecodeResult]] = [{} for _ in templates]
        options = {"beam_size": self.beam_size, "record": record, **self.demanded.options}
        methods = asked(names, pair, birnn, self.max_rounds, self.exact_rows or 1)
        for models in self.models.each:
            own = {name: method for name, (of, method) in methods.items() if of is models}
            for results, by_method in zip(
                found, compare(models, source, list(templates), list(own.values()), **options), strict=True
            ):
                results |= {name: by_method[method.name] for name, method in own.items()}
        if pair is not None and birnn is not None:
            found = with_both_scores(pair, birnn, [source] * len(found), found, top=self.beam_size)
        return found

    def source(self, given: str) -> Any:
        """Return the source: a sentence, a picture, or a vector from a .npy file; - stands for no source."""
        captioner = self.models.captioner
        if not self.models.translates and not captioner.feature_size:
            if given != "-":
                raise click.UsageError("the model was trained without sources: write - in place of SOURCE")
            return None
        if given == "-":
            what = "source sentence" if self.models.translates else "picture or a .npy file with its feature vector"
            raise click.UsageError(f"this model needs a {what}: - is for models that were trained without sources")
        if self.models.translates:
            return given
        if given.endswith(".npy"):
            vector = _vector(given)
            self.models.check_source(vector, "give a vector of the features of the training")
            return vector
        pair, birnn = self.models.pair, self.models.birnn
        given_models = [] if pair is None else [(f"--model {self.model}", pair.forward)]
        given_models += [] if birnn is None else [(f"--birnn {self.birnn}", birnn.forward_half)]
        for name, captioner in given_models:
            if captioner.encoder is None:
                raise click.UsageError(
                    f"{name} has no image encoder and cannot see pictures: see `train --encoder`, or give a .npy file "
                    "with the feature vector"
                )
        return Path(given)

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
        "--top",
        default=1,
        help="Number of sentences to print for each method, at most B. From 2 on, `fill` also prints the most probable "
        "words of each blank and position. --json prints all.",
    ),
    click.option(
        "--json", "as_json", is_flag=True, help='Print everything as JSON, for programs. The log of 0 is "-inf".'
    ),
)


@click.command(epilog=TEMPLATE_HELP, short_help="Fill the blanks of a sentence.")
@click.argument("source")
@click.argument("template", required=False)
@file_option(
    "--templates",
    "FILE",
    "File of templates, one per line, in place of TEMPLATE. The command prints one line for each template: the text of "
    "the best sentence, or an empty line if there is none.",
)
@exact_option("After BSCD, search until the best sentences are proved to be the best, for at most ROWS rows.")
@birnn_option("It fills the blanks instead of a pair.")
@decoding_options
def fill(decoding: Decoding, source: str, template: str | None, templates: Path | None) -> None:
    """Fill the blanks of TEMPLATE, a sentence about SOURCE, with BSCD.

    SOURCE is a picture, a .npy file with a feature vector, or the sentence to translate, as the model was trained.
    Write - for SOURCE if the model was trained without sources.
    """
    if (template is None) == (templates is None):
        raise click.UsageError("give TEMPLATE or --templates FILE, one of them")
    if decoding.birnn is not None and decoding.model is not None:
        raise click.UsageError("fill takes one kind of models: give --model or --birnn; `compare` takes both")
    if decoding.exact_rows is not None:
        check_provable(decoding.model, decoding.birnn)
    if templates is None:
        _answer(decoding, source, template)
    else:
        _answer_all(decoding, source, templates)


@click.command(short_help="Write a whole sentence.")
@click.argument("source")
@decoding_options
def caption(decoding: Decoding, source: str) -> None:
    """Write a sentence about SOURCE with BSCD. The search finds the length of the sentence.

    SOURCE is a picture, a .npy file with a feature vector, or the sentence to translate, as the model was trained.
    Write - for SOURCE if the model was trained without sources.
    """
    _answer(decoding, source, None)


@click.command(epilog=TEMPLATE_HELP, short_help="Fill the blanks with every method.")
@click.argument("source")
@click.argument("template")
@exact_option("Also prove which sentence is the best, for at most ROWS rows.")
@birnn_option("It is compared with the pair of --model, or used alone without --model.")
@decoding_options
def compare(decoding: Decoding, source: str, template: str) -> None:
    """Fill the blanks of TEMPLATE, a sentence about SOURCE, with every method.

    `birnn-decode fill --help` explains SOURCE, and `birnn-decode demo --help` the methods.
    """
    if decoding.exact_rows is not None:
        check_provable(decoding.model, decoding.birnn)
    parsed = decoding.template(template)
    proved = [] if decoding.exact_rows is None else ["exact"]
    (results,) = decoding.results(decoding.models.methods + proved, decoding.source(source), [parsed])
    if decoding.as_json:
        print_json({"source": source, "template": template}, results)
    else:
        print_table(console(), decoding, results, parsed)


@click.command(short_help="Draw pictures of shapes, with captions.")
@click.argument("out", type=click.Path(path_type=Path))
@count_option("--count", default=10, help="Number of scenes.")
@count_option("--seed", least=0, default=DEMO_SEED, metavar="SEED", help="Seed of the random scenes.")
@count_option("--sentences", default=5, help="Captions of each picture.")
def scenes(out: Path, count: int, seed: int, sentences: int) -> None:
    """Draw scenes into the new folder OUT, with their captions in OUT/dataset.json.

    The file has the layout of Karpathy's caption data sets: a list "images" of file names with their captions, and with
    the boxes of the shapes. OUT/questions.jsonl has a question for each picture, for `birnn-decode decode`: the first
    caption without the middle half of its words.
    """
    from rich.progress import track

    from birnn_decode.captions import make_scene, words_of
    from birnn_decode.files import write_whole

    new_folder(out)
    images, questions = [], []
    for number in track(range(count), "drawing", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        scene = make_scene(seed, number, sentences)
        name = f"{number:04d}.png"
        scene.picture().save(out / name)
        written = [{"raw": caption, "tokens": words_of(caption)} for caption in scene.captions]
        regions = [
            {"box": [round(edge, 4) for edge in shape.box], "label": f"{shape.colour} {shape.kind}"}
            for shape in scene.shapes
        ]
        words = written[0]["tokens"]
        begin, missing = len(words) // 4, -(-len(words) // 2)
        template = " ".join([*words[:begin], *["_"] * missing, *words[begin + missing :]])
        asked = {"id": number, "image": name, "template": template, "references": [" ".join(words)]}
        questions.append(json.dumps(asked) + "\n")
        images.append({"filename": name, "imgid": number, "split": "test", "sentences": written, "regions": regions})
    write_whole(out / "dataset.json", json.dumps({"dataset": "scenes", "images": images}, indent=1).encode())
    write_whole(out / "questions.jsonl", "".join(questions).encode())
    console().print(f"{count} pictures, dataset.json and questions.jsonl in {out}", highlight=False)


def _answer(decoding: Decoding, source: str, text: str | None) -> None:
    """Answer by one method; a ``text`` of None asks for a whole sentence."""
    template = None if text is None else decoding.template(text)
    (results,) = decoding.results([decoding.method], decoding.source(source), [template])
    if decoding.as_json:
        print_json({"source": source, "template": text}, results)
        return
    terminal, result = console(), results[decoding.method]
    print_table(terminal, decoding, results, template)
    if template is not None and decoding.top > 1 and result.posterior is not None:
        _print_posterior(terminal, result.posterior, decoding.top)
    if decoding.method != "exact":
        rounds = "1 round" if result.rounds == 1 else f"{result.rounds} rounds"
        terminal.print(f"{result.stop} after {rounds}. {result.stop.advice}", highlight=False)


def _answer_all(decoding: Decoding, source: str, path: Path) -> None:
    """Answer all templates of a file by one method, as one batch."""
    from birnn_decode.template import read_templates

    given = decoding.source(source)
    found = decoding.results([decoding.method], given, read_templates(path, decoding.vocabulary))
    if decoding.as_json:
        answers = [{"methods": _plain(results)} for results in found]
        print(json.dumps({"source": source, "templates": str(path), "answers": answers}, indent=1))
        return
    for results in found:
        hypotheses = results[decoding.method].hypotheses
        click.echo(hypotheses[0].text if hypotheses else "")


def _vector(path: str) -> np.ndarray:
    """Read a file of one feature vector."""
    with reading(path, "feature vector"):
        try:
            vector = np.load(path)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is not a .npy file of numbers: {error}") from None
    if vector.ndim != 1 or vector.dtype.kind != "f":
        raise ValueError(
            f"{path} must have one feature vector, an array of floats [feature_size], got {list(vector.shape)} of "
            f"{vector.dtype}"
        )
    return np.asarray(vector)


def print_table(
    terminal: Console,
    decoding: Decoding,
    results: Mapping[str, DecodeResult],
    template: Template | None,
    truth: Sequence[int] | None = None,
    checks: Mapping[str, Callable[[str], bool]] | None = None,
) -> None:
    """Print the answers of methods, and what their scores are."""
    from birnn_decode.evaluation.blanks import unit_of
    from birnn_decode.show.tables import answers_table

    terminal.print(answers_table(results, decoding.vocabulary, template, truth=truth, checks=checks, top=decoding.top))
    terminal.print()
    if template is None or not template.width_known:
        models = decoding.models
        unit = unit_of(decoding.vocabulary)
        rule = f"J per {unit}" if template is None else f"J plus half a nat per {unit}"
        if models.birnn is not None:
            rule = "PLL" if models.pair is None else f"{rule}; of a Bi-RNN, PLL"
            if "birnn-f" in results:
                rule += f", of a half alone its log P plus a quarter of a nat per {unit}"
        terminal.print(f"score: the value that ranks sentences of different lengths, {rule}", highlight=False)
    if any(one.penalty for result in results.values() for one in result.hypotheses):
        terminal.print("score: includes the cost of words that a sentence of an earlier group has", highlight=False)
    if "exact" in results:
        _print_proof(terminal, results["exact"])
    for method, result in results.items():
        if result.hypotheses and result.best.broken:
            broken = "; ".join(result.best.broken)
            terminal.print(f"{method} found no sentence that satisfies all constraints: {broken}", highlight=False)


def _print_posterior(terminal: Console, posterior: Posterior, top: int) -> None:
    from birnn_decode.show.tables import posterior_table

    terminal.print()
    terminal.print(posterior_table(posterior, top))
    terminal.print()
    low = posterior.mass[0]
    share = f"they have at least {low:.2f} of the probability of all sentences" if low else "the others do not count"
    terminal.print(
        f"P: probability among the {posterior.sentences} sentences whose J is known; {share}", highlight=False
    )


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


def print_json(about: Mapping[str, Any], results: Mapping[str, DecodeResult]) -> None:
    """Print the answers of methods for programs."""
    print(json.dumps({**about, "methods": _plain(results)}, indent=1))


def _plain(results: Mapping[str, DecodeResult]) -> dict[str, Any]:
    return {name: result.to_dict() for name, result in results.items()}
