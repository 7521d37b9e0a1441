"""The proved Top-B of all sentences that a template allows: two best-first searches that prune each other.

Every problem has two *sides*, one per direction. A side divides the set of all sentences into *leaves*
(``birnn_decode.search.leaves``). A leaf is a prefix in the side's reading order and stands for the sentences that begin
with it. Its key is the weighted sum of the prefix's terms that count. To expand a leaf, the model reads its last word
(one row), and one leaf for each word that may follow takes its place. At first only the best words have a leaf of their
own. One leaf stands for the *rest* of the words, with the highest key of them.

**The bound.** Log-probabilities are never above 0 and weights never below 0, so the key of a leaf is an upper bound of
its direction's part of J for all sentences of the leaf. (A scorer that normalises by itself may exceed 0 by rounding,
by at most 0.001, which is checked. The bound is off by as much for each word that is not read yet.) A sentence x is in
one leaf of each side, hence

    J(x)  <=  key→(leaf of x on the forward side)  +  key←(leaf of x on the backward side).

A leaf is *full* when it has a word for every blank. Then x is known, its leaf on the other side is known, and the bound
is the sum of the two keys. An *open* leaf has many sentences. Let a_j be its word at blank j, and let top(j, v) be the
highest key among the open leaves of the other side that have v at j or no word there yet. For all sentences of the leaf
that are also in an open leaf on the other side,

    J(x)  <=  key(leaf)  +  min over the blanks j that it has words for of  top(j, a_j),

Sentences whose leaf on the other side is full are bounded there. So the bound of a leaf holds for all its sentences
that no full leaf covers. The incumbent is the B-th best J found so far. A leaf whose bound is not above the incumbent
is dropped. This lowers ``top`` for the other side, which then drops leaves, too, and so on. Keys and ``top`` only fall
and the incumbent only rises. So a dropped leaf stays dropped, and the bound of a leaf never rises. BSCD's answers are
the first incumbents, and prefixes that BSCD has read are not read again.

**Which side covers a sentence** x whose leaf becomes full on one side? If its leaf on the other side is open, this side
covers x from now on. If its leaf on the other side is full, the other side covers x already. If its leaf on the other
side was dropped, x is dropped: at that time x was in an open leaf on this side, and the bound that dropped the leaf
held for all such sentences.

Every sentence is in one leaf of *each* side. So all sentences are accounted for, and the incumbents are the Top-B, when
the full leaves of both sides are read or dropped and *one* of the sides has no open leaf left. At any time

    max(best J found,  max over full leaves,  min over the two sides of the max over open leaves)

is an upper bound of J. The two searches meet in the middle. With a single bound on the best of the other direction,
each side would have to read on until its own part of J alone rules a leaf out (compare Fagin's threshold algorithm).

**What is read next.** Leaves are read in the order of their bounds: the full leaves, and the open leaves of the side
that has fewer open leaves near the top. For a full leaf, the prefix that ends inside the blanks is read on, because
other sentences share it. If neither ends there, it is the prefix whose next words have cost other sentences more.
Length rules are monotonic at a given width, so the incumbent's score gives the J that a sentence of this width needs.
Among sentences of equal J, the choice is deterministic but does not follow their ids.

**A check of finished sentences.** A sentence that the check rejects does not count among the B best found, so the
incumbent is the B-th best *accepted* J. The bounds of leaves hold as before, and the accepted answers are the Top-B of
all accepted sentences. If fewer than B sentences are accepted, no leaf with a finite bound is dropped. All possible
sentences are then found, and the rejected answers are the best of all rejected sentences.

**Constraints.** A word that is ruled out after the words of a leaf has no leaf. What a hook takes off a score is taken
off the key of the leaf. The key stays a bound, because hooks that raise scores are refused. The cost of words is taken
off the keys of one side only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from birnn_decode.objective import apply_length_rule, value_needed
from birnn_decode.result import StopReason
from birnn_decode.search.coupling import Coupling
from birnn_decode.search.direction import Direction
from birnn_decode.search.finalists import Finalist, Ranking
from birnn_decode.search.holding import NEVER, Problem
from birnn_decode.search.leaves import Side, above, lowest_top

FEWEST, SHARE = 4, 8  # leaves expanded at a time: FEWEST, and one more for every SHARE rows of the item
NEAR = 0.2  # "near the top": within this part of the way from the highest bound down to the incumbent
AT_ONCE = 2**30  # bytes of scores and states that items may hold while they advance side by side


@dataclass(eq=False)
class Budget:
    """The limits at which a search ends without a proof.

    Attributes:
        rows: the rows that an item may take, earlier ones included.
        seconds: the seconds that the call may take; None: no limit.
        began: when the call began, by ``time.perf_counter``.
        groups: the number of groups that share the rows.
        begun: whether a part of the call has answers already.
        interrupted: whether the user has interrupted the call.
    """

    rows: int
    seconds: float | None = None
    began: float = 0.0
    groups: int = 1
    begun: bool = False
    interrupted: bool = False

    @property
    def share(self) -> int:
        """The rows that each group may take."""
        return max(self.rows // self.groups, 1)

    @property
    def late(self) -> bool:
        """Whether the seconds have passed."""
        return self.seconds is not None and time.perf_counter() >= self.began + self.seconds

    def __str__(self) -> str:
        return f"rows:{self.rows}" + ("" if self.seconds is None else f"|seconds:{self.seconds:g}")


@dataclass(eq=False)
class Proof:
    """The state of one item's search.

    Attributes:
        answers: the best sentences so far, with all their terms.
        upper: an upper bound of the score of all other sentences that the check accepts.
        stop: why the search ended; None while it goes on.
        searches: the searches of the item's problems.
    """

    answers: list[Finalist]
    upper: float
    stop: StopReason | None = None
    searches: list[_Search] = field(default_factory=list)


class _Search:
    """The search of one problem.

    Attributes:
        problem: the problem.
        sides: one per direction that counts, forward first.
        others: for each side the other one; None if only one direction counts.
        upper: an upper bound of J for all sentences that are neither complete nor dropped; -inf if there are none.
    """

    def __init__(self, problem: Problem, directions: Sequence[Direction], ranking: Ranking):
        self.problem = problem
        # The cost of words belongs to no direction, and counts once.
        self.sides = [Side(problem, direction, ranking, number == 0) for number, direction in enumerate(directions)]
        self.others: list[Side | None] = [*self.sides[::-1]] if len(self.sides) > 1 else [None]
        self.upper = 0.0
        self._needed = NEVER

    def prune(self, needed: float, answers: Sequence[Finalist]) -> list[tuple[int, ...]]:
        """Update all bounds and drop leaves that are not above the incumbent.

        Args:
            needed: the incumbent's J.
            answers: sentences whose J is known.

        Returns:
            sentences that are complete now and not below the incumbent.
        """
        self._needed = needed
        known = {one.words for one in answers if one.template == self.problem.template}
        sides = list(zip(self.sides, self.others, strict=True))
        complete = [words for side, other in sides for words in self._prune_full(side, other) if words not in known]
        for side, other in sides:
            self._prune_open(side, other)
        of_open = min(float(side.bounds.max(initial=NEVER)) for side in self.sides)
        self.upper = max(of_open, *(float(side.full_bounds.max(initial=NEVER)) for side in self.sides))
        return complete

    def _prune_full(self, side: Side, other: Side | None) -> list[tuple[int, ...]]:
        """Update and drop full leaves. Return the sentences that are complete now."""
        words = side.leaves.words[side.full]
        bounds, done = side.leaves.key[side.full], side.is_done(side.full)
        if other is not None:
            cursors = side.leaves.cursor[side.full] = other.find(side.leaves.cursor[side.full], words)
            bounds = bounds + other.leaves.key[cursors]
            done &= other.is_done(cursors)
        alive = above(bounds, self._needed)
        complete, stays = alive & done, alive & ~done
        side.grow(side.full[complete])
        if other is not None:
            other.grow(cursors[complete])
        side.leaves.live[side.full[~stays]] = False
        side.full, side.full_bounds = side.full[stays], bounds[stays]
        positions = self.problem.template.positions
        sentences = np.tile([one if isinstance(one, int) else -1 for one in positions], (int(complete.sum()), 1))
        sentences[sentences < 0] = words[complete].reshape(-1)
        return [tuple(sentence) for sentence in sentences.tolist()]

    def _prune_open(self, side: Side, other: Side | None) -> None:
        """Update and drop open leaves, and drop the scores that no leaf needs any more."""
        bounds = np.minimum(side.leaves.key[side.open], side.leaves.cap[side.open])
        if other is not None:
            side.top = other.table()
            below = lowest_top(side.top, side.leaves.words[side.open])
            bounds = np.minimum(bounds, side.leaves.key[side.open] + below)
        alive = above(bounds, self._needed)
        dropped = side.open[~alive]
        side.leaves.live[dropped] = False
        side.open, side.bounds = side.open[alive], bounds[alive]
        over = dropped[side.is_rest(dropped)]
        if other is not None:
            over = np.setdiff1d(over, other.leaves.cursor[other.full])
        side.tree.done(side.parent_nodes(over))

    def choose(self, count: int) -> list[np.ndarray]:
        """Return the leaves of each side to be expanded next, at most ``count`` in all."""
        candidates = []  # bounds, the numbers of the sides that read, and their leaves
        for number, (side, other) in enumerate(zip(self.sides, self.others, strict=True)):
            here = self._read_here(side, other)
            leaves = np.where(here, side.full, side.leaves.cursor[side.full])
            candidates.append((side.full_bounds, np.where(here, number, 1 - number), leaves))
        if all(len(side.open) for side in self.sides):
            near = [self._near(side) for side in self.sides]
            number = near.index(min(near))
            side = self.sides[number]
            candidates.append((side.bounds, np.full(len(side.open), number), side.open))
        bounds, side_of, leaves = (np.concatenate(columns) for columns in zip(*candidates, strict=True))
        highest = _highest(bounds, count)
        return [np.unique(leaves[highest[side_of[highest] == number]]) for number in range(len(self.sides))]

    def _read_here(self, side: Side, other: Side | None) -> np.ndarray:
        """Tell for the full leaves of a side whether their prefix on this side is read on."""
        if other is None:
            return np.ones(len(side.full), dtype=bool)
        cursors = side.leaves.cursor[side.full]
        ours, theirs = (
            one.worth()[np.minimum(one.places(leaves) + 1, one.last)]
            for one, leaves in ((side, side.full), (other, cursors))
        )
        done, other_done = side.is_done(side.full), other.is_done(cursors)
        return ~done & (other_done | (other.is_full(cursors) & (ours >= theirs)))

    def _near(self, side: Side) -> int:
        """Return the number of open leaves of a side near the highest bound."""
        highest = side.bounds.max()
        lowest = self._needed if self._needed > NEVER else side.bounds.min()
        return int((side.bounds >= highest - NEAR * (highest - lowest)).sum())


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the highest values, highest first; equal values in their order."""
    least = np.partition(values, -count)[-count] if count < len(values) else NEVER
    some = np.flatnonzero(values >= least)
    return some[np.argsort(-values[some], kind="stable")][:count]


