"""Whatever a text holds, it arrives, is found again, and stays text: through every door of the client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from client_people import Shop, open_shop

from jamestronic_sdk import ApiError, AuthenticationError, BadRequestError, JamesTronicError, Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from project import Project

HOSTILE = {
    "sql": "'; drop table public.tickets; --",
    "sql comment": "x'/**/or/**/1=1--",
    "operator": "eq.1",
    "or group": "or=(id.not.is.null)",
    "nested group": "and(id.eq.1,or(a.is.null,b.gt.2))",
    "comma": "a,b,,c",
    "quotes": '"a" \'b\' `c` ,"',
    "parentheses": "((a)) )(",
    "braces": '{"a": [1, {}]}',
    "backslashes": "\\ \\\\ \\n \\u0000 \\",
    "wildcards": "100% _ * ? [a-z] ^$ .* %25",
    "address": "a&b=c#d?e=f;g/h://i@j:k%00%2e%2e",
    "header": "a\r\nX-Injected: yes\r\n\r\nbody",
    "control": "\x01\x02\x07\x1b[31m\x7f\t",
    "unicode": "Ünï ☃ \U0001d54f \u200b\u202e \ufeff e\u0301 ﷺ \U0010ffff",
    "null word": "null",
    "boolean word": "true",
    "number word": "1e309",
    "spaces inside": "a  b\tc\nd",
}


@pytest.fixture
async def shop(project: Project) -> AsyncIterator[Shop]:
    async with open_shop(project) as opened:
        yield opened


def printable(text: str) -> str:
    """As an input keeps it: white space at the ends is no content."""
    return text.strip()


async def outcome(call: Any) -> tuple[object, JamesTronicError | None]:
    """What a call answers, or raises."""
    try:
        return await call(), None
    except JamesTronicError as error:
        return None, error


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_text_goes_there_and_comes_back(shop: Shop, name: str) -> None:
    """Into tickets and notes, found by text and by value, and only what was meant is found."""
    mark = uuid4().hex[:10]
    text = f"{mark} {HOSTILE[name]} {mark}"
    async with shop.signed_in(Role.ADMIN) as jt:
        other = await jt.tickets.create(title=f"another one {mark[::-1]}")
        made = await jt.tickets.create(
            title=text, description=text, appliance_brand=text, pickup_address=text
        )
        assert (made.title, made.description, made.appliance_brand, made.pickup_address) == (text,) * 4
        assert (await jt.tickets.update(made, appliance_model=text)).appliance_model == text
        assert (await jt.tickets.get(made)).title == text

        assert [row.id for row in await jt.tickets.list(text=text)] == [made.id]
        assert [row.id async for row in jt.tickets.query(text=text)] == [made.id]
        assert [row.id for row in await jt.tickets.fetch_all(text=text)] == [made.id]
        assert await jt.tickets.query(text=text).count() == 1

        note = await jt.notes.create(made, body=text)
        assert (await jt.notes.update(note, body=f"{text}.")).body == f"{text}."
        assert [one.body async for one in jt.notes.query(made)] == [f"{text}."]

        table = jt.table("tickets")
        for operator, value in (("eq", text), ("in", [text, "none of these"])):
            rows = await table.where("title", operator, value).select("id")  # type: ignore[arg-type]
            assert [row["id"] for row in rows] == [str(made.id)], operator
        both = table.where("id", "in", [made.id, other.id])
        for operator, value in (("neq", text), ("not_in", [text])):
            rows = await both.where("title", operator, value).select("id")  # type: ignore[arg-type]
            assert [row["id"] for row in rows] == [str(other.id)], operator
        changed = await table.where("id", "eq", made.id).update({"description": f"{text}!"})
        assert changed[0]["description"] == f"{text}!"
        assert (await jt.tickets.get(other)).title == other.title


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_word_finds_nothing_or_is_refused(shop: Shop, name: str) -> None:
    """As a status, a role, a name, a code: the answer is empty or a typed error, and never everything."""
    text = HOSTILE[name]
    async with shop.signed_in(Role.ADMIN) as jt:
        await jt.tickets.create(title="something that must not be found")
        for filters in ({"status": text}, {"priority": text}, {"status": [text, text + "2"]}):
            rows = await jt.tickets.list(**filters)  # type: ignore[arg-type]
            assert rows == [], filters
        assert await jt.profiles.list(role=text) == []
        made = await jt.tickets.create(title="x")
        calls: list[Any] = [
            lambda: jt.tickets.set_status(made, text),
            lambda: jt.tickets.changes(text),
            lambda: jt.auth.verify_code(text, email="nobody@example.test"),
            lambda: jt.auth.verify_link(text, purpose="recovery"),
            lambda: jt.auth.exchange_code(text, verifier=uuid4().hex * 2),
            lambda: jt.table("tickets").where("number", "eq", text).select(),
            lambda: jt.table("tickets").where("id", "eq", text).select(),
            lambda: jt.table("tickets").select(text),
            lambda: jt.rpc("sync_tickets", {"page": text}),
        ]
        for number, call in enumerate(calls):
            answer, error = await outcome(call)
            if error is not None:
                assert isinstance(error, ApiError | AuthenticationError | ValueError), (number, error)
                assert "\n" not in str(error)
                continue
            # A cursor that is none begins anew; a list of columns may be one; a number word is a number.
            assert number in {1, 5, 7}, (number, answer)
        assert jt.auth.is_signed_in
        assert (await jt.tickets.get(made)).version == made.version


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_password_and_name_of_a_person(shop: Shop, name: str) -> None:
    password = f"{HOSTILE[name]} {uuid4().hex[:12]}"[-60:]
    email = f"hostile-{uuid4().hex[:10]}@example.test"
    person = await shop.service.admin.create_user(
        email=email, role=Role.TECHNICIAN, password=password, full_name=HOSTILE[name]
    )
    assert printable(person.full_name) == printable(HOSTILE[name])
    async with shop.client() as jt:
        assert (await jt.auth.sign_in(email=email, password=password)).profile.id == person.id
    async with shop.client() as jt:
        with pytest.raises((AuthenticationError, ApiError)):
            await jt.auth.sign_in(email=HOSTILE[name] + "@example.test", password=password)
        assert not jt.auth.is_signed_in


async def test_a_megabyte_goes_there_and_comes_back(shop: Shop) -> None:
    """Where the client sets no limit, the database's word counts; what it stores comes back as it was."""
    stack = shop.supabase.require_stack()
    megabyte = "Ünï, \"x\" (y) \\ '%' " * 50_000
    name = f"big_{uuid4().hex[:10]}"
    with psycopg.connect(stack.context.dsn("supabase_admin"), autocommit=True) as owner:
        owner.execute(f"create table public.{name} (id int primary key, body text, data jsonb)".encode())
        owner.execute(f"grant all on public.{name} to service_role".encode())
        owner.execute(b"notify pgrst, 'reload schema'")
        try:
            table = shop.service.table(name)
            await _until_known(table)
            (row,) = await table.insert({"id": 1, "body": megabyte, "data": {"deep": [megabyte]}})
            assert row == {"id": 1, "body": megabyte, "data": {"deep": [megabyte]}}
            assert await table.where("id", "eq", 1).select() == [row]
        finally:
            owner.execute(f"drop table public.{name}".encode())
    async with shop.signed_in(Role.ADMIN) as jt:
        with pytest.raises(BadRequestError):  # a check of the database, past the limits of NewTicket
            await jt.table("tickets").insert({"title": megabyte})


async def _until_known(table: Any) -> None:
    """PostgREST reads its schema anew when told, and says when it has only by answering."""
    async with asyncio.timeout(30):
        while True:
            try:
                await table.count()
            except JamesTronicError:
                await asyncio.sleep(0.05)
            else:
                return
