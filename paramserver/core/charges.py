"""What has gone wrong under a job is charged to it here, until it has had enough. Pure.

Rule 1: classes are counted apart, each with its own limit (`JobOptions`): the function raised, the
        deadline passed, a worker was lost under it. What is given back or drained is not charged.
Rule 2: a job that has had enough is settled here, with a verdict for its class; whoever charges it
        lets it run again otherwise.
"""

from __future__ import annotations

from collections import Counter

from paramserver.core.backlog import Backlog
from paramserver.core.commands import MasterCommand, SettleJob
from paramserver.core.jobs import Attempt, Step, Verdict
from paramserver.core.loss import Loss
from paramserver.core.mishaps import Mishaps
from paramserver.core.roster import Worker
from paramserver.protocol.messages import JobResult


class Charges:
    """Charges jobs. See the rules of the module."""

    def __init__(self, backlog: Backlog, counters: Counter[str]) -> None:
        self._backlog = backlog
        self._counters = counters

    def error(
        self, worker: Worker, attempt: Attempt, result: JobResult, out: list[MasterCommand]
    ) -> bool:
        """Count a try whose function raised; return whether the job has had enough."""
        job = attempt.job
        mishaps = _suffer(worker, attempt, result.outcome.name)
        mishaps.n_errors += 1
        if mishaps.n_errors < job.phase.spec.options.max_failures:
            return False
        command = SettleJob(job.number, Verdict.ERROR, result.payload, worker.worker_id, job.tries)
        self._backlog.settle(job, Step.FAIL, out, command)
        return True

    def timeout(self, worker: Worker, attempt: Attempt, out: list[MasterCommand]) -> None:
        """Count a deadline that passed; its attempt ends with its worker."""
        job = attempt.job
        options = job.phase.spec.options
        mishaps = _suffer(worker, attempt, "deadline passed")
        mishaps.n_timeouts += 1
        self._counters["timeouts"] += 1
        if mishaps.n_timeouts >= options.max_timeouts:
            limit = options.timeout_s if options.timeout_s is not None else options.lease_s
            command = SettleJob(
                job.number, Verdict.TIMEOUT, None, worker.worker_id, job.tries, text=f"{limit}"
            )
            self._backlog.settle(job, Step.FAIL, out, command)

    def loss(self, worker: Worker, attempt: Attempt, loss: Loss, out: list[MasterCommand]) -> None:
        """Count a worker that was lost while it ran this."""
        job = attempt.job
        mishaps = _suffer(worker, attempt, f"worker lost ({loss.reason})")
        mishaps.n_lost += 1
        if mishaps.n_lost >= job.phase.spec.options.max_lost:
            command = SettleJob(
                job.number,
                Verdict.POISON,
                None,
                worker.worker_id,
                job.tries,
                loss.exit_code,
                loss.text or loss.reason,
            )
            self._backlog.settle(job, Step.FAIL, out, command)


def _suffer(worker: Worker, attempt: Attempt, what: str) -> Mishaps:
    """Note what has gone wrong, and where: the next try goes elsewhere if it can."""
    mishaps = attempt.job.suffer(f"try {attempt.number} on {worker.worker_id}: {what}")
    mishaps.last_incarnation = worker.incarnation
    return mishaps
