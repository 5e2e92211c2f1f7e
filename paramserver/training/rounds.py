"""How long the rounds of averaging took, and how much of that was waiting. Values in, values out.

A round ends when its last result is there; until then the others wait. What they wait for is the
slowest partition: this is the price of a barrier, and what asynchronous SGD does without.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from paramserver.training.timeline import SPANS_MAX, JobSpan


class RoundTime(NamedTuple):
    """The jobs of one round.

    Attributes
    ----------
    number : int
    job_s : float
        How long a job took, on average.
    wait_s : float
        How long its result waited for the last one of the round, on average.
    """

    number: int
    job_s: float
    wait_s: float


def round_times(spans: Iterable[JobSpan]) -> list[RoundTime]:
    """Return the time of each round that is whole, in order.

    Examples
    --------
    >>> from paramserver.training.timeline import JobSpan
    >>> fast, slow = JobSpan("a", 0, 0, 0.0, 1.0), JobSpan("b", 0, 1, 0.0, 3.0)
    >>> round_times([fast, slow, JobSpan("a", 1, 0, 3.0, 4.0)])
    [RoundTime(number=0, job_s=2.0, wait_s=1.0)]
    """
    rounds: dict[int, list[JobSpan]] = {}
    n_spans = 0
    for span in spans:
        n_spans += 1
        if span.end == "done":
            rounds.setdefault(span.number, []).append(span)
    numbers = sorted(rounds)[:-1]  # the last one may be under way
    if n_spans >= SPANS_MAX:
        numbers = numbers[1:]  # of the first one some are forgotten
    times = []
    for number in numbers:
        jobs = rounds[number]
        n, last_s = len(jobs), max(job.ended_s for job in jobs)
        job_s = sum(job.ended_s - job.begun_s for job in jobs) / n
        times.append(RoundTime(number, job_s, last_s - sum(job.ended_s for job in jobs) / n))
    return times
