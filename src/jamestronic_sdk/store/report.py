"""What a store's metrics say, for people and as JSON.

Promises:
    Pure. A counter that this page does not know is shown under its own name.

Never:
    No ticket contents: there are none in the metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, cast

from jamestronic_sdk.store.events import Source
from jamestronic_sdk.store.metrics import LatencySummary

if TYPE_CHECKING:
    from jamestronic_sdk.store.metrics import StoreMetrics

__all__ = ["figures", "report"]

_COUNTERS: Final = {
    "reads": "reads of the view",
    "read_failures": "reads that failed",
    "lookups": "tickets looked up",
    "gaps": "gaps in Realtime, each closed by a read",
    "drift": "differences that a check against the database found",
    "feed_losses": "connections lost",
    "reconnects": "connections made anew",
    "stale": "messages older than what was known",
    "duplicates": "messages that came twice",
}
"""Shown also while they are zero, in this order; what is counted besides follows."""


def figures(metrics: StoreMetrics) -> dict[str, Any]:
    """The metrics as JSON: ``events``, ``sources``, ``realtime_to_poll``, ``counts``, ``latencies``.

    ``realtime_to_poll`` is None while no poll told anything. Latencies are seconds; further groups of
    summaries stand beside them under their own names.
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
        **_groups(metrics),
    }


def report(metrics: StoreMetrics) -> str:
    """The metrics as plain text, some 20 lines without a line end at the end."""
    found = figures(metrics)
    sources: dict[str, int] = found["sources"]
    lines = [f"Events: {sum(sources.values())}{_split(sources)}"]
    lines += [f"  {kind:18} {sum(per.values()):>6}{_split(per)}" for kind, per in found["events"].items()]
    lines += ["", f"Realtime to poll: {_ratio(found['realtime_to_poll'], sources)}"]
    for group, summaries in _groups(metrics).items():
        lines += ["", f"{group.replace('_', ' ').capitalize()} in seconds:"]
        lines += [_line(name, summary) for name, summary in summaries.items()]
        if not summaries:
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
    for name, value in _public(metrics):
        if isinstance(value, int | float) and not isinstance(value, bool):
            counts.setdefault(name, value)
    return counts


def _groups(metrics: StoreMetrics) -> dict[str, dict[str, dict[str, int | float]]]:
    """Every group of summaries, ``latencies`` first."""
    groups = {"latencies": _summaries(metrics.latencies)}
    for name, value in _public(metrics):
        if isinstance(value, Mapping):
            found = _summaries(cast("Mapping[object, object]", value))
            if found:
                groups.setdefault(name, found)
    return groups


def _summaries(group: Mapping[Any, object]) -> dict[str, dict[str, int | float]]:
    return {
        str(name): asdict(summary)
        for name, summary in sorted(group.items(), key=lambda item: str(item[0]))
        if isinstance(summary, LatencySummary)
    }


def _public(metrics: StoreMetrics) -> list[tuple[str, object]]:
    """What the metrics have besides, by name: a figure that was added later is shown without this page."""
    return [(name, getattr(metrics, name)) for name in sorted(dir(metrics)) if not name.startswith("_")]


def _line(name: str, summary: dict[str, int | float]) -> str:
    values = "  ".join(f"{part} {value:.3f}" for part, value in summary.items() if part != "count")
    return f"  {name:18} {summary['count']:>6}  {values}"


def _split(parts: dict[str, int]) -> str:
    return f"  ({', '.join(f'{name} {count}' for name, count in parts.items())})" if parts else ""


def _ratio(ratio: float | None, sources: dict[str, int]) -> str:
    if ratio is not None:
        return f"{ratio:.1f} to 1"
    return "no poll told anything" if sources else "nothing happened yet"
