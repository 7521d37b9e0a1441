"""Random problems, 10,000 of pairs and 2,000 of joint models, beside full enumeration and the slow reference."""

import numpy as np
import pytest
import reference
import reference_joint
from tables import pair, reference_template, words_of

from birnn_decode import BSCD, Exact, JointModel, Objective, Pair, Rerank, Template, decode

CHUNKS, IN_A_CHUNK, JOINT_IN_A_CHUNK = 100, 100, 20
WEIGHTS = [(1.0, 1.0), (1.0, 1.0), (0.3, 3.0), (2.0, 0.5)]


def drawn(rng):
    """A pair of random models, a template with at most 700 sentences, and the options of a search."""
    vocab_size, length = int(rng.integers(4, 7)), int(rng.integers(1, 6))
    words = words_of(vocab_size)
    template, sentences = [], 1
    for _ in range(length):
        allowed = sorted(words) if rng.random() < 0.7 else sorted(rng.choice(sorted(words), rng.integers(1, 3), False))
        if sentences * len(allowed) > 700:
            allowed = allowed[:1]
        sentences *= len(allowed)
        template.append(allowed[0] if len(allowed) == 1 else frozenset(int(word) for word in allowed))
    models = pair(
        int(rng.integers(10**9)),
        vocab_size,
        sharpness=float(rng.choice([0.3, 1.0, 3.0])),
        minus_inf=float(rng.choice([0.0, 0.0, 0.2])),
        aligned=bool(rng.integers(2)),
        join=bool(rng.integers(2)),
    )
    template = [int(one) if not isinstance(one, frozenset) else one for one in template]
    return models, template, words, int(rng.choice([1, 2, 3, 5, 10])), WEIGHTS[rng.integers(len(WEIGHTS))]


def check(found, written_out, every, reranked, problem):
    """The answers equal the slow reference, have the scores of the enumeration, and are no worse than Rerank's."""
    assert [one.tokens for one in found.hypotheses] == [words for _, words in written_out.hypotheses], problem
    assert (found.stop, found.rounds) == (written_out.stop, written_out.rounds), problem
    score_of = {words: score for score, words in every}
    for one in found.hypotheses:
        assert one.score == pytest.approx(score_of[one.tokens], abs=1e-9), problem
    for one, floor in zip(found.hypotheses, reranked.hypotheses, strict=False):
        assert one.score >= floor.score - 1e-9, problem


@pytest.mark.thorough
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_problems(chunk):
    rng = np.random.default_rng([20, chunk])
    for number in range(IN_A_CHUNK):
        (forward, backward), template, words, beam_size, weights = drawn(rng)
        allowed, blanks = reference_template(template, words)
        models = forward.model(), backward.model()
        question = Pair(forward, backward), None, Template.from_tokens(template)
        options = {"beam_size": beam_size, "objective": Objective(*weights)}
        every = reference.enumerate_best(*models, allowed, 10**6, weights)

        for splices in (True, False):
            written_out = reference.bscd(*models, allowed, blanks, beam_size, 10, weights, splicing=splices)
            found = decode(*question, BSCD(splices=splices), **options)
            check(found, written_out, every, decode(*question, Rerank(), **options), (chunk, number, splices))
        proved = decode(*question, Exact(), **options)
        assert proved.proved
        best = [score for score, _ in every[:beam_size]]
        assert [one.score for one in proved.hypotheses] == pytest.approx(best, abs=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_problems_of_joint_models(chunk):
    rng = np.random.default_rng([21, chunk])
    for number in range(JOINT_IN_A_CHUNK):
        (forward, backward), template, words, beam_size, _ = drawn(rng)
        allowed, blanks = reference_template(template, words)
        halves = forward.model(), backward.model()
        # A normaliser of each half by itself falls out of the softmax over both.
        conditionals = reference_joint.Conditionals(reference_joint.additive(*(half.log_probs for half in halves)))
        scope = str(rng.choice(["sentence", "blank"]))
        counted = None if scope == "sentence" else blanks
        question = JointModel(forward, backward), None, Template.from_tokens(template)
        options = {"beam_size": beam_size, "objective": Objective(scope=scope)}
        every = reference_joint.enumerate_best(conditionals, allowed, 10**6, counted)

        for splices in (True, False):
            written_out = reference_joint.bscd(
                halves, conditionals, allowed, blanks, beam_size, 10, counted, splicing=splices
            )
            found = decode(*question, BSCD(splices=splices), **options)
            check(found, written_out, every, decode(*question, Rerank(), **options), (chunk, number, splices))
