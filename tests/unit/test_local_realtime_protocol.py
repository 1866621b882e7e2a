"""The codec of Phoenix frames, and the reading of a join."""

from __future__ import annotations

import json

import pytest
import websockets.frames
from hypothesis import given
from hypothesis import strategies as st
from websockets.streams import StreamReader

from jamestronic_sdk.local.realtime import protocol
from jamestronic_sdk.local.realtime.protocol import Broadcast, Frame, RawJson, Version


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Version.V1),
        ("", Version.V1),
        ("1.0.0", Version.V1),
        ("1.0.7", Version.V1),
        ("2.0.0", Version.V2),
        ("1.1.0", None),
        ("3.0.0", None),
        ("nonsense", None),
    ],
)
def test_versions(text: str | None, expected: Version | None) -> None:
    """`~> 1.0.0` and `~> 2.0.0` are served."""
    assert protocol.parse_version(text) == expected


def test_a_v1_frame_always_has_its_four_keys() -> None:
    """Clients validate strictly: ref is null on pushes, never absent."""
    text = protocol.encode(Version.V1, "realtime:a", "system", {"x": "é"}, join_ref="1")
    assert json.loads(text) == {"topic": "realtime:a", "event": "system", "payload": {"x": "é"}, "ref": None}


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("is_text", [True, False])
def test_a_frame_on_the_wire_is_what_a_websocket_reads(size: int, *, is_text: bool) -> None:
    """One whole frame, not masked, whatever length its header needs; asked of another implementation."""
    frame = "x" * size if is_text else b"x" * size
    reader = StreamReader()
    reader.feed_data(protocol.wire(frame))
    parser = websockets.frames.Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as parsed:
        next(parser)

    read = parsed.value.value
    assert read.fin
    assert read.opcode is (websockets.frames.Opcode.TEXT if is_text else websockets.frames.Opcode.BINARY)
    assert read.data == b"x" * size
    reader.feed_eof()


def test_a_v2_frame_is_an_array() -> None:
    """Version 2 carries the join's ref."""
    text = protocol.encode(Version.V2, "realtime:a", "phx_reply", {}, ref="2", join_ref="1")
    assert json.loads(text) == ["1", "2", "realtime:a", "phx_reply", {}]


def test_raw_json_keeps_its_digits() -> None:
    """What the database wrote is not parsed again."""
    text = protocol.encode(Version.V1, "t", "e", RawJson('{"n":1.50}'))
    assert '"payload":{"n":1.50}' in text


def test_decode_v1() -> None:
    """The join's ref is optional."""
    frame = {"topic": "realtime:a", "event": "phx_leave", "payload": {}, "ref": None}
    assert protocol.decode(Version.V1, json.dumps(frame)) == Frame("realtime:a", "phx_leave", {}, None, None)
    assert protocol.decode(Version.V1, json.dumps({**frame, "ref": "3", "join_ref": "1"})) == Frame(
        "realtime:a", "phx_leave", {}, "3", "1"
    )


def test_decode_v2() -> None:
    """Order: join_ref, ref, topic, event, payload."""
    assert protocol.decode(Version.V2, '["1","2","t","e",{"a":1}]') == Frame("t", "e", {"a": 1}, "2", "1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "null",
        "[]",
        '{"topic":"t","event":"e","payload":{}}',
        '{"topic":1,"event":"e","payload":{},"ref":null}',
    ],
)
def test_a_malformed_frame_is_dropped(text: str) -> None:
    """The socket survives it."""
    assert protocol.decode(Version.V1, text) is None
    assert protocol.decode(Version.V2, text) is None


def test_join_defaults() -> None:
    """Everything in a join is optional, and a wrong type counts as absent."""
    assert protocol.parse_join({}) == protocol.JoinConfig()
    assert protocol.parse_join({"config": {"broadcast": 7, "presence": [], "postgres_changes": "x"}}) == (
        protocol.JoinConfig()
    )


def test_join_reads_everything() -> None:
    """Booleans may be strings; null bindings are dropped."""
    config = protocol.parse_join(
        {
            "config": {
                "broadcast": {"ack": "true", "self": True, "replay": {"since": 1}},
                "presence": {"key": "me", "enabled": "TRUE"},
                "private": True,
                "postgres_changes": [None, {"event": "*"}],
            },
            "access_token": "token",
        }
    )
    assert config.broadcast.wants_ack
    assert config.broadcast.wants_self
    assert config.broadcast.replay == {"since": 1}
    assert config.presence == protocol.PresenceConfig("me", is_enabled=True)
    assert config.is_private
    assert config.postgres_changes == ({"event": "*"},)
    assert config.access_token == "token"
    assert "token'" not in repr(config)


