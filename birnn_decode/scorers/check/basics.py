"""What several checks need: calls to the scorer, comparisons, and the likely cause of an exception."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from birnn_decode.backend import Array, backend_for
from birnn_decode.scorers.check.report import CURES
from birnn_decode.scorers.protocol import Scorer, never_of, room_of
from birnn_decode.template import Vocabulary
from birnn_decode.tokenizers import TokenizerVocabulary

WORDS_READ = 4  # words of a random prefix
IMAGES_READ = 4  # most images that the checks without captions read
CAPTIONS_READ = 64  # most captions read, unless there are more images than that
FEWEST_WORDS = 10  # captions with fewer words in all say too little
MOST_SCORES = 2**24  # most scores of captions in memory at a time

# Largest relative error of log-probabilities, and the log-probability below which all count as equal.
PRECISIONS = {
    "bfloat16": (1e-1, -12.0),
    "float16": (2e-2, -12.0),
    "TensorFloat32": (2e-3, -60.0),  # cuDNN's default on GPUs, with 10 bits
    "float32": (1e-4, -60.0),
}

READ_CAPTIONS = ("alignment", "start and end", "direction", "start", "special tokens")  # the checks that do

# How a check describes any exception, if that does not depend on the exception.
BROKEN = {
    "mutation": "step changes the state that it is given, or one that it returned before: a state fails when it is "
    "used twice",
    "views": "a later select or step changes what select returned: after three selections from one state",
}

_SPECIAL = re.compile(
    r"(<\|?|\[|__)(pad|padding|start|end|bos|eos|sos|go|s|/s|cls|sep|mask|blank|null|endoftext|startoftext|"
    r"start_of_text|end_of_text|begin_of_text|im_start|im_end)(\|?>|\]|__)",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(r"(<\|?|\[|__)(unk|unknown|oov)(\|?>|\]|__)", re.IGNORECASE)


class Fault(Exception):
    """A fault that a check found; the usual cure of the fault unless another one is given."""

    def __init__(self, fault: str, message: str, cure: str = ""):
        super().__init__(message)
        self.fault, self.cure = fault, cure or CURES[fault]


class Skip(Exception):
    """The reason why a check cannot be made."""


class Broken(Exception):
    """An exception that a method of the scorer raised."""

    def __init__(self, where: str, error: Exception):
        super().__init__(f"{where} raised {type(error).__name__}: {first_line(error)}")
        self.where, self.error = where, error


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message."""
    return str(error).strip().partition("\n")[0]


