"""The queue of jobs that could run now: by priority, then in order. Pure.

Rule 1: a job is in it once for as long as it is READY; one that has stopped being READY (cancelled,
        held back) stays until it comes to the front, or until too many such are kept.
Rule 2: all costs are O(1) for a job, and what is kept is at most about twice what is ready.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from operator import neg
from typing import Final

from paramserver.core.jobs import Job, JobState

_READY: Final = JobState.READY
MAX_STALE = 64
"""Jobs not READY any more are cleared out when they are more than this and than the rest."""


class ReadyQueue:
    """READY jobs, the next one first. See the rules of the module."""

    def __init__(self) -> None:
        self._queues: dict[int, deque[Job]] = {}
        self._priorities: list[int] = []
        """Of the queues there are, the highest first."""
        self._n_kept = 0

    def __len__(self) -> int:
        """How many jobs are kept, those that are not READY any more included."""
        return self._n_kept

    def add(self, job: Job, *, first: bool = False) -> None:
        """Put a READY job behind, or (`first`) in front of, all others of its priority."""
        priority = job.phase.spec.options.priority
        queue = self._queues.get(priority)
        if queue is None:
            queue = self._queues[priority] = deque()
            insort(self._priorities, priority, key=neg)
        self._n_kept += 1
        if first:
            queue.appendleft(job)
        else:
            queue.append(job)

    def peek(self) -> Job | None:
        """Return the next READY job, which stays in front; None when there is none."""
        while self._priorities:
            queue = self._queues[self._priorities[0]]
            while queue:
                if queue[0].state is _READY:
                    return queue[0]
                queue.popleft()
                self._n_kept -= 1
            del self._queues[self._priorities.pop(0)]
        return None

    def pop(self) -> None:
        """Take away the job that `peek` has just returned."""
        self._queues[self._priorities[0]].popleft()
        self._n_kept -= 1

    def clear_stale(self, n_ready: int) -> None:
        """Let go of what is not READY any more, if it is much; `n_ready` jobs are."""
        if n_ready and self._n_kept - n_ready <= max(MAX_STALE, n_ready):
            return
        for priority, queue in list(self._queues.items()):
            ready = deque(job for job in queue if job.state is JobState.READY)
            if ready:
                self._queues[priority] = ready
            else:
                del self._queues[priority]
                self._priorities.remove(priority)
        self._n_kept = n_ready

    def check(self, n_ready: int) -> None:
        """Assert what ties the fields together."""
        assert self._priorities == sorted(self._queues, reverse=True)
        kept = [job for queue in self._queues.values() for job in queue]
        assert self._n_kept == len(kept)
        ready = [job for job in kept if job.state is JobState.READY]
        assert len(ready) == len({id(job) for job in ready}) == n_ready, "each READY job, once"
