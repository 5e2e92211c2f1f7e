"""The file by which an ipc socket is found: hidden, shown and removed without ZeroMQ's knowledge.

Rule 1: who is connected does not notice; only who would connect looks for the file.
Rule 2: a file of the same name that a successor has made is left alone.
Rule 3: that somebody has removed the file, or its folder, is no error: then nobody finds it.
"""

from __future__ import annotations

import os
from typing import Final

_HIDDEN_SUFFIX: Final = ".hidden"


class SocketFile:
    """The file of one bound socket.

    Parameters
    ----------
    path : str
        Where it is.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = _identity(path)
        self._is_hidden = False

    def hide(self) -> None:
        """Let nobody find it."""
        if not self._is_hidden:
            self._is_hidden = True
            _rename(self._path, self._path + _HIDDEN_SUFFIX)

    def show(self) -> None:
        """Let it be found again."""
        if self._is_hidden:
            self._is_hidden = False
            _rename(self._path + _HIDDEN_SUFFIX, self._path)

    def remove(self) -> None:
        """Remove it, which libzmq 4.3 does not do."""
        for path in (self._path, self._path + _HIDDEN_SUFFIX):
            if self._identity is not None and _identity(path) == self._identity:
                os.unlink(path)
        self._identity = None


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _rename(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        return
