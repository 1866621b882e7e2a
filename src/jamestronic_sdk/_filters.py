"""What a read of tickets may ask for, checked and put into PostgREST's words.

Promises:
    Whatever a caller's text holds (commas, quotes, parentheses, operators, wildcards), it stays text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypedDict, get_args
from uuid import UUID

from jamestronic_sdk._inputs import checked_bool, checked_moment, checked_text, checked_words, profile_id
from jamestronic_sdk.errors import InvalidInputError
from jamestronic_sdk.models import Profile, Ticket, TicketPriority, TicketStatus

if TYPE_CHECKING:
    from datetime import datetime

    from postgrest import AsyncSelectRequestBuilder

__all__ = ["Filters", "PriorityFilter", "ProfileRef", "StatusFilter", "TicketFilters", "TicketOrder"]

ProfileRef: TypeAlias = Profile | UUID | str
"""A profile, its id, or the id's text."""

StatusFilter: TypeAlias = TicketStatus | str | Iterable[TicketStatus | str]
"""One status, or any of several."""

PriorityFilter: TypeAlias = TicketPriority | str | Iterable[TicketPriority | str]
"""One priority, or any of several."""

TicketOrder: TypeAlias = Literal["newest", "oldest", "recently_updated", "least_recently_updated"]
"""The order of a list. The first two are stable: a row keeps its place whatever happens to it."""

LONGEST_WORD: Final = 200
"""Characters in a status, a priority or a text that is searched for."""


class TicketFilters(TypedDict, total=False):
    """The filters of a read; all must hold, None is the same as not given."""

    status: StatusFilter | None
    """One status or several."""
    priority: PriorityFilter | None
    """One priority or several."""
    technician: ProfileRef | None
    """Whose tickets; excludes ``unassigned=True``."""
    unassigned: bool | None
    """True: only those without a technician; False: only those with one."""
    or_unassigned: bool | None
    """True: with ``technician``, the tickets without one, too."""
    customer: ProfileRef | None
    """Whose device it is."""
    transporter: ProfileRef | None
    """Who moves the device."""
    text: str | None
    """What title, description or appliance must contain, in any case; or a number such as ``JT-1042``."""
    created_after: datetime | None
    """At this moment or later; aware."""
    created_before: datetime | None
    """Before this moment; aware."""
    updated_after: datetime | None
    """At this moment or later; aware."""
    updated_before: datetime | None
    """Before this moment; aware."""
    scheduled_after: datetime | None
    """At this moment or later; aware. Leaves out what is not scheduled."""
    scheduled_before: datetime | None
    """Before this moment; aware. Leaves out what is not scheduled."""


_PEOPLE: Final = {
    "technician": "assigned_technician_id",
    "customer": "customer_id",
    "transporter": "assigned_transporter_id",
}
_WORDS: Final = ("status", "priority")
_MOMENTS: Final = {
    f"{name}_{side}": (f"{name}_at", operator)
    for name in ("created", "updated", "scheduled")
    for side, operator in (("after", "gte"), ("before", "lt"))
}
_SEARCHED: Final = ("title", "description", "appliance_type", "appliance_brand", "appliance_model")
_NUMBER: Final = re.compile(r"(?:jt-)?(\d{1,18})", re.IGNORECASE | re.ASCII)


class Filters:
    """The checked filters of one read."""

    __slots__ = ("_any_of", "_one_of", "_terms")

    def __init__(self, given: TicketFilters) -> None:
        filters: dict[str, object] = {name: value for name, value in given.items() if value is not None}
        unknown = filters.keys() - TicketFilters.__annotations__.keys()
        if unknown:
            raise InvalidInputError(f"There is no filter {', '.join(sorted(unknown))[:100]!r}.")
        self._terms: Final = [*_people(filters), *_moments(filters)]
        self._one_of: Final[dict[str, list[str]]] = {}
        for name in _WORDS:
            words = checked_words(filters.get(name), name, limit=LONGEST_WORD)
            if words is not None:
                self._one_of[name] = words
        text = filters.get("text")
        # Each is one group of alternatives; all groups must hold.
        self._any_of: Final = _pool_or_technician(filters)
        if text is not None:
            self._any_of.append(_containing(checked_text(text, "text", limit=LONGEST_WORD).strip()))

    @property
    def is_empty_set(self) -> bool:
        """Whether no row can match: "any of" nothing."""
        return any(not words for words in self._one_of.values())

    def apply(self, query: AsyncSelectRequestBuilder) -> AsyncSelectRequestBuilder:
        """Narrow a query."""
        for column, operator, value in self._terms:
            query = query.filter(column, operator, value)
        for column, words in self._one_of.items():
            query = query.eq(column, words[0]) if len(words) == 1 else query.in_(column, words)
        for alternatives in self._any_of:
            query = query.or_(alternatives)
        return query


