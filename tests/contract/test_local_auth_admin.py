"""Administration of users at the local Auth server."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from local_auth_support import CHEAP_HASH, Api, refused


async def test_administration_is_for_the_service_role(api: Api) -> None:
    """Authorization decides, not the apikey."""
    user_token = (await api.sign_in(await api.person()))["access_token"]
    apikey = {"apikey": api.context.service_role_key}
    paths = [
        ("POST", "/admin/users"),
        ("GET", "/admin/users"),
        ("GET", f"/admin/users/{uuid.uuid4()}"),
        ("PUT", f"/admin/users/{uuid.uuid4()}"),
        ("DELETE", f"/admin/users/{uuid.uuid4()}"),
    ]
    for method, path in paths:
        refused(await api.call(method, path, headers=apikey), 401, "no_authorization")
        refused(await api.call(method, path, token=api.context.anon_key), 403, "not_admin")
        refused(await api.call(method, path, token=user_token, headers=apikey), 403, "not_admin")
        refused(await api.call(method, path, token="a.b.c"), 403, "bad_jwt")


async def test_created_user_comes_in_the_steps_of_hosted_auth(api: Api) -> None:
    """Triggers see the INSERT without the admin's app_metadata, which then comes as an UPDATE."""
    async with api.database("postgres") as database:
        await database.execute("create table public.seen (at bigserial, what text, role text)")
        await database.execute("""
            create function public.see() returns trigger language plpgsql security definer as
            $$ begin
              insert into public.seen (what, role) values (tg_op, new.raw_app_meta_data ->> 'role');
              return new;
            end $$
        """)
        await database.execute(
            "create trigger see after insert or update of raw_app_meta_data on auth.users"
            " for each row execute function public.see()"
        )
        try:
            await api.person(app_metadata={"role": "staff"})
            rows = await database.execute("select what, role from public.seen order by at")
            assert await rows.fetchall() == [("INSERT", None), ("UPDATE", "staff")]
        finally:
            await database.execute("drop function public.see() cascade")
            await database.execute("drop table public.seen")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "validation_failed"),
        ({"email": "no address"}, 400, "validation_failed"),
        ({"email": "EMAIL", "password": "x" * 73}, 400, "validation_failed"),
        ({"email": "EMAIL", "password": "secret", "password_hash": CHEAP_HASH}, 400, "validation_failed"),
        ({"email": "EMAIL", "password_hash": "md5"}, 400, "validation_failed"),
        ({"email": "EMAIL", "password_hash": "$argon2id$v=19$"}, 501, "not_implemented"),
        ({"email": "EMAIL", "ban_duration": "a while"}, 400, "validation_failed"),
        ({"email": "EMAIL", "id": "7"}, 400, "validation_failed"),
        ({"email": "EMAIL", "id": str(uuid.UUID(int=0))}, 400, "validation_failed"),
        ({"email": "EMAIL", "app_metadata": []}, 400, "bad_json"),
        ({"email": "EMAIL", "phone": "number"}, 400, "validation_failed"),
    ],
)
async def test_create_refuses(api: Api, body: dict[str, Any], status: int, code: str) -> None:
    """The cells of the error table."""
    if body.get("email") == "EMAIL":
        body = body | {"email": f"{uuid.uuid4().hex}@example.test"}
    refused(await api.admin("POST", "/admin/users", body), status, code)


async def test_create_and_update_refuse_a_taken_address(api: Api) -> None:
    """422 email_exists."""
    person, other = await api.person(), await api.person()
    refused(await api.admin("POST", "/admin/users", {"email": person.email.upper()}), 422, "email_exists")
    response = await api.admin("PUT", f"/admin/users/{other.id}", {"email": person.email})
    refused(response, 422, "email_exists")


async def test_create_takes_a_given_id(api: Api) -> None:
    """And a role, and a ban."""
    user_id = str(uuid.uuid4())
    person = await api.person(id=user_id, role="service_role", ban_duration="24h")
    user = (await api.admin("GET", f"/admin/users/{person.id}")).json()

    assert (user_id, "service_role") == (user["id"], user["role"])
    assert "banned_until" in user


