"""A check of finished sentences: against enumeration, by every method; and the search stays as it is."""

import itertools
import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import reference
import reference_joint
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import START, TableScorer, pair, reference_template, seeds, table_options, templates
from test_constraints import EVERY, KINDS, WORDS, Lowers, V, drawn, enumerated, problem

from birnn_decode import (
    BSCD,
    BeamSearch,
    Diversity,
    Exact,
    Gibbs,
    JointModel,
    NoRepeatedNgram,
    Objective,
    Pair,
    Rerank,
    Template,
    bscd_decode,
    compare,
    decode,
)
from birnn_decode.search.holding import Demands

BLANK = Template.BLANK
NAMES = "·∎abcd"
SURE = Exact(max_rows=10**9)
METHODS = [
    BeamSearch("forward"),
    BeamSearch("backward"),
    BeamSearch("forward", "sentence"),
    BeamSearch("backward", "sentence"),
    Rerank(),
    Gibbs(sweeps=6),
    BSCD(),
    SURE,
]
SINGLE = [one for one in METHODS if isinstance(one, BeamSearch)]
BY_J = METHODS[4:]
WITH_JOINT = [one for one in METHODS[:-1] if getattr(one, "rank", "blank") == "blank"]


class Letters:
    """A vocabulary of one letter per id, upper and lower case alike."""

    def encode(self, text):
        return [NAMES.index(word.lower()) for word in text.split()]

    def decode(self, ids):
        return " ".join(NAMES[token] for token in ids)


LETTERS = Letters()


class Accepts:
    """A check that accepts about a share of all texts, and remembers what it was asked."""

    def __init__(self, seed, share=0.5):
        self.seed, self.share, self.asked = seed, share, []
        self.__name__ = "drawn"

    def says(self, words):
        text = LETTERS.decode(words)
        return zlib.crc32(f"{self.seed} {text}".encode()) % 1000 < 1000 * self.share

    def __call__(self, text):
        self.asked.append(text)
        return self.says(LETTERS.encode(text))


def yes(text):
    return True


def no(text):
    return False


def in_order(scored, check, k):
    """The k best of (score, words): accepted ones first. For each also whether it is rejected."""
    ranked = sorted(scored, key=lambda one: (not check.says(one[1]), -one[0], one[1]))
    return [(words, score, not check.says(words)) for score, words in ranked[:k]]


def assert_answers(result, expected):
    assert [one.tokens for one in result.hypotheses] == [words for words, _, _ in expected]
    assert [one.score for one in result.hypotheses] == pytest.approx([score for _, score, _ in expected], abs=1e-9)
    assert ["accept:drawn" in one.broken for one in result.hypotheses] == [rejected for _, _, rejected in expected]
    assert [one.text for one in result.hypotheses] == [LETTERS.decode(words) for words, _, _ in expected]


def nothing_but(result):
    """What must not depend on a batch."""
    return result.hypotheses, result.rows_evaluated, result.stop, result.proved, result.upper_bound


@pytest.fixture
def met(monkeypatch):
    """The words of every sentence that a search has met."""
    met, settle = set(), Demands.settle

    def settle_and_tell(self, finalists, weights):
        finalists = list(finalists)
        met.update(one.words for one in finalists)
        settle(self, finalists, weights)

    monkeypatch.setattr(Demands, "settle", settle_and_tell)
    return met


# ----------------------------------------------------------------------------------------------- against enumeration


@pytest.mark.parametrize("method", [BSCD(max_rounds=1), Rerank(), SURE], ids=str)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_beam_that_holds_everything_equals_enumeration(method, share):
    for seed in range(12):
        models, template, objective = problem(seed)
        expected, _ = enumerated(models, template, objective, [])
        for few in {EVERY, 4} if method == SURE else {EVERY}:
            check = Accepts(seed, share)
            result = decode(
                Pair(*models),
                None,
                template,
                method,
                beam_size=few,
                objective=objective,
                vocabulary=LETTERS,
                accept=check,
            )
            assert_answers(result, in_order(expected, check, few))
            assert len(set(check.asked)) == len(check.asked)
            if method == SURE and expected:
                accepted = [score for score, words in expected if check.says(words)]
                assert result.proved
                assert result.gap == 0
                assert result.upper_bound == pytest.approx(max(accepted, default=-math.inf))


