"""What a decode takes on a GPU, in one table: `make bench-gpu`, or `python benchmarks/gpu.py --device cuda OUT`.

Two models with random weights, an LSTM and a GPT-2, complete blanks of ten words, in float32 and bfloat16, with 1, 64
and 512 items. The floor makes the calls of each decode again, straight on the model; see `floor.py`. At the end,
`generate` of transformers writes the same sentences as a beam search. Programs that are compared run by turns.

Columns: `ms` and `floor ms` are medians of a whole decode; `ratio` is their quotient; `calls` counts the calls into the
models, and `waits` how often the program waits for the device per call (`waits.py`); `peak MB` is the memory of the
device.

``--small`` takes small models and few items, to see on a CPU that everything runs:

    python benchmarks/gpu.py --device cpu --small OUT
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from floor import Recorded, alone
from models import gpt2, lstm, scorer
from waits import Waits

from birnn_decode import BSCD, BeamSearch, Pair, Template, decode
from birnn_decode.files import write_whole

ROUNDS, TURNS = 3, 3
MINUTES = 7.0  # after so many, no new line of the table is begun
COLUMNS = ("model", "dtype", "N", "method", "ms", "floor ms", "ratio", "calls", "waits", "sentences/s", "peak MB")

Row = dict[str, Any]


def main() -> int:
    given = arguments()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("There is no GPU that PyTorch can use. Give --device cpu --small to see that the benchmark runs.")
        return 2
    began = time.monotonic()
    rows, left_out = [], []
    for name, case in cases(device, given.small):
        if time.monotonic() - began > 60 * MINUTES:
            left_out.append(name)
            continue
        try:
            row = case()
        except torch.cuda.OutOfMemoryError:
            left_out.append(f"{name} (out of memory)")
            continue
        rows.append(row)
        print(", ".join(f"{key} {shown(key, value)}" for key, value in row.items()), flush=True)
    text = table(rows, device, left_out)
    given.out.mkdir(parents=True, exist_ok=True)
    write_whole(given.out / "gpu.md", text.encode())
    print(text)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure decodes on a GPU, and write the table OUT/gpu.md.")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder of the table")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="where to run (default: cuda)")
    parser.add_argument("--small", action="store_true", help="small models and few items")
    return parser.parse_args()


def cases(device: torch.device, small: bool) -> list[tuple[str, Callable[[], Row]]]:
    """The name of each line of the table, and what measures it."""
    hidden, vocab = (32, 200) if small else (512, 10_000)
    kinds = {
        f"LSTM {hidden}, V = {vocab:,}": lambda direction: lstm(direction, hidden, vocab),
        f"GPT-2, 4 layers of 256, V = {vocab:,}": lambda direction: gpt2(direction, vocab),
    }
    missing = 3 if small else 10
    found: list[tuple[str, Callable[[], Row]]] = []
    for items in (2,) if small else (1, 64, 512):
        for dtype in (torch.float32, torch.bfloat16):
            for kind, make in kinds.items():
                for method in (BeamSearch("forward"), BSCD(max_rounds=ROUNDS)):
                    about = {"model": kind, "dtype": str(dtype).partition(".")[2], "N": items, "method": method.name}
                    case = lambda about=about, make=make, dtype=dtype, method=method: measured(  # noqa: E731
                        about, make, dtype, device, method, missing
                    )
                    found.append((", ".join(map(str, about.values())), case))
    for items in (1,) if small else (1, 32):
        about = {"model": list(kinds)[1], "dtype": "float32", "N": items, "method": "beam search, over generate"}
        found.append(
            (f"generate, {items}", lambda about=about: against_generate(about, list(kinds.values())[1], device))
        )
    return found


def measured(
    about: Row, make: Callable[[str], Any], dtype: torch.dtype, device: torch.device, method: Any, missing: int
) -> Row:
    """A line of the table: a decode and its floor."""
    models = {direction: make(direction).to(device, dtype) for direction in ("forward", "backward")}
    scorers = {direction: scorer(model, direction) for direction, model in models.items()}
    templates = [Template.blank([5 + item % 7, 6, 7], missing, [8, 9 + item % 5]) for item in range(about["N"])]

    def search(forward: Any, backward: Any) -> Any:
        pair = Pair(forward) if isinstance(method, BeamSearch) else Pair(forward, backward)
        return decode(pair, None, templates, method)

    recorded = {direction: Recorded(one) for direction, one in scorers.items()}
    search(*recorded.values())
    with Waits() as waits:
        search(*scorers.values())
    calls = sum(len(one.calls) for one in recorded.values())
    prepared: list[Callable[[], None]] = []

    def floor() -> None:
        for program in prepared:
            program()

    seconds: dict[str, list[float]] = {"decode": [], "floor": []}
    with torch.inference_mode():
        for _ in range(TURNS):
            seconds["decode"].append(timed(lambda: search(*scorers.values()), device))
            prepared[:] = [alone(models[direction], one.calls) for direction, one in recorded.items()]
            seconds["floor"].append(timed(floor, device))
    prepared.clear()
    del recorded
    peak = peak_of(lambda: search(*scorers.values()), device)
    took, least = statistics.median(seconds["decode"]), statistics.median(seconds["floor"])
    return {
        **about,
        "ms": 1e3 * took,
        "floor ms": 1e3 * least,
        "ratio": took / least,
        "calls": calls,
        "waits": waits.total / calls,
        "sentences/s": about["N"] / took,
        "peak MB": peak,
    }


def against_generate(about: Row, make: Callable[[str], Any], device: torch.device) -> Row:
    """A line of the table: a beam search, and `generate` of transformers as its floor."""
    import test_generate as other

    model = make("forward").to(device)
    one = scorer(model, "forward")
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, one.vocab_size, (about["N"], other.KNOWN), generator=generator).tolist()
    seconds: dict[str, list[float]] = {"ours": [], "generate": []}
    for turn in range(1 + TURNS):
        for name, program in (
            ("ours", lambda: other.ours(one, prompts)),
            ("generate", lambda: other.generate(model, prompts)),
        ):
            took = timed(program, device)
            if turn:
                seconds[name].append(took)
    ours, theirs = (statistics.median(several) for several in seconds.values())
    return {**about, "ms": 1e3 * ours, "floor ms": 1e3 * theirs, "ratio": ours / theirs}


def timed(program: Callable[[], Any], device: torch.device) -> float:
    """The seconds of a program, with what it has queued on the device."""
    wait(device)
    began = time.perf_counter()
    program()
    wait(device)
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_of(program: Callable[[], Any], device: torch.device) -> float | None:
    """The largest memory of the device that a program takes, in MB, models included; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    program()
    return torch.cuda.max_memory_allocated(device) / 1e6


def table(rows: list[Row], device: torch.device, left_out: list[str]) -> str:
    """The table in Markdown, with the name of the device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    lines = [f"Device: {name}. PyTorch {torch.__version__}, Python {platform.python_version()}.", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(shown(column, row.get(column)) for column in COLUMNS)} |" for row in rows]
    if left_out:
        lines += ["", f"Left out: {'; '.join(left_out)}."]
    return "\n".join(lines) + "\n"


def shown(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}" if column in ("ratio", "waits") else f"{value:.1f}"
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
