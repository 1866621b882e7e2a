"""What the parts of a running local stack know about each other: addresses and secrets of one instance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from jamestronic_sdk.local.tokens import SigningKey

__all__ = ["LocalContext"]


@dataclass(frozen=True, slots=True)
class LocalContext:
    """Addresses and secrets of one instance; the secrets are in no ``repr``."""

    url: str
    """The gateway, without a trailing slash, for example ``http://127.0.0.1:54321``."""
    database_host: str
    """Loopback address that PostgreSQL listens on."""
    database_port: int
    database_password: str = field(repr=False)
    """One password for all login roles of the instance."""
    jwt_secret: str = field(repr=False)
    """HS256 secret shared by Auth, PostgREST and Realtime."""
    anon_key: str = field(repr=False)
    service_role_key: str = field(repr=False)
    signing_key: SigningKey | None = field(default=None, repr=False)
    """Signs users' tokens in place of ``jwt_secret``; API keys are of the secret in any case."""

    @property
    def database_url(self) -> str:
        """Connection URL of the ``postgres`` role, as the Supabase CLI and application tools use it."""
        return self.dsn("postgres")

    def dsn(self, user: str, *, database: str = "postgres", **options: str) -> str:
        """A libpq URL for one of the login roles.

        Args:
            user: ``supabase_admin``, ``postgres``, ``authenticator`` or ``supabase_auth_admin``.
            database: Everything is in ``postgres``; the others serve ``baseline``.
            **options: More libpq parameters, for example ``replication="database"``.
        """
        query = urlencode({"sslmode": "disable", **options})
        password = quote(self.database_password, safe="")
        return f"postgresql://{user}:{password}@{self.database_host}:{self.database_port}/{database}?{query}"
