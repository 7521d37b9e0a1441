"""Every argument of `decode` and every field of every method, wrong in type and in value: the error names it."""

import dataclasses
import inspect
import re
import types

import numpy as np
import pytest
from tables import TableScorer, pair, words_of

from birnn_decode import (
    BSCD,
    BanWords,
    BeamSearch,
    Diversity,
    Exact,
    Gibbs,
    JointModel,
    MustAppear,
    Objective,
    Pair,
    Rerank,
    Template,
    bscd_decode,
    compare,
    decode,
    score_sentences,
)

V = 6
FORWARD, BACKWARD = pair(0, V)
MODELS, JOINED, FORWARD_ONLY = Pair(FORWARD, BACKWARD), JointModel(FORWARD, BACKWARD), Pair(FORWARD, None)
TEMPLATE, OPEN = Template.blank([2], 1, [3]), Template.blank([2], (0, 2), [3])
METHODS = (BSCD, BeamSearch, Rerank, Gibbs, Exact)


@dataclasses.dataclass(frozen=True)
class Wrong:
    """An argument that cannot be right.

    Attributes:
        owner: `decode`, or the class of a method.
        name: of the argument.
        given: its value.
        error: what is raised.
        shown: what of the value the message shows; None: its repr.
        called: what the message calls the argument, if not its name.
        others: the other arguments.
    """

    owner: object
    name: str
    given: object
    error: type
    shown: str | None = None
    called: str | None = None
    others: dict = dataclasses.field(default_factory=dict)

    def __str__(self):
        given = re.sub(r" at 0x[0-9a-f]+", "", repr(self.given))  # every process of a test run finds the same names
        return f"{self.owner.__name__}, {self.name}={given}"[:60]

    def ask(self):
        """Make the method, and ask it if that is no error yet; or ask `decode` itself."""
        if self.owner is decode:
            arguments = {"models": MODELS, "source": 0, "template": TEMPLATE, **self.others, self.name: self.given}
            return decode(**arguments)
        return decode(MODELS, 0, TEMPLATE, self.owner(**{**self.others, self.name: self.given}))


def wrongs(owner, name, error, *given, **more):
    return [Wrong(owner, name, one, error, **more) for one in given]


ARRAY = np.array([1, 2])
NO_COUNTS = (2.5, "2", [2], True, ARRAY)
WHOLE = {"template": None}
BACKWARD_BEAM = {"direction": "backward"}
NO_WORDS = types.SimpleNamespace(encode=None, decode=None)  # a vocabulary that is never asked

