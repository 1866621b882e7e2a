"""Where a session waits for the next start: nowhere (the default), a file, a keyring, or one's own place.

Promises:
    A file is readable by its owner only and is replaced as a whole: a crash leaves the old or the new one.
    Programs of one person may share a place: before one renews the session it looks whether another did.

Never:
    No place for two persons: who signs in last is whom it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast, runtime_checkable

from typing_extensions import override

from jamestronic_sdk._inputs import checked_text
from jamestronic_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FileSessionStore", "KeyringSessionStore", "SessionStore"]

_T = TypeVar("_T")

# Two tokens and a few numbers; the claims of a custom hook may make them long.
_LONGEST: Final = 100_000


@runtime_checkable
class SessionStore(Protocol):
    """Keeps one text, which holds tokens: treat it as a password."""

    async def load(self) -> str | None:
        """The text, or None when there is none."""
        ...

    async def save(self, session: str) -> None:
        """Replace the text."""
        ...

    async def clear(self) -> None:
        """Forget the text; nothing happens when there is none."""
        ...


class FileSessionStore(SessionStore):
    """One file, mode 0600, in a folder that it makes with mode 0700 if need be.

    Args:
        path: The file; ``~`` is the home folder.
    """

    def __init__(self, path: str | Path) -> None:
        if not isinstance(cast("object", path), str | Path) or not str(path) or "\x00" in str(path):
            raise ConfigurationError("FileSessionStore takes the path of a file.")
        self._path: Final = Path(path).expanduser()

    @override
    def __repr__(self) -> str:
        return f"FileSessionStore({str(self._path)!r})"

    @override
    async def load(self) -> str | None:
        """The text, or None when there is no file."""
        return await asyncio.to_thread(self._read)

    @override
    async def save(self, session: str) -> None:
        """Write a new file beside the old one, then put it in its place."""
        await asyncio.to_thread(
            self._write, checked_text(session, "session", limit=_LONGEST, may_be_blank=True)
        )

    @override
    async def clear(self) -> None:
        """Remove the file."""
        await asyncio.to_thread(self._path.unlink, missing_ok=True)

    def _read(self) -> str | None:
        try:
            return self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _write(self, session: str) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(session)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            raise


class KeyringSessionStore(SessionStore):
    """The system's keyring (Secret Service, KWallet, ...); needs the extra ``keyring``.

    Args:
        name: The entry's name; one for each project and person that a program signs in.
        service: The entry's group.

    Every method raises ConfigurationError when the extra is not installed, or the keyring is locked or
    missing, as on most servers.
    """

    def __init__(self, name: str = "session", *, service: str = "jamestronic_sdk") -> None:
        self._name: Final = checked_text(name, "name", limit=200)
        self._service: Final = checked_text(service, "service", limit=200)

    @override
    def __repr__(self) -> str:
        return f"KeyringSessionStore({self._name!r}, service={self._service!r})"

    @override
    async def load(self) -> str | None:
        """The text, or None when there is none."""
        return await asyncio.to_thread(self._asked, self._load)

    @override
    async def save(self, session: str) -> None:
        """Replace the entry."""
        text = checked_text(session, "session", limit=_LONGEST, may_be_blank=True)
        await asyncio.to_thread(self._asked, lambda: self._save(text))

    @override
    async def clear(self) -> None:
        """Remove the entry."""
        await asyncio.to_thread(self._asked, self._clear)

    def _asked(self, call: Callable[[], _T]) -> _T:
        try:
            from keyring.errors import KeyringError  # noqa: PLC0415 - an extra
        except ImportError:
            raise ConfigurationError(
                "KeyringSessionStore needs the package keyring.",
                next_step="pip install 'jamestronic_sdk[keyring]'",
            ) from None
        try:
            return call()
        except KeyringError as error:
            # Its text may name the entry and the backend, never the secret; its class says enough.
            raise ConfigurationError(
                f"The system's keyring can't be used ({type(error).__name__}).",
                next_step="Unlock it, or use FileSessionStore.",
            ) from error

    def _load(self) -> str | None:
        import keyring  # noqa: PLC0415 - an extra

        return keyring.get_password(self._service, self._name)

    def _save(self, session: str) -> None:
        import keyring  # noqa: PLC0415 - an extra

        keyring.set_password(self._service, self._name, session)

    def _clear(self) -> None:
        import keyring  # noqa: PLC0415 - an extra

        if keyring.get_password(self._service, self._name) is not None:
            keyring.delete_password(self._service, self._name)
