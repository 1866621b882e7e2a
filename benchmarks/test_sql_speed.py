"""What things cost with 100,000 tickets, 2,000 technicians and 50,000 customers.

Each limit is a ratio or a bound from the design; run with ``-s`` to see the numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sql_crowd import LARGE, SMALL, Shop
from sql_support import acting, connect, one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sql_support import Person

    from jamestronic_sdk.local.stack import LocalSupabase

Measured = tuple[Shop, dict[str, tuple[float, float]]]


@pytest.fixture(scope="module")
def measured(local_supabase: LocalSupabase) -> Iterator[Measured]:
    """A large shop, and what some calls took when it was small and now."""
    with connect(local_supabase) as connection:
        shop = Shop(connection)
        calls: dict[str, tuple[Person, str, Any]] = {}
        seconds: dict[str, list[float]] = {}
        for total in (SMALL, LARGE):
            shop.grow_to(total)
            with acting(connection, shop.technician):
                cursor = one(connection, "select public.sync_tickets()->>'cursor' as c")["c"]
            calls = {
                "technician: sync_tickets, nothing new": (
                    shop.technician,
                    "select public.sync_tickets(%s)",
                    [cursor],
                ),
                "technician: tickets_digest": (shop.technician, "select public.tickets_digest()", None),
                "customer: tickets_digest": (shop.customer, "select public.tickets_digest()", None),
                "admin: tickets_digest": (shop.admin, "select public.tickets_digest()", None),
            }
            for name, (person, query, arguments) in calls.items():
                seconds.setdefault(name, []).append(shop.timed(person, query, arguments))
        yield shop, {name: (small, large) for name, (small, large) in seconds.items()}
        connection.rollback()


def report(name: str, small: float, large: float) -> None:
    print(
        f"\n{name}: {small * 1000:.2f} ms at {SMALL}, {large * 1000:.2f} ms at {LARGE}: x{large / small:.2f}"
    )


@pytest.mark.parametrize(
    "name",
    [
        "technician: sync_tickets, nothing new",
        "technician: tickets_digest",
        "customer: tickets_digest",
    ],
)
def test_cost_does_not_grow_with_the_table(measured: Measured, name: str) -> None:
    """What a person pays depends on what the person sees."""
    small, large = measured[1][name]
    report(name, small, large)

    # 0.2 ms is the noise of a shared machine; the calls take half a millisecond.
    assert large <= 1.5 * small + 0.0002


def test_an_admins_digest_of_everything_is_quick(measured: Measured) -> None:
    name = "admin: tickets_digest"
    small, large = measured[1][name]
    report(name, small, large)

    assert large < 0.150
