"""PKCE at the local Auth server, by mailed links and by a provider."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from local_auth_support import PASSWORD, Api, refused, server_with, stock_client
from supabase_auth.errors import AuthApiError

from jamestronic_sdk.local.auth.settings import AuthSettings

if TYPE_CHECKING:
    import httpx

CONFIRMING = AuthSettings(is_email_autoconfirmed=False)
HOME = "http://127.0.0.1:3000/home"


def new_email() -> str:
    return f"{uuid.uuid4().hex}@example.test"


def new_challenge(method: str = "s256") -> tuple[str, dict[str, str]]:
    """A verifier, and what is sent of it."""
    verifier = secrets.token_urlsafe(48)
    text = verifier
    if method.lower() == "s256":
        text = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return verifier, {"code_challenge": text, "code_challenge_method": method}


def query_of(response: httpx.Response) -> dict[str, str]:
    assert response.status_code in {302, 303}, response.text
    parsed = parse_qs(urlsplit(response.headers["Location"]).query)
    return {name: values[0] for name, values in parsed.items()}


def fragment_of(response: httpx.Response) -> dict[str, str]:
    parsed = parse_qs(urlsplit(response.headers["Location"]).fragment)
    return {name: values[0] for name, values in parsed.items()}


async def follow(server: Api, message: dict[str, Any]) -> httpx.Response:
    return await server.http.get(f"/verify?{urlsplit(message['link']).query}")


async def exchange(server: Api, code: str, verifier: str) -> httpx.Response:
    return await server.call("POST", "/token?grant_type=pkce", {"auth_code": code, "code_verifier": verifier})


async def at_provider(server: Api, url: str) -> httpx.Response:
    """The same place at the server under test; its links name the stack's gateway."""
    parsed = urlsplit(url)
    return await server.http.get(f"{parsed.path.removeprefix('/auth/v1')}?{parsed.query}")


async def through_provider(server: Api, params: dict[str, str]) -> httpx.Response:
    """From /authorize by the provider and /callback to the application's redirect."""
    response = await server.http.get("/authorize", params={"provider": "local"} | params)
    for _ in range(2):
        response = await at_provider(server, response.headers["Location"])
    return response


# --- mailed links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["s256", "S256", "plain"])
async def test_magic_link_gives_a_code_that_is_exchanged_once(api: Api, method: str) -> None:
    """The link's redirect has a code, no session; the verifier makes it one."""
    person = await api.person()
    verifier, challenge = new_challenge(method)
    asked = await api.call(
        "POST", "/otp", {"email": person.email} | challenge, params={"redirect_to": f"{HOME}?a=b"}
    )
    message = await api.mail(person.email, "magiclink")
    clicked = await follow(api, message)
    code = query_of(clicked)["code"]
    refused(await exchange(api, code, verifier + "x"), 400, "bad_code_verifier")
    session = await exchange(api, code, verifier)

    assert asked.json() == {}
    assert message["token_hash"].startswith("pkce_")
    assert query_of(clicked) == {"a": "b", "code": code}
    assert "access_token" not in clicked.headers["Location"]
    assert session.json()["user"]["id"] == person.id
    assert [entry["method"] for entry in api.claims(session.json())["amr"]] == ["magiclink"]
    refused(await exchange(api, code, verifier), 404, "flow_state_not_found")


async def test_code_of_a_pkce_message_signs_in_at_once(api: Api) -> None:
    """Whoever types the code has no use for a redirect."""
    person = await api.person()
    await api.call("POST", "/otp", {"email": person.email} | new_challenge()[1])
    message = await api.mail(person.email)
    answer = {"type": "email", "email": person.email, "token": message["code"]}

    assert "access_token" in (await api.call("POST", "/verify", answer)).json()


async def test_sign_up_and_recovery_and_change_of_address_give_codes(api: Api) -> None:
    """Each with its amr."""
    async with server_with(api, AuthSettings(is_email_autoconfirmed=False)) as server:
        email, other = new_email(), new_email()
        verifier, challenge = new_challenge()
        await server.call("POST", "/signup", {"email": email, "password": PASSWORD} | challenge)
        code = query_of(await follow(server, await server.mail(email, "signup")))["code"]
        signed_up = (await exchange(server, code, verifier)).json()
        verifier, challenge = new_challenge()
        await server.call("POST", "/recover", {"email": email} | challenge)
        code = query_of(await follow(server, await server.mail(email, "recovery")))["code"]
        recovered = (await exchange(server, code, verifier)).json()
        verifier, challenge = new_challenge()
        token = recovered["access_token"]
        await server.call("PUT", "/user", {"email": other} | challenge, token=token)
        half = await follow(server, await server.mail(email, "email_change"))
        code = query_of(await follow(server, await server.mail(other, "email_change")))["code"]
        changed = (await exchange(server, code, verifier)).json()

    methods = [api.claims(session)["amr"][0]["method"] for session in (signed_up, recovered, changed)]
    assert methods == ["email/signup", "recovery", "email_change"]
    assert "message" in query_of(half)
    assert changed["user"]["email"] == other


