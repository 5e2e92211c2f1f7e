"""The main job, 30 map and then 60 reduce jobs on 10 workers, under each kind of failure.

The oracles are the simulator's own: every job settled once, with the result of a failure-free run.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from paramserver.core import batches
from paramserver.core.jobs import JobOptions, PhaseSpec, Verdict
from paramserver.testing.faults import CrashAt, FaultPlan
from paramserver.testing.simulator import Simulation, SimulationResult
from paramserver.testing.workload import NEVER_POISON, Fate, JobScript, Workload

RECORDED = 7
"""The seed of the recorded run."""


def run(seed: int, faults: FaultPlan, workload: Workload | None = None) -> SimulationResult:
    return Simulation(seed, workload, faults, n_workers=10).run()


@cache
def n_recorded_events() -> int:
    return run(RECORDED, FaultPlan()).n_master_events


def test_without_failures_every_attempt_counts() -> None:
    result = run(RECORDED, FaultPlan())
    assert result.n_settled == 90
    assert result.counters == {"workers_joined": 10, "attempts": 90, "workers_left": 10}
    ideal_s = 9 * 0.05
    assert result.virtual_s < 1.05 * ideal_s


@pytest.mark.parametrize("is_reported", [True, False])
@pytest.mark.parametrize("part", range(4))
def test_a_worker_may_crash_at_every_event(part: int, is_reported: bool) -> None:
    for event in range(1 + part, n_recorded_events() + 1, 4):
        result = run(RECORDED, FaultPlan(crash_at=CrashAt(event, event, is_reported)))
        assert result.n_settled == 90
        assert result.counters.get("workers_lost", 0) <= 1


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("is_reported", [True, False])
@pytest.mark.parametrize("worker", range(10))
def test_each_worker_may_crash_at_every_event(worker: int, is_reported: bool) -> None:
    for event in range(1, n_recorded_events() + 1):
        assert (
            run(RECORDED, FaultPlan(crash_at=CrashAt(event, worker, is_reported))).n_settled == 90
        )


FAULTS = {
    "one message in five is lost, doubled or overtaken": FaultPlan(
        drop=0.2, duplicate=0.2, reorder=0.2
    ),
    "workers are killed, their agent tells": FaultPlan(n_crashes=8),
    "workers are killed, nobody tells": FaultPlan(n_crashes=8, unreported=1.0),
    "killed workers come back at once under their own names": FaultPlan(
        n_crashes=20, same_name=1.0, restart_s=0.0005, unreported=0.5
    ),
    "all workers die and others join": FaultPlan(all_die=True, restart_s=20.0),
    "workers are stopped for ten seconds": FaultPlan(n_stops=5, stop_s=10.0),
    "workers are stopped for a moment": FaultPlan(n_stops=20, stop_s=0.1),
    "the master is stopped for twenty seconds": FaultPlan(n_pauses=2, stop_s=20.0),
    "one-way partitions of twenty seconds": FaultPlan(n_partitions=5, stop_s=20.0),
    "connections break and are made again": FaultPlan(n_disconnects=30),
    "agents of other machines die with their workers": FaultPlan(is_remote=True, n_agent_crashes=2),
    "workers are evicted, and others come": FaultPlan(n_evicted=8, n_late=5),
    "workers are retired": FaultPlan(n_retired=8),
    "outputs of map jobs can no longer be read": FaultPlan(n_lost_outputs=10),
    "two workers are fifty times slower": FaultPlan(n_stragglers=2),
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
def test_the_main_job_survives(faults: FaultPlan) -> None:
    for seed in range(8):
        assert run(seed, faults).n_settled == 90


@pytest.mark.parametrize(
    "name",
    [
        "one message in five is lost, doubled or overtaken",
        "killed workers come back at once under their own names",
        "outputs of map jobs can no longer be read",
    ],
)
def test_the_main_job_survives_with_inputs_in_many_parts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_PIECES", 7)
    for seed in range(4):
        assert run(seed, FAULTS[name]).n_settled == 90


def test_a_straggler_costs_its_phase_at_most_two_medians_and_a_bit() -> None:
    undisturbed = run(RECORDED, FaultPlan()).virtual_s
    result = run(RECORDED, FaultPlan(n_stragglers=1))  # its first job keeps it for 2.5 s
    assert result.counters["backups"] == 1
    assert result.virtual_s < undisturbed + 2.2 * 0.05


def test_a_kill_costs_its_detection_and_what_was_running() -> None:
    undisturbed = run(RECORDED, FaultPlan()).virtual_s
    middle = n_recorded_events() // 2
    told = run(RECORDED, FaultPlan(crash_at=CrashAt(middle, 3, True), restart_s=100.0))
    assert told.virtual_s < undisturbed + 3 * 0.05
    untold = run(RECORDED, FaultPlan(crash_at=CrashAt(middle, 3, False), restart_s=100.0))
    assert untold.virtual_s < undisturbed + 3 * 0.05, "a backup copy does not wait for the grace"


def single(fate: Fate, options: JobOptions) -> Workload:
    """Make the main job with one bad apple among the map jobs; nothing waits for them."""
    maps, reduces = Workload.map_reduce(30, 60).phases
    spoilt = (JobScript(1, 0.05, fate), *maps.jobs[1:])
    return Workload(
        (
            replace(maps, spec=PhaseSpec(1, "map", options), jobs=spoilt),
            replace(reduces, spec=PhaseSpec(2, "other", reduces.spec.options)),
        )
    )


@pytest.mark.parametrize(
    ("fate", "verdict", "n_started"),
    [
        (Fate.RAISES, Verdict.ERROR, 4),
        (Fate.KILLS, Verdict.POISON, 3),
        (Fate.HANGS, Verdict.TIMEOUT, 2),
    ],
)
def test_a_bad_job_fails_alone_after_its_tries(
    fate: Fate, verdict: Verdict, n_started: int
) -> None:
    options = JobOptions(max_failures=4, max_lost=3, max_timeouts=2, timeout_s=1.0)
    simulation = Simulation(RECORDED, single(fate, options), FaultPlan(), n_workers=10)
    simulation.run()
    assert [ended.verdict for ended in simulation.log.settles[1]] == [verdict]
    assert simulation.log.n_started[1] == n_started
    others = [s for job, s in simulation.log.settles.items() if job != 1]
    assert all(ended.verdict is Verdict.SUCCEEDED for (ended,) in others)


def test_an_accused_machine_gains_nothing_by_an_agent_of_another_name() -> None:
    """The oracle of grants sees to it: see `testing.oracles`."""
    faults = FaultPlan(is_remote=True, n_accused=3, n_agent_crashes=3, restart_s=0.02)
    for seed in range(8):
        result = Simulation(seed, None, faults, n_workers=10, n_agents=3).run()
        assert result.n_settled == 90
        assert result.counters["workers_expelled"] == 3


def test_nobody_comes_and_the_jobs_end_with_no_workers() -> None:
    simulation = Simulation(1, None, FaultPlan(all_die=True, restart_s=1e6), n_workers=10)
    simulation.run()
    verdicts = {settles[-1].verdict for settles in simulation.log.settles.values()}
    assert verdicts <= {Verdict.SUCCEEDED, Verdict.NO_WORKERS, Verdict.CANCELLED}
    assert Verdict.NO_WORKERS in verdicts


def test_a_crash_loop_of_a_hundred_restarts_leaves_the_memory_flat() -> None:
    options = JobOptions(max_lost=NEVER_POISON, pure=True)
    workload = Workload.map_reduce(30, 60, seconds=0.5, options=options)
    faults = FaultPlan(n_crashes=100, same_name=0.3, restart_s=0.02, unreported=0.2)
    for is_remote in (False, True):
        simulation = Simulation(3, workload, replace(faults, is_remote=is_remote), n_workers=10)
        result = simulation.run()
        machine = simulation.master.machine
        assert result.counters["workers_lost"] > 70
        assert machine.backlog.remembered() == {}
        assert len(machine.roster.agents) <= 1
        assert not machine.roster.workers
        assert len(machine.roster.by_peer) <= 1
