"""The signed-in user at the local Auth server, and signing out."""

from __future__ import annotations

import uuid

import pytest
from local_auth_support import PASSWORD, Api, refused

from jamestronic_sdk.local.tokens import make_jwt


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
        ({"phone": "no number"}, 400, "validation_failed"),
        ({"password": "another horse", "code_challenge": "x"}, 400, "validation_failed"),
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
