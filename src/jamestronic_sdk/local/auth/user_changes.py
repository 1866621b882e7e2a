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
    "clear_reauthentication",
    "clear_recovery",
    "confirm_email",
    "confirm_phone",
    "delete_user",
    "drop_other_identities",
    "end_email_change",
    "end_phone_change",
    "insert_email_identity",
    "insert_identity",
    "insert_phone_identity",
    "insert_user",
    "merge_metadata",
    "note_email_change",
    "note_email_change_half",
    "note_invitation",
    "note_phone_change",
    "set_ban",
    "set_email",
    "set_password",
    "set_phone",
    "set_role",
    "soft_delete_user",
    "sync_providers",
    "update_identity",
    "verify_email_identities",
]

# The text token columns are '' and never null: that is how hosted Auth reads them.
INSERT_USER: Final[LiteralString] = """
insert into auth.users (
  id, aud, role, email, phone, encrypted_password, raw_app_meta_data, raw_user_meta_data, is_anonymous,
  confirmation_token, recovery_token, email_change, email_change_token_new
) values (
  %(id)s, %(aud)s, '', %(email)s, %(phone)s, %(encrypted_password)s, %(app_metadata)s, %(user_metadata)s,
  %(is_anonymous)s, '', '', '', ''
)
"""

INSERT_IDENTITY: Final[LiteralString] = """
insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at)
values (%(provider_id)s, %(user_id)s, %(identity_data)s, %(provider)s, clock_timestamp())
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

CONFIRM_PHONE: Final[LiteralString] = """
update auth.users
set phone_confirmed_at = now(), confirmation_token = '', updated_at = now()
where id = %(id)s
"""

VERIFY_EMAIL_IDENTITIES: Final[LiteralString] = """
update auth.identities as i
set identity_data = i.identity_data || '{"email_verified": true}', updated_at = now()
from auth.users as u
where u.id = %(id)s and i.user_id = u.id and i.email = u.email
"""

SET_EMAIL: Final[LiteralString] = (
    "update auth.users set email = %(email)s, updated_at = now() where id = %(id)s"
)

SET_PHONE: Final[LiteralString] = (
    "update auth.users set phone = %(phone)s, updated_at = now() where id = %(id)s"
)

NOTE_EMAIL_CHANGE: Final[LiteralString] = """
update auth.users
set email_change = %(email)s, email_change_confirm_status = 0, updated_at = now()
where id = %(id)s
"""

NOTE_EMAIL_CHANGE_HALF: Final[LiteralString] = """
update auth.users set email_change_confirm_status = 1, updated_at = now() where id = %(id)s
"""

END_EMAIL_CHANGE: Final[LiteralString] = """
update auth.users
set
  email_change = '',
  email_change_token_current = '',
  email_change_token_new = '',
  email_change_confirm_status = 0,
  is_anonymous = false,
  updated_at = now()
where id = %(id)s
"""

NOTE_PHONE_CHANGE: Final[LiteralString] = (
    "update auth.users set phone_change = %(phone)s, updated_at = now() where id = %(id)s"
)

END_PHONE_CHANGE: Final[LiteralString] = """
update auth.users
set
  phone_change = '',
  phone_change_token = '',
  phone_confirmed_at = now(),
  is_anonymous = false,
  updated_at = now()
where id = %(id)s
"""

NOTE_INVITATION: Final[LiteralString] = (
    "update auth.users set invited_at = now(), updated_at = now() where id = %(id)s"
)

# Oldest first; `provider` is how the user came.
SYNC_PROVIDERS: Final[LiteralString] = """
update auth.users
set
  raw_app_meta_data = coalesce(raw_app_meta_data, '{}') || jsonb_build_object(
    'provider', p.names -> 0,
    'providers', p.names
  ),
  updated_at = now()
from (
  select jsonb_agg(provider order by first_at, provider) as names
  from (
    select provider, min(created_at) as first_at
    from auth.identities
    where user_id = %(id)s
    group by provider
  ) as own
) as p
where id = %(id)s and p.names is not null
"""

UPDATE_EMAIL_IDENTITY: Final[LiteralString] = """
update auth.identities
set
  identity_data = identity_data
    || jsonb_build_object('email', %(email)s::text, 'email_verified', %(is_verified)s::boolean),
  updated_at = now()
