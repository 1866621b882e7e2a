"""Broadcasts by HTTP: a batch, or one message with its topic and event in the path.

Rules:
    1. ``Authorization`` wins over ``apikey``; each must be a token with ``role`` and ``exp``.
    2. Nobody is excluded: the sender of an HTTP request is no member.
    3. A private message of a batch that the token may not write is dropped, and still answered with 202;
       a single one is answered with 403.

Never:
    Storing: what comes by HTTP is not replayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import hdrs, web

from jamestronic_sdk.errors import AuthenticationError, PermissionDeniedError, ServerError
from jamestronic_sdk.local.realtime import authorization
from jamestronic_sdk.local.realtime import credentials as tokens
from jamestronic_sdk.local.realtime.authorization import Asker, Extension
from jamestronic_sdk.local.realtime.protocol import Broadcast, RawJson, mapping, parse_json, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jamestronic_sdk.local.realtime.credentials import Credentials
    from jamestronic_sdk.local.realtime.server import RealtimeServer

__all__ = ["add_routes"]

_BODY_LIMIT: Final = 8_000_000
"""Bytes of a request; what a hosted server's parser takes."""

_BLANK: Final = "can't be blank"
_INVALID: Final = "is invalid"


def add_routes(app: web.Application, server: RealtimeServer) -> None:
    """Serve ``/api/broadcast`` and ``/api/broadcast/{topic}/events/{event}``."""
    endpoint = _Endpoint(server)
    app.router.add_post("/api/broadcast", endpoint.batch)
    app.router.add_post("/api/broadcast/{topic}/events/{event}", endpoint.single)


@dataclass(frozen=True, slots=True)
class _Message:
    """A message of a batch."""

    topic: str
    event: str
    payload: Mapping[str, Any]
    is_private: bool
    id: str | None

    def frame_payload(self) -> RawJson:
        """As members get it."""
        body: dict[str, object] = {"event": self.event, "payload": self.payload, "type": "broadcast"}
        if self.id is not None:
            body["meta"] = {"id": self.id}
        return RawJson(to_json(body))


class _Endpoint:
    """The handlers."""

    def __init__(self, server: RealtimeServer) -> None:
        self._server = server

    async def batch(self, request: web.Request) -> web.Response:
        """``POST /api/broadcast``."""
        credentials = self._check(request)
        given = _json(await _body(request))
        messages = _messages(given, self._server.options.payload_limit)
        if self._server.has_too_many_messages:
            raise _refusal(429, "You have exceeded your rate limit")
        writable: dict[str, bool] = {}
        for message in messages:
            if message.is_private and message.topic not in writable:
                writable[message.topic] = await self._may_write(request, credentials, message.topic)
            if not message.is_private or writable[message.topic]:
                self._server.count_message()
                self._server.rooms.broadcast(
                    message.topic,
                    message.frame_payload(),
                    is_private=message.is_private,
                    message_id=message.id,
                )
        return web.Response(status=202)

    async def single(self, request: web.Request) -> web.Response:
        """``POST /api/broadcast/{topic}/events/{event}?private=true``."""
        credentials = self._check(request)
        is_binary = request.content_type == "application/octet-stream"
        # A missing header is aiohttp's octet-stream; it means JSON here.
        if hdrs.CONTENT_TYPE not in request.headers or request.content_type == "application/json":
            is_binary = False
        elif not is_binary:
            text = "Unsupported Media Type. Use application/json or application/octet-stream"
            return web.json_response({"error": text}, status=415)
        payload = await _body(request)
        if not is_binary:
            payload = payload or b"{}"
            if not isinstance(_json(payload), dict):
                raise _unprocessable({"payload": [_INVALID]})
        if len(payload) > self._server.options.payload_limit:
            raise _unprocessable({"payload": ["Payload size exceeds tenant limit"]})
        if self._server.has_too_many_messages:
            raise _refusal(429, "You have exceeded your rate limit")
        topic, event = request.match_info["topic"], request.match_info["event"]
        is_private = request.query.get("private") == "true"
        if is_private and not await self._may_write(request, credentials, topic):
            raise _refusal(403, "Unauthorized")
        self._server.count_message()
        self._server.rooms.broadcast(
            topic, Broadcast(event, payload, is_json=not is_binary), is_private=is_private
        )
        return web.Response(status=202)

    def _check(self, request: web.Request) -> Credentials:
        if self._server.is_cut:
            raise _refusal(503, "Realtime is down")
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if not token or scheme.lower() != "bearer":
            token = request.headers.get("apikey", "")
        try:
            return tokens.verify(self._server.context.jwt_secret, token)
        except AuthenticationError:
            raise _refusal(401, "Unauthorized") from None

    async def _may_write(self, request: web.Request, credentials: Credentials, topic: str) -> bool:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asker = Asker(credentials, topic, headers)
        try:
            return await authorization.may_write(self._server.pool, asker, Extension.BROADCAST)
        except (PermissionDeniedError, ServerError):
            return False


