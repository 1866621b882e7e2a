"""The rooms: who may import whom, and what the pure core may not touch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import jamestronic_sdk
from jamestronic_sdk.realtime.channels import POOL_TOPIC
from jamestronic_sdk.store import messages

PACKAGE = Path(jamestronic_sdk.__file__).parent
ROOT = PACKAGE.parent.parent
PURE = [
    PACKAGE / "store" / f"{name}.py"
    for name in (
        "engine",
        "classify",
        "coalesce",
        "protocol",
        "messages",
        "events",
        "views",
        "seen",
        "overlay",
        "proof",
        "tombstones",
        "ledger",
        "board",
    )
]
CLIENT_LIBRARY = [
    path
    for path in PACKAGE.rglob("*.py")
    if not {"local", "cli"} & set(path.relative_to(PACKAGE).parts)
    and path.name not in {"__main__.py", "testing.py"}
]


def imported(path: Path, *, at_run_time: bool = False) -> set[str]:
    """The modules that a file imports; with ``at_run_time`` without those for type checkers only."""
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    if at_run_time:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                skipped.update(ast.walk(node))
    names: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.stem)
def test_the_pure_core_has_no_io_no_clock_and_no_chance(path: Path) -> None:
    forbidden = {
        "asyncio",
        "time",
        "random",
        "socket",
        "httpx",
        "websockets",
        "logging",
        "realtime",
        "supabase",
    }
    assert not {name.partition(".")[0] for name in imported(path)} & forbidden


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.stem)
def test_the_pure_core_imports_only_the_pure_core(path: Path) -> None:
    allowed = {f"jamestronic_sdk.store.{pure.stem}" for pure in PURE}
    allowed |= {"jamestronic_sdk.models", "jamestronic_sdk.errors", "jamestronic_sdk._inputs"}
    ours = {name for name in imported(path, at_run_time=True) if name.startswith("jamestronic_sdk")}
    assert ours <= allowed


@pytest.mark.parametrize("path", CLIENT_LIBRARY, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_client_library_does_not_know_what_is_built_on_it(path: Path) -> None:
    rooms = {tuple(name.split(".")[:2]) for name in imported(path)}
    assert not rooms & {("jamestronic_sdk", above) for above in ("local", "cli", "testing")}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_a_module_is_one_idea(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 800 or "written by ``scripts/" in lines[0]


def test_the_map_of_rooms_names_every_module() -> None:
    known = (ROOT / "docs" / "architecture.md").read_text().split()
    for path in CLIENT_LIBRARY:
        if path.name != "__init__.py":
            assert path.name in known, f"docs/architecture.md lacks {path.relative_to(PACKAGE)}"


def test_the_pure_core_names_the_pool_as_realtime_does() -> None:
    assert messages._POOL_TOPIC == POOL_TOPIC


@pytest.mark.parametrize(
    ("room", "above"),
    [
        ("models.py", ("errors", "auth", "client", "tickets", "store", "realtime")),
        ("errors.py", ("models", "auth", "client", "tickets", "store", "realtime")),
        ("realtime", ("store", "client", "auth", "tickets", "profiles")),
        ("store", ("client", "blocking", "cli")),
        ("auth.py", ("client", "store", "realtime", "tickets")),
        ("tickets.py", ("client", "store", "realtime")),
        ("notes.py", ("client", "store", "realtime", "blocking")),
        ("table.py", ("client", "store", "realtime", "tickets", "blocking")),
        ("factors.py", ("client", "store", "realtime", "tickets", "auth", "blocking")),
        ("client.py", ("blocking", "cli")),
        ("_http.py", ("client", "auth", "tickets", "store", "realtime", "blocking")),
        ("_telemetry.py", ("client", "auth", "tickets", "store", "realtime", "blocking", "_http")),
        ("_wake.py", ("client", "auth", "tickets", "store", "realtime", "blocking", "_http")),
        ("local", ("cli", "testing", "blocking")),
        ("testing.py", ("cli",)),
        ("profiles.py", ("client", "store", "realtime", "tickets")),
    ],
)
def test_imports_run_downward_only(room: str, above: tuple[str, ...]) -> None:
    place = PACKAGE / room
    for path in [place] if place.suffix else place.rglob("*.py"):
        for name in imported(path, at_run_time=True):
            parts = name.split(".")
            if parts[0] == "jamestronic_sdk" and len(parts) > 1:
                assert parts[1] not in above, f"{path.name} imports {name}"


def test_the_public_face_is_explicit_sorted_and_complete() -> None:
    names = jamestronic_sdk.__all__
    assert list(names) == sorted(names)
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(jamestronic_sdk, name).__doc__, f"{name} has no docstring"


def test_the_packaged_sql_is_the_repositorys() -> None:
    from jamestronic_sdk import sql  # noqa: PLC0415

    names = sorted(path.name for path in (ROOT / "supabase" / "sql").glob("*.sql"))
    assert [file.name for file in sql.files()] == names
