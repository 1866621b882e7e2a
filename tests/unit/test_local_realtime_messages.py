"""Rows of realtime.messages on their way to a broadcast, and the parameters of a replay."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jamestronic_sdk.errors import BadRequestError
from jamestronic_sdk.local.realtime import messages, pgoutput
from jamestronic_sdk.local.realtime.protocol import Broadcast
from jamestronic_sdk.local.realtime.replication import Batch, RowChange

ROW = {
    "topic": "room",
    "payload": '{"n": 1.50}',
    "event": "e",
    "private": "f",
    "id": "7",
    "binary_payload": None,
}


def stored(**columns: pgoutput.Value) -> list[messages.StoredMessage]:
    row = {**ROW, **columns}
    relation = pgoutput.Relation(
        1,
        "realtime",
        "messages_2026_01_01",
        pgoutput.ReplicaIdentity.DEFAULT,
        tuple(pgoutput.RelationColumn(name, 25, -1, is_identity=False) for name in row),
    )
    change = RowChange(relation, pgoutput.Insert(1, tuple(row.values())), datetime.now(UTC))
    return list(messages.stored_messages(Batch((change,), frozenset({7}))))


def test_a_row() -> None:
    """The payload is the text of the log."""
    broadcast = Broadcast("e", b'{"n": 1.50}', is_json=True, metadata='{"id":"7"}')
    assert stored() == [messages.StoredMessage("7", "room", is_private=False, broadcast=broadcast)]
    assert stored(private="t")[0].is_private


def test_a_row_of_bytes() -> None:
    """The hexadecimal text of a bytea."""
    (message,) = stored(payload=None, binary_payload="\\x00ff")
    assert (message.broadcast.payload, message.broadcast.is_json) == (b"\x00\xff", False)


@pytest.mark.parametrize("column", ["event", "private", "payload"])
def test_rows_without_something(column: str) -> None:
    """Nothing is sent."""
    assert stored(**{column: None}) == []


@pytest.mark.parametrize(("limit", "expected"), [(None, 25), (0, 1), (-3, 1), (25, 25), (26, 25), (7, 7)])
def test_the_limit_of_a_replay(limit: int | None, expected: int) -> None:
    """From 1 to 25, and 25 when nothing is said."""
    config: dict[str, Any] = {"since": 1_767_225_600_500, "limit": limit}
    replay = messages.parse_replay(config)
    assert replay.limit == expected
    assert replay.since == datetime(2026, 1, 1, 0, 0, 0, 500_000)  # noqa: DTZ001 - as in the table


@pytest.mark.parametrize(
    "config",
    [{}, {"since": None}, {"since": 1.5}, {"since": "1"}, {"since": 1, "limit": "x"}, {"since": 10**40}],
)
def test_replays_that_are_not_valid(config: dict[str, Any]) -> None:
    """The hosted text."""
    with pytest.raises(BadRequestError, match=r"^Replay params are not valid$"):
        messages.parse_replay(config)
