"""Rooms: who is in a topic, who is present, and how a message gets to all of them.

Promises:
    A public and a private channel of the same topic are two rooms.
    A message is encoded once per version of the protocol, however many members get it.

Never:
    A broadcast, or a presence, to a member that may not read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jamestronic_sdk.local.realtime import protocol
from jamestronic_sdk.local.realtime.presence import Presences
from jamestronic_sdk.local.realtime.protocol import TOPIC_PREFIX, Broadcast, RawJson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jamestronic_sdk.local.realtime.channel import Channel
    from jamestronic_sdk.local.realtime.presence import Diff
    from jamestronic_sdk.local.realtime.protocol import Version

__all__ = ["Room", "Rooms"]


class Room:
    """The joined channels of one topic and privacy.

    Args:
        topic: With ``realtime:``.
    """

    def __init__(self, topic: str) -> None:
        self.topic: Final = topic
        self._members: dict[Channel, None] = {}
        self._presences: Presences[Channel] = Presences()

    @property
    def members(self) -> tuple[Channel, ...]:
        """Everybody, in the order of joining."""
        return tuple(self._members)

    def enter(self, channel: Channel) -> None:
        """A channel was joined."""
        self._members[channel] = None

    def leave(self, channel: Channel) -> bool:
        """A channel ended; whether others are left."""
        self._members.pop(channel, None)
        self._tell(self._presences.untrack(channel))
        return bool(self._members)

    def broadcast(
        self,
        message: Broadcast | RawJson,
        *,
        without: Channel | None = None,
        message_id: str | None = None,
    ) -> int:
        """Send to all that may read broadcasts.

        Args:
            message: A message with its payload apart, or a whole payload, which is relayed verbatim.
            without: The sender, unless it asked for its own messages.
            message_id: Members that got the message by replay don't get it again.

        Returns:
            How many got it.
        """
        frames: dict[Version, bytes | None] = {}
        count = 0
        # A copy: a member that is too slow is cut off, and one over a limit is closed.
        for member in self.members:
            if member is without or not member.hears_broadcasts or member.has_replayed(message_id):
                continue
            version = member.socket.version
            if version not in frames:
                encoded = (
                    protocol.encode_broadcast(version, self.topic, message)
                    if isinstance(message, Broadcast)
                    else protocol.encode(version, self.topic, "broadcast", message)
                )
                frames[version] = None if encoded is None else protocol.wire(encoded)
            frame = frames[version]
            if frame is not None:
                member.deliver(frame)
                count += 1
        return count

    # --- presence ---------------------------------------------------------------------------------

    def track(self, channel: Channel, key: str, payload: Mapping[str, Any]) -> None:
        """The channel is present, as ``key``."""
        self._tell(self._presences.track(channel, key, payload))

    def untrack(self, channel: Channel) -> None:
        """The channel is no longer present."""
        self._tell(self._presences.untrack(channel))

    def presence_state(self) -> dict[str, object]:
        """Who is present."""
        return self._presences.state()

    def _tell(self, diff: Diff | None) -> None:
        if diff is not None:
            payload = RawJson(protocol.to_json(diff.payload()))
            for member in self.members:
                if member.hears_presence:
                    member.push_shared("presence_diff", payload)


class Rooms:
    """All rooms that have members."""

    def __init__(self) -> None:
        self._rooms: dict[tuple[str, bool], Room] = {}

    def enter(self, channel: Channel) -> Room:
        """The channel's room, which it is a member of from now on."""
        key = (channel.topic, channel.config.is_private)
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = Room(channel.topic)
        room.enter(channel)
        return room

    def leave(self, channel: Channel) -> None:
        """The channel ended."""
        key = (channel.topic, channel.config.is_private)
        room = self._rooms.get(key)
        if room is not None and not room.leave(channel):
            del self._rooms[key]

    def has(self, name: str, *, is_private: bool) -> bool:
        """Whether anybody is in a room; ``name`` is the topic without ``realtime:``."""
        return (TOPIC_PREFIX + name, is_private) in self._rooms

    def members(self, topic: str, *, is_private: bool = False) -> Iterable[Channel]:
        """The channels of a topic, which is given with ``realtime:``."""
        room = self._rooms.get((topic, is_private))
        return room.members if room is not None else ()

    def broadcast(
        self,
        name: str,
        message: Broadcast | RawJson,
        *,
        is_private: bool,
        message_id: str | None = None,
    ) -> int:
        """Send to a room, if anybody is there; ``name`` is the topic without ``realtime:``."""
        room = self._rooms.get((TOPIC_PREFIX + name, is_private))
        return room.broadcast(message, message_id=message_id) if room is not None else 0
