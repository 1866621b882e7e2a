"""The chaos layer's stack and people, and the table that it prints."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from client_people import open_shop
from conftest_stacks import serving
from tests.chaos.crew import Crew, hire
from tests.chaos.desk import FACTOR

from jamestronic_sdk.store import assembly

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from jamestronic_sdk.local.stack import LocalSupabase

_TICKETS = 60


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one fault. Times are seconds of the machine."""

    fault: str
    stores: int
    operations: int
    """Changes committed meanwhile."""
    detected_after: float | None
    """Until the last store knew; None where a store can't know."""
    recovered_after: float
    """From the healing until all stores were live and right."""
    events: int
    missed: int
    duplicates: int


_ROWS = pytest.StashKey[list[Row]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if not rows:
        return
    terminalreporter.section("chaos")
    terminalreporter.write_line(
        f"{'fault':<44}{'stores':>7}{'writes':>8}{'detected':>10}{'recovered':>11}{'events':>8}{'missed':>8}{'twice':>7}"
    )
    for row in sorted(rows, key=lambda row: row.fault.lower()):
        detected = "-" if row.detected_after is None else f"{row.detected_after:.2f} s"
        terminalreporter.write_line(
            f"{row.fault:<44}{row.stores:>7}{row.operations:>8}{detected:>10}{row.recovered_after:>9.2f} s"
            f"{row.events:>8}{row.missed:>8}{row.duplicates:>7}"
        )
    name = config.getoption("--chaos-report")
    if name:
        Path(name).write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", "utf-8")


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[[Row], None]:
    """Adds a row to the table."""
    return request.config.stash[_ROWS].append


@pytest.fixture
def hold(request: pytest.FixtureRequest) -> float:
    """Least seconds that a fault lasts."""
    found: float = request.config.getoption("--chaos-hold")
    return found


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Of this test; pytest-randomly's seed makes a run repeatable as far as the machine allows."""
    return random.Random(f"{request.node.nodeid} {random.getrandbits(32)}")  # noqa: S311 - for tests


@pytest.fixture
def quick_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one delay of a store that is not the clock's: 15 s for a handshake, in the clients' time."""
    monkeypatch.setattr(assembly, "_LINK_TIMEOUT", assembly._LINK_TIMEOUT / FACTOR)


@pytest.fixture(scope="session")
def battered_supabase() -> Iterator[LocalSupabase]:
    """A stack of this layer's own: nobody else's is killed."""
    with serving() as stack:
        yield stack


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def crew(battered_supabase: LocalSupabase) -> AsyncIterator[Crew]:
    """An admin and two technicians with tickets."""
    async with open_shop(battered_supabase) as shop:
        yield await hire(battered_supabase, shop, _TICKETS)
