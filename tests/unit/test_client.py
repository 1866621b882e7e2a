"""The client as an object: what it exports, holds, leaks and survives."""

from __future__ import annotations

import ast
import asyncio
import gc
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from client_support import (
    ANON_KEY,
    SERVICE_KEY,
    Service,
    client,
    hang_up,
    ok,
    seeded,
    serving,
    signed_in,
    ticket,
)

import jamestronic_sdk
from jamestronic_sdk import (
    ConfigurationError,
    ConnectionFailedError,
    DataError,
    InvalidInputError,
    JamesTronic,
    RequestTimeoutError,
    RetryPolicy,
    SchemaMissingError,
    Ticket,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIST = "GET /rest/v1/tickets"


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as running:
        running.script(LIST, lambda: ok([ticket()]))
        yield running


def test_exports_are_complete_and_sorted() -> None:
    assert jamestronic_sdk.__all__ == sorted(jamestronic_sdk.__all__)
    for name in jamestronic_sdk.__all__:
        assert getattr(jamestronic_sdk, name).__module__.startswith("jamestronic_sdk.")


def test_every_name_has_a_home_and_is_seen_by_type_checkers() -> None:
    source = ast.parse(Path(str(jamestronic_sdk.__file__)).read_text(encoding="utf-8"))
    typed = {
        (str(node.module).removeprefix("jamestronic_sdk."), alias.name)
        for block in source.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == {(module, name) for name, module in jamestronic_sdk._HOME_OF.items()}
    assert {name for _, name in typed} == set(jamestronic_sdk.__all__)
    assert set(jamestronic_sdk.__all__) <= set(dir(jamestronic_sdk))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = jamestronic_sdk.no_such_name


def test_importing_the_package_imports_no_http_library() -> None:
    heavy = {"httpx", "supabase", "websockets", "tenacity", "pydantic_settings", "aiohttp"}
    code = f"import sys; from jamestronic_sdk import *; print(sorted({heavy!r} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_constructor_does_no_io() -> None:
    jt = JamesTronic("https://nowhere.invalid", ANON_KEY)
    assert not jt.is_open
    assert "not open" in repr(jt)


async def test_a_forgotten_client_warns(service: Service) -> None:
    jt = client(service)
    await jt.__aenter__()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jt._handle.__del__()
    await jt.aclose()
    assert [one.category for one in caught] == [ResourceWarning]
    assert "unclosed JamesTronic client of 127.0.0.1" in str(caught[0].message)


async def test_closing_leaves_no_task_and_no_socket(service: Service) -> None:
    before = asyncio.all_tasks()
    async with signed_in(service) as jt:
        await jt.tickets.list()
        await jt._raw.table("tickets").select("*").execute()
        http = jt._core._http
    assert http is not None
    assert http.is_closed
    ours = [one for one in asyncio.all_tasks() - before if "aiohttp" not in repr(one)]
    assert ours == []
    del jt
    gc.collect()


async def test_an_error_in_the_body_comes_out_as_it_is(service: Service) -> None:
    with pytest.raises(KeyError):
        async with client(service):
            raise KeyError


async def test_one_pool_serves_everything(service: Service) -> None:
    async with signed_in(service) as jt:
        for _ in range(20):
            await jt.tickets.list()
        await jt.auth.sign_out()
        pool = jt._core._http._transport._pool  # type: ignore[union-attr]
        assert len(pool.connections) == 1


@pytest.mark.parametrize("turns", range(0, 40, 1))
async def test_cancelling_anywhere_leaves_a_working_client(service: Service, turns: int) -> None:
    """Sign-in and a read are cancelled after each number of loop turns; the client then still works."""

    async def work(jt: JamesTronic) -> None:
        await jt.auth.sign_in(email="ada@example.test", password="x")
        await jt.tickets.list()

    async with client(service) as jt:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work(jt))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
        async with asyncio.timeout(10):
            await work(jt)
        assert jt.auth.is_signed_in


async def test_cancelling_the_whole_block_closes_it(service: Service) -> None:
    opened = asyncio.Event()
    held: list[JamesTronic] = []

    async def program() -> None:
        async with signed_in(service) as jt:
            held.append(jt)
            opened.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(program())
        await opened.wait()
        task.cancel()
    assert task.cancelled()
    assert not held[0].is_open
    assert held[0]._core._http is not None
    assert held[0]._core._http.is_closed


async def test_a_timed_out_request_does_not_poison_the_pool(service: Service) -> None:
    released = asyncio.Event()

    async def slow(_: object) -> object:
        await released.wait()
        return ok([])

    async with signed_in(service, timeout=0.2, retries=0) as jt:
        service.script(LIST, lambda: slow, lambda: ok([ticket()]))  # type: ignore[arg-type,return-value]
        with pytest.raises(RequestTimeoutError):
            await jt.tickets.list()
        assert len(await jt.tickets.list()) == 1
    released.set()


async def test_random_faults_lose_no_read(service: Service) -> None:
    """A third of all answers are 500, 429 or a reset; with enough retries every read succeeds."""
    rng = seeded(7)

    async def shaky(request: web.Request) -> web.StreamResponse:
        match rng.randrange(9):
            case 0:
                return web.Response(status=500)
            case 1:
                return web.Response(status=429, headers={"Retry-After": "0"})
            case 2:
                return await hang_up(request)
            case _:
                return ok([ticket()])

    async with signed_in(service, retries=RetryPolicy(retries=8, base=0.001, cap=0.002)) as jt:
        service.script(LIST, lambda: shaky)
        for _ in range(40):
            assert len(await jt.tickets.list()) == 1


# -- options -----------------------------------------------------------------------------------------


async def test_with_options_is_the_same_client_with_other_options(service: Service) -> None:
    async with signed_in(service) as jt:
        quick = jt.with_options(timeout=0.05, retries=0)
        released = asyncio.Event()

        async def slow(_: web.Request) -> web.StreamResponse:
            await released.wait()
            return ok([])

        service.script(LIST, lambda: slow, lambda: ok([ticket()]))
        with pytest.raises(RequestTimeoutError):
            await quick.tickets.list()
        assert len(service.seen(LIST)) == 1
        assert len(await jt.tickets.list()) == 1
        assert quick.auth is jt.auth
        assert quick.with_options()._timeout == 0.05
        assert quick.with_options(timeout=None)._timeout is None
        released.set()
        await quick.aclose()
        assert not jt.is_open
    with pytest.raises(ConfigurationError):
        jt.with_options(timeout=-1)


async def test_a_program_may_type_its_own_columns(service: Service) -> None:
    class ShopTicket(Ticket):
        shelf: str

    service.script(LIST, lambda: ok([ticket(shelf="B7")]))
    async with JamesTronic(service.url, SERVICE_KEY, ticket_model=ShopTicket, env_file=None) as jt:
        (row,) = await jt.tickets.list()
        assert row.shelf == "B7"
        assert isinstance(row, ShopTicket)
        service.script(LIST, lambda: ok([ticket()]))
        with pytest.raises(DataError, match="shelf"):
            await jt.tickets.list()
    for wrong in (dict, "Ticket", ticket()):
        with pytest.raises(ConfigurationError, match="ticket_model"):
            JamesTronic(service.url, SERVICE_KEY, ticket_model=wrong)  # type: ignore[type-var]


async def test_rpc_reaches_any_function(service: Service) -> None:
    route = "POST /rest/v1/rpc/count_things"
    service.script(route, lambda: ok({"things": 3}))
    async with signed_in(service) as jt:
        assert await jt.rpc("count_things", {"of": "x"}) == {"things": 3}
        (sent,) = service.seen(route)
        assert sent.body == {"of": "x"}
        service.script(route, lambda: web.Response(status=204))
        assert await jt.rpc("count_things") is None
        service.script(route, lambda: web.Response(text="<html>"))
        with pytest.raises(DataError):
            await jt.rpc("count_things")
        service.script(route, lambda: hang_up, lambda: ok(1))
        with pytest.raises(ConnectionFailedError):
            await jt.rpc("count_things")
        service.script(route, lambda: hang_up, lambda: ok(1))
        assert await jt.rpc("count_things", idempotent=True) == 1
        service.script(route, lambda: web.json_response({"code": "PGRST202", "message": "no"}, status=404))
        with pytest.raises(SchemaMissingError):
            await jt.rpc("count_things")


@pytest.mark.parametrize("name", ["", "a/b", "a?x=1", "../tickets", "ü", "a b", None, 5, "x" * 64])
async def test_rpc_takes_plain_names_only(service: Service, name: Any) -> None:
    async with signed_in(service) as jt:
        with pytest.raises(InvalidInputError):
            await jt.rpc(name)
        for arguments in ({"x": float("nan")}, {"x": object()}, {"x": "\ud800"}, {"x": b"y"}, [1], "ab"):
            with pytest.raises(InvalidInputError):
                await jt.rpc("f", arguments)  # type: ignore[arg-type]
    assert service.requests == []
