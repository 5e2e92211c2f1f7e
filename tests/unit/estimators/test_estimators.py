"""The estimators as parts of scikit-learn: pipelines, searches, copies, weights, the way back."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import paramserver as ps

MODES = ("avg", "async")


def blobs(n: int = 120, n_classes: int = 3) -> Any:
    rng = np.random.default_rng(0)
    y = np.arange(n) % n_classes
    return rng.standard_normal((n, 4)) + 3 * np.eye(4)[y], np.array(["a", "b", "c"])[y]


@pytest.mark.parametrize("p", [1, 4])
@pytest.mark.parametrize("mode", MODES)
def test_classifying_is_as_good_as_the_stock_estimator(mode: str, p: int) -> None:
    X, y = load_breast_cancer(return_X_y=True)
    how: dict[str, Any] = {"alpha": 0.01, "loss": "log_loss"}
    ours = ps.DistributedSGDClassifier(mode=mode, n_partitions=p, random_state=0, **how)
    stock = SGDClassifier(random_state=0, **how)
    scores = [
        cross_val_score(make_pipeline(StandardScaler(), model), X, y, cv=5).mean()
        for model in (ours, stock)
    ]
    assert scores[0] > scores[1] - 0.01


@pytest.mark.parametrize("p", [1, 4])
@pytest.mark.parametrize("mode", MODES)
def test_regression_is_as_good_as_the_stock_estimator(mode: str, p: int) -> None:
    X, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    ours = ps.DistributedSGDRegressor(mode=mode, n_partitions=p, random_state=0)
    scores = [
        cross_val_score(make_pipeline(StandardScaler(), model), X, y, cv=5).mean()
        for model in (ours, SGDRegressor(random_state=0))
    ]
    assert scores[0] > scores[1] - 0.02


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_layers_are_as_good_as_the_stock_estimator(mode: str) -> None:
    X, y = load_digits(return_X_y=True)
    X = X / 16
    how: dict[str, Any] = {"hidden_layer_sizes": (32,), "max_iter": 30, "random_state": 0}
    ours = ps.DistributedMLPClassifier(
        mode=mode, n_partitions=1, learning_rate_init=0.01, **how
    ).fit(X[:900], y[:900])
    stock = MLPClassifier(learning_rate_init=0.01, **how).fit(X[:900], y[:900])
    assert ours.score(X[900:], y[900:]) > stock.score(X[900:], y[900:]) - 0.02


def test_one_partition_is_the_stock_estimator_s_own_loop() -> None:
    """Rows in the order of the passes, given to `partial_fit` one pass after the other."""
    from paramserver.training.partitioning import cut
    from paramserver.training.partitions import generator

    X, y = blobs(n_classes=2)
    ours = ps.DistributedSGDClassifier(max_iter=3, tol=None, random_state=7).fit(X, y)
    seed = int(np.random.RandomState(7).randint(2**31 - 1))
    (order,) = cut(y, 1, "shuffled", seed)
    stock = SGDClassifier(shuffle=False)
    for number in range(3):
        rows = order[generator(seed, number, 0).permutation(len(y))]
        stock.partial_fit(X[rows], y[rows], classes=np.unique(y))
    np.testing.assert_array_equal(ours.coef_, stock.coef_)
    np.testing.assert_array_equal(ours.intercept_, stock.intercept_)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_stock_estimator_that_comes_back_predicts_the_same(mode: str, n_classes: int) -> None:
    X, y = blobs(n_classes=n_classes)
    for model in (
        ps.DistributedSGDClassifier("log_loss", mode=mode, n_partitions=2),
        ps.DistributedMLPClassifier((5,), mode=mode, max_iter=3, tol=None),
    ):
        model.fit(X, y)
        stock = model.to_sklearn()
        assert type(stock).__name__ in ("SGDClassifier", "MLPClassifier")
        np.testing.assert_array_equal(stock.predict(X), model.predict(X))
        np.testing.assert_array_equal(stock.predict_proba(X), model.predict_proba(X))
        np.testing.assert_array_equal(stock.classes_, np.unique(y))
        stock.partial_fit(X, y)  # it is whole enough to be trained on
    for regressor in (
        ps.DistributedSGDRegressor(mode=mode, n_partitions=2),
        ps.DistributedMLPRegressor(hidden_layer_sizes=(5,), mode=mode, max_iter=3, tol=None),
    ):
        regressor.fit(X, X[:, 0])
        np.testing.assert_allclose(regressor.to_sklearn().predict(X), regressor.predict(X))


@pytest.mark.parametrize("mode", MODES)
def test_the_same_random_state_gives_the_same_bits(mode: str) -> None:
    X, y = blobs()
    fits = [
        ps.DistributedSGDClassifier(mode=mode, n_partitions=3, random_state=seed).fit(X, y).coef_
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(fits[0], fits[1])
    assert (fits[0] != fits[2]).any()


def test_what_is_fitted_has_the_shapes_of_scikit_learn() -> None:
    X, y = blobs()
    model = ps.DistributedSGDClassifier(random_state=0).fit(X, y)
    stock = SGDClassifier(random_state=0).fit(X, y)
    assert (model.coef_.shape, model.intercept_.shape) == (stock.coef_.shape, (3,))
    assert model.n_iter_ == len(model.loss_curve_) == len(model.history_)
    assert model.loss_curve_[-1] < model.loss_curve_[0] or model.n_iter_ > 5
    assert model.decision_function(X).shape == stock.decision_function(X).shape


def test_a_search_and_copies_work_as_with_any_estimator() -> None:
    X, y = blobs()
    pipe = make_pipeline(StandardScaler(), ps.DistributedSGDClassifier(random_state=0))
    search = GridSearchCV(pipe, {"distributedsgdclassifier__alpha": [1e-4, 1.0]}, cv=3)
    search.fit(X, y)
    assert search.best_score_ > 0.9
    for other in (
        pickle.loads(pickle.dumps(search)),
        copy.deepcopy(search),
        clone(search).fit(X, y),
    ):
        np.testing.assert_array_equal(other.predict(X), search.predict(X))


def test_tables_keep_their_names() -> None:
    import pandas as pd

    X, y = blobs()
    table = pd.DataFrame(X, columns=list("pqrs"))
    pipe = make_pipeline(StandardScaler(), ps.DistributedSGDClassifier("log_loss"))
    pipe.set_output(transform="pandas").fit(table, y)
    model = pipe[-1]
    assert list(model.feature_names_in_) == list("pqrs")
    assert model.predict_proba(table).shape == (120, 3)
    with pytest.raises(ValueError, match="feature names"):
        pipe.predict(table[["q", "p", "r", "s"]])


def test_sparse_rows_give_what_dense_ones_give() -> None:
    from scipy.sparse import csr_matrix

    X, y = blobs()
    X[X < 0.5] = 0
    for mode in MODES:
        fits = [
            ps.DistributedSGDClassifier(mode=mode, random_state=0, n_partitions=2).fit(rows, y)
            for rows in (X, csr_matrix(X))
        ]
        agreement = np.mean(fits[0].predict(X) == fits[1].predict(csr_matrix(X)))
        assert agreement > 0.95


def test_weights_of_rows_and_of_classes_are_the_same_thing() -> None:
    X, y = blobs(n_classes=2)
    weight = np.where(y == "a", 3.0, 1.0)
    how: dict[str, Any] = {"random_state": 0, "max_iter": 4, "tol": None}
    for mode in MODES:
        by_row = ps.DistributedSGDClassifier(mode=mode, **how).fit(X, y, sample_weight=weight)
        by_class = ps.DistributedSGDClassifier(mode=mode, class_weight={"a": 3.0}, **how).fit(X, y)
        plain = ps.DistributedSGDClassifier(mode=mode, **how).fit(X, y)
        np.testing.assert_array_equal(by_row.coef_, by_class.coef_)
        assert (by_row.coef_ != plain.coef_).any()


def test_weights_are_routed_where_they_are_asked_for() -> None:
    X, y = blobs(n_classes=2)
    weight = np.where(y == "a", 1e3, 1e-3)
    model = ps.DistributedSGDClassifier(random_state=0, max_iter=5, tol=None)
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False),
            model.set_fit_request(sample_weight=True),
        )
        pipe.fit(X, y, sample_weight=weight)
    assert np.mean(pipe.predict(X) == "a") > 0.6


@pytest.mark.parametrize("mode", MODES)
def test_a_warm_start_goes_on_and_a_cold_one_does_not(mode: str) -> None:
    X, y = blobs()
    for make in (
        lambda **how: ps.DistributedSGDClassifier(mode=mode, **how),
        lambda **how: ps.DistributedMLPClassifier((5,), mode=mode, **how),
    ):
        model = make(random_state=0, max_iter=3, tol=None, warm_start=True).fit(X, y)
        first = list(model.loss_curve_)
        model.fit(X, y)
        assert model.loss_curve_[:3] == first
        assert len(model.loss_curve_) == 6
        assert model.loss_curve_[3] < first[0]
        model.set_params(warm_start=False).fit(X, y)
        assert model.loss_curve_ == first


@pytest.mark.parametrize("mode", MODES)
def test_parts_add_up(mode: str) -> None:
    X, y = blobs()
    for model in (
        ps.DistributedSGDClassifier(mode=mode, random_state=0),
        ps.DistributedMLPClassifier((8,), learning_rate_init=0.03, mode=mode, random_state=0),
        ps.AveragedEstimator(SGDClassifier(), random_state=0),
    ):
        model.partial_fit(X[:60], y[:60], classes=["a", "b", "c"])
        for _ in range(30):
            model.partial_fit(X[60:], y[60:])
        assert model.score(X, y) > 0.9
        assert len(model.loss_curve_) == 31
        with pytest.raises(ValueError, match="labels"):
            model.partial_fit(X[:2], ["a", "z"])


def test_parts_in_a_row_are_those_of_the_stock_estimator() -> None:
    """Its learning rate, and its optimizer, go on from where they were."""
    from paramserver.training.partitioning import cut
    from paramserver.training.partitions import generator

    X, _ = blobs()
    y = X[:, 0]
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    (order,) = cut(y, 1, "shuffled", seed)
    rows = order[generator(seed, 0, 0).permutation(len(y))]
    ours, stock = ps.DistributedSGDRegressor(random_state=0), SGDRegressor(shuffle=False)
    for _ in range(3):
        ours.partial_fit(X, y)
        stock.partial_fit(X[rows], y[rows])
    np.testing.assert_array_equal(ours.coef_, stock.coef_)
    assert ours.t_ == stock.t_ == 361.0

    layers = ps.DistributedMLPRegressor(hidden_layer_sizes=(3,), batch_size=20, random_state=0)
    layers.partial_fit(X, y)
    anew = copy.deepcopy(layers).set_params(warm_start=True, max_iter=1, tol=None)
    layers.partial_fit(X, y)
    anew.fit(X, y)
    assert (anew.coefs_[0] != layers.coefs_[0]).any()  # a warm start forgets the moments


def test_early_stopping_watches_rows_held_out() -> None:
    X, y = blobs(300)
    model = ps.DistributedSGDClassifier(early_stopping=True, random_state=0).fit(X, y)
    assert model.n_iter_ < 100
    assert all(told.test_score is not None for told in model.history_)


def test_an_end_before_its_time_is_warned_of() -> None:
    X, y = blobs()
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        ps.DistributedSGDClassifier(max_iter=1).fit(X, y)


def test_progress_is_printed_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = blobs()
    ps.DistributedSGDClassifier(max_iter=2, tol=None, verbose=1).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["Round 1", "Round 2"]


def test_without_intercept_there_is_none() -> None:
    X, y = blobs(n_classes=2)
    for mode in MODES:
        model = ps.DistributedSGDClassifier(mode=mode, fit_intercept=False, random_state=0)
        assert model.fit(X, y).intercept_.tolist() == [0.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "both"}, "mode"),
        ({"n_workers": 0}, "n_workers"),
        ({"n_partitions": 0}, "n_partitions"),
        ({"mode": "async", "loss": "squared_hinge"}, "losses"),
        ({"alpha": -1.0}, "alpha"),
        ({"mode": "async", "alpha": -1.0}, "alpha"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ps.DistributedSGDClassifier(**settings).fit(*blobs())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "lbfgs"}, "solver"),
        ({"batch_size": 0}, "batch_size"),
        ({"mode": "async", "beta_1": 0.5}, "Adam"),
        ({"mode": "async", "solver": "sgd", "momentum": 0.5}, "momentum"),
        ({"mode": "async", "solver": "sgd", "learning_rate": "invscaling"}, "one size"),
    ],
)
def test_settings_of_layers_that_cannot_be_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ps.DistributedMLPClassifier(**settings).fit(*blobs())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_layers_step_by_momentum(momentum: float) -> None:
    X, y = blobs()
    for mode in MODES:
        model = ps.DistributedMLPClassifier(
            (8,), solver="sgd", momentum=momentum, learning_rate_init=0.1, batch_size=20,
            mode=mode, max_iter=20, random_state=0,
        )  # fmt: skip
        assert model.fit(X, y).score(X, y) > 0.85


def test_parts_of_an_averaged_estimator_count_on_as_its_own() -> None:
    """Learning rates fall with the rows seen, and with the steps taken."""
    X, _ = blobs()
    y = X[:, 0]
    layers = MLPRegressor(hidden_layer_sizes=(3,), batch_size=7, shuffle=False, random_state=0)
    for stock in (SGDRegressor(shuffle=False), layers):
        ours = ps.AveragedEstimator(stock, random_state=0)
        ours.partial_fit(X[:50], y[:50])
        own = ours.to_sklearn()
        for part in (slice(50, 90), slice(20, 120)):
            ours.partial_fit(X[part], y[part])
            own.partial_fit(X[part], y[part])
        assert ours.estimator_.t_ == own.t_
        np.testing.assert_allclose(ours.predict(X), own.predict(X), rtol=1e-9)


def test_anything_with_partial_fit_is_averaged() -> None:
    X, y = blobs()
    model = ps.AveragedEstimator(SGDClassifier("log_loss"), n_partitions=3, random_state=0)
    model.fit(X, y)
    assert model.score(X, y) > 0.9
    np.testing.assert_array_equal(model.to_sklearn().predict(X), model.predict(X))
    assert model.predict_proba(X).shape == model.decision_function(X).shape == (120, 3)
    assert not hasattr(ps.AveragedEstimator(SGDClassifier()), "predict_proba")
    assert ps.AveragedEstimator(SGDRegressor()).fit(X, X[:, 0]).score(X, X[:, 0]) > 0.9
