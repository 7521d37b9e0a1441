import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birnn_decode import Objective, Template, read_templates
from birnn_decode.captions import WordVocabulary
from birnn_decode.spelling import spell
from birnn_decode.template import BLANK, FixedTemplate, Gap, check_against_vocabulary
from birnn_decode.vocabularies import UNK, ByteVocabulary, CharacterVocabulary, Normalisation, SpacedVocabulary


class Words:
    """A vocabulary of words between spaces, made up as they come."""

    def __init__(self):
        self.words = []

    def encode(self, text):
        for word in text.split():
            if word not in self.words:
                self.words.append(word)
        return [self.words.index(word) for word in text.split()]

    def decode(self, ids):
        return " ".join(self.words[token] for token in ids)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("a girl", (0, 1)),
        ("_", (Gap(1, 1),)),
        ("a _ _ _ b", (0, Gap(3, 3), 1)),
        ("a ___ b", (0, Gap(3, 3), 1)),
        ("a {3} b", (0, Gap(3, 3), 1)),
        ("{1-6} b", (Gap(1, 6), 0)),
        ("a {0-2}", (0, Gap(0, 2))),
        ("a { 0 - 2 }", (0, Gap(0, 2))),
        ("a {1-2} _ {0}", (0, Gap(2, 3))),
        ("_ a _", (Gap(1, 1), 0, Gap(1, 1))),
        (r"a \_ \{b} _", (0, 1, 2, Gap(1, 1))),
        (r"a\_b _", (0, Gap(1, 1))),
        ("a {2 words} b", (0, Gap(2, 2), 1)),
        ("a { 1 word } _", (0, Gap(2, 2))),
    ],
)
def test_text(text, parts):
    assert Template.from_text(text, Words()).parts == parts


def test_literal_marks_reach_the_vocabulary_as_themselves():
    words = Words()
    Template.from_text(r"x\_y \{3} _ }", words)
    assert words.words == ["x_y", "{3}", "}"]


@pytest.mark.parametrize(
    "text", ["a {", "a {x}", "{1,3}", "{-1}", "{1-}", "a {} b", "{1-2 words}", "{2words}", "{2 word s}"]
)
def test_text_that_is_no_template(text):
    with pytest.raises(ValueError, match=r"cannot read .*a blank is _, \{3\} or \{1-6\}"):
        Template.from_text(text, Words())


def test_ranges_that_are_none():
    with pytest.raises(ValueError, match=r"must have low <= high <= 10000 words, got 6 to 1 words"):
        Template.from_text("{6-1}", Words())
    with pytest.raises(ValueError, match=r"must have low <= high <= 10000 words, got 3 to 2 words"):
        Template.blank([1], (3, 2), [2])
    with pytest.raises(ValueError, match="100 combinations of widths; at most 64"):
        Template.from_text("{0-9} a {0-9}", Words())
    assert len(Template.from_text("{0-7} a {0-7}", Words()).fixed()) == 64


parts = st.lists(
    st.one_of(
        st.integers(0, 9),
        st.frozensets(st.integers(0, 9), min_size=1, max_size=3),
        st.tuples(st.integers(0, 2), st.integers(0, 1)).map(lambda pair: Gap(pair[0], sum(pair))),
    ),
    max_size=6,
).map(tuple)


