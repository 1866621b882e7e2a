"""The project that the client's contract tests run against: the local stack, or a real one.

A real one is given by ``JAMESTRONIC_TEST_URL``, ``JAMESTRONIC_TEST_ANON_KEY`` and
``JAMESTRONIC_TEST_SERVICE_ROLE_KEY``. The SQL of this package must be applied there, and it must be a project
for tests: people, tickets and notes are made, and only the people are removed again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from jamestronic_sdk.local.stack import LocalSupabase

URL: Final = "JAMESTRONIC_TEST_URL"
ANON_KEY: Final = "JAMESTRONIC_TEST_ANON_KEY"
SERVICE_KEY: Final = "JAMESTRONIC_TEST_SERVICE_ROLE_KEY"


@dataclass(frozen=True)
class Project:
    """Where it is, and its keys."""

    url: str
    anon_key: str = field(repr=False)
    service_role_key: str = field(repr=False)
    stack: LocalSupabase | None = None
    """What runs it; None when somebody else does."""

    @classmethod
    def of_stack(cls, stack: LocalSupabase) -> Project:
        return cls(stack.url, stack.anon_key, stack.service_role_key, stack)

    @classmethod
    def of_environment(cls) -> Project | None:
        """The one that the environment names; None when it names none."""
        if URL not in os.environ:
            return None
        missing = [name for name in (ANON_KEY, SERVICE_KEY) if not os.environ.get(name)]
        if missing:
            pytest.exit(f"{URL} is set, so {' and '.join(missing)} must be set, too", returncode=4)
        return cls(os.environ[URL], os.environ[ANON_KEY], os.environ[SERVICE_KEY])

    @property
    def jwt_secret(self) -> str:
        """What signs its tokens; a test that mints tokens is skipped where only the service knows that."""
        return self.require_stack().jwt_secret

    def require_stack(self) -> LocalSupabase:
        """The stack, for tests that look behind the API."""
        if self.stack is None:
            pytest.skip(f"needs the local stack, and {URL} names another project")
        return self.stack
