"""Many subscribers at once; ``benchmarks`` has the same with a thousand for a minute."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from realtime_crowd import everybody_sees_everything

if TYPE_CHECKING:
    from jamestronic_sdk.local.stack import LocalSupabase


@pytest.mark.parametrize("has_rls", [False, True], ids=["everybody", "row-level-security"])
async def test_a_crowd_misses_nothing(local_supabase: LocalSupabase, *, has_rls: bool) -> None:
    """Each of 200 gets each of 100 changes, once, in order, with 50 of them in a second."""
    found = await everybody_sees_everything(
        local_supabase,
        f"crowd_{uuid.uuid4().hex[:8]}",
        subscribers=200,
        rate=50,
        duration=2,
        has_rls=has_rls,
    )

    assert (found["lost"], found["complete"], found["in_order"]) == (0, 200, True)
