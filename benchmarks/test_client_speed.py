"""The client against plain supabase-py: what importing, listing and one read cost, in one run.

Run with ``-s`` to see the table; the JSON is in ``build/benchmarks/client.json``. The stack runs in a process
of its own: in ours it would compete for the interpreter with what is measured.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import pytest_asyncio
from benchmarks._report import Report, in_turns, median_ratio
from benchmarks._stack import Stack, serving
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from jamestronic_sdk import JamesTronic, Role, Ticket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TICKETS = 50_000
PASSWORD = "benchmark password"  # noqa: S105 - of a person who lives for one run


@dataclass(frozen=True)
class Both:
    """The same person at the same database, by both libraries."""

    ours: JamesTronic
    theirs: AsyncClient
    ticket: str


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    made = Report("client")
    yield made
    made.finish()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with serving() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def both(stack: Stack) -> AsyncIterator[Both]:
    email = f"bench-{uuid4().hex[:8]}@example.test"
    async with JamesTronic(stack.url, stack.service_role_key, env_file=None) as service:
        person = await service.admin.create_user(email=email, password=PASSWORD, role=Role.ADMIN)
    with psycopg.connect(stack.database_url, autocommit=True) as owner:
        # Without triggers: the point is the rows, not how they came.
        owner.execute("alter table public.tickets disable trigger user")
        owner.execute(
            "insert into public.tickets (title, description, status, customer_id, version)"
            " select 'Ticket ' || n, repeat('It leaks. ', 20), 'open', %s, n from generate_series(1, %s) as n",
            [person.id, TICKETS],
        )
        owner.execute("alter table public.tickets enable trigger user")
        owner.execute("analyze public.tickets")
    # Its own default client, given by hand: so that it can be closed, and says nothing of deprecations.
    http = httpx.AsyncClient(http2=True, follow_redirects=True, timeout=120)
    options = AsyncClientOptions(httpx_client=http)
    theirs = await acreate_client(stack.url, stack.anon_key, options)
    await theirs.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    async with JamesTronic(stack.url, stack.anon_key, env_file=None) as ours:
        await ours.auth.sign_in(email=email, password=PASSWORD)
        (ticket,) = await ours.tickets.list(limit=1)
        try:
            yield Both(ours, theirs, str(ticket.id))
        finally:
            await theirs.auth.sign_out({"scope": "local"})
            await http.aclose()


def seconds_of(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own program
    return time.perf_counter() - start


def test_importing(report: Report) -> None:
    """``import jamestronic_sdk``, and what a program pays that makes a client, which needs supabase itself."""
    programs = {
        "nothing": "pass",
        "ours": "import jamestronic_sdk",
        "client": "from jamestronic_sdk import JamesTronic; JamesTronic('http://127.0.0.1:9', 'sb_publishable_12345678')",
        "theirs": "import supabase",
    }
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(9):
        for name, code in programs.items():
            taken[name].append(seconds_of(code))
    bare = sorted(taken["nothing"])[len(taken["nothing"]) // 2]
    ours, client, theirs = ([one - bare for one in taken[name]] for name in ("ours", "client", "theirs"))
    report.add(median_ratio("import jamestronic_sdk : import supabase", ours, theirs, at_most=0.5))
    report.add(median_ratio("import and make a client : import supabase", client, theirs))
    assert report.ratios[-2].is_met


async def test_one_read(both: Both, report: Report) -> None:
    """``jt.tickets.get`` against the same request by supabase-py, which answers a dictionary."""

    async def ours() -> object:
        return await both.ours.tickets.get(both.ticket)

    async def theirs() -> object:
        return await both.theirs.table("tickets").select("*").eq("id", both.ticket).limit(1).execute()

    taken = await in_turns({"ours": ours, "theirs": theirs}, rounds=1000, warm_up=100)
    found = report.add(median_ratio("tickets.get : raw call", taken["ours"], taken["theirs"], at_most=1.10))
    assert found.is_met


async def plain_loop(client: AsyncClient) -> list[Ticket]:
    """What a program writes without us."""
    rows: list[Ticket] = []
    while True:
        query = client.table("tickets").select("*").order("number").range(len(rows), len(rows) + 999)
        page: Any = (await query.execute()).data
        rows += [Ticket.model_validate(one) for one in page]
        if len(page) < 1000:
            return rows


@pytest.mark.timeout(600)
async def test_listing_everything(both: Both, report: Report) -> None:
    async def fetch_all() -> int:
        return len(await both.ours.tickets.fetch_all())

    async def walk() -> int:
        count = 0
        async for _ in both.ours.tickets.query(order="oldest"):
            count += 1
        return count

    async def theirs() -> int:
        return len(await plain_loop(both.theirs))

    assert [await fetch_all(), await walk(), await theirs()] == [TICKETS] * 3
    taken = await in_turns({"all": fetch_all, "walk": walk, "theirs": theirs}, rounds=5)
    found = report.add(
        median_ratio(
            f"fetch_all, {TICKETS:,} tickets : range() loop", taken["all"], taken["theirs"], at_least=1.5
        )
    )
    report.add(median_ratio(f"async for, {TICKETS:,} tickets : range() loop", taken["walk"], taken["theirs"]))
    assert found.is_met


async def test_walking_holds_some_pages_and_not_the_table(both: Both) -> None:
    """Pages that were walked wait for the garbage collector: httpx's answers are cycles."""

    async def walk() -> None:
        async for _ in both.ours.tickets.query(order="oldest"):
            pass

    async def hold() -> None:
        await both.ours.tickets.fetch_all()

    peaks: list[int] = []
    for call in (walk, hold):
        gc.collect()
        tracemalloc.start()
        try:
            await call()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    walked, held = peaks
    print(f"\n{TICKETS:,} tickets: walking needs {walked / 2**20:.1f} MiB, holding {held / 2**20:.1f} MiB")
    assert walked < held / 4
