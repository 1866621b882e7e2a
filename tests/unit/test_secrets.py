"""Planted secrets are searched for in every log line, repr, error, traceback, pickle, span and saved file.

A tour of all operations is made against a server that puts secrets into everything it answers: good rows,
refusals that quote them, and garbage.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import pickle
import stat
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from client_support import (
    PROFILE,
    SECRET,
    TICKET,
    USER,
    Service,
    api_error,
    auth_error,
    client,
    hang_up,
    jwt,
    never,
    ok,
    profile,
    serving,
    session,
    ticket,
)
from telemetry_support import providers

from jamestronic_sdk import FileSessionStore, JamesTronic, JamesTronicError, Role, blocking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

PASSWORD = "planted-password-1f0c"
EMAIL = "planted.person@example.test"
PHONE = "+15550177123"
CODE = "planted-code-2e9d"
ROW = "planted-row-3d8e"
SOUGHT = "planted-search-4c7b"
ACCESS, REFRESH = jwt(sub="planted"), f"refresh-{SECRET}"
ANON, SERVICE = jwt(role="anon"), jwt(role="service_role")
TOTP = "PLANTEDTOTPSECRET"

PLANTED = {
    "password": PASSWORD,
    "e-mail": EMAIL,
    "e-mail in a query string": EMAIL.replace("@", "%40"),
    "phone": PHONE,
    "phone in a query string": PHONE.replace("+", "%2B"),
    "bare phone": PHONE[1:],
    "code": CODE,
    "row": ROW,
    "search": SOUGHT,
    "access token": ACCESS,
    "refresh token": REFRESH,
    "secret in a token or key": SECRET,
    "anon key": ANON,
    "service key": SERVICE,
    "signature": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    "TOTP secret": TOTP,
}
QUOTED = f"for {EMAIL}, {PHONE}, token {ACCESS}"
MOMENT = "2026-11-01T08:00:00+00:00"


@dataclass
class Found:
    """All text that a program, its log or its files could show to somebody."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, where: str, text: str) -> None:
        self.texts.append((where, text))

    def saw(self, where: str, value: object) -> None:
        """The printed forms of an answer or an object."""
        self.add(f"repr of {where}", repr(value))
        self.add(f"str of {where}", f"{value}")

    def caught(self, where: str, error: BaseException) -> None:
        """Everything that is printed, stored or sent of an error."""
        self.errors.append(f"{where}: {error}")
        self.add(f"traceback of {where}", "".join(traceback.format_exception(error)))
        self.add(f"notes of {where}", repr(getattr(error, "__notes__", [])))
        self.add(f"facts of {where}", repr(vars(error)) + repr(error.args))
        self.add(f"pickle of {where}", pickle.dumps(error).decode("latin-1"))
        cause = error.__cause__
        while cause is not None:
            self.add(f"cause of {where}", repr(cause) + str(cause) + repr(cause.args))
            cause = cause.__cause__
        self.saw(where, error)

    def leaks(self) -> list[str]:
        return sorted(
            {
                f"{what} in {where}: ...{text[max(0, text.index(secret) - 60) : text.index(secret) + 60]!r}"
                for where, text in self.texts
                for what, secret in PLANTED.items()
                if secret in text
            }
        )


