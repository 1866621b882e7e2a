"""LocalSupabase: one local stack from the first ``initdb`` to the last process.

Promises:
    Entered means ready: SQL applied, PostgREST's schema cache loaded, Auth and Realtime answering.
    Whatever fails or is cancelled, what was started is stopped; an ephemeral stack leaves no folder.
    One task owns all of it, so that it does not matter which task enters and which one leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, cast

import aiohttp

from jamestronic_sdk import sql
from jamestronic_sdk.errors import LocalStackError, PortInUseError
from jamestronic_sdk.local._folders import temporary_folder, temporary_parents
from jamestronic_sdk.local._processes import LOOPBACK, Account, Identity, PortReservation, listen
from jamestronic_sdk.local.admin import Switchboard
from jamestronic_sdk.local.admin import make_app as make_local_app
from jamestronic_sdk.local.auth.app import MAILBOX
from jamestronic_sdk.local.auth.app import make_app as make_auth_app
from jamestronic_sdk.local.baseline import TEMPLATE, Baseline, has_template, make_template
from jamestronic_sdk.local.bootstrap import apply_sql, bootstrap, bootstrap_checksum, expose_new_tables
from jamestronic_sdk.local.faults import Faults
from jamestronic_sdk.local.gateway import Gateway, Keys
from jamestronic_sdk.local.instance import EPHEMERAL_PREFIX, DataFolder, Instance
from jamestronic_sdk.local.keys import CLI_PORT, Secrets
from jamestronic_sdk.local.postgres import Cluster, find_installation
from jamestronic_sdk.local.postgres import recover as recover_postgres
from jamestronic_sdk.local.postgrest import PostgREST, find_postgrest
from jamestronic_sdk.local.postgrest import recover as recover_postgrest
from jamestronic_sdk.local.realtime.app import REALTIME
from jamestronic_sdk.local.realtime.app import make_app as make_realtime_app
from jamestronic_sdk.local.tokens import SigningKey

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from jamestronic_sdk.local.auth.settings import AuthSettings
    from jamestronic_sdk.local.context import LocalContext
    from jamestronic_sdk.local.faults import RealtimeControl

__all__ = ["DEFAULT_PORT", "LocalSupabase"]

_log: Final = logging.getLogger("jamestronic_sdk.local")

DEFAULT_PORT: Final = CLI_PORT

_START_TIMEOUT: Final = 60.0
"""Seconds for each child to become ready. Two seconds are usual; a cold disk and a busy machine need more."""


class LocalSupabase:
    """A Supabase for this machine, for development and tests only.

    ::

        async with LocalSupabase() as supabase:
            client = await acreate_client(supabase.url, supabase.anon_key)

    Args:
        data_dir: Where the data live; None = a temporary folder that is removed at the end.
        port: The gateway's port; 0 = any free one.
        database_port: PostgreSQL's port on loopback; None = the same as last time if it is free, or any.
        host: The IPv4 address that the gateway listens on.
        is_network_trusted: Must be said when ``host`` is not loopback: others can reach the gateway then.
        secrets: Keys and secrets in place of the instance's own, which stay with it.
        auto_expose_new_tables: Grant what ``postgres`` makes in ``public`` to the API roles, as the option of
            the Supabase CLI of this name does; for what is made from now on.
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
        database_port: int | None = None,
        host: str = LOOPBACK,
        is_network_trusted: bool = False,
        secrets: Secrets | None = None,
        auto_expose_new_tables: bool = True,
        apply_sql: bool = True,
        auth: AuthSettings | None = None,
        asymmetric: bool = False,
    ) -> None:
        self._given_folder: Final = data_dir
        self._port: Final = port
        self._database_port: Final = database_port
        self._host: Final = _checked_host(host, secrets or Secrets(), is_trusted=is_network_trusted)
        self._secrets: Final = secrets or Secrets()
        self._is_exposing: Final = auto_expose_new_tables
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
            listener = resources.enter_context(listen(self._port, self._host))
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
                self._secrets.apply(data.read() or Instance.new()),
                host=self._host,
                port=listener.getsockname()[1],
                supervisor=Identity.current(),
            )
            if self._asymmetric and instance.signing_key is None:
                instance = replace(instance, signing_key=SigningKey.new().to_jwk())
            database = resources.enter_context(
                PortReservation(
                    self._database_port or instance.database_port or listener.getsockname()[1] + 1
                )
            )
            if self._database_port and database.port != self._database_port:
                raise PortInUseError(
                    f"Port {self._database_port} on {LOOPBACK} can't be used: somebody listens there.",
                    next_step="Choose another one with --db-port, or leave it out.",
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
        async with cluster.running(database, start_limit=_START_TIMEOUT):
            if is_new:
                await bootstrap(context)
                instance = data.update(bootstrap=bootstrap_checksum(), applied={}, is_exposing=None)
            await self._prepare_databases(data, instance, context)
            await self._serve_requests(data, instance, listener, cluster, postgrest_program)

    async def _prepare_databases(self, data: DataFolder, instance: Instance, context: LocalContext) -> None:
        """The package's SQL and the default grants, in the database and in what a reset goes back to."""
        has_copy = await has_template(context)
        databases = ("postgres", TEMPLATE) if has_copy else ("postgres",)
        if instance.is_exposing != self._is_exposing:
            for database in databases:
                await expose_new_tables(context, is_exposing=self._is_exposing, database=database)
            data.update(is_exposing=self._is_exposing)
        if self._apply_sql:
            files = [(file.name, file.migration) for file in sql.files()]
            applied = instance.applied
            for database in reversed(databases):
                applied = await apply_sql(context, files, instance.applied, database=database)
            data.update(applied=applied)
        if not has_copy:
            await make_template(context)

    async def _serve_requests(
        self,
        data: DataFolder,
        instance: Instance,
        listener: socket.socket,
        cluster: Cluster,
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
        baseline = Baseline(context)

        async def kill(part: str) -> int:
            match part:
                case "postgres":
                    return cluster.kill()
                case "postgrest":
                    return postgrest.kill()
                case _:
                    return await asyncio.to_thread(cluster.kill_a_backend)

        faults = Faults(control, kill)
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            keepers = [
                group.create_task(cluster.keep(), name="postgres"),
                group.create_task(postgrest.keep(), name="postgrest"),
            ]

            async def settle() -> None:
                await postgrest.restart()
                await _wait_until(lambda: _is_ready(control), "Realtime did not begin to replicate")
                await _wait_until(partial(postgrest.is_ready, session), "PostgREST did not become ready")

            async def reset() -> bool:
                is_connected = await baseline.reset()
                mailbox.clear()
                faults.clear()
                control.break_sockets()
                if not is_connected:
                    await settle()
                return is_connected

            async def save() -> None:
                await baseline.save()
                await settle()

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
                    local=make_local_app(
                        Switchboard(
                            faults,
                            mailbox=lambda to: [message.to_json() for message in mailbox.read(to)],
                            reset=reset,
                            save=save,
                        )
                    ),
                    faults=faults,
                )
                async with gateway.serving(listener):
                    await postgrest.wait_until_ready(session, limit=_START_TIMEOUT)
                    await _wait_until(lambda: _is_ready(control), "Realtime did not begin to replicate")
                    self._running = _Running(data.path, instance, context)
                    self._ready.set()
                    preparing = group.create_task(baseline.prepare(), name="baseline")
                    await self._stop.wait()
                    preparing.cancel()
            finally:
                for keeper in keepers:
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

    async def fault(self, name: str, **parameters: str | float) -> dict[str, Any]:
        """Make a fault happen, see ``jamestronic_sdk.local.faults.FAULTS``.

        Args:
            name: Which.
            **parameters: Its parameters.

        Returns:
            What it is, with all its parameters, and what it did.

        Raises:
            LocalStackError: There is no such fault or parameter, or the gateway did not do it.
        """
        return await self._post(f"faults/{name}", parameters)

    async def faults(self) -> list[dict[str, Any]]:
        """The lasting faults that are on.

        Raises:
            LocalStackError: The gateway did not answer.
        """
        return list((await self._ask("GET", "faults"))["faults"])

    async def clear_faults(self, name: str | None = None) -> int:
        """End the lasting faults, all or those of one name; how many there were.

        Raises:
            LocalStackError: There is no such fault, or the gateway did not answer.
        """
        return int((await self._ask("DELETE", f"faults/{name}" if name else "faults"))["cleared"])

    async def cut_realtime(self) -> int:
        """Close every Realtime socket and refuse new ones until ``restore_realtime``; how many there were.

        Raises:
            LocalStackError: The gateway did not do it.
        """
        return int((await self.fault("realtime", state="down"))["closed"])

    async def restore_realtime(self) -> None:
        """Accept Realtime sockets again.

        Raises:
            LocalStackError: The gateway did not do it.
        """
        await self.fault("realtime", state="up")

    # --- rows and mail ---------------------------------------------------------------------------------

    async def reset(self) -> bool:
        """Make the database, the mailbox and the faults what they were at first, or at the last ``save``.

        Roles and their settings belong to the whole server, and stay. Realtime's sockets are closed.

        Returns:
            Whether connections to the database survived, as they do unless more than rows has changed.

        Raises:
            LocalStackError: It was not possible.
        """
        return bool((await self._post("reset"))["is_connected"])

    async def save(self) -> None:
        """Make the present state of the database the one that ``reset`` goes back to.

        Takes about half a second, and closes all connections to the database.

        Raises:
            LocalStackError: It was not possible.
        """
        await self._post("save")

    async def _post(self, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        return await self._ask("POST", path, body)

    async def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_START_TIMEOUT)) as session,
                session.request(
                    method,
                    f"{self.url}/_local/{path}",
                    json=body or {},
                    headers={"apikey": self.service_role_key},
                ) as response,
            ):
                answer = dict(await response.json())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LocalStackError(f"The local stack at {self.url} did not answer {path}.") from error
        if response.status != 200:
            raise LocalStackError(str(answer.get("message", f"The local stack refused {path}.")))
        return answer