@given(parts)
def test_neighbouring_blanks_are_one_and_every_width_is_there(given_parts):
    template = Template(given_parts)
    assert not any(
        isinstance(one, Gap) and isinstance(two, Gap)
        for one, two in zip(template.parts, template.parts[1:], strict=False)
    )
    fixed = template.fixed()
    assert len(set(fixed)) == len(fixed)
    low = sum(part.low if isinstance(part, Gap) else 1 for part in given_parts)
    high = sum(part.high if isinstance(part, Gap) else 1 for part in given_parts)
    assert {len(one) for one in fixed} >= {low, high}
    for one in fixed:
        known = [token for token in one.positions if isinstance(token, int)]
        singles = [next(iter(p)) if isinstance(p, frozenset) else p for p in given_parts if not isinstance(p, Gap)]
        assert known == [
            single
            for single, part in zip(singles, [p for p in given_parts if not isinstance(p, Gap)], strict=True)
            if isinstance(part, int) or len(part) == 1
        ]
        covered = {at for begin, end in one.runs for at in range(begin, end)}
        assert covered == {at for at in range(len(one)) if one.undecided(at)}
        assert len(one.runs) == len(fixed[0].runs)


@given(parts)
def test_text_and_back(given_parts):
    words = Words()
    words.encode("a girl and_ _ {3} \\_ wind } board x")
    template = Template(given_parts)
    if any(isinstance(part, frozenset) for part in template.parts):
        with pytest.raises(ValueError, match="no notation in text"):
            template.to_text(words)
    else:
        assert Template.from_text(template.to_text(words), words) == template


def test_from_ids():
    template = Template.from_tokens([5, Template.BLANK, Template.BLANK, {7, 9}, {3}, 0])
    assert template.parts == (5, Gap(2, 2), frozenset({7, 9}), 3, 0)
    assert template.fixed() == (FixedTemplate((5, BLANK, BLANK, frozenset({7, 9}), 3, 0), ((1, 4),)),)
    assert Template.blank([1], 2, [3]) == Template.from_tokens([1, Template.BLANK, Template.BLANK, 3])
    assert Template.blank([1], (0, 2)).fixed()[0].runs == ((1, 1),)
    assert repr(Template.BLANK) == "BLANK"


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ([5, "word"], TypeError, "part 1 of the template must be an id (0 or larger), a set of ids, or Template.BLANK"),
        ([5, "word"], TypeError, "Template.BLANK, got 'word'"),
        ([set()], ValueError, "part 0 of the template allows no token"),
        (
            [-1],
            ValueError,
            "part 0 of the template must be an id (0 or larger), a set of ids, or Template.BLANK, got -1",
        ),
        ([{3, -2}], ValueError, "got -2"),
        ([1.5], TypeError, "got 1.5"),
        (["7"], TypeError, "got '7'"),
        ([True], TypeError, "got True"),
        ([{2, False}], TypeError, "got False"),
    ],
)
def test_ids_that_are_none(tokens, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Template.from_tokens(tokens)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Template("a _ b"), TypeError, "Template.parts must be a tuple, got 'a _ b'; for text, use"),
        (lambda: Template([5]), TypeError, "Template.parts must be a tuple, got [5]"),
        (lambda: Template.blank([2], 1.5), TypeError, "an integer or a pair (low, high) of integers, got 1.5"),
        (lambda: Template.blank([2], [1, 3]), TypeError, "a pair (low, high) of integers, got [1, 3]"),
        (lambda: Template.blank([2], (1, 2, 3, 4)), TypeError, "a pair (low, high) of integers, got (1, 2, 3, 4)"),
        (lambda: Template.blank([2], True), TypeError, "a pair (low, high) of integers, got True"),
        (lambda: Template.blank([2], "3"), TypeError, "a pair (low, high) of integers, got '3'"),
        (lambda: Gap("1", 2), TypeError, "Gap.low must be a whole number, 0 or larger, got '1'"),
        (lambda: Gap(1, True), TypeError, "Gap.high must be a whole number, 0 or larger, got True"),
        (lambda: Gap(-1, 2), ValueError, "Gap.low must be a whole number, 0 or larger, got -1"),
        (lambda: Gap(0, 10_001), ValueError, "low <= high <= 10000 words, got 0 to 10001 words"),
        (lambda: Gap(1, 2, [3]), TypeError, "Gap.allowed must be a frozenset of ids, or None for any id, got [3]"),
        (
            lambda: Gap(1, 2, frozenset({"3"})),
            TypeError,
            "each id in Gap.allowed must be a whole number, 0 or larger, got",
        ),
        (
            lambda: Gap(1, 2, frozenset({-3})),
            ValueError,
            "each id in Gap.allowed must be a whole number, 0 or larger, got",
        ),
    ],
)
def test_each_field_is_checked(make, error, message):
    with pytest.raises(error, match=rf"^[^\n]*{re.escape(message)}[^\n]*\Z"):
        make()


