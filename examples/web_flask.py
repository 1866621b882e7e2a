"""The office's board as a Flask application: pages come from a live store in memory, not from the database.

One client and one store per process, made at the first request: after a pre-forking server has forked.

    eval "$(jamestronic local env)"
    JT_EMAIL=ada@jamestronic.test JT_PASSWORD=demo-password flask --app examples/web_flask.py run
"""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack
from functools import cache
from typing import Any

from flask import Flask, abort, request

from jamestronic_sdk import JamesTronicError, NotFoundError, Role
from jamestronic_sdk.blocking import JamesTronic, TicketStore

app = Flask(__name__)


@cache
def office() -> tuple[JamesTronic, TicketStore]:
    """The process's client and live store, signed in as a member of staff; closed when the process ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    jt = stack.enter_context(JamesTronic.from_env())
    jt.auth.sign_in(email=os.environ["JT_EMAIL"], password=os.environ["JT_PASSWORD"])
    return jt, stack.enter_context(jt.ticket_store())


@app.get("/")
def board() -> dict[str, Any]:
    """The open work, and how fresh the picture is: no request to the database."""
    _, store = office()
    return {
        "freshness": store.freshness.kind,
        "unassigned": [f"{ticket.label} {ticket.title}" for ticket in store.tickets.unassigned],
    }


@app.post("/assign/<label>")
def assign(label: str) -> dict[str, Any]:
    """Give a ticket to a technician; ``ConflictError`` when somebody was faster."""
    jt, store = office()
    ticket = next((ticket for ticket in store.tickets.values() if ticket.label == label), None)
    people = jt.profiles.list(role=Role.TECHNICIAN, is_active=True)
    person = next((person for person in people if person.full_name == request.form["technician"]), None)
    if ticket is None or person is None:
        abort(404)
    done = jt.tickets.assign(ticket, person, expected_version=ticket.version)
    return {"label": done.label, "status": done.status, "version": done.version}


@app.errorhandler(JamesTronicError)
def explain(error: JamesTronicError) -> tuple[dict[str, Any], int]:
    """Every error of the SDK is one line without secrets; those of the data API carry an HTTP status."""
    status = 404 if isinstance(error, NotFoundError) else getattr(error, "status", None) or 503
    return {"error": str(error)}, status
