"""``JamesTronic``: one person's or one service's way into the project.

Promises:
    The constructor does no I/O. ``async with`` opens one pool of connections for everything; leaving it
    closes everything, also when cancelled.

Never:
    One client never speaks for two people at once: make one client per person.
"""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Final, Self

from typing_extensions import override

from jamestronic_sdk._backoff import SYSTEM_RANDOM
from jamestronic_sdk._clock import SYSTEM_CLOCK
from jamestronic_sdk._redact import mask
from jamestronic_sdk.auth import Auth
from jamestronic_sdk.errors import ConfigurationError
from jamestronic_sdk.profiles import Profiles
from jamestronic_sdk.retry import RetryPolicy
from jamestronic_sdk.settings import Settings, checked_timeout
from jamestronic_sdk.tickets import Tickets

if TYPE_CHECKING:
    import random
    from pathlib import Path
    from types import TracebackType

    from supabase import AsyncClient

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk.store.store import TicketStore
    from jamestronic_sdk.store.views import View

__all__ = ["JamesTronic"]

DEFAULT_TIMEOUT: Final = 30.0
"""Seconds for one try. Supabase ends a statement after 8 s, so 30 s is a broken network."""


class JamesTronic:
    """The client: sign-in at ``auth``, typed data at ``tickets`` and ``profiles``.

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
        env_file: str | Path | None = ".env",
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random = SYSTEM_RANDOM,
    ) -> None:
        # supabase and httpx are most of the import time; a program that only needs models is spared it.
        from jamestronic_sdk._http import Core, Wire  # noqa: PLC0415

        if settings is not None and (url is not None or key is not None or service):
            raise ConfigurationError("Give settings, or url, key and service, not both.")
        self._settings: Final = settings or Settings.load(url, key, service=service, env_file=env_file)
        policy = retries if isinstance(retries, RetryPolicy) else RetryPolicy(retries=retries)
        self._core: Final = Core(self._settings, clock=clock, rng=rng)
        self._auth: Final = Auth(self._core, lambda: self._wire)
        self._wire: Final = Wire(
            core=self._core, tokens=self._auth, timeout=checked_timeout(timeout), policy=policy
        )
        self._tickets: Final = Tickets(self._wire)
        self._profiles: Final = Profiles(self._wire, self._auth)
        self._tasks: asyncio.TaskGroup | None = None
        self._watchdog: asyncio.Task[None] | None = None

    @classmethod
    def from_env(
        cls,
        *,
        service: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
        retries: int | RetryPolicy = 2,
        env_file: str | Path | None = ".env",
    ) -> Self:
        """A client from ``SUPABASE_URL`` and ``SUPABASE_KEY`` (or ``SUPABASE_ANON_KEY``), or ``.env``.

        Args:
            service: As in the constructor.
            timeout: As in the constructor.
            retries: As in the constructor.
            env_file: As in the constructor.

        Raises:
            ConfigurationError: A variable is missing or malformed.
        """
        return cls(service=service, timeout=timeout, retries=retries, env_file=env_file)

    @property
    def settings(self) -> Settings:
        """Where the project is and which key opens it."""
        return self._settings

    @property
    def auth(self) -> Auth:
        """Who is signed in, and signing in and out."""
        return self._auth

    @property
    def tickets(self) -> Tickets:
        """Reads and commands of tickets."""
        return self._tickets

    @property
    def profiles(self) -> Profiles:
        """Reads of people."""
        return self._profiles

    def ticket_store(
        self,
        view: View | None = None,
        *,
        poll_interval: float = 30.0,
        live_interval: float | None = None,
        ready_timeout: float | None = 30.0,
        read_timeout: float = 60.0,
    ) -> TicketStore:
        """A live view of tickets; enter it with ``async with``.

        Args:
            view: Which tickets, and from whose eyes; None follows the signed-in role (with a service key:
                all tickets).
            poll_interval: Seconds between reads while Realtime is down (plus or minus 20 %).
            live_interval: Seconds between safety reads while Realtime is up; None takes ``poll_interval``
                for views that can lose a ticket without an event, and twice that for admins and staff.
            ready_timeout: Seconds that entering waits for the first complete state; None waits for ever.
            read_timeout: Seconds for one read of the view, all pages together.

        Raises:
            NotSignedInError: No view is given, and nobody is signed in.
            ConfigurationError: An interval is not positive, or the role is unknown to this version.
        """
        from jamestronic_sdk.store.assembly import assemble_store  # noqa: PLC0415 - imports websockets
        from jamestronic_sdk.store.views import View  # noqa: PLC0415

        if view is None:
            if self._settings.is_service and not self._auth.is_signed_in:
                view = View.overview()
            else:
                me = self._auth.me
                view = View.of_role(me.role, me.profile_id)
        return assemble_store(
            view=view,
            settings=self._settings,
            auth=self._auth,
            tickets=self._tickets,
            clock=self._core.clock,
            rng=self._core.rng,
            poll_interval=poll_interval,
            live_interval=live_interval,
            ready_timeout=ready_timeout,
            read_timeout=read_timeout,
        )

    @property
    def is_open(self) -> bool:
        """Whether calls are possible."""
        return self._core.is_open

    @property
    def _raw(self) -> AsyncClient:
        """The supabase client, signed in as we are; its own ``auth`` is not."""
        return self._core.raw

    async def __aenter__(self) -> Self:
        """Open the pool and start the session's watchdog; no I/O.

        Raises:
            ClientClosedError: It was opened before.
        """
        self._core.open()
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._watchdog = self._tasks.create_task(self._auth.keep_fresh(), name="jamestronic-session")
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
        tasks, self._tasks = self._tasks, None
        try:
            if tasks is not None:
                assert self._watchdog is not None  # noqa: S101 - started together
                self._watchdog.cancel()
                await tasks.__aexit__(None, None, None)
        finally:
            await self._core.aclose()

    def __del__(self) -> None:
        core = getattr(self, "_core", None)
        if core is not None and core.is_open:
            warnings.warn(f"unclosed {self!r}: use `async with`", ResourceWarning, source=self, stacklevel=1)

    @override
    def __repr__(self) -> str:
        state = "open" if self._core.is_open else "not open"
        key = mask(self._settings.key.get_secret_value())
        return f"<JamesTronic url={self._settings.url!r} key={key!r} {state}>"
