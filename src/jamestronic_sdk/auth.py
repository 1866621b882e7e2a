"""Sign-in, the session and its renewal, and the person behind it.

Promises:
    A person is signed in only with an active profile; else the sign-in is undone and says why.
    The token is renewed before it expires, by one request at a time whatever the number of callers,
    and whoever asked is told the new one. A refused renewal ends in "signed out", with the reason.

Never:
    No token in a ``repr``, an error or a log. No session on disk unless asked for.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from typing_extensions import override

from jamestronic_sdk._auth_changes import AuthChange, AuthChangeKind, AuthChanges
from jamestronic_sdk._backoff import backoff
from jamestronic_sdk._inputs import checked_text
from jamestronic_sdk.errors import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    DataError,
    InactiveProfileError,
    InvalidInputError,
    JamesTronicError,
    NoProfileError,
    NotSignedInError,
    Retry,
    SessionExpiredError,
)
from jamestronic_sdk.models import LAZY, Profile, Role

if TYPE_CHECKING:
    from supabase_auth import AsyncGoTrueClient
    from supabase_auth.types import Session as AuthSession

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk._http import Core, Wire
    from jamestronic_sdk.retry import RetryPolicy
    from jamestronic_sdk.sessions import SessionStore

__all__ = ["Auth", "AuthChange", "AuthChangeKind", "AuthChanges", "Me", "SignOutScope", "TokenCallback"]

_log: Final = logging.getLogger("jamestronic_sdk.auth")

SignOutScope: TypeAlias = Literal["local", "others", "global"]
"""``local``: this session; ``others``: all but this one; ``global``: every session of the person."""

TokenCallback: TypeAlias = Callable[[str | None], None]
"""Is told the new access token, or None at sign-out. Must not block; what it raises is logged."""

# What a caller of `access_token()` is promised; also PostgREST's and Realtime's tolerance for clocks.
_FRESH: Final = 30.0
# The watchdog renews earlier than any caller has to, so that calls find a fresh token.
_AHEAD: Final = 60.0
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


class _Stored(BaseModel):
    """A session as text."""

    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True, hide_input_in_errors=True)

    project: str
    user_id: UUID
    access_token: str
    refresh_token: str
    lifetime: float
    ends_wall: float


@dataclass(frozen=True, slots=True)
class _Session:
    """One session and when its access token ends, on both of the machine's clocks.

    The lifetime counts from the moment the token arrived, so a clock that differs from the server's does
    no harm; the wall clock is there because the other one may stand still while the machine sleeps.
    """

    user_id: UUID
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    door: AsyncGoTrueClient = field(repr=False)
    lifetime: float
    ends_now: float
    ends_wall: float

    @classmethod
    def of(cls, answer: AuthSession, door: AsyncGoTrueClient, clock: Clock) -> _Session:
        """From Auth's answer, at the moment it arrived."""
        lifetime = max(1.0, float(answer.expires_in))
        return cls(
            user_id=UUID(answer.user.id),
            access_token=answer.access_token,
            refresh_token=answer.refresh_token,
            door=door,
            lifetime=lifetime,
            ends_now=clock.now() + lifetime,
            ends_wall=clock.wall() + lifetime,
        )

    def remaining(self, clock: Clock) -> float:
        """Seconds that the access token is still good for; negative when it has expired."""
        return min(self.ends_now - clock.now(), self.ends_wall - clock.wall())

    def to_text(self, project: str) -> str:
        """For a ``SessionStore``."""
        return json.dumps(
            {
                "project": project,
                "user_id": str(self.user_id),
                "access_token": self.access_token,
                "refresh_token": self.refresh_token,
                "lifetime": self.lifetime,
                "ends_wall": self.ends_wall,
            }
        )

    @classmethod
    def from_text(cls, text: str, project: str, door: AsyncGoTrueClient, clock: Clock) -> _Session | None:
        """From a ``SessionStore``; None for what is malformed or belongs to another project."""
        try:
            stored = _Stored.model_validate_json(text)
        except ValidationError:
            return None
        if stored.project != project:
            return None
        return cls(
            user_id=stored.user_id,
            access_token=stored.access_token,
            refresh_token=stored.refresh_token,
            door=door,
            lifetime=stored.lifetime,
            ends_now=clock.now() + stored.ends_wall - clock.wall(),
            ends_wall=stored.ends_wall,
        )

    def margin(self, wanted: float) -> float:
        """``wanted`` seconds, or less for a token that lives so short that it would always be stale."""
        return min(wanted, self.lifetime / 3)


