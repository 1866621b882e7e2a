"""What traces and metrics say of the client, and what they never say."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from client_support import (
    ANON_KEY,
    SECRET,
    TICKET,
    ManualClock,
    Service,
    api_error,
    auth_error,
    client,
    hang_up,
    never,
    ok,
    serving,
    session,
    signed_in,
    ticket,
)
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import Histogram, Sum
from opentelemetry.trace import SpanKind, StatusCode
from telemetry_support import providers

import jamestronic_sdk
from jamestronic_sdk import (
    ConflictError,
    ConnectionFailedError,
    InvalidCredentialsError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RequestTimeoutError,
    ServerError,
)
from jamestronic_sdk._telemetry import StoreTelemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

LIST, ASSIGN = "GET /rest/v1/tickets", "POST /rest/v1/rpc/assign_ticket"
TOKEN = "POST /auth/v1/token"
ID = re.compile(r"[0-9a-f]{32}")


@pytest.fixture
def spans() -> InMemorySpanExporter:
    exporter, _ = providers()
    exporter.clear()
    return exporter


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return providers()[1]


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as running:
        running.script(LIST, lambda: ok([ticket()]))
        running.script(ASSIGN, lambda: ok(ticket()))
        yield running


def only(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in spans.get_finished_spans() if span.name == name]
    return found


def facts(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


def points(reader: InMemoryMetricReader, name: str, **attributes: object) -> list[Any]:
    """The data points of an instrument whose attributes hold these."""
    data = reader.get_metrics_data()
    wanted = {key.replace("__", "."): value for key, value in attributes.items()}
    return [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name and isinstance(metric.data, Histogram | Sum)
        for point in metric.data.data_points
        if wanted.items() <= dict(point.attributes or {}).items()
    ]


def total(reader: InMemoryMetricReader, name: str, **attributes: object) -> int:
    found = points(reader, name, **attributes)
    return sum(getattr(point, "count", None) or getattr(point, "value", 0) for point in found)


async def test_a_command_is_one_client_span(service: Service, spans: InMemorySpanExporter) -> None:
    async with signed_in(service) as jt:
        await jt.tickets.assign(TICKET, TICKET)
    span = only(spans, "jamestronic.tickets.assign")
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    host, port = service.url.removeprefix("http://").split(":")
    request_id = service.seen(ASSIGN)[0].headers["x-request-id"]
    assert facts(span) == {
        "jamestronic.operation": "tickets.assign",
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.request.resend_count": 0,
        "server.address": host,
        "server.port": int(port),
        "db.system.name": "postgresql",
        "db.stored_procedure.name": "assign_ticket",
        "jamestronic.requests": 1,
        "jamestronic.request_id": request_id,
    }
    assert ID.fullmatch(request_id)


async def test_retries_are_counted_in_the_span_and_in_the_metric(
    service: Service, spans: InMemorySpanExporter, reader: InMemoryMetricReader
) -> None:
    before = total(reader, "jamestronic.client.retries", jamestronic__operation="tickets.list")
    service.script(LIST, lambda: hang_up, lambda: api_error(503), lambda: ok([]))
    async with signed_in(service) as jt:
        await jt.tickets.list()
    span = only(spans, "jamestronic.tickets.list")
    assert facts(span)["http.request.resend_count"] == 2
    assert facts(span)["jamestronic.requests"] == 3
    assert facts(span)["http.response.status_code"] == 200
    assert facts(span)["db.collection.name"] == "tickets"
    assert span.status.status_code is StatusCode.UNSET
    assert total(reader, "jamestronic.client.retries", jamestronic__operation="tickets.list") == before + 2
    ids = {request.headers["x-request-id"] for request in service.seen(LIST)}
    assert ids == {facts(span)["jamestronic.request_id"]}


async def test_an_operation_of_many_requests_is_one_span(
    service: Service, spans: InMemorySpanExporter
) -> None:
    async with client(service) as jt:
        await jt.auth.sign_in(email="ada@example.test", password="x")
        await jt.tickets.get_many([f"0b1e7c1e-0000-4000-8000-{n:012d}" for n in range(250)])
    assert facts(only(spans, "jamestronic.auth.sign_in"))["jamestronic.requests"] == 2
    assert facts(only(spans, "jamestronic.tickets.get_many"))["jamestronic.requests"] == 3


async def test_a_read_in_parts_is_one_span(service: Service, spans: InMemorySpanExporter) -> None:
    pages = iter(
        [
            ok([ticket(n) for n in range(1, 1001)], 206, **{"Content-Range": "0-999/3000"}),
            ok([ticket(3000)]),
        ]
    )
    service.script(LIST, lambda: next(pages, None) or ok([]))
    async with signed_in(service) as jt:
        await jt.tickets.fetch_all()
    found = facts(only(spans, "jamestronic.tickets.fetch_all"))
    assert found["jamestronic.requests"] == len(service.seen(LIST)) > 3


async def test_another_operation_on_the_way_is_a_child(
    service: Service, spans: InMemorySpanExporter, reader: InMemoryMetricReader
) -> None:
    before = total(reader, "jamestronic.client.token_refreshes")
    service.script(LIST, lambda: api_error(401, "PGRST303", "JWT expired"), lambda: ok([]))
    service.script(TOKEN, lambda: ok(session("access-1")), lambda: ok(session("access-2")))
    with trace.get_tracer("program").start_as_current_span("program") as outermost:
        async with signed_in(service) as jt:
            await jt.tickets.list()
    read, refresh = only(spans, "jamestronic.tickets.list"), only(spans, "jamestronic.auth.refresh")
    assert read.parent is not None
    assert refresh.parent is not None
    assert read.parent.span_id == outermost.get_span_context().span_id
    assert refresh.parent.span_id == read.context.span_id
    assert total(reader, "jamestronic.client.token_refreshes") == before + 1


async def test_a_refused_renewal_says_so(service: Service, reader: InMemoryMetricReader) -> None:
    name, kind = "jamestronic.client.token_refreshes", {"error__type": "SessionExpiredError"}
    before = total(reader, name, **kind)
    service.script(LIST, lambda: api_error(401, "PGRST303", "JWT expired"))
    service.script(TOKEN, lambda: ok(session()), lambda: auth_error(400, "refresh_token_not_found"))
    async with signed_in(service) as jt:
        with pytest.raises(Exception, match="ended on the server"):
            await jt.tickets.list()
    assert total(reader, name, **kind) == before + 1


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (
            lambda: api_error(409, "PT409", f"conflict {SECRET}", details=f'{{"x": "{SECRET}"}}'),
            ConflictError,
            {"http.response.status_code": 409, "db.response.status_code": "PT409"},
        ),
        (lambda: api_error(403, "42501", SECRET), PermissionDeniedError, {"http.response.status_code": 403}),
        (lambda: api_error(500, None, SECRET), ServerError, {"http.response.status_code": 500}),
        (lambda: hang_up, ConnectionFailedError, {}),
    ],
)
async def test_a_failure_is_told_by_class_status_and_code(  # noqa: PLR0917 - a table
    service: Service,
    spans: InMemorySpanExporter,
    reader: InMemoryMetricReader,
    answer: Any,
    error: type[Exception],
    said: dict[str, object],
) -> None:
    service.script(ASSIGN, answer)
    async with signed_in(service, retries=0) as jt:
        with pytest.raises(error) as caught:
            await jt.tickets.assign(TICKET, TICKET)
    span = only(spans, "jamestronic.tickets.assign")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert span.events == ()
    assert facts(span)["error.type"] == error.__name__
    assert said.items() <= facts(span).items()
    assert facts(span)["jamestronic.request_id"] == caught.value.request_id  # type: ignore[attr-defined]
    assert SECRET not in span.to_json()
    duration = {"jamestronic__operation": "tickets.assign", "error__type": error.__name__}
    assert total(reader, "jamestronic.client.operation.duration", **duration) >= 1


async def test_a_cancelled_operation_ends_its_span(service: Service, spans: InMemorySpanExporter) -> None:
    released = asyncio.Event()
    service.script(LIST, lambda: never(released))
    async with signed_in(service) as jt:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(jt.tickets.list())
            while not service.seen(LIST):  # noqa: ASYNC110 - a condition of the server's
                await asyncio.sleep(0.001)
            task.cancel()
        released.set()
    assert facts(only(spans, "jamestronic.tickets.list"))["error.type"] == "CancelledError"


async def test_what_is_refused_before_the_network_is_no_operation(
    service: Service, spans: InMemorySpanExporter
) -> None:
    async with signed_in(service) as jt:
        spans.clear()
        with pytest.raises(InvalidInputError):
            await jt.tickets.get("no id")
    assert spans.get_finished_spans() == ()


async def test_durations_are_seconds(service: Service, reader: InMemoryMetricReader) -> None:
    async with signed_in(service) as jt:
        await jt.tickets.list(limit=3)
    (point, *_) = points(
        reader,
        "jamestronic.client.operation.duration",
        jamestronic__operation="tickets.list",
        http__response__status_code=200,
    )
    # Other tests report to the same reader, some with clocks that stand still.
    assert 0 < point.max < 60
    assert point.max <= point.sum
    assert point.explicit_bounds[0] == 0.005


# -- request ids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"sb-request-id": "gateway-1", "x-request-id": "proxy-1"}, "gateway-1"),
        ({"x-request-id": "proxy-1"}, "proxy-1"),
        ({"cf-ray": "8f00-FRA"}, "8f00-FRA"),
        ({"x-request-id": f"<b>{SECRET}</b>"}, None),
        ({}, None),
    ],
)
async def test_an_error_names_the_gateways_id_or_ours(
    service: Service, headers: dict[str, str], expected: str | None
) -> None:
    service.script(LIST, lambda: ok({"message": "no"}, 404, **headers))
    async with signed_in(service) as jt:
        with pytest.raises(NotFoundError) as caught:
            await jt.tickets.list()
    assert caught.value.request_id == (expected or service.seen(LIST)[0].headers["x-request-id"])


async def test_errors_of_auth_have_ids_and_waits_too(service: Service) -> None:
    def refused() -> Any:
        answer = auth_error(429, "over_request_rate_limit")
        answer.headers.update({"sb-request-id": "gateway-2", "Retry-After": "7"})
        return answer

    async with client(service, retries=0) as jt:
        service.script(TOKEN, lambda: auth_error(400, "invalid_credentials"), refused)
        with pytest.raises(InvalidCredentialsError) as wrong:
            await jt.auth.sign_in(email="ada@example.test", password="x")
        with pytest.raises(RateLimitedError) as limited:
            await jt.auth.sign_in(email="ada@example.test", password="x")
    assert wrong.value.request_id == service.seen(TOKEN)[0].headers["x-request-id"]
    assert (limited.value.request_id, limited.value.retry_after) == ("gateway-2", 7.0)


async def test_an_error_without_an_answer_names_what_was_sent(service: Service) -> None:
    released = asyncio.Event()
    service.script(LIST, lambda: never(released))
    async with signed_in(service, timeout=0.1, retries=0) as jt:
        with pytest.raises(RequestTimeoutError) as caught:
            await jt.tickets.list()
        released.set()
    assert caught.value.request_id == service.seen(LIST)[0].headers["x-request-id"]


async def test_each_call_has_its_own_id(service: Service) -> None:
    async with signed_in(service) as jt:
        for _ in range(3):
            await jt.tickets.list()
        await jt._raw.table("tickets").select("*").execute()
    ids = [request.headers.get("x-request-id", "") for request in service.seen(LIST)]
    assert len(set(ids[:3])) == 3
    assert all(ID.fullmatch(one) for one in ids[:3])
    assert ids[3] == ""  # the raw client is the program's own


# -- stores --------------------------------------------------------------------------------------------


async def test_a_stores_reads_events_and_counters(
    spans: InMemorySpanExporter, reader: InMemoryMetricReader
) -> None:
    clock = ManualClock()
    # Stores of other tests report to the same reader, but none has this view.
    telemetry = StoreTelemetry("warehouse", clock)
    with telemetry.reconcile("sync") as read:
        clock.advance(0.25)
        read.rows = 3
    with pytest.raises(KeyError), telemetry.reconcile("digest"):
        raise KeyError(SECRET)
    telemetry.count("gaps", 2)
    telemetry.event("TicketAssigned", "realtime", 0.02)
    telemetry.event("TicketAssigned", "poll", None)

    good, bad = spans.get_finished_spans()
    assert {one.name for one in (good, bad)} == {"jamestronic.store.reconcile"}
    assert {one.kind for one in (good, bad)} == {SpanKind.INTERNAL}
    view = {"jamestronic.store.view": "warehouse"}
    ours = {"jamestronic__store__view": "warehouse"}
    assert facts(good) == {**view, "jamestronic.store.read": "sync", "jamestronic.store.rows": 3}
    assert facts(bad) == {**view, "jamestronic.store.read": "digest", "error.type": "KeyError"}
    assert SECRET not in bad.to_json()
    (point,) = points(reader, "jamestronic.store.reconcile.duration", jamestronic__store__read="sync", **ours)
    assert (point.count, point.sum) == (1, 0.25)
    assert total(reader, "jamestronic.store.gaps", **ours) == 2
    assert total(reader, "jamestronic.store.events", jamestronic__store__event="TicketAssigned", **ours) == 2
    (point,) = points(reader, "jamestronic.store.event.latency", **ours)
    assert dict(point.attributes) == {**view, "jamestronic.store.source": "realtime"}


# -- without -------------------------------------------------------------------------------------------


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_imports_no_telemetry() -> None:
    code = "import sys, jamestronic_sdk; jamestronic_sdk.JamesTronic; print('opentelemetry' in sys.modules)"
    assert run(code).strip() == "False"


def test_everything_works_without_the_extra() -> None:
    """The API package is hidden; a client, its operations and a store's reports work all the same."""
    code = f"""
import asyncio, sys
for name in ("opentelemetry", "opentelemetry.trace", "opentelemetry.metrics", "opentelemetry.context"):
    sys.modules[name] = None
from jamestronic_sdk import ConnectionFailedError, JamesTronic
from jamestronic_sdk._clock import SYSTEM_CLOCK
from jamestronic_sdk._telemetry import StoreTelemetry

async def main():
    async with JamesTronic("http://127.0.0.1:9", {ANON_KEY!r}, env_file=None, retries=1) as jt:
        try:
            await jt.auth.sign_in(email="ada@example.test", password="x")
        except ConnectionFailedError as error:
            print(len(error.request_id))
    store = StoreTelemetry("overview", SYSTEM_CLOCK)
    with store.reconcile("full"):
        store.count("reads")
        store.event("TicketCreated", "poll", 1.0)

asyncio.run(main())
"""
    assert run(code).strip() == "32"


