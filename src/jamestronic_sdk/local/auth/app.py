"""The Auth server as an aiohttp application: its endpoints, one table, and what wraps them all.

Promises:
    Every answer outside 2xx is an error body with a code; what hosted Auth has and this one has not is a 501.
    A request takes no longer than ``AuthSettings.request_timeout``.

Never:
    No e-mail, password or token in a log: failures are logged by type and place.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import psycopg
from aiohttp import web
from psycopg_pool import PoolTimeout

from jamestronic_sdk.local.auth import (
    account,
    administration,
    audit,
    information,
    invitations,
    mfa,
    oauth,
    otp,
    sign_in,
    sign_up,
    verify,
)
from jamestronic_sdk.local.auth.errors import AuthApiProblem, Problem, problem_response
from jamestronic_sdk.local.auth.grants import AuthServer
from jamestronic_sdk.local.auth.limits import Limits
from jamestronic_sdk.local.auth.mailbox import Mailbox
from jamestronic_sdk.local.auth.requests import origin
from jamestronic_sdk.local.auth.settings import AuthSettings
from jamestronic_sdk.local.pools import make_pool

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from jamestronic_sdk.local.context import LocalContext

__all__ = ["MAILBOX", "make_app"]

_LOG: Final = logging.getLogger("jamestronic_sdk.local.auth")

MAILBOX: Final[web.AppKey[Mailbox]] = web.AppKey("mailbox", Mailbox)
"""Where the application keeps its mailbox."""

Endpoint: TypeAlias = Callable[[web.Request, AuthServer], Awaitable[web.StreamResponse]]

_ENDPOINTS: Final[tuple[tuple[str, str, Endpoint], ...]] = (
    ("GET", "/health", information.health),
    ("GET", "/settings", information.settings),
    ("GET", "/.well-known/jwks.json", information.jwks),
    ("POST", "/signup", sign_up.sign_up),
    ("POST", "/otp", otp.otp),
    ("POST", "/magiclink", otp.magic_link),
    ("POST", "/recover", otp.recover),
    ("POST", "/resend", otp.resend),
    ("GET", "/reauthenticate", otp.reauthenticate),
    ("GET", "/verify", verify.verify_by_link),
    ("POST", "/verify", verify.verify_by_request),
    ("POST", "/token", sign_in.token),
    ("POST", "/logout", sign_in.log_out),
    ("GET", "/authorize", oauth.authorize),
    ("GET", "/callback", oauth.callback),
    ("GET", "/_local/provider", oauth.show_page),
    ("POST", "/_local/provider", oauth.answer_page),
    ("GET", "/user", account.get_user),
    ("PUT", "/user", account.put_user),
    ("POST", "/factors", mfa.enroll),
    ("DELETE", "/factors/{factor_id}", mfa.unenroll),
    ("POST", "/factors/{factor_id}/challenge", mfa.challenge),
    ("POST", "/factors/{factor_id}/verify", mfa.verify),
    ("GET", "/admin/users/{user_id}/factors", mfa.admin_list),
    ("PUT", "/admin/users/{user_id}/factors/{factor_id}", mfa.admin_update),
    ("DELETE", "/admin/users/{user_id}/factors/{factor_id}", mfa.admin_delete),
    ("GET", "/user/identities/authorize", account.refuse_linking),
    ("DELETE", "/user/identities/{identity_id}", account.refuse_linking),
    ("POST", "/sso", sign_in.refuse_saml),
    ("GET", "/admin/audit", audit.list_entries),
    ("POST", "/invite", invitations.invite),
    ("POST", "/admin/generate_link", invitations.generate_link),
    ("POST", "/admin/users", administration.create),
    ("GET", "/admin/users", administration.list_page),
    ("GET", "/admin/users/{user_id}", administration.get),
    ("PUT", "/admin/users/{user_id}", administration.update),
    ("DELETE", "/admin/users/{user_id}", administration.delete),
)

MISSING: Final[tuple[tuple[str, str], ...]] = (
    ("GET", "/.well-known/openid-configuration"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("POST", "/callback"),
    ("GET", "/user/oauth/grants"),
    ("DELETE", "/user/oauth/grants"),
    ("GET", "/passkeys"),
    ("*", "/passkeys/{rest:.*}"),
    ("*", "/sso/{rest:.*}"),
    ("*", "/oauth/{rest:.*}"),
    ("*", "/scim/{rest:.*}"),
    ("*", "/admin/users/{user_id}/passkeys"),
    ("*", "/admin/users/{user_id}/passkeys/{rest:.*}"),
    ("*", "/admin/sso/{rest:.*}"),
    ("*", "/admin/oauth/{rest:.*}"),
    ("*", "/admin/custom-providers"),
    ("*", "/admin/custom-providers/{rest:.*}"),
)
"""Endpoints of hosted Auth that are not here: they say so, instead of a 404 that reads like a wrong URL."""


def make_app(context: LocalContext, settings: AuthSettings | None = None) -> web.Application:
    """The server, with routes at ``/``; it opens its database connections when the application starts.

    Args:
        context: Addresses and secrets of the instance.
        settings: Limits and switches; None means those of a hosted project.
    """
    chosen = settings or AuthSettings()
    server = AuthServer(
        context=context,
        settings=chosen,
        pool=make_pool(
            context.dsn("supabase_auth_admin", application_name="auth"),
            "auth",
            min_size=1,
            max_size=chosen.pool_size,
            timeout=chosen.request_timeout,
        ),
        mailbox=Mailbox(chosen.mailbox_limit),
        provider=oauth.LocalProvider(),
        limits=Limits(is_on=chosen.is_rate_limited),
    )
    app = web.Application(middlewares=[_problems(chosen.request_timeout)])
    app[MAILBOX] = server.mailbox
    app.cleanup_ctx.append(_pool_of(server))
    for method, path, endpoint in _ENDPOINTS:
        app.router.add_route(method, path, _bound(endpoint, server, f"{method} {path}"))
    for method, path in MISSING:
        app.router.add_route(method, path, _missing(path))
    return app


def _bound(endpoint: Endpoint, server: AuthServer, name: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        server.limits.check_request(name, origin(request).ip)
        return await endpoint(request, server)

    return handle


def _missing(path: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        raise Problem.NOT_IMPLEMENTED.error(
            f"The local Auth server does not have {request.method} {path.replace('{rest:.*}', '*')} yet"
        )

    return handle


def _pool_of(server: AuthServer) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(_app: web.Application) -> AsyncIterator[None]:
        await server.pool.open()
        try:
            yield
        finally:
            await server.pool.close()

    return run


def _problems(timeout: float) -> Middleware:
    """The boundary: whatever goes wrong becomes an error body."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            async with asyncio.timeout(timeout):
                return await handler(request)
        except AuthApiProblem as problem:
            return problem_response(request, problem)
        except web.HTTPMethodNotAllowed as error:
            refusal = Problem.METHOD_NOT_ALLOWED.error(headers={"Allow": error.headers["Allow"]})
            return problem_response(request, refusal)
        except web.HTTPNotFound:
            return problem_response(request, Problem.NOT_FOUND.error())
        except web.HTTPException:
            raise
        except (TimeoutError, PoolTimeout):
            return problem_response(request, Problem.REQUEST_TIMEOUT.error())
        except Exception as error:  # noqa: BLE001 - the boundary of a server; the type and place are logged
            _log_failure(request, error)
            return problem_response(request, Problem.UNEXPECTED_FAILURE.error())

    return answer


def _log_failure(request: web.Request, error: Exception) -> None:
    """Neither the error's text nor the URL: both may name a person."""
    frames = traceback.extract_tb(error.__traceback__)
    place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    route = request.match_info.route.resource
    _LOG.error(
        "%s %s failed: %s, SQLSTATE %s, at %s",
        request.method,
        route.canonical if route is not None else "(no route)",
        type(error).__name__,
        state,
        place,
    )
