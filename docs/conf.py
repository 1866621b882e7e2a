# ruff: noqa: INP001 - Sphinx runs it by itself
"""Sphinx: ``make docs``. Everything is built from this checkout, without the network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import jamestronic_sdk

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "jamestronic_sdk"
author = "JamesTronic"
project_copyright = "JamesTronic, MIT licence"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "generated",
]
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
html_title = "jamestronic_sdk"
html_static_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 90

# Our own names must resolve. Those of others can't without their inventories, and the build is offline.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!jamestronic_sdk\.).*"),
    # Private names and type variables in signatures: nobody looks them up.
    ("py:class", r"jamestronic_sdk\.(.*\.)?_.*"),
    ("py:class", r"jamestronic_sdk\..*\.(\w+T|EventCallback)"),
]

# Where the source says `jamestronic_sdk.models.Ticket`, readers know `jamestronic_sdk.Ticket`.
PUBLIC = frozenset(jamestronic_sdk.__all__)


def _public_name(app: Sphinx, env: BuildEnvironment, node: Any, contnode: Element) -> Element | None:  # noqa: ANN401
    """Link a name by where programs import it from."""
    target = str(node.get("reftarget", "")).rpartition(".")[2]
    if node.get("refdomain") != "py" or target not in PUBLIC:
        return None
    wanted = f"jamestronic_sdk.{target}"
    if node["reftarget"] == wanted:
        return None
    domain = env.domains["py"]
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", wanted, node, contnode)


def setup(app: Sphinx) -> None:
    """Hook in."""
    app.connect("missing-reference", _public_name)
