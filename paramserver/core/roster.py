"""The life of a worker, as the master sees it, and the table of all of them. Pure.

Rule 1: every change of a worker's state goes through `Worker.step` and the table TRANSITIONS.
Rule 2: an incarnation never comes back; a worker that returns gets the next number, and what its
        former life held is freed. Only a connection may be replaced under a living incarnation,
        by whoever shows the secret of its session.
Rule 3: a connection belongs to one member for as long as it lasts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from enum import IntEnum
from typing import Final, TypeAlias

from paramserver.core.jobs import Attempt
from paramserver.core.link import Link
from paramserver.core.quarantine import Origin, Standing, Standings
from paramserver.errors import InvalidTransition
from paramserver.protocol.messages import MasterMessage, WorkerMessage

MasterLink: TypeAlias = Link[MasterMessage, WorkerMessage]

ENDED_KEPT = 64
"""Processes known to have ended, remembered for one agent: a greeting of theirs may come late."""
CACHES_MAX = 256
"""Names of data remembered for one worker; more are hardly in its memory."""


class WorkerState(IntEnum):
    """Where a worker is in its life."""

    READY = 0
    SUSPECT = 1
    """Its connection is gone; its work is kept for a grace period."""
    DRAINING = 2
    """It gets no more jobs and will leave."""
    LOST = 3
    LEFT = 4


class Change(IntEnum):
    """What can happen to a worker."""

    MISS = 0
    HEAR = 1
    DRAIN = 2
    LOSE = 3
    LEAVE = 4


_READY: Final = WorkerState.READY
TRANSITIONS: dict[WorkerState, dict[Change, WorkerState]] = {
    WorkerState.READY: {
        Change.MISS: WorkerState.SUSPECT,
        Change.DRAIN: WorkerState.DRAINING,
        Change.LOSE: WorkerState.LOST,
        Change.LEAVE: WorkerState.LEFT,
    },
    WorkerState.SUSPECT: {
        Change.HEAR: WorkerState.READY,
        Change.DRAIN: WorkerState.DRAINING,
        Change.LOSE: WorkerState.LOST,
        Change.LEAVE: WorkerState.LEFT,
    },
    WorkerState.DRAINING: {
        Change.LOSE: WorkerState.LOST,
        Change.LEAVE: WorkerState.LEFT,
    },
    WorkerState.LOST: {},
    WorkerState.LEFT: {},
}


class Agent:
    """The parent of one machine's workers, and what the master thinks of that machine."""

    __slots__ = (
        "agent_id",
        "ended",
        "host",
        "incarnation",
        "is_local",
        "link",
        "member_id",
        "peer",
        "session",
        "standing",
        "suspect_until",
        "token",
    )

    def __init__(self, agent_id: str, token: str, standing: Standing | None = None) -> None:
        self.agent_id = self.member_id = agent_id
        """Its name, also on the wire."""
        self.token = token
        """The launch secret, which its workers show."""
        self.session = ""
        self.host = ""
        self.is_local = False
        """It is the agent in the master's own process."""
        self.peer: bytes | None = None
        """Its connection, if it has one."""
        self.incarnation = 0
        self.link: MasterLink = Link()
        self.suspect_until: float | None = None
        self.standing = standing or Standing()
        """What is held against its machine."""
        self.ended: deque[tuple[str, int]] = deque(maxlen=ENDED_KEPT)
        """Name and pid of the latest worker processes known to have ended."""


class Worker:
    """One incarnation of one worker."""

    __slots__ = (
        "agent",
        "asking",
        "caches",
        "held",
        "host",
        "incarnation",
        "is_local",
        "joined_at",
        "last_heard",
        "link",
        "member_id",
        "n_ended",
        "n_unanswered",
        "peer",
        "pid",
        "session",
        "state",
        "suspect_until",
        "worker_id",
    )

    def __init__(self, worker_id: str, agent: Agent, incarnation: int, peer: bytes) -> None:
        self.worker_id = self.member_id = worker_id
        """Its name, also on the wire."""
        self.agent = agent
        self.incarnation = incarnation
        self.peer = peer
        self.session = ""
        self.link: MasterLink = Link()
        self.state = WorkerState.READY
        self.held: dict[tuple[int, int], Attempt] = {}
        """What it has been granted and not given back, in order; the first one is running."""
        self.suspect_until: float | None = None
        self.joined_at = 0.0
        self.last_heard = 0.0
        self.n_ended = 0
        self.asking: tuple[int, int] | None = None
        """The attempt that has called a service lately."""
        self.n_unanswered = 0
        """Calls to services since it began to ask that have no answer yet."""
        self.pid = 0
        self.host = ""
        self.is_local = False
        """It has proven to be on the master's machine."""
        self.caches: dict[Hashable, None] = {}
        """Affinities of the jobs it was granted, the latest last, as many as `CACHES_MAX`."""

    @property
    def head(self) -> Attempt | None:
        """The attempt that is running, by the master's best knowledge."""
        for attempt in self.held.values():
            return attempt
        return None

    def note_cached(self, affinity: Hashable) -> None:
        """Remember what data it will have read."""
        caches = self.caches
        caches.pop(affinity, None)
        caches[affinity] = None
        if len(caches) > CACHES_MAX:
            del caches[next(iter(caches))]

    def step(self, change: Change) -> None:
        """Go to the next state.

        Raises
        ------
        InvalidTransition
            If the table has no such step from here.
        """
        target = TRANSITIONS[self.state].get(change)
        if target is None:
            story = f"worker {self.worker_id}, incarnation {self.incarnation}, {self.state.name}"
            raise InvalidTransition(
                f"{story} cannot {change.name}. This is a bug in paramserver; please report it.",
                story=(story,),
            )
        self.state = target


