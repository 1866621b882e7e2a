"""The blocking face: where it refuses to wait, how it ends, and that threads don't disturb each other."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from client_support import ANON_KEY, FAST, SERVICE_KEY, Service, api_error, never, ok, serving, ticket

from jamestronic_sdk import (
    BlockingCallError,
    ClientClosedError,
    InvalidInputError,
    NotFoundError,
    StoreClosedError,
    StoreStatus,
    TicketAssigned,
    View,
)
from jamestronic_sdk.blocking import JamesTronic
from jamestronic_sdk.blocking._portal import _OPEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp import web


@contextmanager
def service_in_a_thread() -> Iterator[Service]:
    started: Future[tuple[Service, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async with serving() as service:
            ended = asyncio.Event()
            started.set_result((service, asyncio.get_running_loop(), ended))
            await ended.wait()

    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(asyncio.run, serve())
        service, loop, ended = started.result(10)
        try:
            yield service
        finally:
            loop.call_soon_threadsafe(ended.set)
            running.result(10)


@pytest.fixture
def service() -> Iterator[Service]:
    with service_in_a_thread() as made:
        made.script("GET /rest/v1/tickets", lambda: ok([ticket()]))
        yield made


def client(service: Service, key: str = ANON_KEY, **options: Any) -> JamesTronic:
    return JamesTronic(service.url, key, env_file=None, **{"retries": FAST, "timeout": 10.0, **options})


@contextmanager
def signed_in(service: Service, **options: Any) -> Iterator[JamesTronic]:
    with client(service, **options) as jt:
        jt.auth.sign_in(email="ada@example.test", password="correct horse")
        yield jt


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.005)


def portal_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("jamestronic-")]


def test_calls_answer_and_nothing_is_left(service: Service) -> None:
    with signed_in(service) as jt:
        assert jt.auth.me.profile.full_name == "Ada Example"
        assert [row.number for row in jt.tickets.list()] == [1001]
        assert jt.is_open
        assert len(portal_threads()) == 1
    assert not jt.is_open
    assert portal_threads() == []


def test_before_and_after_it_is_open(service: Service) -> None:
    jt = client(service, SERVICE_KEY)
    with pytest.raises(ClientClosedError, match="with JamesTronic"):
        jt.tickets.list()
    with jt, pytest.raises(ClientClosedError, match="only once"):
        jt.__enter__()
    jt.close()
    with pytest.raises(ClientClosedError, match="was closed"):
        jt.tickets.list()
    with pytest.raises(ClientClosedError):
        jt.ticket_store(View.overview()).__enter__()
    never_opened = client(service)
    never_opened.close()
    with pytest.raises(ClientClosedError):
        never_opened.__enter__()


def test_a_failed_opening_leaves_no_thread(service: Service) -> None:
    jt = client(service)
    jt._face._core._state = type(jt._face._core._state).CLOSED
    with pytest.raises(ClientClosedError):
        jt.__enter__()
    assert portal_threads() == []


def test_walks_read_page_by_page(service: Service) -> None:
    pages = [[ticket(1003), ticket(1002)], [ticket(1001)], []]
    service.script("GET /rest/v1/tickets", *[lambda page=page: ok(page) for page in pages])
    with signed_in(service) as jt:
        assert [row.number for row in jt.tickets.query()] == [1003, 1002, 1001]
        assert list(jt.tickets.query().pages()) == []
        with pytest.raises(InvalidInputError):
            jt.tickets.query().pages(size=0)


def test_many_threads_share_one_client(service: Service) -> None:
    with signed_in(service) as jt, ThreadPoolExecutor(16) as executor:
        answers = list(executor.map(lambda _: jt.tickets.list(), range(200)))
        quick = jt.with_options(timeout=5.0)
        assert quick.tickets.list() == answers[0]
    assert len(answers) == 200
    assert all(rows == answers[0] for rows in answers)


async def test_on_the_thread_of_a_running_loop(service: Service) -> None:
    with pytest.raises(BlockingCallError, match=r"asyncio\.to_thread"):
        client(service).__enter__()
    jt = await asyncio.to_thread(client(service).__enter__)
    try:
        with pytest.raises(BlockingCallError, match=r"jamestronic_sdk\.JamesTronic"):
            jt.auth.sign_in(email="a@example.test", password="x")
        with pytest.raises(BlockingCallError):
            jt.close()
        assert jt.is_open
        assert await asyncio.to_thread(lambda: jt.auth.sign_in(email="a@example.test", password="x"))
    finally:
        await asyncio.to_thread(jt.close)


def test_inside_a_callback_of_the_clients_own_thread(service: Service) -> None:
    seen: list[BaseException] = []

    def on_token(_: str | None) -> None:
        assert jt.auth.is_signed_in  # reading is possible
        for call in (jt.tickets.list, jt.close):
            try:
                call()
            except BlockingCallError as error:
                seen.append(error)

    with client(service) as jt:
        stop = jt.auth.on_token(on_token)
        jt.auth.sign_in(email="ada@example.test", password="x")
        stop()
        assert jt.tickets.list()
    assert len(seen) == 2
    assert "wait for itself" in str(seen[0])


def _in_the_child(jt: JamesTronic, results: Any) -> None:
    for call in (jt.tickets.list, jt.ticket_store(View.overview()).__enter__):
        try:
            call()
        except BlockingCallError as error:
            results.put(str(error))
    assert jt.auth.is_signed_in  # what was known at the fork can be read
    jt.close()  # the parent's: nothing happens
    results.put("end")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_fork(service: Service) -> None:
    context = multiprocessing.get_context("fork")
    with signed_in(service) as jt:
        results = context.SimpleQueue()
        child = context.Process(target=_in_the_child, args=(jt, results))
        child.start()
        child.join(20)
        assert child.exitcode == 0
        said = [results.get() for _ in range(3)]
        assert "after the fork" in said[0]
        assert "after the fork" in said[1]
        assert said[2] == "end"
        assert jt.tickets.list()


def test_closing_ends_calls_that_wait_in_other_threads(service: Service) -> None:
    released = asyncio.Event()
    arrived = threading.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        arrived.set()
        return await never(released)(request)

    service.script("GET /rest/v1/tickets", lambda: hang)
    with signed_in(service, retries=0) as jt, ThreadPoolExecutor(3) as executor:
        call = executor.submit(jt.tickets.list)
        changes = executor.submit(lambda: list(jt.auth.changes()))
        assert arrived.wait(10)
        until(lambda: bool(jt._face.auth._streams))
        jt.close()
        jt.close()
        assert isinstance(call.exception(10), ClientClosedError)
        assert isinstance(changes.exception(10), ClientClosedError)


def test_an_interrupt_cancels_the_call_and_only_that(service: Service) -> None:
    """Ctrl+C while a call waits: KeyboardInterrupt at once, and the client works on."""
    arrived = threading.Event()
    released = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        arrived.set()
        return await never(released)(request)

    with signed_in(service) as jt:
        service.script("GET /rest/v1/tickets", lambda: hang, lambda: ok([ticket()]))

        def interrupt() -> None:
            assert arrived.wait(10)
            os.kill(os.getpid(), signal.SIGINT)

        # A shell that runs us in the background makes us ignore SIGINT; this is about a program in front.
        inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            other = threading.Thread(target=interrupt)
            other.start()
            with pytest.raises(KeyboardInterrupt):
                jt.tickets.list()
            other.join()
        finally:
            signal.signal(signal.SIGINT, inherited)
        assert jt.tickets.list()


def test_a_forgotten_client_warns_and_does_not_close_itself(service: Service) -> None:
    jt = client(service).__enter__()
    (left,) = _OPEN
    with pytest.warns(ResourceWarning, match="use `with`"):  # noqa: PT031 - one does nothing without the other
        del jt
        gc.collect()
    assert len(portal_threads()) == 1
    left.close()
    _OPEN.remove(left)


def test_errors_keep_their_class(service: Service) -> None:
    service.script("GET /rest/v1/tickets", lambda: ok([]))
    with signed_in(service) as jt, pytest.raises(NotFoundError):
        jt.tickets.get(ticket()["id"])  # type: ignore[arg-type]


class TestStore:
    """Without Realtime (the service answers 418 there) and without ``060_sync.sql`` the store polls whole views."""

    @pytest.fixture
    def jt(self, service: Service) -> Iterator[JamesTronic]:
        service.script("GET /rest/v1/tickets", lambda: ok([ticket()], **{"Content-Range": "0-0/1"}))
        service.script("POST /rest/v1/rpc/sync_tickets", lambda: api_error(404, "PGRST202", "no function"))
        with client(service, SERVICE_KEY) as jt:
            yield jt

    def test_its_picture_and_its_end(self, jt: JamesTronic) -> None:
        with jt.ticket_store() as store:
            assert [row.number for row in store.tickets.values()] == [1001]
            assert store.status in set(StoreStatus)
            assert "overview" in repr(store)
            store.refresh()
            assert store.metrics is not store.metrics
            store.wait_for(lambda seen: len(seen.tickets) == 1)
            assert store.freshness.kind
            assert next(store.statuses()).status == store.status
            with store.events(initial=True) as events:
                assert next(events).ticket.number == 1001
                assert events.merged == 0
            assert list(events) == []
        assert store.status is StoreStatus.CLOSED
        with pytest.raises(StoreClosedError):
            store.refresh()
        with pytest.raises(StoreClosedError):
            store.subscribe(print)
        store.close()

    def test_its_predicate_may_read_and_not_wait(self, jt: JamesTronic) -> None:
        with jt.ticket_store() as store, pytest.raises(BlockingCallError):
            store.wait_for(lambda _: bool(jt.tickets.list()))

    def test_its_callbacks_have_a_thread_and_may_use_the_client(
        self, jt: JamesTronic, service: Service
    ) -> None:
        seen: list[object] = []

        def on_event(event: object) -> None:
            seen.append((event, jt.tickets.list()))
            raise ValueError("a guest's fault")

        with jt.ticket_store() as store:
            tie = store.subscribe(on_event)
            changed = ticket(version=8, assigned_technician_id=ticket()["id"])
            service.script("GET /rest/v1/tickets", lambda: ok([changed], **{"Content-Range": "0-0/1"}))
            store.refresh()
            until(lambda: tie.failures == 1)
            assert tie.is_active
            tie.cancel()
            assert not tie.is_active
            with pytest.raises(InvalidInputError, match="plain function"):
                store.subscribe(_coroutine_function)
        assert len(seen) == 1
        event, _ = seen[0]  # type: ignore[misc]
        assert isinstance(event, TicketAssigned)
        assert portal_threads() == [one for one in portal_threads() if one.name == "jamestronic-sdk"]

    @pytest.mark.parametrize("what", ["store", "client"])
    def test_a_callback_may_close(self, jt: JamesTronic, what: str) -> None:
        go, done = threading.Event(), threading.Event()
        with jt.ticket_store() as store:

            def on_event(_: object) -> None:
                assert go.wait(10)
                (store if what == "store" else jt).close()
                done.set()

            ties = [store.subscribe(on_event, initial=True) for _ in range(3)]
            go.set()
            assert done.wait(10)
            until(lambda: not any(tie.is_active for tie in ties))
        assert store.status is StoreStatus.CLOSED
        until(lambda: not [one for one in portal_threads() if one.name == "jamestronic-subscriber"])

    def test_closing_the_client_closes_it(self, jt: JamesTronic) -> None:
        store = jt.ticket_store().__enter__()
        with ThreadPoolExecutor(1) as executor:
            reader = executor.submit(lambda: list(store.events()))
            until(lambda: bool(store._face._audience._event_streams))
            jt.close()
            assert reader.result(10) == []
        assert portal_threads() == []


async def _coroutine_function(event: object) -> None:
    """Not for this face."""
