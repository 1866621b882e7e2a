"""Connection pools of the stack's servers to its PostgreSQL, which may be restarted under them.

Promises:
    Who waits for a connection is served as soon as PostgreSQL accepts one again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from psycopg import AsyncConnection, OperationalError
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool
from typing_extensions import override

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Pool", "make_pool"]

_PATIENCE: Final = 4.0
"""Seconds that one attempt goes on; less than the 5 that closing a pool waits for its workers."""
_LOOK: Final = 0.05
"""Seconds between two tries."""

Pool: TypeAlias = "AsyncConnectionPool[AsyncConnection[TupleRow]]"


class _PatientConnection(AsyncConnection[TupleRow]):
    """Tries until the server is there.

    The pool itself waits 1, 2, 4, ... seconds between its attempts, as is right for a server far away that
    many share; this one is on the same machine, has no other clients, and is usually back within a second.
    """

    @override
    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride] - rows are tuples here
        clock = asyncio.get_running_loop().time
        deadline = clock() + _PATIENCE
        while True:
            try:
                return await super().connect(conninfo, **options)
            except OperationalError:
                if clock() >= deadline:
                    raise
                await asyncio.sleep(_LOOK)


def make_pool(
    dsn: str,
    name: str,
    *,
    min_size: int,
    max_size: int,
    timeout: float,
    is_checked: bool = True,
    autocommit: bool = False,
) -> Pool:
    """A pool that is not open yet.

    Args:
        dsn: A libpq URL.
        name: For its log.
        min_size: Connections that are kept.
        max_size: Connections at most.
        timeout: Seconds that a request waits for a connection.
        is_checked: Ask the server before a connection is given out; else who gets a dead one finds out.
        autocommit: Each statement is a transaction of its own.
    """

    async def check(connection: AsyncConnection[TupleRow]) -> None:
        try:
            await AsyncConnectionPool.check_connection(connection)
        except Exception:
            # Hardly this one alone. Replace all that died: the pool waits longer after each that it finds.
            await pool.check()
            raise

    pool: Pool = AsyncConnectionPool(
        dsn,
        connection_class=_PatientConnection,
        kwargs={"autocommit": autocommit},
        min_size=min_size,
        max_size=max_size,
        timeout=timeout,
        open=False,
        check=check if is_checked else None,
        name=name,
    )
    return pool
