"""What a benchmark prints and keeps: one table, and the same as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "build" / "benchmarks"
"""Where the JSON goes; not part of the repository."""


@dataclass(frozen=True)
class Line:
    """One measured thing."""

    what: str
    measured: float
    unit: str
    limit: float | None
    """At most this; at least this where ``is_minimum``. None: only reported."""
    is_minimum: bool = False

    @property
    def is_met(self) -> bool:
        if self.limit is None:
            return True
        return self.measured >= self.limit if self.is_minimum else self.measured <= self.limit


class Table:
    """Collects lines; ``finish`` prints and writes them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[Line] = []

    def most(self, what: str, measured: float, unit: str, limit: float | None = None) -> None:
        """What should be little."""
        self.lines.append(Line(what, measured, unit, limit))

    def least(self, what: str, measured: float, unit: str, limit: float | None = None) -> None:
        """What should be much."""
        self.lines.append(Line(what, measured, unit, limit, is_minimum=True))

    def finish(self) -> None:
        """Print the table, write ``build/benchmarks/<name>.json``, and fail where a limit is not met."""
        width = max((len(line.what) for line in self.lines), default=0)
        machine = {
            "python": platform.python_version(),
            "platform": sys.platform,
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
        }
        print(f"\n\n{self.name} ({', '.join(f'{name} {value}' for name, value in machine.items())})")
        for line in self.lines:
            wanted = "" if line.limit is None else f"{'>=' if line.is_minimum else '<='} {line.limit:g}"
            mark = "" if line.limit is None else ("ok" if line.is_met else "MISSED")
            print(f"  {line.what:{width}}  {line.measured:>12.4g} {line.unit:<10} {wanted:<10} {mark}")
        FOLDER.mkdir(parents=True, exist_ok=True)
        lines = [{**asdict(line), "is_met": line.is_met} for line in self.lines]
        found = {"name": self.name, "machine": machine, "lines": lines}
        (FOLDER / f"{self.name}.json").write_text(json.dumps(found, indent=2) + "\n")
        missed = [line.what for line in self.lines if not line.is_met]
        assert not missed, f"not met: {missed}"
