"""The proxy does what each fault says, seen by a plain client before a plain server."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer
from fault_proxy import Fault, FaultProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE = b"[" + b"1," * 5_000 + b"1]"
SHORT = 0.3
"""Seconds in which nothing must happen."""


class Bench:
    """A server, the proxy before it, and a client of it."""

    proxy: FaultProxy
    http: aiohttp.ClientSession

    def __init__(self) -> None:
        self.worked = 0
        """Requests that reached the server."""

    async def page(self, _: web.Request) -> web.Response:
        self.worked += 1
        return web.Response(body=PAGE)

    async def echo(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for frame in socket:
            if frame.data == "good-bye":
                await socket.close(code=1012)
            else:
                await socket.send_str(f"{frame.data}!")
        return socket

    async def get(self) -> tuple[int, bytes]:
        async with self.http.get("/rest/page") as answer:
            return answer.status, await answer.read()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    app = web.Application()
    app.router.add_get("/rest/page", made.page)
    app.router.add_get("/realtime/socket", made.echo)
    async with TestServer(app) as server:
        made.proxy = FaultProxy(str(server.make_url("")).rstrip("/"), random.Random(1))  # noqa: S311 - for tests
        async with made.proxy.serving(), aiohttp.ClientSession(made.proxy.url) as made.http:
            yield made


@asynccontextmanager
async def socket_of(bench: Bench) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with bench.http.ws_connect(
        "/realtime/socket", timeout=aiohttp.ClientWSTimeout(ws_close=0.1)
    ) as socket:
        await socket.send_str("hello")
        assert await socket.receive_str(timeout=5) == "hello!"
        yield socket


async def test_without_a_fault_everything_passes(bench: Bench) -> None:
    assert await bench.get() == (200, PAGE)
    async with socket_of(bench) as socket:
        assert bench.proxy.sockets == 1
        await socket.send_str("good-bye")
        assert (await socket.receive(timeout=5)).type is WSMsgType.CLOSE
        assert socket.close_code == 1012


async def test_a_status_is_answered_in_place_of_the_server(bench: Bench) -> None:
    bench.proxy.inject("/", Fault("429", status=429, retry_after="7"))
    async with bench.http.get("/rest/page") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
        await bench.http.ws_connect("/realtime/socket")
    assert bench.worked == 0
    bench.proxy.heal()
    assert await bench.get() == (200, PAGE)


async def test_the_work_may_be_done_though_the_answer_is_lost(bench: Bench) -> None:
    bench.proxy.inject("/rest", Fault("lost", is_reset=True, does_work=True))
    with pytest.raises(aiohttp.ClientError):
        await bench.get()
    # aiohttp repeats a GET whose connection ended before the first byte.
    assert bench.worked >= 1


async def test_the_longest_prefix_wins(bench: Bench) -> None:
    bench.proxy.inject("/", Fault("500", status=500))
    bench.proxy.inject("/rest", Fault("418", status=418))
    assert (await bench.get())[0] == 418


async def test_a_truncated_body_and_a_slow_one(bench: Bench) -> None:
    bench.proxy.inject("/rest", Fault("truncated", body_share=0.5))
    with pytest.raises(aiohttp.ClientPayloadError):
        await bench.get()
    bench.proxy.inject("/rest", Fault("slow", body_time=SHORT))
    began = time.monotonic()
    assert await bench.get() == (200, PAGE)
    assert time.monotonic() - began >= SHORT * 0.9


async def test_a_hole_takes_everything_and_a_caught_socket_stays_dead(bench: Bench) -> None:
    async with socket_of(bench) as caught:
        bench.proxy.inject("/", Fault("hole", is_hole=True))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT):
                await bench.get()
        assert bench.worked == 0
        bench.proxy.heal()
        await caught.send_str("anybody?")
        with pytest.raises(TimeoutError):
            await caught.receive(timeout=SHORT)
        async with socket_of(bench):
            pass


async def test_half_open_hears_nothing_not_even_the_end(bench: Bench) -> None:
    async with socket_of(bench) as socket:
        bench.proxy.inject("/realtime", Fault("deaf", is_deaf=True))
        await socket.send_str("good-bye")
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=SHORT)


async def test_frames_come_late_and_in_order_or_twice(bench: Bench) -> None:
    async with socket_of(bench) as socket:
        bench.proxy.inject("/realtime", Fault("late", frame_delay=SHORT))
        began = time.monotonic()
        for text in "abc":
            await socket.send_str(text)
        assert [await socket.receive_str(timeout=5) for _ in "abc"] == ["a!", "b!", "c!"]
        # Each is late, but not by the sum.
        assert SHORT * 0.9 <= time.monotonic() - began < 5
        bench.proxy.inject("/realtime", Fault("twice", frame_copies=2))
        await socket.send_str("d")
        assert [await socket.receive_str(timeout=5) for _ in "dd"] == ["d!", "d!"]


async def test_a_cut_and_a_refusal(bench: Bench) -> None:
    async with socket_of(bench) as socket:
        assert bench.proxy.cut("/rest") == 0
        assert bench.proxy.cut("/realtime") == 1
        assert (await socket.receive(timeout=5)).type in {WSMsgType.CLOSED, WSMsgType.ERROR}
    await bench.proxy.refuse()
    with pytest.raises(aiohttp.ClientConnectorError):
        await bench.get()
    await bench.proxy.accept()
    assert await bench.get() == (200, PAGE)
    assert bench.proxy.sockets == 0