@dataclass(frozen=True, slots=True)
class _Running:
    """What a started stack is made of."""

    data_dir: Path
    instance: Instance
    context: LocalContext


def _checked_host(host: str, secrets: Secrets, *, is_trusted: bool) -> str:
    """An address to listen on.

    Raises:
        LocalStackError: It is none, or not loopback, and nobody said that this is meant.
    """
    try:
        address = ipaddress.IPv4Address(LOOPBACK if host == "localhost" else host)
    except ValueError:
        raise LocalStackError(f"{host} is no IPv4 address.", next_step="Use 127.0.0.1.") from None
    if not address.is_loopback:
        if not is_trusted:
            raise LocalStackError(
                f"{host} is not this machine alone: whoever reaches it could use this stack.",
                next_step="Leave out --host, or add --i-trust-this-network.",
            )
        if secrets.is_well_known:
            raise LocalStackError(
                "Keys that everybody knows are for this machine alone.",
                next_step="Leave out --host, or choose keys of your own.",
            )
        _log.warning("the local stack listens on %s: it is not made for networks", host)
    return str(address)


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


async def _wait_until(is_so: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Ask until the answer is yes."""
    try:
        async with asyncio.timeout(_START_TIMEOUT):
            while not await is_so():  # noqa: ASYNC110 - nobody has an event for it
                await asyncio.sleep(0.02)  # usually it is so by now
    except TimeoutError:
        raise LocalStackError(
            f"{otherwise} within {_START_TIMEOUT:g} s.",
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
