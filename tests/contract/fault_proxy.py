"""A proxy that stands before a real project and fails as it is told to: nothing in the client is replaced.

Rules
    1. A fault is data (``Fault``), under a path's prefix, from ``inject`` to ``heal``; the longest prefix wins.
    2. What a fault makes of a socket stays: one that was caught in a hole never wakes up again, as behind a
       router that forgot it. What is opened after ``heal`` is well.
    3. Frames keep their order, however long they are delayed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import WSMsgType, web

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

__all__ = ["Fault", "FaultProxy"]

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
        "upgrade",
    }
)
_HOST: Final = "127.0.0.1"
_CLOSE_TIMEOUT: Final = 0.5
"""Seconds that the answer to a close frame is waited for."""
_STEPS: Final = 10
"""Pieces that a slow body comes in."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, as data; the default of each field is that it goes well. Times are seconds."""

    name: str
    status: int | None = None
    """In place of the server's answer; a socket's handshake is refused with it."""
    body: str = '{"code":"XX000","message":"boom"}'
    content_type: str = "application/json"
    retry_after: str | None = None
    does_work: bool = False
    """The request reaches the server, only its answer is replaced."""
    is_reset: bool = False
    """The connection is reset in place of an answer."""
    is_hole: bool = False
    """Nothing is answered, and no frame passes in either direction."""
    is_deaf: bool = False
    """Half-open: no frame of the server arrives."""
    body_time: float = 0.0
    """How long the body of an answer takes."""
    body_share: float = 1.0
    """What part of the body arrives before the connection is reset."""
    frame_delay: float = 0.0
    """From the server to the client."""
    frame_copies: int = 1
    """How often each frame of the server arrives."""


@dataclass(frozen=True, slots=True)
class _Rule:
    faults: tuple[Fault, ...]
    rate: float


@dataclass(slots=True, eq=False)
class _Connection:
    """A request or a socket that is open."""

    path: str
    transport: asyncio.Transport
    is_socket: bool = False
    is_deaf: bool = False
    is_mute: bool = False
    frames: asyncio.Queue[tuple[float, aiohttp.WSMessage]] = field(default_factory=asyncio.Queue)
    late: int = 0
    """Frames of the server that have not been sent on."""


