"""A crowd of Realtime subscribers in a process of its own, and the writer whose changes they count.

``everybody_sees_everything`` starts it: the order is a JSON object on stdin, the findings are one on stdout.
The sockets are bare asyncio protocols: a websocket library would cost more than the server that is measured.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import statistics
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import psycopg

from jamestronic_sdk.local.tokens import make_jwt

if TYPE_CHECKING:
    from jamestronic_sdk.local.stack import LocalSupabase

_LIVE = b"Subscribed to PostgreSQL"
_RECORD = b'"record":{"id":'


@dataclass(frozen=True)
class Order:
    """What the crowd does."""

    url: str
    """Of the gateway."""
    key: str
    database_url: str
    table: str
    tokens: list[str] = field(repr=False)
    """One subscriber each; empty texts for those without."""
    rate: float
    """Changes per second."""
    duration: float
    """Seconds."""
    patience: float
    """Seconds that the last frame may take."""
    server: int
    """Process whose costs are told: the one that serves."""


class Subscriber(asyncio.Protocol):
    """One socket: joins, then notes when each change came, and whether they came in order."""

    def __init__(self, order: Order, token: str) -> None:
        self._order = order
        self._token = token
        self._buffer = bytearray()
        self._is_open = False
        self.live: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.arrivals: list[tuple[int, float]] = []
        self.is_in_order = True
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET /realtime/v1/websocket?apikey={self._order.key}&vsn=1.0.0 HTTP/1.1\r\nHost: localhost\r\n"
            f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.live.done():
            self.live.set_exception(exc or ConnectionError("closed"))

    def _send(self, event: str, topic: str, payload: dict[str, Any]) -> None:
        assert self._transport is not None
        frame = {"topic": topic, "event": event, "payload": payload, "ref": "1", "join_ref": "1"}
        data = json.dumps(frame).encode()
        # Masked, as a client's frames are; with zeros, which change nothing.
        self._transport.write(b"\x81\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data)

    def beat(self) -> None:
        """The server closes who says nothing for a minute."""
        self._send("heartbeat", "phoenix", {"padding": "x" * 60})

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._buffer += data
        if not self._is_open:
            head, separator, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not separator:
                return
            assert head.startswith(b"HTTP/1.1 101"), head[:60]
            self._is_open, self._buffer = True, bytearray(rest)
            binding = {"event": "INSERT", "schema": "public", "table": self._order.table}
            payload: dict[str, Any] = {"config": {"postgres_changes": [binding]}}
            if self._token:
                payload["access_token"] = self._token
            self._send("phx_join", "realtime:crowd", payload)
        at = 0
        buffer = self._buffer
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            if len(buffer) < start + size:
                break
            self._note(buffer, start, start + size, now)
            at = start + size
        del buffer[:at]

    def _note(self, buffer: bytearray, start: int, end: int, now: float) -> None:
        found = buffer.find(_RECORD, start, end)
        if found >= 0:
            found += len(_RECORD)
            number = int(buffer[found : buffer.index(b",", found)])
            if self.arrivals and number <= self.arrivals[-1][0]:
                self.is_in_order = False
            self.arrivals.append((number, now))
        elif not self.live.done() and buffer.find(_LIVE, start, end) >= 0:
            self.live.set_result(None)


def cpu_seconds(process: psutil.Process) -> float:
    """What it has used so far, of all cores."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def run(order: Order) -> dict[str, Any]:
    """Connect, write at the pace, wait for the last frame; what was found."""
    loop = asyncio.get_running_loop()
    address = urlsplit(order.url)
    crowd: list[Subscriber] = []
    for token in order.tokens:
        _, subscriber = await loop.create_connection(
            lambda token=token: Subscriber(order, token), address.hostname, address.port
        )
        crowd.append(subscriber)
        await subscriber.live
    committed: dict[int, float] = {}
    server = psutil.Process(order.server)
    cpu_before = cpu_seconds(server)
    began = time.monotonic()
    async with await psycopg.AsyncConnection.connect(order.database_url, autocommit=True) as connection:
        total = round(order.rate * order.duration)
        for at in range(total):
            await asyncio.sleep(max(0.0, began + at / order.rate - time.monotonic()))
            await connection.execute(f"insert into {order.table} (id, note) values (%s, 'a change')", [at])
            committed[at] = time.monotonic()
            if at % 500 == 250:
                for each in crowd:
                    each.beat()
    wrote_for = time.monotonic() - began
    deadline = time.monotonic() + order.patience
    while time.monotonic() < deadline and any(len(each.arrivals) < total for each in crowd):  # noqa: ASYNC110 - polls
        await asyncio.sleep(0.1)
    took = time.monotonic() - began
    delays = sorted((moment - committed[number]) * 1000 for each in crowd for number, moment in each.arrivals)
    complete = [each for each in crowd if [number for number, _ in each.arrivals] == list(range(total))]
    return {
        "subscribers": len(crowd),
        "changes": total,
        "wrote_for": wrote_for,
        "frames": len(delays),
        "lost": len(crowd) * total - len(delays),
        "complete": len(complete),
        "in_order": all(each.is_in_order for each in crowd),
        "p50": statistics.median(delays) if delays else None,
        "p95": delays[int(len(delays) * 0.95)] if delays else None,
        "max": delays[-1] if delays else None,
        "cpu": (cpu_seconds(server) - cpu_before) / took,
        "memory": server.memory_info().rss // (1 << 20),
    }


# Everybody is another person, who sees their own rows and everybody's: the policy is asked for each of them.
_POLICY = (
    "alter table public.{0} enable row level security;"
    "create policy own on public.{0} for select to authenticated"
    " using (owner is null or owner = (select auth.uid()))"
)


async def everybody_sees_everything(
    stack: LocalSupabase,
    table: str,
    *,
    subscribers: int,
    rate: float,
    duration: float,
    has_rls: bool,
    cores: set[int] | None = None,
) -> dict[str, Any]:
    """What a crowd at a new table found.

    Args:
        stack: It runs in this process, whose costs are told.
        table: Its name; it is dropped in the end.
        subscribers: How many.
        rate: Changes per second.
        duration: Seconds.
        has_rls: Whether each has claims of their own, that a policy looks at.
        cores: The crowd's; None = as they are.
    """
    async with await psycopg.AsyncConnection.connect(
        stack.context.dsn("supabase_admin"), autocommit=True
    ) as connection:
        await connection.execute(
            f"create table public.{table} (id int primary key, owner uuid, note text);"
            f"grant select on public.{table} to anon, authenticated;"
            f"alter publication supabase_realtime add table public.{table}"
        )
        if has_rls:
            await connection.execute(_POLICY.format(table))
        order = Order(
            url=stack.url,
            key=stack.anon_key,
            database_url=stack.context.dsn("supabase_admin"),
            table=table,
            tokens=[_token(stack) if has_rls else "" for _ in range(subscribers)],
            rate=rate,
            duration=duration,
            patience=60,
            server=os.getpid(),
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        if cores is not None:
            os.sched_setaffinity(process.pid, cores)
        output, _ = await process.communicate(json.dumps(vars(order)).encode())
        assert process.returncode == 0
        await connection.execute(f"drop table public.{table}")
    found: dict[str, Any] = json.loads(output)
    return found


def _token(stack: LocalSupabase) -> str:
    claims = {"sub": str(uuid.uuid4()), "role": "authenticated", "exp": int(time.time()) + 3600}
    return make_jwt(stack.jwt_secret, claims)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Order(**json.load(sys.stdin))))))
