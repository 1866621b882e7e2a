"""People, tickets and impersonation for the tests of the SQL; plain psycopg, no SDK."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jamestronic_sdk.local.stack import LocalSupabase

Row = dict[str, Any]
Connection = psycopg.Connection[Row]


def connect(stack: LocalSupabase, user: str = "supabase_admin", *, autocommit: bool = False) -> Connection:
    """A connection; ``supabase_admin`` may become every other role."""
    return psycopg.Connection.connect(stack.context.dsn(user), autocommit=autocommit, row_factory=dict_row)


@dataclass(frozen=True, slots=True)
class Person:
    """One who asks: a signed-in user, an anonymous caller or the service."""

    name: str
    user_id: UUID | None = None
    profile_id: UUID | None = None
    database_role: str = "authenticated"

    def claims(self, **more: object) -> dict[str, object]:
        """What a verified token of this person says; the role in it is what Auth's default is."""
        found: dict[str, object] = {"role": self.database_role, "aud": "authenticated"}
        if self.user_id is not None:
            found["sub"] = str(self.user_id)
        return found | more


ANONYMOUS = Person("anonymous", database_role="anon")
SERVICE = Person("service", database_role="service_role")


def become(connection: Connection, person: Person, **claims: object) -> None:
    """Be somebody until the transaction ends, as PostgREST does it."""
    connection.execute(
        "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
        [person.database_role, json.dumps(person.claims(**claims))],
    )


def be_owner(connection: Connection) -> None:
    """Back to the superuser, without claims."""
    connection.execute("reset role")
    connection.execute("select set_config('request.jwt.claims', '', true)")


@contextmanager
def acting(connection: Connection, person: Person, **claims: object) -> Iterator[None]:
    """Be somebody inside the block; nothing that happens in it stays."""
    with connection.transaction(force_rollback=True):
        become(connection, person, **claims)
        yield


def one(connection: Connection, query: str, arguments: Any = None) -> Row:
    """The only row of a query."""
    rows = connection.execute(query.encode(), arguments).fetchall()
    assert len(rows) == 1, f"{len(rows)} rows"
    return rows[0]


def new_person(connection: Connection, role: str, *, name: str | None = None, active: bool = True) -> Person:
    """A user whom the admin API would make; the trigger on auth.users gives the profile."""
    user_id = uuid4()
    connection.execute("set local role supabase_auth_admin")
    connection.execute(
        "insert into auth.users (id, aud, role, email, raw_app_meta_data, raw_user_meta_data)"
        " values (%s, 'authenticated', 'authenticated', %s, %s, %s)",
        [
            user_id,
            f"{user_id}@example.test",
            json.dumps({"provider": "email", "role": role}),
            json.dumps({"full_name": name or role}),
        ],
    )
    connection.execute("set local role postgres")
    profile = one(
        connection,
        "update public.profiles set is_active = %s where user_id = %s returning id, role",
        [active, user_id],
    )
    be_owner(connection)
    assert profile["role"] == role
    return Person(name or role, user_id, profile["id"])


def new_ticket(connection: Connection, **columns: object) -> UUID:
    """A ticket, written by the owner of the table."""
    columns = {"title": "Washing machine leaks"} | columns
    names = ", ".join(columns)
    places = ", ".join(["%s"] * len(columns))
    row = one(
        connection,
        f"insert into public.tickets ({names}) values ({places}) returning id",
        [*columns.values()],
    )
    found = row["id"]
    assert isinstance(found, UUID)
    return found


@dataclass(frozen=True, slots=True)
class World:
    """Two of each, and who holds what."""

    connection: Connection = field(repr=False)
    people: dict[str, Person]
    tickets: dict[str, UUID]
    """mine: of the first of each role; other: of the second; pool: unassigned, of the second customer."""
    notes: dict[str, UUID]

    def __getitem__(self, name: str) -> Person:
        return self.people[name]


def new_world(connection: Connection) -> World:
    """Fill the current transaction with people, tickets and notes."""
    people = {
        name: new_person(connection, name.rstrip("2"), name=name)
        for name in (
            "admin", "staff", "technician", "transporter", "customer",
            "admin2", "staff2", "technician2", "transporter2", "customer2",
        )
    }  # fmt: skip
    deactivated = new_person(connection, "technician", name="deactivated")
    people["deactivated"] = deactivated
    people["stranger"] = Person("stranger", uuid4())
    people["anonymous"] = ANONYMOUS
    people["service"] = SERVICE
    tickets = {
        "mine": new_ticket(
            connection,
            customer_id=people["customer"].profile_id,
            assigned_technician_id=people["technician"].profile_id,
            assigned_transporter_id=people["transporter"].profile_id,
        ),
        "other": new_ticket(
            connection,
            customer_id=people["customer2"].profile_id,
            assigned_technician_id=people["technician2"].profile_id,
            assigned_transporter_id=people["transporter2"].profile_id,
        ),
        "pool": new_ticket(connection, customer_id=people["customer2"].profile_id),
        "deactivated": new_ticket(connection, assigned_technician_id=deactivated.profile_id),
    }
    notes = {
        f"{ticket} {kind}": one(
            connection,
            "insert into public.ticket_notes (ticket_id, author_id, body, is_internal)"
            " values (%s, %s, 'text', %s) returning id",
            [tickets[ticket], people[author].profile_id, kind == "internal"],
        )["id"]
        for ticket, author in (("mine", "technician"), ("other", "technician2"), ("pool", "staff2"))
        for kind in ("public", "internal")
    }
    connection.execute("update public.profiles set is_active = false where id = %s", [deactivated.profile_id])
    return World(connection, people, tickets, notes)


@contextmanager
def committed_world(stack: LocalSupabase) -> Iterator[World]:
    """People and tickets that other connections see too; gone again afterwards."""
    with connect(stack) as connection:
        with connection.transaction():
            world = new_world(connection)
        try:
            yield world
        finally:
            connection.rollback()
            be_owner(connection)
            profiles = [person.profile_id for person in world.people.values() if person.profile_id]
            users = [person.user_id for person in world.people.values() if person.user_id]
            connection.execute(
                "delete from public.tickets where assigned_technician_id = any(%(profiles)s)"
                " or assigned_transporter_id = any(%(profiles)s) or customer_id = any(%(profiles)s)"
                " or id = any(%(tickets)s) or created_by = any(%(profiles)s)",
                {"profiles": profiles, "tickets": [*world.tickets.values()]},
            )
            connection.execute("delete from public.profiles where id = any(%s)", [profiles])
            connection.execute("delete from auth.users where id = any(%s)", [users])
            connection.commit()


def session(stack: LocalSupabase, person: Person) -> Connection:
    """A connection that is somebody until it is closed; each statement is a transaction."""
    connection = connect(stack, autocommit=True)
    connection.execute(
        "select set_config('role', %s, false), set_config('request.jwt.claims', %s, false)",
        [person.database_role, json.dumps(person.claims())],
    )
    return connection