async def test_flow_waits_five_minutes(api: Api) -> None:
    """A magic link's from the click, any other from the beginning."""
    person = await api.person()
    for path, column in (("/otp", "auth_code_issued_at"), ("/recover", "created_at")):
        verifier, challenge = new_challenge()
        await api.call("POST", path, {"email": person.email} | challenge)
        code = query_of(await follow(api, await api.mail(person.email)))["code"]
        async with api.database() as database:
            statement = (
                f"update auth.flow_state set {column} = {column} - interval '301 s' where auth_code = %s"
            )
            await database.execute(statement.encode(), [code])
        refused(await exchange(api, code, verifier), 422, "flow_state_expired")


async def test_simultaneous_exchanges_make_one_session(api: Api) -> None:
    """The flow is locked while its code is exchanged."""
    person = await api.person()
    verifier, challenge = new_challenge()
    await api.call("POST", "/otp", {"email": person.email} | challenge)
    code = query_of(await follow(api, await api.mail(person.email)))["code"]
    responses = await asyncio.gather(*(exchange(api, code, verifier) for _ in range(5)))

    assert sorted(response.status_code for response in responses) == [200, 404, 404, 404, 404]


async def test_link_whose_flow_is_gone_says_so(api: Api) -> None:
    """In query and fragment."""
    person = await api.person()
    await api.call("POST", "/otp", {"email": person.email} | new_challenge()[1])
    async with api.database() as database:
        await database.execute("delete from auth.flow_state where user_id = %s", [person.id])
    clicked = await follow(api, await api.mail(person.email))

    assert query_of(clicked)["error_code"] == fragment_of(clicked)["error_code"] == "flow_state_not_found"


@pytest.mark.parametrize(
    "challenge",
    [
        {"code_challenge": "x" * 43},
        {"code_challenge_method": "s256"},
        {"code_challenge": "x" * 42, "code_challenge_method": "s256"},
        {"code_challenge": "x" * 129, "code_challenge_method": "s256"},
        {"code_challenge": "/" * 43, "code_challenge_method": "s256"},
        {"code_challenge": "x" * 43, "code_challenge_method": "md5"},
    ],
)
async def test_challenges_are_checked(api: Api, challenge: dict[str, str]) -> None:
    """Everywhere the same."""
    for path in ("/otp", "/recover", "/signup", "/magiclink"):
        body = {"email": new_email(), "password": PASSWORD} | challenge
        refused(await api.call("POST", path, body), 400, "validation_failed")
    response = await api.call("GET", "/authorize", params={"provider": "local"} | challenge)
    refused(response, 400, "validation_failed")


async def test_exchange_needs_both_parts_and_a_known_code(api: Api) -> None:
    """400 and 404; the code of a link that nobody clicked is nobody's."""
    refused(await exchange(api, "", "x"), 400, "validation_failed")
    refused(await exchange(api, "x", ""), 400, "validation_failed")
    refused(await exchange(api, str(uuid.uuid4()), "x"), 404, "flow_state_not_found")


# --- a provider ------------------------------------------------------------------------------------------


async def test_provider_gives_a_code_that_is_exchanged(api: Api) -> None:
    """A new user with the provider's identity; the same person comes back as the same user."""
    email, sessions = new_email(), []
    for _ in range(2):
        verifier, challenge = new_challenge()
        back = await through_provider(api, {"login_hint": email, "redirect_to": HOME} | challenge)
        assert back.headers["Location"].startswith(f"{HOME}?code=")
        sessions.append((await exchange(api, query_of(back)["code"], verifier)).json())
    first, second = sessions
    user = first["user"]
    [identity] = user["identities"]

    assert {"provider_token", "provider_refresh_token"} <= set(first)
    assert user["id"] == second["user"]["id"]
    assert (user["email"], user["app_metadata"]["providers"]) == (email, ["local"])
    assert "email_confirmed_at" in user
    assert user["user_metadata"]["full_name"] == email.partition("@")[0]
    assert (identity["provider"], identity["id"]) == ("local", identity["identity_data"]["sub"])
    assert api.claims(first)["amr"][0]["method"] == "oauth"


async def test_provider_without_a_challenge_gives_a_session(api: Api) -> None:
    """In the fragment, as browsers want it."""
    back = await through_provider(api, {"login_hint": new_email()})
    session = fragment_of(back)

    assert {"access_token", "refresh_token", "provider_token"} <= set(session)
    assert (await api.call("GET", "/user", token=session["access_token"])).status_code == 200


async def test_provider_links_the_owner_of_the_address(api: Api) -> None:
    """A confirmed user keeps the password; an unconfirmed one loses what was never proved."""
    person, squatted = await api.person(), await api.person(email_confirm=False)
    for owner in (person, squatted):
        verifier, challenge = new_challenge()
        back = await through_provider(api, {"login_hint": owner.email} | challenge)
        user = (await exchange(api, query_of(back)["code"], verifier)).json()["user"]
        assert user["id"] == owner.id
    kept = await api.sign_in(person)
    credentials = {"email": squatted.email, "password": PASSWORD}

    assert kept["user"]["app_metadata"]["providers"] == ["email", "local"]
    assert user["app_metadata"]["providers"] == ["local"]
    refused(await api.call("POST", "/token?grant_type=password", credentials), 400, "invalid_credentials")


