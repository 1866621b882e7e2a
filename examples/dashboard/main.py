"""Starts the dashboard: on the environment's project, on the running local stack, or on one of its own."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import webbrowser
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import uvicorn
from typing_extensions import override

from jamestronic_sdk import JamesTronic, JamesTronicError, LocalStackError, Settings

from .app import Demo, DemoPerson, make_app
from .desks import Desks
from .scene import set_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from jamestronic_sdk.local.stack import LocalSupabase


class Options(argparse.Namespace):
    """What the command line says."""

    host: str
    port: int
    poll: float
    ephemeral: bool
    open: bool
    allow_host: list[str]


class Project(NamedTuple):
    """What the dashboard shows, and what it offers on a local stack."""

    settings: Settings
    demo: Demo


class Server(uvicorn.Server):
    """A server that lets open pages go before it stops: their streams would never end by themselves."""

    def __init__(self, config: uvicorn.Config, desks: Desks) -> None:
        super().__init__(config)
        self._desks = desks

    @contextmanager
    @override
    def capture_signals(self) -> Generator[None]:
        """Signals are for ``main``: uvicorn would raise them again before our local stack has stopped."""
        yield

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._desks.end_windows()
        await super().shutdown(sockets)


def options(arguments: Sequence[str] | None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="dashboard",
        description="The dashboard. It shows the project of SUPABASE_URL and SUPABASE_KEY; without them the "
        "local stack that runs here; without that one of its own, with invented people.",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=int, default=8400, help="0 takes any free one (default: 8400)")
    parser.add_argument("--poll", type=float, default=10.0, help="seconds between reads without Realtime")
    parser.add_argument(
        "--ephemeral", action="store_true", help="always a stack of its own, removed at the end"
    )
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="another name people reach it under"
    )
    parser.add_argument("--open", action="store_true", help="open a browser")
    return parser.parse_args(arguments, Options())


def demo_people() -> tuple[DemoPerson, ...]:
    """The people of ``jamestronic local seed``."""
    from jamestronic_sdk.local.seed import PEOPLE  # noqa: PLC0415 - of the extra `local`

    return tuple(DemoPerson(one.email, one.full_name, one.role.value) for one in PEOPLE)


def names_a_project() -> bool:
    """Whether the environment, or the ``.env`` here, says where the project is."""
    env_file = Path(".env")
    return "SUPABASE_URL" in os.environ or (env_file.exists() and "SUPABASE_URL" in env_file.read_text())


async def find_project(*, ephemeral: bool, resources: AsyncExitStack) -> Project:
    """The environment's project, the running local stack, or a new one."""
    if not ephemeral:
        if names_a_project():
            return Project(Settings.load(), Demo())
        running = await running_stack()
        if running is not None:
            return running
    return await own_stack(resources)


async def running_stack() -> Project | None:
    """The local stack that runs here; the demo's people come into an empty one."""
    from jamestronic_sdk.local import control  # noqa: PLC0415 - of the extra `local`
    from jamestronic_sdk.local.seed import DEMO_PASSWORD, seed  # noqa: PLC0415 - of the extra `local`

    folder = Path(os.environ.get("JAMESTRONIC_DATA_DIR") or control.default_data_dir())
    if await asyncio.to_thread(control.status, folder) is None:
        return None
    env = control.environment(folder)
    async with JamesTronic(env["SUPABASE_URL"], env["SUPABASE_SERVICE_ROLE_KEY"], env_file=None) as service:
        is_empty = not await service.profiles.list(limit=1)
    if is_empty:
        await seed(env["SUPABASE_URL"], env["SUPABASE_SERVICE_ROLE_KEY"])

    async def set_realtime(is_up: bool) -> None:  # noqa: FBT001 - a switch
        await asyncio.to_thread(control.fault, folder, "realtime", {"state": "up" if is_up else "down"})

    settings = Settings.load(env["SUPABASE_URL"], env["SUPABASE_KEY"], env_file=None)
    return Project(settings, Demo(demo_people(), DEMO_PASSWORD, set_realtime))


async def own_stack(resources: AsyncExitStack) -> Project:
    """A new stack, seeded, gone at the end."""
    from jamestronic_sdk.local.seed import DEMO_PASSWORD, seed  # noqa: PLC0415 - of the extra `local`
    from jamestronic_sdk.local.stack import LocalSupabase  # noqa: PLC0415 - of the extra `local`

    print("Starting a local Supabase of its own ...", flush=True)
    stack = await resources.enter_async_context(LocalSupabase(port=0))
    ids = await seed(stack.url, stack.service_role_key)
    async with JamesTronic(stack.url, stack.service_role_key, env_file=None) as service:
        await set_scene(service, ids)
    settings = Settings.load(stack.url, stack.anon_key, env_file=None)
    return Project(settings, Demo(demo_people(), DEMO_PASSWORD, partial(switch_realtime, stack)))


async def switch_realtime(stack: LocalSupabase, is_up: bool) -> None:  # noqa: FBT001 - a switch
    """Cut Realtime, or bring it back."""
    if is_up:
        await stack.restore_realtime()
    else:
        await stack.cut_realtime()


def listen(host: str, port: int) -> socket.socket:
    """The socket to serve on, so that the address is known before anybody is told."""
    try:
        return socket.create_server((host, port), reuse_port=False)
    except OSError as error:
        raise LocalStackError(
            f"Port {port} of {host} can't be used: {error.strerror}.", next_step="Choose another with --port."
        ) from error


async def serve(chosen: Options) -> None:
    """Run until SIGINT or SIGTERM."""
    listener = listen(chosen.host, chosen.port)
    async with AsyncExitStack() as resources:
        resources.callback(listener.close)
        project = await find_project(ephemeral=chosen.ephemeral, resources=resources)
        desks = Desks(project.settings, poll_interval=chosen.poll)
        config = uvicorn.Config(
            make_app(desks, project.demo, hosts=[chosen.host, *chosen.allow_host]),
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        url = f"http://{chosen.host}:{listener.getsockname()[1]}/"
        print(f"Project   {project.settings.url}", flush=True)
        print(f"Dashboard {url}   (Ctrl-C stops it)", flush=True)
        if chosen.open:
            await asyncio.to_thread(webbrowser.open, url)
        server = Server(config, desks)
        # From here on a signal lets the pages go first.
        on_signals(partial(server.handle_exit, signal.SIGTERM, None))
        await server.serve([listener])


def on_signals(act: Callable[[], object]) -> None:
    """What SIGINT and SIGTERM do from now on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, act)


async def main(arguments: Sequence[str] | None = None) -> None:
    """The command, under an event loop."""
    task = asyncio.current_task()
    if task is not None:
        on_signals(task.cancel)
    await serve(options(arguments))


def run() -> None:
    """Run the command; ends the process with its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        pass  # by a signal, while it was starting
    except JamesTronicError as error:
        sys.exit(f"error: {error}")
    print("Stopped.")
