"""The command ``rank``: rank the sentences of a picture and the pictures of a sentence."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
class RankingModels:
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
            click.UsageError: no model is given, two files have one name, or the pair sees no pictures.
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
            if not pair.forward.feature_size:
                raise click.UsageError(f"--model {self.model} sees no pictures: give a pair that was trained with them")
            for captioner in (pair.forward, pair.backward):
                captioner.to(place)
        return loaded, pair


model_options = bundled(
    "models",
    RankingModels,
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
    file_option(
        "--regions", "FILE", "Features [images, regions, feature_size], for models trained on regions of a file."
    ),
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
        name: the name of the split.
        images: the pictures that every model has features of.
        texts: the sentences of all of them.
        owner: for each sentence the number of its picture.
        regions: for each alignment model the regions of the pictures, [pictures, regions, feature_size].
        sources: the sources of the captioners; empty without a pair.
    """

    name: str
    images: list[CaptionedImage]
    texts: list[str]
    owner: list[int]
    regions: dict[str, torch.Tensor]
    sources: list[Any]

    def captions(self, vocabulary: Any) -> list[list[list[int]]]:
        """The ids of the words of the sentences of each picture."""
        grouped = itertools.groupby(zip(self.owner, encoded(vocabulary, self.texts), strict=True), lambda one: one[0])
        return [[words for _, words in own] for _, own in grouped]


