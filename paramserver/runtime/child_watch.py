"""The watch over an agent's children: their ends, what they write, what they have not read yet.

Rule 1: one thread, the agent's, waits for all children, pipes and rings at once, never for one.
Rule 2: while the terminal takes nothing, no child is read: a flood waits where it is made.
Rule 3: where the system does not tell the end of a child by itself, it is looked for.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable

from paramserver.runtime.stderr_relay import StderrRelay
from paramserver.runtime.worker_process import Death, WorkerProcess
from paramserver.transport.bell import Bell

_POLL_S = 0.05
"""Between two looks at what tells nothing by itself: a full terminal, a child without a pidfd."""


class ChildWatch:
    """Waits for whatever the children of one agent do.

    Parameters
    ----------
    on_ring : callable
        Called in `wait` when another thread has rung.
    on_end : callable
        Called in `wait` with each process that is over, until it is removed.

    Notes
    -----
    Of the agent's thread alone, but for `ring`.
    """

    def __init__(
        self, on_ring: Callable[[], None], on_end: Callable[[WorkerProcess], None]
    ) -> None:
        self._on_ring = on_ring
        self._on_end = on_end
        self._children: list[WorkerProcess] = []
        self._relay = StderrRelay()
        self._is_paused = False
        self._bell = Bell()
        self._selector = selectors.DefaultSelector()
        self._heed(self._bell.fileno(), self._answer_ring)

    def ring(self) -> None:
        """Make `wait` return and call `on_ring`. From any thread, also after `close`."""
        self._bell.ring()

    def add(self, child: WorkerProcess) -> None:
        """Watch one child more."""
        self._children.append(child)
        if child.pidfd >= 0:
            self._heed(child.pidfd, lambda: self._on_end(child))
        if not self._is_paused:
            self._heed(child.stderr_fd, lambda: self._read(child))
        if child.has_unsent_config:
            self._heed(child.config_fd, lambda: self._send(child), selectors.EVENT_WRITE)

    def remove(self, child: WorkerProcess, lived_s: float) -> Death:
        """Reap a child that is over, with its last words."""
        self._children.remove(child)
        for fd in (child.pidfd, child.stderr_fd, child.config_fd):
            self._ignore(fd)
        return child.reap(self._relay, lived_s)

    def say(self, words: str) -> None:
        """Write a line of the agent's own among those of its children."""
        self._relay.put(f"paramserver: {words}\n".encode())

    def wait(self, until: float | None) -> None:
        """Wait until something happens, or until that time, and do what is to be done about it."""
        ends = [] if until is None else [until]
        if not self._relay.is_idle or self._silent():
            ends.append(time.monotonic() + _POLL_S)
        timeout_s = max(0.0, min(ends) - time.monotonic()) if ends else None
        for key, _ in self._selector.select(timeout_s):
            key.data()
        if not self._relay.is_idle:
            self._relay.flush()
        if self._is_paused and not self._relay.is_full:
            self._read_on()
        for child in self._silent():
            if child.is_over():
                self._on_end(child)

    def finish(self, timeout_s: float) -> None:
        """Let the terminal take what the children have written, for so long at most."""
        self._relay.finish(timeout_s)

    def close(self) -> None:
        """Give all descriptors of its own back."""
        self._selector.close()
        self._bell.close()

    def _heed(self, fd: int, act: Callable[[], None], events: int = selectors.EVENT_READ) -> None:
        self._selector.register(fd, events, act)

    def _ignore(self, fd: int) -> None:
        if fd >= 0 and fd in self._selector.get_map():
            self._selector.unregister(fd)

    def _answer_ring(self) -> None:
        self._bell.clear()
        self._on_ring()

    def _silent(self) -> list[WorkerProcess]:
        """Return the children whose end the system does not tell by itself."""
        return [child for child in self._children if child.pidfd < 0]

    def _send(self, child: WorkerProcess) -> None:
        if child.config_fd < 0:
            return  # it ended earlier in this same turn
        child.send_config()
        if not child.has_unsent_config:
            self._ignore(child.config_fd)

    def _read(self, child: WorkerProcess) -> None:
        if child.stderr_fd < 0 or self._is_paused:
            return  # it ended, or reading was paused, earlier in this same turn
        if not child.read_stderr(self._relay):
            self._ignore(child.stderr_fd)
        if self._relay.is_full:
            self._is_paused = True
            for other in self._children:
                self._ignore(other.stderr_fd)

    def _read_on(self) -> None:
        self._is_paused = False
        for child in self._children:
            self._heed(child.stderr_fd, lambda child=child: self._read(child))  # type: ignore[misc]
