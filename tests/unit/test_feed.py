"""A store's share of the socket: which transport is used, when it is live, and what is told of a change of mind."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from realtime_support import (
    ADMIN,
    ADMIN_CHANGES,
    CHANGES,
    PERSON,
    POOL,
    UNAUTHORIZED,
    Behaviour,
    Bench,
    bench,
)

from jamestronic_sdk import Transport
from jamestronic_sdk.realtime.feed import Feed, FeedBroadcast, FeedDown, FeedRow, FeedSignal, FeedUp
from jamestronic_sdk.realtime.signals import BroadcastMessage, RowMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jamestronic_sdk.realtime.channels import Channel

TOPICS = (PERSON, POOL)
LEFT = BroadcastMessage(PERSON.name, "ticket_left", {})


class Desk:
    """A feed on a bench, and what it reported."""

    def __init__(
        self,
        it: Bench,
        transport: Transport,
        changes: Channel = CHANGES,
        topics: tuple[Channel, ...] = TOPICS,
    ) -> None:
        self.it = it
        self.reports: list[FeedSignal] = []
        self.feed = Feed(
            it.connection, changes=changes, topics=topics, transport=transport, report=self.reports.append
        )
        self.task = it.tasks.create_task(self.feed.run())

    def uses(self, transport: Transport | None) -> bool:
        return self.feed.transport is transport

    async def until_used(self, transport: Transport | None) -> None:
        await self.it.pass_until(lambda: self.uses(transport))

    @property
    def kinds(self) -> list[type[FeedSignal]]:
        return [type(report) for report in self.reports]

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@asynccontextmanager
async def opened(transport: Transport, behaviour: Behaviour | None = None) -> AsyncIterator[Desk]:
    async with bench(behaviour) as it:
        desk = Desk(it, transport)
        try:
            yield desk
        finally:
            await desk.close()


# --- postgres_changes --------------------------------------------------------------------------------------


async def test_postgres_changes_is_live_with_its_channel_and_then_joins_the_topics_as_hints() -> None:
    async with opened(Transport.POSTGRES_CHANGES) as desk:
        await desk.until_used(Transport.POSTGRES_CHANGES)
        await desk.it.until(lambda: desk.kinds == [FeedUp, FeedUp])  # that they are live is one more gap
        assert desk.it.link.names == [CHANGES.name, PERSON.name, POOL.name]
        desk.it.link.listener.on_row(CHANGES, RowMessage({"id": 1}))
        desk.it.link.listener.on_broadcast(PERSON, LEFT)
        assert desk.reports[2:] == [FeedRow(RowMessage({"id": 1})), FeedBroadcast(LEFT)]


async def test_each_word_of_the_server_that_it_replicates_is_passed_on() -> None:
    async with opened(Transport.POSTGRES_CHANGES) as desk:
        await desk.it.until(lambda: desk.kinds == [FeedUp, FeedUp])
        desk.it.link.listener.on_live(CHANGES)
        assert desk.kinds == [FeedUp] * 3
        assert desk.it.link.names.count(PERSON.name) == 1


async def test_refused_hints_cost_nothing() -> None:
    refused = Behaviour(refuses={PERSON: UNAUTHORIZED, POOL: UNAUTHORIZED})
    async with opened(Transport.POSTGRES_CHANGES, refused) as desk:
        await desk.it.until(lambda: bool(desk.it.links) and len(desk.it.link.joins) == 3)
        await desk.it.settle()
        assert desk.reports == [FeedUp()]
        assert desk.uses(Transport.POSTGRES_CHANGES)


async def test_a_lost_hint_is_a_gap_when_it_is_back() -> None:
    async with opened(Transport.POSTGRES_CHANGES) as desk:
        await desk.it.until(lambda: desk.kinds == [FeedUp, FeedUp])
        desk.it.link.listener.on_channel_lost(PERSON, "channel_crash")
        assert desk.kinds == [FeedUp, FeedUp]
        await desk.it.pass_until(lambda: desk.kinds == [FeedUp] * 3)
        assert desk.uses(Transport.POSTGRES_CHANGES)


async def test_losing_the_channel_of_changes_is_down() -> None:
    async with opened(Transport.POSTGRES_CHANGES) as desk:
        await desk.it.until(lambda: desk.kinds == [FeedUp, FeedUp])
        desk.it.link.listener.on_channel_lost(CHANGES, "channel_crash")
        assert desk.reports[-1] == FeedDown("channel_crash", 1)
        assert desk.uses(None)
        await desk.until_used(Transport.POSTGRES_CHANGES)
        assert desk.kinds[-1] is FeedUp


# --- broadcast ---------------------------------------------------------------------------------------------


async def test_broadcast_is_live_when_every_topic_is() -> None:
    async with opened(Transport.BROADCAST, Behaviour(says_live=False)) as desk:
        await desk.it.until(lambda: bool(desk.it.links) and len(desk.it.link.joins) == 2)
        await desk.it.settle()
        desk.it.link.listener.on_live(PERSON)
        assert (desk.reports, desk.feed.transport) == ([], None)
        desk.it.link.listener.on_live(POOL)
        assert (desk.reports, desk.feed.transport) == ([FeedUp()], Transport.BROADCAST)
        assert desk.it.link.names == [PERSON.name, POOL.name]


async def test_broadcast_is_down_with_any_topic() -> None:
    async with opened(Transport.BROADCAST) as desk:
        await desk.until_used(Transport.BROADCAST)
        desk.it.link.listener.on_channel_lost(POOL, "channel_crash")
        assert desk.reports == [FeedUp(), FeedDown("channel_crash", 1)]
        await desk.until_used(Transport.BROADCAST)
        assert desk.kinds == [FeedUp, FeedDown, FeedUp]


async def test_broadcast_that_is_refused_says_why_and_waits_for_another_token() -> None:
    async with opened(Transport.BROADCAST, Behaviour(refuses={PERSON: UNAUTHORIZED})) as desk:
        await desk.it.until(lambda: FeedDown(UNAUTHORIZED, 1) in desk.reports)
        await desk.it.pass_time(60)
        assert desk.uses(None)
        assert desk.it.link.names.count(PERSON.name) == 1
        desk.it.behaviour.refuses.clear()
        desk.it.renew("token-2")
        await desk.until_used(Transport.BROADCAST)


async def test_a_server_that_never_says_live_is_believed_when_broadcast_was_asked_for() -> None:
    async with opened(Transport.BROADCAST, Behaviour(says_live=False)) as desk:
        await desk.until_used(Transport.BROADCAST)
        assert set(desk.it.link.names) == {PERSON.name, POOL.name}


# --- auto --------------------------------------------------------------------------------------------------


async def test_auto_is_broadcast_where_all_topics_let_us_in() -> None:
    async with opened(Transport.AUTO) as desk:
        await desk.until_used(Transport.BROADCAST)
        assert desk.reports == [FeedUp()]
        assert desk.it.link.names == [PERSON.name, POOL.name]


@pytest.mark.parametrize("refused", [(PERSON,), (POOL,), (PERSON, POOL)])
async def test_auto_takes_postgres_changes_where_one_is_refused(
    refused: tuple[Channel, ...], caplog: pytest.LogCaptureFixture
) -> None:
    behaviour = Behaviour(refuses=dict.fromkeys(refused, UNAUTHORIZED))
    with caplog.at_level(logging.INFO, "jamestronic_sdk"):
        async with opened(Transport.AUTO, behaviour) as desk:
            await desk.until_used(Transport.POSTGRES_CHANGES)
            await desk.it.pass_time(60)
            assert set(desk.kinds) == {FeedUp}
            assert desk.it.link.names[-1] == CHANGES.name
    said = [one for one in caplog.messages if "broadcast is not possible" in one]
    assert said == [f"broadcast is not possible, postgres_changes is used instead: {UNAUTHORIZED}"]


async def test_auto_takes_postgres_changes_where_a_topic_keeps_failing_and_comes_back() -> None:
    behaviour = Behaviour(refuses={PERSON: "MissingPartition: no partition"})
    async with opened(Transport.AUTO, behaviour) as desk:
        await desk.until_used(Transport.POSTGRES_CHANGES)
        assert desk.reports[0] == FeedDown("MissingPartition: no partition", 1)
        behaviour.refuses.clear()
        await desk.until_used(Transport.BROADCAST)
        assert desk.kinds[-1] is FeedUp
        await desk.it.until(lambda: desk.it.link.left[-1:] == [CHANGES.name])


async def test_auto_takes_postgres_changes_where_the_server_does_not_confirm() -> None:
    """And keeps the topics as hints: a reply to the join alone does not prove that anything arrives."""
    async with opened(Transport.AUTO, Behaviour(says_live=False)) as desk:
        await desk.it.pass_until(lambda: bool(desk.it.links) and CHANGES.name in desk.it.link.names)
        await desk.it.settle()
        desk.it.link.listener.on_live(CHANGES)
        assert desk.uses(Transport.POSTGRES_CHANGES)
        for topic in TOPICS:
            desk.it.link.listener.on_live(topic)
        assert desk.uses(Transport.BROADCAST)


async def test_auto_falls_back_when_broadcast_stops_being_possible_and_says_so() -> None:
    async with opened(Transport.AUTO) as desk:
        await desk.until_used(Transport.BROADCAST)
        reason = "You no longer have permission to read from this Channel topic: tickets:pool"
        desk.it.behaviour.refuses[POOL] = UNAUTHORIZED
        desk.it.link.listener.on_channel_lost(POOL, reason)
        assert desk.reports == [FeedUp(), FeedDown(reason, 1)]
        await desk.until_used(Transport.POSTGRES_CHANGES)
        # Another token may have other rights.
        desk.it.behaviour.refuses.clear()
        desk.it.renew("token-2")
        await desk.until_used(Transport.BROADCAST)


async def test_auto_keeps_its_mind_over_a_reconnect() -> None:
    """What was refused with this token is not asked for again: each such answer stops the socket for 5 s."""
    async with opened(Transport.AUTO, Behaviour(refuses={POOL: UNAUTHORIZED})) as desk:
        await desk.until_used(Transport.POSTGRES_CHANGES)
        desk.it.link.lose()
        await desk.it.until(lambda: len(desk.it.links) == 2)
        assert desk.uses(None)
        await desk.until_used(Transport.POSTGRES_CHANGES)
        assert POOL.name not in desk.it.link.names


async def test_a_second_store_knows_at_once_what_was_refused() -> None:
    async with opened(Transport.AUTO, Behaviour(refuses={POOL: UNAUTHORIZED})) as desk:
        await desk.until_used(Transport.POSTGRES_CHANGES)
        second = Desk(desk.it, Transport.AUTO)
        await second.until_used(Transport.POSTGRES_CHANGES)
        assert desk.it.link.names.count(POOL.name) == 1
        await second.close()


async def test_an_overview_that_falls_back_has_a_channel_beside_its_topic() -> None:
    """Both are called tickets:admin, and a socket has each topic once."""
    async with bench(Behaviour(refuses={ADMIN: UNAUTHORIZED})) as it:
        desk = Desk(it, Transport.AUTO, ADMIN_CHANGES, (ADMIN,))
        await desk.until_used(Transport.POSTGRES_CHANGES)
        assert it.link.names == ["tickets:admin", "tickets:admin:changes"]
        await desk.close()


# --- life --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", Transport)
async def test_a_lost_socket_is_told_once_and_comes_back(transport: Transport) -> None:
    async with opened(transport) as desk:
        await desk.it.pass_until(lambda: desk.feed.transport is not None)
        before = desk.feed.transport
        await desk.it.settle()
        desk.reports.clear()
        desk.it.link.lose("gone")
        await desk.it.until(lambda: bool(desk.reports))
        assert (desk.reports, desk.feed.transport) == ([FeedDown("gone", 1)], None)
        await desk.until_used(before)


async def test_without_topics_there_is_only_postgres_changes() -> None:
    async with bench() as it:
        desk = Desk(it, Transport.AUTO, topics=())
        await desk.until_used(Transport.POSTGRES_CHANGES)
        assert it.link.names == [CHANGES.name]
        await desk.close()


async def test_on_a_closed_client_it_says_so_and_waits_to_be_ended() -> None:
    async with bench() as it:
        it.is_closed = True
        desk = Desk(it, Transport.AUTO)
        await it.until(lambda: desk.reports == [FeedDown("The client was closed.", 1)])
        await desk.close()
        assert desk.task.cancelled()


async def test_many_stores_open_and_close_at_once_on_one_socket() -> None:
    async with bench() as it, asyncio.timeout(20):

        async def live_and_die(number: int) -> None:
            desk = Desk(it, list(Transport)[number % 3])
            for _ in range(number * 5 % 60):
                await asyncio.sleep(0)
            assert len(it.open_links) <= 1
            await desk.close()

        async with asyncio.TaskGroup() as tasks:
            for number in range(30):
                tasks.create_task(live_and_die(number))
        await it.until(lambda: it.open_links == [] and all(task.done() for task in it.spawned))
