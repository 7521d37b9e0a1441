"""Constraints as the searches hold them: what they rule out behind a prefix, and what prefixes pay.

A search asks, for each prefix at hand, what may come next: words that a constraint rules out are no candidates, and a
candidate may have to pay, in nats, for what a score hook takes off a model's score or for words that other sentences
have (see `birnn_decode.constraints`). What a prefix has paid goes with it, beside its log-probability and never in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

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
from birnn_decode.template import FixedTemplate

if TYPE_CHECKING:
    from birnn_decode.search.problem import Direction
    from birnn_decode.search.tree import Nodes

NEVER = float("-inf")
ROUNDING = 1e-4  # nats by which a hook may raise a score that it computes in single precision


class Sentence(Protocol):
    """A finished sentence, as far as constraints are concerned; see `birnn_decode.search.finalists.Finalist`."""

    item: int
    template: FixedTemplate
    words: tuple[int, ...]
    penalty: float | None
    broken: tuple[str, ...]


class Paid(NamedTuple):
    """What a prefix has paid, in nats: above 0 where a hook has raised scores.

    Attributes:
        changes: what hooks have added to its terms; counts with its direction's weight.
        cost: what its words cost, whoever chose them.
    """

    changes: float = 0.0
    cost: float = 0.0


@dataclass(eq=False)
class Held:
    """What is asked of the sentences of one problem in one search.

    Attributes:
        template: that they fill, narrowed by what constraints say of single positions; of a caption that is written
            freely, as many positions as it may have.
        constraints: that concern several positions, at most one of them a `MustAppear`.
        hooks: that change scores.
        costs: for each position what words cost there, in nats.
        share: of what hooks change that counts.
        may_end: of a caption that is written freely, whether it may end with these words; else None.
    """

    template: FixedTemplate
    constraints: Sequence[Constraint] = ()
    hooks: Sequence[Hook] = ()
    costs: Sequence[Mapping[int, float]] = ()
    share: float = 1.0
    may_end: Callable[[tuple[int, ...]], bool] | None = None
    _paid: dict[tuple[str, int], Paid] = field(default_factory=dict)

    def ruled_out(self, words: Sequence[int], at: int) -> Ruled:
        """What may not stand at a position, given words in sentence order, -1 where nothing is decided."""
        return ruled_out(self.constraints, words, at, self.template)

    def broken(self, words: Sequence[int]) -> bool:
        """Whether a whole sentence breaks any."""
        return any(one.broken(words, self.template) for one in self.constraints)

    def missing(self, words: Sequence[int]) -> frozenset[int]:
        """The words that must appear and do not yet."""
        return frozenset() if self._must is None else self._must.missing(words, self.template)

    def required(self) -> int:
        """How many words must appear."""
        return 0 if self._must is None else len(self._must.ids)

    @property
    def _must(self) -> MustAppear | None:
        return next((one for one in self.constraints if isinstance(one, MustAppear)), None)

    def cost(self, at: int) -> Mapping[int, float]:
        """What words cost at a position."""
        return self.costs[at] if at < len(self.costs) else {}

    def words(self, direction: Direction, node: int) -> list[int]:
        """What is decided where one direction has read so far, in sentence order."""
        words = [position if isinstance(position, int) else UNDECIDED for position in self.template.positions]
        (read,) = direction.tree.words(np.array([node]))
        if read:
            begin = len(words) - len(read) if direction.reverse else 0
            words[begin : begin + len(read)] = direction.words_in_reading_order(read)
        return words

    def paid(self, direction: Direction, node: int) -> Paid:
        """What a prefix has paid."""
        tree = direction.tree
        while (paid := self._paid.get((tree.name, node))) is None and tree.depths[node] > 0:
            node = int(tree.parents[node])  # known words pay nothing
        return paid or Paid()

    def change(self, direction: Direction, node: int, position: int) -> np.ndarray:
        """What hooks add to the log-probabilities behind a prefix, as far as it counts, [vocab]."""
        return self.share * changed_by(self.hooks, direction, node, position)

    def pay(self, direction: Direction, parent: int, child: int, paid: Paid) -> None:
        """Remember what a prefix pays for its last word, besides what it has paid before."""
        before = self.paid(direction, parent)
        self._paid[direction.tree.name, child] = Paid(before.changes + paid.changes, before.cost + paid.cost)


class Hold(NamedTuple):
    """A problem at one place of one direction's reading order.

    Attributes:
        held: what is asked of its sentences.
        place: where the next word stands.
        fast: whether what is ruled out is no candidate.
        costs: whether candidates pay for themselves what words cost.
    """

    held: Held
    place: int
    fast: bool = True
    costs: bool = True

    def across(self) -> Hold:
        """What the opposite beams are asked there: neither what is ruled out, nor what words cost whoever says them."""
        return Hold(self.held, len(self.held.template) - 1 - self.place, fast=False, costs=False)

    def candidates(self, direction: Direction, node: int, weight: float, extra: np.ndarray) -> np.ndarray | None:
        """Write what candidates behind a prefix pay to ``extra``, [vocab], and -inf where they are none.

        Returns:
            what hooks change, [vocab]; None where there are none.
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
        if self.fast:
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


