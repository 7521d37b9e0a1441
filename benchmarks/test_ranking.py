"""What it takes to score 1,000 pictures and 5,000 sentences: `make bench`, or `pytest benchmarks/test_ranking.py -s`.

Pictures have one region, or 17 with the cells of a 4 x 4 grid. Sentences have 7 to 14 of 2,538 words. Feature vectors
have 1,280 numbers, or 128 principal components of these; v_i has 256 numbers, as by default, or 1,000, as in the paper.
The weights are random, which the time does not depend on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from measuring import in_turns, record

torch = pytest.importorskip("torch")

from birnn_decode.models import AlignmentModel  # noqa: E402
from birnn_decode.vocabularies import WordVocabulary  # noqa: E402

PICTURES, SENTENCES, WORDS = 1_000, 5_000, 2_538
# regions, features, size of v_i
SIZES = {"whole picture": (1, 1280, 256), "grid": (17, 128, 256), "grid, paper": (17, 128, 1000)}
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def peak_mib() -> float:
    """The largest memory of this process since it was last reset."""
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("name", SIZES)
def test_scores_of_many_pictures_and_sentences(benchmark, name):
    regions, features, hidden = SIZES[name]
    pictures, sentences = (20, 30) if benchmark.disabled else (PICTURES, SENTENCES)
    random = np.random.default_rng(0)
    given = [random.integers(4, WORDS, size=random.integers(7, 15)).tolist() for _ in range(sentences)]
    torch.manual_seed(0)
    vocabulary = WordVocabulary([f"word{number}" for number in range(WORDS)])
    model = AlignmentModel(vocabulary, feature_size=features, embedding_size=256, hidden_size=hidden).eval()
    shown = torch.randn(pictures, regions, features)
    times = in_turns(benchmark, {name: lambda: model.score(shown, given)}, repetitions=3)
    row = {"pictures": pictures, "sentences": sentences, "regions": regions, "size": hidden, "s": times.median(name)}
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5")
        before = peak_mib()
        model.score(shown, given)
        row["more_mib"] = peak_mib() - before
    record(benchmark, f"ranking: {name}", **row)
