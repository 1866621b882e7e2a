"""Signing up: with a session at once, or with a message that confirms the address first.

An Authorization header means nothing here: clients send the token of whoever was signed in before.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg
from aiohttp import web

from jamestronic_sdk.local.auth import passwords
from jamestronic_sdk.local.auth.audit import Action, record
from jamestronic_sdk.local.auth.courier import posting
from jamestronic_sdk.local.auth.errors import AuthApiProblem, Problem
from jamestronic_sdk.local.auth.flows import METHODS, Challenge, begin_flow, make_challenge
from jamestronic_sdk.local.auth.requests import audience, lower_email, origin, phone_digits, read_body
from jamestronic_sdk.local.auth.settings import DEFAULT_ROLE
from jamestronic_sdk.local.auth.user_changes import (
    confirm_email,
    confirm_phone,
    insert_email_identity,
    insert_phone_identity,
    insert_user,
)
from jamestronic_sdk.local.auth.users import (
    User,
    find_user_by_any_email,
    find_user_by_id,
    find_user_by_phone,
    identities_of,
    user_json,
)

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.courier import Courier
    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = ["SignUp", "creation_problem", "find_signed_up", "register", "sign_up"]

_LOG: Final = logging.getLogger("jamestronic_sdk.local.auth")


@dataclass(frozen=True, slots=True)
class SignUp:
    """Somebody who signs up, with an address or a number, whose form was checked."""

    aud: str
    email: str = field(default="", repr=False)
    phone: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    data: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    challenge: Challenge | None = None

    @property
    def provider(self) -> str:
        """``email`` or ``phone``."""
        return "email" if self.email else "phone"


async def sign_up(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /signup``: a session, or the user who has a message to answer first."""
    settings = server.settings
    body = await read_body(request, limit=settings.body_limit)
    email, phone, password = body.text("email"), body.text("phone"), body.text("password")
    data = body.mapping("data") or {}
    if not email and not phone:
        if not settings.is_anonymous_enabled:
            raise Problem.ANONYMOUS_DISABLED.error()
        server.limits.check_request("anonymous", origin(request).ip)
        return await _sign_up_anonymously(request, server, data)
    server.limits.check_request("signup", origin(request).ip)
    check_sign_up_allowed(server)
    if not password:
        raise Problem.VALIDATION_FAILED.error("Signup requires a valid password")
    passwords.check_strength(password, min_length=settings.password_min_length)
    challenge_text = body.text("code_challenge")
    if email and phone:
        raise Problem.VALIDATION_FAILED.error(
            "Only an email address or phone number should be provided on signup."
        )
    if phone and challenge_text:
        raise Problem.VALIDATION_FAILED.error("PKCE not supported for phone signups")
    asked = SignUp(
        aud=audience(request),
        password=password,
        data=data,
        challenge=make_challenge(challenge_text, body.text("code_challenge_method")),
    )
    if email:
        if not settings.is_email_enabled:
            raise Problem.EMAIL_SIGNUP_DISABLED.error()
        asked = replace(asked, email=lower_email(email))
    else:
        if not settings.is_phone_enabled:
            raise Problem.PHONE_SIGNUP_DISABLED.error()
        asked = replace(asked, phone=phone_digits(phone))
    return await _sign_up(request, server, asked)


async def _sign_up(request: web.Request, server: AuthServer, asked: SignUp) -> web.Response:
    async with server.pool.connection() as connection:
        known = await find_signed_up(connection, asked)
    if known is not None and _is_confirmed(known, asked):
        if server.settings.is_email_autoconfirmed or server.settings.is_phone_autoconfirmed:
            raise Problem.USER_ALREADY_EXISTS.error()
        return web.json_response(_decoy(known, asked))
    encrypted = None if known is not None else await passwords.hash_password(asked.password)
    async with posting(request, server) as (connection, courier):
        user = await register(connection, courier, server, asked, known=known, encrypted=encrypted)
        done = Action.SIGNED_UP if _is_confirmed(user, asked) else Action.CONFIRMATION_REQUESTED
        await record(connection, done, user, origin(request), provider=asked.provider)
        if _is_confirmed(user, asked):
            response = await server.open_session(
                connection, user.id, method="password", origin=origin(request)
            )
        else:
            response = user_json(user, await identities_of(connection, user.id))
            if user.invited_at is not None:
                # Somebody else's words about them are not for whoever signs up with their address.
                response |= {"user_metadata": {}, "identities": []}
    return web.json_response(response)


def check_sign_up_allowed(server: AuthServer) -> None:
    """Refuse when nobody may sign up."""
    if not server.settings.is_signup_enabled:
        raise Problem.SIGNUP_DISABLED.error()


async def find_signed_up(connection: AsyncConnection, asked: SignUp) -> User | None:
    """Who has that address or number already, confirmed or not."""
    if asked.email:
        return await find_user_by_any_email(connection, asked.email, aud=asked.aud)
    return await find_user_by_phone(connection, asked.phone, aud=asked.aud)


