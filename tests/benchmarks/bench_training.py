"""How fast weights and gradients go round, beside the limits of the machine, in the same run.

``python -m tests.benchmarks.bench_training [ROW ...]`` (5, 6, 7: averaging rounds; 8, 9: pushes;
10: a training). In rows 5 to 9 no learner computes anything: the way of the data is measured, and
the final vector is checked before a rate counts. Beside each rate stands what the machine can do:
the sum of the vectors alone, or an echo over bare ZeroMQ with as many clients.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import zmq

import paramserver as ps
from paramserver.data.datasets import load
from paramserver.models.softmax import Softmax
from paramserver.training.learner import Batch
from paramserver.training.partitions import Epoch
from paramserver.training.vector import FloatVector

LR = 2.0**-10
"""A power of two, so that sums of steps are exact in float32."""


@dataclass(frozen=True)
class Nothing:
    """A learner that computes nothing, and leaves a mark that the final vector shows."""

    size: int
    writes: bool = False
    """Write the whole gradient anew at each push, as a real learner does."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def start(self, rng: np.random.Generator) -> FloatVector:
        return np.zeros(self.size, self.dtype)

    def local_epoch(self, w: FloatVector, epoch: Epoch, lr: float) -> None:
        w[0] += 1.0
        w[-1] += 1.0

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        if self.writes or out[0] != 1.0:
            out[:] = 1.0

    def loss(self, w: FloatVector, data: Batch) -> float:
        return 0.0

    def score(self, w: FloatVector, data: Batch) -> float:
        return 0.0


def averaging(cluster: ps.LocalCluster, p: int, d: int, rounds: int) -> float:
    """Rounds in a second."""
    data = (np.zeros((p, 1), np.float32), np.zeros(p, np.int64))
    mode = ps.Averaging(rounds=rounds, n_partitions=p)
    result = ps.fit(Nothing(d), data, mode=mode, cluster=cluster, lr=LR, batch_size=1)
    assert result.weights[0] == result.weights[-1] == rounds, result.weights
    assert not result.weights[1:-1].any()
    return rounds / result.wall_s


def pushes(cluster: ps.LocalCluster, p: int, d: int, updates: int, *, writes: bool) -> float:
    """Applied updates in a second."""
    n = updates // p * p
    data = (np.zeros((n, 1), np.float32), np.zeros(n, np.int64))
    mode = ps.AsyncSGD(epochs=1, n_partitions=p)
    result = ps.fit(Nothing(d, writes), data, mode=mode, cluster=cluster, lr=LR, batch_size=1)
    assert result.units == n
    assert (result.weights == -n * LR).all(), result.weights
    return n / result.wall_s


def fashion(cluster: ps.LocalCluster, p: int, rounds: int | None = None) -> float:
    """Trainings in a second that end at a test accuracy of 0.836 or more.

    A fixed number of passes, not the first moment at which the score is there: evaluating on the
    way would take the cores from the learners.
    """
    data = load("fashion-mnist")
    steps = len(data.y_train) // p // FASHION_BATCH // 8
    mode = ps.Averaging(
        rounds=rounds or 8 * FASHION_EPOCHS, local_steps=steps, n_partitions=p, tail=0.5
    )
    result = ps.fit(
        Softmax(data.n_features, data.n_classes),
        (data.X_train, data.y_train),
        mode=mode,
        cluster=cluster,
        test=(data.X_test, data.y_test),
        lr=FASHION_LR,
        batch_size=FASHION_BATCH,
    )
    assert rounds or (result.test_score or 0) >= 0.836, result.test_score
    return 1 / result.wall_s


def bare_sum(p: int, d: int) -> float:
    """Sums of p vectors in a second, with one core: the limit of averaging."""
    vectors = [np.ones(d, np.float32) for _ in range(p)]
    out = np.empty(d, np.float32)

    def once() -> None:
        np.add(vectors[0], vectors[1], out=out)
        for vector in vectors[2:]:
            np.add(out, vector, out=out)

    return _rate(once)


def _rate(once: Callable[[], None], budget_s: float = 0.5) -> float:
    once()
    n, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < budget_s:
        once()
        n += 1
    return n / spent


