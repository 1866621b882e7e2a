# ruff: noqa: INP001 - Sphinx finds it by its path
"""What the documentation draws and lists from the source, so that it can't drift: three directives.

``{store-states}`` draws the table of the store's transitions, ``{public-api}`` lists what is exported, and
``{sql-objects}`` the SQL's comments.
"""

from __future__ import annotations

import re
from collections import defaultdict
from enum import StrEnum
from fnmatch import fnmatch
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from docutils import nodes
from docutils.statemachine import StringList
from pydantic import BaseModel
from sphinx.directives.other import TocTree
from sphinx.util.docutils import SphinxDirective

import jamestronic_sdk
from jamestronic_sdk.store.protocol import TRANSITIONS, Signal, StoreStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sphinx.application import Sphinx

SQL = Path(__file__).parents[2] / "supabase" / "sql"

_WIDTH, _HEIGHT = 132, 44
_COLUMN, _ROW = 230, 150
_START = "start"
_SVG = (
    'role="img" aria-label="The statuses of the store and what leads from one to another" '
    'style="max-width:100%;height:auto;color:var(--color-foreground-primary,#222);font:13px sans-serif"'
)
_TIP = (
    '<defs><marker id="store-tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="currentColor"/></marker></defs>'
)


class Arrow(NamedTuple):
    """All signals that lead from one status to another."""

    source: str
    target: str
    label: str


def arrows(table: Mapping[tuple[StoreStatus | None, Signal], StoreStatus]) -> list[Arrow]:
    """The table's rows, those between the same two statuses together."""
    labels: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (source, signal), target in table.items():
        labels[source.value if source else _START, target.value].append(signal.value)
    return [Arrow(source, target, " / ".join(signals)) for (source, target), signals in labels.items()]


def _places(found: list[Arrow]) -> dict[str, tuple[float, float]]:
    """A column for each distance from the start; what nothing leaves stands in the last."""
    depth = {_START: 0}
    queue = [_START]
    for name in queue:
        for arrow in found:
            if arrow.source == name and arrow.target not in depth:
                depth[arrow.target] = depth[name] + 1
                queue.append(arrow.target)
    last = max(depth.values()) + 1
    sources = {arrow.source for arrow in found}
    columns: dict[int, list[str]] = defaultdict(list)
    for name, distance in depth.items():
        columns[distance if name in sources else last].append(name)
    tallest = max(len(names) for names in columns.values())
    return {
        name: (40 + column * _COLUMN, 150 + (index + (tallest - len(names)) / 2) * _ROW)
        for column, names in columns.items()
        for index, name in enumerate(names)
    }


def draw(table: Mapping[tuple[StoreStatus | None, Signal], StoreStatus]) -> str:
    """The transitions as SVG; every arrow carries its row of the table."""
    found = arrows(table)
    places = _places(found)
    width = max(x for x, _ in places.values()) + _WIDTH / 2 + 10
    height = max(y for _, y in places.values()) + 150
    pairs = {(arrow.source, arrow.target) for arrow in found}
    parts = [f'<svg viewBox="0 0 {width:g} {height:g}" {_SVG}>', _TIP]
    parts += [_arrow(arrow, places, is_double=(arrow.target, arrow.source) in pairs) for arrow in found]
    parts += [_node(name, *place) for name, place in places.items()]
    return "\n".join([*parts, "</svg>"])


def _node(name: str, x: float, y: float) -> str:
    if name == _START:
        return f'<circle cx="{x:g}" cy="{y:g}" r="9" fill="currentColor"/>'
    box = f'x="{x - _WIDTH / 2:g}" y="{y - _HEIGHT / 2:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="9"'
    return (
        f'<rect {box} fill="var(--color-background-secondary,#f5f5f5)" stroke="currentColor"/>'
        f'<text x="{x:g}" y="{y + 5:g}" text-anchor="middle" fill="currentColor" font-weight="bold">'
        f"{name}</text>"
    )


