"""`jamestronic tickets watch`: what happens, as it happens.

Promises:
    One line per event on stdout, written at once. Ctrl-C ends it in order, with the report if asked for.
"""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from jamestronic_sdk.cli._names import names_of
from jamestronic_sdk.cli._output import ExitCode, plain
from jamestronic_sdk.cli._root import finish, output_of
from jamestronic_sdk.cli._session import acting

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from jamestronic_sdk.cli._output import Output
    from jamestronic_sdk.client import JamesTronic
    from jamestronic_sdk.store.events import TicketEvent
    from jamestronic_sdk.store.store import TicketStore

__all__ = ["watch"]

_SIGNALS: Final = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}
_REDRAW: Final = 1.0
"""Seconds between two looks at the metrics: they are for people."""


def watch(
    *,
    stats: Annotated[
        bool, typer.Option("--stats", help="Report at the end; on a terminal also a panel meanwhile.")
    ] = False,
    initial: Annotated[
        bool, typer.Option("--initial", help="Begin with the tickets that are there.")
    ] = False,
    pool: Annotated[
        bool, typer.Option("--pool", help="As a technician: the unassigned tickets, too.")
    ] = False,
    duration: Annotated[
        float | None, typer.Option("--duration", metavar="SECONDS", min=0.0, help="End after so long.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many events.")] = None,
    poll_interval: Annotated[
        float, typer.Option("--poll-interval", min=0.1, help="Seconds between reads while Realtime is down.")
    ] = 30.0,
) -> None:
    """Print what happens to tickets until Ctrl-C."""

    async def work() -> ExitCode:
        async with (
            acting() as jt,
            jt.ticket_store(_view(jt, pool=pool), poll_interval=poll_interval) as store,
        ):
            watching = _Watching(jt, store, output_of(), is_panel_wanted=stats)
            code = await watching.run(initial=initial, duration=duration, count=count)
            if stats:
                watching.report()
            if code is ExitCode.OK and not jt.settings.is_service:
                _ = jt.auth.me  # the session ended: say why
            return code

    code = finish(work)
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def _view(jt: JamesTronic, *, pool: bool) -> Any:  # noqa: ANN401 - View | None, whose module is slow to import
    if not pool:
        return None
    from jamestronic_sdk.models import Role  # noqa: PLC0415 - only here
    from jamestronic_sdk.store.views import View  # noqa: PLC0415

    if not jt.auth.is_signed_in or jt.auth.me.role != Role.TECHNICIAN:
        raise typer.BadParameter("Only technicians have a pool.", param_hint="--pool")
    return View.technician(jt.auth.me.profile_id, includes_pool=True)


