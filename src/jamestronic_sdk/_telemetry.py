"""What an operation is called, what came of it, and who is told: OpenTelemetry, if the program uses it.

Promises:
    One span and one measured duration per public operation, however many requests and tries it takes.
    Without ``opentelemetry-api`` nothing is imported and nothing recorded; without its SDK nothing is kept.
    Each operation has an id that goes along with its requests, for logs on both sides.

Never:
    No row, token, e-mail address, phone number or query string in a span or metric, and no text of an error.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit
from uuid import uuid4

from jamestronic_sdk.errors import ApiError, AuthenticationError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from contextlib import AbstractContextManager
    from contextvars import Token
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.metrics import Counter, Histogram
    from opentelemetry.trace import Span

    from jamestronic_sdk._clock import Clock

    _Attributes = Mapping[str, str | int | float | bool]

__all__ = [
    "Operation",
    "StoreTelemetry",
    "Traffic",
    "current_operation",
    "measured_bytes",
    "operation",
    "received",
    "token_refreshed",
]

_SCOPE: Final = "jamestronic_sdk"
"""Name of the tracer and the meter."""

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0)
"""Boundaries of durations: those of OpenTelemetry's HTTP conventions, and the default time-out."""


class _Instruments:
    """The API's tracer, and its instruments; they find the program's providers by themselves."""

    def __init__(self) -> None:
        from opentelemetry import context, metrics, trace  # noqa: PLC0415 - of an extra

        self._context: Final = context
        self._trace: Final = trace
        self._tracer: Final = trace.get_tracer(_SCOPE)
        self._meter: Final = metrics.get_meter(_SCOPE)
        self._counters: Final[dict[str, Counter]] = {}
        self._histograms: Final[dict[str, Histogram]] = {}

    def start(self, name: str, *, is_client: bool) -> tuple[Span, Token[Context] | None]:
        """A span, made the current one if anybody keeps it or its parent."""
        kind = self._trace.SpanKind.CLIENT if is_client else self._trace.SpanKind.INTERNAL
        span = self._tracer.start_span(name, kind=kind, record_exception=False, set_status_on_exception=False)
        if not span.get_span_context().is_valid:
            return span, None
        return span, self._context.attach(self._trace.set_span_in_context(span))

    def end(self, span: Span, token: Token[Context] | None, attributes: _Attributes) -> None:
        """End it; whatever has an ``error.type`` failed."""
        if token is not None:
            self._context.detach(token)
        if span.is_recording():
            span.set_attributes(attributes)
            if "error.type" in attributes:
                span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def count(self, name: str, amount: int, unit: str, what: str, attributes: _Attributes) -> None:
        """Add to a counter."""
        if name not in self._counters:
            self._counters[name] = self._meter.create_counter(name, unit=unit, description=what)
        self._counters[name].add(amount, attributes)

    def measure(self, name: str, seconds: float, what: str, attributes: _Attributes) -> None:
        """Add to a histogram of seconds."""
        if name not in self._histograms:
            self._histograms[name] = self._meter.create_histogram(
                name, unit="s", description=what, explicit_bucket_boundaries_advisory=_SECONDS
            )
        self._histograms[name].record(seconds, attributes)


@cache
def _instruments() -> _Instruments | None:
    """OpenTelemetry's API; None where it is not installed."""
    try:
        return _Instruments()
    except ImportError:
        return None


_current: ContextVar[Operation | None] = ContextVar("jamestronic_sdk.operation", default=None)


class Traffic:
    """Bytes of answers' bodies, decoded."""

    __slots__ = ("received",)

    def __init__(self) -> None:
        self.received = 0


_traffic: ContextVar[Traffic | None] = ContextVar("jamestronic_sdk.traffic", default=None)


@contextmanager
def measured_bytes() -> Generator[Traffic]:
    """Count what the data API answers to this task and those that it starts."""
    traffic = Traffic()
    token = _traffic.set(traffic)
    try:
        yield traffic
    finally:
        _traffic.reset(token)


