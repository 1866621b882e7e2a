"""The rows and enums of the JamesTronic database, as frozen pydantic models.

Promises:
    A column or an enum value that this version does not know is kept, never an error:
    unknown columns stand in ``model_extra``, unknown enum values arrive as their string.
    Every moment is an aware ``datetime`` in UTC.

Never:
    No I/O, no clock. No customer's data in a ``repr``: models show id, version and status only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, field_validator
from typing_extensions import TypeVar, override

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "NewNote",
    "NewTicket",
    "Note",
    "Profile",
    "Role",
    "Ticket",
    "TicketPatch",
    "TicketPriority",
    "TicketStatus",
]


class Role(StrEnum):
    """What a person may do; column ``profiles.role``."""

    ADMIN = "admin"
    """Sees and does everything, and alone changes roles."""
    STAFF = "staff"
    """Office staff: sees all tickets, creates and assigns them."""
    TECHNICIAN = "technician"
    """Repairs; sees own tickets and the unassigned ones."""
    TRANSPORTER = "transporter"
    """Picks up and delivers; sees the tickets that are theirs to move."""
    CUSTOMER = "customer"
    """Follows own tickets."""


class TicketStatus(StrEnum):
    """Where a repair stands; column ``tickets.status``."""

    OPEN = "open"
    """Reported, nobody is on it."""
    ASSIGNED = "assigned"
    """A technician has it but has not begun."""
    IN_PROGRESS = "in_progress"
    """Being repaired."""
    WAITING_PARTS = "waiting_parts"
    """Stopped until a part arrives."""
    READY = "ready"
    """Repaired; waits for delivery or pick-up."""
    COMPLETED = "completed"
    """With the customer again. Final."""
    CANCELLED = "cancelled"
    """Will not be repaired. Final."""


class TicketPriority(StrEnum):
    """How urgent a ticket is; column ``tickets.priority``."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


def _to_utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""An aware ``datetime``, converted to UTC."""


LAZY: Final = ConfigDict(defer_build=True)
"""For ``TypeAdapter``: build the validator at first use."""


class _Discreet(BaseModel):
    """A model whose printed forms (``repr``, ``str``, rich, devtools) show only what ``_shown`` names."""

    @override
    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(name, getattr(self, name)) for name in self._shown()]

    @override
    def __str__(self) -> str:
        return repr(self)

    def _shown(self) -> tuple[str, ...]:
        return ()


class Row(_Discreet):
    """What all rows share: frozen, and open to columns of a newer database."""

    # Built at first use: building is a third of what importing this package costs.
    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="allow", populate_by_name=True, hide_input_in_errors=True, defer_build=True
    )


_NAMES: list[set[str]] = []
_MOST_NAMES = 8
"""A database's tickets have one set of columns, Realtime's messages perhaps another."""


def share_names(rows: Iterable[Row]) -> None:
    """Let rows with the same columns share pydantic's set of their names, for whoever holds many rows.

    A set of its own is two thirds of a ticket's memory (measured: 3.6 kB with it, 1.3 kB without). A row is
    frozen, so nobody misses it.
    """
    known: set[str] | None = None
    for row in rows:
        names = row.__pydantic_fields_set__
        if names != known:  # a page has one set of columns, so this is rare
            known = next((one for one in _NAMES if one == names), None)
            if known is None:
                known = names
                if len(_NAMES) < _MOST_NAMES:
                    _NAMES.append(names)
        if names is not known:
            object.__setattr__(row, "__pydantic_fields_set__", known)


class Profile(Row):
    """A person: one row of ``profiles``, one per Auth user."""

    id: UUID
    """Primary key; what ``tickets.assigned_technician_id`` and its kin refer to."""
    user_id: UUID | None = None
    """The Auth user (``auth.users.id``); None when that user was deleted or is not shown to you."""
    role: Annotated[Role | str, Field(union_mode="left_to_right")]
    full_name: str = ""
    phone: str | None = None
    is_active: bool = True
    """False: the person can sign in but reads and writes nothing."""
    created_at: Moment | None = None
    updated_at: Moment | None = None

    @override
    def _shown(self) -> tuple[str, ...]:
        return ("id", "role", "is_active")


class Ticket(Row):
    """A repair: one row of ``tickets``."""

    id: UUID
    number: int
    """Running number for people; ``label`` prints it."""
    version: int
    """Rises with every change of the row, in commit order (trigger, one sequence). Not dense."""
    title: str
    description: str = ""
    """What the customer says is wrong."""
    status: Annotated[TicketStatus | str, Field(union_mode="left_to_right")]
    priority: Annotated[TicketPriority | str, Field(union_mode="left_to_right")] = TicketPriority.NORMAL
    customer_id: UUID | None = None
    """``profiles.id`` of the customer."""
    assigned_technician_id: UUID | None = None
    """``profiles.id`` of the technician; None while the ticket is in the unassigned pool."""
    assigned_transporter_id: UUID | None = None
    """``profiles.id`` of the transporter who moves the device."""
    appliance_type: str | None = None
    appliance_brand: str | None = None
    appliance_model: str | None = None
    appliance_serial: str | None = None
    pickup_address: str | None = None
    delivery_address: str | None = None
    scheduled_at: Moment | None = None
    """When the device is moved next."""
    created_by: UUID | None = None
    """``profiles.id`` of who opened the ticket."""
    created_at: Moment
    updated_at: Moment

    @property
    def label(self) -> str:
        """The number as people say it, for example ``JT-1042``."""
        return f"JT-{self.number}"

    @property
    def is_assigned(self) -> bool:
        """Whether a technician has the ticket."""
        return self.assigned_technician_id is not None

    @override
    def _shown(self) -> tuple[str, ...]:
        return ("id", "number", "version", "status")


class Note(Row):
    """What somebody said about a ticket: one row of ``ticket_notes``."""

    id: UUID
    ticket_id: UUID
    author_id: UUID | None = None
    """``profiles.id`` of who wrote it; None for the service, and when the person was erased."""
    body: str
    is_internal: bool = False
    """True: only admins, staff and technicians read it."""
    created_at: Moment
    updated_at: Moment

    @override
    def _shown(self) -> tuple[str, ...]:
        return ("id", "ticket_id", "is_internal")


def _no_nul(value: object) -> object:
    """PostgreSQL's text holds no NUL, and JSON no lone surrogate: refused here, not by the server."""
    if isinstance(value, bytes | bytearray):
        message = "must be text, not bytes"
        raise ValueError(message)  # noqa: TRY004 - pydantic takes this one for a refusal
    if isinstance(value, str):
        if "\x00" in value:
            message = "must not contain a NUL character"
            raise ValueError(message)
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                message = "must not contain a lone surrogate"
                raise ValueError(message) from None
    return value


