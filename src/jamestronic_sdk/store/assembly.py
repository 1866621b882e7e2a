"""Puts a TicketStore together from the client's parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jamestronic_sdk.errors import ConfigurationError
from jamestronic_sdk.realtime.channels import (
    OVERVIEW_CHANNEL,
    POOL_TOPIC,
    Channel,
    TableBinding,
    Transport,
    own_channel,
    person_topic,
)
from jamestronic_sdk.realtime.connection import Connection
from jamestronic_sdk.realtime.feed import Feed
from jamestronic_sdk.realtime.link import Link
from jamestronic_sdk.realtime.supervisor import ConnectionParts
from jamestronic_sdk.settings import checked_timeout
from jamestronic_sdk.store.driver import Changes
from jamestronic_sdk.store.protocol import EngineConfig, Removal
from jamestronic_sdk.store.store import StoreParts, TicketStore
from jamestronic_sdk.store.views import ViewKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk._http import Core
    from jamestronic_sdk.auth import Auth
    from jamestronic_sdk.models import Ticket, TicketT
    from jamestronic_sdk.realtime.feed import FeedSignal
    from jamestronic_sdk.realtime.link import LinkListener
    from jamestronic_sdk.store.views import View
    from jamestronic_sdk.tickets import Tickets

__all__ = ["assemble_store"]

_LINK_TIMEOUT: Final = 15.0
"""Seconds for handshake and join; the hosted service may take that long to wake a project."""


class _TicketsReader:
    """``driver.Reader`` over the data API."""

    def __init__(self, tickets: Tickets[Any]) -> None:
        self._tickets = tickets

    async def read_view(self, view: View) -> Sequence[Ticket]:
        """Every row of the view."""
        match view.kind:
            case ViewKind.OVERVIEW:
                return await self._tickets.fetch_all(status=view.statuses, technician=view.technician_id)
            case ViewKind.TECHNICIAN:
                return await self._tickets.fetch_all(
                    technician=view.profile_id, or_unassigned=view.includes_pool
                )
            case ViewKind.TRANSPORTER:
                return await self._tickets.fetch_all(transporter=view.profile_id)
            case ViewKind.CUSTOMER:
                return await self._tickets.fetch_all(customer=view.profile_id)

    async def read_changes(self, cursor: str | None) -> Changes:
        """What changed for the signed-in person, all pages together."""
        found = await self._tickets.changes(cursor)
        return Changes(
            is_snapshot=found.kind == "snapshot",
            upserts=found.upserts,
            removed=tuple(Removal(gone.id, gone.version, gone.deleted) for gone in found.removed),
            cursor=found.cursor,
        )

    async def read_digest(self) -> tuple[int, int]:
        """Count and XOR over what the signed-in person may see."""
        found = await self._tickets.digest()
        return found.count, int(found.digest, 16)

    async def read_versions(self) -> Sequence[tuple[UUID, int]]:
        """Id and version of all that the signed-in person may see."""
        return await self._tickets.versions()

    async def read_ids(self, ticket_ids: Sequence[UUID]) -> Sequence[Ticket]:
        """Those rows that the signed-in person may see."""
        return await self._tickets.get_many(ticket_ids)


def _channel_name(view: View, clock: Clock) -> str:
    if view.profile_id is None:
        return OVERVIEW_CHANNEL
    prefix = "tech" if view.kind is ViewKind.TECHNICIAN else view.kind.value
    return own_channel(prefix, view.profile_id, int(clock.wall() * 1000))


def _topics(view: View, own: View | None) -> tuple[Channel, ...]:
    """The private topics that together tell the signed-in person of all that the view may show.

    None where nobody is signed in: the database lets a service key into any topic, also into those that
    nobody ever speaks on, so that being let in proves nothing.
    """
    if own is None:
        return ()
    if own.profile_id is None:
        return (Channel(OVERVIEW_CHANNEL, is_private=True),)
    names = [person_topic(own.profile_id)]
    if own.kind is ViewKind.TECHNICIAN and (view.includes_pool or not own.is_of_same_person(view)):
        names.append(POOL_TOPIC)
    return tuple(Channel(name, is_private=True) for name in names)


def _connection(core: Core, auth: Auth) -> Connection:
    """The client's socket, which all its stores share."""

    def open_link(listener: LinkListener) -> Link:
        settings = core.settings
        url = f"{settings.url}/realtime/v1"
        return Link(url, settings.key.get_secret_value(), listener, timeout=_LINK_TIMEOUT)

    if core.connection is None:
        core.connection = Connection(
            ConnectionParts(
                open_link=open_link,
                access_token=auth.access_token,
                on_token=auth.on_token,
                on_wake=core.sleep_watch.on_wake,
                spawn=core.spawn,
                clock=core.clock,
                rng=core.rng,
            )
        )
    return core.connection


