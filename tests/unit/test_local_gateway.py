"""The gateway: what it translates, what it passes on, what it answers itself."""

from __future__ import annotations

import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from jamestronic_sdk.local._processes import listen
from jamestronic_sdk.local.admin import Switchboard
from jamestronic_sdk.local.admin import make_app as make_local_app
from jamestronic_sdk.local.context import LocalContext
from jamestronic_sdk.local.faults import Faults
from jamestronic_sdk.local.gateway import Gateway, Keys

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ANON, SERVICE = "anon.jwt.x", "service.jwt.x"
KEYS = Keys(publishable="sb_publishable_p", secret="sb_secret_s", anon_token=ANON, service_role_token=SERVICE)


class Switch:
    """A Realtime that only counts."""

    def __init__(self) -> None:
        self.is_ready = True

    async def cut(self) -> int:
        self.is_ready = False
        return 3

    def restore(self) -> None:
        self.is_ready = True

    def break_sockets(self) -> int:
        return 2

    def silence(self) -> None:
        self.is_ready = False

    def speak(self) -> None:
        self.is_ready = True

    async def drop_slots(self) -> int:
        return 2


class Upstream:
    """A PostgREST that tells what it got."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections: set[object] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.connections.add(request.transport)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, request.raw_path, headers, await request.read()))
        if request.path == "/empty":
            return web.Response(status=204)
        if request.path == "/redirect":
            return web.Response(status=303, headers={"Location": "/elsewhere"})
        return web.json_response(
            {"n": len(self.requests)},
            status=206,
            headers={"Content-Range": "0-9/573", "Connection": "X-Hop", "X-Hop": "1"},
        )


@asynccontextmanager
async def serving(*, upstream_is_up: bool = True) -> AsyncGenerator[tuple[str, Upstream, Switch]]:
    """A gateway before a fake PostgREST; its address."""
    upstream, switch = Upstream(), Switch()
    rest = web.Application(client_max_size=16 << 20)
    rest.router.add_route("*", "/{path:.*}", upstream.handle)
    runner = web.AppRunner(rest)
    await runner.setup()
    rest_listener = listen(0)
    rest_port = rest_listener.getsockname()[1]
    await web.SockSite(runner, rest_listener).start()
    if not upstream_is_up:
        await runner.cleanup()

    async def echo(request: web.Request) -> web.Response:
        return web.json_response({"authorization": request.headers.get("Authorization")})

    auth = web.Application()
    auth.router.add_route("*", "/echo", echo)

    async def realtime_is_ready() -> bool:
        return switch.is_ready

    def mailbox(to: str | None) -> list[dict[str, Any]]:
        return [{"to": to}]

    async def nothing(*_: object) -> Any:
        raise NotImplementedError

    faults = Faults(switch, nothing)
    listener = listen(0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    context = LocalContext(
        url=url,
        database_host="127.0.0.1",
        database_port=1,
        database_password="",
        jwt_secret="",
        anon_key=ANON,
        service_role_key=SERVICE,
    )
    gateway = Gateway(
        context,
        keys=KEYS,
        rest_url=f"http://127.0.0.1:{rest_port}",
        parts={"realtime": realtime_is_ready},
        auth=auth,
        realtime=web.Application(),
        local=make_local_app(Switchboard(faults, mailbox, reset=nothing, save=nothing)),
        faults=faults,
    )
    try:
        async with gateway.serving(listener):
            yield url, upstream, switch
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"apikey": KEYS.secret}, f"Bearer {SERVICE}"),
        ({"apiKey": KEYS.publishable}, f"Bearer {ANON}"),
        ({"apikey": ANON}, ANON),
        ({"apikey": "unknown"}, "unknown"),
        ({"apikey": KEYS.secret, "Authorization": "Bearer user.jwt.x"}, "Bearer user.jwt.x"),
        ({"apikey": KEYS.secret, "Authorization": f"Bearer {KEYS.secret}"}, f"Bearer {SERVICE}"),
        ({"apikey": KEYS.publishable, "Authorization": f"Bearer {KEYS.secret}"}, f"Bearer {ANON}"),
        ({"Authorization": f"Bearer {KEYS.secret}"}, None),
        ({"apikey": KEYS.secret, "Authorization": "Basic eA=="}, "Basic eA=="),
    ],
)
@pytest.mark.parametrize("path", ["/rest/v1/tickets", "/auth/v1/echo"])
async def test_keys_become_tokens(headers: dict[str, str], expected: str | None, path: str) -> None:
    """The rule of Supabase's own gateway, for the data API and for Auth."""
    async with serving() as (url, upstream, _), aiohttp.ClientSession() as session:
        async with session.get(url + path, headers=headers) as response:
            body = await response.json()
        got = upstream.requests[0][2].get("authorization") if upstream.requests else body["authorization"]
        assert expected == got


async def test_a_request_is_passed_on_as_it_came() -> None:
    """Method, raw path and query, body, headers; the answer's status, headers and body come back."""
    async with serving() as (url, upstream, _), aiohttp.ClientSession() as session:
        async with session.patch(
            f"{url}/rest/v1/tickets?id=eq.1",
            data=b'{"status": "ready"}',
            headers={
                "Prefer": "return=representation",
                "Content-Type": "application/json",
                "Origin": "http://a",
            },
        ) as response:
            assert (response.status, await response.json()) == (206, {"n": 1})
            assert response.headers["Content-Range"] == "0-9/573"
            assert "X-Hop" not in response.headers
            assert response.headers.getall("Access-Control-Allow-Origin") == ["*"]
        method, path, headers, body = upstream.requests[0]
        assert (method, path, body) == ("PATCH", "/tickets?id=eq.1", b'{"status": "ready"}')
        assert headers["prefer"] == "return=representation"
        assert headers["content-type"] == "application/json"
        assert "origin" not in headers


