"""What several commands share: options, models, captions with what is known of their images, and the terminal."""

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
from birnn_decode.evaluation.asking import BIRNN_METHODS
from birnn_decode.methods import METHODS

if TYPE_CHECKING:
    import torch

    from birnn_decode import Pair
    from birnn_decode.captions import CaptionedImage, CaptionFile
    from birnn_decode.lines import Lines
    from birnn_decode.models import ImageEncoder
    from birnn_decode.template import Template

WIDTH_OF_FILES = 140
PICTURES_AT_A_TIME = 64

Command: TypeAlias = Callable[..., None]
Option: TypeAlias = Callable[[Command], Command]


def count_option(*names: str, least: int = 1, default: int | None = None, metavar: str = "N", help: str) -> Option:
    """An option that takes a whole number."""
    number, shown = click.IntRange(min=least), default is not None
    return click.option(*names, type=number, default=default, show_default=shown, metavar=metavar, help=help)


def file_option(name: str, metavar: str, help: str) -> Option:
    """An option that names a file or a folder."""
    return click.option(name, type=click.Path(path_type=Path), metavar=metavar, help=help)


def bundled(name: str, kind: type, *options: Option) -> Option:
    """Add options to a command, and pass their values as one dataclass of the given name and kind."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            shared = {entry.name: given.pop(entry.name) for entry in fields(kind) if entry.name in given}
            command(**{name: kind(**shared)}, **given)

        decorated: Command = with_options
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


model_option = file_option(
    "--model",
    "FILE",
    "File of a pair of models, written by `birnn-decode train` or save_pair. Default: the pair that comes with the "
    "package.",
)
beam_size_option = count_option(
    "--beam-size", default=5, metavar="B", help="Number of prefixes kept at each position, and of sentences found."
)
max_rounds_option = count_option("--max-rounds", least=0, default=10, help="Largest number of rounds of BSCD.")


device_option = click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="NAME",
    help="Device that the models run on: cpu, cuda, cuda:1, mps, ….",
)


def checked_device(name: str) -> torch.device:
    """Return the device that --device names, after a first computation on it.

    Raises:
        click.UsageError: PyTorch cannot use this device on this machine.
    """
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns before it fails, for example about an old driver
        try:
            device = torch.device(name)
            torch.ones(1, device=device).add(1).item()
        except (RuntimeError, AssertionError, ImportError):
            there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
            there += ["mps"] if torch.backends.mps.is_available() else []
            raise click.UsageError(f"--device {name}: there is no such device; use {' or '.join(there)}") from None
    return device


def exact_option(help: str) -> Option:
    """The option that asks for a proof."""
    return click.option("--exact", "exact_rows", type=click.IntRange(min=1), metavar="ROWS", help=help)


def birnn_option(help: str) -> Option:
    """The option that names a Bi-RNN."""
    return file_option("--birnn", "FILE", f"File of a Bi-RNN, written by `birnn-decode train --kind birnn`. {help}")


@dataclass(frozen=True)
class Models:
    """The models that a command decodes with.

    Attributes:
        pair: the pair; None if only a Bi-RNN is asked.
        birnn: the Bi-RNN; None if there is none.
    """

    pair: Pair | None
    birnn: Any

    @classmethod
    def load(cls, model: Path | None, birnn: Path | None, device: str) -> Models:
        """Load the models of files. Without any file, load the pair that comes with the package.

        Raises:
            click.UsageError: the models have different words or see different images, or the device is not there.
        """
        from birnn_decode.models import BiRNN, default_pair, load_pair
        from birnn_decode.models.files import BIRNN, load_captioners
        from birnn_decode.scorers.joint import JointModel

        place, joint, pair = checked_device(device), None, None
        if birnn is not None:
            kind, *captioners = load_captioners(birnn)
            captioners = [one.to(place) for one in captioners]
            joint = BiRNN(*captioners).eval() if kind == BIRNN else JointModel(*captioners)
        if birnn is None or model is not None:
            pair = default_pair() if model is None else load_pair(model)
            for captioner in (pair.forward, pair.backward):
                captioner.to(place)
        if pair is not None and joint is not None:
            both = joint.forward_half, pair.forward
            for what, one, other in (
                ("has other words than", *(half.vocabulary for half in both)),
                ("sees other images than", *(half.feature_size for half in both)),
                ("reads other sources than", *(half.source_vocabulary for half in both)),
            ):
                if one != other:
                    raise click.UsageError(f"--birnn {birnn} {what} --model {model}: train both on one data set")
        return cls(pair, joint)

    @property
    def captioner(self) -> Any:
        """One of the captioners. All have the same words and sources of the same kind."""
        return self.birnn.forward_half if self.pair is None else self.pair.forward

    @property
    def translates(self) -> bool:
        """Whether the sources are texts."""
        return self.captioner.source_vocabulary is not None

    def check_source(self, source: Any, cure: str) -> None:
        """Check that a source is of the kind that the models were trained with.

        Args:
            source: None, a text, or a feature vector.
            cure: what the message advises.

        Raises:
            click.UsageError: the source is of another kind.
        """
        wanted = "source sentences" if self.translates else _vectors(self.captioner.feature_size)
        given = "source sentences" if isinstance(source, str) else _vectors(0 if source is None else len(source))
        if given != wanted:
            raise click.UsageError(f"the model was trained with {wanted}, but got {given}: {cure}")

    @property
    def each(self) -> list[Any]:
        """The pair and the Bi-RNN, as far as there are these."""
        return [one for one in (self.pair, self.birnn) if one is not None]

    @property
    def methods(self) -> list[str]:
        """The methods that a command compares by default."""
        of_pair = (
            [] if self.pair is None else [name for name in METHODS if name not in ("gibbs", "bscd-paper", "exact")]
        )
        return of_pair + ([] if self.birnn is None else list(BIRNN_METHODS))

    def warm_up(self, image: Any, template: Template | None) -> None:
        """Decode once. PyTorch's first calls take longer, which is no cost of the methods that are shown."""
        from birnn_decode import Rerank, decode

        decode(self.each[0], image, template, Rerank(), beam_size=1)


