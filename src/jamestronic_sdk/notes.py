"""What people say about tickets; reach it as ``jt.notes``.

Promises:
    Row level security decides who reads and writes what: internal notes are for admins, staff and
    technicians, and a note is changed by who wrote it, or by an admin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args
from uuid import UUID, uuid4

from pydantic import TypeAdapter

from jamestronic_sdk._filters import after_row
from jamestronic_sdk._inputs import (
    checked_bool,
    checked_input,
    checked_instance,
    checked_int,
    checked_model,
    note_id,
    profile_id,
    ticket_id,
)
from jamestronic_sdk._paging import RowQuery, count_rows
from jamestronic_sdk._ticket_reads import MAX_PAGE
from jamestronic_sdk.errors import (
    ConflictError,
    DataError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
)
from jamestronic_sdk.models import LAZY, NewNote, Note

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from postgrest import AsyncSelectRequestBuilder
    from supabase import AsyncClient

    from jamestronic_sdk._filters import ProfileRef
    from jamestronic_sdk._http import Query, Wire
    from jamestronic_sdk._paging import Narrow
    from jamestronic_sdk.tickets import TicketRef

__all__ = ["NoteOrder", "NoteRef", "Notes"]

NoteRef: TypeAlias = Note | UUID | str
"""A note, its id, or the id's text."""

NoteOrder: TypeAlias = Literal["oldest", "newest"]
"""The order of notes, by when they were written."""

# A name of its own because `list` is a method below.
NoteRows: TypeAlias = list[Note]

_ROWS: Final[TypeAdapter[list[Note]]] = TypeAdapter(list[Note], config=LAZY)


class Notes:
    """Reads and writes of notes, on behalf of who is signed in."""

    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire: Final = wire

    async def list(
        self,
        ticket: TicketRef,
        *,
        is_internal: bool | None = None,
        after: Note | None = None,
        limit: int = MAX_PAGE,
    ) -> NoteRows:
        """The notes of a ticket that you may see, the oldest first.

        Args:
            ticket: The ticket, its id, or the id's text.
            is_internal: True: only internal ones; False: only those that customers see, too.
            after: Begin after this note: the last one of the page before, or of an earlier look.
            limit: At most so many, 1 to 1000.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        count = checked_int(limit, "limit", low=1, high=MAX_PAGE)
        last = None if after is None else checked_instance(after, Note, "after")
        return await _Said(self._wire, ticket_id(ticket), None, is_internal, "oldest").page(last, count)

    def query(
        self,
        ticket: TicketRef | None = None,
        *,
        author: ProfileRef | None = None,
        is_internal: bool | None = None,
        order: NoteOrder = "oldest",
        limit: int | None = None,
    ) -> RowQuery[Note]:
        """The notes that you may see and that match all filters, to be walked: see ``RowQuery``.

        Args:
            ticket: Of this ticket; None: of all.
            author: Written by this person: the profile, its id, or the id's text.
            is_internal: True: only internal ones; False: only those that customers see, too.
            order: ``oldest`` or ``newest`` first; a note keeps its place.
            limit: At most so many; None: all.

        Raises:
            InvalidInputError: An argument is malformed; nothing is sent.
        """
        wanted = None if ticket is None else ticket_id(ticket)
        writer = None if author is None else profile_id(author, "author")
        most = None if limit is None else checked_int(limit, "limit", low=1, high=2**63 - 1)
        source = _Said(self._wire, wanted, writer, is_internal, order)
        return RowQuery(source, limit=most, max_page=MAX_PAGE)

    async def get(self, note: NoteRef) -> Note:
        """One note as it is now.

        Args:
            note: The note, its id, or the id's text.

        Raises:
            NotFoundError: It does not exist, or you may not see it.
            InvalidInputError: Not an id; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        wanted = str(note_id(note))
        rows = await _read(self._wire, lambda query: query.eq("id", wanted).limit(1), "notes.get")
        if not rows:
            raise NotFoundError(
                f"notes.get: no note {wanted}.",
                next_step="It does not exist, or your role may not see it.",
                operation="notes.get",
            )
        return rows[0]

    async def create(self, ticket: TicketRef, note: NewNote | None = None, /, **fields: object) -> Note:
        """Write a note in your own name.

        Args:
            ticket: The ticket, its id, or the id's text.
            note: What to write; or give its fields as keywords: ``create(ticket, body="...")``.
            **fields: The fields of ``NewNote``.

        Returns:
            The new row.

        Raises:
            InvalidInputError: A field is missing, malformed or unknown; nothing was sent.
            PermissionDeniedError: You may not see the ticket, or not write internal notes.
            TransportError: No answer came, also when tried again. Unless ``maybe_sent`` is False the note
                may have been written.
            JamesTronicError: See ``errors.py``.
        """
        operation = "notes.create"
        new = checked_input(NewNote, note, fields, verb="create", name="note")
        # An id of ours makes the insert harmless to repeat: the second one meets the first one's key.
        made = uuid4()
        row: dict[str, object] = {"id": str(made), "ticket_id": str(ticket_id(ticket)), **new.to_row()}
        try:
            response = await self._wire.send(
                lambda raw: raw.table("ticket_notes").insert(row),  # pyright: ignore[reportUnknownMemberType] - its JSON alias is recursive
                operation=operation,
                target="ticket_notes",
                replayable=True,
            )
        except ConflictError as error:
            if error.code == "23505" and "ticket_notes_pkey" in error.message:
                return await self.get(made)  # the answer of an earlier try was lost
            raise
        return _one(response, operation)

    async def update(
        self, note: NoteRef, *, body: str | None = None, is_internal: bool | None = None
    ) -> Note:
        """Change a note that you wrote; admins change any.

        Args:
            note: The note, its id, or the id's text.
            body: The new text; None keeps it.
            is_internal: Who may read it; None keeps it.

        Returns:
            The row after the change.

        Raises:
            InvalidInputError: Nothing to change, or malformed; nothing was sent.
            NotFoundError: It does not exist, or you may not see it.
            PermissionDeniedError: It is somebody else's.
            TransportError: No answer came; it is tried again only if nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        operation = "notes.update"
        wanted = str(note_id(note))
        given: dict[str, object] = {"body": body, "is_internal": is_internal}
        changes = {name: value for name, value in given.items() if value is not None}
        if not changes:
            raise InvalidInputError("update needs a body or is_internal.")
        # The same checks as for a new note; the body is a stand-in where none is given.
        checked = checked_model(NewNote, {"body": "unchanged", **changes}).to_row()
        row: dict[str, object] = {name: checked[name] for name in changes}
        return await self._changed(
            lambda raw: raw.table("ticket_notes").update(row).eq("id", wanted),  # pyright: ignore[reportUnknownMemberType] - its JSON alias is recursive
            wanted,
            operation,
        )

    async def delete(self, note: NoteRef) -> Note:
        """Remove a note for good, as an admin.

        Args:
            note: The note, its id, or the id's text.

        Returns:
            The row that is gone.

        Raises:
            NotFoundError: It does not exist (any more), or you may not see it.
            PermissionDeniedError: You are no admin.
            TransportError: No answer came; it is tried again only if nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        operation = "notes.delete"
        wanted = str(note_id(note))
        return await self._changed(
            lambda raw: raw.table("ticket_notes").delete().eq("id", wanted), wanted, operation
        )

    # -- inside ------------------------------------------------------------------------------------

    async def _changed(self, build: Callable[[AsyncClient], Query], wanted: str, operation: str) -> Note:
        """The row after a change; RLS answers "not there" and "not yours" the same way: with none."""
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        with self._wire.operation(operation):
            response = await self._wire.send(
                build, operation=operation, target="ticket_notes", replayable=False
            )
            rows = parse(_ROWS, response, operation)
            if rows:
                return rows[0]
            await self.get(wanted)
        raise PermissionDeniedError(
            f"{operation}: your role may not change this note.", status=403, operation=operation
        )


