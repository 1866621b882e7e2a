"""The shared socket's rules, with links that do what the test says and a clock that jumps."""

from __future__ import annotations

import asyncio
import logging
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
    Listening,
    bench,
)

from jamestronic_sdk.errors import (
    ClientClosedError,
    ConnectionFailedError,
    NotSignedInError,
    RequestTimeoutError,
)
from jamestronic_sdk.realtime.signals import BroadcastMessage, RowMessage

if TYPE_CHECKING:
    from realtime_support import Bench

LIVE_CHANGES = ("live", CHANGES.name)


# --- one socket ------------------------------------------------------------------------------------------


async def test_all_holders_share_one_socket_and_equal_channels_one_join() -> None:
    async with bench() as it:
        members = [Listening() for _ in range(5)]
        for member in members:
            it.connection.hold(member, CHANGES)
            it.connection.hold(member, PERSON)
        await it.until(lambda: all(len(member.told) == 2 for member in members))
        assert len(it.links) == 1
        assert it.link.names == [CHANGES.name, PERSON.name]
        late = Listening()
        it.connection.hold(late, CHANGES)
        assert late.told == [LIVE_CHANGES]


async def test_the_last_one_to_leave_closes_the_socket_before_it_goes() -> None:
    async with bench() as it:
        first, second = Listening(), Listening()
        it.connection.hold(first, CHANGES)
        it.connection.hold(second, PERSON)
        await it.until(lambda: bool(first.told and second.told))
        await it.connection.leave(first)
        await it.until(lambda: it.link.left == [CHANGES.name])
        assert not it.link.is_closed
        await it.connection.leave(second)
        assert it.link.is_closed
        assert all(task.done() for task in it.spawned)
        assert not it.connection.is_in_use
        assert it.token_callbacks == []


async def test_who_comes_while_the_socket_is_closed_gets_a_new_one_after_it() -> None:
    async with bench() as it:
        first, second = Listening(), Listening()
        it.connection.hold(first, CHANGES)
        await it.until(lambda: bool(first.told))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(it.connection.leave(first))
            await asyncio.sleep(0)
            it.connection.hold(second, CHANGES)
            assert len(it.open_links) == 1
        await it.until(lambda: second.told == [LIVE_CHANGES])
        assert [link.is_closed for link in it.links] == [True, False]


async def test_many_that_come_and_go_at_once_leave_nothing_and_block_nobody() -> None:
    async with bench() as it, asyncio.timeout(20):

        async def visit(number: int) -> None:
            member = Listening()
            for turn in range(20):
                it.connection.hold(member, (CHANGES, PERSON, POOL)[(number + turn) % 3])
                for _ in range((number * 7 + turn) % 11):
                    await asyncio.sleep(0)
                if turn % 2:
                    await it.connection.leave(member)
            await it.connection.leave(member)

        async with asyncio.TaskGroup() as tasks:
            for number in range(12):
                tasks.create_task(visit(number))
        assert not it.connection.is_in_use
        assert all(task.done() for task in it.spawned)
        assert it.open_links == []


@pytest.mark.parametrize("steps", range(25))
async def test_cancelling_at_any_await_leaves_no_socket(steps: int) -> None:
    async with bench() as it:
        member = Listening()
        it.connection.hold(member, CHANGES)
        it.connection.hold(member, PERSON)
        for _ in range(steps):
            await asyncio.sleep(0)
        leaving = it.tasks.create_task(it.connection.leave(member))
        for _ in range(steps % 3):
            await asyncio.sleep(0)
        leaving.cancel()
        await it.until(leaving.done)
        if it.connection.is_in_use:  # it was cancelled before it began
            await it.connection.leave(member)
        await it.until(lambda: it.open_links == [] and all(task.done() for task in it.spawned))


async def test_a_closed_client_says_so_and_takes_nobody() -> None:
    async with bench() as it:
        member = Listening()
        it.connection.hold(member, CHANGES)
        await it.until(lambda: bool(member.told))
        it.is_closed = True
        it.spawned[0].cancel()
        await it.until(it.spawned[0].done)
        assert member.told[-1] == ("down", "the client was closed", 1)
        with pytest.raises(ClientClosedError):
            it.connection.hold(Listening(), CHANGES)
        await it.connection.leave(member)


# --- live, and the heart -----------------------------------------------------------------------------------


async def test_live_is_the_servers_word_not_the_reply_to_the_join() -> None:
    async with bench(Behaviour(says_live=False)) as it:
        member = Listening()
        it.connection.hold(member, CHANGES)
        await it.until(lambda: bool(it.links and it.link.joins))
        await it.pass_time(5)
        assert member.told == []
        it.link.listener.on_live(CHANGES)
        it.link.listener.on_live(CHANGES)
        assert member.told == [LIVE_CHANGES] * 2


