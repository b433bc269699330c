"""Run a program that ends when the process that started it ends, even by SIGKILL.

Executed by path, without imports of ours: `python -I -S bound.py SIGNAL PARENT UID:GID|- PROGRAM ...`.
The order matters: a change of user clears the death signal, so it comes first; `exec` keeps signal and pid.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Change the user if asked, ask the kernel for the signal, become the program."""
    death_signal, parent, account = signal.Signals(int(argv[0])), int(argv[1]), argv[2]
    if account != "-":
        uid, gid = (int(part) for part in account.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was asked
            sys.exit(1)
    try:
        os.execvpe(argv[3], argv[3:], os.environ)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"FATAL: cannot run {argv[3]}: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
