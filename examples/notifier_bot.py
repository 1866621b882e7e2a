"""Posts a webhook for each assignment, also for those made while it was down (docs/howto/notify.md).

JT_PASSWORD=demo-password python examples/notifier_bot.py ada@jamestronic.test http://localhost:9000/hook
"""

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import suppress

import httpx

from jamestronic_sdk import JamesTronic, Ticket

SCHEMA = """pragma locking_mode = exclusive;  -- a second bot on this file fails instead of posting twice
create table if not exists seen (ticket text primary key, version integer, technician text);
create table if not exists outbox (id integer primary key, key text unique, body text);"""


class Outbox:
    """What was seen and what is still to be posted; survives the process."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(SCHEMA)
        self._filled = asyncio.Event()

    def look(self, tickets: Iterable[Ticket]) -> None:
        """Queue what is newly assigned, in one transaction; the first board of all is where news begins."""
        with self._db as db:
            db.execute("begin exclusive")
            is_news = db.execute("pragma user_version").fetchone() != (0,)
            db.execute("pragma user_version = 1")
            for ticket in tickets:
                name, who = str(ticket.id), str(ticket.assigned_technician_id or "")
                old = db.execute("select version, technician from seen where ticket = ?", [name]).fetchone()
                if old is None or old[0] < ticket.version:
                    db.execute("replace into seen values (?, ?, ?)", [name, ticket.version, who])
                    if is_news and who and (old is None or old[1] != who):
                        news = [f"{name}:{ticket.version}", json.dumps({"ticket": ticket.label, "to": who})]
                        db.execute("insert into outbox (key, body) values (?, ?)", news)
        self._filled.set()

    async def post_all(self, url: str) -> None:
        """Post in order, for ever; what the receiver refuses for good (4xx) is printed and dropped."""
        async with httpx.AsyncClient(timeout=10) as http:
            while await self._filled.wait():
                if (row := self._db.execute("select key, body from outbox order by id").fetchone()) is None:
                    self._filled.clear()
                    continue
                with suppress(httpx.TransportError):
                    answer = await http.post(url, content=row[1], headers={"Idempotency-Key": row[0]})
                    print(answer.status_code, row[1], flush=True)
                    if answer.status_code < 500 and answer.status_code not in {408, 429}:
                        self._db.execute("delete from outbox where key = ?", [row[0]])
                        continue
                await asyncio.sleep(1)


async def main(email: str, url: str) -> None:
    """Listen before looking at the whole board, so that nothing falls between the two."""
    outbox = Outbox(os.environ.get("OUTBOX", "outbox.sqlite"))
    async with JamesTronic.from_env() as jt, asyncio.TaskGroup() as tasks:
        await jt.auth.sign_in(email=email, password=os.environ["JT_PASSWORD"])
        async with jt.ticket_store() as store, store.events() as events:
            outbox.look(store.tickets.values())
            tasks.create_task(outbox.post_all(url))
            print(f"watching {len(store.tickets)} tickets", flush=True)
            async for event in events:
                outbox.look([event.ticket])
        sys.exit("the session has ended: start me again")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
