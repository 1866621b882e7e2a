"""The table of faults: what goes wrong, how it is ended, and whether a store can know.

A row is data. To add one, see ``docs/chaos.md``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import httpx
from fault_proxy import Fault
from tests.chaos.desk import TRANSPORTS, Watch, until

from jamestronic_sdk.local.tokens import make_jwt, verify_jwt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.chaos.desk import Desk

    from jamestronic_sdk import TicketEvent

__all__ = ["FAULTS", "Chaos"]

Step: TypeAlias = "Callable[[Desk], Awaitable[None]]"


@dataclass(frozen=True, slots=True)
class Chaos:
    """One fault. Times are seconds of the machine."""

    name: str
    inject: Step
    heal: Step
    is_noticed: bool = True
    """Every store has to know of it before it is healed; else it may, where repeats do not get it through."""
    hold: float = 0.5
    """Least time between injecting and healing."""


# --- what the proxy does ---------------------------------------------------------------------------------

HOLE: Final = Fault("black hole", is_hole=True)
DEAF: Final = Fault("half-open", is_deaf=True)
LATE: Final = Fault("delayed frames", frame_delay=0.3)
TWICE: Final = Fault("duplicated frames", frame_copies=2)
BROKEN: Final = Fault("5xx", status=503)
BUSY: Final = Fault("429", status=429, retry_after="1")
SLOW: Final = Fault("slow page", body_time=1.0)
SHORT: Final = Fault("truncated page", body_share=0.5)


async def _proxied(desk: Desk, *, faults: dict[str, Fault], cut: str | None = None) -> None:
    for prefix, fault in faults.items():
        desk.proxy.inject(prefix, fault)
    if cut is not None:
        desk.proxy.cut(cut)


async def _heal_proxy(desk: Desk) -> None:
    desk.proxy.heal()


async def _refuse(desk: Desk) -> None:
    await desk.proxy.refuse()


async def _accept(desk: Desk) -> None:
    await desk.proxy.accept()


def _through_proxy(
    name: str, faults: dict[str, Fault], *, cut: str | None = None, is_noticed: bool = True, hold: float = 0.5
) -> Chaos:
    return Chaos(name, partial(_proxied, faults=faults, cut=cut), _heal_proxy, is_noticed, hold)


# --- what happens to people's tokens -----------------------------------------------------------------------


async def _expire(desk: Desk, *, client_knows: bool) -> None:
    """Everybody's access token is replaced by one that has expired, while pages are under way."""
    for jt in desk.clients.values():
        session = jt.auth._session
        assert session is not None
        claims = verify_jwt(desk.supabase.jwt_secret, session.access_token)
        ended = session.lifetime if client_knows else 0.0
        jt.auth._session = dataclasses.replace(
            session,
            access_token=make_jwt(desk.supabase.jwt_secret, {**claims, "exp": int(time.time()) - 60}),
            ends_now=session.ends_now - ended,
            ends_wall=session.ends_wall - ended,
        )


async def _expire_mid_fetch(desk: Desk) -> None:
    desk.proxy.inject("/rest", SLOW)
    pages = desk.proxy.faults[SLOW.name]
    assert await until(
        lambda: desk.proxy.faults[SLOW.name] > pages
    )  # the writers see to it that somebody reads
    await _expire(desk, client_knows=False)
    desk.proxy.cut("/realtime")


async def _auth_down(desk: Desk) -> None:
    """Nobody can renew the token that just expired."""
    desk.proxy.inject("/auth", BROKEN)
    await _expire(desk, client_knows=True)
    desk.proxy.cut("/realtime")


# --- what happens to the stack -----------------------------------------------------------------------------


async def _stop_realtime(desk: Desk) -> None:
    await desk.supabase.cut_realtime()


async def _start_realtime(desk: Desk) -> None:
    await desk.supabase.restore_realtime()


async def _kill_postgres(desk: Desk) -> None:
    lock = (desk.supabase.data_dir / "postgres" / "postmaster.pid").read_text()
    os.kill(int(lock.split()[0]), signal.SIGKILL)


async def _kill_postgrest(desk: Desk) -> None:
    os.kill(json.loads((desk.supabase.data_dir / "postgrest.pid").read_bytes())["pid"], signal.SIGKILL)


async def _wait_for_stack(desk: Desk) -> None:
    """The stack's own supervisor heals it; it is well when every part reaches the database."""
    nobody = {"email": "nobody@example.test", "password": "wrong"}
    async with asyncio.timeout(40), httpx.AsyncClient(base_url=desk.supabase.url) as http:
        while True:
            health = await http.get("/health")
            sign_in = await http.post("/auth/v1/token?grant_type=password", json=nobody)
            if (health.status_code, sign_in.status_code) == (200, 400):
                break
            await asyncio.sleep(0.02)


