"""Typed reads and commands of tickets; reach it as ``jt.tickets``.

Promises:
    Reads answer validated rows or raise. A whole read (``fetch_all``) is all or nothing.
    A command is one atomic function of the database. It carries an idempotency key, so the repeat after a
    lost answer does not act twice; with ``expected_version`` it fails instead of overwriting what
    somebody else has done.

Never:
    Nothing malformed goes over the network.
"""

from __future__ import annotations

import builtins
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, Unpack
from uuid import UUID, uuid4

from jamestronic_sdk._filters import (
    LONGEST_WORD,
    Filters,
    Order,
    PriorityFilter,
    ProfileRef,
    StatusFilter,
    TicketFilters,
    TicketOrder,
)
from jamestronic_sdk._inputs import (
    checked_input,
    checked_int,
    checked_iterable,
    checked_moment,
    checked_text,
    checked_uuid,
    profile_id,
    ticket_id,
)
from jamestronic_sdk._paging import RowQuery
from jamestronic_sdk._ticket_changes import TicketChanges, TicketDigest, TicketLog
from jamestronic_sdk._ticket_reads import MAX_PAGE, ListSource, TicketReads
from jamestronic_sdk.errors import (
    ConflictError,
    DataError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
)
from jamestronic_sdk.models import NewTicket, Ticket, TicketPatch, TicketStatus, TicketT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from postgrest import AsyncSelectRequestBuilder
    from supabase import AsyncClient

    from jamestronic_sdk._http import Wire

__all__ = [
    "PriorityFilter",
    "ProfileRef",
    "StatusFilter",
    "TicketFilters",
    "TicketOrder",
    "TicketRef",
    "Tickets",
]

TicketRef: TypeAlias = Ticket | UUID | str
"""A ticket, its id, or the id's text."""

# 37 characters an id: the URL stays under 4 kB, half of what the strictest proxies take.
_IDS_PER_REQUEST: Final = 100

# A cursor is the text of pg_current_snapshot() and who asked: 20 digits for each transaction in progress.
_LONGEST_CURSOR: Final = 100_000


def _with_ids(ids: builtins.list[str], query: AsyncSelectRequestBuilder) -> AsyncSelectRequestBuilder:
    return query.in_("id", ids)


