"""Row 2: how long one job takes there and back. The limit is a bare ZeroMQ echo."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from tests.benchmarks.jobs import noop
from tests.benchmarks.peers import CONTENDERS
from tests.benchmarks.row import Measured, Metric, Row

N_WORKERS = 2
BARE = "bare ZeroMQ echo"
ECHO = """
import sys, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(sys.argv[1])
socket.send(b"ready")
while (message := socket.recv()) != b"stop":
    socket.send(message)
"""


def measure(contender: str, quick: bool) -> Measured:
    """Time single round trips, the next one sent when the last is back."""
    n_trips, budget_s = (50, 1.0) if quick else (5_000, 10.0)
    if contender == BARE:
        return _measure_bare(n_trips, budget_s)
    cluster = CONTENDERS[contender]()
    cluster.load()
    cluster.start(N_WORKERS)
    cluster.meet(N_WORKERS)
    measured = _percentiles(lambda: cluster.call(noop, None), n_trips, budget_s)
    cluster.stop()
    return measured


def _measure_bare(n_trips: int, budget_s: float) -> Measured:
    import zmq

    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context:
        address = f"ipc://{folder}/echo"
        with (
            context.socket(zmq.ROUTER) as socket,
            subprocess.Popen([sys.executable, "-c", ECHO, address]),
        ):
            socket.bind(address)
            peer, _ = socket.recv_multipart()

            def trip() -> None:
                socket.send_multipart([peer, b"x" * 100])
                socket.recv_multipart()

            measured = _percentiles(trip, n_trips, budget_s)
            socket.send_multipart([peer, b"stop"])
    return measured


def _percentiles(trip: Callable[[], object], n_trips: int, budget_s: float) -> Measured:
    for _ in range(n_trips // 10):
        trip()
    durations: list[float] = []
    end = time.perf_counter() + budget_s
    while len(durations) < n_trips and (before := time.perf_counter()) < end:
        trip()
        durations.append(time.perf_counter() - before)
    cuts = statistics.quantiles(durations, n=100)
    return {"p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3}


ROW = Row(
    key="2",
    title="round trip of one job",
    contenders=(*CONTENDERS, BARE),
    metrics=(Metric("p50", "ms", goal=0.2), Metric("p99", "ms")),
    measure=measure,
)
