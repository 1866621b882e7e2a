"""Rows of ``auth.users`` and ``auth.identities``: reading them, and how they look in JSON.

Promises:
    Every function takes an open connection and leaves the transaction to its caller.
    E-mail addresses come in lower case.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg.rows import class_row, scalar_row

if TYPE_CHECKING:
    import uuid

    from psycopg import AsyncConnection

__all__ = [
    "Identity",
    "User",
    "count_users",
    "find_user_by_any_email",
    "find_user_by_email",
    "find_user_by_id",
    "find_user_by_identity",
    "find_user_by_phone",
    "find_user_by_phone_change",
    "identities_of",
    "is_email_taken",
    "is_phone_taken",
    "list_users",
    "timestamp",
    "user_json",
]


@dataclass(frozen=True, slots=True)
class User:
    """A row of ``auth.users``: what the API shows or decides by."""

    id: uuid.UUID
    aud: str
    role: str
    email: str
    phone: str
    encrypted_password: str | None
    email_confirmed_at: dt.datetime | None
    phone_confirmed_at: dt.datetime | None
    confirmed_at: dt.datetime | None
    invited_at: dt.datetime | None
    confirmation_sent_at: dt.datetime | None
    recovery_sent_at: dt.datetime | None
    email_change: str
    email_change_sent_at: dt.datetime | None
    email_change_confirm_status: int
    """1 when one of the two addresses has confirmed a change."""
    phone_change: str
    phone_change_sent_at: dt.datetime | None
    reauthentication_sent_at: dt.datetime | None
    last_sign_in_at: dt.datetime | None
    app_metadata: dict[str, Any]
    user_metadata: dict[str, Any]
    created_at: dt.datetime
    updated_at: dt.datetime
    banned_until: dt.datetime | None
    deleted_at: dt.datetime | None
    is_anonymous: bool
    is_banned: bool
    """Whether ``banned_until`` lies ahead, by the database's clock."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A row of ``auth.identities``."""

    id: uuid.UUID
    provider_id: str
    user_id: uuid.UUID
    identity_data: dict[str, Any]
    provider: str
    last_sign_in_at: dt.datetime | None
    created_at: dt.datetime
    updated_at: dt.datetime
    email: str | None


# Rows that plain SQL inserted lack what the API always shows, hence the coalesces.
SELECT_USERS: Final[LiteralString] = """
select
  id,
  coalesce(aud, '') as aud,
  coalesce(role, '') as role,
  coalesce(email, '') as email,
  coalesce(phone, '') as phone,
  encrypted_password,
  email_confirmed_at,
  phone_confirmed_at,
  confirmed_at,
  invited_at,
  confirmation_sent_at,
  recovery_sent_at,
  coalesce(email_change, '') as email_change,
  email_change_sent_at,
  coalesce(email_change_confirm_status, 0) as email_change_confirm_status,
  coalesce(phone_change, '') as phone_change,
  phone_change_sent_at,
  reauthentication_sent_at,
  last_sign_in_at,
  coalesce(raw_app_meta_data, '{}') as app_metadata,
  coalesce(raw_user_meta_data, '{}') as user_metadata,
  coalesce(created_at, 'epoch') as created_at,
  coalesce(updated_at, created_at, 'epoch') as updated_at,
  banned_until,
  deleted_at,
  is_anonymous,
  coalesce(banned_until > clock_timestamp(), false) as is_banned
from auth.users
"""

FIND_BY_ID: Final[LiteralString] = SELECT_USERS + "where id = %(id)s"

# An SSO user may have the same address; it does not sign in with a password.
FIND_BY_EMAIL: Final[LiteralString] = (
    SELECT_USERS + "where email = %(email)s and aud = %(aud)s and not is_sso_user"
)

# Soft-deleted users keep a digest here, which is no number.
FIND_BY_PHONE: Final[LiteralString] = SELECT_USERS + "where phone = %(phone)s and aud = %(aud)s"

