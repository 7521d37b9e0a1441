"""Settings of the documentation site: ``make docs`` builds it into build/docs."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.ext import napoleon
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms.post_transforms import SphinxPostTransform

sys.path.insert(0, str(Path(__file__).parent))

import command_line
import notebook_page

import birnn_decode
from birnn_decode.captions import make_scene
from birnn_decode.models import default_pair
from birnn_decode.show import trace_page

project = "birnn_decode"
author = "The birnn_decode developers"
project_copyright = author
release = birnn_decode.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_parser",
    "sphinx_copybutton",
]
html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"birnn_decode {release}"
html_show_sphinx = False
templates_path: list[str] = []
exclude_patterns: list[str] = []

nitpicky = True
default_role = "any"
# No documentation of other libraries is fetched, so that the site can be built without a network. Types in signatures
# that have no page are shown without a link; mypy has checked that there are such types.
nitpick_ignore_regex = [("any", r"(numpy|torch)\..*"), ("py:class", r".*")]

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Where a short name is looked for, in this order.
HOMES = (
    "birnn_decode",
    "birnn_decode.scorers",
    "birnn_decode.scorers.check.report",
    "birnn_decode.scorers.torch",
    "birnn_decode.scorers.recurrent",
    "birnn_decode.models",
    "birnn_decode.vocabularies",
    "birnn_decode.lines",
    "birnn_decode.molecules",
    "birnn_decode.captions",
    "birnn_decode.evaluation",
    "birnn_decode.training",
    "birnn_decode.Scorer",
    "birnn_decode.record",
    "birnn_decode.show",
)


class ShortNames(SphinxPostTransform):
    """Find what a short name stands for: `decode` is ``birnn_decode.decode``, not some method of that name.

    A type is documented where users import it from, and annotations name the module that defines it. Both kinds of
    references are completed here. In Markdown pages, code that is exactly a public name becomes a reference.
    """

    default_priority = 5  # before references are resolved

    def run(self, **kwargs: Any) -> None:
        """Complete the targets of all references of a page."""
        domain = self.env.domains.python_domain
        if not self.env.docname.startswith("api/"):
            for literal in list(self.document.findall(nodes.literal)):
                name = literal.astext().removesuffix("()")
                full = documented(name, domain.objects)
                if (
                    full
                    and full != project
                    and not isinstance(literal.parent, pending_xref | nodes.reference | nodes.title)
                ):
                    reference = pending_xref("", refdomain="py", reftype="obj", reftarget=full, refwarn=True)
                    literal.replace_self(reference)
                    reference += literal
        for node in self.document.findall(pending_xref):
            if node.get("reftype") != "any" and node.get("refdomain") != "py":
                continue
            target = node["reftarget"].removesuffix("()")
            own_module = f"{node.get('py:module')}.{target}"
            own_class = f"{node.get('py:module')}.{node.get('py:class')}.{target}"
            full = next((one for one in (own_class, own_module) if one in domain.objects), None)
            full = full or documented(target, domain.objects)
            if full:
                node["refdomain"], node["reftype"], node["reftarget"] = "py", "obj", full
                node.attributes.pop("refspecific", None)


class Docstring(napoleon.GoogleDocstring):
    """Read the docstring of a property like that of a method: with sections, and without a type before a colon."""

    def __init__(self, docstring: Any, config: Any = None, app: Any = None, what: str = "", *more: Any):
        super().__init__(docstring, config, app, "method" if what == "property" else what, *more)


napoleon.GoogleDocstring = Docstring


def documented(name: str, objects: dict[str, Any]) -> str | None:
    """The full name under which a public name, or a member of one, is documented."""
    if name in objects:
        return name
    parts = name.split(".")
    suffixes = [".".join(parts[begin:]) for begin in range(len(parts))]
    found = (f"{home}.{suffix}" for suffix in suffixes for home in HOMES if f"{home}.{suffix}" in objects)
    return next(found, None)


def sign(app: Sphinx) -> None:
    """Let a function's own ``__signature__`` count for more than its overloads."""
    for public in vars(birnn_decode).values():
        if inspect.isfunction(public) and hasattr(public, "__signature__"):
            analyzer = ModuleAnalyzer.for_module(public.__module__)
            analyzer.analyze()
            analyzer.overloads.pop(public.__qualname__, None)


def once(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave a name of the package out of the other modules that have it."""
    public = (getattr(birnn_decode, one) for one in birnn_decode.__all__)
    return True if what == "module" and any(one is member for one in public) else None


def write_formula(translator: Any, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers show without any script."""
    block = isinstance(node, nodes.math_block)
    formula = convert(node.astext(), display="block" if block else "inline")
    translator.body.append(re.sub(r"<mi>(log|exp)</mi>", r'\g<0><mspace width="0.17em"/>', formula))
    raise nodes.SkipNode


EXAMPLE = """```{raw} html
<p><strong><a href="trace-example.html">Open this search</a></strong> and step through it.</p>
```"""


def write_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add what the program says of its commands to the page of the command line, and a notebook to its page."""
    if docname == "cli":
        source[0] += command_line.page()
    if docname == "trace":  # the other readers of the Markdown file have no such page
        source[0] = source[0].replace("](trace.png)\n", f"](trace.png)\n\n{EXAMPLE}\n", 1)
    if docname == "notebook":
        source[0] += notebook_page.page(Path(__file__).parents[1] / "examples" / "look_into_a_search.ipynb")


def write_example(app: Sphinx, error: Exception | None) -> None:
    """Write the trace page that the page on traces links to."""
    if error is None:
        picture = make_scene(seed=2, number=4).picture()
        template = "a small green circle _ _ _ _ _ _ _ _ _ _ above a large yellow star"
        results = birnn_decode.compare(
            default_pair(), picture, template, ["urnn-f", "urnn-b", "rerank", "bscd"], record=True
        )
        trace_page(results, Path(app.outdir) / "trace-example.html", picture=picture)


def setup(app: Sphinx) -> None:
    """Connect what is above with Sphinx."""
    app.add_post_transform(ShortNames)
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula, None))
    app.connect("builder-inited", sign)
    app.connect("autodoc-skip-member", once)
    app.connect("source-read", write_pages)
    app.connect("build-finished", write_example)
