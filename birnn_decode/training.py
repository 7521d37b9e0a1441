"""Fit a forward and a backward captioner, together: as a pair, or as the halves of a Bi-RNN."""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import pickle
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from birnn_decode.captions.vocabulary import PAD
from birnn_decode.files import write_whole
from birnn_decode.models.birnn import BiRNN
from birnn_decode.models.captioner import Captioner
from birnn_decode.models.encoder import SmallCNN
from birnn_decode.scorers import as_scorer

FORMAT = "birnn_decode training 1"


@dataclass(frozen=True)
class CaptionedImages:
    """Images and what was written about them.

    Attributes:
        images: feature vectors [N, feature_size], or pictures as the captioners' encoder takes them, [N, …].
        captions: for each image the ids of its captions' words, in sentence order.

    Raises:
        ValueError: no images, or other numbers of images and of lists of captions, or an image without a caption.
    """

    images: torch.Tensor
    captions: Sequence[Sequence[Sequence[int]]]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.captions):
            raise ValueError(f"{len(self.images)} images and captions for {len(self.captions)}: give some for each")
        for number, captions in enumerate(self.captions):
            if not captions:
                raise ValueError(f"image {number} has no caption: leave it out")
        if not len(self.captions):
            raise ValueError("there are no images")

    def __len__(self) -> int:
        return len(self.captions)

    def fingerprint(self) -> list[Any]:
        """What nearly always differs where images or captions do; JSON can hold it."""
        captions = repr([[list(words) for words in captions] for captions in self.captions])
        # Not every digit of the images: an encoder's last ones depend on the number of threads.
        size = float(self.images.double().abs().mean()) if self.images.numel() else 0.0
        return [list(self.images.shape), f"{size:.3g}", zlib.crc32(captions.encode())]


@dataclass(frozen=True)
class Recipe:
    """How a pair is fitted.

    Attributes:
        epochs: how many times every caption is seen.
        batch_size: images per step, each with all of its captions.
        optimizer: ``"adam"``: Adam under PyTorch's `OneCycleLR`: the learning rate rises for a tenth of the steps and
            then falls to 0, and the momentum does the opposite. ``"rmsprop"``: RMSprop at one learning rate.
        learning_rate: the highest.
        clip_norm: gradients are scaled down to that norm; None: not at all.
        clip_value: each number of the gradients is cut off there; None: nowhere.

    Raises:
        ValueError: a setting that cannot be.
    """

    epochs: int
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    clip_norm: float | None = 5.0
    clip_value: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"epochs={self.epochs}, batch_size={self.batch_size}: both are 1 or more")
        if self.optimizer not in ("adam", "rmsprop"):
            raise ValueError(f'optimizer={self.optimizer!r}: use "adam" or "rmsprop"')
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate}: it is above 0")


@dataclass(frozen=True)
class Preset:
    """A captioner's form, and how it is fitted.

    Attributes:
        captioner: which of `birnn_decode.models.files.CAPTIONERS`.
        embedding_size: of its word vectors.
        hidden_size: of its recurrent state.
        dropout: share of values left out while training.
        recipe: how it is fitted.
    """

    captioner: str
    embedding_size: int
    hidden_size: int
    dropout: float
    recipe: Recipe


PRESETS = {
    # Chosen by the validation loss on 8,400 captions of aerial pictures, five an image: 65 captions a step.
    "lstm": Preset("lstm", 256, 256, 0.3, Recipe(epochs=8, batch_size=13)),
    # Karpathy and Fei-Fei (CVPR 2015): hidden size, batches of 100 captions (five an image), RMSprop, dropout and the
    # clipping are theirs; the learning rate, the size of the word vectors and the number of epochs they leave open.
    "karpathy": Preset(
        "multimodal-rnn",
        512,
        512,
        0.5,
        Recipe(epochs=10, batch_size=20, optimizer="rmsprop", learning_rate=1e-3, clip_norm=None, clip_value=5.0),
    ),
}


