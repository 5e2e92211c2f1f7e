"""Who knows scikit-learn meets here what stock estimators have: attributes, types, words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor

import paramserver as ps

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
FEW: dict[str, Any] = {"max_iter": 5, "random_state": 0}
SGD = ps.DistributedSGDClassifier(**FEW)
ASYNC = ps.DistributedSGDClassifier(mode="async", **FEW)
LAYERS = ps.DistributedMLPClassifier((4,), **FEW)
AVERAGED = ps.AveragedEstimator(SGDClassifier(), **FEW)
NUMBERS = ps.DistributedSGDRegressor(**FEW)
LAYERS_OR_NOT = [
    ((ps.DistributedSGDRegressor, SGDRegressor), (ps.DistributedSGDClassifier, SGDClassifier)),
    ((ps.DistributedMLPRegressor, MLPRegressor), (ps.DistributedMLPClassifier, MLPClassifier)),
]
"""For numbers, and for classes."""
CLASSIFIERS = [(SGD, SGDClassifier()), (ASYNC, SGDClassifier()), (LAYERS, MLPClassifier((4,)))]


def rows(n: int = 90) -> Any:
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    return rng.standard_normal((n, 4)) + 3 * np.eye(4)[y], np.array(["ant", "bee", "cat"])[y]


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "as_given",
    [
        pd.Series,
        lambda y: pd.Series(pd.Categorical(y)),
        lambda y: y.astype(object),
        list,
        lambda y: y == "ant",
        lambda y: np.unique(y, return_inverse=True)[1].astype(np.int8) * 7 - 3,
    ],
    ids=["series", "categorical", "objects", "list", "bool", "int8"],
)
@pytest.mark.parametrize(("ours", "stock"), CLASSIFIERS, ids=["avg", "async", "layers"])
def test_labels_come_back_as_of_the_stock_estimator(
    ours: Any, stock: Any, as_given: Callable[[Any], Any]
) -> None:
    X, y = rows()
    models = [clone(model).fit(X, as_given(y)) for model in (ours, stock)]
    np.testing.assert_array_equal(models[0].classes_, models[1].classes_)
    assert models[0].classes_.dtype == models[1].classes_.dtype
    assert models[0].predict(X).dtype == models[1].predict(X).dtype


def test_a_label_that_is_longer_than_all_others_is_not_cut_off() -> None:
    X, y = rows()
    model = clone(SGD).partial_fit(X, y.astype(object), classes=["ant", "bee", "cat", "anteater"])
    model.partial_fit(X[:1], np.array(["anteater"], object))
    with pytest.raises(ValueError, match="anteaters"):
        model.partial_fit(X[:1], np.array(["anteaters"], object))


# --- a warm start ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [SGD, ASYNC, LAYERS, AVERAGED], ids=repr)
def test_a_warm_start_from_other_classes_or_features_is_refused(model: Any) -> None:
    X, y = rows()
    model = clone(model).set_params(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"warm_start=True needs the same"):
        model.fit(X, np.where(y == "ant", "ant", "other"))
    with pytest.raises(ValueError, match=r"warm_start=True needs the same number of"):
        model.fit(X[:, :2], y)
    model.set_params(warm_start=False).fit(X[:, :2], np.where(y == "ant", "ant", "other"))


def test_a_warm_start_of_numbers_from_other_features_is_refused() -> None:
    X, _ = rows()
    for regressor in (NUMBERS, ps.DistributedMLPRegressor(hidden_layer_sizes=(4,), **FEW)):
        model = clone(regressor).set_params(warm_start=True).fit(X, X[:, 0])
        with pytest.raises(ValueError, match="the same number of features as before: 4, not 2"):
            model.fit(X[:, :2], X[:, 0])


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tol", -1.0),
        ("max_iter", 0),
        ("n_iter_no_change", 0),
        ("random_state", "x"),
        ("warm_start", "yes"),
        ("n_workers", "2"),
        ("n_partitions", 0),
        ("cluster", 4),
    ],
)
@pytest.mark.parametrize("model", [SGD, LAYERS, AVERAGED, NUMBERS], ids=repr)
def test_a_setting_that_cannot_be_is_named_with_what_may_be(
    model: Any, name: str, value: Any
) -> None:
    X, y = rows()
    wrong = clone(model).set_params(**{name: value})
    words = f"The '{name}' parameter of {type(model).__name__} must be .* Got {value!r}"
    with pytest.raises(ValueError, match=words):
        wrong.fit(X, X[:, 0] if model is NUMBERS else y)


@pytest.mark.parametrize(
    ("name", "value"), [("mode", "both"), ("validation_fraction", 1.5), ("batch_size", 0)]
)
@pytest.mark.parametrize("model", [SGD, LAYERS], ids=repr)
def test_so_is_one_that_not_all_have(model: Any, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"The '{name}' parameter of Distributed"):
        clone(model).set_params(early_stopping=True, **{name: value}).fit(*rows())


@pytest.mark.parametrize("mode", ["avg", "async"])
def test_what_the_stock_estimator_refuses_is_refused_in_its_words(mode: str) -> None:
    X, y = rows()
    mixed = {"penalty": "elasticnet", "l1_ratio": None}
    for model in (SGDClassifier(**mixed), ps.DistributedSGDClassifier(mode=mode, **mixed)):
        with pytest.raises(ValueError, match="l1_ratio"):
            model.fit(X, y)
    for model in (MLPClassifier((0,)), ps.DistributedMLPClassifier((0,), mode=mode)):
        with pytest.raises(ValueError, match="hidden_layer_sizes must be > 0"):
            model.fit(X, y)
    for model in (SGDClassifier(), ps.DistributedSGDClassifier(mode=mode)):
        with pytest.raises(ValueError, match="number of classes has to be greater than one"):
            model.partial_fit(X, np.full(90, "ant"), classes=["ant"])


# --- what is fitted -------------------------------------------------------------------------------


def test_layers_tell_their_best_loss_or_with_early_stopping_their_best_score() -> None:
    X, _ = rows(300)
    y = np.arange(300) % 3  # early stopping of stock layers before 1.7 knows no other labels
    for early_stopping in (False, True):
        models = [
            clone(model).set_params(early_stopping=early_stopping, max_iter=4).fit(X, y)
            for model in (LAYERS, MLPClassifier((4,)))
        ]
        names = [{name for name in vars(model) if name.endswith("_")} for model in models]
        assert names[1] - names[0] == set()
        assert [type(model.best_loss_) for model in models].count(type(None)) in (0, 2)
        ours = models[0]
        if early_stopping:
            assert ours.best_validation_score_ == max(ours.validation_scores_)
            assert len(ours.validation_scores_) == ours.n_iter_
        else:
            assert ours.best_loss_ == min(ours.loss_curve_)
            assert ours.validation_scores_ is ours.best_validation_score_ is None


@pytest.mark.parametrize("mode", ["avg", "async"])
@pytest.mark.parametrize("sizes", [(5,), (3,), (4, 4)])
def test_a_part_is_not_taken_by_layers_of_other_sizes_than_before(mode: str, sizes: Any) -> None:
    X, y = rows()
    model = clone(LAYERS).set_params(mode=mode).fit(X, y)
    kept = [coef.copy() for coef in model.coefs_]
    with pytest.raises(ValueError, match=r"there are, \[4\], and hidden_layer_sizes says"):
        model.set_params(hidden_layer_sizes=sizes).partial_fit(X, y)
    for own, expected in zip(model.coefs_, kept, strict=True):
        np.testing.assert_array_equal(own, expected)
    model.set_params(hidden_layer_sizes=4).partial_fit(X, y)


def test_stock_layers_that_came_back_go_on_with_their_early_stopping() -> None:
    y = np.arange(300) % 3
    X = 3 * np.eye(4)[y]
    settings: dict[str, Any] = {"early_stopping": True, "warm_start": True}
    ours = ps.DistributedMLPClassifier((16,), learning_rate_init=0.05, **settings, **FEW).fit(X, y)
    scores, kept = list(ours.validation_scores_), ours.coefs_[0].copy()
    assert (len(scores), max(scores)) == (5, 1.0)  # nothing can be better ...
    stock = ours.to_sklearn()
    assert (stock.validation_scores_, stock.best_validation_score_) == (scores, 1.0)
    stock.set_params(learning_rate_init=10.0).fit(X, y)  # ... and this is worse
    assert (stock.validation_scores_[:5], len(stock.validation_scores_)) == (scores, 10)
    np.testing.assert_array_equal(stock.coefs_[0], kept)
    np.testing.assert_array_equal(ours.coefs_[0], kept)
    assert ours.validation_scores_ == scores


@pytest.mark.parametrize("of_rows", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("n_classes", [0, 2, 3])
def test_coefficients_can_be_kept_sparse(n_classes: int, of_rows: Any) -> None:
    X, y = rows()
    target = X[:, 0] if not n_classes else y if n_classes == 3 else y == "ant"
    kinds = (NUMBERS, SGDRegressor()) if not n_classes else (SGD, SGDClassifier())
    ours = clone(kinds[0]).fit(X, target)
    before = ours.predict(of_rows(X))
    assert sparse.issparse(ours.sparsify().coef_)
    if n_classes:
        np.testing.assert_array_equal(ours.predict(of_rows(X)), before)
    else:
        np.testing.assert_allclose(ours.predict(of_rows(X)), before, rtol=1e-12)
    ours.set_params(warm_start=True).fit(X, target)
    assert not sparse.issparse(ours.coef_)
    assert ours.sparsify().densify().coef_.shape == clone(kinds[1]).fit(X, target).coef_.shape


def test_an_averaged_estimator_has_the_coefficients_of_what_it_averages() -> None:
    X, y = rows()
    assert not hasattr(AVERAGED, "coef_")
    model = clone(AVERAGED).fit(X, y)
    assert model.coef_ is model.estimator_.coef_
    assert model.intercept_ is model.estimator_.intercept_
    assert SelectFromModel(AVERAGED).fit(X, y).get_support().shape == (4,)


@pytest.mark.parametrize("n_classes", [0, 2, 3])
@pytest.mark.parametrize("kinds", LAYERS_OR_NOT)
def test_float32_rows_make_float32_weights(kinds: Any, n_classes: int) -> None:
    X, y = rows()
    target = X[:, 0] if not n_classes else y if n_classes == 3 else y == "ant"
    found = []
    for kind in kinds[bool(n_classes)]:
        model = kind(max_iter=2).fit(X.astype(np.float32), target)
        weights = model.coefs_[0] if hasattr(model, "coefs_") else model.coef_
        found.append((weights.dtype, model.predict(X.astype(np.float32)).dtype))
    assert found[0] == found[1]
    assert found[0][0] == np.float32


def test_parts_of_layers_count_as_the_stock_estimator() -> None:
    """Rows seen and passes of this call; parts need not be of one size."""
    X, _ = rows()
    how: dict[str, Any] = {"hidden_layer_sizes": (3,), "batch_size": 8, "random_state": 0}
    ours, stock = ps.DistributedMLPRegressor(shuffle=False, **how), MLPRegressor(**how)
    for model in (ours, stock):
        for part in (slice(0, 20), slice(20, 90), slice(10, 40)):
            model.partial_fit(X[part], X[part, 0])
    assert (ours.t_, ours.n_iter_) == (stock.t_, stock.n_iter_)
    assert ours._n_steps == stock._optimizer.t
    for model in (ours, stock):
        model.set_params(warm_start=True, max_iter=2).fit(X, X[:, 0])
    assert (ours.t_, ours.n_iter_) == (stock.t_, stock.n_iter_)


def test_layers_learn_a_single_class_and_pushes_refuse_it() -> None:
    X, _ = rows()
    model = clone(LAYERS).fit(X, ["ant"] * 90)
    assert set(model.predict(X)) == {"ant"} == set(model.to_sklearn().predict(X))
    with pytest.raises(ValueError, match="greater than one"):
        model.set_params(mode="async").fit(X, ["ant"] * 90)


def test_what_is_held_out_is_as_of_the_stock_estimator() -> None:
    X, y = rows()
    rare = y.copy()
    rare[:] = "bee"
    rare[:40], rare[0] = "ant", "cat"
    clone(LAYERS).set_params(early_stopping=True).fit(X, rare)  # of three classes any rows will do
    weight = np.zeros(90)
    weight[0] = 1
    for classifier in (
        SGDClassifier(early_stopping=True, random_state=0),
        clone(SGD),
        clone(ASYNC),
    ):
        with pytest.raises(ValueError, match="weights for validation set are all zero"):
            classifier.set_params(early_stopping=True).fit(X, y, sample_weight=weight)
    with pytest.raises(ValueError, match="only 1 member"):
        clone(SGD).set_params(early_stopping=True).fit(X, rare)
    for regressor in (
        MLPRegressor(early_stopping=True),
        ps.DistributedMLPRegressor(early_stopping=True),
    ):
        with pytest.raises(ValueError, match="validation set is too small"):
            regressor.fit(X[:6], X[:6, 0])


def test_batches_that_no_partition_fills_are_warned_of() -> None:
    X, y = rows()
    for model in (LAYERS, MLPClassifier((4,), max_iter=2)):
        with pytest.warns(UserWarning, match="Got `batch_size`.*larger than sample size"):
            clone(model).set_params(batch_size=91).fit(X, y)
    with pytest.warns(UserWarning, match="45 rows in a partition"):
        clone(LAYERS).set_params(batch_size=46, n_partitions=2).fit(X, y)


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [SGD, ASYNC, LAYERS, AVERAGED], ids=repr)
def test_the_form_of_the_rows_is_no_part_of_the_result(model: Any, tmp_path: Any) -> None:
    X, y = rows()
    np.save(tmp_path / "X.npy", X)
    expected = clone(model).fit(X, y).predict(X)
    for same in (np.asfortranarray(X), np.load(tmp_path / "X.npy", mmap_mode="r"), X.tolist()):
        np.testing.assert_array_equal(clone(model).fit(same, y).predict(same), expected)
    by_csr = clone(model).fit(sparse.csr_array(X), y).predict(sparse.csr_array(X))
    for kind in (sparse.csc_matrix, sparse.coo_array):
        np.testing.assert_array_equal(clone(model).fit(kind(X), y).predict(kind(X)), by_csr)


@pytest.mark.filterwarnings("error")
def test_rows_too_large_to_square_are_learnt_from_without_a_word() -> None:
    X, y = rows()
    assert np.isfinite(clone(SGD).set_params(tol=None).fit(1e200 * X, y).coef_).all()


# --- as a part of others --------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["log_loss", "hinge"])
def test_what_takes_classifiers_takes_these(loss: str) -> None:
    X, y = rows()
    model = ps.DistributedSGDClassifier(loss, **FEW)
    assert np.mean(cross_val_predict(model, X, y, cv=3) == y) > 0.8
    assert CalibratedClassifierCV(model, cv=3).fit(X, y).predict_proba(X).shape == (90, 3)
    assert OneVsRestClassifier(model).fit(pd.DataFrame(X, columns=list("abcd")), y).n_classes_ == 3
    assert SelectFromModel(model).fit(X, y).get_support().shape == (4,)
    search = GridSearchCV(model, {"alpha": [1e-4, 1e-2]}, cv=2).fit(X, y)
    assert search.best_score_ > 0.8
