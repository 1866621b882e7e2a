"""The live store on the local stack: every kind of event, the fall to polling, recovery, and its life."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest
from client_people import Shop, open_shop
from sql_support import connect

from jamestronic_sdk import (
    Certainty,
    FreshnessKind,
    JamesTronic,
    NotSignedInError,
    RequestTimeoutError,
    Role,
    SchemaMissingError,
    Source,
    StoreClosedError,
    StoreError,
    StoreStatus,
    Ticket,
    TicketAssigned,
    TicketCreated,
    TicketEvent,
    TicketRemoved,
    TicketStore,
    TicketUnassigned,
    TicketUpdated,
    View,
)
from jamestronic_sdk.local.stack import LocalSupabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DEADLINE = 45.0
"""Seconds: after a few refused attempts the next one may be 30 s away, by design."""


class Told(list[TicketEvent]):
    """The events that a callback was given; can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived = asyncio.Event()

    def __call__(self, event: TicketEvent) -> None:
        self.append(event)
        self._arrived.set()

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not predicate():
                self._arrived.clear()
                await self._arrived.wait()


class Desk:
    """An admin and two technicians, signed in, each with a live store; and what their stores told."""

    def __init__(self, shop: Shop, admin: JamesTronic, alice: JamesTronic, bob: JamesTronic) -> None:
        self.shop = shop
        self.admin, self.alice, self.bob = admin, alice, bob
        self.told: dict[JamesTronic, Told] = {admin: Told(), alice: Told(), bob: Told()}
        self.stores: dict[JamesTronic, TicketStore] = {}

    def events(self, who: JamesTronic, ticket: Ticket) -> list[type[TicketEvent]]:
        """The kinds of this ticket's events, in order; other tests work in the same database."""
        return [type(event) for event in self.told[who] if event.ticket.id == ticket.id]

    async def until(self, who: JamesTronic, ticket: Ticket, *kinds: type[TicketEvent]) -> TicketEvent:
        """Wait until exactly these were told of the ticket; answers the last one."""
        await self.told[who].until(lambda: len(self.events(who, ticket)) >= len(kinds))
        assert self.events(who, ticket) == list(kinds)
        return [event for event in self.told[who] if event.ticket.id == ticket.id][-1]


@asynccontextmanager
async def open_desk(supabase: LocalSupabase, **options: Any) -> AsyncIterator[Desk]:
    async with open_shop(supabase) as shop, AsyncExitStack() as stack:
        people = [
            await stack.enter_async_context(shop.signed_in(role))
            for role in (Role.ADMIN, Role.TECHNICIAN, Role.TECHNICIAN)
        ]
        desk = Desk(shop, *people)
        for jt in people:
            store = await stack.enter_async_context(jt.ticket_store(**options))
            store.subscribe(desk.told[jt])
            desk.stores[jt] = store
        for store in desk.stores.values():
            await store.wait_for(is_live, timeout=DEADLINE)
        yield desk


def is_live(store: TicketStore) -> bool:
    return store.status is StoreStatus.LIVE


def has(ticket: Ticket) -> Callable[[TicketStore], bool]:
    """The store holds this version of the ticket, or a newer one."""
    return lambda store: ticket.id in store.tickets and store.tickets[ticket.id].version >= ticket.version


def lacks(ticket: Ticket) -> Callable[[TicketStore], bool]:
    return lambda store: ticket.id not in store.tickets


@asynccontextmanager
async def realtime_down(supabase: LocalSupabase) -> AsyncIterator[None]:
    """Every socket is cut and new ones are refused, until the block ends."""
    address = f"{supabase.url}/_local/faults/realtime"
    headers = {"apikey": supabase.service_role_key, "Authorization": f"Bearer {supabase.service_role_key}"}
    async with httpx.AsyncClient(headers=headers) as http:
        (await http.post(address, json={"state": "down"})).raise_for_status()
        try:
            yield
        finally:
            (await http.post(address, json={"state": "up"})).raise_for_status()


# --- every kind of event ---------------------------------------------------------------------------------


