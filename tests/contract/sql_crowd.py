"""A database with very many people and tickets around a few: what plans and costs are looked at in."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

from sql_support import acting, be_owner, new_person, new_ticket, one

if TYPE_CHECKING:
    from uuid import UUID

    from sql_support import Connection, Person

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
