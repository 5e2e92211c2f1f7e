"""Everything a cluster has started, and the order in which it ends.

Rule 1: what is open gets closed, also when closing is interrupted (a second Ctrl-C): then at once.
Rule 2: it ends once, whoever asks first: a shutdown, the collection of the cluster, or the end of
        the interpreter, which waits for the jobs there are, as it does for the standard pools.
Rule 3: a process forked from the owner's has a copy of all this, and nothing to close.
"""

from __future__ import annotations

import atexit
import secrets
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack

from paramserver.core.commands import AnnounceWorker, KillWorker
from paramserver.core.events import (
    AgentRegistered,
    CancelRequested,
    ProcessEnded,
    RetireRequested,
    StopRequested,
)
from paramserver.core.master import MasterMachine
from paramserver.drawing.panel import Panel
from paramserver.errors import ClusterClosed, ParamServerError
from paramserver.protocol.messages import ProcessExited
from paramserver.runtime.agent import Agent, number_of
from paramserver.runtime.futures import FutureOwner
from paramserver.runtime.master import Master
from paramserver.runtime.membership import Membership
from paramserver.runtime.relay import SERVICE, FileRelay
from paramserver.runtime.release import release
from paramserver.runtime.scratch import Scratch
from paramserver.runtime.worker_spec import WorkerSpec
from paramserver.transport.base import MasterTransport

LEAVE_S = 5.0
"""How long workers may take to leave at shutdown before they are killed."""
LEAVE_REMOTE_S = 2.0
"""How long remote agents may take to say goodbye; afterwards they end by themselves."""


