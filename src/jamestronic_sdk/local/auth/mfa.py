"""``/factors``: a second factor, TOTP, and the sessions that it raises to ``aal2``.

Promises:
    A challenge is answered once, from where it was asked for, within its lifetime.
    A right code raises this session, and ends the user's sessions that have shown one factor only.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohttp import web

from jamestronic_sdk.local.auth import factors, sessions, totp
from jamestronic_sdk.local.auth.administration import named_user
from jamestronic_sdk.local.auth.audit import Action, record
from jamestronic_sdk.local.auth.callers import Caller, parse_uuid, require_admin, require_user
from jamestronic_sdk.local.auth.errors import Problem
from jamestronic_sdk.local.auth.factors import Factor, factor_json, factors_of, find_factor
from jamestronic_sdk.local.auth.requests import origin, read_body

if TYPE_CHECKING:
    import uuid

    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = [
    "admin_delete",
    "admin_list",
    "admin_update",
    "challenge",
    "enroll",
    "unenroll",
    "verify",
]

_NOWHERE: Final = "127.0.0.1"
"""In place of an address that is none: the column has to have one."""


async def enroll(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /factors``: a secret, and the QR code that takes it into an application."""
    caller, session_id = await _require_session(request, server)
    body = await read_body(request, limit=server.settings.body_limit)
    name, issuer = body.text("friendly_name"), body.text("issuer")
    match body.text("factor_type"):
        case "totp" if server.settings.is_totp_enabled:
            pass
        case "totp":
            raise Problem.TOTP_DISABLED.error()
        case "phone":
            raise Problem.MFA_PHONE_DISABLED.error()
        case "webauthn":
            raise Problem.MFA_WEBAUTHN_DISABLED.error()
        case _:
            raise Problem.VALIDATION_FAILED.error("factor_type needs to be totp, phone, or webauthn")
    if not caller.user.email:
        # So it is in hosted Auth: applications show the address beside the code.
        raise Problem.UNEXPECTED_FAILURE.error("Error generating QR Code")
    secret = totp.make_secret()
    uri = totp.uri(
        secret, issuer=issuer or urlsplit(server.settings.site_url).netloc, account=caller.user.email
    )
    async with server.pool.connection() as connection:
        await _check_enrollment(connection, server, caller, session_id, name)
        factor_id = await factors.add_factor(connection, caller.user.id, friendly_name=name, secret=secret)
        await record(
            connection, Action.FACTOR_ENROLLED, caller.user, origin(request), factor_id=str(factor_id)
        )
    return web.json_response(
        {
            "id": str(factor_id),
            "type": "totp",
            "friendly_name": name,
            "totp": {"qr_code": totp.qr_code(uri), "secret": secret, "uri": uri},
        }
    )


async def _check_enrollment(
    connection: AsyncConnection, server: AuthServer, caller: Caller, session_id: uuid.UUID, name: str
) -> None:
    await sessions.lock_user(connection, caller.user.id)
    await factors.delete_abandoned(connection, caller.user.id)
    existing = await factors_of(connection, caller.user.id)
    if any(factor.friendly_name == name for factor in existing):
        raise Problem.MFA_NAME_CONFLICT.error()
    if len(existing) >= server.settings.max_factors:
        raise Problem.MFA_TOO_MANY.error()
    if any(factor.is_verified for factor in existing) and not await sessions.is_aal2(connection, session_id):
        raise Problem.AAL2_TO_ENROLL.error()


