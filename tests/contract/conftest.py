"""Fixtures of the contract tests: the stacks, and clients of their Auth server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from conftest_stacks import local_supabase, untouched_supabase
from local_auth_support import Api, stock_client
from project import Project

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from supabase_auth import AsyncGoTrueClient

    from jamestronic_sdk.local.stack import LocalSupabase

__all__ = ["local_supabase", "untouched_supabase"]


@pytest.fixture(scope="session")
def project(request: pytest.FixtureRequest) -> Project:
    """What the client is tested against: the local stack, or the project that the environment names."""
    named = Project.of_environment()
    return named or Project.of_stack(request.getfixturevalue("local_supabase"))


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
