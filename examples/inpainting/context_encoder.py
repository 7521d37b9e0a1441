"""The Context Encoder of Pathak et al. (CVPR 2016, arXiv:1604.07379), for pictures of 8 to 64 pixels.

An encoder of convolutions halves the picture until it is about 4 × 4. A channel-wise fully connected layer carries each
feature map to all places. A decoder of up-convolutions paints the picture. Only what it paints into the hole is used.

The losses are those of the paper. With the picture x, the hole M (1 where pixels are missing) and the network F:

- L_rec = ‖M ⊙ (x - F((1 - M) ⊙ x))‖², divided by the number of values (Eq. 1). The known pixels around the hole count,
  too, ten times as much as the hole, so that what is painted continues them;
- L_adv = log D(x) + log(1 - D(F((1 - M) ⊙ x))), maximised by the discriminator D, which sees only the hole (Eq. 2);
- L = 0.999 L_rec + 0.001 L_adv for the encoder and the decoder (Eq. 3).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from examples.inpainting import holes

SMALLEST, LARGEST = 8, 64  # pixels
GRID = 4  # the encoder stops when a side is this short
MAPS = 96  # feature maps of the encoder; each step before has half as many, as in the paper
SLOPE = 0.2
OVERLAP = 7 / 128  # of the side of the picture; the paper predicts 7 pixels of the context at 128
OVERLAP_WEIGHT = 10.0
REC_WEIGHT, ADV_WEIGHT = 0.999, 0.001


class ChannelwiseLinear(nn.Module):
    """A fully connected layer within each feature map: m maps of n × n places have m n⁴ weights, not m² n⁴."""

    def __init__(self, channels: int, places: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, places, places) * places**-0.5)
        self.bias = nn.Parameter(torch.zeros(channels, places))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Apply the layer to feature maps [N, channels, height, width]."""
        flat = maps.flatten(2)  # [N, C, P]
        return (torch.einsum("ncp,cpq->ncq", flat, self.weight) + self.bias).view_as(maps)


def halvings(size: tuple[int, int]) -> int:
    """Return how often the encoder halves pictures of a size.

    Raises:
        ValueError: the encoder cannot halve them as often as it has to.
    """
    times = 0
    while min(size) >> times > GRID:
        times += 1
    height, width = size
    if not all(SMALLEST <= side <= LARGEST and side % 2**times == 0 for side in size):
        raise ValueError(
            f"the pictures have {width} × {height} pixels; a Context Encoder here takes sides from {SMALLEST} to "
            f"{LARGEST} that are multiples of {2**times}, for example 32 × 32"
        )
    return times


def _down(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, made, 4, 2, 1), nn.BatchNorm2d(made), nn.LeakyReLU(SLOPE))


def _up(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(given, made, 4, 2, 1), nn.BatchNorm2d(made), nn.ReLU())


def _widths(size: tuple[int, int]) -> list[int]:
    """Number of feature maps at the size of the picture, at half of it, …."""
    times = halvings(size)
    return [MAPS >> (times - step) for step in range(times + 1)]


class Encoder(nn.Sequential):
    """Convolutions from a picture [N, channels, height, width] to feature maps of about 4 × 4 places."""

    def __init__(self, channels: int, size: tuple[int, int]):
        widths, times = _widths(size), halvings(size)
        steps = itertools.starmap(_down, itertools.pairwise(widths))
        super().__init__(nn.Conv2d(channels, widths[0], 3, padding=1), nn.LeakyReLU(SLOPE), *steps)
        self.shape = widths[-1], size[0] >> times, size[1] >> times


