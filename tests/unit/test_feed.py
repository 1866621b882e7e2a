"""The feed's rules, with links that do what the test says and a clock that jumps."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from client_support import ManualClock

from jamestronic_sdk.errors import ConnectionFailedError, NotSignedInError
from jamestronic_sdk.realtime.feed import (
    Feed,
    FeedBroadcast,
    FeedConfig,
    FeedDown,
    FeedRow,
    FeedSignal,
    FeedUp,
)
from jamestronic_sdk.realtime.signals import (
    BroadcastMessage,
    HeartbeatAnswered,
    Inbox,
    Joined,
    Lost,
    Replicating,
    RowMessage,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class FakeLink:
    """A link under the test's thumb."""

    def __init__(
        self, *, fails: Exception | None = None, answers: bool = True, lets_in: bool = False
    ) -> None:
        self.inbox = Inbox()
        self.fails, self.answers, self.lets_in = fails, answers, lets_in
        self.asked_in = 0
        self.token: str | None = None
        self.pushed: list[str] = []
        self.heartbeats: list[str] = []
        self.is_closed = False

    async def open(self, token: str) -> None:
        if self.fails is not None:
            raise self.fails
        self.token = token
        self.inbox.put(Joined())

    async def join_topics(self) -> bool:
        self.asked_in += 1
        return self.lets_in

    async def push_token(self, token: str) -> None:
        self.pushed.append(token)

    async def send_heartbeat(self, ref: str) -> None:
        self.heartbeats.append(ref)
        if self.answers:
            self.inbox.put(HeartbeatAnswered(ref))

    async def close(self) -> None:
        self.is_closed = True


class Bench:
    """A feed, its links, its clock and what it reported."""

    def __init__(self, make_link: Callable[[], FakeLink], config: FeedConfig | None = None) -> None:
        self.make_link = make_link
        self.links: list[FakeLink] = []
        self.reports: list[FeedSignal] = []
        self.clock = ManualClock()
        self.token: str | Exception = "token-1"
        self.token_callbacks: list[Callable[[str | None], None]] = []
        self.feed = Feed(
            open_link=self.open_link,
            access_token=self.access_token,
            on_token=self.on_token,
            report=self.reports.append,
            clock=self.clock,
            rng=random.Random(1),  # noqa: S311 - jitter
            config=config,
        )

    def open_link(self) -> FakeLink:
        self.links.append(self.make_link())
        return self.links[-1]

    async def access_token(self) -> str:
        if isinstance(self.token, Exception):
            raise self.token
        return self.token

    def on_token(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        self.token_callbacks.append(callback)
        return lambda: self.token_callbacks.remove(callback)

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not predicate():  # noqa: ASYNC110 - the feed under test tells nobody else
                await asyncio.sleep(0)

    async def pass_time(self, seconds: float, step: float = 0.5) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            for _ in range(12):
                await asyncio.sleep(0)

    def kinds(self) -> list[type[FeedSignal]]:
        return [type(report) for report in self.reports]


@asynccontextmanager
async def running(make_link: Callable[[], FakeLink] = FakeLink) -> AsyncIterator[Bench]:
    bench = Bench(make_link)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(bench.feed.run())
        yield bench
        task.cancel()
    assert all(link.is_closed for link in bench.links)
    assert bench.token_callbacks == []


async def test_live_is_the_servers_word_not_the_reply_to_the_join() -> None:
    async with running() as bench:
        await bench.until(lambda: bool(bench.links and bench.links[0].token))
        await bench.pass_time(5)
        assert bench.reports == []
        bench.links[0].inbox.put(Replicating())
        await bench.until(lambda: bench.kinds() == [FeedUp])
        bench.links[0].inbox.put(Replicating())
        await bench.until(lambda: bench.kinds() == [FeedUp, FeedUp])


async def test_joining_the_private_topics_is_one_more_gap() -> None:
    async with running(lambda: FakeLink(lets_in=True)) as bench:
        await bench.until(lambda: bool(bench.links and bench.links[0].token))
        bench.links[0].inbox.put(Replicating())
        await bench.until(lambda: bench.kinds() == [FeedUp, FeedUp])
        bench.links[0].inbox.put(BroadcastMessage("ticket_left", {}))
        await bench.until(lambda: bench.kinds()[2:] == [FeedBroadcast])


async def test_refused_topics_are_asked_again_only_with_another_token() -> None:
    async with running() as bench:
        for number in range(3):
            await bench.until(
                lambda number=number: len(bench.links) > number and bench.links[number].token is not None
            )
            bench.links[number].inbox.put(Replicating())
            await bench.until(lambda: bench.kinds()[-1:] == [FeedUp])
            if number == 1:
                bench.token_callbacks[0]("token-2")
            bench.links[number].inbox.put(Lost("next"))
        await bench.until(lambda: len(bench.links) > 3)
        assert [link.asked_in for link in bench.links[:3]] == [1, 0, 1]


async def test_rows_are_passed_on_in_order() -> None:
    async with running() as bench:
        await bench.until(lambda: bool(bench.links))
        for number in range(3):
            bench.links[0].inbox.put(RowMessage({"number": number}))
        await bench.until(lambda: len(bench.reports) == 3)
        assert [report.message.data["number"] for report in bench.reports if isinstance(report, FeedRow)] == [
            0,
            1,
            2,
        ]


async def test_a_link_that_never_becomes_live_is_replaced() -> None:
    async with running() as bench:
        await bench.until(lambda: bool(bench.links))
        await bench.pass_time(21)
        await bench.until(lambda: len(bench.links) >= 2)
        assert bench.links[0].is_closed
        (down, *_) = bench.reports
        assert down == FeedDown("the server did not say that it replicates", 1)


async def test_an_answered_heartbeat_keeps_the_link() -> None:
    async with running() as bench:
        await bench.until(lambda: bool(bench.links))
        bench.links[0].inbox.put(Replicating())
        await bench.pass_time(120)
        assert len(bench.links) == 1
        assert len(bench.links[0].heartbeats) >= 6


async def test_a_half_open_link_is_found_within_twenty_seconds() -> None:
    async with running(lambda: FakeLink(answers=False)) as bench:
        await bench.until(lambda: bool(bench.links))
        bench.links[0].inbox.put(Replicating())
        await bench.until(lambda: bench.kinds() == [FeedUp])
        await bench.pass_time(21)
        assert FeedDown("a heartbeat was not answered", 1) in bench.reports


async def test_a_lost_link_is_replaced_with_a_fresh_token() -> None:
    async with running() as bench:
        await bench.until(lambda: bool(bench.links and bench.links[0].token))
        bench.token = "token-2"
        bench.links[0].inbox.put(Lost("channel closed"))
        await bench.until(lambda: len(bench.links) == 2 and bench.links[1].token == "token-2")
        assert bench.reports == [FeedDown("channel closed", 1)]


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionFailedError("The connection failed."),
        ValueError("a library's surprise"),
        NotSignedInError("no"),
    ],
)
async def test_it_never_gives_up_and_backs_off_with_full_jitter(failure: Exception) -> None:
    async with running(lambda: FakeLink(fails=failure)) as bench:
        await bench.until(lambda: len(bench.reports) >= 40)
        waits = bench.clock.slept[:40]
        ceilings = [min(30.0, 0.5 * 2**attempt) for attempt in range(40)]
        assert all(0 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True))
        assert max(waits[8:]) > 15
        assert [report.attempt for report in bench.reports[:40] if isinstance(report, FeedDown)] == list(
            range(1, 41)
        )


