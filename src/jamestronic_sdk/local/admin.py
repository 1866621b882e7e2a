"""``/_local``: what only a local stack has. The gateway asks for the service key.

``GET /mailbox``, ``GET | DELETE /faults``, ``POST | DELETE /faults/{name}``, ``POST /reset``, ``POST /save``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from jamestronic_sdk.errors import BadRequestError, JamesTronicError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from jamestronic_sdk.local.faults import Faults

__all__ = ["Switchboard", "make_app"]


@dataclass(frozen=True, slots=True)
class Switchboard:
    """What can be asked of a running stack."""

    faults: Faults
    mailbox: Callable[[str | None], list[dict[str, Any]]]
    """What Auth has sent, to one address or to all."""
    reset: Callable[[], Coroutine[Any, Any, bool]]
    """Back to the baseline; whether connections survived."""
    save: Callable[[], Coroutine[Any, Any, None]]
    """Make the present state the baseline."""


_BOARD: Final[web.AppKey[Switchboard]] = web.AppKey("board", Switchboard)


def make_app(board: Switchboard) -> web.Application:
    """The endpoints.

    Args:
        board: What does it.
    """
    app = web.Application(middlewares=[_problems])
    app[_BOARD] = board
    app.router.add_get("/mailbox", _mailbox)
    app.router.add_get("/faults", _list_faults)
    app.router.add_delete("/faults", _clear)
    app.router.add_post("/faults/{name}", _inject)
    app.router.add_delete("/faults/{name}", _clear)
    app.router.add_post("/reset", _reset)
    app.router.add_post("/save", _save)
    return app


@web.middleware
async def _problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except BadRequestError as error:
        return web.json_response({"code": error.code, "message": error.message}, status=400)
    except JamesTronicError as error:
        return web.json_response({"code": "failed", "message": str(error)}, status=500)


async def _mailbox(request: web.Request) -> web.Response:
    messages = request.app[_BOARD].mailbox(request.query.get("to"))
    return web.json_response({"messages": messages}, headers={"Cache-Control": "no-store"})


async def _list_faults(request: web.Request) -> web.Response:
    return web.json_response({"faults": request.app[_BOARD].faults.active()})


async def _inject(request: web.Request) -> web.Response:
    try:
        body: Any = await request.json() if request.body_exists else {}
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise BadRequestError("The body must be a JSON object with the fault's parameters.", code="bad_json")
    given: dict[str, object] = {**body}
    return web.json_response(await request.app[_BOARD].faults.inject(request.match_info["name"], given))


async def _clear(request: web.Request) -> web.Response:
    return web.json_response({"cleared": request.app[_BOARD].faults.clear(request.match_info.get("name"))})


async def _reset(request: web.Request) -> web.Response:
    return web.json_response({"is_connected": await request.app[_BOARD].reset()})


async def _save(request: web.Request) -> web.Response:
    await request.app[_BOARD].save()
    return web.json_response({})
