"""Local stacks: one for the whole run, and untouched ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jamestronic_sdk import testing
from jamestronic_sdk.local.auth import passwords
from jamestronic_sdk.local.auth.settings import AuthSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from jamestronic_sdk.local.stack import LocalSupabase


# Hosted Auth's cost of a hash is 50 ms, and every test makes people and signs them in.
passwords.COST = 4  # type: ignore[misc]  # test_local_passwords.py looks at the real one


def serving() -> AbstractContextManager[LocalSupabase]:
    """The plugin's stack, open to phone numbers, anonymous users and a provider."""
    auth = AuthSettings(is_phone_enabled=True, is_anonymous_enabled=True, local_providers=("local", "github"))
    return testing.serving(auth=auth)


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
