"""Two pending events of one ticket -> what a reader who missed the moment between still needs; pure.

=====================  ====================  =====================================================
first                  then                  told
=====================  ====================  =====================================================
came                   changed               came, with the last row
came                   left                  nothing
changed                changed               changed, from the first row to the last
changed                left                  left
left                   came                  both: an alert must not be swallowed
a conflict             anything              the newest conflict, after the rest
=====================  ====================  =====================================================

Promises:
    At most two transitions and one conflict per ticket remain, however many came; replaying them gives
    the same view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jamestronic_sdk.store.classify import changes_between, classify
from jamestronic_sdk.store.events import (
    TicketAssigned,
    TicketConflicted,
    TicketCreated,
    TicketEvent,
    TicketRemoved,
    TicketUnassigned,
)

if TYPE_CHECKING:
    from jamestronic_sdk.store.views import View

__all__ = ["coalesce"]


def coalesce(pending: list[TicketEvent], event: TicketEvent, view: View) -> list[TicketEvent]:
    """Add an event to the pending ones of its ticket.

    Args:
        pending: What waits for this ticket already, oldest first.
        event: The newest.
        view: From whose eyes.

    Returns:
        What waits now.
    """
    transitions = [one for one in pending if not isinstance(one, TicketConflicted)]
    if isinstance(event, TicketConflicted):
        return [*transitions, event]
    return [*_merged(transitions, event, view), *pending[len(transitions) :]]


def _merged(pending: list[TicketEvent], event: TicketEvent, view: View) -> list[TicketEvent]:
    if not pending:
        return [event]
    *kept, last = pending
    is_return = isinstance(last, TicketUnassigned | TicketRemoved) and isinstance(
        event, TicketAssigned | TicketCreated
    )
    if is_return:
        # A second return replaces nothing: before it, the leave was merged with the first return.
        return [last, event]
    after = event.ticket if event.is_in_view else None
    kind = classify(last.previous, after, view, event.ticket)
    if kind is None:
        return kept
    more: dict[str, Any] = {}
    if isinstance(event, TicketUnassigned | TicketRemoved) and issubclass(
        kind, TicketUnassigned | TicketRemoved
    ):
        more["certainty"] = event.certainty
    return [
        *kept,
        kind(
            ticket=event.ticket,
            previous=last.previous,
            source=event.source,
            observed_at=event.observed_at,
            committed_at=event.committed_at,
            changes=changes_between(last.previous, event.ticket),
            is_in_view=event.is_in_view,
            **more,
        ),
    ]
