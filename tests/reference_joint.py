"""Slow reference of the search with one softmax over both sides, in plain loops; conventions as in `reference`.

``scores(left, right)`` gives the V unnormalised scores (nats) of the word between a prefix ``left`` in sentence order
and a suffix ``right`` in the backward half's reading order (the last word of the sentence first).
"""

import math

import numpy as np
import reference

NEG_INF = -math.inf


def additive(forward, backward):
    """The scores of two halves, each given as ``prefix -> V scores``, added."""
    return lambda left, right: np.asarray(forward(left)) + np.asarray(backward(right))


def log_softmax(scores):
    highest = max(scores)
    if highest == NEG_INF:
        return [NEG_INF] * len(scores)
    log_total = highest + math.log(sum(math.exp(score - highest) for score in scores))
    return [score - log_total for score in scores]


class Conditionals:
    """log p(v | left, right), remembered."""

    def __init__(self, scores):
        self.scores = scores
        self.known = {}

    def __call__(self, left, right):
        if (left, right) not in self.known:
            self.known[left, right] = log_softmax([float(score) for score in self.scores(left, right)])
        return self.known[left, right]


def terms(conditionals, words):
    """Each word's log-probability given all others."""
    return [conditionals(words[:at], words[:at:-1])[word] for at, word in enumerate(words)]


def pseudo_log_likelihood(conditionals, words, counted=None):
    own = terms(conditionals, words)
    return sum(own if counted is None else [own[at] for at in sorted(counted)])


def enumerate_best(conditionals, template, k, counted=None):
    every = reference.sentences(template)
    return reference.top(((pseudo_log_likelihood(conditionals, words, counted), words) for words in every), k)


def initial(model, template, beam_size, reverse, blanks, penalty=None):
    """Beams (prefix, running score, context) of classical beam search; scores from the first blank on."""
    frontiers = reference.classical(model, template, beam_size, reverse, blanks, penalty)
    if frontiers is None:
        return None
    read = reference.positions_read(template, blanks, reverse)
    first = next((number for number, at in enumerate(read) if at in blanks), 0)
    offset = frontiers[first][0][1]
    return [[(prefix, total - offset, None) for prefix, total in beams] for beams in frontiers]


def sweep(conditionals, template, blanks, beam_size, reverse, opposite_frontiers, penalty=None):
    """One sweep; for every (b, v) the best b' is found by trying all."""
    frontiers = [[((), 0.0, None)]]
    for position in reference.positions_read(template, blanks, reverse):
        beams = frontiers[-1]
        if position not in blanks:
            (word,) = template[position]
            frontiers.append([((*prefix, word), score, None) for prefix, score, _ in beams])
            continue
        others = opposite_frontiers[len(template) - len(frontiers)]
        candidates = []
        for b, (prefix, score, _) in enumerate(beams):
            for v in sorted(template[position]):
                best = None
                for other, other_score, _ in others:
                    left, right = (other, prefix) if reverse else (prefix, other)
                    term = conditionals(left, right)[v]
                    worth = term + other_score
                    if penalty is not None:
                        worth += penalty.changes((*other, v), not reverse) - penalty.cost(other, not reverse)
                    if best is None or worth > best[0]:
                        best = (worth, term, other)
                total = score + best[0]
                if penalty is not None:
                    total += penalty.changes((*prefix, v), reverse) - penalty.cost((*prefix, v), reverse)
                if total > NEG_INF:
                    candidates.append((-total, b, v, ((*prefix, v), score + best[1], best[2])))
        if not candidates:
            return None
        candidates.sort(key=lambda one: one[:3])
        frontiers.append([one[3] for one in candidates[:beam_size]])
    return frontiers


