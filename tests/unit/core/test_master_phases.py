"""Phases: their barriers, what is handed from one to the next, and what of that is lost again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from paramserver.core.commands import AnnounceWorker, KillWorker, MasterCommand
from paramserver.core.events import (
    CancelRequested,
    JobsSubmitted,
    PhaseClosed,
    PhaseDropped,
)
from paramserver.core.jobs import JobOptions, JobState
from paramserver.protocol.messages import (
    GrantJobs,
    JobsReturned,
    Outcome,
)
from tests.unit.core.board import (
    FAILED_BEFORE,
    TRIES,
    Board,
    cancelled,
    error,
    grant,
    granted,
    lost,
    open_two,
    payload,
    result,
    specs,
    succeeded,
    to_reduce,
)

# --- barriers


def test_jobs_of_the_next_phase_wait_for_all_before_and_get_their_results(crew: Board) -> None:
    open_two(crew)
    assert granted(crew.tick()) == {b"p1": [(1, 1)], b"p2": [(2, 1)]}
    crew.ends(b"p2", result(2))
    assert granted(crew.tick()) == {}
    crew.ends(b"p1", result(1))
    inputs = (payload("result 1.1"), payload("result 2.1"))
    assert crew.tick() == [
        crew.sends(GrantJobs((grant(11, inputs=inputs),)), b"p1", seq=2, ack=1),
        crew.sends(GrantJobs((grant(12, inputs=inputs),)), b"p2", seq=2, ack=1),
    ]


def test_a_phase_is_not_complete_before_it_is_closed(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 1, keep=True, close=False)
    board.open(2, 11, after=1)
    board.tick()
    board.ends(b"p1", result(1))
    assert granted(board.tick()) == {}
    board.do(PhaseClosed(board.now, 1))
    assert granted(board.tick()) == {b"p1": [(11, 1)]}


def test_a_phase_opened_after_a_complete_one_has_its_inputs(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, keep=True)
    board.open(2, 11, after=1)
    assert board.tick() == [board.sends(GrantJobs((grant(11),)), seq=1)]


def test_the_first_phase_may_have_number_zero(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(0, 1, keep=True)
    board.open(1, 11, after=0)
    board.tick()
    board.ends(b"p1", result(1))
    assert granted(board.tick()) == {b"p1": [(11, 1)]}
    for phase in (1, 0):
        board.do(PhaseDropped(board.now, phase))
    board.tick()
    assert board.machine.backlog.remembered() == {}


def test_when_a_job_fails_those_that_wait_for_its_phase_are_cancelled(crew: Board) -> None:
    open_two(crew, options=JobOptions())
    crew.open(3, 21, after=2)
    crew.tick()
    assert crew.ends(b"p1", result(1, outcome=Outcome.ERROR)) == [
        error(1),
        cancelled(11, FAILED_BEFORE),
        cancelled(21, FAILED_BEFORE),
        cancelled(12, FAILED_BEFORE),
    ]
    assert crew.ends(b"p2", result(2)) == [succeeded(2, worker_id="w2")], "the rest goes on"


def test_jobs_handed_in_after_their_inputs_have_failed_are_cancelled_too(crew: Board) -> None:
    crew.open(1, 1, keep=True)
    crew.open(2, after=1, close=False)
    crew.open(3, after=2, close=False)
    crew.tick()
    crew.ends(b"p1", result(1, outcome=Outcome.ERROR))
    assert crew.do(JobsSubmitted(crew.now, 3, specs(21))) == [cancelled(21, FAILED_BEFORE)]
    assert crew.do(JobsSubmitted(crew.now, 2, specs(11))) == [cancelled(11, FAILED_BEFORE)]
    crew.do(PhaseClosed(crew.now, 2))
    assert granted(crew.tick()) == {}


def test_a_phase_opened_after_a_failed_or_unknown_one_is_doomed(crew: Board) -> None:
    crew.open(1, 1, keep=True)
    crew.tick()
    crew.ends(b"p1", result(1, outcome=Outcome.ERROR))
    assert crew.open(2, 11, after=1) == [cancelled(11, FAILED_BEFORE)]
    assert crew.open(3, 12, after=99) == [cancelled(12, FAILED_BEFORE)]
    assert crew.open(4, 13, after=3) == [cancelled(13, FAILED_BEFORE)]


def test_a_dropped_phase_is_forgotten_and_what_is_left_is_cancelled(crew: Board) -> None:
    open_two(crew)
    crew.tick()
    crew.ends(b"p1", result(1))
    assert crew.do(PhaseDropped(crew.now, 2)) == [cancelled(11), cancelled(12)]
    assert crew.do(PhaseDropped(crew.now, 1)) == [
        cancelled(2),
        KillWorker("local", "w2", "its job was cancelled"),
        AnnounceWorker(2, "w2", "lost", "its job was cancelled"),
    ]
    assert crew.do(PhaseDropped(crew.now, 1)) == []
    crew.tick()
    assert crew.machine.backlog.remembered() == {}


def test_one_of_two_phases_that_wait_for_the_same_can_be_dropped(crew: Board) -> None:
    crew.open(1, 1, keep=True)
    crew.open(2, 11, after=1)
    crew.open(3, 12, after=1)
    crew.do(PhaseDropped(crew.now, 2))
    crew.tick()
    crew.ends(b"p1", result(1))
    assert list(granted(crew.tick()).values()) == [[(12, 1)]]


def test_dropping_a_phase_that_others_wait_for_dooms_them(board: Board) -> None:
    board.open(1, keep=True, close=False)
    board.open(2, 11, after=1)
    assert board.do(PhaseDropped(board.now, 1)) == [cancelled(11, FAILED_BEFORE)]


def test_dropping_a_phase_leaves_those_that_have_its_results(board: Board) -> None:
    board.open(1, keep=True)
    board.open(2, 11, after=1)
    assert board.do(PhaseDropped(board.now, 1)) == []
    board.join("w1", b"p1")
    assert granted(board.tick()) == {b"p1": [(11, 1)]}


def test_what_comes_for_a_phase_that_is_gone_is_cancelled_or_ignored(board: Board) -> None:
    text = "its phase was dropped"
    assert board.do(JobsSubmitted(board.now, 9, specs(7))) == [cancelled(7, text)]
    assert board.do(PhaseClosed(board.now, 9)) == []


def test_a_phase_without_jobs_passes_the_barrier_on(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 1, keep=True)
    board.open(2, after=1, keep=True)
    board.open(3, 31, after=2)
    assert granted(board.tick()) == {b"p1": [(1, 1)]}
    board.ends(b"p1", result(1))
    assert granted(board.tick()) == {b"p1": [(31, 1)]}


def test_a_failure_passes_a_phase_without_jobs(board: Board) -> None:
    board.open(1, 1, keep=True)
    board.open(2, after=1, keep=True)
    board.open(3, 31, after=2)
    assert board.do(CancelRequested(board.now, (1,))) == [
        cancelled(1),
        cancelled(31, FAILED_BEFORE),
    ]


# --- inputs that can no longer be read


def test_a_lost_input_is_made_again_and_nobody_reads_before(crew: Board) -> None:
    to_reduce(crew)
    assert crew.ends(b"p1", lost(11, 1)) == []
    assert granted(crew.tick()) == {b"p1": [(2, 2)]}
    states = [crew.machine.backlog.jobs[job].state for job in (11, 12, 13)]
    assert states == [JobState.WAITING, JobState.GRANTED, JobState.WAITING]
    assert crew.ends(b"p1", result(2, 2)) == [succeeded(2, 2, "w1", 2)]
    inputs = (payload("result 1.1"), payload("result 2.2"))
    assert crew.tick() == [crew.sends(GrantJobs((grant(11, 2, inputs),)), b"p1", seq=4, ack=3)]
    assert crew.counters["reopened"] == 1
    assert crew.mishaps(11) == (0, 0, 0, 0), "the reader is not charged"


def test_what_is_queued_meanwhile_is_held_back(crew: Board) -> None:
    to_reduce(crew)
    crew.ends(b"p1", lost(11, 1))
    crew.tick()
    crew.ends(b"p2", result(12))
    assert granted(crew.tick()) == {}
    assert crew.machine.backlog.jobs[13].state is JobState.WAITING
    crew.ends(b"p1", result(2, 2))
    assert granted(crew.tick()) == {b"p1": [(11, 2)], b"p2": [(13, 1)]}


def test_an_input_that_two_readers_miss_is_made_again_once(crew: Board) -> None:
    to_reduce(crew)
    crew.ends(b"p1", lost(11, 1))
    crew.tick()
    crew.ends(b"p2", lost(12, 1))
    crew.ends(b"p1", result(2, 2))
    assert granted(crew.tick()) == {b"p1": [(11, 2)], b"p2": [(12, 2)]}
    assert crew.counters["reopened"] == 1


def test_who_misses_an_input_that_was_made_again_already_reads_the_new_one(crew: Board) -> None:
    to_reduce(crew)
    crew.ends(b"p1", lost(11, 1))
    crew.tick()
    crew.ends(b"p1", result(2, 2))
    crew.tick()
    crew.ends(b"p2", lost(12, 1))
    assert granted(crew.tick()) == {b"p2": [(12, 2)]}
    assert crew.counters["reopened"] == 1


def test_an_output_that_is_lost_again_and_again_is_charged_to_its_reader(crew: Board) -> None:
    to_reduce(crew, JobOptions(max_failures=1))
    crew.machine.backlog.jobs[2].suffer("lost twice before").n_remade = 2
    assert crew.ends(b"p1", lost(11, 1)) == [error(11)]


@pytest.mark.parametrize("index", [2, 10**6])
def test_an_input_that_does_not_exist_is_an_error(crew: Board, index: int) -> None:
    to_reduce(crew, JobOptions(max_failures=1))
    assert crew.ends(b"p1", lost(11, index)) == [error(11)]


def test_an_input_of_a_phase_that_is_gone_is_an_error(crew: Board) -> None:
    to_reduce(crew, JobOptions(max_failures=1))
    crew.do(PhaseDropped(crew.now, 1))
    assert crew.ends(b"p1", lost(11, 1)) == [error(11)]


def test_a_job_without_inputs_cannot_have_lost_one(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 7)
    board.tick()
    assert board.ends(b"p1", lost(7, 0)) == [error(7)]


def test_if_a_lost_input_cannot_be_made_again_nobody_waits_for_it(crew: Board) -> None:
    to_reduce(crew)
    crew.ends(b"p1", lost(11, 1))
    crew.tick()
    assert crew.ends(b"p1", result(2, 2, Outcome.ERROR)) == [
        error(2, "w1", 2, 2),
        cancelled(11, FAILED_BEFORE),
        cancelled(13, FAILED_BEFORE),
    ]
    assert crew.ends(b"p2", lost(12, 1)) == [cancelled(12, FAILED_BEFORE)]


def three_phases(board: Board) -> None:
    """Let w1 run job 21 of the third phase; each phase has one job."""
    board.join("w1", b"p1")
    board.open(1, 1, options=TRIES, keep=True)
    board.open(2, 11, options=TRIES, after=1, keep=True)
    board.open(3, 21, options=JobOptions(max_failures=2), after=2)
    for job in (1, 11):
        board.tick()
        board.ends(b"p1", result(job))
    board.tick()


def test_a_lost_output_whose_own_input_is_lost_is_made_again_from_the_start(board: Board) -> None:
    three_phases(board)
    board.ends(b"p1", lost(21, 0))
    assert granted(board.tick()) == {b"p1": [(11, 2)]}
    board.ends(b"p1", lost(11, 0, 2))
    assert granted(board.tick()) == {b"p1": [(1, 2)]}
    for job in (1, 11):
        board.ends(b"p1", result(job, 2 if job == 1 else 3))
        granted_now = granted(board.tick())
    assert granted_now == {b"p1": [(21, 2)]}


@pytest.mark.parametrize(
    "end",
    [
        lambda board: board.do(CancelRequested(board.now, (1,))),
        lambda board: board.do(PhaseDropped(board.now, 1)),
    ],
    ids=["failed", "dropped"],
)
def test_a_phase_that_is_complete_outlives_the_one_before(
    board: Board, end: Callable[[Board], list[MasterCommand]]
) -> None:
    three_phases(board)
    board.open(4, 31, after=1)
    board.join("w2", b"p2")
    assert granted(board.tick()) == {b"p2": [(31, 1)]}
    board.ends(b"p2", lost(31, 0))
    board.tick()
    assert end(board)[:2] == [cancelled(1), cancelled(31, FAILED_BEFORE)]
    assert board.ends(b"p1", lost(21, 0)) == [], "charged: its input cannot be made any more"
    assert granted(board.tick()) == {b"p1": [(21, 2)]}
    assert board.ends(b"p1", lost(21, 0, 2)) == [error(21, "w1", 2, 2)]


def test_a_phase_without_jobs_has_no_inputs_to_lose(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 1, keep=True)
    board.open(2, after=1, keep=True)
    board.open(3, 31, after=2)
    board.open(4, 41, after=1)
    board.tick()
    board.ends(b"p1", result(1))
    board.join("w2", b"p2")
    assert granted(board.tick()) == {b"p1": [(31, 1)], b"p2": [(41, 1)]}
    board.ends(b"p2", lost(41, 0))
    assert granted(board.tick()) == {b"p2": [(1, 2)]}
    assert board.ends(b"p1", result(31)) == [succeeded(31)]


def test_all_phases_that_read_a_lost_output_are_held_back(crew: Board) -> None:
    crew.open(1, 1, keep=True)
    crew.open(2, 11, after=1)
    crew.open(3, 21, after=1)
    crew.tick()
    crew.ends(b"p1", result(1))
    crew.says(b"p2", JobsReturned((), draining=True))
    assert granted(crew.tick()) == {b"p1": [(11, 1)]}
    crew.ends(b"p1", lost(11, 0))
    assert granted(crew.tick()) == {b"p1": [(1, 2)]}
    assert crew.machine.backlog.phases[3].inputs is None
