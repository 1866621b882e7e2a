"""Starting, asking and stopping a local stack from outside of its process: what the command does.

Promises:
    Blocking code, one call each; whatever a call started and could not finish is stopped again.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from jamestronic_sdk import errors
from jamestronic_sdk.errors import JamesTronicError, LocalStackError
from jamestronic_sdk.local import postgres, postgrest
from jamestronic_sdk.local._processes import LOOPBACK, Account, Signal
from jamestronic_sdk.local.instance import (
    ANYWHERE,
    EPHEMERAL_PREFIX,
    DataFolder,
    Instance,
    default_data_dir,
)
from jamestronic_sdk.local.keys import Secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO

__all__ = [
    "SECRET_VARIABLES",
    "Options",
    "Started",
    "Status",
    "clear_faults",
    "default_data_dir",
    "environment",
    "fault",
    "faults",
    "log_folder",
    "mail",
    "psql",
    "report_failure",
    "report_ready",
    "reset",
    "save",
    "serve",
    "start_detached",
    "status",
    "stop",
]

_START_TIMEOUT: Final = 180.0
"""Seconds for a detached start: more than all limits inside of it."""

SECRET_VARIABLES: Final = {
    "jwt_secret": "JAMESTRONIC_LOCAL_JWT_SECRET",
    "anon_key": "JAMESTRONIC_LOCAL_ANON_KEY",
    "service_role_key": "JAMESTRONIC_LOCAL_SERVICE_ROLE_KEY",
    "publishable_key": "JAMESTRONIC_LOCAL_PUBLISHABLE_KEY",
    "secret_key": "JAMESTRONIC_LOCAL_SECRET_KEY",
    "database_password": "JAMESTRONIC_LOCAL_DB_PASSWORD",
}
"""Where `local start` reads chosen secrets from, beside its options."""

_STOP: Final = ((Signal.SIGTERM, 30.0), (Signal.SIGKILL, 5.0))
"""The supervisor needs less: its own limits for PostgreSQL and PostgREST add up to 28 s."""


@dataclass(frozen=True, slots=True)
class Started:
    """What a detached start answers."""

    url: str
    data_dir: Path


@dataclass(frozen=True, slots=True)
class Status:
    """A stack that runs."""

    url: str
    pid: int
    """Of the supervisor."""
    parts: dict[str, str]
    """``ok`` or ``down`` for each part; empty while it starts."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a stack is started."""

    port: int
    """Of the gateway."""
    apply_sql: bool = True
    """Apply the package's SQL."""
    auth: tuple[str, ...] = ()
    """Settings of Auth, each as ``name=value``."""
    asymmetric: bool = False
    """Sign users' tokens with a key pair from now on."""
    database_port: int | None = None
    """PostgreSQL's; None = the one of last time, or any."""
    host: str = LOOPBACK
    """What the gateway listens on."""
    is_network_trusted: bool = False
    """That ``host`` may be another address than loopback."""
    secrets: Secrets = field(default_factory=Secrets)
    """Keys and secrets in place of the instance's own."""
    auto_expose_new_tables: bool = True
    """Grant new tables in ``public`` to the API roles."""


def serve(data_dir: Path | None, options: Options, *, ready: Callable[[str, Path], None]) -> None:
    """Run a stack in this process until SIGINT or SIGTERM.

    Args:
        data_dir: None = ephemeral.
        options: How.
        ready: Called with URL and folder once everything answers.

    Raises:
        LocalStackError: It did not start, or died.
        SqlError: A file of the package's SQL failed.
    """
    with contextlib.suppress(asyncio.CancelledError):  # by a signal: a clean end
        asyncio.run(_serve(data_dir, options, ready))


async def _serve(data_dir: Path | None, options: Options, ready: Callable[[str, Path], None]) -> None:
    # Slow to import, and only needed here.
    from jamestronic_sdk.local.auth.settings import parse_settings  # noqa: PLC0415
    from jamestronic_sdk.local.stack import LocalSupabase  # noqa: PLC0415

    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - asyncio.run made one
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with LocalSupabase(
        data_dir,
        port=options.port,
        database_port=options.database_port,
        host=options.host,
        is_network_trusted=options.is_network_trusted,
        secrets=options.secrets,
        auto_expose_new_tables=options.auto_expose_new_tables,
        apply_sql=options.apply_sql,
        auth=parse_settings(options.auth),
        asymmetric=options.asymmetric,
    ) as supabase:
        ready(supabase.url, supabase.data_dir)
        await supabase.wait()


