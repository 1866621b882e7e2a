"""Asking for a code or a link: to sign in, to recover, once more, or to prove that it is still you.

Promises:
    Who has an account is not told: an unknown address gets the same answer, and no message.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aiohttp import web

from jamestronic_sdk.local.auth import passwords
from jamestronic_sdk.local.auth.audit import Action, record
from jamestronic_sdk.local.auth.callers import require_user
from jamestronic_sdk.local.auth.courier import posting
from jamestronic_sdk.local.auth.errors import Problem
from jamestronic_sdk.local.auth.flows import METHODS, Challenge, begin_flow, make_challenge
from jamestronic_sdk.local.auth.requests import Body, audience, lower_email, origin, phone_digits, read_body
from jamestronic_sdk.local.auth.sign_up import SignUp, check_sign_up_allowed, find_signed_up, register
from jamestronic_sdk.local.auth.users import User, find_user_by_email, find_user_by_phone

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.courier import Courier
    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = ["magic_link", "otp", "reauthenticate", "recover", "resend"]

_RESENT: Final = frozenset({"signup", "email_change", "sms", "phone_change"})


async def otp(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /otp``: a code and a link by mail, or a code by text message."""
    body = await read_body(request, limit=server.settings.body_limit)
    email, phone = body.text("email"), body.text("phone")
    if email and phone:
        raise Problem.VALIDATION_FAILED.error("Only an email address or phone number should be provided")
    if email and body.text("channel"):
        raise Problem.VALIDATION_FAILED.error("Channel should only be specified with Phone OTP")
    asked = _sign_up_of(request, body)
    if not body.flag("create_user", default=True):
        asked = replace(
            asked,
            email=lower_email(email) if email else "",
            phone=phone_digits(phone) if phone else "",
        )
        async with server.pool.connection() as connection:
            known = (
                await find_user_by_email(connection, asked.email, aud=asked.aud)
                if email
                else await find_user_by_phone(connection, asked.phone, aud=asked.aud)
            )
        if known is None:
            raise Problem.OTP_DISABLED.error()
    if email:
        return await _send_magic_link(request, server, replace(asked, email=email))
    if phone:
        return await _send_phone_code(request, server, replace(asked, phone=phone), body.text("channel"))
    raise Problem.VALIDATION_FAILED.error("One of email or phone must be set")


