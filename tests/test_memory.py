"""memory_limit: a batch that would take more is searched in parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import TableScorer, members, pair, seeds, table_options, templates

from birnn_decode import Template, beam_decode, bscd_decode, compare, exact_decode, gibbs_decode, rerank_decode
from birnn_decode.search.memory import Memory, OverLimitError

V = 6
SEARCHES = {
    "bscd": lambda models, *given, **own: bscd_decode(*models, *given, **own),
    "rerank": lambda models, *given, **own: rerank_decode(*models, *given, **own),
    "beam": lambda models, *given, **own: beam_decode(models[1], *given, direction="backward", **own),
    "gibbs": lambda models, *given, **own: gibbs_decode(
        *models, *given, sweeps=3, rows=list(range(20, 20 + len(given[0]))), **own
    ),
    "exact": lambda models, *given, **own: exact_decode(*models, *given, max_rows=100, **own),
    "compare": lambda models, *given, **own: compare(*models, *given, methods=["bscd", "gibbs"], **own),
}


def told(result):
    """A result without its times."""
    if isinstance(result, dict):
        return {name: told(one) for name, one in result.items()}
    return {name: value for name, value in result.to_dict().items() if name != "seconds"}


@pytest.mark.parametrize("method", SEARCHES)
@given(
    seed=seeds,
    batch=st.lists(templates(V), min_size=1, max_size=5),
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


def test_what_is_kept_stays_below_the_limit(monkeypatch):
    kept = []

    class Watched(Memory):
        def take(self, size):
            super().take(size)
            kept.append((self.limit, self.used))

    monkeypatch.setattr("birnn_decode.call.Memory", Watched)
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
    with pytest.raises(error, match="memory_limit="):
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
    from birnn_decode.scorers.state import Condition, state_bytes

    state = {"h": torch.zeros(2, 3), "rest": [torch.zeros(4, dtype=torch.float64), None]}
    assert state_bytes((Condition.of(torch.zeros(9, 9), 9), state)) == 24 + 32
    transformers = pytest.importorskip("transformers")
    from birnn_decode.scorers.caches import Cached

    cache = transformers.DynamicCache()
    cache.update(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), 0)
    both = transformers.EncoderDecoderCache(cache, transformers.DynamicCache())
    assert [state_bytes(Cached(one, "reorder_cache")) for one in (cache, both)] == [192, 192]
