"""Write the tables and draw the figures of the pages of results from the CSV files in docs/results.

Run ``python benchmarks/results_page.py`` after ``benchmarks/results_csv.py``, or after editing the text of a page. In
the pages, every table follows a comment ``<!-- table: NAME -->``. ``TABLES`` has the function that writes each table,
and ``FIGURES`` has the function that draws each picture. The text around the tables is written by hand.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from birnn_decode.show.curves import COLOURS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, str]

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("results.md", "results-lines.md", "results-search.md")
BLANKS = {"0.01": "one word", "0.25": "¼", "0.5": "½", "0.75": "¾"}
DATA = {"ucm": "UCM-Captions", "flickr": "Flickr8k text"}
PAIR = ("urnn-f", "urnn-b", "urnn-f+end", "urnn-b+end", "rerank", "gibbs", "bscd")
BIRNN = ("rerank", "gibbs", "bscd", "birnn-f", "birnn-b", "birnn-rerank", "birnn-gibbs", "birnn-bscd")
LENGTH_RULES = ("none", "average", "0.5", "1", "2", "3")
BEAMS = (1, 2, 5, 10, 20, 50, 100)
PICTURES_SHOWN = 4
SHARES = ("0.25", "0.5", "0.75")
FOUR = ("urnn-f", "urnn-b", "rerank", "bscd")
SEARCHES = ("urnn-f+end", "urnn-b+end", "rerank", "gibbs", "bscd-paper", "bscd")
SEARCHED = {  # for each run: its data, the share that is missing, and the name of the tokens
    "ucm-search": ("UCM-Captions", "0.5", "words"),
    "molecules-search": ("Molecules", "0.5", "characters"),
    "digits-search": ("Digits", "0.25", "pixels"),
}
SEARCH_BEAMS = (1, 2, 5, 10, 25)
TABLE = re.compile(r"(<!-- table: (.*) -->\n)(?:\|.*\n)*")


class Results:
    """The rows of figures.csv, found by run, blank, setting, method, subtracted method and metric."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        keys = ("run", "blank", "setting", "method", "minus", "metric")
        self.rows = {tuple(row[key] for key in keys): row for row in read_rows(folder / "figures.csv")}

    def get(
        self, run: str, blank: str, method: str, metric: str, setting: str = "", minus: str = ""
    ) -> dict[str, float] | None:
        """Value and interval, or None if nothing was measured; an end without a value equals the value."""
        row = self.rows.get((run, blank, setting, method, minus, metric))
        if row is None:
            return None
        return {name: float(row[name] or row["value"]) for name in ("value", "low", "high")}

    def cell(self, *where: str, setting: str = "", minus: str = "", ends: bool = True) -> str:
        """A figure as the page shows it, with its interval if it has one and ``ends`` is true."""
        one = self.get(*where, setting=setting, minus=minus)
        if one is None:
            return ""
        size = abs(one["value"])
        digits = 0 if size >= 100 or where[-1].endswith("rows") else 2 if size >= 10 else 3
        form = f"{'+' if minus else ''},.{digits}f"
        value, low, high = (format(one[name], form) for name in ("value", "low", "high"))
        return f"{value} [{low}, {high}]" if ends and one["low"] < one["high"] else value


