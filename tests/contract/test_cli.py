"""The command as people run it: in processes of its own, against the local stack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from client_people import Person, Shop, open_shop

from jamestronic_sdk import Role
from jamestronic_sdk.local.stack import LocalSupabase

ROWS = (
    *(
        "versions",
        "settings",
        "address",
        "connection",
        "health",
        "clock",
        "key",
        "sql",
        "policies",
        "session",
    ),
    *("realtime", "join", "changes", "topic", "change log", "database", "rls", "publication"),
)
# Each command is a process that imports the client, and a test runs up to ten of them.
pytestmark = pytest.mark.timeout(300)

DEADLINE = 60.0
"""Seconds for one command."""


@dataclass
class Machine:
    """A home folder and an environment: what one person's commands share."""

    home: Path
    variables: dict[str, str]
    secrets: set[str] = field(default_factory=set)
    """Must be in no output."""

    @property
    def session_file(self) -> Path:
        (found,) = (self.home / "config" / "jamestronic" / "sessions").iterdir()
        return found

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        return {
            **kept,
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "PYTHONWARNINGS": "error",
            **self.variables,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "jamestronic_sdk", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env=self.environment,
        )

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "jamestronic_sdk", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
            cwd=self.home,
            env=self.environment,
        )
        self.inspect(done.stdout, done.stderr)
        return done

    def ok(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def json(self, *arguments: str, stdin: str = "") -> Any:
        out = self.ok(*arguments, "--json", stdin=stdin)
        assert out.count("\n") == 1
        return json.loads(out)

    def inspect(self, *texts: str) -> None:
        """No traceback, and no secret: the planted ones, and the tokens of whoever is signed in."""
        folder = self.home / "config" / "jamestronic" / "sessions"
        tokens: set[str] = set()
        for path in folder.glob("*.json"):  # not the files that become one of these
            kept = json.loads(path.read_text())
            tokens |= {kept["access_token"], kept["refresh_token"]}
        for text in texts:
            assert "Traceback" not in text
            assert not [secret for secret in self.secrets | tokens if secret in text]

    def sign_in(self, person: Person) -> None:
        self.secrets.add(person.password)
        self.ok("login", "--email", person.email, "--password-stdin", stdin=f"{person.password}\n")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(local_supabase: LocalSupabase) -> AsyncIterator[Shop]:
    async with open_shop(local_supabase) as opened:
        yield opened


@pytest.fixture
def machine(tmp_path: Path, local_supabase: LocalSupabase) -> Machine:
    return machine_of(tmp_path, local_supabase)


def machine_of(home: Path, stack: LocalSupabase) -> Machine:
    home.mkdir(exist_ok=True)
    return Machine(
        home,
        {"SUPABASE_URL": stack.url, "SUPABASE_KEY": stack.anon_key},
        {stack.anon_key, stack.service_role_key, stack.jwt_secret},
    )


def states(found: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["state"] for check in found["checks"]}


def advice(found: dict[str, Any], name: str) -> str:
    (check,) = (check for check in found["checks"] if check["name"] == name)
    return f"{check['detail']} -> {check['next_step']}"


# -- signing in ------------------------------------------------------------------------------------------


async def test_a_password_signs_in_for_the_commands_that_follow(machine: Machine, shop: Shop) -> None:
    ada = await shop.person(Role.ADMIN)
    before = machine.run("whoami")
    assert (before.returncode, before.stdout) == (3, "")
    assert "Run: jamestronic login" in before.stderr

    machine.secrets.add(ada.password)
    wrong = machine.run("login", "--email", ada.email, "--password-stdin", stdin="wrong\n")
    assert (wrong.returncode, wrong.stdout) == (3, "")
    assert wrong.stderr.startswith("InvalidCredentialsError: ")

    said = machine.ok("login", "--email", ada.email, "--password-stdin", stdin=f"{ada.password}\n")
    assert said.rstrip().endswith("(admin).")
    assert machine.session_file.stat().st_mode & 0o777 == 0o600

    me = machine.json("whoami")
    assert (me["email"], me["role"], me["project"]) == (ada.email, "admin", machine.variables["SUPABASE_URL"])
    assert me["kept_in"] == str(machine.session_file)
    text = machine.ok("whoami")
    assert "Role:     admin" in text

    assert machine.json("logout") == {"signed_out": True, "project": me["project"]}
    assert machine.run("whoami").returncode == 3


async def test_a_mailed_code_signs_in(machine: Machine, shop: Shop, local_supabase: LocalSupabase) -> None:
    """The command waits for the code on standard input, where there is no terminal."""
    ben = await shop.person(Role.TECHNICIAN)
    with machine.start("login", "--code", "--email", ben.email, "--json") as process:
        assert process.stderr is not None
        assert "A code is on its way" in process.stderr.readline()
        (message,) = machine.json(
            *("local", "mail", "--to", ben.email, "--data-dir", str(local_supabase.data_dir))
        )
        out, err = process.communicate(f"{message['code']}\n", timeout=DEADLINE)
    assert process.returncode == 0, err
    machine.inspect(out, err)
    assert json.loads(out)["role"] == "technician"
    assert machine.json("whoami")["email"] == ben.email


async def test_a_session_that_ended_elsewhere_says_so(machine: Machine, shop: Shop, tmp_path: Path) -> None:
    ada = await shop.person(Role.ADMIN)
    machine.sign_in(ada)
    other = Machine(tmp_path / "other", machine.variables, machine.secrets)
    other.home.mkdir()
    other.sign_in(ada)
    other.ok("logout", "--everywhere")
    ended = machine.run("whoami")
    assert ended.returncode == 3
    assert "Sign in again" in ended.stderr


async def test_a_file_that_cannot_be_written_is_said_at_login(machine: Machine, shop: Shop) -> None:
    ada = await shop.person(Role.ADMIN)
    machine.secrets.add(ada.password)
    (machine.home / "file").write_text("in the way")
    done = machine.run(
        *("login", "--email", ada.email, "--password-stdin", "--session-file", "file/session.json"),
        stdin=f"{ada.password}\n",
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "can't be kept" in done.stderr


# -- tickets ---------------------------------------------------------------------------------------------


async def test_tickets_are_opened_and_found(machine: Machine, shop: Shop) -> None:
    machine.sign_in(await shop.person(Role.ADMIN))
    word = uuid4().hex
    made = machine.json("tickets", "create", f"Oven {word}", "--priority", "urgent", "--brand", "Neff")
    assert made["label"] == f"JT-{made['number']}"
    assert (made["priority"], made["appliance_brand"]) == ("urgent", "Neff")
    label = made["label"]

    assert machine.json("tickets", "show", label.lower()) == made
    assert machine.json("tickets", "show", made["id"]) == made
    assert f"Title:        Oven {word}" in machine.ok("tickets", "show", str(made["number"]))

    filters = ("--text", word, "--status", "open", "--priority", "urgent", "--unassigned", "--since", "1h")
    assert machine.json("tickets", "list", *filters) == {"tickets": [made]}
    line = machine.ok("tickets", "list", *filters, "--quiet")
    assert line.split("\t")[:4] == [label, "open", "urgent", ""]
    assert machine.json("tickets", "list", *filters, "--until", "1h") == {"tickets": []}
    assert machine.run("tickets", "show", "JT-999999999").returncode == 4
    assert machine.run("tickets", "show", "not a ticket").returncode == 2


async def test_a_ticket_is_moved_on(machine: Machine, shop: Shop) -> None:
    made = await shop.service.tickets.create(title="Moved on")
    machine.sign_in(await shop.person(Role.ADMIN))
    ben = await shop.person(Role.TECHNICIAN)
    name = ben.email.partition("@")[0]
    label = made.label

    assert machine.ok("tickets", "assign", label, name.upper()) == f"{label} is assigned; {name} has it.\n"
    whose = machine.json("tickets", "list", "--technician", name.rpartition("-")[2], "--order", "oldest")[
        "tickets"
    ]
    assert [one["label"] for one in whose] == [label]

    old = machine.run("tickets", "unassign", label, "--expected-version", str(made.version), "--json")
    assert (old.returncode, old.stdout) == (5, "")
    assert json.loads(old.stderr)["error"]["type"] == "ConflictError"

    assert machine.json("tickets", "status", label, "in_progress")["status"] == "in_progress"
    refused = machine.run("tickets", "status", label, "open")
    assert refused.returncode == 1
    free = machine.json("tickets", "unassign", label)
    assert (free["status"], free["assigned_technician_id"]) == ("open", None)


async def test_a_technician_claims_what_is_free(machine: Machine, shop: Shop, tmp_path: Path) -> None:
    ticket = await shop.service.tickets.create(title="Free")
    machine.sign_in(await shop.person(Role.TECHNICIAN))
    mine = machine.json("tickets", "claim", ticket.label)
    assert mine["status"] == "assigned"
    assert machine.json("tickets", "list", "--technician", "@me")["tickets"] == [mine]
    assert machine.run("tickets", "assign", ticket.label, "@me").returncode == 3

    other = Machine(tmp_path / "other", machine.variables, machine.secrets)
    other.home.mkdir()
    other.sign_in(await shop.person(Role.TECHNICIAN))
    assert other.run("tickets", "claim", ticket.label).returncode in {4, 5}

    assert machine.json("tickets", "release", ticket.label)["assigned_technician_id"] is None


async def test_a_name_that_could_be_two_people_lists_them(machine: Machine, shop: Shop) -> None:
    machine.sign_in(await shop.person(Role.ADMIN))
    ticket = await shop.service.tickets.create(title="Whose?")
    people = [await shop.profile_of(await shop.person(Role.TECHNICIAN)) for _ in range(2)]
    done = machine.run("tickets", "assign", ticket.label, "technician-")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("InvalidInputError: 'technician-' could be ")
    assert all(one.full_name in done.stderr or "more" in done.stderr for one in people)
    nobody = machine.run("tickets", "assign", ticket.label, "no such person")
    assert nobody.returncode == 4
    now = await shop.service.tickets.get(ticket)
    assert now.version == ticket.version


async def test_the_service_names_people_by_address(machine: Machine, shop: Shop) -> None:
    machine.variables["SUPABASE_SERVICE_ROLE_KEY"] = shop.supabase.service_role_key
    ticket = await shop.service.tickets.create(title="By address")
    ben = await shop.person(Role.TECHNICIAN)
    after = machine.json("tickets", "assign", ticket.label, ben.email.upper(), "--service")
    assert after["assigned_technician_id"] == str((await shop.profile_of(ben)).id)
    assert machine.json("whoami", "--service")["role"] == "service"
    machine.sign_in(await shop.person(Role.ADMIN))
    assert machine.run("tickets", "assign", ticket.label, ben.email).returncode == 2


async def test_many_commands_at_once_share_one_session(machine: Machine, shop: Shop) -> None:
    """Also when each of them renews it."""
    machine.sign_in(await shop.person(Role.ADMIN))
    with ExitStack() as stack:
        running = [stack.enter_context(machine.start("whoami", "--json")) for _ in range(3)]
        for process in running:
            out, err = process.communicate(timeout=DEADLINE)
            assert process.returncode == 0, err
            machine.inspect(out, err)
    assert machine.json("whoami")["role"] == "admin"


def test_nobody_answers_there(machine: Machine) -> None:
    """6 is for the network, whatever the command."""
    machine.variables["SUPABASE_URL"] = "http://127.0.0.1:9"
    done = machine.run("login", "--email", "a@b.test", "--password-stdin", "--timeout", "2", stdin="x\n")
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("ConnectionFailedError: ")


# -- watching --------------------------------------------------------------------------------------------


async def test_watch_sees_what_another_process_does(machine: Machine, shop: Shop) -> None:
    machine.sign_in(await shop.person(Role.ADMIN))
    ben = await shop.profile_of(await shop.person(Role.TECHNICIAN))
    ticket = await shop.service.tickets.create(title="Watched")
    with machine.start("tickets", "watch", "--json", "--stats", "--duration", "60") as watching:
        assert watching.stdout is not None
        seen = [json.loads(line) for line in lines_until(watching, "StatusChanged", "live")]
        machine.ok("tickets", "assign", ticket.label, str(ben.id), "--json")
        seen += [json.loads(line) for line in lines_until(watching, "TicketAssigned", ticket.label)]
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=DEADLINE)
    machine.inspect(out, err)
    assert watching.returncode == 130, err
    event = seen[-1]
    assert event["ticket"]["assigned_technician_id"] == str(ben.id)
    assert event["changes"]["assigned_technician_id"] == {"old": None, "new": str(ben.id)}
    assert event["source"] in {"realtime", "refetch"}
    stats = json.loads(out.splitlines()[-1])
    assert stats["event"] == "Stats"
    assert stats["events"]["TicketAssigned"][event["source"]] >= 1
    assert stats["counts"]["reads"] >= 1


async def test_a_technician_watches_their_pool_as_text(machine: Machine, shop: Shop) -> None:
    machine.sign_in(await shop.person(Role.TECHNICIAN))
    ticket = await shop.service.tickets.create(title="In the \x1b[31mpool")
    arguments = ("--pool", "--initial", "--stats", "--duration", "2")
    done = machine.run("tickets", "watch", *arguments)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if ticket.label in line)
    assert "created" in line
    assert "(already there)" in line
    assert "\x1b" not in done.stdout
    assert "Counters:" in done.stdout
    assert "Watching" in done.stderr
    machine.ok("logout")
    machine.sign_in(await shop.person(Role.ADMIN))
    assert machine.run("tickets", "watch", "--pool").returncode == 2


