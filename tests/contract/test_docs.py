"""What the documentation says is so: its code runs, its names exist, its pictures are drawn from the source."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import inspect
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from client_people import Person, Shop, open_shop
from sql_support import connect
from typer.main import get_command

import jamestronic_sdk
from jamestronic_sdk import ConflictError, JamesTronic, Role
from jamestronic_sdk.cli import app
from jamestronic_sdk.local.auth import totp
from jamestronic_sdk.local.seed import DEMO_PASSWORD, seed
from jamestronic_sdk.store.protocol import TRANSITIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import ModuleType

    from project import Project

    from jamestronic_sdk import Enrolment
    from jamestronic_sdk.local.stack import LocalSupabase

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
ALL = [ROOT / "README.md", *PAGES, ROOT / "CONTRIBUTING.md"]
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)

FOLLOWED = {
    "tutorial.md": "test_the_tutorial_followed_literally",
    "testing.md": "test_testing_plugin.py",
    "observability.md": "test_telemetry.py",
}
"""Pages whose blocks another test runs, and which: they are whole projects, or change the whole process."""

QUOTED = {"chaos.md": ROOT / "tests" / "chaos"}
"""Pages whose blocks are pieces of our own source, and where those stand."""


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of a page, without the indentation that a list gives them."""
    return [
        "\n".join(line.removeprefix(indent) for line in body.splitlines())
        for indent, found, body in BLOCK.findall(page.read_text())
        if found == language
    ]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def names_of(pages: list[Path]) -> Any:
    return pytest.mark.parametrize("page", pages, ids=map(name, pages))


@pytest.fixture(scope="module")
def generated() -> Iterator[ModuleType]:
    """The Sphinx extension of the docs."""
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        import generated  # noqa: PLC0415

        yield generated
    finally:
        sys.path.remove(str(ROOT / "docs" / "_ext"))


@pytest.fixture
async def shop(project: Project) -> AsyncIterator[Shop]:
    async with open_shop(project) as made:
        yield made


# --- code --------------------------------------------------------------------------------------------


def is_program(code: str) -> bool:
    """Whether it is a whole program, that stays until it is stopped."""
    return "asyncio.run(" in code


