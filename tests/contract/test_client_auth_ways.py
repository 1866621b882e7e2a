"""Ways in besides the password, on the local stack: codes, links, other providers, a second factor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
from client_people import Shop, open_shop

from jamestronic_sdk import (
    AuthChangeKind,
    ConflictError,
    InvalidCredentialsError,
    InvalidInputError,
    JamesTronic,
    NotFoundError,
    NotSignedInError,
    PermissionDeniedError,
    Role,
    SessionExpiredError,
)
from jamestronic_sdk.blocking import JamesTronic as BlockingJamesTronic
from jamestronic_sdk.local.auth import totp
from jamestronic_sdk.local.tokens import verify_jwt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from project import Project

HOME = "http://127.0.0.1:3000/home"


@pytest.fixture
async def shop(project: Project) -> AsyncIterator[Shop]:
    project.require_stack()  # it has the mailbox
    async with open_shop(project) as opened:
        yield opened


async def mail(shop: Shop, to: str) -> dict[str, Any]:
    """The newest message to somebody."""
    async with httpx.AsyncClient() as http:
        answer = await http.get(
            f"{shop.supabase.url}/_local/mailbox",
            params={"to": to},
            headers={"apikey": shop.supabase.service_role_key},
        )
    found: dict[str, Any] = answer.json()["messages"][-1]
    return found


async def code_of(address: str) -> str:
    """The ``code`` that a browser brings to our address when it opens a link."""
    async with httpx.AsyncClient() as http:
        while not address.startswith(HOME):
            answer = await http.get(address)
            assert answer.status_code in {302, 303}, answer.text
            address = answer.headers["Location"]
    return parse_qs(urlsplit(address).query)["code"][0]


def level(shop: Shop, token: str) -> str:
    found: str = verify_jwt(shop.supabase.jwt_secret, token)["aal"]
    return found


async def test_a_mailed_code(shop: Shop) -> None:
    person = await shop.person(Role.STAFF)
    async with shop.client() as jt:
        await jt.auth.send_code(email=person.email)
        code = (await mail(shop, person.email))["code"]
        with pytest.raises(InvalidCredentialsError):
            await jt.auth.verify_code("000000" if code != "000000" else "111111", email=person.email)
        me = await jt.auth.verify_code(f" {code} ", email=person.email)
        assert me.role is Role.STAFF
        assert await jt.tickets.list(limit=1) is not None
        with pytest.raises(InvalidCredentialsError):
            await jt.auth.verify_code(code, email=person.email)
        assert jt.auth.me == me


async def test_a_mailed_link(shop: Shop) -> None:
    """By PKCE, which the link's address ends in, and by its token hash."""
    person = await shop.person(Role.STAFF)
    async with shop.client() as jt:
        sent = await jt.auth.send_code(email=person.email, redirect_to=HOME)
        assert sent.verifier is not None
        assert sent.verifier not in repr(sent)
        code = await code_of((await mail(shop, person.email))["link"])
        assert str((await jt.auth.exchange_code(code, verifier=sent.verifier)).user_id) == person.user_id
        await jt.auth.sign_out()
        await jt.auth.send_code(email=person.email)
        message = await mail(shop, person.email)
        assert await jt.auth.verify_link(message["token_hash"], purpose="sign_in")


async def test_a_texted_code(shop: Shop) -> None:
    phone = f"+1555{str(uuid4().int)[:7]}"
    async with shop.client() as jt:
        with pytest.raises(PermissionDeniedError, match="create_account"):
            await jt.auth.send_code(phone=phone)
        sent = await jt.auth.send_code(phone=phone, create_account=True)
        assert sent.verifier is None
        me = await jt.auth.verify_code((await mail(shop, phone))["code"], phone=phone)
        assert me.role is Role.CUSTOMER


async def test_a_forgotten_password(shop: Shop) -> None:
    person = await shop.person(Role.TECHNICIAN)
    async with shop.client() as jt:
        await jt.auth.send_password_reset(f"nobody-{uuid4().hex}@example.test")  # tells nothing
        await jt.auth.send_password_reset(person.email)
        code = (await mail(shop, person.email))["code"]
        await jt.auth.verify_code(code, email=person.email, purpose="recovery")
        await jt.auth.change_password("another password")
        await jt.auth.sign_out()
        with pytest.raises(InvalidCredentialsError):
            await jt.auth.sign_in(email=person.email, password=person.password)
        await jt.auth.sign_in(email=person.email, password="another password")
        sent = await jt.auth.send_password_reset(person.email, redirect_to=HOME)
        code = await code_of((await mail(shop, person.email))["link"])
        assert sent.verifier is not None
        await jt.auth.exchange_code(code, verifier=sent.verifier)


async def test_an_invitation(shop: Shop) -> None:
    email = f"new-{uuid4().hex[:8]}@example.test"
    invited = await shop.service.admin.invite_user(email=email, role=Role.TECHNICIAN)
    assert invited.role is Role.TECHNICIAN
    again = await shop.service.admin.invite_user(email=email, role=Role.TECHNICIAN)
    assert again.id == invited.id  # who has not come yet is mailed again
    async with shop.client() as jt:
        me = await jt.auth.verify_link((await mail(shop, email))["token_hash"], purpose="invite")
        assert me.profile_id == invited.id
        await jt.auth.change_password("a password of my own")
        await jt.auth.sign_out()
        assert (await jt.auth.sign_in(email=email, password="a password of my own")).role is Role.TECHNICIAN
    with pytest.raises(ConflictError):
        await shop.service.admin.invite_user(email=email, role=Role.TECHNICIAN)


