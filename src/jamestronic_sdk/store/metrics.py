"""Counts and latencies of one store, by source.

Promises:
    Bounded memory: the newest ``LATENCY_WINDOW`` latencies per source, and one counter per name.

Never:
    No ticket contents.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jamestronic_sdk.store.events import Source, TicketEvent

__all__ = ["LATENCY_WINDOW", "LatencySummary", "StoreMetrics"]

LATENCY_WINDOW: Final = 1024
"""Latencies kept per source: enough for a p99, small enough to forget about."""


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Seconds from commit to the store's knowledge."""

    count: int
    p50: float
    p95: float
    worst: float


class StoreMetrics:
    """What a store has seen since it was opened."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """``reads``, ``read_failures``, ``lookups``, ``gaps``, ``feed_losses``, ``stale``, ``duplicates``."""
        self.events: Counter[tuple[str, Source]] = Counter()
        """(name of the event class, source) -> how many."""
        self._latencies: dict[Source, deque[float]] = {}

    def record(self, event: TicketEvent) -> None:
        """Count an event and its latency."""
        self.events[type(event).__name__, event.source] += 1
        if event.latency is not None:
            window = self._latencies.setdefault(event.source, deque(maxlen=LATENCY_WINDOW))
            window.append(event.latency)

    @property
    def latencies(self) -> Mapping[Source, LatencySummary]:
        """Summaries by source, over the newest events."""
        return {source: _summary(sorted(window)) for source, window in self._latencies.items()}


def _summary(values: list[float]) -> LatencySummary:
    last = len(values) - 1
    return LatencySummary(
        count=len(values), p50=values[round(0.5 * last)], p95=values[round(0.95 * last)], worst=values[last]
    )
