"""A local stack in a process of its own: in ours it would compete for the interpreter with what is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg

from jamestronic_sdk import JamesTronic, Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PASSWORD = "benchmark password"  # noqa: S105 - of people who live for one run

_PROGRAM = """
import asyncio, json
from jamestronic_sdk.local.stack import LocalSupabase

async def main():
    async with LocalSupabase(port=0) as stack:
        names = ("url", "anon_key", "service_role_key", "database_url")
        print(json.dumps({name: getattr(stack, name) for name in names}), flush=True)
        await stack.wait()

asyncio.run(main())
"""


@dataclass(frozen=True)
class Stack:
    """Where it is, and its keys."""

    url: str
    anon_key: str
    service_role_key: str
    database_url: str


@contextmanager
def serving() -> Iterator[Stack]:
    """The stack, for as long as the block lasts."""
    with subprocess.Popen([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        assert process.stdout is not None
        try:
            yield Stack(**json.loads(process.stdout.readline()))
        finally:
            process.terminate()
            process.wait(30)


async def make_admin(stack: Stack) -> str:
    """The address of a new admin."""
    email = f"{uuid4().hex[:8]}@example.test"
    async with JamesTronic(stack.url, stack.service_role_key, env_file=None) as service:
        await service.admin.create_user(email=email, password=PASSWORD, role=Role.ADMIN)
    return email


@asynccontextmanager
async def client_of(stack: Stack, email: str) -> AsyncIterator[JamesTronic]:
    """Our client, signed in."""
    async with JamesTronic(stack.url, stack.anon_key, env_file=None) as jt:
        await jt.auth.sign_in(email=email, password=PASSWORD)
        yield jt


def fill(stack: Stack, total: int) -> None:
    """So many tickets, made or removed without their triggers: the point is the rows, not how they came."""
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute("alter table public.tickets disable trigger user")
        connection.execute(
            "delete from public.tickets where id in (select id from public.tickets order by number offset %s)",
            [total],
        )
        connection.execute(
            "insert into public.tickets (title, description, status, version)"
            " select 'Ticket ' || n, repeat('It leaks. ', 5), 'open', nextval('private.tickets_version_seq')"
            " from generate_series(1, %s - (select count(*) from public.tickets)) as n",
            [total],
        )
        connection.execute("alter table public.tickets enable trigger user")
        connection.execute("vacuum analyze public.tickets")
