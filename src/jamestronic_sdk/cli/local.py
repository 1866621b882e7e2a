"""`jamestronic local`: a Supabase for this machine, without Docker.

Promises:
    `local stop` ends every process of the stack, also after its supervisor was killed.

Never:
    No secret is printed, but by `local env` and `local mail`, whose purpose it is.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
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


class Service(StrEnum):
    """Whose requests a fault concerns."""

    ALL = "all"
    REST = "rest"
    AUTH = "auth"
    REALTIME = "realtime"


class Killed(StrEnum):
    """What can be killed."""

    POSTGREST = "postgrest"
    POSTGRES = "postgres"
    BACKEND = "backend"


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
    db_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of PostgreSQL; default: last time's, or any.")
    ] = None,
    host: Annotated[str, typer.Option(help="What the URL listens on.")] = "127.0.0.1",
    i_trust_this_network: Annotated[
        bool,
        typer.Option("--i-trust-this-network", help="Needed for another --host than this machine alone."),
    ] = False,
    cli_defaults: Annotated[
        bool,
        typer.Option(
            "--cli-defaults", help="Ports, keys and password of the Supabase CLI's local stack: known to all."
        ),
    ] = False,
    jwt_secret: Annotated[
        str | None,
        typer.Option(envvar="JAMESTRONIC_LOCAL_JWT_SECRET", help="Signs tokens; better by the variable."),
    ] = None,
    anon_key: Annotated[str | None, typer.Option(envvar="JAMESTRONIC_LOCAL_ANON_KEY")] = None,
    service_role_key: Annotated[str | None, typer.Option(envvar="JAMESTRONIC_LOCAL_SERVICE_ROLE_KEY")] = None,
    publishable_key: Annotated[str | None, typer.Option(envvar="JAMESTRONIC_LOCAL_PUBLISHABLE_KEY")] = None,
    secret_key: Annotated[str | None, typer.Option(envvar="JAMESTRONIC_LOCAL_SECRET_KEY")] = None,
    db_password: Annotated[str | None, typer.Option(envvar="JAMESTRONIC_LOCAL_DB_PASSWORD")] = None,
    auto_expose_new_tables: Annotated[
        bool,
        typer.Option(
            "--auto-expose-new-tables/--no-auto-expose-new-tables",
            help="Grant new tables in public to anon, authenticated and service_role.",
        ),
    ] = True,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start PostgreSQL, PostgREST, Auth and Realtime behind one URL."""
    from jamestronic_sdk.local import control
    from jamestronic_sdk.local.auth.settings import parse_settings
    from jamestronic_sdk.local.keys import CLI_DATABASE_PORT, Secrets

    if ephemeral and data_dir is not None:
        raise typer.BadParameter("--ephemeral has a folder of its own; leave out --data-dir.")
    try:
        parse_settings(auth or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--auth") from None
    secrets = Secrets(
        jwt_secret=jwt_secret,
        anon_key=anon_key,
        service_role_key=service_role_key,
        publishable_key=publishable_key,
        secret_key=secret_key,
        database_password=db_password,
    )
    if cli_defaults:
        secrets = secrets.over(Secrets.of_the_cli())
        db_port = db_port or CLI_DATABASE_PORT
    reach = f"at {host}: whoever reaches it may use it" if i_trust_this_network else "from this machine alone"
    is_json = output_of().is_json
    typer.echo(f"For development only: a local Supabase on this machine, reachable {reach}.", err=is_json)
    where = None if ephemeral else (data_dir or control.default_data_dir())
    options = control.Options(
        port,
        apply_sql=not no_sql,
        auth=tuple(auth or ()),
        asymmetric=asymmetric,
        database_port=db_port,
        host=host,
        is_network_trusted=i_trust_this_network,
        secrets=secrets,
        auto_expose_new_tables=auto_expose_new_tables,
    )
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


@local.command()
def logs(
    *,
    part: Annotated[
        list[str] | None,
        typer.Option("--part", help="postgres, postgrest, auth, realtime or gateway; may be repeated."),
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="The last ones of each part.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    data_dir: _DataDir = None,
) -> None:
    """Show what the parts have written, also of a stack that has ended."""
    from jamestronic_sdk.local import control
    from jamestronic_sdk.local import logs as part_logs

    folder = control.log_folder(data_dir or control.default_data_dir())
    parts = tuple(part or ())
    coming = part_logs.follow(folder, parts) if follow else iter(())
    out = output_of()
    with contextlib.suppress(KeyboardInterrupt):
        for name, line in itertools.chain(part_logs.read(folder, parts, lines), coming):
            out.result({"part": name, "line": line}, f"{name:9} | {line}")
            sys.stdout.flush()


@local.command()
def reset(
    *,
    save: Annotated[
        bool,
        typer.Option("--save", help="Not now: make the present state the one that a reset goes back to."),
    ] = False,
    data_dir: _DataDir = None,
) -> None:
    """Bring database, mailbox and faults of the running stack back to the beginning."""
    from jamestronic_sdk.local import control

    path = data_dir or control.default_data_dir()
    if save:
        control.save(path)
        output_of().result({"saved": True}, "Saved: a reset goes back to the state of now.")
        return
    is_connected = control.reset(path)
    output_of().result(
        {"reset": True, "is_connected": is_connected},
        "Reset." if is_connected else "Reset; the database was made again, everybody was disconnected.",
    )


@local.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def psql(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGUMENTS]", help="For psql itself.")
    ] = None,
    data_dir: _DataDir = None,
) -> None:
    """Open psql on the running stack's database, as postgres."""
    from jamestronic_sdk.local import control

    program, command, environment = control.psql(data_dir or control.default_data_dir(), arguments or ())
    os.execve(program, command, environment)  # noqa: S606 - psql from PATH or from the wheel


