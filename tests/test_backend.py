import importlib.util
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import log_softmax, logsumexp

from birnn_decode.backend import backend_for

LIBRARIES = ["numpy", *(["torch"] if importlib.util.find_spec("torch") else [])]
pytestmark = pytest.mark.parametrize("library", LIBRARIES)

entries = st.one_of(st.integers(-3, 3).map(float), st.just(-math.inf))  # few values: ties and dead rows abound
scores = arrays.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=entries)


def make(library, array):
    array = np.array(array)
    if library == "torch":
        import torch

        array = torch.from_numpy(array)
    else:
        array.setflags(write=False)
    return array, backend_for(array)


def stable_top_k(x, k):
    """Descending, the lower index first among equals."""
    order = np.argsort(-x, axis=-1, kind="stable")[:, :k]
    return np.take_along_axis(x, order, -1), order


def assert_top_k(backend, array, x, k):
    values, index = (np.asarray(one) for one in backend.top_k(array, k))
    expected_values, expected_index = stable_top_k(x, k)
    assert np.array_equal(values, expected_values)
    alive = expected_values > -np.inf
    assert np.array_equal(index[alive], expected_index[alive])
    assert all(len(set(row)) == len(row) for row in index.tolist())


@given(x=scores, k=st.integers(1, 12))
def test_top_k(library, x, k):
    array, backend = make(library, x)
    assert_top_k(backend, array, x, k)
    assert np.array_equal(np.asarray(array), x)


@pytest.mark.parametrize("k", [60, 61, 200])
def test_top_k_of_many(library, k):
    rng = np.random.default_rng(k)
    x = rng.integers(0, 50, size=(5, 300)).astype(np.float64)
    x[0, 20:] = -np.inf
    x[1] = -np.inf
    x[2] = 1
    array, backend = make(library, x)
    assert_top_k(backend, array, x, k)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_top_k_of_long_rows(library, k):
    """The largest anywhere, side by side, at the very end, or equal."""
    rng = np.random.default_rng(k)
    x = rng.permutation(4 * 2**14 + 4 * 77).reshape(4, -1).astype(np.float64)
    x[1, 300 : 300 + k] += 1e6
    x[2, -k:] += 1e6
    x[3] = rng.integers(0, 1000, size=x.shape[1])
    array, backend = make(library, x)
    assert_top_k(backend, array, x, k)


@pytest.mark.parametrize("rows", [1, 4, 7, 19])
def test_many_scores_at_once(library, rows):
    """What is computed in pieces is what is computed row by row."""
    x = np.random.default_rng(rows).normal(size=(rows, 2**16 - 1)) + np.arange(rows)[:, None]
    array, backend = make(library, x)
    normalised = backend.normalise(array, normalized=False)
    assert normalised.faulty == []
    assert normalised.normaliser == pytest.approx(logsumexp(x, axis=-1))
    steer = np.arange(x.shape[1]) % 7.0 * np.ones((rows, 1))
    values, index, _ = backend.best(array, np.zeros((rows, 1)), 0.5, make(library, steer)[0], (), 3)
    expected_values, expected_index = stable_top_k(0.5 * x + steer, 3)
    assert np.array_equal(index, expected_index)
    assert values == pytest.approx(expected_values)


@given(x=scores)
def test_normalise(library, x):
    array, backend = make(library, x)
    log_probs, normaliser, faulty = backend.normalise(array, normalized=False)
    log_probs = np.asarray(log_probs) - (0 if normaliser is None else np.array(normaliser)[:, None])
    assert faulty == []
    dead = np.isneginf(x).all(axis=1)
    assert np.isneginf(log_probs[dead]).all()
    assert log_probs[~dead] == pytest.approx(log_softmax(x[~dead], axis=-1))
    same, none, faulty = backend.normalise(make(library, x - 3)[0], normalized=True)
    assert np.array_equal(np.asarray(same), x - 3)
    assert (none, faulty) == (None, [])


