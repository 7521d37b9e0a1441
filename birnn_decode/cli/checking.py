"""The command ``check``: find faults in how your own models are wrapped."""

from __future__ import annotations

import functools
import importlib
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from click import ClickException, UsageError, argument, command, echo, option

KEYS = ("images", "forward", "backward", "captions", "vocabulary", "reference_forward", "reference_backward")

EXAMPLE = """
\b
An example, mine.py:
  def factory():
      return {
          "images": [...],        # at least two different images, as encode takes them
          "forward": scorer(...), # one model, or two
          "backward": scorer(...),
          "captions": [...],      # optional: a true sentence for each image
          "vocabulary": words,    # optional: for captions given as text
      }

\b
  birnn-decode check mine:factory
  birnn-decode check folder/mine.py:factory
"""


@command(epilog=EXAMPLE, short_help="Find faults in how your own models are wrapped.")
@argument("factory", metavar="MODULE:FACTORY")
@option("--seed", default=0, show_default=True, metavar="N", help="Seed of the random prefixes.")
def check(factory: str, seed: int) -> None:
    """Find faults in how your own models are wrapped.

    MODULE is a Python module, searched in this folder first, or the path of a .py file. FACTORY is a function in it
    that takes no arguments and returns a dict. The dict has "images", a list, and "forward", "backward" or both, the
    scorers. Optional keys are "captions", "vocabulary", "reference_forward" and "reference_backward". A reference is a
    scorer that is known to be right; the scorer is compared with it.

    The exit code is 0 if no fault was found, 1 if there is a fault, and 2 if nothing could be checked.
    """
    from birnn_decode.scorers.check import check_scorer

    given = _given(factory)
    try:
        reports = [
            check_scorer(
                given[direction],
                given["images"],
                direction=direction,
                captions=given.get("captions"),
                vocabulary=given.get("vocabulary"),
                reference=given.get(f"reference_{direction}"),
                other=given.get(other),
                seed=seed,
            )
            for direction, other in (("forward", "backward"), ("backward", "forward"))
            if given.get(direction) is not None
        ]
    except (TypeError, ValueError) as error:
        raise ClickException(str(error)) from None
    echo("\n\n".join(map(str, reports)))
    if not all(report.ok for report in reports):
        sys.exit(1)


def _given(name: str) -> Mapping[str, Any]:
    """What the factory returns, checked for its keys."""
    given = guarded(name, imported_function(name))
    if not isinstance(given, Mapping):
        raise UsageError(f"{name} returned a {type(given).__name__}; it must return a dict with {', '.join(KEYS)}")
    if unknown := [str(key) for key in given if key not in KEYS]:
        raise UsageError(f"{name} returned the unknown key {', '.join(unknown)}; known are {', '.join(KEYS)}")
    if given.get("images") is None:
        raise UsageError(f'{name} returned no "images": give a list of at least two different images')
    if given.get("forward") is None and given.get("backward") is None:
        raise UsageError(f'{name} returned neither "forward" nor "backward": give at least one model to check')
    return given


def imported_function(name: str) -> Callable[..., Any]:
    """Return the function that ``MODULE:FUNCTION`` or ``FILE.py:FUNCTION`` names.

    Raises:
        click.ClickException: there is no such module, file or function, or importing it raised an error.
    """
    module, _, function = name.rpartition(":")
    if not module or not function:
        raise UsageError(f"{name}: write module:function, or file.py:function")
    found = getattr(guarded(f"importing {module}", lambda: _imported(module)), function, None)
    if not callable(found):
        raise UsageError(f"{module} has no function {function}")
    return cast("Callable[..., Any]", found)


def imported_check(option: str, name: str) -> Callable[[str], bool]:
    """Return the check of finished sentences that an option names. An error in it becomes one line.

    Raises:
        click.ClickException: see `imported_function`.
    """
    check = imported_function(name)

    @functools.wraps(check)
    def checked(text: str) -> bool:
        passes = guarded(f"{option} {name}", lambda: check(text))
        if not isinstance(passes, (bool, np.bool_)):
            raise UsageError(f"{option} {name} returned {passes!r} for {text!r}; it must return True or False")
        return bool(passes)

    return checked


def guarded(what: str, function: Callable[[], Any]) -> Any:
    """The result of a user's function, or one line about what it raised."""
    try:
        return function()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raised = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ClickException(f"{what} raised {raised}") from None


def _imported(module: str) -> Any:
    """A module by its name, or of a .py file."""
    if not module.endswith(".py"):
        sys.path.insert(0, os.getcwd())
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):  # the module is there, and one that it imports is not
                raise
            raise UsageError(f"there is no module {module} in this folder or among the installed ones") from None
    path = Path(module).resolve()
    if not path.is_file():
        raise UsageError(f"there is no file {module}")
    sys.path.insert(0, str(path.parent))
    return SimpleNamespace(**runpy.run_path(str(path), run_name=path.stem))