def read_rows(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def by_data_and_blank(metric: str, minus: bool = False) -> Callable[[Results], str]:
    """A line per method of a pair, a column per data set and blank."""

    def write(results: Results) -> str:
        rows = []
        for method in PAIR[:-1] if minus else PAIR:
            where = {"minus": method} if minus else {}
            who = "bscd" if minus else method
            rows.append([method, *(results.cell(run, blank, who, metric, **where) for run, blank in columns)])
        return table([f"{metric}: bscd minus" if minus else metric, *heads], rows)

    columns = [(run, blank) for run in DATA for blank in ("0.25", "0.5", "0.75")] + [("ucm-whole", "whole")]
    heads = [f"{DATA[run.split('-')[0]].split()[0]} {BLANKS.get(blank, blank)}" for run, blank in columns]
    return write


def beams(results: Results) -> str:
    """Mean J and rows of BSCD with a small beam, and of rerank with larger ones."""
    settings = [("bscd", 5), ("rerank", 5), ("rerank", 10), ("rerank", 20), ("rerank", 50)]
    rows = []
    for run, name in DATA.items():
        for blank in ("0.25", "0.5"):
            cells = []
            for method, size in settings:
                where = f"{run}-curves-{blank}", blank, method
                joint, read = (
                    results.cell(*where, one, setting=f"beam size {size}", ends=False) for one in ("J", "rows")
                )
                cells.append(f"{joint} ({read})")
            rows.append([f"{name} {BLANKS[blank]}", *cells])
    return table(["mean J (rows)", *(f"{method}, B = {size}" for method, size in settings)], rows)


def search_errors(results: Results) -> str:
    runs = [("ucm", "0.25"), ("ucm", "0.5"), ("flickr", "0.25")]
    metrics = ("search errors", "score lost")
    rows = []
    for method in PAIR:
        cells = (
            results.cell(f"{run}-exact-{blank}-5", blank, method, metric, setting="beam size 5")
            for metric in metrics
            for run, blank in runs
        )
        rows.append([method, *cells])
    proved = (
        results.cell(f"{run}-exact-{blank}-5", blank, "exact", "best sentence proved", setting="beam size 5")
        for run, blank in runs
    )
    rows.append(["exact: share of blanks proved", *proved, "", "", ""])
    heads = (f"{metric}, {DATA[run].split()[0]} {BLANKS[blank]}" for metric in metrics for run, blank in runs)
    return table(["method", *heads], rows)


def diversity(results: Results) -> str:
    metrics = ("distinct", "right in Top-B", "exactly right", "J", "rows")
    rows = []
    for setting in ("1:0", "5:0.5", "5:1", "5:3", "10:1"):
        run = f"ucm-diversity-{setting.replace(':', '-')}"
        cells = [results.cell(run, "0.5", "bscd", metric, setting=f"diversity {setting}") for metric in metrics]
        rows.append([setting, *cells])
    return table(["groups:nats", *metrics], rows)


def birnn(results: Results) -> str:
    """The pair's BSCD minus the Bi-RNN's, and the Bi-RNN's BSCD minus its other methods."""
    rows = []
    for run, name in DATA.items():
        for blank in BLANKS:
            cells = [
                results.cell(f"{run}-birnn", blank, "bscd", metric, minus="birnn-bscd")
                for metric in ("exactly right", "words right", "PLL")
            ]
            cells += [
                results.cell(f"{run}-birnn-alone", blank, "birnn-bscd", "PLL", minus=other)
                for other in ("birnn-gibbs", "birnn-rerank")
            ]
            rows.append([f"{name} {BLANKS[blank]}", *cells])
    heads = ["bscd minus birnn-bscd: exactly right", "words right", "PLL"]
    return table(["blank", *heads, "birnn-bscd minus birnn-gibbs: PLL", "minus birnn-rerank: PLL"], rows)


def cycles(results: Results) -> str:
    rows = []
    for run, name in DATA.items():
        for kind, method, model in (("-birnn", "birnn", "Bi-RNN"), ("", "pair", "the pair's scores, added")):
            cells = []
            for positions in ("neighbours", "others"):
                for metric in ("mean gap", "share of gaps above 1 nat"):
                    one = results.get(f"{run}{kind}-compatibility", "", method, metric, f"positions {positions}")
                    cells.append(f"{one['value']:.2f}" if one else "")
            rows.append([f"{name}, {model}", *cells])
    heads = (f"{positions}: {what}" for positions in ("neighbours", "others") for what in ("mean gap", "above 1 nat"))
    return table(["model", *heads], rows)


def pictures(results: Results) -> str:
    rows = [list(row.values()) for row in read_rows(results.folder / "pictures.csv")][:PICTURES_SHOWN]
    head = ["picture", "template", "urnn-f", "urnn-b", "bscd"]
    return table(head, [[cell.replace("_", "\\_") for cell in row] for row in rows])


def valid(run: str, methods: Sequence[str], *more: tuple[str, str, str, str]) -> Callable[[Results], str]:
    """Valid molecules by method, and by runs with another setting: their line, run, method and setting."""

    def write(results: Results) -> str:
        rows = [[method, *(results.cell(run, blank, method, "valid") for blank in SHARES)] for method in methods]
        rows += [
            [line, *(results.cell(other, blank, method, "valid", setting=setting) for blank in SHARES)]
            for line, other, method, setting in more
        ]
        return table(["valid", *(f"{BLANKS[blank]} missing" for blank in SHARES)], rows)

    return write


def by_measure(run: str, metrics: Sequence[str], blanks: Sequence[str], methods: Sequence[str]) -> Callable[..., str]:
    """A line per method, and for each measure a column per blank, without intervals."""

    def write(results: Results) -> str:
        rows = [
            [one, *(results.cell(run, blank, one, metric, ends=False) for metric in metrics for blank in blanks)]
            for one in methods
        ]
        return table(["method", *(f"{metric} {BLANKS[blank]}" for metric in metrics for blank in blanks)], rows)

    return write


def open_width(results: Results) -> str:
    methods = ("urnn-f+end", "urnn-b+end", "rerank", "bscd")
    metrics = ("valid", "valid in B", "exactly right", "rows")
    rows = [[one, *(results.cell("molecules-open", "0.25", one, metric) for metric in metrics)] for one in methods]
    return table(["method", *metrics], rows)


def translation(results: Results) -> str:
    rows = []
    for beam in (5, 20):
        whole, where = f"multi30k-whole-{beam}", {"setting": f"beam size {beam}"}
        for method in FOUR:
            scores = [results.cell(f"multi30k-scores-{beam}", "", method, metric) for metric in ("BLEU", "chrF2")]
            figures = [results.cell(whole, "whole", method, metric, **where) for metric in ("J", "rows")]
            rows.append([f"{method}, B = {beam}", *scores, *figures])
    return table(["method", "BLEU", "chrF2", "mean J", "rows"], rows)


def translation_lengths(results: Results) -> str:
    words = ("1 to 9", "10 to 13", "14 to 99")
    rows = [
        [
            method,
            *(
                results.cell("multi30k-scores-5", "", method, "BLEU", setting=f"references of {length} words")
                for length in words
            ),
        ]
        for method in FOUR
    ]
    return table(["BLEU, B = 5", *(f"references of {length} words" for length in words)], rows)


def search(run: str) -> Callable[[Results], str]:
    """Mean J and rows of each method by beam size; methods that were not measured are left out."""

    def write(results: Results) -> str:
        rows = []
        for method in searches_of(results, run):
            found = [measured(results, run, method, size) for size in SEARCH_BEAMS]
            cells = [f"{one['J']:.2f} ({one['rows']:,.0f})" if one else "" for one in found]
            rows.append([method, *cells])
        return table(["mean J (rows)", *(f"B = {size}" for size in SEARCH_BEAMS)], rows)

    return write


def search_lead(results: Results) -> str:
    """J of BSCD minus that of each other method with the same beam size, by data set."""
    rows = [
        [
            f"{method}, B = {size}",
            *(
                results.cell(run, blank, "bscd", "J", setting=f"beam size {size}", minus=method)
                for run, (_, blank, _) in SEARCHED.items()
            ),
        ]
        for size in (1, 5, 25)
        for method in searches_of(results, *SEARCHED)
        if method != "bscd"
    ]
    return table(["J: bscd minus", *(f"{name} {BLANKS[blank]}" for name, blank, _ in SEARCHED.values())], rows)


def measured(results: Results, run: str, method: str, size: int) -> dict[str, float]:
    """Mean J and rows of a method with a beam of that size; empty if it was not measured."""
    where = run, SEARCHED[run][1], method
    found = {metric: results.get(*where, metric, setting=f"beam size {size}") for metric in ("J", "rows")}
    return {metric: one["value"] for metric, one in found.items() if one}


def searches_of(results: Results, *runs: str) -> list[str]:
    """The methods that some of the runs measured."""
    return [method for method in SEARCHES if any(measured(results, run, method, SEARCH_BEAMS[0]) for run in runs)]


TABLES: dict[str, Callable[[Results], str]] = {
    "exactly right": by_data_and_blank("exactly right"),
    "lead in J": by_data_and_blank("J", minus=True),
    "beam sizes": beams,
    "search errors": search_errors,
    "diversity": diversity,
    "one softmax": birnn,
    "cycles": cycles,
    "pictures": pictures,
    "valid molecules": valid(
        "molecules",
        PAIR,
        ("rerank, B = 25", "molecules-beams-25", "rerank", "beam size 25"),
        ("bscd, B = 25", "molecules-beams-25", "bscd", "beam size 25"),
        ("urnn-f, accept", "molecules-accept", "urnn-f", ""),
        ("rerank, accept", "molecules-accept", "rerank", ""),
        ("bscd, accept", "molecules-accept", "bscd", ""),
    ),
    "molecules in B": by_measure("molecules", ("valid in B", "exactly right"), SHARES, PAIR),
    "molecules J": by_measure("molecules", ("J", "rows"), SHARES, PAIR),
    "open width": open_width,
    "small pair": valid("molecules-small", FOUR),
    "translation": translation,
    "translation lengths": translation_lengths,
    "translation blanks": by_measure("multi30k-blanks", ("exactly right", "words right", "J"), SHARES[:2], PAIR),
    "search of captions": search("ucm-search"),
    "search of molecules": search("molecules-search"),
    "search of digits": search("digits-search"),
    "search lead": search_lead,
}


def page(text: str, results: Results) -> str:
    """The page with every table written anew."""
    return TABLE.sub(lambda found: found[1] + TABLES[found[2]](results), text)


def new_figure(down: int, across: int, size: tuple[float, float]) -> tuple[Figure, list[list[Axes]]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, grid.tolist()


def style(method: str) -> dict[str, object]:
    """Colour and marker of a method; a variant of it and the same method for a Bi-RNN have them hollow."""
    alike = {"birnn-f": "urnn-f", "birnn-b": "urnn-b", "bscd-paper": "bscd"}.get(method, method.removeprefix("birnn-"))
    hollow = {"markerfacecolor": "white", "linestyle": "--"} if alike != method else {}
    return {"color": COLOURS[alike], "marker": MARKERS[alike], "markersize": 4.5, "label": method, **hollow}


def legend(figure: Figure, axes: Axes, columns: int) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=columns, fontsize=9, frameon=False)


def points(axes: Axes, places: Sequence[float], figures: Sequence[dict[str, float] | None], **looks: object) -> None:
    """Draw figures with their intervals; those that were not measured are left out."""
    there = [(place, one) for place, one in zip(places, figures, strict=True) if one is not None]
    values = [one["value"] for _, one in there]
    below = [max(0.0, one["value"] - one["low"]) for _, one in there]
    above = [max(0.0, one["high"] - one["value"]) for _, one in there]
    axes.errorbar([place for place, _ in there], values, yerr=[below, above], elinewidth=1, **looks)


def draw_methods(results: Results, suffix: str, methods: Sequence[str], columns: int) -> Figure:
    """Blanks filled exactly right and words right, by data set, blank and method."""
    figure, grid = new_figure(2, 2, (8.4, 6.4))
    for row, metric in zip(grid, ("exactly right", "words right"), strict=True):
        for axes, (run, name) in zip(row, DATA.items(), strict=True):
            run = run + suffix
            blanks = [blank for blank in BLANKS if results.get(run, blank, "rerank", metric)]
            for number, method in enumerate(methods):
                shift = 0.8 * ((number + 0.5) / len(methods) - 0.5)
                figures = [results.get(run, blank, method, metric) for blank in blanks]
                places = [place + shift for place in range(len(blanks))]
                points(axes, places, figures, **{**style(method), "linestyle": "none"})
            axes.set_xticks(range(len(blanks)), [BLANKS[blank] for blank in blanks])
            axes.set_xlabel("words missing")
            axes.set_ylim(bottom=0)
            axes.set_title(name, fontsize=10)
        row[0].set_ylabel(f"share of {'blanks' if metric == 'exactly right' else 'missing'} {metric}")
    legend(figure, grid[0][0], columns)
    return figure


def curve_panels() -> tuple[Figure, list[tuple[Axes, str, str]]]:
    """Four panels: each data set with a quarter and with half of the words missing."""
    figure, grid = new_figure(2, 2, (8.4, 6.2))
    panels = []
    for row, (run, name) in zip(grid, DATA.items(), strict=True):
        for axes, blank in zip(row, ("0.25", "0.5"), strict=True):
            axes.set_title(f"{name}, {BLANKS[blank]} missing", fontsize=10)
            axes.set_xscale("log")
            panels.append((axes, f"{run}-curves-{blank}", blank))
    return figure, panels


def draw_beams(results: Results) -> Figure:
    figure, panels = curve_panels()
    for axes, run, blank in panels:
        for method in (method for method in PAIR if method != "gibbs"):
            settings = [f"beam size {size}" for size in BEAMS]
            figures = [results.get(run, blank, method, "words right", setting=setting) for setting in settings]
            axes.plot(BEAMS, [one["value"] for one in figures if one], **style(method))
        axes.set_xticks(BEAMS, [str(size) for size in BEAMS])
        axes.minorticks_off()
        axes.set_xlabel("beam size B")
        axes.set_ylabel("share of words right")
    legend(figure, panels[0][0], 6)
    return figure


def draw_rows(results: Results) -> Figure:
    figure, panels = curve_panels()
    for axes, run, blank in panels:
        for method in ("rerank", "gibbs", "bscd"):
            name, sizes, mark = "beam size", BEAMS, "B={}"
            if method == "gibbs":
                name, sizes, mark = "times the rows of bscd", (1, 2, 4, 8), "×{}"
            places, figures = [], []
            for size in sizes:
                where = {"setting": f"{name} {size}"}
                rows = results.get(run, blank, method, "rows", **where)
                lead = results.get(run, blank, method, "J above rerank's", **where)
                assert rows is not None
                assert lead is not None
                places.append(rows["value"])
                figures.append(lead)
                if size in (1, 5, 8):
                    axes.annotate(
                        mark.format(size),
                        (rows["value"], lead["value"]),
                        xytext=(0, 7 if method == "bscd" else -13),
                        textcoords="offset points",
                        ha="center",
                        fontsize=7,
                        color=COLOURS[method],
                    )
            points(axes, places, figures, **style(method))
        axes.margins(y=0.12)
        axes.set_xlabel("rows per question")
        axes.set_ylabel("mean J above rerank, B = 5 [nats]")
    legend(figure, panels[0][0], 3)
    return figure


def draw_small_beams(results: Results) -> Figure:
    sizes = (1, 2, 3, 5)
    figure, (row,) = new_figure(1, 2, (8.4, 3.2))
    for axes, blank in zip(row, ("0.25", "0.5"), strict=True):
        for method in ("rerank", "bscd"):
            figures = [
                results.get(f"ucm-exact-{blank}-{size}", blank, method, "search errors", setting=f"beam size {size}")
                for size in sizes
            ]
            points(axes, sizes, figures, **style(method))
        axes.set_title(f"UCM-Captions, {BLANKS[blank]} missing", fontsize=10)
        axes.set_xticks(sizes)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("beam size B")
    row[0].set_ylabel("share of search errors")
    legend(figure, row[0], 2)
    return figure


def draw_lengths(results: Results) -> Figure:
    figure, grid = new_figure(2, 3, (8.4, 5.2))
    runs = (
        ("ucm", "bscd", "UCM-Captions, pair"),
        ("flickr", "bscd", "Flickr8k text, pair"),
        ("ucm-birnn", "birnn-bscd", "UCM-Captions, Bi-RNN"),
    )
    of_blanks = {"0.25": {"color": "#0072B2", "marker": "o"}, "0.5": {"color": "#D55E00", "marker": "s"}}
    for row, metric in zip(grid, ("word F1", "words too many"), strict=True):
        for axes, (run, method, name) in zip(row, runs, strict=True):
            for blank, looks in of_blanks.items():
                figures = [
                    results.get(f"{run}-length-{blank}-{rule}", blank, method, metric, setting=f"length {rule}")
                    for rule in LENGTH_RULES
                ]
                places = [number + (0.1 if blank == "0.5" else -0.1) for number in range(len(LENGTH_RULES))]
                points(axes, places, figures, label=f"{BLANKS[blank]} missing", ls="none", **looks)
            axes.set_xticks(range(len(LENGTH_RULES)), LENGTH_RULES, fontsize=8)
            axes.set_title(name, fontsize=10)
            if metric == "words too many":
                axes.axhline(0, color="black", lw=0.8)
        row[0].set_ylabel(metric)
    grid[1][1].set_xlabel("rule: none (J itself), average (J / (words + 1)), or nats per word")
    legend(figure, grid[0][0], 2)
    return figure


def draw_valid(results: Results) -> Figure:
    """Valid molecules by blank and method, with the pair of the experiment and with the pair of the package."""
    figure, (row,) = new_figure(1, 2, (8.4, 3.4))
    for axes, (run, name) in zip(
        row, (("molecules", "384 units"), ("molecules-small", "256 units, in the package")), strict=True
    ):
        for number, method in enumerate(PAIR):
            shift = 0.8 * ((number + 0.5) / len(PAIR) - 0.5)
            figures = [results.get(run, blank, method, "valid") for blank in SHARES]
            points(axes, [place + shift for place in range(3)], figures, **{**style(method), "linestyle": "none"})
        axes.set_xticks(range(3), [BLANKS[blank] for blank in SHARES])
        axes.set_xlabel("characters missing")
        axes.set_ylim(0, 1)
        axes.set_title(name, fontsize=10)
    row[0].set_ylabel("share of valid molecules")
    legend(figure, row[0], 7)
    return figure


def draw_search(run: str) -> Callable[[Results], Figure]:
    """Mean J against rows, a line for each method."""

    def draw(results: Results) -> Figure:
        from matplotlib.patheffects import withStroke
        from matplotlib.ticker import LogLocator

        name, blank, unit = SEARCHED[run]
        figure, ((axes,),) = new_figure(1, 1, (7.2, 4.2))
        for method in searches_of(results, run):
            found = {size: measured(results, run, method, size) for size in SEARCH_BEAMS}
            places = {size: (one["rows"], one["J"]) for size, one in found.items() if one}
            axes.plot(*zip(*places.values(), strict=True), **style(method))
            for size, place in places.items() if method == "bscd" else ():
                axes.annotate(
                    f"B={size}",
                    place,
                    (-3, 5),
                    textcoords="offset points",
                    ha="right",
                    fontsize=8,
                    path_effects=[withStroke(linewidth=2, foreground="white")],
                )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.minorticks_off()
        axes.margins(y=0.08)
        axes.set_title(f"{name}, {BLANKS[blank]} of the {unit} missing", fontsize=10)
        axes.set_xlabel("rows per question (tokens read by hypotheses, both models)")
        axes.set_ylabel("mean J [nats]")
        legend(figure, axes, len(SEARCHES))
        return figure

    return draw


FIGURES: dict[str, Callable[[Results], Figure]] = {
    "methods": lambda results: draw_methods(results, "", PAIR, 7),
    "words-against-beam": draw_beams,
    "joint-against-rows": draw_rows,
    "small-beams": draw_small_beams,
    "lengths": draw_lengths,
    "birnn": lambda results: draw_methods(results, "-birnn", BIRNN, 4),
    "molecules": draw_valid,
    "search-captions": draw_search("ucm-search"),
    "search-molecules": draw_search("molecules-search"),
    "search-digits": draw_search("digits-search"),
}


def main() -> None:
    results = Results(DOCS / "results")
    for path in (DOCS / name for name in PAGES):
        path.write_text(page(path.read_text(encoding="utf-8"), results), encoding="utf-8")
    for name, draw in FIGURES.items():
        draw(results).savefig(DOCS / "results" / f"{name}.png", dpi=130)


if __name__ == "__main__":
    main()
