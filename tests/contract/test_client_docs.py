"""The snippets of ``docs/client.md`` and ``docs/errors.md`` do what they say."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from client_people import open_shop

from jamestronic_sdk import JamesTronic, Role
from jamestronic_sdk.local.auth import totp

if TYPE_CHECKING:
    from project import Project

    from jamestronic_sdk import Enrolment

DOCS = Path(__file__).parents[2] / "docs"


def snippets(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)


async def run(code: str, names: dict[str, Any]) -> None:
    """A snippet of the async face, which may await at its top level."""
    made = eval(compile(code, "snippet", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307 - our own text
    if inspect.isawaitable(made):
        await made


async def test_the_snippets_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", project.url)
    monkeypatch.setenv("SUPABASE_KEY", project.anon_key)

    def code_from_the_app(enrolment: Enrolment) -> str:
        return totp.code_at(enrolment.secret, time.time())

    async with open_shop(project) as shop:
        admin = await shop.person(Role.ADMIN)
        technician = await shop.profile_of(await shop.person(Role.TECHNICIAN))
        await shop.service.tickets.create(title="something to read", priority="high")
        names: dict[str, Any] = {
            "EMAIL": admin.email,
            "PASSWORD": admin.password,
            "technician": technician,
            "code_from_the_app": code_from_the_app,
        }
        *ours, blocking = snippets("client.md")
        assert len(ours) == 6
        async with JamesTronic.from_env() as jt:
            names["jt"] = jt
            for code in ours:
                await run(code, names)
            assert names["role"] == "admin"
            for code in snippets("errors.md"):
                await run(code, names)
        assert "jamestronic_sdk.blocking" in blocking
        await asyncio.to_thread(exec, blocking, names)
