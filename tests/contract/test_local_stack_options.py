"""How a local stack is started: ports, keys, addresses, grants; and the commands that look into it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from jamestronic_sdk.errors import LocalStackError, PortInUseError
from jamestronic_sdk.local import control
from jamestronic_sdk.local._processes import listen
from jamestronic_sdk.local.instance import ANYWHERE
from jamestronic_sdk.local.keys import CLI_DATABASE_PORT, CLI_PORT, Secrets
from jamestronic_sdk.local.postgres import find_program
from jamestronic_sdk.local.stack import LocalSupabase
from jamestronic_sdk.local.tokens import make_api_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "jamestronic_sdk", "local"]
SECRET = "another-secret-of-more-than-32-characters"

# As the Supabase CLI prints them.
_HEADER = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
CLI_ANON_KEY = (
    _HEADER + "eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6ImFub24iLCJleHAiOjE5ODM4MTI5OTZ9"
    ".CRXP1A7WOeoJeXxjNni43kdQwgnWNReilDMblYTn_I0"
)
CLI_SERVICE_ROLE_KEY = (
    _HEADER + "eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6InNlcnZpY2Vfcm9sZSIsImV4cCI6MTk4MzgxMjk5Nn0"
    ".EGIM96RAZx35lJzdJsyH-qQwv8Hdp7fsn3W0YpN81IU"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A new data directory's path, below a folder that `nobody` can enter."""
    parent = Path(tempfile.mkdtemp(prefix="jamestronic-test-", dir="/tmp"))
    parent.chmod(0o711)
    try:
        yield parent / "data"
    finally:
        control.stop(parent / "data")
        shutil.rmtree(parent)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def is_free(port: int) -> bool:
    try:
        with closing(listen(port)):
            return True
    except PortInUseError:
        return False


def test_the_cli_defaults_are_those_of_the_cli() -> None:
    """Ports, secret, password and all four keys, to the letter."""
    secrets = Secrets.of_the_cli()
    assert (CLI_PORT, CLI_DATABASE_PORT) == (54321, 54322)
    assert (secrets.anon_key, secrets.service_role_key) == (CLI_ANON_KEY, CLI_SERVICE_ROLE_KEY)
    assert secrets.jwt_secret == "super-secret-jwt-token-with-at-least-32-characters-long"
    assert secrets.database_password == "postgres"
    assert secrets.is_well_known
    assert "postgres" not in repr(secrets)


def test_a_suite_that_was_written_for_the_cli_runs_unchanged(folder: Path) -> None:
    """Its address of the database, its keys in both forms; nothing of it is in the arguments of a process."""
    if not (is_free(CLI_PORT) and is_free(CLI_DATABASE_PORT)):
        pytest.skip("a local stack of the Supabase CLI, or of somebody else, runs here (expected)")
    option = ("--data-dir", str(folder))
    started = run("start", "--detach", "--cli-defaults", *option)
    assert started.returncode == 0, started.stderr
    url = "http://127.0.0.1:54321"
    address = "postgresql://postgres:postgres@127.0.0.1:54322/postgres"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("create table public.of_a_suite as select 1 as one")
    for key in (CLI_SERVICE_ROLE_KEY, "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"):
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        rows = httpx.get(f"{url}/rest/v1/of_a_suite", headers=headers)
        assert (rows.status_code, rows.json()) == (200, [{"one": 1}])
    supervisor = json.loads((folder / "instance.json").read_bytes())["supervisor"]["pid"]
    arguments = Path(f"/proc/{supervisor}/cmdline").read_bytes()
    assert not [
        value for value in Secrets.of_the_cli().given().values() if value.encode() in arguments.split(b"\0")
    ]
    assert run("stop", *option).returncode == 0


