"""What the triggers add to a change."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import httpx
from sql_support import committed_world, connect

from jamestronic_sdk.local.tokens import make_jwt

if TYPE_CHECKING:
    from jamestronic_sdk.local.stack import LocalSupabase


def test_the_triggers_cost_at_most_as_much_as_the_update(local_supabase: LocalSupabase) -> None:
    """A change through the data API, as programs make it, with all triggers and without any."""
    with committed_world(local_supabase) as world:
        token = make_jwt(local_supabase.jwt_secret, world["admin"].claims(exp=int(time.time()) + 600))
        headers = {"apikey": local_supabase.anon_key, "Authorization": f"Bearer {token}"}
        ticket = f"{local_supabase.url}/rest/v1/tickets?id=eq.{world.tickets['mine']}"
        with httpx.Client(headers=headers) as client, connect(local_supabase, autocommit=True) as owner:

            def median(rounds: int = 150) -> float:
                taken = []
                for n in range(rounds):
                    start = time.perf_counter()
                    assert client.patch(ticket, json={"title": f"Title {n}"}).status_code == 204
                    taken.append(time.perf_counter() - start)
                return statistics.median(taken)

            median()
            with_triggers = median()
            owner.execute("alter table public.tickets disable trigger user")
            try:
                without = median()
            finally:
                owner.execute("alter table public.tickets enable trigger user")
    print(f"\nupdate: {without * 1000:.2f} ms without triggers, {with_triggers * 1000:.2f} ms with")

    assert with_triggers <= 2 * without