TABLE = [
    *wrongs(decode, "models", TypeError, None, "a text", FORWARD, (FORWARD, BACKWARD), shown="got"),
    *wrongs(decode, "models", TypeError, Pair(None, None), shown="None and None"),
    *wrongs(decode, "models", TypeError, Pair(FORWARD, 3), shown="builtins.int", called="the backward model"),
    *wrongs(decode, "models", ValueError, Pair(FORWARD, pair(1, 9)[1]), shown="6 ids", called="the forward model"),
    *wrongs(decode, "source", ValueError, [0, 1], shown="2", others={"template": [TEMPLATE]}),
    *wrongs(decode, "template", TypeError, 5, (2, 3), b"a _"),
    *wrongs(decode, "template", TypeError, [5], shown="5"),
    *wrongs(decode, "template", TypeError, "a _", shown="vocabulary"),
    *wrongs(decode, "template", ValueError, Template((9,)), shown="9"),
    *wrongs(decode, "method", TypeError, "bscd", None, 3, BSCD, [BSCD()]),
    *wrongs(decode, "beam_size", TypeError, None, *NO_COUNTS),
    *wrongs(decode, "beam_size", ValueError, 0, -1),
    *wrongs(decode, "objective", TypeError, None, "average", 1.0, Objective),
    *wrongs(
        decode,
        "objective",
        ValueError,
        Objective(scope="blank", length="none"),
        shown='length="none"',
        called="scope",
        others={"template": OPEN},
    ),
    *wrongs(decode, "vocabulary", TypeError, {"a": 1}, 5, shown="builtins."),
    *wrongs(decode, "constraints", TypeError, None, "banned", 5, MustAppear([3]), {3: 4}),
    *wrongs(decode, "constraints", TypeError, [3], shown="3"),
    *wrongs(decode, "constraints", TypeError, [None], shown="None"),
    *wrongs(decode, "constraints", TypeError, [BanWords], shown="BanWords"),
    *wrongs(decode, "constraints", TypeError, [BanWords(["word"])], shown="'word'", called="constraint"),
    *wrongs(decode, "constraints", ValueError, [MustAppear([77])], shown="77", called="must appear"),
    *wrongs(decode, "constraints", ValueError, [MustAppear([3, 4])], shown="must appear: 3, 4"),
    *wrongs(decode, "accept", TypeError, 5, "is_molecule", True, others={"vocabulary": NO_WORDS}),
    *wrongs(decode, "accept", TypeError, bool, shown="vocabulary"),
    *wrongs(decode, "diversity", TypeError, 0.5, (2, 0.5), Diversity),
    *wrongs(decode, "diversity", ValueError, Diversity(2, 0.5), shown="2 groups", called="beam_size"),
    *wrongs(decode, "widths", TypeError, 3, "23", 2.0, others=WHOLE),
    *wrongs(decode, "widths", TypeError, [2, "x"], shown="'x'", others=WHOLE),
    *wrongs(decode, "widths", TypeError, [2.5], shown="2.5", others=WHOLE),
    *wrongs(decode, "widths", TypeError, [True], shown="True", others=WHOLE),
    *wrongs(decode, "widths", ValueError, [], others=WHOLE),
    *wrongs(decode, "widths", ValueError, [-1], shown="-1", others=WHOLE),
    *wrongs(decode, "widths", ValueError, [5], others={**WHOLE, "max_length": 4}),
    *wrongs(decode, "widths", ValueError, [2], shown="template"),
    *wrongs(decode, "min_length", TypeError, None, *NO_COUNTS, others=WHOLE),
    *wrongs(decode, "min_length", ValueError, -1, others=WHOLE),
    *wrongs(decode, "min_length", ValueError, 5, others={**WHOLE, "max_length": 4}),
    *wrongs(decode, "min_length", ValueError, 2, shown="template"),
    *wrongs(decode, "max_length", TypeError, *NO_COUNTS, others=WHOLE),
    *wrongs(decode, "max_length", ValueError, -1, others=WHOLE),
    *wrongs(decode, "max_length", ValueError, 9, shown="template"),
    *wrongs(decode, "memory_limit", TypeError, "1 GB", *NO_COUNTS),
    *wrongs(decode, "memory_limit", ValueError, 0, -1),
    *wrongs(decode, "rows_per_call", TypeError, "8", *NO_COUNTS),
    *wrongs(decode, "rows_per_call", ValueError, 0, -1),
    *wrongs(decode, "record", TypeError, None, 1, "yes"),
    *wrongs(BSCD, "max_rounds", TypeError, None, *NO_COUNTS),
    *wrongs(BSCD, "max_rounds", ValueError, -1),
    *wrongs(BSCD, "prior", TypeError, "x", {"a": 1}),
    *wrongs(BSCD, "prior", ValueError, 0.0, shown="()"),
    *wrongs(BSCD, "prior", ValueError, np.full(V, np.nan), np.full(V, np.inf), shown="NaN or +inf"),
    *wrongs(BSCD, "prior", ValueError, np.zeros((1, 1, V)), shown="(1, 1, 6)"),
    *wrongs(BSCD, "prior", ValueError, np.zeros(5), shown="(5,)"),
    *wrongs(BSCD, "prior", ValueError, np.zeros((2, V)), shown="2 positions"),
    *wrongs(BSCD, "splices", TypeError, None, 1, "no"),
    *wrongs(BSCD, "prior_weight", TypeError, None, "x", True, [1.0]),
    *wrongs(BSCD, "prior_weight", ValueError, float("inf"), float("nan")),
    *wrongs(BeamSearch, "direction", TypeError, None, 1, ["forward"]),
    *wrongs(BeamSearch, "direction", ValueError, "left", ""),
    *wrongs(BeamSearch, "rank", TypeError, None, 1, others=BACKWARD_BEAM),
    *wrongs(BeamSearch, "rank", ValueError, "end", others=BACKWARD_BEAM),
    *wrongs(Gibbs, "sweeps", TypeError, None, *NO_COUNTS),
    *wrongs(Gibbs, "sweeps", ValueError, 0, -1),
    *wrongs(Gibbs, "rows", TypeError, 1.5, "5", b"5", True, BSCD, ARRAY),
    *wrongs(Gibbs, "rows", TypeError, [5, None], shown="None"),
    *wrongs(Gibbs, "rows", ValueError, 0, -1),
    *wrongs(Gibbs, "rows", ValueError, [0], shown="0"),
    *wrongs(Gibbs, "rows", ValueError, [5, 6], shown="2"),
    *wrongs(Gibbs, "scan", TypeError, None, 1),
    *wrongs(Gibbs, "scan", ValueError, "zigzag"),
    *wrongs(Gibbs, "restart_after", TypeError, None, *NO_COUNTS),
    *wrongs(Gibbs, "restart_after", ValueError, 0),
    *wrongs(Gibbs, "seed", TypeError, None, *NO_COUNTS),
    *wrongs(Gibbs, "seed", ValueError, -1),
    *wrongs(Exact, "max_rounds", TypeError, None, *NO_COUNTS),
    *wrongs(Exact, "max_rounds", ValueError, -1),
    *wrongs(Exact, "max_rows", TypeError, None, *NO_COUNTS),
    *wrongs(Exact, "max_rows", ValueError, 0),
    *wrongs(Exact, "max_seconds", TypeError, "1", True, [1.0]),
    *wrongs(Exact, "max_seconds", ValueError, 0, -1.5, float("nan")),
    *wrongs(Exact, "mass", TypeError, "1", True, [0.5]),
    *wrongs(Exact, "mass", ValueError, 0, -0.5, 1.01, float("nan")),
]

