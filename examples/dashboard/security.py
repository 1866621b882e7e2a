"""What the browser is told to allow, and which requests are believed.

Promises:
    No inline script or style runs, nothing is loaded from elsewhere, and no other site may frame a page.
    A request that changes something comes from a page of this server: it is JSON with a header of ours, which
    another site can't send without asking first, and the browser names no other origin for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .desks import Desk

COOKIE: Final = "desk"
OUR_HEADER: Final = "x-dashboard"
MOST_BYTES: Final = 64 * 1024
"""Of one request: a ticket's description is at most 10,000 characters."""

_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class SecurityHeaders:
    """Adds the headers to every answer; pages and data are not kept by caches."""

    def __init__(self, app: ASGIApp) -> None:
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


def is_ours(request: Request) -> bool:
    """Whether a request that changes something comes from a page of this server."""
    headers: Headers = request.headers
    origin = headers.get("origin")
    return (
        headers.get("content-type", "").partition(";")[0].strip() == "application/json"
        and headers.get(OUR_HEADER) == "1"
        and headers.get("sec-fetch-site", "same-origin") == "same-origin"
        and (origin is None or urlsplit(origin).netloc == headers.get("host"))
    )


async def read_body(request: Request) -> bytes | None:
    """The request's body; None when it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            return None
    return bytes(body)


def give_key(response: Response, desk: Desk, *, is_secure: bool) -> None:
    """Let the browser keep the key, for this desk's pages only: windows may belong to several people."""
    response.set_cookie(
        COOKIE, desk.key, path=f"/d/{desk.id}", httponly=True, samesite="strict", secure=is_secure
    )


def take_key(response: Response, desk_id: str) -> None:
    """Have the browser forget it."""
    response.delete_cookie(COOKIE, path=f"/d/{desk_id}", httponly=True, samesite="strict")
