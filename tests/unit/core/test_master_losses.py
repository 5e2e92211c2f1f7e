"""Workers that are lost, told to leave, suspected; and what becomes of their jobs."""

from __future__ import annotations

import pytest

from paramserver.core.commands import AnnounceWorker, Send, SettleJob
from paramserver.core.events import CancelRequested, RetireRequested, Tick, WorkerAccused
from paramserver.core.jobs import JobOptions, JobState, Verdict
from paramserver.core.loss import describe_exit
from paramserver.core.quarantine import COOL_DOWN_ACCUSED_S, COOL_DOWN_S, QUARANTINE_AFTER
from paramserver.core.roster import (
    WorkerState,
)
from paramserver.core.service_calls import NOT_CURRENT
from paramserver.protocol.messages import (
    Ack,
    Envelope,
    Fenced,
    Goodbye,
    JobProgressed,
    JobsReturned,
    KillProcess,
    Outcome,
    ServiceCall,
    ServiceReply,
    Stop,
)
from tests.unit.core.board import EPOCH, RUN, Board, granted, payload, result, succeeded


@pytest.fixture
def board() -> Board:
    board = Board()
    board.join("w1", b"p1")
    return board


def poison(job: int, text: str, *, attempts: int, code: int | None = None) -> SettleJob:
    return SettleJob(job, Verdict.POISON, None, f"w{attempts}", attempts, code, text)


# --- what is charged


