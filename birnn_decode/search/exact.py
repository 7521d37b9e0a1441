"""The Top-B of all sentences that a template allows, proved: two best-first searches that prune each other.

Of every problem there are two *sides*, one per direction. A side cuts the set of all sentences into *leaves*: a leaf is
a prefix in the side's reading order and stands for the sentences that begin so. Its key is the weighted sum of the
prefix's terms that count. To expand a leaf, its last word is read (one row), and a leaf of each word that may follow
takes its place; of those, only the best have one of their own at first, and one leaf stands for the *rest*.

**The bound.** Log-probabilities are never above 0 and weights never below, so the key of a leaf is an upper bound of
its direction's part of J for all sentences of the leaf. (Where log-probabilities exceed 0 by rounding, the bound is off
by as much.) A sentence x is in one leaf of each side, hence

    J(x)  <=  key→(leaf of x on the forward side)  +  key←(leaf of x on the backward side).

A leaf is *full* when it has a word for every blank. Then x is known, and so is its leaf on the other side, and the
bound is the sum of the two keys. A leaf that is *open* has many sentences; let a_j be the word that it has at blank j,
and top(j, v) the highest key among the open leaves of the other side that have v at j, or nothing yet. For all its
sentences that are in an open leaf on the other side, too,

    J(x)  <=  key(leaf)  +  min over the blanks j that it has words for of  top(j, a_j),

and those whose leaf over there is full are bounded there. So the bound of a leaf holds for all its sentences that no
full leaf takes care of. A leaf whose bound is not above the B-th best J found so far, the incumbent, is dropped: it
lowers ``top`` for the other side, which drops leaves of its own, and so on. Bounds only fall and the incumbent only
rises, so what is dropped is done with for good. BSCD's answers are the first incumbents, and what BSCD has read is
not read again.

Every sentence is in a leaf of *either* side. All are accounted for, and the incumbents are the Top-B, when the full
leaves of both sides are read or dropped and *one* of the sides has no open leaf left. At any time

    max(best J found,  max over full leaves,  min over the two sides of the max over open leaves)

is an upper bound of J. This is a meeting in the middle: neither side must go down to what the other leaves of the
incumbent's J, as a search with one bound of the other direction's best would (compare Fagin's threshold algorithm).

What is read next: leaves in the order of their bounds, the full ones and the open ones of the side that has fewer of
these near the top. For a full leaf, the one of its two prefixes is read on that ends inside the blanks, since others
share it; if none does, the one whose next words have cost other sentences more. Length rules are monotonous at a given
width, so that the incumbent's score is turned into the J that a sentence of that width needs. Equal J: which of the
sentences are kept is determined, though not by their ids.

**Constraints.** A word that is ruled out behind what a leaf has decided has no leaf. What a hook takes off its score
is taken off the key of its leaf, which stays a bound, since hooks that raise scores are refused. What words cost,
whoever chooses them, is taken off the keys of one side only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from birnn_decode.constraints import UNDECIDED
from birnn_decode.objective import apply_length_rule, value_needed
from birnn_decode.result import StopReason
from birnn_decode.search.finalists import ROUNDING, Finalist, Ranking, rank_finalists
from birnn_decode.search.holding import NEVER, Held, weighed
from birnn_decode.search.problem import Direction, Problem
from birnn_decode.search.tree import NONE, Nodes

FEWEST, SHARE = 4, 8  # so many leaves are expanded at a time, and one more for every so many rows of the item
NEAR = 0.2  # of the way from the highest bound down to the incumbent
CHUNK, LEAVES = 32, 2**18  # leaves of its own that an expansion gets at a time, and that all of a side may get at first
AT_A_TIME = 2**21  # scores looked through in one go
AT_ONCE = 2**31  # bytes of scores and states that items may hold while they advance side by side


@dataclass(eq=False)
class Budget:
    """When a search has to end without a proof.

    Attributes:
        rows: that an item may take, those included that were read before.
        seconds: that the call may take; None: any number.
        began: when the call began, on the clock of `time.perf_counter`.
        groups: among which the rows are divided.
        begun: whether the search of any of the call's items has begun.
        interrupted: whether the user has had enough.
    """

    rows: int
    seconds: float | None = None
    began: float = 0.0
    groups: int = 1
    begun: bool = False
    interrupted: bool = False

    @property
    def share(self) -> int:
        """The rows of each group."""
        return max(self.rows // self.groups, 1)

    @property
    def late(self) -> bool:
        """Whether the seconds are over."""
        return self.seconds is not None and time.perf_counter() >= self.began + self.seconds

    def __str__(self) -> str:
        return f"rows:{self.rows}" + ("" if self.seconds is None else f"|seconds:{self.seconds:g}")


@dataclass(eq=False)
class Proof:
    """What the search of an item has come to.

    Attributes:
        answers: the best sentences so far, with all their terms.
        upper: no other sentence has a score above this.
        stop: why it ended; None while it goes on.
    """

    answers: list[Finalist]
    upper: float
    stop: StopReason | None = None
    searches: list[_Search] = field(default_factory=list)


class _Columns:
    """Columns that grow together."""

    def add(self, **columns: np.ndarray) -> np.ndarray:
        """Put values below each column; returns the numbers of the new rows."""
        before = len(self)
        for name, values in columns.items():
            setattr(self, name, np.concatenate([getattr(self, name), values]))
        return np.arange(before, len(self))

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))  # type: ignore[arg-type]


@dataclass(eq=False)
class _Expansions(_Columns):
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
class _Leaves(_Columns):
    """Prefixes that have been met; leaves in the sense above are those of them that are live.

    Attributes:
        parent: the expansion that it is one word longer than.
        token: that word; the vocabulary's size for the rest.
        code: both as one number, ascending.
        key: the weighted sum of its terms that count; for the rest the highest.
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
    cap: np.ndarray
    score: np.ndarray
    node: Nodes
    child: np.ndarray
    cursor: np.ndarray
    live: np.ndarray


