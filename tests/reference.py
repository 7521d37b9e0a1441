"""Slow reference implementation of bidirectional beam search, for the tests to compare with.

The algorithm is Beam-Search Coordinate Descent (BSCD) of Q. Sun, S. Lee, D. Batra, "Bidirectional Beam Search:
Forward-Backward Inference in Neural Sequence Models for Fill-in-the-Blank Image Captioning", CVPR 2017,
arXiv 1705.08759. Everything is written with plain loops over tuples and Python floats.

Conventions used throughout:

* All scores are natural logarithms (nats). -inf means "impossible".
* ``words`` is a tuple of token ids in sentence order; a ``prefix`` is a tuple of token ids in the reading order of
  the model at hand (right to left for a backward model). Neither contains START or END.
* A template is a sequence of T frozensets, the tokens allowed at each position, in sentence order. ``blanks`` is the
  frozenset of the positions that are blank; every other position is known and allows exactly one token.
* ``reverse`` is True where the model reads right to left.
* A beam is a pair (prefix, sum of its log-probabilities). ``frontiers[n]`` is the ordered list of the beams after n
  words read, for n = 0 up to and including the last blank in reading order.
* ``weights`` is the pair (weight of the forward model, weight of the backward model), both >= 0. A weight of 0 drops
  its term, so that 0 * -inf never arises.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

NEG_INF = -math.inf

Words = tuple[int, ...]
Scored = tuple[float, Words]
Beam = tuple[Words, float]
Frontiers = list[list[Beam]]
Template = Sequence[frozenset[int]]


@dataclass(frozen=True)
class Model:
    """One direction's language model.

    ``log_probs(prefix)`` gives the V log-probabilities (nats, may be -inf) of the next token after the words already
    read, in this model's reading order and without START: the first call gets ``()``.
    ``end`` is the token that ends a sentence in this model's reading order.
    """

    log_probs: Callable[[Words], Sequence[float]]
    end: int


@dataclass
class Answer:
    """What a search found.

    ``hypotheses``: the best (score in nats, words), best first. ``stop``: "converged", "cycle", "max_rounds" or
    "dead_end". ``rounds``: the number of the last round that was run. ``pool``: all sentences that were scored.
    """

    hypotheses: list[Scored]
    stop: str
    rounds: int
    pool: set[Words]


@dataclass(frozen=True)
class Penalty:
    """What prefixes pay besides their log-probabilities, in nats; it steers a search and is no part of its sums.

    ``change(position, prefix)``: what a hook adds to the V scores behind a prefix, which counts ``share``-fold.
    ``costs``: for each position what words cost there, whichever direction chooses them.
    """

    size: int
    blanks: Collection[int]
    change: Callable[[int, Words], Sequence[float]] | None = None
    costs: Sequence[dict[int, float]] = ()
    share: float = 1.0

    def changes(self, prefix: Words, reverse: bool) -> float:
        """What hooks have added to a prefix."""
        total = 0.0
        for place, word in enumerate(prefix):
            position = self.size - 1 - place if reverse else place
            if self.change is not None and position in self.blanks:
                total += self.share * float(self.change(position, prefix[:place])[word])
        return total

    def cost(self, prefix: Words, reverse: bool) -> float:
        """What the words of a prefix cost."""
        total = 0.0
        for place, word in enumerate(prefix):
            position = self.size - 1 - place if reverse else place
            if self.costs and position in self.blanks:
                total += self.costs[position].get(word, 0.0)
        return total

    def of_sentence(self, words: Words, weights: tuple[float, float]) -> float:
        """What a sentence has paid in the directions that count: its words once, and hooks in each."""
        total = -self.cost(words, False)
        for weight, reverse in zip(weights, (False, True), strict=True):
            if weight:
                total += weight * self.changes(words[::-1] if reverse else words, reverse)
        return total


# ---------------------------------------------------------------------------------------------- the objective


def token_terms(model: Model, words: Words, reverse: bool) -> list[float]:
    """Teacher-forced log-probabilities (nats) of one model: one per word in sentence order, then the end term.

    The result has len(words) + 1 entries.
    """
    prefix: Words = ()
    terms = []
    for word in words[::-1] if reverse else words:
        terms.append(float(model.log_probs(prefix)[word]))
        prefix = (*prefix, word)
    if reverse:
        terms.reverse()
    terms.append(float(model.log_probs(prefix)[model.end]))
    return terms


def joint(
    forward: Model,
    backward: Model,
    words: Words,
    weights: tuple[float, float] = (1.0, 1.0),
    counted: Collection[int] | None = None,
) -> float:
    """The objective J (nats): the weighted sum of both models' log-probabilities of ``words``.

    ``counted`` None: all terms, the end terms too. Otherwise a set of sentence positions: only the terms of these
    positions, without the end terms.
    """
    value = 0.0
    for model, reverse, weight in ((forward, False, weights[0]), (backward, True, weights[1])):
        if weight == 0:
            continue
        terms = token_terms(model, words, reverse)
        if counted is not None:
            terms = [terms[position] for position in sorted(counted)]
        value += weight * sum(terms)
    return value


def length_rule(value: float, words: int, rule: str | float) -> float:
    """The score (nats) of a sentence of ``words`` words whose objective is ``value`` (nats).

    ``rule`` is "none" (value), "average" (value / (words + 1)) or a number r, a reward per word (value + r * words).
    """
    if rule == "none":
        return value
    if rule == "average":
        return value / (words + 1)
    return value + float(rule) * words


# ---------------------------------------------------------------------------------------------- full enumeration


def sentences(template: Template) -> Iterator[Words]:
    """All sentences (tuples of T tokens) that the template allows, in lexicographic order."""
    return itertools.product(*[sorted(allowed) for allowed in template])


def top(scored: Iterable[Scored], k: int) -> list[Scored]:
    """The k best distinct sentences of (score in nats, words): highest score first, ties lower words first.

    Sentences with a score of -inf are dropped.
    """
    best: list[Scored] = []
    seen = set()
    for score, words in sorted(scored, key=lambda item: (-item[0], item[1])):
        if score > NEG_INF and words not in seen:
            seen.add(words)
            best.append((score, words))
    return best[:k]


def enumerate_best(
    forward: Model,
    backward: Model,
    template: Template,
    k: int,
    weights: tuple[float, float] = (1.0, 1.0),
    counted: Collection[int] | None = None,
) -> list[Scored]:
    """The exact k best (J in nats, words) among all sentences of the template, by full enumeration."""
    return top(((joint(forward, backward, words, weights, counted), words) for words in sentences(template)), k)


# ---------------------------------------------------------------------------------------------- the sweeps


def positions_read(template: Template, blanks: Collection[int], reverse: bool) -> list[int]:
    """The sentence positions that a sweep reads, in reading order: all up to and including its last blank."""
    order = list(range(len(template)))
    if reverse:
        order.reverse()
    while order and order[-1] not in blanks:
        order.pop()
    return order


def classical(
    model: Model,
    template: Template,
    beam_size: int,
    reverse: bool,
    blanks: Collection[int] | None = None,
    penalty: Penalty | None = None,
) -> Frontiers | None:
    """Classical beam search of one direction over the template, by the model's own log-probability (nats).

    At every position, known ones too, the top-B over (b, v) of s_b + log p(v | b) survive; ties: lower (b, v) first;
    -inf is dropped. Without ``blanks`` the blanks are the positions that allow more than one token.
    Returns the frontiers, or None where some position is left without a candidate (dead end).
    """
    if blanks is None:
        blanks = {position for position, allowed in enumerate(template) if len(allowed) > 1}
    frontiers: Frontiers = [[((), 0.0)]]
    for position in positions_read(template, blanks, reverse):
        candidates = []  # (-sum, b, v, prefix)
        for b, (prefix, total) in enumerate(frontiers[-1]):
            for v in sorted(template[position]):
                new_total = total + float(model.log_probs(prefix)[v])
                score = new_total
                if penalty is not None and position in blanks:
                    score += penalty.changes((*prefix, v), reverse) - penalty.cost((*prefix, v), reverse)
                if score > NEG_INF:
                    candidates.append((-score, b, v, ((*prefix, v), new_total)))
        if not candidates:
            return None
        candidates.sort(key=lambda candidate: candidate[:3])
        frontiers.append([candidate[3] for candidate in candidates[:beam_size]])
    return frontiers


def sweep(
    model: Model,
    opposite: Model,
    template: Template,
    blanks: Collection[int],
    beam_size: int,
    reverse: bool,
    opposite_frontiers: Frontiers,
    weight: float,
    opposite_weight: float,
    prior: Sequence[Sequence[float]] | None = None,
    prior_weight: float = 1.0,
    penalty: Penalty | None = None,
) -> Frontiers | None:
    """One sweep of ``model`` with the beams of ``opposite`` held fixed (Eq. 3 of the paper, written naively).

    At the blank t the score of (b, v) is, in nats,

        weight * (s_b + log p(v | b)) + max over b' of opposite_weight * (s'_b' + log p_opposite(v | b'))
            - prior_weight * prior[t][v]

    over the beams b' of the opposite frontier that covers exactly the positions on the other side of t. The top-B
    survive (ties: lower (b, v) first; -inf dropped) and carry s_b + log p(v | b). At a known position all beams read
    the word; with weight > 0 those of sum -inf are dropped and the rest is sorted by sum, highest first, stable.

    ``template``, ``blanks`` and ``prior`` (None or [T][V] log-probabilities) are in sentence order, ``reverse`` says
    whether this sweep reads right to left. Returns the frontiers, or None at a dead end.
    """
    frontiers: Frontiers = [[((), 0.0)]]
    for position in positions_read(template, blanks, reverse):
        beams = frontiers[-1]
        if position in blanks:
            words_read = len(frontiers) - 1
            other_beams = opposite_frontiers[len(template) - words_read - 1]
            new_beams = _blank_step(
                model,
                opposite,
                template[position],
                beam_size,
                beams,
                other_beams,
                weight,
                opposite_weight,
                None if prior is None or prior_weight == 0 else prior[position],
                prior_weight,
                penalty,
                reverse,
            )
        else:
            (word,) = template[position]
            new_beams = [((*prefix, word), total + float(model.log_probs(prefix)[word])) for prefix, total in beams]
            if weight > 0:
                new_beams = [beam for beam in new_beams if beam[1] > NEG_INF]
                new_beams.sort(key=lambda beam: -beam[1])
        if not new_beams:
            return None
        frontiers.append(new_beams)
    return frontiers


def _blank_step(
    model: Model,
    opposite: Model,
    allowed: frozenset[int],
    beam_size: int,
    beams: list[Beam],
    other_beams: list[Beam],
    weight: float,
    opposite_weight: float,
    prior_row: Sequence[float] | None,
    prior_weight: float,
    penalty: Penalty | None,
    reverse: bool,
) -> list[Beam]:
    """The beams after one blank: an explicit loop over every triple (b, v, b'), best b' kept for each (b, v).

    ``prior_row`` is None or V log-probabilities (nats). All scores in nats.
    """
    candidates = []  # (-score, b, v, new beam)
    for b, (prefix, total) in enumerate(beams):
        row = model.log_probs(prefix)
        for v in sorted(allowed):
            new_total = total + float(row[v])
            score = NEG_INF
            for other_prefix, other_total in other_beams:
                triple_score = 0.0
                if weight != 0:
                    triple_score += weight * new_total
                if opposite_weight != 0:
                    triple_score += opposite_weight * (other_total + float(opposite.log_probs(other_prefix)[v]))
                if penalty is not None:
                    # What words cost is no matter of a direction: v pays once, those of the other side have paid.
                    triple_score -= penalty.cost((*prefix, v), reverse)
                    if weight != 0:
                        triple_score += weight * penalty.changes((*prefix, v), reverse)
                    if opposite_weight != 0:
                        triple_score += opposite_weight * penalty.changes((*other_prefix, v), not reverse)
                        triple_score -= penalty.cost(other_prefix, not reverse)
                score = max(score, triple_score)
            if prior_row is not None:
                if prior_row[v] == NEG_INF:
                    continue
                score -= prior_weight * float(prior_row[v])
            if score > NEG_INF:
                candidates.append((-score, b, v, ((*prefix, v), new_total)))
    candidates.sort(key=lambda candidate: candidate[:3])
    return [candidate[3] for candidate in candidates[:beam_size]]


# ---------------------------------------------------------------------------------------------- BSCD


def finished_sentences(template: Template, frontiers: Frontiers, reverse: bool) -> list[Words]:
    """The sentences of the last frontier, completed with the known words behind it (in sentence order)."""
    order = list(range(len(template)))
    if reverse:
        order.reverse()
    result = []
    for prefix, _ in frontiers[-1]:
        words = list(prefix)
        for position in order[len(prefix) :]:
            (word,) = template[position]
            words.append(word)
        if reverse:
            words.reverse()
        result.append(tuple(words))
    return result


@dataclass(frozen=True)
class Splice:
    """A sentence of a prefix, a word and a suffix.

    ``value``: weight * (log-probability of prefix and word) + weight' * (that of suffix and word), nats, with what is
    paid and without the prior. ``position``: of the word. ``paid``: what it has paid, as part of ``value``.
    """

    value: float
    words: Words
    position: int
    paid: float


def splices(
    models: tuple[Model, Model],
    template: Template,
    blanks: Collection[int],
    frontiers: Sequence[Frontiers],
    best: Sequence[Words],
    count: int,
    weights: tuple[float, float],
    prior: Sequence[Sequence[float]] | None,
    prior_weight: float,
    first: int,
    penalty: Penalty | None = None,
) -> list[Splice]:
    """At each blank position the ``count`` best (b, v) with the b' that is best for v, position by position.

    b is of direction ``first`` (0: forward), b' of the other one. Each is a beam that has read everything on its side
    of the position, or the part of a sentence of ``best`` on its side.
    """
    second = 1 - first
    found = []
    for position in sorted(blanks, reverse=first == 1):
        read = {0: position, 1: len(template) - 1 - position}
        sides: dict[int, list[Beam]] = {}
        for direction in (0, 1):
            sides[direction] = list(frontiers[direction][read[direction]])
            for words in best if weights[direction] else ():
                own = (words if direction == 0 else words[::-1])[: read[direction]]
                if own not in [prefix for prefix, _ in sides[direction]]:
                    terms = (float(models[direction].log_probs(own[:at])[own[at]]) for at in range(len(own)))
                    sides[direction].append((own, sum(terms)))
        candidates = []
        for b, (prefix, total) in enumerate(sides[first]):
            for v in sorted(template[position]):
                behind = []
                for other, (suffix, other_total) in enumerate(sides[second]):
                    worth = other_total + float(models[second].log_probs(suffix)[v])
                    if penalty is not None and weights[second]:
                        worth += penalty.changes((*suffix, v), second == 1)
                        worth -= penalty.cost(suffix, second == 1) / weights[second]
                    behind.append((-worth, other, suffix, other_total))
                lost, _, suffix, other_total = min(behind, key=lambda one: one[:2])
                plain = 0.0
                score = weights[second] * -lost if weights[second] else 0.0
                if weights[second]:
                    plain += weights[second] * (other_total + float(models[second].log_probs(suffix)[v]))
                if weights[first]:
                    own_total = weights[first] * (total + float(models[first].log_probs(prefix)[v]))
                    score += own_total
                    plain += own_total
                if penalty is not None:
                    score += weights[first] * penalty.changes((*prefix, v), first == 1) if weights[first] else 0.0
                    score -= penalty.cost((*prefix, v), first == 1)
                if prior is not None:
                    if prior[position][v] == NEG_INF:
                        continue
                    score -= prior_weight * float(prior[position][v])
                if score > NEG_INF:
                    read_by = {first: (*prefix, v), second: suffix}
                    words = (*read_by[0], *read_by[1][::-1])
                    candidates.append((-score, b, v, Splice(score, words, position, score - plain)))
        candidates.sort(key=lambda candidate: candidate[:3])
        found += [splice for *_, splice in candidates[:count]]
    return found


def worth_reading(found: Sequence[Splice], tried: set[Words], most: int) -> list[Splice]:
    """The best splices of sentences that were not read before, at most ``most`` sentences looked at; see ``bscd``."""
    ordered = sorted(found, key=lambda splice: -splice.value)
    ordered = [splice for splice in ordered[: 4 * most] if splice.value >= ordered[0].value - 7]
    looked: set[Words] = set()
    chosen = []
    for splice in ordered:
        if len(looked) == most:
            break
        looked.add(splice.words)
        if splice.words not in tried:
            tried.add(splice.words)
            chosen.append(splice)
    return chosen


def halve(
    candidates: Sequence[Splice], keep: int, scores: Callable[[Sequence[Splice], int], list[tuple[float, float]]]
) -> list[Scored]:
    """Successive halving: the ``keep`` best candidates, read outward 1, 3, 9 … words, of which a third goes on.

    ``scores`` gives two parts of the scores of candidates that have read some number of words: the models' and what is
    paid. A candidate that the models rule out is dropped; one that pays without end goes on, after all others.
    """

    def highest(alive: Sequence[Splice], words: int, count: int) -> list[tuple[float, Splice]]:
        scored = [
            (models + paid, splice)
            for (models, paid), splice in zip(scores(alive, words), alive, strict=True)
            if models > NEG_INF
        ]
        return sorted(scored, key=lambda one: -one[0])[:count]

    alive = list(candidates)
    words = 1
    while alive and words < len(alive[0].words) + 1 and len(alive) > keep:
        alive = [splice for _, splice in highest(alive, words, max(-(-len(alive) // 3), keep))]
        words *= 3
    everything = len(alive[0].words) + 1 if alive else 0
    return [(score, splice.words) for score, splice in highest(alive, everything, keep)]


def estimated(known: Sequence[tuple[list[float], int]]) -> list[float]:
    """The sum of the known terms of each candidate, and the mean of all known terms for each that is lacking.

    ``known`` has the known terms of each candidate and the number of those that are lacking.
    """
    finite = [term for terms, _ in known if sum(terms) > NEG_INF for term in terms]
    mean = sum(finite) / max(len(finite), 1)
    return [sum(terms) + mean * lacking for terms, lacking in known]


def paid(
    alive: Sequence[Splice], complete: Sequence[bool], penalty: Penalty | None, weights: tuple[float, float]
) -> list[float]:
    """What candidates pay: all words of those that are complete, else the words up to the join."""
    return [
        0.0 if penalty is None else penalty.of_sentence(splice.words, weights) if whole else splice.paid
        for splice, whole in zip(alive, complete, strict=True)
    ]


def known_sums(
    models: tuple[Model, Model],
    weights: tuple[float, float],
    counted: Collection[int] | None,
    penalty: Penalty | None,
) -> Callable[[Sequence[Splice], int], list[tuple[float, float]]]:
    """The scores of ``halve`` for a pair of models."""

    def known_terms(splice: Splice, words: int, direction: int) -> tuple[list[float], int]:
        """The known terms that count, and the number of those that are not known."""
        size = len(splice.words)
        terms = token_terms(models[direction], splice.words, direction == 1)
        known = range(splice.position + words + 1) if direction == 0 else range(splice.position - words, size)
        inside = [at for at in known if 0 <= at < size]
        ends = splice.position + words >= size if direction == 0 else splice.position - words < 0
        if counted is not None:
            return [terms[at] for at in inside if at in counted], len(set(counted) - set(inside))
        return [terms[at] for at in inside] + [terms[size]] * ends, size - len(inside) + (not ends)

    def scores(alive: Sequence[Splice], words: int) -> list[tuple[float, float]]:
        totals, complete = [0.0] * len(alive), [True] * len(alive)
        for direction in (0, 1):
            if weights[direction]:
                known = [known_terms(splice, words, direction) for splice in alive]
                sums = estimated(known)
                totals = [total + weights[direction] * own for total, own in zip(totals, sums, strict=True)]
                complete = [before and not lacking for before, (_, lacking) in zip(complete, known, strict=True)]
        return list(zip(totals, paid(alive, complete, penalty, weights), strict=True))

    return scores


def bscd(
    forward: Model,
    backward: Model,
    template: Template,
    blanks: Collection[int],
    beam_size: int,
    max_rounds: int,
    weights: tuple[float, float] = (1.0, 1.0),
    prior: Sequence[Sequence[float]] | None = None,
    prior_weight: float = 1.0,
    counted: Collection[int] | None = None,
    backward_first: bool = False,
    penalty: Penalty | None = None,
    splicing: bool = True,
) -> Answer:
    """Beam-Search Coordinate Descent (Algorithm 1 of the paper; Eq. 6 starts it, Eq. 3 is its sweep).

    ``splicing`` False is Algorithm 1. True: before the first round and after each round, the splices of the beams and
    of the B best sentences so far are collected. Those within 7 nats of the best one, at most B * (2 + blanks / 2)
    different sentences, are read outward from their joins if they were not read before. The best B of the first time,
    and half of B later, are read to the end. Once a sentence is found, the search ends after two rounds without a
    better sentence, or when at most B splices were not read before and the best sentence is not new, or both initial
    beam searches ended with it.

    ``prior`` is None or [T][V] log-probabilities (nats); it steers the sweeps and is no part of the score.
    ``counted`` as in ``joint``. ``backward_first`` runs the right-to-left sweep first in each round.
    Returns the B best distinct sentences met, by J (nats).
    """
    # Index 0 is the forward direction, index 1 the backward one.
    models = (forward, backward)
    pool: set[Words] = set()

    def ends() -> bool:
        agreed = bool(best) and all(best[0][1] in own for own in first_ends)
        return ((few and (idle > 0 or agreed)) or idle >= 2) and any(score > NEG_INF for score, _ in best)

    def answer(stop: str, rounds: int) -> Answer:
        scored = [(joint(forward, backward, words, weights, counted), words) for words in pool]
        return Answer(top(scored, beam_size), stop, rounds, pool)

    def snapshot(both: list[Frontiers]) -> list[list[list[Words]]]:
        return [[[prefix for prefix, _ in beams] for beams in frontiers] for frontiers in both]

    current: list[Frontiers] = []
    first_ends: list[list[Words]] = []
    for direction in (0, 1):
        found = classical(models[direction], template, beam_size, direction == 1, blanks, penalty)
        if found is not None:
            current.append(found)
            first_ends.append(finished_sentences(template, found, direction == 1))
            pool.update(first_ends[-1])
    if len(current) < 2:
        return answer("dead_end", 0)

    best: list[Scored] = []
    tried: set[Words] = set()
    idle, few = 0, False

    def splice(complete: int) -> None:
        nonlocal best, idle, few
        first, at_most = int(backward_first), beam_size * (4 + len(blanks)) // 2
        own = [words for _, words in best]
        rest = (weights, prior, prior_weight, first, penalty)
        chosen = worth_reading(splices(models, template, blanks, current, own, 4 * beam_size, *rest), tried, at_most)
        before = best[:1]
        found = halve(chosen, complete, known_sums(models, weights, counted, penalty))
        best = sorted([*best, *found], key=lambda one: (-one[0], one[1]))[:beam_size]
        pool.update(words for _, words in found)
        idle = idle + 1 if best[:1] == before else 0
        few = len(chosen) <= beam_size

    if splicing and max_rounds:
        splice(beam_size)
        if ends():
            return answer("no_gain", 0)
    history = [snapshot(current)]
    for round_number in range(1, max_rounds + 1):
        for direction in (1, 0) if backward_first else (0, 1):
            other = 1 - direction
            swept = sweep(
                models[direction],
                models[other],
                template,
                blanks,
                beam_size,
                direction == 1,
                current[other],
                weights[direction],
                weights[other],
                prior,
                prior_weight,
                penalty,
            )
            if swept is None:
                return answer("dead_end", round_number)
            current[direction] = swept
            if not splicing:
                pool.update(finished_sentences(template, swept, direction == 1))
        if splicing:
            splice(-(-beam_size // 2))
        now = snapshot(current)
        if not splicing or idle:
            if now == history[-1]:
                return answer("converged", round_number)
            if now in history:
                return answer("cycle", round_number)
        if splicing and ends():
            return answer("no_gain", round_number)
        history.append(now)
    return answer("max_rounds", max_rounds)


# ---------------------------------------------------------------------------------------------- unknown widths


def free_search(
    model: Model, words_allowed: Sequence[int], beam_size: int, max_length: int, min_length: int = 0
) -> list[tuple[float, Words, bool]]:
    """Free-running beam search: the model decides by its END token where a sentence stops.

    With n words read the candidates are (b, v) for every allowed word v and, if n >= min_length, v = END (ties: lower
    (b, v) first; -inf dropped). Those of the top-B that took END move to a list of the B best finished ones. The
    top-B of the others stay open. The search stops when no open beam is left, when B are finished and no open
    beam's sum exceeds the worst of them, or after max_length words, where what does not take END is dropped; if nothing
    is finished then, the open beams of max_length words are returned instead.
    Returns (sum of log-probabilities in nats, words in READING order, finished), best first.
    """
    finished: list[Scored] = []
    open_beams: list[Beam] = [((), 0.0)]
    for n in range(max_length + 1):
        tokens = list(words_allowed)
        if n >= min_length:
            tokens.append(model.end)
        candidates = []  # (-sum, b, v, prefix)
        for b, (prefix, total) in enumerate(open_beams):
            for v in tokens:
                new_total = total + float(model.log_probs(prefix)[v])
                if new_total > NEG_INF:
                    candidates.append((-new_total, b, v, prefix))
        candidates.sort()

        finished += [(-negative, prefix) for negative, _, v, prefix in candidates[:beam_size] if v == model.end]
        words = [candidate for candidate in candidates if candidate[2] != model.end]
        new_beams: list[Beam] = [((*prefix, v), -negative) for negative, _, v, prefix in words[:beam_size]]
        finished.sort(key=lambda item: (-item[0], item[1]))
        finished = finished[:beam_size]

        if n == max_length:
            if not finished:
                return [(total, prefix, False) for prefix, total in open_beams]
            break
        open_beams = new_beams
        if not open_beams:
            break
        if len(finished) == beam_size and all(total <= finished[-1][0] for _, total in open_beams):
            break
    return [(total, words, True) for total, words in finished]


def whole_caption(
    forward: Model,
    backward: Model,
    words_allowed: Sequence[int],
    beam_size: int,
    max_rounds: int,
    max_length: int,
    min_length: int = 0,
    weights: tuple[float, float] = (1.0, 1.0),
    length: str | float = "average",
) -> Answer:
    """A whole caption of unknown length.

    The free searches of both directions give the candidate widths (the lengths of all that they return); each width
    is decoded by ``bscd`` as that many blanks. The finished hypotheses of the free searches join the pool. The score
    (nats) is the length rule of J. ``stop`` ("") and ``rounds`` (0) are not used.
    """
    widths = set()
    pool: set[Words] = set()
    for model, reverse in ((forward, False), (backward, True)):
        for _, prefix, finished in free_search(model, words_allowed, beam_size, max_length, min_length):
            widths.add(len(prefix))
            if finished:
                pool.add(prefix[::-1] if reverse else prefix)
    for width in sorted(widths):
        template = [frozenset(words_allowed)] * width
        blanks = frozenset(range(width))
        pool |= bscd(forward, backward, template, blanks, beam_size, max_rounds, weights).pool
    return _answer_of_pool(forward, backward, pool, beam_size, weights, length)


def _answer_of_pool(
    forward: Model,
    backward: Model,
    pool: set[Words],
    beam_size: int,
    weights: tuple[float, float],
    length: str | float,
) -> Answer:
    """The B best sentences of the pool by the length rule of J (nats)."""
    scored = [(length_rule(joint(forward, backward, words, weights), len(words), length), words) for words in pool]
    return Answer(top(scored, beam_size), "", 0, pool)


# ---------------------------------------------------------------------------------------------- models for tests


def _log(probability: float) -> float:
    """Natural logarithm, -inf for 0."""
    return math.log(probability) if probability > 0 else NEG_INF


class MarkovChain:
    """A first-order Markov chain over sentences of exactly T words, whose two reading directions agree.

    ``initial``: [V] probabilities of the first word. ``transitions``: a list of T - 1 arrays [V, V];
    ``transitions[t][u, v]`` is the probability of v at position t + 1 after u at position t. ``word_ids``: the V token
    ids of the words. ``end``: the token that ends a sentence in both directions, certain after T words and impossible
    before. ``vocab_size``: the size V_total >= V + 1 of the vocabulary.
    """

    def __init__(
        self,
        initial: np.ndarray,
        transitions: Sequence[np.ndarray],
        word_ids: Sequence[int],
        end: int,
        vocab_size: int,
    ) -> None:
        """Keep the tables and compute the marginals position by position; see the class for the arguments."""
        self.length = len(transitions) + 1
        self.word_ids = [int(word) for word in word_ids]
        self.state = {word: index for index, word in enumerate(self.word_ids)}
        self.end = end
        self.vocab_size = vocab_size
        self.transitions = [np.asarray(matrix, dtype=np.float64) for matrix in transitions]
        self.probs = [np.asarray(initial, dtype=np.float64)]  # T arrays [V]: the marginal at each position
        for matrix in self.transitions:
            self.probs.append(self.probs[-1] @ matrix)

    def _row(self, probabilities: np.ndarray) -> list[float]:
        """V_total log-probabilities (nats) from the V probabilities of the words."""
        row = [NEG_INF] * self.vocab_size
        for index, word in enumerate(self.word_ids):
            row[word] = _log(float(probabilities[index]))
        return row

    def _impossible_row(self) -> list[float]:
        """V_total times -inf."""
        return [NEG_INF] * self.vocab_size

    def _end_row(self) -> list[float]:
        """V_total log-probabilities (nats) where END is certain."""
        row = [NEG_INF] * self.vocab_size
        row[self.end] = 0.0
        return row

    def forward(self) -> Model:
        """The left-to-right model, from the initial distribution and the transition matrices."""

        def log_probs(prefix: Words) -> list[float]:
            n = len(prefix)
            if n >= self.length:
                return self._end_row()
            if n == 0:
                return self._row(self.probs[0])
            if prefix[-1] not in self.state:
                return self._impossible_row()
            return self._row(self.transitions[n - 1][self.state[prefix[-1]]])

        return Model(log_probs, self.end)

    def backward(self) -> Model:
        """The right-to-left model by Bayes: p(u at t | v at t+1) = P_t(u) * transitions[t][u, v] / P_t+1(v).

        After a word of probability 0 everything is impossible.
        """

        def log_probs(prefix: Words) -> list[float]:
            n = len(prefix)
            if n >= self.length:
                return self._end_row()
            if n == 0:
                return self._row(self.probs[-1])
            t = self.length - 1 - n  # the position to predict
            if prefix[-1] not in self.state:
                return self._impossible_row()
            v = self.state[prefix[-1]]
            if self.probs[t + 1][v] == 0:
                return self._impossible_row()
            return self._row(self.probs[t] * self.transitions[t][:, v] / self.probs[t + 1][v])

        return Model(log_probs, self.end)

    def marginals(self) -> np.ndarray:
        """[T, V_total] log-probabilities (nats) of each token at each position."""
        return np.array([self._row(probabilities) for probabilities in self.probs])

    def viterbi(self, k: int, allowed: Sequence[Collection[int]]) -> list[Scored]:
        """The exact k best (log P in nats, words) with ``words[t]`` in ``allowed[t]``, by k-best Viterbi.

        Dynamic programming: for each last word, the k best prefixes that end in it. Highest first, ties lower words
        first; sentences of probability 0 are left out. ``allowed`` has T sets of token ids.
        """
        if len(allowed) != self.length:
            raise ValueError(f"allowed has {len(allowed)} positions, the chain has {self.length}")
        best: dict[int, list[Scored]] = {}
        for u, word in enumerate(self.word_ids):
            if word in allowed[0]:
                best[u] = top([(_log(float(self.probs[0][u])), (word,))], k)
        for t in range(1, self.length):
            new_best: dict[int, list[Scored]] = {}
            for v, word in enumerate(self.word_ids):
                if word in allowed[t]:
                    candidates = []
                    for u, prefixes in best.items():
                        step = _log(float(self.transitions[t - 1][u, v]))
                        for score, words in prefixes:
                            candidates.append((score + step, (*words, word)))
                    new_best[v] = top(candidates, k)
            best = new_best
        return top([scored for prefixes in best.values() for scored in prefixes], k)


def random_logits(
    rng_seed: int,
    prefix: Words,
    vocab_size: int,
    sharpness: float = 1.0,
    minus_inf: float = 0.0,
    forbidden: Collection[int] = (),
) -> np.ndarray:
    """[V] float64 unnormalised logits (nats) after ``prefix``, a deterministic function of (seed, prefix).

    ``sharpness`` times standard normal numbers; then each entry is -inf with probability ``minus_inf``, and always
    for the tokens in ``forbidden``.
    """
    rng = np.random.default_rng([rng_seed] + [1 + int(token) for token in prefix])
    logits = sharpness * rng.normal(size=vocab_size)
    logits[rng.random(size=vocab_size) < minus_inf] = NEG_INF
    for token in forbidden:
        logits[token] = NEG_INF
    return logits


def random_model(
    rng_seed: int,
    vocab_size: int,
    end: int,
    *,
    sharpness: float = 1.0,
    minus_inf: float = 0.0,
    forbidden: Collection[int] = (),
) -> Model:
    """A model whose distribution depends on the full prefix: the log-softmax (nats) of ``random_logits`` over all V.

    A row of nothing but -inf stays so. Rows are kept in a dict, one for each model.
    """
    rows: dict[Words, list[float]] = {}

    def log_probs(prefix: Words) -> list[float]:
        if prefix not in rows:
            logits = random_logits(rng_seed, prefix, vocab_size, sharpness, minus_inf, forbidden).tolist()
            highest = max(logits)
            if highest > NEG_INF:
                log_total = math.log(sum(math.exp(logit - highest) for logit in logits))
                logits = [logit - highest - log_total for logit in logits]
            rows[prefix] = logits
        return rows[prefix]

    return Model(log_probs, end)
