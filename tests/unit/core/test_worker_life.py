"""A worker's own side: what it holds, what it runs, what it reports."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from paramserver.core.commands import DeliverReply, Exit, StartJob, WorkerCommand
from paramserver.core.events import (
    Connected,
    Heard,
    JobEnded,
    LeaveRequested,
    ProgressMade,
    ServiceAsked,
    Tick,
)
from paramserver.core.session import PROBE_S
from paramserver.core.worker_life import (
    FLUSH_BYTES,
    FLUSH_RESULTS,
    FLUSH_S,
    LEAVE_S,
    VOID_S,
    WorkerLife,
)
from paramserver.protocol.messages import (
    Ack,
    Envelope,
    Goodbye,
    GrantInputs,
    GrantJobs,
    JobProgressed,
    JobResult,
    JobsEnded,
    JobsReturned,
    MasterMessage,
    Outcome,
    Payload,
    PayloadKind,
    ServiceCall,
    ServiceReply,
    Stop,
    TakeBack,
    WorkerJoined,
)
from tests.unit.core.board import grant, payload
from tests.unit.core.far_side import (
    acked,
    fenced,
    from_master,
    greeting,
    make_hello,
    refused,
    resuming,
    said,
    welcome,
)

VOID = Payload(PayloadKind.ERROR, b"")


class Far:
    """A worker's machine with a clock, and a master who numbers its words."""

    def __init__(self) -> None:
        self.life = WorkerLife("w1", "launch", make_hello)
        self.now = 0.0
        self.seq = 0

    def hears(self, envelope: Envelope, message: MasterMessage) -> list[WorkerCommand]:
        return self.life.handle(Heard(self.now, envelope, message))

    def told(self, message: MasterMessage, *, ack: int = 0, life: int = 5) -> list[WorkerCommand]:
        self.seq += 1
        return self.hears(*from_master(message, self.seq, ack=ack, life=life))

    def gets(self, *jobs: int) -> list[WorkerCommand]:
        return self.told(GrantJobs(tuple(grant(job) for job in jobs)))

    def ends(self, text: str = "done", outcome: Outcome = Outcome.OK) -> list[WorkerCommand]:
        return self.life.handle(JobEnded(self.now, outcome, 7, payload(text), 2))

    def tick(self, now: float) -> list[WorkerCommand]:
        self.now = now
        return self.life.handle(Tick(now))


def ended(job: int, text: str = "done", outcome: Outcome = Outcome.OK) -> JobResult:
    return JobResult(job, 1, outcome, 7, payload(text), 2)


@pytest.fixture
def far() -> Far:
    """A worker that is in, in life 5."""
    far = Far()
    assert far.life.handle(Connected(0.0)) == [greeting()]
    assert far.hears(*welcome()) == [acked()]
    return far


# --- jobs


def test_jobs_run_one_at_a_time_in_the_order_of_their_grants(far: Far) -> None:
    assert far.gets(1, 2) == [StartJob(grant(1))]
    assert far.gets(3) == []
    assert far.ends() == [StartJob(grant(2))]
    far.now = FLUSH_S / 2
    assert far.ends() == [StartJob(grant(3))]
    assert far.ends() == [said(JobsEnded((ended(1), ended(2), ended(3))), 1, ack=2)]
    assert far.life.running is None


def test_an_empty_grant_changes_nothing(far: Far) -> None:
    assert far.gets() == []


def test_the_result_of_the_last_job_goes_at_once(far: Far) -> None:
    far.gets(1)
    assert far.ends("bad", Outcome.ERROR) == [
        said(JobsEnded((ended(1, "bad", Outcome.ERROR),)), 1, ack=1)
    ]


def test_results_wait_for_company_only_so_long(far: Far) -> None:
    far.gets(1, 2)
    far.ends()
    assert far.life.next_deadline() == FLUSH_S
    assert far.tick(FLUSH_S) == [said(JobsEnded((ended(1),)), 1, ack=1)]
    assert far.life.next_deadline() == pytest.approx(FLUSH_S + PROBE_S)


def test_a_job_that_ends_after_that_takes_the_waiting_results_along(far: Far) -> None:
    far.gets(1, 2, 3)
    far.ends()
    far.now = FLUSH_S
    assert far.ends() == [said(JobsEnded((ended(1), ended(2))), 1, ack=1), StartJob(grant(3))]


def test_many_results_do_not_wait(far: Far) -> None:
    far.gets(*range(FLUSH_RESULTS + 2))
    for _ in range(FLUSH_RESULTS - 1):
        (command,) = far.ends()
        assert isinstance(command, StartJob)
    first, second = far.ends()
    assert first == said(JobsEnded(tuple(ended(n) for n in range(FLUSH_RESULTS))), 1, ack=1)
    assert isinstance(second, StartJob)


