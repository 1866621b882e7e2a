"""A second factor at the local Auth server: TOTP, aal2, and who may do what."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import pytest
from local_auth_support import PASSWORD, Api, Person, refused, server_with
from supabase_auth.errors import AuthApiError

from jamestronic_sdk.local.auth import totp
from jamestronic_sdk.local.auth.settings import AuthSettings

if TYPE_CHECKING:
    from supabase_auth import AsyncGoTrueClient


def code_of(secret: str, *, steps: int = 0) -> str:
    return totp.code_at(secret, time.time() + steps * 30)


def wrong_code(secret: str) -> str:
    near = {code_of(secret, steps=steps) for steps in range(-3, 4)}
    return next(code for code in (f"{n:06d}" for n in range(10)) if code not in near)


async def enroll(api: Api, token: str, name: str = "phone") -> dict[str, Any]:
    response = await api.call("POST", "/factors", {"factor_type": "totp", "friendly_name": name}, token=token)
    assert response.status_code == 200, response.text
    enrolled: dict[str, Any] = response.json()
    return enrolled


async def challenge(api: Api, token: str, factor_id: str) -> str:
    response = await api.call("POST", f"/factors/{factor_id}/challenge", {}, token=token)
    assert response.status_code == 200, response.text
    challenge_id: str = response.json()["id"]
    return challenge_id


async def verify(api: Api, token: str, factor: dict[str, Any], **answer: str) -> Any:
    """The answer to a new challenge, by default with the right code."""
    if "challenge_id" not in answer:
        answer["challenge_id"] = await challenge(api, token, factor["id"])
    answer.setdefault("code", code_of(factor["totp"]["secret"]))
    return await api.call("POST", f"/factors/{factor['id']}/verify", answer, token=token)


async def with_two_factors(api: Api) -> tuple[Person, dict[str, Any], dict[str, Any]]:
    """Somebody, their factor, and their session at aal2."""
    person = await api.person()
    token = (await api.sign_in(person))["access_token"]
    factor = await enroll(api, token)
    response = await verify(api, token, factor)
    assert response.status_code == 200, response.text
    return person, factor, response.json()


# --- the algorithm ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "code"),
    # RFC 6238, appendix B, the last six of its eight digits.
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_codes_are_those_of_the_rfc(moment: int, code: str) -> None:
    """SHA-1, thirty seconds, six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert totp.code_at(secret, moment) == code
    for seconds, is_right in ((-60, False), (-30, True), (30, True), (60, False)):
        assert totp.is_right(secret, f" {code} ", now=moment + seconds) is is_right


# --- enrolling -------------------------------------------------------------------------------------------


async def test_enrolled_factor_has_a_secret_and_a_picture_of_it(api: Api) -> None:
    """The URI that applications read, and an SVG that fits into a data URL."""
    person = await api.person()
    token = (await api.sign_in(person))["access_token"]
    factor = await enroll(api, token)
    uri = urlsplit(factor["totp"]["uri"])
    user = (await api.call("GET", "/user", token=token)).json()

    assert set(factor) == {"id", "type", "friendly_name", "totp"}
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert uri.path == f"/127.0.0.1%3A3000:{person.email}"
    assert parse_qs(uri.query)["secret"] == [factor["totp"]["secret"]]
    assert parse_qs(uri.query)["issuer"] == ["127.0.0.1:3000"]
    picture = ET.fromstring(factor["totp"]["qr_code"])  # noqa: S314 - our own
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert "#" not in factor["totp"]["qr_code"]
    [shown] = user["factors"]
    assert (shown["id"], shown["status"], shown["factor_type"]) == (factor["id"], "unverified", "totp")
    assert "secret" not in shown


async def test_enrolling_refuses(api: Api) -> None:
    """Other kinds, a second one of the name, too many, anonymous users, users without an address."""
    token = (await api.sign_in(await api.person()))["access_token"]
    for kind, status, code in [
        ("phone", 422, "mfa_phone_enroll_not_enabled"),
        ("webauthn", 422, "mfa_webauthn_enroll_not_enabled"),
        ("fax", 400, "validation_failed"),
        ("", 400, "validation_failed"),
    ]:
        refused(await api.call("POST", "/factors", {"factor_type": kind}, token=token), status, code)
    body = {"factor_type": "totp", "friendly_name": "phone"}
    await enroll(api, token)
    refused(await api.call("POST", "/factors", body, token=token), 422, "mfa_factor_name_conflict")
    refused(await api.call("POST", "/factors", body), 401, "no_authorization")
    async with server_with(api, AuthSettings(max_factors=1)) as strict:
        response = await strict.call("POST", "/factors", body | {"friendly_name": "x"}, token=token)
        refused(response, 422, "too_many_enrolled_mfa_factors")
    async with server_with(api, AuthSettings(is_totp_enabled=False)) as closed:
        response = await closed.call("POST", "/factors", body, token=token)
        refused(response, 422, "mfa_totp_enroll_not_enabled")
    anonymous = (await api.call("POST", "/signup", {})).json()["access_token"]
    refused(await api.call("POST", "/factors", body, token=anonymous), 403, "no_authorization")


