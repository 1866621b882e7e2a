"""The Realtime server as an aiohttp application: ``/websocket`` and ``/api/broadcast``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from jamestronic_sdk.errors import AuthenticationError
from jamestronic_sdk.local.realtime import credentials as tokens
from jamestronic_sdk.local.realtime import rest
from jamestronic_sdk.local.realtime.protocol import parse_version
from jamestronic_sdk.local.realtime.server import RealtimeOptions, RealtimeServer
from jamestronic_sdk.local.realtime.socket import Socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jamestronic_sdk.local.context import LocalContext

__all__ = ["REALTIME", "RealtimeOptions", "RealtimeServer", "make_app"]

REALTIME: Final[web.AppKey[RealtimeServer]] = web.AppKey("REALTIME", RealtimeServer)
"""Where ``make_app`` puts its server."""


def make_app(context: LocalContext, options: RealtimeOptions | None = None) -> web.Application:
    """An application to mount at ``/realtime/v1``; the stream runs from its start-up to its clean-up.

    Args:
        context: The instance.
        options: Limits and delays; None for the local defaults.
    """
    app = web.Application()
    app[REALTIME] = RealtimeServer(context, options)
    app.router.add_get("/websocket", _websocket)
    rest.add_routes(app, app[REALTIME])
    app.cleanup_ctx.append(_run)
    app.on_shutdown.append(_say_goodbye)
    return app


async def _run(app: web.Application) -> AsyncIterator[None]:
    async with app[REALTIME]:
        yield


async def _say_goodbye(app: web.Application) -> None:
    # aiohttp waits for open requests before it cleans up: sockets have to end first.
    await app[REALTIME].close_sockets()


async def _websocket(request: web.Request) -> web.StreamResponse:
    server = request.app[REALTIME]
    if server.is_cut:
        return web.json_response({"error": "Realtime is down"}, status=503)
    version = parse_version(request.query.get("vsn"))
    if version is None:
        return web.Response(status=403)
    key = request.headers.get("x-api-key") or request.query.get("apikey")
    if not key:
        return await _refuse(server, "API key is missing")
    try:
        credentials = tokens.verify(server.context.jwt_secret, key, key=server.context.signing_key)
    except AuthenticationError as error:
        # Only here the age of the token is not told.
        expired = "Token has expired"
        return await _refuse(server, expired if error.message.startswith(expired) else error.message)
    if server.is_full or server.has_too_many_joins:
        text = "Too many connected users" if server.is_full else "Too many joins per second"
        return await _refuse(server, text, status=429)
    return await Socket(server, request, version, credentials).run()


async def _refuse(server: RealtimeServer, text: str, *, status: int = 401) -> web.Response:
    await asyncio.sleep(server.options.handshake_error_delay)
    return web.json_response({"error": text}, status=status)