# What has no value of the right type that is wrong by itself; and a source, which may be anything.
NEVER_WRONG_IN_VALUE = {
    (decode, "method"),
    (decode, "vocabulary"),
    (decode, "accept"),
    (decode, "record"),
    (BSCD, "splices"),
}
NEVER_WRONG_IN_TYPE = {(decode, "source")}


@pytest.fixture(autouse=True)
def nothing_read():
    """What one test lets through a model is not counted in the next."""
    FORWARD.read.clear()
    BACKWARD.read.clear()


def assert_names(raised, *parts):
    message = str(raised.value)
    assert 1 <= len(message.splitlines()) <= 2
    assert all(part in message for part in parts), message
    assert not FORWARD.read, "something went through a model before the error"
    assert not BACKWARD.read, "something went through a model before the error"


@pytest.mark.parametrize("wrong", TABLE, ids=str)
def test_the_error_names_the_argument_and_what_was_given(wrong):
    with pytest.raises(wrong.error) as raised:
        wrong.ask()
    # ValueError has classes below it that say something else, such as UnicodeError.
    assert raised.type.__module__ == "builtins" or raised.type.__module__.startswith("birnn_decode")
    shown = repr(wrong.given) if wrong.shown is None else wrong.shown
    assert_names(raised, wrong.called or wrong.name, shown)