class _Input(_Discreet):
    """What all inputs share: frozen, strict about names, checked before anything goes over the network."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        str_strip_whitespace=True,
        hide_input_in_errors=True,
        defer_build=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, value: object) -> object:
        return _no_nul(value)

    def to_row(self) -> dict[str, Any]:
        """The columns to write, JSON-ready; what was not given is left out."""
        return self.model_dump(mode="json", exclude_unset=True)


RowT = TypeVar("RowT", bound=Row)
"""Any row."""

TicketT = TypeVar("TicketT", bound=Ticket, default=Ticket)
"""``Ticket``, or a program's subclass of it with columns of its own."""


class NewTicket(_Input):
    """What is needed to open a ticket; checked before anything goes over the network."""

    title: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=10_000)
    priority: TicketPriority = TicketPriority.NORMAL
    customer_id: UUID | None = None
    assigned_technician_id: UUID | None = None
    appliance_type: str | None = Field(default=None, max_length=100)
    appliance_brand: str | None = Field(default=None, max_length=100)
    appliance_model: str | None = Field(default=None, max_length=100)
    appliance_serial: str | None = Field(default=None, max_length=100)
    pickup_address: str | None = Field(default=None, max_length=500)
    delivery_address: str | None = Field(default=None, max_length=500)
    scheduled_at: Moment | None = None

    @override
    def _shown(self) -> tuple[str, ...]:
        return ("priority",)


class TicketPatch(_Input):
    """Changes of plain columns; what is not given stays, None clears.

    Status, technician and transporter are not here: they have commands, which check and lock.
    """

    title: str = Field(default="", min_length=1, max_length=200)
    description: str = Field(default="", max_length=10_000)
    priority: TicketPriority = TicketPriority.NORMAL
    customer_id: UUID | None = None
    appliance_type: str | None = Field(default=None, max_length=100)
    appliance_brand: str | None = Field(default=None, max_length=100)
    appliance_model: str | None = Field(default=None, max_length=100)
    appliance_serial: str | None = Field(default=None, max_length=100)
    pickup_address: str | None = Field(default=None, max_length=500)
    delivery_address: str | None = Field(default=None, max_length=500)
    scheduled_at: Moment | None = None

    @override
    def _shown(self) -> tuple[str, ...]:
        return ()


class NewNote(_Input):
    """What is needed to write a note; checked before anything goes over the network."""

    body: str = Field(min_length=1, max_length=10_000)
    is_internal: StrictBool = False
    """True: only admins, staff and technicians read it."""

    @override
    def _shown(self) -> tuple[str, ...]:
        return ("is_internal",)
