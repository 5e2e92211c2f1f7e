"""Who has done what of a training: the time of each worker, by what it went to. Values only.

Rule 1: a worker's time is told up to the end of its last job: what it is at now is not measured
        yet. Up to there it is told whole: computing, wire, waiting and lost add up to it.
Rule 2: a life begins when its worker joined: the time in which nobody was there is nobody's.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    owners : dict of int to str
        The worker that has ended a job of each partition last.
    """

    def __init__(self) -> None:
        self.begun_s = 0.0
        self.workers: dict[str, WorkerTime] = {}
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
