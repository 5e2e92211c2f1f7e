"""What a kernel socket adds to the contract: who is let in, who is stopped, what waits for room."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paramserver.errors import ConfigError, TransportError
from paramserver.transport import descriptors, unix_master
from paramserver.transport.base import Received, Sent
from paramserver.transport.stopped import is_stopped
from paramserver.transport.unix_master import STOPPED_S, UnixMasterTransport
from paramserver.transport.unix_worker import UnixWorkerTransport

PATIENCE_S = 20.0
LARGE = 16 * 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def master(folder: Path) -> Iterator[UnixMasterTransport]:
    with UnixMasterTransport.bind(f"unix://{folder}/s") as master:
        yield master


@pytest.fixture
def worker(master: UnixMasterTransport) -> Iterator[UnixWorkerTransport]:
    with UnixWorkerTransport.connect(master.address) as worker:
        yield worker


def _until(is_true: Callable[[], object], *ends: UnixMasterTransport | UnixWorkerTransport) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline
        for end in ends:
            end.poll(0.005)


def _receive(master: UnixMasterTransport) -> Received:
    found: list[Received] = []

    def has_come() -> bool:
        received = master.receive()
        found.extend([received] if received else [])
        return bool(found)

    _until(has_come, master)
    return found[0]


# --- addresses and doors --------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["ipc:///tmp/s", "tcp://127.0.0.1:0"])
def test_another_kind_of_address_is_refused(address: str) -> None:
    for opened in (UnixMasterTransport.bind, UnixWorkerTransport.connect):
        with pytest.raises(ConfigError, match="unix:///folder/name"):
            opened(address)


def test_elsewhere_than_on_linux_it_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="on Linux"):
        UnixMasterTransport.bind(f"unix://{folder}/s")


def test_a_folder_that_others_can_enter_is_refused_at_both_ends(folder: Path) -> None:
    folder.chmod(0o750)
    for opened in (UnixMasterTransport.bind, UnixWorkerTransport.connect):
        with pytest.raises(ConfigError, match="chmod 700"):
            opened(f"unix://{folder}/s")


def test_an_address_in_use_is_refused(master: UnixMasterTransport) -> None:
    with pytest.raises(TransportError, match="Cannot listen"):
        UnixMasterTransport.bind(master.address)


def test_another_user_is_not_let_in(
    master: UnixMasterTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(master.address.removeprefix("unix://"))
        stranger.send(struct.pack("=2I", 1, 5) + b"hello")
        master.poll(PATIENCE_S)
        assert master.take_counters() == {"unauthenticated": 1}
        assert master.receive() is None
        with pytest.raises(ConnectionResetError):  # what it had said was never read
            stranger.recv(1)


def test_who_breaks_the_framing_is_cut_off_and_counted(master: UnixMasterTransport) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(master.address.removeprefix("unix://"))
        stranger.sendall(b"\xff" * 100)
        _until(master.take_disconnected, master)
        assert master.take_counters() == {"mismatched": 1}
        assert stranger.recv(1) == b""


def test_a_master_that_breaks_the_framing_is_named(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()
        with UnixWorkerTransport.connect(f"unix://{folder}/s") as worker:
            other, _ = listener.accept()
            other.sendall(b"\xff" * 100)
            worker.poll(PATIENCE_S)
            assert "is no master: a message of 4294967295 frames" in worker.take_failure()
            assert worker.take_failure() == ""
            other.close()


def test_what_is_no_socket_is_a_failure_and_what_is_absent_is_none(folder: Path) -> None:
    with UnixWorkerTransport.connect(f"unix://{folder}/s") as worker:
        assert (worker.send([b"x"]), worker.take_failure()) == (Sent.FULL, "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(f"{folder}/s")
        with UnixWorkerTransport.connect(f"unix://{folder}/s") as worker:
            assert worker.send([b"x"]) is Sent.FULL
            assert "Protocol wrong type" in worker.take_failure()


def test_nobody_is_let_in_while_descriptors_are_scarce(
    master: UnixMasterTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "most_descriptors", lambda: 4)
    with (
        UnixWorkerTransport.connect(master.address) as first,
        UnixWorkerTransport.connect(master.address) as second,
    ):
        _until(lambda: first.send([b"1"]) is Sent.TAKEN)
        assert _receive(master).frames == [b"1"]
        assert master.take_counters() == {"no_descriptors": 1}
        _until(lambda: second.send([b"2"]) is Sent.TAKEN)  # it waits to be let in
        master.poll(0)
        assert master.receive() is None
        monkeypatch.undo()
        assert _receive(master).frames == [b"2"]


# --- loss -----------------------------------------------------------------------------------------

TALKER = """
import sys
from paramserver.transport.unix_worker import UnixWorkerTransport
worker = UnixWorkerTransport.connect(sys.argv[1])
while True:
    if worker.take_reconnected():
        worker.send([b"hello"])
    worker.receive()
    worker.poll(None)
