"""Tables for the terminal."""

import io

import pytest

pytest.importorskip("rich")

from rich.console import Console

from birnn_decode import DecodeResult, Hypothesis, StopReason, Template
from birnn_decode.captions import WordVocabulary
from birnn_decode.show.tables import answers_table

WORDS = WordVocabulary(["a", "red", "circle"])  # 4, 5, 6


def hypothesis(blanks, tokens, score=-3.0):
    return Hypothesis(tokens, None, blanks, score, 2 * score, score, None, (score,), None)


def result(*hypotheses):
    return DecodeResult(hypotheses, StopReason.DEAD_END, 1, 17, "", (), seconds=0.0123)


def printed(*arguments, color_system=None, **options):
    console = Console(file=io.StringIO(), width=100, color_system=color_system, force_terminal=color_system is not None)
    console.print(answers_table(*arguments, **options))
    return [line.split() if color_system is None else line for line in console.file.getvalue().splitlines()]


def test_what_a_row_says():
    template = Template.blank([4], 1, [6])
    results = {"one": result(hypothesis(((5,),), (4, 5, 6)), hypothesis(((4,),), (4, 4, 6))), "two": result()}
    assert printed(results, WORDS, template, truth=[4, 5, 6], top=2) == [
        ["method", "sentence", "J", "log", "P→", "log", "P←", "right", "rows", "ms"],
        ["one", "a", "red", "circle", "-6.00", "-3.00", "✓", "17", "12"],
        ["a", "a", "circle", "-6.00", "-3.00"],
        ["two", "no", "sentence", "(dead_end)", "17", "12"],
    ]
    assert "right" not in printed(results, WORDS, template)[0]
    assert len(printed(results, WORDS, template)) == 3


def test_the_score_is_shown_where_lengths_differ():
    for template in (None, Template.blank([4], (0, 2))):
        header, row = printed({"one": result(hypothesis(((5,),), (4, 5), score=-1.5))}, WORDS, template)
        assert header[2:4] == ["score", "J"]
        assert row == ["one", "a", "red", "-1.50", "-3.00", "-1.50", "17", "12"]


def test_missing_words_stand_out():
    template = Template.from_tokens([Template.BLANK, 4, {5, 6}])
    _, line = printed({"one": result(hypothesis(((5,), (6,)), (5, 4, 6)))}, WORDS, template, color_system="standard")
    assert "\x1b[1;32mred\x1b[0m a \x1b[1;32mcircle\x1b[0m" in line
    _, line = printed(
        {"one": result(hypothesis(((), (5,)), (4, 5)))},
        WORDS,
        Template.from_text("{0} a _", WORDS),
        color_system="standard",
    )
    assert " a \x1b[1;32mred\x1b[0m" in line
