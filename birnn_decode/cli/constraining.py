"""The options that constrain the words in the blanks, and the check of finished sentences."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import click

from birnn_decode.cli.checking import imported_check
from birnn_decode.cli.common import bundled, count_option


@dataclass(frozen=True)
class Demanded:
    """The values of these options."""

    must: tuple[str, ...]
    ban: tuple[str, ...]
    no_repeat: int | None
    word_count: str | None
    diversity: str | None
    accept: str | None

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        """The same as keywords of `decode`."""
        from birnn_decode import BanWords, Diversity, MustAppear, NoRepeatedNgram, WordCount

        constraints: list[Any] = []
        constraints += [MustAppear(self.must)] if self.must else []
        constraints += [BanWords(self.ban)] if self.ban else []
        constraints += [] if self.no_repeat is None else [NoRepeatedNgram(self.no_repeat)]
        if self.word_count is not None:
            least, _, most = self.word_count.partition("-")
            constraints.append(WordCount(_number("--word-count", least), _number("--word-count", most or least)))
        options: dict[str, Any] = {"constraints": constraints}
        if self.accept is not None:
            options["accept"] = imported_check("--accept", self.accept)
        if self.diversity is None:
            return options
        groups, _, strength = self.diversity.partition(":")
        try:
            nats = float(strength)
        except ValueError:
            raise click.UsageError(f"--diversity {self.diversity}: write GROUPS:NATS, for example 5:1.0") from None
        return {**options, "diversity": Diversity(_number("--diversity", groups), nats)}


constraint_options = bundled(
    "demanded",
    Demanded,
    click.option(
        "--must", multiple=True, metavar="WORD", help="A word that must be in a blank. Can be given several times."
    ),
    click.option(
        "--ban", multiple=True, metavar="WORD", help="A word that must not be in a blank. Can be given several times."
    ),
    count_option("--no-repeat", help="Allow no sequence of N words to occur twice in the sentence."),
    click.option("--word-count", metavar="A-B", help="Allow from A to B words in the blanks, counted over all blanks."),
    click.option(
        "--diversity",
        metavar="GROUPS:NATS",
        help="Divide the beam among GROUPS. A word that a sentence of an earlier group has at the same position costs "
        "NATS.",
    ),
    click.option(
        "--accept",
        metavar="MODULE:FUNCTION",
        help="Check of finished sentences: a function that takes the text and returns True or False. Sentences that "
        "pass come first. MODULE is a Python module or a .py file.",
    ),
)


def _number(option: str, text: str) -> int:
    if not text.isdecimal():
        raise click.UsageError(f"{option}: {text!r} is not a whole number")
    return int(text)
