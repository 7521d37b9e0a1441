"""The prefixes that one direction has read in a call, each pushed through the model at most once.

A prefix is a node: the words read so far, in reading order, of one item. Its term is log p(last word | words before),
its sum the log-probability of all of it. Reading a node pushes its last word through the model, which gives the
scores of the next word and the state from which its children are read; both stay with the node for as long as somebody
may ask again, so that later sweeps, other widths of the same template and the final scoring find them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from birnn_decode.backend import Array, Backend
from birnn_decode.scorers import Scorer
from birnn_decode.scorers.answers import backend_of, checked_pair, faulty_scores, within_positions

_NOT_STARTED = object()


@dataclass(eq=False, slots=True)
class _States:
    """The state that one call returned, and how many rows it has."""

    state: Any
    rows: int


@dataclass(eq=False, slots=True)
class _Scores:
    """The scores that one call returned: log p is ``values - normaliser``."""

    values: Array  # [rows, vocab]
    normaliser: list[float] | None  # [rows]


@dataclass(eq=False, slots=True)
class Node:
    """One prefix of one item, in reading order.

    Attributes:
        item: whose prefix.
        parent: the prefix without its last token.
        token: the last token; START at the root.
        depth: how many words; 0 at the root.
        term: log p(token | parent), in nats; 0 at the root.
        log_prob: the sum of the terms from the root to here.
        state: where the state after reading it is; None before that, and when nobody needs it any more.
        scores: where the scores of the next token are; None before that, and when nobody needs them any more.
    """

    item: int
    parent: Node | None
    token: int
    depth: int
    term: float
    log_prob: float
    state: tuple[_States, int] | None = None
    scores: tuple[_Scores, int] | None = None

    def words(self) -> tuple[int, ...]:
        """The words of the prefix, in reading order."""
        words = []
        node = self
        while node.parent is not None and node.depth:
            words.append(node.token)
            node = node.parent
        return tuple(reversed(words))

    @property
    def offset(self) -> float:
        """What turns this node's kept scores into log-probabilities of the whole prefix and one more token."""
        block, row = _scores_of(self)
        return self.log_prob if block.normaliser is None else self.log_prob - block.normaliser[row]


