"""The command ``birnn-decode``."""

from __future__ import annotations

import functools
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import click
    from rich.console import Console
except ModuleNotFoundError as error:
    print(f"birnn-decode: {error.name} is missing; the extra birnn_decode[cli] brings it", file=sys.stderr)
    raise SystemExit(2) from None

from birnn_decode.version import __version__

if TYPE_CHECKING:
    from birnn_decode.captions import WordVocabulary
    from birnn_decode.models import Captioner
    from birnn_decode.result import DecodeResult
    from birnn_decode.template import Template

DEMO_SEED = 2
DEMO_SCENE = 4
WIDTH_OF_FILES = 140

TEMPLATE_HELP = """
In a TEMPLATE, _ is one missing word, {3} three of them, {1-6} one to six; everything else is a word of the sentence.
"""


@dataclass(frozen=True)
class Decoding:
    """What the options that all decoding commands share say."""

    model_f: Path | None
    model_b: Path | None
    beam_size: int
    max_rounds: int
    top: int
    as_json: bool

    @functools.cached_property
    def pair(self) -> tuple[Captioner, Captioner]:
        """The forward and the backward captioner."""
        from birnn_decode.models import default_pair, load_captioner

        if self.model_f is None and self.model_b is None:
            return default_pair()
        if self.model_f is None or self.model_b is None:
            raise click.UsageError("--model-f and --model-b go together: give both, or neither for the shipped pair")
        return load_captioner(self.model_f), load_captioner(self.model_b)

    @property
    def vocabulary(self) -> WordVocabulary:
        """The words that the captioners share."""
        return self.pair[0].vocabulary

    def template(self, text: str) -> Template:
        """A template, which must have a blank."""
        from birnn_decode.template import Template

        template = Template.from_text(text, self.vocabulary)
        if not template.gaps:
            raise click.UsageError(f"the template {text!r} has no blank: write _ for a missing word")
        return template


def decoding_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every command that decodes, and hand them over as one `Decoding`."""

    @click.option(
        "--model-f",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Your forward captioner, with its image encoder, as save_captioner writes it.",
    )
    @click.option(
        "--model-b",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Your backward captioner; goes with --model-f.",
    )
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
        shared = {entry.name: given.pop(entry.name) for entry in fields(Decoding)}
        command(decoding=Decoding(**shared), **given)

    return with_options


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""
\b
Start with:
  birnn-decode demo                      a picture, a blank, and every method's answer
  birnn-decode scenes pictures           pictures and captions to play with
  birnn-decode fill pictures/0000.png "a _ _ is {1-6} a _ _"
""",
)
@click.version_option(__version__, package_name="birnn_decode")
def cli() -> None:
    """Decode with a forward and a backward captioner.

    Beam-Search Coordinate Descent (BSCD) finds the sentence that both models together find most probable.

    Without --model-f and --model-b, the pair of captioners that comes with the package is used. It knows pictures of
    coloured shapes, as `birnn-decode scenes` draws them, and nothing else of the world.
    """


@cli.command(short_help="Draw a picture, and let every method fill a blank.")
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
    console = _console()
    for name, text in about.items():
        console.print(f"{name:9} {text}", highlight=False)
    console.print()
    _print_table(console, decoding, results, template, truth)
    console.print("✓ the very words that were taken out. J = log P→ + log P←, in nats. rows: tokens read, for J too.")


@cli.command(epilog=TEMPLATE_HELP, short_help="Fill the blanks of a sentence about a picture.")
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("template")
@decoding_options
def fill(decoding: Decoding, image: Path, template: str) -> None:
    """Fill the blanks of TEMPLATE, a sentence about the picture IMAGE, by BSCD."""
    _answer(decoding, image, decoding.template(template))


@cli.command(short_help="Write a sentence about a picture.")
@click.argument("image", type=click.Path(path_type=Path))
@decoding_options
def caption(decoding: Decoding, image: Path) -> None:
    """Write a sentence about the picture IMAGE, by BSCD; its length is found by the search."""
    _answer(decoding, image, None)


