"""The rooms of the package: imports point one way, never in a circle, and what searches need is NumPy alone."""

import ast
import graphlib
import re
import sys
from functools import cache
from pathlib import Path

import pytest

import birnn_decode

PACKAGE = "birnn_decode"
# A room imports only rooms that stand further down. The package itself, with the public names, is one of them.
ROOMS = (
    "cli",
    "app",
    "show",
    "evaluation",
    "datasets",
    "training",
    "generation",
    PACKAGE,
    "decoding",
    "methods",
    "request",
    "search",
    "models",
    "scorers",
    "captions",
    "lines",
    "molecules",
    "constraints",
    "objective",
    "result",
    "markup",
    "record",
    "posterior",
    "backend",
    "spelling",
    "template",
    "vocabularies",
    "tokenizers",
    "checks",
    "files",
    "version",
)
# A search knows a model by these modules only; adapters and models stand beside it. The front door knows pairs as well.
SEARCHING = ("decoding", "methods", "request", "search")
MEETING = tuple(f"{PACKAGE}.scorers.{name}" for name in ("protocol", "answers", "joint"))
PAIR = f"{PACKAGE}.scorers.pair"
# Rooms that import nothing else than the standard library and these; the search takes its arrays through a backend.
PLAIN = (
    *SEARCHING,
    "constraints",
    "objective",
    "record",
    "result",
    "spelling",
    "template",
    "tokenizers",
    "checks",
    "version",
)
LIBRARIES = {"numpy", "scipy", *sys.stdlib_module_names}
FOR_TYPES = {"typing_extensions"}


def sources():
    """The text of every module, by name."""
    folder = Path(birnn_decode.__file__).parent
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [PACKAGE, *path.relative_to(folder).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


@cache
def parsed(text):
    """What a module imports, inside of functions and for types alone, too: (module, name) or (module, None)."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = node.module if not node.level else f"a relative import of {node.module}"
            found |= {(whole, alias.name) for alias in node.names}
    return found


def imported(name, modules):
    """The modules that one imports."""
    return {inner if (inner := f"{module}.{one}") in modules else module for module, one in parsed(modules[name])}


def room_of(module):
    """The first part of a name behind the package's."""
    return module.split(".")[1] if "." in module else module


def wrong(modules):
    """What is wrong about the imports of a package, in words."""
    imports = {name: imported(name, modules) for name in modules}
    inside = {name: {one for one in found if one.split(".")[0] == PACKAGE} for name, found in imports.items()}
    try:
        tuple(graphlib.TopologicalSorter(inside).static_order())
    except graphlib.CycleError as error:
        yield f"circle: {' imports '.join(reversed(error.args[1]))}"
    for name, found in inside.items():
        room = room_of(name)
        if room not in ROOMS:
            yield f"no place for the room {room} of {name}"
            continue
        for one in found:
            if one not in modules:
                yield f"{name} imports {one}, which does not exist"
            elif room_of(one) in ROOMS and ROOMS.index(room_of(one)) < ROOMS.index(room):
                yield f"{name} imports {one}, against the direction of the rooms"
            elif (
                room in SEARCHING
                and room_of(one) in ("models", "captions", "scorers")
                and one not in (MEETING if room == "search" else (*MEETING, PAIR))
            ):
                yield f"{name} imports {one}, beside which it stands"
        if room in PLAIN:
            others = {one.split(".")[0] for one in imports[name]} - LIBRARIES - FOR_TYPES - {PACKAGE}
            for one in sorted(others):
                yield f"{name} imports {one}, and needs NumPy and SciPy alone"


def test_imports_point_one_way():
    modules = sources()
    assert len(modules) > 50
    assert {room_of(name) for name in modules} == set(ROOMS)
    assert list(wrong(modules)) == []


@pytest.mark.parametrize(
    ("module", "line", "message"),
    [
        ("search.holding", "from birnn_decode.search.bscd import bscd", r"circle: .*search.holding imports .*"),
        ("objective", "import birnn_decode.objective", "circle: birnn_decode.objective imports birnn_decode.objective"),
        (
            "search.holding",
            "def f():\n    from birnn_decode.request import Request",
            "search.holding imports birnn_decode.request, against",
        ),
        (
            "scorers.protocol",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from birnn_decode.search.tree import PrefixTree",
            "scorers.protocol imports birnn_decode.search.tree, against",
        ),
        ("evaluation.metrics", "from birnn_decode.cli import main", "evaluation.metrics imports .*cli, against"),
        ("template", "from birnn_decode import decode", "template imports birnn_decode, against"),
        ("search.sweep", "from birnn_decode.scorers import as_scorer", "search.sweep imports .*scorers, beside"),
        ("search.sweep", "from birnn_decode.scorers.pair import Pair", "search.sweep imports .*scorers.pair, beside"),
        ("search.sweep", "from birnn_decode.scorers.torch import TorchScorer", "imports .*scorers.torch, beside"),
        ("methods", "from birnn_decode import models", "methods imports birnn_decode.models, beside"),
        ("search.free", "import torch", "search.free imports torch, and needs NumPy"),
        ("request", "if False:\n    import transformers.models", "request imports transformers, and needs NumPy"),
        ("search.free", "from .tree import PrefixTree", "search.free imports a relative import of tree"),
        ("cli", "from birnn_decode.joint import joint_decode", "cli imports birnn_decode.joint, which does not exist"),
        ("guesses", "x = 1", "no place for the room guesses"),
    ],
)
def test_what_is_planted_is_found(module, line, message):
    modules = sources()
    name = f"{PACKAGE}.{module}"
    before = set(wrong(modules))
    modules[name] = f"{modules.get(name, '')}\n{line}\n"
    (found,) = [one for one in wrong(modules) if one not in before and re.search(message, one)]
    assert found
