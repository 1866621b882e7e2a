"""Auth of the local stack, as hosted Auth answers: shapes by raw HTTP, behaviour by the stock client."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import bcrypt
import httpx
import psycopg
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer
from supabase_auth import AsyncGoTrueClient
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError

from jamestronic_sdk.local.auth.app import MISSING, make_app
from jamestronic_sdk.local.auth.settings import AuthSettings
from jamestronic_sdk.local.tokens import make_jwt, verify_jwt

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from jamestronic_sdk.local.context import LocalContext
    from jamestronic_sdk.local.stack import LocalSupabase

PASSWORD = "correct horse battery"
VERSION = {"X-Supabase-Api-Version": "2024-01-01"}
CHEAP_HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(rounds=4)).decode()
"""Of PASSWORD: a sign-in with it takes a millisecond."""


@dataclass(frozen=True)
class Person:
    id: str
    email: str


@dataclass(frozen=True)
class Api:
    """Raw HTTP to one Auth server, and the database behind it."""

    http: httpx.AsyncClient
    context: LocalContext

    async def call(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **options: Any
    ) -> httpx.Response:
        headers = dict(VERSION) | options.pop("headers", {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            options["json"] = body
        return await self.http.request(method, path, headers=headers, **options)

    async def admin(self, method: str, path: str, body: object = None, **options: Any) -> httpx.Response:
        return await self.call(method, path, body, token=self.context.service_role_key, **options)

    async def person(self, **fields: Any) -> Person:
        email = f"{uuid.uuid4().hex}@example.test"
        body = {"email": email, "password_hash": CHEAP_HASH, "email_confirm": True} | fields
        response = await self.admin("POST", "/admin/users", body)
        assert response.status_code == 200, response.text
        return Person(response.json()["id"], email)

    async def sign_in(self, person: Person) -> dict[str, Any]:
        response = await self.call(
            "POST", "/token?grant_type=password", {"email": person.email, "password": PASSWORD}
        )
        assert response.status_code == 200, response.text
        session: dict[str, Any] = response.json()
        return session

    async def refresh(self, refresh_token: str) -> httpx.Response:
        return await self.call("POST", "/token?grant_type=refresh_token", {"refresh_token": refresh_token})

    def claims(self, session: dict[str, Any]) -> dict[str, Any]:
        return verify_jwt(self.context.jwt_secret, session["access_token"])

    @asynccontextmanager
    async def database(self, role: str = "supabase_auth_admin") -> AsyncGenerator[psycopg.AsyncConnection]:
        async with await psycopg.AsyncConnection.connect(
            self.context.dsn(role), autocommit=True
        ) as connection:
            yield connection


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(local_supabase: LocalSupabase) -> AsyncGenerator[Api]:
    async with httpx.AsyncClient(base_url=f"{local_supabase.url}/auth/v1", timeout=30) as http:
        yield Api(http, local_supabase.context)


@asynccontextmanager
async def server_with(api: Api, settings: AuthSettings) -> AsyncGenerator[Api]:
    """Another Auth server over the same database."""
    async with (
        TestServer(make_app(api.context, settings)) as server,
        httpx.AsyncClient(base_url=str(server.make_url("")), timeout=30) as http,
    ):
        yield replace(api, http=http)


@asynccontextmanager
async def stock_client(api: Api, key: str) -> AsyncGenerator[AsyncGoTrueClient]:
    url = f"{api.context.url}/auth/v1"
    client = AsyncGoTrueClient(
        url=url, headers={"apikey": key, "Authorization": f"Bearer {key}"}, auto_refresh_token=False
    )
    async with client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def client(api: Api) -> AsyncGenerator[AsyncGoTrueClient]:
    async with stock_client(api, api.context.anon_key) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def admin(api: Api) -> AsyncGenerator[AsyncGoTrueClient]:
    async with stock_client(api, api.context.service_role_key) as made:
        yield made


def refused(response: httpx.Response, status: int, code: str) -> None:
    assert (status, code) == (response.status_code, response.json()["code"]), response.text
    assert code == response.headers["x-sb-error-code"]
    assert response.headers["X-Supabase-Api-Version"] == "2024-01-01"


# --- the server itself -----------------------------------------------------------------------------------


async def test_health_settings_and_keys_have_their_shapes(api: Api) -> None:
    """What clients and dashboards ask before anything else."""
    health = await api.call("GET", "/health")
    settings = (await api.call("GET", "/settings")).json()
    keys = await api.call("GET", "/.well-known/jwks.json")

    assert {"version", "name", "description"} == set(health.json())
    assert settings["external"]["email"] is True
    assert settings["external"]["phone"] is False
    assert (settings["disable_signup"], settings["mailer_autoconfirm"]) == (False, True)
    assert keys.json() == {"keys": []}
    assert keys.headers["Cache-Control"] == "public, max-age=600"


@pytest.mark.parametrize(("method", "path"), MISSING)
async def test_what_hosted_auth_has_and_this_one_has_not_says_so(api: Api, method: str, path: str) -> None:
    """501 with a name, not a 404 that reads like a wrong URL."""
    method = "POST" if method == "*" else method
    path = path.replace("{rest:.*}", "rest").replace("{", "").replace("}", "")
    response = await api.call(method, path)

    refused(response, 501, "not_implemented")
    assert method in response.json()["message"]


async def test_wrong_path_and_wrong_method_are_error_bodies(api: Api) -> None:
    """Clients parse JSON whatever happens."""
    refused(await api.call("GET", "/nowhere"), 404, "not_found")
    response = await api.call("DELETE", "/user")
    refused(response, 405, "method_not_allowed")
    assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize("version", [None, "", "2023-12-31", "tomorrow"])
async def test_older_clients_get_the_first_shape_of_errors(api: Api, version: str | None) -> None:
    """Without the version header: number, error_code and msg."""
    headers = {} if version is None else {"X-Supabase-Api-Version": version}
    response = await api.http.get("/user", headers=headers)

    assert response.status_code == 401
    assert response.json() == {
        "code": 401,
        "error_code": "no_authorization",
        "msg": "This endpoint requires a valid Bearer token",
    }
    assert response.headers["x-sb-error-code"] == "no_authorization"
    assert "X-Supabase-Api-Version" not in response.headers


async def test_newer_clients_get_the_version_that_we_speak(api: Api) -> None:
    """A version of the future is answered with ours."""
    response = await api.http.get("/user", headers={"X-Supabase-Api-Version": "2031-01-01"})

    assert response.headers["X-Supabase-Api-Version"] == "2024-01-01"
    assert {"code", "message"} == set(response.json())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff",
        b'{"email": 7, "password": "x"}',
        b'{"email": "a\\u0000@example.test", "password": "x"}',
        b'{"email": "\\ud800@example.test", "password": "x"}',
        b'{"email": "a@example.test", "password": "secret", "data": {"x": 1e999}}',
        b'{"email": "a@example.test", "password": "secret", "data": {"x": NaN}}',
        b'{"email": "a@example.test", "password": "secret", "data": []}',
        b'{"data": ' * 50_000,
    ],
)
async def test_what_is_no_json_object_is_refused(api: Api, content: bytes) -> None:
    """400 bad_json, and never a 500, for bytes that PostgreSQL could not store either."""
    response = await api.http.post("/signup", content=content, headers=VERSION)

    refused(response, 400, "bad_json")
    assert "secret" not in response.text


async def test_body_over_one_mebibyte_is_refused(api: Api) -> None:
    """413, before it is parsed."""
    response = await api.http.post("/signup", content=b" " * ((1 << 20) + 1), headers=VERSION)

    refused(response, 413, "request_entity_too_large")


# --- signing up ------------------------------------------------------------------------------------------


async def test_sign_up_gives_a_session_and_a_complete_user(api: Api) -> None:
    """Field by field as hosted Auth prints it."""
    email = f"{uuid.uuid4().hex}@Example.Test"
    response = await api.call(
        "POST", "/signup", {"email": email, "password": PASSWORD, "data": {"full_name": "Ada"}}
    )
    session = response.json()
    user = session["user"]

    assert response.status_code == 200
    assert {"access_token", "token_type", "expires_in", "expires_at", "refresh_token", "user"} == set(session)
    assert (session["token_type"], session["expires_in"]) == ("bearer", 3600)
    assert {
        "id", "aud", "role", "email", "email_confirmed_at", "phone", "confirmed_at", "last_sign_in_at",
        "app_metadata", "user_metadata", "identities", "created_at", "updated_at", "is_anonymous",
    } == set(user)  # fmt: skip
    assert (email.lower(), "", "authenticated") == (user["email"], user["phone"], user["role"])
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert user["user_metadata"] == {"full_name": "Ada", "email_verified": True}
    [identity] = user["identities"]
    assert (user["id"], user["id"], "email") == (identity["id"], identity["user_id"], identity["provider"])
    assert identity["identity_id"] != user["id"]
    assert {
        "sub": user["id"],
        "email": email.lower(),
        "email_verified": False,
        "phone_verified": False,
        "full_name": "Ada",
    } == identity["identity_data"]
    assert user["created_at"].endswith("Z")
    assert "T" in user["created_at"]


async def test_access_token_says_what_hosted_auth_says(api: Api) -> None:
    """Integers, real objects, empty strings instead of null."""
    person = await api.person(app_metadata={"role": "technician"})
    session = await api.sign_in(person)
    claims = api.claims(session)

    # The application's hook may add some.
    assert set(claims) >= {
        "iss", "sub", "aud", "exp", "iat", "email", "phone", "app_metadata", "user_metadata", "role", "aal",
        "amr", "session_id", "is_anonymous",
    }  # fmt: skip
    assert f"{api.context.url}/auth/v1" == claims["iss"]
    assert (person.id, "authenticated", "authenticated") == (claims["sub"], claims["aud"], claims["role"])
    assert (person.email, "") == (claims["email"], claims["phone"])
    assert claims["app_metadata"]["role"] == "technician"
    assert isinstance(claims["exp"], int)
    assert claims["iat"] + 3600 == claims["exp"] == session["expires_at"]
    assert claims["aal"] == "aal1"
    [proof] = claims["amr"]
    assert ("password", int) == (proof["method"], type(proof["timestamp"]))
    assert str(uuid.UUID(claims["session_id"])) == claims["session_id"]
    assert claims["is_anonymous"] is False


async def test_second_sign_up_with_an_address_is_refused(api: Api) -> None:
    """Upper or lower case, confirmed or not."""
    person, other = await api.person(), await api.person(email_confirm=False)
    for email in (person.email, person.email.upper(), other.email):
        response = await api.call("POST", "/signup", {"email": email, "password": PASSWORD})
        refused(response, 422, "user_already_exists")
        assert response.json()["message"] == "User already registered"


async def test_simultaneous_sign_ups_make_one_user(api: Api) -> None:
    """One wins, the others are told so."""
    body = {"email": f"{uuid.uuid4().hex}@example.test", "password": PASSWORD}
    responses = await asyncio.gather(*(api.call("POST", "/signup", body) for _ in range(5)))

    assert sorted(response.status_code for response in responses) == [200, 422, 422, 422, 422]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "anonymous_provider_disabled"),
        ({"data": {"x": 1}}, 422, "anonymous_provider_disabled"),
        ({"email": "a@example.test"}, 400, "validation_failed"),
        ({"email": "a@example.test", "password": "12345"}, 422, "weak_password"),
        ({"email": "a@example.test", "password": "x" * 73}, 400, "validation_failed"),
        ({"email": "a@example.test", "password": "ä" * 37}, 400, "validation_failed"),
        ({"email": "no address", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "x" * 250 + "@example.test", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "a@example.test", "phone": "+4930", "password": PASSWORD}, 400, "validation_failed"),
        ({"phone": "+4930123456", "password": PASSWORD}, 400, "phone_provider_disabled"),
    ],
)
async def test_sign_up_refuses(api: Api, body: dict[str, Any], status: int, code: str) -> None:
    """The cells of the error table."""
    refused(await api.call("POST", "/signup", body), status, code)


async def test_stock_client_knows_a_weak_password(client: AsyncGoTrueClient) -> None:
    """It needs the reasons beside the code."""
    with pytest.raises(AuthWeakPasswordError) as caught:
        await client.sign_up({"email": f"{uuid.uuid4().hex}@example.test", "password": "12345"})

    assert caught.value.reasons == ["length"]


async def test_failing_trigger_makes_sign_up_fail_whole(api: Api) -> None:
    """500, no user left, and nothing of the trigger's text in the answer."""
    async with api.database("postgres") as database:
        await database.execute("""
            create function public.refuse_this_user() returns trigger language plpgsql as
            $$ begin
              if new.email like 'refuse-%' then raise exception 'inside: %', new.email; end if;
              return new;
            end $$
        """)
        await database.execute("""
            create trigger refuse_this_user after insert on auth.users
            for each row execute function public.refuse_this_user()
        """)
        try:
            email = f"refuse-{uuid.uuid4().hex}@example.test"
            response = await api.call("POST", "/signup", {"email": email, "password": PASSWORD})
            found = await database.execute("select from auth.users where email = %s", [email])
            assert found.rowcount == 0
        finally:
            await database.execute("drop function public.refuse_this_user() cascade")

    refused(response, 500, "unexpected_failure")
    assert "inside" not in response.text


