"""What time brings: deadlines, leases, repeats, loneliness, pauses."""

from __future__ import annotations

import pytest

from paramserver.core.commands import AnnounceWorker, SettleJob
from paramserver.core.events import CancelRequested, PhaseDropped, RetireRequested, Tick
from paramserver.core.jobs import JobOptions, Verdict
from paramserver.core.link import ACK_DELAY_S, RETRANSMIT_S
from paramserver.core.mail import LINKS_S
from paramserver.core.master import LATE_S
from paramserver.core.quarantine import COOL_DOWN_S
from paramserver.protocol.messages import (
    Ack,
    GrantJobs,
    JobProgressed,
    JobsReturned,
)
from tests.unit.core.board import Board, calm, grant, killed, result, succeeded

DEADLINE = JobOptions(timeout_s=10.0, max_timeouts=2)
LEASE = JobOptions(lease_s=3.0, max_timeouts=1)


@pytest.fixture
def board() -> Board:
    board = Board()
    board.join("w1", b"p1")
    return board


PASSED = "its job passed the deadline"


# --- deadlines


def test_a_job_that_passes_its_deadline_costs_its_worker_and_is_tried_again(board: Board) -> None:
    board.open(1, 7, options=DEADLINE)
    board.tick()
    assert board.machine.next_deadline() == board.now + LINKS_S
    assert not set(killed("w1", 1, PASSED)) & set(calm(board, 9.9))
    assert calm(board, 0.2) == killed("w1", 1, PASSED)
    assert board.mishaps(7) == (0, 1, 0, 1)
    assert board.counters["timeouts"] == 1
    assert "quarantines" not in board.counters


def test_a_job_that_passes_its_deadline_on_every_try_fails(board: Board) -> None:
    board.open(1, 7, options=DEADLINE)
    board.tick()
    calm(board, 10.1)
    board.join("w2", b"p2")
    board.tick()
    assert calm(board, 10.1) == [
        SettleJob(7, Verdict.TIMEOUT, None, "w2", 2, text="10.0"),
        *killed("w2", 2, PASSED),
    ]


def test_two_deadlines_of_one_worker_kill_it_once(board: Board) -> None:
    """The second attempt is one that nobody wants any more, behind the first."""
    board.open(1, 1, 2, 3)
    board.tick()
    board.ends(b"p1", result(1, seconds=0.001))
    board.tick()
    board.do(CancelRequested(board.now, (3,)))
    board.tick()
    board.do(CancelRequested(board.now, (2,)))
    assert "w1" not in board.machine.roster.workers


def test_a_lease_is_renewed_by_progress_only(board: Board) -> None:
    board.open(1, 7, options=LEASE)
    board.tick()
    for _ in range(3):
        calm(board, 2.9)
        board.says(b"p1", JobProgressed(7, 1, 1, 2))
    assert calm(board, 3.1) == [
        SettleJob(7, Verdict.TIMEOUT, None, "w1", 1, text="3.0"),
        *killed("w1", 1, PASSED),
    ]


def test_progress_does_not_prolong_a_deadline(board: Board) -> None:
    board.open(1, 7, options=DEADLINE)
    board.tick()
    calm(board, 9.0)
    board.says(b"p1", JobProgressed(7, 1, 1, 2))
    assert set(killed("w1", 1, PASSED)) <= set(calm(board, 1.1))


def test_the_earlier_of_lease_and_deadline_counts(board: Board) -> None:
    board.open(1, 7, options=JobOptions(timeout_s=5.0, lease_s=3.0))
    board.tick()
    calm(board, 2.5)
    board.says(b"p1", JobProgressed(7, 1, 1, 2))
    assert set(killed("w1", 1, PASSED)) <= set(calm(board, 2.6))


def test_progress_of_an_attempt_that_does_not_count_is_counted(board: Board) -> None:
    board.says(b"p1", JobProgressed(7, 1, 1, 2))
    assert board.counters["stale"] == 1


def test_the_deadline_of_a_job_that_ended_means_nothing(board: Board) -> None:
    board.open(1, 7, options=DEADLINE)
    board.tick()
    assert board.ends(b"p1", result(7)) == [succeeded(7)]
    assert not set(killed("w1", 1, PASSED)) & set(calm(board, 20.0))


# --- links


def test_what_came_is_acknowledged_after_a_moment(board: Board) -> None:
    board.says(b"p1", JobsReturned((), draining=False))
    assert board.tick(ACK_DELAY_S - 0.01) == []
    assert board.tick(0.02) == [board.sends(Ack(), ack=1)]
    assert board.machine.next_deadline() is None


