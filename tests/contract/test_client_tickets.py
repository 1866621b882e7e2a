"""Tickets on the local stack: what each role may read and do, through the client."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from client_people import Shop, open_shop

from jamestronic_sdk import (
    ApiError,
    BadRequestError,
    ConflictError,
    JamesTronic,
    NewTicket,
    NotFoundError,
    PermissionDeniedError,
    Role,
    SchemaMissingError,
    Ticket,
    TicketPriority,
    TicketStatus,
)
from jamestronic_sdk.store.seen import hash_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from project import Project


@pytest.fixture
async def shop(project: Project) -> AsyncIterator[Shop]:
    async with open_shop(project) as opened:
        yield opened


class Crew:
    """One signed-in client per role, and a second technician."""

    admin: JamesTronic
    staff: JamesTronic
    technician: JamesTronic
    other: JamesTronic
    transporter: JamesTronic
    customer: JamesTronic


@pytest.fixture
async def crew(shop: Shop) -> AsyncIterator[Crew]:
    async with AsyncExitStack() as stack:
        made = Crew()
        for role in Role:
            setattr(made, role.value, await stack.enter_async_context(shop.signed_in(role)))
        made.other = await stack.enter_async_context(shop.signed_in(Role.TECHNICIAN))
        yield made


def me(jt: JamesTronic) -> UUID:
    return jt.auth.me.profile_id


async def visible(jt: JamesTronic, ticket: Ticket) -> bool:
    return len(await jt.tickets.get_many([ticket])) == 1


async def test_create_and_read_back(crew: Crew) -> None:
    moment = datetime(2026, 12, 1, 8, tzinfo=UTC)
    text = 'Tür klemmt, 50%, "Eingang" (links); drop table tickets;-- \\ 🧺'
    made = await crew.staff.tickets.create(
        NewTicket(
            title=text,
            description="d",
            priority=TicketPriority.URGENT,
            customer_id=me(crew.customer),
            appliance_type="washer",
            scheduled_at=moment,
        )
    )
    assert (made.title, made.priority, made.status) == (text, TicketPriority.URGENT, TicketStatus.OPEN)
    assert (made.scheduled_at, made.customer_id, made.created_by) == (
        moment,
        me(crew.customer),
        me(crew.staff),
    )
    assert await crew.admin.tickets.get(made) == made
    assert await crew.customer.tickets.get(made.id) == made
    assert await crew.admin.tickets.list(customer=me(crew.customer)) == [made]


async def test_who_sees_what(crew: Crew) -> None:
    pool = await crew.admin.tickets.create(title="in the pool")
    mine = await crew.admin.tickets.create(title="mine", customer_id=me(crew.customer))
    mine = await crew.admin.tickets.assign(mine, me(crew.technician))
    sees = {
        name: (await visible(getattr(crew, name), pool), await visible(getattr(crew, name), mine))
        for name in ("admin", "staff", "technician", "other", "transporter", "customer")
    }
    assert sees == {
        "admin": (True, True),
        "staff": (True, True),
        "technician": (True, True),
        "other": (True, False),
        "transporter": (False, False),
        "customer": (False, True),
    }
    with pytest.raises(NotFoundError):
        await crew.other.tickets.get(mine)
    assert await crew.technician.tickets.list(technician=me(crew.technician)) == [mine]
    assert pool in await crew.technician.tickets.fetch_all(unassigned=True)
    assert mine not in await crew.technician.tickets.fetch_all(unassigned=True)


async def test_the_way_of_a_ticket(crew: Crew) -> None:
    ticket = await crew.staff.tickets.create(title="the whole way")
    assigned = await crew.admin.tickets.assign(ticket, crew.technician.profiles.me)
    assert (assigned.status, assigned.assigned_technician_id) == (TicketStatus.ASSIGNED, me(crew.technician))
    assert assigned.version > ticket.version
    working = await crew.technician.tickets.set_status(ticket, TicketStatus.IN_PROGRESS)
    ready = await crew.technician.tickets.set_status(working, "ready", expected_version=working.version)
    moved = await crew.staff.tickets.schedule_transport(
        ready, me(crew.transporter), datetime.now(UTC) + timedelta(days=1)
    )
    assert moved.assigned_transporter_id == me(crew.transporter)
    assert await visible(crew.transporter, moved)
    done = await crew.transporter.tickets.set_status(moved, TicketStatus.COMPLETED)
    assert done.status is TicketStatus.COMPLETED
    with pytest.raises(BadRequestError):
        await crew.admin.tickets.set_status(done, "open")


async def test_unassign_puts_it_back(crew: Crew) -> None:
    ticket = await crew.admin.tickets.create(title="back")
    await crew.admin.tickets.assign(ticket, me(crew.technician))
    back = await crew.admin.tickets.unassign(ticket)
    assert (back.status, back.assigned_technician_id) == (TicketStatus.OPEN, None)
    assert await visible(crew.other, back)


async def test_one_of_many_claims(crew: Crew) -> None:
    ticket = await crew.admin.tickets.create(title="who is first")
    results = await asyncio.gather(
        *(jt.tickets.claim(ticket) for jt in (crew.technician, crew.other)), return_exceptions=True
    )
    winners = [one for one in results if isinstance(one, Ticket)]
    losers = [one for one in results if isinstance(one, ApiError)]
    assert (len(winners), len(losers)) == (1, 1)
    # The loser either lost the race for the row, or can't see it any more.
    assert isinstance(losers[0], ConflictError | NotFoundError)
    owner = crew.technician if winners[0].assigned_technician_id == me(crew.technician) else crew.other
    released = await owner.tickets.release(ticket)
    assert released.assigned_technician_id is None


async def test_an_old_version_is_refused_with_the_new_one(crew: Crew) -> None:
    ticket = await crew.admin.tickets.create(title="versions")
    newer = await crew.admin.tickets.assign(ticket, me(crew.technician), expected_version=ticket.version)
    with pytest.raises(ConflictError, match="Reload the ticket") as caught:
        await crew.admin.tickets.unassign(ticket, expected_version=ticket.version)
    assert (caught.value.current_version, caught.value.reason) == (newer.version, "version_conflict")
    assert caught.value.status == 409
    assert await crew.admin.tickets.get(ticket) == newer


async def test_who_may_not(crew: Crew) -> None:
    ticket = await crew.admin.tickets.create(title="not yours", customer_id=me(crew.customer))
    for jt in (crew.technician, crew.customer):
        with pytest.raises(PermissionDeniedError) as caught:
            await jt.tickets.assign(ticket, me(crew.technician))
        assert caught.value.status == 403
    for call in (
        crew.technician.tickets.create(title="x"),
        crew.transporter.tickets.create(title="x"),
        crew.customer.tickets.create(title="for somebody else", customer_id=me(crew.technician)),
        crew.customer.tickets.create(title="urgent!", customer_id=me(crew.customer), priority="urgent"),
    ):
        with pytest.raises(PermissionDeniedError):
            await call
    mine = await crew.customer.tickets.create(title="mine", customer_id=me(crew.customer))
    assert mine.customer_id == me(crew.customer)
    with pytest.raises((PermissionDeniedError, NotFoundError)):
        await crew.admin.tickets.assign(uuid4(), me(crew.technician))
    with pytest.raises(BadRequestError):
        await crew.admin.tickets.assign(ticket, me(crew.customer))


async def test_unknown_references_are_conflicts(crew: Crew) -> None:
    with pytest.raises(ConflictError):
        await crew.admin.tickets.create(title="x", customer_id=uuid4())


async def test_hostile_words_find_nothing(crew: Crew) -> None:
    await crew.admin.tickets.create(title="x")
    for word in (
        "open,assigned",
        "eq.open",
        'a"b',
        "(select 1)",
        "*",
        "null",
        "open&limit=0",
        "%",
        "ü🧺",
        "a\\b",
    ):
        assert await crew.admin.tickets.list(status=word) == []
        assert await crew.admin.tickets.list(status=[word, "no such"]) == []


async def test_a_repeated_command_acts_once(crew: Crew) -> None:
    """The same key twice, as a retry after a lost answer sends it."""
    ticket = await crew.admin.tickets.create(title="once")
    arguments = {
        "ticket_id": str(ticket.id),
        "technician_id": str(me(crew.technician)),
        "idempotency_key": str(uuid4()),
    }
    raw = crew.admin._raw
    first = (await raw.rpc("assign_ticket", arguments).execute()).data
    again = (await raw.rpc("assign_ticket", arguments).execute()).data
    assert first == again
    assert (await crew.admin.tickets.get(ticket)).version == first["version"]


async def test_many_tickets_are_read_whole(shop: Shop, crew: Crew) -> None:
    """2,345 rows of one customer: three pages, none lost, none twice."""
    rows = [{"title": f"n {n}", "customer_id": str(me(crew.customer))} for n in range(2345)]
    await shop.service._raw.table("tickets").insert(rows).execute()
    read = await crew.customer.tickets.fetch_all()
    assert len(read) == len({row.id for row in read}) == 2345
    assert [row.number for row in read] == sorted(row.number for row in read)
    newest = await crew.customer.tickets.list(limit=1000)
    assert newest == read[:-1001:-1]
    asked = [row.id for row in read[::7]]
    assert [row.id for row in await crew.customer.tickets.get_many([*asked, uuid4()])] == asked
    await shop.service._raw.table("tickets").delete().eq("customer_id", str(me(crew.customer))).execute()


async def test_a_service_key_commands_without_a_profile(shop: Shop, crew: Crew) -> None:
    ticket = await shop.service.tickets.create(title="from a cron job")
    assigned = await shop.service.tickets.assign(ticket, me(crew.technician))
    assert assigned.is_assigned


async def test_searching_text(crew: Crew) -> None:
    """Each sign is taken literally, in any case, in title, description and appliance, and by number."""
    mark = uuid4().hex
    texts = [
        f"{mark} leaks a*b",
        f'{mark} 100% (new), "x"',
        f"{mark} c:\\temp ^$.|?+[]{{}}",
        f"{mark} Tür 'klemmt'; --",
    ]
    made = [await crew.admin.tickets.create(title=text) for text in texts]
    boiler = await crew.admin.tickets.create(title="x", appliance_brand=f"{mark} Böiler", description="y")

    async def found(text: str) -> set[UUID]:
        return {row.id for row in await crew.admin.tickets.list(text=text, limit=1000)}

    assert await found(mark) == {*(row.id for row in made), boiler.id}
    assert await found(mark.upper()) == await found(mark)
    for text, row in zip(texts, made, strict=True):
        assert await found(text) == {row.id}
    assert await found(f"{mark} leaks a.b") == set()
    assert await found(f"{mark}%") == set()
    assert await found(f"{mark}*") == set()
    assert boiler.id in await found("böiler")
    assert boiler.id in await found(boiler.label.lower())


async def test_walking_and_counting(shop: Shop, crew: Crew) -> None:
    customer = me(crew.customer)
    rows = [{"title": f"n {n}", "customer_id": str(customer)} for n in range(250)]
    await shop.service._raw.table("tickets").insert(rows).execute()
    tickets = crew.admin.tickets
    assert await tickets.query(customer=customer).count() == 250
    for order in ("newest", "oldest", "recently_updated", "least_recently_updated"):
        seen = [row async for row in tickets.query(customer=customer, order=order)]
        assert len({row.id for row in seen}) == 250
        in_pages = [
            row async for page in tickets.query(customer=customer, order=order).pages(60) for row in page
        ]
        assert in_pages == seen
        key = [(row.updated_at if "updated" in order else 0, row.number) for row in seen]
        assert key == sorted(key, reverse=order in {"newest", "recently_updated"})


async def test_date_ranges(crew: Crew) -> None:
    customer = me(crew.customer)
    noon = datetime(2027, 3, 1, 12, tzinfo=UTC)
    made = [
        await crew.admin.tickets.create(
            title="x", customer_id=customer, scheduled_at=noon + timedelta(days=n)
        )
        for n in range(3)
    ]
    between = await crew.admin.tickets.list(
        customer=customer, scheduled_after=noon, scheduled_before=noon + timedelta(days=2), order="oldest"
    )
    assert [row.id for row in between] == [made[0].id, made[1].id]
    later = await crew.admin.tickets.list(customer=customer, created_after=made[1].created_at, order="oldest")
    assert [row.id for row in later] == [made[1].id, made[2].id]
    assert await crew.admin.tickets.list(customer=customer, updated_before=made[0].updated_at) == []


async def test_update(crew: Crew) -> None:
    ticket = await crew.admin.tickets.create(title="old", customer_id=me(crew.customer))
    changed = await crew.staff.tickets.update(
        ticket, title="new", appliance_brand="Bosch", expected_version=ticket.version
    )
    assert (changed.title, changed.appliance_brand) == ("new", "Bosch")
    assert changed.version > ticket.version
    with pytest.raises(ConflictError) as caught:
        await crew.staff.tickets.update(ticket, title="newer", expected_version=ticket.version)
    assert caught.value.current_version == changed.version
    cleared = await crew.admin.tickets.update(ticket, appliance_brand=None)
    assert cleared.appliance_brand is None
    with pytest.raises(PermissionDeniedError):
        await crew.technician.tickets.update(ticket, title="not mine")
    with pytest.raises(NotFoundError):
        await crew.transporter.tickets.update(ticket, title="not mine")


async def test_the_same_wish_after_a_restart(crew: Crew) -> None:
    ticket = await crew.admin.tickets.create(title="again")
    wish = uuid4()
    first = await crew.admin.tickets.assign(ticket, me(crew.technician), idempotency_key=wish)
    await crew.admin.tickets.unassign(ticket)
    again = await crew.admin.tickets.assign(ticket, me(crew.technician), idempotency_key=wish)
    assert again == first
    assert not (await crew.admin.tickets.get(ticket)).is_assigned


async def test_rpc(crew: Crew) -> None:
    assert await crew.technician.rpc("get_my_role") == "technician"
    assert await crew.technician.rpc("get_my_profile_id", idempotent=True) == str(me(crew.technician))
    with pytest.raises(SchemaMissingError):
        await crew.technician.rpc("no_such_function")


async def test_changes_follow_a_cursor_and_the_digest_agrees(crew: Crew) -> None:
    """What a program holds by following ``changes`` is what the digest counts."""
    first = await crew.technician.tickets.changes()
    assert first.kind == "snapshot"
    held = {ticket.id: ticket.version for ticket in first.upserts}
    ticket = await crew.admin.tickets.create(title="Followed by a cursor")
    ticket = await crew.admin.tickets.assign(ticket, crew.technician.auth.me.profile_id)
    second = await crew.technician.tickets.changes(first.cursor)
    assert second.kind == "delta"
    assert [(row.id, row.version) for row in second.upserts if row.id == ticket.id] == [
        (ticket.id, ticket.version)
    ]
    ticket = await crew.admin.tickets.assign(ticket, crew.other.auth.me.profile_id)
    third = await crew.technician.tickets.changes(second.cursor)
    assert [(gone.id, gone.version, gone.deleted) for gone in third.removed] == [
        (ticket.id, ticket.version, False)
    ]

    for changes in (second, third):
        held.update({row.id: row.version for row in changes.upserts})
        for gone in changes.removed:
            held.pop(gone.id, None)
    mixed = 0
    for id_, version in held.items():
        mixed ^= hash_of(id_, version)
    digest = await crew.technician.tickets.digest()
    assert (digest.count, int(digest.digest, 16)) == (len(held), mixed)


async def test_somebody_elses_cursor_gives_a_snapshot(crew: Crew) -> None:
    changes = await crew.technician.tickets.changes()
    assert (await crew.other.tickets.changes(changes.cursor)).kind == "snapshot"
    assert (await crew.technician.tickets.changes("nonsense")).kind == "snapshot"