def start_detached(data_dir: Path | None, options: Options) -> Started:
    """Run a stack in a process of its own; returns when it is ready.

    Raises:
        JamesTronicError: What the process died of.
    """
    arguments = ["--ephemeral"] if data_dir is None else ["--data-dir", str(data_dir.absolute())]
    if not options.apply_sql:
        arguments.append("--no-sql")
    if options.asymmetric:
        arguments.append("--asymmetric")
    for setting in options.auth:
        arguments += ["--auth", setting]
    arguments += ["--host", options.host]
    if options.is_network_trusted:
        arguments.append("--i-trust-this-network")
    if options.database_port is not None:
        arguments += ["--db-port", str(options.database_port)]
    if not options.auto_expose_new_tables:
        arguments.append("--no-auto-expose-new-tables")
    # Everybody can read the arguments of a process; its environment only its user.
    chosen = {SECRET_VARIABLES[name]: value for name, value in options.secrets.given().items()}
    reader, writer = os.pipe()
    try:
        with _supervisor_log(data_dir) as log:
            process = subprocess.Popen(  # noqa: S603 - this very package
                [
                    *(sys.executable, "-P", "-m", "jamestronic_sdk", "local", "start"),
                    *("--port", str(options.port), "--ready-fd", str(writer), *arguments),
                ],
                env={**os.environ, **chosen},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writer],
                start_new_session=True,
            )
            os.close(writer)
            writer = -1
            try:
                answer = _read_line(reader, _START_TIMEOUT)
            except BaseException:
                _end(process)
                raise
            return _started(answer, process, log)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def _supervisor_log(data_dir: Path | None) -> IO[bytes]:
    """Where the detached process writes: a log in its folder; nowhere for long when that is temporary."""
    if data_dir is None:
        return tempfile.TemporaryFile()
    data = DataFolder(data_dir)
    data.prepare(Account.unprivileged())
    return data.log("supervisor.log").open("a+b")


def _read_line(reader: int, seconds: float) -> bytes:
    """What the supervisor reports; empty when it died without a word."""
    content = b""
    while not content.endswith(b"\n"):
        if not select.select([reader], [], [], seconds)[0]:
            raise LocalStackError(f"The local stack was not ready within {seconds:g} s.")
        chunk = os.read(reader, 4096)
        if not chunk:
            return b""
        content += chunk
    return content


