"""Faults on request: each does what its line in the table says, and stops when it is cleared."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from jamestronic_sdk import JamesTronic, NewTicket, RateLimitedError, ServerError
from jamestronic_sdk.errors import LocalStackError
from jamestronic_sdk.local.faults import FAULTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jamestronic_sdk.local.stack import LocalSupabase

DOCS = Path(__file__).parents[2] / "docs" / "local.md"


@pytest.fixture
async def stack(untouched_supabase: LocalSupabase) -> AsyncIterator[LocalSupabase]:
    yield untouched_supabase
    await untouched_supabase.clear_faults()


@pytest.fixture
async def http(stack: LocalSupabase) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"apikey": stack.secret_key}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture
async def service(stack: LocalSupabase) -> AsyncIterator[JamesTronic]:
    async with JamesTronic(stack.url, stack.service_role_key, env_file=None, retries=0) as jt:
        yield jt


async def statuses(http: httpx.AsyncClient, path: str, times: int = 40) -> list[int]:
    return [(await http.get(path)).status_code for _ in range(times)]


REST, AUTH = "/rest/v1/tickets?limit=1", "/auth/v1/health"


async def test_a_share_of_requests_fails_and_the_share_is_repeatable(
    stack: LocalSupabase, http: httpx.AsyncClient
) -> None:
    """Of one service only; the same seed gives the same run."""
    runs = []
    for _ in range(2):
        await stack.fault("errors", service="rest", rate=0.3, status=502, seed=7)
        runs.append(await statuses(http, REST))
    assert runs[0] == runs[1]
    assert 4 <= runs[0].count(502) <= 22
    assert set(runs[0]) == {200, 502}
    assert await statuses(http, AUTH, 5) == [200] * 5
    assert [fault["rate"] for fault in await stack.faults()] == [0.3]
    assert await stack.clear_faults("errors") == 1
    assert await statuses(http, REST, 5) == [200] * 5


async def test_clients_understand_the_errors(stack: LocalSupabase, service: JamesTronic) -> None:
    """A 5xx and a 429 with Retry-After, of the data API and of Auth."""
    await stack.fault("errors")
    with pytest.raises(ServerError):
        await service.tickets.list()
    with pytest.raises(ServerError):
        await service.admin.list_users()
    await stack.clear_faults()
    await stack.fault("limit", retry_after=7)
    with pytest.raises(RateLimitedError) as refused:
        await service.tickets.list()
    assert refused.value.retry_after == 7
    with pytest.raises(RateLimitedError):
        await service.admin.list_users()


async def test_a_delay_holds_up_one_service(stack: LocalSupabase, http: httpx.AsyncClient) -> None:
    """At least as long as it says."""
    await stack.fault("delay", service="auth", ms=150, jitter=20)
    began = time.perf_counter()
    assert (await http.get(AUTH)).status_code == 200
    assert time.perf_counter() - began >= 0.15


async def wait_for(store: Any, titles: list[str]) -> None:
    async with asyncio.timeout(40):
        while [ticket.title for ticket in store.tickets.values()] != titles:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("fault", "did"), [("cut", "closed"), ("drop_slot", "dropped"), ("realtime", "closed")]
)
async def test_a_store_survives(stack: LocalSupabase, service: JamesTronic, fault: str, did: str) -> None:
    """What is written while the link is lost is there in the end."""
    await stack.reset()
    async with service.ticket_store(poll_interval=5) as store:
        answer = await stack.fault(fault)
        assert answer[did] >= 1
        await service.tickets.create(NewTicket(title=fault, appliance_type="oven"))
        if fault == "realtime":
            await stack.fault("realtime", state="up")
        await wait_for(store, [fault])


async def test_silence_leaves_sockets_open_and_says_nothing(stack: LocalSupabase) -> None:
    """Not even to a heartbeat; afterwards what was held back comes."""
    from websockets.asyncio.client import connect  # noqa: PLC0415 - the only use

    address = f"{stack.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={stack.secret_key}&vsn=1.0.0"
    beat = '{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"%d"}'
    async with connect(address, proxy=None, ping_interval=None) as socket:
        await socket.send(beat % 1)
        async with asyncio.timeout(10):
            assert '"1"' in str(await socket.recv())
        await stack.fault("silence")
        await socket.send(beat % 2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await socket.recv()
        await stack.clear_faults("silence")
        async with asyncio.timeout(10):
            assert '"2"' in str(await socket.recv())


@pytest.mark.parametrize("part", ["postgrest", "backend"])
async def test_a_killed_part_comes_back(stack: LocalSupabase, http: httpx.AsyncClient, part: str) -> None:
    """And the data API reads again."""
    assert (await stack.fault("kill", part=part))["killed"] == 1
    async with asyncio.timeout(60):
        while True:
            health = (await http.get("/health")).json()["status"]
            if health == "ok" and (await http.get(REST)).status_code == 200:
                break
            await asyncio.sleep(0.02)


async def test_a_reset_ends_faults(stack: LocalSupabase, http: httpx.AsyncClient) -> None:
    """A test that forgot to clear them harms no other."""
    await stack.fault("errors")
    await stack.fault("silence")
    await stack.reset()
    assert await stack.faults() == []
    assert await statuses(http, REST, 3) == [200] * 3


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("nothing", {}, "There is no fault nothing"),
        ("errors", {"rate": 2}, "rate must be from 0 to 1"),
        ("errors", {"status": 200}, "status must be from 500"),
        ("errors", {"service": "mail"}, "service must be one of"),
        ("kill", {"part": "supervisor"}, "part must be one of"),
        ("cut", {"rate": 0.5}, "cut has no rate"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    stack: LocalSupabase, name: str, parameters: dict[str, Any], said: str
) -> None:
    """With the reason, and without effect."""
    with pytest.raises(LocalStackError, match=re.escape(said)):
        await stack.fault(name, **parameters)
    assert await stack.faults() == []


async def test_faults_need_the_service_key(stack: LocalSupabase) -> None:
    """Listing, clearing, resetting and saving, too."""
    async with httpx.AsyncClient(base_url=stack.url, headers={"apikey": stack.publishable_key}) as http:
        for method, path in (
            ("POST", "faults/cut"),
            ("GET", "faults"),
            ("DELETE", "faults"),
            ("POST", "reset"),
            ("POST", "save"),
        ):
            assert (await http.request(method, f"/_local/{path}")).status_code == 401


def test_the_page_has_every_fault() -> None:
    """With each parameter and what it is without one."""
    text = DOCS.read_text()
    for name, fault in FAULTS.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{name}"))
        for parameter in fault.parameters:
            assert f"`{parameter}" in line
