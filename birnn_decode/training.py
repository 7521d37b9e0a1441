"""Train a forward and a backward model together, as a pair or as the two halves of a Bi-RNN, or an alignment model."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from birnn_decode.checks import check_choice, check_count
from birnn_decode.files import reading, write_whole
from birnn_decode.lines import Line, Lines
from birnn_decode.models.alignment import LOSSES, AlignmentModel, ranking_loss
from birnn_decode.models.birnn import BiRNN
from birnn_decode.models.captioner import Captioner
from birnn_decode.models.encoder import SmallCNN
from birnn_decode.scorers import as_scorer
from birnn_decode.vocabularies import PAD, UNK

__all__ = [
    "ALIGNMENT_PRESETS",
    "PRESETS",
    "AlignmentEpoch",
    "AlignmentTraining",
    "Batch",
    "BiRNNEpoch",
    "BiRNNTraining",
    "CaptionedImages",
    "Epoch",
    "Preset",
    "Recipe",
    "RegionCaptions",
    "TextLines",
    "Training",
    "evaluate_birnn",
    "evaluate_pair",
    "fit_encoder",
]

FORMAT = "birnn_decode training 2"
PRECISIONS = ("float32", "bfloat16")
POOL = 25  # blocks of a file of lines that are shuffled together
ALIKE = 50  # batches whose lines are sorted by length, so that little is padded


class Batch(NamedTuple):
    """What one step of a training reads.

    Attributes:
        sentences: the sentences, each a list of ids in sentence order.
        sources: feature vectors [sources, feature_size], prepared pictures [sources, …], or a list of what the models'
            ``encode`` takes.
        owner: for each sentence the row of its source; None if there is one source for each sentence.
        right: which sentences are captions of which pictures, word for word, bool [pictures, sentences]; None if the
            model does not rank.

    Example:
        >>> from birnn_decode.training import Batch
        >>> Batch([[4, 5], [6]], [None, None]).words  # with the end of each sentence
        5
    """

    sentences: Sequence[Sequence[int]]
    sources: Any
    owner: Sequence[int] | None = None
    right: torch.Tensor | None = None

    @property
    def words(self) -> int:
        """Number of words of all sentences; END counts as a word."""
        return sum(len(sentence) + 1 for sentence in self.sentences)


class Data(Protocol):
    """What a training learns from."""

    def __len__(self) -> int:
        """Return the number of items that batches are counted in."""

    def batches(self, size: int, order: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield all items in batches of ``size`` items, in an order drawn by ``order``; None: not shuffled."""

    def fingerprint(self) -> list[Any]:
        """Return values that almost always differ if the data differ."""


