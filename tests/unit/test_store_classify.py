"""Every cell of the classification table."""

from __future__ import annotations

import pytest
from tests.builders import ALICE, BOB, CUSTOMER, make_ticket

from jamestronic_sdk.models import Role, Ticket
from jamestronic_sdk.store.classify import changes_between, classify
from jamestronic_sdk.store.events import (
    Change,
    TicketAssigned,
    TicketCreated,
    TicketEvent,
    TicketRemoved,
    TicketUnassigned,
    TicketUpdated,
)
from jamestronic_sdk.store.views import View

MINE = make_ticket(assigned_technician_id=ALICE)
THEIRS = make_ticket(assigned_technician_id=BOB)
POOL = make_ticket()
GONE = None

TECHNICIAN = View.technician(ALICE)
POOL_WATCHER = View.technician(ALICE, includes_pool=True)
OVERVIEW = View.overview()


@pytest.mark.parametrize(
    ("before", "after", "view", "expected"),
    [
        # The technician's column: `after` is None when the row is out of the view, hidden or deleted.
        (GONE, MINE, TECHNICIAN, TicketAssigned),
        (MINE, GONE, TECHNICIAN, TicketUnassigned),
        (MINE, MINE, TECHNICIAN, TicketUpdated),
        (GONE, GONE, TECHNICIAN, None),
        # With the pool in view.
        (POOL, MINE, POOL_WATCHER, TicketAssigned),
        (GONE, MINE, POOL_WATCHER, TicketAssigned),
        (MINE, POOL, POOL_WATCHER, TicketUnassigned),
        (MINE, GONE, POOL_WATCHER, TicketUnassigned),
        (MINE, MINE, POOL_WATCHER, TicketUpdated),
        (GONE, POOL, POOL_WATCHER, TicketCreated),
        (POOL, POOL, POOL_WATCHER, TicketUpdated),
        (POOL, GONE, POOL_WATCHER, TicketRemoved),
        (GONE, GONE, POOL_WATCHER, None),
        # The overview: an assignment is news about the ticket.
        (GONE, POOL, OVERVIEW, TicketCreated),
        (GONE, MINE, OVERVIEW, TicketCreated),
        (POOL, MINE, OVERVIEW, TicketAssigned),
        (MINE, THEIRS, OVERVIEW, TicketAssigned),
        (MINE, POOL, OVERVIEW, TicketUnassigned),
        (MINE, MINE, OVERVIEW, TicketUpdated),
        (POOL, POOL, OVERVIEW, TicketUpdated),
        (MINE, GONE, OVERVIEW, TicketRemoved),
        (POOL, GONE, OVERVIEW, TicketRemoved),
        (GONE, GONE, OVERVIEW, None),
    ],
)
def test_each_cell_of_the_table(
    before: Ticket | None, after: Ticket | None, view: View, expected: type[TicketEvent] | None
) -> None:
    assert classify(before, after, view) is expected


@pytest.mark.parametrize(
    ("view", "column"),
    [
        (View.technician(ALICE), "assigned_technician_id"),
        (View.transporter(ALICE), "assigned_transporter_id"),
        (View.customer(ALICE), "customer_id"),
    ],
)
def test_transporters_and_customers_follow_the_pattern_with_their_own_column(view: View, column: str) -> None:
    mine, other = make_ticket(**{column: ALICE}), make_ticket(**{column: BOB})
    assert view.contains(mine)
    assert not view.contains(other)
    assert classify(None, mine, view) is TicketAssigned
    assert classify(mine, None, view) is TicketUnassigned


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (Role.ADMIN, View.overview()),
        (Role.STAFF, View.overview()),
        (Role.TECHNICIAN, View.technician(ALICE)),
        (Role.TRANSPORTER, View.transporter(ALICE)),
        (Role.CUSTOMER, View.customer(ALICE)),
    ],
)
def test_the_view_follows_the_role(role: Role, expected: View) -> None:
    assert expected == View.of_role(role, ALICE)


def test_a_role_from_a_newer_database_has_no_view_and_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"auditor.*View"):
        View.of_role("auditor", ALICE)


def test_changes_name_columns_with_old_and_new_without_bookkeeping() -> None:
    before = make_ticket(version=1, status="open")
    after = make_ticket(version=2, status="assigned", assigned_technician_id=ALICE, customer_id=CUSTOMER)
    assert changes_between(before, after) == {
        "assigned_technician_id": Change(None, ALICE),
        "customer_id": Change(None, CUSTOMER),
        "status": Change("open", "assigned"),
    }


def test_changes_include_columns_of_a_newer_database() -> None:
    before, after = make_ticket(shelf="A1"), make_ticket(version=2, shelf="B2")
    assert changes_between(before, after) == {"shelf": Change("A1", "B2")}


def test_the_repr_of_a_change_shows_no_values() -> None:
    assert "0171" not in repr(Change("0171 555", "0171 666"))
