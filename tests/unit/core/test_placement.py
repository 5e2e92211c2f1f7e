"""Which worker gets a job, and how far ahead."""

from __future__ import annotations

from collections import deque

import pytest

from paramserver.core import placement
from paramserver.core.jobs import Attempt, Job, JobOptions, JobSpec, JobState, Phase, PhaseSpec
from paramserver.core.quarantine import Origin
from paramserver.core.roster import Roster, Worker
from tests.unit.core.board import payload


def phase(**options: object) -> Phase:
    return Phase(PhaseSpec(1, options=JobOptions(**options)))  # type: ignore[arg-type]


def quick_phase() -> Phase:
    """Make a phase whose jobs are so short that some are granted ahead."""
    made = phase()
    made.add_duration(0.001)
    return made


def job(of: Phase, affinity: str | None = None) -> Job:
    return Job(JobSpec(1, payload(), affinity), of, JobState.READY)


def workers(*loads: int) -> deque[Worker]:
    roster = Roster(lambda: "token")
    agent = roster.agent("a", "token", Origin())
    made = deque(roster.join(0.0, f"w{index}", agent, b"%d" % index) for index in range(len(loads)))
    for worker, load in zip(made, loads, strict=True):
        for number in range(load):
            attempt = Attempt(job(phase()), number, worker.incarnation, is_backup=False)
            worker.held[attempt.key] = attempt
    return made


def names(rooms: deque[Worker]) -> list[str]:
    return [worker.worker_id for worker in rooms]


@pytest.mark.parametrize(
    ("mean_s", "expected"),
    [
        (None, 1),
        (1.0, 1),
        (placement.LONG_S, 1),
        (0.01, 2),
        (0.001, 6),
        (1e-5, placement.WINDOW_MAX),
        (0.0, placement.WINDOW_MAX),
    ],
)
def test_the_shorter_the_jobs_the_more_are_held(mean_s: float | None, expected: int) -> None:
    some = phase()
    some.mean_s = mean_s
    assert placement.window(some) == expected


@pytest.mark.parametrize("limit", ["timeout_s", "lease_s"])
def test_jobs_with_a_deadline_are_never_granted_ahead(limit: str) -> None:
    some = phase(**{limit: 5.0})
    some.add_duration(1e-5)
    assert placement.window(some) == 1


def test_jobs_go_round() -> None:
    rooms = workers(0, 0, 0)
    chosen = [placement.choose(job(phase()), rooms) for _ in range(4)]
    assert [worker and worker.worker_id for worker in chosen] == ["w0", "w1", "w2", "w0"]


def test_full_workers_are_taken_off_the_line() -> None:
    rooms = workers(1, 1)
    assert placement.choose(job(phase()), rooms) is None
    assert not rooms


def test_a_worker_that_has_the_data_is_preferred_among_the_idle() -> None:
    rooms = workers(0, 0, 0)
    rooms[1].note_cached("rows 1")
    chosen = placement.choose(job(phase(), "rows 1"), rooms)
    assert chosen is not None
    assert chosen.worker_id == "w1"
    assert names(rooms) == ["w0", "w2", "w1"]


def test_an_idle_worker_goes_before_a_busy_one_that_has_the_data() -> None:
    rooms = workers(0, 2)
    rooms[1].note_cached("rows 1")
    chosen = placement.choose(job(quick_phase(), "rows 1"), rooms)
    assert chosen is not None
    assert chosen.worker_id == "w0"


def test_after_a_failure_another_worker_is_tried() -> None:
    rooms = workers(0, 2)
    again = job(quick_phase())
    again.suffer("it failed there").last_incarnation = rooms[0].incarnation
    chosen = placement.choose(again, rooms)
    assert chosen is not None
    assert chosen.worker_id == "w1"


def test_the_same_worker_is_tried_again_when_there_is_no_other() -> None:
    rooms = workers(0, 1)
    again = job(phase())
    again.suffer("it failed there").last_incarnation = rooms[0].incarnation
    chosen = placement.choose(again, rooms)
    assert chosen is not None
    assert chosen.worker_id == "w0"


def settled_phase(n_settled: int, *durations: float, pure: bool = True) -> Phase:
    some = phase(pure=pure)
    some.n_jobs = 10
    some.counts[JobState.SUCCEEDED] = n_settled
    for seconds in durations:
        some.add_duration(seconds)
    return some


def test_a_straggler_is_one_that_takes_longer_than_a_median_and_a_bit() -> None:
    assert placement.straggler_after_s(settled_phase(5, 1.0, 2.0, 9.0)) == 2.5
    assert placement.straggler_after_s(settled_phase(5, 0.001)) == placement.STRAGGLER_MIN_S


def test_there_are_no_stragglers_before_half_of_the_phase_is_settled() -> None:
    assert placement.straggler_after_s(settled_phase(4, 1.0)) is None


def test_there_are_no_stragglers_while_no_duration_is_known() -> None:
    assert placement.straggler_after_s(settled_phase(5)) is None


def test_jobs_that_are_not_pure_have_no_backups() -> None:
    assert placement.straggler_after_s(settled_phase(9, 1.0, pure=False)) is None
