"""What the example programs share: options, sign-in, commands from standard input, and lines of output."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from jamestronic_sdk import JamesTronic, JamesTronicError, Ticket, TicketEvent, TicketStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable


def options(description: str) -> argparse.Namespace:
    """Who signs in, how often to poll, and whether a program reads the output."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--email", default=os.environ.get("JT_EMAIL"), help="or JT_EMAIL")
    parser.add_argument("--poll", type=float, default=30.0, help="seconds between safety reads")
    parser.add_argument("--json", action="store_true", help="print JSON lines, for programs")
    chosen = parser.parse_args()
    if not chosen.email or "JT_PASSWORD" not in os.environ:
        parser.error("give --email (or JT_EMAIL), and the password in JT_PASSWORD")
    return chosen


@asynccontextmanager
async def signed_in(chosen: argparse.Namespace) -> AsyncGenerator[JamesTronic]:
    """A client of SUPABASE_URL and SUPABASE_KEY, signed in; errors end the program with one line."""
    try:
        async with JamesTronic.from_env() as jt:
            await jt.auth.sign_in(email=chosen.email, password=os.environ["JT_PASSWORD"])
            yield jt
    except JamesTronicError as error:
        sys.exit(f"error: {error}")


async def commands() -> AsyncGenerator[list[str]]:
    """The words of each line of standard input, until it ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            if words := line.decode().split():
                yield words
    finally:
        transport.close()


class Screen:
    """Prints what happens: one line for a person, or one JSON object for a program."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def say(self, kind: str, text: str, **facts: Any) -> None:  # noqa: ANN401 - JSON
        """One line."""
        print(json.dumps({"kind": kind, **facts}, default=str) if self._as_json else text, flush=True)

    def event(self, event: TicketEvent) -> None:
        """What happened to a ticket, how it was learned, and how fast."""
        name, ticket, latency = type(event).__name__, event.ticket, event.latency
        speed = "" if latency is None else f" after {latency * 1000:.0f} ms"
        self.say(
            "event",
            f"{name:17}{ticket.label} {ticket.title} [{ticket.status}] ({event.source}{speed})",
            name=name,
            row=row(ticket),
            version=ticket.version,
            is_in_view=event.is_in_view,
            source=event.source,
            latency=latency,
            changes=list(event.changes),
        )

    def board(self, store: TicketStore) -> None:
        """The tickets in the view."""
        rows = [row(ticket) for ticket in store.tickets.values()]
        text = "\n".join(f"  {label:8}{status:14}{title}" for label, status, title in rows)
        versions = [ticket.version for ticket in store.tickets.values()]
        self.say("board", text or "  (no tickets)", rows=rows, versions=versions)


async def run(
    description: str, carry_out: Callable[[JamesTronic, TicketStore, list[str]], Awaitable[None]]
) -> None:
    """Sign in, show the live view, and carry out commands until ``quit`` or the end of the input."""
    chosen = options(description)
    screen = Screen(as_json=chosen.json)
    async with signed_in(chosen) as jt, jt.ticket_store(poll_interval=chosen.poll) as store:
        store.subscribe(screen.event)
        screen.board(store)
        async with asyncio.TaskGroup() as tasks:
            follower = tasks.create_task(_follow_status(store, screen))
            async for words in commands():
                if words == ["quit"]:
                    break
                try:
                    if words == ["board"]:
                        screen.board(store)
                    else:
                        await carry_out(jt, store, words)
                        screen.say("done", "ok", command=words)
                except JamesTronicError as error:
                    screen.say("error", f"error: {error}", error=str(error))
            follower.cancel()
        screen.board(store)


async def _follow_status(store: TicketStore, screen: Screen) -> None:
    async for change in store.statuses():
        screen.say("status", f"-- {change.status}: {change.reason or 'up to date'}", status=change.status)


def row(ticket: Ticket) -> tuple[str, str, str]:
    """A ticket in three words."""
    return ticket.label, str(ticket.status), ticket.title


def by_label(store: TicketStore, label: str) -> Ticket | None:
    """The ticket that people call so."""
    return next((ticket for ticket in store.tickets.values() if ticket.label == label.upper()), None)
