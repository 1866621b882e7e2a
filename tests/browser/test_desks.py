"""What the dashboard keeps open for whom, and for how long."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest_asyncio
from examples.dashboard.desks import MOST_WAITING, Desks, Window

from jamestronic_sdk import Settings, StoreStatus
from jamestronic_sdk.local.seed import DEMO_PASSWORD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from examples.dashboard.desks import Desk

    from conftest import Workshop
    from jamestronic_sdk import Ticket, TicketStore


@pytest_asyncio.fixture(loop_scope="session")
async def desk(workshop: Workshop) -> AsyncIterator[Desk]:
    settings = Settings.load(workshop.stack.url, workshop.stack.anon_key, env_file=None)
    async with Desks(settings, background_delay=0.1) as desks:
        yield await desks.sign_in(email="cleo@jamestronic.test", password=DEMO_PASSWORD)


async def next_board(window: Window) -> dict[str, Any]:
    """The next board that has its tickets."""
    async with asyncio.timeout(20):
        async for message in window:
            name, _, data = message.decode().partition("\ndata: ")
            if name == "event: board" and (board := json.loads(data))["tickets"] is not None:
                return dict(board)
    raise AssertionError("the window ended")


async def store_that_is(desk: Desk, status: StoreStatus) -> TicketStore:
    async with asyncio.timeout(20):
        while (store := desk.live._store) is None:  # noqa: ASYNC110 - nobody is told: nobody looks
            await asyncio.sleep(0.02)
    await store.wait_for(lambda store: store.status is status, timeout=20)
    return store


async def until_known(store: TicketStore, ticket: Ticket) -> None:
    await store.wait_for(lambda store: ticket.id in store.tickets, timeout=20)


async def test_the_live_view_rests_while_nobody_looks_and_catches_up_when_somebody_does(
    workshop: Workshop, desk: Desk
) -> None:
    store = await store_that_is(desk, StoreStatus.PAUSED)
    for _ in range(2):
        missed = await workshop.ticket("Metronome limps")
        assert missed.id not in store.tickets
        with Window(desk) as window:
            # What was known is there at once, and nobody is told that it is today's.
            board = await next_board(window)
            assert board["tickets"]
            assert board["sync"]["kind"] == "loading"
            await until_known(store, missed)
            assert await store_that_is(desk, StoreStatus.LIVE) is store
        await store_that_is(desk, StoreStatus.PAUSED)
        assert store.transport is None


async def test_two_windows_share_one_live_view(desk: Desk) -> None:
    with Window(desk) as first:
        await next_board(first)
        store = desk.live._store
        with Window(desk) as second:
            assert (await next_board(second))["tickets"]
        # The next sign of life comes long after the delay: the second one's leaving put nothing to rest.
        first._waiting.clear()
        async with asyncio.timeout(20):
            async for message in first:
                if message.startswith(b"event: sync"):
                    break
        assert desk.live._store is store is not None
        assert store.status is not StoreStatus.PAUSED


async def test_a_window_that_does_not_read_gets_the_newest_board_instead(desk: Desk) -> None:
    with Window(desk) as window:
        await next_board(window)
        for number in range(10 * MOST_WAITING):
            desk.tell("changes", {"number": number})
        assert len(window._waiting) <= MOST_WAITING
        assert (await next_board(window))["tickets"]
        async for message in window:
            if b'"number":1999' in message:
                break
