"""A raw Realtime client for tests: it says what it is told and shows every frame."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEADLINE = 10.0
"""Seconds for one frame; it takes milliseconds unless something is wrong."""

SUBSCRIBED = "Subscribed to PostgreSQL"


class RawClient:
    """One socket, version 1.0.0."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket

    async def send(
        self, topic: str, event: str, payload: object, ref: str | None = None, join_ref: str | None = None
    ) -> None:
        frame = {"topic": topic, "event": event, "payload": payload, "ref": ref}
        await self.websocket.send(json.dumps(frame if join_ref is None else {**frame, "join_ref": join_ref}))

    async def text(self) -> str:
        async with asyncio.timeout(DEADLINE):
            text = await self.websocket.recv()
        assert isinstance(text, str)
        return text

    async def frame(self) -> dict[str, Any]:
        """The next frame, whatever it is."""
        frame: dict[str, Any] = json.loads(await self.text())
        assert set(frame) == {"topic", "event", "payload", "ref"}
        return frame

    async def change(self) -> dict[str, Any]:
        """The data of the next frame, which must be a change."""
        frame = await self.frame()
        assert frame["event"] == "postgres_changes", frame
        assert frame["ref"] is None
        data: dict[str, Any] = frame["payload"]["data"]
        return data

    async def system(self) -> dict[str, Any]:
        """The payload of the next frame, which must be a system message."""
        frame = await self.frame()
        assert frame["event"] == "system", frame
        assert frame["ref"] is None
        payload: dict[str, Any] = frame["payload"]
        return payload

    async def heartbeat(self) -> None:
        """Everything sent before was read and answered: nothing else is under way on this socket."""
        await self.send("phoenix", "heartbeat", {}, ref="hb")
        assert await self.frame() == {
            "topic": "phoenix",
            "event": "phx_reply",
            "payload": {"status": "ok", "response": {}},
            "ref": "hb",
        }

    async def join(
        self,
        name: str,
        *bindings: dict[str, Any],
        token: str | None = None,
        ref: str = "1",
        **config: object,
    ) -> dict[str, Any]:
        """Join, and return the payload of the reply."""
        payload: dict[str, Any] = {"config": {**config, "postgres_changes": list(bindings)}}
        if token is not None:
            payload["access_token"] = token
        await self.send(f"realtime:{name}", "phx_join", payload, ref=ref, join_ref=ref)
        frame = await self.frame()
        assert (frame["event"], frame["ref"], frame["topic"]) == ("phx_reply", ref, f"realtime:{name}")
        reply: dict[str, Any] = frame["payload"]
        return reply

    async def subscribe(self, name: str, *bindings: dict[str, Any], token: str | None = None) -> list[int]:
        """Join and wait until the subscription is live; the ids of the bindings."""
        reply = await self.join(name, *bindings, token=token)
        assert reply["status"] == "ok", reply
        assert await self.system() == {
            "channel": name,
            "extension": "postgres_changes",
            "status": "ok",
            "message": SUBSCRIBED,
        }
        return [binding["id"] for binding in reply["response"]["postgres_changes"]]


@asynccontextmanager
async def raw_client(url: str, key: str) -> AsyncIterator[RawClient]:
    """A connected client; ``url`` is that of the server, with scheme http."""
    address = f"{url.replace('http', 'ws', 1)}/websocket?apikey={key}&vsn=1.0.0"
    async with connect(address, max_size=None) as websocket:
        yield RawClient(websocket)


def binding(table: str, event: str = "*", **more: object) -> dict[str, Any]:
    """A binding on a table of schema public."""
    return {"event": event, "schema": "public", "table": table, **more}


ALICE = "aaaaaaaa-0000-4000-8000-000000000001"
BOB = "bbbbbbbb-0000-4000-8000-000000000002"
OWNED = "id int primary key, owner uuid, note text"
OWN_ROWS = (
    "create policy own on public.{} for select to authenticated using "
    "(owner = (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid)"
)


async def changes_until(client: RawClient, fence: str) -> list[dict[str, Any]]:
    """All changes until the row that a test wrote last: an INSERT into the table ``fence``."""
    found: list[dict[str, Any]] = []
    while True:
        data = await client.change()
        if data["table"] == fence:
            return found
        found.append(data)