class _Side:
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
        nothing = np.full((1, len(blanks)), -1)
        self.expansions = _Expansions(one - 1, np.array([key]), one + lane.begin - 1, nothing, one)
        self.leaves = _Leaves(
            one, one, one, np.array([key]), np.zeros(1), np.zeros(1), one + root, one - 1, one - 1, one == 0
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
        parents = self.leaves.parent[leaves]
        words: np.ndarray = self.expansions.words[parents]
        blanks = np.where((parents == 0) | self.is_rest(leaves), -1, self._blank[self.expansions.place[parents]])
        own = np.flatnonzero(blanks >= 0)
        words[own, blanks[own]] = self.leaves.token[leaves[own]]
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

    def expand(self, leaves: np.ndarray, children: Nodes, other: _Side | None, needed: float) -> None:
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
        order = np.argsort(self._codes(parent, token), kind="stable")
        parent, token, key, cap, score = (column[order] for column in (parent, token, key, cap, score))
        born = self.leaves.add(
            parent=parent,
            token=token,
            code=self._codes(parent, token),
            key=key,
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
            bounds = keys + np.minimum(_most(self.top, words)[:, None], self.top[blanks])
        keep = (bounds > NEVER) & (bounds + ROUNDING > needed) & live[:, None]
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

    def _wanted(self, leaves: np.ndarray, new: np.ndarray, other: _Side | None) -> tuple[np.ndarray, np.ndarray]:
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

    def _take_care_of(self, full: np.ndarray, other: _Side | None) -> None:
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


class _Search:
    """The search of one problem.

    Attributes:
        problem: what is searched.
        sides: one per direction that counts, forward first.
        upper: of J, for all sentences that are neither complete nor dropped; -inf: there are none.
    """

    def __init__(self, problem: Problem, directions: Sequence[Direction], ranking: Ranking):
        self.problem = problem
        # What words cost is no matter of a direction, and counts once.
        self.sides = [_Side(problem, direction, ranking, number == 0) for number, direction in enumerate(directions)]
        self.upper = 0.0
        self._needed = NEVER
        self._blanks = [at for at in range(len(problem.template)) if problem.template.undecided(at)]

    def other(self, number: int) -> _Side | None:
        """The side that is not the given one."""
        return self.sides[1 - number] if len(self.sides) > 1 else None

    def prune(self, needed: float, answers: Sequence[Finalist]) -> list[tuple[int, ...]]:
        """Renew all bounds and drop what is not above the incumbent.

        Args:
            needed: the incumbent's J.
            answers: sentences whose J is known.

        Returns:
            sentences that are complete now and not below the incumbent.
        """
        self._needed = needed
        known = {one.words for one in answers}
        complete = [words for number in range(len(self.sides)) for words in self._prune_full(number, known)]
        for number, side in enumerate(self.sides):
            self._prune_open(side, self.other(number))
        of_open = min(float(side.bounds.max(initial=NEVER)) for side in self.sides)
        self.upper = max(of_open, *(float(side.full_bounds.max(initial=NEVER)) for side in self.sides))
        return complete

    def _alive(self, bounds: np.ndarray) -> np.ndarray:
        alive: np.ndarray = (bounds > NEVER) & (bounds + ROUNDING > self._needed)
        return alive

    def _prune_full(self, number: int, known: set[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
        side, other = self.sides[number], self.other(number)
        words = side.words(side.full)
        bounds, done = side.leaves.key[side.full], side.is_done(side.full)
        if other is not None:
            cursors = side.leaves.cursor[side.full] = other.find(side.leaves.cursor[side.full], words)
            bounds = bounds + other.leaves.key[cursors]
            done &= other.is_done(cursors)
        alive = self._alive(bounds)
        side.grow(side.full[alive & done])
        if other is not None:
            other.grow(cursors[alive & done])
        sentences = [self._sentence(row) for row in words[alive & done].tolist()]
        yield from (sentence for sentence in sentences if sentence not in known)
        stays = alive & ~done
        side.leaves.live[side.full[~stays]] = False
        side.full, side.full_bounds = side.full[stays], bounds[stays]

    def _prune_open(self, side: _Side, other: _Side | None) -> None:
        bounds = np.minimum(side.leaves.key[side.open], side.leaves.cap[side.open])
        if other is not None:
            side.top = other.table()
            bounds = np.minimum(bounds, side.leaves.key[side.open] + _most(side.top, side.words(side.open)))
        alive = self._alive(bounds)
        dropped = side.open[~alive]
        side.leaves.live[dropped] = False
        side.open, side.bounds = side.open[alive], bounds[alive]
        over = dropped[side.is_rest(dropped)]
        if other is not None:
            over = np.setdiff1d(over, other.leaves.cursor[other.full])
        side.tree.done(side.expansions.node[side.leaves.parent[over]])

    def _sentence(self, words: Sequence[int]) -> tuple[int, ...]:
        sentence = [one if isinstance(one, int) else -1 for one in self.problem.template.positions]
        for at, word in zip(self._blanks, words, strict=True):
            sentence[at] = word
        return tuple(sentence)

    def choose(self, count: int) -> list[np.ndarray]:
        """The leaves that are to be expanded next, of each side, at most so many in all."""
        bounds, sides, leaves = [], [], []
        for number, side in enumerate(self.sides):
            bounds.append(side.full_bounds)
            read_here = self._read_here(number)
            sides.append(np.where(read_here, number, 1 - number))
            leaves.append(np.where(read_here, side.full, side.leaves.cursor[side.full]))
        if all(len(side.open) for side in self.sides):
            near = [self._near(side) for side in self.sides]
            number = near.index(min(near))
            bounds.append(self.sides[number].bounds)
            sides.append(np.full(len(self.sides[number].open), number))
            leaves.append(self.sides[number].open)
        order = np.argsort(-np.concatenate(bounds), kind="stable")[:count]
        side_of, chosen = np.concatenate(sides)[order], np.concatenate(leaves)[order]
        return [np.unique(chosen[side_of == number]) for number in range(len(self.sides))]

    def _read_here(self, number: int) -> np.ndarray:
        """For the full leaves of a side, whether it is their prefix on this side that is read on."""
        side, other = self.sides[number], self.other(number)
        if other is None:
            return np.ones(len(side.full), dtype=bool)
        cursors = side.leaves.cursor[side.full]
        ours, theirs = (
            one.worth()[np.minimum(one.places(leaves) + 1, one.last)]
            for one, leaves in ((side, side.full), (other, cursors))
        )
        done, other_done = side.is_done(side.full), other.is_done(cursors)
        here: np.ndarray = ~done & (other_done | (other.is_full(cursors) & (ours >= theirs)))
        return here

    def _near(self, side: _Side) -> int:
        """How many open leaves of a side are near the highest bound."""
        highest = side.bounds.max()
        lowest = self._needed if self._needed > NEVER else side.bounds.min()
        return int((side.bounds >= highest - NEAR * (highest - lowest)).sum())


def _most(top: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The lowest ``top`` [blanks, vocab] of the words [leaves, blanks] that there are."""
    lowest: np.ndarray = np.where(words >= 0, top[np.arange(len(top)), words], top[0].max()).min(axis=1)
    return lowest


def exact(
    problems: Sequence[Problem],
    directions: Sequence[Direction],
    answers: Sequence[list[Finalist]],
    ranking: Ranking,
    keep: int,
    budget: Budget,
) -> list[Proof]:
    """Find the best sentences of each item and prove that they are.

    The items advance side by side, so that what they ask of a model goes into one call; where they come to hold much,
    one after the other.

    Args:
        problems: what is searched, after `bscd`.
        directions: both.
        answers: for each item the best sentences known, with all their terms.
        ranking: what sentences are ranked by.
        keep: B.
        budget: when to end without a proof.

    Returns:
        one for each item.
    """
    counting = [direction for direction in directions if direction in ranking.weights]
    several = [0] * len(answers)
    waiting: list[list[Problem]] = [[] for _ in answers]
    proofs = [Proof([one for one in own if not one.broken], NEVER) for own in answers]
    for problem in problems:
        if directions[0].lane(problem.template).end or budget.interrupted:  # else its only sentence is known
            waiting[problem.item].append(problem)
            several[problem.item] += 1
            proof = proofs[problem.item]
            highest = apply_length_rule(0.0, len(problem.template), ranking.rules[problem.item])
            proof.upper = max(proof.upper, highest)
    for direction in counting:
        # By another width of the same item; and hooks are asked once more when sentences are ranked.
        direction.tree.asked_again = max(several, default=0) > 1 or bool(ranking.demands.hooks)
    memory = directions[0].tree.memory  # of both directions
    room = AT_ONCE if memory.limit is None else min(AT_ONCE, memory.limit // 2)
    going = moving = list(range(len(proofs)))
    try:
        if not budget.interrupted:
            for item in going:
                proofs[item].searches = [_Search(problem, counting, ranking) for problem in waiting[item]]
        while going and not budget.interrupted:
            _look(proofs, moving, directions, ranking, keep, budget)
            for item in moving:
                if proofs[item].stop is not None:
                    proofs[item].searches = []
                    for direction in counting:
                        direction.tree.forget([item])
            going = [item for item in going if proofs[item].stop is None]
            # What an item has read goes when it has ended, so that one of those that hold much has to come to its end.
            late = budget.late  # all of them are told so
            moving = going if late or memory.used < room else going[:1]
            if not late:
                _read([proofs[item] for item in moving], directions, counting, ranking, keep, budget)
    except KeyboardInterrupt:
        budget.interrupted = True
    for proof, own in zip(proofs, answers, strict=True):
        proof.stop = proof.stop or StopReason.INTERRUPTED
        proof.searches = []
        if own and not proof.answers:  # they break a constraint, and nothing was found that does not
            if proof.stop == StopReason.PROVED and ranking.demands.avoids(own[0].item):
                continue  # the groups before have all there are
            proof.answers = own
            proof.stop = StopReason.DEAD_END if proof.stop == StopReason.PROVED else proof.stop
    return proofs


def _needed(proof: Proof, problem: Problem, ranking: Ranking, keep: int) -> float:
    """The J of the incumbent: what a sentence needs to be among the best."""
    score = proof.answers[keep - 1].score if len(proof.answers) >= keep else NEVER
    return value_needed(score, len(problem.template), ranking.rules[problem.item])


def _look(
    proofs: Sequence[Proof],
    going: Sequence[int],
    directions: Sequence[Direction],
    ranking: Ranking,
    keep: int,
    budget: Budget,
) -> None:
    """Renew all bounds, rank what is complete, and see who has come to an end."""
    found: dict[int, list[Finalist]] = {}
    for item in going:
        for search in proofs[item].searches:
            template = search.problem.template
            same = [one for one in proofs[item].answers if one.template == template]
            complete = search.prune(_needed(proofs[item], search.problem, ranking, keep), same)
            if complete:
                found.setdefault(item, []).extend(Finalist(item, template, words) for words in complete)
    if found:
        pool = [one for item, new in found.items() for one in (*proofs[item].answers, *new)]
        ranked = rank_finalists(pool, len(proofs), directions, ranking, keep, sweeps_follow=True)
        for item in found:
            proofs[item].answers = ranked[item]
    late = budget.late
    for item in going:
        proof = proofs[item]
        uppers = [
            apply_length_rule(search.upper, len(search.problem.template), ranking.rules[item])
            for search in proof.searches
        ]
        proof.upper = max(uppers, default=NEVER)
        if proof.upper == NEVER:
            proof.stop = StopReason.PROVED
        elif late or _rows(directions, item) >= budget.share:
            proof.stop = StopReason.BUDGET


def _rows(directions: Sequence[Direction], item: int) -> int:
    return sum(int(direction.tree.rows[item]) for direction in directions)


def _read(
    proofs: Sequence[Proof],
    directions: Sequence[Direction],
    counting: Sequence[Direction],
    ranking: Ranking,
    keep: int,
    budget: Budget,
) -> None:
    """Expand the next leaves of all searches, one direction after the other."""
    asked = []
    for proof in proofs:
        searches = [search for search in proof.searches if search.upper > NEVER]
        rows = _rows(directions, searches[0].problem.item)
        count = min(FEWEST + rows // SHARE, budget.share - rows)
        searches = searches[:count]
        count //= len(searches)
        asked += [(search, search.choose(count), _needed(proof, search.problem, ranking, keep)) for search in searches]
    for number, direction in enumerate(counting):
        asking = [(search, leaves[number], needed) for search, leaves, needed in asked if len(leaves[number])]
        if not asking:
            continue
        wanted = [search.sides[number].to_read(leaves) for search, leaves, _ in asking]
        children = direction.tree.read(*(np.concatenate(parts) for parts in zip(*wanted, strict=True)))
        ends = np.cumsum([len(parents) for _, parents, _ in wanted])[:-1]
        for (search, leaves, needed), own in zip(asking, np.split(children, ends), strict=True):
            search.sides[number].expand(leaves, own, search.other(number), needed)