where user_id = %(id)s and provider = 'email'
"""

UPDATE_IDENTITY: Final[LiteralString] = """
update auth.identities
set identity_data = %(identity_data)s, last_sign_in_at = clock_timestamp(), updated_at = clock_timestamp()
where provider = %(provider)s and provider_id = %(provider_id)s
"""

DELETE_OTHER_IDENTITIES: Final[LiteralString] = (
    "delete from auth.identities where user_id = %(id)s and provider <> %(provider)s"
)

CLEAR_HASH: Final[LiteralString] = (
    "update auth.users set encrypted_password = null, updated_at = now() where id = %(id)s"
)

UPDATE_PHONE_IDENTITY: Final[LiteralString] = """
update auth.identities
set
  identity_data = identity_data || jsonb_build_object('phone', %(phone)s::text, 'phone_verified', true),
  updated_at = now()
where user_id = %(id)s and provider = 'phone'
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

CLEAR_RECOVERY: Final[LiteralString] = (
    "update auth.users set recovery_token = '', updated_at = now() where id = %(id)s"
)

CLEAR_REAUTHENTICATION: Final[LiteralString] = (
    "update auth.users set reauthentication_token = '', updated_at = now() where id = %(id)s"
)

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

DELETE_FACTORS: Final[LiteralString] = "delete from auth.mfa_factors where user_id = %(id)s"

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
    email: str = "",
    phone: str = "",
    encrypted_password: str | None,
    user_metadata: dict[str, Any],
    identity_extra: dict[str, Any] | None = None,
    identity: tuple[str, str, dict[str, Any]] | None = None,
) -> None:
    """A user with an identity: by e-mail, or by phone; with neither an anonymous one, without identity.

    With ``identity`` (provider, the provider's id, data) it is another provider's, which told the address.

    In hosted Auth's steps, which triggers can tell apart: the insert knows the provider and the user's own
    metadata; role, confirmation and what an admin puts in ``app_metadata`` come as updates.
    """
    provider = identity[0] if identity else "email" if email else "phone" if phone else None
    app_metadata = {} if provider is None else {"provider": provider, "providers": [provider]}
    await connection.execute(
        INSERT_USER,
        {
            "id": user_id,
            "aud": aud,
            "email": email or None,
            "phone": phone or None,
            "encrypted_password": encrypted_password,
            "app_metadata": Jsonb(app_metadata),
            "user_metadata": Jsonb(user_metadata),
            "is_anonymous": provider is None,
        },
    )
    if identity is not None:
        name, provider_id, identity_data = identity
        await insert_identity(
            connection, user_id, provider=name, provider_id=provider_id, identity_data=identity_data
        )
    elif email:
        await insert_email_identity(connection, user_id, email=email, extra=identity_extra)
    elif phone:
        await insert_phone_identity(connection, user_id, phone=phone, extra=identity_extra)
    await set_role(connection, user_id, role)


async def insert_identity(
    connection: AsyncConnection,
    user_id: uuid.UUID,
    *,
    provider: str,
    provider_id: str,
    identity_data: dict[str, Any],
) -> None:
    """One more way in which the user signs in."""
    await connection.execute(
        INSERT_IDENTITY,
        {
            "provider_id": provider_id,
            "user_id": user_id,
            "identity_data": Jsonb(identity_data),
            "provider": provider,
        },
    )


async def update_identity(
    connection: AsyncConnection, *, provider: str, provider_id: str, identity_data: dict[str, Any]
) -> None:
    """What a provider says about its person today."""
    await connection.execute(
        UPDATE_IDENTITY,
        {"provider": provider, "provider_id": provider_id, "identity_data": Jsonb(identity_data)},
    )


async def drop_other_identities(connection: AsyncConnection, user_id: uuid.UUID, *, provider: str) -> None:
    """Only that provider's identities stay; the password goes, for nobody has proved the address with it."""
    await connection.execute(DELETE_OTHER_IDENTITIES, {"id": user_id, "provider": provider})
    await connection.execute(CLEAR_HASH, {"id": user_id})


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
    await insert_identity(
        connection, user_id, provider="email", provider_id=str(user_id), identity_data=identity_data
    )


