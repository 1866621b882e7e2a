"""1,000 Realtime subscribers, 50 changes a second, a minute: who misses one, how late they come, what it costs.

The whole stack's server process has one core to itself where there are two or more; PostgreSQL and the crowd
share the others. Run with ``-s`` to see the numbers. ``JAMESTRONIC_SCALE_SECONDS`` makes it shorter.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import realtime_crowd
from realtime_crowd import Order

from jamestronic_sdk.local.tokens import make_jwt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jamestronic_sdk.local.stack import LocalSupabase

SUBSCRIBERS = int(os.environ.get("JAMESTRONIC_SCALE_SUBSCRIBERS", "1000"))
RATE = 50.0
SECONDS = float(os.environ.get("JAMESTRONIC_SCALE_SECONDS", "60"))

# Everybody is another person, whose own rows and everybody's they see: the policy is asked for each of them.
POLICY = "create policy own on public.{0} for select to authenticated using (owner is null or owner = (select auth.uid()))"


@contextmanager
def one_core() -> Iterator[set[int]]:
    """This process, which serves, on one core; the others are for everything else."""
    cores = os.sched_getaffinity(0)
    mine = {min(cores)}
    pin(mine)
    try:
        yield cores - mine or cores
    finally:
        pin(cores)


def pin(cores: set[int]) -> None:
    """All threads of this process: the stack has one of its own."""
    for thread in threading.enumerate():
        if thread.native_id is not None:
            os.sched_setaffinity(thread.native_id, cores)


async def crowd(order: Order, cores: set[int]) -> dict[str, Any]:
    """What the crowd found."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, realtime_crowd.__file__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    output, _ = await process.communicate(json.dumps(vars(order)).encode())
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(output)
    return found


def tokens(stack: LocalSupabase, count: int) -> list[str]:
    expires_at = int(time.time()) + 3600
    return [
        make_jwt(
            stack.jwt_secret,
            {"sub": str(uuid.uuid4()), "role": "authenticated", "aud": "authenticated", "exp": expires_at},
        )
        for _ in range(count)
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("has_rls", [False, True], ids=["everybody", "row-level-security"])
async def test_a_thousand_subscribers_miss_nothing(local_supabase: LocalSupabase, *, has_rls: bool) -> None:
    """Each gets each change, in order."""
    table = f"scale_{uuid.uuid4().hex[:8]}"
    async with await psycopg.AsyncConnection.connect(
        local_supabase.context.dsn("supabase_admin"), autocommit=True
    ) as connection:
        await connection.execute(
            f"create table public.{table} (id int primary key, owner uuid, note text);"
            f"grant select on public.{table} to anon, authenticated;"
            f"alter publication supabase_realtime add table public.{table}"
        )
        if has_rls:
            await connection.execute(f"alter table public.{table} enable row level security")
            await connection.execute(POLICY.format(table))
        order = Order(
            url=local_supabase.url,
            key=local_supabase.anon_key,
            database_url=local_supabase.context.dsn("supabase_admin"),
            table=table,
            tokens=tokens(local_supabase, SUBSCRIBERS) if has_rls else [""] * SUBSCRIBERS,
            rate=RATE,
            duration=SECONDS,
            patience=60,
            server=os.getpid(),
        )
        with one_core() as others:
            found = await crowd(order, others)
        await connection.execute(f"drop table public.{table}")
    print(
        f"\n{found['subscribers']} subscribers x {RATE:g} changes/s x {SECONDS:g} s, "
        f"{'each with own claims under row level security' if has_rls else 'no row level security'}: "
        f"{found['frames']} frames, {found['lost']} lost; commit to frame p50 {found['p50']:.1f} ms, "
        f"p95 {found['p95']:.1f} ms, worst {found['max']:.0f} ms; server {found['cpu']:.0%} of a core, "
        f"{found['memory']} MiB"
    )

    assert found["lost"] == 0
    assert found["complete"] == SUBSCRIBERS
    assert found["in_order"]
