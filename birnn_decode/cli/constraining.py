"""The options that say what the words in the blanks must be like."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import click


@dataclass(frozen=True)
class Demanded:
    """What these options say."""

    must: tuple[str, ...]
    ban: tuple[str, ...]
    no_repeat: int | None
    word_count: str | None
    diversity: str | None

    @property
    def arguments(self) -> dict[str, Any]:
        """The same as arguments of the functions that decode."""
        from birnn_decode import BanWords, Diversity, MustAppear, NoRepeatedNgram, WordCount

        constraints: list[Any] = []
        constraints += [MustAppear(self.must)] if self.must else []
        constraints += [BanWords(self.ban)] if self.ban else []
        constraints += [] if self.no_repeat is None else [NoRepeatedNgram(self.no_repeat)]
        if self.word_count is not None:
            least, _, most = self.word_count.partition("-")
            constraints.append(WordCount(_number("--word-count", least), _number("--word-count", most or least)))
        if self.diversity is None:
            return {"constraints": constraints}
        groups, _, strength = self.diversity.partition(":")
        try:
            nats = float(strength)
        except ValueError:
            raise click.UsageError(f"--diversity {self.diversity}: write GROUPS:NATS, such as 5:1.0") from None
        return {"constraints": constraints, "diversity": Diversity(_number("--diversity", groups), nats)}


def constraint_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that constrain what is found, and hand them over as one `Demanded`."""

    @click.option("--must", multiple=True, metavar="WORD", help="A word that must be in a blank. Several times: all.")
    @click.option("--ban", multiple=True, metavar="WORD", help="A word that must not be in a blank.")
    @click.option(
        "--no-repeat",
        type=click.IntRange(min=1),
        metavar="N",
        help="No N words in a row may stand twice in the sentence.",
    )
    @click.option("--word-count", metavar="A-B", help="The blanks have from A to B words in all.")
    @click.option(
        "--diversity",
        metavar="GROUPS:NATS",
        help="Divide the beam among GROUPS; a word costs NATS where a sentence of a group before has it.",
    )
    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        shared = {entry.name: given.pop(entry.name) for entry in fields(Demanded)}
        command(demanded=Demanded(**shared), **given)

    return with_options


def _number(option: str, text: str) -> int:
    if not text.isdecimal():
        raise click.UsageError(f"{option}: {text!r} is no whole number")
    return int(text)