async def insert_phone_identity(
    connection: AsyncConnection,
    user_id: uuid.UUID,
    *,
    phone: str,
    is_verified: bool = False,
    extra: dict[str, Any] | None = None,
) -> None:
    """The identity of somebody who signs in with a phone number."""
    identity_data = {
        **(extra or {}),
        "sub": str(user_id),
        "phone": phone,
        "email_verified": False,
        "phone_verified": is_verified,
    }
    await insert_identity(
        connection, user_id, provider="phone", provider_id=str(user_id), identity_data=identity_data
    )


async def confirm_email(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """From now on the address is known to be the user's; every code under way becomes worthless."""
    await connection.execute(CONFIRM_EMAIL, {"id": user_id})
    await connection.execute(CLEAR_ONE_TIME_TOKENS, {"id": user_id})


async def verify_email_identities(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """Note it in the identities with the user's address, too."""
    await connection.execute(VERIFY_EMAIL_IDENTITIES, {"id": user_id})


async def confirm_phone(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """From now on the number is known to be the user's; every code under way becomes worthless."""
    await connection.execute(CONFIRM_PHONE, {"id": user_id})
    await connection.execute(CLEAR_ONE_TIME_TOKENS, {"id": user_id})


async def clear_recovery(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """A recovery code was used; every other one under way becomes worthless, too."""
    await connection.execute(CLEAR_RECOVERY, {"id": user_id})
    await connection.execute(CLEAR_ONE_TIME_TOKENS, {"id": user_id})


async def clear_reauthentication(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """A nonce was used; every code under way becomes worthless."""
    await connection.execute(CLEAR_REAUTHENTICATION, {"id": user_id})
    await connection.execute(CLEAR_ONE_TIME_TOKENS, {"id": user_id})


async def note_email_change(connection: AsyncConnection, user_id: uuid.UUID, email: str) -> None:
    """The address that the user wants; nobody has confirmed it yet."""
    await connection.execute(NOTE_EMAIL_CHANGE, {"id": user_id, "email": email})


async def note_email_change_half(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """One of the two addresses has confirmed."""
    await connection.execute(NOTE_EMAIL_CHANGE_HALF, {"id": user_id})


async def end_email_change(connection: AsyncConnection, user_id: uuid.UUID, email: str) -> None:
    """The address that the user wanted is theirs; an anonymous user is one no more."""
    await set_email(connection, user_id, email, is_verified=True)
    await connection.execute(END_EMAIL_CHANGE, {"id": user_id})
    await connection.execute(CLEAR_ONE_TIME_TOKENS, {"id": user_id})


async def note_phone_change(connection: AsyncConnection, user_id: uuid.UUID, phone: str) -> None:
    """The number that the user wants; nobody has confirmed it yet."""
    await connection.execute(NOTE_PHONE_CHANGE, {"id": user_id, "phone": phone})


async def end_phone_change(connection: AsyncConnection, user_id: uuid.UUID, phone: str) -> None:
    """The number that the user wanted is theirs; an anonymous user is one no more."""
    await set_phone(connection, user_id, phone)
    await connection.execute(END_PHONE_CHANGE, {"id": user_id})
    await connection.execute(CLEAR_ONE_TIME_TOKENS, {"id": user_id})


async def note_invitation(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """When the user was invited last."""
    await connection.execute(NOTE_INVITATION, {"id": user_id})


async def sync_providers(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """Say in ``app_metadata`` which providers the user has identities of."""
    await connection.execute(SYNC_PROVIDERS, {"id": user_id})


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


async def set_phone(connection: AsyncConnection, user_id: uuid.UUID, phone: str) -> None:
    """Another number, in the user and in the phone identity, which is made if there is none."""
    changed = await connection.execute(UPDATE_PHONE_IDENTITY, {"id": user_id, "phone": phone})
    if changed.rowcount == 0:
        await insert_phone_identity(connection, user_id, phone=phone, is_verified=True)
    await connection.execute(SET_PHONE, {"id": user_id, "phone": phone})


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
        await connection.execute(DELETE_FACTORS, {"id": user_id})
        await connection.execute(CLEAR_ONE_TIME_TOKENS, {"id": user_id})
