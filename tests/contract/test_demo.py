"""The main job runs as `make demo` runs it, and says what it promises."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
ENV = {**os.environ, "NO_COLOR": "1", "TERM": "dumb"}


async def start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(DEMO)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=ENV,
    )


async def test_the_demo_ends_with_every_side_showing_what_the_database_says() -> None:
    process = await start()
    async with asyncio.timeout(110):
        out, err = (stream.decode() for stream in await process.communicate())
    assert process.returncode == 0, out + err
    assert "Every side ended with exactly what the database says." in out
    for said in ("TicketAssigned", "TicketUnassigned", "now polling", "by poll", "by realtime"):
        assert said in out
    assert out.count("connecting → live → polling → live") == 3


async def test_an_interrupted_demo_leaves_no_process() -> None:
    process = await start()
    assert process.stdout is not None
    async with asyncio.timeout(60):
        async for line in process.stdout:
            if b"The admin assigns" in line:
                break
        family = psutil.Process(process.pid).children(recursive=True)
        # Not SIGINT: a program whose parent was started in the background inherits to ignore it.
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 20)
    assert alive == []
    assert process.returncode != 0
