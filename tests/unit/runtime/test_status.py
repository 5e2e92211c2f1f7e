"""What a status says of the machine it was read off."""

from __future__ import annotations

import pytest

from paramserver.core.events import RetireRequested
from paramserver.core.quarantine import COOL_DOWN_ACCUSED_S
from paramserver.runtime.status import WorkerStatus, take_status
from tests.unit.core.board import Board


@pytest.fixture
def board() -> Board:
    board = Board()
    for number in (1, 2, 3):
        board.join(f"w{number}", b"p%d" % number, agent=f"agent {number}")
    return board


def states(board: Board) -> dict[str, str]:
    status = take_status(board.machine, board.now, "here")
    return {worker.worker_id: worker.state for worker in status.workers}


def test_a_worker_is_shown_with_what_it_runs_and_for_how_long_it_is_silent(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    board.now += 2.5
    status = take_status(board.machine, board.now, "here")
    assert status.workers[0] == WorkerStatus("w1", 1, "host", 1, "ready", 7, 1, 0, 2.5)
    assert (status.address, status.jobs["granted"]) == ("here", 1)
    assert [(phase.name, phase.n_jobs) for phase in status.phases] == [("phase 1", 1)]


def test_workers_are_shown_in_the_state_that_says_why_they_get_no_jobs(board: Board) -> None:
    board.disconnect(b"p1")
    board.do(RetireRequested(board.now, ("w2",)))
    assert states(board) == {"w1": "suspect", "w2": "draining", "w3": "ready"}


def test_who_is_left_alone_in_favour_of_another_machine_is_quarantined(board: Board) -> None:
    bad = board.worker("w1").agent.standing
    board.machine.roster.standings.note_accused(bad, board.now)
    assert states(board) == {"w1": "quarantined", "w2": "ready", "w3": "ready"}
    board.disconnect(b"p2")
    board.disconnect(b"p3")
    assert states(board)["w1"] == "ready", "there is no other one"
    board.join("w4", b"p4", agent="agent 4")
    assert states(board)["w1"] == "quarantined"
    board.now += COOL_DOWN_ACCUSED_S
    assert states(board)["w1"] == "ready"
