"""One live store per signed-in person, for all browsers; closed by the last sign-out and at shutdown."""
# uvicorn --app-dir examples --timeout-graceful-shutdown 1 web_fastapi:app

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Annotated
from uuid import UUID

from anyio import create_task_group
from anyio.abc import TaskStatus
from fastapi import Body, Cookie, FastAPI, HTTPException, Response
from fastapi.responses import StreamingResponse

from jamestronic_sdk import AuthenticationError, JamesTronic, JamesTronicError, TicketStore

stores: dict[UUID, TicketStore] = {}
browsers: dict[str, UUID] = {}


async def keep(email: str, password: str, *, task_status: TaskStatus[UUID]) -> None:
    """Sign in, and hold the person's store until it is closed: by the last sign-out, or with the session."""
    async with JamesTronic.from_env() as jt:
        me = await jt.auth.sign_in(email=email, password=password)
        async with jt.ticket_store() as store:
            is_first = stores.setdefault(me.profile_id, store) is store  # else this one closes at once
            task_status.started(me.profile_id)
            if is_first:
                with suppress(JamesTronicError):  # a store that fails logs it
                    await store.wait_for(lambda now: now.status == "closed", timeout=None)
                del stores[me.profile_id]
        with suppress(JamesTronicError):  # it may have ended already
            await jt.auth.sign_out()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """The stores live in tasks of the service."""
    async with create_task_group() as app.state.tasks:
        yield
        app.state.tasks.cancel_scope.cancel()


def store_of(browser: str) -> TicketStore:
    """The store of the person whose browser asks."""
    if (store := stores.get(browsers.get(browser, UUID(int=0)))) is None:
        raise HTTPException(401, "sign in first")
    return store


app = FastAPI(lifespan=lifespan)


@app.post("/sign-in")
async def sign_in(email: Annotated[str, Body()], password: Annotated[str, Body()], out: Response) -> None:
    """Give the browser a cookie that stands for the person."""
    try:
        person: UUID = await app.state.tasks.start(keep, email, password)
    except JamesTronicError as error:
        raise HTTPException(401 if isinstance(error, AuthenticationError) else 503, str(error)) from error
    out.set_cookie("browser", browser := secrets.token_urlsafe(), httponly=True, samesite="strict")
    browsers[browser] = person


@app.get("/events")
async def my_events(browser: Annotated[str, Cookie()] = "") -> StreamingResponse:
    """My tickets, and then what happens to them, as server-sent events."""
    events = store_of(browser).events(initial=True)
    lines = (f"event: {type(event).__name__}\ndata: {event.ticket.label}\n\n" async for event in events)
    return StreamingResponse(lines, media_type="text/event-stream")


@app.post("/sign-out")
async def sign_out(browser: Annotated[str, Cookie()] = "") -> None:
    """Forget this browser; the last one of a person closes the store."""
    store, person = store_of(browser), browsers.pop(browser)
    if person not in browsers.values():
        await store.aclose()