def test_at_the_door():
    def check(*parts):
        check_against_vocabulary(Template(parts), 5, boundaries={0, 1}, never={0, 1, 2})

    check(3, Gap(1, 1), frozenset({2, 3}), 2)  # an id that is never an answer may be known, or asked for
    with pytest.raises(ValueError, match="has id 5, but the scorers' vocabulary has ids 0 to 4"):
        check(3, 5)
    with pytest.raises(ValueError, match="id 1, which is START or END"):
        check(frozenset({1, 3}))
    with pytest.raises(ValueError, match="allows no word"):
        check_against_vocabulary(Template((Gap(1, 1),)), 2, {0, 1}, {0, 1})
    check_against_vocabulary(Template((Gap(0, 0),)), 2, {0, 1}, {0, 1})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weight_forward": -1}, ValueError, "weight_forward must be a finite number, 0 or larger, got -1"),
        (
            {"weight_backward": float("nan")},
            ValueError,
            "weight_backward must be a finite number, 0 or larger, got nan",
        ),
        ({"weight_forward": "1"}, TypeError, "weight_forward must be a finite number, 0 or larger, got '1'"),
        ({"weight_backward": True}, TypeError, "weight_backward must be a finite number, 0 or larger, got True"),
        ({"weight_backward": None}, TypeError, "weight_backward must be a finite number, 0 or larger, got None"),
        ({"weight_forward": 0, "weight_backward": 0}, ValueError, "must not both be 0"),
        ({"length": "mean"}, ValueError, "\"average\" or a finite number of nats per word, got 'mean'"),
        ({"length": float("inf")}, ValueError, '"average" or a finite number of nats per word, got inf'),
        ({"length": False}, TypeError, '"average" or a finite number of nats per word, got False'),
        ({"length": None}, TypeError, '"average" or a finite number of nats per word, got None'),
        ({"scope": "blanks"}, ValueError, "scope must be 'sentence' or 'blank', got 'blanks'"),
        ({"scope": 1}, TypeError, "scope must be 'sentence' or 'blank', got 1"),
    ],
)
def test_objectives_that_are_none(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Objective(**arguments)


def test_length_rules():
    assert Objective().length_rule("known") == "none"
    assert Objective().length_rule("whole") == "average"
    assert Objective().length_rule("range") == 0.5
    assert Objective(weight_forward=3, weight_backward=0.5).length_rule("range") == 3.5 * 0.25
    assert Objective(weight_forward=3).length_rule("range", weight=1.0) == 0.25
    assert Objective(length=2.0).length_rule("range", weight=1.0) == 2.0
    assert Objective(scope="blank", length="none").length_rule("known") == "none"
    for width in ("range", "whole"):
        with pytest.raises(ValueError, match="the empty blank would always win"):
            Objective(scope="blank", length="none").length_rule(width)


WORDS = WordVocabulary(["a", "and", "big", "dog", "girl", "mans", "red", "wind"])


@pytest.mark.parametrize(
    ("text", "fills", "shown"),
    [
        ("a girl and _ a wind", ["red"], "a girl and red a wind"),
        ("A girl, and _  a Wind!", ["red"], "A girl, and red  a Wind!"),
        ("a {2}, and", ["big dog"], "a big dog, and"),
        ("a {0-2} dog", [""], "a dog"),
        ("a {0-2}, and", [""], "a, and"),
        ("a{0-2}dog", [""], "a dog"),
        ("a{0-2}dog", ["red"], "a red dog"),
        ("a {0-2}", [""], "a"),
        ("{0-2} dog", [""], "dog"),
        ("A dog {0-2}, and {0-2} A Man's", ["", "red"], "A dog, and red A Man's"),
        ("a (_) dog", ["red"], "a (red) dog"),
        ("_ _ dog", ["big red"], "big red dog"),
        ("_, _ dog", ["big red"], "big, red dog"),  # the comma has no ids: to the search it is one blank
        ("a {0-1}, {1-2} dog", ["big red"], "a big, red dog"),
        ("a {0-1}, {1-2} dog", ["big"], "a, big dog"),
        ("- _ -", ["dog"], "- dog -"),
        ("a {2 words} dog", ["big red"], "a big red dog"),
        (r"a \_ _ \{dog}", ["red"], "a _ red {dog}"),
        ("a Girl", [], "a Girl"),
        ("", [], ""),
    ],
)
def test_what_was_known_stands_as_it_was_written(text, fills, shown):
    template = Template.from_text(text, WORDS)
    fills = [WORDS.encode(fill) for fill in fills]
    (fixed,) = (one for one in template.fixed() if [end - begin for begin, end in one.runs] == [*map(len, fills)])
    filled = iter([token for fill in fills for token in fill])
    words = [next(filled) if fixed.undecided(at) else token for at, token in enumerate(fixed.positions)]
    assert spell(template, words, fixed.runs, WORDS) == shown
    bare = Template(template.parts)
    assert bare == template
    assert hash(bare) == hash(template)
    assert spell(bare, words, fixed.runs, WORDS) == WORDS.decode(words)


@given(st.lists(st.sampled_from(["a", "girl", "_", "{0-2}", "{2}", "{1 word}"]), max_size=6), st.data())
def test_lower_case_words_between_spaces_are_spelt_as_the_vocabulary_decodes_them(written, data):
    template = Template.from_text(" ".join(written), WORDS)
    for fixed in template.fixed():
        words = [
            data.draw(st.sampled_from(range(4, 12))) if fixed.undecided(at) else token
            for at, token in enumerate(fixed.positions)
        ]
        assert spell(template, words, fixed.runs, WORDS) == WORDS.decode(words)


def test_blanks_of_certain_ids():
    some, others = frozenset({1, 2}), frozenset({2, 3})
    template = Template((Gap(1, 1, some), Gap(0, 1, some), Gap(0, 1, others), Gap(1, 1), Gap(1, 1)))
    assert template.parts == (Gap(1, 2, some), Gap(0, 1, others), Gap(2, 2))
    assert not template.width_known
    assert template.fixed()[-1] == FixedTemplate((some, some, others, BLANK, BLANK), ((0, 5),))
    with pytest.raises(ValueError, match="no notation in text"):
        template.to_text(Words())
    assert template.within(4, {1}).parts == (Gap(1, 2, frozenset({2})), Gap(0, 1, others), Gap(2, 2))
    assert template.within(9, {2, 3}).parts == (Gap(1, 2, frozenset({1})), Gap(0, 0, frozenset()), Gap(2, 2))
    assert (plain := Template.blank([1], 2)).within(3, {1}) is plain
    with pytest.raises(ValueError, match="at least one id for a blank of up to 2 words, got none"):
        Gap(1, 2, frozenset())
    with pytest.raises(TypeError, match=r"must be a frozenset of ids, or None for any id, got \{1\}"):
        Gap(1, 2, {1})
    with pytest.raises(ValueError, match=r"part 0 of the template\) allows no word: none of its 2 ids"):
        check_against_vocabulary(Template((Gap(1, 1, some),)), 5, {1}, {1, 2})
    with pytest.raises(ValueError, match="none of its 2 ids"):
        check_against_vocabulary(Template((Gap(1, 1, some),)), 1, {0}, ())
    check_against_vocabulary(Template((Gap(0, 1, some),)), 5, {1}, {1, 2})


CHARACTERS = CharacterVocabulary("CO=F/\\_{}()3- \n1é")
EXACT = pytest.mark.parametrize("vocabulary", [CHARACTERS, ByteVocabulary()], ids=lambda one: one.kind)


def known(text, vocabulary=CHARACTERS):
    return tuple(vocabulary.encode(text))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("CC(=O){2-3}C1", (*known("CC(=O)"), Gap(2, 3), *known("C1"))),
        ("C_ O", (*known("C"), Gap(1, 1), *known(" O"))),
        ("_ _", (Gap(1, 1), *known(" "), Gap(1, 1))),
        (" _\n", (*known(" "), Gap(1, 1), *known("\n"))),
        ("  ", known("  ")),
        ("", ()),
        ("__{2}", (Gap(4, 4),)),
        (r"F/C=C\F", known(r"F/C=C\F")),
        (r"F/C=C\\_", (*known("F/C=C\\"), Gap(1, 1))),
        (r"F/C=C\\\\{3}", (*known(r"F/C=C\\"), Gap(3, 3))),
        (r"\_\{3}", known("_{3}")),
        (r"\\\_\\\{3}", known(r"\_\{3}")),
        (r"\\C\}", known(r"\\C\}")),
        ("C}_", (*known("C}"), Gap(1, 1))),
        ("C\\", known("C\\")),
        (r"C\ _", (*known("C\\ "), Gap(1, 1))),
    ],
)
def test_characters(text, parts):
    template = Template.from_text(text, CHARACTERS)
    assert template == Template(parts)
    assert template == Template.from_text(template.to_text(CHARACTERS), CHARACTERS)


