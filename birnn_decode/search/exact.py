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

**Masses.** The mass of a set of sentences is the sum of their exp(J). If both weights are at least 1 (or one is 0, and
its direction does not count), a bound of J for all sentences of a leaf also bounds the logarithm of the leaf's mass:

    sum over x in the leaf of exp J(x)
        <=  max over x of P_other(x)^weight_other  *  (sum over x of P_own(x))^weight_own
        <=  max over x of P_other(x)^weight_other  *  exp key(leaf),

because the probabilities of all sentences that begin with a prefix sum to at most the probability of the prefix, and
because a sum of powers with an exponent of at least 1 is at most the power of the sum. A leaf for the rest of the words
stands for several prefixes. Its mass is bounded by the sum over them, not by its highest key.

Every sentence whose J is not known is in a full leaf, in open leaves of both sides, or was dropped. When a leaf is
dropped, the bound of its mass is added to ``Side.dropped``. As in the proof above, this bound covers each sentence that
no other leaf covers. A word for which no leaf is made is dropped in the same way. So the mass of the sentences
whose J is not known is at most

    full leaves  +  dropped by either side  +  min over the two sides of the sum over open leaves.

With a demand on the mass, the incumbent drops no leaf: the search goes on until the sentences with a known J have the
share of the mass that is asked for, and no leaf is above the incumbent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from birnn_decode.objective import apply_length_rule, value_needed
from birnn_decode.record import Bound
from birnn_decode.result import StopReason
from birnn_decode.search.coupling import Coupling
from birnn_decode.search.direction import Direction
from birnn_decode.search.finalists import Finalist, Ranking
from birnn_decode.search.holding import NEVER, Problem
from birnn_decode.search.leaves import Side, above, log_sums, lowest_top
from birnn_decode.template import FixedTemplate

