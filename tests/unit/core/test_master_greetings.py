"""Who is let in, as what, and who is told to go."""

from __future__ import annotations

import pytest

from paramserver.core.commands import AnnounceWorker, Send
from paramserver.core.departures import UNREAD_MAX
from paramserver.core.events import CancelRequested, StopRequested
from paramserver.core.link import EARLY_MAX
from paramserver.core.roster import WorkerState
from paramserver.protocol.messages import (
    Ack,
    Envelope,
    Fenced,
    Goodbye,
    GrantJobs,
    JobProgressed,
    JobsEnded,
    JobsReturned,
    ProcessExited,
    Refused,
    Stop,
    Welcome,
    WorkerJoined,
)
from tests.unit.core.board import (
    EPOCH,
    RUN,
    Board,
    cancelled,
    grant,
    granted,
    result,
    succeeded,
    welcome,
)


def fenced(name: str, peer: bytes, life: int, reason: str) -> Send:
    envelope = Envelope(RUN, EPOCH, name, life, 0, 0)
    return Send(peer, envelope, Fenced(f"{reason}: say Hello"))


def refused(name: str, peer: bytes, reason: str) -> Send:
    return Send(peer, Envelope(RUN, EPOCH, name, 0, 0, 0), Refused(reason))


# --- workers


def test_a_worker_that_greets_is_welcomed_and_announced(board: Board) -> None:
    assert board.hello("w1", b"p1") == [
        welcome("w1", b"p1", 1),
        AnnounceWorker(1, "w1", "joined"),
    ]
    worker = board.worker("w1")
    assert (worker.pid, worker.host) == (1, "host")
    assert board.counters == {"workers_joined": 1}


def test_a_worker_that_shows_the_nonce_is_on_this_machine() -> None:
    board = Board(machine="nonce")  # type: ignore[arg-type]
    board.hello("w1", b"p1", machine="nonce")
    board.hello("w2", b"p2", machine="guess")
    board.hello("w3", b"p3")
    assert [board.worker(name).is_local for name in ("w1", "w2", "w3")] == [True, False, False]


def test_without_a_nonce_nobody_is_on_this_machine(board: Board) -> None:
    board.hello("w1", b"p1", machine="")
    assert not board.worker("w1").is_local


def test_a_repeated_greeting_is_answered_with_the_same_life(board: Board) -> None:
    board.hello("w1", b"p1")
    assert board.hello("w1", b"p1") == [welcome("w1", b"p1", 1)]
    board.says(b"p1", JobsReturned((), draining=False))
    assert board.hello("w1", b"p1") == [welcome("w1", b"p1", 1, ack=1)], "however late it comes"


def test_a_life_that_its_own_process_has_given_up_is_over(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 7)
    board.tick()
    assert board.hello("w1", b"p1", given_up=1) == [
        AnnounceWorker(1, "w1", "lost", "replaced by a newer life"),
        welcome("w1", b"p1", 2),
        AnnounceWorker(2, "w1", "joined"),
    ]
    assert board.mishaps(7) == (0, 0, 0, 0), "nobody is to blame"


def test_one_process_that_greets_anew_over_another_connection_is_not_charged(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 7)
    board.tick()
    assert board.hello("w1", b"p2")[1:] == [
        welcome("w1", b"p2", 2),
        AnnounceWorker(2, "w1", "joined"),
    ]
    assert board.mishaps(7) == (0, 0, 0, 0)
    assert granted(board.tick()) == {b"p2": [(7, 2)]}


def test_of_two_processes_with_one_name_the_newer_wins(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 7)
    board.tick()
    assert board.hello("w1", b"p2", pid=77) == [
        AnnounceWorker(1, "w1", "lost", "replaced by a newer life"),
        welcome("w1", b"p2", 2),
        AnnounceWorker(2, "w1", "joined"),
    ]
    assert board.mishaps(7) == (0, 0, 1, 1), "it may have died of its job"


def test_the_older_of_two_processes_is_told_to_go_once_the_newer_has_spoken(board: Board) -> None:
    board.join("w1", b"p1")
    board.now += 1
    board.join("w1", b"p2", pid=77)  # type: ignore[arg-type]
    late = Envelope(RUN, EPOCH, "w1", 1, 1, 0)
    assert board.hears(b"p1", JobsEnded(()), late) == [fenced("w1", b"p1", 1, "unknown")]
    resume = {"resume": 1, "token": "session 1"}
    assert board.hello("w1", b"p1", **resume) == [fenced("w1", b"p1", 0, "unknown")]  # type: ignore[arg-type]
    board.now += 1
    board.says(b"p2", Ack(), seq=0)
    assert board.hello("w1", b"p1", **resume) == [  # type: ignore[arg-type]
        refused("w1", b"p1", "another process has come and taken its name")
    ]
    assert board.worker("w1").incarnation == 2


