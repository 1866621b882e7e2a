"""Tickets against a real HTTP server: what is sent, what is answered, and what is refused before."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from aiohttp import web
from client_support import (
    PROFILE,
    TICKET,
    Service,
    api_error,
    hang_up,
    ok,
    profile,
    serving,
    signed_in,
    ticket,
)

from jamestronic_sdk import (
    BadRequestError,
    ConflictError,
    ConnectionFailedError,
    DataError,
    InvalidInputError,
    JamesTronic,
    NewTicket,
    NotFoundError,
    PermissionDeniedError,
    Profile,
    Role,
    SchemaMissingError,
    ServerError,
    Ticket,
    TicketPatch,
    TicketPriority,
    TicketStatus,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIST = "GET /rest/v1/tickets"
INSERT = "POST /rest/v1/tickets"
PROFILES = "GET /rest/v1/profiles"
MOMENT = datetime(2026, 11, 1, 8, tzinfo=UTC)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as running:
        running.script(LIST, lambda: ok([ticket()]))
        yield running


@pytest.fixture
async def jt(service: Service) -> AsyncIterator[JamesTronic]:
    async with signed_in(service) as client:
        yield client


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, {}),
        ({"status": "open"}, {"status": "eq.open"}),
        ({"status": TicketStatus.WAITING_PARTS}, {"status": "eq.waiting_parts"}),
        ({"status": ["open", TicketStatus.READY, "open"]}, {"status": "in.(open,ready)"}),
        ({"status": 'a,b("c")\\'}, {"status": 'eq.a,b("c")\\'}),
        ({"status": ['a,b("c")\\', "x"]}, {"status": 'in.("a,b(\\"c\\")\\\\",x)'}),
        ({"status": "eq.open&limit=1;drop table"}, {"status": "eq.eq.open&limit=1;drop table"}),
        ({"priority": ("high", "urgent")}, {"priority": "in.(high,urgent)"}),
        ({"technician": PROFILE}, {"assigned_technician_id": f"eq.{PROFILE}"}),
        ({"technician": UUID(PROFILE)}, {"assigned_technician_id": f"eq.{PROFILE}"}),
        ({"technician": Profile.model_validate(profile())}, {"assigned_technician_id": f"eq.{PROFILE}"}),
        ({"customer": PROFILE}, {"customer_id": f"eq.{PROFILE}"}),
        ({"transporter": PROFILE}, {"assigned_transporter_id": f"eq.{PROFILE}"}),
        ({"unassigned": True}, {"assigned_technician_id": "is.null"}),
        ({"unassigned": False}, {"assigned_technician_id": "not.is.null"}),
        ({"status": None, "technician": None, "text": None, "unassigned": None}, {}),
        ({"created_after": MOMENT}, {"created_at": "gte.2026-11-01T08:00:00+00:00"}),
        ({"updated_before": MOMENT}, {"updated_at": "lt.2026-11-01T08:00:00+00:00"}),
        ({"scheduled_after": MOMENT}, {"scheduled_at": "gte.2026-11-01T08:00:00+00:00"}),
    ],
)
async def test_list_filters(
    service: Service, jt: JamesTronic, filters: dict[str, Any], expected: dict[str, str]
) -> None:
    rows = await jt.tickets.list(**filters, limit=5)
    assert [type(row) for row in rows] == [Ticket]
    (sent,) = service.seen(LIST)
    assert sent.query == {"select": "*", **expected, "order": "number.desc", "limit": "5"}


@pytest.mark.parametrize(
    "filters",
    [
        {"status": ""},
        {"status": 5},
        {"status": ["open", None]},
        {"status": "a\x00"},
        {"status": "\ud800"},
        {"status": "x" * 201},
        {"priority": object()},
        {"technician": "nobody"},
        {"technician": 7},
        {"technician": Ticket.model_validate(ticket())},
        {"technician": PROFILE, "unassigned": True},
        {"unassigned": "yes"},
        {"customer": b"x"},
        {"text": ""},
        {"text": 5},
        {"text": "x" * 201},
        {"text": "a\x00"},
        {"created_after": "2026-11-01"},
        {"updated_after": datetime(2026, 11, 1)},  # noqa: DTZ001 - naive on purpose
        {"order": "random"},
        {"order": ["newest"]},
        {"colour": "red"},
        {"limit": 0},
        {"limit": 1001},
        {"limit": "5"},
        {"limit": True},
        {"limit": None},
    ],
)
async def test_malformed_filters_send_nothing(
    service: Service, jt: JamesTronic, filters: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        await jt.tickets.list(**filters)
    assert service.requests == []


async def test_any_of_nothing_is_nothing(service: Service, jt: JamesTronic) -> None:
    assert await jt.tickets.list(status=[]) == []
    assert await jt.tickets.fetch_all(priority=()) == []
    assert service.requests == []


async def test_get(service: Service, jt: JamesTronic) -> None:
    for reference in (TICKET, UUID(TICKET), Ticket.model_validate(ticket()), TICKET.upper()):
        assert (await jt.tickets.get(reference)).id == UUID(TICKET)
    assert {one.query["id"] for one in service.seen(LIST)} == {f"eq.{TICKET}"}


async def test_get_of_what_is_not_there(service: Service, jt: JamesTronic) -> None:
    service.script(LIST, lambda: ok([]))
    with pytest.raises(NotFoundError, match="your role may not see it"):
        await jt.tickets.get(TICKET)


@pytest.mark.parametrize(
    "reference", ["", "1", "x" * 1_000_000, None, 5, b"x", f"{TICKET}' or '1'='1", f"{TICKET}\x00"]
)
async def test_hostile_ids_send_nothing(service: Service, jt: JamesTronic, reference: Any) -> None:
    for call in (
        jt.tickets.get(reference),
        jt.tickets.get_many([reference]),
        jt.tickets.assign(reference, PROFILE),
        jt.tickets.assign(TICKET, reference),
        jt.tickets.unassign(reference),
        jt.tickets.claim(reference),
        jt.tickets.release(reference),
        jt.tickets.set_status(reference, "ready"),
        jt.profiles.get(reference),
    ):
        with pytest.raises(InvalidInputError) as caught:
            await call
        assert len(str(caught.value)) < 200
    assert service.requests == []


async def test_get_many_keeps_the_order_and_splits_long_lists(service: Service, jt: JamesTronic) -> None:
    rows = {str(ticket(n)["id"]): ticket(n) for n in range(2000, 2250)}

    async def some(request: web.Request) -> web.StreamResponse:
        asked = request.query["id"].removeprefix("in.(").removesuffix(")").split(",")
        return ok([rows[one] for one in reversed(asked) if one in rows])

    service.script(LIST, lambda: some)
    wanted = [*rows, TICKET, *list(rows)[:5]]
    answer = await jt.tickets.get_many(wanted)
    assert [str(row.id) for row in answer] == list(rows)
    assert len(service.seen(LIST)) == 3
    assert await jt.tickets.get_many([]) == []
    with pytest.raises(InvalidInputError, match="use get"):
        await jt.tickets.get_many(TICKET)


# -- whole reads -------------------------------------------------------------------------------------


def paged(rows: list[dict[str, object]], *, max_rows: int = 1000) -> Any:
    """A table behind PostgREST: filtered and ordered by number, cut at max_rows, counted when asked."""

    async def page(request: web.Request) -> web.StreamResponse:
        matching = sorted(rows, key=lambda row: int(str(row["number"])))
        if request.query["order"] == "number.desc":
            matching.reverse()
        for term in request.query.getall("number", []):
            operator, _, bound = term.partition(".")
            keep = {"gt": int.__gt__, "lt": int.__lt__, "lte": int.__le__}[operator]
            matching = [row for row in matching if keep(int(str(row["number"])), int(bound))]
        shown = matching[: min(int(request.query["limit"]), max_rows)]
        counted = "count=" in request.headers.get("Prefer", "")
        total = str(len(matching)) if counted else "*"
        headers = {"Content-Range": f"0-{len(shown) - 1}/{total}" if shown else f"*/{total}"}
        return web.json_response(shown, status=206 if counted else 200, headers=headers)

    return lambda: page


@pytest.mark.parametrize(
    ("count", "requests"), [(0, 1), (1, 1), (999, 1), (1000, 3), (1001, 3), (2500, 4), (7000, 14)]
)
async def test_fetch_all_reads_page_by_page(
    service: Service, jt: JamesTronic, count: int, requests: int
) -> None:
    service.script(LIST, paged([ticket(n) for n in range(2000, 2000 + count)]))
    rows = await jt.tickets.fetch_all()
    assert [row.number for row in rows] == list(range(2000, 2000 + count))
    assert len(service.seen(LIST)) <= requests


async def test_fetch_all_of_sparse_numbers(service: Service, jt: JamesTronic) -> None:
    """A technician's tickets lie anywhere among all numbers."""
    numbers = sorted({n * n for n in range(50, 3000)})
    service.script(LIST, paged([ticket(n) for n in numbers]))
    assert [row.number for row in await jt.tickets.fetch_all()] == numbers


