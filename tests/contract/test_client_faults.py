"""The client before a server that fails, and a token that expires: what is promised under load."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from client_people import Shop, open_shop
from fault_proxy import Fault, FaultProxy

from jamestronic_sdk import JamesTronic, JamesTronicError, NewTicket, RetryPolicy, Role, Ticket
from jamestronic_sdk.local.tokens import make_jwt, verify_jwt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from project import Project

    from jamestronic_sdk.local.stack import LocalSupabase

# 30 % of all tries fail: ten repeats make a whole call fail once in 500,000.
PATIENT = RetryPolicy(retries=10, base=0.01, cap=0.05)

FAULTS = (
    Fault("500", status=500),
    Fault("429", status=429, retry_after="0"),
    Fault("502 page", status=502, body="<html>Bad Gateway</html>", content_type="text/html"),
    Fault("reset", is_reset=True),
    Fault("reset after the work was done", is_reset=True, does_work=True),
    Fault("500 after the work was done", status=500, does_work=True),
)


@pytest.fixture
async def shop(project: Project) -> AsyncIterator[Shop]:
    async with open_shop(project) as opened:
        yield opened


@pytest.fixture
async def proxy(project: Project) -> AsyncIterator[FaultProxy]:
    rng = random.Random(20261122)  # noqa: S311 - for tests
    async with FaultProxy(project.url, rng).serving() as running:
        yield running


@asynccontextmanager
async def behind(proxy: FaultProxy, shop: Shop, role: Role, **options: Any) -> AsyncIterator[JamesTronic]:
    """A person whose requests go through the proxy."""
    person = await shop.person(role)
    async with JamesTronic(proxy.url, shop.supabase.anon_key, env_file=None, **options) as jt:
        await jt.auth.sign_in(email=person.email, password=person.password)
        yield jt


def fail(proxy: FaultProxy, rate: float) -> None:
    """So many of all requests fail, but for those that sign somebody in."""
    proxy.heal()
    for prefix in ("/rest", "/auth/v1/token/refresh"):
        proxy.inject(prefix, *FAULTS, rate=rate)


async def at_once(calls: int, width: int, call: Callable[[int], Awaitable[object]]) -> None:
    """Run calls, so many at a time."""
    gate = asyncio.Semaphore(width)

    async def one(number: int) -> None:
        async with gate:
            await call(number)

    async with asyncio.TaskGroup() as group:
        for number in range(calls):
            group.create_task(one(number))


@pytest.mark.parametrize("who_knows", ["client", "server"])
async def test_200_calls_through_an_expiring_token(
    shop: Shop, proxy: FaultProxy, who_knows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One renewal serves all, whether the client's clock sees the end coming, or only the server's does."""
    async with behind(proxy, shop, Role.ADMIN) as jt:
        session = jt.auth._session
        assert session is not None
        claims = verify_jwt(shop.supabase.jwt_secret, session.access_token)
        old = make_jwt(shop.supabase.jwt_secret, {**claims, "exp": int(time.time()) - 60})
        ended = session.lifetime if who_knows == "client" else 0.0
        jt.auth._session = dataclasses.replace(
            session,
            access_token=old,
            ends_now=session.ends_now - ended,
            ends_wall=session.ends_wall - ended,
        )
        proxy.requests.clear()
        answered = 0

        async def call(number: int) -> None:
            nonlocal answered
            if number % 2:
                await jt.tickets.list(limit=1)
            else:
                await jt.tickets.create(title=f"through {number}")
            answered += 1

        await at_once(200, 200, call)
        assert answered == 200
        assert proxy.requests["refresh"] == 1
        assert await jt.auth.access_token() != old
    with capsys.disabled():
        print(f"\n{who_knows} knows: 200 calls, {proxy.requests['refresh']} renewal, 0 failed")