class Restraint:
    """What constraints do to the candidates of some beams.

    Args:
        direction: whose beams.
        holds: one for each problem; None: nothing is asked of it.
        beams: nodes [problems, beams], -1 where there is none.
        weight: of the direction's log-probability.

    Attributes:
        shift: what the beams have paid, [problems, beams].
        extra: what candidates pay, -inf where they are none, [problems, beams, vocab].
        banks: how many of the words that must appear a candidate has, [problems, beams, vocab]; None: none must.
    """

    def __init__(self, direction: Direction, holds: Sequence[Hold | None], beams: Nodes, weight: float):
        self.shift = np.zeros(beams.shape)
        self.extra = np.zeros((*beams.shape, direction.tree.scorer.vocab_size))
        some_must = any(hold is not None and hold.held.required() for hold in holds)
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
            if self.banks is not None:
                missing = hold.held.missing(hold.held.words(direction, node))
                self.banks[row, beam] = hold.held.required() - len(missing)
                self.banks[row, beam, list(missing)] += 1

    def pay(self, rows: np.ndarray, beams: np.ndarray, parents: Nodes, children: Nodes) -> None:
        """Remember what candidates have paid that were chosen, behind some beams of some rows."""
        for row, beam, parent, child in np.stack([rows, beams, parents, children], axis=1).tolist():
            hold = self._holds[row]
            if hold is None or not (hold.held.hooks or hold.held.costs):
                continue
            token = int(self._direction.tree.tokens[child])
            at = self._direction.position(hold.place, len(hold.held.template))
            change = self._changes[row, beam]
            cost = hold.held.cost(at).get(token, 0.0) if at >= 0 else 0.0
            hold.held.pay(self._direction, parent, child, Paid(0.0 if change is None else float(change[token]), cost))

    def stuck(self, chosen: Nodes) -> tuple[list[int], list[Hold | None]]:
        """The rows that are left without a candidate, [rows, B], and what these are asked without the constraints."""
        stuck = {row: hold for row, hold in enumerate(self._holds) if hold and hold.fast and chosen[row, 0] < 0}
        return list(stuck), [hold._replace(fast=False) for hold in stuck.values()]


@dataclass(eq=False)
class Demands:
    """What a call asks of its sentences, besides its templates.

    Attributes:
        constraints: resolved.
        hooks: that change scores.
        everything: all words that a blank takes.
        avoided: for each item the sentences that are not wanted again, nor are their words; empty: none.
        strength: nats that each such word costs.
        share: of what hooks change that counts: a half where two models have one softmax.
    """

    constraints: Sequence[Constraint] = ()
    hooks: Sequence[Hook] = ()
    everything: frozenset[int] = frozenset()
    avoided: Sequence[Sequence[tuple[int, ...]]] = ()
    strength: float = 0.0
    share: float = 1.0

    def __bool__(self) -> bool:
        return bool(self.constraints or self.hooks or self.avoided)

    def lowering(self) -> Demands:
        """The same with hooks that are refused when they raise a score."""
        return replace(self, hooks=[_Lowering(hook) for hook in self.hooks])

    def possible(self, templates: Sequence[FixedTemplate]) -> Sequence[FixedTemplate]:
        """The templates that some sentence can satisfy the constraints with, narrowed to what these leave."""
        if not self.constraints:
            return templates
        return [
            narrowed
            for template in templates
            if possible(self.constraints, template, self.everything)
            and (narrowed := narrow(self.constraints, template, self.everything)) is not None
        ]

    def hold(self, item: int, template: FixedTemplate) -> Held | None:
        """What a search holds of an item at one choice of widths, its template narrowed; None: nothing."""
        several = self._of_several(item)
        costs = self._costs(item, template)
        return Held(template, several, self.hooks, costs, self.share) if several or self.hooks or costs else None

    def hold_freely(self, item: int, reverse: bool, max_length: int) -> Held | None:
        """What a direction holds of an item that it writes a whole caption of, whose length is not known yet."""
        if not self:
            return None
        seen = [one for one in self.constraints if one.seen_from(reverse)]
        longest = FixedTemplate.all_blank(max_length)
        template = narrow(seen, longest, self.everything)
        assert template is not None  # lengths that constraints leave no sentence of are not asked for
        costs = () if reverse else self._costs(item, template)

        def may_end(words: tuple[int, ...]) -> bool:
            return not self.broken(item, words, FixedTemplate.all_blank(len(words)))

        return Held(template, self._of_several(item), self.hooks, costs, self.share, may_end)

    def broken(self, item: int, words: tuple[int, ...], template: FixedTemplate) -> tuple[str, ...]:
        """The constraints that a sentence breaks, by name."""
        return tuple(str(one) for one in self._of(item) if not one.satisfied(words, template))

    def avoids(self, item: int) -> Sequence[tuple[int, ...]]:
        """The sentences that are not wanted again of an item."""
        return self.avoided[item] if self.avoided else ()

    def _of(self, item: int) -> Sequence[Constraint]:
        avoided = self.avoids(item)
        return [*self.constraints, Unlike(avoided)] if avoided else self.constraints

    def _of_several(self, item: int) -> list[Constraint]:
        return joining(self._of(item))

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
        """Write to finalists what they break and what they pay, but where it is known already."""
        new = [one for one in finalists if one.penalty is None]
        for one in new:
            one.broken = self.broken(one.item, one.words, one.template)
            costs = self._costs(one.item, one.template)
            one.penalty = -math.fsum(cost.get(word, 0.0) for cost, word in zip(costs, one.words, strict=False))
        for direction, weight in weights.items() if self.hooks else ():
            for one, change in zip(new, changes_of(direction, new, self.hooks).tolist(), strict=True):
                one.penalty += weight * self.share * change


