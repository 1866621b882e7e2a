"""What the client's unit tests share: a small real server, keys, rows, and clocks that obey."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from typing_extensions import override

from jamestronic_sdk import JamesTronic, RetryPolicy, testing

USER = "0b1e7c1e-0000-4000-8000-000000000001"
PROFILE = "0b1e7c1e-0000-4000-8000-000000000002"
TICKET = "0b1e7c1e-0000-4000-8000-000000000003"
SECRET = "planted-secret-7f3a"


def jwt(**claims: object) -> str:
    """A JWT-shaped text; its signature carries the planted secret."""
    parts = [
        json.dumps({"alg": "HS256", "typ": "JWT"}).encode(),
        json.dumps(claims).encode(),
        SECRET.encode(),
    ]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


ANON_KEY = jwt(role="anon", iss="supabase")
SERVICE_KEY = jwt(role="service_role", iss="supabase")


def profile(**changes: object) -> dict[str, object]:
    return {
        "id": PROFILE,
        "user_id": USER,
        "role": "technician",
        "full_name": "Ada Example",
        "phone": "+15550100",
        "is_active": True,
        **changes,
    }


def ticket(number: int = 1001, **changes: object) -> dict[str, object]:
    return {
        "id": TICKET if number == 1001 else f"0b1e7c1e-0000-4000-9000-{number:012d}",
        "number": number,
        "version": 7,
        "title": "Washing machine leaks",
        "status": "open",
        "created_at": "2026-11-01T08:00:00+00:00",
        "updated_at": "2026-11-01T09:00:00.123456+00:00",
        **changes,
    }


def session(
    token: str = "access-1",  # noqa: S107 - of a test
    *,
    refresh: str = "refresh-1",
    expires_in: int = 3600,
    user_id: str = USER,
) -> dict[str, object]:
    return {
        "access_token": token,
        "token_type": "bearer",
        "expires_in": expires_in,
        "refresh_token": refresh,
        "user": {
            "id": user_id,
            "aud": "authenticated",
            "app_metadata": {},
            "user_metadata": {},
            "created_at": "2026-11-01T08:00:00Z",
        },
    }


def auth_error(status: int, code: str, message: str = "no") -> web.Response:
    return web.json_response(
        {"code": code, "message": message},
        status=status,
        headers={"X-Supabase-Api-Version": "2024-01-01"},
    )


def api_error(status: int, code: str | None = None, message: str = "no", **more: object) -> web.Response:
    headers = {"Retry-After": str(more.pop("retry_after"))} if "retry_after" in more else {}
    body = {"code": code, "message": message, "details": None, "hint": None, **more}
    return web.json_response(body, status=status, headers=headers)


def ok(body: object, status: int = 200, **headers: str) -> web.Response:
    return web.json_response(body, status=status, headers=headers)


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


Answer = web.StreamResponse | Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Service:
    """A real HTTP server whose answers are scripted per ``METHOD /path``; the last one is repeated."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    scripts: dict[str, deque[Callable[[], Answer]]] = field(default_factory=dict)

    def script(self, route: str, *answers: Callable[[], Answer]) -> None:
        self.scripts[route] = deque(answers)

    def seen(self, route: str) -> list[Request]:
        return [one for one in self.requests if f"{one.method} {one.path}" == route]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.requests.append(
            Request(
                request.method,
                request.path,
                dict(request.query),
                {name.lower(): value for name, value in request.headers.items()},
                json.loads(raw) if raw else None,
            )
        )
        answers = self.scripts.get(f"{request.method} {request.path}")
        if not answers and request.path == "/rest/v1/rpc/sync_tickets":
            # A database without the change log: stores read whole views, which tests script.
            return web.json_response({"code": "PGRST202", "message": "no sync_tickets"}, status=404)
        if not answers:
            return web.Response(status=418, text=f"not scripted: {request.method} {request.path}")
        answer = answers[0]() if len(answers) == 1 else answers.popleft()()
        return answer if isinstance(answer, web.StreamResponse) else await answer(request)


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Close the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def never(released: asyncio.Event) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Answer only when released."""

    async def answer(_: web.Request) -> web.StreamResponse:
        await released.wait()
        return ok([])

    return answer


@asynccontextmanager
async def serving() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application(client_max_size=4 * 1024**2)
    app.router.add_route("*", "/{anything:.*}", service.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        service.url = f"http://{host}:{port}"
        service.script("POST /auth/v1/token", lambda: ok(session()))
        service.script("POST /auth/v1/logout", lambda: web.Response(status=204))
        service.script("GET /rest/v1/profiles", lambda: ok([profile()]))
        yield service
    finally:
        await runner.cleanup()


def seeded(seed: int) -> random.Random:
    """Randomness that replays."""
    return random.Random(seed)  # noqa: S311 - for tests


class ManualClock(testing.ManualClock):
    """The plugin's, which also tells what was slept, and can be moved without waking anybody."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    @property
    def time(self) -> float:
        return self._time

    @time.setter
    def time(self, value: float) -> None:
        self._time = value

    @override
    def wall(self) -> float:
        return self._time + 500_000_000.0

    @override
    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await super().sleep(seconds)


FAST = RetryPolicy(retries=2, base=0.001, cap=0.002)


def client(service: Service, key: str = ANON_KEY, **options: Any) -> JamesTronic:
    options = {"retries": FAST, "timeout": 10.0, "env_file": None, "rng": seeded(1), **options}
    return JamesTronic(service.url, key, **options)


@asynccontextmanager
async def signed_in(service: Service, **options: Any) -> AsyncIterator[JamesTronic]:
    async with client(service, **options) as jt:
        await jt.auth.sign_in(email="ada@example.test", password="correct horse")
        service.requests.clear()
        yield jt
