"""An admin and two technicians at work behind the proxy, and what becomes of their stores."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psutil
from fault_proxy import FaultProxy
from tests.chaos.replay import Replay, differences
from tests.chaos.scaled_clock import ScaledClock
from tests.chaos.writers import Writer

from jamestronic_sdk import JamesTronic, StoreStatus, Subscription, TicketEvent, TicketStore, View

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from uuid import UUID

    from tests.chaos.crew import Crew

    from jamestronic_sdk import Ticket
    from jamestronic_sdk.store.streams import EventStream

__all__ = ["DEADLINE", "FACTOR", "TRANSPORTS", "Desk", "Watch", "nothing_left", "open_desk", "until"]

DEADLINE: Final = 30.0
"""Seconds that a recovery may take on a busy machine; a second is usual."""
FACTOR: Final = 10.0
"""How much faster than the machine's the clients' clock runs: polls every 3 s, heartbeats every 1.5 s."""
_TIMEOUT: Final = 30.0
"""Seconds of the clients' time for one request."""
_LOOK: Final = 0.01
"""Seconds between two looks at a condition."""

TRANSPORTS: Final = ("postgres_changes", "broadcast")


async def until(condition: Callable[[], bool], limit: float = DEADLINE) -> bool:
    """Whether a condition came to hold within so many seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK)
    return True


@dataclass(slots=True, eq=False)
class Watch:
    """One store, and all that it told."""

    name: str
    who: str
    store: TicketStore
    stream: EventStream
    replay: Replay
    pause: float = 0.0
    """Seconds that its reader takes for each event."""
    told: list[TicketEvent] = field(default_factory=list[TicketEvent])
    noticed_at: float | None = None
    _failures: int = 0

    @classmethod
    def of(
        cls, name: str, who: str, store: TicketStore, *, limit: int = 1_000_000, pause: float = 0.0
    ) -> Watch:
        # Without an await in between: the stream continues exactly this snapshot.
        stream = store.events(limit=limit)
        return cls(name, who, store, stream, Replay(store.view, dict(store.tickets)), pause)

    @property
    def is_live(self) -> bool:
        return self.store.status is StoreStatus.LIVE

    def arm(self) -> None:
        """What fails from now on is noticed."""
        self.noticed_at = None
        self._failures = self._count_failures()

    def look(self) -> bool:
        """Whether the store has noticed that something is wrong."""
        if self.noticed_at is None and (not self.is_live or self._count_failures() > self._failures):
            self.noticed_at = time.monotonic()
        return self.noticed_at is not None

    def _count_failures(self) -> int:
        counts = self.store.metrics.counts
        return counts["feed_losses"] + counts["read_failures"] + counts["gaps"]

    async def listen(self) -> None:
        async for event in self.stream:
            self.told.append(event)
            self.replay.play([event])
            if self.pause:
                await asyncio.sleep(self.pause)

    def shows(self, visible: dict[UUID, Ticket]) -> dict[UUID, Ticket]:
        """What the store must hold when its viewer sees this."""
        return {key: ticket for key, ticket in visible.items() if self.store.view.contains(ticket)}


class Desk:
    """Everything that one fault happens to."""

    def __init__(self, crew: Crew, proxy: FaultProxy, clock: ScaledClock, rng: random.Random) -> None:
        self.crew: Final = crew
        self.proxy: Final = proxy
        self.clock: Final = clock
        self.rng: Final = rng
        self.clients: Final[dict[str, JamesTronic]] = {}
        self.watches: Final[list[Watch]] = []
        self.subscriptions: Final[list[Subscription]] = []
        """What a fault subscribed."""
        self.is_healing: Final = asyncio.Event()
        self.writers: Final[list[Writer]] = []
        self.group: asyncio.TaskGroup

    @property
    def supabase(self) -> Any:
        return self.crew.supabase

    def store(self, who: str, transport: str) -> TicketStore:
        """A store that is not entered; Alice watches the pool, too."""
        jt = self.clients[who]
        view = View.technician(jt.auth.me.profile_id, includes_pool=True) if who == "alice" else None
        return jt.ticket_store(view, transport=transport, read_timeout=2 * _TIMEOUT / self.clock.factor)

    def hire_writers(self, count: int, *, pause: float = 0.0) -> list[Writer]:
        """Writers that are not at work yet."""
        made = [
            Writer(self.crew, random.Random(self.rng.getrandbits(32)), pause)  # noqa: S311 - for tests
            for _ in range(count)
        ]
        self.writers.extend(made)
        return made

    def write(self, writers: int, *, pause: float) -> None:
        """Writers change tickets from now on, until ``stop_writing``."""
        for writer in self.hire_writers(writers, pause=pause):
            self.group.create_task(writer.run(), name="chaos writer")

    async def stop_writing(self) -> None:
        """No change follows."""
        for writer in self.writers:
            writer.stop.set()
        await asyncio.gather(*(writer.ended.wait() for writer in self.writers))

    @property
    def operations(self) -> int:
        return sum(writer.done for writer in self.writers)

    def watch(self, watch: Watch) -> None:
        """Compare this store, too."""
        self.watches.append(watch)
        self.group.create_task(watch.listen(), name=f"chaos {watch.name}")

    async def all_notice(self, limit: float) -> float | None:
        """Seconds until the last of the stores noticed that something is wrong; None: not all did."""
        began = time.monotonic()
        found = await until(lambda: all(watch.look() for watch in list(self.watches)), limit)
        return max(watch.noticed_at or 0 for watch in self.watches) - began if found else None

    async def all_recover(self) -> float:
        """Seconds until every store is live while others write, and then right."""
        began = time.monotonic()
        await until(lambda: all(watch.is_live for watch in self.watches))
        await self.stop_writing()
        await self.all_are_right(DEADLINE)
        recovered_after = time.monotonic() - began
        # What is under way still arrives, and changes nothing.
        assert await until(lambda: not self.proxy.late_frames)
        for watch in self.watches:
            await watch.store.refresh()
        await self.all_are_right(DEADLINE)
        return recovered_after

    async def all_are_right(self, limit: float) -> float:
        """Seconds until every store is live and equal to the database under its viewer's policies."""
        began = time.monotonic()
        problems = ["not looked yet"]
        while problems:
            problems = [
                f"{watch.name} is {watch.store.status}" for watch in self.watches if not watch.is_live
            ]
            if not problems:
                problems = await self.compare()
            if problems and time.monotonic() - began > limit:
                counts = {watch.name: dict(watch.store.metrics.counts) for watch in self.watches}
                raise AssertionError(f"{'; '.join(problems)}; {counts}")
            await asyncio.sleep(_LOOK)
        return time.monotonic() - began

    async def compare(self) -> list[str]:
        """How stores, and what they told, differ from the database."""
        truth = {who: await self.crew.visible(who) for who in self.clients}
        lines: list[str] = []
        for watch in self.watches:
            shown = watch.shows(truth[watch.who])
            lines += [f"{watch.name}: {line}" for line in differences(watch.store.tickets, shown)]
            lines += [f"{watch.name}, replayed: {line}" for line in watch.replay.differences(shown)]
        return lines

    async def invented(self) -> list[str]:
        """Events whose state never was, by the change log."""
        holders = await self.crew.holders()
        return [
            f"{watch.name}: {type(event).__name__} v{event.ticket.version}"
            for watch in self.watches
            for event in watch.told
            if event.is_in_view
            and holders.get((event.ticket.id, event.ticket.version), 0) != event.ticket.assigned_technician_id
        ]