async def test_a_channel_that_never_becomes_live_is_joined_anew_alone() -> None:
    async with bench(Behaviour(says_live=False)) as it:
        member = Listening()
        it.connection.hold(member, CHANGES)
        await it.until(lambda: bool(it.links and it.link.joins))
        await it.pass_time(22)
        assert member.told[0] == ("lost", CHANGES.name, "the server did not say that it replicates", 1)
        await it.until(lambda: len(it.link.joins) >= 2)
        assert it.link.left == [CHANGES.name]
        assert len(it.links) == 1


async def test_a_private_topic_of_a_silent_server_is_taken_at_its_join() -> None:
    async with bench(Behaviour(says_live=False)) as it:
        member = Listening()
        it.connection.hold(member, PERSON)
        await it.until(lambda: bool(it.links and it.link.joins))
        await it.pass_time(7)
        assert member.told == []
        await it.pass_time(2)
        assert member.told == [("unconfirmed", PERSON.name)]
        it.link.listener.on_live(PERSON)
        assert member.told[1:] == [("live", PERSON.name)]


async def test_an_answered_heartbeat_keeps_the_socket() -> None:
    async with bench() as it:
        it.connection.hold(Listening(), CHANGES)
        await it.until(lambda: bool(it.links and it.link.joins))
        await it.pass_time(120)
        assert len(it.links) == 1
        assert len(it.link.heartbeats) >= 6


async def test_a_half_open_socket_is_found_within_twenty_seconds() -> None:
    async with bench(Behaviour(answers_heartbeats=False)) as it:
        member = Listening()
        it.connection.hold(member, CHANGES)
        await it.until(lambda: bool(member.told))
        await it.pass_time(20)
        assert ("down", "a heartbeat was not answered", 1) in member.told


async def test_no_heartbeat_is_sent_while_a_join_is_unanswered() -> None:
    """A server answers one thing at a time: a slow join is not a dead socket."""
    async with bench(Behaviour(answers_joins=False)) as it:
        it.connection.hold(Listening(), CHANGES)
        await it.until(lambda: bool(it.links and it.link.joins))
        await it.pass_time(40)
        assert it.link.heartbeats == []
        assert len(it.links) == 1


@pytest.mark.parametrize("answers", [True, False])
async def test_a_join_without_an_answer_costs_the_socket_only_if_that_is_dead(*, answers: bool) -> None:
    slow = Behaviour(
        answers_heartbeats=answers, refuses={PERSON: RequestTimeoutError("Realtime did not answer in time.")}
    )
    async with bench(slow) as it:
        member = Listening()
        it.connection.hold(member, CHANGES)
        it.connection.hold(member, PERSON)
        await it.until(lambda: LIVE_CHANGES in member.told)
        await it.until(lambda: len(it.link.heartbeats) >= 1)
        await it.pass_time(5)
        lost = ("lost", PERSON.name, "Realtime did not answer in time.", 1)
        down = ("down", "a heartbeat was not answered", 1)
        assert (lost in member.told, down in member.told) == (answers, not answers)


# --- losses ------------------------------------------------------------------------------------------------


async def test_a_lost_socket_is_one_reconnect_for_all_with_a_fresh_token() -> None:
    async with bench() as it:
        members = [Listening(), Listening()]
        it.connection.hold(members[0], CHANGES)
        it.connection.hold(members[1], PERSON)
        await it.until(lambda: all(member.told for member in members))
        it.token = "token-2"
        it.link.lose()
        await it.pass_until(lambda: all(len(member.told) == 3 for member in members))
        assert [(join.channel, join.token) for join in it.link.joins] == [
            (CHANGES, "token-2"),
            (PERSON, "token-2"),
        ]
        for member, channel in zip(members, (CHANGES, PERSON), strict=True):
            live = ("live", channel.name)
            assert member.told == [live, ("down", "the connection broke", 1), live]


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionFailedError("The connection failed."),
        ValueError("a library's surprise"),
    ],
)
async def test_it_never_gives_up_and_backs_off_with_full_jitter(failure: Exception) -> None:
    async with bench(Behaviour(open_fails=failure)) as it:
        member = Listening()
        it.connection.hold(member, CHANGES)
        await it.until(lambda: len(member.told) >= 40)
        waits = it.clock.slept[:40]
        ceilings = [min(30.0, 0.5 * 2**attempt) for attempt in range(40)]
        assert all(0 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True))
        assert max(waits[8:]) > 15
        assert [one[-1] for one in member.told[:40]] == list(range(1, 41))


