"""Redaction: what others wrote loses secrets and personal data, and nothing else."""

from __future__ import annotations

import time

import pytest
from client_support import ANON_KEY, SECRET

from jamestronic_sdk._redact import mask, scrub


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('relation "public.tickets" does not exist', 'relation "public.tickets" does not exist'),
        (f"token {ANON_KEY} is bad", "token [secret] is bad"),
        (f"token {ANON_KEY[:60]}", "token [secret]"),
        (f"key sb_secret_{SECRET}!", "key [secret]!"),
        (f"Authorization: Bearer {SECRET}", "Authorization: [secret]"),
        ("user ada@example.test exists", "user [e-mail] exists"),
        ('("ada+tag@example.test")', '("[e-mail]")'),
        ("call +1 (555) 010-0199 now", "call [phone] now"),
        ("call 555-010-0199", "call [phone]"),
        ("version 12 is not 13", "version 12 is not 13"),
        ("a\x00b\nc\u2028d", "a b c d"),
        ("x" * 400, "x" * 300 + "..."),
        ("", ""),
    ],
)
def test_scrub(text: str, expected: str) -> None:
    assert scrub(text) == expected


def test_scrub_is_quick_on_hostile_text() -> None:
    started = time.perf_counter()
    for text in ("a@" * 500_000, "+1" * 500_000, "eyJ" * 500_000, "." * 1_000_000, "Bearer " * 200_000):
        scrub(text)
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (ANON_KEY, "jwt:***"),
        (f"sb_secret_{SECRET}", "sb_secret_***"),
        (f"sb_publishable_{SECRET}", "sb_publishable_***"),
        (SECRET, "***"),
    ],
)
def test_mask(key: str, expected: str) -> None:
    assert mask(key) == expected
