"""Who gets in over TCP, who does not, and what it costs the master to be knocked at."""

from __future__ import annotations

import dataclasses
import os
import random
import resource
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import zmq
from zmq.utils import garbage

from paramserver.errors import AuthenticationFailed
from paramserver.protocol.limits import DEFAULT_LIMITS, SEALED_LIMITS
from paramserver.transport import zmq_master as transport_module
from paramserver.transport.base import Received, Sent
from paramserver.transport.security import (
    Doorkeeper,
    MasterKeys,
    WorkerKeys,
    load_master_keys,
    load_worker_keys,
    make_keys,
)
from paramserver.transport.zmq_end import MAX_FRAME_BYTES
from paramserver.transport.zmq_master import ZmqMasterTransport
from paramserver.transport.zmq_worker import ZmqWorkerTransport

PATIENCE_S = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_keys(tmp_path / "keys")


@pytest.fixture
def worker_keys(folder: Path) -> WorkerKeys:
    return load_worker_keys(folder)


@pytest.fixture
def other_keys(tmp_path: Path) -> WorkerKeys:
    return load_worker_keys(make_keys(tmp_path / "other keys"))


@pytest.fixture
def master(folder: Path) -> Iterator[ZmqMasterTransport]:
    with ZmqMasterTransport.bind("tcp://127.0.0.1:0", load_master_keys(folder)) as master:
        yield master
    garbage.gc.stop()


def _run_until(is_done: object, *ends: ZmqMasterTransport | ZmqWorkerTransport) -> float:
    """Poll the ends until something is true; return how long that took."""
    assert callable(is_done)
    start = time.monotonic()
    while not is_done():
        assert time.monotonic() - start < PATIENCE_S, "it did not happen"
        for end in ends:
            end.poll(0.01)
    return time.monotonic() - start


def _check_service(master: ZmqMasterTransport, worker: ZmqWorkerTransport) -> float:
    """Exchange a message each way; return how long that took."""
    start = time.monotonic()
    text = os.urandom(8)
    _run_until(lambda: worker.send([b"ask", text]) is Sent.TAKEN, master, worker)
    while (received := master.receive()) is None or list(received.frames) != [b"ask", text]:
        assert time.monotonic() - start < PATIENCE_S
        master.poll(0.1)
    assert (received.user, received.address) == ("worker", "127.0.0.1")
    assert master.send(received.peer, [text]) is Sent.TAKEN
    while worker.receive() is None:
        assert time.monotonic() - start < PATIENCE_S
        worker.poll(0.1)
    return time.monotonic() - start


def _refusal(master: ZmqMasterTransport, stranger: ZmqWorkerTransport) -> str:
    """Let a stranger try for two seconds; return what it was told. It must not be heard."""
    told = ""
    start = time.monotonic()
    while time.monotonic() - start < 2.0:
        stranger.poll(0.01)
        master.poll(0.01)
        assert stranger.send([b"let me in"]) is Sent.FULL, "a stranger has a connection"
        assert master.receive() is None, "a stranger was heard"
        told = told or stranger.take_failure()
    assert not stranger.take_reconnected()
    return told


# --- without the right key ------------------------------------------------------------------------


