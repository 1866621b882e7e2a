"""Measures calls side by side, prints a table of what came out, and writes it as JSON.

Machines differ and are shared, so nothing here is an absolute number: what is compared is run in turns within
one run, and what counts is the ratio of the medians.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

RESULTS = Path(os.environ.get("JAMESTRONIC_BENCH_DIR", "build/benchmarks"))
"""Where the JSON goes; not part of the repository."""


@dataclass(frozen=True)
class Ratio:
    """Two medians of one run, and what their quotient must be."""

    name: str
    ours: float
    """Median seconds."""
    theirs: float
    """Median seconds."""
    rounds: int
    at_most: float | None = None
    """Limit of ours / theirs."""
    at_least: float | None = None
    """Limit of theirs / ours."""

    @property
    def value(self) -> float:
        """Ours / theirs, or theirs / ours where more is better."""
        return self.ours / self.theirs if self.at_least is None else self.theirs / self.ours

    @property
    def is_met(self) -> bool:
        """Whether the limit is kept; true where there is none."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.at_most is None or self.value <= self.at_most

    @property
    def verdict(self) -> str:
        """Whether the limit is kept, in words; empty where there is none."""
        return "" if not self.target else "met" if self.is_met else "NOT MET"

    @property
    def target(self) -> str:
        """The limit in words."""
        if self.at_least is not None:
            return f">= {self.at_least:g}x as fast"
        return "" if self.at_most is None else f"<= {self.at_most:g} of theirs"


@dataclass
class Report:
    """The results of one benchmark file."""

    name: str
    ratios: list[Ratio] = field(default_factory=list)

    def add(self, ratio: Ratio) -> Ratio:
        """Take a result in."""
        self.ratios.append(ratio)
        return ratio

    def finish(self) -> None:
        """Print the table and write the JSON."""
        head = ("what", "ours", "theirs", "ratio", "target", "")
        rows = [
            (one.name, _time(one.ours), _time(one.theirs), f"{one.value:.2f}", one.target, one.verdict)
            for one in self.ratios
        ]  # fmt: skip
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        print()
        for row in (head, tuple("-" * width for width in widths), *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        RESULTS.mkdir(parents=True, exist_ok=True)
        target = RESULTS / f"{self.name}.json"
        found = [{**asdict(one), "ratio": one.value, "is_met": one.is_met} for one in self.ratios]
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
        target.write_text(
            json.dumps({"name": self.name, "machine": machine, "ratios": found}, indent=2) + "\n"
        )


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


async def in_turns(
    calls: Mapping[str, Callable[[], Awaitable[object]]], *, rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each call in each round; the order changes from round to round.

    What a call answers is dropped, and the garbage collected, outside the measured time.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-warm_up, rounds):
        turn = list(calls.items())
        if number % 2:
            turn.reverse()
        for name, call in turn:
            gc.collect() if rounds < 50 else None
            start = time.perf_counter()
            answer = await call()
            seconds = time.perf_counter() - start
            del answer
            if number >= 0:
                taken[name].append(seconds)
    return taken


def median_ratio(name: str, ours: list[float], theirs: list[float], **limit: float) -> Ratio:
    """The result of two lists of one run."""
    return Ratio(name, statistics.median(ours), statistics.median(theirs), len(ours), **limit)