@cli.command(epilog=TEMPLATE_HELP, short_help="Fill the blanks by every method.")
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("template")
@decoding_options
def compare(decoding: Decoding, image: Path, template: str) -> None:
    """Fill the blanks of TEMPLATE, a sentence about the picture IMAGE, by every method (see `demo --help`)."""
    parsed = decoding.template(template)
    results = _compare(decoding, image, parsed)
    if decoding.as_json:
        _print_json({"picture": str(image), "template": parsed.to_text(decoding.vocabulary)}, results)
    else:
        _print_table(_console(), decoding, results, parsed)


@cli.command(short_help="Draw pictures of shapes, with captions.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(min=1), default=10, show_default=True, metavar="N", help="How many.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=DEMO_SEED,
    show_default=True,
    help="Other seeds draw other scenes.",
)
def scenes(out: Path, count: int, seed: int) -> None:
    """Draw scenes into the new folder OUT, with their captions in OUT/dataset.json.

    The file has the layout of Karpathy's caption data sets: a list "images" of file names with their sentences.
    """
    from rich.progress import track

    from birnn_decode.captions import make_scene, words_of

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise click.UsageError(f"{out} is there already; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    images = []
    for number in track(range(count), "drawing", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        scene = make_scene(seed, number)
        name = f"{number:04d}.png"
        scene.picture().save(out / name)
        sentences = [{"raw": caption, "tokens": words_of(caption)} for caption in scene.captions]
        images.append({"filename": name, "imgid": number, "split": "test", "sentences": sentences})
    (out / "dataset.json").write_text(json.dumps({"dataset": "scenes", "images": images}, indent=1), encoding="utf-8")
    _console().print(f"{count} pictures and dataset.json in {out}", highlight=False)


def _answer(decoding: Decoding, image: Path, template: Template | None) -> None:
    from birnn_decode import bscd_decode

    _warm_up(decoding, image, template)
    result = bscd_decode(*decoding.pair, image, template, beam_size=decoding.beam_size, max_rounds=decoding.max_rounds)
    if decoding.as_json:
        text = None if template is None else template.to_text(decoding.vocabulary)
        _print_json({"picture": str(image), "template": text}, {"bscd": result})
        return
    console = _console()
    _print_table(console, decoding, {"bscd": result}, template)
    rounds = "1 round" if result.rounds == 1 else f"{result.rounds} rounds"
    console.print(f"{result.stop} after {rounds}. {result.stop.advice}", highlight=False)


def _compare(decoding: Decoding, image: Any, template: Template) -> dict[str, DecodeResult]:
    from birnn_decode import compare as compare_methods

    _warm_up(decoding, image, template)
    results: dict[str, DecodeResult] = compare_methods(
        *decoding.pair, image, template, beam_size=decoding.beam_size, max_rounds=decoding.max_rounds
    )
    return results


def _warm_up(decoding: Decoding, image: Any, template: Template | None) -> None:
    """PyTorch's very first calls take longer, whatever is computed; that is not the cost of what is shown."""
    from birnn_decode import rerank_decode

    rerank_decode(*decoding.pair, image, template, beam_size=1)


def _console() -> Console:
    """Where answers are printed; a file or a pipe gets lines that are wide enough for most sentences."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)


def _print_table(
    console: Console,
    decoding: Decoding,
    results: Mapping[str, DecodeResult],
    template: Template | None,
    truth: Sequence[int] | None = None,
) -> None:
    from birnn_decode.show.tables import answers_table, width_known

    console.print(answers_table(results, decoding.vocabulary, template, truth=truth, top=decoding.top))
    console.print()
    if not width_known(template):
        console.print("score: what sentences of different lengths are ranked by, per word", highlight=False)


def _print_json(about: Mapping[str, Any], results: Mapping[str, DecodeResult]) -> None:
    methods = {method: result.to_dict() for method, result in results.items()}
    print(json.dumps({**about, "methods": methods}, indent=1))


def main() -> None:
    """Run the command; what the user got wrong is one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no arrows gets question marks
    try:
        sys.exit(cli.main(prog_name="birnn-decode", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        print(help_wanted.format_message())
        sys.exit(2)
    except click.ClickException as error:
        message = error.format_message()
    except click.Abort:
        sys.exit(130)
    except ModuleNotFoundError as error:
        message = f"{error.name} is missing; the extra birnn_decode[cli] brings it"
    except (ValueError, OSError) as error:
        message = str(error)
    print(f"birnn-decode: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
