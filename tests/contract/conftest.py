"""One local stack for the whole run, and a Realtime server beside its own for each module that asks."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from _realtime_client import DEADLINE, RawClient, raw_client
from _realtime_fixtures import Database, RunningRealtime, connected_database, running_realtime

from jamestronic_sdk.local.stack import LocalSupabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from jamestronic_sdk.local.context import LocalContext


@pytest.fixture(scope="session")
def local_supabase() -> Iterator[LocalSupabase]:
    """An ephemeral stack, ready, with the package's SQL.

    It runs in a thread with a loop of its own: a test that blocks (a program that it waits for, the blocking
    face) does not stop the server that it talks to.
    """
    stack = LocalSupabase(port=0)
    started: Future[asyncio.AbstractEventLoop] = Future()

    async def serve() -> None:
        try:
            async with stack:
                started.set_result(asyncio.get_running_loop())
                await stack.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-supabase") as executor:
        running = executor.submit(asyncio.run, serve())
        loop = started.result(timeout=90)
        yield stack
        loop.call_soon_threadsafe(stack.stop)
        running.result(timeout=30)


# --- Realtime ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def context(local_supabase: LocalSupabase) -> LocalContext:
    """The stack's database; the server of these tests is an own one beside that of the stack."""
    return local_supabase.context


@pytest.fixture(scope="module")
async def realtime(context: LocalContext) -> AsyncIterator[RunningRealtime]:
    async with running_realtime(context) as running:
        async with asyncio.timeout(DEADLINE):
            while not running.server.is_ready:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
        yield running


@pytest.fixture(scope="module")
async def database(context: LocalContext) -> AsyncIterator[Database]:
    async with connected_database(context) as connected:
        yield connected


@pytest.fixture
async def client(realtime: RunningRealtime) -> AsyncIterator[RawClient]:
    async with raw_client(realtime.url, realtime.context.anon_key) as connected:
        yield connected


@pytest.fixture
async def fence(database: Database) -> str:
    """A table whose changes everybody gets: what comes after them is known not to be missing."""
    return await database.table("id int generated always as identity primary key")