FIND_BY_PHONE_CHANGE: Final[LiteralString] = (
    SELECT_USERS
    + "where phone_change = %(phone)s and aud = %(aud)s order by phone_change_sent_at desc nulls last limit 1"
)

# The user who has it as address comes before one who has it in an identity only.
FIND_BY_ANY_EMAIL: Final[LiteralString] = (
    SELECT_USERS
    + """
where aud = %(aud)s
  and not is_sso_user
  and (
    email = %(email)s
    or exists (select from auth.identities as i where i.user_id = users.id and i.email = %(email)s)
  )
order by (email = %(email)s) desc nulls last
limit 1
"""
)

FIND_BY_IDENTITY: Final[LiteralString] = (
    SELECT_USERS  # noqa: S608 - literals only
    + """
where id = (
  select user_id from auth.identities where provider = %(provider)s and provider_id = %(provider_id)s
)
"""
)

IS_PHONE_TAKEN: Final[LiteralString] = """
select exists (
  select from auth.users
  where phone = %(phone)s and aud = %(aud)s and id is distinct from %(but)s
)
"""

IS_EMAIL_TAKEN: Final[LiteralString] = """
select exists (
  select from auth.users as u
  where u.aud = %(aud)s
    and u.id is distinct from %(but)s
    and (
      (u.email = %(email)s and not u.is_sso_user)
      or exists (select from auth.identities as i where i.user_id = u.id and i.email = %(email)s)
    )
)
"""

# LIKE with the caller's wildcards, as hosted Auth has it.
FILTERED: Final[LiteralString] = """
where aud = %(aud)s
  and (
    %(filter)s::text = '%%'
    or email like %(filter)s
    or raw_user_meta_data ->> 'full_name' ilike %(filter)s
  )
"""

LIST_DESCENDING: Final[LiteralString] = (
    SELECT_USERS + FILTERED + "order by created_at desc, id limit %(limit)s offset %(offset)s"
)
LIST_ASCENDING: Final[LiteralString] = (
    SELECT_USERS + FILTERED + "order by created_at, id limit %(limit)s offset %(offset)s"
)
COUNT: Final[LiteralString] = "select count(*) from auth.users" + FILTERED  # noqa: S608 - literals only

IDENTITIES: Final[LiteralString] = """
select
  id, provider_id, user_id, identity_data, provider, last_sign_in_at,
  coalesce(created_at, 'epoch') as created_at, coalesce(updated_at, created_at, 'epoch') as updated_at, email
from auth.identities
where user_id = %(id)s
order by created_at, id
"""


async def find_user_by_id(connection: AsyncConnection, user_id: uuid.UUID) -> User | None:
    """The user, deleted ones included."""
    async with connection.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(FIND_BY_ID, {"id": user_id})
        return await cursor.fetchone()


async def find_user_by_email(connection: AsyncConnection, email: str, *, aud: str) -> User | None:
    """The user who signs in with that address."""
    async with connection.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(FIND_BY_EMAIL, {"email": email, "aud": aud})
        return await cursor.fetchone()


async def find_user_by_any_email(connection: AsyncConnection, email: str, *, aud: str) -> User | None:
    """The user who has that address, if only in an identity."""
    async with connection.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(FIND_BY_ANY_EMAIL, {"email": email, "aud": aud})
        return await cursor.fetchone()


async def find_user_by_identity(
    connection: AsyncConnection, *, provider: str, provider_id: str
) -> User | None:
    """The user whom a provider knows by that id."""
    async with connection.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(FIND_BY_IDENTITY, {"provider": provider, "provider_id": provider_id})
        return await cursor.fetchone()


async def find_user_by_phone(connection: AsyncConnection, phone: str, *, aud: str) -> User | None:
    """The user who signs in with that number."""
    async with connection.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(FIND_BY_PHONE, {"phone": phone, "aud": aud})
        return await cursor.fetchone()


async def find_user_by_phone_change(connection: AsyncConnection, phone: str, *, aud: str) -> User | None:
    """The user who wants that number, the last one who asked."""
    async with connection.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(FIND_BY_PHONE_CHANGE, {"phone": phone, "aud": aud})
        return await cursor.fetchone()


