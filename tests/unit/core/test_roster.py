"""The life of a worker as the master sees it, and the table of all of them."""

from __future__ import annotations

from itertools import count

import pytest

from paramserver.core.quarantine import Origin
from paramserver.core.roster import (
    CACHES_MAX,
    ENDED_KEPT,
    TRANSITIONS,
    Agent,
    Change,
    Roster,
    Worker,
    WorkerState,
)
from paramserver.errors import InvalidTransition
from tests.unit.core.test_deadlines import Desk


@pytest.fixture
def roster() -> Roster:
    tokens = count(1)
    return Roster(lambda: f"session {next(tokens)}")


def join(roster: Roster, name: str, peer: bytes, agent_id: str = "a") -> Worker:
    return roster.join(1.0, name, roster.agent(agent_id, "token", Origin()), peer)


@pytest.mark.parametrize("state", WorkerState)
@pytest.mark.parametrize("change", Change)
def test_a_worker_goes_where_the_table_says_and_nowhere_else(
    state: WorkerState, change: Change
) -> None:
    worker = Worker("w1", Agent("a", "token"), 7, b"p1")
    worker.state = state
    target = TRANSITIONS[state].get(change)
    if target is None:
        with pytest.raises(InvalidTransition) as caught:
            worker.step(change)
        story = f"worker w1, incarnation 7, {state.name}"
        assert str(caught.value).startswith(f"{story} cannot {change.name}.")
        assert caught.value.story == (story,)
    else:
        worker.step(change)
        assert worker.state is target


def test_the_dead_stay_dead() -> None:
    assert TRANSITIONS[WorkerState.LOST] == TRANSITIONS[WorkerState.LEFT] == {}


def test_every_life_has_a_number_and_a_secret_of_its_own(roster: Roster) -> None:
    first, second = join(roster, "w1", b"p1"), join(roster, "w2", b"p2")
    assert (first.incarnation, first.session) == (1, "session 1")
    assert (second.incarnation, second.session) == (2, "session 2")
    assert (first.joined_at, first.last_heard) == (1.0, 1.0)
    assert (first.member_id, first.agent.member_id) == ("w1", "a")
    assert roster.by_peer == {b"p1": first, b"p2": second}
    assert roster.by_incarnation == {1: first, 2: second}


def test_a_removed_worker_is_found_nowhere(roster: Roster) -> None:
    roster.register("a", "token")
    worker = join(roster, "w1", b"p1")
    roster.suspects.add(worker)
    roster.remove(worker)
    assert not roster.workers
    assert not roster.by_peer
    assert not roster.by_incarnation
    assert not roster.suspects


def test_removing_a_former_life_leaves_the_newer_one(roster: Roster) -> None:
    former = join(roster, "w1", b"p1")
    newer = join(roster, "w1", b"p2")
    roster.remove(former)
    assert roster.workers == {"w1": newer}
    assert roster.by_peer == {b"p2": newer}


def test_a_connection_that_was_given_to_another_is_not_taken_from_it(roster: Roster) -> None:
    former, newer = join(roster, "w1", b"p1"), join(roster, "w2", b"p1")
    roster.release_peer(former)
    assert roster.by_peer == {b"p1": newer}


def test_a_member_can_go_on_over_another_connection(roster: Roster) -> None:
    worker = join(roster, "w1", b"p1")
    roster.rebind(worker, b"p2")
    assert worker.peer == b"p2"
    assert roster.by_peer == {b"p2": worker}


def test_a_name_belongs_to_whoever_brought_the_token_first(roster: Roster) -> None:
    assert roster.is_entitled("a", "any", None)
    agent = roster.agent("a", "token", Origin())
    assert roster.agent("a", "token", Origin()) is agent
    assert roster.is_entitled("a", "token", None)
    assert not roster.is_entitled("a", "other", None)


def test_a_living_worker_is_replaced_only_by_its_own_agent(roster: Roster) -> None:
    worker = join(roster, "w1", b"p1", "a")
    assert roster.is_entitled("a", "token", worker)
    assert not roster.is_entitled("b", "token", worker)
    assert "b" not in roster.agents, "asking leaves nothing behind"


