"""The prefixes that one direction has read in a call, each pushed through the model at most once.

A prefix is a node: the words read so far, in reading order, of one item. Its term is log p(last word | words before),
its sum the log-probability of all of it. Reading a node pushes its last word through the model, which gives the
scores of the next word and the state from which its children are read; both stay with the node for as long as somebody
may ask again, so that later sweeps, other widths of the same template and the final scoring find them.

A node is a number, and what is known of nodes stands in columns, so that what is done to the beams of a whole batch is
done at once, whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from birnn_decode.backend import Array, Backend
from birnn_decode.scorers import Scorer
from birnn_decode.scorers.answers import backend_of, checked_pair, explain, faulty_scores
from birnn_decode.search.memory import Memory

Nodes: TypeAlias = np.ndarray
"""Numbers of nodes, int64; -1 stands for none."""

NONE: Nodes = np.empty(0, dtype=np.int64)
_NOT_STARTED = object()


class PrefixTree:
    """The prefixes of one direction in one call.

    Args:
        scorer: the model.
        context: what ``scorer.encode`` returned.
        images: for each item the number of its image in ``context``.
        image_count: how many images there are in ``context``.
        branching: for each item the depths at which more than one token may follow; None: all of them. Only there are
            scores and states kept for a second question.
        name: of the direction, for error messages.
        asked_again: False: no prefix is asked for in two calls of `read`, so that no scores are kept from one call to
            the next.
        memory: keeps account of what is kept, of both directions.
        numbers: what the items are called in error messages; None: by their places.
        every_state: whether somebody asks for the states of known words, too, which are then read one by one.

    Attributes:
        roots: for each item the node that has read START alone.
        memory: keeps account of what is kept.
        rows: for each item the rows pushed through the model: one token read by one hypothesis.
        sweeping: whether scores are kept; False after `end_sweeps`.
        items: column: whose prefix.
        parents: column: the prefix without its last token.
        tokens: column: the last token; START at the root.
        depths: column: how many words; 0 at the root.
        terms: column: log p(token | parent), in nats; 0 at the root.
        log_probs: column: the sum of the terms from the root to here.
    """

    def __init__(
        self,
        scorer: Scorer,
        context: Any,
        images: Sequence[int],
        image_count: int,
        branching: Sequence[frozenset[int] | None],
        name: str,
        asked_again: bool = True,
        memory: Memory | None = None,
        numbers: Sequence[int] | None = None,
        every_state: bool = False,
    ):
        self.scorer = scorer
        self.context = context
        self.images = images
        self.name = name
        self.asked_again = asked_again
        self._numbers = range(len(images)) if numbers is None else numbers
        self.aligned: bool = getattr(scorer, "aligned", True)
        self.normalized: bool = getattr(scorer, "normalized", False)
        self.sweeping = True
        self.rows = np.zeros(len(images), dtype=np.int64)
        self._every_state = every_state
        self._branching = _table(branching)
        self._can_join = getattr(scorer, "join", None) is not None
        self._backend: Backend | None = None
        self._kind: tuple[Any, ...] = ()
        self._known: dict[int, int] = {}  # parent * vocab_size + token: the child

        self._count = 0
        for column in ("items", "parents", "tokens", "depths"):
            setattr(self, column, np.empty(64, dtype=np.int64))
        for column in ("terms", "log_probs", "_normalisers"):
            setattr(self, column, np.empty(64))
        self._branches = np.empty(64, dtype=bool)  # column: whether more than one token may follow
        self.memory = memory or Memory(None)
        # [rows, vocab] of the next token; log p is scores - normaliser
        self._scores = _Blocks(self.memory, lambda scores: int(scores.nbytes))
        self._states = _Blocks(self.memory, getattr(scorer, "state_bytes", lambda state: 0))  # after reading the node

        every = np.arange(len(images))
        unread = self._new(every, every, -1, np.full(len(images), -1), 0.0, 0.0)
        self._states.keep(unread, np.array(images), _NOT_STARTED, image_count)
        self.roots = self._new(every, unread, scorer.start_token, np.zeros(len(images), dtype=np.int64), 0.0, 0.0)

    items: np.ndarray
    parents: Nodes
    tokens: np.ndarray
    depths: np.ndarray
    terms: np.ndarray
    log_probs: np.ndarray
    _normalisers: np.ndarray

    def __len__(self) -> int:
        """How many nodes there are."""
        return self._count

    @property
    def backend(self) -> Backend:
        """The backend of the scores; known once something was read."""
        assert self._backend is not None
        return self._backend

    def children(self, nodes: Nodes, tokens: np.ndarray) -> Nodes:
        """The nodes of one word more; -1 where a term is not known."""
        find = self._known.get
        return np.array([find(key, -1) for key in self._keys(nodes, tokens)], dtype=np.int64)

    def _keys(self, nodes: Nodes, tokens: np.ndarray) -> list[int]:
        keys: list[int] = (nodes * self.scorer.vocab_size + tokens).tolist()
        return keys

    def number_of(self, node: int) -> int:
        """What the item of a node is called in error messages."""
        return int(self._numbers[self.items[node]])

    def find(self, item: int, words: Iterable[int]) -> int:
        """The node of words that `open` or a sweep has read."""
        node = int(self.roots[item])
        for word in words:
            node = self._known[node * self.scorer.vocab_size + word]
        return node

    def words(self, nodes: Nodes) -> list[tuple[int, ...]]:
        """The words of prefixes, in reading order."""
        depths = self.depths[nodes]
        longest = int(depths.max(initial=0))
        table = np.empty((len(nodes), longest), dtype=np.int64)
        at = nodes
        for column in range(longest - 1, -1, -1):
            table[:, column] = self.tokens[at]
            at = self.parents[at]
        return [tuple(row[longest - depth :]) for row, depth in zip(table.tolist(), depths.tolist(), strict=True)]

    def known(self, nodes: Nodes) -> np.ndarray:
        """Whether the scores of nodes are there."""
        known: np.ndarray = self._scores.block[nodes] >= 0
        return known

    def offsets(self, nodes: Nodes) -> np.ndarray:
        """What turns the scores that `gather` gives of nodes into sums of the prefix and one more token."""
        offsets: np.ndarray = self.log_probs[nodes] - self._normalisers[nodes]
        return offsets

    def open(self, beginnings: Iterable[tuple[int, tuple[int, ...]]]) -> None:
        """Read the known words, in reading order, that the sentences of an item begin with: one row per item.

        Args:
            beginnings: (item, words) pairs; those of one item continue each other.
        """
        beginnings = sorted(set(beginnings), key=lambda beginning: (beginning[0], len(beginning[1])))
        if getattr(self.scorer, "prefill", None) is not None and not self._every_state:
            shortest = dict(reversed(beginnings))
            self._prefill({item: words for item, words in shortest.items() if words})
        at = {beginning: int(self.roots[beginning[0]]) for beginning in beginnings}
        for place in range(max((len(words) for _, words in beginnings), default=0)):
            here = [beginning for beginning in beginnings if place < len(beginning[1])]
            tokens = np.array([words[place] for _, words in here])
            children = self.extend(np.array([at[beginning] for beginning in here]), tokens)
            at.update(zip(here, children.tolist(), strict=True))

    def read(self, nodes: Nodes, parents: Nodes = NONE, tokens: np.ndarray = NONE) -> Nodes:
        """Push what was not pushed before, all in one call if the scorer allows it.

        Args:
            nodes: nodes whose scores are wanted.
            parents: nodes of which a child is wanted each, that is log p(token | node).
            tokens: the last word of each of these children.

        Returns:
            the children.

        Raises:
            ValueError: the scorer returned NaN or +inf, or an array of the wrong shape.
        """
        children = self.children(parents, tokens)
        missing = children < 0
        some_missing = missing.any()
        if some_missing:
            parents, tokens = parents[missing], tokens[missing]
            nodes = np.concatenate([nodes, parents])
        unread = nodes[self._scores.block[nodes] < 0]
        if len(unread):
            if (unread[1:] <= unread[:-1]).any():
                unread = np.unique(unread)
            items = self.items[unread]
            if (items[1:] < items[:-1]).any():  # rows of one image stand together
                unread = unread[np.argsort(items, kind="stable")]
            for batch in self._batches(unread):
                self._push(batch)
        if some_missing:
            children[missing] = self._add(parents, tokens, self.pick(parents, tokens))
        if len(unread):
            self._drop_scores(unread)
        return children

    def extend(self, parents: Nodes, tokens: np.ndarray) -> Nodes:
        """The children of nodes; reads those whose scores are not there."""
        return self.read(NONE, parents, tokens)

    def grow(self, parents: Nodes, tokens: np.ndarray, scores: np.ndarray) -> Nodes:
        """The children of nodes with scores, which are given."""
        children = self.children(parents, tokens)
        missing = children < 0
        if missing.all():
            return self._add(parents, tokens, scores)
        if missing.any():
            children[missing] = self._add(parents[missing], tokens[missing], scores[missing])
        return children

    def gather(self, nodes: Nodes, stays: bool = False) -> Array:
        """The scores of nodes, [nodes, vocab]; with `offsets` added they are sums of the prefix and one token.

        They hold until the next call, or for as long as they are wanted if they ``stay``.
        """
        blocks, rows = self._scores.block[nodes], self._scores.row[nodes]
        if _one(blocks):
            scores = self._scores.values[blocks[0]]
            if _in_place(rows, len(scores)):
                return scores
            return self.backend.gather([scores], np.zeros_like(rows), rows, stays)
        several, block_of = np.unique(blocks, return_inverse=True)
        return self.backend.gather([self._scores.values[block] for block in several.tolist()], block_of, rows, stays)

    def continuations(self, nodes: Nodes) -> tuple[np.ndarray, np.ndarray]:
        """The scores of nodes as float64 [nodes, vocab], and their normalisers [nodes]: log p is the difference."""
        return self.backend.numbers(self.gather(nodes)), self._normalisers[nodes]

    def done(self, nodes: Nodes) -> None:
        """The scores of nodes have served; where nobody asks a second time, they go."""
        if not self.asked_again:
            self._scores.let_go(nodes)

    def end_sweeps(self) -> None:
        """The sweeps are over: all scores go, and those that are read from now on are used at once and not kept."""
        self.sweeping = False
        every = np.arange(len(self))
        self._scores.let_go(every[self.known(every)])

    def forget(self, items: Sequence[int]) -> None:
        """Nobody asks for the prefixes of some items any more: their scores and states go."""
        own = np.flatnonzero(np.isin(self.items[: len(self)], items))
        self._scores.let_go(own)
        self._states.let_go(own)

    # ---------------------------------------------------------------------------------------------------------- nodes

    def _new(
        self, items: np.ndarray, parents: Nodes, tokens: Any, depths: np.ndarray, terms: Any, log_probs: Any
    ) -> Nodes:
        begin = self._count
        self._count += len(items)
        columns = ("items", "parents", "tokens", "depths", "terms", "log_probs")
        if self._count > len(self.items):
            for column in (*columns, "_normalisers", "_branches"):
                old = getattr(self, column)
                setattr(self, column, np.concatenate([old, np.empty(self._count, dtype=old.dtype)]))
        for column, values in zip(columns, (items, parents, tokens, depths, terms, log_probs), strict=True):
            getattr(self, column)[begin : self._count] = values
        last = self._branching.shape[1] - 1
        self._branches[begin : self._count] = self._branching[items, np.minimum(depths + 1, last)]
        self._scores.reach(self._count)
        self._states.reach(self._count)
        return np.arange(begin, self._count)

    def _add(self, parents: Nodes, tokens: np.ndarray, scores: np.ndarray) -> Nodes:
        """New children of nodes with scores, which are given; one may be asked for twice."""
        keys = self._keys(parents, tokens)
        fresh = dict.fromkeys(keys)
        twice = len(fresh) < len(keys)
        if twice:
            first = [keys.index(key) for key in fresh]
            parents, tokens, scores = parents[first], tokens[first], scores[first]
        terms = scores - self._normalisers[parents]
        children = self._new(
            self.items[parents], parents, tokens, self.depths[parents] + 1, terms, self.log_probs[parents] + terms
        )
        self._known.update(zip(fresh, children.tolist(), strict=True))
        return np.array([self._known[key] for key in keys]) if twice else children

    def pick(self, nodes: Nodes, tokens: np.ndarray) -> np.ndarray:
        """The scores of tokens behind nodes."""
        blocks, rows = self._scores.block[nodes], self._scores.row[nodes]
        if _one(blocks):
            return self.backend.pick(self._scores.values[blocks[0]], rows, tokens)
        picked = np.empty(len(nodes))
        for block in np.unique(blocks).tolist():
            here = blocks == block
            picked[here] = self.backend.pick(self._scores.values[block], rows[here], tokens[here])
        return picked

    # --------------------------------------------------------------------------------------------- calls of the scorer

    def _batches(self, nodes: Nodes) -> Iterator[Nodes]:
        """Nodes that may be read in one call."""
        one = not self.aligned or _one(self.depths[nodes])
        if one and (self._can_join or _one(self._states.block[self.parents[nodes]])):
            yield nodes
            return
        groups: dict[tuple[int, int], list[int]] = {}
        depths = self.depths[nodes] if self.aligned else np.zeros_like(nodes)
        states = np.zeros_like(nodes) if self._can_join else self._states.block[self.parents[nodes]]
        for node, depth, state in zip(nodes.tolist(), depths.tolist(), states.tolist(), strict=True):
            groups.setdefault((depth, state), []).append(node)
        for group in groups.values():
            yield np.array(group)

    def _push(self, nodes: Nodes) -> None:
        parents = self.parents[nodes]
        state = self.states(parents)
        tokens = self._indices(self.tokens[nodes])
        try:
            returned = self.scorer.step(tokens, state)
        except (IndexError, RuntimeError) as error:
            explain(error, 1 + int(self.depths[nodes].max()), self.name)
        scores, state = checked_pair(returned, f"{self.name} scorer's step")
        self._check(scores, (len(nodes), self.scorer.vocab_size), "rows, vocab_size")
        self._record(nodes, scores)
        self._states.keep(nodes, np.arange(len(nodes)), state, len(nodes))
        self.rows += np.bincount(self.items[nodes], minlength=len(self.rows))
        ended = ~self._branches[parents]
        if ended.any():
            self._states.let_go(parents[ended])

    def states(self, nodes: Nodes) -> Any:
        """The scorer's state of one row per node, after reading it; the nodes were read, and their states are kept."""
        blocks, rows = self._states.block[nodes], self._states.row[nodes]
        several = dict.fromkeys(blocks.tolist())
        assert -1 not in several, "a state that is needed was let go"
        if 0 in several and self._states.values[0] is _NOT_STARTED:
            # Not before it is needed: what is prefilled, and sentences that are given, start by themselves.
            self._states.values[0] = self.scorer.start(self.context)
        if len(several) == 1:
            return self._selected(int(blocks[0]), rows)
        parts, order = [], []
        for block in several:
            here = np.flatnonzero(blocks == block)
            parts.append(self._selected(block, rows[here]))
            order.append(here)
        state = self.scorer.join(parts)  # type: ignore[attr-defined]
        back = np.argsort(np.concatenate(order))
        if not _in_place(back, len(nodes)):
            state = self.scorer.select(state, self._indices(back))
        return state

    def _selected(self, block: int, rows: np.ndarray) -> Any:
        """The given rows of a state; one whose rows all stay where they are needs no copy."""
        state = self._states.values[block]
        if _in_place(rows, self._states.sizes[block]):
            return state
        return self.scorer.select(state, self._indices(rows))

    def _prefill(self, beginnings: dict[int, tuple[int, ...]]) -> None:
        by_length: dict[int, list[int]] = {}
        for item, words in sorted(beginnings.items()):
            by_length.setdefault(len(words), []).append(item)
        for length, items in by_length.items():
            images = self._indices(np.array([self.images[item] for item in items]))
            read = np.array([[self.scorer.start_token, *beginnings[item]] for item in items])
            try:
                returned = self.scorer.prefill(self.context, images, self._indices(read))  # type: ignore[attr-defined]
            except (IndexError, RuntimeError) as error:
                explain(error, length + 1, self.name)
            scores, state = checked_pair(returned, f"{self.name} scorer's prefill")
            self._check(scores, (len(items), length + 1, self.scorer.vocab_size), "items, tokens, vocab_size")
            nodes = self.roots[items]
            for depth in range(length):
                self._record(nodes, scores[:, depth])
                children = self.extend(nodes, read[:, depth + 1])
                self._drop_scores(nodes)
                nodes = children
            self._record(nodes, scores[:, length])
            self._states.keep(nodes, np.arange(len(nodes)), state, len(nodes))
            self.rows[items] += length + 1

    def _indices(self, values: np.ndarray) -> Array:
        return values if self._backend is None else self._backend.indices(values)

    def _check(self, scores: Array, expected: tuple[int, ...], names: str) -> None:
        """Check scores; those of the first call say what all others are like."""
        kind = (type(scores), getattr(scores, "dtype", None), tuple(getattr(scores, "shape", ())))
        if kind == (*self._kind, expected):
            return
        backend = backend_of(scores, expected, names, f"the {self.name} scorer")
        if self._backend is None:
            self._backend, self._kind = backend, kind[:2]

    # ----------------------------------------------------------------------------------------- what stays, and what not

    def _record(self, nodes: Nodes, scores: Array) -> None:
        """Give nodes what a call returned for them, row by row."""
        normalised = self.backend.normalise(scores, self.normalized)
        for row in normalised.faulty:
            (words,) = self.words(nodes[row : row + 1])
            raise faulty_scores(self.number_of(nodes[row]), words, self.normalized, self.name)
        self._keep_scores(nodes, normalised.scores)
        self._normalisers[nodes] = 0.0 if normalised.normaliser is None else normalised.normaliser

    def _keep_scores(self, nodes: Nodes, scores: Array) -> None:
        self._scores.keep(nodes, np.arange(len(nodes)), scores, len(nodes))

    def _drop_scores(self, nodes: Nodes) -> None:
        """Of nodes just read, keep the scores that somebody may ask for again."""
        keep = self._branches[nodes] & self.sweeping
        if keep.all():
            return
        if not keep.any():
            self._scores.let_go(nodes)
            return
        blocks = self._scores.block[nodes]
        for block in np.unique(blocks).tolist():
            kept = nodes[(blocks == block) & keep]
            scores = self.gather(kept, stays=True) if len(kept) else None
            self._scores.let_go(nodes[blocks == block])
            if len(kept):
                self._keep_scores(kept, scores)


