"""The one URL of a local stack: Auth and Realtime mounted, PostgREST behind a streaming proxy.

Promises:
    Opaque keys (``sb_...``) become the keys' tokens, by the rule of Supabase's own gateway.
    A body is passed on as it comes, in both directions, with nothing added and nothing buffered whole.
    Every response carries ``X-Request-Id``, and the headers that let a browser read it.

Never:
    No request is logged: paths and queries hold ids, phone numbers and tokens.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping

    from multidict import CIMultiDictProxy

    from jamestronic_sdk.local.context import LocalContext
    from jamestronic_sdk.local.faults import Faults

__all__ = ["Gateway", "Keys"]

_REQUEST_ID: Final = "X-Request-Id"
_REQUEST_ID_FORM: Final = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")
_TRANSLATED: Final = ("/rest/v1", "/auth/v1", "/realtime/v1/api")
_SOCKETS: Final = "/realtime/v1/websocket"

# RFC 9110, 7.6.1, and what older proxies add to it.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_ALLOWED_HEADERS: Final = "authorization, apikey, content-type, prefer, range, x-client-info"
_EXPOSED_HEADERS: Final = (
    "Content-Encoding, Content-Location, Content-Profile, Content-Range, Link, Location, "
    "Preference-Applied, Range-Unit, Retry-After, X-Request-Id, X-Supabase-Api-Version, X-Total-Count"
)

_request_id: Final = web.RequestKey("request_id", str)


@dataclass(frozen=True, slots=True)
class Keys:
    """The two opaque keys, and what the gateway makes of them."""

    publishable: str = field(repr=False)
    secret: str = field(repr=False)
    anon_token: str = field(repr=False)
    service_role_token: str = field(repr=False)

    def authorization(self, headers: Mapping[str, str]) -> str | None:
        """The Authorization header that goes on; None: none, which is the role ``anon``.

        A legacy key is a token, but alone in ``apikey`` it is passed on without ``Bearer``, and so means
        nothing: that is how the hosted gateway does it, and clients send the key in both headers.
        """
        given = headers.get(hdrs.AUTHORIZATION)
        if given is not None and not given.startswith("Bearer sb_"):
            return given
        key = headers.get("apikey")
        if key is None:
            return None
        token = self.token(key)
        return key if token is None else f"Bearer {token}"

    def token(self, key: str) -> str | None:
        """What an opaque key stands for; None for any other text."""
        if hmac.compare_digest(key.encode(), self.secret.encode()):
            return self.service_role_token
        if hmac.compare_digest(key.encode(), self.publishable.encode()):
            return self.anon_token
        return None

    def is_service(self, headers: Mapping[str, str]) -> bool:
        """Whether a request shows the service key, in either form and either header."""
        shown = (headers.get("apikey", ""), headers.get(hdrs.AUTHORIZATION, "").removeprefix("Bearer "))
        return any(
            hmac.compare_digest(value.encode(), key.encode())
            for value in shown
            for key in (self.service_role_token, self.secret)
        )


class Gateway:
    """The aiohttp application of one instance, and its server.

    Args:
        context: Addresses of the instance.
        keys: What it translates.
        rest_url: Where PostgREST listens.
        parts: Is each part well? Asked by ``GET /health``.
        auth: Mounted at ``/auth/v1``.
        realtime: Mounted at ``/realtime/v1``.
        local: Mounted at ``/_local``, for who shows the service key.
        faults: What requests meet on their way.
    """

    def __init__(
        self,
        context: LocalContext,
        *,
        keys: Keys,
        rest_url: str,
        parts: Mapping[str, Callable[[], Coroutine[Any, Any, bool]]],
        auth: web.Application,
        realtime: web.Application,
        local: web.Application,
        faults: Faults,
    ) -> None:
        self._context: Final = context
        self._keys: Final = keys
        self._rest_url: Final = rest_url
        self._parts: Final = dict(parts)
        self._faults: Final = faults
        self._session: aiohttp.ClientSession | None = None
        self._head_session: aiohttp.ClientSession | None = None
        self.application: Final[web.Application] = web.Application(middlewares=[self._middleware])
        self.application.on_response_prepare.append(_finish_headers)
        self.application.cleanup_ctx.append(self._client_sessions)
        router = self.application.router
        router.add_get("/health", self._health)
        router.add_route("*", "/rest/v1", self._proxy)
        router.add_route("*", "/rest/v1/{path:.*}", self._proxy)
        self.application.add_subapp("/_local", local)
        self.application.add_subapp("/auth/v1", auth)
        self.application.add_subapp("/realtime/v1", realtime)

    @asynccontextmanager
    async def serving(self, listener: socket.socket) -> AsyncGenerator[None]:
        """Serve while the block runs.

        Args:
            listener: A socket that listens already; it is closed at the end.
        """
        runner = web.AppRunner(self.application, access_log=None, handle_signals=False, shutdown_timeout=2.0)
        try:
            await runner.setup()
            await web.SockSite(runner, listener).start()
            yield
        finally:
            await runner.cleanup()

    async def _client_sessions(self, _application: web.Application) -> AsyncIterator[None]:
        # Per-request limits are the database's (statement_timeout); a bulk download may take its time.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
        async with (
            aiohttp.ClientSession(
                auto_decompress=False, timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
            ) as self._session,
            # PostgREST 12.0.2 closes the connection after a HEAD without saying so; the next request on it
            # would fail now and then. Gone in 13, which sends Content-Length.
            aiohttp.ClientSession(
                auto_decompress=False,
                timeout=timeout,
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
            ) as self._head_session,
        ):
            yield

    @web.middleware
    async def _middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = request.headers.get(_REQUEST_ID, "")
        request[_request_id] = given if _REQUEST_ID_FORM.fullmatch(given) else uuid.uuid4().hex
        if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
            return _preflight(request)
        if request.path.startswith("/_local/"):
            if not self._keys.is_service(request.headers):
                return _error(401, "not_admin", "This needs the service key.")
            return await handler(request)
        fault = await self._faults.meet(request)
        if fault is not None:
            return fault
        if request.path.startswith(_TRANSLATED):
            headers = CIMultiDict(request.headers)
            headers.popall(hdrs.AUTHORIZATION, None)
            headers[_REQUEST_ID] = request[_request_id]
            authorization = self._keys.authorization(request.headers)
            if authorization is not None:
                headers[hdrs.AUTHORIZATION] = authorization
            request = request.clone(headers=headers)
        elif request.path == _SOCKETS:
            # A browser's websocket has no headers: the key is in the query.
            token = self._keys.token(request.query.get("apikey", ""))
            if token is not None:
                request = request.clone(rel_url=request.rel_url.update_query(apikey=token))
        return await handler(request)

    async def _proxy(self, request: web.Request) -> web.StreamResponse:
        session = self._head_session if request.method == hdrs.METH_HEAD else self._session
        assert session is not None  # noqa: S101 - made before the first request
        path = request.rel_url.raw_path_qs.removeprefix("/rest/v1")
        target = URL(f"{self._rest_url}{path if path.startswith('/') else '/' + path}", encoded=True)
        headers = _end_to_end(request.headers)
        for name in (hdrs.HOST, hdrs.ORIGIN):  # CORS is answered here, once
            headers.popall(name, None)
        try:
            async with session.request(
                request.method,
                target,
                headers=headers,
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT),
            ) as answer:
                return await _pass_on(request, answer)
        except aiohttp.ClientConnectorError:
            return _error(503, "PGRST000", "PostgREST is not there; it is being started again.", "1")
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return _error(502, "PGRST001", "PostgREST closed the connection.")

    async def _health(self, _request: web.Request) -> web.Response:
        async with asyncio.TaskGroup() as group:
            checks = {
                name: group.create_task(check(), name=f"health {name}") for name, check in self._parts.items()
            }
        parts = {name: "ok" if task.result() else "down" for name, task in checks.items()}
        well = all(state == "ok" for state in parts.values())
        return web.json_response(
            {"status": "ok" if well else "down", "parts": parts}, status=200 if well else 503
        )


async def _pass_on(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """Send PostgREST's answer to the client as it comes."""
    response = web.StreamResponse(
        status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers)
    )
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    await response.write_eof()
    return response


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The headers that are meant for the other end."""
    named = {
        name.strip().lower() for value in headers.getall(hdrs.CONNECTION, []) for name in value.split(",")
    }
    dropped = _HOP_BY_HOP | named
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)


def _error(status: int, code: str, message: str, retry_after: str | None = None) -> web.Response:
    """An error in the shape of PostgREST's."""
    headers = {hdrs.RETRY_AFTER: retry_after} if retry_after else None
    body = {"code": code, "message": message, "details": None, "hint": None}
    return web.json_response(body, status=status, headers=headers)


def _preflight(request: web.Request) -> web.Response:
    return web.Response(
        status=204,
        headers={
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: request.headers.get(
                hdrs.ACCESS_CONTROL_REQUEST_HEADERS, _ALLOWED_HEADERS
            ),
            hdrs.ACCESS_CONTROL_MAX_AGE: "3600",
        },
    )


async def _finish_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Runs for every response, those of the mounted applications included."""
    request_id = request.get(_request_id)
    if request_id is not None:
        response.headers[_REQUEST_ID] = request_id
    if hdrs.ORIGIN in request.headers:
        # Any origin, as on the hosted service: the keys decide, and cookies play no part.
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED_HEADERS
