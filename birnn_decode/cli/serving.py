"""The command that starts an app to try a pair (app)."""

from __future__ import annotations

from pathlib import Path

import click

from birnn_decode.cli.common import Models, console, count_option, device_option, model_option


@click.command(short_help="Start an app to try a pair in a browser.")
@model_option
@device_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen at. With 0.0.0.0, other machines can reach the app, too.",
)
@count_option("--port", default=7860, metavar="PORT", help="Port to listen at.")
def app(model: Path | None, device: str, host: str, port: int) -> None:
    """Start an app in a browser: write a template, choose methods, and watch the search.

    Only this machine can reach the app, unless --host says otherwise. It asks no network for anything. Stop it with
    Ctrl-C.
    """
    from birnn_decode.app import make_app, serve

    pair = Models.load(model, None, device).pair
    assert pair is not None
    made = make_app(pair)
    console().print(f"the app is at http://{host}:{port}; Ctrl-C stops it", highlight=False, markup=False)
    serve(made, host, port)
