"""A logical replication stream: what was committed, pushed by PostgreSQL, in whole transactions.

https://www.postgresql.org/docs/current/protocol-replication.html

Promises:
    Push, no polling: a commit is handed on as soon as its bytes arrive, in commit order.
    Commits that arrive while another batch is worked on come together: work on many costs hardly more.
    ``on_live`` is called when the slot exists and the stream runs: nothing is missed until ``on_gap``.
    A lost connection is made again with back-off, for ever; each new slot is a gap and is told as one.

Never:
    A slot that outlives the connection: it is temporary, so nothing holds back WAL after a crash.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import struct
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import psycopg
from psycopg import pq, sql

from jamestronic_sdk.errors import ConnectionFailedError, DataError
from jamestronic_sdk.local.realtime import pgoutput
from jamestronic_sdk.local.realtime._tasks import raise_if_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from psycopg.rows import TupleRow

__all__ = ["Batch", "Collector", "Replication", "RowChange"]

_log = logging.getLogger("jamestronic_sdk.local.realtime")

_STATUS_INTERVAL: Final = 10.0
"""Seconds between standby status messages: the default of ``wal_receiver_status_interval``; the server's
``wal_sender_timeout`` is 60 s."""

_BATCH_LIMIT: Final = 500
"""Changes handed on at once; a larger transaction comes in several batches, so memory stays bounded."""

_BACKOFF_FIRST: Final = 0.05
_BACKOFF_CAP: Final = 2.0
"""Seconds. A local PostgreSQL restarts in about a second; waiting longer than that helps nobody."""

_CONNECT_TIMEOUT: Final = 10.0
"""Seconds for one TCP connection and login on loopback."""

_EPOCH: Final = pgoutput.moment(0)
_MICROSECOND: Final = timedelta(microseconds=1)


RowMessage: TypeAlias = pgoutput.Insert | pgoutput.Update | pgoutput.Delete


@dataclass(frozen=True, slots=True)
class RowChange:
    """One changed row with the shape that its table had when it changed."""

    relation: pgoutput.Relation
    message: RowMessage
    committed_at: datetime
    """Aware, UTC."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes of committed transactions, in order."""

    changes: tuple[RowChange, ...]
    xids: frozenset[int]
    """The transactions, without their epoch."""


class Replication:
    """Runs the stream and calls back.

    Args:
        dsn: libpq URL of a role with REPLICATION, without the ``replication`` parameter.
        publication: Name of the publication to follow.
        slot: What the names of the slots begin with.
        on_live: The stream runs; called once per connection.
        on_gap: The stream was lost; commits from now on are missed until the next ``on_live``.
        on_batch: Takes changes; the stream waits for it. An exception ends the connection: a gap.
    """

    def __init__(
        self,
        dsn: str,
        *,
        publication: str,
        slot: str,
        on_live: Callable[[], Awaitable[None]],
        on_gap: Callable[[], None],
        on_batch: Callable[[Batch], Awaitable[None]],
    ) -> None:
        self._dsn = dsn
        self._publication = publication
        self._slot = slot
        self._on_live = on_live
        self._on_gap = on_gap
        self._on_batch = on_batch

    async def run(self) -> None:
        """Stream until cancelled, which closes the connection and with it the slot."""
        attempt = 0
        while True:
            session = _Session(self._dsn, self._publication, self._slot, self._on_batch)
            was_live = False
            try:
                async with session:
                    was_live = True
                    await self._on_live()
                    raise_if_cancelled()
                    await session.stream()
            except Exception as error:  # noqa: BLE001 - the supervisor: whatever failed, stream again
                attempt = 1 if was_live else attempt + 1
                # The text of a database error may quote rows: only its class and SQLSTATE are logged.
                is_ours = isinstance(error, psycopg.Error | ConnectionFailedError | OSError)
                _log.log(
                    logging.WARNING if attempt == 1 else logging.DEBUG,
                    "replication lost: %s %s",
                    type(error).__name__,
                    getattr(error, "sqlstate", None) or "",
                    exc_info=not is_ours,
                )
            finally:
                if was_live:
                    self._on_gap()
            raise_if_cancelled()  # an error of the cleaning up may have taken the cancellation's place
            ceiling = min(_BACKOFF_CAP, _BACKOFF_FIRST * 2 ** min(attempt, 10))
            await asyncio.sleep(random.uniform(ceiling / 2, ceiling))  # noqa: S311 - jitter