async def test_providers_page_asks_and_takes_no_for_an_answer(api: Api) -> None:
    """A form; allowed or denied."""
    start = await api.http.get("/authorize", params={"provider": "local", "redirect_to": HOME})
    page = await at_provider(api, start.headers["Location"])
    state = query_of(start)["state"]
    assert "<form" in page.text
    assert state in page.text
    denied = await api.http.post("/_local/provider", data={"state": state, "answer": "deny"})
    back = await at_provider(api, denied.headers["Location"])
    assert query_of(back)["error"] == fragment_of(back)["error"] == "access_denied"
    form = {"state": state, "answer": "allow", "email": new_email(), "name": "Ada"}
    allowed = await api.http.post("/_local/provider", data=form)
    session = fragment_of(await at_provider(api, allowed.headers["Location"]))
    user = (await api.call("GET", "/user", token=session["access_token"])).json()
    assert user["user_metadata"]["full_name"] == "Ada"
    script = await api.http.get("/_local/provider", params={"state": '"><script>'})
    assert "<script>" not in script.text


@pytest.mark.parametrize(
    ("provider", "message"),
    [("google", "provider is not enabled"), ("nobody", "could not be found"), ("", "could not be found")],
)
async def test_other_providers_are_refused(api: Api, provider: str, message: str) -> None:
    """As hosted Auth refuses what is not switched on."""
    response = await api.call("GET", "/authorize", params={"provider": provider})
    refused(response, 400, "validation_failed")
    assert message in response.json()["message"]
    async with server_with(api, AuthSettings(local_providers=())) as closed:
        refused(
            await closed.call("GET", "/authorize", params={"provider": "local"}), 400, "validation_failed"
        )


async def test_callbacks_that_do_not_fit_redirect_with_an_error(api: Api) -> None:
    """No state, an unknown one, a used one; no code, an unknown one."""
    start = await api.http.get("/authorize", params={"provider": "local"} | new_challenge()[1])
    state = query_of(start)["state"]
    for params, code in [
        ({}, "bad_oauth_callback"),
        ({"state": "x"}, "bad_oauth_state"),
        ({"state": str(uuid.uuid4())}, "bad_oauth_state"),
        ({"state": state}, "bad_oauth_callback"),
        ({"state": state, "code": "x"}, "unexpected_failure"),
    ]:
        back = await api.http.get("/callback", params=params)
        assert query_of(back)["error_code"] == code
    for code in (None, "flow_state_already_used"):
        answered = await api.http.get("/_local/provider", params={"state": state, "login_hint": new_email()})
        back = await at_provider(api, answered.headers["Location"])
        assert query_of(back).get("error_code") == code


async def test_closed_doors_are_closed_to_providers_too(api: Api) -> None:
    """Sign-up off; a banned user."""
    async with server_with(api, AuthSettings(is_signup_enabled=False)) as closed:
        back = await through_provider(closed, {"login_hint": new_email()})
        assert query_of(back)["error_code"] == "signup_disabled"
    person = await api.person(ban_duration="1h")
    back = await through_provider(api, {"login_hint": person.email})
    assert (query_of(back)["error"], query_of(back)["error_code"]) == ("access_denied", "user_banned")


# --- the stock client ------------------------------------------------------------------------------------


async def test_stock_client_signs_in_by_provider_with_pkce(api: Api) -> None:
    """It builds the URL, a browser walks it, it exchanges the code; a second time it is refused."""
    email = new_email()
    async with stock_client(api, api.context.anon_key, flow_type="pkce") as client:
        started = await client.sign_in_with_oauth(
            {"provider": "github", "options": {"redirect_to": HOME, "query_params": {"login_hint": email}}}
        )
        url = started.url
        while not url.startswith(HOME):
            response = await api.http.get(url)
            url = urljoin(url, response.headers["Location"])
        code = parse_qs(urlsplit(url).query)["code"][0]
        answer = await client.exchange_code_for_session({"auth_code": code})
        assert answer.user is not None
        assert answer.user.email == email
        assert answer.session is not None
        assert answer.session.provider_token
        with pytest.raises(AuthApiError) as caught:
            await client.exchange_code_for_session(
                {"auth_code": code, "code_verifier": "x" * 43, "redirect_to": ""}
            )
        assert caught.value.code == "flow_state_not_found"


async def test_stock_client_with_pkce_confirms_and_recovers(api: Api) -> None:
    """It keeps the verifier itself."""
    email = new_email()
    async with (
        server_with(api, CONFIRMING) as server,
        stock_client(server, "key", flow_type="pkce") as client,
    ):
        await client.sign_up({"email": email, "password": PASSWORD})
        code = query_of(await follow(server, await server.mail(email, "signup")))["code"]
        confirmed = await client.exchange_code_for_session({"auth_code": code})
        assert confirmed.session is not None
        await client.reset_password_for_email(email)
        code = query_of(await follow(server, await server.mail(email, "recovery")))["code"]
        recovered = await client.exchange_code_for_session({"auth_code": code})
        assert recovered.session is not None
