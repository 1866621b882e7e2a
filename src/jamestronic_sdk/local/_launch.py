"""Runs as a program: become another user, die with the parent, then become the command.

A program and not a ``preexec_fn``, because Python code between fork and exec is not safe in a process with
threads; and not ``subprocess``'s ``user=``, because the kernel forgets the parent-death signal when a process
changes its user, so the order below matters. Standard library only: it is started with ``-I -S``.

Usage: ``python -I -S _launch.py PARENT_PID UID GID SIGNAL COMMAND...`` (UID and GID empty: stay who you are).
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Do what the module says; does not return."""
    parent, uid, gid, death_signal, *command = sys.argv[1:]
    if uid:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        # Sent when the *thread* that forked us ends: asyncio forks in the thread of its event loop.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal))
    if os.getppid() != int(parent):  # it died before the line above
        sys.exit("the supervisor is gone")
    os.execv(command[0], command)  # noqa: S606 - the caller gives the absolute path of a program it chose


if __name__ == "__main__":
    main()
