"""Signing in and out, and refreshing.

An Authorization header on ``/token`` means nothing: clients send the token of whoever was signed in before,
long expired perhaps.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg.errors
from aiohttp import web

from jamestronic_sdk.local.auth import passwords, sessions
from jamestronic_sdk.local.auth.audit import Action, record
from jamestronic_sdk.local.auth.callers import require_user
from jamestronic_sdk.local.auth.errors import AuthApiProblem, Problem
from jamestronic_sdk.local.auth.flows import exchange
from jamestronic_sdk.local.auth.requests import audience, origin, read_body
from jamestronic_sdk.local.auth.users import User, find_user_by_email, find_user_by_phone

if TYPE_CHECKING:
    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = ["log_out", "refuse_saml", "token"]


async def token(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /token?grant_type=``."""
    match request.query.get("grant_type", ""):
        case "password":
            return await _password_grant(request, server)
        case "refresh_token":
            return await _refresh_token_grant(request, server)
        case "pkce":
            return await exchange(request, server)
        case "id_token":
            return await _id_token_grant(request, server)
        case "web3":
            raise Problem.WEB3_DISABLED.error()
        case _:
            raise Problem.UNSUPPORTED_GRANT_TYPE.error()


async def _password_grant(request: web.Request, server: AuthServer) -> web.Response:
    body = await read_body(request, limit=server.settings.body_limit)
    email, phone, password = body.text("email"), body.text("phone"), body.text("password")
    user = await _find_by_name(server, email, phone, aud=audience(request))
    if user is None or not user.encrypted_password:
        raise Problem.INVALID_CREDENTIALS.error()
    if user.is_banned:
        raise Problem.BANNED_AT_SIGN_IN.error()
    if not await passwords.is_right(password, user.encrypted_password):
        raise Problem.INVALID_CREDENTIALS.error()
    if email and user.email_confirmed_at is None:
        raise Problem.EMAIL_NOT_CONFIRMED.error()
    if phone and user.phone_confirmed_at is None:
        raise Problem.PHONE_NOT_CONFIRMED.error()
    async with server.pool.connection() as connection:
        try:
            response = await server.open_session(
                connection, user.id, method="password", origin=origin(request)
            )
        except psycopg.errors.ForeignKeyViolation:
            # Deleted while the password was compared.
            raise Problem.INVALID_CREDENTIALS.error() from None
    return web.json_response(response | _weakness(password, server))


async def _id_token_grant(request: web.Request, server: AuthServer) -> NoReturn:
    """Refused: as hosted Auth does for a provider that is off, by name for one that is on."""
    body = await read_body(request, limit=server.settings.body_limit)
    provider = body.text("provider") or body.text("issuer")
    if not provider:
        raise Problem.VALIDATION_FAILED.error("Must provide provider or client_id and issuer")
    if provider not in server.settings.local_providers:
        raise Problem.PROVIDER_DISABLED.error(f'Provider (issuer "{provider}") is not enabled')
    raise Problem.NOT_IMPLEMENTED.error("The local Auth server does not have ID tokens of providers yet")


async def _find_by_name(server: AuthServer, email: str, phone: str, *, aud: str) -> User | None:
    """Who signs in with that address or number."""
    if email and phone:
        raise Problem.VALIDATION_FAILED.error(
            "Only an email address or phone number should be provided on login."
        )
    if not email and not phone:
        raise Problem.VALIDATION_FAILED.error("missing email or phone")
    if phone and not server.settings.is_phone_enabled:
        raise Problem.PHONE_LOGIN_DISABLED.error()
    if email and not server.settings.is_email_enabled:
        raise Problem.EMAIL_LOGIN_DISABLED.error()
    async with server.pool.connection() as connection:
        if email:
            return await find_user_by_email(connection, email.lower(), aud=aud)
        # Unlike at sign-up, what is no number is only unknown.
        digits = phone.removeprefix("+").replace(" ", "")
        return await find_user_by_phone(connection, digits, aud=aud)


def _weakness(password: str, server: AuthServer) -> dict[str, Any]:
    """A hint beside the session when today's rules would refuse the password."""
    try:
        passwords.check_strength(password, min_length=server.settings.password_min_length)
    except AuthApiProblem as problem:
        if "weak_password" in problem.extra:
            return {"weak_password": {"message": problem.message, **problem.extra["weak_password"]}}
    return {}


async def _refresh_token_grant(request: web.Request, server: AuthServer) -> web.Response:
    body = await read_body(request, limit=server.settings.body_limit)
    response = await server.refresh_session(body.text("refresh_token"), origin(request))
    return web.json_response(response)


async def refuse_saml(_request: web.Request, _server: AuthServer) -> web.Response:
    """``POST /sso``: what a hosted project without SAML answers."""
    raise Problem.SAML_DISABLED.error()


async def log_out(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /logout?scope=``: 204; access tokens live on until they expire."""
    caller = await require_user(request, server)
    scope = request.query.get("scope") or "global"
    if scope not in {"global", "local", "others"}:
        raise Problem.VALIDATION_FAILED.error("Unsupported logout scope")
    async with server.pool.connection() as connection:
        match scope, caller.session_id:
            case "local", uuid.UUID() as session_id:
                await sessions.delete_session(connection, session_id)
            case "others", uuid.UUID() as session_id:
                await sessions.delete_other_sessions(connection, caller.user.id, session_id)
            case _:
                await sessions.delete_sessions_of(connection, caller.user.id)
        await record(connection, Action.LOGOUT, caller.user, origin(request))
    return web.Response(status=204)
