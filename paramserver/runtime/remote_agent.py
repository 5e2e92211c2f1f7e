"""The process that keeps workers on a machine which is not the master's. Tells what it is doing.

Rule 1: the main thread owns the transport and the machine `AgentLife`; the agent's own thread owns
        the processes. They speak through an inbox and `wake`.
Rule 2: no worker is started before the master has let the agent in.
Rule 3: whatever ends it, its workers end first. A first signal lets them finish what they run, a
        second one ends them at once.
Rule 4: nothing is waited for in silence: after 5 s the wait is said, with its reason.
"""

from __future__ import annotations

import _thread
import os
import re
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FrameType

from paramserver.core.agent_life import AgentLife
from paramserver.core.commands import (
    Exit,
    KillChild,
    NoteChild,
    Say,
    StopChildren,
    WorkerCommand,
)
from paramserver.core.loss import describe_exit
from paramserver.core.worker_life import EXIT_DONE, EXIT_REFUSED
from paramserver.errors import ProtocolError, TransportError
from paramserver.protocol import codec
from paramserver.protocol.messages import AgentHello, Buffer, ProcessExited
from paramserver.runtime.agent import Agent
from paramserver.runtime.release import release
from paramserver.runtime.scratch import Scratch
from paramserver.runtime.told_wait import ToldWait
from paramserver.runtime.worker_spec import WorkerSpec
from paramserver.transport.base import Sent
from paramserver.transport.zmq_worker import ZmqWorkerTransport

