"""How often each method finds the very words that were taken out of captions of held-out scenes."""

import time
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from birnn_decode.captions import make_scenes
from birnn_decode.evaluation import fill_blanks, summarise
from birnn_decode.models import default_pair, load_captioner

HELD_OUT_SEED = 2  # the pair was trained on scenes of seed 0 and chosen on those of seed 1


@click.command()
@click.option("--count", type=click.IntRange(min=1), default=1000, show_default=True, help="Scenes, one caption each.")
@click.option("--seed", default=HELD_OUT_SEED, show_default=True, help="Of the scenes.")
@click.option("--blank", default=0.5, show_default=True, help="Share of the words taken out of the middle.")
@click.option("--beam-size", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--model-f", type=click.Path(path_type=Path), help="Instead of the shipped pair.")
@click.option("--model-b", type=click.Path(path_type=Path), help="Instead of the shipped pair.")
def main(count, seed, blank, beam_size, model_f, model_b):
    """Fill the middle of captions of held-out scenes with every method, and print how often each is exactly right."""
    if (model_f is None) != (model_b is None):
        raise click.UsageError("--model-f and --model-b go together: give both, or neither for the shipped pair")
    models = default_pair() if model_f is None else (load_captioner(model_f), load_captioner(model_b))
    scenes = make_scenes(count, seed, captions=1)
    captions = [models[0].vocabulary.encode(scene.captions[0]) for scene in scenes]
    pictures = [scene.picture() for scene in scenes]
    began = time.perf_counter()
    decoding = fill_blanks(*models, pictures, captions, blank, beam_size=beam_size)
    stderr = Console(stderr=True)
    results = list(track(decoding, "filling blanks", total=count, console=stderr, disable=not stderr.is_terminal))
    seconds = time.perf_counter() - began
    table = Table("method", box=box.MARKDOWN)
    for column in ("exactly right", "mean J", "rows"):
        table.add_column(column, justify="right")
    for method, figures in summarise(results, captions).items():
        right = f"{figures.exactly_right:.3f} ± {figures.standard_error:.3f}"
        table.add_row(method, right, f"{figures.mean_joint:.2f}", f"{figures.mean_rows:.0f}")
    Console().print(table)
    print(
        f"{count} scenes of seed {seed}, the middle {blank:.0%} of the words, B = {beam_size}, {seconds:.0f} s in all"
    )


if __name__ == "__main__":
    main()
