"""One direction's side of a proof: the leaves that divide all sentences, and how a leaf is expanded.

``birnn_decode.search.exact`` says what a leaf is, which leaves may be dropped, and why.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from birnn_decode.search.columns import Columns
from birnn_decode.search.direction import Direction
from birnn_decode.search.finalists import ROUNDING, Ranking
from birnn_decode.search.holding import NEVER, Hold, Problem
from birnn_decode.search.tree import NONE, Nodes

CHUNK = 32  # the fewest words with a leaf of their own that an expansion may have
LEAVES = 2**18  # the leaves that all expansions of a side may have together, if each has more than CHUNK
AT_A_TIME = 2**21  # scores that are compared at a time


class Expansions(Columns):
    """The leaves that were expanded.

    Expansion 0 stands for nothing. It is the parent of the leaf with which the search begins.

    Attributes:
        leaf: the leaf.
        key: the weighted sum of the terms that count, over all words of the prefix.
        place: the place of the next word.
    """

    def __init__(self) -> None:
        super().__init__()
        self.leaf, self.place = (np.empty(0, dtype=np.int64) for _ in range(2))
        self.key = np.empty(0)


class Leaves(Columns):
    """Prefixes, each one word longer than the prefix of an expansion.

    Args:
        blanks: the number of blanks.

    Attributes:
        parent: the expansion.
        token: the last word; the size of the vocabulary stands for the rest of the words.
        code: ``parent`` and ``token`` as one number, ascending.
        key: the weighted sum of the terms that count; for the rest, the highest key of its words.
        mass: the key; for the rest, the logarithm of the sum of exp(key) over its words.
        words: the words at the blanks, in sentence order, -1 for a blank without a word, [leaves, blanks].
        cap: the bound of the leaf when it was made.
        mass_cap: the bound of its mass when it was made; see ``birnn_decode.search.exact``.
        score: the model's score of the last word.
        node: the prefix in the tree; -1 if it is not in the tree yet.
        child: the expansion that the leaf has become; -1 for none.
        cursor: for a full leaf, the leaf on the other side that its sentence was in when this was last looked up; -1
            before the first time.
        live: whether the leaf is open or full: not expanded, not dropped, and not covered by the other side.
    """

    def __init__(self, blanks: int) -> None:
        super().__init__()
        self.parent, self.token, self.code = (np.empty(0, dtype=np.int64) for _ in range(3))
        self.node, self.child, self.cursor = (np.empty(0, dtype=np.int64) for _ in range(3))
        self.key, self.mass, self.cap, self.mass_cap, self.score = (np.empty(0) for _ in range(5))
        self.words = np.empty((0, blanks), dtype=np.int32)
        self.live = np.empty(0, dtype=bool)


class Side:
    """One direction's part in the search of a problem.

    Args:
        problem: the problem.
        direction: the direction.
        ranking: the score of sentences.
        pays: whether the cost of words is taken off the keys of this side.

    Attributes:
        tree: the prefixes that the direction has read.
        end: one past the place of the last blank.
        last: the last place whose term counts.
        leaves: all leaves, dropped and expanded ones included.
        expansions: all expansions.
        open: the live leaves that lack words.
        bounds: the bounds of the open leaves.
        masses: the bounds of the masses of the open leaves, as logarithms.
        full: the live leaves that have a word for every blank.
        full_bounds: the bounds of the full leaves.
        top: the other side's ``table``, [blanks, vocab]; None if there is no other side.
        dropped: the logarithm of a bound of the mass of all sentences that this side has dropped.
    """

    def __init__(self, problem: Problem, direction: Direction, ranking: Ranking, pays: bool):
        template, size = problem.template, len(problem.template)
        self._direction, self._held, self._pays = direction, problem.held, pays
        lane = direction.lane(template)
        self.tree = direction.tree
        self.end = lane.end
        self._weights = np.zeros(size + 1)  # of the term at each place; 0 for a term that does not count
        counted = list(ranking.counted(direction, problem.item, template))
        self._weights[counted] = ranking.weights[direction]
        self.last = max(counted)
        self._known_words = np.append(lane.codes, self.tree.scorer.end_token)  # at each place
        blanks = [at for at in range(size) if template.undecided(at)]
        self._blank = np.full(size + 1, -1)  # the number of the blank at each place, in sentence order
        self._blank[[direction.position(at, size) for at in blanks]] = range(len(blanks))
        self._rest = self.tree.scorer.vocab_size  # the token that stands for the rest of the words
        self._allowed = np.zeros((len(blanks), self._rest), dtype=bool)
        for allowed, at in zip(self._allowed, blanks, strict=True):
            tokens = template.positions[at]
            allowed[sorted(tokens) if isinstance(tokens, frozenset) else slice(None)] = True
        self._allowed[:, list(direction.banned)] = False
        # Of the words read at each place behind the blanks: what they have cost in nats, and their number.
        self._lost, self._read = np.zeros(size + 1), np.zeros(size + 1)

        root = self.tree.find(problem.item, lane.beginning)
        key, node = 0.0, root
        for place in range(lane.begin - 1, -1, -1):
            key += self._weighted(np.array([place]), self.tree.terms[[node]])[0]
            node = int(self.tree.parents[node])
        self.expansions, self.leaves = Expansions(), Leaves(len(blanks))
        self.expansions.append(leaf=np.zeros(1), key=key, place=lane.begin - 1)
        self.open = self.leaves.append(
            parent=np.zeros(1),
            token=0,
            code=0,
            key=key,
            mass=key,
            words=-1,
            cap=0.0,
            mass_cap=0.0,
            score=0.0,
            node=root,
            child=-1,
            cursor=-1,
            live=True,
        )
        self.bounds = self.masses = np.array([key])
        self.dropped = NEVER
        self.full, self.full_bounds = NONE, np.zeros(0)
        self.top: np.ndarray | None = None

    def _weighted(self, places: np.ndarray, terms: np.ndarray) -> np.ndarray:
        """Return what terms add to keys. A term that does not count adds 0, even if it is -inf."""
        weights = self._weights[places]
        counts = weights > 0
        return np.where(counts, weights * np.where(counts, terms, 0.0), 0.0)

    # --------------------------------------------------------------------------------------------- properties of leaves

    def places(self, leaves: np.ndarray) -> np.ndarray:
        """Return the places of the last words."""
        return self.expansions.place[self.leaves.parent[leaves]]

    def parent_nodes(self, leaves: np.ndarray) -> Nodes:
        """Return the prefixes without the last word, in the tree."""
        return self.leaves.node[self.expansions.leaf[self.leaves.parent[leaves]]]

    def is_rest(self, leaves: np.ndarray) -> np.ndarray:
        """Tell which leaves stand for the rest of the words."""
        return self.leaves.token[leaves] == self._rest

    def is_full(self, leaves: np.ndarray) -> np.ndarray:
        """Tell which leaves have a word for every blank."""
        return (self.places(leaves) >= self.end - 1) & ~self.is_rest(leaves)

    def is_done(self, leaves: np.ndarray) -> np.ndarray:
        """Tell for which leaves all terms that count are known."""
        return (self.places(leaves) >= self.last) & ~self.is_rest(leaves)

    def table(self) -> np.ndarray:
        """Return, for each blank and word, the highest key of an open leaf that can have it, [blanks, vocab].

        This is ``top`` in ``birnn_decode.search.exact``.
        """
        table = np.full(self._allowed.shape, NEVER)
        keys = self.leaves.key[self.open]
        for best, words in zip(table, self.leaves.words[self.open].T, strict=True):
            there = words >= 0
            best[:] = keys[~there].max(initial=NEVER)
            np.maximum.at(best, words[there], keys[there])
        return table

    def find(self, leaves: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Return the leaves that sentences are in now; -1 if the leaf was dropped.

        Args:
            leaves: for each sentence a leaf that it was in.
            words: the words at the blanks, [sentences, blanks].
        """
        found = leaves.copy()
        while len(going := np.flatnonzero((found >= 0) & (self.leaves.child[found] >= 0))):
            expansions = self.leaves.child[found[going]]
            places = self.expansions.place[expansions]
            blanks = self._blank[places]
            tokens = np.where(blanks >= 0, words[going, blanks], self._known_words[places])
            own = self._look_up(expansions, tokens)
            found[going] = np.where(own >= 0, own, self._look_up(expansions, np.full_like(tokens, self._rest)))
        return found

    def _look_up(self, expansions: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the leaves of expansions and their next words; -1 for none."""
        codes = self._codes(expansions, tokens)
        at = np.minimum(np.searchsorted(self.leaves.code, codes), len(self.leaves) - 1)
        return np.where(self.leaves.code[at] == codes, at, -1)

    def _codes(self, expansions: np.ndarray, tokens: np.ndarray | int) -> np.ndarray:
        return expansions * (self._rest + 1) + tokens

    # -------------------------------------------------------------------------------------------------------- expanding

    def grow(self, leaves: np.ndarray) -> None:
        """Put the prefixes of leaves into the tree. A leaf for the rest has the prefix of its parent."""
        new = leaves[self.leaves.node[leaves] < 0]
        rest, nodes = self.is_rest(new), self.parent_nodes(new)
        own = new[~rest]
        nodes[~rest] = self.tree.grow(nodes[~rest], self.leaves.token[own], self.leaves.score[own])
        self.leaves.node[new] = nodes

    def in_turn(self, leaves: np.ndarray) -> tuple[np.ndarray, int]:
        """Sort leaves: first the leaves whose next word is at a blank. Return their number, too."""
        chooses = self._blank[self.places(leaves) + ~self.is_rest(leaves)] >= 0
        return leaves[np.argsort(~chooses, kind="stable")], int(chooses.sum())

    def to_read(self, leaves: np.ndarray) -> tuple[Nodes, Nodes, np.ndarray]:
        """Return the arguments of ``PrefixTree.read`` that leaves need before they are expanded."""
        leaves, choosing = self.in_turn(leaves)
        self.grow(leaves)
        nodes = self.leaves.node[leaves]
        return nodes[:choosing], nodes[choosing:], self._known_words[self.places(leaves[choosing:]) + 1]

    def expand(self, leaves: np.ndarray, children: Nodes, other: Side | None, needed: float) -> None:
        """Replace leaves by a leaf for each word that may follow, or for the best of these words and for the rest.

        Args:
            leaves: the leaves, as given to ``to_read``.
            children: what ``PrefixTree.read`` has returned.
            other: the other side.
            needed: the J below which leaves are dropped.
        """
        leaves, choosing = self.in_turn(leaves)
        rest, parents = self.is_rest(leaves), self.leaves.parent[leaves]
        new = self.expansions.append(
            leaf=leaves,
            key=np.where(rest, self.expansions.key[parents], self.leaves.key[leaves]),
            place=self.places(leaves) + ~rest,
        )
        self.leaves.child[leaves] = new

        known = new[choosing:]
        places, tokens = self.expansions.place[known], self.tree.tokens[children]
        terms = self._weighted(places, self.tree.terms[children])
        self._learn(places, terms)
        zeros = np.zeros(len(known))
        keys = self.expansions.key[known] + terms
        columns: list[tuple[np.ndarray, ...]] = [(known, tokens, keys, keys, zeros, zeros, zeros)]
        wanted = self._wanted(new[0], other)
        at_a_time = max(1, AT_A_TIME // self._rest)
        for begin in range(0, choosing, at_a_time):
            columns += self._choices(new[begin : min(begin + at_a_time, choosing)], wanted, needed)
        parent, token, key, mass, cap, mass_cap, score = (
            np.concatenate(column) for column in zip(*columns, strict=True)
        )
        code = self._codes(parent, token)
        order = np.argsort(code, kind="stable")
        parent, token, key = parent[order], token[order], key[order]
        before = self.expansions.leaf[parent]
        words, blanks = self.leaves.words[before], self._blank[self.expansions.place[parent]]
        chosen = (blanks >= 0) & (token != self._rest)
        words[chosen, blanks[chosen]] = token[chosen]
        born = self.leaves.append(
            parent=parent,
            token=token,
            code=code[order],
            key=key,
            mass=mass[order],
            words=words,
            cap=cap[order],
            mass_cap=mass_cap[order],
            score=score[order],
            node=-1,
            child=-1,
            cursor=self.leaves.cursor[before],
            live=self.leaves.live[before] & (key > NEVER),
        )
        self.leaves.node[self._look_up(known, tokens)] = children
        self.leaves.live[leaves] = False
        self.open, self.full = (some[self.leaves.live[some]] for some in (self.open, self.full))
        born = born[self.leaves.live[born]]
        full = self.is_full(born)
        self.open = np.concatenate([self.open, born[~full]])
        self._cover(born[full], other)

    def _choices(
        self, new: np.ndarray, wanted: tuple[np.ndarray, np.ndarray], needed: float
    ) -> list[tuple[np.ndarray, ...]]:
        """Return the leaves of expansions whose next word is at a blank, as columns of ``Leaves``.

        Args:
            new: the expansions, numbered in a row.
            wanted: (expansions, tokens) of words that need a leaf of their own.
            needed: the J below which leaves are dropped.

        Returns:
            the columns parent, token, key, mass, cap, mass_cap and score: first of the leaves for the rest, then of the
            words.
        """
        leaves, places = self.expansions.leaf[new], self.expansions.place[new]
        blanks, nodes = self._blank[places], self.leaves.node[leaves]
        scores, normalisers = self.tree.continuations(nodes)
        with np.errstate(over="ignore"):  # models mask with the lowest number there is
            keys = self.expansions.key[new, None] + self._weights[places, None] * (scores - normalisers[:, None])
        keys[~self._allowed[blanks]] = NEVER
        if self._held is not None:
            for own, node, place in zip(keys, nodes.tolist(), places.tolist(), strict=True):
                extra = np.zeros(self._rest)
                hold = Hold(self._held, place, costs=self._pays)
                hold.candidates(self._direction, node, self._weights[place], extra)
                own += extra
        for own, leaf in zip(keys, leaves.tolist(), strict=True):
            while self.leaves.token[leaf] == self._rest:  # other words have a leaf of their own already
                parent = self.leaves.parent[leaf]
                begin = np.searchsorted(self.leaves.code, self._codes(parent, 0))
                own[self.leaves.token[begin:leaf]] = NEVER
                leaf = self.expansions.leaf[parent]
        bounds = keys
        if self.top is not None:
            bounds = keys + np.minimum(lowest_top(self.top, self.leaves.words[leaves])[:, None], self.top[blanks])
        possible = above(bounds, needed) & self.leaves.live[leaves, None]
        keep, most = possible.copy(), max(CHUNK, LEAVES // len(self.expansions))
        for row in np.flatnonzero(possible.sum(axis=1) > most).tolist():
            order = np.argpartition(np.where(possible[row], bounds[row], NEVER), -most)
            keep[row, order[:-most]] = False
        mine = (wanted[0] >= new[0]) & (wanted[0] <= new[-1])
        keep[wanted[0][mine] - new[0], wanted[1][mine]] = True
        lost = ~possible & ~keep & self.leaves.live[leaves, None]
        self.drop(bounds[lost])  # words dropped from an earlier leaf for the rest count once more
        left = possible & ~keep
        with_rest = np.flatnonzero(left.any(axis=1))
        self.tree.done(np.delete(nodes, with_rest))
        rest_keys, rest_bounds = (np.where(left[with_rest], values[with_rest], NEVER) for values in (keys, bounds))
        rows, tokens = np.nonzero(keep)
        key, bound = keys[rows, tokens], bounds[rows, tokens]
        return [
            (
                new[with_rest],
                np.full(len(with_rest), self._rest),
                rest_keys.max(axis=1),
                log_sums(rest_keys),
                rest_bounds.max(axis=1),
                log_sums(rest_bounds),
                np.zeros(len(with_rest)),
            ),
            (new[rows], tokens, key, key, bound, bound, scores[rows, tokens]),
        ]

    def drop(self, masses: np.ndarray) -> None:
        """Record that sentences are dropped, given bounds of their masses, as logarithms."""
        self.dropped = float(np.logaddexp(self.dropped, log_sums(masses)))

    def _wanted(self, first: int, other: Side | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the words after new expansions that full leaves on the other side go on with: (expansions, tokens).

        Args:
            first: the first new expansion.
            other: the other side.
        """
        if other is None:
            return NONE, NONE
        expansions = self.leaves.child[other.leaves.cursor[other.full]]
        full, expansions = other.full[expansions >= first], expansions[expansions >= first]
        blanks = self._blank[self.expansions.place[expansions]]
        return expansions[blanks >= 0], other.leaves.words[full, blanks][blanks >= 0]

    def _cover(self, full: np.ndarray, other: Side | None) -> None:
        """Cover the sentences of new full leaves, unless the other side covers them already or has dropped them."""
        if other is not None:
            new = full[self.leaves.cursor[full] < 0]
            found = other.find(np.zeros_like(new), self.leaves.words[new])
            self.leaves.cursor[new] = found
            # These sentences were in open leaves of this side until now, so the other side's bounds hold for them.
            self.leaves.live[new] = (found >= 0) & other.leaves.live[found] & ~other.is_full(found)
            full = full[self.leaves.live[full]]
        self.full = np.concatenate([self.full, full])

    def _learn(self, places: np.ndarray, terms: np.ndarray) -> None:
        """Record what words behind the blanks have cost."""
        some = (places >= self.end) & (terms > NEVER)
        np.add.at(self._lost, places[some], -terms[some])
        np.add.at(self._read, places[some], 1)

    def worth(self) -> np.ndarray:
        """Estimate, for each place, how much each row lowers a bound if sentences are read on from there; in nats."""
        if not self._read.any():
            return np.full(len(self._read), np.inf)
        mean = np.where(self._read > 0, self._lost / np.maximum(self._read, 1), self._lost.sum() / self._read.sum())
        rows = np.arange(1, len(mean) + 1)
        return np.array([(np.cumsum(mean[place:]) / rows[: len(mean) - place]).max() for place in range(len(mean))])


def log_sums(values: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum of exp(values) over the last axis.

    ``scipy.special.logsumexp`` does the same. It takes two to nine times as long for the scores of a vocabulary.
    """
    if values.size == 0:
        return np.full(values.shape[:-1], NEVER)
    highest = values.max(axis=-1)
    highest = np.where(highest > NEVER, highest, 0.0)
    with np.errstate(divide="ignore"):  # nothing but -inf
        return np.asarray(highest + np.log(np.exp(values - highest[..., None]).sum(axis=-1)))


def lowest_top(top: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return the lowest ``top`` [blanks, vocab] of the words that each row of ``words`` has, [leaves, blanks]."""
    return np.where(words >= 0, top[np.arange(len(top)), words], top[0].max()).min(axis=1)


def above(bounds: Any, needed: float) -> Any:
    """Tell which bounds, an array or one number, allow a better sentence than the incumbent, whose J is ``needed``."""
    return (bounds > NEVER) & (bounds + ROUNDING > needed)
