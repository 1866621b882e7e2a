"""``/admin/users``: for the service role only."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg
from aiohttp import web

from jamestronic_sdk.local.auth import passwords, sessions
from jamestronic_sdk.local.auth.account import shown_user
from jamestronic_sdk.local.auth.audit import Action, record_of_admin
from jamestronic_sdk.local.auth.callers import parse_uuid, require_admin
from jamestronic_sdk.local.auth.durations import parse_duration
from jamestronic_sdk.local.auth.errors import Problem
from jamestronic_sdk.local.auth.requests import (
    Body,
    audience,
    lower_email,
    origin,
    page_number,
    phone_digits,
    read_body,
)
from jamestronic_sdk.local.auth.settings import DEFAULT_ROLE
from jamestronic_sdk.local.auth.sign_up import creation_problem
from jamestronic_sdk.local.auth.user_changes import (
    confirm_email,
    confirm_phone,
    delete_user,
    insert_phone_identity,
    insert_user,
    merge_metadata,
    set_ban,
    set_email,
    set_password,
    set_phone,
    set_role,
    soft_delete_user,
    sync_providers,
)
from jamestronic_sdk.local.auth.users import (
    User,
    count_users,
    find_user_by_id,
    is_email_taken,
    is_phone_taken,
    list_users,
    user_json,
)

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.grants import AuthServer
    from jamestronic_sdk.local.auth.requests import Origin

__all__ = ["create", "delete", "get", "list_page", "named_user", "update"]

PAGE_SIZE: Final = 50
_SORT: Final = {"": False, "created_at": False, "created_at desc": False, "created_at asc": True}


async def create(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /admin/users``."""
    await require_admin(request, server)
    body = await read_body(request, limit=server.settings.body_limit)
    email, aud = body.text("email"), body.text("aud") or audience(request)
    if not email and not body.text("phone"):
        raise Problem.VALIDATION_FAILED.error("Cannot create a user without either an email or phone")
    email = lower_email(email) if email else ""
    phone = phone_digits(body.text("phone")) if body.text("phone") else ""
    async with server.pool.connection() as connection:
        if email and await is_email_taken(connection, email, aud=aud):
            raise Problem.EMAIL_EXISTS.error()
        if phone and await is_phone_taken(connection, phone, aud=aud):
            raise Problem.PHONE_EXISTS.error()
    user_id = _wanted_id(body)
    encrypted = await _encrypted_password(body)
    ban = _ban_seconds(body)
    app, data = body.mapping("app_metadata"), body.mapping("user_metadata")
    is_confirmed, role = body.flag("email_confirm"), body.text("role") or DEFAULT_ROLE
    is_phone_confirmed = body.flag("phone_confirm")
    async with server.pool.connection() as connection:
        try:
            await insert_user(
                connection,
                user_id=user_id,
                aud=aud,
                role=role,
                email=email,
                phone=phone,
                encrypted_password=encrypted,
                user_metadata=data or {},
            )
            if email and phone:
                await insert_phone_identity(connection, user_id, phone=phone)
                await sync_providers(connection, user_id)
            if app is not None:
                await merge_metadata(connection, user_id, app=app)
            if is_confirmed and email:
                await confirm_email(connection, user_id)
            if is_phone_confirmed and phone:
                await confirm_phone(connection, user_id)
            if ban is not None:
                await set_ban(connection, user_id, ban)
        except psycopg.DatabaseError as error:
            raise creation_problem(error, Problem.EMAIL_EXISTS, "Database error creating new user") from None
        return await _created(connection, user_id, origin(request))


async def _created(connection: AsyncConnection, user_id: uuid.UUID, where: Origin) -> web.Response:
    """The new user, as triggers have left them."""
    user = await find_user_by_id(connection, user_id)
    if user is not None:
        await record_of_admin(connection, Action.SIGNED_UP, user, where)
    return await shown_user(connection, user_id, gone=Problem.USER_NOT_FOUND)


