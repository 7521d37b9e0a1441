"""What several checks need: plain runs, comparisons, and whom to blame for an exception."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from birnn_decode.scorers.check.reading import Broken, Fault, Reader, Skip
from birnn_decode.scorers.protocol import Scorer, never_of, room_of
from birnn_decode.template import Vocabulary
from birnn_decode.tokenizers import TokenizerVocabulary

WORDS_READ = 4  # of a random prefix
IMAGES_READ = 4  # that the checks without captions use at most
CAPTIONS_READ = 64
FEWEST_WORDS = 10  # of captions: of fewer, chance tells
MOST_SCORES = 2**24  # of captions, in memory at a time

_SPECIAL = re.compile(
    r"(<\|?|\[|__)(pad|padding|start|end|bos|eos|sos|go|s|/s|cls|sep|mask|blank|null|endoftext|startoftext|"
    r"start_of_text|end_of_text|begin_of_text|im_start|im_end)(\|?>|\]|__)",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(r"(<\|?|\[|__)(unk|unknown|oov)(\|?>|\]|__)", re.IGNORECASE)


class Basics:
    """A scorer, its images and captions, and how results are compared."""

    def __init__(
        self,
        scorer: Scorer,
        images: list[Any],
        direction: str | None,
        captions: list[tuple[int, ...]] | None,
        vocabulary: Vocabulary | None,
        reference: Scorer | None,
        other: Scorer | None,
        seed: int,
    ):
        self.scorer = scorer
        self.direction = direction
        self.captions = captions
        self.vocab = vocabulary
        self.reference_scorer = reference
        self.other = other
        self.reader = Reader(scorer, images)
        self.all = list(range(min(len(images), IMAGES_READ)))
        self.never = never_of(scorer)
        self.special, self.unknown = self._named_special()
        self.words = [token for token in range(scorer.vocab_size) if token not in self.never | self.special]
        self.random = np.random.default_rng(seed)
        self.aligned = bool(getattr(scorer, "aligned", True))
        try:
            self.most = room_of(scorer, self.reader.encode(self.all))  # tokens that a row may read, START included
        except Broken:  # the checks will tell
            self.most = math.inf
        self.length = int(min(1 + WORDS_READ, self.most))
        self.tolerance, self.lowest = 1e-4, -60.0
        self.crowd: tuple[list[int], np.ndarray, np.ndarray]  # images, tokens and scores of a large batch
        self.tokens: np.ndarray  # [images, length] that `shapes` has read
        self.alone: np.ndarray  # [images, length, vocab], their scores, each image by itself
        self.together: np.ndarray  # the same, all images in a batch
        self.half: str  # "float16", "bfloat16", or "" where the scorer is not in half precision

    def draw(self, rows: int, length: int | None = None) -> np.ndarray:
        """START and random words, [rows, length]."""
        tokens = self.random.choice(self.words, size=(rows, self.length if length is None else length))
        tokens[:, 0] = self.scorer.start_token
        return tokens

    def expected(self, numbers: Sequence[int], tokens: np.ndarray) -> np.ndarray:
        """Log-probabilities of a plain run."""
        return self.reader.log_probs(self.reader.run(numbers, tokens))

    def distance(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """How far rows of log-probabilities are apart, as a multiple of what rounding may do: [...]."""
        one, two = np.maximum(one, self.lowest), np.maximum(two, self.lowest)
        far = np.abs(one - two) / (self.tolerance * (1 + np.abs(two)))
        furthest: np.ndarray = np.where(np.isnan(far), math.inf, far).max(axis=-1)
        return furthest

    def not_finite(self, value: float, token: int, read: Sequence[int], where: str) -> Fault:
        """The fault of a NaN or +inf for a token, after the tokens read."""
        what = "NaN" if math.isnan(value) else "+inf"
        message = f"step returned {what} for id {token}, {where}, after the tokens {list(read)} in reading order"
        cure = "look for a division by 0, a log of a negative number, or -inf minus -inf in the model"
        if self.half == "float16":
            message += "; in half precision (float16) nothing above 65504 can be told: an overflow is likely"
            cure = "run the model in float32 or bfloat16"
        return Fault("finite", message, cure)

    def same(self, one: np.ndarray, two: np.ndarray) -> bool:
        """Whether all rows are."""
        return one.shape == two.shape and bool((self.distance(one, two) <= 1).all())

    def differing(self, got: np.ndarray, wanted: np.ndarray) -> list[int]:
        """The rows [R, t, vocab] that are not the same."""
        far = self.distance(got, wanted).max(axis=-1)
        return [row for row in range(len(far)) if not far[row] <= 1]

    def image_of(self, got: np.ndarray, tokens: np.ndarray, own: int) -> int | None:
        """The other image whose scores a row has, or is much nearer to than to its own's.

        Args:
            got: log-probabilities of the row, [t, vocab], after the last t of the tokens.
            tokens: that it has read.
            own: the image that it is of.
        """
        # Each image by itself: a batch may be what is at fault.
        alone = [self.expected([image], tokens[None])[0, -len(got) :] for image in self.all]
        far = self.distance(got[None], np.stack(alone)).max(axis=-1)
        near = int(far.argmin())
        return near if near != own and (far[near] <= 1 or far[near] < 0.3 * far[own]) else None

    @functools.cached_property
    def told_apart(self) -> bool:
        """Whether the images matter at all."""
        got = self.expected(self.all, np.repeat(self.draw(1), len(self.all), axis=0))
        return any(not self.same(got[0], row) for row in got[1:])

    def blame(self, broken: Broken, check: str) -> Fault:
        """The likely fault behind an exception in the plainest use of the scorer."""
        text = str(broken.error)
        if "batch_axis" in text:
            return Fault(
                "batch axis",
                f"the declared batch_axis is not the axis that counts the rows: {broken.line}",
                "declare the axis of each tensor of the state that has one entry per row (the layers of an LSTM "
                "are on axis 0, its rows on axis 1)",
            )
        told = check in ("alignment", "start and end", "direction", "start", "special tokens")
        longest = 1 + max(map(len, self.known[1])) if told else 0
        if longest > self.length:
            return Fault(
                "length",
                f"captions of up to {longest} tokens, START included, cannot be read, while {self.length} tokens can: "
                f"{broken.line}",
                "give the scorer max_tokens=, the most tokens that the model can read, or make it read longer ones",
            )
        if re.search(r"index.*out of (range|bounds)", text) and broken.where == "step":
            return Fault(
                "vocabulary",
                f"a token id is out of range for the model: {broken.line}; ids up to {self.words[-1]} were read, "
                f"vocab_size is {self.scorer.vocab_size}",
                "declare the vocab_size, start_token and end_token that the model was trained with",
            )
        if "more than 1 value per channel" in text:
            return batch_fault(f"an image alone cannot be read: {broken.line}")
        fault = "shapes" if check in ("shapes", "finite", "randomness", "normalisation") else check
        return Fault(fault, broken.line, f"mend {broken.where} of the scorer, see birnn_decode.scorers.Scorer")

    @functools.cached_property
    def known(self) -> tuple[list[int], list[tuple[int, ...]]]:
        """The images and captions that are short enough, the captions in sentence order."""
        if self.captions is None:
            raise Skip("needs captions=...")
        pairs = [(image, words) for image, words in enumerate(self.captions) if words and 1 + len(words) <= self.most]
        if not pairs:
            raise Skip("needs captions of at least a word and at most max_tokens")
        if sum(len(words) for _, words in pairs) < FEWEST_WORDS:
            raise Skip(f"needs captions of {FEWEST_WORDS} words or more in all")
        # Every token read is a row of the whole vocabulary.
        scores = self.scorer.vocab_size * max(1 + len(words) for _, words in pairs)
        pairs = pairs[: max(len(self.all), min(CAPTIONS_READ, MOST_SCORES // scores))]
        return [image for image, _ in pairs], [words for _, words in pairs]

    def _named_special(self) -> tuple[frozenset[int], frozenset[int]]:
        """Ids that the vocabulary calls special, and those that it calls unknown words."""
        given = getattr(self.vocab, "special_ids", None)
        special = set() if given is None else {int(token) for token in (given() if callable(given) else given)}
        unknown = set()
        decode: Any = getattr(self.vocab, "decode", None)
        for token in range(self.scorer.vocab_size) if decode is not None else ():
            try:
                text = decode([token])
            except Exception:
                continue  # it has fewer ids than the scorer: the vocabulary's check tells
            if not isinstance(text, str):
                break
            # A tokenizer shows nothing for a token of white space that stands alone, and knows its special ones.
            if _SPECIAL.fullmatch(text) or (not text and not isinstance(self.vocab, TokenizerVocabulary)):
                special.add(token)
            elif _UNKNOWN.fullmatch(text):
                unknown.add(token)
        return frozenset(special | unknown), frozenset(unknown)

    def text_of(self, token: int) -> str:
        """An id, and what the vocabulary writes for it."""
        try:
            return f"{token} ({self.vocab.decode([token])!r})"  # type: ignore[union-attr]
        except Exception:
            return str(token)


def batch_fault(message: str) -> Fault:
    """The fault of scores that depend on the batch."""
    return Fault(
        "batch",
        message,
        "put all modules in eval mode (model= of the wrapper; BatchNorm in training mode mixes the batch), and see "
        "that each row has the features, the padding and the masks of its own image, as it is given them",
    )