@pytest.mark.parametrize("method", SINGLE[2:], ids=str)
def test_one_model_alone_equals_enumeration(method):
    weights = (1.0, 0.0) if method.direction == "forward" else (0.0, 1.0)
    for seed in range(25):
        models, template, _ = problem(seed)
        expected, _ = enumerated(models, template, Objective(*weights, length="none"), [])
        check = Accepts(seed)
        options = {"objective": Objective(length="none"), "vocabulary": LETTERS, "accept": check}
        result = decode(Pair(*models), None, template, method, beam_size=EVERY, **options)
        assert_answers(result, in_order(expected, check, EVERY))


@pytest.mark.parametrize("method", [BSCD(max_rounds=1), Rerank(), Gibbs(sweeps=40)], ids=str)
def test_a_model_with_one_softmax_equals_enumeration(method, met):
    """Gibbs sampling is held against the enumeration of what it has met."""
    for seed in range(12):
        models, template, _ = problem(seed)
        both = [model.model().log_probs for model in models]
        conditionals = reference_joint.Conditionals(reference_joint.additive(*both))
        check = Accepts(seed)
        options = {"objective": Objective(length="none"), "vocabulary": LETTERS, "accept": check}
        met.clear()
        few = 3 if isinstance(method, Gibbs) else EVERY
        result = decode(JointModel(*models), None, template, method, beam_size=few, **options)
        scored = []
        for fixed in template.fixed():
            for words in reference.sentences(reference_template(fixed.positions, WORDS)[0]):
                if words in met or not isinstance(method, Gibbs):
                    scored.append((reference_joint.pseudo_log_likelihood(conditionals, words), words))
        expected = reference.top(scored, len(scored))
        assert_answers(result, in_order(expected, check, few))


@settings(max_examples=120)
@given(
    seed=seeds,
    method=st.sampled_from(BY_J),
    beam_size=st.integers(1, 4),
    share=st.sampled_from([0.1, 0.5, 0.9]),
    kinds=st.lists(st.sampled_from(KINDS), max_size=2),
)
def test_the_answers_are_the_best_of_what_was_met(seed, method, beam_size, share, kinds):
    """Whatever a search has met, with and without constraints. Without splices, the check changes nothing of it."""
    rng = np.random.default_rng(seed)
    models, template, objective = problem(seed)
    drawn_ones = [drawn(kind, rng) for kind in kinds]
    satisfying, possible = enumerated(models, template, objective, drawn_ones)
    if not possible:
        return
    hooks = [one for one in drawn_ones if isinstance(one[0], Lowers)]
    every, _ = enumerated(models, template, objective, hooks)
    check = Accepts(seed, share)
    options = {"beam_size": beam_size, "objective": objective, "constraints": [one for one, _ in drawn_ones]}
    found, settle = {}, Demands.settle

    def settle_and_tell(self, finalists, weights):
        finalists = list(finalists)
        found.setdefault(bool(self.checks), set()).update(one.words for one in finalists)
        settle(self, finalists, weights)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Demands, "settle", settle_and_tell)
        plain = decode(Pair(*models), None, template, method, vocabulary=LETTERS, **options)
        result = decode(Pair(*models), None, template, method, vocabulary=LETTERS, accept=check, **options)
    met = found.get(True, set())
    steered = method in (BSCD(), SURE)  # the check is asked about splices, too, and accepted ones are read first
    assert len(check.asked) == len(set(check.asked))
    assert (
        set(check.asked) >= set(map(LETTERS.decode, met))
        if steered
        else sorted(check.asked) == sorted(map(LETTERS.decode, met))
    )
    if not steered:
        assert met == found.get(False, set())
        assert result.stop == plain.stop
        assert [one.new_sentences for one in result.trace] == [one.new_sentences for one in plain.trace]
    elif method == SURE and satisfying:
        met = {words for _, words in satisfying}
    sound = [one for one in satisfying if one[1] in met] or [one for one in every if one[1] in met]
    assert_answers(result, in_order(sound, check, beam_size))


