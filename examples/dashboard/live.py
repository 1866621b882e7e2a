"""The only module that touches the TicketStore: one live view per person, shared by that person's windows.

Promises:
    ``board`` answers the picture that was told last, and each message after it what differs from there, so
    that a window that applies them in order shows what the store shows.
    A store that can't be opened is tried again until somebody cancels; ``sync`` says so meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from jamestronic_sdk import JamesTronicError, Source, StoreClosedError, StoreStatus, View, ViewKind

from . import wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from jamestronic_sdk import JamesTronic, Profile, StoreChange, StoreCommands, Ticket, TicketStore

    from .wire import Json

RETRY: Final = 2.0
"""Seconds until a store that could not be opened is tried again."""
READY_TIMEOUT: Final = 10.0
"""Seconds for the first state; a page that waits says that it is loading."""
REDRAW: Final = 0.05
"""Seconds between messages to the windows, at least; what happens in between goes together."""
SETTLE_TIMEOUT: Final = 5.0
"""Seconds that a new ticket's answer waits for the live view to know it."""
POINTS: Final = 120
"""Latencies that a new window's chart begins with."""


class Live:
    """What one person sees, and that person's writes.

    Args:
        jt: Signed in as that person.
        poll_interval: Seconds between reads while Realtime is down.
        background_delay: Seconds without a window until nothing is asked any more.
        tell: Takes the name and the content of each message for the windows.
    """

    def __init__(
        self,
        jt: JamesTronic,
        poll_interval: float,
        background_delay: float,
        tell: Callable[[str, Json], None],
    ) -> None:
        self._jt: Final = jt
        self._poll_interval: Final = poll_interval
        self._background_delay: Final = background_delay
        self._tell: Final = tell
        self._store: TicketStore | None = None
        self._shown: StoreChange | None = None
        self._is_watched = False
        self._trouble: str | None = None
        self._people: list[Profile] = []
        self._asked_for: Final[set[UUID]] = set()
        self._points: Final[deque[Json]] = deque(maxlen=POINTS)
        self._me: Final = jt.auth.me
        own = View.of_role(self._me.role, self._me.profile_id)
        if own.kind is ViewKind.TECHNICIAN:
            own = View.technician(self._me.profile_id, includes_pool=True)
        self._view: Final = own

    # --- reading -----------------------------------------------------------------------------------

    def board(self) -> Json:
        """Everything that a window needs to begin; ``tickets`` is None before the first state."""
        shown = self._shown
        return {
            "me": wire.me(self._me),
            "people": wire.people(self._people),
            "tickets": None if shown is None else list(map(wire.ticket_of(shown), shown.tickets.values())),
            "points": list(self._points),
            "sync": self.sync(),
        }

    def sync(self) -> Json:
        """How changes are learned right now, and how old the data may be."""
        store = self._store
        if store is None:
            return {"kind": "loading", "age": None, "reason": self._trouble, "is_loading": True}
        fresh = store.freshness
        # Who comes back after a pause gets the view of before it at once, while it is read anew.
        is_resuming = store.status is StoreStatus.CONNECTING and store.is_loading
        kind = "loading" if is_resuming or store.status is StoreStatus.PAUSED else str(fresh.kind)
        return {
            "kind": kind,
            "age": fresh.age,
            "reason": None if kind == "loading" else fresh.reason,
            "is_loading": store.is_loading,
            "transport": None if store.transport is None else str(store.transport),
            "poll_interval": self._poll_interval,
            "sources": self._sources(store),
        }

    async def run(self) -> None:
        """Keep a store open until cancelled; returns when the person's session has ended."""
        while self._jt.auth.is_signed_in:
            try:
                await self._load_people()
                async with self._jt.ticket_store(
                    self._view,
                    poll_interval=self._poll_interval,
                    background_delay=self._background_delay,
                    ready_timeout=READY_TIMEOUT,
                ) as store:
                    await self._follow(store)
            except JamesTronicError as error:
                self._trouble = str(error)
            finally:
                self._store = self._shown = None
            self._tell("sync", self.sync())
            await asyncio.sleep(RETRY)

    def watch(self, *, is_watched: bool) -> None:
        """A window opened or came back, or none is left that anybody sees."""
        self._is_watched = is_watched
        if self._store is not None:
            with suppress(StoreClosedError):
                (self._store.foreground if is_watched else self._store.background)()

    # --- writing -----------------------------------------------------------------------------------

    @property
    def commands(self) -> StoreCommands:
        """The person's commands, shown to all windows at once.

        Raises:
            StoreClosedError: There is no live view at the moment.
        """
        if self._store is None:
            raise StoreClosedError("The live view is not open.")
        return self._store.commands

    async def create(self, **fields: object) -> Ticket:
        """Open a ticket; a customer's own is theirs."""
        if self._view.kind is ViewKind.CUSTOMER:
            fields["customer_id"] = self._me.profile_id
        row = await self._jt.tickets.create(**fields)
        if self._store is not None:
            with suppress(JamesTronicError):  # it was created, whatever the view knows
                await self._store.settled(row, row.version, timeout=SETTLE_TIMEOUT)
        return row

    # --- inside ------------------------------------------------------------------------------------

    async def _follow(self, store: TicketStore) -> None:
        """Tell everything that the store says, until it closes."""
        self._store, self._trouble = store, None
        self.watch(is_watched=self._is_watched)
        async for change in store.changes(interval=REDRAW):
            before, self._shown = self._shown, change
            if before is None:
                self._tell("board", self.board())
                continue
            events = [wire.event(event) for event in change.events]
            self._points.extend(
                {key: said[key] for key in ("at", "source", "latency")}
                for said in events
                if said["latency"] is not None
            )
            self._tell("changes", {**wire.difference(before, change), "events": events, "sync": self.sync()})
            await self._introduce([event.ticket for event in change.events])

    async def _introduce(self, rows: list[Ticket]) -> None:
        """Somebody new may have become visible with a ticket, such as its customer."""
        named = {
            one
            for row in rows
            if self._view.kind is ViewKind.OVERVIEW or self._view.is_mine(row)
            for one in (row.customer_id, row.assigned_technician_id, row.assigned_transporter_id)
            if one is not None
        }
        unknown = named - {one.id for one in self._people} - self._asked_for
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
        """How many events each source told."""
        counts: Counter[str] = Counter()
        for (_, source), count in store.metrics.events.items():
            counts[str(source)] += count
        return {str(source): counts[source] for source in Source if counts[source]}
