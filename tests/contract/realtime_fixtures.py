"""A Realtime server beside that of the stack, for each module that asks for it.

The tests of Realtime import these by name: ``client`` means something else in the tests of Auth.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from _realtime_client import DEADLINE, RawClient, raw_client
from _realtime_fixtures import Database, RunningRealtime, connected_database, running_realtime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jamestronic_sdk.local.context import LocalContext
    from jamestronic_sdk.local.stack import LocalSupabase

__all__ = ["client", "context", "database", "fence", "realtime"]


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
