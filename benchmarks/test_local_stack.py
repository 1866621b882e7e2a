"""How long a local stack takes to start, to start again and to reset, and what it costs while nobody asks.

Wall-clock numbers are of the machine that ran it; the bounds are those that the documentation promises, and
the best of some runs is compared with them.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from jamestronic_sdk.local import control
from jamestronic_sdk.local.seed import seed
from jamestronic_sdk.local.stack import LocalSupabase

if TYPE_CHECKING:
    from collections.abc import Iterator

NEW, EXISTING, RESET = 3.0, 2.0, 0.1
RUNS = 3
IDLE = 10.0
"""Seconds of watching."""


@pytest.fixture
def parent() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="jamestronic-bench-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


async def seconds_to_ready(folder: Path | None) -> float:
    began = time.perf_counter()
    async with LocalSupabase(folder, port=0):
        return time.perf_counter() - began


def told(name: str, seconds: list[float]) -> float:
    print(
        f"{name:28} best {min(seconds):.3f} s, median {statistics.median(seconds):.3f} s, {len(seconds)} runs"
    )
    return min(seconds)


async def test_start(parent: Path) -> None:
    print()
    ephemeral = [await seconds_to_ready(None) for _ in range(RUNS)]
    new = [await seconds_to_ready(parent / str(number)) for number in range(RUNS)]
    existing = [await seconds_to_ready(parent / "0") for _ in range(RUNS)]
    assert told("start, ephemeral", ephemeral) < NEW
    assert told("start, new data directory", new) < NEW
    assert told("start, existing data", existing) < EXISTING


async def test_reset() -> None:
    print()
    async with LocalSupabase(port=0) as stack:
        seconds = []
        for _ in range(10):
            await seed(stack.url, stack.service_role_key)
            began = time.perf_counter()
            assert await stack.reset()
            seconds.append(time.perf_counter() - began)
        assert told("reset, rows", seconds) < RESET


def test_idle(parent: Path) -> None:
    """Memory that it has for itself (PSS counts shared pages in parts), and processor time."""
    folder = parent / "data"
    control.start_detached(folder, control.Options(0))
    try:
        status = control.status(folder)
        assert status is not None
        supervisor = psutil.Process(status.pid)
        times = {each: each.cpu_times() for each in (supervisor, *supervisor.children(recursive=True))}
        time.sleep(IDLE)
        everybody = [each for each in times if each.is_running()]  # servers of connections come and go
        share = 0.0
        for each in everybody:
            now = each.cpu_times()
            share += (now.user + now.system - times[each].user - times[each].system) / IDLE
        print()
        total = 0
        for name in ("python", "postgres", "postgrest"):
            mine = [each for each in everybody if each.name().rstrip("0123456789.") == name]
            size = sum(each.memory_full_info().pss for each in mine)
            total += size
            print(f"idle, {name:22} {len(mine)} processes, {size / 2**20:.0f} MiB")
        print(f"idle, all                    {total / 2**20:.0f} MiB, {share:.1%} of one core")
        assert share < 0.2
    finally:
        control.stop(folder)


def test_detached_command(parent: Path) -> None:
    """With Python's own start and all imports, as a person waits for it."""
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        control.start_detached(parent / "data", control.Options(0))
        seconds.append(time.perf_counter() - began)
        control.stop(parent / "data")
    print()
    told("local start --detach", seconds)
