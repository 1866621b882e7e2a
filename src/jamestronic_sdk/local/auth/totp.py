"""Time-based one-time passwords (RFC 6238) as authenticator applications make them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import secrets
from typing import Final
from urllib.parse import quote, urlencode

import segno

__all__ = ["code_at", "is_right", "make_secret", "qr_code", "uri"]

PERIOD: Final = 30
"""Seconds that a code is shown."""
DIGITS: Final = 6
SKEW: Final = 1
"""How many periods a clock may be off, in either direction."""


def make_secret() -> str:
    """A new secret, in base 32 as people type it."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def code_at(secret: str, moment: float) -> str:
    """The code that is shown at a moment.

    Args:
        secret: In base 32.
        moment: Seconds since 1970.
    """
    counter = int(moment // PERIOD).to_bytes(8, "big", signed=True)
    # SHA-1 is what authenticator applications know; as an HMAC it is sound.
    mac = hmac.new(base64.b32decode(secret), counter, hashlib.sha1).digest()
    offset = mac[-1] & 0x0F
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFF_FFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def is_right(secret: str, code: str, *, now: float) -> bool:
    """Whether the code is, was just, or will soon be shown.

    Args:
        secret: In base 32.
        code: What was typed; blanks around it do not matter.
        now: Seconds since 1970.
    """
    given = code.strip().encode(errors="replace")
    shown = (code_at(secret, now + step * PERIOD).encode() for step in range(-SKEW, SKEW + 1))
    return any(hmac.compare_digest(given, candidate) for candidate in shown)


def uri(secret: str, *, issuer: str, account: str) -> str:
    """What the QR code says."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='@')}"
    query = {
        "algorithm": "SHA1",
        "digits": str(DIGITS),
        "issuer": issuer,
        "period": str(PERIOD),
        "secret": secret,
    }
    return f"otpauth://totp/{label}?{urlencode(query, quote_via=quote)}"


def qr_code(text: str) -> str:
    """The QR code as SVG, fit to follow ``data:image/svg+xml;utf-8,``: clients show it like that."""
    drawing = io.BytesIO()
    segno.make_qr(text, error="h").save(drawing, kind="svg", scale=3, light="white", xmldecl=False, nl=False)
    # A number sign would end the address.
    return drawing.getvalue().decode().replace("#000", "black").replace("#fff", "white")
