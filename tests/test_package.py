"""The package as a whole: what importing it costs, and what it does without PyTorch."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

NUMPY_ONLY = """
import sys
sys.modules["torch"] = None  # importing it fails from here on
import numpy as np
import birnn_decode as bd
bigram = np.random.default_rng(0).normal(size=(6, 6))
def scorer(table, start, end):
    last_word = lambda context, prefixes: table[prefixes[:, -1]]
    return bd.PrefixScorer(last_word, vocab_size=6, start_token=start, end_token=end)
result = bd.bscd_decode(scorer(bigram, 0, 1), scorer(bigram.T, 1, 0), None, bd.Template.blank([2], 3, [4]))
print(len(result.hypotheses), result.stop)
"""


def run(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_is_light():
    loaded = run("import sys, birnn_decode; print([name for name in ('torch', 'scipy') if name in sys.modules])")
    assert loaded.strip() == "[]"


def test_decoding_works_without_torch():
    assert run(NUMPY_ONLY).startswith("5 ")


def test_search_knows_no_array_library():
    for file in (ROOT / "birnn_decode" / "search").glob("*.py"):
        assert "torch" not in file.read_text(encoding="utf-8"), file


def run_script(path, folder):
    command = [sys.executable, "-W", "error", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.process
def test_the_toy_example_prints_what_the_readme_says(tmp_path):
    assert (
        f"$ .venv/bin/python examples/toy_scorers.py\n{run_script(ROOT / 'examples' / 'toy_scorers.py', tmp_path)}"
        in README
    )


@pytest.mark.process
def test_the_figure_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    printed = run_script(ROOT / "examples" / "draw_search.py", tmp_path)
    assert printed == "docs/search.png: a girl and a boy are holding a wind board\n"
    assert [path.name for path in (tmp_path / "docs").iterdir()] == ["search.png"]


@pytest.mark.process
def test_the_ten_lines_print_what_the_readme_says(tmp_path):
    pytest.importorskip("torch")
    (lines, printed), *_ = re.findall(r"```python\n(.*?)```\n\nprints\n\n```text\n(.*?)```", README, flags=re.DOTALL)
    assert len(lines.splitlines()) <= 10
    (tmp_path / "example.py").write_text(lines, encoding="utf-8")
    assert run_script(tmp_path / "example.py", tmp_path) == printed


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_decoding_with_numpy_does_not_import_torch():
    assert run(NUMPY_ONLY.replace('sys.modules["torch"] = None', "") + "assert 'torch' not in sys.modules")


def test_readme_examples_run():
    """The Python blocks of the README, over a captioner with random weights."""
    torch = pytest.importorskip("torch")
    vocabulary = ["<pad>", "<start>", "<end>", "<unk>", "a", "girl", "and", "boy", "on", "wind", "board"]

    class Words:
        def encode(self, text):
            return [vocabulary.index(word) for word in text.split()]

        def decode(self, ids):
            return " ".join(vocabulary[token] for token in ids)

        def __len__(self):
            return len(vocabulary)

    class Captioner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cnn = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5), torch.nn.Flatten(), torch.nn.Linear(4 * 12**2, 6))
            self.h0, self.c0 = torch.nn.Linear(6, 8), torch.nn.Linear(6, 8)
            self.embedding = torch.nn.Embedding(len(vocabulary), 8)
            self.lstm = torch.nn.LSTM(8, 8, batch_first=True)
            self.project = torch.nn.Linear(8, len(vocabulary))

    torch.manual_seed(0)
    images = [torch.rand(3, 16, 16) for _ in range(2)]
    given = {
        "captioner_f": Captioner(),
        "captioner_b": Captioner(),
        "words": Words(),
        **{"PAD": 0, "START": 1, "END": 2, "UNK": 3},
        "image": images[0],
        "images": images,
        "templates": ["a _ on a board", "a girl {0-2} board"],
    }
    _, use, constrained, wrap, joint = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(wrap, given)
    exec(use, given)
    assert len(given["results"]) == 2
    assert given["result"].best.tokens[0] == 5
    assert given["results"][0].best.text.startswith("a ")
    assert not {0, 3} & set(given["results"][0].best.tokens)
    exec(constrained, given)
    assert "boy" in given["held"].best.text
    assert "wind" not in given["held"].best.text
    assert given["held"].best.penalty <= 0 == len(given["held"].best.broken)
    assert len(given["varied"].hypotheses) == 6
    exec(joint, given)
    assert given["result"].best.text == given["words"].decode(given["result"].best.tokens)
    assert 0 < len(given["cycles"]) <= 10


def test_the_command_names_the_captioners_and_presets_that_there_are():
    """It writes them out, so that --help needs no PyTorch."""
    pytest.importorskip("torch")
    pytest.importorskip("click")
    from birnn_decode.cli import training as command
    from birnn_decode.models import files
    from birnn_decode.training import PRESETS

    assert set(command.CAPTIONERS) == set(files.CAPTIONERS)
    assert set(command.PRESETS) == set(PRESETS)
