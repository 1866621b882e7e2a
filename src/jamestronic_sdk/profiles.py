"""Typed reads of people; reach it as ``jt.profiles``.

Promises:
    Row level security decides who is seen; what is answered is validated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from pydantic import TypeAdapter

from jamestronic_sdk._inputs import checked_bool, checked_int, checked_text, profile_id
from jamestronic_sdk._ticket_reads import MAX_PAGE
from jamestronic_sdk.errors import NotFoundError
from jamestronic_sdk.models import LAZY, Profile, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from postgrest import AsyncSelectRequestBuilder

    from jamestronic_sdk._filters import ProfileRef
    from jamestronic_sdk._http import Wire
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
        rows = await self._read(lambda query: query.eq("id", wanted).limit(1), "profiles.get")
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
        """The people that you may see, by name.

        Args:
            role: Only those with this role.
            is_active: True: only active ones; False: only deactivated ones.
            limit: At most so many, 1 to 1000.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        wanted = None if role is None else str(checked_text(role, "role", limit=200))
        count = checked_int(limit, "limit", low=1, high=MAX_PAGE)
        active = checked_bool(is_active, "is_active")

        def narrow(query: AsyncSelectRequestBuilder) -> AsyncSelectRequestBuilder:
            if wanted is not None:
                query = query.eq("role", wanted)
            if active is not None:
                query = query.is_("is_active", active)
            return query.order("full_name").order("id").limit(count)

        return await self._read(narrow, "profiles.list")

    async def _read(
        self, narrow: Callable[[AsyncSelectRequestBuilder], AsyncSelectRequestBuilder], operation: str
    ) -> ProfileRows:
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        response = await self._wire.send(
            lambda raw: narrow(raw.table("profiles").select("*")),
            operation=operation,
            target="profiles",
            replayable=True,
        )
        return parse(_ROWS, response, operation)
