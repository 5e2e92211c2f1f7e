"""How members come: who is let in, who may resume, who is refused or fenced. Pure.

Rule 1: whoever shows the launch token of an agent starts a life; whoever shows the secret of a
        living session resumes that life over a new connection. Nobody else is let in.
Rule 2: of two that claim one name the newer wins, unless the older has spoken since and the other
        only resumes.
Rule 3: a greeting may come twice, and late: it is answered again, and changes nothing.
Rule 4: everyone else is told what they are (refused: do not ask again; fenced: say Hello), and
        counted by reason.
"""

from __future__ import annotations

from collections import Counter

from paramserver.core.commands import AnnounceWorker, MasterCommand
from paramserver.core.departures import Departures
from paramserver.core.events import Arrived
from paramserver.core.loss import Loss
from paramserver.core.mail import Mail
from paramserver.core.quarantine import Origin
from paramserver.core.roster import Agent, Member, Roster, Worker
from paramserver.protocol.messages import (
    AgentHello,
    Envelope,
    Fenced,
    Hello,
    Refused,
    Welcome,
    WorkerJoined,
)


class Admission:
    """The master's doorkeeper.

    Parameters
    ----------
    roster : Roster
    mail : Mail
    departures : Departures
        Ends the life that a newer one replaces.
    counters : Counter
    release : str
        What workers must say in their greeting to be let in.
    machine : str
        Nonce that proves a worker to be on the master's machine; '' for none.
    max_members : int or None
        How many workers and remote agents there is room for (each needs a connection).
    """

    def __init__(
        self,
        roster: Roster,
        mail: Mail,
        departures: Departures,
        counters: Counter[str],
        *,
        release: str,
        machine: str,
        max_members: int | None,
    ) -> None:
        self._roster = roster
        self._mail = mail
        self._departures = departures
        self._counters = counters
        self._release = release
        self._machine = machine
        self.max_members = max_members

    # --- greetings -------------------------------------------------------------------------------

    def hello(self, event: Arrived, hello: Hello, out: list[MasterCommand]) -> Worker | None:
        """Take in a worker's greeting; return the worker if a life begins with it."""
        roster = self._roster
        bound = roster.by_peer.get(event.peer)
        live = roster.workers.get(hello.worker_id)
        if refusal := self._refusal(hello.release, hello.worker_id, bound, Worker):
            self._refuse(event, refusal, out)
        elif hello.resume_incarnation:
            self._resume(event, hello, live, out)
        elif not roster.is_entitled(hello.agent_id, hello.token, live):
            self._counters["unauthenticated"] += 1
            self._refuse(event, "the launch token is not the one of this name", out)
        else:
            agent = roster.agent(hello.agent_id, hello.token, _origin(event))
            if (hello.worker_id, hello.pid) in agent.ended:
                self._counters["unknown"] += 1  # the last word of a process that is no more
            elif live is None:
                return self._admit(event, hello, agent, out)
            elif live.peer == event.peer and not self._gives_up(event.envelope, live):
                self._welcome(live, out, resumed=False)  # its greeting came twice
            else:
                loss = Loss("replaced by a newer life", charge=not _is_same_process(live, hello))
                self._departures.lose(event.now, live, loss, out)
                return self._admit(event, hello, agent, out)
        return None

    def agent_hello(
        self, event: Arrived, hello: AgentHello, out: list[MasterCommand]
    ) -> Agent | None:
        """Take in an agent's greeting; return the agent if it starts empty."""
        roster = self._roster
        bound = roster.by_peer.get(event.peer)
        if refusal := self._refusal(hello.release, hello.agent_id, bound, Agent):
            self._refuse(event, refusal, out)
        elif hello.resume_incarnation:
            self._resume(event, _as_hello(hello), roster.agents.get(hello.agent_id), out)
        elif not roster.is_entitled(hello.agent_id, hello.token, None):
            self._counters["unauthenticated"] += 1
            self._refuse(event, "the launch token is not the one of this agent", out)
        else:
            agent = roster.agent(hello.agent_id, hello.token, _origin(event))
            if agent.peer != event.peer or self._gives_up(event.envelope, agent):
                roster.join_agent(agent, event.peer)
                agent.host = hello.host
            self._welcome(agent, out, resumed=False)
            return agent
        return None

    def fence(self, event: Arrived, member: Member | None, out: list[MasterCommand]) -> None:
        """Answer a message that does not belong to the life of whoever has the connection."""
        envelope = event.envelope
        if member is None:
            reason = "unknown"
        elif envelope.worker_id != member.member_id:
            reason = "unauthenticated"
        else:
            reason = "fenced"
        self._counters[reason] += 1
        fenced = Fenced(f"{reason}: say Hello")
        self._mail.answer(event.peer, envelope.worker_id, envelope.incarnation, fenced, out)

    # --- inside ----------------------------------------------------------------------------------

    def _gives_up(self, envelope: Envelope, live: Member) -> bool:
        """Say whether a greeting to start empty comes from this very life, which is over there."""
        return (envelope.run, envelope.epoch, envelope.incarnation) == (
            self._mail.run,
            self._mail.epoch,
            live.incarnation,
        )

    def _admit(
        self, event: Arrived, hello: Hello, agent: Agent, out: list[MasterCommand]
    ) -> Worker:
        worker = self._roster.join(event.now, hello.worker_id, agent, event.peer)
        worker.pid = hello.pid
        worker.host = hello.host
        worker.is_local = bool(self._machine) and hello.machine == self._machine
        self._counters["workers_joined"] += 1
        self._welcome(worker, out, resumed=False)
        out.append(AnnounceWorker(worker.incarnation, worker.worker_id, "joined"))
        if agent.peer is not None:
            self._departures.tell(event.now, agent, WorkerJoined(worker.worker_id), out)
        return worker

    def _resume(
        self, event: Arrived, hello: Hello, live: Member | None, out: list[MasterCommand]
    ) -> None:
        if (
            live is None
            or live.incarnation != hello.resume_incarnation
            or self._mail.epoch != hello.resume_epoch
            or live.session != hello.token
        ):
            if type(live) is Worker and self._has_successor(hello, live):
                self._refuse(event, "another process has come and taken its name", out)
            else:
                self.fence(event, None, out)
            return
        if live.peer == event.peer and live.suspect_until is None:
            self._welcome(live, out, resumed=True)  # its greeting came twice
            return
        self._roster.rebind(live, event.peer)
        if live.suspect_until is not None:
            self._departures.heard_again(live)
        live.link.resume(event.now, event.envelope.ack)
        self._mail.tend_by(event.now)
        self._welcome(live, out, resumed=True)
        if type(live) is Worker:
            out.append(AnnounceWorker(live.incarnation, live.worker_id, "resumed"))

    def _has_successor(self, hello: Hello, live: Worker) -> bool:
        """Say whether a newer process, which has proven to be alive, has the name by now."""
        return (
            hello.resume_epoch == self._mail.epoch
            and hello.resume_incarnation < live.incarnation
            and live.last_heard > live.joined_at
            and not _is_same_process(live, hello)
        )

    def _refusal(
        self, release: str, name: str, bound: Member | None, kind: type[Worker | Agent]
    ) -> str:
        if release != self._release:
            return (
                f"it runs {release}, the master runs {self._release}: install the same versions of "
                "paramserver and Python on both machines"
            )
        if bound is not None and (bound.member_id != name or type(bound) is not kind):
            self._counters["unauthenticated"] += 1
            return f"this connection belongs to {bound.member_id}"
        if bound is None and self._is_full and not self._knows(name):
            self._counters["no_room"] += 1
            return (
                f"it has room for {self.max_members} workers and agents (its limit of open "
                "files): start fewer, or raise the limit where the master runs (ulimit -n)"
            )
        return ""

    def _knows(self, name: str) -> bool:
        return name in self._roster.workers or name in self._roster.agents

    @property
    def _is_full(self) -> bool:
        return self.max_members is not None and len(self._roster.by_peer) >= self.max_members

    def _refuse(self, event: Arrived, reason: str, out: list[MasterCommand]) -> None:
        self._counters["refused"] += 1
        self._mail.answer(event.peer, event.envelope.worker_id, 0, Refused(reason), out)

    def _welcome(self, member: Member, out: list[MasterCommand], *, resumed: bool) -> None:
        self._mail.say(member, Welcome(member.session, resumed), out)


def _origin(event: Arrived) -> Origin:
    return Origin(event.user, event.address)


def _is_same_process(worker: Worker, hello: Hello) -> bool:
    return (worker.pid, worker.host) == (hello.pid, hello.host)


def _as_hello(hello: AgentHello) -> Hello:
    return Hello(
        hello.agent_id,
        hello.agent_id,
        hello.token,
        hello.resume_epoch,
        hello.resume_incarnation,
        hello.pid,
        hello.host,
        "",
        hello.release,
    )
