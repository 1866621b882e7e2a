"""How commits become batches."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jamestronic_sdk.errors import DataError
from jamestronic_sdk.local.realtime import pgoutput
from jamestronic_sdk.local.realtime.replication import Collector

TABLE = pgoutput.Relation(
    1,
    "public",
    "t",
    pgoutput.ReplicaIdentity.DEFAULT,
    (pgoutput.RelationColumn("id", 23, -1, is_identity=True),),
)
EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
COMMIT = pgoutput.Commit(0, 0, EARLY)


def begin(xid: int, at: datetime = EARLY) -> pgoutput.Begin:
    return pgoutput.Begin(0, at, xid)


def insert(number: int) -> pgoutput.Insert:
    return pgoutput.Insert(1, (str(number),))


def collected(*messages: pgoutput.Message) -> Collector:
    collector = Collector()
    for message in (TABLE, *messages):
        collector.add(message)
        assert collector.take(is_waiting=False) is None
    return collector


def test_commits_that_arrived_together_are_one_batch() -> None:
    """In order, each change with the time of its own commit, and with all transactions that are waited for."""
    collector = collected(begin(7), insert(1), insert(2), COMMIT, begin(8, LATE), insert(3), COMMIT)
    batch = collector.take(is_waiting=True)

    assert batch is not None
    assert [(change.message, change.committed_at) for change in batch.changes] == [
        (insert(1), EARLY),
        (insert(2), EARLY),
        (insert(3), LATE),
    ]
    assert batch.xids == {7, 8}
    assert collector.take(is_waiting=True) is None


def test_a_transaction_is_not_torn_because_the_rest_of_it_is_late() -> None:
    """What else has arrived waits with it."""
    collector = collected(begin(7), insert(1), COMMIT, begin(8), insert(2))
    assert collector.take(is_waiting=True) is None
    collector.add(COMMIT)
    batch = collector.take(is_waiting=True)

    assert batch is not None
    assert len(batch.changes) == 2


def test_a_large_transaction_comes_in_several_batches() -> None:
    """So that memory stays bounded; each names the transaction."""
    collector = collected(begin(7))
    sizes: list[int] = []
    for number in range(1200):
        collector.add(insert(number))
        batch = collector.take(is_waiting=False)
        if batch is not None:
            sizes.append(len(batch.changes))
            assert batch.xids == {7}
    collector.add(COMMIT)
    rest = collector.take(is_waiting=True)

    assert sizes == [500, 500]
    assert rest is not None
    assert (len(rest.changes), rest.xids) == (200, {7})


def test_a_change_of_an_unknown_table_is_an_error() -> None:
    """The stream begins anew, rather than hiding it."""
    collector = Collector()
    collector.add(begin(7))
    with pytest.raises(DataError):
        collector.add(insert(1))
