"""Where who is signed in is kept between two commands.

Promises:
    The file is readable by its owner only; with ``login --keyring`` it holds no secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typing_extensions import override

from jamestronic_sdk.sessions import FileSessionStore, KeyringSessionStore, SessionStore

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KeptSession"]

_IN_KEYRING: Final = '{"kept_in": "keyring"}'


class KeptSession(SessionStore):
    """A file; or the keyring, and then the file says so.

    Args:
        path: The file.
        host: The project's host: the name of the keyring's entry.
        keyring: Keep it there (True) or in the file (False) from now on; None: where it is.
    """

    def __init__(self, path: Path, host: str, *, keyring: bool | None = None) -> None:
        self.path: Final = path
        self._file: Final = FileSessionStore(path)
        self._ring: Final = KeyringSessionStore(host, service="jamestronic")
        self._keyring: Final = keyring

    async def is_in_keyring(self) -> bool:
        """Whether the keyring has it."""
        return await self._file.load() == _IN_KEYRING

    @override
    async def load(self) -> str | None:
        """The session, or None."""
        text = await self._file.load()
        return await self._ring.load() if text == _IN_KEYRING else text

    @override
    async def save(self, session: str) -> None:
        """Replace it."""
        was_in_keyring = await self.is_in_keyring()
        if self._keyring or (self._keyring is None and was_in_keyring):
            await self._ring.save(session)
            await self._file.save(_IN_KEYRING)
            return
        await self._file.save(session)
        if was_in_keyring:
            await self._ring.clear()

    @override
    async def clear(self) -> None:
        """Forget it."""
        if await self.is_in_keyring():
            await self._ring.clear()
        await self._file.clear()
