"""Checks of what true captions tell of a scorer, and of the ids that are no words."""

from __future__ import annotations

import functools
import math

import numpy as np

from birnn_decode.scorers.check.basics import Basics
from birnn_decode.scorers.check.reading import Broken, Fault, Skip
from birnn_decode.scorers.combined import Combined

CLEARLY = 0.1  # nats per token by which another reading of the captions must be better
CLEARLY_FIRST = 1.0  # nats by which another START must be better for first words
STARTS_TRIED = 8
KNOWS = 0.75  # of log(vocab_size): a model that gives captions less than this knows nothing of them
SPECIAL_MASS, UNNAMED_MASS, UNKNOWN_MASS = 0.01, 0.05, 0.25  # the most that ids in never may get
UNTRAINED_MASS = 0.5  # the same, where nothing shows that the model has learnt anything
AVOIDED = 0.1  # of 1 / vocab_size: an id that never gets more is one that a model has learnt to avoid


class Told(Basics):
    """The checks with captions, one method each: it returns where all is well, and raises `Fault` or `Skip`."""

    def _read(self, reverse: bool, swap: bool) -> tuple[np.ndarray, list[list[int]]]:
        """Log-probabilities after each token of the captions, and the tokens, START and END included."""
        numbers, captions = self.known
        begin, end = self.scorer.start_token, self.scorer.end_token
        if swap:
            begin, end = end, begin
        sequences = [[begin, *(words[::-1] if reverse else words), end] for words in captions]
        longest = max(map(len, sequences)) - 1
        padded = [sequence[:-1] + [self.words[0]] * (longest + 1 - len(sequence)) for sequence in sequences]
        return self._table(numbers, padded), sequences

    def _table(self, numbers: list[int], tokens: list[list[int]]) -> np.ndarray:
        """Log-probabilities [R, t, vocab] after each token, none so low that one term decides a mean."""
        scores = self.reader.run(numbers, tokens)
        bad = np.isnan(scores) | np.isposinf(scores)
        if bad.any():
            row, at, token = (int(number) for number in np.argwhere(bad)[0])
            raise self.not_finite(scores[row, at, token], token, tokens[row][: at + 1], "while a caption was read")
        log_probs: np.ndarray = np.maximum(self.reader.log_probs(scores), -30.0)
        return log_probs

    @functools.cached_property
    def _readings(self) -> dict[tuple[bool, bool], float]:
        """Mean log-probability per token of captions that are read in (other order, with swapped ids)."""
        swaps = (False, True) if self.scorer.start_token != self.scorer.end_token else (False,)
        means = {}
        for other in (False, True):
            for swap in swaps:
                try:
                    table, sequences = self._read(self._reverse ^ other, swap) if other or swap else self._declared
                except Broken:
                    if swap:  # a model may be unable to read its END
                        continue
                    raise
                terms = [
                    table[row, at, token] for row, tokens in enumerate(sequences) for at, token in enumerate(tokens[1:])
                ]
                means[other, swap] = float(np.mean(terms))
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

    def _needs_order(self) -> None:
        _ = self.known
        if self.direction is None:
            raise Skip("needs direction=...")

    def alignment(self) -> None:
        """Scores are those of the next word, and not of the one before or after it."""
        self._needs_order()
        if self.reference_scorer is not None:  # it has agreed
            return
        table, sequences = self._declared
        means = {}
        for shift in (0, -1, 1):
            terms = [
                table[row, at, tokens[at + 1 + shift]]
                for row, tokens in enumerate(sequences)
                for at in range(1, len(tokens) - 2)
            ]
            if not terms:
                raise Skip("needs captions of two words or more")
            means[shift] = float(np.mean(terms))
        best = max((-1, 1), key=means.__getitem__)
        readings = max(self._readings.values())
        if means[best] > max(means[0] + CLEARLY, readings + CLEARLY, self._chance):
            what = "the word that was just read" if best < 0 else "the word after the next"
            raise Fault(
                "alignment",
                f"the scores fit {what} better than the next word ({means[best]:.2f} against {means[0]:.2f} nats per "
                "token of the captions): off by one between the tokens read and the word that is scored",
                "step returns the scores of the token after the one that it reads; START is read first, and by step",
            )
        self._needs_knowledge()

    def _needs_knowledge(self) -> None:
        if max(self._readings.values()) < self._chance:
            raise Skip("the model gives the captions no more than chance, whichever way they are read")

    def start_and_end(self) -> None:
        """Captions are not likelier with START and END exchanged."""
        self._needs_order()
        if self.scorer.start_token == self.scorer.end_token:
            raise Skip("start_token is end_token")
        self._needs_knowledge()
        self._tell_reading(other=False)

    def reading_order(self) -> None:
        """Captions are not likelier in the other order."""
        self._needs_order()
        self._needs_knowledge()
        if all(words == words[::-1] for words in self.known[1]):
            raise Skip("needs captions that are not the same backward")
        self._tell_reading(other=True)

    def _tell_reading(self, other: bool) -> None:
        best = max(self._readings, key=self._readings.__getitem__)
        declared = self._readings[False, False]
        if best == (False, False) or best[0] != other or self._readings[best] <= declared + CLEARLY:
            return
        gap = f"{self._readings[best]:.2f} nats per token against {declared:.2f} as declared"
        swapped = " and with start_token and end_token swapped" if best[1] else ""
        ids = f"start_token={self.scorer.end_token}, end_token={self.scorer.start_token}"
        if other:
            order = (
                "reading order is the sentence's" if self._reverse else "reading order is the reverse of the sentence's"
            )
            raise Fault(
                "direction",
                f"the model given as the {self.direction} one reads the other way: the captions are likelier when "
                f"{order}{swapped} ({gap})",
                f"pass it as the {'forward' if self._reverse else 'backward'} model"
                + (f", with {ids}" if best[1] else ""),
            )
        raise Fault(
            "start and end",
            f"start_token and end_token are swapped: the other way round the captions are likelier ({gap})",
            f"declare {ids}: a model begins with start_token and ends with end_token in its own reading order",
        )

    def start(self) -> None:
        """The captions' first words are not likelier behind another id that is no word."""
        self._needs_order()
        self._needs_knowledge()
        numbers, _ = self.known
        _, sequences = self._declared
        firsts = [tokens[1] for tokens in sequences]

        def first_words(start: int) -> float:
            table = self._table(numbers, [[start]] * len(numbers))
            return float(np.mean([table[row, 0, word] for row, word in enumerate(firsts)]))

        declared = first_words(self.scorer.start_token)
        for other in sorted(self.never - {self.scorer.start_token, self.scorer.end_token})[:STARTS_TRIED]:
            try:
                likelier = first_words(other)
            except Broken:
                continue
            if likelier > declared + CLEARLY_FIRST:
                raise Fault(
                    "start and end",
                    f"behind id {self.text_of(other)} the captions' first words are likelier than behind start_token "
                    f"{self.text_of(self.scorer.start_token)} ({likelier:.2f} against {declared:.2f} nats)",
                    f"declare start_token={other}, or what the model was trained to begin with",
                )

    def not_words(self) -> None:
        """Ids that are no words, and could be taken for some."""
        modules = list(self.scorer.modules()) if hasattr(self.scorer, "modules") else []
        padding = {
            module.padding_idx % module.num_embeddings
            for module in modules
            if type(module).__name__ == "Embedding"
            and getattr(module, "padding_idx", None) is not None
            and getattr(module, "num_embeddings", None) == self.scorer.vocab_size
            and not isinstance(self.scorer, Combined)  # its ids may be other ones than the module's
        }
        for ids, why in ((self.special, "the vocabulary calls it special"), (padding, "an embedding's padding_idx")):
            left = sorted(ids - self.never)
            if left:
                named = ", ".join(self.text_of(token) for token in left[:5]) + (", …" if len(left) > 5 else "")
                raise Fault(
                    "special tokens",
                    f"id {named} is not in never ({why}), so that a blank might be filled with it",
                    f"add it to never: never={{{', '.join(map(str, left[:5]))}{', …' if len(left) > 5 else ''}}}",
                )

    def special_tokens(self) -> None:
        """Ids that are no words get next to no probability."""
        try:
            self._needs_order()
            self._needs_knowledge()
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
            least = UNKNOWN_MASS if token in self.unknown else SPECIAL_MASS if token in named else UNNAMED_MASS
            if not trained:
                # Random weights may give any id more than its share. Where a model has learnt what to avoid, the other
                # ids that are no words always have next to nothing; nothing at all is a mask's doing.
                others = self.never - self.unknown - {token, self.scorer.end_token}
                most = [share for share in (shares[:, one].max() for one in others) if share > 1e-30]
                learnt = bool(most) and max(most) < AVOIDED / size and self.length > 2 and self.captions is None
                least = max(least, 2 / size if learnt else UNTRAINED_MASS)
            if mass[token] > least:
                role = "start_token" if token == self.scorer.start_token else "an id in never"
                raise Fault(
                    "special tokens",
                    f"id {self.text_of(token)}, {role}, is given {mass[token]:.0%} of the probability as if it were a "
                    "word: that mass is lost to the words, or the ids are wrong",
                    "look up which ids the model was trained with (start_token, end_token, never); a model trained to "
                    "write PAD or START must have them masked to -inf before the softmax",
                )
