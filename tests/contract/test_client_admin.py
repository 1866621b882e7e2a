"""Accounts and roles on the local stack."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from client_people import Shop, open_shop

from jamestronic_sdk import (
    ConflictError,
    InactiveProfileError,
    InvalidCredentialsError,
    NoProfileError,
    NotFoundError,
    PermissionDeniedError,
    Role,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from project import Project


@pytest.fixture
async def shop(project: Project) -> AsyncIterator[Shop]:
    async with open_shop(project) as opened:
        yield opened


async def test_the_life_of_an_account(shop: Shop) -> None:
    admin = shop.service.admin
    email, password = f"life-{uuid4().hex[:8]}@example.test", uuid4().hex
    made = await admin.create_user(
        email=email, role=Role.TECHNICIAN, password=password, full_name="Ada Example"
    )
    assert (made.role, made.full_name, made.is_active) == (Role.TECHNICIAN, "Ada Example", True)
    assert made.user_id is not None
    with pytest.raises(ConflictError):
        await admin.create_user(email=email, role=Role.STAFF)

    async with shop.client() as jt:
        assert (await jt.auth.sign_in(email=email, password=password)).profile == made
        with pytest.raises(PermissionDeniedError):
            await jt.tickets.create(title="a technician may not")
        assert (await admin.set_role(made.user_id, Role.STAFF)).role is Role.STAFF
        await jt.tickets.create(title="counts at once")
        assert (await jt.auth.reload_me()).role is Role.STAFF

        assert not (await admin.set_active(made.user_id, is_active=False)).is_active
        assert await jt.tickets.list() == []
        with pytest.raises(InactiveProfileError):
            await jt.auth.sign_in(email=email, password=password)
        assert (await admin.set_active(made.user_id, is_active=True)).is_active
        await jt.auth.sign_in(email=email, password=password)

    await admin.delete_user(made.user_id)
    assert not (await shop.service.profiles.get(made.id)).is_active
    async with shop.client() as jt:
        with pytest.raises(InvalidCredentialsError):
            await jt.auth.sign_in(email=email, password=password)
    with pytest.raises(NotFoundError):
        await admin.delete_user(made.user_id)
    with pytest.raises(NotFoundError):
        await admin.set_role(made.user_id, Role.ADMIN)
    with pytest.raises(NoProfileError):
        await admin.set_active(made.user_id, is_active=True)


async def test_accounts_are_listed_page_by_page(shop: Shop) -> None:
    people = [await shop.person(Role.CUSTOMER) for _ in range(3)]
    first = await shop.service.admin.list_users(page_size=2)
    second = await shop.service.admin.list_users(page=2, page_size=2)
    assert [one.email for one in [*first, *second]][:3] == [person.email for person in reversed(people)]
    assert all(one.is_confirmed and one.role is Role.CUSTOMER for one in first)
