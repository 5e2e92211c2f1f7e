"""A worker's own side of its life: what it holds, what it runs, what it reports. Pure.

Rule 1: jobs run in the order of their grants, one at a time.
Rule 2: a job that was given back is never started; one that was started is never given back.
Rule 3: a new life starts empty and idle: the result of a job begun in a former life is dropped, and
        no greeting is said before that job has ended. One that does not end ends the process.
Rule 4: results wait for company no longer than FLUSH_S.
"""

from __future__ import annotations

from collections import deque
from typing import Final, assert_never

from paramserver.core.commands import DeliverReply, Exit, StartJob, WorkerCommand
from paramserver.core.events import (
    Connected,
    Heard,
    JobEnded,
    LeaveRequested,
    ProgressMade,
    ServiceAsked,
    Tick,
    WorkerEvent,
)
from paramserver.core.session import MakeHello, Session, SessionState
from paramserver.protocol.messages import (
    Goodbye,
    GrantInputs,
    GrantJobs,
    JobGrant,
    JobProgressed,
    JobResult,
    JobsEnded,
    JobsReturned,
    MasterMessage,
    Payload,
    PayloadKind,
    ServiceCall,
    ServiceReply,
    Stop,
    TakeBack,
)

_IN: Final = SessionState.IN
_OVER: Final = SessionState.OVER
FLUSH_S = 0.001
FLUSH_US = 1_000
FLUSH_RESULTS = 64
FLUSH_BYTES = 65_536
"""Results are reported once one of these is reached: the wait of the first one, the duration of the
last one, their number, their size; or when no job is left that more of them could come of."""
LEAVE_S = 2.0
"""How long a leaving worker waits for its last words to be acknowledged."""
VOID_S = 5.0
"""How long a job whose result nobody wants any more may keep the process from its next life."""
EXIT_DONE, EXIT_RESUMABLE, EXIT_REFUSED = 0, 75, 77