@dataclass(frozen=True)
class CaptionedImages:
    """Images and their captions, ready for training.

    Attributes:
        images: feature vectors [N, feature_size], or prepared pictures [N, …], see `ImageEncoder.prepare`. They stay on
            their device; each batch is moved to the device of the models.
        captions: for each image its captions, each a list of word ids in sentence order.

    Raises:
        ValueError: there are no images, the numbers of images and of lists of captions differ, or an image has no
            caption.

    Example:
        >>> import torch
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.training import CaptionedImages
        >>> words = WordVocabulary(["a", "cat", "dog"])
        >>> data = CaptionedImages(torch.eye(2), [[words.encode("a cat")], [words.encode("a dog")]])
        >>> len(data)
        2
    """

    images: torch.Tensor
    captions: Sequence[Sequence[Sequence[int]]]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.captions):
            raise ValueError(
                "there must be a list of captions for each image, got "
                f"{len(self.captions)} for {len(self.images)} images"
            )
        if not len(self.captions):
            raise ValueError("there are no images; give at least one")
        for number, captions in enumerate(self.captions):
            if not captions:
                raise ValueError(f"image {number} has no caption; leave it out")

    def __len__(self) -> int:
        return len(self.captions)

    def batches(self, size: int, order: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield the images in batches, each with all of its captions.

        Args:
            size: number of images of a batch.
            order: draws the order of the images; None: the images in their order (default: None).

        Yields:
            The batches.
        """
        numbers = torch.arange(len(self)) if order is None else torch.randperm(len(self), generator=order)
        for batch in _batches(numbers, size):
            captions = [caption for image in batch for caption in self.captions[image]]
            owner = [row for row, image in enumerate(batch) for _ in self.captions[image]]
            yield Batch(captions, self.images[batch], owner)

    def fingerprint(self) -> list[Any]:
        """Return values that almost always differ if images or captions differ.

        Returns:
            Values that JSON can hold.
        """
        captions = repr([[list(words) for words in captions] for captions in self.captions])
        # The last digits of the images are left out: those of an encoder depend on the number of threads.
        size = float(self.images.cpu().double().abs().mean()) if self.images.numel() else 0.0
        return [list(self.images.shape), f"{size:.3g}", zlib.crc32(captions.encode())]


@dataclass(frozen=True)
class RegionCaptions:
    """Regions of pictures and captions, ready for the training of an alignment model.

    Attributes:
        regions: feature vectors of the regions of each picture, [pictures, regions, feature_size].
        captions: for each picture its captions, each a list of word ids in sentence order.

    Raises:
        ValueError: there are fewer than two pictures, the numbers of pictures and of lists of captions differ, a
            picture has no caption, or ``regions`` has another shape.

    Example:
        >>> import torch
        >>> from birnn_decode.training import RegionCaptions
        >>> data = RegionCaptions(torch.zeros(2, 1, 3), [[[4, 5], [4]], [[4, 6]]])
        >>> len(data)  # pairs of a picture and a sentence
        3
    """

    regions: torch.Tensor
    captions: Sequence[Sequence[Sequence[int]]]

    def __post_init__(self) -> None:
        if self.regions.ndim != 3:
            raise ValueError(
                f"regions must have the shape [pictures, regions, feature_size], got {list(self.regions.shape)}"
            )
        CaptionedImages(self.regions, self.captions)  # the same checks
        if len(self.captions) < 2:
            raise ValueError("there is one picture; an alignment model needs at least two, to tell them apart")

    def __len__(self) -> int:
        return sum(map(len, self.captions))

    def batches(self, size: int, order: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield all pairs of a picture and one of its captions, in batches.

        The pictures of a batch are different ones as far as possible.

        Args:
            size: number of pairs of a batch.
            order: draws the order; None: always the same order, which mixes the pictures, because neighbours in a file
                are often alike (default: None).

        Yields:
            The batches.
        """
        order = torch.Generator().manual_seed(0) if order is None else order
        turns = [torch.randperm(len(captions), generator=order).tolist() for captions in self.captions]
        pairs = []
        for turn in range(max(map(len, turns))):
            for image in torch.randperm(len(turns), generator=order).tolist():
                if turn < len(turns[image]):
                    pairs.append((image, turns[image][turn]))
        own = [set(map(tuple, captions)) for captions in self.captions]
        for begin in range(0, len(pairs), size):
            some = pairs[begin : begin + size]
            rows = {image: row for row, image in enumerate(dict.fromkeys(image for image, _ in some))}
            sentences = [self.captions[image][number] for image, number in some]
            right = torch.tensor([[tuple(words) in own[image] for words in sentences] for image in rows])
            yield Batch(sentences, self.regions[list(rows)], [rows[image] for image, _ in some], right)

    def fingerprint(self) -> list[Any]:
        """Return values that almost always differ if regions or captions differ.

        Returns:
            Values that JSON can hold.
        """
        return CaptionedImages(self.regions, self.captions).fingerprint()


@dataclass(eq=False)
class TextLines:
    r"""Lines of a file and their sources, ready for training.

    All lines are read once, to count what is left out. Afterwards they are read block by block whenever they are
    needed, so that a file may be larger than the memory.

    Args:
        lines: the lines.
        vocabulary: gives the ids of the lines.
        source_vocabulary: gives the ids of the sources, if these are texts (default: None).
        max_tokens: longer lines, and lines with longer sources, are left out (default: 500).
        limit: about the largest number of lines; more are thinned out evenly, by a checksum (default: None, no limit).

    Attributes:
        left_out: what is left out, in words, and how many times.
        lacking: tokens that a vocabulary lacks, and how often each occurs in the lines that are not left out. They are
            UNK in the training.
        lacking_lines: number of lines with such a token.

    Raises:
        ValueError: no line is left.

    Example:
        >>> import pathlib, tempfile
        >>> from birnn_decode.lines import read_lines
        >>> from birnn_decode.training import TextLines
        >>> from birnn_decode.vocabularies import CharacterVocabulary
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "some.smi"
        ...     _ = path.write_text("CCO\nCCN\nCCCCCCCC\n")
        ...     data = TextLines(read_lines(path).split(), CharacterVocabulary("CO"), max_tokens=5)
        >>> len(data), data.left_out, data.lacking
        (2, Counter({'lines of more than 5 tokens': 1}), Counter({'N': 1}))
    """

    lines: Lines
    vocabulary: Any
    source_vocabulary: Any = None
    max_tokens: int = 500
    limit: int | None = None
    left_out: Counter[str] = field(default_factory=Counter, init=False)
    lacking: Counter[str] = field(default_factory=Counter, init=False)
    lacking_lines: int = field(default=0, init=False)
    _count: int = field(default=0, init=False)
    _thin: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        check_count("max_tokens", self.max_tokens, least=1)
        if self.limit is not None:
            self._thin = -(-len(self.lines) // self.limit)
        for line in filter(self._is_drawn, self.lines):
            if why := self._why_left_out(line):
                self.left_out[why] += 1
                continue
            self._count += 1
            if lacking := self._lacking(line):
                self.lacking.update(lacking)
                self.lacking_lines += 1
        if not self._count:
            raise ValueError(f"{self.lines.file.path} has no line of at most {self.max_tokens} tokens")

    def __len__(self) -> int:
        return self._count

    def batches(self, size: int, order: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield the lines in batches of lines of similar lengths.

        Args:
            size: number of lines of a batch.
            order: draws the order of the lines and of the batches; None: the order of the file (default: None).

        Yields:
            The batches.
        """
        blocks = _drawn(self.lines.blocks, order)
        waiting: list[Line] = []
        for begin in range(0, len(blocks), POOL):
            for number in blocks[begin : begin + POOL]:
                drawn = filter(self._is_drawn, self.lines.block(number))
                waiting += [line for line in drawn if self._why_left_out(line) is None]
            waiting = [waiting[number] for number in _drawn(len(waiting), order)]
            is_last = begin + POOL >= len(blocks)
            ready = len(waiting) if is_last else len(waiting) - len(waiting) % size
            now, waiting = waiting[:ready], waiting[ready:]
            alike = [sorted(now[at : at + ALIKE * size], key=_length) for at in range(0, ready, ALIKE * size)]
            cut = [own[at : at + size] for own in alike for at in range(0, len(own), size)]
            for number in _drawn(len(cut), order):
                yield self._batch(cut[number])

    def fingerprint(self) -> list[Any]:
        """Return values that almost always differ if the lines differ.

        Returns:
            Values that JSON can hold.
        """
        first = repr([line[:2] if line.source is None else tuple(line) for line in self.lines.block(0)])
        return [len(self), self.max_tokens, self.limit, dict(self.lines.file.counts), zlib.crc32(first.encode())]

    def _batch(self, lines: Sequence[Line]) -> Batch:
        sentences = [self.vocabulary.encode(line.text, unknown=UNK) for line in lines]
        sources: Any = [line.source for line in lines]
        if isinstance(sources[0], str):
            # A source of characters that a tokenizer drops has no tokens, and a translator needs one.
            sources = [self.source_vocabulary.encode(source, unknown=UNK) or [UNK] for source in sources]
        elif sources[0] is not None:
            sources = torch.from_numpy(np.stack(sources)).float()
        return Batch(sentences, sources)

    def _is_drawn(self, line: Line) -> bool:
        return self._thin == 1 or zlib.adler32(line.text.encode()) % self._thin == 0

    def _why_left_out(self, line: Line) -> str | None:
        if line.text.isspace() and not self.vocabulary.exact:
            return "lines of white space"
        source = line.source if isinstance(line.source, str) else ""
        if 4 * max(len(line.text), len(source)) <= self.max_tokens:  # a character is at most four bytes
            return None
        both = (self.vocabulary, line.text), (self.source_vocabulary, source)
        fits = all(len(own.encode(text, unknown=UNK)) <= self.max_tokens for own, text in both if text)
        return None if fits else f"lines of more than {self.max_tokens} tokens"

    def _lacking(self, line: Line) -> list[str]:
        lacking: list[str] = self.vocabulary.lacking(line.text)
        return lacking + self.source_vocabulary.lacking(line.source) if isinstance(line.source, str) else lacking


def _length(line: Line) -> int:
    return len(line.text)


def _drawn(count: int, order: torch.Generator | None) -> Sequence[int]:
    """Numbers from 0, in an order that is drawn."""
    return range(count) if order is None else torch.randperm(count, generator=order).tolist()


@dataclass(frozen=True)
class Recipe:
    """The settings of a training.

    Attributes:
        epochs: number of times that every caption is seen.
        batch_size: number of lines per step, or of images, each with all of its captions (default: 64).
        optimizer: ``"adam"``: Adam with PyTorch's ``OneCycleLR``, so that the learning rate rises for a tenth of the
            steps and then falls to 0. ``"rmsprop"``: RMSprop with a constant learning rate. ``"sgd"``: stochastic
            gradient descent with a momentum of 0.9 and a constant learning rate (default: "adam").
        learning_rate: largest learning rate (default: 0.002).
        clip_norm: largest norm of the gradients of all parameters together; None: no limit (default: 5).
        clip_value: largest absolute value of each number of the gradients; None: no limit (default: None).
        precision: ``"float32"``, or ``"bfloat16"``: matrix products and recurrent layers compute in half precision, and
            the weights stay in single precision (PyTorch's automatic mixed precision). This is faster on GPUs, and on
            CPUs with instructions for it. On a CPU, see the page on performance about memory (default: "float32").
        patience: number of epochs without a lower validation loss after which the training ends; None: it never ends
            early (default: None).
        loss: the loss of an alignment model, ``"margin"`` or ``"softmax"``; see `ranking_loss` (default: "margin").

    Raises:
        TypeError: a number is not a whole number, or ``optimizer`` is not text.
        ValueError: a setting is out of range.

    Example:
        >>> from birnn_decode.training import Recipe
        >>> Recipe(epochs=3).learning_rate
        0.002
    """

    epochs: int
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    clip_norm: float | None = 5.0
    clip_value: float | None = None
    precision: str = "float32"
    patience: int | None = None
    loss: str = "margin"

    def __post_init__(self) -> None:
        check_count("epochs", self.epochs, least=1)
        check_count("batch_size", self.batch_size, least=1)
        check_choice("optimizer", self.optimizer, ("adam", "rmsprop", "sgd"))
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("loss", self.loss, LOSSES)
        if self.patience is not None:
            check_count("patience", self.patience, least=1)
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")


@dataclass(frozen=True)
class Preset:
    """The kind and sizes of a captioner, with the recipe to train it.

    Attributes:
        captioner: kind of the models: "lstm", "gru", "multimodal-rnn", "translator" or "alignment".
        embedding_size: size of the word vectors.
        hidden_size: size of the recurrent state.
        dropout: share of values that are dropped in training.
        recipe: the settings of the training.
        unit_regions: for an alignment model, see `AlignmentModel` (default: False).

    Example:
        >>> from birnn_decode.training import PRESETS
        >>> PRESETS["karpathy"].hidden_size
        512
    """

    captioner: str
    embedding_size: int
    hidden_size: int
    dropout: float
    recipe: Recipe
    unit_regions: bool = False


PRESETS = {
    # For 60,000 molecules as characters, and for 29,000 sentences with their translations.
    "lines": Preset("lstm", 64, 384, 0.1, Recipe(epochs=8, patience=2)),
    "translator": Preset("translator", 256, 256, 0.3, Recipe(epochs=10, patience=2)),
    # Chosen by the validation loss on 8,400 captions of aerial pictures, five per image: 65 captions per step.
    "lstm": Preset("lstm", 256, 256, 0.3, Recipe(epochs=8, batch_size=13)),
    # Karpathy and Fei-Fei (CVPR 2015) give the hidden size, batches of 100 captions (five per image), RMSprop, dropout
    # and the clipping. They do not give the learning rate, the size of the word vectors or the number of epochs.
    "karpathy": Preset(
        "multimodal-rnn",
        512,
        512,
        0.5,
        Recipe(epochs=10, batch_size=20, optimizer="rmsprop", learning_rate=1e-3, clip_norm=None, clip_value=5.0),
    ),
}


ALIGNMENT_PRESETS = {
    # Chosen by the recalls on the validation split of aerial pictures, five captions per picture.
    "alignment": Preset(
        "alignment",
        256,
        256,
        0.5,
        Recipe(epochs=6, batch_size=100, learning_rate=1e-3, loss="softmax"),
        unit_regions=True,
    ),
    # Karpathy and Fei-Fei (CVPR 2015) give the size, the word vectors' 300 numbers, SGD with a momentum of 0.9, batches
    # of 100 pairs, dropout and the clipping. They do not give the learning rate or the number of epochs.
    "karpathy": Preset(
        "alignment",
        300,
        1000,
        0.5,
        Recipe(epochs=12, batch_size=100, optimizer="sgd", learning_rate=2e-5, clip_norm=None, clip_value=5.0),
    ),
}


@dataclass(frozen=True)
class Epoch:
    """The losses of one epoch of a pair, in nats per word.

    END counts as a word.

    Attributes:
        number: number of the epoch, from 1.
        training_forward: loss of the forward model: mean over the epoch, with dropout.
        training_backward: the same for the backward model.
        validation_forward: loss of the forward model on the validation data after the epoch.
        validation_backward: the same for the backward model.
        seconds: wall-clock time of the epoch. It is ignored when epochs are compared.

    Example:
        >>> from birnn_decode.training import Epoch
        >>> print(Epoch(1, 2.5, 2.25, 2.0, 1.5, seconds=3.0))
        epoch  1: training 2.500 forward, 2.250 backward; validation 2.000, 1.500 nats per word; 3 s
    """

    number: int
    training_forward: float
    training_backward: float
    validation_forward: float
    validation_backward: float
    seconds: float = field(compare=False)

    @property
    def validation(self) -> float:
        """Mean validation loss of both directions, in nats per word."""
        return (self.validation_forward + self.validation_backward) / 2

    def __str__(self) -> str:
        return (
            f"epoch {self.number:2}: training {self.training_forward:.3f} forward, {self.training_backward:.3f} "
            f"backward; validation {self.validation_forward:.3f}, {self.validation_backward:.3f} nats per word; "
            f"{self.seconds:.0f} s"
        )


@dataclass(frozen=True)
class BiRNNEpoch:
    """The losses of one epoch of a Bi-RNN, in nats per word.

    Each word is predicted from all others of its caption.

    Attributes:
        number: number of the epoch, from 1.
        training: loss: mean over the epoch, with dropout.
        validation: loss on the validation data after the epoch.
        seconds: wall-clock time of the epoch. It is ignored when epochs are compared.

    Example:
        >>> from birnn_decode.training import BiRNNEpoch
        >>> print(BiRNNEpoch(1, 1.25, 1.0, seconds=3.0))
        epoch  1: training 1.250; validation 1.000 nats per word; 3 s
    """

    number: int
    training: float
    validation: float
    seconds: float = field(compare=False)

    def __str__(self) -> str:
        return (
            f"epoch {self.number:2}: training {self.training:.3f}; validation {self.validation:.3f} nats per word; "
            f"{self.seconds:.0f} s"
        )


@dataclass(frozen=True)
class AlignmentEpoch:
    """The losses of one epoch of an alignment model, per sentence.

    Attributes:
        number: number of the epoch, from 1.
        training: loss: mean over the epoch, with dropout; see `ranking_loss`.
        validation: loss on the validation data after the epoch.
        seconds: wall-clock time of the epoch. It is ignored when epochs are compared.

    Example:
        >>> from birnn_decode.training import AlignmentEpoch
        >>> print(AlignmentEpoch(1, 14.5, 12.25, seconds=3.0))
        epoch  1: training 14.500; validation 12.250 per sentence; 3 s
    """

    number: int
    training: float
    validation: float
    seconds: float = field(compare=False)

    def __str__(self) -> str:
        return (
            f"epoch {self.number:2}: training {self.training:.3f}; validation {self.validation:.3f} per sentence; "
            f"{self.seconds:.0f} s"
        )


def _context(model: Captioner, sources: Any) -> Any:
    """What a model knows of sources, with a graph."""
    if not isinstance(sources, torch.Tensor):
        return model.encode(sources)
    given = sources.to(model.output.weight.device)
    if given.ndim > 2 and model.encoder is not None:
        given = model.encoder(given)
    return given.to(model.output.weight)


def _of_sentences(context: Any, batch: Batch) -> Any:
    """The context of each sentence."""
    return context if batch.owner is None else context[batch.owner]


def _loss(model: Captioner, context: Any, sentences: Sequence[Sequence[int]]) -> torch.Tensor:
    """The summed loss of some sentences."""
    padded = model.padded(sentences)
    targets = padded[:, 1:]
    real = targets != PAD
    hidden, _ = model.read(padded[:, :-1], model.start(context))
    # The scores of all words are most of the work; none are computed for padding.
    return nn.functional.cross_entropy(model.project(hidden[real]), targets[real], reduction="sum")


@dataclass
class _Begun:
    """The epoch that is begun.

    Attributes:
        order: the state of the generator of the order at its beginning.
        steps: number of steps that are done.
        losses: the sum of the losses of each model.
        words: number of words read.
        seconds: time that its steps took.
    """

    order: torch.Tensor
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    words: int = 0
    seconds: float = 0.0

    def add(self, losses: torch.Tensor, words: int, seconds: float) -> None:
        """Count a step."""
        self.steps += 1
        self.losses = [sum(both) for both in itertools.zip_longest(self.losses, losses.tolist(), fillvalue=0.0)]
        self.words += words
        self.seconds += seconds

    @property
    def mean(self) -> list[float]:
        """The mean losses, in nats per word."""
        return [loss / self.words for loss in self.losses]


class _Training:
    """A training that can be stopped after any step and resumed later with the same result.

    Args:
        models: the models that are trained.
        captioners: the forward and the backward captioner that they consist of; an alignment model is both.
        training: the training data.
        validation: the validation data.
        recipe: the settings.
        seed: seed of the order of the images.
    """

    counted: ClassVar[str] = "words"  # what losses are means over
    epoch: ClassVar[Callable[..., Any]]  # makes an epoch of its number, its training and validation losses and its time
    _losses_of: Callable[..., tuple[torch.Tensor, int]]  # the summed losses of a batch, and what they are means over

    def __init__(
        self,
        models: Sequence[nn.Module],
        captioners: Sequence[Any],
        training: Data,
        validation: Data,
        recipe: Recipe,
        seed: int,
    ):
        self._models = models
        self._captioners = captioners
        self._training = training
        self._validation = validation
        self._recipe = recipe
        self._order = torch.Generator().manual_seed(seed)
        parameters = dict.fromkeys(parameter for model in models for parameter in model.parameters())
        self._descent = _Descent(list(parameters), recipe, len(training))
        self.history: list[Any] = []
        self.steps = self._descent.steps
        self.steps_done = 0
        self.words_done = 0
        self._epoch = _Begun(self._order.get_state())

    @property
    def best(self) -> Any:
        """The epoch with the lowest validation loss; None before the first epoch.

        Of equal losses, the first one counts.
        """
        return min(self.history, key=lambda epoch: epoch.validation, default=None)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the training has stopped early.

        It stops early if the validation loss has not become lower for ``Recipe.patience`` epochs.
        """
        done, patience = len(self.history), self._recipe.patience
        waited = 0 if self.best is None else done - self.best.number
        return done >= self._recipe.epochs or (patience is not None and waited >= patience)

    def run(self, on_step: Callable[[float], None] | None = None) -> Iterator[Any]:
        """Train one epoch per step of the iterator.

        Between two epochs the models can be saved. To stop the training, stop the iteration, or raise an exception in
        ``on_step``: `Training.save` then writes a checkpoint of the epoch that was begun, and the next call of this
        method continues it.

        Args:
            on_step: called after each step with the loss of the step, in nats per word; for a pair, with the mean of
                both directions (default: None).

        Yields:
            The epoch that has been done; nothing if the training is finished.

        Raises:
            ValueError: a loss is not finite any more.
        """
        while not self.finished:
            clock = time.perf_counter()
            for model in self._models:
                model.train()
            begun = self._epoch
            self._order.set_state(begun.order)
            batches = self._training.batches(self._recipe.batch_size, self._order)
            for batch in itertools.islice(batches, begun.steps, None):
                with torch.autocast(self._device.type, torch.bfloat16, enabled=self._recipe.precision == "bfloat16"):
                    loss, counted = self._losses_of(self._models, batch)
                self._descent.step(loss.sum() / max(counted, 1))
                of_batch = loss.detach().cpu()
                if not of_batch.isfinite().all():
                    raise ValueError(
                        f"the training has diverged in epoch {len(self.history) + 1}: its loss is not finite; try a "
                        f"lower learning rate than {self._recipe.learning_rate:g}"
                    )
                now = time.perf_counter()
                begun.add(of_batch, counted, now - clock)
                clock = now
                self.steps_done += 1
                self.words_done += counted
                if on_step is not None:
                    on_step(of_batch.mean().item() / max(counted, 1))
            validated = _evaluate(self._models, self._losses_of, self._validation, self._recipe.batch_size)
            seconds = begun.seconds + time.perf_counter() - clock
            self._epoch = _Begun(self._order.get_state())
            self.history.append(self.epoch(len(self.history) + 1, *begun.mean, *validated, seconds))
            yield self.history[-1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, completely or not at all.

        Args:
            path: the file to write.

        Raises:
            OSError: the file cannot be written.
        """
        state = {
            "format": FORMAT,
            "made_of": self._made_of(),
            "models": [model.state_dict() for model in self._models],
            "optimizer": self._descent.optimizer.state_dict(),
            "schedule": self._descent.schedule.state_dict(),
            "epoch": asdict(self._epoch),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None,
            "steps_done": self.steps_done,
            "words_done": self.words_done,
            "history": [asdict(epoch) for epoch in self.history],
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_whole(path, buffer.getvalue())

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint, with the same weights, order and random numbers.

        The models stay on their device, which may be another one than that of the checkpoint. On another device, and on
        devices other than the CPU and CUDA, dropout draws other random numbers than an uninterrupted training.

        Args:
            path: a file that `Training.save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is not a checkpoint, or was written with other settings, words or data.
        """
        path = os.fspath(path)
        try:
            with reading(path, "checkpoint"), open(path, "rb") as file:
                state = torch.load(io.BytesIO(file.read()), map_location="cpu", weights_only=True)
            if state["format"] != FORMAT:
                raise ValueError(state["format"])
        except (EOFError, LookupError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is damaged, or not a checkpoint of a training") from error
        ours, theirs = self._made_of(), state["made_of"]
        if changed := [setting for setting in ours if ours[setting] != theirs.get(setting)]:
            raise ValueError(
                f"{path} cannot be resumed, because {', '.join(changed)} changed since it was written: give the same "
                "options as then, or start again under another name"
            )
        for model, weights in zip(self._models, state["models"], strict=True):
            model.load_state_dict(weights)
        self._descent.optimizer.load_state_dict(state["optimizer"])
        self._descent.schedule.load_state_dict(state["schedule"])
        self._epoch = _Begun(**state["epoch"])
        torch.set_rng_state(state["random"])
        if self._device.type == "cuda" and state.get("random_cuda") is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self._device)
        self.steps_done = state["steps_done"]
        self.words_done = state["words_done"]
        self.history = [self.epoch(**epoch) for epoch in state["history"]]

    @property
    def _device(self) -> torch.device:
        return self._captioners[0].output.weight.device

    def _made_of(self) -> dict[str, Any]:
        """The plain values that must be the same when a training is resumed."""
        first, second = self._captioners
        encoder, of_sources = first.encoder, first.source_vocabulary
        return {
            "the settings of the training": asdict(self._recipe),
            "the seed": self._order.initial_seed(),
            "the captioners": [first.config, second.config, None if encoder is None else encoder.config],
            "the kind of model": type(self).__name__,
            "the vocabulary": first.vocabulary.config,
            "the vocabulary of the sources": None if of_sources is None else of_sources.config,
            "the training data": self._training.fingerprint(),
            "the validation data": self._validation.fingerprint(),
        }


class Training(_Training):
    """The training of a pair of captioners.

    Both captioners are trained on the same batches, on the device that they are on. If they share an encoder that is a
    ``torch.nn.Module``, both train it. The training can be stopped after any step and resumed later with the same
    result.

    Args:
        model_f: the captioner that reads forward.
        model_b: the captioner that reads backward.
        training: the training data.
        validation: the validation data, on which the losses are measured after each epoch.
        recipe: the settings.
        seed: seed of the order of the images (default: 0). Dropout and the first weights of the models depend on
            PyTorch's own seed.

    Attributes:
        history: the epochs that are done, each an `Epoch`.
        steps: number of steps of all epochs together.
        steps_done: number of steps that are done.

    Raises:
        ValueError: a captioner reads in the wrong direction.

    Example:
        >>> import torch
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import GRUCaptioner
        >>> from birnn_decode.training import CaptionedImages, Recipe, Training
        >>> words = WordVocabulary(["a", "cat", "dog"])
        >>> data = CaptionedImages(torch.eye(2), [[words.encode("a cat")], [words.encode("a dog")]])
        >>> sizes = {"feature_size": 2, "embedding_size": 8, "hidden_size": 8}
        >>> model_f = GRUCaptioner(words, direction="forward", **sizes)
        >>> model_b = GRUCaptioner(words, direction="backward", **sizes)
        >>> training = Training(model_f, model_b, data, data, Recipe(epochs=20, learning_rate=0.05))
        >>> epochs = list(training.run())
        >>> epochs[-1].validation < epochs[0].validation
        True
    """

    epoch = Epoch

    def __init__(
        self,
        model_f: Captioner,
        model_b: Captioner,
        training: Data,
        validation: Data,
        recipe: Recipe,
        seed: int = 0,
    ):
        as_scorer(model_f, "forward")
        as_scorer(model_b, "backward")
        super().__init__((model_f, model_b), (model_f, model_b), training, validation, recipe, seed)

    @staticmethod
    def _losses_of(models: Sequence[Captioner], batch: Batch) -> tuple[torch.Tensor, int]:
        """The summed losses [2] of a pair over all sentences of a batch, and the number of words."""
        model_f, model_b = models
        context_f = _context(model_f, batch.sources)
        shared = isinstance(batch.sources, torch.Tensor) and model_b.encoder is model_f.encoder
        context_b = context_f if shared else _context(model_b, batch.sources)
        contexts = _of_sentences(context_f, batch), _of_sentences(context_b, batch)
        losses = [_loss(model, own, batch.sentences) for model, own in zip(models, contexts, strict=True)]
        return torch.stack(losses), batch.words


class BiRNNTraining(_Training):
    """The training of a Bi-RNN.

    Each word is predicted from all others of its caption. Everything else is as in `Training`.

    Args:
        model: the Bi-RNN.
        training: the training data.
        validation: the validation data, on which the loss is measured after each epoch.
        recipe: the settings.
        seed: see `Training` (default: 0).

    Attributes:
        history: the epochs that are done, each a `BiRNNEpoch`.
        steps: number of steps of all epochs together.
        steps_done: number of steps that are done.

    Raises:
        TypeError: ``model`` is not a `BiRNN`.

    Example:
        >>> import torch
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import BiRNN, GRUCaptioner
        >>> from birnn_decode.training import BiRNNTraining, CaptionedImages, Recipe
        >>> words = WordVocabulary(["a", "cat", "dog"])
        >>> data = CaptionedImages(torch.eye(2), [[words.encode("a cat")], [words.encode("a dog")]])
        >>> sizes = {"feature_size": 2, "embedding_size": 8, "hidden_size": 8}
        >>> model_f = GRUCaptioner(words, direction="forward", **sizes)
        >>> model_b = GRUCaptioner(words, direction="backward", **sizes)
        >>> training = BiRNNTraining(BiRNN(model_f, model_b), data, data, Recipe(epochs=20, learning_rate=0.05))
        >>> epochs = list(training.run())
        >>> epochs[-1].validation < epochs[0].validation
        True
    """

    epoch = BiRNNEpoch

    def __init__(self, model: BiRNN, training: Data, validation: Data, recipe: Recipe, seed: int = 0):
        if not isinstance(model, BiRNN):
            raise TypeError(f"BiRNNTraining takes a BiRNN, got {type(model).__name__}; use Training for a pair")
        super().__init__((model,), (model.forward_half, model.backward_half), training, validation, recipe, seed)

    @staticmethod
    def _losses_of(models: Sequence[BiRNN], batch: Batch) -> tuple[torch.Tensor, int]:
        """The summed loss [1] of a Bi-RNN over all sentences of a batch, and the number of words."""
        (model,) = models
        context = _of_sentences(_context(model.forward_half, batch.sources), batch)
        logits = model(context, batch.sentences)
        targets = model.forward_half.tokens([word for sentence in batch.sentences for word in sentence])
        return nn.functional.cross_entropy(logits, targets, reduction="sum")[None], len(targets)


class AlignmentTraining(_Training):
    """The training of an alignment model.

    Each step reads pairs of a picture and one of its captions, as many as ``Recipe.batch_size`` says. An image encoder
    is not trained. Everything else is as in `Training`.

    Args:
        model: the alignment model.
        training: the training data.
        validation: the validation data, on which the loss is measured after each epoch.
        recipe: the settings.
        seed: see `Training` (default: 0).

    Attributes:
        model: the alignment model.
        history: the epochs that are done, each an `AlignmentEpoch`.
        steps: number of steps of all epochs together.
        steps_done: number of steps that are done.

    Raises:
        TypeError: ``model`` is not an `AlignmentModel`.

    Example:
        >>> import torch
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import AlignmentModel
        >>> from birnn_decode.training import AlignmentTraining, Recipe, RegionCaptions
        >>> words = WordVocabulary(["a", "cat", "dog"])
        >>> data = RegionCaptions(torch.eye(2)[:, None], [[words.encode("a cat")], [words.encode("a dog")]])
        >>> model = AlignmentModel(words, feature_size=2, embedding_size=8, hidden_size=8)
        >>> epochs = list(AlignmentTraining(model, data, data, Recipe(epochs=20, learning_rate=0.05)).run())
        >>> epochs[-1].validation < epochs[0].validation
        True
    """

    counted = "sentences"
    epoch = AlignmentEpoch

    def __init__(
        self,
        model: AlignmentModel,
        training: RegionCaptions,
        validation: RegionCaptions,
        recipe: Recipe,
        seed: int = 0,
    ):
        if not isinstance(model, AlignmentModel):
            raise TypeError(f"AlignmentTraining takes an AlignmentModel, got {type(model).__name__}")
        super().__init__((model,), (model, model), training, validation, recipe, seed)
        self.model = model

    def _losses_of(self, models: Sequence[AlignmentModel], batch: Batch) -> tuple[torch.Tensor, int]:
        """The summed loss [1] of a batch, and the number of sentences."""
        (model,) = models
        assert batch.owner is not None
        scores = model(batch.sources, batch.sentences)
        losses = ranking_loss(scores, batch.owner, batch.right, self._recipe.loss)
        return losses.sum()[None], len(losses)


def fit_encoder(
    encoder: SmallCNN,
    data: CaptionedImages,
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
    on_step: Callable[[float], None] | None = None,
) -> Iterator[float]:
    """Train an image encoder alone, without captioners.

    The encoder learns to detect which pairs of neighbouring words the captions of an image have. A decoder learns
    little before its encoder sees anything, and an encoder learns little before its decoder can write. Pairs of words
    ("red circle") need no decoder. This is the idea of the word detectors of Fang et al. (From Captions to Visual
    Concepts and Back, CVPR 2015), with pairs in place of words, because a pair says which shape has which colour.

    Args:
        encoder: the encoder; it is trained on the device that it is on.
        data: prepared pictures and their captions.
        epochs: number of epochs.
        batch_size: number of images per step (default: 64).
        learning_rate: largest learning rate; it rises and falls as with "adam" of `Recipe` (default: 0.002).
        seed: seed of the order of the images (default: 0). The first weights of the detectors depend on PyTorch's own
            seed.
        on_step: called after each step with its loss (default: None).

    Yields:
        After each epoch its mean loss, in nats per image and pair of words.

    Example:
        >>> import torch
        >>> from birnn_decode.captions import WordVocabulary, make_scenes
        >>> from birnn_decode.models import SmallCNN
        >>> from birnn_decode.training import CaptionedImages, fit_encoder
        >>> encoder = SmallCNN(pixels=16, channels=(4, 8))
        >>> scenes = make_scenes(4, seed=0, captions=1)
        >>> words = WordVocabulary.from_captions(caption for scene in scenes for caption in scene.captions)
        >>> pictures = torch.stack([encoder.prepare(scene.picture(16)) for scene in scenes])
        >>> captions = [[words.encode(caption) for caption in scene.captions] for scene in scenes]
        >>> losses = list(fit_encoder(encoder, CaptionedImages(pictures, captions), epochs=20, learning_rate=0.02))
        >>> losses[-1] < losses[0]
        True
    """
    pairs = [{pair for caption in captions for pair in itertools.pairwise(caption)} for captions in data.captions]
    numbers = {pair: number for number, pair in enumerate(sorted(set().union(*pairs)))}
    order = torch.Generator().manual_seed(seed)
    device = next(encoder.parameters()).device
    detectors = nn.Linear(encoder.feature_size, len(numbers)).to(device)
    descent = _Descent(
        [*encoder.parameters(), *detectors.parameters()],
        Recipe(epochs, batch_size, learning_rate=learning_rate, clip_norm=None),
        len(data),
    )
    for _ in range(epochs):
        encoder.train()
        total = 0.0
        for batch in _batches(torch.randperm(len(data), generator=order), batch_size):
            wanted = torch.zeros(len(batch), len(numbers))
            for row, image in zip(wanted, batch, strict=True):
                row[[numbers[pair] for pair in pairs[image]]] = 1
            loss = nn.functional.binary_cross_entropy_with_logits(
                detectors(encoder(data.images[batch])), wanted.to(device)
            )
            descent.step(loss)
            total += loss.item() * len(batch)
            if on_step is not None:
                on_step(loss.item())
        encoder.eval()
        yield total / len(data)


def evaluate_pair(model_f: Captioner, model_b: Captioner, data: Data, batch_size: int = 64) -> tuple[float, float]:
    """Measure the losses of a pair of captioners.

    Args:
        model_f: the captioner that reads forward. It is put in eval mode and stays in it.
        model_b: the captioner that reads backward. It is put in eval mode and stays in it.
        data: images and captions.
        batch_size: number of images per batch (default: 64).

    Returns:
        The losses of the forward and of the backward captioner, in nats per word; END counts as a word.

    Example:
        >>> import torch
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> from birnn_decode.training import CaptionedImages, evaluate_pair
        >>> models = default_pair()
        >>> scene = make_scene(seed=2, number=0, captions=1)
        >>> picture = models.forward.encoder.prepare(scene.picture())
        >>> data = CaptionedImages(picture[None], [[models.forward.vocabulary.encode(scene.captions[0])]])
        >>> all(loss < 1 for loss in evaluate_pair(models.forward, models.backward, data))
        True
    """
    forward, backward = _evaluate((model_f, model_b), Training._losses_of, data, batch_size)
    return forward, backward


def evaluate_birnn(model: BiRNN, data: Data, batch_size: int = 64) -> float:
    """Measure the loss of a Bi-RNN: the negative pseudo-log-likelihood per word.

    Args:
        model: the Bi-RNN. It is put in eval mode and stays in it.
        data: images and captions.
        batch_size: number of images per batch (default: 64).

    Returns:
        The loss, in nats per word.

    Example:
        >>> import math, torch
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import BiRNN, GRUCaptioner
        >>> from birnn_decode.training import CaptionedImages, evaluate_birnn
        >>> words = WordVocabulary(["a", "cat"])
        >>> model_f = GRUCaptioner(words, direction="forward", feature_size=2)
        >>> model_b = GRUCaptioner(words, direction="backward", feature_size=2)
        >>> data = CaptionedImages(torch.eye(1, 2), [[words.encode("a cat")]])
        >>> math.isfinite(evaluate_birnn(BiRNN(model_f, model_b), data))
        True
    """
    (loss,) = _evaluate((model,), BiRNNTraining._losses_of, data, batch_size)
    return loss


def _evaluate(
    models: Sequence[nn.Module],
    losses_of: Callable[..., tuple[torch.Tensor, int]],
    data: Data,
    batch_size: int,
) -> list[float]:
    """The losses of models in eval mode, in nats per word."""
    for model in models:
        model.eval()
    with torch.no_grad():
        parts = [losses_of(models, batch) for batch in data.batches(batch_size)]
    losses, words = zip(*parts, strict=True)
    return (torch.stack(losses).cpu().double().sum(dim=0) / sum(words)).tolist()


class _Descent:
    """An optimizer with the schedule of its learning rate, by a recipe.

    Args:
        parameters: the parameters to change.
        recipe: the settings.
        images: number of images of an epoch.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], recipe: Recipe, images: int):
        self._parameters = parameters
        self._recipe = recipe
        self.steps = recipe.epochs * -(-images // recipe.batch_size)
        if recipe.optimizer == "rmsprop":
            self.optimizer: torch.optim.Optimizer = torch.optim.RMSprop(parameters, lr=recipe.learning_rate)
        elif recipe.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(parameters, lr=recipe.learning_rate, momentum=0.9)
        else:
            self.optimizer = torch.optim.Adam(parameters, lr=recipe.learning_rate)
        if recipe.optimizer != "adam":
            self.schedule: Any = torch.optim.lr_scheduler.ConstantLR(self.optimizer, factor=1.0)
        else:
            steps = max(self.steps, 2)  # OneCycleLR needs two steps, and more than one of them in its rise
            self.schedule = torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer, recipe.learning_rate, total_steps=steps, pct_start=max(0.1, 1.5 / steps)
            )

    def step(self, loss: torch.Tensor) -> None:
        """Change the parameters by the gradients of a loss."""
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._recipe.clip_norm)
        if self._recipe.clip_value is not None:
            nn.utils.clip_grad_value_(self._parameters, self._recipe.clip_value)
        self.optimizer.step()
        self.schedule.step()


def _batches(numbers: torch.Tensor, size: int) -> list[list[int]]:
    return [batch.tolist() for batch in torch.split(numbers, size)]
