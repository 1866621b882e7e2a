"""Sending codes and links: the code is kept, the message goes to the mailbox when that is committed."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from jamestronic_sdk.local.auth.codes import PKCE_PREFIX, Code, digest, keep_code, lock_codes, make_code
from jamestronic_sdk.local.auth.errors import Problem
from jamestronic_sdk.local.auth.mailbox import Message
from jamestronic_sdk.local.auth.redirects import redirect_target
from jamestronic_sdk.local.auth.user_changes import note_email_change, note_phone_change

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp import web
    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.grants import AuthServer
    from jamestronic_sdk.local.auth.users import User

__all__ = ["Courier", "posting"]

_SUBJECTS: Final = {
    "signup": "Confirm your signup",
    "invite": "You have been invited",
    "magiclink": "Your magic link",
    "recovery": "Reset your password",
    "email_change": "Confirm the change of your email address",
    "reauthentication": "Confirm that it is you",
    "sms": "Your code",
    "phone_change": "Confirm the change of your phone number",
}


@asynccontextmanager
async def posting(
    request: web.Request, server: AuthServer
) -> AsyncGenerator[tuple[AsyncConnection, Courier]]:
    """A transaction, and the messages that go out when it is committed."""
    courier = Courier(server, redirect_target(request, server.settings))
    async with server.pool.connection() as connection:
        yield connection, courier
    server.mailbox.deliver(courier.messages)


class Courier:
    """Makes codes within one transaction, and collects their messages.

    Args:
        server: Its settings say how long codes are and how often they may be sent.
        redirect_to: Where links lead in the end.
    """

    def __init__(self, server: AuthServer, redirect_to: str) -> None:
        self._server: Final = server
        self.redirect_to: Final = redirect_to
        self.messages: Final[list[Message]] = []

    async def confirmation(self, connection: AsyncConnection, user: User, *, is_pkce: bool) -> None:
        """The link that confirms a new user's address."""
        await self._mail(connection, user, Code.CONFIRMATION, "signup", is_pkce=is_pkce)

    async def invitation(self, connection: AsyncConnection, user: User) -> None:
        """The link that accepts an invitation."""
        await self._mail(connection, user, Code.CONFIRMATION, "invite", is_pkce=False, is_urgent=True)

    async def magic_link(self, connection: AsyncConnection, user: User, *, is_pkce: bool) -> None:
        """The link, and the code, that sign in."""
        await self._mail(connection, user, Code.RECOVERY, "magiclink", is_pkce=is_pkce)

    async def recovery(self, connection: AsyncConnection, user: User, *, is_pkce: bool) -> None:
        """The link that signs in to set another password."""
        await self._mail(connection, user, Code.RECOVERY, "recovery", is_pkce=is_pkce)

    async def email_change(
        self, connection: AsyncConnection, user: User, email: str, *, is_pkce: bool
    ) -> None:
        """A link to the new address, and one to the old address when both must agree."""
        await self._check_frequency(connection, user, Code.EMAIL_CHANGE_NEW)
        await note_email_change(connection, user.id, email)
        recipients = [(email, Code.EMAIL_CHANGE_NEW)]
        if self._server.settings.is_secure_email_change and user.email:
            recipients.append((user.email, Code.EMAIL_CHANGE_CURRENT))
        for address, code in recipients:
            await self._send(connection, user, code, "email_change", to=address, is_pkce=is_pkce)

    async def nonce(self, connection: AsyncConnection, user: User) -> None:
        """The code that lets an old session change the password."""
        address = user.email or user.phone
        await self._check_frequency(
            connection, user, Code.REAUTHENTICATION, problem=_limit_of(is_email=bool(user.email))
        )
        await self._send(connection, user, Code.REAUTHENTICATION, "reauthentication", to=address)

    async def phone_code(self, connection: AsyncConnection, user: User) -> None:
        """The code that signs in with a phone number."""
        await self._check_frequency(connection, user, Code.CONFIRMATION, problem=Problem.SMS_RATE_LIMIT)
        await self._send(connection, user, Code.CONFIRMATION, "sms", to=user.phone)

    async def phone_change(self, connection: AsyncConnection, user: User, phone: str) -> None:
        """The code that confirms another phone number."""
        await self._check_frequency(connection, user, Code.PHONE_CHANGE, problem=Problem.SMS_RATE_LIMIT)
        await note_phone_change(connection, user.id, phone)
        await self._send(connection, user, Code.PHONE_CHANGE, "phone_change", to=phone)

    async def _mail(
        self,
        connection: AsyncConnection,
        user: User,
        code: Code,
        kind: str,
        *,
        is_pkce: bool,
        is_urgent: bool = False,
    ) -> None:
        if not is_urgent:
            await self._check_frequency(connection, user, code)
        await self._send(connection, user, code, kind, to=user.email, is_pkce=is_pkce)

    async def _check_frequency(
        self,
        connection: AsyncConnection,
        user: User,
        code: Code,
        *,
        problem: Problem = Problem.EMAIL_RATE_LIMIT,
    ) -> None:
        """Refuse a message too soon after the one before; locks the user's row."""
        pending = (await lock_codes(connection, user.id)).get(code)
        if pending is None or pending.age is None:
            return
        left = self._server.settings.message_interval - pending.age
        if left > 0:
            raise problem.error(
                f"For security purposes, you can only request this after {math.ceil(left)} seconds."
            )

    async def _send(
        self,
        connection: AsyncConnection,
        user: User,
        code: Code,
        kind: str,
        *,
        to: str,
        is_pkce: bool = False,
    ) -> None:
        digits = make_code(self._server.settings.code_length)
        token_hash = (PKCE_PREFIX if is_pkce else "") + digest(to, digits)
        await keep_code(connection, user.id, code, token_hash, relates_to=to)
        is_mail = "@" in to
        if is_mail:
            self._server.limits.check_email()
        else:
            self._server.limits.check_sms()
        has_link = is_mail and code is not Code.REAUTHENTICATION
        self.messages.append(
            Message(
                to=to,
                channel="email" if is_mail else "sms",
                kind=kind,
                subject=_SUBJECTS[kind],
                code=digits,
                token_hash=token_hash if has_link else None,
                link=self.link(token_hash, kind) if has_link else None,
                redirect_to=self.redirect_to if has_link else None,
            )
        )

    def link(self, token_hash: str, kind: str) -> str:
        """The link that confirms with a code's digest."""
        query = urlencode({"token": token_hash, "type": kind, "redirect_to": self.redirect_to})
        return f"{self._server.context.url}/auth/v1/verify?{query}"


def _limit_of(*, is_email: bool) -> Problem:
    return Problem.EMAIL_RATE_LIMIT if is_email else Problem.SMS_RATE_LIMIT
