"""One local stack for the whole run, and clients of its Auth server."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from local_auth_support import Api, stock_client

from jamestronic_sdk.local.auth.settings import AuthSettings
from jamestronic_sdk.local.stack import LocalSupabase

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from supabase_auth import AsyncGoTrueClient


@pytest.fixture(scope="session")
def local_supabase() -> Iterator[LocalSupabase]:
    """An ephemeral stack, ready, with the package's SQL, open to phone numbers, anonymous users and a provider.

    It runs in a thread with a loop of its own: a test that blocks (a program that it waits for, the blocking
    face) does not stop the server that it talks to.
    """
    auth = AuthSettings(is_phone_enabled=True, is_anonymous_enabled=True, local_providers=("local", "github"))
    stack = LocalSupabase(port=0, auth=auth)
    started: Future[asyncio.AbstractEventLoop] = Future()

    async def serve() -> None:
        try:
            async with stack:
                started.set_result(asyncio.get_running_loop())
                await stack.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-supabase") as executor:
        running = executor.submit(asyncio.run, serve())
        loop = started.result(timeout=90)
        yield stack
        loop.call_soon_threadsafe(stack.stop)
        running.result(timeout=30)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(local_supabase: LocalSupabase) -> AsyncGenerator[Api]:
    """Raw HTTP to the stack's Auth server."""
    async with httpx.AsyncClient(base_url=f"{local_supabase.url}/auth/v1", timeout=30) as http:

        async def mailbox(to: str) -> list[dict[str, Any]]:
            response = await http.get(
                f"{local_supabase.url}/_local/mailbox",
                params={"to": to},
                headers={"apikey": local_supabase.service_role_key},
            )
            messages: list[dict[str, Any]] = response.json()["messages"]
            return messages

        yield Api(http, local_supabase.context, mailbox)


@pytest_asyncio.fixture(loop_scope="session")
async def client(api: Api) -> AsyncGenerator[AsyncGoTrueClient]:
    async with stock_client(api, api.context.anon_key) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def admin(api: Api) -> AsyncGenerator[AsyncGoTrueClient]:
    async with stock_client(api, api.context.service_role_key) as made:
        yield made