"""


@pytest.fixture
def talker(master: UnixMasterTransport) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", TALKER, master.address])
    yield process
    process.kill()
    process.wait(PATIENCE_S)


def test_a_killed_process_is_noticed_at_once(
    master: UnixMasterTransport, talker: subprocess.Popen[bytes]
) -> None:
    peer = _receive(master).peer
    talker.kill()
    _until(master.take_disconnected, master)
    assert not master.is_connected(peer)
    assert master.send(peer, [b"x"]) is Sent.GONE


def test_a_stopped_process_is_cut_off_after_a_while_and_comes_back_under_another_name(
    master: UnixMasterTransport, talker: subprocess.Popen[bytes]
) -> None:
    peer = _receive(master).peer
    assert not is_stopped(talker.pid)
    talker.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    while not master.take_disconnected():
        assert master.receive() is None
        master.poll(PATIENCE_S)
    assert is_stopped(talker.pid)
    assert time.monotonic() - begun >= STOPPED_S - 1.0
    assert not master.is_connected(peer)
    talker.send_signal(signal.SIGCONT)
    received = _receive(master)
    assert (received.frames, received.peer != peer) == ([b"hello"], True)


def test_a_process_that_was_stopped_for_a_moment_keeps_its_connection(
    master: UnixMasterTransport,
    worker: UnixWorkerTransport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert worker.send([b"x"]) is Sent.TAKEN
    peer = master._peers[_receive(master).peer]
    stopped = True
    monkeypatch.setattr(unix_master, "is_stopped", lambda pid: stopped)
    assert [peer.has_been_stopped(t) for t in (0.0, STOPPED_S - 0.1)] == [False, False]
    stopped = False
    assert not peer.has_been_stopped(STOPPED_S)
    stopped = True
    assert [peer.has_been_stopped(10 + t) for t in (0.0, STOPPED_S)] == [False, True]


def test_the_last_words_of_the_dead_are_heard(
    master: UnixMasterTransport, worker: UnixWorkerTransport
) -> None:
    assert worker.send([b"hello"]) is Sent.TAKEN
    peer = _receive(master).peer
    assert worker.send([b"last", b"words"]) is Sent.TAKEN
    worker.close()
    assert master.send(peer, [b"x"]) is Sent.GONE
    assert _receive(master).frames == [b"last", b"words"]


def test_a_process_without_a_name_in_proc_is_not_stopped() -> None:
    assert not is_stopped(0)
    assert not is_stopped(2**30)


def test_a_closed_descriptor_is_an_error_of_this_process(
    master: UnixMasterTransport, worker: UnixWorkerTransport
) -> None:
    stream = worker._stream
    assert stream is not None
    copy = os.dup(stream.fd)
    os.close(stream.fd)
    try:
        with pytest.raises(TransportError, match="closed the descriptor"):
            worker.send([b"x"])
        with pytest.raises(TransportError, match="closed the descriptor"):
            worker.receive()
    finally:
        os.dup2(copy, stream.fd)
        os.close(copy)


# --- room -----------------------------------------------------------------------------------------


def test_a_message_larger_than_the_kernels_room_leaves_while_its_sender_polls(
    master: UnixMasterTransport, worker: UnixWorkerTransport
) -> None:
    frames = [b"head", os.urandom(LARGE), b"", os.urandom(100_000)]
    assert worker.is_flushed()
    assert worker.send(frames) is Sent.TAKEN
    assert not worker.is_flushed()
    assert worker.send([b"next"]) is Sent.FULL
    found: list[Received] = []

    def has_come() -> bool:
        received = master.receive()
        found.extend([received] if received else [])
        return bool(found)

    _until(has_come, worker, master)
    assert [bytes(frame) for frame in found[0].frames] == frames
    assert worker.is_flushed()
    assert worker.send([b"next"]) is Sent.TAKEN
    assert _receive(master).frames == [b"next"]


def test_what_waits_is_a_copy_unless_it_is_large(
    master: UnixMasterTransport, worker: UnixWorkerTransport
) -> None:
    large, small = bytearray(b"1" * LARGE), bytearray(b"1" * 1000)
    assert worker.send([large, small]) is Sent.TAKEN
    large[-1:] = small[:1] = b"2"
    found: list[Received] = []

    def has_come() -> bool:
        received = master.receive()
        found.extend([received] if received else [])
        return bool(found)

    _until(has_come, worker, master)
    first, second = found[0].frames
    assert (bytes(first[-2:]), bytes(second[:2])) == (b"12", b"11")


def test_closing_gives_what_was_taken_the_time_to_leave(
    master: UnixMasterTransport, folder: Path
) -> None:
    code = (
        "import sys; from paramserver.transport.unix_worker import UnixWorkerTransport as W\n"
        f"w = W.connect(sys.argv[1]); w.send([bytes({LARGE})]); w.close(linger_s=20)"
    )
    with subprocess.Popen([sys.executable, "-c", code, master.address]) as process:
        assert len(_receive(master).frames[0]) == LARGE
    assert process.returncode == 0


def test_a_forked_copy_closes_nothing_of_its_parents(
    master: UnixMasterTransport, worker: UnixWorkerTransport
) -> None:
    assert worker.send([b"hello"]) is Sent.TAKEN
    peer = _receive(master).peer
    pid = os.fork()
    if pid == 0:
        worker.close()
        master.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert Path(master.address.removeprefix("unix://")).exists()
    assert master.send(peer, [b"still here"]) is Sent.TAKEN
    worker.poll(PATIENCE_S)
    assert worker.receive() == [b"still here"]
    assert worker.send([b"me too"]) is Sent.TAKEN
    assert _receive(master).frames == [b"me too"]


def test_a_watched_descriptor_ends_no_poll_and_an_unwatched_one_is_left_alone(
    master: UnixMasterTransport,
) -> None:
    readable, writable = os.pipe()
    seen: list[bytes] = []
    try:
        master.watch(readable, lambda: seen.append(os.read(readable, 10)))
        os.write(writable, b"x")
        begun = time.monotonic()
        master.poll(0.05)
        assert time.monotonic() - begun >= 0.04
        assert seen == [b"x"]
        master.unwatch(readable)
        master.unwatch(readable)
        os.write(writable, b"y")
        master.poll(0.01)
        assert seen == [b"x"]
    finally:
        os.close(readable)
        os.close(writable)
