"""Who may do what: each table x role x operation x row, as tables to read.

A cell says what happens to the one row that the line names::

    yes     done: the row is read or written
    -       nothing: the row is not visible for that, 0 rows, no error
    42501   refused by a grant or a policy's check
    PT403   refused by the column rules
    PT422   refused by the status rules

``mine`` is what the first person of each role holds; ``other`` the second one's; ``pool`` has no technician.
The deactivated person is a technician who holds a ticket; the stranger has an Auth user but no profile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from sql_support import World, acting, connect, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sql_support import Person

    from jamestronic_sdk.local.stack import LocalSupabase

TICKETS = """
                          anonymous stranger deactivated customer transporter technician staff admin service
select mine               42501     -        -           yes      yes         yes        yes   yes   yes
select other              42501     -        -           -        -           -          yes   yes   yes
select pool               42501     -        -           -        -           yes        yes   yes   yes
insert plain              42501     42501    42501       yes      42501       42501      yes   yes   yes
insert returning          42501     42501    42501       yes      42501       42501      yes   yes   yes
insert for other          42501     42501    42501       42501    42501       42501      yes   yes   yes
insert urgent             42501     42501    42501       42501    42501       42501      yes   yes   yes
insert assigned           42501     42501    42501       42501    42501       42501      yes   yes   yes
insert version            42501     42501    42501       42501    42501       42501      42501 42501 yes
update title mine         42501     -        -           yes      PT403       PT403      yes   yes   yes
update title other        42501     -        -           -        -           -          yes   yes   yes
update title pool         42501     -        -           -        -           -          yes   yes   yes
update priority mine      42501     -        -           PT403    PT403       PT403      yes   yes   yes
update priority other     42501     -        -           -        -           -          yes   yes   yes
update priority pool      42501     -        -           -        -           -          yes   yes   yes
update status mine        42501     -        -           PT403    PT403       PT403      yes   yes   yes
update status other       42501     -        -           -        -           -          yes   yes   yes
update status pool        42501     -        -           -        -           -          yes   yes   yes
update appliance mine     42501     -        -           yes      PT403       yes        yes   yes   yes
update appliance other    42501     -        -           -        -           -          yes   yes   yes
update appliance pool     42501     -        -           -        -           -          yes   yes   yes
update address mine       42501     -        -           yes      PT403       PT403      yes   yes   yes
update address other      42501     -        -           -        -           -          yes   yes   yes
update address pool       42501     -        -           -        -           -          yes   yes   yes
update schedule mine      42501     -        -           PT403    yes         PT403      yes   yes   yes
update schedule other     42501     -        -           -        -           -          yes   yes   yes
update schedule pool      42501     -        -           -        -           -          yes   yes   yes
update technician mine    42501     -        -           PT403    PT403       PT403      yes   yes   yes
update technician other   42501     -        -           -        -           -          yes   yes   yes
update technician pool    42501     -        -           -        -           -          yes   yes   yes
update transporter mine   42501     -        -           PT403    PT403       PT403      yes   yes   yes
update transporter other  42501     -        -           -        -           -          yes   yes   yes
update transporter pool   42501     -        -           -        -           -          yes   yes   yes
update customer mine      42501     -        -           PT403    PT403       PT403      yes   yes   yes
update customer other     42501     -        -           -        -           -          yes   yes   yes
update customer pool      42501     -        -           -        -           -          yes   yes   yes
update version mine       42501     42501    42501       42501    42501       42501      42501 42501 yes
update version other      42501     42501    42501       42501    42501       42501      42501 42501 yes
update version pool       42501     42501    42501       42501    42501       42501      42501 42501 yes
update author mine        42501     42501    42501       42501    42501       42501      42501 42501 yes
update author other       42501     42501    42501       42501    42501       42501      42501 42501 yes
update author pool        42501     42501    42501       42501    42501       42501      42501 42501 yes
delete mine               42501     -        -           -        -           -          -     yes   yes
delete other              42501     -        -           -        -           -          -     yes   yes
delete pool               42501     -        -           -        -           -          -     yes   yes
"""

PROFILES = """
                          anonymous stranger deactivated customer transporter technician staff admin service
