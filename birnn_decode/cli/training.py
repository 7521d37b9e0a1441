"""The command ``train``: train a pair, a Bi-RNN or an alignment model."""

from __future__ import annotations

import csv
import io
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birnn_decode.captions import CaptionedImage, encode_captions
from birnn_decode.cli.common import (
    Data,
    LineData,
    bundled,
    check_one_kind,
    checked_device,
    count_option,
    data_options,
    device_option,
    left_out_lines,
    line_options,
    progress,
)
from birnn_decode.cli.regions import GIVEN, kind_of, region_inputs
from birnn_decode.files import write_whole
from birnn_decode.vocabularies import (
    FORMS,
    ByteVocabulary,
    CharacterVocabulary,
    Normalisation,
    SpacedVocabulary,
    SubwordVocabulary,
    WordVocabulary,
)

if TYPE_CHECKING:
    from birnn_decode.lines import Lines
    from birnn_decode.models import AlignmentModel, Captioner, ImageEncoder
    from birnn_decode.training import (
        AlignmentTraining,
        BiRNNTraining,
        CaptionedImages,
        Preset,
        RegionCaptions,
        TextLines,
        Training,
    )

PRESETS = ("lstm", "karpathy", "lines", "translator")
PRECISIONS = ("float32", "bfloat16")
CAPTIONERS = ("lstm", "gru", "multimodal-rnn")
TRANSLATOR = "translator"
ALIGNMENT = "alignment"
KINDS = {"pair": "pair", "birnn": "Bi-RNN", ALIGNMENT: "alignment model"}
LISTED = {"words": SpacedVocabulary, "characters": CharacterVocabulary}
SHOWN = 5  # tokens that are lacking
VALIDATION_LINES = 5000  # at most, because they are read after every epoch
WIDE = 256  # size of the vectors of words and subwords
SECONDS_BETWEEN = 600.0  # between checkpoints within an epoch
# For bfloat16, oneDNN makes a kernel for each number of words in a batch, of up to a megabyte, and keeps 1,024 of them.
# PyTorch reads these environment variables when it is imported.
KERNEL_CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
KERNELS = 64

EXAMPLES = """
\b
Sentences of any kind, one per line:
  birnn-decode train --lines molecules.smi --tokens characters --out pair.safetensors
  birnn-decode train --lines text.en --sources text.de --tokens bpe.json --out pair.safetensors
"""


@dataclass(frozen=True)
class Tokens:
    """The values of the options that say how lines become tokens."""

    tokens: str | None
    source_tokens: str | None
    min_count: int | None
    max_tokens: int
    unknown: str
    lower_case: bool
    unicode_form: str | None

    def check_unused(self) -> None:
        """Check that no option for lines is given.

        Raises:
            click.UsageError: an option is given.
        """
        of_lines = {
            "--tokens": self.tokens is not None,
            "--source-tokens": self.source_tokens is not None,
            "--lower-case": self.lower_case,
            "--unicode-form": self.unicode_form is not None,
        }
        for option, given in of_lines.items():
            if given:
                raise click.UsageError(f"{option} goes with --lines: leave {option} out with --captions")

    def check(self, of_sources: bool) -> None:
        """Check that the options name kinds of tokens.

        Raises:
            click.UsageError: an option does not, or an option for the tokens of sources has no use.
        """
        if self.source_tokens is not None and not of_sources:
            raise click.UsageError("--source-tokens goes with sentences as --sources: leave it out")
        for option, name in (("--tokens", self.tokens), ("--source-tokens", self.source_tokens or self.tokens)):
            if name is None or (name not in (*LISTED, "bytes") and not Path(name).exists()):
                raise click.UsageError(
                    f"{option} {name or 'is missing'}: give words, characters, bytes, or a tokenizer.json"
                )

    def vocabulary(self, name: str, texts: Callable[[], Iterator[str]]) -> Any:
        """Return the vocabulary that an option names, with the tokens of the training lines."""
        normalisation = Normalisation(self.lower_case, self.unicode_form)
        if name == "bytes":
            return ByteVocabulary(normalisation)
        if name in LISTED:
            empty = LISTED[name]((), normalisation)
            counts = Counter(itertools.chain.from_iterable(map(empty.split, texts())))
            return LISTED[name].from_counts(counts, self.min_count or 1, normalisation)
        return SubwordVocabulary.read(name, normalisation)


