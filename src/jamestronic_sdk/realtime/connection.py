"""The socket that the stores of a client share: counted by who holds channels on it.

Promises:
    The first holder opens the socket, the last one closes it at once and waits until it is gone. Somebody who
    comes while it is being closed gets a new one, after that.

Never:
    No socket of its own: ``supervisor.py`` keeps it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from jamestronic_sdk.realtime.supervisor import Memory, Supervisor

if TYPE_CHECKING:
    from jamestronic_sdk.realtime.channels import Channel
    from jamestronic_sdk.realtime.supervisor import ConnectionParts, Member

__all__ = ["Connection"]


class Connection:
    """The socket that the stores of a client share; there is one as long as somebody holds a channel."""

    def __init__(self, parts: ConnectionParts) -> None:
        self._parts: Final = parts
        self._memory: Final = Memory()
        self._supervisor: Supervisor | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_in_use(self) -> bool:
        """Whether somebody holds a channel."""
        return self._supervisor is not None

    def hold(self, member: Member, channel: Channel) -> None:
        """Be told of a channel from now on; its state is told before this returns.

        Raises:
            ClientClosedError: The client is not open.
        """
        supervisor = self._supervisor
        if supervisor is None or self._task is None or self._task.done():
            supervisor = Supervisor(self._parts, self._memory, self._task)
            self._task = self._parts.spawn(supervisor.run(), "jamestronic-realtime")
            self._supervisor = supervisor
        supervisor.add(member, channel)

    def drop(self, member: Member, channel: Channel) -> None:
        """Be told of it no more; the channel is left when nobody else holds it."""
        if self._supervisor is not None:
            self._supervisor.remove(member, channel)

    async def leave(self, member: Member) -> None:
        """Drop everything; when nobody is left, this waits until the socket is gone."""
        supervisor, task = self._supervisor, self._task
        if supervisor is None or task is None:
            return
        supervisor.forget(member)
        if supervisor.has_members:
            return
        self._supervisor = None
        task.cancel()
        await asyncio.wait([task])
