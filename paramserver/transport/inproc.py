"""Both ends of the wire inside one process, in memory: for tests, with the same contract.

Rule 1: what the real transport may do to its user, this one can be told to do: queues that are
        full, connections that drop, a master that goes and comes back.
Rule 2: frames are copied on their way, as a wire would; nothing is shared between the ends.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Self

from paramserver.errors import ConnectFailed, LocalProtocolError, TransportError
from paramserver.protocol.messages import Buffer
from paramserver.transport.base import MasterTransport, Received, Sent, WorkerTransport

_CAPACITY: Final = 1000


class InprocHub:
    """The wire: one lock, and who is at its ends.

    Parameters
    ----------
    capacity : int, default=1000
        Messages that fit into each direction of one connection before a send is `Sent.FULL`.
    user : str, default='local'
        Whom every connection has proven to be.

    Examples
    --------
    >>> hub = InprocHub()
    >>> with hub.bind() as master, hub.connect() as worker:
    ...     worker.send([b"hello"])
    ...     master.receive().frames
    <Sent.TAKEN: 'taken'>
    [b'hello']
    """

    address: Final = "inproc://hub"

    def __init__(self, *, capacity: int = _CAPACITY, user: str = "local") -> None:
        self.capacity = capacity
        self.user = user
        self.lock = threading.Lock()
        self.master: InprocMasterTransport | None = None
        self.waiting: list[InprocWorkerTransport] = []
        """Ends that dial a master that is not there."""

    def bind(self) -> InprocMasterTransport:
        """Open the master's end; the workers that wait for one are connected to it."""
        with self.lock:
            if self.master is not None:
                raise TransportError("There is a master at this hub already; close it first.")
            self.master = InprocMasterTransport(self)
            for worker in self.waiting:
                self.master.admit(worker)
            self.waiting.clear()
            return self.master

    def connect(self) -> InprocWorkerTransport:
        """Open a worker's end, connected as soon as there is a master."""
        worker = InprocWorkerTransport(self)
        with self.lock:
            if self.master is None:
                self.waiting.append(worker)
            else:
                self.master.admit(worker)
        return worker

    def cut(self, worker: InprocWorkerTransport) -> None:
        """Drop the connection of a worker, with all that is on its way; it connects anew at once.

        Raises
        ------
        ConnectFailed
            If it is not connected.
        """
        with self.lock:
            if self.master is None or worker.peer is None:
                raise ConnectFailed("That worker is not connected.", address=self.address)
            self.master.dismiss(worker)
            self.master.admit(worker)


