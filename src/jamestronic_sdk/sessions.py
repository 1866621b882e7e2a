"""Where a session waits for the program's next start: memory (the default), a file, or one's own place.

Promises:
    A file is readable by its owner only and is replaced as a whole: a crash leaves the old or the new one.

Never:
    One stored session for two programs at once: each renewal makes the other's refresh token old.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from typing_extensions import override

__all__ = ["FileSessionStore", "SessionStore"]


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
        await asyncio.to_thread(self._write, session)

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
