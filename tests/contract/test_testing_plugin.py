"""The pytest plugin as its users have it: in a pytest of its own, and what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jamestronic_sdk

DOCS = Path(__file__).parents[2] / "docs" / "testing.md"
SOURCES = str(Path(jamestronic_sdk.__file__).parents[1])


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "-q", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def page_files() -> dict[str, str]:
    """The files of the worked example: blocks whose first line names them."""
    blocks = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return dict(blocks)


@pytest.mark.parametrize("scope", ["function", "session"])
def test_the_worked_example_passes(tmp_path: Path, scope: str) -> None:
    """Word by word, with a loop for each test and with one for all."""
    for name in ("workshop.py", "conftest.py", "pyproject.toml", "test_workshop.py"):
        (tmp_path / name).write_text(page_files()[name])
    done = run_pytest(tmp_path, "-o", f"asyncio_default_test_loop_scope={scope}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    assert "warning" not in done.stdout


def test_tables_of_a_programs_own_are_there_in_every_test(tmp_path: Path) -> None:
    """The second example of the page."""
    for name, file in (
        ("conftest_with_depots.py", "conftest.py"),
        ("pyproject.toml", "pyproject.toml"),
        ("test_depots.py", "test_depots.py"),
    ):
        (tmp_path / file).write_text(page_files()[name])
    done = run_pytest(tmp_path)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_each_test_finds_a_clean_stack_in_any_order(tmp_path: Path) -> None:
    """Rows, numbers, mail, faults and a changed schema of one test are not in the next."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["jamestronic_sdk.testing"]\n')
    (tmp_path / "test_clean.py").write_text(
        """
import asyncio

import psycopg
import pytest

from jamestronic_sdk import NewTicket


@pytest.mark.parametrize("number", range(4))
async def test_first_ticket(number, make_client):
    jt = await make_client("staff")
    ticket = await jt.tickets.create(NewTicket(title="first", appliance_type="oven"))
    assert ticket.number == 1001
    assert len(await jt.tickets.list()) == 1


def test_blocking(blocking_admin_client, blocking_technician_client, make_blocking_client):
    ticket = blocking_admin_client.tickets.create(NewTicket(title="first", appliance_type="oven"))
    assert ticket.number == 1001
    assert [seen.id for seen in blocking_technician_client.tickets.list()] == [ticket.id]
    assert make_blocking_client(None).auth.is_signed_in is False


async def test_schema(fresh_supabase, make_client):
    async with await psycopg.AsyncConnection.connect(fresh_supabase.database_url) as connection:
        await connection.execute("create table public.probe (id int)")
    await fresh_supabase.fault("errors", service="auth")


def test_nobody_is_there(fresh_supabase):
    with psycopg.connect(fresh_supabase.database_url) as connection:
        assert connection.execute("select count(*) from auth.users").fetchone() == (0,)
        assert connection.execute("select to_regclass('public.probe')").fetchone() == (None,)
    assert asyncio.run(fresh_supabase.faults()) == []
"""
    )
    options = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    done = run_pytest(tmp_path, *options)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plugin_is_asked_for(tmp_path: Path) -> None:
    """A project that only has the SDK installed gets no fixture and no stack."""
    (tmp_path / "test_nothing.py").write_text("def test_nothing(local_supabase):\n    pass\n")
    done = run_pytest(tmp_path, "-o", "asyncio_default_fixture_loop_scope=function")
    assert done.returncode == 1
    assert "fixture 'local_supabase' not found" in done.stdout
