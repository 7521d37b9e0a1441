"""Checks that a scorer agrees with itself, however it is called."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from birnn_decode.backend import Array
from birnn_decode.scorers.check.basics import Basics, batch_fault
from birnn_decode.scorers.check.reading import Broken, Fault, Reader, Skip, log_sum_exp, numbers_of

SINGLE_WORDS = 32  # that are read after START to see that scores are finite
LOWEST = {"float16": -12.0, "bfloat16": -12.0}  # below it, log-probabilities count as equal
TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1}
CUDA_TOLERANCE = 2e-3  # TensorFloat32, cuDNN's default, keeps 10 bits


class Running(Basics):
    """The checks that read, one method each: it returns where all is well, and raises `Fault` or `Skip`."""

    def vocabulary(self) -> None:
        """Sizes of the scorer, its vocabulary and the other direction agree, and so do their words."""
        size = operator.index(self.scorer.vocab_size)
        cure = "both models and the vocabulary must have the same words at the same ids"
        vocab: Any = self.vocab
        if vocab is not None and hasattr(vocab, "__len__"):
            # A table of embeddings may be longer than the vocabulary, if the rest of it is never written.
            beyond = set(range(len(vocab), size)) - self.never
            if len(vocab) > size or beyond:
                raise Fault(
                    "vocabulary", f"the vocabulary has {len(vocab)} ids, and the scorer's vocab_size is {size}", cure
                )
        if self.other is not None:
            others = operator.index(self.other.vocab_size)
            if others != size:
                raise Fault(
                    "vocabulary", f"this scorer's vocab_size is {size}, the other direction's is {others}", cure
                )
            mine, theirs = (getattr(scorer, "vocabulary", None) for scorer in (self.scorer, self.other))
            if mine is not None and theirs is not None and mine is not theirs:
                for token in range(size):
                    try:
                        texts = mine.decode([token]), theirs.decode([token])
                    except Exception:
                        break
                    if texts[0] != texts[1]:
                        raise Fault(
                            "vocabulary",
                            f"id {token} is {texts[0]!r} for this scorer and {texts[1]!r} for the other direction's",
                            cure,
                        )
        if not self.words:
            raise Fault("vocabulary", f"none of the {size} ids is a word: never has all of them", "correct never")

    def shapes(self) -> None:
        """Images alone and together can be read, and there are as many scores as there should be."""
        self.tokens = self.draw(len(self.all))
        try:
            self.alone = np.concatenate([self.reader.run([at], self.tokens[at : at + 1]) for at in self.all])
        except Broken as broken:
            blamed = self.blame(broken, "shapes")
            if blamed.fault == "shapes":
                try:
                    self.reader.run(self.all, self.tokens)
                except (Broken, Fault):
                    raise blamed from None
                raise batch_fault(f"all images together can be read, but not one alone: {broken.line}") from None
            raise blamed from None
        self.together = self.reader.run(self.all, self.tokens)
        self._precision()
        if self.length > 1:  # the highest id must be one that the model knows
            self.reader.run(self.all[:1], [[self.scorer.start_token, self.words[-1]]])

    def _precision(self) -> None:
        dtypes = {self.reader.dtype}
        modules = list(self.scorer.modules()) if hasattr(self.scorer, "modules") else []
        dtypes |= {str(own.dtype).rpartition(".")[2] for part in modules for own in part.parameters(recurse=False)}
        self.half = next((dtype for dtype in ("bfloat16", "float16") if dtype in dtypes), "")
        if self.half:
            self.tolerance, self.lowest = TOLERANCE[self.half], LOWEST[self.half]
        elif "cuda" in self.reader.device and self.reader.dtype == "float32":
            self.tolerance = CUDA_TOLERANCE

    def finite(self) -> None:
        """No NaN and no +inf after any prefix; -inf is legal."""
        runs = [("alone", self.alone, self.tokens), ("in a batch", self.together, self.tokens)]
        for _ in range(2):
            tokens = self.draw(len(self.all))
            runs.append(("in a batch", self.reader.run(self.all, tokens), tokens))
        if self.length > 1:  # as many words as possible
            words = self.words if len(self.words) <= SINGLE_WORDS else self.random.choice(self.words, SINGLE_WORDS)
            tokens = np.asarray([[self.scorer.start_token, word] for word in words])
            images = [self.all[at * len(self.all) // len(words)] for at in range(len(words))]
            self.crowd = images, tokens, self.reader.run(images, tokens)
            runs.append(("in a batch", self.crowd[2], tokens))
        for how, scores, tokens in runs:
            bad = np.isnan(scores) | np.isposinf(scores)
            if bad.any():
                row, at, token = (int(number) for number in np.argwhere(bad)[0])
                raise self.not_finite(scores[row, at, token], token, tokens[row, : at + 1].tolist(), f"row {row} {how}")

    def randomness(self) -> None:
        """Two runs from `encode` on are the same."""
        for numbers, before in ((self.all, self.together), (self.all[:1], self.alone[:1])):
            again = self.reader.run(numbers, self.tokens[: len(numbers)])
            rows = self.differing(self.reader.log_probs(again), self.reader.log_probs(before))
            if rows:
                raise Fault(
                    "randomness",
                    f"two runs of the same tokens from encode on differ (image {rows[0]}): dropout or other noise is "
                    "on, or the model keeps something from one run to the next",
                    "give the wrapper model= (all modules), so that it is put in eval mode; functional dropout needs "
                    "training=self.training",
                )

    def normalisation(self) -> None:
        """Log-probabilities sum to one where they are declared as such, and logits are no probabilities."""
        scores = np.concatenate([self.alone, self.together])
        sums = log_sum_exp(scores)
        # Words that were ruled out after the softmax leave less than one, and that is nobody's fault.
        odd = np.where(np.isneginf(scores).any(axis=-1, keepdims=True), np.maximum(sums, 0), sums)
        if self.reader.normalized and np.abs(odd).max() > max(1e-2, 10 * self.tolerance):
            raise Fault(
                "normalisation",
                f"normalized=True says that step returns log-probabilities, and the log of their sum is "
                f"{odd.flat[np.abs(odd).argmax()]:.3f}, not 0: they are logits",
                "leave out normalized=True, or return log_softmax of them",
            )
        if scores.shape[-1] > 1 and scores.min() >= 0 and np.abs(scores.sum(axis=-1) - 1).max() < 1e-2:
            raise Fault(
                "normalisation",
                "step returns probabilities: all are 0 or more, and they sum to 1; a search would take them for logits",
                "return the logits from before the softmax, or the logs of the probabilities with normalized=True",
            )

    def batch(self) -> None:
        """An image is scored alone as in the batch of all, in whatever order."""
        alone = self.reader.log_probs(self.alone)
        back = self.all[::-1]
        rows = self.reader.run(back, self.tokens[back])[np.argsort(back)]
        for scores, how in ((self.together, "in the batch of all"), (rows, "in the batch in reverse order")):
            got = self.reader.log_probs(scores)
            for row in self.differing(got, alone):
                image = self.image_of(got[row], self.tokens[row], row)
                if image is not None:
                    raise Fault(
                        "features",
                        f"{how}, the row of image {row} is scored with image {image}'s features",
                        "give every row the features of its own image: they belong in the state, along the axis that "
                        "counts the rows",
                    )
                far = np.abs(np.maximum(got[row], self.lowest) - np.maximum(alone[row], self.lowest)).max()
                raise batch_fault(
                    f"image {row} {how} gives other scores than alone, log-probabilities that are up to {far:.2g} nats "
                    "apart: what it is scored with depends on the batch"
                )

        if self.length > 1:
            images, tokens, scores = self.crowd
            got = self.reader.log_probs(scores)
            for begin in range(0, len(images), len(self.all)):
                few = slice(begin, begin + len(self.all))
                for row in self.differing(got[few], self.expected(images[few], tokens[few])):
                    raise batch_fault(
                        f"row {begin + row} of {len(images)} has other scores than in a batch of {len(self.all)} rows"
                    )

    def mutation(self) -> None:
        """A state that was stepped before, with the same token or another, is as it was."""
        cure = (
            "let step make new tensors (no append, no +=, no copy_, no out=) or copy the state first; keep nothing in "
            "the model between steps"
        )
        told = "step changes the state that it is given, or one that it returned before"
        try:
            context = self.reader.encode(self.all)
            for numbers in ("first", "second"):
                got = self.reader.run(self.all, self.tokens, self.reader.call("start", context))
                if self.differing(self.reader.log_probs(got), self.reader.log_probs(self.together)):
                    raise Fault("mutation", f"the {numbers} start of one context does not begin anew: {told}", cure)
            tokens = self.draw(len(self.all))
            others = np.where(tokens == self.words[0], self.words[-1], self.words[0])
            whole = self.expected(self.all, tokens)
            state = self.reader.begin(self.all)
            for at in range(self.length):
                expected = whole[:, at]
                column = tokens[:, at].tolist()
                one, after = self.reader.step(column, state)
                if at:
                    self.reader.step(others[:, at].tolist(), state)
                two, _ = self.reader.step(column, state)
                for scores, how in ((one, "once"), (two, "again, with the same token")):
                    if not self.same(self.reader.log_probs(scores), expected):
                        raise Fault(
                            "mutation",
                            f"{told}: a state from which another token was read, then stepped {how}, after {at} words, "
                            "gives other scores than in a run of its own",
                            cure,
                        )
                state = after
        except Broken as broken:
            raise Fault("mutation", f"{told}: a state that is used twice fails, {broken.line}", cure) from None

    def scores(self) -> None:
        """What `step` returned stays as it is."""
        state = self.reader.begin(self.all)
        kept: list[tuple[Array, np.ndarray]] = []
        for column in self.tokens.T:
            for _ in range(2):
                scores, after = self.reader.step_raw(column.tolist(), state)
                kept.append((scores, numbers_of(scores)))
            state = after
        for scores, copy in kept:
            if not np.array_equal(numbers_of(scores), copy):
                raise Fault(
                    "scores",
                    "scores that step returned change later: a later call writes into the same buffer",
                    "return new scores from every step, or a copy of the buffer",
                )

    def prefill(self) -> None:
        """Prefixes read in one call are those read one token after another."""
        if getattr(self.scorer, "prefill", None) is None:
            raise Skip("the scorer has no prefill")
        items = [0, *self.all]
        whole = self.draw(len(items))
        read = max(1, self.length - 1)
        expected = self.expected(items, whole)
        tokens = whole[:, :read]
        context = self.reader.encode(self.all)
        returned = self.reader.call("prefill", context, self.reader.indices(items), self.reader.matrix(tokens.tolist()))
        scores, state = self.reader.pair(returned, "prefill")
        self.reader.check_shape(scores, (len(items), read), "prefill")
        got = self.reader.log_probs(numbers_of(scores))
        cure = "let prefill read the prefixes of the images numbered items as step would, one token after another"
        if self.differing(got, expected[:, :read]):
            self._tell_shift(got, expected[:, :read], "prefill's scores", "step's")
            raise Fault("prefill", "prefill gives other scores than reading the same tokens with step", cure)
        if read < self.length:
            after, _ = self.reader.step(whole[:, read].tolist(), state)
            if not self.same(self.reader.log_probs(after), expected[:, read]):
                raise Fault("prefill", "the state that prefill returns goes on as if it had read something else", cure)

    def _tell_shift(self, got: np.ndarray, wanted: np.ndarray, name: str, than: str) -> None:
        """Whether got [R, t, vocab] is wanted, a token earlier or later."""
        if got.shape[1] < 3:
            return
        later, earlier = self.same(got[:, 1:], wanted[:, :-1]), self.same(got[:, :-1], wanted[:, 1:])
        if later or earlier:
            raise Fault(
                "alignment",
                f"{name} are those of {than} one token {'later' if later else 'earlier'}: off by one between the "
                "tokens read and the word that is scored",
                "the scores at a token are those of the token after it; START is read first, and by step, not by start",
            )

    def score(self) -> None:
        """Sentences scored in one call are those read one token after another."""
        if getattr(self.scorer, "score", None) is None:
            raise Skip("the scorer has no score")
        numbers = [0, 0, *self.all[1:]]
        lengths = [0, *(1 + (at + self.length) % max(1, self.length - 1) for at in range(len(numbers) - 1))]
        lengths = [min(length, self.length - 1) for length in lengths]
        drawn = self.draw(len(numbers), self.length)
        sentences = [tuple(map(int, row[1 : 1 + length])) for row, length in zip(drawn, lengths, strict=True)]
        expected = self.expected(numbers, drawn)
        context = self.reader.encode(self.all)
        cure = "let score give the log-probability of each word in reading order and, last, of the end, in nats"
        got = self.reader.call("score", context, np.asarray(numbers, dtype=np.int64), sentences)
        if not isinstance(got, Sequence):
            raise Fault("score", f"score returned a {type(got).__name__}, not a list of arrays", cure)
        if len(got) != len(sentences):
            raise Fault("score", f"score gave {len(got)} arrays for {len(sentences)} sentences", cure)
        for words, terms, table in zip(sentences, got, expected, strict=True):
            values = np.asarray([float(term) for term in terms])
            targets = [*words, self.scorer.end_token]
            if len(values) != len(targets):
                raise Fault("score", f"score gave {len(values)} terms for {len(words)} words; one more is due", cure)
            wanted = np.asarray([table[at, token] for at, token in enumerate(targets)])
            if not self.same(values[:, None], wanted[:, None]):
                if len(wanted) > 2:
                    self._tell_shift(values[None, :, None], wanted[None, :, None], "score's terms", "step's")
                raise Fault(
                    "score", f"score gives other log-probabilities than step for a sentence of {len(words)} words", cure
                )

    def compared(self) -> None:
        """The scorer agrees with its reference."""
        if self.reference_scorer is None:
            raise Skip("needs reference=...")
        sure = Reader(self.reference_scorer, self.reader.images)
        mine = (self.scorer.vocab_size, self.scorer.start_token, self.scorer.end_token)
        theirs = (sure.scorer.vocab_size, sure.scorer.start_token, sure.scorer.end_token)
        if mine[0] != theirs[0]:
            raise Fault("vocabulary", f"the reference has {theirs[0]} ids, the scorer {mine[0]}", "compare like models")
        if mine != theirs:
            raise Fault(
                "start and end",
                f"start_token and end_token are {mine[1:]}, and {theirs[1:]} for the reference",
                "give the ids that the model was trained to begin and to end with, in its reading order",
            )
        try:
            wanted = sure.log_probs(sure.run(self.all, self.tokens))
        except (Broken, Fault) as error:
            told = error.line if isinstance(error, Broken) else error.message
            raise Fault("reference", f"the reference itself fails: {told}", "mend the reference") from None
        got = self.reader.log_probs(self.together)
        if not self.differing(got, wanted):
            return
        self._tell_shift(got, wanted, "the scores", "the reference")
        start = self.tokens[:, :1]
        for tokens, what in (
            (np.concatenate([start, self.tokens], axis=1), "START has been read twice, by start and by step"),
            (self.tokens[:, 1:], "START is not read at all"),
        ):
            if not 1 < tokens.shape[1] <= self.most:
                continue
            try:
                odd = sure.log_probs(sure.run(self.all, tokens))
            except (Broken, Fault):
                continue
            if self.same(odd[:, -2:], got[:, -2:]):
                raise Fault(
                    "alignment",
                    f"the scores are those of the reference where {what}: off by one token",
                    "let start return the state before START; the first step reads START",
                )
        rows = self.differing(got, wanted)
        far = self.distance(got, wanted)[rows[0]]
        raise Fault(
            "reference",
            f"the scores of image {rows[0]} differ from the reference's, first after {int((far > 1).argmax())} words",
            "compare the parts of the wrapper with what the model does in its own forward pass",
        )
