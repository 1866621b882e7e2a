"""What is retried, how often, and with which waits.

Promises:
    Only what may be repeated is: reads, commands with an idempotency key, and what was never sent.
    Waits have full jitter; ``Retry-After`` wins, up to ``RetryPolicy.longest_wait``.
    One budget per client: in an outage its retries end, whatever the number of callers.

Never:
    ``CancelledError`` is not retried, and neither is anything that is not one of our own errors.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from jamestronic_sdk._backoff import full_jitter
from jamestronic_sdk._telemetry import current_operation
from jamestronic_sdk.errors import ApiError, ConfigurationError, JamesTronicError, Retry, TransportError

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from tenacity import RetryCallState

    from jamestronic_sdk._clock import Clock

__all__ = ["RetryBudget", "RetryPolicy"]

_log: Final = logging.getLogger("jamestronic_sdk.http")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how fast a call is repeated."""

    retries: int = 2
    """Repeats after the first try; 0 switches retrying off."""
    base: float = 0.2
    """Ceiling of the first wait, in seconds: about two round trips on a bad mobile network."""
    cap: float = 5.0
    """Ceiling of every wait, in seconds."""
    longest_wait: float = 30.0
    """Longest ``Retry-After`` that is waited for, in seconds; a longer one is raised to the caller."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if type(cast("object", self.retries)) is not int or not 0 <= self.retries <= 10:
            raise ConfigurationError("retries must be a whole number between 0 and 10, or a RetryPolicy.")
        for seconds in (self.base, self.cap, self.longest_wait):
            if type(cast("object", seconds)) not in {int, float} or not math.isfinite(seconds):
                raise ConfigurationError(
                    "RetryPolicy: base, cap and longest_wait must be numbers of seconds."
                )
        if not (self.base > 0 and self.cap >= self.base and self.longest_wait >= 0):
            raise ConfigurationError("RetryPolicy: 0 < base <= cap and longest_wait >= 0 must hold.")


class RetryBudget:
    """A bucket of tokens that all calls of a client share: a retry takes one, and gives it back if it helped.

    So faults that retries overcome cost nothing in the end, however many they are, and in an outage, where
    none helps, retries end after ``capacity`` and come back with the successes. The idea is the retry quota
    of the AWS SDKs ("standard" mode), and so is the number: 500 tokens at 5 a retry.
    """

    __slots__ = ("_capacity", "_refill", "_tokens")

    def __init__(self, capacity: float = 100.0, refill: float = 0.1) -> None:
        self._capacity: Final = capacity
        self._refill: Final = refill
        self._tokens = capacity

    @property
    def tokens(self) -> float:
        """Retries that are left."""
        return self._tokens

    def succeeded(self, retries: int = 0) -> None:
        """A call got its answer, after so many retries."""
        self._tokens = min(self._capacity, self._tokens + retries + self._refill)

    def take(self) -> bool:
        """Take one retry; False when none is left."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def is_retryable(error: BaseException, *, replayable: bool) -> bool:
    """Whether the same call may be sent again after this error.

    Args:
        error: What the call raised.
        replayable: Whether carrying it out twice is the same as once.
    """
    match error:
        case TransportError():
            return replayable or not error.maybe_sent
        case ApiError():
            # 429 and 5xx also for commands without a key would be a guess: the server may have acted.
            return replayable and error.retry is not Retry.NEVER
        case _:
            return False


def wait_before(
    error: BaseException | None, attempt: int, *, policy: RetryPolicy, rng: random.Random
) -> float | None:
    """Seconds before retry number ``attempt`` (from 0); None when the server asks for too long a wait."""
    jitter = full_jitter(attempt, base=policy.base, factor=2.0, cap=policy.cap, rng=rng)
    asked = error.retry_after if isinstance(error, ApiError) else None
    if asked is None:
        return jitter
    if asked > policy.longest_wait:
        return None
    # Jitter on top: everybody who was told "in 5 s" would come back in the same instant.
    return asked + jitter


async def retrying(
    call: Callable[[], Awaitable[_T]],
    *,
    operation: str,
    replayable: bool,
    policy: RetryPolicy,
    budget: RetryBudget,
    clock: Clock,
    rng: random.Random,
) -> _T:
    """Run ``call``, again if that is allowed and may help; raises what the last try raised.

    Cancelling is safe at any await: the try that runs is cancelled, no other follows.
    """
    try:
        answer = await call()
    except JamesTronicError as error:
        if not is_retryable(error, replayable=replayable):
            raise
        failure = error
    else:
        budget.succeeded()
        return answer
    retries = _Retries(failure, call, operation, policy, replayable=replayable)
    answer = await retries.run(budget, clock, rng)
    budget.succeeded(retries.taken)
    return answer


class _Retries(Generic[_T]):
    """What follows a first failure.

    tenacity comes in only here: its own work on a call that succeeds is a twentieth of a quick call's time.
    """

    def __init__(
        self,
        failure: JamesTronicError,
        call: Callable[[], Awaitable[_T]],
        operation: str,
        policy: RetryPolicy,
        *,
        replayable: bool,
    ) -> None:
        self._failure: JamesTronicError | None = failure
        self._call: Final = call
        self._operation: Final = operation
        self._policy: Final = policy
        self._replayable: Final = replayable
        self.taken = 0

    async def run(self, budget: RetryBudget, clock: Clock, rng: random.Random) -> _T:
        """Retries, until one answers or no more are allowed."""
        from tenacity import AsyncRetrying  # noqa: PLC0415 - keeps the import fast

        policy = self._policy

        def wait(state: RetryCallState) -> float:
            seconds = wait_before(_error_of(state), state.attempt_number - 1, policy=policy, rng=rng)
            return math.inf if seconds is None else seconds

        def must_stop(state: RetryCallState) -> bool:
            # tenacity asks for the wait first, so an endless one is how `wait` says stop. The budget comes
            # last: it is taken only for a retry that will be made.
            return (
                state.attempt_number > policy.retries or math.isinf(state.upcoming_sleep) or not budget.take()
            )

        retryer = AsyncRetrying(
            sleep=clock.sleep,
            retry=self._may_retry,
            wait=wait,
            stop=must_stop,
            before_sleep=self._announce,
            reraise=True,
        )
        # Typed here: what tenacity's __call__ answers is a TypeVar of its own.
        answer: _T = await cast("Callable[[Callable[[], Awaitable[_T]]], Awaitable[_T]]", retryer)(self._try)
        return answer

    async def _try(self) -> _T:
        """The first failure once more, which is tenacity's first try, then tries."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return await self._call()

    def _may_retry(self, state: RetryCallState) -> bool:
        error = _error_of(state)
        return error is not None and is_retryable(error, replayable=self._replayable)

    def _announce(self, state: RetryCallState) -> None:
        self.taken += 1
        under_way = current_operation()
        if under_way is not None:
            under_way.retried(_error_of(state))
        _log.log(
            logging.WARNING if state.attempt_number == 1 else logging.DEBUG,
            "%s failed (%s), retry %d of %d in %.2f s",
            self._operation,
            type(_error_of(state)).__name__,
            state.attempt_number,
            self._policy.retries,
            state.upcoming_sleep,
            extra={"operation": self._operation, "attempt": state.attempt_number},
        )


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None
