"""Ten thousand messages that are none: each is counted, none is kept, the work goes on."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgpack
import psutil
import pytest

import paramserver as ps
from paramserver.protocol import codec
from paramserver.protocol.messages import Envelope, JobProgressed, Stop
from paramserver.transport.base import Sent, WorkerTransport
from paramserver.transport.unix_worker import UnixWorkerTransport
from paramserver.transport.zmq_worker import ZmqWorkerTransport
from tests.integration.scripts import until

N_SMALL = 10_000
N_LARGE = 200
PATIENCE_S = 60.0
PREFIX = codec.MAGIC + bytes([codec.PROTOCOL_VERSION])
KEPT_BYTES = 100_000_000
"""Far below what was sent, 200 MB in large ones alone."""


def header(*values: object) -> bytes:
    packed: bytes = msgpack.packb(values)
    return PREFIX + packed


SOMEBODY = Envelope("r", 1, "w", 7, 1, 0)
GOOD = [bytes(frame) for frame in codec.encode(SOMEBODY, JobProgressed(1, 1, 1, 2))]
MALFORMED = {
    "noise": [b"\x00\xff" * 20],
    "a header of 1 MB": [PREFIX + bytes(1_000_000)],
    "nesting 600 deep": [PREFIX + b"\x91" * 600],
    "truncated": [GOOD[0][:-2]],
    "bytes behind the header": [GOOD[0] + b"x"],
    "a frame that belongs to nothing": [*GOOD, b"trailing"],
    "an unknown type": [header(99, "r", 1, "w", 1, 1, 0)],
    "a message of the master": [
        bytes(f) for f in codec.encode(Envelope("r", 1, "w", 7, 1, 0), Stop(True))
    ],
    "a future version": [codec.MAGIC + b"\x63" + GOOD[0][4:]],
}


@pytest.mark.parametrize(
    ("transport", "connect"),
    [("unix", UnixWorkerTransport.connect), ("zeromq", ZmqWorkerTransport.connect)],
)
def test_rubbish_is_counted_and_dropped_and_the_masters_memory_stays_flat(
    transport: str, connect: Callable[[str], WorkerTransport]
) -> None:
    with ps.LocalCluster(1, transport=transport) as cluster:
        peer = connect(cluster.address)
        try:
            send = _sender(peer)
            for frames in MALFORMED.values():
                send(frames)
            n_sent = len(MALFORMED)
            _wait_for(cluster, "mismatched", n_sent)
            before = psutil.Process().memory_info().rss
            kinds = list(MALFORMED.values())
            small = [frames for frames in kinds if sum(map(len, frames)) < 10_000]
            for number in range(N_SMALL):
                send(small[number % len(small)])
            for _ in range(N_LARGE):
                send(MALFORMED["a header of 1 MB"])
            for _ in range(100):
                send(GOOD)  # well said, but by nobody
            _wait_for(cluster, "mismatched", n_sent + N_SMALL + N_LARGE)
            _wait_for(cluster, "unknown", 100)
            assert psutil.Process().memory_info().rss - before < KEPT_BYTES
            peers = cluster._parts.master.ask(lambda machine: len(machine.roster.by_peer))
            assert peers == 1, "the worker alone"
            assert cluster.submit(os.getpid).result(PATIENCE_S) == cluster.status().workers[0].pid
        finally:
            peer.close()


def _sender(peer: WorkerTransport) -> Callable[[list[bytes]], None]:
    def send(frames: list[bytes]) -> None:
        def is_taken() -> bool:
            while peer.receive() is not None:
                pass  # it answers some, and an answer that nobody reads would stop it
            return peer.send(frames) is Sent.TAKEN

        until(is_taken, "there is room in the connection")

    return send


def _wait_for(cluster: ps.LocalCluster, counter: str, n: int) -> None:
    until(
        lambda: cluster.status().counters.get(counter, 0) >= n,
        f"{n} are counted as {counter}",
    )
    assert cluster.status().counters[counter] == n
