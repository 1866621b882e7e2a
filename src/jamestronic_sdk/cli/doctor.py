"""`jamestronic doctor`: is everything as this version needs it, and if not, what to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from jamestronic_sdk.cli._output import ExitCode, plain
from jamestronic_sdk.cli._root import finish, output_of

if TYPE_CHECKING:
    from jamestronic_sdk.cli._checks import Check

# The checks import the network libraries: only when they are wanted.
# ruff: noqa: PLC0415

__all__ = ["doctor"]


def doctor(
    *,
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url",
            envvar="DATABASE_URL",
            metavar="URL",
            show_envvar=True,
            help="Look into the database, too.",
        ),
    ] = None,
    patience: Annotated[
        float, typer.Option("--patience", metavar="SECONDS", min=0.5, help="For each answer.")
    ] = 10.0,
) -> None:
    """Check the project from here: address, key, sign-in, SQL, policies, Realtime, clock."""
    from jamestronic_sdk.cli._checks import Examination, State

    out = output_of()
    checks: list[Check] = []

    def tell(check: Check) -> None:
        checks.append(check)
        if not out.is_json:
            _print(check)

    finish(lambda: Examination(tell, database_url=database_url, patience=patience).run())
    failed = [check for check in checks if check.state is State.FAIL]
    if out.is_json:
        out.json({"ok": not failed, "checks": [check.as_json() for check in checks]})
    else:
        warned = sum(check.state is State.WARN for check in checks)
        out.note(f"{len(checks)} checks: {len(failed)} failed, {warned} to look at.")
    if failed:
        raise typer.Exit(ExitCode.FAILURE)


def _print(check: Check) -> None:
    from jamestronic_sdk.cli._checks import State

    if sys.stdout.isatty():
        from rich.text import Text

        marks = {State.OK: ("✓", "green"), State.WARN: ("!", "yellow"), State.FAIL: ("✗", "bold red")}
        line = Text.assemble(marks[check.state], " ", (f"{check.name:12}", "bold"), " ", plain(check.detail))
        if check.next_step:
            line.append(f"\n  → {plain(check.next_step)}", style=marks[check.state][1])
        output_of().console().print(line)
        return
    sys.stdout.write(f"{check.state.value:5}{check.name:12} {plain(check.detail)}\n")
    if check.next_step:
        sys.stdout.write(f"     {'':12} -> {plain(check.next_step)}\n")
    sys.stdout.flush()