@settings(max_examples=60)
@given(seed=seeds, beam_size=st.integers(1, 4), share=st.sampled_from([0.02, 0.2, 0.7]), rows=st.integers(1, 400))
def test_a_bound_without_a_proof_is_a_bound_of_accepted_sentences(seed, beam_size, share, rows):
    models, template, objective = problem(seed)
    expected, _ = enumerated(models, template, objective, [])
    check = Accepts(seed, share)
    options = {"beam_size": beam_size, "objective": objective, "vocabulary": LETTERS, "accept": check}
    result = decode(Pair(*models), None, template, Exact(max_rows=rows), **options)
    best = max((score for score, words in expected if check.says(words)), default=-math.inf)
    assert result.upper_bound >= best - 1e-9
    if result.proved:
        assert_answers(result, in_order(expected, check, beam_size))
    elif result.hypotheses and not result.best.broken:
        assert result.best.score + result.gap >= best - 1e-9
    else:
        assert result.gap == math.inf


# -------------------------------------------------------------------------------------- a check that changes nothing


def asked(models, method, **options):
    """A question with three items: two templates of known widths and one with a range."""
    asked_for = [
        Template.from_tokens([BLANK, 3, BLANK]),
        Template.blank([2], (0, 3), [4]),
        Template.from_tokens([BLANK, frozenset({2, 4})]),
    ]
    return decode(models, [0, 1, 2], asked_for, method, vocabulary=LETTERS, **options)


@pytest.mark.parametrize("extra", ["nothing", "groups", "constraints", "memory"])
@pytest.mark.parametrize("kind", ["pair", "joint"])
def test_what_accepts_everything_or_nothing_changes_no_answer(kind, extra):
    options = {
        "nothing": {},
        "groups": {"diversity": Diversity(2, 0.7)},
        "constraints": {"constraints": [NoRepeatedNgram(1), Lowers(3)]},
        "memory": {"memory_limit": 10},
    }[extra]
    for seed in range(3):
        models = (Pair if kind == "pair" else JointModel)(*pair(seed, V, minus_inf=0.1 * seed))
        for method in METHODS if kind == "pair" else WITH_JOINT:
            plain = asked(models, method, beam_size=4, **options)
            accepted = asked(models, method, beam_size=4, accept=yes, **options)
            rejected = asked(models, method, beam_size=4, accept=no, **options)
            for one, other, none in zip(plain, accepted, rejected, strict=True):
                assert other.signature.replace("accept:yes|", "") == one.signature != other.signature
                assert replace(other, signature=one.signature) == one
                flagged = [replace(each, broken=(*each.broken, "accept:no")) for each in one.hypotheses]
                assert list(none.hypotheses) == flagged
                assert none.signature.replace("accept:no|", "") == one.signature
                assert (none.stop, none.proved, none.rounds) == (one.stop, one.proved, one.rounds)
                if method == SURE:
                    assert none.upper_bound == (-math.inf if one.proved else one.upper_bound)
                else:
                    assert none.rows_evaluated == one.rows_evaluated


@pytest.mark.parametrize("method", [BeamSearch("forward"), BeamSearch("backward"), Rerank(), BSCD()], ids=str)
def test_whole_captions_written_freely(method):
    """Unfinished ones, too, which are all that is left if END is never chosen."""
    for seed in range(4):
        models = Pair(*pair(seed, V))
        for bounds in ({"max_length": 4}, {"min_length": 3, "max_length": 3}):
            options = {"beam_size": 3, "vocabulary": LETTERS, **bounds}
            plain = decode(models, None, None, method, **options)
            check = Accepts(seed)
            found = decode(models, None, None, method, accept=check, **options)
            assert replace(decode(models, None, None, method, accept=yes, **options), signature="") == replace(
                plain, signature=""
            )
            flags = [bool(one.broken) for one in found.hypotheses]
            assert flags == sorted(flags) == [not check.says(one.tokens) for one in found.hypotheses]
            assert len(found.hypotheses) == len(plain.hypotheses)
            lost = {one for one in plain.hypotheses if check.says(one.tokens)} - set(found.hypotheses)
            if lost:  # BSCD reads accepted splices first; here it has found as many other ones that are better
                assert method == BSCD()
                assert not any(flags)
                assert found.hypotheses[-1].score >= max(one.score for one in lost)


