"""The driver of the master's machine: one thread that owns transport, machine and services.

Rule 1: only the I/O thread touches the machine and the transport; other threads `post` events and
        `ask` questions, and are answered through futures.
Rule 2: it decides nothing: events go into the machine, commands come out and are carried out.
Rule 3: it waits in one place, `MasterTransport.poll`, and never for one peer.
Rule 4: owners of jobs are called on the I/O thread, so they must not block.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from paramserver.core.commands import (
    AnnounceAttempt,
    AnnounceWorker,
    CallService,
    KillWorker,
    MasterCommand,
    Send,
    SettleJob,
)
from paramserver.core.events import (
    Arrived,
    Disconnected,
    JobsWithdrawn,
    MasterEvent,
    ServiceReplied,
    StopRequested,
    Tick,
)
from paramserver.core.master import MasterMachine
from paramserver.errors import (
    ClusterClosed,
    InternalError,
    MessageTooLarge,
    ProtocolError,
    TransportError,
    VersionMismatch,
)
from paramserver.protocol import codec
from paramserver.protocol.messages import (
    Envelope,
    GrantJobs,
    JobGrant,
    Payload,
    PayloadKind,
    Refused,
)
from paramserver.runtime.outboxes import Outboxes
from paramserver.transport.base import MasterTransport, Received

T = TypeVar("T")

LOGGER = logging.getLogger("paramserver")

MESSAGES_A_TURN = 256
"""Messages taken in before the machine is asked to decide again."""
RETRY_S = 0.005
"""How soon a peer whose queue was full is tried again."""


class JobOwner(Protocol):
    """Who handed a job in, and is told what became of it. Called on the I/O thread."""

    def claim(self, job: int) -> bool:
        """Say whether the job is still wanted, just before its first grant is sent."""

    def settle(self, ended: SettleJob) -> None:
        """Take in how the job ended."""

    def break_off(self, job: int, error: BaseException) -> None:
        """Take in that the master itself is gone, and the job with it."""


class Service(Protocol):
    """Something of the master's that running jobs can call. All on the I/O thread."""

    def call(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        """Take in a call; return the answers that are due now, to this call or to held ones."""

    def worker_gone(self, incarnation: int, now: float) -> Iterable[ServiceReplied]:
        """Note that this life of a worker is over; return the answers that this sets free."""


class Master:
    """Drives a `MasterMachine` over a transport, in a thread of its own.

    Parameters
    ----------
    machine : MasterMachine
    transport : MasterTransport
        Owned from now on: closed by `close`.
    kill_worker : callable
        Carries out a `KillWorker`; must not block.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        machine: MasterMachine,
        transport: MasterTransport,
        *,
        kill_worker: Callable[[KillWorker], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.counters: Counter[str] = machine.counters
        self.services: dict[str, Service] = {}
        self.on_worker: list[Callable[[AnnounceWorker], None]] = []
        """Told of every change of a worker, on the I/O thread."""
        self._attempt_watchers: list[Callable[[AnnounceAttempt], None]] = []
        self._machine = machine
        self._transport = transport
        self._kill_worker = kill_worker
        self._owners: dict[int, JobOwner] = {}
        self._inbox: deque[MasterEvent | _Question[Any]] = deque()
        self._outboxes = Outboxes(transport, self.counters)
        self._settled: deque[SettleJob] = deque()
        self._is_asleep = False
        self._is_closing = False
        self._leave_s = 0.0
        self._has_ended = False
        self._failure: BaseException | None = None
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="paramserver-master", daemon=True)

    # --- any thread ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the I/O thread."""
        self._thread.start()

    def post(self, event: MasterEvent) -> None:
        """Hand an event to the machine, in order, without waiting."""
        self._inbox.append(event)
        if self._is_asleep:
            self._transport.wake()

    def own_one(self, job: int, owner: JobOwner) -> None:
        """Name the owner of a job that is about to be posted."""
        self._owners[job] = owner

    def own(self, jobs: Iterable[int], owner: JobOwner) -> None:
        """Name the owner of jobs that are about to be posted."""
        for job in jobs:
            self._owners[job] = owner

    def ask(self, question: Callable[[MasterMachine], T], timeout_s: float = 30.0) -> T:
        """Let the I/O thread answer a question about the machine, between two events.

        Raises
        ------
        ClusterClosed
            If the master has ended.
        TimeoutError
            If there is no answer in time.
        """
        if not self.is_own_process:
            raise ClusterClosed("The cluster belongs to the process that this one was forked from.")
        if self.is_own_thread:
            return question(self._machine)
        asked: _Question[T] = _Question(question)
        self._inbox.append(asked)
        if self._is_asleep:
            self._transport.wake()
        if self._has_ended:
            self._refuse_inbox()
        return asked.answer.result(timeout_s)

    def watch(self, fd: int, on_ready: Callable[[], None]) -> None:
        """Call `on_ready` on the I/O thread whenever a descriptor can be read; it must not raise.

        Called on the I/O thread itself.
        """
        self._transport.watch(fd, on_ready)

    def unwatch(self, fd: int) -> None:
        """Undo `watch`. Called on the I/O thread."""
        self._transport.unwatch(fd)

    def watch_attempts(self, on_end: Callable[[AnnounceAttempt], None]) -> None:
        """Call `on_end` on the I/O thread with the end of each attempt; it must not raise.

        Called on the I/O thread itself.
        """
        self._attempt_watchers.append(on_end)
        self._machine.scheduler.news.is_wanted = True

    def unwatch_attempts(self, on_end: Callable[[AnnounceAttempt], None]) -> None:
        """Undo `watch_attempts`. Called on the I/O thread, or when it has ended."""
        self._attempt_watchers.remove(on_end)
        self._machine.scheduler.news.is_wanted = bool(self._attempt_watchers)

    @property
    def n_queued(self) -> int:
        """How many jobs wait for a worker; any thread may ask what it was a moment ago."""
        return self._machine.backlog.n_ready

    @property
    def failure(self) -> BaseException | None:
        """What ended the I/O thread, if it was not `close`."""
        return self._failure

    @property
    def has_ended(self) -> bool:
        """Whether the I/O thread takes in nothing any more."""
        return self._has_ended

    @property
    def is_own_process(self) -> bool:
        """Whether the caller is not in a process forked from the master's, which has no thread."""
        return os.getpid() == self._pid

    @property
    def is_own_thread(self) -> bool:
        """Whether the caller runs on the I/O thread (a callback of a future does)."""
        return threading.current_thread() is self._thread

    def close(self, linger_s: float = 1.0, leave_s: float = 0.0) -> None:
        """End the I/O thread and close the transport. Jobs that are left are cancelled.

        Parameters
        ----------
        linger_s : float
            How long frames on their way may take to leave.
        leave_s : float
            How long those who have been told to leave may take to say goodbye. What they have not
            read when the connection closes is lost to them.
        """
        self._leave_s = leave_s
        self._is_closing = True
        self._transport.wake()
        if self.is_own_thread:
            return  # it ends after this turn, and closes the transport itself
        if self._thread.is_alive():
            self._thread.join()
        self._transport.close(linger_s)
        self._refuse_inbox()

    # --- the I/O thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._turn()
                self._sleep()
            self._turn()
            self._see_off(self.clock() + self._leave_s)
            self._perform(self._machine.handle(StopRequested(self.clock(), drain=False)))
            self._settle()
        except BaseException as error:  # noqa: BLE001 - the driver's loop: who waits must know
            self._failure = error
            self._fail_everything(error)
        finally:
            self._has_ended = True
            self._refuse_inbox()
            self._break_off_owners(ClusterClosed("The cluster has been shut down."))

    def _see_off(self, end_at: float) -> None:
        """Wait for the last goodbye of those who are within reach."""
        roster = self._machine.roster
        while any(member.suspect_until is None for member in roster.by_peer.values()):
            left = end_at - self.clock()
            if left <= 0:
                return
            self._transport.poll(left if not self._outboxes else min(left, RETRY_S))
            self._turn()

    def _turn(self) -> None:
        """Deliver all there is, then let the machine decide."""
        inbox, machine, transport = self._inbox, self._machine, self._transport
        # First what has arrived: a result counts although its worker's death is known already.
        for _ in range(MESSAGES_A_TURN):
            received = transport.receive()
            if received is None:
                break
            self._take_in(received)
        for _ in range(len(inbox)):
            event = inbox.popleft()
            if isinstance(event, _Question):
                event.put_to(machine)
            elif commands := machine.handle(event):
                self._perform(commands)
        if transport.take_disconnected():
            self._probe_peers()
        if dropped := transport.take_counters():
            self.counters.update(dropped)
        if commands := machine.handle(Tick(self.clock())):
            self._perform(commands)
        if self._outboxes:
            for peer in self._outboxes.flush():
                self._inbox.append(Disconnected(self.clock(), peer))
        if self._settled:
            self._settle()

    def _settle(self) -> None:
        """Tell the owners, last of all: who waits for a future runs while this thread sleeps."""
        owners, settled = self._owners, self._settled
        while settled:
            ended = settled.popleft()
            owner = owners.pop(ended.job, None)
            if owner is None:
                continue
            try:
                owner.settle(ended)
            except BaseException:  # noqa: BLE001 - a user's sys.exit() ends the callback, not us
                self._owner_has_failed(ended.job)

    def _owner_has_failed(self, job: int) -> None:
        """Note what an owner raised; from within the handler of that exception."""
        self.counters["owner_errors"] += 1
        LOGGER.exception("What waited for job %d has failed.", job)

    def _sleep(self) -> None:
        timeout = self._machine.next_deadline()
        if timeout is not None:
            timeout = max(0.0, timeout - self.clock())
        if self._outboxes:
            timeout = RETRY_S if timeout is None else min(timeout, RETRY_S)
        self._is_asleep = True
        if not self._inbox and not self._is_closing:
            self._transport.poll(timeout)
        self._is_asleep = False

    def _take_in(self, received: Received) -> None:
        try:
            envelope, message = codec.decode(received.frames, codec.FROM_WORKERS)
        except VersionMismatch as error:
            self.counters["mismatched"] += 1
            refusal = Envelope(self._machine.run, self._machine.epoch, "", 0, 0, 0)
            self._send(Send(received.peer, refusal, Refused(str(error))))
            return
        except (ProtocolError, TransportError) as error:
            oversize = isinstance(error, MessageTooLarge)
            self.counters["oversize" if oversize else "mismatched"] += 1
            return
        peer, user, _, address = received
        event = Arrived(self.clock(), peer, user, envelope, message, address)  # type: ignore[arg-type]
        self._perform(self._machine.handle(event))

    def _perform(self, commands: list[MasterCommand]) -> None:
        for command in commands:
            match command:
                case Send():
                    self._send(command)
                case SettleJob():
                    self._settled.append(command)
                case CallService():
                    self._call_service(command)
                case AnnounceWorker():
                    self._announce(command)
                case AnnounceAttempt():
                    for on_end in self._attempt_watchers:
                        on_end(command)
                case KillWorker():
                    self._kill_worker(command)

    def _send(self, command: Send) -> None:
        message = command.message
        if type(message) is GrantJobs:
            wanted = self._claim(message.grants)
            if len(wanted) < len(message.grants):
                message = replace(message, grants=wanted)
        frames = codec.encode(command.envelope, message, self._transport.limits)
        if not self._outboxes.send(command.peer, frames):
            self._inbox.append(Disconnected(self.clock(), command.peer))

    def _claim(self, grants: tuple[JobGrant, ...]) -> tuple[JobGrant, ...]:
        """Leave out the jobs that their owners cancelled while they were queued."""
        unwanted = []
        owners = self._owners
        for grant in grants:
            job = grant.job
            if grant.attempt == 1 and job in owners and not owners[job].claim(job):
                unwanted.append(job)
        if not unwanted:
            return grants
        self._inbox.append(JobsWithdrawn(self.clock(), tuple(unwanted)))
        return tuple(grant for grant in grants if grant.job not in unwanted)

    def _probe_peers(self) -> None:
        for peer in list(self._machine.roster.by_peer):
            if not self._transport.is_connected(peer):
                self._perform(self._machine.handle(Disconnected(self.clock(), peer)))

    def _call_service(self, command: CallService) -> None:
        service = self.services.get(command.service)
        if service is None:
            error = Payload(PayloadKind.ERROR, b"")
            self._reply(
                ServiceReplied(self.clock(), command.incarnation, command.call, False, error)
            )
            return
        for reply in service.call(command, self.clock()):
            self._reply(reply)

    def _reply(self, reply: ServiceReplied) -> None:
        self._perform(self._machine.handle(reply))

    def _announce(self, command: AnnounceWorker) -> None:
        if command.change in ("lost", "left"):
            for service in self.services.values():
                for reply in service.worker_gone(command.incarnation, self.clock()):
                    self._reply(reply)
        for listener in self.on_worker:
            listener(command)

    # --- the end ---------------------------------------------------------------------------------

    def _fail_everything(self, error: BaseException) -> None:
        """Tell everyone who waits that the I/O thread is gone."""
        text = f"The master's I/O thread ended: {type(error).__name__}: {error}"
        problem = InternalError(f"{text}. This is a bug in paramserver; please report it.")
        problem.__cause__ = error
        self._settled.clear()
        self._break_off_owners(problem)

    def _break_off_owners(self, problem: BaseException) -> None:
        """Tell those whose jobs nobody will settle any more. Who comes later sees `has_ended`."""
        owners, self._owners = self._owners, {}
        for job, owner in list(owners.items()):  # somebody may be about to name one more
            try:
                owner.break_off(job, problem)
            except BaseException:  # noqa: BLE001 - as above
                self._owner_has_failed(job)

    def _refuse_inbox(self) -> None:
        """Answer questions that came too late; events that came too late change nothing."""
        while self._inbox:
            try:
                event = self._inbox.popleft()
            except IndexError:  # another thread took it
                return
            if isinstance(event, _Question):
                event.refuse(self._failure)


class _Question(Generic[T]):
    """Something another thread wants to know of the machine."""

    def __init__(self, question: Callable[[MasterMachine], T]) -> None:
        self.answer: Future[T] = Future()
        self._question = question

    def put_to(self, machine: MasterMachine) -> None:
        """Answer it; on the I/O thread."""
        try:
            self.answer.set_result(self._question(machine))
        except Exception as error:  # noqa: BLE001 - it belongs to who asked
            self.answer.set_exception(error)

    def refuse(self, failure: BaseException | None) -> None:
        """Say that nobody will answer any more."""
        problem = ClusterClosed("The cluster has been shut down.")
        problem.__cause__ = failure
        self.answer.set_exception(problem)
