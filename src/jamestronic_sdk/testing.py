"""A pytest plugin for programs that use the SDK: a local stack, people, and a clean database for each test.

In ``conftest.py``::

    pytest_plugins = ["jamestronic_sdk.testing"]

Promises:
    One stack for the whole run; whatever a test wrote is gone before the next one that asks for a client.
    Every client is closed when its test ends, and lives on the event loop of its test.

Never:
    Not for a project that real people use, and nothing is reset that the plugin did not start.
"""

from __future__ import annotations

import asyncio
import time
import types
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import uuid4

import bcrypt
import httpx
import pytest
import pytest_asyncio

from jamestronic_sdk import blocking
from jamestronic_sdk.client import JamesTronic
from jamestronic_sdk.local.stack import LocalSupabase
from jamestronic_sdk.models import Role, Ticket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator

__all__ = ["MakeBlockingClient", "MakeClient", "ManualClock", "Person", "make_person", "serving"]

_PASSWORD: Final = "only-for-tests"  # noqa: S105 - of people who live for one test
_PASSWORD_HASH: Final = bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt(rounds=4)).decode()
"""Hashed the quick way and once: a good hash takes longer than most tests."""

_START_TIMEOUT: Final = 120.0
"""Seconds; more than all limits inside of the stack."""


@dataclass(frozen=True, slots=True)
class Person:
    """An account that was made for a test."""

    email: str
    role: Role
    password: str = field(default=_PASSWORD, repr=False)


class MakeClient(Protocol):
    """What the fixture ``make_client`` gives."""

    def __call__(self, role: Role | str | None, **options: Any) -> Awaitable[JamesTronic[Ticket]]:  # noqa: ANN401 - JamesTronic's own
        """A client of a new person with this role; closed when the test ends.

        Args:
            role: The person's; ``"service"`` = the service key; None = nobody is signed in.
            **options: For ``JamesTronic``, for example ``retries=0``.
        """
        ...


class MakeBlockingClient(Protocol):
    """What the fixture ``make_blocking_client`` gives."""

    def __call__(self, role: Role | str | None, **options: Any) -> blocking.JamesTronic[Ticket]:  # noqa: ANN401 - JamesTronic's own
        """As ``MakeClient``, for code without an event loop."""
        ...


class ManualClock:
    """Time that moves when told, for ``JamesTronic(clock=...)``; ``sleep`` moves it and returns at once."""

    def __init__(self) -> None:
        self._time = 1_000_000.0
        self._wall: Final = time.time() - self._time
        self._moved = asyncio.Event()

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return self._time

    def wall(self) -> float:
        """Seconds since 1970: the machine's time when the clock was made, and what was advanced since."""
        return self._wall + self._time

    async def sleep(self, seconds: float) -> None:
        """Move the time, and let others run."""
        self.advance(seconds)
        await asyncio.sleep(0)

    async def wait(self, event: asyncio.Event, limit: float | None) -> bool:
        """Wait for an event at most ``limit`` seconds of this clock; whether it came."""
        deadline = None if limit is None else self._time + limit
        while not event.is_set():
            if deadline is not None and self._time >= deadline:
                return False
            moved = self._moved
            async with asyncio.TaskGroup() as group:
                waits = [group.create_task(event.wait()), group.create_task(moved.wait())]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for one in waits:
                    one.cancel()
        return True

    def advance(self, seconds: float) -> None:
        """Move the time and wake who waits for it."""
        self._time += seconds
        self._moved.set()
        self._moved = asyncio.Event()


@contextmanager
def serving(**options: Any) -> Generator[LocalSupabase]:  # noqa: ANN401 - LocalSupabase's own
    """An ephemeral stack, in a thread with an event loop of its own: a test that blocks does not stop it.

    Args:
        **options: For ``LocalSupabase``; ``port`` is 0 unless given.

    Raises:
        JamesTronicError: It did not start.
    """
    options.setdefault("port", 0)
    stack = LocalSupabase(**options)
    started: Future[asyncio.AbstractEventLoop] = Future()

    async def serve() -> None:
        try:
            async with stack:
                started.set_result(asyncio.get_running_loop())
                await stack.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-supabase") as executor:
        running = executor.submit(asyncio.run, serve())
        loop = started.result(timeout=_START_TIMEOUT)
        try:
            yield stack
        finally:
            if not running.done():
                loop.call_soon_threadsafe(stack.stop)
            running.result(timeout=_START_TIMEOUT)


