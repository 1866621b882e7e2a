"""Signing up, in and out, and refreshing.

An Authorization header on the first three means nothing: clients send the token of whoever was signed in
before, long expired perhaps.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any, Final

import psycopg
import psycopg.errors
from aiohttp import web

from jamestronic_sdk.local.auth import passwords, sessions
from jamestronic_sdk.local.auth.callers import require_user
from jamestronic_sdk.local.auth.errors import AuthApiProblem, Problem
from jamestronic_sdk.local.auth.requests import audience, lower_email, origin, read_body
from jamestronic_sdk.local.auth.settings import DEFAULT_ROLE
from jamestronic_sdk.local.auth.user_changes import confirm_email, insert_user
from jamestronic_sdk.local.auth.users import find_user_by_email, is_email_taken

if TYPE_CHECKING:
    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = ["log_out", "sign_up", "token"]

_LOG: Final = logging.getLogger("jamestronic_sdk.local.auth")


async def sign_up(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /signup``: a confirmed user and a session at once, for this server sends no mail."""
    settings = server.settings
    body = await read_body(request, limit=settings.body_limit)
    email, phone, password = body.text("email"), body.text("phone"), body.text("password")
    data = body.mapping("data") or {}
    if not email and not phone:
        raise Problem.ANONYMOUS_DISABLED.error()
    if not settings.is_signup_enabled:
        raise Problem.SIGNUP_DISABLED.error()
    if not password:
        raise Problem.VALIDATION_FAILED.error("Signup requires a valid password")
    passwords.check_strength(password, min_length=settings.password_min_length)
    if email and phone:
        raise Problem.VALIDATION_FAILED.error(
            "Only an email address or phone number should be provided on signup."
        )
    if phone:
        raise Problem.PHONE_SIGNUP_DISABLED.error()
    if not settings.is_email_enabled:
        raise Problem.EMAIL_SIGNUP_DISABLED.error()
    email = lower_email(email)
    aud = audience(request)
    async with server.pool.connection() as connection:
        if await is_email_taken(connection, email, aud=aud):
            raise Problem.USER_ALREADY_EXISTS.error()
    encrypted = await passwords.hash_password(password)
    user_id = uuid.uuid4()
    async with server.pool.connection() as connection:
        try:
            await insert_user(
                connection,
                user_id=user_id,
                aud=aud,
                role=DEFAULT_ROLE,
                email=email,
                encrypted_password=encrypted,
                user_metadata=data,
                identity_extra=data,
            )
            await confirm_email(connection, user_id)
        except psycopg.DatabaseError as error:
            raise creation_problem(
                error, Problem.USER_ALREADY_EXISTS, "Database error saving new user"
            ) from None
        response = await server.open_session(connection, user_id, method="password", origin=origin(request))
    return web.json_response(response)


def creation_problem(error: psycopg.DatabaseError, taken: Problem, message: str) -> AuthApiProblem:
    """What to answer when a user could not be written: somebody was faster, or a trigger failed."""
    constraint = error.diag.constraint_name
    if constraint in {"users_email_partial_key", "identities_provider_id_provider_unique"}:
        return taken.error()
    # A trigger on auth.users may raise anything; its text may hold anything, too.
    _LOG.error("%s: SQLSTATE %s, constraint %s", message, error.sqlstate, constraint)
    return Problem.UNEXPECTED_FAILURE.error(message)


async def token(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /token?grant_type=``."""
    match request.query.get("grant_type", ""):
        case "password":
            return await _password_grant(request, server)
        case "refresh_token":
            return await _refresh_token_grant(request, server)
        case "id_token" | "pkce" | "web3" as grant_type:
            raise Problem.NOT_IMPLEMENTED.error(
                f"The local Auth server does not have POST /token?grant_type={grant_type} yet"
            )
        case _:
            raise Problem.UNSUPPORTED_GRANT_TYPE.error()


async def _password_grant(request: web.Request, server: AuthServer) -> web.Response:
    body = await read_body(request, limit=server.settings.body_limit)
    email, phone, password = body.text("email"), body.text("phone"), body.text("password")
    if email and phone:
        raise Problem.VALIDATION_FAILED.error(
            "Only an email address or phone number should be provided on login."
        )
    if phone:
        raise Problem.PHONE_LOGIN_DISABLED.error()
    if not email:
        raise Problem.VALIDATION_FAILED.error("missing email or phone")
    if not server.settings.is_email_enabled:
        raise Problem.EMAIL_LOGIN_DISABLED.error()
    async with server.pool.connection() as connection:
        user = await find_user_by_email(connection, email.lower(), aud=audience(request))
    if user is None or not user.encrypted_password:
        raise Problem.INVALID_CREDENTIALS.error()
    if user.is_banned:
        raise Problem.BANNED_AT_SIGN_IN.error()
    if not await passwords.is_right(password, user.encrypted_password):
        raise Problem.INVALID_CREDENTIALS.error()
    if user.email_confirmed_at is None:
        raise Problem.EMAIL_NOT_CONFIRMED.error()
    async with server.pool.connection() as connection:
        try:
            response = await server.open_session(
                connection, user.id, method="password", origin=origin(request)
            )
        except psycopg.errors.ForeignKeyViolation:
            # Deleted while the password was compared.
            raise Problem.INVALID_CREDENTIALS.error() from None
    return web.json_response(response | _weakness(password, server))


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
    return web.Response(status=204)
