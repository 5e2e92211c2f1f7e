"""Who has done what of a training: the time of each worker, by what it went to. Values only.

Rule 1: a worker's time is told up to the end of its last job, or (`Tally.now`) to the last thing
        that it told amid one. Up to there it is told whole: computing, wire, waiting and lost add
        up to it.
Rule 2: a life begins when its worker joined: the time in which nobody was there is nobody's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from paramserver.training.timeline import JobSpan


@dataclass(slots=True)
class WorkerTime:
    """Where the time of one worker went, all its lives together.

    Attributes
    ----------
    n_jobs : int
        That ended well.
    n_failed : int
        Attempts that failed, or were lost with their worker.
    n_unneeded : int
        Attempts that ended when another one had been first.
    compute_s : float
        In the learner.
    wire_s : float
        Jobs, weights, results and gradients were on their way, or the turn of a processor was
        that of others.
    wait_s : float
        Without a job of this training (at the barrier of a round, or idle), and while an answer of
        the parameter server was held back or waited for its turn.
    lost_s : float
        In attempts that came to nothing.
    """

    n_jobs: int = 0
    n_failed: int = 0
    n_unneeded: int = 0
    compute_s: float = 0.0
    wire_s: float = 0.0
    wait_s: float = 0.0
    lost_s: float = 0.0
    _told_until: float = 0.0

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.compute_s + self.wire_s + self.wait_s + self.lost_s


class AtWork:
    """A job that a worker is amid, and what it has told of it.

    Parameters
    ----------
    worker_id : str
    begun_s : float
        When it began, as a time of the training.
    began : float
        The same by the clock of `tell`.
    """

    __slots__ = ("_began", "_begun_s", "_compute_s", "_lasted_s", "_wait_s", "worker_id")

    def __init__(self, worker_id: str, begun_s: float, began: float) -> None:
        self.worker_id = worker_id
        self._begun_s = begun_s
        self._began = began
        self._lasted_s = self._compute_s = self._wait_s = 0.0

    def tell(self, compute_s: float, wait_s: float, at: float) -> None:
        """Take in what the job went to until now; called with each push, so it only notes it."""
        self._compute_s = compute_s
        self._wait_s = wait_s
        self._lasted_s = at - self._began

    def added_to(self, time: WorkerTime) -> WorkerTime:
        """Return the time of its worker with what was told; no more than the job has lasted."""
        begun_s = max(self._begun_s, time._told_until)
        lasted_s = max(0.0, self._begun_s + self._lasted_s - begun_s)
        compute_s = min(max(0.0, self._compute_s), lasted_s)
        wait_s = min(self._wait_s, lasted_s - compute_s)
        return replace(
            time,
            compute_s=time.compute_s + compute_s,
            wire_s=time.wire_s + lasted_s - compute_s - wait_s,
            wait_s=time.wait_s + begun_s - time._told_until + wait_s,
        )


class PartitionState(NamedTuple):
    """How far a training is with one partition.

    Attributes
    ----------
    partition : int
    n_examples : int
    owner : str
        The worker that has it, or had it last; empty before the first.
    epochs : float
        How often its examples were seen.
    """

    partition: int
    n_examples: int
    owner: str
    epochs: float


class Tally:
    """Adds up what workers do.

    Attributes
    ----------
    begun_s : float
        When what is added up began; for a training that is resumed, when it was resumed.
    workers : dict of str to WorkerTime
        Up to the ends of their last jobs.
    at_work : dict of int to AtWork
        By incarnation; of jobs that tell on their way.
    owners : dict of int to str
        The worker that has ended a job of each partition last.
    """

    def __init__(self) -> None:
        self.begun_s = 0.0
        self.workers: dict[str, WorkerTime] = {}
        self.at_work: dict[int, AtWork] = {}
        self.owners: dict[int, str] = {}

    def begin(self, at_s: float) -> None:
        """Begin to count, from now on."""
        self.begun_s = at_s
        self.workers = {}

    def join(self, worker_id: str, at_s: float) -> None:
        """Begin a life."""
        self._of(worker_id)._told_until = max(self.begun_s, at_s)

    def end(self, span: JobSpan) -> None:
        """Take in that an attempt has ended; what it went to, if it went well, comes by `work`."""
        self.at_work = {n: w for n, w in self.at_work.items() if w.worker_id != span.worker_id}
        worker = self._of(span.worker_id)
        begun_s = max(span.begun_s, worker._told_until)
        worker.wait_s += begun_s - worker._told_until
        worker._told_until = max(span.ended_s, begun_s)
        if span.end == "done":
            worker.n_jobs += 1
            worker.wire_s += worker._told_until - begun_s  # all of it, until `work` tells more
            self.owners[span.partition] = span.worker_id
            return
        worker.lost_s += worker._told_until - begun_s
        if span.end == "unneeded":
            worker.n_unneeded += 1
        else:
            worker.n_failed += 1

    def begin_work(self, incarnation: int, worker_id: str, begun_s: float, began: float) -> None:
        """Take in that a worker has begun a job of which it will tell on its way; see `AtWork`."""
        self.at_work[incarnation] = AtWork(worker_id, begun_s, began)

    def now(self) -> dict[str, WorkerTime]:
        """Return where the time of each worker went, up to the last that it has told."""
        found = dict(self.workers)
        for at_work in list(self.at_work.values()):
            time = found.get(at_work.worker_id) or WorkerTime(_told_until=self.begun_s)
            found[at_work.worker_id] = at_work.added_to(time)
        return found

    def work(self, worker_id: str, compute_s: float, wait_s: float = 0.0) -> None:
        """Say how much of its last job a worker computed and waited; the rest was the wire's."""
        worker = self._of(worker_id)
        compute_s = min(compute_s, worker.wire_s)
        wait_s = min(wait_s, worker.wire_s - compute_s)
        worker.compute_s += compute_s
        worker.wait_s += wait_s
        worker.wire_s -= compute_s + wait_s

    def _of(self, worker_id: str) -> WorkerTime:
        found = self.workers.get(worker_id)
        if found is None:
            found = self.workers[worker_id] = WorkerTime(_told_until=self.begun_s)
        return found