def test_messages_are_cut_finer_where_they_are_encrypted(
    master: ZmqMasterTransport, worker_keys: WorkerKeys, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    with (
        ZmqWorkerTransport.connect(master.address, worker_keys) as worker,
        ZmqMasterTransport.bind(f"ipc://{tmp_path}/master") as local,
    ):
        assert master.limits is worker.limits is SEALED_LIMITS
        assert local.limits is DEFAULT_LIMITS


def test_a_worker_without_keys_is_refused_and_told_so(master: ZmqMasterTransport) -> None:
    with (
        pytest.warns(RuntimeWarning, match="WITHOUT KEYS"),
        ZmqWorkerTransport.connect(master.address, allow_insecure=True) as stranger,
    ):
        assert "this worker has none" in _refusal(master, stranger)


def test_a_worker_with_the_wrong_key_is_refused_and_told_which_file(
    master: ZmqMasterTransport, worker_keys: WorkerKeys, other_keys: WorkerKeys
) -> None:
    keys = dataclasses.replace(other_keys, master_public=worker_keys.master_public)
    with ZmqWorkerTransport.connect(master.address, keys) as stranger:
        told = _refusal(master, stranger)
    assert "refused this worker's key" in told
    assert f"{other_keys.folder}/worker.secret" in told
    assert master.take_counters()["refused"] >= 1


def test_a_worker_that_expects_another_master_is_told_which_file(
    master: ZmqMasterTransport, other_keys: WorkerKeys
) -> None:
    with ZmqWorkerTransport.connect(master.address, other_keys) as stranger:
        assert f"{other_keys.folder}/master.public" in _refusal(master, stranger)


def test_a_master_without_keys_is_not_talked_to(worker_keys: WorkerKeys) -> None:
    with (
        pytest.warns(RuntimeWarning, match="WITHOUT KEYS"),
        ZmqMasterTransport.bind("tcp://127.0.0.1:0", allow_insecure=True) as open_master,
        ZmqWorkerTransport.connect(open_master.address, worker_keys) as worker,
    ):
        assert "uses no keys" in _refusal(open_master, worker)


def test_a_refused_worker_gets_in_once_its_key_is_accepted(
    folder: Path, worker_keys: WorkerKeys, other_keys: WorkerKeys
) -> None:
    wrong = load_master_keys(folder)
    wrong = dataclasses.replace(wrong, users={other_keys.public: "worker"})
    with ZmqMasterTransport.bind("tcp://127.0.0.1:0", wrong) as first:
        worker = ZmqWorkerTransport.connect(first.address, worker_keys)
        try:
            _run_until(lambda: worker.take_failure() != "", worker, first)
            first.close()
            with ZmqMasterTransport.bind(first.address, load_master_keys(folder)) as second:
                _check_service(second, worker)
        finally:
            worker.close()


def test_a_name_chosen_by_the_peer_is_not_listened_to(
    master: ZmqMasterTransport, worker_keys: WorkerKeys
) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.set(zmq.LINGER, 0)
        worker_keys.apply_to(dealer)
        dealer.set(zmq.ROUTING_ID, b"worker-1")
        dealer.connect(master.address)
        dealer.send(b"it is me, worker-1")
        counters: dict[str, int] = {}

        def is_counted() -> bool:
            assert master.receive() is None
            counters.update(master.take_counters())
            return "chosen_name" in counters

        _run_until(is_counted, master)


# --- when the doorkeeper fails --------------------------------------------------------------------


def test_without_a_doorkeeper_nobody_comes_in(
    master: ZmqMasterTransport, worker_keys: WorkerKeys
) -> None:
    assert master._doorkeeper is not None
    master._items = [item for item in master._items if item[0] is not master._doorkeeper.socket]
    master._doorkeeper.socket.close()
    with ZmqWorkerTransport.connect(master.address, worker_keys) as worker:
        _refusal(master, worker)


def test_a_doorkeeper_who_does_not_answer_lets_nobody_in(
    master: ZmqMasterTransport, worker_keys: WorkerKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Doorkeeper, "answer", lambda self: None)
    with ZmqWorkerTransport.connect(master.address, worker_keys) as worker:
        _refusal(master, worker)


def test_where_zeromq_fails_open_no_message_is_taken(
    folder: Path, worker_keys: WorkerKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nobody(Doorkeeper):
        """What ZeroMQ does by itself: CURVE without anyone who vouches for the keys."""

        def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: MasterKeys) -> None:
            self._keys = keys
            self.n_refused = 0
            self.socket = context.socket(zmq.REP)

        def guard(self, socket: zmq.Socket[bytes]) -> None:
            socket.set(zmq.CURVE_SERVER, 1)
            socket.set(zmq.CURVE_SECRETKEY, self._keys.secret)

    monkeypatch.setattr(transport_module, "Doorkeeper", Nobody)
    with (
        ZmqMasterTransport.bind("tcp://127.0.0.1:0", load_master_keys(folder)) as master,
        ZmqWorkerTransport.connect(master.address, worker_keys) as worker,
    ):
        _run_until(lambda: worker.send([b"fail open?"]) is Sent.TAKEN, worker, master)
        counters: dict[str, int] = {}

        def is_counted() -> bool:
            assert master.receive() is None, "an unauthenticated message was taken"
            counters.update(master.take_counters())
            return bool(counters)

        _run_until(is_counted, master)
        assert counters == {"unauthenticated": 1}


# --- addresses without keys -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://127.0.0.1:0", "tcp://localhost:0"]
)
def test_no_tcp_address_is_bound_or_dialled_without_keys(address: str) -> None:
    for use in (ZmqMasterTransport.bind, ZmqWorkerTransport.connect):
        with pytest.raises(AuthenticationFailed, match="paramserver keys DIR"):
            use(address)


