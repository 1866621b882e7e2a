"""Retries: what is repeated, when, and when not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from client_support import ManualClock, seeded

from jamestronic_sdk._backoff import backoff, ceiling, full_jitter
from jamestronic_sdk.errors import (
    BadRequestError,
    ConnectionFailedError,
    RateLimitedError,
    RequestTimeoutError,
    ServerError,
)
from jamestronic_sdk.retry import RetryBudget, RetryPolicy, retrying

if TYPE_CHECKING:
    from collections.abc import Callable


class Call:
    """Raises each of the errors once, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def run(
    call: Callable[[], object],
    *,
    replayable: bool = True,
    policy: RetryPolicy | None = None,
    budget: RetryBudget | None = None,
    clock: ManualClock | None = None,
) -> object:
    return await retrying(
        call,  # type: ignore[arg-type]
        operation="test",
        replayable=replayable,
        policy=policy or RetryPolicy(),
        budget=budget or RetryBudget(),
        clock=clock or ManualClock(),
        rng=seeded(1),
    )


@pytest.mark.parametrize(
    "error",
    [
        ServerError("x"),
        RateLimitedError("x"),
        ConnectionFailedError("x"),
        RequestTimeoutError("x"),
    ],
)
async def test_transient_failures_are_repeated(error: Exception) -> None:
    call = Call(error, error)
    assert await run(call) == "answer"
    assert call.count == 3


async def test_the_last_error_is_raised_when_retries_are_used_up() -> None:
    last = ServerError("last")
    call = Call(ServerError("1"), ServerError("2"), last, ServerError("never"))
    with pytest.raises(ServerError) as caught:
        await run(call)
    assert caught.value is last
    assert call.count == 3


@pytest.mark.parametrize("error", [BadRequestError("x"), ValueError("x"), KeyboardInterrupt()])
async def test_other_errors_are_not_repeated(error: BaseException) -> None:
    call = Call(error)
    with pytest.raises(type(error)) as caught:
        await run(call)
    assert caught.value is error
    assert call.count == 1


async def test_cancellation_is_never_repeated() -> None:
    call = Call(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await run(call)
    assert call.count == 1


async def test_cancelling_while_waiting_ends_the_call() -> None:
    started = asyncio.Event()

    class Stuck(ManualClock):
        async def sleep(self, seconds: float) -> None:
            del seconds
            started.set()
            await asyncio.Event().wait()

    call = Call(ServerError("x"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(call, clock=Stuck()))
        await started.wait()
        task.cancel()
    assert task.cancelled()
    assert call.count == 1


@pytest.mark.parametrize(
    ("error", "count"),
    [
        (ServerError("x"), 1),
        (RateLimitedError("x"), 1),
        (RequestTimeoutError("x"), 1),
        (ConnectionFailedError("x"), 1),
        (ConnectionFailedError("x", maybe_sent=False), 2),
        (RequestTimeoutError("x", maybe_sent=False), 2),
    ],
)
async def test_what_may_act_twice_is_repeated_only_if_never_sent(error: Exception, count: int) -> None:
    call = Call(error)
    if count == 1:
        with pytest.raises(type(error)):
            await run(call, replayable=False)
    else:
        assert await run(call, replayable=False) == "answer"
    assert call.count == count


async def test_no_retries_when_switched_off() -> None:
    call = Call(ServerError("x"))
    with pytest.raises(ServerError):
        await run(call, policy=RetryPolicy(retries=0))
    assert call.count == 1


async def test_retry_after_is_waited_for() -> None:
    clock = ManualClock()
    await run(Call(RateLimitedError("x", retry_after=7.0)), clock=clock)
    assert len(clock.slept) == 1
    assert 7.0 <= clock.slept[0] <= 7.2


async def test_a_long_retry_after_is_given_to_the_caller() -> None:
    clock = ManualClock()
    call = Call(RateLimitedError("x", retry_after=31.0))
    budget = RetryBudget()
    with pytest.raises(RateLimitedError):
        await run(call, clock=clock, budget=budget)
    assert (call.count, clock.slept, budget.tokens) == (1, [], 100.0)


async def test_waits_are_jittered_and_bounded() -> None:
    clock = ManualClock()
    policy = RetryPolicy(retries=10, base=1.0, cap=4.0)
    with pytest.raises(ServerError):
        await run(Call(*[ServerError("x")] * 11), policy=policy, clock=clock)
    assert len(clock.slept) == 10
    assert len(set(clock.slept)) == 10
    for attempt, seconds in enumerate(clock.slept):
        assert 0 <= seconds <= ceiling(attempt, base=1.0, factor=2.0, cap=4.0)


async def test_an_outage_makes_no_storm() -> None:
    """1,000 failing calls are repeated 20 times in all, not 2,000 times."""
    budget = RetryBudget(capacity=20)
    sent = 0
    for _ in range(1000):
        call = Call(*[ServerError("x")] * 3)
        with pytest.raises(ServerError):
            await run(call, budget=budget)
        sent += call.count
    assert sent == 1020


async def test_successes_refill_the_budget() -> None:
    budget = RetryBudget(capacity=2, refill=0.5)
    assert budget.take()
    assert budget.take()
    assert not budget.take()
    for _ in range(100):
        await run(Call(), budget=budget)
    assert budget.tokens == 2.0


async def test_retries_that_help_cost_nothing() -> None:
    """Each call fails twice and then succeeds: the budget lasts for any number of them."""
    budget = RetryBudget(capacity=3)
    for _ in range(100):
        await run(Call(ServerError("x"), ServerError("x")), budget=budget)
    assert budget.tokens == 3


@pytest.mark.parametrize("fields", [{"retries": -1}, {"base": 0}, {"cap": 0.1}, {"longest_wait": -1}])
def test_senseless_policies_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"RetryPolicy|retries"):
        RetryPolicy(**fields)  # type: ignore[arg-type]


def test_ceilings() -> None:
    assert [ceiling(n, base=0.5, factor=2.0, cap=3.0) for n in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert ceiling(10_000, base=0.5, factor=2.0, cap=30.0) == 30.0


def test_jitter_is_full() -> None:
    rng = seeded(3)
    waits = [full_jitter(0, base=1.0, factor=2.0, cap=9.0, rng=rng) for _ in range(2000)]
    assert 0 <= min(waits) < 0.05
    assert 0.95 < max(waits) <= 1.0
    assert 0.45 < sum(waits) / len(waits) < 0.55


def test_backoff_goes_on_for_ever_and_replays_by_seed() -> None:
    first = backoff(base=0.1, cap=30.0, rng=seeded(5))
    again = backoff(base=0.1, cap=30.0, rng=seeded(5))
    assert [next(first) for _ in range(2000)] == [next(again) for _ in range(2000)]
