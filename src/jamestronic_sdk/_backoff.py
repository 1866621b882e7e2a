"""How long to wait before trying again, and the only home of randomness.

Promises:
    Full jitter: each delay is uniform between zero and a ceiling that grows by ``factor`` up to ``cap``.
    That spreads a crowd of clients best (Marc Brooker, "Exponential Backoff And Jitter", AWS 2015).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SYSTEM_RANDOM", "backoff", "ceiling", "full_jitter"]

SYSTEM_RANDOM: Final = random.Random()  # noqa: S311 - spreads retries; protects nothing
"""Seeded by the system; tests give their own ``random.Random(seed)``."""


def ceiling(attempt: int, *, base: float, factor: float, cap: float) -> float:
    """The longest wait before retry number ``attempt`` (from 0), in seconds."""
    # 2 ** 1024 overflows a float: a feed that retries for ever gets there.
    exponent = min(attempt, 64)
    return min(cap, base * factor**exponent)


def full_jitter(attempt: int, *, base: float, factor: float, cap: float, rng: random.Random) -> float:
    """A wait before retry number ``attempt`` (from 0): uniform in [0, ceiling], in seconds."""
    return rng.uniform(0.0, ceiling(attempt, base=base, factor=factor, cap=cap))


def backoff(*, base: float, factor: float = 2.0, cap: float, rng: random.Random) -> Iterator[float]:
    """Waits for ever, in seconds; make a new one to start over.

    Args:
        base: Ceiling of the first wait, in seconds.
        factor: Growth of the ceiling per attempt.
        cap: The ceiling's ceiling, in seconds.
        rng: The source of jitter.
    """
    attempt = 0
    while True:
        yield full_jitter(attempt, base=base, factor=factor, cap=cap, rng=rng)
        attempt += 1
