"""Who is there, for threads that wait for workers. Fed by the master's announcements."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from paramserver.core.commands import AnnounceWorker
from paramserver.errors import NoWorkers, ParamServerError

LOOK_S = 0.25
"""How often those who wait look for a failure."""
REMIND_S = 5.0
"""A wait is said after this time, and again after twice as long, and so on."""


class Membership:
    """Counts the living workers. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._alive: set[int] = set()

    def note(self, change: AnnounceWorker) -> None:
        """Take in an announcement; called on the I/O thread."""
        with self._changed:
            if change.change in ("joined", "resumed"):
                self._alive.add(change.incarnation)
            else:
                self._alive.discard(change.incarnation)
            self._changed.notify_all()

    def look_again(self) -> None:
        """Make those who wait look for a failure."""
        with self._changed:
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._alive)

    def wait_for(
        self,
        n: int,
        timeout_s: float,
        failure: Callable[[], ParamServerError | None],
        remind: Callable[[int, int], None] = lambda there, n: None,
        missing: Callable[[], str] = lambda: "",
    ) -> None:
        """Wait until `n` workers are there; call ``remind(there, n)`` after 5 s, 10 s, 20 s ...

        Parameters
        ----------
        n : int
        timeout_s : float
        failure : callable
            Returns why no workers can come, or None.
        remind : callable
        missing : callable
            Says in a sentence who is not there, for the error.

        Raises
        ------
        NoWorkers
            If they are not there in time.
        ParamServerError
            What `failure` returns, as soon as it returns something.
        """
        started = time.monotonic()
        remind_s = REMIND_S
        while True:
            with self._changed:
                until = min(started + timeout_s, started + remind_s)
                if self._wait_until(n, until, failure):
                    return
                there = len(self._alive)
            if time.monotonic() >= started + timeout_s:
                raise NoWorkers(
                    f"{there} of {n} workers were there after {timeout_s:g} s. {missing()}Look at "
                    "their standard error, or wait longer with "
                    "cluster.wait_for_workers(n, timeout_s=...).",
                    waited_s=timeout_s,
                )
            remind(there, n)
            remind_s *= 2

    def _wait_until(
        self, n: int, end_at: float, failure: Callable[[], ParamServerError | None]
    ) -> bool:
        """Wait, with the lock; return whether `n` are there."""
        while len(self._alive) < n:
            problem = failure()
            if problem is not None:
                raise problem
            left = end_at - time.monotonic()
            if left <= 0:
                return False
            self._changed.wait(min(left, LOOK_S))  # not every failure rings here
        return True
