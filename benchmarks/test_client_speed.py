"""The client against plain supabase-py: what importing, listing and one read cost, in one run.

Run with ``-s`` to see the table; the JSON is in ``build/benchmarks``. The stack runs in a process
of its own: in ours it would compete for the interpreter with what is measured.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import tracemalloc
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from benchmarks._measure import in_turns, paged_select, stock_client
from benchmarks._stack import Stack, client_of, fill, make_admin, serving
from benchmarks._table import Table

from jamestronic_sdk import JamesTronic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from supabase import AsyncClient

TICKETS = 50_000


@dataclass(frozen=True)
class Both:
    """The same person at the same database, by both libraries."""

    ours: JamesTronic
    theirs: AsyncClient
    ticket: str


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with serving() as found:
        fill(found, TICKETS)
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def both(stack: Stack) -> AsyncIterator[Both]:
    email = await make_admin(stack)
    async with client_of(stack, email) as ours, stock_client(stack, email) as theirs:
        (ticket,) = await ours.tickets.list(limit=1)
        yield Both(ours, theirs, str(ticket.id))


def seconds_of(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own program
    return time.perf_counter() - start


def test_importing() -> None:
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
    bare, ours, client, theirs = (median(taken[name]) for name in programs)
    table = Table("client_import")
    table.most("import supabase", theirs - bare, "s")
    table.most("import jamestronic_sdk : import supabase", (ours - bare) / (theirs - bare), "x", 0.5)
    table.most("import and make a client : import supabase", (client - bare) / (theirs - bare), "x")
    table.finish()


async def test_one_read(both: Both) -> None:
    """``jt.tickets.get`` against the same request by supabase-py, which answers a dictionary."""

    async def ours() -> object:
        return await both.ours.tickets.get(both.ticket)

    async def theirs() -> object:
        return await both.theirs.table("tickets").select("*").eq("id", both.ticket).limit(1).execute()

    taken = await in_turns({"ours": ours, "theirs": theirs}, rounds=1000, warm_up=100)
    table = Table("client_get")
    table.most("raw call", median(taken["theirs"]) * 1000, "ms")
    table.most("tickets.get : raw call", median(taken["ours"]) / median(taken["theirs"]), "x", 1.10)
    table.finish()


@pytest.mark.timeout(600)
async def test_listing_everything(both: Both) -> None:
    async def fetch_all() -> int:
        return len(await both.ours.tickets.fetch_all())

    async def walk() -> int:
        count = 0
        async for _ in both.ours.tickets.query(order="oldest"):
            count += 1
        return count

    async def theirs() -> int:
        return len(await paged_select(both.theirs))

    assert [await fetch_all(), await walk(), await theirs()] == [TICKETS] * 3
    taken = await in_turns({"all": fetch_all, "walk": walk, "theirs": theirs}, rounds=5)
    loop = median(taken["theirs"])
    table = Table("client_list")
    table.most(f"range() loop, {TICKETS:,} tickets", loop, "s")
    table.least("fetch_all, times as fast", loop / median(taken["all"]), "x", 1.5)
    table.least("async for, times as fast", loop / median(taken["walk"]), "x", 1.5)
    table.finish()


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
