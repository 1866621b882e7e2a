"""What type checkers see; never run."""

from collections.abc import AsyncIterator
from typing import Any, assert_type

from jamestronic_sdk import (
    Account,
    AuthChange,
    JamesTronic,
    Me,
    Note,
    Profile,
    Role,
    RowPages,
    RowQuery,
    Table,
    Ticket,
    TicketStatus,
)


class ShopTicket(Ticket):
    """A program's own column."""

    shelf: str = ""


async def plain() -> None:
    """Without a model of one's own, rows are tickets."""
    async with JamesTronic.from_env() as jt:
        assert_type(await jt.auth.sign_in(email="", password=""), Me)
        assert_type(await jt.auth.resume(), Me | None)
        assert_type(jt.auth.me.role, Role | str)
        assert_type(await jt.tickets.list(status=["open", TicketStatus.READY], unassigned=True), list[Ticket])
        assert_type(await jt.tickets.fetch_all(text="x"), list[Ticket])
        assert_type(await jt.tickets.get(""), Ticket)
        assert_type(await jt.tickets.assign("", jt.profiles.me, expected_version=1), Ticket)
        assert_type(await jt.tickets.query().count(), int)
        assert_type((await jt.tickets.get("")).status, TicketStatus | str)
        assert_type(await jt.profiles.list(role=Role.TECHNICIAN), list[Profile])
        assert_type(await jt.notes.create("", body=""), Note)
        assert_type(await jt.notes.list(""), list[Note])
        assert_type(jt.notes.query(order="newest"), RowQuery[Note])
        assert_type(jt.profiles.query(role="technician").pages(), RowPages[Profile])
        assert_type(await jt.profiles.query().count(), int)
        async for person in jt.profiles.query():
            assert_type(person, Profile)
        assert_type(jt.table("parts").where("id", "eq", 1).order("id").limit(5), Table)
        assert_type(await jt.table("parts").select(), list[dict[str, Any]])
        assert_type(await jt.table("tickets").select_as(ShopTicket), list[ShopTicket])
        assert_type(await jt.admin.list_users(), list[Account])
        assert_type(jt.with_options(timeout=None).tickets.query().__aiter__(), AsyncIterator[Ticket])
        async for ticket in jt.tickets.query():
            assert_type(ticket, Ticket)
        async for page in jt.tickets.query().pages():
            assert_type(page, list[Ticket])
        async with jt.auth.changes() as changes:
            async for change in changes:
                assert_type(change, AuthChange)


async def own_columns() -> None:
    """With one, they are that."""
    async with JamesTronic("", "", ticket_model=ShopTicket) as jt:
        assert_type(jt, JamesTronic[ShopTicket])
        assert_type(await jt.tickets.list(), list[ShopTicket])
        assert_type((await jt.tickets.create(title="x")).shelf, str)
        assert_type(await jt.with_options(retries=0).tickets.claim(""), ShopTicket)


async def refused(jt: JamesTronic) -> None:
    """Wrong types are seen before they run; an ignore that is not needed is an error in strict mode."""
    await jt.tickets.list(colour="red")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await jt.tickets.list(order="random")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await jt.tickets.get(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    jt.table("parts").where("id", "or", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await jt.auth.sign_in("a", "b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
