"""The messages of PostgreSQL's ``pgoutput`` plug-in, protocol version 1, from bytes to dataclasses.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html

Promises:
    Pure: no I/O, no clock, no state. One call decodes one message.

Never:
    Guesses: a message that is cut short, or of a kind that version 1 does not have, raises ``DataError``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, Literal, TypeAlias

from jamestronic_sdk.errors import DataError

__all__ = [
    "UNCHANGED",
    "Begin",
    "Commit",
    "Delete",
    "Insert",
    "LogicalMessage",
    "Message",
    "Origin",
    "Relation",
    "RelationColumn",
    "ReplicaIdentity",
    "Truncate",
    "Tuple",
    "Type",
    "Unchanged",
    "Update",
    "Value",
    "decode",
    "moment",
]

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""PostgreSQL counts microseconds from here."""


class Unchanged(Enum):
    """The type of ``UNCHANGED``."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
"""A value stored out of line that the update did not touch: the log does not have it."""

Value: TypeAlias = str | Literal[Unchanged.UNCHANGED] | None
Tuple: TypeAlias = tuple[Value, ...]
"""One value per column of the relation, in its order: text output, None for null, or ``UNCHANGED``."""


class ReplicaIdentity(Enum):
    """``pg_class.relreplident``: what the log keeps of a row's old image."""

    DEFAULT = "d"
    NOTHING = "n"
    FULL = "f"
    INDEX = "i"


@dataclass(frozen=True, slots=True)
class Begin:
    """A committed transaction starts."""

    final_lsn: int
    committed_at: datetime
    """Commit time, aware, UTC."""
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The transaction of the last ``Begin`` is complete."""

    lsn: int
    end_lsn: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Origin:
    """The transaction came from another server."""

    lsn: int
    name: str


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A published column of a relation."""

    name: str
    type_oid: int
    type_modifier: int
    is_identity: bool
    """Part of the replica identity; all columns are with ``FULL``."""


@dataclass(frozen=True, slots=True)
class Relation:
    """The shape of a table; sent before its first change and after each change of the shape."""

    oid: int
    schema: str
    table: str
    replica_identity: ReplicaIdentity
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """The name of a type that is not built in."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Insert:
    """A row was inserted."""

    relation_oid: int
    new: Tuple


@dataclass(frozen=True, slots=True)
class Update:
    """A row was updated."""

    relation_oid: int
    new: Tuple
    old: Tuple | None
    """The whole old row with ``FULL``; the old key if it changed (other columns None); else None."""


@dataclass(frozen=True, slots=True)
class Delete:
    """A row was deleted."""

    relation_oid: int
    old: Tuple
    """The whole row with ``FULL``, else only the key, other columns None."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Tables were truncated."""

    relation_oids: tuple[int, ...]
    is_cascade: bool
    restarts_identity: bool


@dataclass(frozen=True, slots=True)
class LogicalMessage:
    """What ``pg_logical_emit_message`` wrote; only sent when asked for."""

    is_transactional: bool
    lsn: int
    prefix: str
    content: bytes


Message: TypeAlias = (
    Begin | Commit | Origin | Relation | Type | Insert | Update | Delete | Truncate | LogicalMessage
)


def moment(microseconds: int) -> datetime:
    """An aware UTC moment from microseconds since 2000-01-01."""
    return _EPOCH + timedelta(microseconds=microseconds)


class _Reader:
    """A cursor over one message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        if size < 0 or self._at + size > len(self._data):
            raise DataError("A pgoutput message is cut short.")
        start, self._at = self._at, self._at + size
        return self._data[start : self._at]

    def uint8(self) -> int:
        return self.take(1)[0]

    def uint16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def uint64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def int64(self) -> int:
        return int.from_bytes(self.take(8), "big", signed=True)

    def char(self) -> str:
        return self.take(1).decode("latin-1")

    def string(self) -> str:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise DataError("A pgoutput message is cut short.")
        text = self._data[self._at : end].decode()
        self._at = end + 1
        return text

    def tuple(self) -> Tuple:
        return tuple(self._value() for _ in range(self.uint16()))

    def _value(self) -> Value:
        match self.char():
            case "n":
                return None
            case "u":
                return UNCHANGED
            case "t":
                return self.take(self.uint32()).decode()
            case kind:
                raise DataError(f"A pgoutput column has the unknown kind {kind!r}.")


def decode(data: bytes) -> Message:
    """One message of the stream, without the ``XLogData`` header around it.

    Raises:
        DataError: The bytes are no message of protocol version 1.
    """
    reader = _Reader(data)
    try:
        return _decode(reader)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError("A pgoutput message does not fit the protocol.") from error


def _decode(reader: _Reader) -> Message:  # noqa: C901, PLR0911 - one arm per message kind
    match reader.char():
        case "B":
            return Begin(reader.uint64(), moment(reader.int64()), reader.uint32())
        case "C":
            reader.uint8()  # flags, none defined
            return Commit(reader.uint64(), reader.uint64(), moment(reader.int64()))
        case "O":
            return Origin(reader.uint64(), reader.string())
        case "R":
            return _relation(reader)
        case "Y":
            return Type(reader.uint32(), reader.string(), reader.string())
        case "I":
            oid = reader.uint32()
            _expect(reader, "N")
            return Insert(oid, reader.tuple())
        case "U":
            return _update(reader)
        case "D":
            oid = reader.uint32()
            _expect(reader, "KO")
            return Delete(oid, reader.tuple())
        case "T":
            count, options = reader.uint32(), reader.uint8()
            oids = tuple(reader.uint32() for _ in range(count))
            return Truncate(oids, bool(options & 1), bool(options & 2))
        case "M":
            flags, lsn, prefix = reader.uint8(), reader.uint64(), reader.string()
            return LogicalMessage(bool(flags & 1), lsn, prefix, reader.take(reader.uint32()))
        case kind:
            raise DataError(f"pgoutput sent a message of the unknown kind {kind!r}.")


def _expect(reader: _Reader, kinds: str) -> str:
    kind = reader.char()
    if kind not in kinds:
        raise DataError(f"A pgoutput message has the tuple kind {kind!r}, expected one of {kinds!r}.")
    return kind


def _relation(reader: _Reader) -> Relation:
    oid, schema, table = reader.uint32(), reader.string(), reader.string()
    identity = ReplicaIdentity(reader.char())
    columns: list[RelationColumn] = []
    for _ in range(reader.uint16()):
        flags, name = reader.uint8(), reader.string()
        columns.append(RelationColumn(name, reader.uint32(), reader.int32(), bool(flags & 1)))
    # An empty namespace means pg_catalog.
    return Relation(oid, schema or "pg_catalog", table, identity, tuple(columns))


def _update(reader: _Reader) -> Update:
    oid = reader.uint32()
    old: Tuple | None = None
    if _expect(reader, "KON") != "N":
        old = reader.tuple()
        _expect(reader, "N")
    return Update(oid, reader.tuple(), old)
