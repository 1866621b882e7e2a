"""Invitations and generated links of the local Auth server, and its rate limits."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from local_auth_support import PASSWORD, Api, refused, server_with
from supabase_auth.errors import AuthApiError

from jamestronic_sdk.local.auth.errors import AuthApiProblem
from jamestronic_sdk.local.auth.limits import LIMITED, Limits
from jamestronic_sdk.local.auth.settings import AuthSettings

if TYPE_CHECKING:
    from supabase_auth import AsyncGoTrueClient


def new_email() -> str:
    return f"{uuid.uuid4().hex}@example.test"


async def follow(server: Api, link: str) -> dict[str, str]:
    response = await server.http.get(f"/verify?{urlsplit(link).query}")
    assert response.status_code == 303, response.text
    parsed = parse_qs(urlsplit(response.headers["Location"]).fragment)
    return {name: values[0] for name, values in parsed.items()}


# --- invitations -----------------------------------------------------------------------------------------


async def test_invited_user_comes_by_the_link_and_sets_a_password(api: Api) -> None:
    """A user without a password until then; a second invitation is the same user's."""
    email = new_email()
    first = (await api.admin("POST", "/invite", {"email": email, "data": {"full_name": "Ada"}})).json()
    second = (await api.admin("POST", "/invite", {"email": email})).json()
    wrong = await api.call("POST", "/token?grant_type=password", {"email": email, "password": PASSWORD})
    session = await follow(api, (await api.mail(email, "invite"))["link"])
    token = session["access_token"]
    changed = await api.call("PUT", "/user", {"password": PASSWORD}, token=token)

    assert first["id"] == second["id"]
    assert "invited_at" in first
    assert "email_confirmed_at" not in first
    refused(wrong, 400, "invalid_credentials")
    assert session["type"] == "invite"
    assert changed.json()["user_metadata"] == {"full_name": "Ada", "email_verified": True}
    signed_in = await api.call("POST", "/token?grant_type=password", {"email": email, "password": PASSWORD})
    assert signed_in.status_code == 200
    refused(await api.admin("POST", "/invite", {"email": email}), 422, "email_exists")


async def test_invitations_and_links_are_for_admins(api: Api) -> None:
    """401 and 403."""
    token = (await api.sign_in(await api.person()))["access_token"]
    for path in ("/invite", "/admin/generate_link"):
        refused(await api.call("POST", path, {"email": new_email()}), 401, "no_authorization")
        refused(await api.call("POST", path, {"email": new_email()}, token=token), 403, "not_admin")


async def test_stranger_who_signs_up_with_an_invited_address_learns_nothing(api: Api) -> None:
    """The invitation's words are not shown."""
    async with server_with(api, AuthSettings(is_email_autoconfirmed=False)) as server:
        email = new_email()
        await server.admin("POST", "/invite", {"email": email, "data": {"full_name": "Ada"}})
        user = (await server.call("POST", "/signup", {"email": email, "password": PASSWORD})).json()

    assert (user["user_metadata"], user["identities"]) == ({}, [])


# --- generated links -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["magiclink", "recovery"])
async def test_generated_link_signs_a_user_in(api: Api, kind: str) -> None:
    """By link, by digest, by code; no message goes out."""
    person = await api.person()
    for way in ("link", "digest", "code"):
        made = (await api.admin("POST", "/admin/generate_link", {"type": kind, "email": person.email})).json()
        assert made["verification_type"] == kind
        assert made["id"] == person.id
        if way == "link":
            assert (await follow(api, made["action_link"]))["type"] == kind
            continue
        answer = {"type": kind, "token_hash": made["hashed_token"]}
        if way == "code":
            answer = {"type": kind, "email": person.email, "token": made["email_otp"]}
        assert (await api.call("POST", "/verify", answer)).status_code == 200
    assert await api.mailbox(person.email) == []


@pytest.mark.parametrize(
    ("kind", "verified_as"), [("signup", "signup"), ("invite", "invite"), ("magiclink", "signup")]
)
async def test_generated_link_makes_a_user(api: Api, kind: str, verified_as: str) -> None:
    """Who is confirmed by it."""
    email = new_email()
    body = {"type": kind, "email": email, "password": PASSWORD, "data": {"full_name": "Ada"}}
    made = (await api.admin("POST", "/admin/generate_link", body)).json()
    session = await follow(api, made["action_link"])
    user = (await api.call("GET", "/user", token=session["access_token"])).json()

    assert made["verification_type"] == verified_as
    assert (user["id"], user["user_metadata"]["full_name"]) == (made["id"], "Ada")
    assert "email_confirmed_at" in user


async def test_generated_links_change_an_address(api: Api) -> None:
    """One for each side."""
    async with server_with(api, AuthSettings(is_email_autoconfirmed=False)) as server:
        person, email = await api.person(), new_email()
        links = []
        for kind in ("email_change_current", "email_change_new"):
            body = {"type": kind, "email": person.email, "new_email": email}
            made = (await server.admin("POST", "/admin/generate_link", body)).json()
            links.append(made["action_link"])
        assert made["new_email"] == email
        half = await follow(server, links[0])
        session = await follow(server, links[1])
        user = (await server.call("GET", "/user", token=session["access_token"])).json()

    assert "message" in half
    assert user["email"] == email


