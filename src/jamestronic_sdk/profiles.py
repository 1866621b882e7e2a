"""Typed reads of people; reach it as ``jt.profiles``.

Promises:
    Row level security decides who is seen; what is answered is validated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from pydantic import TypeAdapter

from jamestronic_sdk._filters import after_row
from jamestronic_sdk._inputs import checked_bool, checked_int, checked_text, profile_id
from jamestronic_sdk._paging import RowQuery, count_rows
from jamestronic_sdk._ticket_reads import MAX_PAGE
from jamestronic_sdk.errors import NotFoundError
from jamestronic_sdk.models import LAZY, Profile, Role

if TYPE_CHECKING:
    from postgrest import AsyncSelectRequestBuilder

    from jamestronic_sdk._filters import ProfileRef
    from jamestronic_sdk._http import Wire
    from jamestronic_sdk._paging import Narrow
    from jamestronic_sdk.auth import Auth

__all__ = ["Profiles"]

# A name of its own because `list` is a method below.
ProfileRows: TypeAlias = list[Profile]

_ROWS: Final[TypeAdapter[list[Profile]]] = TypeAdapter(list[Profile], config=LAZY)


class Profiles:
    """Reads of people, on behalf of who is signed in."""

    __slots__ = ("_auth", "_wire")

    def __init__(self, wire: Wire, auth: Auth) -> None:
        self._wire: Final = wire
        self._auth: Final = auth

    @property
    def me(self) -> Profile:
        """The profile of the person who is signed in, as loaded at sign-in.

        Raises:
            NotSignedInError: Nobody is.
        """
        return self._auth.me.profile

    async def get(self, profile: ProfileRef) -> Profile:
        """One person as they are now.

        Args:
            profile: The profile, its id, or the id's text.

        Raises:
            NotFoundError: There is none, or you may not see it.
            InvalidInputError: Not an id; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        wanted = str(profile_id(profile, "profile"))
        rows = await _read(self._wire, lambda query: query.eq("id", wanted).limit(1), "profiles.get")
        if not rows:
            raise NotFoundError(
                f"profiles.get: no profile {wanted}.",
                next_step="It does not exist, or your role may not see it.",
                operation="profiles.get",
            )
        return rows[0]

    async def list(
        self, *, role: Role | str | None = None, is_active: bool | None = None, limit: int = MAX_PAGE
    ) -> ProfileRows:
        """The first people that you may see, by name, in one request.

        Args:
            role: Only those with this role.
            is_active: True: only active ones; False: only deactivated ones.
            limit: At most so many, 1 to 1000.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        count = checked_int(limit, "limit", low=1, high=MAX_PAGE)
        return await _People(self._wire, role, is_active).page(None, count)

    def query(
        self, *, role: Role | str | None = None, is_active: bool | None = None, limit: int | None = None
    ) -> RowQuery[Profile]:
        """The people that you may see, by name, to be walked: see ``RowQuery``.

        While it is walked, a person who is renamed may come twice or not at all.

        Args:
            role: Only those with this role.
            is_active: True: only active ones; False: only deactivated ones.
            limit: At most so many; None: all.

        Raises:
            InvalidInputError: An argument is malformed; nothing is sent.
        """
        most = None if limit is None else checked_int(limit, "limit", low=1, high=2**63 - 1)
        return RowQuery(_People(self._wire, role, is_active), limit=most, max_page=MAX_PAGE)


class _People:
    """Where the pages of one list of people come from."""

    __slots__ = ("_is_active", "_role", "_wire")

    def __init__(self, wire: Wire, role: object, is_active: object) -> None:
        self._wire: Final = wire
        self._role: Final = None if role is None else str(checked_text(role, "role", limit=200))
        self._is_active: Final = checked_bool(is_active, "is_active")

    async def page(self, after: Profile | None, size: int) -> ProfileRows:
        """At most ``size`` people who come after one."""

        def narrow(query: AsyncSelectRequestBuilder) -> AsyncSelectRequestBuilder:
            query = self._narrowed(query)
            if after is not None:
                query = query.or_(after_row("full_name", after.full_name, "id", after.id, "gt"))
            return query.order("full_name").order("id").limit(size)

        return await _read(self._wire, narrow, "profiles.list")

    async def count(self) -> int:
        """How many there are."""
        return await count_rows(self._wire, "profiles", self._narrowed, "profiles.count")

    def _narrowed(self, query: AsyncSelectRequestBuilder) -> AsyncSelectRequestBuilder:
        if self._role is not None:
            query = query.eq("role", self._role)
        return query if self._is_active is None else query.is_("is_active", self._is_active)


async def _read(wire: Wire, narrow: Narrow, operation: str) -> ProfileRows:
    from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

    response = await wire.send(
        lambda raw: narrow(raw.table("profiles").select("*")),
        operation=operation,
        target="profiles",
        replayable=True,
    )
    return parse(_ROWS, response, operation)
