"""What type checkers see of the blocking face; never run."""

from collections.abc import Iterator
from typing import Any, assert_type

from jamestronic_sdk import AuthChange, Me, Note, Profile, Role, Ticket, TicketBoard, TicketEvent
from jamestronic_sdk.blocking import EventStream, JamesTronic, Subscription, Table, TicketStore


class ShopTicket(Ticket):
    """A program's own column."""

    shelf: str = ""


def plain() -> None:
    """Answers come without await, and are the same types."""
    with JamesTronic.from_env() as jt:
        assert_type(jt.auth.sign_in(email="", password=""), Me)
        assert_type(jt.auth.me.role, Role | str)
        assert_type(jt.tickets.list(status="open", unassigned=True), list[Ticket])
        assert_type(jt.tickets.assign("", jt.profiles.me, expected_version=1), Ticket)
        assert_type(jt.tickets.query().count(), int)
        assert_type(iter(jt.tickets.query()), Iterator[Ticket])
        assert_type(jt.profiles.list(role=Role.TECHNICIAN), list[Profile])
        assert_type(jt.notes.list(""), list[Note])
        assert_type(jt.table("parts").where("id", "eq", 1), Table)
        assert_type(jt.table("parts").select(), list[dict[str, Any]])
        for ticket in jt.tickets.query():
            assert_type(ticket, Ticket)
        for page in jt.tickets.query().pages():
            assert_type(page, list[Ticket])
        with jt.auth.changes() as changes:
            for change in changes:
                assert_type(change, AuthChange)


def live() -> None:
    """The store's events are the same, too."""
    with JamesTronic.from_env() as jt, jt.ticket_store() as store:
        assert_type(store, TicketStore)
        assert_type(store.tickets, TicketBoard)
        assert_type(store.events(), EventStream)
        assert_type(store.subscribe(print), Subscription)
        for event in store.events():
            assert_type(event, TicketEvent)


def own_columns() -> None:
    """A program's own model goes through."""
    with JamesTronic("", "", ticket_model=ShopTicket) as jt:
        assert_type(jt, JamesTronic[ShopTicket])
        assert_type(jt.tickets.list(), list[ShopTicket])
        assert_type(jt.with_options(retries=0).tickets.claim("").shelf, str)


def refused(jt: JamesTronic) -> None:
    """Wrong types are seen before they run; an ignore that is not needed is an error in strict mode."""
    jt.tickets.list(colour="red")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    jt.tickets.get(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
