"""What is told of attempts that have ended, to those who watch. Pure.

Rule 1: nothing is told while nobody watches: a job that is not looked at costs one question.
Rule 2: it tells what has happened and changes nothing: who is watched fares as who is not.
"""

from __future__ import annotations

from paramserver.core.commands import AnnounceAttempt, AttemptEnd, MasterCommand
from paramserver.core.jobs import Attempt, JobState
from paramserver.core.roster import Worker
from paramserver.protocol.messages import JobResult, Outcome, Payload


class AttemptNews:
    """Announces how attempts end.

    Attributes
    ----------
    is_wanted : bool
        Whether somebody watches.
    """

    __slots__ = ("is_wanted",)

    def __init__(self) -> None:
        self.is_wanted = False

    def ended(
        self,
        now: float,
        worker: Worker,
        attempt: Attempt,
        result: JobResult,
        out: list[MasterCommand],
    ) -> None:
        """Tell how an attempt ended, before its job learns of it."""
        if attempt.is_given_up:
            return
        if attempt not in attempt.job.attempts:
            self._tell(now, worker, attempt, AttemptEnd.UNNEEDED, out)
        elif result.outcome is Outcome.OK:
            self._tell(now, worker, attempt, AttemptEnd.DONE, out)
        else:
            self._tell(now, worker, attempt, AttemptEnd.FAILED, out, result.payload)

    def lost(self, now: float, worker: Worker, attempt: Attempt, out: list[MasterCommand]) -> None:
        """Tell of an attempt whose worker is lost or gives no sign, before its job is freed."""
        if attempt.is_given_up:
            return
        # A job that failed by this one's last deadline has no attempts any more; it is lost still.
        is_settled = attempt.job.state in (JobState.SUCCEEDED, JobState.CANCELLED)
        end = AttemptEnd.UNNEEDED if is_settled else AttemptEnd.LOST
        self._tell(now, worker, attempt, end, out)

    def _tell(
        self,
        now: float,
        worker: Worker,
        attempt: Attempt,
        end: AttemptEnd,
        out: list[MasterCommand],
        error: Payload | None = None,
    ) -> None:
        begun = now if attempt.started_at is None else min(now, attempt.started_at)
        job, spec = attempt.job, attempt.job.phase.spec
        out.append(
            AnnounceAttempt(
                spec.name,
                job.number,
                attempt.number,
                worker.worker_id,
                begun,
                now,
                end,
                attempt.is_backup,
                error,
                spec.told_by_owner,
            )
        )
