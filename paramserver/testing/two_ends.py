"""Both ends of a transport, driven by one thread, as checks of its contract need them.

Rule 1: every wait ends within `PATIENCE_S`, or raises an AssertionError that says what for.
Rule 2: an end that is not waited for is polled all the same: it may have to do something, too.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from paramserver.protocol.messages import Buffer
from paramserver.transport.base import MasterTransport, Received, Sent, WorkerTransport

MasterMaker: TypeAlias = Callable[[str], MasterTransport]
"""Opens a master's end: at a new address for '', else once more at the address given."""
WorkerMaker: TypeAlias = Callable[[str], WorkerTransport]
"""Opens a worker's end that dials the address given."""


PATIENCE_S: Final = 20.0
SLICE_S: Final = 0.02


@contextmanager
def connected(
    make_master: MasterMaker, make_worker: WorkerMaker
) -> Iterator[tuple[MasterTransport, WorkerTransport, bytes]]:
    """Give a master, a worker that has said hello, and the worker's name."""
    with ExitStack() as stack:
        master = make_master("")
        stack.callback(master.close)
        worker = make_worker(master.address)
        stack.callback(worker.close)
        assert master.trusted == worker.trusted, "the two ends disagree about trust"
        send_to_master(worker, [b"hello"], master)
        received = receive_at_master(master, worker)
        assert isinstance(received.user, str), "the user of a message must be a str"
        assert isinstance(received.address, str), "the address of a message must be a str"
        yield master, worker, received.peer


def wait(
    is_true: Callable[[], bool], otherwise: str, *ends: MasterTransport | WorkerTransport
) -> None:
    """Wait for something at the first end, and let the others do what they do while they poll."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline, otherwise
        for end in reversed(ends):
            end.poll(SLICE_S if end is ends[0] else 0.0)


def send_to_master(
    worker: WorkerTransport, frames: Sequence[Buffer], *others: MasterTransport
) -> None:
    """Send a message, waiting for room; the others poll meanwhile."""
    wait(
        lambda: worker.send(frames) is Sent.TAKEN,
        "the worker could not send to the master",
        worker,
        *others,
    )


def send_to_worker(master: MasterTransport, peer: bytes, frames: Sequence[Buffer]) -> None:
    """Send a message, waiting for room."""

    def is_sent() -> bool:
        sent = master.send(peer, frames)
        assert sent is not Sent.GONE, "a send to a connected worker was GONE"
        return sent is Sent.TAKEN

    wait(is_sent, "the master could not send to the worker", master)


def receive_at_master(master: MasterTransport, worker: WorkerTransport) -> Received:
    """Wait for a message, while the worker polls."""
    found: list[Received] = []

    def has_come() -> bool:
        received = master.receive()
        if received is not None:
            found.append(received)
        return received is not None

    wait(has_come, f"a message did not reach the master ({worker.take_failure()})", master, worker)
    return found[0]


def receive_at_worker(worker: WorkerTransport, master: MasterTransport) -> Sequence[Buffer]:
    """Wait for a message, while the master polls."""
    found: list[Sequence[Buffer]] = []

    def has_come() -> bool:
        frames = worker.receive()
        if frames is not None:
            found.append(frames)
        return frames is not None

    wait(has_come, "a message did not reach the worker", worker, master)
    return found[0]


def settle(end: MasterTransport | WorkerTransport) -> None:
    """Wait until nothing ends a poll early."""

    def is_quiet() -> bool:
        end.receive()
        before = time.monotonic()
        end.poll(0.1)
        return time.monotonic() - before > 0.05

    wait(is_quiet, "polls end early although nothing happens")


def expect_poll(
    end: MasterTransport | WorkerTransport, timeout_s: float | None, otherwise: str
) -> None:
    """Poll, and be rescued by a wake (and complain) when it does not end."""
    is_rescued = threading.Event()

    def rescue() -> None:
        is_rescued.set()
        end.wake()

    rescuer = threading.Timer(PATIENCE_S / 2, rescue)
    rescuer.start()
    try:
        end.poll(timeout_s)
    finally:
        rescuer.cancel()
        rescuer.join()
    assert not is_rescued.is_set(), otherwise


def plain(frames: Sequence[Buffer]) -> list[bytes]:
    """Return frames as bytes, to be compared."""
    return [bytes(frame) for frame in frames]


def count_open() -> tuple[int, int]:
    """Return the numbers of threads (those of C libraries too) and of open descriptors."""
    if sys.platform.startswith("linux"):
        tasks = Path("/proc/self/task")
        deadline = time.monotonic() + PATIENCE_S
        counts: list[tuple[int, int]] = []
        while time.monotonic() < deadline:
            # A thread that has been joined is listed for a moment still: look until it stays.
            counts.append((len(list(tasks.iterdir())), len(os.listdir("/proc/self/fd"))))
            if counts[-5:] == [counts[-1]] * 5:
                break
            os.sched_yield()
        return counts[-1]
    return threading.active_count(), 0
