"""Estimators of scikit-learn as learners: one partition is a loop of `partial_fit`, bit for bit."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import LinearRegression, Perceptron, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor

from paramserver.errors import ConfigError, DataError
from paramserver.models.adapter import SklearnLearner
from paramserver.testing.learners import check_learner
from paramserver.training.learner import Batch, FastLearner
from paramserver.training.partitions import Epoch

CLASSES = [2, 5, 9]
LAYERS = {"hidden_layer_sizes": (5,), "random_state": 3, "shuffle": False, "batch_size": 16}
ESTIMATORS = [
    SGDClassifier(loss="log_loss", learning_rate="invscaling", eta0=0.5, shuffle=False),
    SGDClassifier(penalty="elasticnet", alpha=0.01, shuffle=False),
    SGDRegressor(shuffle=False),
    Perceptron(shuffle=False),
    MLPClassifier(solver="adam", **LAYERS),
    MLPClassifier(solver="sgd", learning_rate="invscaling", learning_rate_init=0.1, **LAYERS),
    MLPRegressor(solver="sgd", momentum=0.8, **LAYERS),
]


def rows_for(estimator: Any, dtype: str, *, sparse: bool, weighted: bool) -> Batch:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 4)).astype(dtype)
    z = X @ np.array([1.0, -2.0, 0.5, 0.0], dtype)
    y = z if "Regressor" in type(estimator).__name__ else np.array(CLASSES)[np.digitize(z, [-1, 1])]
    weight = rng.uniform(0.5, 2, 50).astype(dtype) if weighted else None
    return Batch(csr_array(X) if sparse else X, y, weight)


def learner_for(
    estimator: Any, dtype: str = "float64", *, shuffles: bool | None = None
) -> SklearnLearner:
    classes = None if "Regressor" in type(estimator).__name__ else CLASSES
    return SklearnLearner(estimator, 4, classes, dtype_name=dtype, shuffles=shuffles)


@pytest.mark.parametrize(
    ("dtype", "sparse", "weighted", "shuffles"),
    [
        ("float64", False, False, None),
        ("float32", False, True, True),
        ("float64", True, True, True),
    ],
    ids=["as they lie", "float32", "sparse"],
)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: repr(e)[:40])
def test_passes_over_one_partition_are_a_loop_of_partial_fit(
    estimator: Any, dtype: str, sparse: bool, weighted: bool, shuffles: bool | None
) -> None:
    """In the order of the pass, or as they lie: by default as the estimator's `shuffle` says."""
    from sklearn.base import clone

    learner = learner_for(estimator, dtype, shuffles=shuffles)
    assert learner.shuffles is bool(shuffles)
    # As `fit` hands them over: as wide as the weights, which may be wider than was asked for.
    rows = rows_for(estimator, learner.dtype.name, sparse=sparse, weighted=weighted)
    own, w = clone(estimator), learner.start(np.random.default_rng(0))
    for number in range(3):
        epoch = Epoch(rows, 8, 1, number, 0)
        learner.local_epoch(w, epoch, 1.0)
        keywords: dict[str, Any] = {} if learner.classes is None else {"classes": CLASSES}
        taken = rows.take(epoch.order) if shuffles else rows
        if weighted:
            keywords["sample_weight"] = taken.weight
        own.partial_fit(taken.X, taken.y, **keywords)
    model = learner.to_sklearn(w)
    for name in ("coef_", "intercept_", "coefs_", "intercepts_"):
        if hasattr(own, name):
            for ours, theirs in zip(getattr(model, name), getattr(own, name), strict=True):
                assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes(), name
    assert learner.score(w, rows) == own.score(rows.X, rows.y, sample_weight=rows.weight)


def test_the_model_that_comes_back_is_the_stock_estimator() -> None:
    learner = learner_for(ESTIMATORS[0])
    rows = rows_for(ESTIMATORS[0], "float64", sparse=False, weighted=False)
    w = learner.start(np.random.default_rng(0))
    learner.local_epoch(w, Epoch(rows, 8, 0, 0, 0), 1.0)
    model = pickle.loads(pickle.dumps(learner.to_sklearn(w)))
    assert type(model) is SGDClassifier
    assert model.score(rows.X, rows.y) > 0.8
    assert model.score(rows.X, rows.y) == learner.score(w, rows)
    assert learner.loss(w, rows) == pytest.approx(1 - learner.score(w, rows))
    assert isinstance(learner, FastLearner)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: repr(e)[:40])
