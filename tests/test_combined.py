"""Scorers made of scorers, compared with tables that do the same arithmetic and with full enumeration."""

import functools
import math
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import END, START, TableScorer, members, pair, reference_template, seeds, table_options, templates, words_of
from test_bscd import assert_same, hypotheses

from birnn_decode import Pair, PrefixScorer, StepScorer, Template, bscd_decode, score_sentences
from birnn_decode.captions import WordVocabulary
from birnn_decode.scorers import Scorer, eval_mode
from birnn_decode.scorers.combined import AdjustedScorer, EnsembleScorer, MappedScorer, in_vocabulary

V = 6
INF = math.inf
WORDS = words_of(V)
libraries = ["numpy", pytest.param("torch", marks=pytest.mark.skipif(not find_spec("torch"), reason="no PyTorch"))]
for_each_library = pytest.mark.parametrize("library", libraries)
IMAGES = [0, 1]
TEMPLATES = [Template.from_tokens([Template.BLANK] * 3), Template.from_tokens([3, Template.BLANK, {2, 4}, 5])]
weight_lists = st.tuples(*[st.sampled_from([0.1, 1.0, 2.5])] * 3)


def arrays_of(library):
    return np.array if library == "numpy" else pytest.importorskip("torch").tensor


def tables(seed, count, **options):
    """Make several pairs; return the forward scorers and the backward scorers."""
    return tuple(zip(*(pair(seed + 17 * number, V, **options) for number in range(count)), strict=True))


def explicit(models, end):
    """Make a prefix scorer from models of the reference, one per image."""

    def function(images, prefixes):
        rows = zip(images, prefixes.tolist(), strict=True)
        return np.array([models[image].log_probs(tuple(row[1:])) for image, row in rows])

    ids = {"start_token": START + END - end, "end_token": end}
    return PrefixScorer(function, vocab_size=V, normalized=True, **ids)


def decode(forward, backward, templates=TEMPLATES):
    return bscd_decode(forward, backward, IMAGES, templates, beam_size=3)


def anew(*scorers):
    """Reset scorers for another call, which begins with NumPy arrays again."""
    for scorer in scorers:
        scorer.check_untouched()
        scorer.read.clear()


def assert_same_answers(found, expected):
    for one, two in zip(found, expected, strict=True):
        assert_same(hypotheses(one), hypotheses(two))
        assert (one.stop, one.rounds, one.rows_evaluated) == (two.stop, two.rounds, two.rows_evaluated)


def log_softmax(row):
    peak = max(row)
    return row if peak == -INF else [x - peak - math.log(sum(math.exp(y - peak) for y in row)) for x in row]


def mixture(models, weights):
    """Make the model of the mixed probabilities, from the formula."""

    def log_probs(prefix):
        rows = [model.log_probs(prefix) for model in models]
        mixed = [sum(w * math.exp(x) for w, x in zip(weights, column, strict=True)) for column in zip(*rows)]  # noqa: B905
        return [math.log(p / sum(weights)) if p else -INF for p in mixed]

    return reference.Model(log_probs, models[0].end)


def adjusted(model, temperature, start=None):
    """Make the model at another temperature; with ``start``, no token may appear twice."""

    def log_probs(prefix):
        row = [x / temperature for x in model.log_probs(prefix)]
        return log_softmax([-INF if start is not None and v in (start, *prefix) else x for v, x in enumerate(row)])

    return reference.Model(log_probs, model.end)


def nothing_twice(prefixes, scores):
    """A hook in the style of Hugging Face, for both libraries."""
    for prefix, row in zip(prefixes, scores, strict=True):
        row[prefix] = -INF
    return scores


# ------------------------------------------------------------------------------------------------------- ensembles