@pytest.mark.parametrize("text", [r"\{x", r"\\\{x", "}", r"\}"])
def test_a_brace_is_literal_behind_an_odd_number_of_backslashes(text):
    Template.from_text(text, Words())
    if "{" in text:
        with pytest.raises(ValueError, match=r"^cannot read '\{x' in the template"):
            Template.from_text("\\" + text, Words())


marked = st.text(st.sampled_from("CO\\_{}3- é"), max_size=8)


@EXACT
@given(st.data())
def test_exact_text_and_back(vocabulary, data):
    """Known text and blanks in turn: written as text, read again, and filled, nothing is added and nothing is lost."""
    pieces = data.draw(st.lists(marked, min_size=1, max_size=4))
    gaps = [data.draw(st.sampled_from([Gap(0, 0), Gap(1, 1), Gap(3, 3), Gap(0, 2), Gap(1, 4)])) for _ in pieces[1:]]
    parts = [*vocabulary.encode(pieces[0])]
    for gap, piece in zip(gaps, pieces[1:], strict=True):
        parts += [gap, *vocabulary.encode(piece)]
    template = Template(tuple(parts))
    text = template.to_text(vocabulary)
    read = Template.from_text(text, vocabulary)
    assert read == template
    assert read.to_text(vocabulary) == text
    fixed = data.draw(st.sampled_from(template.fixed()))
    size = len(vocabulary) - 4
    words = [
        4 + data.draw(st.integers(0, size - 1)) if fixed.undecided(at) else token
        for at, token in enumerate(fixed.positions)
    ]
    assert spell(read, words, fixed.runs, vocabulary) == vocabulary.decode(words)
    assert spell(template, words, fixed.runs, vocabulary) == vocabulary.decode(words)