async def test_reads_all_succeed_through_30_percent_faults(
    shop: Shop, proxy: FaultProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    async with behind(proxy, shop, Role.ADMIN, retries=PATIENT) as jt:
        made = [await jt.tickets.create(title=f"fault {uuid4().hex}") for _ in range(3)]
        proxy.requests.clear()
        fail(proxy, 0.3)

        async def read(number: int) -> None:
            match number % 6:
                case 0:
                    assert (await jt.tickets.get(made[0])).id == made[0].id
                case 1:
                    assert await jt.tickets.query(text=made[1].title).count() == 1
                case 2:
                    assert [row.id async for row in jt.tickets.query(text=made[2].title)] == [made[2].id]
                case 3:
                    assert await jt.notes.list(made[0]) == []
                case 4:
                    assert await jt.rpc("get_my_role", idempotent=True) == "admin"
                case _:
                    assert len(await jt.tickets.get_many(made)) == 3

        await at_once(300, 40, read)
        assert proxy.faults.total() > 60
        assert len(proxy.faults) == 6
    with capsys.disabled():
        print(f"\n300 reads, 0 failed, {proxy.requests.total()} requests, faults: {dict(proxy.faults)}")


async def test_no_command_is_applied_twice_through_30_percent_faults(
    shop: Shop, proxy: FaultProxy, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """The database counts the changes of each ticket: as many as commands, though answers were lost."""
    batch = uuid4().hex
    technicians = [await shop.profile_of(await shop.person(Role.TECHNICIAN)) for _ in range(2)]
    failed = 0
    async with (
        behind(proxy, shop, Role.ADMIN, retries=PATIENT) as jt,
        changes_counted(project.require_stack()) as counted,
    ):
        fail(proxy, 0.3)
        done: dict[str, int] = {}

        async def story(number: int) -> None:
            nonlocal failed
            ticket: Ticket = await jt.tickets.create(NewTicket(title=f"{batch} {number}"))
            await jt.notes.create(ticket, body=f"{batch} {number}")
            steps: list[Callable[[], Awaitable[Ticket]]] = [
                lambda: jt.tickets.assign(ticket, technicians[0]),
                lambda: jt.tickets.assign(ticket, technicians[1]),
                lambda: jt.tickets.set_status(ticket, "in_progress"),
                lambda: jt.tickets.set_status(ticket, "waiting_parts"),
                lambda: jt.tickets.set_status(ticket, "in_progress"),
                lambda: jt.tickets.unassign(ticket),
            ]
            for step in steps:
                try:
                    await step()
                except JamesTronicError:
                    failed += 1
                else:
                    done[str(ticket.id)] = done.get(str(ticket.id), 0) + 1

        await at_once(30, 15, story)
        proxy.heal()
        found = [row async for row in jt.tickets.query(text=batch)]
        notes = await shop.service.table("ticket_notes").where("body", "like", f"{batch}%").count()
        changes = await counted()
    assert failed == 0
    assert (len(found), notes) == (30, 30)
    assert {key: changes[key] for key in done} == done
    assert set(done.values()) == {6}
    assert proxy.faults["reset after the work was done"] > 5
    with capsys.disabled():
        print(f"\n30 inserts, 30 notes, 180 commands: each once; faults: {dict(proxy.faults)}")


@asynccontextmanager
async def changes_counted(
    supabase: LocalSupabase,
) -> AsyncIterator[Callable[[], Awaitable[dict[str, int]]]]:
    """How often each ticket is changed from now on, as the database sees it."""
    async with await psycopg.AsyncConnection.connect(supabase.database_url, autocommit=True) as database:
        await database.execute("""
            create table private.proof (ticket_id uuid not null);
            create function private.proof() returns trigger language plpgsql security definer
            set search_path = '' as $$
            begin
              insert into private.proof (ticket_id) values (new.id);
              return null;
            end $$;
            create trigger proof after update on public.tickets
            for each row execute function private.proof();
        """)
        try:

            async def counts() -> dict[str, int]:
                rows = await database.execute(
                    "select ticket_id::text, count(*) from private.proof group by ticket_id"
                )
                return dict(await rows.fetchall())

            yield counts
        finally:
            await database.execute("""
                drop trigger proof on public.tickets;
                drop function private.proof();
                drop table private.proof;
            """)
