"""A job's life and a phase's book. Pure.

Rule 1: every change of a job's state goes through `Job.step` and the table TRANSITIONS.
Rule 2: an attempt belongs to one incarnation of one worker; a job has no attempts of the dead.
Rule 3: failure classes are counted apart: an exception in user code, a deadline passed, a worker
        lost under the job. A job taken back or drained is charged nothing.

::

    WAITING --release--> READY --grant--> GRANTED --succeed--> SUCCEEDED
       ^                   ^ `--------<------' |  (give_up: no attempt is left)
       `------hold---------'-------------------'  hold: an input was lost; reopen: its output was
    fail and cancel end a job from every state but SUCCEEDED, FAILED, CANCELLED
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from statistics import median
from typing import NamedTuple

from paramserver.core.mishaps import Mishaps
from paramserver.errors import InvalidTransition
from paramserver.protocol.messages import Payload


class JobState(IntEnum):
    """Where a job is in its life."""

    WAITING = 0
    """The phase before is not complete."""
    READY = 1
    """In the queue."""
    GRANTED = 2
    """At least one attempt is with a worker."""
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5


class Step(IntEnum):
    """What can happen to a job."""

    RELEASE = 0
    GRANT = 1
    GIVE_UP = 2
    SUCCEED = 3
    FAIL = 4
    CANCEL = 5
    HOLD = 6
    REOPEN = 7


_W, _R, _G = JobState.WAITING, JobState.READY, JobState.GRANTED
TRANSITIONS: dict[JobState, dict[Step, JobState]] = {
    _W: {Step.RELEASE: _R, Step.FAIL: JobState.FAILED, Step.CANCEL: JobState.CANCELLED},
    _R: {
        Step.GRANT: _G,
        Step.HOLD: _W,
        Step.FAIL: JobState.FAILED,
        Step.CANCEL: JobState.CANCELLED,
    },
    _G: {
        Step.GRANT: _G,
        Step.GIVE_UP: _R,
        Step.HOLD: _W,
        Step.SUCCEED: JobState.SUCCEEDED,
        Step.FAIL: JobState.FAILED,
        Step.CANCEL: JobState.CANCELLED,
    },
    JobState.SUCCEEDED: {Step.REOPEN: _R},
    JobState.FAILED: {},
    JobState.CANCELLED: {},
}


class Verdict(IntEnum):
    """How a job ended, for its owner."""

    SUCCEEDED = 0
    ERROR = 1
    """The user's function raised on every try."""
    TIMEOUT = 2
    """It passed its deadline on every try."""
    POISON = 3
    """It lost its worker on every try."""
    NO_WORKERS = 4
    """Nobody was there to run it for too long."""
    CANCELLED = 5


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How the jobs of a phase are to be treated.

    Parameters
    ----------
    max_failures : int
        Tries that may end in an exception of the user's function; 1 makes the first one final.
    max_timeouts : int
        Tries that may pass the deadline.
    max_lost : int
        Workers lost under one job that make it the cause: the last of them ends it. Also how often
        its output, once lost, is made again.
    timeout_s : float or None
        Deadline of one attempt, from its start; the worker is killed when it passes.
    lease_s : float or None
        Longest silence between two reports of progress.
    grace_s : float or None
        How long a worker that is suspect keeps it; None for as long as that keeps its life. Short
        where its owner lets only the attempt count that began last, which goes on where another
        one was: then nothing is lost by giving it to others too early.
    priority : int
        Higher goes first.
    pure : bool
        Running it twice does no harm, so a straggler may get a backup copy.
    """

    max_failures: int = 1
    max_timeouts: int = 2
    max_lost: int = 3
    timeout_s: float | None = None
    lease_s: float | None = None
    grace_s: float | None = None
    priority: int = 0
    pure: bool = False


class JobSpec(NamedTuple):
    """A job as its owner hands it in."""

    job: int
    payload: Payload
    affinity: Hashable = None
    """Name of the data it reads; a worker that has run such a job is preferred."""


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """A phase as its owner opens it.

    Parameters
    ----------
    phase : int
        Its number.
    name : str
    options : JobOptions
    after : int or None
        The phase that must be complete before; its results become the inputs of every job here.
    keep : bool
        Keep jobs and results after they are settled, until the phase is dropped: needed by a phase
        that another waits for.
    told_by_owner : bool
        Its owner shows its jobs itself: a page of all jobs leaves them out.
    """

    phase: int
    name: str = "jobs"
    options: JobOptions = JobOptions()
    after: int | None = None
    keep: bool = False
    told_by_owner: bool = False


class Attempt:
    """One try of one job on one incarnation of a worker."""

    __slots__ = (
        "asked_back_at",
        "deadline",
        "incarnation",
        "inputs",
        "is_backup",
        "is_given_up",
        "job",
        "number",
        "started_at",
    )

    def __init__(self, job: Job, number: int, incarnation: int, *, is_backup: bool) -> None:
        self.job = job
        self.number = number
        self.incarnation = incarnation
        self.is_backup = is_backup
        self.is_given_up = False
        """Its job goes on without it, and without its end; its worker may be running it still."""
        self.asked_back_at: float | None = None
        """When its worker was asked to give it back, if it was."""
        self.started_at: float | None = None
        """When it came to the head of its worker's queue: the master's best knowledge."""
        self.deadline: float | None = None
        self.inputs: tuple[Payload, ...] = ()
        """What it was granted with: the results of the phase before, as they were then."""

    @property
    def key(self) -> tuple[int, int]:
        """What the wire calls it."""
        return (self.job.number, self.number)


class Job:
    """One unit of work. 128 bytes besides its data: millions of them may be queued."""

    __slots__ = (
        "_buffers",
        "_data",
        "_kind",
        "affinity",
        "attempts",
        "mishaps",
        "number",
        "phase",
        "result",
        "state",
        "tries",
    )

    def __init__(self, spec: JobSpec, phase: Phase, state: JobState) -> None:
        self.number = spec.job
        self._kind, self._data, self._buffers = spec.payload
        self.affinity = spec.affinity
        self.phase = phase
        self.state = state
        self.tries = 0
        """Number of the last attempt; attempts count from 1."""
        self.attempts: tuple[Attempt, ...] = ()
        """Those that live."""
        self.mishaps: Mishaps | None = None
        """What has gone wrong so far, if anything."""
        self.result: Payload | None = None

    @property
    def payload(self) -> Payload:
        """What is to be run; made anew for each grant, as a tuple kept would cost 64 bytes."""
        return Payload(self._kind, self._data, self._buffers)

    def step(self, step: Step) -> None:
        """Go to the next state.

        Raises
        ------
        InvalidTransition
            If the table has no such step from here.
        """
        target = TRANSITIONS[self.state].get(step)
        if target is None:
            raise InvalidTransition(
                f"Job {self.number} cannot {step.name} while {self.state.name}. This is a bug in "
                f"paramserver; please report it with this text. Story: {self.story()}",
                story=tuple(self.story()),
            )
        self.state = target

    def drop(self, attempt: Attempt) -> None:
        """Forget one of the living attempts."""
        others = self.attempts
        self.attempts = () if len(others) == 1 else tuple(o for o in others if o is not attempt)

    def suffer(self, text: str) -> Mishaps:
        """Note that something has gone wrong; return the counts, for the right one to be raised."""
        mishaps = self.mishaps
        if mishaps is None:
            mishaps = self.mishaps = Mishaps()
        mishaps.note(text)
        return mishaps

    def story(self) -> list[str]:
        """What is known of the job's life, oldest first."""
        bad = self.mishaps or Mishaps()
        counts = f"{bad.n_errors} errors, {bad.n_timeouts} timeouts, {bad.n_lost} workers lost"
        return [*bad.notes, f"{self.tries} tries: {counts}; now {self.state.name}"]