class _Said:
    """Where the pages of one list of notes come from."""

    __slots__ = ("_is_descending", "_is_internal", "_terms", "_wire")

    def __init__(
        self, wire: Wire, ticket: UUID | None, author: UUID | None, is_internal: object, order: object
    ) -> None:
        if order not in get_args(NoteOrder):
            raise InvalidInputError(f"order must be one of {', '.join(get_args(NoteOrder))}.")
        self._wire: Final = wire
        self._terms: Final = [
            (column, str(value))
            for column, value in (("ticket_id", ticket), ("author_id", author))
            if value is not None
        ]
        self._is_internal: Final = checked_bool(is_internal, "is_internal")
        self._is_descending: Final = order == "newest"

    async def page(self, after: Note | None, size: int) -> NoteRows:
        """At most ``size`` notes that come after one."""
        descending = self._is_descending

        def narrow(query: AsyncSelectRequestBuilder) -> AsyncSelectRequestBuilder:
            query = self._narrowed(query)
            if after is not None:
                moment, beyond = after.created_at.isoformat(), "lt" if descending else "gt"
                query = query.or_(after_row("created_at", moment, "id", after.id, beyond))
            return query.order("created_at", desc=descending).order("id", desc=descending).limit(size)

        return await _read(self._wire, narrow, "notes.list")

    async def count(self) -> int:
        """How many there are."""
        return await count_rows(self._wire, "ticket_notes", self._narrowed, "notes.count")

    def _narrowed(self, query: AsyncSelectRequestBuilder) -> AsyncSelectRequestBuilder:
        for column, value in self._terms:
            query = query.eq(column, value)
        return query if self._is_internal is None else query.is_("is_internal", self._is_internal)


async def _read(wire: Wire, narrow: Narrow, operation: str) -> NoteRows:
    from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

    response = await wire.send(
        lambda raw: narrow(raw.table("ticket_notes").select("*")),
        operation=operation,
        target="ticket_notes",
        replayable=True,
    )
    return parse(_ROWS, response, operation)


def _one(response: httpx.Response, operation: str) -> Note:
    from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

    rows = parse(_ROWS, response, operation)
    if len(rows) != 1:
        raise DataError(f"{operation}: expected one row, got {len(rows)}.")
    return rows[0]
