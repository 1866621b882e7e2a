"""The store's face over a reader and a feed that do what the test says; real time, no network."""

from __future__ import annotations

import asyncio
import gc
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.builders import ALICE, make_ticket, ticket_id

from jamestronic_sdk._clock import SYSTEM_CLOCK
from jamestronic_sdk.errors import (
    ClientClosedError,
    JamesTronicError,
    ServerError,
    StoreClosedError,
    StoreError,
)
from jamestronic_sdk.models import Ticket
from jamestronic_sdk.realtime.feed import FeedUp
from jamestronic_sdk.store.protocol import EngineConfig, FreshnessKind, StoreStatus
from jamestronic_sdk.store.store import StoreParts, TicketStore
from jamestronic_sdk.store.views import View

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from uuid import UUID

    from jamestronic_sdk.realtime.feed import FeedSignal

DEADLINE = 10.0


class Desk:
    """What the store is built on."""

    def __init__(self, *rows: Ticket) -> None:
        self.rows = {row.id: row for row in rows}
        self.hidden: dict[UUID, Ticket] = {}
        """Rows that commands reach and reads do not show."""
        self.failure: JamesTronicError | None = None
        self.sent: list[int | None] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.break_down = asyncio.Event()
        self.report: Callable[[FeedSignal], None] = lambda _: None

    # driver.Reader

    async def read_view(self, view: View) -> Sequence[Ticket]:
        if self.failure is not None:
            raise self.failure
        return [row for row in self.rows.values() if view.contains(row)]

    async def read_ids(self, ticket_ids: Sequence[UUID]) -> Sequence[Ticket]:
        return [self.rows[key] for key in ticket_ids if key in self.rows]

    # The commands

    async def set_status(self, ticket: UUID, status: str, **options: Any) -> Ticket:
        self.sent.append(options["expected_version"])
        await self.may_answer.wait()
        rows = self.hidden if ticket in self.hidden else self.rows
        changed = {"status": status, "version": rows[ticket].version + 1}
        rows[ticket] = rows[ticket].model_copy(update=changed)
        return rows[ticket]

    async def release(self, ticket: UUID, **_: Any) -> Ticket:
        del ticket
        await self.may_answer.wait()
        raise ServerError("no")

    # The feed

    async def run(self) -> None:
        self.report(FeedUp())
        await self.break_down.wait()
        raise AssertionError("a bug of the feed")

    def make_feed(self, report: Callable[[FeedSignal], None]) -> Desk:
        self.report = report
        return self


@asynccontextmanager
async def opened(desk: Desk, view: View | None = None) -> AsyncIterator[TicketStore]:
    tools: Any = desk
    store = TicketStore(
        view or View.technician(ALICE),
        StoreParts(
            reader=tools,
            tickets=tools,
            make_feed=desk.make_feed,
            on_token=lambda _: lambda: None,
            on_wake=lambda _: lambda: None,
            model=Ticket,
            clock=SYSTEM_CLOCK,
            rng=random.Random(1),  # noqa: S311 - a test
        ),
        config=EngineConfig(),
        ready_timeout=DEADLINE,
        read_timeout=DEADLINE,
    )
    async with asyncio.timeout(3 * DEADLINE), store:
        await store.wait_for(lambda one: one.status is StoreStatus.LIVE, timeout=DEADLINE)
        yield store


def mine(version: int = 1, number: int = 1) -> Ticket:
    return make_ticket(number, version, assigned_technician_id=ALICE, status="assigned")


# --- commands ----------------------------------------------------------------------------------------------


async def test_a_command_that_succeeded_is_no_failure_because_a_read_fails() -> None:
    """The ticket left by absence a moment ago, so the store asks whether it is back, and learns nothing."""
    desk = Desk(mine(), mine(number=2))
    async with opened(desk) as store:
        desk.hidden[ticket_id(1)] = desk.rows.pop(ticket_id(1))
        await store.refresh()
        desk.failure = ServerError("no")
        changed = await store.commands.set_status(ticket_id(1), "ready", expected_version=1)
        assert changed.version == 2