class WorkerLife:
    """What a worker process decides. See the rules of the module.

    Parameters
    ----------
    worker_id : str
    launch_token : str
    make_hello : callable
        Makes the greeting; see `session.MakeHello`.
    """

    def __init__(self, worker_id: str, launch_token: str, make_hello: MakeHello) -> None:
        self.session = Session(worker_id, launch_token, make_hello)
        self.queue: deque[JobGrant] = deque()
        self.running: JobGrant | None = None
        self._inputs: dict[tuple[int, int], list[Payload]] = {}
        """Those that were sent ahead of the grants that the next message brings."""
        self._running_is_void = False
        self._void_until: float | None = None
        self._call = 0
        self._pending: list[JobResult] = []
        self._pending_bytes = 0
        self._flush_at: float | None = None
        self._leaving = ""
        self._gone_at: float | None = None

    def handle(self, event: WorkerEvent) -> list[WorkerCommand]:
        """Take in one event and return what is to be done, in order."""
        match event:
            case Heard():
                return self._heard(event)
            case JobEnded():
                return self._job_ended(event)
            case Connected(now):
                return self.session.greet(now, resume=True)
            case ProgressMade(now, done, total):
                if self.running is None or self._running_is_void:
                    return []
                message_out = JobProgressed(self.running.job, self.running.attempt, done, total)
                return self.session.say(now, message_out)
            case ServiceAsked():
                return self._service_asked(event)
            case LeaveRequested(now, reason):
                out: list[WorkerCommand] = []
                self._leave(now, reason, out)
                return out
            case Tick(now):
                return self._tick(now)
            case _:
                assert_never(event)

    def next_deadline(self) -> float | None:
        """When `Tick` is due even if nothing happens; None for never."""
        earliest = self.session.next_deadline()
        for end in (self._flush_at, self._gone_at, self._void_until):
            if end is not None and (earliest is None or end < earliest):
                earliest = end
        return earliest

    # --- from the master -------------------------------------------------------------------------

    def _heard(self, event: Heard) -> list[WorkerCommand]:
        now, session = event.now, self.session
        reborn, out, delivered = session.hear(now, event.envelope, event.message)
        if reborn:
            self._start_empty(out)
        for each in delivered:
            self._deliver(now, each, out)
        if session.state is not _IN:
            if session.state is _OVER and self._void_until is None:
                self._start_empty(out)
                self._begin_next_life(now, out)
            if session.state is SessionState.REFUSED:
                out.append(Exit(EXIT_REFUSED, f"The master refused: {session.refusal}"))
        if self._leaving:
            self._leave_if_done(now, out)
        return out

    def _start_empty(self, out: list[WorkerCommand]) -> None:
        self.queue.clear()
        self._inputs.clear()
        self._pending.clear()
        self._pending_bytes = 0
        self._flush_at = None
        self._gone_at = None  # a goodbye of the former life is said again in the new one
        if self.running is not None:
            self._running_is_void = True
            if self._call:
                out.append(DeliverReply(self._call, False, Payload(PayloadKind.ERROR, b"")))
                self._call = 0

    def _begin_next_life(self, now: float, out: list[WorkerCommand]) -> None:
        """Greet to start empty, if nothing of the former life runs any more."""
        if self.running is not None:
            self._void_until = now + VOID_S
            return
        self._void_until = None
        if not self._leaving:
            out += self.session.start_anew(now)

    def _deliver(self, now: float, message: MasterMessage, out: list[WorkerCommand]) -> None:
        match message:
            case GrantJobs():
                grants = message.grants
                if self._leaving:
                    keys = tuple((grant.job, grant.attempt) for grant in grants)
                    out += self.session.say(now, JobsReturned(keys, draining=True))
                else:
                    self.queue.extend(self._completed(grants))
                    self._start_next(out)
                self._inputs.clear()
            case GrantInputs(job, attempt, inputs):
                self._inputs.setdefault((job, attempt), []).extend(inputs)
            case TakeBack(keys):
                self._take_back(now, keys, out)
            case ServiceReply(call, ok, body):
                if call == self._call:
                    self._call = 0
                    out.append(DeliverReply(call, ok, body))
            case Stop(drain):
                if drain:
                    self._leave(now, "told to stop", out)
                else:
                    out.append(Exit(EXIT_DONE, "told to stop at once"))
            case _:
                pass  # not for workers: a newer master may say more than this one understands

    def _completed(self, grants: tuple[JobGrant, ...]) -> tuple[JobGrant, ...]:
        """Give each grant the inputs that were sent ahead of it."""
        if not self._inputs:
            return grants
        ahead = self._inputs
        return tuple(
            grant._replace(inputs=(*ahead.get((grant.job, grant.attempt), ()), *grant.inputs))
            for grant in grants
        )

    def _take_back(
        self, now: float, keys: tuple[tuple[int, int], ...], out: list[WorkerCommand]
    ) -> None:
        wanted = set(keys)
        kept = deque(grant for grant in self.queue if (grant.job, grant.attempt) not in wanted)
        back = tuple(
            (grant.job, grant.attempt)
            for grant in self.queue
            if (grant.job, grant.attempt) in wanted
        )
        self.queue = kept
        if back:
            out += self.session.say(now, JobsReturned(back, draining=bool(self._leaving)))

    # --- the job that runs -----------------------------------------------------------------------

    def _start_next(self, out: list[WorkerCommand]) -> None:
        if self.running is None and self.queue:
            self.running = self.queue.popleft()
            self._running_is_void = False
            out.append(StartJob(self.running))

    def _job_ended(self, event: JobEnded) -> list[WorkerCommand]:
        assert self.running is not None
        out: list[WorkerCommand] = []
        now, grant = event.now, self.running
        self.running = None
        self._call = 0
        if self.session.state is _OVER:
            self._begin_next_life(now, out)
        if not self._running_is_void:
            result = JobResult(
                grant.job,
                grant.attempt,
                event.outcome,
                event.duration_us,
                event.payload,
                event.detail,
            )
            self._pending.append(result)
            self._pending_bytes += event.payload.n_bytes
            if self._flush_at is None:
                self._flush_at = now + FLUSH_S
            if (
                not self.queue
                or event.duration_us >= FLUSH_US  # so long that a message of its own is nothing
                or now >= self._flush_at
                or len(self._pending) >= FLUSH_RESULTS
                or self._pending_bytes >= FLUSH_BYTES
            ):
                self._flush(now, out)
        if self.queue:
            self._start_next(out)
        if self._leaving:
            self._leave_if_done(now, out)
        return out

    def _flush(self, now: float, out: list[WorkerCommand]) -> None:
        if self._pending:
            out += self.session.say(now, JobsEnded(tuple(self._pending)))
            self._pending.clear()
            self._pending_bytes = 0
        self._flush_at = None

    def _service_asked(self, event: ServiceAsked) -> list[WorkerCommand]:
        if self.running is None or self._running_is_void:
            return [DeliverReply(event.call, False, Payload(PayloadKind.ERROR, b""))]
        self._call = event.call
        grant = self.running
        message = ServiceCall(
            event.call, grant.job, grant.attempt, event.service, event.method, event.body
        )
        return self.session.say(event.now, message)

    # --- time and the end ------------------------------------------------------------------------

    def _tick(self, now: float) -> list[WorkerCommand]:
        out: list[WorkerCommand] = []
        if self._flush_at is not None and now >= self._flush_at:
            self._flush(now, out)
        if self._void_until is not None and now >= self._void_until:
            out.append(Exit(EXIT_RESUMABLE, "its job was given to another worker, and goes on"))
        out += self.session.tend(now)
        self._leave_if_done(now, out)
        return out

    def _leave(self, now: float, reason: str, out: list[WorkerCommand]) -> None:
        if self._leaving:
            return
        self._leaving = reason
        back = tuple((grant.job, grant.attempt) for grant in self.queue)
        self.queue.clear()
        out += self.session.say(now, JobsReturned(back, draining=True))
        self._leave_if_done(now, out)

    def _leave_if_done(self, now: float, out: list[WorkerCommand]) -> None:
        if not self._leaving or self.running is not None:
            return
        if self.session.state is _OVER:  # nobody waits for a goodbye
            out.append(Exit(EXIT_DONE, self._leaving))
        elif self._gone_at is None:
            self._flush(now, out)
            out += self.session.say(now, Goodbye(self._leaving))
            self._gone_at = now + LEAVE_S
        elif not self.session.link.n_unacked or now >= self._gone_at:
            out.append(Exit(EXIT_DONE, self._leaving))
