"""Fit a forward and a backward captioner, together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from birnn_decode.captions.vocabulary import PAD
from birnn_decode.models.captioner import Captioner
from birnn_decode.models.encoder import SmallCNN
from birnn_decode.scorers import as_scorer

CLIP_NORM = 5.0


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


@dataclass(frozen=True)
class Epoch:
    """How an epoch went; losses are nats per word, END counted as one.

    Attributes:
        number: 1 for the first.
        training_forward: mean over the epoch, dropout on.
        training_backward: the same of the backward model.
        validation_forward: of the validation set after the epoch.
        validation_backward: the same of the backward model.
    """

    number: int
    training_forward: float
    training_backward: float
    validation_forward: float
    validation_backward: float

    @property
    def validation(self) -> float:
        """Mean of both directions."""
        return (self.validation_forward + self.validation_backward) / 2


def fit_pair(
    model_f: Captioner,
    model_b: Captioner,
    training: CaptionedImages,
    validation: CaptionedImages,
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
    on_step: Callable[[int, int], None] | None = None,
) -> Iterator[Epoch]:
    """Train both captioners, an epoch at each step of the iterator; what happens in between is the caller's.

    Adam under PyTorch's `OneCycleLR`: the learning rate rises for a tenth of the steps and then falls to 0, and the
    momentum does the opposite. Gradients are clipped to a norm of 5. An encoder that both models share is trained by
    both.

    Args:
        model_f: reads forward.
        model_b: reads backward.
        training: every epoch sees all of its images, each with all of its captions.
        validation: tells how well the pair does after each epoch.
        epochs: how many.
        batch_size: images per step.
        learning_rate: the highest.
        seed: of the order of the images.
        on_step: called after each step with the number of steps done and of those in all.

    Yields:
        how the epoch went.
    """
    as_scorer(model_f, "forward")
    as_scorer(model_b, "backward")
    models = (model_f, model_b)
    order = torch.Generator().manual_seed(seed)
    parameters = list(dict.fromkeys(parameter for model in models for parameter in model.parameters()))
    steps = epochs * -(-len(training) // batch_size)
    optimizer, schedule = _optimizer(parameters, learning_rate, steps)
    done = 0
    for number in range(1, epochs + 1):
        for model in models:
            model.train()
        losses = torch.zeros(2)
        words = 0
        for batch in _batches(torch.randperm(len(training), generator=order), batch_size):
            loss_f, loss_b, counted = _losses(models, training, batch)
            optimizer.zero_grad()
            ((loss_f + loss_b) / counted).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
            optimizer.step()
            schedule.step()
            losses += torch.stack([loss_f, loss_b]).detach().cpu()
            words += counted
            done += 1
            if on_step is not None:
                on_step(done, steps)
        forward, backward = (losses / words).tolist()
        yield Epoch(number, forward, backward, *evaluate_pair(model_f, model_b, validation, batch_size))


def fit_encoder(
    encoder: SmallCNN,
    data: CaptionedImages,
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
    on_step: Callable[[int, int], None] | None = None,
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
        learning_rate: the highest; it rises and falls as in `fit_pair`.
        seed: of the order of the images. The first weights of the detectors come from PyTorch's own generator.
        on_step: called after each step with the number of steps done and of those in all.

    Yields:
        after each epoch, its mean loss in nats per image and word pair.
    """
    pairs = [{pair for caption in captions for pair in itertools.pairwise(caption)} for captions in data.captions]
    numbers = {pair: number for number, pair in enumerate(sorted(set().union(*pairs)))}
    order = torch.Generator().manual_seed(seed)
    detectors = nn.Linear(encoder.feature_size, len(numbers))
    steps = epochs * -(-len(data) // batch_size)
    optimizer, schedule = _optimizer([*encoder.parameters(), *detectors.parameters()], learning_rate, steps)
    done = 0
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
            done += 1
            if on_step is not None:
                on_step(done, steps)
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


def _optimizer(
    parameters: Sequence[nn.Parameter], learning_rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    # OneCycleLR needs two steps, and a rise of more than one of them.
    rise, steps = max(0.1, 1.5 / max(steps, 2)), max(steps, 2)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=rise)


def _batches(order: torch.Tensor, size: int) -> Iterator[list[int]]:
    numbers = order.tolist()
    return (numbers[begin : begin + size] for begin in range(0, len(numbers), size))


def _losses(
    models: tuple[Captioner, Captioner], data: CaptionedImages, batch: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The summed losses of both models over all captions of some images, and of how many words."""
    model_f, model_b = models
    captions = [caption for image in batch for caption in data.captions[image]]
    owner = [row for row, image in enumerate(batch) for _ in data.captions[image]]
    images = data.images[list(batch)]
    features_f = _features(model_f, images)
    features_b = features_f if model_b.encoder is model_f.encoder else _features(model_b, images)
    losses = [
        _loss(model, features[owner], captions) for model, features in ((model_f, features_f), (model_b, features_b))
    ]
    return losses[0], losses[1], sum(len(caption) + 1 for caption in captions)


def _features(model: Captioner, images: torch.Tensor) -> torch.Tensor:
    weight = model.output.weight
    return images.to(weight.device, weight.dtype) if model.encoder is None else model.encoder(images)


def _loss(model: Captioner, features: torch.Tensor, captions: Sequence[Sequence[int]]) -> torch.Tensor:
    backward = model.direction == "backward"
    longest = max(len(caption) for caption in captions)
    rows = []
    for caption in captions:
        words = list(reversed(caption)) if backward else list(caption)
        rows.append([model.start_token, *words, model.end_token] + [PAD] * (longest - len(caption)))
    padded = model.tokens(rows)
    logits = model(features, padded[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), padded[:, 1:].flatten(), ignore_index=PAD, reduction="sum")