async def test_assigned_updated_and_unassigned_reach_both_sides(local_supabase: LocalSupabase) -> None:
    async with open_desk(local_supabase) as desk:
        admin, alice, bob = desk.admin, desk.alice, desk.bob
        ticket = await admin.tickets.create(title="Washing machine leaks")
        await desk.until(admin, ticket, TicketCreated)

        ticket = await admin.tickets.assign(ticket, alice.auth.me.profile_id)
        assigned = await desk.until(alice, ticket, TicketAssigned)
        assert assigned.source is Source.REALTIME
        assert assigned.latency is not None
        assert -0.1 < assigned.latency < DEADLINE
        await desk.until(admin, ticket, TicketCreated, TicketAssigned)

        ticket = await alice.tickets.set_status(ticket, "in_progress")
        updated = await desk.until(alice, ticket, TicketAssigned, TicketUpdated)
        assert updated.changes["status"] == ("assigned", "in_progress")
        await desk.until(admin, ticket, TicketCreated, TicketAssigned, TicketUpdated)

        ticket = await admin.tickets.unassign(ticket)
        left = await desk.until(alice, ticket, TicketAssigned, TicketUpdated, TicketUnassigned)
        assert isinstance(left, TicketUnassigned)
        assert left.certainty is Certainty.OBSERVED
        assert ticket.id not in desk.stores[alice].tickets
        await desk.until(admin, ticket, TicketCreated, TicketAssigned, TicketUpdated, TicketUnassigned)
        assert desk.events(bob, ticket) == []


async def test_reassigning_takes_the_ticket_from_one_and_gives_it_to_the_other(
    local_supabase: LocalSupabase,
) -> None:
    """Postgres Changes says nothing to the one who loses it; a private topic does, at once."""
    async with open_desk(local_supabase, poll_interval=300) as desk:
        admin, alice, bob = desk.admin, desk.alice, desk.bob
        ticket = await admin.tickets.create(title="Fridge is warm")
        ticket = await admin.tickets.assign(ticket, alice.auth.me.profile_id)
        await desk.until(alice, ticket, TicketAssigned)

        ticket = await admin.tickets.assign(ticket, bob.auth.me.profile_id)
        await desk.until(bob, ticket, TicketAssigned)
        left = await desk.until(alice, ticket, TicketAssigned, TicketUnassigned)
        assert isinstance(left, TicketUnassigned)
        assert (left.certainty, left.source) == (Certainty.OBSERVED, Source.REALTIME)
        assert desk.stores[alice].tickets.of_technician(alice.auth.me.profile_id) == ()
        await desk.until(admin, ticket, TicketCreated, TicketAssigned, TicketAssigned)


async def test_without_private_topics_the_change_log_tells_of_the_leave() -> None:
    """A project whose realtime.messages has no policies of ours: the safety poll asks the change log."""
    async with LocalSupabase(port=0) as supabase:
        with connect(supabase) as connection:
            for policy in ("jamestronic_read", "jamestronic_read_guard"):
                connection.execute(f"drop policy {policy} on realtime.messages".encode())
            connection.commit()
        async with open_desk(supabase, poll_interval=0.5) as desk:
            ticket = await desk.admin.tickets.create(title="Told by the log")
            ticket = await desk.admin.tickets.assign(ticket, desk.alice.auth.me.profile_id)
            await desk.until(desk.alice, ticket, TicketAssigned)
            ticket = await desk.admin.tickets.assign(ticket, desk.bob.auth.me.profile_id)
            left = await desk.until(desk.alice, ticket, TicketAssigned, TicketUnassigned)
            assert isinstance(left, TicketUnassigned)
            assert left.certainty is Certainty.OBSERVED
            assert left.source is not Source.REALTIME


async def test_a_deleted_ticket_is_removed_for_the_admin_and_unassigned_for_the_technician(
    local_supabase: LocalSupabase,
) -> None:
    async with open_desk(local_supabase) as desk:
        ticket = await desk.admin.tickets.create(title="Duplicate")
        ticket = await desk.admin.tickets.assign(ticket, desk.alice.auth.me.profile_id)
        await desk.until(desk.alice, ticket, TicketAssigned)
        await desk.until(desk.admin, ticket, TicketCreated, TicketAssigned)
        await desk.shop.service._raw.table("tickets").delete().eq("id", str(ticket.id)).execute()
        await desk.until(desk.alice, ticket, TicketAssigned, TicketUnassigned)
        await desk.until(desk.admin, ticket, TicketCreated, TicketAssigned, TicketRemoved)


