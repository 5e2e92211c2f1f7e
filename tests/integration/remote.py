"""What the tests of remote workers share: agents as real processes, puppets that speak alone."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil

from paramserver.core.commands import Say
from paramserver.core.session import Session
from paramserver.protocol import codec
from paramserver.protocol.messages import (
    AgentHello,
    Envelope,
    Hello,
    MasterMessage,
    WorkerMessage,
)
from paramserver.runtime.release import release
from paramserver.runtime.scratch import sweep
from paramserver.transport.base import Sent
from paramserver.transport.security import load_worker_keys
from paramserver.transport.zmq_worker import ZmqWorkerTransport

PATIENCE_S = 30.0
"""How long a test waits for what should take a moment, on a machine that is busy."""
ROOT = Path(__file__).resolve().parents[2]

M = TypeVar("M")


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Look again and again, for what tells nothing by itself."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        threading.Event().wait(0.005)


class AgentProcess:
    """``python -m paramserver.worker`` as a process, and what it has printed."""

    def __init__(
        self,
        address: str,
        keys: Path | None,
        n_workers: int = 1,
        *options: str,
        allow: Iterable[str] = ("tests",),
        program: Iterable[str] = ("-m", "paramserver.worker"),
        prefix: Iterable[str] = (),
    ) -> None:
        words = [
            *prefix,
            sys.executable,
            *program,
            address,
            "--n-workers",
            str(n_workers),
            *options,
        ]
        if keys is not None:
            words += ["--keys", str(keys)]
        for package in allow:
            words += ["--allow", package]
        self.said = ""
        self.started = time.monotonic()
        self._popen = subprocess.Popen(
            words,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._popen.stdout is not None
        self._out = self._popen.stdout
        os.set_blocking(self._out.fileno(), False)
        self.pid = self._popen.pid

    def expect(self, text: str, timeout_s: float = PATIENCE_S) -> float:
        """Wait until it has printed the text; return how old the process is then."""
        deadline = time.monotonic() + timeout_s
        while text not in self.said:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} was not said in {timeout_s} s, but:\n{self.said}"
            select.select([self._out], [], [], left)
            assert self._read() or text in self.said, f"{text!r} was never said:\n{self.said}"
        return time.monotonic() - self.started

    def forget(self) -> None:
        """Let `expect` look only at what is said from now on."""
        self._read()
        self.said = ""

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end; return the exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read():  # or else it could block on a full pipe
            left = deadline - time.monotonic()
            assert left > 0, f"it did not end in {timeout_s} s, but said:\n{self.said}"
            select.select([self._out], [], [], left)
        return self._popen.wait(max(0.1, deadline - time.monotonic()))

    def workers(self) -> list[psutil.Process]:
        """Return its worker processes."""
        return psutil.Process(self.pid).children()

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def signal_all(self, number: signal.Signals) -> None:
        """Signal the agent and its workers, as if the machine stopped or went on."""
        for process in [psutil.Process(self.pid), *self.workers()]:
            process.send_signal(number)

    def _read(self) -> bool:
        """Take in what there is; return whether there will be more."""
        while not self._out.closed:
            try:
                data = os.read(self._out.fileno(), 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.said += data.decode()
        return False

    def stop_reading(self) -> None:
        """Go away as the reader of what it prints."""
        self._out.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, tb: TracebackType | None
    ) -> None:
        if kind is not None:
            self._read()
            print(self.said)
        if self._popen.poll() is None:
            for _ in range(2):  # the second time means: at once
                self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(5.0)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait(PATIENCE_S)
        self._out.close()
        sweep()  # what one that was killed has left is for the next start to remove


class Wire:
    """A TCP relay between workers and a master, which the test can cut and mend.

    With `reset_at` it resets all connections whenever so many bytes have gone through it.
    """

    def __init__(self, address: str, reset_at: Iterable[int] = ()) -> None:
        host, port = address.removeprefix("tcp://").rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._is_cut = self._is_closed = False
        self.reset_at = deque(reset_at)
        self._n_bytes = 0
        self._threads = [threading.Thread(target=self._accept, name="wire")]
        self._threads[0].start()

    def cut(self) -> None:
        """End all connections, as a switch does that restarts; new ones are refused."""
        with self._lock:
            self._is_cut = True
            for end in self._ends:
                with suppress(OSError):  # it has ended by itself
                    end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        with self._lock:
            self._is_cut = False

    def close(self) -> None:
        self._is_closed = True
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self._listener.close()
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            with self._lock:
                if self._is_cut:
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._carry, args=pair, name="wire")
                    self._threads.append(thread)
                    thread.start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # either end has closed
            while data := source.recv(65536):
                self._count(len(data))
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _count(self, n_bytes: int) -> None:
        with self._lock:
            self._n_bytes += n_bytes
            is_due = bool(self.reset_at) and self._n_bytes >= self.reset_at[0]
            if is_due:
                self.reset_at.popleft()
        if is_due:
            self.cut()
            self.mend()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Puppet:
    """A worker or an agent that does only what the test tells it, over a real connection."""

    def __init__(
        self, address: str, keys: Path, name: str, token: str = "secret", agent_id: str = ""
    ) -> None:
        self.name = name
        self.token = token
        self._agent_id = agent_id
        self._heard: deque[MasterMessage] = deque()
        self.session = Session(name, token, self._make_hello)
        self.transport = ZmqWorkerTransport.connect(address, load_worker_keys(keys))
        wait_until(self._is_connected, f"{name} is connected")

    @classmethod
    def join(cls, *args: Any, **kwargs: Any) -> Self:
        """Make one and let it in."""
        puppet = cls(*args, **kwargs)
        puppet.greet()
        puppet.until(lambda: puppet.session.incarnation > 0, "welcomed")
        return puppet

    def greet(self) -> None:
        self._send(self.session.greet(time.monotonic(), resume=False))

    def say(self, message: WorkerMessage) -> None:
        """Say something that arrives, once and in order."""
        self._send(self.session.say(time.monotonic(), message))

    def say_as(self, message: WorkerMessage, **changes: Any) -> None:
        """Say something under an envelope with fields of the test's choice."""
        session = self.session
        envelope = Envelope(session.run, session.epoch, self.name, session.incarnation, 0, 0)
        self._send([Say(envelope._replace(**changes), message)])

    def hear(self, kind: type[M]) -> M:
        """Wait for a message of this kind, those that are outside of the order included."""
        found: list[M] = []

        def look() -> bool:
            while self._heard and not found:
                message = self._heard.popleft()
                if isinstance(message, kind):
                    found.append(message)
            return bool(found)

        self.until(look, f"{self.name} hears {kind.__name__}")
        return found[0]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Take in what comes until the condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"never: {what}"
            self.transport.poll(0.05)
            while (frames := self.transport.receive()) is not None:
                envelope, message = codec.decode(frames, codec.FROM_MASTER)
                now = time.monotonic()
                _, commands, delivered = self.session.hear(now, envelope, message)  # type: ignore[arg-type]
                self._send(commands)
                self._heard.extend(delivered or ([message] if envelope.seq == 0 else []))  # type: ignore[list-item]
            self._send(self.session.tend(time.monotonic()))

    def close(self) -> None:
        self.transport.close(linger_s=1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_connected(self) -> bool:
        self.transport.poll(0.05)
        return self.transport.is_up()

    def _send(self, commands: Iterable[Any]) -> None:
        for command in commands:
            frames = codec.encode(command.envelope, command.message)
            wait_until(lambda f=frames: self.transport.send(f) is Sent.TAKEN, "sent")  # type: ignore[misc]

    def _make_hello(self, token: str, epoch: int, incarnation: int) -> Hello | AgentHello:
        if not self._agent_id:
            return AgentHello(self.name, token, epoch, incarnation, 1, "here", 1, release())
        pid = 1_000_000
        who = (self.name, self._agent_id, token, epoch, incarnation, pid)
        return Hello(*who, "here", "", release())
