"""After every fault each store equals the database, has told every edge once, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.chaos.conftest import Row
from tests.chaos.desk import nothing_left, open_desk, until
from tests.chaos.faults import FAULTS, Chaos

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.chaos.crew import Crew

WRITERS = 2
PAUSE = 0.04
"""Longest pause of a writer, in seconds: some 80 changes a second in all."""
NOTICE = 8.0
"""Seconds in which all stores must notice; a half-open socket takes 2: (15 + 5) in the clients' time."""


@pytest.mark.usefixtures("quick_handshakes")
@pytest.mark.parametrize("chaos", FAULTS, ids=lambda chaos: chaos.name.replace(" ", "-"))
async def test_the_stores_survive(
    crew: Crew, chaos: Chaos, rng: random.Random, hold: float, record: Callable[[Row], None]
) -> None:
    async with nothing_left(crew):
        async with open_desk(crew, rng) as desk:
            desk.write(WRITERS, pause=PAUSE)
            assert await until(lambda: desk.operations > 2)
            for watch in desk.watches:
                watch.arm()
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(max(chaos.hold, hold)))
                noticing = group.create_task(desk.all_notice(NOTICE if chaos.is_noticed else chaos.hold))
                await chaos.inject(desk)
            assert noticing.result() is not None or not chaos.is_noticed, "not every store noticed"
            await chaos.heal(desk)
            recovered_after = await desk.all_recover()
            invented = await desk.invented()
        missed = [line for watch in desk.watches for line in watch.replay.missed]
        repeated = [line for watch in desk.watches for line in watch.replay.repeated]
        record(
            Row(
                chaos.name,
                len(desk.watches),
                desk.operations,
                noticing.result(),
                recovered_after,
                sum(watch.replay.events for watch in desk.watches),
                len(missed),
                len(repeated),
            )
        )
        assert (missed, repeated, invented) == ([], [], [])
        assert desk.operations > 0
