"""Counts and durations of one store.

Promises:
    Bounded memory: the newest ``LATENCY_WINDOW`` durations of each kind, and one counter per name.

Never:
    No ticket contents.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jamestronic_sdk.store.events import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jamestronic_sdk.store.events import TicketEvent

__all__ = ["LATENCY_WINDOW", "LatencySummary", "StoreMetrics"]

LATENCY_WINDOW: Final = 1024
"""Durations kept of each kind: enough for a p99, small enough to forget about."""


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Seconds, over the newest ``LATENCY_WINDOW`` of a kind."""

    count: int
    p50: float
    p95: float
    p99: float
    worst: float


class StoreMetrics:
    """What a store has seen since it was opened."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """``reads`` and ``read_failures``; ``snapshots``, ``lookups`` and ``digests`` among them;
        ``drift`` (a digest found something missing); ``gaps``, ``feed_losses``, ``reconnects``, ``wakes``;
        ``duplicates`` and ``stale`` (messages that were no news); ``conflicts``; ``bytes_in`` (bodies of
        answers to reads)."""
        self.events: Counter[tuple[str, Source]] = Counter()
        """(name of the event class, source) -> how many."""
        self.queue_depth: int = 0
        """Events that wait for readers, all together."""
        self._latencies: dict[Source, deque[float]] = {}
        self._durations: dict[str, deque[float]] = {}

    def record(self, event: TicketEvent) -> None:
        """Count an event and its latency."""
        self.events[type(event).__name__, event.source] += 1
        if event.latency is not None:
            window = self._latencies.setdefault(event.source, deque(maxlen=LATENCY_WINDOW))
            window.append(event.latency)

    def measure(self, name: str, seconds: float) -> None:
        """Add to the durations of that name."""
        self._durations.setdefault(name, deque(maxlen=LATENCY_WINDOW)).append(seconds)

    @property
    def latencies(self) -> Mapping[Source, LatencySummary]:
        """From commit to the store's knowledge, by source."""
        return {source: _summary(window) for source, window in self._latencies.items()}

    @property
    def durations(self) -> Mapping[str, LatencySummary]:
        """Of each kind that there was.

        ``apply`` (one input, by the engine), ``read``, ``handler`` (one call of a subscriber), and
        ``time_to_live`` (from the start, or from a loss, to live).
        """
        return {name: _summary(window) for name, window in sorted(self._durations.items())}

    @property
    def realtime_share(self) -> float | None:
        """The part of the events that Realtime brought, 0 to 1; own writes apart. None without events."""
        told = Counter[Source]()
        for (_, source), count in self.events.items():
            told[source] += count
        del told[Source.OWN_WRITE]
        return told[Source.REALTIME] / told.total() if told.total() else None


def _summary(window: deque[float]) -> LatencySummary:
    values = sorted(window)
    last = len(values) - 1
    p50, p95, p99 = (values[round(part * last)] for part in (0.5, 0.95, 0.99))
    return LatencySummary(count=len(values), p50=p50, p95=p95, p99=p99, worst=values[last])
