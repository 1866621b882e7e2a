"""The engine's vocabulary: statuses and their transitions, inputs, effects, and bounds.

Promises:
    All of it is frozen data. Transitions are a table: tests walk every cell, a diagram can be drawn.

Never:
    No behaviour, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from jamestronic_sdk.errors import JamesTronicError
    from jamestronic_sdk.models import Ticket
    from jamestronic_sdk.store.events import TicketEvent

__all__ = [
    "TRANSITIONS",
    "Background",
    "CancelRead",
    "ClearTimer",
    "Close",
    "CloseFeed",
    "Count",
    "DigestDone",
    "Effect",
    "EngineConfig",
    "FeedLive",
    "FeedLost",
    "Foreground",
    "Freshness",
    "FreshnessKind",
    "GapFound",
    "Input",
    "LookupDone",
    "OpenFeed",
    "PairsDone",
    "Publish",
    "ReadDone",
    "ReadFailed",
    "ReadKind",
    "RefreshAsked",
    "Removal",
    "ReportFailure",
    "ReportStatus",
    "Resolve",
    "RowChanged",
    "RowDeleted",
    "RowDoubtful",
    "RowLeft",
    "SetTimer",
    "Signal",
    "Start",
    "StartRead",
    "StatusChange",
    "StoreStatus",
    "SyncDone",
    "Timer",
    "TimerFired",
    "Woke",
    "WriteBegun",
    "WriteDone",
    "WriteFailed",
]


class StoreStatus(StrEnum):
    """How the store learns of changes."""

    CONNECTING = "connecting"
    """Not yet live, and the feed has not failed yet either."""
    LIVE = "live"
    """The feed is verified, and a read that began after that has succeeded."""
    POLLING = "polling"
    """The feed is down: reads by the clock, while the feed is tried for ever."""
    PAUSED = "paused"
    """In the background: nothing is asked, the view is kept and called stale."""
    CLOSED = "closed"
    """Final."""


class Signal(Enum):
    """What can move the status."""

    START = "start"
    VERIFIED = "verified"
    """The feed is live, and a read that began after that has succeeded."""
    FEED_LOST = "feed lost"
    PAUSE = "pause"
    """In the background for a while."""
    RESUME = "resume"
    """In the foreground again: the feed begins anew."""
    CLOSE = "close"


TRANSITIONS: Final[Mapping[tuple[StoreStatus | None, Signal], StoreStatus]] = {
    (None, Signal.START): StoreStatus.CONNECTING,
    (None, Signal.CLOSE): StoreStatus.CLOSED,
    (StoreStatus.CONNECTING, Signal.VERIFIED): StoreStatus.LIVE,
    (StoreStatus.CONNECTING, Signal.FEED_LOST): StoreStatus.POLLING,
    (StoreStatus.CONNECTING, Signal.CLOSE): StoreStatus.CLOSED,
    (StoreStatus.LIVE, Signal.VERIFIED): StoreStatus.LIVE,
    (StoreStatus.LIVE, Signal.FEED_LOST): StoreStatus.POLLING,
    (StoreStatus.LIVE, Signal.CLOSE): StoreStatus.CLOSED,
    (StoreStatus.POLLING, Signal.VERIFIED): StoreStatus.LIVE,
    (StoreStatus.POLLING, Signal.FEED_LOST): StoreStatus.POLLING,
    (StoreStatus.POLLING, Signal.CLOSE): StoreStatus.CLOSED,
    (StoreStatus.CONNECTING, Signal.PAUSE): StoreStatus.PAUSED,
    (StoreStatus.LIVE, Signal.PAUSE): StoreStatus.PAUSED,
    (StoreStatus.POLLING, Signal.PAUSE): StoreStatus.PAUSED,
    (StoreStatus.PAUSED, Signal.RESUME): StoreStatus.CONNECTING,
    (StoreStatus.PAUSED, Signal.CLOSE): StoreStatus.CLOSED,
}
"""(status, signal) -> status. What is not here can't happen and raises ``LookupError``."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Delays in seconds, and bounds."""

    reconcile_delay: float = 0.1
    """Quiet time after a message before the confirming read; long enough to merge a burst."""
    reconcile_max_delay: float = 1.0
    """A burst without a pause is confirmed at least this often."""
    poll_interval: float = 30.0
    """Between reads while the feed is down."""
    live_interval: float = 60.0
    """Between safety reads while the feed is live."""
    jitter: float = 0.2
    """Both intervals vary by this fraction, so that a fleet does not read in step."""
    retry_base: float = 0.5
    retry_cap: float = 30.0
    """A failed read is repeated after random(0, min(cap, base * 2^failures))."""
    grace: float = 10.0
    """How long a late message about a row that left by absence is checked by id first."""
    tombstone_ttl: float = 120.0
    """Longer than any read may take: a read that began before a leave must not undo it."""
    tombstone_limit: int = 10_000
    lookup_limit: int = 100
    """Ids per lookup: keeps the URL under the limits of proxies."""
    is_sync_wanted: bool = False
    """Read by ``sync_tickets`` and ``tickets_digest`` (060_sync.sql) while the database has them."""
    digest_interval: float = 60.0
    """Between proofs."""
    digest_tries: int = 5
    """Looks in a row while changes are under way; then the next interval is waited for."""
    background_delay: float = 60.0
    """In the background for so long, the store pauses; a glance at another app must not cost a reconnect."""


