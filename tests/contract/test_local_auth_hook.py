"""The custom access token hook of the local Auth server, and what is never logged."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
from local_auth_support import PASSWORD, Api, refused, server_with
from supabase_auth.errors import AuthApiError

from jamestronic_sdk.local.auth.settings import AuthSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from supabase_auth import AsyncGoTrueClient


# --- the custom access token hook ------------------------------------------------------------------------
GRANT_HOOK: Final = "grant execute on function public.custom_access_token_hook to supabase_auth_admin"


@asynccontextmanager
async def hook(api: Api, body: str, *, grant: bool = True) -> AsyncGenerator[None]:
    """The hook with that PL/pgSQL body, in place of the application's own, for a while."""
    async with api.database("postgres") as database:
        rows = await database.execute(
            "select pg_get_functiondef(oid) from pg_proc where proname = 'custom_access_token_hook'"
        )
        own = await rows.fetchone()
        await database.execute(
            "create or replace function public.custom_access_token_hook(event jsonb) returns jsonb"
            f" language plpgsql set search_path = '' as $$ begin {body} end $$".encode()
        )
        await database.execute(
            "revoke execute on function public.custom_access_token_hook from public, supabase_auth_admin"
        )
        try:
            if grant:
                await database.execute(GRANT_HOOK)
            yield
        finally:
            if own is None:
                await database.execute("drop function public.custom_access_token_hook")
            else:
                await database.execute(own[0].encode())
                await database.execute(GRANT_HOOK)


async def test_hook_adds_a_claim_at_sign_in_and_refresh(api: Api) -> None:
    """It sees user, claims and method, and runs as supabase_auth_admin."""
    person = await api.person()
    body = """
        return jsonb_build_object('claims', event -> 'claims' || jsonb_build_object(
          'seen', event - 'claims' - 'metadata',
          'by', current_user,
          'about', event -> 'metadata' ->> 'name'));
    """
    async with hook(api, body):
        session = await api.sign_in(person)
        refreshed = (await api.refresh(session["refresh_token"])).json()

    for made, method in ((session, "password"), (refreshed, "token_refresh")):
        claims = api.claims(made)
        assert {"user_id": person.id, "authentication_method": method} == claims["seen"]
        assert (claims["by"], claims["about"]) == ("supabase_auth_admin", "custom-access-token")
        assert claims["amr"][0]["method"] == "password"


async def test_hook_that_auth_may_not_execute_is_off(api: Api) -> None:
    """Granting EXECUTE is how it is switched on."""
    async with hook(api, "raise exception 'never';", grant=False):
        session = await api.sign_in(await api.person())

    assert api.claims(session)["sub"] == session["user"]["id"]


async def test_refusal_of_the_hook_is_passed_on(api: Api, client: AsyncGoTrueClient) -> None:
    """Status and text are the hook's; nothing is left behind, and the refresh token is still good."""
    person = await api.person()
    session = await api.sign_in(person)
    body = """
        return '{"error": {"http_code": 403, "message": "Account is locked"}}'::jsonb;
    """
    async with hook(api, body):
        with pytest.raises(AuthApiError) as caught:
            await client.sign_in_with_password({"email": person.email, "password": PASSWORD})
        response = await api.refresh(session["refresh_token"])
    async with api.database() as database:
        sessions = await database.execute("select from auth.sessions where user_id = %s", [person.id])

    assert (caught.value.status, caught.value.message) == (403, "Account is locked")
    assert response.json() == {"code": "unknown", "message": "Account is locked"}
    assert "x-sb-error-code" not in response.headers
    assert sessions.rowcount == 1
    assert (await api.refresh(session["refresh_token"])).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        "raise exception 'inside';",
        "perform 1 / 0;",
        "return null;",
        "return '[]';",
        "return '{}';",
        """return '{"claims": null}';""",
        """return '{"claims": {"role": "postgres"}}';""",
        "return event #- '{claims,aal}';",
        """return jsonb_set(event, '{claims,exp}', '"soon"');""",
        "return jsonb_set(event, '{claims,exp}', 'true');",
        "return jsonb_set(event, '{claims,email}', 'null');",
    ],
)
async def test_hook_that_fails_or_forgets_claims_is_a_500(api: Api, body: str) -> None:
    """And its own text does not come out."""
    person = await api.person()
    async with hook(api, body):
        response = await api.call(
            "POST", "/token?grant_type=password", {"email": person.email, "password": PASSWORD}
        )

    refused(response, 500, "unexpected_failure")
    assert "inside" not in response.text


async def test_hook_that_takes_too_long_is_stopped(api: Api) -> None:
    """By the database, at the limit."""
    async with server_with(api, AuthSettings(hook_timeout=0.1)) as server:
        person = await server.person()
        async with hook(server, "perform pg_catalog.pg_sleep(60); return event;"):
            response = await server.call(
                "POST", "/token?grant_type=password", {"email": person.email, "password": PASSWORD}
            )

    refused(response, 500, "unexpected_failure")


async def test_times_from_the_hook_stay_integers(api: Api) -> None:
    """A jsonb value keeps 1.0; strict clients refuse a float."""
    body = "return jsonb_set(event, '{claims,exp}', ((event -> 'claims' ->> 'exp') || '.0')::jsonb);"
    async with hook(api, body):
        session = await api.sign_in(await api.person())

    assert isinstance(api.claims(session)["exp"], int)


# --- secrets ---------------------------------------------------------------------------------------------
async def test_no_secret_and_no_address_is_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Neither when it works nor when the hook or the database fails."""
    caplog.set_level("DEBUG", logger="jamestronic_sdk")
    person = await api.person()
    session = await api.sign_in(person)
    async with hook(api, "raise exception 'refused %', event;"):
        await api.refresh(session["refresh_token"])
    async with api.database() as database:
        await database.execute("""
            create function auth.explode() returns trigger language plpgsql as
            $$ begin raise exception 'refused %, %', new, old; end $$
        """)
        await database.execute(
            "create trigger explode before update on auth.sessions"
            " for each row execute function auth.explode()"
        )
        try:
            broken = await api.refresh(session["refresh_token"])
        finally:
            await database.execute("drop function auth.explode() cascade")

    refused(broken, 500, "unexpected_failure")
    assert len([record for record in caplog.records if record.name == "jamestronic_sdk.local.auth"]) == 2
    claims = api.claims(session)
    for secret in (
        person.email,
        claims["session_id"],
        session["refresh_token"],
        session["access_token"],
        PASSWORD,
        person.id,
    ):
        assert secret not in caplog.text
