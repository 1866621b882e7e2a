"""The names of channels, as servers and other clients know them."""

from __future__ import annotations

import pytest
from client_support import ManualClock
from tests.builders import ALICE

from jamestronic_sdk import View
from jamestronic_sdk.store.assembly import _channel_name


@pytest.mark.parametrize(
    ("view", "name"),
    [
        (View.overview(), "tickets:admin"),
        (View.technician(ALICE), f"tech_tickets_{ALICE}_501000000000"),
        (View.technician(ALICE, includes_pool=True), f"tech_tickets_{ALICE}_501000000000"),
        (View.transporter(ALICE), f"transporter_tickets_{ALICE}_501000000000"),
        (View.customer(ALICE), f"customer_tickets_{ALICE}_501000000000"),
    ],
)
def test_each_view_has_its_channel(view: View, name: str) -> None:
    """Admins and staff share one; everybody else has one per session."""
    assert _channel_name(view, ManualClock()) == name
