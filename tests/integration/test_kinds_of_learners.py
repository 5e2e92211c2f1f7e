"""Learners of every kind with real processes: what comes back is what one process computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPRegressor

import paramserver as ps
from paramserver.errors import ConfigError
from paramserver.models.adapter import SklearnLearner
from paramserver.models.export import to_sklearn
from paramserver.models.softmax import Softmax
from paramserver.training.learner import Batch, FastLearner
from paramserver.training.partitioning import cut
from paramserver.training.partitions import Epoch
from paramserver.training.vector import FloatVector, Workspace, combine


@pytest.fixture(scope="module")
def cluster() -> Iterator[ps.LocalCluster]:
    with ps.LocalCluster(2) as cluster:
        yield cluster


def averaged(learner: FastLearner, rows: Batch, rounds: int, batch_size: int) -> FloatVector:
    """Two learners in this process, averaged after each pass."""
    parts = cut(rows.y, 2, "shuffled", 0)
    w = learner.start(np.random.default_rng(0))
    shares = [len(part) / rows.n for part in parts]
    for number in range(rounds):
        results = [w.copy() for _ in parts]
        for k, part in enumerate(parts):
            learner.local_epoch(results[k], Epoch(rows.take(part), batch_size, 0, number, k), 0.5)
        w = np.empty_like(w)
        combine(results, shares, w, Workspace(w.size, w.dtype))
    return w


def rows(*, sparse: bool = False, numbers: bool = False, n: int = 401) -> Batch:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n, 6))
    if sparse:
        X[rng.random(X.shape) < 0.5] = 0
    z = X @ np.array([2.0, -1, 0.5, 0, 0, 1])
    y: Any = z if numbers else np.digitize(z, [-1.0, 1.0])
    return Batch(csr_array(X) if sparse else X, y, rng.uniform(0.5, 2.0, n))


@pytest.mark.parametrize("numbers", [False, True])
def test_an_estimator_of_scikit_learn_is_trained_by_two_workers(
    cluster: ps.LocalCluster, numbers: bool
) -> None:
    data = rows(numbers=numbers)
    layers = MLPRegressor(hidden_layer_sizes=(8,), learning_rate_init=0.05, batch_size=16)
    learner = (
        SklearnLearner(layers, 6) if numbers else SklearnLearner(SGDClassifier(), 6, [0, 1, 2])
    )
    result = ps.fit(learner, tuple(data), mode=ps.Averaging(rounds=5), cluster=cluster)
    assert result.weights.tobytes() == averaged(learner, data, 5, 32).tobytes()
    model = learner.to_sklearn(result.weights)
    assert type(model) is (MLPRegressor if numbers else SGDClassifier)
    assert model.score(data.X, data.y) > 0.75


@pytest.mark.parametrize("mode", [ps.AsyncSGD(), ps.Averaging(local_steps=3)])
def test_an_estimator_is_not_asked_for_gradients(cluster: ps.LocalCluster, mode: Any) -> None:
    learner = SklearnLearner(SGDClassifier(), 6, [0, 1, 2])
    with pytest.raises(ConfigError, match="has whole passes"):
        ps.fit(learner, tuple(rows()), mode=mode, cluster=cluster)


@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_both_kernels_train_sparse_rows_to_the_same_model(
    cluster: ps.LocalCluster, kernel: str
) -> None:
    data = rows(sparse=True)
    learner = Softmax(6, 3, 1e-3, "float64", 1e-3, kernel)
    mode = ps.Averaging(rounds=6)
    result = ps.fit(learner, tuple(data), mode=mode, cluster=cluster, lr=0.5, batch_size=4)
    assert result.weights.tobytes() == averaged(learner, data, 6, 4).tobytes()
    other = Softmax(6, 3, 1e-3, "float64", 1e-3, "numpy")
    assert np.allclose(result.weights, averaged(other, data, 6, 4), rtol=0, atol=1e-12)
    model = to_sklearn(learner, result.weights)
    assert model.score(data.X, data.y, data.weight) == learner.score(result.weights, data) > 0.7
