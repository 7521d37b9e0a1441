"""The command ``rank``: rank the sentences of a picture and the pictures of a sentence."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.table import Column, Table
from rich.text import Text

from birnn_decode.captions.datasets import SPLITS, Box, CaptionedImage
from birnn_decode.cli.common import (
    WIDTH_OF_FILES,
    Data,
    bundled,
    checked_device,
    console,
    count_option,
    data_options,
    device_option,
    file_option,
    left_out_lines,
    new_folder,
    progress,
)
from birnn_decode.cli.regions import GIVEN, region_inputs
from birnn_decode.vocabularies import UNK, words_of

if TYPE_CHECKING:
    import torch

    from birnn_decode import Pair
    from birnn_decode.evaluation import Interval
    from birnn_decode.models import AlignmentModel

SCENES = "scenes"
FORWARD, BACKWARD, JOINT, CORRECTED = "log P→", "log P←", "J", " - mean"
RIDGES, DIRECTIONS = (0.01, 0.1, 1.0, 10.0, 100.0), (10, 20, 50, 100)
COUNTINGS = {"own": "own sentences", "equal": "equal sentences are right, too"}

EXAMPLES = """
\b
Train a model and measure it:
  birnn-decode train --kind alignment --captions data.json --features f.npz --out rank.safetensors
  birnn-decode rank --alignment rank.safetensors --captions data.json --features f.npz

\b
Search, with a contact sheet:
  birnn-decode rank --alignment rank.safetensors --captions data.json --images pictures \\
    --search "a plane on a runway" --sheet found.html
