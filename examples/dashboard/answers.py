"""Errors of the SDK as answers for people: an HTTP status, a kind for the page, and one plain sentence."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from jamestronic_sdk import (
    BadRequestError,
    ConflictError,
    InactiveProfileError,
    InvalidCredentialsError,
    InvalidInputError,
    JamesTronicError,
    NoProfileError,
    NotFoundError,
    NotSignedInError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    SessionExpiredError,
    StoreError,
    TransportError,
)

if TYPE_CHECKING:
    from .wire import Json


_log: Final = logging.getLogger("dashboard")


class Answer(NamedTuple):
    """What the page is told."""

    status: int
    kind: str
    text: str

    def content(self) -> Json:
        """As JSON."""
        return {"kind": self.kind, "text": self.text}


_ANSWERS: Final[tuple[tuple[type[JamesTronicError], Answer], ...]] = (
    (
        ConflictError,
        Answer(409, "conflict", "This ticket changed while you were looking. Nothing was overwritten."),
    ),
    (NotFoundError, Answer(404, "gone", "This ticket is with somebody else now.")),
    (PermissionDeniedError, Answer(403, "refused", "That isn't yours to change.")),
    (BadRequestError, Answer(422, "refused", "That step isn't possible from where the ticket is now.")),
    (InvalidInputError, Answer(400, "refused", "Something in the form is missing or too long.")),
    (InvalidCredentialsError, Answer(401, "credentials", "That e-mail and password don't belong together.")),
    (InactiveProfileError, Answer(403, "refused", "This account is deactivated.")),
    (NoProfileError, Answer(403, "refused", "This account has no profile yet.")),
    (SessionExpiredError, Answer(401, "signed-out", "Your session has ended. Please sign in again.")),
    (NotSignedInError, Answer(401, "signed-out", "Your session has ended. Please sign in again.")),
    (RateLimitedError, Answer(429, "unavailable", "Too many tries. Please wait a moment.")),
    (TransportError, Answer(503, "unavailable", "The workshop's server doesn't answer right now.")),
    (ServerError, Answer(503, "unavailable", "The workshop's server has trouble right now.")),
    (StoreError, Answer(503, "unavailable", "The tickets are not there yet. Please try again.")),
)
_OTHER: Final = Answer(500, "unavailable", "That didn't work. It has been noted.")
_TAKEN: Final = Answer(409, "conflict", "Somebody was a moment faster: this ticket is taken.")


def answer(error: JamesTronicError) -> Answer:
    """What a person is told."""
    if isinstance(error, ConflictError) and error.reason == "already_taken":
        return _TAKEN
    found = next((found for kind, found in _ANSWERS if isinstance(error, kind)), None)
    if found is None:
        _log.error("unexpected %s: %s", type(error).__name__, error)
    return found or _OTHER
