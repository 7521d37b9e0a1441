"""The report on a file of answers: on the terminal, and as one page of HTML that holds everything that it shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment
from rich.console import Console
from rich.table import Table

from birnn_decode.evaluation.answers import SHOWN, AnswersReport, Histogram
from birnn_decode.evaluation.bootstrap import Interval

PIXELS = 192
BAR = 40  # characters of the longest bar
WIDTH, HEIGHT = 420, 120  # of a histogram on the page
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{ report.name }}</title>
<style>
body{font-family:sans-serif;margin:1.5em auto;max-width:70em;padding:0 1em;line-height:1.4;color:#222}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}
table{border-collapse:collapse}td,th{padding:.25em .8em .25em 0;text-align:left;vertical-align:top}
th{border-bottom:1px solid #999}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.tiles{display:flex;flex-wrap:wrap;gap:2em}.tile b{display:block;font-size:1.6em}
.side{display:flex;flex-wrap:wrap;gap:3em}.note{color:#555;font-size:85%}.bad{color:#A33500}
.example{display:flex;gap:1.2em;border-top:1px solid #ddd;padding:.8em 0}.example img{width:{{ pixels }}px;height:auto}
.example .none{width:{{ pixels }}px;flex:none}.best{font-weight:bold}code{overflow-wrap:anywhere}
</style>
</head>
<body>
<h1>Answers in {{ report.name }}</h1>
<div class="tiles">
{% for name, value in tiles %}<div class="tile"><b>{{ value }}</b>{{ name }}</div>
{% endfor %}</div>
{% if report.metrics %}
<h2>Compared with the references</h2>
<table><tr><th>metric</th><th class="n">value</th><th>95 % interval</th></tr>
{% for name, one in report.metrics.items() %}<tr><td>{{ name }}</td><td class="n">{{ "%.3f"|format(one.value) }}</td>
<td>{{ between(one) }}</td></tr>
{% endfor %}</table>
<p class="note">Over {{ "{:,}".format(report.compared) }} answers whose questions have references.</p>
{% endif %}
<div class="side">
{% for title, one in histograms %}<div><h2>{{ title }}</h2>
<svg width="{{ width }}" height="{{ height + 20 }}" role="img" aria-label="{{ title }}">
{% for x, y, w, h, what in bars(one) %}<rect x="{{ x }}" y="{{ y }}" width="{{ w }}" height="{{ h }}" fill="#0072B2">
<title>{{ what }}</title></rect>
{% endfor %}<text x="0" y="{{ height + 15 }}" font-size="12">{{ ends(one)[0] }}</text>
<text x="{{ width }}" y="{{ height + 15 }}" font-size="12" text-anchor="end">{{ ends(one)[1] }}</text>
</svg><p class="note">median {{ "%.4g"|format(one.median) }}</p></div>
{% endfor %}
<div><h2>Why searches stopped</h2><table>
{% for name, count in report.stops.items() %}<tr><td>{{ name }}</td><td class="n">{{ "{:,}".format(count) }}</td></tr>
{% endfor %}</table></div>
</div>
{% if report.errors %}
<h2>Errors</h2>
<table><tr><th class="n">answers</th><th>error</th></tr>
{% for name, count in first(report.errors) %}<tr><td class="n">{{ "{:,}".format(count) }}</td><td>{{ name }}</td></tr>
{% endfor %}</table>
<p>The first ones:</p>
<table><tr><th>id</th><th>error</th></tr>
{% for one in report.failed %}<tr><td>{{ one.id }}</td><td class="bad">{{ one.error }}</td></tr>
{% endfor %}</table>
{% endif %}
<h2>Examples</h2>
{% for one in report.examples %}<div class="example">
{% set picture = image(one) %}{% if picture %}<img src="data:image/png;base64,{{ picture }}" alt="">{% else %}
<div class="none note">{{ one.source or "no picture" }}</div>{% endif %}
<div><div class="note">{{ one.id }}{% if one.template %} · <code>{{ one.template }}</code>{% endif %}</div>
{% for found in one.hypotheses or [] %}<div{% if loop.first %} class="best"{% endif %}>
{{ "%.2f"|format(found.score|float) }} {{ found.text }}</div>
{% else %}<div class="bad">no sentence</div>{% endfor %}
{% for reference in one.references or [] %}<div class="note">reference: {{ reference }}</div>{% endfor %}
</div></div>
{% endfor %}
<h2>The most work</h2>
<table><tr><th>id</th><th class="n">rows</th><th class="n">rounds</th><th>stopped</th><th>template</th></tr>
{% for one in report.slowest %}<tr><td>{{ one.id }}</td><td class="n">{{ "{:,}".format(one.rows or 0) }}</td>
<td class="n">{{ one.rounds }}</td><td>{{ one.stop }}</td><td><code>{{ one.template or "" }}</code></td></tr>
{% endfor %}</table>
<p class="note">A row is one token that a model reads for one sentence. Scores are in nats.</p>
<h2>Settings</h2>
{% for name, count in first(report.signatures) %}<p class="note"><code>{{ name }}</code>
{% if report.signatures|length > 1 %}({{ "{:,}".format(count) }} answers){% endif %}</p>
{% endfor %}
{% for note in report.notes %}<p class="note">{{ note }}</p>
{% endfor %}</body>
</html>
"""


