"""When which attempt has to be looked at. Pure.

Rule 1: an attempt's time is in `Attempt.deadline`; the heap only says when to look there, so that a
        lease is renewed by an assignment, and found to be so when its old time comes.
Rule 2: what is kept of attempts that have ended is numbers, and at most about as many as live.
"""

from __future__ import annotations

import heapq

from paramserver.core.jobs import Attempt
from paramserver.core.roster import Roster

MIN_COMPACT = 1024


class Deadlines:
    """A heap of the times of attempts that workers hold."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._heap: list[tuple[float, int, int, int]] = []
        self._compact_at = MIN_COMPACT

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def earliest(self) -> float | None:
        """When to look again; None for never."""
        return self._heap[0][0] if self._heap else None

    def put(self, attempt: Attempt, time: float) -> None:
        """Give an attempt a time, or another one."""
        known = attempt.deadline
        attempt.deadline = time
        if known is None or time < known:
            heapq.heappush(self._heap, (time, attempt.incarnation, *attempt.key))
            if len(self._heap) >= self._compact_at:
                self.extend(0.0)

    def take_passed(self, now: float) -> list[Attempt]:
        """Return the attempts whose time has passed; they have none then."""
        heap = self._heap
        passed: list[Attempt] = []
        while heap and heap[0][0] <= now:
            _, incarnation, job, number = heapq.heappop(heap)
            worker = self._roster.by_incarnation.get(incarnation)
            attempt = worker.held.get((job, number)) if worker is not None else None
            if attempt is None or attempt.deadline is None:
                continue
            if attempt.deadline > now:
                heapq.heappush(heap, (attempt.deadline, incarnation, job, number))
            else:
                attempt.deadline = None
                passed.append(attempt)
        return passed

    def extend(self, seconds: float, not_before: float = 0.0) -> None:
        """Give every attempt that much more time, and forget those that have ended."""
        heap = []
        for worker in self._roster.workers.values():
            for attempt in worker.held.values():
                if attempt.deadline is not None:
                    attempt.deadline = max(attempt.deadline + seconds, not_before)
                    heap.append((attempt.deadline, attempt.incarnation, *attempt.key))
        heapq.heapify(heap)
        self._heap = heap
        self._compact_at = max(MIN_COMPACT, 2 * len(heap))
