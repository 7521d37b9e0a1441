"""What known words between blanks cost: `make bench`, or `pytest benchmarks/test_blanks.py -s`.

16 of 64 words are missing: all in one blank, or four in each of four blanks, as in a picture of 8 × 8 pixels that is
read row by row and has a hole of 4 × 4 pixels. The known words between the blanks are read, and not searched.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from measuring import in_turns, record
from models import lstm

from birnn_decode import BSCD, BeamSearch, Pair, Rerank, Template, decode

WORDS, MISSING = 64, 16
LAYOUTS = {
    "one blank": range(24, 40),
    "four blanks": [8 * row + column for row in range(2, 6) for column in range(2, 6)],
}
METHODS = (BeamSearch("forward"), Rerank(), BSCD())


def template(missing: Any, item: int) -> Template:
    known = [4 + (item + 3 * place) % 4 for place in range(WORDS)]
    return Template.from_tokens(Template.BLANK if place in missing else word for place, word in enumerate(known))


@pytest.mark.parametrize("items", [1, 20])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_blanks(benchmark: Any, method: Any, items: int) -> None:
    models = Pair(lstm("forward", 192, 8), lstm("backward", 192, 8))

    def search(layout: str) -> Any:
        return decode(models, None, [template(LAYOUTS[layout], item) for item in range(items)], method)

    assert all(len(LAYOUTS[layout]) == MISSING for layout in LAYOUTS)
    times = in_turns(benchmark, {layout: lambda layout=layout: search(layout) for layout in reversed(LAYOUTS)})
    rows = {layout: sum(one.rows_evaluated for one in search(layout)) / items for layout in LAYOUTS}
    record(
        benchmark,
        "blanks",
        method=method.name,
        items=items,
        one_ms=1e3 * times.median("one blank"),
        four_ms=1e3 * times.median("four blanks"),
        rows_of_one=rows["one blank"],
        rows_of_four=rows["four blanks"],
        **times.ratio("four blanks", "one blank"),
    )
