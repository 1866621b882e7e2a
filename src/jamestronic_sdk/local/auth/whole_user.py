"""The user in JSON, with everything that belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jamestronic_sdk.local.auth.factors import factor_json, factors_of
from jamestronic_sdk.local.auth.users import User, identities_of, user_json

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["whole_user"]


async def whole_user(connection: AsyncConnection, user: User) -> dict[str, Any]:
    """The user with identities and, if there are any, factors."""
    body = user_json(user, await identities_of(connection, user.id))
    factors = await factors_of(connection, user.id)
    if factors:
        body["factors"] = [factor_json(factor) for factor in factors]
    return body
