"""What several commands share: the model, the captions and what is known of their images, and the terminal."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from birnn_decode.captions.datasets import SPLITS

if TYPE_CHECKING:
    import torch

    from birnn_decode.captions import CaptionedImage, CaptionFile
    from birnn_decode.models import Captioner, ImageEncoder
    from birnn_decode.template import Template

    Pair: TypeAlias = tuple[Captioner, Captioner]

WIDTH_OF_FILES = 140
PICTURES_AT_A_TIME = 64

model_option = click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Your pair of captioners, as `birnn-decode train` and save_pair write it.",
)


def exact_option(does: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option that asks for a proof, with what it does."""
    return click.option("--exact", "exact_rows", type=click.IntRange(min=1), metavar="ROWS", help=does)


def birnn_option(does: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option that names a Bi-RNN, with what it does."""
    written = "A Bi-RNN, as `birnn-decode train --kind birnn` writes it"
    return click.option("--birnn", type=click.Path(path_type=Path), metavar="FILE", help=f"{written}{does}")


def check_provable(model: Path | None, birnn: Path | None) -> None:
    """Refuse --exact of a Bi-RNN alone.

    Raises:
        click.UsageError: no pair is asked.
    """
    if birnn is not None and model is None:
        raise click.UsageError("--exact: proofs are of a pair's sentences: give --model as well")


def pair_of(model: Path | None) -> Pair:
    """The pair of a file, or the one that comes with the package."""
    from birnn_decode.models import default_pair, load_pair

    return default_pair() if model is None else load_pair(model)


def joint_of(path: Path) -> Any:
    """The Bi-RNN of a file; of a pair, its scores added."""
    from birnn_decode.models import BiRNN
    from birnn_decode.models.files import BIRNN, load_captioners
    from birnn_decode.scorers.joint import JointModel

    kind, *captioners = load_captioners(path)
    return BiRNN(*captioners).eval() if kind == BIRNN else JointModel(*captioners)


def models_of(model: Path | None, birnn: Path | None) -> tuple[Pair | None, Any]:
    """The pair and the Bi-RNN that are asked; None for what is not. With no file at all, the pair on board.

    Raises:
        click.UsageError: they have different words, or see different images.
    """
    joint = None if birnn is None else joint_of(birnn)
    if joint is not None and model is None:
        return None, joint
    pair = pair_of(model)
    if joint is not None:
        both = joint.forward_half, pair[0]
        for what, one, other in (
            ("has other words than", *(half.vocabulary for half in both)),
            ("sees other images than", *(half.feature_size for half in both)),
        ):
            if one != other:
                raise click.UsageError(f"--birnn {birnn} {what} --model {model}: train both on one data set")
    return pair, joint


def warm_up(pair: Pair | None, joint: Any, image: Any, template: Template | None) -> None:
    """PyTorch's very first calls take longer, whatever is computed; that is not the cost of what is shown."""
    from birnn_decode import joint_decode, rerank_decode

    if pair is not None:
        rerank_decode(*pair, image, template, beam_size=1)
    else:
        joint_decode(joint, image, template, beam_size=1, max_rounds=0)


def new_folder(path: Path) -> None:
    """Make a folder for results, where nothing is yet.

    Raises:
        click.UsageError: something is.
        OSError: it cannot be made.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise click.UsageError(f"{path} is there already; name a new folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot make the folder {path}: {error.strerror or error}") from None


def console(at_least: int = 0) -> Console:
    """Where answers are printed; a file or a pipe gets lines that are wide enough for most sentences."""
    terminal = Console()
    return Console(width=max(terminal.width, at_least) if sys.stdout.isatty() else WIDTH_OF_FILES)


def progress() -> Progress:
    """A progress bar on the terminal, and nothing in a log."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    # What is printed meanwhile goes above the bar, unless it goes somewhere else.
    together = sys.stdout.isatty()
    errors = Console(stderr=True)
    return Progress(*columns, console=errors, redirect_stdout=together, disable=not sys.stderr.isatty())


@dataclass(frozen=True)
class Data:
    """What the options that name captions and their images say."""

    captions: tuple[str, ...]
    split_lists: tuple[str, ...]
    features: Path | None
    images: Path | None
    no_image: bool

    def read(self) -> CaptionFile:
        """The captions of all files."""
        from birnn_decode.captions import merge, read_captions

        lists = dict(_named("--list", value) for value in self.split_lists)
        if len(lists) < len(self.split_lists):
            raise click.UsageError("--list was given twice for one split; put all its names into one file")
        files = []
        for value in self.captions:
            name, _, path = value.partition("=")
            if name not in SPLITS:
                files.append(read_captions(value, lists=lists or None))
            elif lists:
                raise click.UsageError(f"--captions {value} and --list both say which split images are of: use one")
            else:
                files.append(read_captions(path, split=name))
        return merge(files)

    def check(self) -> None:
        """Check that there is one source of images.

        Raises:
            click.UsageError: there is none, or more than one.
        """
        if (self.features is not None) + (self.images is not None) + self.no_image != 1:
            raise click.UsageError("say what is known of the images: one of --features, --images and --no-image")

    def inputs(
        self, file: CaptionFile, images: Sequence[CaptionedImage], encoder: ImageEncoder | None
    ) -> tuple[dict[str, torch.Tensor | None], Mapping[str, int]]:
        """What the models take for some images of a file, by name: feature vectors, or None without images.

        The second is what is lacking: in words, and how often.
        """
        self.check()
        if self.no_image:
            return {image.name: None for image in images}, {}
        found: dict[str, torch.Tensor]
        if self.features is not None:
            import torch

            from birnn_decode.captions import read_features

            features = read_features(self.features)
            vectors = torch.from_numpy(features.vectors)
            rows = dict(zip((image.name for image in file.images), features.rows(file.images), strict=True))
            found = {image.name: vectors[row] for image in images if (row := rows[image.name]) is not None}
            if not found:
                raise ValueError(f"{self.features} has no vector of the images asked for, such as {images[0].name}")
        else:
            assert self.images is not None
            if encoder is None:
                raise click.UsageError("--images needs an image encoder: pairs have the one named by `train --encoder`")
            found = encode_pictures(self.images, images, encoder)
        lacking = len(images) - len(found)
        return {**found}, {"images without features": lacking} if lacking else {}


def encode_pictures(folder: Path, images: Sequence[CaptionedImage], encoder: ImageEncoder) -> dict[str, torch.Tensor]:
    """The feature vectors of the pictures of a folder, by image name; pictures that are not there are left out."""
    import torch

    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    there = [image.name for image in images if (folder / image.name).is_file()]
    if not there:
        raise FileNotFoundError(f"{folder} has none of the pictures, such as {images[0].name}")
    vectors: dict[str, torch.Tensor] = {}
    with torch.no_grad(), progress() as bar:
        task = bar.add_task("looking at pictures", total=len(there))
        for begin in range(0, len(there), PICTURES_AT_A_TIME):
            names = there[begin : begin + PICTURES_AT_A_TIME]
            features = encoder(torch.stack([encoder.prepare(folder / name) for name in names]))
            vectors.update(zip(names, features, strict=True))
            bar.advance(task, len(names))
    return vectors


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name captions and their images, and hand them over as one `Data`."""

    @click.option(
        "--captions",
        multiple=True,
        required=True,
        metavar="[SPLIT=]FILE",
        help="Karpathy's split JSON; or, for a SPLIT (train, val or test), COCO's captions JSON; or Flickr's token "
        "file, for a SPLIT or with --list. May be given several times.",
    )
    @click.option(
        "--list",
        "split_lists",
        multiple=True,
        metavar="SPLIT=FILE",
        help="The image names of a split, one a line, for Flickr's token file.",
    )
    @click.option(
        "--features",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Feature vectors and image ids: .npz or HDF5, one array of each.",
    )
    @click.option(
        "--images",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="The pictures, under the names in the captions.",
    )
    @click.option("--no-image", is_flag=True, help="Only the sentences: a language model.")
    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        shared = {entry.name: given.pop(entry.name) for entry in fields(Data)}
        command(data=Data(**shared), **given)

    return with_options


def left_out_lines(left_out: Mapping[str, int], of: str = "") -> list[str]:
    """What is to be said of what was left out."""
    return [f"left out{of}: {count} {what}" for what, count in left_out.items() if count]


def _named(option: str, value: str) -> tuple[str, str]:
    name, equals, path = value.partition("=")
    if not equals or name not in SPLITS:
        raise click.UsageError(f"{option} {value}: write SPLIT=FILE, with train, val or test for SPLIT")
    return name, path
