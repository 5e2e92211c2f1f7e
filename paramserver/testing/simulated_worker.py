"""A simulated worker process: it runs scripted jobs, and may be killed at any moment.

Rule 1: a worker whose job computes hears nothing for ATTEND_S, and not at all if the job is deaf.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

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
from paramserver.core.worker_life import WorkerLife
from paramserver.protocol.messages import (
    Envelope,
    Hello,
    JobGrant,
    MasterMessage,
    Outcome,
    Payload,
    PayloadKind,
)
from paramserver.testing.simulated_process import RELEASE, Process
from paramserver.testing.workload import Fate, JobScript, answer_of

if TYPE_CHECKING:
    from paramserver.testing.simulated_agent import SimulatedAgent
    from paramserver.testing.simulator import Simulation

ATTEND_S = 0.02
"""As in the driver of real workers: how long a job runs before somebody listens."""
SIGKILL, SIGSEGV = -9, -11
NOTHING = Payload(PayloadKind.PLAIN, b"")
PROBLEM = Payload(PayloadKind.ERROR, b"")


class SimulatedWorker(Process):
    """A worker process."""

    def __init__(self, sim: Simulation, name: str, agent: SimulatedAgent) -> None:
        super().__init__(sim, name, agent.address)
        self.agent = agent
        self.is_kept = True
        """Its agent replaces it when it ends."""
        self.n_futile = 0
        """How many in its line, one replacing the other, have ended no job, itself not counted."""
        self.has_ended_a_job = False
        self.slowness = 1.0
        self.life = WorkerLife(name, agent.token, self._make_hello)
        self.job: JobGrant | None = None
        self._script: JobScript | None = None
        self._token = 0
        self._job_started = 0.0
        self._deaf_until = 0.0
        self._n_calls = 0
        self._awaits: tuple[int, int] | None = None
        """The call that the job waits for, and how many calls come after it."""
        self._frozen: deque[tuple[int, int]] = deque()

    def _make_hello(self, token: str, epoch: int, incarnation: int) -> Hello:
        agent_id = self.agent.agent_id
        return Hello(self.name, agent_id, token, epoch, incarnation, self.pid, "host", "", RELEASE)

    def life_connected(self) -> list[WorkerCommand]:
        return self.life.handle(Connected(self.sim.now))

    def life_heard(self, envelope: Envelope, message: MasterMessage) -> list[WorkerCommand]:
        return self.life.handle(Heard(self.sim.now, envelope, message))

    def life_tick(self) -> list[WorkerCommand]:
        return self.life.handle(Tick(self.sim.now))

    def life_deadline(self) -> float | None:
        return self.life.next_deadline()

    def deaf_until(self) -> float:
        return self._deaf_until

    def leave(self, reason: str) -> None:
        """Be told by a signal to leave."""
        if not self.is_dead and not self.is_stopped:
            self.perform(self.life.handle(LeaveRequested(self.sim.now, reason)))

    def crash(self, code: int = SIGKILL, *, is_reported: bool = True) -> None:
        """End without a word."""
        if self.is_dead:
            return
        self.sim.note(self.name, "dies", code, "running", self.job and self.job[:2])
        self.die()
        self.agent.child_died(self, code, is_reported=is_reported)

    def do(self, command: WorkerCommand) -> None:
        match command:
            case StartJob(grant):
                self._begin(grant)
            case DeliverReply(call, ok, _):
                self._take_reply(call, ok=ok)
            case Exit(code, reason):
                self.sim.note(self.name, "exits", code, reason)
                self.die()
                self.agent.child_died(self, code, is_reported=True)
            case _:
                raise AssertionError(f"not a worker's command: {command}")

    # --- the job ----------------------------------------------------------------------------------

    def _begin(self, grant: JobGrant) -> None:
        sim = self.sim
        assert self.job is None, "two jobs at once in one process"
        self.job = grant
        self._token += 1
        self._job_started = sim.now
        script = self._script = sim.workload.scripts[grant.job]
        sim.log.started(self, grant)
        seconds = script.seconds * self.slowness
        self._deaf_until = sim.now + (seconds if script.is_deaf else min(seconds, ATTEND_S))
        if script.fate is Fate.KILLS:
            sim.at(sim.now + seconds / 2, self._die_of_job, self._token)
        elif script.fate is Fate.HANGS:
            self._deaf_until = sim.now + ATTEND_S
        else:
            piece = seconds / (script.n_calls + 1)
            sim.at(sim.now + piece, self._pass_piece, self._token, script.n_calls)
            lease_s = sim.workload.phase_of[grant.job].spec.options.lease_s
            if lease_s is not None and not script.is_deaf:
                sim.at(sim.now + lease_s / 3, self._progress, self._token, lease_s / 3)

    def _die_of_job(self, token: int) -> None:
        if token == self._token and self.job is not None:
            self.crash(SIGSEGV)

    def _progress(self, token: int, every_s: float) -> None:
        if token != self._token or self.job is None or self.is_dead:
            return
        if not self.is_stopped:
            self.perform(self.life.handle(ProgressMade(self.sim.now, 1, 2)))
        self.sim.at(self.sim.now + every_s, self._progress, token, every_s)

    def _pass_piece(self, token: int, n_calls_left: int) -> None:
        if token != self._token or self.is_dead or self.job is None:
            return
        if self.is_stopped:
            self._frozen.append((token, n_calls_left))
            return
        if n_calls_left:
            self._n_calls += 1
            self._awaits = (self._n_calls, n_calls_left - 1)
            self._deaf_until = 0.0
            asked = ServiceAsked(self.sim.now, self._n_calls, "echo", "ask", NOTHING)
            self.perform(self.life.handle(asked))
            self.listen()
            return
        self._end(*self._outcome())

    def go_on(self) -> None:
        super().go_on()
        frozen, self._frozen = self._frozen, deque()
        for token, n_calls_left in frozen:
            self._pass_piece(token, n_calls_left)

    def _take_reply(self, call: int, *, ok: bool) -> None:
        if self._awaits is None or self._awaits[0] != call:
            return
        n_calls_left = self._awaits[1]
        self._awaits = None
        if not ok:
            self._end(Outcome.ERROR, PROBLEM, 0)
            return
        assert self._script is not None
        piece = self._script.seconds * self.slowness / (self._script.n_calls + 1)
        self._deaf_until = self.sim.now + (piece if self._script.is_deaf else min(piece, ATTEND_S))
        self.sim.at(self.sim.now + piece, self._pass_piece, self._token, n_calls_left)

    def _outcome(self) -> tuple[Outcome, Payload, int]:
        grant, script = self.job, self._script
        assert grant is not None
        assert script is not None
        log = self.sim.log
        for index, payload in enumerate(grant.inputs):
            if bytes(payload.data) in self.sim.lost_outputs:
                return Outcome.LOST_INPUT, PROBLEM, index
        if script.fate is Fate.RAISES or log.n_raised[script.job] < script.n_errors:
            log.n_raised[script.job] += 1
            return Outcome.ERROR, PROBLEM, 0
        answer = answer_of(script.job, _makers_named(grant))
        # Which try made it is part of the result: so a file that was lost is not its successor.
        return Outcome.OK, Payload(PayloadKind.PLAIN, b"%s@%d" % (answer, grant.attempt)), 0

    def _end(self, outcome: Outcome, payload: Payload, detail: int) -> None:
        assert self.job is not None
        self.sim.log.ended(self, self.job, outcome)
        duration_us = int((self.sim.now - self._job_started) * 1e6)
        self.job = None
        self.has_ended_a_job = True
        self._awaits = None
        self._deaf_until = 0.0
        ended = JobEnded(self.sim.now, outcome, duration_us, payload, detail)
        self.perform(self.life.handle(ended))
        self.listen()


def _makers_named(grant: JobGrant) -> Iterator[bytes]:
    for payload in grant.inputs:
        yield bytes(payload.data).split(b"/", 1)[0]
