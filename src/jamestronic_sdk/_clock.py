"""The only home of time: what the rest of the package gets as an argument.

Promises:
    Two readings: ``now`` never goes back, ``wall`` goes on while the machine sleeps.

Never:
    No module of the package but this one calls ``time``, ``asyncio.sleep`` or ``asyncio.timeout`` for a
    delay of its own; a time-out around I/O belongs to the event loop and may stand where the I/O is.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

from typing_extensions import override

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """Time, as an argument."""

    def now(self) -> float:
        """Seconds on a clock that never goes back; only differences mean something."""
        ...

    def wall(self) -> float:
        """Seconds since 1970, as the machine believes; may jump, and goes on during suspend."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancelling is safe."""
        ...

    async def wait(self, event: asyncio.Event, limit: float | None) -> bool:
        """Wait for an event at most ``limit`` seconds (None: for ever); answers whether it came."""
        ...


class SystemClock(Clock):
    """The machine's clocks and the running loop's timers."""

    @override
    def now(self) -> float:
        return time.monotonic()

    @override
    def wall(self) -> float:
        return time.time()

    @override
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @override
    async def wait(self, event: asyncio.Event, limit: float | None) -> bool:
        try:
            async with asyncio.timeout(limit):
                await event.wait()
        except TimeoutError:
            return False
        return True


SYSTEM_CLOCK: Final[Clock] = SystemClock()