def test_a_wrong_token_is_refused(board: Board) -> None:
    answer = refused("w1", b"p1", "the launch token is not the one of this name")
    assert board.hello("w1", b"p1", token="guess") == [answer]
    assert board.counters == {"unauthenticated": 1, "refused": 1}


def test_the_name_of_a_living_worker_belongs_to_its_agent(board: Board) -> None:
    board.join("w1", b"p1")
    answer = refused("w1", b"p2", "the launch token is not the one of this name")
    assert board.hello("w1", b"p2", agent="another", token="its own") == [answer]
    assert "another" not in board.machine.roster.agents


def test_another_release_is_refused_in_words(board: Board) -> None:
    (answer,) = board.hello("w1", b"p1", release="0.9")
    assert answer == refused(
        "w1",
        b"p1",
        "it runs 0.9, the master runs 1.0: install the same versions of paramserver and Python on "
        "both machines",
    )


def test_a_connection_belongs_to_one_member(board: Board) -> None:
    board.join("w1", b"p1")
    assert board.hello("w2", b"p1") == [refused("w2", b"p1", "this connection belongs to w1")]
    assert board.counters["unauthenticated"] == 1


def test_a_connection_is_a_workers_or_an_agents_though_they_have_one_name(board: Board) -> None:
    board.join("w1", b"p1")
    answer = refused("w1", b"p1", "this connection belongs to w1")
    assert board.agent_hello("w1", b"p1") == [answer]
    assert board.hello("w1", b"p1", given_up=1), "it may say Hello again"
    board.agent_hello("far", b"a1")
    answer = refused("far", b"a1", "this connection belongs to far")
    assert board.hello("far", b"a1", pid=7) == [answer]
    board.machine.check()
    board.disconnect(b"p1")
    assert board.machine.roster.workers["w1"].suspect_until is not None, "its own end is noticed"


def test_the_last_greeting_of_a_process_that_is_no_more_is_counted_only(board: Board) -> None:
    board.exits("w1", 1)
    assert board.hello("w1", b"p1") == []
    assert board.counters == {"unknown": 1}
    assert board.hello("w1", b"p2", pid=77)[-1] == AnnounceWorker(1, "w1", "joined")


def test_when_there_is_no_room_newcomers_are_refused_and_members_are_not() -> None:
    board = Board(max_members=2)
    board.join("w1", b"p1")
    board.join("w2", b"p2")
    (answer,) = board.hello("w3", b"p3")
    assert isinstance(answer, Send)
    assert answer.message == Refused(
        "it has room for 2 workers and agents (its limit of open files): start fewer, or raise the "
        "limit where the master runs (ulimit -n)"
    )
    assert board.counters["no_room"] == 1
    assert board.agent_hello()[0].message == answer.message  # type: ignore[union-attr]
    assert board.hello("w1", b"p9", resume=1, token="session 1")[-1] == AnnounceWorker(
        1, "w1", "resumed"
    )


# --- lives that go on


def test_a_life_is_resumed_over_another_connection(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 7, 8)
    board.tick()
    board.says(b"p1", JobProgressed(7, 1, 1, 2), ack=0)
    board.disconnect(b"p1")
    assert board.worker().state is WorkerState.SUSPECT
    assert board.hello("w1", b"p2", resume=1, token="session 1") == [
        welcome("w1", b"p2", 1, resumed=True, ack=1),
        AnnounceWorker(1, "w1", "resumed"),
    ]
    assert board.worker().state is WorkerState.READY
    assert not board.machine.roster.suspects
    assert board.tick() == [board.sends(GrantJobs((grant(7),)), b"p2", seq=1, ack=1)]


def test_a_repeated_greeting_to_resume_sends_nothing_again(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 7)
    board.tick()
    board.hello("w1", b"p2", resume=1, token="session 1")
    assert board.tick() == [board.sends(GrantJobs((grant(7),)), b"p2", seq=1)]
    assert board.hello("w1", b"p2", resume=1, token="session 1") == [
        welcome("w1", b"p2", 1, resumed=True)
    ]
    assert board.tick() == []


def test_a_life_resumed_with_everything_received_gets_nothing_again(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 7)
    board.tick()
    board.hello("w1", b"p2", resume=1, token="session 1", ack=1)
    assert board.tick() == [board.sends(Ack(), b"p2")]


@pytest.mark.parametrize(
    "wrong", [{"resume": 2}, {"token": "session 9"}, {"epoch": 2}], ids=["life", "secret", "epoch"]
)
def test_a_life_is_resumed_only_with_its_number_and_secret(
    board: Board, wrong: dict[str, object]
) -> None:
    board.join("w1", b"p1")
    shown = {"resume": 1, "token": "session 1", **wrong}
    assert board.hello("w1", b"p2", **shown) == [fenced("w1", b"p2", 0, "unknown")]  # type: ignore[arg-type]
    assert board.worker().peer == b"p1"


