"""How members go: by silence, by death, by order, by goodbye. Pure.

Rule 1: a life ends here and nowhere else; what it held is given to the scheduler with its loss.
Rule 2: a connection that is gone makes a member suspect, no more: it may come back for its work
        within the grace period (that of a job may be shorter). A process that is gone is gone at
        once.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from paramserver.core.commands import AnnounceWorker, KillWorker, MasterCommand
from paramserver.core.loss import Loss, describe_exit
from paramserver.core.mail import Mail
from paramserver.core.roster import Agent, Change, Member, Roster, Worker, WorkerState
from paramserver.core.scheduler import Scheduler
from paramserver.protocol.messages import KillProcess, MasterMessage, ProcessExited

UNREAD_MAX: Final = 1024
"""Messages kept for an agent that does not confirm them: far more than it has workers."""


class Departures:
    """The ends of members' lives.

    Parameters
    ----------
    roster : Roster
    scheduler : Scheduler
    mail : Mail
    counters : Counter
    grace_s : float
        How long the work of a disconnected worker is kept for it.
    """

    def __init__(
        self,
        roster: Roster,
        scheduler: Scheduler,
        mail: Mail,
        counters: Counter[str],
        grace_s: float,
    ) -> None:
        self._roster = roster
        self._scheduler = scheduler
        self._mail = mail
        self._counters = counters
        self._grace_s = grace_s

    # --- silence ---------------------------------------------------------------------------------

    def disconnected(self, now: float, peer: bytes) -> None:
        """Begin the grace period of whoever had this connection."""
        member = self._roster.by_peer.get(peer)
        if member is None or member.suspect_until is not None:
            return
        member.suspect_until = now + self._grace_s
        self._roster.suspects.add(member)
        if type(member) is Worker and member.state is WorkerState.READY:
            member.step(Change.MISS)

    def heard_again(self, member: Member) -> None:
        """End the grace period: the member is there."""
        member.suspect_until = None
        self._roster.suspects.discard(member)
        if type(member) is Worker and member.state is WorkerState.SUSPECT:
            member.step(Change.HEAR)

    def give_up_suspects(self, now: float, out: list[MasterCommand]) -> None:
        """End the lives of those whose grace period is over; free jobs that wait for less."""
        for suspect in sorted(self._roster.suspects, key=lambda member: member.incarnation):
            if _due(suspect) > now:
                if isinstance(suspect, Worker):
                    self._scheduler.give_up(now, suspect, _due(suspect) - self._grace_s, out)
                continue
            if isinstance(suspect, Worker):
                self.lose(now, suspect, Loss(f"silent for {self._grace_s:g} s"), out)
            else:
                self._part(suspect)

    def extend_grace(self, lateness: float, not_before: float) -> None:
        """Forgive the suspects the master's own pause."""
        for member in self._roster.suspects:
            member.suspect_until = max(_due(member) + lateness, not_before)

    def grace_ends(self) -> list[float]:
        """When which grace period is over, those of jobs included."""
        ends = []
        for member in self._roster.suspects:
            ends.append(_due(member))
            if isinstance(member, Worker):
                ends += self._scheduler.grace_ends(member, _due(member) - self._grace_s)
        return ends

    # --- agents ----------------------------------------------------------------------------------

    def tell(
        self, now: float, agent: Agent, message: MasterMessage, out: list[MasterCommand]
    ) -> None:
        """Tell a connected agent something; part with one that takes nothing in any more."""
        if agent.link.n_unacked < UNREAD_MAX:
            self._mail.send(now, agent, message, out)
        else:
            self._part(agent)

    def _part(self, agent: Agent) -> None:
        self._roster.part(agent)
        self._counters["agents_lost"] += 1

    # --- the end of a life -----------------------------------------------------------------------

    def process_ended(
        self, now: float, agent_id: str, exited: ProcessExited, out: list[MasterCommand]
    ) -> None:
        """Take in what an agent says of a worker process that has ended."""
        agent = self._roster.agents.get(agent_id)
        if agent is not None:
            agent.ended.append((exited.worker_id, exited.pid))
        worker = self._roster.workers.get(exited.worker_id)
        if worker is None or worker.agent.agent_id != agent_id or worker.pid != exited.pid:
            return
        if worker.state is WorkerState.DRAINING and not worker.held:
            self.leave(now, worker, "left", out)
            return
        loss = Loss(
            describe_exit(exited.exit_code),
            # One that was leaving was ended by whoever had told it to leave.
            charge=worker.state is not WorkerState.DRAINING,
            running=(exited.job, exited.attempt),
            exit_code=exited.exit_code,
            text=exited.stderr_tail,
        )
        self.lose(now, worker, loss, out)

    def lose(self, now: float, worker: Worker, loss: Loss, out: list[MasterCommand]) -> None:
        """End the life of a worker that did not leave by itself."""
        self._scheduler.lose(now, worker, loss, out)
        worker.step(Change.LOSE)
        self._roster.remove(worker)
        self._counters["workers_lost"] += 1
        standing = worker.agent.standing
        if loss.charge and self._roster.standings.note_loss(standing, now):
            self._counters["quarantines"] += 1
        out.append(AnnounceWorker(worker.incarnation, worker.worker_id, "lost", loss.reason))

    def leave(self, now: float, worker: Worker, reason: str, out: list[MasterCommand]) -> None:
        """End the life of a worker that says goodbye."""
        self._scheduler.lose(now, worker, Loss(reason, charge=False), out)
        worker.step(Change.LEAVE)
        self._roster.remove(worker)
        self._counters["workers_left"] += 1
        out.append(AnnounceWorker(worker.incarnation, worker.worker_id, "left", reason))

    def expel(self, now: float, worker: Worker, reason: str, out: list[MasterCommand]) -> None:
        """End the life of a worker that was accused, and put its machine in quarantine.

        Its jobs are charged nothing: it was the worker, and others are to try them.
        """
        self._roster.standings.note_accused(worker.agent.standing, now)
        self._counters["quarantines"] += 1
        self._counters["workers_expelled"] += 1
        self.kill(now, worker, reason, out)

    def kill(self, now: float, worker: Worker, reason: str, out: list[MasterCommand]) -> None:
        """End a worker's life here and have its process ended there."""
        agent = worker.agent
        if agent.is_local:
            out.append(KillWorker(agent.agent_id, worker.worker_id, reason))
        elif agent.peer is not None:
            self.tell(now, agent, KillProcess(worker.worker_id, worker.pid, reason), out)
        else:
            self._counters["unkillable"] += 1  # its parent is unknown, or has parted: it is fenced
        self.lose(now, worker, Loss(reason, charge=False), out)


def _due(suspect: Member) -> float:
    assert suspect.suspect_until is not None
    return suspect.suspect_until
