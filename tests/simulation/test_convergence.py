"""The engine against a simulated server, network and clock: thousands of histories, each replayable.

A failure names its seed; replay one with ``pytest tests/simulation -k "convergence" --seed N``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from tests.builders import ALICE
from world import Faults, World

from jamestronic_sdk.models import Ticket
from jamestronic_sdk.store.engine import Engine
from jamestronic_sdk.store.ledger import Ledger
from jamestronic_sdk.store.protocol import EngineConfig, ReadKind, Signal
from jamestronic_sdk.store.views import View

VIEWS = {
    "overview": View.overview(),
    "technician": View.technician(ALICE),
    "pool": View.technician(ALICE, includes_pool=True),
}


DATABASES: tuple[dict[str, Any], ...] = (
    {},
    {"has_change_log": False},
    # Drift: what the change log does not tell.
    {"faults": Faults(forget=0.2, false_empty=0.3)},
)
"""Which of them a history has, its seed says."""


def world(seed: int, view: View, engine_type: type[Engine] = Engine) -> World:
    return World(seed, view, engine_type=engine_type, **DATABASES[seed % len(DATABASES)])


@pytest.mark.parametrize("name", VIEWS)
def test_convergence(name: str, seeds: range) -> None:
    """After any history the view is what the database says, and the events tell how it got there."""
    for seed in seeds:
        try:
            world(seed, VIEWS[name]).play()
        except AssertionError as error:
            error.add_note(f'replay: pytest tests/simulation -k "convergence and {name}" --seed {seed}')
            raise


def with_ledger(ledger: type[Ledger]) -> type[Engine]:
    return type(ledger.__name__, (Engine,), {"ledger_type": ledger})


class _NoVersionCheck(Ledger):
    def _is_news(self, *_: object) -> bool:
        return True


class _NoFence(Ledger):
    """Absence removes also what arrived during the read."""

    def confirm(self, found: Any, expected: Any, facts: Any) -> list[UUID]:
        return super().confirm(found, expected, replace(facts, read_step=10**9))


class _NoLookupBeforeReturn(Ledger):
    def is_doubtful(self, *_: object) -> bool:
        return False


class _DeletedRowsAreForgotten(Ledger):
    def delete(self, ticket_id: UUID, facts: Any) -> None:
        super().delete(ticket_id, facts)
        self.tombstones.remove(ticket_id)


class _LeavesAreForgotten(Ledger):
    def _bury(self, *args: Any, **kinds: Any) -> None:
        pass


class _RemovalsAreIgnored(Ledger):
    """What the change log says of leaves is dropped; only the digest can tell."""

    def leave(self, *_: Any) -> None:
        pass


class _OneEmptyReadIsEnough(Engine):
    @property
    def _saw_empty(self) -> bool:
        return True

    @_saw_empty.setter
    def _saw_empty(self, value: bool) -> None:
        pass


class _EmptyPairsAreBelieved(Engine):
    def _is_suspicious(self, read: Any, rows: Any) -> bool:
        return read.kind is not ReadKind.PAIRS and super()._is_suspicious(read, rows)


class _EverythingIsInView(Engine):
    def __init__(self, view: View, config: EngineConfig | None = None) -> None:
        super().__init__(_Everything(view.kind, view.profile_id), config)


class _Everything(View):
    def contains(self, ticket: Ticket) -> bool:
        return bool(ticket)


class _LiveWithoutProof(Engine):
    """The status turns live as soon as the feed says so."""

    def _on_feed_live(self) -> None:
        super()._on_feed_live()
        self._signal(Signal.VERIFIED)


class _GuessesStay(Engine):
    """A refused own write is shown for ever."""

    def _on_write_failed(self, item: Any) -> None:
        pass


class _ConflictsAreSwallowed(Engine):
    def _tell_conflicts(self, *_: Any) -> None:
        self._conflicts.clear()


class _TheDigestIsIgnored(Engine):
    def _judge_proof(self, read: Any) -> None:
        pass


class _BusyInTheBackground(Engine):
    @property
    def _is_paused(self) -> bool:
        return False


@pytest.mark.parametrize(
    "mistaken",
    [
        with_ledger(_NoVersionCheck),
        with_ledger(_NoFence),
        with_ledger(_NoLookupBeforeReturn),
        _OneEmptyReadIsEnough,
        _EmptyPairsAreBelieved,
        with_ledger(_DeletedRowsAreForgotten),
        with_ledger(_LeavesAreForgotten),
        _EverythingIsInView,
        _LiveWithoutProof,
        with_ledger(_RemovalsAreIgnored),
        _GuessesStay,
        _ConflictsAreSwallowed,
        _TheDigestIsIgnored,
        _BusyInTheBackground,
    ],
)
def test_the_harness_bites(mistaken: type[Engine]) -> None:
    """A known mistake, planted in the engine, is caught within a few hundred histories."""
    for seed in range(500):
        for view in VIEWS.values():
            try:
                world(seed, view, mistaken).play()
            except (AssertionError, LookupError):
                return
    pytest.fail("the planted mistake was not caught")