@given(marked)
def test_backslashes_and_marks_of_words(text):
    """Known words come back as they are, whatever marks and backslashes they have."""
    words = Words()
    template = Template((*words.encode(text), Gap(1, 1), *words.encode(f"\\ {text}")))
    assert Template.from_text(template.to_text(words), words) == template


def test_known_text_is_kept_where_a_vocabulary_changes_it():
    vocabulary = CharacterVocabulary("aé ", Normalisation(lower_case=True, unicode_form="NFC"))
    template = Template.from_text("A {1-2}\N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT} {0}", vocabulary)
    assert template.parts == (*known("a ", vocabulary), Gap(1, 2), *known("é ", vocabulary), Gap(0, 0))
    words = [*known("a  a", vocabulary), *known("é ", vocabulary)]
    runs = ((2, 4), (6, 6))
    assert spell(template, words, runs, vocabulary) == "A  a\N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT} "
    assert template.to_text(vocabulary) == "a {1-2}é {0}"


def test_what_characters_cannot_say():
    with pytest.raises(ValueError, match=r"^\{2 words\} counts words, and the vocabulary .* count its tokens"):
        Template.from_text("C{2 words}", CHARACTERS)
    with pytest.raises(ValueError, match="lacks the character 'X'"):
        Template.from_text("CX_", CHARACTERS)
    for parts in ((UNK, Gap(1, 1)), (*ByteVocabulary().encode("é")[:1], Gap(1, 1))):
        for vocabulary in (CHARACTERS, ByteVocabulary()):
            if max(part for part in parts if isinstance(part, int)) < len(vocabulary):
                with pytest.raises(ValueError, match=r"^no text reads back as this template"):
                    Template(parts).to_text(vocabulary)


