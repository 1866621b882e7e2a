"""Tokens as Realtime judges them: which claims it needs, and the words of its refusals.

Promises:
    The codes and texts of the hosted service: ``code: text`` in a join's reply, text in a ``system`` message.
    (``local.tokens.verify_jwt`` speaks with the voice of Auth, and does not tell how old a token is.)

Never:
    A token, or a claim other than ``role``, in an error or a ``repr``.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import jwt

from jamestronic_sdk.errors import AuthenticationError
from jamestronic_sdk.local.tokens import pick_key

if TYPE_CHECKING:
    from jamestronic_sdk.local.tokens import SigningKey

__all__ = ["Credentials", "check_expiry", "now", "verify"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A verified token."""

    token: str = field(repr=False)
    role: str
    """The database role that asks."""
    expires_at: int
    """Unix time, seconds."""
    claims: str = field(repr=False)
    """All claims as JSON text, for ``request.jwt.claims``."""


def now() -> float:
    """Unix time, seconds: what ``exp`` is compared with."""
    return time.time()


def verify(secret: str, token: str, *, key: SigningKey | None = None) -> Credentials:
    """Check a token.

    Args:
        secret: The instance's HS256 secret.
        token: As sent; URL-encoding and white space around it do not matter.
        key: The instance's signing key, if it has one.

    Raises:
        AuthenticationError: ``code`` is the code of a join error, ``message`` the text.
    """
    stripped = unquote(token).strip()
    try:
        verifier, algorithm = pick_key(secret, stripped, key)
        claims: dict[str, Any] = jwt.decode(
            stripped,
            verifier,
            algorithms=[algorithm],
            # Only the signature is PyJWT's: Realtime has its own rules, and words, for the claims.
            options={
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": False,
                "verify_iss": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except jwt.InvalidSignatureError:
        raise AuthenticationError("Failed to validate JWT signature", code="JwtSignatureError") from None
    except jwt.InvalidAlgorithmError:
        raise AuthenticationError("Failed to generate JWT signer", code="JwtSignerError") from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        # PyJWT's texts may quote the token, and hostile tokens raise bare ValueErrors inside of it.
        raise AuthenticationError("The token provided is not a valid JWT", code="MalformedJWT") from None
    role, expires_at = claims.get("role"), claims.get("exp")
    if not isinstance(role, str) or expires_at is None:
        raise AuthenticationError("Fields `role` and `exp` are required in JWT", code="InvalidJWTToken")
    if not isinstance(expires_at, int):
        raise AuthenticationError("Token expiration time is invalid", code="InvalidJWTToken")
    credentials = Credentials(stripped, role, expires_at, json.dumps(claims, separators=(",", ":")))
    check_expiry(credentials)
    return credentials


def check_expiry(credentials: Credentials) -> None:
    """Whether the token still counts.

    Raises:
        AuthenticationError: It has expired.
    """
    age = int(now()) - credentials.expires_at
    if age >= 0:
        raise AuthenticationError(f"Token has expired {age} seconds ago", code="InvalidJWTToken")
