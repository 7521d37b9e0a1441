"""Constraints during a search: the words that they rule out after a prefix, and the nats that prefixes pay.

For each prefix, a search asks which words may come next. A word that a constraint rules out is no candidate. A
candidate may pay, in nats, for what a score hook takes off the model's score, or for words that earlier groups of a
diverse search have used (see ``birnn_decode.constraints``). What a prefix has paid is stored beside its log-probability
and never becomes part of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np

from birnn_decode.constraints import (
    UNDECIDED,
    Constraint,
    Hook,
    MustAppear,
    Ruled,
    Unlike,
    joining,
    narrow,
    possible,
    ruled_out,
)
from birnn_decode.search.direction import Direction
from birnn_decode.search.tree import Nodes
from birnn_decode.template import FixedTemplate

NEVER = float("-inf")
ROUNDING = 1e-4  # nats by which a hook may raise a score, for hooks that compute in single precision


class Sentence(Protocol):
    """A finished sentence as constraints see it; see ``birnn_decode.search.finalists.Finalist``."""

    item: int
    template: FixedTemplate
    words: tuple[int, ...]
    penalty: float | None
    broken: tuple[str, ...]
    rejected: bool


class Paid(NamedTuple):
    """What a prefix has paid, in nats.

    Attributes:
        changes: the sum that hooks have added to its terms. It counts with the direction's weight.
        cost: the cost of its words, the same for both directions.
    """

    changes: float = 0.0
    cost: float = 0.0


@dataclass(eq=False)
class Held:
    """The constraints on the sentences of one problem in one search.

    Attributes:
        template: the template, narrowed by the constraints on single positions. For a free caption it has as many
            positions as the caption may have words.
        constraints: the constraints on several positions, at most one of them a ``MustAppear``.
        hooks: the score hooks.
        costs: for each position the cost of words there, in nats.
        share: the share of a hook's change that counts.
        may_end: for a free caption, whether it may end after given words; else None.
    """

    template: FixedTemplate
    constraints: Sequence[Constraint] = ()
    hooks: Sequence[Hook] = ()
    costs: Sequence[Mapping[int, float]] = ()
    share: float = 1.0
    may_end: Callable[[tuple[int, ...]], bool] | None = None
    _paid: dict[tuple[str, int], Paid] = field(default_factory=dict)

    def ruled_out(self, words: Sequence[int], at: int) -> Ruled:
        """Return what is ruled out at a position, given words in sentence order, -1 for undecided ones."""
        return ruled_out(self.constraints, words, at, self.template)

    def broken(self, words: Sequence[int]) -> bool:
        """Tell whether a complete sentence violates a constraint."""
        return any(one.broken(words, self.template) for one in self.constraints)

    @property
    def must(self) -> MustAppear | None:
        """The words that must appear."""
        return next((one for one in self.constraints if isinstance(one, MustAppear)), None)

    def cost(self, at: int) -> Mapping[int, float]:
        """Return the cost of words at a position. END, which stands outside of the positions, costs nothing."""
        return self.costs[at] if 0 <= at < len(self.costs) else {}

    def words(self, direction: Direction, node: int) -> list[int]:
        """Return the words decided by the template and by a prefix, in sentence order."""
        words = [position if isinstance(position, int) else UNDECIDED for position in self.template.positions]
        (read,) = direction.tree.words(np.array([node]))
        begin = len(words) - len(read) if direction.reverse else 0
        words[begin : begin + len(read)] = direction.words_in_reading_order(read)
        return words

    def paid(self, direction: Direction, node: int) -> Paid:
        """Return what a prefix has paid."""
        tree = direction.tree
        while (paid := self._paid.get((tree.name, node))) is None and tree.depths[node] > 0:
            node = int(tree.parents[node])  # known words pay nothing
        return paid or Paid()

    def change(self, direction: Direction, node: int, position: int) -> np.ndarray:
        """Return what hooks add to the log-probabilities after a prefix, times ``share``, [vocab]."""
        return self.share * changed_by(self.hooks, direction, node, position)

    def pay(self, direction: Direction, parent: int, child: int, paid: Paid) -> None:
        """Record what a prefix pays for its last word."""
        before = self.paid(direction, parent)
        self._paid[direction.tree.name, child] = Paid(before.changes + paid.changes, before.cost + paid.cost)

    def pay_all(self, direction: Direction, item: int, words: tuple[int, ...]) -> Paid:
        """Record what each prefix of a sentence pays, given words in sentence order that the direction has read.

        Returns:
            what the whole sentence pays.
        """
        row = direction.words_in_reading_order(words)
        nodes = direction.tree.path(item, row[: direction.lane(self.template).end])
        for place, (parent, child) in enumerate(itertools.pairwise(nodes)):
            at = direction.position(place, len(row))
            if self.template.undecided(at):
                change = self.change(direction, parent, at)[row[place]] if self.hooks else 0.0
                self.pay(direction, parent, child, Paid(float(change), self.cost(at).get(row[place], 0.0)))
        return self.paid(direction, nodes[-1])


class Hold(NamedTuple):
    """The constraints of a problem at one place of one direction's reading order.

    Attributes:
        held: the constraints.
        place: the place of the next word.
        binding: whether words that are ruled out are no candidates.
        costs: whether candidates pay the cost of words.
    """

    held: Held
    place: int
    binding: bool = True
    costs: bool = True

    def across(self) -> Hold:
        """Return the same for the opposite beams, which rule out nothing and pay no costs of words."""
        return Hold(self.held, len(self.held.template) - 1 - self.place, binding=False, costs=False)

    def candidates(self, direction: Direction, node: int, weight: float, extra: np.ndarray) -> np.ndarray | None:
        """Write to ``extra``, [vocab], what candidates after a prefix pay, and -inf for words that are no candidates.

        Returns:
            the changes by hooks, [vocab]; None without hooks.
        """
        held, end = self.held, direction.tree.scorer.end_token
        at = direction.position(self.place, len(held.template))
        inside = self.place < len(held.template)
        change = None
        if inside:
            if self.costs:
                for token, cost in held.cost(at).items():
                    extra[token] -= cost
            if held.hooks:
                from_end = direction.reverse and held.may_end is not None
                position = at - len(held.template) if from_end else at
                change = held.change(direction, node, position)
                if held.may_end is not None:
                    change[end] = 0.0
                extra += weighed(change, weight)
        if self.binding:
            ends = extra[end]
            if inside:
                extra[held.ruled_out(held.words(direction, node), at).flags(len(extra))] = NEVER
                allowed = held.template.positions[at]
                if held.may_end is not None and isinstance(allowed, frozenset):
                    extra[Ruled(only=allowed).flags(len(extra))] = NEVER
            if held.may_end is not None:
                (read,) = direction.tree.words(np.array([node]))
                extra[end] = ends if held.may_end(direction.words_in_reading_order(read)) else NEVER
        return change


@dataclass(frozen=True, eq=False)
class Problem:
    """One item at one choice of its blanks' widths.

    Attributes:
        item: the number of the item.
        template: its positions, in sentence order.
        held: the constraints that its sentences must satisfy; None if there are none.
    """

    item: int
    template: FixedTemplate
    held: Held | None = None


def holds_of(problems: Sequence[Problem], places: np.ndarray) -> list[Hold | None]:
    """Return the constraints of problems at some places; an empty list if no problem has any."""
    if all(problem.held is None for problem in problems):
        return []
    return [
        None if problem.held is None else Hold(problem.held, place)
        for problem, place in zip(problems, places.tolist(), strict=True)
    ]


class Restraint:
    """The effect of constraints on the candidates of some beams.

    Args:
        direction: the direction of the beams.
        holds: one for each problem; None for a problem without constraints.
        beams: nodes [problems, beams], -1 for none.
        weight: the weight of the direction's log-probability.

    Attributes:
        shift: what the beams have paid, [problems, beams].
        extra: what candidates pay, -inf for words that are no candidates, [problems, beams, vocab].
        banks: the number of words that must appear and that a candidate has, [problems, beams, vocab]; None if no word
            must appear.
    """

    def __init__(self, direction: Direction, holds: Sequence[Hold | None], beams: Nodes, weight: float):
        self.shift = np.zeros(beams.shape)
        self.extra = np.zeros((*beams.shape, direction.tree.scorer.vocab_size))
        some_must = any(hold is not None and hold.held.must for hold in holds)
        self.banks = np.zeros(self.extra.shape, dtype=np.int64) if some_must else None
        self._direction = direction
        self._holds = holds
        self._changes: dict[tuple[int, int], np.ndarray | None] = {}
        for row, beam in np.argwhere(beams >= 0).tolist():
            hold, node = holds[row], int(beams[row, beam])
            if hold is None:
                continue
            changes, cost = hold.held.paid(direction, node)
            self.shift[row, beam] = float(weighed(np.array(changes), weight)) - cost
            self._changes[row, beam] = hold.candidates(direction, node, weight, self.extra[row, beam])
            if self.banks is not None and (must := hold.held.must):
                missing = must.missing(hold.held.words(direction, node), hold.held.template)
                self.banks[row, beam] = len(must.ids) - len(missing)
                self.banks[row, beam, list(missing)] += 1

    def pay(self, rows: np.ndarray, beams: np.ndarray, parents: Nodes, children: Nodes) -> None:
        """Record what the chosen candidates have paid."""
        for row, beam, parent, child in np.stack([rows, beams, parents, children], axis=1).tolist():
            hold = self._holds[row]
            if hold is None or not (hold.held.hooks or hold.held.costs):
                continue
            token = int(self._direction.tree.tokens[child])
            at = self._direction.position(hold.place, len(hold.held.template))
            change = self._changes[row, beam]
            paid = Paid(0.0 if change is None else float(change[token]), hold.held.cost(at).get(token, 0.0))
            hold.held.pay(self._direction, parent, child, paid)

    def stuck(self, chosen: Nodes) -> tuple[list[int], list[Hold | None]]:
        """Return the rows without a candidate, and their holds with the constraints lifted."""
        stuck = {row: hold for row, hold in enumerate(self._holds) if hold and hold.binding and chosen[row, 0] < 0}
        return list(stuck), [hold._replace(binding=False) for hold in stuck.values()]


@dataclass(eq=False)
class Check:
    """A check of the finished sentences of an item. It is asked once per text.

    Attributes:
        accept: the function.
        spell: writes words that fill blanks at given runs as text.
    """

    accept: Callable[[str], object]
    spell: Callable[[Sequence[int], Sequence[tuple[int, int]]], str]
    _known: dict[str, bool] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the check in results and signatures."""
        return f"accept:{name_of(self.accept)}"

    def rejects(self, sentence: Sentence) -> bool:
        """Tell whether a sentence is not accepted.

        Raises:
            TypeError: the function returned something other than True or False.
        """
        text = self.spell(sentence.words, sentence.template.runs)
        if text not in self._known:
            given = self.accept(text)
            if not isinstance(given, (bool, np.bool_)):
                raise TypeError(
                    f"accept must return True or False, but {name_of(self.accept)}({text!r}) returned {given!r}."
                )
            self._known[text] = bool(given)
        return not self._known[text]


