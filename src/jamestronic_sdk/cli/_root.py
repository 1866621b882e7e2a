"""The root of the command: options that every command takes, and errors as messages and exit codes.

Promises:
    An error of this package is one line on stderr and an exit code of ``ExitCode``.

Never:
    No traceback, but with ``--debug``.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer
from typer.core import TyperGroup
from typer.main import get_command

from jamestronic_sdk.cli._output import ExitCode, Options, Output, exit_code
from jamestronic_sdk.errors import JamesTronicError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

__all__ = ["Root", "finish", "options_of", "output_of"]

_T = TypeVar("_T")

_PANEL: Final = "Global options"


def _output(
    *,
    json: Annotated[
        bool, typer.Option("--json", rich_help_panel=_PANEL, help="Answer in JSON, on stdout.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", rich_help_panel=_PANEL, help="No messages and no progress bars.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", rich_help_panel=_PANEL, help="Show tracebacks, and log to stderr.")
    ] = False,
) -> None:
    """The options of every command."""


def _project(
    *,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            rich_help_panel=_PANEL,
            help="The project's address. Default: SUPABASE_URL.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            rich_help_panel=_PANEL,
            help="The project's key. Default: SUPABASE_KEY, SUPABASE_ANON_KEY.",
        ),
    ] = None,
    service: Annotated[
        bool,
        typer.Option(
            "--service",
            rich_help_panel=_PANEL,
            help="Act as the service, with the key SUPABASE_SERVICE_ROLE_KEY: it passes every policy.",
        ),
    ] = False,
    env_file: Annotated[
        str | None,
        typer.Option(
            "--env-file",
            metavar="FILE",
            rich_help_panel=_PANEL,
            help="Where else to look for them. Default: .env",
        ),
    ] = None,
    session_file: Annotated[
        str | None,
        typer.Option(
            "--session-file",
            metavar="FILE",
            envvar="JAMESTRONIC_SESSION_FILE",
            rich_help_panel=_PANEL,
            help="Who is signed in. Default: a file for each project in the user's configuration folder.",
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0.1,
            rich_help_panel=_PANEL,
            help="For one try of a request. Default: 30",
        ),
    ] = None,
) -> None:
    """The options of every command that talks to the project."""


_WITHOUT_PROJECT: Final = frozenset({"demo", "local", "sql"})


class Root(TyperGroup):
    """The command itself."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - as click has it
        super().__init__(**attributes)
        output, project = _made(_output), _made(_project)
        self.params += [*output, *project]
        for name, command in self.commands.items():
            for leaf in _leaves(command):
                taken = {word for one in leaf.params for word in one.opts}
                wanted = output if name in _WITHOUT_PROJECT else [*output, *project]
                leaf.params += [one for one in wanted if not taken.intersection(one.opts)]

    def main(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as click has it
        """Run, and end the process with an exit code."""
        options = _fresh()
        # Without a handler Python prints warnings by itself; what matters is said by the commands.
        logger = logging.getLogger("jamestronic_sdk")
        handlers, level = list(logger.handlers), logger.level
        logger.addHandler(logging.NullHandler())
        try:
            return super().main(*arguments, **named)
        except JamesTronicError as error:
            if options.debug:
                traceback.print_exc()
            Output(options).error(error)
            sys.exit(exit_code(error))
        except ModuleNotFoundError:
            raise  # an extra that is not installed: `__main__` names it
        except Exception as error:  # noqa: BLE001 - the last resort; --debug shows all of it
            if options.debug:
                traceback.print_exc()
            sys.stderr.write(
                f"Unexpected {type(error).__name__}. Run it again with --debug to see where it comes from.\n"
            )
            sys.exit(ExitCode.FAILURE)
        finally:
            logger.handlers[:] = handlers
            logger.setLevel(level)


# One command runs in a process; tests that run several begin each with `_fresh`.
_current = Options()


def _fresh() -> Options:
    global _current  # noqa: PLW0603 - see above
    _current = Options()
    return _current


def options_of() -> Options:
    """The options of the command that runs."""
    return _current


def output_of() -> Output:
    """Where the command that runs writes."""
    return Output(_current)


def finish(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine to its end; Ctrl-C ends it in order."""
    import asyncio  # noqa: PLC0415 - slow to import, and `--help` needs none of it

    if _current.debug:
        _log_to_stderr()
    try:
        return asyncio.run(work())
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except ExceptionGroup as group:
        ours = group.subgroup(JamesTronicError)
        if ours is None:
            raise
        raise _first(ours) from group


def _first(group: ExceptionGroup[JamesTronicError]) -> JamesTronicError:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, ExceptionGroup) else one


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("jamestronic_sdk")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def _made(*declared: Callable[..., None]) -> list[Any]:
    """The options that a function declares, as typer makes them; their values go to ``_remember``."""
    made: list[Any] = []
    for one in declared:
        maker = typer.Typer(add_completion=False)
        maker.command()(one)
        made += [option for option in get_command(maker).params if option.name != "help"]
    for option in made:
        option.callback, option.expose_value = _remember, False
    return made


def _remember(_context: Any, option: Any, value: Any) -> None:  # noqa: ANN401 - click's callback
    """An option counts wherever it stands; what is not given does not undo what was."""
    if value is not None and value is not False:
        setattr(_current, option.name, value)


def _leaves(command: Any) -> Iterator[Any]:  # noqa: ANN401 - click is vendored by newer versions of typer
    """The commands that do something, below a group."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield command
        return
    for one in inner.values():
        yield from _leaves(one)
