"""Reads the variables of ``settings.py`` from the environment and a ``.env`` file.

A module of its own so that ``pydantic_settings`` is imported only by programs that need it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import SecretStr
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict

from jamestronic_sdk.errors import ConfigurationError

__all__ = ["read_environment"]


class _Variables(BaseSettings):
    """The variables, by their own names; an empty one counts as not set."""

    model_config = SettingsConfigDict(env_ignore_empty=True, case_sensitive=True, extra="ignore")

    SUPABASE_URL: str | None = None
    SUPABASE_KEY: SecretStr | None = None
    SUPABASE_ANON_KEY: SecretStr | None = None
    SUPABASE_SERVICE_ROLE_KEY: SecretStr | None = None


_NAMES: Final = frozenset(_Variables.model_fields)


def read_environment(env_file: str | Path | None) -> tuple[dict[str, str], ...]:
    """The variables that are set, one dictionary per source, the strongest first.

    Raises:
        ConfigurationError: The file is there but can't be read.
    """
    found = [EnvSettingsSource(_Variables)()]
    if env_file is not None:
        try:
            found.append(DotEnvSettingsSource(_Variables, env_file=env_file, env_file_encoding="utf-8")())
        except (OSError, UnicodeError) as error:
            raise ConfigurationError(
                f"{Path(env_file).name} can't be read ({type(error).__name__}).",
                next_step="Repair it, or pass env_file=None.",
            ) from None
    return tuple(
        {
            name: value
            for name, value in source.items()
            if name in _NAMES and isinstance(value, str) and value.strip()
        }
        for source in found
    )
