"""The only module that touches the TicketStore: one live view per person, shared by that person's windows.

Promises:
    ``board`` answers the newest consistent state at any time. Whatever happens after that is told, once.
    A store that can't be opened is tried again until somebody cancels; ``sync`` says so meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from jamestronic_sdk import FreshnessKind, JamesTronicError, Source, View, ViewKind

from . import wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from jamestronic_sdk import JamesTronic, Profile, Ticket, TicketEvent, TicketStore

    from .wire import Json

RETRY: Final = 2.0
"""Seconds until a store that could not be opened is tried again."""
READY_TIMEOUT: Final = 10.0
"""Seconds for the first state; a page that waits says that it is loading."""
POINTS: Final = 120
"""Latencies that a new window's chart begins with."""


class Live:
    """What one person sees, and that person's writes.

    Args:
        jt: Signed in as that person.
        poll_interval: Seconds between reads while Realtime is down.
        tell: Takes the name and the content of each message for the windows.
    """

    def __init__(self, jt: JamesTronic, poll_interval: float, tell: Callable[[str, Json], None]) -> None:
        self._jt: Final = jt
        self._poll_interval: Final = poll_interval
        self._tell: Final = tell
        self._store: TicketStore | None = None
        self._trouble: str | None = None
        self._people: list[Profile] = []
        self._asked_for: Final[set[UUID]] = set()
        self._woken: Final = asyncio.Event()
        self._points: Final[deque[Json]] = deque(maxlen=POINTS)
        self._me: Final = jt.auth.me
        own = View.of_role(self._me.role, self._me.profile_id)
        if own.kind is ViewKind.TECHNICIAN:
            own = View.technician(self._me.profile_id, includes_pool=True)
        self._view: Final = own

    # --- reading -----------------------------------------------------------------------------------

    def board(self) -> Json:
        """Everything that a window needs to begin."""
        rows = () if self._store is None else self._store.tickets.values()
        return {
            "me": wire.me(self._me),
            "people": wire.people(self._people),
            "is_loading": self._store is None,
            "tickets": [wire.ticket(row) for row in rows],
            "points": list(self._points),
            "sync": self.sync(),
        }

    def sync(self) -> Json:
        """How changes are learned right now, and how old the data may be."""
        store = self._store
        if store is None:
            return {"status": "connecting", "kind": "loading", "age": None, "reason": self._trouble}
        fresh = store.freshness
        return {
            "status": str(store.status),
            "kind": str(fresh.kind),
            "age": fresh.age,
            "reason": fresh.reason or store.status_reason,
            "poll_interval": self._poll_interval,
            "sources": self._sources(store),
        }

    async def run(self) -> None:
        """Keep a store open until cancelled; returns when the person's session has ended."""
        while self._jt.auth.is_signed_in:
            try:
                await self._load_people()
                async with self._jt.ticket_store(
                    self._view, poll_interval=self._poll_interval, ready_timeout=READY_TIMEOUT
                ) as store:
                    await self._follow(store)
            except JamesTronicError as error:
                self._trouble = str(error)
            finally:
                self._store = None
            self._tell("sync", self.sync())
            await asyncio.sleep(RETRY)

    def wake(self) -> None:
        """A window came back from the background: read now, without making it wait."""
        self._woken.set()

    def wrote(self) -> None:
        """A write got through: if reads were waiting for better times, these have come."""
        if self._store is not None and self._store.freshness.kind is FreshnessKind.STALE:
            self.wake()

    # --- writing -----------------------------------------------------------------------------------

    def shows(self, row: Ticket) -> bool:
        """Whether the row belongs on this person's page."""
        return self._view.contains(row)

    async def current(self, ticket_id: UUID) -> Ticket:
        """The row as it is in the database now; NotFoundError when this person may not see it."""
        return await self._jt.tickets.get(ticket_id)

    async def create(self, **fields: object) -> Ticket:
        """Open a ticket; a customer's own is theirs."""
        if self._view.kind is ViewKind.CUSTOMER:
            fields["customer_id"] = self._me.profile_id
        return await self._jt.tickets.create(**fields)

    async def assign(self, ticket_id: UUID, technician_id: UUID, version: int | None, key: UUID) -> Ticket:
        """Give the ticket to a technician."""
        return await self._jt.tickets.assign(
            ticket_id, technician_id, expected_version=version, idempotency_key=key
        )

    async def unassign(self, ticket_id: UUID, version: int | None, key: UUID) -> Ticket:
        """Put the ticket back into the pool."""
        return await self._jt.tickets.unassign(ticket_id, expected_version=version, idempotency_key=key)

    async def claim(self, ticket_id: UUID, version: int | None, key: UUID) -> Ticket:
        """Take a ticket from the pool."""
        return await self._jt.tickets.claim(ticket_id, expected_version=version, idempotency_key=key)

    async def release(self, ticket_id: UUID, version: int | None, key: UUID) -> Ticket:
        """Give an own ticket back to the pool."""
        return await self._jt.tickets.release(ticket_id, expected_version=version, idempotency_key=key)

    async def set_status(self, ticket_id: UUID, status: str, version: int | None, key: UUID) -> Ticket:
        """Move the ticket on."""
        return await self._jt.tickets.set_status(
            ticket_id, status, expected_version=version, idempotency_key=key
        )

    async def schedule(
        self, ticket_id: UUID, transporter_id: UUID, at: datetime, version: int | None, key: UUID
    ) -> Ticket:
        """Have the device moved."""
        return await self._jt.tickets.schedule_transport(
            ticket_id, transporter_id, at, expected_version=version, idempotency_key=key
        )

    async def move(self, ticket_id: UUID, at: datetime, version: int | None) -> Ticket:
        """Another time for the transporter's own round."""
        return await self._jt.tickets.update(ticket_id, scheduled_at=at, expected_version=version)

    # --- inside ------------------------------------------------------------------------------------

    async def _follow(self, store: TicketStore) -> None:
        """Tell everything that the store says, until it closes."""
        events = store.events()
        self._store, self._trouble = store, None
        self._tell("board", self.board())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_statuses(store), name="dashboard-statuses")
            waker = tasks.create_task(self._refresh_when_woken(store), name="dashboard-waker")
            try:
                async for event in events:
                    await self._take(event)
            except JamesTronicError as error:
                self._trouble = str(error)
            waker.cancel()

    async def _follow_statuses(self, store: TicketStore) -> None:
        try:
            async for _ in store.statuses():
                self._tell("sync", self.sync())
        except JamesTronicError as error:
            self._trouble = str(error)

    async def _refresh_when_woken(self, store: TicketStore) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            with suppress(JamesTronicError):  # the store goes on by itself, and its freshness says how it is
                await store.refresh()
            self._tell("sync", self.sync())

    async def _take(self, event: TicketEvent) -> None:
        said = wire.event(event)
        if event.latency is not None:
            self._points.append({key: said[key] for key in ("at", "source", "latency")})
        gone = [] if event.is_in_view else [{"id": said["id"], "version": said["version"]}]
        rows = [wire.ticket(event.ticket)] if event.is_in_view else []
        self._tell("changes", {"tickets": rows, "removed": gone, "events": [said], "sync": self.sync()})
        await self._introduce(event.ticket)

    async def _introduce(self, row: Ticket) -> None:
        """Somebody new may have become visible with the ticket, such as its customer."""
        if self._view.kind is not ViewKind.OVERVIEW and not self._view.is_mine(row):
            return
        named = {row.customer_id, row.assigned_technician_id, row.assigned_transporter_id}
        unknown = {one for one in named if one} - {one.id for one in self._people} - self._asked_for
        if not unknown:
            return
        self._asked_for.update(unknown)
        try:
            await self._load_people()
        except JamesTronicError:
            self._asked_for.difference_update(unknown)  # names are a comfort: the next change asks again
            return
        self._tell("people", wire.people(self._people))

    async def _load_people(self) -> None:
        self._people = await self._jt.profiles.list()

    @staticmethod
    def _sources(store: TicketStore) -> Json:
        """Events and latencies by how they were learned."""
        counts: Counter[str] = Counter()
        for (_, source), count in store.metrics.events.items():
            counts[str(source)] += count
        summaries = store.metrics.latencies
        return {
            str(source): {
                "count": counts[source],
                "p50": summaries[source].p50 if source in summaries else None,
                "p95": summaries[source].p95 if source in summaries else None,
            }
            for source in Source
            if counts[source]
        }