def test_the_override_warns_and_proves_nothing_about_anyone() -> None:
    with pytest.warns(RuntimeWarning, match="WITHOUT KEYS"):
        master = ZmqMasterTransport.bind("tcp://127.0.0.1:0", allow_insecure=True)
    with pytest.warns(RuntimeWarning, match="WITHOUT KEYS"):
        worker = ZmqWorkerTransport.connect(master.address, allow_insecure=True)
    with master, worker:
        _run_until(lambda: worker.send([b"x"]) is Sent.TAKEN, worker, master)
        heard: list[Received | None] = []

        def is_heard() -> bool:
            heard.append(master.receive())
            return heard[-1] is not None

        _run_until(is_heard, master)
        assert heard[-1] is not None
        assert (heard[-1].user, heard[-1].address) == ("", "127.0.0.1")
        assert not master.trusted
        assert not worker.trusted


# --- noise ----------------------------------------------------------------------------------------


def _greeting(mechanism: bytes) -> bytes:
    """Return what opens a ZMTP 3.1 connection."""
    head = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01"
    return head + mechanism.ljust(20, b"\0") + b"\0" + bytes(31)


def test_garbage_on_the_port_disturbs_nobody(
    master: ZmqMasterTransport, worker_keys: WorkerKeys
) -> None:
    chance = random.Random(7)
    noises = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + chance.randbytes(512),  # TLS
        b"\xff" * 4096,
        b"\x00" * 4096,
        _greeting(b"NULL"),
        _greeting(b"NULL") + b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER",
        _greeting(b"NULL") + b"\x00\x02hi",
        _greeting(b"PLAIN") + b"\x04\x08\x05HELLO\x00\x00",
        _greeting(b"CURVE"),
        _greeting(b"CURVE") + b"\x04\xc8\x05HELLO" + chance.randbytes(194),
        _greeting(b"CURVE") + b"\x04\xc8\x05HELLO\x01\x00" + bytes(192),
        _greeting(b"CURVE") + b"\x06\xff\xff\xff\xff\xff\xff\xff\xff" + chance.randbytes(9000),
        _greeting(b"CURVE") + b"\x02\x7f\xff\xff\xff\xff\xff\xff\xff",
        *(chance.randbytes(chance.randrange(1, 5000)) for _ in range(30)),
        *(_greeting(b"CURVE") + chance.randbytes(chance.randrange(1, 500)) for _ in range(30)),
    ]
    port = int(master.address.rpartition(":")[2])
    with ZmqWorkerTransport.connect(master.address, worker_keys) as worker:
        _check_service(master, worker)
        rss_before = psutil.Process().memory_info().rss
        for noise in noises:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
                try:
                    raw.sendall(noise)
                except ConnectionError:
                    continue  # hung up on in mid-word, as it deserves
            master.poll(0)
            assert master.receive() is None, f"{noise[:80]!r} was heard"
        assert _check_service(master, worker) < 2.0
        assert psutil.Process().memory_info().rss - rss_before < 50e6
        assert worker.take_reconnected()
        assert not worker.take_reconnected(), "the good connection has been dropped"
        with ZmqWorkerTransport.connect(master.address, worker_keys) as newcomer:
            _check_service(master, newcomer)


def test_a_frame_over_the_limit_ends_the_connection_that_sent_it(
    master: ZmqMasterTransport, worker_keys: WorkerKeys
) -> None:
    with (
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
        ZmqWorkerTransport.connect(master.address, worker_keys) as worker,
    ):
        _check_service(master, worker)
        dealer.set(zmq.LINGER, 0)
        worker_keys.apply_to(dealer)
        dealer.connect(master.address)
        dealer.send(b"hello")
        _run_until(lambda: master.receive() is not None, master)
        master.take_disconnected()
        dealer.send_multipart([b"head", bytes(MAX_FRAME_BYTES + 1)])
        _run_until(lambda: master.take_disconnected(), master)
        assert master.receive() is None
        _check_service(master, worker)


def _n_sockets() -> int:
    """Return how many sockets this process has open."""
    n_sockets = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            n_sockets += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except FileNotFoundError:
            continue  # closed since it was listed
    return n_sockets


@pytest.fixture
def _room_for_many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 4096
    assert hard == resource.RLIM_INFINITY or hard >= enough, "ulimit -Hn is too low for this test"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_room_for_many_descriptors")