async def test_a_technician_who_watches_the_pool_sees_it_fill_and_empty(
    local_supabase: LocalSupabase,
) -> None:
    async with open_desk(local_supabase) as desk:
        alice, bob = desk.alice, desk.bob
        view = View.technician(alice.auth.me.profile_id, includes_pool=True)
        async with alice.ticket_store(view, poll_interval=0.5) as pool:
            told = Told()
            pool.subscribe(told)
            await pool.wait_for(is_live, timeout=DEADLINE)
            first = await desk.admin.tickets.create(title="For Alice")
            second = await desk.admin.tickets.create(title="For Bob")
            await pool.wait_for(has(second), timeout=DEADLINE)
            first = await alice.tickets.claim(first)
            await bob.tickets.claim(second)
            await pool.wait_for(lacks(second), timeout=DEADLINE)
            await pool.wait_for(has(first), timeout=DEADLINE)
            await told.until(lambda: len(told) >= 4)
            kinds = {
                ticket.title: [type(event) for event in told if event.ticket.id == ticket.id]
                for ticket in (first, second)
            }
            assert kinds == {
                "For Alice": [TicketCreated, TicketAssigned],
                "For Bob": [TicketCreated, TicketRemoved],
            }


@pytest.mark.parametrize("role", [Role.TRANSPORTER, Role.CUSTOMER])
async def test_transporters_and_customers_see_their_own(local_supabase: LocalSupabase, role: Role) -> None:
    async with open_shop(local_supabase) as shop, shop.signed_in(role) as jt:
        me = jt.auth.me.profile_id
        async with jt.ticket_store() as store:
            told = Told()
            store.subscribe(told)
            await store.wait_for(is_live, timeout=DEADLINE)
            other = await shop.service.tickets.create(title="Somebody else's")
            if role is Role.CUSTOMER:
                mine = await shop.service.tickets.create(title="Mine", customer_id=me)
            else:
                mine = await shop.service.tickets.create(title="Mine")
                await (
                    shop.service._raw.table("tickets")
                    .update({"assigned_transporter_id": str(me)})
                    .eq("id", str(mine.id))
                    .execute()
                )
            await told.until(lambda: bool(told))
            assert [(type(event), event.ticket.id) for event in told] == [(TicketAssigned, mine.id)]
            assert other.id not in store.tickets


# --- bad networks ------------------------------------------------------------------------------------------


async def test_a_cut_falls_back_to_polling_and_recovers_by_itself(local_supabase: LocalSupabase) -> None:
    async with open_desk(local_supabase, poll_interval=0.4) as desk:
        admin, alice = desk.admin, desk.alice
        statuses = desk.stores[alice].statuses()
        async with realtime_down(local_supabase):
            for store in desk.stores.values():
                await store.wait_for(lambda store: store.status is StoreStatus.POLLING, timeout=DEADLINE)
            assert desk.stores[alice].freshness.kind is FreshnessKind.POLLING
            assert desk.stores[alice].status_reason
            ticket = await admin.tickets.create(title="While it was down")
            ticket = await admin.tickets.assign(ticket, alice.auth.me.profile_id)
            assigned = await desk.until(alice, ticket, TicketAssigned)
            assert assigned.source is Source.POLL
        for store in desk.stores.values():
            await store.wait_for(is_live, timeout=45)
        ticket = await alice.tickets.set_status(ticket, "in_progress")
        await desk.until(alice, ticket, TicketAssigned, TicketUpdated)
        # While polling, each failed attempt to come back is a change of its reason.
        seen = [(await anext(statuses)).status]
        while seen != [StoreStatus.LIVE, StoreStatus.POLLING, StoreStatus.LIVE]:
            async with asyncio.timeout(DEADLINE):
                status = (await anext(statuses)).status
            if status is not seen[-1]:
                seen.append(status)
            assert len(seen) <= 3
        assert desk.stores[alice].metrics.counts["feed_losses"] >= 1