FEWEST, SHARE = 4, 8  # leaves expanded at a time: FEWEST, and one more for every SHARE rows of the item
NEAR = 0.2  # "near the top": within this part of the way from the highest bound down to the incumbent
NEAR_MASS = 2.0  # "near the top" if leaves are read by their masses, in nats
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
        upper: an upper bound of the score of all other sentences that the check accepts; -inf if the answers are the
            best.
        known: J of each sentence whose J is known.
        unknown: for each template the logarithm of a bound of the mass of all other sentences that fill it. It is valid
            if both weights are at least 1 or 0.
        stop: why the search ended; None while it goes on.
        proved: whether the answers are proved to be the best.
        searches: the searches of the item's problems.
    """

    answers: list[Finalist]
    upper: float
    stop: StopReason | None = None
    proved: bool = False
    known: dict[tuple[int, ...], float] = field(default_factory=dict)
    unknown: dict[FixedTemplate, float] = field(default_factory=dict)
    searches: list[_Search] = field(default_factory=list)

    def holds(self, mass: float) -> bool:
        """Tell whether the known sentences are certain to have a share of the mass."""
        unknown = log_sums(np.array(list(self.unknown.values())))
        known = log_sums(np.array(list(self.known.values())))
        return bool(unknown == NEVER or known >= np.logaddexp(known, unknown) + math.log(mass))


class _Search:
    """The search of one problem.

    Attributes:
        problem: the problem.
        sides: one per direction that counts, forward first.
        others: for each side the other one; None if only one direction counts.
        going: whether there is a leaf left to read.
        upper: an upper bound of J for all sentences that are neither complete nor dropped; -inf if none is above the
            incumbent.
        unknown: the logarithm of a bound of the mass of all sentences whose J is not known.
    """

    def __init__(
        self,
        problem: Problem,
        directions: Sequence[Direction],
        ranking: Ranking,
        known: dict[tuple[int, ...], float],
        drops: bool,
    ):
        """Begin a search.

        Args:
            problem: the problem.
            directions: the directions that count.
            ranking: the score of sentences.
            known: J of sentences of the item. Complete sentences are added.
            drops: whether leaves that are not above the incumbent are dropped.
        """
        self.problem = problem
        self._known, self._drops = known, drops
        # The cost of words belongs to no direction, and counts once.
        self.sides = [Side(problem, direction, ranking, number == 0) for number, direction in enumerate(directions)]
        self.others: list[Side | None] = [*self.sides[::-1]] if len(self.sides) > 1 else [None]
        self.going = True
        self.upper = self.unknown = 0.0
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
        complete = {words: value for side, other in sides for words, value in self._prune_full(side, other)}
        self._known.update(complete)
        for side, other in sides:
            self._prune_open(side, other)
        of_open = min(float(side.bounds.max(initial=NEVER)) for side in self.sides)
        upper = max(of_open, *(float(side.full_bounds.max(initial=NEVER)) for side in self.sides))
        self.going = upper > NEVER
        self.upper = upper if above(upper, needed) else NEVER
        masses = [side.dropped for side in self.sides] + [float(log_sums(side.full_bounds)) for side in self.sides]
        self.unknown = float(log_sums(np.array([*masses, min(float(log_sums(side.masses)) for side in self.sides)])))
        return [words for words, value in complete.items() if above(value, needed) and words not in known]

    def lowest(self, needed: float) -> float:
        """Return the J below which leaves are dropped, given the incumbent's J."""
        return needed if self._drops else NEVER

    def _prune_full(self, side: Side, other: Side | None) -> list[tuple[tuple[int, ...], float]]:
        """Update and drop full leaves. Return the sentences that are complete now, and their J."""
        words = side.leaves.words[side.full]
        bounds, done = side.leaves.key[side.full], side.is_done(side.full)
        if other is not None:
            cursors = side.leaves.cursor[side.full] = other.find(side.leaves.cursor[side.full], words)
            bounds = bounds + other.leaves.key[cursors]
            done &= other.is_done(cursors)
        alive = above(bounds, self.lowest(self._needed))
        complete, stays = done & (bounds > NEVER), alive & ~done
        side.drop(bounds[~alive & ~done])
        ranked = done & above(bounds, self._needed)
        side.grow(side.full[ranked])
        if other is not None:
            other.grow(cursors[ranked])
        side.leaves.live[side.full[~stays]] = False
        side.full, side.full_bounds = side.full[stays], bounds[stays]
        positions = self.problem.template.positions
        sentences = np.tile([one if isinstance(one, int) else -1 for one in positions], (int(complete.sum()), 1))
        sentences[sentences < 0] = words[complete].reshape(-1)
        values = bounds[complete].tolist()
        return list(zip(map(tuple, sentences.tolist()), values, strict=True))

    def _prune_open(self, side: Side, other: Side | None) -> None:
        """Update and drop open leaves, and drop the scores that no leaf needs any more."""
        bounds = np.minimum(side.leaves.key[side.open], side.leaves.cap[side.open])
        masses = np.minimum(side.leaves.mass[side.open], side.leaves.mass_cap[side.open])
        if other is not None:
            side.top = other.table()
            below = lowest_top(side.top, side.leaves.words[side.open])
            bounds = np.minimum(bounds, side.leaves.key[side.open] + below)
            masses = np.minimum(masses, side.leaves.mass[side.open] + below)
        alive = above(bounds, self.lowest(self._needed))
        dropped = side.open[~alive]
        side.drop(masses[~alive])
        side.leaves.live[dropped] = False
        side.open, side.bounds, side.masses = side.open[alive], bounds[alive], masses[alive]
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
            worth = side.bounds if self._drops else side.masses
            candidates.append((worth, np.full(len(side.open), number), side.open))
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
        """Return the number of open leaves of a side near the highest bound. A demand on the mass counts masses."""
        if not self._drops:
            return int((side.masses >= side.masses.max() - NEAR_MASS).sum())
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
        mass: the share of the mass that the known sentences must have; None for none.
    """

    coupling: Coupling
    keep: int
    budget: Budget
    proofs: list[Proof]
    mass: float | None

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
            proof.unknown.update({search.problem.template: search.unknown for search in proof.searches})
            proof.proved = proof.upper == NEVER
            if proof.proved and (self.mass is None or proof.holds(self.mass)):
                proof.stop = StopReason.PROVED
            elif late or self.coupling.rows(item) >= self.budget.share:
                proof.stop = StopReason.BUDGET
            if self.coupling.recorder is not None:
                best = next((one.score for one in proof.answers if not one.rejected), None)
                upper = proof.upper if best is None else max(proof.upper, best)
                self.coupling.recorder.bound(item, Bound(self.coupling.rows(item), upper, best))

    def read(self, going: Sequence[int]) -> None:
        """Expand the next leaves of all searches, one direction after the other."""
        asked = []
        for item in going:
            proof = self.proofs[item]
            searches = [search for search in proof.searches if search.going]
            rows = self.coupling.rows(item)
            count = min(FEWEST + rows // SHARE, self.budget.share - rows)
            searches = searches[:count]
            each = count // len(searches)
            asked += [
                (search, search.choose(each), search.lowest(self.needed(proof, search.problem))) for search in searches
            ]
        for number, direction in enumerate(self.coupling.weights):
            asking = [(search, leaves[number], lowest) for search, leaves, lowest in asked if len(leaves[number])]
            if not asking:
                continue
            wanted = [search.sides[number].to_read(leaves) for search, leaves, _ in asking]
            children = direction.tree.read(*(np.concatenate(parts) for parts in zip(*wanted, strict=True)))
            ends = np.cumsum([len(parents) for _, parents, _ in wanted])[:-1]
            for (search, leaves, lowest), own in zip(asking, np.split(children, ends), strict=True):
                search.sides[number].expand(leaves, own, search.others[number], lowest)


def _settle(coupling: Coupling, problem: Problem, proof: Proof) -> None:
    """Bound J of the only sentence of a template without blanks by what the models have read of it."""
    words = _only_sentence(problem)
    if words in proof.known:
        return
    bound, complete = 0.0, True
    for direction, weight in coupling.weights.items():
        node = direction.tree.roots[[problem.item]]
        for token in (*direction.words_in_reading_order(words), direction.tree.scorer.end_token):
            node = direction.tree.children(node, np.array([token]))
            if node[0] < 0:
                complete = False
                break
            bound += weight * float(direction.tree.terms[node[0]])
    if complete and bound > NEVER:
        proof.known[words] = bound
    else:
        proof.unknown[problem.template] = bound


def _read_single(coupling: Coupling, problems: Sequence[Problem], proofs: Sequence[Proof]) -> None:
    """Read the only sentences of templates without blanks, unless J is known."""
    single = {problem.item: problem for problem in problems if not coupling.directions[0].lane(problem.template).end}
    asked = [Finalist(item, one.template, _only_sentence(one)) for item, one in single.items()]
    asked = [one for one in asked if one.template in proofs[one.item].unknown]
    for own, proof in zip(coupling.rank(asked, 1, more_follows=True), proofs, strict=True):
        proof.known.update({one.words: coupling.ranking.value(one) for one in own})
    for one in asked:
        del proofs[one.item].unknown[one.template]


def _only_sentence(problem: Problem) -> tuple[int, ...]:
    """Return the sentence of a template without blanks."""
    return tuple(one for one in problem.template.positions if isinstance(one, int))


def exact(
    coupling: Coupling,
    problems: Sequence[Problem],
    answers: Sequence[list[Finalist]],
    keep: int,
    budget: Budget,
    mass: float | None = None,
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
        mass: the share of the mass that the known sentences must have before the search ends; None for none.

    Returns:
        one proof per item.
    """
    counting, ranking = list(coupling.weights), coupling.ranking
    waiting: list[list[Problem]] = [[] for _ in answers]
    proofs = [Proof([one for one in own if not one.broken], NEVER) for own in answers]
    for proof in proofs:
        proof.known = {one.words: ranking.value(one) for one in proof.answers}
    for problem in problems:
        not_looked = budget.interrupted and not answers[problem.item]
        if coupling.directions[0].lane(problem.template).end or not_looked:  # else its only sentence is known
            waiting[problem.item].append(problem)
            highest = apply_length_rule(0.0, len(problem.template), coupling.rules[problem.item])
            proofs[problem.item].upper = max(proofs[problem.item].upper, highest)
            proofs[problem.item].unknown[problem.template] = 0.0  # probabilities sum to at most 1
        else:
            _settle(coupling, problem, proofs[problem.item])
    for direction in counting:
        # Other widths of an item ask for the same prefixes, and hooks ask once more when sentences are ranked.
        direction.tree.asked_again = max(map(len, waiting), default=0) > 1 or bool(coupling.demands.hooks)
    memory = coupling.directions[0].tree.memory  # of both directions
    room = AT_ONCE if memory.limit is None else min(AT_ONCE, memory.limit // 2)
    proving = _Proving(coupling, keep, budget, proofs, mass)
    going = moving = [] if budget.interrupted else list(range(len(proofs)))
    try:
        if mass is not None and not budget.interrupted:
            _read_single(coupling, problems, proofs)
        for item in going:
            known = proofs[item].known
            proofs[item].searches = [
                _Search(problem, counting, ranking, known, mass is None) for problem in waiting[item]
            ]
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
            proof.answers, proof.proved = own, False
            proof.stop = StopReason.DEAD_END if proof.stop == StopReason.PROVED else proof.stop
    return proofs
