"""Rows 8 and 9: push and pull, each gradient applied and checked, none computed."""

from __future__ import annotations

from functools import partial

import numpy as np

from tests.benchmarks import push_peers
from tests.benchmarks.resources import Meter
from tests.benchmarks.row import Measured, Metric, Row
from tests.benchmarks.vectors import LR, Marks, require_pushes
from tests.benchmarks.wire import counted_bytes

OURS = "paramserver"
ECHO = "bare ZeroMQ echo"
APPLY = "apply alone, one core"
PEERS = {
    "msgpack-numpy over ZeroMQ": push_peers.msgpack_rate,
    "torch RPC": push_peers.torch_rate,
    "ray actor": push_peers.ray_rate,
}
P = 2


def measure(d: int, n: int, contender: str, quick: bool) -> Measured:
    """Count updates in a second; `n` is how many we do, peers do fewer of the large ones."""
    if quick:
        d, n = min(d, 10_000), 200
    if contender == OURS:
        return _measure_ours(d, n)
    with Meter() as meter:
        if contender == APPLY:
            rate = push_peers.apply_rate(d, 0.1 if quick else 1.0)
        elif contender == ECHO:
            rate = push_peers.zmq_echo_rate(P, d, n // P)
        else:
            rate = PEERS[contender](P, d, n // P // 2)
    return {"updates": rate, "memory": meter.peak_mb}


def _measure_ours(d: int, n: int) -> Measured:
    import paramserver as ps

    data = (np.zeros((n, 1), np.float32), np.zeros(n, np.float32))
    with ps.LocalCluster(P) as cluster:

        def push(n: int) -> tuple[float, float]:
            mode = ps.AsyncSGD(epochs=1, n_partitions=P)
            rows = (data[0][:n], data[1][:n])
            with Meter() as meter:
                result = ps.fit(Marks(d), rows, mode=mode, cluster=cluster, lr=LR, batch_size=1)
            assert result.units == n
            require_pushes(result.weights, n)
            return result.wall_s, meter.cpu_s

        push(n // 10 // P * P)
        with Meter() as whole:
            wall_s, cpu_s = push(n)
        with counted_bytes() as total:
            push(n // 10 // P * P)
    return {
        "updates": n / wall_s,
        "CPU": cpu_s / n * 1e3,
        "wire": total[0] / (n // 10 // P * P),
        "memory": whole.peak_mb,
    }


def _row(key: str, d: int, n: int, goal: float | None, note: str) -> Row:
    return Row(
        key=key,
        title=f"push and pull, applied and checked, {P} workers, {d:,} float32",
        contenders=(OURS, ECHO, *PEERS, APPLY),
        metrics=(
            Metric("updates", "1/s", goal=goal, more_is_better=True),
            Metric("CPU", "ms an update"),
            Metric("wire", "bytes an update"),
            Metric("memory", "MB"),
        ),
        measure=partial(measure, d, n),
        limit_s=120.0,
        n_repeats=3,
        note=note,
    )


LARGE = _row(
    "8", 1_000_000, 1_000, 700, "The echo applies nothing: it is what sockets can carry. So does "
    "the last line without sockets: it is what one core can apply. Memory is the master's peak.",
)  # fmt: skip
SMALL = _row(
    "9", 1_000, 20_000, None, "The goal is 0.6 of the echo, which applies nothing.",
)  # fmt: skip
