"""When which attempt has to be looked at."""

from __future__ import annotations

import pytest

from paramserver.core.deadlines import MIN_COMPACT, Deadlines
from paramserver.core.jobs import Attempt, Job, JobState, Phase, PhaseSpec
from paramserver.core.quarantine import Origin
from paramserver.core.roster import Roster, Worker
from tests.unit.core.board import specs


class Desk:
    """A worker that holds attempts, and their deadlines."""

    def __init__(self) -> None:
        self.roster = Roster(lambda: "token")
        agent = self.roster.agent("a", "token", Origin())
        self.worker: Worker = self.roster.join(0.0, "w1", agent, b"p1")
        self.deadlines = Deadlines(self.roster)

    def hold(self, number: int) -> Attempt:
        (spec,) = specs(number)
        job = Job(spec, Phase(PhaseSpec(1)), JobState.GRANTED)
        attempt = Attempt(job, 1, self.worker.incarnation, is_backup=False)
        self.worker.held[attempt.key] = attempt
        return attempt

    def let_go(self, attempt: Attempt) -> None:
        del self.worker.held[attempt.key]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_without_attempts_there_is_nothing_to_look_at(desk: Desk) -> None:
    assert desk.deadlines.earliest is None
    assert desk.deadlines.take_passed(1e9) == []


def test_those_whose_time_has_passed_are_found_the_earliest_first(desk: Desk) -> None:
    late, later, never = (desk.hold(number) for number in (1, 2, 3))
    desk.deadlines.put(later, 5.0)
    desk.deadlines.put(late, 4.0)
    desk.deadlines.put(never, 50.0)
    assert desk.deadlines.earliest == 4.0
    assert desk.deadlines.take_passed(3.9) == []
    assert desk.deadlines.take_passed(5.0) == [late, later]
    assert late.deadline is None
    assert desk.deadlines.take_passed(5.0) == []
    assert desk.deadlines.earliest == 50.0


def test_a_renewed_lease_is_found_at_its_new_time(desk: Desk) -> None:
    attempt = desk.hold(1)
    desk.deadlines.put(attempt, 4.0)
    desk.deadlines.put(attempt, 9.0)
    assert desk.deadlines.take_passed(4.0) == []
    assert desk.deadlines.earliest == 9.0
    assert desk.deadlines.take_passed(9.0) == [attempt]


def test_a_time_can_be_brought_forward(desk: Desk) -> None:
    attempt = desk.hold(1)
    desk.deadlines.put(attempt, 9.0)
    desk.deadlines.put(attempt, 4.0)
    assert desk.deadlines.take_passed(4.0) == [attempt]
    assert desk.deadlines.take_passed(9.0) == []


def test_those_of_ended_attempts_and_lost_workers_are_passed_over(desk: Desk) -> None:
    ended, lost = desk.hold(1), desk.hold(2)
    desk.deadlines.put(ended, 4.0)
    desk.deadlines.put(lost, 4.0)
    desk.let_go(ended)
    desk.roster.remove(desk.worker)
    assert desk.deadlines.take_passed(4.0) == []
    assert len(desk.deadlines) == 0


def test_another_attempt_under_the_same_name_is_not_mistaken(desk: Desk) -> None:
    first = desk.hold(1)
    desk.deadlines.put(first, 4.0)
    desk.let_go(first)
    desk.hold(1)
    assert desk.deadlines.take_passed(4.0) == []


def test_everyone_can_be_given_more_time(desk: Desk) -> None:
    attempt, timeless, ended = desk.hold(1), desk.hold(2), desk.hold(3)
    desk.deadlines.put(attempt, 4.0)
    desk.deadlines.put(ended, 3.0)
    desk.let_go(ended)
    desk.deadlines.extend(10.0)
    assert timeless.deadline is None
    assert (attempt.deadline, desk.deadlines.earliest, len(desk.deadlines)) == (14.0, 14.0, 1)


def test_the_times_of_ended_attempts_do_not_pile_up(desk: Desk) -> None:
    for number in range(10 * MIN_COMPACT):
        attempt = desk.hold(number)
        desk.deadlines.put(attempt, 1e9 + number)
        desk.let_go(attempt)
        assert len(desk.deadlines) <= MIN_COMPACT
