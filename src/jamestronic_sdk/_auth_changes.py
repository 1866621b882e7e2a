"""The stream of auth changes: what happened to the session, for programs that show it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from typing_extensions import override

if TYPE_CHECKING:
    from types import TracebackType

    from jamestronic_sdk.auth import Me
    from jamestronic_sdk.errors import JamesTronicError

__all__ = ["AuthChange", "AuthChangeKind", "AuthChanges"]

# A reader that is this far behind is stuck; the newest changes are the ones that count.
_BOUND: Final = 64


class AuthChangeKind(StrEnum):
    """What happened."""

    SIGNED_IN = "signed_in"
    """A person signed in, or a stored session was resumed."""
    TOKEN_REFRESHED = "token_refreshed"  # noqa: S105 - no secret
    """The same person has a new token."""
    PROFILE_RELOADED = "profile_reloaded"
    """Role or profile may have changed (``Auth.reload_me``)."""
    SIGNED_OUT = "signed_out"
    """Nobody is signed in; ``reason`` says why when it was not the program's own wish."""


@dataclass(frozen=True, slots=True)
class AuthChange:
    """One change."""

    kind: AuthChangeKind
    me: Me | None
    """Who is signed in now; None after a sign-out."""
    reason: JamesTronicError | None = None
    """Why the session ended, when the server ended it."""


class AuthChanges(AsyncIterator[AuthChange]):
    """A stream of changes; use it with ``async with``, or call ``aclose``.

    A reader that does not keep up loses the oldest changes (64 are kept) and never the last one.
    """

    def __init__(self, forget: Callable[[AuthChanges], None]) -> None:
        self._forget: Final = forget
        self._queue: Final[deque[AuthChange]] = deque(maxlen=_BOUND)
        self._wake: Final = asyncio.Event()
        self._closed = False

    def put_nowait(self, change: AuthChange) -> None:
        """Take a change in."""
        self._queue.append(change)
        self._wake.set()

    @override
    async def __anext__(self) -> AuthChange:
        """The next change; cancelling loses none."""
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()

    async def __aenter__(self) -> Self:
        """Nothing to do: it listens from the moment it was made."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream: what is queued may still be read, then it stops. Idempotent."""
        self.end()

    def end(self) -> None:
        """The same for code that can't await; on the loop's thread only."""
        self._closed = True
        self._forget(self)
        self._wake.set()
