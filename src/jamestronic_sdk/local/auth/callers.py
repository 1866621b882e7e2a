"""Who calls: the user behind a bearer token, or an admin."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jamestronic_sdk.errors import AuthenticationError
from jamestronic_sdk.local.auth.errors import Problem
from jamestronic_sdk.local.auth.requests import bearer_token
from jamestronic_sdk.local.auth.sessions import has_session
from jamestronic_sdk.local.auth.settings import ADMIN_ROLES
from jamestronic_sdk.local.auth.users import User, find_user_by_id
from jamestronic_sdk.local.tokens import verify_jwt

if TYPE_CHECKING:
    from aiohttp import web

    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = ["Caller", "require_admin", "require_user"]


@dataclass(frozen=True, slots=True)
class Caller:
    """A user with a valid access token."""

    claims: dict[str, Any]
    user: User
    session_id: uuid.UUID | None
    """None for tokens that were not issued by Auth."""


async def require_user(request: web.Request, server: AuthServer) -> Caller:
    """The user of the bearer token, whose session is still there.

    Raises:
        AuthApiProblem: No token, a bad one, or its user or session is gone, or the user is banned.
    """
    caller = await _load(_verified(request, server), server)
    if caller.user.is_banned:
        raise Problem.BANNED_WITH_TOKEN.error()
    return caller


async def require_admin(request: web.Request, server: AuthServer) -> None:
    """Let only tokens with an admin role pass.

    Raises:
        AuthApiProblem: No token, a bad one, another role, or a session that was signed out.
    """
    claims = _verified(request, server)
    if claims.get("session_id"):
        await _load(claims, server)
    if claims.get("role") not in ADMIN_ROLES:
        raise Problem.NOT_ADMIN.error()


def _verified(request: web.Request, server: AuthServer) -> dict[str, Any]:
    token = bearer_token(request)
    try:
        return verify_jwt(server.context.jwt_secret, token, key=server.context.signing_key)
    except AuthenticationError as error:
        raise Problem.BAD_JWT.error(
            f"invalid JWT: unable to parse or verify signature, {error.message}"
        ) from None


async def _load(claims: dict[str, Any], server: AuthServer) -> Caller:
    subject = claims.get("sub")
    if not subject:
        raise Problem.BAD_JWT.error("invalid claim: missing sub claim")
    user_id = parse_uuid(subject)
    if user_id is None:
        raise Problem.SUB_NOT_UUID.error()
    async with server.pool.connection() as connection:
        user = await find_user_by_id(connection, user_id)
        if user is None:
            raise Problem.TOKEN_USER_GONE.error()
        session_id: uuid.UUID | None = None
        if claims.get("session_id"):
            session_id = parse_uuid(claims["session_id"])
            if session_id is None:
                raise Problem.BAD_JWT.error("invalid claim: session_id claim must be a UUID")
            if not await has_session(connection, session_id):
                raise Problem.TOKEN_SESSION_GONE.error()
    return Caller(claims=claims, user=user, session_id=session_id)


def parse_uuid(value: object) -> uuid.UUID | None:
    """The uuid, or None when the value is none."""
    try:
        return uuid.UUID(str(value))
    except ValueError:
        return None