async def test_switches_close_the_doors(api: Api) -> None:
    """Sign-up off; e-mail off."""
    credentials = {"email": f"{uuid.uuid4().hex}@example.test", "password": PASSWORD}
    async with server_with(api, AuthSettings(is_signup_enabled=False)) as closed:
        refused(await closed.call("POST", "/signup", credentials), 422, "signup_disabled")
        assert (await closed.call("GET", "/settings")).json()["disable_signup"] is True
    async with server_with(api, AuthSettings(is_email_enabled=False)) as closed:
        refused(await closed.call("POST", "/signup", credentials), 400, "email_provider_disabled")
        response = await closed.call("POST", "/token?grant_type=password", credentials)
        refused(response, 422, "email_provider_disabled")


# --- signing in ------------------------------------------------------------------------------------------


async def test_wrong_credentials_look_the_same(api: Api) -> None:
    """Unknown address, wrong password, too long a password, user without password."""
    person, without = await api.person(), await api.person()
    async with api.database() as database:
        await database.execute("update auth.users set encrypted_password = null where id = %s", [without.id])
    attempts = [
        (person.email, "wrong"),
        (person.email, ""),
        (person.email, "x" * 100),
        ("nobody@example.test", PASSWORD),
        ("no address", PASSWORD),
        (without.email, PASSWORD),
    ]
    for email, password in attempts:
        response = await api.call(
            "POST", "/token?grant_type=password", {"email": email, "password": password}
        )
        refused(response, 400, "invalid_credentials")
        assert response.json()["message"] == "Invalid login credentials"


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ("", {}, 400, "invalid_credentials"),
        ("?grant_type=magic", {}, 400, "invalid_credentials"),
        ("?grant_type=pkce", {}, 501, "not_implemented"),
        ("?grant_type=id_token", {}, 501, "not_implemented"),
        ("?grant_type=password", {}, 400, "validation_failed"),
        ("?grant_type=password", {"email": "a@b.c", "phone": "+49"}, 400, "validation_failed"),
        ("?grant_type=password", {"phone": "+49"}, 422, "phone_provider_disabled"),
        ("?grant_type=refresh_token", {}, 400, "validation_failed"),
        ("?grant_type=refresh_token", {"refresh_token": "short"}, 400, "validation_failed"),
        ("?grant_type=refresh_token", {"refresh_token": "ABCDEFGHIJKL"}, 400, "validation_failed"),
        ("?grant_type=refresh_token", {"refresh_token": "abcdefghijkl\n"}, 400, "validation_failed"),
        ("?grant_type=refresh_token", {"refresh_token": "a" * 13}, 400, "validation_failed"),
        ("?grant_type=refresh_token", {"refresh_token": "abcdefghijkl"}, 400, "refresh_token_not_found"),
    ],
)
async def test_token_refuses(api: Api, query: str, body: dict[str, Any], status: int, code: str) -> None:
    """The cells of the error table."""
    refused(await api.call("POST", f"/token{query}", body), status, code)