@dataclass(eq=False)
class _Proving:
    """The exact search of all items of a call.

    Attributes:
        coupling: the models.
        keep: B.
        budget: when to end without a proof.
        proofs: one per item.
    """

    coupling: Coupling
    keep: int
    budget: Budget
    proofs: list[Proof]

    def needed(self, proof: Proof, problem: Problem) -> float:
        """Return the J that a sentence needs to be among the best: the incumbent."""
        accepted = [one.score for one in proof.answers if not one.rejected]
        score = accepted[self.keep - 1] if len(accepted) >= self.keep else NEVER
        return value_needed(score, len(problem.template), self.coupling.rules[problem.item])

    def look(self, going: Sequence[int]) -> None:
        """Update all bounds, rank complete sentences, and find the items that have ended."""
        pool: list[Finalist] = []
        for item in going:
            proof = self.proofs[item]
            complete = [
                Finalist(item, search.problem.template, words)
                for search in proof.searches
                for words in search.prune(self.needed(proof, search.problem), proof.answers)
            ]
            if complete:
                pool += [*proof.answers, *complete]
        if pool:
            ranked = self.coupling.rank(pool, self.keep, more_follows=True)
            for item in {one.item for one in pool}:
                self.proofs[item].answers = ranked[item]
        late = self.budget.late
        for item in going:
            proof = self.proofs[item]
            uppers = (
                apply_length_rule(search.upper, len(search.problem.template), self.coupling.rules[item])
                for search in proof.searches
            )
            proof.upper = max(uppers, default=NEVER)
            if proof.upper == NEVER:
                proof.stop = StopReason.PROVED
            elif late or self.coupling.rows(item) >= self.budget.share:
                proof.stop = StopReason.BUDGET

    def read(self, going: Sequence[int]) -> None:
        """Expand the next leaves of all searches, one direction after the other."""
        asked = []
        for item in going:
            proof = self.proofs[item]
            searches = [search for search in proof.searches if search.upper > NEVER]
            rows = self.coupling.rows(item)
            count = min(FEWEST + rows // SHARE, self.budget.share - rows)
            searches = searches[:count]
            each = count // len(searches)
            asked += [(search, search.choose(each), self.needed(proof, search.problem)) for search in searches]
        for number, direction in enumerate(self.coupling.weights):
            asking = [(search, leaves[number], needed) for search, leaves, needed in asked if len(leaves[number])]
            if not asking:
                continue
            wanted = [search.sides[number].to_read(leaves) for search, leaves, _ in asking]
            children = direction.tree.read(*(np.concatenate(parts) for parts in zip(*wanted, strict=True)))
            ends = np.cumsum([len(parents) for _, parents, _ in wanted])[:-1]
            for (search, leaves, needed), own in zip(asking, np.split(children, ends), strict=True):
                search.sides[number].expand(leaves, own, search.others[number], needed)


def exact(
    coupling: Coupling, problems: Sequence[Problem], answers: Sequence[list[Finalist]], keep: int, budget: Budget
) -> list[Proof]:
    """Find the best sentences of each item and prove that they are the best.

    The items advance side by side, so that one call of a model serves all. Items that hold much memory advance one
    after the other.

    Args:
        coupling: a pair.
        problems: the problems, after ``bscd``.
        answers: for each item the best sentences known, with all their terms.
        keep: B.
        budget: when to end without a proof.

    Returns:
        one proof per item.
    """
    counting, ranking = list(coupling.weights), coupling.ranking
    waiting: list[list[Problem]] = [[] for _ in answers]
    proofs = [Proof([one for one in own if not one.broken], NEVER) for own in answers]
    for problem in problems:
        not_looked = budget.interrupted and not answers[problem.item]
        if coupling.directions[0].lane(problem.template).end or not_looked:  # else its only sentence is known
            waiting[problem.item].append(problem)
            highest = apply_length_rule(0.0, len(problem.template), coupling.rules[problem.item])
            proofs[problem.item].upper = max(proofs[problem.item].upper, highest)
    for direction in counting:
        # Other widths of an item ask for the same prefixes, and hooks ask once more when sentences are ranked.
        direction.tree.asked_again = max(map(len, waiting), default=0) > 1 or bool(coupling.demands.hooks)
    memory = coupling.directions[0].tree.memory  # of both directions
    room = AT_ONCE if memory.limit is None else min(AT_ONCE, memory.limit // 2)
    proving = _Proving(coupling, keep, budget, proofs)
    going = moving = [] if budget.interrupted else list(range(len(proofs)))
    try:
        for item in going:
            proofs[item].searches = [_Search(problem, counting, ranking) for problem in waiting[item]]
        while going:
            proving.look(moving)
            for item in moving:
                if proofs[item].stop is not None:
                    proofs[item].searches = []
                    for direction in counting:
                        direction.tree.forget([item])
            going = [item for item in going if proofs[item].stop is None]
            # An item frees its memory when it ends. If all hold too much, only one moves, so that it comes to its end.
            late = budget.late  # then all are stopped by the next look
            moving = going if late or memory.used < room else going[:1]
            if not late:
                proving.read(moving)
    except KeyboardInterrupt:
        budget.interrupted = True
    for proof, own in zip(proofs, answers, strict=True):
        proof.stop = proof.stop or StopReason.INTERRUPTED
        if own and not proof.answers:  # they violate a constraint, and nothing was found that does not
            if proof.stop == StopReason.PROVED and coupling.demands.avoids(own[0].item):
                continue  # the groups before have every sentence
            proof.answers = own
            proof.stop = StopReason.DEAD_END if proof.stop == StopReason.PROVED else proof.stop
    return proofs