def make_person(stack: LocalSupabase, role: Role | str) -> Person:
    """A confirmed account with a profile of this role. Blocks for some milliseconds.

    Raises:
        ValueError: There is no such role.
    """
    person = Person(f"{uuid4().hex[:12]}@example.test", Role(role))
    response = httpx.post(
        f"{stack.url}/auth/v1/admin/users",
        headers={"apikey": stack.service_role_key, "Authorization": f"Bearer {stack.service_role_key}"},
        json={
            "email": person.email,
            "password_hash": _PASSWORD_HASH,
            "email_confirm": True,
            "app_metadata": {"role": person.role.value},
            "user_metadata": {"full_name": f"{person.role.value.capitalize()} of a test"},
        },
        timeout=30,
        trust_env=False,
    )
    response.raise_for_status()
    return person


# --- the stack ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def local_supabase_options() -> dict[str, Any]:
    """How the stack is started: arguments of ``LocalSupabase``. Override it in your ``conftest.py``."""
    return {}


@pytest.fixture(scope="session")
def local_supabase_setup() -> Callable[[LocalSupabase], object] | None:
    """What each test begins with, beside the package's SQL: a function that makes it, once. Override it."""
    return None


@pytest.fixture(scope="session")
def local_supabase(
    local_supabase_options: dict[str, Any],
    local_supabase_setup: Callable[[LocalSupabase], object] | None,
) -> Iterator[LocalSupabase]:
    """The stack of the whole run, with whatever the tests so far have left in it."""
    with serving(**local_supabase_options) as stack:
        if local_supabase_setup is not None:
            local_supabase_setup(stack)
            asyncio.run(stack.save())
        yield stack


@pytest.fixture
def fresh_supabase(local_supabase: LocalSupabase) -> LocalSupabase:
    """The stack as it was at first: no people, no tickets, no mail, no faults. Milliseconds."""
    with ThreadPoolExecutor(max_workers=1) as executor:  # this thread may have a running loop
        executor.submit(asyncio.run, local_supabase.reset()).result()
    return local_supabase


# --- clients without an event loop --------------------------------------------------------------------------


@pytest.fixture
def make_blocking_client(fresh_supabase: LocalSupabase) -> Iterator[MakeBlockingClient]:
    """Clients of new people, for code without an event loop."""
    with ExitStack() as resources:

        def make(role: Role | str | None, **options: Any) -> blocking.JamesTronic[Ticket]:  # noqa: ANN401
            key = _key(fresh_supabase, role)
            jt: blocking.JamesTronic[Ticket] = blocking.JamesTronic(
                fresh_supabase.url, key, env_file=None, **options
            )
            resources.enter_context(jt)
            if role not in _WITHOUT_PERSON:
                person = make_person(fresh_supabase, role)
                jt.auth.sign_in(email=person.email, password=person.password)
            return jt

        yield make


@pytest.fixture
def blocking_admin_client(make_blocking_client: MakeBlockingClient) -> blocking.JamesTronic[Ticket]:
    """An admin, signed in, for code without an event loop."""
    return make_blocking_client(Role.ADMIN)


@pytest.fixture
def blocking_technician_client(make_blocking_client: MakeBlockingClient) -> blocking.JamesTronic[Ticket]:
    """A technician, signed in, for code without an event loop."""
    return make_blocking_client(Role.TECHNICIAN)


_SERVICE: Final = "service"
_WITHOUT_PERSON: Final = (None, _SERVICE)


def _key(stack: LocalSupabase, role: Role | str | None) -> str:
    return stack.service_role_key if role == _SERVICE else stack.anon_key


# --- clients ------------------------------------------------------------------------------------------------


async def _make_client(fresh_supabase: LocalSupabase) -> AsyncGenerator[MakeClient]:
    """Clients of new people."""
    async with AsyncExitStack() as resources:

        async def make(role: Role | str | None, **options: Any) -> JamesTronic[Ticket]:  # noqa: ANN401
            key = _key(fresh_supabase, role)
            jt: JamesTronic[Ticket] = JamesTronic(fresh_supabase.url, key, env_file=None, **options)
            await resources.enter_async_context(jt)
            if role is not None and role != _SERVICE:
                person = await asyncio.to_thread(make_person, fresh_supabase, role)
                await jt.auth.sign_in(email=person.email, password=person.password)
            return jt

        yield make


async def _admin_client(make_client: MakeClient) -> JamesTronic[Ticket]:
    """An admin, signed in."""
    return await make_client(Role.ADMIN)


async def _technician_client(make_client: MakeClient) -> JamesTronic[Ticket]:
    """A technician, signed in."""
    return await make_client(Role.TECHNICIAN)


def pytest_configure(config: pytest.Config) -> None:
    """Make the fixtures with clients: they live on the loop that this run's tests have."""
    scope: Any = config.getini("asyncio_default_test_loop_scope")
    clients = types.ModuleType(f"{__name__} (clients)")
    for name, fixture in (
        ("make_client", _make_client),
        ("admin_client", _admin_client),
        ("technician_client", _technician_client),
    ):
        setattr(clients, name, pytest_asyncio.fixture(fixture, loop_scope=scope, name=name))
    config.pluginmanager.register(clients, clients.__name__)
