"""Rows of ``auth.mfa_factors`` and ``auth.mfa_challenges``, and how factors look in JSON.

Promises:
    Every function takes an open connection and leaves the transaction to its caller.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg.rows import class_row, scalar_row

from jamestronic_sdk.local.auth.users import timestamp

if TYPE_CHECKING:
    import datetime as dt

    from psycopg import AsyncConnection

__all__ = [
    "Challenge",
    "Factor",
    "add_challenge",
    "add_factor",
    "delete_challenge",
    "delete_factor",
    "delete_unverified",
    "factor_json",
    "factors_of",
    "find_factor",
    "lock_challenge",
    "rename_factor",
    "verify_factor",
]


@dataclass(frozen=True, slots=True)
class Factor:
    """A row of ``auth.mfa_factors``."""

    id: uuid.UUID
    user_id: uuid.UUID
    friendly_name: str
    factor_type: str
    status: str
    secret: str = field(repr=False)
    phone: str = field(repr=False)
    last_challenged_at: dt.datetime | None
    created_at: dt.datetime
    updated_at: dt.datetime

    @property
    def is_verified(self) -> bool:
        """Whether its owner has shown a code of it."""
        return self.status == "verified"


@dataclass(frozen=True, slots=True)
class Challenge:
    """A row of ``auth.mfa_challenges``, locked."""

    id: uuid.UUID
    is_answered: bool
    ip: str
    is_expired: bool


SELECT: Final[LiteralString] = """
select
  id,
  user_id,
  coalesce(friendly_name, '') as friendly_name,
  factor_type::text,
  status::text,
  coalesce(secret, '') as secret,
  coalesce(phone, '') as phone,
  last_challenged_at,
  created_at,
  updated_at
from auth.mfa_factors
"""

FACTORS_OF: Final[LiteralString] = SELECT + "where user_id = %(user_id)s order by created_at, id"

FIND: Final[LiteralString] = SELECT + "where id = %(id)s and user_id = %(user_id)s for update"

# Who began to enrol and went away would be in their own way.
DELETE_ABANDONED: Final[LiteralString] = """
delete from auth.mfa_factors as f
where f.user_id = %(user_id)s
  and f.status <> 'verified'
  and f.created_at < clock_timestamp() - interval '5 min'
  and not exists (select from auth.mfa_challenges as c where c.factor_id = f.id)
"""

INSERT: Final[LiteralString] = """
insert into auth.mfa_factors (
  id, user_id, friendly_name, factor_type, status, secret, created_at, updated_at
) values (
  %(id)s, %(user_id)s, %(friendly_name)s, 'totp', 'unverified', %(secret)s,
  clock_timestamp(), clock_timestamp()
)
"""

RENAME: Final[LiteralString] = """
update auth.mfa_factors
set friendly_name = %(friendly_name)s, updated_at = clock_timestamp()
where id = %(id)s
"""

VERIFY: Final[LiteralString] = """
update auth.mfa_factors set status = 'verified', updated_at = clock_timestamp() where id = %(id)s
"""

# Sessions of the factor fall back to one factor; their next token says so.
FORGET_IN_AMR: Final[LiteralString] = """
delete from auth.mfa_amr_claims as a
using auth.sessions as s
where s.factor_id = %(id)s and a.session_id = s.id and a.authentication_method = 'totp'
"""

DOWNGRADE: Final[LiteralString] = (
    "update auth.sessions set aal = 'aal1', factor_id = null where factor_id = %(id)s"
)

DELETE: Final[LiteralString] = "delete from auth.mfa_factors where id = %(id)s"

DELETE_UNVERIFIED: Final[LiteralString] = """
delete from auth.mfa_factors
where user_id = %(user_id)s and status = 'unverified' and factor_type = 'totp'
"""

INSERT_CHALLENGE: Final[LiteralString] = """
insert into auth.mfa_challenges (id, factor_id, created_at, ip_address)
values (%(id)s, %(factor_id)s, clock_timestamp(), %(ip)s)
returning floor(extract(epoch from created_at) + %(lifetime)s)::bigint
"""

TOUCH: Final[LiteralString] = (
    "update auth.mfa_factors set last_challenged_at = clock_timestamp() where id = %(id)s"
)

LOCK_CHALLENGE: Final[LiteralString] = """
select
  id,
  verified_at is not null as is_answered,
  host(ip_address) as ip,
  created_at + make_interval(secs => %(lifetime)s) < clock_timestamp() as is_expired
