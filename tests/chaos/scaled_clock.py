"""Time that runs faster than the machine's, and can jump."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typing_extensions import override

from jamestronic_sdk._clock import SystemClock

if TYPE_CHECKING:
    import asyncio


class ScaledClock(SystemClock):
    """Intervals of the SDK (poll, heartbeat, back-off, digest) shrink by ``factor``.

    The wall clock runs as ever, because the server has it, too.
    """

    def __init__(self, factor: float) -> None:
        self.factor: Final = factor
        self._now_ahead = 0.0
        self._wall_ahead = 0.0

    def jump(self, *, now: float = 0.0, wall: float = 0.0) -> None:
        """Move on at once; ``wall`` may be negative."""
        self._now_ahead += now
        self._wall_ahead += wall

    @override
    def now(self) -> float:
        return super().now() * self.factor + self._now_ahead

    @override
    def wall(self) -> float:
        return super().wall() + self._wall_ahead

    @override
    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self.factor)

    @override
    async def wait(self, event: asyncio.Event, limit: float | None) -> bool:
        return await super().wait(event, None if limit is None else limit / self.factor)
