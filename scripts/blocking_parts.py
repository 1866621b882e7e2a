# ruff: noqa: INP001 - a script, no package
"""Write ``jamestronic_sdk/blocking/_parts.py`` from the async parts: same signatures, same words.

Run it after a change of a part: ``python scripts/blocking_parts.py``. A test compares the file with what
this would write, so the two faces can't drift apart.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "src" / "jamestronic_sdk"
TARGET: Final = PACKAGE / "blocking" / "_parts.py"

# Module and classes, in the order in which they are written.
PARTS: Final = (
    ("admin", ("Admin",)),
    ("factors", ("Factors",)),
    ("auth", ("Auth",)),
    ("notes", ("Notes",)),
    ("profiles", ("Profiles",)),
    ("table", ("Table",)),
    ("tickets", ("Tickets",)),
    ("store.commands", ("StoreCommands",)),
)

# A class whose methods a part inherits, and its module.
INHERITED: Final = {"Auth": ("_session_keeper", "SessionKeeper")}

# What these async methods and properties answer is wrapped, too.
WRAPPED: Final = frozenset({"AuthChanges", "RowPages", "RowQuery"})

# The watchdog, and what parts of Auth share: never a program's.
LEFT_OUT: Final = frozenset({"in_own_name", "keep_fresh", "replace_while_locked"})

# Imported in any case.
IMPORTED: Final = frozenset({"Final", "Generic", "TYPE_CHECKING", "TicketT", "override"})

HEAD: Final = '''\
"""Parts of the blocking client, written by ``scripts/blocking_parts.py`` from the async ones.

Promises:
    Each method is the async one of the same name and signature, awaited on the client's own thread.
"""

from __future__ import annotations

'''


def main() -> None:
    """Write the file."""
    TARGET.write_text(formatted(source()))


def formatted(text: str) -> str:
    """As ruff wants it."""
    for command in (["check", "--quiet", "--fix", "--select", "I", "--exit-zero"], ["format"]):
        line = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(TARGET), "-"]
        text = subprocess.run(  # noqa: S603 - our own command
            line, input=text, capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
    return text


def source() -> str:
    """The file's text, not formatted."""
    imports = _Imports()
    bodies = [_class(module, name, imports) for module, names in PARTS for name in names]
    names = sorted(name for _, names in PARTS for name in names)
    return "\n".join([HEAD, imports.text("".join(bodies)), f"__all__ = {names!r}".replace("'", '"'), *bodies])


class _Imports:
    """Where the names that signatures use come from."""

    def __init__(self) -> None:
        self._homes: dict[str, str] = {}

    def learn(self, module: str, tree: ast.Module) -> None:
        """Take over what a module imports and defines."""
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
                self._homes.update({alias.name: node.module for alias in node.names})
        for node in tree.body:
            match node:
                case ast.ClassDef(name=name):
                    self._homes[name] = f"jamestronic_sdk.{module}"
                case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                    self._homes[name] = f"jamestronic_sdk.{module}"
                case _:
                    pass

    def text(self, body: str) -> str:
        """Import statements for what the body uses."""
        written = {name for _, names in PARTS for name in names}
        used = set(re.findall(r"[A-Za-z_]\w*", _code_only(body)))
        lazy: dict[str, list[str]] = {}
        for name in sorted(used - written - WRAPPED):
            if name in self._homes and name not in IMPORTED:
                lazy.setdefault(self._homes[name], []).append(name)
        lines = [
            "from typing import TYPE_CHECKING, Final, Generic",
            "from typing_extensions import override",
            f"from jamestronic_sdk.blocking._streams import {', '.join(sorted(WRAPPED & used))}",
            "from jamestronic_sdk.models import TicketT",
        ]
        eager = sorted(set(re.findall(r"=\s?([A-Z][A-Z_]+)\b", _code_only(body))))
        for name in eager:
            home = self._homes[name]
            lazy[home].remove(name)
            lines.append(f"from {home} import {name}")
        lines += ["if TYPE_CHECKING:"]
        lines += ["    import builtins"] if "builtins." in body else []
        lines += [f"    from {home} import {', '.join(n)}" for home, n in sorted(lazy.items()) if n]
        lines += [
            *(f"    import jamestronic_sdk.{module} as {_alias(module)}" for module, _ in PARTS),
            "    from jamestronic_sdk.blocking._portal import Portal",
        ]
        return "\n".join(lines) + "\n"