async def test_chosen_secrets_stay_with_the_data(folder: Path) -> None:
    """Keys are made to fit a secret; a password is of the data."""
    chosen = Secrets(jwt_secret=SECRET, secret_key="sb_secret_chosen", database_password="chosen")
    async with LocalSupabase(folder, port=0, secrets=chosen) as first:
        assert (first.jwt_secret, first.secret_key) == (SECRET, "sb_secret_chosen")
        keys = (first.anon_key, first.service_role_key)
        async with httpx.AsyncClient(headers={"apikey": first.secret_key}) as http:
            assert (await http.get(f"{first.url}/rest/v1/tickets")).status_code == 200
    async with LocalSupabase(folder, port=0) as second:
        assert (second.anon_key, second.service_role_key) == keys
        assert second.context.database_password == "chosen"
    with pytest.raises(LocalStackError, match="another password"):
        async with LocalSupabase(folder, port=0, secrets=Secrets(database_password="other")):
            pass


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        (Secrets(jwt_secret="short"), "shorter than 32"),
        (Secrets(anon_key=CLI_ANON_KEY), "anon key is no token"),
        (Secrets(jwt_secret=SECRET, service_role_key=make_api_keys(SECRET)[0]), "of the role service_role"),
        (Secrets(publishable_key="public"), "sb_publishable_"),
    ],
)
async def test_secrets_that_do_not_fit_are_refused(folder: Path, secrets: Secrets, said: str) -> None:
    with pytest.raises(LocalStackError, match=said):
        async with LocalSupabase(folder, port=0, secrets=secrets):
            pass


