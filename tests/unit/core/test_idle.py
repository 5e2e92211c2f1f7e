"""What idle workers are put to: backup copies, and what is stuck behind a long job."""

from __future__ import annotations

import pytest

from paramserver.core.commands import Send
from paramserver.core.idle import REVIEW_FRACTION, REVIEW_S, STUCK_BEHIND_S, UNANSWERED_S
from paramserver.core.jobs import JobOptions, JobState
from paramserver.core.scheduler import USELESS_S
from paramserver.protocol.messages import (
    JobProgressed,
    JobsReturned,
    Outcome,
    TakeBack,
)
from tests.unit.core.board import Board, calm, granted, killed, result, succeeded

PURE = JobOptions(pure=True)
USELESS = "nobody needs what it runs any more"


@pytest.fixture
def board() -> Board:
    board = Board()
    board.join("w1", b"p1")
    return board


# --- backup copies


def start_backup(board: Board, options: JobOptions = PURE) -> None:
    """Let w1 straggle with job 3 of phase 1, and w2 run a backup copy of it."""
    board.open(1, 1, 2, 3, options=options)
    board.join("w2", b"p2")
    board.tick()
    board.now += 1.0
    board.ends(b"p2", result(2, seconds=2.0))
    board.tick()
    board.now += 1.0
    board.ends(b"p2", result(3, seconds=2.0))
    board.tick()


def test_a_straggler_gets_one_backup_copy_and_the_first_result_counts(board: Board) -> None:
    start_backup(board)
    assert granted(calm(board, 0.4)) == {}
    assert granted(calm(board, 0.2)) == {b"p2": [(1, 2)]}
    assert board.counters["backups"] == 1
    assert granted(calm(board, 5.0)) == {}
    assert board.ends(b"p2", result(1, 2)) == [succeeded(1, 2, "w2", 2)]
    assert board.tick(0.0) == [board.sends(TakeBack(((1, 1),)), seq=2)]


def test_a_straggler_that_nobody_waits_for_may_go_on(board: Board) -> None:
    start_backup(board)
    calm(board, 0.6)
    board.ends(b"p2", result(1, 2))
    board.tick()
    assert not set(killed("w1", 1, USELESS)) & set(calm(board, 60.0))
    assert board.ends(b"p1", result(1)) == []
    assert board.counters["duplicate"] == 1


def test_a_straggler_that_is_needed_is_ended_after_a_while(board: Board) -> None:
    start_backup(board)
    calm(board, 0.6)
    board.ends(b"p2", result(1, 2))
    board.tick()
    calm(board, 3 * USELESS_S)
    board.open(2, 21, 22)
    assert set(killed("w1", 1, USELESS)) <= set(calm(board, 1.1 * USELESS_S))


def test_progress_does_not_prolong_what_nobody_wants(board: Board) -> None:
    start_backup(board, JobOptions(pure=True, lease_s=30.0))
    calm(board, 0.6)
    board.ends(b"p2", result(1, 2))
    board.tick()
    board.open(2, 21, 22)
    board.tick()
    board.says(b"p1", JobProgressed(1, 1, 1, 2))
    assert set(killed("w1", 1, USELESS)) <= set(calm(board, 1.1 * USELESS_S))


def test_the_loss_of_one_copy_leaves_the_other_running(board: Board) -> None:
    start_backup(board)
    calm(board, 0.6)
    board.exits("w1", -9, (1, 1))
    assert board.machine.backlog.jobs[1].state is JobState.GRANTED
    assert board.ends(b"p2", result(1, 2)) == [succeeded(1, 2, "w2", 2)]


def test_a_deadline_that_comes_before_is_kept_when_the_job_is_settled(board: Board) -> None:
    start_backup(board, JobOptions(pure=True, timeout_s=3.0))
    calm(board, 0.6)
    board.ends(b"p2", result(1, 2))
    board.tick()
    (straggling,) = board.worker("w1").held.values()
    assert straggling.deadline == 103.0
    board.open(2, 21, 22)
    assert set(killed("w1", 1, USELESS)) <= set(calm(board, 0.5))


