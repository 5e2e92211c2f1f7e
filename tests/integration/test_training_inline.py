"""A cluster and this process give the same weights, in the same rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramserver as ps
from paramserver.models.linear import Linear


def rows(n: int = 90, *, sparse: bool = False) -> Any:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 4))
    y = (X @ np.array([1.0, -2.0, 0.5, 0.0]) > 0).astype(np.int64)
    if sparse:
        from scipy.sparse import csr_array

        return csr_array(np.where(rng.random(X.shape) < 0.5, X, 0)), y
    return X, y


LEARNER = Linear(4, 1, "log_loss", 0.01, "float64")


def train(data: Any = None, **settings: Any) -> ps.TrainingResult:
    options = {"mode": ps.Averaging(rounds=6, n_partitions=3), "cluster": None, "batch_size": 8}
    return ps.fit(LEARNER, data or rows(), **{**options, **settings})


@pytest.fixture(scope="module")
def cluster() -> Any:
    with ps.LocalCluster(2) as cluster:
        yield cluster


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    "mode",
    [
        ps.Averaging(rounds=5, n_partitions=3),
        ps.Averaging(rounds=5, n_partitions=2, local_steps=3, tail=0.5),
        ps.AsyncSGD(epochs=3, n_partitions=1),
        ps.AsyncSGD(epochs=3, n_partitions=1, optimizer="adam"),
    ],
)
def test_the_weights_are_those_of_a_cluster(cluster: Any, mode: Any, sparse: bool) -> None:
    here, there = (train(rows(sparse=sparse), mode=mode, cluster=c) for c in (None, cluster))
    assert (here.sha256, here.divergence) == (there.sha256, there.divergence)
    assert (here.units, here.examples, here.staleness) == (
        there.units, there.examples, there.staleness
    )  # fmt: skip


@pytest.mark.parametrize("mode", [ps.Averaging(9, n_partitions=2), ps.AsyncSGD(9, n_partitions=1)])
def test_in_step_a_cluster_ends_in_the_same_round_and_tells_the_same(
    cluster: Any, mode: Any
) -> None:
    told = []
    for where in (None, cluster):
        stop = ps.EarlyStopping(patience=1, min_delta=0.02, monitor="train_loss")
        result = train(mode=mode, cluster=where, callbacks=[stop], in_step=True)
        history = [(p.train_loss, p.divergence) for p in result.history]
        told.append((result.sha256, history, result.units))
    assert told[0] == told[1]
    assert 1 < len(told[0][1]) < 9
    assert {divergence is None for _, divergence in told[0][1]} == {isinstance(mode, ps.AsyncSGD)}


def test_in_step_epochs_of_several_workers_are_each_looked_at(cluster: Any) -> None:
    mode = ps.AsyncSGD(epochs=4, n_partitions=2)
    result = train(mode=mode, cluster=cluster, in_step=True)
    assert [progress.epochs for progress in result.history] == [1.0, 2.0, 3.0, 4.0]