class _Session:
    """One connection, one temporary slot."""

    def __init__(
        self, dsn: str, publication: str, slot: str, on_batch: Callable[[Batch], Awaitable[None]]
    ) -> None:
        self._dsn = dsn
        self._publication = publication
        self._slot = slot
        self._on_batch = on_batch
        self._connection: psycopg.AsyncConnection[TupleRow] | None = None
        self._received_lsn = 0
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Connect, make the slot, start the stream."""
        # psycopg has no replication API, but logs in and runs the commands of the simple protocol.
        connection = await psycopg.AsyncConnection[tuple[object, ...]].connect(
            self._dsn,
            autocommit=True,
            replication="database",
            application_name="realtime",
            connect_timeout=int(_CONNECT_TIMEOUT),
        )
        self._connection = connection
        try:
            raise_if_cancelled()
            # The keywords of this protocol are upper case only.
            slot = sql.Identifier(f"{self._slot}_{secrets.token_hex(4)}")
            await connection.execute(
                sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'nothing')").format(
                    slot
                )
            )
            await self._start(
                connection.pgconn,
                sql.SQL(
                    "START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {})"
                ).format(slot, sql.Literal(f'"{self._publication}"')),
                connection,
            )
        except BaseException:
            await connection.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _start(
        self,
        pgconn: pq.abc.PGconn,
        command: sql.Composed,
        connection: psycopg.AsyncConnection[tuple[object, ...]],
    ) -> None:
        pgconn.send_query(command.as_bytes(connection))
        while pgconn.flush():
            await _wait_writable(pgconn.socket)
        while pgconn.is_busy():
            await _wait_readable(pgconn.socket)
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            raise ConnectionFailedError("PostgreSQL refused to start logical replication.")

    async def stream(self) -> None:
        """Hand on batches until the connection ends, which raises."""
        assert self._connection is not None  # noqa: S101 - set by __aenter__
        pgconn = self._connection.pgconn
        self._report(pgconn)
        try:
            await self._receive(pgconn)
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _answer(self, pgconn: pq.abc.PGconn) -> None:
        """Report before it is time to."""
        if self._timer is not None:
            self._timer.cancel()
        self._report(pgconn)

    def _report(self, pgconn: pq.abc.PGconn) -> None:
        """Tell the server, now and regularly, that we are alive: also while a batch is worked on.

        A timer and no task, because a task that fails beside ``_receive`` would need a TaskGroup here, and
        one whose child failed leaves its parent's count of cancellations raised up to Python 3.12.
        """
        self._timer = asyncio.get_running_loop().call_later(_STATUS_INTERVAL, self._report, pgconn)
        now = (datetime.now(UTC) - _EPOCH) // _MICROSECOND
        lsn = self._received_lsn
        with suppress(psycopg.Error):  # `_receive` meets the same broken connection, and raises
            # Received = flushed = applied: the slot is temporary, nothing is ever asked for again.
            pgconn.put_copy_data(struct.pack("!cQQQqB", b"r", lsn, lsn, lsn, now, 0))
            # 34 bytes; what a full socket does not take now goes with the next message.
            pgconn.flush()

    async def _receive(self, pgconn: pq.abc.PGconn) -> None:
        batches = Collector()
        while True:
            message = self._next(pgconn)
            batch = batches.take(is_waiting=message is None)
            if batch is not None:
                await self._on_batch(batch)
                raise_if_cancelled()
            elif message is None:
                await _wait_readable(pgconn.socket)
                pgconn.consume_input()
            if message is not None:
                batches.add(message)
                if isinstance(message, pgoutput.Commit):
                    self._received_lsn = max(self._received_lsn, message.end_lsn)

    def _next(self, pgconn: pq.abc.PGconn) -> pgoutput.Message | None:
        """The next pgoutput message that has arrived; answers the server's keepalives on the way."""
        while True:
            size, view = pgconn.get_copy_data(1)
            if size == 0:
                return None
            if size < 0:
                raise ConnectionFailedError("PostgreSQL ended the replication stream.")
            data = bytes(view)
            match data[:1]:
                case b"w":
                    # Int64 start, Int64 end, Int64 time, then the message.
                    return pgoutput.decode(data[25:])
                case b"k":
                    end_lsn, _, wants_reply = struct.unpack_from("!QqB", data, 1)
                    self._received_lsn = max(self._received_lsn, end_lsn)
                    if wants_reply:
                        self._answer(pgconn)
                case kind:
                    raise DataError(f"The replication stream has a message of the unknown kind {kind!r}.")


class Collector:
    """Changes on their way into batches."""

    def __init__(self) -> None:
        self._relations: dict[int, pgoutput.Relation] = {}
        self._open: pgoutput.Begin | None = None
        self._changes: list[RowChange] = []
        self._xids: set[int] = set()

    def add(self, message: pgoutput.Message) -> None:
        """The next message of the stream."""
        match message:
            case pgoutput.Begin():
                self._open = message
            case pgoutput.Relation():
                self._relations[message.oid] = message
            case pgoutput.Insert() | pgoutput.Update() | pgoutput.Delete():
                relation = self._relations.get(message.relation_oid)
                if relation is None or self._open is None:
                    raise DataError("pgoutput sent a change of a table that it never described.")
                self._changes.append(RowChange(relation, message, self._open.committed_at))
                self._xids.add(self._open.xid)
            case pgoutput.Commit():
                self._open = None
            case pgoutput.Origin() | pgoutput.Type() | pgoutput.Truncate() | pgoutput.LogicalMessage():
                pass

    def take(self, *, is_waiting: bool) -> Batch | None:
        """A batch, when there are enough changes, or whole transactions and nothing else has arrived."""
        is_due = len(self._changes) >= _BATCH_LIMIT or (is_waiting and self._open is None)
        if not self._changes or not is_due:
            return None
        batch = Batch(tuple(self._changes), frozenset(self._xids))
        self._changes, self._xids = [], set()
        return batch


async def _wait_readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def _wait_writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(fd, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
