"""Fill holes in pictures with Context Encoders and with the library's searches: ``python -m examples.inpainting``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from birnn_decode import Pair
from birnn_decode.evaluation import Interval
from birnn_decode.files import write_whole
from birnn_decode.training import Recipe
from examples.inpainting import data, figure, filling, measures, probe, training
from examples.inpainting.context_encoder import ContextEncoder, halvings
from examples.inpainting.filling import Filled
from examples.inpainting.measures import Results, Task
from examples.inpainting.training import PixelSettings, Settings

DIGITS = Settings(PixelSettings(192, 64, 0.2, Recipe(40, batch_size=32, learning_rate=3e-3)), 2000)
SCENES = Settings(PixelSettings(96, 48, 0.1, Recipe(6, batch_size=16, learning_rate=4e-3)), 800)
QUICK = Settings(PixelSettings(24, 16, 0.0, Recipe(1, batch_size=32, learning_rate=1e-2)), 8)
QUICK_PICTURES = 60, 2  # to learn from, and to fill
L2, JOINT = "Context Encoder, L2", "Context Encoder, L2 + adversarial"
TITLES = {
    L2: "Context Encoder\nL2",
    JOINT: "Context Encoder\nL2 + adversarial",
    "urnn-f": "URNN-f\nonly forward →",
    "urnn-b": "URNN-b\n← only backward",
    "bscd": "BSCD\nboth",
}
ROWS = 6  # of a sheet
FEW_LABELS = 100  # that the linear probe learns from, beside all of them


@click.command()
@click.option(
    "--data",
    "names",
    multiple=True,
    default=("digits", "scenes"),
    show_default="both",
    metavar="digits|scenes|FOLDER",
    help="Pictures: handwritten digits, drawn scenes, or a folder of pictures of one size. May be given again.",
)
@click.option(
    "--hole", "side", type=click.IntRange(min=1), metavar="N", help="Side of the hole in the middle, in pixels."
)
@click.option(
    "--colours", type=click.IntRange(2, data.MOST_COLOURS), metavar="N", help="Colours of a folder's pictures."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="build/inpainting", show_default=True)
@click.option("--quick", is_flag=True, help="A run of less than a minute, to see that everything works.")
def main(names, side, colours, out, quick):
    """Train two pixel models and two Context Encoders, fill holes with both, and compare them.

    OUT gets a sheet of pictures for each kind of pictures, the tables as text and as CSV, and the trained models. A
    second call does not train again what is finished there.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    results = Results()
    with Progress(*columns, console=Console(stderr=True, soft_wrap=True)) as progress:
        asked = []
        for name in names:  # whatever is wrong with any of them is found before the first training
            pictures, settings = opened(name, colours, quick)
            halvings(pictures.size)
            asked.append((pictures, measures.tasks(pictures, side, settings.seed), settings))
        for pictures, tasks, settings in asked:
            folder = out / pictures.name
            folder.mkdir(parents=True, exist_ok=True)
            run(pictures, tasks, settings, folder, results, progress)
    console = Console(width=200, file=sys.stdout)
    with console.capture() as captured:
        console.print(*results.tables(), sep="\n\n", highlight=False)
    text = "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"
    write_whole(out / "results.txt", text.encode())
    write_whole(out / "results.csv", results.csv().encode())
    click.echo(text)
    click.echo(f"The tables are in {out}/results.txt and {out}/results.csv, the sheets are {out}/*/*.png")


def opened(name: str, colours: int | None, quick: bool) -> tuple[data.Pictures, Settings]:
    """Return the pictures of a name, and the settings of their trainings."""
    if name == "scenes":
        found = data.scenes(QUICK_PICTURES[0], *[QUICK_PICTURES[1]] * 2) if quick else data.scenes()
    elif name == "digits":
        found = data.digits()
    else:
        found = data.folder(Path(name), colours)
    if quick:
        return found.first(*QUICK_PICTURES), QUICK
    return found, DIGITS if max(found.size) <= 16 else SCENES


def run(
    pictures: data.Pictures,
    tasks: list[Task],
    settings: Settings,
    folder: Path,
    results: Results,
    progress: Progress,
) -> None:
    """Train, fill, measure and draw one kind of pictures."""
    pair = training.pixel_pair(pictures, settings, folder / "pixels.pt", progress)
    encoders = {
        L2: training.encoder(pictures, settings, folder / "l2.pt", progress),
        JOINT: training.encoder(pictures, settings, folder / "adversarial.pt", progress, adversarial=True),
    }
    read = measures.reader(pictures)
    for task in tasks:
        filled = {
            name: filling.paint(model, pair, pictures, task.numbers, task.missing) for name, model in encoders.items()
        }
        filled |= searched(pictures, task, settings, pair, folder, progress)
        true = pictures.values(task.numbers)
        filled["truth"] = filling.not_searched(pair, true, task.numbers)
        said = {name: read(one, task.labels) if read else [] for name, one in filled.items()}
        compare(pictures, task, filled, said, results)
        if task.methods == filling.SEARCHES:
            draw(pictures, task, filled, said, folder)
        if task.name == "centre":
            draw_blur(pictures, task, filled, folder / "blur.png")
    if pictures.train_labels and not pictures.colours:
        compare_features(pictures, settings, encoders[L2], folder, results, progress)