def _messages(given: object, payload_limit: int) -> list[_Message]:
    """The messages of a batch; one that is wrong refuses all."""
    body = cast("dict[str, object]", given) if isinstance(given, dict) else {}
    listed = body.get("messages")
    if listed is None:
        raise _unprocessable({"messages": [_BLANK]})
    if not isinstance(listed, list):
        raise _unprocessable({"messages": [_INVALID]})
    found: list[_Message] = []
    errors: list[dict[str, list[str]]] = []
    for each in cast("list[object]", listed):
        if not isinstance(each, dict):
            raise _unprocessable({"messages": [_INVALID]})
        message, problems = _message(cast("dict[str, object]", each), payload_limit)
        found.append(message)
        errors.append(problems)
    if any(errors):
        raise _unprocessable({"messages": errors})
    return found


def _message(given: Mapping[str, object], payload_limit: int) -> tuple[_Message, dict[str, list[str]]]:
    problems: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for name in ("topic", "event"):
        value = given.get(name)
        texts[name] = value if isinstance(value, str) else ""
        if value is None or (isinstance(value, str) and not value.strip()):
            problems[name] = [_BLANK]
        elif not isinstance(value, str):
            problems[name] = [_INVALID]
    payload = mapping(given.get("payload"))
    if payload is None:
        problems["payload"] = [_BLANK if given.get("payload") is None else _INVALID]
    elif len(to_json(payload)) > payload_limit:
        problems["payload"] = ["Payload size exceeds tenant limit"]
    private, key = given.get("private"), given.get("id")
    message = _Message(
        texts["topic"],
        texts["event"],
        payload or {},
        is_private=private is True or private in {"true", "1"},
        id=key if isinstance(key, str) else None,
    )
    return message, problems


async def _body(request: web.Request) -> bytes:
    """All of it; the application around us has a lower limit, which is not for us."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > _BODY_LIMIT:
            raise _refusal(413, "Request Entity Too Large")
        chunks.append(chunk)
    return b"".join(chunks)


def _json(body: bytes) -> object:
    try:
        return parse_json(body)
    except ValueError:
        raise _refusal(400, "Bad Request") from None


_ERRORS: Final[Mapping[int, type[web.HTTPException]]] = {
    400: web.HTTPBadRequest,
    401: web.HTTPUnauthorized,
    403: web.HTTPForbidden,
    422: web.HTTPUnprocessableEntity,
    429: web.HTTPTooManyRequests,
    503: web.HTTPServiceUnavailable,
}


def _refusal(status: int, text: str) -> web.HTTPException:
    return _error(status, {"message": text})


def _unprocessable(errors: object) -> web.HTTPException:
    return _error(422, {"errors": errors})


def _error(status: int, body: object) -> web.HTTPException:
    text = to_json(body)
    if status == 413:
        error = web.HTTPRequestEntityTooLarge(_BODY_LIMIT, 0, text=text)
        error.content_type = "application/json"
        return error
    return _ERRORS[status](text=text, content_type="application/json")
