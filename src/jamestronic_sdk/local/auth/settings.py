"""What can be set on the local Auth server; the defaults are those of a hosted project with autoconfirm."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ADMIN_ROLES", "AUDIENCE", "DEFAULT_ROLE", "AuthSettings", "parse_settings"]

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
    is_totp_enabled: bool = True
    max_factors: int = 10
    """How many factors a user may have; hosted Auth's limit."""
    challenge_lifetime: float = 300.0
    """How long a challenge to a factor waits for its code; hosted Auth's limit."""
    session_time_box: float | None = None
    """The longest life of a session; None = for ever."""
    session_inactivity_timeout: float | None = None
    """How long a session may go without a refresh; None = for ever."""
    is_signup_enabled: bool = True
    is_email_enabled: bool = True
    is_email_autoconfirmed: bool = True
    """Whether an e-mail address counts as confirmed when it signs up, without a message to it."""
    is_phone_enabled: bool = False
    is_phone_autoconfirmed: bool = False
    is_anonymous_enabled: bool = False
    local_providers: tuple[str, ...] = ("local",)
    """Which providers the local page answers for, for example ``("local", "github")``.

    Hosted Auth has no provider of the name ``local``, and the stock Python client asks for none that it
    does not know.
    """
    is_secure_email_change: bool = True
    """Whether the old address must agree, too, to a change of the address (without autoconfirm)."""
    is_reauthentication_required: bool = False
    """Whether another password needs a nonce when the session is older than a day."""
    site_url: str = "http://127.0.0.1:3000"
    """Where links lead when the request names no allowed address; the Supabase CLI's default."""
    allowed_redirects: tuple[str, ...] = ()
    """Patterns of addresses, beside those of the site and of loopback, that links may lead to.

    ``*`` stands for anything but ``.`` and ``/``, ``**`` for anything, ``?`` for one character.
    """
    code_length: int = 6
    email_code_lifetime: float = 3600.0
    """How long a mailed code or link is good; hosted projects have an hour."""
    sms_code_lifetime: float = 60.0
    """How long a code in a text message is good; hosted projects have a minute."""
    message_interval: float = 0.0
    """The least time between two messages of a kind to a user; hosted projects have 60 s, 0 = none."""
    is_rate_limited: bool = False
    """Whether requests and messages are limited as hosted projects begin with: see ``limits``."""
    mailbox_limit: int = 1000
    """Messages that the local mailbox keeps; older ones are dropped."""
    flow_lifetime: float = 300.0
    """How long a PKCE flow waits for its code to be exchanged; hosted Auth's limit."""
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


def parse_settings(assignments: Iterable[str]) -> AuthSettings:
    """Settings from ``name=value`` texts, as the command takes them; what is not named has its default.

    A switch is ``true`` or ``false``, a list has commas between its members, ``none`` takes a limit away.

    Raises:
        ValueError: There is no such setting, or it has no such value; the text says which.
    """
    defaults = AuthSettings()
    known = {entry.name: entry.type for entry in fields(AuthSettings)}
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name not in known:
            raise ValueError(f"{name!r} is no setting of Auth; there are: {', '.join(sorted(known))}")
        values[name] = _parse(name, text, getattr(defaults, name), may_be_none="None" in str(known[name]))
    return AuthSettings(**values)


def _parse(name: str, text: str, default: object, *, may_be_none: bool) -> object:
    try:
        match default:
            case bool():
                return {"true": True, "false": False}[text.lower()]
            case int():
                return int(text)
            case float() | None:
                return None if may_be_none and text.lower() == "none" else float(text)
            case tuple():
                return tuple(part for part in text.split(",") if part)
            case _:
                return text
    except (ValueError, KeyError):
        raise ValueError(f"{text!r} is no value of {name}") from None
