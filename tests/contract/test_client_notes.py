"""Notes and tables on the local stack: who reads and writes what, through the client."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from client_people import Shop, open_shop

from jamestronic_sdk import BadRequestError, NotFoundError, PermissionDeniedError, Role, SchemaMissingError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from project import Project


@pytest.fixture
async def shop(project: Project) -> AsyncIterator[Shop]:
    async with open_shop(project) as opened:
        yield opened


async def test_a_conversation(shop: Shop) -> None:
    async with (
        shop.signed_in(Role.STAFF) as staff,
        shop.signed_in(Role.CUSTOMER) as customer,
        shop.signed_in(Role.CUSTOMER) as stranger,
        shop.signed_in(Role.ADMIN) as admin,
    ):
        ticket = await staff.tickets.create(title="It hums", customer_id=customer.auth.me.profile_id)
        said = await staff.notes.create(ticket, body="Please ring before you come")
        meant = await staff.notes.create(ticket, body="Difficult stairs", is_internal=True)
        answer = await customer.notes.create(ticket, body="I will, \"promise\", 'really'; drop table notes")
        assert answer.author_id == customer.auth.me.profile_id

        assert await staff.notes.list(ticket) == [said, meant, answer]
        assert await customer.notes.list(ticket) == [said, answer]
        assert await stranger.notes.list(ticket) == []
        assert await staff.notes.list(ticket, is_internal=True) == [meant]
        assert await staff.notes.list(ticket, limit=1) == [said]
        assert await staff.notes.list(ticket, after=said) == [meant, answer]
        assert await staff.notes.get(meant) == meant
        with pytest.raises(NotFoundError):
            await customer.notes.get(meant)

        with pytest.raises(PermissionDeniedError):
            await customer.notes.create(ticket, body="psst", is_internal=True)
        with pytest.raises(PermissionDeniedError):
            await stranger.notes.create(ticket, body="hello")
        with pytest.raises(PermissionDeniedError):
            await customer.notes.update(said, body="I never said that")
        with pytest.raises(PermissionDeniedError):
            await staff.notes.delete(said)
        changed = await staff.notes.update(said, body="Please ring twice")
        assert (changed.id, changed.body) == (said.id, "Please ring twice")
        assert changed.updated_at > said.updated_at
        assert (await admin.notes.delete(said)).id == said.id
        with pytest.raises(NotFoundError):
            await admin.notes.delete(said)


async def test_notes_are_walked_and_counted(shop: Shop) -> None:
    async with shop.signed_in(Role.STAFF) as staff, shop.signed_in(Role.CUSTOMER) as customer:
        one, other = [
            await staff.tickets.create(title="It hums", customer_id=customer.auth.me.profile_id)
            for _ in range(2)
        ]
        said = [await staff.notes.create(one, body=f"note {n}", is_internal=n == 3) for n in range(5)]
        answer = await customer.notes.create(one, body="thanks")
        elsewhere = await staff.notes.create(other, body="elsewhere")

        of_one = staff.notes.query(one)
        assert [note async for note in of_one] == [*said, answer]
        assert [len(page) async for page in of_one.pages(size=4)] == [4, 2]
        assert await of_one.count() == 6
        assert [note async for note in staff.notes.query(one, order="newest", limit=2)] == [answer, said[4]]
        assert [note async for note in staff.notes.query(author=customer.auth.me.profile)] == [answer]
        assert [note async for note in staff.notes.query(one, is_internal=True)] == [said[3]]
        mine = customer.notes.query()
        assert [note async for note in mine] == [*said[:3], said[4], answer, elsewhere]
        assert await mine.count() == 6


async def test_people_are_walked_by_name_whatever_it_holds(shop: Shop) -> None:
    """Pages begin after a name: commas, quotes, parentheses and wildcards are part of it."""
    mark = uuid4().hex[:8]
    names = [
        f"{mark} {odd}"
        for odd in ("", ",", '"', "(a),b.eq.c", "\\", "%*", "'; drop", "Ünsal", "same", "same")
    ]
    for name in names:
        await shop.service.admin.create_user(
            email=f"{uuid4().hex[:12]}@example.test", role=Role.TRANSPORTER, full_name=name
        )
    everybody = shop.service.profiles.query(role=Role.TRANSPORTER)
    pages = [page async for page in everybody.pages(size=3)]
    found = [person.full_name for page in pages for person in page if person.full_name.startswith(mark)]
    assert sorted(found) == sorted(names)
    assert len({person.id for page in pages for person in page}) == sum(len(page) for page in pages)
    assert await everybody.count() == sum(len(page) for page in pages)
    assert [person async for person in shop.service.profiles.query(limit=2)] == (
        await shop.service.profiles.list(limit=2)
    )


async def test_tables(shop: Shop) -> None:
    async with shop.signed_in(Role.ADMIN) as admin, shop.signed_in(Role.CUSTOMER) as customer:
        title = f"odd, \"{uuid4().hex}\" (x) 'y' %*\\"
        (row,) = await admin.table("tickets").insert({"title": title, "priority": "low"})
        found = admin.table("tickets").where("title", "eq", title)
        assert await found.count() == 1
        assert await found.select("id, title") == [{"id": row["id"], "title": title}]
        assert await admin.table("tickets").where("title", "in", [title, "none"]).count() == 1
        assert (await found.update({"priority": "high"}))[0]["priority"] == "high"
        assert await customer.table("tickets").where("id", "eq", row["id"]).select() == []
        with pytest.raises(BadRequestError):
            await admin.table("tickets").where("id", "eq", "no uuid").select()
        with pytest.raises(SchemaMissingError):
            await admin.table("tickets").where("colour", "eq", "red").select()
        with pytest.raises(SchemaMissingError):
            await admin.table("no_such_table").select()
        assert [one["id"] for one in await found.delete()] == [row["id"]]
