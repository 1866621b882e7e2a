"""A proxy that stands before a real project and fails at random: nothing in the client is replaced."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

# What belongs to one connection, and what the sender computes anew.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "date",
        "host",
        "keep-alive",
        "server",
        "transfer-encoding",
    }
)


class FaultProxy:
    """Forwards requests; of those on ``/rest/v1`` and of renewals, ``rate`` fail in one of six ways."""

    def __init__(self, target: str, rng: random.Random) -> None:
        self.url = ""
        self.rate = 0.0
        self.faults: Counter[str] = Counter()
        """How often each fault was made."""
        self.requests: Counter[str] = Counter()
        """How often each path was asked for, renewals under ``refresh``."""
        self._target: Final = target
        self._rng: Final = rng
        self._session: aiohttp.ClientSession | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        is_refresh = request.query.get("grant_type") == "refresh_token"
        self.requests["refresh" if is_refresh else request.path] += 1
        if request.path.startswith("/auth/") and not is_refresh:
            return await self._forward(request)
        if self._rng.random() >= self.rate:
            return await self._forward(request)
        fault = self._rng.choice(
            [
                "500",
                "429",
                "502 page",
                "reset",
                "reset after the work was done",
                "500 after the work was done",
            ]
        )
        self.faults[fault] += 1
        if fault.endswith("done"):
            await self._forward(request)
        match fault.split():
            case ["429"]:
                return web.json_response({"message": "slow down"}, status=429, headers={"Retry-After": "0"})
            case ["502", _]:
                return web.Response(status=502, text="<html>Bad Gateway</html>", content_type="text/html")
            case ["500", *_]:
                return web.json_response({"code": "XX000", "message": "boom"}, status=500)
            case _:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        headers = [
            (name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP
        ]
        async with self._session.request(
            request.method,
            f"{self._target}{request.raw_path}",
            headers=headers,
            data=await request.read(),
            allow_redirects=False,
        ) as answer:
            kept = [
                (name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP
            ]
            return web.Response(status=answer.status, body=await answer.read(), headers=dict(kept))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FaultProxy]:
        app = web.Application(client_max_size=4 * 1024**2)
        app.router.add_route("*", "/{anything:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        # `raw_path` is already encoded, and must stay as it is.
        async with aiohttp.ClientSession(requote_redirect_url=False) as self._session:
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                host, port = runner.addresses[0][:2]
                self.url = f"http://{host}:{port}"
                yield self
            finally:
                await runner.cleanup()
