"""Every example runs as its docstring says, and prints or answers what it promises."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiohttp import web
from client_people import Person, Shop, open_shop

from jamestronic_sdk import Role, Ticket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from project import Project

EXAMPLES = Path(__file__).parents[2] / "examples"
SHARED = {"console.py", "demo.py"}
"""What the programs share, and the demo that runs two of them."""

DEADLINE = 40.0
"""Seconds for one thing to happen; programs that start beside other tests are slow."""


@pytest.fixture
async def shop(project: Project) -> AsyncIterator[Shop]:
    async with open_shop(project) as made:
        yield made


@dataclass
class Program:
    """A running example, and what it has printed."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    is_over: bool = False
    _read: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, pipe: asyncio.StreamReader) -> None:
        async for line in pipe:
            self.lines.append(line.decode().rstrip())
            self._read.set()
        self.is_over = True
        self._read.set()

    async def line(self, *parts: str) -> str:
        """Wait for a line that holds all the parts."""
        async with asyncio.timeout(DEADLINE):
            while True:
                for line in self.lines:
                    if all(part in line for part in parts):
                        return line
                assert not self.is_over, f"it ended without a line of {parts}"
                self._read.clear()
                await self._read.wait()

    async def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        await self.process.stdin.drain()

    async def end(self) -> int:
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()


@asynccontextmanager
async def running(
    project: Project, person: Person, *command: str, folder: Path | None = None, **env: str
) -> AsyncGenerator[Program]:
    """An example as its own process, signed in as a person."""
    ours = {
        **os.environ,
        "SUPABASE_URL": project.url,
        "SUPABASE_KEY": project.anon_key,
        "JT_EMAIL": person.email,
        "JT_PASSWORD": person.password,
        "MPLBACKEND": "agg",
        **env,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=ours,
        cwd=folder,
    )
    assert process.stdout is not None
    program = Program(process)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(program.follow(process.stdout))
            try:
                yield program
            except BaseException:
                print("\n".join(program.lines))
                raise
            finally:
                if process.returncode is None:
                    process.kill()
    finally:
        await process.wait()


def path(name: str) -> str:
    return str(EXAMPLES / name)


def test_each_example_is_under_80_lines() -> None:
    lengths = {
        found.name: len(found.read_text().splitlines())
        for found in EXAMPLES.glob("*.py")
        if found.name not in SHARED
    }
    assert {name: length for name, length in lengths.items() if length >= 80} == {}
    assert len(lengths) >= 9


async def test_the_admin_assigns_and_the_technician_sees_it_come_and_go(project: Project, shop: Shop) -> None:
    admin, technician = await shop.person(Role.ADMIN), await shop.person(Role.TECHNICIAN)
    name = (await shop.profile_of(technician)).full_name
    ticket = await shop.service.tickets.create(title="Kettle does not switch off")
    async with (
        running(project, technician, path("technician_jobs.py")) as jobs,
        running(project, admin, path("admin_board.py")) as board,
    ):
        await jobs.line("(no tickets)")
        await board.line(ticket.label, "Kettle")
        await board.type(f"assign {ticket.label} {name}")
        await jobs.line("TicketAssigned", ticket.label)
        await board.line("TicketAssigned", ticket.label)
        await jobs.type(f"status {ticket.label} in_progress")
        await board.line("TicketUpdated", ticket.label, "[in_progress]")
        await board.type(f"unassign {ticket.label}")
        await jobs.line("TicketUnassigned", ticket.label)
        for program in (jobs, board):
            await program.type("quit")
            assert await program.end() == 0
    assert not any("error" in line for line in jobs.lines + board.lines)