async def test_stale_authorization_does_not_matter_when_signing_in(api: Api) -> None:
    """Clients send the token of whoever was signed in before."""
    person = await api.person()
    stale = make_jwt(api.context.jwt_secret, {"sub": person.id, "exp": 1})
    body = {"email": person.email, "password": PASSWORD}
    signed_in = await api.call("POST", "/token?grant_type=password", body, token=stale)
    refreshed = await api.call(
        "POST",
        "/token?grant_type=refresh_token",
        {"refresh_token": signed_in.json()["refresh_token"]},
        token="nonsense",
    )
    signed_up = await api.call(
        "POST", "/signup", {"email": f"{uuid.uuid4().hex}@example.test", "password": PASSWORD}, token=stale
    )

    assert [r.status_code for r in (signed_in, refreshed, signed_up)] == [200, 200, 200]


async def test_unconfirmed_user_is_told_only_with_the_right_password(api: Api) -> None:
    """The password comes first."""
    person = await api.person(email_confirm=False)
    for password, code in ((PASSWORD, "email_not_confirmed"), ("wrong", "invalid_credentials")):
        response = await api.call(
            "POST", "/token?grant_type=password", {"email": person.email, "password": password}
        )
        refused(response, 400, code)


async def test_banned_user_is_refused_everywhere(api: Api) -> None:
    """At sign-in (before the password), at refresh, and with a live token; and not after the ban."""
    person = await api.person()
    session = await api.sign_in(person)
    banned = await api.admin("PUT", f"/admin/users/{person.id}", {"ban_duration": "1h30m"})
    attempt = {"email": person.email, "password": "wrong"}

    assert "banned_until" in banned.json()
    refused(await api.call("POST", "/token?grant_type=password", attempt), 400, "user_banned")
    refused(await api.refresh(session["refresh_token"]), 400, "user_banned")
    refused(await api.call("GET", "/user", token=session["access_token"]), 403, "user_banned")

    freed = await api.admin("PUT", f"/admin/users/{person.id}", {"ban_duration": "none"})
    assert "banned_until" not in freed.json()
    assert (await api.refresh(session["refresh_token"])).status_code == 200


