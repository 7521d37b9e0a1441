"""The command that checks a scorer of one's own: check."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from click import ClickException, UsageError, argument, command, echo, option

KEYS = ("images", "forward", "backward", "captions", "vocabulary", "reference_forward", "reference_backward")

EXAMPLE = """
\b
An example, mine.py:
  def factory():
      return {
          "images": [...],        # two or more different ones, as encode takes them
          "forward": scorer(...), # a model, or two
          "backward": scorer(...),
          "captions": [...],      # optional: a true sentence for each image
          "vocabulary": words,    # optional, for captions in text
      }

\b
  birnn-decode check mine:factory
  birnn-decode check folder/mine.py:factory
"""


@command(epilog=EXAMPLE, short_help="Check that models of yours are wrapped right.")
@argument("factory", metavar="MODULE:FACTORY")
@option("--seed", default=0, show_default=True, help="Of the random prefixes.")
def check(factory: str, seed: int) -> None:
    """Check models of your own, and name what is wrong in the way they are wrapped.

    MODULE is a Python module, looked for in this folder first, or the path of a .py file. FACTORY is a function in it
    that takes nothing and returns a dict: "images", a list, and "forward", "backward" or both, the scorers; optional
    are "captions", "vocabulary", and "reference_forward" and "reference_backward", scorers that are surely right.

    The exit code is 0 where all is well, 1 where there is a fault, and 2 where nothing could be checked.
    """
    from birnn_decode.scorers.check import check_scorer

    given = _made(factory)
    directions = [direction for direction in ("forward", "backward") if given.get(direction) is not None]
    reports = []
    for direction in directions:
        other = next((given[name] for name in directions if name != direction), None)
        try:
            report = check_scorer(
                given[direction],
                given["images"],
                direction=direction,
                captions=given.get("captions"),
                vocabulary=given.get("vocabulary"),
                reference=given.get(f"reference_{direction}"),
                other=other,
                seed=seed,
            )
        except (TypeError, ValueError) as error:
            raise ClickException(str(error)) from None
        reports.append(report)
    for number, report in enumerate(reports):
        echo(("\n" if number else "") + str(report))
    if not all(report.ok for report in reports):
        sys.exit(1)


def _made(name: str) -> dict[str, Any]:
    """What the factory returned, with the right keys."""
    made = _called(name, _found(name))
    if not isinstance(made, Mapping):
        raise UsageError(f"{name} returned a {type(made).__name__}; it must return a dict with {', '.join(KEYS)}")
    unknown = [str(key) for key in made if key not in KEYS]
    if unknown:
        raise UsageError(f"{name} returned the unknown key {', '.join(unknown)}; known are {', '.join(KEYS)}")
    if made.get("images") is None:
        raise UsageError(f'{name} returned no "images": a list of at least two different ones')
    if made.get("forward") is None and made.get("backward") is None:
        raise UsageError(f'{name} returned neither "forward" nor "backward", a model to check')
    return dict(made)


def _called(name: str, factory: Callable[[], Any]) -> Any:
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise ClickException(f"{name} raised {_told(error)}") from None


def _found(name: str) -> Callable[[], Any]:
    module, colon, factory = name.rpartition(":")
    if not colon or not module or not factory:
        raise UsageError(f"{name}: write module:factory, or file.py:factory")
    if module.endswith(".py"):
        path = Path(module).resolve()
        if not path.is_file():
            raise UsageError(f"there is no file {module}")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, loaded)
        sys.path.insert(0, str(path.parent))
        load: Callable[[], Any] = lambda: spec.loader.exec_module(loaded)  # type: ignore[union-attr]  # noqa: E731
    else:
        sys.path.insert(0, os.getcwd())
        load = lambda: importlib.import_module(module)  # noqa: E731
    try:
        loaded = load() or loaded
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name in _parents(module):
            raise UsageError(f"there is no module {module} in this folder or among the installed ones") from None
        raise ClickException(f"importing {module} raised {_told(error)}") from None
    found = getattr(loaded, factory, None)
    if not callable(found):
        raise UsageError(f"{module} has no function {factory}")
    made: Callable[[], Any] = found
    return made


def _parents(module: str) -> list[str]:
    """The names of a module and the packages that it is in."""
    parts = module.split(".")
    return [".".join(parts[: at + 1]) for at in range(len(parts))]


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