def test_an_estimator_keeps_the_promises_of_a_learner(estimator: Any) -> None:
    rows = rows_for(estimator, "float64", sparse=True, weighted=True)
    check_learner(learner_for(estimator), rows)


class Remembers(SklearnLearner):
    """Counts its passes, which it must not."""

    n_passes = 0

    def local_epoch(self, w: Any, epoch: Epoch, lr: float) -> None:
        super().local_epoch(w, epoch, lr)
        object.__setattr__(self, "n_passes", self.n_passes + 1)
        w += self.n_passes


def test_the_check_sees_passes_that_do_not_repeat() -> None:
    rows = rows_for(ESTIMATORS[0], "float64", sparse=False, weighted=False)
    with pytest.raises(AssertionError, match="second call"):
        check_learner(Remembers(ESTIMATORS[0], 4, CLASSES), rows)


def test_a_learner_survives_a_journey() -> None:
    learner = learner_for(ESTIMATORS[4])
    w = learner.start(np.random.default_rng(0))
    copy = pickle.loads(pickle.dumps(learner))
    rows = rows_for(ESTIMATORS[4], "float64", sparse=False, weighted=False)
    other = w.copy()
    for each, weights in ((learner, w), (copy, other)):
        each.local_epoch(weights, Epoch(rows, 8, 0, 2, 0), 1.0)
    assert w.tobytes() == other.tobytes()
    assert copy.size == learner.size == 3 * (4 * 5 + 5 + 5 * 3 + 3)  # weights and two moments


def test_layers_without_a_seed_start_from_the_seed_of_the_training() -> None:
    learner = SklearnLearner(MLPRegressor(hidden_layer_sizes=(5,), solver="sgd"), 4)
    w, again, other = (learner.start(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert w.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SklearnLearner(LinearRegression(), 4), "no partial_fit"),
        (lambda: SklearnLearner(SGDClassifier(), 4), "give classes"),
        (lambda: SklearnLearner(SGDRegressor(), 4, [0, 1]), "is no classifier"),
        (lambda: SklearnLearner(SGDRegressor(average=True), 4), "tail"),
        (lambda: SklearnLearner(SGDRegressor(early_stopping=True), 4), "do not go together"),
        (
            lambda: SklearnLearner(MLPRegressor(solver="sgd", learning_rate="adaptive"), 4),
            "averaged",
        ),
        (lambda: SklearnLearner(GaussianNB(), 4, [0, 1]).size, "name them"),
    ],
)
def test_what_cannot_be_averaged_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_arrays_of_other_names_are_averaged_when_they_are_named() -> None:
    learner = SklearnLearner(GaussianNB(), 4, CLASSES, attributes=("theta_", "var_"))
    assert learner.size == 2 * 3 * 4


def test_gradients_and_unknown_labels_and_weights_are_refused() -> None:
    learner = learner_for(ESTIMATORS[0])
    rows = rows_for(ESTIMATORS[0], "float64", sparse=False, weighted=True)
    with pytest.raises(ConfigError, match="not AsyncSGD or local_steps"):
        learner.gradient(np.zeros(learner.size), rows, np.zeros(learner.size))
    with pytest.raises(DataError, match="label of row 1 is 4"):
        learner.check_labels(np.array([2, 4]))

    class Deaf(SGDClassifier):
        def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Any:
            return super().partial_fit(X, y, classes=classes)

    deaf = SklearnLearner(Deaf(), 4, CLASSES)
    with pytest.raises(ConfigError, match="takes no weights"):
        deaf.local_epoch(np.zeros(deaf.size), Epoch(rows, 8, 0, 0, 0), 1.0)


def test_models_import_neither_scikit_learn_nor_scipy_nor_numba() -> None:
    program = (
        "import sys; from paramserver.models import adapter, export, function, named, linear, mlp;"
        "linear.Linear(3).warm_up; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    loaded = {name.partition(".")[0] for name in done.stdout.decode().split()}
    assert loaded.isdisjoint({"sklearn", "scipy", "numba"})