def _path(module: str) -> Path:
    return PACKAGE / f"{module.replace('.', '/')}.py"


def _alias(module: str) -> str:
    return f"_{module.rpartition('.')[2]}"


def _code_only(text: str) -> str:
    return re.sub(r'"""[\s\S]*?"""', "", text)


def _class(module: str, name: str, imports: _Imports) -> str:
    tree = ast.parse(_path(module).read_text())
    imports.learn(module, tree)
    node = next(one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name)
    generic = "(Generic[TicketT])" if any("Generic" in ast.unparse(base) for base in node.bases) else ""
    face = f"{_alias(module)}.{name}" + ("[TicketT]" if generic else "")
    lines = [
        f"class {name}{generic}:",
        _docstring(node, "    "),
        '    __slots__ = ("_face", "_portal")',
        f"    def __init__(self, face: {face}, portal: Portal) -> None:",
        "        self._face: Final = face",
        "        self._portal: Final = portal",
        "    @override",
        "    def __repr__(self) -> str:",
        "        return self._portal.read(self._face.__repr__)",
    ]
    for member in [*_inherited(name, imports), *node.body]:
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not (
            member.name.startswith("_") or member.name in LEFT_OUT
        ):
            lines += _method(member)
    return "\n".join([*lines, ""])


def _inherited(name: str, imports: _Imports) -> list[ast.stmt]:
    if name not in INHERITED:
        return []
    module, base = INHERITED[name]
    tree = ast.parse(_path(module).read_text())
    imports.learn(module, tree)
    return next(one.body for one in tree.body if isinstance(one, ast.ClassDef) and one.name == base)


def _method(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    answers = ast.unparse(node.returns) if node.returns else "None"
    is_property = any(ast.unparse(one) == "property" for one in node.decorator_list)
    passed_on = _passed_on(node.args)
    look = f"self._face.{node.name}"
    if is_property:
        look = f"lambda: {look}"
    elif passed_on:
        look = f"lambda: {look}({passed_on})"
    if isinstance(node, ast.AsyncFunctionDef):
        body = f"return self._portal.run({look})"
    else:
        body = f"self._portal.read({look})"
        if answers.partition("[")[0] in WRAPPED | {name for _, names in PARTS for name in names}:
            body = f"{answers.partition('[')[0]}({body}, self._portal)"
        body = f"return {body}"
    if answers == "None":
        body = body.removeprefix("return ")
    return [
        *(["    @property"] if is_property else []),
        f"    def {node.name}({ast.unparse(node.args)}) -> {answers}:",
        _docstring(node, "        "),
        f"        {body}",
    ]


def _passed_on(arguments: ast.arguments) -> str:
    given = [one.arg for one in (*arguments.posonlyargs, *arguments.args)][1:]
    given += [f"{one.arg}={one.arg}" for one in arguments.kwonlyargs]
    if arguments.kwarg:
        given.append(f"**{arguments.kwarg.arg}")
    return ", ".join(given)


def _docstring(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, indent: str) -> str:
    text = ast.get_docstring(node, clean=True) or ""
    for pattern, plain in (
        (r"\bawait ", ""),
        (r"\basync (with|for)\b", r"\1"),
        (r"\baclose\b", "close"),
    ):
        text = re.sub(pattern, plain, text)
    end = f"\n{indent}" if "\n" in text else ""
    lines = [f"{indent}{line}" if line else "" for line in f'"""{text}{end}"""'.splitlines()]
    # The closing quotes came with their own indent.
    if end:
        lines[-1] = f'{indent}"""'
    return "\n".join(lines)


if __name__ == "__main__":
    main()