def test_500_connections_that_never_say_a_word_stop_nobody(
    master: ZmqMasterTransport, worker_keys: WorkerKeys
) -> None:
    code = """
        import socket, sys
        held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(500)]
        print("held", flush=True)
        sys.stdin.read()
    """
    port = master.address.rpartition(":")[2]
    us = psutil.Process()
    with ZmqWorkerTransport.connect(master.address, worker_keys) as regular:
        _check_service(master, regular)
        before = us.memory_info().rss, _n_sockets()
        crowd = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), port],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == b"held\n"
            with ZmqWorkerTransport.connect(master.address, worker_keys) as newcomer:
                assert _check_service(master, newcomer) < 2.0
            assert _check_service(master, regular) < 2.0
            rss, n_open = us.memory_info().rss, _n_sockets()
            assert n_open - before[1] >= 250, "the crowd was gone before it was measured"
            assert rss - before[0] < 50e6
            # They are shown the door after HANDSHAKE_IVL, though they would stay.
            waited_s = _run_until(lambda: _n_sockets() <= before[1], master)
            assert waited_s < 8.0
            assert crowd.poll() is None
            _check_service(master, regular)
        finally:
            crowd.communicate(timeout=10)


CROWDED_MASTER = """
    import os, resource, socket, sys, time
    from paramserver.transport.base import Sent
    from paramserver.transport.security import load_master_keys, load_worker_keys
    from paramserver.transport.zmq_master import ZmqMasterTransport
    from paramserver.transport.zmq_worker import ZmqWorkerTransport

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    scheme, place = sys.argv[1:]
    if scheme == "ipc":
        master, keys = ZmqMasterTransport.bind(f"ipc://{place}/s"), None
    else:
        keys = load_worker_keys(place)
        master = ZmqMasterTransport.bind("tcp://127.0.0.1:0", load_master_keys(place))
    print(master.address, flush=True)
    regular = ZmqWorkerTransport.connect(master.address, keys)

    def check_service(worker):
        deadline = time.monotonic() + 20
        while worker.send([b"ask"]) is not Sent.TAKEN:
            master.poll(0.01)
            worker.poll(0.01)
            assert time.monotonic() < deadline, "no connection"
        while (received := master.receive()) is None:
            master.poll(0.1)
        assert master.send(received.peer, [b"answer"]) is Sent.TAKEN
        while worker.receive() is None:
            worker.poll(0.1)
        return received.peer

    regulars_name = check_service(regular)
    counters = {}
    for line in sys.stdin:              # the crowd grows by ten
        if line == "left\\n":
            break
        for _ in range(3):
            master.poll(0.01)
        counters.update(master.take_counters())
        print("served", flush=True)
    assert counters.get("no_descriptors", 0) >= 1, counters
    assert check_service(regular) == regulars_name, "who is in must stay in"
    newcomer = ZmqWorkerTransport.connect(master.address, keys)
    check_service(newcomer)             # once there is room again, others come in
    for end in (newcomer, regular, master):
        end.close()
    print("survived", flush=True)
"""


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
def test_a_crowd_beyond_the_limit_of_open_files_does_not_end_the_master(
    scheme: str, folder: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    place = str(tmp_path if scheme == "ipc" else folder)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CROWDED_MASTER), scheme, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    crowd: list[socket.socket] = []
    n_refused = 0
    try:
        for _ in range(30):
            for _ in range(10):
                family = socket.AF_UNIX if scheme == "ipc" else socket.AF_INET
                crowd.append(socket.socket(family))
                crowd[-1].settimeout(5)
                try:
                    if scheme == "ipc":
                        crowd[-1].connect(address.removeprefix("ipc://"))
                        crowd[-1].recv(1)  # greeted: so it has taken its descriptor
                    else:
                        crowd[-1].connect(("127.0.0.1", int(address.rpartition(":")[2])))
                except (ConnectionRefusedError, ConnectionResetError, FileNotFoundError):
                    n_refused += 1
            process.stdin.write("ten more\n")
            process.stdin.flush()
            assert process.stdout.readline() == "served\n"
    finally:
        for raw in crowd:
            raw.close()
        _, stderr = process.communicate("left\n" if process.poll() is None else None, timeout=60)
    assert process.returncode == 0, stderr
    assert n_refused > 80 or scheme == "tcp"
    assert os.listdir(tmp_path) == ["keys"], "the socket was left behind"
