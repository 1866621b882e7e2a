"""The audit trail: who did what, and who may read it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from local_auth_support import PASSWORD, refused

from jamestronic_sdk.local.auth import totp

if TYPE_CHECKING:
    from local_auth_support import Api


async def trail(api: Api, query: str) -> list[dict[str, Any]]:
    """What there is, oldest first."""
    response = await api.admin("GET", "/admin/audit", params={"query": query, "per_page": "100"})
    assert response.status_code == 200, response.text
    return [entry["payload"] for entry in reversed(response.json())]


async def test_what_somebody_does_is_in_the_trail(api: Api) -> None:
    """In the words of hosted Auth, in order, with who it was and nothing secret."""
    person = await api.person()
    session = await api.sign_in(person)
    token = session["access_token"]
    refreshed = (await api.refresh(session["refresh_token"])).json()
    await api.call("PUT", "/user", {"data": {"full_name": "Ada"}}, token=token)
    await api.call("PUT", "/user", {"password": PASSWORD + "!"}, token=token)
    await api.call("POST", "/recover", {"email": person.email})
    factor = (await api.call("POST", "/factors", {"factor_type": "totp"}, token=token)).json()
    path = f"/factors/{factor['id']}"
    challenge = (await api.call("POST", f"{path}/challenge", token=token)).json()
    code = totp.code_at(factor["totp"]["secret"], time.time())
    shown = await api.call(
        "POST", f"{path}/verify", {"challenge_id": challenge["id"], "code": code}, token=token
    )
    assert shown.status_code == 200, shown.text
    await api.call("DELETE", path, token=shown.json()["access_token"])
    await api.call("POST", "/logout", token=shown.json()["access_token"])

    entries = await trail(api, f"author:{person.email}")
    assert [entry["action"] for entry in entries] == [
        "login",
        "token_refreshed",
        "user_modified",
        "user_updated_password",
        "user_modified",
        "user_recovery_requested",
        "factor_in_progress",
        "challenge_created",
        "verification_attempted",
        "factor_unenrolled",
        "logout",
    ]
    assert {entry["actor_id"] for entry in entries} == {person.id}
    assert (entries[0]["log_type"], entries[0]["traits"]) == ("account", {"provider": "email"})
    text = str(entries)
    for secret in (PASSWORD, code, factor["totp"]["secret"], token, refreshed["refresh_token"]):
        assert secret not in text


async def test_what_an_admin_does_is_in_the_trail(api: Api) -> None:
    """As the service role's, with whom it was done to."""
    person = await api.person()
    await api.admin("PUT", f"/admin/users/{person.id}", {"user_metadata": {"x": 1}})
    await api.admin("DELETE", f"/admin/users/{person.id}")

    entries = [
        entry for entry in await trail(api, "author:service_role") if entry["traits"]["user_id"] == person.id
    ]
    assert [entry["action"] for entry in entries] == ["user_signedup", "user_modified", "user_deleted"]
    assert entries[0]["traits"]["user_email"] == person.email


async def test_signing_up_is_in_the_trail_and_a_refusal_is_not(api: Api) -> None:
    """What was rolled back did not happen."""
    person = await api.person()
    email = f"second-{person.email}"
    body = {"email": email, "password": PASSWORD}
    assert (await api.call("POST", "/signup", body)).status_code == 200
    assert (await api.call("POST", "/signup", body)).status_code == 422
    wrong = {"email": email, "password": "another one"}
    assert (await api.call("POST", "/token?grant_type=password", wrong)).status_code == 400

    assert [entry["action"] for entry in await trail(api, f"author:{email}")] == ["user_signedup", "login"]


async def test_trail_comes_in_pages_the_newest_first(api: Api) -> None:
    """With what the page shows, and how many there are in all."""
    person = await api.person()
    for _ in range(3):
        await api.sign_in(person)
    query = {"query": f"author:{person.email}", "per_page": "2"}
    first = await api.admin("GET", "/admin/audit", params=query | {"page": "1"})
    second = await api.admin("GET", "/admin/audit", params=query | {"page": "2"})

    assert (len(first.json()), len(second.json())) == (2, 1)
    assert first.headers["X-Total-Count"] == "3"
    moments = [entry["created_at"] for entry in first.json() + second.json()]
    assert moments == sorted(moments, reverse=True)
    assert set(first.json()[0]) == {"id", "payload", "created_at", "ip_address"}
    assert {entry["log_type"] for entry in await trail(api, "type:token")} <= {"token"}


@pytest.mark.parametrize("query", ["login", "nobody:x", "author,nobody:x", "action:\0"])
async def test_query_that_is_none_is_refused(api: Api, query: str) -> None:
    """400, not everything."""
    refused(await api.admin("GET", "/admin/audit", params={"query": query}), 400, "validation_failed")


async def test_only_admins_read_the_trail(api: Api) -> None:
    """It names people."""
    session = await api.sign_in(await api.person())

    refused(await api.call("GET", "/admin/audit", token=session["access_token"]), 403, "not_admin")
    refused(await api.call("GET", "/admin/audit"), 401, "no_authorization")
