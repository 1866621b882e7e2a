"""Session stores, resuming, and the stream of changes."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import keyring
import pytest
from client_support import (
    SECRET,
    ManualClock,
    Service,
    api_error,
    auth_error,
    client,
    hang_up,
    ok,
    profile,
    serving,
    session,
    signed_in,
    ticket,
)
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from typing_extensions import override

from jamestronic_sdk import (
    AuthChangeKind,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    FileSessionStore,
    InactiveProfileError,
    InvalidInputError,
    KeyringSessionStore,
    NotSignedInError,
    PermissionDeniedError,
    SessionExpiredError,
    SessionStore,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

TOKEN = "POST /auth/v1/token"
PROFILES = "GET /rest/v1/profiles"
TICKETS = "GET /rest/v1/tickets"


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as running:
        running.script(TICKETS, lambda: ok([ticket()]))
        yield running


@pytest.fixture
def store(tmp_path: Path) -> FileSessionStore:
    return FileSessionStore(tmp_path / "folder" / "session")


class BrokenStore:
    """A guest that fails at everything."""

    async def load(self) -> str | None:
        raise OSError

    async def save(self, session: str) -> None:
        del session
        raise OSError

    async def clear(self) -> None:
        raise OSError


async def test_a_file_is_private_and_replaced_whole(tmp_path: Path, store: FileSessionStore) -> None:
    assert isinstance(store, SessionStore)
    assert await store.load() is None
    await store.clear()
    await store.save("one")
    await store.save("two")
    assert await store.load() == "two"
    file = tmp_path / "folder" / "session"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [one.name for one in file.parent.iterdir()] == ["session"]
    await store.clear()
    assert await store.load() is None


async def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, store: FileSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        await store.save("new")
    assert await store.load() == "old"
    assert [one.name for one in (tmp_path / "folder").iterdir()] == ["session"]


async def test_the_next_run_resumes(service: Service, store: FileSessionStore) -> None:
    async with signed_in(service, session_store=store):
        pass
    service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
    async with client(service, session_store=store) as jt:
        me = await jt.auth.resume()
        assert me is not None
        assert jt.auth.me == me
        assert await jt.auth.access_token() == "access-2"
    (sent,) = service.seen(TOKEN)
    assert sent.body == {"refresh_token": "refresh-1"}
    assert json.loads(str(await store.load()))["refresh_token"] == "refresh-2"


async def test_each_renewal_is_stored(service: Service, store: FileSessionStore) -> None:
    clock = ManualClock()
    async with signed_in(service, session_store=store, clock=clock) as jt:
        service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
        clock.time += 4000
        await jt.auth.access_token()
        assert json.loads(str(await store.load()))["refresh_token"] == "refresh-2"
        await jt.auth.sign_out()
        assert await store.load() is None


async def test_nothing_to_resume(service: Service, store: FileSessionStore) -> None:
    async with client(service) as jt:
        assert await jt.auth.resume() is None
    for text in ("", "not json", "{}", "[]", json.dumps({"project": "https://elsewhere.test"})):
        await store.save(text)
        async with client(service, session_store=store) as jt:
            assert await jt.auth.resume() is None
            assert not jt.auth.is_signed_in
    assert service.requests == []


async def test_a_session_of_another_project_is_not_sent_anywhere(
    service: Service, store: FileSessionStore
) -> None:
    async with signed_in(service, session_store=store):
        pass
    async with serving() as other, client(other, session_store=store) as jt:
        assert await jt.auth.resume() is None
        assert other.requests == []


async def test_a_session_that_ended_is_forgotten(service: Service, store: FileSessionStore) -> None:
    async with signed_in(service, session_store=store):
        pass
    service.script(TOKEN, lambda: auth_error(400, "refresh_token_not_found"))
    async with client(service, session_store=store) as jt:
        with pytest.raises(SessionExpiredError) as caught:
            await jt.auth.resume()
        assert caught.value.code == "refresh_token_not_found"
    assert await store.load() is None


async def test_an_outage_keeps_what_is_stored(service: Service, store: FileSessionStore) -> None:
    async with signed_in(service, session_store=store):
        pass
    before = await store.load()
    service.script(TOKEN, lambda: hang_up)
    async with client(service, session_store=store) as jt:
        with pytest.raises(ConnectionFailedError):
            await jt.auth.resume()
    assert await store.load() == before


async def test_a_deactivated_person_is_not_resumed(service: Service, store: FileSessionStore) -> None:
    async with signed_in(service, session_store=store):
        pass
    service.script(PROFILES, lambda: ok([profile(is_active=False)]))
    async with client(service, session_store=store) as jt:
        with pytest.raises(InactiveProfileError):
            await jt.auth.resume()
        assert not jt.auth.is_signed_in
    assert await store.load() is None


async def test_a_broken_store_costs_nothing_but_the_next_start(service: Service) -> None:
    async with signed_in(service, session_store=BrokenStore()) as jt:
        assert jt.auth.is_signed_in
        await jt.auth.sign_out()
        with pytest.raises(ConfigurationError, match="session_store"):
            await jt.auth.resume()


async def test_the_stream_of_changes(service: Service) -> None:
    clock = ManualClock()
    async with client(service, clock=clock) as jt, jt.auth.changes() as changes:
        me = await jt.auth.sign_in(email="ada@example.test", password="x")
        service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
        clock.time += 4000
        await jt.auth.access_token()
        await jt.auth.reload_me()
        service.script(TOKEN, lambda: auth_error(400, "session_expired"))
        clock.time += 4000
        with pytest.raises(SessionExpiredError):
            await jt.auth.access_token()
        await changes.aclose()
        seen = [change async for change in changes]
    assert [change.kind for change in seen] == [
        AuthChangeKind.SIGNED_IN,
        AuthChangeKind.TOKEN_REFRESHED,
        AuthChangeKind.PROFILE_RELOADED,
        AuthChangeKind.SIGNED_OUT,
    ]
    assert [change.me for change in seen] == [me, me, me, None]
    assert isinstance(seen[-1].reason, SessionExpiredError)


async def test_a_reader_waits_and_may_be_cancelled(service: Service) -> None:
    async with client(service) as jt, jt.auth.changes() as changes:
        async with asyncio.TaskGroup() as group:
            lost = group.create_task(anext(changes))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            lost.cancel()
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(anext(changes))  # type: ignore[arg-type]
            await jt.auth.sign_in(email="ada@example.test", password="x")
        assert reader.result().kind is AuthChangeKind.SIGNED_IN


async def test_a_slow_reader_keeps_the_newest(service: Service) -> None:
    async with signed_in(service) as jt:
        changes = jt.auth.changes()
        for _ in range(100):
            await jt.auth.reload_me()
        await jt.auth.sign_out()
        await changes.aclose()
        seen = [change async for change in changes]
    assert len(seen) == 64
    assert seen[-1].kind is AuthChangeKind.SIGNED_OUT


async def test_sign_up(service: Service) -> None:
    route = "POST /auth/v1/signup"
    service.script(route, lambda: ok(session()))
    async with client(service) as jt:
        me = await jt.auth.sign_up(email="new@example.test", password="long enough", full_name="New")
        assert me is not None
        assert service.seen(route)[0].body["data"] == {"full_name": "New"}
        await jt.auth.sign_out()
        service.script(route, lambda: ok(session()["user"]))
        assert await jt.auth.sign_up(email="new@example.test", password="long enough") is None
        assert not jt.auth.is_signed_in
        for answer, expected in (
            (lambda: auth_error(422, "user_already_exists"), ConflictError),
            (lambda: auth_error(422, "signup_disabled"), PermissionDeniedError),
            (lambda: auth_error(400, "validation_failed"), BadRequestError),
        ):
            service.script(route, answer)
            with pytest.raises(expected):
                await jt.auth.sign_up(email="new@example.test", password="x")
        with pytest.raises(InvalidInputError):
            await jt.auth.sign_up(email="", password="x")


async def test_change_password(service: Service) -> None:
    route = "PUT /auth/v1/user"
    service.script(route, lambda: ok(session()["user"]))
    async with signed_in(service) as jt:
        await jt.auth.change_password("another one")
        (sent,) = service.seen(route)
        assert sent.body["password"] == "another one"
        assert sent.headers["authorization"] == "Bearer access-1"
        service.script(route, lambda: auth_error(422, "same_password"))
        with pytest.raises(BadRequestError, match="another password"):
            await jt.auth.change_password("another one")
        with pytest.raises(InvalidInputError):
            await jt.auth.change_password("")
        await jt.auth.sign_out()
        with pytest.raises(NotSignedInError):
            await jt.auth.change_password("x")


async def test_reads_after_a_resume_carry_the_new_token(service: Service, store: FileSessionStore) -> None:
    async with signed_in(service, session_store=store):
        pass
    service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
    service.script(TICKETS, lambda: api_error(500, "57014"), lambda: ok([ticket()]))
    async with client(service, session_store=store) as jt:
        await jt.auth.resume()
        assert len(await jt.tickets.list()) == 1
    assert {one.headers["authorization"] for one in service.seen(TICKETS)} == {"Bearer access-2"}


class _Memory(KeyringBackend):
    """A keyring for tests."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}

    @override
    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    @override
    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    @override
    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


@contextmanager
def keyring_is(backend: KeyringBackend) -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    try:
        yield
    finally:
        keyring.set_keyring(before)


async def test_the_systems_keyring() -> None:
    store = KeyringSessionStore("ada", service="shop")
    assert isinstance(store, SessionStore)
    with keyring_is(_Memory()):
        assert await store.load() is None
        await store.clear()
        await store.save(SECRET)
        await store.save(SECRET + "2")
        assert await store.load() == SECRET + "2"
        assert await KeyringSessionStore("grace", service="shop").load() is None
        assert SECRET not in repr(store)
        await store.clear()
        assert await store.load() is None


async def test_a_keyring_that_is_not_there() -> None:
    with keyring_is(NoKeyring()):
        for call in (
            lambda store: store.load(),
            lambda store: store.save(SECRET),
            lambda store: store.clear(),
        ):
            with pytest.raises(ConfigurationError, match="FileSessionStore") as caught:
                await call(KeyringSessionStore())
            assert SECRET not in str(caught.value)


async def test_a_keyring_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring.errors", None)
    with pytest.raises(ConfigurationError, match=r"jamestronic_sdk\[keyring\]"):
        await KeyringSessionStore().load()
