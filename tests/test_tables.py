"""Tables for the terminal."""

import dataclasses
import io

import pytest

pytest.importorskip("rich")

from rich.console import Console

from birnn_decode import DecodeResult, Hypothesis, StopReason, Template
from birnn_decode.captions import WordVocabulary
from birnn_decode.evaluation import Interval, Report
from birnn_decode.show.tables import answers_table, report_tables, sentence
from birnn_decode.vocabularies import ByteVocabulary, CharacterVocabulary

WORDS = WordVocabulary(["a", "red", "circle"])  # 4, 5, 6


class Pieces:
    """A vocabulary of word pieces, such as "##ing", which is joined with the piece before it."""

    words = ("a", "surf", "##ing", "un")

    def encode(self, text):
        return [self.words.index(word) for word in text.split()]

    def decode(self, ids):
        return " ".join(self.words[token] for token in ids).replace(" ##", "")


def hypothesis(blanks, tokens, score=-3.0):
    return Hypothesis(tokens, None, blanks, score, 2 * score, score, None, (score,), None)


def result(*hypotheses):
    return DecodeResult(hypotheses, StopReason.DEAD_END, 1, 17, "", (), 0.0123, "none")


def printed(*arguments, color_system=None, **options):
    console = Console(file=io.StringIO(), width=100, color_system=color_system, force_terminal=color_system is not None)
    console.print(answers_table(*arguments, **options))
    return [line.split() if color_system is None else line for line in console.file.getvalue().splitlines()]


def test_what_a_row_says():
    template = Template.blank([4], 1, [6])
    results = {"one": result(hypothesis(((5,),), (4, 5, 6)), hypothesis(((4,),), (4, 4, 6))), "two": result()}
    assert printed(results, WORDS, template, truth=[4, 5, 6], top=2) == [
        ["method", "sentence", "J", "log", "P→", "right", "rows", "ms"],  # a number that no sentence has gets no column
        ["one", "a", "red", "circle", "-6.00", "-3.00", "✓", "17", "12"],
        ["a", "a", "circle", "-6.00", "-3.00"],
        ["two", "no", "sentence", "(dead_end)", "17", "12"],
    ]
    assert "right" not in printed(results, WORDS, template)[0]
    assert len(printed(results, WORDS, template)) == 3


def test_the_score_is_shown_where_lengths_differ():
    for template in (None, Template.blank([4], (0, 2))):
        header, row = printed({"one": result(hypothesis(((5,),), (4, 5), score=-1.5))}, WORDS, template)
        assert header[2:] == ["score", "J", "log", "P→", "rows", "ms"]
        assert row == ["one", "a", "red", "-1.50", "-3.00", "-1.50", "17", "12"]


def test_a_pair_and_a_birnn_side_by_side():
    template = Template.blank([4], 1)
    of_birnn = Hypothesis((4, 5), None, ((5,),), -1.5, None, None, None, None, None, pseudo_log_prob=-1.5)
    lines = printed({"one": result(hypothesis(((5,),), (4, 5))), "two": result(of_birnn)}, WORDS, template)
    assert lines[0] == ["method", "sentence", "J", "log", "P→", "PLL", "rows", "ms"]
    assert lines[1] == ["one", "a", "red", "-6.00", "-3.00", "17", "12"]
    assert lines[2] == ["two", "a", "red", "-1.50", "17", "12"]


def test_checks_of_sentences():
    """A column each, of any name, in their order; a sentence without a text passes none."""
    texts = ["a red", "red circle", None]
    hypotheses = [dataclasses.replace(hypothesis(((5,),), (4, 5)), text=text) for text in texts]
    checks = {"short": lambda text: len(text) < 6, "shape": lambda text: "circle" in text}
    header, *rows = printed({"one": result(*hypotheses)}, WORDS, Template.blank([4], 1), checks=checks, top=3)
    assert header[5:] == ["short", "shape", "rows", "ms"]
    console = Console(file=io.StringIO(), width=100)
    console.print(answers_table({"one": result(*hypotheses)}, WORDS, checks=checks, top=3))
    header, *rows = console.file.getvalue().splitlines()
    marks = [{name: row[header.index(name) :][: len(name)].strip() for name in checks} for row in rows]
    assert [(one["short"], one["shape"]) for one in marks] == [("✓", ""), ("", "✓"), ("", "")]
    assert "right" not in header


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


