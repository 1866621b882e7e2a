"""LocalSupabase: one local stack from the first ``initdb`` to the last process.

Promises:
    Entered means ready: SQL applied, PostgREST's schema cache loaded, Auth and Realtime answering.
    Whatever fails or is cancelled, what was started is stopped; an ephemeral stack leaves no folder.
    One task owns all of it, so that it does not matter which task enters and which one leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, cast

import aiohttp

from jamestronic_sdk import sql
from jamestronic_sdk.errors import LocalStackError
from jamestronic_sdk.local._folders import temporary_folder, temporary_parents
from jamestronic_sdk.local._processes import Account, Identity, PortReservation, listen
from jamestronic_sdk.local.auth.app import MAILBOX
from jamestronic_sdk.local.auth.app import make_app as make_auth_app
from jamestronic_sdk.local.bootstrap import apply_sql, bootstrap, bootstrap_checksum
from jamestronic_sdk.local.gateway import Gateway, Keys
from jamestronic_sdk.local.instance import EPHEMERAL_PREFIX, DataFolder, Instance
from jamestronic_sdk.local.postgres import Cluster, find_installation, last_line
from jamestronic_sdk.local.postgres import recover as recover_postgres
from jamestronic_sdk.local.postgrest import PostgREST, find_postgrest
from jamestronic_sdk.local.postgrest import recover as recover_postgrest
from jamestronic_sdk.local.realtime.app import REALTIME
from jamestronic_sdk.local.realtime.app import make_app as make_realtime_app
from jamestronic_sdk.local.tokens import SigningKey

if TYPE_CHECKING:
    import socket
    from pathlib import Path
    from types import TracebackType

    from jamestronic_sdk.local.auth.settings import AuthSettings
    from jamestronic_sdk.local.context import LocalContext
    from jamestronic_sdk.local.gateway import RealtimeControl

__all__ = ["DEFAULT_PORT", "LocalSupabase"]

_log: Final = logging.getLogger("jamestronic_sdk.local")

DEFAULT_PORT: Final = 54321
"""The gateway's port of the Supabase CLI's own local stack."""

_START_TIMEOUT: Final = 60.0
"""Seconds for each child to become ready. Two seconds are usual; a cold disk and a busy machine need more."""


class LocalSupabase:
    """A Supabase for this machine, for development and tests only.

    ::

        async with LocalSupabase() as supabase:
            client = await acreate_client(supabase.url, supabase.anon_key)

    Args:
        data_dir: Where the data live; None = a temporary folder that is removed at the end.
        port: The gateway's port on loopback; 0 = any free one.
        apply_sql: Apply the package's SQL (``supabase/sql``) when it changed since the last start.
        auth: Settings of the Auth server; None = those of a hosted project with autoconfirm.
        asymmetric: Sign users' tokens with a key pair (ES256) from now on, as newer hosted projects do, and
            publish it. False leaves the instance as it is: a new one signs with the secret (HS256).

    Raises:
        AlreadyRunningError: A stack runs on ``data_dir``.
        PortInUseError: ``port`` is taken.
        ToolMissingError: PostgreSQL or PostgREST is not there.
        SqlError: A file of ``supabase/sql`` failed.
        LocalStackError: Anything else; what had been started is stopped again.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int = DEFAULT_PORT,
        apply_sql: bool = True,
        auth: AuthSettings | None = None,
        asymmetric: bool = False,
    ) -> None:
        self._given_folder: Final = data_dir
        self._port: Final = port
        self._apply_sql: Final = apply_sql
        self._auth: Final = auth
        self._asymmetric: Final = asymmetric
        self._stop: Final = asyncio.Event()
        self._ready: Final = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._failure: BaseException | None = None
        self._running: _Running | None = None

    # --- life ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start; returns when everything answers. Cancelling stops what was started."""
        if self._group is not None:
            raise LocalStackError("A LocalSupabase starts once.", next_step="Make a new one.")
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._group.create_task(self._own(), name="local supabase")
        try:
            await self._ready.wait()
        except BaseException as error:
            await self._leave(error)
            raise
        if self._running is None:
            await self._leave(None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything; takes a second, and is bounded. Cancelling makes it ruder, not incomplete."""
        await self._leave(None)

    async def _leave(self, error: BaseException | None) -> None:
        """Wait for the owner's end; raise what it died of.

        Args:
            error: Given, it makes the owner stop in the middle of starting.
        """
        assert self._group is not None  # noqa: S101 - only called after entering
        self._stop.set()
        try:
            await self._group.__aexit__(type(error) if error else None, error, None)
        except BaseExceptionGroup as group:
            if error is not None and self._failure is None:
                raise error from None
            raise self._failure or group from None
        if self._failure is not None and error is None:
            raise self._failure

    async def wait(self) -> None:
        """Wait until somebody calls ``stop``. A stack that dies cancels the block that entered it instead."""
        await self._stop.wait()

    def stop(self) -> None:
        """Ask the stack to stop; safe in a signal handler of the event loop."""
        self._stop.set()

    async def _own(self) -> None:
        """The task that everything belongs to."""
        try:
            await self._run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - kept, and raised where somebody waits for it
            self._failure = _single(error)
            if self._running is not None:
                raise self._failure from None  # cancels the block that entered, through the group
        finally:
            self._ready.set()

    async def _run(self) -> None:
        account = Account.unprivileged()
        find_installation()
        postgrest_program = find_postgrest()
        async with AsyncExitStack() as resources:
            listener = resources.enter_context(listen(self._port))
            ephemeral = self._given_folder is None
            if self._given_folder is None:
                await asyncio.to_thread(_remove_abandoned, account)
                path = temporary_folder(EPHEMERAL_PREFIX, account)
                resources.push_async_callback(_remove, path)
            else:
                path = self._given_folder
            data = DataFolder(path)
            data.prepare(account)
            resources.enter_context(data.lock())
            instance = replace(
                data.read() or Instance.new(),
                port=listener.getsockname()[1],
                supervisor=Identity.current(),
            )
            if self._asymmetric and instance.signing_key is None:
                instance = replace(instance, signing_key=SigningKey.new().to_jwk())
            database = resources.enter_context(
                PortReservation(instance.database_port or listener.getsockname()[1] + 1)
            )
            instance = replace(instance, database_port=database.port)
            data.write(instance)
            resources.callback(data.update, supervisor=None)
            await asyncio.to_thread(recover_postgrest, data.postgrest_pid)
            await self._serve(data, instance, listener, database, postgrest_program, ephemeral=ephemeral)

    async def _serve(
        self,
        data: DataFolder,
        instance: Instance,
        listener: socket.socket,
        database: PortReservation,
        postgrest_program: Path,
        *,
        ephemeral: bool,
    ) -> None:
        context = instance.context()
        cluster = Cluster(
            data.cluster,
            log=data.log("postgres.log"),
            password=instance.database_password,
            ephemeral=ephemeral,
        )
        await asyncio.to_thread(recover_postgres, data.cluster)
        is_new = instance.bootstrap is None or not cluster.exists
        if is_new:
            await cluster.create()
        elif instance.bootstrap != bootstrap_checksum():
            raise LocalStackError(
                f"The data in {data.path} were made by another version of this package.",
                next_step="Use another --data-dir, or remove this one if nothing in it is needed.",
            )
        async with cluster.running(database, start_limit=_START_TIMEOUT) as server:
            if is_new:
                await bootstrap(context)
                instance = data.update(bootstrap=bootstrap_checksum(), applied={})
            if self._apply_sql:
                files = [(file.name, file.migration) for file in sql.files()]
                data.update(applied=await apply_sql(context, files, instance.applied))
            await self._serve_requests(data, instance, listener, server, postgrest_program)

    async def _serve_requests(
        self,
        data: DataFolder,
        instance: Instance,
        listener: socket.socket,
        server: asyncio.subprocess.Process,
        postgrest_program: Path,
    ) -> None:
        context = instance.context()
        postgrest = PostgREST(
            context, program=postgrest_program, log=data.log("postgrest.log"), pid_file=data.postgrest_pid
        )
        auth = make_auth_app(context, self._auth)
        mailbox = auth[MAILBOX]
        realtime = make_realtime_app(context)
        control = realtime[REALTIME]
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            watcher = group.create_task(_watch(server, data.log("postgres.log")), name="postgres")
            keeper = group.create_task(postgrest.keep(), name="postgrest")
            try:
                gateway = Gateway(
                    context,
                    keys=Keys(
                        publishable=instance.publishable_key,
                        secret=instance.secret_key,
                        anon_token=instance.anon_key,
                        service_role_token=instance.service_role_key,
                    ),
                    rest_url=postgrest.url,
                    parts={
                        "postgres": partial(_accepts, context),
                        "postgrest": partial(postgrest.is_ready, session),
                        "auth": partial(_answers, session, f"{context.url}/auth/v1/health"),
                        "realtime": partial(_is_ready, control),
                    },
                    auth=auth,
                    realtime=realtime,
                    control=control,
                    mailbox=lambda to: [message.to_json() for message in mailbox.read(to)],
                )
                async with gateway.serving(listener):
                    await postgrest.wait_until_ready(session, limit=_START_TIMEOUT)
                    await _wait_for_realtime(control)
                    self._running = _Running(data.path, instance, context)
                    self._ready.set()
                    await self._stop.wait()
            finally:
                watcher.cancel()
                keeper.cancel()

    # --- what it is ------------------------------------------------------------------------------------

    @property
    def _entered(self) -> _Running:
        if self._running is None:
            raise LocalStackError("The local stack was not started.", next_step="Use `async with`.")
        return self._running

    @property
    def data_dir(self) -> Path:
        """Where the data live."""
        return self._entered.data_dir

    @property
    def context(self) -> LocalContext:
        """Addresses and secrets, with ``dsn(user)`` for each login role."""
        return self._entered.context

    @property
    def url(self) -> str:
        """The gateway, without a trailing slash."""
        return self.context.url

    @property
    def anon_key(self) -> str:
        """Key of clients that ship to people."""
        return self.context.anon_key

    @property
    def service_role_key(self) -> str:
        """Key of trusted servers: passes every policy."""
        return self.context.service_role_key

    @property
    def publishable_key(self) -> str:
        """Opaque form of ``anon_key``."""
        return self._entered.instance.publishable_key

    @property
    def secret_key(self) -> str:
        """Opaque form of ``service_role_key``."""
        return self._entered.instance.secret_key

    @property
    def jwt_secret(self) -> str:
        """HS256 secret of all tokens."""
        return self.context.jwt_secret

    @property
    def database_url(self) -> str:
        """Of the role ``postgres``."""
        return self.context.database_url

    def env(self) -> dict[str, str]:
        """The environment for programs that use the stack; it holds secrets."""
        return self._entered.instance.environment()

    # --- faults ----------------------------------------------------------------------------------------

    # Over HTTP, so that they may be called from any event loop and thread.

    async def cut_realtime(self) -> int:
        """Close every Realtime socket and refuse new ones until ``restore_realtime``; how many there were.

        Raises:
            LocalStackError: The gateway did not do it.
        """
        return int((await self._set_realtime("down"))["closed"])

    async def restore_realtime(self) -> None:
        """Accept Realtime sockets again.

        Raises:
            LocalStackError: The gateway did not do it.
        """
        await self._set_realtime("up")

    async def _set_realtime(self, state: str) -> dict[str, Any]:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
                session.post(
                    f"{self.url}/_local/faults/realtime",
                    json={"state": state},
                    headers={"apikey": self.service_role_key},
                    raise_for_status=True,
                ) as response,
            ):
                return dict(await response.json())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LocalStackError(
                f"The local stack at {self.url} did not switch Realtime {state}."
            ) from error


@dataclass(frozen=True, slots=True)
class _Running:
    """What a started stack is made of."""

    data_dir: Path
    instance: Instance
    context: LocalContext


async def _watch(server: asyncio.subprocess.Process, log: Path) -> None:
    """End the stack when PostgreSQL ends by itself."""
    status = await server.wait()
    raise LocalStackError(f"PostgreSQL ended with status {status}: {last_line(log)}")


async def _accepts(context: LocalContext) -> bool:
    """Whether PostgreSQL accepts connections."""
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(context.database_host, context.database_port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether an address answers with 200."""
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _wait_for_realtime(control: RealtimeControl) -> None:
    """Wait until Realtime replicates."""
    try:
        async with asyncio.timeout(_START_TIMEOUT):
            while not control.is_ready:  # noqa: ASYNC110 - it has no event; usually it is ready by now
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise LocalStackError(
            f"Realtime did not begin to replicate within {_START_TIMEOUT:g} s.",
            next_step="See the warnings of the logger `jamestronic_sdk.local`.",
        ) from None


async def _is_ready(control: RealtimeControl) -> bool:
    """Whether Realtime replicates."""
    return control.is_ready


async def _remove(path: Path) -> None:
    """Remove an ephemeral stack's folder."""
    await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)


def _remove_abandoned(account: Account | None) -> None:
    """Remove ephemeral stacks whose supervisors were killed, and what is left of their processes. Blocks."""
    for parent in temporary_parents(account):
        for path in parent.glob(f"{EPHEMERAL_PREFIX}*"):
            with contextlib.suppress(OSError, LocalStackError):
                # One without a lock is just being made.
                if path.lstat().st_uid == os.geteuid() and (path / "lock").exists():
                    data = DataFolder(path)
                    with data.lock():
                        recover_postgres(data.cluster)
                        recover_postgrest(data.postgrest_pid)
                        shutil.rmtree(path)
                    _log.info("removed the abandoned ephemeral stack %s", path)


def _single(error: BaseException) -> BaseException:
    """The first cause in groups of them: task groups are an inner matter."""
    if isinstance(error, BaseExceptionGroup):
        return _single(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
    return error
