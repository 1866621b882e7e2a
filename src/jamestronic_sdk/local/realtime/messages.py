"""Rows of ``realtime.messages``: from the log, to be broadcast, and from the table, to be replayed.

Promises:
    The payload is the database's text: nothing is parsed, numbers keep all their digits.
    Order: as committed; a replay comes oldest first.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psycopg

from jamestronic_sdk.errors import BadRequestError, ServerError
from jamestronic_sdk.local.realtime import pgoutput
from jamestronic_sdk.local.realtime.protocol import Broadcast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jamestronic_sdk.local.pools import Pool
    from jamestronic_sdk.local.realtime.replication import Batch

__all__ = ["PUBLICATION", "Replay", "StoredMessage", "parse_replay", "read_replay", "stored_messages"]

_log = logging.getLogger("jamestronic_sdk.local.realtime")

PUBLICATION: Final = "supabase_realtime_messages_publication"

_REPLAY_LIMIT: Final = 25
"""Messages; hosted: the same, as the default and as the most."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A row that is to be broadcast."""

    id: str
    topic: str
    """Without ``realtime:``."""
    is_private: bool
    broadcast: Broadcast


def stored_messages(batch: Batch) -> Iterator[StoredMessage]:
    """What the batch inserted, in order; rows without event, privacy or payload are dropped."""
    for change in batch.changes:
        if isinstance(change.message, pgoutput.Insert):
            names = (column.name for column in change.relation.columns)
            row = dict(zip(names, change.message.new, strict=True))
            message = _stored(row)
            if message is None:
                _log.warning("dropped a row of realtime.messages without event, private or payload")
            else:
                yield message


def _stored(row: Mapping[str, pgoutput.Value]) -> StoredMessage | None:
    key, topic, event, private = (row.get(name) for name in ("id", "topic", "event", "private"))
    if not (isinstance(key, str) and isinstance(topic, str) and isinstance(event, str)):
        return None
    binary, text = row.get("binary_payload"), row.get("payload")
    if isinstance(binary, str):
        payload, is_json = bytes.fromhex(binary.removeprefix("\\x")), False
    elif isinstance(text, str):
        payload, is_json = text.encode(), True
    else:
        return None
    if not isinstance(private, str):
        return None
    metadata = json.dumps({"id": key}, separators=(",", ":"))
    return StoredMessage(key, topic, private == "t", Broadcast(event, payload, is_json, metadata))


@dataclass(frozen=True, slots=True)
class Replay:
    """``config.broadcast.replay``."""

    since: datetime
    """Naive, UTC, as ``inserted_at`` is."""
    limit: int


def parse_replay(config: Mapping[str, Any]) -> Replay:
    """The parameters of a join.

    Args:
        config: ``since`` in Unix milliseconds; ``limit`` from 1 to 25, others are brought into that range.

    Raises:
        BadRequestError: One of them is no integer, or no moment.
    """
    since, limit = config.get("since"), config.get("limit")
    limit = _REPLAY_LIMIT if limit is None else limit
    if not isinstance(since, int) or not isinstance(limit, int):
        raise BadRequestError("Replay params are not valid", code="UnableToReplayMessages")
    try:
        moment = datetime.fromtimestamp(since / 1000, UTC).replace(tzinfo=None)
    except (ValueError, OverflowError, OSError) as error:
        raise BadRequestError("Replay params are not valid", code="UnableToReplayMessages") from error
    return Replay(moment, max(1, min(limit, _REPLAY_LIMIT)))


# Not the days ahead: their partitions are empty. A minute, because clocks differ.
_REPLAY: Final[LiteralString] = """
select id::text, event, payload::text, binary_payload
  from realtime.messages
 where topic = %s and private is true and extension = 'broadcast' and event is not null
   and inserted_at >= %s and inserted_at < (now() at time zone 'utc') + interval '1 minute'
 order by inserted_at desc
 limit %s
"""


async def read_replay(pool: Pool, topic: str, replay: Replay) -> Sequence[StoredMessage]:
    """The newest private broadcasts of a topic, oldest first.

    Raises:
        ServerError: The database is away.
    """
    try:
        async with pool.connection() as connection:
            cursor = await connection.execute(_REPLAY, (topic, replay.since, replay.limit))
            rows: list[tuple[Any, ...]] = await cursor.fetchall()
    except psycopg.Error as error:
        raise ServerError("Realtime was unable to replay messages", code="UnableToReplayMessages") from error
    found: list[StoredMessage] = []
    for key, event, text, binary in reversed(rows):
        metadata = json.dumps({"id": key, "replayed": True}, separators=(",", ":"))
        payload = bytes(binary) if binary is not None else (text or "null").encode()
        found.append(StoredMessage(key, topic, True, Broadcast(event, payload, binary is None, metadata)))
    return found