@dataclass(eq=False)
class Demands:
    """What a request asks of its sentences, in addition to the templates.

    Attributes:
        constraints: the constraints, with words resolved to ids.
        hooks: the score hooks.
        everything: all words that a blank takes.
        avoided: for each item the sentences of earlier groups; empty if there are none.
        strength: the cost, in nats, of a word that an earlier sentence has at the same position.
        share: the share of a hook's change that counts: 0.5 if two halves share one softmax.
        checks: for each item the check of its finished sentences; empty if there is none. Only splices look at
            it: accepted ones are read first.
    """

    constraints: Sequence[Constraint] = ()
    hooks: Sequence[Hook] = ()
    everything: frozenset[int] = frozenset()
    avoided: Sequence[Sequence[tuple[int, ...]]] = ()
    strength: float = 0.0
    share: float = 1.0
    checks: Sequence[Check] = ()

    def __bool__(self) -> bool:
        return bool(self.constraints or self.hooks or self.avoided)

    def lowering(self) -> Demands:
        """Return the same demands with hooks that are refused if they raise a score."""
        return replace(self, hooks=[_lowering(hook) for hook in self.hooks])

    def possible(self, templates: Sequence[FixedTemplate]) -> Sequence[FixedTemplate]:
        """Return the templates that some sentence can fill under the constraints, narrowed to the words left."""
        if not self.constraints:
            return templates
        return [
            narrowed
            for template in templates
            if possible(self.constraints, template, self.everything)
            and (narrowed := narrow(self.constraints, template, self.everything)) is not None
        ]

    def hold(self, item: int, template: FixedTemplate) -> Held | None:
        """Return the constraints on an item at one choice of widths, given its narrowed template; None if none."""
        several = joining(self._of(item))
        costs = self._costs(item, template)
        return Held(template, several, self.hooks, costs, self.share) if several or self.hooks or costs else None

    def hold_freely(self, item: int, reverse: bool, max_length: int) -> Held | None:
        """Return the constraints on a free caption, whose length is not known yet; None if there are none."""
        if not self:
            return None
        seen = [one for one in self.constraints if one.seen_from(reverse)]
        longest = FixedTemplate.all_blank(max_length)
        template = narrow(seen, longest, self.everything)
        assert template is not None  # lengths that no sentence can have are refused before
        costs = () if reverse else self._costs(item, template)

        def may_end(words: tuple[int, ...]) -> bool:
            return not self.broken(item, words, FixedTemplate.all_blank(len(words)))

        return Held(template, joining(self._of(item)), self.hooks, costs, self.share, may_end)

    def broken(self, item: int, words: tuple[int, ...], template: FixedTemplate) -> tuple[str, ...]:
        """Return the names of the constraints that a sentence violates."""
        return tuple(str(one) for one in self._of(item) if not one.satisfied(words, template))

    @property
    def check_names(self) -> tuple[str, ...]:
        """The name of the check of finished sentences, if there is one."""
        return tuple(one.name for one in self.checks[:1])

    def rejected(self, sentences: Sequence[Sentence]) -> np.ndarray:
        """Tell which sentences the check does not accept, [sentences]."""
        return np.array([bool(self.checks) and self.checks[one.item].rejects(one) for one in sentences], dtype=bool)

    def avoids(self, item: int) -> Sequence[tuple[int, ...]]:
        """Return the sentences of earlier groups for an item."""
        return self.avoided[item] if self.avoided else ()

    def _of(self, item: int) -> Sequence[Constraint]:
        avoided = self.avoids(item)
        return [*self.constraints, Unlike(avoided)] if avoided else self.constraints

    def _costs(self, item: int, template: FixedTemplate) -> Sequence[Mapping[int, float]]:
        if not self.strength or not self.avoided:
            return ()
        costs: list[dict[int, float]] = [{} for _ in range(len(template))]
        for sentence in self.avoided[item]:
            for at, word in enumerate(sentence[: len(template)]):
                if template.undecided(at):
                    costs[at][word] = costs[at].get(word, 0.0) + self.strength
        return costs

    def settle(self, finalists: Iterable[Sentence], weights: Mapping[Direction, float]) -> None:
        """Write violations, the check's answers and payments to the finalists that do not have them yet."""
        new = [one for one in finalists if one.penalty is None]
        for one in new:
            one.broken = self.broken(one.item, one.words, one.template)
            one.rejected = bool(self.checks) and self.checks[one.item].rejects(one)
            costs = self._costs(one.item, one.template)
            one.penalty = -math.fsum(cost.get(word, 0.0) for cost, word in zip(costs, one.words, strict=False))
        for direction, weight in weights.items() if self.hooks else ():
            for one, change in zip(new, changes_of(direction, new, self.hooks).tolist(), strict=True):
                one.penalty += weight * self.share * change