def searched(
    pictures: data.Pictures, task: Task, settings: Settings, pair: Pair, folder: Path, progress: Progress
) -> dict[str, Filled]:
    """Fill the holes of a task by searches, or load what was found before."""

    def make() -> dict[str, dict[str, torch.Tensor]]:
        found = filling.search(
            pair, pictures, task.numbers, task.missing, progress, task.methods, beam_size=task.beam_size
        )
        return {name: {field: torch.from_numpy(own) for field, own in vars(one).items()} for name, one in found.items()}

    made_of = {
        "settings": repr((settings.pixels, settings.seed)),
        "pictures": training.fingerprint(pictures.train, task.numbers, task.missing),
    }
    name = re.sub(r"\W+", "-", task.name)
    found = training.kept(folder / f"searched-{name}.pt", made_of, make)
    return {name: Filled(**{field: own.numpy() for field, own in one.items()}) for name, one in found.items()}


def compare(
    pictures: data.Pictures, task: Task, filled: dict[str, Filled], said: dict[str, list], results: Results
) -> None:
    """Measure what each method filled in, and the differences that matter."""
    each = {name: measures.measure(one, task, pictures, said[name]) for name, one in filled.items()}
    for name, one in filled.items():
        own = {measure: measures.mean(values) for measure, values in each[name].items()}
        ratio = measures.psnr(one, task, pictures)
        results.add(pictures.name, task.name, name, own | {"PSNR, dB": Interval(ratio, np.nan, np.nan)})
    shown = f"{task.name}, differences"
    for other in ("urnn-f", "urnn-b", "rerank"):
        if other in each:
            own = {
                measure: measures.difference(each["bscd"][measure], each[other][measure])
                for measure in ("recognised", "right", "J")
                if measure in each[other]
            }
            results.add(pictures.name, shown, f"bscd - {other}", own)
    sharper = {
        measure: measures.difference(each[JOINT][measure], each[L2][measure])
        for measure in ("squared error", "sharpness")
    }
    results.add(pictures.name, shown, "with adversarial - L2 alone", sharper)


def draw(pictures: data.Pictures, task: Task, filled: dict[str, Filled], said: dict[str, list], folder: Path) -> None:
    """Draw the sheet of a task: pictures that only the search in both directions gets right, then the first ones."""
    telling = []
    right = [getattr(label, "kind", label) for label in task.labels]
    if right:
        ok = {name: measures.recognised(own, task.labels) for name, own in said.items()}
        telling = np.flatnonzero(ok["bscd"] * (1 - ok["urnn-f"]) * (1 - ok["urnn-b"])).tolist()[: ROWS - 2]
    others = [number for number in range(len(task.numbers)) if number not in telling]
    rows = [*telling, *others][:ROWS]
    figure.draw_sheet(
        folder / f"{task.name}.png",
        pictures,
        task.numbers[rows],
        task.missing[rows],
        {title: filled[name].values[rows] for name, title in TITLES.items()},
        {title: [said[name][row] for row in rows] for name, title in TITLES.items()} if right else {},
        [right[row] for row in rows] if right else [],
    )


def draw_blur(pictures: data.Pictures, task: Task, filled: dict[str, Filled], path: Path) -> None:
    """Draw the picture whose best completions differ most: the completions, their mean, and the Context Encoders."""
    beam = filled["bscd"].beam
    values = pictures.palette[beam].mean(-1)  # [N, B, height, width]
    row = values.std(1).sum((1, 2)).argmax()
    found = pictures.values(beam[row])
    columns = {f"completion {rank}": one for rank, one in enumerate(found, start=1)}
    columns["mean of the\ncompletions"] = found.mean(0)
    columns |= {TITLES[name]: filled[name].values[row] for name in (L2, JOINT)}
    own = {title: one[None] for title, one in columns.items()}
    figure.draw_sheet(path, pictures, task.numbers[row : row + 1], task.missing[row : row + 1], own, {}, [])


def compare_features(
    pictures: data.Pictures,
    settings: Settings,
    model: ContextEncoder,
    folder: Path,
    results: Results,
    progress: Progress,
) -> None:
    """Compare what a linear classifier recognises from the features of networks that saw no labels."""
    values, test = pictures.values(pictures.train), pictures.values(pictures.test)
    torch.manual_seed(settings.seed)
    models = {
        "Context Encoder": model,
        "random weights": ContextEncoder(values.shape[1], pictures.size),
        "autoencoder": training.encoder(pictures, settings, folder / "autoencoder.pt", progress, sees_all=True),
    }
    known = {name: (probe.features(one, values), probe.features(one, test)) for name, one in models.items()}
    for count in (FEW_LABELS, len(values)):
        labels = pictures.train_labels[:count]
        ok = {name: probe.probe(own[:count], labels, new, pictures.test_labels) for name, (own, new) in known.items()}
        for name, own in ok.items():
            figures = {"recognised": measures.mean(own)}
            if own is not ok["Context Encoder"]:
                figures["Context Encoder more"] = measures.difference(ok["Context Encoder"], own)
            results.add(pictures.name, f"linear probe, {count:,} labels", name, figures)


def command() -> None:
    """Run the command. An error of the user is one line on stderr and exit code 2."""
    try:
        sys.exit(main.main(prog_name="inpainting", standalone_mode=False))
    except click.ClickException as error:
        message = error.format_message()
    except click.Abort:
        sys.exit(130)
    except (ValueError, OSError) as error:
        message = str(error)
    print(f"inpainting: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    command()
