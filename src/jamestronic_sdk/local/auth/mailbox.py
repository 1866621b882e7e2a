"""The local mailbox: what hosted Auth sends by mail and text message is kept here, to be read.

Promises:
    A message is kept once the transaction that made its code is committed.
    At most ``limit`` messages, the oldest go first; they end with the process.

Never:
    No message in a log or a ``repr``: they hold codes and addresses.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from jamestronic_sdk.local.auth.users import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Mailbox", "Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """One e-mail or text message."""

    to: str = field(repr=False)
    """The address in lower case, or the phone number as digits."""
    channel: Literal["email", "sms"]
    kind: str
    """What it is for; for a message with a code also the ``type`` that ``/verify`` takes."""
    subject: str
    code: str = field(repr=False)
    """The one-time code."""
    token_hash: str | None = field(default=None, repr=False)
    """What ``/verify`` takes in place of address and code; None when the message has no link."""
    link: str | None = field(default=None, repr=False)
    """The link that confirms; None in text messages and for a nonce."""
    redirect_to: str | None = field(default=None, repr=False)
    """Where the link leads in the end."""
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    sent_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    def to_json(self) -> dict[str, Any]:
        """As ``GET /_local/mailbox`` shows it."""
        return {
            "id": str(self.id),
            "sent_at": timestamp(self.sent_at),
            "to": self.to,
            "channel": self.channel,
            "kind": self.kind,
            "subject": self.subject,
            "code": self.code,
            "token_hash": self.token_hash,
            "link": self.link,
            "redirect_to": self.redirect_to,
        }


class Mailbox:
    """The messages of one instance, of all its users.

    Args:
        limit: How many are kept.
    """

    def __init__(self, limit: int) -> None:
        self._messages: Final[deque[Message]] = deque(maxlen=limit)

    def deliver(self, messages: Iterable[Message]) -> None:
        """Keep messages."""
        self._messages.extend(messages)

    def clear(self) -> None:
        """Forget all messages."""
        self._messages.clear()

    def read(self, to: str | None = None) -> list[Message]:
        """The messages, oldest first.

        Args:
            to: Only those to this address or phone number, however it is written; None = all.
        """
        if to is None:
            return list(self._messages)
        address = to.strip().lower() if "@" in to else to.replace(" ", "").removeprefix("+")
        return [message for message in self._messages if message.to == address]
