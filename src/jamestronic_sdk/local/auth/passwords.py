"""Passwords: what is accepted, and bcrypt in a thread, never on the loop."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import bcrypt

from jamestronic_sdk.local.auth.errors import Problem

__all__ = ["check_strength", "hash_password", "is_bcrypt_hash", "is_right"]

COST: Final = 10
"""Hosted Auth's cost, about 50 ms."""

LIMIT: Final = 72
"""Bytes; bcrypt reads no further."""

_BCRYPT: Final = re.compile(r"\$2[aby]\$(?:0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)


def check_strength(password: str, *, min_length: int) -> None:
    """Refuse a password that is too long for bcrypt (400) or too short (422).

    Raises:
        AuthApiProblem: ``validation_failed`` or ``weak_password``.
    """
    size = len(password.encode())
    if size > LIMIT:
        raise Problem.VALIDATION_FAILED.error(f"Password cannot be longer than {LIMIT} characters")
    if size < min_length:
        raise Problem.WEAK_PASSWORD.error(
            f"Password should be at least {min_length} characters.",
            extra={"weak_password": {"reasons": ["length"]}},
        )


def is_bcrypt_hash(text: str) -> bool:
    """Whether ``is_right`` can read it."""
    return _BCRYPT.fullmatch(text) is not None


async def hash_password(password: str) -> str:
    """The bcrypt hash, in the ``$2a$`` spelling that hosted Auth writes.

    Raises:
        AuthApiProblem: ``validation_failed`` above 72 bytes.
    """
    encoded = password.encode()
    if len(encoded) > LIMIT:
        raise Problem.VALIDATION_FAILED.error(f"bcrypt: password length exceeds {LIMIT} bytes")
    return await asyncio.to_thread(_hash, encoded)


async def is_right(password: str, encrypted: str | None) -> bool:
    """Whether the password fits the hash; no hash, or none that bcrypt reads, fits nothing."""
    encoded = password.encode()
    if not encrypted or len(encoded) > LIMIT or not is_bcrypt_hash(encrypted):
        return False
    return await asyncio.to_thread(bcrypt.checkpw, encoded, encrypted.encode())


def _hash(encoded: bytes) -> str:
    return bcrypt.hashpw(encoded, bcrypt.gensalt(rounds=COST, prefix=b"2a")).decode()