def _arrow(arrow: Arrow, places: Mapping[str, tuple[float, float]], *, is_double: bool) -> str:
    (x1, y1), (x2, y2) = places[arrow.source], places[arrow.target]
    if arrow.source == arrow.target:
        path, at = _loop(x1, y1, [y for x, y in places.values() if x == x1])
    else:
        # Bend to the right of the direction of travel, so that there and back do not lie on each other, and
        # far around what is skipped: above it from the start, below it from elsewhere, beside it in a column.
        length = max(1.0, ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5)
        bend = 46.0 if is_double else 0.0
        if abs(x2 - x1) > 1.5 * _COLUMN:
            rows = {y for _, y in places.values()}
            bend = (max(rows) - min(rows) + 210) * (-1 if arrow.source == _START else 1)
        elif abs(y2 - y1) > 1.5 * _ROW:
            bend = -190.0
        middle = ((x1 + x2) / 2 - (y2 - y1) / length * bend, (y1 + y2) / 2 + (x2 - x1) / length * bend)
        begin, end = _edge((x1, y1), middle, arrow.source), _edge((x2, y2), middle, arrow.target)
        path = f"M{begin[0]:g} {begin[1]:g} Q{middle[0]:g} {middle[1]:g} {end[0]:g} {end[1]:g}"
        part = 0.62 if x1 == x2 and not is_double else 0.5  # where the label stands
        at = tuple(
            (1 - part) ** 2 * a + 2 * part * (1 - part) * b + part**2 * c
            for a, b, c in zip(begin, middle, end, strict=True)
        )
    anchor = "middle" if abs(y2 - y1) <= 3 * abs(x2 - x1) else ("end" if at[0] < x1 else "start")
    data = " ".join(f'data-{key}="{escape(value)}"' for key, value in arrow._asdict().items())
    return (
        f'<path {data} d="{path}" fill="none" stroke="currentColor" marker-end="url(#store-tip)"/>'
        f'<text x="{at[0]:g}" y="{at[1] - 5:g}" text-anchor="{anchor}" fill="currentColor" '
        f'stroke="var(--color-background-primary,#fff)" stroke-width="5" paint-order="stroke">'
        f"{arrow.label}</text>"
    )


def _loop(x: float, y: float, column: list[float]) -> tuple[str, tuple[float, float]]:
    """From a node to itself: above the first of its column, below the last, at a corner of the others."""
    if min(column) < y < max(column):
        left, top = x - _WIDTH / 2, y - _HEIGHT / 2
        path = (
            f"M{left:g} {y - 8:g} C{left - 44:g} {top - 24:g} {left + 8:g} {top - 46:g} {left + 26:g} {top:g}"
        )
        return path, (left - 42, top - 20)
    sign = -1 if y == min(column) else 1
    edge, far = y + sign * _HEIGHT / 2, y + sign * (_HEIGHT / 2 + 38)
    path = f"M{x - 24:g} {edge:g} C{x - 34:g} {far:g} {x + 34:g} {far:g} {x + 24:g} {edge:g}"
    return path, (x, far + (6 if sign < 0 else 9))


def _edge(centre: tuple[float, float], towards: tuple[float, float], name: str) -> tuple[float, float]:
    """Where a line from a node's centre leaves the node."""
    half_x, half_y = (11.0, 11.0) if name == _START else (_WIDTH / 2, _HEIGHT / 2)
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    scale = min(half_x / abs(dx) if dx else 1e9, half_y / abs(dy) if dy else 1e9)
    return centre[0] + dx * scale, centre[1] + dy * scale


class SqlObject(NamedTuple):
    """One commented object of the database."""

    kind: str
    name: str
    comment: str
    file: str


_COMMENT = re.compile(
    r"^\s*comment on (?P<kind>schema|table|sequence|column|function|trigger|policy) (?P<name>.+?) is\s+"
    r"'(?P<text>(?:[^']|'')*)'",
    re.MULTILINE,
)
_TITLES = {
    "table": "Tables",
    "sequence": "Sequences",
    "column": "Columns with a story",
    "function": "Functions",
    "trigger": "Triggers",
    "policy": "Policies",
}