class Auth:
    """Who is signed in; reach it as ``jt.auth``."""

    def __init__(
        self, core: Core, timeout: float | None, policy: RetryPolicy, store: SessionStore | None
    ) -> None:
        from jamestronic_sdk._http import Wire  # noqa: PLC0415 - imports httpx

        self._core: Final = core
        self._wire: Final = Wire(core=core, tokens=self, timeout=timeout, policy=policy)
        self._store: Final = store
        self._lock: Final = asyncio.Lock()
        self._changed: Final = asyncio.Event()
        self._session: _Session | None = None
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

    # -- in and out --------------------------------------------------------------------------------

    async def sign_in(self, *, email: str, password: str) -> Me:
        """Sign in with e-mail address and password; replaces whoever was signed in.

        When it raises, whoever was signed in before still is, and the new session, if there was one, is
        revoked. Cancelling is safe in the same way, but a new session then lives on until it expires.

        Args:
            email: The address; upper and lower case are the same.
            password: At most 72 bytes (Auth's limit).

        Returns:
            The person, with profile and role.

        Raises:
            InvalidInputError: An argument is empty or not a string; nothing was sent.
            InvalidCredentialsError: Address or password is wrong, not confirmed, or blocked.
            NoProfileError: The account has no profile.
            InactiveProfileError: The profile is deactivated.
            SchemaMissingError: The database lacks this package's SQL; the message names the file.
            TransportError: No answer came.
            ApiError: Auth or the data API refused otherwise.
        """
        operation = "auth.sign_in"
        address = checked_text(email, "email", limit=320).strip()
        secret = checked_text(password, "password", limit=1000)
        async with self._lock:
            door = self._core.door()
            answer = await self._wire.ask_auth(
                lambda: door.sign_in_with_password({"email": address, "password": secret}),
                operation=operation,
            )
            if answer.session is None:
                raise DataError(f"{operation}: Auth answered without a session.")
            return await self._enter(answer.session, door, operation)

    async def sign_up(self, *, email: str, password: str, full_name: str = "") -> Me | None:
        """Make an account of one's own; the database gives it the profile of a customer.

        Args:
            email: The address.
            password: At least as long as the project asks for, at most 72 bytes.
            full_name: The name to show.

        Returns:
            The person, signed in; None when the project first wants the address confirmed.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            ConflictError: There is such an account. A project that confirms addresses does not say so.
            BadRequestError: The password is too weak, or the address malformed.
            PermissionDeniedError: The project takes no sign-ups.
            JamesTronicError: As ``sign_in``.
        """
        operation = "auth.sign_up"
        address = checked_text(email, "email", limit=320).strip()
        secret = checked_text(password, "password", limit=1000)
        data = {"full_name": checked_text(full_name, "full_name", limit=200)} if full_name else {}
        async with self._lock:
            door = self._core.door()
            answer = await self._wire.ask_auth(
                lambda: door.sign_up({"email": address, "password": secret, "options": {"data": data}}),
                operation=operation,
            )
            if answer.session is None:
                return None
            return await self._enter(answer.session, door, operation)

    async def resume(self) -> Me | None:
        """Take up the session that the ``session_store`` holds from an earlier run.

        Returns:
            The person; None when nothing usable is stored.

        Raises:
            ConfigurationError: The store can't be read.
            SessionExpiredError: It ended on the server; it is forgotten. Sign in again.
            NoProfileError: The account has no profile any more; the session is revoked and forgotten.
            InactiveProfileError: The profile was deactivated; the same.
            TransportError: No answer came; the stored session is kept.
            JamesTronicError: As ``sign_in``.
        """
        operation = "auth.resume"
        self._core.require_open()
        text = await self._stored()
        if text is None:
            return None
        clock = self._core.clock
        async with self._lock:
            session = _Session.from_text(text, self._core.settings.url, self._core.door(), clock)
            if session is None:
                return None
            try:
                # Always renewed: that proves that the server still knows the session.
                session = await self._refreshed(session, operation)
                await self._keep(session)
                return await self._welcome(session, operation)
            except SessionExpiredError as error:
                await self._forget_stored()
                raise SessionExpiredError(
                    "The stored session has ended on the server.",
                    next_step="Sign in again.",
                    code=error.code,
                    status=error.status,
                ) from error
            except (NoProfileError, InactiveProfileError):
                await self._forget_stored()
                await self._undo(session)
                raise

    async def change_password(self, password: str) -> None:
        """Give the person who is signed in another password; ends all of their other sessions.

        Args:
            password: The new one.

        Raises:
            NotSignedInError: Nobody is signed in.
            BadRequestError: It is too weak, or the same as before.
            InvalidInputError: It is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        operation = "auth.change_password"
        secret = checked_text(password, "password", limit=1000)
        await self.access_token()
        async with self._lock:
            door = self._require_session(operation).door
            await self._wire.ask_auth(
                lambda: door.update_user({"password": secret}), operation=operation, replayable=True
            )

    async def sign_out(self, scope: SignOutScope = "local") -> None:
        """End sessions; nothing happens when nobody is signed in.

        For ``local`` and ``global`` this program is signed out first, whatever the server answers.

        Args:
            scope: ``local`` ends this session, ``others`` all but this one, ``global`` all of the person.

        Raises:
            InvalidInputError: Unknown scope.
            TransportError: No answer came: this program is signed out (except for ``others``), but the
                session may live on at the server until it expires.
            ApiError: Auth refused; the same holds.
        """
        if scope not in {"local", "others", "global"}:
            raise InvalidInputError("scope must be 'local', 'others' or 'global'.")
        self._core.require_open()
        async with self._lock:
            session = self._session
            if session is None:
                self._ended = None
                return
            if scope != "others":
                self._leave(None)
                await self._forget_stored()
            await self._revoke(session, scope)

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

    def on_token(self, callback: TokenCallback) -> Callable[[], None]:
        """Be told each new access token, and None at sign-out; answers the function that ends it.

        The callback runs on the event loop at once and must not block; what it raises is logged and
        ends nothing.
        """
        key = object()
        self._callbacks[key] = callback

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
            due = session.remaining(clock) - session.margin(_AHEAD)
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

    def _require_session(self, operation: str) -> _Session:
        if self._session is not None:
            return self._session
        if self._ended is not None:
            raise copy.copy(self._ended)
        raise NotSignedInError(
            f"{operation}: nobody is signed in.", next_step="Call `await jt.auth.sign_in(...)` first."
        )

    async def _enter(self, answer: AuthSession, door: AsyncGoTrueClient, operation: str) -> Me:
        """Make a new session the current one, if its person has an active profile. Lock is held."""
        session = _Session.of(answer, door, self._core.clock)
        try:
            return await self._welcome(session, operation)
        except JamesTronicError:
            await self._undo(session)
            raise

    async def _welcome(self, session: _Session, operation: str) -> Me:
        """Look who it is, and let them in; nothing has changed when it raises. Lock is held."""
        from jamestronic_sdk._http import FixedToken  # noqa: PLC0415 - imports httpx

        wire = self._wire.with_tokens(FixedToken(session.access_token))
        me = await self._load_me(wire, session.user_id, operation)
        self._me = me
        self._ended = None
        self._adopt(session, AuthChangeKind.SIGNED_IN)
        await self._keep(session)
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

    async def _undo(self, session: _Session) -> None:
        """Revoke a session that was never used; a failure leaves it to its expiry."""
        try:
            async with asyncio.timeout(_UNDO_TIMEOUT):
                await self._revoke(session, "local")
        except (JamesTronicError, TimeoutError) as error:
            _log.info("a refused sign-in could not be revoked: %s", type(error).__name__)

    async def _revoke(self, session: _Session, scope: SignOutScope) -> None:
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

    def _adopt(self, session: _Session, kind: AuthChangeKind) -> None:
        self._session = session
        self._core.authorize_raw(session.access_token)
        self._tell(session.access_token)
        self._announce(AuthChange(kind, self._me))

    def _announce(self, change: AuthChange) -> None:
        for stream in tuple(self._streams):
            stream.put_nowait(change)

    async def _keep(self, session: _Session) -> None:
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

    async def _renewed(self, seen: _Session, operation: str, *, refused: bool = False) -> str:
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

    def _fallback(self, session: _Session, error: JamesTronicError, *, refused: bool) -> str:
        """After a failed renewal: the old token while it is good, else the error."""
        if self._session is session and not refused and session.remaining(self._core.clock) > 0:
            return session.access_token
        raise error

    async def _refresh_while_locked(self, session: _Session, operation: str) -> None:
        try:
            fresh = await self._refreshed(session, operation)
        except SessionExpiredError as error:
            _log.warning("signed out: the session could not be renewed [%s]", error.code or error.status)
            self._leave(error)
            await self._forget_stored()
            raise copy.copy(error) from error
        self._adopt(fresh, AuthChangeKind.TOKEN_REFRESHED)
        await self._keep(fresh)

    async def _refreshed(self, session: _Session, operation: str) -> _Session:
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
        return _Session.of(answer.session, door, self._core.clock)
