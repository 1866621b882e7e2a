"""Commands through a store, redraws, putting the phone away: on the local stack."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from client_people import Shop, open_shop

from jamestronic_sdk import (
    BadRequestError,
    ConflictError,
    FreshnessKind,
    InvalidInputError,
    JamesTronic,
    PermissionDeniedError,
    Role,
    Source,
    StoreClosedError,
    StoreStatus,
    Ticket,
    TicketAssigned,
    TicketConflicted,
    TicketEvent,
    TicketStore,
    TicketUnassigned,
    TicketUpdated,
    View,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jamestronic_sdk.local.stack import LocalSupabase

DEADLINE = 20.0


class Bench:
    """An admin, a technician, and the technician's store, live, with the pool."""

    def __init__(self, shop: Shop, admin: JamesTronic, alice: JamesTronic, store: TicketStore) -> None:
        self.shop, self.admin, self.alice, self.store = shop, admin, alice, store
        self.told: list[TicketEvent] = []
        self._arrived = asyncio.Event()
        store.subscribe(self._hear)

    def _hear(self, event: TicketEvent) -> None:
        self.told.append(event)
        self._arrived.set()

    async def mine(self) -> Ticket:
        """A ticket that Alice's store holds."""
        ticket = await self.admin.tickets.create(title="Fridge")
        ticket = await self.admin.tickets.assign(ticket, self.alice.auth.me.profile)
        await self.store.settled(ticket.id, ticket.version)
        return ticket

    def events(self, ticket: Ticket) -> list[TicketEvent]:
        return [event for event in self.told if event.ticket.id == ticket.id]

    async def until_told(self, ticket: Ticket, kind: type[TicketEvent]) -> TicketEvent:
        async with asyncio.timeout(DEADLINE):
            while not (found := [event for event in self.events(ticket) if isinstance(event, kind)]):
                self._arrived.clear()
                await self._arrived.wait()
        return found[-1]


@pytest.fixture
async def bench(local_supabase: LocalSupabase) -> AsyncIterator[Bench]:
    async with open_shop(local_supabase) as shop, AsyncExitStack() as stack:
        admin = await stack.enter_async_context(shop.signed_in(Role.ADMIN))
        alice = await stack.enter_async_context(shop.signed_in(Role.TECHNICIAN))
        me = alice.auth.me.profile_id
        view = View.technician(me, includes_pool=True)
        store = await stack.enter_async_context(alice.ticket_store(view))
        await store.wait_for(lambda one: one.status is StoreStatus.LIVE, timeout=DEADLINE)
        yield Bench(shop, admin, alice, store)


# --- own writes --------------------------------------------------------------------------------------------


async def test_a_command_is_shown_at_once_and_told_once(bench: Bench) -> None:
    ticket = await bench.mine()
    seen: list[tuple[str, bool]] = []
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(bench.store.commands.set_status(ticket, "in_progress"))
        await bench.store.wait_for(lambda store: ticket.id in store.pending, timeout=DEADLINE)
        shown = bench.store.tickets[ticket.id]
        seen.append((str(shown.status), shown.version == ticket.version))
    row = sending.result()
    assert seen == [("in_progress", True)]
    assert bench.store.tickets[ticket.id] == row
    assert ticket.id not in bench.store.pending
    told = await bench.until_told(ticket, TicketUpdated)
    assert told.source in {Source.OWN_WRITE, Source.REALTIME}
    assert [type(event) for event in bench.events(ticket)].count(TicketUpdated) == 1


async def test_who_comes_too_late_gets_both_rows(bench: Bench) -> None:
    """Alice decides about a row that the admin changed a moment ago, and her store did not know."""
    ticket = await bench.mine()
    moved = await bench.admin.tickets.set_status(ticket, "in_progress")
    with pytest.raises(ConflictError) as caught:
        await bench.store.commands.set_status(ticket, "ready", expected_version=ticket.version)
    assert caught.value.current_version == moved.version
    conflict = await bench.until_told(ticket, TicketConflicted)
    assert isinstance(conflict, TicketConflicted)
    assert conflict.ticket.version == moved.version
    assert conflict.attempted.status == "ready"
    assert conflict.previous is not None
    assert bench.store.tickets[ticket.id].status == "in_progress"
    assert bench.store.pending == frozenset()


async def test_a_refusal_takes_back_what_was_shown(bench: Bench) -> None:
    ticket = await bench.mine()
    with pytest.raises(BadRequestError):
        await bench.store.commands.set_status(ticket, "open")
    await bench.store.wait_for(lambda store: not store.pending, timeout=DEADLINE)
    assert bench.store.tickets[ticket.id].status == "assigned"


