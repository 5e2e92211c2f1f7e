"""A picture of a cluster at one moment, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from paramserver.core.jobs import count_states
from paramserver.core.master import MasterMachine
from paramserver.core.roster import Worker, WorkerState
from paramserver.runtime.status_html import status_html


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker, as the master sees it.

    Attributes
    ----------
    worker_id, host : str
    pid, incarnation : int
    state : str
        ready, suspect or draining; quarantined where its machine is left alone for a while, and
        another one gets the jobs.
    job : int or None
        What it runs.
    n_held : int
        Attempts it holds, the running one included.
    n_ended : int
        Attempts it has ended.
    silent_s : float
        Seconds since its last message (an idle worker says nothing).
    """

    worker_id: str
    pid: int
    host: str
    incarnation: int
    state: str
    job: int | None
    n_held: int
    n_ended: int
    silent_s: float


@dataclass(frozen=True, slots=True)
class PhaseStatus:
    """The jobs of one phase.

    Attributes
    ----------
    name : str
    jobs : dict of str to int
        How many are in each state.
    """

    name: str
    jobs: dict[str, int]

    @property
    def n_jobs(self) -> int:
        """How many jobs it has."""
        return sum(self.jobs.values())


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """What `Cluster.status` returns.

    Attributes
    ----------
    address : str
    workers : tuple of WorkerStatus
    jobs : dict of str to int
        How many jobs are in each state, of all phases that are not dropped.
    counters : dict of str to int
        What has happened and what was discarded, by reason, since the start.
    phases : tuple of PhaseStatus
        Those that are not dropped and have jobs, the oldest first.
    """

    address: str
    workers: tuple[WorkerStatus, ...]
    jobs: dict[str, int]
    counters: dict[str, int]
    phases: tuple[PhaseStatus, ...] = ()

    def _repr_html_(self) -> str:
        return status_html(self)


def take_status(machine: MasterMachine, now: float, address: str) -> ClusterStatus:
    """Read a status off the machine; on the I/O thread."""
    takers = {worker.incarnation for worker in machine.roster.takers(now)}
    workers = tuple(
        WorkerStatus(
            worker.worker_id,
            worker.pid,
            worker.host,
            worker.incarnation,
            _state_of(worker, is_taker=worker.incarnation in takers),
            None if worker.head is None else worker.head.job.number,
            len(worker.held),
            worker.n_ended,
            max(0.0, now - worker.last_heard),
        )
        for worker in machine.roster.workers.values()
    )
    phases = list(machine.backlog.phases.values())
    return ClusterStatus(
        address,
        workers,
        count_states(phases),
        dict(sorted(machine.counters.items())),
        tuple(
            PhaseStatus(phase.spec.name, count_states([phase])) for phase in phases if phase.n_jobs
        ),
    )


def _state_of(worker: Worker, *, is_taker: bool) -> str:
    if worker.state is WorkerState.READY and not is_taker:
        return "quarantined"
    return worker.state.name.lower()
