"""A bell that any thread may ring and one thread waits for, as a file descriptor.

Rule 1: rings before the next `clear` are one ring: ringing costs nothing while one is pending.
Rule 2: a bell that is closed may still be rung; nothing happens.
"""

from __future__ import annotations

import os
import socket
import threading


class Bell:
    """Readable file descriptor that `ring` makes ready; an eventfd where there is one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending = False
        self._pair: tuple[socket.socket, socket.socket] | None = None
        if hasattr(os, "eventfd"):
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._pair = socket.socketpair()
            for end in self._pair:
                end.setblocking(False)
            self._fd = self._pair[0].fileno()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def ring(self) -> None:
        """Make the descriptor readable. From any thread."""
        if self._pending:
            return
        with self._lock:
            if self._pending:
                return
            self._pending = True
            if self._pair is None:
                os.eventfd_write(self._fd, 1)
            else:
                self._pair[1].send(b"\0")

    def clear(self) -> None:
        """Take the ring away. By the waiting thread alone, and only when one is pending."""
        # Read first, then forget: in the other order a ring between the two would be lost.
        if self._pair is None:
            os.eventfd_read(self._fd)
        else:
            self._pair[0].recv(16)
        self._pending = False

    def close(self) -> None:
        """Give the descriptor back. May be called twice."""
        with self._lock:
            if self._fd < 0:
                return
            self._pending = True  # a late `ring` must not write to a descriptor reused by others
            if self._pair is None:
                os.close(self._fd)
            else:
                for end in self._pair:
                    end.close()
            self._fd = -1
