"""Sign-in, sign-out and renewal on the local stack."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from client_people import Shop, open_shop
from project import Project

from jamestronic_sdk import (
    BadRequestError,
    ConflictError,
    ConnectionFailedError,
    FileSessionStore,
    InactiveProfileError,
    InvalidCredentialsError,
    JamesTronic,
    NoProfileError,
    NotSignedInError,
    Role,
    SchemaMissingError,
    SessionExpiredError,
)
from jamestronic_sdk.local.stack import LocalSupabase
from jamestronic_sdk.local.tokens import make_jwt, verify_jwt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def shop(project: Project) -> AsyncIterator[Shop]:
    async with open_shop(project) as opened:
        yield opened


@pytest.mark.parametrize("role", Role)
async def test_each_role_signs_in_and_out(shop: Shop, role: Role) -> None:
    person = await shop.person(role)
    async with shop.client() as jt:
        me = await jt.auth.sign_in(email=person.email.upper(), password=person.password)
        assert me.role is role
        assert str(me.user_id) == person.user_id
        assert me.profile == await shop.profile_of(person)
        assert await jt.profiles.get(me.profile_id) == me.profile
        await jt.auth.sign_out()
        with pytest.raises(NotSignedInError):
            await jt.tickets.list()


async def test_wrong_password_and_unknown_address(shop: Shop) -> None:
    person = await shop.person(Role.STAFF)
    async with shop.client() as jt:
        for email, password in ((person.email, "wrong"), ("nobody@example.test", person.password)):
            with pytest.raises(InvalidCredentialsError, match="Check the e-mail address") as caught:
                await jt.auth.sign_in(email=email, password=password)
            assert caught.value.code == "invalid_credentials"
            assert email not in str(caught.value)


async def test_an_account_without_a_profile(shop: Shop) -> None:
    person = await shop.person(Role.STAFF)
    await shop.service._raw.table("profiles").delete().eq("user_id", person.user_id).execute()
    async with shop.client() as jt:
        with pytest.raises(NoProfileError):
            await jt.auth.sign_in(email=person.email, password=person.password)
        assert not jt.auth.is_signed_in


async def test_a_deactivated_profile(shop: Shop) -> None:
    person = await shop.person(Role.TECHNICIAN)
    async with shop.client() as before:
        await before.auth.sign_in(email=person.email, password=person.password)
        await (
            shop.service._raw.table("profiles")
            .update({"is_active": False})
            .eq("user_id", person.user_id)
            .execute()
        )
        assert await before.tickets.list() == []
        with pytest.raises(InactiveProfileError):
            await before.auth.reload_me()
    async with shop.client() as jt:
        with pytest.raises(InactiveProfileError):
            await jt.auth.sign_in(email=person.email, password=person.password)
        assert not jt.auth.is_signed_in


async def test_no_server() -> None:
    key = make_jwt("any secret that is long enough, really", {"role": "anon"})
    async with JamesTronic("http://127.0.0.1:9", key, env_file=None) as jt:
        with pytest.raises(ConnectionFailedError, match="can't be reached"):
            await jt.auth.sign_in(email="a@example.test", password="x")


async def test_a_database_without_the_sql() -> None:
    async with (
        LocalSupabase(port=0, apply_sql=False) as supabase,
        open_shop(Project.of_stack(supabase)) as shop,
    ):
        person = await shop.person(Role.ADMIN)
        async with shop.client() as jt:
            with pytest.raises(SchemaMissingError, match=r"010_schema\.sql"):
                await jt.auth.sign_in(email=person.email, password=person.password)
            assert not jt.auth.is_signed_in


async def test_many_calls_through_an_expired_token_renew_once(shop: Shop) -> None:
    """The server says that the token is too old; 50 callers get their rows by one renewal."""
    async with shop.signed_in(Role.ADMIN) as jt:
        session = jt.auth._session
        assert session is not None
        claims = verify_jwt(shop.supabase.jwt_secret, session.access_token)
        old = make_jwt(shop.supabase.jwt_secret, {**claims, "exp": int(time.time()) - 60})
        jt.auth._session = dataclasses.replace(session, access_token=old)
        told: list[str | None] = []
        jt.auth.on_token(told.append)
        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(jt.tickets.list())
        assert len(told) == 1
        assert told[0] == await jt.auth.access_token() != old


async def test_a_session_that_was_revoked_ends_with_the_reason(shop: Shop) -> None:
    person = await shop.person(Role.STAFF)
    async with shop.client() as here, shop.client() as there:
        for jt in (here, there):
            await jt.auth.sign_in(email=person.email, password=person.password)
        await there.auth.sign_out("others")
        await there.tickets.list()
        session = here.auth._session
        assert session is not None
        with pytest.raises(SessionExpiredError):
            await here.auth.renew(session.access_token)
        with pytest.raises(SessionExpiredError):
            await here.tickets.list()


async def test_global_sign_out_ends_every_session(shop: Shop) -> None:
    person = await shop.person(Role.STAFF)
    async with shop.client() as here, shop.client() as there:
        for jt in (here, there):
            await jt.auth.sign_in(email=person.email, password=person.password)
        await there.auth.sign_out("global")
        session = here.auth._session
        assert session is not None
        with pytest.raises(SessionExpiredError):
            await here.auth.renew(session.access_token)


async def test_rotation_goes_on_and_on(shop: Shop) -> None:
    async with shop.signed_in(Role.STAFF) as jt:
        seen = {await jt.auth.access_token()}
        for _ in range(5):
            seen.add(await jt.auth.renew(await jt.auth.access_token()))
            await jt.tickets.list(limit=1)
        assert jt.auth.is_signed_in
        assert len(seen) >= 1


async def test_a_session_goes_on_in_the_next_run(shop: Shop, tmp_path: Path) -> None:
    person = await shop.person(Role.TECHNICIAN)
    store = FileSessionStore(tmp_path / "session")
    async with shop.client(session_store=store) as jt:
        me = await jt.auth.sign_in(email=person.email, password=person.password)
    for _ in range(2):
        async with shop.client(session_store=store) as jt:
            assert await jt.auth.resume() == me
            await jt.tickets.list()
    async with shop.client() as elsewhere:
        await elsewhere.auth.sign_in(email=person.email, password=person.password)
        await elsewhere.auth.sign_out("others")
    async with shop.client(session_store=store) as jt:
        with pytest.raises(SessionExpiredError):
            await jt.auth.resume()
        assert await jt.auth.resume() is None


async def test_sign_up_and_change_of_password(shop: Shop) -> None:
    email = f"new-{uuid4().hex[:8]}@example.test"
    async with shop.client() as jt:
        me = await jt.auth.sign_up(email=email, password="a first password", full_name="Neu Ling")
        assert me is not None
        assert (me.role, me.profile.full_name) == (Role.CUSTOMER, "Neu Ling")
        with pytest.raises(ConflictError):
            await jt.auth.sign_up(email=email, password="a first password")
        with pytest.raises(BadRequestError):
            await jt.auth.change_password("x")
        await jt.auth.change_password("a second password")
        await jt.auth.sign_out()
        with pytest.raises(InvalidCredentialsError):
            await jt.auth.sign_in(email=email, password="a first password")
        await jt.auth.sign_in(email=email, password="a second password")


async def test_two_people_in_one_program(shop: Shop) -> None:
    async with shop.signed_in(Role.ADMIN) as admin, shop.signed_in(Role.CUSTOMER) as customer:
        assert admin.auth.me.role is Role.ADMIN
        assert customer.auth.me.role is Role.CUSTOMER
        assert len(await customer.profiles.list()) == 1
        assert len(await admin.profiles.list()) > 1
