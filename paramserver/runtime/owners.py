"""Who handed in which job, and is told what becomes of it.

Rule 1: any thread may name an owner; they are called on the I/O thread alone, and must not block.
Rule 2: each owner hears of the end of each of its jobs exactly once. What it raises then is
        counted and logged, and ends nothing.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from typing import Protocol

from paramserver.core.commands import SettleJob
from paramserver.protocol.messages import JobGrant

LOGGER = logging.getLogger("paramserver")


class JobOwner(Protocol):
    """Who handed a job in, and is told what became of it. Called on the I/O thread."""

    def claim(self, job: int) -> bool:
        """Say whether the job is still wanted, just before its first grant is sent."""

    def settle(self, ended: SettleJob) -> None:
        """Take in how the job ended."""

    def break_off(self, job: int, error: BaseException) -> None:
        """Take in that the master itself is gone, and the job with it."""


class Owners(dict[int, JobOwner]):
    """The owners of the jobs that are not settled, by job.

    Parameters
    ----------
    counters : Counter
        Gets ``owner_errors``: owners that raised.
    """

    def __init__(self, counters: Counter[str]) -> None:
        super().__init__()
        self._counters = counters

    def unwanted(self, grants: tuple[JobGrant, ...]) -> list[int]:
        """Return the jobs, among those about to be granted, that were cancelled in the queue."""
        unwanted = []
        for grant in grants:
            job = grant.job
            if grant.attempt == 1 and job in self and not self[job].claim(job):
                unwanted.append(job)
        return unwanted

    def settle(self, settled: deque[SettleJob]) -> None:
        """Tell owners how their jobs ended; empties `settled`."""
        while settled:
            ended = settled.popleft()
            owner = self.pop(ended.job, None)
            if owner is None:
                continue
            try:
                owner.settle(ended)
            except BaseException:  # noqa: BLE001 - a user's sys.exit() ends the callback, not us
                self._has_failed(ended.job)

    def break_off(self, problem: BaseException) -> None:
        """Tell those whose jobs nobody will settle any more."""
        for job in list(self):  # somebody may be about to name one more
            owner = self.pop(job)
            try:
                owner.break_off(job, problem)
            except BaseException:  # noqa: BLE001 - as above
                self._has_failed(job)

    def _has_failed(self, job: int) -> None:
        """Note what an owner raised; from within the handler of that exception."""
        self._counters["owner_errors"] += 1
        LOGGER.exception("What waited for job %d has failed.", job)
