"""What is told of attempts that have ended, to those who watch. Pure.

Rule 1: nothing is told while nobody watches: a job that is not looked at costs one question.
Rule 2: it tells what has happened and changes nothing: who is watched fares as who is not.
"""

from __future__ import annotations

from paramserver.core.commands import AnnounceAttempt, AttemptEnd, MasterCommand
from paramserver.core.jobs import Attempt
from paramserver.core.roster import Worker
from paramserver.protocol.messages import Payload


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

    def tell(
        self,
        now: float,
        worker: Worker,
        attempt: Attempt,
        end: AttemptEnd,
        out: list[MasterCommand],
        *,
        error: Payload | None = None,
    ) -> None:
        """Announce the end of an attempt that was running."""
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