@for_each_library
@settings(max_examples=30)
@given(seed=seeds, template=templates(V, max_length=3), weights=weight_lists, table=table_options, members=members)
def test_an_ensemble_is_the_mixture_by_full_enumeration(library, seed, template, weights, table, members):
    forward, backward = tables(seed, 3, library=library, **table, **members)
    allowed, _ = reference_template(template, WORDS)
    models = [mixture([scorer.model() for scorer in scorers], weights) for scorers in (forward, backward)]
    every = reference.enumerate_best(*models, allowed, 4**3)
    ensembles = EnsembleScorer(forward, weights), EnsembleScorer(backward, weights)
    result = bscd_decode(*ensembles, None, Template.from_tokens(template), beam_size=4**3)
    assert_same(hypotheses(result), every)
    anew(*forward, *backward)


def kinds(kind, one, two):
    """Make a scorer of two others, and its model for each image."""
    a, b = [one.model(image) for image in IMAGES], [two.model(image) for image in IMAGES]
    start, order = one.start_token, [0, 1, 4, 2, 5, 3]
    if kind == "ensemble":
        return EnsembleScorer([one, two], [1, 3]), [mixture(models, [1, 3]) for models in zip(a, b, strict=True)]
    if kind == "tempered":
        return AdjustedScorer(one, temperature=1.5), [adjusted(model, 1.5) for model in a]
    if kind == "hooked":
        changed = AdjustedScorer(one, temperature=0.7, hook=nothing_twice)
        return changed, [adjusted(model, 0.7, start) for model in a]
    there_and_back = MappedScorer(MappedScorer(two, order), np.argsort(order))
    changed = [AdjustedScorer(one, temperature=2.0), AdjustedScorer(there_and_back, hook=nothing_twice)]
    models = [mixture([adjusted(x, 2.0), adjusted(y, 1.0, start)], [2, 1]) for x, y in zip(a, b, strict=True)]
    return MappedScorer(EnsembleScorer(changed, [2, 1]), range(V)), models


@for_each_library
@pytest.mark.parametrize("kind", ["ensemble", "tempered", "hooked", "ensemble of adjusted of mapped"])
@pytest.mark.parametrize("extras", [(), ("join",), ("steps", "score"), ("join", "steps", "score")])
@pytest.mark.parametrize("normalized", [False, True])
def test_a_combined_scorer_decodes_as_its_table_does(library, kind, extras, normalized):
    there = {name: name in extras for name in ("join", "steps", "score")}
    of_directions = tables(5, 2, library=library, normalized=normalized, minus_inf=0.1, aligned=False, **there)
    (forward, models_f), (backward, models_b) = (kinds(kind, *scorers) for scorers in of_directions)
    tabled = explicit(models_f, END), explicit(models_b, START)
    for name in there:
        offered = there[name] and (name != "score" or kind == "ensemble")
        assert callable(getattr(forward, name)) if offered else getattr(forward, name) is None
    assert forward.aligned == (kind not in ("ensemble", "tempered"))
    for one, two in zip(decode(forward, backward), decode(*tabled), strict=True):
        assert_same(hypotheses(one), hypotheses(two))
        assert one.hypotheses
    anew(*of_directions[0], *of_directions[1])
    sentences = [[2, 3, 4], [5], []]
    for one, two in zip(
        *(score_sentences(Pair(*both), 1, sentences) for both in ((forward, backward), tabled)), strict=True
    ):
        for name in ("token_log_probs_forward", "token_log_probs_backward"):
            assert getattr(one, name) == pytest.approx(getattr(two, name), abs=1e-9)


def test_an_ensemble_of_one_is_its_member_and_equal_weights_are_the_default():
    forward, backward = tables(3, 2)
    alone = EnsembleScorer(forward[:1]), EnsembleScorer(backward[:1], [0.2])
    assert_same_answers(decode(*alone), decode(forward[0], backward[0]))
    zero = EnsembleScorer(forward, [0, 1e308]), EnsembleScorer(backward, [0, 5])
    assert_same_answers(decode(*zero), decode(forward[1], backward[1]))
    assert EnsembleScorer(forward).weights == EnsembleScorer(forward, [1e308, 1e308]).weights == (0.5, 0.5)