class _Blocks:
    """What calls have returned, row by row, for as long as some node has use for a row of it.

    Attributes:
        block: column: which of the values a node's row is in; -1: none.
        row: column: which row.
        values: what a call returned; None when nobody needs it any more.
        sizes: how many rows each has.
    """

    def __init__(self, memory: Memory, bytes_of: Callable[[Any], int]) -> None:
        self._memory = memory
        self._bytes_of = bytes_of
        self._bytes: dict[int, int] = {}  # of the values that are kept
        self.block = np.full(64, -1)
        self.row = np.zeros(64, dtype=np.int64)
        self.values: list[Any] = []
        self.sizes: list[int] = []
        self._users: list[int] = []

    def reach(self, count: int) -> None:
        """Have a place for so many nodes."""
        if count > len(self.block):
            self.block = np.concatenate([self.block, np.full(count, -1)])
            self.row = np.concatenate([self.row, np.zeros(count, dtype=np.int64)])

    def keep(self, nodes: Nodes, rows: np.ndarray, value: Any, size: int) -> None:
        """Keep a value of so many rows for nodes."""
        self.block[nodes] = len(self.values)
        self.row[nodes] = rows
        self.values.append(value)
        self.sizes.append(size)
        self._users.append(len(nodes))
        if value is not _NOT_STARTED:
            self._bytes[len(self.values) - 1] = size_in_memory = self._bytes_of(value)
            self._memory.take(size_in_memory)

    def let_go(self, nodes: Nodes) -> None:
        """These nodes, of which none is named twice, need their rows no more."""
        blocks = self.block[nodes]
        self.block[nodes] = -1
        for block in blocks[blocks >= 0].tolist():
            self._users[block] -= 1
            if not self._users[block]:
                self._memory.give_back(self._bytes.pop(block, 0))
                self.values[block] = None


def _table(branching: Sequence[frozenset[int] | None]) -> np.ndarray:
    """[items, 1 + depth]: whether more than one token may follow; the last column stands for all greater depths."""
    deepest = max((max(depths, default=0) for depths in branching if depths is not None), default=0)
    table = np.zeros((len(branching), deepest + 3), dtype=bool)
    for row, depths in zip(table, branching, strict=True):
        if depths is None:
            row[:] = True
        else:
            row[[depth + 1 for depth in depths]] = True
    return table


def _one(numbers: np.ndarray) -> bool:
    """Whether all are the same."""
    return len(set(numbers.tolist())) == 1


def _in_place(rows: np.ndarray, count: int) -> bool:
    """Whether rows are all that there are, each where it is."""
    return len(rows) == count and rows.tolist() == list(range(count))
