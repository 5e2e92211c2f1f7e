"""The parent of some simulated workers: in the master's process, or (remote) one of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paramserver.core.agent_life import AgentLife
from paramserver.core.commands import Exit, KillChild, NoteChild, StopChildren, WorkerCommand
from paramserver.core.events import ProcessEnded
from paramserver.core.restarts import RestartLimits
from paramserver.protocol.messages import AgentHello, Envelope, MasterMessage, ProcessExited
from paramserver.testing.simulated_process import RELEASE, Process
from paramserver.testing.simulated_worker import SimulatedWorker

if TYPE_CHECKING:
    from paramserver.testing.simulator import Simulation

LIMITS = RestartLimits()
"""Of real agents."""


class SimulatedAgent(Process):
    """The parent of some workers: in the master's process, or (`is_remote`) one of its own.

    Parameters
    ----------
    sim : Simulation
    agent_id : str
        A new one for each process.
    address : str
        Of its machine, whatever runs there; '' for that of the master.
    """

    def __init__(self, sim: Simulation, agent_id: str, address: str) -> None:
        super().__init__(sim, agent_id, address)
        self.agent_id = agent_id
        self.token = f"token of {agent_id}"
        self.is_remote = sim.faults.is_remote
        self.children: dict[str, SimulatedWorker] = {}
        self._n_named = 0
        self.is_stopping = False
        self.life = AgentLife(agent_id, self.token, self._make_hello)

    def _make_hello(self, token: str, epoch: int, incarnation: int) -> AgentHello:
        return AgentHello(self.agent_id, token, epoch, incarnation, self.pid, "host", 1, RELEASE)

    def life_connected(self) -> list[WorkerCommand]:
        return self.life.connected(self.sim.now)

    def life_heard(self, envelope: Envelope, message: MasterMessage) -> list[WorkerCommand]:
        return self.life.heard(self.sim.now, envelope, message)

    def life_tick(self) -> list[WorkerCommand]:
        return self.life.tick(self.sim.now)

    def life_deadline(self) -> float | None:
        return self.life.next_deadline()

    # --- children ---------------------------------------------------------------------------------

    def spawn(self, name: str | None = None, n_futile: int = 0) -> None:
        """Start a worker process, after so many in its line that have ended no job."""
        if self.is_dead or self.is_stopping:
            return
        if name is None:
            self._n_named += 1
            name = f"{self.agent_id}.w{self._n_named}"
        worker = self.children[name] = SimulatedWorker(self.sim, name, self)
        self.sim.workers.append(worker)
        worker.n_futile = n_futile
        worker.slowness = self.sim.next_slowness()
        self.sim.note(name, "starts", worker.pid)
        worker.connect()

    def child_died(self, worker: SimulatedWorker, code: int, *, is_reported: bool) -> None:
        """A worker process has ended: tell the master, and start another one."""
        sim, rng = self.sim, self.sim.rng
        if self.children.get(worker.name) is worker:
            del self.children[worker.name]
        sim.workers.remove(worker)
        if self.is_dead:
            return
        running = (worker.job.job, worker.job.attempt) if worker.job is not None else (0, 0)
        exited = ProcessExited(worker.name, worker.pid, code, *running, "")
        sim.log.ran_at_death[worker.pid] = running[0]
        if is_reported and rng.random() >= sim.faults.unreported:
            sim.at(sim.now + rng.choice((0.0005, 0.002, 0.4)), self._report, exited)
        if worker.is_kept and not self.is_stopping:
            name = worker.name if rng.random() < sim.faults.same_name else None
            n_futile = 0 if worker.has_ended_a_job else worker.n_futile + 1
            # As real agents wait: else workers that are told to leave come again, thousands of
            # times, while the word that it is over is on its way to their agent.
            pause_s = sim.faults.restart_s * (0.5 + rng.random()) + LIMITS.delay_s(n_futile)
            sim.at(sim.now + pause_s, self.spawn, name, n_futile)

    def _report(self, exited: ProcessExited) -> None:
        if self.is_dead:
            return
        if self.is_remote:
            self.perform(self.life.child_ended(self.sim.now, exited))
        else:
            self.sim.master.take_in(ProcessEnded(self.sim.now, self.agent_id, exited))

    def kill(self, worker_id: str) -> None:
        """End a worker process."""
        worker = self.children.get(worker_id)
        if worker is not None:
            worker.crash()

    def crash(self) -> None:
        """End without a word, and all workers with it."""
        self.sim.note(self.name, "dies with its workers")
        self.die()
        for worker in list(self.children.values()):
            worker.crash()

    def do(self, command: WorkerCommand) -> None:
        match command:
            case KillChild(worker_id, _):
                self.kill(worker_id)
            case StopChildren(drain):
                self.is_stopping = True
                for worker in list(self.children.values()):
                    if drain:
                        worker.leave("the agent stops")
                    else:
                        worker.crash()
            case NoteChild():
                pass
            case Exit(code, reason):
                self.sim.note(self.name, "exits", code, reason)
                self.crash()
            case _:
                raise AssertionError(f"not an agent's command: {command}")
