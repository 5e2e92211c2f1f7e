"""A remote agent's side: it kills and stops on demand, and its deaths arrive."""

from __future__ import annotations

import pytest

from paramserver.core.agent_life import AgentLife
from paramserver.core.commands import Exit, KillChild, NoteChild, Say, StopChildren
from paramserver.core.session import PROBE_S
from paramserver.protocol.messages import (
    Ack,
    Envelope,
    Goodbye,
    KillProcess,
    ProcessExited,
    Stop,
    WorkerJoined,
)
from tests.unit.core.far_side import (
    acked,
    fenced,
    from_master,
    make_agent_hello,
    refused,
    said,
    welcome,
)

DEATH = ProcessExited("w9", 9, -9, 4, 1, "words")
GREETING = Say(Envelope("", 0, "w1", 0, 0, 0), make_agent_hello("launch", 0, 0))
RESUMING = Say(Envelope("run", 3, "w1", 0, 0, 0), make_agent_hello("secret", 3, 5))
ANEW = Say(Envelope("run", 3, "w1", 5, 0, 0), make_agent_hello("launch", 0, 0))


@pytest.fixture
def agent() -> AgentLife:
    return AgentLife("w1", "launch", make_agent_hello, give_up_s=600.0)


@pytest.fixture
def inside(agent: AgentLife) -> AgentLife:
    agent.connected(0.0)
    agent.heard(0.0, *welcome())
    return agent


def test_it_greets_over_every_connection(agent: AgentLife) -> None:
    assert agent.connected(0.0) == [GREETING]
    assert not agent.is_in
    assert agent.heard(0.0, *welcome()) == [acked()]
    assert agent.is_in
    assert agent.connected(1.0) == [RESUMING]


def test_it_does_what_it_is_told(inside: AgentLife) -> None:
    kill = KillProcess("w7", 7, "its job hangs")
    assert inside.heard(0.0, *from_master(kill, 1)) == [KillChild("w7", "its job hangs")]
    assert inside.heard(0.0, *from_master(WorkerJoined("w8"), 2)) == [NoteChild("w8")]
    assert inside.heard(0.0, *from_master(Stop(drain=False), 3)) == [StopChildren(drain=False)]


def test_a_message_that_is_not_for_agents_changes_nothing(inside: AgentLife) -> None:
    assert inside.heard(0.0, *from_master(Ack(), 1)) == []


def test_a_death_is_said_until_it_arrives(inside: AgentLife) -> None:
    assert not inside.has_unsaid
    assert inside.child_ended(0.0, DEATH) == [said(DEATH, 1)]
    assert inside.has_unsaid
    assert inside.tick(2.0) == [said(DEATH, 1)]
    inside.heard(2.1, *from_master(Ack(), 0, ack=1))
    assert not inside.has_unsaid


def test_a_death_in_a_life_that_is_over_is_news_in_the_next(inside: AgentLife) -> None:
    inside.child_ended(0.0, DEATH)
    inside.leave(0.0, "going")
    assert inside.heard(1.0, *fenced(5)) == [RESUMING]
    assert inside.heard(1.0, *fenced()) == [ANEW]
    assert inside.heard(1.1, *welcome(6)) == [acked(life=6), said(DEATH, 1, life=6)]


def test_it_says_goodbye(inside: AgentLife) -> None:
    assert inside.leave(0.0, "the last worker is gone") == [
        said(Goodbye("the last worker is gone"), 1)
    ]


def test_refused_it_ends(agent: AgentLife) -> None:
    agent.connected(0.0)
    assert agent.heard(0.1, *refused()) == [Exit(77, "The master refused: not you")]


def test_when_the_master_is_gone_too_long_it_gives_up_resumably(inside: AgentLife) -> None:
    assert inside.next_deadline() == PROBE_S
    inside.disconnected(10.0)
    inside.disconnected(300.0)
    assert not inside.is_in
    inside.tick(20.0)
    inside.tick(609.9)
    assert inside.next_deadline() == 610.0
    assert inside.tick(610.0) == [Exit(75, "no master has answered for 600 s")]


def test_a_master_that_is_heard_is_not_gone(inside: AgentLife) -> None:
    inside.disconnected(10.0)
    inside.heard(500.0, *from_master(Ack()))
    assert inside.tick(700.0) == [acked()]
    assert inside.next_deadline() == 700.0 + PROBE_S