async def test_weak_password_from_before_still_signs_in(api: Api) -> None:
    """With a hint beside the session."""
    person = await api.person()
    async with server_with(api, AuthSettings(password_min_length=50)) as strict:
        session = await strict.sign_in(person)

    assert session["weak_password"]["reasons"] == ["length"]


# --- refreshing: the table of rotation -------------------------------------------------------------------


async def age(api: Api, refresh_token: str, seconds: float = 11) -> None:
    """Let the reuse interval of a replaced token pass."""
    async with api.database() as database:
        await database.execute(
            "update auth.refresh_tokens set updated_at = updated_at - make_interval(secs => %s)"
            " where token = %s",
            [seconds, refresh_token],
        )


async def test_refresh_replaces_the_token_and_keeps_the_session(api: Api) -> None:
    """A child that knows its parent; same session, same amr, refreshed_at is set."""
    person = await api.person()
    first = await api.sign_in(person)
    second = (await api.refresh(first["refresh_token"])).json()

    assert first["refresh_token"] != second["refresh_token"]
    before, after = api.claims(first), api.claims(second)
    assert (before["session_id"], before["amr"]) == (after["session_id"], after["amr"])
    async with api.database() as database:
        rows = await database.execute(
            "select token, revoked, parent from auth.refresh_tokens where user_id = %s order by id",
            [person.id],
        )
        assert [
            (first["refresh_token"], True, None),
            (second["refresh_token"], False, first["refresh_token"]),
        ] == await rows.fetchall()
        refreshed = await database.execute(
            "select refreshed_at at time zone 'UTC' between now() - interval '1 min' and now()"
            " from auth.sessions where id = %s",
            [after["session_id"]],
        )
        assert await refreshed.fetchone() == (True,)


async def test_parent_of_the_active_token_gives_the_active_one_at_any_age(api: Api) -> None:
    """The answer was lost: the client gets it again."""
    first = await api.sign_in(await api.person())
    second = (await api.refresh(first["refresh_token"])).json()
    await age(api, first["refresh_token"], seconds=86_400)

    again = await api.refresh(first["refresh_token"])

    assert second["refresh_token"] == again.json()["refresh_token"]


async def test_older_token_within_the_interval_gives_another_child(api: Api) -> None:
    """Two tabs that lost each other: both go on."""
    first = await api.sign_in(await api.person())
    second = (await api.refresh(first["refresh_token"])).json()
    third = (await api.refresh(second["refresh_token"])).json()

    fourth = (await api.refresh(first["refresh_token"])).json()

    assert fourth["refresh_token"] not in {s["refresh_token"] for s in (first, second, third)}
    for session in (third, fourth):
        assert (await api.refresh(session["refresh_token"])).status_code == 200


async def test_late_reuse_revokes_every_token_of_the_session(api: Api) -> None:
    """Refused, and the thief's token with it; the session row and its access token stay."""
    person = await api.person()
    first = await api.sign_in(person)
    second = (await api.refresh(first["refresh_token"])).json()
    third = (await api.refresh(second["refresh_token"])).json()
    await age(api, first["refresh_token"])

    refused(await api.refresh(first["refresh_token"]), 400, "refresh_token_already_used")

    async with api.database() as database:
        active = await database.execute(
            "select from auth.refresh_tokens where user_id = %s and not revoked", [person.id]
        )
        assert active.rowcount == 0
    await age(api, third["refresh_token"])
    refused(await api.refresh(third["refresh_token"]), 400, "refresh_token_already_used")
    assert (await api.call("GET", "/user", token=third["access_token"])).status_code == 200
    assert (await api.refresh((await api.sign_in(person))["refresh_token"])).status_code == 200


async def test_late_reuse_without_rotation_revokes_nothing(api: Api) -> None:
    """The refusal stays, the others' tokens too."""
    async with server_with(
        api, AuthSettings(is_rotation_enabled=False, refresh_token_reuse_interval=0)
    ) as lax:
        first = await lax.sign_in(await lax.person())
        second = (await lax.refresh(first["refresh_token"])).json()
        third = (await lax.refresh(second["refresh_token"])).json()

        refused(await lax.refresh(first["refresh_token"]), 400, "refresh_token_already_used")
        assert (await lax.refresh(third["refresh_token"])).status_code == 200