@pytest.mark.parametrize("normalized", [True, False])
def test_faulty_rows(library, normalized):
    x = np.zeros((5, 4))
    x[1, 2] = np.nan
    x[2] = -np.inf
    x[3, 0] = np.inf
    x[4] = 0.01
    array, backend = make(library, x)
    assert backend.normalise(array, normalized).faulty == ([1, 3, 4] if normalized else [1, 3])


@pytest.mark.parametrize("normalized", [True, False])
def test_what_is_kept_is_no_view_of_something_larger(library, normalized):
    """A model that gives the last of many positions would else keep all of them in memory."""
    every, backend = make(library, np.full((1, 20, 4), -1.0))
    kept = np.asarray(backend.normalise(every[:, -1], normalized).scores)
    assert not np.shares_memory(kept, np.asarray(every))


def test_models_that_mask_with_the_lowest_number(library):
    lowest = np.finfo(np.float32).min
    x = np.array([[0, lowest, 1, lowest]], dtype=np.float32)
    array, backend = make(library, x)
    scores, normaliser, faulty = backend.normalise(array, normalized=False)
    assert faulty == []
    steer, _ = make(library, np.array([[lowest, lowest, 0, 0]], dtype=np.float32))
    offsets = np.zeros((1, 1)) if normaliser is None else -normaliser[:, None]
    values, index, _ = backend.best(scores, offsets, 2.0, steer, (), 4)
    alive = [place for value, place in zip(values[0], index[0], strict=True) if value > -math.inf]
    assert alive[0] == 2
    assert 1 not in alive
    assert np.isneginf(np.asarray(backend.array([[2.0 * float(lowest)]])))


@given(
    data=st.data(),
    problems=st.integers(1, 3),
    beams=st.integers(1, 3),
    vocab=st.integers(1, 5),
    weight=st.sampled_from([0.0, 0.5, 1.0]),
    k=st.integers(1, 6),
)
def test_best_is_the_top_k_of_the_sum(library, data, problems, beams, vocab, weight, k):
    x = data.draw(arrays.arrays(np.float64, (problems * beams, vocab), elements=entries))
    offsets = data.draw(arrays.arrays(np.float64, (problems, beams), elements=entries))
    steer = data.draw(st.none() | arrays.arrays(np.float64, (problems, vocab), elements=entries))
    banned = data.draw(st.lists(st.integers(0, vocab - 1), unique=True))
    array, backend = make(library, x)
    given_steer = None if steer is None else make(library, steer)[0]
    values, index, chosen = backend.best(array, offsets, weight, given_steer, banned, k)
    assert np.array_equal(chosen, np.take_along_axis(x.reshape(problems, -1), index, 1))

    total = (weight * x if weight else np.zeros_like(x)).reshape(problems, beams, vocab) + offsets[..., None]
    if steer is not None:
        total = total + steer[:, None]
    total[..., banned] = -np.inf
    expected_values, expected_index = stable_top_k(total.reshape(problems, -1), k)
    for row in range(problems):
        alive = [(v, i) for v, i in zip(values[row], index[row], strict=True) if v > -math.inf]
        wanted = zip(expected_values[row].tolist(), expected_index[row].tolist(), strict=True)
        assert alive == [(v, i) for v, i in wanted if v > -math.inf]
    assert np.array_equal(np.asarray(array), x)
    if steer is not None:
        assert np.array_equal(np.asarray(given_steer), steer)


def test_the_best_of_gathered_scores(library):
    """What is computed from them leaves them as they are."""
    array, backend = make(library, np.arange(8.0).reshape(2, 4))
    gathered = backend.gather([array], np.array([0, 0]), np.array([1, 0]))
    assert backend.max_over_beams(gathered, np.array([[1.0, 0.0]]), 0.5).tolist() == [[2.5, 3, 3.5, 4]]
    gathered = backend.gather([array], np.array([0, 0]), np.array([1, 0]))
    values, index, chosen = backend.best(gathered, np.array([[0.0, 8.0]]), 0.5, None, (), 2)
    assert (values.tolist(), index.tolist(), chosen.tolist()) == ([[9.5, 9]], [[7, 6]], [[3, 2]])
    assert np.asarray(gathered).tolist() == [[4, 5, 6, 7], [0, 1, 2, 3]]