def _lowering(hook: Hook) -> Hook:
    """Return the same hook, refused if it raises a score."""

    def lowered(position: int, prefix: tuple[int, ...], scores: np.ndarray) -> np.ndarray:
        given = scores_by(hook, position, prefix, scores)
        if (given > scores + ROUNDING).any():
            raise ValueError(
                f"the score hook {name_of(hook)} raises a score at position {position}. Exact needs hooks that only "
                "lower scores, because its bound is valid only if no further word makes a sentence better."
            )
        return np.minimum(given, scores)

    lowered.__name__ = name_of(hook)
    return lowered


def name_of(hook: Callable[..., object]) -> str:
    """Return the name of a hook or of a check for messages."""
    return str(getattr(hook, "__name__", type(hook).__name__))


def scores_by(hook: Hook, position: int, prefix: tuple[int, ...], scores: np.ndarray) -> np.ndarray:
    """Call a hook and return its scores as float64. The hook may return a NumPy array or a tensor.

    Raises:
        TypeError, ValueError: the hook returned something that is not a valid array of scores.
    """
    given = hook(position, prefix, scores.copy())
    if hasattr(given, "detach"):
        given = given.detach().cpu().double().numpy()
    name = f"the score hook {name_of(hook)}"
    if not isinstance(given, np.ndarray) or given.shape != scores.shape or given.dtype.kind not in "fiu":
        shape = getattr(given, "shape", None)
        what = type(given).__name__ if shape is None else f"an array of shape {tuple(shape)}, {given.dtype}"
        raise TypeError(f"{name} returned {what} at position {position}; expected numbers of shape {scores.shape}")
    if not (given < np.inf).all():
        raise ValueError(f"{name} returned NaN or +inf at position {position}; scores are finite, or -inf")
    return given.astype(np.float64)


