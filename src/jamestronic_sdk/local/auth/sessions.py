"""Sessions, how they were proved, and the rotation of their refresh tokens.

Promises:
    Every function takes an open connection and leaves the transaction to its caller.
    A session is refreshed by one transaction at a time: its row is locked first.

Rules of rotation (version 1 of hosted Auth), by what the presented token is:
    1. not revoked: revoke it, issue a child;
    2. revoked, and parent of the session's active token: the active token again, however late, because the
       first answer was lost;
    3. revoked, within the reuse interval: another child;
    4. revoked, later: refused, and with rotation on every token of the session is revoked.
"""

from __future__ import annotations

import re
import secrets
import string
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psycopg.errors
from psycopg.rows import class_row, scalar_row

from jamestronic_sdk.local.auth.errors import Problem

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.requests import Origin
    from jamestronic_sdk.local.auth.settings import AuthSettings

__all__ = [
    "Amr",
    "LockedSession",
    "amr_of",
    "create_session",
    "delete_aal1_sessions",
    "delete_other_sessions",
    "delete_session",
    "delete_sessions_of",
    "has_session",
    "is_aal2",
    "is_recent",
    "lock_session",
    "lock_session_of",
    "lock_user",
    "raise_to_aal2",
    "replace_refresh_token",
    "rotate",
    "touch_session",
]

_ALPHABET: Final = string.ascii_lowercase + string.digits
_LENGTH: Final = 12
_REFRESH_TOKEN: Final = re.compile(r"[a-z0-9]{12}", re.ASCII)

_AAL2_METHODS: Final = frozenset({"totp", "mfa/phone", "mfa/webauthn"})

INSERT_SESSION: Final[LiteralString] = """
insert into auth.sessions (id, user_id, aal, user_agent, ip)
values (%(id)s, %(user_id)s, 'aal1', %(user_agent)s, %(ip)s)
"""

INSERT_AMR: Final[LiteralString] = """
insert into auth.mfa_amr_claims (id, session_id, authentication_method, created_at, updated_at)
values (gen_random_uuid(), %(session_id)s, %(method)s, clock_timestamp(), clock_timestamp())
on conflict (session_id, authentication_method) do update set updated_at = clock_timestamp()
"""

INSERT_REFRESH: Final[LiteralString] = """
insert into auth.refresh_tokens (token, user_id, session_id, parent, revoked, created_at, updated_at)
values (
  %(token)s, %(user_id)s::text, %(session_id)s, %(parent)s, false, clock_timestamp(), clock_timestamp()
)
"""

SET_LAST_SIGN_IN: Final[LiteralString] = """
update auth.users
set last_sign_in_at = clock_timestamp(), updated_at = clock_timestamp()
where id = %(id)s
"""

FIND_SESSION: Final[LiteralString] = (
    "select session_id, user_id::uuid from auth.refresh_tokens where token = %(token)s"
)

SET_LOCK_TIMEOUT: Final[LiteralString] = "select set_config('lock_timeout', %(milliseconds)s::text, true)"

LOCK_SESSION: Final[LiteralString] = """
select
  id,
  user_id,
  coalesce(not_after < clock_timestamp(), false) as is_past_not_after,
  coalesce(created_at < clock_timestamp() - make_interval(secs => %(time_box)s), false) as is_past_time_box,
  coalesce(
    coalesce(refreshed_at at time zone 'UTC', created_at)
      < clock_timestamp() - make_interval(secs => %(inactivity)s),
    false
  ) as is_inactive
from auth.sessions
where id = %(id)s
for update
"""

READ_PRESENTED: Final[LiteralString] = """
select
  coalesce(revoked, false) as is_revoked,
  updated_at + make_interval(secs => %(interval)s) >= clock_timestamp() as is_within_reuse_interval
from auth.refresh_tokens
where token = %(token)s and session_id = %(session_id)s
"""

READ_ACTIVE: Final[LiteralString] = """
select token, parent
from auth.refresh_tokens
where session_id = %(session_id)s and not revoked
order by id desc
limit 1
"""

# A second use within the interval does not start the interval anew.
REVOKE_PRESENTED: Final[LiteralString] = """
update auth.refresh_tokens
set revoked = true, updated_at = clock_timestamp()
where token = %(token)s and not coalesce(revoked, false)
"""

REVOKE_ALL: Final[LiteralString] = """
update auth.refresh_tokens
set revoked = true, updated_at = clock_timestamp()
where session_id = %(session_id)s and not coalesce(revoked, false)
"""

TOUCH_SESSION: Final[LiteralString] = """
update auth.sessions
set
  refreshed_at = clock_timestamp() at time zone 'UTC',
  updated_at = clock_timestamp(),
  user_agent = %(user_agent)s,
  ip = %(ip)s
where id = %(id)s
"""