async def test_commands_for_one_ticket_go_one_after_the_other(bench: Bench) -> None:
    """Sent together, each is based on the one before: none is refused for its version."""
    ticket = await bench.mine()
    rows = await asyncio.gather(
        *(bench.store.commands.set_status(ticket, status) for status in ("in_progress", "ready", "completed"))
    )
    assert [str(row.status) for row in rows] == ["in_progress", "ready", "completed"]
    assert bench.store.tickets[ticket.id].status == "completed"


async def test_claim_and_release_move_a_ticket_between_the_pool_and_me(bench: Bench) -> None:
    ticket = await bench.admin.tickets.create(title="Oven")
    await bench.store.settled(ticket.id, ticket.version)
    row = await bench.store.commands.claim(ticket)
    assert row.assigned_technician_id == bench.alice.auth.me.profile_id
    await bench.until_told(ticket, TicketAssigned)
    await bench.store.commands.release(ticket)
    await bench.until_told(ticket, TicketUnassigned)
    assert bench.store.tickets[ticket.id].assigned_technician_id is None


async def test_a_cancelled_command_leaves_nothing_shown(bench: Bench) -> None:
    ticket = await bench.mine()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.store.commands.set_status(ticket, "in_progress"))
        await bench.store.wait_for(lambda store: ticket.id in store.pending, timeout=DEADLINE)
        task.cancel()
    await bench.store.wait_for(lambda store: not store.pending, timeout=DEADLINE)
    await bench.store.refresh()
    assert bench.store.tickets[ticket.id] == await bench.alice.tickets.get(ticket)


async def test_every_command_of_an_admins_store(bench: Bench) -> None:
    transporter = await bench.shop.person(Role.TRANSPORTER)
    driver = await bench.shop.profile_of(transporter)
    when = datetime(2027, 1, 4, 9, 30, tzinfo=UTC)
    ticket = await bench.admin.tickets.create(title="Dryer")
    async with bench.admin.ticket_store() as store:
        row = await store.commands.assign(ticket, bench.alice.auth.me.profile)
        assert row == store.tickets[ticket.id]
        row = await store.commands.update(ticket, title="Tumble dryer")
        assert store.tickets[ticket.id].title == "Tumble dryer"
        row = await store.commands.schedule_transport(ticket, driver, when)
        assert (row.assigned_transporter_id, row.scheduled_at) == (driver.id, when)
        row = await store.commands.unassign(ticket)
        assert row == store.tickets[ticket.id]
        assert row.assigned_technician_id is None


async def test_a_role_that_may_not_write_shows_it_no_longer(bench: Bench) -> None:
    ticket = await bench.mine()
    with pytest.raises(PermissionDeniedError):
        await bench.store.commands.unassign(ticket)
    await bench.store.wait_for(lambda store: not store.pending, timeout=DEADLINE)
    assert bench.store.tickets[ticket.id].assigned_technician_id == bench.alice.auth.me.profile_id


@pytest.mark.parametrize("status", [None, 7, "", "a\x00b", "x" * 1_000_000])
async def test_a_malformed_command_shows_nothing(bench: Bench, status: Any) -> None:
    ticket = await bench.mine()
    with pytest.raises(InvalidInputError):
        await bench.store.commands.set_status(ticket, status)
    with pytest.raises(InvalidInputError):
        await bench.store.commands.set_status("no id", "ready")
    with pytest.raises(InvalidInputError):
        await bench.store.commands.update(ticket, colour="red")
    await bench.store.wait_for(lambda store: not store.pending, timeout=DEADLINE)


@pytest.mark.parametrize("patch", [5, "x", {"title": "x"}, Ticket])
async def test_a_patch_of_another_kind_is_refused_for_a_ticket_that_is_shown(
    bench: Bench, patch: Any
) -> None:
    ticket = await bench.mine()
    with pytest.raises(InvalidInputError, match="TicketPatch"):
        await bench.store.commands.update(ticket, patch)
    assert bench.store.pending == frozenset()


# --- what to redraw ----------------------------------------------------------------------------------------