select self               42501     -        yes         yes      yes         yes        yes   yes   -
select customer           42501     -        -           yes      yes         yes        yes   yes   yes
select customer2          42501     -        -           -        -           -          yes   yes   yes
select technician2        42501     -        -           -        -           -          yes   yes   yes
select admin2             42501     -        -           -        -           -          yes   yes   yes
update name self          42501     -        -           yes      yes         yes        yes   yes   -
update name customer      42501     -        -           yes      -           -          yes   yes   yes
update name technician2   42501     -        -           -        -           -          -     yes   yes
update role self          42501     -        -           PT403    PT403       PT403      PT403 -     -
update role customer      42501     -        -           PT403    -           -          PT403 yes   yes
update role technician2   42501     -        -           -        -           -          -     yes   yes
update active self        42501     -        -           PT403    PT403       PT403      PT403 yes   -
update active customer    42501     -        -           PT403    -           -          PT403 yes   yes
update active technician2 42501     -        -           -        -           -          -     yes   yes
update user self          42501     -        -           PT403    PT403       PT403      PT403 yes   -
update user customer      42501     -        -           PT403    -           -          PT403 yes   yes
update user technician2   42501     -        -           -        -           -          -     yes   yes
insert walk-in            42501     42501    42501       42501    42501       42501      yes   yes   yes
insert admin              42501     42501    42501       42501    42501       42501      42501 yes   yes
delete without tickets    42501     -        -           -        -           -          -     yes   yes
delete self               42501     -        -           -        -           -          -     yes   -
"""

NOTES = """
                          anonymous stranger deactivated customer transporter technician staff admin service
