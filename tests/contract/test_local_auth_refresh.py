"""Refreshing at the local Auth server: the table of rotation."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from local_auth_support import PASSWORD, Api, refused, server_with

from jamestronic_sdk.local.auth.settings import AuthSettings


async def age(api: Api, refresh_token: str, seconds: float = 11) -> None:
    """Let the reuse interval of a replaced token pass."""
    async with api.database() as database:
        await database.execute(
            "update auth.refresh_tokens set updated_at = updated_at - make_interval(secs => %s)"
            " where token = %s",
            [seconds, refresh_token],
        )


async def test_refresh_replaces_the_token_and_keeps_the_session(api: Api) -> None:
    """A child that knows its parent; same session, same amr, refreshed_at is set."""
    person = await api.person()
    first = await api.sign_in(person)
    second = (await api.refresh(first["refresh_token"])).json()

    assert first["refresh_token"] != second["refresh_token"]
    before, after = api.claims(first), api.claims(second)
    assert (before["session_id"], before["amr"]) == (after["session_id"], after["amr"])
    async with api.database() as database:
        rows = await database.execute(
            "select token, revoked, parent from auth.refresh_tokens where user_id = %s order by id",
            [person.id],
        )
        assert [
            (first["refresh_token"], True, None),
            (second["refresh_token"], False, first["refresh_token"]),
        ] == await rows.fetchall()
        refreshed = await database.execute(
            "select refreshed_at at time zone 'UTC' between now() - interval '1 min' and now()"
            " from auth.sessions where id = %s",
            [after["session_id"]],
        )
        assert await refreshed.fetchone() == (True,)


async def test_parent_of_the_active_token_gives_the_active_one_at_any_age(api: Api) -> None:
    """The answer was lost: the client gets it again."""
    first = await api.sign_in(await api.person())
    second = (await api.refresh(first["refresh_token"])).json()
    await age(api, first["refresh_token"], seconds=86_400)

    again = await api.refresh(first["refresh_token"])

    assert second["refresh_token"] == again.json()["refresh_token"]


async def test_older_token_within_the_interval_gives_another_child(api: Api) -> None:
    """Two tabs that lost each other: both go on."""
    first = await api.sign_in(await api.person())
    second = (await api.refresh(first["refresh_token"])).json()
    third = (await api.refresh(second["refresh_token"])).json()

    fourth = (await api.refresh(first["refresh_token"])).json()

    assert fourth["refresh_token"] not in {s["refresh_token"] for s in (first, second, third)}
    for session in (third, fourth):
        assert (await api.refresh(session["refresh_token"])).status_code == 200


async def test_late_reuse_revokes_every_token_of_the_session(api: Api) -> None:
    """Refused, and the thief's token with it; the session row and its access token stay."""
    person = await api.person()
    first = await api.sign_in(person)
    second = (await api.refresh(first["refresh_token"])).json()
    third = (await api.refresh(second["refresh_token"])).json()
    await age(api, first["refresh_token"])

    refused(await api.refresh(first["refresh_token"]), 400, "refresh_token_already_used")

    async with api.database() as database:
        active = await database.execute(
            "select from auth.refresh_tokens where user_id = %s and not revoked", [person.id]
        )
        assert active.rowcount == 0
    await age(api, third["refresh_token"])
    refused(await api.refresh(third["refresh_token"]), 400, "refresh_token_already_used")
    assert (await api.call("GET", "/user", token=third["access_token"])).status_code == 200
    assert (await api.refresh((await api.sign_in(person))["refresh_token"])).status_code == 200


async def test_late_reuse_without_rotation_revokes_nothing(api: Api) -> None:
    """The refusal stays, the others' tokens too."""
    async with server_with(
        api, AuthSettings(is_rotation_enabled=False, refresh_token_reuse_interval=0)
    ) as lax:
        first = await lax.sign_in(await lax.person())
        second = (await lax.refresh(first["refresh_token"])).json()
        third = (await lax.refresh(second["refresh_token"])).json()

        refused(await lax.refresh(first["refresh_token"]), 400, "refresh_token_already_used")
        assert (await lax.refresh(third["refresh_token"])).status_code == 200