async def test_changes_are_whole_pictures_with_all_that_happened(bench: Bench) -> None:
    first = await bench.mine()
    async with bench.store.changes() as changes:
        picture = await anext(changes)
        assert (picture.events, picture.status) == ((), StoreStatus.LIVE)
        assert picture.tickets[first.id].version == first.version
        second = await bench.admin.tickets.create(title="Hob")
        moved = await bench.admin.tickets.set_status(first, "in_progress")
        await bench.store.settled(second.id, second.version)
        await bench.store.settled(moved.id, moved.version)
        told: list[TicketEvent] = []
        async with asyncio.timeout(DEADLINE):
            while second.id not in picture.tickets or picture.tickets[first.id].version < moved.version:
                picture = await anext(changes)
                told += picture.events
        # Both happened before we looked: one picture holds them.
        assert {event.ticket.id for event in told} >= {first.id, second.id}


async def test_changes_tell_of_loading_and_of_own_writes(bench: Bench) -> None:
    ticket = await bench.mine()
    pending: list[bool] = []
    loading: list[bool] = []

    async def watch() -> None:
        async for change in bench.store.changes():
            pending.append(ticket.id in change.pending)
            loading.append(change.is_loading)
            if True in pending and True in loading and not (pending[-1] or loading[-1]):
                return

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        group.create_task(watch())
        await asyncio.sleep(0)
        await bench.store.commands.set_status(ticket, "in_progress")
        await bench.store.refresh()


async def test_redraws_keep_their_distance(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    async with bench.store.changes(interval=0.2) as changes:
        await anext(changes)
        drawn = [loop.time()]
        for _ in range(3):
            bench.store.foreground()
            await anext(changes)
            drawn.append(loop.time())
    assert all(later - sooner >= 0.19 for sooner, later in pairwise(drawn))


async def test_a_negative_interval_is_refused_and_closing_ends_the_stream(bench: Bench) -> None:
    with pytest.raises(InvalidInputError, match="interval"):
        bench.store.changes(interval=-1)
    changes = bench.store.changes()
    await anext(changes)
    await bench.store.aclose()
    assert [change async for change in changes] == []
    with pytest.raises(StoreClosedError):
        bench.store.changes()
    with pytest.raises(StoreClosedError):
        bench.store.background()
    with pytest.raises(StoreClosedError):
        await bench.store.commands.claim(str(bench.alice.auth.me.profile_id))


# --- views, background --------------------------------------------------------------------------------------


async def test_an_overview_can_be_of_some_statuses_or_of_one_technician(bench: Bench) -> None:
    mine = await bench.mine()
    other = await bench.admin.tickets.create(title="Somebody's")
    alice = bench.alice.auth.me.profile
    async with (
        bench.admin.ticket_store(View.overview(statuses=["in_progress"])) as busy,
        bench.admin.ticket_store(View.overview(technician=alice)) as alices,
    ):
        assert mine.id not in busy.tickets
        assert mine.id in alices.tickets
        assert other.id not in alices.tickets
        events = alices.events()
        row = await bench.admin.tickets.set_status(mine, "in_progress")
        await busy.wait_for(lambda store: mine.id in store.tickets, timeout=DEADLINE)
        row = await bench.admin.tickets.unassign(row)
        await busy.wait_for(lambda store: mine.id not in store.tickets, timeout=DEADLINE)
        await alices.wait_for(lambda store: mine.id not in store.tickets, timeout=DEADLINE)
        async with asyncio.timeout(DEADLINE):
            told = [await anext(events), await anext(events)]
        assert [type(event) for event in told] == [TicketUpdated, TicketUnassigned]


async def test_put_away_the_phone_asks_nothing_and_taken_out_it_catches_up(bench: Bench) -> None:
    async with bench.alice.ticket_store(background_delay=0.05) as store:
        await store.wait_for(lambda one: one.status is StoreStatus.LIVE, timeout=DEADLINE)
        store.background()
        await store.wait_for(lambda one: one.status is StoreStatus.PAUSED, timeout=DEADLINE)
        assert store.freshness.kind is FreshnessKind.STALE
        reads = store.metrics.counts["reads"]
        ticket = await bench.mine()
        assert ticket.id not in store.tickets
        assert store.metrics.counts["reads"] == reads
        store.foreground()
        await store.wait_for(lambda one: ticket.id in one.tickets, timeout=DEADLINE)
        await store.wait_for(lambda one: one.status is StoreStatus.LIVE, timeout=DEADLINE)


async def test_a_ticket_that_nobody_tells_of_is_settled_by_a_read(bench: Bench) -> None:
    """Alice may not see it: the store learns that by asking."""
    ticket = await bench.admin.tickets.create(title="Bob's")
    bob = await bench.shop.profile_of(await bench.shop.person(Role.TECHNICIAN))
    ticket = await bench.admin.tickets.assign(ticket, bob)
    await bench.store.settled(ticket, ticket.version, timeout=DEADLINE)
    assert ticket.id not in bench.store.tickets
