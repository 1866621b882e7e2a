"""Durations as Go writes them: ``24h``, ``1h30m``, ``2.5s``."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["parse_duration"]

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LIMIT: Final = 2**63 / 1e9  # Go counts nanoseconds in 64 bits: 292 years


def parse_duration(text: str) -> float | None:
    """Seconds, or None when it is no duration or longer than Go's longest."""
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if rest == "0":
        return 0.0
    seconds, position = 0.0, 0
    while match := _PART.match(rest, position):
        seconds += float(match[1]) * _UNITS[match[2]]
        position = match.end()
    if position != len(rest) or not rest or seconds >= _LIMIT:
        return None
    return sign * seconds