AMR: Final[LiteralString] = """
select authentication_method as method, floor(extract(epoch from updated_at))::bigint as timestamp
from auth.mfa_amr_claims
where session_id = %(id)s
order by updated_at desc
"""

HAS_SESSION: Final[LiteralString] = "select exists (select from auth.sessions where id = %(id)s)"

IS_RECENT: Final[LiteralString] = """
select exists (
  select from auth.sessions where id = %(id)s and created_at > clock_timestamp() - interval '1 day'
)
"""

LOCK_ONLY: Final[LiteralString] = "select from auth.sessions where id = %(id)s for update"

LOCK_USER: Final[LiteralString] = "select from auth.users where id = %(id)s for no key update"

IS_AAL2: Final[LiteralString] = (
    "select exists (select from auth.sessions where id = %(id)s and aal >= 'aal2')"
)

RAISE: Final[LiteralString] = """
update auth.sessions
set aal = 'aal2', factor_id = %(factor_id)s, updated_at = clock_timestamp()
where id = %(id)s
"""

DELETE_AAL1: Final[LiteralString] = "delete from auth.sessions where user_id = %(user_id)s and aal < 'aal2'"

DELETE_SESSION: Final[LiteralString] = "delete from auth.sessions where id = %(id)s"

DELETE_OTHER_SESSIONS: Final[LiteralString] = (
    "delete from auth.sessions where user_id = %(user_id)s and id <> %(id)s"
)

DELETE_SESSIONS: Final[LiteralString] = "delete from auth.sessions where user_id = %(user_id)s"


@dataclass(frozen=True, slots=True)
class Amr:
    """One way in which the user of a session proved who they are."""

    method: str
    timestamp: int
    """Seconds since 1970."""

    @property
    def is_aal2(self) -> bool:
        """Whether it is a second factor."""
        return self.method in _AAL2_METHODS


@dataclass(frozen=True, slots=True)
class LockedSession:
    """A session whose row this transaction has locked, and what ends sessions."""

    id: uuid.UUID
    user_id: uuid.UUID
    is_past_not_after: bool
    is_past_time_box: bool
    is_inactive: bool


@dataclass(frozen=True, slots=True)
class _Presented:
    is_revoked: bool
    is_within_reuse_interval: bool


@dataclass(frozen=True, slots=True)
class _Active:
    token: str
    parent: str | None


async def create_session(
    connection: AsyncConnection, user_id: uuid.UUID, *, method: str, origin: Origin
) -> tuple[uuid.UUID, str]:
    """A new session: its id and its first refresh token."""
    session_id = uuid.uuid4()
    await connection.execute(
        INSERT_SESSION,
        {"id": session_id, "user_id": user_id, "user_agent": origin.user_agent, "ip": origin.ip},
    )
    await connection.execute(INSERT_AMR, {"session_id": session_id, "method": method})
    token = await _insert_refresh_token(connection, user_id, session_id, parent=None)
    await connection.execute(SET_LAST_SIGN_IN, {"id": user_id})
    return session_id, token


async def lock_session_of(connection: AsyncConnection, token: str, settings: AuthSettings) -> LockedSession:
    """Lock the session that a refresh token belongs to.

    Raises:
        AuthApiProblem: The token is malformed or unknown, has no session, or another refresh holds the lock.
    """
    if _REFRESH_TOKEN.fullmatch(token) is None:
        raise Problem.VALIDATION_FAILED.error("Refresh token is not valid")
    cursor = await connection.execute(FIND_SESSION, {"token": token})
    found = await cursor.fetchone()
    if found is None:
        raise Problem.REFRESH_TOKEN_NOT_FOUND.error()
    session_id: uuid.UUID | None = found[0]
    if session_id is None:
        raise Problem.SESSION_NOT_FOUND.error()
    parameters: dict[str, Any] = {
        "id": session_id,
        "time_box": settings.session_time_box,
        "inactivity": settings.session_inactivity_timeout,
    }
    await connection.execute(SET_LOCK_TIMEOUT, {"milliseconds": int(settings.lock_timeout * 1000)})
    async with connection.cursor(row_factory=class_row(LockedSession)) as locking:
        try:
            await locking.execute(LOCK_SESSION, parameters)
        except psycopg.errors.LockNotAvailable:
            raise Problem.CONFLICT.error() from None
        session = await locking.fetchone()
    if session is None:
        # Signed out while we waited; the token went with its session.
        raise Problem.REFRESH_TOKEN_NOT_FOUND.error()
    return session


