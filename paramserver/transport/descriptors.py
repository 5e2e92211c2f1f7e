"""How near this process is to its limit of open files.

Rule 1: at the limit it is too late. libzmq 4.3 ends the *process* when it finds no descriptor for
        a connection over ipc, and spins for as long as there is none over tcp. So whoever listens
        stops listening while there still is room.
Rule 2: half of the limit is kept free. After a pause of the master's every worker connects anew,
        and for a moment each connection is there twice.
Rule 3: nothing is counted: POSIX gives out the lowest free number, so a new descriptor tells.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import Final

_FOR_GREETINGS: Final = 16
"""Connections beyond the last that is let in: whoever is refused has to be told so."""


def most_descriptors() -> int:
    """Return the limit of open files (the soft one) now."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**31 if limit == resource.RLIM_INFINITY else limit


def is_short(newest: int) -> bool:
    """Say whether a descriptor just given out lies in the half that is kept free."""
    return newest >= most_descriptors() // 2


def is_short_now(any_open: int) -> bool:
    """Say whether the next descriptor would lie in the half that is kept free.

    Parameters
    ----------
    any_open : int
        Any open descriptor; a copy of it is made and closed at once.
    """
    try:
        newest = os.dup(any_open)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        raise
    os.close(newest)
    return is_short(newest)


def room_for_connections() -> int:
    """Say how many connections a listener of this process may take before it stops listening."""
    newest = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.close(newest)
    return max(1, most_descriptors() // 2 - newest - _FOR_GREETINGS)
