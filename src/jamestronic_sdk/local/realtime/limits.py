"""Rates, measured as the hosted service does: ticks are counted, and averaged over a minute.

Promises:
    Pure: the time is an argument.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Rate", "Window"]

_AVERAGED: Final = 60.0
"""Seconds that the average looks back at most; hosted: the same."""


class Rate:
    """Events per second, and whether they are too many.

    Args:
        limit: Events per second; None for no limit.
        tick: Seconds; only whole ticks count, so the limit trips and clears at their ends.
    """

    def __init__(self, limit: float | None, tick: float) -> None:
        self._limit: Final = limit
        self._tick: Final = tick
        self._ticks: deque[int] = deque(maxlen=max(1, round(_AVERAGED / tick)))
        self._count = 0
        self._ends_at: float | None = None

    def add(self, now: float, count: int = 1) -> None:
        """That many events happen now; ``now`` in seconds of a monotonic clock."""
        if self._limit is not None:
            self._advance(now)
            self._count += count

    def is_over(self, now: float) -> bool:
        """Whether the average has reached the limit."""
        if self._limit is None:
            return False
        self._advance(now)
        return bool(self._ticks) and sum(self._ticks) / len(self._ticks) / self._tick >= self._limit

    def _advance(self, now: float) -> None:
        if self._ends_at is None:
            self._ends_at = now + self._tick
        passed = int((now - self._ends_at) // self._tick) + 1
        if passed > 0:
            self._ends_at += passed * self._tick
            self._ticks.append(self._count)
            self._count = 0
            self._ticks.extend([0] * min(passed - 1, self._ticks.maxlen or 0))


class Window:
    """So many calls in a window that begins with the first of them.

    Args:
        limit: Calls; None for no limit.
        length: Seconds.
    """

    def __init__(self, limit: int | None, length: float) -> None:
        self._limit: Final = limit
        self._length: Final = length
        self._ends_at: float | None = None
        self._count = 0

    def allows(self, now: float) -> bool:
        """Count a call; whether it is within the limit."""
        if self._limit is None:
            return True
        if self._ends_at is None or now > self._ends_at:
            self._ends_at, self._count = now + self._length, 0
        self._count += 1
        return self._count <= self._limit
