"""Notes and any other table against a real HTTP server: what is sent, and what is refused before."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from client_support import TICKET, Service, api_error, hang_up, ok, serving, signed_in
from pydantic import BaseModel

from jamestronic_sdk import (
    ConnectionFailedError,
    DataError,
    InvalidInputError,
    JamesTronic,
    NewNote,
    Note,
    NotFoundError,
    PermissionDeniedError,
    SchemaMissingError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

NOTE = "0b1e7c1e-0000-4000-8000-00000000000a"
READ, INSERT = "GET /rest/v1/ticket_notes", "POST /rest/v1/ticket_notes"
UPDATE, DELETE = "PATCH /rest/v1/ticket_notes", "DELETE /rest/v1/ticket_notes"
PARTS = "GET /rest/v1/parts"


def note(**changes: object) -> dict[str, object]:
    moment = "2026-11-01T08:00:00.000001+00:00"
    return {
        "id": NOTE,
        "ticket_id": TICKET,
        "author_id": None,
        "body": "It hums, says Ada",
        "is_internal": True,
        "created_at": moment,
        "updated_at": moment,
        **changes,
    }


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as running:
        running.script(READ, lambda: ok([note()]))
        running.script(PARTS, lambda: ok([{"id": 1, "name": "belt"}]))
        yield running


@pytest.fixture
async def jt(service: Service) -> AsyncIterator[JamesTronic]:
    async with signed_in(service) as made:
        yield made


class TestNotes:
    async def test_list(self, jt: JamesTronic, service: Service) -> None:
        (read,) = await jt.notes.list(TICKET, is_internal=True, limit=5)
        assert read == Note.model_validate(note())
        await jt.notes.list(TICKET, after=read)
        first, second = (request.query for request in service.seen(READ))
        assert first["ticket_id"] == f"eq.{TICKET}"
        assert first["is_internal"] == "is.true"
        assert (first["order"], first["limit"]) == ("created_at.asc,id.asc", "5")
        assert "or" not in first
        assert second["or"] == (
            '(created_at.gt."2026-11-01T08:00:00.000001+00:00",'
            f'and(created_at.eq."2026-11-01T08:00:00.000001+00:00",id.gt.{NOTE}))'
        )

    async def test_query_goes_on_after_the_last_row(self, jt: JamesTronic, service: Service) -> None:
        service.script(READ, lambda: ok([note()]), lambda: ok([]))
        rows = [one async for one in jt.notes.query(TICKET, author=TICKET, order="newest")]
        assert [one.id for one in rows] == [UUID(NOTE)]
        first, second = (request.query for request in service.seen(READ))
        assert first["author_id"] == first["ticket_id"] == f"eq.{TICKET}"
        assert (first["order"], first["limit"]) == ("created_at.desc,id.desc", "1000")
        assert second["or"].startswith('(created_at.lt."2026-11-01T08:00:00.000001+00:00",and(')

    async def test_query_counts(self, jt: JamesTronic, service: Service) -> None:
        service.script(READ, lambda: ok([note()], 206, **{"Content-Range": "0-0/41"}))
        assert await jt.notes.query(limit=3).count() == 41
        assert service.seen(READ)[0].headers["prefer"] == "count=exact"
        service.script(READ, lambda: ok([note()]))
        with pytest.raises(DataError, match="did not count"):
            await jt.notes.query().count()

    async def test_its_repr_tells_no_content(self, jt: JamesTronic) -> None:
        read = await jt.notes.get(NOTE)
        assert "hums" not in repr(read) + str(read) + repr(NewNote(body="It hums"))

    async def test_get(self, jt: JamesTronic, service: Service) -> None:
        assert (await jt.notes.get(UUID(NOTE))).id == UUID(NOTE)
        service.script(READ, lambda: ok([]))
        with pytest.raises(NotFoundError):
            await jt.notes.get(NOTE)

    async def test_create_is_repeated_and_written_once(self, jt: JamesTronic, service: Service) -> None:
        """The first answer is lost; the repeat meets its own key, and the row is read."""
        service.script(
            INSERT,
            lambda: hang_up,
            lambda: api_error(409, "23505", 'duplicate key value violates "ticket_notes_pkey"'),
        )
        made = await jt.notes.create(TICKET, body=" It hums ", is_internal=True)
        assert made.id == UUID(NOTE)
        sent = [request.body for request in service.seen(INSERT)]
        assert sent[0] == sent[1]
        assert {name: value for name, value in sent[0].items() if name != "id"} == {
            "ticket_id": TICKET,
            "body": "It hums",
            "is_internal": True,
        }
        assert service.seen(READ)[-1].query["id"] == f"eq.{sent[0]['id']}"

    async def test_update_sends_what_was_given(self, jt: JamesTronic, service: Service) -> None:
        service.script(UPDATE, lambda: ok([note(body="x")]))
        assert (await jt.notes.update(NOTE, body="x")).body == "x"
        await jt.notes.update(NOTE, is_internal=False)
        assert [request.body for request in service.seen(UPDATE)] == [{"body": "x"}, {"is_internal": False}]

    async def test_what_is_not_yours_is_refused(self, jt: JamesTronic, service: Service) -> None:
        service.script(UPDATE, lambda: ok([]))
        service.script(DELETE, lambda: ok([]))
        with pytest.raises(PermissionDeniedError):
            await jt.notes.update(NOTE, body="x")
        with pytest.raises(PermissionDeniedError):
            await jt.notes.delete(NOTE)
        service.script(READ, lambda: ok([]))
        with pytest.raises(NotFoundError):
            await jt.notes.delete(NOTE)

    @pytest.mark.parametrize(
        "call",
        [
            lambda jt: jt.notes.list("no id"),
            lambda jt: jt.notes.list(TICKET, limit=0),
            lambda jt: jt.notes.list(TICKET, after=TICKET),
            lambda jt: jt.notes.list(TICKET, is_internal="yes"),
            lambda jt: jt.notes.query(5).count(),
            lambda jt: jt.notes.query(author="x").count(),
            lambda jt: jt.notes.query(is_internal=1).count(),
            lambda jt: jt.notes.query(order="random").count(),
            lambda jt: jt.notes.query(limit=0).count(),
            lambda jt: jt.notes.get(5),
            lambda jt: jt.notes.create(TICKET),
            lambda jt: jt.notes.create(TICKET, body="  "),
            lambda jt: jt.notes.create(TICKET, body="a\x00b"),
            lambda jt: jt.notes.create(TICKET, body="x" * 10_001),
            lambda jt: jt.notes.create(TICKET, body="x", author_id=TICKET),
            lambda jt: jt.notes.create(TICKET, NewNote(body="x"), body="y"),
            lambda jt: jt.notes.create(TICKET, "x"),
            lambda jt: jt.notes.update(NOTE),
            lambda jt: jt.notes.update(NOTE, body=""),
            lambda jt: jt.notes.delete("x"),
        ],
    )
    async def test_bad_input_is_refused_before_the_network(
        self, jt: JamesTronic, service: Service, call: Callable[[JamesTronic], Any]
    ) -> None:
        with pytest.raises(InvalidInputError):
            await call(jt)
        assert service.requests == []


class Part(BaseModel):
    id: int
    name: str


class TestTables:
    async def test_rows_are_asked_for(self, jt: JamesTronic, service: Service) -> None:
        table = (
            jt.table("parts")
            .where("name", "in", ['a,"b"', "c)"])
            .where("price", "lt", 5)
            .where("made", "gte", date(2026, 1, 2))
            .where("seen", "eq", datetime(2026, 1, 2, tzinfo=UTC))
            .where("gone", "is", None)
            .where("sold", "is_not", True)
            .where("kind", "not_in", [1, 2])
            .order("name")
            .order("id", descending=True)
        )
        assert await table.limit(7).select("id, name") == [{"id": 1, "name": "belt"}]
        (request,) = service.seen(PARTS)
        assert request.query == {
            "select": "id,name",
            "name": 'in.("a,\\"b\\"","c)")',
            "price": "lt.5",
            "made": "gte.2026-01-02",
            "seen": "eq.2026-01-02T00:00:00+00:00",
            "gone": "is.null",
            "sold": "not.is.true",
            "kind": 'not.in.("1","2")',
            "order": "name.asc,id.desc",
            "limit": "7",
        }

    async def test_rows_are_validated(self, jt: JamesTronic) -> None:
        assert await jt.table("parts").select_as(Part) == [Part(id=1, name="belt")]

        class Other(BaseModel):
            weight: float

        with pytest.raises(DataError):
            await jt.table("parts").select_as(Other)

    async def test_count(self, jt: JamesTronic, service: Service) -> None:
        service.script(PARTS, lambda: ok([{}], **{"Content-Range": "0-0/573"}))
        assert await jt.table("parts").where("name", "eq", "").count() == 573
        assert service.seen(PARTS)[0].query["name"] == "eq."

    async def test_writes(self, jt: JamesTronic, service: Service) -> None:
        for method in ("POST", "PATCH", "DELETE"):
            service.script(f"{method} /rest/v1/parts", lambda: ok([{"id": 1}]))
        table = jt.table("parts")
        assert await table.insert({"id": UUID(NOTE), "when": date(2026, 1, 2)}) == [{"id": 1}]
        await table.insert([{"id": 1}, {"id": 2}])
        await table.where("id", "eq", 1).update({"name": None})
        await table.where("id", "eq", 1).delete()
        assert [request.body for request in service.requests] == [
            [{"id": NOTE, "when": "2026-01-02"}],
            [{"id": 1}, {"id": 2}],
            {"name": None},
            {},
        ]
        assert [request.query.get("id") for request in service.requests[2:]] == ["eq.1", "eq.1"]

    async def test_writes_are_repeated_only_when_twice_is_once(
        self, jt: JamesTronic, service: Service
    ) -> None:
        service.script("POST /rest/v1/parts", lambda: hang_up, lambda: ok([{"id": 1}]))
        with pytest.raises(ConnectionFailedError) as caught:
            await jt.table("parts").insert({"id": 1})
        assert caught.value.maybe_sent
        service.script("POST /rest/v1/parts", lambda: hang_up, lambda: ok([{"id": 1}]))
        assert await jt.table("parts").insert({"id": 1}, idempotent=True) == [{"id": 1}]

    async def test_a_missing_table(self, jt: JamesTronic, service: Service) -> None:
        service.script(PARTS, lambda: api_error(404, "42P01", 'relation "public.parts" does not exist'))
        with pytest.raises(SchemaMissingError):
            await jt.table("parts").select()

    @pytest.mark.parametrize(
        "call",
        [
            lambda jt: jt.table("parts; drop table parts"),
            lambda jt: jt.table(""),
            lambda jt: jt.table(5),
            lambda jt: jt.table("parts").where("a.b", "eq", 1),
            lambda jt: jt.table("parts").where("a", "or", 1),
            lambda jt: jt.table("parts").where("a", "eq", None),
            lambda jt: jt.table("parts").where("a", "eq", [1]),
            lambda jt: jt.table("parts").where("a", "eq", float("nan")),
            lambda jt: jt.table("parts").where("a", "eq", "a\x00"),
            lambda jt: jt.table("parts").where("a", "eq", "x" * 1_000_000),
            lambda jt: jt.table("parts").where("a", "in", "text"),
            lambda jt: jt.table("parts").where("a", "in", ["x" * 3000, "y" * 3000]),
            lambda jt: jt.table("parts").where("a", "is", 1),
            lambda jt: jt.table("parts").where("a", "eq", datetime(2026, 1, 1)),  # noqa: DTZ001 - that it is refused
            lambda jt: jt.table("parts").order("a desc"),
            lambda jt: jt.table("parts").limit(0),
            lambda jt: jt.table("parts").select(""),
            lambda jt: jt.table("parts").select_as(dict),
            lambda jt: jt.table("parts").insert([]),
            lambda jt: jt.table("parts").insert(5),
            lambda jt: jt.table("parts").insert({"a": object()}),
            lambda jt: jt.table("parts").insert({"a": float("inf")}),
            lambda jt: jt.table("parts").limit(1).insert({"a": 1}),
            lambda jt: jt.table("parts").update({"a": 1}),
            lambda jt: jt.table("parts").where("a", "eq", 1).update({}),
            lambda jt: jt.table("parts").where("a", "eq", 1).limit(1).update({"a": 2}),
            lambda jt: jt.table("parts").delete(),
        ],
    )
    async def test_bad_input_is_refused_before_the_network(
        self, jt: JamesTronic, service: Service, call: Callable[[JamesTronic], Any]
    ) -> None:
        with pytest.raises(InvalidInputError):
            await call(jt)
        assert service.requests == []


async def test_conditions_longer_than_any_address_are_refused(jt: JamesTronic, service: Service) -> None:
    """Each is short enough; all together they are longer than what httpx sends."""
    table = jt.table("parts")
    for _ in range(20):
        table = table.where("name", "neq", "x" * 4000)
    with pytest.raises(InvalidInputError, match="too long, all together"):
        await table.select()
    with pytest.raises(InvalidInputError, match="too long, all together"):
        await jt.tickets.list(status=[f"{n:0200d}" for n in range(400)])
    assert service.seen(PARTS) == []
