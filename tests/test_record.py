"""The record of a search: answers stay the same, and every number is what a slow computation says."""

import json
import math

import pytest
import reference
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from tables import pair, reference_template, seeds, table_options, templates, words_of

from birnn_decode import (
    BSCD,
    AllowAt,
    BanWords,
    BeamSearch,
    Diversity,
    Exact,
    Gibbs,
    JointModel,
    MustAppear,
    NoRepeatedNgram,
    Objective,
    Pair,
    Rerank,
    Template,
    decode,
    score_sentences,
)
from birnn_decode.constraints import ClashError
from birnn_decode.record import Record
from birnn_decode.search.recorder import RUNNERS_UP

V = 7
BLANK = Template.BLANK
METHODS = [
    BSCD(),
    BSCD(splices=False),
    BSCD(max_rounds=1, prior=[math.log(1 / V)] * V, prior_weight=0.5),
    BeamSearch("forward"),
    BeamSearch("backward", rank="sentence"),
    Rerank(),
    Gibbs(sweeps=3),
    Exact(max_rows=60),
]
CONSTRAINTS = [
    [],
    [],
    [BanWords([3])],
    [MustAppear([4])],
    [NoRepeatedNgram(1)],
    [AllowAt([2, 5], 0)],
    [lambda position, prefix, scores: scores - 0.25 * position],
]
JOINT_METHODS = [BSCD(), BSCD(splices=False), BeamSearch("backward"), Rerank(), Gibbs(sweeps=3)]


def sweeps_of(record):
    return [(search, step) for search in record.searches for step in search.steps if step.kind == "sweep"]


@settings(max_examples=60)
@given(
    seed=seeds,
    template=templates(V, max_length=4),
    method=st.sampled_from(METHODS),
    constraints=st.sampled_from(CONSTRAINTS),
    beam_size=st.integers(1, 4),
    library=st.sampled_from(["numpy", "torch"]),
    table=table_options,
)
def test_answers_and_rows_are_the_same(seed, template, method, constraints, beam_size, library, table):
    if library == "torch":
        pytest.importorskip("torch")
    template = Template.from_tokens([*template, BLANK, 2, BLANK])
    if isinstance(method, Exact):
        constraints = [one for one in constraints if not callable(one)]

    def ask(record):
        models = Pair(*pair(seed, V, library=library, **table))
        given_options = {"beam_size": beam_size, "constraints": constraints}
        return decode(models, [0, 1], template, method, record=record, **given_options)

    try:
        without = ask(False)
    except ClashError:  # no sentence satisfies the constraint
        reject()
    with_record = ask(True)
    assert with_record == without  # rows, rounds and the posterior, too
    assert [one.record for one in without] == [None, None]
    for result in with_record:
        for _, sweep in sweeps_of(result.record):
            assert_well_ordered(sweep, beam_size if not isinstance(method, Exact) else None)
        assert {one.tokens for one in result.hypotheses} <= {*result.record.pool}
        assert json.loads(result.record.to_json()) == result.record.to_dict()


def assert_well_ordered(sweep, beam_size):
    for choice in sweep.choices:
        totals = [one.total for one in choice.candidates]
        assert totals == sorted(totals, reverse=True)
        flags = [one.kept for one in choice.candidates]
        assert flags == sorted(flags, reverse=True)
        assert len({one.words for one in choice.candidates}) == len(totals)
        if beam_size is not None:
            assert len(choice.kept) <= beam_size
            assert len(choice.candidates) <= beam_size + RUNNERS_UP


