"""Jobs on their way: granted, ended, cancelled, withdrawn."""

from __future__ import annotations

import pytest

from paramserver.core.commands import AnnounceWorker, KillWorker, SettleJob
from paramserver.core.events import (
    CancelRequested,
    JobsSubmitted,
    JobsWithdrawn,
    PhaseOpened,
    ServiceReplied,
    StopRequested,
)
from paramserver.core.jobs import JobOptions, JobState, PhaseSpec, Verdict
from paramserver.core.roster import WorkerState
from paramserver.core.scheduler import USELESS_S
from paramserver.protocol.messages import (
    GrantJobs,
    JobsReturned,
    Outcome,
    ServiceReply,
    Stop,
    TakeBack,
)
from tests.unit.core.board import (
    FAILED_BEFORE,
    TRIES,
    Board,
    cancelled,
    error,
    grant,
    granted,
    hold_two,
    open_two,
    payload,
    result,
    specs,
    succeeded,
)

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


def test_what_is_no_event_is_a_bug_and_says_so(board: Board) -> None:
    with pytest.raises(AssertionError, match="unreachable"):
        board.machine.handle("what happened")  # type: ignore[arg-type]