async def test_the_customer_follows_until_the_repair_has_ended(project: Project, shop: Shop) -> None:
    customer, technician = await shop.person(Role.CUSTOMER), await shop.person(Role.TECHNICIAN)
    tickets = shop.service.tickets
    ticket = await tickets.create(title="Iron stays cold", customer_id=(await shop.profile_of(customer)).id)
    async with running(project, customer, path("customer_follow_up.py"), "--poll", "2") as program:
        await program.line(f"{ticket.label} Iron stays cold: we have it on our list")
        await tickets.assign(ticket, await shop.profile_of(technician))
        await program.line("a technician will look at it")
        await tickets.update(ticket, appliance_serial="4711")
        for status, words in (
            ("in_progress", "is being repaired"),
            ("ready", "is repaired and waits for you"),
            ("completed", "is with you again"),
        ):
            await tickets.set_status(ticket, status)
            await program.line(words)
        assert await program.end() == 0
    assert program.lines[-1] == "nothing is with us at present"
    assert len(program.lines) == 6, "a new serial number is no news for a customer"


async def test_the_transporter_drives_the_round(project: Project, shop: Shop) -> None:
    mover = await shop.person(Role.TRANSPORTER)
    profile, tickets = await shop.profile_of(mover), shop.service.tickets
    technician = await shop.profile_of(await shop.person(Role.TECHNICIAN))
    noon = datetime(2031, 5, 6, 12, 0, tzinfo=UTC)
    stops = []
    for hours, address in ((2, "Second Street 2"), (1, "First Street 1")):
        stop = await tickets.create(title="Mixer", pickup_address=address, delivery_address=address)
        stops.append(await tickets.schedule_transport(stop, profile, noon + timedelta(hours=hours)))
    second, first = stops
    await tickets.assign(first, technician)
    for status in ("in_progress", "ready"):
        await tickets.set_status(first, status)
    async with running(project, mover, path("transporter_round.py")) as program:
        await program.line(first.label)
        await program.type("round")
        await program.line("2 stops")
        shown = [line for line in program.lines if line[:2] in {"1.", "2."}]
        assert shown == [
            f"1. 13:00 bring {first.label} First Street 1",
            f"2. 14:00 fetch {second.label} Second Street 2",
        ]
        await program.type(f"later {second.label} 45")
        await program.line("TicketUpdated", second.label)
        await program.type(f"delivered {first.label}")
        await program.line("TicketUpdated", first.label, "[completed]")
        await program.type("round")
        await program.line("1. 14:45 fetch", second.label)
        await program.line("1 stops")
        await program.type("quit")
        assert await program.end() == 0


