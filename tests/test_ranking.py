"""Ranking measures by their definition, captioners as rankers, the linear baseline, and grounding."""

import itertools

import numpy as np
import pytest

pytest.importorskip("torch")

from tables import TableScorer, pair, words_of

from birnn_decode import Pair, score_sentences
from birnn_decode.captions import Region, make_scenes
from birnn_decode.evaluation import (
    LinearCCA,
    Ranks,
    after_first_pass,
    best_weight,
    blended,
    caption_log_probs,
    grounded,
    rank_figures,
    rankers,
    ranking,
    recalls_lead,
    rescored,
    right_pairs,
    shows,
    without_bias,
    word_regions,
)
from birnn_decode.evaluation.rankers import best_cca
from birnn_decode.evaluation.ranking import ANNOTATION, BOTH, SEARCH, median_metric, sum_of_recalls
from birnn_decode.models import default_pair

V = 6


def random_scores(pictures=7, each=3, seed=0, values=None):
    """Scores with ties if there are only some values, and the owner of each sentence."""
    random = np.random.default_rng(seed)
    shape = pictures, pictures * each
    scores = random.normal(size=shape) if values is None else random.integers(values, size=shape).astype(float)
    return scores, [picture for picture in range(pictures) for _ in range(each)]


def over_all_orders(scores, right, k):
    """Rank and recall of the first right answer, over all orders of equal scores, each as likely as any other."""
    found = []
    for order in itertools.permutations(range(len(scores))):
        ranked = sorted(order, key=lambda one: -scores[one])  # sorted is stable, so ties stay in this order
        found.append(next(place for place, one in enumerate(ranked, start=1) if right[one]))
    return np.mean(found), np.mean(np.array(found) <= k)


@pytest.mark.parametrize("seed", range(6))
def test_ties_are_shared_out(seed, monkeypatch):
    """As if equal scores were put in every order; with several right answers, too."""
    monkeypatch.setattr(ranking, "QUERIES_AT_A_TIME", 3)
    random = np.random.default_rng(seed)
    scores = random.integers(3, size=(4, 6)).astype(float)
    scores[0] = -np.inf
    right = random.random((4, 6)) < 0.3
    right[:, 2] = True
    ranks = Ranks.find(scores, right)
    for k in (1, 2, 4, 10):
        for query in range(4):
            rank, recall = over_all_orders(scores[query], right[query], k)
            assert ranks.expected[query] == pytest.approx(rank)
            assert ranks.within(k)[query] == pytest.approx(recall)


def test_two_equal_scores_are_half_and_half():
    ranks = Ranks.find(np.array([[1.0, 1.0, 0.0]]), np.array([[True, False, False]]))
    assert (ranks.expected.tolist(), ranks.within(1).tolist(), ranks.within(2).tolist()) == ([1.5], [0.5], [1])


