"""Which worker had which job of a training, when, and how that ended. Values only; no clock.

Rule 1: what is kept does not grow with the training: the latest `SPANS_MAX` attempts.
Rule 2: an attempt that was lost, failed or came second is kept as well: that is what one looks for.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from paramserver.core.commands import AnnounceAttempt

SPANS_MAX: Final = 10_000
KNOWN_MAX: Final = 10_000
"""Jobs whose attempts are recognized, at least: the last one may end long after the job."""


class JobSpan(NamedTuple):
    """An attempt at a job, that has ended.

    Attributes
    ----------
    worker_id : str
    number : int
        Of the round (averaging) or the epoch (async).
    partition : int
    begun_s : float
        When it was its worker's turn to run it, as the master knows it; seconds since the training
        began. What the job and its result took on their way is in it.
    ended_s : float
        When the master had its result, or knew that there will be none.
    end : str
        "done", "failed" (its function raised), "lost" (with its worker) or "unneeded" (another
        attempt was first).
    is_backup : bool
        Whether it was a second copy of a job that took long.
    """

    worker_id: str
    number: int
    partition: int
    begun_s: float
    ended_s: float
    end: str = "done"
    is_backup: bool = False


class Timeline:
    """Takes down which attempts there were.

    Attributes
    ----------
    spans : deque of JobSpan
        In the order of their ends.
    """

    def __init__(self) -> None:
        self.spans: deque[JobSpan] = deque(maxlen=SPANS_MAX)
        self._known: dict[int, tuple[int, int]] = {}

    def hand_in(self, job: int, number: int, partition: int) -> None:
        """Note what a job is."""
        self._known[job] = (number, partition)
        if len(self._known) > 2 * KNOWN_MAX:  # one by one it would walk over what is gone already
            self._known = dict(list(self._known.items())[-KNOWN_MAX:])

    def end(self, attempt: AnnounceAttempt, began_at: float) -> JobSpan | None:
        """Note how an attempt ended; return what is kept of it.

        Parameters
        ----------
        attempt : AnnounceAttempt
            None is kept of what is no job of this training.
        began_at : float
            When the training began, on the clock of the attempt.
        """
        what = self._known.get(attempt.job)
        if what is None:
            return None
        span = JobSpan(
            attempt.worker_id,
            *what,
            attempt.begun - began_at,
            attempt.ended - began_at,
            attempt.end.value,
            attempt.is_backup,
        )
        self.spans.append(span)
        return span