token_options = bundled(
    "reading",
    Tokens,
    click.option(
        "--tokens",
        metavar="KIND",
        help="What the tokens of --lines are: words (separated by white space), characters, bytes, or the subwords of "
        "a tokenizer file of Hugging Face (give its path). Case and symbols are kept.",
    ),
    click.option("--source-tokens", metavar="KIND", help="The same for --sources (default: as --tokens)."),
    count_option(
        "--min-count",
        help="A token must occur N times in the training sentences to be in the vocabulary (default: 5 for captions, 1 "
        "for lines).",
    ),
    count_option("--max-tokens", default=500, help="Lines and sources of more tokens are left out."),
    click.option(
        "--unknown",
        type=click.Choice(("error", "unk")),
        default="error",
        show_default=True,
        help="What to do if lines have tokens that the vocabulary lacks: stop, or read these tokens as UNK.",
    ),
    click.option("--lower-case", is_flag=True, help="Make the letters of lines and templates lower-case."),
    click.option("--unicode-form", type=click.Choice(FORMS), help="Bring lines and templates to this Unicode form."),
)


@click.command(epilog=EXAMPLES, short_help="Train models on your own captions or lines.")
@data_options
@line_options
@token_options
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
    help="Image encoder: efficientnet-lite0, torchvision:MODEL, or scenes (that of the pair of the package). "
    "With --features: the encoder that made them, so that the model can be given pictures, too.",
)
@click.option(
    "--kind",
    type=click.Choice(list(KINDS)),
    default="pair",
    show_default=True,
    help="pair: two models that each write sentences by themselves. birnn: one model with a softmax over both sides of "
    "each word. alignment: a model that ranks pictures and sentences, see `birnn-decode rank`.",
)
@click.option(
    "--regions",
    metavar="KIND|FILE",
    help="Regions of the pictures, for --kind alignment. With --images: whole, grid (4 x 4 cells), or boxes (those in "
    "the file of the captions). Or a FILE of feature vectors [images, regions, feature_size] (default: whole).",
)
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    help="Set of settings (default: lstm for captions, translator for lines with sentences as sources, else lines). "
    "karpathy: those that Karpathy and Fei-Fei (2015) give. For --kind alignment: karpathy, or none.",
)
@click.option("--captioner", type=click.Choice(CAPTIONERS), help="Kind of the models (default: the preset's).")
@count_option("--hidden-size", help="Size of the state (default: the preset's).")
@count_option("--epochs", help="Number of epochs (default: the preset's).")
@count_option("--patience", help="Stop after N epochs without a lower validation loss (default: the preset's).")
@count_option("--max-words", default=40, help="Captions with more words are left out.")
@count_option("--seed", least=0, default=0, help="Seed of the first weights, of the order of the data and of dropout.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="bfloat16: compute in mixed precision, which is faster on GPUs and on some CPUs.",
)
@click.option("--half", is_flag=True, help="Store the weights in half precision, in half as many bytes.")
@click.option("--resume", is_flag=True, help="Continue an interrupted training; give the same options again.")
@device_option
def train(
    data: Data,
    lined: LineData,
    reading: Tokens,
    out: Path,
    encoder: str | None,
    kind: str,
    regions: str | None,
    preset: str | None,
    captioner: str | None,
    hidden_size: int | None,
    epochs: int | None,
    patience: int | None,
    max_words: int,
    seed: int,
    precision: str,
    half: bool,
    resume: bool,
    device: str,
) -> None:
    """Train a forward and a backward model on the split "train" of captions, or of the lines of a file.

    With --kind pair, each model learns to write sentences by itself. With --kind birnn, both together learn to predict
    each word from all others of its sentence. With --kind alignment, a model learns which captions belong to which
    picture, and which word to which region.

    Lines may have sources: sentences of another language or feature vectors. Without --sources, the models are language
    models.

    After each epoch the loss on the split "val" is measured, and the model is saved if the loss is the lowest so far.
    If you stop the training, the best model so far is kept. Run the same command with --resume to continue.
    """
    if precision == "bfloat16":
        for cache in KERNEL_CACHES:
            os.environ.setdefault(cache, str(KERNELS))
    import torch

    from birnn_decode.models import BiRNN, save_alignment, save_birnn, save_pair
    from birnn_decode.training import ALIGNMENT_PRESETS, AlignmentTraining, BiRNNTraining, Training

    checkpoint, log = out.with_name(f"{out.name}.checkpoint"), out.with_name(f"{out.name}.csv")
    of_lines = bool(lined.lines)
    check_one_kind(data, lined)
    if kind != ALIGNMENT and regions is not None:
        raise click.UsageError("--regions goes with --kind alignment: leave it out")
    if not of_lines:
        if kind != ALIGNMENT:
            data.check()
        reading.check_unused()
    if encoder is not None and (of_lines or data.no_image):
        raise click.UsageError("--encoder goes with images: leave it out with --lines and with --no-image")
    where = checked_device(device)
    _check_files(out, checkpoint, resume)

    def changed(usual: Preset) -> Preset:
        recipe = usual.recipe
        recipe = replace(
            recipe, epochs=epochs or recipe.epochs, precision=precision, patience=patience or recipe.patience
        )
        return replace(usual, hidden_size=hidden_size or usual.hidden_size, recipe=recipe)

    min_count = reading.min_count or 5
    if kind == ALIGNMENT:
        if of_lines or captioner is not None or preset not in (None, "karpathy"):
            raise click.UsageError(
                "--kind alignment learns from captions of pictures: leave out --lines, --captioner, and every --preset "
                "but karpathy"
            )
        chosen = changed(ALIGNMENT_PRESETS[preset or ALIGNMENT])
        aligner, ready, notes = _alignment(data, regions, encoder, min_count, max_words, chosen, seed)
        aligning = AlignmentTraining(aligner.to(where), ready["train"], ready["val"], chosen.recipe, seed)
        if resume:
            aligning.resume(checkpoint)
        click.echo("\n".join(notes))
        _run(aligning, KINDS[kind], partial(save_alignment, aligner, out, half=half), out, checkpoint, log)
        return
    learned = _of_lines(lined, reading) if of_lines else _of_captions(data, encoder, min_count, max_words)
    chosen = changed(_chosen(learned, preset, kind, captioner))
    torch.manual_seed(seed)
    forward, backward = (learned.model(chosen, direction).to(where) for direction in ("forward", "backward"))
    if kind == "birnn":
        birnn = BiRNN(forward, backward)
        training: Training | BiRNNTraining = BiRNNTraining(
            birnn, learned.training, learned.validation, chosen.recipe, seed
        )
        save = partial(save_birnn, birnn, out, half=half)
    else:
        training = Training(forward, backward, learned.training, learned.validation, chosen.recipe, seed)
        save = partial(save_pair, forward, backward, out, half=half)
    if resume:
        training.resume(checkpoint)
    size = f"{forward.kind}, {sum(map(torch.numel, forward.parameters())):,} parameters in each direction"
    click.echo("\n".join([*learned.notes, f"{learned.counts}; {size}"]))
    _run(training, KINDS[kind], save, out, checkpoint, log)


