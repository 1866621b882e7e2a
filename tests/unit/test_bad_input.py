"""Every argument of every public method, given what it must not take: a typed error, and nothing is sent.

The methods are found by introspection; ``KINDS`` says by an argument's name what it takes. A new method with
a new argument fails here until there is a row for it.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
import pytest
from client_support import (
    ANON_KEY,
    FAST,
    SERVICE_KEY,
    TICKET,
    Service,
    client,
    ok,
    seeded,
    serving,
    signed_in,
    ticket,
)
from pydantic import BaseModel, SecretStr

import jamestronic_sdk
from jamestronic_sdk import (
    FileSessionStore,
    JamesTronic,
    JamesTronicError,
    KeyringSessionStore,
    NewNote,
    NewTicket,
    RetryPolicy,
    Settings,
    StoreStatus,
    Ticket,
    TicketFilters,
    TicketPatch,
    blocking,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

MEGABYTE = "x" * 2**20
NUL, SURROGATE = "a\x00b", "a\ud800b"
SQL = "'; drop table public.tickets; --"
NAIVE = datetime(2026, 11, 1)  # noqa: DTZ001 - that is what is refused
OPERATORS = "eq.1,or=(id.not.is.null)"


@dataclass(frozen=True)
class Kind:
    """What an argument takes, by example, and what it must refuse. None is bad where the type says so."""

    good: Any
    bad: tuple[Any, ...]


def text(good: Any = "x", *more: Any, may_be_blank: bool = False) -> Kind:
    blank: tuple[str, ...] = () if may_be_blank else ("", " \t\n")
    return Kind(
        good, (5, 1.5, True, b"x", ["x"], {"x": 1}, object(), *blank, NUL, SURROGATE, MEGABYTE, *more)
    )


def number(low: int, high: int, good: int) -> Kind:
    return Kind(good, (True, "1", 1.5, math.nan, [], b"1", low - 1, high + 1, 10**30))


def one_of(good: str) -> Kind:
    return Kind(good, (5, [], {}, "", "no such", good.upper(), SQL, NUL, SURROGATE, MEGABYTE, object()))


def row(good: Any = TICKET) -> Kind:
    bad = (5, True, b"x", [], {}, object(), "", "no id", TICKET + "0", f"eq.{TICKET}", f"{TICKET},{TICKET}")
    return Kind(good, (*bad, SQL, OPERATORS, NUL, SURROGATE, MEGABYTE))


def mapping(good: Any) -> Kind:
    bad = (5, "x", b"x", ["x"], object(), {"x": object()}, {"x": math.nan}, {"x": {1, 2}}, {"x": SURROGATE})
    return Kind(good, (*bad, {(1, 2): 3}, {"x": b"x"}, {"x": NUL}, {NUL: 1}))


def several(of: Kind) -> Kind:
    return Kind([of.good], (5, True, object(), *([one] for one in of.bad)))


FLAG: Final = Kind(True, (0, 1, "yes", "false", [], object()))
MOMENT: Final = Kind(
    datetime(2026, 11, 1, tzinfo=UTC),
    (5, "2026-11-01", date(2026, 11, 1), NAIVE, [], object()),
)
SECONDS: Final = Kind(1.0, (True, "1", 0, -1, math.nan, math.inf, [], object()))
WAIT: Final = Kind(0, (True, "1", -1, math.nan, math.inf, [], object()))
RETRIES: Final = Kind(1, (True, "1", 1.5, -1, 11, math.nan, [], object()))
CALLBACK: Final = Kind(print, (5, "print", [], object()))
VERSION: Final = number(0, 2**63 - 1, 7)
LIMIT: Final = number(1, 1000, 5)
MANY: Final = number(1, 2**63 - 1, 5)
WORDS: Final = Kind(
    ["open"], (5, True, object(), b"x", [5], [""], [NUL], [SURROGATE], [MEGABYTE], "", NUL, MEGABYTE)
)


class Model(BaseModel):
    id: int = 0


A_TICKET: Final = Ticket.model_validate(ticket())

KINDS: Final[dict[str, Kind]] = {
    "after": Kind(None, (5, TICKET, A_TICKET, {}, object())),
    "arguments": mapping({"x": 1}),
    "author": row(),
    "background_delay": SECONDS,
    "body": text(),
    "callback": CALLBACK,
    "challenge": Kind(None, (5, TICKET, {}, object())),
    "code": text("123456"),
    "column": text("id", "a b", "id,name", "a.b", "a(b)", 'a"b', "ä", SQL, OPERATORS),
    "columns": text("id"),
    "create_account": FLAG,
    "cursor": text("1:2:"),
    "customer": row(),
    "descending": FLAG,
    "email": text("ada@example.test"),
    "env_file": Kind(None, (5, 1.5, [], object(), NUL)),
    "expected_version": VERSION,
    "factor": row(),
    "full_name": text("Ada", may_be_blank=True),
    "function": text("f", "a b", "f()", "a.b", SQL, OPERATORS, "../auth"),
    "idempotency_key": row(),
    "idempotent": FLAG,
    "initial": FLAG,
    "interval": WAIT,
    "is_active": FLAG,
    "is_internal": FLAG,
    "issuer": text(),
    "key": Kind(ANON_KEY, (5, b"x", [], "", " ", "x", SQL, NUL, SURROGATE, MEGABYTE, f"{ANON_KEY}\x00")),
    "limit": LIMIT,
    "live_interval": SECONDS,
    "model": Kind(Model, (5, "x", [], object(), int, Model())),
    "name": text("parts"),
    "note": row(),
    "operator": one_of("eq"),
    "or_unassigned": FLAG,
    "order": one_of("newest"),
    "page": number(1, 1_000_000, 1),
    "page_size": LIMIT,
    "parameters": Kind({"x": "y"}, (5, "x", ["x"], object(), {"": "y"}, {"x": 5}, {"x": NUL}, {5: "y"}, {"x": MEGABYTE})),
    "password": text("correct horse"),
    "path": Kind("session.json", (5, 1.5, [], object(), "", NUL)),
    "phone": text("+15550100"),
    "poll_interval": SECONDS,
    "predicate": CALLBACK,
    "priority": WORDS,
    "profile": row(),
    "provider": text("google"),
    "purpose": one_of("recovery"),
    "read_timeout": SECONDS,
    "renew": FLAG,
    "ready_timeout": SECONDS,
    "redirect_to": text("https://app.example.test/"),
    "retries": RETRIES,
    "role": one_of("admin"),
    "rows": LIMIT,
    "scheduled_at": MOMENT,
    "scope": one_of("others"),
    "scopes": Kind(["a"], (5, "a", object(), [5], [""], [NUL], [MEGABYTE])),
    "service": FLAG,
    "session": text(),
    "session_store": Kind(None, (5, "file", [], object(), FileSessionStore)),
    "settings": Kind(None, (5, "x", {}, object())),
    "size": LIMIT,
    "stale": text("token"),
    "status": text("open"),
    "technician": row(),
    "text": text(),
    "ticket": row(),
    "ticket_model": Kind(None, (5, "x", int, Model, object(), Ticket.model_validate(ticket()))),
    "tickets": several(row()),
    "timeout": SECONDS,
    "token_hash": text(),
    "transport": one_of("broadcast"),
    "transporter": row(),
    "unassigned": FLAG,
    "url": Kind("http://127.0.0.1:9", (5, b"x", [], "", " ", "x", "ftp://a", "http://", "http://a/b", "http://a b", SQL, NUL, f"http://a{NUL}", "http://" + MEGABYTE)),
    "user_id": row(),
    "version": VERSION,
    "value": Kind("x", (None, b"x", {}, object(), math.nan, math.inf, NUL, SURROGATE, MEGABYTE)),
    "values": mapping({"x": 1}),
    "verifier": text(),
    "view": Kind(None, (5, "admin", {}, object())),
    **{f"{what}_{side}": MOMENT for what in ("created", "updated", "scheduled") for side in ("after", "before")},
}  # fmt: skip

# Where one name means another thing.
OWN: Final[dict[str, Kind]] = {
    "auth.factors.enrol.name": text("phone"),
    "auth.factors.verify.code": text("123456"),
    "KeyringSessionStore.name": text("session"),
    "KeyringSessionStore.service": text("jamestronic"),
    "RetryPolicy.base": Kind(0.1, (True, "1", 0, -1, math.nan, math.inf, 10**6, [], None)),
    "RetryPolicy.cap": Kind(1.0, (True, "1", 0, -1, math.nan, math.inf, [], None)),
    "RetryPolicy.longest_wait": Kind(1.0, (True, "1", -1, math.nan, math.inf, [], None)),
    "Settings.key": Kind(SecretStr(ANON_KEY), (5, None, [], ANON_KEY, SecretStr(""), SecretStr("x"), SecretStr(NUL))),
    "jt.ticket_store.retries": RETRIES,
    "jt.table.name": text("parts", "a b", "a.b", "a/b", "../auth", "ä", SQL, OPERATORS),
    "notes.create.note": Kind(NewNote(body="x"), (5, "x", {"body": "x"}, object(), NewTicket(title="x"))),
    "notes.query.limit": MANY,
    "profiles.list.role": text("admin"),
    "profiles.query.limit": MANY,
    "profiles.query.role": text("admin"),
    "store.refresh.timeout": WAIT,
    "store.settled.timeout": WAIT,
    "store.wait_for.timeout": WAIT,
    "store.events.limit": number(1, 2**63 - 1, 5),
    "table.insert.rows": Kind([{"x": 1}], (5, None, "x", [], object(), [5], ["x"], [[]], [{"x": object()}], [{"x": NUL}], {"x": math.nan}, {"x": NUL})),
    "tickets.create.ticket": Kind(NewTicket(title="x"), (5, "x", {"title": "x"}, object(), NewNote(body="x"))),
    "tickets.query.limit": MANY,
    "tickets.set_status.status": text("open"),
    "commands.update.patch": Kind(TicketPatch(title="x"), (5, "x", {"title": "x"}, object(), NewNote(body="x"))),
    "tickets.update.patch": Kind(TicketPatch(title="x"), (5, "x", {"title": "x"}, object(), NewNote(body="x"))),
    **{
        f"tickets.{method}.{who}": row()
        for method in ("list", "query", "fetch_all")
        for who in ("technician", "customer", "transporter")
    },
    **{f"tickets.{method}.status": WORDS for method in ("list", "query", "fetch_all")},
}  # fmt: skip

# The fields behind ``**fields`` and ``**filters``.
FIELDS: Final[dict[str, dict[str, Kind]]] = {
    **{
        f"tickets.{method}": {name: OWN.get(f"tickets.{method}.{name}", KINDS[name]) for name in TicketFilters.__annotations__}
        for method in ("list", "query", "fetch_all")
    },
    "tickets.create": {},
    "tickets.update": {},
    "notes.create": {"body": text(), "is_internal": FLAG},
}  # fmt: skip
_TEXTS: Final = {"title": 200, "description": 10_000, "pickup_address": 500, "delivery_address": 500} | {
    f"appliance_{what}": 100 for what in ("type", "brand", "model", "serial")
}
FIELDS["commands.update"] = FIELDS["tickets.update"]
for _method, _model in (("tickets.create", NewTicket), ("tickets.update", TicketPatch)):
    for _name in _model.model_fields:
        if _name in _TEXTS:
            FIELDS[_method][_name] = Kind(
                "x", (5, True, ["x"], {}, NUL, SURROGATE, MEGABYTE, "x" * (_TEXTS[_name] + 1))
            )
        elif _name == "priority":
            FIELDS[_method][_name] = Kind("high", (5, "no such", "", [], {}, None, MEGABYTE))
        elif _name == "scheduled_at":
            FIELDS[_method][_name] = Kind(datetime(2026, 11, 1, tzinfo=UTC), ("soon", [], {}, NAIVE))
        else:
            FIELDS[_method][_name] = row()

# What must be there for the call to make sense.
WITH: Final[dict[str, dict[str, Any]]] = {
    "auth.send_code.create_account": {"email": "ada@example.test"},
    "auth.send_code.redirect_to": {"email": "ada@example.test"},
    "auth.verify_code.code": {"email": "ada@example.test"},
    "auth.verify_code.purpose": {"email": "ada@example.test"},
    "Settings.load.service": {"key": SERVICE_KEY},
    **{f"{call}.service": {} for call in ("jt.from_env", "JamesTronic")},
    **{f"tickets.{method}.or_unassigned": {"technician": TICKET} for method in ("list", "query", "fetch_all")},
    **{f"notes.update.{name}": {"body": "x"} for name in ("note", "is_internal")},
    **{
        f"{part}.update.{name}": {"title": "x"}
        for part in ("tickets", "commands")
        for name in ("ticket", "expected_version")
    },
    "tickets.create.fields": {"title": "x"},
}  # fmt: skip

# Not arguments of a program: a clock and randomness are given by tests only.
FOR_TESTS: Final = {"clock", "rng", "self"}
# The loop's own side of things: what the store and the watchdog call, not a program.
INTERNAL: Final = {
    "auth": {"in_own_name", "keep_fresh", "replace_while_locked"},
    "changes": {"put_nowait", "end"},
    "events": {"put", "end", "take_all"},
    "redraws": {"put", "end", "add"},
    "statuses": {"put", "end"},
}
# `renew` compares what it is given with what it holds: there is no wrong value, and no right one.
HARMLESS: Final = {"auth.renew"}


def parts(jt: Any) -> dict[str, Any]:
    """The objects that a program holds, by the name that it knows them by."""
    return {
        "jt": jt,
        "auth": jt.auth,
        "auth.factors": jt.auth.factors,
        "admin": jt.admin,
        "tickets": jt.tickets,
        "query": jt.tickets.query(),
        "pages": jt.tickets.query().pages(),
        "profiles": jt.profiles,
        "notes": jt.notes,
        "table": jt.table("parts"),
        "changes": jt.auth.changes(),
    }


def methods(name: str, held: Any) -> list[tuple[str, Callable[..., Any]]]:
    """Its public methods."""
    return [
        (f"{name}.{one}", getattr(held, one))
        for one in dir(type(held))
        if not one.startswith("_")
        and one not in INTERNAL.get(name, set())
        and callable(inspect.getattr_static(type(held), one))
        | isinstance(inspect.getattr_static(type(held), one), classmethod)
    ]


def constructors() -> list[tuple[str, Callable[..., Any]]]:
    """What a program makes itself."""
    return [
        ("JamesTronic", JamesTronic),
        ("Settings", Settings),
        ("Settings.load", Settings.load),
        ("RetryPolicy", RetryPolicy),
        ("FileSessionStore", FileSessionStore),
        ("KeyringSessionStore", KeyringSessionStore),
    ]


def kinds(name: str, call: Callable[..., Any]) -> dict[str, tuple[Kind, bool, bool]]:
    """Of each argument: what it takes, whether it must be given, and whether it is positional only."""
    found: dict[str, tuple[Kind, bool, bool]] = {}
    for one in inspect.signature(call).parameters.values():
        if one.name in FOR_TESTS:
            continue
        if one.kind is one.VAR_KEYWORD:
            found.update({field: (kind, False, False) for field, kind in FIELDS[name].items()})
            continue
        kind = OWN.get(f"{name}.{one.name}") or KINDS[one.name]
        must = one.default is one.empty
        if must and "None" not in str(one.annotation) and None not in kind.bad:
            kind = Kind(kind.good, (None, *kind.bad))
        found[one.name] = (kind, must, one.kind is one.POSITIONAL_ONLY)
    return found


def bad_calls(name: str, call: Callable[..., Any]) -> list[tuple[str, list[Any], dict[str, Any]]]:
    """Calls with one bad argument each, all others good or left out."""
    table = kinds(name, call)
    made: list[tuple[str, list[Any], dict[str, Any]]] = []
    for wrong, (kind, _, _) in table.items():
        for bad in kind.bad:
            given = {other: one.good for other, (one, must, _) in table.items() if must}
            given |= WITH.get(f"{name}.{wrong}", {}) | {wrong: bad}
            given |= (
                {"title": "x"}
                if name == "tickets.create" and wrong in FIELDS[name] and wrong != "title"
                else {}
            )
            given |= {"body": "x"} if name == "notes.create" and wrong == "is_internal" else {}
            if name == "JamesTronic":
                given = {"url": "http://127.0.0.1:9", "key": ANON_KEY, **given}
                given = {"settings": bad} if wrong == "settings" else given
            positional = [
                given.pop(one) for one, (_, _, is_first) in table.items() if is_first and one in given
            ]
            made.append((f"{name}({wrong}={bad!r:.40})", positional, given))
    return made


@asynccontextmanager
async def opened(service: Service, face: str) -> AsyncIterator[list[tuple[str, Callable[..., Any]]]]:
    """Every public method of one face, on clients that are signed in."""
    if face == "async":
        async with (
            signed_in(service) as jt,
            client(service, key=SERVICE_KEY) as admin,
            jt.ticket_store(poll_interval=10_000) as store,
        ):
            # Realtime is refused here, and the read that follows must not fall into a call that is looked at.
            await store.wait_for(lambda one: one.status is StoreStatus.POLLING)
            await store.refresh()
            held = parts(jt) | {
                "admin": admin.admin,
                "store": store,
                "commands": store.commands,
                "redraws": store.changes(),
                "events": store.events(),
                "statuses": store.statuses(),
            }
            yield [one for name, of in held.items() for one in methods(name, of)] + constructors()
        return

    def make() -> Any:
        options: Any = {"retries": FAST, "timeout": 10.0, "env_file": None, "rng": seeded(1)}
        jt = blocking.JamesTronic(service.url, ANON_KEY, **options).__enter__()
        jt.auth.sign_in(email="ada@example.test", password="correct horse")
        admin = blocking.JamesTronic(service.url, SERVICE_KEY, **options).__enter__()
        store = jt.ticket_store(poll_interval=10_000).__enter__()
        store.wait_for(lambda one: one.status is StoreStatus.POLLING)
        store.refresh()
        return jt, admin, store

    jt, admin, store = await anyio.to_thread.run_sync(make)
    try:
        held = parts(jt) | {
            "admin": admin.admin,
            "store": store,
            "commands": store.commands,
            "redraws": store.changes(),
            "events": store.events(),
            "statuses": store.statuses(),
        }
        yield [one for name, of in held.items() for one in methods(name, of)]
    finally:
        await anyio.to_thread.run_sync(lambda: (store.close(), jt.close(), admin.close()))


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as running:
        running.script("GET /rest/v1/tickets", lambda: ok([ticket()]))
        yield running


async def attempt(
    face: str, call: Callable[..., Any], positional: list[Any], named: dict[str, Any]
) -> BaseException | None:
    """What a call raises."""

    def blocked() -> None:
        answer = call(*positional, **named)
        del answer

    try:
        if face == "blocking":
            async with asyncio.timeout(5):
                await anyio.to_thread.run_sync(blocked, abandon_on_cancel=True)
            return None
        answer = call(*positional, **named)
        if inspect.isawaitable(answer):
            async with asyncio.timeout(5):  # what is not refused may wait for ever
                await answer
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return error
    return None


@pytest.mark.timeout(300)
@pytest.mark.parametrize("face", ["async", "blocking"])
async def test_bad_arguments_are_refused_before_the_network(
    service: Service, face: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPABASE_URL", service.url)
    monkeypatch.setenv("SUPABASE_KEY", ANON_KEY)
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", SERVICE_KEY)
    wrong: list[str] = []
    tried = 0
    async with opened(service, face) as calls:
        for name, call in calls:
            if name in HARMLESS:
                continue
            if name in {"table.update", "table.delete"}:
                held = call.__self__.where("id", "eq", 1)  # type: ignore[attr-defined]
                call = getattr(held, name.partition(".")[2])  # noqa: PLW2901 - the same on rows that were chosen
            for label, positional, named in bad_calls(name, call):
                service.requests.clear()
                tried += 1
                error = await attempt(face, call, positional, named)
                sent = [
                    f"{one.method} {one.path}" for one in service.requests if "/realtime/" not in one.path
                ]
                is_typed = isinstance(error, JamesTronicError) and isinstance(error, ValueError)
                if sent or not is_typed:
                    wrong.append(f"{label}: {type(error).__name__ if error else 'nothing raised'} {sent}")
                elif MEGABYTE[:500] in str(error) or len(str(error)) > 1000:
                    wrong.append(f"{label}: the message quotes what it was given")
    assert not wrong, f"{len(wrong)} of {tried}:\n" + "\n".join(wrong)
    assert tried > 1000


def test_every_argument_of_every_public_method_has_a_row() -> None:
    """Also of methods that are made tomorrow: without a row, this says which is missing."""
    missing = []
    for face in (jamestronic_sdk, blocking):
        for part, cls in (
            ("jt", face.JamesTronic),
            ("auth", face.Auth),
            ("auth.factors", face.Factors),
            ("admin", face.Admin),
            ("tickets", face.Tickets),
            ("query", face.RowQuery),
            ("pages", face.RowPages),
            ("profiles", face.Profiles),
            ("notes", face.Notes),
            ("table", face.Table),
            ("changes", face.AuthChanges),
            ("store", face.TicketStore),
            ("commands", face.StoreCommands),
            ("redraws", face.ChangeStream),
            ("events", face.EventStream),
            ("statuses", face.Stream),
        ):
            for method in dir(cls):
                if method.startswith("_") or method in INTERNAL.get(part, set()):
                    continue
                member = getattr(cls, method)
                if not callable(member):
                    continue
                for one in inspect.signature(member).parameters.values():
                    name = f"{part}.{method}"
                    if one.name in FOR_TESTS:
                        continue
                    known = (
                        name in FIELDS
                        if one.kind is one.VAR_KEYWORD
                        else (f"{name}.{one.name}" in OWN or one.name in KINDS)
                    )
                    if not known:
                        missing.append(f"{face.__name__}: {name}({one.name})")
    assert missing == []


def test_the_objects_of_the_table_are_all_that_a_program_can_hold() -> None:
    """Every exported class with public methods is in the table, or holds data only."""
    data = {
        "Account", "AuthChange", "CodeSent", "Challenge", "Enrolment", "Factor", "Me", "Note", "OAuthRequest",
        "Profile", "Ticket", "NewNote", "NewTicket", "TicketPatch", "StatusChange", "Freshness", "Change",
        "LatencySummary", "StoreChange", "TicketAssigned", "TicketConflicted", "TicketCreated", "TicketRemoved", "TicketUnassigned", "TicketUpdated",
        # Read-only or without arguments; `View` is made of UUIDs that the store compares.
        "TicketBoard", "StoreMetrics", "Subscription", "View", "SessionStore", "TicketFilters", "TicketEvent",
        "EventCallback", "RemovedTicket", "TicketChanges", "TicketDigest",
    }  # fmt: skip
    tested = {
        "Admin", "Auth", "AuthChanges", "ChangeStream", "EventStream", "Factors", "FileSessionStore", "JamesTronic",
        "KeyringSessionStore", "Notes", "Profiles", "RetryPolicy", "RowPages", "RowQuery", "Settings", "StoreCommands",
        "Stream", "Table", "TicketStore", "Tickets",
    }  # fmt: skip
    classes = {
        name
        for name in jamestronic_sdk.__all__
        if not (isinstance(getattr(jamestronic_sdk, name), type) and issubclass(getattr(jamestronic_sdk, name), Exception))
        and not hasattr(getattr(jamestronic_sdk, name), "__members__")
    }  # fmt: skip
    new = classes - data - tested
    assert new == set()


@pytest.mark.parametrize("store", ["file", "keyring"])
async def test_a_session_store_takes_text_only(store: str, tmp_path: Path) -> None:
    kept: Any = FileSessionStore(tmp_path / "s.json") if store == "file" else KeyringSessionStore()
    for bad in (5, None, b"x", [], object(), SURROGATE):
        with pytest.raises(JamesTronicError) as caught:
            await kept.save(bad)
        assert isinstance(caught.value, ValueError)
    assert not (tmp_path / "s.json").exists()


def test_unused_kinds_are_removed() -> None:
    """A row whose argument is gone is gone."""
    used = set()
    for face in (jamestronic_sdk, blocking):
        for name in face.__all__:
            cls = getattr(face, name)
            if not isinstance(cls, type):
                continue
            for method in ["__init__", *(one for one in dir(cls) if not one.startswith("_"))]:
                member = getattr(cls, method, None)
                if callable(member):
                    try:
                        used |= set(inspect.signature(member).parameters)
                    except ValueError:
                        continue
    used |= set(TicketFilters.__annotations__)
    assert KINDS.keys() - used == set()
