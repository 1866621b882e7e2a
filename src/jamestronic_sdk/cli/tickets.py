"""`jamestronic tickets`: read tickets, open them, and move them on."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from jamestronic_sdk.cli._names import moment, names_of, person_id, ticket_named
from jamestronic_sdk.cli._root import finish, output_of
from jamestronic_sdk.cli._session import acting
from jamestronic_sdk.cli.watch import watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from uuid import UUID

    from jamestronic_sdk.client import JamesTronic
    from jamestronic_sdk.models import Ticket

__all__ = ["row_of", "tickets"]

tickets: Final[typer.Typer] = typer.Typer(
    help="Read tickets, open them, and move them on.", no_args_is_help=True, add_completion=False
)
tickets.command()(watch)

_Ticket = Annotated[str, typer.Argument(metavar="TICKET", help="Number (JT-1001) or id.")]
_Version = Annotated[
    int | None,
    typer.Option("--expected-version", min=0, help="Fail if the ticket has another version by now."),
]
_Since = "A date, a moment, or how long ago: 2026-05-01, 2026-05-01T09:30, 24h, 7d."

_TECHNICIAN: Final = "technician"
_CUSTOMER: Final = "customer"


class Order(StrEnum):
    """The order of a list."""

    NEWEST = "newest"
    OLDEST = "oldest"
    RECENTLY_UPDATED = "recently_updated"
    LEAST_RECENTLY_UPDATED = "least_recently_updated"


# Typed texts, because the enums' module brings pydantic along, and `--help` must answer at once.
class Status(StrEnum):
    """``TicketStatus``."""

    OPEN = "open"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    WAITING_PARTS = "waiting_parts"
    READY = "ready"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Priority(StrEnum):
    """``TicketPriority``."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


_PROGRESS_FROM: Final = 1000
"""Rows from which a list is read in several requests, so that it may take a while."""


