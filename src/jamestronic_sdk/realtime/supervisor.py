"""Keeps one socket and the channels on it, from their first holder to the last.

Rules (a reader can check the code against them):

1.  A channel is live when the server says so, not when the join is answered. Each time is passed on: it may
    be a gap. A channel that is not live in time is left and joined anew, alone. (A private topic of a server
    that never says it counts as live after ``confirm_timeout``, and as not confirmed.)
2.  A heartbeat goes out every ``heartbeat_interval``; no reply within ``heartbeat_timeout`` means that the
    socket is dead, whatever it says. So a half-open connection is found within their sum. None goes out while
    a join is unanswered, because servers answer one thing at a time; that join has the same deadline.
3.  After a loss of the socket: wait random(0, min(cap, base * 2^failures)), then open a new one.
    ``failures`` returns to zero only after a socket had a live channel for ``healthy_after`` seconds.
    A server's good-bye (1000, 1001, 1012) is no failure: a new socket follows within ``goodbye_jitter``.
4.  A loss of one channel is its own: the others go on, and it is joined again with a back-off of its own.
    What the database refuses is asked for again with another token, or after minutes.
5.  A join is made with a fresh access token; every newer one goes to every channel.
6.  After a sleep of the machine the socket is given up: it may be dead without saying so.
7.  Joins follow one another, after a loss with jitter. A private topic that had been live is joined with a
    replay of what may have been missed; those who listened then are told it.

Promises:
    ``run`` ends only by cancellation, and then no socket is left. It is one task of the client's.
    What a holder is told, it is told at once and in the order of the wire.

Never:
    No interpretation of messages; no user code is awaited.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

from jamestronic_sdk._backoff import full_jitter
from jamestronic_sdk.errors import JamesTronicError, RequestTimeoutError
from jamestronic_sdk.realtime.link import JoinFailed
from jamestronic_sdk.realtime.membership import (
    ConnectionConfig,
    Failure,
    Membership,
    Standing,
)
from jamestronic_sdk.realtime.signals import SocketLoss

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Coroutine

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk.realtime.channels import Channel
    from jamestronic_sdk.realtime.link import LinkListener
    from jamestronic_sdk.realtime.signals import BroadcastMessage, RowMessage

__all__ = ["ConnectionParts", "LinkLike", "Member", "Memory", "Supervisor"]

_log = logging.getLogger("jamestronic_sdk.realtime")


class LinkLike(Protocol):
    """What the supervisor needs of a link, see ``link.Link``."""

    async def open(self) -> None:
        """Connect."""
        ...

    async def join(self, channel: Channel, topic: str, token: str, replay_since: int | None) -> None:
        """Join a channel."""
        ...

    async def leave(self, channel: Channel, topic: str) -> None:
        """Leave a channel."""
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


class Member(Protocol):
    """Who holds channels; every method returns at once and never raises."""

    def on_live(self, channel: Channel, *, is_confirmed: bool) -> None:
        """The channel carries what happens from now on; told again after each possible gap."""
        ...

    def on_channel_lost(self, channel: Channel, reason: str, attempt: int, *, is_refused: bool) -> None:
        """The channel was lost or not let in; ``attempt`` counts from 1. It is tried again by itself."""
        ...

    def on_socket_lost(self, reason: str, attempt: int) -> None:
        """All channels are lost; ``attempt`` is 0 for a server's good-bye. It is tried again by itself."""
        ...

    def on_row(self, message: RowMessage) -> None:
        """A row changed."""
        ...

    def on_broadcast(self, message: BroadcastMessage) -> None:
        """A message came on a private topic."""
        ...


