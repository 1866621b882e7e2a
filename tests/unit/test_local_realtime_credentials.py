"""Which tokens Realtime takes, and what it says to the others."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from jamestronic_sdk.errors import AuthenticationError
from jamestronic_sdk.local.realtime import credentials

SECRET = "a-secret-for-tests-that-is-long-enough-for-hs256"
FUTURE = 4_000_000_000


def sign(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, secret, algorithm=algorithm)


def test_a_good_token() -> None:
    """White space and URL-encoding around it do not matter, `aud` and `iat` neither."""
    token = sign({"role": "anon", "exp": FUTURE, "aud": "x", "iat": FUTURE})
    found = credentials.verify(SECRET, f" {token}%20 ")
    assert (found.role, found.expires_at, found.token) == ("anon", FUTURE, token)
    assert token not in repr(found)


@pytest.mark.parametrize(
    ("token", "code", "message"),
    [
        ("nonsense", "MalformedJWT", "The token provided is not a valid JWT"),
        ("a.b.c", "MalformedJWT", "The token provided is not a valid JWT"),
        (
            sign({"role": "anon", "exp": FUTURE}, SECRET + "x"),
            "JwtSignatureError",
            "Failed to validate JWT signature",
        ),
        (
            sign({"role": "anon", "exp": FUTURE}, SECRET * 2, "HS512"),
            "JwtSignerError",
            "Failed to generate JWT signer",
        ),
        (sign({"exp": FUTURE}), "InvalidJWTToken", "Fields `role` and `exp` are required in JWT"),
        (sign({"role": "anon"}), "InvalidJWTToken", "Fields `role` and `exp` are required in JWT"),
        (sign({"role": "anon", "exp": "soon"}), "InvalidJWTToken", "Token expiration time is invalid"),
    ],
)
def test_bad_tokens(token: str, code: str, message: str) -> None:
    """Each refusal has the hosted service's code and words."""
    with pytest.raises(AuthenticationError) as caught:
        credentials.verify(SECRET, token)
    assert (caught.value.code, caught.value.message) == (code, message)


def test_an_expired_token_tells_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds, whole."""
    monkeypatch.setattr(credentials, "now", lambda: 1_000_012.7)
    with pytest.raises(AuthenticationError, match=r"^Token has expired 12 seconds ago$"):
        credentials.verify(SECRET, sign({"role": "anon", "exp": 1_000_000}))
