"""The page of a notebook: its text, its code, and the outputs that it was saved with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def page(path: Path) -> str:
    """Return a notebook in Markdown."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = (line for cell in cells for line in _cell(cell))
    return "\n".join(lines) + "\n"


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield from (source, "")
        return
    yield from ("```python", source, "```", "")
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            yield from _raw(
                f'<img alt="what the cell shows" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
            )
        elif "text/html" in data:
            yield from _raw(f'<div style="overflow-x:auto">{"".join(data["text/html"])}</div>')
        else:
            yield from ("```text", "".join(output.get("text", data.get("text/plain", ""))).rstrip(), "```", "")


def _raw(html: str) -> Iterator[str]:
    yield from ("```{raw} html", html, "```", "")
