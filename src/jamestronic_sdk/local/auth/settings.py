"""What can be set on the local Auth server; the defaults are those of a hosted project with autoconfirm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["ADMIN_ROLES", "AUDIENCE", "DEFAULT_ROLE", "AuthSettings"]

AUDIENCE: Final = "authenticated"
DEFAULT_ROLE: Final = "authenticated"
ADMIN_ROLES: Final = frozenset({"service_role", "supabase_admin"})


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Limits and switches of one Auth server. Durations are seconds, sizes bytes."""

    access_token_lifetime: int = 3600
    """How long an access token is valid."""
    refresh_token_reuse_interval: float = 10.0
    """How long a refresh token may be used once more after it was replaced; hosted projects have 10 s."""
    is_rotation_enabled: bool = True
    """Whether a late reuse revokes every refresh token of the session."""
    session_time_box: float | None = None
    """The longest life of a session; None = for ever."""
    session_inactivity_timeout: float | None = None
    """How long a session may go without a refresh; None = for ever."""
    is_signup_enabled: bool = True
    is_email_enabled: bool = True
    password_min_length: int = 6
    body_limit: int = 1 << 20
    """The largest request body; hosted Auth's limit."""
    request_timeout: float = 10.0
    """How long one request may take; hosted Auth's limit."""
    lock_timeout: float = 5.0
    """How long a refresh waits for another one of the same session; hosted Auth's limit."""
    hook_timeout: float = 2.0
    """How long the custom access token hook may run; hosted Auth's limit."""
    pool_size: int = 10
    """Database connections at most."""