def _started(answer: bytes, process: subprocess.Popen[bytes], log: IO[bytes]) -> Started:
    report: Any = json.loads(answer) if answer else None
    match report:
        case {"url": str(url), "data_dir": str(path)}:
            process.returncode = 0  # it lives on its own from here; nobody waits for it
            return Started(url, Path(path))
        case {"error": str(name), "message": str(message)}:
            process.wait()
            cls = getattr(errors, name, LocalStackError)
            raise cls(message)
        case _:
            _end(process)
            log.seek(0)
            lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
            raise LocalStackError(
                f"The local stack did not start: {lines[-1] if lines else 'no reason given'}"
            )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a supervisor that is of no use."""
    process.terminate()
    try:
        process.wait(_STOP[0][1])
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def report_ready(descriptor: int, url: str, data_dir: Path) -> None:
    """Tell the process that waits in ``start_detached``."""
    _report(descriptor, {"url": url, "data_dir": str(data_dir)})


def report_failure(descriptor: int, error: JamesTronicError) -> None:
    """Tell the process that waits in ``start_detached``, unless it was told already."""
    with contextlib.suppress(OSError):
        _report(descriptor, {"error": type(error).__name__, "message": str(error)})


def _report(descriptor: int, content: dict[str, str]) -> None:
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")


def stop(data_dir: Path) -> bool:
    """Stop the stack that runs on a folder, and what is left of one that was killed.

    Returns:
        Whether anything ran.

    Raises:
        LocalStackError: It belongs to another user, or does not end.
    """
    data = DataFolder(data_dir)
    instance = data.read()
    if instance is None:
        return False
    stopped = instance.supervisor is not None and instance.supervisor.terminate(*_STOP)
    if not data.path.exists():  # it was ephemeral
        return stopped
    with data.lock():
        stopped |= postgres.recover(data.cluster)
        stopped |= postgrest.recover(data.postgrest_pid)
        data.update(supervisor=None)
        if data.path.name.startswith(EPHEMERAL_PREFIX):
            shutil.rmtree(data.path)
    return stopped


def status(data_dir: Path) -> Status | None:
    """The stack that runs on a folder; None when there is none."""
    instance = DataFolder(data_dir).read()
    if instance is None or instance.supervisor is None or not instance.is_running:
        return None
    try:
        answer = _request(instance, "GET", "/health")
    except LocalStackError:
        answer = {}
    return Status(instance.url, instance.supervisor.pid, dict(answer.get("parts", {})))


def environment(data_dir: Path) -> dict[str, str]:
    """The environment for programs that use the stack that runs on a folder; it holds secrets.

    Raises:
        LocalStackError: None runs.
    """
    return _running(data_dir).environment()


def fault(data_dir: Path, name: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    """Make a fault happen in the running stack.

    Returns:
        What it is, with its parameters, and what it did.

    Raises:
        LocalStackError: None runs, it does not answer, or there is no such fault or parameter.
    """
    return _request(_running(data_dir), "POST", f"/_local/faults/{name}", parameters)


def faults(data_dir: Path) -> list[dict[str, Any]]:
    """The lasting faults of the running stack.

    Raises:
        LocalStackError: None runs, or it does not answer.
    """
    return list(_request(_running(data_dir), "GET", "/_local/faults")["faults"])


def clear_faults(data_dir: Path, name: str | None) -> int:
    """End the lasting faults of the running stack, all or those of one name; how many there were.

    Raises:
        LocalStackError: None runs, it does not answer, or there is no such fault.
    """
    path = "/_local/faults" if name is None else f"/_local/faults/{name}"
    return int(_request(_running(data_dir), "DELETE", path)["cleared"])


def reset(data_dir: Path) -> bool:
    """Bring the running stack's database, mailbox and faults back to the beginning.

    Returns:
        Whether connections to the database survived.

    Raises:
        LocalStackError: None runs, or it was not possible.
    """
    return bool(_request(_running(data_dir), "POST", "/_local/reset")["is_connected"])


def save(data_dir: Path) -> None:
    """Make the present state of the running stack's database the one that a reset goes back to.

    Raises:
        LocalStackError: None runs, or it was not possible.
    """
    _request(_running(data_dir), "POST", "/_local/save")


def log_folder(data_dir: Path) -> Path:
    """Where the stack's logs are, whether it runs or not.

    Raises:
        LocalStackError: No stack was ever started there.
    """
    data = DataFolder(data_dir)
    if data.read() is None:
        raise LocalStackError(f"There is no local stack in {data_dir}.", next_step="Name its --data-dir.")
    return data.logs


def psql(data_dir: Path, arguments: Sequence[str]) -> tuple[Path, list[str], dict[str, str]]:
    """How to run psql on the running stack's database, as ``postgres``.

    Returns:
        The program, its arguments and its environment; the password is in the latter only.

    Raises:
        LocalStackError: No stack runs.
        ToolMissingError: There is no psql.
    """
    instance = _running(data_dir)
    found = shutil.which("psql")
    program = Path(found) if found else postgres.find_program("psql")
    connection = {
        "PGHOST": LOOPBACK,
        "PGPORT": str(instance.database_port),
        "PGUSER": "postgres",
        "PGDATABASE": "postgres",
        "PGPASSWORD": instance.database_password,
        "PGSSLMODE": "disable",
    }
    return program, [str(program), *arguments], {**os.environ, **connection}


def mail(data_dir: Path, to: str | None) -> list[dict[str, Any]]:
    """What the running stack's Auth has sent, oldest first; it holds codes.

    Args:
        data_dir: Of the stack.
        to: Only what went to this address or phone number; None = everything.

    Raises:
        LocalStackError: None runs, or it does not answer.
    """
    query = "" if to is None else f"?{urlencode({'to': to})}"
    answer = _request(_running(data_dir), "GET", f"/_local/mailbox{query}")
    return list(answer.get("messages", []))


def _running(data_dir: Path) -> Instance:
    instance = DataFolder(data_dir).read()
    if instance is None or not instance.is_running:
        raise LocalStackError(
            f"No local stack runs on {data_dir}.",
            next_step="Start one with `jamestronic local start`, or name its --data-dir.",
        )
    return instance


def _request(instance: Instance, method: str, path: str, body: object = None) -> dict[str, Any]:
    """One request to the gateway, past any proxy that the environment names."""
    host = LOOPBACK if instance.host == ANYWHERE else instance.host
    connection = http.client.HTTPConnection(host, instance.port, timeout=60)
    headers = {"apikey": instance.service_role_key, "Content-Type": "application/json"}
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        answer: Any = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise LocalStackError(
            f"The local stack at {instance.url} does not answer.",
            next_step="Stop and start it again.",
        ) from error
    finally:
        connection.close()
    if response.status >= 400 and path != "/health":
        raise LocalStackError(str(answer.get("message", f"The local stack answered {response.status}.")))
    return dict(answer)
