"""When to compare digests with the server, and what to do when they differ; pure.

A difference calls for what changed since the cursor. If that brought changes, they were under way, and the
next look decides; if it brought none, something is missing: first the pairs (id, version) are compared, and
if that did not help, everything is read.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["Proof", "Repair"]


class Repair(Enum):
    """How what is missing is found."""

    PAIRS = "pairs"
    WHOLE = "whole"


class Proof:
    """The state between two looks.

    Args:
        interval: Seconds between looks.
        tries: Looks in a row while changes are under way; then the next interval is waited for.
    """

    __slots__ = ("_differs_since", "_has_tried_pairs", "_interval", "_looks", "_tries", "due_at")

    def __init__(self, interval: float, tries: int) -> None:
        self._interval: Final = interval
        self._tries: Final = tries
        self.due_at: float = 0.0
        """When to look next."""
        self._differs_since: int | None = None
        """The step at which a digest was asked for that differed."""
        self._looks = 0
        self._has_tried_pairs = False

    def postpone(self, now: float) -> None:
        """Look again after the interval."""
        self.due_at = now + self._interval

    def looked(self, *, is_equal: bool, began_step: int, now: float) -> None:
        """A digest was answered that was asked for at that step."""
        self.postpone(now)
        if is_equal:
            self._looks, self._has_tried_pairs = 0, False
        else:
            self._differs_since = began_step

    def judge(self, changed_step: int, now: float) -> Repair | None:
        """What changed since the cursor has been applied; ``changed_step`` touched the rows last."""
        if self._differs_since is None:
            return None
        were_under_way = changed_step > self._differs_since
        self._differs_since = None
        repair = None
        if not were_under_way:
            repair = Repair.WHOLE if self._has_tried_pairs else Repair.PAIRS
            self._has_tried_pairs = not self._has_tried_pairs
        self._looks += 1
        if self._looks < self._tries:
            self.due_at = now
        else:
            self._looks = 0
        return repair