class _Watching:
    """One run of the command."""

    def __init__(self, jt: JamesTronic, store: TicketStore, out: Output, *, is_panel_wanted: bool) -> None:
        self._jt: Final = jt
        self._store: Final = store
        self._out: Final = out
        self._names: dict[UUID, str] = {}
        is_terminal = sys.stdout.isatty() and not out.is_json
        self._has_panel: Final = is_panel_wanted and is_terminal
        self._print: Callable[[Any], None] = out.console().print if is_terminal else self._print_plain

    async def run(self, *, initial: bool, duration: float | None, count: int | None) -> ExitCode:
        """Print until a signal, the end of the time, the last event wanted, or the end of the store."""
        import asyncio  # noqa: PLC0415 - as the clock: slow to import, and `--help` needs none of it

        from jamestronic_sdk._clock import SYSTEM_CLOCK  # noqa: PLC0415

        stopped = asyncio.Event()
        code = ExitCode.OK
        loop = asyncio.get_running_loop()

        def stop(number: signal.Signals) -> None:
            nonlocal code
            code = _SIGNALS[number]
            loop.remove_signal_handler(number)  # a second one ends the process at once
            stopped.set()

        # Streams are opened before anything is awaited: nothing may happen unseen.
        events, statuses = self._store.events(initial=initial), self._store.statuses()
        with ExitStack() as cleanup:
            for number in _SIGNALS:
                loop.add_signal_handler(number, stop, number)
                cleanup.callback(loop.remove_signal_handler, number)
            self._out.note(f"Watching {len(self._store.tickets)} tickets; Ctrl-C ends it.")
            async with asyncio.TaskGroup() as group:

                async def follow_events() -> None:
                    left = count
                    try:
                        async with events:
                            async for event in events:
                                await self._tell(event)
                                if left is not None and (left := left - 1) == 0:
                                    return
                    finally:
                        stopped.set()

                async def follow_statuses() -> None:
                    async with statuses:
                        async for change in statuses:
                            self._tell_status(change.status.value, change.reason)

                tasks = [
                    group.create_task(follow_events(), name="watch-events"),
                    group.create_task(follow_statuses(), name="watch-statuses"),
                ]
                if self._has_panel:
                    tasks.append(group.create_task(self._redraw(), name="watch-panel"))
                await SYSTEM_CLOCK.wait(stopped, duration)
                for task in tasks:
                    task.cancel()
        return code

    def report(self) -> None:
        """The metrics, at the end."""
        from jamestronic_sdk.store.report import figures, report  # noqa: PLC0415 - only with --stats

        if self._out.is_json:
            self._out.json({"event": "Stats", **figures(self._store.metrics)})
        else:
            sys.stdout.write(f"\n{report(self._store.metrics)}\n")

    async def _redraw(self) -> None:
        from rich.live import Live  # noqa: PLC0415 - slow to import
        from rich.panel import Panel  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        from jamestronic_sdk._clock import SYSTEM_CLOCK  # noqa: PLC0415
        from jamestronic_sdk.store.report import report  # noqa: PLC0415

        with Live(console=self._out.console(), auto_refresh=False, transient=True) as live:
            self._print = live.console.print
            while True:
                fresh = self._store.freshness
                title = f"{self._store.status.value}, {len(self._store.tickets)} tickets, {fresh.kind.value}"
                live.update(Panel(Text(report(self._store.metrics)), title=title), refresh=True)
                await SYSTEM_CLOCK.sleep(_REDRAW)

    async def _tell(self, event: TicketEvent) -> None:
        if self._out.is_json:
            self._out.json(_event_as_json(event))
            return
        holder = event.ticket.assigned_technician_id
        if holder is not None and holder not in self._names:
            self._names[holder] = (await names_of(self._jt, (holder,))).get(holder, f"{str(holder)[:8]}...")
        what = type(event).__name__.removeprefix("Ticket").lower()
        whose = self._names[holder] if holder is not None else "-"
        delay = "" if event.latency is None or event.initial else f", {max(event.latency, 0):.2f} s"
        source = "already there" if event.initial else f"{event.source.value}{delay}"
        line = (
            f"{event.observed_at.astimezone():%H:%M:%S}",
            f"{event.ticket.label:8}",
            f"{what:10}",
            f"{plain(event.ticket.status):13}",
            plain(whose),
            plain(event.ticket.title),
            f"({source})",
        )
        self._print("  ".join(line))

    def _tell_status(self, status: str, reason: str | None) -> None:
        if self._out.is_json:
            self._out.json({"event": "StatusChanged", "status": status, "reason": reason})
        else:
            self._out.note(f"-- {status}" + (f": {reason}" if reason else ""))

    @staticmethod
    def _print_plain(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _event_as_json(event: TicketEvent) -> dict[str, Any]:
    from jamestronic_sdk.cli.tickets import row_of  # noqa: PLC0415 - it registers this command

    return {
        "event": type(event).__name__,
        "source": event.source.value,
        "initial": event.initial,
        "ticket": row_of(event.ticket),
        "changes": {name: {"old": change.old, "new": change.new} for name, change in event.changes.items()},
        "is_in_view": event.is_in_view,
        "observed_at": event.observed_at.isoformat(),
        "committed_at": event.committed_at and event.committed_at.isoformat(),
        "latency": event.latency,
    }