def test_loggers_are_ours_and_have_no_handlers() -> None:
    code = """
import logging, pkgutil, importlib, jamestronic_sdk
for module in pkgutil.walk_packages(jamestronic_sdk.__path__, "jamestronic_sdk."):
    if ".local" not in module.name and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
ours = {n: one for n, one in logging.root.manager.loggerDict.items() if n.startswith("jamestronic_sdk")}
made = [one for one in ours.values() if isinstance(one, logging.Logger)]
print(sorted(one.name for one in made))
print([one.name for one in [logging.root, *made] if one.handlers or (one is not logging.root and one.level)])
"""
    names, handled = run(code).splitlines()
    assert "jamestronic_sdk.auth" in names
    assert "jamestronic_sdk.http" in names
    assert handled == "[]"
    assert logging.getLogger("jamestronic_sdk").handlers == []


def test_the_page_names_every_span_attribute_and_instrument() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "observability.md").read_text()
    source = Path(str(jamestronic_sdk.__file__)).with_name("_telemetry.py").read_text()
    names = set(re.findall(r'"((?:jamestronic|http|db|server|error)\.[a-z_.]+)"', source))
    assert len(names) > 15
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_the_pages_setup_works() -> None:
    (setup,) = re.findall(
        r"^```python\n(.*?)^```",
        (Path(__file__).parents[2] / "docs" / "observability.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    code = f"""
import asyncio
from jamestronic_sdk import ConnectionFailedError, JamesTronic
{setup}
async def main():
    async with JamesTronic("http://127.0.0.1:9", {ANON_KEY!r}, env_file=None, retries=0) as jt:
        try:
            await jt.auth.sign_in(email="ada@example.test", password="x")
        except ConnectionFailedError:
            pass

asyncio.run(main())
tracing.shutdown()
"""
    told = run(code)
    assert '"name": "jamestronic.auth.sign_in"' in told
    assert '"error.type": "ConnectionFailedError"' in told
    assert "ada@" not in told