def splices(conditionals, template, blanks, frontiers, best, count, penalty=None):
    """As `reference.splices`: the ``count`` best (b, v) at each blank position, each with the b' that is best for both.

    The running score of a part of a sentence of ``best`` is the sum of the sentence's terms at its blank positions.
    """
    found = []
    for position in sorted(blanks):
        sides = {}
        for direction, read in ((0, range(position)), (1, range(len(template) - 1, position, -1))):
            sides[direction] = [(prefix, score) for prefix, score, _ in frontiers[direction][len(read)]]
            for words in best:
                own = tuple(words[at] for at in read)
                if own not in [prefix for prefix, _ in sides[direction]]:
                    own_terms = terms(conditionals, words)
                    sides[direction].append((own, sum(own_terms[at] for at in read if at in blanks)))
        candidates = []
        for b, (prefix, score) in enumerate(sides[0]):
            for v in sorted(template[position]):
                behind = []
                for other, (suffix, other_score) in enumerate(sides[1]):
                    plain = conditionals(prefix, suffix)[v] + other_score
                    worth = plain
                    if penalty is not None:
                        worth += penalty.changes((*suffix, v), True) - penalty.cost(suffix, True)
                    behind.append((-worth, other, suffix, plain))
                lost, _, suffix, plain = min(behind, key=lambda one: one[:2])
                value = score - lost
                if penalty is not None:
                    value += penalty.changes((*prefix, v), False) - penalty.cost((*prefix, v), False)
                if value > NEG_INF:
                    splice = reference.Splice(value, (*prefix, v, *suffix[::-1]), position, value - score - plain)
                    candidates.append((-value, b, v, splice))
        candidates.sort(key=lambda one: one[:3])
        found += [one[3] for one in candidates[:count]]
    return found


def known_sums(conditionals, counted, penalty):
    """The scores of `reference.halve`: after m words, the terms of m positions on each side of the join are known."""

    def scores(alive, words):
        known = []
        for splice in alive:
            own = terms(conditionals, splice.words)
            every = range(len(own)) if counted is None else counted
            inside = [at for at in every if abs(at - splice.position) <= words]
            known.append(([own[at] for at in inside], len(every) - len(inside)))
        paid = reference.paid(alive, [not lacking for _, lacking in known], penalty, (1.0, 1.0))
        return list(zip(reference.estimated(known), paid, strict=True))

    return scores


def bscd(halves, conditionals, template, blanks, beam_size, max_rounds, counted=None, penalty=None, splicing=True):
    """``halves``: `reference.Model` of each half by itself, forward and backward. The rest as in `reference.bscd`."""
    pool = set()
    current, first_ends = [], []
    best, tried, idle, few = [], set(), 0, False

    def splice(complete):
        nonlocal best, idle, few
        own, at_most = [words for _, words in best], beam_size * (4 + len(blanks)) // 2
        found = splices(conditionals, template, blanks, current, own, 4 * beam_size, penalty)
        chosen = reference.worth_reading(found, tried, at_most)
        found = reference.halve(chosen, complete, known_sums(conditionals, counted, penalty))
        before = best[:1]
        best = sorted([*best, *found], key=lambda one: (-one[0], one[1]))[:beam_size]
        pool.update(words for _, words in found)
        idle = idle + 1 if best[:1] == before else 0
        few = len(chosen) <= beam_size

    def ends():
        agreed = bool(best) and all(best[0][1] in own for own in first_ends)
        return ((few and (idle > 0 or agreed)) or idle >= 2) and any(score > NEG_INF for score, _ in best)

    def meet(frontiers, reverse):
        without = [[(prefix, score) for prefix, score, _ in beams] for beams in frontiers]
        found = reference.finished_sentences(template, without, reverse)
        pool.update(found)
        return found

    def answer(stop, rounds):
        scored = [(pseudo_log_likelihood(conditionals, words, counted), words) for words in pool]
        return reference.Answer(reference.top(scored, beam_size), stop, rounds, pool)

    def snapshot():
        return [[[(prefix, context) for prefix, _, context in beams] for beams in both] for both in current]

    for direction in (0, 1):
        found = initial(halves[direction], template, beam_size, direction == 1, blanks, penalty)
        if found is not None:
            current.append(found)
            first_ends.append(meet(found, direction == 1))
    if len(current) < 2:
        return answer("dead_end", 0)
    splicing = splicing and max_rounds > 0
    if splicing:
        splice(beam_size)
        if ends():
            return answer("no_gain", 0)
    history = [snapshot()]
    for number in range(1, max_rounds + 1):
        for direction in (0, 1):
            swept = sweep(conditionals, template, blanks, beam_size, direction == 1, current[1 - direction], penalty)
            if swept is None:
                return answer("dead_end", number)
            current[direction] = swept
            if not splicing:
                meet(swept, direction == 1)
        if splicing:
            splice(-(-beam_size // 2))
        now = snapshot()
        if not splicing or idle:
            if now == history[-1]:
                return answer("converged", number)
            if now in history:
                return answer("cycle", number)
        if splicing and ends():
            return answer("no_gain", number)
        history.append(now)
    return answer("max_rounds", max_rounds)