def _alignment(
    data: Data,
    regions: str | None,
    encoder: str | None,
    min_count: int,
    max_words: int,
    preset: Preset,
    seed: int,
) -> tuple[AlignmentModel, dict[str, RegionCaptions], list[str]]:
    """Return an alignment model, the data of the splits train and val, and lines about these and its size."""
    import torch

    from birnn_decode.models import AlignmentModel
    from birnn_decode.training import RegionCaptions

    kind = kind_of(regions)
    if data.features is not None and kind != "whole":
        raise click.UsageError("--features are those of whole pictures: leave --features or --regions out")
    if data.images is not None and kind == GIVEN:
        raise click.UsageError("--regions FILE has the features of the regions: leave --images out")
    file = data.read()
    sets = {split: file.of(split) for split in ("train", "val")}
    look = None if encoder is None else encoder_named(encoder)
    wanted = [image for images in sets.values() for image in images]
    path = None if regions is None else Path(regions)
    inputs = region_inputs(data, file, wanted, kind, path, look)
    vocabulary = WordVocabulary.from_captions((one for image in sets["train"] for one in image.captions), min_count)
    left_out = Counter(file.left_out) + Counter({"images without features": len(wanted) - len(inputs)})
    ready = {}
    for split, images in sets.items():
        found = _encoded(images, inputs, vocabulary, max_words, left_out)
        if len(found) < 2:
            raise ValueError(f"the split {split!r} has one picture with captions: an alignment model needs two")
        ready[split] = RegionCaptions(found.images, found.captions)
    torch.manual_seed(seed)  # after the encoder was made, which draws numbers
    model = AlignmentModel(
        vocabulary,
        feature_size=ready["train"].regions.shape[-1],
        embedding_size=preset.embedding_size,
        hidden_size=preset.hidden_size,
        dropout=preset.dropout,
        regions=kind,
        unit_regions=preset.unit_regions,
        encoder=look,
    )
    model.standardise(ready["train"].regions)
    counts = [f"{split}: {len(one.captions)} images, {len(one)} captions" for split, one in ready.items()]
    own = sum(one.numel() for key, one in model.named_parameters() if not key.startswith("encoder."))
    about = f"{', '.join(counts)}; {len(vocabulary) - 4} words; regions: {kind}, {ready['train'].regions.shape[1]}"
    notes = [*left_out_lines(left_out), f"{about}; {own:,} parameters"]
    return model, ready, notes


