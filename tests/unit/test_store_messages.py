"""Realtime messages become inputs of the engine; what is incomplete is asked for, never guessed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.builders import make_ticket, ticket_id

from jamestronic_sdk.realtime.channels import POOL_TOPIC
from jamestronic_sdk.store.messages import decode, decode_broadcast
from jamestronic_sdk.store.protocol import (
    GapFound,
    Input,
    Removal,
    RowChanged,
    RowDeleted,
    RowDoubtful,
    RowLeft,
)

AT = datetime(2026, 11, 1, 9, tzinfo=UTC)
COMMITTED = datetime(2026, 11, 1, 8, 59, 59, 500_000, tzinfo=UTC)
RECORD = make_ticket(7, 3).model_dump(mode="json")
ID = str(ticket_id(7))
COMMIT = {"committed_at": "2026-11-01T08:59:59.5+00:00"}


def message(**facts: Any) -> dict[str, Any]:
    return {
        "schema": "public",
        "table": "tickets",
        "type": "UPDATE",
        "commit_timestamp": "2026-11-01T08:59:59.500Z",
        "columns": [{"name": name, "type": "text"} for name in RECORD],
        "record": RECORD,
        "old_record": {"id": ID},
        "errors": None,
        **facts,
    }


@pytest.mark.parametrize("kind", ["INSERT", "UPDATE"])
def test_a_whole_row_with_its_commit_time(kind: str) -> None:
    assert decode(message(type=kind), AT) == RowChanged(make_ticket(7, 3), AT, COMMITTED)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"type": "DELETE", "record": None}, RowDeleted(ticket_id(7), AT, COMMITTED)),
        ({"type": "DELETE", "old_record": {}}, GapFound()),
        ({"record": {}}, GapFound()),
        ({"record": {**RECORD, "id": "seven"}}, GapFound()),
        ({"record": {"id": ID}, "errors": ["Error 413: Payload Too Large"]}, RowDoubtful(ticket_id(7))),
        ({"record": {key: RECORD[key] for key in RECORD if key != "description"}}, RowDoubtful(ticket_id(7))),
        ({"record": {**RECORD, "version": "a lot"}}, RowDoubtful(ticket_id(7))),
    ],
)
def test_what_is_incomplete_is_asked_for(facts: dict[str, Any], expected: Input) -> None:
    assert decode(message(**facts), AT) == expected


@pytest.mark.parametrize("text", [None, "yesterday"])
def test_a_commit_time_that_can_not_be_read_is_unknown(text: str | None) -> None:
    item = decode(message(commit_timestamp=text), AT)
    assert isinstance(item, RowChanged)
    assert item.committed_at is None


@pytest.mark.parametrize(
    ("event", "payload", "expected"),
    [
        (
            "ticket_changed",
            {"ticket_id": ID, "version": 3, "record": RECORD},
            RowChanged(make_ticket(7, 3), AT),
        ),
        ("ticket_changed", {"ticket_id": ID, "version": 3, "record": {"id": ID}}, RowDoubtful(ticket_id(7))),
        (
            "ticket_left",
            {"ticket_id": ID, "version": 9},
            RowLeft(Removal(ticket_id(7), 9, is_deleted=False), AT),
        ),
        ("ticket_deleted", {"ticket_id": ID, "version": 9}, RowDeleted(ticket_id(7), AT)),
        ("ticket_left", {"ticket_id": "seven", "version": 9}, GapFound()),
        ("ticket_left", {"ticket_id": ID}, GapFound()),
        ("somebody_elses", {}, None),
        (
            "ticket_changed",
            {"ticket_id": ID, "version": 3, "record": RECORD, **COMMIT},
            RowChanged(make_ticket(7, 3), AT, COMMITTED),
        ),
        (
            "ticket_left",
            {"ticket_id": ID, "version": 9, **COMMIT},
            RowLeft(Removal(ticket_id(7), 9, is_deleted=False), AT, COMMITTED),
        ),
        (
            "ticket_deleted",
            {"ticket_id": ID, "version": 9, **COMMIT},
            RowDeleted(ticket_id(7), AT, COMMITTED),
        ),
        (
            "ticket_left",
            {"ticket_id": ID, "version": 9, "committed_at": "yesterday"},
            RowLeft(Removal(ticket_id(7), 9, is_deleted=False), AT),
        ),
    ],
)
def test_messages_of_private_topics(event: str, payload: dict[str, Any], expected: Input | None) -> None:
    assert decode_broadcast(event, payload, AT) == expected


def test_what_left_the_pool_may_be_seen_in_this_very_version_by_who_took_it() -> None:
    """Two topics have no order between them: the row must not be taken for older than its own leave."""
    item = decode_broadcast("ticket_left", {"ticket_id": ID, "version": 9}, AT, topic=POOL_TOPIC)
    assert item == RowLeft(Removal(ticket_id(7), 8, is_deleted=False), AT)