async def _lose_slots(desk: Desk) -> None:
    """The slots' processes are ended again and again; what outlives them is dropped."""

    async def lose() -> None:
        while not desk.is_healing.is_set():
            await desk.crew.as_owner(
                "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where active"
            )
            await desk.crew.as_owner(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active"
            )

    desk.group.create_task(lose(), name="chaos slots")


async def _leave_slots(desk: Desk) -> None:
    """Nothing is written after the gap: who was not told of it must find it without help."""
    await desk.stop_writing()
    desk.is_healing.set()
    await _wait_for_stack(desk)


# --- what happens to the program ---------------------------------------------------------------------------


async def _jump(desk: Desk) -> None:
    """The machine slept for an hour and a half: both clocks, and all tokens with them."""
    desk.clock.jump(now=5400.0, wall=5400.0)


async def _jump_back(desk: Desk) -> None:
    """The wall clock is set right again; the other one never goes back."""
    desk.clock.jump(wall=-5400.0)


async def _consume_slowly(desk: Desk) -> None:
    """A reader whose events are merged, one that never reads, and a callback that takes its time."""

    async def slow(_: TicketEvent) -> None:
        await asyncio.sleep(0.2)

    for watch in tuple(desk.watches):
        desk.watch(Watch.of(f"{watch.name}, slowly", watch.who, watch.store, limit=2, pause=0.05))
        watch.store.events(limit=2)
        desk.subscriptions.append(watch.store.subscribe(slow))


async def _consume_badly(desk: Desk) -> None:
    """Callbacks that raise."""

    def raising(_: TicketEvent) -> None:
        raise ValueError("a bug of the program")

    async def cancelling(_: TicketEvent) -> None:
        raise asyncio.CancelledError

    for watch in desk.watches:
        desk.subscriptions += [watch.store.subscribe(raising), watch.store.subscribe(cancelling)]


async def _are_still_called(desk: Desk) -> None:
    """Each raised at least twice, so that one did not end it."""
    assert await until(lambda: all(subscription.failures > 1 for subscription in desk.subscriptions))
    assert all(subscription.is_active for subscription in desk.subscriptions)


async def _cancel_often(desk: Desk) -> None:
    """Tasks that hold a store are cancelled at random moments of its life."""

    async def hold() -> None:
        async with desk.store(
            desk.rng.choice([*desk.clients]), desk.rng.choice(["auto", *TRANSPORTS])
        ) as store:
            store.subscribe(lambda _: None)
            await asyncio.Event().wait()

    for _ in range(5):
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                task = group.create_task(hold())
                asyncio.get_running_loop().call_later(desk.rng.uniform(0, 0.4), task.cancel)


async def _nothing(_: Desk) -> None:
    """It heals by itself, or was over when it had begun."""


# --- the table -----------------------------------------------------------------------------------------------

FAULTS: Final[tuple[Chaos, ...]] = (
    _through_proxy("socket cut", {}, cut="/realtime"),
    _through_proxy("black hole", {"/": HOLE}),
    _through_proxy("half-open", {"/realtime": DEAF}),
    _through_proxy("delayed frames", {"/realtime": LATE}, is_noticed=False, hold=1.0),
    _through_proxy("duplicated frames", {"/realtime": TWICE}, is_noticed=False, hold=1.0),
    _through_proxy("5xx storm", {"/rest": BROKEN, "/realtime": BROKEN}, cut="/realtime"),
    _through_proxy("429 storm", {"/rest": BUSY, "/realtime": BUSY}, cut="/realtime"),
    _through_proxy("slow pages", {"/rest": SLOW}, is_noticed=False, hold=1.5),
    _through_proxy("truncated pages", {"/rest": SHORT}),
    Chaos("token expiry mid-fetch", _expire_mid_fetch, _heal_proxy),
    Chaos("Auth down", _auth_down, _heal_proxy),
    Chaos("Realtime restarted", _stop_realtime, _start_realtime),
    Chaos("Postgres restarted", _kill_postgres, _wait_for_stack, is_noticed=False),
    Chaos("PostgREST restarted", _kill_postgrest, _wait_for_stack, is_noticed=False),
    Chaos("replication slot lost", _lose_slots, _leave_slots, is_noticed=False, hold=2.0),
    Chaos("60 s outage", _refuse, _accept, hold=6.0),
    Chaos("clock jump", _jump, _jump_back, is_noticed=False, hold=1.0),
    Chaos("slow consumer", _consume_slowly, _nothing, is_noticed=False),
    Chaos("raising consumer", _consume_badly, _are_still_called, is_noticed=False),
    Chaos("cancelled tasks", _cancel_often, _nothing, is_noticed=False),
)
