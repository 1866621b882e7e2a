"""JSON Web Tokens of a local stack: HS256 with the instance's one secret.

Promises:
    Times in tokens are integers (seconds since 1970), objects are real objects: strict clients read them.

Never:
    No secret and no token in an error.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import jwt

from jamestronic_sdk.errors import AuthenticationError, SessionExpiredError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["make_api_keys", "make_jwt", "verify_jwt"]

ALGORITHM: Final = "HS256"

API_KEY_LIFETIME: Final = 10 * 365 * 24 * 3600
"""Seconds; ten years, as the keys that Supabase gives out. They end with the instance anyway."""

API_KEY_ISSUER: Final = "supabase"


def make_jwt(secret: str, claims: Mapping[str, Any]) -> str:
    """Sign claims.

    Args:
        secret: The instance's secret, 32 characters or more (PostgREST 13 asks for that).
        claims: What the token says; nothing is added.
    """
    return jwt.encode(dict(claims), secret, algorithm=ALGORITHM)


def verify_jwt(secret: str, token: str, *, require: Iterable[str] = ()) -> dict[str, Any]:
    """The claims of a token whose signature and times (``exp``, ``nbf``) are right.

    Audience and issuer are not looked at: API keys have neither, or another one.

    Args:
        secret: The instance's secret.
        token: Three base64url parts with dots between.
        require: Claims that must be there, for example ``("role", "exp")``.

    Raises:
        SessionExpiredError: ``exp`` has passed; code ``bad_jwt``.
        AuthenticationError: Anything else is wrong with it; code ``bad_jwt``.
    """
    try:
        return jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            options={
                "require": list(require),
                "verify_aud": False,
                "verify_iss": False,
                # The hosted services do not look at these two either.
                "verify_iat": False,
                "verify_jti": False,
            },
        )
    except jwt.ExpiredSignatureError:
        raise SessionExpiredError(
            "token has invalid claims: token is expired", code="bad_jwt", status=403
        ) from None
    except jwt.InvalidSignatureError:
        raise AuthenticationError(
            "token signature is invalid: signature is invalid", code="bad_jwt", status=403
        ) from None
    except jwt.MissingRequiredClaimError as error:
        raise AuthenticationError(
            f"token has invalid claims: {error.claim} is required", code="bad_jwt", status=403
        ) from None
    except jwt.ImmatureSignatureError:
        raise AuthenticationError(
            "token has invalid claims: token is not valid yet", code="bad_jwt", status=403
        ) from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        # PyJWT's texts may quote the token, and hostile tokens raise bare ValueErrors inside of it.
        raise AuthenticationError("token is malformed", code="bad_jwt", status=403) from None


def make_api_keys(secret: str, *, issued_at: int | None = None) -> tuple[str, str]:
    """The legacy API keys of an instance: ``(anon, service_role)``.

    Args:
        secret: The instance's secret.
        issued_at: Seconds since 1970; None means now. Equal arguments give equal keys.
    """
    now = int(time.time()) if issued_at is None else issued_at
    anon, service_role = (
        make_jwt(secret, {"iss": API_KEY_ISSUER, "role": role, "iat": now, "exp": now + API_KEY_LIFETIME})
        for role in ("anon", "service_role")
    )
    return anon, service_role
