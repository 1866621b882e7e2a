"""Settings: precedence, formats, and errors that name the variable and keep the value."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest
from client_support import ANON_KEY, SECRET, SERVICE_KEY, jwt
from pydantic import SecretStr

from jamestronic_sdk import ConfigurationError, JamesTronic, Settings

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("SUPABASE_URL", "SUPABASE_KEY", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_ROLE_KEY")
URL = "https://abc.supabase.co"
PUBLISHABLE = f"sb_publishable_{SECRET}"
OPAQUE_SECRET = f"sb_secret_{SECRET}"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without our variables and a working directory without a `.env`."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dotenv(folder: Path, **variables: str) -> None:
    folder.joinpath(".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))


def key_of(settings: Settings) -> str:
    return settings.key.get_secret_value()


def test_arguments_beat_environment_beats_file(monkeypatch: pytest.MonkeyPatch, clean: Path) -> None:
    dotenv(clean, SUPABASE_URL="https://file.test", SUPABASE_KEY=jwt(role="file"))
    assert Settings.load().url == "https://file.test"
    monkeypatch.setenv("SUPABASE_URL", "https://environment.test")
    monkeypatch.setenv("SUPABASE_KEY", jwt(role="environment"))
    assert Settings.load().url == "https://environment.test"
    assert key_of(Settings.load()) == jwt(role="environment")
    loaded = Settings.load("https://argument.test", ANON_KEY)
    assert (loaded.url, key_of(loaded)) == ("https://argument.test", ANON_KEY)


def test_one_argument_is_completed_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_KEY", ANON_KEY)
    assert key_of(Settings.load(URL)) == ANON_KEY


def test_key_falls_back_to_the_anon_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_ANON_KEY", jwt(role="fallback"))
    assert key_of(Settings.load(URL)) == jwt(role="fallback")
    monkeypatch.setenv("SUPABASE_KEY", ANON_KEY)
    assert key_of(Settings.load(URL)) == ANON_KEY


def test_a_source_decides_as_a_whole(monkeypatch: pytest.MonkeyPatch, clean: Path) -> None:
    """The environment's fallback name beats the file's first name."""
    dotenv(clean, SUPABASE_KEY=jwt(role="file"))
    monkeypatch.setenv("SUPABASE_ANON_KEY", ANON_KEY)
    assert key_of(Settings.load(URL)) == ANON_KEY


def test_empty_variables_count_as_not_set(monkeypatch: pytest.MonkeyPatch, clean: Path) -> None:
    dotenv(clean, SUPABASE_KEY=ANON_KEY)
    monkeypatch.setenv("SUPABASE_KEY", "")
    assert key_of(Settings.load(URL)) == ANON_KEY


def test_no_file_is_read_when_told_so(clean: Path) -> None:
    dotenv(clean, SUPABASE_URL=URL, SUPABASE_KEY=ANON_KEY)
    with pytest.raises(ConfigurationError, match="SUPABASE_URL is not set"):
        Settings.load(env_file=None)


def test_foreign_variables_in_the_file_do_no_harm(clean: Path) -> None:
    dotenv(clean, SUPABASE_URL=URL, SUPABASE_KEY=ANON_KEY, OTHER="1", SUPABASE_DB_PASSWORD="x")
    assert Settings.load().url == URL


def test_an_unreadable_file_is_named_and_not_quoted(clean: Path) -> None:
    clean.joinpath(".env").write_bytes(b"SUPABASE_URL=\xff\xfe" + SECRET.encode())
    with pytest.raises(ConfigurationError, match=r"\.env") as caught:
        Settings.load()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://abc.supabase.co", "https://abc.supabase.co"),
        ("https://abc.supabase.co/", "https://abc.supabase.co"),
        ("  https://ABC.supabase.co ", "https://abc.supabase.co"),
        ("http://127.0.0.1:54321", "http://127.0.0.1:54321"),
        ("http://[::1]:54321", "http://[::1]:54321"),
        ("http://kong:8000", "http://kong:8000"),
    ],
)
def test_good_urls(url: str, expected: str) -> None:
    assert Settings.load(url, ANON_KEY).url == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "SUPABASE_URL is empty"),
        ("   ", "SUPABASE_URL is empty"),
        ("abc.supabase.co", "scheme"),
        ("ftp://abc.supabase.co", "scheme"),
        ("ws://abc.supabase.co", "scheme"),
        (f"postgresql://postgres:{SECRET}@db.abc.supabase.co:5432/postgres", "DATABASE_URL"),
        ("https://", "host"),
        ("https:///rest/v1", "host"),
        ("https://a b.co", "host"),
        ("https://.supabase.co", "host"),
        ("https://abc.supabase.co:0", "host"),
        ("https://abc.supabase.co:99999", "not a URL"),
        ("https://[::1", "not a URL"),
        ("https://abc.supabase.co/rest/v1", "Leave out everything after the host: https://abc.supabase.co"),
        ("https://abc.supabase.co/rest/v1/", "without a path"),
        ("https://supabase.com/dashboard/project/abc", "without a path"),
        ("https://abc.supabase.co?apikey=1", "without a path"),
        ("https://abc.supabase.co/#x", "without a path"),
        (f"https://user:{SECRET}@abc.supabase.co", "user name"),
    ],
)
def test_bad_urls_name_the_variable(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(url, ANON_KEY)
    assert "SUPABASE_URL" in str(caught.value)
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", [None, 5, b"https://abc.supabase.co", ["https://abc.supabase.co"]])
def test_urls_of_other_types(url: object) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_URL"):
        Settings(url, SecretStr(ANON_KEY))  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [ANON_KEY, SERVICE_KEY, PUBLISHABLE, OPAQUE_SECRET, f"  {ANON_KEY}\n"])
def test_good_keys(key: str) -> None:
    assert key_of(Settings.load(URL, key)) == key.strip()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "  ",
        SECRET,
        "your-anon-key",
        "sb_publishable_",
        f"sb_other_{SECRET}",
        f"sb_secret_{SECRET} {SECRET}",
        f"eyJ.{SECRET}",
        f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.x",
        ANON_KEY.rsplit(".", 1)[0],
        f"Bearer {ANON_KEY}",
        f"{ANON_KEY}\x00",
    ],
)
def test_bad_keys_name_the_variable_and_keep_the_value(key: str) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_KEY") as caught:
        Settings.load(URL, key)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("service", "name"), [(False, "SUPABASE_KEY is not set"), (True, "SUPABASE_SERVICE_ROLE_KEY is not set")]
)
def test_a_missing_key_is_named(*, service: bool, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Settings.load(URL, service=service)


def test_the_service_key_has_its_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_KEY", ANON_KEY)
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", SERVICE_KEY)
    assert not Settings.load(URL).is_service
    assert Settings.load(URL, service=True).is_service
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", ANON_KEY)
    with pytest.raises(ConfigurationError, match="SUPABASE_SERVICE_ROLE_KEY is not a service key"):
        Settings.load(URL, service=True)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (ANON_KEY, False),
        (SERVICE_KEY, True),
        (PUBLISHABLE, False),
        (OPAQUE_SECRET, True),
        (jwt(role=7), False),
    ],
)
def test_which_keys_are_service_keys(key: str, *, expected: bool) -> None:
    assert Settings.load(URL, key).is_service is expected


def test_no_repr_shows_the_key() -> None:
    for key in (ANON_KEY, PUBLISHABLE, OPAQUE_SECRET):
        settings = Settings.load(URL, key)
        for text in (repr(settings), str(settings), f"{settings}", repr(JamesTronic(settings=settings))):
            assert SECRET not in text
            assert key not in text
            assert "abc.supabase.co" in text


def test_settings_pickle() -> None:
    settings = Settings.load(URL, ANON_KEY)
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own bytes


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", True])
def test_bad_timeouts(timeout: object) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        JamesTronic(URL, ANON_KEY, timeout=timeout)  # type: ignore[arg-type]


@pytest.mark.parametrize("retries", [-1, 11, True])
def test_bad_retries(retries: int) -> None:
    with pytest.raises(ConfigurationError, match="retries"):
        JamesTronic(URL, ANON_KEY, retries=retries)


def test_settings_exclude_their_parts() -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        JamesTronic(URL, settings=Settings.load(URL, ANON_KEY))


def test_from_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", URL)
    monkeypatch.setenv("SUPABASE_ANON_KEY", ANON_KEY)
    assert JamesTronic.from_env().settings.url == URL
    with pytest.raises(ConfigurationError, match="SUPABASE_SERVICE_ROLE_KEY"):
        JamesTronic.from_env(service=True)
