"""``/authorize`` and ``/callback``: signing in with a provider, and the one provider that is here.

The provider is called ``local``, and answers in the name of others when the settings say so. It stands in
for Google, GitHub and the like, so that a program's way through OAuth, with PKCE or without, can be walked on
one machine. Its page asks who you are and believes it; ``login_hint=<address>`` on ``/authorize`` answers the
page without a browser. Every other provider is refused, as hosted Auth refuses one that is not switched on.

Promises:
    The way through Auth is hosted Auth's: state, redirects, errors, linking by verified address.

Never:
    No request leaves the machine; the provider's tokens are good for nothing.
"""

from __future__ import annotations

import html
import secrets
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, LiteralString
from urllib.parse import parse_qs, urlencode

import psycopg
from aiohttp import web
from psycopg.rows import class_row

from jamestronic_sdk.local.auth.callers import parse_uuid
from jamestronic_sdk.local.auth.errors import AuthApiProblem, Problem
from jamestronic_sdk.local.auth.flows import begin_flow, make_challenge
from jamestronic_sdk.local.auth.information import OFF_PROVIDERS
from jamestronic_sdk.local.auth.redirects import redirect_target, with_fragment, with_query
from jamestronic_sdk.local.auth.requests import audience, lower_email, origin, read_bytes
from jamestronic_sdk.local.auth.settings import DEFAULT_ROLE
from jamestronic_sdk.local.auth.sign_up import check_sign_up_allowed, creation_problem
from jamestronic_sdk.local.auth.user_changes import (
    confirm_email,
    drop_other_identities,
    insert_identity,
    insert_user,
    merge_metadata,
    sync_providers,
    update_identity,
)
from jamestronic_sdk.local.auth.users import (
    find_user_by_any_email,
    find_user_by_id,
    find_user_by_identity,
)
from jamestronic_sdk.local.auth.verify import OAUTH_ERRORS, with_session

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = ["LocalProvider", "Profile", "answer_page", "authorize", "callback", "show_page"]

_CODES_LIMIT: Final = 1000
_NAMESPACE: Final = uuid.UUID("8f0a4c0e-3a55-5d0e-9a2c-6c1f9d0a7b11")
"""Of the provider's subjects: the same address is the same person, in every instance."""

LOCK_FLOW: Final[LiteralString] = """
select
  id,
  user_id,
  provider_type as provider,
  auth_code,
  coalesce(code_challenge, '') <> '' as is_pkce,
  coalesce(referrer, '') as referrer,
  created_at + make_interval(secs => %(lifetime)s) < clock_timestamp() as is_expired
from auth.flow_state
where id = %(id)s and authentication_method = 'oauth'
for update
"""

FINISH_FLOW: Final[LiteralString] = """
update auth.flow_state
set
  user_id = %(user_id)s,
  provider_access_token = %(token)s,
  provider_refresh_token = %(refresh_token)s,
  auth_code_issued_at = clock_timestamp(),
  updated_at = clock_timestamp()
where id = %(id)s
"""

DELETE_FLOW: Final[LiteralString] = "delete from auth.flow_state where id = %(id)s"

PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Local provider</title>
<h1>Local provider</h1>
<p>For development only: it believes whoever you say you are.</p>
<form method="post">
<input type="hidden" name="state" value="{state}">
<p><label>Email address <input type="email" name="email" required autofocus></label>
<p><label>Name <input name="name"></label>
<p><button name="answer" value="allow">Sign in</button>
<button name="answer" value="deny" formnovalidate>Cancel</button>
</form>
"""


@dataclass(frozen=True, slots=True)
class Profile:
    """Whom the provider knows."""

    email: str = field(repr=False)
    name: str = field(repr=False)

    @property
    def subject(self) -> str:
        """The provider's id of the person."""
        return str(uuid.uuid5(_NAMESPACE, self.email))


class LocalProvider:
    """The provider's memory: who has signed in there, by the code that Auth is to exchange."""

    def __init__(self) -> None:
        self._codes: Final[OrderedDict[str, Profile]] = OrderedDict()

    def issue(self, profile: Profile) -> str:
        """A code for somebody, good once."""
        code = secrets.token_urlsafe(24)
        self._codes[code] = profile
        if len(self._codes) > _CODES_LIMIT:
            self._codes.popitem(last=False)
        return code

    def exchange(self, code: str) -> Profile | None:
        """Who it was issued for; None when there is no such code, or no more."""
        return self._codes.pop(code, None)


