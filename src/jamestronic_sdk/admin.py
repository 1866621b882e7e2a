"""Accounts and roles, for programs that hold the service key; reach it as ``jt.admin``.

Promises:
    Refused here, before the network, with any other key and whoever is signed in.
    Role and profile stay in step: the role is written where tokens take it from, and the database's
    trigger carries it to ``profiles``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

from pydantic import TypeAdapter
from typing_extensions import override

from jamestronic_sdk._inputs import checked_int, checked_text, checked_uuid
from jamestronic_sdk.errors import (
    InvalidInputError,
    NoProfileError,
    NotFoundError,
    PermissionDeniedError,
    SessionExpiredError,
)
from jamestronic_sdk.models import LAZY, Profile, Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from supabase import AsyncClient
    from supabase_auth import AsyncGoTrueClient
    from supabase_auth.types import AdminUserAttributes, User

    from jamestronic_sdk._http import Query, Wire

__all__ = ["Account", "Admin"]

_T = TypeVar("_T")

_PROFILES: Final[TypeAdapter[list[Profile]]] = TypeAdapter(list[Profile], config=LAZY)

# Auth's own limit for a page of users is higher, but each answer carries all identities of each user.
_MAX_PAGE: Final = 1000


@dataclass(frozen=True, slots=True, repr=False)
class Account:
    """An Auth user; its ``repr`` shows the id only."""

    user_id: UUID
    email: str | None
    phone: str | None
    role: Role | str | None
    """As the next token will say it; None when no role was ever given."""
    is_confirmed: bool
    """Whether the e-mail address or the phone number is confirmed."""

    @override
    def __repr__(self) -> str:
        return f"Account(user_id={self.user_id})"


class Admin:
    """Accounts and roles. Everything here needs the service key."""

    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire: Final = wire

    async def create_user(
        self,
        *,
        email: str,
        role: Role,
        password: str | None = None,
        full_name: str = "",
    ) -> Profile:
        """Make a confirmed account with a profile.

        Args:
            email: The address; it counts as confirmed.
            role: What the person may do.
            password: None makes an account that signs in by code or link only.
            full_name: The name to show.

        Returns:
            The new profile.

        Raises:
            PermissionDeniedError: This client has no service key.
            ConflictError: There is such an account.
            InvalidInputError: An argument is malformed; nothing was sent.
            NoProfileError: The account was made, but the database gave it no profile: is the SQL applied?
            JamesTronicError: See ``errors.py``.
        """
        operation = "admin.create_user"
        attributes: AdminUserAttributes = {
            "email": checked_text(email, "email", limit=320).strip(),
            "email_confirm": True,
            "app_metadata": {"role": str(_role(role))},
        }
        if password is not None:
            attributes["password"] = checked_text(password, "password", limit=1000)
        if full_name:
            attributes["user_metadata"] = {"full_name": checked_text(full_name, "full_name", limit=200)}
        door = self._door(operation)
        with self._wire.operation(operation):
            made = await self._ask(lambda: door.admin.create_user(attributes), operation)
            return await self._profile(UUID(made.user.id), operation)

    async def invite_user(self, *, email: str, role: Role) -> Profile:
        """Make an account and mail an invitation.

        Args:
            email: Where the invitation goes.
            role: What the person may do.

        Returns:
            The new profile.

        Raises:
            RateLimitedError: The project has sent too many mails.
            JamesTronicError: As ``create_user``.
        """
        operation = "admin.invite_user"
        address = checked_text(email, "email", limit=320).strip()
        wanted = _role(role)
        door = self._door(operation)
        with self._wire.operation(operation):
            made = await self._ask(lambda: door.admin.invite_user_by_email(address), operation)
            return await self.set_role(UUID(made.user.id), wanted)

    async def list_users(self, *, page: int = 1, page_size: int = 50) -> list[Account]:
        """One page of accounts, the newest first.

        Args:
            page: From 1.
            page_size: Accounts per page, 1 to 1000. A shorter page is the last one.

        Raises:
            JamesTronicError: As ``create_user``.
        """
        operation = "admin.list_users"
        number = checked_int(page, "page", low=1, high=1_000_000)
        size = checked_int(page_size, "page_size", low=1, high=_MAX_PAGE)
        door = self._door(operation)
        users = await self._ask(lambda: door.admin.list_users(number, size), operation, replayable=True)
        return [_account(user) for user in users]

    async def set_role(self, user_id: UUID | str, role: Role) -> Profile:
        """Give a person another role; it counts at once for data, and in tokens from the next renewal.

        Args:
            user_id: ``profiles.user_id``, not ``profiles.id``.
            role: What the person may do.

        Returns:
            The profile as it is now.

        Raises:
            NotFoundError: There is no such account.
            JamesTronicError: As ``create_user``.
        """
        operation = "admin.set_role"
        user = checked_uuid(user_id, "user_id")
        wanted = _role(role)
        door = self._door(operation)
        attributes: AdminUserAttributes = {"app_metadata": {"role": str(wanted)}}
        with self._wire.operation(operation):
            await self._ask(
                lambda: door.admin.update_user_by_id(str(user), attributes), operation, replayable=True
            )
            profile = await self._profile(user, operation)
            if profile.role == wanted:
                return profile
            # The token's role was this one already, so the trigger had nothing to carry over.
            return await self._write(user, {"role": str(wanted)}, operation)

    async def set_active(self, user_id: UUID | str, *, is_active: bool) -> Profile:
        """Deactivate a person, or activate them again; it counts at once, for sessions that are open, too.

        Args:
            user_id: ``profiles.user_id``.
            is_active: False: the person reads and writes nothing.

        Returns:
            The profile as it is now.

        Raises:
            NoProfileError: The account has no profile, or there is no such account.
            JamesTronicError: As ``create_user``.
        """
        operation = "admin.set_active"
        user = checked_uuid(user_id, "user_id")
        if not isinstance(is_active, bool):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise InvalidInputError("is_active must be True or False.")
        self._door(operation)
        return await self._write(user, {"is_active": is_active}, operation)

    async def delete_user(self, user_id: UUID | str) -> None:
        """Delete an account; its profile is deactivated and kept, because tickets refer to it.

        Args:
            user_id: ``profiles.user_id``.

        Raises:
            NotFoundError: There is no such account.
            JamesTronicError: As ``create_user``.
        """
        operation = "admin.delete_user"
        user = str(checked_uuid(user_id, "user_id"))
        door = self._door(operation)
        await self._ask(lambda: door.admin.delete_user(user), operation)

    # -- inside ------------------------------------------------------------------------------------

    def _door(self, operation: str) -> AsyncGoTrueClient:
        self._wire.core.require_open()
        if not self._wire.core.settings.is_service:
            raise PermissionDeniedError(
                f"{operation}: only a service key may do this.",
                next_step="Make a client with service=True and SUPABASE_SERVICE_ROLE_KEY, on a server.",
                operation=operation,
            )
        return self._wire.core.door()

    async def _ask(
        self, call: Callable[[], Awaitable[_T]], operation: str, *, replayable: bool = False
    ) -> _T:
        """Ask Auth; "no such user" is about the account here, not about a session."""
        try:
            return await self._wire.ask_auth(call, operation=operation, replayable=replayable)
        except SessionExpiredError as error:
            if error.code != "user_not_found":
                raise
            raise NotFoundError(
                f"{operation}: there is no such account.",
                status=error.status,
                code=error.code,
                operation=operation,
            ) from error

    async def _profile(self, user: UUID, operation: str) -> Profile:
        return await self._one(
            lambda raw: raw.table("profiles").select("*").eq("user_id", str(user)), operation
        )

    async def _write(self, user: UUID, changes: dict[str, object], operation: str) -> Profile:
        return await self._one(
            lambda raw: raw.table("profiles").update(changes).eq("user_id", str(user)),  # pyright: ignore[reportUnknownMemberType] - its JSON alias is recursive
            operation,
        )

    async def _one(self, build: Callable[[AsyncClient], Query], operation: str) -> Profile:
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        # Setting a column to a value twice is the same as once, so both may be repeated.
        response = await self._wire.send(build, operation=operation, target="profiles", replayable=True)
        rows = parse(_PROFILES, response, operation)
        if not rows:
            raise NoProfileError(
                f"{operation}: this account has no profile.", next_step="Check that the SQL is applied."
            )
        return rows[0]


def _role(role: object) -> Role:
    try:
        return Role(str(role))
    except ValueError:
        raise InvalidInputError(f"role must be one of {', '.join(Role)}.") from None


def _account(user: User) -> Account:
    given = user.app_metadata.get("role")
    role = given if isinstance(given, str) else None
    return Account(
        user_id=UUID(user.id),
        email=user.email or None,
        phone=user.phone or None,
        role=Role(role) if role in set(Role) else role,
        is_confirmed=user.confirmed_at is not None
        or user.email_confirmed_at is not None
        or user.phone_confirmed_at is not None,
    )