async def test_what_happened_between_cut_and_recovery_is_told_once(local_supabase: LocalSupabase) -> None:
    """No poll falls into the gap; the read after the recovery tells it."""
    async with open_desk(local_supabase, poll_interval=300) as desk:
        admin, bob = desk.admin, desk.bob
        ticket = await admin.tickets.create(title="In the gap")
        await desk.until(admin, ticket, TicketCreated)
        async with realtime_down(local_supabase):
            for store in desk.stores.values():
                await store.wait_for(lambda store: store.status is StoreStatus.POLLING, timeout=DEADLINE)
                await store.refresh()  # the poll that comes at once with the loss is over
            ticket = await admin.tickets.assign(ticket, bob.auth.me.profile_id)
            ticket = await bob.tickets.set_status(ticket, "in_progress")
        for store in desk.stores.values():
            await store.wait_for(is_live, timeout=45)
        for jt, first in ((bob, [TicketAssigned]), (admin, [TicketCreated, TicketAssigned])):
            await desk.stores[jt].wait_for(has(ticket), timeout=DEADLINE)
            told = desk.told[jt]
            # Not the last one: the stack is shared, and an admin is told of everybody's tickets.
            await told.until(lambda told=told: any(one.ticket.version == ticket.version for one in told))
            # A read that was under way may have fallen between the two changes: then there are two steps.
            kinds = desk.events(jt, ticket)
            assert kinds in (first, [*first, TicketUpdated])


async def test_many_random_changes_by_several_people_end_in_what_the_database_says(
    local_supabase: LocalSupabase,
) -> None:
    """And each store's events, replayed over its first snapshot, give its last one."""
    rng = random.Random(20261122)  # noqa: S311 - which ticket comes next protects nothing
    async with open_desk(local_supabase, poll_interval=1.0) as desk:
        admin, technicians = desk.admin, [desk.alice, desk.bob]
        first = {jt: dict(store.tickets) for jt, store in desk.stores.items()}
        for events in desk.told.values():
            events.clear()
        tickets = [await admin.tickets.create(title=f"Random {number}") for number in range(6)]

        async def work(seed: int) -> None:
            own = random.Random(seed)  # noqa: S311 - the same
            for _ in range(20):
                at = own.randrange(len(tickets))
                if own.random() < 0.3:
                    await admin.tickets.unassign(tickets[at])
                else:
                    await admin.tickets.assign(tickets[at], own.choice(technicians).auth.me.profile_id)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(work(rng.randrange(10**6)))

        for jt, store in desk.stores.items():
            await store.refresh()
            mine = None if jt is admin else jt.auth.me.profile_id
            rows = await desk.shop.service.tickets.fetch_all(technician=mine)
            truth = {row.id: row.version for row in rows}
            # A message may still be under way; the read that it asks for puts it right.
            await store.wait_for(lambda store, truth=truth: versions(store) == truth, timeout=DEADLINE)
            told = desk.told[jt]
            await told.until(
                lambda jt=jt, told=told, store=store: replayed(first[jt], told) == versions(store)
            )


def versions(store: TicketStore) -> dict[UUID, int]:
    return {ticket.id: ticket.version for ticket in store.tickets.values()}


def replayed(first: dict[UUID, Ticket], events: list[TicketEvent]) -> dict[UUID, int]:
    held = {id_: ticket.version for id_, ticket in first.items()}
    for event in events:
        if event.is_in_view:
            held[event.ticket.id] = event.ticket.version
        else:
            held.pop(event.ticket.id)
    return held


# --- life --------------------------------------------------------------------------------------------------


async def test_events_can_begin_with_what_is_there(local_supabase: LocalSupabase) -> None:
    async with open_shop(local_supabase) as shop, shop.signed_in(Role.TECHNICIAN) as jt:
        ticket = await shop.service.tickets.create(title="There already")
        await shop.service.tickets.assign(ticket, jt.auth.me.profile_id)
        async with jt.ticket_store() as store, store.events(initial=True) as events:
            event = await anext(events)
            assert isinstance(event, TicketAssigned)
            assert event.initial
            assert event.ticket.id == ticket.id