async def test_twenty_simultaneous_refreshes_agree(api: Api) -> None:
    """One child, given to all."""
    person = await api.person()
    first = await api.sign_in(person)
    responses = await asyncio.gather(*(api.refresh(first["refresh_token"]) for _ in range(20)))

    assert {200} == {response.status_code for response in responses}
    [token] = {response.json()["refresh_token"] for response in responses}
    assert first["refresh_token"] != token
    async with api.database() as database:
        rows = await database.execute("select from auth.refresh_tokens where user_id = %s", [person.id])
        assert rows.rowcount == 2


async def test_refresh_against_sign_out_and_deletion_has_an_orderly_end(api: Api) -> None:
    """Whoever comes first: a session or a refusal, no deadlock and no 500."""
    for end in ("sign out", "delete", "new password"):
        person = await api.person()
        session = await api.sign_in(person)
        ending = {
            "sign out": api.call("POST", "/logout", token=session["access_token"]),
            "delete": api.admin("DELETE", f"/admin/users/{person.id}"),
            "new password": api.admin("PUT", f"/admin/users/{person.id}", {"password": "another horse"}),
        }
        chosen = ending.pop(end)
        for unused in ending.values():
            unused.close()
        refreshes = [api.refresh(session["refresh_token"]) for _ in range(8)]
        sign_ins = [
            api.call("POST", "/token?grant_type=password", {"email": person.email, "password": PASSWORD})
            for _ in range(4)
        ]
        ended, *responses = await asyncio.gather(chosen, *refreshes, *sign_ins)

        assert ended.status_code in {200, 204}, ended.text
        for response in responses:
            assert response.status_code == 200 or response.json()["code"] in {
                "refresh_token_not_found",
                "invalid_credentials",
            }, response.text
        refused(await api.refresh(session["refresh_token"]), 400, "refresh_token_not_found")


async def test_refresh_that_waits_too_long_is_a_conflict(api: Api) -> None:
    """Somebody else holds the session."""
    async with server_with(api, AuthSettings(lock_timeout=0.05)) as hasty:
        session = await hasty.sign_in(await hasty.person())
        async with api.database() as database, database.transaction():
            await database.execute(
                "select from auth.sessions where id = %s for update", [api.claims(session)["session_id"]]
            )
            refused(await hasty.refresh(session["refresh_token"]), 409, "conflict")
        assert (await hasty.refresh(session["refresh_token"])).status_code == 200


async def test_request_that_takes_too_long_is_a_timeout(api: Api) -> None:
    """504, which clients repeat; and the connection is good for the next one."""
    async with server_with(api, AuthSettings(request_timeout=0.3, pool_size=1)) as hasty:
        session = await api.sign_in(await api.person())
        async with api.database() as database, database.transaction():
            await database.execute(
                "select from auth.sessions where id = %s for update", [api.claims(session)["session_id"]]
            )
            refused(await hasty.refresh(session["refresh_token"]), 504, "request_timeout")
        assert (await hasty.refresh(session["refresh_token"])).status_code == 200


@pytest.mark.parametrize(
    ("settings", "sql", "code"),
    [
        (AuthSettings(session_time_box=60), "created_at = now() - interval '61 s'", "session_expired"),
        (
            AuthSettings(session_inactivity_timeout=60),
            "refreshed_at = now() at time zone 'UTC' - interval '61 s'",
            "session_expired",
        ),
        (
            AuthSettings(session_inactivity_timeout=60),
            "created_at = now() - interval '61 s'",
            "session_expired",
        ),
        (AuthSettings(), "not_after = now() - interval '1 s'", "session_expired"),
    ],
)
async def test_session_that_ended_refuses_to_refresh(
    api: Api, settings: AuthSettings, sql: str, code: str
) -> None:
    """Time box, inactivity, not_after."""
    async with server_with(api, settings) as server:
        session = await server.sign_in(await server.person())
        async with api.database() as database:
            statement = f"update auth.sessions set {sql} where id = %s"
            await database.execute(statement.encode(), [api.claims(session)["session_id"]])
        refused(await server.refresh(session["refresh_token"]), 400, code)


async def test_token_without_session_is_refused(api: Api) -> None:
    """A row from before sessions existed."""
    person = await api.person()
    async with api.database() as database:
        await database.execute(
            "insert into auth.refresh_tokens (token, user_id, revoked) values (%s, %s, false)",
            [token := uuid.uuid4().hex[:12], person.id],
        )
    refused(await api.refresh(token), 400, "session_not_found")
