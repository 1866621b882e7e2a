"""``JamesTronic``: one person's or one service's way into the project.

Promises:
    The constructor does no I/O. ``async with`` opens one pool of connections for everything; leaving it
    closes everything, also when cancelled.

Never:
    One client never speaks for two people at once: make one client per person.
"""

from __future__ import annotations

import copy
import json
import warnings
from typing import TYPE_CHECKING, Any, Final, Generic, Self, cast

from typing_extensions import override

from jamestronic_sdk._backoff import SYSTEM_RANDOM
from jamestronic_sdk._clock import SYSTEM_CLOCK
from jamestronic_sdk._inputs import checked_flag, checked_instance, checked_json, checked_name
from jamestronic_sdk._redact import mask
from jamestronic_sdk._unset import UNSET, Unset
from jamestronic_sdk.admin import Admin
from jamestronic_sdk.auth import Auth
from jamestronic_sdk.errors import ConfigurationError, DataError, NotSignedInError
from jamestronic_sdk.models import Ticket, TicketT
from jamestronic_sdk.notes import Notes
from jamestronic_sdk.profiles import Profiles
from jamestronic_sdk.retry import RetryPolicy
from jamestronic_sdk.sessions import SessionStore
from jamestronic_sdk.settings import Settings, checked_timeout
from jamestronic_sdk.table import Table
from jamestronic_sdk.tickets import Tickets

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from supabase import AsyncClient

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk._http import Core, Wire
    from jamestronic_sdk.realtime.channels import Transport, TransportName
    from jamestronic_sdk.store.store import TicketStore
    from jamestronic_sdk.store.views import View

__all__ = ["JamesTronic"]

DEFAULT_TIMEOUT: Final = 30.0
"""Seconds for one try. Supabase ends a statement after 8 s, so 30 s is a broken network."""


