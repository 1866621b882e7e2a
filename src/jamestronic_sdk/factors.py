"""Second factors: one-time codes of an authenticator app (TOTP); reach it as ``jt.auth.factors``.

Promises:
    A right code raises the session to ``aal2``; the new token reaches data and Realtime by itself.

Never:
    No secret in a ``repr``, an error or a log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

from jamestronic_sdk._auth_changes import AuthChangeKind
from jamestronic_sdk._inputs import checked_instance, checked_text, checked_uuid
from jamestronic_sdk._session import Session
from jamestronic_sdk.errors import DataError

if TYPE_CHECKING:
    from jamestronic_sdk._session_keeper import Me, SessionKeeper

__all__ = ["Challenge", "Enrolment", "Factor", "FactorRef", "Factors"]


@dataclass(frozen=True, slots=True)
class Factor:
    """A second factor of an account."""

    id: UUID
    name: str | None
    """As the person called it."""
    kind: str
    """``totp``, or another that the project knows."""
    is_verified: bool
    """Whether a code was shown once; only then does it count."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A factor that waits for its first code, and what an authenticator app needs."""

    factor: Factor
    secret: str = field(repr=False)
    """For typing in, base 32."""
    uri: str = field(repr=False)
    """``otpauth://...``, what the QR code says."""
    qr_code: str = field(repr=False)
    """The QR code as a ``data:`` address of an SVG picture."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A request for a code; answered once."""

    id: UUID
    factor_id: UUID
    expires_at: datetime
    """UTC; five minutes after it was asked for."""


FactorRef: TypeAlias = Factor | Enrolment | UUID | str
"""A factor, its enrolment, its id, or the id's text."""

# A name of its own because `list` is a method below.
FactorRows: TypeAlias = list[Factor]


class Factors:
    """Second factors of the person who is signed in."""

    __slots__ = ("_keeper",)

    def __init__(self, keeper: SessionKeeper) -> None:
        self._keeper: Final = keeper

    async def list(self) -> FactorRows:
        """The person's factors, also those that wait for their first code.

        Raises:
            NotSignedInError: Nobody is signed in.
            JamesTronicError: See ``errors.py``.
        """
        operation = "auth.factors.list"
        async with self._keeper.in_own_name(operation) as (session, wire):
            answer = await wire.ask_auth(
                lambda: session.door.get_user(session.access_token), operation=operation, replayable=True
            )
        if answer is None:
            raise DataError(f"{operation}: Auth answered without a person.")
        return [
            Factor(UUID(one.id), one.friendly_name, one.factor_type, one.status == "verified")
            for one in answer.user.factors or []
        ]

    async def enrol(self, name: str, *, issuer: str | None = None) -> Enrolment:
        """Begin a factor: show the QR code, then ``verify`` with the app's first code.

        Args:
            name: What the person calls it; unique among their factors.
            issuer: What the app shows as the service; None: the project's site.

        Raises:
            ConflictError: There is a factor of this name.
            PermissionDeniedError: The person has a verified factor, and this session has not shown it.
            JamesTronicError: See ``errors.py``.
        """
        operation = "auth.factors.enrol"
        label = checked_text(name, "name", limit=100).strip()
        service = None if issuer is None else checked_text(issuer, "issuer", limit=100).strip()
        async with self._keeper.in_own_name(operation) as (session, wire):
            answer = await wire.ask_auth(
                lambda: session.door.mfa.enroll(
                    {"factor_type": "totp", "friendly_name": label, "issuer": service or ""}
                ),
                operation=operation,
            )
        if answer.totp is None:
            raise DataError(f"{operation}: Auth answered without a secret.")
        factor = Factor(UUID(answer.id), label, "totp", is_verified=False)
        return Enrolment(factor, answer.totp.secret, answer.totp.uri, answer.totp.qr_code)

    async def challenge(self, factor: FactorRef) -> Challenge:
        """Ask for a code; ``verify`` does it by itself, unless it is given one.

        Args:
            factor: The factor, its enrolment, its id, or the id's text.

        Raises:
            NotFoundError: The person has no such factor.
            JamesTronicError: See ``errors.py``.
        """
        operation = "auth.factors.challenge"
        wanted = _id(factor)
        async with self._keeper.in_own_name(operation) as (session, wire):
            answer = await wire.ask_auth(
                lambda: session.door.mfa.challenge({"factor_id": str(wanted)}), operation=operation
            )
        return Challenge(UUID(answer.id), wanted, datetime.fromtimestamp(answer.expires_at, UTC))

    async def verify(self, factor: FactorRef, code: str, *, challenge: Challenge | None = None) -> Me:
        """Show the second factor: this session is then ``aal2``; the person's sessions without it end.

        Args:
            factor: The factor, its enrolment, its id, or the id's text.
            code: The six digits that the app shows now.
            challenge: The challenge that it answers; None asks for one.

        Returns:
            The person, as before.

        Raises:
            InvalidCredentialsError: The code is wrong, or the challenge too old.
            NotFoundError: The person has no such factor.
            JamesTronicError: See ``errors.py``.
        """
        operation = "auth.factors.verify"
        digits = checked_text(code, "code", limit=20).replace(" ", "")
        wanted = _id(factor)
        given = None if challenge is None else checked_instance(challenge, Challenge, "challenge")
        asked = given or await self.challenge(wanted)
        async with self._keeper.in_own_name(operation) as (session, wire):
            await wire.ask_auth(
                lambda: session.door.mfa.verify(
                    {"factor_id": str(wanted), "challenge_id": str(asked.id), "code": digits}
                ),
                operation=operation,
            )
            # The door has kept the session that the answer held.
            answer = await wire.ask_auth(session.door.get_session, operation=operation)
            if answer is None:
                raise DataError(f"{operation}: Auth answered without a session.")
            return await self._keeper.replace_while_locked(
                Session.of(answer, session.door, wire.core.clock), AuthChangeKind.TOKEN_REFRESHED
            )

    async def unenrol(self, factor: FactorRef) -> None:
        """Remove a factor; a verified one needs a session that has shown a factor.

        Args:
            factor: The factor, its enrolment, its id, or the id's text.

        Raises:
            NotFoundError: The person has no such factor.
            PermissionDeniedError: This session has not shown a factor; ``verify`` first.
            JamesTronicError: See ``errors.py``.
        """
        operation = "auth.factors.unenrol"
        wanted = str(_id(factor))
        async with self._keeper.in_own_name(operation) as (session, wire):
            await wire.ask_auth(lambda: session.door.mfa.unenroll({"factor_id": wanted}), operation=operation)


def _id(factor: FactorRef) -> UUID:
    match factor:
        case Factor():
            return factor.id
        case Enrolment():
            return factor.factor.id
        case _:
            return checked_uuid(factor, "factor")
