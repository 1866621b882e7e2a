"""Changes of ``auth.users`` and ``auth.identities``.

Promises:
    Every function takes an open connection and leaves the transaction to its caller.
    E-mail addresses come in lower case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    import uuid

    from psycopg import AsyncConnection

__all__ = [
    "confirm_email",
    "delete_user",
    "insert_email_identity",
    "insert_user",
    "merge_metadata",
    "set_ban",
    "set_email",
    "set_password",
    "set_role",
    "soft_delete_user",
]

# The text token columns are '' and never null: that is how hosted Auth reads them.
INSERT_USER: Final[LiteralString] = """
insert into auth.users (
  id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data,
  confirmation_token, recovery_token, email_change, email_change_token_new
) values (
  %(id)s, %(aud)s, '', %(email)s, %(encrypted_password)s, %(app_metadata)s, %(user_metadata)s,
  '', '', '', ''
)
"""

INSERT_EMAIL_IDENTITY: Final[LiteralString] = """
insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at)
values (%(user_id)s::text, %(user_id)s, %(identity_data)s, 'email', now())
"""

CONFIRM_EMAIL: Final[LiteralString] = """
update auth.users
set
  email_confirmed_at = now(),
  confirmation_token = '',
  raw_user_meta_data = coalesce(raw_user_meta_data, '{}') || '{"email_verified": true}',
  updated_at = now()
where id = %(id)s
"""

SET_EMAIL: Final[LiteralString] = (
    "update auth.users set email = %(email)s, updated_at = now() where id = %(id)s"
)

UPDATE_EMAIL_IDENTITY: Final[LiteralString] = """
update auth.identities
set
  identity_data = identity_data
    || jsonb_build_object('email', %(email)s::text, 'email_verified', %(is_verified)s::boolean),
  updated_at = now()
where user_id = %(id)s and provider = 'email'
"""

SET_ROLE: Final[LiteralString] = "update auth.users set role = %(role)s, updated_at = now() where id = %(id)s"

# A new password also ends what the old one's owner may have set going.
SET_HASH: Final[LiteralString] = """
update auth.users
set
  encrypted_password = %(encrypted_password)s,
  confirmation_token = '',
  confirmation_sent_at = null,
  recovery_token = '',
  recovery_sent_at = null,
  email_change_token_current = '',
  email_change_token_new = '',
  email_change_sent_at = null,
  phone_change_token = '',
  phone_change_sent_at = null,
  reauthentication_token = '',
  reauthentication_sent_at = null,
  updated_at = now()
where id = %(id)s
"""

CLEAR_ONE_TIME_TOKENS: Final[LiteralString] = "delete from auth.one_time_tokens where user_id = %(id)s"

MERGE_METADATA: Final[LiteralString] = """
update auth.users
set
  raw_app_meta_data = (coalesce(raw_app_meta_data, '{}') || %(app_set)s) - %(app_removed)s::text[],
  raw_user_meta_data = (coalesce(raw_user_meta_data, '{}') || %(user_set)s) - %(user_removed)s::text[],
  updated_at = now()
where id = %(id)s
"""

SET_BAN: Final[LiteralString] = """
update auth.users
set banned_until = now() + make_interval(secs => %(seconds)s), updated_at = now()
where id = %(id)s
"""

END_BAN: Final[LiteralString] = (
    "update auth.users set banned_until = null, updated_at = now() where id = %(id)s"
)

DELETE_USER: Final[LiteralString] = "delete from auth.users where id = %(id)s"

# The row stays for foreign keys; what names a person becomes a digest, so that the address is free again.
SOFT_DELETE_USER: Final[LiteralString] = """
update auth.users
set
  email = case when email <> '' then encode(sha256(convert_to(id || email, 'UTF8')), 'hex') end,
  phone = case when phone <> '' then left(encode(sha256(convert_to(id || phone, 'UTF8')), 'hex'), 15) end,
  email_change = '',
  phone_change = '',
  encrypted_password = null,
  confirmation_token = '',
  recovery_token = '',
  email_change_token_current = '',
  email_change_token_new = '',
  phone_change_token = '',
  raw_user_meta_data = '{}',
  raw_app_meta_data = '{}',
  deleted_at = now(),
  updated_at = now()
where id = %(id)s and deleted_at is null
"""

SOFT_DELETE_IDENTITIES: Final[LiteralString] = """
update auth.identities
set
  identity_data = '{}',
  provider_id = encode(sha256(convert_to(user_id || provider_id, 'UTF8')), 'hex'),
  updated_at = now()