async def test_no_token_is_a_failure_like_any_other() -> None:
    async with running() as bench:
        bench.token = NotSignedInError("Nobody is signed in.")
        await bench.until(lambda: len(bench.reports) >= 3)
        bench.token = "token-9"
        await bench.until(lambda: bench.links[-1].token == "token-9")


async def test_back_off_starts_over_only_after_a_minute_of_health() -> None:
    async with running() as bench:
        for expected in (1, 2):
            await bench.until(lambda: bool(bench.links) and bench.links[-1].token is not None)
            bench.links[-1].inbox.put(Replicating())
            await bench.pass_time(10)
            bench.links[-1].inbox.put(Lost("again"))
            await bench.until(lambda expected=expected: FeedDown("again", expected) in bench.reports)
        await bench.until(lambda: len(bench.links) == 3 and bench.links[-1].token is not None)
        bench.links[-1].inbox.put(Replicating())
        await bench.pass_time(61)
        bench.links[-1].inbox.put(Lost("after a minute"))
        await bench.until(lambda: FeedDown("after a minute", 1) in bench.reports)


async def test_a_newer_token_reaches_the_open_link() -> None:
    async with running() as bench:
        await bench.until(lambda: bool(bench.links and bench.links[0].token))
        bench.token = "token-2"
        for callback in bench.token_callbacks:
            callback("token-2")
        await bench.until(lambda: bench.links[0].pushed == ["token-2"])


async def test_a_full_inbox_is_a_loss_not_a_leak() -> None:
    inbox, clock = Inbox(limit=3), ManualClock()
    for _ in range(4):
        inbox.put(Replicating())
    assert await inbox.next(clock, 0) == Lost("too many messages at once")
    assert await inbox.next(clock, 0) is None
