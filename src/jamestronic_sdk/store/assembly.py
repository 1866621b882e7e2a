"""Puts a TicketStore together from the client's parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jamestronic_sdk.realtime.channels import (
    OVERVIEW_CHANNEL,
    POOL_TOPIC,
    own_channel,
    person_topic,
)
from jamestronic_sdk.realtime.feed import Feed
from jamestronic_sdk.realtime.link import Link, TableBinding
from jamestronic_sdk.settings import checked_timeout
from jamestronic_sdk.store.driver import Changes
from jamestronic_sdk.store.protocol import EngineConfig, Removal
from jamestronic_sdk.store.store import StoreParts, TicketStore
from jamestronic_sdk.store.views import ViewKind

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk.auth import Auth
    from jamestronic_sdk.models import Ticket, TicketT
    from jamestronic_sdk.realtime.feed import FeedSignal
    from jamestronic_sdk.settings import Settings
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
                return await self._tickets.fetch_all()
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

    async def read_ids(self, ticket_ids: Sequence[UUID]) -> Sequence[Ticket]:
        """Those rows that the signed-in person may see."""
        return await self._tickets.get_many(ticket_ids)


def _channel_name(view: View, clock: Clock) -> str:
    if view.profile_id is None:
        return OVERVIEW_CHANNEL
    prefix = "tech" if view.kind is ViewKind.TECHNICIAN else view.kind.value
    return own_channel(prefix, view.profile_id, int(clock.wall() * 1000))


def _private_topics(view: View) -> tuple[str, ...]:
    """The topics that tell the viewer what Postgres Changes does not: that a ticket was lost."""
    if view.profile_id is None:
        return ()
    own = (person_topic(view.profile_id),)
    return (*own, POOL_TOPIC) if view.includes_pool else own


def assemble_store(
    *,
    view: View,
    is_own_view: bool,
    settings: Settings,
    auth: Auth,
    tickets: Tickets[TicketT],
    model: type[TicketT],
    clock: Clock,
    rng: random.Random,
    poll_interval: float,
    live_interval: float | None,
    ready_timeout: float | None,
    read_timeout: float,
) -> TicketStore:
    """A store that is not entered yet; for the arguments see ``JamesTronic.ticket_store``.

    ``is_own_view``: the view is that of the signed-in person's role. Only then is the change log, which
    speaks of all that this person may see, worth asking.
    """
    intervals = {"poll_interval": poll_interval, "live_interval": live_interval, "read_timeout": read_timeout}
    for name, value in (intervals | {"ready_timeout": ready_timeout}).items():
        checked_timeout(value, name)
    if live_interval is None:
        # Views that lose tickets without an event keep polling while live, so that no loss lasts longer.
        live_interval = poll_interval if view.has_silent_leave else 2 * poll_interval
    channel = _channel_name(view, clock)

    def open_link() -> Link:
        return Link(
            f"{settings.url}/realtime/v1",
            settings.key.get_secret_value(),
            channel,
            (TableBinding("tickets"),),
            topics=_private_topics(view) if is_own_view else (),
            timeout=_LINK_TIMEOUT,
        )

    def make_feed(report: Callable[[FeedSignal], None]) -> Feed:
        return Feed(
            open_link=open_link,
            access_token=auth.access_token,
            on_token=auth.on_token,
            report=report,
            clock=clock,
            rng=rng,
        )

    return TicketStore(
        view,
        StoreParts(
            reader=_TicketsReader(tickets),
            make_feed=make_feed,
            on_token=auth.on_token,
            model=model,
            clock=clock,
            rng=rng,
        ),
        config=EngineConfig(
            poll_interval=poll_interval, live_interval=live_interval, is_sync_wanted=is_own_view
        ),
        ready_timeout=ready_timeout,
        read_timeout=read_timeout,
    )