def sql_objects() -> list[SqlObject]:
    """What the SQL files say of what they make, in the order of the files."""
    return [
        SqlObject(match["kind"], " ".join(match["name"].split()), match["text"].replace("''", "'"), path.name)
        for path in sorted(SQL.glob("*.sql"))
        for match in _COMMENT.finditer(path.read_text())
    ]


def list_sql() -> str:
    """Every commented object as Markdown, by kind."""
    found = sql_objects()
    lines: list[str] = []
    for kind, title in _TITLES.items():
        lines += [f"## {title}", "", "| name | what it is | file |", "| --- | --- | --- |"]
        for one in found:
            if one.kind == kind:
                lines.append(f"| `{one.name}` | {one.comment.replace('|', '&#124;')} | `{one.file}` |")
        lines.append("")
    return "\n".join(lines)


_CHAPTERS = {
    "The client": ("client", "settings", "retry", "table"),
    "Sign-in": ("auth", "factors", "sessions"),
    "Tickets, notes and people": ("tickets", "notes", "profiles", "models", "admin"),
    "The live store": ("store",),
    "Errors": ("errors",),
    "More": (),
}
"""Title -> modules, or packages, whose exports it holds; the last takes what no other does."""


def list_api() -> str:
    """Every exported name as Markdown with autodoc's directives, by chapter, in the order of the exports."""
    chapters: dict[str, list[str]] = {title: [] for title in _CHAPTERS}
    home = {module: title for title, modules in _CHAPTERS.items() for module in modules}
    for module, names in jamestronic_sdk._HOMES.items():  # noqa: SLF001 - where each export lives
        chapters[home.get(module.split(".")[0], "More")] += names
    lines: list[str] = []
    for title, names in chapters.items():
        if names:
            lines += [f"## {title}", "", "```{eval-rst}", ".. currentmodule:: jamestronic_sdk", ""]
            lines += [line for name in names for line in _documented(name)]
            lines += ["```", ""]
    return "\n".join(lines)


def _documented(name: str) -> list[str]:
    found: object = getattr(jamestronic_sdk, name)
    if not isinstance(found, type):
        return [f".. autodata:: {name}", "   :no-value:", ""]
    kind = "exception" if issubclass(found, BaseException) else "class"
    options = ["   :members:"]
    if issubclass(found, BaseModel | StrEnum):
        options.append("   :undoc-members:")
    elif found.__bases__[0].__module__.startswith("jamestronic_sdk._"):
        options.append("   :inherited-members:")
    return [f".. auto{kind}:: {name}", *options, ""]


class Contents(TocTree):
    """``{toctree}`` that takes a pattern without a match as nothing."""

    def run(self) -> list[nodes.Node]:
        """List."""
        found = self.env.found_docs
        kept = [
            line
            for line in self.content
            if not set("*[") & set(line) or any(fnmatch(name, line) for name in found)
        ]
        self.content = StringList(kept)
        return super().run()


class StoreStates(SphinxDirective):
    """``{store-states}``."""

    def run(self) -> list[nodes.Node]:
        """Draw."""
        return [nodes.raw("", draw(TRANSITIONS), format="html")]


class _Listed(SphinxDirective):
    """A list that is written as Markdown."""

    source: Callable[[], str]

    def run(self) -> list[nodes.Node]:
        """List."""
        for path in (*SQL.glob("*.sql"), Path(jamestronic_sdk.__file__)):
            self.env.note_dependency(str(path))
        holder = nodes.section()
        holder.document = self.state.document
        self.state.nested_parse(StringList(type(self).source().splitlines()), 0, holder, match_titles=True)
        return holder.children


class SqlObjects(_Listed):
    """``{sql-objects}``."""

    source = staticmethod(list_sql)


class PublicApi(_Listed):
    """``{public-api}``."""

    source = staticmethod(list_api)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register."""
    app.add_directive("toctree", Contents, override=True)
    app.add_directive("store-states", StoreStates)
    app.add_directive("sql-objects", SqlObjects)
    app.add_directive("public-api", PublicApi)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
