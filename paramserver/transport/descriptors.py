"""How near this process is to its limit of open files.

Rule 1: at the limit it is too late. libzmq 4.3 ends the *process* when it finds no descriptor for
        a connection over ipc, and spins for as long as there is none over tcp.
Rule 2: whoever lets workers in, by name, stops at half of the limit and says so; this is the last
        defence below that, at three quarters, and it cannot speak.
Rule 3: nothing is counted: POSIX gives out the lowest free number, so a new descriptor tells.
"""

from __future__ import annotations

import errno
import os
import resource


def most_descriptors() -> int:
    """Return the limit of open files (the soft one) now."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**31 if limit == resource.RLIM_INFINITY else limit


def next_descriptor(any_open: int) -> int:
    """Return the number that the next descriptor would get; the limit where there is none left.

    Parameters
    ----------
    any_open : int
        Any open descriptor; a copy of it is made and closed at once.
    """
    try:
        newest = os.dup(any_open)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return most_descriptors()
        raise
    os.close(newest)
    return newest


def is_scarce(newest: int) -> bool:
    """Say whether a descriptor lies in the last quarter: nobody else may connect."""
    return newest >= most_descriptors() * 3 // 4
