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
