"""Checks that rows stay themselves, however they are selected and joined."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from birnn_decode.scorers.check.basics import Basics
from birnn_decode.scorers.check.reading import Broken, Fault, Skip, numbers_of

_AXIS = "declare, or gather on, the axis of each tensor of the state that has one entry per row"
_GATHER = (
    "put what is known of the images into the state, once, with one entry per row, and let select gather it like the "
    "rest of the state (in a TorchScorer: give it a batch_axis, not None)"
)


class Rows(Basics):
    """The checks of rows, one method each: it returns where all is well, and raises `Fault` or `Skip`."""

    def batch_axis(self) -> None:
        """Rows are gathered on the axis that counts them."""
        self._tell_select("batch axis")

    def features(self) -> None:
        """What is known of an image goes with its rows, and stays with its context."""
        self._tell_select("features")
        cure = "put what encode gives into the state that start returns; keep nothing of the images in the model"
        kept = "features kept in the model, by a later encode, reach the states of an earlier one"
        back = self.all[::-1]
        context = self.reader.encode(self.all)
        self.reader.begin(back)
        state = self.reader.call("start", context)
        self.reader.begin(back)
        got = self.reader.log_probs(self.reader.run(self.all, self.tokens, state))
        for row in self.differing(got, self.reader.log_probs(self.together)):
            raise Fault("features", f"{kept}: the row of image {row} is scored with other features", cure)
        if not self.told_apart:
            raise Skip("all images give the same scores, so their rows cannot be told apart")

    def select(self) -> None:
        """Rows that are repeated, dropped and reordered go on as those they are of."""
        if self._select_fault is not None:
            raise self._select_fault

    def _tell_select(self, name: str) -> None:
        fault = self._select_fault
        if fault is not None and fault.fault == name:
            raise fault

    @functools.cached_property
    def _select_fault(self) -> Fault | None:
        last = len(self.all) - 1
        back = self.all[::-1]
        twice = [image for image in self.all for _ in range(2)]
        plans: list[tuple[str, list[int] | None, list[int] | None]] = [
            ("reorders the rows", back, None),
            ("reorders the rows", None, back),
            ("drops rows", self.all[1:], None),
            ("repeats rows", twice, None),
            ("drops rows", None, self.all[:1]),
            ("repeats and reorders rows", [last, last, 0], [2, 1, 1, 0, 0]),
            ("repeats rows", None, [0, 0, 0, *self.all[1:]]),
        ]
        for what, first, then in plans:
            if then is not None and self.length < 2:
                continue
            try:
                fault = self._trial(what, first, then)
            except Broken as broken:
                fault = self._select_broken(what, broken)
            except Fault as wrong:
                fault = wrong
                if wrong.fault == "shapes":
                    fault = Fault("features", f"after select, which {what}, {wrong.message}", _GATHER)
            if fault is not None:
                return fault
        return None

    def _trial(self, what: str, first: list[int] | None, then: list[int] | None) -> Fault | None:
        rows = self.all if first is None else first
        before = self.length if then is None else max(1, self.length - 2)
        tokens = self.draw(len(rows), before)
        owners = rows
        if then is not None:
            owners = [rows[row] for row in then]
            after = self.draw(len(then), self.length)[:, before:]
            later = np.concatenate([tokens[then], after], axis=1)
            wanted = self.expected(owners, later)
        else:
            later = tokens
            wanted = self.expected(owners, tokens)
        state = self.reader.begin(self.all)
        if first is not None:
            state = self.reader.select(state, first)
        if then is None:
            got = self.reader.log_probs(self.reader.run([], tokens, state))
        else:
            for column in tokens.T:
                _, state = self.reader.step(column.tolist(), state)
            state = self.reader.select(state, then)
            got = self.reader.log_probs(self.reader.run([], after, state))
            wanted = wanted[:, before:]
        wrong = self.differing(got, wanted)
        if not wrong:
            return None
        row = wrong[0]
        when = "at the start" if then is None else f"after {before - 1} words"
        told = f"after select, which {what} {when},"
        probed = self._probe()
        image = self.image_of(got[row], later[row], owners[row])
        mixed = f"the row of image {owners[row]} is scored with "
        mixed += "what belongs to other rows" if image is None else f"image {image}'s features"
        if probed is not None:
            return Fault(probed.fault, f"{told} {mixed}: {probed.message}", probed.cure)
        if image is not None:
            return Fault("features", f"{told} {mixed}", _GATHER)
        if self.told_apart and what.startswith("reorders") and first is not None:
            return Fault("features", f"{told} {mixed}, as if a part of the state had not been gathered", _GATHER)
        return Fault(
            "select",
            f"{told} the row that was row {row if then is None else then[row]} (image {owners[row]}) goes on as if it "
            "had read something else",
            "let select gather the given rows of every part of the state, in the given order",
        )

    def _select_broken(self, what: str, broken: Broken) -> Fault:
        told = f"after select, which {what}, {broken.line}"
        probed = self._probe()
        if probed is not None:
            return Fault(probed.fault, f"{probed.message}; {told}", probed.cure)
        if "batch_axis" in str(broken.error) or broken.where == "select":
            return Fault("batch axis", f"rows are looked for on an axis that does not count them: {told}", _AXIS)
        return Fault(
            "features",
            f"the model seems to hold on to another number of rows, such as one for each image: {told}",
            _GATHER,
        )

    def _probe(self) -> Fault | None:
        """What the shapes of the state's arrays tell of a select that is known to go wrong."""
        try:
            states = []
            for numbers in (self.all[:1], self.all):
                before = self.reader.begin(numbers)
                if numbers is self.all:
                    begun = {path: numbers_of(leaf) for path, leaf in _leaves(before) if _is_float(leaf)}
                states.append(self.reader.step([self.scorer.start_token] * len(numbers), before)[1])
            one, many = (dict(_leaves(state)) for state in states)
            rows = [0, *self.all]
            selected = {path: tuple(leaf.shape) for path, leaf in _leaves(self.reader.select(states[1], rows))}
            fault = None
            for path, leaf in many.items():
                shape, single = tuple(leaf.shape), tuple(one[path].shape) if path in one else ()
                if len(shape) != len(single) or path not in selected or len(selected[path]) != len(shape):
                    continue
                axes = [axis for axis in range(len(shape)) if shape[axis] != single[axis]]
                if len(axes) != 1 or selected[path][axes[0]] == len(rows):
                    continue
                axis, now = axes[0], selected[path]
                still = path in begun and begun[path].shape == shape and np.array_equal(begun[path], numbers_of(leaf))
                counts = f"{path} has shape {shape} for {len(self.all)} images and {single} for one"
                if now != shape and now[axis] == shape[axis]:
                    moved = next(at for at in range(len(shape)) if now[at] != shape[at])
                    return Fault(
                        "batch axis",
                        f"{counts}: axis {axis} counts the rows, and select gathers on axis {moved}",
                        _AXIS,
                    )
                if now == shape and not still:
                    told = f"{counts}: axis {axis} counts the rows, and select leaves it as it is"
                    return Fault("batch axis", told, _AXIS)
                how = "leaves it as it is" if now == shape else f"makes {now} of it for {len(rows)} rows"
                told = f"{counts}: what is known of the images is not gathered along with the rows, select {how}"
                fault = fault or Fault("features", told, _GATHER)
            return fault
        except (Broken, Fault):
            return None

    def views(self) -> None:
        """What `select` returns stays as it is when other rows are selected and read."""
        cure = "let select return new arrays: no buffer that is used again, no view, no reordering in place"
        told = "select returns what does not stay as it is"
        if self.length < 2:
            raise Skip("the model reads one token only")
        last = len(self.all) - 1
        before = max(1, self.length - 2)
        tokens = self.draw(len(self.all))
        rows = {"first": self.all[::-1], "second": [0] * len(self.all), "last": [last] * len(self.all)}
        wanted = {name: self.expected(given, tokens[given]) for name, given in rows.items()}
        kept = self.expected(self.all, tokens)
        try:
            state = self.reader.begin(self.all)
            for column in tokens[:, :before].T:
                _, state = self.reader.step(column.tolist(), state)
            states = {name: self.reader.select(state, given) for name, given in rows.items()}
            for name in ("last", "given", "second", "first"):
                given = self.all if name == "given" else rows[name]
                got = self.reader.run([], tokens[given][:, before:], state if name == "given" else states[name])
                right = (kept if name == "given" else wanted[name])[:, before:]
                if self.differing(self.reader.log_probs(got), right):
                    what = (
                        "select changes the state that it is given"
                        if name == "given"
                        else f"{told}: the rows of the {name} of three selections of one state go on as if they were "
                        "others, because a later select or step has overwritten them"
                    )
                    raise Fault("views", what, cure)
        except Broken as broken:
            raise Fault("views", f"{told}: after three selections of one state, {broken.line}", cure) from None

    def join(self) -> None:
        """Rows of two states go on side by side, at different depths where the scorer is not aligned."""
        if getattr(self.scorer, "join", None) is None:
            raise Skip("the scorer has no join")
        if self.length < 2:
            raise Skip("the model reads one token only")
        tokens = self.draw(len(self.all))
        depth = max(1, self.length - 2)
        cure = "let join put the rows of the given states one after another, all parts of them on the axis of the rows"
        for further in (0, 1) if not self.aligned and depth + 1 < self.length else (0,):
            deep, rest = self.all[:1], self.all[1:]
            long = np.concatenate([tokens[:1, : depth + further], tokens[:1, -1:]], axis=1)
            short = np.concatenate([tokens[1:, :depth], tokens[1:, -1:]], axis=1)
            wanted = np.concatenate([self.expected(deep, long)[:, -1], self.expected(rest, short)[:, -1]])
            odd = Fault(
                "join",
                "aligned=False says that rows in one step may have read different numbers of tokens, and then their "
                "scores are wrong",
                "declare aligned=True (caches and position embeddings need it), or keep each row's position in the "
                "state",
            )
            try:
                state = self.reader.begin(self.all)
                for column in tokens[:, :depth].T:
                    _, state = self.reader.step(column.tolist(), state)
                one, two = self.reader.select(state, deep), self.reader.select(state, rest)
                for column in tokens[:1, depth : depth + further].T:
                    _, one = self.reader.step(column.tolist(), one)
                joined = self.reader.call("join", [one, two])
                got, _ = self.reader.step([int(long[0, -1]), *short[:, -1].tolist()], joined)
            except Broken as broken:
                if further:
                    raise Fault("join", f"{odd.message}: {broken.line}", odd.cure) from None
                raise Fault("join", f"rows of two states cannot be joined: {broken.line}", cure) from None
            if not self.same(self.reader.log_probs(got), wanted):
                raise (
                    odd
                    if further
                    else Fault(
                        "join", "rows of two states that are joined go on as if they had read something else", cure
                    )
                )


def _is_float(leaf: Any) -> bool:
    return "float" in str(leaf.dtype)


def _leaves(state: Any, path: str = "state", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The arrays in a state, as far as they can be seen."""
    if depth > 6 or state is None or isinstance(state, (str, bytes, int, float)) or callable(state):
        return
    if hasattr(state, "shape") and hasattr(state, "dtype"):
        if len(state.shape):
            yield path, state
    elif isinstance(state, Mapping):
        for key, entry in state.items():
            yield from _leaves(entry, f"{path}[{key!r}]", depth + 1)
    elif isinstance(state, (list, tuple)):
        for at, entry in enumerate(state):
            yield from _leaves(entry, f"{path}[{at}]", depth + 1)
    elif hasattr(state, "__dict__"):
        for key, entry in vars(state).items():
            yield from _leaves(entry, f"{path}.{key}", depth + 1)