def _checked_transport(transport: str, topics: tuple[Channel, ...]) -> Transport:
    try:
        wanted = Transport(transport)
    except ValueError:
        names = ", ".join(Transport)
        raise ConfigurationError(f"transport must be one of {names}.") from None
    if wanted is Transport.BROADCAST and not topics:
        raise ConfigurationError(
            "transport broadcast needs a signed-in person: private topics are theirs.",
            next_step="Sign in, or leave transport away.",
        )
    return wanted


def assemble_store(
    *,
    view: View,
    own: View | None,
    core: Core,
    auth: Auth,
    tickets: Tickets[TicketT],
    model: type[TicketT],
    transport: str,
    poll_interval: float,
    live_interval: float | None,
    background_delay: float,
    ready_timeout: float | None,
    read_timeout: float,
) -> TicketStore:
    """A store that is not entered yet; for the arguments see ``JamesTronic.ticket_store``.

    ``own``: the view that follows the signed-in role; None when nobody is. Only where ``view`` is of the same
    person, the change log, which speaks of all that this person may see, is worth asking.
    """
    waits = {
        "poll_interval": poll_interval,
        "live_interval": live_interval,
        "background_delay": background_delay,
        "ready_timeout": ready_timeout,
        "read_timeout": read_timeout,
    }
    for name, value in waits.items():
        checked_timeout(value, name)
    if live_interval is None:
        # Views that lose tickets without an event keep polling while live, so that no loss lasts longer.
        live_interval = poll_interval if view.has_silent_leave else 2 * poll_interval
    topics = _topics(view, own if auth.is_signed_in else None)
    wanted = _checked_transport(transport, topics)
    if wanted is Transport.POSTGRES_CHANGES and own is not None and own.profile_id is None:
        topics = ()  # admins and staff are told everything without
    changes = Channel(_channel_name(view, core.clock), tables=(TableBinding("tickets"),))
    feeds: list[Feed] = []

    def make_feed(report: Callable[[FeedSignal], None]) -> Feed:
        feeds[:] = [
            Feed(_connection(core, auth), changes=changes, topics=topics, transport=wanted, report=report)
        ]
        return feeds[0]

    return TicketStore(
        view,
        StoreParts(
            reader=_TicketsReader(tickets),
            tickets=tickets,
            make_feed=make_feed,
            # Where nobody was signed in, whoever signs in is somebody else.
            on_token=auth.on_token
            if auth.is_signed_in
            else lambda callback: auth.on_token(lambda _: callback(None)),
            on_wake=core.sleep_watch.on_wake,
            model=model,
            clock=core.clock,
            rng=core.rng,
            transport=lambda: feeds[0].transport if feeds else None,
        ),
        config=EngineConfig(
            poll_interval=poll_interval,
            live_interval=live_interval,
            background_delay=background_delay,
            is_sync_wanted=own is not None and own.is_of_same_person(view),
        ),
        ready_timeout=ready_timeout,
        read_timeout=read_timeout,
    )
