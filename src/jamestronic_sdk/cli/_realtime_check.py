"""Realtime, step by step: handshake, join, the server's word that it replicates, a private topic.

Frames are made here, not by the live store's connection: that one hides each step behind the next try.

Never:
    No key or token in what is found.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from urllib.parse import quote

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from jamestronic_sdk._clock import SYSTEM_CLOCK
from jamestronic_sdk._redact import scrub

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

__all__ = ["Finding", "RealtimeProbe"]

_WAKE: Final = 20.0
"""Seconds that a cold project may take to begin replication."""

_NEWEST: Final = "Apply {file}: `jamestronic sql export`, then `npx supabase db push`."


@dataclass(frozen=True, slots=True)
class Finding:
    """One row for ``doctor``."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    next_step: str | None = None


class _StepFailed(Exception):  # noqa: N818 - not an error that leaves this module
    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.detail)
        self.finding = finding


class RealtimeProbe:
    """One connection that goes as far as it gets.

    Args:
        url: The project's address.
        key: Its key.
        token: The access token; None for nobody.
        patience: Seconds for each answer.
    """

    def __init__(self, url: str, key: str, token: str | None, patience: float) -> None:
        self._address: Final = (
            f"ws{url.removeprefix('http')}/realtime/v1/websocket?apikey={quote(key)}&vsn=1.0.0"
        )
        self._token: Final = token
        self._patience: Final = patience

    async def run(self, private_topic: str | None) -> list[Finding]:
        """Go through the steps; the first failure is the last row."""
        found: list[Finding] = []
        try:
            async with connect(
                self._address, open_timeout=self._patience, close_timeout=1.0, max_size=2**20
            ) as socket:
                found.append(Finding("realtime", "ok", "The connection is accepted."))
                await self._replication(socket, found)
                if private_topic is not None:
                    found.append(await self._private(socket, private_topic))
        except _StepFailed as step:
            found.append(step.finding)
        except InvalidStatus as error:
            status = error.response.status_code
            advice = (
                "Check that the key is this project's."
                if status in {401, 403}
                else "Realtime is down: see the project's status; until then stores poll."
            )
            found.append(Finding("realtime", "fail", f"It refuses with status {status}.", advice))
        except (OSError, TimeoutError, WebSocketException) as error:
            what = "broke off" if found else "can't be opened"
            found.append(
                Finding(
                    "realtime",
                    "fail",
                    f"The connection {what} ({type(error).__name__}).",
                    "Check that proxies and firewalls let WebSockets through; until then stores poll.",
                )
            )
        return found

    async def _replication(self, socket: ClientConnection, found: list[Finding]) -> None:
        topic = f"realtime:jamestronic_doctor_{int(SYSTEM_CLOCK.wall() * 1000)}"
        table = {"event": "*", "schema": "public", "table": "tickets"}
        reply = await self._join(socket, topic, {"postgres_changes": [table]})
        if reply.get("status") != "ok":
            raise _StepFailed(
                Finding(
                    "join", "fail", f"A channel is refused: {_reason(reply)}.", "See the Realtime settings."
                )
            )
        found.append(Finding("join", "ok", "A channel is joined."))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(self._patience, _WAKE)):
                while True:
                    frame = await self._frame(socket)
                    payload = _as_object(frame.get("payload"))
                    is_word = (
                        frame.get("event") == "system" and payload.get("extension") == "postgres_changes"
                    )
                    if not is_word:
                        continue
                    if payload.get("status") == "ok":
                        found.append(Finding("changes", "ok", "The server replicates public.tickets."))
                        return
                    raise _StepFailed(
                        Finding(
                            "changes",
                            "fail",
                            f"The server does not replicate: {_said(payload.get('message'))}.",
                            _NEWEST.format(file="040_realtime.sql (the publication must have tickets)"),
                        )
                    )
        raise _StepFailed(
            Finding(
                "changes",
                "fail",
                "The server did not say that it replicates.",
                "Check that the publication supabase_realtime has public.tickets (040_realtime.sql).",
            )
        )

    async def _private(self, socket: ClientConnection, topic: str) -> Finding:
        try:
            reply = await self._join(socket, f"realtime:{topic}", {"private": True})
        except TimeoutError:
            reply = {"response": {"reason": "no answer"}}
        if reply.get("status") == "ok":
            return Finding("topic", "ok", "The person's private topic is open to them.")
        return Finding(
            "topic",
            "warn",
            f"The private topic is refused ({_reason(reply)}): lost tickets are noticed by polling.",
            _NEWEST.format(file="070_broadcast.sql"),
        )

    async def _join(self, socket: ClientConnection, topic: str, config: dict[str, Any]) -> dict[str, Any]:
        """Join a channel and answer the reply's payload."""
        whole: dict[str, Any] = {
            "broadcast": {"ack": False, "self": False},
            "presence": {"key": "", "enabled": False},
            "postgres_changes": [],
            "private": False,
            **config,
        }
        payload: dict[str, Any] = {"config": whole}
        if self._token is not None:
            payload["access_token"] = self._token
        frame = {"topic": topic, "event": "phx_join", "payload": payload, "ref": topic, "join_ref": topic}
        await socket.send(json.dumps(frame))
        async with asyncio.timeout(self._patience):
            while True:
                answer = await self._frame(socket)
                if answer.get("event") == "phx_reply" and answer.get("ref") == topic:
                    return _as_object(answer.get("payload"))

    @staticmethod
    async def _frame(socket: ClientConnection) -> dict[str, Any]:
        try:
            return _as_object(json.loads(await socket.recv()))
        except ValueError:
            return {}


def _as_object(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _reason(reply: dict[str, Any]) -> str:
    return _said(_as_object(reply.get("response")).get("reason"))


def _said(text: object) -> str:
    """The server's words, in one line, without what looks like a secret."""
    return scrub(str(text or "no reason given").strip().splitlines()[0])[:200].rstrip(".")
