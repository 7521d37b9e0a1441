"""The command ``train``: train a pair or a Bi-RNN."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birnn_decode.captions import CaptionedImage, WordVocabulary, encode_captions
from birnn_decode.cli.common import (
    Data,
    checked_device,
    count_option,
    data_options,
    device_option,
    left_out_lines,
    progress,
)
from birnn_decode.files import write_whole

if TYPE_CHECKING:
    from birnn_decode.models import Captioner, ImageEncoder
    from birnn_decode.training import BiRNNTraining, CaptionedImages, Preset, Training

PRESETS = ("lstm", "karpathy")
CAPTIONERS = ("lstm", "gru", "multimodal-rnn")
KINDS = {"pair": "pair", "birnn": "Bi-RNN"}


@click.command(short_help="Train a pair or a Bi-RNN on your own captions.")
@data_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="Model file to write; it holds the best model so far. FILE.checkpoint, for --resume, and FILE.csv, with the "
    "losses, are written beside it.",
)
@click.option(
    "--encoder",
    metavar="NAME",
    help="Image encoder: efficientnet-lite0 or torchvision:MODEL. With --features: the encoder that made them, so that "
    "the model can be given pictures, too.",
)
@click.option(
    "--kind",
    type=click.Choice(list(KINDS)),
    default="pair",
    show_default=True,
    help="pair: two captioners that each write by themselves. birnn: one softmax over both sides of each word.",
)
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="lstm",
    show_default=True,
    help="Set of settings. karpathy: those that Karpathy and Fei-Fei (2015) give.",
)
@click.option("--captioner", type=click.Choice(CAPTIONERS), help="Kind of captioner (default: the preset's).")
@count_option("--hidden-size", help="Size of the state (default: the preset's).")
@count_option("--epochs", help="Number of epochs (default: the preset's).")
@count_option(
    "--min-count", default=5, help="A word must occur N times in the training captions to be in the vocabulary."
)
@count_option("--max-words", default=40, help="Captions with more words are left out.")
@count_option("--seed", least=0, default=0, help="Seed of the first weights, the order of the images and dropout.")
@click.option("--resume", is_flag=True, help="Continue an interrupted training; give the same options again.")
@device_option
def train(
    data: Data,
    out: Path,
    encoder: str | None,
    kind: str,
    preset: str,
    captioner: str | None,
    hidden_size: int | None,
    epochs: int | None,
    min_count: int,
    max_words: int,
    seed: int,
    resume: bool,
    device: str,
) -> None:
    """Train a forward and a backward captioner on the images in the split "train".

    With --kind pair, each captioner learns to write captions by itself. With --kind birnn, both together learn to
    predict each word from all others of its caption.

    After each epoch the loss on the split "val" is measured, and the model is saved if the loss is the lowest so far.
    If you stop the training, the best model so far is kept. Run the same command with --resume to continue.
    """
    import torch

    from birnn_decode.models import BiRNN, save_birnn, save_pair
    from birnn_decode.training import PRESETS, BiRNNTraining, Training

    checkpoint, log = out.with_name(f"{out.name}.checkpoint"), out.with_name(f"{out.name}.csv")
    data.check()
    if data.no_image and encoder is not None:
        raise click.UsageError("--no-image and --encoder exclude each other; give one of them")
    where = checked_device(device)
    _check_files(out, checkpoint, resume)

    usual = PRESETS[preset]
    chosen = replace(
        usual,
        captioner=captioner or usual.captioner,
        hidden_size=hidden_size or usual.hidden_size,
        recipe=replace(usual.recipe, epochs=epochs or usual.recipe.epochs),
    )
    file = data.read()
    sets = {split: file.of(split) for split in ("train", "val")}
    look = None if encoder is None else encoder_named(encoder)
    inputs, lacking = data.inputs(file, [image for images in sets.values() for image in images], look)
    words = (caption for image in sets["train"] for caption in image.captions)
    vocabulary = WordVocabulary.from_captions(words, min_count)
    left_out = Counter(file.left_out) + Counter(lacking)
    ready = {split: _encoded(images, inputs, vocabulary, max_words, left_out) for split, images in sets.items()}

    torch.manual_seed(seed)
    forward, backward = (
        _captioner(chosen, vocabulary, direction, ready["train"].images, look).to(where)
        for direction in ("forward", "backward")
    )
    if kind == "birnn":
        birnn = BiRNN(forward, backward)
        training: Training | BiRNNTraining = BiRNNTraining(birnn, ready["train"], ready["val"], chosen.recipe, seed)
        save = partial(save_birnn, birnn, out)
    else:
        training = Training(forward, backward, ready["train"], ready["val"], chosen.recipe, seed)
        save = partial(save_pair, forward, backward, out)
    if resume:
        training.resume(checkpoint)
    counts = ", ".join(
        f"{split}: {len(part)} images, {sum(map(len, part.captions))} captions" for split, part in ready.items()
    )
    size = f"{chosen.captioner}, {sum(map(torch.numel, forward.parameters())):,} parameters in each direction"
    click.echo("\n".join([*left_out_lines(left_out), f"{counts}; {len(vocabulary) - 4} words; {size}"]))
    _run(training, KINDS[kind], save, out, checkpoint, log)


def encoder_named(name: str) -> ImageEncoder:
    """The encoder that a name on the command line means."""
    from birnn_decode.models import EfficientNetLite0, TorchvisionEncoder

    kind, _, model = name.partition(":")
    if kind == "torchvision" and model:
        return TorchvisionEncoder(model)
    if name != EfficientNetLite0.kind:
        raise click.UsageError(f"--encoder {name}: use {EfficientNetLite0.kind}, or torchvision:MODEL")
    return EfficientNetLite0()


def _check_files(out: Path, checkpoint: Path, resume: bool) -> None:
    """Check that a training can begin, or can be resumed."""
    if not out.parent.is_dir():
        raise FileNotFoundError(f"cannot write {out}: there is no folder {out.parent}")
    wanted = {
        checkpoint: (
            f"there is nothing to resume: there is no {checkpoint}",
            f"{checkpoint} is of an interrupted training: add --resume, or remove it to start again",
        ),
        out: (
            f"{out}, the best model so far, is missing; remove {checkpoint} to start again",
            f"{out} exists already; give another name",
        ),
    }
    for path, (missing, present) in wanted.items():
        if path.exists() != resume:
            raise click.UsageError(missing if resume else present)


def _encoded(
    images: Sequence[CaptionedImage],
    inputs: dict[str, Any],
    vocabulary: WordVocabulary,
    max_words: int,
    left_out: Counter[str],
) -> CaptionedImages:
    """The images of a split that have both inputs and captions; what else there is, is counted in ``left_out``."""
    import torch

    from birnn_decode.training import CaptionedImages

    there = [image for image in images if image.name in inputs]
    captions, lost = encode_captions(there, vocabulary, max_words)
    left_out.update(lost)
    kept = [(inputs[image.name], own) for image, own in zip(there, captions, strict=True) if own]
    if not kept:
        raise ValueError(f"no image of the split {images[0].split!r} has both features and captions")
    vectors = [vector for vector, _ in kept]
    features = torch.zeros(len(kept), 0) if vectors[0] is None else torch.stack(vectors)
    return CaptionedImages(features, [own for _, own in kept])


def _captioner(
    preset: Preset, vocabulary: WordVocabulary, direction: str, features: Any, encoder: ImageEncoder | None
) -> Captioner:
    """A captioner that is not trained yet."""
    from birnn_decode.models.files import CAPTIONERS

    model = CAPTIONERS[preset.captioner](
        vocabulary,
        direction=direction,
        feature_size=features.shape[1],
        embedding_size=preset.embedding_size,
        hidden_size=preset.hidden_size,
        dropout=preset.dropout,
        encoder=encoder,
    )
    if model.feature_size:
        model.standardise(features)
    return model


def _run(
    training: Training | BiRNNTraining, what: str, save: Callable[[], None], out: Path, checkpoint: Path, log: Path
) -> None:
    """Train, save the best model and a checkpoint after each epoch, and print the losses."""
    _write_losses(training, log)  # if the file cannot be written, the error comes before the training
    try:
        with progress() as bar:
            task = bar.add_task("training", total=training.steps, completed=training.steps_done)

            def show(loss: float) -> None:
                bar.update(task, advance=1, description=f"epoch {len(training.history) + 1}, loss {loss:.2f}")

            for epoch in training.run(show):
                if best := training.best is epoch:
                    save()
                training.save(checkpoint)
                _write_losses(training, log)
                click.echo(f"{epoch}{' (saved)' if best else ''}")
    except KeyboardInterrupt:
        if not out.exists():
            save()
        trained = f"the best {what} so far; --resume continues"
        held = trained if checkpoint.exists() else f"the {what} as it was; remove it to start again"
        click.echo(f"interrupted: {out} holds {held}", err=True)
        raise SystemExit(130) from None
    checkpoint.unlink(missing_ok=True)
    time = f"{sum(epoch.seconds for epoch in training.history):.0f} s of training"
    click.echo(f"{out}: the {what} of epoch {training.best.number}, {time}; losses in {log}")


def _write_losses(training: Training | BiRNNTraining, path: Path) -> None:
    """Write a CSV file with one line per epoch; losses are in nats per word."""
    text = io.StringIO()
    columns = [entry.name for entry in fields(training.epoch)]
    csv.writer(text, lineterminator="\n").writerows([columns, *map(astuple, training.history)])
    write_whole(path, text.getvalue().encode())
