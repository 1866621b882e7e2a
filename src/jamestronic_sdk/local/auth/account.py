"""``/user``: what a signed-in user sees and changes of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from jamestronic_sdk.local.auth import passwords, sessions
from jamestronic_sdk.local.auth.callers import require_user
from jamestronic_sdk.local.auth.errors import Problem
from jamestronic_sdk.local.auth.requests import lower_email, read_body
from jamestronic_sdk.local.auth.user_changes import merge_metadata, set_password
from jamestronic_sdk.local.auth.users import (
    User,
    find_user_by_id,
    identities_of,
    is_email_taken,
    user_json,
)

if TYPE_CHECKING:
    import uuid

    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = ["get_user", "put_user", "shown_user"]


async def get_user(request: web.Request, server: AuthServer) -> web.Response:
    """``GET /user``."""
    caller = await require_user(request, server)
    aud = caller.claims.get("aud")
    wanted = request.headers.get("X-JWT-AUD") or aud
    if not isinstance(aud, str) or not aud or aud != wanted:
        raise Problem.VALIDATION_FAILED.error("Token audience doesn't match request audience")
    async with server.pool.connection() as connection:
        return await shown_user(connection, caller.user.id, gone=Problem.TOKEN_USER_GONE)


async def put_user(request: web.Request, server: AuthServer) -> web.Response:
    """``PUT /user``: password and own metadata; another address needs a mail, which comes later."""
    caller = await require_user(request, server)
    user = caller.user
    body = await read_body(request, limit=server.settings.body_limit)
    email, password = body.text("email"), body.optional_text("password")
    phone, data = body.text("phone"), body.mapping("data")
    email = lower_email(email) if email else ""
    if password is not None:
        passwords.check_strength(password, min_length=server.settings.password_min_length)
    if body.mapping("app_metadata") is not None:
        raise Problem.NOT_ADMIN.error("Updating app_metadata requires admin privileges")
    await _refuse_other_address(server, user, email=email, phone=phone)
    encrypted = None if password is None else await _other_hash(user, password)
    async with server.pool.connection() as connection:
        if encrypted is not None:
            await set_password(connection, user.id, encrypted)
            if caller.session_id is None:
                await sessions.delete_sessions_of(connection, user.id)
            else:
                await sessions.delete_other_sessions(connection, user.id, caller.session_id)
        if data is not None:
            await merge_metadata(connection, user.id, user=data)
        return await shown_user(connection, user.id, gone=Problem.TOKEN_USER_GONE)


async def _refuse_other_address(server: AuthServer, user: User, *, email: str, phone: str) -> None:
    if email and email != user.email:
        async with server.pool.connection() as connection:
            if await is_email_taken(connection, email, aud=user.aud, but=user.id):
                raise Problem.EMAIL_EXISTS.error()
        raise Problem.NOT_IMPLEMENTED.error("The local Auth server can't change an email in PUT /user yet")
    if phone and phone != user.phone:
        raise Problem.NOT_IMPLEMENTED.error("The local Auth server can't change a phone in PUT /user yet")


async def _other_hash(user: User, password: str) -> str:
    if await passwords.is_right(password, user.encrypted_password):
        raise Problem.SAME_PASSWORD.error()
    return await passwords.hash_password(password)


async def shown_user(connection: AsyncConnection, user_id: uuid.UUID, *, gone: Problem) -> web.Response:
    """The user as this transaction sees them.

    Raises:
        AuthApiProblem: ``gone``, when somebody deleted them meanwhile.
    """
    user = await find_user_by_id(connection, user_id)
    if user is None:
        raise gone.error()
    return web.json_response(user_json(user, await identities_of(connection, user_id)))
