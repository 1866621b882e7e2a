"""One-time codes: how they are made, kept as digests, and found again.

Promises:
    Every function takes an open connection and leaves the transaction to its caller.
    A code is kept as hosted Auth keeps it, in the user's row and in ``auth.one_time_tokens``.
    Who checks or replaces a user's codes has locked the user's row, so that a code is good once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import sql
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["Code", "Pending", "clear_code", "digest", "keep_code", "lock_codes", "make_code", "owner_of"]

PKCE_PREFIX: Final = "pkce_"


class Code(StrEnum):
    """What a code is for: the type in ``auth.one_time_tokens`` and the column in ``auth.users``."""

    CONFIRMATION = "confirmation_token"
    RECOVERY = "recovery_token"
    REAUTHENTICATION = "reauthentication_token"
    EMAIL_CHANGE_NEW = "email_change_token_new"
    EMAIL_CHANGE_CURRENT = "email_change_token_current"
    PHONE_CHANGE = "phone_change_token"

    @property
    def sent_at(self) -> str:
        """The column that says when it was sent."""
        return f"{self.value.partition('_token')[0]}_sent_at"


@dataclass(frozen=True, slots=True)
class Pending:
    """A code that was sent and may still come."""

    digest: str = field(repr=False)
    """Empty when there is none."""
    age: float | None
    """Seconds since it, or its predecessor, was sent; by the database's clock."""

    def fits(self, given: str, *, lifetime: float) -> bool:
        """Whether this is the code, and not too old."""
        if not self.digest or self.age is None or self.age > lifetime:
            return False
        expected = self.digest.encode()
        return any(
            hmac.compare_digest(expected, candidate.encode()) for candidate in (given, PKCE_PREFIX + given)
        )


SET_CODE: Final[LiteralString] = """
update auth.users
set {code} = %(digest)s, {sent_at} = clock_timestamp(), updated_at = clock_timestamp()
where id = %(user_id)s
"""

CLEAR_USER: Final[LiteralString] = "update auth.users set {code} = '' where id = %(user_id)s"

CLEAR: Final[LiteralString] = (
    "delete from auth.one_time_tokens where user_id = %(user_id)s and token_type = %(code)s"
)

INSERT: Final[LiteralString] = """
insert into auth.one_time_tokens (id, user_id, token_type, token_hash, relates_to)
values (%(id)s, %(user_id)s, %(code)s, %(digest)s, %(relates_to)s)
"""

OWNER: Final[LiteralString] = """
select user_id, token_type::text
from auth.one_time_tokens
where token_hash = %(digest)s and token_type::text = any(%(codes)s)
limit 1
"""

# Not `for update`: a session that is being made holds a share of the row's key, and then wants the row.
LOCK: Final[LiteralString] = """
select {columns}
from auth.users
where id = %(user_id)s
for no key update
"""


def make_code(length: int) -> str:
    """Random digits."""
    return "".join(secrets.choice("0123456789") for _ in range(length))


def digest(address: str, code: str) -> str:
    """How a code to an address or phone number is kept: hosted Auth's digest."""
    return hashlib.sha224((address + code).encode()).hexdigest()


async def keep_code(
    connection: AsyncConnection, user_id: uuid.UUID, code: Code, token_hash: str, *, relates_to: str
) -> None:
    """Replace the user's code of that kind."""
    await connection.execute(
        sql.SQL(SET_CODE).format(code=sql.Identifier(code), sent_at=sql.Identifier(code.sent_at)),
        {"user_id": user_id, "digest": token_hash},
    )
    await connection.execute(CLEAR, {"user_id": user_id, "code": code.value})
    await connection.execute(
        INSERT,
        {
            "id": uuid.uuid4(),
            "user_id": user_id,
            "code": code.value,
            "digest": token_hash,
            "relates_to": relates_to.lower(),
        },
    )


async def clear_code(connection: AsyncConnection, user_id: uuid.UUID, code: Code) -> None:
    """Make the user's code of that kind worthless."""
    await connection.execute(
        sql.SQL(CLEAR_USER).format(code=sql.Identifier(code)),
        {"user_id": user_id},
    )
    await connection.execute(CLEAR, {"user_id": user_id, "code": code.value})


async def owner_of(
    connection: AsyncConnection, token_hash: str, *codes: Code
) -> tuple[uuid.UUID, Code] | None:
    """Whose code that is, and of which of the given kinds."""
    cursor = await connection.execute(OWNER, {"digest": token_hash, "codes": [code.value for code in codes]})
    row = await cursor.fetchone()
    return None if row is None else (row[0], Code(row[1]))


async def lock_codes(connection: AsyncConnection, user_id: uuid.UUID) -> dict[Code, Pending]:
    """The user's codes of all kinds, and a lock on the user's row; empty when the user is gone."""
    columns = [
        part
        for code in Code
        for part in (
            sql.SQL("coalesce({}, '') as {}").format(sql.Identifier(code), sql.Identifier(code)),
            sql.SQL("extract(epoch from clock_timestamp() - {})::double precision as {}").format(
                sql.Identifier(code.sent_at), sql.Identifier(f"{code}_age")
            ),
        )
    ]
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(sql.SQL(LOCK).format(columns=sql.SQL(", ").join(columns)), {"user_id": user_id})
        row = await cursor.fetchone()
    if row is None:
        return {}
    return {code: Pending(digest=row[code.value], age=row[f"{code}_age"]) for code in Code}
