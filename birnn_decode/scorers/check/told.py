"""Checks of a scorer against true captions, and of the ids that are no words."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from birnn_decode.scorers.check.basics import Basics, Broken, Fault, Skip
from birnn_decode.scorers.combined import Combined

CLEARLY = 0.1  # nats per token by which another reading of the captions must be better
CLEARLY_FIRST = 1.0  # nats by which another START must be better for first words
STARTS_TRIED = 8
KNOWS = 0.75  # of log(vocab_size): a model with a larger loss on the captions knows nothing about them
SPECIAL_MASS, UNNAMED_MASS, UNKNOWN_MASS = 0.01, 0.05, 0.25  # most probability of an id in never
UNTRAINED_MASS = 0.5  # the same for a model that does not seem to be trained
AVOIDED = 0.1  # of 1 / vocab_size: a model has learnt to avoid an id that never gets more


class Told(Basics):
    """The checks with captions. Each method returns if all is well, and raises ``Fault`` or ``Skip`` otherwise."""

    def _read(self, reverse: bool, swap: bool) -> tuple[np.ndarray, list[list[int]]]:
        """Return log-probabilities after each token of the captions, and the tokens, with START and END."""
        numbers, captions = self.known
        ids = self.scorer.start_token, self.scorer.end_token
        begin, end = reversed(ids) if swap else ids
        sequences = [[begin, *(words[::-1] if reverse else words), end] for words in captions]
        longest = max(map(len, sequences))
        padded = [sequence[:-1] + [self.words[0]] * (longest - len(sequence)) for sequence in sequences]
        return self._table(numbers, padded), sequences

    def _table(self, numbers: list[int], tokens: list[list[int]]) -> np.ndarray:
        """Return log-probabilities [R, t, vocab] after each token, at least -30 so that none decides a mean."""
        rows = np.asarray(tokens)
        scores = self.reader.run(numbers, rows)
        self.check_finite(scores, rows, "while a caption was read")
        return self.reader.log_probs(scores).clip(min=-30.0)

    @functools.cached_property
    def _readings(self) -> dict[tuple[bool, bool], float]:
        """Mean log-probability per token of the captions, read in (the other order, with START and END swapped)."""
        swaps = (False, True) if self.scorer.start_token != self.scorer.end_token else (False,)
        means = {}
        for other, swap in itertools.product((False, True), swaps):
            try:
                table, sequences = self._read(self._reverse ^ other, swap) if other or swap else self._declared
                means[other, swap] = _mean(table, [tokens[1:] for tokens in sequences])
            except Broken:
                if not swap:  # a model may be unable to read its END
                    raise
        return means

    @property
    def _reverse(self) -> bool:
        return self.direction == "backward"

    @functools.cached_property
    def _declared(self) -> tuple[np.ndarray, list[list[int]]]:
        return self._read(self._reverse, False)

    @property
    def _chance(self) -> float:
        return -KNOWS * math.log(self.scorer.vocab_size)

    def _need_order(self) -> None:
        """Raise ``Skip`` without captions or a direction."""
        _ = self.known
        if self.direction is None:
            raise Skip("needs direction=...")

    def _need_knowledge(self) -> None:
        """Raise ``Skip`` without captions that the model knows something about."""
        self._need_order()
        if max(self._readings.values()) < self._chance:
            raise Skip(
                "the model gives the captions no more than chance, in any reading order. Is it trained, and were the "
                "captions read with the tokenizer of the sentences, not with that of the sources (text_target=)?"
            )

    def alignment(self) -> None:
        """Check that the scores are those of the next word, not of the one before or after it."""
        self._need_order()
        if self.reference is not None:  # the scorer agrees with it, or this check would not be made
            return
        table, sequences = self._declared
        # The words in between that have two words before and one after them.
        targets = {shift: [tokens[2 + shift : len(tokens) - 1 + shift] for tokens in sequences] for shift in (0, -1, 1)}
        if not any(targets[0]):
            raise Skip("needs captions of at least two words")
        means = {shift: _mean(table[:, 1:], rows) for shift, rows in targets.items()}
        best = max((-1, 1), key=means.__getitem__)
        if means[best] > max(means[0] + CLEARLY, max(self._readings.values()) + CLEARLY, self._chance):
            what = "the word that was just read" if best < 0 else "the word after the next"
            raise Fault(
                "alignment",
                f"off by one: the scores fit {what} better than the next word ({means[best]:.2f} against "
                f"{means[0]:.2f} nats per token of the captions)",
            )
        self._need_knowledge()

    def start_and_end(self) -> None:
        """Check that the captions do not become more likely if START and END are swapped."""
        self._need_knowledge()
        if self.scorer.start_token == self.scorer.end_token:
            raise Skip("start_token is end_token")
        if gap := self._better_reading(other=False):
            raise Fault(
                "start and end",
                f"start_token and end_token are swapped: the captions are more likely the other way round ({gap})",
                f"declare {self._swapped}; a model begins with start_token and ends with end_token, in the order "
                "in which it reads",
            )

    def reading_order(self) -> None:
        """Check that the captions do not become more likely in the other reading order."""
        self._need_knowledge()
        if all(words == words[::-1] for words in self.known[1]):
            raise Skip("needs captions that differ when they are read backward")
        if gap := self._better_reading(other=True):
            swap = max(self._readings, key=self._readings.__getitem__)[1]
            order = "in the order of the sentence" if self._reverse else "in reverse order"
            raise Fault(
                "direction",
                f"the model given as the {self.direction} one reads the other way: the captions are more likely "
                f"{order}{' and with start_token and end_token swapped' if swap else ''} ({gap})",
                f"pass it as the {'forward' if self._reverse else 'backward'} model"
                f"{f', with {self._swapped}' if swap else ''}",
            )

    @property
    def _swapped(self) -> str:
        return f"start_token={self.scorer.end_token}, end_token={self.scorer.start_token}"

    def _better_reading(self, other: bool) -> str:
        """Compare the best reading with the declared one; empty unless it is clearly better and in this order."""
        best = max(self._readings, key=self._readings.__getitem__)
        declared = self._readings[False, False]
        if best == (False, False) or best[0] != other or self._readings[best] <= declared + CLEARLY:
            return ""
        return f"{self._readings[best]:.2f} nats per token against {declared:.2f} as declared"

    def start(self) -> None:
        """Check that the first words are not more likely after another id that is no word."""
        self._need_knowledge()
        numbers, captions = self.known
        first = [[words[-1 if self._reverse else 0]] for words in captions]

        def after(*start: int) -> float:
            return _mean(self._table(numbers, [[*start]] * len(numbers))[:, -1:], first)

        declared = after(self.scorer.start_token)
        others = sorted(self.never - {self.scorer.start_token, self.scorer.end_token})[:STARTS_TRIED]
        for other in others:
            with contextlib.suppress(Broken):
                found = after(other)
                if max(found, declared) + CLEARLY_FIRST < after(self.scorer.start_token, other):
                    raise Fault(
                        "start and end",
                        f"the first words of the captions are more likely if id {self.text_of(other)} is read after "
                        "start_token, such as a language that the sentence is to be written in",
                        f"declare that it is read: generate_kwargs={{'forced_bos_token_id': {other}}} for a Hugging "
                        "Face model, or let start read it",
                    )
                if found > declared + CLEARLY_FIRST:
                    raise Fault(
                        "start and end",
                        f"the first words of the captions are more likely after id {self.text_of(other)} than after "
                        f"start_token {self.text_of(self.scorer.start_token)} ({found:.2f} against {declared:.2f} "
                        "nats)",
                        f"declare start_token={other}, or the id that the model was trained to begin with",
                    )

    def not_words(self) -> None:
        """Check that ids that are no words are in never."""
        padding = {
            module.padding_idx % module.num_embeddings
            for module in self.modules
            if type(module).__name__ == "Embedding"
            and getattr(module, "padding_idx", None) is not None
            and getattr(module, "num_embeddings", None) == self.scorer.vocab_size
            and not isinstance(self.scorer, Combined)  # its ids may differ from the module's
        }
        for ids, why in ((self.special, "the vocabulary calls it special"), (padding, "an embedding's padding_idx")):
            if left := sorted(ids - self.never):
                more = ", …" if len(left) > 5 else ""
                raise Fault(
                    "special tokens",
                    f"id {', '.join(map(self.text_of, left[:5]))}{more} is not in never ({why}), so a blank may be "
                    "filled with it",
                    f"add it to never: never={{{', '.join(map(str, left[:5]))}{more}}}",
                )

    def special_tokens(self) -> None:
        """Check that ids that are no words get almost no probability."""
        try:
            self._need_knowledge()
            trained = True
            table, sequences = self._declared
            tables = [table[row, : len(tokens) - 1] for row, tokens in enumerate(sequences)]
        except Skip:
            trained = False
            tables = [*np.concatenate([self.expected(self.all, self.draw(len(self.all))) for _ in range(4)])]
        size = self.scorer.vocab_size
        shares = np.exp(np.concatenate(tables))
        mass = shares.mean(axis=0)
        named = self.special | {self.scorer.start_token}
        for token in sorted(self.never - {self.scorer.end_token}):
            most = UNKNOWN_MASS if token in self.unknown else SPECIAL_MASS if token in named else UNNAMED_MASS
            if not trained:
                # Random weights may give any id more than its share. A model that has learnt to avoid an id gives
                # almost nothing to the other ids that are no words. Exactly nothing comes from a mask.
                others = self.never - self.unknown - {token, self.scorer.end_token}
                shown = [share for share in (shares[:, one].max() for one in others) if share > 1e-30]
                learnt = bool(shown) and max(shown) < AVOIDED / size and self.length > 2 and self.captions is None
                most = max(most, 2 / size if learnt else UNTRAINED_MASS)
            if mass[token] > most:
                role = "start_token" if token == self.scorer.start_token else "an id in never"
                raise Fault(
                    "special tokens",
                    f"id {self.text_of(token)}, {role}, gets {mass[token]:.0%} of the probability as if it were a "
                    "word: this mass is lost to the words, or the ids are wrong",
                    "look up the ids that the model was trained with (start_token, end_token, never); if it was "
                    "trained to write PAD or START, set their logits to -inf before the softmax",
                )


def _mean(table: np.ndarray, targets: Sequence[Sequence[int]]) -> float:
    """Return the mean of the log-probabilities [R, t, vocab] of the target tokens of each row."""
    return float(
        np.mean([table[row, at, token] for row, tokens in enumerate(targets) for at, token in enumerate(tokens)])
    )
