"""``JamesTronic`` of the blocking face: for scripts, Django, Flask, cron jobs, and threads of any kind.

Promises:
    Not a second implementation: one thread with one event loop per client runs the async code.
    Every method may be called from any thread; each waits for its own answer only.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Generic, Self

from typing_extensions import override

from jamestronic_sdk import client as _client
from jamestronic_sdk._backoff import SYSTEM_RANDOM
from jamestronic_sdk._clock import SYSTEM_CLOCK
from jamestronic_sdk._unset import UNSET, Unset
from jamestronic_sdk.blocking._parts import Admin, Auth, Notes, Profiles, Table, Tickets
from jamestronic_sdk.blocking._portal import Portal
from jamestronic_sdk.blocking.store import TicketStore
from jamestronic_sdk.models import TicketT

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk.realtime.channels import Transport, TransportName
    from jamestronic_sdk.retry import RetryPolicy
    from jamestronic_sdk.sessions import SessionStore
    from jamestronic_sdk.settings import Settings
    from jamestronic_sdk.store.views import View

__all__ = ["JamesTronic"]


class JamesTronic(Generic[TicketT]):
    """The client for code without an event loop: the names and arguments of ``jamestronic_sdk.JamesTronic``.

    ::

        with JamesTronic.from_env() as jt:
            jt.auth.sign_in(email=..., password=...)
            for ticket in jt.tickets.query(status="open"):
                ...

    Args:
        url: The project's address; None takes ``SUPABASE_URL`` of the environment or ``.env``.
        key: The project's key; None takes ``SUPABASE_KEY`` or ``SUPABASE_ANON_KEY``.
        service: Take the key from ``SUPABASE_SERVICE_ROLE_KEY``, and refuse one that is not a service key.
        settings: Both, checked before; excludes ``url``, ``key`` and ``service``.
        timeout: Seconds for one try of a call; None waits for ever.
        retries: Repeats of reads and of commands, 0 to 10; or a whole ``RetryPolicy``.
        ticket_model: A subclass of ``Ticket`` that types a program's own columns; None is ``Ticket``.
        session_store: Where the session waits for the next start (``auth.resume``); None: nowhere. It is
            the async protocol: its methods run on the client's own thread.
        env_file: The ``.env`` file; None reads none.
        clock: For tests.
        rng: For tests.

    Raises:
        ConfigurationError: Something is missing or malformed; the message names the variable.

    Every method raises BlockingCallError where waiting is impossible: on the thread of a running event
    loop, in a callback on the client's own thread, and in a forked child.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        service: bool = False,
        settings: Settings | None = None,
        timeout: float | None = _client.DEFAULT_TIMEOUT,
        retries: int | RetryPolicy = 2,
        ticket_model: type[TicketT] | None = None,
        session_store: SessionStore | None = None,
        env_file: str | Path | None = ".env",
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random = SYSTEM_RANDOM,
    ) -> None:
        self._portal = Portal()
        self._face: _client.JamesTronic[TicketT] = _client.JamesTronic(
            url,
            key,
            service=service,
            settings=settings,
            timeout=timeout,
            retries=retries,
            ticket_model=ticket_model,
            session_store=session_store,
            env_file=env_file,
            clock=clock,
            rng=rng,
        )
        self._bind()

    @classmethod
    def from_env(
        cls,
        *,
        service: bool = False,
        timeout: float | None = _client.DEFAULT_TIMEOUT,
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
        """The same client with other options: same connections, same person, same thread; cheap.

        Closing either closes both. Sign-in and renewal keep the options that they began with.

        Args:
            timeout: Seconds for one try; None waits for ever; not given keeps what is.
            retries: Repeats, or a whole ``RetryPolicy``; not given keeps what is.

        Raises:
            ConfigurationError: A value is malformed.
        """
        other = copy.copy(self)
        other._face = self._face.with_options(timeout=timeout, retries=retries)  # noqa: SLF001 - of our own class
        other._bind()  # noqa: SLF001 - of our own class
        return other

    def _bind(self) -> None:
        """Make the parts of this face."""
        self._auth = Auth(self._face.auth, self._portal)
        self._tickets: Tickets[TicketT] = Tickets(self._face.tickets, self._portal)
        self._profiles = Profiles(self._face.profiles, self._portal)
        self._notes = Notes(self._face.notes, self._portal)
        self._admin = Admin(self._face.admin, self._portal)

    @property
    def settings(self) -> Settings:
        """Where the project is and which key opens it."""
        return self._face.settings

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

    @property
    def admin(self) -> Admin:
        """Accounts and roles; needs the service key."""
        return self._admin

    @property
    def is_open(self) -> bool:
        """Whether calls are possible."""
        return self._face.is_open

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
        """A live view of tickets; enter it with ``with``.

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
        store = self._portal.read(
            lambda: self._face.ticket_store(
                view,
                transport=transport,
                poll_interval=poll_interval,
                live_interval=live_interval,
                background_delay=background_delay,
                ready_timeout=ready_timeout,
                read_timeout=read_timeout,
            )
        )
        return TicketStore(store, self._portal)

    def table(self, name: str) -> Table:
        """Any table or view of the database, under our token, time-out, retries and errors.

        Args:
            name: Its name in schema ``public``.

        Raises:
            InvalidInputError: It is no plain name.
        """
        return Table(self._face.table(name), self._portal)

    def rpc(
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
        return self._portal.run(lambda: self._face.rpc(function, arguments, idempotent=idempotent))

    def __enter__(self) -> Self:
        """Start the thread, open the pool and start the session's watchdog; no I/O.

        Raises:
            ClientClosedError: It was opened before.
        """
        self._portal.open(self._face)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every store, socket and task, and end the thread; idempotent, from any thread.

        Calls that wait in other threads raise ClientClosedError. The session stays valid at the server:
        that is what ``auth.sign_out`` ends.
        """
        self._portal.close()

    @override
    def __repr__(self) -> str:
        return repr(self._face)
