"""Auth against a real HTTP server: who gets in, when the token is renewed, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from aiohttp import web
from client_support import (
    ANON_KEY,
    PROFILE,
    SERVICE_KEY,
    USER,
    ManualClock,
    Service,
    api_error,
    auth_error,
    client,
    hang_up,
    never,
    ok,
    profile,
    serving,
    session,
    signed_in,
    ticket,
)

from jamestronic_sdk import (
    ClientClosedError,
    ConnectionFailedError,
    DataError,
    InactiveProfileError,
    InvalidCredentialsError,
    InvalidInputError,
    JamesTronic,
    JamesTronicError,
    NoProfileError,
    NotSignedInError,
    PermissionDeniedError,
    RateLimitedError,
    RequestTimeoutError,
    Role,
    SchemaMissingError,
    ServerError,
    SessionExpiredError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOKEN = "POST /auth/v1/token"
LOGOUT = "POST /auth/v1/logout"
PROFILES = "GET /rest/v1/profiles"
TICKETS = "GET /rest/v1/tickets"


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as running:
        running.script(TICKETS, lambda: ok([ticket()]))
        yield running


async def sign_in(jt: JamesTronic) -> None:
    await jt.auth.sign_in(email="ada@example.test", password="correct horse")


async def test_sign_in_loads_who_it_is(service: Service) -> None:
    async with client(service) as jt:
        me = await jt.auth.sign_in(email="  ada@example.test ", password="correct horse")
        assert me == jt.auth.me
        assert (me.user_id, me.profile_id, me.role) == (UUID(USER), UUID(PROFILE), Role.TECHNICIAN)
        assert jt.profiles.me == me.profile
        assert jt.auth.is_signed_in
    (token,) = service.seen(TOKEN)
    assert token.query == {"grant_type": "password"}
    assert token.body["email"] == "ada@example.test"
    assert token.headers["authorization"] == f"Bearer {ANON_KEY}"
    (profiles,) = service.seen(PROFILES)
    assert profiles.headers["authorization"] == "Bearer access-1"
    assert profiles.headers["apikey"] == ANON_KEY
    assert profiles.query["user_id"] == f"eq.{USER}"


async def test_requests_carry_the_token(service: Service) -> None:
    async with signed_in(service) as jt:
        await jt.tickets.list()
        assert service.seen(TICKETS)[0].headers["authorization"] == "Bearer access-1"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda: auth_error(400, "invalid_credentials"), InvalidCredentialsError),
        (lambda: auth_error(400, "email_not_confirmed"), InvalidCredentialsError),
        (lambda: auth_error(400, "user_banned"), InvalidCredentialsError),
        (lambda: auth_error(429, "over_request_rate_limit"), RateLimitedError),
        (lambda: web.json_response({"message": "Invalid API key"}, status=401), PermissionDeniedError),
        (lambda: web.Response(status=502, text="<html>bad gateway"), ServerError),
        (lambda: web.Response(status=500, text="<html>oops"), ServerError),
        (lambda: web.Response(status=404, text="<html>no such page"), JamesTronicError),
        (lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"}), JamesTronicError),
        (lambda: ok({"hello": "world"}), DataError),
        (lambda: web.Response(text="not json"), DataError),
        (lambda: ok({**session(), "expires_in": "soon"}), DataError),
        (lambda: hang_up, ConnectionFailedError),
    ],
)
async def test_refusals_are_typed_and_leave_nobody_signed_in(
    service: Service, answer: object, expected: type[Exception]
) -> None:
    service.script(TOKEN, answer)  # type: ignore[arg-type]
    async with client(service) as jt:
        with pytest.raises(expected) as caught:
            await sign_in(jt)
        assert isinstance(caught.value, JamesTronicError)
        assert not jt.auth.is_signed_in
        with pytest.raises(NotSignedInError):
            await jt.tickets.list()


async def test_a_password_is_not_sent_twice(service: Service) -> None:
    """Sign-in is not replayable: the lost answer may have opened a session."""
    service.script(TOKEN, lambda: hang_up)
    async with client(service) as jt:
        with pytest.raises(ConnectionFailedError):
            await sign_in(jt)
    assert len(service.seen(TOKEN)) == 1


async def test_unreachable_server() -> None:
    async with serving() as gone:
        pass
    async with client(gone) as jt:
        with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:\d+ can't be reached") as caught:
            await sign_in(jt)
    assert caught.value.maybe_sent is False
    assert "SUPABASE_URL" in str(caught.value)


async def test_time_out(service: Service) -> None:
    released = asyncio.Event()
    service.script(TOKEN, lambda: never(released))
    async with client(service, timeout=0.05) as jt:
        with pytest.raises(RequestTimeoutError):
            await sign_in(jt)
    released.set()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([], NoProfileError), ([profile(is_active=False)], InactiveProfileError), ([{"id": 1}], DataError)],
)
async def test_without_an_active_profile_the_sign_in_is_undone(
    service: Service, rows: list[object], expected: type[Exception]
) -> None:
    service.script(PROFILES, lambda: ok(rows))
    async with client(service) as jt:
        told: list[str | None] = []
        jt.auth.on_token(told.append)
        with pytest.raises(expected):
            await sign_in(jt)
        assert not jt.auth.is_signed_in
        assert told == []
        (logout,) = service.seen(LOGOUT)
        assert logout.query == {"scope": "local"}
        assert logout.headers["authorization"] == "Bearer access-1"


async def test_a_database_without_the_sql(service: Service) -> None:
    service.script(PROFILES, lambda: api_error(404, "42P01", 'relation "public.profiles" does not exist'))
    async with client(service) as jt:
        with pytest.raises(SchemaMissingError, match=r"supabase/sql/010_schema\.sql"):
            await sign_in(jt)
        assert not jt.auth.is_signed_in


async def test_undoing_survives_a_dead_server(service: Service) -> None:
    service.script(PROFILES, lambda: ok([]))
    service.script(LOGOUT, lambda: hang_up)
    async with client(service) as jt:
        with pytest.raises(NoProfileError):
            await sign_in(jt)


async def test_a_wrong_password_keeps_who_was_signed_in(service: Service) -> None:
    async with signed_in(service) as jt:
        service.script(TOKEN, lambda: auth_error(400, "invalid_credentials"))
        with pytest.raises(InvalidCredentialsError):
            await sign_in(jt)
        assert jt.auth.is_signed_in


@pytest.mark.parametrize(
    ("user_id", "expected"), [(USER, ["access-2"]), (str(UUID(int=2)), [None, "access-2"])]
)
async def test_another_person_is_told_as_a_sign_out_and_the_same_one_is_not(
    service: Service, user_id: str, expected: list[str | None]
) -> None:
    async with signed_in(service) as jt:
        told: list[str | None] = []
        jt.auth.on_token(told.append)
        answer = session("access-2", user_id=user_id)
        service.script(TOKEN, lambda: ok(answer))
        await sign_in(jt)
        assert told == expected


async def test_a_refused_profile_keeps_who_was_signed_in(service: Service) -> None:
    async with signed_in(service) as jt:
        told: list[str | None] = []
        jt.auth.on_token(told.append)
        service.script(PROFILES, lambda: ok([]))
        with pytest.raises(NoProfileError):
            await sign_in(jt)
        assert told == []
        assert len(service.seen(LOGOUT)) == 1
        assert len(await jt.tickets.list()) == 1


@pytest.mark.parametrize(
    ("email", "password"),
    [("", "x"), ("  ", "x"), ("a@b.c", ""), (None, "x"), ("a@b.c", 5), ("a@b.c", "x\x00"), ("a" * 400, "x")],
)
async def test_malformed_arguments_send_nothing(service: Service, email: object, password: object) -> None:
    async with client(service) as jt:
        with pytest.raises(InvalidInputError):
            await jt.auth.sign_in(email=email, password=password)  # type: ignore[arg-type]
    assert service.requests == []


@pytest.mark.parametrize("scope", ["local", "global"])
async def test_sign_out(service: Service, scope: str) -> None:
    async with signed_in(service) as jt:
        told: list[str | None] = []
        jt.auth.on_token(told.append)
        await jt.auth.sign_out(scope)  # type: ignore[arg-type]
        await jt.auth.sign_out(scope)  # type: ignore[arg-type]
        assert [one.query for one in service.seen(LOGOUT)] == [{"scope": scope}]
        assert told == [None]
        with pytest.raises(NotSignedInError):
            await jt.tickets.list()


async def test_sign_out_of_others_keeps_this_session(service: Service) -> None:
    async with signed_in(service) as jt:
        await jt.auth.sign_out("others")
        assert jt.auth.is_signed_in
        with pytest.raises(InvalidInputError):
            await jt.auth.sign_out("everywhere")  # type: ignore[arg-type]


async def test_a_session_that_is_gone_counts_as_signed_out(service: Service) -> None:
    async with signed_in(service) as jt:
        service.script(LOGOUT, lambda: auth_error(403, "session_not_found"))
        await jt.auth.sign_out()
        assert not jt.auth.is_signed_in


async def test_sign_out_without_a_server_signs_out_here_and_says_so(service: Service) -> None:
    async with signed_in(service) as jt:
        service.script(LOGOUT, lambda: hang_up)
        with pytest.raises(ConnectionFailedError):
            await jt.auth.sign_out()
        assert not jt.auth.is_signed_in


# -- renewal -----------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def refreshes(service: Service) -> int:
    return len([one for one in service.seen(TOKEN) if one.query == {"grant_type": "refresh_token"}])


async def test_many_callers_share_one_renewal(service: Service, clock: ManualClock) -> None:
    async with signed_in(service, clock=clock) as jt:
        service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
        told: list[str | None] = []
        jt.auth.on_token(told.append)
        clock.time += 3600 - 20  # without waking the watchdog
        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(jt.tickets.list())
        assert refreshes(service) == 1
        assert service.seen(TOKEN)[0].body == {"refresh_token": "refresh-1"}
        assert {one.headers["authorization"] for one in service.seen(TICKETS)} == {"Bearer access-2"}
        assert told == ["access-2"]


async def test_access_token_is_fresh_for_half_a_minute(service: Service, clock: ManualClock) -> None:
    async with signed_in(service, clock=clock) as jt:
        service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
        clock.time += 3600 - 31
        assert await jt.auth.access_token() == "access-1"
        clock.time += 2
        assert await jt.auth.access_token() == "access-2"


async def test_the_watchdog_renews_ahead(service: Service, clock: ManualClock) -> None:
    async with signed_in(service, clock=clock) as jt:
        service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
        told: asyncio.Queue[str | None] = asyncio.Queue()
        jt.auth.on_token(told.put_nowait)
        clock.advance(3600 - 59)
        async with asyncio.timeout(5):
            assert await told.get() == "access-2"
        assert refreshes(service) == 1


async def test_the_watchdog_survives_an_outage(service: Service, clock: ManualClock) -> None:
    async with signed_in(service, clock=clock) as jt:
        service.script(TOKEN, *[lambda: hang_up] * 9, lambda: ok(session("access-2", refresh="refresh-2")))
        told: asyncio.Queue[str | None] = asyncio.Queue()
        jt.auth.on_token(told.put_nowait)
        clock.advance(3600 - 59)
        async with asyncio.timeout(10):
            while told.empty():
                await asyncio.sleep(0.001)
                clock.advance(0.5)
        assert told.get_nowait() == "access-2"


async def test_after_suspend_the_wall_clock_tells(service: Service) -> None:
    class Slept(ManualClock):
        asleep = 0.0

        def wall(self) -> float:
            return super().wall() + self.asleep

    clock = Slept()
    async with signed_in(service, clock=clock) as jt:
        service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
        clock.asleep = 8 * 3600
        assert await jt.auth.access_token() == "access-2"


async def test_a_failed_renewal_keeps_a_token_that_is_still_good(
    service: Service, clock: ManualClock
) -> None:
    async with signed_in(service, clock=clock, retries=0) as jt:
        service.script(TOKEN, lambda: hang_up)
        clock.time += 3600 - 20
        assert await jt.auth.access_token() == "access-1"
        clock.time += 25
        with pytest.raises(ConnectionFailedError):
            await jt.auth.access_token()
        assert jt.auth.is_signed_in
        service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
        assert await jt.auth.access_token() == "access-2"


async def test_waiters_share_a_failure(service: Service, clock: ManualClock) -> None:
    async with signed_in(service, clock=clock, retries=0) as jt:
        service.script(TOKEN, lambda: web.Response(status=503))
        clock.time += 4000
        results = await asyncio.gather(*(jt.tickets.list() for _ in range(50)), return_exceptions=True)
        assert {type(one) for one in results} == {ServerError}
        assert refreshes(service) == 1


@pytest.mark.parametrize(
    "code",
    [
        "refresh_token_not_found",
        "refresh_token_already_used",
        "session_expired",
        "user_banned",
        "validation_failed",
    ],
)
async def test_a_refused_renewal_signs_out_with_the_reason(
    service: Service, clock: ManualClock, code: str
) -> None:
    async with signed_in(service, clock=clock) as jt:
        service.script(TOKEN, lambda: auth_error(400, code))
        told: list[str | None] = []
        jt.auth.on_token(told.append)
        clock.time += 4000
        for _ in range(3):
            with pytest.raises(SessionExpiredError) as caught:
                await jt.tickets.list()
            assert caught.value.code == code
        assert refreshes(service) == 1
        assert told == [None]
        assert not jt.auth.is_signed_in
        service.script(TOKEN, lambda: ok(session("access-3")))
        await sign_in(jt)
        assert await jt.auth.access_token() == "access-3"


async def test_a_captive_portal_signs_nobody_out(service: Service, clock: ManualClock) -> None:
    async with signed_in(service, clock=clock, retries=0) as jt:
        service.script(TOKEN, lambda: web.Response(status=403, text="<html>please pay"))
        clock.time += 4000
        with pytest.raises(PermissionDeniedError):
            await jt.tickets.list()
        assert jt.auth.is_signed_in


async def test_an_expired_token_is_renewed_and_the_request_repeated_once(service: Service) -> None:
    expired = lambda: api_error(401, "PGRST303", "JWT expired")  # noqa: E731 - a scripted answer
    async with signed_in(service) as jt:
        service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
        service.script(TICKETS, expired, lambda: ok([ticket()]))
        assert len(await jt.tickets.list()) == 1
        assert [one.headers["authorization"] for one in service.seen(TICKETS)] == [
            "Bearer access-1",
            "Bearer access-2",
        ]
        service.script(TICKETS, expired)
        service.requests.clear()
        with pytest.raises(SessionExpiredError):
            await jt.tickets.list()
        assert len(service.seen(TICKETS)) == 2


async def test_concurrent_refusals_share_one_renewal(service: Service) -> None:
    """50 requests are refused for the token's age at once; PostgREST 12's code this time."""

    async def by_token(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] == "Bearer access-1":
            return api_error(401, "PGRST301", "JWT expired")
        return ok([ticket()])

    async with signed_in(service) as jt:
        service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
        service.script(TICKETS, lambda: by_token)
        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(jt.tickets.list())
        assert refreshes(service) == 1


async def test_cancelling_the_renewing_caller_does_not_harm_the_others(
    service: Service, clock: ManualClock
) -> None:
    released = asyncio.Event()
    async with signed_in(service, clock=clock) as jt:
        service.script(TOKEN, lambda: never(released), lambda: ok(session("access-2", refresh="refresh-2")))
        clock.time += 4000
        async with asyncio.TaskGroup() as group:
            first = group.create_task(jt.tickets.list())
            async with asyncio.timeout(5):
                while not service.seen(TOKEN):  # noqa: ASYNC110 - the server has no event for it
                    await asyncio.sleep(0.001)
            second = group.create_task(jt.tickets.list())
            await asyncio.sleep(0)
            first.cancel()
        assert first.cancelled()
        assert len(second.result()) == 1
    released.set()


async def test_short_lived_tokens_are_not_renewed_on_every_call(service: Service, clock: ManualClock) -> None:
    service.script(TOKEN, lambda: ok(session(expires_in=30)))
    async with signed_in(service, clock=clock) as jt:
        for _ in range(5):
            await jt.auth.access_token()
        assert refreshes(service) == 0


async def test_a_callback_that_raises_ends_nothing(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def guest(_: str | None) -> None:
        message = "guest"
        raise RuntimeError(message)

    told: list[str | None] = []
    async with client(service) as jt:
        jt.auth.on_token(guest)
        unsubscribe = jt.auth.on_token(told.append)
        await sign_in(jt)
        unsubscribe()
        unsubscribe()
        await jt.auth.sign_out()
    assert told == ["access-1"]
    assert [one.levelno for one in caplog.records if "callback failed" in one.message] == [logging.ERROR] * 2


async def test_reload_me(service: Service) -> None:
    async with signed_in(service) as jt:
        service.script(PROFILES, lambda: ok([profile(role="staff")]))
        assert (await jt.auth.reload_me()).role is Role.STAFF
        assert jt.auth.me.role is Role.STAFF
        service.script(PROFILES, lambda: ok([profile(is_active=False)]))
        with pytest.raises(InactiveProfileError):
            await jt.auth.reload_me()
        assert jt.auth.is_signed_in


async def test_a_service_key_needs_no_sign_in(service: Service) -> None:
    async with client(service, SERVICE_KEY) as jt:
        await jt.tickets.list()
        assert await jt.auth.access_token() == SERVICE_KEY
        assert not jt.auth.is_signed_in
        with pytest.raises(NotSignedInError):
            _ = jt.auth.me
    assert service.seen(TICKETS)[0].headers["authorization"] == f"Bearer {SERVICE_KEY}"


async def test_the_raw_client_speaks_for_the_person(service: Service) -> None:
    async with signed_in(service) as jt:
        await jt._raw.table("tickets").select("*").execute()
        await jt.auth.sign_out()
        await jt._raw.table("tickets").select("*").execute()
    assert [one.headers["authorization"] for one in service.seen(TICKETS)] == [
        "Bearer access-1",
        f"Bearer {ANON_KEY}",
    ]


async def test_a_closed_client_says_so(service: Service) -> None:
    jt = client(service)
    for call in (sign_in(jt), jt.tickets.list(), jt.auth.access_token(), jt.auth.sign_out()):
        with pytest.raises(ClientClosedError, match="async with"):
            await call
    async with jt:
        await sign_in(jt)
    for call in (sign_in(jt), jt.tickets.list(), jt.auth.access_token(), jt.auth.sign_out()):
        with pytest.raises(ClientClosedError, match="closed"):
            await call
    with pytest.raises(ClientClosedError, match="only once"):
        await jt.__aenter__()
    await jt.aclose()


async def test_nothing_of_a_session_is_printed(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="jamestronic_sdk")
    service.script(TOKEN, lambda: ok(session("access-planted", refresh="refresh-planted")))
    shown: list[str] = []
    async with client(service) as jt:
        await jt.auth.sign_in(email="ada@example.test", password="password-planted")
        shown += [repr(jt), repr(jt.auth), repr(jt.auth.me), repr(jt.auth._session), repr(jt._wire)]
        service.script(TICKETS, lambda: api_error(400, "P0001", "access-planted? ada@example.test"))
        service.script(TOKEN, lambda: auth_error(400, "refresh_token_not_found", "refresh-planted"))
        for call in (jt.tickets.list(), jt.auth._renewed(jt.auth._session, "x")):  # type: ignore[arg-type]
            with pytest.raises(JamesTronicError) as caught:
                await call
            shown += [str(caught.value), repr(caught.value)]
    shown += [record.getMessage() + repr(record.__dict__.get("extra")) for record in caplog.records]
    for text in shown:
        for planted in (
            "refresh-planted",
            "password-planted",
            "ada@example.test",
            "Ada Example",
            "+15550100",
        ):
            assert planted not in text
