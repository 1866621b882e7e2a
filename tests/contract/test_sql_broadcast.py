"""Broadcasts: each person hears exactly what concerns them, and nobody else's topic."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sql_support import acting, be_owner, become, connect, new_ticket, new_world, one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from sql_support import Connection, Person, World

    from jamestronic_sdk.local.stack import LocalSupabase


@pytest.fixture
def world(local_supabase: LocalSupabase) -> Iterator[World]:
    with connect(local_supabase) as connection:
        yield new_world(connection)
        connection.rollback()


def topics_of(world: World, name: str) -> set[str]:
    """What the programs of a person join."""
    roles = {"admin": "tickets:admin", "staff": "tickets:admin", "technician": "tickets:pool"}
    own = f"tickets:person:{world[name].profile_id}"
    return {own, *(topic for role, topic in roles.items() if name.startswith(role))}


def heard(world: World, statement: str, arguments: list[Any]) -> dict[str, set[str]]:
    """Name to the events that a statement sends to that person's topics."""
    connection = world.connection
    connection.execute("delete from realtime.messages")
    connection.execute(statement.encode(), arguments)
    rows = connection.execute("select topic, event, payload, private from realtime.messages").fetchall()
    assert all(row["private"] for row in rows)
    found: dict[str, set[str]] = {}
    for name, person in world.people.items():
        if person.profile_id is not None:
            found[name] = {row["event"] for row in rows if row["topic"] in topics_of(world, name)}
    return {name: events for name, events in found.items() if events}


def payloads(connection: Connection, topic: str) -> list[Any]:
    rows = connection.execute("select payload from realtime.messages where topic = %s", [topic]).fetchall()
    return [row["payload"] for row in rows]


def give(world: World, ticket: UUID, who: str | None) -> dict[str, set[str]]:
    technician = world[who].profile_id if who else None
    return heard(
        world,
        "update public.tickets set assigned_technician_id = %s where id = %s",
        [technician, ticket],
    )


CHANGED, LEFT, DELETED = {"ticket_changed"}, {"ticket_left"}, {"ticket_deleted"}
OFFICE = {"admin": CHANGED, "admin2": CHANGED, "staff": CHANGED, "staff2": CHANGED}


def test_reassigning_tells_the_loser_and_the_winner(world: World) -> None:
    told = give(world, world.tickets["mine"], "technician2")

    assert told == OFFICE | {
        "technician": LEFT,
        "technician2": CHANGED,
        "customer": CHANGED,
        "transporter": CHANGED,
    }
    (left,) = payloads(world.connection, f"tickets:person:{world['technician'].profile_id}")
    assert set(left) == {"id", "ticket_id", "version", "committed_at"}
    assert left["ticket_id"] == str(world.tickets["mine"])


@pytest.mark.parametrize("kind", ["changed", "left", "deleted"])
def test_each_message_carries_the_time_of_its_change(world: World, kind: str) -> None:
    """Of the clock, not of the transaction: that one began earlier, and no message is sent before its end."""
    connection = world.connection
    (before,) = one(connection, "select clock_timestamp() as at").values()
    match kind:
        case "deleted":
            heard(world, "delete from public.tickets where id = %s", [world.tickets["mine"]])
        case _:
            give(world, world.tickets["mine"], "technician2" if kind == "left" else None)
    (after,) = one(connection, "select clock_timestamp() as at").values()

    (message,) = payloads(connection, f"tickets:person:{world['technician'].profile_id}")
    assert before <= datetime.fromisoformat(message["committed_at"]) <= after


def test_unassigning_tells_the_pool_and_the_one_who_had_it(world: World) -> None:
    """The one who had it still sees it: as one of the pool."""
    told = give(world, world.tickets["mine"], None)

    assert told == OFFICE | {
        "technician": CHANGED,
        "technician2": CHANGED,
        "customer": CHANGED,
        "transporter": CHANGED,
    }
    messages = payloads(world.connection, f"tickets:person:{world['technician'].profile_id}")
    assert [message["record"]["assigned_technician_id"] for message in messages] == [None]


