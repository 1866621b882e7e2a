"""sync_tickets() and tickets_digest(): nothing lost, nothing told to the wrong person.

The random test makes 20 runs; the long version is ``JAMESTRONIC_SYNC_RUNS=1000 pytest -k random_runs``.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from sql_support import (
    SERVICE,
    acting,
    be_owner,
    become,
    committed_world,
    connect,
    new_ticket,
    new_world,
    one,
    session,
)

from jamestronic_sdk import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sql_support import Connection, Row, World

    from jamestronic_sdk.local.stack import LocalSupabase

RUNS = int(os.environ.get("JAMESTRONIC_SYNC_RUNS", "20"))
READERS = ("admin", "staff", "technician", "technician2", "transporter", "customer")


def sync(connection: Connection, cursor: str | None = None, page: int = 500) -> Any:
    return one(connection, "select public.sync_tickets(%s, %s) as answer", [cursor, page])["answer"]


def digest(connection: Connection) -> Any:
    return one(connection, "select public.tickets_digest() as answer")["answer"]


def seen(connection: Connection) -> dict[UUID, int]:
    """What row level security lets the caller see."""
    rows = connection.execute("select id, version from public.tickets").fetchall()
    return {row["id"]: row["version"] for row in rows}


def expected_digest(rows: dict[UUID, int]) -> dict[str, object]:
    """As a client computes it."""
    hashes = (
        int.from_bytes(hashlib.md5(f"{id_}:{version}".encode(), usedforsecurity=False).digest()[:8])
        for id_, version in rows.items()
    )
    return {"count": len(rows), "digest": f"{reduce(xor, hashes, 0):016x}"}


@dataclass
class Reader:
    """The rules of a client: newest version wins, removals leave tombstones."""

    connection: Connection
    cursor: str | None = None
    rows: dict[UUID, int] = field(default_factory=dict)
    tombstones: dict[UUID, int] = field(default_factory=dict)
    answers: list[Row] = field(default_factory=list)

    def step(self, page: int = 500) -> Any:
        """Read one page."""
        answer = sync(self.connection, self.cursor, page)
        assert answer["kind"] in {"snapshot", "delta"}
        assert len(answer["upserts"]) + len(answer["removed"]) <= page
        self.cursor = answer["cursor"]
        for row in answer["upserts"]:
            id_, version = UUID(row["id"]), row["version"]
            if version > max(self.rows.get(id_, 0), self.tombstones.get(id_, 0)):
                self.rows[id_] = version
        for entry in answer["removed"]:
            id_, version = UUID(entry["id"]), entry["version"]
            self.tombstones[id_] = max(version, self.tombstones.get(id_, 0))
            if self.rows.get(id_, 0) <= version:
                self.rows.pop(id_, None)
        return answer

    def catch_up(self, page: int = 500) -> None:
        while self.step(page)["more"]:
            pass


@pytest.fixture(scope="module")
def world(untouched_supabase: LocalSupabase) -> Iterator[World]:
    with committed_world(untouched_supabase) as world:
        yield world


@pytest.fixture
def owner(untouched_supabase: LocalSupabase) -> Iterator[Connection]:
    """A writer in autocommit."""
    with connect(untouched_supabase, autocommit=True) as connection:
        yield connection


@pytest.fixture
def reader_of(untouched_supabase: LocalSupabase, world: World) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda name: Reader(stack.enter_context(session(untouched_supabase, world[name])))


# --- digest -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["admin", "staff", "technician", "technician2", "transporter", "customer", "customer2", "service"]
)
def test_digest_is_what_a_client_computes(world: World, name: str) -> None:
    """For every role over exactly the rows that it sees."""
    with acting(world.connection, world[name]):
        assert expected_digest(seen(world.connection)) == digest(world.connection)


def test_digest_of_nothing_is_zero(world: World) -> None:
    with acting(world.connection, world["customer"]):
        become(world.connection, world["transporter2"])
        world.connection.execute("reset role")
        world.connection.execute("delete from public.tickets")
        become(world.connection, world["transporter2"])
        assert digest(world.connection) == {"count": 0, "digest": "0" * 16}


# --- first read, and what a delta says ------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("page", [1, 3, 1000])
def test_first_read_is_what_the_caller_sees(world: World, reader_of: Any, name: str, page: int) -> None:
    """In pages of any size."""
    reader = reader_of(name)
    reader.catch_up(page)

    assert seen(reader.connection) == reader.rows
    assert reader.step()["kind"] == "delta"
    assert world


def test_rows_are_those_of_the_table(reader_of: Any) -> None:
    """Every column, as the data API renders it."""
    reader = reader_of("technician")
    answer = reader.step()
    rows = reader.connection.execute(
        "select to_jsonb(t) as row from public.tickets as t order by id"
    ).fetchall()

    assert [row["row"] for row in rows] == answer["upserts"]


def test_nothing_new_is_an_empty_delta(reader_of: Any) -> None:
    reader = reader_of("admin")
    reader.catch_up()
    answer = reader.step()

    assert (answer["kind"], answer["upserts"], answer["removed"], answer["more"]) == ("delta", [], [], False)


def test_reassigning_is_a_removal_for_one_and_a_row_for_the_other(
    world: World, owner: Connection, reader_of: Any
) -> None:
    """The one who lost the ticket learns its id, the version of the leave and nothing else."""
    ticket = new_ticket(owner, assigned_technician_id=world["technician"].profile_id)
    old, new = reader_of("technician"), reader_of("technician2")
    old.catch_up()
    new.catch_up()

    left = one(
        owner,
        "update public.tickets set assigned_technician_id = %s where id = %s returning version",
        [world["technician2"].profile_id, ticket],
    )["version"]
    owner.execute("update public.tickets set title = 'secret' where id = %s", [ticket])

    assert old.step()["removed"] == [{"id": str(ticket), "version": left, "deleted": False}]
    assert [row["id"] for row in new.step()["upserts"]] == [str(ticket)]


def test_leaving_the_pool_is_a_removal_for_the_other_technicians(
    world: World, owner: Connection, reader_of: Any
) -> None:
    ticket = new_ticket(owner)
    other = reader_of("technician2")
    other.catch_up()
    assert ticket in other.rows

    owner.execute(
        "update public.tickets set assigned_technician_id = %s where id = %s",
        [world["technician"].profile_id, ticket],
    )

    assert [entry["id"] for entry in other.step()["removed"]] == [str(ticket)]


@pytest.mark.parametrize("name", ["admin", "technician", "customer", "transporter"])
def test_deletion_is_told_to_those_who_saw_the_ticket(
    world: World, owner: Connection, reader_of: Any, name: str
) -> None:
    ticket = new_ticket(
        owner,
        customer_id=world["customer"].profile_id,
        assigned_transporter_id=world["transporter"].profile_id,
        assigned_technician_id=world["technician"].profile_id,
    )
    reader, stranger = reader_of(name), reader_of("technician2")
    reader.catch_up()
    stranger.catch_up()
    held = reader.rows[ticket]

    owner.execute("delete from public.tickets where id = %s", [ticket])

    (removed,) = reader.step()["removed"]
    assert (removed["id"], removed["deleted"]) == (str(ticket), True)
    assert removed["version"] > held
    assert stranger.step()["removed"] == []


def test_what_does_not_concern_me_is_not_told(world: World, owner: Connection, reader_of: Any) -> None:
    customer, transporter = reader_of("customer"), reader_of("transporter")
    customer.catch_up()
    transporter.catch_up()

    owner.execute("update public.tickets set title = 'x' where id = %s", [world.tickets["other"]])

    for reader in (customer, transporter):
        answer = reader.step()
        assert (answer["upserts"], answer["removed"]) == ([], [])


def test_the_service_sees_everything(world: World) -> None:
    with acting(world.connection, SERVICE):
        answer = sync(world.connection)
        assert len(answer["upserts"]) == len(seen(world.connection))


# --- positions ------------------------------------------------------------------------------------------


def test_a_late_commit_is_not_lost(untouched_supabase: LocalSupabase, reader_of: Any) -> None:
    """The version was taken first and became visible last: a sequence or a time stamp would skip it."""
    reader = reader_of("admin")
    reader.catch_up()
    with connect(untouched_supabase) as early, connect(untouched_supabase) as late:
        slow = new_ticket(early)
        fast = new_ticket(late)
        late.commit()
        reader.step()
        assert fast in reader.rows
        early.commit()
        assert [row["id"] for row in reader.step()["upserts"]] == [str(slow)]


def test_nothing_is_repeated_while_a_transaction_is_open(
    untouched_supabase: LocalSupabase, reader_of: Any
) -> None:
    """A long writer elsewhere holds xmin back; the exact test of the snapshot does not care."""
    reader = reader_of("admin")
    with connect(untouched_supabase) as long, connect(untouched_supabase, autocommit=True) as writer:
        new_ticket(long)
        reader.catch_up()
        ticket = new_ticket(writer)
        assert [row["id"] for row in reader.step()["upserts"]] == [str(ticket)]
        answer = reader.step()
        assert answer["upserts"] == []
        assert answer["lag"] > 0
        long.rollback()
    assert reader.step()["removed"] == []


def test_pages_of_a_delta_belong_to_one_position(owner: Connection, reader_of: Any) -> None:
    """What changes between the pages comes with the next delta, and what left is not shown."""
    reader = reader_of("technician")
    reader.catch_up()
    tickets = sorted(new_ticket(owner) for _ in range(5))
    first = reader.step(page=2)
    assert first["more"]
    assert [row["id"] for row in first["upserts"]] == [str(id_) for id_ in tickets[:2]]

    owner.execute("delete from public.tickets where id = %s", [tickets[4]])
    owner.execute("update public.tickets set title = 'again' where id = %s", [tickets[0]])
    late = new_ticket(owner, id=UUID("ffffffff-ffff-4fff-bfff-ffffffffffff"))
    reader.catch_up(page=2)
    assert late not in reader.rows
    again = reader.step()

    assert {row["id"] for row in again["upserts"]} == {str(tickets[0]), str(late)}
    owner.execute("delete from public.tickets where id = %s", [late])
    reader.catch_up()
    assert seen(reader.connection) == reader.rows


def test_reading_twice_gives_the_same(owner: Connection, reader_of: Any) -> None:
    """A lost answer costs nothing: the same position may be asked again."""
    reader = reader_of("admin")
    reader.catch_up()
    new_ticket(owner)

    first, second = sync(reader.connection, reader.cursor), sync(reader.connection, reader.cursor)

    assert first["upserts"] == second["upserts"]


def test_a_position_of_another_person_is_reset(reader_of: Any) -> None:
    mine, yours = reader_of("technician"), reader_of("technician2")
    mine.catch_up()

    assert sync(yours.connection, mine.cursor) == {"kind": "reset", "reason": "other_viewer"}


def test_another_role_is_another_viewer(world: World, owner: Connection, reader_of: Any) -> None:
    """Changing the role changes what is visible without changing a ticket."""
    reader = reader_of("staff2")
    reader.catch_up()
    owner.execute("update public.profiles set role = 'customer' where id = %s", [world["staff2"].profile_id])
    try:
        assert sync(reader.connection, reader.cursor)["reason"] == "other_viewer"
    finally:
        owner.execute("update public.profiles set role = 'staff' where id = %s", [world["staff2"].profile_id])


def test_a_deactivated_person_is_refused(world: World) -> None:
    """Not an empty answer, which would look like `everything was removed`."""
    for call in ("select public.sync_tickets(null)", "select public.tickets_digest()"):
        with acting(world.connection, world["deactivated"]), pytest.raises(psycopg.Error) as refused:
            world.connection.execute(call.encode())
        assert refused.value.sqlstate == "PT403"


def test_too_old_a_position_is_reset(owner: Connection, reader_of: Any) -> None:
    """Never a part of what is missing; a fresh position goes on."""
    old = reader_of("admin")
    old.catch_up()
    fresh = reader_of("admin")
    new_ticket(owner)
    fresh.catch_up()
    owner.execute("update private.ticket_changes set changed_at = now() - interval '8 days'")
    while one(owner, "select private.prune_sync() as n")["n"]:
        pass

    assert sync(old.connection, old.cursor) == {"kind": "reset", "reason": "too_old"}
    new_ticket(owner)
    assert len(fresh.step()["upserts"]) == 1


def test_the_log_is_bounded_by_number_too(untouched_supabase: LocalSupabase) -> None:
    with connect(untouched_supabase) as connection:
        new_world(connection)
        before = one(connection, "select count(*) as n from private.ticket_changes")["n"]
        pruned = one(connection, "select private.prune_sync(keep_rows => 3) as n")["n"]
        after = one(connection, "select count(*) as n from private.ticket_changes")["n"]
        connection.rollback()

    assert (after, pruned) == (3, before - 3)


def test_the_changes_themselves_prune(untouched_supabase: LocalSupabase) -> None:
    """One in 1024 does; no scheduler is needed."""
    with connect(untouched_supabase) as connection:
        ticket = new_ticket(connection)
        connection.execute("update private.ticket_changes set changed_at = now() - interval '8 days'")
        for _ in range(1024):
            connection.execute("update public.tickets set title = title where id = %s", [ticket])
        old = one(
            connection,
            "select count(*) as n from private.ticket_changes where changed_at < now() - interval '7 days'",
        )
        connection.rollback()

    assert old["n"] == 0


def test_truncating_resets_everybody(untouched_supabase: LocalSupabase) -> None:
    with connect(untouched_supabase) as connection:
        world = new_world(connection)
        become(connection, world["admin"])
        cursor = sync(connection)["cursor"]
        be_owner(connection)
        connection.execute("truncate public.tickets cascade")
        become(connection, world["admin"])
        answer = sync(connection, cursor)
        connection.rollback()

    assert answer["kind"] == "reset"


def test_a_position_of_the_future_is_reset(reader_of: Any) -> None:
    """A restored database is behind its clients."""
    reader = reader_of("admin")
    reader.catch_up()
    viewer = reader.cursor.partition("@")[2]

    answer = sync(reader.connection, f"999999999999:999999999999:@{viewer}")

    assert answer == {"kind": "reset", "reason": "too_old"}


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        " ",
        "@",
        "1:2",
        "1:2:",
        "2:1:@0123456789abcdef",
        "1:2:9@0123456789abcdef",
        "a:b:@0123456789abcdef",
        "@0123456789abcdef",
        "@0123456789abcdef/1:2:/not-a-uuid",
        "99999999999999999999:99999999999999999999:@0123456789abcdef",
        "9999999999999999999:9999999999999999999:@0123456789abcdef",
        "1:1:@0123456789abcdef/2:1:/00000000-0000-0000-0000-000000000000",
        "'; drop table public.tickets; --",
        "1:1:@0123456789abcdef' or '1'='1",
        "1:1:" + "1," * 10_000 + "@0123456789abcdef",
        "\n1:1:@0123456789abcdef",
    ],
)
def test_any_other_text_is_reset(reader_of: Any, cursor: str) -> None:
    """A position is opaque; a broken one heals by reading everything once."""
    assert sync(reader_of("technician").connection, cursor)["kind"] == "reset"


@pytest.mark.parametrize("page", [None, -1, 0, 1, 1001, 2_147_483_647])
def test_page_sizes_are_clamped(reader_of: Any, page: int) -> None:
    reader = reader_of("admin")
    answer = one(reader.connection, "select public.sync_tickets(null, %s) as a", [page])["a"]

    assert 1 <= len(answer["upserts"]) <= 1000


# --- random runs ----------------------------------------------------------------------------------------


class Writers:
    """Open transactions that end in any order; one thread, so that a seed replays."""

    def __init__(self, connections: list[Connection], world: World, dice: random.Random) -> None:
        self.connections = connections
        self.dice = dice
        self.held: dict[int, set[UUID]] = {n: set() for n in range(len(connections))}
        self.born: dict[int, set[UUID]] = {n: set() for n in range(len(connections))}
        self.died: dict[int, set[UUID]] = {n: set() for n in range(len(connections))}
        self.alive: set[UUID] = set()
        self.choices = {
            column: [None, *(world[name].profile_id for name in names)]
            for column, names in (
                ("assigned_technician_id", ("technician", "technician2")),
                ("assigned_transporter_id", ("transporter", "transporter2")),
                ("customer_id", ("customer", "customer2")),
            )
        }

    def write(self) -> None:
        """One statement in one of the open transactions."""
        n = self.dice.randrange(len(self.connections))
        connection = self.connections[n]
        locked = set().union(*(self.held[m] for m in self.held if m != n))
        free = sorted((self.alive | self.born[n]) - locked - self.died[n])
        action = self.dice.choices(["insert", "update", "delete"], [3, 8, 1])[0]
        if action == "insert" or not free:
            id_ = UUID(int=self.dice.getrandbits(128), version=4)
            values = {column: self.dice.choice(options) for column, options in self.choices.items()}
            new_ticket(connection, id=id_, **values)
            self.held[n].add(id_)
            self.born[n].add(id_)
            return
        id_ = self.dice.choice(free)
        self.held[n].add(id_)
        if action == "delete":
            connection.execute("delete from public.tickets where id = %s", [id_])
            self.died[n].add(id_)
            return
        column = self.dice.choice([*self.choices, "title"])
        value = f"title {self.dice.random()}" if column == "title" else self.dice.choice(self.choices[column])
        connection.execute(f"update public.tickets set {column} = %s where id = %s".encode(), [value, id_])

    def end(self, n: int | None = None, *, commit: bool | None = None) -> None:
        """Commit or roll back one of them."""
        n = self.dice.randrange(len(self.connections)) if n is None else n
        commit = self.dice.random() < 0.8 if commit is None else commit
        if commit:
            self.connections[n].commit()
            self.alive = (self.alive | self.born[n]) - self.died[n]
        else:
            self.connections[n].rollback()
        for held in (self.held, self.born, self.died):
            held[n] = set()

    def end_all(self) -> None:
        for n in range(len(self.connections)):
            self.end(n, commit=True)


@pytest.fixture(scope="module")
def crowd(
    untouched_supabase: LocalSupabase, world: World
) -> Iterator[tuple[list[Connection], list[Connection]]]:
    """Four writers, and a connection for each reader."""
    with ExitStack() as stack:
        yield (
            [stack.enter_context(connect(untouched_supabase)) for _ in range(4)],
            [stack.enter_context(session(untouched_supabase, world[name])) for name in READERS],
        )


@pytest.mark.parametrize("seed", range(RUNS))
def test_random_runs_converge(
    world: World, crowd: tuple[list[Connection], list[Connection]], seed: int
) -> None:
    """Whatever the order of commits and the size of pages: every reader ends with what it may see."""
    dice = random.Random(seed)  # noqa: S311 - a replayable schedule, no secret
    connections, sessions = crowd
    writers = Writers(connections, world, dice)
    readers = [Reader(connection) for connection in sessions]
    try:
        for _ in range(dice.randrange(20, 70)):
            match dice.choices(["write", "end", "read"], [5, 2, 3])[0]:
                case "write":
                    writers.write()
                case "end":
                    writers.end()
                case _:
                    dice.choice(readers).step(page=dice.choice([1, 2, 3, 50, 1000]))
        writers.end_all()
        for reader in readers:
            reader.catch_up(page=dice.choice([2, 5, 1000]))
            # The first may have ended a page-wise read that began before the last commits.
            reader.catch_up(page=dice.choice([2, 5, 1000]))
            visible = seen(reader.connection)
            assert visible == reader.rows
            assert expected_digest(reader.rows) == digest(reader.connection)
            idle = reader.step()
            assert (idle["upserts"], idle["removed"]) == ([], [])
    finally:
        for connection in connections:
            connection.rollback()
        with connections[0].transaction():
            connections[0].execute("delete from public.tickets where id = any(%s)", [[*writers.alive]])


def test_readers_converge_beside_concurrent_writers(untouched_supabase: LocalSupabase, world: World) -> None:
    """The same with real concurrency: threads that wait for each other's rows."""
    tickets = [new_ticket(world.connection, customer_id=world["customer"].profile_id) for _ in range(6)]
    world.connection.commit()
    writing = threading.Event()
    writing.set()

    def write(seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311 - no secret
        holders = [None, world["technician"].profile_id, world["technician2"].profile_id]
        with connect(untouched_supabase) as connection:
            for _ in range(60):
                # In one order, so that nobody waits in a circle.
                for ticket in sorted(dice.sample(tickets, dice.randint(1, 3))):
                    connection.execute(
                        "update public.tickets set assigned_technician_id = %s where id = %s",
                        [dice.choice(holders), ticket],
                    )
                if dice.random() < 0.2:
                    connection.rollback()
                else:
                    connection.commit()

    def read(name: str) -> tuple[dict[UUID, int], dict[UUID, int]]:
        with session(untouched_supabase, world[name]) as connection:
            reader = Reader(connection)
            while writing.is_set():
                reader.catch_up(page=4)
            reader.catch_up()
            return reader.rows, seen(connection)

    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(read, name) for name in ("admin", "technician", "technician2")]
        try:
            for writer in [pool.submit(write, seed) for seed in range(4)]:
                writer.result(timeout=60)
        finally:
            writing.clear()
        for reader in readers:
            rows, visible = reader.result(timeout=60)
            assert visible == rows


