"""When a sleep of the machine is noticed, and when it is not."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from jamestronic_sdk._wake import SleepWatch
from jamestronic_sdk.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def watching(clock: ManualClock) -> AsyncIterator[list[str]]:
    woken: list[str] = []
    watch = SleepWatch(clock)
    watch.on_wake(lambda: woken.append("woken"))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watch.run())
        await turns()
        yield woken
        running.cancel()


async def turns() -> None:
    """Let the others run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_looking_moves_no_time() -> None:
    """A clock that a test moves by hand stands still until it does."""
    clock = ManualClock()
    began = clock.now()
    async with watching(clock):
        assert clock.now() == began


@pytest.mark.parametrize(("seconds", "expected"), [(2.0, []), (7.9, []), (60.0, ["woken"])])
async def test_a_look_that_comes_much_too_late_is_a_sleep(seconds: float, expected: list[str]) -> None:
    clock = ManualClock()
    async with watching(clock) as woken:
        clock.advance(seconds)
        await turns()
        assert woken == expected