class ContextEncoder(nn.Module):
    """Paint the missing part of a picture from what surrounds it.

    Args:
        channels: channels of a picture, 1 or 3.
        size: height and width of a picture.
        sees_all: whether nothing is cut out of the pictures, and all of it is painted: the network is then an ordinary
            autoencoder.
    """

    def __init__(self, channels: int, size: tuple[int, int], sees_all: bool = False):
        super().__init__()
        self.sees_all = sees_all
        self.encoder = Encoder(channels, size)
        maps, height, width = self.encoder.shape
        self.everywhere = ChannelwiseLinear(maps, height * width)
        self.across = nn.Sequential(nn.Conv2d(maps, maps, 1), nn.BatchNorm2d(maps), nn.ReLU())
        widths = _widths(size)[::-1]
        steps = itertools.starmap(_up, itertools.pairwise(widths))
        self.decoder = nn.Sequential(*steps, nn.Conv2d(widths[-1], channels, 3, padding=1), nn.Tanh())
        self.overlap = max(1, round(OVERLAP * min(size)))
        self.mean: torch.Tensor
        self.register_buffer("mean", torch.zeros(channels, 1, 1))

    def forward(self, pictures: torch.Tensor, missing: torch.Tensor) -> torch.Tensor:
        """Paint pictures.

        Args:
            pictures: from 0 to 1, [N, channels, height, width]. The pixels of the holes are not read.
            missing: the holes, bool [N, height, width].

        Returns:
            Whole pictures from 0 to 1, of the same shape.
        """
        seen = pictures if self.sees_all else torch.where(missing[:, None], self.mean, pictures)
        return (self.decoder(self.code(seen)) + 1) / 2

    def code(self, seen: torch.Tensor) -> torch.Tensor:
        """Return what the decoder is given, [N, maps, height, width], for pictures from 0 to 1."""
        return self.across(self.everywhere(self.encoder(2 * seen - 1)))

    @torch.inference_mode()
    def fill(self, pictures: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Return pictures [N, channels, height, width] with their holes filled; all other pixels are unchanged."""
        self.eval()
        painted = self(torch.from_numpy(pictures), torch.from_numpy(missing)).numpy()
        return np.where(missing[:, None], painted, pictures)


class Discriminator(nn.Sequential):
    """Tell painted holes from true ones. It returns a logit for each hole; what surrounds it is covered."""

    def __init__(self, channels: int, size: tuple[int, int]):
        encoder = Encoder(channels, size)
        super().__init__(encoder, nn.Flatten(), nn.Linear(int(np.prod(encoder.shape)), 1), nn.Flatten(0))


def reconstruction_loss(
    painted: torch.Tensor, pictures: torch.Tensor, missing: torch.Tensor, around: torch.Tensor
) -> torch.Tensor:
    """Compute the masked L2 loss, the mean over hole and overlap of the weighted squared error.

    Args:
        painted: what the network painted, [N, channels, height, width].
        pictures: the true pictures, of the same shape.
        missing: the holes, bool [N, height, width].
        around: the overlap, bool [N, height, width]: known pixels that are painted, too, and count 10 times.
    """
    weights = (missing + OVERLAP_WEIGHT * around)[:, None]
    values = (missing | around).sum() * pictures.shape[1]
    return (weights * (painted - pictures) ** 2).sum() / values


def adversarial_losses(true_logits: torch.Tensor, painted_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the loss of the discriminator, and the loss of the network that wants to deceive it.

    The second one is -log D(painted) in place of log(1 - D(painted)), which has hardly a gradient as long as the
    discriminator wins (Goodfellow et al., 2014).
    """
    loss = nn.functional.binary_cross_entropy_with_logits
    right = loss(true_logits, torch.ones_like(true_logits)), loss(painted_logits, torch.zeros_like(painted_logits))
    return sum(right), loss(painted_logits, torch.ones_like(painted_logits))


def train(
    model: ContextEncoder,
    pictures: np.ndarray,
    *,
    kinds: Sequence[str],
    steps: int,
    adversarial: bool,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> Iterator[tuple[float, float]]:
    """Train a Context Encoder, one batch per step of the iterator.

    As in the paper, the learning rate of the discriminator is a tenth of that of the encoder and the decoder.

    Args:
        model: the Context Encoder.
        pictures: from 0 to 1, float32 [N, channels, height, width].
        kinds: kinds of the holes, names of `holes.KINDS`.
        steps: number of batches.
        adversarial: whether the loss is the joint one; otherwise it is the L2 loss alone.
        batch_size: number of pictures of a step.
        learning_rate: largest learning rate.
        seed: seed of the order and of the holes.

    Yields:
        After each step the L2 loss and the adversarial loss.
    """
    random = np.random.default_rng(seed)
    data, size = torch.from_numpy(pictures), pictures.shape[2:]
    model.mean.copy_(data.mean(dim=(0, 2, 3))[:, None, None])
    critic = Discriminator(pictures.shape[1], size) if adversarial else None
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, betas=(0.5, 0.999))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, cycle_momentum=False)
    critics = torch.optim.Adam(critic.parameters(), learning_rate / 10, betas=(0.5, 0.999)) if critic else None
    for _ in range(steps):
        model.train()
        batch = data[random.integers(len(data), size=batch_size)]
        cut = (
            np.ones((batch_size, *size), dtype=bool) if model.sees_all else holes.draw(kinds, batch_size, size, random)
        )
        missing, around = torch.from_numpy(cut), torch.from_numpy(holes.ring(cut, model.overlap))
        painted = model(batch, missing)
        rec, adv = reconstruction_loss(painted, batch, missing, around), torch.zeros(())
        if critic is not None:
            shown = (missing | around)[:, None]
            true, false = (2 * torch.where(shown, of, model.mean) - 1 for of in (batch, painted))
            critics.zero_grad()
            adversarial_losses(critic(true), critic(false.detach()))[0].backward()
            critics.step()
            adv = adversarial_losses(true.new_zeros(1), critic(false))[1]
        optimizer.zero_grad()
        (REC_WEIGHT * rec + ADV_WEIGHT * adv if critic is not None else rec).backward()
        optimizer.step()
        schedule.step()
        yield rec.item(), adv.item()