def test_versions_rise_per_row_in_commit_order(owner: Connection) -> None:
    ticket = new_ticket(owner)
    versions = [
        one(owner, "update public.tickets set title = %s where id = %s returning version", [str(n), ticket])
        for n in range(5)
    ]

    assert [row["version"] for row in versions] == sorted({row["version"] for row in versions})


def test_pg_cron_prunes_where_it_is_installed(untouched_supabase: LocalSupabase) -> None:
    """One job by name, however often the file is applied."""
    sync_file = next(file for file in sql.files() if file.stem == "060_sync")
    with connect(untouched_supabase) as connection:
        connection.execute(
            "create schema cron; grant usage on schema cron to postgres;"
            " create table cron.job (jobname text primary key, schedule text, command text);"
            " grant select, insert, update on cron.job to postgres;"
            " create function cron.schedule(job_name text, schedule text, command text) returns bigint"
            " language sql as $$ insert into cron.job values (job_name, schedule, command)"
            " on conflict (jobname) do update set command = excluded.command returning 1 $$"
        )
        connection.execute("set local role postgres")
        for _ in range(2):
            connection.execute(sync_file.text.encode())
        (job,) = connection.execute("select * from cron.job").fetchall()
        be_owner(connection)
        connection.execute(job["command"].encode())
        connection.rollback()

    assert job["jobname"] == "jamestronic-prune-sync"
