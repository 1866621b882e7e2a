"""The codec of Phoenix frames, and the reading of a join."""

from __future__ import annotations

import json

import pytest

from jamestronic_sdk.local.realtime import protocol
from jamestronic_sdk.local.realtime.protocol import Frame, RawJson, Version


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
