"""Which worker had which job of a training, and when. Values only; no clock of its own.

Rule 1: what is kept does not grow with the training: the latest `SPANS_MAX` jobs.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

SPANS_MAX: Final = 10_000


class JobSpan(NamedTuple):
    """A job that a worker has ended.

    Attributes
    ----------
    worker_id : str
    number : int
        Of the round (averaging) or the epoch (async).
    partition : int
    begun_s : float
        When it was handed in, or when the worker had ended its job before, if that was later;
        seconds since the training began. What jobs and results took on their way is in it.
    ended_s : float
        When the master had its result.
    """

    worker_id: str
    number: int
    partition: int
    begun_s: float
    ended_s: float


class Timeline:
    """Takes down when jobs were handed in and when they ended.

    Attributes
    ----------
    spans : deque of JobSpan
        In the order of their ends.
    """

    def __init__(self) -> None:
        self.spans: deque[JobSpan] = deque(maxlen=SPANS_MAX)
        self._handed_in: dict[int, float] = {}
        self._free_since: dict[str, float] = {}

    def hand_in(self, job: int, at_s: float) -> None:
        """Note that a job was handed in."""
        self._handed_in[job] = at_s

    def end(self, job: int, number: int, partition: int, worker_id: str, at_s: float) -> None:
        """Note that a job has ended, on a worker."""
        begun_s = max(self._handed_in.pop(job, at_s), self._free_since.get(worker_id, 0.0))
        self.spans.append(JobSpan(worker_id, number, partition, begun_s, at_s))
        self._free_since[worker_id] = at_s
