"""What a page may ask for: checked JSON in, one call of the live view out."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, TypedDict
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter
from typing_extensions import override

from jamestronic_sdk import TicketPriority

if TYPE_CHECKING:
    from jamestronic_sdk import Ticket

    from .live import Live


class _AsSeen(TypedDict):
    expected_version: int | None
    idempotency_key: UUID


class Command(BaseModel):
    """One wish of a person."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @abstractmethod
    async def carry_out(self, live: Live) -> Ticket:
        """Do it; answers the row after it."""


class Create(Command):
    """Open a ticket."""

    command: Literal["create"]
    title: str
    description: str = ""
    appliance_type: str | None = None
    appliance_brand: str | None = None
    priority: TicketPriority | None = None

    @override
    async def carry_out(self, live: Live) -> Ticket:
        return await live.create(**self.model_dump(exclude={"command"}, exclude_none=True))


class _Change(Command):
    ticket_id: UUID
    version: int | None = None
    """The version that the person saw; another one now is a conflict."""
    key: UUID
    """The same when the page repeats the wish after a lost connection: it is not done twice."""

    def _as_seen(self) -> _AsSeen:
        return {"expected_version": self.version, "idempotency_key": self.key}


class Assign(_Change):
    """Give it to a technician."""

    command: Literal["assign"]
    technician_id: UUID

    @override
    async def carry_out(self, live: Live) -> Ticket:
        return await live.commands.assign(self.ticket_id, self.technician_id, **self._as_seen())


class Unassign(_Change):
    """Put it back into the pool."""

    command: Literal["unassign"]

    @override
    async def carry_out(self, live: Live) -> Ticket:
        return await live.commands.unassign(self.ticket_id, **self._as_seen())


class Claim(_Change):
    """Take it from the pool."""

    command: Literal["claim"]

    @override
    async def carry_out(self, live: Live) -> Ticket:
        return await live.commands.claim(self.ticket_id, **self._as_seen())


class Release(_Change):
    """Give it back to the pool."""

    command: Literal["release"]

    @override
    async def carry_out(self, live: Live) -> Ticket:
        return await live.commands.release(self.ticket_id, **self._as_seen())


class SetStatus(_Change):
    """Move it on."""

    command: Literal["status"]
    status: str

    @override
    async def carry_out(self, live: Live) -> Ticket:
        return await live.commands.set_status(self.ticket_id, self.status, **self._as_seen())


class Schedule(_Change):
    """Have the device moved."""

    command: Literal["schedule"]
    transporter_id: UUID
    at: AwareDatetime

    @override
    async def carry_out(self, live: Live) -> Ticket:
        return await live.commands.schedule_transport(
            self.ticket_id, self.transporter_id, self.at, **self._as_seen()
        )


class Move(_Change):
    """Another time for an own round."""

    command: Literal["move"]
    at: AwareDatetime

    @override
    async def carry_out(self, live: Live) -> Ticket:
        return await live.commands.update(self.ticket_id, scheduled_at=self.at, expected_version=self.version)


AnyCommand = Annotated[
    Create | Assign | Unassign | Claim | Release | SetStatus | Schedule | Move,
    Field(discriminator="command"),
]
COMMANDS: Final[TypeAdapter[AnyCommand]] = TypeAdapter(AnyCommand)