def _vectors(size: int) -> str:
    return f"feature vectors of {size} numbers" if size else "no sources"


def check_provable(model: Path | None, birnn: Path | None) -> None:
    """Refuse --exact if only a Bi-RNN is asked.

    Raises:
        click.UsageError: no pair is asked.
    """
    if birnn is not None and model is None:
        raise click.UsageError("--exact needs a pair, because its bound is a bound of J: give --model as well")


def new_folder(path: Path) -> None:
    """Make a new folder for results.

    Raises:
        click.UsageError: the folder exists and is not empty.
        OSError: the folder cannot be made.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise click.UsageError(f"{path} exists already: name a new folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot make the folder {path}: {error.strerror or error}") from None


def console(at_least: int = 0) -> Console:
    """Return the console for answers. In a file or a pipe, lines are wide enough for most sentences."""
    return Console(width=max(Console().width, at_least) if sys.stdout.isatty() else WIDTH_OF_FILES)


def progress() -> Progress:
    """Return a progress bar for a terminal; it prints nothing to a log."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    # Output printed meanwhile appears above the bar, unless it goes to a file.
    together = sys.stdout.isatty()
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=together, disable=not sys.stderr.isatty())


@dataclass(frozen=True)
class Data:
    """The values of the options that name captions and their images."""

    captions: tuple[str, ...]
    split_lists: tuple[str, ...]
    features: Path | None
    images: Path | None
    no_image: bool

    def read(self) -> CaptionFile:
        """Read the captions of all files."""
        from birnn_decode.captions import merge, read_captions

        lists = dict(_named("--list", value) for value in self.split_lists)
        if len(lists) < len(self.split_lists):
            raise click.UsageError("--list was given twice for one split: put all its names into one file")
        files = []
        for value in self.captions:
            name, _, path = value.partition("=")
            if name not in SPLITS:
                files.append(read_captions(value, lists=lists or None))
            elif lists:
                raise click.UsageError(
                    f"--captions {value} and --list both name the split of the images: use one of them"
                )
            else:
                files.append(read_captions(path, split=name))
        return merge(files)

    def check(self) -> None:
        """Check that exactly one option says what is known of the images.

        Raises:
            click.UsageError: no option does, or more than one.
        """
        if (self.features is not None) + (self.images is not None) + self.no_image != 1:
            raise click.UsageError("give one of --features, --images and --no-image")

    def check_pictures(self) -> None:
        """Check that exactly one option names pictures or their features.

        Raises:
            click.UsageError: no option does, or more than one.
        """
        if (self.features is None) == (self.images is None):
            raise click.UsageError("pictures are ranked here: give one of --features and --images")

    def inputs(
        self, file: CaptionFile, images: Sequence[CaptionedImage], encoder: ImageEncoder | None
    ) -> tuple[dict[str, torch.Tensor | None], Mapping[str, int]]:
        """Return the sources of images by name: feature vectors, or None without images.

        The second value counts what is missing, by reason.
        """
        self.check()
        if self.no_image:
            return {image.name: None for image in images}, {}
        found: dict[str, torch.Tensor]
        if self.features is not None:
            import torch

            from birnn_decode.captions import read_features

            vectors = read_features(self.features).of(file.images)
            found = {image.name: torch.from_numpy(vectors[image.name]) for image in images if image.name in vectors}
            if not found:
                raise ValueError(f"{self.features} has no vector for any of the images, for example {images[0].name}")
        else:
            assert self.images is not None
            if encoder is None:
                raise click.UsageError("--images needs an image encoder: see `birnn-decode train --encoder`")
            found = {name: vectors[0] for name, vectors in encode_pictures(self.images, images, encoder).items()}
        lacking = len(images) - len(found)
        return {**found}, {"images without features": lacking} if lacking else {}