@dataclass(frozen=True)
class Learned:
    """What a training learns from, ready to be read.

    Attributes:
        preset: the default preset.
        training: the training data.
        validation: the validation data.
        model: makes a model of a preset and a direction, not trained yet.
        counts: how much data there is, in words.
        notes: lines about what was left out.
    """

    preset: str
    training: CaptionedImages | TextLines
    validation: CaptionedImages | TextLines
    model: Callable[[Preset, str], Captioner]
    counts: str
    notes: Sequence[str]


def _of_captions(data: Data, encoder: str | None, min_count: int, max_words: int) -> Learned:
    """Read captions and what is known of their images."""
    file = data.read()
    sets = {split: file.of(split) for split in ("train", "val")}
    look = None if encoder is None else encoder_named(encoder)
    inputs, lacking = data.inputs(file, [image for images in sets.values() for image in images], look)
    words = (caption for image in sets["train"] for caption in image.captions)
    vocabulary = WordVocabulary.from_captions(words, min_count)
    left_out = Counter(file.left_out) + Counter(lacking)
    ready = {split: _encoded(images, inputs, vocabulary, max_words, left_out) for split, images in sets.items()}
    counts = [f"{split}: {len(one)} images, {sum(map(len, one.captions))} captions" for split, one in ready.items()]
    return Learned(
        "lstm",
        ready["train"],
        ready["val"],
        partial(_captioner, vocabulary, ready["train"].images, look),
        f"{', '.join(counts)}; {len(vocabulary) - 4} words",
        left_out_lines(left_out),
    )


def _chosen(learned: Learned, preset: str | None, kind: str, captioner: str | None) -> Preset:
    """Return the preset with the kind of the models that was asked for."""
    from birnn_decode.training import PRESETS

    usual = PRESETS[preset or learned.preset]
    if (TRANSLATOR in (usual.captioner, learned.preset)) and (
        usual.captioner != learned.preset or captioner is not None or kind != "pair"
    ):
        raise click.UsageError(
            "if --sources are sentences, and only then, a pair of translators is trained: leave out --preset, "
            "--captioner and --kind"
        )
    return replace(usual, captioner=captioner or usual.captioner)


def _of_lines(lined: LineData, reading: Tokens) -> Learned:
    """Read lines and their sources."""
    import torch

    from birnn_decode.training import TextLines

    reading.check(any(not of.endswith(".npy") for of in lined.sources))
    assert reading.tokens is not None
    with progress() as bar:
        task = bar.add_task("reading lines", total=4)
        splits = lined.splits("train", "val")
        bar.advance(task)
        training, validation = splits["train"], splits["val"]
        if (kind := _sources_of(training)) != (other := _sources_of(validation)):
            raise click.UsageError(f"the sources of train are {kind}, and those of val are {other}: give the same kind")
        vectors, source_vocabulary = training.file.vectors, None
        vocabulary = reading.vocabulary(reading.tokens, lambda: (line.text for line in training))
        if lined.sources and vectors is None:
            source_vocabulary = reading.vocabulary(
                reading.source_tokens or reading.tokens, lambda: (line.source for line in training)
            )
        bar.advance(task)
        ready = {}
        for split, lines, limit in (("train", training, None), ("val", validation, VALIDATION_LINES)):
            ready[split] = TextLines(lines, vocabulary, source_vocabulary, reading.max_tokens, limit)
            bar.advance(task)
    notes = [line for file in {one.lines.file for one in ready.values()} for line in left_out_lines(file.left_out)]
    for split, own in ready.items():
        notes += left_out_lines(own.left_out, of=f" of {split}")
        if own.lacking:
            notes.append(_lacking(own, split, reading.unknown))
    features = torch.zeros(0, 0) if vectors is None else torch.from_numpy(vectors)

    def model(preset: Preset, direction: str) -> Captioner:
        from birnn_decode.models import Translator

        own = preset if vocabulary.exact else replace(preset, embedding_size=max(preset.embedding_size, WIDE))
        if source_vocabulary is None:
            return _captioner(vocabulary, features, None, own, direction)
        return Translator(
            vocabulary,
            direction=direction,
            source_vocabulary=source_vocabulary,
            embedding_size=own.embedding_size,
            hidden_size=own.hidden_size,
            dropout=own.dropout,
        )

    counts = [f"{split}: {len(one)} lines" for split, one in ready.items()]
    return Learned(
        "lines" if source_vocabulary is None else TRANSLATOR,
        ready["train"],
        ready["val"],
        model,
        f"{', '.join(counts)}; {len(vocabulary) - 4} {vocabulary.kind}",
        notes,
    )