async def test_the_path_is_neither_decoded_nor_encoded_again() -> None:
    """Byte for byte: PostgREST's filters depend on it."""
    query = "?or=(a.eq.%22x%2Cy%22,b.is.null)&note=a+b%20c&%C3%A9=%2f"
    async with serving() as (url, upstream, _), aiohttp.ClientSession() as session:
        for path in ("", "/", "/tickets", "/rpc/a%2Fb"):
            async with session.get(URL(f"{url}/rest/v1{path}{query}", encoded=True)):
                pass
            assert upstream.requests[-1][1] == f"{path or '/'}{query}"


async def test_a_redirect_and_an_empty_answer_come_back_as_they_are() -> None:
    """Nothing is followed, and no body is invented."""
    async with serving() as (url, _, _), aiohttp.ClientSession() as session:
        async with session.get(f"{url}/rest/v1/redirect", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (303, "/elsewhere")
        async with session.delete(f"{url}/rest/v1/empty") as response:
            assert (response.status, await response.read()) == (204, b"")


async def test_each_head_has_a_connection_of_its_own() -> None:
    """PostgREST 12 closes it without saying so; other requests share theirs."""
    async with serving() as (url, upstream, _), aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.get(f"{url}/rest/v1/tickets"):
                pass
        assert len(upstream.connections) == 1
        for _ in range(3):
            async with session.head(f"{url}/rest/v1/tickets") as response:
                assert response.status == 206
        assert len(upstream.connections) == 4


async def test_a_large_body_is_passed_on() -> None:
    """Larger than what aiohttp reads whole by default (1 MiB)."""
    async with serving() as (url, upstream, _), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/rest/v1/empty", data=io.BytesIO(b"x" * (3 << 20))) as response:
            assert response.status == 204
        assert len(upstream.requests[0][3]) == 3 << 20


async def test_without_postgrest_the_answer_is_retryable() -> None:
    """503 in PostgREST's own shape, so that clients know the code."""
    async with (
        serving(upstream_is_up=False) as (url, _, _),
        aiohttp.ClientSession() as session,
        session.get(f"{url}/rest/v1/tickets") as response,
    ):
        assert response.status == 503
        assert (await response.json())["code"] == "PGRST000"


async def test_preflights_are_answered_here() -> None:
    """The browser may send what it asked for; PostgREST is not bothered."""
    async with serving() as (url, upstream, _), aiohttp.ClientSession() as session:
        async with session.options(
            f"{url}/auth/v1/echo",
            headers={
                "Origin": "http://localhost:3000",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "apikey,authorization,x-client-info",
            },
        ) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert "PATCH" in response.headers["Access-Control-Allow-Methods"]
            assert response.headers["Access-Control-Allow-Headers"] == "apikey,authorization,x-client-info"
        assert upstream.requests == []


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-123", True), ("", False), ("a b\tc", False), ("x" * 200, False)]
)
async def test_every_response_has_a_request_id(given: str, *, kept: bool) -> None:
    """A sensible one is kept and passed on; another one is replaced. Errors have one, too."""
    async with serving() as (url, upstream, _), aiohttp.ClientSession() as session:
        for path in ("/rest/v1/tickets", "/nowhere", "/health"):
            async with session.get(url + path, headers={"X-Request-Id": given}) as response:
                answered = response.headers["X-Request-Id"]
                assert (answered == given) is kept
                assert answered
        assert (upstream.requests[0][2]["x-request-id"] == given) is kept


async def test_faults_need_the_service_key() -> None:
    """Either form of it, in either header; anything else is refused and changes nothing."""
    async with serving() as (url, _, switch), aiohttp.ClientSession() as session:
        address = f"{url}/_local/faults/realtime"
        for headers in ({}, {"apikey": ANON}, {"apikey": KEYS.publishable}, {"Authorization": "Bearer x"}):
            async with session.post(address, json={"state": "down"}, headers=headers) as response:
                assert response.status == 401
        assert switch.is_ready
        for headers in ({"apikey": SERVICE}, {"Authorization": f"Bearer {KEYS.secret}"}):
            async with session.post(address, json={"state": "down"}, headers=headers) as response:
                assert await response.json() == {"fault": "realtime", "state": "down", "closed": 3}
            async with session.get(f"{url}/health") as response:
                assert (response.status, await response.json()) == (
                    503,
                    {"status": "down", "parts": {"realtime": "down"}},
                )
            async with session.post(address, json={"state": "up"}, headers=headers) as response:
                assert await response.json() == {"fault": "realtime", "state": "up"}
        async with session.post(address, data=b"{", headers={"apikey": SERVICE}) as response:
            assert response.status == 400


def test_keys_are_in_no_repr() -> None:
    """A log of the object tells nothing."""
    assert all(secret not in repr(KEYS) for secret in (ANON, SERVICE, KEYS.publishable, KEYS.secret))


async def test_mailbox_needs_the_service_key() -> None:
    """It holds codes; with the key, one address or all."""
    async with serving() as (url, _, _), aiohttp.ClientSession() as session:
        for headers, status in (({}, 401), ({"apikey": ANON}, 401), ({"apikey": KEYS.secret}, 200)):
            async with session.get(f"{url}/_local/mailbox", headers=headers) as response:
                assert response.status == status
        async with session.get(f"{url}/_local/mailbox?to=a%40b.c", headers={"apikey": SERVICE}) as response:
            assert await response.json() == {"messages": [{"to": "a@b.c"}]}
