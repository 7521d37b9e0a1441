"""The command that trains a pair or a Bi-RNN."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birnn_decode.cli.common import Data, data_options, left_out_lines, progress

if TYPE_CHECKING:
    from birnn_decode.captions import CaptionedImage, WordVocabulary
    from birnn_decode.models import Captioner, ImageEncoder
    from birnn_decode.training import BiRNNTraining, CaptionedImages, Preset, Training

PRESETS = ("lstm", "karpathy")
CAPTIONERS = ("lstm", "gru", "multimodal-rnn")
KINDS = ("pair", "birnn")


@click.command(short_help="Train a pair, or a Bi-RNN, on captions of yours.")
@data_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The best model so far; beside it FILE.checkpoint, to go on from, and FILE.csv, the losses.",
)
@click.option(
    "--encoder",
    metavar="NAME",
    help="What makes feature vectors of pictures: efficientnet-lite0, or torchvision:MODEL. With --features: what made "
    "them; the pair then takes pictures as well.",
)
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="pair",
    show_default=True,
    help="pair: two captioners, each of which writes by itself; birnn: one softmax over both sides of each word.",
)
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="lstm",
    show_default=True,
    help="Settings that go together; karpathy: those of Karpathy and Fei-Fei (2015), where they say them.",
)
@click.option("--captioner", type=click.Choice(CAPTIONERS), help="Instead of the preset's.")
@click.option("--hidden-size", type=click.IntRange(min=1), metavar="N", help="Instead of the preset's.")
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Instead of the preset's.")
@click.option(
    "--min-count",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Words that occur less often in the training captions are unknown to the model.",
)
@click.option(
    "--max-words",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    metavar="N",
    help="Longer captions are left out.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of first weights, order and dropout."
)
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted, given the same options.")
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
) -> None:
    """Train a forward and a backward captioner on the images of the split train.

    As a pair, each learns to write captions by itself; as a Bi-RNN, both together learn to tell each word from all
    others. After each epoch the loss on the split val is measured, and the model is saved if it was never lower. A run
    that is stopped leaves the best model so far, and goes on with --resume.
    """
    import torch

    from birnn_decode.captions import WordVocabulary
    from birnn_decode.models import BiRNN, save_birnn, save_pair
    from birnn_decode.training import PRESETS, BiRNNTraining, Training

    checkpoint, log = out.with_name(f"{out.name}.checkpoint"), out.with_name(f"{out.name}.csv")
    data.check()
    if data.no_image and encoder is not None:
        raise click.UsageError("--no-image and --encoder exclude each other: there is nothing to encode")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"cannot write {out}: there is no folder {out.parent}")
    if resume and not checkpoint.exists():
        raise click.UsageError(f"there is nothing to resume: no {checkpoint}")
    if resume and not out.exists():
        raise click.UsageError(f"{out}, the best model so far, is missing; remove {checkpoint} to begin anew")
    if not resume and checkpoint.exists():
        raise click.UsageError(f"{checkpoint} is of a run that can go on: add --resume, or remove it to begin anew")
    if not resume and out.exists():
        raise click.UsageError(f"{out} is there already: name another file")

    chosen = PRESETS[preset]
    chosen = replace(
        chosen,
        captioner=captioner or chosen.captioner,
        hidden_size=hidden_size or chosen.hidden_size,
        recipe=replace(chosen.recipe, epochs=epochs or chosen.recipe.epochs),
    )
    file = data.read()
    sets = {split: file.of(split) for split in ("train", "val")}
    look = None if encoder is None else encoder_named(encoder)
    inputs, lacking = data.inputs(file, [image for images in sets.values() for image in images], look)
    vocabulary = WordVocabulary.from_captions(
        (caption for image in sets["train"] for caption in image.captions), min_count
    )
    left_out = Counter(file.left_out) + Counter(lacking)
    ready = {split: _encoded(images, inputs, vocabulary, max_words, left_out) for split, images in sets.items()}

    torch.manual_seed(seed)
    pair = _new_pair(chosen, vocabulary, ready["train"].images, look)
    training: Training | BiRNNTraining
    if kind == "birnn":
        model = BiRNN(*pair)
        training = BiRNNTraining(model, ready["train"], ready["val"], chosen.recipe, seed)
    else:
        training = Training(*pair, ready["train"], ready["val"], chosen.recipe, seed)

    def save() -> None:
        if kind == "birnn":
            save_birnn(model, out)
        else:
            save_pair(*pair, out)

    if resume:
        training.resume(checkpoint)
    for line in (*left_out_lines(left_out), _about(ready, vocabulary, chosen, pair)):
        click.echo(line)
    _run(training, kind, save, out, checkpoint, log)


def encoder_named(name: str) -> ImageEncoder:
    """An encoder by its name on the command line."""
    from birnn_decode.models import EfficientNetLite0, TorchvisionEncoder

    kind, _, model = name.partition(":")
    if kind == "torchvision" and model:
        return TorchvisionEncoder(model)
    if name != EfficientNetLite0.kind:
        raise click.UsageError(f"--encoder {name}: use {EfficientNetLite0.kind}, or torchvision:MODEL")
    return EfficientNetLite0()


def _encoded(
    images: Sequence[CaptionedImage],
    inputs: dict[str, Any],
    vocabulary: WordVocabulary,
    max_words: int,
    left_out: Counter[str],
) -> CaptionedImages:
    import torch

    from birnn_decode.captions import encode_captions
    from birnn_decode.training import CaptionedImages

    there = [image for image in images if image.name in inputs]
    captions, lost = encode_captions(there, vocabulary, max_words)
    left_out.update(lost)
    kept = [(image, own) for image, own in zip(there, captions, strict=True) if own]
    if not kept:
        raise ValueError(f"no image of the split {images[0].split!r} has both features and captions")
    vectors = [inputs[image.name] for image, _ in kept]
    features = torch.zeros(len(kept), 0) if vectors[0] is None else torch.stack(vectors)
    return CaptionedImages(features, [own for _, own in kept])


def _new_pair(
    preset: Preset, vocabulary: WordVocabulary, features: Any, encoder: ImageEncoder | None
) -> tuple[Captioner, Captioner]:
    from birnn_decode.models.files import CAPTIONERS

    forward, backward = (
        CAPTIONERS[preset.captioner](
            vocabulary,
            direction=direction,
            feature_size=features.shape[1],
            embedding_size=preset.embedding_size,
            hidden_size=preset.hidden_size,
            dropout=preset.dropout,
            encoder=encoder,
        )
        for direction in ("forward", "backward")
    )
    if forward.feature_size:
        for model in (forward, backward):
            model.standardise(features)
    return forward, backward


def _about(
    ready: dict[str, CaptionedImages], vocabulary: WordVocabulary, preset: Preset, pair: tuple[Captioner, Captioner]
) -> str:
    counts = ", ".join(
        f"{split}: {len(part)} images, {sum(map(len, part.captions))} captions" for split, part in ready.items()
    )
    parameters = sum(parameter.numel() for parameter in pair[0].parameters())
    words = len(vocabulary) - 4
    return f"{counts}; {words} words; {preset.captioner}, {parameters:,} numbers each way"


def _run(
    training: Training | BiRNNTraining, kind: str, save: Callable[[], None], out: Path, checkpoint: Path, log: Path
) -> None:
    from birnn_decode.files import write_whole

    def losses() -> bytes:
        return _losses_csv(training.epoch, training.history).encode()

    what = "Bi-RNN" if kind == "birnn" else "pair"
    write_whole(log, losses())  # what cannot be written there is said now
    try:
        with progress() as bar:
            task = bar.add_task("training", total=training.steps, completed=training.steps_done)

            def show(loss: float) -> None:
                bar.update(task, advance=1, description=f"epoch {len(training.history) + 1}, loss {loss:.2f}")

            for epoch in training.run(show):
                best = training.best is epoch
                if best:
                    save()
                training.save(checkpoint)
                write_whole(log, losses())
                click.echo(_line(epoch, best))
    except KeyboardInterrupt:
        if not out.exists():
            save()
        if checkpoint.exists():
            click.echo(f"interrupted: {out} has the best {what} so far; --resume goes on", err=True)
        else:
            click.echo(f"interrupted: {out} has the {what} as it stood; remove it to begin anew", err=True)
        raise SystemExit(130) from None
    # Nothing is left to go on with.
    checkpoint.unlink(missing_ok=True)
    assert training.best is not None
    seconds = sum(epoch.seconds for epoch in training.history)
    click.echo(f"{out}: the {what} of epoch {training.best.number}, {seconds:.0f} s of training; losses in {log}")


def _line(epoch: Any, best: bool) -> str:
    from birnn_decode.training import BiRNNEpoch

    if isinstance(epoch, BiRNNEpoch):
        losses = f"training {epoch.training:.3f}; validation {epoch.validation:.3f} nats per word"
    else:
        losses = (
            f"training {epoch.training_forward:.3f} forward, {epoch.training_backward:.3f} backward; "
            f"validation {epoch.validation_forward:.3f}, {epoch.validation_backward:.3f} nats per word"
        )
    return f"epoch {epoch.number:2}: {losses}; {epoch.seconds:.0f} s{' (saved)' if best else ''}"


def _losses_csv(kind: Any, history: Sequence[Any]) -> str:
    """One line per epoch; nats per word."""
    text = io.StringIO()
    columns = [entry.name for entry in fields(kind)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([getattr(epoch, name) for name in columns] for epoch in history)
    return text.getvalue()
