"""The recorder: what a search saw and kept, noted while it runs, and made into a `Record` when it has ended.

A search without a record has no recorder. What is noted are arrays of nodes and numbers. Nothing is read for a record,
and no prefix is added to a tree, so the rows and the answers of a search are the same with and without one.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from birnn_decode.record import (
    Bound,
    Candidate,
    Choice,
    Draw,
    Draws,
    Record,
    RecordedSearch,
    Splice,
    Splices,
    Step,
    Sweep,
    Words,
    Writing,
)
from birnn_decode.search.behind import best_behind
from birnn_decode.search.direction import Direction
from birnn_decode.search.holding import NEVER, Hold, Problem, Restraint
from birnn_decode.search.tree import Nodes

RUNNERS_UP = 3  # candidates that are recorded although they were dropped, at each position


class Opposite(NamedTuple):
    """What a sweep looks ahead through at some positions.

    Attributes:
        direction: the direction that is held fixed.
        beams: its nodes, [turns, beams].
        holds: the constraints at the positions; empty if there are none.
        prior: for each turn what is subtracted from each word, [vocab]; empty if there is no prior.
    """

    direction: Direction
    beams: Nodes
    holds: Sequence[Hold | None]
    prior: Sequence[np.ndarray]


class _Notes(NamedTuple):
    """Candidates, in columns. They are sorted by problem and rank within the notes of one turn."""

    numbers: np.ndarray  # of the problem in the sweep
    positions: np.ndarray
    parents: Nodes
    tokens: np.ndarray
    prefixes: np.ndarray
    log_probs: np.ndarray
    looks: np.ndarray | None
    rests: Nodes | None
    changes: np.ndarray
    totals: np.ndarray
    kept: np.ndarray


@dataclass(eq=False)
class Tape:
    """What one sweep notes, or one free search.

    Attributes:
        direction: the direction that moves.
        opposite: the direction whose beams it looks ahead through; None if it does not look ahead.
    """

    direction: Direction
    opposite: Direction | None = None
    _notes: list[_Notes] = field(default_factory=list)

    def at(self, numbers: np.ndarray, positions: Sequence[int], beams: Nodes, opposite: Opposite | None) -> Turned:
        """Return what notes the candidates of some problems at one position each."""
        return Turned(self, numbers, np.asarray(positions), beams, opposite)

    def add(self, notes: _Notes) -> None:
        """Add candidates."""
        self._notes.append(notes)

    def choices(self) -> dict[int, tuple[Choice, ...]]:
        """Return what each problem saw, by its number, in the order of reading."""
        if not self._notes:
            return {}
        words = self._words(self.direction, [one.parents for one in self._notes])
        rests: Iterable[Any] = itertools.repeat(None)
        looks: Iterable[Any] = itertools.repeat(None)
        if self.opposite is not None:
            rests = self._words(self.opposite, [one.rests for one in self._notes if one.rests is not None])
            looks = itertools.chain(*(one.looks.tolist() for one in self._notes if one.looks is not None))
        reverse, behind = self.direction.reverse, self.opposite is not None and self.opposite.reverse
        columns = ("numbers", "positions", "tokens", "prefixes", "log_probs", "changes", "totals", "kept")
        values = (itertools.chain(*(getattr(one, name).tolist() for one in self._notes)) for name in columns)
        found: dict[int, dict[int, list[Candidate]]] = {}
        turn_of = np.repeat(np.arange(len(self._notes)), [len(one.numbers) for one in self._notes]).tolist()
        last: dict[tuple[int, int], int] = {}
        for turn, own, rest, look, number, position, token, prefix, log_prob, change, total, kept in zip(
            turn_of, words, rests, looks, *values, strict=False
        ):
            at = found.setdefault(number, {})
            if last.get((number, position)) != turn:  # constraints that were lifted: a second choice replaces the first
                at[position] = []
                last[number, position] = turn
            read = (token, *own[::-1]) if reverse else (*own, token)
            if rest is not None and behind:
                rest = rest[::-1]
            at[position].append(Candidate(read, prefix, log_prob, look, change, total, kept, rest))
        return {
            number: tuple(Choice(position, tuple(own)) for position, own in at.items()) for number, at in found.items()
        }

    @staticmethod
    def _words(direction: Direction, nodes: Sequence[Nodes]) -> list[Words]:
        return direction.tree.words(np.concatenate(nodes))


class Turned(NamedTuple):
    """What notes the candidates of one turn of a sweep.

    Attributes:
        tape: the tape of the sweep.
        numbers: the numbers of the problems, [turns].
        positions: the positions, [turns].
        beams: the prefixes to be continued, nodes [turns, beams].
        opposite: what the sweep looks ahead through; None if it does not look ahead.
    """

    tape: Tape
    numbers: np.ndarray
    positions: np.ndarray
    beams: Nodes
    opposite: Opposite | None

    def of(self, rows: Sequence[int]) -> Turned:
        """Return the same for some of the turns."""
        opposite = self.opposite
        if opposite is not None:
            opposite = Opposite(
                opposite.direction,
                opposite.beams[rows],
                [opposite.holds[row] for row in rows] if opposite.holds else [],
                [opposite.prior[row] for row in rows] if opposite.prior else [],
            )
        return Turned(self.tape, self.numbers[rows], self.positions[rows], self.beams[rows], opposite)

    def saw(
        self, values: np.ndarray, flats: np.ndarray, picked: np.ndarray, restraint: Restraint | None, keep: int
    ) -> None:
        """Note what ``Backend.best`` returned, [turns, candidates], of which the first ``keep`` are kept."""
        tree = self.tape.direction.tree
        rows, ranks = np.nonzero(values > NEVER)
        which, tokens = np.divmod(flats[rows, ranks], tree.scorer.vocab_size)
        parents = self.beams[rows, which]
        prefixes = tree.log_probs[parents]
        changes = np.zeros(len(rows))
        if restraint is not None:
            changes += restraint.shift[rows, which] + restraint.extra[rows, which, tokens]
        looks = rests = None
        if self.opposite is not None:
            opposite = self.opposite
            if weight := opposite.direction.weight:
                asked = [opposite.holds[row] for row in rows.tolist()] if opposite.holds else []
                rests, looks = best_behind(opposite.direction, opposite.beams[rows], tokens, asked)
                looks = weight * looks
            if opposite.prior:
                asked_for = zip(rows.tolist(), tokens.tolist(), strict=True)
                changes -= np.array([opposite.prior[row][token] for row, token in asked_for])
        self.tape.add(
            _Notes(
                self.numbers[rows],
                self.positions[rows],
                parents,
                tokens,
                prefixes,
                picked[rows, ranks] - tree.normalisers[parents],
                looks,
                rests,
                changes,
                values[rows, ranks],
                ranks < keep,
            )
        )

    def joined(
        self,
        rows: np.ndarray,
        tokens: np.ndarray,
        parents: Nodes,
        others: Nodes,
        scores: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
        kept: np.ndarray,
    ) -> None:
        """Note continuations under a joint model, in columns.

        Args:
            rows: the turn of each.
            tokens: the words.
            parents: the nodes of the prefixes.
            others: the nodes of the other direction.
            scores: the running scores of the prefixes, with the words, and of the others; and what all are ranked by.
            kept: flags of those that are kept.
        """
        before, running, behind, totals = scores
        self.tape.add(
            _Notes(
                self.numbers[rows],
                self.positions[rows],
                parents,
                tokens,
                before,
                running - before,
                behind,
                others,
                totals - running - behind,
                totals,
                kept,
            )
        )


@dataclass(eq=False)
class _Log:
    """What one search of one problem has noted.

    Attributes:
        problem: the problem; None for free searches.
        item: the number of the item.
        beam_size: B.
        round: the number of the round.
        steps: functions that make the steps of the record.
        draws: for each sweep of Gibbs sampling the draws.
    """

    problem: Problem | None
    item: int
    beam_size: int
    round: int = 0
    steps: list[Callable[[], Step]] = field(default_factory=list)
    draws: dict[int, list[Draw]] = field(default_factory=dict)


class Recorder:
    """What all searches of a call have noted."""

    def __init__(self) -> None:
        self._logs: list[_Log] = []
        self._current: dict[int, _Log] = {}  # by the identity of the problem, which the log keeps alive
        self._pool: dict[int, dict[Words, None]] = {}
        self._bounds: dict[int, list[Bound]] = {}
        self._chains: dict[int, dict[int, int]] = {}  # for each log the numbers of its chains, both by identity
        self._choices: dict[Tape, dict[int, tuple[Choice, ...]]] = {}

    def begin(self, problems: Sequence[Problem], beam_size: int) -> None:
        """Begin the searches of some problems."""
        for problem in problems:
            log = self._current[id(problem)] = _Log(problem, problem.item, beam_size)
            self._logs.append(log)

    def begin_round(self, problems: Iterable[Problem]) -> None:
        """Begin a round, or a sweep of Gibbs sampling."""
        for problem in problems:
            self._current[id(problem)].round += 1

    def sweep(self, direction: Direction, problems: Sequence[Problem], opposite: Direction | None) -> Tape:
        """Begin a sweep and return its tape."""
        looks = opposite is not None
        tape = Tape(direction, opposite if opposite is not None and opposite.weight else None)
        for number, problem in enumerate(problems):
            log = self._current[id(problem)]
            log.steps.append(functools.partial(self._sweep, tape, number, log.round, looks))
        return tape

    def repeat(self, direction: Direction, problems: Iterable[Problem]) -> None:
        """Note that the sweeps of some problems are not run again."""
        for problem in problems:
            log = self._current[id(problem)]
            log.steps.append(functools.partial(Sweep, direction.tree.name, log.round, True, True, ()))

    def write(self, direction: Direction, items: Sequence[int], beam_size: int) -> Tape:
        """Begin the free searches of some items, and return their tape."""
        tape = Tape(direction)
        for item in items:
            log = next((one for one in self._logs if one.problem is None and one.item == item), None)
            if log is None:
                log = _Log(None, item, beam_size)
                self._logs.append(log)
            log.steps.append(functools.partial(self._writing, tape, item))
        return tape

    def _sweep(self, tape: Tape, number: int, round: int, looks: bool) -> Sweep:
        return Sweep(tape.direction.tree.name, round, looks, False, self._seen(tape, number))

    def _writing(self, tape: Tape, number: int) -> Writing:
        return Writing(tape.direction.tree.name, self._seen(tape, number))

    def _seen(self, tape: Tape, number: int) -> tuple[Choice, ...]:
        if tape not in self._choices:
            self._choices[tape] = tape.choices()
        return self._choices[tape].get(number, ())

    def splice(
        self,
        direction: Direction,
        problems: Sequence[Problem],
        splices: Sequence[np.ndarray],
        sentences: Sequence[Words],
        scores: Mapping[int, float],
    ) -> None:
        """Note the splices that were looked at.

        Args:
            direction: the direction of the prefixes.
            problems: the problems.
            splices: the columns of ``birnn_decode.search.splices.Splices``, problem by problem and best first.
            sentences: the sentence of each splice.
            scores: the scores of those that were read to their ends, by their numbers.
        """
        found: list[list[Splice]] = [[] for _ in problems]
        numbers, left, _, values, _ = splices
        places = direction.tree.depths[left] - 1
        columns = zip(numbers.tolist(), places.tolist(), values.tolist(), sentences, strict=True)
        for one, (number, place, value, words) in enumerate(columns):
            found[number].append(Splice(words, direction.position(place, len(words)), value, scores.get(one)))
        for problem, own in zip(problems, found, strict=True):
            log = self._current[id(problem)]
            log.steps.append(functools.partial(Splices, log.round, tuple(own)))

    def draw(self, chain: Any, problem: Problem, position: int, word: int, log_probs: np.ndarray) -> None:
        """Note the draw of a chain. Log-probabilities are given up to a constant, [vocab]."""
        log = self._current[id(problem)]
        chains = self._chains.setdefault(id(log), {})
        number = chains.setdefault(id(chain), len(chains))
        peak = log_probs.max()
        log_prob = float(log_probs[word] - peak - np.log(np.exp(log_probs - peak).sum()))
        log.draws.setdefault(log.round, []).append(Draw(number, position, word, log_prob))

    def bound(self, item: int, bound: Bound) -> None:
        """Note what a proof knows."""
        self._bounds.setdefault(item, []).append(bound)

    def rank(self, sentences: Iterable[tuple[int, Words]]) -> None:
        """Note finished sentences that are ranked, with their items."""
        for item, words in sentences:
            self._pool.setdefault(item, {})[words] = None

    def record(self, item: int, vocab_size: int, text: Callable[[Sequence[int]], str | None]) -> Record:
        """Make the record of an item.

        Args:
            item: the number of the item.
            vocab_size: V.
            text: gives the text of an id.
        """
        searches = tuple(self._search(log) for log in self._logs if log.item == item)
        pool = tuple(self._pool.get(item, ()))
        ids = {word for words in pool for word in words}
        ids |= {word for one in searches for words in _all_words(one) for word in words}
        texts = ((word, text([word])) for word in sorted(ids))
        return Record(
            searches,
            tuple(self._bounds.get(item, ())),
            pool,
            vocab_size,
            tuple((word, own) for word, own in texts if own is not None),
        )

    @staticmethod
    def _search(log: _Log) -> RecordedSearch:
        positions = () if log.problem is None else log.problem.template.positions
        template = tuple(
            one if isinstance(one, int) else tuple(sorted(one)) if isinstance(one, frozenset) else None
            for one in positions
        )
        draws = (Draws(number, tuple(own)) for number, own in log.draws.items())
        return RecordedSearch(template, log.beam_size, 0, (*(step() for step in log.steps), *draws))


def _all_words(search: RecordedSearch) -> Iterable[Words]:
    """Yield words of all steps of a search, so that each id occurs at least once."""
    yield tuple(one for one in search.template if isinstance(one, int))
    for step in search.steps:
        if isinstance(step, Sweep | Writing):
            for choice in step.choices:
                for one in choice.candidates:
                    yield one.words
                    yield one.rest or ()
        elif isinstance(step, Splices):
            yield from (one.words for one in step.splices)
        else:
            yield tuple(one.word for one in step.draws)
