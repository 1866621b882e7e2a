"""A Realtime server on an own port, over the shared PostgreSQL."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import jwt
import psycopg
from aiohttp import web

from jamestronic_sdk.local.realtime.app import REALTIME, RealtimeOptions, RealtimeServer, make_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jamestronic_sdk.local.context import LocalContext


@dataclass(frozen=True, slots=True)
class RunningRealtime:
    """A server that accepts sockets."""

    url: str
    context: LocalContext
    server: RealtimeServer

    def token(self, *, role: str = "authenticated", expires_in: float = 3600, **claims: object) -> str:
        """A signed token."""
        payload = {"role": role, "exp": int(time.time() + expires_in), **claims}
        return jwt.encode(payload, self.context.jwt_secret)


@asynccontextmanager
async def running_realtime(
    context: LocalContext, options: RealtimeOptions | None = None
) -> AsyncIterator[RunningRealtime]:
    app = make_app(context, options)
    # The access log would show the keys in the query.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        yield RunningRealtime(f"http://{host}:{port}", context, app[REALTIME])
    finally:
        await runner.cleanup()


class Database:
    """SQL as the superuser, each call its own transaction."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        self._connection = connection

    async def run(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        cursor = await self._connection.execute(statement.encode(), parameters or None)
        return await cursor.fetchall() if cursor.description is not None else []

    @property
    def connection(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        """For what takes a connection; autocommit."""
        return self._connection

    @asynccontextmanager
    async def undone(self) -> AsyncIterator[None]:
        """What runs inside the block is one transaction, which is rolled back."""
        async with self._connection.transaction(force_rollback=True):
            yield

    async def together(self, *statements: str) -> None:
        """Several statements in one transaction."""
        async with self._connection.transaction():
            for statement in statements:
                await self.run(statement)

    async def table(
        self, columns: str, *, full: bool = False, rls: bool = False, grant: str | None = "select"
    ) -> str:
        """A new published table; its name has no underscore, which would be a wildcard."""
        name = f"rt{uuid4().hex[:10]}"
        await self.run(f"create table public.{name} ({columns})")
        await self.run(f"alter publication supabase_realtime add table public.{name}")
        if grant is not None:
            await self.run(f"grant {grant} on public.{name} to anon, authenticated, service_role")
        if full:
            await self.run(f"alter table public.{name} replica identity full")
        if rls:
            await self.run(f"alter table public.{name} enable row level security")
        return name


@asynccontextmanager
async def connected_database(context: LocalContext) -> AsyncIterator[Database]:
    async with await psycopg.AsyncConnection.connect(
        context.dsn("supabase_admin"), autocommit=True
    ) as connection:
        yield Database(connection)