async def test_watch_says_when_realtime_is_down_and_polls(machine: Machine, shop: Shop) -> None:
    stack = shop.supabase.require_stack()
    machine.sign_in(await shop.person(Role.ADMIN))
    ticket = await shop.service.tickets.create(title="Polled")
    machine.ok("local", "fault", "realtime", "down", "--data-dir", str(stack.data_dir))
    try:
        with machine.start(
            *("tickets", "watch", "--json", "--poll-interval", "0.5", "--duration", "60", "--stats")
        ) as watching:
            lines_until(watching, "StatusChanged", "polling")
            machine.ok("tickets", "status", ticket.label, "cancelled")
            event = json.loads(lines_until(watching, "TicketUpdated", ticket.label)[-1])
            watching.send_signal(signal.SIGTERM)
            out, err = watching.communicate(timeout=DEADLINE)
    finally:
        machine.ok("local", "fault", "realtime", "up", "--data-dir", str(stack.data_dir))
    assert watching.returncode == 143, err
    assert event["source"] in {"poll", "refetch"}
    assert json.loads(out.splitlines()[-1])["event"] == "Stats"


def lines_until(process: subprocess.Popen[str], *words: str) -> list[str]:
    """What it prints, up to a line with all the words; it ends by itself when that does not come."""
    assert process.stdout is not None
    found: list[str] = []
    for line in process.stdout:
        found.append(line)
        if all(word in line for word in words):
            return found
    assert process.stderr is not None
    pytest.fail(f"no line with {words}; stderr: {process.stderr.read()}")