@settings(max_examples=40)
@given(
    seed=seeds,
    template=templates(V, max_length=3),
    method=st.sampled_from(METHODS[:6]),
    weights=st.sampled_from([(1.0, 1.0), (2.0, 0.5), (1.0, 0.0), (0.0, 1.0)]),
    beam_size=st.integers(1, 4),
    table=table_options,
)
def test_every_number_of_a_sweep(seed, template, method, weights, beam_size, table):
    """Against loops over all prefixes and words, with the reference's models."""
    positions = [*template, BLANK, 2, BLANK]
    models = pair(seed, V, **table)
    result = decode(
        Pair(*models),
        0,
        Template.from_tokens(positions),
        method,
        beam_size=beam_size,
        record=True,
        objective=Objective(*weights),
    )
    own = dict(zip(("forward", "backward"), [one.model() for one in models], strict=True))
    weight_of = dict(zip(own, weights, strict=True))
    allowed, _ = reference_template(positions, words_of(V))
    prior = 0.0 if getattr(method, "prior", None) is None else method.prior_weight * math.log(1 / V)
    (search,) = result.record.searches
    beams = {}
    for sweep in (step for step in search.steps if step.kind == "sweep" and not step.repeated):
        name, other = sweep.direction, "backward" if sweep.direction == "forward" else "forward"
        weight = weight_of[name] if sweep.looks_ahead else 1.0
        beams[name] = kept = {}
        before = None
        for choice in sweep.choices:
            at = choice.position
            heads = extended(before, allowed, at, own[name], name, weight) if before else known_words(allowed, at, name)
            everything = {}
            for head in heads:
                for word in allowed[at]:
                    words = (*head, word) if name == "forward" else (word, *head)
                    log_prob = log_prob_of(own[name], words, name)
                    if log_prob == -math.inf and weight:
                        continue
                    total = weight * log_prob if weight else 0.0
                    if sweep.looks_ahead and weight_of[other]:
                        tails = extended(last_before(beams[other], at, other), allowed, at, own[other], other)
                        tails = tails or known_words(allowed, at, other)
                        whole = [(word, *tail) if other == "backward" else (*tail, word) for tail in tails]
                        total += weight_of[other] * max(log_prob_of(own[other], one, other) for one in whole)
                    if sweep.looks_ahead:
                        total -= prior
                    if total > -math.inf:
                        everything[words] = total
            best = sorted(everything.values(), reverse=True)
            assert len(choice.candidates) == min(len(best), beam_size + RUNNERS_UP)
            assert len(choice.kept) == min(len(best), beam_size)
            for one, value in zip(choice.candidates, best, strict=False):
                assert one.total == pytest.approx(value)  # the best of everything there was
                assert everything[one.words] == pytest.approx(one.total)
                look = one.look_ahead or 0.0
                own_part = weight * (one.prefix + one.log_prob) if weight else 0.0
                assert own_part + look + one.change == pytest.approx(one.total)
                if weight:
                    assert one.prefix + one.log_prob == pytest.approx(log_prob_of(own[name], one.words, name))
                if one.rest is not None:
                    word = one.words[-1] if name == "forward" else one.words[0]
                    far = (word, *one.rest) if name == "forward" else (*one.rest, word)
                    assert weight_of[other] * log_prob_of(own[other], far, other) == pytest.approx(look)
                    whole = (*one.words, *one.rest) if name == "forward" else (*one.rest, *one.words)
                    assert len(whole) == len(positions)
            before = kept[at] = [one.words for one in choice.kept]


def log_prob_of(model, words, name):
    """The log-probability of the words that a direction has read, in sentence order."""
    total, read = 0.0, ()
    for word in words if name == "forward" else words[::-1]:
        total += float(model.log_probs(read)[word])
        read = (*read, word)
    return total


def known_words(allowed, at, name):
    side = allowed[:at] if name == "forward" else allowed[at + 1 :]
    return [tuple(next(iter(one)) for one in side)]


def extended(beams, allowed, at, model, name, weight=1.0):
    """Beams with the known words up to a position; impossible ones left out, unless the model has no weight."""
    found = []
    for words in beams or ():
        if name == "forward":
            more = (*words, *(next(iter(one)) for one in allowed[len(words) : at]))
        else:
            more = (*(next(iter(one)) for one in allowed[at + 1 : len(allowed) - len(words)]), *words)
        if not weight or log_prob_of(model, more, name) > -math.inf:
            found.append(more)
    return found


def last_before(kept, at, name):
    """The beams of the other direction that stop before a position."""
    behind = [one for one in kept if (one > at if name == "backward" else one < at)]
    if not behind:
        return None
    return kept[min(behind) if name == "backward" else max(behind)]