# ------------------------------------------------------------------------------------- batches, parts, groups, widths


@settings(max_examples=30)
@given(
    seed=seeds,
    table=table_options,
    asked_for=st.lists(templates(V, max_length=4), min_size=2, max_size=3),
    method=st.sampled_from(METHODS),
    beam_size=st.integers(1, 4),
    joint=st.booleans(),
)
def test_a_batch_equals_its_items(seed, table, asked_for, method, beam_size, joint):
    if joint and method not in WITH_JOINT:
        joint = False
    models = (JointModel if joint else Pair)(*pair(seed, V, **table))
    parts = list(map(Template.from_tokens, asked_for))
    options = {"beam_size": beam_size, "vocabulary": LETTERS}
    images = list(range(len(parts)))
    together = decode(models, images, parts, method, accept=Accepts(seed), **options)
    split = decode(models, images, parts, method, accept=Accepts(seed), memory_limit=1, **options)
    for image, part, one, other in zip(images, parts, together, split, strict=True):
        check = Accepts(seed)
        alone = decode(models, image, part, method, accept=check, **options)
        assert nothing_but(one)[1:] == nothing_but(alone)[1:]
        assert one.hypotheses == alone.hypotheses == other.hypotheses


def test_a_text_is_asked_once_per_item_whatever_is_split_and_compared():
    models = Pair(*pair(5, V))
    template = Template.from_tokens([BLANK, BLANK])
    check = Accepts(0)
    compare(models, [0, 0], template, METHODS, vocabulary=LETTERS, accept=check, memory_limit=1, beam_size=4)
    assert max(map(check.asked.count, check.asked)) == 2  # once for each of the two items
    assert len(check.asked) > 20


def test_groups_are_joined_with_accepted_sentences_first():
    """Without a strength, the groups of an exact search together are the exact search of all."""
    seen = set()
    for seed in range(30):
        models, template, objective = problem(seed)
        expected, _ = enumerated(models, template, objective, [])
        check = Accepts(seed, [0.05, 0.2, 0.5][seed % 3])
        options = {"beam_size": 6, "objective": objective, "vocabulary": LETTERS, "accept": check}
        result = decode(Pair(*models), None, template, SURE, diversity=Diversity(3, 0.0), **options)
        if expected:
            assert_answers(result, in_order(expected, check, 6))
            assert result.proved
            seen.add(sum(map(check.says, (words for _, words in expected[:6]))))
        found = bscd_decode(*models, None, template, diversity=Diversity(3, 0.5), **options)
        flags = [not check.says(one.tokens) for one in found.hypotheses]
        assert [one.broken == ("accept:drawn",) for one in found.hypotheses] == flags == sorted(flags)
        for _, own in itertools.groupby(found.hypotheses, key=lambda one: bool(one.broken)):
            scores = [one.score for one in own]
            assert scores == sorted(scores, reverse=True)
        assert len({one.tokens for one in found.hypotheses}) == len(found.hypotheses)
    assert {0, 1, 2, 3} <= seen


@pytest.mark.parametrize("wanted", ["A a", "a A"])
@pytest.mark.parametrize("kind", [Pair, JointModel])
def test_the_same_words_with_two_texts_count_once(kind, wanted):
    """The known letter is the first or the second word. One of the two texts is enough, whichever has more J."""
    for seed in range(6):
        models = kind(*pair(seed, V))
        for method in [BSCD(), *([SURE] if kind is Pair else [])]:
            result = decode(
                models,
                None,
                "{0-1} A {0-1}",
                method,
                beam_size=EVERY,
                vocabulary=LETTERS,
                accept=lambda text: text == wanted,
                widths=None,
            )
            assert result.best.text == wanted
            assert not result.best.broken
            assert len({one.tokens for one in result.hypotheses}) == len(result.hypotheses) > 3
            assert all(one.broken == ("accept:<lambda>",) for one in result.hypotheses[1:])


