"""Scorers over random tables: every prefix of every image has a distribution of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from hypothesis import strategies as st
from reference import Model, random_logits, random_model

from birnn_decode import Objective, Pair, Template
from birnn_decode.search.direction import Direction, branching_depths
from birnn_decode.search.holding import Demands, Problem
from birnn_decode.search.pair import PairCoupling
from birnn_decode.search.tree import Encoded, PrefixTree

# START, END of a forward scorer in sentences of words 2, 3, …; a backward scorer has them the other way round.
START, END = 0, 1
FIRST_WORD = 2


@cache
def _row(seed, prefix, vocab_size, sharpness, minus_inf):
    return random_logits(seed, prefix, vocab_size, sharpness, minus_inf)


class TableScorer:
    """A scorer that checks how it is used.

    It hands out read-only arrays and states, refuses calls that break the rules of the protocol, and remembers every
    prefix that it has read. The library may be "numpy" or "torch"; optional members are there where asked for.
    """

    def __init__(
        self,
        seed,
        vocab_size,
        *,
        backward=False,
        ids=(START, END),
        sharpness=1.0,
        minus_inf=0.0,
        library="numpy",
        dtype="float64",
        normalized=False,
        aligned=True,
        join=True,
        steps=False,
        score=False,
        never=None,
    ):
        self.seed = seed
        self.vocab_size = vocab_size
        self.start_token, self.end_token = ids[::-1] if backward else ids
        self.sharpness = sharpness
        self.minus_inf = minus_inf
        self.arrays = library
        self.dtype = dtype
        self.normalized = normalized
        self.aligned = aligned
        if never is not None:
            self.never = never
        if join:
            self.join = self._join
        if steps:
            self.steps = self._steps
        if score:
            self.score = self._score
        self.read = []  # (image, words) of every row that was stepped, in order
        self.tokens_read = 0  # by all ways of reading
        self.handed_out = []  # (array, its value when handed out)

    def model(self, image=0) -> Model:
        """The same table for the reference implementation."""
        seed = self._seed(image)
        return random_model(seed, self.vocab_size, self.end_token, sharpness=self.sharpness, minus_inf=self.minus_inf)

    def encode(self, images):
        return tuple(images)

    def start(self, context):
        return tuple((image, None) for image in context)

    def step(self, tokens, state):
        tokens = self._ids(tokens)
        assert len(tokens) == len(state) > 0
        if self.aligned:
            assert len({-1 if words is None else len(words) for _, words in state}) == 1, "rows of unequal length"
        images = [image for image, _ in state]
        assert images == [image for image in dict.fromkeys(images) for _ in range(images.count(image))]
        read = []
        for token, (image, words) in zip(tokens, state, strict=True):
            assert (words is None) == (token == self.start_token)
            read.append((image, () if words is None else (*words, token)))
        self.read += read
        self.tokens_read += len(read)
        return self._scores(read), tuple(read)

    def select(self, state, rows):
        return tuple(state[row] for row in self._ids(rows))

    def _join(self, states):
        assert len(states) > 1
        return tuple(row for state in states for row in state)

    def _steps(self, tokens, state):
        """Several tokens per row. The end of a shorter row is padded with END, which no search reads otherwise."""
        rows = [self._ids(row) for row in tokens]
        assert len(rows) == len(state) > 0
        if self.aligned:
            assert len({-1 if words is None else len(words) for _, words in state}) == 1, "rows of unequal length"
        images = [image for image, _ in state]
        assert images == [image for image in dict.fromkeys(images) for _ in range(images.count(image))]
        scores, after = [], []
        for row, (image, words) in zip(rows, state, strict=True):
            assert (words is None) == (row[0] == self.start_token)
            whole = row if words is None else [self.start_token, *words, *row]
            prefixes = [tuple(whole[1:end]) for end in range(len(whole) - len(row) + 1, len(whole) + 1)]
            ends = [at for at, token in enumerate(row) if token == self.end_token and (at or words is not None)]
            length = min(ends, default=len(row))
            assert ends == list(range(length, len(row))), "words after END"
            self.read += [(image, prefix) for prefix in prefixes[:length]]
            self.tokens_read += length
            scores.append(self._scores([(image, prefix) for prefix in prefixes]))
            after.append((image, prefixes[-1]))
        stack = np.stack
        if self.arrays == "torch":
            import torch

            stack = torch.stack
        return stack(scores), tuple(after)

    def _score(self, context, items, sentences):
        scored = []
        for item, words in zip(self._ids(items), sentences, strict=True):
            model = self.model(context[item])
            read = (*words, self.end_token)
            scored.append(np.array([model.log_probs(words[:at])[token] for at, token in enumerate(read)]))
            self.tokens_read += len(read)
        return scored

    def check_untouched(self):
        for array, value in self.handed_out:
            assert np.array_equal(np.asarray(array), value, equal_nan=True), "scores were changed by the search"

    def _seed(self, image):
        return self.seed + 7919 * (image or 0)

    def _scores(self, read):
        rows = []
        for image, words in read:
            row = _row(self._seed(image), words, self.vocab_size, self.sharpness, self.minus_inf)
            rows.append(self.model_row(image, words) if self.normalized else row)
        scores = np.array(rows, dtype=self.dtype)
        if self.arrays == "torch":
            import torch

            scores = torch.from_numpy(scores)
            self.handed_out.append((scores, scores.numpy().copy()))
        else:
            scores.setflags(write=False)
        return scores

    def model_row(self, image, words):
        return self.model(image).log_probs(words)

    def _ids(self, array):
        """Ids as numbers; arrays must be int64, and of the scores' library once there are scores."""
        if self.arrays == "torch" and self.read:
            import torch

            assert isinstance(array, torch.Tensor)
            assert array.dtype == torch.int64
        else:
            assert isinstance(array, np.ndarray) or self.arrays == "torch"
            assert str(array.dtype).endswith("int64")
        return [int(one) for one in array]