@dataclass(frozen=True)
class LineData:
    """The values of the options that name files of lines and their sources."""

    lines: tuple[str, ...]
    sources: tuple[str, ...]

    def splits(self, *names: str) -> dict[str, Lines]:
        """Return the lines of some splits: of a file for each split, or of one file that is divided.

        Raises:
            click.UsageError: the options name no file for a split, or name files in both ways.
        """
        from birnn_decode.lines import read_lines

        files, sources = (dict(map(_split_and_path, of)) for of in (self.lines, self.sources))
        for option, own, given in (("--lines", self.lines, files), ("--sources", self.sources, sources)):
            if len(given) < len(own) or (None in given and len(given) > 1):
                raise click.UsageError(f"{option}: give one FILE that is divided, or a SPLIT=FILE for each split")
        wanted = [None] if None in files else names
        for name in wanted:
            if name not in files or (sources and name not in sources):
                option, file = "--lines" if name not in files else "--sources", f"{name}=FILE" if name else "FILE"
                raise click.UsageError(f"{option} {file} is missing: give a FILE for each split, or one FILE")
        read = {name: read_lines(files[name], sources.get(name)) for name in wanted}
        return {name: read[None].split(name) if None in read else read[name].split() for name in names}


def check_one_kind(data: Data, lined: LineData) -> None:
    """Check that the sentences are either captions or lines, and that no option belongs to the other kind.

    Raises:
        click.UsageError: both kinds are given, or none, or an option of the other kind.
    """
    if bool(data.captions) == bool(lined.lines):
        raise click.UsageError("give one of --captions and --lines")
    own, others = "--captions", {"--sources": bool(lined.sources)}
    if lined.lines:
        own, others = "--lines", {"--list": bool(data.split_lists), "--features": data.features is not None}
        others |= {"--images": data.images is not None, "--no-image": data.no_image}
    for option, given in others.items():
        if given:
            raise click.UsageError(f"{option} does not go with {own}: leave {option} out")


def _split_and_path(value: str) -> tuple[str | None, Path]:
    name, _, path = value.partition("=")
    return (name, Path(path)) if name in SPLITS else (None, Path(value))


line_options = bundled(
    "lined",
    LineData,
    click.option(
        "--lines",
        multiple=True,
        metavar="[SPLIT=]FILE",
        help="File of lines, one sentence per line, in place of captions. SPLIT is train, val or test. A FILE without "
        "SPLIT is divided: one line in twenty is for val, and one for test.",
    ),
    click.option(
        "--sources",
        multiple=True,
        metavar="[SPLIT=]FILE",
        help="File with the source of each line: a sentence per line, or feature vectors [lines, feature_size] in a "
        ".npy file.",
    ),
)


def encode_pictures(
    folder: Path, images: Sequence[CaptionedImage], encoder: ImageEncoder, kind: str = "whole"
) -> dict[str, torch.Tensor]:
    """Return the feature vectors of the regions of the pictures in a folder, [regions, feature_size], by image name.

    Missing pictures are left out. All pictures have the same number of regions.
    """
    from birnn_decode.models.regions import region_features, stacked

    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    there = [image for image in images if (folder / image.name).is_file()]
    if not there:
        raise FileNotFoundError(f"{folder} has none of the pictures, for example {images[0].name}")
    if kind == "boxes" and not any(image.regions for image in there):
        raise ValueError('no image of the captions\' file has "regions" with boxes: use whole or grid')
    vectors: list[torch.Tensor] = []
    with progress() as bar:
        task = bar.add_task("encoding pictures", total=len(there))
        for begin in range(0, len(there), PICTURES_AT_A_TIME):
            some = there[begin : begin + PICTURES_AT_A_TIME]
            boxes = [[region.box for region in image.regions] for image in some]
            vectors += region_features(encoder, [folder / image.name for image in some], kind, boxes)
            bar.advance(task, len(some))
    return dict(zip((image.name for image in there), stacked(vectors), strict=True))


data_options = bundled(
    "data",
    Data,
    click.option(
        "--captions",
        multiple=True,
        metavar="[SPLIT=]FILE",
        help="File of captions: Karpathy's split JSON; COCO's captions JSON, as SPLIT=FILE, where SPLIT is train, val "
        "or test; or Flickr's token file, as SPLIT=FILE or with --list. Can be given several times.",
    ),
    click.option(
        "--list",
        "split_lists",
        multiple=True,
        metavar="SPLIT=FILE",
        help="File with the image names of a split, one per line, for Flickr's token file.",
    ),
    file_option("--features", "FILE", "File of feature vectors and image ids: .npz or HDF5, with one array of each."),
    file_option("--images", "FOLDER", "Folder of the pictures, under the names that the captions give."),
    click.option("--no-image", is_flag=True, help="Use only the sentences, without images."),
)


def left_out_lines(left_out: Mapping[str, int], of: str = "") -> list[str]:
    """Return lines that say what was left out."""
    return [f"left out{of}: {count} {what}" for what, count in left_out.items() if count]


def _named(option: str, value: str) -> tuple[str, str]:
    name, equals, path = value.partition("=")
    if not equals or name not in SPLITS:
        raise click.UsageError(f"{option} {value}: write SPLIT=FILE, where SPLIT is train, val or test")
    return name, path
