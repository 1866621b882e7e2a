"""Phoenix frames, versions 1.0.0 and 2.0.0, and what Realtime puts into them.

Promises:
    Pure: text in, frames out. A payload that is already JSON text is spliced in unchanged, so that
    numbers keep all their digits.
    A version 1.0.0 frame has exactly the keys ``topic``, ``event``, ``payload``, ``ref``.

Never:
    An exception for what a client sends: ``decode`` answers None and the frame is dropped.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "TOPIC_PREFIX",
    "Broadcast",
    "BroadcastConfig",
    "Frame",
    "JoinConfig",
    "PresenceConfig",
    "RawJson",
    "Version",
    "broadcast_payload",
    "decode",
    "decode_binary",
    "encode",
    "encode_broadcast",
    "error_reply",
    "mapping",
    "ok_reply",
    "parse_join",
    "parse_json",
    "parse_version",
    "system",
    "to_json",
    "usable_token",
    "wire",
]

TOPIC_PREFIX: Final = "realtime:"


class Version(Enum):
    """The serializer that a socket asked for with ``vsn``."""

    V1 = "1.0.0"
    V2 = "2.0.0"


class RawJson(str):
    """JSON text that goes into a frame as it is."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A message with its payload apart: from the database, by REST for one message, or a binary frame."""

    event: str
    """The user's event, for example ``cursor``."""
    payload: bytes
    """JSON text in UTF-8, or any bytes."""
    is_json: bool
    metadata: str | None = None
    """A JSON object, for example ``{"id": ...}``."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A message from a client."""

    topic: str
    event: str
    payload: Mapping[str, Any]
    ref: str | None
    join_ref: str | None
    broadcast: Broadcast | None = None
    """The message of a binary frame, whose ``payload`` is empty then."""


@dataclass(frozen=True, slots=True)
class BroadcastConfig:
    """``config.broadcast``."""

    wants_ack: bool = False
    wants_self: bool = False
    wants_replication_ready: bool = False
    replay: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class PresenceConfig:
    """``config.presence``."""

    key: str | None = None
    is_enabled: bool = False


@dataclass(frozen=True, slots=True)
class JoinConfig:
    """The payload of ``phx_join``."""

    broadcast: BroadcastConfig = field(default_factory=BroadcastConfig)
    presence: PresenceConfig = field(default_factory=PresenceConfig)
    is_private: bool = False
    postgres_changes: tuple[Mapping[str, Any], ...] = ()
    """Bindings as sent, without null entries."""
    access_token: str | None = field(default=None, repr=False)


def parse_version(text: str | None) -> Version | None:
    """The serializer for ``vsn``; absent means 1.0.0, None means unsupported."""
    for version in Version:
        # `~> 1.0.0` accepts any 1.0.x.
        if (text or Version.V1.value).startswith(version.value[:-1]):
            return version
    return None


