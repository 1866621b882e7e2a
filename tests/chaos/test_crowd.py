"""Two technicians and an admin through 5,000 random operations of several writers at speed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from tests.chaos.conftest import Row
from tests.chaos.desk import DEADLINE, TRANSPORTS, nothing_left, open_desk

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.chaos.crew import Crew

OPERATIONS = 5_000
WRITERS = 5


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_5000_operations(
    crew: Crew, rng: random.Random, transport: str, record: Callable[[Row], None]
) -> None:
    async with nothing_left(crew):
        async with open_desk(crew, rng, factor=1.0, transports=(transport,)) as desk:
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for writer in desk.hire_writers(WRITERS):
                    group.create_task(writer.run(OPERATIONS // WRITERS))
            written_after = time.monotonic() - began
            recovered_after = await desk.all_are_right(DEADLINE)
            invented = await desk.invented()
        missed = [line for watch in desk.watches for line in watch.replay.missed]
        repeated = [line for watch in desk.watches for line in watch.replay.repeated]
        record(
            Row(
                f"5,000 operations in {written_after:.0f} s, {transport}",
                len(desk.watches),
                desk.operations,
                None,
                recovered_after,
                sum(watch.replay.events for watch in desk.watches),
                len(missed),
                len(repeated),
            )
        )
        assert (missed, repeated, invented) == ([], [], [])
        assert desk.operations == OPERATIONS
        assert all(not watch.store.metrics.counts["feed_losses"] for watch in desk.watches)
