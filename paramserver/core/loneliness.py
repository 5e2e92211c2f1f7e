"""How long jobs have waited while nobody was there to run them. Pure.

Rule 1: who is about to leave is nobody: it takes no more jobs.
Rule 2: the time begins anew whenever somebody comes, though they leave before the next look.
"""

from __future__ import annotations

from typing import Final

from paramserver.core.backlog import Backlog
from paramserver.core.roster import Roster, WorkerState

_DRAINING: Final = WorkerState.DRAINING


class Loneliness:
    """The patience of jobs without workers.

    Parameters
    ----------
    roster : Roster
    backlog : Backlog
    timeout_s : float
        How long jobs wait while nobody is there.
    """

    def __init__(self, roster: Roster, backlog: Backlog, timeout_s: float) -> None:
        self._roster = roster
        self._backlog = backlog
        self._timeout_s = timeout_s
        self._since: float | None = None

    @property
    def ends_at(self) -> float | None:
        """When patience is over; None while there is nothing to wait for."""
        return None if self._since is None else self._since + self._timeout_s

    def end(self) -> None:
        """Note that somebody has come."""
        self._since = None

    def extend(self, lateness: float, not_before: float) -> None:
        """Forgive the workers the master's own pause."""
        if self._since is not None:
            self._since = max(self._since + lateness, not_before - self._timeout_s)

    def waited_too_long(self, now: float) -> float | None:
        """Look around; return how long the jobs have waited once that is too long, or None."""
        if not self._backlog.n_unsettled or not self._is_lonely():
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= self._timeout_s:
            waited, self._since = now - self._since, None
            return waited
        return None

    def _is_lonely(self) -> bool:
        """Say whether jobs that there are wait with nobody there but workers about to leave."""
        workers = self._roster.workers.values()
        for worker in workers:
            if worker.state is not _DRAINING:
                return False
        held = (attempt for worker in workers for attempt in worker.held.values())
        running = {attempt.job.number for attempt in held if attempt in attempt.job.attempts}
        return self._backlog.n_unsettled > len(running)
