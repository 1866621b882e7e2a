"""PKCE: flows that begin with a code challenge, and end with their code exchanged for a session.

Promises:
    A code is exchanged once, by who knows the verifier, within the flow's lifetime.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, LiteralString

from aiohttp import web
from psycopg.rows import class_row

from jamestronic_sdk.local.auth.errors import Problem
from jamestronic_sdk.local.auth.requests import origin, read_body
from jamestronic_sdk.local.auth.users import find_user_by_id

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = ["METHODS", "Challenge", "Flow", "begin_flow", "exchange", "issue_code", "make_challenge"]

_CHALLENGE: Final = re.compile(r"[a-zA-Z0-9._~-]+", re.ASCII)
_SHORTEST, _LONGEST = 43, 128  # RFC 7636, 4.2

METHODS: Final = {
    "signup": "email/signup",
    "invite": "invite",
    "magiclink": "magiclink",
    "recovery": "recovery",
    "email_change": "email_change",
}
"""The ``amr`` method of a flow that ends with a mailed link, by the link's type."""

# A flow that nobody finished is of no use to anybody after a day.
REMOVE_OLD: Final[LiteralString] = (
    "delete from auth.flow_state where created_at < clock_timestamp() - interval '1 day'"
)

INSERT: Final[LiteralString] = """
insert into auth.flow_state (
  id, user_id, auth_code, code_challenge_method, code_challenge, provider_type, provider_access_token,
  provider_refresh_token, created_at, updated_at, authentication_method, referrer
) values (
  %(id)s, %(user_id)s, %(auth_code)s, %(method)s, %(challenge)s, %(provider)s, '', '',
  clock_timestamp(), clock_timestamp(), %(authentication_method)s, %(referrer)s
)
"""

ISSUE: Final[LiteralString] = """
update auth.flow_state
set auth_code_issued_at = clock_timestamp(), updated_at = clock_timestamp()
where id = (
  select id from auth.flow_state
  where user_id = %(user_id)s and authentication_method = %(method)s and code_challenge <> ''
  order by created_at desc
  limit 1
)
returning auth_code
"""

LOCK: Final[LiteralString] = """
select
  id,
  user_id,
  code_challenge as challenge,
  code_challenge_method::text as method,
  authentication_method,
  coalesce(provider_access_token, '') as provider_token,
  coalesce(provider_refresh_token, '') as provider_refresh_token,
  clock_timestamp() > make_interval(secs => %(lifetime)s)
    + case when authentication_method = 'magiclink' then coalesce(auth_code_issued_at, created_at)
      else created_at end as is_expired
from auth.flow_state
where auth_code = %(auth_code)s
for update
"""

DELETE: Final[LiteralString] = "delete from auth.flow_state where id = %(id)s"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a client sends at the beginning of a flow."""

    text: str = field(repr=False)
    method: str
    """``s256`` or ``plain``."""

    def accepts(self, verifier: str) -> bool:
        """Whether that is the verifier which the challenge was made of."""
        given = verifier.encode(errors="replace")
        if self.method == "s256":
            given = base64.urlsafe_b64encode(hashlib.sha256(given).digest()).rstrip(b"=")
        return hmac.compare_digest(self.text.encode(), given)


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow that was begun."""

    id: uuid.UUID
    auth_code: str | None = field(repr=False)
    """What the client exchanges in the end; None without a challenge."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    id: uuid.UUID
    user_id: uuid.UUID | None
    challenge: str | None
    method: str | None
    authentication_method: str
    provider_token: str
    provider_refresh_token: str
    is_expired: bool


def make_challenge(text: str, method: str) -> Challenge | None:
    """The challenge of a request; None when it has none.

    Raises:
        AuthApiProblem: ``validation_failed``.
    """
    if bool(text) != bool(method):
        raise Problem.VALIDATION_FAILED.error("PKCE flow requires code_challenge_method and code_challenge")
    if not text:
        return None
    if not _SHORTEST <= len(text) <= _LONGEST:
        raise Problem.VALIDATION_FAILED.error(
            f"code challenge has to be between {_SHORTEST} and {_LONGEST} characters"
        )
    if _CHALLENGE.fullmatch(text) is None:
        raise Problem.VALIDATION_FAILED.error(
            "code challenge can only contain alphanumeric characters, hyphens, periods, underscores and "
            "tildes"
        )
    if method.lower() not in {"s256", "plain"}:
        raise Problem.VALIDATION_FAILED.error("Invalid code_challenge_method")
    return Challenge(text, method.lower())


async def begin_flow(
    connection: AsyncConnection,
    *,
    provider: str,
    method: str,
    challenge: Challenge | None,
    user_id: uuid.UUID | None = None,
    referrer: str | None = None,
) -> Flow:
    """Note a flow.

    Args:
        connection: Leaves the transaction to its caller.
        provider: The provider's name, or what a mailed link is for.
        method: As the ``amr`` claim will name it.
        challenge: None begins an implicit flow, with a provider only.
        user_id: None when the provider will tell.
        referrer: Where the provider's answer leads in the end.
    """
    flow = Flow(uuid.uuid4(), None if challenge is None else str(uuid.uuid4()))
    await connection.execute(REMOVE_OLD)
    await connection.execute(
        INSERT,
        {
            "id": flow.id,
            "user_id": user_id,
            "auth_code": flow.auth_code,
            "method": None if challenge is None else challenge.method,
            "challenge": None if challenge is None else challenge.text,
            "provider": provider,
            "authentication_method": method,
            "referrer": referrer,
        },
    )
    return flow


async def issue_code(connection: AsyncConnection, user_id: uuid.UUID, *, method: str) -> str:
    """The code of the user's newest flow of that kind, to be given to the client.

    Raises:
        AuthApiProblem: ``flow_state_not_found``.
    """
    cursor = await connection.execute(ISSUE, {"user_id": user_id, "method": method})
    row = await cursor.fetchone()
    if row is None:
        raise Problem.FLOW_STATE_OF_LINK_NOT_FOUND.error()
    return str(row[0])


async def exchange(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /token?grant_type=pkce``."""
    body = await read_body(request, limit=server.settings.body_limit)
    auth_code, verifier = body.text("auth_code"), body.text("code_verifier")
    if not auth_code or not verifier:
        raise Problem.VALIDATION_FAILED.error(
            "invalid request: both auth code and code verifier should be non-empty"
        )
    async with server.pool.connection() as connection:
        async with connection.cursor(row_factory=class_row(_Waiting)) as cursor:
            await cursor.execute(LOCK, {"auth_code": auth_code, "lifetime": server.settings.flow_lifetime})
            flow = await cursor.fetchone()
        if flow is None or flow.user_id is None or not flow.challenge or not flow.method:
            raise Problem.FLOW_STATE_NOT_FOUND.error()
        if flow.is_expired:
            raise Problem.FLOW_STATE_EXPIRED.error()
        user = await find_user_by_id(connection, flow.user_id)
        if user is None:
            raise Problem.FLOW_STATE_NOT_FOUND.error()
        if not Challenge(flow.challenge, flow.method).accepts(verifier):
            raise Problem.BAD_CODE_VERIFIER.error()
        if user.is_banned:
            raise Problem.BANNED_WITH_TOKEN.error()
        response = await server.open_session(
            connection, user.id, method=flow.authentication_method, origin=origin(request)
        )
        await connection.execute(DELETE, {"id": flow.id})
    for name, value in (
        ("provider_token", flow.provider_token),
        ("provider_refresh_token", flow.provider_refresh_token),
    ):
        if value:
            response[name] = value
    return web.json_response(response)
