"""Giving out sessions: new ones, refreshed ones, and the access token of both."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jamestronic_sdk.local.auth import sessions
from jamestronic_sdk.local.auth.audit import Action, record
from jamestronic_sdk.local.auth.errors import Problem
from jamestronic_sdk.local.auth.hook import apply_hook
from jamestronic_sdk.local.auth.users import User, find_user_by_id
from jamestronic_sdk.local.auth.whole_user import whole_user
from jamestronic_sdk.local.tokens import make_jwt

if TYPE_CHECKING:
    import uuid

    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.limits import Limits
    from jamestronic_sdk.local.auth.mailbox import Mailbox
    from jamestronic_sdk.local.auth.oauth import LocalProvider
    from jamestronic_sdk.local.auth.requests import Origin
    from jamestronic_sdk.local.auth.settings import AuthSettings
    from jamestronic_sdk.local.context import LocalContext
    from jamestronic_sdk.local.pools import Pool

__all__ = ["AuthServer"]

_CONTINUING: Final = frozenset({"token_refresh", "totp"})
"""Ways to another token of a session that is there already."""


@dataclass(frozen=True, slots=True)
class AuthServer:
    """What every handler works with, and the two ways to a session."""

    context: LocalContext
    settings: AuthSettings
    pool: Pool
    """Connections of supabase_auth_admin."""
    mailbox: Mailbox
    """What was sent."""
    provider: LocalProvider
    """The stand-in for other providers."""
    limits: Limits
    """How often somebody may ask."""

    async def open_session(
        self, connection: AsyncConnection, user_id: uuid.UUID, *, method: str, origin: Origin
    ) -> dict[str, Any]:
        """A new session's token response.

        Args:
            connection: The transaction that makes it.
            user_id: Who signed in.
            method: How, as the ``amr`` claim names it.
            origin: From where.

        Raises:
            AuthApiProblem: The hook refused; the caller's transaction must not be committed.
        """
        session_id, refresh_token = await sessions.create_session(
            connection, user_id, method=method, origin=origin
        )
        return await self._response(
            connection, user_id, session_id, refresh_token=refresh_token, method=method, origin=origin
        )

    async def upgraded_session(
        self, connection: AsyncConnection, user_id: uuid.UUID, session_id: uuid.UUID, *, origin: Origin
    ) -> dict[str, Any]:
        """The token response of a session that has just shown a second factor.

        Raises:
            AuthApiProblem: The hook refused; the caller's transaction must not be committed.
        """
        refresh_token = await sessions.replace_refresh_token(connection, user_id, session_id)
        return await self._response(
            connection, user_id, session_id, refresh_token=refresh_token, method="totp", origin=origin
        )

    async def refresh_session(self, refresh_token: str, origin: Origin) -> dict[str, Any]:
        """The token response for a refresh token, in one transaction.

        Raises:
            AuthApiProblem: The token, its session or its user is not good (any more), or the hook refused;
                in the latter case the token is still good.
        """
        async with self.pool.connection() as connection:
            session = await sessions.lock_session_of(connection, refresh_token, self.settings)
            user = await find_user_by_id(connection, session.user_id)
            if user is None:
                raise Problem.REFRESH_TOKEN_NOT_FOUND.error()
            if user.is_banned:
                raise Problem.BANNED_AT_REFRESH.error()
            if session.is_past_not_after or session.is_past_time_box:
                raise Problem.SESSION_EXPIRED.error()
            if session.is_inactive:
                raise Problem.SESSION_INACTIVE.error()
            issued = await sessions.rotate(connection, session, refresh_token, self.settings)
            if issued is not None:
                await sessions.touch_session(connection, session.id, origin)
                await record(connection, Action.TOKEN_REFRESHED, user, origin)
                return await self._response(
                    connection,
                    user.id,
                    session.id,
                    refresh_token=issued,
                    method="token_refresh",
                    origin=origin,
                )
        # Raised out here: the revocation of the session's tokens is committed.
        raise Problem.REFRESH_TOKEN_ALREADY_USED.error()

    async def _response(
        self,
        connection: AsyncConnection,
        user_id: uuid.UUID,
        session_id: uuid.UUID,
        *,
        refresh_token: str,
        method: str,
        origin: Origin,
    ) -> dict[str, Any]:
        user = await find_user_by_id(connection, user_id)
        if user is None:
            raise Problem.INVALID_CREDENTIALS.error()
        if method not in _CONTINUING:
            await record(connection, Action.LOGIN, user, origin, provider=user.app_metadata.get("provider"))
        amr = await sessions.amr_of(connection, session_id)
        issued_at = int(time.time())
        lifetime = self.settings.access_token_lifetime
        claims = await apply_hook(
            connection,
            self._claims(user, session_id, amr, issued_at=issued_at),
            user_id=user.id,
            method=method,
            ip=origin.ip,
            timeout=self.settings.hook_timeout,
        )
        return {
            "access_token": make_jwt(self.context.jwt_secret, claims, key=self.context.signing_key),
            "token_type": "bearer",
            "expires_in": lifetime,
            "expires_at": issued_at + lifetime,
            "refresh_token": refresh_token,
            "user": await whole_user(connection, user),
        }

    def _claims(
        self, user: User, session_id: uuid.UUID, amr: list[sessions.Amr], *, issued_at: int
    ) -> dict[str, Any]:
        return {
            "iss": f"{self.context.url}/auth/v1",
            "sub": str(user.id),
            "aud": user.aud,
            "exp": issued_at + self.settings.access_token_lifetime,
            "iat": issued_at,
            "email": user.email,
            "phone": user.phone,
            "app_metadata": user.app_metadata,
            "user_metadata": user.user_metadata,
            "role": user.role,
            "aal": "aal2" if any(entry.is_aal2 for entry in amr) else "aal1",
            "amr": [{"method": entry.method, "timestamp": entry.timestamp} for entry in amr],
            "session_id": str(session_id),
            "is_anonymous": user.is_anonymous,
        }