from auth.mfa_challenges
where id = %(id)s and factor_id = %(factor_id)s
for update
"""

DELETE_CHALLENGE: Final[LiteralString] = "delete from auth.mfa_challenges where id = %(id)s"

ANSWER_CHALLENGE: Final[LiteralString] = (
    "update auth.mfa_challenges set verified_at = clock_timestamp() where id = %(id)s"
)


async def factors_of(connection: AsyncConnection, user_id: uuid.UUID) -> list[Factor]:
    """The user's factors, oldest first."""
    async with connection.cursor(row_factory=class_row(Factor)) as cursor:
        await cursor.execute(FACTORS_OF, {"user_id": user_id})
        return await cursor.fetchall()


async def find_factor(connection: AsyncConnection, factor_id: uuid.UUID, user_id: uuid.UUID) -> Factor | None:
    """The user's factor of that id, locked."""
    async with connection.cursor(row_factory=class_row(Factor)) as cursor:
        await cursor.execute(FIND, {"id": factor_id, "user_id": user_id})
        return await cursor.fetchone()


async def delete_abandoned(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """Forget factors that the user began to enrol and never answered."""
    await connection.execute(DELETE_ABANDONED, {"user_id": user_id})


async def add_factor(
    connection: AsyncConnection, user_id: uuid.UUID, *, friendly_name: str, secret: str
) -> uuid.UUID:
    """A TOTP factor whose first code is still waited for."""
    factor_id = uuid.uuid4()
    await connection.execute(
        INSERT,
        {"id": factor_id, "user_id": user_id, "friendly_name": friendly_name, "secret": secret},
    )
    return factor_id


async def rename_factor(connection: AsyncConnection, factor_id: uuid.UUID, friendly_name: str) -> None:
    """Another name."""
    await connection.execute(RENAME, {"id": factor_id, "friendly_name": friendly_name})


async def verify_factor(connection: AsyncConnection, factor_id: uuid.UUID, challenge: Challenge) -> None:
    """Its owner has shown the right code."""
    await connection.execute(ANSWER_CHALLENGE, {"id": challenge.id})
    await connection.execute(VERIFY, {"id": factor_id})


async def delete_factor(connection: AsyncConnection, factor_id: uuid.UUID) -> None:
    """Gone; sessions that it had raised are at one factor again."""
    await connection.execute(FORGET_IN_AMR, {"id": factor_id})
    await connection.execute(DOWNGRADE, {"id": factor_id})
    await connection.execute(DELETE, {"id": factor_id})


async def delete_unverified(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """Forget TOTP factors that the user began to enrol."""
    await connection.execute(DELETE_UNVERIFIED, {"user_id": user_id})


async def add_challenge(
    connection: AsyncConnection, factor_id: uuid.UUID, *, ip: str, lifetime: float
) -> tuple[uuid.UUID, int]:
    """A new challenge: its id, and when it expires in seconds since 1970."""
    challenge_id = uuid.uuid4()
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            INSERT_CHALLENGE, {"id": challenge_id, "factor_id": factor_id, "ip": ip, "lifetime": lifetime}
        )
        expires_at = int(await cursor.fetchone() or 0)
    await connection.execute(TOUCH, {"id": factor_id})
    return challenge_id, expires_at


async def lock_challenge(
    connection: AsyncConnection, challenge_id: uuid.UUID, factor_id: uuid.UUID, *, lifetime: float
) -> Challenge | None:
    """The factor's challenge of that id."""
    async with connection.cursor(row_factory=class_row(Challenge)) as cursor:
        await cursor.execute(
            LOCK_CHALLENGE, {"id": challenge_id, "factor_id": factor_id, "lifetime": lifetime}
        )
        return await cursor.fetchone()


async def delete_challenge(connection: AsyncConnection, challenge: Challenge) -> None:
    """Gone."""
    await connection.execute(DELETE_CHALLENGE, {"id": challenge.id})


def factor_json(factor: Factor) -> dict[str, Any]:
    """The factor as clients know it; never its secret."""
    body: dict[str, Any] = {
        "id": str(factor.id),
        "created_at": timestamp(factor.created_at),
        "updated_at": timestamp(factor.updated_at),
        "status": factor.status,
        "factor_type": factor.factor_type,
        "phone": factor.phone,
        "last_challenged_at": None
        if factor.last_challenged_at is None
        else timestamp(factor.last_challenged_at),
    }
    if factor.friendly_name:
        body["friendly_name"] = factor.friendly_name
    return body