def to_json(value: object) -> str:
    """Compact JSON; ``RawJson`` is passed through."""
    if isinstance(value, RawJson):
        return str(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def parse_json(data: str | bytes) -> object:
    """JSON from a stranger, in UTF-8: all of it can be sent on to clients of any language.

    Raises:
        ValueError: It is malformed, too deep, or has a number or a text that JSON does not have.
    """
    text = data if isinstance(data, str) else data.decode()
    try:
        parsed: object = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("too deep") from error
    if _SURROGATE.search(text):
        to_json(parsed).encode()  # half a pair would fail where it is sent: at somebody else's socket
    return parsed


_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def _refuse_constant(name: str) -> object:
    """Python would read NaN and the infinities."""
    raise ValueError(name)


def decode(version: Version, text: str) -> Frame | None:
    """A client's text frame, or None if it is malformed."""
    try:
        data = parse_json(text)
    except ValueError:
        return None
    match version:
        case Version.V1:
            return _decode_object(data)
        case Version.V2:
            return _decode_array(data)


def _decode_object(data: object) -> Frame | None:
    if not isinstance(data, dict):
        return None
    fields = cast("dict[str, object]", data)
    if not {"topic", "event", "payload", "ref"} <= fields.keys():
        return None
    return _frame(fields.get("join_ref"), *(fields[key] for key in ("ref", "topic", "event", "payload")))


def _decode_array(data: object) -> Frame | None:
    if not isinstance(data, list):
        return None
    fields = cast("list[object]", data)
    return _frame(*fields) if len(fields) == 5 else None


def _frame(join_ref: object, ref: object, topic: object, event: object, payload: object) -> Frame | None:
    if not (isinstance(topic, str) and isinstance(event, str)):
        return None
    if not (ref is None or isinstance(ref, str)) or not (join_ref is None or isinstance(join_ref, str)):
        return None
    body = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
    return Frame(topic, event, body, ref, join_ref)


def encode(
    version: Version,
    topic: str,
    event: str,
    payload: object,
    *,
    ref: str | None = None,
    join_ref: str | None = None,
) -> str:
    """A server's text frame.

    Args:
        version: Serializer of the socket.
        topic: With the prefix ``realtime:``.
        event: For example ``phx_reply``.
        payload: Anything JSON, or ``RawJson``.
        ref: The client's ref on replies, the join's on ``phx_close`` and ``phx_error``, else None.
        join_ref: Only version 2.0.0 sends it.
    """
    body = to_json(payload)
    match version:
        case Version.V1:
            return (
                f'{{"topic":{json.dumps(topic)},"event":{json.dumps(event)},'
                f'"payload":{body},"ref":{json.dumps(ref)}}}'
            )
        case Version.V2:
            return (
                f"[{json.dumps(join_ref)},{json.dumps(ref)},{json.dumps(topic)},{json.dumps(event)},{body}]"
            )


# The kinds of binary frames; 0, 1 and 2 are Phoenix's own, which no client of Realtime sends or reads.
_BROADCAST_PUSH: Final = 3
_BROADCAST: Final = 4
_BINARY: Final = 0
_JSON: Final = 1


def decode_binary(data: bytes) -> Frame | None:
    """A client's binary frame, a broadcast, or None if it is malformed or something else.

    Kind, lengths of join_ref, ref, topic, event and metadata, encoding, then these strings and the payload.
    """
    if len(data) < 7 or data[0] != _BROADCAST_PUSH or data[6] not in {_BINARY, _JSON}:
        return None
    parts: list[str] = []
    at = 7
    try:
        for length in data[1:6]:
            parts.append(data[at : at + length].decode())
            at += length
    except UnicodeDecodeError:
        return None
    if at > len(data):
        return None
    join_ref, ref, topic, event, _ = parts  # the hosted server drops the client's metadata, too
    payload, is_json = data[at:], data[6] == _JSON
    if is_json:
        try:
            parse_json(payload)
        except ValueError:  # it would be spliced into the frames of others
            return None
    return Frame(topic, "broadcast", {}, ref or None, join_ref or None, Broadcast(event, payload, is_json))


def wire(frame: str | bytes) -> bytes:
    """A frame as a server's websocket sends it (RFC 6455, 5.2): the same bytes for all who get it."""
    opcode, data = (0x81, frame.encode()) if isinstance(frame, str) else (0x82, frame)
    size = len(data)
    if size < 126:
        return struct.pack("!BB", opcode, size) + data
    if size < 1 << 16:
        return struct.pack("!BBH", opcode, 126, size) + data
    return struct.pack("!BBQ", opcode, 127, size) + data


def encode_broadcast(version: Version, topic: str, message: Broadcast) -> str | bytes | None:
    """A frame for a member of the topic; None if that version can't carry the message.

    Version 1.0.0 has no binary payloads; in 2.0.0 topic, event and metadata have at most 255 bytes.
    """
    match version:
        case Version.V1:
            return (
                encode(version, topic, "broadcast", broadcast_payload(message)) if message.is_json else None
            )
        case Version.V2:
            parts = [topic.encode(), message.event.encode(), (message.metadata or "").encode()]
            if any(len(part) > 255 for part in parts):
                return None
            header = bytes([_BROADCAST, *map(len, parts), _JSON if message.is_json else _BINARY])
            return b"".join([header, *parts, message.payload])


def broadcast_payload(message: Broadcast) -> RawJson:
    """The payload of an event ``broadcast``, of a message that is JSON."""
    meta = f',"meta":{message.metadata}' if message.metadata is not None else ""
    return RawJson(
        f'{{"event":{to_json(message.event)},"payload":{message.payload.decode()},"type":"broadcast"{meta}}}'
    )


def ok_reply(response: object = None) -> dict[str, object]:
    """The payload of an accepting ``phx_reply``."""
    return {"status": "ok", "response": {} if response is None else response}


def error_reply(reason: str) -> dict[str, object]:
    """The payload of a refusing ``phx_reply``."""
    return {"status": "error", "response": {"reason": reason}}


def system(channel: str, *, extension: str, status: str, message: str) -> dict[str, object]:
    """The payload of a ``system`` push.

    Args:
        channel: The topic without ``realtime:``.
        extension: ``postgres_changes`` or ``system``.
        status: ``ok`` or ``error``.
        message: The text.
    """
    return {"channel": channel, "extension": extension, "status": status, "message": message}


def parse_join(payload: Mapping[str, Any]) -> JoinConfig:
    """The payload of a join; what has the wrong type is taken as absent, as the hosted server does."""
    config = _mapping(payload.get("config"))
    broadcast = _mapping(config.get("broadcast"))
    presence = _mapping(config.get("presence"))
    bindings = config.get("postgres_changes")
    key = presence.get("key")
    replay = broadcast.get("replay")
    token = payload.get("user_token") or payload.get("access_token")
    return JoinConfig(
        broadcast=BroadcastConfig(
            wants_ack=_flag(broadcast.get("ack")),
            wants_self=_flag(broadcast.get("self")),
            wants_replication_ready=_flag(broadcast.get("replication_ready")),
            replay=_mapping(replay) if replay is not None else None,
        ),
        presence=PresenceConfig(
            key=key if isinstance(key, str) and key else None, is_enabled=_flag(presence.get("enabled"))
        ),
        is_private=_flag(config.get("private")),
        postgres_changes=tuple(
            cast("dict[str, Any]", each)
            for each in (cast("list[object]", bindings) if isinstance(bindings, list) else [])
            if isinstance(each, dict)
        ),
        access_token=usable_token(token),
    )


def usable_token(token: object) -> str | None:
    """The token, unless it is absent or an opaque API key, which stands for the connection's own token."""
    return token if isinstance(token, str) and token and not token.startswith("sb_") else None


def mapping(value: object) -> Mapping[str, Any] | None:
    """The value, if it is a JSON object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return mapping(value) or {}


def _flag(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")