def bigram(table, **options):
    """Make a scorer whose scores are the rows of an array."""
    ids = {"vocab_size": table.shape[-1], "start_token": 0, "end_token": 1, **options}
    return StepScorer(lambda tokens, state: (table[tokens], state), lambda _: None, lambda state, rows: None, **ids)


def flat(vocab_size=4, **options):
    return bigram(np.zeros((vocab_size, vocab_size)), **options)


@for_each_library
def test_the_impossible(library):
    array = arrays_of(library)
    one = array([[-INF, -INF, -INF], [-INF, 0.0, 0.0], [-INF, -INF, -INF], [1.0, 2.0, 3.0]])
    two = array([[0.0, -INF, math.log(3)], [-INF, -INF, 0.0], [-INF, -INF, -INF], [-INF, -INF, -INF]])
    scores, _ = EnsembleScorer([bigram(one), bigram(two)], [1, 3]).step(np.arange(4), (None, None))
    expected = np.array([np.array([3, 0, 9]) / 16, [0, 1 / 8, 7 / 8], [0, 0, 0], np.exp(log_softmax([1, 2, 3])) / 4])
    assert np.exp(np.asarray(scores)) == pytest.approx(expected)
    assert (np.isneginf(np.asarray(scores)) == (expected == 0)).all()
    lowest = array([[-3e38, 0.0, 3e38]], dtype=one.dtype if library == "numpy" else None)
    flat, _ = AdjustedScorer(bigram(lowest), temperature=1e-3).step(np.array([0]), AdjustedScorer(bigram(one)).start(0))
    assert np.asarray(flat)[0, 2] == 0


@for_each_library
def test_half_precision_is_computed_in_single(library):
    table = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float16)
    half = table if library == "numpy" else pytest.importorskip("torch").from_numpy(table)
    for scorer in (EnsembleScorer([bigram(half)] * 2), AdjustedScorer(bigram(half))):
        scores, _ = scorer.step(np.arange(4), scorer.start(scorer.encode([0])))
        assert str(scores.dtype).endswith("float32")
        expected = [log_softmax(row) for row in table.astype(float).tolist()]
        assert np.asarray(scores) == pytest.approx(np.array(expected), abs=1e-6)


def test_gradients_go_through_the_impossible():
    torch = pytest.importorskip("torch")
    table = torch.tensor([[-INF, 1.0, 2.0, 0.5]] * 4, dtype=torch.float64, requires_grad=True)
    forward = EnsembleScorer([bigram(table), AdjustedScorer(MappedScorer(bigram(table), range(4)), temperature=2.0)])
    backward = EnsembleScorer([bigram(table[:, [1, 0, 2, 3]], start_token=1, end_token=0)])
    score_sentences(Pair(forward, backward), None, [[2, 3]], gradients=True)[0].score.backward()
    assert table.grad.isfinite().all()
    assert table.grad.abs().max() > 0


def test_what_an_ensemble_says_of_itself():
    one, two, three = (flat(5, never=[n], aligned=False) for n in (2, 3, 4))
    ensemble = EnsembleScorer([one, two])
    assert isinstance(ensemble, Scorer)
    assert (ensemble.never, ensemble.aligned, list(ensemble.modules())) == ({0, 1, 2, 3}, False, [])
    for name in ("direction", "max_tokens", "vocabulary", "join", "steps", "score"):
        assert getattr(ensemble, name) is None
    one.direction, two.max_tokens, three.max_tokens, two.vocabulary = "backward", 7, 9, WordVocabulary("a")
    module = SimpleNamespace(training=True)
    two.modules, three.aligned = lambda: iter([module]), True
    nested = AdjustedScorer(EnsembleScorer([one, EnsembleScorer([three, two])]))
    assert (nested.direction, nested.max_tokens, nested.vocabulary) == ("backward", 7, two.vocabulary)
    assert (nested.aligned, nested.never) == (True, set(range(5)))
    with eval_mode([nested]):
        assert not module.training
    assert module.training
    del three.aligned
    assert EnsembleScorer([one, three]).aligned


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (([],), ValueError, "no scorers"),
        ((None,), TypeError, "a list of scorers, got a NoneType"),
        (([flat(), "model"],), TypeError, r"scorers\[1\]: .* builtins.str.*not a Scorer"),
        (([flat(), flat(5)],), ValueError, r"scorers\[0\] has vocab_size 4, and scorers\[1\] has 5"),
        (([flat(), flat(start_token=2)],), ValueError, "start_token 0.* has 2.*Mapped"),
        (([flat(), flat(end_token=2)],), ValueError, "end_token 1.* has 2"),
        (([flat()] * 2, [1.0]), ValueError, "1 weights for 2 scorers"),
        *(
            (([flat()] * 2, weights), ValueError, "finite, 0 or larger, and not all 0")
            for weights in ([0, 0], [1, -1], [1, math.nan], [1, INF])
        ),
    ],
)
def test_what_is_no_ensemble(arguments, error, says):
    with pytest.raises(error, match=says):
        EnsembleScorer(*arguments)


