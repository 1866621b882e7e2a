"""The main job, as a person sees it: an admin and two technicians at work, on a good and a bad network.

Starts an ephemeral local stack, seeds it, runs ``admin_board.py`` once and ``technician_jobs.py`` twice
(separate processes, each signed in as itself), lets them work, cuts Realtime, lets it come back, and compares
what each side saw with the database. The exit status is 0 only if every side ended with exactly what the
database says.

    make demo            # or: python examples/demo.py
    make demo KEEP=1     # stays up for playing
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.table import Table

from jamestronic_sdk import JamesTronic, JamesTronicError
from jamestronic_sdk.local.seed import DEMO_PASSWORD, seed
from jamestronic_sdk.local.stack import LocalSupabase

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from uuid import UUID

HERE = Path(__file__).parent
SETTLE_TIMEOUT = 45.0
"""Seconds for every side to agree with the database; the safety poll of the demo runs every 4 s."""
POLL_INTERVAL = 4.0
PAUSE = 0.8
"""Seconds between steps, for people to follow."""

console = Console(width=max(130, Console().width), highlight=False)


_Pipe = TypeVar("_Pipe")


class DemoFailedError(Exception):
    """A side did not get where the database is."""


@dataclass
class Side:
    """One running program, and what it has told so far."""

    name: str
    colour: str
    process: asyncio.subprocess.Process
    rows: dict[str, tuple[int, str, str]] = field(default_factory=dict[str, tuple[int, str, str]])
    """Label -> (version, status, title): the first board, and every event replayed over it."""
    final: dict[str, int] | None = None
    status: str = "starting"
    statuses: list[str] = field(default_factory=list[str])
    events: Counter[str] = field(default_factory=Counter[str])
    sources: Counter[str] = field(default_factory=Counter[str])
    latencies: list[float] = field(default_factory=list[float])
    done: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def versions(self) -> dict[str, int]:
        """Label -> version."""
        return {label: version for label, (version, _, _) in self.rows.items()}

    async def follow(self) -> None:
        """Read what the program prints until it ends."""
        async for line in _open(self.process.stdout):
            self._take(json.loads(line))
            self.changed.set()
        await self.process.wait()
        self.changed.set()

    def _take(self, fact: dict[str, Any]) -> None:
        match fact["kind"]:
            case "board":
                versions = {
                    row[0]: version for row, version in zip(fact["rows"], fact["versions"], strict=True)
                }
                if not self.rows:
                    self.rows = {row[0]: (versions[row[0]], row[1], row[2]) for row in fact["rows"]}
                self.final = versions
            case "event":
                self._take_event(fact)
            case "status":
                if fact["status"] != self.status:
                    self.status = fact["status"]
                    self.statuses.append(self.status)
                    self._print(f"— now {self.status} —")
            case "done":
                self.done += 1
            case _:
                self._print(str(fact.get("error", fact)))

    def _take_event(self, fact: dict[str, Any]) -> None:
        label, status, title = fact["row"]
        if fact["is_in_view"]:
            self.rows[label] = (fact["version"], status, title)
        else:
            self.rows.pop(label, None)
        self.events[fact["name"].removeprefix("Ticket").lower()] += 1
        self.sources[fact["source"]] += 1
        speed = "commit time unknown"
        if fact["latency"] is not None:
            speed = f"{fact['latency'] * 1000:.0f} ms after commit"
            if fact["source"] == "realtime":
                self.latencies.append(fact["latency"])
        self._print(f"{fact['name']:17} {label}  {status:12} by {fact['source']}, {speed}")

    def _print(self, text: str) -> None:
        console.print(f"  [{self.colour}]{self.name:6}[/] {text}")

    async def until(self, predicate: Callable[[Side], bool], what: str) -> None:
        """Wait until the program has told enough."""
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT):
                while not predicate(self):
                    if self.process.returncode is not None:
                        raise DemoFailedError(f"{self.name}'s program ended with {self.process.returncode}")
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise DemoFailedError(f"{self.name} did not get there in {SETTLE_TIMEOUT:g} s: {what}") from None

    async def tell(self, command: str) -> None:
        """Type a command, and wait until the program has carried it out."""
        expected = self.done + 1
        await self._type(command)
        await self.until(lambda side: side.done >= expected, command)

    async def _type(self, line: str) -> None:
        stdin = _open(self.process.stdin)
        stdin.write(f"{line}\n".encode())
        await stdin.drain()

    async def quit(self) -> None:
        """Let the program end by itself."""
        self.final = None
        await self._type("quit")
        await self.process.wait()
        await self.until(lambda side: side.final is not None, "quit")


def _open(pipe: _Pipe | None) -> _Pipe:
    """A pipe that was asked for is there."""
    if pipe is None:
        raise DemoFailedError("a program was started without pipes")
    return pipe


@contextlib.asynccontextmanager
async def running(
    name: str, colour: str, program: str, email: str, env: dict[str, str]
) -> AsyncGenerator[Side]:
    """One example program as its own process, signed in as one person."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / program),
        *("--email", email, "--poll", str(POLL_INTERVAL), "--json"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **env, "JT_PASSWORD": DEMO_PASSWORD},
    )
    side = Side(name, colour, process)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(side.follow())
            try:
                yield side
            finally:
                if process.returncode is None:
                    process.terminate()
    finally:
        await process.wait()


