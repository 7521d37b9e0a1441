"""Train each part once: what is finished is kept in a file, and what was interrupted goes on where it was."""

from __future__ import annotations

import io
import pickle
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from birnn_decode import Pair
from birnn_decode.files import write_whole
from birnn_decode.training import Recipe, Training
from examples.inpainting import context_encoder, pixels
from examples.inpainting.context_encoder import ContextEncoder
from examples.inpainting.data import Pictures


@dataclass(frozen=True)
class PixelSettings:
    """Sizes of the two pixel models, and their training.

    Attributes:
        hidden_size: size of the LSTMs.
        embedding_size: size of the vectors that they read.
        dropout: share of values that they drop in training.
        recipe: the training.
    """

    hidden_size: int
    embedding_size: int
    dropout: float
    recipe: Recipe


@dataclass(frozen=True)
class Settings:
    """Sizes and lengths of all trainings.

    Attributes:
        pixels: the pixel models.
        steps: number of batches that a Context Encoder learns from.
        kinds: kinds of the holes that it learns from.
        seed: seed of all random numbers.
    """

    pixels: PixelSettings
    steps: int
    kinds: tuple[str, ...] = ("centre", "centre", "blocks", "regions")
    seed: int = 0


def kept(path: Path, made_of: dict[str, Any], make: Callable[[], Any]) -> Any:
    """Return what a file holds, or make it and write the file.

    Args:
        path: the file.
        made_of: everything that decides what is made.
        make: makes dicts and lists of tensors.

    Raises:
        ValueError: the file was made of something else, or is damaged.
    """
    if path.exists():
        try:
            state = torch.load(path, weights_only=True)
            same = state["made_of"] == made_of
        except (EOFError, LookupError, RuntimeError, TypeError, pickle.UnpicklingError):
            raise ValueError(f"{path} is damaged; remove it") from None
        if not same:
            raise ValueError(f"{path} was made with other settings or pictures; remove it, or name another --out")
        return state["made"]
    made = make()
    buffer = io.BytesIO()
    torch.save({"made_of": made_of, "made": made}, buffer)
    write_whole(path, buffer.getvalue())
    return made


def fingerprint(*arrays: np.ndarray) -> list[Any]:
    """Return values that almost always differ if pictures differ."""
    return [[array.shape, zlib.crc32(np.ascontiguousarray(array).tobytes())] for array in arrays]


def pixel_pair(pictures: Pictures, settings: Settings, path: Path, progress: Progress) -> Pair:
    """Train the two pixel models, or load them from their checkpoint."""
    torch.manual_seed(settings.seed)
    sizes = asdict(settings.pixels)
    del sizes["recipe"]
    pair = pixels.new_pair(len(pictures.palette), pictures.size, **sizes)
    data = [pixels.training_data(part) for part in (pictures.train, pictures.val)]
    fitting = Training(pair.forward, pair.backward, *data, settings.pixels.recipe, settings.seed)
    if path.exists():
        fitting.resume(path)
    task = progress.add_task(f"{pictures.name}: pixel models", total=fitting.steps, completed=fitting.steps_done)
    for epoch in fitting.run(on_step=lambda _: progress.advance(task)):
        fitting.save(path)
        progress.console.print(f"{pictures.name}: pixel models: {epoch}", highlight=False)
    return pair


def encoder(
    pictures: Pictures,
    settings: Settings,
    path: Path,
    progress: Progress,
    *,
    adversarial: bool = False,
    sees_all: bool = False,
) -> ContextEncoder:
    """Train a Context Encoder, or load it from its file."""
    torch.manual_seed(settings.seed)
    values = pictures.values(pictures.train)
    model = ContextEncoder(values.shape[1], pictures.size, sees_all)
    what = "autoencoder" if sees_all else f"Context Encoder, L2{' + adversarial' if adversarial else ''}"

    def make() -> dict[str, torch.Tensor]:
        task = progress.add_task(f"{pictures.name}: {what}", total=settings.steps)
        fitting = context_encoder.train(
            model,
            values,
            kinds=settings.kinds,
            steps=settings.steps,
            adversarial=adversarial,
            seed=settings.seed,
        )
        losses = list(progress.track(fitting, task_id=task))
        l2, adv = np.mean(losses[-100:], axis=0)
        progress.console.print(
            f"{pictures.name}: {what}: L2 loss {l2:.4f}, adversarial loss {adv:.3f}", highlight=False
        )
        return model.state_dict()

    made_of = {
        "pictures": fingerprint(pictures.train),
        "settings": [settings.steps, settings.kinds, settings.seed, adversarial, sees_all],
    }
    model.load_state_dict(kept(path, made_of, make))
    return model.eval()
