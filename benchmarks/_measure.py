"""How things are measured side by side, in turns within one run: machines differ and are shared."""

from __future__ import annotations

import gc
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
from benchmarks._stack import PASSWORD
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from jamestronic_sdk import Ticket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from benchmarks._stack import Stack


async def in_turns(
    calls: Mapping[str, Callable[[], Awaitable[object]]], *, rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each call in each round; the order changes from round to round.

    What a call answers is dropped, and the garbage collected, outside the measured time.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-warm_up, rounds):
        turn = list(calls.items())
        if number % 2:
            turn.reverse()
        for name, call in turn:
            gc.collect() if rounds < 50 else None
            start = time.perf_counter()
            answer = await call()
            seconds = time.perf_counter() - start
            del answer
            if number >= 0:
                taken[name].append(seconds)
    return taken


def quantile(values: list[float], part: float) -> float:
    """The value below which that part of the values lies."""
    return sorted(values)[round(part * (len(values) - 1))]


@asynccontextmanager
async def stock_client(stack: Stack, email: str) -> AsyncIterator[AsyncClient]:
    """supabase-py as it comes, signed in.

    Its own default HTTP client, given by hand: so that it can be closed, and says nothing of deprecations.
    """
    async with httpx.AsyncClient(http2=True, follow_redirects=True, timeout=120) as http:
        client = await acreate_client(stack.url, stack.anon_key, AsyncClientOptions(httpx_client=http))
        await client.auth.sign_in_with_password({"email": email, "password": PASSWORD})
        try:
            yield client
        finally:
            await client.auth.sign_out({"scope": "local"})


async def paged_select(client: AsyncClient) -> list[Ticket]:
    """All tickets, as a program reads them without us."""
    rows: list[Ticket] = []
    while True:
        query = client.table("tickets").select("*").order("number").range(len(rows), len(rows) + 999)
        page: Any = (await query.execute()).data
        rows += [Ticket.model_validate(one) for one in page]
        if len(page) < 1000:
            return rows
