"""One-time codes and links of the local Auth server, and the mailbox that they arrive in."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from local_auth_support import PASSWORD, Api, Person, refused, server_with, stock_client
from supabase_auth.errors import AuthApiError

from jamestronic_sdk.local.auth.settings import AuthSettings

if TYPE_CHECKING:
    from supabase_auth import AsyncGoTrueClient

    from jamestronic_sdk.local.stack import LocalSupabase

CONFIRMING = AuthSettings(is_email_autoconfirmed=False, is_phone_enabled=True)
"""As most hosted projects are: addresses are confirmed first."""


def new_email() -> str:
    return f"{uuid.uuid4().hex}@example.test"


def new_phone() -> str:
    return f"+49{secrets.randbelow(10**10):010d}"


def fragment(response: httpx.Response) -> dict[str, str]:
    """What a redirect says behind the hash."""
    assert response.status_code == 303, response.text
    parsed = parse_qs(urlsplit(response.headers["Location"]).fragment, keep_blank_values=True)
    return {name: values[0] for name, values in parsed.items()}


async def follow(server: Api, message: dict[str, Any]) -> httpx.Response:
    """Click the link, at whichever server made it."""
    return await server.http.get(f"/verify?{urlsplit(message['link']).query}")


# --- codes by mail ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["email", "magiclink"])
async def test_code_by_mail_signs_in_once(api: Api, kind: str) -> None:
    """A known user: `{}`, a code in the mailbox, a session; and then the code is worth nothing."""
    person = await api.person()
    response = await api.call("POST", "/otp", {"email": person.email.upper(), "create_user": False})
    message = await api.mail(person.email, "magiclink")
    answer = {"type": kind, "email": person.email, "token": message["code"]}
    session = await api.call("POST", "/verify", answer)

    assert (response.status_code, response.json()) == (200, {})
    assert len(message["code"]) == 6
    assert session.json()["user"]["id"] == person.id
    assert [entry["method"] for entry in api.claims(session.json())["amr"]] == ["otp"]
    refused(await api.call("POST", "/verify", answer), 403, "otp_expired")


async def test_code_makes_a_new_user(api: Api) -> None:
    """With their metadata, confirmed by the code; the message is one."""
    email = new_email()
    await api.call("POST", "/otp", {"email": email, "data": {"full_name": "Ada"}})
    [message] = await api.mailbox(email)
    session = await api.call("POST", "/verify", {"type": "email", "email": email, "token": message["code"]})
    user = session.json()["user"]

    assert (user["user_metadata"]["full_name"], user["email"]) == ("Ada", email)
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert "email_confirmed_at" in user


async def test_code_does_not_make_a_user_who_must_not_be_made(api: Api) -> None:
    """create_user false; and a closed door."""
    email = new_email()
    refused(await api.call("POST", "/otp", {"email": email, "create_user": False}), 422, "otp_disabled")
    async with server_with(api, AuthSettings(is_signup_enabled=False)) as closed:
        refused(await closed.call("POST", "/otp", {"email": email}), 422, "signup_disabled")
    assert await api.mailbox(email) == []


async def test_newer_code_replaces_the_older_one(api: Api) -> None:
    """One code of a kind per user."""
    person = await api.person()
    for _ in range(2):
        await api.call("POST", "/otp", {"email": person.email})
    first, second = await api.mailbox(person.email)
    for message, status in ((first, 403), (second, 200)):
        answer = {"type": "email", "email": person.email, "token": message["code"]}
        assert (await api.call("POST", "/verify", answer)).status_code == status


async def test_simultaneous_answers_make_one_session(api: Api) -> None:
    """The user's row is locked while a code is checked."""
    person = await api.person()
    await api.call("POST", "/otp", {"email": person.email})
    message = await api.mail(person.email)
    answer = {"type": "email", "email": person.email, "token": message["code"]}
    responses = await asyncio.gather(*(api.call("POST", "/verify", answer) for _ in range(6)))

    assert sorted(response.status_code for response in responses) == [200, 403, 403, 403, 403, 403]


