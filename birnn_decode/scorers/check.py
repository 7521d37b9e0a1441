"""Does a scorer do what a search relies on? Faults in a wrapping give plausible, wrong sentences; this names them."""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from birnn_decode.backend import Array, Backend, backend_for, no_graph
from birnn_decode.scorers.protocol import REQUIRED, Scorer, as_scorer, eval_mode, never_of
from birnn_decode.template import Vocabulary
from birnn_decode.tokenizers import as_vocabulary

OK, FAULT, SKIPPED = "ok", "FAULT", "skipped"
_FRESH = object()

WORDS_READ = 4  # of a random prefix
IMAGES_READ = 4  # that the checks without captions use at most
CAPTIONS_READ = 64
SINGLE_WORDS = 32  # that are read after START to see that scores are finite
LOWEST = {"float16": -12.0, "bfloat16": -12.0}  # below it, log-probabilities count as equal
TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1}
CUDA_TOLERANCE = 2e-3  # TensorFloat32, cuDNN's default, keeps 10 bits
CLEARLY = 0.1  # nats per token by which another reading of the captions must be better
KNOWS = 0.75  # of log(vocab_size): a model that gives captions less than this knows nothing of them
SPECIAL_MASS, UNNAMED_MASS, UNKNOWN_MASS = 0.01, 0.05, 0.25  # the most that ids in never may get
UNTRAINED_MASS = 0.5  # the same, where nothing shows that the model has learnt anything
AVOIDED = 0.1  # of 1 / vocab_size: an id that never gets more is one that a model has learnt to avoid