# --- inputs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """The store is entered."""


@dataclass(frozen=True, slots=True)
class FeedLive:
    """The server says that it replicates to us; also when it says so again."""


@dataclass(frozen=True, slots=True)
class FeedLost:
    """The channel failed, timed out or closed, or an attempt to open it did."""

    reason: str


@dataclass(frozen=True, slots=True)
class RowChanged:
    """A message showed a whole row."""

    ticket: Ticket
    received_at: datetime
    committed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RowDeleted:
    """A message said that a row was deleted; under RLS it goes to every subscriber."""

    ticket_id: UUID
    received_at: datetime
    committed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RowLeft:
    """A message said that the viewer lost a ticket."""

    removal: Removal
    received_at: datetime
    committed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RowDoubtful:
    """A message about this ticket was incomplete: ask by id."""

    ticket_id: UUID


@dataclass(frozen=True, slots=True)
class GapFound:
    """Messages may have been missed while the feed stayed open."""


@dataclass(frozen=True, slots=True)
class ReadDone:
    """A complete read of the view: every row of it, collected over all pages."""

    read_id: int
    tickets: tuple[Ticket, ...]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Removal:
    """The change log's word that the viewer may no longer see a ticket."""

    ticket_id: UUID
    version: int
    """Of the leave itself, or of the last change before it that concerned the viewer."""
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class SyncDone:
    """The answer to a ``SYNC`` read, all its pages together."""

    read_id: int
    is_snapshot: bool
    """Everything that the person may see, as of one moment; else what changed since the cursor."""
    upserts: tuple[Ticket, ...]
    removed: tuple[Removal, ...]
    cursor: str
    """For the next one."""
    received_at: datetime


@dataclass(frozen=True, slots=True)
class DigestDone:
    """The answer to a ``DIGEST`` read."""

    read_id: int
    count: int
    digest: int
    """XOR of the first 64 bits of MD5(``id:version``)."""


@dataclass(frozen=True, slots=True)
class LookupDone:
    """A read by id: what was found; what was asked for and is not in it is not visible."""

    read_id: int
    tickets: tuple[Ticket, ...]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class PairsDone:
    """The answer to a ``PAIRS`` read: id and version of every row that the person may see."""

    read_id: int
    pairs: tuple[tuple[UUID, int], ...]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class ReadFailed:
    """A read gave no answer, or not a whole one."""

    read_id: int
    error: JamesTronicError


class Timer(Enum):
    """The engine's timers; setting one again replaces it."""

    READ = "read"
    """The next read by the clock: poll, safety read, or the repetition of a failed read."""
    RECONCILE = "reconcile"
    """The debounced read after messages."""
    STALE = "stale"
    """The last successful read is too old to trust."""
    BACKGROUND = "background"
    """The program has been in the background long enough to pause."""


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer that was set and not cleared has run out."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class RefreshAsked:
    """The program wants a read that begins now; answered by ``Resolve`` with the same token."""

    token: int


@dataclass(frozen=True, slots=True)
class Background:
    """Nobody looks at the view just now."""


@dataclass(frozen=True, slots=True)
class Foreground:
    """Somebody looks at the view again, or might think that it is old."""


