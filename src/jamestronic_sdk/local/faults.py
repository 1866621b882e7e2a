"""Faults on request: one table of them, and what they do to requests.

Promises:
    A lasting fault stays until it is cleared, by ``clear`` or by a reset; the others happen once.
    With a seed the same requests in the same order meet the same faults.

Never:
    A fault that nobody asked for.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import hdrs, web

from jamestronic_sdk.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

__all__ = ["FAULTS", "Fault", "Faults", "Parameter", "RealtimeControl"]

_PATHS: Final = {"rest": "/rest/v1", "auth": "/auth/v1", "realtime": "/realtime/v1"}
"""What each service's requests begin with; of Realtime also the handshakes."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing to say about a fault."""

    kind: type[str | int | float]
    help: str
    default: str | float | None
    """None: it may be absent."""
    choices: tuple[str, ...] = ()
    """Of a text."""
    low: float = 0
    high: float = 1
    """Of a number."""

    def read(self, name: str, value: object) -> Any:  # noqa: ANN401 - what the kind says
        """The value, checked.

        Raises:
            BadRequestError: It is none.
        """
        if value is None:
            return self.default
        if self.kind is str:
            if value in self.choices:
                return value
            raise BadRequestError(f"{name} must be one of {', '.join(self.choices)}.", code="bad_fault")
        if isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high:
            return self.kind(value)
        raise BadRequestError(f"{name} must be from {self.low:g} to {self.high:g}.", code="bad_fault")


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break something."""

    help: str
    parameters: Mapping[str, Parameter]
    is_lasting: bool = True
    """Until it is cleared; otherwise it happens once."""


_SERVICE: Final = Parameter(str, "Whose requests.", "all", choices=("all", *_PATHS))
_RATE: Final = Parameter(float, "Which share of the requests, 0 to 1.", 1.0)
_SEED: Final = Parameter(int, "Makes the choice repeatable.", None, high=2**32)

FAULTS: Final[dict[str, Fault]] = {
    "errors": Fault(
        "Answer a share of the requests with a server's error, without doing them.",
        {
            "service": _SERVICE,
            "rate": _RATE,
            "status": Parameter(int, "The HTTP status.", 503, low=500, high=599),
            "seed": _SEED,
        },
    ),
    "limit": Fault(
        "Answer a share of the requests with 429 and Retry-After, without doing them.",
        {
            "service": _SERVICE,
            "rate": _RATE,
            "retry_after": Parameter(int, "Seconds in Retry-After.", 1, high=3600),
            "seed": _SEED,
        },
    ),
    "delay": Fault(
        "Hold up each request before it is done.",
        {
            "service": _SERVICE,
            "ms": Parameter(float, "Milliseconds.", 100.0, high=60_000),
            "jitter": Parameter(float, "Milliseconds more, at random.", 0.0, high=60_000),
            "seed": _SEED,
        },
    ),
    "realtime": Fault(
        "Close every Realtime connection and refuse new ones (down), or accept them again (up).",
        {"state": Parameter(str, "Which.", "down", choices=("down", "up"))},
    ),
    "silence": Fault("Leave the Realtime connections open and send nothing: no heartbeat is answered.", {}),
    "cut": Fault("Break every Realtime connection once, as a lost network does.", {}, is_lasting=False),
    "drop_slot": Fault(
        "Drop Realtime's replication slots: changes are missed until it has new ones.", {}, is_lasting=False
    ),
    "kill": Fault(
        "Kill a part (kill -9); it is started again.",
        {"part": Parameter(str, "Which.", "postgrest", choices=("postgrest", "postgres", "backend"))},
        is_lasting=False,
    ),
}
"""By name, as in ``POST /_local/faults/{name}``."""


class RealtimeControl(Protocol):
    """What is asked of Realtime."""

    @property
    def is_ready(self) -> bool:
        """Whether it replicates."""
        ...

    async def cut(self) -> int:
        """Close all sockets and refuse new ones; how many there were."""
        ...

    def restore(self) -> None:
        """Accept sockets again."""
        ...

    def break_sockets(self) -> int:
        """Close all sockets; how many there were."""
        ...

    def silence(self) -> None:
        """Send nothing more."""
        ...

    def speak(self) -> None:
        """Send again, first what has waited."""
        ...

    async def drop_slots(self) -> int:
        """Drop the replication slots; how many there were."""
        ...


@dataclass(frozen=True, slots=True)
class _Active:
    """A lasting fault that was asked for."""

    name: str
    values: dict[str, Any]
    chance: random.Random = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return {"fault": self.name, **self.values}

    def concerns(self, path: str) -> bool:
        """Whether a request is one of its service."""
        service = self.values["service"]
        return path.startswith(tuple(_PATHS.values()) if service == "all" else _PATHS[service])


class Faults:
    """The faults of one running stack.

    Args:
        realtime: Its switches.
        kill: Kills a part; how many processes that were.
    """

    def __init__(self, realtime: RealtimeControl, kill: Callable[[str], Coroutine[Any, Any, int]]) -> None:
        self._realtime: Final = realtime
        self._kill: Final = kill
        self._active: Final[dict[tuple[str, str | None], _Active]] = {}

    def active(self) -> list[dict[str, Any]]:
        """The lasting faults that are on."""
        return [fault.to_json() for fault in self._active.values()]

    async def inject(self, name: str, given: Mapping[str, object]) -> dict[str, Any]:
        """Make a fault happen; the same one again, for the same service, takes the place of the first.

        Returns:
            What it is, with its parameters, and what it did.

        Raises:
            BadRequestError: There is no such fault, or it has no such parameter or value.
        """
        fault = FAULTS.get(name)
        if fault is None:
            raise BadRequestError(
                f"There is no fault {name}; there are: {', '.join(FAULTS)}.", code="bad_fault"
            )
        unknown = given.keys() - fault.parameters.keys()
        if unknown:
            raise BadRequestError(f"{name} has no {', '.join(sorted(unknown))}.", code="bad_fault")
        values = {key: each.read(key, given.get(key)) for key, each in fault.parameters.items()}
        done = await self._do(name, values)
        key = (name, values.get("service"))
        self._active.pop(key, None)
        if fault.is_lasting and values.get("state") != "up":
            chance = random.Random(values.get("seed"))  # noqa: S311 - of a test
            self._active[key] = _Active(name, values, chance)
        return {"fault": name, **values, **done}

    async def _do(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        match name:
            case "realtime" if values["state"] == "down":
                return {"closed": await self._realtime.cut()}
            case "realtime":
                self._realtime.restore()
            case "silence":
                self._realtime.silence()
            case "cut":
                return {"closed": self._realtime.break_sockets()}
            case "drop_slot":
                return {"dropped": await self._realtime.drop_slots()}
            case "kill":
                return {"killed": await self._kill(values["part"])}
            case _:
                pass  # what concerns requests needs nothing now
        return {}

    def clear(self, name: str | None = None) -> int:
        """End lasting faults.

        Args:
            name: Only those of this name; None = all.

        Returns:
            How many there were.

        Raises:
            BadRequestError: There is no such fault.
        """
        if name is not None and name not in FAULTS:
            raise BadRequestError(
                f"There is no fault {name}; there are: {', '.join(FAULTS)}.", code="bad_fault"
            )
        ended = [key for key in self._active if name in {None, key[0]}]
        for key in ended:
            del self._active[key]
        if name in {None, "realtime"}:
            self._realtime.restore()
        if name in {None, "silence"}:
            self._realtime.speak()
        return len(ended)

    async def meet(self, request: web.Request) -> web.Response | None:
        """What a request meets: perhaps a wait, perhaps an answer in place of the service's."""
        for fault in tuple(self._active.values()):
            if fault.name not in {"errors", "limit", "delay"} or not fault.concerns(request.path):
                continue
            if fault.name == "delay":
                more = fault.chance.uniform(0, fault.values["jitter"])
                await asyncio.sleep((fault.values["ms"] + more) / 1000)
            elif fault.chance.random() < fault.values["rate"]:
                return _answer(fault)
        return None


def _answer(fault: _Active) -> web.Response:
    """An error that the clients of every service can read."""
    headers: dict[str, str] = {}
    if fault.name == "limit":
        status, code, text = 429, "over_request_rate_limit", "Too many requests: a fault that was asked for."
        headers[hdrs.RETRY_AFTER] = str(fault.values["retry_after"])
    else:
        status, code = fault.values["status"], "unexpected_failure"
        text = "The service failed: a fault that was asked for."
    body = {"code": code, "error_code": code, "message": text, "msg": text, "details": None, "hint": None}
    return web.json_response(body, status=status, headers=headers)