async def rotate(
    connection: AsyncConnection, session: LockedSession, token: str, settings: AuthSettings
) -> str | None:
    """The token to answer with, or None: refused, and what that revokes is to be committed.

    Raises:
        AuthApiProblem: ``refresh_token_not_found``.
    """
    async with connection.cursor(row_factory=class_row(_Presented)) as cursor:
        await cursor.execute(
            READ_PRESENTED,
            {
                "token": token,
                "session_id": session.id,
                "interval": settings.refresh_token_reuse_interval,
            },
        )
        presented = await cursor.fetchone()
    if presented is None:
        raise Problem.REFRESH_TOKEN_NOT_FOUND.error()
    if presented.is_revoked:
        async with connection.cursor(row_factory=class_row(_Active)) as cursor:
            await cursor.execute(READ_ACTIVE, {"session_id": session.id})
            active = await cursor.fetchone()
        if active is not None and active.parent == token:
            return active.token
        if not presented.is_within_reuse_interval:
            if settings.is_rotation_enabled:
                await connection.execute(REVOKE_ALL, {"session_id": session.id})
            return None
    await connection.execute(REVOKE_PRESENTED, {"token": token})
    return await _insert_refresh_token(connection, session.user_id, session.id, parent=token)


async def _insert_refresh_token(
    connection: AsyncConnection, user_id: uuid.UUID, session_id: uuid.UUID, *, parent: str | None
) -> str:
    token = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    await connection.execute(
        INSERT_REFRESH,
        {"token": token, "user_id": user_id, "session_id": session_id, "parent": parent},
    )
    return token


async def touch_session(connection: AsyncConnection, session_id: uuid.UUID, origin: Origin) -> None:
    """Note when and from where it was refreshed."""
    await connection.execute(
        TOUCH_SESSION, {"id": session_id, "user_agent": origin.user_agent, "ip": origin.ip}
    )


async def amr_of(connection: AsyncConnection, session_id: uuid.UUID) -> list[Amr]:
    """How the session's user proved who they are, newest first."""
    async with connection.cursor(row_factory=class_row(Amr)) as cursor:
        await cursor.execute(AMR, {"id": session_id})
        return await cursor.fetchall()


async def has_session(connection: AsyncConnection, session_id: uuid.UUID) -> bool:
    """Whether it was not signed out."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(HAS_SESSION, {"id": session_id})
        return bool(await cursor.fetchone())


async def is_recent(connection: AsyncConnection, session_id: uuid.UUID) -> bool:
    """Whether it began within the last day."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(IS_RECENT, {"id": session_id})
        return bool(await cursor.fetchone())


async def lock_session(connection: AsyncConnection, session_id: uuid.UUID) -> None:
    """Let nobody else refresh or raise it until the transaction ends."""
    await connection.execute(LOCK_ONLY, {"id": session_id})


async def lock_user(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """Let nobody else count and add what the user has until the transaction ends."""
    await connection.execute(LOCK_USER, {"id": user_id})


async def is_aal2(connection: AsyncConnection, session_id: uuid.UUID) -> bool:
    """Whether the session has shown two factors."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(IS_AAL2, {"id": session_id})
        return bool(await cursor.fetchone())


async def raise_to_aal2(
    connection: AsyncConnection, session_id: uuid.UUID, factor_id: uuid.UUID, *, method: str
) -> None:
    """Note that the session has shown a second factor."""
    await connection.execute(RAISE, {"id": session_id, "factor_id": factor_id})
    await connection.execute(INSERT_AMR, {"session_id": session_id, "method": method})


async def replace_refresh_token(
    connection: AsyncConnection, user_id: uuid.UUID, session_id: uuid.UUID
) -> str:
    """Revoke the session's refresh tokens; a child of the active one."""
    async with connection.cursor(row_factory=class_row(_Active)) as cursor:
        await cursor.execute(READ_ACTIVE, {"session_id": session_id})
        active = await cursor.fetchone()
    await connection.execute(REVOKE_ALL, {"session_id": session_id})
    return await _insert_refresh_token(
        connection, user_id, session_id, parent=None if active is None else active.token
    )


async def delete_aal1_sessions(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """Sign out where one factor was enough so far."""
    await connection.execute(DELETE_AAL1, {"user_id": user_id})


async def delete_session(connection: AsyncConnection, session_id: uuid.UUID) -> None:
    """Sign out; refresh tokens go along."""
    await connection.execute(DELETE_SESSION, {"id": session_id})


async def delete_other_sessions(
    connection: AsyncConnection, user_id: uuid.UUID, session_id: uuid.UUID
) -> None:
    """Sign out everywhere else."""
    await connection.execute(DELETE_OTHER_SESSIONS, {"user_id": user_id, "id": session_id})


async def delete_sessions_of(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """Sign out everywhere."""
    await connection.execute(DELETE_SESSIONS, {"user_id": user_id})