@pytest.mark.parametrize("count", [99, 100, 101, 350, 1750])
async def test_fetch_all_notices_a_server_that_cuts_earlier(
    service: Service, jt: JamesTronic, count: int
) -> None:
    """A lower db-max-rows must not look like the end of the table."""
    service.script(LIST, paged([ticket(n) for n in range(2000, 2000 + count)], max_rows=100))
    assert len(await jt.tickets.fetch_all()) == count


async def test_lists_are_walked_by_keyset(service: Service, jt: JamesTronic) -> None:
    table = [ticket(n) for n in range(2000, 2250)]
    service.script(LIST, paged(table))
    for order, expected in (("oldest", list(range(2000, 2250))), ("newest", list(range(2249, 1999, -1)))):
        query = jt.tickets.query(order=order)  # type: ignore[arg-type]
        assert [row.number async for row in query] == expected
        assert [[row.number for row in page] async for page in query.pages(size=100)] == [
            expected[:100],
            expected[100:200],
            expected[200:],
        ]
        assert [row.number for row in await jt.tickets.list(order=order)] == expected[:100]  # type: ignore[arg-type]
    assert len([row async for row in jt.tickets.query(limit=130)]) == 130
    service.script(LIST, lambda: web.json_response([], headers={"Content-Range": "*/250"}))
    assert await jt.tickets.query(limit=3).count() == 250


