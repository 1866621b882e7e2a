"""A Realtime message -> an input of the engine; pure.

Facts (Supabase Realtime, ``apply_rls.sql``): a large value that did not change is absent from ``record``, not
null; above 1 MiB only small values remain and ``errors`` says 413; a DELETE shows only the primary key
and goes to every subscriber of the table; ``commit_timestamp`` is null in some error messages.

Promises:
    A message is never guessed at: what is incomplete becomes a question by id, what has no id a gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from jamestronic_sdk.models import Moment, Ticket
from jamestronic_sdk.store.protocol import (
    GapFound,
    Input,
    Removal,
    RowChanged,
    RowDeleted,
    RowDoubtful,
    RowLeft,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["decode", "decode_broadcast"]

_MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)

_POOL_TOPIC = "tickets:pool"
"""As ``realtime.channels.POOL_TOPIC``, which the pure core does not import."""


def decode(data: Mapping[str, Any], received_at: datetime, model: type[Ticket] = Ticket) -> Input:
    """What the engine is told.

    Args:
        data: The ``data`` object of the message.
        received_at: When it arrived (UTC).
        model: The row's class.
    """
    committed_at = _moment(data.get("commit_timestamp"))
    if data.get("type") == "DELETE":
        deleted_id = _id(data.get("old_record"))
        return GapFound() if deleted_id is None else RowDeleted(deleted_id, received_at, committed_at)
    record = data.get("record")
    ticket_id = _id(record)
    if ticket_id is None:
        return GapFound()
    if data.get("errors") or _lacks_columns(data):
        return RowDoubtful(ticket_id)
    try:
        return RowChanged(model.model_validate(record), received_at, committed_at)
    except ValidationError:
        return RowDoubtful(ticket_id)


def decode_broadcast(
    event: str,
    payload: Mapping[str, Any],
    received_at: datetime,
    model: type[Ticket] = Ticket,
    *,
    topic: str = "",
) -> Input | None:
    """What the engine is told of a message of a private topic (``070_broadcast.sql``).

    None for events that are not ours.

    Args:
        event: ``ticket_changed``, ``ticket_left`` or ``ticket_deleted``.
        payload: With ``ticket_id``, ``version`` and ``committed_at``; a change also has ``record``.
        received_at: When it arrived (UTC).
        model: The row's class.
        topic: Where it came; only ``tickets:pool`` makes a difference.
    """
    if event not in {"ticket_changed", "ticket_left", "ticket_deleted"}:
        return None
    ticket_id = _id({"id": payload.get("ticket_id")})
    version = payload.get("version")
    if ticket_id is None or not isinstance(version, int):
        return GapFound()
    committed_at = _moment(payload.get("committed_at"))
    if event == "ticket_deleted":
        return RowDeleted(ticket_id, received_at, committed_at)
    if event == "ticket_left":
        # Out of the pool is not out of sight: who took the ticket sees this very version, told on a topic of
        # its own, which may come later. So only what is older has left.
        last_version = version - 1 if topic == _POOL_TOPIC else version
        return RowLeft(Removal(ticket_id, last_version, is_deleted=False), received_at, committed_at)
    try:
        return RowChanged(model.model_validate(payload.get("record")), received_at, committed_at)
    except ValidationError:
        return RowDoubtful(ticket_id)


def _lacks_columns(data: Mapping[str, Any]) -> bool:
    """Whether the row is shown without a column that the viewer may read: unknown is not null."""
    record: Mapping[str, Any] = data.get("record") or {}
    return any(column["name"] not in record for column in data.get("columns") or ())


def _id(record: Mapping[str, Any] | None) -> UUID | None:
    try:
        return UUID(str((record or {})["id"]))
    except (KeyError, ValueError):
        return None


def _moment(text: str | None) -> datetime | None:
    try:
        return None if text is None else _MOMENT.validate_python(text)
    except ValidationError:
        return None