"""


@dataclass(frozen=True)
class Models:
    """The values of the options that name the models, and how they are used."""

    alignments: tuple[Path, ...]
    model: str | None
    device: str
    regions: Path | None
    first_pass: int | None
    smoothing: float

    def load(self) -> tuple[dict[str, AlignmentModel], Pair | None]:
        """Load the alignment models, by the names of their files, and the pair.

        Raises:
            click.UsageError: no model is given, or two files have one name.
        """
        from birnn_decode.models import default_pair, load_alignment, load_pair

        if not self.alignments and self.model is None:
            raise click.UsageError("give --alignment FILE, --model FILE, or both: the models that rank")
        if self.first_pass is not None and not (self.alignments and self.model):
            raise click.UsageError("--first-pass goes with --alignment and --model: the first ranks for the second")
        place = checked_device(self.device)
        loaded = {path.stem: load_alignment(path).to(place) for path in self.alignments}
        if len(loaded) < len(self.alignments):
            raise click.UsageError("--alignment was given twice with one file name: tables could not tell them apart")
        pair = None
        if self.model is not None:
            pair = default_pair() if self.model == SCENES else load_pair(self.model)
            for captioner in (pair.forward, pair.backward):
                captioner.to(place)
        return loaded, pair


model_options = bundled(
    "models",
    Models,
    click.option(
        "--alignment",
        "alignments",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="File of an alignment model, written by `birnn-decode train --kind alignment`. Several can be given.",
    ),
    click.option(
        "--model",
        metavar="FILE",
        help="File of a pair of captioners, which rank by log P→, log P← and J. scenes: the pair of the package.",
    ),
    device_option,
    file_option("--regions", "FILE", "File of features [images, regions, feature_size], for models trained on such."),
    click.option(
        "--first-pass",
        type=click.IntRange(min=2),
        metavar="N",
        help="Let the pair score only the N best sentences of each picture, and the N best pictures of each sentence, "
        "by the first alignment model. Default: all pairs.",
    ),
    click.option(
        "--smoothing",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        help="Reward of neighbouring words with the same region, when words are aligned with regions.",
    ),
)


@dataclass(frozen=True)
class Split:
    """The pictures and sentences of one split.

    Attributes:
        images: the pictures that every model has features of.
        texts: the sentences of all of them.
        owner: for each sentence the number of its picture.
        regions: for each alignment model the regions of the pictures, [pictures, regions, feature_size].
        sources: the sources of the captioners; empty without a pair.
    """

    images: list[CaptionedImage]
    texts: list[str]
    owner: list[int]
    regions: dict[str, torch.Tensor]
    sources: list[Any]


class Rankers:
    """The models with the data that they rank.

    Args:
        models: the options of the models.
        data: the options of the data.

    Attributes:
        alignments: the alignment models by name.
        pair: the pair of captioners, or None.
        notes: what was left out, in words.
    """

    def __init__(self, models: Models, data: Data):
        self.alignments, self.pair = models.load()
        self.notes: list[str] = []
        self._models = models
        self._data = data
        self._file = data.read()

    def splits(self) -> set[str]:
        """The splits that have pictures."""
        return {image.split for image in self._file.images}

    def read(self, split: str) -> Split:
        """Read the pictures and the sentences of a split.

        Raises:
            click.UsageError: the features are not those of the models.
            ValueError: there are fewer than two pictures, or a picture has no sentence with words.
        """
        import torch

        images = self._file.of(split)
        path = None if self._models.regions is None else str(self._models.regions)
        given: dict[str, Mapping[str, Any]] = {}
        for name, model in self.alignments.items():
            kind = str(model.config["regions"])
            given[name] = region_inputs(self._data, self._file, images, kind, path, model.encoder)
            _check_size(name, model.feature_size, next(iter(given[name].values())).shape[-1])
        if self.pair is not None:
            inputs, _ = self._data.inputs(self._file, images, self.pair.forward.encoder)
            vector = next(iter(inputs.values()))
            _check_size("the pair", self.pair.forward.feature_size, 0 if vector is None else len(vector))
            given[JOINT] = inputs
        there = [image for image in images if all(image.name in own for own in given.values())]
        self.notes += left_out_lines({"pictures without features": len(images) - len(there)}, f" of {split}")
        if len(there) < 2:
            raise ValueError(f"the split {split!r} has {len(there)} picture with features: ranking needs at least two")
        pairs = [(number, text) for number, image in enumerate(there) for text in image.captions if words_of(text)]
        if without := set(range(len(there))) - {number for number, _ in pairs}:
            raise ValueError(f"the picture {there[min(without)].name} has no sentence with words: leave it out")
        regions = {
            name: torch.stack([given[name][image.name] for image in there]).to(model.output.weight)
            for name, model in self.alignments.items()
        }
        sources = [given[JOINT][image.name] for image in there] if JOINT in given else []
        return Split(there, [text for _, text in pairs], [number for number, _ in pairs], regions, sources)

    def alignment_scores(self, split: Split, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the scores of the alignment models, [pictures, sentences]."""
        return {
            name: model.score(split.regions[name], encoded(model.vocabulary, texts)).double().cpu().numpy()
            for name, model in self.alignments.items()
        }

    def captioner_scores(
        self, split: Split, texts: Sequence[str], first: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Return log P→, log P← and J, each with and without what it is for other pictures, [pictures, sentences].

        Args:
            split: the pictures.
            texts: the sentences.
            first: scores of a first pass; with --first-pass, only the best pairs by these are scored.
        """
        from birnn_decode.evaluation import after_first_pass, caption_log_probs, rescored, without_bias

        if self.pair is None:
            return {}
        sentences = encoded(self.pair.forward.vocabulary, texts)
        best = self._models.first_pass
        chosen = None if first is None or best is None else after_first_pass(first, best)
        found: dict[str, np.ndarray] = {}
        with progress() as bar:
            task = bar.add_task("reading sentences", total=2 * len(split.sources))
            for name, direction in ((FORWARD, "forward"), (BACKWARD, "backward")):
                found[name] = caption_log_probs(
                    getattr(self.pair, direction),
                    direction,
                    split.sources,
                    sentences,
                    wanted=chosen,
                    on_source=lambda count: bar.advance(task, count),
                )
        for name in (FORWARD, BACKWARD):
            # After a first pass, pairs that were not scored count as impossible in the mean over other pictures.
            found[name + CORRECTED] = without_bias(found[name])
        for ending in ("", CORRECTED):
            found[JOINT + ending] = found[FORWARD + ending] + found[BACKWARD + ending]
        if chosen is not None and first is not None:
            found = {name: rescored(first, own, chosen) for name, own in found.items()}
        return {
            name + ending: found[name + ending] for name in (FORWARD, BACKWARD, JOINT) for ending in ("", CORRECTED)
        }

    def scores(self, split: Split, cca: bool) -> dict[str, np.ndarray]:
        """Return the scores of all rankers, [pictures, sentences], by name.

        The settings of CCA, and the weight of the alignment model beside J, are chosen on the split "val".
        """
        from birnn_decode.evaluation import best_weight, blended

        aligned = self.alignment_scores(split, split.texts)
        first = next(iter(aligned.values()), None)
        captioned = self.captioner_scores(split, split.texts, first)
        both = bool(aligned and captioned)
        validation = self.read("val") if "val" in self.splits() and (cca or both) else None
        found = {**(self._cca(split, validation) if cca else {}), **aligned, **captioned}
        if not both:
            return found
        ours = f"{JOINT}{CORRECTED}"
        weights = dict.fromkeys(aligned, 1.0)
        if validation is not None:
            of_alignment = self.alignment_scores(validation, validation.texts)
            first = next(iter(of_alignment.values()))
            of_captioners = self.captioner_scores(validation, validation.texts, first)[ours]
            weights = {name: best_weight(of_captioners, own, validation.owner) for name, own in of_alignment.items()}
        chosen = "chosen on the split val" if validation is not None else "there is no split val to choose it on"
        for name, weight in weights.items():
            found[f"{name} + {JOINT}"] = blended(captioned[ours], aligned[name], weight)
            self.notes.append(f"{name} + {JOINT}: {ours} plus {weight:g} times {name}, both at one spread; {chosen}")
        return found

    def _cca(self, split: Split, validation: Split | None) -> dict[str, np.ndarray]:
        """Return the scores of the linear baseline on the features of whole pictures, of each alignment model."""
        from birnn_decode.evaluation import LinearCCA
        from birnn_decode.evaluation.ranking import sum_of_recalls

        if not self.alignments or validation is None or "train" not in self.splits():
            raise click.UsageError("--cca needs an alignment model, and captions of the splits train and val")
        training = self.read("train")
        found = {}
        for name, model in self.alignments.items():
            whole = {
                one: own.regions[name][:, 0].cpu().numpy() for one, own in (("train", training), ("val", validation))
            }
            sentences = encoded(model.vocabulary, training.texts)
            captions = [
                [sentences[number] for number in numbers]
                for numbers in _of_pictures(training.owner, len(training.images))
            ]
            of_validation = encoded(model.vocabulary, validation.texts)
            tried = {}
            for ridge in RIDGES:
                fitted = LinearCCA.fit(whole["train"], captions, len(model.vocabulary), ridge)
                for directions in DIRECTIONS:
                    scores = fitted.score(whole["val"], of_validation, directions)
                    tried[sum_of_recalls(scores, validation.owner), -ridge, directions] = fitted
            (_, ridge, directions), fitted = max(tried.items(), key=lambda one: one[0])
            found[f"CCA, {name}"] = fitted.score(
                split.regions[name][:, 0].cpu().numpy(), encoded(model.vocabulary, split.texts), directions
            )
            self.notes.append(f"CCA, {name}: ridge {-ridge:g}, {directions} directions; chosen on the split val")
        return found

    def aligned(self, split: Split, number: int, text: str) -> tuple[list[str], list[Box | None]]:
        """Return the words of a sentence, and the box of the region that each goes to in the first alignment model.

        None stands for the whole picture, and for a region whose place is not known.
        """
        words = words_of(text)
        if not self.alignments:
            return words, []
        name, model = next(iter(self.alignments.items()))
        boxes = self.boxes(model, split.images[number], split.regions[name].shape[1])
        chosen = model.align(split.regions[name][number], encoded(model.vocabulary, [text])[0], self._models.smoothing)
        return words, [boxes[region] for region in chosen]

    def boxes(self, model: AlignmentModel, image: CaptionedImage, regions: int) -> list[Box | None]:
        """Return the places of the regions of a picture; None for the whole picture, and if a place is not known.

        Regions of a file are taken for the cells of a grid, row by row, if their number is that of a grid.
        """
        from birnn_decode.models import open_picture, region_boxes

        kind = str(model.config["regions"])
        known: list[Box | None] = []
        if kind == GIVEN and regions == len(region_boxes("grid")):
            known += region_boxes("grid")[1:]
        elif kind == "boxes":
            known += [region.box for region in image.regions]
        elif kind == "grid":
            cells = region_boxes("grid")
            encoder: Any = model.encoder
            if hasattr(encoder, "seen") and self._data.images is not None:
                part = encoder.seen(open_picture(self._data.images / image.name).size)
                cells = region_boxes("grid", seen=part)
            known += cells[1:]
        return [None, *known, *[None] * (regions - 1 - len(known))]

    def grounding(self, split: Split) -> list[str]:
        """Return a line for each alignment model that knows the places of its regions, if the pictures have labels."""
        from birnn_decode.evaluation import interval, mean_metric, shows, word_regions

        lines = []
        for name, model in self.alignments.items():
            right: list[float] = []
            groups: list[int] = []
            for text, number in zip(split.texts, split.owner, strict=True):
                image = split.images[number]
                boxes = self.boxes(model, image, split.regions[name].shape[1])
                named = word_regions(words_of(text), image.regions)
                if not any(boxes) or not named:
                    continue
                ids = encoded(model.vocabulary, [text])[0]
                chosen = model.align(split.regions[name][number], ids, self._models.smoothing)
                for place, object_number in named.items():
                    box = boxes[chosen[place]]
                    right.append(float(box is not None and shows(box, object_number, image.regions)))
                    groups.append(number)
            if right:
                share = interval(mean_metric("grounded", right), groups)
                lines.append(
                    f"{name}: {share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of {len(right)} words that name an "
                    f"object go to a region that shows it (smoothing {self._models.smoothing:g})"
                )
        return lines


def encoded(vocabulary: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of the words of sentences. Words that the vocabulary lacks are UNK."""
    return [vocabulary.encode(text, unknown=UNK) for text in texts]


def _check_size(what: str, wanted: int, given: int) -> None:
    if wanted != given:
        raise click.UsageError(
            f"{what} was trained with feature vectors of {wanted} numbers, but got {given or 'none'}: give the "
            "features that were used then, see --features, --regions and --images"
        )


def _of_pictures(owner: Sequence[int], pictures: int) -> list[list[int]]:
    """Return the numbers of the sentences of each picture."""
    found: list[list[int]] = [[] for _ in range(pictures)]
    for number, picture in enumerate(owner):
        found[picture].append(number)
    return found


@click.command(epilog=EXAMPLES, short_help="Rank pictures by sentence, and sentences by picture.")
@data_options
@model_options
@click.option(
    "--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Split whose pictures are ranked."
)
@click.option("--cca", is_flag=True, help="Also rank by CCA, a linear baseline, on the features of whole pictures.")
@click.option("--search", metavar="SENTENCE", help="Show the best pictures for a sentence.")
@click.option("--picture", metavar="NAME", help="Show the best sentences of the split for one of its pictures.")
@count_option("--top", default=5, help="Number of pictures or sentences that are shown.")
@click.option(
    "--sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also show them as an HTML file, with the regions of words outlined. Needs --images.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="A new folder for figures.csv."
)
def rank(
    data: Data,
    models: Models,
    split: str,
    cca: bool,
    search: str | None,
    picture: str | None,
    top: int,
    sheet: Path | None,
    out: Path | None,
) -> None:
    """Rank pictures by sentence and sentences by picture, and measure how often the right one comes first.

    An alignment model scores how well the words of a sentence fit the regions of a picture. A pair of captioners ranks
    by the log-probability of the sentence given the picture. "- mean" is the same minus the logarithm of the sentence's
    mean probability for the other pictures of the split.

    The measures are those of Karpathy and Fei-Fei (2015): the share of queries with a right answer among the first 1, 5
    and 10, and the median rank. Figures have 95 % bootstrap intervals over pictures.

    With --search or --picture, the command shows answers in place of figures. The first alignment model ranks them; if
    there is none, the pair ranks them by J, for a picture minus the mean.
    """
    if not data.captions:
        raise click.UsageError("--captions FILE is missing: it names the pictures and their sentences")
    shown = search is not None or picture is not None
    if search is not None and picture is not None:
        raise click.UsageError("give one of --search and --picture")
    if sheet is not None and not (shown and data.images is not None):
        raise click.UsageError("--sheet goes with --images, and with --search or --picture")
    folder = data.images
    if data.features is not None or (data.images is not None and models.regions is not None and models.model is None):
        data = Data(data.captions, data.split_lists, data.features, None, data.no_image)  # pictures are shown only
    rankers = Rankers(models, data)
    if out is not None:
        new_folder(out)
    there = rankers.read(split)
    if search is not None:
        _search(rankers, there, search, top, sheet, folder)
    elif picture is not None:
        _describe(rankers, there, picture, top, sheet, folder)
    else:
        _measure(rankers, there, cca, out)


def _measure(rankers: Rankers, split: Split, cca: bool, out: Path | None) -> None:
    """Print the figures of all rankers."""
    from birnn_decode.evaluation import rank_figures
    from birnn_decode.show.tables import ranking_tables

    scores = rankers.scores(split, cca)
    texts = [" ".join(words_of(text)) for text in split.texts]
    terminal = console(at_least=WIDTH_OF_FILES)
    rows: list[list[str]] = []
    for counting, same in (("own", None), ("equal", texts)):
        figures = {name: rank_figures(own, split.owner, same) for name, own in scores.items()}
        for direction, table in ranking_tables(figures).items():
            title = f"{direction}, {COUNTINGS[counting]}: {len(split.images)} pictures, {len(texts)} sentences"
            terminal.print(f"\n{title}", style="bold", highlight=False)
            terminal.print(table)
        rows += _rows(figures, counting)
        if len(set(texts)) == len(texts):
            break  # no two sentences are equal, so both countings are one
    terminal.print("\n[low, high]: 95 % interval over pictures.", highlight=False, markup=False)
    for line in (*rankers.grounding(split), *dict.fromkeys(rankers.notes)):
        terminal.print(line, highlight=False, markup=False)
    if out is not None:
        from birnn_decode.evaluation.report import csv_text
        from birnn_decode.files import write_whole

        header = ["ranker", "counting", "direction", "metric", "value", "low", "high"]
        write_whole(out / "figures.csv", csv_text(header, rows).encode())
        click.echo(f"figures.csv is in {out}")


def _rows(figures: Mapping[str, Mapping[str, Mapping[str, Interval]]], counting: str) -> list[list[str]]:
    return [
        [name, counting, direction, metric, *one.cells()]
        for name, own in figures.items()
        for direction, measures in own.items()
        for metric, one in measures.items()
    ]


def _search(rankers: Rankers, split: Split, sentence: str, top: int, sheet: Path | None, folder: Path | None) -> None:
    """Show the best pictures for a sentence."""
    _check_words(rankers, sentence)
    if rankers.alignments:
        scores = next(iter(rankers.alignment_scores(split, [sentence]).values()))[:, 0]
    else:
        scores = rankers.captioner_scores(split, [sentence])[JOINT][:, 0]
    best = np.argsort(-scores, kind="stable")[:top].tolist()
    found = [(number, sentence, float(scores[number]), split.images[number].name) for number in best]
    _show(rankers, split, found, f'pictures for "{sentence}"', sheet, folder)


def _describe(rankers: Rankers, split: Split, name: str, top: int, sheet: Path | None, folder: Path | None) -> None:
    """Show the best sentences for a picture."""
    names = [image.name for image in split.images]
    if name not in names:
        raise click.UsageError(f"--picture {name}: the split has no such picture; the first one is {names[0]}")
    number = names.index(name)
    own = {" ".join(words_of(text)) for text in split.images[number].captions}
    texts = list({" ".join(words_of(text)): text for text in split.texts})
    if rankers.alignments:
        scores = next(iter(rankers.alignment_scores(split, texts).values()))[number]
    else:
        scores = rankers.captioner_scores(split, texts)[JOINT + CORRECTED][number]
    best = np.argsort(-scores, kind="stable")[:top].tolist()
    found = [(number, texts[one], float(scores[one]), "its own" if texts[one] in own else "") for one in best]
    _show(rankers, split, found, f"sentences for {name}", sheet, folder)


def _check_words(rankers: Rankers, sentence: str) -> None:
    """Refuse a sentence without words that the model knows, and name the words that it does not know."""
    words = words_of(sentence)
    if not words:
        raise click.UsageError("--search: the sentence has no words")
    ranking: list[Any] = [*rankers.alignments.values(), *([] if rankers.pair is None else [rankers.pair.forward])]
    known = [word != UNK for word in encoded(ranking[0].vocabulary, [sentence])[0]]
    if not any(known):
        raise click.UsageError(f"--search {sentence!r}: the model knows none of its words")
    if not all(known):
        unknown = dict.fromkeys(itertools.compress(words, (not one for one in known)))
        click.echo(f"the model does not know: {', '.join(unknown)}")


def _show(
    rankers: Rankers,
    split: Split,
    found: Sequence[tuple[int, str, float, str]],
    title: str,
    sheet: Path | None,
    folder: Path | None,
) -> None:
    """Show pictures with sentences: (number of the picture, sentence, score, note), as a table and as a sheet."""
    from birnn_decode.show.sheets import colours_of

    terminal = console(at_least=WIDTH_OF_FILES)
    table = Table(Column("score", justify="right"), "sentence and regions", "", box=None, pad_edge=False)
    aligned = [rankers.aligned(split, number, text) for number, text, _, _ in found]
    for (_, _, score, note), (words, regions) in zip(found, aligned, strict=True):
        colours = colours_of(regions)
        numbers = {box: number for number, box in enumerate(colours, 1)}
        line = Text()
        for word, box in itertools.zip_longest(words, regions):
            if box is None:
                line.append(f"{word} ")
            else:
                line.append(word, f"bold {colours[box]}").append(f"[{numbers[box]}] ")
        table.add_row(f"{score:.2f}", line, note)
    terminal.print(title, style="bold", highlight=False, markup=False)
    terminal.print(table)
    if any(box is not None for _, regions in aligned for box in regions):
        terminal.print("[1], [2], …: words that go to one region of the picture.", highlight=False, markup=False)
    if sheet is None or folder is None:
        return
    from birnn_decode.files import write_whole
    from birnn_decode.models import open_picture
    from birnn_decode.show.sheets import Card
    from birnn_decode.show.sheets import sheet as contact_sheet

    cards = [
        Card(open_picture(folder / split.images[number].name), words, regions, f"{note} {score:.2f}".strip())
        for (number, _, score, note), (words, regions) in zip(found, aligned, strict=True)
    ]
    write_whole(sheet, contact_sheet(title, cards).encode())
    click.echo(f"the pictures are in {sheet}")
