"""Where the command keeps who is signed in, and programs that share one session."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import keyring
import pytest
import pytest_asyncio
from client_support import (
    ManualClock,
    Service,
    api_error,
    auth_error,
    client,
    ok,
    serving,
    session,
    signed_in,
)
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from typing_extensions import override

from jamestronic_sdk import ConfigurationError, FileSessionStore, SessionExpiredError
from jamestronic_sdk.cli._kept import KeptSession

TOKEN = "POST /auth/v1/token"
PROFILES = "GET /rest/v1/profiles"
SECRET = '{"access_token": "planted-7f3a"}'


class _Memory(KeyringBackend):
    priority = 1  # type: ignore[assignment]  # a property of the class there

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    @override
    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    @override
    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    @override
    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture
def ring() -> Iterator[_Memory]:
    before, memory = keyring.get_keyring(), _Memory()
    keyring.set_keyring(memory)
    yield memory
    keyring.set_keyring(before)


async def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    kept = KeptSession(tmp_path / "folder" / "a.json", "a.test")
    assert await kept.load() is None
    await kept.save(SECRET)
    assert await kept.load() == SECRET
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700
    await kept.clear()
    assert await kept.load() is None


async def test_the_keyring_is_remembered_and_the_file_holds_no_secret(tmp_path: Path, ring: _Memory) -> None:
    path = tmp_path / "a.json"
    await KeptSession(path, "a.test", keyring=True).save(SECRET)
    assert "planted" not in path.read_text()
    later = KeptSession(path, "a.test")
    assert await later.is_in_keyring()
    assert await later.load() == SECRET
    await later.save(SECRET + " ")
    assert list(ring.kept.values()) == [SECRET + " "]
    await later.clear()
    assert ring.kept == {}
    assert not path.exists()


async def test_a_login_without_the_keyring_empties_it(tmp_path: Path, ring: _Memory) -> None:
    path = tmp_path / "a.json"
    await KeptSession(path, "a.test", keyring=True).save(SECRET)
    await KeptSession(path, "a.test", keyring=False).save(SECRET)
    assert ring.kept == {}
    assert path.read_text() == SECRET


async def test_a_missing_keyring_says_so(tmp_path: Path) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(NoKeyring())
    try:
        with pytest.raises(ConfigurationError, match="keyring"):
            await KeptSession(tmp_path / "a.json", "a.test", keyring=True).save(SECRET)
    finally:
        keyring.set_keyring(before)
    assert not (tmp_path / "a.json").exists()


# -- one session, several programs -----------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def service() -> AsyncIterator[Service]:
    async with serving() as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> FileSessionStore:
    return FileSessionStore(tmp_path / "session")


async def test_a_good_token_is_taken_up_without_a_renewal(service: Service, store: FileSessionStore) -> None:
    async with signed_in(service, session_store=store):
        pass
    before = await store.load()
    async with client(service, session_store=store) as jt:
        assert await jt.auth.resume(renew=False) is not None
        assert await jt.auth.access_token() == "access-1"
    assert service.seen(TOKEN) == []
    assert await store.load() == before


async def test_a_token_about_to_end_is_renewed(service: Service, store: FileSessionStore) -> None:
    clock = ManualClock()
    async with signed_in(service, session_store=store, clock=clock):
        pass
    clock.time += 3600 - 59
    service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
    async with client(service, session_store=store, clock=clock) as jt:
        assert await jt.auth.resume(renew=False) is not None
        assert await jt.auth.access_token() == "access-2"


async def test_a_token_that_is_refused_is_renewed(service: Service, store: FileSessionStore) -> None:
    """Its keys were rotated: by the clock it is good, by the server it is not."""
    async with signed_in(service, session_store=store):
        pass
    service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
    profiles = service.scripts[PROFILES]
    service.script(PROFILES, lambda: api_error(401, "PGRST301", "JWSError"), profiles[0])
    async with client(service, session_store=store) as jt:
        assert await jt.auth.resume(renew=False) is not None
        assert await jt.auth.access_token() == "access-2"
    assert json.loads(str(await store.load()))["refresh_token"] == "refresh-2"


async def test_what_another_program_renewed_is_taken_from_the_store(
    service: Service, store: FileSessionStore
) -> None:
    """The refresh token in memory is used up by then: to present it would end both programs' session."""
    clock = ManualClock()
    async with signed_in(service, session_store=store, clock=clock) as jt:
        clock.time += 3500
        service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
        async with client(service, session_store=store, clock=clock) as other:
            await other.auth.resume()
        service.requests.clear()
        service.script(TOKEN, lambda: auth_error(400, "refresh_token_already_used"))
        clock.time += 90
        assert await jt.auth.access_token() == "access-2"
        assert service.seen(TOKEN) == []


async def test_an_old_token_of_another_program_is_renewed_with_its_successor(
    service: Service, store: FileSessionStore
) -> None:
    clock = ManualClock()
    async with signed_in(service, session_store=store, clock=clock) as jt:
        clock.time += 1000
        service.script(TOKEN, lambda: ok(session("access-2", refresh="refresh-2")))
        async with client(service, session_store=store, clock=clock) as other:
            await other.auth.resume()
        service.requests.clear()
        service.script(TOKEN, lambda: ok(session("access-3", refresh="refresh-3")))
        clock.time += 7200
        assert await jt.auth.access_token() == "access-3"
        assert [one.body for one in service.seen(TOKEN)] == [{"refresh_token": "refresh-2"}]


async def test_a_sign_out_in_another_program_ends_this_one_at_its_next_renewal(
    service: Service, store: FileSessionStore
) -> None:
    clock = ManualClock()
    async with signed_in(service, session_store=store, clock=clock) as jt:
        await store.clear()
        service.script(TOKEN, lambda: auth_error(400, "session_not_found"))
        clock.time += 3700
        with pytest.raises(SessionExpiredError):
            await jt.auth.access_token()
