"""The store on the local stack against what people write by hand, in one run: ``make bench``.

Latency: the same commits are seen by a plain ``realtime`` callback and by a store, in one process; the third way is
"something changed: wait 100 ms, read everything". Reads: bytes and requests, counted where they pass.
"""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
from benchmarks._measure import paged_select, quantile, stock_client
from benchmarks._stack import Stack, client_of, fill, make_admin, serving
from benchmarks._table import Table
from pydantic import TypeAdapter
from realtime import AsyncRealtimeClient, RealtimePostgresChangesListenEvent

from jamestronic_sdk import JamesTronic, StoreStatus, Ticket, TicketStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import httpx

CHANGES = 400
ROWS = TypeAdapter(list[Ticket])


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with serving() as found:
        yield found


@asynccontextmanager
async def admin_of(stack: Stack) -> AsyncIterator[JamesTronic]:
    async with client_of(stack, await make_admin(stack)) as jt:
        yield jt


def is_live(store: TicketStore) -> bool:
    return store.status is StoreStatus.LIVE


class Arrivals:
    """When each numbered change was seen, by several ways."""

    def __init__(self, *ways: str) -> None:
        self.seen: dict[str, dict[str, float]] = {way: {} for way in ways}
        self._arrived = asyncio.Event()

    def note(self, way: str, title: str) -> None:
        if title.startswith("change ") and title not in self.seen[way]:
            self.seen[way][title] = perf_counter()
            self._arrived.set()

    async def until_all(self, title: str) -> None:
        async with asyncio.timeout(30):
            while not all(title in seen for seen in self.seen.values()):
                self._arrived.clear()
                await self._arrived.wait()


async def listen_by_hand(
    stack: Stack, jt: JamesTronic, arrivals: Arrivals, changed: Callable[[str], None], scope: AsyncExitStack
) -> None:
    """What a program does with the plain library: a callback for row changes, and one for broadcasts."""
    raw = AsyncRealtimeClient(f"{stack.url}/realtime/v1", stack.anon_key)
    await raw.connect()
    scope.push_async_callback(raw.close)
    await raw.set_auth(await jt.auth.access_token())
    channel = raw.channel("bench")
    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.All,
        schema="public",
        table="tickets",
        callback=lambda payload: changed(payload["data"]["record"]["title"]),
    )
    live = asyncio.Event()
    channel.on_system(lambda _: live.set())
    await channel.subscribe()
    options: Any = {"config": {"private": True, "broadcast": None, "presence": None}}
    topic = raw.channel("tickets:admin", options)
    topic.on_broadcast(
        "ticket_changed",
        lambda payload: arrivals.note("raw broadcast", payload["payload"]["record"]["title"]),
    )
    await topic.subscribe()
    async with asyncio.timeout(30):
        await live.wait()


async def test_from_commit_to_event(stack: Stack) -> None:
    arrivals = Arrivals("raw", "postgres_changes", "raw broadcast", "broadcast", "refetch")
    committed: dict[str, float] = {}
    async with AsyncExitStack() as scope:
        clients = [await scope.enter_async_context(admin_of(stack)) for _ in range(2)]
        jt = clients[0]
        ticket = await jt.tickets.create(title="watched")
        for _ in range(200):  # what a refetch reads
            await jt.tickets.create(title="another")
        group = await scope.enter_async_context(asyncio.TaskGroup())
        for client, way in zip(clients, ("postgres_changes", "broadcast"), strict=True):
            store = await scope.enter_async_context(client.ticket_store(transport=way))
            store.subscribe(lambda event, way=way: arrivals.note(way, event.ticket.title))
            await store.wait_for(is_live)

        async def refetch() -> None:
            await asyncio.sleep(0.1)
            found = await jt._raw.table("tickets").select("*").limit(1000).execute()
            for row in ROWS.validate_python(found.data):
                arrivals.note("refetch", row.title)

        def changed(title: str) -> None:
            arrivals.note("raw", title)
            group.create_task(refetch())

        await listen_by_hand(stack, jt, arrivals, changed, scope)
        async with await psycopg.AsyncConnection.connect(stack.database_url, autocommit=True) as connection:
            for number in range(CHANGES):
                title = f"change {number}"
                update = "update public.tickets set title = %s where id = %s"
                await connection.execute(update, [title, ticket.id])
                committed[title] = perf_counter()
                await arrivals.until_all(title)
    tell_latencies(arrivals, committed)


