"""The local Auth server itself: what it has, and the shapes of its errors."""

from __future__ import annotations

import pytest
from local_auth_support import VERSION, Api, refused

from jamestronic_sdk.local.auth.app import MISSING


async def test_health_settings_and_keys_have_their_shapes(api: Api) -> None:
    """What clients and dashboards ask before anything else."""
    health = await api.call("GET", "/health")
    settings = (await api.call("GET", "/settings")).json()
    keys = await api.call("GET", "/.well-known/jwks.json")

    assert {"version", "name", "description"} == set(health.json())
    assert settings["external"]["email"] is True
    assert settings["external"]["google"] is False
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


@pytest.mark.parametrize(
    ("request_line", "body", "status", "code"),
    [
        ("POST /sso", {"domain": "example.test"}, 404, "saml_provider_disabled"),
        ("POST /token?grant_type=web3", {"chain": "solana"}, 422, "web3_provider_disabled"),
        ("POST /token?grant_type=id_token", {"provider": "google"}, 400, "provider_disabled"),
        ("POST /token?grant_type=id_token", {"provider": "local"}, 501, "not_implemented"),
        ("POST /token?grant_type=id_token", {}, 400, "validation_failed"),
        ("GET /user/identities/authorize?provider=google", None, 404, "manual_linking_disabled"),
        ("DELETE /user/identities/x", None, 404, "manual_linking_disabled"),
    ],
)
async def test_what_is_off_answers_as_a_hosted_project_where_it_is_off(
    api: Api, request_line: str, body: object, status: int, code: str
) -> None:
    """Suites of strangers match on the code and the text; only what is on and not here is a 501."""
    session = await api.sign_in(await api.person())

    refused(await api.call(*request_line.split(" "), body, token=session["access_token"]), status, code)


async def test_linking_is_refused_to_nobody_in_particular_first(api: Api) -> None:
    """Who is not signed in hears that."""
    refused(await api.call("GET", "/user/identities/authorize?provider=google"), 401, "no_authorization")


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
