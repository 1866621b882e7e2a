"""The same client for code without an event loop: ``from jamestronic_sdk.blocking import JamesTronic``.

Names, arguments, answers and errors are those of ``jamestronic_sdk``; what is awaited there waits here, and
what is ``async with`` and ``async for`` there is ``with`` and ``for``. ``aclose`` is ``close``.
"""

from jamestronic_sdk.blocking._parts import (
    Admin,
    Auth,
    Factors,
    Notes,
    Profiles,
    StoreCommands,
    Table,
    Tickets,
)
from jamestronic_sdk.blocking._streams import (
    AuthChanges,
    ChangeStream,
    EventStream,
    RowPages,
    RowQuery,
    Stream,
)
from jamestronic_sdk.blocking.client import JamesTronic
from jamestronic_sdk.blocking.store import Subscription, TicketStore

__all__ = [
    "Admin",
    "Auth",
    "AuthChanges",
    "ChangeStream",
    "EventStream",
    "Factors",
    "JamesTronic",
    "Notes",
    "Profiles",
    "RowPages",
    "RowQuery",
    "StoreCommands",
    "Stream",
    "Subscription",
    "Table",
    "TicketStore",
    "Tickets",
]
