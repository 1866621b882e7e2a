"""Who works in the chaos: accounts and tickets, made once for all faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from client_people import Person
from pydantic import TypeAdapter
from tests.chaos.writers import connect_as

from jamestronic_sdk import Role, Ticket

if TYPE_CHECKING:
    from client_people import Shop

    from jamestronic_sdk.local.stack import LocalSupabase

__all__ = ["Crew", "hire"]

_TICKETS = TypeAdapter(list[Ticket])


@dataclass(frozen=True, slots=True)
class Crew:
    """An admin and two technicians of one stack."""

    supabase: LocalSupabase
    people: dict[str, Person]
    technicians: tuple[UUID, UUID]
    """Their profiles."""
    tickets: list[UUID] = field(default_factory=list[UUID])
    """Those that the writers change."""

    @property
    def dsn(self) -> str:
        return self.supabase.context.dsn("supabase_admin")

    def claims(self, who: str) -> dict[str, object]:
        """What a verified token of this person says."""
        return {"role": "authenticated", "aud": "authenticated", "sub": self.people[who].user_id}

    async def visible(self, who: str) -> dict[UUID, Ticket]:
        """What row level security lets this person see."""
        async with await connect_as(self.dsn, self.claims(who)) as connection:
            cursor = await connection.execute("select coalesce(jsonb_agg(t), '[]') from public.tickets as t")
            row = await cursor.fetchone()
        assert row is not None
        return {ticket.id: ticket for ticket in _TICKETS.validate_python(row[0])}

    async def holders(self) -> dict[tuple[UUID, int], UUID | None]:
        """(ticket, version) -> technician of every state that ever was, as the change log has it."""
        return {(key, version): holder for key, version, holder in await self.as_owner(
            "select ticket_id, version, technician_after from private.ticket_changes"
            " where operation <> 'DELETE'"
        )}  # fmt: skip

    async def as_owner(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask as the superuser."""
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            cursor = await connection.execute(statement.encode())
            return await cursor.fetchall() if cursor.description else []


async def hire(supabase: LocalSupabase, shop: Shop, tickets: int) -> Crew:
    """Make the people, and tickets that nobody has."""
    people = {
        "admin": await shop.person(Role.ADMIN),
        "alice": await shop.person(Role.TECHNICIAN),
        "bob": await shop.person(Role.TECHNICIAN),
    }
    alice, bob = [(await shop.profile_of(people[name])).id for name in ("alice", "bob")]
    crew = Crew(supabase, people, (alice, bob))
    made = await crew.as_owner(
        "insert into public.tickets (title)"
        f" select 'Ticket ' || n from generate_series(1, {tickets}) as n returning id"
    )
    crew.tickets.extend(row[0] for row in made)
    return crew