def received(size: int) -> None:
    """A request of this task was answered, by so many bytes."""
    traffic = _traffic.get()
    if traffic is not None:
        traffic.received += size


def current_operation() -> Operation | None:
    """The operation that this task works for."""
    return _current.get()


def operation(name: str, url: str, clock: Clock) -> AbstractContextManager[Operation]:
    """The operation of that name that is under way, or a new one.

    So what takes several requests opens one around them, and they count there. Another name makes a child:
    ``auth.refresh`` on the way.
    """
    outer = _current.get()
    if outer is not None and outer.name == name and outer.is_under_way:
        return nullcontext(outer)
    return Operation(name, url, clock)


class Operation:
    """One public operation, from its first request to its answer; a context manager.

    Args:
        name: For example ``tickets.assign``.
        url: The project's address, for host and port.
        clock: Measures how long it takes.
    """

    __slots__ = (
        "_clock",
        "_span",
        "_started",
        "_token",
        "_url",
        "method",
        "name",
        "request_id",
        "requests",
        "retries",
        "retry_after",
        "server_id",
        "status",
        "target",
    )

    def __init__(self, name: str, url: str, clock: Clock) -> None:
        self.name: Final = name
        self._url: Final = url
        self._clock: Final = clock
        self._token: Token[Operation | None] | None = None
        self._span: tuple[Span, Token[Context] | None] | None = None
        self._started = 0.0
        self.request_id = ""
        """Sent as ``X-Request-Id`` with every request of the operation."""
        self.server_id: str | None = None
        """What the gateway called the last request, when it said so."""
        self.retry_after: str | None = None
        """The last answer's header of that name."""
        self.status: int | None = None
        """The last answer's HTTP status."""
        self.method: str | None = None
        self.target: str | None = None
        """The table, or ``rpc/`` and the function; None for Auth."""
        self.requests = 0
        self.retries = 0

    def __enter__(self) -> Self:
        self.request_id = uuid4().hex
        self._token = _current.set(self)
        instruments = _instruments()
        if instruments is not None:
            self._started = self._clock.now()
            self._span = instruments.start(f"jamestronic.{self.name}", is_client=True)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
            self._token = None
        instruments = _instruments()
        if instruments is None or self._span is None:
            return
        (span, attached), self._span = self._span, None
        outcome: dict[str, str | int] = {"jamestronic.operation": self.name}
        if exc is not None:
            outcome["error.type"] = type(exc).__name__
        if self.status is not None:
            outcome["http.response.status_code"] = self.status
        instruments.measure(
            "jamestronic.client.operation.duration",
            self._clock.now() - self._started,
            "How long operations of the client take, with all requests and waits.",
            outcome,
        )
        instruments.end(span, attached, self._facts(exc) | outcome if span.is_recording() else outcome)

    @property
    def is_under_way(self) -> bool:
        """Whether it was begun and has not ended; a task that it started may live longer."""
        return self._token is not None

    def _facts(self, error: BaseException | None) -> dict[str, str | int]:
        """What the span alone says, by OpenTelemetry's conventions for HTTP and databases where they fit."""
        address = urlsplit(self._url)
        facts: dict[str, str | int] = {
            "server.address": address.hostname or "",
            "server.port": address.port or (443 if address.scheme == "https" else 80),
            "http.request.resend_count": self.retries,
            "jamestronic.requests": self.requests,
            "jamestronic.request_id": self.server_id or self.request_id,
        }
        if self.method is not None:
            facts["http.request.method"] = self.method
        if self.target is not None:
            function = self.target.removeprefix("rpc/")
            name = "db.collection.name" if function == self.target else "db.stored_procedure.name"
            facts |= {"db.system.name": "postgresql", name: function}
        if isinstance(error, ApiError | AuthenticationError) and error.code is not None:
            facts["db.response.status_code" if self.target else "jamestronic.error.code"] = error.code
        return facts

    def sent(self, method: str, path: str) -> None:
        """A request goes out."""
        self.requests += 1
        self.method = method
        self.status = self.server_id = self.retry_after = None
        _, is_data, target = path.partition("/rest/v1/")
        self.target = target if is_data else None

    def retried(self, error: BaseException | None) -> None:
        """The same request will go out again."""
        self.retries += 1
        instruments = _instruments()
        if instruments is not None:
            instruments.count(
                "jamestronic.client.retries",
                1,
                "{retry}",
                "Tries after the first one.",
                {"jamestronic.operation": self.name, "error.type": type(error).__name__},
            )


