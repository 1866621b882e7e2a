"""What a token may do on a private channel: asked of the policies on ``realtime.messages``, by trying.

Rules:

    1. Read: rows are put in as ourselves, and looked for as the asker. What is seen may be read.
    2. Write: a row is put in as the asker. What the database does not refuse may be written.
    3. Both are rolled back: nothing is stored, and nothing of it is broadcast.
    4. ``realtime.topic()`` is the channel; ``request.jwt.claims`` and the role are those of the token.

Never:
    A role left set: each question is a transaction of its own.
    A policy that hangs: it is broken off, and that is told apart from a no.
"""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import psycopg

from jamestronic_sdk.errors import PermissionDeniedError, ServerError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from jamestronic_sdk.local.pools import Pool
    from jamestronic_sdk.local.realtime.credentials import Credentials

__all__ = ["Asker", "Extension", "may_write", "readable"]

_log = logging.getLogger("jamestronic_sdk.local.realtime")

_POLICY_TIMEOUT: Final = "5s"
"""A join holds up its whole socket."""


class Extension(Enum):
    """``realtime.messages.extension``: what a policy distinguishes."""

    BROADCAST = "broadcast"
    PRESENCE = "presence"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and for which channel."""

    credentials: Credentials
    topic: str
    """Without ``realtime:``."""
    headers: Mapping[str, str] = field(repr=False)
    """Of the handshake or the request, names in lower case; policies see them in ``request.headers``."""

    def settings(self) -> list[str]:
        """The values of ``_BECOME``."""
        claims: dict[str, Any] = json.loads(self.credentials.claims)
        subject = claims.get("sub")
        return [
            _POLICY_TIMEOUT,
            self.topic,
            self.credentials.claims,
            subject if isinstance(subject, str) else "",
            self.credentials.role,
            json.dumps(dict(self.headers)),
            self.credentials.role,
        ]


# The role comes last: it may not be allowed to set the others.
_BECOME: Final = """
select set_config('statement_timeout', %s, true), set_config('realtime.topic', %s, true),
       set_config('request.jwt.claims', %s, true), set_config('request.jwt.claim.sub', %s, true),
       set_config('request.jwt.claim.role', %s, true), set_config('request.headers', %s, true),
       set_config('role', %s, true)
"""


async def readable(pool: Pool, asker: Asker, extensions: Collection[Extension]) -> frozenset[Extension]:
    """Which of the extensions the asker may read; a policy that raises allows nothing.

    Raises:
        ServerError: Nothing is known; ``code`` and ``message`` are for the client.
    """
    probes = {uuid.uuid4(): extension for extension in extensions}
    try:
        async with pool.connection() as connection, connection.transaction(force_rollback=True):
            for probe, extension in probes.items():
                await connection.execute(
                    "insert into realtime.messages (id, topic, extension) values (%s, %s, %s)",
                    (probe, asker.topic, extension.value),
                )
            await connection.execute(_BECOME, asker.settings())
            cursor = await connection.execute(
                "select id from realtime.messages where id = any (%s)", (list(probes),)
            )
            return frozenset(probes[row[0]] for row in await cursor.fetchall())
    except psycopg.Error as error:
        _raise_unless_refused(error)
        return frozenset()


async def may_write(pool: Pool, asker: Asker, extension: Extension) -> bool:
    """Whether the asker may write that.

    Raises:
        PermissionDeniedError: A policy raised: a no that is not to be remembered.
        ServerError: Nothing is known.
    """
    try:
        async with pool.connection() as connection, connection.transaction(force_rollback=True):
            await connection.execute(_BECOME, asker.settings())
            await connection.execute(
                "insert into realtime.messages (topic, extension) values (%s, %s)",
                (asker.topic, extension.value),
            )
    except psycopg.errors.InsufficientPrivilege:
        return False
    except psycopg.Error as error:
        _raise_unless_refused(error)
        raise PermissionDeniedError("A policy of realtime.messages failed.", code=error.sqlstate) from error
    return True


def _raise_unless_refused(error: psycopg.Error) -> None:
    """Return for an error of the policies themselves.

    Raises:
        ServerError: For any other one.
    """
    match error:
        case psycopg.errors.QueryCanceled():
            raise ServerError("Query was cancelled, please try again", code="QueryCanceled") from error
        case psycopg.errors.CheckViolation() if error.diag.table_name == "messages":
            raise ServerError(
                "Realtime was unable to find the expected messages partition", code="MissingPartition"
            ) from error
        case psycopg.OperationalError():  # a pool's time-out is one, too
            raise ServerError(
                "Realtime was unable to connect to the project database", code="UnableToConnectToProject"
            ) from error
        case _:
            _log.warning("a policy of realtime.messages failed: %s", error.sqlstate)