def test_large_results_do_not_wait(far: Far) -> None:
    far.gets(1, 2, 3)
    large = "x" * (FLUSH_BYTES // 2)
    assert far.ends(large) == [StartJob(grant(2))]
    first, _ = far.ends(large)
    assert first == said(JobsEnded((ended(1, large), ended(2, large))), 1, ack=1)


def test_what_has_not_begun_is_given_back(far: Far) -> None:
    far.gets(1, 2, 3, 4)
    assert far.told(TakeBack(((3, 1), (2, 1)))) == [
        said(JobsReturned(((2, 1), (3, 1)), draining=False), 1, ack=2)
    ]
    assert far.ends() == [StartJob(grant(4))]


def test_what_has_begun_or_is_unknown_is_not_given_back(far: Far) -> None:
    far.gets(1)
    assert far.told(TakeBack(((1, 1), (9, 1)))) == []
    assert far.ends() == [said(JobsEnded((ended(1),)), 1, ack=2)]


def test_progress_of_the_running_job_is_reported(far: Far) -> None:
    assert far.life.handle(ProgressMade(0.0, 1, 9)) == [], "nothing runs"
    far.gets(1)
    assert far.life.handle(ProgressMade(0.0, 3, 9)) == [said(JobProgressed(1, 1, 3, 9), 1, ack=1)]


def test_a_message_that_is_not_for_workers_changes_nothing(far: Far) -> None:
    assert far.told(WorkerJoined("w2")) == []


# --- services


def test_a_running_job_asks_a_service_and_gets_its_answer(far: Far) -> None:
    far.gets(1)
    asked = ServiceAsked(0.0, 8, "weights", "pull", payload("which"))
    assert far.life.handle(asked) == [
        said(ServiceCall(8, 1, 1, "weights", "pull", payload("which")), 1, ack=1)
    ]
    assert far.told(ServiceReply(7, True, payload("of another call"))) == []
    assert far.told(ServiceReply(8, True, payload("these"))) == [
        DeliverReply(8, True, payload("these"))
    ]
    assert far.told(ServiceReply(8, True, payload("these"))) == [], "asked once, answered once"


def test_nobody_asks_while_nothing_runs(far: Far) -> None:
    asked = ServiceAsked(0.0, 8, "weights", "pull", payload())
    assert far.life.handle(asked) == [DeliverReply(8, False, VOID)]


def test_inputs_that_came_ahead_are_put_before_those_of_their_grant(far: Far) -> None:
    one, two, three, four = (payload(text) for text in ("one", "two", "three", "four"))
    assert far.told(GrantInputs(7, 1, (one, two))) == []
    assert far.told(GrantInputs(7, 1, (three,))) == []
    whole = grant(7, inputs=(one, two, three, four))
    assert far.told(GrantJobs((grant(7, inputs=(four,)), grant(8)))) == [StartJob(whole)]
    assert list(far.life.queue) == [grant(8)]


def test_inputs_of_a_grant_that_was_withdrawn_are_not_kept(far: Far) -> None:
    far.told(GrantInputs(7, 1, (payload("in vain"),)))
    far.gets()
    assert far.gets(7) == [StartJob(grant(7))]


# --- lives


def lose_life(far: Far) -> list[WorkerCommand]:
    """Let the master have given this life up; return what the worker does on learning it."""
    assert far.hears(*fenced(5)) == [resuming(5, ack=far.seq)]
    return far.hears(*fenced())


def anew(ack: int = 0) -> WorkerCommand:
    return greeting(given_up=5, run="run", epoch=3, ack=ack)


def test_over_a_new_connection_it_goes_on_as_it_was(far: Far) -> None:
    far.gets(1, 2)
    assert far.life.handle(Connected(1.0)) == [resuming(5, ack=1)]
    assert far.ends() == [StartJob(grant(2))]
    assert far.ends() == [], "kept until it is in again"
    assert far.hears(*welcome(5, resumed=True)) == [said(JobsEnded((ended(1), ended(2))), 1, ack=1)]


def test_an_idle_worker_whose_life_is_over_starts_anew_at_once(far: Far) -> None:
    assert lose_life(far) == [anew()]


def test_a_new_life_starts_empty(far: Far) -> None:
    far.gets(1, 2, 3)
    far.ends("of the former life")
    lose_life(far)
    assert far.life.queue == type(far.life.queue)()
    assert far.ends("void") == [anew(ack=1)]
    assert far.hears(*welcome(6)) == [acked(life=6)]
    far.seq = 0
    assert far.told(GrantJobs((grant(7),)), life=6) == [StartJob(grant(7))]
    assert far.ends() == [said(JobsEnded((ended(7),)), 1, ack=1, life=6)]


def test_no_greeting_is_said_before_the_void_job_has_ended(far: Far) -> None:
    far.gets(1)
    assert lose_life(far) == []
    assert far.hears(*fenced()) == []
    assert far.life.handle(Connected(0.5)) == []
    assert far.life.handle(ProgressMade(0.5, 1, 2)) == []
    assert far.life.next_deadline() == VOID_S
    assert far.tick(VOID_S / 2) == []
    assert far.ends() == [anew(ack=1)]
    assert far.life.next_deadline() != VOID_S


def test_a_void_job_that_does_not_end_ends_the_process(far: Far) -> None:
    far.gets(1)
    lose_life(far)
    (command,) = far.tick(VOID_S)
    assert command == Exit(75, "its job was given to another worker, and goes on")


def test_a_void_job_that_asks_is_told_so(far: Far) -> None:
    far.gets(1)
    far.life.handle(ServiceAsked(0.0, 8, "weights", "pull", payload()))
    assert lose_life(far) == [DeliverReply(8, False, VOID)]
    again = ServiceAsked(0.0, 9, "weights", "pull", payload())
    assert far.life.handle(again) == [DeliverReply(9, False, VOID)]


def test_the_size_of_void_results_is_forgotten_too(far: Far) -> None:
    far.gets(1, 2)
    far.ends("x" * (FLUSH_BYTES - 1))
    lose_life(far)
    far.ends()
    far.hears(*welcome(6))
    far.seq = 0
    far.told(GrantJobs((grant(7), grant(8))), life=6)
    assert far.ends("small") == [StartJob(grant(8))]


def test_inputs_of_a_former_life_are_not_kept(far: Far) -> None:
    far.told(GrantInputs(7, 1, (payload("in vain"),)))
    lose_life(far)
    far.hears(*welcome(6))
    far.seq = 0
    assert far.told(GrantJobs((grant(7),)), life=6) == [StartJob(grant(7))]


def test_refused_it_ends(far: Far) -> None:
    far.life.handle(Connected(1.0))
    assert far.hears(*refused()) == [Exit(77, "The master refused: not you")]


# --- leaving


def test_told_to_leave_it_gives_back_ends_its_job_and_says_goodbye(far: Far) -> None:
    far.gets(1, 2, 3)
    assert far.told(Stop(drain=True)) == [
        said(JobsReturned(((2, 1), (3, 1)), draining=True), 1, ack=2)
    ]
    assert far.told(Stop(drain=True)) == [], "once"
    assert far.ends() == [
        said(JobsEnded((ended(1),)), 2, ack=3),
        said(Goodbye("told to stop"), 3, ack=3),
    ]
    assert far.hears(*from_master(Ack(), 0, ack=2)) == []
    assert far.hears(*from_master(Ack(), 0, ack=3)) == [Exit(0, "told to stop")]


def test_an_idle_worker_leaves_on_a_signal(far: Far) -> None:
    assert far.life.handle(LeaveRequested(0.0, "terminated")) == [
        said(JobsReturned((), draining=True), 1),
        said(Goodbye("terminated"), 2),
    ]


def test_what_is_granted_to_a_leaving_worker_is_given_back(far: Far) -> None:
    far.gets(1)
    far.told(Stop(drain=True))
    assert far.gets(2) == [said(JobsReturned(((2, 1),), draining=True), 2, ack=3)]


def test_what_is_taken_back_from_a_leaving_worker_is_gone_already(far: Far) -> None:
    far.gets(1, 2)
    far.told(Stop(drain=True))
    assert far.told(TakeBack(((2, 1),))) == []


def test_last_words_that_are_not_acknowledged_are_not_waited_for_for_ever(far: Far) -> None:
    far.told(Stop(drain=True))
    assert far.life.next_deadline() is not None
    far.tick(LEAVE_S / 2)
    assert far.tick(LEAVE_S)[-1] == Exit(0, "told to stop")


def test_told_to_stop_at_once_it_does(far: Far) -> None:
    far.gets(1)
    assert far.told(Stop(drain=False)) == [Exit(0, "told to stop at once")]


def test_a_leaving_worker_whose_life_is_over_goes_at_once(far: Far) -> None:
    far.gets(1)
    far.told(Stop(drain=True))
    assert lose_life(far) == []
    assert far.ends() == [Exit(0, "told to stop")]


def test_told_to_leave_before_it_was_in_it_says_so_once_in() -> None:
    far = Far()
    far.life.handle(Connected(0.0))
    assert far.life.handle(LeaveRequested(0.0, "terminated")) == []
    assert far.hears(*welcome()) == [acked(), said(Goodbye("terminated"), 1)]
    assert far.hears(*from_master(Ack(), 0, ack=1)) == [Exit(0, "terminated")]


# --- time


def test_a_tick_does_what_the_conversation_demands(far: Far) -> None:
    far.gets(1)
    assert far.life.next_deadline() == 0.2
    assert far.tick(0.2) == [acked(1)]


@pytest.mark.parametrize(
    "event",
    [lambda now: Tick(now), lambda now: LeaveRequested(now, "x"), lambda now: Connected(now)],
)
def test_before_the_first_connection_nothing_is_said_but_a_greeting(
    event: Callable[[float], Tick | LeaveRequested | Connected],
) -> None:
    commands = WorkerLife("w1", "launch", make_hello).handle(event(0.0))
    assert commands in ([], [greeting()])


def test_what_is_no_event_is_a_bug_and_says_so(far: Far) -> None:
    with pytest.raises(AssertionError, match="unreachable"):
        far.life.handle("what happened")  # type: ignore[arg-type]