@dataclass
class Receiver:
    """A webhook's other end."""

    url: str = ""
    keys: list[str] = field(default_factory=list)
    """Of every request, repeats included."""
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Key -> body: what a receiver that drops keys it knows has acted on."""
    status: int = 204
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    """Not set: requests arrive and are not answered."""
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        self.keys.append(key)
        if self.status < 300:
            self.bodies[key] = await request.json()
        self._came.set()
        await self.answers.wait()
        return web.Response(status=self.status)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while len(self.keys) < count:
                self._came.clear()
                await self._came.wait()


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    receiver = Receiver()
    receiver.answers.set()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as server:
        await web.SockSite(runner, server).start()
        receiver.url = f"http://127.0.0.1:{server.getsockname()[1]}/hook"
        try:
            yield receiver
        finally:
            receiver.answers.set()
            await runner.cleanup()


async def test_the_bot_tells_each_assignment_once_also_across_kills(
    project: Project, shop: Shop, tmp_path: Path
) -> None:
    admin, tickets = await shop.person(Role.ADMIN), shop.service.tickets
    ben, cleo = [await shop.profile_of(await shop.person(Role.TECHNICIAN)) for _ in range(2)]
    before = await tickets.create(title="assigned before the bot began")
    before = await tickets.assign(before, ben)
    one, two, three, four = [await tickets.create(title=f"news {n}") for n in range(4)]
    mine = {str(ticket.id) for ticket in (before, one, two, three, four)}

    def told(receiver: Receiver) -> list[tuple[str, str]]:
        """(ticket, technician) of each key of this test, in order; other tests share the stack."""
        return [(b["ticket"], b["to"]) for key, b in receiver.bodies.items() if key.split(":")[0] in mine]

    def posted(receiver: Receiver, ticket: Ticket) -> int:
        return sum(key.startswith(str(ticket.id)) for key in receiver.keys)

    async def until_told(receiver: Receiver, count: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while len(told(receiver)) < count:
                await receiver.until(len(receiver.keys) + 1)

    @asynccontextmanager
    async def bot(receiver: Receiver) -> AsyncGenerator[Program]:
        command = (path("notifier_bot.py"), admin.email, receiver.url)
        outbox = str(tmp_path / "outbox.sqlite")
        async with running(project, admin, *command, OUTBOX=outbox) as program:
            await program.line("watching")
            yield program

    async with receiving() as receiver:
        async with bot(receiver):
            receiver.status = 503  # the receiver is down at first, then comes back
            await tickets.assign(one, ben)
            while posted(receiver, one) < 2:
                await receiver.until(len(receiver.keys) + 1)
            receiver.status = 204
            await until_told(receiver, 1)
            receiver.answers.clear()  # the next message is taken, and the bot never learns that
            await tickets.assign(two, ben)
            await until_told(receiver, 2)
        receiver.answers.set()  # the bot is dead: killed, not ended
        await tickets.assign(three, ben)
        await tickets.assign(three, cleo)
        await tickets.assign(four, ben)
        await tickets.unassign(four)
        async with bot(receiver):
            await until_told(receiver, 3)
            await tickets.assign(one, cleo)
            await until_told(receiver, 4)
        assert told(receiver) == [
            (one.label, str(ben.id)),
            (two.label, str(ben.id)),
            (three.label, str(cleo.id)),
            (one.label, str(cleo.id)),
        ]
        assert posted(receiver, two) >= 2, "killed between post and answer: posted again, with the same key"


async def test_a_second_bot_on_the_same_outbox_fails(project: Project, shop: Shop, tmp_path: Path) -> None:
    admin = await shop.person(Role.ADMIN)
    command = (path("notifier_bot.py"), admin.email, "http://127.0.0.1:9/hook")
    outbox = str(tmp_path / "outbox.sqlite")
    async with running(project, admin, *command, OUTBOX=outbox) as first:
        await first.line("watching")
        async with running(project, admin, *command, OUTBOX=outbox) as second:
            await second.line("database is locked")
            assert await second.end() != 0


FLASK = """
import sys; sys.path.insert(0, {examples!r})
from web_flask import app
client = app.test_client()
board = client.get("/").get_json()
assert any({label!r} in line for line in board["unassigned"]), board
answer = client.post("/assign/" + {label!r}, data=dict(technician={name!r}))
assert (answer.status_code, answer.get_json()["status"]) == (200, "assigned"), answer.get_data()
assert client.post("/assign/JT-0", data=dict(technician={name!r})).status_code == 404
from web_flask import office
office()[1].wait_for(lambda now: not any(t.label == {label!r} for t in now.tickets.unassigned))
again = client.post("/assign/" + {label!r}, data=dict(technician="nobody"))
assert again.status_code == 404
print("flask:", client.get("/").get_json()["freshness"])
"""

DJANGO = """
import sys; sys.path.insert(0, {examples!r})
import web_django
from django.test import Client
client = Client()
answer = client.post("/report", dict(title="Toaster burns one side", description="left"))
assert answer.status_code == 201, answer.content
assert client.post("/report", dict(title="")).status_code == 400
assert client.get("/report").status_code == 405
assert Client(enforce_csrf_checks=True).post("/report", dict(title="x")).status_code == 403
print("django:", answer.json()["number"])
"""


FASTAPI = """
import sys; sys.path.insert(0, {examples!r})
import uvicorn, web_fastapi
web_fastapi.app.get("/stores")(lambda: len(web_fastapi.stores))
uvicorn.run(web_fastapi.app, port=0, timeout_graceful_shutdown=1)
"""


async def test_the_flask_application(project: Project, shop: Shop) -> None:
    staff = await shop.person(Role.STAFF)
    technician = await shop.profile_of(await shop.person(Role.TECHNICIAN))
    ticket = await shop.service.tickets.create(title="Blender smokes")
    code = FLASK.format(examples=str(EXAMPLES), label=ticket.label, name=technician.full_name)
    async with running(project, staff, "-W", "error", "-c", code) as program:
        assert await program.end() == 0, program.lines
    assert program.lines[-1] in {"flask: live", "flask: polling"}
    assert (await shop.service.tickets.get(ticket)).assigned_technician_id == technician.id


async def test_the_django_application(project: Project, shop: Shop) -> None:
    staff = await shop.person(Role.STAFF)
    async with running(project, staff, "-W", "error", "-c", DJANGO.format(examples=str(EXAMPLES))) as program:
        assert await program.end() == 0, program.lines
    number = int(program.lines[-1].removeprefix("django: JT-"))
    rows = await shop.service.table("tickets").where("number", "eq", number).select("title, created_by")
    assert rows == [{"title": "Toaster burns one side", "created_by": str((await shop.profile_of(staff)).id)}]


async def test_the_fastapi_service_has_one_store_per_person(project: Project, shop: Shop) -> None:
    ben, cleo = await shop.person(Role.TECHNICIAN), await shop.person(Role.TECHNICIAN)
    ticket = await shop.service.tickets.create(title="Radio hums")
    ticket = await shop.service.tickets.assign(ticket, await shop.profile_of(ben))
    async with running(project, ben, "-c", FASTAPI.format(examples=str(EXAMPLES))) as program:
        url = (await program.line("Uvicorn running on")).split()[-5]
        async with AsyncExitStack() as stack:
            first, second, third = [
                await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=DEADLINE))
                for _ in range(3)
            ]
            assert (await first.get("/events")).status_code == 401
            wrong = await first.post("/sign-in", json={"email": ben.email, "password": "wrong"})
            assert wrong.status_code == 401
            for client, person in ((first, ben), (second, ben), (third, cleo)):
                data = {"email": person.email, "password": person.password}
                assert (await client.post("/sign-in", json=data)).status_code == 200
            assert (await first.get("/stores")).json() == 2
            async with first.stream("GET", "/events") as stream:
                lines = stream.aiter_lines()
                assert [await anext(lines), await anext(lines)] == [
                    "event: TicketAssigned",
                    f"data: {ticket.label}",
                ]
                assert await anext(lines) == ""
                await shop.service.tickets.assign(ticket, await shop.profile_of(cleo))
                async with asyncio.timeout(DEADLINE):
                    assert [await anext(lines), await anext(lines)] == [
                        "event: TicketUnassigned",
                        f"data: {ticket.label}",
                    ]
            await first.post("/sign-out")
            assert (await second.get("/stores")).json() == 2, "the other browser still uses it"
            await second.post("/sign-out")
            assert (await second.get("/events")).status_code == 401
            assert (await third.get("/stores")).json() == 1
        program.process.send_signal(signal.SIGTERM)
        assert await program.end() in {0, -signal.SIGTERM}
    assert not any("Traceback" in line for line in program.lines), program.lines


async def test_the_report_measures_flow_and_latency(project: Project, shop: Shop, tmp_path: Path) -> None:
    admin = await shop.person(Role.ADMIN)
    async with running(project, admin, path("report.py"), "3", folder=tmp_path) as program:
        await program.line("listening")
        ticket = await shop.service.tickets.create(title="measured")
        for number in range(3):
            await shop.service.tickets.update(ticket, title=f"measured {number}")
        await program.line("median", "ms")
        assert await program.end() == 0
    assert program.lines[-1] == "report.png"
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    summary = json.dumps(program.lines)
    assert "realtime" in summary or "refetch" in summary
