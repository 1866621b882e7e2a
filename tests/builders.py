"""Rows for tests, with only what a test cares about spelled out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from jamestronic_sdk.models import Ticket

EPOCH = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
ALICE = UUID(int=0xA11CE)
BOB = UUID(int=0xB0B)
CUSTOMER = UUID(int=0xC05)


def ticket_id(number: int) -> UUID:
    """The id of the ticket with this number."""
    return UUID(int=number)


def make_ticket(number: int = 1, version: int = 1, **columns: Any) -> Ticket:
    """A ticket; by default open and unassigned."""
    return Ticket.model_validate(
        {
            "id": ticket_id(number),
            "number": number,
            "version": version,
            "title": f"Washing machine {number}",
            "status": "open",
            "created_at": EPOCH,
            "updated_at": EPOCH + timedelta(seconds=version),
            **columns,
        }
    )