def test_both_copies_may_fail_before_the_job_is_tried_again(board: Board) -> None:
    start_backup(board, JobOptions(pure=True, max_failures=4))
    calm(board, 0.6)
    board.ends(b"p1", result(1, 1, Outcome.ERROR))
    assert board.machine.backlog.jobs[1].state is JobState.GRANTED
    board.exits("w2", -9, (1, 2))
    assert board.machine.backlog.jobs[1].state is JobState.READY
    assert granted(board.tick()) == {b"p1": [(1, 3)]}


def test_of_several_stragglers_the_slowest_gets_the_idle_worker(board: Board) -> None:
    board.join("w2", b"p2")
    board.join("w3", b"p3")
    board.open(1, *range(1, 7), options=PURE)
    for at, peer, job in ((0.5, b"p2", 2), (1.0, b"p3", 3), (2.0, b"p3", 5), (3.2, b"p3", 6)):
        board.tick()
        board.now = 100.0 + at
        board.ends(peer, result(job, seconds=2.0))
    copies = granted(board.tick(REVIEW_S))[b"p3"]
    assert copies == [(1, 2)], "job 4 has run half a second less"


def test_a_job_whose_inputs_are_made_again_gets_no_backup_copy(board: Board) -> None:
    board.join("w2", b"p2")
    board.open(1, 1, 2, options=JobOptions(), keep=True)
    board.open(2, *range(11, 17), options=PURE, after=1)
    board.tick()
    board.ends(b"p1", result(1))
    board.ends(b"p2", result(2))
    for job in (12, 13, 14):
        board.tick()
        board.ends(b"p2", result(job))
    board.tick()
    board.ends(b"p2", result(15, 1, Outcome.LOST_INPUT, detail=1))
    assert granted(board.tick()) == {b"p2": [(2, 2)]}
    board.join("w3", b"p3")
    assert granted(calm(board, 30.0)) == {}, "job 11 takes long, but its copy could not read"
    board.ends(b"p2", result(2, 2))
    assert granted(board.tick()) == {b"p2": [(15, 2)], b"p3": [(16, 1)]}


# --- jobs stuck behind a long one


def hold_many(board: Board) -> None:
    """Let w1 run job 2 with 3 to 7 behind it; w2 comes, idle."""
    board.open(1, *range(1, 8))
    board.tick()
    board.ends(b"p1", result(1, seconds=0.001))
    assert granted(board.tick()) == {b"p1": [(job, 1) for job in range(2, 8)]}
    board.join("w2", b"p2")


def test_what_is_stuck_behind_a_long_job_is_taken_back_for_the_idle(board: Board) -> None:
    hold_many(board)
    commands = board.tick(REVIEW_S + 0.001)
    assert commands == [board.sends(TakeBack(((5, 1), (6, 1), (7, 1))), seq=3, ack=1)]
    board.says(b"p1", JobsReturned(((5, 1), (6, 1), (7, 1)), draining=False))
    assert granted(board.tick()) == {b"p2": [(5, 2), (6, 2), (7, 2)]}


def test_what_was_asked_back_is_not_asked_again(board: Board) -> None:
    hold_many(board)
    board.tick(REVIEW_S + 0.001)
    assert board.tick(REVIEW_S) == [board.sends(TakeBack(((4, 1),)), seq=4, ack=1)]
    assert board.tick(REVIEW_S) == [board.sends(TakeBack(((3, 1),)), seq=5, ack=1)]
    assert board.tick(REVIEW_S) == []


