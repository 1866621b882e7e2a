"""A local stack in a process of its own: in ours it would compete for the interpreter with what is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM = """
import asyncio, json
from jamestronic_sdk.local.stack import LocalSupabase

async def main():
    async with LocalSupabase(port=0) as stack:
        names = ("url", "anon_key", "service_role_key", "database_url")
        print(json.dumps({name: getattr(stack, name) for name in names}), flush=True)
        await stack.wait()

asyncio.run(main())
"""


@dataclass(frozen=True)
class Stack:
    """Where it is, and its keys."""

    url: str
    anon_key: str
    service_role_key: str
    database_url: str


@contextmanager
def serving() -> Iterator[Stack]:
    """The stack, for as long as the block lasts."""
    with subprocess.Popen([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        assert process.stdout is not None
        try:
            yield Stack(**json.loads(process.stdout.readline()))
        finally:
            process.terminate()
            process.wait(30)
