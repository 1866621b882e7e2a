"""Where one channel stands on the shared socket: joined or not, live or not, and when it is tried again.

Promises:
    Pure state: the time is an argument, so that every delay can be tested.
    A channel has its own back-off: what is refused or lost alone is tried again alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from jamestronic_sdk._backoff import full_jitter

if TYPE_CHECKING:
    import random

    from jamestronic_sdk.realtime.channels import Channel

__all__ = ["ConnectionConfig", "Failure", "Membership", "Standing", "failure_of"]

_REFUSALS: Final = (
    "Unauthorized",
    "MalformedJWT",
    "JwtSignatureError",
    "JwtSignerError",
    "PrivateOnly",
    "RealtimeDisabledForTenant",
    "TenantNotFound",
    "TopicNameRequired",
)
"""What stays no for this token (Supabase Realtime, ``realtime_channel.ex``): asking again soon is no use,
and each such answer takes 5 s during which the socket reads nothing."""

_LIMITS: Final = (
    "ChannelRateLimitReached",
    "ClientJoinRateLimitReached",
    "ConnectionRateLimitReached",
    "DatabaseConnectionRateLimitReached",
)


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """Delays in seconds."""

    live_timeout: float = 20.0
    """From the answer to a join to the server's word that it replicates; a cold project takes up to
    15 s to wake its replication (Supabase Realtime, ``realtime_channel.ex``)."""
    confirm_timeout: float = 8.0
    """The same for a private topic; servers of before 2026 do not say it, and are taken at their join."""
    heartbeat_interval: float = 15.0
    heartbeat_timeout: float = 5.0
    backoff_base: float = 0.5
    backoff_cap: float = 30.0
    healthy_after: float = 60.0
    goodbye_jitter: float = 1.0
    """A server that is deployed says good-bye to all its clients at once."""
    goodbye_after: float = 5.0
    """A socket that lived shorter has failed, however politely it ended."""
    rejoin_jitter: float = 0.2
    """Between two joins after a loss, so that a crowd does not meet the limit of joins per second in step."""
    refusal_delay: float = 300.0
    """Before a refused channel is asked for again with the same token: policies may have changed."""
    limit_delay: float = 30.0
    """Before the next join after one that was over a limit of the project."""
    replay_window: float = 60.0
    """Longer outages are not replayed: the read after them tells what is, and the store remembers leaves for
    two minutes (``EngineConfig.tombstone_ttl``), so that nothing older than that may be told again."""
    replay_margin: float = 10.0
    """Messages carry the time at which their transaction began, by another clock than ours."""


class Failure(Enum):
    """What a join's no means for the next one."""

    PASSING = "passing"
    REFUSED = "refused"
    """Final for this token."""
    LIMITED = "limited"


def failure_of(reason: str) -> Failure:
    """Judge the server's words."""
    if reason.startswith(_REFUSALS):
        return Failure.REFUSED
    return Failure.LIMITED if reason.startswith(_LIMITS) else Failure.PASSING


class Standing(Enum):
    """Of a channel, on the socket."""

    OUT = "out"
    JOINED = "joined"
    LIVE = "live"


@dataclass(slots=True)
class Membership:
    """One channel on the socket."""

    channel: Channel
    config: ConnectionConfig
    standing: Standing = Standing.OUT
    topic: str | None = None
    """Its name on the socket, from the first join on; None when it is not there at all."""
    is_confirmed: bool = False
    """Whether the server itself said that it is live."""
    is_refused: bool = False
    is_rejoin: bool = False
    """Whether the next join follows a loss."""
    failures: int = 0
    """In a row."""
    reason: str = ""
    """Of the last failure."""
    try_at: float = 0.0
    """When it may be joined, while it is out."""
    deadline: float | None = None
    """When the server's word that it is live is overdue."""
    live_since: float | None = None
    missed_since: float | None = None
    """Wall time (s) since when messages may have been missed."""
    witnesses: set[object] = field(default_factory=set[object])
    """Who listened before messages were missed, and may be told them again."""

    def joined(self, now: float) -> None:
        """The join was answered."""
        self.standing = Standing.JOINED
        self.is_refused = self.is_confirmed = self.is_rejoin = False
        waits = self.config.confirm_timeout if self.channel.is_private else self.config.live_timeout
        self.deadline = now + waits

    def live(self, now: float, *, is_confirmed: bool) -> None:
        """The server said so; or it is known not to say it."""
        if self.standing is Standing.JOINED:
            self.live_since = now
        self.standing = Standing.LIVE
        self.is_confirmed = self.is_confirmed or is_confirmed
        self.deadline = self.missed_since = None

    def lost(self, now: float, heard_at: float, members: set[object]) -> None:
        """It is out; ``heard_at`` is the wall time of the last proof of life."""
        if self.live_since is not None:
            if now - self.live_since >= self.config.healthy_after:
                self.failures = 0
            if self.missed_since is None:
                self.missed_since = heard_at
                self.witnesses = members
        self.is_rejoin = self.standing is not Standing.OUT or self.is_rejoin
        self.standing = Standing.OUT
        self.live_since = self.deadline = None

    def failed(self, now: float, reason: str, rng: random.Random) -> Failure:
        """It was lost, or not let in, for a reason of its own: set the time of the next join."""
        kind = failure_of(reason)
        self.failures += 1
        self.reason = reason
        self.is_refused = kind is Failure.REFUSED
        self.try_at = now + self._delay(kind, rng)
        return kind

    def _delay(self, kind: Failure, rng: random.Random) -> float:
        config = self.config
        match kind:
            case Failure.REFUSED:
                return rng.uniform(config.refusal_delay / 2, config.refusal_delay)
            case Failure.LIMITED:
                return rng.uniform(config.limit_delay, 2 * config.limit_delay)
            case Failure.PASSING:
                base, cap = config.backoff_base, config.backoff_cap
                return full_jitter(self.failures - 1, base=base, factor=2.0, cap=cap, rng=rng)

    def another_token(self) -> None:
        """What was refused may be let in now."""
        if self.is_refused:
            self.try_at = 0.0

    def replay_since(self, wall: float) -> int | None:
        """For the next join: since when messages are asked for again, in Unix milliseconds."""
        if not self.channel.is_private or self.missed_since is None:
            return None
        if not 0 <= wall - self.missed_since <= self.config.replay_window:
            return None
        return int((self.missed_since - self.config.replay_margin) * 1000)