class _Handle:
    """What a program holds, as against what the watchdog holds: warns when it is dropped unclosed."""

    __slots__ = ("core",)

    def __init__(self, core: Core) -> None:
        self.core: Final = core

    def __del__(self) -> None:
        if self.core.is_open:
            warnings.warn(
                f"unclosed JamesTronic client of {self.core.settings.host}: use `async with`",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


class JamesTronic(Generic[TicketT]):
    """The client: sign-in at ``auth``, typed data at ``tickets``, ``notes`` and ``profiles``.

    ::

        async with JamesTronic.from_env() as jt:
            await jt.auth.sign_in(email=..., password=...)
            for ticket in await jt.tickets.list(status="open"):
                ...

    Args:
        url: The project's address; None takes ``SUPABASE_URL`` of the environment or ``.env``.
        key: The project's key; None takes ``SUPABASE_KEY`` or ``SUPABASE_ANON_KEY``.
        service: Take the key from ``SUPABASE_SERVICE_ROLE_KEY``, and refuse one that is not a service key.
        settings: Both, checked before; excludes ``url``, ``key`` and ``service``.
        timeout: Seconds for one try of a call; None waits for ever.
        retries: Repeats of reads and of commands, 0 to 10; or a whole ``RetryPolicy``.
        ticket_model: A subclass of ``Ticket`` that types a program's own columns; None is ``Ticket``.
        session_store: Where the session waits for the next start (``auth.resume``); None: nowhere.
        env_file: The ``.env`` file; None reads none.
        clock: For tests.
        rng: For tests.

    Raises:
        ConfigurationError: Something is missing or malformed; the message names the variable.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        service: bool = False,
        settings: Settings | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        retries: int | RetryPolicy = 2,
        ticket_model: type[TicketT] | None = None,
        session_store: SessionStore | None = None,
        env_file: str | Path | None = ".env",
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random = SYSTEM_RANDOM,
    ) -> None:
        # supabase and httpx are most of the import time; a program that only needs models is spared it.
        from jamestronic_sdk._http import Core  # noqa: PLC0415

        if settings is not None and (url is not None or key is not None or service):
            raise ConfigurationError("Give settings, or url, key and service, not both.")
        if settings is not None and not isinstance(cast("object", settings), Settings):
            raise ConfigurationError("settings must be Settings.")
        if session_store is not None and not _is_session_store(session_store):
            raise ConfigurationError("session_store must have the methods load, save and clear.")
        if settings is None:
            settings = Settings.load(url, key, service=service, env_file=env_file)
        self._timeout = checked_timeout(timeout)
        self._policy = _policy(retries)
        self._model: Final[type[TicketT]] = _checked_model(ticket_model)
        self._core: Final = Core(settings, clock=clock, rng=rng)
        self._handle: Final = _Handle(self._core)
        self._auth: Final = Auth(self._core, self._timeout, self._policy, session_store)
        self._bind()

    @classmethod
    def from_env(
        cls,
        *,
        service: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
        retries: int | RetryPolicy = 2,
        ticket_model: type[TicketT] | None = None,
        session_store: SessionStore | None = None,
        env_file: str | Path | None = ".env",
    ) -> Self:
        """A client from ``SUPABASE_URL`` and ``SUPABASE_KEY`` (or ``SUPABASE_ANON_KEY``), or ``.env``.

        Args:
            service: As in the constructor.
            timeout: As in the constructor.
            retries: As in the constructor.
            ticket_model: As in the constructor.
            session_store: As in the constructor.
            env_file: As in the constructor.

        Raises:
            ConfigurationError: A variable is missing or malformed.
        """
        return cls(
            service=service,
            timeout=timeout,
            retries=retries,
            ticket_model=ticket_model,
            session_store=session_store,
            env_file=env_file,
        )

    def with_options(
        self, *, timeout: float | Unset | None = UNSET, retries: int | RetryPolicy | Unset = UNSET
    ) -> Self:
        """The same client with other options: same connections, same person; cheap.

        Closing either closes both. Sign-in and renewal keep the options that they began with.

        Args:
            timeout: Seconds for one try; None waits for ever; not given keeps what is.
            retries: Repeats, or a whole ``RetryPolicy``; not given keeps what is.

        Raises:
            ConfigurationError: A value is malformed.
        """
        other = copy.copy(self)
        if timeout is not UNSET:
            other._timeout = checked_timeout(timeout)  # noqa: SLF001 - of our own class
        if retries is not UNSET:
            other._policy = _policy(retries)  # noqa: SLF001 - of our own class
        other._bind()  # noqa: SLF001 - of our own class
        return other

    def _bind(self) -> None:
        """Make the parts that depend on the options."""
        from jamestronic_sdk._http import FixedToken, Wire  # noqa: PLC0415 - imports httpx

        self._wire: Wire = Wire(
            core=self._core, tokens=self._auth, timeout=self._timeout, policy=self._policy
        )
        self._tickets: Tickets[TicketT] = Tickets(self._wire, self._model)
        self._profiles: Profiles = Profiles(self._wire, self._auth)
        self._notes: Notes = Notes(self._wire)
        # A service key's own wire: whoever is signed in, these calls are the service's.
        service = FixedToken(self.settings.key.get_secret_value())
        self._admin: Admin = Admin(self._wire.with_tokens(service))

    @property
    def settings(self) -> Settings:
        """Where the project is and which key opens it."""
        return self._core.settings

    @property
    def auth(self) -> Auth:
        """Who is signed in, and signing in and out."""
        return self._auth

    @property
    def tickets(self) -> Tickets[TicketT]:
        """Reads and commands of tickets."""
        return self._tickets

    @property
    def profiles(self) -> Profiles:
        """Reads of people."""
        return self._profiles

    @property
    def notes(self) -> Notes:
        """What people say about tickets."""
        return self._notes

    def ticket_store(
        self,
        view: View | None = None,
        *,
        transport: Transport | TransportName = "auto",
        poll_interval: float = 30.0,
        live_interval: float | None = None,
        background_delay: float = 60.0,
        ready_timeout: float | None = 30.0,
        read_timeout: float = 60.0,
    ) -> TicketStore:
        """A live view of tickets; enter it with ``async with``.

        Args:
            view: Which tickets, and from whose eyes; None follows the signed-in role (with a service key:
                all tickets).
            transport: How it is told of changes: ``broadcast`` by the database's own messages on private
                topics (needs ``070_broadcast.sql``), ``postgres_changes`` by Realtime's stream of rows;
                ``auto`` takes broadcast where the database lets the signed-in person in.
            poll_interval: Seconds between reads while Realtime is down (plus or minus 20 %).
            live_interval: Seconds between safety reads while Realtime is up; None takes ``poll_interval``
                for views that can lose a ticket without an event, and twice that for admins and staff.
            background_delay: Seconds in the background (``store.background``) before the store pauses.
            ready_timeout: Seconds that entering waits for the first complete state; None waits for ever.
            read_timeout: Seconds for one read of the view, all pages together.

        Raises:
            NotSignedInError: No view is given, and nobody is signed in.
            ConfigurationError: An interval is not positive, the role is unknown to this version, or
                broadcast is wanted where nobody is signed in.
        """
        from jamestronic_sdk.store.assembly import assemble_store  # noqa: PLC0415 - imports websockets
        from jamestronic_sdk.store.views import View  # noqa: PLC0415

        if view is not None:
            checked_instance(view, View, "view")
        own = self._own_view()
        view = view or own
        if view is None:
            raise NotSignedInError("ticket_store: nobody is signed in.", next_step="Sign in, or give a view.")
        return assemble_store(
            view=view,
            own=own,
            core=self._core,
            auth=self._auth,
            tickets=self._tickets,
            model=self._model,
            transport=transport,
            poll_interval=poll_interval,
            live_interval=live_interval,
            background_delay=background_delay,
            ready_timeout=ready_timeout,
            read_timeout=read_timeout,
        )

    @property
    def admin(self) -> Admin:
        """Accounts and roles; needs the service key."""
        return self._admin

    def _own_view(self) -> View | None:
        """The view that follows the signed-in role; with a service key and nobody signed in, all tickets."""
        from jamestronic_sdk.store.views import View  # noqa: PLC0415

        if self._auth.is_signed_in:
            me = self._auth.me
            return View.of_role(me.role, me.profile_id)
        return View.overview() if self.settings.is_service else None

    @property
    def is_open(self) -> bool:
        """Whether calls are possible."""
        return self._core.is_open

    def table(self, name: str) -> Table:
        """Any table or view of the database, under our token, time-out, retries and errors.

        Args:
            name: Its name in schema ``public``.

        Raises:
            InvalidInputError: It is no plain name.
        """
        return Table(self._wire, checked_name(name, "name"))

    async def rpc(
        self, function: str, arguments: Mapping[str, object] | None = None, *, idempotent: bool = False
    ) -> Any:  # noqa: ANN401 - any JSON
        """Call any function of the database, under our token, time-out, retries and errors.

        Args:
            function: Its name in schema ``public``.
            arguments: By name; JSON values, UUIDs and dates.
            idempotent: Whether calling it twice is the same as once: then it is repeated after a lost
                answer, else only when nothing was sent.

        Returns:
            The JSON value that it answers; None for none.

        Raises:
            InvalidInputError: The name is no plain name, or an argument is not JSON; nothing was sent.
            SchemaMissingError: There is no such function with such arguments.
            JamesTronicError: See ``errors.py``.
        """
        name = checked_name(function, "function")
        operation = f"rpc.{name}"
        values = checked_json({} if arguments is None else arguments, "arguments")
        is_replayable = checked_flag(idempotent, "idempotent")
        response = await self._wire.send(
            lambda raw: raw.rpc(name, values), operation=operation, target=name, replayable=is_replayable
        )
        try:
            return json.loads(response.content) if response.content else None
        except ValueError:
            raise DataError(f"{operation}: the answer is not JSON.") from None

    @property
    def _raw(self) -> AsyncClient:
        """The supabase client, signed in as we are; its own ``auth`` is not."""
        return self._core.raw

    async def __aenter__(self) -> Self:
        """Open the pool and start the session's watchdog; no I/O.

        Raises:
            ClientClosedError: It was opened before.
        """
        await self._core.open(self._auth.keep_fresh)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every socket and task; idempotent, and safe to cancel: then sockets are dropped unread.

        The session stays valid at the server: that is what ``auth.sign_out`` ends.
        """
        await self._core.aclose()

    @override
    def __repr__(self) -> str:
        state = "open" if self._core.is_open else "not open"
        key = mask(self.settings.key.get_secret_value())
        return f"<JamesTronic url={self.settings.url!r} key={key!r} {state}>"


def _is_session_store(store: object) -> bool:
    return isinstance(store, SessionStore) and not isinstance(store, type)


def _policy(retries: int | RetryPolicy) -> RetryPolicy:
    return retries if isinstance(retries, RetryPolicy) else RetryPolicy(retries=retries)


def _checked_model(model: type[TicketT] | None) -> type[TicketT]:
    if model is None:
        # The type variable's default: without a model there is nothing else that it could be.
        return cast("type[TicketT]", Ticket)
    given = cast("object", model)
    if not isinstance(given, type) or not issubclass(given, Ticket):
        raise ConfigurationError("ticket_model must be a subclass of Ticket.")
    return model
