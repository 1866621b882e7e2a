"""Secrets that somebody chose for an instance, in place of those that it makes itself.

Promises:
    Keys fit their secret: a key that the secret did not sign is refused, one that is not given is made.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self

from jamestronic_sdk.errors import AuthenticationError, LocalStackError
from jamestronic_sdk.local.tokens import make_api_keys, make_jwt, verify_jwt

if TYPE_CHECKING:
    from jamestronic_sdk.local.instance import Instance

__all__ = ["CLI_DATABASE_PORT", "CLI_PORT", "Secrets"]

CLI_PORT: Final = 54321
"""The API's port of the Supabase CLI's own local stack."""

CLI_DATABASE_PORT: Final = 54322
"""PostgreSQL's port there."""

_MIN_SECRET: Final = 32
"""Characters; PostgREST refuses shorter ones."""

# What every local stack of the Supabase CLI has, published in its sources: they protect nothing.
_CLI_JWT_SECRET: Final = "super-secret-jwt-token-with-at-least-32-characters-long"  # noqa: S105
_CLI_PUBLISHABLE_KEY: Final = "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"
_CLI_SECRET_KEY: Final = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"  # noqa: S105
_CLI_ISSUER: Final = "supabase-demo"
_CLI_EXPIRY: Final = 1983812996
_CLI_PASSWORD: Final = "postgres"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Secrets:
    """Each as in ``Instance``; None: the instance's own."""

    jwt_secret: str | None = field(default=None, repr=False)
    anon_key: str | None = field(default=None, repr=False)
    service_role_key: str | None = field(default=None, repr=False)
    publishable_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    database_password: str | None = field(default=None, repr=False)
    """Of all login roles; only for a data directory that is new, or has it already."""

    @classmethod
    def of_the_cli(cls) -> Self:
        """Those of every local stack of the Supabase CLI: known to everybody."""
        anon_key, service_role_key = (
            make_jwt(_CLI_JWT_SECRET, {"iss": _CLI_ISSUER, "role": role, "exp": _CLI_EXPIRY})
            for role in ("anon", "service_role")
        )
        return cls(
            jwt_secret=_CLI_JWT_SECRET,
            anon_key=anon_key,
            service_role_key=service_role_key,
            publishable_key=_CLI_PUBLISHABLE_KEY,
            secret_key=_CLI_SECRET_KEY,
            database_password=_CLI_PASSWORD,
        )

    def given(self) -> dict[str, str]:
        """Those that were chosen, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def is_well_known(self) -> bool:
        """Whether anybody could make tokens, or sign in to the database."""
        return self.jwt_secret == _CLI_JWT_SECRET or self.database_password == _CLI_PASSWORD

    def over(self, other: Self) -> Secrets:
        """These, and where one is not chosen the other's."""
        return Secrets(**{**other.given(), **self.given()})

    def apply(self, instance: Instance) -> Instance:
        """The instance with what was chosen.

        Raises:
            LocalStackError: They do not fit each other, or the data.
        """
        chosen: dict[str, Any] = self.given()
        secret = chosen.get("jwt_secret", instance.jwt_secret)
        if len(secret) < _MIN_SECRET:
            raise LocalStackError(f"The JWT secret is shorter than {_MIN_SECRET} characters.")
        if secret != instance.jwt_secret:
            anon_key, service_role_key = make_api_keys(secret)
            chosen = {"anon_key": anon_key, "service_role_key": service_role_key, **chosen}
        for name, role in (("anon_key", "anon"), ("service_role_key", "service_role")):
            if name in chosen:
                _check_key(secret, chosen[name], name, role)
        for name, prefix in (("publishable_key", "sb_publishable_"), ("secret_key", "sb_secret_")):
            if not chosen.get(name, prefix).startswith(prefix):
                raise LocalStackError(f"The {name.replace('_', ' ')} must begin with {prefix}.")
        password = chosen.get("database_password", instance.database_password)
        if instance.bootstrap is not None and password != instance.database_password:
            raise LocalStackError(
                "The database of this data directory was made with another password.",
                next_step="Use another --data-dir, or remove this one if nothing in it is needed.",
            )
        return replace(instance, **chosen)


def _check_key(secret: str, key: str, name: str, role: str) -> None:
    try:
        claims = verify_jwt(secret, key)
    except AuthenticationError:
        claims = {}
    if claims.get("role") != role:
        raise LocalStackError(
            f"The {name.replace('_', ' ')} is no token of the role {role} that the JWT secret has signed.",
            next_step="Give the secret that signed it, too, or leave the key out: one is made.",
        )
