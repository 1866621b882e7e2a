"""Takes secrets and personal data out of text that others wrote.

Promises:
    What looks like a JWT, a Supabase key, an e-mail address or a phone number does not survive ``scrub``.
    Control characters do not survive either, and the answer is one line of bounded length.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["mask", "scrub"]

# Enough for any message of PostgreSQL, PostgREST or Auth; a log line stays readable.
_LIMIT: Final = 300

_SECRETS: Final = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?"  # a JWT, also one whose signature was cut off
    r"|\bsb_(?:publishable|secret)_[\w-]+"
    r"|\bBearer\s+\S+",
    re.IGNORECASE,
)
_EMAIL: Final = re.compile(r"[^\s@<>\"'(),:;=]+@[^\s@<>\"'(),:;=]+")
# E.164 and its usual spellings: a plus sign, or a bracketed or spaced run of ten digits and more.
_PHONE: Final = re.compile(r"\+\d[\d\s().-]{6,}\d|\b\d{3}[\s.-]\d{3}[\s.-]\d{4}\b|\b\d{10,15}\b")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def scrub(text: str) -> str:
    """One line of foreign text, fit for a log or an error message."""
    # Cut first, generously: the patterns must not walk through a megabyte.
    line = _CONTROL.sub(" ", text[: 4 * _LIMIT]).strip()
    line = _SECRETS.sub("[secret]", line)
    line = _EMAIL.sub("[e-mail]", line)
    line = _PHONE.sub("[phone]", line)
    return line if len(line) <= _LIMIT else f"{line[:_LIMIT]}..."


def mask(key: str) -> str:
    """A key's kind without its content, for a ``repr``."""
    for prefix in ("sb_publishable_", "sb_secret_"):
        if key.startswith(prefix):
            return f"{prefix}***"
    return "jwt:***" if key.startswith("eyJ") else "***"
