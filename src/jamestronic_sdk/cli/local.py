"""`jamestronic local`: a Supabase for this machine, without Docker.

Promises:
    `local stop` ends every process of the stack, also after its supervisor was killed.

Never:
    No secret is printed, but by `local env` and `local mail`, whose purpose it is.
"""

from __future__ import annotations

import logging
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from jamestronic_sdk.cli._root import output_of
from jamestronic_sdk.errors import JamesTronicError

# `jamestronic_sdk.local` is imported where it is used: other commands must work without the extra `local`.
# ruff: noqa: PLC0415

__all__ = ["local"]

_NOT_RUNNING: Final = 3
"""Exit code of `local status`, as of `systemctl status`."""

local: Final[typer.Typer] = typer.Typer(
    help="A Supabase for this machine, without Docker. For development only.",
    no_args_is_help=True,
    add_completion=False,
)
fault: Final[typer.Typer] = typer.Typer(
    help="Break a part of the running local stack, for tests.", no_args_is_help=True, add_completion=False
)
local.add_typer(fault, name="fault")

_DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="JAMESTRONIC_DATA_DIR",
        file_okay=False,
        help="Where the data live. Default: .jamestronic here; for root below /var/lib/jamestronic.",
    ),
]


class RealtimeState(StrEnum):
    """What a fault does to Realtime."""

    DOWN = "down"
    UP = "up"


@local.command()
def start(
    *,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready.")] = False,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Remove the data when it stops.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the one URL; 0 = any free one.")] = 54321,
    data_dir: _DataDir = None,
    no_sql: Annotated[bool, typer.Option("--no-sql", help="Do not apply the package's SQL.")] = False,
    auth: Annotated[
        list[str] | None,
        typer.Option("--auth", metavar="NAME=VALUE", help="A setting of Auth; may be repeated."),
    ] = None,
    asymmetric: Annotated[
        bool, typer.Option("--asymmetric", help="Sign users' tokens with a key pair from now on.")
    ] = False,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start PostgreSQL, PostgREST, Auth and Realtime behind one URL."""
    from jamestronic_sdk.local import control
    from jamestronic_sdk.local.auth.settings import parse_settings

    if ephemeral and data_dir is not None:
        raise typer.BadParameter("--ephemeral has a folder of its own; leave out --data-dir.")
    try:
        parse_settings(auth or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--auth") from None
    is_json = output_of().is_json
    typer.echo(
        "For development only: a local Supabase on this machine, reachable from this machine alone.",
        err=is_json,
    )
    where = None if ephemeral else (data_dir or control.default_data_dir())
    options = control.Options(port, apply_sql=not no_sql, auth=tuple(auth or ()), asymmetric=asymmetric)
    if detach:
        started = control.start_detached(where, options)
        _announce(started.url, started.data_dir, ephemeral=ephemeral, explicit=data_dir is not None)
        return
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    def ready(url: str, path: Path) -> None:
        if ready_fd is not None:
            control.report_ready(ready_fd, url, path)
        else:
            _announce(url, path, ephemeral=ephemeral, explicit=data_dir is not None)

    try:
        control.serve(where, options, ready=ready)
    except JamesTronicError as error:
        if ready_fd is not None:
            control.report_failure(ready_fd, error)
        raise
    typer.echo("Stopped.", err=is_json)


def _announce(url: str, data_dir: Path, *, ephemeral: bool, explicit: bool) -> None:
    option = f" --data-dir {shlex.quote(str(data_dir))}" if ephemeral or explicit else ""
    lines = (
        f"Ready at {url}",
        f"Data in {data_dir}{' (removed when it stops)' if ephemeral else ''}",
        f'Settings for a shell: eval "$(jamestronic local env{option})"',
        f"Stop it with: jamestronic local stop{option}",
    )
    data = {"url": url, "data_dir": str(data_dir), "ephemeral": ephemeral}
    output_of().result(data, "\n".join(lines))
    sys.stdout.flush()


@local.command()
def stop(data_dir: _DataDir = None) -> None:
    """Stop the local stack, and whatever is left of one that was killed."""
    from jamestronic_sdk.local import control

    path = data_dir or control.default_data_dir()
    stopped = control.stop(path)
    output_of().result(
        {"stopped": stopped, "data_dir": str(path)},
        "Stopped; no process is left." if stopped else f"Nothing runs on {path}.",
    )


@local.command()
def seed(data_dir: _DataDir = None) -> None:
    """Create invented people and tickets in the running local stack."""
    import asyncio

    from jamestronic_sdk.local import control
    from jamestronic_sdk.local.seed import DEMO_PASSWORD, PEOPLE, TICKETS
    from jamestronic_sdk.local.seed import seed as create

    settings = control.environment(data_dir or control.default_data_dir())
    asyncio.run(create(settings["SUPABASE_URL"], settings["SUPABASE_SERVICE_ROLE_KEY"]))
    people = [{"role": person.role.value, "email": person.email} for person in PEOPLE]
    lines = [f"{one['role']:12}{one['email']}" for one in people]
    lines.append(f"{len(TICKETS)} tickets. Everybody's password is {DEMO_PASSWORD}.")
    data = {"people": people, "tickets": len(TICKETS), "password": DEMO_PASSWORD}
    output_of().result(data, "\n".join(lines))


@local.command()
def status(data_dir: _DataDir = None) -> None:
    """Say whether the local stack runs: exit code 0, or 3 when it does not."""
    from jamestronic_sdk.local import control

    path = data_dir or control.default_data_dir()
    found = control.status(path)
    out = output_of()
    if found is None:
        data: dict[str, object] = {"running": False, "data_dir": str(path)}
        out.result(data, f"Not running (data directory {path}).")
        raise typer.Exit(_NOT_RUNNING)
    data = {"running": True, "data_dir": str(path), "url": found.url, "pid": found.pid, "parts": found.parts}
    lines = [f"Running at {found.url} (process {found.pid}, data directory {path})."]
    out.result(data, "\n".join([*lines, *(f"  {name}: {state}" for name, state in found.parts.items())]))


@local.command()
def env(data_dir: _DataDir = None) -> None:
    """Print the settings as shell lines, keys included: eval "$(jamestronic local env)"."""
    from jamestronic_sdk.local import control

    variables = control.environment(data_dir or control.default_data_dir())
    output_of().result(
        variables, "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    )


@local.command()
def mail(
    *,
    to: Annotated[str | None, typer.Option("--to", help="Only to this address or phone number.")] = None,
    data_dir: _DataDir = None,
) -> None:
    """Show what Auth has sent by mail and text message, oldest first: codes and links."""
    from jamestronic_sdk.local import control

    messages = control.mail(data_dir or control.default_data_dir(), to)
    out = output_of()
    if out.is_json:
        out.json(messages)
        return
    for message in messages:
        typer.echo(f"{message['sent_at']}  {message['channel']} to {message['to']}: {message['subject']}")
        typer.echo(f"  {message['kind']} code {message['code']}")
        if message["link"]:
            typer.echo(f"  {message['link']}")
    if not messages:
        typer.echo("No messages.", err=True)


@fault.command()
def realtime(state: RealtimeState, data_dir: _DataDir = None) -> None:
    """Close all Realtime connections and refuse new ones (down), or accept them again (up)."""
    from jamestronic_sdk.local import control

    closed = control.set_realtime(data_dir or control.default_data_dir(), state.value)
    output_of().result(
        {"realtime": state.value, "closed": closed},
        f"Realtime is {state.value}"
        + (f"; {closed} connections were closed." if closed is not None else "."),
    )
