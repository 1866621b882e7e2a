"""The audit trail, ``auth.audit_log_entries``: who did what, in the words of hosted Auth.

Promises:
    An entry is of the transaction that did it: what was rolled back is not in the trail.

Never:
    A password, a code or a token in an entry.
"""

from __future__ import annotations

import json
import re
import uuid
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, LiteralString

from aiohttp import web

from jamestronic_sdk.local.auth.callers import require_admin
from jamestronic_sdk.local.auth.errors import Problem
from jamestronic_sdk.local.auth.requests import page_number

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.grants import AuthServer
    from jamestronic_sdk.local.auth.requests import Origin
    from jamestronic_sdk.local.auth.users import User

__all__ = ["Action", "list_entries", "record", "record_of_admin"]

_PAGE_SIZE: Final = 50
_ADMIN_ID: Final = str(uuid.UUID(int=0))
_ADMIN_NAME: Final = "service_role"


class Action(Enum):
    """What was done, and ``log_type``: the kind of thing that it was done to."""

    LOGIN = "login", "account"
    LOGOUT = "logout", "account"
    SIGNED_UP = "user_signedup", "team"
    INVITED = "user_invited", "team"
    DELETED = "user_deleted", "team"
    MODIFIED = "user_modified", "user"
    PASSWORD_UPDATED = "user_updated_password", "user"
    RECOVERY_REQUESTED = "user_recovery_requested", "user"
    REAUTHENTICATION_REQUESTED = "user_reauthenticate_requested", "user"
    CONFIRMATION_REQUESTED = "user_confirmation_requested", "user"
    TOKEN_REFRESHED = "token_refreshed", "token"
    FACTOR_ENROLLED = "factor_in_progress", "factor"
    FACTOR_UNENROLLED = "factor_unenrolled", "factor"
    CHALLENGE_CREATED = "challenge_created", "factor"
    VERIFICATION_ATTEMPTED = "verification_attempted", "factor"

    def __init__(self, text: str, log_type: str) -> None:
        self.text = text
        self.log_type = log_type


_INSERT: Final[LiteralString] = """
insert into auth.audit_log_entries (instance_id, id, payload, created_at, ip_address)
values ('00000000-0000-0000-0000-000000000000', gen_random_uuid(), %s, clock_timestamp(), %s)
"""


async def record(
    connection: AsyncConnection, action: Action, actor: User, origin: Origin, **traits: object
) -> None:
    """Somebody did that, themselves."""
    name = actor.user_metadata.get("full_name")
    payload = {
        "actor_id": str(actor.id),
        "actor_username": actor.email or actor.phone,
        "actor_via_sso": False,
        **({"actor_name": name} if isinstance(name, str) else {}),
    }
    await _insert(connection, action, payload, origin, traits)


async def record_of_admin(
    connection: AsyncConnection, action: Action, user: User, origin: Origin, **traits: object
) -> None:
    """An admin did that, to a user."""
    payload = {"actor_id": _ADMIN_ID, "actor_username": _ADMIN_NAME, "actor_via_sso": False}
    about = {"user_id": str(user.id), "user_email": user.email, "user_phone": user.phone}
    await _insert(connection, action, payload, origin, about | traits)


async def _insert(
    connection: AsyncConnection,
    action: Action,
    payload: dict[str, Any],
    origin: Origin,
    traits: dict[str, Any],
) -> None:
    payload |= {"action": action.text, "log_type": action.log_type}
    if traits:
        payload["traits"] = traits
    await connection.execute(_INSERT, (json.dumps(payload), origin.ip or ""))


_MEMBERS: Final = {
    "author": ["actor_username", "actor_name"],
    "action": ["action"],
    "type": ["log_type"],
}
"""What can be asked for, and where it stands in an entry."""

_QUERY: Final = re.compile(r"(author|action|type)((?:,(?:author|action|type))*):(.*)", re.DOTALL)

_SELECT: Final[LiteralString] = """
select id, payload, created_at, ip_address, count(*) over () as total
  from auth.audit_log_entries
 where %(text)s = ''
    or exists (select from unnest(%(members)s::text[]) as member
                where position(lower(%(text)s) in lower(payload ->> member)) > 0)
 order by created_at desc, id
 limit %(limit)s offset %(offset)s
"""


async def list_entries(request: web.Request, server: AuthServer) -> web.Response:
    """``GET /admin/audit?page=&per_page=&query=action:login``: the newest first."""
    await require_admin(request, server)
    page, size = page_number(request, "page", 1), page_number(request, "per_page", _PAGE_SIZE)
    members, text = _condition(request.query.get("query", ""))
    async with server.pool.connection() as connection:
        cursor = await connection.execute(
            _SELECT, {"members": members, "text": text, "limit": size, "offset": (page - 1) * size}
        )
        rows = await cursor.fetchall()
    entries = [
        {"id": str(entry_id), "payload": payload, "created_at": created_at.isoformat(), "ip_address": ip}
        for entry_id, payload, created_at, ip, _ in rows
    ]
    total = rows[0][4] if rows else 0
    return web.json_response(entries, headers={"X-Total-Count": str(total)})


def _condition(query: str) -> tuple[list[str], str]:
    """Which members of an entry must hold what text; an empty text is in all."""
    if not query:
        return [], ""
    match = _QUERY.fullmatch(query)
    if match is None or "\0" in query:
        raise Problem.VALIDATION_FAILED.error(
            "Invalid query format: author, action or type, then : and a text"
        )
    names = [match[1], *filter(None, match[2].split(","))]
    return [member for name in names for member in _MEMBERS[name]], match[3]
