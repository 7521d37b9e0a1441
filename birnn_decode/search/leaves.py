"""One direction's part in a proof: what it has read of a problem, and the leaves that stand for all there is.

See `birnn_decode.search.exact` for what leaves are, which of them may be dropped, and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from birnn_decode.constraints import UNDECIDED
from birnn_decode.search.finalists import ROUNDING, Ranking
from birnn_decode.search.holding import NEVER, Held, weighed
from birnn_decode.search.problem import Direction, Problem
from birnn_decode.search.tree import NONE, Nodes

CHUNK, LEAVES = 32, 2**18  # leaves of its own that an expansion gets at a time, and that all of a side may get at first
AT_A_TIME = 2**21  # scores looked through in one go


class _Columns:
    """Columns that grow together, each at the beginning of an array with room for more."""

    def __post_init__(self) -> None:
        self._rooms: dict[str, np.ndarray] = {}

    def add(self, **columns: np.ndarray) -> np.ndarray:
        """Put values below each column; returns the numbers of the new rows."""
        before = len(self)
        for name, values in columns.items():
            column, after = getattr(self, name), before + len(values)
            room = self._rooms.get(name, column)
            if after > len(room):
                room = self._rooms[name] = np.empty((2 * after, *column.shape[1:]), dtype=column.dtype)
                room[:before] = column
            room[before:after] = values
            setattr(self, name, room[:after])
        return np.arange(before, len(self))

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))  # type: ignore[arg-type]


@dataclass(eq=False)
class Expansions(_Columns):
    """Prefixes that have been read. The first stands for nothing at all: above the leaf that a search begins with.

    Attributes:
        node: the prefix in the tree.
        key: the weighted sum of its terms that count.
        place: of the word that follows.
        words: those at the blanks, in sentence order, -1 where there is none yet, [expansions, blanks].
        leaf: the leaf that it was.
    """

    node: Nodes
    key: np.ndarray
    place: np.ndarray
    words: np.ndarray
    leaf: np.ndarray


@dataclass(eq=False)
class Leaves(_Columns):
    """Prefixes that have been met; leaves in the sense above are those of them that are live.

    Attributes:
        parent: the expansion that it is one word longer than.
        token: that word; the vocabulary's size for the rest.
        code: both as one number, ascending.
        key: the weighted sum of its terms that count; for the rest the highest.
        words: those at the blanks, in sentence order, -1 where there is none yet, [leaves, blanks].
        cap: what its bound was at first.
        score: what the scorer gave the word.
        node: the prefix in the tree; -1: not there yet.
        child: the expansion that it has become; -1: none.
        cursor: for a full one the leaf of its sentence on the other side, or one on the way to it; -1: not looked for.
        live: whether its sentences are still in question here.
    """

    parent: np.ndarray
    token: np.ndarray
    code: np.ndarray
    key: np.ndarray
    words: np.ndarray
    cap: np.ndarray
    score: np.ndarray
    node: Nodes
    child: np.ndarray
    cursor: np.ndarray
    live: np.ndarray


class Side:
    """One direction's part in the search of a problem.

    Attributes:
        tree: the direction's.
        end: one past the place of the last blank.
        last: the last place whose term counts.
        open: the live leaves that lack words, and ``bounds`` theirs.
        full: the live leaves that do not, and ``full_bounds`` theirs.
        top: ``top`` of the other side's open leaves, [blanks, vocab]; None where there is no other side.
    """

    def __init__(self, problem: Problem, direction: Direction, ranking: Ranking, pays: bool):
        template, size = problem.template, len(problem.template)
        self._direction, self._held, self._pays = direction, problem.held, pays
        lane = direction.lane(template)
        self.tree = direction.tree
        self.end = lane.end
        self._weights = np.zeros(size + 1)  # of the terms at each place; 0: does not count
        counted = list(ranking.counted(direction, problem.item, template))
        self._weights[counted] = ranking.weights[direction]
        self.last = max(counted)
        self._known = np.append(lane.codes, self.tree.scorer.end_token)  # the word at each place that is no blank
        self._blanks = blanks = [at for at in range(size) if template.undecided(at)]
        self._blank = np.full(size + 1, -1)  # the number of the blank at each place, in sentence order
        self._blank[[direction.position(at, size) for at in blanks]] = range(len(blanks))
        self._rest = self.tree.scorer.vocab_size
        self._allowed = np.zeros((len(blanks), self._rest), dtype=bool)
        for allowed, at in zip(self._allowed, blanks, strict=True):
            tokens = template.positions[at]
            allowed[sorted(tokens) if isinstance(tokens, frozenset) else slice(None)] = True
        self._allowed[:, list(direction.banned)] = False
        self._lost, self._read = np.zeros(size + 1), np.zeros(size + 1)  # behind the blanks, at each place

        root = self.tree.find(problem.item, lane.beginning)
        key, node = 0.0, root
        for place in range(lane.begin - 1, -1, -1):
            key += self._weighted(np.array([place]), self.tree.terms[[node]])[0]
            node = int(self.tree.parents[node])
        one = np.zeros(1, dtype=np.int64)
        nothing = np.full((1, len(blanks)), -1, dtype=np.int32)
        self.expansions = Expansions(one - 1, np.array([key]), one + lane.begin - 1, nothing, one)
        self.leaves = Leaves(
            one, one, one, np.array([key]), nothing, np.zeros(1), np.zeros(1), one + root, one - 1, one - 1, one == 0
        )
        self.open, self.bounds = one, np.array([key])
        self.full, self.full_bounds = NONE, np.zeros(0)
        self.top: np.ndarray | None = None

    def _weighted(self, places: np.ndarray, terms: np.ndarray) -> np.ndarray:
        """What terms add to a key; one that does not count adds nothing, though it be -inf."""
        weights = self._weights[places]
        counts = weights > 0
        return np.where(counts, weights * np.where(counts, terms, 0.0), 0.0)

    # -------------------------------------------------------------------------------------------- what leaves stand for

    def places(self, leaves: np.ndarray) -> np.ndarray:
        """The places of their last words."""
        places: np.ndarray = self.expansions.place[self.leaves.parent[leaves]]
        return places

    def is_rest(self, leaves: np.ndarray) -> np.ndarray:
        """Whether they stand for all words that have no leaf of their own."""
        rest: np.ndarray = self.leaves.token[leaves] == self._rest
        return rest

    def is_full(self, leaves: np.ndarray) -> np.ndarray:
        """Whether they have a word for every blank."""
        full: np.ndarray = (self.places(leaves) >= self.end - 1) & ~self.is_rest(leaves)
        return full

    def is_done(self, leaves: np.ndarray) -> np.ndarray:
        """Whether all terms that count are known."""
        done: np.ndarray = (self.places(leaves) >= self.last) & ~self.is_rest(leaves)
        return done

    def words(self, leaves: np.ndarray) -> np.ndarray:
        """Their words at the blanks, -1 where they have none, [leaves, blanks]."""
        words: np.ndarray = self.leaves.words[leaves]
        return words

    def table(self) -> np.ndarray:
        """``top`` of the open leaves, [blanks, vocab]."""
        table = np.full(self._allowed.shape, NEVER)
        keys = self.leaves.key[self.open]
        for best, words in zip(table, self.words(self.open).T, strict=True):
            there = words >= 0
            best[:] = keys[~there].max(initial=NEVER)
            np.maximum.at(best, words[there], keys[there])
        return table

    def find(self, leaves: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Go on from leaves to those that sentences [leaves, blanks] are in now; -1: where these were dropped."""
        found: np.ndarray = leaves.copy()
        while len(going := np.flatnonzero((found >= 0) & (self.leaves.child[found] >= 0))):
            expanded = self.leaves.child[found[going]]
            blanks = self._blank[self.expansions.place[expanded]]
            tokens = np.where(blanks >= 0, words[going, blanks], self._known[self.expansions.place[expanded]])
            next_ones = self._look_up(expanded, tokens)
            lacking = next_ones < 0
            next_ones[lacking] = self._look_up(expanded[lacking], np.full(int(lacking.sum()), self._rest))
            found[going] = next_ones
        return found

    def _look_up(self, expansions: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The leaves of expansions and words; -1: there is none."""
        codes: np.ndarray = self._codes(expansions, tokens)
        at: np.ndarray = np.minimum(np.searchsorted(self.leaves.code, codes), len(self.leaves) - 1)
        found: np.ndarray = np.where(self.leaves.code[at] == codes, at, -1)
        return found

    def _codes(self, expansions: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        codes: np.ndarray = expansions * (self._rest + 1) + tokens
        return codes

    # -------------------------------------------------------------------------------------------------------- expanding

    def grow(self, leaves: np.ndarray) -> None:
        """See that leaves are in the tree."""
        rest = self.is_rest(leaves)
        self.leaves.node[leaves[rest]] = self.expansions.node[self.leaves.parent[leaves[rest]]]
        new = leaves[self.leaves.node[leaves] < 0]
        if len(new):
            parents = self.expansions.node[self.leaves.parent[new]]
            self.leaves.node[new] = self.tree.grow(parents, self.leaves.token[new], self.leaves.score[new])

    def in_turn(self, leaves: np.ndarray) -> tuple[np.ndarray, int]:
        """Leaves that are to be expanded, those first that a blank comes after, and how many these are."""
        chooses = self._blank[self.places(leaves) + ~self.is_rest(leaves)] >= 0
        return leaves[np.argsort(~chooses, kind="stable")], int(chooses.sum())

    def to_read(self, leaves: np.ndarray) -> tuple[Nodes, Nodes, np.ndarray]:
        """What `PrefixTree.read` has to read for leaves to be expanded."""
        leaves, choosing = self.in_turn(leaves)
        self.grow(leaves)
        nodes = self.leaves.node[leaves]
        return nodes[:choosing], nodes[choosing:], self._known[self.places(leaves[choosing:]) + 1]

    def expand(self, leaves: np.ndarray, children: Nodes, other: Side | None, needed: float) -> None:
        """Put in the place of leaves what was read.

        Args:
            leaves: as given to `to_read`.
            children: what `PrefixTree.read` has returned.
            other: the other side.
            needed: the J of the incumbent.
        """
        leaves, choosing = self.in_turn(leaves)
        rest, parents, live = self.is_rest(leaves), self.leaves.parent[leaves], self.leaves.live[leaves]
        new = self.expansions.add(
            node=self.leaves.node[leaves],
            key=np.where(rest, self.expansions.key[parents], self.leaves.key[leaves]),
            place=self.places(leaves) + ~rest,
            words=self.words(leaves),
            leaf=leaves,
        )
        wanted = self._wanted(leaves, new, other)
        self.leaves.child[leaves] = new
        self.leaves.live[leaves] = False
        self.open, self.full = (some[self.leaves.live[some]] for some in (self.open, self.full))

        known = new[choosing:]
        terms = self._weighted(self.expansions.place[known], self.tree.terms[children])
        self._learn(self.expansions.place[known], terms)
        zeros = np.zeros(len(known))
        columns: list[tuple[np.ndarray, ...]] = [
            (known, self.tree.tokens[children], self.expansions.key[known] + terms, zeros, zeros)
        ]
        nodes = dict(zip(known.tolist(), children.tolist(), strict=True))
        at_a_time = max(1, AT_A_TIME // self._rest)
        for begin in range(0, choosing, at_a_time):
            some = slice(begin, min(begin + at_a_time, choosing))
            columns += self._choices(new[some], live[some], wanted, needed)
        parent, token, key, cap, score = (np.concatenate(column) for column in zip(*columns, strict=True))
        code = self._codes(parent, token)
        order = np.argsort(code, kind="stable")
        parent, token, code, key, cap, score = (column[order] for column in (parent, token, code, key, cap, score))
        words = self.expansions.words[parent]
        blanks = np.where(token == self._rest, -1, self._blank[self.expansions.place[parent]])
        own = np.flatnonzero(blanks >= 0)
        words[own, blanks[own]] = token[own]
        born = self.leaves.add(
            parent=parent,
            token=token,
            code=code,
            key=key,
            words=words,
            cap=cap,
            score=score,
            node=np.array([nodes.get(one, -1) for one in parent.tolist()], dtype=np.int64),
            child=np.full(len(parent), -1),
            cursor=self.leaves.cursor[leaves[parent - new[:1]]],
            live=live[parent - new[:1]] & (key > NEVER),
        )
        born = born[self.leaves.live[born]]
        full = self.is_full(born)
        self.open = np.concatenate([self.open, born[~full]])
        self._take_care_of(born[full], other)

    def _choices(
        self, new: np.ndarray, live: np.ndarray, wanted: tuple[np.ndarray, np.ndarray], needed: float
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Columns of the leaves of expansions that a blank comes after: parent, token, key, cap and score.

        Args:
            new: the expansions.
            live: whether they were live.
            wanted: (expansion, token) of the leaves that there must be in any case.
            needed: the J of the incumbent.
        """
        places, words = self.expansions.place[new], self.expansions.words[new]
        blanks, nodes = self._blank[places], self.expansions.node[new]
        scores, normalisers = self.tree.continuations(nodes)
        with np.errstate(over="ignore"):  # models mask with the lowest number there is
            keys = self.expansions.key[new, None] + self._weights[places, None] * (scores - normalisers[:, None])
        keys[~self._allowed[blanks]] = NEVER
        if self._held is not None:
            for row, (own, place) in enumerate(zip(words.tolist(), places.tolist(), strict=True)):
                keys[row] += self._restrained(self._held, int(nodes[row]), own, place)
        for row, leaf in enumerate(self.expansions.leaf[new].tolist()):
            while self.leaves.token[leaf] == self._rest:  # what has a leaf of its own already
                parent = self.leaves.parent[leaf]
                begin = np.searchsorted(self.leaves.code, parent * (self._rest + 1))
                keys[row, self.leaves.token[begin:leaf]] = NEVER
                leaf = self.expansions.leaf[parent]
        bounds = keys
        if self.top is not None:
            bounds = keys + np.minimum(lowest_top(self.top, words)[:, None], self.top[blanks])
        keep = above(bounds, needed) & live[:, None]
        most = max(CHUNK, LEAVES // len(self.expansions))
        many = np.flatnonzero(keep.sum(axis=1) > most)
        left = keep[many]
        best = np.argpartition(np.where(left, bounds[many], NEVER), -most, axis=1)[:, -most:] if len(many) else NONE
        keep[many] = False
        if len(many):
            keep[many[:, None], best] = True
        mine = (wanted[0] >= new[0]) & (wanted[0] <= new[-1])
        keep[wanted[0][mine] - new[0], wanted[1][mine]] = True
        left &= ~keep[many]
        more = left.any(axis=1)
        with_rest, left = many[more], left[more]
        self.tree.done(np.delete(nodes, with_rest))
        highest = [np.where(left, values[with_rest], NEVER).max(axis=1, initial=NEVER) for values in (keys, bounds)]
        yield new[with_rest], np.full(len(with_rest), self._rest), *highest, np.zeros(len(with_rest))
        rows, tokens = np.nonzero(keep)
        yield new[rows], tokens, keys[rows, tokens], bounds[rows, tokens], scores[rows, tokens]

    def _restrained(self, held: Held, node: int, words: Sequence[int], place: int) -> np.ndarray:
        """What is added to the keys of the words behind a prefix: what they pay, and -inf where they are ruled out."""
        at = self._direction.position(place, len(held.template))
        decided = [position if isinstance(position, int) else UNDECIDED for position in held.template.positions]
        for blank, word in zip(self._blanks, words, strict=True):
            decided[blank] = word
        extra = np.where(held.ruled_out(decided, at).flags(self._rest), NEVER, 0.0)
        if self._pays:
            for token, cost in held.cost(at).items():
                extra[token] -= cost
        if held.hooks:
            extra += weighed(held.change(self._direction, node, at), self._weights[place])
        return extra

    def _wanted(self, leaves: np.ndarray, new: np.ndarray, other: Side | None) -> tuple[np.ndarray, np.ndarray]:
        """(expansion, token) that sentences go on with whose full leaves on the other side wait for leaves."""
        if other is None or not len(other.full):
            return NONE, NONE
        becomes = np.full(len(self.leaves), -1)
        becomes[leaves] = new
        expansions = becomes[other.leaves.cursor[other.full]]
        blanks = self._blank[self.expansions.place[expansions]]
        waiting = np.flatnonzero((expansions >= 0) & (blanks >= 0))
        words = other.words(other.full[waiting])
        return expansions[waiting], words[np.arange(len(waiting)), blanks[waiting]]

    def _take_care_of(self, full: np.ndarray, other: Side | None) -> None:
        """Take in new full leaves, unless the other side has dropped their sentences or takes care of them itself."""
        if other is not None:
            new = full[self.leaves.cursor[full] < 0]
            found = other.find(np.zeros_like(new), self.words(new))
            self.leaves.cursor[new] = found
            # A sentence that is new here was in an open leaf of this side until now, for which the other's bounds hold.
            self.leaves.live[new] = (found >= 0) & other.leaves.live[found] & ~other.is_full(found)
            full = full[self.leaves.live[full]]
        self.full = np.concatenate([self.full, full])

    def _learn(self, places: np.ndarray, terms: np.ndarray) -> None:
        """Remember what the words behind the blanks have cost."""
        some = (places >= self.end) & (terms > NEVER)
        np.add.at(self._lost, places[some], -terms[some])
        np.add.at(self._read, places[some], 1)

    def worth(self) -> np.ndarray:
        """What a row has brought that reads a sentence on, by the place of the word that comes next; for comparison."""
        if not self._read.any():
            return np.full(len(self._read), np.inf)
        mean = np.where(self._read > 0, self._lost / np.maximum(self._read, 1), self._lost.sum() / self._read.sum())
        rows = np.arange(1, len(mean) + 1)
        return np.array([(np.cumsum(mean[place:]) / rows[: len(mean) - place]).max() for place in range(len(mean))])


def lowest_top(top: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The lowest ``top`` [blanks, vocab] of the words [leaves, blanks] that there are."""
    lowest: np.ndarray = np.where(words >= 0, top[np.arange(len(top)), words], top[0].max()).min(axis=1)
    return lowest


def above(bounds: np.ndarray, needed: float) -> np.ndarray:
    """Whether sentences with such bounds may be better than the incumbent, whose J is ``needed``."""
    better: np.ndarray = (bounds > NEVER) & (bounds + ROUNDING > needed)
    return better
