"""Reading requests: bodies, bearer tokens, where they come from.

Promises:
    What comes out fits PostgreSQL: no NUL, no lone surrogate, no infinity.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

from aiohttp import web

from jamestronic_sdk.local.auth.errors import Problem
from jamestronic_sdk.local.auth.settings import AUDIENCE

__all__ = [
    "Body",
    "Origin",
    "audience",
    "bearer_token",
    "lower_email",
    "origin",
    "page_number",
    "phone_digits",
    "read_body",
    "read_bytes",
]

_BEARER: Final = re.compile(r"[Bb]earer (\S+)")
_EMAIL: Final = re.compile(
    r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
    r"(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*",
    re.ASCII | re.IGNORECASE,
)
_PHONE: Final = re.compile(r"[1-9][0-9]{1,14}", re.ASCII)
_PAGE_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_EMAIL_LIMIT: Final = 255  # the column's


class Body:
    """A JSON object, read field by field; a field of the wrong type is ``bad_json``, null is absent."""

    def __init__(self, members: dict[str, Any]) -> None:
        self._members = members

    def text(self, name: str) -> str:
        """A string; absent means empty."""
        return self.optional_text(name) or ""

    def optional_text(self, name: str) -> str | None:
        """A string, or None when absent."""
        value = self._members.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(name, "a string")

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean, or the default when absent."""
        value = self._members.get(name)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        raise self._wrong(name, "a boolean")

    def mapping(self, name: str) -> dict[str, Any] | None:
        """An object, or None when absent."""
        value = self._members.get(name)
        if value is None:
            return None
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
        raise self._wrong(name, "an object")

    @staticmethod
    def _wrong(name: str, wanted: str) -> Exception:
        return Problem.BAD_JSON.error(f"Could not parse request body as JSON: {name} must be {wanted}")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from, as far as it is kept in the session."""

    user_agent: str | None
    ip: str | None


async def read_body(request: web.Request, *, limit: int, may_be_empty: bool = False) -> Body:
    """The request's JSON object.

    Args:
        request: The limit is ours, not the application's: a mounted application shares its parent's.
        limit: Bytes.
        may_be_empty: Whether no body means an empty object.

    Raises:
        AuthApiProblem: ``request_entity_too_large`` or ``bad_json``.
    """
    raw = await read_bytes(request, limit=limit)
    if not raw and may_be_empty:
        return Body({})
    try:
        value: Any = json.loads(raw.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # The parser's text is not passed on: it may quote a password.
        raise Problem.BAD_JSON.error() from None
    if value is None:
        return Body({})
    if not isinstance(value, dict):
        raise Problem.BAD_JSON.error("Could not parse request body as JSON: it must be an object")
    members = cast("dict[str, Any]", value)
    _check_storable(members)
    return Body(members)


async def read_bytes(request: web.Request, *, limit: int) -> bytes:
    """The request's body as it is.

    Raises:
        AuthApiProblem: ``request_entity_too_large``, or ``bad_json`` when it breaks off.
    """
    raw = bytearray()
    try:
        async for chunk in request.content.iter_any():
            raw += chunk
            if len(raw) > limit:
                # What is left is not read: the connection can't be used again.
                raise Problem.BODY_TOO_LARGE.error(
                    f"Request body too large (max {limit} bytes)", headers={"Connection": "close"}
                )
    except web.RequestPayloadError:
        raise Problem.BAD_JSON.error("Could not read the request body") from None
    return bytes(raw)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_storable(value: object) -> None:
    """Refuse what JSON allows and PostgreSQL's text and jsonb do not."""
    left: list[object] = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            if "\0" in item or any("\ud800" <= char <= "\udfff" for char in item):
                raise _unstorable("a string")
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise _unstorable("a number")
        elif isinstance(item, dict):
            entries = cast("dict[str, object]", item)
            left.extend(entries)
            left.extend(entries.values())
        elif isinstance(item, list):
            left.extend(cast("list[object]", item))


def _unstorable(what: str) -> Exception:
    return Problem.BAD_JSON.error(f"Could not parse request body as JSON: {what} can't be stored")


def bearer_token(request: web.Request) -> str:
    """The token of the Authorization header.

    Raises:
        AuthApiProblem: ``no_authorization``.
    """
    match = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    if match is None:
        raise Problem.NO_AUTHORIZATION.error()
    return match[1]


def audience(request: web.Request) -> str:
    """The audience that users are looked for in; hardly anybody sends one."""
    return _storable(request.headers.get("X-JWT-AUD", "")) or AUDIENCE


def origin(request: web.Request) -> Origin:
    """The client's program and address; an address that is none is left out."""
    forwarded = request.headers.get("X-Forwarded-For", "").split(",")[0].strip()
    address = forwarded or request.remote or ""
    try:
        ip = str(ipaddress.ip_address(address))
    except ValueError:
        ip = None
    return Origin(user_agent=_storable(request.headers.get("User-Agent", "")) or None, ip=ip)


def page_number(request: web.Request, name: str, default: int) -> int:
    """A positive number of the query; empty counts as absent.

    Raises:
        AuthApiProblem: ``validation_failed``.
    """
    text = request.query.get(name, "")
    if not text:
        return default
    if _PAGE_NUMBER.fullmatch(text) is None or int(text) == 0:
        raise Problem.VALIDATION_FAILED.error(f"Bad Pagination Parameters: {name} must be a positive number")
    return int(text)


def _storable(header: str) -> str:
    """Bytes that are no UTF-8 reach us as lone surrogates; PostgreSQL takes none."""
    return header.encode(errors="replace").decode()


def phone_digits(phone: str) -> str:
    """The number as it is stored and compared: E.164 without the plus sign.

    Raises:
        AuthApiProblem: ``validation_failed`` when it is none.
    """
    digits = phone.removeprefix("+").replace(" ", "")
    if _PHONE.fullmatch(digits) is None:
        raise Problem.VALIDATION_FAILED.error("Invalid phone number format (E.164 required)")
    return digits


def lower_email(email: str) -> str:
    """The address in lower case, which is how it is stored and compared.

    Raises:
        AuthApiProblem: ``validation_failed`` when it is none.
    """
    if not email:
        raise Problem.VALIDATION_FAILED.error("An email address is required")
    if len(email) > _EMAIL_LIMIT:
        raise Problem.VALIDATION_FAILED.error("An email address is too long")
    if _EMAIL.fullmatch(email) is None:
        raise Problem.VALIDATION_FAILED.error("Unable to validate email address: invalid format")
    return email.lower()
