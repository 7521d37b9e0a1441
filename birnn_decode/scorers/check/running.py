"""Checks that a scorer gives the same scores however it is called."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from birnn_decode.backend import Array
from birnn_decode.scorers.check.basics import (
    PRECISIONS,
    Basics,
    Broken,
    Fault,
    Reader,
    Skip,
    length_of,
    log_sum_exp,
    numbers_of,
)

SINGLE_WORDS = 32  # words that are read after START to check that scores are finite


class Running(Basics):
    """The checks without captions. Each method returns if all is well, and raises ``Fault`` or ``Skip`` otherwise."""

    def vocabulary(self) -> None:
        """Check that the scorer, its vocabulary and the other direction have the same words."""
        size = operator.index(self.scorer.vocab_size)
        vocab: Any = self.vocab
        # A table of embeddings may be longer than the vocabulary, if the other ids are never written.
        if hasattr(vocab, "__len__") and (len(vocab) > size or set(range(len(vocab), size)) - self.never):
            raise Fault("vocabulary", f"the vocabulary has {len(vocab)} ids, but the scorer's vocab_size is {size}")
        if self.other is not None:
            others = operator.index(self.other.vocab_size)
            if others != size:
                raise Fault("vocabulary", f"vocab_size is {size} here, but {others} in the other direction's scorer")
            mine, theirs = (getattr(scorer, "vocabulary", None) for scorer in (self.scorer, self.other))
            if mine is not None and theirs is not None and mine is not theirs:
                self._compare_words(mine, theirs)
        if not self.words:
            raise Fault("vocabulary", f"all {size} ids are in never, so none is a word", "remove the words from never")

    def _compare_words(self, mine: Any, theirs: Any) -> None:
        """Raise a ``Fault`` if an id stands for different words in two vocabularies."""
        for token in range(self.scorer.vocab_size):
            try:
                word, other = mine.decode([token]), theirs.decode([token])
            except Exception:
                return
            if word != other:
                raise Fault("vocabulary", f"id {token} is {word!r} here, but {other!r} in the other direction's scorer")

    def shapes(self) -> None:
        """Check that images can be read alone and together, and that each row gets vocab_size scores."""
        try:
            self.alone = np.concatenate([self.reader.run([at], self.tokens[at : at + 1]) for at in self.all])
        except Broken as broken:
            fault = self.blame(broken, "shapes")
            if fault.fault == "shapes":
                with contextlib.suppress(Broken, Fault):
                    self.reader.run(self.all, self.tokens)
                    fault = Fault("batch", f"all images can be read in one batch, but not each alone: {broken}")
            raise fault from None
        self.together = self.reader.run(self.all, self.tokens)
        arrays = [self.reader.first, *(own for part in self.modules for own in part.parameters(recurse=False))]
        dtypes = [str(array.dtype).rpartition(".")[2] for array in arrays]
        on_gpu = "cuda" in str(getattr(self.reader.first, "device", "cpu"))
        usual = "TensorFloat32" if on_gpu and dtypes[0] == "float32" else "float32"
        self.precision = next((half for half in ("bfloat16", "float16") if half in dtypes), usual)
        self.tolerance, self.lowest = PRECISIONS[self.precision]
        if self.length > 1:  # the model must know the largest id
            self.reader.run(self.all[:1], np.array([[self.scorer.start_token, self.words[-1]]]))

    def finite(self) -> None:
        """Check that no prefix gives NaN or +inf; -inf is allowed."""
        self.check_finite(self.alone, self.tokens, "read alone")
        self.check_finite(self.together, self.tokens, "in a batch")
        for _ in range(2):
            tokens = self.draw(len(self.all))
            self.check_finite(self.reader.run(self.all, tokens), tokens, "in a batch")
        if self.length > 1:  # a batch that reads as many different words as possible
            words = self.words if len(self.words) <= SINGLE_WORDS else self.random.choice(self.words, SINGLE_WORDS)
            tokens = np.asarray([[self.scorer.start_token, word] for word in words])
            images = [self.all[at * len(self.all) // len(words)] for at in range(len(words))]
            self.crowd = images, tokens, self.reader.run(images, tokens)
            self.check_finite(self.crowd[2], tokens, "in a batch")

    def randomness(self) -> None:
        """Check that two runs from ``encode`` on give the same scores."""
        for numbers, before in ((self.all, self.together), (self.all[:1], self.alone[:1])):
            again = self.expected(numbers, self.tokens[: len(numbers)])
            for row in self.differing(again, self.reader.log_probs(before)):
                raise Fault(
                    "randomness",
                    f"two runs of the same tokens from encode on give different scores (image {row}): dropout or other "
                    "noise is on, or the model keeps something from one run to the next",
                )

    def normalisation(self) -> None:
        """Check that scores are log-probabilities if declared as such, and never plain probabilities."""
        scores = np.concatenate([self.alone, self.together])
        sums = log_sum_exp(scores)
        # Words that are ruled out after the softmax leave a sum below one, which is allowed.
        odd = np.where(np.isneginf(scores).any(axis=-1, keepdims=True), np.maximum(sums, 0), sums)
        if self.reader.normalized and np.abs(odd).max() > max(1e-2, 10 * self.tolerance):
            raise Fault(
                "normalisation",
                "normalized=True says that step returns log-probabilities, but they are logits: their logsumexp is "
                f"{odd.flat[np.abs(odd).argmax()]:.3f}, not 0",
                "leave out normalized=True, or return their log_softmax",
            )
        if scores.shape[-1] > 1 and scores.min() >= 0 and np.abs(scores.sum(axis=-1) - 1).max() < 1e-2:
            raise Fault(
                "normalisation",
                "step returns probabilities (none is negative and they sum to 1), which a search would read as logits",
                "return the logits from before the softmax, or return the log of the probabilities and declare "
                "normalized=True",
            )

    def batch(self) -> None:
        """Check that an image gets the same scores alone and in a batch, in any order."""
        alone = self.reader.log_probs(self.alone)
        back = self.reader.run(self.all[::-1], self.tokens[::-1])[::-1]
        for scores, how in ((self.together, "in the batch of all"), (back, "in the batch in reverse order")):
            got = self.reader.log_probs(scores)
            self._raise_if_padding(self.differing(got, alone), how)
            for row in self.differing(got, alone):
                if (image := self.image_of(got[row], self.tokens[row], row)) is not None:
                    raise Fault(
                        "features",
                        f"{how}, the row of image {row} is scored with image {image}'s features",
                        "give each row the features of the image that it belongs to: put them into the state, along "
                        "the axis that counts the rows",
                    )
                far = np.abs(np.maximum(got[row], self.lowest) - np.maximum(alone[row], self.lowest)).max()
                raise Fault(
                    "batch",
                    f"{how}, the log-probabilities of image {row} differ by up to {far:.2g} nats from those that it "
                    "gets alone: its scores depend on the batch",
                )
        if self.length > 1:
            images, tokens, scores = self.crowd
            for begin in range(0, len(images), len(self.all)):
                few = slice(begin, begin + len(self.all))
                for row in self.differing(self.reader.log_probs(scores[few]), self.expected(images[few], tokens[few])):
                    raise Fault(
                        "batch",
                        f"row {begin + row} of {len(images)} gets other scores than in a batch of {len(self.all)} rows",
                    )

    def _raise_if_padding(self, differing: Iterable[int], how: str) -> None:
        """Raise a ``Fault`` if the rows that differ are those of the sources that are filled up to the longest one."""
        lengths = [length_of(image) for image in self.reader.images]
        shorter = [row for row in self.all if lengths[row] < max(lengths)]
        if shorter and list(differing) == shorter:
            raise Fault(
                "padding",
                f"{how}, every source that is shorter than the longest one gets other scores than alone: its padding "
                "is read as if it belonged to the source",
            )

    def mutation(self) -> None:
        """Check that a state that was stepped before, with the same token or another, has not changed."""
        context = self.reader.encode(self.all)
        for number in ("first", "second"):
            got, _ = self.reader.read(self.tokens, self.reader.call("start", context))
            if self.differing(self.reader.log_probs(got), self.reader.log_probs(self.together)):
                raise Fault(
                    "mutation",
                    f"the {number} start from one context does not begin anew: start or step changes the context, or "
                    "step changes the state that it is given",
                )
        tokens = self.draw(len(self.all))
        others = np.where(tokens == self.words[0], self.words[-1], self.words[0])
        expected = self.expected(self.all, tokens)
        state = self.reader.begin(self.all)
        for at in range(self.length):
            first, after = self.reader.step(tokens[:, at], state)
            if at:
                self.reader.step(others[:, at], state)
            again, _ = self.reader.step(tokens[:, at], state)
            for scores, how in ((first, "for the first time"), (again, "again")):
                if not self.same(self.reader.log_probs(scores), expected[:, at]):
                    raise Fault(
                        "mutation",
                        f"step changes the state that it is given, or one that it returned before: after {at} words, a "
                        f"state that is used {how} gives other scores than in a separate run",
                    )
            state = after

    def scores(self) -> None:
        """Check that the scores that ``step`` returned do not change later."""
        state = self.reader.begin(self.all)
        kept: list[tuple[Array, np.ndarray]] = []
        for column in self.tokens.T:
            for _ in range(2):
                scores, after = self.reader.scored("step", (len(column),), self.reader.indices(column), state)
                kept.append((scores, numbers_of(scores)))
            state = after
        if not all(np.array_equal(numbers_of(scores), copy) for scores, copy in kept):
            raise Fault("scores", "the scores that step returned change later: a later call writes to the same buffer")

    def steps(self) -> None:
        """Check that tokens read in one call give the same scores as token by token, from the start and later on."""
        numbers = [0, *self.all]
        tokens = self.draw(len(numbers))
        expected = self.expected(numbers, tokens)
        last = max(1, self.length - 1)
        for begin in {0, min(1, last - 1)}:
            state = self.reader.select(self.reader.begin(self.all), numbers)
            _, state = self.reader.read(tokens[:, :begin], state)
            given = self.reader.indices(tokens[:, begin:last])
            scores, after = self.reader.scored("steps", given.shape, given, state)
            got, wanted = self.reader.log_probs(numbers_of(scores)), expected[:, begin:last]
            if self.differing(got, wanted):
                self._raise_shift(got, wanted, "steps's scores", "step's")
                raise Fault("steps", "steps gives other scores than step for the same tokens")
            if last < self.length:
                further, _ = self.reader.step(tokens[:, last], after)
                if not self.same(self.reader.log_probs(further), expected[:, last]):
                    raise Fault("steps", "the state that steps returns continues as if it had read other tokens")
            again, _ = self.reader.step(tokens[:, begin], state)
            if not self.same(self.reader.log_probs(again), expected[:, begin]):
                raise Fault("steps", "steps changes the state that it is given")

    def _raise_shift(self, got: np.ndarray, wanted: np.ndarray, name: str, than: str) -> None:
        """Raise a ``Fault`` if the values got [R, t, vocab] are the wanted ones, one token earlier or later."""
        for one, two, when in ((got[:, 1:], wanted[:, :-1], "later"), (got[:, :-1], wanted[:, 1:], "earlier")):
            if got.shape[1] > 2 and self.same(one, two):
                raise Fault("alignment", f"off by one: {name} equal {than} scores one token {when}")

    def score(self) -> None:
        """Check that sentences scored in one call get the same log-probabilities as token by token."""
        numbers = [0, 0, *self.all[1:]]
        drawn = self.draw(len(numbers))
        # From no words to as many as can be read.
        sentences = [tuple(row[1:][: -at % self.length]) for at, row in enumerate(drawn.tolist())]
        expected = self.expected(numbers, drawn)
        got = self.reader.call("score", self.reader.encode(self.all), np.asarray(numbers, dtype=np.int64), sentences)
        if not isinstance(got, Sequence):
            raise Fault("score", f"score returned a {type(got).__name__}, not a list of arrays")
        if len(got) != len(sentences):
            raise Fault("score", f"score returned {len(got)} arrays for {len(sentences)} sentences")
        for words, terms, table in zip(sentences, got, expected, strict=True):
            values = np.asarray([float(term) for term in terms])
            targets = [*words, self.scorer.end_token]
            if len(values) != len(targets):
                raise Fault(
                    "score", f"score returned {len(values)} terms for {len(words)} words; expected {len(targets)}"
                )
            wanted = table[range(len(targets)), targets]
            if not self.same(values[:, None], wanted[:, None]):
                self._raise_shift(values[None, :, None], wanted[None, :, None], "score's terms", "step's")
                raise Fault(
                    "score", f"score gives other log-probabilities than step for a sentence of {len(words)} words"
                )

    def compared(self) -> None:
        """Check that the scorer agrees with its reference."""
        if self.reference is None:
            raise Skip("needs reference=...")
        sure = Reader(self.reference, self.reader.images)
        if self.scorer.vocab_size != self.reference.vocab_size:
            raise Fault(
                "vocabulary",
                f"the scorer has {self.scorer.vocab_size} ids, but the reference has {self.reference.vocab_size}",
                "pass a reference with the same vocabulary",
            )
        mine, theirs = ((scorer.start_token, scorer.end_token) for scorer in (self.scorer, self.reference))
        if mine != theirs:
            raise Fault(
                "start and end",
                f"(start_token, end_token) is {mine} for the scorer, but {theirs} for the reference",
                "declare the ids that the model was trained to begin and to end with, in its reading order",
            )
        try:
            wanted = sure.log_probs(sure.run(self.all, self.tokens))
        except (Broken, Fault) as error:
            raise Fault("reference", f"the reference itself fails: {error}", "correct the reference") from None
        got = self.reader.log_probs(self.together)
        twice = np.concatenate([self.tokens[:, :1], self.tokens], axis=1)
        trials = (twice, "START is read twice, by start and by step"), (self.tokens[:, 1:], "START is not read at all")
        for row in self.differing(got, wanted):
            self._raise_shift(got, wanted, "the scores", "the reference's")
            for tokens, what in trials:
                with contextlib.suppress(Broken):
                    known = 1 < tokens.shape[1] <= self.most
                    if known and self.same(sure.log_probs(sure.run(self.all, tokens))[:, -2:], got[:, -2:]):
                        raise Fault("alignment", f"off by one: the scores are those of the reference if {what}")
            words = int((self.distance(got, wanted)[row] > 1).argmax())
            raise Fault(
                "reference", f"the scores of image {row} differ from the reference's, first after {words} words"
            )

    def batch_axis(self) -> None:
        """Check that ``select`` gathers on the axis that counts the rows."""
        self._raise_select_fault("batch axis")

    def features(self) -> None:
        """Check that the features of an image stay with its rows and with its context."""
        self._raise_select_fault("features")
        back = self.all[::-1]
        context = self.reader.encode(self.all)
        self.reader.begin(back)
        state = self.reader.call("start", context)
        self.reader.begin(back)
        got, _ = self.reader.read(self.tokens, state)
        for row in self.differing(self.reader.log_probs(got), self.reader.log_probs(self.together)):
            raise Fault(
                "features",
                f"after a later encode, the row of image {row} is scored with other features: the model keeps features "
                "outside the context and the state",
            )
        if not self.images_differ:
            raise Skip("all images give the same scores, so a row does not show which image it belongs to")

    def select(self) -> None:
        """Check that rows continue as before after they are repeated, dropped and reordered."""
        self._raise_select_fault("")

    def _raise_select_fault(self, name: str) -> None:
        """Raise the fault of ``select`` if it has this name, or any name if this one is empty."""
        if self._select_fault is not None and name in ("", self._select_fault.fault):
            raise self._select_fault

    @functools.cached_property
    def _select_fault(self) -> Fault | None:
        """The first fault found in trials of ``select``."""
        last = len(self.all) - 1
        back = self.all[::-1]
        trials: list[tuple[str, bool, list[int], list[int]]] = [  # what, after some words, rows of all, rows of these
            ("reorders the rows", False, self.all, back),
            ("reorders the rows", True, self.all, back),
            ("drops rows", False, self.all, self.all[1:]),
            ("repeats rows", False, self.all, [image for image in self.all for _ in range(2)]),
            ("drops rows", True, self.all, self.all[:1]),
            ("repeats and reorders rows", True, [last, last, 0], [2, 1, 1, 0, 0]),
            ("repeats rows", True, self.all, [0, 0, 0, *self.all[1:]]),
        ]
        for what, late, first, rows in trials:
            if late and self.length < 2:
                continue
            try:
                self._try_select(what, late, first, rows)
            except Broken as broken:
                return self._select_broken(f"when select {what}, {broken}", broken)
            except Fault as fault:
                if fault.fault == "shapes":
                    return Fault("features", f"when select {what}, {fault}")
                return fault
        return None

    def _try_select(self, what: str, late: bool, first: list[int], rows: list[int]) -> None:
        """Raise a ``Fault`` if rows selected at the start, or later, do not continue as the rows that they come from.

        Args:
            what: What the selection does, for the message.
            late: Whether words are read before the rows are selected.
            first: Rows that are selected at the start, before that; no selection is made for ``self.all``.
            rows: The rows to select.
        """
        at = max(1, self.length - 2) if late else 0
        owners = [first[row] for row in rows]
        before = self.draw(len(first))[:, :at]
        tokens = np.concatenate([before[rows], self.draw(len(rows))[:, at:]], axis=1)
        wanted = self.expected(owners, tokens)[:, at:]
        state = self.reader.begin(self.all)
        if first != self.all:
            state = self.reader.select(state, first)
        _, state = self.reader.read(before, state)
        scores, _ = self.reader.read(tokens[:, at:], self.reader.select(state, rows))
        got = self.reader.log_probs(scores)
        for row in self.differing(got, wanted):
            when = f"when select {what} " + (f"after {at - 1} words," if late else "at the start,")
            image = self.image_of(got[row], tokens[row], owners[row])
            source = "values of other rows" if image is None else f"image {image}'s features"
            mixed = f"{when} the row of image {owners[row]} is scored with {source}"
            if probed := self._probe():
                raise Fault(probed.fault, f"{mixed}: {probed}", probed.cure)
            if image is not None or (self.images_differ and what == "reorders the rows" and not late):
                raise Fault("features", mixed)
            raise Fault(
                "select",
                f"{when} the row that was row {rows[row]} before (image {owners[row]}) continues as if it had read "
                "other tokens",
            )

    def _select_broken(self, message: str, broken: Broken) -> Fault:
        """Return the fault behind an exception during or after ``select``."""
        if probed := self._probe():
            return Fault(probed.fault, f"{probed}; {message}", probed.cure)
        if "batch_axis" in str(broken.error) or broken.where == "select":
            return Fault("batch axis", f"select gathers on an axis that does not count the rows: {message}")
        return Fault("features", f"the model seems to expect another number of rows, such as one per image: {message}")

    def _probe(self) -> Fault | None:
        """Return what the shapes of the arrays in the state say about a ``select`` that is known to be wrong."""
        rows = [0, *self.all]
        start = [self.scorer.start_token] * len(self.all)
        try:
            _, alone = self.reader.step(start[:1], self.reader.begin(self.all[:1]))
            state = self.reader.begin(self.all)
            begun = {path: numbers_of(leaf) for path, leaf in _leaves(state) if "float" in str(leaf.dtype)}
            _, state = self.reader.step(start, state)
            selected = self.reader.select(state, rows)
        except (Broken, Fault):
            return None
        one, after = ({path: tuple(leaf.shape) for path, leaf in _leaves(tree)} for tree in (alone, selected))
        features = None
        for path, leaf in _leaves(state):
            shape, single, now = tuple(leaf.shape), one.get(path, ()), after.get(path, ())
            if not len(shape) == len(single) == len(now):
                continue
            axes = [axis for axis in range(len(shape)) if shape[axis] != single[axis]]
            if len(axes) != 1 or now[axes[0]] == len(rows):
                continue
            axis = axes[0]
            shapes = f"{path} has shape {shape} for {len(self.all)} images and {single} for one"
            moved = [at for at in range(len(shape)) if now[at] != shape[at]]
            if moved and now[axis] == shape[axis]:
                return Fault(
                    "batch axis", f"{shapes}: axis {axis} counts the rows, but select gathers on axis {moved[0]}"
                )
            if not moved and not np.array_equal(begun.get(path, np.empty(0)), numbers_of(leaf)):
                return Fault("batch axis", f"{shapes}: axis {axis} counts the rows, but select does not change it")
            how = f"they get shape {now} for {len(rows)} rows" if moved else "they do not change"
            features = features or Fault(
                "features",
                f"{shapes}: these are features of the images, but select does not gather them with the rows: {how}",
            )
        return features

    def views(self) -> None:
        """Check that what ``select`` returned does not change when other rows are selected and read."""
        if self.length < 2:
            raise Skip("the model reads one token only")
        before = max(1, self.length - 2)
        tokens = self.draw(len(self.all))
        rows = {
            "last": [len(self.all) - 1] * len(self.all),
            "given": self.all,
            "second": [0] * len(self.all),
            "first": self.all[::-1],
        }
        wanted = {name: self.expected(given, tokens[given])[:, before:] for name, given in rows.items()}
        _, state = self.reader.read(tokens[:, :before], self.reader.begin(self.all))
        states = {name: self.reader.select(state, rows[name]) for name in ("first", "second", "last")}
        for name, given in rows.items():
            scores, _ = self.reader.read(tokens[given][:, before:], states.get(name, state))
            if not self.same(self.reader.log_probs(scores), wanted[name]):
                raise Fault(
                    "views",
                    "select changes the state that it is given"
                    if name == "given"
                    else f"of three selections from one state, the {name} one continues with other rows: a later "
                    "select or step has overwritten it",
                )

    def join(self) -> None:
        """Check that joined rows continue as before, at different depths if the scorer is not aligned."""
        if self.length < 2:
            raise Skip("the model reads one token only")
        tokens = self.draw(len(self.all))
        depth = max(1, self.length - 2)
        deep, rest = self.all[:1], self.all[1:]
        trials = [  # further tokens read by the row of the first image, how messages call it, cure
            (
                0,
                "joined rows of two states",
                "let join put the rows of the given states one after another, on the axis of the rows in each part",
            ),
            (
                1,
                "joined rows that have read different numbers of tokens, as aligned=False allows,",
                "declare aligned=True (needed for caches and position embeddings), or keep the position of each row in "
                "the state",
            ),
        ]
        if getattr(self.scorer, "aligned", True) or depth + 1 >= self.length:
            del trials[1]
        for further, told, cure in trials:
            long, short = (np.delete(tokens, slice(end, -1), axis=1) for end in (depth + further, depth))
            wanted = np.concatenate([self.expected(deep, long[deep])[:, -1], self.expected(rest, short[rest])[:, -1]])
            try:
                _, state = self.reader.read(tokens[:, :depth], self.reader.begin(self.all))
                one, two = self.reader.select(state, deep), self.reader.select(state, rest)
                _, one = self.reader.read(tokens[deep, depth : depth + further], one)
                got, _ = self.reader.step(tokens[:, -1], self.reader.call("join", [one, two]))
            except Broken as broken:
                raise Fault("join", f"{told} fail: {broken}", cure) from None
            if not self.same(self.reader.log_probs(got), wanted):
                raise Fault("join", f"{told} get other scores than without join", cure)


def _leaves(state: Any, path: str = "state", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each array in a state, as far as they can be found."""
    if depth > 6 or isinstance(state, (str, bytes, int, float)) or callable(state):
        return
    if hasattr(state, "shape") and hasattr(state, "dtype"):
        if len(state.shape):
            yield path, state
        return
    if isinstance(state, (Mapping, list, tuple)):
        items = state.items() if isinstance(state, Mapping) else enumerate(state)
        parts = {f"[{key!r}]": entry for key, entry in items}
    else:
        parts = {f".{name}": entry for name, entry in getattr(state, "__dict__", {}).items()}
    for name, entry in parts.items():
        yield from _leaves(entry, path + name, depth + 1)
