"""A decode on a GPU waits for it as rarely as the search allows."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from birnn_decode import BSCD, BeamSearch, Pair, Template, decode  # noqa: E402
from birnn_decode.models import LSTMCaptioner  # noqa: E402
from birnn_decode.vocabularies import WordVocabulary  # noqa: E402

WORDS = WordVocabulary([f"w{number}" for number in range(60)])


@pytest.fixture
def waits(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    from waits import Waits

    return Waits()


def counted(waits, items, method):
    """The number of waits of a decode, and the number of calls into the models."""
    torch.manual_seed(0)
    models = [LSTMCaptioner(WORDS, direction=way, feature_size=0, hidden_size=8) for way in ("forward", "backward")]
    calls = []
    for model in models:
        read = model.read
        model.read = lambda *given, read=read: calls.append(1) or read(*given)
    templates = [Template.blank([5 + item % 7, 6], 8, [8, 9 + item % 5]) for item in range(items)]
    with waits:
        decode(Pair(*models), None, templates, method)
    return waits.total, len(calls)


@pytest.mark.parametrize("items", [1, 6])
def test_a_step_of_a_beam_search_waits_twice(waits, items):
    """For the normalisers, which tell faulty scores, and for the best words. Known words and the end wait once more."""
    total, calls = counted(waits, items, BeamSearch("forward"))
    assert calls >= 8
    assert total <= 2 * calls + 4


@pytest.mark.parametrize("items", [1, 6])
def test_a_call_of_bscd_waits_three_times_at_most(waits, items):
    total, calls = counted(waits, items, BSCD())
    assert total <= 3 * calls


def test_a_call_of_a_language_model_waits_five_times_at_most(waits):
    """Its state is told by lists which rows are selected, and transformers looks whether a mask hides anything."""
    pytest.importorskip("transformers")
    import generators

    from birnn_decode import as_scorer

    scorers, calls = [as_scorer(generators.gpt2()), as_scorer(generators.llama())], []
    for scorer in scorers:
        scorer.read = lambda *given, read=scorer.read: calls.append(1) or read(*given)
    with waits:
        decode(Pair(*scorers), None, [Template.blank([5, 6], 8, [7, 8])] * 3, BSCD())
    assert waits.total <= 5 * len(calls)


def test_what_waits_is_counted(waits):
    scores = torch.arange(4.0)
    with waits:
        scores.cpu().numpy()
        scores.max().item()
        bool(scores[0] > 1)
        scores[scores > 1].sum()
        (scores > 1).nonzero()
        scores.sum() + scores[1:].max()
    assert waits.counts == {"cpu": 1, "item": 1, "__bool__": 1, "a mask as index": 1, "nonzero": 1}