class Impatient(TableScorer):
    """A scorer whose user presses Ctrl-C at some call."""

    calls_left = math.inf

    def step(self, tokens, state):
        self.calls_left -= 1
        if self.calls_left < 0:
            self.calls_left = math.inf
            raise KeyboardInterrupt
        return super().step(tokens, state)


def pair(seed, vocab_size, **options):
    """A forward and a backward scorer."""
    return (
        TableScorer(seed, vocab_size, **options),
        TableScorer(seed + 1_000_003, vocab_size, backward=True, **options),
    )


def one_sided(model, direction):
    """A pair that has one model only."""
    return Pair(model, None) if direction == "forward" else Pair(None, model)


def coupled(forward, backward, template, weights=(1.0, 1.0), kind=PairCoupling):
    """A coupling of two models for one item, and the item's problems, for tests below the front door."""
    fixed = template.fixed()
    directions = []
    for scorer, reverse, weight in ((forward, False, weights[0]), (backward, True, weights[1])):
        encoded = Encoded(scorer.encode([None]), [0], 1, [0])
        tree = PrefixTree(scorer, "a", encoded, [None if kind.every_score else branching_depths(fixed, reverse)])
        directions.append(Direction(tree, weight, reverse, (START, END)))
    coupling = kind(tuple(directions), Objective(*weights), ["none"], Demands())
    return coupling, [Problem(0, one) for one in fixed]


def reference_template(template: Sequence, words: Sequence[int]):
    """Positions as given to `Template.from_tokens`, as the reference wants them: (allowed sets, blank positions)."""
    allowed, blanks = [], set()
    for position, token in enumerate(template):
        if token is Template.BLANK:
            allowed.append(frozenset(words))
            blanks.add(position)
        elif isinstance(token, (set, frozenset)):
            allowed.append(frozenset(token))
            if len(token) > 1:
                blanks.add(position)
        else:
            allowed.append(frozenset([token]))
    return allowed, frozenset(blanks)


def words_of(vocab_size, ids=(START, END)):
    return [token for token in range(vocab_size) if token not in ids]


@st.composite
def templates(draw, vocab_size, max_length=5):
    """Positions for `Template.from_tokens`: known words, blanks, sets of allowed words, in any order and number."""
    word = st.integers(FIRST_WORD, vocab_size - 1)
    position = st.one_of(st.just(Template.BLANK), st.just(Template.BLANK), word, st.frozensets(word, min_size=1))
    return draw(st.lists(position, max_size=max_length))


table_options = st.fixed_dictionaries(
    {"sharpness": st.sampled_from([0.3, 1.0, 3.0]), "minus_inf": st.sampled_from([0.0, 0.0, 0.25])}
)
members = st.fixed_dictionaries(
    {"aligned": st.booleans(), "join": st.booleans(), "steps": st.booleans(), "score": st.booleans()}
)
seeds = st.integers(0, 10**6)
