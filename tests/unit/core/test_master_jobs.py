"""Jobs on their way: granted, ended, cancelled, withdrawn; phases and their barriers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from paramserver.core.commands import AnnounceWorker, KillWorker, MasterCommand, SettleJob
from paramserver.core.events import (
    CancelRequested,
    JobsSubmitted,
    JobsWithdrawn,
    PhaseClosed,
    PhaseDropped,
    PhaseOpened,
    ServiceReplied,
    StopRequested,
)
from paramserver.core.jobs import JobOptions, JobState, PhaseSpec, Verdict
from paramserver.core.roster import WorkerState
from paramserver.core.scheduler import USELESS_S
from paramserver.protocol.messages import (
    GrantJobs,
    JobResult,
    JobsReturned,
    Outcome,
    ServiceReply,
    Stop,
    TakeBack,
)
from tests.unit.core.board import (
    Board,
    cancelled,
    grant,
    granted,
    payload,
    result,
    specs,
    succeeded,
)

TRIES = JobOptions(max_failures=3)
PURE = JobOptions(max_failures=3, pure=True)
FAILED_BEFORE = "phase before failed"


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def crew() -> Board:
    """A board with two workers."""
    board = Board()
    board.join("w1", b"p1")
    board.join("w2", b"p2")
    return board


def error(job: int, worker_id: str = "w1", attempt: int = 1, attempts: int = 1) -> SettleJob:
    body = payload(f"result {job}.{attempt}")
    return SettleJob(job, Verdict.ERROR, body, worker_id, attempts)


# --- granting


def test_jobs_wait_for_workers(board: Board) -> None:
    assert board.open(1, 7) == []
    assert board.tick() == []
    board.join("w1", b"p1")
    assert board.tick() == [board.sends(GrantJobs((grant(7),)), seq=1)]


def test_each_idle_worker_gets_one_job_and_the_next_when_it_has_ended(crew: Board) -> None:
    crew.open(1, 7, 8, 9)
    assert granted(crew.tick()) == {b"p1": [(7, 1)], b"p2": [(8, 1)]}
    assert crew.ends(b"p2", result(8)) == [succeeded(8, 1, "w2")]
    assert granted(crew.tick()) == {b"p2": [(9, 1)]}


def test_short_jobs_are_granted_ahead_in_one_message(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, *range(1, 20))
    board.tick()
    board.ends(b"p1", result(1, seconds=0.001))
    assert granted(board.tick()) == {b"p1": [(job, 1) for job in range(2, 8)]}


def test_a_higher_priority_goes_first(board: Board) -> None:
    board.open(1, 1)
    board.open(2, 2, options=JobOptions(priority=5))
    board.join("w1", b"p1")
    assert granted(board.tick()) == {b"p1": [(2, 1)]}


def test_the_worker_that_has_read_the_data_is_preferred(crew: Board) -> None:
    crew.do(PhaseOpened(crew.now, PhaseSpec(1)))
    crew.do(JobsSubmitted(crew.now, 1, specs(7, affinity="rows")))
    assert granted(crew.tick()) == {b"p1": [(7, 1)]}
    crew.ends(b"p1", result(7))
    crew.do(JobsSubmitted(crew.now, 1, (*specs(8), *specs(9, affinity="rows"))))
    assert granted(crew.tick()) == {b"p1": [(8, 1)], b"p2": [(9, 1)]}


def test_a_suspect_and_a_leaving_worker_get_nothing(crew: Board) -> None:
    crew.disconnect(b"p1")
    crew.says(b"p2", JobsReturned((), draining=True))
    crew.open(1, 7)
    assert granted(crew.tick()) == {}
    assert crew.worker("w2").state is WorkerState.DRAINING


# --- ending


def test_the_first_result_counts_and_any_other_is_dropped_and_counted(crew: Board) -> None:
    crew.open(1, 7)
    crew.tick()
    assert crew.ends(b"p1", result(7)) == [succeeded(7)]
    assert crew.ends(b"p1", result(7)) == []
    assert crew.ends(b"p2", result(7, 2)) == []
    assert crew.counters["stale"] == 2


def test_an_error_is_final_at_once_unless_tries_were_asked_for(crew: Board) -> None:
    crew.open(1, 7)
    crew.tick()
    assert crew.ends(b"p1", result(7, outcome=Outcome.ERROR)) == [error(7)]


def test_an_error_is_tried_again_elsewhere_until_the_tries_are_used_up(crew: Board) -> None:
    crew.open(1, 7, options=TRIES)
    crew.tick()
    assert crew.ends(b"p1", result(7, outcome=Outcome.ERROR)) == []
    assert granted(crew.tick()) == {b"p2": [(7, 2)]}
    assert crew.ends(b"p2", result(7, 2, Outcome.REFUSED)) == []
    assert granted(crew.tick()) == {b"p1": [(7, 3)]}
    assert crew.ends(b"p1", result(7, 3, Outcome.ERROR)) == [error(7, "w1", 3, 3)]


def test_a_result_after_errors_says_how_many_attempts_there_were(crew: Board) -> None:
    crew.open(1, 7, options=TRIES)
    crew.tick()
    crew.ends(b"p1", result(7, outcome=Outcome.ERROR))
    crew.tick()
    assert crew.ends(b"p2", result(7, 2)) == [succeeded(7, 2, "w2", 2)]


def test_what_was_never_begun_is_given_back_and_granted_anew_in_order(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, *range(1, 5))
    board.tick()
    board.ends(b"p1", result(1, seconds=0.001))
    board.tick()
    board.says(b"p1", JobsReturned(((3, 1), (4, 1), (99, 1)), draining=False))
    assert board.counters["stale"] == 1
    assert granted(board.tick()) == {b"p1": [(3, 2), (4, 2)]}


def test_what_a_leaving_worker_gives_back_is_charged_to_nobody(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 1, 2)
    board.tick()
    board.says(b"p1", JobsReturned(((1, 1),), draining=True))
    board.says(b"p1", JobsReturned((), draining=True))
    assert board.machine.backlog.jobs[1].state is JobState.READY
    assert board.mishaps(1) == (0, 0, 0, 0)


# --- cancelling


def test_cancelled_in_the_queue_a_job_is_never_granted(board: Board) -> None:
    board.open(1, 7, 8)
    assert board.do(CancelRequested(board.now, (7, 99))) == [cancelled(7)]
    assert board.do(CancelRequested(board.now, (7,))) == []
    board.join("w1", b"p1")
    assert granted(board.tick()) == {b"p1": [(8, 1)]}


def test_cancelled_while_it_runs_its_worker_is_killed(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 7)
    board.tick()
    assert board.do(CancelRequested(board.now, (7,))) == [
        cancelled(7),
        KillWorker("local", "w1", "its job was cancelled"),
        AnnounceWorker(1, "w1", "lost", "its job was cancelled"),
    ]


def hold_two(board: Board) -> None:
    """Let worker w1 run job 2, with job 3 behind it."""
    board.join("w1", b"p1")
    board.open(1, 1, 2, 3)
    board.tick()
    board.ends(b"p1", result(1, seconds=0.001))
    assert granted(board.tick()) == {b"p1": [(2, 1), (3, 1)]}


def test_cancelled_behind_another_a_job_is_taken_back(board: Board) -> None:
    hold_two(board)
    assert board.do(CancelRequested(board.now, (3,))) == [cancelled(3)]
    assert board.tick() == [board.sends(TakeBack(((3, 1),)), seq=3, ack=1)]
    assert board.says(b"p1", JobsReturned(((3, 1),), draining=False)) == []
    assert list(board.worker().held) == [(2, 1)]


def test_a_cancelled_job_that_had_begun_all_the_same_ends_its_worker_after_a_while(
    board: Board,
) -> None:
    hold_two(board)
    board.do(CancelRequested(board.now, (3,)))
    board.tick()
    board.ends(b"p1", result(2, seconds=0.001))
    kill = [
        KillWorker("local", "w1", "nobody needs what it runs any more"),
        AnnounceWorker(1, "w1", "lost", "nobody needs what it runs any more"),
    ]
    assert not set(kill) & set(board.tick(0.9 * USELESS_S))
    assert board.tick(0.2 * USELESS_S)[:2] == kill


def test_a_cancelled_job_that_has_not_begun_after_a_while_is_waited_for(board: Board) -> None:
    hold_two(board)
    board.do(CancelRequested(board.now, (3,)))
    commands = board.tick(3 * USELESS_S)
    assert not [command for command in commands if type(command) is KillWorker]


def test_an_unwanted_result_is_dropped_and_counted(board: Board) -> None:
    hold_two(board)
    board.do(CancelRequested(board.now, (3,)))
    assert board.ends(b"p1", result(2), result(3)) == [succeeded(2)]
    assert board.counters["duplicate"] == 1


# --- withdrawing: the owner had cancelled the job before its grant was sent


def test_a_withdrawn_grant_was_never_given(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 7, 8)
    board.tick()
    assert board.do(JobsWithdrawn(board.now, (7, 99))) == [cancelled(7)]
    assert board.do(JobsWithdrawn(board.now, (7,))) == []
    assert not board.worker().held
    assert granted(board.tick()) == {b"p1": [(8, 1)]}


def test_a_withdrawn_grant_is_left_out_when_its_message_is_sent_again(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, *range(1, 4))
    board.tick()
    board.ends(b"p1", result(1, seconds=0.001))
    board.do(CancelRequested(board.now, (99,)))
    board.tick()
    board.do(JobsWithdrawn(board.now, (2,)))
    assert board.worker().head is not None
    assert board.worker().head.key == (3, 1)  # type: ignore[union-attr]
    assert board.sends(GrantJobs((grant(3),)), seq=2, ack=1) in board.tick(2.1)


def test_other_messages_are_sent_again_as_they_were(board: Board) -> None:
    hold_two(board)
    board.do(ServiceReplied(board.now, 1, 4, True, payload("answer")))
    board.do(JobsWithdrawn(board.now, (2,)))
    again = board.tick(2.1)
    assert board.sends(GrantJobs((grant(3),)), seq=2, ack=1) in again
    assert board.sends(ServiceReply(4, True, payload("answer")), seq=3, ack=1) in again


def test_a_withdrawal_that_comes_after_a_second_grant_takes_that_back(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 7)
    board.tick()
    board.hello("w1", b"p2", pid=1)
    assert granted(board.tick()) == {b"p2": [(7, 2)]}
    assert board.do(JobsWithdrawn(board.now, (7,))) == [cancelled(7)]
    assert board.tick() == [board.sends(TakeBack(((7, 2),)), b"p2", seq=2)]


# --- phases


def open_two(board: Board, *, options: JobOptions = TRIES) -> None:
    board.open(1, 1, 2, options=options, keep=True)
    board.open(2, 11, 12, options=options, after=1)


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


def to_reduce(crew: Board, options: JobOptions = PURE) -> None:
    """Bring both workers to run the reduce jobs 11 and 12; job 13 is queued."""
    crew.open(1, 1, 2, options=JobOptions(max_lost=2), keep=True)
    crew.open(2, 11, 12, 13, options=options, after=1)
    crew.tick()
    crew.ends(b"p1", result(1))
    crew.ends(b"p2", result(2))
    assert granted(crew.tick()) == {b"p1": [(11, 1)], b"p2": [(12, 1)]}


def lost(job: int, index: int, attempt: int = 1) -> JobResult:
    return result(job, attempt, Outcome.LOST_INPUT, detail=index)


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


# --- the end


def test_when_the_cluster_stops_all_jobs_are_cancelled_and_workers_told(crew: Board) -> None:
    crew.agent_hello("far", b"a1")
    open_two(crew)
    crew.tick()
    crew.says(b"p2", JobsReturned((), draining=True))
    text = "the cluster was shut down"
    assert crew.do(StopRequested(crew.now, drain=True)) == [
        SettleJob(1, Verdict.CANCELLED, attempts=1, text=text),
        cancelled(11, FAILED_BEFORE),
        cancelled(12, FAILED_BEFORE),
        SettleJob(2, Verdict.CANCELLED, attempts=1, text=text),
        crew.sends(Stop(drain=True), b"p1", seq=2),
        crew.sends(Stop(drain=True), b"p2", seq=2, ack=1),
        crew.sends(Stop(drain=True), b"a1", seq=1),
    ]
    assert crew.worker("w1").state is WorkerState.DRAINING
    assert crew.do(JobsSubmitted(crew.now, 1, specs(9)))[-1] == cancelled(9, text)


# --- looking in


def test_a_job_can_be_explained(crew: Board) -> None:
    explain = crew.machine.explain
    assert explain(1) == (
        "Job 1 is not known: it never was, or it ended too long ago (the latest 1,000 are "
        "remembered)."
    )
    open_two(crew)
    story = "0 tries: 0 errors, 0 timeouts, 0 workers lost; now"
    assert explain(1) == (
        f"Job 1 of phase 'phase 1' is READY.\n{story} READY\n2 jobs are queued, 2 workers there"
    )
    assert explain(11) == (
        f"Job 11 of phase 'phase 2' is WAITING.\n{story} WAITING\n"
        "it waits for phase 1 to be complete"
    )
    crew.tick()
    crew.ends(b"p1", result(1, outcome=Outcome.ERROR))
    crew.tick()
    assert explain(1) == (
        "Job 1 of phase 'phase 1' is GRANTED.\n"
        "try 1 on w1: ERROR\n"
        "2 tries: 1 errors, 0 timeouts, 0 workers lost; now GRANTED\n"
        "try 2 is running on w1"
    )


def test_how_a_job_ended_is_told_though_it_is_gone(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 1, 2, 3, options=JobOptions(max_failures=2))
    explain = board.machine.explain
    board.tick()
    board.ends(b"p1", result(1))
    assert explain(1) == "Job 1 of phase 'phase 1' SUCCEEDED at its first try, on w1."
    for attempt in (1, 2):
        board.tick()
        board.ends(b"p1", result(2, attempt, Outcome.ERROR))
    assert explain(2) == (
        "Job 2 of phase 'phase 1' ended: ERROR (on w1).\n"
        "try 1 on w1: ERROR\n"
        "try 2 on w1: ERROR\n"
        "2 tries: 2 errors, 0 timeouts, 0 workers lost; now FAILED"
    )
    board.tick()
    board.exits("w1", -9, (3, 1))
    board.do(CancelRequested(board.now, (3,)))
    assert explain(3) == (
        "Job 3 of phase 'phase 1' ended: CANCELLED.\n"
        "try 1 on w1: worker lost (signal 9 (SIGKILL))\n"
        "1 tries: 0 errors, 0 timeouts, 1 workers lost; now CANCELLED"
    )


def test_a_kept_job_tells_its_latest_end_and_where_it_is_when_it_runs_again(crew: Board) -> None:
    to_reduce(crew)
    explain = crew.machine.explain
    assert explain(1) == "Job 1 of phase 'phase 1' SUCCEEDED at its first try, on w1."
    crew.ends(b"p1", lost(11, 0))
    assert explain(1).startswith("Job 1 of phase 'phase 1' is READY.\noutput lost, says job 11\n")
    crew.tick()
    crew.ends(b"p1", result(1, 2))
    assert explain(1) == (
        "Job 1 of phase 'phase 1' ended: SUCCEEDED (on w1).\n"
        "output lost, says job 11\n"
        "2 tries: 0 errors, 0 timeouts, 0 workers lost; now SUCCEEDED"
    )


def test_a_job_that_waits_behind_another_is_explained_as_queued(board: Board) -> None:
    hold_two(board)
    assert board.machine.explain(3).endswith("try 1 is queued on w1")


def test_what_is_no_event_is_a_bug_and_says_so(board: Board) -> None:
    with pytest.raises(AssertionError, match="unreachable"):
        board.machine.handle("what happened")  # type: ignore[arg-type]
