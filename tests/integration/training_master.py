"""A master that a test kills:
``python -m tests.integration.training_master FOLDER MODE [--dies-at PUSH] [--address A --keys K]``.

It prints how far it is, and at the end what came out. With --dies-at it kills itself between having
applied the push of that number and answering it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from typing import Any

import numpy as np

import paramserver as ps
from paramserver.training.optimizers import Momentum
from paramserver.training.push_pull_run import PushPullRun
from paramserver.training.result import Progress
from tests.numerics.learners import LeastSquares, Ledger

N_ROWS = 240
MODES: dict[str, Any] = {
    "avg": ps.Averaging(rounds=60, n_partitions=3),
    "outer": ps.Averaging(rounds=60, n_partitions=3, outer=Momentum(0.7, nesterov=True), tail=0.75),
    "async": ps.AsyncSGD(epochs=2, n_partitions=3),
    "bsp": ps.AsyncSGD(epochs=2, n_partitions=3, staleness_bound=0),
    "ssp": ps.AsyncSGD(epochs=2, n_partitions=3, staleness_bound=2),
    "adam": ps.AsyncSGD(epochs=2, n_partitions=1, optimizer="adam"),
}


def settings(name: str, pause_s: float = 0.004) -> dict[str, Any]:
    """Return what is trained: the same in every process."""
    numbers = np.arange(N_ROWS)
    common = {"mode": MODES[name], "seed": 4, "batch_size": 2}
    if name in ("async", "bsp", "ssp"):
        data = (numbers[:, None].astype(np.float64), numbers)
        return common | {"learner": Ledger(N_ROWS, pause_s), "data": data, "lr": 1.0}
    rng = np.random.default_rng(5)
    X = rng.standard_normal((N_ROWS, 7))
    data = X, X @ rng.standard_normal(7) + 0.1 * rng.standard_normal(N_ROWS)
    common["batch_size"] = 20 if isinstance(MODES[name], ps.Averaging) else 2
    return common | {"learner": LeastSquares(7, pause_s), "data": data, "lr": 0.02}


def die_at_push(number: int) -> None:
    """Kill this process when so many pushes are applied, before the answer to the last of them."""
    answer_to = PushPullRun._answer_to

    def dies(run: PushPullRun, *arguments: Any) -> None:
        if run.server.version >= number:
            os.kill(os.getpid(), signal.SIGKILL)
        answer_to(run, *arguments)

    PushPullRun._answer_to = dies  # type: ignore[method-assign]


def tell(progress: Progress) -> None:
    print(progress.unit, flush=True)


def open_cluster(address: str | None, keys: str | None) -> ps.Cluster:
    """Return a cluster of two workers: of its own, or of whoever dials its address."""
    if address is None:
        return ps.LocalCluster(2)
    cluster = ps.Cluster(address, keys, verbose=False)
    print(cluster.address, flush=True)
    cluster.wait_for_workers(2)
    return cluster


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("mode")
    parser.add_argument("--dies-at", type=int)
    parser.add_argument("--address")
    parser.add_argument("--keys")
    told = parser.parse_args()
    if told.dies_at is not None:
        die_at_push(told.dies_at)
    checkpoints = ps.Checkpoints(told.folder, every_s=0.03)
    with open_cluster(told.address, told.keys) as cluster:
        result = ps.fit(
            cluster=cluster,
            checkpoints=checkpoints,
            resume=True,
            on_progress=tell,
            **settings(told.mode),
        )
    summary = {
        "sha256": result.sha256,
        "weights": result.weights.tolist(),
        "examples": result.examples,
        "units": result.units,
        "pushes": sum(result.staleness.values()),
        "workers_lost": result.workers_lost,
    }
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
