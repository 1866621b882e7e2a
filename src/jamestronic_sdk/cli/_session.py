"""The project and who is signed in to it: what a command that talks to the project begins with."""

from __future__ import annotations

import base64
import json
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from jamestronic_sdk.cli._root import options_of
from jamestronic_sdk.errors import ConfigurationError, NotSignedInError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from jamestronic_sdk.cli._kept import KeptSession
    from jamestronic_sdk.client import JamesTronic
    from jamestronic_sdk.sessions import SessionStore
    from jamestronic_sdk.settings import Settings

# What the client is made of is imported when a command runs: `--help` needs none of it.
# ruff: noqa: PLC0415

__all__ = ["acting", "claims_of", "client", "kept_session", "settings"]


def settings() -> Settings:
    """The project, from options, environment and ``.env``.

    Raises:
        ConfigurationError: Something is missing or malformed.
    """
    from jamestronic_sdk.settings import Settings

    options = options_of()
    try:
        return Settings.load(options.url, options.key, service=options.service, env_file=options.env_file)
    except ConfigurationError as error:
        if error.message.endswith(" is not set."):
            option = "--url" if "URL" in error.message else "--service" if options.service else "--key"
            raise ConfigurationError(
                error.message,
                next_step=f"Set it in the environment or in {options.env_file}, or give {option}. "
                'For a local stack: eval "$(jamestronic local env)"',
            ) from None
        raise


def kept_session(project: Settings, *, keyring: bool | None = None) -> KeptSession:
    """Where the session of a project is kept."""
    from jamestronic_sdk.cli._kept import KeptSession

    chosen = options_of().session_file
    name = re.sub(r"[^a-z0-9.-]", "_", project.host)
    path = Path(chosen) if chosen else Path(typer.get_app_dir("jamestronic")) / "sessions" / f"{name}.json"
    return KeptSession(path.expanduser(), project.host, keyring=keyring)


def client(project: Settings, store: SessionStore | None) -> JamesTronic:
    """A client that is not open yet."""
    from jamestronic_sdk.client import JamesTronic

    return JamesTronic(settings=project, session_store=store, timeout=options_of().timeout)


@asynccontextmanager
async def acting(*, renew: bool = False) -> AsyncGenerator[JamesTronic]:
    """A client for who is signed in, or for the service when the key is its.

    Raises:
        NotSignedInError: Nobody is.
    """
    project = settings()
    if project.is_service:
        async with client(project, None) as jt:
            yield jt
        return
    async with client(project, kept_session(project)) as jt:
        if await jt.auth.resume(renew=renew) is None:
            raise NotSignedInError(
                f"Nobody is signed in to {project.host}.", next_step="Run: jamestronic login"
            )
        yield jt


def claims_of(token: str) -> dict[str, Any]:
    """What an access token says of itself, for showing; nothing is decided by it."""
    try:
        part = token.split(".")[1]
        claims: Any = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return {}
    return cast("dict[str, Any]", claims) if isinstance(claims, dict) else {}
