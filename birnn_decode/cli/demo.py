"""The command that shows what the library does (demo), with a picture of shapes or with a molecule."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console

from birnn_decode.cli.common import console, count_option
from birnn_decode.cli.decoding import DEMO_SEED, Decoding, decoding_options, print_json, print_table

SCENE = 4
RULE = "J = log P→ + log P←, in nats. rows: tokens read, also to compute J."
# Sorafenib, a drug, which is not among the molecules that the pair of the package was trained with.
MOLECULE = "CNC(=O)c1cc(Oc2ccc(NC(=O)Nc3ccc(Cl)c(C(F)(F)F)c3)cc2)ccn1"


@click.command(short_help="Draw a picture or a molecule, and let every method fill a blank.")
@count_option("--seed", least=0, default=DEMO_SEED, metavar="SEED", help="Seed of the random scenes.")
@count_option("--scene", least=0, default=SCENE, metavar="NUMBER", help="Number of the scene.")
@click.option(
    "--molecule",
    is_flag=False,
    flag_value=MOLECULE,
    metavar="[SMILES]",
    help="Complete a molecule in place of a caption: one of the package, or SMILES, which may have blanks, as in "
    "CC(=O){5-20}c1ccccc1.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="scene.png or molecule.png",
    metavar="PNG",
    help="File to draw the picture to. An existing file is replaced.",
)
@decoding_options
def demo(decoding: Decoding, seed: int, scene: int, molecule: str | None, out: Path | None) -> None:
    """Draw a scene, remove the middle half of its caption, and let every method fill the blank.

    With --molecule, remove the middle half of a molecule (its SMILES) instead, and draw what every method makes of it.

    urnn-f and urnn-b are beam search with the forward and with the backward model alone. +end ranks the same beams by
    the whole sentence. rerank ranks both beams by J. bscd searches with both models. J is log P→ + log P←, the sum of
    the log-probabilities of the whole sentence under the two models, in nats.
    """
    if molecule is None:
        _with_scene(decoding, seed, scene, out or Path("scene.png"))
        return
    context = click.get_current_context()
    for option in ("seed", "scene"):
        if context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option} chooses a scene: leave out --{option} or --molecule")
    _with_molecule(decoding, molecule, out or Path("molecule.png"))


def _with_scene(decoding: Decoding, seed: int, scene: int, out: Path) -> None:
    from birnn_decode.captions import make_scene, middle_blank

    drawn = make_scene(seed, scene)
    picture = drawn.picture()
    caption = drawn.captions[0]
    truth = decoding.vocabulary.encode(caption)
    template = middle_blank(truth, 0.5)
    picture.save(out)
    (results,) = decoding.results(decoding.models.methods, picture, [template])
    about = {"picture": str(out), "caption": caption, "template": template.to_text(decoding.vocabulary)}
    if decoding.as_json:
        print_json(about, results)
        return
    terminal = _console_after(about)
    print_table(terminal, decoding, results, template, truth)
    terminal.print(f"✓: exactly the words that were removed. {RULE}")


def _with_molecule(decoding: Decoding, molecule: str, out: Path) -> None:
    from birnn_decode.captions import middle_blank
    from birnn_decode.files import write_whole
    from birnn_decode.models.files import packaged
    from birnn_decode.template import Template

    with packaged("molecules") as path:
        decoding = replace(decoding, model=decoding.model or path)
        models, vocabulary = decoding.models, decoding.vocabulary  # read while there is a path
    template, truth = Template.from_text(molecule, vocabulary), None
    if not template.gaps:
        truth = vocabulary.encode(molecule)
        template = middle_blank(truth, 0.5)
    models.check_source(None, "--molecule takes a pair without sources")
    (results,) = decoding.results(models.methods, None, [template])
    about = {"molecule": molecule} if truth else {}
    about["template"] = template.to_text(vocabulary)
    checks: Mapping[str, Callable[[str], bool]] = {}
    if importlib.util.find_spec("rdkit") is not None:
        from birnn_decode.molecules import is_molecule
        from birnn_decode.show.molecules import draw_molecules, written

        checks = {"molecule": is_molecule}
        panels = {method: result.best.blanks for method, result in results.items() if result.hypotheses}
        if truth:
            panels = {"original": template.fixed()[0].blanks(truth), **panels}
        write_whole(out, draw_molecules({name: written(template, one, vocabulary) for name, one in panels.items()}))
        about = {"picture": str(out), **about}
    if decoding.as_json:
        print_json(about, results)
        return
    terminal = _console_after(about)
    print_table(terminal, decoding, results, template, truth, checks)
    right = "right: the characters that were removed. " if truth else ""
    read = "molecule: RDKit can read it. " if checks else ""
    terminal.print(f"{right}{read}{RULE}")
    if not checks:
        missing = "There is no picture, because rdkit is missing; the extra birnn_decode[molecules] brings it."
        terminal.print(missing, markup=False)


def _console_after(about: Mapping[str, str]) -> Console:
    """Print what is asked, and return the console for the answers."""
    terminal = console()
    for name, text in about.items():
        terminal.print(f"{name:9} {text}", highlight=False, markup=False)
    terminal.print()
    return terminal
