"""Typed settings: where the project is and which key opens it.

Promises:
    Arguments beat the environment, the environment beats ``.env`` (source by source, so an
    ``SUPABASE_ANON_KEY`` of the environment beats a ``SUPABASE_KEY`` of the file).
    What is missing or malformed fails here, with the variable's name, before any network.

Never:
    No value of a key in an error or a ``repr``.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr
from typing_extensions import override

from jamestronic_sdk._redact import mask
from jamestronic_sdk.errors import ConfigurationError

__all__ = ["Settings"]

_OPAQUE_KEY: Final = re.compile(r"sb_(publishable|secret)_[A-Za-z0-9_-]{8,}")
_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# RFC 1035: what DNS can carry.
_LONGEST_HOST: Final = 253
_DASHBOARD: Final = "Copy it from the project's settings, API, or from `jamestronic local env`."


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the project is and which key opens it; checked when made.

    Args:
        url: The project's address, scheme and host only, for example ``https://abc.supabase.co``.
        key: A publishable or secret key (``sb_publishable_...``, ``sb_secret_...``), or a legacy JWT key.

    Raises:
        ConfigurationError: One of them is missing or malformed; the message names the variable.
    """

    url: str
    """Without a trailing slash."""
    key: SecretStr

    def __post_init__(self) -> None:
        """Normalize and check."""
        object.__setattr__(self, "url", _checked_url(self.url))
        if not isinstance(cast("object", self.key), SecretStr):
            raise ConfigurationError("Settings takes the key as a SecretStr; Settings.load takes its text.")
        secret = self.key.get_secret_value()
        object.__setattr__(self, "key", SecretStr(_checked_key(secret, "SUPABASE_KEY")))

    @classmethod
    def load(
        cls,
        url: str | None = None,
        key: str | None = None,
        *,
        service: bool = False,
        env_file: str | Path | None = ".env",
    ) -> Settings:
        """Settings from arguments, the environment and a ``.env`` file, in this order of precedence.

        Args:
            url: Beats ``SUPABASE_URL``.
            key: Beats ``SUPABASE_KEY``, which beats ``SUPABASE_ANON_KEY``.
            service: Take the key from ``SUPABASE_SERVICE_ROLE_KEY`` instead, and refuse one that is not
                a service key. Such a key passes every policy: for servers and admin tools only.
            env_file: Path of the ``.env`` file, relative to the working directory; None reads none.

        Raises:
            ConfigurationError: A value is missing or malformed.
        """
        if not isinstance(cast("object", service), bool):
            raise ConfigurationError("service must be True or False.")
        if not _is_path(env_file):
            raise ConfigurationError("env_file must be a path or None.")
        names = ("SUPABASE_SERVICE_ROLE_KEY",) if service else ("SUPABASE_KEY", "SUPABASE_ANON_KEY")
        if url is None or key is None:
            # pydantic-settings costs half of the package's import time, and arguments don't need it.
            from jamestronic_sdk._environment import read_environment  # noqa: PLC0415

            sources = read_environment(env_file)
            url = url if url is not None else _first(sources, ("SUPABASE_URL",))
            key = key if key is not None else _first(sources, names)
        if url is None:
            raise ConfigurationError("SUPABASE_URL is not set.", next_step=_DASHBOARD)
        if key is None:
            raise ConfigurationError(f"{names[0]} is not set.", next_step=_DASHBOARD)
        settings = cls(url=url, key=SecretStr(_checked_key(key, names[0])))
        if service and not settings.is_service:
            raise ConfigurationError(
                f"{names[0]} is not a service key.",
                next_step="It must be an sb_secret_... key, or a JWT whose role is service_role.",
            )
        return settings

    @property
    def is_service(self) -> bool:
        """Whether the key passes every policy: a secret key, or a legacy ``service_role`` key."""
        secret = self.key.get_secret_value()
        return secret.startswith("sb_secret_") or _jwt_role(secret) == "service_role"

    @property
    def host(self) -> str:
        """The address for messages: host and port."""
        return urlsplit(self.url).netloc

    @override
    def __repr__(self) -> str:
        return f"Settings(url={self.url!r}, key={mask(self.key.get_secret_value())!r})"


def _is_path(value: object) -> bool:
    return value is None or (isinstance(value, str | Path) and "\x00" not in str(value))


def _first(sources: tuple[dict[str, str], ...], names: tuple[str, ...]) -> str | None:
    """The first source that has one of the names decides."""
    return next((source[name] for source in sources for name in names if name in source), None)


def _checked_url(url: object) -> str:
    if not isinstance(url, str) or not url.strip():
        raise ConfigurationError("SUPABASE_URL is empty or not a string.", next_step=_DASHBOARD)
    parts = _split(url.strip())
    if parts.scheme not in {"http", "https"}:
        hint = (
            "This looks like DATABASE_URL; the API's address begins with https://."
            if parts.scheme.startswith("postgres")
            else "It must begin with https:// (or http:// for a local stack)."
        )
        raise ConfigurationError("SUPABASE_URL has the wrong scheme.", next_step=hint)
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("SUPABASE_URL must not hold a user name or password.")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigurationError(
            "SUPABASE_URL must be scheme and host only, without a path.",
            next_step=f"Leave out everything after the host: {parts.scheme}://{parts.netloc}",
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port  # raises for a port that is no number
    except ValueError:
        raise ConfigurationError("SUPABASE_URL is not a URL.", next_step=_DASHBOARD) from None
    host = parts.hostname
    if parts.scheme in {"http", "https"} and (
        not host
        or len(host) > _LONGEST_HOST
        or port == 0
        or re.search(r"[^A-Za-z0-9._:%-]", host)
        or host.startswith((".", "-"))
    ):
        raise ConfigurationError("SUPABASE_URL has no valid host.", next_step=_DASHBOARD)
    return parts


def _checked_key(key: object, name: str) -> str:
    if not isinstance(key, str) or not key.strip():
        raise ConfigurationError(f"{name} is empty or not a string.", next_step=_DASHBOARD)
    secret = key.strip()
    if _OPAQUE_KEY.fullmatch(secret) or _jwt_role(secret) is not None:
        return secret
    raise ConfigurationError(
        f"{name} is malformed: neither sb_publishable_..., sb_secret_... nor a JWT.", next_step=_DASHBOARD
    )


def _jwt_role(token: str) -> str | None:
    """The ``role`` claim of a JWT-shaped key ('' when it has none); None for what is no JWT.

    The signature isn't checked: only the server can do that. This finds typing errors, nothing more.
    """
    if not _JWT.fullmatch(token):
        return None
    header, payload, _ = token.split(".")
    claims = _segment(payload)
    if claims is None or "alg" not in (_segment(header) or {}):
        return None
    role = claims.get("role", "")
    return role if isinstance(role, str) else ""


def _segment(text: str) -> dict[str, object] | None:
    try:
        parsed: object = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        return None
    return cast("dict[str, object]", parsed) if isinstance(parsed, dict) else None


def checked_timeout(timeout: object, name: str = "timeout") -> float | None:
    """A time-out in seconds, or None for none; raises ConfigurationError."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ConfigurationError(f"{name} must be a number of seconds or None.")
    if not math.isfinite(timeout) or timeout <= 0:
        raise ConfigurationError(f"{name} must be a positive number of seconds or None.")
    return float(timeout)