@tickets.command("list")
def list_tickets(
    *,
    status: Annotated[list[Status] | None, typer.Option("--status", "-s", help="May be repeated.")] = None,
    priority: Annotated[
        list[Priority] | None, typer.Option("--priority", "-p", help="May be repeated.")
    ] = None,
    technician: Annotated[
        str | None, typer.Option("--technician", "-t", help="Whose: name, id, or @me.")
    ] = None,
    unassigned: Annotated[
        bool, typer.Option("--unassigned", help="Only those without a technician.")
    ] = False,
    customer: Annotated[str | None, typer.Option("--customer", help="Whose device: name or id.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="In title, description or appliance.")] = None,
    since: Annotated[str | None, typer.Option("--since", help=f"Opened then or later. {_Since}")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Opened before.")] = None,
    updated_since: Annotated[
        str | None, typer.Option("--updated-since", help="Changed then or later.")
    ] = None,
    updated_until: Annotated[str | None, typer.Option("--updated-until", help="Changed before.")] = None,
    order: Annotated[Order, typer.Option("--order")] = Order.NEWEST,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 30,
    everything: Annotated[bool, typer.Option("--all", help="All of them, whatever --limit says.")] = False,
) -> None:
    """List tickets that you may see; all filters must hold."""
    if unassigned and technician is not None:
        raise typer.BadParameter("--technician and --unassigned exclude each other.")
    moments = {
        "created_after": moment(since, "--since"),
        "created_before": moment(until, "--until"),
        "updated_after": moment(updated_since, "--updated-since"),
        "updated_before": moment(updated_until, "--updated-until"),
    }

    async def work() -> None:
        out = output_of()
        async with acting() as jt:
            filters: Any = {
                **moments,
                "status": status or None,
                "priority": priority or None,
                "unassigned": unassigned or None,
                "text": text,
                "technician": technician and await person_id(jt, technician, _TECHNICIAN),
                "customer": customer and await person_id(jt, customer, _CUSTOMER),
            }
            query = jt.tickets.query(order=order.value, limit=None if everything else limit, **filters)
            found: list[Ticket] = []
            is_long = everything or limit > _PROGRESS_FROM
            with out.progress("Reading tickets", is_wanted=is_long) as advance:
                async for ticket in query:
                    found.append(ticket)
                    advance(len(found))
            names = {} if out.is_json else await names_of(jt, (one.assigned_technician_id for one in found))
        out.rows(
            {"tickets": [row_of(ticket) for ticket in found]},
            ("Ticket", "Status", "Priority", "Technician", "Updated", "Title"),
            lambda: (
                (
                    ticket.label,
                    str(ticket.status),
                    str(ticket.priority),
                    who(ticket.assigned_technician_id, names),
                    f"{ticket.updated_at.astimezone():%Y-%m-%d %H:%M}",
                    ticket.title,
                )
                for ticket in found
            ),
        )
        if not found:
            out.note("No tickets.")
        elif not everything and len(found) == limit:
            out.note(f"The first {limit}; --limit or --all shows more.")

    finish(work)


@tickets.command()
def show(
    ticket: _Ticket,
    *,
    notes: Annotated[bool, typer.Option("--notes", help="With what people say about it.")] = False,
) -> None:
    """Show one ticket."""

    async def work() -> None:
        out = output_of()
        async with acting() as jt:
            found = await ticket_named(jt, ticket)
            said = await jt.notes.list(found) if notes else []
            people = (found.assigned_technician_id, found.assigned_transporter_id, found.customer_id)
            authors = [note.author_id for note in said]
            names = {} if out.is_json else await names_of(jt, (*people, *authors))
        data = row_of(found)
        if notes:
            data["notes"] = [note.model_dump(mode="json") for note in said]
        out.fields(data, _facts(found, names))
        if not out.is_json:
            for note in said:
                out.fields(
                    None,
                    {
                        f"Note {note.created_at.astimezone():%Y-%m-%d %H:%M}": (
                            f"{who(note.author_id, names)}: {note.body}"
                        )
                    },
                )

    finish(work)


def _facts(ticket: Ticket, names: Mapping[UUID, str]) -> dict[str, object]:
    device = (ticket.appliance_brand, ticket.appliance_model, ticket.appliance_type, ticket.appliance_serial)
    return {
        "Ticket": ticket.label,
        "Title": ticket.title,
        "Status": ticket.status,
        "Priority": ticket.priority,
        "Technician": who(ticket.assigned_technician_id, names),
        "Transporter": who(ticket.assigned_transporter_id, names),
        "Customer": who(ticket.customer_id, names),
        "Device": ", ".join(part for part in device if part),
        "Description": ticket.description,
        "Pick-up": ticket.pickup_address,
        "Delivery": ticket.delivery_address,
        "Moved at": ticket.scheduled_at and f"{ticket.scheduled_at.astimezone():%Y-%m-%d %H:%M}",
        "Opened": f"{ticket.created_at.astimezone():%Y-%m-%d %H:%M}",
        "Updated": f"{ticket.updated_at.astimezone():%Y-%m-%d %H:%M}",
        "Version": ticket.version,
        "Id": ticket.id,
    }


@tickets.command()
def create(
    title: Annotated[str, typer.Argument(help="What is wrong, in a few words.")],
    *,
    description: Annotated[str, typer.Option("--description", "-d", help="What the customer says.")] = "",
    priority: Annotated[Priority, typer.Option("--priority", "-p")] = Priority.NORMAL,
    customer: Annotated[
        str | None, typer.Option("--customer", help="Whose device: name, id, or @me.")
    ] = None,
    technician: Annotated[
        str | None, typer.Option("--technician", "-t", help="Who repairs it: name, id, or @me.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--appliance", help="For example: oven.")] = None,
    brand: Annotated[str | None, typer.Option("--brand")] = None,
    model: Annotated[str | None, typer.Option("--model")] = None,
    serial: Annotated[str | None, typer.Option("--serial")] = None,
    pickup: Annotated[str | None, typer.Option("--pickup-address")] = None,
    delivery: Annotated[str | None, typer.Option("--delivery-address")] = None,
) -> None:
    """Open a ticket."""

    async def work() -> None:
        out = output_of()
        async with acting() as jt:
            given: dict[str, object] = {
                "description": description or None,
                "appliance_type": kind,
                "appliance_brand": brand,
                "appliance_model": model,
                "appliance_serial": serial,
                "pickup_address": pickup,
                "delivery_address": delivery,
                "customer_id": customer and await person_id(jt, customer, _CUSTOMER),
                "assigned_technician_id": technician and await person_id(jt, technician, _TECHNICIAN),
            }
            if customer is None and jt.auth.is_signed_in and jt.auth.me.role == _CUSTOMER:
                given["customer_id"] = jt.auth.me.profile_id  # the only one that the policies allow
            fields = {name: value for name, value in given.items() if value is not None}
            made = await jt.tickets.create(title=title, priority=priority, **fields)
        out.result(row_of(made), f"Opened {made.label}.")

    finish(work)


@tickets.command()
def assign(
    ticket: _Ticket,
    technician: Annotated[str, typer.Argument(metavar="TECHNICIAN", help="Name, id, or @me.")],
    expected_version: _Version = None,
) -> None:
    """Give a ticket to a technician."""

    async def act(jt: JamesTronic, found: Ticket) -> Ticket:
        person = await person_id(jt, technician, _TECHNICIAN)
        return await jt.tickets.assign(found, person, expected_version=expected_version)

    _change(ticket, act)


@tickets.command()
def unassign(ticket: _Ticket, expected_version: _Version = None) -> None:
    """Take a ticket away from its technician."""
    _change(ticket, lambda jt, found: jt.tickets.unassign(found, expected_version=expected_version))


@tickets.command()
def claim(ticket: _Ticket, expected_version: _Version = None) -> None:
    """Take an unassigned ticket for yourself, as a technician."""
    _change(ticket, lambda jt, found: jt.tickets.claim(found, expected_version=expected_version))


@tickets.command()
def release(ticket: _Ticket, expected_version: _Version = None) -> None:
    """Put your ticket back into the pool, as its technician."""
    _change(ticket, lambda jt, found: jt.tickets.release(found, expected_version=expected_version))


@tickets.command("status")
def set_status(
    ticket: _Ticket,
    status: Annotated[Status, typer.Argument(metavar="STATUS", help=", ".join(Status))],
    expected_version: _Version = None,
) -> None:
    """Move a ticket to another status."""
    _change(ticket, lambda jt, found: jt.tickets.set_status(found, status, expected_version=expected_version))


def _change(ticket: str, act: Callable[[JamesTronic, Ticket], Awaitable[Ticket]]) -> None:
    """Do one command to one ticket, and say how it stands then."""

    async def work() -> None:
        out = output_of()
        async with acting() as jt:
            after = await act(jt, await ticket_named(jt, ticket))
            names = {} if out.is_json else await names_of(jt, (after.assigned_technician_id,))
        holder = after.assigned_technician_id
        whose = "nobody has it" if holder is None else f"{who(holder, names)} has it"
        out.result(row_of(after), f"{after.label} is {str(after.status).replace('_', ' ')}; {whose}.")

    finish(work)


def row_of(ticket: Ticket) -> dict[str, Any]:
    """A ticket as JSON: its columns, and the number as people say it."""
    return {"label": ticket.label, **ticket.model_dump(mode="json")}


def who(person: UUID | None, names: Mapping[UUID, str]) -> str:
    """A name for people; the beginning of the id where the name is not known."""
    return "" if person is None else names.get(person) or f"{str(person)[:8]}..."
