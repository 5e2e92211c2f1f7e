"""A whole cluster in one thread: the very machines of master, workers and agents, with a virtual
clock and a seeded network, at thousands of events a second.

Rule 1: one seed, one run: every draw comes from one random source, in the order of events.
Rule 2: nothing here decides for the machines; what drivers do, it does, as badly as they may.
Rule 3: a failure says the seed and the line that runs it again, and can tell its story.

>>> from paramserver.testing.faults import FaultPlan
>>> from paramserver.testing.workload import Workload
>>> sim = Simulation(7, Workload.map_reduce(30, 60), FaultPlan(n_crashes=5), n_workers=10)
>>> sim.run().n_settled
90

``python -m paramserver.testing.simulator SEED`` runs a seed of the random runs and tells its story.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from paramserver.core.events import AgentRegistered, StopRequested
from paramserver.core.master import MasterMachine
from paramserver.testing.faults import FaultPlan
from paramserver.testing.nemesis import Nemesis
from paramserver.testing.network import Network
from paramserver.testing.oracles import RunLog, judge_end, judge_results
from paramserver.testing.simulated_agent import SimulatedAgent
from paramserver.testing.simulated_master import Owner, SimulatedMaster
from paramserver.testing.simulated_process import RELEASE
from paramserver.testing.simulated_worker import SimulatedWorker
from paramserver.testing.workload import Workload

CALM_S = 400.0
"""Virtual seconds, after the last fault and besides the work itself, until everything has ended."""
MAX_EVENTS = 100_000


class SimulationFailed(AssertionError):
    """A simulated run broke a promise. The text tells how to run it again, and its last events."""


@dataclass(frozen=True)
class SimulationResult:
    """What came of a run.

    Attributes
    ----------
    seed : int
    n_settled : int
        Jobs that came to an end.
    n_events : int
        Of the simulation; `n_master_events` of the master's machine, up to the last settled job.
    virtual_s : float
        When the last job was settled.
    counters : dict
        Of the master's machine.
    """

    seed: int
    n_settled: int
    n_events: int
    n_master_events: int
    virtual_s: float
    counters: dict[str, int]


class Simulation:
    """One run of one cluster. See the rules of the module.

    Parameters
    ----------
    seed : int
    workload : Workload, default 30 map and 60 reduce jobs
    faults : FaultPlan, default none
    n_workers, n_agents : int
    check_every : int
        The invariants of the machine are checked after every n-th of its events; 0 for never.
    replay : str
        The line that makes this simulation again, for failures; found out if not given.
    """

    def __init__(
        self,
        seed: int,
        workload: Workload | None = None,
        faults: FaultPlan | None = None,
        *,
        n_workers: int = 10,
        n_agents: int = 1,
        check_every: int = 1,
        replay: str = "",
    ) -> None:
        self.seed = seed
        self.faults = faults if faults is not None else FaultPlan()
        self.n_workers = n_workers
        self.replay = replay or f"Simulation({seed}, ..., {self.faults!r}, n_workers={n_workers})"
        self.workload = workload if workload is not None else Workload.map_reduce()
        self.rng = Random(seed)
        self.now = 0.0
        self.n_events = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._ties = count()
        self._pids = count(1000)
        self.addresses: dict[int, str] = {}
        """Of the machine of each process there ever was, by its pid."""
        self._n_agents = 0
        self._n_stragglers = self.faults.n_stragglers
        self._trace: list[tuple[float, str, tuple[Any, ...]]] = []
        self.workers: list[SimulatedWorker] = []
        """Living processes."""
        self.agents: list[SimulatedAgent] = []
        self.lost_outputs: set[bytes] = set()
        self.log = RunLog(self)
        self.network = Network(self)
        self.master = SimulatedMaster(self, _new_machine(), check_every)
        self.owner = Owner(self)
        for index in range(n_agents):
            self.add_agent((n_workers + index) // n_agents)
        self._quiet_from = 0.0
        self.nemesis = Nemesis(self)
        for _ in range(self.faults.n_late):
            late = self.rng.random() * self.nemesis.horizon_s
            self.at(late, self.rng.choice(self.agents).spawn)

    @classmethod
    def random(cls, seed: int, *, is_good: bool | None = None, check_every: int = 1) -> Simulation:
        """Make a run of which everything is drawn from the seed.

        Parameters
        ----------
        seed : int
        is_good : bool or None
            Only jobs that end well and no cancels, so that every job must succeed; None to draw.
        check_every : int
        """
        rng = Random(seed)
        drawn = rng.random() < 0.5
        good = drawn if is_good is None else is_good
        workload = Workload.random(rng, n_max=rng.choice((3, 10, 30)), is_good=good)
        faults = FaultPlan.random(rng, cancels=not good)
        n_workers = rng.randint(1, 10)
        return cls(
            seed,
            workload,
            faults,
            n_workers=n_workers,
            n_agents=rng.choice((1, 1, 2)) if n_workers > 1 else 1,
            check_every=check_every,
            replay=f"python -m paramserver.testing.simulator {seed}"
            + ("" if is_good is None else f" --is-good={is_good}"),
        )

    # --- for the parts of the simulation ----------------------------------------------------------

    def at(self, time: float, do: Callable[..., None], *args: Any) -> None:
        """Call something at a later time."""
        heapq.heappush(self._heap, (time, next(self._ties), do, args))

    def note(self, who: str, *what: Any) -> None:
        """Remember what happened, for the story."""
        self._trace.append((self.now, who, what))

    def next_pid(self, address: str) -> int:
        """Return the number of a new process on the machine of that address."""
        pid = next(self._pids)
        self.addresses[pid] = address
        return pid

    def next_slowness(self) -> float:
        """Return how slow the next worker is."""
        if self._n_stragglers:
            self._n_stragglers -= 1
            return self.faults.straggler_factor
        return 1.0

    def add_agent(self, n_workers: int, address: str = "") -> None:
        """Start an agent and its workers, on a machine of its own if no `address` names one."""
        self._n_agents += 1
        if self.faults.is_remote and not address:
            address = f"machine {self._n_agents}"
        agent = SimulatedAgent(self, f"a{self._n_agents}", address)
        self.agents.append(agent)
        if agent.is_remote:
            agent.connect()
        else:
            self.master.take_in(AgentRegistered(self.now, agent.agent_id, agent.token))
        for _ in range(n_workers):
            agent.spawn()

    # --- the run ----------------------------------------------------------------------------------

    def run(self) -> SimulationResult:
        """Run to the end, and judge.

        Raises
        ------
        SimulationFailed
            If a promise was broken, or an invariant, or if it did not end.
        """
        try:
            self.owner.begin()
            self._run_until(lambda: self.owner.is_done, "jobs that are not settled")
            settled_at, n_master_events = self.now, self.master.n_handled
            self._calm_down()
            judge_results(self)
            self.owner.drop_phases()
            self._quiet_from = max(self.now + 0.001, self.nemesis.horizon_s)
            self.at(self._quiet_from, self.note, "owner", "needs nothing any more")
            self._run_until(self._is_quiet, "work that nobody needs")
            judge_end(self)
            for agent in self.agents:
                agent.is_stopping = not agent.is_remote  # a remote one is told by the master
            self.master.take_in(StopRequested(self.now, drain=True))
            self._run_until(lambda: not self.workers, "workers that do not leave")
        except Exception as error:
            raise SimulationFailed(
                f"{type(error).__name__}: {error}\n\nThe end of its story:\n{self.story(80)}\n\n"
                f"{self.faults!r}, {self.n_workers} workers\nRun it again: {self.replay}"
            ) from error
        return SimulationResult(
            self.seed,
            self.log.n_settled,
            self.n_events,
            n_master_events,
            settled_at,
            dict(self.master.machine.counters),
        )

    def _run_until(self, is_over: Callable[[], bool], what_else: str) -> None:
        heap = self._heap
        limit = max(self.now, self.nemesis.horizon_s) + CALM_S
        limit += self.workload.ideal_s * max(1.0, self.faults.straggler_factor)
        while not is_over():
            assert heap, f"nothing is left to happen, but there are {what_else}"
            self.now, _, do, args = heapq.heappop(heap)
            self.n_events += 1
            assert self.now <= limit, f"after {limit:.0f} s there are still {what_else}"
            assert self.n_events < MAX_EVENTS, f"after {MAX_EVENTS} events still {what_else}"
            do(*args)

    def _calm_down(self) -> None:
        """The jobs are done: the network behaves from now on."""
        self.network.is_noisy = False
        for connection in self.network.connections.values():
            connection.cut_up = connection.cut_down = False

    def _is_quiet(self) -> bool:
        machine = self.master.machine
        living = {worker.pid for worker in self.workers}
        return (
            self.now >= self._quiet_from
            and all(worker.pid in living for worker in machine.roster.workers.values())
            and not machine.roster.suspects
            and all(not worker.held for worker in machine.roster.workers.values())
            and all(not member.link.n_unacked for member in machine.roster.members())
            and all(worker.job is None and not worker.is_stopped for worker in self.workers)
            and not self.master.is_paused
        )

    def story(self, n: int | None = None) -> str:
        """Tell what happened, the last `n` things or all."""
        trace = self._trace if n is None else self._trace[-n:]
        lines = [f"{time:10.6f}  {who}: {' '.join(map(_short, what))}" for time, who, what in trace]
        return "\n".join(lines)


def _new_machine() -> MasterMachine:
    tokens = count(1)
    return MasterMachine(
        run="5eed5eed5eed5eed",
        epoch=1,
        release=RELEASE,
        make_token=lambda: f"session {next(tokens)}",
    )


def _short(thing: Any) -> str:
    text = str(thing)
    return text if len(text) <= 300 else text[:297] + "..."


def main(arguments: list[str]) -> int:
    """Run one random run and tell its story."""
    good = [one.split("=")[1] == "True" for one in arguments if one.startswith("--is-good=")]
    simulation = Simulation.random(int(arguments[0]), is_good=good[0] if good else None)
    print(f"{simulation.faults!r}, {simulation.n_workers} workers")
    try:
        result = simulation.run()
    finally:
        print(simulation.story())
    print(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
