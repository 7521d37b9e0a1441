"""The prefixes that one direction has read in a call. Each is pushed through the model at most once.

A prefix is a node: the words of one item read so far, in reading order. The term of a node is
log p(last word | words before it). Its sum is the log-probability of all its words. Reading a node pushes its last word
through the model. This gives the scores of the next word, and the state from which the children are read. The node
keeps both as long as they may be needed again: by later sweeps, by other widths of the same template, or by the final
scoring.

A node is a number, and its values stand in columns. One array operation therefore serves the beams of a whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from birnn_decode.backend import Array, Backend
from birnn_decode.scorers.answers import backend_of, checked_pair, explain, faulty_scores
from birnn_decode.scorers.protocol import Scorer
from birnn_decode.search.columns import Columns
from birnn_decode.search.memory import Memory

Nodes: TypeAlias = np.ndarray
"""Numbers of nodes, int64; -1 means none."""

NONE: Nodes = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Encoded:
    """The sources that a model is asked about, as the model has encoded them.

    Attributes:
        context: what the scorer's ``encode`` returned.
        sources: for each item the number of its source in ``context``.
        count: the number of sources in ``context``.
        numbers: the numbers of the items in error messages.
    """

    context: Any
    sources: Sequence[int]
    count: int
    numbers: Sequence[int]


class PrefixTree(Columns):
    """The prefixes of one direction in one call.

    Args:
        scorer: the model.
        name: the name of the direction, for error messages.
        encoded: the items and their sources.
        branching: for each item the depths at which more than one token may follow; None for all depths. Scores and
            states are kept for a second question at these depths only.
        asked_again: False if no prefix is asked for in two calls of ``read``. No scores are kept between calls then.
        every_state: whether the states at known words are needed, too. Known words are then read one by one.
        memory: counts the bytes kept by both directions.
        rows_per_call: the most prefixes or sentences that the scorer is given in one call; None for no limit.

    Attributes:
        roots: for each item the node that has read START alone.
        memory: counts the bytes kept.
        rows: for each item the rows pushed through the model. A row is one token read by one hypothesis.
        sweeping: whether scores are kept; False after ``end_sweeps``.
        items: column: the item of the prefix.
        parents: column: the prefix without its last token.
        tokens: column: the last token; START at the root.
        depths: column: the number of words; 0 at the root.
        terms: column: log p(token | parent), in nats; 0 at the root.
        log_probs: column: the sum of the terms from the root to here.
    """

    def __init__(
        self,
        scorer: Scorer,
        name: str,
        encoded: Encoded,
        branching: Sequence[frozenset[int] | None],
        asked_again: bool = True,
        every_state: bool = False,
        memory: Memory | None = None,
        rows_per_call: int | None = None,
    ):
        super().__init__()
        self.scorer = scorer
        self.encoded = encoded
        self.name = name
        self.rows_per_call = rows_per_call
        self.asked_again = asked_again
        self.aligned: bool = getattr(scorer, "aligned", True)
        self.normalized: bool = getattr(scorer, "normalized", False)
        self.memory = memory or Memory(None)
        self.sweeping = True
        items = len(encoded.sources)
        self.rows = np.zeros(items, dtype=np.int64)
        self._every_state = every_state
        self._branching = _table(branching)
        self._can_join = getattr(scorer, "join", None) is not None
        self._backend: Backend | None = None
        self._kind: tuple[Any, ...] = ()
        self._child: dict[int, int] = {}  # parent * vocab_size + token: the child

        self.items, self.parents, self.tokens, self.depths = (np.empty(0, dtype=np.int64) for _ in range(4))
        self.terms, self.log_probs, self._normalisers = (np.empty(0) for _ in range(3))
        self._branches = np.empty(0, dtype=bool)  # column: whether more than one token may follow
        # [rows, vocab] of the next token; log p is scores - normaliser
        self._scores = _Blocks(self.memory, lambda scores: int(scores.nbytes))
        self._states = _Blocks(self.memory, getattr(scorer, "state_bytes", lambda state: 0))  # after reading the node

        every = np.arange(items)
        unread = self._new(every, every, -1, np.full(items, -1), 0.0, 0.0)
        # The first state comes from ``start``, which ``states`` calls when it is needed: ``prefill`` starts by itself.
        self._states.keep(unread, None, np.array(encoded.sources), encoded.count)
        self.roots = self._new(every, unread, scorer.start_token, np.zeros(items, dtype=np.int64), 0.0, 0.0)

    @property
    def backend(self) -> Backend:
        """The backend of the scores. It is known as soon as something has been read."""
        assert self._backend is not None
        return self._backend

    def children(self, nodes: Nodes, tokens: np.ndarray) -> Nodes:
        """Return the nodes with one more word; -1 if the term is not known."""
        find = self._child.get
        return np.array([find(key, -1) for key in self._keys(nodes, tokens)], dtype=np.int64)

    def _keys(self, nodes: Nodes, tokens: np.ndarray) -> list[int]:
        return (nodes * self.scorer.vocab_size + tokens).tolist()

    def number_of(self, node: int) -> int:
        """Return the number of a node's item, for error messages."""
        return int(self.encoded.numbers[self.items[node]])

    def path(self, item: int, words: Iterable[int]) -> list[int]:
        """Return the nodes of words that were read, from the root on; the last is the node of all words."""
        nodes = [int(self.roots[item])]
        for word in words:
            nodes.append(self._child[nodes[-1] * self.scorer.vocab_size + word])
        return nodes

    def find(self, item: int, words: Iterable[int]) -> int:
        """Return the node of words that ``open`` or a sweep has read."""
        return self.path(item, words)[-1]

    def words(self, nodes: Nodes) -> list[tuple[int, ...]]:
        """Return the words of prefixes, in reading order."""
        depths = self.depths[nodes]
        longest = int(depths.max(initial=0))
        table = np.empty((len(nodes), longest), dtype=np.int64)
        at = nodes
        for column in range(longest - 1, -1, -1):
            table[:, column] = self.tokens[at]
            at = self.parents[at]
        return [tuple(row[longest - depth :]) for row, depth in zip(table.tolist(), depths.tolist(), strict=True)]

    def known(self, nodes: Nodes) -> np.ndarray:
        """Tell which nodes have their scores."""
        return self._scores.block[nodes] >= 0

    def offsets(self, nodes: Nodes) -> np.ndarray:
        """Return what to add to the scores of ``gather`` to get the log-probability of prefix and next token."""
        return self.log_probs[nodes] - self._normalisers[nodes]

    def open(self, beginnings: Iterable[tuple[int, tuple[int, ...]]]) -> None:
        """Read the known words, in reading order, at the beginning of the sentences of an item: one row per item.

        Args:
            beginnings: (item, words) pairs. The words of one item's pairs continue each other.
        """
        beginnings = sorted(beginnings, key=lambda beginning: (beginning[0], len(beginning[1])))
        if getattr(self.scorer, "prefill", None) is not None and not self._every_state:
            shortest = dict(reversed(beginnings))
            self._prefill({item: words for item, words in shortest.items() if words})
        longest = dict(beginnings)
        nodes = self.roots[list(longest)]
        lengths = np.array([len(words) for words in longest.values()], dtype=np.int64)
        for place in range(lengths.max(initial=0)):
            going = place < lengths
            tokens = np.array([words[place] for words in longest.values() if place < len(words)])
            nodes[going] = self.extend(nodes[going], tokens)

    def read(self, nodes: Nodes, parents: Nodes = NONE, tokens: np.ndarray = NONE) -> Nodes:
        """Push prefixes that were not pushed before, all in one call if the scorer allows it.

        Args:
            nodes: the nodes whose scores are wanted.
            parents: the nodes of which one child each is wanted, with its log p(token | node).
            tokens: the last word of each of these children.

        Returns:
            the children.

        Raises:
            ValueError: the scorer returned NaN or +inf, or an array of the wrong shape.
        """
        children = self.children(parents, tokens)
        missing = children < 0
        if missing.any():
            parents, tokens = parents[missing], tokens[missing]
            nodes = np.concatenate([nodes, parents])
        unread = nodes[~self.known(nodes)]
        if len(unread):
            rows = sorted(set(zip(self.items[unread].tolist(), unread.tolist(), strict=True)))
            unread = np.array([node for _, node in rows])  # each once, those of one item together
            for batch in self._batches(unread):
                for some in self.calls(len(batch)):
                    self._push(batch[some])
        if missing.any():
            children[missing] = self._add(parents, tokens, self.pick(parents, tokens))
        if len(unread):
            self._drop_scores(unread)
        return children

    def extend(self, parents: Nodes, tokens: np.ndarray) -> Nodes:
        """Return the children of nodes. Nodes without scores are read."""
        return self.read(NONE, parents, tokens)

    def grow(self, parents: Nodes, tokens: np.ndarray, scores: np.ndarray) -> Nodes:
        """Return the children of nodes, given the scores of the tokens."""
        children = self.children(parents, tokens)
        missing = children < 0
        if missing.any():
            children[missing] = self._add(parents[missing], tokens[missing], scores[missing])
        return children

    def gather(self, nodes: Nodes, stays: bool = False) -> Array:
        """Return the scores of nodes, [nodes, vocab].

        With ``offsets`` added they are log-probabilities of the prefix and one more token. The array is valid until
        the next call, or for as long as it is needed if ``stays`` is True.
        """
        blocks, rows = self._scores.block[nodes], self._scores.row[nodes]
        several = sorted(set(blocks.tolist()))
        scores = [self._scores.values[block] for block in several]
        if len(scores) == 1 and _in_place(rows, len(scores[0])):
            return scores[0]
        return self.backend.gather(scores, np.searchsorted(several, blocks), rows, stays)

    def continuations(self, nodes: Nodes) -> tuple[np.ndarray, np.ndarray]:
        """Return scores as float64 [nodes, vocab] and normalisers [nodes]; log p is their difference."""
        return self.backend.numbers(self.gather(nodes)), self._normalisers[nodes]

    def done(self, nodes: Nodes) -> None:
        """Drop the scores of nodes after use, unless they may be asked for again."""
        if not self.asked_again:
            self._scores.let_go(nodes)

    def end_sweeps(self) -> None:
        """End the sweeps: drop all scores. Scores read from now on are used at once and not kept."""
        self.sweeping = False
        self._scores.let_go(np.arange(len(self)))

    def forget(self, items: Sequence[int]) -> None:
        """Drop the scores and states of items that are finished."""
        own = np.flatnonzero(np.isin(self.items, items))
        self._scores.let_go(own)
        self._states.let_go(own)

    # ---------------------------------------------------------------------------------------------------------- nodes

    def _new(
        self, items: np.ndarray, parents: Nodes, tokens: Any, depths: np.ndarray, terms: Any, log_probs: Any
    ) -> Nodes:
        """Append nodes. Arguments may be scalars, except ``items`` and ``depths``."""
        new = self.append(
            items=items,
            parents=parents,
            tokens=tokens,
            depths=depths,
            terms=terms,
            log_probs=log_probs,
            _normalisers=0.0,
            _branches=self._branching[items, np.minimum(depths + 1, self._branching.shape[1] - 1)],
        )
        self._scores.reach(len(self))
        self._states.reach(len(self))
        return new

    def _add(self, parents: Nodes, tokens: np.ndarray, scores: np.ndarray) -> Nodes:
        """Add children of nodes, given the scores of the tokens. A child may be asked for twice."""
        keys = self._keys(parents, tokens)
        row_of = dict(zip(keys, range(len(keys)), strict=True))
        twice = len(row_of) < len(keys)
        if twice:
            once = list(row_of.values())
            parents, tokens, scores = parents[once], tokens[once], scores[once]
        terms = scores - self._normalisers[parents]
        children = self._new(
            self.items[parents], parents, tokens, self.depths[parents] + 1, terms, self.log_probs[parents] + terms
        )
        self._child.update(zip(row_of, children.tolist(), strict=True))
        return np.array([self._child[key] for key in keys]) if twice else children

    def calls(self, rows: int) -> list[slice]:
        """Divide rows among as many calls of the scorer as ``rows_per_call`` makes necessary."""
        most = self.rows_per_call or max(rows, 1)
        return [slice(begin, begin + most) for begin in range(0, rows, most)]

    def pick(self, nodes: Nodes, tokens: np.ndarray) -> np.ndarray:
        """Return the scores of one token after each node."""
        blocks, rows = self._scores.block[nodes], self._scores.row[nodes]
        picked = np.empty(len(nodes))
        for block in set(blocks.tolist()):
            here = blocks == block
            picked[here] = self.backend.pick(self._scores.values[block], rows[here], tokens[here])
        return picked

    # --------------------------------------------------------------------------------------------- calls of the scorer

    def _batches(self, nodes: Nodes) -> list[Nodes]:
        """Group nodes that may be read in one call."""
        if not self.aligned and self._can_join:
            return [nodes]
        depths = self.depths[nodes] if self.aligned else np.zeros_like(nodes)
        states = np.zeros_like(nodes) if self._can_join else self._states.block[self.parents[nodes]]
        batches: dict[tuple[int, int], list[int]] = {}
        for node, depth, state in zip(nodes.tolist(), depths.tolist(), states.tolist(), strict=True):
            batches.setdefault((depth, state), []).append(node)
        return [np.array(batch) for batch in batches.values()]

    def _push(self, nodes: Nodes) -> None:
        parents = self.parents[nodes]
        read = self._indices(self.tokens[nodes]), self.states(parents)
        scores, state = ask(self.scorer, self.name, "step", read, 1 + int(self.depths[nodes].max()))
        self._check(scores, (len(nodes), self.scorer.vocab_size), "rows, vocab_size")
        self._record(nodes, scores)
        self._states.keep(nodes, state)
        self.rows += np.bincount(self.items[nodes], minlength=len(self.rows))
        self._states.let_go(parents[~self._branches[parents]])

    def states(self, nodes: Nodes) -> Any:
        """Return the scorer's state of one row per node. The nodes must have been read, and their states kept."""
        blocks, rows = self._states.block[nodes], self._states.row[nodes]
        several = list(dict.fromkeys(blocks.tolist()))
        assert -1 not in several, "a state that is needed was let go"
        if 0 in several and self._states.values[0] is None:
            self._states.values[0] = self.scorer.start(self.encoded.context)
        owned = [np.flatnonzero(blocks == block) for block in several]
        parts = [
            self._select(self._states.values[block], rows[own], self._states.sizes[block])
            for block, own in zip(several, owned, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        state = self.scorer.join(parts)  # type: ignore[attr-defined]
        return self._select(state, np.argsort(np.concatenate(owned)), len(nodes))

    def _select(self, state: Any, rows: np.ndarray, size: int) -> Any:
        """Select rows of a state that has ``size`` rows. No copy is needed if all rows stay in place."""
        return state if _in_place(rows, size) else self.scorer.select(state, self._indices(rows))

    def _prefill(self, beginnings: dict[int, tuple[int, ...]]) -> None:
        by_length: dict[int, list[int]] = {}
        for item, words in sorted(beginnings.items()):
            by_length.setdefault(len(words), []).append(item)
        parts = [(length, own[some]) for length, own in by_length.items() for some in self.calls(len(own))]
        for length, items in parts:
            images = self._indices(np.array([self.encoded.sources[item] for item in items]))
            read = np.array([[self.scorer.start_token, *beginnings[item]] for item in items])
            asked = self.encoded.context, images, self._indices(read)
            scores, state = ask(self.scorer, self.name, "prefill", asked, length + 1)
            self._check(scores, (len(items), length + 1, self.scorer.vocab_size), "items, tokens, vocab_size")
            nodes = self.roots[items]
            for depth in range(length):
                self._record(nodes, scores[:, depth])
                children = self.extend(nodes, read[:, depth + 1])
                self._drop_scores(nodes)
                nodes = children
            self._record(nodes, scores[:, length])
            self._states.keep(nodes, state)
            self.rows[items] += length + 1

    def _indices(self, values: np.ndarray) -> Array:
        return values if self._backend is None else self._backend.indices(values)

    def _check(self, scores: Array, expected: tuple[int, ...], names: str) -> None:
        """Check scores, unless scores of their kind were checked before. The first ones determine the backend."""
        kind = type(scores), getattr(scores, "dtype", None)
        if kind != self._kind or scores.shape != expected:
            backend = backend_of(scores, expected, names, f"the {self.name} scorer")
            self._backend, self._kind = self._backend or backend, kind

    # ---------------------------------------------------------------------------------------------------- what is kept

    def _record(self, nodes: Nodes, scores: Array) -> None:
        """Store the scores that a call returned, row by row."""
        normalised = self.backend.normalise(scores, self.normalized)
        for row in normalised.faulty:
            (words,) = self.words(nodes[row : row + 1])
            raise faulty_scores(self.number_of(nodes[row]), words, self.normalized, self.name)
        self._scores.keep(nodes, normalised.scores)
        self._normalisers[nodes] = 0.0 if normalised.normaliser is None else normalised.normaliser

    def _drop_scores(self, nodes: Nodes) -> None:
        """Drop the scores of nodes just read, except those that may be asked for again."""
        blocks, kept = self._scores.block[nodes], self._branches[nodes] & self.sweeping
        for block in set(blocks[~kept].tolist()):
            own = blocks == block
            stay = nodes[own & kept]
            scores = self.gather(stay, stays=True) if len(stay) else None
            self._scores.let_go(nodes[own])
            if len(stay):
                self._scores.keep(stay, scores)


class _Blocks:
    """The values that calls have returned. A value is kept as long as some node needs a row of it.

    Attributes:
        block: column: the number of the value that holds a node's row; -1 for none.
        row: column: the row in this value.
        values: what the calls returned; None once no node needs it.
        sizes: the number of rows of each value.
    """

    def __init__(self, memory: Memory, bytes_of: Callable[[Any], int]) -> None:
        self._memory = memory
        self._bytes_of = bytes_of
        self.block = self.row = NONE
        self.values: list[Any] = []
        self.sizes: list[int] = []
        self._bytes: list[int] = []
        self._users: list[int] = []

    def reach(self, count: int) -> None:
        """Make room for ``count`` nodes."""
        if count > len(self.block):
            self.block = np.append(self.block, np.full(count, -1))
            self.row = np.resize(self.row, len(self.block))

    def keep(self, nodes: Nodes, value: Any, rows: np.ndarray | None = None, size: int = 0) -> None:
        """Keep a value for nodes: one row for each, or some ``rows`` of the ``size`` rows that it has."""
        self.block[nodes] = len(self.values)
        self.row[nodes] = np.arange(len(nodes)) if rows is None else rows
        self.values.append(value)
        self.sizes.append(size or len(nodes))
        self._bytes.append(0 if value is None else self._bytes_of(value))
        self._users.append(len(nodes))
        self._memory.take(self._bytes[-1])

    def let_go(self, nodes: Nodes) -> None:
        """Release the rows of nodes. No node may be named twice."""
        blocks = self.block[nodes]
        self.block[nodes] = -1
        for block in blocks[blocks >= 0].tolist():
            self._users[block] -= 1
            if not self._users[block]:
                self._memory.give_back(self._bytes[block])
                self.values[block] = None


def _table(branching: Sequence[frozenset[int] | None]) -> np.ndarray:
    """Return flags [items, 1 + depth]: whether several tokens may follow. The last column is for greater depths."""
    deepest = max((depth for depths in branching for depth in depths or ()), default=0)
    table = np.zeros((len(branching), deepest + 3), dtype=bool)
    for row, depths in zip(table, branching, strict=True):
        row[slice(None) if depths is None else [depth + 1 for depth in depths]] = True
    return table


def _in_place(rows: np.ndarray, count: int) -> bool:
    """Tell whether the rows are all ``count`` rows in their order."""
    return len(rows) == count and rows.tolist() == list(range(count))


def ask(scorer: Scorer, name: str, method: str, arguments: Sequence[Any], tokens: int) -> tuple[Array, Any]:
    """Call a method of a scorer that returns scores and a state.

    Args:
        scorer: the scorer.
        name: the name of its direction, for error messages.
        method: ``"step"`` or ``"prefill"``.
        arguments: what the method is given.
        tokens: the largest number of tokens of a prefix, START included, for error messages.
    """
    try:
        returned = getattr(scorer, method)(*arguments)
    except (IndexError, RuntimeError) as error:
        explain(error, tokens, name)
    return checked_pair(returned, f"{name} scorer's {method}")