async def test_what_waits_for_its_turn_is_not_sent_after_the_store_was_closed() -> None:
    desk = Desk(mine())
    desk.may_answer.clear()
    async with opened(desk) as store, asyncio.TaskGroup() as group:
        first = group.create_task(store.commands.set_status(ticket_id(1), "in_progress"))
        second = group.create_task(_error_of(store, "ready"))
        await store.wait_for(lambda _: bool(desk.sent), timeout=DEADLINE)
        await store.aclose()
        desk.may_answer.set()
    assert first.result().status == "in_progress"
    assert isinstance(second.result(), StoreClosedError)
    assert desk.sent == [1]


async def _error_of(store: TicketStore, status: str) -> JamesTronicError | None:
    try:
        await store.commands.set_status(ticket_id(1), status)
    except JamesTronicError as error:
        return error
    return None


async def test_initial_events_are_the_databases_rows_not_guesses() -> None:
    desk = Desk(mine())
    desk.may_answer.clear()
    async with opened(desk) as store, asyncio.TaskGroup() as group:
        releasing = group.create_task(_released(store))
        await store.wait_for(lambda one: not one.tickets, timeout=DEADLINE)
        async with store.events(initial=True) as events:
            desk.may_answer.set()
            assert not await releasing
            assert (await anext(events)).ticket == mine()


async def _released(store: TicketStore) -> bool:
    try:
        await store.commands.release(ticket_id(1))
    except ServerError:
        return False
    return True


# --- streams -----------------------------------------------------------------------------------------------


async def test_closing_ends_a_reader_that_keeps_its_distance() -> None:
    async with opened(Desk(mine())) as store, asyncio.TaskGroup() as group:
        reading = group.create_task(_last_of(store.changes(interval=3600.0)))
        await store.refresh()
        await store.aclose()
        async with asyncio.timeout(DEADLINE):
            await reading


async def _last_of(changes: AsyncIterator[object]) -> None:
    async for _ in changes:
        pass


async def test_readers_that_nobody_reads_any_more_cost_nothing() -> None:
    """``async for event in store.events(): ... break`` closes nothing."""
    desk = Desk(mine())
    async with opened(desk) as store:
        for _ in range(3):
            async for _event in store.events(initial=True):
                break
            async for _status in store.statuses():
                break
            async for _change in store.changes():
                break
        gc.collect()
        audience = store._audience  # what it keeps is the matter
        assert not audience._event_streams
        assert not audience._status_streams
        assert not audience._change_streams


# --- the end -----------------------------------------------------------------------------------------------


async def test_a_store_whose_client_was_closed_ends_too() -> None:
    desk = Desk(mine())
    async with opened(desk) as store:
        events = store.events()
        desk.failure = ClientClosedError("The client was closed.")
        with pytest.raises(JamesTronicError):
            await store.refresh()
        async with asyncio.timeout(DEADLINE):
            assert [event async for event in events] == []
        assert store.status is StoreStatus.CLOSED


async def test_a_store_that_failed_is_closed() -> None:
    """A bug of ours: it is said once, and nobody takes the view for a live one."""
    desk = Desk(mine())
    async with opened(desk) as store:
        desk.break_down.set()
        with pytest.raises(StoreError):
            async for _ in store.events():
                pass
        assert store.status is StoreStatus.CLOSED
        assert store.freshness.kind is FreshnessKind.STALE


async def test_what_a_predicate_raises_comes_through() -> None:
    def predicate(_: TicketStore) -> bool:
        raise TimeoutError("the predicate's own")

    async with opened(Desk(mine())) as store:
        with pytest.raises(TimeoutError, match="the predicate's own"):
            await store.wait_for(predicate, timeout=None)