@pytest.mark.parametrize(
    ("vocabulary", "text", "blanks", "shown"),
    [
        (CharacterVocabulary("CO= "), "C_ O{2}", ["=", "CO"], "C[=] O[CO]"),
        (CharacterVocabulary("CO= "), "C{2}O{0}", [" =", ""], "C [=]O"),
        (ByteVocabulary(), "a{2} b_", ["é", "c"], "a[é] b[c]"),
        (WORDS, "A (_) red, {0-2} circle!", ["red", "a red"], "A ([red]) red, [a red] circle!"),
        (WORDS, "A (_) red, {0-2} circle!", ["red", ""], "A ([red]) red, circle!"),
        (Pieces(), "surf_ a _", ["##ing", "un"], "surf[ing] a [un]"),
        (Pieces(), "un_ a", ["surf"], "un [surf] a"),
    ],
)
@pytest.mark.parametrize("as_text", [True, False])
def test_what_fills_a_blank_is_shown_as_it_stands_in_the_sentence(vocabulary, text, blanks, shown, as_text):
    template = Template.from_text(text, vocabulary)
    fills = iter([vocabulary.encode(fill) for fill in blanks])
    tokens, filled = [], []
    for part in template.parts:
        if not isinstance(part, int):
            filled.append(tuple(next(fills)))
        tokens += [part] if isinstance(part, int) else filled[-1]
    if not as_text:
        template = Template(template.parts)
        if vocabulary is WORDS:
            shown = shown.lower().translate({ord(mark): None for mark in "(),!"})
    written = sentence(hypothesis(tuple(filled), tuple(tokens)), vocabulary, template)
    marks = written.plain
    for span in sorted(written.spans, reverse=True):
        assert span.style == "bold green"
        marks = f"{marks[: span.start]}[{marks[span.start : span.end]}]{marks[span.end :]}"
    assert marks == shown
    assert sentence(hypothesis((), tuple(tokens)), vocabulary, None).plain == vocabulary.decode(tokens)


def test_half_a_character_in_a_blank():
    vocabulary = ByteVocabulary()
    ids = vocabulary.encode("aéb")
    for begin, end, marked in ((1, 2, ""), (2, 3, "é"), (1, 3, "é"), (2, 4, "éb")):
        template = Template.from_tokens([Template.BLANK if begin <= at < end else one for at, one in enumerate(ids)])
        written = sentence(hypothesis((tuple(ids[begin:end]),), tuple(ids)), vocabulary, template)
        assert written.plain == "aéb"
        assert "".join(written.plain[span.start : span.end] for span in written.spans) == marked


def test_a_report():
    figures = {
        method: {"exactly right": Interval(right, right - 0.1, right + 0.2), "J": Interval(joint, joint, joint)}
        for method, right, joint in (("rerank", 0.5, -123.4), ("bscd", 0.625, -7.0))
    }
    many = {f"BLEU-{order}": Interval(0.25, 0.24, 0.28) for order in range(1, 7)}
    for own in figures.values():
        own.update(many, rows=Interval(float("nan"), float("nan"), float("nan")))
    differences = {"rerank": {name: Interval(0.125, -0.05, 0.3) for name in figures["bscd"]}}
    made = Report("", 3, figures, differences, {"rerank": 3.2, "bscd": 4.6}, {}, {}, [])
    console = Console(file=io.StringIO(), width=140)
    for table in report_tables(made):
        console.print(table)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert lines == [
        "method exactly right J rows ms",
        "rerank 0.500 [0.400, 0.700] -123 [-123, -123] - 3",
        "bscd 0.625 [0.525, 0.825] -7.000 [-7.000, -7.000] - 5",
        "method BLEU-1 BLEU-2 BLEU-3 BLEU-4 BLEU-5 BLEU-6",
        "rerank" + 6 * " 0.250 ±0.020",
        "bscd" + 6 * " 0.250 ±0.020",
        "bscd minus exactly right J",
        "rerank +0.125 [-0.050, +0.300] +0.125 [-0.050, +0.300]",
        "bscd minus BLEU-1 BLEU-2 BLEU-3 BLEU-4 BLEU-5 BLEU-6",
        "rerank" + 6 * " +0.125 ±0.175",
    ]