class ConnectionParts:
    """What a connection is built on.

    Args:
        open_link: Makes an unopened link; called once per attempt.
        access_token: Answers a token that is good for a while; may refresh it over the network.
        on_token: Calls back with each newer token, or None when the person goes; answers how to stop that.
        on_wake: Calls back after the machine slept; answers how to stop that.
        spawn: Starts a task of the client's, which ends with it; raises when the client is closed.
        clock: Time.
        rng: Jitter.
        config: Delays.
    """

    def __init__(
        self,
        *,
        open_link: Callable[[LinkListener], LinkLike],
        access_token: Callable[[], Awaitable[str]],
        on_token: Callable[[Callable[[str | None], None]], Callable[[], None]],
        on_wake: Callable[[Callable[[], None]], Callable[[], None]],
        spawn: Callable[[Coroutine[object, object, None], str], asyncio.Task[None]],
        clock: Clock,
        rng: random.Random,
        config: ConnectionConfig | None = None,
    ) -> None:
        self.open_link: Final = open_link
        self.access_token: Final = access_token
        self.on_token: Final = on_token
        self.on_wake: Final = on_wake
        self.spawn: Final = spawn
        self.clock: Final = clock
        self.rng: Final = rng
        self.config: Final = config or ConnectionConfig()


class Memory:
    """What was refused, and with which token: outlives the socket, so that the next store need not ask."""

    def __init__(self) -> None:
        self.refused: Final[dict[Channel, Membership]] = {}
        self.token: str | None = None


