# %% [markdown]
# # Ticket flow and sync latency
# Open it in Jupyter or VS Code (its cells begin with `# %%`), or run it: `python examples/report.py 30`.
# It needs `SUPABASE_URL`, `SUPABASE_KEY`, `JT_EMAIL` and `JT_PASSWORD` of an admin or a member of staff.

# %%
"""A report on the flow of tickets and the speed of the live store, as a notebook of percent cells."""

import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import matplotlib.pyplot as plt

from jamestronic_sdk import Ticket, TicketEvent, TicketStatus
from jamestronic_sdk.blocking import JamesTronic

SECONDS = float(sys.argv[1]) if sys.argv[1:2] and sys.argv[1].isdigit() else 30.0


# %% [markdown]
# All tickets, and every change of the next seconds with the time from its commit to our knowledge.


# %%
def collect() -> tuple[list[Ticket], list[TicketEvent]]:
    """Read everything once, then listen."""
    seen: list[TicketEvent] = []
    with JamesTronic.from_env() as jt:
        jt.auth.sign_in(email=os.environ["JT_EMAIL"], password=os.environ["JT_PASSWORD"])
        with jt.ticket_store() as store:
            store.wait_for(lambda now: now.status != "connecting")
            store.subscribe(seen.append)
            print("listening", flush=True)
            Event().wait(SECONDS)
            return list(store.tickets.values()), seen


# A notebook's own thread runs an event loop, where blocking calls are refused: hence another thread.
with ThreadPoolExecutor(1) as thread:
    tickets, events = thread.submit(collect).result()

# %%
opened = Counter(ticket.created_at.date() for ticket in tickets)
finished = Counter(t.updated_at.date() for t in tickets if t.status == TicketStatus.COMPLETED)
days = sorted(opened | finished)
by_source = {
    source: [event.latency * 1000 for event in events if event.source == source and event.latency is not None]
    for source in sorted({event.source for event in events})
}
print(f"{len(tickets)} tickets, {sum(finished.values())} completed, {len(events)} changes in {SECONDS:g} s")
for source, latencies in by_source.items():
    if latencies:
        print(f"{source}: {len(latencies)} changes, median {sorted(latencies)[len(latencies) // 2]:.0f} ms")

# %%
figure, (flow, speed) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
flow.bar([str(day) for day in days], [opened[day] for day in days], label="opened")
flow.bar([str(day) for day in days], [-finished[day] for day in days], label="completed")
flow.set(title="Ticket flow by day", ylabel="tickets")
flow.legend()
for source, latencies in by_source.items():
    speed.ecdf(latencies, label=source) if latencies else None
speed.set(title="From commit to event", xlabel="ms", ylabel="share of changes")
speed.legend() if by_source else None
figure.savefig("report.png")  # pyright: ignore[reportUnknownMemberType] - PathLike without its type
print("report.png")