async def test_a_raising_callback_ends_nothing(
    local_supabase: LocalSupabase, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        open_shop(local_supabase) as shop,
        shop.signed_in(Role.ADMIN) as jt,
        jt.ticket_store() as store,
    ):
        calm = Told()

        async def raising(event: TicketEvent) -> None:
            await asyncio.sleep(0)
            raise ValueError(event.ticket.title)

        subscription = store.subscribe(raising)
        store.subscribe(calm)
        for title in ("one", "two"):
            ticket = await jt.tickets.create(title=title)
            await store.wait_for(has(ticket), timeout=DEADLINE)
        await calm.until(lambda: len(calm) >= 2)
        async with asyncio.timeout(DEADLINE):
            while subscription.failures < 2:  # noqa: ASYNC110 - the counter tells nobody
                await asyncio.sleep(0)
        assert subscription.is_active
        subscription.cancel()
        assert not subscription.is_active
    assert "raising" in caplog.text


async def test_after_close_nothing_is_left_and_every_call_says_so(local_supabase: LocalSupabase) -> None:
    async with open_shop(local_supabase) as shop, shop.signed_in(Role.ADMIN) as jt:
        before = asyncio.all_tasks()
        called: list[TicketEvent] = []
        async with jt.ticket_store() as store:
            events = store.events()
            store.subscribe(called.append)
            await store.aclose()
            await store.aclose()
            assert store.status is StoreStatus.CLOSED
            assert [event async for event in events] == []
            for call in (store.events, store.statuses, lambda: store.subscribe(print)):
                with pytest.raises(StoreClosedError):
                    call()
            with pytest.raises(StoreClosedError):
                await store.refresh()
        count = len(called)
        await shop.service.tickets.create(title="Nobody listens")
        while leaked := asyncio.all_tasks() - before:
            await asyncio.wait(leaked, timeout=DEADLINE)
        assert len(called) == count
        with pytest.raises(StoreError, match="once"):
            await store.__aenter__()


async def test_a_callback_may_close_the_store(local_supabase: LocalSupabase) -> None:
    async with (
        open_shop(local_supabase) as shop,
        shop.signed_in(Role.ADMIN) as jt,
        jt.ticket_store() as store,
    ):

        async def close(_: TicketEvent) -> None:
            await store.aclose()

        store.subscribe(close)
        await jt.tickets.create(title="The last one")
        with pytest.raises(StoreClosedError):
            await store.wait_for(lambda _: False, timeout=DEADLINE)


async def test_a_cancelled_program_leaves_no_task(local_supabase: LocalSupabase) -> None:
    async with open_shop(local_supabase) as shop, shop.signed_in(Role.ADMIN) as jt:
        before = asyncio.all_tasks()
        inside = asyncio.Event()

        async def program() -> None:
            async with jt.ticket_store() as store:
                inside.set()
                async for _ in store.events():
                    pass

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(program())
            await inside.wait()
            task.cancel()
        while leaked := asyncio.all_tasks() - before:
            await asyncio.wait(leaked, timeout=DEADLINE)


async def test_an_exception_of_the_program_comes_through_as_it_is(local_supabase: LocalSupabase) -> None:
    async with open_shop(local_supabase) as shop, shop.signed_in(Role.ADMIN) as jt:
        with pytest.raises(KeyError, match="mine"):
            async with jt.ticket_store():
                raise KeyError("mine")


async def test_signing_out_closes_the_store(local_supabase: LocalSupabase) -> None:
    async with (
        open_shop(local_supabase) as shop,
        shop.signed_in(Role.ADMIN) as jt,
        jt.ticket_store() as store,
    ):
        await jt.auth.sign_out()
        with pytest.raises(StoreClosedError):
            await store.wait_for(lambda _: False, timeout=DEADLINE)