def test_banned_ids_may_be_others_in_the_next_call(library):
    array, backend = make(library, np.array([[3.0, 2.0, 1.0]]))
    for banned, best in (((0,), 1), ((0, 1), 2), ((), 0), ((1,), 0), ((0,), 1)):
        assert backend.best(array, np.zeros((1, 1)), 1.0, None, banned, 1)[1].tolist() == [[best]]


@given(data=st.data(), problems=st.integers(1, 3), beams=st.integers(1, 3), weight=st.sampled_from([0.5, 1.0]))
def test_max_over_beams(library, data, problems, beams, weight):
    x = data.draw(arrays.arrays(np.float64, (problems * beams, 4), elements=entries))
    offsets = data.draw(arrays.arrays(np.float64, (problems, beams), elements=entries))
    array, backend = make(library, x)
    expected = weight * (x.reshape(problems, beams, 4) + offsets[..., None]).max(axis=1)
    assert np.array_equal(np.asarray(backend.max_over_beams(array, offsets, weight)), expected)


def test_gather_pick_and_masks(library):
    first, backend = make(library, np.arange(8.0).reshape(2, 4))
    second, _ = make(library, -np.arange(12.0).reshape(3, 4))
    gathered = backend.gather([first, second], np.array([1, 0, 1, 0, 1]), np.array([2, 0, 0, 1, 2]))
    assert np.asarray(gathered).tolist() == [
        [-8, -9, -10, -11],
        [0, 1, 2, 3],
        [0, -1, -2, -3],
        [4, 5, 6, 7],
        [-8, -9, -10, -11],
    ]
    assert np.asarray(backend.gather([first], np.array([0, 0]), np.array([1, 1]))).tolist() == [[4, 5, 6, 7]] * 2
    kept = backend.gather([first, second], np.array([0, 1]), np.array([1, 0]), stays=True)
    one_block = backend.gather([second], np.array([0, 0]), np.array([2, 1]), stays=True)
    backend.gather([first], np.array([0, 0]), np.array([0, 0]))
    backend.gather([first, second], np.array([1, 0]), np.array([2, 0]))
    assert np.asarray(kept).tolist() == [[4, 5, 6, 7], [0, -1, -2, -3]]
    assert np.asarray(one_block).tolist() == [[-8, -9, -10, -11], [-4, -5, -6, -7]]
    assert backend.pick(second, np.array([2, 0]), np.array([3, 1])).tolist() == [-11, -1]
    inf = math.inf
    assert np.asarray(backend.masks([None, frozenset({1, 3})], (0, 3), 4)).tolist() == [
        [-inf, 0, 0, -inf],
        [-inf, 0, -inf, 0],
    ]


@pytest.mark.parametrize(
    ("given_dtype", "dtype"), [("float16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_everything_follows_the_scores(library, given_dtype, dtype):
    array, backend = make(library, np.zeros((2, 3), dtype=given_dtype))
    assert str(backend.normalise(array, False).scores.dtype).endswith(dtype)
    assert str(backend.array([[1.0]]).dtype).endswith(dtype)
    assert str(backend.indices([1]).dtype).endswith("int64")


def test_what_is_no_scores(library):
    array, _ = make(library, np.zeros((2, 3)))
    integers = array.astype(int) if library == "numpy" else array.int()
    for wrong in (integers, [[0.0]], None):
        with pytest.raises(
            TypeError, match=r"step returned scores of type .*must be a NumPy array or a PyTorch tensor"
        ):
            backend_for(wrong)
