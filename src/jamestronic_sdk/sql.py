"""The SQL that ships with this package: found, checked, and exported for the Supabase CLI.

``supabase/sql/NNN_what.sql`` is the one source of the database. The CLI applies
``supabase/migrations`` only, and never applies an edited file again; so ``export`` writes numbered
copies, a new one for each file that changed.

Promises:
    The files come in the order in which they apply.
    An export of unchanged files writes nothing; new copies sort after every migration that is there.
    A file is there completely or not at all, also when the export is interrupted.

Never:
    No clock: the caller says what time it is. No database, no network.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jamestronic_sdk.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.resources.abc import Traversable

__all__ = ["SqlFile", "export", "files"]

_NAME: Final = re.compile(r"(?P<number>[0-9]{3})_[a-z][a-z0-9_]*\.sql")
# The CLI takes any digits before the first underscore as the version; it writes 14 itself.
_MIGRATION: Final = re.compile(r"(?P<version>[0-9]+)_(?P<stem>.+)\.sql")
_HEADER: Final = re.compile(r"-- jamestronic_sdk: (?P<name>\S+) sha256:(?P<checksum>[0-9a-f]{64})")
_VERSION_FORMAT: Final = "%Y%m%d%H%M%S"


@dataclass(frozen=True, slots=True)
class SqlFile:
    """One file of ``supabase/sql``."""

    name: str
    """File name, for example ``010_schema.sql``; the number gives the order."""
    stem: str
    """The name without ``.sql``; exported copies keep it."""
    text: str = field(repr=False)
    """The whole file, lines ended by ``\\n``."""
    checksum: str
    """SHA-256 of ``text`` in UTF-8, 64 hexadecimal digits."""

    @property
    def header(self) -> str:
        """The first line of an exported copy, by which the next export knows it again."""
        return f"-- jamestronic_sdk: {self.name} sha256:{self.checksum}"


def files() -> tuple[SqlFile, ...]:
    """The SQL files, in the order in which they apply.

    Returns:
        The files of the installed package, or of the source checkout that it runs from.

    Raises:
        SqlError: There are none, one is empty or not UTF-8, or a name is malformed or has another's number.
    """
    folder = _folder()
    entries = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=_name)
    if not entries:
        raise SqlError("The folder of the SQL files is empty.", next_step="Install the package again.")
    found = tuple(_read(entry) for entry in entries)
    for before, after in pairwise(found):
        if before.name[:3] == after.name[:3]:
            raise SqlError(
                f"{before.name} and {after.name} have the same number.", next_step="Give each file its own."
            )
    return found


def export(target: Path, *, now: datetime) -> list[Path]:
    """Write migrations for the Supabase CLI: a copy of each file whose newest copy is not this version.

    Args:
        target: The folder of migrations, usually ``supabase/migrations``; made if it is not there.
            Other files in it are left alone.
        now: The present moment, aware. The first copy's version is this second, or the one after the
            newest migration in the folder if that is later; each further copy is a second later.

    Returns:
        The files written, in order; empty when there is nothing new.

    Raises:
        SqlError: ``now`` is naive, a source file is malformed, or the folder can't be read or written.
            Copies written before the failure stay, and are complete.
    """
    if now.tzinfo is None:
        raise SqlError("export: `now` has no time zone.", next_step="Pass datetime.now(UTC).")
    sources = files()
    try:
        target.mkdir(parents=True, exist_ok=True)
        migrations = sorted(_migrations(target))
        exported = _newest_checksums(target / name for _, name in migrations)
        pending = [file for file in sources if exported.get(file.name) != file.checksum]
        version = _first_version(now, (version for version, _ in migrations))
        return [
            _write(target / f"{version + timedelta(seconds=n):{_VERSION_FORMAT}}_{file.stem}.sql", file)
            for n, file in enumerate(pending)
        ]
    except OSError as error:
        raise SqlError(
            f"The migrations can't be written: {error.strerror or type(error).__name__}.",
            next_step=f"Check the folder {target}.",
        ) from error


def _folder() -> Traversable:
    """Where the wheel puts the files (pyproject's force-include), else the checkout's own folder."""
    packaged = resources.files("jamestronic_sdk") / "_sql"
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).resolve().parents[2] / "supabase" / "sql"
    if checkout.is_dir():
        return checkout
    raise SqlError("The SQL files are not installed.", next_step="Install the package again.")


def _name(entry: Traversable) -> str:
    return entry.name


def _read(entry: Traversable) -> SqlFile:
    if _NAME.fullmatch(entry.name) is None:
        raise SqlError(
            f"{entry.name!r} is not a name of an SQL file.", next_step="Name it as 010_schema.sql is named."
        )
    try:
        # Not read_text: a checkout with CRLF line ends must give the same checksum.
        text = entry.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SqlError(f"{entry.name} can't be read.", next_step="Install the package again.") from error
    if not text.strip():
        raise SqlError(f"{entry.name} is empty.", next_step="Install the package again.")
    return SqlFile(
        name=entry.name,
        stem=entry.name.removesuffix(".sql"),
        text=text,
        checksum=hashlib.sha256(text.encode("utf-8")).hexdigest(),
    )


def _migrations(target: Path) -> Iterator[tuple[int, str]]:
    """Version and name of each file that the CLI would take for a migration."""
    for path in target.iterdir():
        match = _MIGRATION.fullmatch(path.name)
        if match is not None:
            yield int(match["version"]), path.name


def _newest_checksums(paths: Iterable[Path]) -> dict[str, str]:
    """Source name to checksum of its newest copy; ``paths`` in order of version."""
    found: dict[str, str] = {}
    for path in paths:
        with path.open(encoding="utf-8", errors="replace") as lines:
            match = _HEADER.match(lines.readline())
        if match is not None:
            found[match["name"]] = match["checksum"]
    return found


def _first_version(now: datetime, taken: Iterable[int]) -> datetime:
    """The first free second: the CLI refuses a new file that sorts before an applied one."""
    first = now.astimezone(UTC).replace(microsecond=0)
    newest = max(taken, default=0)
    if newest < int(f"{first:{_VERSION_FORMAT}}"):
        return first
    try:
        return datetime.strptime(str(newest), _VERSION_FORMAT).replace(tzinfo=UTC) + timedelta(seconds=1)
    except ValueError as error:
        raise SqlError(
            f"The migration numbered {newest} is later than now and is not a time.",
            next_step="Rename it, so that new migrations can sort after it.",
        ) from error


def _write(path: Path, file: SqlFile) -> Path:
    half = path.with_name(f".{path.name}.part")
    try:
        half.write_text(f"{file.header}\n{file.text}", encoding="utf-8", newline="\n")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    return path