class Tickets(Generic[TicketT]):
    """Reads and commands of tickets, on behalf of who is signed in; RLS decides what is seen."""

    __slots__ = ("_log", "_reads")

    def __init__(self, wire: Wire, model: type[TicketT]) -> None:
        self._reads: Final = TicketReads(wire, model)
        self._log: Final = TicketLog(wire, self._reads, model)

    # -- reads -------------------------------------------------------------------------------------

    async def list(
        self, *, order: TicketOrder = "newest", limit: int = 100, **filters: Unpack[TicketFilters]
    ) -> builtins.list[TicketT]:
        """The first tickets that you may see and that match all filters, in one request.

        Args:
            order: ``newest`` or ``oldest`` first, by number; ``recently_updated`` or
                ``least_recently_updated`` first.
            limit: At most so many, 1 to 1000.
            **filters: See ``TicketFilters``.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        count = checked_int(limit, "limit", low=1, high=MAX_PAGE)
        return await ListSource(self._reads, Filters(filters), Order(order)).page(None, count)

    def query(
        self, *, order: TicketOrder = "newest", limit: int | None = None, **filters: Unpack[TicketFilters]
    ) -> RowQuery[TicketT]:
        """The tickets that you may see and that match all filters, to be walked: see ``RowQuery``.

        Args:
            order: As in ``list``. While it is walked by time of update, a row that is updated meanwhile
                may come twice or not at all.
            limit: At most so many; None: all.
            **filters: See ``TicketFilters``.

        Raises:
            InvalidInputError: An argument is malformed; nothing is sent.
        """
        source = ListSource(self._reads, Filters(filters), Order(order))
        most = None if limit is None else checked_int(limit, "limit", low=1, high=2**63 - 1)
        return RowQuery(source, limit=most, max_page=MAX_PAGE)

    async def fetch_all(self, **filters: Unpack[TicketFilters]) -> builtins.list[TicketT]:
        """All tickets that you may see and that match all filters, by number; all or nothing.

        Read page by page after the last number seen, so rows that come or go meanwhile move no page; a
        large table is read in several parts at once. It is not one moment's snapshot: each row is as it
        was when its page was read.

        Args:
            **filters: See ``TicketFilters``.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: One page failed; what was read is dropped.
        """
        checked = Filters(filters)
        if checked.is_empty_set:
            return []
        with self._reads.wire.operation("tickets.fetch_all"):
            return await self._reads.all(checked)

    async def changes(self, cursor: str | None = None) -> TicketChanges[TicketT]:
        """What changed for you since a cursor, as of one moment, all pages together.

        For programs that follow tickets across restarts; ``ticket_store`` does it for you while it runs.

        Args:
            cursor: Of the call before; None reads everything that you may see.

        Returns:
            ``kind`` is ``snapshot`` when everything was read, also because the cursor was too old or belongs
            to another person or role; then what you held before is obsolete.

        Raises:
            SchemaMissingError: The database lacks ``060_sync.sql``.
            JamesTronicError: See ``errors.py``; the cursor stays good.
        """
        since = None if cursor is None else checked_text(cursor, "cursor", limit=_LONGEST_CURSOR)
        with self._reads.wire.operation("tickets.changes"):
            return await self._log.changes(since)

    async def digest(self) -> TicketDigest:
        """Count and checksum over the tickets that you may see: equal means that you hold the same.

        Raises:
            SchemaMissingError: The database lacks ``060_sync.sql``.
            JamesTronicError: See ``errors.py``.
        """
        return await self._log.digest()

    async def versions(self) -> builtins.list[tuple[UUID, int]]:
        """Id and version of every ticket that you may see: what you need to find what you lack.

        Raises:
            JamesTronicError: One page failed; what was read is dropped.
        """
        return await self._reads.versions()

    async def get(self, ticket: TicketRef) -> TicketT:
        """One ticket as it is now.

        Args:
            ticket: The ticket, its id, or the id's text.

        Raises:
            NotFoundError: It does not exist, or you may not see it.
            InvalidInputError: Not an id; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        wanted = str(ticket_id(ticket))
        rows = await self._reads.rows(lambda query: query.eq("id", wanted).limit(1), "tickets.get")
        if not rows:
            raise NotFoundError(
                f"tickets.get: no ticket {wanted}.",
                next_step="It does not exist, or your role may not see it.",
                operation="tickets.get",
            )
        return rows[0]

    async def get_many(self, tickets: Iterable[TicketRef]) -> builtins.list[TicketT]:
        """Several tickets as they are now, in the order asked for; those that you may not see are left out.

        Args:
            tickets: Tickets, ids, or texts of ids; repeats are answered once.

        Raises:
            InvalidInputError: One of them is no id; nothing was sent.
            JamesTronicError: See ``errors.py``; nothing is answered then.
        """
        if isinstance(tickets, str | Ticket | UUID):
            raise InvalidInputError("get_many takes several tickets; use get for one.")
        several = checked_iterable(tickets, "tickets")
        wanted = builtins.list(dict.fromkeys(ticket_id(ticket) for ticket in several))
        found: dict[UUID, TicketT] = {}
        with self._reads.wire.operation("tickets.get_many"):
            for start in range(0, len(wanted), _IDS_PER_REQUEST):
                chunk = [str(one) for one in wanted[start : start + _IDS_PER_REQUEST]]
                rows = await self._reads.rows(partial(_with_ids, chunk), "tickets.get_many")
                found.update((row.id, row) for row in rows)
        return [found[one] for one in wanted if one in found]

    # -- writes ------------------------------------------------------------------------------------

    async def create(self, ticket: NewTicket | None = None, /, **fields: object) -> TicketT:
        """Open a ticket.

        Args:
            ticket: What to open; or give its fields as keywords: ``create(title="...", priority="high")``.
            **fields: The fields of ``NewTicket``.

        Returns:
            The new row, with number and version.

        Raises:
            InvalidInputError: A field is missing, malformed or unknown; nothing was sent.
            PermissionDeniedError: Your role may not open tickets, or not such ones.
            TransportError: No answer came, also when tried again. Unless ``maybe_sent`` is False the
                ticket may have been opened.
            JamesTronicError: See ``errors.py``.
        """
        operation = "tickets.create"
        new = checked_input(NewTicket, ticket, fields, verb="create", name="ticket")
        # An id of ours makes the insert harmless to repeat: the second one meets the first one's key.
        made = uuid4()
        row: dict[str, object] = {"id": str(made), **new.to_row()}
        try:
            response = await self._reads.wire.send(
                lambda raw: raw.table("tickets").insert(row),  # pyright: ignore[reportUnknownMemberType] - its JSON alias is recursive
                operation=operation,
                target="tickets",
                replayable=True,
            )
        except ConflictError as error:
            if error.code == "23505" and "tickets_pkey" in error.message:
                return await self.get(made)  # the answer of an earlier try was lost
            raise
        rows = self._reads.parse_rows(response, operation)
        if len(rows) != 1:
            raise DataError(f"{operation}: expected one row, got {len(rows)}.")
        return rows[0]

    async def update(
        self,
        ticket: TicketRef,
        patch: TicketPatch | None = None,
        /,
        *,
        expected_version: int | None = None,
        **fields: object,
    ) -> TicketT:
        """Change plain columns of a ticket; status and people have commands of their own.

        Args:
            ticket: The ticket, its id, or the id's text.
            patch: What to change; or give it as keywords: ``update(ticket, title="...")``.
            expected_version: Fail if the ticket has another version by now; None: do it anyway.
            **fields: The fields of ``TicketPatch``.

        Returns:
            The row after the change.

        Raises:
            ConflictError: The version is another; ``current_version`` says which.
            NotFoundError: There is no such ticket, or you may not see it.
            PermissionDeniedError: Your role may not change it, or not these columns.
            InvalidInputError: A field is malformed or unknown, or none was given; nothing was sent.
            TransportError: No answer came; it is tried again only if nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        operation = "tickets.update"
        new = checked_input(TicketPatch, patch, fields, verb="update", name="patch")
        changes: dict[str, object] = new.to_row()
        if not changes:
            raise InvalidInputError("update needs at least one field.")
        wanted = str(ticket_id(ticket))
        version = None if expected_version is None else _version(expected_version)

        def build(raw: AsyncClient) -> AsyncSelectRequestBuilder:
            query = raw.table("tickets").update(changes).eq("id", wanted)  # pyright: ignore[reportUnknownMemberType] - its JSON alias is recursive
            return query if version is None else query.eq("version", version)

        with self._reads.wire.operation(operation):
            response = await self._reads.wire.send(
                build, operation=operation, target="tickets", replayable=False
            )
            rows = self._reads.parse_rows(response, operation)
            if rows:
                return rows[0]
            # RLS answers "not there", "not visible", "not yours" and "another version" all the same way.
            now = await self.get(wanted)
        if version is not None and now.version != version:
            raise ConflictError(
                f"{operation}: the ticket was changed in the meantime [version {now.version}].",
                next_step="Reload the ticket and decide again.",
                status=409,
                details=f'{{"reason": "version_conflict", "current_version": {now.version}}}',
                operation=operation,
            )
        raise PermissionDeniedError(
            f"{operation}: your role may not change this ticket.", status=403, operation=operation
        )

    async def assign(
        self,
        ticket: TicketRef,
        technician: ProfileRef,
        *,
        expected_version: int | None = None,
        idempotency_key: UUID | str | None = None,
    ) -> TicketT:
        """Give a ticket to a technician; an ``open`` one becomes ``assigned``.

        Args:
            ticket: The ticket, its id, or the id's text.
            technician: The technician's profile, its id, or the id's text.
            expected_version: Fail if the ticket has another version by now; None: do it anyway.
            idempotency_key: A UUID that is the same when a program repeats the same wish, for example
                after a restart: the first answer comes again, nothing is done twice (for a day). None
                makes one for this call and its retries.

        Returns:
            The row after the change.

        Raises:
            ConflictError: The version is another; ``current_version`` says which.
            NotFoundError: There is no such ticket, or you may not see it.
            PermissionDeniedError: Your role may not assign.
            BadRequestError: The profile is not an active technician, or the ticket is closed.
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        return await self._command(
            "assign",
            ticket,
            expected_version,
            idempotency_key,
            function="assign_ticket",
            technician_id=str(profile_id(technician, "technician")),
        )

    async def unassign(
        self,
        ticket: TicketRef,
        *,
        expected_version: int | None = None,
        idempotency_key: UUID | str | None = None,
    ) -> TicketT:
        """Take a ticket away from its technician; unless it is finished it becomes ``open``.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.
            idempotency_key: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return await self._command(
            "unassign", ticket, expected_version, idempotency_key, function="unassign_ticket"
        )

    async def claim(
        self,
        ticket: TicketRef,
        *,
        expected_version: int | None = None,
        idempotency_key: UUID | str | None = None,
    ) -> TicketT:
        """Take an unassigned ticket for yourself, as a technician.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.
            idempotency_key: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            ConflictError: Somebody else was faster; ``reason`` says so.
            JamesTronicError: As in ``assign``.
        """
        return await self._command(
            "claim", ticket, expected_version, idempotency_key, function="claim_ticket"
        )

    async def release(
        self,
        ticket: TicketRef,
        *,
        expected_version: int | None = None,
        idempotency_key: UUID | str | None = None,
    ) -> TicketT:
        """Put your ticket back into the pool, as its technician.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.
            idempotency_key: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return await self._command(
            "release", ticket, expected_version, idempotency_key, function="release_ticket"
        )

    async def set_status(
        self,
        ticket: TicketRef,
        status: TicketStatus | str,
        *,
        expected_version: int | None = None,
        idempotency_key: UUID | str | None = None,
    ) -> TicketT:
        """Move a ticket to another status.

        Args:
            ticket: The ticket, its id, or the id's text.
            status: The status after the change.
            expected_version: As in ``assign``.
            idempotency_key: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            BadRequestError: The step is not allowed from the present status.
            JamesTronicError: As in ``assign``.
        """
        return await self._command(
            "set_status",
            ticket,
            expected_version,
            idempotency_key,
            function="set_ticket_status",
            status=str(checked_text(status, "status", limit=LONGEST_WORD)),
        )

    async def schedule_transport(
        self,
        ticket: TicketRef,
        transporter: ProfileRef,
        scheduled_at: datetime,
        *,
        expected_version: int | None = None,
        idempotency_key: UUID | str | None = None,
    ) -> TicketT:
        """Have the device of a ticket moved.

        Args:
            ticket: The ticket, its id, or the id's text.
            transporter: The transporter's profile, its id, or the id's text.
            scheduled_at: When; an aware ``datetime``.
            expected_version: As in ``assign``.
            idempotency_key: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return await self._command(
            "schedule_transport",
            ticket,
            expected_version,
            idempotency_key,
            function="schedule_transport",
            transporter_id=str(profile_id(transporter, "transporter")),
            scheduled_at=checked_moment(scheduled_at, "scheduled_at").isoformat(),
        )

    # -- inside ------------------------------------------------------------------------------------

    async def _command(
        self,
        verb: str,
        ticket: TicketRef,
        expected_version: int | None,
        idempotency_key: UUID | str | None,
        *,
        function: str,
        **values: str,
    ) -> TicketT:
        operation = f"tickets.{verb}"
        arguments: dict[str, object] = {
            "ticket_id": str(ticket_id(ticket)),
            **values,
            "idempotency_key": str(_key(idempotency_key)),
        }
        if expected_version is not None:
            arguments["expected_version"] = _version(expected_version)
        response = await self._reads.wire.send(
            lambda raw: raw.rpc(function, arguments), operation=operation, target=function, replayable=True
        )
        return self._reads.parse_row(response, operation)


def _version(value: object) -> int:
    return checked_int(value, "expected_version", low=0, high=2**63 - 1)


def _key(value: object) -> UUID:
    return uuid4() if value is None else checked_uuid(value, "idempotency_key")