def page(report: AnswersReport, images: Path) -> str:
    """Make the page.

    Args:
        report: the figures.
        images: the folder that paths of images are relative to.

    Returns:
        The text of an HTML file, without scripts and without links. All texts are escaped.

    Example:
        >>> from pathlib import Path
        >>> from birnn_decode.evaluation import describe
        >>> from birnn_decode.show.answers import page
        >>> line = '{"id": "<1>", "text": "a dog", "error": null}'
        >>> size = Path("answers.jsonl").write_text(line)
        >>> "&lt;1&gt;" in page(describe("answers.jsonl"), Path())
        True
    """
    template = Environment(autoescape=True, trim_blocks=True).from_string(PAGE)
    return template.render(
        report=report,
        tiles=_tiles(report),
        histograms=_histograms(report),
        bars=_bars,
        ends=_ends,
        between=_between,
        first=_first,
        image=lambda answer: _picture(answer, images),
        pixels=PIXELS,
        width=WIDTH,
        height=HEIGHT,
    )


def print_description(terminal: Console, report: AnswersReport) -> None:
    """Print the report.

    Args:
        terminal: where to.
        report: the figures.
    """
    counts = ", ".join(f"{value} {name}" for name, value in _tiles(report))
    terminal.print(f"{report.name}: {counts}", style="bold", highlight=False, markup=False)
    if report.metrics:
        table = Table("metric", "value [95 % interval]", box=None)
        for name, metric in report.metrics.items():
            table.add_row(name, f"{metric.value:.3f} {_between(metric)}")
        terminal.print("", f"compared with the references of {report.compared:,} questions", table, highlight=False)
    for title, one in _histograms(report):
        table = Table(box=None, show_header=False)
        for low, high, count in zip(one.edges, one.edges[1:], one.counts, strict=False):
            name = f"{low + 0.5:g}" if _whole(one) else f"{low:.1f} to {high:.1f}"
            table.add_row(name, "█" * round(BAR * count / max(one.counts)), f"{count:,}")
        terminal.print("", f"{title} (median {one.median:.4g})", table, highlight=False)
    counted = [("why searches stopped", report.stops), ("errors", report.errors)]
    for title, own in counted:
        if own:
            terminal.print(f"\n{title}", highlight=False)
            for name, count in _first(own):
                terminal.print(f"  {count:,}  {name}", highlight=False, markup=False)
    if report.slowest:
        table = Table("id", "rows", "rounds", "stopped", "text", box=None)
        for answer in report.slowest[:5]:
            cells = (answer["id"], answer.get("rows"), answer.get("rounds"), answer.get("stop"), answer["text"])
            table.add_row(*("" if cell is None else str(cell) for cell in cells))
        terminal.print("", "the most work", table, highlight=False)
    for line in (*report.notes, *(signature for signature, _ in _first(report.signatures))):
        terminal.print(line, highlight=False, markup=False)


def _tiles(report: AnswersReport) -> list[tuple[str, str]]:
    errors = sum(report.errors.values())
    tiles = [("answers", f"{report.answers:,}"), ("errors", f"{errors:,}")]
    return [*tiles, ("without a sentence", f"{report.without:,}")] if report.without else tiles


def _histograms(report: AnswersReport) -> list[tuple[str, Histogram]]:
    both = (("J, in nats", report.joint), ("words in the blanks", report.widths))
    return [(title, one) for title, one in both if one is not None]


def _whole(one: Histogram) -> bool:
    """Whether each bar is that of a whole number."""
    return all(high - low == 1 and low % 1 == 0.5 for low, high in zip(one.edges, one.edges[1:], strict=False))


def _bars(one: Histogram) -> list[tuple[str, ...]]:
    """Left, top, width, height and text of each bar."""
    each = WIDTH / len(one.counts)
    found = []
    for at, count in enumerate(one.counts):
        tall = HEIGHT * count / max(one.counts)
        low, high = one.edges[at : at + 2]
        what = f"{low + 0.5:g}: {count}" if _whole(one) else f"{low:.3g} to {high:.3g}: {count}"
        sizes = (at * each + 1, HEIGHT - tall, each - 2, tall)
        found.append((*(f"{size:.1f}" for size in sizes), what))
    return found


def _ends(one: Histogram) -> tuple[str, str]:
    """What stands below the first and the last bar."""
    half = 0.5 if _whole(one) else 0.0
    return f"{one.edges[0] + half:.4g}", f"{one.edges[-1] - half:.4g}"


def _between(one: Interval) -> str:
    return f"[{one.low:.3f}, {one.high:.3f}]"


def _first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return list(counts.items())[:SHOWN]


def _picture(answer: Mapping[str, Any], images: Path) -> str:
    """A small form of the picture of an answer, as base64; "" if there is none."""
    from birnn_decode.models.encoder import open_picture

    if not isinstance(answer.get("image"), str):
        return ""
    try:
        picture = open_picture(images / answer["image"])
    except (OSError, ValueError):
        return ""
    picture.thumbnail((PIXELS, PIXELS))
    data = io.BytesIO()
    picture.save(data, format="PNG")
    return base64.b64encode(data.getvalue()).decode()
