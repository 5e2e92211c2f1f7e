"""Models against the optima that scikit-learn finds: ridge, elastic net, logistic, softmax, SVM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge

from paramserver.models.linear import Linear
from paramserver.models.softmax import Softmax
from paramserver.training.learner import Batch
from paramserver.training.partitions import Epoch

N, D = 120, 8


def trained(learner: Any, rows: Batch, epochs: int) -> Any:
    """Full passes of one batch each: proximal gradient descent, which converges to the optimum."""
    w, lr = learner.start(np.random.default_rng(0)), 1 / learner.curvature(rows)
    for number in range(epochs):
        learner.local_epoch(w, Epoch(rows, N, 0, number, 0), lr)
    parts = learner.layout.views(w)
    return parts["coef"].T, parts["intercept"]


def rows(kind: str) -> Batch:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((N, D))
    z = X @ np.array([2.0, -1.5, 1, 0, 0, 0, 0, 0.5]) + 0.5 * rng.standard_normal(N)
    y = z if kind == "numbers" else np.digitize(z, [-1.0, 1.0] if kind == "three" else [0.0])
    return Batch(X, y, rng.uniform(0.2, 2.0, N))


@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_ridge(kernel: str) -> None:
    data = rows("numbers")
    learner = Linear(D, 1, "squared_error", 0.3, "float64", kernel=kernel)
    coef, intercept = trained(learner, data, 300)
    theirs = Ridge(alpha=0.3 * N).fit(data.X, data.y, data.weight)
    assert np.allclose(coef[0], theirs.coef_, atol=1e-8)
    assert np.allclose(intercept, theirs.intercept_, atol=1e-8)


@pytest.mark.parametrize(("kernel", "sparse"), [("numpy", False), ("numpy", True), ("numba", True)])
def test_the_elastic_net_with_its_zeros(kernel: str, sparse: bool) -> None:
    data = rows("numbers")._replace(weight=None)
    theirs = ElasticNet(alpha=0.4, l1_ratio=0.5, tol=1e-12, max_iter=10**5).fit(data.X, data.y)
    learner = Linear(D, 1, "squared_error", 0.2, "float64", 0.2, kernel)
    if sparse:
        data = data._replace(X=csr_array(data.X))
    coef, intercept = trained(learner, data, 300)
    assert np.allclose(coef[0], theirs.coef_, atol=1e-8)
    assert np.allclose(intercept, theirs.intercept_, atol=1e-8)
    assert (coef[0] == 0).tolist() == (theirs.coef_ == 0).tolist()
    assert 0 < (coef == 0).sum() < D


@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_logistic_regression_of_two_classes(kernel: str) -> None:
    data = rows("two")
    learner = Linear(D, 1, "log_loss", 0.05, "float64", kernel=kernel)
    coef, intercept = trained(learner, data, 3_000)
    theirs = LogisticRegression(C=1 / (0.05 * N), tol=1e-10).fit(data.X, data.y, data.weight)
    assert np.allclose(coef, theirs.coef_, atol=1e-6)
    assert np.allclose(intercept, theirs.intercept_, atol=1e-6)


def test_softmax_regression() -> None:
    data = rows("three")
    coef, intercept = trained(Softmax(D, 3, 0.05, "float64", kernel="numba"), data, 3_000)
    theirs = LogisticRegression(C=1 / (0.05 * N), tol=1e-10).fit(data.X, data.y, data.weight)
    assert np.allclose(coef, theirs.coef_, atol=1e-6)
    difference = intercept - theirs.intercept_  # one number may be added to all intercepts
    assert np.allclose(difference, difference.mean(), atol=1e-6)


@pytest.mark.parametrize("kernel", ["numpy", "numba"])
@pytest.mark.parametrize(
    ("loss", "theirs"),
    [("hinge", "hinge"), ("perceptron", "perceptron"), ("modified_huber", "modified_huber")],
)
def test_steps_of_one_example_are_those_of_sgd_classifier(
    loss: str, theirs: str, kernel: str
) -> None:
    """Without penalties the two take the very same steps; the rows are taken in the same order."""
    from sklearn.linear_model import SGDClassifier

    data = rows("two")._replace(weight=None)
    epoch = Epoch(data, 1, 0, 0, 0)
    learner = Linear(D, 1, loss, 0.0, "float64", kernel=kernel)
    w = learner.start(np.random.default_rng(0))
    learner.local_epoch(w, epoch, 0.1)
    model = SGDClassifier(
        loss=theirs, penalty=None, learning_rate="constant", eta0=0.1, shuffle=False
    )
    model.partial_fit(data.X[epoch.order], data.y[epoch.order], classes=[0, 1])
    assert np.allclose(w[:D], model.coef_[0], atol=1e-12)
    assert np.allclose(w[D:], model.intercept_, atol=1e-12)