async def test_twenty_simultaneous_refreshes_agree(api: Api) -> None:
    """One child, given to all."""
    person = await api.person()
    first = await api.sign_in(person)
    responses = await asyncio.gather(*(api.refresh(first["refresh_token"]) for _ in range(20)))

    assert {200} == {response.status_code for response in responses}
    [token] = {response.json()["refresh_token"] for response in responses}
    assert first["refresh_token"] != token
    async with api.database() as database:
        rows = await database.execute("select from auth.refresh_tokens where user_id = %s", [person.id])
        assert rows.rowcount == 2


async def test_refresh_against_sign_out_and_deletion_has_an_orderly_end(api: Api) -> None:
    """Whoever comes first: a session or a refusal, no deadlock and no 500."""
    for end in ("sign out", "delete", "new password"):
        person = await api.person()
        session = await api.sign_in(person)
        ending = {
            "sign out": api.call("POST", "/logout", token=session["access_token"]),
            "delete": api.admin("DELETE", f"/admin/users/{person.id}"),
            "new password": api.admin("PUT", f"/admin/users/{person.id}", {"password": "another horse"}),
        }
        chosen = ending.pop(end)
        for unused in ending.values():
            unused.close()
        refreshes = [api.refresh(session["refresh_token"]) for _ in range(8)]
        sign_ins = [
            api.call("POST", "/token?grant_type=password", {"email": person.email, "password": PASSWORD})
            for _ in range(4)
        ]
        ended, *responses = await asyncio.gather(chosen, *refreshes, *sign_ins)

        assert ended.status_code in {200, 204}, ended.text
        for response in responses:
            assert response.status_code == 200 or response.json()["code"] in {
                "refresh_token_not_found",
                "invalid_credentials",
            }, response.text
        refused(await api.refresh(session["refresh_token"]), 400, "refresh_token_not_found")


async def test_refresh_that_waits_too_long_is_a_conflict(api: Api) -> None:
    """Somebody else holds the session."""
    async with server_with(api, AuthSettings(lock_timeout=0.05)) as hasty:
        session = await hasty.sign_in(await hasty.person())
        async with api.database() as database, database.transaction():
            await database.execute(
                "select from auth.sessions where id = %s for update", [api.claims(session)["session_id"]]
            )
            refused(await hasty.refresh(session["refresh_token"]), 409, "conflict")
        assert (await hasty.refresh(session["refresh_token"])).status_code == 200


async def test_request_that_takes_too_long_is_a_timeout(api: Api) -> None:
    """504, which clients repeat; and the connection is good for the next one."""
    async with server_with(api, AuthSettings(request_timeout=0.3, pool_size=1)) as hasty:
        session = await api.sign_in(await api.person())
        async with api.database() as database, database.transaction():
            await database.execute(
                "select from auth.sessions where id = %s for update", [api.claims(session)["session_id"]]
            )
            refused(await hasty.refresh(session["refresh_token"]), 504, "request_timeout")
        assert (await hasty.refresh(session["refresh_token"])).status_code == 200


@pytest.mark.parametrize(
    ("settings", "sql", "code"),
    [
        (AuthSettings(session_time_box=60), "created_at = now() - interval '61 s'", "session_expired"),
        (
            AuthSettings(session_inactivity_timeout=60),
            "refreshed_at = now() at time zone 'UTC' - interval '61 s'",
            "session_expired",
        ),
        (
            AuthSettings(session_inactivity_timeout=60),
            "created_at = now() - interval '61 s'",
            "session_expired",
        ),
        (AuthSettings(), "not_after = now() - interval '1 s'", "session_expired"),
    ],
)
async def test_session_that_ended_refuses_to_refresh(
    api: Api, settings: AuthSettings, sql: str, code: str
) -> None:
    """Time box, inactivity, not_after."""
    async with server_with(api, settings) as server:
        session = await server.sign_in(await server.person())
        async with api.database() as database:
            statement = f"update auth.sessions set {sql} where id = %s"
            await database.execute(statement.encode(), [api.claims(session)["session_id"]])
        refused(await server.refresh(session["refresh_token"]), 400, code)


async def test_token_without_session_is_refused(api: Api) -> None:
    """A row from before sessions existed."""
    person = await api.person()
    async with api.database() as database:
        await database.execute(
            "insert into auth.refresh_tokens (token, user_id, revoked) values (%s, %s, false)",
            [token := uuid.uuid4().hex[:12], person.id],
        )
    refused(await api.refresh(token), 400, "session_not_found")


# --- the signed-in user ----------------------------------------------------------------------------------


async def test_user_needs_a_good_token(api: Api) -> None:
    """None, malformed, foreign, expired, without a person, of nobody."""
    secret = api.context.jwt_secret
    refused(await api.call("GET", "/user"), 401, "no_authorization")
    refused(await api.call("GET", "/user", headers={"Authorization": "Basic x"}), 401, "no_authorization")
    for token, status, code in [
        ("a.b.c", 403, "bad_jwt"),
        (make_jwt("another secret that is long enough", {"sub": str(uuid.uuid4())}), 403, "bad_jwt"),
        (make_jwt(secret, {"sub": str(uuid.uuid4()), "exp": 1}), 403, "bad_jwt"),
        (api.context.service_role_key, 403, "bad_jwt"),
        (make_jwt(secret, {"sub": "somebody"}), 400, "bad_jwt"),
        (make_jwt(secret, {"sub": str(uuid.uuid4())}), 403, "user_not_found"),
    ]:
        response = await api.call("GET", "/user", token=token)
        refused(response, status, code)
        assert token not in response.text