async def is_phone_taken(
    connection: AsyncConnection, phone: str, *, aud: str, but: uuid.UUID | None = None
) -> bool:
    """Whether a user other than ``but`` has it."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(IS_PHONE_TAKEN, {"phone": phone, "aud": aud, "but": but})
        return bool(await cursor.fetchone())


async def is_email_taken(
    connection: AsyncConnection, email: str, *, aud: str, but: uuid.UUID | None = None
) -> bool:
    """Whether a user other than ``but`` has it, as address or in an identity."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(IS_EMAIL_TAKEN, {"email": email, "aud": aud, "but": but})
        return bool(await cursor.fetchone())


async def list_users(
    connection: AsyncConnection, *, aud: str, pattern: str, limit: int, offset: int, is_ascending: bool
) -> list[User]:
    """One page, by creation time."""
    query = LIST_ASCENDING if is_ascending else LIST_DESCENDING
    async with connection.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(
            query,
            {"aud": aud, "filter": f"%{pattern}%" if pattern else "%", "limit": limit, "offset": offset},
        )
        return await cursor.fetchall()


async def count_users(connection: AsyncConnection, *, aud: str, pattern: str) -> int:
    """How many users all pages together show."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(COUNT, {"aud": aud, "filter": f"%{pattern}%" if pattern else "%"})
        return int(await cursor.fetchone() or 0)


async def identities_of(connection: AsyncConnection, user_id: uuid.UUID) -> list[Identity]:
    """The user's identities, oldest first."""
    async with connection.cursor(row_factory=class_row(Identity)) as cursor:
        await cursor.execute(IDENTITIES, {"id": user_id})
        return await cursor.fetchall()


def timestamp(moment: dt.datetime) -> str:
    """UTC with ``Z``: what every client parses."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def user_json(user: User, identities: list[Identity] | None) -> dict[str, Any]:
    """The user as clients know it; what is empty is left out, lists of users have no identities."""
    body: dict[str, Any] = {
        "id": str(user.id),
        "aud": user.aud,
        "role": user.role,
        "email": user.email,
        "phone": user.phone,
        "app_metadata": user.app_metadata,
        "user_metadata": user.user_metadata,
        "identities": None if identities is None else [_identity_json(identity) for identity in identities],
        "created_at": timestamp(user.created_at),
        "updated_at": timestamp(user.updated_at),
        "is_anonymous": user.is_anonymous,
    }
    moments = {
        "email_confirmed_at": user.email_confirmed_at,
        "phone_confirmed_at": user.phone_confirmed_at,
        "confirmed_at": user.confirmed_at,
        "invited_at": user.invited_at,
        "confirmation_sent_at": user.confirmation_sent_at,
        "recovery_sent_at": user.recovery_sent_at,
        "email_change_sent_at": user.email_change_sent_at,
        "phone_change_sent_at": user.phone_change_sent_at,
        "reauthentication_sent_at": user.reauthentication_sent_at,
        "last_sign_in_at": user.last_sign_in_at,
        "banned_until": user.banned_until,
        "deleted_at": user.deleted_at,
    }
    body.update({name: timestamp(moment) for name, moment in moments.items() if moment is not None})
    if user.email_change:
        body["new_email"] = user.email_change
    if user.phone_change:
        body["new_phone"] = user.phone_change
    return body


def _identity_json(identity: Identity) -> dict[str, Any]:
    body: dict[str, Any] = {
        "identity_id": str(identity.id),
        "id": identity.provider_id,
        "user_id": str(identity.user_id),
        "identity_data": identity.identity_data,
        "provider": identity.provider,
        "created_at": timestamp(identity.created_at),
        "updated_at": timestamp(identity.updated_at),
    }
    if identity.last_sign_in_at is not None:
        body["last_sign_in_at"] = timestamp(identity.last_sign_in_at)
    if identity.email:
        body["email"] = identity.email
    return body
