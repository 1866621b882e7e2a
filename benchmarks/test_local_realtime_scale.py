"""1,000 Realtime subscribers, 50 changes a second, a minute: who misses one, how late they come, what it costs.

The process that serves has one core to itself where there are two or more; PostgreSQL may use all, and the
crowd has the others. Run with ``-s`` to see the numbers. ``JAMESTRONIC_SCALE_SECONDS`` makes it shorter.
"""

from __future__ import annotations

import os
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from realtime_crowd import everybody_sees_everything

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jamestronic_sdk.local.stack import LocalSupabase

SUBSCRIBERS = 1000
RATE = 50.0
SECONDS = float(os.environ.get("JAMESTRONIC_SCALE_SECONDS", "60"))

LATENCY_LIMIT = 20.0
"""Milliseconds from the commit to the frame, in the middle, for one subscriber on a machine with nothing else to do."""


@contextmanager
def one_core() -> Iterator[set[int]]:
    """This process, which serves, on one core; the others are the crowd's."""
    cores = os.sched_getaffinity(0)
    mine = {min(cores)}
    pin(mine)
    try:
        yield cores - mine or cores
    finally:
        pin(cores)


def pin(cores: set[int]) -> None:
    """All threads of this process: the stack has one of its own."""
    for thread in threading.enumerate():
        if thread.native_id is not None:
            os.sched_setaffinity(thread.native_id, cores)


def report(found: dict[str, Any], *, has_rls: bool, seconds: float) -> None:
    kind = "each with own claims under row level security" if has_rls else "no row level security"
    print(
        f"\n{found['subscribers']} subscribers x {RATE:g} changes/s x {seconds:g} s, {kind}: "
        f"{found['frames']} frames, {found['lost']} lost; commit to frame p50 {found['p50']:.1f} ms, "
        f"p95 {found['p95']:.1f} ms, worst {found['max']:.0f} ms; server {found['cpu']:.0%} of a core, "
        f"{found['memory']} MiB"
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("has_rls", [False, True], ids=["everybody", "row-level-security"])
async def test_a_thousand_subscribers_miss_nothing(local_supabase: LocalSupabase, *, has_rls: bool) -> None:
    """Each gets each change, once, in order."""
    with one_core() as others:
        found = await everybody_sees_everything(
            local_supabase,
            f"scale_{uuid.uuid4().hex[:8]}",
            subscribers=SUBSCRIBERS,
            rate=RATE,
            duration=SECONDS,
            has_rls=has_rls,
            cores=others,
        )
    report(found, has_rls=has_rls, seconds=SECONDS)

    assert (found["lost"], found["complete"], found["in_order"]) == (0, SUBSCRIBERS, True)


@pytest.mark.parametrize("has_rls", [False, True], ids=["everybody", "row-level-security"])
async def test_a_commit_is_a_frame_soon(local_supabase: LocalSupabase, *, has_rls: bool) -> None:
    """For somebody alone: what a program feels."""
    found = await everybody_sees_everything(
        local_supabase,
        f"alone_{uuid.uuid4().hex[:8]}",
        subscribers=1,
        rate=RATE,
        duration=10,
        has_rls=has_rls,
    )
    report(found, has_rls=has_rls, seconds=10)

    assert found["lost"] == 0
    assert found["p50"] <= LATENCY_LIMIT