async def test_generated_links_refuse(api: Api) -> None:
    """The cells of the error table."""
    person, other = await api.person(), await api.person()
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"type": "recovery", "email": new_email()}, 404, "user_not_found"),
        ({"type": "signup", "email": new_email()}, 400, "validation_failed"),
        ({"type": "signup", "email": person.email, "password": PASSWORD}, 422, "email_exists"),
        ({"type": "invite", "email": person.email}, 422, "email_exists"),
        ({"type": "letter", "email": person.email}, 400, "validation_failed"),
        ({"type": "recovery", "email": "no address"}, 400, "validation_failed"),
        (
            {"type": "email_change_new", "email": person.email, "new_email": other.email},
            422,
            "email_exists",
        ),
    ]
    for body, status, code in cases:
        refused(await api.admin("POST", "/admin/generate_link", body), status, code)


async def test_generated_link_leads_where_it_may(api: Api) -> None:
    """By body or by query."""
    person = await api.person()
    target = "http://127.0.0.1:4000/x"
    for body, params in (({"redirect_to": target}, {}), ({}, {"redirect_to": target})):
        asked = {"type": "recovery", "email": person.email} | body
        made = (await api.admin("POST", "/admin/generate_link", asked, params=params)).json()
        assert made["redirect_to"] == target


async def test_stock_admin_invites_and_generates(api: Api, admin: AsyncGoTrueClient) -> None:
    """Its models take our answers."""
    email = new_email()
    invited = await admin.admin.invite_user_by_email(email, {"data": {"full_name": "Ada"}})
    assert invited.user.email == email
    link = await admin.admin.generate_link({"type": "invite", "email": email})
    assert link.user.id == invited.user.id
    assert link.properties.verification_type == "invite"
    assert (await follow(api, link.properties.action_link))["type"] == "invite"


# --- limits ----------------------------------------------------------------------------------------------


def test_buckets_empty_and_fill_again() -> None:
    """Thirty at once, then one in ten seconds; each address for itself."""
    now = 0.0
    limits = Limits(is_on=True, clock=lambda: now)
    for _ in range(30):
        limits.check_request("POST /otp", "192.0.2.1")
    with pytest.raises(AuthApiProblem) as caught:
        limits.check_request("POST /otp", "192.0.2.1")
    assert (caught.value.status, caught.value.code) == (429, "over_request_rate_limit")
    limits.check_request("POST /otp", "192.0.2.2")
    limits.check_request("POST /recover", "192.0.2.1")
    now = 10.0
    limits.check_request("POST /otp", "192.0.2.1")
    with pytest.raises(AuthApiProblem):
        limits.check_request("POST /otp", "192.0.2.1")


@pytest.mark.parametrize("name", sorted(set(LIMITED) - {"anonymous"}))
async def test_limits_answer_429_when_they_are_on(api: Api, name: str) -> None:
    """Each endpoint of the table; another address is free."""
    method, _, path = name.rpartition(" ")
    path = path.replace("{factor_id}", "x") if method else "/signup"
    body = {} if method else {"email": "no address"}
    async with server_with(api, AuthSettings(is_rate_limited=True)) as server:
        answers = [
            await server.call(method or "POST", path, body, headers={"X-Forwarded-For": address})
            for address in ["192.0.2.1"] * 31 + ["192.0.2.2"]
        ]

    assert [answer.status_code == 429 for answer in answers] == [False] * 30 + [True, False]
    refused(answers[30], 429, "over_request_rate_limit")


async def test_anonymous_sign_ins_have_a_limit_of_their_own(api: Api) -> None:
    """Thirty in an hour; sign-up goes on."""
    settings = AuthSettings(is_rate_limited=True, is_anonymous_enabled=True)
    async with server_with(api, settings) as server:
        answers = [await server.call("POST", "/signup", {}) for _ in range(31)]
        refused(answers[30], 429, "over_request_rate_limit")
        body = {"email": new_email(), "password": PASSWORD}
        assert (await server.call("POST", "/signup", body)).status_code == 200


async def test_messages_are_limited_for_the_instance(api: Api) -> None:
    """Thirty in an hour; what is refused leaves no code."""
    async with server_with(api, AuthSettings(is_rate_limited=True)) as server:
        person = await api.person()
        for number in range(31):
            where = {"X-Forwarded-For": f"192.0.2.{number}"}
            response = await server.call("POST", "/recover", {"email": person.email}, headers=where)
        refused(response, 429, "over_email_send_rate_limit")
        assert len(await server.mailbox(person.email)) == 30


async def test_stock_client_knows_the_limit(api: Api, client: AsyncGoTrueClient) -> None:
    """Code and status arrive."""
    async with server_with(api, AuthSettings(message_interval=60)) as server:
        person = await api.person()
        client._url = str(server.http.base_url).rstrip("/")
        await client.sign_in_with_otp({"email": person.email})
        with pytest.raises(AuthApiError) as caught:
            await client.sign_in_with_otp({"email": person.email})

    assert (caught.value.status, caught.value.code) == (429, "over_email_send_rate_limit")