@dataclass(frozen=True, slots=True)
class Woke:
    """The machine slept, or its clock jumped."""


@dataclass(frozen=True, slots=True)
class WriteBegun:
    """The program sends a command; until it is answered, the row is shown as if it had succeeded."""

    token: int
    """Names the write; the program's own."""
    ticket_id: UUID
    patch: Mapping[str, Any]
    """Column -> value."""


@dataclass(frozen=True, slots=True)
class WriteDone:
    """The command succeeded."""

    token: int
    ticket: Ticket
    """The row after it, from the answer."""
    received_at: datetime


@dataclass(frozen=True, slots=True)
class WriteFailed:
    """The command was refused, or nobody knows."""

    token: int
    is_conflict: bool
    """Somebody was faster: both rows are told by ``TicketConflicted``."""
    is_certain: bool
    """Whether the command surely had no effect; otherwise the ticket is looked up."""
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Close:
    """Stop for good."""


Input = (
    Start
    | FeedLive
    | FeedLost
    | RowChanged
    | RowDeleted
    | RowLeft
    | RowDoubtful
    | GapFound
    | ReadDone
    | SyncDone
    | DigestDone
    | LookupDone
    | PairsDone
    | ReadFailed
    | TimerFired
    | RefreshAsked
    | Background
    | Foreground
    | Woke
    | WriteBegun
    | WriteDone
    | WriteFailed
    | Close
)


# --- freshness -------------------------------------------------------------------------------------


class FreshnessKind(StrEnum):
    """How much the view can be trusted to be today's."""

    LIVE = "live"
    POLLING = "polling"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old the view may be."""

    kind: FreshnessKind
    age: float | None
    """Seconds since the beginning of the last successful read; None before the first."""
    reason: str | None = None
    """Why it is not live."""


@dataclass(frozen=True, slots=True)
class StatusChange:
    """How the store learns of changes, and how much the view can be trusted, as of one moment."""

    status: StoreStatus
    reason: str | None
    """Why it is not live, in one line."""
    freshness: Freshness
    is_loading: bool
    """Whether what a person waits for is being read: the first state, a refresh, or all that was missed."""


# --- effects ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenFeed:
    """Start the supervised feed; it reports by ``FeedLive`` and ``FeedLost`` for ever."""


@dataclass(frozen=True, slots=True)
class CloseFeed:
    """End the feed."""


class ReadKind(Enum):
    """What is read."""

    FULL = "full"
    """Every row of the view, page by page: works on every database."""
    SYNC = "sync"
    """What changed for the signed-in person since the cursor; without a cursor, everything they may see."""
    LOOKUP = "lookup"
    """These ids."""
    DIGEST = "digest"
    """Count and XOR over what the signed-in person may see: the cheap proof that nothing is missing."""
    PAIRS = "pairs"
    """Id and version of all that the signed-in person may see: finds what the proof says is missing."""


@dataclass(frozen=True, slots=True)
class StartRead:
    """Read the whole view, or these ids; answered by one input with the same ``read_id``."""

    read_id: int
    kind: ReadKind
    ticket_ids: tuple[UUID, ...] = ()
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class CancelRead:
    """Nobody waits for this read any more."""

    read_id: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire after a random time between ``low`` and ``high`` seconds."""

    timer: Timer
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClearTimer:
    """Do not fire."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class Publish:
    """The view changed: first the new state is visible, then these events are told, in order.

    An empty tuple marks the first complete state, or that only an own write changed what is shown.
    """

    events: tuple[TicketEvent, ...]


@dataclass(frozen=True, slots=True)
class ReportStatus:
    """How much the view can be trusted, and why, changed."""

    change: StatusChange


@dataclass(frozen=True, slots=True)
class ReportFailure:
    """A read failed and will be repeated."""

    error: JamesTronicError


@dataclass(frozen=True, slots=True)
class Resolve:
    """A refresh has been answered; ``error`` is None if it succeeded."""

    token: int
    error: JamesTronicError | None


@dataclass(frozen=True, slots=True)
class Count:
    """Add to a metric."""

    metric: str
    amount: int = 1


Effect = (
    OpenFeed
    | CloseFeed
    | StartRead
    | CancelRead
    | SetTimer
    | ClearTimer
    | Publish
    | ReportStatus
    | ReportFailure
    | Resolve
    | Count
)
