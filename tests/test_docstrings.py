"""Docstrings: every public name says what it does, takes, returns and raises, and shows an example that runs."""

import ast
import doctest
import functools
import importlib
import importlib.util
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import birnn_decode

ROOT = Path(__file__).parents[1]
TORCH = importlib.util.find_spec("torch") is not None
NEED_TORCH = ("birnn_decode.models", "birnn_decode.evaluation", "birnn_decode.training")
PUBLIC = [
    "birnn_decode",
    "birnn_decode.scorers",
    "birnn_decode.vocabularies",
    "birnn_decode.lines",
    "birnn_decode.captions",
    "birnn_decode.molecules",
    "birnn_decode.datasets",
    "birnn_decode.record",
    *(NEED_TORCH if TORCH else ()),
]
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Example", "Examples", "Note", "References")
# A summary is an order: "Return …", not "Returns …" and not "The …".
NO_ORDER = re.compile(r"(A|An|The|This|What|Whether|How|It|[A-Z][a-z]*[^s\W]s)\b")


def public_objects():
    """Each public function and class once, by the first name that it has."""
    found = {}
    for module in map(importlib.import_module, PUBLIC):
        for name in module.__all__:
            public = getattr(module, name)
            if inspect.isfunction(public) or inspect.isclass(public):
                found.setdefault(public, f"{module.__name__}.{name}")
    return {name: public for public, name in found.items()}


def methods_of(cls):
    """The public methods and properties that a class has of its own or from a private base class.

    With each comes whether it is a property, and whether another class explains it: the protocol or a base class.
    """
    own = [base for base in reversed(cls.__mro__) if base is cls or base.__name__.startswith("_")]
    for name, member in {name: member for base in own for name, member in vars(base).items()}.items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        function = getattr(function, "func", function)  # a cached property
        if not name.startswith("_") and inspect.isfunction(function) and function.__doc__:
            inherited = any(name in vars(base) for base in cls.__mro__ if base not in own)
            explained = inherited or (name in PROTOCOL and cls is not birnn_decode.Scorer)
            yield name, function, isinstance(member, property | functools.cached_property), explained


# The members of a scorer are explained by the protocol; a class that has them says in one line what it does there.
PROTOCOL = ("encode", "start", "step", "select", "join", "steps", "score", "state_bytes", "combine")
OBJECTS = public_objects()
CLASSES = {name: public for name, public in OBJECTS.items() if inspect.isclass(public)}
METHODS = {f"{name}.{method}": rest for name, cls in CLASSES.items() for method, *rest in methods_of(cls)}
CALLED = {name: public for name, public in OBJECTS.items() if inspect.isfunction(public)} | {
    name: function for name, (function, is_property, explained) in METHODS.items() if not is_property and not explained
}


def sections_of(public):
    """The text of each section of a docstring; that before the first one is under ""."""
    found, current = {"": ""}, ""
    for line in (inspect.getdoc(public) or "").splitlines():
        if (heading := line.removesuffix(":")) in SECTIONS and line.endswith(":"):
            current = heading
            found[current] = ""
        else:
            found[current] += line + "\n"
    return found


def entries(section):
    """The names that a section such as Args explains: "name: …" or "name (type): …", several with commas."""
    lines = [line for line in section.splitlines() if re.match(r" {4}\S", line)]
    names = [re.match(r"\s+([*\w., `]+?)\s*(\([^)]*\))?:(\s|$)", line) for line in lines]
    return {name.strip(" *`") for match in names if match for name in match[1].split(",")}


def body_of(function):
    return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]


def own_nodes(function):
    """The statements of a function, without those of functions inside of it."""
    todo = list(body_of(function).body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            todo.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("name", [*OBJECTS, *METHODS])
def test_the_summary_is_one_line(name):
    public = OBJECTS.get(name) or METHODS[name][0]
    lines = (inspect.getdoc(public) or "").splitlines()
    assert lines, "no docstring"
    assert len(lines[0]) <= 80
    assert lines[0].endswith(".")
    assert lines[1:2] in ([], [""])


@pytest.mark.parametrize("name", CALLED)
def test_the_summary_is_an_order(name):
    summary = inspect.getdoc(CALLED[name]).splitlines()[0]
    assert not NO_ORDER.match(summary), summary


@pytest.mark.parametrize("name", CALLED)
def test_parameters_are_explained(name):
    """A function with a signature of its own may name its keywords together, as it takes them."""
    function = CALLED[name]
    code = function.__code__
    both = code.co_flags & inspect.CO_VARARGS, code.co_flags & inspect.CO_VARKEYWORDS
    written = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + sum(map(bool, both))]
    possible = [{*taken} - {"self", "cls"} for taken in (inspect.signature(function).parameters, written)]
    assert entries(sections_of(function).get("Args", "")) in possible


