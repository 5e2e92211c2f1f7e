"""The driver of the master's machine: one thread that owns transport, machine and services.

Rule 1: only the I/O thread touches the machine and the transport; other threads `post` events and
        `ask` questions, and are answered through futures.
Rule 2: it decides nothing: events go into the machine, commands come out and are carried out.
Rule 3: it waits in one place, `MasterTransport.poll`, and never for one peer.
Rule 4: owners of jobs are called on the I/O thread, so they must not block.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

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
from paramserver.protocol.messages import Envelope, GrantJobs, Refused
from paramserver.runtime.outboxes import Outboxes
from paramserver.runtime.owners import JobOwner, Owners
from paramserver.runtime.question import Question
from paramserver.runtime.services import Services
from paramserver.transport.base import MasterTransport, Received

T = TypeVar("T")

MESSAGES_A_TURN = 256
"""Messages taken in before the machine is asked to decide again."""
RETRY_S = 0.005
"""How soon a peer whose queue was full is tried again."""


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
        self.services = Services()
        self.on_worker: list[Callable[[AnnounceWorker], None]] = []
        """Told of every change of a worker, on the I/O thread."""
        self._attempt_watchers: list[Callable[[AnnounceAttempt], None]] = []
        self._machine = machine
        self._transport = transport
        self._kill_worker = kill_worker
        self._owners = Owners(self.counters)
        self._inbox: deque[MasterEvent | Question[Any]] = deque()
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
        asked: Question[T] = Question(question)
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
            self._owners.settle(self._settled)
        except BaseException as error:  # noqa: BLE001 - the driver's loop: who waits must know
            self._failure = error
            self._fail_everything(error)
        finally:
            self._has_ended = True
            self._refuse_inbox()
            self._owners.break_off(ClusterClosed("The cluster has been shut down."))

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
            if isinstance(event, Question):
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
        if self._settled:  # last of all: who waits for a future runs while this thread sleeps
            self._owners.settle(self._settled)

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
                    for reply in self.services.answer(command, self.clock()):
                        self._perform(self._machine.handle(reply))
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
            unwanted = self._owners.unwanted(message.grants)
            if unwanted:
                self._inbox.append(JobsWithdrawn(self.clock(), tuple(unwanted)))
                wanted = tuple(grant for grant in message.grants if grant.job not in unwanted)
                message = replace(message, grants=wanted)
        frames = codec.encode(command.envelope, message, self._transport.limits)
        if not self._outboxes.send(command.peer, frames):
            self._inbox.append(Disconnected(self.clock(), command.peer))

    def _probe_peers(self) -> None:
        for peer in list(self._machine.roster.by_peer):
            if not self._transport.is_connected(peer):
                self._perform(self._machine.handle(Disconnected(self.clock(), peer)))

    def _announce(self, command: AnnounceWorker) -> None:
        if command.change in ("lost", "left"):
            for reply in self.services.worker_gone(command.incarnation, self.clock()):
                self._perform(self._machine.handle(reply))
        for listener in self.on_worker:
            listener(command)

    # --- the end ---------------------------------------------------------------------------------

    def _fail_everything(self, error: BaseException) -> None:
        """Tell everyone who waits that the I/O thread is gone."""
        text = f"The master's I/O thread ended: {type(error).__name__}: {error}"
        problem = InternalError(f"{text}. This is a bug in paramserver; please report it.")
        problem.__cause__ = error
        self._settled.clear()
        self._owners.break_off(problem)

    def _refuse_inbox(self) -> None:
        """Answer questions that came too late; events that came too late change nothing."""
        while self._inbox:
            try:
                event = self._inbox.popleft()
            except IndexError:  # another thread took it
                return
            if isinstance(event, Question):
                event.refuse(self._failure)
