"""Becomes another program that dies with its supervisor.

Run by path with `python -I -S child.py <supervisor pid> <signal> <user or -> <command…>`: standard
library only, and nothing stays of it after the exec.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def _become(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def main(argv: list[str]) -> None:
    """Drops the user's rights, ties the process to its supervisor, and turns into the command."""
    supervisor, signal_number, user, *command = argv
    if user != "-":
        _become(user)
    if sys.platform == "linux":
        # After the change of user: the kernel forgets the wish when credentials change.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
    if os.getppid() != int(supervisor):
        sys.exit("the supervisor has gone")
    os.execvp(command[0], command)  # noqa: S606  (no shell is the point)


if __name__ == "__main__":
    main(sys.argv[1:])
