"""A joint model in a search: one softmax over both sides of a word.

Such a model gives p(w_t | w_<t, w_>t): one softmax over the scores of a forward half, which has read the words before a
position, and a backward half, which has read the words after it. With a left beam b and a right beam b', only the word
v at t is open:

    log p(v | b, b') = f_b(v) + g_b'(v) − log Z(b, b')          Z(b, b') = Σ_v exp(f_b(v) + g_b'(v))

if the halves' scores are added. All Z of a step are one matrix product, exp f · (exp g)ᵀ. A finished sentence is scored
with its pseudo-log-likelihood, the sum over positions of log p(w_t | all other words).

At a blank position t, a sweep keeps the

    top-B over (b, v) of   s_b + max over b' of [ log p(v | b, b') + s'_b' ]

instead of the sum of two log-probabilities in ``birnn_decode.search.sweep``. Z couples b and b', so the best b' depends
on b. A step takes O(B·B'·V) time and O(B·V) memory, since the b' are processed one after the other.

**The running score** s of a beam is the sum of log p(v | b, b') over the blank positions that it has filled, each with
the prefix b and the opposite beam b' at the time of the choice. It is kept as it was when the opposite beams change,
until the next sweep fills the blanks anew. Every blank position counts once in the sum that a sweep ranks by. Known
words count only in the score of the finished sentence.

**The first beams** come from classical beam searches of each half alone, with a softmax over its own scores, f_b or
g_b'. Their log-probabilities are the first running scores. The words before the first blank are the same for all beams.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from birnn_decode.backend import Array, Backend
from birnn_decode.objective import Objective, apply_length_rule, total
from birnn_decode.scorers.answers import backend_of, explain
from birnn_decode.search.chains import Chain, product, read_up_to
from birnn_decode.search.coupling import Coupling
from birnn_decode.search.direction import Direction
from birnn_decode.search.finalists import Finalist, Ranking, best_distinct
from birnn_decode.search.holding import NEVER, Hold, Problem, Restraint
from birnn_decode.search.sweep import Ahead, Course, best_of, stacked, steering, sweep
from birnn_decode.search.tree import Nodes
from birnn_decode.template import FixedTemplate

LARGEST_BLOCK = 2**22  # scores held at a time while sentences are scored, rows * vocab_size


@dataclass(frozen=True, eq=False)
class JointFrontier:
    """The beams of a finished sweep, as ``birnn_decode.search.sweep.Frontier``, with their running scores.

    Attributes:
        nodes: [1 + places, beams], best first; -1 fills beams that have fewer.
        scores: the running scores in nats; -inf for no beam.
        contexts: for each beam the opposite beam that its last word was chosen with; -1 at known words, and after a
            search of one half alone. ``scores`` depend on ``nodes`` and ``contexts`` alone.
    """

    nodes: Nodes
    scores: np.ndarray
    contexts: Nodes

    def __getitem__(self, place: int) -> Nodes:
        """Return the beam after a place."""
        return self.nodes[place]

    def tobytes(self) -> bytes:
        """Return the integers that identify the frontier; scores would differ by rounding."""
        return self.nodes.tobytes() + self.contexts.tobytes()


class JointRanking(Ranking):
    """The score of finalists under a joint model: the pseudo-log-likelihood."""

    def value(self, one: Finalist) -> float:
        """Return the sum of the terms that count."""
        assert one.conditionals is not None
        everything = self.scopes[one.item] == "sentence"
        return float(
            total([term for at, term in enumerate(one.conditionals) if everything or one.template.undecided(at)])
        )


class JointCoupling(Coupling):
    """Both halves of a joint model. Finished sentences are ranked by their pseudo-log-likelihood."""

    writes = False
    share = 0.5
    every_score = True

    @property
    def forward(self) -> Direction:
        """The half that reads left to right."""
        return self.directions[0]

    @property
    def backward(self) -> Direction:
        """The half that reads right to left."""
        return self.directions[1]

    @functools.cached_property
    def ranking(self) -> JointRanking:
        """The score of finished sentences under the objective."""
        return JointRanking(self.weights, [self.objective.scope] * self.items, self.rules, self.demands)

    def pairs(self, moving: Direction, beams: Nodes, others: Nodes) -> Iterator[Array]:
        """Yield log p(v | b, b') for each b' in turn, [problems * beams, vocab].

        Args:
            moving: the direction whose beams are continued.
            beams: its nodes, which have been read, [problems, beams].
            others: the nodes of the opposite direction, [problems, others].
        """
        fixed = self.backward if moving is self.forward else self.forward
        problems, width = beams.shape
        if self.combine is None:
            scores = moving.tree.gather(beams.reshape(-1))
            opposite = moving.tree.backend.array(fixed.tree.gather(others.reshape(-1)))
            yield from moving.tree.backend.pair_log_probs(scores, opposite, problems)
            return
        for other in others.T:
            rows = beams.reshape(-1), np.repeat(other, width)
            yield moving.tree.backend.array(self.log_probs(*(rows if moving is self.forward else rows[::-1])))

    def log_probs(self, left: Nodes, right: Nodes) -> Array:
        """Return log p(v | left, right) of R pairs of prefixes that have been read, [R, vocab]."""
        tree = self.forward.tree
        if self.combine is None:
            with np.errstate(over="ignore"):  # models mask with the lowest number there is
                scores = tree.gather(left) + tree.backend.array(self.backward.tree.gather(right))
        else:
            try:
                scores = self.combine(tree.states(left), self.backward.tree.states(right))
            except (IndexError, RuntimeError) as error:
                explain(error, 1 + int(tree.depths[left].max(initial=0)), "joint")
            backend_of(scores, (len(left), tree.scorer.vocab_size), "rows, vocab_size", "combine")
            scores = tree.backend.array(scores)
        log_probs, faulty = tree.backend.log_probs(scores, normalized=False)
        for row in faulty:
            what = "the halves' scores add up to" if self.combine is None else "combine returned"
            raise ValueError(
                f"{what} NaN or +inf for item {tree.number_of(left[row])}, between "
                f"{tree.words(left[row : row + 1])[0]} and {self.backward.tree.words(right[row : row + 1])[0][::-1]}. "
                "Scores must be finite, or -inf for impossible words."
            )
        return log_probs

    def conditional(self, moving: Sequence[tuple[Chain, int]]) -> np.ndarray:
        """Return log p(word | all other words), [moving, vocab]; the forward half alone begins a chain."""
        if self.combine is None:
            return product(self.directions, moving)
        drawn = np.empty((len(moving), self.forward.tree.scorer.vocab_size))
        complete = np.array([chain.complete for chain, _ in moving], dtype=bool)
        begun, whole = ([moving[row] for row in np.flatnonzero(flags).tolist()] for flags in (~complete, complete))
        drawn[~complete] = product(self.directions, begun)
        if whole:
            left, right = (read_up_to(direction, whole) for direction in self.directions)
            drawn[complete] = self.forward.tree.backend.numbers(self.log_probs(left, right))
        return drawn

    def sweep(
        self, direction: Direction, problems: Sequence[Problem], beam_size: int, ahead: Ahead | None = None
    ) -> list[JointFrontier | None]:
        """Sweep one direction over all problems. There is no prior."""
        if ahead is None:
            alone = sweep(direction, problems, beam_size)
            return [None if nodes is None else _of_half_alone(direction, nodes) for nodes in alone]
        course = Course(direction, problems)
        beams = course.start(beam_size)
        held_fixed = stacked([one.nodes for one in ahead.frontiers])  # [problems, 1 + places, others]
        fixed_scores = stacked([one.scores for one in ahead.frontiers], NEVER)
        scores, contexts = np.full(beams.shape, NEVER), np.full_like(beams, -1)
        scores[:, 0, 0] = 0
        running = scores[:, 0].copy()  # of the beams as they are now
        for turn in course.turns(beams, by_sum=False):
            numbers, to = turn.numbers, turn.done + 1
            masks, banned = steering(direction, turn)
            beams[numbers, to], running[numbers], contexts[numbers, to] = self._choose(
                direction,
                (turn.beams, running[numbers]),
                (held_fixed[numbers, turn.behind], fixed_scores[numbers, turn.behind]),
                masks,
                banned,
                beam_size,
                turn.holds,
            )
            scores[numbers, to] = running[numbers]
        for place in range(1, beams.shape[1]):
            passed = (beams[:, place] >= 0) & (scores[:, place] == NEVER)  # a known word, which costs nothing
            scores[:, place] = np.where(passed, scores[:, place - 1], scores[:, place])
        columns = [course.of_each(values) for values in (beams, scores, contexts)]
        frontiers = [JointFrontier(nodes, own, behind) for nodes, own, behind in zip(*columns, strict=True)]
        return [frontier if frontier[-1][0] >= 0 else None for frontier in frontiers]

    def _choose(
        self,
        direction: Direction,
        beams: tuple[Nodes, np.ndarray],
        others: tuple[Nodes, np.ndarray],
        masks: Array | None,
        banned: Sequence[int],
        beam_size: int,
        holds: Sequence[Hold | None],
    ) -> tuple[Nodes, np.ndarray, Nodes]:
        """Return the B best continuations of each problem: nodes, running scores and contexts, [problems, B] each.

        Args:
            direction: the direction that moves.
            beams: its nodes and their running scores, [problems, beams] each.
            others: the same of the opposite direction.
            masks: [problems, vocab], added for every beam; None: nothing.
            banned: ids that are no candidates.
            beam_size: B.
            holds: the constraints of each problem; empty if there are none.
        """
        tree = direction.tree
        (nodes, scores), (fixed, fixed_scores) = _compact(*beams), _compact(*others)
        restraint = Restraint(direction, holds, nodes, 1.0) if holds else None
        pairs = self.pairs(direction, nodes, fixed)
        if holds:
            opposite = self.backward if direction is self.forward else self.forward
            theirs = Restraint(opposite, [hold and hold.across() for hold in holds], fixed, 1.0)
            fixed_scores = fixed_scores + theirs.shift
            pairs = _with_extra(tree.backend, pairs, theirs.extra, nodes.shape[1])
        best, which = tree.backend.best_other(pairs, fixed_scores)
        values, flats, picked = best_of(tree.backend, best, scores, 1.0, masks, banned, beam_size, restraint)
        chosen = np.full((len(nodes), beam_size), -1)
        running, contexts = np.full(chosen.shape, NEVER), np.full(chosen.shape, -1)
        rows, ranks = np.nonzero(values > NEVER)
        beam, tokens = np.divmod(flats[rows, ranks], tree.scorer.vocab_size)
        other = tree.backend.pick(which, rows * nodes.shape[1] + beam, tokens).astype(np.int64)
        chosen[rows, ranks] = tree.extend(nodes[rows, beam], tokens)
        contexts[rows, ranks] = fixed[rows, other]
        terms = picked[rows, ranks] - fixed_scores[rows, other]
        if holds:
            terms -= theirs.extra[rows, other, tokens]
        running[rows, ranks] = scores[rows, beam] + terms
        if restraint is not None:
            restraint.pay(rows, beam, nodes[rows, beam], chosen[rows, ranks])
            stuck, loose = restraint.stuck(chosen)
            if stuck:
                own, behind = ((side[0][stuck], side[1][stuck]) for side in (beams, others))
                masks = None if masks is None else masks[tree.backend.indices(stuck)]
                again = self._choose(direction, own, behind, masks, banned, beam_size, loose)
                chosen[stuck], running[stuck], contexts[stuck] = again
        return chosen, running, contexts

    # ------------------------------------------------------------------------------------------- finished sentences

    def rank(self, finalists: Sequence[Finalist], keep: int, more_follows: bool = False) -> list[list[Finalist]]:
        """Return the best sentences of each item by their pseudo-log-likelihood."""
        self.demands.settle(finalists, self.weights)
        of_item: list[dict[tuple[FixedTemplate, tuple[int, ...]], Finalist]] = [{} for _ in range(self.items)]
        for one in finalists:
            of_item[one.item].setdefault((one.template, one.words), one)
        # Every finalist is scored in full, although the known terms are an upper bound. A term needs the words on both
        # of its sides, so bounds come late: using them saved 3 to 26 % of the rows and no time.
        self._score([list(own.values()) for own in of_item], forget=not more_follows)
        for own in of_item:
            for one in own.values():
                one.score = self.ranking.score(one)
        return [best_distinct(own.values(), keep) for own in of_item]

    def rank_alone(
        self, direction: Direction, finalists: Sequence[Finalist], keep: int, ranking: Ranking
    ) -> list[list[Finalist]]:
        """Return the best sentences of each item by one half's log-probability up to the last blank."""
        self.demands.settle(finalists, ranking.weights)
        tree = direction.tree
        found: list[list[Finalist]] = [[] for _ in range(self.items)]
        for one in finalists:
            end = direction.lane(one.template).end
            node = tree.find(one.item, direction.words_in_reading_order(one.words)[:end])
            value = float(tree.log_probs[node]) + (one.penalty or 0.0)
            one.score = apply_length_rule(value, len(one.words), ranking.rules[one.item])
            found[one.item].append(one)
        answers = [best_distinct(own, keep) for own in found]
        self._score(answers, forget=True)
        return answers

    def score(self, finalists: Sequence[Finalist], gradients: bool) -> None:
        """Score given sentences with the pseudo-log-likelihood and its terms."""
        found: list[list[Finalist]] = [[] for _ in range(self.items)]
        for one in finalists:
            found[one.item].append(one)
        self._score(found, forget=True)
        for one in finalists:
            one.score = self.ranking.score(one)

    def _score(self, of_items: Sequence[Sequence[Finalist]], forget: bool) -> None:
        """Score the sentences of each item, a few items at a time, and forget items that are done if asked to."""
        most = LARGEST_BLOCK / self.forward.tree.scorer.vocab_size  # words
        waiting: list[Finalist] = []
        words, begin = 0, 0
        for item, own in enumerate(of_items):
            waiting += [one for one in own if one.conditionals is None]
            words += sum(len(one.words) for one in own)
            if words >= most or item == len(of_items) - 1:
                self._score_together(waiting)
                for direction in self.directions if forget else ():
                    direction.tree.forget(range(begin, item + 1))
                waiting, words, begin = [], 0, item + 1

    def _score_together(self, finalists: Sequence[Finalist]) -> None:
        """Compute log p(word | all other words) of every word exactly. Prefixes in the trees are not read again."""
        of_one: list[list[float]] = [[] for _ in finalists]
        items = [one.item for one in finalists]
        lengths = np.array([len(one.words) for one in finalists], dtype=np.int64)
        left = read_all(self.forward, items, [one.words[:-1] for one in finalists])
        right = read_all(self.backward, items, [one.words[:0:-1] for one in finalists])
        owner = np.repeat(np.arange(len(finalists)), lengths)
        place = np.concatenate([np.arange(length) for length in lengths]) if finalists else lengths
        words = np.array([word for one in finalists for word in one.words], dtype=np.int64)
        at_a_time = max(1, LARGEST_BLOCK // self.forward.tree.scorer.vocab_size)
        for begin in range(0, len(owner), at_a_time):
            rows = slice(begin, begin + at_a_time)
            own, at = owner[rows], place[rows]
            log_probs = self.log_probs(left[own, at], right[own, lengths[own] - 1 - at])
            picked = self.forward.tree.backend.pick(log_probs, np.arange(len(own)), words[rows])
            for number, term in zip(own.tolist(), picked.tolist(), strict=True):
                of_one[number].append(term)
        for one, terms in zip(finalists, of_one, strict=True):
            one.conditionals = terms

    def described(self, finalist: Finalist) -> dict[str, Any]:
        """Return the pseudo-log-likelihood and its terms."""
        assert finalist.conditionals is not None
        terms = tuple(finalist.conditionals)
        return {"pseudo_log_prob": total(terms), "token_conditionals": terms}

    def signature(self, method: str, settings: Sequence[str], budget: Sequence[str]) -> list[str]:
        """Return the method, its settings and the scope; a beam search by one half has no settings."""
        name = method.removeprefix("urnn-")
        own = settings if name == method else ()
        return [f"birnn-{name}", *own, *budget, f"scope:{self.objective.scope}"]

    @staticmethod
    def length_rule(objective: Objective, width: str, shortest: int) -> str | float:
        """Return the length rule, with ``"auto"`` for a pseudo-log-likelihood."""
        if objective.length != "auto":
            return objective.length_rule(width)
        if objective.scope == "sentence" or width == "known":
            return "none"
        if not shortest:
            raise ValueError(
                'scope="blank" needs a length rule if a blank may be empty, because the empty blank would always win. '
                "Give a reward per word, such as length=0.5."
            )
        return "average"


def _with_extra(backend: Backend, pairs: Iterable[Array], extra: np.ndarray, beams: int) -> Iterator[Array]:
    """Add to ``JointCoupling.pairs`` what each opposite beam adds to words, [problems, others, vocab]."""
    for number, scores in enumerate(pairs):
        yield scores + backend.array(np.repeat(extra[:, number], beams, axis=0))


def _of_half_alone(direction: Direction, nodes: Nodes) -> JointFrontier:
    """Return the beams of a classical beam search of one half."""
    scores = np.where(nodes >= 0, direction.tree.log_probs[nodes], NEVER)
    return JointFrontier(nodes, scores, np.full_like(nodes, -1))


def _compact(nodes: Nodes, scores: np.ndarray) -> tuple[Nodes, np.ndarray]:
    """Cut beams [problems, beams] to the widest. Empty places repeat the first beam, with a score of -inf."""
    there = nodes >= 0
    widest = int(there.sum(axis=1).max())
    nodes, there = nodes[:, :widest], there[:, :widest]
    return np.where(there, nodes, nodes[:, :1]), np.where(there, scores[:, :widest], NEVER)


def read_all(direction: Direction, items: Sequence[int], sentences: Sequence[tuple[int, ...]]) -> Nodes:
    """Read sentences, in reading order, and return their prefixes: nodes [sentences, 1 + longest], -1 at the end."""
    tree = direction.tree
    paths = np.full((len(sentences), 1 + max(map(len, sentences), default=0)), -1)
    lengths = np.array([len(words) for words in sentences], dtype=np.int64)
    paths[:, 0] = tree.roots[list(items)]
    for depth in range(paths.shape[1]):
        some = np.flatnonzero(lengths > depth).tolist()
        here = paths[lengths >= depth, depth]
        tokens = np.array([sentences[number][depth] for number in some], dtype=np.int64)
        children = tree.read(np.unique(here), paths[some, depth], tokens)
        if len(some):
            paths[some, depth + 1] = children
    return paths