def test_the_agent_of_this_process_is_known_for_ever(roster: Roster) -> None:
    roster.register("a", "token")
    roster.remove(join(roster, "w1", b"p1"))
    assert roster.agents["a"].is_local
    assert roster.agents["a"].peer is None


def test_an_agent_that_never_spoke_is_forgotten_with_its_last_worker(roster: Roster) -> None:
    one, two = join(roster, "w1", b"p1"), join(roster, "w2", b"p2")
    roster.remove(one)
    assert "a" in roster.agents
    roster.remove(two)
    assert not roster.agents


def test_a_replaced_worker_does_not_take_its_agent_along(roster: Roster) -> None:
    former = join(roster, "w1", b"p1")
    roster.remove(former)
    newer = roster.join(2.0, "w1", former.agent, b"p2")
    assert roster.agents == {"a": newer.agent}


def test_a_remote_agent_lives_and_parts(roster: Roster) -> None:
    agent = roster.agent("far", "token", Origin())
    roster.join_agent(agent, b"a1")
    assert (agent.peer, agent.incarnation, agent.session) == (b"a1", 1, "session 1")
    assert list(roster.members()) == [agent]
    worker = join(roster, "w1", b"p1", "far")
    assert list(roster.members()) == [worker, agent]
    roster.part(agent)
    assert roster.by_peer == {b"p1": worker}
    assert agent.session == "session 3", "nobody can resume that life"
    assert list(roster.members()) == [worker]
    assert "far" in roster.agents, "a worker of it is there"
    roster.remove(worker)
    assert not roster.agents


def test_a_remote_agent_that_begins_anew_starts_with_a_clean_slate(roster: Roster) -> None:
    agent = roster.agent("far", "token", Origin())
    roster.join_agent(agent, b"a1")
    agent.suspect_until = 5.0
    roster.suspects.add(agent)
    old_link = agent.link
    roster.join_agent(agent, b"a2")
    assert agent.link is not old_link
    assert agent.suspect_until is None
    assert not roster.suspects
    assert roster.by_peer == {b"a2": agent}


def test_a_parted_agent_without_workers_is_forgotten(roster: Roster) -> None:
    agent = roster.agent("far", "token", Origin())
    roster.join_agent(agent, b"a1")
    roster.part(agent)
    assert not roster.agents


def test_takers_are_the_ready_ones_the_least_loaded_first() -> None:
    desk = Desk()
    roster = desk.roster
    desk.hold(1)
    idle = roster.join(0.0, "w2", desk.worker.agent, b"p2")
    suspect = roster.join(0.0, "w3", desk.worker.agent, b"p3")
    suspect.step(Change.MISS)
    leaving = roster.join(0.0, "w4", desk.worker.agent, b"p4")
    leaving.step(Change.DRAIN)
    assert roster.takers(0.0) == [idle, desk.worker]
    roster.remove(idle)
    assert roster.takers(0.0) == [desk.worker]


def test_a_machine_in_quarantine_gets_nothing_while_there_is_another(roster: Roster) -> None:
    bad, good = join(roster, "w1", b"p1", "bad"), join(roster, "w2", b"p2", "good")
    bad.agent.standing.quarantined_until = 10.0
    assert roster.takers(9.0) == [good]
    assert roster.takers(10.0) == [bad, good]


def test_the_only_machine_is_used_even_in_quarantine(roster: Roster) -> None:
    bad = join(roster, "w1", b"p1", "bad")
    bad.agent.standing.quarantined_until = 10.0
    assert roster.takers(9.0) == [bad]


def test_an_agent_remembers_the_latest_dead_only() -> None:
    agent = Agent("a", "token")
    for pid in range(10 * ENDED_KEPT):
        agent.ended.append(("w", pid))
    assert len(agent.ended) == ENDED_KEPT
    assert agent.ended[-1] == ("w", 10 * ENDED_KEPT - 1)


def test_the_data_a_worker_has_read_last_is_remembered() -> None:
    worker = Worker("w1", Agent("a", "token"), 1, b"p1")
    for number in range(CACHES_MAX + 1):
        worker.note_cached(number)
        worker.note_cached("often")
    assert len(worker.caches) == CACHES_MAX
    assert "often" in worker.caches
    assert CACHES_MAX in worker.caches
    assert 0 not in worker.caches