async def test_abandoned_factor_is_forgotten(api: Api) -> None:
    """Five minutes after, when it was never challenged; its name is free again."""
    person = await api.person()
    token = (await api.sign_in(person))["access_token"]
    first = await enroll(api, token)
    async with api.database() as database:
        await database.execute(
            "update auth.mfa_factors set created_at = created_at - interval '301 s' where id = %s",
            [first["id"]],
        )
    second = await enroll(api, token)
    user = (await api.call("GET", "/user", token=token)).json()

    assert [factor["id"] for factor in user["factors"]] == [second["id"]]


# --- proving ---------------------------------------------------------------------------------------------


async def test_right_code_raises_this_session_and_ends_the_others(api: Api) -> None:
    """aal2, amr newest first, a new refresh token; it stays so when refreshed."""
    person = await api.person()
    this, other = await api.sign_in(person), await api.sign_in(person)
    factor = await enroll(api, this["access_token"])
    raised = (await verify(api, this["access_token"], factor)).json()
    refreshed = (await api.refresh(raised["refresh_token"])).json()

    before, after = api.claims(this), api.claims(raised)
    assert (before["aal"], after["aal"], api.claims(refreshed)["aal"]) == ("aal1", "aal2", "aal2")
    assert before["session_id"] == after["session_id"]
    assert [entry["method"] for entry in after["amr"]] == ["totp", "password"]
    assert raised["refresh_token"] != this["refresh_token"]
    assert raised["user"]["factors"][0]["status"] == "verified"
    refused(await api.refresh(other["refresh_token"]), 400, "refresh_token_not_found")
    assert api.claims(await api.sign_in(person))["aal"] == "aal1"


async def test_answers_that_do_not_fit_are_refused(api: Api) -> None:
    """Wrong code, no code, another challenge, another place, too late, a second time."""
    person = await api.person()
    token = (await api.sign_in(person))["access_token"]
    factor = await enroll(api, token)
    secret = factor["totp"]["secret"]
    refused(await verify(api, token, factor, code=wrong_code(secret)), 422, "mfa_verification_failed")
    refused(await verify(api, token, factor, code="ä"), 422, "mfa_verification_failed")
    refused(await verify(api, token, factor, code=""), 400, "validation_failed")
    refused(await verify(api, token, factor, challenge_id="x"), 400, "bad_json")
    refused(await verify(api, token, factor, challenge_id=str(uuid.uuid4())), 422, "mfa_factor_not_found")

    late_id, elsewhere = [await challenge(api, token, factor["id"]) for _ in range(2)]
    async with api.database() as database:
        await database.execute(
            "update auth.mfa_challenges set created_at = created_at - interval '301 s' where id = %s",
            [late_id],
        )
        await database.execute(
            "update auth.mfa_challenges set ip_address = '192.0.2.1' where id = %s", [elsewhere]
        )
    refused(await verify(api, token, factor, challenge_id=late_id), 422, "mfa_challenge_expired")
    refused(await verify(api, token, factor, challenge_id=late_id), 422, "mfa_factor_not_found")
    refused(await verify(api, token, factor, challenge_id=elsewhere), 422, "mfa_ip_address_mismatch")

    good = await challenge(api, token, factor["id"])
    assert (await verify(api, token, factor, challenge_id=good)).status_code == 200
    refused(await verify(api, token, factor, challenge_id=good), 422, "mfa_ip_address_mismatch")


async def test_simultaneous_answers_raise_once(api: Api) -> None:
    """The challenge is locked while it is answered."""
    token = (await api.sign_in(await api.person()))["access_token"]
    factor = await enroll(api, token)
    challenge_id = await challenge(api, token, factor["id"])
    responses = await asyncio.gather(
        *(verify(api, token, factor, challenge_id=challenge_id) for _ in range(4))
    )

    assert sorted(response.status_code for response in responses) == [200, 422, 422, 422]


async def test_factors_are_their_owners(api: Api) -> None:
    """404 for anybody else, and for what is no id."""
    _, factor, _ = await with_two_factors(api)
    token = (await api.sign_in(await api.person()))["access_token"]
    for method, path in (("POST", "/challenge"), ("DELETE", "")):
        response = await api.call(method, f"/factors/{factor['id']}{path}", {}, token=token)
        refused(response, 404, "mfa_factor_not_found")
        refused(await api.call(method, f"/factors/7{path}", {}, token=token), 404, "validation_failed")


# --- what aal2 is needed for -----------------------------------------------------------------------------