async def test_a_taken_database_port_is_named(folder: Path) -> None:
    """A port that was asked for is used, or refused."""
    with closing(listen(0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"{port}.*--db-port"):
            async with LocalSupabase(folder, port=0, database_port=port):
                pass
    async with LocalSupabase(folder, port=0, database_port=port) as supabase:
        assert supabase.context.database_port == port


# --- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [ANYWHERE, "192.0.2.1"])
def test_another_address_than_loopback_must_be_meant(host: str) -> None:
    """Said twice, and never with keys that everybody knows."""
    with pytest.raises(LocalStackError, match="--i-trust-this-network"):
        LocalSupabase(port=0, host=host)
    with pytest.raises(LocalStackError, match="Keys that everybody knows"):
        LocalSupabase(port=0, host=host, is_network_trusted=True, secrets=Secrets.of_the_cli())


@pytest.mark.parametrize("host", ["example.test", "::1", ""])
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(LocalStackError, match="no IPv4 address"):
        LocalSupabase(port=0, host=host)


async def test_a_trusted_network_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """The gateway listens there; PostgreSQL stays on loopback, and the address for programs is loopback's."""
    async with LocalSupabase(port=0, host=ANYWHERE, is_network_trusted=True) as supabase:
        assert "it is not made for networks" in caplog.text
        assert supabase.url.startswith("http://127.0.0.1:")
        port = int(supabase.url.rpartition(":")[2])
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://127.0.0.2:{port}/health")).status_code == 200
        with pytest.raises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(
                supabase.database_url.replace("127.0.0.1", "127.0.0.2"), connect_timeout=5
            )


# --- grants ----------------------------------------------------------------------------------------------


def schema_of(stack: LocalSupabase) -> list[str]:
    """All that pg_dump knows, but for the switch itself."""
    done = subprocess.run(
        [find_program("pg_dump"), "--schema-only", stack.context.dsn("supabase_admin")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [
        line
        for line in done.stdout.splitlines()
        if line and not line.startswith(("\\", "--", "ALTER DEFAULT PRIVILEGES"))
    ]


async def reads(stack: LocalSupabase, key: str) -> int:
    """The status of a read of a table that was just made; not before PostgREST knows it."""
    async with httpx.AsyncClient(headers={"apikey": key}) as http, asyncio.timeout(20):
        while True:
            response = await http.get(f"{stack.url}/rest/v1/probe")
            if response.status_code != 404:
                return response.status_code
            await asyncio.sleep(0.02)


async def test_new_tables_are_exposed_unless_switched_off() -> None:
    """At once, to the three roles; policies decide. The package's own SQL is the same either way."""
    made = """
        create table public.probe (id bigint generated always as identity primary key);
        create function public.probe_function() returns int language sql as 'select 1';
    """
    rights = """
        select r, has_table_privilege(r, 'public.probe', 'select, insert, update, delete'),
               has_sequence_privilege(r, 'public.probe_id_seq', 'usage')
          from unnest(array['anon', 'authenticated', 'service_role']) as r
    """
    schemas = []
    for is_on in (True, False):
        async with LocalSupabase(port=0, auto_expose_new_tables=is_on) as stack:
            schemas.append(await asyncio.to_thread(schema_of, stack))
            async with await psycopg.AsyncConnection.connect(
                stack.database_url, autocommit=True
            ) as connection:
                await connection.execute(made.encode())
                cursor = await connection.execute(rights.encode())
                assert {row[1:] for row in await cursor.fetchall()} == {(is_on, is_on)}
            assert await reads(stack, stack.publishable_key) == (200 if is_on else 401)
            assert await reads(stack, stack.secret_key) == (200 if is_on else 403)
    assert schemas[0] == schemas[1]


async def test_the_switch_counts_for_what_is_made_from_then_on(folder: Path) -> None:
    """Also after a reset: the template has it, too."""
    for is_on in (True, False):
        async with LocalSupabase(folder, port=0, auto_expose_new_tables=is_on) as stack:
            await stack.reset()
            async with await psycopg.AsyncConnection.connect(stack.database_url) as connection:
                await connection.execute("create table public.probe (id int)")
                cursor = await connection.execute(
                    "select has_table_privilege('anon', 'public.probe', 'select')"
                )
                assert await cursor.fetchone() == (is_on,)
                await connection.rollback()


# --- commands --------------------------------------------------------------------------------------------


def test_the_commands_that_look_into_a_stack(folder: Path) -> None:
    """psql, logs, faults and reset, as a person types them."""
    option = ("--data-dir", str(folder))
    started = run("start", "--detach", "--port", "0", *option)
    assert started.returncode == 0, started.stderr

    asked = run("psql", *option, "--", "-Atc", "select current_user")
    assert (asked.returncode, asked.stdout) == (0, "postgres\n"), asked.stderr
    only_python = str(Path(sys.executable).parent)
    from_wheel = run("psql", *option, "--", "-Atc", "select 1", PATH=only_python)
    assert (from_wheel.returncode, from_wheel.stdout) == (0, "1\n"), from_wheel.stderr

    broken = run("fault", "errors", "--service", "rest", "--rate", "0.5", "--seed", "1", *option)
    assert broken.stdout == "errors service=rest rate=0.5 status=503 seed=1\n", broken.stderr
    assert run("fault", "list", *option).stdout.count("\n") == 1
    assert run("fault", "kill", "postgrest", *option).stdout == "kill part=postgrest killed=1\n"
    assert run("fault", "clear", *option).stdout == "1 faults were on.\n"
    refused = run("fault", "errors", "--rate", "2", *option)
    assert refused.returncode == 2

    assert run("psql", *option, "--", "-c", "create table public.probe ()").returncode == 0
    assert run("reset", "--save", *option).returncode == 0
    assert run("psql", *option, "--", "-c", "create table public.other ()").returncode == 0
    assert run("reset", *option).stdout.startswith("Reset; the database was made again")
    assert run("reset", *option).stdout == "Reset.\n"
    tables = run("psql", *option, "--", "-Atc", "select to_regclass('probe'), to_regclass('other')").stdout
    assert tables == "probe|\n"

    assert run("stop", *option).returncode == 0
    everything = run("logs", *option).stdout
    assert "postgres  | " in everything
    assert "gateway   | " in everything, "PostgREST's end is told"
    only = run("logs", "--part", "postgres", "--lines", "2", *option).stdout.splitlines()
    assert len(only) == 2
    assert "shut down" in only[-1]
    assert run("logs", "--part", "mail", *option).returncode == 1
    assert run("reset", *option).returncode == 1


def test_logs_are_followed(folder: Path) -> None:
    """What is written from now on, until somebody has seen enough."""
    option = ("--data-dir", str(folder))
    assert run("start", "--detach", "--port", "0", *option).returncode == 0
    with subprocess.Popen(
        [*COMMAND, "logs", "--follow", "--lines", "1", "--part", "postgres", *option],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as following:
        assert following.stdout is not None
        assert following.stdout.readline().startswith("postgres  | ")
        assert run("stop", *option).returncode == 0
        while "database system is shut down" not in following.stdout.readline():
            pass
        following.terminate()