async def test_a_walk_goes_on_behind_a_server_that_cuts_earlier(service: Service, jt: JamesTronic) -> None:
    service.script(LIST, paged([ticket(n) for n in range(2000, 2250)], max_rows=100))
    assert len([row async for row in jt.tickets.query()]) == 250


async def test_a_walk_is_not_disturbed_by_what_comes_and_goes(service: Service, jt: JamesTronic) -> None:
    table = [ticket(n) for n in range(2000, 2010)]
    service.script(LIST, paged(table))
    seen: list[int] = []
    async for page in jt.tickets.query(order="oldest").pages(size=3):
        seen += [row.number for row in page]
        if len(seen) == 3:
            del table[0:2]
    assert seen == list(range(2000, 2010))


async def test_keyset_by_time_of_update(service: Service, jt: JamesTronic) -> None:
    service.script(LIST, lambda: ok([ticket()]), lambda: ok([]))
    assert len([row async for row in jt.tickets.query(order="recently_updated")]) == 1
    first, second = service.seen(LIST)
    assert first.query["order"] == "updated_at.desc,number.desc"
    moment = '"2026-11-01T09:00:00.123456+00:00"'
    assert second.query["or"] == f"(updated_at.lt.{moment},and(updated_at.eq.{moment},number.lt.1001))"


@pytest.mark.parametrize(
    ("text", "value", "number"),
    [
        ("leak", '"leak"', None),
        ('50% "a*b", (c)', r'"50\\% \\\"a\\*b\\\"\\, \\(c\\)"', None),
        ("JT-1042", r'"JT\\-1042"', 1042),
        ("1042", '"1042"', 1042),
        ("Tür", '"Tür"', None),
    ],
)
async def test_search_text_stays_text(
    service: Service, jt: JamesTronic, text: str, value: str, number: int | None
) -> None:
    await jt.tickets.list(text=text)
    (sent,) = service.seen(LIST)
    columns = ("title", "description", "appliance_type", "appliance_brand", "appliance_model")
    parts = [f"{column}.imatch.{value}" for column in columns]
    parts += [f"number.eq.{number}"] if number else []
    assert sent.query["or"] == f"({','.join(parts)})"


