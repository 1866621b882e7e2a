"""``/user``: what a signed-in user sees and changes of themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from aiohttp import web

from jamestronic_sdk.local.auth import passwords, sessions
from jamestronic_sdk.local.auth.audit import Action, record
from jamestronic_sdk.local.auth.callers import Caller, require_user
from jamestronic_sdk.local.auth.codes import Code, digest, lock_codes
from jamestronic_sdk.local.auth.courier import Courier, posting
from jamestronic_sdk.local.auth.errors import Problem
from jamestronic_sdk.local.auth.factors import factors_of
from jamestronic_sdk.local.auth.flows import METHODS, Challenge, begin_flow, make_challenge
from jamestronic_sdk.local.auth.requests import Body, lower_email, origin, phone_digits, read_body
from jamestronic_sdk.local.auth.sign_up import creation_problem
from jamestronic_sdk.local.auth.user_changes import (
    clear_reauthentication,
    end_phone_change,
    merge_metadata,
    set_password,
    sync_providers,
)
from jamestronic_sdk.local.auth.users import (
    User,
    find_user_by_id,
    is_email_taken,
    is_phone_taken,
)
from jamestronic_sdk.local.auth.verify import accept_email_change
from jamestronic_sdk.local.auth.whole_user import whole_user

if TYPE_CHECKING:
    import uuid

    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = ["get_user", "put_user", "refuse_linking", "shown_user"]


async def get_user(request: web.Request, server: AuthServer) -> web.Response:
    """``GET /user``."""
    caller = await require_user(request, server)
    aud = caller.claims.get("aud")
    wanted = request.headers.get("X-JWT-AUD") or aud
    if not isinstance(aud, str) or not aud or aud != wanted:
        raise Problem.VALIDATION_FAILED.error("Token audience doesn't match request audience")
    async with server.pool.connection() as connection:
        return await shown_user(connection, caller.user.id, gone=Problem.TOKEN_USER_GONE)


async def refuse_linking(request: web.Request, server: AuthServer) -> web.Response:
    """``/user/identities/...``: what a hosted project without manual linking, as it begins, answers."""
    await require_user(request, server)
    raise Problem.MANUAL_LINKING_DISABLED.error()


async def put_user(request: web.Request, server: AuthServer) -> web.Response:
    """``PUT /user``: password and own metadata at once; another address or number once it is confirmed."""
    caller = await require_user(request, server)
    user = caller.user
    wanted = _wanted(await read_body(request, limit=server.settings.body_limit), user, server)
    async with server.pool.connection() as connection:
        await _require_second_factor(connection, caller, wanted)
        await _refuse_taken(connection, user, wanted)
        if wanted.password is not None and server.settings.is_reauthentication_required:
            await _reauthenticate(connection, caller, wanted.nonce, server)
    encrypted = None if wanted.password is None else await _other_hash(user, wanted.password)
    async with posting(request, server) as (connection, courier):
        if encrypted is not None:
            await set_password(connection, user.id, encrypted)
            await record(connection, Action.PASSWORD_UPDATED, user, origin(request))
            if caller.session_id is None:
                await sessions.delete_sessions_of(connection, user.id)
            else:
                await sessions.delete_other_sessions(connection, user.id, caller.session_id)
        if wanted.data is not None:
            await merge_metadata(connection, user.id, user=wanted.data)
        try:
            await _change_addresses(connection, courier, server, user, wanted)
        except psycopg.DatabaseError as error:
            raise creation_problem(error, Problem.EMAIL_EXISTS, "Error updating user") from None
        await record(connection, Action.MODIFIED, user, origin(request))
        return await shown_user(connection, user.id, gone=Problem.TOKEN_USER_GONE)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What an update asks for; None and "" leave things as they are."""

    email: str = field(repr=False)
    phone: str = field(repr=False)
    password: str | None = field(repr=False)
    nonce: str = field(repr=False)
    data: dict[str, Any] | None = field(repr=False)
    challenge: Challenge | None


def _wanted(body: Body, user: User, server: AuthServer) -> _Wanted:
    email, phone, password = body.text("email"), body.text("phone"), body.optional_text("password")
    email, phone = lower_email(email) if email else "", phone_digits(phone) if phone else ""
    if password is not None:
        passwords.check_strength(password, min_length=server.settings.password_min_length)
    if body.mapping("app_metadata") is not None:
        raise Problem.NOT_ADMIN.error("Updating app_metadata requires admin privileges")
    if user.is_anonymous and password and not email and not phone:
        raise Problem.ANONYMOUS_PASSWORD.error()
    return _Wanted(
        email="" if email == user.email else email,
        phone="" if phone == user.phone else phone,
        password=password,
        nonce=body.text("nonce"),
        data=body.mapping("data"),
        challenge=make_challenge(body.text("code_challenge"), body.text("code_challenge_method")),
    )


async def _require_second_factor(connection: AsyncConnection, caller: Caller, wanted: _Wanted) -> None:
    """Who has one must have shown it to change what signs in."""
    if not (wanted.password or wanted.email or wanted.phone):
        return
    if all(not factor.is_verified for factor in await factors_of(connection, caller.user.id)):
        return
    if caller.session_id is None or not await sessions.is_aal2(connection, caller.session_id):
        raise Problem.AAL2_TO_UPDATE.error()


async def _refuse_taken(connection: AsyncConnection, user: User, wanted: _Wanted) -> None:
    if wanted.email and await is_email_taken(connection, wanted.email, aud=user.aud, but=user.id):
        raise Problem.EMAIL_EXISTS.error()
    if wanted.phone and await is_phone_taken(connection, wanted.phone, aud=user.aud, but=user.id):
        raise Problem.PHONE_EXISTS.error()


async def _reauthenticate(
    connection: AsyncConnection, caller: Caller, nonce: str, server: AuthServer
) -> None:
    """Let a session that is older than a day pass with a nonce only."""
    if caller.session_id is not None and await sessions.is_recent(connection, caller.session_id):
        return
    if not nonce:
        raise Problem.REAUTHENTICATION_NEEDED.error()
    user, settings = caller.user, server.settings
    pending = (await lock_codes(connection, user.id)).get(Code.REAUTHENTICATION)
    lifetime = settings.email_code_lifetime if user.email else settings.sms_code_lifetime
    given = digest(user.email or user.phone, nonce)
    if pending is None or not pending.fits(given, lifetime=lifetime):
        raise Problem.REAUTHENTICATION_NOT_VALID.error()
    await clear_reauthentication(connection, user.id)


async def _change_addresses(
    connection: AsyncConnection, courier: Courier, server: AuthServer, user: User, wanted: _Wanted
) -> None:
    settings = server.settings
    if wanted.email and user.is_anonymous and settings.is_email_autoconfirmed:
        # It is like signing up; whoever has an address already has to confirm another one.
        await accept_email_change(connection, user, wanted.email)
        await sync_providers(connection, user.id)
    elif wanted.email:
        if wanted.challenge is not None:
            await begin_flow(
                connection,
                provider="email_change",
                method=METHODS["email_change"],
                challenge=wanted.challenge,
                user_id=user.id,
            )
        await courier.email_change(connection, user, wanted.email, is_pkce=wanted.challenge is not None)
    if wanted.phone and settings.is_phone_autoconfirmed:
        await end_phone_change(connection, user.id, wanted.phone)
        await sync_providers(connection, user.id)
    elif wanted.phone:
        await courier.phone_change(connection, user, wanted.phone)


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
    return web.json_response(await whole_user(connection, user))
