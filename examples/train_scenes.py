"""Train the pair of captioners that comes with the package, on drawn scenes.

With the defaults this takes about eleven minutes on two CPU cores and writes the file that is in birnn_decode/data.
"""

import time
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from birnn_decode.captions import WordVocabulary, make_scenes
from birnn_decode.models import LSTMCaptioner, SmallCNN, save_pair
from birnn_decode.training import CaptionedImages, Recipe, Training, fit_encoder

TRAINING_SEED, VALIDATION_SEED = 0, 1
VALIDATION_SCENES = 500
CAPTIONS = 3  # per scene
BATCH_SIZE = 32
WARM_UP_EPOCHS = 3
EMBEDDING_SIZE, HIDDEN_SIZE = 96, 160


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default="scenes.safetensors", show_default=True)
@click.option(
    "--scenes", type=click.IntRange(min=2), default=16000, show_default=True, help="Number of training scenes."
)
@click.option("--epochs", type=click.IntRange(min=1), default=18, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Seed of the first weights and of the order of the scenes.")
def main(out, scenes, epochs, seed):
    """Train a forward and a backward LSTM with one small CNN, and save the pair after each epoch that is the best."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            train(out, scenes, epochs, seed, progress)
    except KeyboardInterrupt:
        raise SystemExit(f"interrupted; the best pair so far is in {out}") from None


def train(out, scenes, epochs, seed, progress):
    began = time.monotonic()
    torch.manual_seed(seed)
    encoder = SmallCNN()
    drawn = make_scenes(scenes, TRAINING_SEED, CAPTIONS)
    vocabulary = WordVocabulary.from_captions(caption for scene in drawn for caption in scene.captions)
    training = prepare(drawn, encoder, vocabulary, progress)
    held_out = make_scenes(min(scenes, VALIDATION_SCENES), VALIDATION_SEED, CAPTIONS)
    validation = prepare(held_out, encoder, vocabulary, progress)

    steps = WARM_UP_EPOCHS * -(-len(training) // BATCH_SIZE)
    shown = progress.add_task("the encoder alone", total=steps)
    settings = {"epochs": WARM_UP_EPOCHS, "batch_size": BATCH_SIZE, "seed": seed}
    for loss in fit_encoder(encoder, training, on_step=lambda _: progress.advance(shown), **settings):
        print(f"the encoder alone: {loss:.4f} nats per word pair", flush=True)

    pair = [
        LSTMCaptioner(
            vocabulary,
            direction=direction,
            feature_size=encoder.feature_size,
            embedding_size=EMBEDDING_SIZE,
            hidden_size=HIDDEN_SIZE,
            encoder=encoder,
        )
        for direction in ("forward", "backward")
    ]
    fitting = Training(*pair, training, validation, Recipe(epochs, BATCH_SIZE), seed)
    task = progress.add_task("the pair", total=fitting.steps)
    for epoch in fitting.run(on_step=lambda _: progress.advance(task)):
        best = fitting.best is epoch
        if best:
            save_pair(*pair, out)
        print(f"{epoch}{' (saved)' if best else ''}", flush=True)
    print(f"{time.monotonic() - began:.0f} s; the pair is in {out}")


def prepare(scenes, encoder, vocabulary, progress):
    """Draw the pictures of scenes, prepare them for the encoder, and encode the captions."""
    drawing = progress.track(scenes, description="drawing scenes")
    pictures = torch.stack([encoder.prepare(scene.picture()) for scene in drawing])
    return CaptionedImages(pictures, [[vocabulary.encode(caption) for caption in scene.captions] for scene in scenes])


if __name__ == "__main__":
    main()
