"""The command without a project: options, exit codes, errors, words, and what `--help` costs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner, Result

from jamestronic_sdk import (
    BadRequestError,
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    JamesTronicError,
    LocalStackError,
    NotFoundError,
    NotSignedInError,
    PermissionDeniedError,
    RateLimitedError,
    RequestTimeoutError,
    SchemaMissingError,
    ServerError,
    SessionExpiredError,
    TicketPriority,
    TicketStatus,
)
from jamestronic_sdk.cli import app
from jamestronic_sdk.cli._names import moment, now
from jamestronic_sdk.cli._output import ExitCode, exit_code, plain
from jamestronic_sdk.cli.tickets import Order, Priority, Status

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
KEY = "sb_publishable_planted7f3a"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "SUPABASE_URL",
        "SUPABASE_KEY",
        "SUPABASE_ANON_KEY",
        "SUPABASE_SERVICE_ROLE_KEY",
        "DATABASE_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin, prog_name="jamestronic")


def leaves(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command that does something, by its words."""
    if not hasattr(command, "commands"):
        return {path: command}
    found: dict[tuple[str, ...], Any] = {}
    for name, inner in command.commands.items():
        found |= leaves(inner, (*path, name))
    return found


COMMANDS = leaves(get_command(app))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_takes_the_common_options(words: tuple[str, ...]) -> None:
    options = {word for option in COMMANDS[words].params for word in option.opts}
    assert {"--json", "--quiet", "--debug"} <= options
    if words[0] not in {"demo", "local", "sql"}:
        assert {"--url", "--key", "--service", "--env-file", "--session-file", "--timeout"} <= options


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    done = run(*words, "--help")
    assert done.exit_code == 0
    assert COMMANDS[words].help


def test_the_words_of_the_options_are_those_of_the_models() -> None:
    assert list(map(str, Status)) == list(map(str, TicketStatus))
    assert list(map(str, Priority)) == list(map(str, TicketPriority))


def test_help_needs_neither_the_client_nor_its_libraries() -> None:
    """They are most of the time that a start takes."""
    slow = ("pydantic", "supabase", "httpx", "websockets", "asyncio", "psycopg", "rich.table")
    code = f"import sys, jamestronic_sdk.cli; print([name for name in {slow!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# -- exit codes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError, 2),
        (InvalidInputError, 2),
        (NotSignedInError, 3),
        (SessionExpiredError, 3),
        (PermissionDeniedError, 3),
        (NotFoundError, 4),
        (ConflictError, 5),
        (ConnectionFailedError, 6),
        (RequestTimeoutError, 6),
        (RateLimitedError, 7),
        (ServerError, 7),
        (BadRequestError, 1),
        (SchemaMissingError, 1),
        (LocalStackError, 1),
    ],
)
def test_each_error_has_its_exit_code(error: type[JamesTronicError], code: int) -> None:
    assert exit_code(error("no")) == code


def test_the_documentation_lists_every_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: int(code) for code, name in rows} == {code.name: code.value for code in ExitCode}


def test_the_documentation_names_every_command() -> None:
    """Those of `local` have a page of their own."""
    text = DOCS.read_text(encoding="utf-8")
    missing = [" ".join(words) for words in COMMANDS if f"`jamestronic {' '.join(words)}" not in text]
    assert [words for words in missing if not words.startswith("local ")] == []


# -- settings and errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("whoami",), ("logout",), ("tickets", "list"), ("tickets", "show", "1")])
def test_missing_settings_are_named_with_what_to_do(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert (done.exit_code, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.startswith("ConfigurationError: SUPABASE_URL is not set. ")
    assert "--url" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "--key" in run(*words, "--url", "https://a.test").stderr
    assert "--service" in run(*words, "--url", "https://a.test", "--service").stderr


def test_errors_are_objects_with_json_wherever_the_option_stands() -> None:
    for arguments in (("--json", "tickets", "list"), ("tickets", "list", "--json")):
        done = run(*arguments)
        assert (done.exit_code, done.stdout) == (ExitCode.USAGE, "")
        error = json.loads(done.stderr)["error"]
        assert error["type"] == "ConfigurationError"
        assert error["message"] == "SUPABASE_URL is not set."
        assert error["next_step"]
        assert error["exit_code"] == ExitCode.USAGE


def test_options_of_one_run_do_not_reach_the_next() -> None:
    assert json.loads(run("whoami", "--json").stderr)
    assert run("whoami").stderr.startswith("ConfigurationError")


def test_only_debug_shows_where_an_error_comes_from() -> None:
    assert "Traceback" not in run("whoami").stderr
    assert "Traceback" in run("whoami", "--debug").stderr


def test_settings_come_from_an_env_file_and_options_beat_it(tmp_path: Path) -> None:
    (tmp_path / "mine.env").write_text(f"SUPABASE_URL=https://file.test\nSUPABASE_KEY={KEY}\n")
    done = run("whoami", "--env-file", str(tmp_path / "mine.env"))
    assert done.exit_code == ExitCode.DENIED
    assert "Nobody is signed in to file.test. Run: jamestronic login" in done.stderr
    done = run("whoami", "--env-file", str(tmp_path / "mine.env"), "--url", "https://option.test")
    assert "option.test" in done.stderr
    assert KEY not in done.stderr


def test_nothing_to_sign_out_of_is_no_error() -> None:
    project = ("--url", "https://a.test", "--key", KEY)
    done = run("logout", *project, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"signed_out": False, "project": "https://a.test"}
    assert run("logout", *project, "--quiet").stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("login", "--code", "--password-stdin"),
        ("login", "--email", "a@b.test"),
        ("tickets", "list", "--status", "opne"),
        ("tickets", "list", "--limit", "0"),
        ("tickets", "list", "--technician", "ada", "--unassigned"),
        ("tickets", "list", "--since", "yesterday-ish"),
        ("tickets", "status", "JT-1", "opne"),
        ("tickets", "assign", "JT-1"),
        ("tickets", "no-such-command"),
        ("--no-such-option",),
    ],
    ids=" ".join,
)
def test_misuse_is_exit_code_2_and_nothing_on_stdout(arguments: tuple[str, ...]) -> None:
    common = () if arguments[0].startswith("-") else ("--url", "https://a.test", "--key", KEY)
    done = run(*arguments[:1], *arguments[1:], *common)
    assert (done.exit_code, done.stdout) == (ExitCode.USAGE, "")
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr


def test_an_empty_password_is_not_sent() -> None:
    done = run(
        *("login", "--email", "a@b.test", "--password-stdin", "--url", "https://a.test", "--key", KEY),
        stdin="",
    )
    assert done.exit_code == ExitCode.USAGE
    assert "Standard input is empty" in done.stderr


def test_a_service_key_needs_no_login() -> None:
    done = run("login", "--email", "a@b.test", "--url", "https://a.test", "--key", "sb_secret_planted7f3a")
    assert done.exit_code == ExitCode.USAGE
    assert "service key" in done.stderr
    assert "planted" not in done.stderr


def test_doctor_says_that_settings_are_missing() -> None:
    done = run("doctor", "--json")
    assert done.exit_code == ExitCode.FAILURE
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert [(check["name"], check["state"]) for check in found["checks"]] == [
        ("versions", "ok"),
        ("settings", "fail"),
    ]
    assert found["checks"][1]["next_step"]
    text = run("doctor")
    assert "fail settings" in text.stdout
    assert "-> " in text.stdout


def test_completion_is_offered() -> None:
    assert "--install-completion" in run("--help").stdout
    done = subprocess.run(
        [sys.executable, "-m", "jamestronic_sdk"],
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": "",
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
            "_JAMESTRONIC_COMPLETE": "complete_bash",
            "COMP_WORDS": "jamestronic tickets wa",
            "COMP_CWORD": "2",
        },
    )
    assert done.stdout.split() == ["watch"], done.stderr


def test_the_sql_commands_speak_json(tmp_path: Path) -> None:
    listed = json.loads(run("sql", "list", "--json").stdout)["files"]
    assert [set(file) for file in listed] == [{"name", "checksum"}] * len(listed)
    target = str(tmp_path / "migrations")
    assert len(json.loads(run("sql", "export", "--migrations", target, "--json").stdout)["written"]) == len(
        listed
    )
    again = run("sql", "export", "--migrations", target, "--json", "--quiet")
    assert (json.loads(again.stdout), again.stderr) == ({"written": []}, "")


# -- words -----------------------------------------------------------------------------------------------


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert plain("a\x1b[31mred\x07\tb\nc\u202ed ") == "a [31mred  b c d"
    assert plain("Ben Sørensen") == "Ben Sørensen"


def test_moments() -> None:
    assert moment(None, "--since") is None
    assert moment("2026-05-01T09:30:00+02:00", "--since") == datetime(2026, 5, 1, 7, 30, tzinfo=UTC)
    local = datetime.fromisoformat("2026-05-01").astimezone(UTC)
    assert moment("2026-05-01", "--since") == local
    ago = moment("7d", "--since")
    assert ago is not None
    assert abs(now() - timedelta(days=7) - ago) < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["", "soon", "7y", "999999w", "2026-13-01", "\x00"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        moment(text, "--since")


def test_the_orders_are_those_of_the_client() -> None:
    from typing import get_args  # noqa: PLC0415

    from jamestronic_sdk._filters import TicketOrder  # noqa: PLC0415

    assert list(map(str, Order)) == list(get_args(TicketOrder))


# -- demo ------------------------------------------------------------------------------------------------


def test_demo_becomes_the_dashboard_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: became.append([program, *arguments]))
    assert run("demo", "--port", "0", "--ephemeral").exit_code == 0
    assert run("demo", "--no-open").exit_code == 0
    program = str(Path(__file__).parents[2] / "examples" / "dashboard")
    assert became == [
        [sys.executable, sys.executable, program, "--open", "--port", "0", "--ephemeral"],
        [sys.executable, sys.executable, program],
    ]


def test_demo_without_a_checkout_says_where_the_dashboard_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # By name: the package gives that name to the command itself.
    monkeypatch.setattr(sys.modules["jamestronic_sdk.cli.demo"], "_CHECKOUT", tmp_path)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("there is nothing to run"))
    done = run("demo")
    assert (done.exit_code, done.stdout) == (ExitCode.FAILURE, "")
    assert done.stderr.startswith("ToolMissingError: The dashboard is an example of the source repository")
    assert "make dashboard" in done.stderr
