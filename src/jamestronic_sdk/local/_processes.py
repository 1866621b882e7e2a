"""Child processes of the local stack: started so that none outlives the supervisor, stopped within a bound.

Promises:
    A process is signalled only after its identity (pid and start time) was checked: a recycled pid is safe.
    A child dies with the supervisor, also when that is killed (Linux).

Never:
    Shells, signals to groups, or signals by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import select
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from jamestronic_sdk.errors import LocalStackError, PortInUseError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import IO

__all__ = ["Account", "Identity", "PortReservation", "Signal", "listen", "reap", "spawn"]

_LAUNCHER: Final = Path(__file__).with_name("_launch.py")
LOOPBACK: Final = "127.0.0.1"

Signal = signal.Signals


@dataclass(frozen=True, slots=True)
class Account:
    """The user that a child runs as."""

    uid: int
    gid: int

    @classmethod
    def unprivileged(cls) -> Account | None:
        """``nobody`` when this process is root, else None: stay who you are."""
        if os.geteuid() != 0:
            return None
        try:
            entry = pwd.getpwnam("nobody")
        except KeyError:
            raise LocalStackError(
                "PostgreSQL does not run as root, and this machine has no user `nobody`.",
                next_step="Start the local stack as an ordinary user.",
            ) from None
        return cls(entry.pw_uid, entry.pw_gid)


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, told apart from a later one with the same pid."""

    pid: int
    started: str
    """Boot id and start time in clock ticks since boot."""

    @classmethod
    def current(cls) -> Self:
        """This process."""
        identity = cls.of(os.getpid())
        if identity is None:
            raise LocalStackError("This process is not in /proc; the local stack needs Linux.")
        return identity

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now; None when there is none (a zombie is none)."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except OSError:
            return None
        # proc(5): the fields after the command, which is in parentheses and may hold anything.
        fields = stat.rpartition(b")")[2].split()
        if fields[0] in {b"Z", b"X"}:
            return None
        return cls(pid, f"{boot}:{int(fields[19])}")

    @classmethod
    def from_json(cls, value: object) -> Self | None:
        """Undo ``to_json``; None when it does not fit."""
        match value:
            case {"pid": int(pid), "started": str(started)}:
                return cls(pid, started)
            case _:
                return None

    def to_json(self) -> dict[str, object]:
        """For ``instance.json``."""
        return {"pid": self.pid, "started": self.started}

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return Identity.of(self.pid) == self

    def terminate(self, *steps: tuple[signal.Signals, float]) -> bool:
        """Signal the process and wait, step after step, until it is gone. Blocks.

        Args:
            *steps: A signal and how many seconds to wait for its effect.

        Returns:
            Whether the process was there.

        Raises:
            LocalStackError: It belongs to somebody else, or survived the last step.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.is_alive():
                return False
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            for number, seconds in steps:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, number)
                if poller.poll(seconds * 1000):
                    return True
        except PermissionError:
            raise LocalStackError(
                f"Process {self.pid} of the local stack belongs to another user.",
                next_step="Stop it as the user who started it.",
            ) from None
        finally:
            os.close(descriptor)
        raise LocalStackError(f"Process {self.pid} of the local stack does not end.")


class PortReservation:
    """A loopback port that nobody else is given, until the child that listens on it is up.

    The socket is bound but does not listen, so a child that sets SO_REUSEADDR (PostgreSQL and PostgREST do)
    can bind and listen beside it, while the kernel hands the port to nobody who asks for any free one.
    """

    def __init__(self, preferred: int | None = None) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._bind(preferred)
        except BaseException:
            self._socket.close()
            raise
        self.port: Final[int] = self._socket.getsockname()[1]

    def _bind(self, preferred: int | None) -> None:
        if preferred is not None and _is_free(preferred):
            with contextlib.suppress(OSError):
                self._socket.bind((LOOPBACK, preferred))
                return
        self._socket.bind((LOOPBACK, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def _is_free(port: int) -> bool:
    """Whether nobody listens on the port now."""
    if not 0 < port < 65536:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def listen(port: int, host: str = LOOPBACK) -> socket.socket:
    """A socket that listens on the port (0 = any free one).

    Raises:
        PortInUseError: The port is taken; the message names it.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise PortInUseError(
            f"Port {port} on {host} can't be used: {os.strerror(error.errno or 0)}.",
            next_step="Choose another one with --port, or --port 0 for any free one.",
        ) from error
    except BaseException:
        listener.close()
        raise
    return listener


async def spawn(
    command: Sequence[str | Path],
    *,
    account: Account | None,
    environment: Mapping[str, str],
    death_signal: signal.Signals,
    output: IO[Any],
) -> asyncio.subprocess.Process:
    """Start a child in a session of its own; it gets ``death_signal`` when the supervisor is gone.

    Args:
        command: Absolute path of the program, and its arguments.
        account: Who it runs as; None = the same user.
        environment: All of its environment; nothing is inherited.
        death_signal: What it gets when the thread that runs the event loop ends, however it ends.
        output: Open file for its stdout and stderr.
    """
    user = ("", "") if account is None else (str(account.uid), str(account.gid))
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(_LAUNCHER),
        str(os.getpid()),
        *user,
        str(int(death_signal)),
        *(str(part) for part in command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=dict(environment),
        cwd="/",
        start_new_session=True,
    )


async def reap(process: asyncio.subprocess.Process, *steps: tuple[signal.Signals, float]) -> None:
    """Signal a child and wait, step after step, until it is gone.

    Cancelling goes on to the last step at once, waits for that one, and then lets the cancellation through.

    Args:
        process: The child.
        *steps: A signal and how many seconds to wait for its effect; the last one should be SIGKILL.
    """
    pending = list(steps)
    cancelled: asyncio.CancelledError | None = None
    while pending and process.returncode is None:
        number, seconds = pending.pop(0)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            continue
        except asyncio.CancelledError as error:
            cancelled = error
            pending = pending[-1:]
    if cancelled is not None:
        raise cancelled
