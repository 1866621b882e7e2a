"""The decoder of pgoutput, against bytes written by hand after the protocol's documentation."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest

from jamestronic_sdk.errors import DataError
from jamestronic_sdk.local.realtime import pgoutput
from jamestronic_sdk.local.realtime.pgoutput import UNCHANGED, ReplicaIdentity

MOMENT = datetime(2026, 3, 1, 10, 34, 56, 789_123, tzinfo=UTC)
MICROSECONDS = 825_676_496_789_123


def text(value: str) -> bytes:
    data = value.encode()
    return b"t" + struct.pack("!I", len(data)) + data


def row(*values: bytes) -> bytes:
    return struct.pack("!H", len(values)) + b"".join(values)


def test_begin_and_commit() -> None:
    """Transactions carry their commit time in UTC."""
    assert pgoutput.decode(b"B" + struct.pack("!QqI", 77, MICROSECONDS, 5)) == pgoutput.Begin(77, MOMENT, 5)
    assert pgoutput.decode(b"C" + struct.pack("!BQQq", 0, 77, 99, MICROSECONDS)) == pgoutput.Commit(
        77, 99, MOMENT
    )


def test_relation() -> None:
    """A relation names its columns, their types and the replica identity."""
    data = (
        b"R"
        + struct.pack("!I", 16_400)
        + b"public\0orders\0d"
        + struct.pack("!H", 2)
        + struct.pack("!B", 1)
        + b"id\0"
        + struct.pack("!Ii", 20, -1)
        + struct.pack("!B", 0)
        + b"code\0"
        + struct.pack("!Ii", 1042, 8)
    )
    assert pgoutput.decode(data) == pgoutput.Relation(
        16_400,
        "public",
        "orders",
        ReplicaIdentity.DEFAULT,
        (
            pgoutput.RelationColumn("id", 20, -1, is_identity=True),
            pgoutput.RelationColumn("code", 1042, 8, is_identity=False),
        ),
    )


def test_an_empty_namespace_is_pg_catalog() -> None:
    """The protocol leaves the namespace of system tables empty."""
    data = b"R" + struct.pack("!I", 1) + b"\0x\0n" + struct.pack("!H", 0)
    assert pgoutput.decode(data) == pgoutput.Relation(1, "pg_catalog", "x", ReplicaIdentity.NOTHING, ())


def test_insert() -> None:
    """A null is None, a text is a string, also one that is not ASCII."""
    data = b"I" + struct.pack("!I", 7) + b"N" + row(text("1"), b"n", text("Žižkov"))
    assert pgoutput.decode(data) == pgoutput.Insert(7, ("1", None, "Žižkov"))


def test_update_without_an_old_row() -> None:
    """An untouched value that is stored out of line is marked."""
    data = b"U" + struct.pack("!I", 7) + b"N" + row(text("1"), b"u")
    assert pgoutput.decode(data) == pgoutput.Update(7, ("1", UNCHANGED), None)


@pytest.mark.parametrize("kind", [b"K", b"O"])
def test_update_with_an_old_row(kind: bytes) -> None:
    """The old key and the old row come before the new one."""
    data = b"U" + struct.pack("!I", 7) + kind + row(text("1"), b"n") + b"N" + row(text("2"), text(""))
    assert pgoutput.decode(data) == pgoutput.Update(7, ("2", ""), ("1", None))


@pytest.mark.parametrize("kind", [b"K", b"O"])
def test_delete(kind: bytes) -> None:
    """A delete has an old row only."""
    data = b"D" + struct.pack("!I", 7) + kind + row(text("1"), b"n")
    assert pgoutput.decode(data) == pgoutput.Delete(7, ("1", None))


def test_truncate_type_origin_message() -> None:
    """The kinds that Realtime does not deliver are read all the same."""
    assert pgoutput.decode(b"T" + struct.pack("!IBII", 2, 3, 7, 8)) == pgoutput.Truncate(
        (7, 8), is_cascade=True, restarts_identity=True
    )
    assert pgoutput.decode(b"Y" + struct.pack("!I", 9) + b"public\0mood\0") == pgoutput.Type(
        9, "public", "mood"
    )
    assert pgoutput.decode(b"O" + struct.pack("!Q", 9) + b"elsewhere\0") == pgoutput.Origin(9, "elsewhere")
    assert pgoutput.decode(b"M" + struct.pack("!BQ", 1, 9) + b"p\0" + struct.pack("!I", 2) + b"hi") == (
        pgoutput.LogicalMessage(is_transactional=True, lsn=9, prefix="p", content=b"hi")
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"?",
        b"B\0\0",
        b"I" + struct.pack("!I", 7) + b"X",
        b"I" + struct.pack("!I", 7) + b"N" + struct.pack("!H", 1) + b"z",
        b"I" + struct.pack("!I", 7) + b"N" + struct.pack("!H", 1) + b"t" + struct.pack("!I", 9) + b"short",
        b"I" + struct.pack("!I", 7) + b"N" + struct.pack("!H", 1) + b"t" + struct.pack("!I", 1) + b"\xff",
        b"Y" + struct.pack("!I", 9) + b"no end",
        b"R" + struct.pack("!I", 1) + b"\0x\0?" + struct.pack("!H", 0),
    ],
)
def test_what_does_not_fit_the_protocol_raises(data: bytes) -> None:
    """Never a guess."""
    with pytest.raises(DataError):
        pgoutput.decode(data)
