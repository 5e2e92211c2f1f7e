"""A master that a test kills:
``python -m tests.integration.training_master FOLDER MODE [--n N] [--jumps] [--dies-at PUSH]
[--address A --keys K]``.

It prints how far it is, and at the end what came out. It has N workers, and as many partitions as
`settings` gives so many. With --dies-at it kills itself between having applied the push of that
number and answering it. With --jumps the wall clock of its process and of its workers' is another
one by an hour whenever somebody reads it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from typing import Any

import numpy as np

import paramserver as ps
from paramserver.training.answers import Answers
from paramserver.training.optimizers import Momentum
from paramserver.training.result import Progress
from tests.integration.jumping_clock import (
    JumpingLeastSquares,
    JumpingLedger,
    let_the_clock_jump,
)
from tests.numerics.learners import LeastSquares, Ledger

N_ROWS = 240
AVERAGING: dict[str, dict[str, Any]] = {
    "avg": {},
    "outer": {"outer": Momentum(0.7, nesterov=True), "tail": 0.75},
}
PUSHING: dict[str, dict[str, Any]] = {
    "async": {},
    "bsp": {"staleness_bound": 0},
    "ssp": {"staleness_bound": 2},
    "adam": {"optimizer": "adam"},
}


def settings(
    name: str, pause_s: float = 0.004, *, n_workers: int = 2, jumps: bool = False
) -> dict[str, Any]:
    """Return what is trained: the same in every process."""
    numbers = np.arange(N_ROWS)
    p = 1 if name == "adam" else max(3, n_workers)
    common: dict[str, Any] = {"seed": 4, "batch_size": 2}
    if name in AVERAGING:
        common["mode"] = ps.Averaging(rounds=60, n_partitions=p, **AVERAGING[name])
        common["batch_size"] = 20
    else:
        common["mode"] = ps.AsyncSGD(epochs=2, n_partitions=p, **PUSHING[name])
    if name in ("async", "bsp", "ssp"):
        data = (numbers[:, None].astype(np.float64), numbers)
        learner = (JumpingLedger if jumps else Ledger)(N_ROWS, pause_s)
        return common | {"learner": learner, "data": data, "lr": 1.0}
    rng = np.random.default_rng(5)
    X = rng.standard_normal((N_ROWS, 7))
    data = X, X @ rng.standard_normal(7) + 0.1 * rng.standard_normal(N_ROWS)
    least_squares = (JumpingLeastSquares if jumps else LeastSquares)(7, pause_s)
    return common | {"learner": least_squares, "data": data, "lr": 0.02}


def die_at_push(number: int) -> None:
    """Kill this process when so many pushes are applied, before the answer to the last of them."""
    give = Answers.give

    def dies(answers: Answers, *arguments: Any) -> None:
        if answers._server.version >= number:
            os.kill(os.getpid(), signal.SIGKILL)
        give(answers, *arguments)

    Answers.give = dies  # type: ignore[method-assign]


def tell(progress: Progress) -> None:
    print(progress.unit, flush=True)


def open_cluster(n_workers: int, address: str | None, keys: str | None) -> ps.Cluster:
    """Return a cluster of some workers: of its own, or of whoever dials its address."""
    if address is None:
        return ps.LocalCluster(n_workers)
    cluster = ps.Cluster(address, keys, verbose=False)
    print(cluster.address, flush=True)
    cluster.wait_for_workers(n_workers)
    return cluster


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("mode")
    parser.add_argument("--n", type=int, default=2)
    parser.add_argument("--jumps", action="store_true")
    parser.add_argument("--dies-at", type=int)
    parser.add_argument("--address")
    parser.add_argument("--keys")
    told = parser.parse_args()
    if told.dies_at is not None:
        die_at_push(told.dies_at)
    if told.jumps:
        let_the_clock_jump()
    checkpoints = ps.Checkpoints(told.folder, every_s=0.03)
    with open_cluster(told.n, told.address, told.keys) as cluster:
        result = ps.fit(
            cluster=cluster,
            checkpoints=checkpoints,
            resume=True,
            on_progress=tell,
            **settings(told.mode, n_workers=told.n, jumps=told.jumps),
        )
        counters = cluster.status().counters
    summary = {
        "sha256": result.sha256,
        "weights": result.weights.tolist(),
        "examples": result.examples,
        "units": result.units,
        "pushes": sum(result.staleness.values()),
        "workers_lost": result.workers_lost,
        "rejected": result.rejected,
        "fenced": counters.get("unknown", 0) + counters.get("fenced", 0),
        "clock": time.time() - time.time(),
    }
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
