"""Typed reads and commands of tickets; reach it as ``jt.tickets``.

Promises:
    Reads answer validated rows or raise. A whole read (``fetch_all``) is all or nothing.
    A command is one atomic function of the database. It carries an idempotency key of its own, so the
    repeat after a lost answer does not act twice; with ``expected_version`` it fails instead of
    overwriting what somebody else has done.

Never:
    Nothing malformed goes over the network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID, uuid4

from pydantic import TypeAdapter

from jamestronic_sdk._inputs import (
    checked_bool,
    checked_instance,
    checked_int,
    checked_model,
    checked_moment,
    checked_text,
    checked_words,
    profile_id,
    ticket_id,
)
from jamestronic_sdk.errors import ConflictError, DataError, InvalidInputError, NotFoundError
from jamestronic_sdk.models import NewTicket, Profile, Ticket, TicketPriority, TicketStatus

if TYPE_CHECKING:
    from datetime import datetime

    from postgrest import AsyncSelectRequestBuilder
    from supabase import AsyncClient

    from jamestronic_sdk._http import Wire

    _Narrow: TypeAlias = Callable[[AsyncSelectRequestBuilder], AsyncSelectRequestBuilder]

__all__ = ["ProfileRef", "StatusFilter", "TicketRef", "Tickets"]

_log: Final = logging.getLogger("jamestronic_sdk.tickets")

TicketRef: TypeAlias = Ticket | UUID | str
"""A ticket, its id, or the id's text."""

ProfileRef: TypeAlias = Profile | UUID | str
"""A profile, its id, or the id's text."""

StatusFilter: TypeAlias = TicketStatus | str | Iterable[TicketStatus | str]
"""One status, or any of several."""

PriorityFilter: TypeAlias = TicketPriority | str | Iterable[TicketPriority | str]
"""One priority, or any of several."""

# db-max-rows of hosted projects: PostgREST cuts longer pages silently.
MAX_PAGE: Final = 1000

# 37 characters an id: the URL stays under 4 kB, half of what the strictest proxies take.
_IDS_PER_REQUEST: Final = 100

_LONGEST_WORD: Final = 200
"""Characters in a status or priority, also a future one."""

# A name of its own because `list` is a method below.
TicketRows: TypeAlias = list[Ticket]

_ROWS: Final[TypeAdapter[list[Ticket]]] = TypeAdapter(list[Ticket])
_ROW: Final[TypeAdapter[Ticket]] = TypeAdapter(Ticket)


class _Filters:
    """The checked filters of one read."""

    __slots__ = ("_equal", "_one_of", "_or_unassigned", "_unassigned")

    def __init__(
        self,
        *,
        status: StatusFilter | None,
        priority: PriorityFilter | None,
        technician: ProfileRef | None,
        unassigned: bool | None,
        customer: ProfileRef | None,
        transporter: ProfileRef | None,
        or_unassigned: bool = False,
    ) -> None:
        if technician is not None and unassigned:
            raise InvalidInputError("technician and unassigned=True exclude each other.")
        if or_unassigned and technician is None:
            raise InvalidInputError("or_unassigned widens a technician's tickets; give technician, too.")
        people = {
            "assigned_technician_id": (technician, "technician"),
            "customer_id": (customer, "customer"),
            "assigned_transporter_id": (transporter, "transporter"),
        }
        self._or_unassigned: Final = or_unassigned
        self._equal: Final = {
            column: str(profile_id(person, name))
            for column, (person, name) in people.items()
            if person is not None
        }
        self._one_of: Final = {
            column: words
            for column, words in (
                ("status", checked_words(status, "status", limit=_LONGEST_WORD)),
                ("priority", checked_words(priority, "priority", limit=_LONGEST_WORD)),
            )
            if words is not None
        }
        self._unassigned: Final = checked_bool(unassigned, "unassigned")

    @property
    def is_empty_set(self) -> bool:
        """Whether no row can match: "any of" nothing."""
        return any(not words for words in self._one_of.values())

    def apply(self, query: AsyncSelectRequestBuilder) -> AsyncSelectRequestBuilder:
        for column, value in self._equal.items():
            if self._or_unassigned and column == "assigned_technician_id":
                # One query: a ticket that moves between the pool and the technician is in one of them.
                query = query.or_(f"{column}.eq.{value},{column}.is.null")
            else:
                query = query.eq(column, value)
        for column, words in self._one_of.items():
            query = query.eq(column, words[0]) if len(words) == 1 else query.in_(column, words)
        if self._unassigned is True:
            query = query.is_("assigned_technician_id", "null")
        elif self._unassigned is False:
            query = query.not_.is_("assigned_technician_id", "null")
        return query


def _with_ids(ids: list[str], query: AsyncSelectRequestBuilder) -> AsyncSelectRequestBuilder:
    return query.in_("id", ids)


