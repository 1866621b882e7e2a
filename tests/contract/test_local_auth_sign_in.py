"""Signing up and in at the local Auth server."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from local_auth_support import PASSWORD, Api, refused, server_with
from supabase_auth.errors import AuthWeakPasswordError

from jamestronic_sdk.local.auth.settings import AuthSettings
from jamestronic_sdk.local.tokens import make_jwt

if TYPE_CHECKING:
    from supabase_auth import AsyncGoTrueClient


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
    """Upper or lower case."""
    person = await api.person()
    for email in (person.email, person.email.upper()):
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
        ({"email": "a@example.test"}, 400, "validation_failed"),
        ({"email": "a@example.test", "password": "12345"}, 422, "weak_password"),
        ({"email": "a@example.test", "password": "x" * 73}, 400, "validation_failed"),
        ({"email": "a@example.test", "password": "ä" * 37}, 400, "validation_failed"),
        ({"email": "no address", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "x" * 250 + "@example.test", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "a@example.test", "phone": "+4930", "password": PASSWORD}, 400, "validation_failed"),
        ({"phone": "0", "password": PASSWORD}, 400, "validation_failed"),
        ({"phone": "+4930", "password": PASSWORD, "code_challenge": "x" * 43}, 400, "validation_failed"),
        ({"email": "a@example.test", "password": PASSWORD, "code_challenge": "x"}, 400, "validation_failed"),
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
    """Sign-up off; e-mail off; phone and anonymous users, which are off by default."""
    credentials = {"email": f"{uuid.uuid4().hex}@example.test", "password": PASSWORD}
    async with server_with(api, AuthSettings(is_signup_enabled=False)) as closed:
        refused(await closed.call("POST", "/signup", credentials), 422, "signup_disabled")
        assert (await closed.call("GET", "/settings")).json()["disable_signup"] is True
    async with server_with(api, AuthSettings(is_email_enabled=False)) as closed:
        refused(await closed.call("POST", "/signup", credentials), 400, "email_provider_disabled")
        response = await closed.call("POST", "/token?grant_type=password", credentials)
        refused(response, 422, "email_provider_disabled")
    number = {"phone": "+4930123456", "password": PASSWORD}
    async with server_with(api, AuthSettings()) as closed:
        refused(await closed.call("POST", "/signup", number), 400, "phone_provider_disabled")
        refused(await closed.call("POST", "/otp", number), 400, "phone_provider_disabled")
        response = await closed.call("POST", "/token?grant_type=password", number)
        refused(response, 422, "phone_provider_disabled")
        for body in ({}, {"data": {"x": 1}}):
            refused(await closed.call("POST", "/signup", body), 422, "anonymous_provider_disabled")
        external = (await closed.call("GET", "/settings")).json()["external"]
        assert (external["phone"], external["anonymous_users"]) == (False, False)


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
        ("?grant_type=pkce", {}, 400, "validation_failed"),
        ("?grant_type=password", {}, 400, "validation_failed"),
        ("?grant_type=password", {"email": "a@b.c", "phone": "+49"}, 400, "validation_failed"),
        ("?grant_type=password", {"phone": "+49"}, 400, "invalid_credentials"),
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
