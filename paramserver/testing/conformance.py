"""Does a transport keep the contract of `paramserver.transport.base`? Shipped for third parties.

Rule 1: a check ends within `PATIENCE_S` or raises an AssertionError that says in words which
        promise was broken.
Rule 2: only the contract is used; nothing is known of what is behind it.
Rule 3: what a check opens it closes, also when it fails.
"""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import ExitStack
from typing import Final

from paramserver.errors import LocalProtocolError
from paramserver.protocol.messages import Buffer
from paramserver.testing.two_ends import (
    SLICE_S,
    connected,
    count_open,
    expect_poll,
    plain,
    receive_at_master,
    receive_at_worker,
    send_to_master,
    send_to_worker,
    settle,
    wait,
)
from paramserver.testing.two_ends import MasterMaker as MasterMaker
from paramserver.testing.two_ends import WorkerMaker as WorkerMaker
from paramserver.transport.base import Sent


def check_transport(make_master: MasterMaker, make_worker: WorkerMaker) -> None:
    """Check a pair of transports against every promise of the contract.

    Parameters
    ----------
    make_master : callable
        Takes an address ('' for a new one) and returns a `MasterTransport`.
    make_worker : callable
        Takes the address of such a master and returns a `WorkerTransport`.

    Raises
    ------
    AssertionError
        If a promise is broken; the message names it.

    Examples
    --------
    >>> from paramserver.transport.inproc import InprocHub
    >>> hub = InprocHub()
    >>> check_transport(lambda address: hub.bind(), lambda address: hub.connect())
    """
    for check in TRANSPORT_CHECKS:
        check(make_master, make_worker)


def check_frames_arrive_as_they_were(make_master: MasterMaker, make_worker: WorkerMaker) -> None:
    """Frames keep their bytes and their boundaries, whatever kind of buffer they came in."""
    message: list[Buffer] = [b"a", b"", bytearray(b"bc"), memoryview(b"defg")[1:3], b"\0\xff"]
    expected = [b"a", b"", b"bc", b"ef", b"\0\xff"]
    with connected(make_master, make_worker) as (master, worker, peer):
        send_to_master(worker, message)
        received = receive_at_master(master, worker)
        assert plain(received.frames) == expected, "frames changed on the way to the master"
        assert received.peer == peer, "one connection has spoken under two names"
        send_to_worker(master, peer, message)
        assert plain(receive_at_worker(worker, master)) == expected, (
            "frames changed on the way to the worker"
        )
        for send in (worker.send, lambda frames: master.send(peer, frames)):
            for nothing in ([], [b""]):
                try:
                    send(nothing)
                except LocalProtocolError:
                    continue
                raise AssertionError(f"sending {nothing} must raise LocalProtocolError")


def check_large_frames_arrive_whole(make_master: MasterMaker, make_worker: WorkerMaker) -> None:
    """Frames up to 16 MiB arrive unchanged among small ones, both ways."""
    sizes = [10, 65_535, 65_536, 3, 1_048_576, 16 * 1_048_576, 1]
    # Seeded by its position, so that frames that change places are noticed.
    message = [hashlib.shake_128(bytes([i])).digest(size) for i, size in enumerate(sizes)]
    digests = [hashlib.sha256(frame).digest() for frame in message]
    with connected(make_master, make_worker) as (master, worker, peer):
        send_to_master(worker, message)
        there = receive_at_master(master, worker).frames
        assert [hashlib.sha256(frame).digest() for frame in there] == digests, (
            "large frames changed on the way to the master"
        )
        send_to_worker(master, peer, there)
        back = receive_at_worker(worker, master)
        assert [hashlib.sha256(frame).digest() for frame in back] == digests, (
            "large frames changed on the way to the worker"
        )