def test_leaving_the_pool_tells_every_technician(world: World) -> None:
    told = give(world, world.tickets["pool"], "technician")

    assert told == OFFICE | {"technician": CHANGED | LEFT, "technician2": LEFT, "customer2": CHANGED}
    (left,) = payloads(world.connection, "tickets:pool")
    assert "record" not in left


def test_other_changes_tell_those_who_hold_the_ticket(world: World) -> None:
    told = heard(world, "update public.tickets set title = 'x' where id = %s", [world.tickets["mine"]])

    assert told == OFFICE | {"technician": CHANGED, "customer": CHANGED, "transporter": CHANGED}


def test_another_transporter_and_customer_tell_the_old_ones(world: World) -> None:
    told = heard(
        world,
        "update public.tickets set assigned_transporter_id = %s, customer_id = %s where id = %s",
        [world["transporter2"].profile_id, world["customer2"].profile_id, world.tickets["mine"]],
    )

    assert told == OFFICE | {
        "technician": CHANGED,
        "transporter": LEFT,
        "transporter2": CHANGED,
        "customer": LEFT,
        "customer2": CHANGED,
    }


def test_a_new_ticket_is_told(world: World) -> None:
    told = heard(
        world,
        "insert into public.tickets (title, customer_id) values ('New', %s)",
        [world["customer"].profile_id],
    )

    assert told == OFFICE | {"technician": CHANGED, "technician2": CHANGED, "customer": CHANGED}


@pytest.mark.parametrize("row", ["mine", "pool"])
def test_a_deleted_ticket_is_told(world: World, row: str) -> None:
    told = heard(world, "delete from public.tickets where id = %s", [world.tickets[row]])

    office = dict.fromkeys(OFFICE, DELETED)
    if row == "mine":
        assert told == office | {"technician": DELETED, "customer": DELETED, "transporter": DELETED}
    else:
        assert told == office | {"technician": DELETED, "technician2": DELETED, "customer2": DELETED}


def test_the_record_is_the_row_as_the_api_gives_it(world: World) -> None:
    give(world, world.tickets["pool"], "technician")
    row = one(
        world.connection,
        "select to_jsonb(t) as row from public.tickets as t where id = %s",
        [world.tickets["pool"]],
    )["row"]

    for message in payloads(world.connection, f"tickets:person:{world['technician'].profile_id}"):
        assert message["record"] == row
        assert (message["ticket_id"], message["version"]) == (row["id"], row["version"])


# --- who may listen and speak -----------------------------------------------------------------------------


def may_join(world: World, person: Person, topic: str) -> bool:
    """What Realtime asks when somebody joins a private channel: a probe row, read as that person."""
    connection = world.connection
    with connection.transaction(force_rollback=True):
        connection.execute(
            "insert into realtime.messages (topic, extension, event, private)"
            " values (%s, 'broadcast', 'probe', true)",
            [topic],
        )
        become(connection, person)
        connection.execute("select set_config('realtime.topic', %s, true)", [topic])
        rows = connection.execute("select from realtime.messages where event = 'probe'").rowcount
        return rows == 1


def may_send(world: World, person: Person, topic: str, told: str | None = None) -> bool:
    """What Realtime tries when somebody sends: an insert as that person."""
    with acting(world.connection, person):
        world.connection.execute("select set_config('realtime.topic', %s, true)", [told or topic])
        try:
            world.connection.execute(
                "insert into realtime.messages (topic, extension, event, private)"
                " values (%s, 'broadcast', 'spoof', true)",
                [topic],
            )
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True


LISTENERS = """
                 anonymous stranger deactivated customer transporter technician staff admin
tickets:admin    no        no       no          no       no          no         yes   yes
tickets:pool     no        no       no          no       no          yes        no    no
self             no        no       no          yes      yes         yes        yes   yes
customer2        no        no       no          no       no          no         no    no
technician2      no        no       no          no       no          no         no    no
admin2           no        no       no          no       no          no         no    no
tickets:         no        no       no          no       no          no         no    no
tickets:person:  no        no       no          no       no          no         no    no
another          no        no       no          no       no          no         no    no
"""