def test_members_that_contradict_each_other_or_fail():
    one, two = flat(), bigram(np.full((4, 4), math.nan))
    with pytest.raises(ValueError, match=r"scorers\[1\] scorer returned NaN or \+inf in row 0"):
        EnsembleScorer([one, two]).step(np.array([0, 1]), (None, None))
    with pytest.raises(ValueError, match=r"above 0 in row 0.*are they logits"):
        AdjustedScorer(bigram(np.ones((4, 4)), normalized=True)).step(np.array([0]), AdjustedScorer(one).start(None))
    with pytest.raises(ValueError, match=r"expected \(1, 3\)"):
        MappedScorer(bigram(np.zeros((3, 4)), vocab_size=3), [2, 1, 0]).step(np.array([0]), None)
    one.score = lambda context, items, sentences: [np.array([-1.0])]
    with pytest.raises(ValueError, match="returned 1 arrays for 2"):
        EnsembleScorer([one]).score((None,), np.array([0, 0]), [(), ()])
    one.direction, two.direction = "forward", "backward"
    with pytest.raises(ValueError, match=r"direction 'forward', and .* has 'backward'"):
        EnsembleScorer([one, two])
    if find_spec("torch"):
        with pytest.raises(TypeError, match=r"of one library; they are .* numpy, .* torch"):
            EnsembleScorer([one, bigram(arrays_of("torch")(np.zeros((4, 4))))]).step(np.array([0]), (None, None))


# --------------------------------------------------------------------------------------------- temperature and hook


@for_each_library
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 1e6])
def test_temperature(library, temperature):
    table = np.random.default_rng(1).normal(size=(V, V)) * 3
    scorer = AdjustedScorer(bigram(arrays_of(library)(table)), temperature=temperature)
    scores, _ = scorer.step(np.arange(V), scorer.start(None))
    found = np.array([log_softmax(row) for row in np.asarray(scores).tolist()])
    assert found == pytest.approx(np.array([log_softmax((row / temperature).tolist()) for row in table]), abs=1e-12)
    assert temperature < 1e6 or found == pytest.approx(np.full((V, V), -math.log(V)), abs=1e-4)


@for_each_library
@settings(max_examples=30)
@given(seed=seeds, table=table_options, members=members, temperature=st.sampled_from([1.0, 0.6, 3.0]))
def test_nothing_twice_by_full_enumeration(library, seed, table, members, temperature):
    scorers = pair(seed, V, library=library, **table, **members)
    models = [adjusted(scorer.model(), temperature, scorer.start_token) for scorer in scorers]
    allowed = [frozenset(WORDS)] * 3
    every = reference.enumerate_best(*models, allowed, 4**3)
    changed = [AdjustedScorer(scorer, temperature=temperature, hook=nothing_twice) for scorer in scorers]
    result = bscd_decode(*changed, None, Template.from_tokens([Template.BLANK] * 3), beam_size=4**3)
    assert_same(hypotheses(result), every)
    assert all(len(set(one.tokens)) == 3 for one in result.hypotheses)
    anew(*scorers)


