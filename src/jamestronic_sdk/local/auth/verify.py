"""``/verify``: a code or a link is answered with a session, a PKCE code, or a confirmed change.

Promises:
    A code is good once, for the person and the purpose it was sent for, and not for long.
    Whatever is wrong with a code, it is the same refusal.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg
from aiohttp import web

from jamestronic_sdk.local.auth import passwords
from jamestronic_sdk.local.auth.codes import (
    PKCE_PREFIX,
    Code,
    Pending,
    clear_code,
    digest,
    lock_codes,
    owner_of,
)
from jamestronic_sdk.local.auth.errors import AuthApiProblem, Problem
from jamestronic_sdk.local.auth.flows import METHODS, issue_code
from jamestronic_sdk.local.auth.redirects import redirect_target, with_fragment, with_query
from jamestronic_sdk.local.auth.requests import audience, lower_email, origin, phone_digits, read_body
from jamestronic_sdk.local.auth.sign_up import creation_problem
from jamestronic_sdk.local.auth.user_changes import (
    clear_recovery,
    confirm_email,
    confirm_phone,
    end_email_change,
    end_phone_change,
    note_email_change_half,
    set_password,
    sync_providers,
    verify_email_identities,
)
from jamestronic_sdk.local.auth.users import (
    User,
    find_user_by_email,
    find_user_by_id,
    find_user_by_phone,
    find_user_by_phone_change,
)

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = [
    "OAUTH_ERRORS",
    "accept_email_change",
    "verify_by_link",
    "verify_by_request",
    "with_session",
]

HALF_CONFIRMED: Final = "Confirmation link accepted. Please proceed to confirm link sent to the other email"

_CODES: Final = {
    "email": (Code.CONFIRMATION, Code.RECOVERY),
    "signup": (Code.CONFIRMATION,),
    "invite": (Code.CONFIRMATION,),
    "recovery": (Code.RECOVERY,),
    "magiclink": (Code.RECOVERY,),
    "email_change": (Code.EMAIL_CHANGE_CURRENT, Code.EMAIL_CHANGE_NEW),
    "sms": (Code.CONFIRMATION,),
    "phone_change": (Code.PHONE_CHANGE,),
}
_PHONE_KINDS: Final = frozenset({"sms", "phone_change"})

# As hosted Auth names them in redirects.
OAUTH_ERRORS: Final = {
    400: "invalid_request",
    401: "unauthorized_client",
    403: "access_denied",
    500: "server_error",
    503: "temporarily_unavailable",
}


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What was presented."""

    kind: str
    token_hash: str = field(repr=False)
    aud: str
    email: str = field(default="", repr=False)
    phone: str = field(default="", repr=False)
    is_by_hash: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    """Whose code it is, and which."""

    user: User
    code: Code


