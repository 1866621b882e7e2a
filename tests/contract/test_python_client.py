"""The stock Python client of Supabase takes the same tour as the JavaScript one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from client_people import open_shop
from postgrest import ReturnMethod
from postgrest.exceptions import APIError
from supabase import AsyncClient, AsyncClientOptions, acreate_client
from tours import FACTS

from jamestronic_sdk import Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from project import Project
    from realtime import AsyncRealtimeChannel

DEADLINE = 15.0
"""Seconds for one answer of Realtime; hosted, a first subscription may take that long."""


@asynccontextmanager
async def connected(project: Project, key: str) -> AsyncIterator[AsyncClient]:
    """A client whose sockets are closed at the end."""
    async with httpx.AsyncClient(timeout=30) as http:
        client = await acreate_client(project.url, key, AsyncClientOptions(httpx_client=http))
        try:
            yield client
        finally:
            await client.remove_all_channels()
            await client.realtime.close()
            await client.auth.close()


def once() -> tuple[Callable[..., None], asyncio.Future[Any]]:
    """A callback, and what it gets first."""
    first: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def got(*values: Any) -> None:
        if not first.done():
            first.set_result(values[0] if len(values) == 1 else values)

    return got, first


async def soon(future: asyncio.Future[Any]) -> Any:
    async with asyncio.timeout(DEADLINE):
        return await future


async def join(channel: AsyncRealtimeChannel) -> str:
    """How a subscription began: its state, or the error."""
    got, first = once()
    await channel.subscribe(lambda state, error: got(str(error) if error else state.value))
    answer: str = await soon(first)
    return answer


async def sessions(customer: AsyncClient, service: AsyncClient) -> dict[str, Any]:
    """Sign up, sign in, refresh."""
    email, password = f"{uuid4().hex}@example.test", uuid4().hex
    signed_up = await customer.auth.sign_up(
        {"email": email, "password": password, "options": {"data": {"full_name": "Ada"}}}
    )
    assert signed_up.user is not None
    await service.auth.admin.update_user_by_id(signed_up.user.id, {"email_confirm": True})
    await customer.auth.sign_out()
    signed_in = await customer.auth.sign_in_with_password({"email": email, "password": password})
    refreshed = await customer.auth.refresh_session()
    assert signed_in.user is not None
    assert signed_in.session is not None
    assert refreshed.session is not None
    await customer.realtime.set_auth(refreshed.session.access_token)
    return {
        "signed_in": signed_in.user.id == signed_up.user.id,
        "refreshed": refreshed.session.refresh_token != signed_in.session.refresh_token,
    }


async def rows(
    customer: AsyncClient, service: AsyncClient, profile: str, theirs: str, other: str
) -> tuple[str, dict[str, Any]]:
    """Functions, reads and writes under row level security, upsert, embedding; the new ticket and the facts."""
    role = (await customer.rpc("get_my_role").execute()).data
    tickets = customer.table("tickets")
    [ticket] = (await tickets.insert({"title": "Mine", "customer_id": profile}).execute()).data
    with pytest.raises(APIError) as forged:
        await tickets.insert(
            {"title": "Theirs", "customer_id": other}, returning=ReturnMethod.minimal
        ).execute()
    read = (await tickets.select("title").in_("id", [ticket["id"], theirs]).execute()).data
    foreign_write = (await tickets.update({"title": "Taken"}).eq("id", theirs).execute()).data
    note = {"id": str(uuid4()), "ticket_id": ticket["id"]}
    upserted: list[str] = []
    for client, body, ignores in (
        (customer, "First", True),
        (customer, "Ignored", True),
        (service, "Second", False),
    ):
        row = note | {"body": body}
        await client.table("ticket_notes").upsert(row, ignore_duplicates=ignores).execute()
        kept = await client.table("ticket_notes").select("body").eq("id", note["id"]).single().execute()
        upserted.append(kept.data["body"])
    columns = "title, customer:profiles!tickets_customer_id_fkey(full_name), ticket_notes(body)"
    embedded = (await tickets.select(columns).eq("id", ticket["id"]).execute()).data
    return ticket["id"], {
        "role": role,
        "written": [ticket["title"], ticket["customer_id"] == profile],
        "forged": forged.value.code,
        "read": [row["title"] for row in read],
        "foreign_write": foreign_write,
        "upserted": upserted,
        "embedded": embedded,
    }


async def changes(customer: AsyncClient, service: AsyncClient, ticket: str, theirs: str) -> dict[str, Any]:
    """A change of one's own row, after one of a row that one does not see."""
    live, is_live = once()
    changed, change = once()
    channel = customer.channel(f"changes-{ticket}")
    channel.on_system(
        lambda message: live(message.status) if message.extension == "postgres_changes" else None
    )
    await channel.on_postgres_changes(
        "UPDATE", changed, table="tickets", schema="public", filter=f"id=eq.{ticket}"
    ).subscribe()
    subscribed = await soon(is_live)
    await service.table("tickets").update({"title": "Foreign"}).eq("id", theirs).execute()
    await customer.table("tickets").update({"title": "Mine, changed"}).eq("id", ticket).execute()
    data = (await soon(change))["data"]
    return {"subscribed": subscribed, "change": [data["type"], data["record"]["title"]]}


