"""Where the time of workers goes."""

from __future__ import annotations

import pytest

from paramserver.training.tally import Tally, WorkerTime
from paramserver.training.timeline import JobSpan


def span(begun_s: float, ended_s: float, end: str = "done", worker_id: str = "a") -> JobSpan:
    return JobSpan(worker_id, 0, 3, begun_s, ended_s, end)


def shares(time: WorkerTime) -> tuple[float, float, float, float]:
    return (time.compute_s, time.wire_s, time.wait_s, time.lost_s)


def test_the_time_of_a_worker_is_told_whole_up_to_the_end_of_its_last_job() -> None:
    tally = Tally()
    tally.end(span(1.0, 3.0))
    tally.work("a", compute_s=1.25, wait_s=0.25)
    tally.end(span(4.0, 6.0, "lost"))
    time = tally.workers["a"]
    assert shares(time) == (1.25, 0.5, 2.25, 2.0)
    assert time.total_s == 6.0
    assert (time.n_jobs, time.n_failed, time.n_unneeded) == (1, 1, 0)
    assert tally.owners == {3: "a"}


def test_what_a_worker_claims_is_no_more_than_what_its_job_took() -> None:
    tally = Tally()
    tally.end(span(0.0, 2.0))
    tally.work("a", compute_s=50.0, wait_s=9.0)
    assert shares(tally.workers["a"]) == (2.0, 0.0, 0.0, 0.0)


def test_the_time_before_a_worker_joined_is_nobodys() -> None:
    tally = Tally()
    tally.end(span(0.0, 1.0, "lost"))
    tally.join("a", 5.0)
    tally.end(span(5.5, 6.0, "unneeded"))
    time = tally.workers["a"]
    assert shares(time) == (0.0, 0.0, 0.5, 1.5)
    assert (time.n_failed, time.n_unneeded) == (1, 1)


def test_a_training_that_is_resumed_counts_from_there() -> None:
    tally = Tally()
    tally.join("b", 2.0)
    tally.begin(100.0)
    tally.join("c", 2.0)
    for worker_id in "abc":
        tally.end(span(101.0, 102.0, worker_id=worker_id))
    assert {name: shares(time) for name, time in tally.workers.items()} == {
        name: pytest.approx((0.0, 1.0, 1.0, 0.0)) for name in "abc"
    }


def test_jobs_that_overlap_by_the_clock_are_counted_once() -> None:
    tally = Tally()
    tally.end(span(0.0, 2.0))
    tally.end(span(1.0, 3.0))
    assert tally.workers["a"].total_s == 3.0


def test_what_a_worker_tells_amid_a_job_is_added_until_the_job_ends() -> None:
    tally = Tally()
    tally.end(span(0.0, 1.0))
    tally.begin_work(7, "a", 1.5, began=80.0)
    tally.begin_work(8, "b", 0.5, began=79.0)
    assert {name: shares(time) for name, time in tally.now().items()} == {
        "a": (0.0, 1.0, 0.5, 0.0), "b": (0.0, 0.0, 0.5, 0.0)
    }  # fmt: skip
    tally.at_work[7].tell(0.25, 0.5, at=81.0)
    tally.at_work[8].tell(1.5, 0.25, at=81.0)
    tally.at_work[7].tell(1.25, 0.5, at=82.0)
    assert {name: shares(time) for name, time in tally.now().items()} == {
        "a": (1.25, 1.25, 1.0, 0.0), "b": (1.5, 0.25, 0.75, 0.0)
    }  # fmt: skip
    assert shares(tally.workers["a"]) == (0.0, 1.0, 0.0, 0.0)
    tally.end(span(1.5, 4.0))
    tally.work("a", compute_s=1.5, wait_s=0.5)
    assert shares(tally.now()["a"]) == shares(tally.workers["a"]) == (1.5, 1.5, 1.0, 0.0)
    assert list(tally.at_work) == [8]


@pytest.mark.parametrize(
    ("claimed", "compute_s"), [(50.0, 2.0), (-1.0, 0.0), (float("nan"), 0.0), (float("inf"), 2.0)]
)
def test_what_a_worker_claims_on_its_way_is_no_more_than_the_time_since_it_began(
    claimed: float, compute_s: float
) -> None:
    tally = Tally()
    tally.begin_work(7, "a", 0.0, began=0.0)
    tally.at_work[7].tell(claimed, 0.0, at=2.0)
    assert shares(tally.now()["a"]) == (compute_s, 2.0 - compute_s, 0.0, 0.0)
