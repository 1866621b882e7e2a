"""What goes to the browser: plain JSON, and only what a page shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from jamestronic_sdk import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from jamestronic_sdk import Me, Profile, StoreChange, Ticket, TicketEvent

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


def difference(before: StoreChange, now: StoreChange) -> Json:
    """What makes the one picture the other: rows as they are now, and the ids of those that left."""
    answered_or_begun = before.pending ^ now.pending
    changed = [
        row
        for row in now.tickets.values()
        if row is not before.tickets.get(row.id) or row.id in answered_or_begun
    ]
    return {
        "tickets": list(map(ticket_of(now), changed)),
        "removed": [str(one) for one in before.tickets if one not in now.tickets],
    }


def ticket_of(picture: StoreChange) -> Callable[[Ticket], Json]:
    """Makes a picture's rows JSON."""
    return lambda row: _ticket(row, is_pending=row.id in picture.pending)


def _ticket(row: Ticket, *, is_pending: bool) -> Json:
    """A ticket, with ids for people: the page knows their names."""
    return {
        "id": str(row.id),
        "pending": "sending" if is_pending else None,
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
        "in_view": happened.is_in_view,
        "at": _moment(happened.observed_at),
        "source": str(happened.source),
        # An own write is known before it could arrive: that is no speed.
        "latency": None if happened.source is Source.OWN_WRITE else happened.latency,
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