def test_a_life_that_is_unknown_here_is_not_resumed(board: Board) -> None:
    assert board.hello("w1", b"p1", resume=4) == [fenced("w1", b"p1", 0, "unknown")]
    assert board.counters == {"unknown": 1}


# --- messages that count, and those that do not


def test_a_message_over_an_unknown_connection_is_fenced(board: Board) -> None:
    board.join("w1", b"p1")
    late = Envelope(RUN, EPOCH, "w1", 1, 1, 0)
    assert board.hears(b"p9", JobsEnded(()), late) == [fenced("w1", b"p9", 1, "unknown")]


def test_a_message_in_the_name_of_another_is_fenced(board: Board) -> None:
    board.join("w1", b"p1")
    board.join("w2", b"p2")
    forged = Envelope(RUN, EPOCH, "w1", 1, 1, 0)
    assert board.hears(b"p2", JobsEnded(()), forged) == [fenced("w1", b"p2", 1, "unauthenticated")]
    assert board.counters["unauthenticated"] == 1


@pytest.mark.parametrize(
    ("run", "epoch", "life"), [(RUN, EPOCH, 9), (RUN, EPOCH - 1, 1), ("other", EPOCH, 1)]
)
def test_a_message_of_another_life_is_fenced(board: Board, run: str, epoch: int, life: int) -> None:
    board.join("w1", b"p1")
    late = Envelope(run, epoch, "w1", life, 1, 0)
    assert board.hears(b"p1", JobsEnded(()), late) == [fenced("w1", b"p1", life, "fenced")]
    assert board.counters["fenced"] == 1


def test_a_repeated_message_is_counted_and_changes_nothing(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 7)
    board.tick()
    assert board.ends(b"p1", result(7)) == [succeeded(7)]
    assert board.says(b"p1", JobsEnded((result(7),)), seq=1) == []
    assert board.counters["repeated"] == 1


def test_a_message_that_comes_too_early_waits(board: Board) -> None:
    board.join("w1", b"p1")
    board.open(1, 7)
    board.tick()
    assert board.says(b"p1", JobsEnded((result(7),)), seq=2) == []
    assert "gap" not in board.counters
    assert board.says(b"p1", JobProgressed(7, 1, 1, 2), seq=1) == [succeeded(7)]


def test_far_too_many_early_messages_are_dropped_and_counted(board: Board) -> None:
    board.join("w1", b"p1")
    for seq in range(2, EARLY_MAX + 6):
        board.says(b"p1", JobsEnded(()), seq=seq)
    assert board.counters["gap"] == 4


def test_a_message_that_only_a_master_says_is_counted(board: Board) -> None:
    board.join("w1", b"p1")
    assert board.says(b"p1", ProcessExited("w1", 1, 0, 0, 0, "")) == []
    assert board.counters["mismatched"] == 1


# --- leaving


def test_a_worker_that_says_goodbye_has_left(board: Board) -> None:
    life = board.join("w1", b"p1")
    assert board.says(b"p1", Goodbye("terminated")) == [
        Send(b"p1", Envelope(RUN, EPOCH, "w1", life, 0, 1), Ack()),
        AnnounceWorker(life, "w1", "left", "terminated"),
    ]
    assert not board.machine.roster.workers
    assert board.counters == {"workers_joined": 1, "workers_left": 1}


def test_what_comes_after_a_goodbye_is_dropped_and_counted(board: Board) -> None:
    board.join("w1", b"p1")
    board.says(b"p1", JobsEnded(()), seq=2)
    board.says(b"p1", Goodbye("terminated"), seq=1)
    assert board.counters["fenced"] == 1


# --- remote agents


def test_a_remote_agent_is_welcomed_and_told_who_has_come(board: Board) -> None:
    assert board.agent_hello("far", b"a1") == [welcome("far", b"a1", 1)]
    assert board.machine.roster.agents["far"].host == "far host"
    assert board.hello("w1", b"p1", agent="far") == [
        Send(b"p1", Envelope(RUN, EPOCH, "w1", 2, 0, 0), Welcome("session 2", False)),
        AnnounceWorker(2, "w1", "joined"),
        board.sends(WorkerJoined("w1"), b"a1", seq=1),
    ]


def test_a_repeated_greeting_of_an_agent_is_answered_with_the_same_life(board: Board) -> None:
    board.agent_hello("far", b"a1")
    assert board.agent_hello("far", b"a1") == [welcome("far", b"a1", 1)]


