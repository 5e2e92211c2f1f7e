"""What becomes of a connection when a process dies, pauses, forks, or breaks the rules."""

from __future__ import annotations

import functools
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils import garbage

from paramserver.errors import LocalProtocolError, MessageTooLarge, TransportError
from paramserver.transport import zmq_end
from paramserver.transport.base import Received, Sent
from paramserver.transport.zmq_end import LENT_BYTES, MAX_FRAME_BYTES
from paramserver.transport.zmq_master import ZmqMasterTransport
from paramserver.transport.zmq_worker import ZmqWorkerTransport

PATIENCE_S = 30.0


@pytest.fixture
def address(tmp_path: Path) -> str:
    tmp_path.chmod(0o700)
    return f"ipc://{tmp_path}/s"


@pytest.fixture
def master(address: str) -> Iterator[ZmqMasterTransport]:
    with ZmqMasterTransport.bind(address) as master:
        yield master
    garbage.gc.stop()


@pytest.fixture
def worker(master: ZmqMasterTransport) -> Iterator[ZmqWorkerTransport]:
    with ZmqWorkerTransport.connect(master.address) as worker:
        yield worker


def _receive(master: ZmqMasterTransport) -> Received:
    deadline = time.monotonic() + PATIENCE_S
    while (received := master.receive()) is None:
        assert time.monotonic() < deadline, "nothing came"
        master.poll(0.1)
    return received


