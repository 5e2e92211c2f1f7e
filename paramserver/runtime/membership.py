"""Who is there, for threads that wait for workers. Fed by the master's announcements."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from paramserver.core.commands import AnnounceWorker
from paramserver.errors import NoWorkers, ParamServerError


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
        self, n: int, timeout_s: float, failure: Callable[[], ParamServerError | None]
    ) -> None:
        """Wait until `n` workers are there.

        Raises
        ------
        NoWorkers
            If they are not there in time.
        ParamServerError
            What `failure` returns, as soon as it returns something.
        """
        end_at = time.monotonic() + timeout_s
        with self._changed:
            while len(self._alive) < n:
                problem = failure()
                if problem is not None:
                    raise problem
                left = end_at - time.monotonic()
                if left <= 0:
                    raise NoWorkers(
                        f"{len(self._alive)} of {n} workers were there after {timeout_s:g} s. "
                        "Look at their standard error, or wait longer with "
                        "cluster.wait_for_workers(n, timeout_s=...).",
                        waited_s=timeout_s,
                    )
                self._changed.wait(left)
