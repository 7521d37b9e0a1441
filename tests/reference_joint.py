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


def bscd(halves, conditionals, template, blanks, beam_size, max_rounds, counted=None, penalty=None):
    """``halves``: `reference.Model` of each half by itself, forward and backward."""
    pool = set()
    current = []

    def meet(frontiers, reverse):
        without = [[(prefix, score) for prefix, score, _ in beams] for beams in frontiers]
        pool.update(reference.finished_sentences(template, without, reverse))

    def answer(stop, rounds):
        scored = [(pseudo_log_likelihood(conditionals, words, counted), words) for words in pool]
        return reference.Answer(reference.top(scored, beam_size), stop, rounds, pool)

    def snapshot():
        return [[[(prefix, context) for prefix, _, context in beams] for beams in both] for both in current]

    for direction in (0, 1):
        found = initial(halves[direction], template, beam_size, direction == 1, blanks, penalty)
        if found is not None:
            current.append(found)
            meet(found, direction == 1)
    if len(current) < 2:
        return answer("dead_end", 0)
    history = [snapshot()]
    for number in range(1, max_rounds + 1):
        for direction in (0, 1):
            swept = sweep(conditionals, template, blanks, beam_size, direction == 1, current[1 - direction], penalty)
            if swept is None:
                return answer("dead_end", number)
            current[direction] = swept
            meet(swept, direction == 1)
        now = snapshot()
        if now == history[-1]:
            return answer("converged", number)
        if now in history:
            return answer("cycle", number)
        history.append(now)
    return answer("max_rounds", max_rounds)