def _sources_of(lines: Lines) -> str:
    vectors = lines.file.vectors
    return "sentences" if vectors is None else f"vectors of {vectors.shape[1]} numbers"


def _lacking(lines: TextLines, split: str, unknown: str) -> str:
    """Say which tokens the vocabulary lacks.

    Raises:
        click.UsageError: this is an error by choice.
    """
    shown = ", ".join(f"{token!r} ({times})" for token, times in lines.lacking.most_common(SHOWN))
    said = f"{lines.lacking_lines} of {len(lines)} lines of {split} have tokens that the vocabulary lacks: {shown}"
    said += ", …" if len(lines.lacking) > SHOWN else ""
    if unknown == "error":
        raise click.UsageError(f"{said}. Give --unknown unk to read them as UNK")
    return f"{said}; they are UNK"


def encoder_named(name: str) -> ImageEncoder:
    """The encoder that a name on the command line means."""
    from birnn_decode.models import EfficientNetLite0, TorchvisionEncoder, default_pair

    kind, _, model = name.partition(":")
    if kind == "torchvision" and model:
        return TorchvisionEncoder(model)
    if name == "scenes":
        encoder: ImageEncoder = default_pair().forward.encoder
        return encoder
    if name != EfficientNetLite0.kind:
        raise click.UsageError(f"--encoder {name}: use {EfficientNetLite0.kind}, torchvision:MODEL, or scenes")
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
    vocabulary: Any, features: Any, encoder: ImageEncoder | None, preset: Preset, direction: str
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
    training: Training | BiRNNTraining | AlignmentTraining,
    what: str,
    save: Callable[[], None],
    out: Path,
    checkpoint: Path,
    log: Path,
) -> None:
    """Train, save the best model and a checkpoint after each epoch and every ten minutes, and print the losses."""
    _write_losses(training, log)  # if the file cannot be written, the error comes before the training
    began = saved = time.monotonic()
    words_before = training.words_done

    def save_checkpoint() -> None:
        nonlocal saved
        training.save(checkpoint)
        if not out.exists():
            save()
        saved = time.monotonic()

    try:
        with progress() as bar, _after_the_step() as interrupted:
            task = bar.add_task("training", total=training.steps, completed=training.steps_done)

            def show(loss: float) -> None:
                speed = (training.words_done - words_before) / max(time.monotonic() - began, 1e-9)
                about = f"epoch {len(training.history) + 1}, loss {loss:.2f}, {speed:,.0f} {training.counted}/s"
                bar.update(task, advance=1, description=about)
                if interrupted():
                    raise _StoppedError
                if time.monotonic() - saved > SECONDS_BETWEEN:
                    save_checkpoint()

            for epoch in training.run(show):
                if best := training.best is epoch:
                    save()
                save_checkpoint()
                _write_losses(training, log)
                click.echo(f"{epoch}{' (saved)' if best else ''}")
                if interrupted() and not training.finished:
                    raise _StoppedError
    except KeyboardInterrupt as error:
        if isinstance(error, _StoppedError):
            save_checkpoint()
        elif not out.exists():
            save()
        held = f"the best {what} so far" if training.history else f"the {what} as it is"
        cure = "--resume continues" if checkpoint.exists() else "remove it to start again"
        click.echo(f"interrupted: {out} holds {held}; {cure}", err=True)
        raise SystemExit(130) from None
    checkpoint.unlink(missing_ok=True)
    time_taken = f"{sum(epoch.seconds for epoch in training.history):.0f} s of training"
    click.echo(f"{out}: the {what} of epoch {training.best.number}, {time_taken}; losses in {log}")


class _StoppedError(KeyboardInterrupt):
    """Ctrl-C was pressed, and no step is under way."""


@contextmanager
def _after_the_step() -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C, so that the step under way is completed and can be saved. A second Ctrl-C stops at once.

    Yields:
        A function that tells whether Ctrl-C was pressed.
    """
    pressed = False
    usual = signal.getsignal(signal.SIGINT)

    def note(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, usual)


def _write_losses(training: Training | BiRNNTraining | AlignmentTraining, path: Path) -> None:
    """Write a CSV file with one line per epoch; losses are in nats per word, or per sentence."""
    text = io.StringIO()
    columns = [entry.name for entry in fields(training.epoch)]
    csv.writer(text, lineterminator="\n").writerows([columns, *map(astuple, training.history)])
    write_whole(path, text.getvalue().encode())