class TestFiles:
    def write(self, tmp_path, data):
        path = tmp_path / "templates.txt"
        path.write_bytes(data)
        return path

    def test_lines(self, tmp_path):
        """Only line feeds end a line."""
        lines = ["a_", " C{1-2}\x0c_ ", "a\u2028_\x85", "\ra\r_", "  ", "no blank"]
        vocabulary = CharacterVocabulary(sorted({*"".join(lines)} - {*"_{}12-"}))
        wanted = [Template.from_text(line, vocabulary) for line in lines]
        for end in ("\n", "\r\n"):
            for last in ("", end):
                for begin in ("", "\N{ZERO WIDTH NO-BREAK SPACE}"):
                    path = self.write(tmp_path, (begin + end.join(lines) + last).encode())
                    found = read_templates(path, vocabulary)
                    assert found == wanted
                    assert [one.spelling for one in found] == [one.spelling for one in wanted]
                    assert read_templates(str(path), vocabulary) == wanted

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "templates.txt is empty: write one template per line"),
            (b"ein _\n\nein _\n", "templates.txt, line 2: there is no template"),
            (b"\n", "templates.txt, line 1: there is no template"),
            (b"ein _\n \n", "templates.txt, line 2: there is no template"),
            (b"ein _\r\nein {\r\n", "templates.txt, line 2: cannot read '{' in the template 'ein {'"),
            (b"ein _\nein {3-1}", "templates.txt, line 2: a blank must have low <= high"),
            (b"ein {0-9} ein {0-9}", "templates.txt, line 1: the blanks of this template have 100 combinations"),
            (b"ein\nein Hand _\n", "templates.txt, line 2: the vocabulary lacks 'Hand'; near it: Hund"),
            ("ein\nschläft _".encode("latin-1"), "templates.txt, line 2: byte 0xe4 is not UTF-8"),
            ("ein _\n".encode("utf-16"), "templates.txt, line 1: byte 0xff is not UTF-8"),
        ],
    )
    def test_what_is_wrong(self, tmp_path, data, message):
        vocabulary = SpacedVocabulary(["ein", "Hund", "schläft"])
        with pytest.raises(ValueError, match=rf"^\S*{re.escape(message)}[^\n]*$"):
            read_templates(self.write(tmp_path, data), vocabulary)

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"^there is no file of templates .*none$"):
            read_templates(tmp_path / "none", CHARACTERS)
        with pytest.raises(IsADirectoryError, match=r"is a folder, not a file of templates$"):
            read_templates(tmp_path, CHARACTERS)
