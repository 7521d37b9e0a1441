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

**Splices.** The best (b, v, b') at a position are splices (see ``birnn_decode.search.splices``), and the sum above is
their value. The running score of a part of a sentence that was read to its end is the sum of the sentence's own terms.
A term needs the words on both of its sides. So m words read outward from the join, in both directions, give the terms
of m positions on each side of it.

**The first beams** come from classical beam searches of each half alone, with a softmax over its own scores, f_b or
g_b'. Their log-probabilities are the first running scores. The words before the first blank are the same for all beams.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from birnn_decode.backend import Array, Backend
from birnn_decode.objective import Objective, apply_length_rule, total
from birnn_decode.scorers.answers import backend_of, explain
from birnn_decode.search.chains import Chain, product, read_up_to
from birnn_decode.search.coupling import Coupling
from birnn_decode.search.direction import Direction
from birnn_decode.search.finalists import Finalist, Ranking, best_distinct
from birnn_decode.search.halving import Known, Reader, Splicing
from birnn_decode.search.holding import NEVER, Hold, Problem, Restraint
from birnn_decode.search.recorder import RUNNERS_UP, Turned
from birnn_decode.search.splices import Splices, once, prefixes
from birnn_decode.search.sweep import (
    Ahead,
    Course,
    Prior,
    best_of,
    blank_places,
    positions,
    stacked,
    steering,
    sweep,
)
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


class Continuations(NamedTuple):
    """The best (b, v) of problems, each with its best b', in columns.

    Attributes:
        rows: the problem.
        ranks: the rank among those of the problem; 0 is the best.
        beams: the number of b.
        parents: the node of b.
        tokens: v.
        others: the node of b'.
        running: the running score of b and v.
        behind: the running score of b'.
        values: the sum of both, minus what the words have paid.
        restraint: the effect of constraints; None if there are none.
    """

    rows: np.ndarray
    ranks: np.ndarray
    beams: np.ndarray
    parents: Nodes
    tokens: np.ndarray
    others: Nodes
    running: np.ndarray
    behind: np.ndarray
    values: np.ndarray
    restraint: Restraint | None

    def best(self, count: int) -> Continuations:
        """Return the ``count`` best of each problem."""
        kept = self.ranks < count
        columns = {name: column[kept] for name, column in self._asdict().items() if name != "restraint"}
        return self._replace(**columns)


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

    @property
    def splicing(self) -> JointSplicing:
        """What finds good splices."""
        return JointSplicing(self.directions, self.ranking, self)

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
        calls = tree.calls(len(left))
        if self.combine is not None and len(calls) > 1:
            parts = [self.log_probs(left[some], right[some]) for some in calls]
            return tree.backend.gather(parts, *np.divmod(np.arange(len(left)), len(parts[0])), stays=True)
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
            alone = sweep(direction, problems, beam_size, recorder=self.recorder)
            return [None if nodes is None else _of_half_alone(direction, nodes) for nodes in alone]
        course = Course(direction, problems)
        beams = course.start(beam_size)
        held_fixed = stacked([one.nodes for one in ahead.frontiers])  # [problems, 1 + places, others]
        fixed_scores = stacked([one.scores for one in ahead.frontiers], NEVER)
        scores, contexts = np.full(beams.shape, NEVER), np.full_like(beams, -1)
        scores[:, 0, 0] = 0
        running = scores[:, 0].copy()  # of the beams as they are now
        tape = None if self.recorder is None else self.recorder.sweep(direction, problems, ahead.opposite)
        for turn in course.turns(beams, by_sum=False):
            numbers, to = turn.numbers, turn.done + 1
            masks, banned = steering(direction, turn)
            noting = None if tape is None else tape.at(numbers, positions(direction, turn), turn.beams, None)
            beams[numbers, to], running[numbers], contexts[numbers, to] = self._choose(
                direction,
                (turn.beams, running[numbers]),
                (held_fixed[numbers, turn.behind], fixed_scores[numbers, turn.behind]),
                masks,
                banned,
                beam_size,
                turn.holds,
                noting,
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
        noting: Turned | None = None,
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
            noting: what notes the candidates; None if there is no record.
        """
        tree = direction.tree
        more = 0 if noting is None else RUNNERS_UP
        found = self.best_words(direction, beams, others, masks, banned, beam_size, holds, more)
        if noting is not None:
            scores = beams[1][found.rows, found.beams], found.running, found.behind, found.values
            kept = found.ranks < beam_size
            noting.joined(found.rows, found.tokens, found.parents, found.others, scores, kept)
            found = found.best(beam_size)
        chosen = np.full((len(beams[0]), beam_size), -1)
        running, contexts = np.full(chosen.shape, NEVER), np.full(chosen.shape, -1)
        rows, ranks = found.rows, found.ranks
        chosen[rows, ranks] = tree.extend(found.parents, found.tokens)
        contexts[rows, ranks] = found.others
        running[rows, ranks] = found.running
        if found.restraint is not None:
            found.restraint.pay(rows, found.beams, found.parents, chosen[rows, ranks])
            stuck, loose = found.restraint.stuck(chosen)
            if stuck:
                own, behind = ((side[0][stuck], side[1][stuck]) for side in (beams, others))
                masks = None if masks is None else masks[tree.backend.indices(stuck)]
                some = None if noting is None else noting.of(stuck)
                again = self._choose(direction, own, behind, masks, banned, beam_size, loose, some)
                chosen[stuck], running[stuck], contexts[stuck] = again
        return chosen, running, contexts

    def best_words(
        self,
        direction: Direction,
        beams: tuple[Nodes, np.ndarray],
        others: tuple[Nodes, np.ndarray],
        masks: Array | None,
        banned: Sequence[int],
        count: int,
        holds: Sequence[Hold | None],
        more: int = 0,
    ) -> Continuations:
        """Return the best (b, v) of each problem with the best b' of each; see ``_choose`` and ``best_of``."""
        backend = direction.tree.backend
        (nodes, scores), (fixed, fixed_scores) = _compact(*beams), _compact(*others)
        restraint = Restraint(direction, holds, nodes, 1.0) if holds else None
        pairs = self.pairs(direction, nodes, fixed)
        behind = fixed_scores
        if holds:
            opposite = self.backward if direction is self.forward else self.forward
            theirs = Restraint(opposite, [hold and hold.across() for hold in holds], fixed, 1.0)
            fixed_scores = fixed_scores + theirs.shift
            pairs = _with_extra(backend, pairs, theirs.extra, nodes.shape[1])
        best, which = backend.best_other(pairs, fixed_scores)
        values, flats, picked = best_of(backend, best, scores, 1.0, masks, banned, count, restraint, more)
        rows, ranks = np.nonzero(values > NEVER)
        beam, tokens = np.divmod(flats[rows, ranks], direction.tree.scorer.vocab_size)
        other = backend.pick(which, rows * nodes.shape[1] + beam, tokens).astype(np.int64)
        terms = picked[rows, ranks] - fixed_scores[rows, other]
        if holds:
            terms -= theirs.extra[rows, other, tokens]
        return Continuations(
            rows,
            ranks,
            beam,
            nodes[rows, beam],
            tokens,
            fixed[rows, other],
            scores[rows, beam] + terms,
            behind[rows, other],
            values[rows, ranks],
            restraint,
        )

    def terms(self, left: Nodes, right: Nodes, words: np.ndarray) -> np.ndarray:
        """Return log p(word | left, right) of pairs of prefixes that have been read, a block of pairs at a time."""
        found = np.empty(len(words))
        at_a_time = max(1, LARGEST_BLOCK // self.forward.tree.scorer.vocab_size)
        for begin in range(0, len(words), at_a_time):
            rows = slice(begin, begin + at_a_time)
            log_probs = self.log_probs(left[rows], right[rows])
            found[rows] = self.forward.tree.backend.pick(log_probs, np.arange(len(log_probs)), words[rows])
        return found

    # ------------------------------------------------------------------------------------------- finished sentences

    def rank(self, finalists: Sequence[Finalist], keep: int, more_follows: bool = False) -> list[list[Finalist]]:
        """Return the best sentences of each item by their pseudo-log-likelihood."""
        self.note(finalists)
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
        self.note(finalists)
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
        picked = self.terms(left[owner, place], right[owner, lengths[owner] - 1 - place], words)
        for number, term in zip(owner.tolist(), picked.tolist(), strict=True):
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


@dataclass(frozen=True, eq=False)
class JointSplicing(Splicing):
    """The search for good splices of a joint model.

    Attributes:
        coupling: the halves as one model.
    """

    coupling: JointCoupling

    def find(
        self,
        problems: Sequence[Problem],
        beams: Sequence[Sequence[JointFrontier]],
        best: Sequence[Sequence[tuple[int, ...]]],
        count: int,
        prior: Prior | None,
    ) -> Splices:
        """Return the best splices at each blank position of every problem; there is no prior."""
        first, second = self.directions
        course = Course(first, problems)
        (mine, my_scores), (theirs, their_scores) = self._with_sentences(problems, beams, best)
        found = []
        for numbers, places in blank_places(course):
            done = places - course.begins[numbers]
            turn = course.turn(numbers, places, mine[numbers, done])
            masks, banned = steering(first, turn)
            behind = theirs[numbers, turn.behind], their_scores[numbers, turn.behind]
            own = turn.beams, my_scores[numbers, done]
            words = self.coupling.best_words(first, own, behind, masks, banned, count, turn.holds)
            left, right = (
                direction.tree.extend(nodes, words.tokens)
                for direction, nodes in ((first, words.parents), (second, words.others))
            )
            found.append(Splices(numbers[words.rows], left, right, words.values, words.running + words.behind))
        return Splices.joined(found)

    def _with_sentences(
        self,
        problems: Sequence[Problem],
        beams: Sequence[Sequence[JointFrontier]],
        sentences: Sequence[Sequence[tuple[int, ...]]],
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each direction the beams and the prefixes of sentences, no prefix twice, and running scores.

        Nodes and scores are [problems, 1 + places, prefixes] each.
        """
        first = self.directions[0]
        courses = [Course(direction, problems) for direction in self.directions]
        left, right = (
            prefixes(direction, course, problems, sentences)
            for direction, course in zip(self.directions, courses, strict=True)
        )
        blanks = [
            (number, place, column, first.words_in_reading_order(words)[place])
            for number, several in enumerate(sentences)
            for place in range(courses[0].begins[number], courses[0].ends[number])
            if courses[0].codes[number, place] < 0
            for column, words in enumerate(several)
        ]
        numbers, places, columns, tokens = np.array(blanks, dtype=np.int64).reshape(-1, 4).T
        done, behind = places - courses[0].begins[numbers], courses[0].ends[numbers] - 1 - places
        terms = self.coupling.terms(left[numbers, done, columns], right[numbers, behind, columns], tokens)
        found = []
        for nodes, frontiers, read in ((left, beams[0], done), (right, beams[1], behind)):
            scores = np.zeros(nodes.shape)
            scores[numbers, read + 1, columns] = terms
            nodes = np.concatenate([stacked([one.nodes for one in frontiers]), nodes], axis=2)
            known = stacked([one.scores for one in frontiers], NEVER)
            scores = np.concatenate([known, scores.cumsum(axis=1)], axis=2)
            order = once(nodes)
            found.append((np.take_along_axis(nodes, order, 2), np.take_along_axis(scores, order, 2)))
        return found

    def _known(
        self, asked: Sequence[Problem], splices: Splices, sentences: Sequence[tuple[int, ...]]
    ) -> Sequence[tuple[float, Known]]:
        """Return what is known of the candidates, with the weight 1."""
        readers, counted = [], []
        for direction, nodes in zip(self.directions, (splices.left, splices.right), strict=True):
            places = {one: self.ranking.counted(direction, one.item, one.template) for one in set(asked)}
            counted.append([places[one] for one in asked])
            # Words behind the last term that counts need not be read.
            rows = [
                direction.words_in_reading_order(words)[: max(own) + 1]
                for words, own in zip(sentences, counted[-1], strict=True)
            ]
            readers.append(Reader(direction, nodes, rows))
        rows = [self.directions[0].words_in_reading_order(words) for words in sentences]
        return [(1.0, _Conditionals(self.coupling, readers, rows, counted[0]))]


class _Conditionals:
    """The terms of a joint model; see ``birnn_decode.search.halving.Known``.

    Args:
        coupling: the model.
        readers: the candidates as each half reads them.
        rows: their words, in the reading order of the first reader.
        counted: for each candidate the places of the terms that count, in this order. The end is none.
    """

    def __init__(
        self,
        coupling: JointCoupling,
        readers: Sequence[Reader],
        rows: Sequence[tuple[int, ...]],
        counted: Sequence[Sequence[int]],
    ):
        self._coupling = coupling
        self._readers = readers
        self._words = stacked([np.array(row, dtype=np.int64) for row in rows])
        self._lengths = np.array([len(row) for row in rows], dtype=np.int64)
        self._unknown = np.zeros(self._words.shape, dtype=bool)  # terms that count and are not known
        for own, row, places in zip(self._unknown, rows, counted, strict=True):
            own[[place for place in places if place < len(row)]] = True
        self.longest = max(reader.tokens.shape[1] for reader in readers)
        self.sums, self.counts = np.zeros(len(counted)), np.zeros(len(counted), dtype=np.int64)
        self.lacking = self._unknown.sum(axis=1)
        self._add(np.arange(len(counted)))

    def advance(self, some: np.ndarray, words: int) -> None:
        """Read candidates until they have read ``words`` words outward from their joins."""
        for reader in self._readers:
            reader.advance(some, words)
        self._add(some)

    def _add(self, some: np.ndarray) -> None:
        """Add the terms of words that have been read up to from both sides."""
        left, right = self._readers
        at = np.arange(self._words.shape[1])
        since, until = self._lengths[some] - right.known[some], left.known[some]
        rows, places = np.nonzero(self._unknown[some] & (at >= since[:, None]) & (at < until[:, None]))
        own = some[rows]
        self._unknown[own, places] = False
        terms = self._coupling.terms(
            left.paths[own, places], right.paths[own, self._lengths[own] - 1 - places], self._words[own, places]
        )
        count = len(self.sums)
        with np.errstate(over="ignore"):  # models mask with the lowest number there is
            self.sums += np.bincount(own, terms, count)
        new = np.bincount(own, minlength=count)
        self.counts += new
        self.lacking -= new


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
    roots = direction.tree.roots[list(items)]
    found = direction.tree.follow(roots, sentences, through=True)
    paths = np.full((len(sentences), 1 + max(map(len, sentences), default=0)), -1)
    for row, root, path in zip(paths, roots.tolist(), found, strict=True):
        row[: 1 + len(path)] = [root, *path]
    return paths
