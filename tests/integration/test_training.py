"""Both training modes with real processes, some of which are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

import paramserver as ps
from paramserver.training.session import Progress
from tests.numerics.learners import LeastSquares, Ledger


@pytest.fixture
def cluster() -> Iterator[ps.LocalCluster]:
    with ps.LocalCluster(2) as cluster:
        yield cluster


class KillAWorker:
    """Kills a worker at some of the reports of progress."""

    def __init__(self, cluster: ps.LocalCluster, at: tuple[int, ...]) -> None:
        self.cluster = cluster
        self.at = list(at)
        self.n_killed = 0

    def __call__(self, progress: Progress) -> None:
        if self.at and progress.unit >= self.at[0]:
            self.at.pop(0)
            workers = self.cluster.status().workers
            os.kill(workers[self.n_killed % len(workers)].pid, signal.SIGKILL)
            self.n_killed += 1


def least_squares_data(n: int = 203, d: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((n, d))
    return X, X @ rng.standard_normal(d) + 0.1 * rng.standard_normal(n)


def test_averaging_ends_with_the_same_bits_when_workers_are_killed(
    cluster: ps.LocalCluster,
) -> None:
    data = least_squares_data()
    learner = LeastSquares(7, pause_s=0.002)
    mode = ps.Averaging(rounds=40, n_partitions=3)
    calm = ps.fit(LeastSquares(7), data, mode=mode, cluster=cluster, seed=1)
    killer = KillAWorker(cluster, at=(3, 15))
    result = ps.fit(learner, data, mode=mode, cluster=cluster, seed=1, on_progress=killer)
    assert killer.n_killed == 2
    assert result.workers_lost == 2
    assert result.sha256 == calm.sha256
    assert result.examples == calm.examples == 40 * 203


def test_averaging_does_not_depend_on_the_number_of_workers(cluster: ps.LocalCluster) -> None:
    data = least_squares_data()
    mode = ps.Averaging(rounds=5, n_partitions=3, local_steps=4)
    two = ps.fit(LeastSquares(7), data, mode=mode, cluster=cluster, seed=3)
    with ps.LocalCluster(1) as lonely:
        one = ps.fit(LeastSquares(7), data, mode=mode, cluster=lonely, seed=3)
    assert one.sha256 == two.sha256


def test_async_applies_every_batch_once_when_workers_are_killed(cluster: ps.LocalCluster) -> None:
    n = 300
    numbers = np.arange(n)
    data = (numbers[:, None].astype(np.float64), numbers)
    killer = KillAWorker(cluster, at=(20, 60))
    result = ps.fit(
        Ledger(n, pause_s=0.005),
        data,
        mode=ps.AsyncSGD(epochs=1, n_partitions=3),
        cluster=cluster,
        batch_size=2,
        lr=1.0,
        on_progress=killer,
    )
    assert killer.n_killed == 2
    assert result.workers_lost == 2
    assert np.array_equal(result.weights, np.ones(n))
    assert result.units == 150
    assert sum(result.staleness.values()) == 150


def test_a_learner_that_fails_ends_the_training_with_its_own_error(
    cluster: ps.LocalCluster,
) -> None:
    data = (np.zeros((4, 2)), np.arange(4))
    with pytest.raises(IndexError):
        ps.fit(Ledger(2), data, mode=ps.AsyncSGD(epochs=1), cluster=cluster, lr=1.0)
    with pytest.raises(IndexError):
        ps.fit(Ledger(2), data, mode=ps.Averaging(rounds=1), cluster=cluster, lr=1.0)


def test_the_shared_memory_of_a_training_is_gone_when_it_ends(cluster: ps.LocalCluster) -> None:
    folder = cluster.internals().fast_folder
    before = sorted(folder.iterdir())
    ps.fit(LeastSquares(7), least_squares_data(), mode=ps.AsyncSGD(epochs=1), cluster=cluster)
    assert sorted(folder.iterdir()) == before
