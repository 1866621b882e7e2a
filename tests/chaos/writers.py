"""Several writers who change tickets at the database, past the proxy: nothing that fails there stops them."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psycopg
from psycopg.rows import tuple_row

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from tests.chaos.crew import Crew

__all__ = ["Writer", "connect_as"]

_CREATE: Final[LiteralString] = "insert into public.tickets (title) values (%(text)s) returning id"
_DELETE: Final[LiteralString] = "delete from public.tickets where id = %(ticket)s"

# (weight, who, statement); what the rules of the commands refuse is part of the game.
_OPERATIONS: Final[tuple[tuple[int, str, LiteralString], ...]] = (
    (30, "admin", "select public.assign_ticket(%(ticket)s, %(technician)s)"),
    (18, "admin", "select public.unassign_ticket(%(ticket)s)"),
    (10, "alice", "select public.claim_ticket(%(ticket)s)"),
    (10, "bob", "select public.claim_ticket(%(ticket)s)"),
    (6, "alice", "select public.release_ticket(%(ticket)s)"),
    (6, "bob", "update public.tickets set description = %(text)s where id = %(ticket)s"),
    (14, "admin", "update public.tickets set title = %(text)s where id = %(ticket)s"),
    (3, "admin", _CREATE),
    (3, "admin", _DELETE),
)
_FEWEST: Final = 20
"""Tickets that are left alone by deletions."""
_AWAY: Final = 0.02
"""Seconds between two tries to reach a database that is away."""
_HELD_OPEN: Final = 0.03
"""Seconds that a long transaction stays open: others begin later and commit before."""


async def connect_as(dsn: str, claims: Mapping[str, object]) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    """A connection that is somebody until it is closed."""
    connection = await psycopg.AsyncConnection[tuple[Any, ...]].connect(
        dsn, autocommit=True, row_factory=tuple_row, application_name="chaos"
    )
    await connection.execute(
        "select set_config('role', 'authenticated', false), set_config('request.jwt.claims', %s, false)",
        [json.dumps(claims)],
    )
    return connection


@dataclass(slots=True)
class Writer:
    """Changes random tickets of the crew, until stopped or so often."""

    crew: Crew
    rng: random.Random
    pause: float = 0.0
    """Longest pause between two operations, in seconds."""
    done: int = 0
    """Operations that the database carried out."""
    refused: int = 0
    """Operations that the rules refused, and those that the database lost."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _connections: dict[str, psycopg.AsyncConnection[tuple[Any, ...]]] = field(default_factory=dict)

    async def run(self, operations: int | None = None) -> None:
        """So many operations that are carried out; None: until ``stop`` is set."""
        try:
            while not self.stop.is_set() and self.done != operations:
                try:
                    await self._operate()
                except psycopg.Error as error:
                    self.refused += 1
                    if isinstance(error, psycopg.OperationalError):
                        await self._hang_up()
                        await asyncio.sleep(_AWAY)
                if self.pause:
                    await asyncio.sleep(self.rng.uniform(0, self.pause))
        finally:
            await self._hang_up()
            self.ended.set()

    async def _operate(self) -> None:
        (_, who, statement), *_ = self.rng.choices(_OPERATIONS, [weight for weight, _, _ in _OPERATIONS])
        connection = await self._connection(who)
        if self.rng.random() < 0.05 and self.pause:
            async with connection.transaction():
                await self._execute(connection, statement)
                await asyncio.sleep(self.rng.uniform(0, _HELD_OPEN))
            return
        await self._execute(connection, statement)

    async def _execute(
        self, connection: psycopg.AsyncConnection[tuple[Any, ...]], statement: LiteralString
    ) -> None:
        tickets = self.crew.tickets
        ticket = self.rng.choice(tickets)
        if statement is _DELETE and len(tickets) <= _FEWEST:
            statement = _CREATE
        cursor = await connection.execute(
            statement,
            {
                "ticket": ticket,
                "technician": self.rng.choice(self.crew.technicians),
                "text": f"Ticket {self.rng.getrandbits(48):x}",
            },
        )
        self.done += cursor.rowcount > 0
        if statement is _CREATE:
            row = await cursor.fetchone()
            assert row is not None
            tickets.append(row[0])
        elif statement is _DELETE:
            with suppress(ValueError):  # another writer was faster
                tickets.remove(ticket)

    async def _connection(self, who: str) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        held = self._connections.get(who)
        if held is None:
            held = self._connections[who] = await connect_as(self.crew.dsn, self.crew.claims(who))
        return held

    async def _hang_up(self) -> None:
        for connection in self._connections.values():
            await connection.close()
        self._connections.clear()
