"""Accounts and roles: who may, what is sent, and what is refused before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from client_support import (
    SERVICE_KEY,
    USER,
    Service,
    auth_error,
    client,
    ok,
    profile,
    serving,
    session,
    signed_in,
)

from jamestronic_sdk import (
    Account,
    Admin,
    ConflictError,
    InvalidInputError,
    JamesTronic,
    NoProfileError,
    NotFoundError,
    PermissionDeniedError,
    Role,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

USERS = "/auth/v1/admin/users"
ONE = f"{USERS}/{USER}"
PROFILES = "GET /rest/v1/profiles"
PATCH = "PATCH /rest/v1/profiles"


def user(**changes: object) -> dict[str, object]:
    made = session()["user"]
    assert isinstance(made, dict)
    return {**made, **changes}


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as running:
        running.script(f"POST {USERS}", lambda: ok(user()))
        running.script(f"PUT {ONE}", lambda: ok(user()))
        running.script(f"DELETE {ONE}", lambda: ok({}))
        running.script(PATCH, lambda: ok([profile()]))
        yield running


@pytest.fixture
async def jt(service: Service) -> AsyncIterator[JamesTronic]:
    async with client(service, SERVICE_KEY) as opened:
        yield opened


def calls(admin: Admin, user_id: Any = USER) -> list[Any]:
    return [
        admin.create_user(email="a@example.test", role=Role.STAFF),
        admin.invite_user(email="a@example.test", role=Role.STAFF),
        admin.list_users(),
        admin.set_role(user_id, Role.STAFF),
        admin.set_active(user_id, is_active=False),
        admin.delete_user(user_id),
    ]


async def test_only_a_service_key_may(service: Service) -> None:
    async with signed_in(service) as jt:
        for call in calls(jt.admin):
            with pytest.raises(PermissionDeniedError, match="SUPABASE_SERVICE_ROLE_KEY"):
                await call
    assert service.requests == []


async def test_create_user(service: Service, jt: JamesTronic) -> None:
    made = await jt.admin.create_user(
        email=" new@example.test ", role=Role.TECHNICIAN, password="long enough", full_name="Neu"
    )
    assert made.role is Role.TECHNICIAN
    (sent,) = service.seen(f"POST {USERS}")
    assert sent.body == {
        "email": "new@example.test",
        "email_confirm": True,
        "app_metadata": {"role": "technician"},
        "password": "long enough",
        "user_metadata": {"full_name": "Neu"},
    }
    assert sent.headers["authorization"] == f"Bearer {SERVICE_KEY}"
    assert service.seen(PROFILES)[0].headers["authorization"] == f"Bearer {SERVICE_KEY}"
    service.script(f"POST {USERS}", lambda: auth_error(422, "email_exists"))
    with pytest.raises(ConflictError):
        await jt.admin.create_user(email="new@example.test", role=Role.STAFF)


async def test_the_service_speaks_whoever_is_signed_in(service: Service, jt: JamesTronic) -> None:
    await jt.auth.sign_in(email="ada@example.test", password="x")
    service.requests.clear()
    await jt.admin.set_active(USER, is_active=True)
    assert service.seen(PATCH)[0].headers["authorization"] == f"Bearer {SERVICE_KEY}"


async def test_an_account_without_a_profile_says_so(service: Service, jt: JamesTronic) -> None:
    service.script(PROFILES, lambda: ok([]))
    with pytest.raises(NoProfileError, match="SQL"):
        await jt.admin.create_user(email="new@example.test", role=Role.STAFF)


async def test_set_role_keeps_token_and_profile_in_step(service: Service, jt: JamesTronic) -> None:
    service.script(PROFILES, lambda: ok([profile(role="staff")]))
    assert (await jt.admin.set_role(USER, Role.STAFF)).role is Role.STAFF
    assert service.seen(f"PUT {ONE}")[0].body == {"app_metadata": {"role": "staff"}}
    assert service.seen(PATCH) == []
    service.script(PROFILES, lambda: ok([profile(role="customer")]))
    service.script(PATCH, lambda: ok([profile(role="staff")]))
    assert (await jt.admin.set_role(UUID(USER), "staff")).role is Role.STAFF  # type: ignore[arg-type]
    assert service.seen(PATCH)[0].body == {"role": "staff"}


async def test_set_active_and_delete(service: Service, jt: JamesTronic) -> None:
    await jt.admin.set_active(USER, is_active=False)
    assert service.seen(PATCH)[0].body == {"is_active": False}
    await jt.admin.delete_user(USER)
    service.script(f"DELETE {ONE}", lambda: auth_error(404, "user_not_found"))
    with pytest.raises(NotFoundError, match="no such account"):
        await jt.admin.delete_user(USER)


async def test_list_users(service: Service, jt: JamesTronic) -> None:
    rows = [
        user(email="a@example.test", app_metadata={"role": "staff"}, confirmed_at="2026-11-01T08:00:00Z"),
        user(app_metadata={"role": "auditor"}, phone="+15550100"),
        user(app_metadata={"role": 5}),
    ]
    service.script(f"GET {USERS}", lambda: ok({"users": rows, "aud": "authenticated"}))
    accounts = await jt.admin.list_users(page=2, page_size=3)
    assert accounts == [
        Account(UUID(USER), "a@example.test", None, Role.STAFF, is_confirmed=True),
        Account(UUID(USER), None, "+15550100", "auditor", is_confirmed=False),
        Account(UUID(USER), None, None, None, is_confirmed=False),
    ]
    assert "example.test" not in repr(accounts)
    assert service.seen(f"GET {USERS}")[0].query == {"page": "2", "per_page": "3"}


@pytest.mark.parametrize("user_id", ["", "x", None, 5, f"{USER}/factors"])
async def test_malformed_ids_send_nothing(service: Service, jt: JamesTronic, user_id: Any) -> None:
    for call in calls(jt.admin, user_id):
        if call.__name__ in {"create_user", "invite_user", "list_users"}:
            call.close()
            continue
        with pytest.raises(InvalidInputError):
            await call
    assert service.requests == []


@pytest.mark.parametrize(
    "fields",
    [
        {"email": "", "role": Role.STAFF},
        {"email": "a@b.c", "role": "auditor"},
        {"email": "a@b.c", "role": None},
        {"email": "a@b.c", "role": Role.STAFF, "password": ""},
        {"email": "a@b.c", "role": Role.STAFF, "full_name": "x" * 201},
    ],
)
async def test_malformed_accounts_send_nothing(
    service: Service, jt: JamesTronic, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        await jt.admin.create_user(**fields)
    for page in ({"page": 0}, {"page_size": 0}, {"page_size": 1001}):
        with pytest.raises(InvalidInputError):
            await jt.admin.list_users(**page)
    with pytest.raises(InvalidInputError):
        await jt.admin.set_active(USER, is_active="yes")  # type: ignore[arg-type]
    assert service.requests == []
