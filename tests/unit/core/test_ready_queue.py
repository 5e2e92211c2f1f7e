"""The queue of jobs that could run now."""

from __future__ import annotations

from itertools import pairwise

import pytest

from paramserver.core.jobs import Job, JobOptions, JobSpec, JobState, Phase, PhaseSpec, Step
from paramserver.core.ready_queue import MAX_STALE, ReadyQueue
from tests.unit.core.board import payload


class Line:
    """A queue, and jobs of phases with some priorities to put into it."""

    def __init__(self) -> None:
        self.queue = ReadyQueue()
        self.ready: list[Job] = []
        self._phases: dict[int, Phase] = {}

    def add(self, number: int, priority: int = 0, *, first: bool = False) -> Job:
        spec = PhaseSpec(priority, options=JobOptions(priority=priority))
        phase = self._phases.setdefault(priority, Phase(spec))
        job = Job(JobSpec(number, payload()), phase, JobState.READY)
        phase.counts[JobState.READY] += 1
        self.ready.append(job)
        self.queue.add(job, first=first)
        self.queue.check(len(self.ready))
        return job

    def cancel(self, job: Job) -> None:
        job.phase.move(job, Step.CANCEL)
        self.ready.remove(job)
        self.queue.check(len(self.ready))

    def drain(self) -> list[int]:
        order = []
        while (job := self.queue.peek()) is not None:
            assert self.queue.peek() is job, "looking does not change it"
            self.queue.pop()
            order.append(job.number)
            self.ready.remove(job)
            self.queue.check(len(self.ready))
        return order


@pytest.fixture
def line() -> Line:
    return Line()


def test_an_empty_queue_has_no_next(line: Line) -> None:
    assert line.queue.peek() is None
    assert len(line.queue) == 0


def test_jobs_leave_in_the_order_of_their_coming(line: Line) -> None:
    for number in (1, 2, 3):
        line.add(number)
    assert len(line.queue) == 3
    assert line.drain() == [1, 2, 3]


def test_a_higher_priority_goes_first_whenever_it_comes(line: Line) -> None:
    for number, priority in ((1, 0), (2, -5), (3, 7), (4, 0), (5, 7)):
        line.add(number, priority)
    assert line.drain() == [3, 5, 1, 4, 2]


def test_who_is_put_first_goes_first_within_its_priority(line: Line) -> None:
    line.add(1)
    line.add(2, 7)
    line.add(3, first=True)
    assert line.drain() == [2, 3, 1]


def test_a_priority_whose_jobs_are_gone_can_come_again(line: Line) -> None:
    line.add(1, 7)
    assert line.drain() == [1]
    line.add(2)
    line.add(3, 7)
    assert line.drain() == [3, 2]


def test_what_is_not_ready_any_more_is_passed_over(line: Line) -> None:
    jobs = [line.add(number) for number in range(5)]
    for job in (jobs[0], jobs[1], jobs[3]):
        line.cancel(job)
    assert line.drain() == [2, 4]
    assert len(line.queue) == 0


def test_few_stale_jobs_are_kept_until_they_come_to_the_front(line: Line) -> None:
    jobs = [line.add(number) for number in range(MAX_STALE + 1)]
    for job in jobs[1:]:
        line.cancel(job)
    line.queue.clear_stale(1)
    assert len(line.queue) == MAX_STALE + 1


def test_more_stale_jobs_than_that_are_cleared_out(line: Line) -> None:
    keep = line.add(1)
    for number in range(2, MAX_STALE + 3):
        line.cancel(line.add(number, priority=number % 3))
    line.queue.clear_stale(1)
    line.queue.check(1)
    assert len(line.queue) == 1
    assert line.queue.peek() is keep


def test_as_many_stale_jobs_as_ready_ones_are_no_burden(line: Line) -> None:
    jobs = [line.add(number) for number in range(400)]
    for job in jobs[::2]:
        line.cancel(job)
    line.queue.clear_stale(200)
    assert len(line.queue) == 400
    line.cancel(jobs[1])
    line.queue.clear_stale(199)
    assert len(line.queue) == 199


def test_when_nothing_is_ready_nothing_is_kept(line: Line) -> None:
    line.cancel(line.add(1))
    line.queue.clear_stale(0)
    assert len(line.queue) == 0
    assert line.queue.peek() is None


def test_a_job_put_in_twice_is_noticed(line: Line) -> None:
    job = line.add(1)
    line.queue.add(job)
    with pytest.raises(AssertionError, match="once"):
        line.queue.check(1)


def test_a_hundred_priorities_stay_sorted(line: Line) -> None:
    for number in range(100):
        line.add(number, (number * 37) % 100)
    order = [(number * 37) % 100 for number in line.drain()]
    assert all(high > low for high, low in pairwise(order))
