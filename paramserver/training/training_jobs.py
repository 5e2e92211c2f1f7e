"""The jobs of one training: two phases of the job core, and what each job of them stands for.

Rule 1: everything happens on the master's I/O thread, but for `open` and `drop`, which post.
Rule 2: jobs that make ready have a phase apart: how long they take says nothing of how long a
        round or an epoch does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from paramserver.core.commands import AnnounceAttempt
from paramserver.core.events import JobsSubmitted, PhaseDropped, PhaseOpened
from paramserver.core.jobs import JobOptions, JobSpec, PhaseSpec
from paramserver.protocol import calls
from paramserver.runtime.internals import Internals
from paramserver.runtime.owners import JobOwner
from paramserver.runtime.troubles import Troubles
from paramserver.training.plan import TrainingPlan
from paramserver.training.tally import Tally
from paramserver.training.timeline import Timeline

SETUP: Final = -1
"""Stands for the number of a round or epoch while the workers make themselves ready."""
GRACE_S: Final = 1.0
"""How long a worker that is suspect keeps a partition of asynchronous SGD. Another one goes on at
the cursor of the ledger, so that all that can be lost is one gradient; a connection that only broke
is there again within that time."""


class TrainingJobs:
    """Hands in the jobs of a training, and knows which are unsettled.

    Parameters
    ----------
    internals : Internals
        Of the cluster.
    plan : TrainingPlan
    pure : bool
        Whether the jobs of a round or epoch may run twice at a time; those that make ready may.

    Attributes
    ----------
    unsettled : dict of int to (int, int)
        What each job is: (round or epoch, partition); `SETUP` in place of the first where it makes
        ready.
    timeline : Timeline
        Of the jobs of rounds and epochs, since this master began or resumed the training.
    tally : Tally
        What workers have done since then.
    troubles : Troubles
        What jobs have raised since then, those that make ready included.
    """

    def __init__(self, internals: Internals, plan: TrainingPlan, *, pure: bool) -> None:
        self.unsettled: dict[int, tuple[int, int]] = {}
        self.timeline = Timeline()
        self.tally = Tally()
        self.troubles = Troubles()
        self._internals = internals
        self._master = internals.master
        self._plan = plan
        options = JobOptions(max_failures=4, pure=pure, grace_s=None if pure else GRACE_S)
        setup = replace(options, pure=True, grace_s=None)
        self._setup = PhaseSpec(internals.next_phase(), "setup", setup, told_by_owner=True)
        self._steps = PhaseSpec(internals.next_phase(), plan.service, options, told_by_owner=True)

    def open(self) -> None:
        """Open both phases."""
        now = self._master.clock()
        for spec in (self._setup, self._steps):
            self._master.post(PhaseOpened(now, spec))

    def drop(self) -> None:
        """Drop both phases: what still runs is stopped."""
        for spec in (self._setup, self._steps):
            self._master.post(PhaseDropped(self._master.clock(), spec.phase))

    def note(self, attempt: AnnounceAttempt, began_at: float, *, is_over: bool = False) -> None:
        """Take down how an attempt ended; its job may go on with another one.

        Parameters
        ----------
        attempt : AnnounceAttempt
            Of any job of the cluster.
        began_at : float
            When the clock of the training began.
        is_over : bool
            Whether it has ended: then jobs are told to stop, and what they raise is no news.
        """
        if attempt.job in self.unsettled and not is_over:
            self.troubles.note(attempt)
        span = self.timeline.end(attempt, began_at)
        if span is not None:
            self.tally.end(span)

    def submit(
        self,
        fn: Callable[..., object],
        number: int,
        partitions: Sequence[int],
        *,
        owner: JobOwner,
    ) -> None:
        """Hand in the jobs of one round or epoch, or (`SETUP`) those that make ready.

        Parameters
        ----------
        fn : callable
            A function of `training.work`.
        number : int
        partitions : sequence of int
        owner : JobOwner
            Is told how they end.
        """
        master, plan = self._master, self._plan
        now = master.clock()
        specs = []
        for partition in partitions:
            job = self._internals.next_job()
            self.unsettled[job] = (number, partition)
            if number != SETUP:
                self.timeline.hand_in(job, number, partition)
            call = (plan.service, plan.folder, number, partition)
            payload = calls.encode_call(fn, call, trusted=self._internals.trusted)
            specs.append(JobSpec(job, payload, (plan.service, partition)))
            master.own_one(job, owner)
        phase = self._setup if number == SETUP else self._steps
        master.post(JobsSubmitted(now, phase.phase, tuple(specs)))