@pytest.mark.parametrize("size", [0, 1001, "5", True])
async def test_malformed_page_sizes(jt: JamesTronic, size: Any) -> None:
    with pytest.raises(InvalidInputError, match="size"):
        jt.tickets.query().pages(size=size)


async def test_a_server_that_does_not_count(service: Service, jt: JamesTronic) -> None:
    with pytest.raises(DataError, match="count"):
        await jt.tickets.query().count()
    assert await jt.tickets.query(status=[]).count() == 0
    assert [row async for row in jt.tickets.query(status=[])] == []
    assert len(service.seen(LIST)) == 1


async def test_fetch_all_is_all_or_nothing(service: Service, jt: JamesTronic) -> None:
    full = [ticket(n) for n in range(2000, 3000)]
    service.script(LIST, lambda: ok(full), lambda: api_error(500, "57014", "statement timeout"))
    with pytest.raises(ServerError):
        await jt.tickets.fetch_all()
    service.script(LIST, lambda: ok([*full[:5], {"id": "?"}]))
    with pytest.raises(DataError, match=r"5\.id"):
        await jt.tickets.fetch_all()


async def test_answers_of_the_wrong_shape(service: Service, jt: JamesTronic) -> None:
    for body in ({"rows": []}, [1], "text", None, [{**ticket(), "created_at": None}]):
        service.script(LIST, lambda body=body: ok(body))
        with pytest.raises(DataError):
            await jt.tickets.list()
    service.script(LIST, lambda: web.Response(text="<html>", content_type="text/html"))
    with pytest.raises(DataError):
        await jt.tickets.list()


# -- writes ------------------------------------------------------------------------------------------


async def test_create(service: Service, jt: JamesTronic) -> None:
    service.script(INSERT, lambda: ok([ticket()], 201))
    made = await jt.tickets.create(title="  Leaks ", priority="high")
    assert made.number == 1001
    await jt.tickets.create(NewTicket(title="Leaks"))
    first, second = service.seen(INSERT)
    assert first.body == {"id": first.body["id"], "title": "Leaks", "priority": "high"}
    assert first.headers["prefer"] == "return=representation"
    assert UUID(first.body["id"]) != UUID(second.body["id"])


