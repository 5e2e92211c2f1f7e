"""Whether a process of this machine is stopped (SIGSTOP, a debugger). Linux only.

Rule 1: who cannot be found is not stopped: its end is known by other means.
"""

from __future__ import annotations

from typing import Final

_STOPPED: Final = (b"T", b"t")
"""Stopped by a signal, and by a tracer; see proc(5)."""


def is_stopped(pid: int) -> bool:
    """Say whether a process is stopped, and so runs none of its threads.

    Parameters
    ----------
    pid : int
        0 for one that cannot be seen from here (in another namespace).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read(512)
    except OSError:
        return False
    # The name of the program comes before, and may hold anything, parentheses too.
    return stat.rpartition(b") ")[2][:1] in _STOPPED