class Reader:
    """Call a scorer; wrap each exception it raises, check the shape of the scores and copy them at once."""

    def __init__(self, scorer: Scorer, images: Sequence[Any]):
        self.scorer = scorer
        self.images = images
        self.normalized = bool(getattr(scorer, "normalized", False))
        self.first: Any = None  # the first scores that the scorer returned

    def indices(self, values: Sequence[Any] | np.ndarray) -> Array:
        """Return a copy of whole numbers as the scorer takes them: NumPy first, then the library of the scores."""
        numbers = np.array(values, dtype=np.int64)
        return numbers if self.first is None else backend_for(self.first).indices(numbers)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a method of the scorer; raise ``Broken`` if it raises anything."""
        try:
            return getattr(self.scorer, name)(*arguments)
        except Exception as error:
            raise Broken(name, error) from None

    def encode(self, numbers: Sequence[int]) -> Any:
        """Return the context of the images with the given numbers."""
        return self.call("encode", [self.images[number] for number in numbers])

    def begin(self, numbers: Sequence[int]) -> Any:
        """Return the state of one new row for each of the images with the given numbers."""
        return self.call("start", self.encode(numbers))

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        """Return the given rows of a state."""
        return self.call("select", state, self.indices(rows))

    def step(self, tokens: Sequence[int] | np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Return a copy of the scores [R, vocab], and the new state."""
        scores, state = self.scored("step", (len(tokens),), self.indices(tokens), state)
        return numbers_of(scores), state

    def scored(self, name: str, leading: tuple[int, ...], *arguments: Any) -> tuple[Array, Any]:
        """Call a method that returns (scores [*leading, vocab], state), and check what it returns."""
        returned = self.call(name, *arguments)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise Fault(
                "shapes",
                f"{name} returned a {type(returned).__name__}, not a pair",
                f"return (scores, state) from {name}",
            )
        self._check_shape(returned[0], leading, name)
        return returned

    def _check_shape(self, scores: Any, leading: tuple[int, ...], name: str) -> None:
        """Raise a ``Fault`` if these are not scores [*leading, vocab_size]."""
        try:
            backend_for(scores)
        except TypeError as error:
            raise Fault(
                "shapes",
                str(error).replace("step", name, 1),
                "return a NumPy array or a PyTorch tensor of floating-point scores",
            ) from None
        if self.first is None:
            self.first = scores
        rows, width = leading[0], self.scorer.vocab_size
        shape, wanted = tuple(scores.shape), (*leading, width)
        if shape == wanted:
            return
        found = f"{name} returned scores of shape {shape}, expected {wanted}"
        if shape[:-1] == leading:
            raise Fault(
                "vocabulary",
                f"{found}: the model scores {shape[-1]} ids, but vocab_size is {width}",
                f"declare vocab_size={shape[-1]}, or use the model that belongs to the vocabulary of {width} ids",
            )
        if len(shape) == len(wanted) and shape[0] % rows == 0 and shape[0] > rows:
            raise Fault(
                "features",
                f"{found}: {shape[0] // rows} rows of scores for each row of tokens, because the features of the "
                "images are expanded once too often",
                "put the features of the images into the state, with one entry per row, and expand them nowhere else",
            )
        raise Fault("shapes", found)

    def read(self, tokens: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Read tokens [R, t] one after another; return the scores [R, t, vocab] and the last state."""
        scores = np.empty((*tokens.shape, self.scorer.vocab_size))
        for at, column in enumerate(tokens.T):
            scores[:, at], state = self.step(column, state)
        return scores, state

    def run(self, numbers: Sequence[int], tokens: np.ndarray) -> np.ndarray:
        """Encode images and read tokens [R, t], one row per image; return the scores [R, t, vocab]."""
        return self.read(tokens, self.begin(numbers))[0]

    def log_probs(self, scores: np.ndarray) -> np.ndarray:
        """Return scores [..., vocab] as log-probabilities."""
        return scores if self.normalized else scores - log_sum_exp(scores)


def numbers_of(scores: Array) -> np.ndarray:
    """Return a copy as float64."""
    # Not the backend's: NumPy has no bfloat16, so PyTorch must convert it.
    on_cpu = scores if isinstance(scores, np.ndarray) else scores.detach().cpu().double().numpy()
    return np.array(on_cpu, dtype=np.float64)


def log_sum_exp(scores: np.ndarray) -> np.ndarray:
    """Reduce the last axis to size 1; 0 if all scores are -inf, so that subtracting it is safe."""
    total = np.logaddexp.reduce(scores, axis=-1, keepdims=True)
    return np.where(np.isneginf(total), 0, total)


@dataclass(eq=False)
class Basics:
    """A scorer with its images and captions, and functions that compare scores.

    Args:
        scorer: The scorer to check.
        images: At least two images.
        direction: "forward", "backward", or None if unknown.
        captions: Ids of a true caption for each image, in the order of the sentence, or None.
        vocab: The vocabulary, or None.
        reference: A scorer of the same model that is known to be right, or None.
        other: The scorer of the other direction, or None.
        seed: Seed of the random prefixes.
    """

    scorer: Scorer
    images: list[Any]
    direction: str | None
    captions: list[tuple[int, ...]] | None
    vocab: Vocabulary | None
    reference: Scorer | None
    other: Scorer | None
    seed: int

    def __post_init__(self) -> None:
        self.reader = Reader(self.scorer, self.images)
        self.all = list(range(min(len(self.images), IMAGES_READ)))
        self.modules = list(self.scorer.modules()) if hasattr(self.scorer, "modules") else []
        self.never = never_of(self.scorer)
        self.special, self.unknown = self._named_special()
        self.words = [token for token in range(self.scorer.vocab_size) if token not in self.never | self.special]
        self.random = np.random.default_rng(self.seed)
        try:
            self.most = room_of(self.scorer, self.reader.encode(self.all))  # tokens that a row may read, with START
        except Broken:  # ``shapes`` meets the same exception and reports it
            self.most = math.inf
        self.length = int(min(1 + WORDS_READ, self.most))
        self.precision = "float32"
        self.tolerance, self.lowest = PRECISIONS[self.precision]
        self.together: np.ndarray  # [images, length, vocab], scores of the tokens below, all images in one batch

    @functools.cached_property
    def tokens(self) -> np.ndarray:
        """START and random words, one row per image, [images, length]."""
        return self.draw(len(self.all))

    def draw(self, rows: int) -> np.ndarray:
        """Return START and random words, [rows, length]."""
        tokens = self.random.choice(self.words, size=(rows, self.length))
        tokens[:, 0] = self.scorer.start_token
        return tokens

    def expected(self, numbers: Sequence[int], tokens: np.ndarray) -> np.ndarray:
        """Return the log-probabilities [R, t, vocab] of a run from ``encode`` on."""
        return self.reader.log_probs(self.reader.run(numbers, tokens))

    def distance(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """Return the largest difference of log-probabilities [..., vocab], as a multiple of the tolerance: [...]."""
        one, two = np.maximum(one, self.lowest), np.maximum(two, self.lowest)
        far = np.abs(one - two) / (self.tolerance * (1 + np.abs(two)))
        return np.where(np.isnan(far), math.inf, far).max(axis=-1)

    def same(self, one: np.ndarray, two: np.ndarray) -> bool:
        """Tell whether all log-probabilities [..., vocab] are equal within the tolerance."""
        return one.shape == two.shape and bool((self.distance(one, two) <= 1).all())

    def differing(self, got: np.ndarray, wanted: np.ndarray) -> list[int]:
        """Return the rows whose log-probabilities [R, t, vocab] differ by more than the tolerance."""
        return [row for row in range(len(got)) if not self.same(got[row], wanted[row])]

    def check_finite(self, scores: np.ndarray, tokens: np.ndarray, how: str) -> None:
        """Raise a ``Fault`` if scores [R, t, vocab] of tokens [R, t] contain NaN or +inf."""
        for row, at, token in np.argwhere(np.isnan(scores) | np.isposinf(scores)).tolist():
            value = "NaN" if math.isnan(scores[row, at, token]) else "+inf"
            read = tokens[row, : at + 1].tolist()
            half = self.precision == "float16"
            raise Fault(
                "finite",
                f"step returned {value} for id {token} (row {row}, {how}) after the tokens {read} in reading order"
                + ("; float16 has no numbers above 65504, so an overflow is likely" if half else ""),
                "run the model in float32 or bfloat16" if half else "",
            )

    def image_of(self, got: np.ndarray, tokens: np.ndarray, own: int) -> int | None:
        """Return the other image whose scores a row has, or is much closer to than to the scores of the right image.

        Args:
            got: Log-probabilities of the row, [t, vocab], after the last t of the tokens.
            tokens: All tokens that the row has read.
            own: The image that the row belongs to.
        """
        # Each image by itself, because the batch may be what is wrong.
        alone = [self.expected([image], tokens[None])[0, -len(got) :] for image in self.all]
        far = self.distance(got[None], np.stack(alone)).max(axis=-1)
        near = int(far.argmin())
        return near if near != own and (far[near] <= 1 or far[near] < 0.3 * far[own]) else None

    @functools.cached_property
    def images_differ(self) -> bool:
        """Whether the scores depend on the image."""
        got = self.expected(self.all, np.repeat(self.draw(1), len(self.all), axis=0))
        return any(not self.same(got[0], row) for row in got[1:])

    def blame(self, broken: Broken, check: str) -> Fault:
        """Return the most likely fault behind an exception that ended a check."""
        if check in BROKEN:
            return Fault(check, f"{BROKEN[check]}, {broken}")
        text = str(broken.error)
        if "batch_axis" in text:
            return Fault("batch axis", f"the declared batch_axis is not the axis that counts the rows: {broken}")
        longest = max((1 + len(words) for words in self.captions or () if len(words) < self.most), default=0)
        if check in READ_CAPTIONS and longest > self.length:
            return Fault(
                "length",
                f"the model reads {self.length} tokens, but it fails on captions of up to {longest} tokens, START "
                f"included: {broken}",
            )
        if re.search(r"index.*out of (range|bounds)", text) and broken.where == "step":
            return Fault(
                "vocabulary",
                f"a token id is out of range for the model: {broken}; vocab_size is {self.scorer.vocab_size}, and the "
                f"largest id read is {self.words[-1]}",
                "declare the vocab_size, start_token and end_token that the model was trained with",
            )
        if "more than 1 value per channel" in text:
            return Fault("batch", f"a single image cannot be read: {broken}")
        fault = "shapes" if check in ("shapes", "finite", "randomness", "normalisation") else check
        return Fault(fault, str(broken), f"correct the scorer's {broken.where}; see birnn_decode.Scorer")

    @functools.cached_property
    def known(self) -> tuple[list[int], list[tuple[int, ...]]]:
        """Numbers of the images whose captions are short enough to read, and these captions in sentence order."""
        if self.captions is None:
            raise Skip("needs captions=...")
        pairs = [(image, words) for image, words in enumerate(self.captions) if words and 1 + len(words) <= self.most]
        if not pairs:
            raise Skip("needs captions of at least one word and at most max_tokens")
        if sum(len(words) for _, words in pairs) < FEWEST_WORDS:
            raise Skip(f"needs captions with {FEWEST_WORDS} words or more in all")
        # Each token read gives scores of the whole vocabulary.
        scores = self.scorer.vocab_size * max(1 + len(words) for _, words in pairs)
        pairs = pairs[: max(len(self.all), min(CAPTIONS_READ, MOST_SCORES // scores))]
        return [image for image, _ in pairs], [words for _, words in pairs]

    def _named_special(self) -> tuple[frozenset[int], frozenset[int]]:
        """Return the ids that the vocabulary calls special, and among them those that stand for unknown words."""
        given = getattr(self.vocab, "special_ids", None)
        special = set() if given is None else {int(token) for token in (given() if callable(given) else given)}
        unknown = set()
        decode: Any = getattr(self.vocab, "decode", None)
        for token in range(self.scorer.vocab_size) if decode is not None else ():
            try:
                text = decode([token])
            except Exception:
                continue  # the vocabulary is smaller than vocab_size, which the check of the vocabulary reports
            if not isinstance(text, str):
                break
            # A tokenizer writes nothing for a token of white space that stands alone, and it knows its special tokens.
            if _SPECIAL.fullmatch(text) or (not text and not isinstance(self.vocab, TokenizerVocabulary)):
                special.add(token)
            elif _UNKNOWN.fullmatch(text):
                unknown.add(token)
        return frozenset(special | unknown), frozenset(unknown)

    def text_of(self, token: int) -> str:
        """Return an id, followed by its text if the vocabulary has one."""
        try:
            return f"{token} ({self.vocab.decode([token])!r})"  # type: ignore[union-attr]
        except Exception:
            return str(token)


def length_of(source: Any) -> int:
    """Return the length of a source, as far as it has one: of its ids, of a text, or of the first axis of an array."""
    if isinstance(source, Mapping):
        source = next((source[name] for name in ("input_ids", "input_features") if name in source), ())
    shape = getattr(source, "shape", None)
    if shape is not None:
        return int(shape[-1] if len(shape) == 2 and shape[0] == 1 else shape[0]) if len(shape) else 0
    return len(source) if hasattr(source, "__len__") else 0