@asynccontextmanager
async def open_desk(
    crew: Crew, rng: random.Random, *, factor: float = FACTOR, transports: tuple[str, ...] = TRANSPORTS
) -> AsyncIterator[Desk]:
    """Two technicians (one with the pool) and an admin, each with a live store on each transport."""
    clock = ScaledClock(factor)
    async with FaultProxy(crew.supabase.url, rng).serving() as proxy, AsyncExitStack() as stack:
        desk = Desk(crew, proxy, clock, rng)
        for who, person in crew.people.items():
            jt = await stack.enter_async_context(
                JamesTronic(
                    proxy.url,
                    crew.supabase.anon_key,
                    env_file=None,
                    timeout=_TIMEOUT / factor,
                    clock=clock,
                    rng=rng,
                )
            )
            await jt.auth.sign_in(email=person.email, password=person.password)
            desk.clients[who] = jt
        # Inside the clients, outside the stores: the writers end first.
        desk.group = await stack.enter_async_context(asyncio.TaskGroup())
        for who in crew.people:
            for transport in transports:
                store = await stack.enter_async_context(desk.store(who, transport))
                desk.watch(Watch.of(f"{who} {transport}", who, store))
        stack.push_async_callback(desk.stop_writing)
        assert await until(lambda: all(watch.is_live for watch in desk.watches))
        yield desk
        await stack.aclose()
        # Both ends: what the proxy serves, and what this process holds.
        assert await until(lambda: not proxy.sockets), "a websocket is left"
        assert await until(lambda: not connections_to(proxy.port)), "a connection is left"


def connections_to(port: int) -> list[tuple[int, int]]:
    """Connections of this process to a port of this machine."""
    return [
        (found.fd, found.laddr.port)
        for found in psutil.Process().net_connections("tcp")
        if found.raddr and found.raddr.port == port and found.status == psutil.CONN_ESTABLISHED
    ]


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """After the block no task and no timer of the block is left on the loop."""
    tasks = asyncio.all_tasks()
    timers = _timers(tasks)
    yield
    assert await until(lambda: asyncio.all_tasks() <= tasks), asyncio.all_tasks() - tasks
    assert await until(lambda: _timers(tasks) <= timers), _timers(tasks) - timers


def _timers(others: set[asyncio.Task[Any]]) -> set[asyncio.TimerHandle]:
    """Timers of the running loop that would still fire, but for the time-outs and sleeps of others' tasks.

    Other tests' clients live in the same loop.
    """
    loop = asyncio.get_running_loop()
    # Neither the loop nor a task tells this in public.
    scheduled: list[asyncio.TimerHandle] = getattr(loop, "_scheduled")  # noqa: B009
    awaited = {getattr(task, "_fut_waiter", None) for task in others}

    def is_of_others(handle: asyncio.TimerHandle) -> bool:
        timeout = getattr(getattr(handle, "_callback", None), "__self__", None)
        arguments: tuple[object, ...] = getattr(handle, "_args", None) or (None,)
        return getattr(timeout, "_task", None) in others or (
            isinstance(arguments[0], asyncio.Future) and arguments[0] in awaited
        )

    return {handle for handle in scheduled if not handle.cancelled() and not is_of_others(handle)}