def listeners() -> list[tuple[str, str, str]]:
    head, *lines = [line.split() for line in LISTENERS.splitlines() if line.strip()]
    return [(line[0], actor, cell) for line in lines for actor, cell in zip(head, line[1:], strict=True)]


def topic_of(world: World, actor: str, topic: str) -> str:
    name = actor if topic == "self" else topic
    return f"tickets:person:{world[name].profile_id}" if name in world.people else topic


@pytest.mark.parametrize(("topic", "actor", "expected"), listeners())
@pytest.mark.parametrize("app_opens_all", [False, True], ids=["alone", "beside an open policy"])
def test_who_may_listen(world: World, topic: str, actor: str, expected: str, *, app_opens_all: bool) -> None:
    """Also where an app has a policy that opens every topic: ours stay closed."""
    if app_opens_all:
        world.connection.execute(
            "create policy app_opens_all on realtime.messages for select to anon, authenticated using (true)"
        )
        if topic == "another":
            expected = "yes"
    assert may_join(world, world[actor], topic_of(world, actor, topic)) == (expected == "yes")


@pytest.mark.parametrize("actor", ["anonymous", "stranger", "customer", "technician", "staff", "admin"])
@pytest.mark.parametrize("topic", ["tickets:admin", "tickets:pool", "self", "technician2", "tickets:new"])
@pytest.mark.parametrize("app_opens_all", [False, True], ids=["alone", "beside an open policy"])
def test_nobody_may_send(world: World, topic: str, actor: str, *, app_opens_all: bool) -> None:
    """Only the trigger speaks on our topics; not even by naming another topic than the row's."""
    if app_opens_all:
        world.connection.execute(
            "create policy app_sends_all on realtime.messages"
            " for insert to anon, authenticated with check (true)"
        )
        assert may_send(world, world[actor], "another")
    found = topic_of(world, actor, topic)
    assert not may_send(world, world[actor], found)
    assert not may_send(world, world[actor], found, told="another")


@pytest.mark.parametrize("statement", ["drop trigger tickets_60_broadcast on", "alter table"])
def test_nobody_is_let_in_where_nobody_speaks(world: World, statement: str) -> None:
    """Who is let in believes that they will be told."""
    if statement == "alter table":
        statement += " public.tickets disable trigger tickets_60_broadcast"
    else:
        statement += " public.tickets"
    assert may_join(world, world["admin"], "tickets:admin")
    world.connection.execute(statement.encode())
    assert not may_join(world, world["admin"], "tickets:admin")


# --- projects whose Realtime is older ---------------------------------------------------------------------


def test_a_write_does_not_fail_when_realtime_is_taken_away(world: World) -> None:
    """The trigger is still there, the function is not."""
    world.connection.execute("drop function realtime.send(jsonb, text, text, boolean) cascade")

    new_ticket(world.connection)


def test_without_realtime_send_the_files_apply_and_say_so(world: World) -> None:
    """And nothing is left of the trigger; with it again, it comes back."""
    from jamestronic_sdk import sql  # noqa: PLC0415 - only here

    broadcast = next(file for file in sql.files() if file.stem == "070_broadcast")
    triggers = "select from pg_trigger where tgname = 'tickets_60_broadcast'"
    notices: list[str] = []
    connection = world.connection
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    connection.execute("alter function realtime.send(jsonb, text, text, boolean) rename to send_later")
    be_owner(connection)
    connection.execute("set local role postgres")
    connection.execute(broadcast.text.encode())
    assert connection.execute(triggers.encode()).rowcount == 0
    assert any("realtime.send is missing" in notice for notice in notices)

    be_owner(connection)
    connection.execute("alter function realtime.send_later(jsonb, text, text, boolean) rename to send")
    connection.execute("set local role postgres")
    connection.execute(broadcast.text.encode())
    assert connection.execute(triggers.encode()).rowcount == 1
