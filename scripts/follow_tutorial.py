# ruff: noqa: INP001, T201 - a script, no package; and it prints
"""Follow docs/tutorial.md literally, in an empty folder, as a newcomer would; print the transcript.

The wheel of this checkout stands in for the package registry: ``make tutorial`` builds it and runs this.
``--installed`` leaves the installing out and takes this environment: quick enough for a test.

In comments that no reader sees stand ``terminal: NAME`` for the next block (``stays``: its command goes
on), and ``press: Ctrl+C in NAME``.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
DEADLINE = 120.0
"""Seconds for one command, or for one line of output."""

_END = "\x01"
"""Begins the line that a shell prints after a command; the transcript leaves it out."""

INSTALLS = ("python3 -m venv", ". .venv", "pip install", "npm install")

_STEP = re.compile(
    r"<!-- terminal: (?P<terminal>\w+)(?P<stays>, stays)? -->"
    r"|<!-- press: Ctrl\+C in (?P<press>\w+) -->"
    r"|[Ss]ave this as `(?P<file>[\w.]+)`"
    r"|^```(?P<language>sh|python|text)\n(?P<body>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


class StepFailedError(Exception):
    """The page says something else than what happened."""


class Step(NamedTuple):
    """One thing to do or to see."""

    kind: str
    body: str
    terminal: str = ""
    stays: bool = False


def steps(page: str) -> list[Step]:
    """What the page says, in order."""
    found: list[Step] = []
    terminal, file, stays = "first", "", False
    for match in _STEP.finditer(page):
        if match["terminal"]:
            terminal, stays = match["terminal"], bool(match["stays"])
        elif match["press"]:
            found.append(Step("press", "", match["press"]))
        elif match["file"]:
            file = match["file"]
        elif match["language"] == "python":
            found.append(Step("save", match["body"], file))
        else:
            found.append(Step(match["language"], match["body"], terminal, stays))
            stays = False
    return found


class Terminal:
    """A shell, and what it has printed."""

    def __init__(self, name: str, folder: Path, env: dict[str, str]) -> None:
        self.name = name
        self._lines: list[str] = []
        self._seen = 0
        self._grown = threading.Condition()
        self._shell = subprocess.Popen(
            ["bash"],  # noqa: S607 - the reader's own
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            cwd=folder,
            env=env,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._shell.stdout or ():
            with self._grown:
                if not line.startswith(_END) and line != "\n":
                    print(f"{self.name:>8} | {line}", end="", flush=True)
                self._lines.append(line.rstrip())
                self._grown.notify_all()

    def type(self, line: str) -> None:
        """Type a line and Return."""
        if self._shell.stdin is not None:
            self._shell.stdin.write(f"{line}\n")

    def run(self, line: str) -> Path:
        """Run a command to its end; answers the folder in which the shell is then."""
        print(f"{self.name:>8} $ {line}", flush=True)
        self._seen = len(self._lines)
        self.type(line)
        self.type(r'__rc=$?; printf "\n\001%s %s\n" "$__rc" "$PWD"')
        found = self._wait(_END, f"the end of: {line}")
        code, folder = self._lines[found].removeprefix(_END).split(" ", 1)
        if code != "0":
            raise StepFailedError(f"{line!r} ended with {code}")
        return Path(folder)

    def leave_running(self, line: str) -> None:
        """Start a command that stays."""
        print(f"{self.name:>8} $ {line}", flush=True)
        self._seen = len(self._lines)
        self.type(f"exec {line}")

    def see(self, expected: str) -> None:
        """Wait until the lines were printed, in this order; `...` stands for any."""
        for wanted in expected.splitlines():
            if wanted != "...":
                self._seen = 1 + self._wait(wanted, wanted)

    def _wait(self, wanted: str, what: str) -> int:
        """The index of the next line that is, or for a control character begins with, what is wanted."""
        deadline = time.monotonic() + DEADLINE
        with self._grown:
            while True:
                for index in range(self._seen, len(self._lines)):
                    line = self._lines[index]
                    if line == wanted or (wanted == _END and line.startswith(_END)):
                        return index
                if not self._grown.wait(max(0.0, deadline - time.monotonic())):
                    raise StepFailedError(f"{self.name} never showed: {what}")

    def interrupt(self) -> None:
        """Press Ctrl+C."""
        print(f"{self.name:>8} ^C", flush=True)
        os.killpg(self._shell.pid, signal.SIGINT)

    def close(self) -> None:
        """Close the window."""
        if self._shell.stdin is not None:
            self._shell.stdin.close()
        try:
            self._shell.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait()


def environment(wheels: Path | None) -> dict[str, str]:
    """What a newcomer's shell has: nothing of this checkout, but where the wheel is."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SUPABASE_", "JAMESTRONIC_"))
    }
    if wheels is None:
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        kept = "JAMESTRONIC_POSTGREST"
        return env | ({kept: os.environ[kept]} if kept in os.environ else {})
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        env.pop(name, None)
    interpreter = Path(getattr(sys, "_base_executable", sys.executable)).resolve().parent
    own = str(Path(sys.executable).parent)
    rest = [folder for folder in env["PATH"].split(":") if folder != own]
    env["PATH"] = ":".join([str(interpreter), *rest])
    env["PIP_FIND_LINKS"] = f"{wheels} {env.get('PIP_FIND_LINKS', '')}".strip()
    return env


def follow(folder: Path, *, wheels: Path | None, port: int | None) -> None:
    """Do everything that the page says.

    Raises:
        StepFailedError: A command failed, or something else was printed.
    """
    env = environment(wheels)
    page = PAGE.read_text(encoding="utf-8")
    if port is not None:
        page = page.replace("start --detach", f"start --detach --port {port}").replace("54321", str(port))
    terminals: dict[str, Terminal] = {}
    try:
        for step in steps(page):
            if step.kind == "save":
                print(f"{'':>8} + {step.terminal}\n{step.body}", flush=True)
                (folder / step.terminal).write_text(step.body, encoding="utf-8")
                continue
            if step.terminal not in terminals:
                # The first terminal becomes the one that the page calls by a name.
                known = terminals.pop("first", None)
                terminals[step.terminal] = known or Terminal(step.terminal, folder, env)
            without = INSTALLS if wheels is None else ()
            folder = take(step, terminals[step.terminal], without) or folder
    finally:
        for terminal in terminals.values():
            terminal.close()


def take(step: Step, terminal: Terminal, without: tuple[str, ...]) -> Path | None:
    """Take a step in its terminal; answers the folder that it led to."""
    folder: Path | None = None
    match step.kind:
        case "press":
            terminal.interrupt()
        case "text":
            terminal.see(step.body)
        case _ if step.stays:
            terminal.leave_running(step.body.strip())
        case _:
            for line in step.body.strip().splitlines():
                if not line.startswith(without):
                    folder = terminal.run(line)
    return folder


def main() -> int:
    """Answer 0 when the page is right."""
    parser = argparse.ArgumentParser(description="Follow docs/tutorial.md literally.")
    parser.add_argument("--installed", action="store_true", help="install nothing: take this environment")
    parser.add_argument("--wheels", type=Path, default=ROOT / "dist", help="where the wheel is")
    parser.add_argument("--port", type=int, help="another port than the page's")
    chosen = parser.parse_args()
    began = time.monotonic()
    # Started in the background by a shell this program ignores Ctrl+C, and so would the terminals.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="tutorial-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            follow(folder, wheels=None if chosen.installed else chosen.wheels.resolve(), port=chosen.port)
        except StepFailedError as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
    print(f"Every step did what the page says, in {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