def _fault(data_dir: Path | None, name: str, **parameters: object) -> None:
    from jamestronic_sdk.local import control

    given = {key: value for key, value in parameters.items() if value is not None}
    answer = control.fault(data_dir or control.default_data_dir(), name, given)
    words = (f"{key}={value}" for key, value in answer.items() if key != "fault" and value is not None)
    output_of().result(answer, " ".join([name, *words]))


_ServiceOption = Annotated[Service, typer.Option(help="Whose requests.")]
_Rate = Annotated[float, typer.Option(min=0, max=1, help="Which share of the requests.")]
_Seed = Annotated[int | None, typer.Option(help="Makes the choice repeatable.")]


@fault.command()
def errors(
    *,
    service: _ServiceOption = Service.ALL,
    rate: _Rate = 1.0,
    status: Annotated[int, typer.Option(min=500, max=599)] = 503,
    seed: _Seed = None,
    data_dir: _DataDir = None,
) -> None:
    """Answer a share of the requests with a server's error, without doing them."""
    _fault(data_dir, "errors", service=service.value, rate=rate, status=status, seed=seed)


@fault.command()
def limit(
    *,
    service: _ServiceOption = Service.ALL,
    rate: _Rate = 1.0,
    retry_after: Annotated[int, typer.Option(min=0, max=3600, help="Seconds in Retry-After.")] = 1,
    seed: _Seed = None,
    data_dir: _DataDir = None,
) -> None:
    """Answer a share of the requests with 429 and Retry-After, without doing them."""
    _fault(data_dir, "limit", service=service.value, rate=rate, retry_after=retry_after, seed=seed)


@fault.command()
def delay(
    *,
    service: _ServiceOption = Service.ALL,
    ms: Annotated[float, typer.Option("--ms", min=0, max=60_000, help="Milliseconds.")] = 100,
    jitter: Annotated[float, typer.Option(min=0, max=60_000, help="Milliseconds more, at random.")] = 0,
    seed: _Seed = None,
    data_dir: _DataDir = None,
) -> None:
    """Hold up each request before it is done."""
    _fault(data_dir, "delay", service=service.value, ms=ms, jitter=jitter, seed=seed)


@fault.command()
def realtime(state: RealtimeState, data_dir: _DataDir = None) -> None:
    """Close every Realtime connection and refuse new ones (down), or accept them again (up)."""
    _fault(data_dir, "realtime", state=state.value)


@fault.command()
def silence(data_dir: _DataDir = None) -> None:
    """Leave the Realtime connections open and send nothing: no heartbeat is answered."""
    _fault(data_dir, "silence")


@fault.command()
def cut(data_dir: _DataDir = None) -> None:
    """Break every Realtime connection once, as a lost network does."""
    _fault(data_dir, "cut")


@fault.command()
def drop_slot(data_dir: _DataDir = None) -> None:
    """Drop Realtime's replication slots: changes are missed until it has new ones."""
    _fault(data_dir, "drop_slot")


@fault.command()
def kill(part: Killed, data_dir: _DataDir = None) -> None:
    """Kill a part (kill -9); it is started again."""
    _fault(data_dir, "kill", part=part.value)


@fault.command("list")
def list_faults(data_dir: _DataDir = None) -> None:
    """Show the lasting faults that are on."""
    from jamestronic_sdk.local import control

    found = list(control.faults(data_dir or control.default_data_dir()))
    lines = (" ".join(f"{key}={value}" for key, value in one.items() if value is not None) for one in found)
    output_of().result({"faults": found}, "\n".join(lines))


@fault.command()
def clear(
    name: Annotated[str | None, typer.Argument(help="Only those of this name.")] = None,
    data_dir: _DataDir = None,
) -> None:
    """End the lasting faults."""
    from jamestronic_sdk.local import control

    cleared = control.clear_faults(data_dir or control.default_data_dir(), name)
    output_of().result({"cleared": cleared}, f"{cleared} faults were on.")