def token_refreshed(error: BaseException | None) -> None:
    """Count a renewal of the session."""
    instruments = _instruments()
    if instruments is not None:
        instruments.count(
            "jamestronic.client.token_refreshes",
            1,
            "{refresh}",
            "Renewals of sessions.",
            {} if error is None else {"error.type": type(error).__name__},
        )


class StoreTelemetry:
    """What a ``TicketStore`` reports; each method costs next to nothing where nobody listens.

    Args:
        view: The kind of view, for example ``technician``.
        clock: Measures how long reads take.
    """

    __slots__ = ("_clock", "_view")

    def __init__(self, view: str, clock: Clock) -> None:
        self._view: Final = view
        self._clock: Final = clock

    def reconcile(self, read: str) -> Reconcile:
        """A context manager around one read that brings the store up to date.

        Args:
            read: Its kind: ``full``, ``sync``, ``lookup``, ``digest`` or ``pairs``.
        """
        return Reconcile(self._view, read, self._clock)

    def count(self, name: str, amount: int = 1) -> None:
        """Add to the counter ``jamestronic.store.<name>``: the names of ``StoreMetrics.counts``."""
        instruments = _instruments()
        if instruments is not None:
            instruments.count(
                f"jamestronic.store.{name}",
                amount,
                "1",
                f"What ticket stores count as {name}.",
                {"jamestronic.store.view": self._view},
            )

    def event(self, kind: str, source: str, latency: float | None) -> None:
        """Count an event, and measure how late the store learned of it.

        Args:
            kind: The name of the event's class.
            source: How it was learned: ``realtime``, ``poll``, ...
            latency: Seconds from commit to the store's knowledge; None when that is not known.
        """
        instruments = _instruments()
        if instruments is None:
            return
        where = {"jamestronic.store.view": self._view, "jamestronic.store.source": source}
        instruments.count(
            "jamestronic.store.events",
            1,
            "{event}",
            "Events that ticket stores told.",
            {**where, "jamestronic.store.event": kind},
        )
        if latency is not None:
            instruments.measure(
                "jamestronic.store.event.latency",
                latency,
                "From a change's commit to the store's knowledge of it.",
                where,
            )


class Reconcile:
    """One read of a store: a span ``jamestronic.store.reconcile`` and a duration; a context manager."""

    __slots__ = ("_clock", "_read", "_span", "_started", "_view", "rows")

    def __init__(self, view: str, read: str, clock: Clock) -> None:
        self._view: Final = view
        self._read: Final = read
        self._clock: Final = clock
        self._span: tuple[Span, Token[Context] | None] | None = None
        self._started = 0.0
        self.rows: int | None = None
        """How many rows came; for the span."""

    def __enter__(self) -> Self:
        instruments = _instruments()
        if instruments is not None:
            self._started = self._clock.now()
            self._span = instruments.start("jamestronic.store.reconcile", is_client=False)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        instruments = _instruments()
        if instruments is None or self._span is None:
            return
        (span, attached), self._span = self._span, None
        outcome = {"jamestronic.store.view": self._view, "jamestronic.store.read": self._read}
        if exc is not None:
            outcome["error.type"] = type(exc).__name__
        instruments.measure(
            "jamestronic.store.reconcile.duration",
            self._clock.now() - self._started,
            "How long reads of ticket stores take.",
            outcome,
        )
        rows = {} if self.rows is None else {"jamestronic.store.rows": self.rows}
        instruments.end(span, attached, {**outcome, **rows})