async def magic_link(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /magiclink``: the older name of ``/otp`` with an address."""
    body = await read_body(request, limit=server.settings.body_limit)
    asked = replace(_sign_up_of(request, body), email=body.text("email"))
    return await _send_magic_link(request, server, asked)


def _sign_up_of(request: web.Request, body: Body) -> SignUp:
    """With a password that nobody knows, for whoever is new."""
    return SignUp(
        aud=audience(request),
        password=secrets.token_urlsafe(33),
        data=body.mapping("data") or {},
        challenge=make_challenge(body.text("code_challenge"), body.text("code_challenge_method")),
    )


async def _send_magic_link(request: web.Request, server: AuthServer, asked: SignUp) -> web.Response:
    if not server.settings.is_email_enabled:
        raise Problem.EMAIL_LOGIN_DISABLED.error()
    if not asked.email:
        raise Problem.VALIDATION_FAILED.error("Password recovery requires an email")
    asked = replace(asked, email=lower_email(asked.email))
    async with server.pool.connection() as connection:
        user = await find_user_by_email(connection, asked.email, aud=asked.aud)
        known = user or await find_signed_up(connection, asked)
    is_new = user is None or user.email_confirmed_at is None
    if is_new:
        check_sign_up_allowed(server)
        if user is None and known is not None:
            # It is the address of another user's identity, who does not sign in with it.
            return web.json_response({})
    encrypted = await passwords.hash_password(asked.password) if user is None else None
    async with posting(request, server) as (connection, courier):
        if is_new:
            user = await register(connection, courier, server, asked, known=known, encrypted=encrypted)
        if user is not None and user.email_confirmed_at is not None:
            if asked.challenge is not None:
                await begin_flow(
                    connection,
                    provider="magiclink",
                    method=METHODS["magiclink"],
                    challenge=asked.challenge,
                    user_id=user.id,
                )
            await courier.magic_link(connection, user, is_pkce=asked.challenge is not None)
            await record(connection, Action.RECOVERY_REQUESTED, user, origin(request))
    return web.json_response({})


async def _send_phone_code(
    request: web.Request, server: AuthServer, asked: SignUp, channel: str
) -> web.Response:
    if not server.settings.is_phone_enabled:
        raise Problem.PHONE_UNSUPPORTED.error()
    if channel not in {"", "sms", "whatsapp"}:
        raise Problem.VALIDATION_FAILED.error(
            "Invalid channel, supported values are 'sms' or 'whatsapp'. 'whatsapp' is only supported if "
            "Twilio or Twilio Verify is used as the provider."
        )
    asked = replace(asked, phone=phone_digits(asked.phone))
    async with server.pool.connection() as connection:
        user = await find_user_by_phone(connection, asked.phone, aud=asked.aud)
    is_new = user is None or user.phone_confirmed_at is None
    if is_new:
        check_sign_up_allowed(server)
    encrypted = await passwords.hash_password(asked.password) if user is None else None
    async with posting(request, server) as (connection, courier):
        if is_new:
            user = await register(
                connection,
                courier,
                server,
                replace(asked, challenge=None),
                known=user,
                encrypted=encrypted,
            )
        if user is not None and user.phone_confirmed_at is not None:
            await courier.phone_code(connection, user)
    # The first message to a new user has no id in hosted Auth's answer either.
    return web.json_response({} if is_new else {"message_id": str(courier.messages[-1].id)})


async def recover(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /recover``: a link that signs in, so that the password can be set anew."""
    if not server.settings.is_email_enabled:
        raise Problem.EMAIL_LOGIN_DISABLED.error()
    body = await read_body(request, limit=server.settings.body_limit)
    email = body.text("email")
    if not email:
        raise Problem.VALIDATION_FAILED.error("Password recovery requires an email")
    email = lower_email(email)
    challenge = make_challenge(body.text("code_challenge"), body.text("code_challenge_method"))
    async with posting(request, server) as (connection, courier):
        user = await find_user_by_email(connection, email, aud=audience(request))
        if user is not None:
            if challenge is not None:
                await begin_flow(
                    connection,
                    provider="recovery",
                    method=METHODS["recovery"],
                    challenge=challenge,
                    user_id=user.id,
                )
            await courier.recovery(connection, user, is_pkce=challenge is not None)
            await record(connection, Action.RECOVERY_REQUESTED, user, origin(request))
    return web.json_response({})


async def resend(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /resend``: a confirmation that is still waited for, once more."""
    body = await read_body(request, limit=server.settings.body_limit)
    asked, kind = _resend_of(request, body, server), body.text("type")
    async with posting(request, server) as (connection, courier):
        user = (
            await find_user_by_email(connection, asked.email, aud=asked.aud)
            if asked.email
            else await find_user_by_phone(connection, asked.phone, aud=asked.aud)
        )
        if user is not None and _is_waited_for(user, kind):
            await _send_again(connection, courier, user, kind, asked.challenge)
    sent = [message for message in courier.messages if message.channel == "sms"]
    return web.json_response({"message_id": str(sent[-1].id)} if sent else {})


def _resend_of(request: web.Request, body: Body, server: AuthServer) -> SignUp:
    kind, email, phone = body.text("type"), body.text("email"), body.text("phone")
    challenge = None
    if kind in {"signup", "email_change"}:
        challenge = make_challenge(body.text("code_challenge"), body.text("code_challenge_method"))
    complaints = {
        "Missing one of these types: signup, email_change, sms, phone_change": kind not in _RESENT,
        "Type provided requires an email address": kind == "signup" and not email,
        "Type provided requires a phone number": kind == "sms" and not phone,
        "Only an email address or phone number should be provided.": bool(email and phone),
        "Missing email address or phone number": not email and not phone,
    }
    for complaint, is_justified in complaints.items():
        if is_justified:
            raise Problem.VALIDATION_FAILED.error(complaint)
    if email and not server.settings.is_email_enabled:
        raise Problem.EMAIL_SIGNUP_DISABLED.error("Email logins are disabled")
    if phone and not server.settings.is_phone_enabled:
        raise Problem.PHONE_SIGNUP_DISABLED.error("Phone logins are disabled")
    return SignUp(
        aud=audience(request),
        email=lower_email(email) if email else "",
        phone=phone_digits(phone) if phone else "",
        challenge=challenge,
    )


def _is_waited_for(user: User, kind: str) -> bool:
    return {
        "signup": user.email_confirmed_at is None,
        "email_change": bool(user.email_change),
        "sms": user.phone_confirmed_at is None,
        "phone_change": bool(user.phone_change),
    }[kind]


async def _send_again(
    connection: AsyncConnection, courier: Courier, user: User, kind: str, challenge: Challenge | None
) -> None:
    is_pkce = challenge is not None
    if is_pkce:
        await begin_flow(
            connection, provider=kind, method=METHODS[kind], challenge=challenge, user_id=user.id
        )
    match kind:
        case "signup":
            await courier.confirmation(connection, user, is_pkce=is_pkce)
        case "email_change":
            await courier.email_change(connection, user, user.email_change, is_pkce=is_pkce)
        case "sms":
            await courier.phone_code(connection, user)
        case _:
            await courier.phone_change(connection, user, user.phone_change)


async def reauthenticate(request: web.Request, server: AuthServer) -> web.Response:
    """``GET /reauthenticate``: a nonce for a change of the password."""
    user = (await require_user(request, server)).user
    if not user.email and not user.phone:
        raise Problem.VALIDATION_FAILED.error(
            "Reauthentication requires the user to have an email or a phone number"
        )
    if user.email and user.email_confirmed_at is None:
        raise Problem.EMAIL_TO_BE_VERIFIED.error()
    if not user.email and user.phone_confirmed_at is None:
        raise Problem.PHONE_TO_BE_VERIFIED.error()
    async with posting(request, server) as (connection, courier):
        await courier.nonce(connection, user)
        await record(connection, Action.REAUTHENTICATION_REQUESTED, user, origin(request))
    [message] = courier.messages
    return web.json_response({"message_id": str(message.id)} if message.channel == "sms" else {})