async def test_no_token_is_a_failure_like_any_other() -> None:
    async with bench() as it:
        it.token = NotSignedInError("Nobody is signed in.")
        member = Listening()
        it.connection.hold(member, CHANGES)
        await it.until(lambda: len(member.told) >= 3)
        it.token = "token-9"
        await it.until(lambda: member.told[-1:] == [LIVE_CHANGES])
        assert it.link.joins[0].token == "token-9"
        assert not any(link.is_open for link in it.links[:-1])


async def test_back_off_starts_over_only_after_a_minute_of_health() -> None:
    async with bench() as it:
        member = Listening()
        it.connection.hold(member, CHANGES)
        for expected, seconds in ((1, 10), (2, 10), (1, 61)):
            await it.until(lambda: bool(member.told) and member.told[-1] == LIVE_CHANGES)
            await it.pass_time(seconds)
            it.link.lose("again")
            await it.until(lambda: member.told[-1][0] == "down")
            assert member.told[-1] == ("down", "again", expected)
            await it.pass_time(1)


@pytest.mark.parametrize("code", [1000, 1001, 1012])
async def test_a_servers_goodbye_is_no_failure(code: int, caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as it:
        member = Listening()
        it.connection.hold(member, CHANGES)
        with caplog.at_level(logging.DEBUG, "jamestronic_sdk"):
            for number in range(4):
                await it.until(lambda number=number: len(it.links) == number + 1 and bool(it.link.joins))
                await it.until(lambda: member.told[-1:] == [LIVE_CHANGES])
                await it.pass_time(6)
                it.link.lose("the server closed the connection", code)
                await it.until(lambda: member.told[-1][0] == "down")
                await it.pass_time(1)
        assert {one[-1] for one in member.told if one[0] == "down"} == {0}
        assert all(0 <= wait <= 1.0 for wait in it.clock.slept)
        assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
        assert [one for one in caplog.records if one.levelno == logging.INFO]


async def test_after_a_sleep_the_socket_is_given_up_at_once() -> None:
    async with bench() as it:
        member = Listening()
        it.connection.hold(member, CHANGES)
        await it.until(lambda: LIVE_CHANGES in member.told)
        it.wake()
        await it.until(lambda: member.told[-1] == ("down", "the machine slept", 0))
        await it.pass_time(1)
        await it.until(lambda: member.told[-1] == LIVE_CHANGES)
        assert len(it.links) == 2


async def test_a_goodbye_at_once_is_a_failure() -> None:
    """A server that takes every socket and closes it politely must not be asked without pause."""
    async with bench() as it:
        member = Listening()
        it.connection.hold(member, CHANGES)
        for attempt in (1, 2, 3):
            await it.until(lambda: bool(member.told) and member.told[-1] == LIVE_CHANGES)
            it.link.lose("no room", 1001)
            await it.until(lambda attempt=attempt: member.told[-1] == ("down", "no room", attempt))
            await it.pass_time(1)


async def test_a_goodbye_after_too_many_joins_is_a_failure() -> None:
    limited = {PERSON: "ClientJoinRateLimitReached: Too many joins per second"}
    async with bench(Behaviour(refuses=dict(limited))) as it:
        member = Listening()
        it.connection.hold(member, CHANGES)
        it.connection.hold(member, PERSON)
        await it.until(lambda: len(member.told) == 2)
        await it.pass_time(10)
        assert len(it.link.joins) == 2  # not before half a minute
        it.link.lose("no room", 1001)
        await it.until(lambda: ("down", "no room", 1) in member.told)


class Raising(Listening):
    """A holder with a bug."""

    def on_socket_lost(self, reason: str, attempt: int) -> None:
        super().on_socket_lost(reason, attempt)
        raise ValueError(reason)


async def test_a_holder_that_raises_takes_nobody_along(caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as it:
        raising, other = Raising(), Listening()
        it.connection.hold(raising, PERSON)
        it.connection.hold(other, CHANGES)
        await it.until(lambda: bool(raising.told and other.told))
        it.link.lose("gone")
        await it.pass_until(lambda: other.told[-1:] == [LIVE_CHANGES] and len(other.told) == 3)
        assert not it.spawned[0].done()
        assert "a holder of a realtime channel raised" in caplog.text


# --- one channel alone ---------------------------------------------------------------------------------------


async def test_a_lost_channel_is_joined_again_alone_with_its_own_back_off() -> None:
    async with bench() as it:
        lucky, unlucky = Listening(), Listening()
        it.connection.hold(lucky, PERSON)
        it.connection.hold(unlucky, CHANGES)
        await it.until(lambda: bool(lucky.told and unlucky.told))
        for attempt in (1, 2, 3):
            it.link.listener.on_channel_lost(CHANGES, "channel_crash")
            assert unlucky.told[-1] == ("lost", CHANGES.name, "channel_crash", attempt)
            it.link.listener.on_broadcast(PERSON, BroadcastMessage(PERSON.name, "ticket_left", {}))
            await it.pass_time(3)
            await it.until(lambda: unlucky.told[-1] == LIVE_CHANGES)
        await it.pass_time(61)
        it.link.listener.on_channel_lost(CHANGES, "channel_crash")
        assert unlucky.told[-1] == ("lost", CHANGES.name, "channel_crash", 1)
        assert lucky.told == [("live", PERSON.name)] + [("broadcast", "ticket_left")] * 3
        assert len(it.links) == 1


async def test_a_refused_channel_leaves_the_others_alone_and_waits_for_another_token() -> None:
    async with bench(Behaviour(refuses={PERSON: UNAUTHORIZED})) as it:
        member = Listening()
        it.connection.hold(member, PERSON)
        it.connection.hold(member, CHANGES)
        await it.until(lambda: LIVE_CHANGES in member.told)
        assert member.told[0] == ("refused", PERSON.name, UNAUTHORIZED, 1)
        await it.pass_time(120)
        assert it.link.names == [PERSON.name, CHANGES.name]
        it.behaviour.refuses.clear()
        it.renew("token-2")
        await it.until(lambda: ("live", PERSON.name) in member.told)
        assert it.link.pushed == ["token-2"]


async def test_a_refusal_is_asked_about_again_after_minutes() -> None:
    async with bench(Behaviour(refuses={PERSON: UNAUTHORIZED})) as it:
        it.connection.hold(Listening(), PERSON)
        await it.until(lambda: bool(it.links and it.link.joins))
        await it.pass_time(140, step=2)
        assert len(it.link.joins) == 1
        await it.pass_time(170, step=2)
        assert len(it.link.joins) == 2


async def test_a_refusal_outlives_the_socket_but_not_the_token() -> None:
    async with bench(Behaviour(refuses={PERSON: UNAUTHORIZED})) as it:
        first, second, third = Listening(), Listening(), Listening()
        it.connection.hold(first, PERSON)
        await it.until(lambda: bool(first.told))
        await it.connection.leave(first)
        it.connection.hold(second, PERSON)
        assert second.told == [("refused", PERSON.name, UNAUTHORIZED, 1)]
        await it.pass_time(30)
        assert it.link.joins == []
        await it.connection.leave(second)
        it.token = "token-2"
        it.behaviour.refuses.clear()
        it.connection.hold(third, PERSON)
        await it.until(lambda: third.told[-1:] == [("live", PERSON.name)])


async def test_a_refusal_does_not_outlive_the_token_while_others_keep_the_socket() -> None:
    async with bench(Behaviour(refuses={PERSON: UNAUTHORIZED})) as it:
        first, other, second = Listening(), Listening(), Listening()
        it.connection.hold(other, CHANGES)
        it.connection.hold(first, PERSON)
        await it.until(lambda: bool(first.told))
        await it.connection.leave(first)
        it.behaviour.refuses.clear()
        it.renew("token-2")
        it.connection.hold(second, PERSON)
        await it.until(lambda: second.told[-1:] == [("live", PERSON.name)])


async def test_a_newer_token_goes_to_the_open_socket() -> None:
    async with bench() as it:
        it.connection.hold(Listening(), CHANGES)
        await it.until(lambda: bool(it.links and it.link.joins))
        it.renew("token-2")
        await it.until(lambda: it.link.pushed == ["token-2"])
        it.renew(None)
        await it.settle()
        assert it.link.pushed == ["token-2"]


async def test_what_is_held_again_while_its_join_is_under_way_is_joined_again() -> None:
    """The reply belongs to who is gone; to take it for the new one's would be to listen to nothing."""
    async with bench() as it:
        first, second, third = Listening(), Listening(), Listening()
        it.connection.hold(third, PERSON)
        it.connection.hold(first, CHANGES)
        await it.until(lambda: bool(it.links) and CHANGES.name in it.link.names)
        it.connection.drop(first, CHANGES)
        it.connection.hold(second, CHANGES)
        await it.until(lambda: second.told == [LIVE_CHANGES])
        assert it.link.names == [PERSON.name, CHANGES.name, CHANGES.name]
        assert it.link.left == [CHANGES.name]


async def test_a_public_channel_gives_way_to_a_private_one_of_the_same_name() -> None:
    async with bench() as it:
        changes, broadcast = Listening(), Listening()
        it.connection.hold(changes, ADMIN_CHANGES)
        await it.until(lambda: changes.told == [("live", "tickets:admin")])
        it.connection.hold(broadcast, ADMIN)
        await it.until(lambda: broadcast.told == [("live", "tickets:admin")])
        await it.pass_time(1)
        assert it.link.names == ["tickets:admin", "tickets:admin", "tickets:admin:changes"]
        assert it.link.left == ["tickets:admin"]
        assert changes.told == [("live", "tickets:admin")] * 2


# --- what is passed on -----------------------------------------------------------------------------------------


async def test_messages_go_to_those_who_hold_the_channel_in_order() -> None:
    async with bench() as it:
        one, other = Listening(), Listening()
        it.connection.hold(one, CHANGES)
        it.connection.hold(other, PERSON)
        await it.until(lambda: bool(one.told and other.told))
        for number in range(3):
            it.link.listener.on_row(CHANGES, RowMessage({"number": number}))
        it.link.listener.on_broadcast(PERSON, BroadcastMessage(PERSON.name, "ticket_left", {}))
        assert one.told[1:] == [("row", {"number": number}) for number in range(3)]
        assert other.told[1:] == [("broadcast", "ticket_left")]


def replayed(event: str) -> BroadcastMessage:
    return BroadcastMessage(PERSON.name, event, {}, is_replayed=True)


async def live_then_lost(it: Bench, member: Listening, seconds: float) -> None:
    it.connection.hold(member, PERSON)
    it.connection.hold(member, CHANGES)
    await it.until(lambda: len(member.told) == 2)
    await it.pass_time(seconds)
    it.link.lose()
    await it.pass_until(lambda: len(it.links) == 2 and len(it.link.joins) == 2)


async def test_a_rejoin_asks_for_what_was_missed_since_the_last_sign_of_life() -> None:
    async with bench() as it:
        member = Listening()
        await live_then_lost(it, member, 40)
        assert [join.replay_since is None for join in it.links[0].joins] == [True, True]
        person, changes = it.link.joins
        assert changes.replay_since is None  # only broadcasts are stored
        assert person.replay_since is not None
        since = person.replay_since / 1000
        # The heartbeats at 15 and 30 s were answered; what came after may be lost.
        assert since == pytest.approx(it.clock.wall() - 10 - it.config.replay_margin, abs=3)


async def test_what_is_replayed_is_told_to_those_who_missed_it() -> None:
    """For who came later it is older than their first read."""
    async with bench() as it:
        old, new = Listening(), Listening()
        await live_then_lost(it, old, 5)
        it.connection.hold(new, PERSON)
        it.link.listener.on_broadcast(PERSON, replayed("ticket_left"))
        it.link.listener.on_broadcast(PERSON, BroadcastMessage(PERSON.name, "ticket_changed", {}))
        assert [one for one in old.told if one[0] == "broadcast"] == [
            ("broadcast", "ticket_left"),
            ("broadcast", "ticket_changed"),
        ]
        assert [one for one in new.told if one[0] == "broadcast"] == [("broadcast", "ticket_changed")]


async def test_after_a_long_outage_nothing_is_replayed() -> None:
    async with bench() as it:
        member = Listening()
        it.connection.hold(member, PERSON)
        await it.until(lambda: bool(member.told))
        it.behaviour.open_fails = ConnectionFailedError("no network")
        it.link.lose()
        started = it.clock.now()
        await it.until(lambda: it.clock.now() > started + 100)
        it.behaviour.open_fails = None
        await it.pass_until(lambda: bool(it.link.joins))
        assert it.link.joins[0].replay_since is None


async def test_a_refused_replay_is_joined_without() -> None:
    refusal = "UnableToReplayMessages: Realtime was unable to replay messages"
    async with bench() as it:
        member = Listening()
        it.connection.hold(member, PERSON)
        await it.until(lambda: bool(member.told))
        it.behaviour.refuses[PERSON] = refusal
        it.link.lose()
        await it.pass_until(lambda: len(member.told) == 3)
        it.behaviour.refuses.clear()
        await it.pass_until(lambda: len(it.link.joins) == 2 and len(member.told) == 4)
        assert [join.replay_since is None for join in it.link.joins] == [False, True]
        assert member.told[-1] == ("live", PERSON.name)