select mine public        42501     -        -           yes      yes         yes        yes   yes   yes
select mine internal      42501     -        -           -        -           yes        yes   yes   yes
select other public       42501     -        -           -        -           -          yes   yes   yes
select other internal     42501     -        -           -        -           -          yes   yes   yes
select pool public        42501     -        -           -        -           yes        yes   yes   yes
select pool internal      42501     -        -           -        -           yes        yes   yes   yes
insert mine public        42501     42501    42501       yes      yes         yes        yes   yes   yes
insert mine internal      42501     42501    42501       42501    42501       yes        yes   yes   yes
insert other public       42501     42501    42501       42501    42501       42501      yes   yes   yes
insert other internal     42501     42501    42501       42501    42501       42501      yes   yes   yes
insert pool public        42501     42501    42501       42501    42501       yes        yes   yes   yes
insert pool internal      42501     42501    42501       42501    42501       yes        yes   yes   yes
update mine public        42501     -        -           -        -           yes        -     yes   yes
update mine internal      42501     -        -           -        -           yes        -     yes   yes
update other public       42501     -        -           -        -           -          -     yes   yes
update other internal     42501     -        -           -        -           -          -     yes   yes
author mine public        42501     42501    42501       42501    42501       42501      42501 42501 yes
delete mine public        42501     -        -           -        -           -          -     yes   yes
delete other public       42501     -        -           -        -           -          -     yes   yes
"""

TICKET_CHANGES = {
    "title": "title = 'Dishwasher hums'",
    "priority": "priority = 'urgent'",
    "status": "status = 'cancelled'",
    "appliance": "appliance_model = 'WM-1'",
    "address": "pickup_address = '1 Main Street'",
    "schedule": "scheduled_at = now()",
    "technician": "assigned_technician_id = null",
    "transporter": "assigned_transporter_id = null",
    "customer": "customer_id = null",
    "version": "version = 1",
    "author": "created_by = null",
}


def cells(table: str) -> list[tuple[str, str, str]]:
    """Line, actor and expected outcome of each cell."""
    head, *lines = [line for line in table.splitlines() if line.strip()]
    actors = head.split()
    found = []
    for line in lines:
        words = line.split()
        name, outcomes = " ".join(words[: -len(actors)]), words[-len(actors) :]
        found += [(name, actor, outcome) for actor, outcome in zip(actors, outcomes, strict=True)]
    return found


@pytest.fixture(scope="module")
def world(local_supabase: LocalSupabase) -> Iterator[World]:
    """Everybody and everything, in a transaction that is never committed."""
    with connect(local_supabase) as connection:
        yield new_world(connection)
        connection.rollback()


def outcome(world: World, actor: Person, statement: str) -> str:
    """What a statement that touches at most one row comes to."""
    try:
        with acting(world.connection, actor):
            count = world.connection.execute(statement.encode()).rowcount
    except psycopg.Error as error:
        return error.sqlstate or "?"
    assert count in {0, 1}
    return "yes" if count else "-"


def own(world: World, actor: Person, row: str) -> str:
    """``mine`` is another ticket for the deactivated person."""
    return str(world.tickets["deactivated" if (actor.name, row) == ("deactivated", "mine") else row])


def ticket_statement(world: World, actor: Person, line: str) -> str:  # noqa: PLR0911 - one table in prose
    match line.split():
        case ["select", row]:
            return f"select from public.tickets where id = '{own(world, actor, row)}'"
        case ["delete", row]:
            return f"delete from public.tickets where id = '{own(world, actor, row)}'"
        case ["update", what, row]:
            change = TICKET_CHANGES[what]
            return f"update public.tickets set {change} where id = '{own(world, actor, row)}'"
        case ["insert", "plain"]:
            return "insert into public.tickets (title) values ('New')"
        case ["insert", "returning"]:
            return "insert into public.tickets (title) values ('New') returning id"
        case ["insert", "for", "other"]:
            other = world["customer2"].profile_id
            return f"insert into public.tickets (title, customer_id) values ('New', '{other}')"
        case ["insert", "urgent"]:
            return "insert into public.tickets (title, priority) values ('New', 'urgent')"
        case ["insert", "assigned"]:
            technician = world["technician"].profile_id
            return (
                f"insert into public.tickets (title, assigned_technician_id) values ('New', '{technician}')"
            )
        case ["insert", "version"]:
            return "insert into public.tickets (title, version) values ('New', 1)"
        case _:
            raise AssertionError(line)


def profile_statement(world: World, actor: Person, line: str) -> str:  # noqa: PLR0911 - one table in prose
    whose = {
        "self": actor.profile_id or uuid4(),
        "customer": world["customer"].profile_id,
        "customer2": world["customer2"].profile_id,
        "technician2": world["technician2"].profile_id,
        "admin2": world["admin2"].profile_id,
    }
    match line.split():
        case ["select", row]:
            return f"select from public.profiles where id = '{whose[row]}'"
        case ["update", "name", row]:
            return f"update public.profiles set full_name = 'New' where id = '{whose[row]}'"
        case ["update", "role", row]:
            return f"update public.profiles set role = 'admin' where id = '{whose[row]}' and role <> 'admin'"
        case ["update", "active", row]:
            return f"update public.profiles set is_active = not is_active where id = '{whose[row]}'"
        case ["update", "user", row]:
            return f"update public.profiles set user_id = null where id = '{whose[row]}'"
        case ["insert", "walk-in"]:
            return "insert into public.profiles (full_name) values ('Walk-in')"
        case ["insert", "admin"]:
            return "insert into public.profiles (role) values ('admin')"
        case ["delete", "without", "tickets"]:
            return f"delete from public.profiles where id = '{world['staff2'].profile_id}'"
        case ["delete", "self"]:
            return f"delete from public.profiles where id = '{whose['self']}'"
        case _:
            raise AssertionError(line)


def note_statement(world: World, actor: Person, line: str) -> str:
    match line.split():
        case ["select", row, kind]:
            return f"select from public.ticket_notes where id = '{world.notes[f'{row} {kind}']}'"
        case ["insert", row, kind]:
            return (
                "insert into public.ticket_notes (ticket_id, body, is_internal)"
                f" values ('{own(world, actor, row)}', 'New', {kind == 'internal'})"
            )
        case ["update", row, kind]:
            return f"update public.ticket_notes set body = 'New' where id = '{world.notes[f'{row} {kind}']}'"
        case ["author", row, kind]:
            return (
                f"update public.ticket_notes set author_id = null where id = '{world.notes[f'{row} {kind}']}'"
            )
        case ["delete", row, kind]:
            return f"delete from public.ticket_notes where id = '{world.notes[f'{row} {kind}']}'"
        case _:
            raise AssertionError(line)


@pytest.mark.parametrize(("line", "actor", "expected"), cells(TICKETS))
def test_tickets(world: World, line: str, actor: str, expected: str) -> None:
    """Grants, policies and column rules of tickets."""
    person = world[actor]
    assert expected == outcome(world, person, ticket_statement(world, person, line))


@pytest.mark.parametrize(("line", "actor", "expected"), cells(PROFILES))
def test_profiles(world: World, line: str, actor: str, expected: str) -> None:
    """Grants, policies and column rules of profiles."""
    person = world[actor]
    assert expected == outcome(world, person, profile_statement(world, person, line))


@pytest.mark.parametrize(("line", "actor", "expected"), cells(NOTES))
def test_notes(world: World, line: str, actor: str, expected: str) -> None:
    """Grants and policies of notes, internal ones included."""
    person = world[actor]
    assert expected == outcome(world, person, note_statement(world, person, line))


def test_the_matrix_is_whole() -> None:
    """Three tables, nine actors, every operation: more than 300 cells."""
    assert len(cells(TICKETS) + cells(PROFILES) + cells(NOTES)) >= 300