async def test_another_provider(shop: Shop) -> None:
    email = f"ada-{uuid4().hex[:8]}@example.test"
    async with shop.client() as jt:
        request = jt.auth.begin_oauth("local", redirect_to=HOME, parameters={"login_hint": email})
        assert request.verifier not in request.url + repr(request)
        code = await code_of(request.url)
        with pytest.raises(InvalidCredentialsError):
            await jt.auth.exchange_code(code, verifier="x" * 43)
        assert not jt.auth.is_signed_in
        request = jt.auth.begin_oauth("local", redirect_to=HOME, parameters={"login_hint": email})
        me = await jt.auth.exchange_code(await code_of(request.url), verifier=request.verifier)
        assert me.role is Role.CUSTOMER
        with pytest.raises(InvalidCredentialsError):
            await jt.auth.exchange_code(str(uuid4()), verifier=request.verifier)


async def test_a_second_factor(shop: Shop) -> None:
    person = await shop.person(Role.ADMIN)
    async with shop.client() as jt, shop.client() as elsewhere:
        for one in (jt, elsewhere):
            await one.auth.sign_in(email=person.email, password=person.password)
        enrolment = await jt.auth.factors.enrol("phone", issuer="JamesTronic")
        assert enrolment.uri.startswith("otpauth://totp/")
        assert enrolment.qr_code.startswith("data:image/svg+xml")
        assert enrolment.secret not in repr(enrolment)
        with pytest.raises(ConflictError):
            await jt.auth.factors.enrol("phone")
        (factor,) = await jt.auth.factors.list()
        assert (factor.id, factor.name, factor.is_verified) == (enrolment.factor.id, "phone", False)
        with pytest.raises(InvalidCredentialsError, match="the app shows now"):
            await jt.auth.factors.verify(enrolment, "000000")
        assert level(shop, await jt.auth.access_token()) == "aal1"

        told: list[str | None] = []
        jt.auth.on_token(told.append)
        async with jt.auth.changes() as changes:
            challenge = await jt.auth.factors.challenge(factor)
            code = totp.code_at(enrolment.secret, time.time())
            me = await jt.auth.factors.verify(factor, code, challenge=challenge)
            assert (await anext(changes)).kind is AuthChangeKind.TOKEN_REFRESHED
        assert str(me.user_id) == person.user_id
        assert level(shop, await jt.auth.access_token()) == "aal2"
        assert told == [await jt.auth.access_token()]
        await jt.tickets.list(limit=1)
        assert level(shop, await jt.auth.renew(await jt.auth.access_token())) == "aal2"
        assert (await jt.auth.factors.list())[0].is_verified

        with pytest.raises(SessionExpiredError):  # it had not shown the factor
            await elsewhere.auth.renew(await elsewhere.auth.access_token())
        await elsewhere.auth.sign_in(email=person.email, password=person.password)
        with pytest.raises(PermissionDeniedError, match="second factor"):
            await elsewhere.auth.factors.unenrol(factor)
        with pytest.raises(NotFoundError):
            await jt.auth.factors.challenge(uuid4())
        await jt.auth.factors.unenrol(factor)
        assert await jt.auth.factors.list() == []


async def test_the_blocking_face_has_them_too(shop: Shop) -> None:
    import asyncio  # noqa: PLC0415

    person = await shop.person(Role.STAFF)

    def send() -> None:
        with BlockingJamesTronic(shop.supabase.url, shop.supabase.anon_key, env_file=None) as jt:
            jt.auth.send_code(email=person.email)

    def verify(code: str) -> None:
        with BlockingJamesTronic(shop.supabase.url, shop.supabase.anon_key, env_file=None) as jt:
            jt.auth.verify_code(code, email=person.email)
            enrolment = jt.auth.factors.enrol("phone")
            jt.auth.factors.verify(enrolment, totp.code_at(enrolment.secret, time.time()))
            assert [one.is_verified for one in jt.auth.factors.list()] == [True]

    await asyncio.to_thread(send)
    await asyncio.to_thread(verify, (await mail(shop, person.email))["code"])


@pytest.mark.parametrize(
    "call",
    [
        lambda jt: jt.auth.send_code(),
        lambda jt: jt.auth.send_code(email="a@example.test", phone="+15550100"),
        lambda jt: jt.auth.send_code(email=5),
        lambda jt: jt.auth.verify_code("", email="a@example.test"),
        lambda jt: jt.auth.verify_code("123456", email="a@example.test", purpose="other"),
        lambda jt: jt.auth.verify_link("x\x00", purpose="invite"),
        lambda jt: jt.auth.send_password_reset(""),
        lambda jt: jt.auth.exchange_code("x", verifier=None),
        lambda jt: jt.auth.factors.verify("no id", "123456"),
    ],
)
async def test_bad_input_is_refused(
    shop: Shop, call: Callable[[JamesTronic], Coroutine[Any, Any, object]]
) -> None:
    async with shop.client() as jt:
        with pytest.raises(InvalidInputError):
            await call(jt)
        with pytest.raises(InvalidInputError):
            jt.auth.begin_oauth("")
        with pytest.raises(NotSignedInError):
            await jt.auth.factors.list()