async def verify_by_request(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /verify``: a session, or word that the other address has to confirm, too."""
    body = await read_body(request, limit=server.settings.body_limit)
    kind, token, token_hash = body.text("type"), body.text("token"), body.text("token_hash")
    email, phone = body.text("email"), body.text("phone")
    if not kind:
        raise Problem.VALIDATION_FAILED.error("Verify requires a verification type")
    if bool(token) == bool(token_hash):
        raise Problem.VALIDATION_FAILED.error("Verify requires either a token or a token hash")
    attempt = _Attempt(kind, token_hash, audience(request), is_by_hash=True)
    if token_hash:
        if email or phone or body.text("redirect_to"):
            raise Problem.VALIDATION_FAILED.error("Only the token_hash and type should be provided")
    elif bool(email) == bool(phone):
        raise Problem.VALIDATION_FAILED.error(
            "Only an email address or phone number should be provided on verify"
        )
    elif phone:
        phone = phone_digits(phone)
        attempt = replace(attempt, phone=phone, token_hash=digest(phone, token), is_by_hash=False)
    else:
        email = _lower_email(email)
        attempt = replace(attempt, email=email, token_hash=digest(email, token), is_by_hash=False)
    async with server.pool.connection() as connection:
        user_id = await _accept(connection, server, attempt)
        if user_id is None:
            response: dict[str, Any] = {"msg": HALF_CONFIRMED, "code": "200"}
        else:
            response = await server.open_session(connection, user_id, method="otp", origin=origin(request))
    return web.json_response(response)


def _lower_email(email: str) -> str:
    try:
        return lower_email(email)
    except AuthApiProblem:
        raise Problem.INVALID_EMAIL_FORMAT.error() from None


async def verify_by_link(request: web.Request, server: AuthServer) -> web.Response:
    """``GET /verify``: a redirect, with a session in the fragment, a PKCE code or an error."""
    kind, token = request.query.get("type", ""), request.query.get("token", "")
    if not kind:
        raise Problem.VALIDATION_FAILED.error("Verify requires a verification type")
    if not token or "\0" in token:
        raise Problem.VALIDATION_FAILED.error("Verify requires a token or a token hash")
    target = redirect_target(request, server.settings)
    is_pkce = token.startswith(PKCE_PREFIX)
    if is_pkce and kind not in METHODS:
        raise Problem.VALIDATION_FAILED.error("Unsupported verification type")
    attempt = _Attempt(kind, token, audience(request), is_by_hash=True)
    try:
        async with server.pool.connection() as connection:
            user_id = await _accept(connection, server, attempt)
            if user_id is None:
                location = _with_message(target, is_pkce=is_pkce)
            elif is_pkce:
                code = await issue_code(connection, user_id, method=METHODS[kind])
                location = with_query(target, {"code": code})
            else:
                session = await server.open_session(connection, user_id, method="otp", origin=origin(request))
                location = with_session(target, session, {"type": kind})
    except AuthApiProblem as problem:
        location = _with_problem(target, problem, is_in_query=is_pkce)
    return web.Response(status=303, headers={"Location": location})


def with_session(target: str, session: dict[str, Any], extra: dict[str, str]) -> str:
    """The address with a session in its fragment, as browsers' clients read it."""
    names = ("access_token", "expires_at", "expires_in", "refresh_token", "token_type")
    return with_fragment(target, extra | {name: str(session[name]) for name in names})


def _with_problem(target: str, problem: AuthApiProblem, *, is_in_query: bool) -> str:
    """The address with a refusal in its fragment, and in its query for who reads that."""
    members = {
        "error": OAUTH_ERRORS.get(problem.status, ""),
        "error_code": problem.code or "unknown",
        "error_description": problem.message,
    }
    members = {name: value for name, value in members.items() if value}
    return with_fragment(with_query(target, members) if is_in_query else target, members)


def _with_message(target: str, *, is_pkce: bool) -> str:
    members = {"message": HALF_CONFIRMED}
    return with_fragment(with_query(target, members) if is_pkce else target, members)


async def _accept(connection: AsyncConnection, server: AuthServer, attempt: _Attempt) -> uuid.UUID | None:
    """Do what the code was sent for.

    Returns:
        Who is signed in by it; None when the other address has to confirm a change, too.

    Raises:
        AuthApiProblem: The code is wrong, used or too old.
    """
    found = await _find(connection, server, attempt)
    user = found.user
    try:
        match attempt.kind:
            case "sms":
                await confirm_phone(connection, user.id)
            case "phone_change":
                await end_phone_change(connection, user.id, user.phone_change)
            case "email_change":
                if _needs_other_address(server, user):
                    await clear_code(connection, user.id, found.code)
                    await note_email_change_half(connection, user.id)
                    return None
                await accept_email_change(connection, user, user.email_change)
            case _ if found.code is Code.CONFIRMATION:
                await _confirm(connection, user)
            case _:
                await clear_recovery(connection, user.id)
                if user.email_confirmed_at is None:
                    await confirm_email(connection, user.id)
        await sync_providers(connection, user.id)
    except psycopg.DatabaseError as error:
        raise creation_problem(error, Problem.EMAIL_EXISTS, "Error confirming user") from None
    return user.id


def _needs_other_address(server: AuthServer, user: User) -> bool:
    settings = server.settings
    return (
        settings.is_secure_email_change
        and not settings.is_email_autoconfirmed
        and user.email_change_confirm_status == 0
        and bool(user.email)
    )


async def accept_email_change(connection: AsyncConnection, user: User, email: str) -> None:
    """The address is the user's from now on."""
    await end_email_change(connection, user.id, email)
    if user.email_confirmed_at is None:
        await confirm_email(connection, user.id)


async def _confirm(connection: AsyncConnection, user: User) -> None:
    if not user.encrypted_password and user.invited_at is not None:
        # Nobody knows it; the application asks for one that somebody does.
        await set_password(connection, user.id, await passwords.hash_password(str(uuid.uuid4())))
    await confirm_email(connection, user.id)
    await verify_email_identities(connection, user.id)


async def _find(connection: AsyncConnection, server: AuthServer, attempt: _Attempt) -> _Found:
    codes = _CODES.get(attempt.kind)
    if codes is None or (attempt.is_by_hash and attempt.kind in _PHONE_KINDS):
        raise Problem.VALIDATION_FAILED.error("Invalid email verification type")
    problem = Problem.LINK_EXPIRED if attempt.is_by_hash else Problem.OTP_EXPIRED
    user = await _owner(connection, attempt, codes)
    if user is None:
        raise problem.error()
    if user.is_banned:
        raise Problem.BANNED_WITH_TOKEN.error()
    pending = await lock_codes(connection, user.id)
    # What was read before the lock may be older than what another request did.
    user = await find_user_by_id(connection, user.id)
    code = _fitting(pending, codes, attempt, server)
    if user is None or code is None:
        raise problem.error()
    return _Found(user, code)


def _fitting(
    pending: dict[Code, Pending], codes: tuple[Code, ...], attempt: _Attempt, server: AuthServer
) -> Code | None:
    settings = server.settings
    is_phone = attempt.kind in _PHONE_KINDS
    lifetime = settings.sms_code_lifetime if is_phone else settings.email_code_lifetime
    for code in codes:
        if code in pending and pending[code].fits(attempt.token_hash, lifetime=lifetime):
            return code
    return None


async def _owner(connection: AsyncConnection, attempt: _Attempt, codes: tuple[Code, ...]) -> User | None:
    """The user who was sent it, going by the address, or by the digest when that is all there is."""
    match attempt.kind:
        case "sms" | "phone_change" if not attempt.phone:
            return None
        case "sms":
            return await find_user_by_phone(connection, attempt.phone, aud=attempt.aud)
        case "phone_change":
            return await find_user_by_phone_change(connection, attempt.phone, aud=attempt.aud)
        case _ if not attempt.is_by_hash and attempt.kind != "email_change":
            return await find_user_by_email(connection, attempt.email, aud=attempt.aud)
        case _:
            owner = await owner_of(connection, attempt.token_hash, *codes)
            if owner is None and not attempt.is_by_hash:
                owner = await owner_of(connection, PKCE_PREFIX + attempt.token_hash, *codes)
            return None if owner is None else await find_user_by_id(connection, owner[0])