class ClusterParts:
    """The running parts of one cluster.

    Parameters
    ----------
    scratch : Scratch
    transport : MasterTransport
    grace_s, no_workers_timeout_s, max_members
        See `core.master.MasterMachine`.
    """

    def __init__(
        self,
        scratch: Scratch,
        transport: MasterTransport,
        *,
        grace_s: float,
        no_workers_timeout_s: float,
        max_members: int | None,
    ) -> None:
        machine = MasterMachine(
            run=scratch.run,
            epoch=1,
            release=release(),
            make_token=lambda: secrets.token_hex(16),
            machine=scratch.nonce(),
            grace_s=grace_s,
            no_workers_timeout_s=no_workers_timeout_s,
            max_members=max_members,
        )
        self.scratch = scratch
        self.agent: Agent | None = None
        self.membership = Membership()
        self.master = Master(machine, transport, kill_worker=self._kill)
        self.master.on_worker.append(self.membership.note)
        self.relay = FileRelay(self.master.post, self.master.clock, trusted=transport.trusted)
        self.master.services[SERVICE] = self.relay
        self.address = transport.address
        self.panels: list[Panel] = []
        """What a dashboard of the cluster shows."""
        self.at_close: list[Callable[[], None]] = []
        """Called when everything ends, before anything else does; must not raise."""
        self._owners: weakref.WeakSet[FutureOwner] = weakref.WeakSet()
        # Of all futures. The master holds them as long as they own a job.
        self._owners_lock = threading.Lock()
        self._closing = threading.Lock()
        self.is_closed = False
        atexit.register(self._finish_at_exit)

    # --- owners of futures ------------------------------------------------------------------------

    def add_owner(self, owner: FutureOwner) -> None:
        """Remember who has futures to wait for."""
        with self._owners_lock:
            self._owners.add(owner)

    def owners(self) -> list[FutureOwner]:
        """Return all that have futures, or could have."""
        with self._owners_lock:
            return list(self._owners)

    # --- workers on this machine ------------------------------------------------------------------

    def start_agent(self, agent_id: str, spec: WorkerSpec) -> None:
        """Prepare the agent for workers on this machine; none is started yet."""
        self.agent = Agent(agent_id, spec, self._process_ended)
        master = self.master
        master.post(AgentRegistered(master.clock(), agent_id, self.agent.token))
        master.on_worker.append(self._tell_agent)

    def scale(self, n_workers: int) -> None:
        """Keep so many workers on this machine: the newest leave when they are too many."""
        agent, master = self.agent, self.master
        assert agent is not None
        agent.scale(n_workers)
        agent.catch_up()  # none of those too many is about to be started any more
        surplus = sorted(agent.live(), key=number_of)[n_workers:]
        joined = master.ask(lambda machine: set(machine.roster.workers)) if surplus else set()
        for worker_id in surplus:
            agent.retire(worker_id)
            if worker_id not in joined:  # nobody could tell it to leave
                agent.kill(worker_id, "it is not needed any more")
        if surplus:
            agent.scale(n_workers)  # again, if one that was to stay has died meanwhile
            master.post(RetireRequested(master.clock(), tuple(surplus)))

    def _kill(self, command: KillWorker) -> None:
        if self.agent is not None:
            self.agent.kill(command.worker_id, command.reason)

    def _process_ended(self, exited: ProcessExited, _expected: bool) -> None:
        assert self.agent is not None
        event = ProcessEnded(self.master.clock(), self.agent.agent_id, exited)
        self.master.post(event)
        self.membership.look_again()

    def failure(self) -> ParamServerError | None:
        """Why workers cannot come up, or None."""
        if self.master.failure is not None:
            return ClusterClosed(f"The master has ended: {self.master.failure}")
        return None if self.agent is None else self.agent.launch_failure()

    def _tell_agent(self, change: AnnounceWorker) -> None:
        """Let the agent know who has come up, and say who is lost without being dead."""
        assert self.agent is not None
        if change.change == "joined":
            self.agent.note_ready(change.worker_id)
        elif change.change == "lost":
            self.agent.tell_if_stopped(change.worker_id)

    def missing(self) -> str:
        """Say in a sentence which processes of this machine have not come up, or return ''."""
        starting = {} if self.agent is None else self.agent.starting()
        if not starting:
            return ""
        listed = ", ".join(f"{name} (process {pid})" for name, pid in starting.items())
        return f"Started, and not heard of yet: {listed}. "

    # --- the end ----------------------------------------------------------------------------------

    def give_up(self) -> None:
        """Cancel all jobs, those that run included: nobody wants to wait for them (Ctrl-C)."""
        if self.agent is not None:
            self.agent.wind_down(LEAVE_S, ask=False)  # first, so that nobody is replaced
        jobs = tuple(job for owner in self.owners() for job in owner.jobs())
        self.master.post(CancelRequested(self.master.clock(), jobs))

    def finish(self) -> None:
        """Let the jobs end, then everything else; who comes second waits for the first."""
        if not self.master.is_own_process:
            return
        for owner in self.owners():
            owner.wait_until_idle()
        self.close()

    def finish_aside(self) -> None:
        """Let everything end in a thread of its own. The end of the interpreter waits for it."""
        if self.master.is_own_process and not self.is_closed:
            threading.Thread(target=self.finish, name="paramserver-shutdown", daemon=True).start()

    def _finish_at_exit(self) -> None:
        if self.master.is_own_process:
            if getattr(sys, "last_type", None) is KeyboardInterrupt:  # that is what ends us
                self.give_up()
            try:
                self.finish()
            except KeyboardInterrupt:
                self.close(leave_s=0.0)
                raise

    def close(self, leave_s: float = LEAVE_S) -> None:
        """End everything now; twice does no harm.

        Parameters
        ----------
        leave_s : float
            How long workers may take to end the jobs they run.
        """
        with self._closing, ExitStack() as rest:
            if self.is_closed:
                return
            rest.callback(atexit.unregister, self._finish_at_exit)
            rest.callback(self.scratch.close)
            rest.callback(self.relay.close)
            rest.callback(self.master.close, leave_s=LEAVE_REMOTE_S)
            for end in self.at_close:
                end()
            self.master.post(StopRequested(self.master.clock(), drain=True))
            if self.agent is not None:
                for worker_id in self.agent.starting():  # nobody could tell it to leave
                    self.agent.retire(worker_id)
                    self.agent.kill(worker_id, "it is not needed any more")
                try:
                    self.agent.close(grace_s=leave_s)
                except BaseException:
                    self.agent.close(grace_s=0.0)
                    raise
            self.is_closed = True
