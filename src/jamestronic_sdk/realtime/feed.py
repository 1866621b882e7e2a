"""A feed of row changes that never gives up: opens links, watches them, replaces them for ever.

Rules (a reader can check the code against them):

1.  Live is what the server says (``Replicating``), not the reply to the join. Each time is passed on:
    it may be a gap.
2.  A heartbeat goes out every ``heartbeat_interval``; no reply within ``heartbeat_timeout`` means that the
    link is dead, whatever the socket says. So a half-open connection is found within their sum.
3.  A link that is not live ``live_timeout`` after its opening began is thrown away.
4.  After a loss: wait random(0, min(cap, base * 2^failures)), then open a new one. ``failures`` returns to
    zero only after a link was live for ``healthy_after`` seconds.
5.  Each link is opened with a fresh access token, and gets every newer one.
6.  The private topics are joined when the link is live, and that counts as one more gap. Where they are
    refused once, they are asked for again only with another access token.

Promises:
    ``run`` ends only by cancellation, and then no link is left open.

Never:
    No interpretation of rows; no user code is awaited.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from jamestronic_sdk._backoff import full_jitter
from jamestronic_sdk.errors import JamesTronicError
from jamestronic_sdk.realtime.signals import (
    BroadcastMessage,
    HeartbeatAnswered,
    Joined,
    Lost,
    Replicating,
    RowMessage,
    TokenChanged,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk.realtime.signals import Inbox

__all__ = ["Feed", "FeedBroadcast", "FeedConfig", "FeedDown", "FeedRow", "FeedSignal", "FeedUp", "LinkLike"]

_log = logging.getLogger("jamestronic_sdk.realtime")


@dataclass(frozen=True, slots=True)
class FeedConfig:
    """Delays in seconds."""

    live_timeout: float = 20.0
    """From the beginning of an opening to the server's word that it replicates; a cold project takes up to
    15 s to wake its replication (Supabase Realtime, ``realtime_channel.ex``)."""
    heartbeat_interval: float = 15.0
    heartbeat_timeout: float = 5.0
    backoff_base: float = 0.5
    backoff_cap: float = 30.0
    healthy_after: float = 60.0


@dataclass(frozen=True, slots=True)
class FeedUp:
    """The server replicates to us, as from now; changes before this may have been missed."""


@dataclass(frozen=True, slots=True)
class FeedDown:
    """The link was lost, or an attempt to open one failed; the next attempt follows by itself."""

    reason: str
    attempt: int
    """Failures in a row, from 1."""


@dataclass(frozen=True, slots=True)
class FeedRow:
    """A message about a row."""

    message: RowMessage


@dataclass(frozen=True, slots=True)
class FeedBroadcast:
    """A message of a private topic."""

    message: BroadcastMessage


FeedSignal = FeedUp | FeedDown | FeedRow | FeedBroadcast


class LinkLike(Protocol):
    """What the feed needs of a link."""

    @property
    def inbox(self) -> Inbox:
        """Where its signals arrive."""
        ...

    async def open(self, token: str) -> None:
        """Connect and join."""
        ...

    async def join_topics(self) -> bool:
        """Join the private topics; answers whether all let us in."""
        ...

    async def push_token(self, token: str) -> None:
        """Hand over a newer access token."""
        ...

    async def send_heartbeat(self, ref: str) -> None:
        """Send a heartbeat that is answered with the same ref."""
        ...

    async def close(self) -> None:
        """Drop the connection; never raises."""
        ...


class Feed:
    """The supervisor of links.

    Args:
        open_link: Makes an unopened link; called once per attempt.
        access_token: Answers a token that is good for a while; may refresh it over the network.
        on_token: Calls back with each newer token, or None at sign-out; answers how to stop that.
        report: Takes the signals; must not block or raise.
        clock: Time.
        rng: Jitter.
        config: Delays.
    """

    def __init__(
        self,
        *,
        open_link: Callable[[], LinkLike],
        access_token: Callable[[], Awaitable[str]],
        on_token: Callable[[Callable[[str | None], None]], Callable[[], None]],
        report: Callable[[FeedSignal], None],
        clock: Clock,
        rng: random.Random,
        config: FeedConfig | None = None,
    ) -> None:
        self._open_link: Final = open_link
        self._access_token: Final = access_token
        self._on_token: Final = on_token
        self._report: Final = report
        self._clock: Final = clock
        self._rng: Final = rng
        self._config: Final = config or FeedConfig()
        self._link: LinkLike | None = None
        self._failures = 0
        self._live_since: float | None = None
        self._heartbeats_sent = 0
        self._are_topics_refused = False

    async def run(self) -> None:
        """Keep a link open until cancelled."""
        unsubscribe = self._on_token(self._token_changed)
        try:
            await self._supervise()
        finally:
            unsubscribe()

    async def _supervise(self) -> None:
        down_since = self._clock.now()
        while True:
            reason = await self._use_one_link()
            now = self._clock.now()
            if self._live_since is not None:
                down_since = now
                if now - self._live_since >= self._config.healthy_after:
                    self._failures = 0
            self._failures += 1
            # The first loss is news, the following attempts are not.
            _log.log(
                logging.WARNING if self._failures == 1 else logging.DEBUG,
                "realtime feed is down (attempt %s, %.0f s): %s",
                self._failures,
                now - down_since,
                reason,
            )
            self._report(FeedDown(reason, self._failures))
            delay = full_jitter(
                self._failures - 1,
                base=self._config.backoff_base,
                factor=2.0,
                cap=self._config.backoff_cap,
                rng=self._rng,
            )
            await self._clock.sleep(delay)

    def _token_changed(self, token: str | None) -> None:
        """There is a newer access token: hand it to the open link, if there is one."""
        self._are_topics_refused = False
        if token is not None and self._link is not None:
            self._link.inbox.put(TokenChanged())

    async def _use_one_link(self) -> str:
        """Open a link and follow it to its end; answers why it ended."""
        self._live_since = None
        deadline = self._clock.now() + self._config.live_timeout
        link = self._open_link()
        try:
            await link.open(await self._access_token())
            self._link = link
            return await self._follow(link, deadline)
        except JamesTronicError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - the supervisor: a library's surprise costs one link
            _log.warning("unexpected error in a realtime link", exc_info=True)
            return f"unexpected {type(error).__name__}"
        finally:
            self._link = None
            await link.close()

    async def _follow(self, link: LinkLike, live_deadline: float) -> str:  # noqa: C901, PLR0912 - one per signal
        """Pass signals on and keep the heart beating, until the link is lost."""
        next_heartbeat = self._clock.now() + self._config.heartbeat_interval
        unanswered: str | None = None
        while True:
            now = self._clock.now()
            deadline = next_heartbeat if self._live_since is not None else min(next_heartbeat, live_deadline)
            signal = await link.inbox.next(self._clock, deadline - now)
            match signal:
                case None if self._live_since is None and self._clock.now() >= live_deadline:
                    return "the server did not say that it replicates"
                case None if unanswered is not None:
                    return "a heartbeat was not answered"
                case None:
                    unanswered = self._next_ref()
                    await link.send_heartbeat(unanswered)
                    next_heartbeat = self._clock.now() + self._config.heartbeat_timeout
                case HeartbeatAnswered(ref):
                    if ref == unanswered:
                        unanswered = None
                        next_heartbeat = self._clock.now() + self._config.heartbeat_interval
                case Replicating():
                    await self._on_live(link)
                case RowMessage():
                    self._report(FeedRow(signal))
                case BroadcastMessage():
                    self._report(FeedBroadcast(signal))
                case TokenChanged():
                    await link.push_token(await self._access_token())
                case Joined():
                    pass
                case Lost(reason):
                    return reason
                case _:
                    assert_never(signal)

    async def _on_live(self, link: LinkLike) -> None:
        is_first = self._live_since is None
        self._report(FeedUp())
        if not is_first:
            return
        self._live_since = self._clock.now()
        if self._failures:
            _log.info("realtime feed is live again after %s attempts", self._failures)
        if not self._are_topics_refused:
            if await link.join_topics():
                self._report(FeedUp())
            else:
                self._are_topics_refused = True
                _log.info("private topics are refused (070_broadcast.sql): leaves are found by polling")

    def _next_ref(self) -> str:
        self._heartbeats_sent += 1
        return f"heartbeat-{self._heartbeats_sent}"