class Demo:
    """The story, and the comparison after each of its steps."""

    def __init__(
        self, stack: LocalSupabase, sides: list[Side], owners: list[UUID | None], jt: JamesTronic
    ) -> None:
        self.stack = stack
        self.admin, self.ben, self.cleo = sides
        self.sides = sides
        self._owners = owners
        self._jt = jt

    async def expected(self) -> list[dict[str, int]]:
        """What each side should see, as the database says it."""
        rows = await self._jt.tickets.fetch_all()
        return [
            {row.label: row.version for row in rows if owner is None or row.assigned_technician_id == owner}
            for owner in self._owners
        ]

    async def settled(self, what: str) -> None:
        """Wait until every side shows exactly what the database says, and show the boards."""
        began = time.monotonic()
        for side, wanted in zip(self.sides, await self.expected(), strict=True):
            await side.until(partial(_shows, wanted), what)
        console.print(f"  [dim]every side agrees with the database after {time.monotonic() - began:.2f} s[/]")

    async def step(self, title: str, *commands: tuple[Side, str]) -> None:
        """Some commands, then agreement."""
        await asyncio.sleep(PAUSE)
        console.print(f"\n[bold]{title}[/]")
        for side, command in commands:
            console.print(f"  [{side.colour}]{side.name:6}[/] [bold]> {command}[/]")
            await side.tell(command)
        await self.settled(title)

    def show_boards(self) -> None:
        """The three boards side by side."""
        table = Table(title="The boards", title_justify="left", expand=False)
        for side in self.sides:
            table.add_column(f"{side.name} ({side.status})", style=side.colour, no_wrap=True)
        table.add_row(
            *(
                "\n".join(
                    f"{label} {status:11.11} {title:.24}" for label, (_, status, title) in side.rows.items()
                )
                or "no tickets"
                for side in self.sides
            )
        )
        console.print(table)

    async def play(self) -> None:
        """The whole story."""
        admin, ben, cleo = self.sides
        for side in self.sides:
            await side.until(lambda side: side.status == "live", "live")
        await self.settled("start")
        self.show_boards()
        await self.step(
            "The admin assigns",
            *((admin, f"assign JT-{1000 + number} Ben") for number in (1, 2, 3)),
            *((admin, f"assign JT-{1000 + number} Cleo") for number in (4, 5)),
        )
        await self.step("A technician begins to work", (ben, "status JT-1001 in_progress"))
        await self.step(
            "The admin reassigns: gone for one, there for the other", (admin, "assign JT-1002 Cleo")
        )
        await self.step("The admin unassigns", (admin, "unassign JT-1003"))
        await self.step("A technician claims from the pool", (cleo, "claim JT-1003"))
        await self.step("A new ticket comes in", (admin, "create Toaster does not pop up"))
        self.show_boards()

        console.print("\n[bold red]Realtime is cut[/]: every side falls back to polling")
        await self.stack.cut_realtime()
        for side in self.sides:
            await side.until(lambda side: side.status == "polling", "polling")
        await self.step(
            "Work goes on without Realtime",
            (admin, "assign JT-1006 Ben"),
            (cleo, "status JT-1003 in_progress"),
        )
        console.print("\n[bold green]Realtime is back[/]: every side recovers by itself")
        await self.stack.restore_realtime()
        for side in self.sides:
            await side.until(lambda side: side.status == "live", "live again")
        await self.step("And live again", (admin, "assign JT-1007 Cleo"), (ben, "status JT-1001 ready"))
        self.show_boards()

    async def finish(self) -> bool:
        """End the programs, compare for the last time, print the summary."""
        wanted = await self.expected()
        for side in self.sides:
            await side.quit()
        table = Table(title="What each side saw", title_justify="left")
        for column in (
            "side",
            "events",
            "learned by",
            "commit to event (realtime)",
            "status",
            "tickets",
            "= database",
        ):
            table.add_column(column)
        verdicts: list[bool] = []
        for side, expected in zip(self.sides, wanted, strict=True):
            is_right = side.final == expected == side.versions and side.process.returncode == 0
            verdicts.append(is_right)
            speed = "none"
            if side.latencies:
                middle, worst = median(side.latencies) * 1000, max(side.latencies) * 1000
                speed = f"median {middle:.0f} ms, worst {worst:.0f} ms"
            table.add_row(
                f"[{side.colour}]{side.name}[/]",
                _counts(side.events),
                _counts(side.sources),
                speed,
                " → ".join(side.statuses),
                str(len(side.final or {})),
                "[green]yes[/]" if is_right else "[red]NO[/]",
            )
        console.print()
        console.print(table)
        return all(verdicts)


