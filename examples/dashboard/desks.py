"""Who is signed in: one desk per sign-in, with one client, one live view and any number of windows.

Promises:
    Client and live view last as long as their desk; nothing is asked while no window is open. Leaving
    ``Desks`` ends everything.
    A window that reads too slowly gets the newest state instead of what it missed.

Never:
    No token of Supabase leaves this process: a browser holds nothing but the key of its desk.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from jamestronic_sdk import JamesTronic, JamesTronicError, Role

from . import wire
from .live import Live

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from jamestronic_sdk import Settings

    from .wire import Json

_log: Final = logging.getLogger("dashboard")

REST: Final = 30.0
"""Seconds without a window after which a live view asks nothing more: longer than a reload or a tunnel."""
IDLE: Final = 8 * 3600.0
"""Seconds without a window after which a desk is cleared: a working day."""
PULSE: Final = 2.0
"""Seconds between signs of life; a window that hears none for three of them says that it is offline."""
FAREWELL: Final = 3.0
"""Seconds to end the session at the server; without an answer it ends there by itself, later."""
MOST_DESKS: Final = 256
MOST_WINDOWS: Final = 16
"""Of one desk. Browsers open six connections to one address, so more come from a program."""
MOST_WAITING: Final = 200
"""Messages that may wait for one window before it gets the whole board instead."""


class FullError(Exception):
    """There are as many desks as the bounds allow."""


class Window:
    """One open page: an async iterator of server-sent events. Use it as a context manager."""

    def __init__(self, desk: Desk) -> None:
        self._desk: Final = desk
        self._waiting: deque[bytes] = deque()
        self._arrived: Final = asyncio.Event()
        self._is_over = False

    def put(self, message: bytes) -> None:
        """Add a message; never waits."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.clear()
            message = wire.message("board", self._desk.board())
        self._waiting.append(message)
        self._arrived.set()

    def end(self) -> None:
        """Let the page go after what waits for it."""
        self._is_over = True
        self._arrived.set()

    def __enter__(self) -> Self:
        self._desk.open_window(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._desk.close_window(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._waiting:
            if self._is_over:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()


class Desk:
    """One sign-in of one person."""

    def __init__(self, desks: Desks, jt: JamesTronic) -> None:
        self.id: Final = secrets.token_urlsafe(6)
        """In the address of the person's pages."""
        self.key: Final = secrets.token_urlsafe(32)
        """In the cookie."""
        self.live: Final = Live(jt, desks.poll_interval, desks.background_delay, self.tell)
        self.me: Final = jt.auth.me
        self._jt: Final = jt
        self._desks: Final = desks
        self._windows: set[Window] = set()
        self._changed: Final = asyncio.Event()
        """Set when a window opens or closes, or when the desk ends; who waits clears it."""
        self._is_over = False

    @property
    def is_office(self) -> bool:
        """Whether the person sees who is online."""
        return self.me.role in {Role.ADMIN, Role.STAFF}

    @property
    def windows(self) -> int:
        """How many pages are open."""
        return len(self._windows)

    @property
    def is_full(self) -> bool:
        """Whether no more pages may open."""
        return self.windows >= MOST_WINDOWS

    def board(self) -> Json:
        """Everything that a window needs to begin."""
        return {**self.live.board(), **self._online()}

    def tell(self, name: str, data: Json) -> None:
        """Tell all windows."""
        message = wire.message(name, data)
        for window in self._windows:
            window.put(message)

    def tell_online(self) -> None:
        """Tell all windows who is online, if that is their business."""
        if self.is_office:
            self.tell("online", self._online())

    def open_window(self, window: Window) -> None:
        """Begin with the board."""
        self._windows.add(window)
        self.live.watch(is_watched=True)
        window.put(wire.message("board", self.board()))
        self._changed.set()
        self._desks.tell_online()

    def close_window(self, window: Window) -> None:
        """Tell it nothing any more; pages that nobody sees let go of their window, too."""
        self._windows.discard(window)
        if not self._windows:
            self.live.watch(is_watched=False)
        self._changed.set()
        self._desks.tell_online()

    def end_windows(self) -> None:
        """Let all pages go."""
        for window in self._windows:
            window.end()

    def end(self) -> None:
        """Sign out; the desk's task does it."""
        self._is_over = True
        self._changed.set()

    async def run(self) -> None:
        """Keep the live view until the session ends, or nobody came for long."""
        async with asyncio.TaskGroup() as tasks:
            live = tasks.create_task(self.live.run(), name="dashboard-live")
            live.add_done_callback(self._live_ended)
            pulse = tasks.create_task(self._pulse(), name="dashboard-pulse")
            while await self._until(lambda: self._is_over or bool(self._windows), IDLE) and not self._is_over:
                await self._until(lambda: self._is_over or not self._windows, None)
            live.cancel()
            pulse.cancel()
        self.tell("closed", {})
        self.end_windows()

    async def _until(self, predicate: Callable[[], bool], seconds: float | None) -> bool:
        """Whether it became true in time."""
        try:
            async with asyncio.timeout(seconds):
                while not predicate():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _pulse(self) -> None:
        while True:
            await asyncio.sleep(PULSE)
            self.tell("sync", self.live.sync())

    def _live_ended(self, live: asyncio.Task[None]) -> None:
        """The live view gives up only when the person's session has ended."""
        if not live.cancelled():
            self.end()

    def _online(self) -> Json:
        return {"online": self._desks.online()} if self.is_office else {}


class Desks:
    """All desks; use it with ``async with``.

    Args:
        settings: Of the project.
        poll_interval: Seconds between reads of a live view while Realtime is down.
        background_delay: Seconds without a window after which a live view asks nothing more.
    """

    def __init__(
        self, settings: Settings, *, poll_interval: float = 10.0, background_delay: float = REST
    ) -> None:
        self.poll_interval: Final = poll_interval
        self.background_delay: Final = background_delay
        self._settings: Final = settings
        self._desks: dict[str, Desk] = {}
        self._tasks: Final = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for desk in self._desks.values():
            desk.end()
        await self._tasks.__aexit__(kind, error, trace)

    async def sign_in(self, *, email: str, password: str) -> Desk:
        """A desk of its own for this sign-in.

        Raises:
            FullError: There are too many.
            JamesTronicError: The person was not let in.
        """
        if len(self._desks) >= MOST_DESKS:
            raise FullError
        ready: asyncio.Future[Desk] = asyncio.get_running_loop().create_future()
        self._tasks.create_task(self._keep(email, password, ready), name="dashboard-desk")
        return await ready

    def find(self, desk_id: str, key: str) -> Desk | None:
        """The desk that the key opens."""
        desk = self._desks.get(desk_id)
        return desk if desk is not None and secrets.compare_digest(desk.key.encode(), key.encode()) else None

    def online(self) -> list[Json]:
        """People with a window open at this dashboard, by name.

        Not everybody who uses the project: the SDK has no public presence.
        """
        here: dict[str, Json] = {}
        for desk in self._desks.values():
            if desk.windows:
                person = here.setdefault(str(desk.me.profile_id), {**wire.me(desk.me), "windows": 0})
                person["windows"] += desk.windows
        return sorted(here.values(), key=lambda person: str(person["name"]))

    def tell_online(self) -> None:
        """Somebody came or left."""
        for desk in self._desks.values():
            desk.tell_online()

    def end_windows(self) -> None:
        """Let all pages go: the server stops."""
        for desk in self._desks.values():
            desk.end_windows()

    async def _keep(self, email: str, password: str, ready: asyncio.Future[Desk]) -> None:
        """The task that a desk and its client belong to."""
        try:
            async with JamesTronic(settings=self._settings) as jt:
                await jt.auth.sign_in(email=email, password=password)
                desk = Desk(self, jt)
                self._desks[desk.id] = desk
                try:
                    _answer(ready, desk)
                    await desk.run()
                finally:
                    del self._desks[desk.id]
                    self.tell_online()
                async with asyncio.timeout(FAREWELL):
                    await jt.auth.sign_out()
        except Exception as error:  # noqa: BLE001 - the supervisor: one desk never ends the others
            if not ready.done():
                ready.set_exception(error)
            elif not isinstance(error, JamesTronicError | TimeoutError):
                _log.exception("a desk of the dashboard failed")


def _answer(ready: asyncio.Future[Desk], desk: Desk) -> None:
    """Hand the desk over; a browser that did not wait for it never will."""
    if ready.cancelled():
        desk.end()
    else:
        ready.set_result(desk)