def changed_by(hooks: Sequence[Hook], direction: Direction, node: int, position: int) -> np.ndarray:
    """Return what hooks add to the log-probabilities after a prefix that was read, [vocab]."""
    scores, normalisers = direction.tree.continuations(np.array([node]))
    log_probs = scores[0] - normalisers[0]
    (prefix,) = direction.tree.words(np.array([node]))
    changed = log_probs
    for hook in hooks:
        changed = scores_by(hook, position, prefix, changed)
    with np.errstate(invalid="ignore"):  # impossible words stay impossible
        return np.where(np.isneginf(log_probs), 0.0, changed - log_probs)


def weighed(changes: np.ndarray, weight: float) -> np.ndarray:
    """Return changes times the weight of their model. A weight of 0 drops them, -inf included."""
    return weight * changes if weight else np.zeros_like(changes)


def changes_of(direction: Direction, finalists: Sequence[Sentence], hooks: Sequence[Hook]) -> np.ndarray:
    """Return what hooks add to a direction's terms of each finalist, [finalists]. Reads up to the last blank."""
    tree = direction.tree
    changes = np.zeros(len(finalists))
    rows = [direction.words_in_reading_order(one.words) for one in finalists]
    nodes = tree.roots[[one.item for one in finalists]]
    ends = np.array([direction.lane(one.template).end for one in finalists], dtype=np.int64)
    for place in range(ends.max(initial=0)):
        going = np.flatnonzero(place < ends)
        positions = {number: direction.position(place, len(rows[number])) for number in going.tolist()}
        blank = [number for number, at in positions.items() if finalists[number].template.undecided(at)]
        tree.read(nodes[blank])
        for number in blank:
            change = changed_by(hooks, direction, int(nodes[number]), positions[number])
            changes[number] += change[rows[number][place]]
        nodes[going] = tree.extend(nodes[going], np.array([rows[number][place] for number in going]))
    return changes