@dataclass(frozen=True)
class Epoch:
    """How an epoch went; losses are nats per word, END counted as one.

    Attributes:
        number: 1 for the first.
        training_forward: mean over the epoch, dropout on.
        training_backward: the same of the backward model.
        validation_forward: of the validation set after the epoch.
        validation_backward: the same of the backward model.
        seconds: wall-clock time that it took; no part of what makes epochs equal.
    """

    number: int
    training_forward: float
    training_backward: float
    validation_forward: float
    validation_backward: float
    seconds: float = field(compare=False)

    @property
    def validation(self) -> float:
        """Mean of both directions."""
        return (self.validation_forward + self.validation_backward) / 2


@dataclass(frozen=True)
class BiRNNEpoch:
    """How an epoch of a Bi-RNN went; losses are nats per word, each word told from all others of its caption.

    Attributes:
        number: 1 for the first.
        training: mean over the epoch, dropout on.
        validation: of the validation set after the epoch.
        seconds: wall-clock time that it took; no part of what makes epochs equal.
    """

    number: int
    training: float
    validation: float
    seconds: float = field(compare=False)


class _Fitting:
    """The fitting of some models, which can be left after any epoch and gone on with later, as if nothing had been.

    Args:
        models: what is fitted.
        captioners: those that they consist of.
        training: what is learnt.
        validation: tells how well the models do after each epoch.
        recipe: how.
        seed: of the order of the images.

    Attributes:
        history: the epochs that are done.
        steps: of all epochs together.
        steps_done: so far.
    """

    epoch: ClassVar[Callable[..., Any]]  # from its number, its losses in training and in validation, and its seconds

    def __init__(
        self,
        models: Sequence[nn.Module],
        captioners: Sequence[Captioner],
        training: CaptionedImages,
        validation: CaptionedImages,
        recipe: Recipe,
        seed: int,
    ):
        self._models = models
        self._captioners = captioners
        self._training = training
        self._validation = validation
        self._recipe = recipe
        self._order = torch.Generator().manual_seed(seed)
        self._parameters = list(dict.fromkeys(one for model in self._models for one in model.parameters()))
        self.history: list[Any] = []
        self.steps = recipe.epochs * -(-len(training) // recipe.batch_size)
        self.steps_done = 0
        self._optimizer, self._schedule = _optimizer(self._parameters, recipe, self.steps)

    def _losses(self, batch: Sequence[int]) -> tuple[Sequence[torch.Tensor], int]:
        """The summed losses of some training images, and of how many words."""
        raise NotImplementedError

    def _validate(self) -> Sequence[float]:
        """The losses of the validation set, in nats per word."""
        raise NotImplementedError

    @property
    def best(self) -> Any:
        """The epoch of the lowest validation loss, the first of equals; None before any."""
        return min(self.history, key=lambda epoch: epoch.validation, default=None)

    def run(self, on_step: Callable[[float], None] | None = None) -> Iterator[Any]:
        """Train, an epoch at each step of the iterator; what happens in between is the caller's.

        Args:
            on_step: called after each step with its loss, in nats per word; of a pair the mean of both directions.

        Yields:
            how the epoch went; nothing where all are done.

        Raises:
            ValueError: a loss is no longer finite.
        """
        recipe = self._recipe
        while len(self.history) < recipe.epochs:
            began = time.perf_counter()
            for model in self._models:
                model.train()
            losses: Any = 0
            words = 0
            for batch in _batches(torch.randperm(len(self._training), generator=self._order), recipe.batch_size):
                own, counted = self._losses(batch)
                self._optimizer.zero_grad()
                (sum(own[1:], start=own[0]) / max(counted, 1)).backward()  # type: ignore[no-untyped-call]
                if recipe.clip_norm is not None:
                    nn.utils.clip_grad_norm_(self._parameters, recipe.clip_norm)
                if recipe.clip_value is not None:
                    nn.utils.clip_grad_value_(self._parameters, recipe.clip_value)
                self._optimizer.step()
                self._schedule.step()
                of_batch = torch.stack(list(own)).detach().cpu()
                if not of_batch.isfinite().all():
                    raise ValueError(
                        f"the training has diverged in epoch {len(self.history) + 1} (its loss is no number any more): "
                        f"try a lower learning rate than {recipe.learning_rate:g}"
                    )
                losses += of_batch
                words += counted
                self.steps_done += 1
                if on_step is not None:
                    on_step(of_batch.mean().item() / max(counted, 1))
            trained, validated = (losses / words).tolist(), self._validate()
            seconds = time.perf_counter() - began
            self.history.append(self.epoch(len(self.history) + 1, *trained, *validated, seconds=seconds))
            yield self.history[-1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that is needed to go on: the file is there as a whole, or stays what it was.

        Raises:
            OSError: it cannot be written there.
        """
        state = {
            "format": FORMAT,
            "made_of": self._made_of(),
            "models": [model.state_dict() for model in self._models],
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "order": self._order.get_state(),
            "random": torch.get_rng_state(),
            "steps_done": self.steps_done,
            "history": [dataclasses.asdict(epoch) for epoch in self.history],
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_whole(path, buffer.getvalue())

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Go on where `save` was called: with the same weights, order and random numbers.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not a file that `save` wrote, or was written with other settings, words or data.
        """
        try:
            with open(path, "rb") as file:
                state = torch.load(io.BytesIO(file.read()), weights_only=True)
            if state["format"] != FORMAT:
                raise ValueError(state["format"])
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no checkpoint {os.fspath(path)} to go on from") from None
        except (EOFError, LookupError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError) as error:
            raise ValueError(f"{os.fspath(path)} is damaged, or not a checkpoint of a training") from error
        ours, theirs = self._made_of(), state["made_of"]
        changed = [name for name in ours if ours[name] != theirs.get(name)]
        if changed:
            raise ValueError(
                f"{os.fspath(path)} cannot be gone on with: since then {', '.join(changed)} changed. Give what was "
                "given then, or begin anew under another name"
            )
        for model, weights in zip(self._models, state["models"], strict=True):
            model.load_state_dict(weights)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._order.set_state(state["order"])
        torch.set_rng_state(state["random"])
        self.steps_done = state["steps_done"]
        self.history = [self.epoch(**epoch) for epoch in state["history"]]

    def _made_of(self) -> dict[str, Any]:
        """What must be the same for a run to go on; every value is plain."""
        first, second = self._captioners
        encoder = first.encoder
        return {
            "the settings of the training": dataclasses.asdict(self._recipe),
            "the seed": self._order.initial_seed(),
            "the captioners": [first.config, second.config, None if encoder is None else encoder.config],
            "the kind of model": type(self).__name__,
            "the vocabulary": list(first.vocabulary.words),
            "the training data": self._training.fingerprint(),
            "the validation data": self._validation.fingerprint(),
        }


class Training(_Fitting):
    """The fitting of a pair, which can be left after any epoch and gone on with later, as if nothing had been.

    An encoder that both models share is trained by both.

    Args:
        model_f: reads forward.
        model_b: reads backward.
        training: what is learnt.
        validation: tells how well the pair does after each epoch.
        recipe: how.
        seed: of the order of the images. Dropout, like the first weights, draws from PyTorch's own generator.

    Attributes:
        history: the epochs that are done, each an `Epoch`.
        steps: of all epochs together.
        steps_done: so far.
    """

    epoch = Epoch

    def __init__(
        self,
        model_f: Captioner,
        model_b: Captioner,
        training: CaptionedImages,
        validation: CaptionedImages,
        recipe: Recipe,
        seed: int = 0,
    ):
        as_scorer(model_f, "forward")
        as_scorer(model_b, "backward")
        self._pair = (model_f, model_b)
        super().__init__(self._pair, self._pair, training, validation, recipe, seed)

    def _losses(self, batch: Sequence[int]) -> tuple[Sequence[torch.Tensor], int]:
        loss_f, loss_b, words = _losses(self._pair, self._training, batch)
        return (loss_f, loss_b), words

    def _validate(self) -> Sequence[float]:
        return evaluate_pair(*self._pair, self._validation, self._recipe.batch_size)


class BiRNNTraining(_Fitting):
    """The fitting of a Bi-RNN: each word is to be told from all others of its caption. Otherwise as `Training`.

    Args:
        model: what is fitted.
        training: what is learnt.
        validation: tells how well the model does after each epoch.
        recipe: how.
        seed: as for `Training`.

    Raises:
        TypeError: the model is no `BiRNN`.

    Attributes:
        history: the epochs that are done, each a `BiRNNEpoch`.
        steps: of all epochs together.
        steps_done: so far.
    """

    epoch = BiRNNEpoch

    def __init__(
        self,
        model: BiRNN,
        training: CaptionedImages,
        validation: CaptionedImages,
        recipe: Recipe,
        seed: int = 0,
    ):
        if not isinstance(model, BiRNN):
            raise TypeError(f"BiRNNTraining fits a BiRNN, not a {type(model).__name__}; Training fits a pair")
        self._model = model
        halves = (model.forward_half, model.backward_half)
        super().__init__((model,), halves, training, validation, recipe, seed)

    def _losses(self, batch: Sequence[int]) -> tuple[Sequence[torch.Tensor], int]:
        loss, words = _birnn_loss(self._model, self._training, batch)
        return (loss,), words

    def _validate(self) -> Sequence[float]:
        return (evaluate_birnn(self._model, self._validation, self._recipe.batch_size),)


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
    """Train an image encoder alone to tell which pairs of neighbouring words an image's captions have.

    A decoder learns little before its encoder sees anything, and the encoder little before the decoder can write. Word
    pairs ("red circle") need no decoder: this is the idea of the word detectors of Fang et al. (From Captions to Visual
    Concepts and Back, CVPR 2015), with pairs, which say what belongs to what.

    Args:
        encoder: what is trained.
        data: pictures as the encoder takes them, and their captions.
        epochs: how many.
        batch_size: images per step.
        learning_rate: the highest; it rises and falls as with a `Recipe`.
        seed: of the order of the images. The first weights of the detectors come from PyTorch's own generator.
        on_step: called after each step with its loss.

    Yields:
        after each epoch, its mean loss in nats per image and word pair.
    """
    pairs = [{pair for caption in captions for pair in itertools.pairwise(caption)} for captions in data.captions]
    numbers = {pair: number for number, pair in enumerate(sorted(set().union(*pairs)))}
    order = torch.Generator().manual_seed(seed)
    detectors = nn.Linear(encoder.feature_size, len(numbers))
    steps = epochs * -(-len(data) // batch_size)
    recipe = Recipe(epochs, batch_size, learning_rate=learning_rate)
    optimizer, schedule = _optimizer([*encoder.parameters(), *detectors.parameters()], recipe, steps)
    for _ in range(epochs):
        encoder.train()
        losses = []
        for batch in _batches(torch.randperm(len(data), generator=order), batch_size):
            wanted = torch.zeros(len(batch), len(numbers))
            for row, image in zip(wanted, batch, strict=True):
                row[[numbers[pair] for pair in pairs[image]]] = 1
            loss = nn.functional.binary_cross_entropy_with_logits(detectors(encoder(data.images[batch])), wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.detach().item() * len(batch))
            if on_step is not None:
                on_step(losses[-1] / len(batch))
        encoder.eval()
        yield sum(losses) / len(data)


def evaluate_pair(
    model_f: Captioner, model_b: Captioner, data: CaptionedImages, batch_size: int = 64
) -> tuple[float, float]:
    """The losses of both captioners, in nats per word, in eval mode; which they are left in."""
    models = (model_f.eval(), model_b.eval())
    losses = torch.zeros(2)
    words = 0
    with torch.no_grad():
        for batch in _batches(torch.arange(len(data)), batch_size):
            loss_f, loss_b, counted = _losses(models, data, batch)
            losses += torch.stack([loss_f, loss_b]).cpu()
            words += counted
    forward, backward = (losses / words).tolist()
    return forward, backward


def evaluate_birnn(model: BiRNN, data: CaptionedImages, batch_size: int = 64) -> float:
    """The loss of a Bi-RNN, in nats per word, in eval mode; which it is left in.

    It is the negative pseudo-log-likelihood of the captions, over the number of their words.
    """
    model.eval()
    total = 0.0
    words = 0
    with torch.no_grad():
        for batch in _batches(torch.arange(len(data)), batch_size):
            loss, counted = _birnn_loss(model, data, batch)
            total += loss.item()
            words += counted
    return total / words


def _optimizer(
    parameters: Sequence[nn.Parameter], recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    if recipe.optimizer == "rmsprop":
        rmsprop = torch.optim.RMSprop(parameters, lr=recipe.learning_rate)
        return rmsprop, torch.optim.lr_scheduler.ConstantLR(rmsprop, factor=1.0)
    optimizer = torch.optim.Adam(parameters, lr=recipe.learning_rate)
    # OneCycleLR needs two steps, and a rise of more than one of them.
    rise, steps = max(0.1, 1.5 / max(steps, 2)), max(steps, 2)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=rise)
    return optimizer, cycle


def _batches(order: torch.Tensor, size: int) -> Iterator[list[int]]:
    numbers = order.tolist()
    return (numbers[begin : begin + size] for begin in range(0, len(numbers), size))


def _losses(
    models: tuple[Captioner, Captioner], data: CaptionedImages, batch: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The summed losses of both models over all captions of some images, and of how many words."""
    model_f, model_b = models
    captions, owner, images = _captions_of(data, batch)
    features_f = _features(model_f, images)
    features_b = features_f if model_b.encoder is model_f.encoder else _features(model_b, images)
    losses = [
        _loss(model, features[owner], captions) for model, features in ((model_f, features_f), (model_b, features_b))
    ]
    return losses[0], losses[1], sum(len(caption) + 1 for caption in captions)


def _birnn_loss(model: BiRNN, data: CaptionedImages, batch: Sequence[int]) -> tuple[torch.Tensor, int]:
    """The summed loss over all captions of some images, and of how many words."""
    captions, owner, images = _captions_of(data, batch)
    logits = model(_features(model.forward_half, images)[owner], captions)
    targets = model.forward_half.tokens([word for caption in captions for word in caption])
    return nn.functional.cross_entropy(logits, targets, reduction="sum"), len(targets)


def _captions_of(data: CaptionedImages, batch: Sequence[int]) -> tuple[list[Sequence[int]], list[int], torch.Tensor]:
    """The captions of some images, for each the row of its image, and the images."""
    captions = [caption for image in batch for caption in data.captions[image]]
    owner = [row for row, image in enumerate(batch) for _ in data.captions[image]]
    return captions, owner, data.images[list(batch)]


def _features(model: Captioner, images: torch.Tensor) -> torch.Tensor:
    weight = model.output.weight
    if images.ndim == 2 or model.encoder is None:
        return images.to(weight.device, weight.dtype)
    return model.encoder(images)


def _loss(model: Captioner, features: torch.Tensor, captions: Sequence[Sequence[int]]) -> torch.Tensor:
    backward = model.direction == "backward"
    longest = max(len(caption) for caption in captions)
    rows = []
    for caption in captions:
        words = list(reversed(caption)) if backward else list(caption)
        rows.append([model.start_token, *words, model.end_token] + [PAD] * (longest - len(caption)))
    padded = model.tokens(rows)
    targets = padded[:, 1:]
    real = targets != PAD
    hidden, _ = model.read(padded[:, :-1], model.start(features))
    # The scores of all words are most of the work; none is done for padding.
    return nn.functional.cross_entropy(model.project(hidden[real]), targets[real], reduction="sum")
