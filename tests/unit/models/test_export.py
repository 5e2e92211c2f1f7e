"""Trained weights as stock estimators of scikit-learn."""

from __future__ import annotations

import pickle
from inspect import signature
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor

from paramserver.errors import ConfigError
from paramserver.models.export import to_sklearn
from paramserver.models.linear import Linear
from paramserver.models.mlp import MLP
from paramserver.models.softmax import Softmax


@pytest.mark.parametrize(
    ("learner", "kind"),
    [
        (Linear(4), Ridge),
        (Linear(4, 1, "squared_error", l1=0.1), SGDRegressor),
        (Linear(4, 1, "huber"), SGDRegressor),
        (Linear(4, 1, "log_loss"), LogisticRegression),
        (Linear(4, 3, "log_loss"), SGDClassifier),
        (Linear(4, 1, "hinge"), SGDClassifier),
        (Linear(4, 3, "hinge", 0.1), SGDClassifier),
        (Softmax(4, 3), LogisticRegression),
        (Softmax(4, 2), LogisticRegression),
        (MLP(4, 3, (5, 6)), MLPClassifier),
        (MLP(4, 2, (5,), "tanh"), MLPClassifier),
        (MLP(4, 2, (5,), "logistic"), MLPClassifier),
        (MLP(4, 0, (5,)), MLPRegressor),
        (MLP(4, 0, (5, 3), "identity"), MLPRegressor),
    ],
    ids=repr,
)
def test_the_estimator_predicts_what_the_model_says(learner: Any, kind: Any) -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal(learner.size).astype("float32")
    X = rng.standard_normal((40, 4)).astype("float32")
    model = pickle.loads(pickle.dumps(learner.to_sklearn(w)))
    z = learner.outputs(w, X)
    assert type(model) is kind
    if not learner.output.is_for_classes:
        assert np.allclose(model.predict(X), z[:, 0], rtol=1e-5, atol=1e-6)
        return
    found = z.argmax(axis=1) if z.shape[1] > 1 else (z[:, 0] > 0).astype(int)
    assert np.array_equal(model.predict(X), found)
    if isinstance(learner, Softmax | MLP):
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        assert np.allclose(model.predict_proba(X), p, atol=1e-6)
    names = np.array(["a", "b", "c"])[: learner.output.n_classes]
    assert np.array_equal(to_sklearn(learner, w, names).predict(X), names[found])


def test_a_model_of_counts_is_stock_layers_where_scikit_learn_has_them() -> None:
    """Since 1.7."""
    learner = MLP(4, 0, (5,), "tanh", dtype_name="float64", loss_name="poisson")
    rng = np.random.default_rng(0)
    w, X = learner.start(rng), rng.standard_normal((40, 4))
    if "loss" in signature(MLPRegressor).parameters:
        expected = np.exp(learner.outputs(w, X)[:, 0])
        np.testing.assert_allclose(learner.to_sklearn(w).predict(X), expected, rtol=1e-12)
    else:
        with pytest.raises(ConfigError, match=r"scikit-learn 1\.7"):
            learner.to_sklearn(w)


def test_a_model_trained_by_scikit_learn_comes_back_as_itself() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    theirs = LogisticRegression().fit(X, y)
    w = np.concatenate([theirs.coef_.T.ravel(), theirs.intercept_])
    ours = to_sklearn(Softmax(4, 3, dtype_name="float64"), w)
    assert np.array_equal(ours.coef_, theirs.coef_)
    assert np.array_equal(ours.predict_proba(X), theirs.predict_proba(X))


@pytest.mark.parametrize("classes", [["a"], ["b", "a", "c"], ["a", "a", "b"]])
def test_classes_that_do_not_fit_are_refused(classes: list[str]) -> None:
    with pytest.raises(ConfigError, match="3 labels in ascending order"):
        to_sklearn(Softmax(4, 3), np.zeros(15), classes)
