"""People and tickets for the client's contract tests: each test makes its own."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from project import Project

from jamestronic_sdk import JamesTronic, NotFoundError, Profile, Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jamestronic_sdk.local.stack import LocalSupabase


@dataclass(frozen=True)
class Person:
    """An account and its password."""

    email: str
    password: str = field(repr=False)
    user_id: str


class Shop:
    """Makes people through the admin API and signs them in."""

    def __init__(self, supabase: Project, service: JamesTronic) -> None:
        self.supabase = supabase
        self.service = service
        self._made: list[str] = []

    async def person(self, role: Role | None) -> Person:
        """A confirmed account; the database's trigger makes the profile."""
        name, password = f"{role or 'nobody'}-{uuid4().hex[:8]}", uuid4().hex
        made = await self.service._raw.auth.admin.create_user(
            {
                "email": f"{name}@example.test",
                "password": password,
                "email_confirm": True,
                "app_metadata": {"role": str(role)} if role else {},
                "user_metadata": {"full_name": name},
            }
        )
        self._made.append(made.user.id)
        return Person(f"{name}@example.test", password, made.user.id)

    async def leave(self) -> None:
        """Remove the people from a project that lives on."""
        if self.supabase.stack is None:
            for user_id in self._made:
                with suppress(NotFoundError):
                    await self.service.admin.delete_user(user_id)

    def client(self, **options: Any) -> JamesTronic:
        return JamesTronic(self.supabase.url, self.supabase.anon_key, env_file=None, **options)

    @asynccontextmanager
    async def signed_in(self, role: Role, **options: Any) -> AsyncIterator[JamesTronic]:
        person = await self.person(role)
        async with self.client(**options) as jt:
            await jt.auth.sign_in(email=person.email, password=person.password)
            yield jt

    async def profile_of(self, person: Person) -> Profile:
        rows = await self.service._raw.table("profiles").select("*").eq("user_id", person.user_id).execute()
        return Profile.model_validate(rows.data[0])


@asynccontextmanager
async def open_shop(supabase: Project | LocalSupabase) -> AsyncIterator[Shop]:
    """A shop in a project, or in a stack."""
    project = supabase if isinstance(supabase, Project) else Project.of_stack(supabase)
    async with JamesTronic(project.url, project.service_role_key, env_file=None) as service:
        shop = Shop(project, service)
        try:
            yield shop
        finally:
            await shop.leave()