class Phase:
    """The jobs of one phase, counted."""

    __slots__ = (
        "closed",
        "counts",
        "inputs",
        "is_doomed",
        "jobs",
        "keeps",
        "lists_jobs",
        "mean_s",
        "n_jobs",
        "order",
        "samples",
        "spec",
    )

    def __init__(self, spec: PhaseSpec) -> None:
        self.spec = spec
        self.keeps = spec.keep
        """Jobs and results stay after they are settled, until the phase is dropped."""
        self.lists_jobs = spec.keep or spec.after is not None
        """Its jobs are looked for by phase; others are spared the 100 bytes of an entry each."""
        self.jobs: dict[int, Job] = {}
        """Those not settled, or all of them if the phase keeps them; see `lists_jobs`."""
        self.order: list[int] = []
        """Numbers of all jobs in the order of their hand-in, if the phase keeps them."""
        self.counts = [0] * len(JobState)
        self.n_jobs = 0
        self.closed = False
        self.inputs: tuple[Payload, ...] | None = None
        self.is_doomed = False
        """The phase before can never be complete."""
        self.mean_s: float | None = None
        """Moving mean of how long an attempt runs."""
        self.samples: deque[float] = deque(maxlen=501)

    def move(self, job: Job, step: Step) -> None:
        """Step a job and keep the counts true."""
        counts = self.counts
        counts[job.state] -= 1
        job.step(step)
        counts[job.state] += 1

    @property
    def has_inputs(self) -> bool:
        """Its jobs can run: what they wait for, if anything, is all there."""
        return self.inputs is not None or self.spec.after is None

    @property
    def is_complete(self) -> bool:
        """No job will be added, and every one has succeeded (or there is nothing to wait for)."""
        if not self.closed or self.is_doomed or self.counts[JobState.SUCCEEDED] < self.n_jobs:
            return False
        return self.n_jobs > 0 or self.has_inputs

    @property
    def is_empty(self) -> bool:
        """It has no job and will have none: it only passes a barrier on."""
        return self.closed and not self.n_jobs

    @property
    def can_never_be_complete(self) -> bool:
        """Some job has failed or was cancelled, or will be."""
        return self.is_doomed or self.counts[4] + self.counts[5] > 0

    @property
    def n_settled(self) -> int:
        """How many jobs have ended, one way or another."""
        return sum(self.counts[state] for state in (3, 4, 5))

    def add_duration(self, seconds: float) -> None:
        """Learn from an attempt that ended well."""
        self.samples.append(seconds)
        mean = self.mean_s
        self.mean_s = seconds if mean is None else mean + 0.2 * (seconds - mean)

    def median_s(self) -> float | None:
        """Median duration of the latest attempts, or None."""
        return median(self.samples) if self.samples else None

    def results(self) -> tuple[Payload, ...]:
        """Results of all jobs in order; only when the phase is complete and keeps them."""
        return tuple(_result(self.jobs[number]) for number in self.order)


def _result(job: Job) -> Payload:
    if job.result is None:
        raise InvalidTransition(
            f"Job {job.number} has no result. This is a bug in paramserver; please report it.",
            story=tuple(job.story()),
        )
    return job.result


def count_states(phases: Iterable[Phase]) -> dict[str, int]:
    """Add up how many jobs are in each state, by the state's name in lower case."""
    totals = [0] * len(JobState)
    for phase in phases:
        for state, n in enumerate(phase.counts):
            totals[state] += n
    return {state.name.lower(): totals[state] for state in JobState}
