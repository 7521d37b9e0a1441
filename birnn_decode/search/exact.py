"""The Top-B of all sentences that a template allows, proved: two best-first searches that prune each other.

Of every problem there are two *sides*, one per direction. A side cuts the set of all sentences into *leaves*
(`birnn_decode.search.leaves`): a leaf is a prefix in the side's reading order and stands for the sentences that begin
so. Its key is the weighted sum of the prefix's terms that count. To expand a leaf, its last word is read (one row), and
a leaf of each word that may follow takes its place; of those, only the best have one of their own at first, and one
leaf stands for the *rest*, with the highest key of all of these.

**The bound.** Log-probabilities are never above 0 and weights never below, so the key of a leaf is an upper bound of
its direction's part of J for all sentences of the leaf. (A scorer that normalises by itself may exceed 0 by rounding,
by 0.001 at most, which is checked; the bound is off by as much for each word that is not read yet.) A sentence x is in
one leaf of each side, hence

    J(x)  <=  key→(leaf of x on the forward side)  +  key←(leaf of x on the backward side).

A leaf is *full* when it has a word for every blank. Then x is known, and so is its leaf on the other side, and the
bound is the sum of the two keys. A leaf that is *open* has many sentences; let a_j be the word that it has at blank j,
and top(j, v) the highest key among the open leaves of the other side that have v at j, or nothing yet. For all its
sentences that are in an open leaf on the other side, too,

    J(x)  <=  key(leaf)  +  min over the blanks j that it has words for of  top(j, a_j),

and those whose leaf over there is full are bounded there. So the bound of a leaf holds for all its sentences that no
full leaf takes care of. A leaf whose bound is not above the B-th best J found so far, the incumbent, is dropped: it
lowers ``top`` for the other side, which drops leaves of its own, and so on. Keys and ``top`` only fall and the
incumbent only rises, so what is dropped is done with for good, and a leaf's bound is never above what it was when the
leaf came about. BSCD's answers are the first incumbents, and what BSCD has read is not read again.

**Who takes care of a sentence** x whose leaf becomes full on one side: that side, from now on, if its leaf over there
is open. If it is full, the other side does already. If it has been dropped, so is x: while it was dropped, x was in an
open leaf on this side, and the bound by which it was dropped held for all such sentences.

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
from dataclasses import dataclass, field

import numpy as np

from birnn_decode.objective import apply_length_rule, value_needed
from birnn_decode.result import StopReason
from birnn_decode.search.finalists import Finalist, Ranking, rank_finalists
from birnn_decode.search.holding import NEVER
from birnn_decode.search.leaves import Side, above, lowest_top
from birnn_decode.search.problem import Direction, Problem

FEWEST, SHARE = 4, 8  # so many leaves are expanded at a time, and one more for every so many rows of the item
NEAR = 0.2  # of the way from the highest bound down to the incumbent
AT_ONCE = 2**30  # bytes of scores and states that items may hold while they advance side by side


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
        self.sides = [Side(problem, direction, ranking, number == 0) for number, direction in enumerate(directions)]
        self.upper = 0.0
        self._needed = NEVER
        self._blanks = [at for at in range(len(problem.template)) if problem.template.undecided(at)]

    def other(self, number: int) -> Side | None:
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

    def _prune_full(self, number: int, known: set[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
        side, other = self.sides[number], self.other(number)
        words = side.words(side.full)
        bounds, done = side.leaves.key[side.full], side.is_done(side.full)
        if other is not None:
            cursors = side.leaves.cursor[side.full] = other.find(side.leaves.cursor[side.full], words)
            bounds = bounds + other.leaves.key[cursors]
            done &= other.is_done(cursors)
        alive = above(bounds, self._needed)
        side.grow(side.full[alive & done])
        if other is not None:
            other.grow(cursors[alive & done])
        sentences = [self._sentence(row) for row in words[alive & done].tolist()]
        yield from (sentence for sentence in sentences if sentence not in known)
        stays = alive & ~done
        side.leaves.live[side.full[~stays]] = False
        side.full, side.full_bounds = side.full[stays], bounds[stays]

    def _prune_open(self, side: Side, other: Side | None) -> None:
        bounds = np.minimum(side.leaves.key[side.open], side.leaves.cap[side.open])
        if other is not None:
            side.top = other.table()
            bounds = np.minimum(bounds, side.leaves.key[side.open] + lowest_top(side.top, side.words(side.open)))
        alive = above(bounds, self._needed)
        dropped = side.open[~alive]
        side.leaves.live[dropped] = False
        side.open, side.bounds = side.open[alive], bounds[alive]
        over = dropped[side.is_rest(dropped)]
        if other is not None and len(over):
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
        order = _highest(np.concatenate(bounds), count)
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

    def _near(self, side: Side) -> int:
        """How many open leaves of a side are near the highest bound."""
        highest = side.bounds.max()
        lowest = self._needed if self._needed > NEVER else side.bounds.min()
        return int((side.bounds >= highest - NEAR * (highest - lowest)).sum())


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """The places of the highest values, these in order; of equals the first."""
    if count < len(values):
        least = np.partition(values, -count)[-count]
        above_it, equal = np.flatnonzero(values > least), np.flatnonzero(values == least)
        some = np.sort(np.concatenate([above_it, equal[: count - len(above_it)]]))
    else:
        some = np.arange(len(values))
    order: np.ndarray = some[np.argsort(-values[some], kind="stable")]
    return order


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
        nobody_looked = budget.interrupted and not answers[problem.item]
        if directions[0].lane(problem.template).end or nobody_looked:  # else its only sentence is known
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