EXIT_FAILED = 1
FIRST_WORD_S = 0.7
"""Without an answer for this long, the reason is looked for and said."""
CLOSED_GRACE_S = 3.0
"""How long workers may take to leave a master that has closed, before they are killed."""
LAST_WORDS_S = 2.0
"""How long a leaving agent waits for the master to have heard everything."""
RETRY_S = 0.05

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What an agent process is started with.

    Parameters
    ----------
    address : str
        Where the master listens.
    keys_dir : str or None
        Folder of the worker's keys.
    n_workers : int
    allow : tuple of str
        Packages whose functions the workers may run.
    accept_code : bool
        Whether they run functions that are sent as code.
    give_up_s : float
        How long a master that does not answer is waited for.
    grace_s : float
        How long running jobs may take to end after a signal.
    blas_threads : int or None
        Threads of the numeric libraries in each worker.
    """

    address: str
    keys_dir: str | None
    n_workers: int
    allow: tuple[str, ...] = ()
    accept_code: bool = False
    give_up_s: float = 600.0
    grace_s: float = 30.0
    blas_threads: int | None = 1


class RemoteAgent:
    """One agent process at work; see `agent_process.run_agent`.

    Parameters
    ----------
    options : AgentOptions
    transport : ZmqWorkerTransport
        Owned from now on.
    scratch : Scratch
        Folders for its workers' files.
    tell : callable
        Takes each line of the story.
    """

    def __init__(
        self, options: AgentOptions, transport: ZmqWorkerTransport, scratch: Scratch, tell: Tell
    ) -> None:
        self._options = options
        self._transport = transport
        self._tell = tell
        self.agent_id = _new_agent_id()
        spec = WorkerSpec(
            address=options.address,
            run="",
            keys_dir=options.keys_dir,
            allow=options.allow,
            accept_code=options.accept_code,
            blas_threads=options.blas_threads,
            scratch_fast=str(scratch.fast),
            scratch_disk=str(scratch.disk),
        )
        self._agent = Agent(self.agent_id, spec, self._child_ended)
        self._life = AgentLife(
            self.agent_id, self._agent.token, self._make_hello, options.give_up_s
        )
        self._inbox: deque[tuple[ProcessExited, bool]] = deque()
        self._unsent: deque[Sequence[Buffer]] = deque()
        self._n_signals = 0
        self._n_heeded = 0
        self._n_wanted = options.n_workers
        self._up: set[str] = set()
        self._was_in = False
        self._is_started = False
        self._ending: Exit | None = None
        self._last_words_until: float | None = None
        self._told_wait = ToldWait()

    # --- from outside ----------------------------------------------------------------------------

    def run(self) -> int:
        """Keep workers until told to leave; return the exit code."""
        now = time.monotonic()
        self._life.disconnected(now)  # nobody has answered yet
        self._told_wait.begin(now, FIRST_WORD_S)
        try:
            while not self._is_done():
                self._wait()
                self._pump()
        finally:
            self._agent.close()
            self._transport.close(linger_s=0.5)
        assert self._ending is not None
        self._tell(f"{self._ending.reason}.")
        return self._ending.code

    def leave(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Ask for an orderly leave, the second time for one at once; a signal handler."""
        self._n_signals += 1
        # The lock of the bell may be held by the very code that the signal interrupted.
        _thread.start_new_thread(self._transport.wake, ())

    def _child_ended(self, exited: ProcessExited, expected: bool) -> None:
        """Take in the end of a worker; on the agent's thread."""
        self._inbox.append((exited, expected))
        self._transport.wake()

    # --- one turn --------------------------------------------------------------------------------

    def _wait(self) -> None:
        ends = [
            self._life.next_deadline(),
            self._told_wait.next_deadline(),
            self._last_words_until,
        ]
        now = time.monotonic()
        if self._unsent:
            ends.append(now + RETRY_S)
        deadline = min((end for end in ends if end is not None), default=None)
        self._transport.poll(None if deadline is None else max(0.0, deadline - now))

    def _pump(self) -> None:
        now = time.monotonic()
        self._heed_signals()
        self._look_at_connection(now)
        self._receive()
        while self._inbox:
            self._bury(*self._inbox.popleft())
        self._flush()
        self._perform(self._life.tick(time.monotonic()))
        self._look_at_workers()
        if self._told_wait.take_reminder(now):
            self._remind(now)
        if reason := self._told_wait.take_reason():
            self._tell_reason(now, reason)

    def _look_at_connection(self, now: float) -> None:
        transport = self._transport
        if transport.take_reconnected():
            self._unsent.clear()  # AgentHello is the first word; the link says again what got lost
            self._perform(self._life.connected(now))
        if failure := transport.take_failure():
            self._end(Exit(EXIT_REFUSED, failure.rstrip(".")), grace_s=0.0)
        if not transport.is_up():
            self._life.disconnected(now)
        if self._life.is_in == self._was_in or self._ending is not None:
            return
        if self._was_in:
            self._was_in = False
            self._tell(
                f"the connection to the master is lost; its workers go on, and it is tried again "
                f"for {_spoken(self._options.give_up_s)}"
            )
            self._told_wait.begin(now)

    def _receive(self) -> None:
        while (frames := self._transport.receive()) is not None:
            try:
                envelope, message = codec.decode(frames, codec.FROM_MASTER)
            except (ProtocolError, TransportError) as error:
                text = f"The master said what is not understood here. {error}".rstrip(".")
                self._end(Exit(EXIT_REFUSED, text), grace_s=0.0)
                return
            now = time.monotonic()
            self._perform(self._life.heard(now, envelope, message))  # type: ignore[arg-type]

    def _flush(self) -> None:
        while self._unsent and self._transport.send(self._unsent[0]) is Sent.TAKEN:
            self._unsent.popleft()

    def _perform(self, commands: list[WorkerCommand]) -> None:
        for command in commands:
            match command:
                case Say(envelope, message):
                    frames = codec.encode(envelope, message, self._transport.limits)
                    if self._unsent or self._transport.send(frames) is not Sent.TAKEN:
                        self._unsent.append(frames)
                case KillChild(worker_id, reason):
                    self._tell(f"worker {worker_id} is ended: {reason}")
                    self._agent.kill(worker_id, reason)
                case NoteChild(worker_id):
                    self._up.add(worker_id)
                    self._agent.note_ready(worker_id)
                case StopChildren():
                    self._stop()
                case Exit():
                    self._end(replace(command, reason=_sentence(command.reason)), grace_s=0.0)
                case _:
                    raise AssertionError(f"not an agent's command: {command}")

    # --- workers ---------------------------------------------------------------------------------

    def _look_at_workers(self) -> None:
        if self._ending is not None:
            return
        now = time.monotonic()
        if self._life.is_in and not self._was_in:
            self._was_in = True
            self._note_in(now)
        if not self._is_started or not self._was_in:
            return
        if (failure := self._agent.launch_failure()) is not None:
            self._end(Exit(EXIT_FAILED, str(failure)), grace_s=0.0)
        elif len(self._up) < self._n_wanted:
            if not self._told_wait.is_on:
                self._told_wait.begin(now)
        elif self._told_wait.is_on:
            self._told_wait.end()
            self._tell(f"{_count(self._n_wanted)} up, waiting for jobs; Ctrl-C to leave")

    def _note_in(self, now: float) -> None:
        self._told_wait.begin(now)
        if self._is_started:
            self._tell("connected to the master again")
        else:
            self._is_started = True
            self._tell(f"connected; starting {_count(self._n_wanted)}")
            self._agent.scale(self._n_wanted)

    def _bury(self, exited: ProcessExited, expected: bool) -> None:
        self._up.discard(exited.worker_id)
        self._perform(self._life.child_ended(time.monotonic(), exited))
        if expected or self._ending is not None:
            return
        how = describe_exit(exited.exit_code)
        who = f"worker {exited.worker_id} (process {exited.pid})"
        if exited.exit_code != EXIT_REFUSED:
            self._tell(f"{who} ended with {how}; another one takes its place")
            return
        self._n_wanted -= 1  # another one would be refused as well
        self._agent.scale(self._n_wanted)
        self._tell(f"{who} ended with {how}; it is not replaced")
        if not self._n_wanted:
            words = exited.stderr_tail.strip() or "No worker was let in"
            self._end(Exit(EXIT_REFUSED, words), grace_s=0.0)

    # --- waiting ---------------------------------------------------------------------------------

    def _remind(self, now: float) -> None:
        """Say what is waited for, and look for the reason."""
        if self._was_in:
            n_up, n = len(self._up), self._n_wanted
            self._tell(f"{n_up} of {_count(n)} up after {self._told_wait.lasted_s(now):.0f} s")
        elif self._transport.is_up():
            self._tell("connected, but the master does not answer: it is busy or stopped")
        else:
            self._told_wait.look_for_reason(self._options.address, self._transport.wake)

    def _tell_reason(self, now: float, why: str) -> None:
        if not self._told_wait.is_on or self._was_in:
            return  # it has been connected meanwhile
        left_s = max(0.0, self._options.give_up_s - self._told_wait.lasted_s(now))
        self._tell(
            f"no master at {self._options.address}: {why}. It is tried again for "
            f"{_spoken(left_s)} (--give-up)"
        )

    # --- the end ---------------------------------------------------------------------------------

    def _heed_signals(self) -> None:
        while self._n_heeded < self._n_signals:
            self._n_heeded += 1
            if self._ending is None and self._agent.live():
                grace_s = self._options.grace_s
                self._tell(
                    f"leaving: running jobs have {_spoken(grace_s)} to end, the others are handed "
                    "back; once more (Ctrl-C) to end at once"
                )
                self._end(Exit(EXIT_DONE, "Left as asked"), grace_s=grace_s)
            elif self._ending is None:
                self._end(Exit(EXIT_DONE, "Left as asked"), grace_s=0.0)
            else:
                self._agent.wind_down(0.0, ask=False)

    def _stop(self) -> None:
        if self._ending is None:
            self._tell("the master has closed the cluster; the workers leave")
        self._end(Exit(EXIT_DONE, "Done: the cluster is closed"), grace_s=CLOSED_GRACE_S)

    def _end(self, how: Exit, grace_s: float) -> None:
        """Begin to end; the first reason counts."""
        if self._ending is None:
            self._ending = how
            self._told_wait.end()
            self._agent.wind_down(grace_s, ask=True)

    def _is_done(self) -> bool:
        """All workers are gone, and the master knows of it if it is there to know."""
        if self._ending is None or self._agent.live() or self._inbox:
            return False
        now = time.monotonic()
        if not self._life.is_in or not self._transport.is_up():
            return True
        if self._last_words_until is None:
            self._last_words_until = now + LAST_WORDS_S
            self._perform(self._life.leave(now, self._ending.reason))
        return now >= self._last_words_until or not self._life.has_unsaid

    def _make_hello(self, token: str, epoch: int, incarnation: int) -> AgentHello:
        return AgentHello(
            self.agent_id,
            token,
            epoch,
            incarnation,
            os.getpid(),
            socket.gethostname(),
            self._options.n_workers,
            release(),
        )


def _new_agent_id() -> str:
    host = re.sub(r"[^A-Za-z0-9.-]", "", socket.gethostname())[:40] or "host"
    return f"{host}-{secrets.token_hex(3)}"


def _count(n: int) -> str:
    return "1 worker" if n == 1 else f"{n} workers"


def _sentence(text: str) -> str:
    return (text[:1].upper() + text[1:]).rstrip(".")


def _spoken(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min"