def check_order_is_kept(make_master: MasterMaker, make_worker: WorkerMaker) -> None:
    """Messages of one connection arrive in the order they were sent in, each once."""
    n_messages, n_at_once = 500, 10
    up: list[int] = []
    down: list[int] = []
    with connected(make_master, make_worker) as (master, worker, peer):
        for start in range(0, n_messages, n_at_once):
            for i in range(start, start + n_at_once):
                send_to_master(worker, [b"%d" % i, b"x" * (i * 37 % 5000)])
                send_to_worker(master, peer, [b"%d" % i, b"y" * (i * 41 % 5000)])
            for _ in range(n_at_once):
                up.append(int(receive_at_master(master, worker).frames[0]))
                down.append(int(receive_at_worker(worker, master)[0]))
        assert up == list(range(n_messages)), "the master received out of order"
        assert down == list(range(n_messages)), "the worker received out of order"
        assert master.receive() is None, "the master received more than was sent"
        assert worker.receive() is None, "the worker received more than was sent"


def check_a_full_queue_is_told(make_master: MasterMaker, make_worker: WorkerMaker) -> None:
    """Who does not read makes a send say FULL, in the end; what was taken is not lost by it."""
    filler = b"z" * 20_000
    most = 200_000
    with connected(make_master, make_worker) as (master, worker, peer):
        for n_taken in range(most):
            sent = master.send(peer, [b"%d" % n_taken, filler])
            if sent is Sent.FULL:
                break
            assert sent is Sent.TAKEN, f"a send to a slow reader must not be {sent}"
        else:
            raise AssertionError(f"{most} messages were queued for a worker that does not read")
        assert master.is_connected(peer), "a peer with a full queue must count as connected"
        got = [int(receive_at_worker(worker, master)[0]) for _ in range(n_taken)]
        assert got == list(range(n_taken)), "messages were lost around a full queue (to worker)"
        send_to_worker(master, peer, [b"room again"])
        assert plain(receive_at_worker(worker, master)) == [b"room again"]
        for n_taken in range(most):
            if worker.send([b"%d" % n_taken, filler]) is Sent.FULL:
                break
        else:
            raise AssertionError(f"{most} messages were queued for a master that does not read")
        up = [int(receive_at_master(master, worker).frames[0]) for _ in range(n_taken)]
        assert up == list(range(n_taken)), "messages were lost around a full queue (to master)"
        send_to_master(worker, [b"room again"])
        assert plain(receive_at_master(master, worker).frames) == [b"room again"]


def check_a_probe_costs_nothing(make_master: MasterMaker, make_worker: WorkerMaker) -> None:
    """`is_connected` answers truly, and the worker sees nothing of it."""
    with connected(make_master, make_worker) as (master, worker, peer):
        for i in range(50):
            assert master.is_connected(peer), "a connected peer was said not to be"
            send_to_worker(master, peer, [b"%d" % i])
        got = [plain(receive_at_worker(worker, master)) for _ in range(50)]
        assert got == [[b"%d" % i] for i in range(50)], "probes got in the way of messages"
        worker.poll(SLICE_S)
        assert worker.receive() is None, "the worker received a probe"
        assert not master.is_connected(b"nobody"), "a name that was never given is connected"
        assert master.send(b"nobody", [b"x"]) is Sent.GONE, (
            "a send to a name that was never given must be GONE"
        )


def check_a_lost_peer_is_noticed(make_master: MasterMaker, make_worker: WorkerMaker) -> None:
    """After a worker has closed, the master is told, its sends are GONE, its name is not reused."""
    names = set()
    with ExitStack() as stack:
        master = make_master("")
        stack.callback(master.close)
        for _ in range(3):
            worker = make_worker(master.address)
            stack.callback(worker.close)
            send_to_master(worker, [b"hello"], master)
            peer = receive_at_master(master, worker).peer
            assert peer not in names, "the name of a lost connection was given again"
            names.add(peer)
            master.take_disconnected()
            worker.close()
            wait(lambda: master.take_disconnected(), "take_disconnected never became true", master)
            wait(
                lambda peer=peer: not master.is_connected(peer),  # type: ignore[misc]
                "a closed peer is still said to be connected",
                master,
            )
            assert master.send(peer, [b"x"]) is Sent.GONE, "a send to a closed peer must be GONE"


