"""What notebooks show: safe HTML of results, and the notebook of examples/ run anew."""

import re
from pathlib import Path

import pytest
from tables import pair

from birnn_decode import BSCD, BeamSearch, JointModel, Pair, Template, compare, decode

ROOT = Path(__file__).parents[1]
V = 8
BLANK = Template.BLANK
TEMPLATE = Template.from_tokens([2, BLANK, BLANK, 3])
HOSTILE = "<img/src=x/onerror='alert(1)'>&"


class Vocabulary:
    """Words, one of them hostile."""

    def __init__(self, between=" ", third=HOSTILE):
        self.between, self.third = between, third

    def encode(self, text):
        return [int(one) for one in text.split()]

    def decode(self, ids):
        return self.between.join(self.third if one == 3 else "abcdefgh"[one] for one in ids)


def test_a_result_is_a_table_with_safe_texts():
    result = decode(Pair(*pair(1, V)), 0, TEMPLATE, vocabulary=Vocabulary())
    html = result._repr_html_()
    assert html.count("<tr>") == 1 + len(result.hypotheses)
    assert "<img" not in html
    assert "&lt;img" in html
    assert set(re.findall(r"<(\w+)", html)) <= {"table", "thead", "tbody", "tr", "th", "td", "span", "small"}
    first = html.split("</tr>")[1]
    bold = re.findall(r"bold[^>]*>([^<]*)</span>", first)
    assert bold == [
        Vocabulary()
        .decode([word])
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace("'", "&#x27;")
        for word in result.best.blanks[0]
    ]
    shades = [float(one) for one in re.findall(r"rgba\(193,0,61,([\d.]+)\)", first)]
    sums = [
        one + two
        for one, two in zip(result.best.token_log_probs_forward, result.best.token_log_probs_backward, strict=False)
    ][:4]
    assert shades == pytest.approx([0.55 * min(1, -one / 8) for one in sums], abs=0.006)
    assert f'<td style="text-align:right">{result.best.joint:.2f}</td>' in first


def test_what_a_comparison_shows():
    found = compare(Pair(*pair(1, V)), 0, TEMPLATE, ["urnn-f", "bscd"], vocabulary=Vocabulary("", "d"))
    assert dict(found) == found
    html = found._repr_html_()
    assert html.count("<tr>") == 3
    assert [one in html for one in (">urnn-f<", ">bscd<", ">score<")] == [True] * 3
    assert html.count("<span") == 8  # characters
    (one,) = compare(JointModel(*pair(1, V)), [0], TEMPLATE, [BSCD()])
    assert f"{one['bscd'].best.pseudo_log_prob:.2f}" in one._repr_html_()


def test_subwords_one_model_and_no_sentence():
    subwords = Vocabulary("", "two words")
    alone = decode(Pair(pair(1, V)[0], None), 0, TEMPLATE, BeamSearch("forward"), vocabulary=subwords)
    assert "<span" not in alone._repr_html_()
    assert "two words" in alone._repr_html_()
    found = compare(Pair(*pair(3, V, minus_inf=1.0)), 0, TEMPLATE, [BSCD()])
    assert "no sentence (dead_end)" in found._repr_html_()
    assert "dead_end after 0 rounds" in found["bscd"]._repr_html_()


@pytest.mark.process
def test_the_notebook_runs_and_shows_what_it_was_saved_with(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="the extra birnn_decode[notebook] is not installed")
    pytest.importorskip("ipykernel", reason="the extra birnn_decode[notebook] is not installed")
    pytest.importorskip("torch")
    import nbformat

    path = ROOT / "examples" / "look_into_a_search.ipynb"
    saved, run = (nbformat.read(path, as_version=4) for _ in range(2))
    nbclient.NotebookClient(run, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell, before in zip(run.cells, saved.cells, strict=True):
        assert [shown(one) for one in cell.get("outputs", [])] == [shown(one) for one in before.get("outputs", [])]
    assert (tmp_path / "trace.html").stat().st_size > 50_000


def shown(output):
    """What an output shows; of a picture, only that it is one."""
    data = output.get("data", {})
    return "a picture" if "image/png" in data else data.get("text/html", output.get("text"))
