"""The schema of the local Auth server, as application SQL sees it."""

from __future__ import annotations

import uuid

import psycopg
import pytest
from local_auth_support import Api


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (None, None, None, None)),
        ({"request.jwt.claims": ""}, (None, None, None, None)),
        ({"request.jwt.claims": '{"role": "anon"}'}, (None, "anon", None, {"role": "anon"})),
        (
            {"request.jwt.claims": '{"sub": "11111111-1111-4111-8111-111111111111", "email": "a@b.test"}'},
            (
                uuid.UUID("11111111-1111-4111-8111-111111111111"),
                None,
                "a@b.test",
                {"sub": "11111111-1111-4111-8111-111111111111", "email": "a@b.test"},
            ),
        ),
        (
            {"request.jwt.claims": '{"role": "anon"}', "request.jwt.claim.role": "service_role"},
            (None, "service_role", None, {"role": "anon"}),
        ),
        (
            {"request.jwt.claims": '{"role": "anon"}', "request.jwt.claim": '{"role": "x"}'},
            (None, "anon", None, {"role": "x"}),
        ),
    ],
)
async def test_sql_helpers_read_the_request(
    api: Api, settings: dict[str, str], expected: tuple[object, ...]
) -> None:
    """auth.uid(), role(), email() and jwt(), for every role, and again after the transaction."""
    async with api.database("postgres") as database:
        async with database.transaction():
            for name, value in settings.items():
                await database.execute("select set_config(%s, %s, true)", [name, value])
            await database.execute("set local role anon")
            row = await database.execute("select auth.uid(), auth.role(), auth.email(), auth.jwt()")
            assert expected == await row.fetchone()
        row = await database.execute("select auth.uid(), auth.role(), auth.email(), auth.jwt()")
        assert await row.fetchone() == (None, None, None, None)


async def test_sub_that_is_no_uuid_raises(api: Api) -> None:
    """22P02, which PostgREST answers with 400."""
    async with api.database("postgres") as database, database.transaction(force_rollback=True):
        await database.execute("""select set_config('request.jwt.claims', '{"sub": "somebody"}', true)""")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            await database.execute("select auth.uid()")


async def test_api_roles_read_nothing_of_auth(api: Api) -> None:
    """Not even the service role; `postgres` reads, and writes nothing."""
    async with api.database("postgres") as database:
        tables = await database.execute(
            "select relname, relrowsecurity, pg_get_userbyid(relowner) from pg_class"
            " where relnamespace = 'auth'::regnamespace and relkind = 'r' order by 1"
        )
        found = await tables.fetchall()
        assert [name for name, _, _ in found] == [
            "audit_log_entries", "flow_state", "identities", "mfa_amr_claims", "mfa_challenges",
            "mfa_factors", "one_time_tokens", "refresh_tokens", "sessions", "users",
        ]  # fmt: skip
        assert {(True, "supabase_auth_admin")} == {(secured, owner) for _, secured, owner in found}
        rights = await database.execute(
            "select distinct grantee::text, privilege_type::text, table_name::text = 'users' from"
            " information_schema.role_table_grants"
            " where table_schema = 'auth' and grantee <> 'supabase_auth_admin'"
        )
        assert {
            ("postgres", "SELECT", True),
            ("postgres", "SELECT", False),
            ("postgres", "REFERENCES", True),
            ("postgres", "TRIGGER", True),
        } == set(await rights.fetchall())


async def test_application_tables_may_reference_users(api: Api) -> None:
    """A foreign key that cascades, made by `postgres`."""
    person = await api.person()
    async with api.database("postgres") as database:
        await database.execute(
            "create table public.followers (user_id uuid references auth.users (id) on delete cascade)"
        )
        try:
            await database.execute("insert into public.followers values (%s)", [person.id])
            await api.admin("DELETE", f"/admin/users/{person.id}")
            rows = await database.execute("select from public.followers")
            assert rows.rowcount == 0
        finally:
            await database.execute("drop table public.followers")
