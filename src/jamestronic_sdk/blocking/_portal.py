"""The thread behind the blocking face: one loop per client, on which the async code runs.

Promises:
    Any number of threads may call at once; each waits for its own answer only.
    Interrupting a thread that waits (Ctrl+C) cancels its call, and nothing else.
    After ``close`` no call waits: those that did raise ClientClosedError, and the thread has ended.

Never:
    A call never waits where waiting cannot end: that raises BlockingCallError instead.
"""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from concurrent.futures import CancelledError
from contextlib import ExitStack
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from anyio.from_thread import start_blocking_portal

from jamestronic_sdk.errors import BlockingCallError, ClientClosedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from anyio.from_thread import BlockingPortal

__all__ = ["Portal", "SubscriberThread"]

_T = TypeVar("_T")

# A client that is dropped unclosed keeps its thread until the program ends: ending it from a destructor
# would block whatever thread the collector runs in.
_OPEN: Final[set[ExitStack]] = set()


class _State(Enum):
    NEW = "new"
    OPEN = "open"
    CLOSED = "closed"


class SubscriberThread(threading.Thread):
    """A thread of ours that runs a program's callback: closing never waits for one on behalf of another."""


class Portal:
    """Runs coroutines on a loop of its own, in a thread of its own, for threads that wait."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._state = _State.NEW
        self._process = os.getpid()
        self._portal: BlockingPortal | None = None
        self._thread: int | None = None
        self._exit: ExitStack | None = None
        self._closed: Final = threading.Event()
        self._dependants: dict[object, Callable[[], None]] = {}

    def __del__(self) -> None:
        if self._portal is not None and not self.is_forked:
            warnings.warn(
                "unclosed blocking JamesTronic client: use `with`, or call `close`",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    @property
    def is_forked(self) -> bool:
        """Whether this is a copy of the process that the thread belongs to."""
        return os.getpid() != self._process

    # -- life --------------------------------------------------------------------------------------

    def open(self, face: AbstractAsyncContextManager[object]) -> None:
        """Start the thread, and enter the async client on its loop; once."""
        self.refuse_bad_places("JamesTronic.__enter__")
        with self._lock:
            if self._state is not _State.NEW:
                raise ClientClosedError(
                    "The client can be opened only once.", next_step="Make a new one for each `with`."
                )
            self._state = _State.OPEN
            try:
                self._exit = self._started(face)
            except BaseException:
                self._mark_closed()
                raise
            _OPEN.add(self._exit)

    def _started(self, face: AbstractAsyncContextManager[object]) -> ExitStack:
        """Start the thread and enter ``face``; what is answered undoes both, and does not refer to us."""
        with ExitStack() as stack:
            # A daemon thread: a program that forgets to close is warned, and still ends.
            portal = stack.enter_context(start_blocking_portal("asyncio", name="jamestronic-sdk"))
            self._thread = portal.call(threading.get_ident)
            # What still waits when everything is closed is cancelled, not waited for.
            stack.callback(portal.call, portal.stop, True)
            stack.enter_context(portal.wrap_async_context_manager(face))
            self._portal = portal
            return stack.pop_all()

    def close(self) -> None:
        """Close what depends on the client, the client, and the thread; idempotent, from any thread."""
        if self.is_forked:
            return  # the parent's sockets and thread are the parent's to close
        with self._lock:
            if self._state is _State.NEW:
                self._mark_closed()
                return
            if self._portal is not None:
                self.refuse_bad_places("JamesTronic.close")
            is_mine, self._portal = self._portal is not None, None
        if is_mine:
            assert self._exit is not None  # noqa: S101 - it is open
            try:
                with self._exit:
                    for close in tuple(self._dependants.values()):
                        close()
            finally:
                _OPEN.discard(self._exit)
                self._mark_closed()
        elif not isinstance(threading.current_thread(), SubscriberThread):
            # Somebody else closes; they may be waiting for a subscriber's callback, so that must not wait.
            self._closed.wait()

    def _mark_closed(self) -> None:
        self._state = _State.CLOSED
        self._closed.set()

    # -- calls -------------------------------------------------------------------------------------

    def run(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Await what ``call`` makes on the loop, and answer its result or raise its error.

        Raises:
            BlockingCallError: This thread must not wait.
            ClientClosedError: The client is not open, or was closed meanwhile.
        """
        portal = self._required()
        try:
            future = portal.start_task_soon(call)
        except RuntimeError as error:  # it stopped just now
            raise _closed() from error
        try:
            return future.result()
        except CancelledError as error:
            raise _closed() from error
        except BaseException:
            future.cancel()  # nothing happens to one that is done; else this thread was interrupted
            raise

    def read(self, look: Callable[[], _T]) -> _T:
        """What ``look`` sees, between two steps of the loop: nothing changes under its eyes."""
        portal = self._portal
        if portal is None or self.is_forked or threading.get_ident() == self._thread:
            return look()
        try:
            future = portal.start_task_soon(look)
        except RuntimeError:  # it stopped just now, so nothing changes any more
            return look()
        try:
            return future.result()
        except CancelledError:
            return look()

    def refuse_bad_places(self, what: str) -> None:
        """Raise BlockingCallError where this thread must not wait."""
        if self.is_forked:
            raise BlockingCallError(
                f"{what}: this process was forked, and the client's thread is in its parent.",
                next_step="Make a client in each process, after the fork.",
            )
        if threading.get_ident() == self._thread:
            raise BlockingCallError(
                f"{what} inside a callback on the client's own thread would wait for itself.",
                next_step="Read only what needs no waiting here, and call from another thread.",
            )
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise BlockingCallError(
            f"{what} on the thread of a running event loop would stop that loop.",
            next_step="Use jamestronic_sdk.JamesTronic there, or await asyncio.to_thread(...).",
        )

    def enter(self, face: AbstractAsyncContextManager[Any]) -> AbstractContextManager[Any]:
        """Enter something on the loop; leave it by the answer's ``__exit__``, in any thread."""
        scope: AbstractContextManager[Any] = self._required().wrap_async_context_manager(face)
        try:
            scope.__enter__()
        except CancelledError as error:
            raise _closed() from error
        return scope

    def leave(self, scope: AbstractContextManager[Any]) -> None:
        """Leave what was entered; nothing happens when the client's closing has done it."""
        try:
            scope.__exit__(None, None, None)
        except CancelledError as error:
            raise _closed() from error
        except RuntimeError:
            if not self._closed.is_set():
                raise

    def add_dependant(self, key: object, close: Callable[[], None]) -> None:
        """Have something closed before the client is."""
        self._dependants[key] = close

    def remove_dependant(self, key: object) -> None:
        """It closed by itself."""
        self._dependants.pop(key, None)

    # -- inside ------------------------------------------------------------------------------------

    def _required(self) -> BlockingPortal:
        self.refuse_bad_places("A blocking call")
        portal = self._portal
        if portal is None:
            if self._state is _State.NEW:
                raise ClientClosedError(
                    "The client is not open.", next_step="Use it inside `with JamesTronic(...) as jt:`."
                )
            raise _closed()
        return portal


def _closed() -> ClientClosedError:
    return ClientClosedError("The client was closed.", next_step="Make a new one.")