async def test_create_after_a_lost_answer_opens_one_ticket(service: Service, jt: JamesTronic) -> None:
    stored: list[dict[str, object]] = []

    async def insert(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        if stored:
            return api_error(409, "23505", 'duplicate key value violates unique constraint "tickets_pkey"')
        stored.append({**ticket(), **body})
        return await hang_up(request)

    service.script(INSERT, lambda: insert)
    service.script(LIST, lambda: ok(stored))
    made = await jt.tickets.create(title="Leaks")
    assert len(service.seen(INSERT)) == 2
    assert str(made.id) == stored[0]["id"]


async def test_other_conflicts_of_create_are_errors(service: Service, jt: JamesTronic) -> None:
    service.script(
        INSERT, lambda: api_error(409, "23503", 'violates foreign key constraint "tickets_customer_id_fkey"')
    )
    with pytest.raises(ConflictError):
        await jt.tickets.create(title="Leaks", customer_id=PROFILE)


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        ((), {}),
        ((), {"title": ""}),
        ((), {"title": "x" * 1_000_000}),
        ((), {"title": "x", "colour": "red"}),
        ((), {"title": "x", "status": "completed"}),
        (({"title": "x"},), {}),
        ((NewTicket(title="x"),), {"title": "y"}),
        (("x",), {}),
    ],
)
async def test_malformed_tickets_send_nothing(
    service: Service, jt: JamesTronic, args: tuple[Any, ...], fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await jt.tickets.create(*args, **fields)
    assert len(str(caught.value)) < 300
    assert service.requests == []


PATCH = "PATCH /rest/v1/tickets"


async def test_update(service: Service, jt: JamesTronic) -> None:
    service.script(PATCH, lambda: ok([ticket(version=8)]))
    assert (await jt.tickets.update(TICKET, title=" New ", scheduled_at=None)).version == 8
    await jt.tickets.update(TICKET, TicketPatch(priority=TicketPriority.LOW), expected_version=7)
    first, second = service.seen(PATCH)
    assert (first.body, first.query["id"]) == ({"title": "New", "scheduled_at": None}, f"eq.{TICKET}")
    assert (second.body, second.query["version"]) == ({"priority": "low"}, "eq.7")


async def test_an_update_that_touches_nothing_says_why(service: Service, jt: JamesTronic) -> None:
    service.script(PATCH, lambda: ok([]))
    with pytest.raises(ConflictError) as caught:
        await jt.tickets.update(TICKET, title="x", expected_version=6)
    assert (caught.value.current_version, caught.value.reason) == (7, "version_conflict")
    with pytest.raises(PermissionDeniedError):
        await jt.tickets.update(TICKET, title="x")
    service.script(LIST, lambda: ok([]))
    with pytest.raises(NotFoundError):
        await jt.tickets.update(TICKET, title="x")


async def test_an_update_is_not_sent_twice(service: Service, jt: JamesTronic) -> None:
    service.script(PATCH, lambda: hang_up)
    with pytest.raises(ConnectionFailedError):
        await jt.tickets.update(TICKET, title="x")
    assert len(service.seen(PATCH)) == 1


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        ((), {}),
        ((), {"status": "ready"}),
        ((), {"assigned_technician_id": PROFILE}),
        ((), {"title": ""}),
        ((), {"title": None}),
        ((), {"title": "x", "expected_version": -1}),
        (({"title": "x"},), {}),
        ((TicketPatch(title="x"),), {"title": "x"}),
        ((NewTicket(title="x"),), {}),
    ],
)
async def test_malformed_updates_send_nothing(
    service: Service, jt: JamesTronic, args: tuple[Any, ...], fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        await jt.tickets.update(TICKET, *args, **fields)
    assert service.requests == []


async def test_a_key_of_the_callers_own(service: Service, jt: JamesTronic) -> None:
    route = "POST /rest/v1/rpc/claim_ticket"
    service.script(route, lambda: ok(ticket()))
    await jt.tickets.claim(TICKET, idempotency_key=PROFILE)
    assert service.seen(route)[0].body["idempotency_key"] == PROFILE
    with pytest.raises(InvalidInputError, match="idempotency_key"):
        await jt.tickets.claim(TICKET, idempotency_key="again")


async def test_an_odd_answer_to_create(service: Service, jt: JamesTronic) -> None:
    service.script(INSERT, lambda: ok([], 201))
    with pytest.raises(DataError, match="one row"):
        await jt.tickets.create(title="x")


COMMANDS: list[tuple[str, str, tuple[Any, ...], dict[str, str]]] = [
    ("assign", "assign_ticket", (PROFILE,), {"technician_id": PROFILE}),
    ("unassign", "unassign_ticket", (), {}),
    ("claim", "claim_ticket", (), {}),
    ("release", "release_ticket", (), {}),
    ("set_status", "set_ticket_status", (TicketStatus.READY,), {"status": "ready"}),
    (
        "schedule_transport",
        "schedule_transport",
        (PROFILE, MOMENT),
        {"transporter_id": PROFILE, "scheduled_at": "2026-11-01T08:00:00+00:00"},
    ),
]


@pytest.mark.parametrize(("method", "function", "args", "body"), COMMANDS)
async def test_commands(
    service: Service,
    jt: JamesTronic,
    *,
    method: str,
    function: str,
    args: tuple[Any, ...],
    body: dict[str, str],
) -> None:
    route = f"POST /rest/v1/rpc/{function}"
    service.script(route, lambda: ok(ticket(version=9)))
    row = await getattr(jt.tickets, method)(TICKET, *args)
    assert row.version == 9
    await getattr(jt.tickets, method)(row, *args, expected_version=9)
    first, second = service.seen(route)
    keys = [UUID(one.body.pop("idempotency_key")) for one in (first, second)]
    assert keys[0] != keys[1]
    assert first.body == {"ticket_id": TICKET, **body}
    assert second.body == {"ticket_id": TICKET, **body, "expected_version": 9}


@pytest.mark.parametrize(("method", "function", "args", "body"), COMMANDS)
async def test_a_repeated_command_keeps_its_key(
    service: Service, jt: JamesTronic, *, method: str, function: str, args: tuple[Any, ...], body: object
) -> None:
    del body
    route = f"POST /rest/v1/rpc/{function}"
    service.script(route, lambda: hang_up, lambda: web.Response(status=502), lambda: ok(ticket()))
    await getattr(jt.tickets, method)(TICKET, *args)
    sent = service.seen(route)
    assert len(sent) == 3
    assert len({one.body["idempotency_key"] for one in sent}) == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            lambda: api_error(
                409, "PT409", "version_conflict", details='{"reason":"version_conflict","current_version":8}'
            ),
            ConflictError,
        ),
        (lambda: api_error(404, "PT404", "ticket_not_found"), NotFoundError),
        (lambda: api_error(403, "PT403", "role_not_allowed"), PermissionDeniedError),
        (lambda: api_error(422, "PT422", "illegal_transition"), BadRequestError),
        (lambda: api_error(404, "PGRST202", "Could not find the function"), SchemaMissingError),
        (lambda: web.json_response({}, status=404), SchemaMissingError),
        (lambda: web.Response(status=204), DataError),
    ],
)
async def test_refused_commands(
    service: Service, jt: JamesTronic, answer: Any, expected: type[Exception]
) -> None:
    service.script("POST /rest/v1/rpc/assign_ticket", answer)
    with pytest.raises(expected) as caught:
        await jt.tickets.assign(TICKET, PROFILE, expected_version=7)
    assert len(service.seen("POST /rest/v1/rpc/assign_ticket")) == 1
    if isinstance(caught.value, SchemaMissingError):
        assert "050_commands.sql" in str(caught.value)
    if isinstance(caught.value, ConflictError):
        assert caught.value.current_version == 8


