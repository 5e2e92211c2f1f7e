"""Worker processes on their way up, and which of them have come to a halt there. Pure.

A member that is stopped (SIGSTOP) loses its work to others. One that is stopped before it is a
member has nothing to lose, and who waits for it waits in vain: it is given up and replaced.

Rule 1: it counts looks, never seconds: a machine that was itself halted for a night finds nobody
        guilty in the morning.
Rule 2: only who was found stopped at every one of some looks in a row is given up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LOOK_EVERY_S: Final = 1.0
N_LOOKS: Final = 4
"""Looks in a row at which it was found stopped: three seconds, as long as members may be."""


class Starting:
    """Who has been started and has not been heard of."""

    def __init__(self) -> None:
        self._n_stopped: dict[str, int] = {}
        """Looks in a row that have found it stopped, by worker."""
        self._look_at: float | None = None

    def __contains__(self, worker_id: object) -> bool:
        return worker_id in self._n_stopped

    def begin(self, worker_id: str, now: float) -> None:
        """Take in that its process was started."""
        self._n_stopped[worker_id] = 0
        if self._look_at is None:
            self._look_at = now + LOOK_EVERY_S

    def end(self, worker_id: str) -> bool:
        """Take in that it has come up, or is over; return whether it was starting until then."""
        was_starting = self._n_stopped.pop(worker_id, None) is not None
        if not self._n_stopped:
            self._look_at = None
        return was_starting

    def next_look(self) -> float | None:
        """Return when `look` is due; None while nobody is starting."""
        return self._look_at

    def look(self, now: float, is_stopped: Callable[[str], bool]) -> list[str]:
        """Look at all who are starting, if it is time; return whom to give up.

        They are still starting, until `end` says that their process is over.
        """
        if self._look_at is None or now < self._look_at:
            return []
        self._look_at = now + LOOK_EVERY_S
        for worker_id in self._n_stopped:
            n = self._n_stopped[worker_id] + 1 if is_stopped(worker_id) else 0
            self._n_stopped[worker_id] = n
        return [worker_id for worker_id, n in self._n_stopped.items() if n == N_LOOKS]