@dataclass(frozen=True, slots=True)
class _Flow:
    id: uuid.UUID
    user_id: uuid.UUID | None
    provider: str
    auth_code: str | None
    is_pkce: bool
    referrer: str
    is_expired: bool


# --- Auth's side -----------------------------------------------------------------------------------------


async def authorize(request: web.Request, server: AuthServer) -> web.Response:
    """``GET /authorize``: a redirect to the provider."""
    query = request.query
    provider = query.get("provider", "")
    if provider not in server.settings.local_providers:
        is_known = provider in OFF_PROVIDERS
        reason = "provider is not enabled" if is_known else "Provider could not be found"
        raise Problem.VALIDATION_FAILED.error(f"Unsupported provider: {reason}")
    challenge = make_challenge(query.get("code_challenge", ""), query.get("code_challenge_method", ""))
    async with server.pool.connection() as connection:
        flow = await begin_flow(
            connection,
            provider=provider,
            method="oauth",
            challenge=challenge,
            referrer=redirect_target(request, server.settings),
        )
    asked = {"state": str(flow.id)}
    if query.get("login_hint"):
        asked["login_hint"] = query["login_hint"]
    return _redirect(f"{server.context.url}/auth/v1/_local/provider?{urlencode(asked)}")


async def callback(request: web.Request, server: AuthServer) -> web.Response:
    """``GET /callback``: the provider's answer; a redirect to the application."""
    try:
        flow = await _flow_of(request, server)
    except AuthApiProblem as problem:
        return _redirect(with_query(server.settings.site_url, _error(problem)), status=303)
    target = flow.referrer or server.settings.site_url
    denial = request.query.get("error", "")
    if denial:
        members = {"error": denial, "error_description": request.query.get("error_description", "")}
        return _redirect(with_fragment(with_query(target, members), members))
    try:
        code = request.query.get("code", "")
        if not code:
            raise Problem.BAD_OAUTH_CALLBACK.error()
        profile = server.provider.exchange(code)
        if profile is None:
            raise Problem.UNEXPECTED_FAILURE.error("Unable to exchange external code")
        return _redirect(await _sign_in(request, server, flow, profile, target))
    except AuthApiProblem as problem:
        members = _error(problem)
        return _redirect(with_fragment(with_query(target, members), members))


async def _flow_of(request: web.Request, server: AuthServer) -> _Flow:
    state = request.query.get("state", "")
    if not state:
        raise Problem.BAD_OAUTH_CALLBACK.error("OAuth state parameter missing")
    async with server.pool.connection() as connection:
        flow = await _lock_flow(connection, server, parse_uuid(state))
    if flow is None:
        raise Problem.BAD_OAUTH_STATE.error()
    if flow.is_expired:
        raise Problem.BAD_OAUTH_STATE.error("OAuth state has expired")
    return flow


async def _lock_flow(
    connection: AsyncConnection, server: AuthServer, flow_id: uuid.UUID | None
) -> _Flow | None:
    async with connection.cursor(row_factory=class_row(_Flow)) as cursor:
        await cursor.execute(
            LOCK_FLOW,
            {"id": flow_id, "lifetime": server.settings.flow_lifetime},
        )
        return await cursor.fetchone()


async def _sign_in(
    request: web.Request, server: AuthServer, flow: _Flow, profile: Profile, target: str
) -> str:
    """Where to go with a session in the fragment, or a code in the query."""
    tokens = {
        "provider_token": f"local_{secrets.token_urlsafe(24)}",
        "provider_refresh_token": f"local_{secrets.token_urlsafe(24)}",
    }
    async with server.pool.connection() as connection:
        locked = await _lock_flow(connection, server, flow.id)
        if locked is None or locked.user_id is not None:
            raise Problem.FLOW_STATE_ALREADY_USED.error()
        try:
            user_id = await _account(
                connection, server, profile, provider=locked.provider, aud=audience(request)
            )
        except psycopg.DatabaseError as error:
            raise creation_problem(error, Problem.EMAIL_EXISTS, "Database error saving new user") from None
        if locked.is_pkce and locked.auth_code is not None:
            await connection.execute(
                FINISH_FLOW,
                {
                    "id": locked.id,
                    "user_id": user_id,
                    "token": tokens["provider_token"],
                    "refresh_token": tokens["provider_refresh_token"],
                },
            )
            return with_query(target, {"code": locked.auth_code})
        session = await server.open_session(connection, user_id, method="oauth", origin=origin(request))
        await connection.execute(DELETE_FLOW, {"id": locked.id})
    return with_session(target, session, tokens)