def test_a_job_that_had_begun_when_it_was_asked_back_does_not_shield_the_next(
    board: Board,
) -> None:
    """The asked-back job 3 becomes the long one; job 4 behind it must still be taken back."""
    board.open(1, 1, 2, 3)
    board.tick()
    board.ends(b"p1", result(1, seconds=0.001))
    board.tick()
    board.join("w2", b"p2")
    assert board.tick(REVIEW_S + 0.001) == [board.sends(TakeBack(((3, 1),)), seq=3, ack=1)]
    board.says(b"p2", JobsReturned((), draining=True))
    board.ends(b"p1", result(2, seconds=0.001))
    board.open(2, 4)
    board.machine.backlog.phases[2].add_duration(0.001)
    assert granted(board.tick()) == {b"p1": [(4, 1)]}
    board.join("w3", b"p3")
    commands = calm(board, 2 * REVIEW_S)
    assert board.sends(TakeBack(((4, 1),)), seq=5, ack=2) in commands


def test_nothing_is_taken_back_while_the_job_in_front_is_young(board: Board) -> None:
    hold_many(board)
    assert STUCK_BEHIND_S < REVIEW_S
    board.now += REVIEW_S
    board.ends(b"p1", result(2, seconds=0.001))
    assert [c for c in board.tick() if type(getattr(c, "message", None)) is TakeBack] == []
    held = board.worker().held.values()
    assert [attempt.asked_back_at for attempt in held] == [None] * len(held)


def fall_silent(board: Board, options: JobOptions) -> dict[bytes, list[tuple[int, int]]]:
    """Let w1 hold jobs 2 to 6 and say nothing any more; return what w2 is granted meanwhile."""
    board.open(1, *range(1, 7), options=options)
    board.tick()
    board.ends(b"p1", result(1, seconds=0.001))
    assert granted(board.tick()) == {b"p1": [(n, 1) for n in range(2, 7)]}
    board.join("w2", b"p2")
    asked = [c.message for c in calm(board, UNANSWERED_S) if type(c) is Send]
    assert asked == [TakeBack(((5, 1), (6, 1))), TakeBack(((4, 1),)), TakeBack(((3, 1),))]
    return granted(calm(board, UNANSWERED_S))


def test_what_a_silent_worker_does_not_give_back_is_run_elsewhere_if_it_may_run_twice(
    board: Board,
) -> None:
    assert fall_silent(board, PURE) == {b"p2": [(6, 2)]}
    for job in (6, 5, 4, 3):
        ended = board.ends(b"p2", result(job, 2, seconds=0.001))
        assert ended == [succeeded(job, 2, "w2", 2)]
        assert granted(calm(board, 2 * REVIEW_S)) == {b"p2": [(job - 1, 2)]}
    board.says(b"p1", JobsReturned(((3, 1), (4, 1), (5, 1), (6, 1)), draining=False))
    assert board.ends(b"p2", result(2, 2)) == [succeeded(2, 2, "w2", 2)], "a straggler by now"
    assert board.counters["backups"] == 5
    assert "requeued" not in board.counters


def test_what_may_not_run_twice_waits_for_the_silent_worker(board: Board) -> None:
    assert fall_silent(board, JobOptions()) == {}
    assert granted(calm(board, 100.0)) == {}
    board.says(b"p1", JobsReturned(((3, 1), (4, 1), (5, 1), (6, 1)), draining=False))
    assert granted(board.tick()) == {b"p2": [(3, 2), (4, 2), (5, 2), (6, 2)]}


def test_the_longer_a_job_has_run_the_more_rarely_it_is_looked_at(board: Board) -> None:
    board.open(1, 7, 8, 9, options=PURE)
    board.tick()
    scheduler = board.machine.scheduler
    assert scheduler.review_at == board.now + REVIEW_S
    calm(board, 100.0)
    before = scheduler.review_at
    assert before is not None
    board.now = before
    board.tick()
    assert scheduler.review_at == pytest.approx(before + REVIEW_FRACTION * (before - 100.0))


def test_when_nothing_can_be_put_to_use_nothing_is_looked_at(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    assert board.machine.scheduler.review_at is None
    board.open(2, 8, options=PURE)
    board.ends(b"p1", result(7))
    board.tick()
    board.ends(b"p1", result(8))
    calm(board, 1.0)
    assert board.machine.scheduler.review_at is None