def bare_echo(p: int, n_bytes: int, n: int) -> float:
    """Round trips in a second over bare ZeroMQ (ROUTER, ipc), with p client processes."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as own:
        address = f"ipc://{folder}/echo"
        with own.socket(zmq.ROUTER) as router:
            router.linger = 0
            router.bind(address)
            args = (address, n_bytes, n // p)
            clients = [context.Process(target=_echo_client, args=args) for _ in range(p)]
            for client in clients:
                client.start()
            ready = [router.recv_multipart() for _ in clients]
            began = time.perf_counter()
            for frames in ready:
                router.send_multipart(frames)
            for _ in range(n // p * p):
                router.send_multipart(router.recv_multipart(copy=n_bytes < 65536), copy=False)
            spent = time.perf_counter() - began
            for client in clients:
                client.join()
    return n // p * p / spent


def _echo_client(address: str, n_bytes: int, n: int) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(address)
        body = np.ones(n_bytes // 4, np.float32)
        socket.send(b"ready")
        socket.recv()
        for _ in range(n):
            socket.send(body, copy=n_bytes < 65536)
            socket.recv(copy=n_bytes < 65536)


ROWS: dict[str, tuple[str, int, str]] = {
    "5": ("averaging, p=2, 1 M float32", 2, ">= 400/s"),
    "6": ("averaging, p=4, 1 M float32", 4, ">= 200/s"),
    "7": ("averaging, p=2, 1,000 float32", 2, ">= 2,000/s"),
    "8": ("push and pull, applied, p=2, 1 M float32", 2, ">= 700/s"),
    "9": ("push and pull, applied, p=2, 1,000 float32", 2, ">= 0.6 of bare ZeroMQ"),
    "10": ("Fashion-MNIST, softmax, runs to 0.836 in a second", 2, "0.6 s: >= 1.67/s"),
}
BIG, SMALL = 1_000_000, 1_000
FASHION_EPOCHS, FASHION_BATCH, FASHION_LR = 4, 64, 0.4
"""Found by a grid (3 and 4 epochs; rates 0.1, 0.2, 0.4; with and without the mean of the tail)."""


def measure(row: str, clusters: dict[int, ps.LocalCluster]) -> dict[str, float]:
    """One turn of a row: ours and the limits."""
    cluster = clusters[ROWS[row][1]]
    if row in ("5", "6"):
        p = ROWS[row][1]
        return {"ours": averaging(cluster, p, BIG, 1200 // p), "bare sum": bare_sum(p, BIG)}
    if row == "7":
        return {"ours": averaging(cluster, 2, SMALL, 3000), "bare sum": bare_sum(2, SMALL)}
    if row == "8":
        return {
            "ours": pushes(cluster, 2, BIG, 1000, writes=False),
            "ours, gradient written anew": pushes(cluster, 2, BIG, 1000, writes=True),
            "bare ZeroMQ echo": bare_echo(2, 4 * BIG, 400),
        }
    if row == "10":
        with ps.LocalCluster(1) as one:
            fashion(one, 1, rounds=1)
            return {"ours": fashion(cluster, 2), "ours, one worker": fashion(one, 1)}
    return {
        "ours": pushes(cluster, 2, SMALL, 10_000, writes=False),
        "bare ZeroMQ echo": bare_echo(2, 4 * SMALL, 20_000),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = options.rows or list(ROWS)
    found: dict[str, dict[str, list[float]]] = {row: {} for row in rows}
    load = os.getloadavg()[0]
    clusters = {n: ps.LocalCluster(n) for n in sorted({ROWS[row][1] for row in rows})}
    try:
        for row in rows:  # warm: workers import, memory is there
            averaging(clusters[ROWS[row][1]], ROWS[row][1], SMALL, 50)
        for _ in range(options.repeats):
            for row in rows:
                for name, rate in measure(row, clusters).items():
                    found[row].setdefault(name, []).append(rate)
    finally:
        for cluster in clusters.values():
            cluster.shutdown()
    print(f"load before {load:.1f}, after {os.getloadavg()[0]:.1f}; medians of {options.repeats}")
    for row in rows:
        title, _, goal = ROWS[row]
        print(f"{row}: {title} (goal {goal})")
        ours = statistics.median(found[row]["ours"])
        for name, rates in found[row].items():
            middle = statistics.median(rates)
            spread = f"{min(rates):,.2f} to {max(rates):,.2f}"
            shown = f"{middle:,.0f}" if middle >= 100 else f"{middle:.2f}"
            print(f"   {name:30} {shown:>10}/s   ({spread})   ours/this {ours / middle:.2f}")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
