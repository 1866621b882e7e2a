"""The stock client at the local Auth server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from local_auth_support import PASSWORD, Api, Person, refused
from supabase_auth.errors import AuthApiError

from jamestronic_sdk.local.tokens import make_jwt

if TYPE_CHECKING:
    from supabase_auth import AsyncGoTrueClient


async def test_stock_client_goes_through_a_session(api: Api, client: AsyncGoTrueClient) -> None:
    """Sign up, read, change, refresh, read claims, sign out."""
    email = f"{uuid.uuid4().hex}@example.test"
    signed_up = await client.sign_up(
        {"email": email, "password": PASSWORD, "options": {"data": {"full_name": "Ada"}}}
    )
    assert signed_up.session is not None
    signed_in = await client.sign_in_with_password({"email": email, "password": PASSWORD})
    assert signed_in.session is not None
    assert signed_in.user is not None
    updated = await client.update_user({"data": {"full_name": "Grace"}})
    assert updated.user.user_metadata["full_name"] == "Grace"
    refreshed = await client.refresh_session()
    assert refreshed.session is not None
    assert signed_in.session.refresh_token != refreshed.session.refresh_token
    current = await client.get_user()
    assert current is not None
    assert (signed_in.user.id, "Grace") == (current.user.id, current.user.user_metadata["full_name"])
    claims = await client.get_claims()
    assert claims is not None
    assert signed_in.user.id == claims["claims"].get("sub")
    level = await client.mfa.get_authenticator_assurance_level()
    assert level.current_level == "aal1"

    await client.sign_out()

    assert await client.get_session() is None
    refused(await api.refresh(refreshed.session.refresh_token), 400, "refresh_token_not_found")


async def test_stock_client_signs_out_by_scope(api: Api, client: AsyncGoTrueClient) -> None:
    """With "others" this session stays."""
    person = await api.person()
    other = await api.sign_in(person)
    await client.sign_in_with_password({"email": person.email, "password": PASSWORD})
    await client.sign_out({"scope": "others"})

    refused(await api.refresh(other["refresh_token"]), 400, "refresh_token_not_found")
    assert (await client.refresh_session()).session is not None
    await client.sign_out({"scope": "local"})
    assert await client.get_session() is None


async def test_stock_client_reads_our_errors(client: AsyncGoTrueClient) -> None:
    """Code, status and message arrive."""
    with pytest.raises(AuthApiError) as caught:
        await client.sign_in_with_password({"email": "nobody@example.test", "password": PASSWORD})

    assert (caught.value.status, caught.value.code) == (400, "invalid_credentials")
    assert caught.value.message == "Invalid login credentials"


async def test_stock_client_restores_a_session(api: Api, client: AsyncGoTrueClient) -> None:
    """With a live access token, and with an expired one, which it refreshes."""
    person = await api.person()
    session = await api.sign_in(person)
    live = await client.set_session(session["access_token"], session["refresh_token"])
    assert live.user is not None
    assert person.id == live.user.id
    stale = make_jwt(api.context.jwt_secret, api.claims(session) | {"exp": 1})
    fresh = await client.set_session(stale, session["refresh_token"])

    assert fresh.session is not None
    assert session["refresh_token"] != fresh.session.refresh_token


async def test_stock_admin_manages_users(api: Api, admin: AsyncGoTrueClient) -> None:
    """Create, read, list, update, sign out, delete."""
    email = f"{uuid.uuid4().hex}@example.test"
    created = await admin.admin.create_user(
        {"email": email, "password": PASSWORD, "email_confirm": True, "app_metadata": {"role": "technician"}}
    )
    user_id = created.user.id
    assert created.user.app_metadata["role"] == "technician"
    assert user_id == (await admin.admin.get_user_by_id(user_id)).user.id
    assert user_id in {user.id for user in await admin.admin.list_users()}
    assert len(await admin.admin.list_users(page=1, per_page=1)) == 1
    updated = await admin.admin.update_user_by_id(
        user_id, {"app_metadata": {"role": "staff"}, "ban_duration": "none"}
    )
    assert updated.user.app_metadata["role"] == "staff"
    session = await api.sign_in(Person(user_id, email))
    await admin.admin.sign_out(session["access_token"])
    refused(await api.refresh(session["refresh_token"]), 400, "refresh_token_not_found")
    await admin.admin.delete_user(user_id)
    with pytest.raises(AuthApiError) as caught:
        await admin.admin.get_user_by_id(user_id)
    assert caught.value.code == "user_not_found"
