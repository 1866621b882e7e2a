"""Models: open to what a newer database adds, closed to what may leak or can't be stored."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from client_support import SECRET, TICKET, profile, ticket
from pydantic import ValidationError

from jamestronic_sdk import NewTicket, Profile, Role, Ticket, TicketPriority, TicketStatus


def test_known_values_become_enums() -> None:
    row = Ticket.model_validate(ticket(status="in_progress", priority="urgent"))
    assert row.status is TicketStatus.IN_PROGRESS
    assert row.priority is TicketPriority.URGENT
    assert Profile.model_validate(profile()).role is Role.TECHNICIAN


def test_unknown_values_arrive_as_their_string() -> None:
    row = Ticket.model_validate(ticket(status="on_the_moon", priority="whenever"))
    assert (row.status, row.priority) == ("on_the_moon", "whenever")
    assert type(row.status) is str
    assert Profile.model_validate(profile(role="auditor")).role == "auditor"


def test_unknown_columns_are_kept() -> None:
    row = Ticket.model_validate(ticket(warranty_until="2027-01-01", tags=["a"]))
    assert row.model_extra == {"warranty_until": "2027-01-01", "tags": ["a"]}
    assert row.warranty_until == "2027-01-01"  # type: ignore[attr-defined]


def test_a_subclass_types_the_columns_of_an_app() -> None:
    class ShopTicket(Ticket):
        warranty_until: datetime | None = None

    row = ShopTicket.model_validate(ticket(warranty_until="2027-01-01T00:00:00Z"))
    assert row.warranty_until == datetime(2027, 1, 1, tzinfo=UTC)


def test_moments_are_utc() -> None:
    row = Ticket.model_validate(ticket(scheduled_at="2026-11-01T10:00:00+02:00"))
    assert row.scheduled_at == datetime(2026, 11, 1, 8, tzinfo=UTC)
    assert row.scheduled_at.tzinfo is UTC
    with pytest.raises(ValidationError):
        Ticket.model_validate(ticket(created_at="2026-11-01T10:00:00"))


def test_rows_are_frozen_and_hashable_by_identity_of_value() -> None:
    row = Ticket.model_validate(ticket())
    with pytest.raises(ValidationError):
        row.title = "x"  # type: ignore[misc]
    assert row == Ticket.model_validate(ticket())
    assert pickle.loads(pickle.dumps(row)) == row  # noqa: S301 - our own bytes


def test_label_and_assignment() -> None:
    row = Ticket.model_validate(ticket())
    assert (row.label, row.is_assigned, row.id) == ("JT-1001", False, UUID(TICKET))


@pytest.mark.parametrize(
    "model",
    [
        Ticket.model_validate(
            ticket(
                title=SECRET, description=SECRET, pickup_address=SECRET, appliance_serial=SECRET, own=SECRET
            )
        ),
        Profile.model_validate(profile(full_name=SECRET, phone=SECRET, own=SECRET)),
        NewTicket(title=SECRET, description=SECRET, pickup_address=SECRET),
    ],
)
def test_no_printed_form_shows_customer_data(model: Any) -> None:
    forms = [
        repr(model),
        str(model),
        f"{model}",
        repr([model]),
        f"{model}",
        repr(dict(model.__rich_repr__())),
    ]
    forms += [str(part) for part in model.__pretty__(repr)]
    for form in forms:
        assert SECRET not in form


def test_validation_errors_do_not_quote() -> None:
    with pytest.raises(ValidationError) as caught:
        Ticket.model_validate({**ticket(), "number": SECRET})
    assert SECRET not in str(caught.value)
    with pytest.raises(ValidationError) as caught:
        NewTicket(title=SECRET * 100)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"title": ""},
        {"title": "   "},
        {"title": "x" * 201},
        {"title": "a\x00b"},
        {"title": "\ud800"},
        {"title": 5},
        {"title": "x", "description": "y" * 10_001},
        {"title": "x", "priority": "whenever"},
        {"title": "x", "customer_id": "nobody"},
        {"title": "x", "scheduled_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - naive on purpose
        {"title": "x", "status": "open"},
        {"title": "x", "version": 5},
        {"title": "x", "id": TICKET},
    ],
)
def test_new_tickets_are_checked(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NewTicket(**fields)


def test_new_tickets_leave_defaults_to_the_database() -> None:
    assert NewTicket(title="  Leaks  ").to_row() == {"title": "Leaks"}
    moment = datetime(2026, 11, 1, 8, tzinfo=UTC)
    row = NewTicket(
        title="x", priority=TicketPriority.HIGH, scheduled_at=moment, customer_id=UUID(TICKET)
    ).to_row()
    assert row == {
        "title": "x",
        "priority": "high",
        "scheduled_at": "2026-11-01T08:00:00Z",
        "customer_id": TICKET,
    }
