"""The judge bites: each thing that a store must not do is seen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.builders import ALICE, make_ticket
from tests.chaos.replay import Replay

from jamestronic_sdk import (
    Source,
    Ticket,
    TicketAssigned,
    TicketEvent,
    TicketUnassigned,
    TicketUpdated,
    View,
)

NOW = datetime(2026, 11, 22, tzinfo=UTC)
MINE = make_ticket(1, version=2, assigned_technician_id=ALICE)
NEWER = make_ticket(1, version=3, assigned_technician_id=ALICE, title="Another title")
GONE = make_ticket(1, version=4)


def told(kind: type[TicketEvent], ticket: Ticket, previous: Ticket | None, **more: Any) -> TicketEvent:
    return kind(ticket=ticket, previous=previous, source=Source.REALTIME, observed_at=NOW, **more)


ASSIGNED = told(TicketAssigned, MINE, None)
UPDATED = told(TicketUpdated, NEWER, MINE)
LEFT = told(TicketUnassigned, GONE, NEWER, is_in_view=False)


@pytest.mark.parametrize(
    ("events", "missed", "repeated"),
    [
        pytest.param([ASSIGNED, UPDATED, LEFT], 0, 0, id="the truth"),
        pytest.param([ASSIGNED, LEFT], 1, 0, id="one was left out"),
        pytest.param([UPDATED], 1, 0, id="the first was left out"),
        pytest.param([ASSIGNED, ASSIGNED], 0, 1, id="told twice"),
        pytest.param([ASSIGNED, UPDATED, ASSIGNED], 0, 1, id="an older row"),
        pytest.param([ASSIGNED, UPDATED, LEFT, LEFT], 0, 1, id="left twice"),
        pytest.param(
            [ASSIGNED, told(TicketAssigned, NEWER, MINE)], 0, 1, id="assigned twice without leaving"
        ),
    ],
)
def test_replay(events: list[TicketEvent], missed: int, repeated: int) -> None:
    replay = Replay(View.technician(ALICE), {})
    replay.play(events)
    assert (len(replay.missed), len(replay.repeated)) == (missed, repeated)


def test_differences_are_missing_left_over_and_unequal_fields() -> None:
    other = make_ticket(2)
    replay = Replay(View.overview(), {MINE.id: MINE, other.id: other})
    third = make_ticket(3)
    same_version = MINE.model_copy(update={"title": "Another title"})
    assert replay.differences({MINE.id: MINE, other.id: other}) == []
    assert len(replay.differences({MINE.id: same_version, third.id: third})) == 3