class Supervisor:
    """Keeps one socket and its channels, from the first holder to the last."""

    def __init__(self, parts: ConnectionParts, memory: Memory, before: asyncio.Task[None] | None) -> None:
        self._parts: Final = parts
        self._memory: Final = memory
        self._clock: Final = parts.clock
        self._config: Final = parts.config
        self._before: Final = before
        """Of an earlier time, which may still be closing its socket."""
        self._memberships: Final[dict[Channel, Membership]] = {}
        self._holders: Final[dict[Member, set[Channel]]] = {}
        self._to_leave: Final[list[tuple[Channel, str]]] = []
        self._work = asyncio.Event()
        """There is something to join, to leave or to push."""
        self._has_new_token = False
        self._ended = asyncio.Event()
        self._loss = SocketLoss("not opened")
        self._is_open = False
        self._failures = 0
        self._healthy_since: float | None = None
        self._opened_at = 0.0
        self._was_limited = False
        self._heard_at = 0.0
        """Wall time of the newest proof that what was sent to us arrived."""
        self._heartbeats_sent = 0
        self._unanswered: dict[str, asyncio.Event] = {}
        """By the ref of the heartbeat."""
        self._joining: Membership | None = None
        self._no_join = asyncio.Event()
        self._no_join.set()

    # --- holders -------------------------------------------------------------------------------------

    @property
    def has_members(self) -> bool:
        """Whether somebody holds a channel."""
        return bool(self._holders)

    def add(self, member: Member, channel: Channel) -> None:
        """Tell a member of a channel from now on, beginning with how it stands."""
        held = self._holders.setdefault(member, set())
        if channel in held:
            return
        held.add(channel)
        membership = self._memberships.get(channel) or self._memory.refused.pop(channel, None)
        if membership is None:
            membership = Membership(channel, self._config)
        self._memberships[channel] = membership
        self._work.set()
        if membership.standing is Standing.LIVE:
            member.on_live(channel, is_confirmed=membership.is_confirmed)
        elif membership.is_refused:
            member.on_channel_lost(channel, membership.reason, membership.failures, is_refused=True)

    def remove(self, member: Member, channel: Channel) -> None:
        """Tell a member of a channel no more."""
        self._holders.get(member, set()).discard(channel)
        self._let_go(channel)

    def forget(self, member: Member) -> None:
        """Tell a member nothing more."""
        for channel in self._holders.pop(member, set()):
            self._let_go(channel)

    def _let_go(self, channel: Channel) -> None:
        """Leave a channel that nobody holds."""
        if channel not in self._memberships or any(channel in held for held in self._holders.values()):
            return
        membership = self._memberships.pop(channel)
        if membership.is_refused and channel.is_private:  # public names are new for each store
            self._memory.refused[channel] = membership
        self._leave(membership)

    def _members(self, channel: Channel) -> list[Member]:
        return [member for member, held in self._holders.items() if channel in held]

    def _leave(self, membership: Membership) -> None:
        if membership.topic is not None:
            self._to_leave.append((membership.channel, membership.topic))
            membership.topic = None
            self._work.set()

    # --- the socket ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a socket open until cancelled; nothing but that ends it."""
        unsubscribe = self._parts.on_token(self._token_changed)
        forget_wakes = self._parts.on_wake(self._on_wake)
        reason = "the client was closed"
        try:
            if self._before is not None:
                await asyncio.wait([self._before])
            await self._supervise()
        except Exception as error:  # noqa: BLE001 - the supervisor
            # A bug of ours must not take the client along; the stores poll, and the next one starts anew.
            _log.exception("the supervisor of the realtime socket failed")
            reason = f"unexpected {type(error).__name__}"
        finally:
            unsubscribe()
            forget_wakes()
            # Whoever is left is not who ended this.
            self._tell_all(reason, 1)

    def _tell_all(self, reason: str, attempt: int) -> None:
        for member in tuple(self._holders):
            try:
                member.on_socket_lost(reason, attempt)
            except Exception:  # noqa: BLE001 - one holder's bug is not the others' loss
                _log.exception("a holder of a realtime channel raised")

    async def _supervise(self) -> None:
        down_since = self._clock.now()
        while True:
            loss = await self._use_one_link()
            now = self._clock.now()
            if self._healthy_since is not None:
                down_since = now
                if now - self._healthy_since >= self._config.healthy_after:
                    self._failures = 0
            is_goodbye = loss.is_ours or (
                loss.is_goodbye
                and self._healthy_since is not None
                and now - self._opened_at >= self._config.goodbye_after
                and not self._was_limited
            )
            if not is_goodbye:
                self._failures += 1
            # The first loss is news, the following attempts are not, and a good-bye is no alarm.
            level = logging.DEBUG if self._failures > 1 else logging.WARNING
            _log.log(
                logging.INFO if is_goodbye else level,
                "the realtime socket is down (attempt %s, %.0f s): %s",
                self._failures,
                now - down_since,
                loss.reason,
            )
            self._tell_all(loss.reason, 0 if is_goodbye else self._failures)
            await self._clock.sleep(self._delay(is_goodbye=is_goodbye))

    def _delay(self, *, is_goodbye: bool) -> float:
        if is_goodbye:
            return self._parts.rng.uniform(0.0, self._config.goodbye_jitter)
        return full_jitter(
            self._failures - 1,
            base=self._config.backoff_base,
            factor=2.0,
            cap=self._config.backoff_cap,
            rng=self._parts.rng,
        )

    async def _use_one_link(self) -> SocketLoss:
        """Open a socket and use it to its end; answers why it ended."""
        self._ended.clear()
        self._healthy_since = None
        self._was_limited = False
        self._opened_at = self._clock.now()
        link = self._parts.open_link(self)
        try:
            # No socket for a person who is not signed in, or whose session can't be renewed now.
            self._compare(await self._parts.access_token())
            await link.open()
            self._heard_at = self._clock.wall()
            self._is_open = True
            async with asyncio.TaskGroup() as group:
                workers = [
                    group.create_task(self._guarded(self._beat(link)), name="realtime-heartbeat"),
                    group.create_task(self._guarded(self._keep_channels(link)), name="realtime-channels"),
                ]
                await self._ended.wait()
                for worker in workers:
                    worker.cancel()
        except JamesTronicError as error:
            return SocketLoss(error.message)
        except Exception as error:  # noqa: BLE001 - the supervisor: a library's surprise costs one link
            return self._surprise(error)
        else:
            return self._loss
        finally:
            self._is_open = False
            self._end_memberships()
            await link.close()

    def _compare(self, token: str) -> None:
        """Ask again for what was refused with another token than this one."""
        if self._memory.token != token:
            for membership in self._memberships.values():
                membership.another_token()

    def _surprise(self, error: Exception) -> SocketLoss:
        _log.warning("unexpected error in a realtime link", exc_info=error)
        return SocketLoss(f"unexpected {type(error).__name__}")

    async def _guarded(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except JamesTronicError as error:
            self.on_socket_lost(SocketLoss(error.message))
        except Exception as error:  # noqa: BLE001 - as above
            self.on_socket_lost(self._surprise(error))

    def _on_wake(self) -> None:
        """What we believe of the socket is as old as the sleep was long."""
        if self._is_open:
            self.on_socket_lost(SocketLoss("the machine slept", is_ours=True))

    def on_socket_lost(self, loss: SocketLoss) -> None:
        """The socket is of no more use; the first reason counts."""
        if not self._ended.is_set():
            self._loss = loss
            self._ended.set()

    def _end_memberships(self) -> None:
        now = self._clock.now()
        self._to_leave.clear()
        self._no_join.set()
        for membership in self._memberships.values():
            if membership.standing is not Standing.OUT:
                membership.lost(now, self._heard_at, set(self._members(membership.channel)))
                membership.try_at = now
            membership.topic = None

    # --- the heart -----------------------------------------------------------------------------------

    async def _beat(self, link: LinkLike) -> None:
        while True:
            await self._clock.wait(self._ended, self._config.heartbeat_interval)
            await self._no_join.wait()
            await self._prove(link)

    async def _prove(self, link: LinkLike) -> None:
        """Lose the socket unless it answers a heartbeat in time."""
        self._heartbeats_sent += 1
        ref = f"heartbeat-{self._heartbeats_sent}"
        answered = self._unanswered[ref] = asyncio.Event()
        try:
            await link.send_heartbeat(ref)
            if not await self._clock.wait(answered, self._config.heartbeat_timeout):
                self.on_socket_lost(SocketLoss("a heartbeat was not answered"))
        finally:
            del self._unanswered[ref]

    def on_heartbeat(self, ref: str) -> None:
        """The heartbeat with this ref was answered."""
        if ref in self._unanswered:
            self._heard_at = self._clock.wall()
            self._unanswered[ref].set()

    # --- the channels, and link.LinkListener -----------------------------------------------------------

    def _token_changed(self, token: str | None) -> None:
        """There is a newer access token: every channel gets it, and what was refused is asked for again."""
        if token is None:
            return
        self._has_new_token = True
        for membership in (*self._memberships.values(), *self._memory.refused.values()):
            membership.another_token()
        self._work.set()

    async def _keep_channels(self, link: LinkLike) -> None:
        """Do what is due, one thing after the other."""
        while True:
            self._work.clear()
            now = self._clock.now()
            if self._to_leave:
                await link.leave(*self._to_leave.pop(0))
            elif self._has_new_token:
                self._has_new_token = False
                await link.push_token(await self._parts.access_token())
            elif overdue := self._next_overdue(now):
                self._deadline_passed(overdue)
            elif due := self._next_due(now):
                await self._join(link, due)
            else:
                await self._clock.wait(self._work, self._time_left(now))

    def _next_overdue(self, now: float) -> Membership | None:
        for membership in self._memberships.values():
            if membership.deadline is not None and membership.deadline <= now:
                return membership
        return None

    def _next_due(self, now: float) -> Membership | None:
        for membership in self._memberships.values():
            if membership.standing is Standing.OUT and membership.try_at <= now:
                return membership
        return None

    def _time_left(self, now: float) -> float | None:
        times = [
            membership.try_at if membership.standing is Standing.OUT else membership.deadline
            for membership in self._memberships.values()
        ]
        known = [at for at in times if at is not None]
        return max(0.0, min(known) - now) if known else None

    async def _join(self, link: LinkLike, membership: Membership) -> None:
        if membership.is_rejoin:
            await self._clock.wait(self._ended, self._parts.rng.uniform(0.0, self._config.rejoin_jitter))
        try:
            token = await self._parts.access_token()
        except JamesTronicError as error:
            self._fail(membership, error.message)
            return
        if not self._is_current(membership):
            return
        membership.topic = await self._clear_topic(link, membership)
        since = membership.replay_since(self._clock.wall())
        self._joining = membership
        self._no_join.clear()
        try:
            await link.join(membership.channel, membership.topic, token, since)
        except JoinFailed as failure:
            membership.topic = None
            if since is not None:
                membership.missed_since = None  # what can't be replayed is found by the read
            self._memory.token = token
            self._fail(membership, failure.reason)
        except RequestTimeoutError as error:
            # Slow is the channel or the socket: that it is the channel's fault must be proven.
            await self._prove(link)
            if not self._ended.is_set():
                self._fail(membership, error.message)
        finally:
            self._joining = None
            self._no_join.set()

    def _is_current(self, membership: Membership) -> bool:
        """Whether somebody holds it still; who let it go and took it again has another."""
        return self._memberships.get(membership.channel) is membership

    async def _clear_topic(self, link: LinkLike, membership: Membership) -> str:
        """The name under which to join: a socket has each topic once, and a private one can't give way."""
        name = membership.channel.name
        rivals = [
            other
            for other in self._memberships.values()
            if other is not membership and other.channel.name == name
        ]
        if not membership.channel.is_private:
            return f"{name}:changes" if rivals else name
        for rival in rivals:
            if rival.topic == name:
                rival.lost(self._clock.now(), self._heard_at, set())
                rival.topic, rival.try_at = None, 0.0
                await link.leave(rival.channel, name)
        return name

    def _deadline_passed(self, membership: Membership) -> None:
        if membership.channel.is_private:
            self._become_live(membership, is_confirmed=False)
        else:
            self._fail(membership, "the server did not say that it replicates")

    def on_joined(self, channel: Channel) -> None:
        """The join that is under way was answered."""
        membership = self._joining
        if membership is not None and membership.channel == channel and self._is_current(membership):
            membership.joined(self._clock.now())
            self._work.set()

    def on_live(self, channel: Channel) -> None:
        """The server says that the channel carries what happens."""
        membership = self._memberships.get(channel)
        if membership is not None and membership.standing is not Standing.OUT:
            self._become_live(membership, is_confirmed=True)

    def _become_live(self, membership: Membership, *, is_confirmed: bool) -> None:
        now = self._clock.now()
        membership.live(now, is_confirmed=is_confirmed)
        self._heard_at = self._clock.wall()
        if self._healthy_since is None:
            self._healthy_since = now
            if self._failures:
                _log.info("the realtime socket is live again after %s attempts", self._failures)
        for member in self._members(membership.channel):
            member.on_live(membership.channel, is_confirmed=membership.is_confirmed)

    def on_channel_lost(self, channel: Channel, reason: str) -> None:
        """The server ended a channel."""
        membership = self._memberships.get(channel)
        if membership is not None and membership.standing is not Standing.OUT:
            self._fail(membership, reason)

    def _fail(self, membership: Membership, reason: str) -> None:
        """A channel is lost, or was not let in; the socket and the others go on."""
        channel = membership.channel
        if not self._is_current(membership):
            return
        now = self._clock.now()
        membership.lost(now, self._clock.wall(), set(self._members(channel)))
        kind = membership.failed(now, reason, self._parts.rng)
        self._leave(membership)
        self._was_limited = self._was_limited or kind is Failure.LIMITED
        # What the database refuses is no alarm: it may lack 070_broadcast.sql.
        level = logging.INFO if kind is Failure.REFUSED else logging.WARNING
        _log.log(
            level if membership.failures == 1 else logging.DEBUG,
            "a realtime channel is down (attempt %s): %s",
            membership.failures,
            reason,
        )
        for member in self._members(channel):
            member.on_channel_lost(channel, reason, membership.failures, is_refused=kind is Failure.REFUSED)
        self._work.set()

    def on_row(self, channel: Channel, message: RowMessage) -> None:
        """A row changed."""
        for member in self._members(channel):
            member.on_row(message)

    def on_broadcast(self, channel: Channel, message: BroadcastMessage) -> None:
        """A message came on a private topic; what is replayed goes to those who missed it."""
        membership = self._memberships.get(channel)
        if membership is None:
            return
        self._heard_at = self._clock.wall()
        for member in self._members(channel):
            if not message.is_replayed or member in membership.witnesses:
                member.on_broadcast(message)
