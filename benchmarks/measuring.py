"""Times of several programs, taken in turns, so that what else the machine does falls on all of them alike.

Every benchmark here records figures: rows of numbers that end in the machine-readable file of `make bench` (under each
benchmark's ``extra_info["figures"]``), from which `benchmarks/report.py` makes the tables and the pictures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

REPETITIONS = 7


class Times(dict[str, list[float]]):
    """Seconds by program; those at the same place in their lists were taken one after the other."""

    def median(self, name: str) -> float:
        """In seconds."""
        return statistics.median(self[name])

    def ratio(self, name: str, base: str) -> dict[str, float]:
        """The ratio of two medians, and the quartiles of the single ratios, which tell its spread."""
        singles = [one / two for one, two in zip(self[name], self[base], strict=True)]
        low, _, high = statistics.quantiles(singles, n=4) if len(singles) > 1 else singles * 3
        return {"ratio": self.median(name) / self.median(base), "low": low, "high": high}


def in_turns(
    benchmark: Any,
    programs: Mapping[str, Callable[[], Any]],
    repetitions: int = REPETITIONS,
    before: Mapping[str, Callable[[], Any]] = {},
) -> Times:
    """Run programs by turns, after one turn that does not count.

    Args:
        benchmark: pytest-benchmark's fixture, which times the first program itself, too; where benchmarks are disabled,
            every program runs once.
        programs: name to program.
        repetitions: of each.
        before: what is done before some of them each time, and not timed.
    """
    times = Times({name: [] for name in programs})

    def run(name: str) -> None:
        if name in before:
            before[name]()
        began = time.perf_counter()
        programs[name]()
        times[name].append(time.perf_counter() - began)

    first, *others = programs

    def others_first() -> tuple[tuple[str], dict[str, Any]]:
        for name in others:
            run(name)
        return (first,), {}

    warm_up = 0 if benchmark.disabled else 1
    benchmark.pedantic(run, setup=others_first, rounds=repetitions, warmup_rounds=warm_up)
    return Times({name: seconds[warm_up:] for name, seconds in times.items()})


def record(benchmark: Any, figure: str, **row: Any) -> None:
    """Add a row to one of the figures, and print it."""
    benchmark.extra_info.setdefault("figures", {}).setdefault(figure, []).append(row)
    rounded = {name: format(value, ".4g") if isinstance(value, float) else value for name, value in row.items()}
    print(f"\n{figure}: {', '.join(f'{name} {value}' for name, value in rounded.items())}")
