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
import time
from collections.abc import Callable
from typing import Final

_LOOK_EVERY_S: Final = 1.0
_LOOK_EVERY_WHILE_SCARCE_S: Final = 0.25


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


class RoomWatch:
    """Keeps an eye on whether there is room for more connections.

    Parameters
    ----------
    any_open : int
        A descriptor that is open as long as this is used.
    on_change : callable
        Told whether descriptors have become scarce, or are so no more.

    Attributes
    ----------
    look_at_s : float
        When `look` wants to be called, by time.monotonic.
    is_scarce : bool
    """

    def __init__(self, any_open: int, on_change: Callable[[bool], None]) -> None:
        self.is_scarce = False
        self.look_at_s = time.monotonic() + _LOOK_EVERY_S
        self._any_open = any_open
        self._on_change = on_change

    def look(self) -> None:
        """Look at what number the next descriptor would get."""
        self.note(next_descriptor(self._any_open))

    def note(self, newest: int) -> None:
        """Take note of a new descriptor's number."""
        scarce = is_scarce(newest)
        wait_s = _LOOK_EVERY_WHILE_SCARCE_S if scarce else _LOOK_EVERY_S
        self.look_at_s = time.monotonic() + wait_s
        if scarce is not self.is_scarce:
            self.is_scarce = scarce
            self._on_change(scarce)