async def test_update_changes_everything_at_once(api: Api) -> None:
    """And a new password ends all sessions."""
    person = await api.person(app_metadata={"role": "customer", "old": 1}, user_metadata={"old": 1})
    session = await api.sign_in(person)
    email = f"{uuid.uuid4().hex}@example.test"
    response = await api.admin(
        "PUT",
        f"/admin/users/{person.id}",
        {
            "email": email.upper(),
            "email_confirm": True,
            "password": "another horse",
            "role": "authenticated",
            "app_metadata": {"role": "staff", "old": None},
            "user_metadata": {"old": None, "new": 1},
        },
    )
    user = response.json()

    assert response.status_code == 200
    assert (email, email) == (user["email"], user["identities"][0]["email"])
    assert user["identities"][0]["identity_data"]["email_verified"] is True
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"], "role": "staff"}
    assert user["user_metadata"] == {"email_verified": True, "new": 1}
    refused(await api.refresh(session["refresh_token"]), 400, "refresh_token_not_found")
    credentials = {"email": email, "password": "another horse"}
    assert (await api.call("POST", "/token?grant_type=password", credentials)).status_code == 200


async def test_named_user_must_be_a_known_uuid(api: Api) -> None:
    """404 with two codes."""
    for method in ("GET", "PUT", "DELETE"):
        refused(await api.admin(method, "/admin/users/7", {}), 404, "validation_failed")
        refused(await api.admin(method, f"/admin/users/{uuid.uuid4()}", {}), 404, "user_not_found")


async def test_delete_cascades(api: Api) -> None:
    """The address is free, the tokens are worth nothing."""
    person = await api.person()
    session = await api.sign_in(person)
    response = await api.admin("DELETE", f"/admin/users/{person.id}", {"should_soft_delete": False})

    assert (response.status_code, response.json()) == (200, {})
    refused(await api.refresh(session["refresh_token"]), 400, "refresh_token_not_found")
    refused(await api.call("GET", "/user", token=session["access_token"]), 403, "user_not_found")
    assert (await api.admin("POST", "/admin/users", {"email": person.email})).status_code == 200


async def test_delete_without_a_body_deletes(api: Api) -> None:
    """As curl does it."""
    person = await api.person()

    assert (await api.admin("DELETE", f"/admin/users/{person.id}")).status_code == 200
    refused(await api.admin("GET", f"/admin/users/{person.id}"), 404, "user_not_found")


async def test_soft_delete_keeps_the_row_and_forgets_the_person(api: Api) -> None:
    """Foreign keys stay whole, nobody signs in, the address is free."""
    person = await api.person(user_metadata={"full_name": "Ada"})
    session = await api.sign_in(person)
    for _ in range(2):
        response = await api.admin("DELETE", f"/admin/users/{person.id}", {"should_soft_delete": True})
        assert response.status_code == 200
    user = await api.admin("GET", f"/admin/users/{person.id}")

    assert "deleted_at" in user.json()
    assert person.email not in user.text
    assert "Ada" not in user.text
    refused(await api.refresh(session["refresh_token"]), 400, "refresh_token_not_found")
    assert (await api.admin("POST", "/admin/users", {"email": person.email})).status_code == 200


async def test_pages_of_users(api: Api) -> None:
    """Newest first, with totals and links; empty values count as absent; identities are null."""
    aud = uuid.uuid4().hex
    people = [await api.person(aud=aud) for _ in range(5)]
    ids = [person.id for person in reversed(people)]
    header = {"X-JWT-AUD": aud}
    whole = await api.admin("GET", "/admin/users?page=&per_page=", headers=header)
    second = await api.admin("GET", "/admin/users?page=2&per_page=2", headers=header)
    last = await api.admin("GET", "/admin/users?page=3&per_page=2&sort=created_at asc", headers=header)

    assert aud == whole.json()["aud"]
    assert ids == [user["id"] for user in whole.json()["users"]]
    assert [user["identities"] for user in whole.json()["users"]] == [None] * 5
    assert ids[2:4] == [user["id"] for user in second.json()["users"]]
    assert second.headers["X-Total-Count"] == "5"
    assert {"next", "last"} == set(second.links)
    assert "page=3" in second.links["next"]["url"]
    assert ids[:1] == [user["id"] for user in last.json()["users"]]
    assert {"last"} == set(last.links)
    for query in ("page=0", "page=-1", "page=x", "per_page=0", "sort=email asc", "filter=%00"):
        refused(await api.admin("GET", f"/admin/users?{query}", headers=header), 400, "validation_failed")


async def test_filter_finds_address_and_name(api: Api) -> None:
    """The name without regard to case."""
    name = uuid.uuid4().hex
    person = await api.person(user_metadata={"full_name": f"Ada {name}"})
    for pattern in (person.email[:20], name.upper()):
        response = await api.admin("GET", "/admin/users", params={"filter": pattern})
        assert [person.id] == [user["id"] for user in response.json()["users"]]
        assert response.headers["X-Total-Count"] == "1"
