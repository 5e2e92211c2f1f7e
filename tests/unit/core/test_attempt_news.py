"""What is told of attempts that have ended, to those who watch."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from paramserver.core.commands import AnnounceAttempt, AttemptEnd, MasterCommand
from paramserver.core.events import CancelRequested
from paramserver.core.jobs import JobOptions
from paramserver.protocol.messages import Outcome
from tests.unit.core.board import Board, payload, result

PURE = JobOptions(pure=True)


@pytest.fixture
def board() -> Board:
    board = Board()
    board.machine.scheduler.news.is_wanted = True
    board.join("w1", b"p1")
    return board


def told(commands: Iterable[MasterCommand]) -> list[AnnounceAttempt]:
    return [command for command in commands if type(command) is AnnounceAttempt]


def announced(
    end: AttemptEnd, job: int = 7, number: int = 1, worker: str = "w1", *, seconds: float = 2.0
) -> AnnounceAttempt:
    return AnnounceAttempt("phase 1", job, number, worker, 100.0, 100.0 + seconds, end)


def test_nothing_is_told_while_nobody_watches() -> None:
    board = Board()
    board.join("w1", b"p1")
    board.open(1, 7)
    board.tick()
    assert told(board.ends(b"p1", result(7))) == []


def test_a_result_is_told_with_when_it_was_the_turn_of_its_job(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    board.now += 2.0
    assert told(board.ends(b"p1", result(7))) == [announced(AttemptEnd.DONE)]


def test_what_a_function_raised_is_told_with_it(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    board.now += 2.0
    (news,) = told(board.ends(b"p1", result(7, outcome=Outcome.ERROR)))
    assert (news.end, news.error) == (AttemptEnd.FAILED, payload("result 7.1"))


def test_what_runs_on_a_worker_that_dies_is_lost_and_what_waits_there_is_not(board: Board) -> None:
    board.open(1, 7, 8)
    board.tick()
    board.now += 2.0
    assert told(board.exits("w1", -9, (7, 1))) == [announced(AttemptEnd.LOST)]


def test_a_worker_that_is_ended_over_what_was_cancelled_has_lost_nothing(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    board.now += 2.0
    news = told(board.do(CancelRequested(board.now, (7,))))
    assert news == [announced(AttemptEnd.UNNEEDED)]


@pytest.mark.parametrize("comes_back", [True, False])
def test_the_end_of_an_attempt_that_was_given_up_is_told_once(
    board: Board, comes_back: bool
) -> None:
    board.open(1, 7, options=JobOptions(grace_s=1.0))
    board.tick()
    board.disconnect()
    assert told(board.tick(2.0)) == [announced(AttemptEnd.LOST, seconds=1.0)]
    if comes_back:
        assert told(board.ends(b"p1", result(7, 1))) == []
    assert told(board.exits("w1", -9, (7, 1))) == []


def test_a_worker_that_was_idle_loses_nothing(board: Board) -> None:
    assert told(board.exits("w1", -9, (0, 0))) == []


def test_a_backup_copy_is_called_one_and_the_slower_one_was_not_needed(board: Board) -> None:
    board.open(1, 1, 2, 3, options=PURE)
    board.join("w2", b"p2")
    board.tick()
    for job in (2, 3):
        board.now += 1.0
        board.ends(b"p2", result(job, seconds=2.0))
        board.tick()
    board.tick(after_s=1.0)
    (backup,) = told(board.ends(b"p2", result(1, 2)))
    assert (backup.worker_id, backup.end, backup.is_backup) == ("w2", AttemptEnd.DONE, True)
    (slow,) = told(board.ends(b"p1", result(1, 1)))
    assert (slow.worker_id, slow.end, slow.is_backup) == ("w1", AttemptEnd.UNNEEDED, False)
