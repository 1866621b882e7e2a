"""Settings of the local Auth server as texts."""

from __future__ import annotations

import pytest

from jamestronic_sdk.local.auth.settings import AuthSettings, parse_settings


def test_texts_become_settings() -> None:
    """Each kind of value; what is not named has its default."""
    assert parse_settings([]) == AuthSettings()
    assert parse_settings(
        [
            "is_phone_enabled=true",
            "is_email_autoconfirmed=False",
            "code_length=8",
            "message_interval=60",
            "session_time_box=3600",
            "session_inactivity_timeout=none",
            "site_url=https://shop.example/?a=b",
            "allowed_redirects=https://a.example/**,shop://**",
        ]
    ) == AuthSettings(
        is_phone_enabled=True,
        is_email_autoconfirmed=False,
        code_length=8,
        message_interval=60.0,
        session_time_box=3600.0,
        session_inactivity_timeout=None,
        site_url="https://shop.example/?a=b",
        allowed_redirects=("https://a.example/**", "shop://**"),
    )


@pytest.mark.parametrize(
    "text", ["", "phone", "phone=true", "is_phone_enabled=1", "code_length=six", "message_interval=none"]
)
def test_other_texts_are_refused(text: str) -> None:
    """The error says which and why."""
    with pytest.raises(ValueError, match=r"is no (setting|value) of"):
        parse_settings([text])
