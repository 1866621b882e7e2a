"""How queries run with 100,000 tickets, 2,000 technicians and 50,000 customers: by index, helpers once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sql_crowd import LARGE, Shop
from sql_support import acting, connect, one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sql_support import Person

    from jamestronic_sdk.local.stack import LocalSupabase


@pytest.fixture(scope="module")
def shop(untouched_supabase: LocalSupabase) -> Iterator[Shop]:
    with connect(untouched_supabase) as connection:
        made = Shop(connection)
        made.grow_to(LARGE)
        yield made
        connection.rollback()


LISTS = {
    "technician: own": (
        "technician",
        "select * from public.tickets where assigned_technician_id = %(me)s order by number desc limit 50",
    ),
    "technician: pool": (
        "technician",
        "select * from public.tickets where assigned_technician_id is null order by number desc limit 50",
    ),
    "customer: own": (
        "customer",
        "select * from public.tickets where customer_id = %(me)s order by number desc limit 50",
    ),
    "admin: by status": (
        "admin",
        "select * from public.tickets where status = 'assigned' order by number desc limit 50",
    ),
    "admin: next page": (
        "admin",
        "select * from public.tickets where status = 'open' and number < 9000 order by number desc limit 50",
    ),
    "admin: all": ("admin", "select * from public.tickets order by number desc limit 50"),
    "technician: one": ("technician", "select * from public.tickets where id = %(ticket)s"),
}


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.mark.parametrize("name", LISTS)
def test_lists_run_on_index_scans(shop: Shop, name: str) -> None:
    """No sequential scan, and each helper of the policy runs at most once per query."""
    who, query = LISTS[name]
    person: Person = getattr(shop, who)
    plan = shop.plan(person, query, {"me": person.profile_id, "ticket": shop.ticket})
    found = list(nodes(plan))

    assert not [node for node in found if node["Node Type"] == "Seq Scan"]
    helpers = [node for node in found if node.get("Parent Relationship") == "InitPlan"]
    assert helpers
    assert all(node["Actual Loops"] <= 1 for node in helpers)
    filters = " ".join(str(node.get(key, "")) for node in found for key in ("Filter", "Index Cond"))
    assert "get_my" not in filters
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 500


def test_the_delta_reads_the_end_of_the_log(shop: Shop) -> None:
    """100,000 old changes in it cost nothing."""
    with acting(shop.connection, shop.technician):
        cursor = one(shop.connection, "select public.sync_tickets()->>'cursor' as c")["c"]
    for _ in range(2):  # the first call reads the catalogue, too
        plan = shop.plan(shop.technician, "select public.sync_tickets(%s)", [cursor])

    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200