async def test_codes_sign_ins_and_changes_at_once_have_an_orderly_end(api: Api) -> None:
    """Nobody waits for somebody who waits for them: no 500, no 504."""
    person = await api.person()
    token = (await api.sign_in(person))["access_token"]
    sign_in = {"email": person.email, "password": PASSWORD}
    responses = await asyncio.gather(
        *(api.call("POST", "/token?grant_type=password", sign_in) for _ in range(6)),
        *(api.call("POST", "/otp", {"email": person.email}) for _ in range(6)),
        *(
            api.call("PUT", "/user", {"email": new_email(), "password": f"horse {number}"}, token=token)
            for number in range(4)
        ),
    )

    assert {response.status_code for response in responses} <= {200, 400, 403}
    assert {response.json().get("code") for response in responses if response.status_code != 200} <= {
        "invalid_credentials",
        "session_not_found",
    }


async def test_code_is_good_for_its_person_purpose_and_time(api: Api) -> None:
    """Another address, another type, another digit, an hour later, a banned user: refused."""
    person, other = await api.person(), await api.person()
    await api.call("POST", "/otp", {"email": person.email})
    code = (await api.mail(person.email))["code"]
    wrong = f"{(int(code) + 1) % 10**6:06d}"
    for answer in (
        {"type": "email", "email": other.email, "token": code},
        {"type": "email", "email": new_email(), "token": code},
        {"type": "signup", "email": person.email, "token": code},
        {"type": "email_change", "email": person.email, "token": code},
        {"type": "email", "email": person.email, "token": wrong},
    ):
        refused(await api.call("POST", "/verify", answer), 403, "otp_expired")
    async with api.database() as database:
        await database.execute(
            "update auth.users set recovery_sent_at = recovery_sent_at - interval '61 min' where id = %s",
            [person.id],
        )
    answer = {"type": "email", "email": person.email, "token": code}
    refused(await api.call("POST", "/verify", answer), 403, "otp_expired")
    await api.admin("PUT", f"/admin/users/{person.id}", {"ban_duration": "1h"})
    refused(await api.call("POST", "/verify", answer), 403, "user_banned")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/otp", {}, 400, "validation_failed"),
        ("/otp", {"email": "a@b.c", "phone": "+49301"}, 400, "validation_failed"),
        ("/otp", {"email": "a@b.c", "channel": "sms"}, 400, "validation_failed"),
        ("/otp", {"email": "no address"}, 400, "validation_failed"),
        ("/otp", {"phone": "no number"}, 400, "validation_failed"),
        ("/otp", {"phone": "+4930123", "channel": "fax"}, 400, "validation_failed"),
        ("/magiclink", {}, 400, "validation_failed"),
        ("/recover", {}, 400, "validation_failed"),
        ("/recover", {"email": "no address"}, 400, "validation_failed"),
        ("/resend", {}, 400, "validation_failed"),
        ("/resend", {"type": "recovery", "email": "a@b.c"}, 400, "validation_failed"),
        ("/resend", {"type": "signup"}, 400, "validation_failed"),
        ("/resend", {"type": "sms"}, 400, "validation_failed"),
        ("/resend", {"type": "sms", "phone": "+49301", "email": "a@b.c"}, 400, "validation_failed"),
        ("/verify", {}, 400, "validation_failed"),
        ("/verify", {"type": "email"}, 400, "validation_failed"),
        ("/verify", {"type": "email", "token": "1", "token_hash": "2"}, 400, "validation_failed"),
        ("/verify", {"type": "email", "token": "1"}, 400, "validation_failed"),
        ("/verify", {"type": "email", "token": "1", "email": "no address"}, 422, "validation_failed"),
        ("/verify", {"type": "sms", "token": "1", "phone": "no number"}, 400, "validation_failed"),
        ("/verify", {"type": "email", "token_hash": "1", "email": "a@b.c"}, 400, "validation_failed"),
        ("/verify", {"type": "letter", "token": "1", "email": "a@b.c"}, 400, "validation_failed"),
        ("/verify", {"type": "sms", "token_hash": "1"}, 400, "validation_failed"),
        ("/verify", {"type": "email", "token_hash": "1"}, 403, "otp_expired"),
        ("/verify", {"type": "sms", "token": "1", "phone": "+49301"}, 403, "otp_expired"),
        ("/verify", {"type": "phone_change", "token": "1", "phone": "+49301"}, 403, "otp_expired"),
        ("/verify", {"type": "phone_change", "token": "1", "email": "a@b.c"}, 403, "otp_expired"),
    ],
)
async def test_requests_for_codes_and_answers_refuse(
    api: Api, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    """The cells of the error table."""
    refused(await api.call("POST", path, body), status, code)


# --- links -----------------------------------------------------------------------------------------------


async def test_link_redirects_with_a_session_in_the_fragment(api: Api) -> None:
    """To the allowed address; and the second click with an error."""
    person = await api.person()
    target = "http://127.0.0.1:5173/welcome?from=mail"
    await api.call("POST", "/magiclink", {"email": person.email}, params={"redirect_to": target})
    message = await api.mail(person.email, "magiclink")
    clicked = await follow(api, message)
    session = fragment(clicked)

    assert message["redirect_to"] == target
    assert message["link"].startswith(f"{api.context.url}/auth/v1/verify?token={message['token_hash']}&")
    assert clicked.headers["Location"].startswith(f"{target}#")
    assert set(session) == {
        "access_token", "expires_at", "expires_in", "refresh_token", "token_type", "type", "sb",
    }  # fmt: skip
    assert session["type"] == "magiclink"
    assert (await api.call("GET", "/user", token=session["access_token"])).json()["id"] == person.id
    again = fragment(await follow(api, message))
    assert (again["error"], again["error_code"]) == ("access_denied", "otp_expired")


@pytest.mark.parametrize(
    ("asked", "led"),
    [
        ("", "http://127.0.0.1:3000"),
        ("http://127.0.0.1:9999/a", "http://127.0.0.1:9999/a"),
        ("http://[::1]:9999/a", "http://[::1]:9999/a"),
        ("https://evil.example/a", "http://127.0.0.1:3000"),
        ("https://app.shop.example/a", "https://app.shop.example/a"),
        ("https://app.shop.example/a/b", "http://127.0.0.1:3000"),
        ("https://a.b.shop.example/a", "http://127.0.0.1:3000"),
        ("https://any.example/deep/er", "https://any.example/deep/er"),
        ("https://app.shop.example@evil.example/", "http://127.0.0.1:3000"),
        ("http://2130706433/", "http://127.0.0.1:3000"),
        ("shop://signed-in", "shop://signed-in"),
        ("http://127.0.0.1:x/", "http://127.0.0.1:3000"),
        ("http://10.0.0.1/", "http://127.0.0.1:3000"),
    ],
)
async def test_links_lead_to_allowed_places_only(api: Api, asked: str, led: str) -> None:
    """The site, loopback, and the patterns; anything else becomes the site."""
    patterns = ("https://*.shop.example/*", "https://any.example/**", "shop://**")
    async with server_with(api, AuthSettings(allowed_redirects=patterns)) as server:
        person = await api.person()
        await server.call("POST", "/recover", {"email": person.email}, params={"redirect_to": asked})
        assert (await server.mail(person.email, "recovery"))["redirect_to"] == led


async def test_token_hash_signs_in_without_the_address(api: Api, client: AsyncGoTrueClient) -> None:
    """As server-side applications do it."""
    person = await api.person()
    await api.call("POST", "/otp", {"email": person.email})
    message = await api.mail(person.email)
    answer = await client.verify_otp({"type": "email", "token_hash": message["token_hash"]})

    assert answer.user is not None
    assert answer.user.id == person.id


@pytest.mark.parametrize("query", ["", "type=signup", "token=x", "type=signup&token=%00"])
async def test_link_without_its_parts_is_an_error_body(api: Api, query: str) -> None:
    """There is nowhere to redirect to with that."""
    refused(await api.call("GET", f"/verify?{query}"), 400, "validation_failed")


# --- signing up with a confirmation ----------------------------------------------------------------------


async def test_sign_up_that_must_be_confirmed(api: Api) -> None:
    """A bare user, no session; no sign-in before the link, one after it."""
    credentials = {"email": new_email(), "password": PASSWORD}
    async with server_with(api, CONFIRMING) as server:
        user = (await server.call("POST", "/signup", credentials | {"data": {"full_name": "Ada"}})).json()
        early = await server.call("POST", "/token?grant_type=password", credentials)
        message = await server.mail(credentials["email"], "signup")
        session = fragment(await follow(server, message))
        late = await server.call("POST", "/token?grant_type=password", credentials)
        settings = (await server.call("GET", "/settings")).json()

    assert "access_token" not in user
    assert {"id", "confirmation_sent_at", "identities"} <= set(user)
    assert "email_confirmed_at" not in user
    refused(early, 400, "email_not_confirmed")
    assert session["type"] == "signup"
    confirmed = late.json()["user"]
    assert confirmed["identities"][0]["identity_data"]["email_verified"] is True
    assert confirmed["user_metadata"] == {"full_name": "Ada", "email_verified": True}
    assert settings["mailer_autoconfirm"] is False


async def test_second_sign_up_gets_a_decoy(api: Api) -> None:
    """A confirmed address: a user who does not exist, no message; an unconfirmed one: the link again."""
    async with server_with(api, CONFIRMING) as server:
        person = await api.person(user_metadata={"secret": "x"})
        body = {"email": person.email, "password": PASSWORD, "data": {"full_name": "Eve"}}
        decoy = (await server.call("POST", "/signup", body)).json()
        assert decoy["id"] != person.id
        assert (decoy["identities"], decoy["user_metadata"]) == ([], {"full_name": "Eve"})
        assert "confirmation_sent_at" in decoy
        assert "email_confirmed_at" not in decoy
        assert await server.mailbox(person.email) == []
        refused(await api.admin("GET", f"/admin/users/{decoy['id']}"), 404, "user_not_found")

        waiting = {"email": new_email(), "password": PASSWORD}
        ids = [(await server.call("POST", "/signup", waiting)).json()["id"] for _ in range(2)]
        assert ids[0] == ids[1]
        assert [message["kind"] for message in await server.mailbox(waiting["email"])] == ["signup"] * 2


async def test_code_of_an_unconfirmed_user_is_the_confirmation(api: Api) -> None:
    """`/otp` sends the sign-up message; type "email" takes it, too."""
    async with server_with(api, CONFIRMING) as server:
        email = new_email()
        await server.call("POST", "/otp", {"email": email})
        message = await server.mail(email, "signup")
        answer = {"type": "email", "email": email, "token": message["code"]}
        session = (await server.call("POST", "/verify", answer)).json()

    assert "email_confirmed_at" in session["user"]


async def test_resend_repeats_what_is_waited_for_only(api: Api) -> None:
    """`{}` in every case; a message for who has not confirmed."""
    async with server_with(api, CONFIRMING) as server:
        person, waiting = await api.person(), {"email": new_email(), "password": PASSWORD}
        await server.call("POST", "/signup", waiting)
        for email in (person.email, waiting["email"], new_email()):
            response = await server.call("POST", "/resend", {"type": "signup", "email": email})
            assert (response.status_code, response.json()) == (200, {})
        response = await server.call("POST", "/resend", {"type": "email_change", "email": person.email})
        assert response.json() == {}
        assert await server.mailbox(person.email) == []
        assert len(await server.mailbox(waiting["email"])) == 2


async def test_unconfirmed_user_who_signs_up_again_with_autoconfirm_is_in(api: Api) -> None:
    """Their row stays as it was, the first password included."""
    person = await api.person(email_confirm=False)
    response = await api.call("POST", "/signup", {"email": person.email, "password": "another horse"})

    assert response.json()["user"]["id"] == person.id
    assert (await api.sign_in(person))["user"]["id"] == person.id


# --- recovery --------------------------------------------------------------------------------------------


async def test_recovery_signs_in_and_sets_a_password(api: Api) -> None:
    """Nobody learns who has an account."""
    person, stranger = await api.person(), new_email()
    for email in (person.email, stranger):
        response = await api.call("POST", "/recover", {"email": email})
        assert (response.status_code, response.json()) == (200, {})
    assert await api.mailbox(stranger) == []
    message = await api.mail(person.email, "recovery")
    answer = {"type": "recovery", "email": person.email, "token": message["code"]}
    token = (await api.call("POST", "/verify", answer)).json()["access_token"]
    assert (await api.call("PUT", "/user", {"password": "another horse"}, token=token)).status_code == 200
    credentials = {"email": person.email, "password": "another horse"}
    assert (await api.call("POST", "/token?grant_type=password", credentials)).status_code == 200


# --- another address -------------------------------------------------------------------------------------


async def test_change_of_address_needs_both_addresses(api: Api) -> None:
    """The first answer is half the way, in either order; before the second nothing has changed."""
    async with server_with(api, CONFIRMING) as server:
        person, email = await api.person(), new_email()
        token = (await server.sign_in(person))["access_token"]
        changing = (await server.call("PUT", "/user", {"email": email}, token=token)).json()
        new, old = await server.mail(email, "email_change"), await server.mail(person.email, "email_change")
        half = await server.call(
            "POST", "/verify", {"type": "email_change", "email": email, "token": new["code"]}
        )
        between = (await server.call("GET", "/user", token=token)).json()
        again = await server.call(
            "POST", "/verify", {"type": "email_change", "email": email, "token": new["code"]}
        )
        session = fragment(await follow(server, old))
        done = (await server.call("GET", "/user", token=session["access_token"])).json()

    assert (changing["email"], changing["new_email"]) == (person.email, email)
    assert half.json()["code"] == "200"
    assert (between["email"], between["new_email"]) == (person.email, email)
    refused(again, 403, "otp_expired")
    assert done["email"] == email
    assert "new_email" not in done
    assert done["identities"][0]["identity_data"]["email"] == email


async def test_change_of_address_with_autoconfirm_needs_one_address(api: Api) -> None:
    """Whoever has an address already always confirms another one."""
    person, email = await api.person(), new_email()
    token = (await api.sign_in(person))["access_token"]
    await api.call("PUT", "/user", {"email": email}, token=token)
    message = await api.mail(email, "email_change")
    answer = {"type": "email_change", "email": email, "token": message["code"]}

    assert (await api.call("POST", "/verify", answer)).json()["user"]["email"] == email


async def test_address_that_somebody_took_meanwhile_is_refused(api: Api) -> None:
    """The change was asked for first; the sign-up was faster."""
    person, email = await api.person(), new_email()
    token = (await api.sign_in(person))["access_token"]
    await api.call("PUT", "/user", {"email": email}, token=token)
    message = await api.mail(email, "email_change")
    await api.call("POST", "/signup", {"email": email, "password": PASSWORD})
    answer = {"type": "email_change", "email": email, "token": message["code"]}

    refused(await api.call("POST", "/verify", answer), 422, "email_exists")


# --- phone numbers ---------------------------------------------------------------------------------------


async def test_code_by_text_message_signs_in(api: Api) -> None:
    """New and known users; the second message has an id."""
    phone = new_phone()
    for turn in range(2):
        asked = await api.call("POST", "/otp", {"phone": phone, "channel": "sms"})
        message = await api.mail(phone, "sms")
        assert (message["channel"], message["link"]) == ("sms", None)
        assert asked.json() == ({} if turn == 0 else {"message_id": message["id"]})
        answer = {"type": "sms", "phone": phone, "token": message["code"]}
        session = (await api.call("POST", "/verify", answer)).json()
    user = session["user"]

    assert (user["phone"], user["email"]) == (phone.removeprefix("+"), "")
    assert user["app_metadata"] == {"provider": "phone", "providers": ["phone"]}
    assert api.claims(session)["phone"] == phone.removeprefix("+")


async def test_sign_up_by_phone_is_confirmed_by_its_code(api: Api) -> None:
    """Then the password works, however the number is written."""
    phone = new_phone()
    credentials = {"phone": phone, "password": PASSWORD}
    user = (await api.call("POST", "/signup", credentials)).json()
    early = await api.call("POST", "/token?grant_type=password", credentials)
    again = await api.call("POST", "/resend", {"type": "sms", "phone": phone})
    message = await api.mail(phone, "sms")
    await api.call("POST", "/verify", {"type": "sms", "phone": phone, "token": message["code"]})
    spaced = credentials | {"phone": f"{phone[:3]} {phone[3:]}"}
    late = await api.call("POST", "/token?grant_type=password", spaced)

    assert "access_token" not in user
    refused(early, 400, "phone_not_confirmed")
    assert again.json() == {"message_id": message["id"]}
    assert late.json()["user"]["id"] == user["id"]


async def test_change_of_number_is_confirmed_by_its_code(api: Api) -> None:
    """A number for a user who had none."""
    person, phone = await api.person(), new_phone()
    token = (await api.sign_in(person))["access_token"]
    changing = (await api.call("PUT", "/user", {"phone": phone}, token=token)).json()
    message = await api.mail(phone, "phone_change")
    answer = {"type": "phone_change", "phone": phone, "token": message["code"]}
    user = (await api.call("POST", "/verify", answer)).json()["user"]

    assert (changing["phone"], changing["new_phone"]) == ("", phone.removeprefix("+"))
    assert user["phone"] == phone.removeprefix("+")
    assert user["app_metadata"]["providers"] == ["email", "phone"]
    other = (await api.sign_in(await api.person()))["access_token"]
    refused(await api.call("PUT", "/user", {"phone": phone}, token=other), 422, "phone_exists")


async def test_numbers_may_be_confirmed_by_themselves(api: Api) -> None:
    """A session at once; a code for who asks for one; another number without a message."""
    phone, other = new_phone(), new_phone()
    async with server_with(api, AuthSettings(is_phone_enabled=True, is_phone_autoconfirmed=True)) as server:
        session = (await server.call("POST", "/signup", {"phone": phone, "password": PASSWORD})).json()
        assert "phone_confirmed_at" in session["user"]
        assert await server.mailbox(phone) == []
        twice = await server.call("POST", "/signup", {"phone": phone, "password": PASSWORD})
        refused(twice, 422, "user_already_exists")
        await server.call("POST", "/otp", {"phone": phone})
        code = (await server.mail(phone, "sms"))["code"]
        answer = {"type": "sms", "phone": phone, "token": code}
        assert (await server.call("POST", "/verify", answer)).status_code == 200
        token = session["access_token"]
        changed = (await server.call("PUT", "/user", {"phone": other}, token=token)).json()
        assert changed["phone"] == other.removeprefix("+")
        assert await server.mailbox(other) == []
        assert (await server.call("GET", "/settings")).json()["phone_autoconfirm"] is True


async def test_code_by_text_message_is_good_for_a_minute(api: Api) -> None:
    """As on hosted projects."""
    phone = new_phone()
    await api.call("POST", "/otp", {"phone": phone})
    message = await api.mail(phone)
    async with api.database() as database:
        await database.execute(
            "update auth.users set confirmation_sent_at = confirmation_sent_at - interval '61 s'"
            " where phone = %s",
            [phone.removeprefix("+")],
        )
    answer = {"type": "sms", "phone": phone, "token": message["code"]}
    refused(await api.call("POST", "/verify", answer), 403, "otp_expired")


async def test_admin_makes_users_with_numbers(api: Api) -> None:
    """Confirmed, and changed later."""
    phone, other = new_phone(), new_phone()
    user = (await api.admin("POST", "/admin/users", {"phone": phone, "phone_confirm": True})).json()
    changed = await api.admin("PUT", f"/admin/users/{user['id']}", {"phone": other})
    duplicate = await api.admin("POST", "/admin/users", {"phone": other})

    assert (user["phone"], "phone_confirmed_at" in user) == (phone.removeprefix("+"), True)
    assert changed.json()["phone"] == other.removeprefix("+")
    refused(duplicate, 422, "phone_exists")


# --- proving that it is still you ------------------------------------------------------------------------


async def test_old_session_needs_a_nonce_for_another_password(api: Api) -> None:
    """A young one does not; the nonce is good once."""
    async with server_with(api, AuthSettings(is_reauthentication_required=True)) as server:
        person = await api.person()
        session = await server.sign_in(person)
        token = session["access_token"]
        young = await server.call("PUT", "/user", {"password": "first horse"}, token=token)
        async with api.database() as database:
            await database.execute(
                "update auth.sessions set created_at = created_at - interval '25 h' where user_id = %s",
                [person.id],
            )
        old = await server.call("PUT", "/user", {"password": "second horse"}, token=token)
        assert (await server.call("GET", "/reauthenticate", token=token)).json() == {}
        code = (await server.mail(person.email, "reauthentication"))["code"]
        wrong = {"password": "second horse", "nonce": f"{(int(code) + 1) % 10**6:06d}"}
        right = {"password": "second horse", "nonce": code}
        answers = [await server.call("PUT", "/user", body, token=token) for body in (wrong, right, right)]

    assert young.status_code == 200
    refused(old, 400, "reauthentication_needed")
    refused(answers[0], 422, "reauthentication_not_valid")
    assert answers[1].status_code == 200
    refused(answers[2], 422, "reauthentication_not_valid")


# --- how often, how many ---------------------------------------------------------------------------------


async def test_messages_have_an_interval_when_it_is_switched_on(api: Api) -> None:
    """429, with the seconds that are left."""
    async with server_with(api, AuthSettings(message_interval=60, is_phone_enabled=True)) as server:
        person, phone = await api.person(), new_phone()
        for path in ("/otp", "/recover"):
            response = await server.call("POST", path, {"email": person.email})
        refused(response, 429, "over_email_send_rate_limit")
        assert "after 60 seconds" in response.json()["message"]
        await server.call("POST", "/otp", {"phone": phone})
        refused(await server.call("POST", "/otp", {"phone": phone}), 429, "over_sms_send_rate_limit")


async def test_mailbox_is_bounded_and_forgets_the_oldest(api: Api) -> None:
    """And a message of a transaction that failed is in none."""
    async with server_with(api, AuthSettings(mailbox_limit=2)) as server:
        people = [await api.person() for _ in range(3)]
        for person in people:
            await server.call("POST", "/otp", {"email": person.email})
        assert [len(await server.mailbox(person.email)) for person in people] == [0, 1, 1]


async def test_codes_are_kept_as_digests(api: Api) -> None:
    """As hosted Auth keeps them: in the user and in one_time_tokens, no code in the open."""
    person = await api.person()
    await api.call("POST", "/otp", {"email": person.email})
    message = await api.mail(person.email)
    async with api.database() as database:
        rows = await database.execute(
            "select u.recovery_token, t.token_hash, t.token_type::text, t.relates_to from auth.users as u"
            " join auth.one_time_tokens as t on t.user_id = u.id where u.id = %s",
            [person.id],
        )
        found = await rows.fetchall()

    assert found == [(message["token_hash"], message["token_hash"], "recovery_token", person.email)]
    assert message["code"] not in {row[0] for row in found}


async def test_mailbox_is_for_the_service_key(api: Api, local_supabase: LocalSupabase) -> None:
    """401 for everybody else."""
    url = f"{local_supabase.url}/_local/mailbox"
    for headers in ({}, {"apikey": local_supabase.anon_key}):
        assert (await api.http.get(url, headers=headers)).status_code == 401
    secret = await api.http.get(url, headers={"apikey": local_supabase.secret_key})
    assert (secret.status_code, secret.headers["Cache-Control"]) == (200, "no-store")


# --- the stock client ------------------------------------------------------------------------------------


async def test_stock_client_signs_in_by_code(api: Api, client: AsyncGoTrueClient) -> None:
    """By mail and by text message; a wrong code is an error with a code."""
    email, phone = new_email(), new_phone()
    await client.sign_in_with_otp({"email": email})
    with pytest.raises(AuthApiError) as caught:
        await client.verify_otp({"type": "email", "email": email, "token": "1"})
    assert (caught.value.status, caught.value.code) == (403, "otp_expired")
    code = (await api.mail(email))["code"]
    by_mail = await client.verify_otp({"type": "email", "email": email, "token": code})
    assert by_mail.session is not None
    answer = await client.sign_in_with_otp({"phone": phone})
    assert answer.message_id is None
    code = (await api.mail(phone))["code"]
    by_phone = await client.verify_otp({"type": "sms", "phone": phone, "token": code})
    assert by_phone.user is not None
    assert by_phone.user.phone == phone.removeprefix("+")


async def test_stock_client_confirms_recovers_and_changes(api: Api) -> None:
    """Sign-up with a code, recovery, another address in two steps, a nonce."""
    email, other = new_email(), new_email()
    async with server_with(api, CONFIRMING) as server, stock_client(server, "key") as client:
        signed_up = await client.sign_up({"email": email, "password": PASSWORD})
        assert signed_up.session is None
        await client.resend({"type": "signup", "email": email})
        code = (await server.mail(email, "signup"))["code"]
        confirmed = await client.verify_otp({"type": "signup", "email": email, "token": code})
        assert confirmed.session is not None
        await client.reset_password_for_email(email)
        code = (await server.mail(email, "recovery"))["code"]
        recovered = await client.verify_otp({"type": "recovery", "email": email, "token": code})
        assert recovered.session is not None
        changing = await client.update_user({"email": other})
        assert changing.user.new_email == other
        for address in (email, other):
            code = (await server.mail(address, "email_change"))["code"]
            answer = await client.verify_otp({"type": "email_change", "email": address, "token": code})
        assert answer.user is not None
        assert answer.user.email == other
        await client.reauthenticate()
        assert (await server.mail(other, "reauthentication"))["code"]


# --- anonymous users -------------------------------------------------------------------------------------


async def test_anonymous_user_becomes_a_known_one(api: Api, client: AsyncGoTrueClient) -> None:
    """A session without a person; an address with autoconfirm is theirs at once."""
    anonymous = await client.sign_in_anonymously({"options": {"data": {"cart": 1}}})
    assert anonymous.session is not None
    assert anonymous.user is not None
    claims = api.claims({"access_token": anonymous.session.access_token})
    assert (claims["is_anonymous"], claims["email"], claims["amr"][0]["method"]) == (True, "", "anonymous")
    assert anonymous.user.is_anonymous
    assert anonymous.user.app_metadata == {}
    token = anonymous.session.access_token
    refused(await api.call("PUT", "/user", {"password": "x" * 8}, token=token), 422, "validation_failed")
    email = new_email()
    known = (await api.call("PUT", "/user", {"email": email, "password": PASSWORD}, token=token)).json()

    assert (known["email"], known["is_anonymous"]) == (email, False)
    assert known["app_metadata"]["providers"] == ["email"]
    assert known["user_metadata"]["cart"] == 1
    assert (await api.sign_in(Person(known["id"], email)))["user"]["id"] == anonymous.user.id


async def test_anonymous_user_confirms_an_address_where_that_is_asked(api: Api) -> None:
    """Until then they are anonymous; there is no old address that could agree."""
    settings = AuthSettings(is_email_autoconfirmed=False, is_anonymous_enabled=True)
    async with server_with(api, settings) as server:
        token = (await server.call("POST", "/signup", {})).json()["access_token"]
        email = new_email()
        waiting = (await server.call("PUT", "/user", {"email": email}, token=token)).json()
        session = fragment(await follow(server, await server.mail(email, "email_change")))
        user = (await server.call("GET", "/user", token=session["access_token"])).json()

    assert (waiting["is_anonymous"], waiting["new_email"]) == (True, email)
    assert (user["is_anonymous"], user["email"]) == (False, email)
    assert "email_confirmed_at" in user
