"""What a slow reader is told: the coalescing table, and that replaying it gives the same view."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.builders import ALICE, BOB, EPOCH, make_ticket

from jamestronic_sdk.models import Ticket
from jamestronic_sdk.store.classify import changes_between, classify
from jamestronic_sdk.store.coalesce import coalesce
from jamestronic_sdk.store.events import (
    Source,
    TicketAssigned,
    TicketEvent,
    TicketUnassigned,
    TicketUpdated,
)
from jamestronic_sdk.store.streams import EventStream
from jamestronic_sdk.store.views import View

VIEW = View.technician(ALICE)


def told(before: Ticket | None, row: Ticket, view: View = VIEW) -> TicketEvent | None:
    """The event of a transition to this row."""
    after = row if view.contains(row) else None
    kind = classify(before, after, view)
    if kind is None:
        return None
    return kind(
        ticket=row,
        previous=before,
        source=Source.REALTIME,
        observed_at=EPOCH,
        changes=changes_between(before, row),
        is_in_view=after is not None,
    )


def run(assignees: list[object], view: View = VIEW) -> list[TicketEvent]:
    """The events of one ticket that goes through these hands."""
    events: list[TicketEvent] = []
    held: Ticket | None = None
    for version, assignee in enumerate(assignees, start=1):
        row = make_ticket(version=version, assigned_technician_id=assignee)
        event = told(held, row, view)
        held = row if view.contains(row) else None
        if event is not None:
            events.append(event)
    return events


def fold(events: list[TicketEvent], view: View = VIEW) -> list[TicketEvent]:
    pending: list[TicketEvent] = []
    for event in events:
        pending = coalesce(pending, event, view)
    return pending


def kinds(events: list[TicketEvent]) -> list[type[TicketEvent]]:
    return [type(event) for event in events]


def test_came_then_changed_is_came_with_the_last_row() -> None:
    (event,) = fold(run([ALICE, ALICE]))
    assert isinstance(event, TicketAssigned)
    assert event.ticket.version == 2


def test_came_then_left_is_nothing() -> None:
    assert fold(run([ALICE, BOB])) == []


def test_changed_twice_is_changed_from_the_first_to_the_last() -> None:
    first, *rest = run([ALICE, ALICE, ALICE])
    del first
    (event,) = fold(rest)
    assert isinstance(event, TicketUpdated)
    assert event.previous is not None
    assert (event.previous.version, event.ticket.version) == (1, 3)


def test_changed_then_left_is_left() -> None:
    assert kinds(fold(run([ALICE, ALICE, BOB])[1:])) == [TicketUnassigned]


def test_left_then_came_keeps_both() -> None:
    assert kinds(fold(run([ALICE, BOB, ALICE])[1:])) == [TicketUnassigned, TicketAssigned]


def test_many_leaves_and_returns_stay_two_events() -> None:
    assert kinds(fold(run([ALICE, *[BOB, ALICE] * 20])[1:])) == [TicketUnassigned, TicketAssigned]


@given(
    st.lists(st.sampled_from([ALICE, BOB, None]), max_size=12),
    st.sampled_from([VIEW, View.technician(ALICE, includes_pool=True), View.overview()]),
    st.integers(min_value=0, max_value=12),
)
def test_replaying_merged_events_gives_the_same_view(assignees: list[object], view: View, seen: int) -> None:
    events = run(assignees, view)
    before, missed = events[:seen], events[seen:]
    merged = fold(missed, view)
    assert len(merged) <= 2

    def replay(stream: list[TicketEvent]) -> int | None:
        held: int | None = None
        for event in stream:
            held = event.ticket.version if event.is_in_view else None
        return held

    assert replay(before + missed) == replay(before + merged)


async def test_a_stream_merges_only_while_its_reader_is_slow() -> None:
    stream = EventStream(2, VIEW)
    for event in run([ALICE, ALICE, ALICE, ALICE]):
        stream.put(event)
    assert stream.merged == 3
    only = await anext(stream)
    assert isinstance(only, TicketAssigned)
    assert only.ticket.version == 4
    for event in run([ALICE, ALICE])[1:]:
        stream.put(event)
    assert isinstance(await anext(stream), TicketUpdated)
    stream.end()
    assert [event async for event in stream] == []