async def run(code: str, names: dict[str, Any]) -> None:
    """A block that may await at its top level, as in a notebook."""
    made = eval(compile(code, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307 - our own text
    if inspect.isawaitable(made):
        await made


def run_blocking(code: str, names: dict[str, Any]) -> None:
    exec(compile(code, "block", "exec"), names)  # noqa: S102 - our own text


def has_code(page: Path) -> bool:
    return page.name not in {*FOLLOWED, *QUOTED} and not all(map(is_program, blocks(page, "python")))


@names_of([page for page in ALL if has_code(page)])
async def test_the_code_of_a_page_runs(
    page: Path, project: Project, shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    codes = [code for code in blocks(page, "python") if not is_program(code)]
    monkeypatch.setenv("SUPABASE_URL", project.url)
    monkeypatch.setenv("SUPABASE_KEY", project.anon_key)
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", project.service_role_key)
    admin, technician = await shop.person(Role.ADMIN), await shop.person(Role.TECHNICIAN)
    await shop.service.tickets.create(title="something to read", priority="high")
    with_address = partial(_with_address, f"{uuid4().hex[:8]}@example.test")

    def code_from_the_app(enrolment: Enrolment) -> str:
        return totp.code_at(enrolment.secret, time.time())

    names: dict[str, Any] = {
        "EMAIL": admin.email,
        "PASSWORD": admin.password,
        "TECHNICIAN": technician.email,
        "TECHNICIAN_PASSWORD": technician.password,
        "FOLDER": tmp_path,
        "technician": await shop.profile_of(technician),
        "colleague": await shop.profile_of(await shop.person(Role.TECHNICIAN)),
        "code_from_the_app": code_from_the_app,
        "hashlib": hashlib,
        "draw": lambda *_, **__: None,
        "window": SimpleNamespace(is_closed=True),
    }
    async with JamesTronic.from_env() as jt:
        await jt.auth.sign_in(email=admin.email, password=admin.password)
        names["ticket"] = names["row"] = await jt.tickets.create(title="for the page")
        for code in codes:
            names["jt"] = jt
            if "jamestronic_sdk.blocking" in code and "await" not in code:
                await asyncio.to_thread(run_blocking, with_seeded_people(with_address(code), admin), names)
                # The blocking face's names are not the page's: what follows is asynchronous again.
                names["JamesTronic"] = JamesTronic
            else:
                await run(with_address(code), names)


def _with_address(address: str, code: str) -> str:
    """Invented addresses become new ones: the stack is shared, and an account can be made once."""
    return re.sub(r"[\w-]+@example\.org", address, code)


def with_seeded_people(code: str, person: Person) -> str:
    """The README's demo person becomes one that the shared stack has."""
    return code.replace("ben@jamestronic.test", person.email).replace(DEMO_PASSWORD, person.password)


@names_of(
    [page for page in ALL if any(map(is_program, blocks(page, "python"))) and page.name not in FOLLOWED]
)
async def test_a_whole_program_tells_an_assignment(page: Path, project: Project, shop: Shop) -> None:
    """The quick start, as its own process: it lists, and tells what the admin does meanwhile."""
    technician = await shop.person(Role.TECHNICIAN)
    profile = await shop.profile_of(technician)
    [program] = [code for code in blocks(page, "python") if is_program(code)]
    first = await shop.service.tickets.create(title="here before")
    await shop.service.tickets.assign(first, profile)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-c", with_seeded_people(program, technician)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "SUPABASE_URL": project.url, "SUPABASE_KEY": project.anon_key},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert first.label in (await process.stdout.readline()).decode()
            second = await shop.service.tickets.create(title="came later")
            second = await shop.service.tickets.assign(second, profile)
            told = (await process.stdout.readline()).decode()
    finally:
        process.kill()
        await process.wait()
    assert second.label in told
    assert "TicketAssigned" in told or "new for me" in told


@pytest.mark.parametrize("page", QUOTED)
def test_quotations_stand_in_the_source(page: str) -> None:
    there = {
        ast.dump(node)
        for path in QUOTED[page].rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    }
    for code in blocks(ROOT / "docs" / page, "python"):
        [statement] = ast.parse(code).body
        assert isinstance(statement, ast.Expr)
        assert ast.dump(statement.value) in there, code


def test_the_tutorial_followed_literally(unused_tcp_port: int) -> None:
    """Everything but the installing, which `make tutorial` does, too."""
    script = ROOT / "scripts" / "follow_tutorial.py"
    ended = subprocess.run(
        [sys.executable, str(script), "--installed", "--port", str(unused_tcp_port)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


# --- commands ----------------------------------------------------------------------------------------


def said_commands() -> list[tuple[str, list[str]]]:
    """Every `jamestronic ...` of the shell blocks: (page, words)."""
    return [
        (name(page), words.split())
        for page in ALL
        for block in blocks(page, "sh")
        for words in re.findall(r"\bjamestronic ((?:local|sql|demo|doctor|tickets|watch)[^\n)|#;]*)", block)
    ]


@pytest.mark.parametrize(("page", "words"), said_commands(), ids=str)
def test_every_command_exists_with_its_options(page: str, words: list[str]) -> None:
    command: Any = get_command(app)
    for word in words:
        if word.startswith("-"):
            options = {option for parameter in command.params for option in parameter.opts}
            assert word.split("=")[0] in options, f"{page}: {' '.join(words)}"
        elif hasattr(command, "commands"):
            assert word in command.commands, f"{page}: {' '.join(words)}"
            command = command.commands[word]


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        (name(page), target)
        for page in ALL
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {one for one in named if one[1] not in targets} == set()


# --- names -------------------------------------------------------------------------------------------


def test_every_public_name_is_in_the_reference_and_has_a_docstring(generated: ModuleType) -> None:
    listed = re.findall(r"^\.\. auto(?:class|exception|data):: (\w+)$", generated.list_api(), re.MULTILINE)
    assert sorted(listed) == sorted(jamestronic_sdk.__all__)
    found = {one: getattr(jamestronic_sdk, one) for one in listed}
    assert [one for one, what in found.items() if isinstance(what, type) and not inspect.getdoc(what)] == []


def test_every_error_is_in_the_table() -> None:
    table = (ROOT / "docs" / "errors.md").read_text()
    missing = [
        one
        for one in jamestronic_sdk.__all__
        if isinstance(found := getattr(jamestronic_sdk, one), type)
        and issubclass(found, BaseException)
        and f"`{one}`" not in table
    ]
    assert missing == []


def test_every_variable_is_in_the_settings() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    used = {
        variable
        for path in (ROOT / "src").rglob("*.py")
        for variable in re.findall(r'"((?:SUPABASE|JAMESTRONIC)_[A-Z_]+|DATABASE_URL)"', path.read_text())
    }
    assert used
    # What `jamestronic local env` prints for other programs, and names of the stack's own children.
    printed = {one for one in used if f"`{one}`" not in page}
    assert printed <= {
        "SUPABASE_PUBLISHABLE_KEY",
        "SUPABASE_SECRET_KEY",
        "SUPABASE_JWT_SECRET",
        "SUPABASE_DB_URL",
    }


def test_the_tests_that_prove_the_guarantees_exist() -> None:
    page = (ROOT / "docs" / "explanation" / "guarantees.md").read_text()
    proofs = page[page.index("## The proofs") :]
    named = set(re.findall(r"`(test_\w+)`", proofs))
    there = {
        found
        for path in (ROOT / "tests").rglob("test_*.py")
        for found in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert named - there == set()
    rows = re.findall(r"^\| (C\d) \| (.*) \|$", proofs, re.MULTILINE)
    assert [clause for clause, _ in rows] == ["C1", "C2", "C3", "C4", "C5", "C6", "C7"]
    assert all("`test_" in cells for _, cells in rows)


def test_paths_that_are_named_exist() -> None:
    named = {
        (name(page), path)
        for page in ALL
        for path in re.findall(
            r"`((?:src|tests|examples|supabase|scripts|docs)/[\w./-]+\w)`", page.read_text()
        )
    }
    made = {"supabase/migrations"}
    assert {one for one in named if one[1] not in made and not (ROOT / one[1]).exists()} == set()


def test_links_lead_somewhere() -> None:
    """Sphinx checks those inside docs/; these pages are read in the repository."""
    outside = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
    links = {
        (name(page), link)
        for page in outside
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    }
    assert len(links) > 20
    assert {one for one in links if not (ROOT / one[1]).exists()} == set()


def test_the_table_of_the_load_is_what_its_code_says() -> None:
    page = ROOT / "docs" / "explanation" / "capacity.md"
    names: dict[str, Any] = {}
    run_blocking(blocks(page, "python")[0], names)
    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) \| (\d+) \| ([\d,]+) \|", page.read_text(), re.MULTILINE)
    assert len(rows) == 4
    for tickets, changes, office, messages in rows:
        count = int(tickets.replace(",", ""))
        assert f"{names['peak_changes_per_second'](count):.1f}" == changes
        assert f"{names['peak_messages_per_second'](count, int(office)):,.0f}" == messages


# --- what is generated -------------------------------------------------------------------------------


def test_the_diagram_is_the_table(generated: ModuleType) -> None:
    drawn = {
        (source, target, signal)
        for source, target, label in re.findall(
            r'data-source="([^"]+)" data-target="([^"]+)" data-label="([^"]+)"', generated.draw(TRANSITIONS)
        )
        for signal in label.split(" / ")
    }
    assert drawn == {
        (source.value if source else "start", target.value, signal.value)
        for (source, signal), target in TRANSITIONS.items()
    }


def test_a_row_that_is_taken_from_the_table_is_gone_from_the_diagram(generated: ModuleType) -> None:
    (gone, signal), *_ = [
        key for key, target in TRANSITIONS.items() if target == "live" and key[0] == "polling"
    ]
    fewer = {key: target for key, target in TRANSITIONS.items() if key != (gone, signal)}
    arrow = 'data-source="polling" data-target="live"'
    assert arrow in generated.draw(TRANSITIONS)
    assert arrow not in generated.draw(fewer)


def test_every_object_of_the_database_is_in_the_list(
    generated: ModuleType, untouched_supabase: LocalSupabase
) -> None:
    """Not what the files say, but what the database has."""
    listed = {(one.kind, one.name.split("(")[0]) for one in generated.sql_objects()}
    with connect(untouched_supabase) as connection:
        rows = connection.execute(
            """
            select 'function' as kind, n.nspname || '.' || p.proname as name
            from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
            where n.nspname in ('public', 'private')
              and not exists (select from pg_depend as d where d.objid = p.oid and d.deptype = 'e')
            union
            select 'policy', policyname || ' on ' || schemaname || '.' || tablename from pg_policies
            where schemaname = 'public' or policyname like 'jamestronic%'
            union
            select 'table', schemaname || '.' || tablename from pg_tables where schemaname in ('public', 'private')
            """
        ).fetchall()
    made = {(row["kind"], row["name"]) for row in rows}
    assert made == {one for one in listed if one[0] in {"function", "table", "policy"}}


def test_the_seed_is_what_the_tutorial_shows() -> None:
    """The names in the tutorial are those of the seed; a change of either is noticed here."""
    page = (ROOT / "docs" / "tutorial.md").read_text()
    for person in ("ada", "ben", "cleo", "customer"):
        assert f"{person}@jamestronic.test" in page
    assert DEMO_PASSWORD in page
    assert seed.__doc__ is not None
    assert ConflictError.__name__ in seed.__doc__
