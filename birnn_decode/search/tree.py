"""The prefixes that one direction has read in a call. Each is pushed through the model at most once.

A prefix is a node: the words of one item read so far, in reading order. The term of a node is
log p(last word | words before it). Its sum is the log-probability of all its words. Reading a node pushes its last word
through the model. This gives the scores of the next word, and the state from which the children are read. The node
keeps both as long as they may be needed again: by later sweeps, by other widths of the same template, or by the final
scoring.

A node is a number, and its values stand in columns. One array operation therefore serves the beams of a whole batch.

If the scorer has the method ``steps``, ``follow`` reads several words after a prefix in one call. Such a call returns
the scores after each of the words, but the state after the last one only. If another prefix is to be read on from a
word in between, the words since the nearest prefix with a state are read again, and count as rows again.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from birnn_decode.backend import Array, Backend
from birnn_decode.scorers.answers import backend_of, checked_pair, explain, faulty_scores
from birnn_decode.scorers.protocol import Scorer, room_of
from birnn_decode.search.columns import Columns
from birnn_decode.search.memory import Memory
from birnn_decode.search.reading import Asked, Batch, Limits, batches

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
        in_blocks: whether one call can read several words of a prefix.
        items: column: the item of the prefix.
        parents: column: the prefix without its last token.
        tokens: column: the last token; START at the root.
        depths: column: the number of words; 0 at the root.
        terms: column: log p(token | parent), in nats; 0 at the root.
        log_probs: column: the sum of the terms from the root to here.
        normalisers: column: what the scores of the next token are larger than log p by; 0 until they are read.
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
        self.in_blocks = getattr(scorer, "steps", None) is not None and not every_state
        self._branching = _table(branching)
        self._can_join = getattr(scorer, "join", None) is not None
        self._backend: Backend | None = None
        self._kind: tuple[Any, ...] = ()
        self._child: dict[int, int] = {}  # parent * vocab_size + token: the child

        self.items, self.parents, self.tokens, self.depths = (np.empty(0, dtype=np.int64) for _ in range(4))
        self.terms, self.log_probs, self.normalisers = (np.empty(0) for _ in range(3))
        self._branches = np.empty(0, dtype=bool)  # column: whether more than one token may follow
        # [rows, vocab] of the next token; log p is scores - normaliser
        self._scores = _Blocks(self.memory, lambda scores: int(scores.nbytes))
        self._states = _Blocks(self.memory, getattr(scorer, "state_bytes", lambda state: 0))  # after reading the node

        every = np.arange(items)
        unread = self._new(every, every, -1, np.full(items, -1), 0.0, 0.0)
        # The first state comes from ``start``, which ``states`` calls when it is needed.
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
        return self.log_probs[nodes] - self.normalisers[nodes]

    def open(self, beginnings: Iterable[tuple[int, tuple[int, ...]]]) -> None:
        """Read the known words, in reading order, at the beginning of the sentences of an item: one row per item.

        Args:
            beginnings: (item, words) pairs. The words of one item's pairs continue each other.
        """
        beginnings = sorted(beginnings, key=lambda beginning: (beginning[0], len(beginning[1])))
        if self.in_blocks:
            shortest = {item: words for item, words in reversed(beginnings) if words}
            self.follow(self.roots[list(shortest)], list(shortest.values()), through=True)
        longest = dict(beginnings)
        self._follow_by_steps(self.roots[list(longest)], list(longest.values()), through=False)

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
            if self.in_blocks:
                self._reach(self.parents[unread])
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

    def follow(
        self, nodes: Nodes, words: Sequence[Sequence[int]], goes_on: Sequence[bool] | None = None, through: bool = False
    ) -> list[list[int]]:
        """Return the prefixes along the words after each node. Those that are not known are read.

        If the scorer has ``steps``, they are read in one call, or in as few as it allows.

        Args:
            nodes: the nodes.
            words: the words after each node.
            goes_on: whether prefixes are likely to be read on after the words of each node, so that the state is kept
                there; None: nowhere.
            through: whether the scores after the last word are wanted, too, and the state.

        Returns:
            for each node the nodes of the prefixes, one per word.
        """
        if not self.in_blocks:
            return self._follow_by_steps(nodes, words, through)
        paths: list[list[int]] = [[] for _ in words]
        ends = nodes.tolist()
        waiting = list(range(len(words)))
        while waiting:
            for row in waiting:
                ends[row] = self._descend(ends[row], words[row], paths[row])
            waiting = [row for row in waiting if len(paths[row]) < len(words[row])]
            known = self.known(np.array([ends[row] for row in waiting], dtype=np.int64)).tolist()
            waiting = [row for row, there in zip(waiting, known, strict=True) if there]
            if waiting:  # scores that were kept need no reading
                tokens = np.array([words[row][len(paths[row])] for row in waiting])
                self.extend(np.array([ends[row] for row in waiting]), tokens)
        known = self.known(np.array(ends, dtype=np.int64)).tolist()
        asked, unread = [], []
        for row, (own, path) in enumerate(zip(words, paths, strict=True)):
            rest = own[len(path) :]
            if rest or (through and not known[row]):
                pushed, last = (rest, None) if through else (rest[:-1], rest[-1])
                kept = through or (goes_on is not None and bool(goes_on[row]))
                asked.append(self._asked(ends[row], pushed, last, kept))
                unread.append(row)
        self._read_blocks(asked)
        for row in unread:
            self._descend(ends[row], words[row], paths[row])
        return paths

    def _descend(self, node: int, words: Sequence[int], path: list[int]) -> int:
        """Complete a path, which ends with a node, by the nodes that are known, and return its last node."""
        size = self.scorer.vocab_size
        for word in words[len(path) :]:
            child = self._child.get(node * size + word)
            if child is None:
                break
            path.append(child)
            node = child
        return node

    def _follow_by_steps(self, nodes: Nodes, words: Sequence[Sequence[int]], through: bool) -> list[list[int]]:
        """Do the same as ``follow``, one word per call."""
        ends = nodes.copy()
        paths: list[list[int]] = [[] for _ in words]
        waiting = np.array([len(own) + through for own in words], dtype=np.int64)
        while len(going := np.flatnonzero(waiting)):
            if self.aligned:
                depths = self.depths[ends[going]]
                going = going[depths == depths.min()]
            waiting[going] -= 1
            last = np.array([len(paths[row]) == len(words[row]) for row in going.tolist()], dtype=bool)
            some = going[~last]
            tokens = np.array([words[row][len(paths[row])] for row in some.tolist()], dtype=np.int64)
            ends[some] = self.read(ends[going[last]], ends[some], tokens)
            for row, node in zip(some.tolist(), ends[some].tolist(), strict=True):
                paths[row].append(node)
        return paths

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
        return self.backend.numbers(self.gather(nodes)), self.normalisers[nodes]

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
            normalisers=0.0,
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
        terms = scores - self.normalisers[parents]
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
        several = sorted(set(blocks.tolist()))
        scores = [self._scores.values[block] for block in several]
        return self.backend.pick_from(scores, np.searchsorted(several, blocks), rows, tokens)

    # --------------------------------------------------------------------------------------------- calls of the scorer

    def _batches(self, nodes: Nodes) -> list[Nodes]:
        """Group nodes that may be read in one call."""
        kinds = self._kinds(nodes)
        if self._can_join and (kinds == kinds[0]).all():
            return [nodes]
        states = np.zeros_like(nodes) if self._can_join else self._states.block[self.parents[nodes]]
        batches: dict[tuple[int, int], list[int]] = {}
        for node, kind, state in zip(nodes.tolist(), kinds.tolist(), states.tolist(), strict=True):
            batches.setdefault((kind, state), []).append(node)
        return [np.array(batch) for batch in batches.values()]

    def _kinds(self, nodes: Nodes) -> np.ndarray:
        """Return a number for each node. Only nodes with the same number share a call."""
        # The first state may be of another kind: that of a language model has read a prompt and knows the next scores.
        return self.depths[nodes] if self.aligned else np.minimum(self.depths[nodes], 1)

    def _push(self, nodes: Nodes) -> None:
        parents = self.parents[nodes]
        read = self._indices(self.tokens[nodes]), self.states(parents)
        scores, state = ask(self.scorer, self.name, "step", read, 1 + int(self.depths[nodes].max()))
        self._check(scores, (len(nodes), self.scorer.vocab_size), "rows, vocab_size")
        self._record(nodes, scores)
        self._states.keep(nodes, state)
        self.rows += np.bincount(self.items[nodes], minlength=len(self.rows))
        # The state in which nothing was read is never let go: it is where everything can be read again from.
        self._states.let_go(parents[~self._branches[parents] & (self.depths[parents] >= 0)])

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

    # ------------------------------------------------------------------------------------------ several words per call

    def _asked(self, node: int, words: Sequence[int], last: int | None, kept: bool) -> Asked:
        """Return what reads a node and the words after it, from the nearest prefix with a state on."""
        before: list[int] = []
        while self._states.block[self.parents[node]] < 0:
            before.append(int(self.tokens[node]))
            node = int(self.parents[node])
        return Asked((int(self.items[node]), node, *reversed(before), *words), last, kept)

    def _reach(self, nodes: Nodes) -> None:
        """Read nodes again whose states are missing."""
        missing = nodes[self._states.block[nodes] < 0]
        if len(missing):
            self._read_blocks([self._asked(node, (), None, True) for node in np.unique(missing).tolist()])

    def _read_blocks(self, asked: Sequence[Asked]) -> None:
        """Read what is asked for, and add it to the tree."""
        if not asked:
            return
        firsts = np.array([one.row[1] for one in asked])
        kinds = self._kinds(firsts)
        if not self._can_join:
            kinds = kinds + len(self) * self._states.block[self.parents[firsts]]
        for batch in batches(asked, self.depths[firsts], kinds, self._limits):
            self._push_block(batch)

    @functools.cached_property
    def _limits(self) -> Limits:
        return Limits(room_of(self.scorer, self.encoded.context), self.rows_per_call, self.scorer.vocab_size)

    def _push_block(self, batch: Batch) -> None:
        """Read the rows of one call, and add the nodes that they are read for."""
        firsts = np.array([row[1] for row in batch.rows])
        lengths = batch.lengths
        tokens = batch.tokens(self.tokens[firsts], self.scorer.end_token)
        read = self._indices(tokens), self.states(self.parents[firsts])
        deepest = int((self.depths[firsts] + lengths).max())
        scores, state = ask(self.scorer, self.name, "steps", read, deepest)
        self._check(scores, (*tokens.shape, self.scorer.vocab_size), "rows, tokens, vocab_size")
        scores = scores.reshape(-1, self.scorer.vocab_size)
        begins = batch.begins
        if begins[-1] < len(scores):  # without those of padding
            places = np.flatnonzero(np.arange(tokens.shape[1]) < np.array(lengths)[:, None])
            scores = scores[self._indices(places)]
        normalised = self.backend.normalise(scores, self.normalized)
        for place in normalised.faulty:
            number = bisect.bisect_right(begins, place) - 1
            (before,) = self.words(firsts[number : number + 1])
            read_words = before + batch.rows[number][2 : 2 + place - begins[number]]
            raise faulty_scores(self.number_of(int(firsts[number])), read_words, self.normalized, self.name)
        normaliser = np.zeros(len(scores)) if normalised.normaliser is None else normalised.normaliser
        walked = batch.walk(self._child, len(self), self.scorer.vocab_size)
        if walked.new:
            items, parents, words, places = np.array(walked.new).T
            terms = self.backend.pick(normalised.scores, places, words) - normaliser[places]
            self._grow_block(items, parents, words, terms)
        nodes, places = np.array(list(walked.places.items())).T
        self._keep_block(nodes, places, normalised.scores, normaliser)
        rows = np.flatnonzero(batch.kept)
        if len(rows):
            self._states.keep(np.array(walked.ends)[rows], state, rows, len(lengths))
        np.add.at(self.rows, self.items[firsts], lengths)

    def _grow_block(self, items: np.ndarray, parents: Nodes, tokens: np.ndarray, terms: np.ndarray) -> None:
        """Append nodes, each of which may be the parent of a later one."""
        begin = len(self)
        depths: list[int] = []
        log_probs: list[float] = []
        for parent, term in zip(parents.tolist(), terms.tolist(), strict=True):
            if parent < begin:
                depths.append(int(self.depths[parent]) + 1)
                log_probs.append(float(self.log_probs[parent]) + term)
            else:
                depths.append(depths[parent - begin] + 1)
                log_probs.append(log_probs[parent - begin] + term)
        self._new(items, parents, tokens, np.array(depths), terms, np.array(log_probs))

    def _keep_block(self, nodes: Nodes, places: np.ndarray, scores: Array, normaliser: np.ndarray) -> None:
        """Keep the scores of nodes just read that may be asked for again, given their places among all scores."""
        new = self._branches[nodes] & ~self.known(nodes)
        if self.sweeping and new.any():
            nodes, places = nodes[new], places[new]
            if not _in_place(places, len(scores)):
                scores = self.backend.gather([scores], np.zeros_like(places), places, stays=True)
            self._scores.keep(nodes, scores)
            self.normalisers[nodes] = normaliser[places]

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
        self.normalisers[nodes] = 0.0 if normalised.normaliser is None else normalised.normaliser

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
        if (again := self.block[nodes] >= 0).any():
            self.let_go(nodes[again])
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
        method: ``"step"`` or ``"steps"``.
        arguments: what the method is given.
        tokens: the largest number of tokens of a prefix, START included, for error messages.
    """
    try:
        returned = getattr(scorer, method)(*arguments)
    except (IndexError, RuntimeError) as error:
        explain(error, tokens, name)
    return checked_pair(returned, f"{name} scorer's {method}")
