"""The simulator itself: one seed, one run; a broken promise is noticed and can be run again."""

from __future__ import annotations

import subprocess
import sys
from random import Random

import pytest

from paramserver.core.backlog import Backlog
from paramserver.core.commands import SettleJob
from paramserver.core.jobs import JobOptions, Phase, PhaseSpec, Verdict
from paramserver.core.link import Link
from paramserver.core.scheduler import Scheduler
from paramserver.testing.faults import FaultPlan
from paramserver.testing.simulator import Simulation, SimulationFailed, main
from paramserver.testing.workload import Fate, JobScript, PhaseScript, Workload


def one_phase(*jobs: JobScript, options: JobOptions | None = None) -> Workload:
    return Workload((PhaseScript(PhaseSpec(1, "jobs", options or JobOptions()), jobs),))


def run_good_ones(n: int) -> None:
    for seed in range(n):
        Simulation.random(seed, is_good=True).run()


@pytest.mark.parametrize("seed", [3, 57, 387])
def test_one_seed_is_one_run(seed: int) -> None:
    runs = [Simulation.random(seed) for _ in range(2)]
    results = [run.run() for run in runs]
    assert results[0] == results[1]
    assert runs[0].story() == runs[1].story()


def test_another_process_runs_a_seed_as_this_one_does() -> None:
    """Nothing hangs on the hash of a string or on the address of an object."""
    simulation = Simulation.random(22)
    simulation.run()
    command = [sys.executable, "-m", "paramserver.testing.simulator", "22"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert simulation.story() in told.stdout


def test_other_seeds_are_other_runs() -> None:
    assert Simulation.random(1).run().n_events != Simulation.random(2).run().n_events


def test_checking_the_invariants_less_often_changes_nothing_else() -> None:
    assert Simulation.random(5, check_every=0).run() == Simulation.random(5).run()


def test_a_run_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["4", "--is-good=True"]) == 0
    told = capsys.readouterr().out
    assert "master: settles" in told
    assert "SimulationResult(seed=4" in told


def test_a_broken_promise_says_how_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Link, "take_due", lambda self, now: ())
    with pytest.raises(SimulationFailed) as caught:
        run_good_ones(100)
    text = str(caught.value)
    assert "Run it again: python -m paramserver.testing.simulator" in text
    assert "--is-good=True" in text
    assert "The end of its story:" in text


def test_a_simulation_made_by_hand_says_how_to_make_it_again() -> None:
    simulation = Simulation(9, faults=FaultPlan(n_crashes=3, drop=0.1), n_workers=4)
    assert simulation.replay == (
        "Simulation(9, ..., FaultPlan(drop=0.1, n_crashes=3), n_workers=4)"
    )


def test_plans_show_what_is_not_as_usual() -> None:
    assert repr(FaultPlan()) == "FaultPlan()"
    assert FaultPlan().is_quiet
    assert not FaultPlan(drop=0.1).is_quiet
    assert not FaultPlan(n_stops=1).is_quiet


def test_random_plans_and_workloads_hang_on_their_source_only() -> None:
    for seed in range(50):
        assert FaultPlan.random(Random(seed)) == FaultPlan.random(Random(seed))
        assert Workload.random(Random(seed)) == Workload.random(Random(seed))


def test_the_story_can_be_cut_short() -> None:
    simulation = Simulation.random(4)
    simulation.run()
    assert simulation.story().endswith(simulation.story(3))
    assert len(simulation.story(3).splitlines()) == 3


# --- the oracles notice


def test_a_wrong_result_is_noticed() -> None:
    simulation = Simulation(1, one_phase(JobScript(1, 0.01)), n_workers=1)
    simulation.workload.answers[1] = b"another"
    with pytest.raises(SimulationFailed, match="wrong result"):
        simulation.run()


def test_a_job_settled_twice_is_noticed() -> None:
    simulation = Simulation(1, one_phase(JobScript(1, 0.01)), n_workers=1)
    settle = simulation.owner.settle

    def settle_twice(ended: SettleJob) -> None:
        settle(ended)
        settle(ended)

    simulation.owner.settle = settle_twice  # type: ignore[method-assign]
    with pytest.raises(SimulationFailed, match="settled twice"):
        simulation.run()


def test_a_verdict_without_a_cause_is_noticed() -> None:
    options = JobOptions(max_failures=2)
    simulation = Simulation(1, one_phase(JobScript(1, 0.01), options=options), n_workers=1)
    settle = simulation.owner.settle
    simulation.owner.settle = lambda _: settle(SettleJob(1, Verdict.ERROR))  # type: ignore[method-assign]
    with pytest.raises(SimulationFailed, match="ERROR without a cause"):
        simulation.run()


def test_a_job_that_never_ends_is_noticed() -> None:
    simulation = Simulation(1, one_phase(JobScript(1, 0.01, Fate.HANGS)), n_workers=1)
    with pytest.raises(SimulationFailed, match="jobs that are not settled"):
        simulation.run()


def test_a_forgotten_barrier_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Phase, "has_inputs", True)
    with pytest.raises(SimulationFailed, match="wrong inputs"):
        Simulation(1, n_workers=2).run()


def test_a_message_dropped_without_a_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "paramserver.core.master.MasterMachine._count_undelivered", lambda self, member: None
    )
    with pytest.raises(SimulationFailed, match="dropped without being counted"):
        Simulation(1, faults=FaultPlan(duplicate=0.5), n_workers=3).run()


def test_a_broken_invariant_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scheduler, "_start_head", lambda self, now, worker: None)
    with pytest.raises(SimulationFailed):
        run_good_ones(30)


def test_memory_that_is_not_freed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backlog, "remembered", lambda self: {"jobs": 1})
    with pytest.raises(SimulationFailed, match="remembers what nobody needs"):
        Simulation(1, n_workers=2).run()


def test_a_worker_lost_without_a_cause_is_noticed() -> None:
    simulation = Simulation(1, n_workers=3)
    simulation.log.losses["silent for 5 s"] = 1
    with pytest.raises(SimulationFailed, match="lost without a cause"):
        simulation.run()
