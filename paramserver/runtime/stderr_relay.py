"""Passes on what workers write to their standard error, and keeps the last lines of each.

Rule 1: it never blocks: what the terminal does not take now waits here, within a bound.
Rule 2: at the bound the agent stops reading, so that a flood waits in the worker that makes it.
Rule 3: it writes to a file descriptor and not to `sys.stderr`, which may be any object.
"""

from __future__ import annotations

import os
import select
import time
from typing import Final

_MAX_PENDING_BYTES: Final = 256 << 10
_CAUSE: Final = b"Fatal Python error: "
_MAX_CAUSE_BYTES: Final = 200
_MAX_FLUSH_BYTES: Final = 64 << 10


class StderrRelay:
    """The way from many workers' standard error to one file descriptor.

    Parameters
    ----------
    fd : int
        Where to write; looked at anew each time, so that it may be redirected.

    Attributes
    ----------
    n_dropped_bytes : int
        What could not be written because nobody can read it any more.
    """

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._pending = bytearray()
        self.n_dropped_bytes = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._pending

    @property
    def is_full(self) -> bool:
        """Whether no more should be read before some of it has been written."""
        return len(self._pending) >= _MAX_PENDING_BYTES

    def put(self, data: bytes) -> None:
        """Add what a worker wrote, and write what can be written at once."""
        self._pending += data
        self.flush()

    def flush(self) -> None:
        """Write as much as is taken without waiting, and not so much that it takes long."""
        written = 0
        try:
            while self._pending and written < _MAX_FLUSH_BYTES and self._is_writable():
                # A pipe that is ready takes this many bytes without blocking, not more.
                n = os.write(self._fd, self._pending[: select.PIPE_BUF])
                del self._pending[:n]
                written += n
        except BlockingIOError:
            return
        except OSError:  # closed, or its reader is gone: there is nobody to tell
            self._drop()

    def finish(self, timeout_s: float) -> None:
        """Write what is left, waiting for the reader up to `timeout_s`; drop what it leaves."""
        deadline = time.monotonic() + timeout_s
        while self._pending and self._is_writable(deadline - time.monotonic()):
            self.flush()
        self._drop()

    def _drop(self) -> None:
        self.n_dropped_bytes += len(self._pending)
        self._pending.clear()

    def _is_writable(self, timeout_s: float = 0.0) -> bool:
        try:
            return bool(select.select([], [self._fd], [], max(0.0, timeout_s))[1])
        except (OSError, ValueError):  # it is closed: the write will say so
            return True


class Tail:
    """The last lines of a stream, bounded in lines and bytes.

    The line in which the interpreter says what it died of is kept even where more follows than fits
    (a stack for each thread, a list of modules).
    """

    def __init__(self, n_lines: int = 20, n_bytes: int = 4096) -> None:
        self._n_lines = n_lines
        self._n_bytes = n_bytes
        self._kept = b""
        self._cause = b""
        self._is_cut = False

    def add(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._kept += data
        at = self._kept.rfind(_CAUSE)
        if at >= 0:
            self._cause = self._kept[at : at + _MAX_CAUSE_BYTES].partition(b"\n")[0]
        if len(self._kept) > self._n_bytes:
            self._kept = self._kept[-self._n_bytes :]
            self._is_cut = True

    def text(self) -> str:
        """Return the last lines, without a line that is cut at its head where others follow."""
        lines = self._kept.decode("utf-8", "replace").splitlines(keepends=True)
        if self._is_cut and len(lines) > 1:
            del lines[0]
        lines = lines[-self._n_lines :]
        cause = self._cause.decode("utf-8", "replace") + "\n" if self._cause else ""
        if cause and cause not in lines:
            lines = [cause, *lines[-self._n_lines + 1 :]]
        text = "".join(lines).encode("utf-8")
        if len(text) > self._n_bytes:  # each byte that is not text has become three
            head = cause.encode("utf-8")
            text = head + text[-(self._n_bytes - len(head)) :]
        return text.decode("utf-8", "ignore")