def _people(filters: dict[str, object]) -> list[tuple[str, str, str]]:
    """Column, operator and value of each filter by person."""
    terms = [
        (column, "eq", str(profile_id(filters[name], name)))
        for name, column in _PEOPLE.items()
        if name in filters and not (name == "technician" and filters.get("or_unassigned"))
    ]
    unassigned = checked_bool(filters.get("unassigned"), "unassigned")
    if unassigned and "technician" in filters:
        raise InvalidInputError("technician and unassigned=True exclude each other.")
    if unassigned is not None:
        terms.append(("assigned_technician_id", "is" if unassigned else "not.is", "null"))
    return terms


def _pool_or_technician(filters: dict[str, object]) -> list[str]:
    """A technician's tickets and the pool, as alternatives of one query.

    Two queries would miss a ticket that moves from one to the other between them.
    """
    if not checked_bool(filters.get("or_unassigned"), "or_unassigned"):
        return []
    if "technician" not in filters:
        raise InvalidInputError("or_unassigned widens a technician's tickets; give technician, too.")
    column, technician = _PEOPLE["technician"], profile_id(filters["technician"], "technician")
    return [f"{column}.eq.{technician},{column}.is.null"]


def _moments(filters: dict[str, object]) -> list[tuple[str, str, str]]:
    """Column, operator and value of each filter by time."""
    return [
        (column, operator, checked_moment(filters[name], name).isoformat())
        for name, (column, operator) in _MOMENTS.items()
        if name in filters
    ]


def _containing(text: str) -> str:
    """Alternatives for "contains", as a regular expression of which each sign is taken literally.

    Not ``ilike``: PostgREST turns each ``*`` of its value into ``%``, and there is no way to say otherwise.
    """
    pattern = "".join(f"\\{sign}" if _is_sign(sign) else sign for sign in text)
    alternatives = [f"{column}.imatch.{quoted(pattern)}" for column in _SEARCHED]
    number = _NUMBER.fullmatch(text)
    if number is not None:
        alternatives.append(f"number.eq.{int(number[1])}")
    return ",".join(alternatives)


def _is_sign(sign: str) -> bool:
    """Whether a regular expression may give it a meaning; a backslash before a letter or digit has one."""
    return sign.isascii() and not sign.isalnum() and not sign.isspace()


def quoted(value: str) -> str:
    """A value inside PostgREST's ``or``, ``and`` and ``in``: in double quotes, with backslash escapes."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def after_row(column: str, value: str, tie: str, tie_value: object, beyond: str) -> str:
    """What comes after a row, in the order of a column and then of a unique one.

    Args:
        column: Of the order.
        value: Of the row, there.
        tie: The unique column, in the same direction.
        tie_value: Of the row, there: a number or a UUID.
        beyond: ``gt``, or ``lt`` when the order descends.
    """
    last = quoted(value)
    return f"{column}.{beyond}.{last},and({column}.eq.{last},{tie}.{beyond}.{tie_value})"


class Order:
    """The order of a list, and where its next page begins."""

    __slots__ = ("_column", "_descending")

    def __init__(self, order: TicketOrder) -> None:
        if order not in get_args(TicketOrder):
            raise InvalidInputError(f"order must be one of {', '.join(get_args(TicketOrder))}.")
        self._column: Final = None if order in {"newest", "oldest"} else "updated_at"
        self._descending: Final = order in {"newest", "recently_updated"}

    def apply(self, query: AsyncSelectRequestBuilder, after: Ticket | None) -> AsyncSelectRequestBuilder:
        """Order a query, and begin it after a row."""
        beyond = "lt" if self._descending else "gt"
        if after is not None and self._column is None:
            query = query.filter("number", beyond, str(after.number))
        elif after is not None:
            query = query.or_(
                after_row("updated_at", after.updated_at.isoformat(), "number", after.number, beyond)
            )
        if self._column is not None:
            query = query.order(self._column, desc=self._descending)
        return query.order("number", desc=self._descending)