def _shows(wanted: dict[str, int], side: Side) -> bool:
    return side.versions == wanted


def _counts(counter: Counter[str]) -> str:
    return "\n".join(f"{count} {name}" for name, count in counter.most_common()) or "none"


async def keep(stack: LocalSupabase) -> None:
    """Stay up until Ctrl-C."""
    console.print("\nStill up. In other terminals:\n")
    lines = [f"export {name}={value!r}" for name, value in stack.env().items()]
    lines += [
        f"export JT_PASSWORD={DEMO_PASSWORD}",
        "python examples/admin_board.py --email ada@jamestronic.test",
    ]
    lines += ["python examples/technician_jobs.py --email ben@jamestronic.test   # or cleo@"]
    for line in lines:
        print(f"  {line}")
    console.print("\nCtrl-C stops it and removes its data.")
    with contextlib.suppress(asyncio.CancelledError):
        await stack.wait()


async def main(*, keep_up: bool) -> bool:
    """Run the demo; answers whether every side was right."""
    began = time.monotonic()
    if (task := asyncio.current_task()) is not None:
        # asyncio.run does the same for SIGINT.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with contextlib.AsyncExitStack() as stack:
        supabase = await stack.enter_async_context(LocalSupabase(port=0))
        console.print(f"Local Supabase at {supabase.url}, ready after {time.monotonic() - began:.1f} s")
        ids = await seed(supabase.url, supabase.service_role_key)
        env = {"SUPABASE_URL": supabase.url, "SUPABASE_KEY": supabase.anon_key}
        jt = await stack.enter_async_context(
            JamesTronic(supabase.url, supabase.service_role_key, env_file=None)
        )
        people = [
            ("Ada", "cyan", "admin_board.py", "ada@jamestronic.test"),
            ("Ben", "yellow", "technician_jobs.py", "ben@jamestronic.test"),
            ("Cleo", "magenta", "technician_jobs.py", "cleo@jamestronic.test"),
        ]
        sides = [await stack.enter_async_context(running(*person, env)) for person in people]
        demo = Demo(supabase, sides, [None, ids["ben@jamestronic.test"], ids["cleo@jamestronic.test"]], jt)
        await demo.play()
        is_right = await demo.finish()
        verdict = "[green]Every side ended with exactly what the database says.[/]"
        console.print(verdict if is_right else "[red]A side differs from the database.[/]")
        if keep_up:
            await keep(supabase)
    return is_right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An admin and two technicians, live.")
    parser.add_argument("--keep", action="store_true", help="stay up afterwards")
    try:
        is_right = asyncio.run(main(keep_up=parser.parse_args().keep))
    except* (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted; everything that was started is stopped", file=sys.stderr)
        is_right = False
    except* (DemoFailedError, JamesTronicError) as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        print(f"error: {first}", file=sys.stderr)
        is_right = False
    sys.exit(0 if is_right else 1)
