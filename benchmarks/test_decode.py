"""What a decode costs beside its model calls, and what BSCD costs beside one beam search: `make bench`.

An LSTM decoder with random weights fills ten missing words. `extra_info` holds the rows pushed, the model calls, and
the whole time over that of the model calls alone.
"""

import time

import pytest

from birnn_decode import Template, beam_decode, bscd_decode

torch = pytest.importorskip("torch")

from birnn_decode.scorers.torch import TorchScorer  # noqa: E402

SIZES = {"small": (256, 2_500), "large": (512, 10_000)}  # hidden units, vocabulary


class Timed:
    """An LSTM cell as a scorer that keeps count of its own time."""

    def __init__(self, hidden, vocab_size, start, end):
        torch.manual_seed(start)
        self.embedding = torch.nn.Embedding(vocab_size, hidden)
        self.cell = torch.nn.LSTMCell(hidden, hidden)
        self.project = torch.nn.Linear(hidden, vocab_size)
        with torch.no_grad():
            self.project.weight *= 8  # as peaked as a trained model
        self.seconds, self.calls = 0.0, 0
        self.scorer = TorchScorer(
            self.step,
            lambda images: (torch.zeros(len(images), hidden), torch.zeros(len(images), hidden)),
            batch_axis=0,
            vocab_size=vocab_size,
            start_token=start,
            end_token=end,
            aligned=False,
        )

    def step(self, tokens, state):
        began = time.perf_counter()
        h, c = self.cell(self.embedding(tokens), state)
        scores = self.project(h)
        self.seconds += time.perf_counter() - began
        self.calls += 1
        return scores, (h, c)


@pytest.mark.parametrize("items", [1, 64])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", ["beam", "bscd"])
def test_lstm(benchmark, method, size, items):
    forward, backward = Timed(*SIZES[size], 0, 1), Timed(*SIZES[size], 1, 0)
    templates = [Template.blank([5 + item % 7, 6, 7], 10, [8, 9 + item % 5]) for item in range(items)]
    outside = []

    def decode():
        for model in (forward, backward):
            model.seconds, model.calls = 0.0, 0
        began = time.perf_counter()
        if method == "beam":
            results = beam_decode(forward.scorer, None, templates, direction="forward")
        else:
            results = bscd_decode(forward.scorer, backward.scorer, None, templates)
        seconds = time.perf_counter() - began
        inside = forward.seconds + backward.seconds
        outside.append(seconds / inside)
        benchmark.extra_info.update(
            rows=sum(result.rows_evaluated for result in results), calls=forward.calls + backward.calls
        )

    benchmark.pedantic(decode, rounds=7 if items > 1 else 25, warmup_rounds=1)
    benchmark.extra_info["time_over_model"] = sorted(outside)[len(outside) // 2]