async def test_one_factor_is_not_enough_for_who_has_two(api: Api) -> None:
    """To enrol another, to remove one, to change what signs in; own metadata is free."""
    person, factor, raised = await with_two_factors(api)
    weak, strong = (await api.sign_in(person))["access_token"], raised["access_token"]
    another = {"factor_type": "totp", "friendly_name": "tablet"}
    refused(await api.call("POST", "/factors", another, token=weak), 403, "insufficient_aal")
    refused(await api.call("DELETE", f"/factors/{factor['id']}", token=weak), 422, "insufficient_aal")
    for body in ({"password": "another horse"}, {"email": "new@example.test"}, {"phone": "+4930123456"}):
        refused(await api.call("PUT", "/user", body, token=weak), 401, "insufficient_aal")
    assert (await api.call("PUT", "/user", {"data": {"x": 1}}, token=weak)).status_code == 200
    assert (await api.call("PUT", "/user", {"password": "another horse"}, token=strong)).status_code == 200
    assert (await api.call("POST", "/factors", another, token=strong)).status_code == 200


async def test_removed_factor_takes_the_level_with_it(api: Api) -> None:
    """The next token says aal1."""
    _, factor, raised = await with_two_factors(api)
    removed = await api.call("DELETE", f"/factors/{factor['id']}", token=raised["access_token"])
    refreshed = (await api.refresh(raised["refresh_token"])).json()

    assert removed.json() == {"id": factor["id"]}
    assert api.claims(refreshed)["aal"] == "aal1"
    assert [entry["method"] for entry in api.claims(refreshed)["amr"]] == ["password"]
    assert "factors" not in refreshed["user"]


async def test_admin_sees_renames_and_removes_factors(api: Api) -> None:
    """For who has lost the device."""
    person, factor, raised = await with_two_factors(api)
    path = f"/admin/users/{person.id}/factors"
    [listed] = (await api.admin("GET", path)).json()
    renamed = await api.admin("PUT", f"{path}/{factor['id']}", {"friendly_name": "tablet"})
    removed = await api.admin("DELETE", f"{path}/{factor['id']}")

    assert (listed["id"], listed["friendly_name"]) == (factor["id"], "phone")
    assert renamed.json()["friendly_name"] == "tablet"
    assert removed.json()["id"] == factor["id"]
    assert (await api.admin("GET", path)).json() == []
    refused(await api.admin("DELETE", f"{path}/{factor['id']}"), 404, "mfa_factor_not_found")
    refused(await api.call("GET", path, token=raised["access_token"]), 403, "not_admin")
    assert api.claims((await api.refresh(raised["refresh_token"])).json())["aal"] == "aal1"


async def test_secret_is_in_no_answer_but_the_first(api: Api) -> None:
    """Neither to the user nor to the admin."""
    person, factor, raised = await with_two_factors(api)
    user = await api.call("GET", "/user", token=raised["access_token"])
    listed = await api.admin("GET", f"/admin/users/{person.id}/factors")

    for response in (user, listed):
        assert factor["totp"]["secret"] not in response.text


# --- the stock client ------------------------------------------------------------------------------------


async def test_stock_client_goes_through_two_factors(api: Api, client: AsyncGoTrueClient) -> None:
    """Enrol, be wrong, be right, sign in again, see the next level, remove."""
    email = f"{uuid.uuid4().hex}@example.test"
    await client.sign_up({"email": email, "password": PASSWORD})
    enrolled = await client.mfa.enroll({"factor_type": "totp", "friendly_name": "phone", "issuer": "Shop"})
    assert enrolled.totp is not None
    assert enrolled.totp.qr_code.startswith("data:image/svg+xml;utf-8,<svg")
    asked = await client.mfa.challenge({"factor_id": enrolled.id})
    wrong = {"factor_id": enrolled.id, "challenge_id": asked.id, "code": wrong_code(enrolled.totp.secret)}
    with pytest.raises(AuthApiError) as caught:
        await client.mfa.verify(wrong)
    assert (caught.value.status, caught.value.code) == (422, "mfa_verification_failed")
    raised = await client.mfa.challenge_and_verify(
        {"factor_id": enrolled.id, "code": code_of(enrolled.totp.secret)}
    )
    assert api.claims({"access_token": raised.access_token})["aal"] == "aal2"
    await client.sign_in_with_password({"email": email, "password": PASSWORD})
    level = await client.mfa.get_authenticator_assurance_level()
    assert (level.current_level, level.next_level) == ("aal1", "aal2")
    listed = await client.mfa.list_factors()
    assert [factor.id for factor in listed.totp] == [enrolled.id]
    await client.mfa.challenge_and_verify({"factor_id": enrolled.id, "code": code_of(enrolled.totp.secret)})
    await client.mfa.unenroll({"factor_id": enrolled.id})
    refreshed = await client.refresh_session()
    assert refreshed.user is not None
    assert not refreshed.user.factors
