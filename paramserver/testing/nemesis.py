"""Who brings a fault plan upon a simulation: draws when and whom, and strikes.

Rule 1: all strikes fall before `horizon_s`; after it everything heals, so that a run can end.
Rule 2: at least one worker is always on its way back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from paramserver.core.events import CancelRequested, RetireRequested, WorkerAccused
from paramserver.testing.network import HEARTBEAT_S, Connection

if TYPE_CHECKING:
    from paramserver.testing.simulated_worker import SimulatedWorker
    from paramserver.testing.simulator import Simulation


class Nemesis:
    """Strikes at random moments, as the plan and the seed say."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._rng = sim.rng
        faults = sim.faults
        spread = sim.workload.ideal_s / max(1, sim.n_workers)
        self.horizon_s = min(30.0, 2 * spread + 0.02)
        self._plan(faults.n_crashes, self._crash)
        self._plan(faults.n_disconnects, self._disconnect)
        self._plan(faults.n_stops, self._stop)
        self._plan(faults.n_pauses, self._pause)
        self._plan(faults.n_partitions, self._partition)
        self._plan(faults.n_agent_crashes if faults.is_remote else 0, self._crash_agent)
        self._plan(faults.n_cancels, self._cancel)
        self._plan(faults.n_lost_outputs, self._lose_output)
        self._plan(faults.n_accused, self._accuse)
        self._plan(faults.n_retired, self._retire)
        self._plan(faults.n_evicted, self._evict)
        self._plan(int(faults.all_die), self._kill_all)

    def _plan(self, n: int, strike: Callable[[], None]) -> None:
        for _ in range(n):
            self._sim.at(self._rng.random() * self.horizon_s, strike)

    def _length_s(self) -> float:
        return self._sim.faults.stop_s * (0.5 + self._rng.random())

    def _victim(self) -> SimulatedWorker | None:
        workers = self._sim.workers
        return self._rng.choice(workers) if workers else None

    def _crash(self) -> None:
        if (victim := self._victim()) is not None:
            victim.crash()

    def _kill_all(self) -> None:
        for worker in list(self._sim.workers):
            worker.crash()

    def _crash_agent(self) -> None:
        sim = self._sim
        if not sim.agents:
            return
        agent = self._rng.choice(sim.agents)
        agent.crash()
        sim.agents.remove(agent)
        n_workers = max(1, sim.n_workers // 2)
        sim.at(sim.now + sim.faults.restart_s, sim.add_agent, n_workers, agent.address)

    def _disconnect(self) -> None:
        victim = self._victim()
        if victim is not None:
            self._sim.note(victim.name, "is disconnected")
            detect_s = self._rng.choice((0.0, 0.012, HEARTBEAT_S))
            reconnect_s = self._rng.choice((0.0, 0.001, 0.1, 7.0))
            victim.disconnect(detect_s=detect_s, reconnect_s=reconnect_s)

    def _stop(self) -> None:
        if (victim := self._victim()) is not None:
            victim.stop(self._length_s())

    def _pause(self) -> None:
        self._sim.master.pause(self._length_s())

    def _partition(self) -> None:
        victim = self._victim()
        if victim is None or victim.connection is None:
            return
        connection, length = victim.connection, self._length_s()
        connection.cut_up = self._rng.random() < 0.7
        connection.cut_down = not connection.cut_up or self._rng.random() < 0.4
        self._sim.note(victim.name, "is cut off", connection.cut_up, connection.cut_down, length)
        if length > HEARTBEAT_S:
            reconnect_s = length - HEARTBEAT_S
            self._sim.at(self._sim.now + HEARTBEAT_S, self._tear, victim, connection, reconnect_s)
        self._sim.at(self._sim.now + length, self._heal, connection)

    def _tear(self, victim: SimulatedWorker, connection: Connection, reconnect_s: float) -> None:
        if victim.connection is connection:
            victim.disconnect(detect_s=0.0, reconnect_s=reconnect_s)

    def _heal(self, connection: Connection) -> None:
        connection.cut_up = connection.cut_down = False

    def _cancel(self) -> None:
        sim = self._sim
        job = self._rng.choice(list(sim.workload.scripts))
        if sim.owner.is_handed_in(job):
            sim.note("owner", "cancels", job)
            sim.owner.cancelled.add(job)
            sim.master.take_in(CancelRequested(sim.now, (job,)))

    def _lose_output(self) -> None:
        sim = self._sim
        outputs = [
            payload
            for phase in sim.workload.phases
            if phase.spec.keep
            for job in phase.jobs
            if (payload := sim.owner.results.get(job.job)) is not None
        ]
        if outputs:
            lost = bytes(self._rng.choice(outputs).data)
            sim.note("nemesis", "loses output", lost)
            sim.lost_outputs.add(lost)

    def _accuse(self) -> None:
        sim = self._sim
        worker = self._rng.choice(list(sim.master.machine.roster.workers.values()) or [None])
        if worker is not None:
            sim.note(worker.worker_id, "is accused")
            sim.master.take_in(WorkerAccused(sim.now, worker.incarnation, "accused"))

    def _retire(self) -> None:
        sim = self._sim
        kept = [worker for worker in sim.workers if worker.is_kept]
        if len(kept) > 1:
            victim = self._rng.choice(kept)
            victim.is_kept = False
            sim.note(victim.name, "is retired")
            sim.master.take_in(RetireRequested(sim.now, (victim.name,)))

    def _evict(self) -> None:
        if (victim := self._victim()) is not None:
            self._sim.note(victim.name, "is told by a signal to leave")
            victim.leave("terminated")