async def register(
    connection: AsyncConnection,
    courier: Courier,
    server: AuthServer,
    asked: SignUp,
    *,
    known: User | None,
    encrypted: str | None,
) -> User:
    """The user, new or not confirmed yet, who is confirmed now or has a message to answer.

    Args:
        connection: The transaction.
        courier: Of the same transaction.
        server: Its settings say who is confirmed at once.
        asked: Who signs up.
        known: The user who has the address already, unconfirmed. Nothing of them is changed: nobody knows
            yet whose the address is.
        encrypted: The new user's hash.

    Raises:
        AuthApiProblem: Somebody was faster, a trigger refused, or the message comes too soon.
    """
    settings = server.settings
    user_id = uuid.uuid4() if known is None else known.id
    try:
        if known is None:
            await insert_user(
                connection,
                user_id=user_id,
                aud=asked.aud,
                role=DEFAULT_ROLE,
                email=asked.email,
                phone=asked.phone,
                encrypted_password=encrypted,
                user_metadata=asked.data,
                identity_extra=asked.data,
            )
        elif all(i.provider != asked.provider for i in await identities_of(connection, user_id)):
            await _insert_missing_identity(connection, user_id, asked)
        if asked.email and settings.is_email_autoconfirmed:
            await confirm_email(connection, user_id)
        elif asked.phone and settings.is_phone_autoconfirmed:
            await confirm_phone(connection, user_id)
    except psycopg.DatabaseError as error:
        raise creation_problem(error, Problem.USER_ALREADY_EXISTS, "Database error saving new user") from None
    user = await _reread(connection, user_id)
    if not _is_confirmed(user, asked):
        if asked.challenge is not None:
            await begin_flow(
                connection,
                provider="email",
                method=METHODS["signup"],
                challenge=asked.challenge,
                user_id=user.id,
            )
        if asked.email:
            await courier.confirmation(connection, user, is_pkce=asked.challenge is not None)
        else:
            await courier.phone_code(connection, user)
        user = await _reread(connection, user_id)
    return user


async def _insert_missing_identity(connection: AsyncConnection, user_id: uuid.UUID, asked: SignUp) -> None:
    if asked.email:
        await insert_email_identity(connection, user_id, email=asked.email, extra=asked.data)
    else:
        await insert_phone_identity(connection, user_id, phone=asked.phone, extra=asked.data)


async def _reread(connection: AsyncConnection, user_id: uuid.UUID) -> User:
    """The user as triggers have left them."""
    user = await find_user_by_id(connection, user_id)
    if user is None:
        raise Problem.UNEXPECTED_FAILURE.error("Database error loading user after sign-up")
    return user


def _is_confirmed(user: User, asked: SignUp) -> bool:
    return (user.email_confirmed_at if asked.email else user.phone_confirmed_at) is not None


def _decoy(known: User, asked: SignUp) -> dict[str, Any]:
    """A user who does not exist, so that nobody learns who does."""
    now = dt.datetime.now(dt.UTC)
    decoy = replace(
        known,
        id=uuid.uuid4(),
        aud=asked.aud,
        role="",
        email=asked.email,
        phone=asked.phone,
        app_metadata={"provider": asked.provider, "providers": [asked.provider]},
        user_metadata=asked.data,
        created_at=now,
        updated_at=now,
        confirmation_sent_at=now,
        email_confirmed_at=None,
        phone_confirmed_at=None,
        confirmed_at=None,
        invited_at=None,
        recovery_sent_at=None,
        email_change="",
        email_change_sent_at=None,
        phone_change="",
        phone_change_sent_at=None,
        reauthentication_sent_at=None,
        last_sign_in_at=None,
        banned_until=None,
        is_anonymous=False,
    )
    return user_json(decoy, [])


async def _sign_up_anonymously(
    request: web.Request, server: AuthServer, data: dict[str, Any]
) -> web.Response:
    check_sign_up_allowed(server)
    user_id = uuid.uuid4()
    async with server.pool.connection() as connection:
        try:
            await insert_user(
                connection,
                user_id=user_id,
                aud=audience(request),
                role=DEFAULT_ROLE,
                encrypted_password=None,
                user_metadata=data,
            )
        except psycopg.DatabaseError as error:
            raise creation_problem(
                error, Problem.USER_ALREADY_EXISTS, "Database error creating anonymous user"
            ) from None
        await record(connection, Action.SIGNED_UP, await _reread(connection, user_id), origin(request))
        response = await server.open_session(connection, user_id, method="anonymous", origin=origin(request))
    return web.json_response(response)


def creation_problem(error: psycopg.DatabaseError, taken: Problem, message: str) -> AuthApiProblem:
    """What to answer when a user could not be written: somebody was faster, or a trigger failed."""
    constraint = error.diag.constraint_name
    if constraint in {"users_email_partial_key", "identities_provider_id_provider_unique"}:
        return taken.error()
    if constraint == "users_phone_key":
        return (Problem.PHONE_EXISTS if taken is Problem.EMAIL_EXISTS else taken).error()
    # A trigger on auth.users may raise anything; its text may hold anything, too.
    _LOG.error("%s: SQLSTATE %s, constraint %s", message, error.sqlstate, constraint)
    return Problem.UNEXPECTED_FAILURE.error(message)