async def test_user_of_a_session_that_is_gone_is_refused(api: Api) -> None:
    """The token is valid, the session is not."""
    person = await api.person()
    claims = {"sub": person.id, "aud": "authenticated", "role": "authenticated"}
    for session_id, code in ((str(uuid.uuid4()), "session_not_found"), ("nonsense", "bad_jwt")):
        token = make_jwt(api.context.jwt_secret, claims | {"session_id": session_id})
        refused(await api.call("GET", "/user", token=token), 403, code)


async def test_own_metadata_is_merged_and_null_removes(api: Api) -> None:
    """At the top level only."""
    person = await api.person(user_metadata={"full_name": "Ada", "old": 1, "deep": {"a": 1}})
    token = (await api.sign_in(person))["access_token"]
    response = await api.call(
        "PUT", "/user", {"data": {"old": None, "new": True, "deep": {"b": 2}}}, token=token
    )

    assert response.json()["user_metadata"] == {
        "full_name": "Ada",
        "new": True,
        "deep": {"b": 2},
        "email_verified": True,
    }
    assert response.json() == (await api.call("GET", "/user", token=token)).json()


async def test_new_password_ends_the_other_sessions(api: Api) -> None:
    """This one goes on; the old password is worth nothing."""
    person = await api.person()
    this, other = await api.sign_in(person), await api.sign_in(person)
    response = await api.call("PUT", "/user", {"password": "another horse"}, token=this["access_token"])
    old = {"email": person.email, "password": PASSWORD}

    assert response.status_code == 200
    assert (await api.refresh(this["refresh_token"])).status_code == 200
    refused(await api.refresh(other["refresh_token"]), 400, "refresh_token_not_found")
    refused(await api.call("POST", "/token?grant_type=password", old), 400, "invalid_credentials")
    new = old | {"password": "another horse"}
    assert (await api.call("POST", "/token?grant_type=password", new)).status_code == 200


async def test_update_of_oneself_refuses(api: Api) -> None:
    """The cells of the error table."""
    person, other = await api.person(), await api.person()
    token = (await api.sign_in(person))["access_token"]
    for body, status, code in [
        ({"password": "12345"}, 422, "weak_password"),
        ({"password": ""}, 422, "weak_password"),
        ({"password": PASSWORD}, 422, "same_password"),
        ({"app_metadata": {"role": "admin"}}, 403, "not_admin"),
        ({"email": other.email}, 422, "email_exists"),
        ({"email": "no address"}, 400, "validation_failed"),
        ({"email": f"{uuid.uuid4().hex}@example.test"}, 501, "not_implemented"),
        ({"phone": "+4930123456"}, 501, "not_implemented"),
    ]:
        refused(await api.call("PUT", "/user", body, token=token), status, code)
    same = await api.call("PUT", "/user", {"email": person.email.upper()}, token=token)
    assert same.status_code == 200


# --- signing out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "alive"),
    [
        ("?scope=local", [False, True, True]),
        ("?scope=others", [True, False, False]),
        ("?scope=global", [False, False, False]),
        ("", [False, False, False]),
    ],
)
async def test_sign_out_ends_what_its_scope_says(api: Api, scope: str, alive: list[bool]) -> None:
    """The first of three sessions signs out."""
    person = await api.person()
    sessions = [await api.sign_in(person) for _ in range(3)]
    response = await api.call("POST", f"/logout{scope}", token=sessions[0]["access_token"])

    assert (response.status_code, response.content) == (204, b"")
    for session, is_alive in zip(sessions, alive, strict=True):
        user = await api.call("GET", "/user", token=session["access_token"])
        refreshed = await api.refresh(session["refresh_token"])
        if is_alive:
            assert (user.status_code, refreshed.status_code) == (200, 200)
        else:
            refused(user, 403, "session_not_found")
            refused(refreshed, 400, "refresh_token_not_found")


async def test_sign_out_needs_a_token_and_a_known_scope(api: Api) -> None:
    """401 and 400."""
    refused(await api.call("POST", "/logout"), 401, "no_authorization")
    token = (await api.sign_in(await api.person()))["access_token"]
    refused(await api.call("POST", "/logout?scope=all", token=token), 400, "validation_failed")


# --- administration --------------------------------------------------------------------------------------


async def test_administration_is_for_the_service_role(api: Api) -> None:
    """Authorization decides, not the apikey."""
    user_token = (await api.sign_in(await api.person()))["access_token"]
    apikey = {"apikey": api.context.service_role_key}
    paths = [
        ("POST", "/admin/users"),
        ("GET", "/admin/users"),
        ("GET", f"/admin/users/{uuid.uuid4()}"),
        ("PUT", f"/admin/users/{uuid.uuid4()}"),
        ("DELETE", f"/admin/users/{uuid.uuid4()}"),
    ]
    for method, path in paths:
        refused(await api.call(method, path, headers=apikey), 401, "no_authorization")
        refused(await api.call(method, path, token=api.context.anon_key), 403, "not_admin")
        refused(await api.call(method, path, token=user_token, headers=apikey), 403, "not_admin")
        refused(await api.call(method, path, token="a.b.c"), 403, "bad_jwt")


