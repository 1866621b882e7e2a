"""What a store's metrics say, for people and as JSON.

Promises:
    Pure. A counter that this page does not know is shown under its own name.

Never:
    No ticket contents: there are none in the metrics.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from jamestronic_sdk.store.events import Source

if TYPE_CHECKING:
    from jamestronic_sdk.store.metrics import LatencySummary, StoreMetrics

__all__ = ["figures", "report"]

_COUNTERS: Final = {
    "reads": "reads of the view",
    "read_failures": "reads that failed",
    "lookups": "tickets looked up",
    "gaps": "gaps in Realtime, each closed by a read",
    "drift": "differences that a check against the database found",
    "feed_losses": "connections lost (reconnects)",
    "stale": "messages older than what was known",
    "duplicates": "messages that came twice",
}
"""Shown also while they are zero, in this order; what is counted besides follows."""


def figures(metrics: StoreMetrics) -> dict[str, Any]:
    """The metrics as JSON: ``events``, ``sources``, ``realtime_to_poll``, ``counts``, ``latencies``.

    ``realtime_to_poll`` is None while no poll told anything. Latencies are seconds.
    """
    by_kind: dict[str, dict[str, int]] = {}
    by_source: Counter[str] = Counter()
    for (kind, source), count in sorted(metrics.events.items()):
        by_kind.setdefault(kind, {})[str(source)] = count
        by_source[str(source)] += count
    polled = by_source[Source.POLL]
    return {
        "events": by_kind,
        "sources": dict(by_source),
        "realtime_to_poll": by_source[Source.REALTIME] / polled if polled else None,
        "counts": _counts(metrics),
        "latencies": {str(source): _latency(found) for source, found in sorted(metrics.latencies.items())},
    }


def report(metrics: StoreMetrics) -> str:
    """The metrics as plain text, some 20 lines without a line end at the end."""
    found = figures(metrics)
    sources: dict[str, int] = found["sources"]
    lines = [f"Events: {sum(sources.values())}{_split(sources)}"]
    lines += [f"  {kind:18} {sum(per.values()):>6}{_split(per)}" for kind, per in found["events"].items()]
    lines += [
        "",
        f"Realtime to poll: {_ratio(found['realtime_to_poll'], sources)}",
        "",
        "Latency in seconds:",
    ]
    for source, latency in found["latencies"].items():
        values = "  ".join(f"{name} {latency[name]:.3f}" for name in ("p50", "p95", "worst"))
        lines.append(f"  {source:18} {latency['count']:>6}  {values}")
    if not found["latencies"]:
        lines.append("  none measured yet")
    lines += ["", "Counters:"]
    lines += [
        f"  {name:18} {count:>6}" + (f"  {_COUNTERS[name]}" if name in _COUNTERS else "")
        for name, count in found["counts"].items()
    ]
    return "\n".join(lines)


def _counts(metrics: StoreMetrics) -> dict[str, int | float]:
    """Every counter: the known ones first, then the others by name, then single numbers of the metrics."""
    counts: dict[str, int | float] = {name: metrics.counts.get(name, 0) for name in _COUNTERS}
    counts.update({name: count for name, count in sorted(metrics.counts.items()) if name not in counts})
    for name in sorted(set(dir(metrics)) - counts.keys()):
        value: object = None if name.startswith("_") else getattr(metrics, name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            counts[name] = value
    return counts


def _latency(found: LatencySummary) -> dict[str, int | float]:
    return {"count": found.count, "p50": found.p50, "p95": found.p95, "worst": found.worst}


def _split(parts: dict[str, int]) -> str:
    return f"  ({', '.join(f'{name} {count}' for name, count in parts.items())})" if parts else ""


def _ratio(ratio: float | None, sources: dict[str, int]) -> str:
    if ratio is not None:
        return f"{ratio:.1f} to 1"
    return "no poll told anything" if sources else "nothing happened yet"