Member = Worker | Agent


class Roster:
    """Who is there. Finds members by connection, by name and by incarnation."""

    def __init__(self, make_token: Callable[[], str], first_incarnation: int = 1) -> None:
        self._make_token = make_token
        self._next_incarnation = first_incarnation
        self.agents: dict[str, Agent] = {}
        self.workers: dict[str, Worker] = {}
        """Living workers by name."""
        self.by_incarnation: dict[int, Worker] = {}
        self.by_peer: dict[bytes, Member] = {}
        self.standings = Standings()
        self.suspects: set[Member] = set()
        """Those whose grace period is running."""

    def is_entitled(self, agent_id: str, token: str, live: Worker | None) -> bool:
        """Say whether who shows this token may start a life, instead of `live` if that is there."""
        known = self.agents.get(agent_id)
        if live is not None and live.agent is not known:
            return False
        return known is None or known.token == token

    def agent(self, agent_id: str, token: str, origin: Origin) -> Agent:
        """Return the agent of that name; a new one is believed, but for its name clears nobody."""
        known = self.agents.get(agent_id)
        if known is None:
            standing = self.standings.begin(origin)
            known = self.agents[agent_id] = Agent(agent_id, token, standing)
        return known

    def register(self, agent_id: str, token: str) -> None:
        """Know the agent in the master's own process."""
        agent = self.agents[agent_id] = Agent(agent_id, token)
        agent.is_local = True

    def join(self, now: float, worker_id: str, agent: Agent, peer: bytes) -> Worker:
        """Begin a worker's next life. Its former one must have been removed."""
        worker = Worker(worker_id, agent, self._next_incarnation, peer)
        self._next_incarnation += 1
        worker.session = self._make_token()
        worker.joined_at = worker.last_heard = now
        self.agents[agent.agent_id] = agent  # its last worker may just have been removed
        self.workers[worker_id] = worker
        self.by_incarnation[worker.incarnation] = worker
        self.by_peer[peer] = worker
        return worker

    def join_agent(self, agent: Agent, peer: bytes) -> None:
        """Begin a remote agent's next life."""
        self.release_peer(agent)
        agent.incarnation = self._next_incarnation
        self._next_incarnation += 1
        agent.session = self._make_token()
        agent.link = Link()
        agent.suspect_until = None
        self.suspects.discard(agent)
        agent.peer = peer
        self.by_peer[peer] = agent

    def part(self, agent: Agent) -> None:
        """End the conversation with a remote agent; its workers live on by their own."""
        self.release_peer(agent)
        self.suspects.discard(agent)
        agent.peer = None
        agent.session = self._make_token()  # which nobody is told: that life is over
        agent.link = Link()
        agent.suspect_until = None
        self._forget_if_empty(agent)

    def _forget_if_empty(self, agent: Agent) -> None:
        if agent.is_local or agent.peer is not None:
            return
        if not any(worker.agent is agent for worker in self.workers.values()):
            self.agents.pop(agent.agent_id, None)

    def rebind(self, member: Member, peer: bytes) -> None:
        """Let a living member go on over another connection."""
        self.release_peer(member)
        member.peer = peer
        self.by_peer[peer] = member

    def release_peer(self, member: Member) -> None:
        """Forget the connection of a member."""
        if member.peer is not None and self.by_peer.get(member.peer) is member:
            del self.by_peer[member.peer]

    def remove(self, worker: Worker) -> None:
        """Forget a worker whose life is over."""
        self.release_peer(worker)
        self.suspects.discard(worker)
        self.by_incarnation.pop(worker.incarnation, None)
        if self.workers.get(worker.worker_id) is worker:
            del self.workers[worker.worker_id]
        self._forget_if_empty(worker.agent)

    def takers(self, now: float) -> list[Worker]:
        """Workers that may be granted jobs now, the least loaded first.

        A machine in quarantine is left out for as long as there is another one.
        """
        able: list[Worker] = []
        is_loaded = is_quarantined = False
        for worker in self.workers.values():
            if worker.state is _READY:
                able.append(worker)
                if worker.held:
                    is_loaded = True
                if worker.agent.standing.quarantined_until > now:
                    is_quarantined = True
        if is_quarantined:
            able = [w for w in able if w.agent.standing.quarantined_until <= now] or able
        if is_loaded:
            able.sort(key=_load)
        return able

    def quarantine_ends(self, now: float) -> list[float]:
        """When which machine is trusted again, of those that are not."""
        ends = []
        for agent in self.agents.values():
            until = agent.standing.quarantined_until
            if until > now:
                ends.append(until)
        return ends

    def members(self) -> Iterator[Member]:
        """Everyone with a conversation of their own."""
        yield from self.workers.values()
        for agent in self.agents.values():
            if agent.peer is not None:
                yield agent


def _load(worker: Worker) -> int:
    return len(worker.held)