async def test_created_user_comes_in_the_steps_of_hosted_auth(api: Api) -> None:
    """Triggers see the INSERT without the admin's app_metadata, which then comes as an UPDATE."""
    async with api.database("postgres") as database:
        await database.execute("create table public.seen (at bigserial, what text, role text)")
        await database.execute("""
            create function public.see() returns trigger language plpgsql security definer as
            $$ begin
              insert into public.seen (what, role) values (tg_op, new.raw_app_meta_data ->> 'role');
              return new;
            end $$
        """)
        await database.execute(
            "create trigger see after insert or update of raw_app_meta_data on auth.users"
            " for each row execute function public.see()"
        )
        try:
            await api.person(app_metadata={"role": "staff"})
            rows = await database.execute("select what, role from public.seen order by at")
            assert await rows.fetchall() == [("INSERT", None), ("UPDATE", "staff")]
        finally:
            await database.execute("drop function public.see() cascade")
            await database.execute("drop table public.seen")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "validation_failed"),
        ({"email": "no address"}, 400, "validation_failed"),
        ({"email": "EMAIL", "password": "x" * 73}, 400, "validation_failed"),
        ({"email": "EMAIL", "password": "secret", "password_hash": CHEAP_HASH}, 400, "validation_failed"),
        ({"email": "EMAIL", "password_hash": "md5"}, 400, "validation_failed"),
        ({"email": "EMAIL", "password_hash": "$argon2id$v=19$"}, 501, "not_implemented"),
        ({"email": "EMAIL", "ban_duration": "a while"}, 400, "validation_failed"),
        ({"email": "EMAIL", "id": "7"}, 400, "validation_failed"),
        ({"email": "EMAIL", "id": str(uuid.UUID(int=0))}, 400, "validation_failed"),
        ({"email": "EMAIL", "app_metadata": []}, 400, "bad_json"),
        ({"email": "EMAIL", "phone": "+4930123456"}, 501, "not_implemented"),
    ],
)
async def test_create_refuses(api: Api, body: dict[str, Any], status: int, code: str) -> None:
    """The cells of the error table."""
    if body.get("email") == "EMAIL":
        body = body | {"email": f"{uuid.uuid4().hex}@example.test"}
    refused(await api.admin("POST", "/admin/users", body), status, code)


async def test_create_and_update_refuse_a_taken_address(api: Api) -> None:
    """422 email_exists."""
    person, other = await api.person(), await api.person()
    refused(await api.admin("POST", "/admin/users", {"email": person.email.upper()}), 422, "email_exists")
    response = await api.admin("PUT", f"/admin/users/{other.id}", {"email": person.email})
    refused(response, 422, "email_exists")


async def test_create_takes_a_given_id(api: Api) -> None:
    """And a role, and a ban."""
    user_id = str(uuid.uuid4())
    person = await api.person(id=user_id, role="service_role", ban_duration="24h")
    user = (await api.admin("GET", f"/admin/users/{person.id}")).json()

    assert (user_id, "service_role") == (user["id"], user["role"])
    assert "banned_until" in user


async def test_update_changes_everything_at_once(api: Api) -> None:
    """And a new password ends all sessions."""
    person = await api.person(app_metadata={"role": "customer", "old": 1}, user_metadata={"old": 1})
    session = await api.sign_in(person)
    email = f"{uuid.uuid4().hex}@example.test"
    response = await api.admin(
        "PUT",
        f"/admin/users/{person.id}",
        {
            "email": email.upper(),
            "email_confirm": True,
            "password": "another horse",
            "role": "authenticated",
            "app_metadata": {"role": "staff", "old": None},
            "user_metadata": {"old": None, "new": 1},
        },
    )
    user = response.json()

    assert response.status_code == 200
    assert (email, email) == (user["email"], user["identities"][0]["email"])
    assert user["identities"][0]["identity_data"]["email_verified"] is True
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"], "role": "staff"}
    assert user["user_metadata"] == {"email_verified": True, "new": 1}
    refused(await api.refresh(session["refresh_token"]), 400, "refresh_token_not_found")
    credentials = {"email": email, "password": "another horse"}
    assert (await api.call("POST", "/token?grant_type=password", credentials)).status_code == 200


async def test_named_user_must_be_a_known_uuid(api: Api) -> None:
    """404 with two codes."""
    for method in ("GET", "PUT", "DELETE"):
        refused(await api.admin(method, "/admin/users/7", {}), 404, "validation_failed")
        refused(await api.admin(method, f"/admin/users/{uuid.uuid4()}", {}), 404, "user_not_found")


async def test_delete_cascades(api: Api) -> None:
    """The address is free, the tokens are worth nothing."""
    person = await api.person()
    session = await api.sign_in(person)
    response = await api.admin("DELETE", f"/admin/users/{person.id}", {"should_soft_delete": False})

    assert (response.status_code, response.json()) == (200, {})
    refused(await api.refresh(session["refresh_token"]), 400, "refresh_token_not_found")
    refused(await api.call("GET", "/user", token=session["access_token"]), 403, "user_not_found")
    assert (await api.admin("POST", "/admin/users", {"email": person.email})).status_code == 200


async def test_delete_without_a_body_deletes(api: Api) -> None:
    """As curl does it."""
    person = await api.person()

    assert (await api.admin("DELETE", f"/admin/users/{person.id}")).status_code == 200
    refused(await api.admin("GET", f"/admin/users/{person.id}"), 404, "user_not_found")


async def test_soft_delete_keeps_the_row_and_forgets_the_person(api: Api) -> None:
    """Foreign keys stay whole, nobody signs in, the address is free."""
    person = await api.person(user_metadata={"full_name": "Ada"})
    session = await api.sign_in(person)
    for _ in range(2):
        response = await api.admin("DELETE", f"/admin/users/{person.id}", {"should_soft_delete": True})
        assert response.status_code == 200
    user = await api.admin("GET", f"/admin/users/{person.id}")

    assert "deleted_at" in user.json()
    assert person.email not in user.text
    assert "Ada" not in user.text
    refused(await api.refresh(session["refresh_token"]), 400, "refresh_token_not_found")
    assert (await api.admin("POST", "/admin/users", {"email": person.email})).status_code == 200


