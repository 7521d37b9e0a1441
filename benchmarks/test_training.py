"""What a training costs beside a plain loop of PyTorch, and its memory: `pytest benchmarks/test_training.py -s`.

The plain loop is what one would write by hand for both directions: all lines are encoded once into lists, shuffled,
and read in padded batches. Its models are those of the preset "lines". Each turn reads the same number of characters
with both programs, in another order each time, as in a long training; oneDNN prepares its kernels anew for new shapes.

The memory is that of `birnn-decode train` on files of several sizes, see `one_training.py`.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("click")

from measuring import in_turns, record  # noqa: E402
from one_training import Run, lines  # noqa: E402
from torch import nn  # noqa: E402

from birnn_decode.lines import read_lines  # noqa: E402
from birnn_decode.models import LSTMCaptioner  # noqa: E402
from birnn_decode.training import PRESETS, Recipe, TextLines, Training  # noqa: E402
from birnn_decode.vocabularies import END, PAD, START, CharacterVocabulary  # noqa: E402

PRESET = PRESETS["lines"]
BATCH = PRESET.recipe.batch_size
STEPS = 12
MEGABYTES = (50, 200)  # 1,000 takes ten minutes: python benchmarks/one_training.py '{"megabytes": 1000}'
SETTINGS: tuple[dict[str, Any], ...] = (
    {"tokens": "characters"},
    {"tokens": "characters", "precision": "bfloat16"},
    {"tokens": "words", "sources": True, "steps": 60},
)


class Enough(Exception):
    """All steps of a turn are done."""


class Plain(nn.Module):
    """A language model of characters in one direction."""

    def __init__(self, vocabulary: int, hidden: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, PRESET.embedding_size, padding_idx=PAD)
        self.lstm = nn.LSTM(PRESET.embedding_size, hidden, batch_first=True)
        self.output = nn.Linear(hidden, vocabulary)
        self.dropout = nn.Dropout(PRESET.dropout)

    def forward(self, tokens: Any) -> Any:
        hidden, _ = self.lstm(self.dropout(self.embedding(tokens)))
        return self.output(self.dropout(hidden))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_speed(benchmark: Any, precision: str, tmp_path: Path) -> None:
    steps, hidden = (2, 16) if benchmark.disabled else (STEPS, PRESET.hidden_size)
    texts = list(itertools.islice(lines(), steps * BATCH))
    (tmp_path / "lines.txt").write_text("".join(f"{text}\n" for text in texts))
    vocabulary = CharacterVocabulary(sorted(set("".join(texts))))
    data = TextLines(read_lines(tmp_path / "lines.txt").split(), vocabulary)
    sizes = {"feature_size": 0, "embedding_size": PRESET.embedding_size, "hidden_size": hidden}
    torch.manual_seed(0)
    pair = [
        LSTMCaptioner(vocabulary, direction=direction, dropout=PRESET.dropout, **sizes)
        for direction in ("forward", "backward")
    ]
    plain = nn.ModuleList(Plain(len(vocabulary), hidden) for _ in range(2))
    adam = torch.optim.Adam(plain.parameters(), lr=PRESET.recipe.learning_rate)
    encoded = [[START, *vocabulary.encode(text), END] for text in texts]
    prepared: list[Training] = []
    seeds = itertools.count()

    def prepare() -> None:
        prepared[:] = [Training(*pair, data, data, Recipe(2, BATCH, precision=precision), next(seeds))]

    def library() -> None:
        (training,) = prepared

        def stop(_: float) -> None:
            if training.steps_done == steps:  # before the loss on the validation data is measured
                raise Enough

        with pytest.raises(Enough):
            next(training.run(stop))

    def loop() -> None:
        for batch in torch.randperm(len(encoded)).split(BATCH):
            own = [encoded[number] for number in batch]
            longest = max(map(len, own))
            adam.zero_grad()
            for model, rows in zip(plain, (own, [row[::-1] for row in own]), strict=True):
                tokens = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                    logits = model(tokens[:, :-1])
                    loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PAD)
                loss.backward()
            nn.utils.clip_grad_norm_(plain.parameters(), PRESET.recipe.clip_norm)
            adam.step()

    times = in_turns(benchmark, {"library": library, "plain": loop}, before={"library": prepare})
    characters = sum(map(len, texts))
    record(
        benchmark,
        "training",
        precision=precision,
        characters_per_second=characters / times.median("library"),
        plain_characters_per_second=characters / times.median("plain"),
        **times.ratio("plain", "library"),
    )


@pytest.mark.skipif(os.name != "posix", reason="the peak memory of a process comes from getrusage")
@pytest.mark.parametrize("settings", SETTINGS)
def test_memory(benchmark: Any, settings: dict[str, Any]) -> None:
    runs = [Run(megabytes, **settings) for megabytes in MEGABYTES]
    if benchmark.disabled:
        runs = [Run(0.2, **{**settings, "steps": 3})]

    def run() -> None:
        for one in runs:
            record(benchmark, "memory of training", **asdict(one), **measured(one))

    benchmark.pedantic(run, rounds=1)


def measured(run: Run) -> Any:
    program = Path(__file__).with_name("one_training.py")
    # The library that is measured here, wherever it was imported from.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(program), json.dumps(asdict(run))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
