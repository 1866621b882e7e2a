"""Passwords of the local Auth: hashed as hosted Auth hashes them. The contract tests use a cheaper cost."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import asyncio
from jamestronic_sdk.local.auth import passwords

async def main():
    hashed = await passwords.hash_password("correct horse")
    print(hashed[:7], await passwords.is_right("correct horse", hashed), await passwords.is_right("wrong", hashed))

asyncio.run(main())
"""


def test_a_hash_has_hosted_auths_spelling_and_cost() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["$2a$10$", "True", "False"]
