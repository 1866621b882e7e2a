"""Local stacks: one for the whole run, and untouched ones."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from jamestronic_sdk.local.auth import passwords
from jamestronic_sdk.local.auth.settings import AuthSettings
from jamestronic_sdk.local.stack import LocalSupabase

if TYPE_CHECKING:
    from collections.abc import Iterator


# Hosted Auth's cost of a hash is 50 ms, and every test makes people and signs them in.
passwords.COST = 4  # type: ignore[misc]  # test_local_passwords.py looks at the real one


@contextmanager
def serving() -> Iterator[LocalSupabase]:
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
        try:
            yield stack
        finally:
            loop.call_soon_threadsafe(stack.stop)
            running.result(timeout=30)


@pytest.fixture(scope="session")
def local_supabase() -> Iterator[LocalSupabase]:
    """The stack of the whole run; tests leave people, tickets and tables of their own in it."""
    with serving() as stack:
        yield stack


@pytest.fixture(scope="module")
def untouched_supabase() -> Iterator[LocalSupabase]:
    """A stack of one module, for tests that look at everything in the database."""
    with serving() as stack:
        yield stack
