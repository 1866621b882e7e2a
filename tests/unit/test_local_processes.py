"""Children, identities and ports."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time

import pytest

from jamestronic_sdk.errors import LocalStackError, PortInUseError
from jamestronic_sdk.local._processes import Account, Identity, PortReservation, Signal, listen

# A supervisor that starts one child which ignores SIGTERM, and then waits.
SUPERVISOR = """
import asyncio, sys
from jamestronic_sdk.local._processes import Signal, spawn

async def main():
    process = await spawn(
        [sys.executable, "-c", sys.argv[1]],
        account=None, environment={}, death_signal=Signal.SIGKILL, output=sys.stdout,
    )
    print(process.pid, flush=True)
    await process.wait()

asyncio.run(main())
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


def test_a_child_dies_with_its_supervisor() -> None:
    """Also when the supervisor is killed, and with the signal that was asked for."""
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, STUBBORN], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        lines = {supervisor.stdout.readline().strip(), supervisor.stdout.readline().strip()}
        child = Identity.of(int(next(line for line in lines if line != "up")))
        assert child is not None
        descriptor = os.pidfd_open(child.pid)
        supervisor.kill()
        try:
            assert select.select([descriptor], [], [], 20)[0]
        finally:
            os.close(descriptor)


def test_an_identity_is_one_process() -> None:
    """Alive while it lives, another start time is another process, and nobody is nobody."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        identity = Identity.of(process.pid)
        assert identity is not None
        assert identity.is_alive()
        assert Identity.from_json(identity.to_json()) == identity
        other = Identity(process.pid, "somebody else")
        assert not other.is_alive()
        assert not other.terminate((Signal.SIGKILL, 5))
        assert process.poll() is None
        assert identity.terminate((Signal.SIGTERM, 20))
        assert process.wait(20) == -signal.SIGTERM
        assert not identity.is_alive()
        assert not identity.terminate((Signal.SIGTERM, 5))
    assert Identity.from_json({"pid": "1"}) is None
    assert Identity.current().is_alive()


def test_terminate_goes_from_step_to_step() -> None:
    """Who ignores the first signal gets the second; who survives the last one is an error."""
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        identity = Identity.of(process.pid)
        assert identity is not None
        with pytest.raises(LocalStackError, match="does not end"):
            identity.terminate((Signal.SIGTERM, 0.05))
        began = time.monotonic()
        assert identity.terminate((Signal.SIGTERM, 0.05), (Signal.SIGKILL, 20))
        assert time.monotonic() - began < 20


def test_a_reserved_port_is_for_the_child_alone() -> None:
    """Nobody is given it, but one who binds it with SO_REUSEADDR may listen on it, and is reached."""
    with PortReservation() as reservation:
        with socket.socket() as child:
            child.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            child.bind(("127.0.0.1", reservation.port))
            child.listen()
            with socket.create_connection(("127.0.0.1", reservation.port), timeout=5):
                child.accept()[0].close()
        others = [PortReservation() for _ in range(50)]
        assert reservation.port not in {other.port for other in others}
        for other in others:
            other.__exit__(None, None, None)


def test_a_preferred_port_is_taken_when_it_is_free() -> None:
    """The database keeps its port from start to start; a taken or impossible one is replaced."""
    with PortReservation() as first:
        port = first.port
    with PortReservation(port) as again:
        assert again.port == port
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        PortReservation(other.getsockname()[1]) as elsewhere,
    ):
        assert elsewhere.port != other.getsockname()[1]
    with PortReservation(65536) as any_port:
        assert any_port.port > 0


def test_a_taken_port_is_a_typed_error() -> None:
    """It names the port and the option."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"{port}.*{re.escape('--port')}"):
            listen(port)


def test_only_root_needs_another_account() -> None:
    """An ordinary user stays who they are."""
    assert (Account.unprivileged() is None) is (os.geteuid() != 0)
