"""The SQL that ships with this package: found, exported for the Supabase CLI, and checked in a database.

``supabase/sql/NNN_what.sql`` is the one source of the database. The CLI applies
``supabase/migrations`` only, and never applies an edited file again; so ``export`` writes numbered
copies, a new one for each file that changed.

Promises:
    The files come in the order in which they apply.
    An export of unchanged files writes nothing; new copies sort after every migration that is there.
    A file is there completely or not at all, also when the export is interrupted.

    A check only reads.

Never:
    No clock: the caller says what time it is. Nothing but ``check`` connects to a database.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, LiteralString

from jamestronic_sdk.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.resources.abc import Traversable

__all__ = ["SqlFile", "SqlProblem", "check", "export", "files"]

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

    @property
    def migration(self) -> str:
        """What is applied: header, text, and a statement that records this version in the database."""
        return (
            f"{self.header}\n{self.text}\n"
            "insert into private.sql_files (name, checksum)\n"
            f"values ('{self.name}', '{self.checksum}')\n"
            "on conflict on constraint sql_files_pkey\n"
            "do update set checksum = excluded.checksum, applied_at = now();\n"
        )


@dataclass(frozen=True, slots=True)
class SqlProblem:
    """One thing that ``check`` found."""

    file: str
    """File name, for example ``020_functions.sql``."""
    kind: Literal["missing", "outdated", "altered"]
    """``missing``: not applied, or an object of it is not there. ``outdated``: another version of the file
    was applied last. ``altered``: a function in the database is not the one in the file."""
    what: str
    """The file, or the object, for example ``function private.my_role``."""


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


def check(database_url: str, *, timeout: float = 10.0) -> tuple[SqlProblem, ...]:
    """Compare a database with the SQL files of this package; reads only.

    Looks at the recorded version of each file, at the presence of every table, function, policy, trigger
    and index that the files create, and at the functions' text. A database whose files were applied by
    hand has no record and is told by its objects alone.

    Args:
        database_url: A libpq URL of a role that may read the catalogue, for example the project's
            ``postgres``.
        timeout: Seconds to connect.

    Returns:
        What is missing, outdated or altered, by file; empty when the database is up to date.

    Raises:
        SqlError: psycopg is not installed (extra ``local``), or the database could not be read.
    """
    try:
        import psycopg  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SqlError(
            "sql check needs psycopg.", next_step="Install the extra: pip install 'jamestronic_sdk[local]'."
        ) from error
    sources = files()
    try:
        with psycopg.connect(database_url, connect_timeout=max(2, round(timeout))) as connection:
            connection.read_only = True
            has_record = connection.execute(_HAS_RECORD).fetchone() != (None,)
            rows = connection.execute(_RECORDED).fetchall() if has_record else []
            recorded = {str(name): str(checksum) for name, checksum in rows}
            present = {(str(kind), str(name)): str(text) for kind, name, text in connection.execute(_OBJECTS)}
    except psycopg.Error as error:
        raise SqlError(
            f"The database can't be read [{error.sqlstate or type(error).__name__}].",
            next_step="Check the URL, and that the role may read schema private.",
        ) from error
    return tuple(problem for file in sources for problem in _problems(file, recorded, present))


_HAS_RECORD: Final[LiteralString] = "select to_regclass('private.sql_files')"
_RECORDED: Final[LiteralString] = "select name, checksum from private.sql_files"
_OBJECTS: Final[LiteralString] = """
select 'function', n.nspname || '.' || p.proname, p.prosrc
from pg_catalog.pg_proc as p join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
union all
select
  case c.relkind when 'i' then 'index' when 'S' then 'sequence' else 'table' end,
  n.nspname || '.' || c.relname,
  ''
from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'i', 'S')
union all
select 'policy', p.polname || ' on ' || n.nspname || '.' || c.relname, ''
from pg_catalog.pg_policy as p
join pg_catalog.pg_class as c on c.oid = p.polrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
union all
select 'trigger', t.tgname || ' on ' || n.nspname || '.' || c.relname, ''
from pg_catalog.pg_trigger as t
join pg_catalog.pg_class as c on c.oid = t.tgrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where not t.tgisinternal
"""

# What the files create, by the way that they are written (tests/unit/test_sql.py keeps them to it).
_FUNCTION: Final = re.compile(
    r"^create or replace function (?P<name>[\w.]+)\(.*?\nas \$\$(?P<body>.*?)\$\$;", re.MULTILINE | re.DOTALL
)
_CREATED: Final = re.compile(
    r"^create (?:(?P<table>table|sequence) if not exists (?P<table_name>[\w.]+)"
    r"|index if not exists (?P<index>\w+)\s+on (?P<index_schema>\w+)\."
    r"|policy (?P<policy>\w+) on (?P<policy_table>[\w.]+)"
    r"|or replace trigger (?P<trigger>\w+)\s[^;]*? on (?P<trigger_table>[\w.]+))",
    re.MULTILINE,
)


def _problems(
    file: SqlFile, recorded: dict[str, str], present: dict[tuple[str, str], str]
) -> Iterator[SqlProblem]:
    """What is wrong with one file in a database."""
    if recorded and recorded.get(file.name) != file.checksum:
        yield SqlProblem(file.name, "outdated" if file.name in recorded else "missing", file.name)
    for kind, name, body in _objects(file.text):
        text = present.get((kind, name))
        if text is None:
            yield SqlProblem(file.name, "missing", f"{kind} {name}")
        elif body is not None and text != body:
            yield SqlProblem(file.name, "altered", f"{kind} {name}")


def _objects(text: str) -> Iterator[tuple[str, str, str | None]]:
    """Kind, name, and for a function the text, of each object that a file always creates.

    What stands inside a ``do`` block is indented and depends on the database: it is not counted.
    """
    for match in _CREATED.finditer(text):
        if match["table"]:
            yield match["table"], match["table_name"], None
        elif match["index"]:
            yield "index", f"{match['index_schema']}.{match['index']}", None
        elif match["policy"]:
            yield "policy", f"{match['policy']} on {match['policy_table']}", None
        else:
            yield "trigger", f"{match['trigger']} on {match['trigger_table']}", None
    for match in _FUNCTION.finditer(text):
        yield "function", match["name"], match["body"]


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
        half.write_text(file.migration, encoding="utf-8", newline="\n")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    return path