where user_id = %(id)s
"""


async def insert_user(
    connection: AsyncConnection,
    *,
    user_id: uuid.UUID,
    aud: str,
    role: str,
    email: str,
    encrypted_password: str,
    user_metadata: dict[str, Any],
    identity_extra: dict[str, Any] | None = None,
) -> None:
    """A user with an e-mail identity.

    In hosted Auth's steps, which triggers can tell apart: the insert knows the provider and the user's own
    metadata; role, confirmation and what an admin puts in ``app_metadata`` come as updates.
    """
    await connection.execute(
        INSERT_USER,
        {
            "id": user_id,
            "aud": aud,
            "email": email,
            "encrypted_password": encrypted_password,
            "app_metadata": Jsonb({"provider": "email", "providers": ["email"]}),
            "user_metadata": Jsonb(user_metadata),
        },
    )
    await insert_email_identity(connection, user_id, email=email, extra=identity_extra)
    await set_role(connection, user_id, role)


async def insert_email_identity(
    connection: AsyncConnection,
    user_id: uuid.UUID,
    *,
    email: str,
    is_verified: bool = False,
    extra: dict[str, Any] | None = None,
) -> None:
    """The identity of somebody who signs in with e-mail and password."""
    identity_data = {
        **(extra or {}),
        "sub": str(user_id),
        "email": email,
        "email_verified": is_verified,
        "phone_verified": False,
    }
    await connection.execute(
        INSERT_EMAIL_IDENTITY, {"user_id": user_id, "identity_data": Jsonb(identity_data)}
    )


async def confirm_email(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """From now on the address is known to be the user's."""
    await connection.execute(CONFIRM_EMAIL, {"id": user_id})


async def set_email(
    connection: AsyncConnection, user_id: uuid.UUID, email: str, *, is_verified: bool
) -> None:
    """Another address, in the user and in the e-mail identity, which is made if there is none."""
    changed = await connection.execute(
        UPDATE_EMAIL_IDENTITY, {"id": user_id, "email": email, "is_verified": is_verified}
    )
    if changed.rowcount == 0:
        await insert_email_identity(connection, user_id, email=email, is_verified=is_verified)
    await connection.execute(SET_EMAIL, {"id": user_id, "email": email})


async def set_role(connection: AsyncConnection, user_id: uuid.UUID, role: str) -> None:
    """Another database role for the user's tokens."""
    await connection.execute(SET_ROLE, {"id": user_id, "role": role.strip()})


async def set_password(connection: AsyncConnection, user_id: uuid.UUID, encrypted_password: str) -> None:
    """Another password; every code and link under way becomes worthless."""
    await connection.execute(SET_HASH, {"id": user_id, "encrypted_password": encrypted_password})
    await connection.execute(CLEAR_ONE_TIME_TOKENS, {"id": user_id})


async def merge_metadata(
    connection: AsyncConnection,
    user_id: uuid.UUID,
    *,
    app: dict[str, Any] | None = None,
    user: dict[str, Any] | None = None,
) -> None:
    """Merge at the top level; a null removes the key."""
    parameters: dict[str, Any] = {"id": user_id}
    for name, changes in (("app", app or {}), ("user", user or {})):
        parameters[f"{name}_set"] = Jsonb({key: value for key, value in changes.items() if value is not None})
        parameters[f"{name}_removed"] = [key for key, value in changes.items() if value is None]
    await connection.execute(MERGE_METADATA, parameters)


async def set_ban(connection: AsyncConnection, user_id: uuid.UUID, seconds: float) -> None:
    """Ban for that long; 0 ends a ban."""
    if seconds == 0:
        await connection.execute(END_BAN, {"id": user_id})
    else:
        await connection.execute(SET_BAN, {"id": user_id, "seconds": seconds})


async def delete_user(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """Gone, with identities, sessions and whatever cascades."""
    await connection.execute(DELETE_USER, {"id": user_id})


async def soft_delete_user(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """Keep the row, forget the person."""
    changed = await connection.execute(SOFT_DELETE_USER, {"id": user_id})
    if changed.rowcount:
        await connection.execute(SOFT_DELETE_IDENTITIES, {"id": user_id})
        await connection.execute(CLEAR_ONE_TIME_TOKENS, {"id": user_id})
