"""What `birnn-decode decode` adds to the search: `make bench`, or `pytest benchmarks/test_datasets.py -s`.

Questions about rendered scenes, half of the words missing, the pair that comes with the library, one thread. Times are
compared with `decode` on the same batches, with pictures that are in memory, and with their vectors. ``DATASET`` in the
environment is the number of questions (default: 1,000, and ten times as many for the memory). From 5,000 questions on,
programs run only once after the warm-up.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from measuring import in_turns, record

torch = pytest.importorskip("torch")
pytest.importorskip("click")

from PIL import Image  # noqa: E402

from birnn_decode import BSCD, decode  # noqa: E402
from birnn_decode.datasets import decode_dataset, read_answers  # noqa: E402
from birnn_decode.datasets.questions import read_questions  # noqa: E402
from birnn_decode.models import default_pair  # noqa: E402

QUESTIONS = int(os.environ.get("DATASET", "1000"))
TURNS = 3 if QUESTIONS < 5000 else 1  # a long run is a mean by itself
BATCH = 64
SEED = 7


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "birnn_decode.cli", *map(str, arguments)]


def drawn(folder: Path, count: int) -> Path:
    """A file of questions about new scenes."""
    subprocess.run(
        command("scenes", folder, "--count", count, "--seed", SEED, "--sentences", 1), check=True, capture_output=True
    )
    return folder / "questions.jsonl"


@pytest.fixture(scope="module")
def asked(request: Any, tmp_path_factory: Any) -> Path:
    few = request.config.getoption("benchmark_disable")
    return drawn(tmp_path_factory.mktemp("data") / "scenes", 20 if few else QUESTIONS)


@pytest.fixture
def output(tmp_path: Path) -> Any:
    """A new file of answers each time."""
    numbers = itertools.count()
    return lambda: tmp_path / f"{next(numbers)}.jsonl"


def test_one_process(benchmark: Any, asked: Path, output: Any) -> None:
    models = default_pair()
    file = read_questions(asked, BATCH)
    batches = [batch.questions for window in range(file.windows) for batch in file.batches(window)]
    pictures = {one.id: Image.open(asked.parent / one.fields["image"]) for batch in batches for one in batch}
    for picture in pictures.values():
        picture.load()
    with torch.no_grad():
        vectors = dict(zip(pictures, models.forward.encode(list(pictures.values())), strict=True))
    found = {}

    def library(sources: Any) -> None:
        for batch in batches:
            templates = [one.fields["template"] for one in batch]
            results = decode(models, [sources[one.id] for one in batch], templates, BSCD())
            found.update({one.id: result.best.text for one, result in zip(batch, results, strict=True)})

    def dataset() -> None:
        path = output()
        decode_dataset(models, asked, BSCD(), path, batch_size=BATCH)
        answers = {one["id"]: one["text"] for one in read_answers(path)}
        assert sum(found[name] == text for name, text in answers.items()) >= 0.99 * len(answers)

    spent: dict[str, float] = {}  # seconds of all cores, which other programs on the machine do not change

    def counted(name: str, program: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            began = time.process_time()
            program()
            spent[name] = time.process_time() - began

        return run

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        programs = {
            "library, pictures": lambda: library(pictures),
            "library, vectors": lambda: library(vectors),
            "data set": dataset,
        }
        programs = {name: counted(name, program) for name, program in programs.items()}
        times = in_turns(benchmark, programs, repetitions=TURNS)
    finally:
        torch.set_num_threads(threads)
    for name in programs:
        ratio = times.ratio("library, pictures", name)  # of sentences per second
        about = {"per_second": file.count / times.median(name), "cpu_ms": 1000 * spent[name] / file.count}
        record(benchmark, "data sets", what=name, **about, **ratio)


def test_two_workers(benchmark: Any, asked: Path, output: Any) -> None:
    """Each program is the whole command, with the start of PyTorch, of Ray and of the workers."""
    pytest.importorskip("ray")
    if (os.cpu_count() or 1) < 2:
        pytest.skip("two workers need two CPU cores")

    def run(*more: Any) -> None:
        given = command("decode", asked, "-o", output(), *more)
        subprocess.run(given, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    programs = {"2 workers": lambda: run("--workers", 2), "one process": run}
    times = in_turns(benchmark, programs, repetitions=TURNS)
    count = len(asked.read_text().splitlines())
    for name in programs:
        ratio = times.ratio("one process", name)
        record(benchmark, "data sets", what=f"command, {name}", per_second=count / times.median(name), **ratio)


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the peak of memory of a child is that of Unix")
def test_memory(benchmark: Any, tmp_path: Path) -> None:
    peaks = {}
    sizes = (10, 20) if benchmark.disabled else (QUESTIONS, 10 * QUESTIONS)

    def run() -> None:
        for size in sizes:
            questions = drawn(tmp_path / str(size), size)
            child = subprocess.Popen(command("decode", questions, "-o", tmp_path / f"{size}.jsonl"))
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            assert child.returncode == 0
            peaks[size] = used.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)  # MiB
            seconds = json.loads((tmp_path / f"{size}.jsonl.manifest.json").read_text())["answers"]["seconds_decoding"]
            about = {"questions": size, "peak_mib": peaks[size], "peak_ratio": peaks[size] / peaks[sizes[0]]}
            record(benchmark, "memory of data sets", **about, seconds_decoding=seconds)

    benchmark.pedantic(run, rounds=1)