# -------------------------------------------------------------------------------------------------------- constraints


class Trap(TableScorer):
    """After the word 2, only the word 2 may follow."""

    def model_row(self, image, words):
        row = np.full(V, -math.inf)
        after = [0.9, 0.1] if not words else [1.0, 0.0] if words[-1] == 2 else [0.5, 0.5]
        with np.errstate(divide="ignore"):
            row[[2, 3]] = np.log(after)
        return row


def test_a_violation_comes_after_what_is_rejected_and_says_both():
    """A sentence that violates a constraint is returned only if no sentence satisfies all constraints."""
    models = Pair(Trap(0, V, normalized=True), None)
    template = Template.from_tokens([BLANK, BLANK])
    options = {"vocabulary": LETTERS, "constraints": [NoRepeatedNgram(1)]}
    method = BeamSearch("forward")
    narrow = decode(models, None, template, method, beam_size=1, accept=no, **options)
    assert [(one.text, one.broken) for one in narrow.hypotheses] == [("a a", ("no repeated 1-gram", "accept:no"))]
    violating = decode(models, None, template, method, beam_size=1, accept=yes, **options)
    assert [(one.text, one.broken) for one in violating.hypotheses] == [("a a", ("no repeated 1-gram",))]
    wide = decode(models, None, template, method, beam_size=2, accept=lambda text: text == "a a", **options)
    assert [(one.text, one.broken) for one in wide.hypotheses] == [("b a", ("accept:<lambda>",))]


# -------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("method", METHODS[:-1], ids=str)
def test_rows_are_read_once(method):
    """Rejected sentences are scored after the others, from the prefixes that were read before."""
    for seed in range(8):
        models = pair(seed, V)
        template = Template.from_tokens([3, BLANK, BLANK, 4, 2])
        decode(Pair(*models), None, template, method, beam_size=4, vocabulary=LETTERS, accept=Accepts(seed))
        for model in models:
            assert len(set(model.read)) == len(model.read)


# ------------------------------------------------------------------------------------------------------------- errors


TEMPLATE = Template.from_tokens([BLANK, 3])


def test_a_boolean_of_numpy_is_a_boolean():
    models = Pair(*pair(0, V))
    found = decode(models, None, TEMPLATE, vocabulary=LETTERS, accept=lambda text: np.bool_(text == "b b"))
    assert [one.text for one in found.hypotheses if not one.broken] == ["b b"] == [found.best.text]


@pytest.mark.parametrize("given", [None, 1, "yes", np.array([True])], ids=repr)
def test_what_is_no_boolean_is_shown(given):
    def is_molecule(text):
        return given

    with pytest.raises(TypeError) as raised:
        decode(Pair(*pair(0, V)), None, TEMPLATE, vocabulary=LETTERS, accept=is_molecule)
    message = str(raised.value)
    assert message.startswith("accept must return True or False, but is_molecule('")
    assert message.endswith(f"returned {given!r}.")


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_its_exceptions_pass_unchanged(method):
    class OwnError(RuntimeError):
        pass

    raised = OwnError("no parser")

    def fails(text):
        raise raised

    with pytest.raises(OwnError) as caught:
        decode(Pair(*pair(0, V)), [0, 1], TEMPLATE, method, vocabulary=LETTERS, accept=fails, memory_limit=10)
    assert caught.value is raised


def test_it_needs_a_vocabulary():
    with pytest.raises(TypeError, match=r"^accept needs a vocabulary with encode\(text\) and decode\(ids\)"):
        decode(Pair(*pair(0, V)), None, TEMPLATE, accept=yes)
    assert START not in WORDS