def test_what_is_not_acknowledged_is_sent_again(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    again = board.sends(GrantJobs((grant(7),)), seq=1)
    assert board.tick(RETRANSMIT_S - 0.01) == []
    assert board.tick(0.02) == [again]
    assert board.tick(2 * RETRANSMIT_S) == [again]
    assert board.counters["retransmits"] == 2


def test_links_are_looked_at_when_something_is_due_and_not_before(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    board.tick(LINKS_S)
    assert board.machine.next_deadline() == pytest.approx(board.now + RETRANSMIT_S - LINKS_S)
    board.says(b"p1", JobsReturned((), draining=False), ack=0)
    board.tick()
    assert board.machine.next_deadline() == pytest.approx(board.now + LINKS_S)


# --- nobody there


def test_jobs_that_nobody_comes_for_end(board: Board) -> None:
    board.exits("w1")
    board.open(1, 7, 8, keep=True)
    board.open(2, 9, after=1)
    assert board.tick(59.0) == []
    assert board.machine.next_deadline() == pytest.approx(board.now + 1.0)
    assert board.tick(1.0) == [
        SettleJob(7, Verdict.NO_WORKERS, text="60.0"),
        SettleJob(9, Verdict.CANCELLED, text="phase before failed"),
        SettleJob(8, Verdict.NO_WORKERS, text="60.0"),
    ]
    assert board.machine.next_deadline() is None


def test_who_comes_in_time_ends_the_waiting(board: Board) -> None:
    board.exits("w1")
    board.open(1, 7)
    board.tick(59.0)
    board.join("w2", b"p2")
    board.tick()
    board.exits("w2")
    board.tick()
    assert board.tick(59.0) == []


def test_workers_that_are_about_to_leave_are_no_company(board: Board) -> None:
    board.open(1, 7, 8)
    board.tick()
    board.do(RetireRequested(board.now, ("w1",)))
    commands = calm(board, 60.0)
    assert commands == [SettleJob(8, Verdict.NO_WORKERS, text="60.0")]
    assert board.ends(b"p1", result(7)) == [succeeded(7)], "what runs may end"


def test_jobs_that_all_run_wait_for_nobody(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    board.do(RetireRequested(board.now, ("w1",)))
    assert calm(board, 100.0) == []


def test_without_jobs_nobody_is_missed(board: Board) -> None:
    board.exits("w1")
    assert board.tick() == []
    assert board.machine.next_deadline() is None


# --- quarantine


def test_when_a_quarantine_ends_jobs_are_looked_at(board: Board) -> None:
    board.worker().agent.standing.quarantined_until = board.now + COOL_DOWN_S
    board.open(1, 7)
    board.tick()
    deadline = board.machine.next_deadline()
    assert deadline is not None
    assert deadline <= board.now + COOL_DOWN_S


# --- pauses of the master itself


def test_after_its_own_pause_the_master_gives_everyone_that_much_more_time(board: Board) -> None:
    board.open(1, 7, options=DEADLINE)
    board.tick()
    for peer in (b"p1",):
        board.says(peer, Ack(), seq=0)
    board.tick(1.0)
    deadline = board.machine.next_deadline()
    assert deadline is not None
    board.now = deadline + 20.0
    assert board.do(Tick(board.now)) == []
    assert board.counters["master_pauses"] == 1
    (attempt,) = board.worker().held.values()
    assert attempt.deadline is not None
    assert attempt.deadline > board.now


def test_a_suspect_and_lonely_jobs_are_given_that_time_too(board: Board) -> None:
    board.disconnect()
    board.tick(1.0)
    board.now += 4.0 + 20.0
    assert board.do(Tick(board.now)) == [], "silent for 5 s, but for 20 s nobody listened"
    board.tick(1.0)
    board.exits("w1")
    board.open(1, 7)
    board.tick(1.0)
    board.now += 59.0 + 20.0
    assert board.do(Tick(board.now)) == []


def test_a_tick_that_is_a_little_late_is_no_pause(board: Board) -> None:
    board.disconnect()
    board.tick()
    deadline = board.machine.next_deadline()
    assert deadline is not None
    board.now = deadline + 0.9 * LATE_S
    assert board.do(Tick(board.now)) == [AnnounceWorker(1, "w1", "lost", "silent for 5 s")]
    assert "master_pauses" not in board.counters


def test_when_all_is_dropped_no_deadline_is_left(board: Board) -> None:
    board.open(1, 7, 8, options=DEADLINE)
    board.tick()
    board.ends(b"p1", result(7))
    board.do(PhaseDropped(board.now, 1))
    calm(board, 1.0)
    assert len(board.machine.scheduler._deadlines) == 0
    assert board.machine.next_deadline() is None
