"""What people type: JT-1001, a name, yesterday; and what is meant by it.

Promises:
    What could mean several people names them and does nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

import typer

from jamestronic_sdk.cli._output import plain
from jamestronic_sdk.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jamestronic_sdk.client import JamesTronic
    from jamestronic_sdk.models import Ticket

__all__ = ["moment", "names_of", "now", "person_id", "ticket_named"]

_NUMBER: Final = re.compile(r"(?:jt-|#)?([0-9]{1,18})", re.IGNORECASE)
_AGO: Final = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_CANDIDATES: Final = 20
"""People that an error lists; who reads it needs no more to see that the name is too short."""
_PAGE: Final = 200


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def ticket_named(jt: JamesTronic, text: str) -> Ticket:
    """The ticket with an id, or with a number as people say it.

    Raises:
        InvalidInputError: It is neither.
        NotFoundError: There is none, or it is not visible.
    """
    key = _uuid(text.strip())
    if key is None:
        match = _NUMBER.fullmatch(text.strip())
        if match is None:
            raise InvalidInputError(
                f"{plain(text)[:60]!r} is no ticket.", next_step="Name it by its number (JT-1001) or its id."
            )
        rows = await jt.table("tickets").where("number", "eq", int(match[1])).limit(1).select("id")
        if not rows:
            raise NotFoundError(
                f"There is no ticket JT-{int(match[1])}.",
                next_step="It does not exist, or your role may not see it.",
            )
        key = UUID(rows[0]["id"])
    return await jt.tickets.get(key)


async def person_id(jt: JamesTronic, text: str, role: str) -> UUID:
    """The profile of somebody with a role: by id, name, part of a name, e-mail address, or ``@me``.

    Raises:
        InvalidInputError: Several people are called so.
        NotFoundError: Nobody is.
    """
    wanted = text.strip()
    key = _uuid(wanted)
    if key is not None:
        return key
    if wanted.lower() == "@me":
        return jt.auth.me.profile_id
    if "@" in wanted:
        return await _by_address(jt, wanted, role)
    found = await _called(jt, wanted, role)
    exact = [one for one in found if one["full_name"].casefold() == wanted.casefold()]
    found = exact or found
    if len(found) == 1:
        return UUID(found[0]["id"])
    if not found:
        raise NotFoundError(
            f"No {role} is called {plain(wanted)[:60]!r}.",
            next_step="Nobody has that name, or your role may not see them; a profile's id works, too.",
        )
    listed = "; ".join(f"{plain(one['full_name'])} {one['id']}" for one in found[:_CANDIDATES])
    more = f"; and {len(found) - _CANDIDATES} more" if len(found) > _CANDIDATES else ""
    raise InvalidInputError(
        f"{plain(wanted)[:60]!r} could be {len(found)} people: {listed}{more}.",
        next_step="Give the whole name, or the id.",
    )


async def _called(jt: JamesTronic, wanted: str, role: str) -> list[dict[str, Any]]:
    """Active people of a role whose name contains the words; wildcards of the database only widen it."""
    rows = await (
        jt.table("profiles")
        .where("role", "eq", role)
        .where("is_active", "is", True)
        .where("full_name", "ilike", f"%{wanted}%")
        .order("full_name")
        .limit(_PAGE)
        .select("id, full_name")
    )
    return [row for row in rows if wanted.casefold() in (row["full_name"] or "").casefold()]


async def _by_address(jt: JamesTronic, wanted: str, role: str) -> UUID:
    """E-mail addresses are Auth's: the service reads them all, everybody else knows their own."""
    if jt.auth.is_signed_in:
        from jamestronic_sdk.cli._session import claims_of  # noqa: PLC0415 - they import each other's room

        own = str(claims_of(await jt.auth.access_token()).get("email", ""))
        if own.casefold() == wanted.casefold():
            return jt.auth.me.profile_id
        raise InvalidInputError(
            "People's e-mail addresses are known to the service key only.",
            next_step="Name the person by name or profile id, or use --service.",
        )
    page = 1
    while accounts := await jt.admin.list_users(page=page, page_size=_PAGE):
        for account in accounts:
            if (account.email or "").casefold() == wanted.casefold():
                rows = await (
                    jt.table("profiles")
                    .where("user_id", "eq", account.user_id)
                    .where("role", "eq", role)
                    .limit(1)
                    .select("id")
                )
                if rows:
                    return UUID(rows[0]["id"])
        page += 1
    raise NotFoundError(f"No {role} has that e-mail address.", next_step="Name the person by name or id.")


async def names_of(jt: JamesTronic, people: Iterable[UUID | None]) -> dict[UUID, str]:
    """Names of those whom you may see; the others are left out."""
    wanted = sorted({one for one in people if one is not None})
    found: dict[UUID, str] = {}
    for start in range(0, len(wanted), 100):
        chunk: Sequence[UUID] = wanted[start : start + 100]
        rows = await jt.table("profiles").where("id", "in", chunk).select("id, full_name")
        found.update((UUID(row["id"]), cast("str", row["full_name"] or "")) for row in rows)
    return found


def now() -> datetime:
    """This machine's time, in UTC."""
    from jamestronic_sdk._clock import SYSTEM_CLOCK  # noqa: PLC0415 - imports asyncio

    return datetime.fromtimestamp(SYSTEM_CLOCK.wall(), UTC)


def moment(text: str | None, option: str) -> datetime | None:
    """A moment as people type it: ``2026-05-01``, ``2026-05-01T09:30``, or so long ago: ``45m``, ``7d``.

    Without an offset it is this machine's local time.
    """
    if text is None:
        return None
    match = _AGO.fullmatch(text.strip())
    try:
        if match is not None:
            return now() - timedelta(**{_UNITS[match[2]]: int(match[1])})
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            "Give a date (2026-05-01), a moment (2026-05-01T09:30) or how long ago (45m, 24h, 7d).",
            param_hint=option,
        ) from None