async def test_pages_of_users(api: Api) -> None:
    """Newest first, with totals and links; empty values count as absent; identities are null."""
    aud = uuid.uuid4().hex
    people = [await api.person(aud=aud) for _ in range(5)]
    ids = [person.id for person in reversed(people)]
    header = {"X-JWT-AUD": aud}
    whole = await api.admin("GET", "/admin/users?page=&per_page=", headers=header)
    second = await api.admin("GET", "/admin/users?page=2&per_page=2", headers=header)
    last = await api.admin("GET", "/admin/users?page=3&per_page=2&sort=created_at asc", headers=header)

    assert aud == whole.json()["aud"]
    assert ids == [user["id"] for user in whole.json()["users"]]
    assert [user["identities"] for user in whole.json()["users"]] == [None] * 5
    assert ids[2:4] == [user["id"] for user in second.json()["users"]]
    assert second.headers["X-Total-Count"] == "5"
    assert {"next", "last"} == set(second.links)
    assert "page=3" in second.links["next"]["url"]
    assert ids[:1] == [user["id"] for user in last.json()["users"]]
    assert {"last"} == set(last.links)
    for query in ("page=0", "page=-1", "page=x", "per_page=0", "sort=email asc", "filter=%00"):
        refused(await api.admin("GET", f"/admin/users?{query}", headers=header), 400, "validation_failed")


async def test_filter_finds_address_and_name(api: Api) -> None:
    """The name without regard to case."""
    name = uuid.uuid4().hex
    person = await api.person(user_metadata={"full_name": f"Ada {name}"})
    for pattern in (person.email[:20], name.upper()):
        response = await api.admin("GET", "/admin/users", params={"filter": pattern})
        assert [person.id] == [user["id"] for user in response.json()["users"]]
        assert response.headers["X-Total-Count"] == "1"


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


# --- the stock client ------------------------------------------------------------------------------------


async def test_stock_client_goes_through_a_session(api: Api, client: AsyncGoTrueClient) -> None:
    """Sign up, read, change, refresh, read claims, sign out."""
    email = f"{uuid.uuid4().hex}@example.test"
    signed_up = await client.sign_up(
        {"email": email, "password": PASSWORD, "options": {"data": {"full_name": "Ada"}}}
    )
    assert signed_up.session is not None
    signed_in = await client.sign_in_with_password({"email": email, "password": PASSWORD})
    assert signed_in.session is not None
    assert signed_in.user is not None
    updated = await client.update_user({"data": {"full_name": "Grace"}})
    assert updated.user.user_metadata["full_name"] == "Grace"
    refreshed = await client.refresh_session()
    assert refreshed.session is not None
    assert signed_in.session.refresh_token != refreshed.session.refresh_token
    current = await client.get_user()
    assert current is not None
    assert (signed_in.user.id, "Grace") == (current.user.id, current.user.user_metadata["full_name"])
    claims = await client.get_claims()
    assert claims is not None
    assert signed_in.user.id == claims["claims"].get("sub")
    level = await client.mfa.get_authenticator_assurance_level()
    assert level.current_level == "aal1"

    await client.sign_out()

    assert await client.get_session() is None
    refused(await api.refresh(refreshed.session.refresh_token), 400, "refresh_token_not_found")


async def test_stock_client_signs_out_by_scope(api: Api, client: AsyncGoTrueClient) -> None:
    """With "others" this session stays."""
    person = await api.person()
    other = await api.sign_in(person)
    await client.sign_in_with_password({"email": person.email, "password": PASSWORD})
    await client.sign_out({"scope": "others"})

    refused(await api.refresh(other["refresh_token"]), 400, "refresh_token_not_found")
    assert (await client.refresh_session()).session is not None
    await client.sign_out({"scope": "local"})
    assert await client.get_session() is None


async def test_stock_client_reads_our_errors(client: AsyncGoTrueClient) -> None:
    """Code, status and message arrive."""
    with pytest.raises(AuthApiError) as caught:
        await client.sign_in_with_password({"email": "nobody@example.test", "password": PASSWORD})

    assert (caught.value.status, caught.value.code) == (400, "invalid_credentials")
    assert caught.value.message == "Invalid login credentials"


async def test_stock_client_restores_a_session(api: Api, client: AsyncGoTrueClient) -> None:
    """With a live access token, and with an expired one, which it refreshes."""
    person = await api.person()
    session = await api.sign_in(person)
    live = await client.set_session(session["access_token"], session["refresh_token"])
    assert live.user is not None
    assert person.id == live.user.id
    stale = make_jwt(api.context.jwt_secret, api.claims(session) | {"exp": 1})
    fresh = await client.set_session(stale, session["refresh_token"])

    assert fresh.session is not None
    assert session["refresh_token"] != fresh.session.refresh_token


async def test_stock_admin_manages_users(api: Api, admin: AsyncGoTrueClient) -> None:
    """Create, read, list, update, sign out, delete."""
    email = f"{uuid.uuid4().hex}@example.test"
    created = await admin.admin.create_user(
        {"email": email, "password": PASSWORD, "email_confirm": True, "app_metadata": {"role": "technician"}}
    )
    user_id = created.user.id
    assert created.user.app_metadata["role"] == "technician"
    assert user_id == (await admin.admin.get_user_by_id(user_id)).user.id
    assert user_id in {user.id for user in await admin.admin.list_users()}
    assert len(await admin.admin.list_users(page=1, per_page=1)) == 1
    updated = await admin.admin.update_user_by_id(
        user_id, {"app_metadata": {"role": "staff"}, "ban_duration": "none"}
    )
    assert updated.user.app_metadata["role"] == "staff"
    session = await api.sign_in(Person(user_id, email))
    await admin.admin.sign_out(session["access_token"])
    refused(await api.refresh(session["refresh_token"]), 400, "refresh_token_not_found")
    await admin.admin.delete_user(user_id)
    with pytest.raises(AuthApiError) as caught:
        await admin.admin.get_user_by_id(user_id)
    assert caught.value.code == "user_not_found"


# --- the schema ------------------------------------------------------------------------------------------


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