def rows(request: web.Request) -> web.StreamResponse:  # noqa: C901, PLR0911, PLR0912 - a table
    """A good answer, full of what must not be seen."""
    path, method = request.path, request.method
    kept = {"id": TICKET, "ticket_id": TICKET, "body": ROW, "created_at": MOMENT, "updated_at": MOMENT}
    user: Any = {**session()["user"], "email": EMAIL, "phone": PHONE, "user_metadata": {"full_name": ROW}}  # type: ignore[dict-item]
    person = profile(full_name=ROW, phone=PHONE, note=ROW)
    repair = ticket(title=ROW, description=QUOTED, pickup_address=ROW, own=ROW)
    signed_in = {**session(ACCESS, refresh=REFRESH), "user": user}
    match path.split("/")[1:]:
        case ["auth", "v1", "token" | "verify"] | ["auth", "v1", "factors", _, "verify"]:
            return ok(signed_in)
        case ["auth", "v1", "otp" | "recover"]:
            return ok({})
        case ["auth", "v1", "signup"]:
            return ok(signed_in)
        case ["auth", "v1", "admin", "users"] if method == "GET":
            return ok({"users": [user], "aud": "x"})
        case ["auth", "v1", "admin", "users", *_] | ["auth", "v1", "user" | "invite"]:
            factor = {
                "id": TICKET,
                "factor_type": "totp",
                "status": "verified",
                "friendly_name": "x",
                "created_at": MOMENT,
                "updated_at": MOMENT,
            }
            return ok({**user, "factors": [factor]})
        case ["auth", "v1", "factors"]:
            return ok(
                {
                    "id": TICKET,
                    "type": "totp",
                    "friendly_name": "x",
                    "totp": {"qr_code": TOTP, "secret": TOTP, "uri": f"otpauth://{TOTP}"},
                }
            )
        case ["auth", "v1", "factors", _, "challenge"]:
            return ok({"id": TICKET, "type": "totp", "factor_type": "totp", "expires_at": 1_800_000_000})
        case ["auth", "v1", "factors", _]:
            return ok({"id": TICKET})
        case ["rest", "v1", "profiles"]:
            return ok([person], 200, **{"Content-Range": "0-0/1", "Content-Location": f"/profiles?{EMAIL}"})
        case ["rest", "v1", "tickets"]:
            return ok([repair], 200, **{"Content-Range": "0-0/1", "Content-Location": f"/tickets?{SOUGHT}"})
        case ["rest", "v1", "ticket_notes" | "parts"]:
            return ok([kept], 200, **{"Content-Range": "0-0/1"})
        case ["rest", "v1", "rpc", "sync_tickets"]:
            return ok(
                {"kind": "snapshot", "upserts": [repair], "removed": [], "more": False, "cursor": "1:1:"}
            )
        case ["rest", "v1", "rpc", "tickets_digest"]:
            return ok({"count": 1, "digest": "0" * 16})
        case ["rest", "v1", "rpc", _]:
            return ok(repair)
        case _:
            return web.Response(status=204)


def refused(request: web.Request) -> web.StreamResponse:
    """A refusal that quotes what it was asked and what it holds."""
    if request.path.startswith("/auth/"):
        return auth_error(422, "validation_failed", f"invalid {QUOTED}")
    return api_error(
        400, "23514", f"refused {QUOTED}", details=f"Failing row contains ({ROW}, {EMAIL})", hint=QUOTED
    )


def unknown(request: web.Request) -> web.StreamResponse:
    """A refusal without a code that anybody knows."""
    if request.path.startswith("/auth/"):
        return auth_error(400, "brand_new", f"odd {QUOTED}")
    return api_error(409, "23505", f"duplicate {QUOTED}", details=f"Key (phone)=({PHONE}) {ROW} exists")


def misfit(_: web.Request) -> web.StreamResponse:
    """JSON of another shape, with secrets as values."""
    return ok(
        [{"id": ROW, "number": PHONE, "created_at": EMAIL, "access_token": ACCESS, "user": {"email": EMAIL}}]
    )


def garbage(_: web.Request) -> web.StreamResponse:
    return web.Response(text=f"<html>{QUOTED} {ROW} {PASSWORD}", status=200)


def broken(_: web.Request) -> web.StreamResponse:
    return web.Response(text=f"<html>{QUOTED} {ROW}", status=502)


def odd_id(_: web.Request) -> web.StreamResponse:
    """A refusal with a request id that is none."""
    return ok({"message": "no"}, 404, **{"sb-request-id": f"{EMAIL} {ROW}"})


