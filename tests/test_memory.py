"""memory_limit and rows_per_call: a batch that would take more is searched in parts, with the same answers."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import TableScorer, members, pair, seeds, table_options, templates

from birnn_decode import BeamSearch, Exact, Gibbs, Pair, Rerank, Template, bscd_decode, compare, decode
from birnn_decode.search.memory import Memory, OverLimitError
from birnn_decode.search.tree import PrefixTree

V = 6
SEARCHES = {
    "bscd": lambda models, *given, **own: bscd_decode(*models, *given, **own),
    "rerank": lambda models, *given, **own: decode(Pair(*models), *given, Rerank(), **own),
    "beam": lambda models, *given, **own: decode(Pair(None, models[1]), *given, BeamSearch("backward"), **own),
    "gibbs": lambda models, *given, **own: decode(
        Pair(*models), *given, Gibbs(sweeps=3, rows=list(range(20, 20 + len(given[0])))), **own
    ),
    "exact": lambda models, *given, **own: decode(Pair(*models), *given, Exact(max_rows=100), **own),
    "compare": lambda models, *given, **own: compare(Pair(*models), *given, ["bscd", "gibbs"], **own),
}


def told(result):
    """A result without its times."""
    if isinstance(result, dict):
        return {name: told(one) for name, one in result.items()}
    return {name: value for name, value in result.to_dict().items() if name != "seconds"}


@pytest.mark.parametrize("method", SEARCHES)
@settings(max_examples=50)
@given(
    seed=seeds,
    batch=st.lists(templates(V, max_length=4), min_size=1, max_size=4),
    limit=st.sampled_from([1, 500, 2_000, 10_000]),
    table=table_options,
    members=members,
)
def test_parts_have_the_answers_of_the_whole(method, seed, batch, limit, table, members):
    """Those of the same images, too: an item's image is not the one of its place in a part."""
    models = pair(seed, V, **table, **members)
    asked = [Template.from_tokens(one) for one in batch]
    images = list(range(len(batch)))[::-1]
    whole = SEARCHES[method](models, images, asked)
    parts = SEARCHES[method](models, images, asked, memory_limit=limit)
    assert list(map(told, parts)) == list(map(told, whole))


@pytest.mark.parametrize("method", SEARCHES)
@settings(max_examples=50)
@given(
    seed=seeds,
    batch=st.lists(templates(V, max_length=4), min_size=1, max_size=3),
    rows=st.sampled_from([1, 2, 5]),
    table=table_options,
    members=members,
)
def test_few_rows_at_a_time_have_the_same_answers(method, seed, batch, rows, table, members):
    models = pair(seed, V, **table, **members)
    asked = [Template.from_tokens(one) for one in batch]
    images = list(range(len(batch)))[::-1]
    whole = SEARCHES[method](models, images, asked)
    calls = []
    for model in models:
        for name in ("step", "steps", "score"):
            if getattr(model, name, None) is not None:
                setattr(model, name, counted(getattr(model, name), {"score": 1}.get(name, 0), calls))
    parts = SEARCHES[method](models, images, asked, rows_per_call=rows)
    assert list(map(told, parts)) == list(map(told, whole))
    assert max(calls) <= rows


def counted(function, place, calls):
    """The function, which also notes how many rows it is given."""

    def noting(*arguments):
        calls.append(len(arguments[place]))
        return function(*arguments)

    return noting


def test_what_is_kept_stays_below_the_limit(monkeypatch):
    kept = []

    class Watched(Memory):
        def take(self, size):
            super().take(size)
            kept.append((self.limit, self.used))

    monkeypatch.setattr("birnn_decode.request.Memory", Watched)
    models = pair(0, 50)
    asked = [Template.from_tokens([7, *[Template.BLANK] * 4, 8])] * 8
    bscd_decode(*models, [0] * 8, asked)
    most = max(used for _, used in kept)
    kept.clear()
    bscd_decode(*models, [0] * 8, asked, memory_limit=most // 3)
    assert {limit for limit, _ in kept} == {most // 3}  # nothing had to be searched alone
    assert 0 < max(used for _, used in kept) <= most // 3


def test_what_is_held_no_more_is_given_back():
    memory = Memory(100)
    memory.take(90)
    memory.give_back(50)
    memory.take(60)
    with pytest.raises(OverLimitError):
        memory.take(1)


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (-1, ValueError), ("1 GB", TypeError), (1.5, TypeError)])
def test_limits_that_are_none(limit, error):
    with pytest.raises(error, match="memory_limit must be a positive integer, got"):
        bscd_decode(*pair(0, V), None, Template.from_tokens([2, Template.BLANK]), memory_limit=limit)


def test_an_error_in_a_part_names_the_item_of_the_whole():
    class Bad(TableScorer):
        def step(self, tokens, state):
            scores, state = super().step(tokens, state)
            if 5 in np.asarray(tokens):
                scores = np.full_like(scores, np.nan)
            return scores, state

    forward, backward = pair(0, V)
    bad = Bad(forward.seed, V, backward=False, ids=(forward.start_token, forward.end_token))
    wrong = Template.from_tokens([5, *[Template.BLANK] * 3])
    allowed = [Template.from_tokens([2, frozenset({2, 3}), frozenset({2, 3})])] * 3
    with pytest.raises(ValueError, match="item 3"):
        bscd_decode(bad, backward, [0] * 4, [*allowed, wrong], memory_limit=1)


def test_states_of_tensors_and_caches_count():
    torch = pytest.importorskip("torch")
    from birnn_decode.scorers.state import Cached, Condition, state_bytes

    state = {"h": torch.zeros(2, 3), "rest": [torch.zeros(4, dtype=torch.float64), None]}
    assert state_bytes((Condition.of(torch.zeros(9, 9), 9), state)) == 24 + 32
    transformers = pytest.importorskip("transformers")
    cache = transformers.DynamicCache()
    cache.update(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), 0)
    both = transformers.EncoderDecoderCache(cache, transformers.DynamicCache())
    assert [state_bytes(Cached(one, "reorder_cache")) for one in (cache, both)] == [192, 192]


def test_the_halves_of_a_batch_are_searched_without_what_the_whole_has_read(monkeypatch):
    """An exception keeps its frames alive, and with them all prefixes of a search that was given up."""
    alive: weakref.WeakSet[PrefixTree] = weakref.WeakSet()
    there = []

    class Counted(PrefixTree):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            gc.collect()
            alive.add(self)
            there.append(len(alive))

    monkeypatch.setattr("birnn_decode.request.PrefixTree", Counted)
    forward, backward = pair(1, 6)
    gc.freeze()  # what there is already need not be looked through each time
    try:
        decode(Pair(forward, backward), [0] * 8, Template.blank([2], 2, [3]), memory_limit=1)
    finally:
        gc.unfreeze()
    assert len(there) > 8
    assert max(there) <= 2  # those of one pair of models