async def list_page(request: web.Request, server: AuthServer) -> web.Response:
    """``GET /admin/users?page=&per_page=&filter=&sort=``; empty values count as absent."""
    await require_admin(request, server)
    page, size = page_number(request, "page", 1), page_number(request, "per_page", PAGE_SIZE)
    is_ascending = _SORT.get(request.query.get("sort", "").strip().lower())
    if is_ascending is None:
        raise Problem.VALIDATION_FAILED.error("Bad Sort Parameters: only created_at is sorted by")
    aud, pattern = audience(request), request.query.get("filter", "")
    if "\0" in pattern:
        raise Problem.VALIDATION_FAILED.error("Bad filter")
    async with server.pool.connection() as connection:
        total = await count_users(connection, aud=aud, pattern=pattern)
        users = await list_users(
            connection,
            aud=aud,
            pattern=pattern,
            limit=size,
            offset=(page - 1) * size,
            is_ascending=is_ascending,
        )
    return web.json_response(
        {"users": [user_json(user, None) for user in users], "aud": aud},
        headers={
            "X-Total-Count": str(total),
            "Link": _links(request, page=page, last=-(-total // size)),
        },
    )


def _links(request: web.Request, *, page: int, last: int) -> str:
    links = [f'<{request.rel_url.update_query(page=last)}>; rel="last"']
    if page < last:
        links.insert(0, f'<{request.rel_url.update_query(page=page + 1)}>; rel="next"')
    return ", ".join(links)


async def get(request: web.Request, server: AuthServer) -> web.Response:
    """``GET /admin/users/{user_id}``."""
    await require_admin(request, server)
    async with server.pool.connection() as connection:
        user = await named_user(request, connection)
        return await shown_user(connection, user.id, gone=Problem.USER_NOT_FOUND)


async def update(request: web.Request, server: AuthServer) -> web.Response:
    """``PUT /admin/users/{user_id}``: metadata is merged; a new password ends all sessions."""
    await require_admin(request, server)
    async with server.pool.connection() as connection:
        user = await named_user(request, connection)
    body = await read_body(request, limit=server.settings.body_limit)
    changes = await _changes(body, min_length=server.settings.password_min_length)
    async with server.pool.connection() as connection:
        try:
            await _apply(connection, user, changes)
        except psycopg.DatabaseError as error:
            raise creation_problem(error, Problem.EMAIL_EXISTS, "Error updating user") from None
        await record_of_admin(connection, Action.MODIFIED, user, origin(request))
        return await shown_user(connection, user.id, gone=Problem.USER_NOT_FOUND)


@dataclass(frozen=True, slots=True)
class _Changes:
    """What an update asks for; None and "" leave things as they are."""

    email: str
    phone: str
    role: str
    encrypted_password: str | None = field(repr=False)
    app_metadata: dict[str, Any] | None
    user_metadata: dict[str, Any] | None
    is_confirmed: bool
    is_phone_confirmed: bool
    ban_seconds: float | None


async def _changes(body: Body, *, min_length: int) -> _Changes:
    email, phone = body.text("email"), body.text("phone")
    password = body.optional_text("password")
    if password is not None:
        passwords.check_strength(password, min_length=min_length)
    return _Changes(
        email=lower_email(email) if email else "",
        phone=phone_digits(phone) if phone else "",
        role=body.text("role"),
        app_metadata=body.mapping("app_metadata"),
        user_metadata=body.mapping("user_metadata"),
        is_confirmed=body.flag("email_confirm"),
        is_phone_confirmed=body.flag("phone_confirm"),
        ban_seconds=_ban_seconds(body),
        encrypted_password=None if password is None else await passwords.hash_password(password),
    )


async def _apply(connection: AsyncConnection, user: User, changes: _Changes) -> None:
    if changes.role:
        await set_role(connection, user.id, changes.role)
    if changes.encrypted_password is not None:
        await set_password(connection, user.id, changes.encrypted_password)
        await sessions.delete_sessions_of(connection, user.id)
    await _apply_addresses(connection, user, changes)
    if changes.app_metadata is not None or changes.user_metadata is not None:
        await merge_metadata(connection, user.id, app=changes.app_metadata, user=changes.user_metadata)
    if changes.ban_seconds is not None:
        await set_ban(connection, user.id, changes.ban_seconds)


async def _apply_addresses(connection: AsyncConnection, user: User, changes: _Changes) -> None:
    if changes.is_confirmed:
        await confirm_email(connection, user.id)
    if changes.email:
        # Hosted Auth leaves this to the unique index and answers 500; the code is worth more.
        if await is_email_taken(connection, changes.email, aud=user.aud, but=user.id):
            raise Problem.EMAIL_EXISTS.error()
        await set_email(connection, user.id, changes.email, is_verified=changes.is_confirmed)
    if changes.is_phone_confirmed:
        await confirm_phone(connection, user.id)
    if changes.phone:
        if await is_phone_taken(connection, changes.phone, aud=user.aud, but=user.id):
            raise Problem.PHONE_EXISTS.error()
        await set_phone(connection, user.id, changes.phone)
    if changes.email or changes.phone:
        await sync_providers(connection, user.id)


async def delete(request: web.Request, server: AuthServer) -> web.Response:
    """``DELETE /admin/users/{user_id}``: with ``should_soft_delete`` the row stays, without its person."""
    await require_admin(request, server)
    async with server.pool.connection() as connection:
        user = await named_user(request, connection)
    body = await read_body(request, limit=server.settings.body_limit, may_be_empty=True)
    is_soft = body.flag("should_soft_delete")
    async with server.pool.connection() as connection:
        try:
            if is_soft:
                await soft_delete_user(connection, user.id)
                await sessions.delete_sessions_of(connection, user.id)
            else:
                await delete_user(connection, user.id)
        except psycopg.DatabaseError as error:
            raise creation_problem(error, Problem.EMAIL_EXISTS, "Database error deleting user") from None
        await record_of_admin(connection, Action.DELETED, user, origin(request))
    return web.json_response({})


async def named_user(request: web.Request, connection: AsyncConnection) -> User:
    """The user of the path.

    Raises:
        AuthApiProblem: There is none (404).
    """
    user_id = parse_uuid(request.match_info["user_id"])
    if user_id is None:
        raise Problem.USER_ID_NOT_UUID.error()
    user = await find_user_by_id(connection, user_id)
    if user is None:
        raise Problem.USER_NOT_FOUND.error()
    return user


def _wanted_id(body: Body) -> uuid.UUID:
    text = body.text("id")
    if not text:
        return uuid.uuid4()
    user_id = parse_uuid(text)
    if user_id is None:
        raise Problem.VALIDATION_FAILED.error("ID must conform to the uuid v4 format")
    if user_id.int == 0:
        raise Problem.VALIDATION_FAILED.error("ID cannot be a nil uuid")
    return user_id


async def _encrypted_password(body: Body) -> str:
    password, password_hash = body.optional_text("password"), body.text("password_hash")
    if password is not None and password_hash:
        raise Problem.VALIDATION_FAILED.error("Only a password or a password hash should be provided")
    if password_hash.startswith(("$argon2", "$fbscrypt")):
        raise Problem.NOT_IMPLEMENTED.error("The local Auth server reads bcrypt in password_hash only")
    if password_hash:
        if not passwords.is_bcrypt_hash(password_hash):
            raise Problem.VALIDATION_FAILED.error("password_hash must be a bcrypt hash")
        return password_hash
    # Without a password nobody signs in, and nobody can guess it.
    return await passwords.hash_password(password or secrets.token_urlsafe(48))


def _ban_seconds(body: Body) -> float | None:
    text = body.text("ban_duration")
    if not text:
        return None
    seconds = 0.0 if text == "none" else parse_duration(text)
    if seconds is None:
        raise Problem.VALIDATION_FAILED.error("invalid format for ban duration")
    return seconds
