"""Checks arguments before anything goes over the network.

Promises:
    What is malformed raises InvalidInputError with the argument's name, never with its content.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, ValidationError

from jamestronic_sdk.errors import InvalidInputError
from jamestronic_sdk.models import Note, Profile, Ticket

__all__ = [
    "checked_bool",
    "checked_callable",
    "checked_flag",
    "checked_input",
    "checked_instance",
    "checked_int",
    "checked_iterable",
    "checked_json",
    "checked_model",
    "checked_moment",
    "checked_name",
    "checked_seconds",
    "checked_text",
    "checked_uuid",
    "checked_wait",
    "checked_words",
    "note_id",
    "profile_id",
    "ticket_id",
]

_T = TypeVar("_T")

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""An escaped NUL in JSON, as against a backslash before ``u0000``."""

_ModelT = TypeVar("_ModelT", bound=BaseModel)


def checked_text(value: object, name: str, *, limit: int, may_be_blank: bool = False) -> str:
    """A string with something in it, at most ``limit`` characters, that PostgreSQL can hold."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be a string, not {type(value).__name__}.")
    if not may_be_blank and not value.strip():
        raise InvalidInputError(f"{name} must not be empty.")
    if len(value) > limit:
        raise InvalidInputError(f"{name} must have at most {limit} characters.")
    if "\x00" in value:
        raise InvalidInputError(f"{name} must not contain a NUL character.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"{name} must not contain a lone surrogate.") from None
    return value


def checked_int(value: object, name: str, *, low: int, high: int) -> int:
    """A whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{name} must be a whole number, not {type(value).__name__}.")
    if not low <= value <= high:
        raise InvalidInputError(f"{name} must be between {low} and {high}.")
    return value


def checked_bool(value: object, name: str) -> bool | None:
    """True, False or None."""
    if value is None or isinstance(value, bool):
        return value
    raise InvalidInputError(f"{name} must be True, False or None, not {type(value).__name__}.")


def checked_flag(value: object, name: str) -> bool:
    """True or False, and nothing that merely counts as one: ``"false"`` is not False."""
    if isinstance(value, bool):
        return value
    raise InvalidInputError(f"{name} must be True or False, not {type(value).__name__}.")


def checked_callable(value: _T, name: str) -> _T:
    """Something to call."""
    if not callable(value):
        raise InvalidInputError(f"{name} must be callable, not {type(value).__name__}.")
    return value


def checked_wait(value: object, name: str) -> float | None:
    """Seconds to wait at most, from 0, or None for ever."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInputError(f"{name} must be a number of seconds or None, not {type(value).__name__}.")
    if not 0 <= value < math.inf:
        raise InvalidInputError(f"{name} must be a number of seconds from 0, or None.")
    return float(value)


def checked_seconds(value: object, name: str) -> float:
    """A number of seconds, from 0."""
    seconds = checked_wait(value, name)
    if seconds is None:
        raise InvalidInputError(f"{name} must be a number of seconds from 0.")
    return seconds


def checked_iterable(value: object, name: str) -> Iterable[object]:
    """Several things; one string is not."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidInputError(f"{name} must be several, not {type(value).__name__}.")
    return cast("Iterable[object]", value)


def checked_moment(value: object, name: str) -> datetime:
    """An aware ``datetime``."""
    if not isinstance(value, datetime):
        raise InvalidInputError(f"{name} must be a datetime, not {type(value).__name__}.")
    if value.utcoffset() is None:
        raise InvalidInputError(f"{name} must have a time zone.")
    return value


def checked_instance(value: object, kind: type[_T], name: str) -> _T:
    """An object of the class."""
    if not isinstance(value, kind):
        raise InvalidInputError(f"{name} must be a {kind.__name__}, not {type(value).__name__}.")
    return value


def checked_words(value: object, name: str, *, limit: int) -> list[str] | None:
    """One word or several, as texts without repeats; None stays None. Words that are unknown here pass."""
    if value is None:
        return None
    if isinstance(value, str):
        return [str(checked_text(value, name, limit=limit))]
    if not isinstance(value, Iterable):
        raise InvalidInputError(f"{name} must be a string or several, not {type(value).__name__}.")
    words = cast("Iterable[object]", value)
    return list(dict.fromkeys(str(checked_text(word, name, limit=limit)) for word in words))


def checked_uuid(value: object, name: str) -> UUID:
    """A UUID, or its text."""
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be a UUID or its text, not {type(value).__name__}.")
    try:
        return UUID(value)
    except ValueError:
        raise InvalidInputError(f"{name} is not a UUID.") from None


def checked_name(value: object, name: str) -> str:
    """A name in the database that needs no quotes: ASCII letters, digits and underscores."""
    text = checked_text(value, name, limit=63)
    if not text.replace("_", "a").isalnum() or not text.isascii():
        raise InvalidInputError(f"{name} must be a plain name of letters, digits and underscores.")
    return text


def checked_json(value: object, name: str) -> dict[str, object]:
    """A mapping of names to JSON values, UUIDs and dates, as plain JSON values; NaN is none."""
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{name} must be a mapping, not {type(value).__name__}.")
    try:
        text = json.dumps(
            dict(cast("Mapping[str, object]", value)),
            default=_json_value,
            allow_nan=False,
            ensure_ascii=False,
        )
        parsed: dict[str, object] = json.loads(text.encode())
    except (TypeError, ValueError, RecursionError):
        raise InvalidInputError(f"{name} must be a mapping of names to JSON values.") from None
    if _NUL.search(text):
        raise InvalidInputError(f"{name} must not contain a NUL character.")
    return parsed


def _json_value(value: object) -> str:
    """What JSON has no type for, as PostgreSQL reads it."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, date):  # also a datetime
        return value.isoformat()
    raise TypeError(type(value).__name__)


def note_id(value: object) -> UUID:
    """The id of a note, given as the note, its id, or the id's text."""
    return value.id if isinstance(value, Note) else checked_uuid(value, "note")


def ticket_id(value: object, name: str = "ticket") -> UUID:
    """The id of a ticket, given as the ticket, its id, or the id's text."""
    return value.id if isinstance(value, Ticket) else checked_uuid(value, name)


def profile_id(value: object, name: str) -> UUID:
    """The id of a profile, given as the profile, its id, or the id's text."""
    return value.id if isinstance(value, Profile) else checked_uuid(value, name)


def checked_model(model: type[_ModelT], values: dict[str, object]) -> _ModelT:
    """An input model from keyword arguments."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidInputError(f"{model.__name__}: {_problems(error)}.") from None


def checked_input(
    model: type[_ModelT], given: object, fields: dict[str, object], *, verb: str, name: str
) -> _ModelT:
    """An input model, given as itself or as keyword arguments."""
    if given is None:
        return checked_model(model, fields)
    if fields:
        raise InvalidInputError(f"{verb} takes a {model.__name__} or fields, not both.")
    return checked_instance(given, model, name)


def _problems(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return _joined(f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in problems[:5])


def _joined(parts: Iterable[str]) -> str:
    return "; ".join(parts)