async def challenge(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /factors/{factor_id}/challenge``."""
    caller, _ = await _require_session(request, server)
    await read_body(request, limit=server.settings.body_limit, may_be_empty=True)
    if not server.settings.is_totp_enabled:
        raise Problem.TOTP_VERIFY_DISABLED.error()
    async with server.pool.connection() as connection:
        factor = await _named_factor(request, connection, caller.user.id)
        challenge_id, expires_at = await factors.add_challenge(
            connection,
            factor.id,
            ip=origin(request).ip or _NOWHERE,
            lifetime=server.settings.challenge_lifetime,
        )
        await record(
            connection, Action.CHALLENGE_CREATED, caller.user, origin(request), factor_id=str(factor.id)
        )
    return web.json_response({"id": str(challenge_id), "type": factor.factor_type, "expires_at": expires_at})


async def verify(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /factors/{factor_id}/verify``: the session with two factors."""
    caller, session_id = await _require_session(request, server)
    body = await read_body(request, limit=server.settings.body_limit)
    challenge_id, code = parse_uuid(body.text("challenge_id")), body.text("code")
    if not code:
        raise Problem.VALIDATION_FAILED.error("Code needs to be non-empty")
    if challenge_id is None:
        raise Problem.BAD_JSON.error("Could not parse request body as JSON: challenge_id must be an UUID")
    if not server.settings.is_totp_enabled:
        raise Problem.TOTP_VERIFY_DISABLED.error()
    where = origin(request)
    async with server.pool.connection() as connection:
        # The order of locks is that of a refresh: the session first.
        await sessions.lock_session(connection, session_id)
        factor = await _named_factor(request, connection, caller.user.id)
        asked = await factors.lock_challenge(
            connection, challenge_id, factor.id, lifetime=server.settings.challenge_lifetime
        )
        if asked is None:
            raise Problem.MFA_CHALLENGE_NOT_FOUND.error()
        if asked.is_answered or asked.ip != (where.ip or _NOWHERE):
            raise Problem.MFA_IP_MISMATCH.error()
        if asked.is_expired:
            await factors.delete_challenge(connection, asked)
        else:
            if not totp.is_right(factor.secret, code, now=time.time()):
                raise Problem.MFA_VERIFICATION_FAILED.error()
            await factors.verify_factor(connection, factor.id, asked)
            await record(
                connection, Action.VERIFICATION_ATTEMPTED, caller.user, where, factor_id=str(factor.id)
            )
            await sessions.raise_to_aal2(connection, session_id, factor.id, method="totp")
            response = await server.upgraded_session(connection, caller.user.id, session_id, origin=where)
            await sessions.delete_aal1_sessions(connection, caller.user.id)
            await factors.delete_unverified(connection, caller.user.id)
            return web.json_response(response)
    # Raised out here: that the challenge is gone is committed.
    raise Problem.MFA_CHALLENGE_EXPIRED.error()


async def unenroll(request: web.Request, server: AuthServer) -> web.Response:
    """``DELETE /factors/{factor_id}``: a verified one from a session that has shown two."""
    caller, session_id = await _require_session(request, server)
    async with server.pool.connection() as connection:
        factor = await _named_factor(request, connection, caller.user.id)
        if factor.is_verified and not await sessions.is_aal2(connection, session_id):
            raise Problem.AAL2_TO_UNENROLL.error()
        await factors.delete_factor(connection, factor.id)
        await record(
            connection, Action.FACTOR_UNENROLLED, caller.user, origin(request), factor_id=str(factor.id)
        )
    return web.json_response({"id": str(factor.id)})


async def admin_list(request: web.Request, server: AuthServer) -> web.Response:
    """``GET /admin/users/{user_id}/factors``."""
    await require_admin(request, server)
    async with server.pool.connection() as connection:
        user = await named_user(request, connection)
        found = await factors_of(connection, user.id)
    return web.json_response([factor_json(factor) for factor in found])


async def admin_update(request: web.Request, server: AuthServer) -> web.Response:
    """``PUT /admin/users/{user_id}/factors/{factor_id}``: another name."""
    await require_admin(request, server)
    body = await read_body(request, limit=server.settings.body_limit)
    name = body.text("friendly_name")
    async with server.pool.connection() as connection:
        user = await named_user(request, connection)
        factor = await _named_factor(request, connection, user.id)
        if name:
            await factors.rename_factor(connection, factor.id, name)
            factor = await _named_factor(request, connection, user.id)
    return web.json_response(factor_json(factor))


async def admin_delete(request: web.Request, server: AuthServer) -> web.Response:
    """``DELETE /admin/users/{user_id}/factors/{factor_id}``."""
    await require_admin(request, server)
    async with server.pool.connection() as connection:
        user = await named_user(request, connection)
        factor = await _named_factor(request, connection, user.id)
        await factors.delete_factor(connection, factor.id)
    return web.json_response(factor_json(factor))


async def _require_session(request: web.Request, server: AuthServer) -> tuple[Caller, uuid.UUID]:
    caller = await require_user(request, server)
    if caller.user.is_anonymous:
        raise Problem.ANONYMOUS_NOT_ALLOWED.error()
    if caller.session_id is None:
        raise Problem.UNEXPECTED_FAILURE.error(
            "A valid session and a registered user are required to enroll a factor"
        )
    return caller, caller.session_id


async def _named_factor(request: web.Request, connection: AsyncConnection, user_id: uuid.UUID) -> Factor:
    factor_id = parse_uuid(request.match_info["factor_id"])
    if factor_id is None:
        raise Problem.FACTOR_ID_NOT_UUID.error()
    factor = await find_factor(connection, factor_id, user_id)
    if factor is None:
        raise Problem.FACTOR_NOT_FOUND.error()
    return factor
