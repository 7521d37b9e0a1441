"""The package as a whole: what importing it costs, and what it does without PyTorch."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

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
def test_the_figure_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    printed = run_script(ROOT / "examples" / "draw_search.py", tmp_path)
    assert printed == "docs/search.png: a girl and a boy are holding a wind board\n"
    assert [path.name for path in (tmp_path / "docs").iterdir()] == ["search.png"]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_decoding_with_numpy_does_not_import_torch():
    assert run(NUMPY_ONLY.replace('sys.modules["torch"] = None', "") + "assert 'torch' not in sys.modules")


def test_the_command_names_the_captioners_and_presets_that_there_are():
    """It writes them out, so that --help needs no PyTorch."""
    pytest.importorskip("torch")
    pytest.importorskip("click")
    from birnn_decode.cli import training as command
    from birnn_decode.models import files
    from birnn_decode.training import PRESETS

    assert {*command.CAPTIONERS, command.TRANSLATOR} == set(files.CAPTIONERS)
    assert set(command.PRESETS) == set(PRESETS)
