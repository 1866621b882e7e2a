"""The `jamestronic` command on a running stack: seed, and check."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from jamestronic_sdk.cli import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator


def jamestronic(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jamestronic_sdk", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, **env},
    )


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, str]]:
    """A detached ephemeral stack's settings, by the command alone."""
    started = jamestronic("local", "start", "--detach", "--ephemeral", "--port", "0")
    assert started.returncode == 0, started.stderr
    line = next(line for line in started.stdout.splitlines() if line.startswith("Data in "))
    folder = line.removeprefix("Data in ").removesuffix(" (removed when it stops)")
    printed = jamestronic("local", "env", "--data-dir", folder).stdout
    settings = dict(line.removeprefix("export ").split("=", 1) for line in printed.splitlines())
    yield {**{name: value.strip("'") for name, value in settings.items()}, "JAMESTRONIC_DATA_DIR": folder}
    assert "no process is left" in jamestronic("local", "stop", "--data-dir", folder).stdout


def test_seed_makes_people_and_tickets_once(running: dict[str, str]) -> None:
    first = jamestronic("local", "seed", **running)
    assert first.returncode == 0, first.stderr
    assert "technician  ben@jamestronic.test" in first.stdout
    assert "12 tickets." in first.stdout
    again = jamestronic("local", "seed", **running)
    assert again.returncode == ExitCode.CONFLICT
    assert again.stderr.startswith("ConflictError: ")
    assert again.stderr.count("\n") == 1


def test_check_says_what_is_missing(running: dict[str, str]) -> None:
    """Exit code 0 when nothing is; the URL may come from DATABASE_URL."""
    fine = jamestronic("sql", "check", **running)
    assert (fine.returncode, fine.stdout) == (0, "The database has the SQL of this version.\n")

    with psycopg.connect(running["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("drop function public.tickets_digest")
    broken = jamestronic("sql", "check", running["DATABASE_URL"])
    assert broken.returncode == 1
    assert broken.stdout == "missing   060_sync.sql         function public.tickets_digest\n"
