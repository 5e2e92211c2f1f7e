"""A remote agent's own side of its life: it reports deaths and kills on demand. Pure.

Rule 1: a death is said once and arrives, whatever becomes of the connection meanwhile.
Rule 2: an agent whose master is gone for `give_up_s` ends its workers and itself.
"""

from __future__ import annotations

from paramserver.core.commands import Exit, KillChild, NoteChild, StopChildren, WorkerCommand
from paramserver.core.session import MakeHello, Session, SessionState
from paramserver.core.worker_life import EXIT_REFUSED, EXIT_RESUMABLE
from paramserver.protocol.messages import (
    Envelope,
    Goodbye,
    KillProcess,
    MasterMessage,
    ProcessExited,
    Stop,
    WorkerJoined,
)


class AgentLife:
    """What an agent process decides. Its methods are called by one thread.

    Parameters
    ----------
    agent_id : str
    launch_token : str
    make_hello : callable
        Makes the greeting; see `session.MakeHello`.
    give_up_s : float
        How long a silent master is waited for.
    """

    def __init__(
        self, agent_id: str, launch_token: str, make_hello: MakeHello, give_up_s: float = 600.0
    ) -> None:
        self.session = Session(agent_id, launch_token, make_hello)
        self.give_up_s = give_up_s
        self._lonely_since: float | None = None

    def connected(self, now: float) -> list[WorkerCommand]:
        """The connection to the master was made, or made anew."""
        return self.session.greet(now, resume=True)

    def disconnected(self, now: float) -> None:
        """The connection to the master is gone."""
        if self._lonely_since is None:
            self._lonely_since = now

    def heard(self, now: float, envelope: Envelope, message: MasterMessage) -> list[WorkerCommand]:
        """A message came from the master."""
        self._lonely_since = None
        reborn, out, delivered = self.session.hear(now, envelope, message)
        if reborn:  # the deaths of the former life are news in this one, too
            for unsaid in self.session.undelivered:
                if type(unsaid) is ProcessExited:
                    out += self.session.say(now, unsaid)
        for each in delivered:
            match each:
                case KillProcess(worker_id, _, reason):
                    out.append(KillChild(worker_id, reason))
                case WorkerJoined(worker_id):
                    out.append(NoteChild(worker_id))
                case Stop(drain):
                    out.append(StopChildren(drain))
                case _:
                    pass
        if self.session.state is SessionState.OVER:
            out += self.session.start_anew(now)
        elif self.session.state is SessionState.REFUSED:
            out.append(Exit(EXIT_REFUSED, f"The master refused: {self.session.refusal}"))
        return out

    def leave(self, now: float, reason: str) -> list[WorkerCommand]:
        """The last worker is gone, and the agent goes."""
        return self.session.say(now, Goodbye(reason))

    @property
    def is_in(self) -> bool:
        """The master knows this agent, and answers."""
        return self.session.state is SessionState.IN and self._lonely_since is None

    @property
    def has_unsaid(self) -> bool:
        """Something that was said has not been acknowledged."""
        return self.session.link.n_unacked > 0

    def child_ended(self, now: float, exited: ProcessExited) -> list[WorkerCommand]:
        """A worker process of this agent has ended."""
        return self.session.say(now, exited)

    def tick(self, now: float) -> list[WorkerCommand]:
        """Do what time demands."""
        if self._lonely_since is not None and now - self._lonely_since >= self.give_up_s:
            return [Exit(EXIT_RESUMABLE, f"no master has answered for {self.give_up_s:g} s")]
        return self.session.tend(now)

    def next_deadline(self) -> float | None:
        """When `tick` is due even if nothing happens; None for never."""
        ends = [self.session.next_deadline()]
        if self._lonely_since is not None:
            ends.append(self._lonely_since + self.give_up_s)
        return min((end for end in ends if end is not None), default=None)