async def test_another_person_on_the_same_client_closes_the_store(local_supabase: LocalSupabase) -> None:
    """Nobody is told that the tickets of one person are gone because another may not see them."""
    async with open_shop(local_supabase) as shop, shop.signed_in(Role.ADMIN) as jt:
        await jt.tickets.create(title="Fridge")
        other = await shop.person(Role.CUSTOMER)
        async with jt.ticket_store() as store:
            told = Told()
            store.subscribe(told)
            await jt.auth.sign_in(email=other.email, password=other.password)
            with pytest.raises(StoreClosedError):
                await store.wait_for(lambda _: False, timeout=DEADLINE)
            assert list(told) == []


async def test_a_sign_in_closes_a_store_that_was_nobodys(local_supabase: LocalSupabase) -> None:
    """It saw what the service key shows; nobody is told that a person sees less."""
    async with open_shop(local_supabase) as shop:
        person = await shop.person(Role.CUSTOMER)
        async with (
            JamesTronic(shop.supabase.url, shop.supabase.service_role_key, env_file=None) as jt,
            jt.ticket_store() as store,
        ):
            await jt.auth.sign_in(email=person.email, password=person.password)
            with pytest.raises(StoreClosedError):
                await store.wait_for(lambda _: False, timeout=DEADLINE)


async def test_without_sign_in_there_is_no_view(local_supabase: LocalSupabase) -> None:
    async with JamesTronic(local_supabase.url, local_supabase.anon_key, env_file=None) as jt:
        with pytest.raises(NotSignedInError):
            jt.ticket_store()


async def test_a_database_without_the_sql_is_one_clear_error() -> None:
    async with (
        LocalSupabase(port=0, apply_sql=False) as bare,
        JamesTronic(bare.url, bare.service_role_key, env_file=None) as jt,
    ):
        with pytest.raises(SchemaMissingError, match=r"010_schema\.sql"):
            async with jt.ticket_store():
                pass


async def test_a_database_with_only_tables_and_policies_works_by_whole_reads() -> None:
    """Without 060_sync.sql a ticket that went to a colleague is noticed by its absence."""
    async with LocalSupabase(port=0) as supabase:
        with connect(supabase) as connection:
            connection.execute("drop function public.sync_tickets, public.tickets_digest")
            connection.execute("drop trigger tickets_60_broadcast on public.tickets")
            connection.execute("notify pgrst, 'reload schema'")
            connection.commit()
        async with open_desk(supabase, poll_interval=0.5) as desk:
            admin, alice, bob = desk.admin, desk.alice, desk.bob
            assert not desk.stores[alice].reads_change_log
            ticket = await admin.tickets.create(title="Without a change log")
            ticket = await admin.tickets.assign(ticket, alice.auth.me.profile_id)
            await desk.until(alice, ticket, TicketAssigned)
            ticket = await admin.tickets.assign(ticket, bob.auth.me.profile_id)
            left = await desk.until(alice, ticket, TicketAssigned, TicketUnassigned)
            assert isinstance(left, TicketUnassigned)
            assert left.certainty is Certainty.INFERRED
            await desk.until(bob, ticket, TicketAssigned)


async def test_another_technicians_view_is_read_whole_by_an_admin(local_supabase: LocalSupabase) -> None:
    async with open_desk(local_supabase) as desk:
        view = View.technician(desk.bob.auth.me.profile_id)
        async with desk.admin.ticket_store(view) as store:
            assert not store.reads_change_log
            ticket = await desk.admin.tickets.create(title="For Bob")
            ticket = await desk.admin.tickets.assign(ticket, desk.bob.auth.me.profile_id)
            await store.wait_for(has(ticket), timeout=DEADLINE)
            ticket = await desk.admin.tickets.assign(ticket, desk.alice.auth.me.profile_id)
            await store.wait_for(lacks(ticket), timeout=DEADLINE)


async def test_entering_without_a_server_ends_with_one_error_and_no_task(unused_tcp_port: int) -> None:
    before = asyncio.all_tasks()
    async with JamesTronic(
        f"http://127.0.0.1:{unused_tcp_port}", f"sb_secret_{uuid4().hex}", env_file=None, retries=0
    ) as jt:
        with pytest.raises(RequestTimeoutError, match="SUPABASE_URL"):
            async with jt.ticket_store(View.overview(), ready_timeout=0.5):
                pass
    while leaked := asyncio.all_tasks() - before:
        await asyncio.wait(leaked, timeout=DEADLINE)
