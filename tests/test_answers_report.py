"""The report on answers: figures against plain counting, the page, and the tables."""

import io
import json
import random
import statistics

import pytest

pytest.importorskip("torch")
pytest.importorskip("rich")
pytest.importorskip("jinja2")

from html.parser import HTMLParser

from rich.console import Console

from birnn_decode.captions import make_scene
from birnn_decode.evaluation import describe
from birnn_decode.evaluation.answers import SHOWN, _kind
from birnn_decode.show.answers import page, print_description

STOPS = ("converged", "no_gain", "no_gain", "no_gain")


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    """METEOR, which is tested where it is computed, takes ten seconds to start."""
    monkeypatch.setenv("PATH", "/nowhere")


def answers(count):
    draw = random.Random(0)
    made = []
    for number in range(count):
        text = " ".join(draw.choice(["a", "red", "ball", "<b>"]) for _ in range(4))
        one = {"id": number, "text": text, "joint": draw.gauss(-10, 3), "width": draw.randrange(1, 6), "error": None}
        one |= {"stop": draw.choice(STOPS), "rows": draw.randrange(10**6), "rounds": 2, "signature": "bscd|beams:5"}
        one |= {"template": "a _", "image": "scene.png", "hypotheses": [{"text": text, "score": one["joint"]}]}
        one["references"] = [text if draw.random() < 0.3 else "something else", "one more"]
        if draw.random() < 0.1:
            one |= {"text": None, "joint": None, "width": None, "hypotheses": [], "stop": None, "rows": None}
            one["error"] = f"there is no picture /some/where/{number}.png"
        made.append(one)
    return made


@pytest.fixture
def write(tmp_path):
    def write(rows):
        path = tmp_path / "answers.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        return path

    return write


def test_figures_are_those_of_plain_counting(write):
    rows = answers(300)
    found = describe(write(rows))
    good = [one for one in rows if one["error"] is None]
    assert (found.name, found.answers, found.without) == ("answers.jsonl", 300, 0)
    assert found.errors == {"there is no picture …": 300 - len(good)}
    assert found.stops == {name: sum(one["stop"] == name for one in good) for name in ("no_gain", "converged")}
    assert found.signatures == {"bscd|beams:5": len(good)}
    assert found.compared == len(good)
    right = statistics.mean(one["text"] == one["references"][0] for one in good)
    assert found.metrics["exactly right"].value == pytest.approx(right)
    assert found.metrics["exactly right"].low < right < found.metrics["exactly right"].high
    assert {"BLEU-4", "CIDEr"} <= {*found.metrics}
    assert found.joint.median == pytest.approx(statistics.median(one["joint"] for one in good))
    assert sum(found.joint.counts) == sum(found.widths.counts) == len(good)
    assert found.widths.edges == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert found.widths.counts == [sum(one["width"] == width for one in good) for width in range(1, 6)]
    by_rows = sorted(good, key=lambda one: -one["rows"])
    assert [one["id"] for one in found.slowest] == [one["id"] for one in by_rows[:SHOWN]]
    numbers = [one["id"] for one in found.examples]
    assert numbers == sorted({*numbers})
    assert len(numbers) == SHOWN
    assert all(rows[number]["error"] is None for number in numbers)
    assert [one["id"] for one in found.failed] == [one["id"] for one in rows if one["error"]][:SHOWN]


def test_every_answer_may_be_an_example(write, monkeypatch):
    rows = answers(60)
    seen = set()
    for seed in range(12):
        monkeypatch.setattr("birnn_decode.evaluation.answers.SEED", seed)
        seen |= {one["id"] for one in describe(write(rows)).examples}
    assert len(seen) > 0.8 * sum(one["error"] is None for one in rows)


@pytest.mark.parametrize(
    ("text", "references", "right"),
    [
        ("a red ball", ["a red ball"], 1),
        ("a red ball", ["A red ball.", "no"], 1),
        ("a red ball", ["a blue ball"], 0),
        ("CCO", ["CCO"], 1),
        ("cco", ["CCO"], 0),  # in molecules, case has a meaning
        ("C=O", ["CO"], 0),
        (None, ["a red ball"], 0),
    ],
)
def test_what_is_exactly_right(write, text, references, right):
    found = describe(write([{"id": 1, "text": text, "error": None, "references": references}]))
    assert found.metrics["exactly right"].value == right
    assert found.without == (text is None)


def test_without_references_and_scores_there_is_less(write):
    found = describe(write([{"id": 1, "text": "a", "error": None, "joint": "-inf", "references": []}]))
    assert (found.metrics, found.joint, found.widths, found.compared) == ({}, None, None, 0)
    assert found.notes == ["no metrics: the questions had no references"]
    print_description(Console(file=io.StringIO()), found)
    assert "no references" in page(found, write([]).parent)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("there is no picture a/7.png", "there is no picture …"),
        ("the template has 'zebra', which is no word", "the template has … which is no word"),
        ("the template has 'two words here', which", "the template has … which"),
        ("up to 70 words", "up to … words"),
    ],
)
def test_errors_are_counted_by_kind(error, kind):
    assert _kind(error) == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no answers"),
        ('{"id": 1, "text": "a", "error": null}\n{"id": 2, "te', "line 2 is no answer of `birnn-decode decode`"),
        ('{"id": 1}\n', "the columns id, text and error are missing"),
        ("[]\n", "line 1 is no answer"),
    ],
)
def test_other_files_are_one_line(tmp_path, text, message):
    (tmp_path / "answers.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"answers\.jsonl") as caught:
        describe(tmp_path / "answers.jsonl")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class Tags(HTMLParser):
    """What a page is made of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]


def test_the_page_holds_everything_and_escapes_all(write, tmp_path):
    make_scene(seed=2, number=4).picture().save(tmp_path / "scene.png")
    rows = answers(100)
    rows[0]["error"] = "<script>alert(1)</script>"
    text = page(describe(write(rows)), tmp_path)
    found = Tags(text)
    assert {"script", "link", "iframe", "b"} & {*found.tags} <= {"b"}
    assert "&lt;b&gt;" in text
    assert "<b>" not in text.replace('<div class="tile"><b>', "")
    assert found.tags.count("img") == SHOWN
    assert all(link.startswith("data:image/png;base64,") for link in found.links)
    assert found.tags.count("rect") == 20 + 5
    assert page(describe(write(rows)), tmp_path / "nowhere").count("no picture") >= SHOWN


def test_the_terminal_has_the_same_figures(write):
    found = describe(write(answers(100)))
    out = io.StringIO()
    print_description(Console(file=out, width=140), found)
    printed = out.getvalue()
    assert printed.startswith(f"answers.jsonl: 100 answers, {sum(found.errors.values())} errors\n")
    for name, metric in found.metrics.items():
        assert f"{name} " in printed
        assert f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]" in printed
    for name, count in {**found.stops, **found.errors}.items():
        assert f"  {count}  {name}\n" in printed
    assert str(found.slowest[0]["rows"]) in printed
