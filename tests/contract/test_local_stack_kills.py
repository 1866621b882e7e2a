"""kill -9 of every part of a stack, at random, while people write: what was committed stays, all go on.

Five by default; ``pytest tests/contract/test_local_stack_kills.py --kills 50 --timeout 0`` is the long run.
"""

# ruff: noqa: ASYNC240 - a test may look at a few files from its loop

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from jamestronic_sdk import JamesTronic, JamesTronicError, NewTicket
from jamestronic_sdk.errors import LocalStackError
from jamestronic_sdk.local import control
from jamestronic_sdk.local._processes import listen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARTS = ("postgres", "backend", "postgrest", "supervisor")


@pytest.fixture
def folder() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="jamestronic-test-", dir="/tmp"))
    parent.chmod(0o711)
    try:
        yield parent / "data"
    finally:
        control.stop(parent / "data")
        shutil.rmtree(parent)


def segments() -> set[str]:
    """Shared memory of System V, of anybody."""
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}


async def eventually(is_so: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - a condition over other people's state
            await asyncio.sleep(0.02)


@dataclass
class Stack:
    """A detached stack, and how to hurt it."""

    folder: Path
    rng: random.Random
    port: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    seen: set[psutil.Process] = field(default_factory=set)
    segments: set[str] = field(default_factory=set)

    def start(self) -> None:
        started = control.start_detached(self.folder, control.Options(self.port))
        self.port = int(started.url.rpartition(":")[2])
        self.remember()

    def remember(self) -> None:
        supervisor = self.supervisor()
        with contextlib.suppress(psutil.NoSuchProcess):
            self.seen |= {supervisor, *supervisor.children(recursive=True)}
        with contextlib.suppress(OSError, IndexError):  # while PostgreSQL is just being started
            lock_file = (self.folder / "postgres" / "postmaster.pid").read_text().splitlines()
            self.segments.add(lock_file[6].split()[1])

    def supervisor(self) -> psutil.Process:
        return psutil.Process(json.loads((self.folder / "instance.json").read_bytes())["supervisor"]["pid"])

    def victim(self, part: str) -> psutil.Process | None:
        """A process of this part; None while it is just being started."""
        with contextlib.suppress(psutil.Error, OSError, ValueError, IndexError):
            supervisor = self.supervisor()
            if part == "supervisor":
                return supervisor
            if part == "postgrest":
                return psutil.Process(json.loads((self.folder / "postgrest.pid").read_bytes())["pid"])
            lock_file = self.folder / "postgres" / "postmaster.pid"
            postmaster = psutil.Process(int(lock_file.read_text().split()[0]))
            return postmaster if part == "postgres" else self.rng.choice(postmaster.children())
        return None

    def kill(self, part: str) -> None:
        victim = self.victim(part)
        if victim is None:
            return
        self.remember()
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
            self.killed[part] += 1
        if part == "supervisor":
            _, alive = psutil.wait_procs([victim], timeout=20)
            assert alive == []
            self.start()

    async def until_well(self) -> None:
        async with asyncio.timeout(90):
            while True:
                status = await asyncio.to_thread(control.status, self.folder)
                if status is not None and set(status.parts.values()) == {"ok"}:
                    return
                await asyncio.sleep(0.02)


@dataclass
class Writers:
    """People who write all the time, in two ways, and remember what was acknowledged."""

    stack: Stack
    rows: set[int] = field(default_factory=set)
    titles: set[str] = field(default_factory=set)
    is_over: bool = False

    @property
    def done(self) -> tuple[int, int]:
        """How much was acknowledged."""
        return len(self.rows), len(self.titles)

    def more_than(self, rows: int, titles: int) -> Callable[[], bool]:
        """Whether more was acknowledged since, in both ways."""
        return lambda: len(self.rows) > rows and len(self.titles) > titles

    async def write_rows(self) -> None:
        """By SQL."""
        number = 0
        while not self.is_over:
            with contextlib.suppress(psycopg.OperationalError, psycopg.InterfaceError, LocalStackError):
                url = control.environment(self.stack.folder)["DATABASE_URL"]
                async with await psycopg.AsyncConnection.connect(
                    url, autocommit=True, connect_timeout=5
                ) as connection:
                    while not self.is_over:
                        number += 1
                        await connection.execute("insert into public.kept values (%s)", (number,))
                        self.rows.add(number)
            await asyncio.sleep(0.01)

    async def write_tickets(self, jt: JamesTronic) -> None:
        """By the SDK."""
        number = 0
        while not self.is_over:
            number += 1
            with contextlib.suppress(JamesTronicError):
                ticket = await jt.tickets.create(NewTicket(title=f"T{number}", appliance_type="oven"))
                self.titles.add(ticket.title)
            await asyncio.sleep(0.02)


async def test_random_kills_lose_nothing_and_leave_nothing(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    """After each: the stack is well again and takes writes. In the end a live store shows every ticket."""
    kills = int(request.config.getoption("--kills"))
    seed = request.config.getoption("--seed") or random.randrange(2**32)  # noqa: S311 - of a test
    stack = Stack(folder, random.Random(seed))  # noqa: S311 - of a test
    print(f"\n--seed {seed}")
    await asyncio.to_thread(stack.start)
    env = control.environment(folder)
    async with await psycopg.AsyncConnection.connect(env["DATABASE_URL"], autocommit=True) as connection:
        await connection.execute("create table public.kept (number bigint primary key)")
    began = time.monotonic()
    writers = Writers(stack)
    order = [PARTS[at % len(PARTS)] for at in range(kills)]
    stack.rng.shuffle(order)
    async with (
        JamesTronic(env["SUPABASE_URL"], env["SUPABASE_SERVICE_ROLE_KEY"], env_file=None) as jt,
        jt.ticket_store(poll_interval=5) as store,
    ):
        async with asyncio.TaskGroup() as group:
            group.create_task(writers.write_rows())
            group.create_task(writers.write_tickets(jt))
            for part in order:
                await asyncio.sleep(stack.rng.uniform(0, 0.3))  # anywhere in what they do
                await asyncio.to_thread(stack.kill, part)
                await stack.until_well()
                await eventually(writers.more_than(*writers.done))
            writers.is_over = True
        await eventually(lambda: {ticket.title for ticket in store.tickets.values()} >= writers.titles)
    async with await psycopg.AsyncConnection.connect(env["DATABASE_URL"]) as connection:
        cursor = await connection.execute("select number from public.kept")
        rows = {row[0] for row in await cursor.fetchall()}
        cursor = await connection.execute("select title from public.tickets")
        titles = {row[0] for row in await cursor.fetchall()}
    assert rows >= writers.rows
    assert titles >= writers.titles
    assert stack.killed.total() >= kills - kills // 10, "nearly every kill found its victim"
    await asyncio.to_thread(stack.remember)
    assert await asyncio.to_thread(control.stop, folder)
    gone, alive = await asyncio.to_thread(psutil.wait_procs, stack.seen, 20)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert stack.segments
    assert not stack.segments & segments()
    assert {path.name for path in folder.iterdir()} == {"instance.json", "lock", "logs", "postgres"}
    with listen(stack.port):
        pass
    print(
        f"killed {dict(stack.killed)} in {time.monotonic() - began:.0f} s; {len(writers.rows)} rows and "
        f"{len(writers.titles)} tickets acknowledged, none lost; {len(gone)} processes, none left"
    )


async def test_an_abandoned_ephemeral_stack_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder and shared memory go with the next ephemeral start, when PostgreSQL was killed, too."""
    # In a place of its own: other runs on this machine clean up the usual one.
    monkeypatch.setenv("TMPDIR", str(folder.parent))
    started = await asyncio.to_thread(control.start_detached, None, control.Options(0))
    stack = Stack(started.data_dir, random.Random(1))  # noqa: S311 - not used
    stack.remember()
    assert stack.segments <= segments()
    postmaster = stack.victim("postgres")
    assert postmaster is not None
    stack.supervisor().kill()
    postmaster.kill()
    await asyncio.to_thread(psutil.wait_procs, stack.seen, 20)
    other = await asyncio.to_thread(control.start_detached, None, control.Options(0))
    await asyncio.to_thread(control.stop, other.data_dir)
    assert not started.data_dir.exists()
    assert not stack.segments & segments()