@pytest.mark.parametrize("version", [-1, 2**63, "7", 7.0, True])
async def test_malformed_versions_send_nothing(service: Service, jt: JamesTronic, version: Any) -> None:
    with pytest.raises(InvalidInputError, match="expected_version"):
        await jt.tickets.claim(TICKET, expected_version=version)
    assert service.requests == []


@pytest.mark.parametrize("moment", [None, "2026-11-01", datetime(2026, 11, 1)])  # noqa: DTZ001 - naive on purpose
async def test_malformed_moments_send_nothing(service: Service, jt: JamesTronic, moment: Any) -> None:
    with pytest.raises(InvalidInputError, match="scheduled_at"):
        await jt.tickets.schedule_transport(TICKET, PROFILE, moment)
    assert service.requests == []


@pytest.mark.parametrize("status", ["", None, 5, "x" * 201, "a\x00"])
async def test_malformed_statuses_send_nothing(service: Service, jt: JamesTronic, status: Any) -> None:
    with pytest.raises(InvalidInputError, match="status"):
        await jt.tickets.set_status(TICKET, status)
    assert service.requests == []


async def test_reads_survive_a_shaky_server(service: Service, jt: JamesTronic) -> None:
    service.script(LIST, lambda: hang_up, lambda: api_error(503, "PGRST001"), lambda: ok([ticket()]))
    assert len(await jt.tickets.list()) == 1
    service.script(LIST, lambda: hang_up)
    with pytest.raises(ConnectionFailedError):
        await jt.tickets.list()


# -- profiles ----------------------------------------------------------------------------------------


async def test_profiles(service: Service, jt: JamesTronic) -> None:
    rows = await jt.profiles.list(role=Role.TECHNICIAN, is_active=True, limit=3)
    assert [row.role for row in rows] == [Role.TECHNICIAN]
    (sent,) = service.seen(PROFILES)
    assert sent.query == {
        "select": "*",
        "role": "eq.technician",
        "is_active": "is.true",
        "order": "full_name.asc,id.asc",
        "limit": "3",
    }
    assert (await jt.profiles.get(rows[0])).id == UUID(PROFILE)
    service.script(PROFILES, lambda: ok([]))
    with pytest.raises(NotFoundError):
        await jt.profiles.get(PROFILE)


@pytest.mark.parametrize("options", [{"role": ""}, {"role": 5}, {"is_active": 1}, {"limit": 0}])
async def test_malformed_profile_filters(service: Service, jt: JamesTronic, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        await jt.profiles.list(**options)
    assert service.requests == []
