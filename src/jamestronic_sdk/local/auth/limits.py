"""How often somebody may ask: hosted Auth's limits, when they are switched on.

Promises:
    Each endpoint counts for itself, by the client's address; messages count for the whole instance.
    At most 10,000 addresses are remembered per endpoint; the one that asked longest ago goes first.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jamestronic_sdk.local.auth.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LIMITED", "Limits", "Rate"]

_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket that holds ``burst`` requests, and gets ``per_second`` more."""

    per_second: float
    burst: int


# 30 and 150 per five minutes, 15 per minute, 30 per hour: what hosted projects begin with.
_CODES: Final = Rate(30 / 300, 30)
_SIGN_INS: Final = Rate(150 / 300, 30)
_FACTORS: Final = Rate(15 / 60, 30)
_HOURLY: Final = Rate(30 / 3600, 30)

LIMITED: Final = {
    "POST /token": _SIGN_INS,
    "POST /otp": _CODES,
    "POST /magiclink": _CODES,
    "POST /recover": _CODES,
    "POST /resend": _CODES,
    "GET /verify": _CODES,
    "POST /verify": _CODES,
    "PUT /user": _CODES,
    "POST /factors/{factor_id}/challenge": _FACTORS,
    "POST /factors/{factor_id}/verify": _FACTORS,
    "signup": _CODES,
    "anonymous": _HOURLY,
}
"""By endpoint; sign-up has two, for people and for nobody."""

_EVERYBODY: Final = ""


class Limits:
    """The buckets of one instance.

    Args:
        is_on: Whether anything is refused.
        clock: Seconds; only their differences matter.
    """

    def __init__(self, *, is_on: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._is_on: Final = is_on
        self._clock: Final = clock
        self._buckets: Final[dict[str, OrderedDict[str, tuple[float, float]]]] = {}

    def check_request(self, name: str, address: str | None) -> None:
        """Count a request to an endpoint of ``LIMITED``; others are free.

        Raises:
            AuthApiProblem: ``over_request_rate_limit``.
        """
        rate = LIMITED.get(name)
        if rate is not None and not self._take(name, address or _EVERYBODY, rate):
            raise Problem.REQUEST_RATE_LIMIT.error()

    def check_email(self) -> None:
        """Count an e-mail.

        Raises:
            AuthApiProblem: ``over_email_send_rate_limit``.
        """
        if not self._take("email", _EVERYBODY, _HOURLY):
            raise Problem.EMAIL_RATE_LIMIT.error()

    def check_sms(self) -> None:
        """Count a text message.

        Raises:
            AuthApiProblem: ``over_sms_send_rate_limit``.
        """
        if not self._take("sms", _EVERYBODY, _HOURLY):
            raise Problem.SMS_RATE_LIMIT.error()

    def _take(self, name: str, address: str, rate: Rate) -> bool:
        """Whether there was one left."""
        if not self._is_on:
            return True
        buckets = self._buckets.setdefault(name, OrderedDict())
        now = self._clock()
        left, at = buckets.pop(address, (float(rate.burst), now))
        left = min(float(rate.burst), left + (now - at) * rate.per_second)
        is_left = left >= 1
        buckets[address] = (left - 1 if is_left else left, now)
        if len(buckets) > _REMEMBERED:
            buckets.popitem(last=False)
        return is_left
