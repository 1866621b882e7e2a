"""What the dashboard keeps open for whom, and for how long."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest_asyncio
from examples.dashboard.desks import MOST_WAITING, Desks, Window

from jamestronic_sdk import Settings
from jamestronic_sdk.local.seed import DEMO_PASSWORD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from examples.dashboard.desks import Desk

    from conftest import Workshop


@pytest_asyncio.fixture(loop_scope="session")
async def desk(workshop: Workshop) -> AsyncIterator[Desk]:
    settings = Settings.load(workshop.stack.url, workshop.stack.anon_key, env_file=None)
    async with Desks(settings, grace=0.1) as desks:
        yield await desks.sign_in(email="cleo@jamestronic.test", password=DEMO_PASSWORD)


async def next_board(window: Window) -> dict[str, Any]:
    """The next board that has its tickets."""
    async with asyncio.timeout(20):
        async for message in window:
            name, _, data = message.decode().partition("\ndata: ")
            if name == "event: board" and not (board := json.loads(data))["is_loading"]:
                return dict(board)
    raise AssertionError("the window ended")


async def until_closed(desk: Desk) -> None:
    async with asyncio.timeout(20):
        while desk.live.sync()["kind"] != "loading":  # noqa: ASYNC110 - nobody is told: nobody looks
            await asyncio.sleep(0.02)


async def test_the_live_view_is_open_only_while_somebody_looks(desk: Desk) -> None:
    assert desk.live.sync()["kind"] == "loading"
    for _ in range(2):
        with Window(desk) as window:
            assert (await next_board(window))["tickets"]
            assert desk.live.sync()["kind"] != "loading"
        await until_closed(desk)


async def test_two_windows_share_one_live_view(desk: Desk) -> None:
    with Window(desk) as first:
        await next_board(first)
        store = desk.live._store
        with Window(desk) as second:
            assert (await next_board(second))["tickets"]
        # The next sign of life comes long after the grace: the second one's leaving ended nothing.
        first._waiting.clear()
        async with asyncio.timeout(20):
            async for message in first:
                if message.startswith(b"event: sync"):
                    break
        assert desk.live._store is store is not None


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