_SPECIAL = re.compile(
    r"(<\|?|\[|__)(pad|padding|start|end|bos|eos|sos|go|s|/s|cls|sep|mask|blank|null|endoftext|startoftext|"
    r"start_of_text|end_of_text|begin_of_text|im_start|im_end)(\|?>|\]|__)|",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(r"(<\|?|\[|__)(unk|unknown|oov)(\|?>|\]|__)", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: its name.
        status: "ok", "FAULT" or "skipped".
        fault: the name of the fault; empty where there is none.
        message: what is wrong, or why the check was skipped.
        cure: what most likely mends it.
    """

    check: str
    status: str
    fault: str = ""
    message: str = ""
    cure: str = ""


@dataclass(frozen=True, repr=False)
class Report:
    """What `check_scorer` found; printed, it is one line a check. It is true where there are no faults.

    Attributes:
        name: of the scorer.
        findings: one of every check, in the order of the checks.
    """

    name: str
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are faults, the likely root of the others first."""
        return tuple(finding for finding in self.findings if finding.status == FAULT)

    @property
    def ok(self) -> bool:
        """Whether there is no fault; what was skipped is none."""
        return not self.faults

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        told = "; ".join(f"{finding.fault}: {finding.message} -> {finding.cure}" for finding in self.faults)
        return f"<{self.name}: {told or 'no fault found'}>"

    def __str__(self) -> str:
        count = len(self.faults)
        lines = [f"{self.name}: {f'{count} fault' + 's' * (count > 1) if count else 'no fault found'}"]
        for finding in self.findings:
            about = finding.message if finding.status == SKIPPED else finding.fault
            lines.append(f"  {finding.check:14} {finding.status:8} {about}".rstrip())
        for finding in self.faults:
            lines += ["", f"{finding.fault}: {finding.message}", f"  likely cure: {finding.cure}"]
        return "\n".join(lines)


def check_scorer(
    model: Any,
    images: Sequence[Any],
    *,
    direction: str | None = None,
    captions: Sequence[str | Sequence[int]] | None = None,
    vocabulary: Vocabulary | None = None,
    reference: Any = None,
    other: Any = None,
    seed: int = 0,
) -> Report:
    """Check that a scorer does what a search relies on, and name the fault where it does not.

    What is expected comes from the plainest use there is: one image, one token after another, no `select`. All else,
    batches, rows that are repeated and moved, states that are used twice, prefixes read in one call, must agree with
    it. Whether that plainest use is itself right, only captions and a ``reference`` can tell.

    Args:
        model: the scorer.
        images: at least two different ones; three or more tell faults apart better.
        direction: "forward" or "backward", the way it reads; its own ``direction`` if not given.
        captions: a true sentence for each image, in text or as ids in the sentence's order, without START and END.
            They tell a model that is read the wrong way, has START and END swapped, or is a token off, if it was
            trained at all.
        vocabulary: for captions in text; the scorer's if not given.
        reference: a scorer of the same model that is surely right, such as a `PrefixScorer` around the forward pass
            that it was trained with.
        other: the scorer of the other direction, which must have the same vocabulary.
        seed: of the random prefixes.

    Returns:
        a `Report`: ``assert report.ok``, ``print(report)``.

    Raises:
        TypeError: the model is not a scorer at all.
        ValueError: fewer than two images, or captions that do not go with them or the vocabulary.
    """
    if isinstance(images, (str, bytes)) or not hasattr(images, "__len__"):
        raise TypeError(f"images is a {type(images).__name__}; give a list of images")
    if len(images) < 2:
        raise ValueError(f"give at least 2 different images, so that rows can be told apart; got {len(images)}")
    if direction not in (None, "forward", "backward"):
        raise ValueError(f'direction={direction!r}: use "forward" or "backward", the way the model reads')
    reads = getattr(model, "direction", None)
    way = direction or (reads if reads in ("forward", "backward") else None)
    name = f"{way} scorer" if way else "scorer"
    try:
        scorer = as_scorer(model, way or "given")
    except ValueError as error:
        if not all(hasattr(model, member) for member in REQUIRED):
            raise  # it is the wrapping that failed
        swapped = "swapped" in str(error)
        fault = "direction" if swapped else "vocabulary"
        cure = f"pass direction={reads!r}, or the other model" if swapped else "correct the ids, or vocab_size"
        check = "vocabulary"
        findings = [Finding(check, FAULT, fault, str(error), cure)]
        findings += [Finding(later, SKIPPED, "", f"because {check} failed") for later, *_ in CHECKS if later != check]
        return Report(name, tuple(findings))
    if way is None and getattr(scorer, "direction", None) in ("forward", "backward"):
        way = scorer.direction  # type: ignore[attr-defined]
        name = f"{way} scorer"
    vocabulary = as_vocabulary(getattr(scorer, "vocabulary", None) if vocabulary is None else vocabulary)
    ids = None if captions is None else _ids_of(captions, images, scorer, vocabulary)
    sure = None if reference is None else as_scorer(reference, way or "given")
    if other is not None and not all(hasattr(other, member) for member in REQUIRED):
        other = as_scorer(other, {"forward": "backward", "backward": "forward"}.get(way or "", "given"))
    checks = _Checks(scorer, list(images), way, ids, vocabulary, sure, other, seed)
    with no_graph(), eval_mode([scorer] if sure is None else [scorer, sure]):
        return Report(name, tuple(checks.findings()))


def _ids_of(
    captions: Sequence[str | Sequence[int]], images: Sequence[Any], scorer: Scorer, vocabulary: Vocabulary | None
) -> list[tuple[int, ...]]:
    if isinstance(captions, str) or len(captions) != len(images):
        raise ValueError(f"give a list of one caption per image: {len(images)} images, {len(captions)} captions")
    found = []
    for number, caption in enumerate(captions):
        if isinstance(caption, str):
            if vocabulary is None:
                raise ValueError("captions in text need a vocabulary with encode(text): pass vocabulary=, or ids")
            try:
                words = tuple(map(operator.index, vocabulary.encode(caption)))
            except Exception as error:
                raise ValueError(f"caption {number}, {caption!r}: {_first_line(error)}") from None
        else:
            words = tuple(map(operator.index, caption))
        if any(not 0 <= word < scorer.vocab_size for word in words):
            raise ValueError(f"caption {number} has ids outside of the vocabulary of {scorer.vocab_size}: {words}")
        if {scorer.start_token, scorer.end_token} & set(words):
            raise ValueError(f"caption {number} has START or END among its ids, {words}: give the words alone")
        found.append(words)
    return found


class _Fault(Exception):
    def __init__(self, fault: str, message: str, cure: str):
        super().__init__(fault)
        self.fault, self.message, self.cure = fault, message, cure


class _Skip(Exception):
    pass


class _Broken(Exception):
    """An exception inside of the model."""

    def __init__(self, where: str, error: Exception):
        super().__init__(where)
        self.where, self.error = where, error
        self.line = f"{where} raised {type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""


class _Reader:
    """A scorer as the checks use it: every call may fail, scores are checked for their shape and copied at once."""

    def __init__(self, scorer: Scorer, images: Sequence[Any]):
        self.scorer = scorer
        self.images = images
        self.normalized = bool(getattr(scorer, "normalized", False))
        self.dtype = ""
        self.device = ""
        self._backend: Backend | None = None

    def indices(self, values: Sequence[int] | np.ndarray) -> Array:
        numbers = [int(value) for value in values]
        return np.asarray(numbers, dtype=np.int64) if self._backend is None else self._backend.indices(numbers)

    def matrix(self, rows: Sequence[Sequence[int]]) -> Array:
        flat = self.indices([token for row in rows for token in row])
        return flat.reshape(len(rows), -1)

    def call(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self.scorer, name)(*arguments)
        except Exception as error:
            raise _Broken(name, error) from None

    def begin(self, numbers: Sequence[int]) -> Any:
        return self.call("start", self.encode(numbers))

    def encode(self, numbers: Sequence[int]) -> Any:
        return self.call("encode", [self.images[number] for number in numbers])

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        return self.call("select", state, self.indices(rows))

    def step(self, tokens: Sequence[int], state: Any) -> tuple[np.ndarray, Any]:
        scores, state = self.step_raw(tokens, state)
        return numbers_of(scores), state

    def step_raw(self, tokens: Sequence[int], state: Any) -> tuple[Array, Any]:
        returned = self.call("step", self.indices(tokens), state)
        scores, state = self.pair(returned, "step")
        self.check_shape(scores, (len(tokens),), "step")
        return scores, state

    def pair(self, returned: Any, name: str) -> tuple[Any, Any]:
        if not isinstance(returned, tuple) or len(returned) != 2:
            kind = type(returned).__name__
            raise _Fault("shapes", f"{name} returned a {kind}, not a pair", f"return (scores, state) from {name}")
        return returned

    def check_shape(self, scores: Any, leading: tuple[int, ...], name: str) -> None:
        if self._backend is None:
            try:
                self._backend = backend_for(scores)
            except TypeError as error:
                raise _Fault(
                    "shapes", str(error), "return a NumPy array or a PyTorch tensor of floating-point scores"
                ) from None
            self.dtype = str(scores.dtype).rpartition(".")[2]
            self.device = str(getattr(scores, "device", "cpu"))
        shape = tuple(scores.shape)
        width = self.scorer.vocab_size
        wanted = (*leading, width)
        if shape == wanted:
            return
        told = f"{name} returned scores of shape {shape}; expected {wanted}"
        if shape[:-1] == leading:
            raise _Fault(
                "vocabulary",
                f"{told}: the model scores {shape[-1]} ids, and vocab_size says {width}",
                f"declare vocab_size={shape[-1]}, or give the model that goes with the vocabulary of {width} ids",
            )
        rows = leading[0]
        if len(shape) == len(wanted) and shape[0] % rows == 0 and shape[0] > rows > 1:
            raise _Fault(
                "features",
                f"{told}: {shape[0] // rows} rows of scores for every row of tokens; what is known of the images is "
                "expanded once more than it should be",
                "keep the image's features in the state, one row for each row of tokens, and expand them nowhere else",
            )
        raise _Fault("shapes", told, f"return one row of vocab_size scores for each row of tokens from {name}")

    def run(
        self, numbers: Sequence[int], tokens: Sequence[Sequence[int]] | np.ndarray, state: Any = _FRESH
    ) -> np.ndarray:
        """Scores [R, t, vocab] of a plain run from `encode` on, for rows of images ``numbers``; tokens [R, t]."""
        state = self.begin(numbers) if state is _FRESH else state
        scores = []
        for column in np.asarray(tokens).T:
            values, state = self.step(column.tolist(), state)
            scores.append(values)
        return np.stack(scores, axis=1)

    def log_probs(self, scores: np.ndarray) -> np.ndarray:
        return scores if self.normalized else scores - _log_sum_exp(scores)


def numbers_of(scores: Array) -> np.ndarray:
    """A copy as float64."""
    if isinstance(scores, np.ndarray):
        return scores.astype(np.float64)
    return np.array(scores.detach().cpu().double().numpy())


def _log_sum_exp(scores: np.ndarray) -> np.ndarray:
    """Over the last axis, which stays; 0 where all is -inf."""
    highest = scores.max(axis=-1, keepdims=True)
    highest = np.where(np.isneginf(highest), 0, highest)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(scores - highest).sum(axis=-1, keepdims=True)) + highest
    return np.where(np.isneginf(total), 0, total)


class _Checks:
    """The checks, one method each: it returns where all is well, and raises `_Fault` or `_Skip`."""

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
        self.reader = _Reader(scorer, images)
        self.all = list(range(min(len(images), IMAGES_READ)))
        self.never = never_of(scorer)
        self.special, self.unknown = self._named_special()
        self.words = [token for token in range(scorer.vocab_size) if token not in self.never | self.special]
        self.random = np.random.default_rng(seed)
        self.aligned = bool(getattr(scorer, "aligned", True))
        most = getattr(scorer, "max_tokens", None)
        self.most = math.inf if most is None else int(most)  # tokens that a row may read, START included
        self.length = int(min(1 + WORDS_READ, self.most))
        self.tolerance, self.lowest = 1e-4, -60.0

    def findings(self) -> Iterator[Finding]:
        blocked: dict[str, str] = {}
        for check, method, needs in CHECKS:
            root = next((blocked[need] for need in needs if need in blocked), None)
            if root is not None:
                blocked[check] = root
                yield Finding(check, SKIPPED, "", f"because {root} failed")
                continue
            try:
                method(self)
            except _Skip as skip:
                yield Finding(check, SKIPPED, "", str(skip))
            except _Fault as fault:
                blocked[check] = check
                yield Finding(check, FAULT, fault.fault, fault.message, fault.cure)
            except _Broken as broken:
                blocked[check] = check
                blamed = self.blame(broken, check)
                yield Finding(check, FAULT, blamed.fault, blamed.message, blamed.cure)
            else:
                yield Finding(check, OK)

    # What several checks need.

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

    def same(self, one: np.ndarray, two: np.ndarray) -> bool:
        return one.shape == two.shape and bool((self.distance(one, two) <= 1).all())

    def differing(self, got: np.ndarray, wanted: np.ndarray) -> list[int]:
        """The rows [R, t, vocab] that are not the same."""
        far = self.distance(got, wanted).max(axis=-1)
        return [row for row in range(len(far)) if not far[row] <= 1]

    def image_of(self, got: np.ndarray, tokens: np.ndarray, own: int) -> int | None:
        """The other image whose scores a row [t, vocab] is much nearer to than to its own's."""
        grid = self.expected(self.all, np.repeat(tokens[None], len(self.all), axis=0))
        far = self.distance(got[None], grid).max(axis=-1)
        near = int(far.argmin())
        return near if near != own and (far[near] <= 1 or far[near] < 0.3 * far[own]) else None

    @functools.cached_property
    def told_apart(self) -> bool:
        """Whether the images matter at all."""
        got = self.expected(self.all, np.repeat(self.draw(1), len(self.all), axis=0))
        return any(not self.same(got[0], row) for row in got[1:])

    def blame(self, broken: _Broken, check: str) -> _Fault:
        """The likely fault behind an exception in the plainest use of the scorer."""
        text = str(broken.error)
        if "batch_axis" in text:
            return _Fault(
                "batch axis",
                f"the declared batch_axis is not the axis that counts the rows: {broken.line}",
                "declare the axis of each tensor of the state that has one entry per row (the layers of an LSTM "
                "are on axis 0, its rows on axis 1)",
            )
        if check in ("alignment", "start and end", "direction", "special tokens") and not math.isfinite(self.most):
            longest = 1 + max(map(len, self._known[1]))
            return _Fault(
                "length",
                f"captions of up to {longest} tokens, START included, cannot be read, while {self.length} tokens can: "
                f"{broken.line}",
                "give the scorer max_tokens=, the most tokens that the model can read, or make it read longer ones",
            )
        if re.search(r"index.*out of (range|bounds)", text) and broken.where == "step":
            return _Fault(
                "vocabulary",
                f"a token id is out of range for the model: {broken.line}; ids up to {self.words[-1]} were read, "
                f"vocab_size is {self.scorer.vocab_size}",
                "declare the vocab_size, start_token and end_token that the model was trained with",
            )
        if "more than 1 value per channel" in text:
            return _batch_fault(f"an image alone cannot be read: {broken.line}")
        fault = "shapes" if check in ("shapes", "finite", "randomness", "normalisation") else check
        return _Fault(fault, broken.line, f"mend {broken.where} of the scorer, see birnn_decode.scorers.Scorer")

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
            if _SPECIAL.fullmatch(text):
                special.add(token)
            elif _UNKNOWN.fullmatch(text):
                unknown.add(token)
        return frozenset(special | unknown), frozenset(unknown)

    def text_of(self, token: int) -> str:
        try:
            return f"{token} ({self.vocab.decode([token])!r})"  # type: ignore[union-attr]
        except Exception:
            return str(token)

    # The checks, in the order of CHECKS.

    def vocabulary(self) -> None:
        size = operator.index(self.scorer.vocab_size)
        cure = "both models and the vocabulary must have the same words at the same ids"
        vocab: Any = self.vocab
        if vocab is not None and hasattr(vocab, "__len__"):
            # A table of embeddings may be longer than the vocabulary, if the rest of it is never written.
            beyond = set(range(len(vocab), size)) - self.never
            if len(vocab) > size or beyond:
                raise _Fault(
                    "vocabulary", f"the vocabulary has {len(vocab)} ids, and the scorer's vocab_size is {size}", cure
                )
        if self.other is not None:
            others = operator.index(self.other.vocab_size)
            if others != size:
                raise _Fault(
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
                        raise _Fault(
                            "vocabulary",
                            f"id {token} is {texts[0]!r} for this scorer and {texts[1]!r} for the other direction's",
                            cure,
                        )
        if not self.words:
            raise _Fault("vocabulary", f"none of the {size} ids is a word: never has all of them", "correct never")

    def shapes(self) -> None:
        self.tokens = self.draw(len(self.all))
        try:
            self.alone = np.concatenate([self.reader.run([at], self.tokens[at : at + 1]) for at in self.all])
        except _Broken as broken:
            blamed = self.blame(broken, "shapes")
            if blamed.fault == "shapes":
                try:
                    self.reader.run(self.all, self.tokens)
                except (_Broken, _Fault):
                    raise blamed from None
                raise _batch_fault(f"all images together can be read, but not one alone: {broken.line}") from None
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
        runs = [("alone", self.alone, self.tokens), ("in a batch", self.together, self.tokens)]
        for _ in range(2):
            tokens = self.draw(len(self.all))
            runs.append(("in a batch", self.reader.run(self.all, tokens), tokens))
        if self.length > 1:  # as many words as possible
            words = self.words if len(self.words) <= SINGLE_WORDS else self.random.choice(self.words, SINGLE_WORDS)
            tokens = np.asarray([[self.scorer.start_token, word] for word in words])
            images = [self.all[at * len(self.all) // len(words)] for at in range(len(words))]
            runs.append(("in a batch", self.reader.run(images, tokens), tokens))
        for how, scores, tokens in runs:
            bad = np.isnan(scores) | np.isposinf(scores)
            if bad.any():
                row, at, token = (int(number) for number in np.argwhere(bad)[0])
                what = "NaN" if np.isnan(scores[row, at, token]) else "+inf"
                message = (
                    f"step returned {what} for id {token}, row {row} {how}, after the tokens "
                    f"{tokens[row, : at + 1].tolist()} in reading order"
                )
                cure = "look for a division by 0, a log of a negative number, or -inf minus -inf in the model"
                if self.half == "float16":
                    message += "; in half precision (float16) nothing above 65504 can be told: an overflow is likely"
                    cure = "run the model in float32 or bfloat16"
                raise _Fault("finite", message, cure)

    def randomness(self) -> None:
        for numbers, before in ((self.all, self.together), (self.all[:1], self.alone[:1])):
            again = self.reader.run(numbers, self.tokens[: len(numbers)])
            rows = self.differing(self.reader.log_probs(again), self.reader.log_probs(before))
            if rows:
                raise _Fault(
                    "randomness",
                    f"two runs of the same tokens from encode on differ (image {rows[0]}): dropout or other noise is "
                    "on, or the model keeps something from one run to the next",
                    "give the wrapper model= (all modules), so that it is put in eval mode; functional dropout needs "
                    "training=self.training",
                )

    def normalisation(self) -> None:
        scores = np.concatenate([self.alone, self.together])
        sums = _log_sum_exp(scores)
        if self.reader.normalized and np.abs(sums).max() > max(1e-2, 10 * self.tolerance):
            raise _Fault(
                "normalisation",
                f"normalized=True says that step returns log-probabilities, and the log of their sum is "
                f"{sums.flat[np.abs(sums).argmax()]:.3f}, not 0: they are logits",
                "leave out normalized=True, or return log_softmax of them",
            )
        if scores.shape[-1] > 1 and scores.min() >= 0 and np.abs(scores.sum(axis=-1) - 1).max() < 1e-2:
            raise _Fault(
                "normalisation",
                "step returns probabilities: all are 0 or more, and they sum to 1; a search would take them for logits",
                "return the logits from before the softmax, or the logs of the probabilities with normalized=True",
            )

    def batch(self) -> None:
        alone = self.reader.log_probs(self.alone)
        back = self.all[::-1]
        rows = self.reader.run(back, self.tokens[back])[np.argsort(back)]
        for scores, how in ((self.together, "in the batch of all"), (rows, "in the batch in reverse order")):
            got = self.reader.log_probs(scores)
            for row in self.differing(got, alone):
                image = self.image_of_alone(got[row], row)
                if image is not None:
                    raise _Fault(
                        "features",
                        f"{how}, the row of image {row} is scored with image {image}'s features",
                        "give every row the features of its own image: they belong in the state, along the axis that "
                        "counts the rows",
                    )
                far = np.abs(np.maximum(got[row], self.lowest) - np.maximum(alone[row], self.lowest)).max()
                raise _batch_fault(
                    f"image {row} {how} gives other scores than alone, log-probabilities that are up to {far:.2g} nats "
                    "apart: what it is scored with depends on the batch"
                )

    def image_of_alone(self, got: np.ndarray, own: int) -> int | None:
        grid = np.concatenate([self.reader.run([image], self.tokens[own : own + 1]) for image in self.all])
        far = self.distance(got[None], self.reader.log_probs(grid)).max(axis=-1)
        near = int(far.argmin())
        return near if near != own and far[near] <= 1 else None

    def mutation(self) -> None:
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
                    raise _Fault("mutation", f"the {numbers} start of one context does not begin anew: {told}", cure)
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
                        raise _Fault(
                            "mutation",
                            f"{told}: a state from which another token was read, then stepped {how}, after {at} words, "
                            "gives other scores than in a run of its own",
                            cure,
                        )
                state = after
        except _Broken as broken:
            raise _Fault("mutation", f"{told}: a state that is used twice fails, {broken.line}", cure) from None

    # select: one diagnosis, told by three checks.

    def batch_axis(self) -> None:
        self._tell_select("batch axis")

    def features(self) -> None:
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
            raise _Fault("features", f"{kept}: the row of image {row} is scored with other features", cure)
        if not self.told_apart:
            raise _Skip("all images give the same scores, so their rows cannot be told apart")

    def select(self) -> None:
        if self._select_fault is not None:
            raise self._select_fault

    def _tell_select(self, name: str) -> None:
        fault = self._select_fault
        if fault is not None and fault.fault == name:
            raise fault

    @functools.cached_property
    def _select_fault(self) -> _Fault | None:
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
            except _Broken as broken:
                fault = self._select_broken(what, broken)
            except _Fault as wrong:
                fault = wrong
                if wrong.fault == "shapes":
                    fault = _Fault("features", f"after select, which {what}, {wrong.message}", _GATHER)
            if fault is not None:
                return fault
        return None

    def _trial(self, what: str, first: list[int] | None, then: list[int] | None) -> _Fault | None:
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
        image = None
        if then is None:
            image = self.image_of(got[row], later[row], owners[row])
        else:
            grid = self.expected(self.all, np.repeat(later[row][None], len(self.all), axis=0))[:, before:]
            far = self.distance(got[row][None], grid).max(axis=-1)
            near = int(far.argmin())
            if near != owners[row] and far[near] <= 1:
                image = near
        mixed = f"the row of image {owners[row]} is scored with "
        mixed += "what belongs to other rows" if image is None else f"image {image}'s features"
        if probed is not None:
            return _Fault(probed.fault, f"{told} {mixed}: {probed.message}", probed.cure)
        if image is not None:
            return _Fault("features", f"{told} {mixed}", _GATHER)
        if self.told_apart and what.startswith("reorders") and first is not None:
            return _Fault("features", f"{told} {mixed}, as if a part of the state had not been gathered", _GATHER)
        return _Fault(
            "select",
            f"{told} the row that was row {row if then is None else then[row]} (image {owners[row]}) goes on as if it "
            "had read something else",
            "let select gather the given rows of every part of the state, in the given order",
        )

    def _select_broken(self, what: str, broken: _Broken) -> _Fault:
        told = f"after select, which {what}, {broken.line}"
        probed = self._probe()
        if probed is not None:
            return _Fault(probed.fault, f"{probed.message}; {told}", probed.cure)
        if "batch_axis" in str(broken.error) or broken.where == "select":
            return _Fault("batch axis", f"rows are looked for on an axis that does not count them: {told}", _AXIS)
        return _Fault(
            "features",
            f"the model seems to hold on to another number of rows, such as one for each image: {told}",
            _GATHER,
        )

    def _probe(self) -> _Fault | None:
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
                    return _Fault(
                        "batch axis",
                        f"{counts}: axis {axis} counts the rows, and select gathers on axis {moved}",
                        _AXIS,
                    )
                if now == shape and not still:
                    told = f"{counts}: axis {axis} counts the rows, and select leaves it as it is"
                    return _Fault("batch axis", told, _AXIS)
                how = "leaves it as it is" if now == shape else f"makes {now} of it for {len(rows)} rows"
                told = f"{counts}: what is known of the images is not gathered along with the rows, select {how}"
                fault = fault or _Fault("features", told, _GATHER)
            return fault
        except (_Broken, _Fault):
            return None

    def views(self) -> None:
        cure = "let select return new arrays: no buffer that is used again, no view, no reordering in place"
        told = "select returns what does not stay as it is"
        if self.length < 2:
            raise _Skip("the model reads one token only")
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
                    raise _Fault("views", what, cure)
        except _Broken as broken:
            raise _Fault("views", f"{told}: after three selections of one state, {broken.line}", cure) from None

    def scores(self) -> None:
        state = self.reader.begin(self.all)
        kept: list[tuple[Array, np.ndarray]] = []
        for column in self.tokens.T:
            for _ in range(2):
                scores, after = self.reader.step_raw(column.tolist(), state)
                kept.append((scores, numbers_of(scores)))
            state = after
        for scores, copy in kept:
            if not np.array_equal(numbers_of(scores), copy):
                raise _Fault(
                    "scores",
                    "scores that step returned change later: a later call writes into the same buffer",
                    "return new scores from every step, or a copy of the buffer",
                )

    def join(self) -> None:
        if getattr(self.scorer, "join", None) is None:
            raise _Skip("the scorer has no join")
        if self.length < 2:
            raise _Skip("the model reads one token only")
        tokens = self.draw(len(self.all))
        depth = max(1, self.length - 2)
        cure = "let join put the rows of the given states one after another, all parts of them on the axis of the rows"
        for further in (0, 1) if not self.aligned and depth + 1 < self.length else (0,):
            deep, rest = self.all[:1], self.all[1:]
            long = np.concatenate([tokens[:1, : depth + further], tokens[:1, -1:]], axis=1)
            short = np.concatenate([tokens[1:, :depth], tokens[1:, -1:]], axis=1)
            wanted = np.concatenate([self.expected(deep, long)[:, -1], self.expected(rest, short)[:, -1]])
            odd = _Fault(
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
            except _Broken as broken:
                if further:
                    raise _Fault("join", f"{odd.message}: {broken.line}", odd.cure) from None
                raise _Fault("join", f"rows of two states cannot be joined: {broken.line}", cure) from None
            if not self.same(self.reader.log_probs(got), wanted):
                raise (
                    odd
                    if further
                    else _Fault(
                        "join", "rows of two states that are joined go on as if they had read something else", cure
                    )
                )

    def prefill(self) -> None:
        if getattr(self.scorer, "prefill", None) is None:
            raise _Skip("the scorer has no prefill")
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
            raise _Fault("prefill", "prefill gives other scores than reading the same tokens with step", cure)
        if read < self.length:
            after, _ = self.reader.step(whole[:, read].tolist(), state)
            if not self.same(self.reader.log_probs(after), expected[:, read]):
                raise _Fault("prefill", "the state that prefill returns goes on as if it had read something else", cure)

    def _tell_shift(self, got: np.ndarray, wanted: np.ndarray, name: str, than: str) -> None:
        """Whether got [R, t, vocab] is wanted, a token earlier or later."""
        if got.shape[1] < 3:
            return
        later, earlier = self.same(got[:, 1:], wanted[:, :-1]), self.same(got[:, :-1], wanted[:, 1:])
        if later or earlier:
            raise _Fault(
                "alignment",
                f"{name} are those of {than} one token {'later' if later else 'earlier'}: off by one between the "
                "tokens read and the word that is scored",
                "the scores at a token are those of the token after it; START is read first, and by step, not by start",
            )

    def score(self) -> None:
        if getattr(self.scorer, "score", None) is None:
            raise _Skip("the scorer has no score")
        numbers = [0, 0, *self.all[1:]]
        lengths = [0, *(1 + (at + self.length) % max(1, self.length - 1) for at in range(len(numbers) - 1))]
        lengths = [min(length, self.length - 1) for length in lengths]
        drawn = self.draw(len(numbers), self.length)
        sentences = [tuple(map(int, row[1 : 1 + length])) for row, length in zip(drawn, lengths, strict=True)]
        expected = self.expected(numbers, drawn)
        context = self.reader.encode(self.all)
        got = self.reader.call("score", context, np.asarray(numbers, dtype=np.int64), sentences)
        cure = "let score give the log-probability of each word in reading order and, last, of the end, in nats"
        if len(got) != len(sentences):
            raise _Fault("score", f"score gave {len(got)} arrays for {len(sentences)} sentences", cure)
        for words, terms, table in zip(sentences, got, expected, strict=True):
            values = np.asarray([float(term) for term in terms])
            targets = [*words, self.scorer.end_token]
            if len(values) != len(targets):
                raise _Fault("score", f"score gave {len(values)} terms for {len(words)} words; one more is due", cure)
            wanted = np.asarray([table[at, token] for at, token in enumerate(targets)])
            if not self.same(values[:, None], wanted[:, None]):
                if len(wanted) > 2:
                    self._tell_shift(values[None, :, None], wanted[None, :, None], "score's terms", "step's")
                raise _Fault(
                    "score", f"score gives other log-probabilities than step for a sentence of {len(words)} words", cure
                )

    def compared(self) -> None:
        if self.reference_scorer is None:
            raise _Skip("needs reference=...")
        sure = _Reader(self.reference_scorer, self.reader.images)
        mine = (self.scorer.vocab_size, self.scorer.start_token, self.scorer.end_token)
        theirs = (sure.scorer.vocab_size, sure.scorer.start_token, sure.scorer.end_token)
        if mine[0] != theirs[0]:
            raise _Fault(
                "vocabulary", f"the reference has {theirs[0]} ids, the scorer {mine[0]}", "compare like models"
            )
        if mine != theirs:
            raise _Fault(
                "start and end",
                f"start_token and end_token are {mine[1:]}, and {theirs[1:]} for the reference",
                "give the ids that the model was trained to begin and to end with, in its reading order",
            )
        try:
            wanted = sure.log_probs(sure.run(self.all, self.tokens))
        except (_Broken, _Fault) as error:
            told = error.line if isinstance(error, _Broken) else error.message
            raise _Fault("reference", f"the reference itself fails: {told}", "mend the reference") from None
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
            except (_Broken, _Fault):
                continue
            if self.same(odd[:, -2:], got[:, -2:]):
                raise _Fault(
                    "alignment",
                    f"the scores are those of the reference where {what}: off by one token",
                    "let start return the state before START; the first step reads START",
                )
        rows = self.differing(got, wanted)
        far = self.distance(got, wanted)[rows[0]]
        raise _Fault(
            "reference",
            f"the scores of image {rows[0]} differ from the reference's, first after {int((far > 1).argmax())} words",
            "compare the parts of the wrapper with what the model does in its own forward pass",
        )

    # What captions tell.

    @functools.cached_property
    def _known(self) -> tuple[list[int], list[tuple[int, ...]]]:
        """The images and captions that are short enough, the captions in sentence order."""
        if self.captions is None:
            raise _Skip("needs captions=...")
        pairs = [
            (image, words)
            for image, words in enumerate(self.captions[:CAPTIONS_READ])
            if words and 1 + len(words) <= self.most
        ]
        if not pairs:
            raise _Skip("needs captions of at least a word and at most max_tokens")
        return [image for image, _ in pairs], [words for _, words in pairs]

    def _read(self, reverse: bool, swap: bool) -> tuple[np.ndarray, list[list[int]]]:
        """Log-probabilities after each token of the captions, and the tokens, START and END included."""
        numbers, captions = self._known
        begin, end = self.scorer.start_token, self.scorer.end_token
        if swap:
            begin, end = end, begin
        sequences = [[begin, *(words[::-1] if reverse else words), end] for words in captions]
        longest = max(map(len, sequences)) - 1
        padded = [sequence[:-1] + [self.words[0]] * (longest + 1 - len(sequence)) for sequence in sequences]
        return np.maximum(self.expected(numbers, np.asarray(padded)), -30.0), sequences

    @functools.cached_property
    def _readings(self) -> dict[tuple[bool, bool], float]:
        """Mean log-probability per token of captions that are read in (other order, with swapped ids)."""
        swaps = (False, True) if self.scorer.start_token != self.scorer.end_token else (False,)
        means = {}
        for other in (False, True):
            for swap in swaps:
                try:
                    table, sequences = self._read(self._reverse ^ other, swap) if other or swap else self._declared
                except _Broken:
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
        _ = self._known
        if self.direction is None:
            raise _Skip("needs direction=...")

    def alignment(self) -> None:
        self._needs_order()
        table, sequences = self._declared
        means = {}
        for shift in (0, -1, 1):
            terms = [
                table[row, at, tokens[at + 1 + shift]]
                for row, tokens in enumerate(sequences)
                for at in range(1, len(tokens) - 2)
            ]
            if not terms:
                raise _Skip("needs captions of two words or more")
            means[shift] = float(np.mean(terms))
        best = max((-1, 1), key=means.__getitem__)
        readings = max(self._readings.values())
        if means[best] > max(means[0] + CLEARLY, readings + CLEARLY, self._chance):
            what = "the word that was just read" if best < 0 else "the word after the next"
            raise _Fault(
                "alignment",
                f"the scores fit {what} better than the next word ({means[best]:.2f} against {means[0]:.2f} nats per "
                "token of the captions): off by one between the tokens read and the word that is scored",
                "step returns the scores of the token after the one that it reads; START is read first, and by step",
            )
        self._needs_knowledge()

    def _needs_knowledge(self) -> None:
        if max(self._readings.values()) < self._chance:
            raise _Skip("the model gives the captions no more than chance, whichever way they are read")

    def start_and_end(self) -> None:
        self._needs_order()
        if self.scorer.start_token == self.scorer.end_token:
            raise _Skip("start_token is end_token")
        self._needs_knowledge()
        self._tell_reading(other=False)

    def reading_order(self) -> None:
        self._needs_order()
        self._needs_knowledge()
        if all(words == words[::-1] for words in self._known[1]):
            raise _Skip("needs captions that are not the same backward")
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
            raise _Fault(
                "direction",
                f"the model given as the {self.direction} one reads the other way: the captions are likelier when "
                f"{order}{swapped} ({gap})",
                f"pass it as the {'forward' if self._reverse else 'backward'} model"
                + (f", with {ids}" if best[1] else ""),
            )
        raise _Fault(
            "start and end",
            f"start_token and end_token are swapped: the other way round the captions are likelier ({gap})",
            f"declare {ids}: a model begins with start_token and ends with end_token in its own reading order",
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
        }
        for ids, why in ((self.special, "the vocabulary calls it special"), (padding, "an embedding's padding_idx")):
            left = sorted(ids - self.never)
            if left:
                named = ", ".join(self.text_of(token) for token in left[:5]) + (", …" if len(left) > 5 else "")
                raise _Fault(
                    "special tokens",
                    f"id {named} is not in never ({why}), so that a blank might be filled with it",
                    f"add it to never: never={{{', '.join(map(str, left[:5]))}{', …' if len(left) > 5 else ''}}}",
                )

    def special_tokens(self) -> None:
        try:
            self._needs_order()
            self._needs_knowledge()
            trained = True
            table, sequences = self._declared
            tables = [table[row, : len(tokens) - 1] for row, tokens in enumerate(sequences)]
        except _Skip:
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
                raise _Fault(
                    "special tokens",
                    f"id {self.text_of(token)}, {role}, is given {mass[token]:.0%} of the probability as if it were a "
                    "word: that mass is lost to the words, or the ids are wrong",
                    "look up which ids the model was trained with (start_token, end_token, never); a model trained to "
                    "write PAD or START must have them masked to -inf before the softmax",
                )


_AXIS = "declare, or gather on, the axis of each tensor of the state that has one entry per row"
_GATHER = (
    "put what is known of the images into the state, once, with one entry per row, and let select gather it like the "
    "rest of the state (in a TorchScorer: give it a batch_axis, not None)"
)


def _batch_fault(message: str) -> _Fault:
    return _Fault(
        "batch",
        message,
        "put all modules in eval mode (model= of the wrapper; BatchNorm in training mode mixes the batch), and see "
        "that padding and masks are those of each image alone",
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


CHECKS: tuple[tuple[str, Callable[[_Checks], None], tuple[str, ...]], ...] = (
    # name, method, the checks that must not have failed
    ("vocabulary", _Checks.vocabulary, ()),
    ("shapes", _Checks.shapes, ("vocabulary",)),
    ("finite", _Checks.finite, ("shapes",)),
    ("randomness", _Checks.randomness, ("finite",)),
    ("normalisation", _Checks.normalisation, ("randomness",)),
    ("batch", _Checks.batch, ("normalisation",)),
    ("mutation", _Checks.mutation, ("batch",)),
    ("batch axis", _Checks.batch_axis, ("mutation",)),
    ("features", _Checks.features, ("batch axis",)),
    ("select", _Checks.select, ("features",)),
    ("views", _Checks.views, ("select",)),
    ("scores", _Checks.scores, ("mutation",)),
    ("join", _Checks.join, ("views",)),
    ("prefill", _Checks.prefill, ("select",)),
    ("score", _Checks.score, ("select",)),
    ("reference", _Checks.compared, ("batch",)),
    ("alignment", _Checks.alignment, ("reference", "prefill", "score")),
    ("start and end", _Checks.start_and_end, ("alignment",)),
    ("direction", _Checks.reading_order, ("start and end",)),
    ("never", _Checks.not_words, ("vocabulary",)),
    ("special tokens", _Checks.special_tokens, ("never", "direction")),
)