def operations(jt: JamesTronic, admin: JamesTronic) -> dict[str, Callable[[], Awaitable[object]]]:
    """Each operation, with secrets in its arguments."""
    t, auth = jt.tickets, jt.auth
    where = {"text": SOUGHT, "technician": PROFILE}

    async def walk(query: Any) -> list[object]:
        return [one async for one in query]

    return {
        "auth.sign_up": lambda: auth.sign_up(email=EMAIL, password=PASSWORD, full_name=ROW),
        "auth.send_code": lambda: auth.send_code(email=EMAIL),
        "auth.send_code by text": lambda: auth.send_code(phone=PHONE),
        "auth.verify_code": lambda: auth.verify_code(CODE, phone=PHONE),
        "auth.verify_link": lambda: auth.verify_link(CODE, purpose="recovery"),
        "auth.exchange_code": lambda: auth.exchange_code(CODE, verifier=CODE),
        "auth.send_password_reset": lambda: auth.send_password_reset(EMAIL),
        "auth.change_password": lambda: auth.change_password(PASSWORD),
        "auth.reload_me": auth.reload_me,
        "auth.renew": lambda: _and_forget(auth.renew(ACCESS)),
        "auth.factors.list": auth.factors.list,
        "auth.factors.enrol": lambda: auth.factors.enrol("phone"),
        "auth.factors.verify": lambda: auth.factors.verify(TICKET, CODE),
        "auth.factors.unenrol": lambda: auth.factors.unenrol(TICKET),
        "tickets.list": lambda: t.list(**where),  # type: ignore[arg-type]
        "tickets.query": lambda: walk(t.query(limit=1, **where)),  # type: ignore[arg-type]
        "tickets.count": lambda: t.query(**where).count(),  # type: ignore[arg-type]
        "tickets.fetch_all": lambda: t.fetch_all(**where),  # type: ignore[arg-type]
        "tickets.changes": t.changes,
        "tickets.digest": t.digest,
        "tickets.get": lambda: t.get(TICKET),
        "tickets.get_many": lambda: t.get_many([TICKET]),
        "tickets.create": lambda: t.create(title=ROW, description=QUOTED, pickup_address=ROW),
        "tickets.update": lambda: t.update(TICKET, description=QUOTED),
        "tickets.assign": lambda: t.assign(TICKET, PROFILE, expected_version=1),
        "tickets.set_status": lambda: t.set_status(TICKET, SOUGHT),
        "notes.list": lambda: jt.notes.list(TICKET),
        "notes.query": lambda: walk(jt.notes.query(limit=1)),
        "notes.create": lambda: jt.notes.create(TICKET, body=ROW),
        "notes.update": lambda: jt.notes.update(TICKET, body=ROW),
        "notes.delete": lambda: jt.notes.delete(TICKET),
        "profiles.get": lambda: jt.profiles.get(PROFILE),
        "profiles.list": lambda: jt.profiles.list(role=SOUGHT),
        "profiles.query": lambda: walk(jt.profiles.query(limit=1)),
        # What `table` and `rpc` answer is the program's own JSON: nothing of ours prints it.
        "table.select": lambda: _and_forget(jt.table("parts").where("mail", "eq", EMAIL).where("phone", "in", [PHONE]).select()),
        "table.count": lambda: jt.table("parts").where("note", "like", SOUGHT).count(),
        "table.insert": lambda: _and_forget(jt.table("parts").insert({"note": ROW, "mail": EMAIL})),
        "table.update": lambda: _and_forget(jt.table("parts").where("mail", "eq", EMAIL).update({"note": ROW})),
        "rpc": lambda: _and_forget(jt.rpc("f", {"mail": EMAIL, "note": ROW}, idempotent=True)),
        "admin.create_user": lambda: admin.admin.create_user(email=EMAIL, role=Role.STAFF, password=PASSWORD, full_name=ROW),
        "admin.invite_user": lambda: admin.admin.invite_user(email=EMAIL, role=Role.STAFF),
        "admin.list_users": admin.admin.list_users,
        "admin.set_role": lambda: admin.admin.set_role(USER, Role.STAFF),
        "admin.set_active": lambda: admin.admin.set_active(USER, is_active=False),
        "admin.delete_user": lambda: admin.admin.delete_user(USER),
        "auth.sign_out": lambda: auth.sign_out("others"),
    }  # fmt: skip


async def _and_forget(answer: Awaitable[object]) -> None:
    await answer


BEHAVIOURS: dict[str, Callable[[web.Request], web.StreamResponse]] = {
    "good": rows,
    "refused": refused,
    "unknown": unknown,
    "misfit": misfit,
    "garbage": garbage,
    "broken": broken,
    "odd id": odd_id,
}


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as running:
        yield running


def behave(service: Service, answer: Callable[[web.Request], Any]) -> None:
    """Answer everything so, from now on."""

    async def handle(request: web.Request) -> web.StreamResponse:
        made = answer(request)
        return made if isinstance(made, web.StreamResponse) else await made

    class Always(dict[str, Any]):
        def get(self, route: str, default: object = None) -> Any:
            del route, default
            return [lambda: handle]

    service.scripts = Always()


async def sign_in(service: Service, jt: JamesTronic) -> None:
    behave(service, rows)
    await jt.auth.sign_in(email=EMAIL, password=PASSWORD)