class Rankers:
    """The models with the data that they rank.

    Args:
        models: the options of the models.
        data: the options of the data. With features, the pictures of whole images are shown only.

    Attributes:
        alignments: the alignment models by name.
        pair: the pair of captioners, or None.
        notes: what was left out and what was chosen, in words.

    Raises:
        click.UsageError: an option has no use.
    """

    def __init__(self, models: RankingModels, data: Data):
        self.alignments, self.pair = models.load()
        self._models = models
        self._data = data
        self._vectors = data if data.features is None else replace(data, images=None)
        self._kinds = {name: str(model.config["regions"]) for name, model in self.alignments.items()}
        if models.regions is not None and GIVEN not in self._kinds.values():
            raise click.UsageError("no model was trained on regions of a file: leave --regions out")
        if data.features is not None and self.pair is None and "whole" not in self._kinds.values():
            raise click.UsageError("no model ranks by features of whole pictures: leave --features out")
        self._file = data.read()
        self.notes = left_out_lines(self._file.left_out)

    def split_of(self, name: str) -> str | None:
        """The split of a picture; None if there is no such picture."""
        return next((image.split for image in self._file.images if image.name == name), None)

    def read(self, split: str) -> Split:
        """Read the pictures and the sentences of a split.

        Raises:
            click.UsageError: the features are not those of the models.
            ValueError: there are fewer than two pictures, or a picture has no sentence with words.
        """
        import torch

        images = self._file.of(split)
        given: dict[str, Mapping[str, Any]] = {}
        for name, model in self.alignments.items():
            kind = self._kinds[name]
            data = self._vectors if kind == "whole" else self._data
            given[name] = region_inputs(data, self._file, images, kind, self._models.regions, model.encoder)
            _check_size(name, model.feature_size, next(iter(given[name].values())).shape[-1])
        if self.pair is not None:
            self._vectors.check_pictures()
            given[JOINT], _ = self._vectors.inputs(self._file, images, self.pair.forward.encoder)
            _check_size("the pair", self.pair.forward.feature_size, len(next(iter(given[JOINT].values()))))
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
        return Split(split, there, [text for _, text in pairs], [number for number, _ in pairs], regions, sources)

    def alignment_scores(self, split: Split, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the scores of the alignment models, [pictures, sentences]."""
        return {
            name: model.score(split.regions[name], encoded(model.vocabulary, texts)).double().cpu().numpy()
            for name, model in self.alignments.items()
        }

    def captioner_scores(
        self, split: Split, texts: Sequence[str], wanted: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Return log P→, log P← and J, each with and without what it is for other pictures, [pictures, sentences].

        Args:
            split: the pictures.
            texts: the sentences.
            wanted: the pairs that are scored; all others are -inf. None: all pairs.
        """
        from birnn_decode.evaluation import caption_log_probs, without_bias

        if self.pair is None:
            return {}
        sentences = encoded(self.pair.forward.vocabulary, texts)
        found: dict[str, np.ndarray] = {}
        with progress() as bar:
            task = bar.add_task("reading sentences", total=2 * len(split.sources))
            for name, direction in ((FORWARD, "forward"), (BACKWARD, "backward")):
                found[name] = caption_log_probs(
                    getattr(self.pair, direction),
                    direction,
                    split.sources,
                    sentences,
                    wanted=wanted,
                    on_source=lambda count: bar.advance(task, count),
                )
                found[name + CORRECTED] = without_bias(found[name])
        for ending in ("", CORRECTED):
            found[JOINT + ending] = found[FORWARD + ending] + found[BACKWARD + ending]
        return found

    def scores(self, split: Split, cca: bool) -> dict[str, np.ndarray]:
        """Return the scores of all rankers, [pictures, sentences], by name.

        The settings of CCA, and the weight of the alignment model beside J, are chosen on the split "val".
        """
        from birnn_decode.evaluation import best_weight, blended, rescored

        aligned, captioned, chosen = self._scored(split)
        both = bool(aligned and captioned)
        chooses = split.name != "val" and any(image.split == "val" for image in self._file.images)
        validation = self.read("val") if chooses and (cca or both) else None
        found = {**(self._cca(split, validation) if cca else {}), **aligned}
        ours = f"{JOINT}{CORRECTED}"
        if both:
            weights = dict.fromkeys(aligned, 1.0)
            if validation is not None:
                of_alignment, of_captioners, _ = self._scored(validation)
                for name, own in of_alignment.items():
                    weights[name] = best_weight(of_captioners[ours], own, validation.owner)
            why = "there are no others to choose it on" if validation is None else "chosen on the split val"
            for name, weight in weights.items():
                captioned[f"{name} + {JOINT}"] = blended(captioned[ours], aligned[name], weight)
                self.notes.append(
                    f"{name} + {JOINT}: {ours} plus {weight:g} times {name}, each divided by its standard deviation; "
                    f"the weight: {why}"
                )
        if chosen is None:
            return found | captioned
        first, scores = next(iter(aligned.items()))
        self.notes.append(
            f"{first}, then …: the pair ranks the {self._models.first_pass} sentences of each picture, and as many "
            f"pictures of each sentence, that {first} ranks first; all others follow, and are impossible in the mean"
        )
        return found | {f"{first}, then {name}": rescored(scores, own, chosen) for name, own in captioned.items()}

    def _scored(self, split: Split) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray | None]:
        """Return the scores of the alignment models and of the captioners, and the pairs that the latter score."""
        from birnn_decode.evaluation import after_first_pass

        aligned, best = self.alignment_scores(split, split.texts), self._models.first_pass
        chosen = None if best is None else after_first_pass(next(iter(aligned.values())), best)
        return aligned, self.captioner_scores(split, split.texts, chosen), chosen

    def _cca(self, split: Split, validation: Split | None) -> dict[str, np.ndarray]:
        """Return the scores of the linear baseline on the features of whole pictures, of each alignment model."""
        from birnn_decode.evaluation.rankers import best_cca

        if not self.alignments or validation is None or not any(one.split == "train" for one in self._file.images):
            raise click.UsageError("--cca needs an alignment model, and captions of the splits train and val")
        training, found = self.read("train"), {}
        for name, model in self.alignments.items():
            whole = {one.name: one.regions[name][:, 0].cpu().numpy() for one in (training, validation, split)}
            own, other = ((whole[one.name], one.captions(model.vocabulary)) for one in (training, validation))
            fitted, ridge, directions = best_cca(own, other, len(model.vocabulary))
            found[f"CCA, {name}"] = fitted.score(whole[split.name], encoded(model.vocabulary, split.texts), directions)
            self.notes.append(f"CCA, {name}: ridge {ridge:g}, {directions} directions; chosen on the split val")
        return found

    def aligned(self, split: Split, number: int, text: str) -> tuple[list[str], list[Box | None]]:
        """Return the words of a sentence, and the box of the region that each goes to in the first alignment model.

        None stands for the whole picture, and for a region whose place is not known.
        """
        for name in self.alignments:
            places = self._places(split, name, number)
            return words_of(text), [places[region] for region in self._align(split, name, number, text)]
        return words_of(text), []

    def _align(self, split: Split, name: str, number: int, text: str) -> list[int]:
        """Return the region that each word of a sentence goes to."""
        model = self.alignments[name]
        (words,) = encoded(model.vocabulary, [text])
        return model.align(split.regions[name][number], words, self._models.smoothing)

    def _places(self, split: Split, name: str, number: int) -> list[Box | None]:
        """Return the places of the regions of a picture, see `known_places`."""
        from birnn_decode.models import open_picture
        from birnn_decode.models.regions import WHOLE, known_places

        image, seen = split.images[number], WHOLE
        encoder: Any = self.alignments[name].encoder
        if self._kinds[name] == "grid" and hasattr(encoder, "seen") and self._data.images is not None:
            seen = encoder.seen(open_picture(self._data.images / image.name).size)
        boxes = [region.box for region in image.regions]
        return known_places(self._kinds[name], split.regions[name].shape[1], boxes, seen)

    def grounding(self, split: Split) -> list[str]:
        """Return a line for each alignment model that knows the places of its regions, if the pictures have labels."""
        from birnn_decode.evaluation import grounded, interval, mean_metric

        lines = []
        for name in self.alignments:
            places = [self._places(split, name, number) for number in range(len(split.images))]
            found = [
                (number, *one)
                for number, text in zip(split.owner, split.texts, strict=True)
                if split.images[number].regions and any(places[number])
                for one in grounded(
                    words_of(text),
                    self._align(split, name, number, text),
                    places[number],
                    split.images[number].regions,
                )
            ]
            if found:
                groups, right, by_chance = zip(*found, strict=True)
                share = interval(mean_metric("grounded", right), groups)
                lines.append(
                    f"{name}: {share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of {len(right)} words that name an "
                    f"object go to a region that shows it (smoothing {self._models.smoothing:g}; by chance "
                    f"{np.mean(by_chance):.1%})"
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
    models: RankingModels,
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
    for option, given in {"--out": out, "--cca": cca or None, "--first-pass": models.first_pass}.items():
        if shown and given is not None:
            raise click.UsageError(f"{option} is for figures: leave it out with --search and --picture")
    if cca and split != "test":
        raise click.UsageError("--cca learns from the splits train and val: use it with --split test")
    if sheet is not None:
        _check_sheet(sheet, shown and data.images is not None)
    rankers = Rankers(models, data)
    if out is not None:
        new_folder(out)
    there = rankers.read(split)
    if sheet is not None and data.images is not None:
        for image in there.images:
            if not (data.images / image.name).is_file():
                raise FileNotFoundError(f"{data.images} has no picture {image.name}, which --sheet may have to show")
    if search is not None:
        _search(rankers, there, search, top, sheet, data.images)
    elif picture is not None:
        _describe(rankers, there, picture, top, sheet, data.images)
    else:
        _measure(rankers, there, cca, out)
    for line in dict.fromkeys(rankers.notes):
        click.echo(line)


def _check_sheet(sheet: Path, has_pictures: bool) -> None:
    if not has_pictures:
        raise click.UsageError("--sheet goes with --images, and with --search or --picture")
    if sheet.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"--sheet {sheet}: the file is HTML; give a name that ends in .html")
    if not sheet.parent.is_dir():
        raise FileNotFoundError(f"cannot write {sheet}: there is no folder {sheet.parent}")