def test_an_agent_over_another_connection_or_done_with_its_life_begins_anew(board: Board) -> None:
    board.agent_hello("far", b"a1")
    assert board.agent_hello("far", b"a2") == [welcome("far", b"a2", 2)]
    assert board.agent_hello("far", b"a2", given_up=2) == [welcome("far", b"a2", 3)]


def test_an_agent_that_takes_nothing_in_is_parted_with(board: Board) -> None:
    board.agent_hello("far", b"a1")
    agent = board.machine.roster.agents["far"]
    for n in range(UNREAD_MAX):  # lives that one worker begins and gives up, again and again
        board.hello("w1", b"p1", agent="far", given_up=n and n + 1)
    assert (agent.peer, agent.link.n_unacked) == (b"a1", UNREAD_MAX)
    board.hello("w1", b"p2", agent="far")
    assert (agent.peer, agent.link.n_unacked) == (None, 0)
    assert board.counters["agents_lost"] == 1
    board.hello("w1", b"p3", agent="far")
    assert agent.link.n_unacked == 0, "nothing is kept for who has parted"
    board.agent_hello("far", b"a1")
    assert agent.peer == b"a1", "it may come back"


def test_an_agents_life_is_resumed(board: Board) -> None:
    board.agent_hello("far", b"a1")
    board.disconnect(b"a1")
    assert board.agent_hello("far", b"a2", resume=1, token="session 1") == [
        welcome("far", b"a2", 1, resumed=True)
    ]
    assert not board.machine.roster.suspects


def test_an_agents_life_that_is_unknown_is_not_resumed(board: Board) -> None:
    assert board.agent_hello("far", b"a1", resume=1) == [fenced("far", b"a1", 0, "unknown")]


def test_an_agent_with_a_wrong_token_or_release_is_refused(board: Board) -> None:
    board.agent_hello("far", b"a1")
    answer = refused("far", b"a2", "the launch token is not the one of this agent")
    assert board.agent_hello("far", b"a2", token="guess") == [answer]
    (other,) = board.agent_hello("far", b"a2", release="0.9")
    assert isinstance(other, Send)
    assert type(other.message) is Refused


def test_a_death_that_an_agent_tells_is_a_loss(board: Board) -> None:
    board.agent_hello("far", b"a1")
    board.hello("w1", b"p1", agent="far")
    assert board.says(b"a1", ProcessExited("w1", 1, -11, 0, 0, "words")) == [
        AnnounceWorker(2, "w1", "lost", "signal 11 (SIGSEGV)")
    ]


def test_an_agent_tells_of_its_own_workers_only(board: Board) -> None:
    board.agent_hello("far", b"a1")
    board.join("w1", b"p1")
    assert board.says(b"a1", ProcessExited("w1", 1, -11, 0, 0, "")) == []
    assert "w1" in board.machine.roster.workers


def test_an_agent_that_says_goodbye_is_forgotten(board: Board) -> None:
    board.agent_hello("far", b"a1")
    assert board.says(b"a1", Goodbye("the last worker is gone")) == [
        Send(b"a1", Envelope(RUN, EPOCH, "far", 1, 0, 1), Ack())
    ]
    assert "far" not in board.machine.roster.agents


def test_after_an_agents_goodbye_nothing_of_it_counts(board: Board) -> None:
    board.agent_hello("far", b"a1")
    board.says(b"a1", Goodbye("again"), seq=2)
    board.says(b"a1", Goodbye("the last worker is gone"), seq=1)
    assert board.counters["mismatched"] == 1


def test_what_no_agent_says_is_counted(board: Board) -> None:
    board.agent_hello("far", b"a1")
    assert board.says(b"a1", JobsEnded(())) == []
    assert board.counters["mismatched"] == 1


def test_an_agent_that_is_silent_too_long_is_parted_with(board: Board) -> None:
    board.agent_hello("far", b"a1")
    board.disconnect(b"a1")
    board.tick(4.9)
    assert "far" in board.machine.roster.agents
    board.tick(0.2)
    assert "far" not in board.machine.roster.agents
    assert board.counters["agents_lost"] == 1


# --- while the cluster shuts down


def test_who_comes_while_the_cluster_shuts_down_is_told_so(board: Board) -> None:
    board.do(StopRequested(board.now, drain=True))
    assert board.hello("w1", b"p1")[-1] == board.sends(Stop(drain=True), seq=1)
    assert board.agent_hello("far", b"a1")[-1] == board.sends(Stop(drain=True), b"a1", seq=1)


def test_a_kill_of_a_worker_without_a_known_parent_is_counted(board: Board) -> None:
    board.hello("w1", b"p1", agent="nobody")
    board.open(1, 7)
    board.tick()
    commands = board.do(CancelRequested(board.now, (7,)))
    assert commands == [
        cancelled(7),
        AnnounceWorker(1, "w1", "lost", "its job was cancelled"),
    ]
    assert board.counters["unkillable"] == 1