class Tickets:
    """Reads and commands of tickets, on behalf of who is signed in; RLS decides what is seen."""

    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire: Final = wire

    # -- reads -------------------------------------------------------------------------------------

    async def list(
        self,
        *,
        status: StatusFilter | None = None,
        priority: PriorityFilter | None = None,
        technician: ProfileRef | None = None,
        unassigned: bool | None = None,
        customer: ProfileRef | None = None,
        transporter: ProfileRef | None = None,
        limit: int = 100,
    ) -> TicketRows:
        """The newest tickets that you may see and that match all filters; the newest first.

        Args:
            status: One status or several.
            priority: One priority or several.
            technician: Whose tickets; excludes ``unassigned=True``.
            unassigned: True: only those without a technician; False: only those with one.
            customer: Whose device it is.
            transporter: Who moves the device.
            limit: At most so many, 1 to 1000.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        filters = _Filters(
            status=status,
            priority=priority,
            technician=technician,
            unassigned=unassigned,
            customer=customer,
            transporter=transporter,
        )
        count = checked_int(limit, "limit", low=1, high=MAX_PAGE)
        if filters.is_empty_set:
            return []
        return await self._read(
            lambda query: filters.apply(query).order("number", desc=True).limit(count),
            "tickets.list",
        )

    async def fetch_all(
        self,
        *,
        status: StatusFilter | None = None,
        priority: PriorityFilter | None = None,
        technician: ProfileRef | None = None,
        unassigned: bool | None = None,
        customer: ProfileRef | None = None,
        transporter: ProfileRef | None = None,
        or_unassigned: bool = False,
    ) -> TicketRows:
        """All tickets that you may see and that match all filters, by number; all or nothing.

        Read page by page after the last number seen, so rows that come or go meanwhile move no page. It is
        not one moment's snapshot: each row is as it was when its page was read.

        Args:
            status: As in ``list``.
            priority: As in ``list``.
            technician: As in ``list``.
            unassigned: As in ``list``.
            customer: As in ``list``.
            transporter: As in ``list``.
            or_unassigned: With ``technician``: the unassigned tickets, too.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: One page failed; what was read is dropped.
        """
        operation = "tickets.fetch_all"
        filters = _Filters(
            status=status,
            priority=priority,
            technician=technician,
            unassigned=unassigned,
            customer=customer,
            transporter=transporter,
            or_unassigned=or_unassigned,
        )
        if filters.is_empty_set:
            return []
        rows: TicketRows = []
        size = MAX_PAGE
        while True:
            page, total = await self._page(filters, rows[-1].number if rows else None, size, operation)
            rows += page
            if len(page) == size:
                continue
            if total is not None and page and total > len(page):
                # The server's db-max-rows is lower than Supabase's default. Taking its cut for the end
                # of the table would lose tickets silently.
                _log.warning("the data API cuts pages at %d rows", len(page), extra={"rows": len(page)})
                size = len(page)
                continue
            return rows

    async def _page(
        self, filters: _Filters, after: int | None, size: int, operation: str
    ) -> tuple[TicketRows, int | None]:
        """One page by number; with the first, the server's idea of how many there are."""
        from postgrest import CountMethod  # noqa: PLC0415 - imports httpx

        from jamestronic_sdk._http import parse, total_of  # noqa: PLC0415

        def build(raw: AsyncClient) -> AsyncSelectRequestBuilder:
            # "estimated" counts exactly up to db-max-rows and asks the planner beyond: cheap, and exact
            # just where a cut page has to be told from a short one.
            count = CountMethod.estimated if after is None else None
            query = filters.apply(raw.table("tickets").select("*", count=count))
            if after is not None:
                query = query.gt("number", after)
            return query.order("number").limit(size)

        response = await self._wire.send(build, operation=operation, target="tickets", replayable=True)
        return parse(_ROWS, response, operation), total_of(response)

    async def get(self, ticket: TicketRef) -> Ticket:
        """One ticket as it is now.

        Args:
            ticket: The ticket, its id, or the id's text.

        Raises:
            NotFoundError: It does not exist, or you may not see it.
            InvalidInputError: Not an id; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        wanted = str(ticket_id(ticket))
        rows = await self._read(lambda query: query.eq("id", wanted).limit(1), "tickets.get")
        if not rows:
            raise NotFoundError(
                f"tickets.get: no ticket {wanted}.",
                next_step="It does not exist, or your role may not see it.",
                operation="tickets.get",
            )
        return rows[0]

    async def get_many(self, tickets: Iterable[TicketRef]) -> TicketRows:
        """Several tickets as they are now, in the order asked for; those that you may not see are left out.

        Args:
            tickets: Tickets, ids, or texts of ids; repeats are answered once.

        Raises:
            InvalidInputError: One of them is no id; nothing was sent.
            JamesTronicError: See ``errors.py``; nothing is answered then.
        """
        if isinstance(tickets, str | Ticket | UUID):
            raise InvalidInputError("get_many takes several tickets; use get for one.")
        wanted = list(dict.fromkeys(ticket_id(ticket) for ticket in tickets))
        found: dict[UUID, Ticket] = {}
        for start in range(0, len(wanted), _IDS_PER_REQUEST):
            chunk = [str(one) for one in wanted[start : start + _IDS_PER_REQUEST]]
            rows = await self._read(partial(_with_ids, chunk), "tickets.get_many")
            found.update((row.id, row) for row in rows)
        return [found[one] for one in wanted if one in found]

    # -- writes ------------------------------------------------------------------------------------

    async def create(self, ticket: NewTicket | None = None, /, **fields: object) -> Ticket:
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
        if ticket is not None and fields:
            raise InvalidInputError("create takes a NewTicket or fields, not both.")
        new = checked_model(NewTicket, fields) if ticket is None else ticket
        # An id of ours makes the insert harmless to repeat: the second one meets the first one's key.
        made = uuid4()
        row: dict[str, object] = {
            "id": str(made),
            **checked_instance(new, NewTicket, "ticket").to_row(),
        }
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        try:
            response = await self._wire.send(
                lambda raw: raw.table("tickets").insert(row),  # pyright: ignore[reportUnknownMemberType] - its JSON alias is recursive
                operation=operation,
                target="tickets",
                replayable=True,
            )
        except ConflictError as error:
            if error.code == "23505" and "tickets_pkey" in error.message:
                return await self.get(made)  # the answer of an earlier try was lost
            raise
        rows = parse(_ROWS, response, operation)
        if len(rows) != 1:
            raise DataError(f"{operation}: expected one row, got {len(rows)}.")
        return rows[0]

    async def assign(
        self, ticket: TicketRef, technician: ProfileRef, *, expected_version: int | None = None
    ) -> Ticket:
        """Give a ticket to a technician; an ``open`` one becomes ``assigned``.

        Args:
            ticket: The ticket, its id, or the id's text.
            technician: The technician's profile, its id, or the id's text.
            expected_version: Fail if the ticket has another version by now; None: do it anyway.

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
            "assign_ticket",
            ticket,
            expected_version,
            technician_id=str(profile_id(technician, "technician")),
        )

    async def unassign(self, ticket: TicketRef, *, expected_version: int | None = None) -> Ticket:
        """Take a ticket away from its technician; unless it is finished it becomes ``open``.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return await self._command("unassign", "unassign_ticket", ticket, expected_version)

    async def claim(self, ticket: TicketRef, *, expected_version: int | None = None) -> Ticket:
        """Take an unassigned ticket for yourself, as a technician.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            ConflictError: Somebody else was faster; ``reason`` says so.
            JamesTronicError: As in ``assign``.
        """
        return await self._command("claim", "claim_ticket", ticket, expected_version)

    async def release(self, ticket: TicketRef, *, expected_version: int | None = None) -> Ticket:
        """Put your ticket back into the pool, as its technician.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return await self._command("release", "release_ticket", ticket, expected_version)

    async def set_status(
        self, ticket: TicketRef, status: TicketStatus | str, *, expected_version: int | None = None
    ) -> Ticket:
        """Move a ticket to another status.

        Args:
            ticket: The ticket, its id, or the id's text.
            status: The status after the change.
            expected_version: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            BadRequestError: The step is not allowed from the present status.
            JamesTronicError: As in ``assign``.
        """
        return await self._command(
            "set_status",
            "set_ticket_status",
            ticket,
            expected_version,
            status=str(checked_text(status, "status", limit=_LONGEST_WORD)),
        )

    async def schedule_transport(
        self,
        ticket: TicketRef,
        transporter: ProfileRef,
        scheduled_at: datetime,
        *,
        expected_version: int | None = None,
    ) -> Ticket:
        """Have the device of a ticket moved.

        Args:
            ticket: The ticket, its id, or the id's text.
            transporter: The transporter's profile, its id, or the id's text.
            scheduled_at: When; an aware ``datetime``.
            expected_version: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return await self._command(
            "schedule_transport",
            "schedule_transport",
            ticket,
            expected_version,
            transporter_id=str(profile_id(transporter, "transporter")),
            scheduled_at=checked_moment(scheduled_at, "scheduled_at").isoformat(),
        )

    # -- inside ------------------------------------------------------------------------------------

    async def _command(
        self, verb: str, function: str, ticket: TicketRef, expected_version: int | None, **values: str
    ) -> Ticket:
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        operation = f"tickets.{verb}"
        arguments: dict[str, object] = {
            "ticket_id": str(ticket_id(ticket)),
            **values,
            "idempotency_key": str(uuid4()),
        }
        if expected_version is not None:
            arguments["expected_version"] = checked_int(
                expected_version, "expected_version", low=0, high=2**63 - 1
            )
        response = await self._wire.send(
            lambda raw: raw.rpc(function, arguments), operation=operation, target=function, replayable=True
        )
        return parse(_ROW, response, operation)

    async def _read(self, narrow: _Narrow, operation: str) -> TicketRows:
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        response = await self._wire.send(
            lambda raw: narrow(raw.table("tickets").select("*")),
            operation=operation,
            target="tickets",
            replayable=True,
        )
        return parse(_ROWS, response, operation)