class _Lowering:
    """A hook of which it is checked that it raises no score."""

    def __init__(self, hook: Hook):
        self._hook = hook
        self.__name__ = name_of(hook)

    def __call__(self, position: int, prefix: tuple[int, ...], scores: np.ndarray) -> np.ndarray:
        given = scores_by(self._hook, position, prefix, scores)
        if (given > scores + ROUNDING).any():
            raise ValueError(
                f"the score hook {self.__name__} raises scores, as at position {position}: an exact search needs hooks "
                "that only lower them, since its proof rests on no word making a sentence better"
            )
        lowered: np.ndarray = np.minimum(given, scores)
        return lowered


def name_of(hook: Hook) -> str:
    """What a hook is called in messages."""
    return str(getattr(hook, "__name__", type(hook).__name__))


def scores_by(hook: Hook, position: int, prefix: tuple[int, ...], scores: np.ndarray) -> np.ndarray:
    """What a hook makes of scores, as float64; it may return an array of either library.

    Raises:
        TypeError, ValueError: it returned something else than scores.
    """
    given = hook(position, prefix, scores.copy())
    if hasattr(given, "detach"):
        given = given.detach().cpu().double().numpy()
    name = f"the score hook {name_of(hook)}"
    if not isinstance(given, np.ndarray) or given.shape != scores.shape or given.dtype.kind not in "fiu":
        shape = getattr(given, "shape", None)
        what = type(given).__name__ if shape is None else f"an array of shape {tuple(shape)}, {given.dtype}"
        raise TypeError(f"{name} returned {what}, at position {position}; expected numbers {scores.shape}")
    if not (given < np.inf).all():
        raise ValueError(f"{name} returned NaN or +inf at position {position}; scores are finite, or -inf")
    return given.astype(np.float64)


def changed_by(hooks: Sequence[Hook], direction: Direction, node: int, position: int) -> np.ndarray:
    """What hooks add to the log-probabilities of the words behind a prefix that was read, [vocab]."""
    scores, normalisers = direction.tree.continuations(np.array([node]))
    log_probs = scores[0] - normalisers[0]
    (prefix,) = direction.tree.words(np.array([node]))
    changed = log_probs
    for hook in hooks:
        changed = scores_by(hook, position, prefix, changed)
    with np.errstate(invalid="ignore"):  # what is impossible stays so
        return np.where(np.isneginf(log_probs), 0.0, changed - log_probs)


def weighed(changes: np.ndarray, weight: float) -> np.ndarray:
    """Changes of scores times the weight of their model; 0 drops them, -inf included."""
    return weight * changes if weight else np.zeros_like(changes)


def changes_of(direction: Direction, finalists: Sequence[Sentence], hooks: Sequence[Hook]) -> np.ndarray:
    """What hooks add to a direction's terms of each sentence, [finalists]; reads it up to its last blank position."""
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