def published_measures(scores, each):
    """What public code for visual-semantic embeddings computes from scores [pictures, sentences], by its definition.

    In both directions everything is sorted, best first. The rank of a picture, from 0, is the least of its own
    sentences' places; that of a sentence is its picture's place. R@K is the percentage of ranks below K, the median
    rank is rounded down before 1 is added, and the mean rank is counted from 1.
    """
    pictures = len(scores)
    order = np.argsort(scores, axis=1)[:, ::-1]
    of_pictures = [
        min(np.flatnonzero(order[at] == own)[0] for own in range(each * at, each * at + each)) for at in range(pictures)
    ]
    order = np.argsort(scores.T, axis=1)[:, ::-1]
    of_sentences = [np.flatnonzero(order[own] == own // each)[0] for own in range(scores.shape[1])]
    return [
        [*(100 * np.mean(np.array(ranks) < k) for k in (1, 5, 10)), np.floor(np.median(ranks)) + 1, np.mean(ranks) + 1]
        for ranks in (of_pictures, of_sentences)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_measures_are_those_of_public_code(seed):
    scores, owner = random_scores(pictures=31, each=5, seed=seed)
    figures = rank_figures(scores + 2 * right_pairs(owner, 31), owner, resamples=10)
    expected = published_measures(scores + 2 * right_pairs(owner, 31), 5)
    for direction, (*recalls, median, mean) in zip((ANNOTATION, SEARCH), expected, strict=True):
        own = {name: one.value for name, one in figures[direction].items()}
        assert [100 * own[f"R@{k}"] for k in (1, 5, 10)] == pytest.approx(recalls)
        assert np.floor(own["median rank"]) == median
        assert own["mean rank"] == pytest.approx(mean)
    total = sum(sum(own[:3]) for own in expected)
    assert figures[BOTH]["sum of recalls"].value == pytest.approx(total)
    assert sum_of_recalls(scores + 2 * right_pairs(owner, 31), owner) == pytest.approx(total)


def test_intervals_are_over_pictures():
    """A picture's five sentences are drawn together, so more of the same sentences make no interval smaller."""
    scores, owner = random_scores(pictures=40, each=1)
    few = rank_figures(scores, owner)[SEARCH]["mean rank"]
    many = rank_figures(np.repeat(scores, 5, axis=1), np.repeat(owner, 5).tolist())[SEARCH]["mean rank"]
    assert few.low < few.value < few.high
    assert (many.value, many.low, many.high) == pytest.approx((few.value, few.low, few.high))


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_the_median_is_that_of_numpy(count):
    values = np.random.default_rng(count).integers(4, size=count) / 2
    metric = median_metric("median rank", values)
    assert metric.value(metric.statistics.sum(axis=0)) == np.median(values)
    times = np.random.default_rng(0).integers(3, size=(10, count))
    times[:, 0] += 1
    expected = [np.median(np.repeat(values, own)) for own in times]
    assert metric.value(times @ metric.statistics).tolist() == expected


def test_equal_sentences_may_be_right_for_several_pictures():
    scores = np.array([[1.0, 0.0, 9.0], [0.0, 0.5, 0.0], [9.0, 0.0, 1.0]])
    texts = ["a plane", "a pool", "a plane"]
    own, equal = (rank_figures(scores, [0, 1, 2], given, resamples=10) for given in (None, texts))
    assert own[SEARCH]["R@1"].value == pytest.approx(1 / 3)
    assert equal[SEARCH]["R@1"].value == equal[ANNOTATION]["R@1"].value == 1
    assert right_pairs([0, 1, 2], 3, texts).tolist() == [[True, False, True], [False, True, False], [True, False, True]]


def test_log_probabilities_without_bias():
    scores = np.log(np.random.default_rng(0).random((5, 4)))
    scores[2, 1] = -np.inf
    found = without_bias(scores)
    for picture, sentence in itertools.product(range(5), range(4)):
        others = np.exp(np.delete(scores[:, sentence], picture)).mean()
        assert found[picture, sentence] == pytest.approx(scores[picture, sentence] - np.log(others))
    assert (np.argsort(found, axis=0) == np.argsort(scores, axis=0)).all()  # pictures of a sentence stay in order
    others = np.log(np.random.default_rng(1).random((3, 4)))
    assert without_bias(scores, others) == pytest.approx(scores - np.log(np.exp(others).mean(axis=0)))
    # A sentence that no picture makes unlikely is no news.
    assert without_bias(np.full((3, 2), -700.0)) == pytest.approx(np.zeros((3, 2)))
    assert without_bias(np.array([[-1000.0], [0.0]])).tolist() == [[-1000.0], [1000.0]]
    equal = without_bias(np.repeat(np.random.default_rng(2).normal(size=(1, 6)) - 20, 20, axis=0))
    assert (equal == equal[0]).all()  # ties stay ties


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("block", "most"), [(1, 99), (4 * V, 99), (11 * V, 99), (2**24, 11), (2**24, 2048)])
def test_captioners_score_what_score_sentences_scores(library, direction, block, most, monkeypatch):
    """With shared prefixes, in parts of a few sources or sentences, and for some pairs only."""
    monkeypatch.setattr(rankers, "LARGEST_BLOCK", block)
    monkeypatch.setattr(rankers, "MOST_ROWS", most)
    settings = {"library": library, "minus_inf": 0.1}
    models = TableScorer(0, V, **settings), TableScorer(1, V, backward=True, **settings)
    random = np.random.default_rng(0)
    sentences = [tuple(random.choice(list(words_of(V)), size=size).tolist()) for size in (0, 1, 2, 2, 3, 3, 4, 4, 5)]
    sentences += sentences[3:5]
    scored = score_sentences(Pair(*models), [0, 1, 2], [sentences] * 3)
    expected = np.array([[getattr(one, f"log_prob_{direction}") for one in own] for own in scored])
    model = TableScorer(int(direction == "backward"), V, backward=direction == "backward", **settings)
    counts, rows, step = [], [], model.step
    monkeypatch.setattr(model, "step", lambda tokens, state: rows.append(len(tokens)) or step(tokens, state))
    found = caption_log_probs(model, direction, [0, 1, 2], sentences, on_source=counts.append)
    assert found == pytest.approx(expected)
    assert sum(counts) == 3
    in_order = [words if direction == "forward" else words[::-1] for words in sentences]
    prefixes = {words[:size] for words in in_order for size in range(len(words) + 1)}
    if block >= len(sentences) * V:  # else sentences are read in parts that do not share
        assert model.tokens_read == 3 * len(prefixes)
    assert max(rows) <= max(1, min(most, block // V))
    wanted = random.random(found.shape) < 0.4
    wanted[1] = False
    model.read.clear()
    some = caption_log_probs(model, direction, [0, 1, 2], sentences, wanted=wanted)
    assert some[wanted] == pytest.approx(expected[wanted])
    assert np.isneginf(some[~wanted]).all()
    model.check_untouched()


def test_the_captioners_of_the_package_rank():
    models = default_pair()
    scenes = make_scenes(4, seed=2, captions=2)
    texts = [text for scene in scenes for text in scene.captions]
    sentences = [models.forward.vocabulary.encode(text) for text in texts]
    pictures = [scene.picture() for scene in scenes]
    scored = score_sentences(models, pictures, [sentences] * 4)
    total = 0.0
    models.forward.train()
    for direction, model in (("forward", models.forward), ("backward", models.backward)):
        found = caption_log_probs(model, direction, pictures, sentences)
        expected = [[getattr(one, f"log_prob_{direction}") for one in own] for own in scored]
        assert found == pytest.approx(np.array(expected), abs=1e-3)
        total = total + found
    assert models.forward.training  # as it was before
    figures = rank_figures(without_bias(total), [0, 0, 1, 1, 2, 2, 3, 3], resamples=10)
    assert figures[SEARCH]["R@1"].value == figures[ANNOTATION]["R@1"].value == 1


def test_a_second_pass_goes_before_the_first():
    first, owner = random_scores(values=None)
    second = np.random.default_rng(5).normal(size=first.shape) - 50
    chosen = after_first_pass(first, 4)
    for axis in (0, 1):
        best = np.argsort(-first, axis=axis).take(range(4), axis=axis)
        assert np.take_along_axis(chosen, best, axis=axis).all()
    assert chosen.sum() <= 4 * sum(first.shape)
    both = rescored(first, np.where(chosen, second, -np.inf), chosen)
    assert (both[chosen] == second[chosen]).all()
    assert both[~chosen].max() < both[chosen].min()
    assert (np.argsort(both[~chosen]) == np.argsort(first[~chosen])).all()
    everything = after_first_pass(first, 100)
    assert everything.all()
    assert (rescored(first, second, everything) == second).all()
    assert len(owner) == first.shape[1]


def test_the_weight_is_that_with_the_best_recalls():
    noise, owner = random_scores(pictures=12, each=2, seed=1)
    truth = right_pairs(owner, 12) + 0.5 * random_scores(pictures=12, each=2, seed=2)[0]
    weights = (0.1, 1.0, 5.0)
    best = best_weight(noise, truth, owner, weights)
    tried = {weight: sum_of_recalls(blended(noise, truth, weight), owner) for weight in weights}
    assert tried[best] == max(tried.values()) > tried[0.1]


def test_only_pairs_with_a_score_are_blended():
    scores = np.array([[1.0, -np.inf, 3.0], [-np.inf, 7.0, 5.0]])
    other = np.array([[1.0, 90.0, 2.0], [80.0, 3.0, 4.0]])
    found = blended(scores, other, 0.5)
    there = np.isfinite(scores)
    expected = scores[there] / np.std([1, 3, 7, 5]) + 0.5 * other[there] / np.std([1, 2, 3, 4])
    assert found[there] == pytest.approx(expected)
    assert np.isneginf(found[~there]).all()


def test_the_lead_is_the_difference_of_the_sums():
    scores, owner = random_scores()
    other = random_scores(seed=9)[0]
    lead = recalls_lead(scores, other, owner, resamples=200)
    assert lead.value == pytest.approx(sum_of_recalls(scores, owner) - sum_of_recalls(other, owner))
    assert rank_figures(scores, owner, resamples=10)[BOTH]["sum of recalls"].value == pytest.approx(
        sum_of_recalls(scores, owner)
    )
    assert lead.low < lead.value < lead.high
    same = recalls_lead(scores, scores + 1, owner, resamples=200)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_cca_is_chosen_on_validation_data():
    """The best of all settings, scored by the cosine of projections that are weighted by their correlations."""
    random = np.random.default_rng(0)

    def drawn(count):
        features = random.normal(size=(count, 30))
        best = np.argsort(-features[:, :8], axis=1)
        return features, [[(4 + own[:2]).tolist(), (4 + own[:1]).tolist()] for own in best]

    training, validation, (features, captions) = drawn(60), drawn(20), drawn(5)
    model, ridge, directions = best_cca(training, validation, 12)
    owner = [row for row, own in enumerate(validation[1]) for _ in own]
    sentences = [words for own in validation[1] for words in own]
    tried = {
        (one, many): sum_of_recalls(LinearCCA.fit(*training, 12, one).score(validation[0], sentences, many), owner)
        for one, many in itertools.product(rankers.RIDGES, rankers.DIRECTIONS)
    }
    assert tried[ridge, directions] == max(tried.values()) > min(tried.values())
    fitted = LinearCCA.fit(*training, 12, ridge)
    assert np.array_equal(model.correlations, fitted.correlations)
    x = (features[1] - fitted.picture_mean) @ fitted.picture_axes[:, :directions]
    bag = np.bincount(captions[2][0], minlength=12)
    y = (bag - fitted.sentence_mean) @ fitted.sentence_axes[:, :directions]
    weights = fitted.correlations[:directions] ** 2
    cosine = (weights * x * y).sum() / np.sqrt((weights * x * x).sum() * (weights * y * y).sum())
    assert model.score(features, captions[2][:1], directions)[1, 0] == pytest.approx(cosine)


def test_cca_finds_what_both_sides_share():
    """Canonical correlations of linear images of one variable are 1, and do not depend on the coordinates."""
    random = np.random.default_rng(0)
    captions = [[random.integers(4, 10, size=3).tolist()] for _ in range(400)]
    sentences = [own[0] for own in captions]
    counts = rankers.bags(sentences, 10)
    shared = counts[:, 4:9] @ random.normal(size=(5, 5))
    features = np.concatenate([shared, random.normal(size=(400, 3))], axis=1) @ random.normal(size=(8, 8))
    model = LinearCCA.fit(features, captions, 10, ridge=1e-9)
    assert model.correlations[:5] == pytest.approx(np.ones(5), abs=1e-4)
    assert model.correlations[5] < 0.3
    scores = model.score(features[:20], sentences[:20], directions=5)
    kinds = [tuple(sorted(words)) for words in sentences[:20]]
    for row, own in zip(scores, kinds, strict=True):
        assert row[[kind == own for kind in kinds]] == pytest.approx(1, abs=1e-3)
        assert max(row[[kind != own for kind in kinds]]) < 0.999
    other = LinearCCA.fit(features @ random.normal(size=(8, 8)) + 3, captions, 10, ridge=1e-9)
    assert other.correlations[:6] == pytest.approx(model.correlations[:6], abs=1e-4)


def test_grounding():
    regions = [
        Region((0.0, 0.0, 0.4, 0.4), "red circle"),
        Region((0.4, 0.0, 0.8, 0.4), "red star"),
        Region((0.0, 0.6, 0.2, 0.8), "blue square"),
    ]
    words = ["a", "red", "circle", "above", "a", "blue", "square"]
    assert word_regions(words, regions) == {2: 0, 5: 2, 6: 2}  # two regions are red
    assert word_regions(words, []) == {}
    assert [shows((0.25, 0.25, 0.5, 0.5), number, regions) for number in range(3)] == [True, False, False]
    assert [shows((0.375, 0.0, 0.5, 0.25), number, regions) for number in range(3)] == [False, True, False]
    assert not any(shows((0.0, 0.0, 1.0, 1.0), number, regions) for number in range(3))
    assert not any(shows((0.9, 0.9, 1.0, 1.0), number, regions) for number in range(3))
    # The whole picture is wrong, and so is a region whose place is not known; circle, blue and square are counted.
    places = [None, *(region.box for region in regions), None]
    assert grounded(words, [0, 0, 1, 0, 0, 3, 2], places, regions) == [(True, 0.25), (True, 0.25), (False, 0.25)]
    assert grounded(words, [1, 1, 0, 1, 1, 4, 4], places, regions) == [(False, 0.25)] * 3


SCORES, OWNER = random_scores()
FORWARD = pair(0, V)[0]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: rank_figures(SCORES, OWNER[1:]), r"\[pictures, sentences\], with 20 sentences, got \(7, 21\)"),
        (lambda: rank_figures(SCORES[:1, :3], OWNER[:3]), "there is one picture; ranking needs at least two"),
        (lambda: rank_figures(SCORES, [0] * 21), "picture 1 has no sentence; leave it out"),
        (lambda: rank_figures(np.full((7, 21), np.nan), OWNER), "a score is NaN"),
        (lambda: Ranks.find(SCORES, SCORES[1:] > 0), r"one shape \[queries, answers\], got \(7, 21\) and \(6, 21\)"),
        (lambda: Ranks.find(SCORES, np.zeros(SCORES.shape, bool)), "query 0 has no right answer"),
        (lambda: without_bias(SCORES[:1]), "there is no other picture; give at least two"),
        (lambda: without_bias(SCORES, SCORES[:, 1:]), r"\[other pictures, 21 sentences\], got \(7, 20\)"),
        (lambda: caption_log_probs(FORWARD, "forward", [], [[2]]), "at least one source and one sentence, got 0 and 1"),
        (lambda: caption_log_probs(FORWARD, "forward", [0], []), "at least one source and one sentence, got 1 and 0"),
        (
            lambda: caption_log_probs(FORWARD, "forward", [0], [[2]], wanted=np.ones((2, 1), bool)),
            r"wanted must have the shape \(1, 1\), got \(2, 1\)",
        ),
        (
            lambda: caption_log_probs(Faulty(0, V), "forward", [0, 5], [[2], [3]]),
            r"the forward scorer returned NaN or \+inf for source 1 after 1 words",
        ),
        (lambda: Region((0.5, 0, 0.5, 1)), r"left < right and top < bottom, got \[0.5, 0, 0.5, 1\]"),
        (lambda: Region((0, 0, 1.5, 1)), r"from 0 to 1"),
    ],
)
def test_what_cannot_be_ranked(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


class Faulty(TableScorer):
    """A scorer that goes wrong for one image, after the first word."""

    def _scores(self, read):
        scores = np.array(super()._scores(read))
        scores[[image == 5 and len(words) == 1 for image, words in read]] = np.nan
        return scores