def test_splices_draws_and_bounds():
    models = Pair(*pair(3, V, sharpness=3.0))
    template = Template.from_tokens([2, BLANK, BLANK, 3, BLANK])
    result = decode(models, 0, template, record=True)
    splices = [one for step in result.record.searches[0].steps if step.kind == "splices" for one in step.splices]
    read = [one for one in splices if one.score is not None]
    assert read
    for one, scored in zip(read, score_sentences(models, 0, [one.words for one in read]), strict=True):
        assert one.score == pytest.approx(scored.joint)
        left = sum(scored.token_log_probs_forward[: one.position + 1])
        right = sum(scored.token_log_probs_backward[one.position : len(one.words)])
        assert one.value == pytest.approx(left + right)
    drawn = decode(models, 0, template, Gibbs(sweeps=4), beam_size=2, record=True).record.searches[0]
    forward, backward = models.forward.model(), models.backward.model()
    words = {chain: [2, -1, -1, 3, -1] for chain in (0, 1)}
    for number, step in enumerate(drawn.steps, 1):
        assert (step.kind, step.round) == ("draws", number)
        for draw in step.draws:
            left, right = words[draw.chain][: draw.position], words[draw.chain][draw.position + 1 :]
            scores = reference.np.array(forward.log_probs(tuple(left)), dtype=float)
            if -1 not in words[draw.chain]:
                scores = scores + reference.np.array(backward.log_probs(tuple(right[::-1])))
            scores[[0, 1]] = -math.inf
            expected = scores[draw.word] - reference.np.logaddexp.reduce(scores)
            assert draw.log_prob == pytest.approx(expected)
            words[draw.chain][draw.position] = draw.word
    proved = decode(models, 0, template, Exact(), record=True)
    bounds = proved.record.bounds
    assert [one.rows for one in bounds] == sorted(one.rows for one in bounds)
    assert all(one.upper >= proved.best.score - 1e-9 for one in bounds)
    assert bounds[-1].upper == pytest.approx(proved.best.score) == bounds[-1].best


@pytest.mark.parametrize("method", JOINT_METHODS, ids=lambda one: one.name)
def test_joint_models(method):
    models = JointModel(*pair(5, V, sharpness=3.0))
    template = Template.from_tokens([2, BLANK, BLANK, 3, BLANK])
    without = decode(models, 0, template, method, beam_size=3)
    with_record = decode(models, 0, template, method, beam_size=3, record=True)
    assert with_record == without
    for _, sweep in sweeps_of(with_record.record):
        assert_well_ordered(sweep, 3)
        for choice in sweep.choices:
            for one in choice.candidates:
                look = one.look_ahead or 0.0
                assert one.prefix + one.log_prob + look + one.change == pytest.approx(one.total)
                assert (one.rest is not None) == sweep.looks_ahead


def test_whole_captions_and_groups():
    models = Pair(*pair(7, V, sharpness=2.0))
    result = decode(models, 0, max_length=4, record=True, beam_size=2)
    assert result == decode(models, 0, max_length=4, beam_size=2)
    free, *fixed = result.record.searches
    assert [step.direction for step in free.steps] == ["forward", "backward"]
    for step, order in zip(free.steps, (1, -1), strict=True):
        places = [choice.position for choice in step.choices]
        assert places == [place if order == 1 else -1 - place for place in range(len(places))]
        for choice in step.choices:
            for one in choice.candidates:
                model = (models.forward if order == 1 else models.backward).model()
                expected = log_prob_of(model, one.words, step.direction)
                assert one.total == pytest.approx(expected) == one.prefix + one.log_prob
    assert {len(one.template) for one in fixed} <= {*range(5)}
    groups = decode(models, 0, Template.blank([2], 2, [3]), beam_size=4, diversity=Diversity(2, 0.5), record=True)
    assert [one.group for one in groups.record.searches] == [0, 1]
    assert any(one.change for _, sweep in sweeps_of(groups.record) for c in sweep.choices for one in c.candidates)


def test_ids_have_texts_and_records_are_values():
    class Vocabulary:
        def encode(self, text):
            return [int(one) for one in text.split()]

        def decode(self, ids):
            return " ".join(f"w{one}" for one in ids)

    models = Pair(*pair(7, V))
    once, again = (
        decode(models, 0, Template.blank([2], 2, [3]), vocabulary=Vocabulary(), record=True).record for _ in range(2)
    )
    assert once == again
    assert isinstance(once, Record)
    assert hash(once) == hash(again)
    assert once.text([2, 3]) == "w2 w3"
    assert Record.joined([once, again]).texts == once.texts


def test_a_batch_and_its_parts_have_the_same_records():
    template = Template.blank([2], (1, 3), [3])
    together, parts = (
        decode(Pair(*pair(7, V)), [0, 1, 2], template, beam_size=3, memory_limit=limit, record=True)
        for limit in (None, 1)
    )
    for item, (one, other) in enumerate(zip(together, parts, strict=True)):
        alone = decode(Pair(*pair(7, V)), item, template, beam_size=3, record=True)
        assert one.record == other.record == alone.record
        assert len(one.record.searches) == 3