async def rooms(customer: AsyncClient, stranger: AsyncClient, room: str) -> dict[str, Any]:
    """A broadcast with its answer, and presence, between two clients."""
    heard, message = once()
    came, arrival = once()
    went, departure = once()
    answered, answer = once()
    mine = customer.channel(
        room, {"config": {"broadcast": {"ack": True, "self": False}, "presence": {"key": "ada", "enabled": True}, "private": False}}
    )  # fmt: skip
    theirs = stranger.channel(
        room, {"config": {"broadcast": None, "presence": {"key": "bob", "enabled": True}, "private": False}}
    )
    theirs.on_broadcast("cursor", heard)
    theirs.on_presence_join(lambda key, _before, new: came([key, new[0]["name"]]))
    theirs.on_presence_leave(lambda key, _left, _now: went(key))
    joined = [await join(mine), await join(theirs)]
    push = await mine.push("broadcast", {"type": "broadcast", "event": "cursor", "payload": {"x": 1.5}})
    push.receive("ok", lambda _response: answered("ok"))
    sent, payload = await soon(answer), (await soon(message))["payload"]
    await mine.track({"name": "Ada"})
    arrived, present = await soon(arrival), list(theirs.presence_state())
    await mine.untrack()
    return {
        "joined": joined,
        "broadcast": [sent, payload],
        "presence": [arrived, present, await soon(departure)],
    }


async def private(customer: AsyncClient, profile: str, other: str) -> dict[str, Any]:
    """One's own private channel, and another's."""
    config = {"config": {"broadcast": None, "presence": None, "private": True}}
    own = await join(customer.channel(f"tickets:person:{profile}", config))
    foreign = await join(customer.channel(f"tickets:person:{other}", config))
    return {"private": [own, "Unauthorized" in foreign]}


async def test_supabase_py_takes_the_tour(project: Project) -> None:
    """All that a customer does, from signing up to private channels."""
    async with (
        open_shop(project) as shop,
        connected(project, project.anon_key) as customer,
        connected(project, project.anon_key) as stranger,
        connected(project, project.service_role_key) as service,
    ):
        other = str((await shop.profile_of(await shop.person(Role.CUSTOMER))).id)
        theirs = str((await shop.service.tickets.create(title="Theirs", customer_id=other)).id)
        facts = await sessions(customer, service)
        profile = (await customer.rpc("get_my_profile_id").execute()).data
        ticket, found = await rows(customer, service, profile, theirs, other)
        facts |= found
        facts |= await changes(customer, service, ticket, theirs)
        facts |= await rooms(customer, stranger, f"room-{profile}")
        facts |= await private(customer, profile, other)
        await customer.auth.sign_out()
        facts["signed_out"] = await customer.auth.get_session()

    assert facts == FACTS