@pytest.mark.parametrize("name", CLASSES)
def test_fields_and_arguments_of_classes_are_explained(name):
    cls = CLASSES[name]
    sections = sections_of(cls)
    explained = entries(sections.get("Args", "")) | entries(sections.get("Attributes", ""))
    if issubclass(cls, dict):  # a TypedDict
        assert set(cls.__annotations__) <= explained
    elif cls.__init__ is not object.__init__ and not getattr(cls, "_is_protocol", False) and not issubclass(cls, str):
        taken = inspect.signature(cls).parameters.values()
        assert {one.name for one in taken if one.kind is not one.VAR_KEYWORD} <= explained


@pytest.mark.parametrize("name", CALLED)
def test_what_is_returned_is_said(name):
    function = CALLED[name]
    returned = inspect.signature(function).return_annotation
    sections = sections_of(function)
    if returned not in (None, "None", inspect.Signature.empty, "NoReturn", "Iterator[None]"):
        assert {"Returns", "Yields"} & {*sections}


@pytest.mark.parametrize("name", CALLED)
def test_what_is_raised_is_said(name):
    """Errors that the body itself raises; those of what it calls may stand there too."""
    nodes = [node.exc for node in own_nodes(CALLED[name]) if isinstance(node, ast.Raise) and node.exc is not None]
    kinds = {ast.unparse(node.func if isinstance(node, ast.Call) else node) for node in nodes}
    kinds = {kind for kind in kinds if kind.endswith(("Error", "Exception")) and kind != "NotImplementedError"}
    assert kinds <= entries(sections_of(CALLED[name]).get("Raises", ""))


@pytest.mark.parametrize("name", OBJECTS)
def test_there_is_an_example(name):
    sections = sections_of(OBJECTS[name])
    assert ">>>" in sections.get("Example", "") + sections.get("Examples", "")


def modules():
    """The names of all modules, none of them imported: some need packages that are not installed."""
    folder = Path(birnn_decode.__file__).parent
    names = [".".join(path.relative_to(folder.parent).with_suffix("").parts) for path in sorted(folder.rglob("*.py"))]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("name", modules())
def test_examples_run(name, tmp_path, monkeypatch):
    """Without PyTorch, an example ends where a package is missing."""
    try:
        module = importlib.import_module(name)
    except (ModuleNotFoundError, SystemExit):
        pytest.skip("a package that this module needs is not installed")
    monkeypatch.chdir(tmp_path)
    runner = doctest.DebugRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in doctest.DocTestFinder().find(module):
        try:
            runner.run(test)
        except doctest.DocTestFailure as failure:
            pytest.fail(f"{test.name}: {failure.example.source}expected\n{failure.example.want}got\n{failure.got}")
        except doctest.UnexpectedException as failure:
            if TORCH or not issubclass(failure.exc_info[0], ModuleNotFoundError):
                raise failure.exc_info[1] from None


def test_the_api_reference_has_every_public_name():
    """Names of the package are listed one by one; those of other modules stand there as a whole."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "api").glob("*.md")))
    listed = re.findall(r"auto(?:class|function):: (?:.*\.)?(\w+)$", text, re.MULTILINE)
    assert len(listed) == len({*listed})
    assert {*birnn_decode.__all__} - {"__version__"} <= {*listed}
    whole = re.findall(r"automodule:: ([\w.]+)\n(?!   :no-members:)", text)
    assert sorted([*whole, "birnn_decode"]) == sorted({*PUBLIC, *NEED_TORCH})


def test_the_overview_of_the_api_reference_has_every_name_of_the_package():
    overview = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   (\w+)$", overview, re.MULTILINE)
    assert sorted(listed) == sorted(name for name in birnn_decode.__all__ if name != "__version__")
