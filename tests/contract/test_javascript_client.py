"""The stock JavaScript client of Supabase works against the local stack."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client_people import open_shop
from tours import FACTS

from jamestronic_sdk import Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from project import Project

    from jamestronic_sdk.local.stack import LocalSupabase

FOLDER = Path(__file__).parent / "javascript"


@asynccontextmanager
async def running(script: str, *arguments: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """A tour, as the facts that it tells; it must end well."""
    process = await asyncio.create_subprocess_exec(
        *("node", str(FOLDER / script), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    lines = process.stdout

    async def facts() -> AsyncIterator[dict[str, Any]]:
        async for line in lines:
            yield json.loads(line)

    try:
        async with asyncio.timeout(60):
            yield facts()
            errors = (await process.stderr.read()).decode()
            assert await process.wait() == 0, errors
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_supabase_js_takes_the_tour(project: Project) -> None:
    """All that a customer does, from signing up to private channels."""
    async with open_shop(project) as shop:
        other = await shop.profile_of(await shop.person(Role.CUSTOMER))
        theirs = await shop.service.tickets.create(title="Theirs", customer_id=other.id)
        keys = (project.anon_key, project.service_role_key)
        async with running("tour.mjs", project.url, *keys, str(theirs.id), str(other.id)) as told:
            [facts] = [fact async for fact in told]

    assert facts == FACTS


async def test_supabase_js_broadcasts_is_present_and_joins_private_channels(
    local_supabase: LocalSupabase,
) -> None:
    """With both kinds of keys; whoever loses a ticket hears it by the package's own trigger and policies."""
    async with open_shop(local_supabase) as shop:
        me, other = await shop.person(Role.TECHNICIAN), await shop.person(Role.TECHNICIAN)
        profile, foreign = await shop.profile_of(me), await shop.profile_of(other)
        ticket = await shop.service.tickets.assign(await shop.service.tickets.create(title="Mine"), profile)
        facts: dict[str, dict[str, Any]] = {}
        tour = running(
            "rooms.mjs",
            *(local_supabase.url, local_supabase.anon_key, local_supabase.publishable_key),
            *(me.email, me.password, f"room-{profile.id}"),
            *(f"tickets:person:{profile.id}", f"tickets:person:{foreign.id}"),
        )
        async with tour as told:
            async for fact in told:
                facts[fact.pop("kind")] = fact
                if "private ready" in facts and "from the database" not in facts:
                    await shop.service.tickets.assign(ticket, foreign)

    subscribed = {"status": "SUBSCRIBED", "error": None}
    refusal = f"Unauthorized: You do not have permissions to read from this Channel topic: tickets:person:{foreign.id}"
    assert facts["joined"] == {"ada": subscribed, "bob": subscribed}
    assert facts["text"] == {"sent": "ok", "event": "cursor", "payload": {"x": 1.5}}
    assert facts["bytes"] == {"event": "bytes", "payload": [0, 255]}
    assert facts["http"] == {"posted": {"success": True}, "event": "posted", "payload": {"y": 2}}
    assert facts["presence"] == {
        "tracked": "ok",
        "joined": {"joined": "ada", "names": ["Ada"]},
        "state": {"ada": ["Ada"]},
        "untracked": "ok",
        "left": {"left": "ada"},
    }
    assert facts["private ready"]["own"] == subscribed
    assert facts["private ready"]["foreign"]["status"] == "CHANNEL_ERROR"
    assert refusal in facts["private ready"]["foreign"]["error"]
    left = facts["from the database"]
    assert (left["event"], left["payload"]["ticket_id"]) == ("ticket_left", str(ticket.id))
    assert facts["replayed"]["meta"]["replayed"] is True


async def test_supabase_js_signs_in_in_every_way(local_supabase: LocalSupabase) -> None:
    """Codes, links with PKCE, a provider, two factors, nobody in particular, invitations."""
    keys = (local_supabase.anon_key, local_supabase.service_role_key)
    async with running("auth.mjs", local_supabase.url, *keys) as told:
        facts = [fact async for fact in told]

    assert facts == [
        {
            "wrongCode": [403, "otp_expired"],
            "otp": True,
            "sms": True,
            "pkce": True,
            "oauth": [True, "github", "string"],
            "qr": True,
            "aal": ["aal2", "aal2", ["totp", "password"]],
            "factors": 1,
            "anonymous": True,
            "invited": [True, "invite"],
            "reset": True,
            "recovery": "recovery",
        }
    ]