def test_the_table_is_complete():
    """Of every argument a wrong type and a wrong value, as far as there are such."""
    asked = {(decode, name) for name in inspect.signature(decode).parameters}
    asked |= {(method, one.name) for method in METHODS for one in dataclasses.fields(method) if one.init}
    assert {(one.owner, one.name) for one in TABLE} == asked
    assert {(one.owner, one.name) for one in TABLE if one.error is TypeError} == asked - NEVER_WRONG_IN_TYPE
    assert {(one.owner, one.name) for one in TABLE if one.error is ValueError} == asked - NEVER_WRONG_IN_VALUE


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_field_is_no_option(method):
    needed = {"direction": "forward"} if method is BeamSearch else {}
    with pytest.raises(TypeError, match="beam_size"):
        method(**needed, beam_size=5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method(**needed).name = "x"


@pytest.mark.parametrize(
    "ask", [decode, compare, lambda *given, **own: bscd_decode(FORWARD, BACKWARD, *given[1:], **own)]
)
def test_what_is_no_keyword_is_named(ask):
    with pytest.raises(TypeError) as raised:
        ask(MODELS, 0, TEMPLATE, beamsize=5)
    assert_names(raised, "beamsize", "beam_size")


@pytest.mark.parametrize("size", [np.int64(2), np.uint8(2)])
def test_whole_numbers_of_numpy_are_whole_numbers(size):
    models = Pair(*pair(1, V))
    found = decode(models, 0, TEMPLATE, BSCD(max_rounds=size), beam_size=size, memory_limit=np.int32(10**6))
    assert found.hypotheses == decode(models, 0, TEMPLATE, BSCD(max_rounds=2), beam_size=2).hypotheses
    assert len(found.hypotheses) == 2


COMBINATIONS = {
    "beam search with the model that is not there": (
        lambda: decode(FORWARD_ONLY, 0, TEMPLATE, BeamSearch("backward")),
        ("BeamSearch(direction='backward'", "backward model"),
    ),
    "beam search forward without a forward model": (
        lambda: decode(Pair(None, BACKWARD), 0, TEMPLATE, BeamSearch("forward")),
        ("BeamSearch(direction='forward'", "forward model"),
    ),
    "BSCD with one model": (lambda: decode(FORWARD_ONLY, 0, TEMPLATE, BSCD()), ("BSCD(", "backward model")),
    "the rerank with one model": (lambda: decode(FORWARD_ONLY, 0, TEMPLATE, Rerank()), ("Rerank(", "backward model")),
    "sampling with one model": (lambda: decode(FORWARD_ONLY, 0, TEMPLATE, Gibbs()), ("Gibbs(", "backward model")),
    "sampling with the rows of what cannot be": (
        lambda: decode(FORWARD_ONLY, 0, TEMPLATE, Gibbs(rows=BSCD())),
        ("Gibbs(", "backward model"),
    ),
    "a proof with one model": (lambda: decode(FORWARD_ONLY, 0, TEMPLATE, Exact()), ("Exact(", "backward model")),
    "bscd_decode with one model": (lambda: bscd_decode(None, BACKWARD, 0, TEMPLATE), ("BSCD(", "forward model")),
    "a comparison with one model": (
        lambda: compare(FORWARD_ONLY, 0, TEMPLATE, ["urnn-f", "rerank"]),
        ("Rerank(", "backward model"),
    ),
    "a proof of a whole caption": (lambda: decode(MODELS, 0, None, Exact()), ("Exact(", "widths")),
    "a proof of whole captions among templates": (
        lambda: decode(MODELS, 0, [TEMPLATE, None], Exact()),
        ("Exact(", "widths"),
    ),
    "a proof with a joint model": (lambda: decode(JOINED, 0, TEMPLATE, Exact()), ("Exact(", "Pair")),
    "a prior with a joint model": (lambda: decode(JOINED, 0, TEMPLATE, BSCD(prior=np.zeros(V))), ("prior", "Pair")),
    "half a joint model ranked by the sentence": (
        lambda: decode(JOINED, 0, TEMPLATE, BeamSearch("forward", rank="sentence")),
        ("rank='sentence'", "Pair"),
    ),
    "a whole caption by a joint model": (lambda: decode(JOINED, 0), ("joint model", "widths")),
    "a whole caption by half a joint model": (
        lambda: decode(JOINED, 0, None, BeamSearch("forward")),
        ("joint model", "widths"),
    ),
    "gradients of a joint model": (
        lambda: score_sentences(JOINED, 0, [[2, 3]], gradients=True),
        ("gradients=True", "Pair"),
    ),
    "weights of a joint model": (
        lambda: decode(JOINED, 0, TEMPLATE, objective=Objective(2.0, 1.0)),
        ("weight_forward=2.0", "joint model"),
    ),
    "an empty blank that would win": (
        lambda: decode(JOINED, 0, OPEN, objective=Objective(scope="blank")),
        ('scope="blank"', "length="),
    ),
    "lengths that cross": (
        lambda: decode(MODELS, 0, min_length=5, max_length=4),
        ("min_length=5", "max_length=4"),
    ),
    "rows for other items": (
        lambda: decode(MODELS, [0, 1, 2], TEMPLATE, Gibbs(rows=[5, 6])),
        ("rows", "2 numbers", "3 items"),
    ),
    "two methods of one name": (
        lambda: compare(MODELS, 0, TEMPLATE, [BSCD(), BSCD(max_rounds=1)]),
        ("methods", "'bscd'"),
    ),
    "a method that is not known": (
        lambda: compare(MODELS, 0, TEMPLATE, ["bscd", "viterbi"]),
        ("methods", "'viterbi'", "urnn-f"),
    ),
    "nothing left to score by": (
        lambda: score_sentences(FORWARD_ONLY, 0, [[2]], objective=Objective(0, 1)),
        ("weight_forward=0", "weight 0"),
    ),
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_what_does_not_go_together(name):
    ask, parts = COMBINATIONS[name]
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the parts are compared below
        ask()
    assert_names(raised, *parts)


def test_no_method():
    with pytest.raises(ValueError, match="methods is empty") as raised:
        compare(MODELS, 0, TEMPLATE, [])
    assert_names(raised, "methods")


@pytest.mark.parametrize("given", ["bscd", BSCD(), 3, {"bscd"}, [BSCD], [3]])
def test_what_are_no_methods(given):
    with pytest.raises(TypeError) as raised:
        compare(MODELS, 0, TEMPLATE, given)
    assert_names(raised, "methods", repr(given[0] if given in ([BSCD], [3]) else given))


@pytest.mark.parametrize(
    ("given", "error", "parts"),
    [
        ("a b", TypeError, ("sentences", "'a b'")),
        (5, TypeError, ("sentences", "5")),
        (None, TypeError, ("sentences", "None")),
        ([5], TypeError, ("sentence", "5")),
        ([[2.5]], TypeError, ("sentence", "2.5")),
        (["a"], TypeError, ("sentence", "vocabulary")),
        ([[2, 9]], ValueError, ("sentence", "9")),
        ([[0]], ValueError, ("sentence", "0")),
    ],
)
def test_what_are_no_sentences(given, error, parts):
    for models in (MODELS, JOINED, FORWARD_ONLY):
        with pytest.raises(error) as raised:
            score_sentences(models, 0, given)
        assert_names(raised, *parts)


def test_what_is_right_is_answered():
    """The question that the table changes one thing of."""
    models = [TableScorer(0, V), pair(0, V)[1]]
    for method in (BSCD(), BeamSearch("backward"), Rerank(), Gibbs(), Exact()):
        found = decode(Pair(*models), 0, TEMPLATE, method)
        assert {one.tokens for one in found.hypotheses} == {(2, word, 3) for word in words_of(V)}
    assert decode(Pair(*models), 0, max_length=4).hypotheses