def test_a_job_that_ran_when_its_worker_died_is_charged_and_granted_anew(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    assert board.exits("w1", -11, (7, 1)) == [
        AnnounceWorker(1, "w1", "lost", "signal 11 (SIGSEGV)")
    ]
    assert board.machine.backlog.jobs[7].state is JobState.READY
    assert board.mishaps(7) == (0, 0, 1, 1)
    board.join("w2", b"p2")
    assert granted(board.tick()) == {b"p2": [(7, 2)]}
    assert board.counters["workers_lost"] == board.counters["requeued"] == 1


def test_a_job_that_had_not_begun_is_not_charged(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    board.exits("w1", -9, (0, 0))
    assert board.mishaps(7) == (0, 0, 0, 0)
    assert board.counters["requeued"] == 1


def test_only_the_one_that_ran_is_charged_and_all_go_back_in_order(board: Board) -> None:
    board.open(1, *range(1, 5))
    board.tick()
    board.ends(b"p1", result(1, seconds=0.001))
    assert granted(board.tick()) == {b"p1": [(2, 1), (3, 1), (4, 1)]}
    board.exits("w1", -9, (3, 1))
    assert [board.mishaps(number)[2] for number in (2, 3, 4)] == [0, 1, 0]
    board.join("w2", b"p2")
    assert granted(board.tick()) == {b"p2": [(2, 2), (3, 2), (4, 2)]}


def test_when_nobody_tells_what_ran_the_first_one_is_charged(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    board.disconnect()
    board.tick(5.1)
    assert board.mishaps(7) == (0, 0, 1, 1)


def test_a_job_that_loses_its_worker_on_every_try_is_poison(board: Board) -> None:
    board.open(1, 7, 8, options=JobOptions(max_lost=3))
    for number in (1, 2):
        board.tick()
        board.exits(f"w{number}", -11, (7, number))
        board.join(f"w{number + 1}", b"p%d" % (number + 1))
    board.tick()
    assert board.exits("w3", -11, (7, 3), stderr="last words") == [
        poison(7, "last words", attempts=3, code=-11),
        AnnounceWorker(3, "w3", "lost", "signal 11 (SIGSEGV)"),
    ]
    board.join("w4", b"p4")
    assert granted(board.tick()) == {b"p4": [(8, 1)]}, "the rest goes on"


def test_poison_without_last_words_tells_the_reason(board: Board) -> None:
    board.open(1, 7, options=JobOptions(max_lost=1))
    board.tick()
    board.disconnect()
    commands = board.tick(5.1)
    assert poison(7, "silent for 5 s", attempts=1) in commands


def test_what_a_leaving_worker_was_running_when_it_was_ended_is_not_charged(board: Board) -> None:
    board.open(1, 7, options=JobOptions(max_lost=1))
    board.tick()
    board.do(RetireRequested(board.now, ("w1",)))
    assert board.exits("w1", -15, (7, 1)) == [
        AnnounceWorker(1, "w1", "lost", "signal 15 (SIGTERM)")
    ]
    assert board.machine.backlog.jobs[7].state is JobState.READY


def test_an_attempt_whose_job_was_settled_meanwhile_is_not_charged(board: Board) -> None:
    board.open(1, 1, 2, 3, options=JobOptions(max_lost=1))
    board.tick()
    board.ends(b"p1", result(1, seconds=0.001))
    board.tick()
    board.do(CancelRequested(board.now, (3,)))
    assert board.exits("w1", -9, (3, 1)) == [AnnounceWorker(1, "w1", "lost", "signal 9 (SIGKILL)")]
    assert board.mishaps(2) == (0, 0, 0, 0)


# --- who tells


def test_a_death_is_told_by_the_agent_of_the_worker_and_of_this_very_process(
    board: Board,
) -> None:
    assert board.exits("w1", pid=99) == []
    assert board.exits("w1", agent="another") == []
    assert board.exits("w9") == []
    assert board.worker("w1").state is WorkerState.READY


def test_a_worker_that_was_leaving_and_held_nothing_has_left(board: Board) -> None:
    board.says(b"p1", JobsReturned((), draining=True))
    assert board.exits("w1", 0) == [AnnounceWorker(1, "w1", "left", "left")]
    assert board.counters["workers_left"] == 1


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (77, "exit code 77"), (-9, "signal 9 (SIGKILL)"), (-50, "signal 50")],
)
def test_an_exit_is_described_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


# --- suspects


def test_the_work_of_a_suspect_is_kept_for_a_while(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    board.disconnect()
    assert board.disconnect() == [], "known already"
    assert board.worker().state is WorkerState.SUSPECT
    assert granted(board.tick(4.9)) == {}
    board.join("w2", b"p2")
    assert board.tick(0.2)[0] == AnnounceWorker(1, "w1", "lost", "silent for 5 s")
    assert granted(board.tick()) == {}
    assert list(board.worker("w2").held) == [(7, 2)]


def test_a_suspect_that_is_heard_is_none_and_its_connection_is_tried(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    board.disconnect()
    assert board.says(b"p1", JobProgressed(7, 1, 1, 2)) == [board.sends(Ack())]
    assert board.worker().state is WorkerState.READY
    assert not board.machine.roster.suspects
    board.disconnect()
    assert board.ends(b"p1", result(7)) == [board.sends(Ack(), ack=1), succeeded(7)]


HASTY = JobOptions(grace_s=1.0)


def test_a_job_may_leave_a_suspect_sooner_than_that_loses_its_life(board: Board) -> None:
    board.open(1, 7, options=HASTY)
    board.tick()
    board.join("w2", b"p2")
    board.disconnect()
    assert granted(board.tick(0.99)) == {}
    assert granted(board.tick(0.02)) == {b"p2": [(7, 2)]}
    assert board.worker().state is WorkerState.SUSPECT
    assert list(board.worker().held) == [(7, 1)], "it may be running that still"
    assert board.mishaps(7) == (0, 0, 0, 0)
    board.says(b"p2", Ack(), seq=0)
    assert board.tick(3.98) == []
    assert board.tick(0.02) == [AnnounceWorker(1, "w1", "lost", "silent for 5 s")]
    assert board.mishaps(7) == (0, 0, 1, 1), "it may be the job that has silenced it"
    assert board.ends(b"p2", result(7, 2))[-1] == succeeded(7, 2, "w2", attempts=2)
    assert board.counters["given_up"] == 1


def test_what_a_worker_makes_of_a_job_that_was_given_up_does_not_count(board: Board) -> None:
    board.open(1, 7, options=HASTY)
    board.tick()
    board.join("w2", b"p2")
    board.disconnect()
    board.tick(1.1)
    asked = board.says(b"p1", ServiceCall(1, 7, 1, "service", "method", payload()))
    refused = ServiceReply(1, ok=False, body=NOT_CURRENT)
    assert board.sends(refused, seq=2, ack=1) in asked
    assert board.worker().state is WorkerState.READY
    assert [c for c in board.ends(b"p1", result(7, 1)) if type(c) is SettleJob] == []
    assert board.counters["duplicate"] == 1
    assert not board.worker().held
    assert succeeded(7, 2, "w2", attempts=2) in board.ends(b"p2", result(7, 2))


def test_a_suspect_that_is_heard_in_time_keeps_such_a_job(board: Board) -> None:
    board.open(1, 7, 8, options=HASTY)
    board.join("w2", b"p2")
    board.tick()
    board.disconnect()
    board.tick(0.9)
    board.says(b"p1", Ack(), seq=0)
    board.tick(1.0)
    board.disconnect()
    board.tick(0.9)  # its time begins anew
    board.ends(b"p1", result(7))
    assert "given_up" not in board.counters


def test_a_job_that_nobody_else_can_take_is_granted_anew_to_the_worker_that_comes_back(
    board: Board,
) -> None:
    board.open(1, 7, options=HASTY)
    board.tick()
    board.disconnect()
    board.tick(1.1)
    assert board.machine.backlog.jobs[7].state is JobState.READY
    assert "try 1 on w1: given up, no sign" in board.machine.explain(7)
    board.ends(b"p1", result(7, 1, Outcome.ERROR))
    assert granted(board.tick()) == {b"p1": [(7, 2)]}
    assert board.mishaps(7) == (0, 0, 0, 0)


def test_the_own_pause_of_the_master_is_no_silence_of_a_worker(board: Board) -> None:
    board.open(1, 7, options=HASTY)
    board.tick()
    board.disconnect()
    board.tick(0.5)
    board.now += 20.0
    board.do(Tick(board.now))
    board.tick(0.2)
    assert "given_up" not in board.counters
    board.tick(1.0)
    assert board.counters["given_up"] == 1


def test_nothing_is_sent_again_to_a_suspect_but_all_once_it_is_heard(board: Board) -> None:
    board.open(1, 7)
    (grant,) = board.tick()
    board.disconnect()
    assert board.tick(4.0) == []
    board.says(b"p1", Ack(), seq=0, ack=0)
    assert grant in board.tick(0.2)


def test_a_leaving_worker_can_be_suspect_too(board: Board) -> None:
    board.says(b"p1", JobsReturned((), draining=True))
    board.disconnect()
    assert board.worker().state is WorkerState.DRAINING
    board.says(b"p1", Ack(), seq=0)
    assert board.worker().state is WorkerState.DRAINING
    board.disconnect()
    assert board.tick(5.1)[-1] == AnnounceWorker(1, "w1", "lost", "silent for 5 s")


def test_a_connection_that_nobody_has_any_more_is_no_news(board: Board) -> None:
    assert board.disconnect(b"p9") == []


# --- leaving


def test_a_retired_worker_is_told_once_to_leave_and_gets_nothing_more(board: Board) -> None:
    assert board.do(RetireRequested(board.now, ("w1", "unknown"))) == [
        board.sends(Stop(drain=True), seq=1)
    ]
    assert board.do(RetireRequested(board.now, ("w1",))) == []
    board.open(1, 7)
    assert granted(board.tick()) == {}


def test_a_suspect_can_be_retired(board: Board) -> None:
    board.disconnect()
    board.do(RetireRequested(board.now, ("w1",)))
    assert board.worker().state is WorkerState.DRAINING


# --- quarantine


def test_a_machine_that_keeps_losing_workers_is_left_out_for_a_while(board: Board) -> None:
    board.agent_hello("bad", b"a1")
    for number in range(10, 10 + QUARANTINE_AFTER):
        board.hello(f"w{number}", b"p%d" % number, agent="bad")
        board.exits(f"w{number}", agent="bad")
    assert board.counters["quarantines"] == 1
    board.hello("w20", b"p20", agent="bad")
    board.open(1, 7, 8)
    assert granted(board.tick()) == {b"p1": [(7, 1)]}
    assert granted(board.tick(COOL_DOWN_S + 0.01)) == {b"p20": [(8, 1)]}


def test_who_is_accused_is_ended_and_its_machine_left_out_while_there_is_another(
    board: Board,
) -> None:
    board.agent_hello("bad", b"a1")
    board.hello("w2", b"p2", agent="bad")
    board.open(1, 7, 8)
    assert granted(board.tick()) == {b"p1": [(7, 1)], b"p2": [(8, 1)]}
    kill, announced = board.do(WorkerAccused(board.now, 3, "it lies"))
    assert kill == board.sends(KillProcess("w2", 2, "it lies"), b"a1", seq=2)
    assert announced == AnnounceWorker(3, "w2", "lost", "it lies")
    assert board.mishaps(8) == (0, 0, 0, 0)  # the job is not to blame
    counted = ("workers_expelled", "workers_lost", "quarantines")
    assert [board.counters[name] for name in counted] == [1, 1, 1]
    board.hello("w3", b"p3", agent="bad")
    assert b"p3" not in granted(board.tick(COOL_DOWN_ACCUSED_S - 0.01))
    assert granted(board.tick(0.02))[b"p3"] == [(8, 2)]


@pytest.mark.parametrize("has_agent", [True, False])
def test_a_new_name_does_not_end_a_quarantine(board: Board, has_agent: bool) -> None:
    board.join("w9", b"p9")
    board.agent_hello("bad", b"a1", address="192.0.2.1")
    board.hello("w2", b"p2", agent="bad", address="192.0.2.1")
    board.do(WorkerAccused(board.now, board.worker("w2").incarnation, "it lies"))
    board.says(b"a1", Goodbye("restarted"))
    assert "bad" not in board.machine.roster.agents
    if has_agent:
        board.agent_hello("good", b"a2", address="192.0.2.1")
    board.hello("w3", b"p3", agent="good", address="192.0.2.1")
    board.hello("w4", b"p4", agent="another", address="192.0.2.2")
    board.open(1, 7, 8, 9, 10)
    assert granted(board.tick()) == {b"p1": [(7, 1)], b"p9": [(8, 1)], b"p4": [(9, 1)]}
    assert b"p3" not in granted(board.tick(COOL_DOWN_ACCUSED_S - 0.01))
    assert granted(board.tick(0.02))[b"p3"] == [(10, 1)]


def test_losses_of_workers_without_an_agent_add_up(board: Board) -> None:
    for number in range(10, 10 + QUARANTINE_AFTER):
        board.hello(f"w{number}", b"p%d" % number, agent=f"bad{number}", address="192.0.2.1")
        board.exits(f"w{number}", agent=f"bad{number}")
        assert len(board.machine.roster.agents) == 1
    assert board.counters["quarantines"] == 1
    board.hello("w20", b"p20", agent="good", address="192.0.2.1")
    board.open(1, 7, 8)
    assert list(granted(board.tick())) == [b"p1"]


def test_an_accusation_of_a_life_that_is_over_is_nothing(board: Board) -> None:
    assert board.do(WorkerAccused(board.now, 99, "it lies")) == []
    assert "workers_expelled" not in board.counters


# --- killing


def test_a_worker_of_a_remote_agent_is_killed_by_it(board: Board) -> None:
    board.agent_hello("far", b"a1")
    board.hello("w2", b"p2", agent="far")
    board.open(1, 7, 8)
    board.tick()
    (settled, kill, announced) = board.do(CancelRequested(board.now, (8,)))
    assert settled == SettleJob(8, Verdict.CANCELLED)
    reason = "its job was cancelled"
    assert kill == board.sends(KillProcess("w2", 2, reason), b"a1", seq=2)
    assert announced == AnnounceWorker(3, "w2", "lost", reason)


def test_a_kill_for_an_agent_that_is_away_is_kept_for_its_return(board: Board) -> None:
    board.agent_hello("far", b"a1")
    board.hello("w2", b"p2", agent="far")
    board.open(1, 7, 8)
    board.tick()
    board.disconnect(b"a1")
    board.do(CancelRequested(board.now, (8,)))
    board.agent_hello("far", b"a2", resume=2, token="session 2")
    kill = KillProcess("w2", 2, "its job was cancelled")
    assert kill in [command.message for command in board.tick() if type(command) is Send]


def test_a_kill_for_an_agent_that_has_parted_goes_nowhere_and_is_counted(board: Board) -> None:
    board.agent_hello("far", b"a1")
    board.hello("w2", b"p2", agent="far")
    board.open(1, 7, 8)
    board.tick()
    board.disconnect(b"a1")
    board.tick(5.1)
    commands = board.do(CancelRequested(board.now, (8,)))
    assert [type(command) for command in commands] == [SettleJob, AnnounceWorker]
    assert board.counters["unkillable"] == 1


def test_messages_of_a_lost_life_are_fenced(board: Board) -> None:
    board.open(1, 7)
    board.tick()
    board.exits("w1", -9, (7, 1))
    late = Envelope(RUN, EPOCH, "w1", 1, 1, 1)
    (answer,) = board.hears(b"p1", JobProgressed(7, 1, 1, 2), late)
    assert isinstance(answer, Send)
    assert answer.envelope == Envelope(RUN, EPOCH, "w1", 1, 0, 0)
    assert type(answer.message) is Fenced
    assert board.machine.backlog.jobs[7].state is JobState.READY
