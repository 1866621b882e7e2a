"""``public.custom_access_token_hook(jsonb)``: asked before each access token is signed.

Promises:
    It runs as supabase_auth_admin, in the transaction that issues the token, with a time limit.
    A function that this role may not execute counts as switched off.

Never:
    No word of the hook's input or output in a log.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from typing import TYPE_CHECKING, Any, Final, LiteralString, cast

import psycopg
from psycopg.rows import scalar_row
from psycopg.types.json import Jsonb

from jamestronic_sdk.local.auth.errors import AuthApiProblem, Problem
from jamestronic_sdk.local.auth.users import timestamp

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["apply_hook"]

_LOG: Final = logging.getLogger("jamestronic_sdk.local.auth")

URI: Final = "pg-functions://postgres/public/custom_access_token_hook"

# From the catalogue, not by to_regprocedure(): that raises when the role may not look into the schema.
IS_ON: Final[LiteralString] = """
select exists (
  select
  from pg_catalog.pg_proc as p
  join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
  where n.nspname = 'public'
    and p.proname = 'custom_access_token_hook'
    and p.pronargs = 1
    and p.proargtypes[0] = 'pg_catalog.jsonb'::pg_catalog.regtype
    and pg_catalog.has_schema_privilege(n.oid, 'usage')
    and pg_catalog.has_function_privilege(p.oid, 'execute')
)
"""

SET_TIMEOUT: Final[LiteralString] = "select set_config('statement_timeout', %(milliseconds)s::text, true)"
RESET_TIMEOUT: Final[LiteralString] = "set local statement_timeout to default"
CALL: Final[LiteralString] = "select to_jsonb(public.custom_access_token_hook(%(event)s))"

# Hosted Auth's schema of the least that a token must say.
_REQUIRED: Final = (
    "aud",
    "exp",
    "iat",
    "sub",
    "email",
    "phone",
    "role",
    "aal",
    "session_id",
    "is_anonymous",
)
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "aud": (str, list),
    "exp": (int,),
    "iat": (int,),
    "nbf": (int,),
    "jti": (str,),
    "iss": (str,),
    "sub": (str,),
    "email": (str,),
    "phone": (str,),
    "role": (str,),
    "aal": (str,),
    "session_id": (str,),
    "client_id": (str,),
    "app_metadata": (dict,),
    "user_metadata": (dict,),
    "amr": (list,),
}


async def apply_hook(
    connection: AsyncConnection,
    claims: dict[str, Any],
    *,
    user_id: uuid.UUID,
    method: str,
    ip: str | None,
    timeout: float,  # noqa: ASYNC109 - the database counts it, asyncio.timeout could not stop the function
) -> dict[str, Any]:
    """The claims to sign: the hook's, or the given ones when there is no hook.

    Args:
        connection: Of the transaction that issues the token.
        claims: What the server would sign.
        user_id: Whose token it is.
        method: How the user got here, for example ``password`` or ``token_refresh``.
        ip: The client's address, if known.
        timeout: Seconds that the function may run.

    Raises:
        AuthApiProblem: The hook refused (its status and text), failed, or its claims are no token (500).
    """
    if not await _ask(connection, IS_ON):
        return claims
    event = {
        "metadata": {
            "uuid": str(uuid.uuid4()),
            "time": timestamp(dt.datetime.now(dt.UTC)),
            "name": "custom-access-token",
            "ip_address": ip or "",
        },
        "user_id": str(user_id),
        "claims": claims,
        "authentication_method": method,
    }
    try:
        await connection.execute(SET_TIMEOUT, {"milliseconds": int(timeout * 1000)})
        output = await _ask(connection, CALL, {"event": Jsonb(event)})
        await connection.execute(RESET_TIMEOUT)
    except psycopg.Error as error:
        # The error's own text may hold whatever the function knows.
        _LOG.error("custom access token hook failed with SQLSTATE %s", error.sqlstate)
        raise Problem.UNEXPECTED_FAILURE.error(f"Error running hook URI: {URI}") from None
    return _checked(output)


async def _ask(
    connection: AsyncConnection, query: LiteralString, parameters: dict[str, Any] | None = None
) -> object:
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(query, parameters)
        return await cursor.fetchone()


def _checked(output: object) -> dict[str, Any]:
    members = cast("dict[str, Any]", output) if isinstance(output, dict) else {}
    _raise_refusal(members.get("error"))
    if "claims" not in members:
        raise Problem.UNEXPECTED_FAILURE.error("output claims field is missing")
    claims: Any = members["claims"]
    if not isinstance(claims, dict):
        raise Problem.UNEXPECTED_FAILURE.error("output claims do not conform to the expected schema")
    result = cast("dict[str, Any]", claims)
    faults = [f"{name} is required" for name in _REQUIRED if name not in result]
    for name, types in _TYPES.items():
        if name not in result:
            continue
        value = result[name]
        if types == (int,) and isinstance(value, float) and value.is_integer():
            # jsonb keeps 1790000000.0 as it is; a token's times are integers.
            result[name] = value = int(value)
        if not isinstance(value, types) or isinstance(value, bool):
            faults.append(f"{name} has the wrong type")
    if faults:
        raise Problem.UNEXPECTED_FAILURE.error(
            "output claims do not conform to the expected schema: " + ", ".join(faults)
        )
    return result


def _raise_refusal(error: object) -> None:
    if not isinstance(error, dict):
        return
    members = cast("dict[str, Any]", error)
    message, status = members.get("message"), members.get("http_code")
    if not isinstance(message, str) or not message:
        return
    if not isinstance(status, int) or not 400 <= status <= 599:
        status = 500
    raise AuthApiProblem(status, None, message)
