"""Folders that another user must be able to enter, and copies of programs that another user can read.

Promises:
    Only folders that this package made are changed.

Never:
    No ``chmod`` or ``chown`` of anything that was there before.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jamestronic_sdk.errors import LocalStackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jamestronic_sdk.local._processes import Account

__all__ = ["barrier", "readable_copy", "temporary_folder", "temporary_parents"]

_CACHE: Final = Path("/var/cache/jamestronic")
_ENTER: Final = stat.S_IXOTH
_READ: Final = stat.S_IROTH


def barrier(path: Path, account: Account | None) -> Path | None:
    """The first folder on the way to ``path`` that the account can't enter; None when the way is free.

    Folders that do not exist yet are no barrier.
    """
    if account is None:
        return None
    absolute = path.resolve()
    for folder in (*reversed(absolute.parents), absolute):
        try:
            status = folder.stat()
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(status.st_mode) and not _may(status, account, _ENTER):
            return folder
    return None


def temporary_parents(account: Account | None) -> list[Path]:
    """The machine's folders for temporary things that the account can enter, the best first."""
    named = dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp"))  # noqa: S108 - only mkdtemp writes there
    return [Path(name) for name in named if Path(name).is_dir() and barrier(Path(name), account) is None]


def temporary_folder(prefix: str, account: Account | None) -> Path:
    """A new folder for temporary things that the account can enter but not list.

    Raises:
        LocalStackError: There is no such place.
    """
    for parent in temporary_parents(account):
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        if account is not None:
            folder.chmod(0o711)
        return folder
    raise LocalStackError(
        "No temporary folder can be entered by the user `nobody`.", next_step="Set TMPDIR to one that can."
    )


def readable_copy(root: Path, parts: Sequence[str], account: Account | None, *, label: str) -> Path:
    """``root`` itself when the account can read the parts of it; else a copy, made once, that it can read.

    The copy is named by its content, belongs to this user, and appears whole or not at all.

    Args:
        root: A folder; its parts lie in the copy as they lie in it: programs find each other that way.
        parts: Programs and folders below it; those that do not exist are left out.
        account: Who reads them; None = whoever asks, who needs no copy.
        label: Start of the copy's name.

    Raises:
        LocalStackError: There is no place for a copy.
    """
    if account is None:
        return root
    present = [root / part for part in parts if (root / part).exists()]
    files = sorted(path for part in present for path in _walk(part))
    if all(barrier(part.parent, account) is None for part in present) and all(
        _readable(path, account) for path in files
    ):
        return root
    cache = _cache_folder(account)
    copy = cache / f"{label}-{_fingerprint(root, files)}"
    if copy.exists():
        return copy
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
    try:
        for part in present:
            target = building / "copy" / part.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if part.is_dir():
                shutil.copytree(part, target, symlinks=True)
            else:
                shutil.copy2(part, target)
        _open_up(building / "copy")
        try:
            (building / "copy").rename(copy)
        except OSError:
            if not copy.exists():  # else somebody else was faster, with the same content
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return copy


def _fingerprint(root: Path, files: Iterable[Path]) -> str:
    """Names and contents, so that a copy of other files has another name."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(os.fsencode(path.relative_to(root)) + b"\0")
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _open_up(copy: Path) -> None:
    """Let everybody read our own copy."""
    for path in _walk(copy):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)


def _may(status: os.stat_result, account: Account, bit: int) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & (bit << 6))
    if status.st_gid == account.gid:
        return bool(status.st_mode & (bit << 3))
    return bool(status.st_mode & bit)


def _readable(path: Path, account: Account) -> bool:
    status = path.stat()
    wanted = [_READ]
    if stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_IXUSR:
        wanted.append(_ENTER)
    return all(_may(status, account, bit) for bit in wanted)


def _walk(part: Path) -> Iterable[Path]:
    """The part and everything in it."""
    yield part
    for folder, folders, files in os.walk(part):
        yield from (Path(folder) / name for name in (*folders, *files))


def _cache_folder(account: Account) -> Path:
    """An own folder for copies that the account can enter."""
    fallback = Path(tempfile.gettempdir()) / f"jamestronic-cache-{os.geteuid()}"
    for candidate in (_CACHE, fallback):
        if barrier(candidate.parent, account) is not None:
            continue
        try:
            candidate.mkdir(mode=0o755, exist_ok=True)
            status = candidate.lstat()
        except OSError:
            continue
        # In a shared folder somebody else could have made it first, and would own what we then run.
        ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
        if (
            ours
            and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            and barrier(candidate, account) is None
        ):
            return candidate
    raise LocalStackError(
        f"No cache folder for copies that the user `nobody` can read; tried {_CACHE} and {fallback}.",
        next_step="Start the local stack as an ordinary user.",
    )
