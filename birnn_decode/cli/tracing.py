"""The command that writes a page which steps through a search (trace)."""

from __future__ import annotations

from pathlib import Path

import click

from birnn_decode.cli.common import (
    beam_size_option,
    birnn_option,
    bundled,
    check_provable,
    console,
    device_option,
    exact_option,
    max_rounds_option,
    model_option,
)
from birnn_decode.cli.constraining import constraint_options
from birnn_decode.cli.decoding import TEMPLATE_HELP, Decoding

METHODS = ("urnn-f", "urnn-b", "rerank", "bscd")
BIRNN_METHODS = ("birnn-f", "birnn-b", "birnn-rerank", "birnn-bscd")


@click.command(epilog=TEMPLATE_HELP, short_help="Write a page that steps through a search.")
@click.argument("source")
@click.argument("template")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("trace.html"),
    show_default=True,
    metavar="HTML",
    help="File to write the page to. An existing file is replaced.",
)
@exact_option("Also show a proof of which sentence is the best, for at most ROWS rows.")
@birnn_option("It is shown beside the pair of --model, or alone without --model.")
@bundled("decoding", Decoding, model_option, device_option, constraint_options, beam_size_option, max_rounds_option)
def trace(decoding: Decoding, source: str, template: str, out: Path) -> None:
    """Fill the blanks of TEMPLATE, a sentence about SOURCE, and write a page that shows how.

    The page steps through both beam searches, the rerank and BSCD: what each model is asked, which words it likes, what
    is kept and what is dropped. It is one file for a browser, and needs no network.

    `birnn-decode fill --help` explains SOURCE.
    """
    from birnn_decode.show import trace_page

    if decoding.exact_rows is not None:
        check_provable(decoding.model, decoding.birnn)
    parsed = decoding.template(template)
    models = decoding.models
    names = [] if models.pair is None else [*METHODS, *(() if decoding.exact_rows is None else ("exact",))]
    names += [] if models.birnn is None else BIRNN_METHODS
    given = decoding.source(source)
    (results,) = decoding.results(names, given, [parsed], record=True)
    trace_page(results, out, picture=given if isinstance(given, Path) else None)
    console().print(f"{len(results)} searches in {out}: open it in a browser", highlight=False, markup=False)
