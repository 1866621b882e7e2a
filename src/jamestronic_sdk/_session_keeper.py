"""The session, its renewal, and the person behind it: the half of ``auth.py`` that runs by itself.

Promises:
    A person is let in only with an active profile; else the session is revoked, and the error says why.
    The token is renewed before it expires, by one request at a time whatever the number of callers,
    and whoever asked is told the new one. A refused renewal ends in "signed out", with the reason.

Never:
    No token in a ``repr``, an error or a log. No session on disk unless asked for.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pydantic import TypeAdapter
from typing_extensions import override

from jamestronic_sdk._auth_changes import AuthChange, AuthChangeKind, AuthChanges
from jamestronic_sdk._backoff import backoff
from jamestronic_sdk._inputs import checked_callable
from jamestronic_sdk._session import Session
from jamestronic_sdk._telemetry import token_refreshed
from jamestronic_sdk.errors import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    DataError,
    InactiveProfileError,
    JamesTronicError,
    NoProfileError,
    NotSignedInError,
    Retry,
    SessionExpiredError,
)
from jamestronic_sdk.models import LAZY, Profile, Role

if TYPE_CHECKING:
    from uuid import UUID

    from supabase_auth import AsyncGoTrueClient
    from supabase_auth.types import Session as AuthSession

    from jamestronic_sdk._http import Core, Wire
    from jamestronic_sdk.retry import RetryPolicy
    from jamestronic_sdk.sessions import SessionStore

__all__ = ["Me", "SessionKeeper", "SignOutScope", "TokenCallback"]

_log: Final = logging.getLogger("jamestronic_sdk.auth")

SignOutScope: TypeAlias = Literal["local", "others", "global"]
"""``local``: this session; ``others``: all but this one; ``global``: every session of the person."""

TokenCallback: TypeAlias = Callable[[str | None], None]
"""Is told the new access token, or None when the person goes. Must not block; what it raises is logged."""

# What a caller of `access_token()` is promised; also PostgREST's and Realtime's tolerance for clocks.
_FRESH: Final = 30.0
# The watchdog renews earlier than any caller has to, so that calls find a fresh token.
AHEAD: Final = 60.0
# The undoing of a refused sign-in must not hang longer than a person waits.
_UNDO_TIMEOUT: Final = 5.0
# After suspend a timer of the loop is late by the time that was slept: look at the clock this often.
_LOOK_AGAIN: Final = 30.0

_PROFILES: Final[TypeAdapter[list[Profile]]] = TypeAdapter(list[Profile], config=LAZY)


@dataclass(frozen=True, slots=True)
class Me:
    """The person who is signed in, as loaded at sign-in (``Auth.reload_me`` loads anew)."""

    user_id: UUID
    """``auth.users.id``."""
    profile: Profile

    @property
    def profile_id(self) -> UUID:
        """``profiles.id``: what tickets refer to."""
        return self.profile.id

    @property
    def role(self) -> Role | str:
        """What the person may do; a string for a role that this version does not know."""
        return self.profile.role


class SessionKeeper:
    """Who is signed in, and a token that is always good; ``Auth`` adds the ways in and out."""

    def __init__(
        self, core: Core, timeout: float | None, policy: RetryPolicy, store: SessionStore | None
    ) -> None:
        from jamestronic_sdk._http import Wire  # noqa: PLC0415 - imports httpx

        self._core: Final = core
        self._wire: Final = Wire(core=core, tokens=self, timeout=timeout, policy=policy)
        self._store: Final = store
        self._lock: Final = asyncio.Lock()
        self._changed: Final = asyncio.Event()
        self._session: Session | None = None
        self._me: Me | None = None
        self._ended: JamesTronicError | None = None
        self._refresh_rounds = 0
        self._refresh_failure: JamesTronicError | None = None
        self._callbacks: dict[object, TokenCallback] = {}
        self._streams: dict[AuthChanges, None] = {}

    @override
    def __repr__(self) -> str:
        who = f"role={str(self._me.role)!r}" if self._me else "signed out"
        return f"<Auth {who}>"

    # -- who ---------------------------------------------------------------------------------------

    @property
    def is_signed_in(self) -> bool:
        """Whether a person is signed in; a program with a service key is nobody."""
        return self._me is not None

    @property
    def me(self) -> Me:
        """The person who is signed in.

        Raises:
            NotSignedInError: Nobody is.
            SessionExpiredError: Somebody was, until the server ended the session.
        """
        self._require_session("auth.me")
        assert self._me is not None  # noqa: S101 - set together with the session
        return self._me

    async def reload_me(self) -> Me:
        """Load profile and role anew, for example after an admin changed them.

        Raises:
            NoProfileError: The profile was deleted; the person stays signed in.
            InactiveProfileError: The profile was deactivated; the person stays signed in.
            JamesTronicError: The profile could not be loaded.
        """
        session = self._require_session("auth.reload_me")
        me = await self._load_me(self._wire, session.user_id, "auth.reload_me")
        if self._session is not None and self._session.user_id == session.user_id:
            self._me = me
            self._announce(AuthChange(AuthChangeKind.PROFILE_RELOADED, me))
        return me

    def changes(self) -> AuthChanges:
        """A stream of what happens to the session from now on; close it, or use ``async with``."""
        stream = AuthChanges(lambda one: self._streams.pop(one, None))
        self._streams[stream] = None
        return stream

    # -- tokens ------------------------------------------------------------------------------------

    async def access_token(self) -> str:
        """The access token, good for at least 30 s more (a third of its life if that is shorter).

        With a service key and nobody signed in it is the key. One renewal serves all who wait.

        Raises:
            NotSignedInError: Nobody is signed in.
            SessionExpiredError: The server ended the session; sign in again.
            TransportError: The token has expired and no answer came; the session is kept.
            ApiError: The token has expired and Auth failed; the session is kept.
        """
        self._core.require_open()
        if self._session is None and self._ended is None and self._core.settings.is_service:
            return self._core.settings.key.get_secret_value()
        session = self._require_session("auth.access_token")
        if session.remaining(self._core.clock) >= session.margin(_FRESH):
            return session.access_token
        return await self._renewed(session, "auth.refresh")

    async def bearer(self) -> str:
        """The token that a request carries; the same as ``access_token``."""
        return await self.access_token()

    async def renew(self, stale: str) -> str:
        """Another token than ``stale``, which a server called expired.

        Raises:
            SessionExpiredError: There is none: the session ended, or the caller is a service key.
        """
        if self._session is None and self._core.settings.is_service:
            raise SessionExpiredError("The service key has expired.", next_step="Get a new one.")
        session = self._require_session("auth.refresh")
        if session.access_token != stale:
            return session.access_token
        return await self._renewed(session, "auth.refresh", refused=True)

    @asynccontextmanager
    async def in_own_name(self, operation: str) -> AsyncGenerator[tuple[Session, Wire]]:
        """The session, its token fresh, while nobody else may change it: for parts like ``Factors``."""
        self._core.require_open()
        async with self._alone(operation):
            yield await self._held(operation), self._wire

    async def replace_while_locked(self, session: Session, kind: AuthChangeKind) -> Me:
        """Go on with another session of the same person; inside ``in_own_name`` only."""
        self._adopt(session, kind)
        await self._keep(session)
        return self.me

    def on_token(self, callback: TokenCallback) -> Callable[[], None]:
        """Be told each new access token, and None when the person goes; answers the function that ends it.

        They go at sign-out, and when somebody else signs in, whose token follows.

        The callback runs on the event loop at once and must not block; what it raises is logged and
        ends nothing.
        """
        key = object()
        self._callbacks[key] = checked_callable(callback, "callback")

        def unsubscribe() -> None:
            self._callbacks.pop(key, None)

        return unsubscribe

    async def keep_fresh(self) -> None:
        """The watchdog: renews the token ahead of its end, for as long as the client is open."""
        clock = self._core.clock
        waits = backoff(base=1.0, cap=_LOOK_AGAIN, rng=self._core.rng)
        while True:
            self._changed.clear()
            session = self._session
            if session is None:
                await clock.wait(self._changed, None)
                continue
            due = session.remaining(clock) - session.margin(AHEAD)
            if due > 0:
                await clock.wait(self._changed, min(due, _LOOK_AGAIN))
                continue
            try:
                await self._renewed(session, "auth.refresh")
            except JamesTronicError as error:
                _log.debug("the watchdog could not renew the session: %s", type(error).__name__)
            if self._session is session:
                # It failed, and the refresh has said so. The floor keeps jitter from hammering.
                await clock.wait(self._changed, max(0.5, next(waits)))
            else:
                waits = backoff(base=1.0, cap=_LOOK_AGAIN, rng=self._core.rng)

    # -- inside ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _alone(self, operation: str) -> AsyncGenerator[None]:
        """While nobody else may change the session; its requests are one operation."""
        with self._wire.operation(operation):
            async with self._lock:
                yield

    def _require_session(self, operation: str) -> Session:
        if self._session is not None:
            return self._session
        if self._ended is not None:
            raise copy.copy(self._ended)
        raise NotSignedInError(
            f"{operation}: nobody is signed in.", next_step="Call `await jt.auth.sign_in(...)` first."
        )

    async def _enter(self, answer: AuthSession, door: AsyncGoTrueClient, operation: str) -> Me:
        """Make a new session the current one, if its person has an active profile. Lock is held."""
        session = Session.of(answer, door, self._core.clock)
        try:
            me = await self._welcome(session, operation)
        except JamesTronicError:
            await self._undo(session)
            raise
        await self._keep(session)
        return me

    async def _welcome(self, session: Session, operation: str) -> Me:
        """Look who it is, and let them in; nothing has changed when it raises. Lock is held."""
        from jamestronic_sdk._http import FixedToken  # noqa: PLC0415 - imports httpx

        wire = self._wire.with_tokens(FixedToken(session.access_token))
        me = await self._load_me(wire, session.user_id, operation)
        if self._me is not None and self._me.user_id != me.user_id:
            self._tell(None)  # who was told of the one before must not take the next one for them
        self._me = me
        self._ended = None
        self._adopt(session, AuthChangeKind.SIGNED_IN)
        _log.info("signed in", extra={"role": str(me.role)})
        return me

    async def _load_me(self, wire: Wire, user_id: UUID, operation: str) -> Me:
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        response = await wire.send(
            lambda raw: raw.table("profiles").select("*").eq("user_id", str(user_id)).limit(1),
            operation=operation,
            target="profiles",
            replayable=True,
        )
        rows = parse(_PROFILES, response, operation)
        if not rows:
            raise NoProfileError(
                f"{operation}: this account has no profile.", next_step="Ask an admin to create one."
            )
        if not rows[0].is_active:
            raise InactiveProfileError(
                f"{operation}: this profile is deactivated.", next_step="Ask an admin to activate it."
            )
        return Me(user_id=user_id, profile=rows[0])

    async def _undo(self, session: Session) -> None:
        """Revoke a session that was never used; a failure leaves it to its expiry."""
        try:
            async with asyncio.timeout(_UNDO_TIMEOUT):
                await self._revoke(session, "local")
        except (JamesTronicError, TimeoutError) as error:
            _log.info("a refused sign-in could not be revoked: %s", type(error).__name__)

    async def _revoke(self, session: Session, scope: SignOutScope) -> None:
        try:
            await self._wire.ask_auth(
                lambda: session.door.admin.sign_out(session.access_token, scope),
                operation="auth.sign_out",
                replayable=True,
            )
        except (AuthenticationError, ApiError) as error:
            if getattr(error, "status", None) not in {401, 403, 404}:
                raise
            # The session is gone already, which is what was asked for.

    def _adopt(self, session: Session, kind: AuthChangeKind) -> None:
        self._session = session
        self._core.authorize_raw(session.access_token)
        self._tell(session.access_token)
        self._announce(AuthChange(kind, self._me))

    async def _held(self, operation: str) -> Session:
        """The session, its token fresh, for a request in the person's own name. Lock is held."""
        session = self._require_session(operation)
        if session.remaining(self._core.clock) < session.margin(_FRESH):
            await self._refresh_while_locked(session, operation)
        return self._require_session(operation)

    def _announce(self, change: AuthChange) -> None:
        for stream in tuple(self._streams):
            stream.put_nowait(change)

    async def _keep(self, session: Session) -> None:
        """Store the session; a failure costs the next start its sign-in, not this one its work."""
        if self._store is None:
            return
        try:
            await self._store.save(session.to_text(self._core.settings.url))
        except Exception:  # noqa: BLE001 - a store is a guest; logged with its traceback
            _log.exception("the session could not be stored")

    async def _stored(self) -> str | None:
        if self._store is None:
            return None
        try:
            return await self._store.load()
        except ConfigurationError:
            raise
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"The session_store can't be read ({type(error).__name__}).",
                next_step="Repair or clear it, then sign in.",
            ) from error

    async def _forget_stored(self) -> None:
        if self._store is None:
            return
        try:
            await self._store.clear()
        except Exception:  # noqa: BLE001 - a store is a guest; logged with its traceback
            _log.exception("the stored session could not be removed")

    def _leave(self, reason: JamesTronicError | None) -> None:
        was_signed_in = self._session is not None
        self._session = None
        self._me = None
        self._ended = reason
        self._core.authorize_raw(None)
        if was_signed_in:
            self._tell(None)
            self._announce(AuthChange(AuthChangeKind.SIGNED_OUT, None, reason))

    def _tell(self, token: str | None) -> None:
        self._changed.set()
        for callback in tuple(self._callbacks.values()):
            try:
                callback(token)
            except Exception:  # noqa: BLE001 - a guest's fault ends nothing here; logged with its traceback
                _log.exception("a token callback failed: %s", getattr(callback, "__qualname__", "callback"))

    async def _renewed(self, seen: Session, operation: str, *, refused: bool = False) -> str:
        """A newer token than that of ``seen``; one request serves everybody who waits for the lock.

        A caller that is cancelled in the middle of the request loses nothing: Auth answers the next one
        who presents the same refresh token with the session's active token.
        """
        rounds = self._refresh_rounds
        async with self._lock:
            session = self._require_session(operation)
            if session is not seen:
                return session.access_token
            if self._refresh_rounds != rounds and self._refresh_failure is not None:
                # Somebody tried while we waited, and failed: one try speaks for all.
                return self._fallback(session, copy.copy(self._refresh_failure), refused=refused)
            failed_before = self._refresh_failure is not None
            try:
                await self._refresh_while_locked(session, operation)
            except JamesTronicError as error:
                self._refresh_rounds += 1
                self._refresh_failure = error
                if self._session is session:
                    _log.log(
                        logging.DEBUG if failed_before else logging.WARNING,
                        "the session could not be renewed, it will be tried again: %s",
                        type(error).__name__,
                    )
                return self._fallback(session, error, refused=refused)
            self._refresh_rounds += 1
            self._refresh_failure = None
            return self._require_session(operation).access_token

    def _fallback(self, session: Session, error: JamesTronicError, *, refused: bool) -> str:
        """After a failed renewal: the old token while it is good, else the error."""
        if self._session is session and not refused and session.remaining(self._core.clock) > 0:
            return session.access_token
        raise error

    async def _refresh_while_locked(self, session: Session, operation: str) -> None:
        newest = await self._newest_stored(session)
        if newest is not session and newest.remaining(self._core.clock) >= newest.margin(_FRESH):
            self._adopt(newest, AuthChangeKind.TOKEN_REFRESHED)
            return
        try:
            fresh = await self._refreshed(newest, operation)
        except SessionExpiredError as error:
            token_refreshed(error)
            _log.warning("signed out: the session could not be renewed [%s]", error.code or error.status)
            self._leave(error)
            await self._forget_stored()
            raise copy.copy(error) from error
        except JamesTronicError as error:
            token_refreshed(error)
            raise
        token_refreshed(None)
        self._adopt(fresh, AuthChangeKind.TOKEN_REFRESHED)
        await self._keep(fresh)

    async def _newest_stored(self, session: Session) -> Session:
        """What another program that shares the store made of this session; the session itself if none did.

        A refresh token is good once: with the one that was renewed already Auth would end both programs'
        session. Two that renew within the same seconds are both answered.
        """
        try:
            text = await self._stored()
        except ConfigurationError as error:
            _log.debug("the session_store could not be asked for a newer session: %s", error.message)
            return session
        if text is None:
            return session
        stored = Session.from_text(text, self._core.settings.url, session.door, self._core.clock)
        is_newer = (
            stored is not None
            and stored.user_id == session.user_id
            and stored.refresh_token != session.refresh_token
            and stored.ends_wall > session.ends_wall
        )
        return stored if stored is not None and is_newer else session

    async def _refreshed(self, session: Session, operation: str) -> Session:
        """The session's next one; SessionExpiredError when Auth itself says that there is none."""
        door = session.door
        try:
            answer = await self._wire.ask_auth(
                lambda: door.refresh_session(session.refresh_token), operation=operation, replayable=True
            )
        except (AuthenticationError, ApiError) as error:
            if error.code is None or error.retry is not Retry.NEVER:
                # Without a code it is not Auth that speaks: a captive portal must not sign anybody out.
                raise
            raise SessionExpiredError(
                "The session has ended on the server.",
                next_step="Sign in again.",
                code=error.code,
                status=error.status,
            ) from error
        if answer.session is None:
            raise DataError(f"{operation}: Auth answered without a session.")
        return Session.of(answer.session, door, self._core.clock)