def _send(worker: ZmqWorkerTransport, frames: list[Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while worker.send(frames) is not Sent.TAKEN:
        assert time.monotonic() < deadline, worker.take_failure()
        worker.poll(0.01)


def _take(worker: ZmqWorkerTransport) -> list[bytes]:
    deadline = time.monotonic() + PATIENCE_S
    while (frames := worker.receive()) is None:
        assert time.monotonic() < deadline, "nothing came"
        worker.poll(0.1)
    return [bytes(frame) for frame in frames]


def _wait_for_loss(master: ZmqMasterTransport, peer: bytes) -> float:
    """Wait as a master does: probe when told that a connection has dropped."""
    start = time.monotonic()
    while not (master.take_disconnected() and not master.is_connected(peer)):
        assert time.monotonic() - start < PATIENCE_S, "the loss was not noticed"
        master.poll(PATIENCE_S)
        while master.receive() is not None:
            pass
    return time.monotonic() - start


ECHO = """
    import sys
    from paramserver.transport.base import Sent
    from paramserver.transport.zmq_worker import ZmqWorkerTransport
    worker = ZmqWorkerTransport.connect(sys.argv[1])
    reply = [b"hello"]
    while True:
        while worker.send(reply) is not Sent.TAKEN:
            worker.poll(0.01)
        while (reply := worker.receive()) is None:
            worker.poll(None)
            if worker.take_reconnected():
                reply = [b"hello again"]
                break
"""


@pytest.fixture
def echo(master: ZmqMasterTransport) -> Iterator[subprocess.Popen[bytes]]:
    code = textwrap.dedent(ECHO)
    process = subprocess.Popen([sys.executable, "-c", code, master.address])
    yield process
    process.kill()
    process.wait(10)


# --- loss -----------------------------------------------------------------------------------------


def test_a_killed_worker_is_noticed_at_once(
    master: ZmqMasterTransport, echo: subprocess.Popen[bytes]
) -> None:
    peer = _receive(master).peer
    assert master.is_connected(peer)
    echo.kill()
    assert _wait_for_loss(master, peer) < 2.0
    assert master.send(peer, [b"x"]) is Sent.GONE


def test_a_paused_worker_is_noticed_by_its_silence_and_comes_back_under_another_name(
    master: ZmqMasterTransport, echo: subprocess.Popen[bytes]
) -> None:
    peer = _receive(master).peer
    echo.send_signal(signal.SIGSTOP)
    assert 2.0 < _wait_for_loss(master, peer) < 10.0
    echo.send_signal(signal.SIGCONT)
    received = _receive(master)
    assert received.frames == [b"hello again"]
    assert received.peer != peer
    assert master.is_connected(received.peer)


def test_a_drop_is_told_again_for_those_who_asked_too_early(
    master: ZmqMasterTransport, worker: ZmqWorkerTransport
) -> None:
    _send(worker, [b"hello"])
    _receive(master)
    worker.close()
    told: list[float] = []
    start = time.monotonic()
    while len(told) < 3:
        assert time.monotonic() - start < PATIENCE_S
        master.poll(PATIENCE_S)  # ends by itself when it is time to tell again
        if master.take_disconnected():
            told.append(time.monotonic() - start)
    assert told[1] >= 0.05
    assert told[2] >= 1.0
    master.poll(0.1)
    assert not master.take_disconnected()


def test_a_worker_dials_again_where_zeromq_has_given_up(
    master: ZmqMasterTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(zmq_end, "MAX_FRAME_BYTES", 100_000)
        worker = ZmqWorkerTransport.connect(master.address)
    with worker:
        _send(worker, [b"hello"])
        first = _receive(master).peer
        assert worker.take_reconnected()
        # To the worker this frame is a breach of the protocol: ZeroMQ hangs up for good.
        assert master.send(first, [bytes(200_000)]) is Sent.TAKEN
        deadline = time.monotonic() + PATIENCE_S
        while not worker.take_reconnected():
            assert time.monotonic() < deadline, "the worker is cut off for ever"
            worker.poll(PATIENCE_S)
            assert worker.receive() is None
        _send(worker, [b"hello again"])
        second = _receive(master)
        assert second.frames == [b"hello again"]
        assert second.peer != first
        assert worker.take_failure() == ""


class _Meddler:
    """A socket that lets something happen before it sends its n-th frame."""

    def __init__(self, socket: Any, before: int, meddle: Any) -> None:
        self._socket = socket
        self._left = before
        self._meddle = meddle

    def send(self, *arguments: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            self._meddle()
        return self._socket.send(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


@pytest.mark.parametrize("nth_frame", [2, 3, 4])
def test_a_message_cut_off_between_two_frames_does_not_arrive_in_pieces(
    address: str, nth_frame: int
) -> None:
    first = ZmqMasterTransport.bind(address)
    with ZmqWorkerTransport.connect(address) as worker:
        _send(worker, [b"hello"])
        _receive(first)
        socket = worker._socket

        def close_the_master() -> None:
            first.close()
            assert worker._monitor.poll(10_000), "the connection stays up"
            assert select.select([int(socket.get(zmq.FD))], [], [], 10)[0]
            socket.get(zmq.EVENTS)  # takes in what the I/O thread has said

        worker._socket = _Meddler(socket, nth_frame, close_the_master)  # type: ignore[assignment]
        try:
            worker.send([b"a", b"b", b"c", b"d"])
        finally:
            worker._socket = socket
        with ZmqMasterTransport.bind(address) as second:
            for i in range(3):
                _send(worker, [b"whole", b"%d" % i])
            assert [_receive(second).frames for _ in range(3)] == [
                [b"whole", b"0"],
                [b"whole", b"1"],
                [b"whole", b"2"],
            ]


# --- limits ---------------------------------------------------------------------------------------


def test_a_frame_over_the_limit_is_refused_before_anything_is_sent(
    master: ZmqMasterTransport, worker: ZmqWorkerTransport
) -> None:
    _send(worker, [b"hello"])
    peer = _receive(master).peer
    too_large = [b"head", bytes(MAX_FRAME_BYTES + 1)]
    for send in (worker.send, lambda frames: master.send(peer, frames)):
        with pytest.raises(MessageTooLarge, match="Split it") as caught:
            send(too_large)
        assert caught.value.size_bytes == MAX_FRAME_BYTES + 1
        assert caught.value.limit_bytes == MAX_FRAME_BYTES
        with pytest.raises(LocalProtocolError, match="contiguous"):
            send([b"head", memoryview(b"abcdef")[::2]])
    _send(worker, [b"whole"])
    assert _receive(master).frames == [b"whole"]
    assert master.send(peer, [b"whole"]) is Sent.TAKEN
    assert _take(worker) == [b"whole"]


def test_a_frame_may_be_measured_in_numbers_wider_than_a_byte(
    master: ZmqMasterTransport, worker: ZmqWorkerTransport
) -> None:
    doubles = memoryview(bytearray(range(256)) * (LENT_BYTES // 128)).cast("d")
    _send(worker, [doubles, doubles[:3]])
    frames = _receive(master).frames
    assert [bytes(frame) for frame in frames] == [doubles.tobytes(), doubles[:3].tobytes()]


def test_a_small_frame_belongs_to_its_owner_again_when_it_is_sent(
    master: ZmqMasterTransport, worker: ZmqWorkerTransport
) -> None:
    frame = bytearray(b"1" * (LENT_BYTES - 1))
    _send(worker, [b"hello", frame])
    frame[:] = b"2" * len(frame)
    assert bytes(_receive(master).frames[1]) == b"1" * (LENT_BYTES - 1)


# --- the end --------------------------------------------------------------------------------------


def test_what_was_taken_leaves_within_the_linger(
    master: ZmqMasterTransport, worker: ZmqWorkerTransport
) -> None:
    _send(worker, [b"hello"])
    _receive(master)
    n_messages = 20
    for i in range(n_messages):
        _send(worker, [b"%d" % i, bytes(MAX_FRAME_BYTES)])
    reader = threading.Thread(target=worker.close, args=(PATIENCE_S,))
    reader.start()  # closing waits until all has left, and all leaves only while we read
    try:
        got = [int(bytes(_receive(master).frames[0])) for _ in range(n_messages)]
    finally:
        reader.join()
    assert got == list(range(n_messages))


def test_closing_waits_no_longer_than_the_linger_for_one_who_does_not_read(
    master: ZmqMasterTransport, echo: subprocess.Popen[bytes]
) -> None:
    peer = _receive(master).peer
    echo.send_signal(signal.SIGSTOP)
    for _ in range(10):
        assert master.send(peer, [bytes(MAX_FRAME_BYTES)]) is Sent.TAKEN
    start = time.monotonic()
    master.close(linger_s=0.5)
    assert 0.4 < time.monotonic() - start < PATIENCE_S


def test_closing_without_linger_waits_for_nobody(
    master: ZmqMasterTransport, echo: subprocess.Popen[bytes]
) -> None:
    peer = _receive(master).peer
    echo.send_signal(signal.SIGSTOP)
    for _ in range(10):
        assert master.send(peer, [bytes(MAX_FRAME_BYTES)]) is Sent.TAKEN
    start = time.monotonic()
    master.close()
    assert time.monotonic() - start < PATIENCE_S


def test_a_wake_may_come_while_an_end_is_closed(address: str) -> None:
    stop = threading.Event()
    ends: list[ZmqMasterTransport] = []

    def ring() -> None:
        while not stop.is_set():
            for end in ends:
                end.wake()

    ringer = threading.Thread(target=ring)
    ringer.start()
    try:
        for _ in range(50):
            with ZmqMasterTransport.bind(address) as master:
                ends[:] = [master]
                master.poll(PATIENCE_S)
    finally:
        stop.set()
        ringer.join()


def test_an_address_in_use_is_told_in_words() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with ZmqMasterTransport.bind("tcp://127.0.0.1:0", allow_insecure=True) as master:
            with pytest.raises(TransportError, match=r"Cannot listen at.*in use"):
                ZmqMasterTransport.bind(master.address, allow_insecure=True)
            with pytest.raises(TransportError, match="Cannot listen at"):
                ZmqMasterTransport.bind("tcp://192.0.2.1:0", allow_insecure=True)
            with pytest.raises(TransportError, match="no address or network interface of"):
                ZmqMasterTransport.bind("tcp://no-such-place:0", allow_insecure=True)


# --- other descriptors ----------------------------------------------------------------------------


def test_a_watched_descriptor_may_be_unwatched_by_another_that_is_ready(
    master: ZmqMasterTransport,
) -> None:
    ends = [os.pipe() for _ in range(2)]
    readable = [end[0] for end in ends]
    heard: list[int] = []

    def hear(mine: int, others: int) -> None:
        heard.append(mine)
        os.read(mine, 1)
        master.unwatch(others)

    try:
        for mine, others in (readable, readable[::-1]):
            master.watch(mine, functools.partial(hear, mine, others))
        for _, writable in ends:
            os.write(writable, b"x")
        master.poll(0.1)
        assert len(heard) == 1
        master.unwatch(heard[0])
        master.wake()
        start = time.monotonic()
        master.poll(PATIENCE_S)
        assert time.monotonic() - start < PATIENCE_S / 2
        assert len(heard) == 1
    finally:
        for end in ends:
            for fd in end:
                os.close(fd)


# --- other processes ------------------------------------------------------------------------------


def test_a_fork_leaves_the_parents_connection_alone(
    master: ZmqMasterTransport, worker: ZmqWorkerTransport
) -> None:
    _send(worker, [b"before"])
    _receive(master)
    with warnings.catch_warnings():
        # From Python 3.12 on a fork beside threads warns, and rightly so.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            worker.close()
            master.close(linger_s=10.0)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    _send(worker, [b"after"])
    received = _receive(master)
    assert received.frames == [b"after"]
    assert not master.take_disconnected()
    assert Path(master.address.removeprefix("ipc://")).exists()


def test_a_child_process_inherits_no_descriptor(
    master: ZmqMasterTransport, worker: ZmqWorkerTransport
) -> None:
    _send(worker, [b"hello"])
    _receive(master)
    code = "import os; print(*[os.readlink(e.path) for e in os.scandir('/proc/self/fd')][:-1])"
    child = subprocess.run(
        [sys.executable, "-c", code],
        close_fds=False,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
    )
    assert "socket:" not in child.stdout
    assert "[eventfd]" not in child.stdout
    assert "[eventpoll]" not in child.stdout
