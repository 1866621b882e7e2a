"""The stock JavaScript client of Supabase works against the local stack."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client_people import open_shop

from jamestronic_sdk import Role

if TYPE_CHECKING:
    from jamestronic_sdk.local.stack import LocalSupabase

TOUR = Path(__file__).parent / "javascript" / "tour.mjs"


async def test_supabase_js_signs_in_reads_under_rls_and_receives_a_change(
    local_supabase: LocalSupabase,
) -> None:
    """Somebody else's ticket is not among the rows; a ticket that enters the pool arrives by Realtime."""
    async with open_shop(local_supabase) as shop:
        me, other = await shop.person(Role.TECHNICIAN), await shop.person(Role.TECHNICIAN)
        mine = await shop.service.tickets.create(title="Mine")
        mine = await shop.service.tickets.assign(mine, await shop.profile_of(me))
        theirs = await shop.service.tickets.create(title="Theirs")
        await shop.service.tickets.assign(theirs, await shop.profile_of(other))

        process = await asyncio.create_subprocess_exec(
            *("node", str(TOUR), local_supabase.url, local_supabase.anon_key, me.email, me.password),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        facts: dict[str, dict[str, Any]] = {}
        async with asyncio.timeout(60):
            async for line in process.stdout:
                fact = json.loads(line)
                facts[fact["kind"]] = fact
                if fact["kind"] == "ready":
                    created = await shop.service.tickets.create(title="From Python")
            errors = (await process.stderr.read()).decode()
            assert await process.wait() == 0, errors

    assert facts["signed in"]["role"] == "technician"
    assert mine.number in facts["tickets"]["numbers"]
    assert theirs.number not in facts["tickets"]["numbers"]
    assert facts["change"] == {
        "kind": "change",
        "event": "INSERT",
        "number": created.number,
        "title": "From Python",
    }
    assert "signed out" in facts


async def test_supabase_js_signs_in_in_every_way(local_supabase: LocalSupabase) -> None:
    """Codes, links with PKCE, a provider, two factors, nobody in particular, invitations."""
    keys = (local_supabase.anon_key, local_supabase.service_role_key)
    process = await asyncio.create_subprocess_exec(
        *("node", str(TOUR.with_name("auth.mjs")), local_supabase.url, *keys),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()

    assert process.returncode == 0, errors.decode()
    assert json.loads(output) == {
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
