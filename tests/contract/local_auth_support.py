"""Raw HTTP and stock clients to the local Auth server."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import bcrypt
import httpx
import psycopg
from aiohttp.test_utils import TestServer
from supabase_auth import AsyncGoTrueClient

from jamestronic_sdk.local.auth.app import MAILBOX, make_app
from jamestronic_sdk.local.auth.settings import AuthSettings
from jamestronic_sdk.local.tokens import verify_jwt

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from jamestronic_sdk.local.context import LocalContext

PASSWORD = "correct horse battery"
VERSION = {"X-Supabase-Api-Version": "2024-01-01"}
CHEAP_HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(rounds=4)).decode()
"""Of PASSWORD: a sign-in with it takes a millisecond."""


@dataclass(frozen=True)
class Person:
    id: str
    email: str


@dataclass(frozen=True)
class Api:
    """Raw HTTP to one Auth server, and the database behind it."""

    http: httpx.AsyncClient
    context: LocalContext
    mailbox: Callable[[str], Awaitable[list[dict[str, Any]]]]
    """What was sent to an address or number, oldest first."""

    async def call(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **options: Any
    ) -> httpx.Response:
        headers = dict(VERSION) | options.pop("headers", {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            options["json"] = body
        return await self.http.request(method, path, headers=headers, **options)

    async def admin(self, method: str, path: str, body: object = None, **options: Any) -> httpx.Response:
        return await self.call(method, path, body, token=self.context.service_role_key, **options)

    async def mail(self, to: str, kind: str | None = None) -> dict[str, Any]:
        """The newest message to somebody."""
        messages = await self.mailbox(to)
        assert messages, "no message"
        assert kind in {None, messages[-1]["kind"]}
        return messages[-1]

    async def person(self, **fields: Any) -> Person:
        email = f"{uuid.uuid4().hex}@example.test"
        body = {"email": email, "password_hash": CHEAP_HASH, "email_confirm": True} | fields
        response = await self.admin("POST", "/admin/users", body)
        assert response.status_code == 200, response.text
        return Person(response.json()["id"], email)

    async def sign_in(self, person: Person) -> dict[str, Any]:
        response = await self.call(
            "POST", "/token?grant_type=password", {"email": person.email, "password": PASSWORD}
        )
        assert response.status_code == 200, response.text
        session: dict[str, Any] = response.json()
        return session

    async def refresh(self, refresh_token: str) -> httpx.Response:
        return await self.call("POST", "/token?grant_type=refresh_token", {"refresh_token": refresh_token})

    def claims(self, session: dict[str, Any]) -> dict[str, Any]:
        return verify_jwt(self.context.jwt_secret, session["access_token"])

    @asynccontextmanager
    async def database(self, role: str = "supabase_auth_admin") -> AsyncGenerator[psycopg.AsyncConnection]:
        async with await psycopg.AsyncConnection.connect(
            self.context.dsn(role), autocommit=True
        ) as connection:
            yield connection


@asynccontextmanager
async def server_with(api: Api, settings: AuthSettings) -> AsyncGenerator[Api]:
    """Another Auth server over the same database, with a mailbox of its own."""
    app = make_app(api.context, settings)

    async def mailbox(to: str) -> list[dict[str, Any]]:
        return [message.to_json() for message in app[MAILBOX].read(to)]

    async with (
        TestServer(app) as server,
        httpx.AsyncClient(base_url=str(server.make_url("")), timeout=30) as http,
    ):
        yield replace(api, http=http, mailbox=mailbox)


@asynccontextmanager
async def stock_client(api: Api, key: str, **options: Any) -> AsyncGenerator[AsyncGoTrueClient]:
    client = AsyncGoTrueClient(
        url=str(api.http.base_url).rstrip("/"),
        headers={"apikey": key, "Authorization": f"Bearer {key}"},
        auto_refresh_token=False,
        **options,
    )
    async with client:
        yield client


def refused(response: httpx.Response, status: int, code: str) -> None:
    assert (status, code) == (response.status_code, response.json()["code"]), response.text
    assert code == response.headers["x-sb-error-code"]
    assert response.headers["X-Supabase-Api-Version"] == "2024-01-01"
