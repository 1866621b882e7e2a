"""The dashboard as a program: with a stack of its own, and gone without a trace."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).parents[2]


async def test_it_starts_with_a_stack_of_its_own_and_leaves_no_process() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "examples" / "dashboard"), "--ephemeral", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert process.stdout is not None
    async with asyncio.timeout(90):
        url = None
        async for line in process.stdout:
            if found := re.match(r"Dashboard (\S+)", line.decode()):
                url = found[1]
                break
        assert url is not None
        async with httpx.AsyncClient(headers={"x-dashboard": "1"}) as http:
            assert len((await http.get(f"{url}api/demo")).json()["people"]) >= 5
            entered = await http.post(f"{url}api/sign-in", json={"email": "theo@jamestronic.test"})
            page = f"{url.rstrip('/')}{entered.json()['location']}"
            async with http.stream("GET", f"{page}events", cookies=dict(entered.cookies)) as stream:
                async for text in stream.aiter_text():
                    if "JT-1010" in text:
                        break
                family = psutil.Process(process.pid).children(recursive=True)
                assert family
                # A page is still open.
                process.send_signal(signal.SIGTERM)
                out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"Stopped.\n", b"")
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 20)
    assert alive == []
