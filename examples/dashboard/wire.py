"""What goes to the browser: plain JSON, and only what a page shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from jamestronic_sdk import Me, Profile, Ticket, TicketEvent

Json: TypeAlias = dict[str, Any]

_COLUMNS = (
    "number",
    "label",
    "version",
    "title",
    "description",
    "appliance_type",
    "appliance_brand",
    "appliance_model",
    "pickup_address",
    "delivery_address",
)


def message(name: str, data: Json) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def ticket(row: Ticket) -> Json:
    """A ticket, with ids for people: the page knows their names."""
    return {
        "id": str(row.id),
        **{name: getattr(row, name) for name in _COLUMNS},
        "status": str(row.status),
        "priority": str(row.priority),
        "customer": _text(row.customer_id),
        "technician": _text(row.assigned_technician_id),
        "transporter": _text(row.assigned_transporter_id),
        "scheduled_at": _moment(row.scheduled_at),
        "created_at": _moment(row.created_at),
        "updated_at": _moment(row.updated_at),
    }


def event(happened: TicketEvent) -> Json:
    """What happened to a ticket, how it was learned, and how fast."""
    return {
        "name": type(happened).__name__.removeprefix("Ticket").lower(),
        "id": str(happened.ticket.id),
        "label": happened.ticket.label,
        "title": happened.ticket.title,
        "version": happened.ticket.version,
        "status": str(happened.ticket.status),
        "technician": _text(happened.ticket.assigned_technician_id),
        "changes": sorted(happened.changes),
        "at": _moment(happened.observed_at),
        "source": str(happened.source),
        "latency": happened.latency,
    }


def person(profile: Profile) -> Json:
    """Somebody whom the signed-in person may see."""
    return {"id": str(profile.id), "name": profile.full_name, "role": str(profile.role)}


def people(profiles: Iterable[Profile]) -> dict[str, Json]:
    """People by id."""
    return {str(profile.id): person(profile) for profile in profiles}


def me(signed_in: Me) -> Json:
    """Who looks."""
    return person(signed_in.profile)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _moment(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
