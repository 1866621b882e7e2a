"""The commands: who, when, what; each refusal with its SQLSTATE and its reason."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sql_support import SERVICE, acting, become, committed_world, connect, new_ticket, new_world, one, session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sql_support import Person, Row, World

    from jamestronic_sdk.local.stack import LocalSupabase

CLAIMS = 50


@pytest.fixture(scope="module")
def world(local_supabase: LocalSupabase) -> Iterator[World]:
    """Everybody and everything, in a transaction that is never committed."""
    with connect(local_supabase) as connection:
        yield new_world(connection)
        connection.rollback()


def call(world: World, name: str, *arguments: object) -> Row:
    """Call a command as whoever the connection is."""
    places = ", ".join(["%s"] * len(arguments))
    return one(world.connection, f"select * from public.{name}({places})", arguments)


def refusal(world: World, name: str, *arguments: object) -> tuple[str, str]:
    """SQLSTATE and reason of a command that is refused."""
    with pytest.raises(psycopg.Error) as refused, world.connection.transaction():
        call(world, name, *arguments)
    diagnosis = refused.value.diag
    detail = json.loads(diagnosis.message_detail or "{}")
    assert set(detail) <= {"reason", "current_version"}
    return diagnosis.sqlstate or "", detail.get("reason", "")


def version(world: World, ticket: UUID) -> int:
    found = one(world.connection, "select version from public.tickets where id = %s", [ticket])["version"]
    assert isinstance(found, int)
    return found


def arguments_of(world: World, command: str, ticket: UUID) -> list[object]:
    """Arguments that an admin could use."""
    match command:
        case "assign_ticket":
            return [ticket, world["technician"].profile_id]
        case "set_ticket_status":
            return [ticket, "in_progress"]
        case "schedule_transport":
            return [ticket, world["transporter"].profile_id, "2026-12-01T09:00Z"]
        case _:
            return [ticket]


COMMANDS = (
    "assign_ticket",
    "unassign_ticket",
    "claim_ticket",
    "release_ticket",
    "set_ticket_status",
    "schedule_transport",
)

ALLOWED = {
    "assign_ticket": {"admin", "staff", "service"},
    "unassign_ticket": {"admin", "staff", "service"},
    "claim_ticket": {"technician"},
    "release_ticket": {"technician"},
    "set_ticket_status": {"admin", "staff", "technician", "transporter", "service"},
    "schedule_transport": {"admin", "staff", "service"},
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "actor",
    [
        "anonymous",
        "stranger",
        "deactivated",
        "customer",
        "transporter",
        "technician",
        "staff",
        "admin",
        "service",
    ],
)
def test_who_may_use_a_command(world: World, command: str, actor: str) -> None:
    """A role that may not is refused before the ticket is looked at: it learns nothing of it."""
    if actor in ALLOWED[command]:
        return
    with acting(world.connection, world[actor]):
        for ticket in (world.tickets["mine"], uuid4()):
            state, reason = refusal(world, command, *arguments_of(world, command, ticket))
            if actor == "anonymous":
                assert state == "42501"
            else:
                assert state == "PT403"
                assert reason in {"role_not_allowed", "no_active_profile"}


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_ticket_is_not_found(world: World, command: str) -> None:
    actor = "technician" if "technician" in ALLOWED[command] else "admin"
    with acting(world.connection, world[actor]):
        arguments = arguments_of(world, command, uuid4())
        assert refusal(world, command, *arguments) == ("PT404", "ticket_not_found")
        arguments[0] = None
        assert refusal(world, command, *arguments) == ("PT404", "ticket_not_found")


@pytest.mark.parametrize(
    ("command", "actor"),
    [
        ("release_ticket", "technician"),
        ("set_ticket_status", "technician"),
        ("set_ticket_status", "transporter"),
    ],
)
def test_invisible_ticket_looks_like_an_unknown_one(world: World, command: str, actor: str) -> None:
    with acting(world.connection, world[actor]):
        arguments = arguments_of(world, command, world.tickets["other"])
        assert refusal(world, command, *arguments) == ("PT404", "ticket_not_found")


@pytest.mark.parametrize("actor", ["admin", "staff", "technician", "transporter", "customer", "service"])
def test_commands_see_what_the_policy_lets_see(world: World, actor: str) -> None:
    """The commands repeat the arms of tickets_read_technician_assigned: here the two are compared."""
    person = world[actor]
    for ticket in world.tickets.values():
        with acting(world.connection, person):
            visible = one(
                world.connection, "select count(*) as n from public.tickets where id = %s", [ticket]
            )["n"]
        profile = json.dumps({"id": person.profile_id, "role": person.name}, default=str)
        lock = "select private.command_ticket(jsonb_populate_record(null::public.profiles, %s), %s, null)"
        if visible:
            with world.connection.transaction(force_rollback=True):
                one(world.connection, lock, [profile, ticket])
        else:
            with pytest.raises(psycopg.Error, match="no such ticket"), world.connection.transaction():
                one(world.connection, lock, [profile, ticket])


@pytest.mark.parametrize("command", COMMANDS)
def test_stale_version_is_a_conflict_and_changes_nothing(world: World, command: str) -> None:
    actor = "technician" if command in {"claim_ticket", "release_ticket"} else "admin"
    ticket = world.tickets["pool" if command == "claim_ticket" else "mine"]
    with acting(world.connection, world[actor]):
        before = version(world, ticket)
        arguments = [*arguments_of(world, command, ticket), before - 1]
        with pytest.raises(psycopg.Error) as refused, world.connection.transaction():
            call(world, command, *arguments)
        assert refused.value.sqlstate == "PT409"
        assert json.loads(refused.value.diag.message_detail or "") == {
            "reason": "version_conflict",
            "current_version": before,
        }
        assert version(world, ticket) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_right_version_is_carried_out(world: World, command: str) -> None:
    actor = "technician" if command in {"claim_ticket", "release_ticket"} else "admin"
    ticket = world.tickets["pool" if command in {"claim_ticket", "assign_ticket"} else "mine"]
    with acting(world.connection, world[actor]):
        before = version(world, ticket)
        row = call(world, command, *arguments_of(world, command, ticket), before)
        assert row["id"] == ticket
        assert row["version"] == version(world, ticket) > before


# --- assigning ------------------------------------------------------------------------------------------


def test_assigning_and_unassigning_move_the_status(world: World) -> None:
    with acting(world.connection, world["staff"]):
        ticket = world.tickets["pool"]
        row = call(world, "assign_ticket", ticket, world["technician"].profile_id)
        assert (row["status"], row["assigned_technician_id"]) == ("assigned", world["technician"].profile_id)
        call(world, "set_ticket_status", ticket, "in_progress")
        row = call(world, "assign_ticket", ticket, world["technician2"].profile_id)
        assert row["status"] == "in_progress"
        row = call(world, "unassign_ticket", ticket)
        assert (row["status"], row["assigned_technician_id"]) == ("open", None)


def test_assigning_again_changes_nothing(world: World) -> None:
    with acting(world.connection, world["staff"]):
        ticket, technician = world.tickets["mine"], world["technician"].profile_id
        before = version(world, ticket)
        assert call(world, "assign_ticket", ticket, technician)["version"] == before
        call(world, "unassign_ticket", ticket)
        before = version(world, ticket)
        assert call(world, "unassign_ticket", ticket)["version"] == before


@pytest.mark.parametrize("who", ["customer", "staff", "deactivated", "nobody", "null"])
def test_only_active_technicians_get_tickets(world: World, who: str) -> None:
    assignee = {"nobody": uuid4(), "null": None}.get(who) or (
        world[who].profile_id if who in world.people else None
    )
    assignee = uuid4() if who == "nobody" else assignee
    with acting(world.connection, world["admin"]):
        expected = ("PT422", "not_an_active_technician")
        assert refusal(world, "assign_ticket", world.tickets["pool"], assignee) == expected


def test_a_plain_update_may_not_name_another_either(world: World) -> None:
    """Not for an admin and not for the service: the trigger looks, whoever writes."""
    for actor in (world["admin"], SERVICE):
        with acting(world.connection, actor), pytest.raises(psycopg.Error) as refused:
            world.connection.execute(
                "update public.tickets set assigned_technician_id = %s where id = %s",
                [world["customer"].profile_id, world.tickets["pool"]],
            )
        assert refused.value.sqlstate == "PT422"


@pytest.mark.parametrize("command", ["assign_ticket", "unassign_ticket", "schedule_transport"])
@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_finished_tickets_stay_as_they_are(world: World, command: str, status: str) -> None:
    with acting(world.connection, SERVICE):
        ticket = world.tickets["mine"]
        world.connection.execute("update public.tickets set status = %s where id = %s", [status, ticket])
        become(world.connection, world["admin"])
        arguments = arguments_of(world, command, ticket)
        assert refusal(world, command, *arguments) == ("PT422", "illegal_transition")


# --- claiming and releasing -----------------------------------------------------------------------------


def test_claiming_takes_an_open_ticket(world: World) -> None:
    with acting(world.connection, world["technician"]):
        row = call(world, "claim_ticket", world.tickets["pool"])
        assert (row["status"], row["assigned_technician_id"]) == ("assigned", world["technician"].profile_id)
        assert call(world, "claim_ticket", world.tickets["pool"])["version"] == row["version"]


def test_claiming_anothers_ticket_is_a_conflict(world: World) -> None:
    with acting(world.connection, world["technician"]):
        assert refusal(world, "claim_ticket", world.tickets["other"]) == ("PT409", "already_taken")


@pytest.mark.parametrize("status", ["ready", "completed", "cancelled"])
def test_only_open_tickets_are_claimed(world: World, status: str) -> None:
    with acting(world.connection, SERVICE):
        ticket = new_ticket(world.connection, status=status)
        become(world.connection, world["technician"])
        assert refusal(world, "claim_ticket", ticket) == ("PT422", "illegal_transition")


def test_releasing_gives_the_ticket_back(world: World) -> None:
    with acting(world.connection, world["technician"]):
        row = call(world, "release_ticket", world.tickets["mine"])
        assert (row["status"], row["assigned_technician_id"]) == ("open", None)
        assert refusal(world, "release_ticket", world.tickets["mine"]) == ("PT409", "not_yours")


def test_a_ready_ticket_is_not_released(world: World) -> None:
    with acting(world.connection, world["technician"]):
        ticket = world.tickets["mine"]
        call(world, "set_ticket_status", ticket, "in_progress")
        call(world, "set_ticket_status", ticket, "ready")
        assert refusal(world, "release_ticket", ticket) == ("PT422", "illegal_transition")


# --- status ---------------------------------------------------------------------------------------------

STATUSES = ("open", "assigned", "in_progress", "waiting_parts", "ready", "completed", "cancelled")

TRANSITIONS = """
from / to      open  assigned  in_progress  waiting_parts  ready  completed  cancelled
open           .     -         -            -              -      -          as
assigned       -     .         ast          -              -      -          as
in_progress    -     -         .            ast            ast    ast        as
waiting_parts  -     -         ast          .              -      -          as
ready          -     -         ast          -              .      astm       as
completed      -     -         -            -              -      .          -
cancelled      -     -         -            -              -      -          .
"""
"""Who may: a admin, s staff, t technician, m transporter (mover); - nobody; . already there."""


def transitions() -> list[tuple[str, str, str]]:
    _, *lines = [line.split() for line in TRANSITIONS.splitlines() if line.strip()]
    return [(line[0], to, who) for line in lines for to, who in zip(STATUSES, line[1:], strict=True)]


@pytest.mark.parametrize("actor", ["admin", "staff", "technician", "transporter", "service"])
@pytest.mark.parametrize(("before", "after", "who"), transitions())
def test_which_status_may_follow_which(world: World, actor: str, before: str, after: str, who: str) -> None:
    """Every cell of the table, by the command, and by a plain update for those whom the guard binds."""
    letter = {"admin": "a", "staff": "s", "technician": "t", "transporter": "m", "service": "a"}[actor]
    ticket = world.tickets["mine"]
    with acting(world.connection, SERVICE):
        if before == "open":
            world.connection.execute(
                "update public.tickets set assigned_technician_id = null where id = %s", [ticket]
            )
        else:
            world.connection.execute("update public.tickets set status = %s where id = %s", [before, ticket])
        start = version(world, ticket)
        become(world.connection, world[actor])
        if who == ".":
            if actor == "technician" and before == "open":
                return
            assert call(world, "set_ticket_status", ticket, after)["version"] == start
        elif letter in who:
            assert call(world, "set_ticket_status", ticket, after)["status"] == after
        elif actor == "technician" and before == "open":
            assert refusal(world, "set_ticket_status", ticket, after) == ("PT403", "not_yours")
        elif who == "-":
            assert refusal(world, "set_ticket_status", ticket, after) == ("PT422", "illegal_transition")
        else:
            assert refusal(world, "set_ticket_status", ticket, after) == ("PT403", "role_not_allowed")


@pytest.mark.parametrize("status", [None, "", "OPEN", "done", "'; drop table public.tickets; --"])
def test_unknown_status_is_an_illegal_transition(world: World, status: str | None) -> None:
    """Its text is not repeated in the error."""
    with acting(world.connection, world["admin"]):
        with pytest.raises(psycopg.Error) as refused, world.connection.transaction():
            call(world, "set_ticket_status", world.tickets["mine"], status)
        assert refused.value.sqlstate == "PT422"
        assert "drop table" not in str(refused.value)


# --- transport ------------------------------------------------------------------------------------------


def test_transport_is_scheduled_and_cleared(world: World) -> None:
    with acting(world.connection, world["staff"]):
        ticket = world.tickets["pool"]
        row = call(world, "schedule_transport", ticket, world["transporter"].profile_id, "2026-12-01T09:00Z")
        assert row["assigned_transporter_id"] == world["transporter"].profile_id
        row = call(world, "schedule_transport", ticket, None, None)
        assert (row["assigned_transporter_id"], row["scheduled_at"]) == (None, None)


def test_only_active_transporters_move(world: World) -> None:
    with acting(world.connection, world["staff"]):
        arguments = [world.tickets["pool"], world["technician"].profile_id, "2026-12-01T09:00Z"]
        assert refusal(world, "schedule_transport", *arguments) == ("PT422", "not_an_active_transporter")


# --- again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_retry_with_the_same_key_gets_the_first_answer(world: World, command: str) -> None:
    """Also after others have changed the ticket, and although expected_version is stale by then."""
    actor = "technician" if command in {"claim_ticket", "release_ticket"} else "admin"
    ticket = world.tickets["pool" if command in {"claim_ticket", "assign_ticket"} else "mine"]
    with acting(world.connection, world[actor]):
        arguments = [*arguments_of(world, command, ticket), version(world, ticket), uuid4()]
        first = call(world, command, *arguments)
        become(world.connection, SERVICE)
        world.connection.execute("update public.tickets set title = 'later' where id = %s", [ticket])
        now = version(world, ticket)
        become(world.connection, world[actor])
        assert call(world, command, *arguments) == first
        assert version(world, ticket) == now


def test_a_key_belongs_to_one_request_and_one_person(world: World) -> None:
    key = uuid4()
    with acting(world.connection, world["admin"]):
        call(world, "unassign_ticket", world.tickets["mine"], None, key)
        expected = ("PT422", "idempotency_key_reused")
        assert refusal(world, "unassign_ticket", world.tickets["other"], None, key) == expected
        arguments = [world.tickets["mine"], world["technician"].profile_id, None, key]
        assert refusal(world, "assign_ticket", *arguments) == expected
        become(world.connection, world["staff"])
        assert (
            call(world, "unassign_ticket", world.tickets["other"], None, key)["id"] == world.tickets["other"]
        )


def test_a_refused_command_leaves_its_key_free(world: World) -> None:
    key = uuid4()
    with acting(world.connection, world["admin"]):
        state, _ = refusal(world, "assign_ticket", world.tickets["pool"], uuid4(), None, key)
        assert state == "PT422"
        row = call(world, "assign_ticket", world.tickets["pool"], world["technician"].profile_id, None, key)
        assert row["status"] == "assigned"


def test_answers_are_kept_for_a_day(world: World) -> None:
    key = uuid4()
    with acting(world.connection, world["admin"]):
        call(world, "unassign_ticket", world.tickets["mine"], None, key)
        world.connection.execute("reset role")
        world.connection.execute(
            "update private.command_answers set created_at = now() - interval '25 hours'"
        )
        world.connection.execute("select private.prune_sync()")
        left = one(world.connection, "select count(*) as n from private.command_answers")
        assert left["n"] == 0


# --- at once --------------------------------------------------------------------------------------------


def test_of_fifty_claims_one_wins(local_supabase: LocalSupabase) -> None:
    """Two technicians, 25 programs each: one row changes hands once, the others are told at once."""
    with committed_world(local_supabase) as world:
        ticket = world.tickets["pool"]
        gate = Barrier(CLAIMS)

        def claim(person: Person) -> tuple[str, Any]:
            with closing(session(local_supabase, person)) as connection:
                gate.wait(timeout=60)
                try:
                    row = one(connection, "select * from public.claim_ticket(%s)", [ticket])
                except psycopg.Error as error:
                    return error.sqlstate or "", json.loads(error.diag.message_detail or "{}")["reason"]
                return row["version"], row["assigned_technician_id"]

        before = version(world, ticket)
        world.connection.rollback()
        people = [world["technician"], world["technician2"]] * (CLAIMS // 2)
        with ThreadPoolExecutor(CLAIMS) as pool:
            answers = list(pool.map(claim, people))

        winners = [answer for answer in answers if answer[0] != "PT409"]
        # The other programs of the winner are answered the same row: it is theirs already.
        assert len(winners) == CLAIMS // 2
        assert len(set(winners)) == 1
        assert {answer for answer in answers if answer[0] == "PT409"} == {("PT409", "already_taken")}
        assert version(world, ticket) == winners[0][0] > before
        changes = one(
            world.connection,
            "select count(*) as n from private.ticket_changes where ticket_id = %s and version > %s",
            [ticket, before],
        )
        assert changes["n"] == 1


def test_of_many_commands_with_one_expected_version_one_is_carried_out(local_supabase: LocalSupabase) -> None:
    """The row is locked before its version is looked at: no update is lost."""
    with committed_world(local_supabase) as world:
        ticket = world.tickets["mine"]
        before = version(world, ticket)
        world.connection.rollback()
        gate = Barrier(8)

        def schedule(n: int) -> str:
            with closing(session(local_supabase, world["admin"])) as connection:
                gate.wait(timeout=60)
                try:
                    one(
                        connection,
                        "select public.schedule_transport(%s, %s, now() + make_interval(hours => %s), %s)",
                        [ticket, world["transporter"].profile_id, n, before],
                    )
                except psycopg.Error as error:
                    return error.sqlstate or ""
                return "done"

        for _ in range(5):
            with ThreadPoolExecutor(8) as pool:
                assert sorted(pool.map(schedule, range(8))) == ["PT409"] * 7 + ["done"]
            before = version(world, ticket)
            world.connection.rollback()


def test_one_key_from_many_programs_acts_once(local_supabase: LocalSupabase) -> None:
    with committed_world(local_supabase) as world:
        ticket, key = world.tickets["mine"], uuid4()
        gate = Barrier(8)

        def unassign(_: int) -> int:
            with closing(session(local_supabase, world["admin"])) as connection:
                gate.wait(timeout=60)
                row = one(connection, "select * from public.unassign_ticket(%s, null, %s)", [ticket, key])
                found = row["version"]
                assert isinstance(found, int)
                return found

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(unassign, range(8)))) == 1
