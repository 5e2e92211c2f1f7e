"""Sparse pushes by real workers on one machine: the numbers of whole ones, at their own cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

import paramserver as ps
from paramserver.errors import ConfigError
from paramserver.models.linear import Linear
from paramserver.models.softmax import Softmax
from tests.numerics.learners import LeastSquares, RowLedger

N_FEATURES = 300


@pytest.fixture(scope="module")
def cluster() -> Iterator[ps.LocalCluster]:
    with ps.LocalCluster(2) as cluster:
        yield cluster


def sparse_rows(n: int, n_classes: int) -> tuple[csr_array, np.ndarray]:
    rng = np.random.default_rng(0)
    X = random_array((n, N_FEATURES), density=0.03, rng=rng, format="csr", dtype=np.float64)
    return X, rng.integers(0, n_classes, n)


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_sparse_pushes_end_where_whole_ones_do(
    cluster: ps.LocalCluster, n_classes: int, optimizer: str
) -> None:
    learner: Any = Softmax(N_FEATURES, n_classes, dtype_name="float64")
    if n_classes == 2:
        learner = Linear(N_FEATURES, 1, "log_loss", dtype_name="float64")
    found = {}
    for sparse in (True, False):
        mode = ps.AsyncSGD(epochs=2, optimizer=optimizer, n_partitions=1, sparse=sparse)
        found[sparse] = ps.fit(
            learner,
            sparse_rows(160, n_classes),
            mode=mode,
            cluster=cluster,
            batch_size=4,
            lr=0.3,
        )
    assert found[True].units == found[False].units == 80
    np.testing.assert_allclose(found[True].weights, found[False].weights, rtol=1e-9, atol=1e-12)
    assert found[True].pushed_bytes < found[False].pushed_bytes / 2


@pytest.mark.parametrize("n_classes", [2, 5])
def test_compiled_pushes_end_where_those_of_scipy_do(
    cluster: ps.LocalCluster, n_classes: int
) -> None:
    found = {}
    for kernel in ("numpy", "numba"):
        learner: Any = Softmax(N_FEATURES, n_classes, dtype_name="float64", kernel=kernel)
        if n_classes == 2:
            learner = Linear(N_FEATURES, 1, "log_loss", 0.01, "float64", kernel=kernel)
        for where in (cluster, None):
            mode = ps.AsyncSGD(epochs=2, n_partitions=1, sparse=True)
            data = sparse_rows(160, n_classes)
            result = ps.fit(learner, data, mode=mode, cluster=where, batch_size=4, lr=0.3)
            assert result.kernel == kernel
            found[kernel, where is None] = result.weights
    for weights in found.values():
        np.testing.assert_allclose(weights, found["numpy", True], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bound", [None, 0, 1])
def test_every_batch_is_applied_once_by_rows(cluster: ps.LocalCluster, bound: int | None) -> None:
    n = 80
    data = csr_array((np.ones(n), np.arange(n), np.arange(n + 1)), shape=(n, n)), np.arange(n)
    mode = ps.AsyncSGD(epochs=2, n_partitions=2, staleness_bound=bound)
    result = ps.fit(RowLedger(n), data, mode=mode, cluster=cluster, batch_size=4, lr=1.0)
    assert sum(result.staleness.values()) == 40
    if bound == 0:
        assert np.allclose(result.weights, 1.0)
        assert result.units == 20
    else:
        assert np.array_equal(result.weights, np.full(n, 2.0))


def test_a_slot_grows_when_a_batch_touches_more_rows_than_fit(cluster: ps.LocalCluster) -> None:
    n = 1_000
    data = csr_array((np.ones(n), np.arange(n), np.arange(n + 1)), shape=(n, n)), np.arange(n)
    mode = ps.AsyncSGD(epochs=1, n_partitions=2)
    result = ps.fit(RowLedger(n), data, mode=mode, cluster=cluster, batch_size=300, lr=1.0)
    assert np.array_equal(result.weights, np.ones(n))
    folder = cluster.internals().fast_folder
    assert not list(folder.glob("training*"))


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ({"optimizer": "adam"}, "SGD and Adagrad can"),
        ({"optimizer": "momentum"}, "SGD and Adagrad can"),
        ({"local_steps": 2}, "several local steps"),
    ],
)
def test_sparse_pushes_that_cannot_be_are_refused_in_words(
    cluster: ps.LocalCluster, mode: dict[str, Any], words: str
) -> None:
    settings = ps.AsyncSGD(sparse=True, **mode)
    with pytest.raises(ConfigError, match=words):
        ps.fit(RowLedger(9), sparse_rows(9, 2), mode=settings, cluster=cluster, lr=1.0)


def test_dense_rows_and_other_learners_cannot_push_rows(cluster: ps.LocalCluster) -> None:
    mode = ps.AsyncSGD(sparse=True)
    X, y = sparse_rows(9, 2)
    with pytest.raises(ConfigError, match="the rows are dense"):
        ps.fit(RowLedger(9), (X.toarray(), y), mode=mode, cluster=cluster, lr=1.0)
    with pytest.raises(ConfigError, match="LeastSquares cannot"):
        ps.fit(LeastSquares(N_FEATURES), (X, y), mode=mode, cluster=cluster, lr=1.0)


def test_a_sparse_training_that_is_resumed_ends_where_an_uninterrupted_one_does(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "data": sparse_rows(160, 5),
        "cluster": cluster,
        "batch_size": 4,
        "lr": 0.3,
    }
    learner = Softmax(N_FEATURES, 5, dtype_name="float64")

    def mode(epochs: int) -> ps.AsyncSGD:
        return ps.AsyncSGD(epochs=epochs, optimizer="adagrad", n_partitions=1, sparse=True)

    whole = ps.fit(learner, mode=mode(3), **settings)
    ps.fit(learner, mode=mode(1), checkpoints=ps.Checkpoints(tmp_path), **settings)
    resumed = ps.fit(
        learner, mode=mode(3), checkpoints=ps.Checkpoints(tmp_path), resume=True, **settings
    )
    assert resumed.units == whole.units == 120
    assert resumed.sha256 == whole.sha256
