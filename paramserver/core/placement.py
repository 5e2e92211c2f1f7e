"""Which worker gets a job, and how far ahead. Pure functions of what they are given.

Rule 1: jobs are granted ahead only when they are so short that a round trip would show.
Rule 2: a preference (cached data, another worker after a failure) never leaves a worker idle.
"""

from __future__ import annotations

from collections import deque
from math import ceil

from paramserver.core.jobs import Job, Phase
from paramserver.core.roster import Worker

AHEAD_S = 0.005
"""Work held ahead by one worker: covers some ten round trips of the slowest kind (0.5 ms)."""
LONG_S = 0.02
"""From this duration on a round trip costs less than 1 %: no job is granted ahead."""
WINDOW_MAX = 128
STRAGGLER_FACTOR = 1.25
"""A pure job gets a backup copy after this many medians, so that it ends within about twice the
median and a bit."""
STRAGGLER_MIN_S = 0.05


def window(phase: Phase) -> int:
    """How many jobs of this phase a worker may hold, the running one included."""
    options = phase.spec.options
    if options.timeout_s is not None or options.lease_s is not None:
        return 1  # the deadline counts from the start, which only an idle worker makes exact
    mean = phase.mean_s
    if mean is None or mean >= LONG_S:
        return 1
    return min(WINDOW_MAX, 1 + ceil(AHEAD_S / max(mean, 1e-6)))


def choose(job: Job, rooms: deque[Worker]) -> Worker | None:
    """Pick a worker for the job and put it at the end of the line; None if nobody has room.

    Parameters
    ----------
    job : Job
    rooms : deque of Worker
        Those that may take jobs; who is found full is removed.
    """
    unlucky = 0 if job.mishaps is None else job.mishaps.last_incarnation
    if job.affinity is None and not unlucky and rooms and not rooms[0].held:
        rooms.rotate(-1)  # who is idle has room, whatever the window
        return rooms[-1]
    limit = window(job.phase)
    while rooms and len(rooms[0].held) >= limit:
        rooms.popleft()
    if not rooms:
        return None
    if job.affinity is None and not unlucky:
        rooms.rotate(-1)
        return rooms[-1]
    best = min(
        (worker for worker in rooms if len(worker.held) < limit),
        key=lambda worker: (
            worker.incarnation == unlucky,
            bool(worker.held),  # rule 2: an idle worker goes before a busy one that has the data
            job.affinity is not None and job.affinity not in worker.caches,
            len(worker.held),
        ),
    )
    rooms.remove(best)
    rooms.append(best)
    return best


def straggler_after_s(phase: Phase) -> float | None:
    """How long an attempt may run before a backup copy is worth it, or None for never yet."""
    if not phase.spec.options.pure or 2 * phase.n_settled < phase.n_jobs:
        return None
    median = phase.median_s()
    return None if median is None else max(STRAGGLER_MIN_S, STRAGGLER_FACTOR * median)
