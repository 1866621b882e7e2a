"""What the command says: results on stdout, messages on stderr, and one table of exit codes.

Promises:
    With ``--json`` nothing but JSON is on stdout: one object, or one line for each item of a stream.
    When stdout is no terminal, lists are lines with tabs: no colours, no headings, nothing cut off.

Never:
    No control characters of other people's texts reach the terminal.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from jamestronic_sdk.errors import (
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    JamesTronicError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from rich.console import Console, RenderableType

__all__ = ["ExitCode", "Options", "Output", "exit_code", "plain"]


class ExitCode(IntEnum):
    """How the command ended."""

    OK = 0
    FAILURE = 1
    """Refused, or failed in a way that has no code of its own; for checks: something is wrong."""
    USAGE = 2
    """The arguments or the settings are missing or malformed."""
    DENIED = 3
    """Nobody is signed in, the session has ended, or the role may not do this."""
    NOT_FOUND = 4
    """There is no such ticket or person, or it is not visible to you."""
    CONFLICT = 5
    """Somebody else was faster, or the version is another."""
    UNREACHABLE = 6
    """No answer: the network, the address, or a time-out."""
    UNAVAILABLE = 7
    """The server is there but can't now, or not so often: try again later."""
    INTERRUPTED = 130
    """Ctrl-C."""
    TERMINATED = 143
    """SIGTERM."""


_CODES: Final[tuple[tuple[type[JamesTronicError], ExitCode], ...]] = (
    (ConfigurationError, ExitCode.USAGE),
    (InvalidInputError, ExitCode.USAGE),
    (AuthenticationError, ExitCode.DENIED),
    (PermissionDeniedError, ExitCode.DENIED),
    (NotFoundError, ExitCode.NOT_FOUND),
    (ConflictError, ExitCode.CONFLICT),
    (TransportError, ExitCode.UNREACHABLE),
    (RateLimitedError, ExitCode.UNAVAILABLE),
    (ServerError, ExitCode.UNAVAILABLE),
)


def exit_code(error: JamesTronicError) -> ExitCode:
    """The code that an error ends the command with."""
    return next((code for cls, code in _CODES if isinstance(error, cls)), ExitCode.FAILURE)


def plain(text: object) -> str:
    """One line without control characters: titles and names are other people's."""
    return "".join(sign if sign.isprintable() else " " for sign in str(text)).strip()


@dataclass(slots=True)
class Options:
    """What every command takes."""

    json: bool = False
    quiet: bool = False
    debug: bool = False
    url: str | None = None
    key: str | None = None
    service: bool = False
    env_file: str = ".env"
    session_file: str | None = None
    timeout: float = 30.0


class Output:
    """Where one command writes."""

    def __init__(self, options: Options) -> None:
        self.options: Final = options
        self.is_json: Final = options.json

    # -- results ------------------------------------------------------------------------------------

    def json(self, data: object) -> None:
        """One line of JSON on stdout."""
        sys.stdout.write(json.dumps(data, ensure_ascii=False, default=str) + "\n")
        sys.stdout.flush()

    def result(self, data: object, text: str | RenderableType | Callable[[], RenderableType]) -> None:
        """The command's answer: as JSON, or for people."""
        if self.is_json:
            self.json(data)
        elif isinstance(text, str):
            sys.stdout.write(f"{text}\n" if text else "")
        else:
            self.console().print(text() if callable(text) else text)

    def rows(
        self, data: object, headings: Sequence[str], rows: Callable[[], Iterable[Sequence[str]]]
    ) -> None:
        """A list: as JSON, as a table on a terminal, else as lines with tabs."""
        if self.is_json:
            self.json(data)
            return
        if not sys.stdout.isatty():
            for row in rows():
                sys.stdout.write("\t".join(map(plain, row)) + "\n")
            return
        from rich.table import Table  # noqa: PLC0415 - slow to import
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, header_style="bold", pad_edge=False)
        found = list(rows())
        for index, heading in enumerate(headings):
            # The last column gives way when the terminal is narrow.
            widest = max(len(text) for text in (heading, *(row[index] for row in found)))
            is_last = index == len(headings) - 1
            table.add_column(
                heading, overflow="ellipsis", no_wrap=True, min_width=None if is_last else min(widest, 24)
            )
        for row in found:
            table.add_row(*(Text(plain(cell), style=_STYLES.get(cell, "")) for cell in row))
        self.console().print(table)

    def fields(self, data: object, facts: Mapping[str, object]) -> None:
        """One thing: as JSON, or one fact a line; what is empty is left out."""
        if self.is_json:
            self.json(data)
            return
        width = max(map(len, facts), default=0) + 2
        for name, value in facts.items():
            if value not in (None, ""):
                sys.stdout.write(f"{name + ':':{width}} {plain(value)}\n")

    # -- messages -----------------------------------------------------------------------------------

    def note(self, message: str) -> None:
        """A message for people, on stderr; not with ``--quiet``."""
        if not self.options.quiet:
            sys.stderr.write(f"{plain(message)}\n")
            sys.stderr.flush()

    def error(self, error: JamesTronicError) -> None:
        """What went wrong and what to do, in one line on stderr; with ``--json`` as an object."""
        name = type(error).__name__
        if self.is_json:
            facts: dict[str, Any] = {
                "type": name,
                "message": error.message,
                "next_step": error.next_step,
                "code": getattr(error, "code", None),
                "request_id": getattr(error, "request_id", None),
                "exit_code": int(exit_code(error)),
            }
            sys.stderr.write(json.dumps({"error": facts}) + "\n")
        elif sys.stderr.isatty():
            from rich.text import Text  # noqa: PLC0415 - slow to import

            self.console(stderr=True).print(Text.assemble((f"{name}: ", "bold red"), plain(error)))
        else:
            sys.stderr.write(f"{name}: {plain(error)}\n")

    @contextmanager
    def progress(self, what: str, *, is_wanted: bool = True) -> Generator[Callable[[int], None]]:
        """A progress bar on stderr, if that is a terminal; the function that it gives takes what is done."""
        if not is_wanted or self.options.quiet or not sys.stderr.isatty():
            yield lambda _: None
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - slow

        columns = (TextColumn("{task.description}: {task.completed}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done: bar.update(task, completed=done)

    def console(self, *, stderr: bool = False) -> Console:
        """A rich console; it knows NO_COLOR and what a terminal can do."""
        from rich.console import Console  # noqa: PLC0415 - slow to import

        return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


_STYLES: Final = {
    "urgent": "bold red",
    "high": "yellow",
    "low": "dim",
    "open": "cyan",
    "in_progress": "magenta",
    "waiting_parts": "yellow",
    "ready": "green",
    "completed": "dim",
    "cancelled": "dim",
    "ok": "green",
    "warn": "yellow",
    "fail": "bold red",
}