@pytest.mark.parametrize("token", [None, "", 7, "sb_publishable_x"])
def test_an_opaque_key_is_no_token(token: object) -> None:
    """The connection's own token stands in for it."""
    assert protocol.usable_token(token) is None


def _push(*parts: bytes, encoding: int = 1, payload: bytes = b'{"x":1}', kind: int = 3) -> bytes:
    return bytes([kind, *map(len, parts), encoding]) + b"".join(parts) + payload


def test_decode_binary() -> None:
    """A client's broadcast; absent refs are empty strings there, its metadata is dropped."""
    whole = _push(b"1", b"2", b"realtime:a", "café".encode(), b'{"m":1}')
    assert protocol.decode_binary(whole) == Frame(
        "realtime:a", "broadcast", {}, "2", "1", Broadcast("café", b'{"x":1}', is_json=True)
    )
    binary = _push(b"", b"", b"t", b"e", b"", encoding=0, payload=b"\xff")
    assert protocol.decode_binary(binary) == Frame(
        "t", "broadcast", {}, None, None, Broadcast("e", b"\xff", is_json=False)
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x03\x00\x00",
        _push(b"1", b"2", b"t", b"e", b"")[:9],
        _push(b"1", b"2", b"t", b"e", b"", kind=0),
        _push(b"1", b"2", b"t", b"e", b"", encoding=2),
        _push(b"1", b"2", b"t", b"e", b"", payload=b"{"),
        _push(b"1", b"2", b"t", b"e", b"", payload=b""),
        _push(b"1", b"2", b"\xff", b"e", b""),
    ],
)
def test_broken_binary_frames(data: bytes) -> None:
    """None, never an exception."""
    assert protocol.decode_binary(data) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_survived(data: bytes) -> None:
    """A hostile client gets nothing but silence."""
    protocol.decode_binary(data)
    protocol.decode_binary(b"\x03" + data)


def test_encode_broadcast() -> None:
    """JSON goes into both versions, bytes into 2.0.0 only, and there a length has one byte."""
    message = Broadcast("é", b'{"n": 1.50}', is_json=True, metadata='{"id":"7"}')
    text = protocol.encode_broadcast(Version.V1, "realtime:a", message)
    assert isinstance(text, str)
    assert '"payload":{"n": 1.50}' in text
    assert json.loads(text) == {
        "topic": "realtime:a",
        "event": "broadcast",
        "payload": {"type": "broadcast", "event": "é", "payload": {"n": 1.5}, "meta": {"id": "7"}},
        "ref": None,
    }
    assert protocol.encode_broadcast(Version.V2, "realtime:a", message) == (
        b"\x04\x0a\x02\x0a\x01" + b"realtime:a" + "é".encode() + b'{"id":"7"}' + b'{"n": 1.50}'
    )
    binary = Broadcast("e", b"\x00", is_json=False)
    assert protocol.encode_broadcast(Version.V1, "t", binary) is None
    assert protocol.encode_broadcast(Version.V2, "t", binary) == b"\x04\x01\x01\x00\x00te\x00"
    assert protocol.encode_broadcast(Version.V2, "t", Broadcast("e" * 256, b"{}", is_json=True)) is None


HOSTILE = ['{"x":NaN}', '{"x":-Infinity}', '"\\ud800"', '"\\udfff x"', "[" * 100_000, "", "{"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_could_not_be_sent_on_is_refused(text: str) -> None:
    """It would break the sockets, or the parsers, of those who receive it."""
    with pytest.raises(ValueError):  # noqa: PT011 - several texts
        protocol.parse_json(text)
    assert protocol.decode_binary(_push(b"1", b"2", b"t", b"e", b"", payload=text.encode())) is None
    frame = f'["1","2","realtime:t","broadcast",{text}]'
    assert protocol.decode(Version.V2, frame) is None


@pytest.mark.parametrize("payload", ['{"x":1}'.encode("utf-16"), b'\xef\xbb\xbf{"x":1}', b'"\xff"'])
def test_other_encodings_are_refused(payload: bytes) -> None:
    """JSON is UTF-8."""
    with pytest.raises(ValueError):  # noqa: PT011 - several texts
        protocol.parse_json(payload)


def test_pairs_of_surrogates_are_one_character() -> None:
    """As JavaScript escapes them."""
    assert protocol.parse_json('"\\ud83d\\ude00"') == "😀"