def _measure(rankers: Rankers, split: Split, cca: bool, out: Path | None) -> None:
    """Print the figures of all rankers."""
    from birnn_decode.evaluation import rank_figures, recalls_lead
    from birnn_decode.evaluation.ranking import BOTH
    from birnn_decode.show.tables import ranking_tables

    scores = rankers.scores(split, cca)
    texts = [" ".join(words_of(text)) for text in split.texts]
    terminal = console(at_least=WIDTH_OF_FILES)
    rows: list[list[str]] = []
    for counting, same in (("own", None), ("equal", texts)):
        figures = {name: rank_figures(own, split.owner, same) for name, own in scores.items()}
        if cca:
            baseline, linear = next(iter(scores.items()))
            for name, own in scores.items():
                figures[name][BOTH][f"minus {baseline}"] = recalls_lead(own, linear, split.owner, same)
        for direction, table in ranking_tables(figures).items():
            title = f"{direction}, {COUNTINGS[counting]}: {len(split.images)} pictures, {len(texts)} sentences"
            terminal.print(f"\n{title}", style="bold", highlight=False)
            terminal.print(table)
        rows += _rows(figures, counting)
        if len(set(texts)) == len(texts):
            break  # no two sentences are equal, so both countings are one
    terminal.print("\n[low, high]: 95 % interval over pictures.", highlight=False, markup=False)
    for line in rankers.grounding(split):
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
        other = rankers.split_of(name)
        hint = f"give --split {other}" if other not in (None, split.name) else f"the first one is {names[0]}"
        raise click.UsageError(f"--picture {name}: the split {split.name!r} has no such picture with features; {hint}")
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
        terminal.print(
            "Words with the same number go to the same region. Numbers start anew on each line.",
            highlight=False,
            markup=False,
        )
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
