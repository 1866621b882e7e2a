"""Notices that the machine slept, or that its clock jumped.

A suspended machine stops both its timers and its sockets: afterwards a connection looks open for as long
as nobody writes to it. The sign is a clock that went on while the other one stood still, or a timer that
came much too late.

Promises:
    One task for a whole client, which only looks while somebody wants to know.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from jamestronic_sdk._clock import Clock

__all__ = ["SleepWatch"]

_log: Final = logging.getLogger("jamestronic_sdk.client")

_LOOK: Final = 2.0
"""Seconds between looks."""
_SLEPT: Final = 6.0
"""Seconds that count as sleep: more than a busy loop takes. Electric's client has the same two numbers."""


class SleepWatch:
    """Calls back after a sleep.

    Args:
        clock: Time; ``now`` may stand still during sleep, ``wall`` does not.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        self._callbacks: dict[object, Callable[[], None]] = {}
        self._is_wanted = asyncio.Event()

    def on_wake(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after each sleep, until the answer is called.

        Args:
            callback: Must not block or raise.
        """
        key = object()
        self._callbacks[key] = callback
        self._is_wanted.set()

        def stop() -> None:
            self._callbacks.pop(key, None)

        return stop

    async def run(self) -> None:
        """Look until cancelled."""
        never = asyncio.Event()
        while True:
            if not self._callbacks:
                self._is_wanted.clear()
                await self._is_wanted.wait()
            began, began_wall = self._clock.now(), self._clock.wall()
            # Not `sleep`: where that moves the time, as a test's clock may, looking would never end.
            await self._clock.wait(never, _LOOK)
            took, took_wall = self._clock.now() - began, self._clock.wall() - began_wall
            if max(took - _LOOK, abs(took_wall - took)) > _SLEPT:
                _log.info("the machine slept, or its clock jumped, for %.0f s", max(took, took_wall))
                for callback in tuple(self._callbacks.values()):
                    callback()