async def _account(
    connection: AsyncConnection, server: AuthServer, profile: Profile, *, provider: str, aud: str
) -> uuid.UUID:
    """The user of the provider's person: known, linked by the address, or new."""
    data: dict[str, Any] = {
        "iss": f"{server.context.url}/auth/v1/_local/provider",
        "sub": profile.subject,
        "provider_id": profile.subject,
        "name": profile.name,
        "full_name": profile.name,
        "email": profile.email,
        "email_verified": True,
        "phone_verified": False,
    }
    user = await find_user_by_identity(connection, provider=provider, provider_id=profile.subject)
    if user is not None:
        user_id = user.id
        await update_identity(connection, provider=provider, provider_id=profile.subject, identity_data=data)
    else:
        user = await find_user_by_any_email(connection, profile.email, aud=aud)
        if user is None:
            check_sign_up_allowed(server)
            user_id = uuid.uuid4()
            await insert_user(
                connection,
                user_id=user_id,
                aud=aud,
                role=DEFAULT_ROLE,
                email=profile.email,
                encrypted_password=None,
                user_metadata=data,
                identity=(provider, profile.subject, data),
            )
        else:
            user_id = user.id
            await insert_identity(
                connection,
                user_id,
                provider=provider,
                provider_id=profile.subject,
                identity_data=data,
            )
    if user is not None and user.is_banned:
        raise Problem.BANNED_WITH_TOKEN.error()
    await merge_metadata(connection, user_id, user=data)
    user = await find_user_by_id(connection, user_id)
    if user is None or user.email_confirmed_at is None:
        # Whoever signed up with the address without confirming it loses it to whom it belongs to.
        await drop_other_identities(connection, user_id, provider=provider)
        await confirm_email(connection, user_id)
    await sync_providers(connection, user_id)
    return user_id


def _error(problem: AuthApiProblem) -> dict[str, str]:
    code = problem.code or "unexpected_failure"
    is_denial = code in {"signup_disabled", "user_banned"}
    return {
        "error": "access_denied" if is_denial else OAUTH_ERRORS.get(problem.status, "server_error"),
        "error_code": code,
        "error_description": problem.message,
    }


def _redirect(location: str, *, status: int = 302) -> web.Response:
    return web.Response(status=status, headers={"Location": location})


# --- the provider's side ---------------------------------------------------------------------------------


async def show_page(request: web.Request, server: AuthServer) -> web.Response:
    """``GET /_local/provider``: the form, or with a ``login_hint`` the answer of somebody who just agrees."""
    state, hint = request.query.get("state", ""), request.query.get("login_hint", "")
    if hint:
        return _agree(server, state, hint, "")
    return web.Response(
        text=PAGE.format(state=html.escape(state)),
        content_type="text/html",
        headers={"Cache-Control": "no-store"},
    )


async def answer_page(request: web.Request, server: AuthServer) -> web.Response:
    """``POST /_local/provider``: back to Auth with a code, or with a refusal."""
    raw = await read_bytes(request, limit=server.settings.body_limit)
    form = {name: values[0] for name, values in parse_qs(raw.decode(errors="replace")).items()}
    state = form.get("state", "")
    if form.get("answer") == "deny":
        return _to_callback(
            server, {"state": state, "error": "access_denied", "error_description": "The user cancelled"}
        )
    return _agree(server, state, form.get("email", ""), form.get("name", ""))


def _agree(server: AuthServer, state: str, email: str, name: str) -> web.Response:
    address = lower_email(email.strip())
    name = name.replace("\0", "").strip() or address.partition("@")[0]
    code = server.provider.issue(Profile(address, name))
    return _to_callback(server, {"state": state, "code": code})


def _to_callback(server: AuthServer, members: dict[str, str]) -> web.Response:
    return _redirect(f"{server.context.url}/auth/v1/callback?{urlencode(members)}", status=303)
