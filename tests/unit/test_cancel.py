"""Cancelling at each await of each operation: the client works on, and nothing is left behind."""

from __future__ import annotations

import asyncio
from types import coroutine
from typing import TYPE_CHECKING, Any

import pytest
from client_support import (
    PROFILE,
    TICKET,
    Service,
    api_error,
    client,
    ok,
    profile,
    serving,
    session,
    ticket,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Generator

    from jamestronic_sdk import JamesTronic

MOMENT = "2026-11-01T08:00:00+00:00"
EMAIL, PASSWORD = "ada@example.test", "correct horse"


@coroutine
def cancelled_at(step: int, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, None]:
    """Run a coroutine, and cancel the task when it waits for the time ``step`` (from 0)."""
    task = asyncio.current_task()
    assert task is not None
    resume, argument = work.send, None
    waits = 0
    while True:
        try:
            waited_for = resume(argument)
        except StopIteration:
            return
        if waits == step:
            task.cancel()
        waits += 1
        try:
            argument = yield waited_for
            resume = work.send
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the coroutine
            resume, argument = work.throw, error  # type: ignore[assignment]


async def walk(jt: JamesTronic) -> None:
    async for _ in jt.tickets.query(limit=3):
        pass


async def _all(query: AsyncIterable[object]) -> list[object]:
    return [row async for row in query]


async def renew(jt: JamesTronic) -> None:
    await jt.auth.renew(await jt.auth.access_token())


async def sign_out_and_in(jt: JamesTronic) -> None:
    await jt.auth.sign_out()
    await jt.auth.sign_in(email=EMAIL, password=PASSWORD)


async def expired_on_the_way(jt: JamesTronic) -> None:
    """The server refuses the token once: renewed, and the request repeated."""
    jt.service.script(  # type: ignore[attr-defined]
        "GET /rest/v1/tickets",
        lambda: api_error(401, "PGRST303", "JWT expired"),
        lambda: ok([ticket()]),
    )
    await jt.tickets.list()


async def retried(jt: JamesTronic) -> None:
    jt.service.script(  # type: ignore[attr-defined]
        "GET /rest/v1/tickets", lambda: api_error(503, None, "busy"), lambda: ok([ticket()])
    )
    await jt.tickets.list()


OPERATIONS: dict[str, Callable[[JamesTronic], Coroutine[Any, Any, Any]]] = {
    "sign_in": lambda jt: jt.auth.sign_in(email=EMAIL, password=PASSWORD),
    "reload_me": lambda jt: jt.auth.reload_me(),
    "renew": renew,
    "sign_out": sign_out_and_in,
    "list": lambda jt: jt.tickets.list(),
    "walk": walk,
    "fetch_all": lambda jt: jt.tickets.fetch_all(),
    "count": lambda jt: jt.tickets.query().count(),
    "get_many": lambda jt: jt.tickets.get_many([TICKET]),
    "create": lambda jt: jt.tickets.create(title="x"),
    "update": lambda jt: jt.tickets.update(TICKET, title="x"),
    "assign": lambda jt: jt.tickets.assign(TICKET, PROFILE),
    "notes": lambda jt: jt.notes.list(TICKET),
    "notes are walked": lambda jt: _all(jt.notes.query(limit=1)),
    "note is written": lambda jt: jt.notes.create(TICKET, body="x"),
    "note is removed": lambda jt: jt.notes.delete(TICKET),
    "people are walked": lambda jt: _all(jt.profiles.query(limit=1)),
    "changes": lambda jt: jt.tickets.changes(),
    "digest": lambda jt: jt.tickets.digest(),
    "send_code": lambda jt: jt.auth.send_code(email=EMAIL),
    "verify_code": lambda jt: jt.auth.verify_code("123456", email=EMAIL),
    "exchange_code": lambda jt: jt.auth.exchange_code("code", verifier="x" * 64),
    "sign_up": lambda jt: jt.auth.sign_up(email=EMAIL, password=PASSWORD),
    "change_password": lambda jt: jt.auth.change_password("another one"),
    "factors": lambda jt: jt.auth.factors.list(),
    "table": lambda jt: jt.table("parts").select(),
    "table is written": lambda jt: jt.table("parts").insert({"x": 1}, idempotent=True),
    "rpc": lambda jt: jt.rpc("get_my_role"),
    "profiles": lambda jt: jt.profiles.list(),
    "expired_on_the_way": expired_on_the_way,
    "retried": retried,
}


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as running:
        running.script("GET /rest/v1/tickets", lambda: ok([ticket()], **{"Content-Range": "0-0/1"}))
        running.script("POST /rest/v1/tickets", lambda: ok([ticket()], 201))
        running.script("PATCH /rest/v1/tickets", lambda: ok([ticket()]))
        running.script("POST /rest/v1/rpc/assign_ticket", lambda: ok(ticket()))
        running.script("POST /rest/v1/rpc/get_my_role", lambda: ok("technician"))
        note = {"id": TICKET, "ticket_id": TICKET, "body": "x", "created_at": MOMENT, "updated_at": MOMENT}
        for method in ("GET", "POST", "DELETE"):
            running.script(f"{method} /rest/v1/ticket_notes", lambda: ok([note]))
        running.script("POST /rest/v1/parts", lambda: ok([{"x": 1}], 201))
        running.script(
            "POST /rest/v1/rpc/sync_tickets",
            lambda: ok({"kind": "snapshot", "upserts": [ticket()], "more": False, "cursor": "1:1:"}),
        )
        running.script("POST /rest/v1/rpc/tickets_digest", lambda: ok({"count": 1, "digest": "0" * 16}))
        running.script("POST /auth/v1/otp", lambda: ok({}))
        for way in ("verify", "signup"):
            running.script(f"POST /auth/v1/{way}", lambda: ok(session()))
        for method in ("GET", "PUT"):
            running.script(f"{method} /auth/v1/user", lambda: ok(session()["user"]))
        running.script("GET /rest/v1/parts", lambda: ok([]))
        running.script("GET /rest/v1/profiles", lambda: ok([profile()]))
        number = iter(range(100_000))
        running.script(
            "POST /auth/v1/token",
            lambda: ok(session(f"access-{next(number)}", refresh=f"refresh-{next(number)}")),
        )
        yield running


class Steps:
    """Counts the waits of a client's exchanges with the server, and cancels somebody at one of them."""

    def __init__(self, jt: JamesTronic) -> None:
        self._exchange = jt._core.exchange
        self._victim: asyncio.Task[Any] | None = None
        self._left = 0
        jt._core.exchange = self.exchange  # type: ignore[method-assign]

    def cancel(self, task: asyncio.Task[Any], step: int) -> None:
        self._victim, self._left = task, step

    async def exchange(self, call: Callable[[], Awaitable[Any]], timeout: float | None) -> Any:  # noqa: ASYNC109 - as there
        return await self._exchange(lambda: self._watched(call), timeout)

    @coroutine
    def _watched(self, call: Callable[[], Awaitable[Any]]) -> Generator[Any, Any, Any]:
        waits = call().__await__()
        resume, argument = waits.send, None  # type: ignore[attr-defined]
        while True:
            try:
                waited_for = resume(argument)
            except StopIteration as stop:
                return stop.value
            if self._victim is not None:
                if self._left == 0:
                    self._victim.cancel()
                    self._victim = None
                self._left -= 1
            try:
                argument = yield waited_for
                resume = waits.send  # type: ignore[attr-defined]
            except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the coroutine
                resume, argument = waits.throw, error  # type: ignore[attr-defined]


@pytest.mark.parametrize("where", ["own awaits", "awaits inside the HTTP library"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_cancelling_at_each_await_leaves_a_working_client(
    service: Service, name: str, where: str
) -> None:
    operation = OPERATIONS[name]
    async with client(service) as jt:
        jt.service = service  # type: ignore[attr-defined]
        steps = Steps(jt)
        await jt.auth.sign_in(email=EMAIL, password=PASSWORD)
        step = 0
        while True:
            async with asyncio.TaskGroup() as group:
                if where == "own awaits":
                    task = group.create_task(awaited(cancelled_at(step, operation(jt))))
                else:
                    task = group.create_task(operation(jt))
                    steps.cancel(task, step)
            if not task.cancelled():
                break
            step += 1
            assert step < 500, "it never gets to its end"
            async with asyncio.timeout(10):
                if not jt.auth.is_signed_in:  # a sign-out that was cancelled has signed out, and says so
                    await jt.auth.sign_in(email=EMAIL, password=PASSWORD)
                assert await jt.tickets.list()
                await renew(jt)
                await operation(jt)
                while [one for one in asyncio.all_tasks() if one.get_name() == "jamestronic-exchange"]:  # noqa: ASYNC110 - other tasks
                    await asyncio.sleep(0)
            assert not jt.auth._lock.locked()
            pool = jt._core._http._transport._pool  # type: ignore[union-attr]
            assert not [one for one in pool.connections if not (one.is_idle() or one.is_closed())]
            assert not pool._requests
        assert step > 0, "it never waited"
        print(f"{name}: cancelled at each of {step} {where}")


async def awaited(work: Any) -> None:
    await work
