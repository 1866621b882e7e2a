"""The live store's two transports, and the one socket that all stores of a client share, on the local stack."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from client_people import open_shop
from sql_support import be_owner, connect
from test_store import DEADLINE, Told, has, is_live, lacks, open_desk

from jamestronic_sdk import (
    Certainty,
    ConfigurationError,
    JamesTronic,
    Role,
    Source,
    StoreStatus,
    TicketAssigned,
    TicketCreated,
    TicketRemoved,
    TicketStore,
    TicketUnassigned,
    Transport,
    View,
    sql,
)
from jamestronic_sdk.local.stack import LocalSupabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BOTH = (Transport.BROADCAST, Transport.POSTGRES_CHANGES)


async def until_used(store: TicketStore, transport: Transport | None) -> None:
    """A store that goes over from one transport to the other stays live all the time."""
    async with asyncio.timeout(45):
        while store.transport is not transport:  # noqa: ASYNC110 - no event of the store says this alone
            await asyncio.sleep(0.01)
    if transport is not None:
        await store.wait_for(is_live, timeout=DEADLINE)


async def sockets(supabase: LocalSupabase) -> int:
    """How many there are at the server; they are cut to be counted."""
    count = await supabase.cut_realtime()
    await supabase.restore_realtime()
    return count


@asynccontextmanager
async def cut(supabase: LocalSupabase) -> AsyncIterator[int]:
    """No sockets until the block ends; answers how many there were."""
    count = await supabase.cut_realtime()
    try:
        yield count
    finally:
        await supabase.restore_realtime()


async def renew(jt: JamesTronic) -> None:
    """Get another access token; two of the same second are the same text, which Realtime ignores."""
    old = await jt.auth.access_token()
    async with asyncio.timeout(DEADLINE):
        while await jt.auth.renew(old) == old:  # noqa: ASYNC110 - a second has to pass
            await asyncio.sleep(0.1)


def refuse_pool(supabase: LocalSupabase, *, refused: bool) -> None:
    """Close ``tickets:pool`` to everybody, or open it again."""
    with connect(supabase) as connection:
        connection.execute("drop policy if exists closed on realtime.messages")
        if refused:
            connection.execute(
                "create policy closed on realtime.messages as restrictive for select to authenticated"
                " using ((select realtime.topic()) <> 'tickets:pool')"
            )
        connection.commit()


# --- one socket ------------------------------------------------------------------------------------------


async def test_all_stores_of_a_client_share_one_socket(local_supabase: LocalSupabase) -> None:
    """Of either transport, and of different views; cut, it is one reconnect for all."""
    async with (
        open_shop(local_supabase) as shop,
        shop.signed_in(Role.ADMIN) as jt,
        shop.signed_in(Role.TECHNICIAN) as alice,
        AsyncExitStack() as stack,
    ):
        await sockets(local_supabase)  # of tests before
        bob = View.technician(alice.auth.me.profile_id)
        wanted = [
            (None, Transport.AUTO),
            (None, Transport.BROADCAST),
            (None, Transport.POSTGRES_CHANGES),
            (None, Transport.POSTGRES_CHANGES),
            (bob, Transport.AUTO),
            (bob, Transport.POSTGRES_CHANGES),
        ]
        stores = [
            await stack.enter_async_context(jt.ticket_store(view, transport=transport, poll_interval=300))
            for view, transport in wanted
        ]
        for again in range(2):
            for store in stores:
                await store.wait_for(is_live, timeout=45)
            assert [store.transport for store in stores] == [
                Transport.BROADCAST,
                Transport.BROADCAST,
                Transport.POSTGRES_CHANGES,
                Transport.POSTGRES_CHANGES,
                Transport.BROADCAST,
                Transport.POSTGRES_CHANGES,
            ]
            ticket = await jt.tickets.create(title=f"For all of them {again}")
            ticket = await jt.tickets.assign(ticket, alice.auth.me.profile_id)
            for store in stores:
                await store.wait_for(has(ticket), timeout=DEADLINE)
            async with cut(local_supabase) as count:
                assert count == 1
                for store in stores:
                    await until_used(store, None)


async def test_stores_that_open_and_close_at_once_leave_no_task_and_no_socket(
    local_supabase: LocalSupabase,
) -> None:
    async with open_shop(local_supabase) as shop, shop.signed_in(Role.ADMIN) as jt:
        await sockets(local_supabase)
        before = asyncio.all_tasks()

        async def visit(number: int) -> None:
            async with jt.ticket_store(transport=BOTH[number % 2]) as store:
                if number % 3:
                    await store.wait_for(is_live, timeout=DEADLINE)

        async with asyncio.TaskGroup() as tasks:
            visits = [tasks.create_task(visit(number)) for number in range(8)]
            await asyncio.sleep(0)
            visits[6].cancel()
        while leaked := asyncio.all_tasks() - before:
            await asyncio.wait(leaked, timeout=DEADLINE)
        assert await sockets(local_supabase) == 0


async def test_the_client_takes_socket_and_stores_along_when_it_closes_first(
    local_supabase: LocalSupabase,
) -> None:
    async with open_shop(local_supabase) as shop:
        await sockets(local_supabase)
        async with AsyncExitStack() as stack:
            async with shop.signed_in(Role.ADMIN) as jt:
                store = await stack.enter_async_context(jt.ticket_store(poll_interval=300))
                await store.wait_for(is_live, timeout=DEADLINE)
            await until_used(store, None)
            assert store.status is StoreStatus.CLOSED
            assert await sockets(local_supabase) == 0


# --- both transports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", BOTH)
async def test_each_transport_tells_both_sides_of_an_assignment(
    local_supabase: LocalSupabase, transport: Transport
) -> None:
    async with open_desk(local_supabase, transport=transport, poll_interval=300) as desk:
        admin, alice, bob = desk.admin, desk.alice, desk.bob
        assert {store.transport for store in desk.stores.values()} == {transport}
        ticket = await admin.tickets.create(title="Freezer hums")
        ticket = await admin.tickets.assign(ticket, alice.auth.me.profile_id)
        given = await desk.until(alice, ticket, TicketAssigned)
        ticket = await admin.tickets.assign(ticket, bob.auth.me.profile_id)
        taken = await desk.until(alice, ticket, TicketAssigned, TicketUnassigned)
        await desk.until(bob, ticket, TicketAssigned)
        ticket = await admin.tickets.unassign(ticket)
        back = await desk.until(bob, ticket, TicketAssigned, TicketUnassigned)
        await desk.until(admin, ticket, TicketCreated, TicketAssigned, TicketAssigned, TicketUnassigned)
        for event in (given, taken, back):
            assert event.source is Source.REALTIME
            assert event.latency is not None
            assert -0.5 < event.latency < DEADLINE
        assert isinstance(taken, TicketUnassigned)
        assert taken.certainty is Certainty.OBSERVED


@pytest.mark.parametrize("transport", BOTH)
async def test_each_transport_shows_the_pool_fill_and_empty(
    local_supabase: LocalSupabase, transport: Transport
) -> None:
    """Who takes a ticket loses it from the pool and gains it for themselves, by two topics."""
    async with open_desk(local_supabase, transport=transport) as desk:
        alice, bob = desk.alice, desk.bob
        view = View.technician(alice.auth.me.profile_id, includes_pool=True)
        async with alice.ticket_store(view, transport=transport, poll_interval=300) as pool:
            told = Told()
            pool.subscribe(told)
            await until_used(pool, transport)
            for number in range(5):
                first = await desk.admin.tickets.create(title=f"For Alice {number}")
                second = await desk.admin.tickets.create(title=f"For Bob {number}")
                await pool.wait_for(has(second), timeout=DEADLINE)
                await pool.wait_for(has(first), timeout=DEADLINE)
                first = await alice.tickets.claim(first)
                await bob.tickets.claim(second)
                await pool.wait_for(lacks(second), timeout=DEADLINE)
                await pool.wait_for(has(first), timeout=DEADLINE)
                await told.until(lambda number=number: len(told) >= 4 * (number + 1))
                for ticket, kind in ((first, TicketAssigned), (second, TicketRemoved)):
                    kinds = [type(event) for event in told if event.ticket.id == ticket.id]
                    assert kinds == [TicketCreated, kind]


async def test_auto_is_broadcast_where_the_database_has_it(local_supabase: LocalSupabase) -> None:
    async with open_desk(local_supabase) as desk:
        assert {store.transport for store in desk.stores.values()} == {Transport.BROADCAST}


async def test_a_service_key_is_told_by_postgres_changes(local_supabase: LocalSupabase) -> None:
    """It is let into any topic, so that being let in proves nothing."""
    async with open_shop(local_supabase) as shop:
        async with shop.service.ticket_store() as store:
            await until_used(store, Transport.POSTGRES_CHANGES)
        with pytest.raises(ConfigurationError, match="signed-in person"):
            shop.service.ticket_store(transport="broadcast")


async def test_an_unknown_transport_is_refused_at_once(local_supabase: LocalSupabase) -> None:
    async with open_shop(local_supabase) as shop:
        with pytest.raises(ConfigurationError, match="auto, broadcast, postgres_changes"):
            shop.service.ticket_store(transport="pigeon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- what is missed, refused and renewed ---------------------------------------------------------------------


async def test_what_came_and_went_during_an_outage_is_replayed(local_supabase: LocalSupabase) -> None:
    """No read can tell it: before and after, the technician has nothing."""
    async with open_desk(local_supabase, transport="broadcast", poll_interval=300) as desk:
        admin, alice = desk.admin, desk.alice
        ticket = await admin.tickets.create(title="A short visit")
        async with cut(local_supabase):
            for store in desk.stores.values():
                await store.wait_for(lambda store: store.status is StoreStatus.POLLING, timeout=DEADLINE)
                await store.refresh()  # the poll that comes at once with the loss is over
            ticket = await admin.tickets.assign(ticket, alice.auth.me.profile_id)
            ticket = await admin.tickets.assign(ticket, desk.bob.auth.me.profile_id)
        last = await desk.until(alice, ticket, TicketAssigned, TicketUnassigned)
        assert isinstance(last, TicketUnassigned)
        assert (last.source, last.certainty) == (Source.REALTIME, Certainty.OBSERVED)
        await desk.until(desk.bob, ticket, TicketAssigned)
        for store in desk.stores.values():
            await until_used(store, Transport.BROADCAST)


async def test_a_refused_topic_leaves_the_other_stores_live_until_a_token_opens_it() -> None:
    """And a topic that is closed by a policy is left with the next token: every channel got it."""
    async with (
        LocalSupabase(port=0) as supabase,
        open_shop(supabase) as shop,
        shop.signed_in(Role.TECHNICIAN) as jt,
        shop.signed_in(Role.ADMIN) as admin,
    ):
        view = View.technician(jt.auth.me.profile_id, includes_pool=True)
        async with (
            jt.ticket_store(poll_interval=300) as own,
            jt.ticket_store(poll_interval=300, transport="postgres_changes") as other,
            jt.ticket_store(view, poll_interval=300) as auto,
            jt.ticket_store(view, poll_interval=300, transport="broadcast") as strict,
        ):
            stores = (own, other, auto, strict)
            for store in stores:
                await store.wait_for(is_live, timeout=DEADLINE)
            losses = [store.metrics.counts["feed_losses"] for store in (own, other)]
            gaps = other.metrics.counts["gaps"]

            refuse_pool(supabase, refused=True)
            await renew(jt)
            await until_used(auto, Transport.POSTGRES_CHANGES)
            await until_used(strict, None)
            await strict.wait_for(
                lambda store: "Unauthorized" in (store.status_reason or ""), timeout=DEADLINE
            )
            await other.wait_for(lambda store: store.metrics.counts["gaps"] > gaps, timeout=DEADLINE)
            ticket = await admin.tickets.create(title="Into the pool")
            await auto.wait_for(has(ticket), timeout=DEADLINE)
            assert own.transport is Transport.BROADCAST
            assert other.transport is Transport.POSTGRES_CHANGES

            refuse_pool(supabase, refused=False)
            await renew(jt)
            for store in (own, auto, strict):
                await until_used(store, Transport.BROADCAST)
            ticket = await admin.tickets.create(title="Into the pool again")
            await auto.wait_for(has(ticket), timeout=DEADLINE)
            await strict.wait_for(has(ticket), timeout=DEADLINE)
            assert [store.metrics.counts["feed_losses"] for store in (own, other)] == losses
            assert await supabase.cut_realtime() == 1


@pytest.mark.parametrize("missing", ["file", "trigger"])
async def test_auto_takes_postgres_changes_where_the_database_does_not_broadcast(missing: str) -> None:
    """Without 070_broadcast.sql, or where its trigger is gone and only its policies are left."""
    async with LocalSupabase(port=0, apply_sql=missing == "trigger") as supabase:
        with connect(supabase) as connection:
            if missing == "trigger":
                connection.execute("alter table public.tickets disable trigger tickets_60_broadcast")
            else:
                be_owner(connection)
                connection.execute("set local role postgres")
                for file in sql.files():
                    if file.stem != "070_broadcast":
                        connection.execute(file.text.encode())
            connection.execute("notify pgrst, 'reload schema'")
            connection.commit()
        async with open_desk(supabase, poll_interval=0.5) as desk:
            assert {store.transport for store in desk.stores.values()} == {Transport.POSTGRES_CHANGES}
            ticket = await desk.admin.tickets.create(title="Told by Postgres Changes")
            ticket = await desk.admin.tickets.assign(ticket, desk.alice.auth.me.profile_id)
            await desk.until(desk.alice, ticket, TicketAssigned)
            ticket = await desk.admin.tickets.assign(ticket, desk.bob.auth.me.profile_id)
            await desk.until(desk.alice, ticket, TicketAssigned, TicketUnassigned)
            async with desk.alice.ticket_store(transport="broadcast") as strict:
                await strict.wait_for(
                    lambda store: "Unauthorized" in (store.status_reason or ""), timeout=DEADLINE
                )
                assert strict.transport is None


async def test_options_share_the_socket_too(local_supabase: LocalSupabase) -> None:
    async with open_shop(local_supabase) as shop, shop.signed_in(Role.ADMIN) as jt:
        await sockets(local_supabase)
        twin: JamesTronic = jt.with_options(timeout=5)
        async with jt.ticket_store() as one, twin.ticket_store() as other:
            for store in (one, other):
                await store.wait_for(is_live, timeout=DEADLINE)
            assert await sockets(local_supabase) == 1
