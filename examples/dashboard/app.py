"""The web application: pages, one stream of events per window, and the commands."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from typing_extensions import override

from jamestronic_sdk import JamesTronicError, Role

from .answers import Answer, answer
from .commands import COMMANDS
from .desks import Desk, Desks, FullError, Window
from .security import COOKIE, SecurityHeaders, give_key, is_ours, read_body, take_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

STATIC: Final = Path(__file__).parent / "static"
_PAGES: Final[dict[str, str]] = {
    Role.ADMIN: "board.html",
    Role.STAFF: "board.html",
    Role.TECHNICIAN: "jobs.html",
    Role.TRANSPORTER: "round.html",
    Role.CUSTOMER: "repairs.html",
}
_BAD: Final = Answer(400, "refused", "The page sent something that this server doesn't understand.")
_FOREIGN: Final = Answer(403, "refused", "That request didn't come from this dashboard.")
_FULL: Final = Answer(503, "unavailable", "Too many people are here right now. Please try again later.")
_OUT: Final = Answer(401, "signed-out", "Your session has ended. Please sign in again.")


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """Somebody who signs in with a click."""

    email: str
    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Demo:
    """What only a dashboard on a local stack offers."""

    people: Sequence[DemoPerson] = ()
    password: str = ""
    set_realtime: Callable[[bool], Awaitable[None]] | None = None
    """Cuts Realtime or brings it back; None where that is impossible."""


class _SignIn(BaseModel):
    email: str
    password: str | None = None
    """None: one of the demo's people."""


class _Realtime(BaseModel):
    is_up: bool


class _Events(StreamingResponse):
    """A window's stream of server-sent events."""

    def __init__(self, window: Window) -> None:
        super().__init__(window, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._window: Final = window

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._window:
            await super().__call__(scope, receive, send)


class Dashboard:
    """The requests' handlers.

    Args:
        desks: Entered and left with the application.
        demo: What a local stack offers on top.
    """

    def __init__(self, desks: Desks, demo: Demo) -> None:
        self._desks: Final = desks
        self._demo: Final = demo

    def routes(self) -> list[Route | Mount]:
        """Every address."""
        return [
            Route("/", self.door),
            Route("/api/demo", self.demo_people),
            Route("/api/sign-in", self.sign_in, methods=["POST"]),
            Route("/d/{desk}/", self.page),
            Route("/d/{desk}/events", self.events),
            Route("/d/{desk}/api/command", self.command, methods=["POST"]),
            Route("/d/{desk}/api/realtime", self.realtime, methods=["POST"]),
            Route("/d/{desk}/api/sign-out", self.sign_out, methods=["POST"]),
            Mount("/static", _Static(directory=STATIC)),
        ]

    # --- the door ----------------------------------------------------------------------------------

    async def door(self, _request: Request) -> Response:
        """The page to sign in at."""
        return FileResponse(STATIC / "door.html")

    async def demo_people(self, _request: Request) -> Response:
        """Who may be tried out with a click, and whether Realtime can be cut."""
        people = [{"email": p.email, "name": p.name, "role": p.role} for p in self._demo.people]
        return JSONResponse({"people": people, "can_cut": self._demo.set_realtime is not None})

    async def sign_in(self, request: Request) -> Response:
        """A desk for this browser window."""
        if not is_ours(request):
            return _error(_FOREIGN)
        try:
            asked = _SignIn.model_validate_json(await read_body(request) or b"")
        except ValidationError:
            return _error(_BAD)
        password = asked.password
        if password is None and any(person.email == asked.email for person in self._demo.people):
            password = self._demo.password
        try:
            desk = await self._desks.sign_in(email=asked.email, password=password or "")
        except FullError:
            return _error(_FULL)
        except JamesTronicError as error:
            return _error(answer(error))
        response = JSONResponse({"location": f"/d/{desk.id}/"})
        give_key(response, desk, is_secure=request.url.scheme == "https")
        return response

    # --- a person's pages --------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        """The page of the person's role."""
        desk = self._desk(request)
        if desk is None:
            return RedirectResponse("/?ended", 303)
        return FileResponse(STATIC / _PAGES.get(desk.me.role, "repairs.html"))

    async def events(self, request: Request) -> Response:
        """Everything that happens, until the page goes away."""
        desk = self._desk(request)
        if desk is None:
            # 204 tells the browser's EventSource to stop asking; the page then asks why.
            return Response(status_code=204)
        return _error(_FULL) if desk.is_full else _Events(Window(desk))

    async def command(self, request: Request) -> Response:
        """Carry out what the person wishes; what came of it is told to all windows by their streams."""
        desk = self._desk(request)
        if desk is None or not is_ours(request):
            return _error(_OUT if desk is None else _FOREIGN)
        try:
            wish = COMMANDS.validate_json(await read_body(request) or b"")
        except ValidationError:
            return _error(_BAD)
        try:
            row = await wish.carry_out(desk.live)
        except JamesTronicError as error:
            return _error(answer(error))
        return JSONResponse({"label": row.label, "version": row.version})

    async def realtime(self, request: Request) -> Response:
        """Cut Realtime of the local stack, or bring it back: to see what happens."""
        switch = self._demo.set_realtime

        async def act(desk: Desk, body: bytes) -> None:
            if switch is not None and desk.is_office:
                await switch(_Realtime.model_validate_json(body).is_up)

        return await self._act(request, act)

    async def sign_out(self, request: Request) -> Response:
        """Clear the desk."""

        async def act(desk: Desk, _body: bytes) -> None:
            desk.end()

        desk = self._desk(request)
        response = await self._act(request, act)
        if desk is not None:
            take_key(response, desk.id)
        return response

    async def _act(self, request: Request, act: Callable[[Desk, bytes], Awaitable[None]]) -> Response:
        desk = self._desk(request)
        if desk is None or not is_ours(request):
            return _error(_OUT if desk is None else _FOREIGN)
        try:
            await act(desk, await read_body(request) or b"")
        except ValidationError:
            return _error(_BAD)
        except JamesTronicError as error:
            return _error(answer(error))
        return JSONResponse({})

    def _desk(self, request: Request) -> Desk | None:
        return self._desks.find(request.path_params["desk"], request.cookies.get(COOKIE, ""))


def _error(told: Answer) -> Response:
    return JSONResponse(told.content(), told.status)


class _Static(StaticFiles):
    """Files that a browser keeps, but asks about each time: no build step gives them new names."""

    @override
    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["cache-control"] = "no-cache"
        return response


def make_app(desks: Desks, demo: Demo | None = None, *, hosts: Sequence[str] = ()) -> Starlette:
    """The application.

    Args:
        desks: Entered and left with it.
        demo: What a local stack offers on top.
        hosts: Names besides those of this machine under which it is reached.
    """

    @asynccontextmanager
    async def life(_app: Starlette) -> AsyncGenerator[None]:
        async with desks:
            yield

    return Starlette(
        routes=Dashboard(desks, demo or Demo()).routes(),
        lifespan=life,
        middleware=[
            Middleware(SecurityHeaders),
            # A name that an attacker points at this machine is not believed (DNS rebinding).
            Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", *hosts]),
        ],
    )