@pytest.mark.parametrize("behaviour", [*BEHAVIOURS, "hang_up", "never"])
async def test_no_secret_is_told(
    service: Service, behaviour: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    exporter, reader = providers()
    exporter.clear()
    found = Found()
    released = asyncio.Event()
    answer: Any = {**BEHAVIOURS, "hang_up": hang_up, "never": never(released)}[behaviour]
    file = tmp_path / "session.json"
    options: dict[str, Any] = {
        "session_store": FileSessionStore(file),
        "timeout": 0.1 if behaviour == "never" else 10.0,
    }
    async with (
        client(service, key=ANON, **options) as jt,
        client(service, key=SERVICE, timeout=options["timeout"]) as admin,
    ):
        changes = jt.auth.changes()
        await asyncio.wait_for(sign_in(service, jt), 10)
        for name, call in operations(jt, admin).items():
            if not jt.auth.is_signed_in:
                await sign_in(service, jt)
            behave(service, answer)
            try:
                found.saw(name, await call())
            except JamesTronicError as error:
                found.caught(name, error)
        for what, held in {
            "client": jt, "service client": admin, "settings": jt.settings, "auth": jt.auth, "me": jt.auth._me,
            "session": jt.auth._session, "policy": jt._policy, "wire": jt._wire.tokens, "admin's tokens": admin.admin._wire.tokens,
            "oauth": jt.auth.begin_oauth("google", parameters={"login_hint": EMAIL}).verifier[:0],
        }.items():  # fmt: skip
            found.saw(what, held)
        await changes.aclose()
        async for change in changes:
            found.saw("an auth change", change)
    released.set()
    for record in caplog.records:
        found.add(
            f"log {record.name} {record.levelname}",
            record.getMessage() + repr(record.args) + repr(vars(record).get("extra")),
        )
        if record.exc_info and record.exc_info[1]:
            found.add(
                f"traceback in log {record.name}", "".join(traceback.format_exception(record.exc_info[1]))
            )
    spans = exporter.get_finished_spans()
    assert len({span.name for span in spans}) > 40
    for span in spans:
        found.add(f"span {span.name}", span.to_json())
    metrics = reader.get_metrics_data()
    assert metrics is not None
    found.add("metrics", metrics.to_json())
    if file.exists():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        kept = file.read_text()
        # A session is what the file is for; nothing else of the person may be in it.
        found.add("the session file", kept.replace(ACCESS, "").replace(REFRESH, ""))
        assert set(json.loads(kept)) == {
            "project",
            "user_id",
            "access_token",
            "refresh_token",
            "lifetime",
            "ends_wall",
        }
    assert found.leaks() == []
    assert (behaviour == "good") == (found.errors == [])
    assert behaviour == "good" or len(found.errors) > 20
    assert any(record.name.startswith("jamestronic_sdk") for record in caplog.records)


async def test_the_search_finds_what_is_there() -> None:
    """The net has no hole: each secret is found wherever it is planted."""
    for secret in PLANTED.values():
        found = Found()
        found.caught("x", ValueError(secret))
        assert len(found.leaks()) >= 4


async def test_the_libraries_below_say_nothing_of_our_requests(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """But they still speak for the program's own requests."""
    caplog.set_level(logging.DEBUG)
    behave(service, rows)
    async with client(service, key=SERVICE) as jt:
        await jt.tickets.list(text=SOUGHT)
        below = {"httpx", "httpcore", "hpack", "websockets", "realtime"}
        assert [one.name for one in caplog.records if one.name.partition(".")[0] in below] == []
        (told,) = [one for one in caplog.records if one.name == "jamestronic_sdk.http"]
        assert told.getMessage() == "tickets.list: GET /rest/v1/tickets answered 200"
        await jt._raw.table("parts").select("*").execute()
        assert {"httpx", "httpcore.http11"} <= {one.name for one in caplog.records}


async def test_a_live_store_tells_no_secret(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Also the address of the socket, which holds the key, and what is sent over it."""
    caplog.set_level(logging.DEBUG)
    found = Found()

    async def realtime(request: web.Request) -> web.StreamResponse:
        if "/realtime/" not in request.path:
            return rows(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            frame = json.loads(message.data)
            await socket.send_json(
                {**frame, "event": "phx_reply", "payload": {"status": "ok", "response": {}}}
            )
            await socket.send_json({**frame, "event": "odd", "payload": {"row": ROW, "mail": EMAIL}})
        return socket

    behave(service, realtime)
    async with client(service, key=ANON) as jt:
        await jt.auth.sign_in(email=EMAIL, password=PASSWORD)
        async with jt.ticket_store() as store:
            async with asyncio.timeout(10):
                while not any("/realtime/" in one.path for one in service.requests):  # noqa: ASYNC110 - the server's
                    await asyncio.sleep(0.01)
            await store.refresh()
            found.saw("store", store)
            found.saw("board", store.tickets)
            found.saw("metrics", store.metrics)
            found.saw("view", store.view)
    for record in caplog.records:
        found.add(f"log {record.name} {record.levelname}", record.getMessage() + repr(record.args))
    assert found.leaks() == []


def test_the_blocking_face_prints_no_secret() -> None:
    found = Found()
    jt = blocking.JamesTronic("http://127.0.0.1:9", ANON, env_file=None)
    found.saw("client", jt)
    for part in (jt.auth, jt.tickets, jt.notes, jt.admin, jt.settings):
        found.saw(type(part).__name__, part)
    assert found.leaks() == []
