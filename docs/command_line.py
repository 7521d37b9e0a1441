"""The page of the command line, written from the program itself: every command with usage, options and epilog."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from birnn_decode.cli import cli

PROGRAM = "birnn-decode"


def page() -> str:
    """Return the commands in Markdown: the program as a whole, then a section for each command."""
    context = click.Context(cli, info_name=PROGRAM)
    lines = [*command(context)]
    for name in cli.list_commands(context):
        one = cli.get_command(context, name)
        assert one is not None
        lines += [f"## {PROGRAM} {name}", "", *command(click.Context(one, info_name=name, parent=context))]
    return "\n".join(lines)


def command(context: click.Context) -> Iterator[str]:
    """Usage, help, options and epilog of a command, line by line."""
    yield from ("```text", " ".join(context.command.get_usage(context).split()).removeprefix("Usage: "), "```", "")
    yield from text(context.command.help)
    records = [
        record for parameter in context.command.get_params(context) if (record := parameter.get_help_record(context))
    ]
    for names, does in records:
        if does:
            yield from (f"`{names}`", f": {prose(does)}", "")
    yield from text(context.command.epilog)


def text(written: str | None) -> Iterator[str]:
    """Paragraphs of a help text. One that begins with a backspace keeps its lines, as on the terminal."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(written or "")):
        first, _, rest = paragraph.partition("\n")
        if first != "\b":
            yield from (prose(paragraph), "")
            continue
        lines = rest.splitlines()
        if lines and not lines[0].startswith(" "):
            yield from (prose(lines.pop(0)), "")
        yield from ("```text", *inspect.cleandoc("\n".join(["", *lines])).splitlines(), "```", "")


def prose(written: str) -> str:
    """Join a text to one line. Outside of code, options become code, and what Markdown would interpret is escaped."""
    parts = " ".join(written.split()).split("`")
    for at in range(0, len(parts), 2):
        escaped = re.sub(r"([\\*_<>\[\]{}$|])", r"\\\1", parts[at])
        parts[at] = re.sub(r"(?<!\S)--[a-z-]+", r"`\g<0>`", escaped)
    return "`".join(parts)
