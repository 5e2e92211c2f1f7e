"""The driver of a worker's machine: speaks with the master, and has the jobs run in between.

Rule 1: the main thread owns the socket, but for the time it runs a job; it runs the jobs itself.
Rule 2: while a job runs long, the *attendant* thread takes the socket over, so that what was
        granted ahead can be taken back. It starts no job and decides nothing.
Rule 3: who uses socket or machine holds the lock; a job that calls a service takes it, too.
"""

from __future__ import annotations

import _thread
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from paramserver.core.commands import DeliverReply, Exit, Say, StartJob, WorkerCommand
from paramserver.core.events import (
    Connected,
    Heard,
    LeaveRequested,
    ProgressMade,
    ServiceAsked,
    Tick,
)
from paramserver.core.worker_life import WorkerLife
from paramserver.errors import ProtocolError, TransportError
from paramserver.protocol import calls, codec
from paramserver.protocol.functions import find_function
from paramserver.protocol.messages import Buffer, Hello, JobGrant, Payload
from paramserver.runtime import context as job_context
from paramserver.runtime.flight_recorder import FlightRecorder
from paramserver.runtime.job_runner import JobRunner
from paramserver.runtime.lifeline import ChildConfig
from paramserver.runtime.release import release
from paramserver.runtime.scratch import read_nonce
from paramserver.transport.base import Sent, WorkerTransport

_TAKEN: Final = Sent.TAKEN

ATTEND_S = 0.02
"""A job that runs longer than this gets the attendant's service."""
REST_S = 1.0
"""The attendant rests when no job has run for this long."""
RETRY_S, RETRY_MAX_S = 0.005, 0.25
"""How soon a send is tried again: each fruitless try doubles the wait."""


