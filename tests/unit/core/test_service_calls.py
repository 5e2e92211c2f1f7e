"""What running jobs ask of services: who may ask, and who has asked too much."""

from __future__ import annotations

import pytest

from paramserver.core.commands import AnnounceWorker, CallService, KillWorker, MasterCommand, Send
from paramserver.core.events import ServiceReplied, StopRequested
from paramserver.core.service_calls import FLOODS, OPEN_MAX
from paramserver.protocol.messages import ServiceCall, ServiceReply, TakeBack
from tests.unit.core.board import Board, payload, result

LIFE = 1
EXPELLED = [KillWorker("local", "w1", FLOODS), AnnounceWorker(LIFE, "w1", "lost", FLOODS)]


@pytest.fixture
def board() -> Board:
    """A worker that has job 7, and jobs after it."""
    board = Board()
    board.join("w1", b"p1")
    board.open(1, *range(7, 17))
    board.tick()
    assert list(board.worker().held) == [(7, 1)]
    return board


def ask(board: Board, call: int, job: int = 7, *, ack: int | None = None) -> list[MasterCommand]:
    asked = ServiceCall(call, job, 1, "weights", "pull", payload("which"))
    return board.says(b"p1", asked, ack=ack)


def reply(board: Board, call: int) -> list[MasterCommand]:
    return board.do(ServiceReplied(board.now, LIFE, call, True, payload("these")))


def passed_on(call: int, job: int = 7) -> list[MasterCommand]:
    return [CallService(LIFE, call, job, 1, "weights", "pull", payload("which"))]


def test_a_call_of_a_running_job_goes_to_its_service_and_the_answer_back(board: Board) -> None:
    assert ask(board, 4) == passed_on(4)
    answer = ServiceReply(4, True, payload("these"))
    assert reply(board, 4) == [board.sends(answer, seq=2, ack=1)]


@pytest.mark.parametrize("job", [7, 8])
def test_a_call_of_an_attempt_that_does_not_count_is_answered_so(board: Board, job: int) -> None:
    """Job 7 was settled meanwhile; job 8 was never granted to this worker."""
    board.do(StopRequested(board.now, drain=True))
    (answer,) = ask(board, 4, job)
    assert isinstance(answer, Send)
    assert type(answer.message) is ServiceReply
    assert not answer.message.ok
    assert board.counters["stale"] == 1


def test_an_answer_to_a_worker_that_is_gone_is_counted(board: Board) -> None:
    assert board.do(ServiceReplied(board.now, 9, 4, True, payload())) == []
    assert board.counters["fenced"] == 1


# --- floods


def test_who_asks_on_without_an_answer_is_expelled(board: Board) -> None:
    for call in range(OPEN_MAX):
        assert ask(board, call) == passed_on(call)
    assert ask(board, OPEN_MAX) == EXPELLED
    counted = ("flooded", "workers_expelled", "quarantines")
    assert [board.counters[name] for name in counted] == [1, 1, 1]
    assert board.mishaps(7) == (0, 0, 0, 0), "the job is not to blame"


def test_who_takes_no_answer_in_is_expelled(board: Board) -> None:
    for call in range(OPEN_MAX):
        assert ask(board, call, ack=1) == passed_on(call)
        reply(board, call)
    assert ask(board, OPEN_MAX, ack=1) == EXPELLED


def test_who_does_not_take_in_that_its_attempt_is_over_is_expelled(board: Board) -> None:
    for call in range(OPEN_MAX + 1):
        ask(board, call, 99, ack=1)
    assert board.counters["stale"] == OPEN_MAX + 1
    assert ask(board, OPEN_MAX + 1, 99, ack=1) == EXPELLED


def test_who_takes_its_answers_in_may_ask_for_ever(board: Board) -> None:
    for call in range(10 * OPEN_MAX):
        assert ask(board, call) == passed_on(call)
        reply(board, call)
    assert "flooded" not in board.counters


def test_nothing_but_answers_is_held_against_who_confirms_late(board: Board) -> None:
    for _ in range(2 * OPEN_MAX):
        board.worker().link.send(board.now, TakeBack(()))
    assert ask(board, 1, ack=0) == passed_on(1)


def test_a_call_that_a_job_has_left_open_is_not_charged_to_the_next_one(board: Board) -> None:
    for call in range(OPEN_MAX):
        ask(board, call)
    board.ends(b"p1", result(7))
    board.tick()
    for call in range(OPEN_MAX):
        assert ask(board, call, 8) == passed_on(call, 8)
    assert ask(board, OPEN_MAX, 8) == EXPELLED


def test_jobs_that_one_worker_holds_are_charged_together(board: Board) -> None:
    board.ends(b"p1", result(7, seconds=0.001))
    board.tick()
    assert {(8, 1), (9, 1)} <= set(board.worker().held)
    for call in range(OPEN_MAX):
        assert ask(board, call, 8 + call % 2) == passed_on(call, 8 + call % 2)
    assert ask(board, OPEN_MAX, 9) == EXPELLED
