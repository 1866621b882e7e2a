"""Tokens of the local stack: exactly what strict clients and PostgREST read."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from jamestronic_sdk.errors import AuthenticationError, SessionExpiredError
from jamestronic_sdk.local.tokens import make_api_keys, make_jwt, verify_jwt

SECRET = "a secret that is long enough for everybody"


def part(token: str, index: int) -> dict[str, Any]:
    text = token.split(".")[index]
    parsed: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return parsed


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    encoded = [
        base64.urlsafe_b64encode(json.dumps(item).encode()).rstrip(b"=").decode() for item in (header, claims)
    ]
    return ".".join([*encoded, ""])


def test_what_was_signed_comes_back() -> None:
    """Claims survive the way there and back, untouched."""
    claims = {"role": "authenticated", "exp": int(time.time()) + 60, "app_metadata": {"role": "technician"}}

    assert claims == verify_jwt(SECRET, make_jwt(SECRET, claims))


def test_header_says_hs256_and_no_key_id() -> None:
    """PostgREST 13 refuses unknown key ids, so there is none."""
    assert part(make_jwt(SECRET, {}), 0) == {"alg": "HS256", "typ": "JWT"}


def test_api_keys_are_the_legacy_ones() -> None:
    """Role, issuer and integer times; equal arguments give equal keys."""
    anon, service_role = make_api_keys(SECRET, issued_at=1_700_000_000)

    assert (anon, service_role) == make_api_keys(SECRET, issued_at=1_700_000_000)
    for role, key in (("anon", anon), ("service_role", service_role)):
        claims = part(key, 1)
        assert (role, "supabase", 1_700_000_000) == (claims["role"], claims["iss"], claims["iat"])
        assert isinstance(claims["exp"], int)
        assert claims == verify_jwt(SECRET, key)


def test_expired_token_is_told_apart() -> None:
    """A client refreshes on one, and gives up on the other."""
    with pytest.raises(SessionExpiredError, match="expired"):
        verify_jwt(SECRET, make_jwt(SECRET, {"exp": int(time.time()) - 1}))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c",
        "...",
        "\ud800",
        "ä.ö.ü",
        make_jwt("another secret that is long enough", {"role": "service_role"}),
        make_jwt(SECRET, {"nbf": 9_999_999_999}),
        make_jwt(SECRET, {"exp": "tomorrow"}),
        unsigned({"alg": "none", "typ": "JWT"}, {"role": "service_role"}),
        unsigned({"alg": "HS256", "typ": "JWT"}, {"role": "service_role"}),
    ],
)
def test_bad_token_is_refused_without_being_quoted(token: str) -> None:
    """Malformed, unsigned, signed by somebody else, or not valid yet."""
    with pytest.raises(AuthenticationError) as caught:
        verify_jwt(SECRET, token)

    assert caught.value.code == "bad_jwt"
    assert not token or token not in str(caught.value)
    assert caught.value.__cause__ is None


def test_required_claims_are_required() -> None:
    """Realtime asks for role and exp."""
    token = make_jwt(SECRET, {"role": "anon"})

    assert verify_jwt(SECRET, token, require=["role"]) == {"role": "anon"}
    with pytest.raises(AuthenticationError, match="exp is required"):
        verify_jwt(SECRET, token, require=["role", "exp"])


def test_other_audiences_and_issuers_pass() -> None:
    """API keys have no audience, user tokens have one; both are ours when the signature is."""
    claims = {"aud": "authenticated", "iss": "elsewhere", "iat": 9_999_999_999, "jti": 7}

    assert claims == verify_jwt(SECRET, make_jwt(SECRET, claims))
