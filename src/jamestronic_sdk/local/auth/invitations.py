"""``/invite`` and ``/admin/generate_link``: links that an admin sends, or has sent."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
from aiohttp import web

from jamestronic_sdk.local.auth import passwords
from jamestronic_sdk.local.auth.audit import Action, record_of_admin
from jamestronic_sdk.local.auth.callers import require_admin
from jamestronic_sdk.local.auth.codes import Code, digest, keep_code, lock_codes, make_code
from jamestronic_sdk.local.auth.courier import Courier, posting
from jamestronic_sdk.local.auth.errors import Problem
from jamestronic_sdk.local.auth.redirects import is_allowed, redirect_target
from jamestronic_sdk.local.auth.requests import Body, audience, lower_email, origin, read_body
from jamestronic_sdk.local.auth.settings import DEFAULT_ROLE
from jamestronic_sdk.local.auth.sign_up import SignUp, creation_problem
from jamestronic_sdk.local.auth.user_changes import (
    insert_user,
    merge_metadata,
    note_email_change,
    note_invitation,
)
from jamestronic_sdk.local.auth.users import User, find_user_by_email, find_user_by_id, is_email_taken
from jamestronic_sdk.local.auth.whole_user import whole_user

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = ["generate_link", "invite"]


async def invite(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /invite``: a user without a password, and a message that lets them in."""
    await require_admin(request, server)
    body = await read_body(request, limit=server.settings.body_limit)
    asked = _asked(request, body)
    async with posting(request, server) as (connection, courier):
        user = await _invitee(connection, asked)
        await courier.invitation(connection, user)
        await note_invitation(connection, user.id)
        await record_of_admin(connection, Action.INVITED, user, origin(request))
        return web.json_response(await whole_user(connection, await _reread(connection, user.id)))


async def generate_link(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /admin/generate_link``: the code and the link, for the admin to send; no message."""
    await require_admin(request, server)
    body = await read_body(request, limit=server.settings.body_limit)
    asked, kind = _asked(request, body), body.text("type")
    async with server.pool.connection() as connection:
        user = await find_user_by_email(connection, asked.email, aud=asked.aud)
    if user is None and kind == "magiclink":
        kind, asked = "signup", replace(asked, password=secrets.token_urlsafe(48))
    encrypted = await _encrypted(asked, server) if user is None and kind == "signup" else None
    target = body.text("redirect_to")
    if not is_allowed(target, server.settings):
        target = redirect_target(request, server.settings)
    otp = make_code(server.settings.code_length)
    token_hash = digest(asked.email, otp)
    async with server.pool.connection() as connection:
        match kind:
            case "signup":
                user = await _newcomer(connection, asked, encrypted=encrypted)
                code, to = Code.CONFIRMATION, asked.email
            case "invite":
                user = await _invitee(connection, asked)
                await note_invitation(connection, user.id)
                code, to = Code.CONFIRMATION, asked.email
            case "magiclink" | "recovery":
                user = _known(user)
                code, to = Code.RECOVERY, asked.email
            case "email_change_current" | "email_change_new":
                user = _known(user)
                code, to = await _begin_email_change(connection, server, user, body, kind)
            case _:
                raise Problem.VALIDATION_FAILED.error("Invalid email action link type requested")
        await lock_codes(connection, user.id)
        kept = digest(to, otp)
        await keep_code(connection, user.id, code, kept, relates_to=to)
        link = Courier(server, target).link(kept, kind.removesuffix("_current").removesuffix("_new"))
        shown = await whole_user(connection, await _reread(connection, user.id))
    return web.json_response(
        shown
        | {
            "action_link": link,
            "email_otp": otp,
            # Of the old address in every case, as in hosted Auth; the link of a new address has its own.
            "hashed_token": token_hash,
            "verification_type": kind,
            "redirect_to": target,
        }
    )


def _asked(request: web.Request, body: Body) -> SignUp:
    return SignUp(
        aud=audience(request),
        email=lower_email(body.text("email")),
        password=body.text("password"),
        data=body.mapping("data") or {},
    )


async def _encrypted(asked: SignUp, server: AuthServer) -> str:
    if not asked.password:
        raise Problem.VALIDATION_FAILED.error("Signup requires a valid password")
    passwords.check_strength(asked.password, min_length=server.settings.password_min_length)
    return await passwords.hash_password(asked.password)


def _known(user: User | None) -> User:
    if user is None:
        raise Problem.USER_NOT_FOUND.error("User with this email not found")
    return user


async def _invitee(connection: AsyncConnection, asked: SignUp) -> User:
    """The user of that address who has not confirmed it, or a new one without a password."""
    user = await find_user_by_email(connection, asked.email, aud=asked.aud)
    if user is None:
        return await _insert(connection, asked, encrypted=None)
    if user.email_confirmed_at is not None:
        raise Problem.EMAIL_EXISTS.error()
    return user


async def _newcomer(connection: AsyncConnection, asked: SignUp, *, encrypted: str | None) -> User:
    """The user of that address who has not confirmed it, with more metadata, or a new one."""
    user = await find_user_by_email(connection, asked.email, aud=asked.aud)
    if user is None:
        return await _insert(connection, asked, encrypted=encrypted)
    if user.email_confirmed_at is not None:
        raise Problem.EMAIL_EXISTS.error()
    await merge_metadata(connection, user.id, user=asked.data)
    return user


async def _insert(connection: AsyncConnection, asked: SignUp, *, encrypted: str | None) -> User:
    user_id = uuid.uuid4()
    try:
        await insert_user(
            connection,
            user_id=user_id,
            aud=asked.aud,
            role=DEFAULT_ROLE,
            email=asked.email,
            encrypted_password=encrypted,
            user_metadata=asked.data,
        )
    except psycopg.DatabaseError as error:
        raise creation_problem(error, Problem.EMAIL_EXISTS, "Database error saving new user") from None
    return await _reread(connection, user_id)


async def _begin_email_change(
    connection: AsyncConnection, server: AuthServer, user: User, body: Body, kind: str
) -> tuple[Code, str]:
    """Which code goes to which address."""
    if kind == "email_change_current" and not server.settings.is_secure_email_change:
        raise Problem.VALIDATION_FAILED.error("Enable secure email change to generate link for current email")
    email = lower_email(body.text("new_email"))
    if await is_email_taken(connection, email, aud=user.aud, but=user.id):
        raise Problem.EMAIL_EXISTS.error()
    await note_email_change(connection, user.id, email)
    if kind == "email_change_current":
        return Code.EMAIL_CHANGE_CURRENT, user.email
    return Code.EMAIL_CHANGE_NEW, email


async def _reread(connection: AsyncConnection, user_id: uuid.UUID) -> User:
    user = await find_user_by_id(connection, user_id)
    if user is None:
        raise Problem.USER_NOT_FOUND.error()
    return user