@for_each_library
@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_a_hook_sees_each_row_with_its_prefix_and_spoils_nothing(library, steps, normalized):
    """Every prefix has other scores in the table, so the scores show which prefix they belong to."""
    scorers = pair(9, V, library=library, steps=steps, normalized=normalized)
    seen = {START: [], END: []}

    def hook(scorer, prefixes, scores):
        assert type(prefixes) is type(scores)
        assert str(prefixes.dtype).endswith("int64")
        for prefix, row in zip(prefixes.tolist(), scores.tolist(), strict=True):
            seen[scorer.start_token].append(prefix)
            assert prefix[0] == scorer.start_token
            assert row == pytest.approx(scorer.model().log_probs(tuple(prefix[1:])))
        answer = scores + 0
        prefixes[:] = 0
        scores[:] = -5
        return answer

    changed = [AdjustedScorer(scorer, hook=functools.partial(hook, scorer)) for scorer in scorers]
    template = Template.from_tokens([2, 3, Template.BLANK, Template.BLANK, 5])
    found = bscd_decode(*changed, None, template)
    anew(*scorers)
    assert_same_answers([found], [bscd_decode(*scorers, None, template)])
    assert [START, 2, 3] in seen[START]
    assert [END, 5] in seen[END]


def test_a_step_leaves_the_state_as_it_was():
    scorer = AdjustedScorer(TableScorer(1, V), hook=lambda prefixes, scores: scores)
    _, first = scorer.step(np.array([START, START]), scorer.start(scorer.encode([0, 1])))
    prefixes = first.prefixes.copy()
    scorer.step(np.array([2, 3]), first)
    _, second = scorer.step(np.array([4, 5]), scorer.select(first, np.array([1, 0])))
    assert (first.prefixes == prefixes).all()
    assert second.prefixes.tolist() == [[START, 4], [START, 5]]


def test_what_cannot_adjust():
    for temperature in (0, -1, INF, math.nan):
        with pytest.raises(ValueError, match=r"temperature must be a finite number above 0, got"):
            AdjustedScorer(TableScorer(1, V), temperature=temperature)
    with pytest.raises(TypeError, match=r"hook must be a function .* got a int"):
        AdjustedScorer(TableScorer(1, V), hook=3)
    for answer, error in ((None, TypeError), (np.zeros((1, 2)), ValueError)):
        scorer = AdjustedScorer(TableScorer(1, V), hook=lambda prefixes, scores, answer=answer: answer)
        with pytest.raises(error, match="hook"):
            scorer.step(np.array([START]), scorer.start(scorer.encode([0])))


# ------------------------------------------------------------------------------------------------- another order of ids


@for_each_library
@settings(max_examples=30)
@given(seed=seeds, order=st.permutations(range(V)), table=table_options, members=members, normalized=st.booleans())
def test_a_mapped_pair_gives_the_same_sentences(library, seed, order, table, members, normalized):
    scorers = pair(seed, V, library=library, normalized=normalized, never=[5], **table, **members)
    new = {own: token for token, own in enumerate(order)}
    mapped = [MappedScorer(scorer, order) for scorer in scorers]
    assert [one.never for one in mapped] == [{new[START], new[END], new[5]}] * 2
    found = decode_mapped(mapped, new)
    anew(*scorers)
    expected = decode_mapped(scorers, range(V))
    anew(*scorers)
    for one, two in zip(found, expected, strict=True):
        assert_same([(score, tuple(order[v] for v in tokens)) for score, tokens in hypotheses(one)], hypotheses(two))
    one = score_sentences(Pair(*mapped), 1, [[new[2], new[4]]])[0]
    anew(*scorers)
    two = score_sentences(Pair(*scorers), 1, [[2, 4]])[0]
    assert one.score == pytest.approx(two.score)
    anew(*scorers)
    # One model in its own order of ids, mapped back to the order of the other.
    back = MappedScorer(MappedScorer(scorers[1], order), [new[token] for token in range(V)])
    assert_same_answers(decode_mapped((scorers[0], back), range(V)), expected)


def decode_mapped(scorers, new):
    return decode(*scorers, [Template.from_tokens([new[3], Template.BLANK, {new[2], new[4]}, Template.BLANK])] * 2)


