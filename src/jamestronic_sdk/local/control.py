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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from jamestronic_sdk import errors
from jamestronic_sdk.errors import JamesTronicError, LocalStackError
from jamestronic_sdk.local import postgres, postgrest
from jamestronic_sdk.local._processes import LOOPBACK, Account, Signal
from jamestronic_sdk.local.instance import EPHEMERAL_PREFIX, DataFolder, Instance, default_data_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

__all__ = [
    "Options",
    "Started",
    "Status",
    "default_data_dir",
    "environment",
    "mail",
    "report_failure",
    "report_ready",
    "serve",
    "set_realtime",
    "start_detached",
    "status",
    "stop",
]

_START_TIMEOUT: Final = 180.0
"""Seconds for a detached start: more than all limits inside of it."""

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
    reader, writer = os.pipe()
    try:
        with _supervisor_log(data_dir) as log:
            process = subprocess.Popen(  # noqa: S603 - this very package
                [
                    *(sys.executable, "-P", "-m", "jamestronic_sdk", "local", "start"),
                    *("--port", str(options.port), "--ready-fd", str(writer), *arguments),
                ],
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


def set_realtime(data_dir: Path, state: str) -> int | None:
    """Switch Realtime ``down`` or ``up``.

    Returns:
        How many connections were closed; None for ``up``.

    Raises:
        LocalStackError: None runs, or it does not answer.
    """
    answer = _request(_running(data_dir), "POST", "/_local/faults/realtime", {"state": state})
    closed = answer.get("closed")
    return closed if isinstance(closed, int) else None


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
    connection = http.client.HTTPConnection(LOOPBACK, instance.port, timeout=10)
    headers = {"apikey": instance.service_role_key, "Content-Type": "application/json"}
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer: Any = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise LocalStackError(
            f"The local stack at {instance.url} does not answer.",
            next_step="Stop and start it again.",
        ) from error
    finally:
        connection.close()
    return dict(answer)