# -- doctor ----------------------------------------------------------------------------------------------


async def test_doctor_finds_nothing_on_the_stack(machine: Machine, shop: Shop) -> None:
    stack = shop.supabase.require_stack()
    machine.variables["DATABASE_URL"] = stack.database_url
    for role in (Role.ADMIN, Role.CUSTOMER):
        machine.sign_in(await shop.person(role))
        found = machine.json("doctor")
        assert found["ok"] is True
        assert states(found) == dict.fromkeys(ROWS, "ok")
    text = machine.ok("doctor")
    assert "ok   realtime" in text
    assert "070 (" in text


def test_doctor_knows_a_wrong_key(machine: Machine) -> None:
    import jwt  # noqa: PLC0415 - of the local extra

    claims = {"role": "anon", "iss": "supabase"}
    machine.variables["SUPABASE_KEY"] = jwt.encode(claims, "of-another-project-7f3a" * 2, algorithm="HS256")
    machine.secrets.add(machine.variables["SUPABASE_KEY"])
    done = machine.run("doctor", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert [name for name, state in states(found).items() if state != "ok"] == ["key"]
    assert "same project" in advice(found, "key")


@pytest.mark.parametrize(
    ("url", "row", "hint"),
    [
        ("http://no-such-host.invalid", "address", "not known"),
        ("http://127.0.0.1:9", "connection", "Nothing answers"),
        ("ftp://127.0.0.1", "settings", "https://"),
    ],
)
def test_doctor_knows_a_wrong_address(machine: Machine, url: str, row: str, hint: str) -> None:
    machine.variables["SUPABASE_URL"] = url
    done = machine.run("doctor", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert [name for name, state in states(found).items() if state != "ok"] == [row]
    assert list(states(found))[-1] == row
    assert hint in advice(found, row)


def test_doctor_knows_that_realtime_is_down(machine: Machine, local_supabase: LocalSupabase) -> None:
    machine.ok("local", "fault", "realtime", "down", "--data-dir", str(local_supabase.data_dir))
    try:
        done = machine.run("doctor", "--json")
    finally:
        machine.ok("local", "fault", "realtime", "up", "--data-dir", str(local_supabase.data_dir))
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert [name for name, state in states(found).items() if state == "fail"] == ["realtime"]
    assert "503" in advice(found, "realtime")
    assert states(found)["session"] == "warn"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A stack without the package's SQL, by the command alone."""
    home = tmp_path_factory.mktemp("bare")
    host = Machine(
        home, {name: value for name, value in os.environ.items() if name.startswith("JAMESTRONIC_")}
    )
    data = host.json("local", "start", "--detach", "--ephemeral", "--no-sql", "--port", "0")["data_dir"]
    try:
        variables = host.json("local", "env", "--data-dir", data)
        yield Machine(home, variables, {value for name, value in variables.items() if name.endswith("KEY")})
    finally:
        assert host.json("local", "stop", "--data-dir", data)["stopped"]


def test_doctor_knows_that_the_sql_is_missing(bare: Machine) -> None:
    checked = bare.run("sql", "check", "--json")
    assert checked.returncode == 1
    assert json.loads(checked.stdout)["ok"] is False
    done = bare.run("doctor", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    failed = [name for name, state in states(found).items() if state == "fail"]
    assert failed == ["sql", "changes", "database", "rls", "publication"]
    for file in ("010_schema.sql", "020_functions.sql", "050_commands.sql", "060_sync.sql"):
        assert file in advice(found, "sql")
    assert "jamestronic sql export" in advice(found, "sql")
    assert "040_realtime.sql" in advice(found, "publication")
