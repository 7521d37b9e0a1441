"""Captioners and linear projections as rankers: a score for each picture and sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from birnn_decode.backend import Array, Backend, backend_for, no_graph
from birnn_decode.evaluation.ranking import sum_of_recalls
from birnn_decode.scorers import as_scorer, eval_mode
from birnn_decode.scorers.answers import bad_scores, checked_pair

RIDGES, DIRECTIONS = (0.01, 0.1, 1.0, 10.0, 100.0), (10, 20, 50, 100)  # of CCA, that are tried
LARGEST_BLOCK = 2**24  # scores that a step may return, rows * vocab_size: 64 MB
MOST_ROWS = 2048  # of a step: this bounds the state of the model, too, and larger steps are slower


@dataclass(frozen=True, eq=False)
class _Prefixes:
    """All prefixes of some sentences, each once, by their length.

    Attributes:
        levels: for each length from 0 the parent of each prefix, a number of the level before, and its last token.
        ends: for each length the prefixes that are sentences, and the numbers of these sentences.
    """

    levels: list[tuple[np.ndarray, np.ndarray]]
    ends: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, sentences: Sequence[tuple[int, ...]], start_token: int) -> _Prefixes:
        levels = [(np.zeros(1, np.int64), np.array([start_token]))]
        ends = []
        here: dict[tuple[int, ...], int] = {(): 0}
        for length in range(max(map(len, sentences)) + 1):
            done = [(here[words], number) for number, words in enumerate(sentences) if len(words) == length]
            ends.append((np.array([at for at, _ in done], np.int64), np.array([one for _, one in done], np.int64)))
            following = dict.fromkeys(words[: length + 1] for words in sentences if len(words) > length)
            parents = np.array([here[words[:-1]] for words in following], np.int64)
            levels.append((parents, np.array([words[-1] for words in following], np.int64)))
            here = {words: at for at, words in enumerate(following)}
        return cls(levels[:-1], ends)

    @property
    def widest(self) -> int:
        """The largest number of prefixes of one length."""
        return max(len(parents) for parents, _ in self.levels)


def caption_log_probs(
    model: Any,
    direction: str,
    sources: Sequence[Any],
    sentences: Sequence[Sequence[int]],
    *,
    wanted: np.ndarray | None = None,
    on_source: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Compute the log-probability of every sentence for every source.

    Sentences share their beginnings: a prefix that several sentences have, in the reading order of the model, is read
    once for each source. So the cost is the number of different prefixes times the number of sources.
    A step reads at most 2,048 prefixes, and fewer if the vocabulary is large.

    Args:
        model: a `Scorer`, or any model that `as_scorer` can wrap.
        direction: ``"forward"`` or ``"backward"``: the order in which the model reads.
        sources: the sources, as the model's ``encode`` takes them.
        sentences: the ids of the words of each sentence, in sentence order.
        wanted: the pairs that are needed, bool [sources, sentences]; the others are -inf. Each source is then read by
            itself. None: all pairs (default: None).
        on_source: called with the number of sources that have been scored, after each batch (default: None).

    Returns:
        log P(sentence | source), in nats, with the end of the sentence, float64 [sources, sentences].

    Raises:
        ValueError: there are no sources or no sentences, ``wanted`` has another shape, or the model returned NaN or
            +inf.

    Example:
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.evaluation import caption_log_probs
        >>> from birnn_decode.models import default_pair
        >>> model = default_pair().forward
        >>> pictures = [make_scene(seed=2, number=number).picture() for number in (4, 5)]
        >>> sentences = [model.vocabulary.encode(text) for text in ("a small green circle", "a small red circle")]
        >>> caption_log_probs(model, "forward", pictures, sentences).shape
        (2, 2)
    """
    if not len(sources) or not len(sentences):
        raise ValueError(f"give at least one source and one sentence, got {len(sources)} and {len(sentences)}")
    if wanted is not None and wanted.shape != (len(sources), len(sentences)):
        raise ValueError(f"wanted must have the shape {(len(sources), len(sentences))}, got {wanted.shape}")
    scorer = as_scorer(model, direction)
    reading = _Reading(scorer, direction)
    at_once = max(1, min(MOST_ROWS, LARGEST_BLOCK // scorer.vocab_size))  # rows of a step
    in_order = [tuple(words) if direction == "forward" else tuple(words)[::-1] for words in sentences]
    found = np.full((len(sources), len(sentences)), -np.inf)
    with eval_mode([scorer]), no_graph():
        if wanted is None:
            parts = _parts(in_order, at_once, scorer.start_token)
            at_a_time = max(1, at_once // max(prefixes.widest for _, prefixes in parts))
            for begin in range(0, len(sources), at_a_time):
                some = list(sources[begin : begin + at_a_time])
                for columns, prefixes in parts:
                    found[begin : begin + len(some), columns] = reading.read(some, prefixes)
                if on_source is not None:
                    on_source(len(some))
            return found
        for row, (source, own) in enumerate(zip(sources, wanted, strict=True)):
            needed = np.flatnonzero(own)
            for columns, prefixes in _parts([in_order[column] for column in needed], at_once, scorer.start_token):
                found[row, needed[columns]] = reading.read([source], prefixes)[0]
            if on_source is not None:
                on_source(1)
    return found


def _parts(sentences: Sequence[tuple[int, ...]], at_once: int, start_token: int) -> list[tuple[np.ndarray, _Prefixes]]:
    """Divide sentences into parts that no step reads more than ``at_once`` prefixes of: their numbers, and prefixes."""
    order = sorted(range(len(sentences)), key=lambda number: sentences[number])  # neighbours share their beginnings
    parts = [order[begin : begin + at_once] for begin in range(0, len(order), at_once)]
    return [(np.array(own), _Prefixes.of([sentences[one] for one in own], start_token)) for own in parts]


class _Reading:
    """A scorer that reads all prefixes of some sentences.

    Args:
        scorer: the scorer.
        name: its direction, for messages.
    """

    def __init__(self, scorer: Any, name: str):
        self._scorer = scorer
        self._name = name
        self._backend: Backend | None = None  # known after the first step

    def read(self, sources: list[Any], prefixes: _Prefixes) -> np.ndarray:
        """Read the prefixes for some sources, length by length; return log-probabilities, [sources, sentences]."""
        scorer, count = self._scorer, len(sources)
        found = np.zeros((count, sum(len(done) for _, done in prefixes.ends)))
        state = scorer.start(scorer.encode(sources))
        normalized = getattr(scorer, "normalized", False)
        sums = np.zeros((count, 1))  # log-probabilities of the prefixes of one length, [sources, prefixes]
        for length, (ends, done) in enumerate(prefixes.ends):
            # The rows of a step: all prefixes of the first source, then of the second, and so on.
            first = np.arange(count)[:, None] * sums.shape[1]
            tokens = self._indices(np.tile(prefixes.levels[length][1], count))
            scores, state = checked_pair(scorer.step(tokens, state), f"{self._name} scorer's step")
            backend = self._backend = self._backend or backend_for(scores, f"the {self._name} scorer")
            log_probs, faulty = backend.log_probs(scores, normalized)
            if faulty:
                place = f"for source {faulty[0] // sums.shape[1]} after {length} words"
                raise bad_scores(self._name, place, normalized)
            rows = (first + ends).ravel()
            ended = backend.pick(log_probs, rows, np.full(len(rows), scorer.end_token))
            found[:, done] = sums[:, ends] + ended.reshape(count, -1)
            if length + 1 < len(prefixes.levels):
                parents, following = prefixes.levels[length + 1]
                rows = (first + parents).ravel()
                read = backend.pick(log_probs, rows, np.tile(following, count))
                sums = sums[:, parents] + read.reshape(count, -1)
                state = scorer.select(state, self._indices(rows))
        return found

    def _indices(self, values: np.ndarray) -> Array:
        return values if self._backend is None else self._backend.indices(values)


@dataclass(frozen=True, eq=False)
class LinearCCA:
    """Canonical correlation analysis of features and words: a linear baseline.

    Features of pictures and bags of words are projected on the directions of largest correlation (Hotelling, 1936),
    each weighted by its correlation, and compared by the cosine.

    Attributes:
        picture_mean: mean of the features, [feature_size].
        sentence_mean: mean of the bags, [vocab_size].
        picture_axes: the projection of features, [feature_size, directions].
        sentence_axes: the projection of bags, [vocab_size, directions].
        correlations: the correlation of each direction, descending.

    Example:
        >>> import numpy as np
        >>> from birnn_decode.evaluation import LinearCCA
        >>> model = LinearCCA.fit(np.eye(3), [[[4]], [[5]], [[6]]], vocab_size=7, ridge=0.01)
        >>> model.score(np.eye(3), [[4], [5], [6]]).argmax(axis=1).tolist()
        [0, 1, 2]
    """

    picture_mean: np.ndarray
    sentence_mean: np.ndarray
    picture_axes: np.ndarray
    sentence_axes: np.ndarray
    correlations: np.ndarray

    @classmethod
    def fit(
        cls, features: np.ndarray, captions: Sequence[Sequence[Sequence[int]]], vocab_size: int, ridge: float
    ) -> LinearCCA:
        """Fit the projections.

        Args:
            features: feature vectors of the pictures, [pictures, feature_size].
            captions: for each picture its captions, each a list of word ids.
            vocab_size: number of ids.
            ridge: what is added to the variances, as a share of their mean; it keeps noise out.

        Returns:
            The fitted model.
        """
        owner = [row for row, own in enumerate(captions) for _ in own]
        x = np.asarray(features, np.float64)[owner]
        y = bags([words for own in captions for words in own], vocab_size)
        x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
        x, y = x - x_mean, y - y_mean
        whiteners = []
        for values in (x, y):
            covariance = values.T @ values / len(values)
            variances, axes = np.linalg.eigh(covariance)
            variances = np.maximum(variances, 0) + ridge * max(float(np.trace(covariance)) / len(covariance), 1e-12)
            whiteners.append(axes / np.sqrt(variances) @ axes.T)
        left, correlations, right = np.linalg.svd(whiteners[0] @ (x.T @ y / len(x)) @ whiteners[1], full_matrices=False)
        return cls(x_mean, y_mean, whiteners[0] @ left, whiteners[1] @ right.T, correlations)

    def score(
        self, features: np.ndarray, sentences: Sequence[Sequence[int]], directions: int | None = None
    ) -> np.ndarray:
        """Compute the scores of all pictures and sentences.

        Args:
            features: feature vectors of the pictures, [pictures, feature_size].
            sentences: the ids of the words of each sentence.
            directions: number of directions; None: all (default: None).

        Returns:
            Cosines, [pictures, sentences].
        """
        weights = self.correlations[:directions]
        x = (np.asarray(features, np.float64) - self.picture_mean) @ self.picture_axes[:, :directions] * weights
        y = (bags(sentences, len(self.sentence_mean)) - self.sentence_mean) @ self.sentence_axes[:, :directions]
        y = y * weights
        x, y = (one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in (x, y))
        scores: np.ndarray = x @ y.T
        return scores


def best_cca(
    training: tuple[np.ndarray, Sequence[Sequence[Sequence[int]]]],
    validation: tuple[np.ndarray, Sequence[Sequence[Sequence[int]]]],
    vocab_size: int,
) -> tuple[LinearCCA, float, int]:
    """Fit CCA with the ridge and the number of directions that have the largest sum of recalls on validation data.

    Args:
        training: features and captions, as for `LinearCCA.fit`.
        validation: the same of other pictures.
        vocab_size: number of ids.

    Returns:
        The fitted model, its ridge, and the number of directions for `LinearCCA.score`.
    """
    features, captions = validation
    owner = [row for row, own in enumerate(captions) for _ in own]
    sentences = [words for own in captions for words in own]
    tried = []
    for ridge in RIDGES:
        fitted = LinearCCA.fit(*training, vocab_size, ridge)
        tried += [
            (sum_of_recalls(fitted.score(features, sentences, directions), owner), fitted, ridge, directions)
            for directions in DIRECTIONS
        ]
    return max(tried, key=lambda one: one[0])[1:]


def bags(sentences: Sequence[Sequence[int]], vocab_size: int) -> np.ndarray:
    """Count the words of sentences.

    Args:
        sentences: the ids of the words of each sentence.
        vocab_size: number of ids.

    Returns:
        How often each id occurs, float64 [sentences, vocab_size].
    """
    counts = np.zeros((len(sentences), vocab_size))
    for row, words in zip(counts, sentences, strict=True):
        np.add.at(row, list(words), 1)
    return counts