class Worker:
    """One worker process at work.

    Parameters
    ----------
    config : ChildConfig
    transport : WorkerTransport
    recorder : FlightRecorder
    """

    def __init__(
        self, config: ChildConfig, transport: WorkerTransport, recorder: FlightRecorder
    ) -> None:
        self._config = config
        self._transport = transport
        self._runner = JobRunner(config, recorder, trusted=transport.trusted)
        self._life = WorkerLife(config.worker_id, config.token, self._make_hello)
        self._lock = threading.Lock()
        self._job: JobGrant | None = None
        self._job_since = 0.0
        self._last_job = 0.0
        self._main_waits = False
        self._attending = False
        self._attendant_rests = True
        self._attendant_call = threading.Event()
        self._unsent: deque[Sequence[Buffer]] = deque()
        self._retry_s = RETRY_S
        self._start: JobGrant | None = None
        self._replies: dict[int, DeliverReply] = {}
        self._exit: Exit | None = None
        self._n_calls = 0
        self._leave_reason = ""
        self._n_jobs_left: int | None = config.options.get("max_tasks_per_child")

    # --- the main thread --------------------------------------------------------------------------

    def run(self) -> int:
        """Work until told to leave; return the exit code."""
        threading.Thread(target=self._attend, name="paramserver-attendant", daemon=True).start()
        with self._lock:
            while self._exit is None:
                self._pump()
                if self._exit is not None:
                    break
                # Nobody can be sure to poll while a job runs: the result before leaves first.
                if self._start is not None and self._transport.is_flushed():
                    self._run_job(self._start)
                else:
                    self._wait()
        if self._exit.code:
            print(f"paramserver worker: {self._exit.reason}", file=sys.stderr, flush=True)
        self._transport.close(linger_s=1.0)
        return self._exit.code

    def leave(self, reason: str) -> None:
        """Ask for an orderly leave; safe in a signal handler."""
        self._leave_reason = reason
        # The locks inside these two may be held by the very code that the signal interrupted.
        _thread.start_new_thread(self._nudge, ())

    def _nudge(self) -> None:
        self._attendant_call.set()
        self._transport.wake()

    def _run_job(self, grant: JobGrant) -> None:
        """Run one job; called and left with the lock held, which is free in between."""
        self._start = None
        self._job = grant
        self._job_since = time.monotonic()
        self._lock.release()
        try:
            if self._attendant_rests:
                self._attendant_call.set()
            ended = self._runner.run(grant, _Context(self, grant))
        finally:
            self._take_lock_back()
        self._job = None
        self._last_job = ended.now
        if self._n_jobs_left is not None:
            self._count_down(ended.now)
        self._perform(self._life.handle(ended))

    def _count_down(self, now: float) -> None:
        """Leave after the last job that this process may run: another one takes its place."""
        assert self._n_jobs_left is not None
        self._n_jobs_left -= 1
        if not self._n_jobs_left:  # before it is told that the job has ended, and begins the next
            reason = "ran as many jobs as max_tasks_per_child allows"
            self._perform(self._life.handle(LeaveRequested(now, reason)))

    def _take_lock_back(self) -> None:
        self._main_waits = True
        if self._attending:
            self._transport.wake()
        self._lock.acquire()
        self._main_waits = False

    # --- with the lock held, by any thread --------------------------------------------------------

    def _pump(self) -> None:
        """Take in what has come, do what is due."""
        transport, life = self._transport, self._life
        if self._leave_reason:
            reason, self._leave_reason = self._leave_reason, ""
            self._perform(life.handle(LeaveRequested(time.monotonic(), reason)))
        if transport.take_reconnected():
            self._unsent.clear()  # Hello is the first word; the link says again what got lost
            self._perform(life.handle(Connected(time.monotonic())))
        while (frames := transport.receive()) is not None:
            try:
                envelope, message = codec.decode(frames, codec.FROM_MASTER)
            except (ProtocolError, TransportError) as error:
                self._exit = Exit(77, f"The master sent what is not understood here. {error}")
                return
            self._perform(life.handle(Heard(time.monotonic(), envelope, message)))  # type: ignore[arg-type]
        if failure := transport.take_failure():
            self._exit = Exit(77, failure)
            return
        while self._unsent:
            if transport.send(self._unsent[0]) is not _TAKEN:
                self._retry_s = min(2 * self._retry_s, RETRY_MAX_S)
                break
            self._retry_s = RETRY_S
            self._unsent.popleft()
        deadline = life.next_deadline()
        if deadline is not None:
            now = time.monotonic()
            if now >= deadline:
                self._perform(life.handle(Tick(now)))

    def _wait(self) -> None:
        """Wait for a message, a wake-up or the next deadline."""
        deadline = self._life.next_deadline()
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        if self._unsent:
            timeout = self._retry_s if timeout is None else min(timeout, self._retry_s)
        self._transport.poll(timeout)

    def _perform(self, commands: list[WorkerCommand]) -> None:
        for command in commands:
            match command:
                case Say():
                    frames = codec.encode(command.envelope, command.message, self._transport.limits)
                    if self._unsent or self._transport.send(frames) is not _TAKEN:
                        self._unsent.append(frames)
                case StartJob():
                    self._start = command.grant
                case DeliverReply():
                    self._replies[command.call] = command
                case Exit():
                    self._exit = self._exit or command
                case _:
                    raise AssertionError(f"not a worker's command: {command}")

    # --- the attendant ----------------------------------------------------------------------------

    def _attend(self) -> None:
        call = self._attendant_call
        while True:
            call.wait()
            call.clear()
            self._attendant_rests = False
            while True:
                call.wait(ATTEND_S)
                call.clear()
                now = time.monotonic()
                if self._job is None:
                    if now - self._last_job > REST_S:
                        break
                elif now - self._job_since >= ATTEND_S:
                    self._serve_long_job()
            self._attendant_rests = True
            if self._job is not None:  # it started while the attendant went to rest
                call.set()

    def _serve_long_job(self) -> None:
        """Speak with the master until the main thread wants the socket back."""
        with self._lock:
            self._attending = True
            while not self._main_waits and self._job is not None:
                self._pump()
                if self._exit is not None:
                    self._leave_amid_job(self._exit)
                if not self._main_waits:
                    self._wait()
            self._attending = False

    def _leave_amid_job(self, leave: Exit) -> None:
        print(f"paramserver worker: {leave.reason}", file=sys.stderr, flush=True)
        self._transport.close(linger_s=0.5)
        os._exit(leave.code)

    # --- asked for by the running job -------------------------------------------------------------

    def report_progress(self, done: int, total: int) -> None:
        """Send a report of progress."""
        self._take_lock_back()
        try:
            self._perform(self._life.handle(ProgressMade(time.monotonic(), done, total)))
        finally:
            self._lock.release()

    def call_service(self, service: str, method: str, body: Payload) -> Payload:
        """Ask a service of the master and wait for its answer."""
        self._take_lock_back()
        try:
            self._n_calls += 1
            call = self._n_calls
            asked = ServiceAsked(time.monotonic(), call, service, method, body)
            self._perform(self._life.handle(asked))
            while (reply := self._replies.pop(call, None)) is None:
                self._pump()
                if self._exit is not None:
                    self._leave_amid_job(self._exit)
                if call not in self._replies:
                    self._wait()
        finally:
            self._lock.release()
        if not reply.ok and not len(reply.body.data):
            raise job_context.AttemptIsOver(
                f"This attempt of the job does not count any more (or the master has no service "
                f"'{service}'): it was lost, cancelled or replaced."
            )
        if not reply.ok:
            trusted = self._transport.trusted
            raise calls.decode_error(reply.body, trusted=trusted, worker_id="master", attempts=1)
        return reply.body

    @property
    def config(self) -> ChildConfig:
        """What this process was told at its start."""
        return self._config

    @property
    def trusted(self) -> bool:
        """Whether this worker is in the master's own trust domain."""
        return self._transport.trusted

    def _make_hello(self, token: str, epoch: int, incarnation: int) -> Hello:
        config = self._config
        nonce = config.options.get("nonce_path", "")
        return Hello(
            config.worker_id,
            config.agent_id,
            token,
            epoch,
            incarnation,
            os.getpid(),
            socket.gethostname(),
            read_nonce(nonce) if nonce else "",
            release(),
        )


class _Context:
    """The context of one attempt."""

    def __init__(self, worker: Worker, grant: JobGrant) -> None:
        config = worker.config
        self._worker = worker
        self._inputs = grant.inputs
        self.worker_id = config.worker_id
        self.job = grant.job
        self.attempt = grant.attempt
        self.scratch_fast = config.scratch_fast or ""
        self.scratch_disk = config.scratch_disk or ""
        self.trusted = worker.trusted
        self.accepts_code = config.accept_code

    def function(self, name: str) -> Callable[..., Any]:
        return find_function(name, self._worker.config.allow)

    def inputs(self) -> list[Any]:
        trusted = self._worker.trusted
        return [calls.decode_value(payload, trusted=trusted) for payload in self._inputs]

    def progress(self, done: int, total: int = 0) -> None:
        self._worker.report_progress(done, total)

    def call(self, service: str, method: str, body: Payload) -> Payload:
        return self._worker.call_service(service, method, body)
