"""The logs of a stack's parts, read from its folder: also of one that has ended.

Promises:
    Following survives the rotation of a file, and a stack that is started again.

Never:
    A secret or a row: nobody writes one there.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from jamestronic_sdk.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PARTS", "follow", "read"]

PARTS: Final = {
    "postgres": ("postgres.log", ""),
    "postgrest": ("postgrest.log", ""),
    "auth": ("supervisor.log", "jamestronic_sdk.local.auth:"),
    "realtime": ("supervisor.log", "jamestronic_sdk.local.realtime:"),
    "gateway": ("supervisor.log", "jamestronic_sdk.local:"),
}
"""The file of each part, and what its lines hold: Auth, Realtime and the gateway run in one process."""

_INTERVAL: Final = 0.2
"""Seconds between two looks; a person who reads does not notice."""


def read(logs: Path, parts: tuple[str, ...], lines: int) -> list[tuple[str, str]]:
    """The last lines of each part.

    Args:
        logs: The folder.
        parts: Which; none = all.
        lines: How many of each at most.

    Returns:
        Part and line, part after part.

    Raises:
        BadRequestError: There is no such part.
    """
    found: list[tuple[str, str]] = []
    for part in _chosen(parts):
        name, marker = PARTS[part]
        last: deque[str] = deque(maxlen=lines)
        path = logs / name
        for old in (path.with_suffix(".old.log"), path):
            if old.exists():
                with old.open(encoding="utf-8", errors="replace") as file:
                    last.extend(line.rstrip("\n") for line in file if marker in line)
        found += [(part, line) for line in last]
    return found


def follow(logs: Path, parts: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """What is written from now on, for ever. Blocks.

    Raises:
        BadRequestError: There is no such part.
    """
    chosen = _chosen(parts)
    files = {PARTS[part][0] for part in chosen}
    places = {name: _size(logs / name) for name in files}
    while True:
        for name in sorted(files):
            path = logs / name
            size = _size(path)
            start = places[name] if size >= places[name] else 0  # shorter: a new file
            if size == start:
                continue
            with path.open("rb") as file:
                file.seek(start)
                content = file.read()
            whole, newline, _ = content.rpartition(b"\n")
            places[name] = start + len(whole) + len(newline)
            for line in whole.decode("utf-8", "replace").split("\n") if newline else ():
                for part in chosen:
                    if PARTS[part][0] == name and PARTS[part][1] in line:
                        yield part, line
        time.sleep(_INTERVAL)


def _chosen(parts: tuple[str, ...]) -> tuple[str, ...]:
    unknown = set(parts) - PARTS.keys()
    if unknown:
        raise BadRequestError(
            f"There is no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}."
        )
    return parts or tuple(PARTS)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
