"""What idle workers could do: take over what is stuck behind a long job, copy stragglers. Pure.

Rule 1: it finds and says; whoever asks takes back, grants, and marks.
Rule 2: a worker that does not answer may begin what it holds at any moment: only what may run twice
        is given to another one as well.
Rule 3: it says when to look again: soon while things are young, rarely when they have run long.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from paramserver.core import placement
from paramserver.core.jobs import Attempt
from paramserver.core.roster import Worker

REVIEW_S = 0.02
"""While workers run something, how soon to look around again."""
REVIEW_FRACTION = 0.05
"""... and how late at most, as a fraction of how long the youngest has run."""
STUCK_BEHIND_S = 0.01
"""Jobs held ahead are taken back when the job before them has run this long."""
UNANSWERED_S = 0.25
"""A worker that has not given jobs back for so long is taken to be stopped, or to hold the lock of
its interpreter; the others answer within milliseconds, even in the middle of a job."""


class Found(NamedTuple):
    """What was found."""

    stuck: list[tuple[Worker, list[Attempt]]]
    """Attempts to be taken back, by worker."""
    worth_a_copy: list[Attempt]
    """Those that their workers do not give back, then stragglers, the slowest first."""
    again_at: float | None


def look_around(now: float, workers: Iterable[Worker], n_idle: int) -> Found:
    """Look through the busy workers on behalf of so many idle ones."""
    stuck: list[tuple[Worker, list[Attempt]]] = []
    stragglers: list[tuple[float, Attempt]] = []
    unanswered: list[Attempt] = []
    limits: dict[int, float | None] = {}
    looks: list[float] = []
    for worker in workers:
        head = worker.head
        if head is None or head.started_at is None:
            continue
        ran_s = now - head.started_at
        again_at = now + max(REVIEW_S, REVIEW_FRACTION * ran_s)
        if len(worker.held) > 1:
            looks.append(again_at)
            if n_idle and ran_s >= STUCK_BEHIND_S:
                if behind := _behind(worker, n_idle):
                    stuck.append((worker, behind))
                if silent := _unanswered(now, worker):
                    unanswered += silent
                    looks.append(now + REVIEW_S)  # one copy at a time: any may be what keeps it
        phase = head.job.phase
        if _may_have_copy(head):
            number = phase.spec.phase
            if number not in limits:
                limits[number] = placement.straggler_after_s(phase)
            limit = limits[number]
            if limit is not None and ran_s >= limit:
                stragglers.append((ran_s, head))
            elif limit is not None:
                again_at = max(again_at, head.started_at + limit)
            looks.append(again_at)
    stragglers.sort(key=lambda pair: -pair[0])
    worth_a_copy = [*unanswered, *(attempt for _, attempt in stragglers)]
    return Found(stuck, worth_a_copy, min(looks, default=None))


def is_stuck(worker: Worker, now: float) -> bool:
    """Say whether its job runs longer than those that are granted ahead: nothing goes behind it."""
    head = worker.head
    started_at = None if head is None else head.started_at
    return started_at is not None and now - started_at >= STUCK_BEHIND_S


def _behind(worker: Worker, n_idle: int) -> list[Attempt]:
    """Choose the idle ones' share of a worker's queue, from its end."""
    queued = [one for one in islice(worker.held.values(), 1, None) if one.asked_back_at is None]
    return queued[len(queued) // (n_idle + 1) :]


def _unanswered(now: float, worker: Worker) -> list[Attempt]:
    """Find what a worker was asked for in vain and may run elsewhere; the last ones first.

    Those in front may have ended, unreported, or be what keeps the worker.
    """
    return [
        one
        for one in reversed(tuple(islice(worker.held.values(), 1, None)))
        if one.asked_back_at is not None
        and now - one.asked_back_at >= UNANSWERED_S
        and _may_have_copy(one)
    ]


def _may_have_copy(attempt: Attempt) -> bool:
    job = attempt.job
    phase = job.phase
    return phase.has_inputs and phase.spec.options.pure and job.attempts == (attempt,)