class FaultProxy:
    """Forwards requests and sockets to ``target``, and fails where a fault was injected.

    Args:
        target: The project's address.
        rng: Decides which of several faults happens, and whether.
    """

    def __init__(self, target: str, rng: random.Random) -> None:
        self.url = ""
        self.port = 0
        self.faults: Counter[str] = Counter()
        """How often each fault met a request."""
        self.requests: Counter[str] = Counter()
        """How often each path was asked for, renewals under ``refresh``."""
        self._target: Final = target
        self._rng: Final = rng
        self._rules: dict[str, _Rule] = {}
        self._open: set[_Connection] = set()
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    # --- switching -----------------------------------------------------------------------------------

    def inject(self, prefix: str, *faults: Fault, rate: float = 1.0) -> None:
        """From now on requests under the prefix meet one of the faults, so many of them."""
        self._rules[prefix] = _Rule(faults, rate)
        for connection in self._open:
            self._catch(connection, self._fault_of(connection.path))

    def heal(self) -> None:
        """No fault any more; what was broken stays broken."""
        self._rules.clear()

    def cut(self, prefix: str = "/") -> int:
        """Reset everything that is open under a prefix, idle connections too for ``/``; how many sockets."""
        doomed = [connection for connection in self._open if connection.path.startswith(prefix)]
        for connection in doomed:
            connection.transport.abort()
        if prefix == "/" and self._runner is not None and self._runner.server is not None:
            for idle in self._runner.server.connections:
                if idle.transport is not None:
                    idle.transport.abort()
        return sum(connection.is_socket for connection in doomed)

    async def refuse(self) -> None:
        """Nobody listens any more, and everything that is open is reset."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self.cut()

    async def accept(self) -> None:
        """Listen, again on the same port."""
        assert self._runner is not None
        if self._site is None:
            self._site = web.TCPSite(self._runner, _HOST, self.port)
            await self._site.start()

    @property
    def sockets(self) -> int:
        """Websockets that are open."""
        return sum(connection.is_socket for connection in self._open)

    @property
    def late_frames(self) -> int:
        """Frames that are on their way to a client."""
        return sum(connection.late for connection in self._open)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FaultProxy]:
        app = web.Application(client_max_size=4 * 1024**2)
        app.router.add_route("*", "/{anything:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        connector = aiohttp.TCPConnector(limit=0)
        # `raw_path` is already encoded, and must stay as it is.
        async with aiohttp.ClientSession(connector=connector, requote_redirect_url=False) as self._session:
            await self._runner.setup()
            try:
                await self.accept()
                self.port = self._runner.addresses[0][1]
                self.url = f"http://{_HOST}:{self.port}"
                yield self
            finally:
                self.cut()
                await self._runner.cleanup()

    # --- requests ------------------------------------------------------------------------------------

    def _fault_of(self, path: str) -> Fault | None:
        prefixes = [prefix for prefix in self._rules if path.startswith(prefix)]
        if not prefixes:
            return None
        rule = self._rules[max(prefixes, key=len)]
        return self._rng.choice(rule.faults) if self._rng.random() < rule.rate else None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if request.query.get("grant_type") == "refresh_token":
            path += "/refresh"
        self.requests["refresh" if path.endswith("/refresh") else path] += 1
        assert isinstance(request.transport, asyncio.Transport)
        connection = _Connection(path, request.transport)
        self._open.add(connection)
        try:
            fault = self._fault_of(path)
            if fault is not None:
                self.faults[fault.name] += 1
                self._catch(connection, fault)
            return await self._answer(request, connection, fault)
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status)
        except aiohttp.ClientError:
            connection.transport.abort()
            return web.Response()
        finally:
            self._open.discard(connection)

    async def _answer(
        self, request: web.Request, connection: _Connection, fault: Fault | None
    ) -> web.StreamResponse:
        is_socket = request.headers.get("Upgrade", "").lower() == "websocket"
        if fault is None:
            return await (self._follow(request, connection) if is_socket else self._forward(request))
        if fault.is_hole:
            await asyncio.Event().wait()  # until the client hangs up
        if fault.does_work:
            await self._forward(request)
        if fault.is_reset:
            connection.transport.abort()
            return web.Response()
        if fault.status is not None:
            headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else None
            return web.Response(
                status=fault.status, text=fault.body, content_type=fault.content_type, headers=headers
            )
        if is_socket:
            return await self._follow(request, connection)
        return await self._send_badly(request, connection, await self._forward(request), fault)

    async def _forward(self, request: web.Request) -> web.Response:
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

    async def _send_badly(
        self, request: web.Request, connection: _Connection, whole: web.Response, fault: Fault
    ) -> web.StreamResponse:
        """Send the body slowly, or not all of it."""
        body = whole.body if isinstance(whole.body, bytes) else b""
        answer = web.StreamResponse(status=whole.status, headers=whole.headers)
        answer.content_length = len(body)
        await answer.prepare(request)
        end = int(len(body) * fault.body_share)
        size = max(1, -(-end // _STEPS))
        for start in range(0, end, size):
            await answer.write(body[start : min(start + size, end)])
            await asyncio.sleep(fault.body_time / _STEPS)
        if end < len(body):
            connection.transport.abort()
            return answer
        await answer.write_eof()
        return answer

    # --- sockets -------------------------------------------------------------------------------------

    def _catch(self, connection: _Connection, fault: Fault | None) -> None:
        if fault is not None and connection.is_socket:
            connection.is_deaf |= fault.is_deaf or fault.is_hole
            connection.is_mute |= fault.is_hole

    async def _follow(self, request: web.Request, connection: _Connection) -> web.StreamResponse:
        assert self._session is not None
        async with self._session.ws_connect(
            f"{self._target}{request.raw_path}",
            headers={
                name: value
                for name, value in request.headers.items()
                if name.lower() not in _HOP_BY_HOP and not name.lower().startswith("sec-websocket-")
            },
            autoping=False,
            max_msg_size=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_TIMEOUT),
        ) as server:
            client = web.WebSocketResponse(
                autoping=False, autoclose=False, timeout=_CLOSE_TIMEOUT, max_msg_size=0, compress=False
            )
            await client.prepare(request)
            connection.is_socket = True
            self._catch(connection, self._fault_of(connection.path))
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(self._send_frames(connection, client))
                listener = group.create_task(self._take_frames(connection, server, client))
                async for frame in client:
                    if not connection.is_mute:
                        with suppress(ConnectionError):  # the listener sees it, too
                            await _send(server, frame)
                if connection.is_deaf:
                    await asyncio.Event().wait()  # nobody answers a good-bye, until the client hangs up
                sender.cancel()
                listener.cancel()
            await client.close()
            return client

    async def _take_frames(
        self,
        connection: _Connection,
        server: aiohttp.ClientWebSocketResponse,
        client: web.WebSocketResponse,
    ) -> None:
        """From the server, each with the moment at which it is due at the client."""
        clock = asyncio.get_running_loop().time
        async for frame in server:
            fault = self._fault_of(connection.path)
            due = clock() + (fault.frame_delay if fault else 0.0)
            for _ in range(fault.frame_copies if fault else 1):
                connection.late += 1
                connection.frames.put_nowait((due, frame))
        if connection.is_deaf:
            return  # the client does not hear that it is over
        if server.close_code in {None, 1006}:
            connection.transport.abort()
        else:
            await client.close(code=server.close_code or 1000)

    async def _send_frames(self, connection: _Connection, client: web.WebSocketResponse) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, frame = await connection.frames.get()
            if (wait := due - clock()) > 0:
                await asyncio.sleep(wait)
            if not connection.is_deaf:
                with suppress(ConnectionError):  # who reads from the client ends this
                    await _send(client, frame)
            connection.late -= 1


async def _send(
    sink: aiohttp.ClientWebSocketResponse | web.WebSocketResponse, frame: aiohttp.WSMessage
) -> None:
    match frame.type:
        case WSMsgType.TEXT:
            await sink.send_str(frame.data)
        case WSMsgType.BINARY:
            await sink.send_bytes(frame.data)
        case WSMsgType.PING:
            await sink.ping(frame.data)
        case WSMsgType.PONG:
            await sink.pong(frame.data)
