"""What things cost with 100,000 tickets, 2,000 technicians and 50,000 customers.

Each limit is a ratio or a bound from the design; run with ``-s`` to see the numbers.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import pytest
from sql_support import acting, be_owner, connect, new_person, new_ticket, one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from sql_support import Connection, Person

    from jamestronic_sdk.local.stack import LocalSupabase

Measured = tuple["Shop", dict[str, tuple[float, float]]]

SMALL, LARGE = 1_000, 100_000
OWN = 200
"""Rows that the measured technician sees: 150 assigned, 50 in the pool."""


class Shop:
    """A database in a transaction: a few people to be, and many around them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.technician = new_person(connection, "technician")
        self.customer = new_person(connection, "customer")
        self.admin = new_person(connection, "admin")
        self.ticket: UUID
        # Without triggers and foreign key checks: the point is the rows, not how they came.
        connection.execute("set local session_replication_role = replica")
        connection.execute(
            "insert into public.profiles (role, full_name)"
            " select case when n <= 2000 then 'technician' else 'customer' end, 'Person ' || n"
            " from generate_series(1, 52000) as n"
        )
        connection.execute(
            "create temporary table crowd on commit drop as"
            " select row_number() over (partition by role order by id) as n, role, id from public.profiles"
        )
        connection.execute("create index on crowd (role, n)")
        self._add(
            OWN,
            f"case when n <= 150 then '{self.technician.profile_id}'::uuid end",
            f"'{self.customer.profile_id}'::uuid",
        )
        self.total = OWN
        connection.execute("set local session_replication_role = origin")
        self.ticket = new_ticket(connection, assigned_technician_id=self.technician.profile_id)

    def _add(self, count: int, technician: str, customer: str) -> None:
        self.connection.execute(
            "insert into public.tickets"
            " (title, description, status, assigned_technician_id, customer_id, version)"
            f" select 'Ticket ' || n, repeat('It leaks. ', 20), case when {technician} is null"
            " then 'open' else 'assigned' end,"
            f" {technician}, {customer}, nextval('private.tickets_version_seq')"
            f" from generate_series(1, {count}) as n"
        )

    def grow_to(self, total: int) -> None:
        """Fill up with tickets of other technicians and customers."""
        be_owner(self.connection)
        self.connection.execute("set local session_replication_role = replica")
        self.connection.execute(
            "insert into public.tickets"
            " (title, description, status, assigned_technician_id, customer_id, version)"
            " select 'Ticket ' || g.n, repeat('It leaks. ', 20), 'assigned', t.id, c.id,"
            " nextval('private.tickets_version_seq')"
            f" from generate_series({self.total + 1}, {total}) as g (n)"
            " join crowd as t on t.role = 'technician' and t.n = 1 + g.n % 2000"
            " join crowd as c on c.role = 'customer' and c.n = 1 + g.n % 50000"
        )
        # Old changes in the log, as many as there are tickets; no snapshot of today has them before it.
        self.connection.execute(
            "insert into private.ticket_changes (xid, ticket_id, version, operation, technician_after)"
            f" select (3 + g.n % 700)::text::xid8, gen_random_uuid(), g.n, 'INSERT', null"
            f" from generate_series({self.total + 1}, {total}) as g (n)"
        )
        self.total = total
        self.connection.execute("set local session_replication_role = origin")
        self.connection.execute("analyze public.tickets")
        self.connection.execute("analyze public.profiles")
        self.connection.execute("analyze private.ticket_changes")

    def timed(self, person: Person, query: str, arguments: Any = None, *, times: int = 15) -> float:
        """Seconds of the fastest of some runs."""
        best = float("inf")
        with acting(self.connection, person):
            gc.disable()
            try:
                for _ in range(times):
                    start = time.perf_counter()
                    self.connection.execute(query.encode(), arguments).fetchall()
                    best = min(best, time.perf_counter() - start)
            finally:
                gc.enable()
        return best

    def plan(self, person: Person, query: str, arguments: Any = None) -> Any:
        with acting(self.connection, person):
            explained = one(self.connection, f"explain (analyze, buffers, format json) {query}", arguments)
        return explained["QUERY PLAN"][0]["Plan"]


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
def test_lists_run_on_index_scans(measured: Measured, name: str) -> None:
    """No sequential scan, and each helper of the policy runs at most once per query."""
    shop = measured[0]
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


def test_the_delta_reads_the_end_of_the_log(measured: Measured) -> None:
    """100,000 old changes in it cost nothing."""
    shop = measured[0]
    with acting(shop.connection, shop.technician):
        cursor = one(shop.connection, "select public.sync_tickets()->>'cursor' as c")["c"]
    plan = shop.plan(shop.technician, "select public.sync_tickets(%s)", [cursor])

    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200
