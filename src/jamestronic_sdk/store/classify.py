"""(before, after, view) -> what happened; pure.

The table, from the viewer's eyes (``mine``: the row's holder column is the viewer's profile):

=====================  ==============================  ============  ==================================
before                 after                           own view      overview (admin, staff)
=====================  ==============================  ============  ==================================
not mine / unknown     mine                            assigned      assigned, if the technician changed
                                                                     to somebody
mine                   not mine / not visible          unassigned    unassigned, if the technician
                                                                     became null
mine                   mine, other columns             updated       updated
unknown                visible, not mine               created       created
visible                deleted / not visible           unassigned    removed
                                                       if mine,
                                                       else removed
visible, not mine      visible, not mine               updated       updated
mine                   mine, but filtered out          removed       removed
=====================  ==============================  ============  ==================================

An overview of one technician's tickets is classified as that technician's own view.

Promises:
    Only what the store itself held decides; the type of the message on the wire and its
    ``old_record`` never do (under RLS it holds only the primary key).

Never:
    No I/O, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jamestronic_sdk.store.events import (
    Change,
    TicketAssigned,
    TicketCreated,
    TicketEvent,
    TicketRemoved,
    TicketUnassigned,
    TicketUpdated,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jamestronic_sdk.models import Ticket
    from jamestronic_sdk.store.views import View

__all__ = ["changes_between", "classify"]

_BOOKKEEPING = frozenset({"version", "updated_at"})


def classify(
    before: Ticket | None, after: Ticket | None, view: View, last_word: Ticket | None = None
) -> type[TicketEvent] | None:
    """What the transition is called; None when nothing happened that this viewer cares about.

    Args:
        before: The row as the view held it; None when the view did not hold it.
        after: The row as the view holds it now; None when it is out of the view, hidden or deleted.
        view: From whose eyes.
        last_word: What is known of a row that left the view: it may still be the viewer's, filtered out.
    """
    if before is None and after is None:
        return None
    if view.holder_column is None:
        return _classify_overview(before, after)
    return _classify_own(before, after, view, last_word)


def _classify_own(
    before: Ticket | None, after: Ticket | None, view: View, last_word: Ticket | None
) -> type[TicketEvent]:
    was_mine = before is not None and view.is_mine(before)
    is_mine = after is not None and view.is_mine(after)
    match was_mine, is_mine:
        case False, True:
            return TicketAssigned
        case True, False:
            is_only_filtered = (
                last_word is not None and view.is_mine(last_word) and not view.contains(last_word)
            )
            return TicketRemoved if is_only_filtered else TicketUnassigned
        case _ if before is None:
            return TicketCreated
        case _ if after is None:
            return TicketRemoved
        case _:
            return TicketUpdated


def _classify_overview(before: Ticket | None, after: Ticket | None) -> type[TicketEvent]:
    if before is None:
        return TicketCreated
    if after is None:
        return TicketRemoved
    if before.assigned_technician_id == after.assigned_technician_id:
        return TicketUpdated
    return TicketUnassigned if after.assigned_technician_id is None else TicketAssigned


def changes_between(before: Ticket | None, after: Ticket | None) -> Mapping[str, Change]:
    """Column -> (old, new) for every column that differs, columns unknown to the model included.

    A column that one side lacks counts as None there. Empty when one of the rows is missing.
    """
    if before is None or after is None:
        return {}
    old_values = {**before.__dict__, **(before.model_extra or {})}
    new_values = {**after.__dict__, **(after.model_extra or {})}
    changes: dict[str, Change] = {}
    for name in old_values.keys() | new_values.keys():
        old, new = old_values.get(name), new_values.get(name)
        if old != new and name not in _BOOKKEEPING:
            changes[name] = Change(old, new)
    return dict(sorted(changes.items()))