class PrefixTree:
    """The prefixes of one direction in one call.

    Args:
        scorer: the model.
        context: what ``scorer.encode`` returned.
        images: for each item the number of its image in ``context``.
        branching: for each item the depths at which more than one token may follow; None: all of them. Only there are
            scores and states kept for a second question.
        name: of the direction, for error messages.

    Attributes:
        roots: for each item the node that has read START alone.
        rows: for each item the rows pushed through the model: one token read by one hypothesis.
        children: (node, token) to the node of one word more, where log p(token | node) is known.
        sweeping: False once the sweeps are over: scores read from then on are used at once and not kept.
    """

    def __init__(
        self,
        scorer: Scorer,
        context: Any,
        images: Sequence[int],
        branching: Sequence[frozenset[int] | None],
        name: str,
    ):
        self.scorer = scorer
        self.context = context
        self.images = images
        self.branching = branching
        self.name = name
        self.aligned: bool = getattr(scorer, "aligned", True)
        self.normalized: bool = getattr(scorer, "normalized", False)
        self.sweeping = True
        self.rows = [0] * len(images)
        self.children: dict[tuple[Node, int], Node] = {}
        self._backend: Backend | None = None
        self._unread = _States(_NOT_STARTED, len(set(images)))
        unread = [Node(item, None, -1, -1, 0.0, 0.0, (self._unread, image)) for item, image in enumerate(images)]
        self.roots = [Node(node.item, node, scorer.start_token, 0, 0.0, 0.0) for node in unread]

    @property
    def backend(self) -> Backend:
        """The backend of the scores; known once something was read."""
        assert self._backend is not None
        return self._backend

    def find(self, item: int, words: Iterable[int]) -> Node:
        """The node of words that `open` or a sweep has read."""
        node = self.roots[item]
        for word in words:
            node = self.children[node, word]
        return node

    def add(self, node: Node, token: int, term: float) -> Node:
        """The node of one word more, made where there is none."""
        child = self.children.get((node, token))
        if child is None:
            child = Node(node.item, node, token, node.depth + 1, term, node.log_prob + term)
            self.children[node, token] = child
        return child

    def open(self, beginnings: Iterable[tuple[int, tuple[int, ...]]]) -> None:
        """Read the known words, in reading order, that the sentences of an item begin with: one row per item.

        Args:
            beginnings: (item, words) pairs; those of one item continue each other.
        """
        beginnings = sorted(set(beginnings), key=lambda beginning: (beginning[0], len(beginning[1])))
        if getattr(self.scorer, "prefill", None) is not None:
            shortest = dict(reversed(beginnings))
            self._prefill({item: words for item, words in shortest.items() if words})
        at = [self.roots[item] for item, _ in beginnings]
        for position in range(max((len(words) for _, words in beginnings), default=0)):
            here = [
                (number, (at[number], words[position]))
                for number, (_, words) in enumerate(beginnings)
                if position < len(words)
            ]
            self.extend([pair for _, pair in here])
            for number, pair in here:
                at[number] = self.children[pair]

    def read(self, nodes: Iterable[Node], follow: Iterable[tuple[Node, int]] = ()) -> None:
        """Push what was not pushed before, all in one call if the scorer allows it.

        Args:
            nodes: nodes whose `scores` are wanted.
            follow: (node, token) pairs whose child is wanted, that is log p(token | node).

        Raises:
            ValueError: the scorer returned NaN or +inf, or an array of the wrong shape.
        """
        missing = [pair for pair in dict.fromkeys(follow) if pair not in self.children]
        wanted = dict.fromkeys([*nodes, *(node for node, _ in missing)])
        unread = sorted((node for node in wanted if node.scores is None), key=lambda node: node.item)
        for batch in self._batches(unread):
            self._push(batch)
        for (node, token), term in zip(missing, self._terms(missing), strict=True):
            self.add(node, token, term)
        self._drop_scores(unread)

    def extend(self, pairs: Iterable[tuple[Node, int]]) -> None:
        """Make the children of (node, token) pairs; reads nodes whose scores are not there."""
        self.read((), follow=pairs)

    def gather(self, nodes: Sequence[Node]) -> Array:
        """The scores of nodes, [nodes, vocab]; with `Node.offset` added they are sums of the prefix and one token."""
        blocks: dict[_Scores, int] = {}
        rows = []
        for node in nodes:
            block, row = _scores_of(node)
            rows.append((blocks.setdefault(block, len(blocks)), row))
        first = next(iter(blocks)).values
        if len(blocks) == 1 and [row for _, row in rows] == list(range(len(first))):
            return first
        return self.backend.gather([block.values for block in blocks], rows)

    def _indices(self, values: Sequence[Any]) -> Array:
        return np.asarray(values, dtype=np.int64) if self._backend is None else self._backend.indices(values)

    def _branches(self, node: Node) -> bool:
        depths = self.branching[node.item]
        return depths is None or node.depth in depths

    def _batches(self, nodes: Sequence[Node]) -> Iterator[list[Node]]:
        """Nodes that may be read in one call."""
        can_join = getattr(self.scorer, "join", None) is not None
        batches: dict[Any, list[Node]] = {}
        for node in nodes:
            key = (node.depth if self.aligned else 0, None if can_join else _state_of(node)[0])
            batches.setdefault(key, []).append(node)
        return iter(batches.values())

    def _push(self, nodes: list[Node]) -> None:
        blocks: dict[_States, list[int]] = {}
        for number, node in enumerate(nodes):
            blocks.setdefault(_state_of(node)[0], []).append(number)
        if self._unread in blocks and self._unread.state is _NOT_STARTED:
            # Not before it is needed: what is prefilled, and sentences that are given, start by themselves.
            self._unread.state = self.scorer.start(self.context)
        parts = []
        for block, numbers in blocks.items():
            rows = [_state_of(nodes[number])[1] for number in numbers]
            moved = rows != list(range(block.rows))  # a state whose rows all stay where they are needs no copy
            parts.append(self.scorer.select(block.state, self._indices(rows)) if moved else block.state)
        state = parts[0]
        if len(parts) > 1:
            state = self.scorer.join(parts)  # type: ignore[attr-defined]
            order = [number for numbers in blocks.values() for number in numbers]
            if order != sorted(order):  # rows of one image stand together
                back = sorted(range(len(order)), key=order.__getitem__)
                state = self.scorer.select(state, self._indices(back))
        tokens = self._indices([node.token for node in nodes])
        with within_positions(1 + max(node.depth for node in nodes), self.name):
            returned = self.scorer.step(tokens, state)
        scores, state = checked_pair(returned, f"{self.name} scorer's step")
        self._check(scores, (len(nodes), self.scorer.vocab_size), "rows, vocab_size")
        self._record(nodes, scores, _States(state, len(nodes)))
        for node in nodes:
            self.rows[node.item] += 1
            if node.parent is not None and not self._branches(node.parent):
                node.parent.state = None

    def _prefill(self, beginnings: dict[int, tuple[int, ...]]) -> None:
        by_length: dict[int, list[int]] = {}
        for item, words in sorted(beginnings.items()):
            by_length.setdefault(len(words), []).append(item)
        for length, items in by_length.items():
            images = self._indices([self.images[item] for item in items])
            prefixes = self._indices([[self.scorer.start_token, *beginnings[item]] for item in items])
            with within_positions(length + 1, self.name):
                returned = self.scorer.prefill(self.context, images, prefixes)  # type: ignore[attr-defined]
            scores, state = checked_pair(returned, f"{self.name} scorer's prefill")
            self._check(scores, (len(items), length + 1, self.scorer.vocab_size), "items, tokens, vocab_size")
            states = _States(state, len(items))
            nodes = [self.roots[item] for item in items]
            for depth in range(length):
                self._record(nodes, scores[:, depth], None)
                pairs = [(node, beginnings[node.item][depth]) for node in nodes]
                self.extend(pairs)
                self._drop_scores(nodes)
                nodes = [self.children[pair] for pair in pairs]
            self._record(nodes, scores[:, length], states)
            for item in items:
                self.rows[item] += length + 1

    def _record(self, nodes: Sequence[Node], scores: Array, states: _States | None) -> None:
        """Give nodes what a call returned for them, row by row."""
        normalised = self.backend.normalise(scores, self.normalized)
        for row in normalised.faulty:
            raise faulty_scores(nodes[row].item, nodes[row].words(), self.normalized, self.name)
        kept = _Scores(normalised.scores, normalised.normaliser)
        for row, node in enumerate(nodes):
            node.scores = (kept, row)
            node.state = None if states is None else (states, row)

    def _check(self, scores: Array, expected: tuple[int, ...], names: str) -> None:
        backend = backend_of(scores, expected, names, self.name)
        if self._backend is None:
            self._backend = backend

    def _terms(self, pairs: Sequence[tuple[Node, int]]) -> list[float]:
        """The log p(token | node) of nodes with scores."""
        blocks: dict[_Scores, list[int]] = {}
        for number, (node, _) in enumerate(pairs):
            blocks.setdefault(_scores_of(node)[0], []).append(number)
        terms = [0.0] * len(pairs)
        for block, numbers in blocks.items():
            rows = [_scores_of(pairs[number][0])[1] for number in numbers]
            picked = self.backend.pick(block.values, rows, [pairs[number][1] for number in numbers])
            for number, row, value in zip(numbers, rows, picked, strict=True):
                terms[number] = value if block.normaliser is None else value - block.normaliser[row]
        return terms

    def _drop_scores(self, nodes: Iterable[Node]) -> None:
        """Of nodes just read, keep the scores that somebody may ask for again."""
        blocks: dict[_Scores, list[Node]] = {}
        for node in nodes:
            blocks.setdefault(_scores_of(node)[0], []).append(node)
        for block, members in blocks.items():
            kept = [node for node in members if self.sweeping and self._branches(node)]
            if len(kept) == len(members):
                continue
            rows = [_scores_of(node)[1] for node in kept]
            for node in members:
                node.scores = None
            if kept:
                values = self.backend.gather([block.values], [(0, row) for row in rows])
                normaliser = None if block.normaliser is None else [block.normaliser[row] for row in rows]
                smaller = _Scores(values, normaliser)
                for row, node in enumerate(kept):
                    node.scores = (smaller, row)


def _scores_of(node: Node) -> tuple[_Scores, int]:
    assert node.scores is not None
    return node.scores


def _state_of(node: Node) -> tuple[_States, int]:
    """Where the state lies from which a node is read: its parent's."""
    assert node.parent is not None
    assert node.parent.state is not None
    return node.parent.state