class _InprocEnd:
    """What both ends share: a lock, and a wait that a message or a wake ends."""

    def __init__(self, hub: InprocHub) -> None:
        self._hub = hub
        self._changed = threading.Condition(hub.lock)
        self._woken = False
        self._closed = False

    def _has_news(self) -> bool:
        raise NotImplementedError

    def poll(self, timeout_s: float | None) -> None:
        """Wait until a message may be there, `wake` is called, or the time is over."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not (self._woken or self._has_news()):
                left_s = None if deadline_s is None else deadline_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    break
                self._changed.wait(left_s)
            self._woken = False

    def wake(self) -> None:
        """End a `poll` at once, the current or else the next one. From any thread."""
        with self._changed:
            self.notify()

    def notify(self) -> None:
        """End the poll, under the hub's lock."""
        self._woken = True
        self._changed.notify_all()

    def close(self, linger_s: float = 0.0) -> None:
        """Close; what was taken has arrived already. May be called twice."""
        with self._hub.lock:
            if not self._closed:
                self._closed = True
                self._leave()

    def _leave(self) -> None:
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._closed:
            raise TransportError("This end of the transport is closed.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class InprocMasterTransport(_InprocEnd, MasterTransport):
    """The master's end; made by `InprocHub.bind`."""

    _names = itertools.count(1)  # across hubs: a name is never used again

    def __init__(self, hub: InprocHub) -> None:
        super().__init__(hub)
        self.address = hub.address
        self.trusted = True
        self._workers: dict[bytes, InprocWorkerTransport] = {}
        self._inbox: deque[tuple[bytes, list[Buffer]]] = deque()
        self._n_queued: dict[bytes, int] = {}
        self._disconnected = False

    # --- called by the hub and by workers, under the lock ----------------------------------------

    def admit(self, worker: InprocWorkerTransport) -> None:
        """Connect a worker under a new name."""
        peer = b"%08x" % next(self._names)
        self._workers[peer] = worker
        self._n_queued[peer] = 0
        worker.attach(peer, self)

    def dismiss(self, worker: InprocWorkerTransport) -> None:
        """Drop the connection of a worker."""
        assert worker.peer is not None
        del self._workers[worker.peer]
        del self._n_queued[worker.peer]
        self._disconnected = True
        self.notify()
        worker.detach()

    def deliver(self, peer: bytes, frames: list[Buffer]) -> Sent:
        """Take a message from a worker."""
        if self._n_queued[peer] >= self._hub.capacity:
            return Sent.FULL
        self._n_queued[peer] += 1
        self._inbox.append((peer, frames))
        self._changed.notify_all()
        return Sent.TAKEN

    # --- the contract ----------------------------------------------------------------------------

    def send(self, peer: bytes, frames: Sequence[Buffer]) -> Sent:
        """Send one message to one peer, without waiting."""
        message = _copied(frames)
        with self._hub.lock:
            self._check_open()
            worker = self._workers.get(peer)
            return Sent.GONE if worker is None else worker.deliver(message)

    def receive(self) -> Received | None:
        """Return the next message, or None when there is none now."""
        with self._hub.lock:
            self._check_open()
            if not self._inbox:
                return None
            peer, frames = self._inbox.popleft()
            if peer in self._n_queued:
                self._n_queued[peer] -= 1
            return Received(peer, self._hub.user, frames)

    def take_disconnected(self) -> bool:
        """Say whether any connection has dropped since the last call."""
        with self._hub.lock:
            answer = self._disconnected
            self._disconnected = False
            return answer

    def is_connected(self, peer: bytes) -> bool:
        """Say whether this peer is connected."""
        with self._hub.lock:
            return peer in self._workers

    def take_counters(self) -> dict[str, int]:
        """Return nothing: nothing is dropped below the protocol here."""
        return {}

    def _has_news(self) -> bool:
        return bool(self._inbox)

    def _leave(self) -> None:
        for worker in list(self._workers.values()):
            self.dismiss(worker)
            self._hub.waiting.append(worker)
        self._inbox.clear()
        self._hub.master = None


class InprocWorkerTransport(_InprocEnd, WorkerTransport):
    """A worker's end; made by `InprocHub.connect`.

    Attributes
    ----------
    peer : bytes or None
        Its name at the master's end; None while there is no connection.
    """

    def __init__(self, hub: InprocHub) -> None:
        super().__init__(hub)
        self.trusted = True
        self.peer: bytes | None = None
        self._master: InprocMasterTransport | None = None
        self._inbox: deque[list[Buffer]] = deque()
        self._reconnected = False
        self._failure = ""

    # --- called by the hub and by the master, under the lock -------------------------------------

    def attach(self, peer: bytes, master: InprocMasterTransport) -> None:
        """Become connected."""
        self.peer, self._master = peer, master
        self._reconnected = True
        self.notify()

    def detach(self) -> None:
        """Lose the connection; what has arrived stays readable."""
        self.peer = self._master = None

    def deliver(self, frames: list[Buffer]) -> Sent:
        """Take a message from the master."""
        if len(self._inbox) >= self._hub.capacity:
            return Sent.FULL
        self._inbox.append(frames)
        self._changed.notify_all()
        return Sent.TAKEN

    # --- for tests -------------------------------------------------------------------------------

    def fail(self, reason: str) -> None:
        """Let `take_failure` return this, once."""
        with self._hub.lock:
            self._failure = reason
            self.notify()

    # --- the contract ----------------------------------------------------------------------------

    def send(self, frames: Sequence[Buffer]) -> Sent:
        """Send one message to the master, without waiting; `Sent.FULL` without a connection too."""
        message = _copied(frames)
        with self._hub.lock:
            self._check_open()
            if self._master is None or self.peer is None:
                return Sent.FULL
            return self._master.deliver(self.peer, message)

    def receive(self) -> Sequence[Buffer] | None:
        """Return the frames of the next message, or None when there is none now."""
        with self._hub.lock:
            self._check_open()
            return self._inbox.popleft() if self._inbox else None

    def take_reconnected(self) -> bool:
        """Say whether the connection was made anew since the last call (the first one included)."""
        with self._hub.lock:
            answer = self._reconnected
            self._reconnected = False
            return answer

    def take_failure(self) -> str:
        """Return what `fail` was given, once; '' for nothing."""
        with self._hub.lock:
            answer = self._failure
            self._failure = ""
            return answer

    def _has_news(self) -> bool:
        return bool(self._inbox)

    def _leave(self) -> None:
        if self._master is not None:
            self._master.dismiss(self)
        elif self in self._hub.waiting:
            self._hub.waiting.remove(self)


def _copied(frames: Sequence[Buffer]) -> list[Buffer]:
    if not frames or (len(frames) == 1 and not frames[0]):
        raise LocalProtocolError("An empty message cannot be sent: it is the probe.")
    return [bytes(frame) for frame in frames]