def tell_latencies(arrivals: Arrivals, committed: dict[str, float]) -> None:
    late = {
        way: [1000 * (seen[title] - committed[title]) for title in list(committed)[CHANGES // 10 :]]
        for way, seen in arrivals.seen.items()
    }
    table = Table("store_latency")
    for way, values in late.items():
        table.most(f"{way}: p50", quantile(values, 0.5), "ms")
        table.most(f"{way}: p95", quantile(values, 0.95), "ms")
    for way, base in (("postgres_changes", "raw"), ("broadcast", "raw broadcast")):
        for part, limit in ((0.5, 1.1), (0.95, 1.25)):
            ratio = quantile(late[way], part) / quantile(late[base], part)
            table.most(f"store by {way} / {base}: p{100 * part:.0f}", ratio, "x", limit)
    slow, ours = quantile(late["refetch"], 0.5), quantile(late["broadcast"], 0.5)
    table.least("wait and refetch / store: p50", slow / ours, "x", 10)
    table.finish()


class Traffic:
    """Requests to the data API, and the bytes of their answers."""

    def __init__(self, jt: JamesTronic) -> None:
        self.sizes: list[int] = []
        http = jt._core._http
        assert http is not None
        http.event_hooks["response"].append(self._count)

    async def _count(self, response: httpx.Response) -> None:
        await response.aread()
        if "/rest/v1/" in response.url.path:
            self.sizes.append(len(response.content))


async def test_a_thousand_idle_stores(stack: Stack) -> None:
    # Longer than the interval of their reads, so that each reads in it. Before the tests with many tickets: the
    # memory that those gave back would hide what these take.
    stores, seconds = 1_000, 90
    fill(stack, 10)
    process = psutil.Process(os.getpid())
    async with admin_of(stack) as jt, AsyncExitStack() as scope:
        gc.collect()
        before = process.memory_info().rss
        for _ in range(stores):
            store = await scope.enter_async_context(jt.ticket_store(ready_timeout=120))
        await store.wait_for(is_live)
        gc.collect()
        memory = process.memory_info().rss - before
        await asyncio.sleep(5)
        began = process_time()
        await asyncio.sleep(seconds)
        busy = process_time() - began
    table = Table("store_idle")
    table.most(f"{stores} idle stores: CPU of one core", 100 * busy / seconds, "%", 5)
    table.most(f"{stores} idle stores: memory per store", memory / stores / 1024, "KiB")
    table.finish()


async def test_reads_cost_what_changed(stack: Stack) -> None:
    table = Table("store_reads")
    per_read: list[float] = []
    for total in (1_000, 10_000, 100_000):
        fill(stack, total)
        async with admin_of(stack) as jt, jt.ticket_store(ready_timeout=120, background_delay=0.01) as store:
            await store.wait_for(is_live)
            assert len(store.tickets) >= total
            traffic = Traffic(jt)
            for _ in range(5):
                await store.refresh()
            table.most(
                f"{total} tickets, nothing new: requests per read", len(traffic.sizes) / 5, "requests", 1
            )
            per_read.append(max(traffic.sizes))
            table.most(f"{total} tickets, nothing new: body", max(traffic.sizes), "bytes", 200)
            if total == 100_000:
                for changes in (1, 100, 1000):
                    await reconnect(stack, store, traffic, changes, table)
    table.most("100,000 against 1,000 tickets: body", per_read[-1] / per_read[0], "x", 1.1)
    table.finish()


async def reconnect(stack: Stack, store: TicketStore, traffic: Traffic, changes: int, table: Table) -> None:
    """Put it away, change so many, take it out: what did it read to be right again?"""
    store.background()
    await store.wait_for(lambda one: one.status is StoreStatus.PAUSED)
    async with await psycopg.AsyncConnection.connect(stack.database_url, autocommit=True) as connection:
        await connection.execute(
            "update public.tickets set title = 'moved ' || clock_timestamp() where id in"
            " (select id from public.tickets order by number limit %s)",
            [changes],
        )
    traffic.sizes.clear()
    store.foreground()
    await store.wait_for(lambda one: not one.is_loading and one.status is not StoreStatus.PAUSED)
    table.most(f"back after {changes} changes: requests until it is right", len(traffic.sizes), "requests", 2)
    table.most(f"back after {changes} changes: bytes per change", sum(traffic.sizes) / changes, "bytes")
    await store.wait_for(is_live)


async def test_cold_start_of_50_000_tickets(stack: Stack) -> None:
    fill(stack, 50_000)
    ours: list[float] = []
    theirs: list[float] = []
    email = await make_admin(stack)
    async with client_of(stack, email) as jt, stock_client(stack, email) as plain:
        for _ in range(5):
            gc.collect()
            began = perf_counter()
            async with jt.ticket_store(ready_timeout=120) as store:
                ours.append(perf_counter() - began)
                total = len(store.tickets)
            gc.collect()
            began = perf_counter()
            rows = await paged_select(plain)
            theirs.append(perf_counter() - began)
            assert len(rows) == total
            del rows, store
    table = Table("store_cold_start")
    table.most("store, ready", median(ours), "s")
    table.most("paged select('*') into the same models", median(theirs), "s")
    table.least("how much faster", median(theirs) / median(ours), "x", 2.0)
    table.finish()