def check_a_reconnection_is_noticed(make_master: MasterMaker, make_worker: WorkerMaker) -> None:
    """A worker outlives its master, queues nothing meanwhile, and notices the next one, once."""
    with ExitStack() as stack:
        first = make_master("")
        stack.callback(first.close)
        worker = make_worker(first.address)
        stack.callback(worker.close)
        send_to_master(worker, [b"one"], first)
        assert plain(receive_at_master(first, worker).frames) == [b"one"]
        assert worker.take_reconnected(), "the first connection must count as a reconnection"
        assert not worker.take_reconnected(), "take_reconnected must take"
        first.close()
        wait(
            lambda: worker.send([b"into the void"]) is Sent.FULL,
            "without a master a send must be FULL, not queued for the next one",
            worker,
        )
        second = make_master(first.address)
        stack.callback(second.close)
        wait(worker.take_reconnected, "the new connection was not noticed", worker, second)
        assert not worker.take_reconnected(), "one new connection was noticed twice"
        send_to_master(worker, [b"two"], second)
        assert plain(receive_at_master(second, worker).frames) == [b"two"], (
            "what was sent while no master was there reached the next one"
        )
        assert worker.take_failure() == "", "an absent master is no failure to connect"


def check_a_wake_ends_one_poll(make_master: MasterMaker, make_worker: WorkerMaker) -> None:
    """`wake` ends the current poll or else the next one, from any thread, and only one."""
    with connected(make_master, make_worker) as (master, worker, _peer):
        for end in (master, worker):
            settle(end)
            for _ in range(1000):
                end.wake()
            expect_poll(end, None, "a wake before a poll must end it")
            before = time.monotonic()
            end.poll(0.1)
            assert time.monotonic() - before > 0.05, "one wake has ended two polls"
            ringer = threading.Timer(0.05, end.wake)
            ringer.start()
            expect_poll(end, None, "a wake from another thread must end the poll")
            ringer.join()


def check_a_message_ends_a_poll(make_master: MasterMaker, make_worker: WorkerMaker) -> None:
    """A poll ends by a message, and does not sleep over one that is there already."""
    with connected(make_master, make_worker) as (master, worker, peer):
        for i in range(20):
            send_to_master(worker, [b"one"])
            send_to_master(worker, [b"two"])
            for _ in range(2):
                expect_poll(master, None, f"message {i} did not end the master's poll")
                receive_at_master(master, worker)
            send_to_worker(master, peer, [b"one"])
            send_to_worker(master, peer, [b"two"])
            for _ in range(2):
                expect_poll(worker, None, f"message {i} did not end the worker's poll")
                receive_at_worker(worker, master)


def check_nothing_is_left_open(make_master: MasterMaker, make_worker: WorkerMaker) -> None:
    """Closing gives threads and descriptors back, at once, with messages still under way."""
    large = b"l" * 2_000_000
    counts = []
    for _ in range(4):
        with connected(make_master, make_worker) as (master, worker, peer):
            for _ in range(20):
                master.send(peer, [b"unread", large])
                worker.send([b"unread", large])
            before = time.monotonic()
            for _ in range(2):
                worker.close()
                master.close()
            assert time.monotonic() - before < 5.0, "closing without linger took seconds"
            master.wake()
            worker.wake()
        counts.append(count_open())
    # The first round is left out: what a library starts once in a process is no leak.
    assert counts[1:] == [counts[1]] * 3, (
        f"threads and descriptors grow from one connection to the next: {counts}"
    )


TRANSPORT_CHECKS: Final = (
    check_frames_arrive_as_they_were,
    check_large_frames_arrive_whole,
    check_order_is_kept,
    check_a_full_queue_is_told,
    check_a_probe_costs_nothing,
    check_a_lost_peer_is_noticed,
    check_a_reconnection_is_noticed,
    check_a_wake_ends_one_poll,
    check_a_message_ends_a_poll,
    check_nothing_is_left_open,
)
"""Every promise, one function each; all of them take the makers that `check_transport` takes."""
