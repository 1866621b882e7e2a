"""Typed Python client of the JamesTronic repair system.

The names come from their modules at first use: a program that only needs models or errors does not pay for
the client, and ``import jamestronic_sdk`` alone costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jamestronic_sdk._paging import RowPages, RowQuery
    from jamestronic_sdk._ticket_changes import RemovedTicket, TicketChanges, TicketDigest
    from jamestronic_sdk.admin import Account, Admin
    from jamestronic_sdk.auth import Auth, AuthChange, AuthChangeKind, AuthChanges, CodeSent, Me, OAuthRequest
    from jamestronic_sdk.client import JamesTronic
    from jamestronic_sdk.errors import (
        AlreadyRunningError,
        ApiError,
        AuthenticationError,
        BadRequestError,
        BlockingCallError,
        ClientClosedError,
        ConfigurationError,
        ConflictError,
        ConnectionFailedError,
        DataError,
        InactiveProfileError,
        InvalidCredentialsError,
        InvalidInputError,
        JamesTronicError,
        LocalStackError,
        NoProfileError,
        NotFoundError,
        NotSignedInError,
        PermissionDeniedError,
        PortInUseError,
        RateLimitedError,
        RequestTimeoutError,
        Retry,
        SchemaMissingError,
        ServerError,
        SessionExpiredError,
        SqlError,
        StoreClosedError,
        StoreError,
        ToolMissingError,
        TransportError,
    )
    from jamestronic_sdk.factors import Challenge, Enrolment, Factor, Factors
    from jamestronic_sdk.models import (
        NewNote,
        NewTicket,
        Note,
        Profile,
        Role,
        Ticket,
        TicketPatch,
        TicketPriority,
        TicketStatus,
    )
    from jamestronic_sdk.notes import Notes
    from jamestronic_sdk.profiles import Profiles
    from jamestronic_sdk.realtime.channels import Transport
    from jamestronic_sdk.retry import RetryPolicy
    from jamestronic_sdk.sessions import FileSessionStore, KeyringSessionStore, SessionStore
    from jamestronic_sdk.settings import Settings
    from jamestronic_sdk.store.board import TicketBoard
    from jamestronic_sdk.store.commands import StoreCommands
    from jamestronic_sdk.store.events import (
        Certainty,
        Change,
        Source,
        TicketAssigned,
        TicketConflicted,
        TicketCreated,
        TicketEvent,
        TicketRemoved,
        TicketUnassigned,
        TicketUpdated,
    )
    from jamestronic_sdk.store.metrics import LatencySummary, StoreMetrics
    from jamestronic_sdk.store.protocol import Freshness, FreshnessKind, StatusChange, StoreStatus
    from jamestronic_sdk.store.store import EventCallback, Subscription, TicketStore
    from jamestronic_sdk.store.streams import ChangeStream, EventStream, StoreChange, Stream
    from jamestronic_sdk.store.views import View, ViewKind
    from jamestronic_sdk.table import Table
    from jamestronic_sdk.tickets import TicketFilters, Tickets

__all__ = [
    "Account",
    "Admin",
    "AlreadyRunningError",
    "ApiError",
    "Auth",
    "AuthChange",
    "AuthChangeKind",
    "AuthChanges",
    "AuthenticationError",
    "BadRequestError",
    "BlockingCallError",
    "Certainty",
    "Challenge",
    "Change",
    "ChangeStream",
    "ClientClosedError",
    "CodeSent",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailedError",
    "DataError",
    "Enrolment",
    "EventCallback",
    "EventStream",
    "Factor",
    "Factors",
    "FileSessionStore",
    "Freshness",
    "FreshnessKind",
    "InactiveProfileError",
    "InvalidCredentialsError",
    "InvalidInputError",
    "JamesTronic",
    "JamesTronicError",
    "KeyringSessionStore",
    "LatencySummary",
    "LocalStackError",
    "Me",
    "NewNote",
    "NewTicket",
    "NoProfileError",
    "NotFoundError",
    "NotSignedInError",
    "Note",
    "Notes",
    "OAuthRequest",
    "PermissionDeniedError",
    "PortInUseError",
    "Profile",
    "Profiles",
    "RateLimitedError",
    "RemovedTicket",
    "RequestTimeoutError",
    "Retry",
    "RetryPolicy",
    "Role",
    "RowPages",
    "RowQuery",
    "SchemaMissingError",
    "ServerError",
    "SessionExpiredError",
    "SessionStore",
    "Settings",
    "Source",
    "SqlError",
    "StatusChange",
    "StoreChange",
    "StoreClosedError",
    "StoreCommands",
    "StoreError",
    "StoreMetrics",
    "StoreStatus",
    "Stream",
    "Subscription",
    "Table",
    "Ticket",
    "TicketAssigned",
    "TicketBoard",
    "TicketChanges",
    "TicketConflicted",
    "TicketCreated",
    "TicketDigest",
    "TicketEvent",
    "TicketFilters",
    "TicketPatch",
    "TicketPriority",
    "TicketRemoved",
    "TicketStatus",
    "TicketStore",
    "TicketUnassigned",
    "TicketUpdated",
    "Tickets",
    "ToolMissingError",
    "Transport",
    "TransportError",
    "View",
    "ViewKind",
]

_HOMES = {
    "_paging": ("RowPages", "RowQuery"),
    "admin": ("Account", "Admin"),
    "auth": ("Auth", "AuthChange", "AuthChangeKind", "AuthChanges", "CodeSent", "Me", "OAuthRequest"),
    "client": ("JamesTronic",),
    "errors": (
        "AlreadyRunningError",
        "ApiError",
        "AuthenticationError",
        "BadRequestError",
        "BlockingCallError",
        "ClientClosedError",
        "ConfigurationError",
        "ConflictError",
        "ConnectionFailedError",
        "DataError",
        "InactiveProfileError",
        "InvalidCredentialsError",
        "InvalidInputError",
        "JamesTronicError",
        "LocalStackError",
        "NoProfileError",
        "NotFoundError",
        "NotSignedInError",
        "PermissionDeniedError",
        "PortInUseError",
        "RateLimitedError",
        "RequestTimeoutError",
        "Retry",
        "SchemaMissingError",
        "ServerError",
        "SessionExpiredError",
        "SqlError",
        "StoreClosedError",
        "StoreError",
        "ToolMissingError",
        "TransportError",
    ),
    "factors": ("Challenge", "Enrolment", "Factor", "Factors"),
    "models": (
        "NewNote",
        "NewTicket",
        "Note",
        "Profile",
        "Role",
        "Ticket",
        "TicketPatch",
        "TicketPriority",
        "TicketStatus",
    ),
    "notes": ("Notes",),
    "profiles": ("Profiles",),
    "realtime.channels": ("Transport",),
    "retry": ("RetryPolicy",),
    "sessions": ("FileSessionStore", "KeyringSessionStore", "SessionStore"),
    "settings": ("Settings",),
    "_ticket_changes": ("RemovedTicket", "TicketChanges", "TicketDigest"),
    "store.board": ("TicketBoard",),
    "store.commands": ("StoreCommands",),
    "store.events": (
        "Certainty",
        "Change",
        "Source",
        "TicketAssigned",
        "TicketConflicted",
        "TicketCreated",
        "TicketEvent",
        "TicketRemoved",
        "TicketUnassigned",
        "TicketUpdated",
    ),
    "store.metrics": ("LatencySummary", "StoreMetrics"),
    "store.protocol": ("Freshness", "FreshnessKind", "StatusChange", "StoreStatus"),
    "store.store": ("EventCallback", "Subscription", "TicketStore"),
    "store.streams": ("ChangeStream", "EventStream", "StoreChange", "Stream"),
    "store.views": ("View", "ViewKind"),
    "table": ("Table",),
    "tickets": ("TicketFilters", "Tickets"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name from its module, once (PEP 562)."""
    if name not in _HOME_OF:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
