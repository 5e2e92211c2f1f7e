"""What is said of a job in words, on its way and after its end."""

from __future__ import annotations

from paramserver.core.events import CancelRequested
from paramserver.core.jobs import JobOptions
from paramserver.protocol.messages import Outcome
from tests.unit.core.board import Board, hold_two, lost, open_two, result, to_reduce


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