@pytest.mark.parametrize(
    ("ids", "error", "says"),
    [
        ([0, 1, 2, 3, 3, 5], ValueError, "0 to 5, once: 3 appears twice, 4 is missing"),
        ([0, 1, 2, 3, 4], ValueError, "once: 5 is missing"),
        (range(7), ValueError, "once: 6 is not an id$"),
        ([0, 1, 2, -1, 4, 5], ValueError, "-1 is not an id, 3 is missing"),
        ([0, 1, 2, 3, 4, 5.0], TypeError, "an id of ids must be an integer, got 5.0"),
    ],
)
def test_what_is_no_order(ids, error, says):
    with pytest.raises(error, match=says):
        MappedScorer(TableScorer(1, V), ids)


def tokenizer(**ids):
    """Make an object with the method of Hugging Face's tokenizers that counts here."""
    return SimpleNamespace(get_vocab=lambda: ids)


def with_vocabulary(vocabulary, scorer=None):
    scorer = scorer or flat()
    scorer.vocabulary = vocabulary
    return scorer


def test_a_scorer_in_another_vocabulary():
    own, other = WordVocabulary(["a", "hat", "on"]), WordVocabulary(["on", "a", "hat"])
    table = np.random.default_rng(2).normal(size=(7, 7))
    scorer = with_vocabulary(own, bigram(table))
    mapped = in_vocabulary(scorer, other)
    assert mapped.vocabulary is other
    assert mapped.ids == (0, 1, 2, 3, 6, 4, 5)
    scores, _ = mapped.step(np.array(other.encode("hat on")), None)
    ids = own.encode("on a hat")
    assert (scores[:, other.encode("on a hat")] == table[own.encode("hat on")][:, ids]).all()
    assert in_vocabulary(scorer, own) is scorer
    assert in_vocabulary(scorer, WordVocabulary(["a", "hat", "on"])) is scorer
    # The same order of ids, but another vocabulary reads the text.
    other = tokenizer(**{word: token for token, word in enumerate(own.words)})
    again = in_vocabulary(scorer, other)
    assert (again.vocabulary, again.ids) == (other, tuple(range(7)))
    # Ids without a word: 0 and 4 in the first vocabulary, 1 and 2 in the second.
    padded = with_vocabulary(tokenizer(x=1, y=2, z=3), flat(5))
    assert in_vocabulary(padded, tokenizer(z=0, y=3, x=4)).ids == (3, 0, 4, 2, 1)


A, WORDY = tokenizer(a=0), SimpleNamespace(words=["a", "b", "a"])


@pytest.mark.parametrize(
    ("own", "given", "error", "says"),
    [
        (None, A, TypeError, r"has no vocabulary.*new order: MappedScorer\(scorer, ids\)"),
        (A, object(), TypeError, r"given vocabulary is a object with neither words nor get_vocab\(\).*MappedScorer"),
        (object(), A, TypeError, "scorer's vocabulary is a object with neither"),
        (
            tokenizer(a=0, b=1),
            tokenizer(a=1, c=0),
            ValueError,
            "given .* lacks 1 of .*'b'; .*scorer's .* 1 .*'c'. ",
        ),
        (tokenizer(a=0, b=1, c=2, d=3), WORDY, ValueError, "given vocabulary has the word 'a' twice"),
        (
            tokenizer(z=0, a=1, b=2, c=3),
            tokenizer(y=0),
            ValueError,
            "lacks 4 of .*: 'z', 'a', 'b', …; .*'y'. Both",
        ),
        (tokenizer(a=0, b=0), tokenizer(a=0, b=1), ValueError, "scorer's vocabulary has the id 0 twice"),
        (A, tokenizer(a=6), ValueError, "given vocabulary has id 6 for 'a'; the scorer has 4 ids"),
    ],
)
def test_vocabularies_that_do_not_fit(own, given, error, says):
    with pytest.raises(error, match=says):
        in_vocabulary(with_vocabulary(own), given)
