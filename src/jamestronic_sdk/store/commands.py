"""Commands through a store: shown at once, sent in order, and honest about who was faster.

Promises:
    From the call until the answer, ``store.tickets`` shows the row as if the command had succeeded; a
    refusal takes that back. Events are told from the database's rows alone: a guess is never an event.
    Commands for one ticket are sent one after the other; those for others do not wait.
    When a command returns, the store knows its result.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from jamestronic_sdk._filters import LONGEST_WORD
from jamestronic_sdk._inputs import checked_input, checked_moment, checked_text, profile_id, ticket_id
from jamestronic_sdk._unset import UNSET, Unset
from jamestronic_sdk.errors import (
    BadRequestError,
    ConflictError,
    InvalidInputError,
    PermissionDeniedError,
)
from jamestronic_sdk.models import TicketPatch, TicketStatus
from jamestronic_sdk.store.protocol import WriteBegun, WriteDone, WriteFailed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from datetime import datetime
    from uuid import UUID

    from jamestronic_sdk._filters import ProfileRef
    from jamestronic_sdk.models import Ticket
    from jamestronic_sdk.store.protocol import Input
    from jamestronic_sdk.tickets import TicketRef, Tickets

__all__ = ["StoreCommands", "WritableStore"]

_BACK_TO_POOL: Final = frozenset(
    {TicketStatus.ASSIGNED, TicketStatus.IN_PROGRESS, TicketStatus.WAITING_PARTS}
)
"""Statuses that turn ``open`` when the technician goes (050_commands.sql)."""

_WITHOUT_EFFECT: Final = (BadRequestError, ConflictError, PermissionDeniedError, InvalidInputError)
"""Refusals: the command surely did nothing, and the row is as it was."""


class WritableStore(Protocol):
    """What commands need of their store."""

    @property
    def tickets(self) -> Mapping[UUID, Ticket]:
        """The tickets as they are shown."""
        ...

    @property
    def viewer_id(self) -> UUID | None:
        """Whose eyes the view has."""
        ...

    def post(self, item: Input) -> None:
        """Give the engine an input."""
        ...

    def wall(self) -> datetime:
        """Now, in UTC."""
        ...

    async def absorb(self, ticket_id: UUID, version: int) -> None:
        """Wait until the store knows that version."""
        ...

    @property
    def require_open(self) -> Callable[[], None]:
        """Raises unless the store is open."""
        ...


class StoreCommands:
    """The commands of ``jt.tickets``, through a store: ``await store.commands.claim(ticket)``.

    ``expected_version`` is by default the version that the store shows, so that nobody decides about a row
    that has changed meanwhile; None means: whatever it is by now. Who comes too late gets
    ``ConflictError``, and the store's readers get ``TicketConflicted`` with both rows.
    """

    def __init__(self, store: WritableStore, tickets: Tickets[Any]) -> None:
        self._store: Final = store
        self._tickets: Final = tickets
        self._next_token = 1
        self._queues: dict[UUID, _Queue] = {}

    async def assign(
        self,
        ticket: TicketRef,
        technician: ProfileRef,
        *,
        expected_version: int | Unset | None = UNSET,
        idempotency_key: UUID | str | None = None,
    ) -> Ticket:
        """Give a ticket to a technician; an ``open`` one becomes ``assigned``.

        Args:
            ticket: The ticket, its id, or the id's text.
            technician: The technician's profile, its id, or the id's text.
            expected_version: Not given: the version that the store shows. None: whatever it is by now.
            idempotency_key: As in ``jt.tickets.assign``.

        Returns:
            The row after the change.

        Raises:
            ConflictError: Somebody was faster; the store looks the ticket up by itself.
            StoreClosedError: The store is closed.
            JamesTronicError: As in ``jt.tickets.assign``; the row is shown as it was.
        """
        who = profile_id(technician, "technician")
        return await self._write(
            ticket,
            lambda row: _with_technician(row, who),
            expected_version,
            lambda wanted, version: self._tickets.assign(
                wanted, who, expected_version=version, idempotency_key=idempotency_key
            ),
        )

    async def unassign(
        self,
        ticket: TicketRef,
        *,
        expected_version: int | Unset | None = UNSET,
        idempotency_key: UUID | str | None = None,
    ) -> Ticket:
        """Take a ticket from its technician; work that was begun becomes ``open``.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.
            idempotency_key: As in ``jt.tickets.assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return await self._write(
            ticket,
            _without_technician,
            expected_version,
            lambda wanted, version: self._tickets.unassign(
                wanted, expected_version=version, idempotency_key=idempotency_key
            ),
        )

    async def claim(
        self,
        ticket: TicketRef,
        *,
        expected_version: int | Unset | None = UNSET,
        idempotency_key: UUID | str | None = None,
    ) -> Ticket:
        """Take an unassigned ticket for yourself, as a technician.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.
            idempotency_key: As in ``jt.tickets.assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return await self._write(
            ticket,
            lambda row: _with_technician(row, self._store.viewer_id),
            expected_version,
            lambda wanted, version: self._tickets.claim(
                wanted, expected_version=version, idempotency_key=idempotency_key
            ),
        )

    async def release(
        self,
        ticket: TicketRef,
        *,
        expected_version: int | Unset | None = UNSET,
        idempotency_key: UUID | str | None = None,
    ) -> Ticket:
        """Put your ticket back into the pool, as its technician.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.
            idempotency_key: As in ``jt.tickets.assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return await self._write(
            ticket,
            _without_technician,
            expected_version,
            lambda wanted, version: self._tickets.release(
                wanted, expected_version=version, idempotency_key=idempotency_key
            ),
        )

    async def set_status(
        self,
        ticket: TicketRef,
        status: TicketStatus | str,
        *,
        expected_version: int | Unset | None = UNSET,
        idempotency_key: UUID | str | None = None,
    ) -> Ticket:
        """Move a ticket to another status.

        Args:
            ticket: The ticket, its id, or the id's text.
            status: The status after the change.
            expected_version: As in ``assign``.
            idempotency_key: As in ``jt.tickets.assign``.

        Returns:
            The row after the change.

        Raises:
            BadRequestError: The step is not allowed from the present status.
            JamesTronicError: As in ``assign``.
        """
        checked_text(status, "status", limit=LONGEST_WORD)
        return await self._write(
            ticket,
            lambda _: {"status": status},
            expected_version,
            lambda wanted, version: self._tickets.set_status(
                wanted, status, expected_version=version, idempotency_key=idempotency_key
            ),
        )

    async def schedule_transport(
        self,
        ticket: TicketRef,
        transporter: ProfileRef,
        scheduled_at: datetime,
        *,
        expected_version: int | Unset | None = UNSET,
        idempotency_key: UUID | str | None = None,
    ) -> Ticket:
        """Have the device of a ticket moved.

        Args:
            ticket: The ticket, its id, or the id's text.
            transporter: The transporter's profile, its id, or the id's text.
            scheduled_at: When; an aware ``datetime``.
            expected_version: As in ``assign``.
            idempotency_key: As in ``jt.tickets.assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        who = profile_id(transporter, "transporter")
        when = checked_moment(scheduled_at, "scheduled_at")
        return await self._write(
            ticket,
            lambda _: {"assigned_transporter_id": who, "scheduled_at": when},
            expected_version,
            lambda wanted, version: self._tickets.schedule_transport(
                wanted, who, when, expected_version=version, idempotency_key=idempotency_key
            ),
        )

    async def update(
        self,
        ticket: TicketRef,
        patch: TicketPatch | None = None,
        /,
        *,
        expected_version: int | Unset | None = UNSET,
        **fields: object,
    ) -> Ticket:
        """Change plain columns of a ticket; status and people have commands of their own.

        Args:
            ticket: The ticket, its id, or the id's text.
            patch: What to change; or give it as keywords: ``update(ticket, title="...")``.
            expected_version: As in ``assign``.
            **fields: The fields of ``TicketPatch``.

        Returns:
            The row after the change.

        Raises:
            InvalidInputError: A field is malformed or unknown, or none was given; nothing was sent.
            JamesTronicError: As in ``assign``.
        """
        new = checked_input(TicketPatch, patch, fields, verb="update", name="patch")
        return await self._write(
            ticket,
            lambda _: {name: getattr(new, name) for name in new.model_fields_set},
            expected_version,
            lambda wanted, version: self._tickets.update(wanted, new, expected_version=version),
        )

    # -- inside ------------------------------------------------------------------------------------

    async def _write(
        self,
        ticket: TicketRef,
        guess: Callable[[Ticket], Mapping[str, Any]],
        expected_version: int | Unset | None,
        send: Callable[[UUID, int | None], Awaitable[Ticket]],
    ) -> Ticket:
        """Show it, send it, and tell the store how it ended; whatever happens, it is shown no longer."""
        self._store.require_open()
        wanted = ticket_id(ticket)
        shown = self._store.tickets.get(wanted)
        token, self._next_token = self._next_token, self._next_token + 1
        self._store.post(WriteBegun(token, wanted, {} if shown is None else guess(shown)))
        try:
            async with self._turn(wanted):
                self._store.require_open()  # it may have been closed, and somebody else signed in, meanwhile
                row = await send(wanted, self._version(wanted, expected_version))
                self._store.post(WriteDone(token, row, self._store.wall()))
                # Before the next one's turn: it is based on this one's version.
                await self._store.absorb(wanted, row.version)
                return row
        except BaseException as error:
            # Of anything but a refusal, cancellation included, nobody knows whether it was done.
            is_conflict = isinstance(error, ConflictError)
            is_certain = isinstance(error, _WITHOUT_EFFECT)
            self._store.post(WriteFailed(token, is_conflict, is_certain, self._store.wall()))
            raise

    def _version(self, wanted: UUID, expected: int | Unset | None) -> int | None:
        """The version that the store shows now, after the commands before this one."""
        if expected is not UNSET:
            return expected
        shown = self._store.tickets.get(wanted)
        return None if shown is None else shown.version

    @asynccontextmanager
    async def _turn(self, wanted: UUID) -> AsyncGenerator[None]:
        queue = self._queues.setdefault(wanted, _Queue())
        queue.users += 1
        try:
            async with queue.lock:
                yield
        finally:
            queue.users -= 1
            if not queue.users:
                del self._queues[wanted]


class _Queue:
    """Commands of one ticket, in order."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock: Final = asyncio.Lock()
        self.users = 0


def _with_technician(row: Ticket, technician_id: UUID | None) -> dict[str, Any]:
    status = TicketStatus.ASSIGNED if row.status == TicketStatus.OPEN else row.status
    return {"assigned_technician_id": technician_id, "status": status}


def _without_technician(row: Ticket) -> dict[str, Any]:
    status = TicketStatus.OPEN if row.status in _BACK_TO_POOL else row.status
    return {"assigned_technician_id": None, "status": status}
