"""Who is present: diffs and states."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jamestronic_sdk.local.realtime.presence import Diff, Presences


def test_track_update_untrack() -> None:
    """An update is a join and a leave of the same key, linked by the reference."""
    presences: Presences[str] = Presences()
    first = presences.track("a", "ada", {"n": 1})
    assert first is not None
    reference = first.joins["ada"]["phx_ref"]
    assert first.payload() == {"joins": {"ada": {"metas": [{"n": 1, "phx_ref": reference}]}}, "leaves": {}}
    assert presences.track("a", "ada", {"n": 1}) is None
    second = presences.track("a", "ada", {"n": 2})
    assert second is not None
    assert second.joins["ada"] == {
        "n": 2,
        "phx_ref": second.joins["ada"]["phx_ref"],
        "phx_ref_prev": reference,
    }
    assert second.leaves == first.joins
    gone = presences.untrack("a")
    assert gone is not None
    assert gone.leaves == second.joins
    assert presences.untrack("a") is None
    assert presences.state() == {}


def test_a_key_may_be_shared() -> None:
    """Several metas; each goes with its owner."""
    presences: Presences[str] = Presences()
    presences.track("a", "ada", {"at": "home"})
    presences.track("b", "ada", {"at": "work"})
    state: Any = presences.state()
    assert [meta["at"] for meta in state["ada"]["metas"]] == ["home", "work"]
    presences.untrack("a")
    state = presences.state()
    assert [meta["at"] for meta in state["ada"]["metas"]] == ["work"]


def test_references_are_ours() -> None:
    """A client can't pretend."""
    diff = Presences[str]().track("a", "ada", {"phx_ref": "x", "phx_ref_prev": "y"})
    assert diff is not None
    assert set(diff.joins["ada"]) == {"phx_ref"}
    assert diff.joins["ada"]["phx_ref"] != "x"


_CALLS = st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 2))), max_size=30)


@given(_CALLS)
def test_diffs_add_up_to_the_state(calls: list[tuple[str, int | None]]) -> None:
    """Who applies all diffs, as clients do, has the state."""
    presences: Presences[str] = Presences()
    metas: dict[str, dict[str, Any]] = {}
    for owner, value in calls:
        key = "shared" if owner != "c" else "own"
        diff = presences.untrack(owner) if value is None else presences.track(owner, key, {"value": value})
        for name, meta in (diff or Diff()).leaves.items():
            del metas[f"{name} {meta['phx_ref']}"]
        for name, meta in (diff or Diff()).joins.items():
            metas[f"{name} {meta['phx_ref']}"] = meta
    state: Any = presences.state()
    assert metas == {
        f"{name} {meta['phx_ref']}": meta for name, each in state.items() for meta in each["metas"]
    }
