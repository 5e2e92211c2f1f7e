"""Every parameter of the stock estimators is here, and means what `docs/scikit-learn.md` says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.fixes import parse_version

import paramserver as ps
from paramserver.estimators.fitting import falling_rates
from paramserver.estimators.places import workers_of
from paramserver.estimators.watching import Watching
from paramserver.runtime.cores import n_cores
from paramserver.training.result import Progress

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
PAGE = Path(__file__).parents[3] / "docs" / "scikit-learn.md"
FEW: dict[str, Any] = {"max_iter": 4, "tol": None, "random_state": 0}
HAS_POISSON = "loss" in inspect.signature(MLPRegressor).parameters
"""Since scikit-learn 1.7."""
IS_OF_TODAY = parse_version(sklearn.__version__) >= parse_version("1.9")
"""The page speaks of this scikit-learn; older ones lack some of it."""
PAIRS = [
    (SGDClassifier, ps.DistributedSGDClassifier),
    (SGDRegressor, ps.DistributedSGDRegressor),
    (MLPClassifier, ps.DistributedMLPClassifier),
    (MLPRegressor, ps.DistributedMLPRegressor),
]
LINEAR = [pair for pair in PAIRS if "SGD" in pair[0].__name__]


def rows(n: int = 90, n_classes: int = 3) -> Any:
    rng = np.random.default_rng(0)
    y = np.arange(n) % n_classes
    return rng.standard_normal((n, 4)) + 2 * np.eye(4)[y], y


def targets(kind: Any, X: Any, y: Any) -> Any:
    return y if "Classifier" in kind.__name__ else X[:, 0]


def said(heading: str) -> set[str]:
    """Return the names in the first column of a table of the page."""
    table = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.M)
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


def public(kind: Any) -> set[str]:
    X, y = rows()
    model = kind(max_iter=2).fit(X, targets(kind, X, y))
    return {name for name in dir(model) if not name.startswith("_")}


# --- the same names -------------------------------------------------------------------------------


@pytest.mark.parametrize(("stock", "ours"), PAIRS)
def test_each_parameter_has_its_name_its_default_and_its_place(stock: Any, ours: Any) -> None:
    theirs, own = inspect.signature(stock).parameters, inspect.signature(ours).parameters
    if stock is MLPRegressor and not HAS_POISSON:
        own = {name: value for name, value in own.items() if name != "loss"}
    shared = [name for name in own if name in theirs]
    assert set(theirs) - set(own) == set()
    if IS_OF_TODAY:  # some have had another default
        assert {name: own[name].default for name in shared} == {
            name: each.default for name, each in theirs.items()
        }
    by_place = [name for name, each in theirs.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert list(own)[: len(by_place)] == by_place


@pytest.mark.parametrize(("stock", "ours"), PAIRS)
def test_methods_take_the_same_arguments_in_the_same_order(stock: Any, ours: Any) -> None:
    for name, method in inspect.getmembers(ours, inspect.isfunction):
        theirs = getattr(stock, name, None)
        if name.startswith("_") or not inspect.isfunction(theirs):
            continue
        if name.startswith("set_") and not HAS_POISSON:
            continue
        own, expected = (list(inspect.signature(m).parameters) for m in (method, theirs))
        if "MLP" in stock.__name__ and name != "score" and not HAS_POISSON:
            own = [each for each in own if each != "sample_weight"]  # which came with it
        assert own == expected, name


@pytest.mark.parametrize(("stock", "ours"), PAIRS)
def test_what_one_has_and_the_other_has_not_is_on_the_page(stock: Any, ours: Any) -> None:
    theirs, own = public(stock), public(ours)
    if not IS_OF_TODAY:
        own, theirs = own & theirs, theirs & own
    assert theirs - own <= said("What is not here")
    assert own - theirs - {"loss"} <= said("What is only here")


def test_the_page_names_nothing_that_is_not_there() -> None:
    theirs = set().union(*(public(stock) for stock, _ in PAIRS))
    own = set().union(*(public(ours) for _, ours in PAIRS))
    assert said("What is not here") <= theirs
    assert said("What is only here") <= own
    if not IS_OF_TODAY:
        own |= {"set_callbacks"}
        theirs |= {"set_callbacks"}
    of_methods = {"sample_weight", "y"}
    assert said("What means something else") - of_methods <= theirs & own | {"loss"}


@pytest.mark.parametrize(("stock", "ours"), PAIRS)
def test_settings_go_from_one_to_the_other_and_back(stock: Any, ours: Any) -> None:
    X, y = rows()
    settings: dict[str, Any] = {
        "alpha": 0.01, "shuffle": False, "max_iter": 3, "tol": 0.5, "random_state": 3,
        "n_iter_no_change": 2, "warm_start": True, "validation_fraction": 0.3, "verbose": 0,
    }  # fmt: skip
    if "SGD" in stock.__name__:
        settings |= {"average": 7, "l1_ratio": 0.5, "penalty": "elasticnet"}
    else:
        settings |= {"hidden_layer_sizes": (3,), "max_fun": 7, "momentum": 0.5}
    if stock is SGDClassifier:
        settings |= {"class_weight": {0: 2.0}, "n_jobs": 1}
    given = stock(**settings)
    model = ours(**given.get_params()).fit(X, targets(stock, X, y))
    back = model.to_sklearn()
    assert type(back) is stock
    assert back.get_params() == given.get_params()
    back.fit(X, targets(stock, X, y))


# --- the same numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"learning_rate": "invscaling", "eta0": 0.1}])
@pytest.mark.parametrize(("stock", "ours"), LINEAR)
def test_rows_as_they_come_give_the_bits_of_the_stock_estimator(
    stock: Any, ours: Any, settings: Any
) -> None:
    """Of its loop of `partial_fit`; its `fit` rounds otherwise between two passes."""
    X, y = rows()
    y = targets(stock, X, y)
    keywords = {"classes": [0, 1, 2]} if stock is SGDClassifier else {}
    whole, loop = (stock(shuffle=False, **settings, **FEW) for _ in range(2))
    whole.fit(X, y)
    for _ in range(4):
        loop.partial_fit(X, y, **keywords)
    model = ours(shuffle=False, **settings, **FEW).fit(X, y)
    np.testing.assert_array_equal(model.coef_, loop.coef_)
    np.testing.assert_array_equal(model.intercept_, loop.intercept_)
    np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-9)
    assert (model.n_iter_, model.t_) == (whole.n_iter_, whole.t_)


@pytest.mark.parametrize("stock", [MLPClassifier, MLPRegressor])
def test_layers_take_rows_as_they_come_as_the_stock_estimator(stock: Any) -> None:
    """They begin elsewhere, so it goes on from where they are."""
    X, y = rows()
    ours = dict(PAIRS)[stock]
    how = {"hidden_layer_sizes": (3,), "shuffle": False, "batch_size": 20, "random_state": 0}
    model = ours(max_iter=1, solver="sgd", momentum=0, **how)
    model.fit(X, targets(stock, X, y))
    theirs = model.to_sklearn()
    for _ in range(2):
        model.partial_fit(X, targets(stock, X, y))
        theirs.partial_fit(X, targets(stock, X, y))
    for own, expected in zip(model.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_array_equal(own, expected)


def test_partitions_of_rows_as_they_come_follow_each_other() -> None:
    X, _ = rows()
    how: dict[str, Any] = {"shuffle": False, "max_iter": 1, "tol": None}
    whole = ps.DistributedSGDRegressor(n_partitions=2, **how).fit(X, X[:, 0])
    halves = [
        SGDRegressor(shuffle=False).partial_fit(X[half], X[half, 0])
        for half in (slice(45), slice(45, 90))
    ]
    np.testing.assert_allclose(whole.coef_, (halves[0].coef_ + halves[1].coef_) / 2, rtol=1e-14)


@pytest.mark.parametrize("mode", ["avg", "async"])
@pytest.mark.parametrize(("stock", "ours"), LINEAR)
def test_a_mean_is_that_of_the_weights_after_each_round(stock: Any, ours: Any, mode: str) -> None:
    """An integer: from the round on in which so many rows have been seen."""
    X, y = rows()
    y = targets(stock, X, y)
    how: dict[str, Any] = {"mode": mode, "n_partitions": 2, "random_state": 0, "tol": None}
    after = [ours(max_iter=n, **how).fit(X, y) for n in (1, 2, 3, 4)]
    for average, first in ((True, 0), (1, 0), (90, 0), (91, 1), (350, 3), (1000, None)):
        model = ours(max_iter=4, average=average, **how).fit(X, y)
        kept = after[3:] if first is None else after[first:]
        for name in ("coef_", "intercept_"):
            expected = np.mean([getattr(each, name) for each in kept], axis=0)
            np.testing.assert_allclose(getattr(model, name), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("n_classes", [0, 2, 3])
def test_a_mean_goes_on_in_parts_and_in_the_stock_estimator(n_classes: int) -> None:
    X, y = rows(n_classes=max(2, n_classes))
    kind = ps.DistributedSGDClassifier if n_classes else ps.DistributedSGDRegressor
    y = y if n_classes else X[:, 0]
    keywords = {"classes": np.unique(y)} if n_classes else {}
    plain, mean = kind(random_state=0), kind(random_state=0, average=True)
    seen = []
    for _ in range(3):
        plain.partial_fit(X, y, **keywords)
        mean.partial_fit(X, y, **keywords)
        seen.append(plain.coef_)
        np.testing.assert_allclose(mean.coef_, np.mean(seen, axis=0), rtol=1e-12)
    stock = mean.to_sklearn()
    np.testing.assert_array_equal(stock.predict(X), mean.predict(X))
    before = stock.coef_.copy()
    stock.partial_fit(X, y)
    assert 0 < np.abs(stock.coef_ - before).max() < 0.2 * np.abs(before).max()


@pytest.mark.parametrize("n_classes", [0, 2, 3])
@pytest.mark.parametrize("mode", ["avg", "async"])
def test_a_fit_starts_from_the_weights_it_is_given(n_classes: int, mode: str) -> None:
    X, y = rows(n_classes=max(2, n_classes))
    kind = ps.DistributedSGDClassifier if n_classes else ps.DistributedSGDRegressor
    stock = SGDClassifier if n_classes else SGDRegressor
    y = y if n_classes else X[:, 0]
    first = kind(mode=mode, **FEW).fit(X, y)
    warm = clone(first).set_params(warm_start=True).fit(X, y).fit(X, y)
    given = clone(first).fit(X, y, coef_init=first.coef_, intercept_init=first.intercept_)
    np.testing.assert_array_equal(given.coef_, warm.coef_)
    np.testing.assert_array_equal(given.intercept_, warm.intercept_)
    for wrong in ({"coef_init": np.zeros((5, 9))}, {"intercept_init": np.zeros(7)}):
        for each in (stock(), first):
            with pytest.raises(ValueError, match="does not match dataset"):
                each.fit(X, y, **wrong)


@pytest.mark.parametrize(("stock", "ours"), LINEAR)
def test_an_adaptive_rate_falls_to_a_fifth_where_nothing_gets_better(stock: Any, ours: Any) -> None:
    X, y = rows(300)
    y = targets(stock, X, y)
    how: dict[str, Any] = {"shuffle": False, "alpha": 0.01, "eta0": 0.05, "random_state": 0}
    adaptive = {"learning_rate": "adaptive", "n_iter_no_change": 2, "tol": 1e-3}
    model = ours(**adaptive, **how).fit(X, y)
    loop = stock(learning_rate="constant", **how)
    keywords = {"classes": np.unique(y)} if stock is SGDClassifier else {}
    watching = Watching(1e-3, 2, by_score=False, verbose=False)
    losses = iter(model.loss_curve_)
    for rate in falling_rates(0.05):
        watching.begin_anew()
        while not watching.has_converged:
            loop.set_params(eta0=rate).partial_fit(X, y, **keywords)
            watching(Progress(0, 0, 0.0, next(losses), None))
    assert list(losses) == []
    np.testing.assert_array_equal(model.coef_, loop.coef_)
    assert model.n_iter_ == len(model.history_) == watching.n_rounds < model.max_iter
    assert [told.unit for told in model.history_] == list(range(1, model.n_iter_ + 1))
    assert model.t_ == loop.t_
    shorter = clone(model).set_params(max_iter=model.n_iter_ - 1)
    with pytest.warns(ConvergenceWarning):
        shorter.fit(X, y)
    assert shorter.loss_curve_ == model.loss_curve_[:-1]


def test_rates_fall_to_a_millionth_as_of_the_stock_estimator() -> None:
    rates = falling_rates(0.05)
    assert rates == pytest.approx([0.05 / 5**n for n in range(len(rates))], rel=1e-12)
    assert rates[-2] > 1e-6 >= rates[-1]
    assert falling_rates(1e-7) == [1e-7]


@pytest.mark.parametrize("mode", ["avg", "async"])
def test_layers_have_an_adaptive_rate_too_and_adam_does_not_look_at_it(mode: str) -> None:
    X, y = rows(300)
    how: dict[str, Any] = {
        "hidden_layer_sizes": (4,), "learning_rate_init": 0.1, "n_iter_no_change": 2,
        "tol": 1e-2, "max_iter": 300, "mode": mode, "random_state": 0,
    }  # fmt: skip
    kind = ps.DistributedMLPClassifier
    models = {
        name: kind(solver="sgd", learning_rate=name, **how).fit(X, y)
        for name in ("constant", "adaptive")
    }
    first = models["constant"].n_iter_
    curves = [model.loss_curve_[: first - 1] for model in models.values()]
    assert curves[0] == curves[1]
    assert models["adaptive"].n_iter_ >= first + 3 * (len(falling_rates(0.1)) - 1)
    for name in ("adaptive", "invscaling"):
        adam = [kind(learning_rate=each, **how).fit(X, y) for each in (name, "constant")]
        assert adam[0].loss_curve_ == adam[1].loss_curve_


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(("stock", "ours"), PAIRS)
def test_parts_and_rows_held_out_do_not_go_together(stock: Any, ours: Any) -> None:
    X, y = rows()
    for kind in (stock, ours):
        model = kind(early_stopping=True)
        keywords = {"classes": [0, 1, 2]} if "Classifier" in kind.__name__ else {}
        with pytest.raises(ValueError, match="early_stopping"):
            model.partial_fit(X, targets(kind, X, y), **keywords)


@pytest.mark.parametrize(("_", "ours"), PAIRS)
def test_pushes_come_in_no_order_of_rows(_: Any, ours: Any) -> None:
    X, y = rows()
    with pytest.raises(ValueError, match="shuffle=False needs mode='avg'"):
        ours(mode="async", shuffle=False).fit(X, targets(ours, X, y))


def test_n_jobs_is_another_word_for_n_workers() -> None:
    X, y = rows()
    assert [workers_of(n, None) for n in (-1, 1, 3)] == [None, 1, 3]
    assert workers_of(-2, None) == max(1, n_cores() - 1)
    assert workers_of(-1000, None) == 1
    assert ps.DistributedSGDClassifier(n_jobs=1)._place(10**6).n_partitions == 1
    with pytest.raises(ValueError, match="n_jobs == 0"):
        ps.DistributedSGDClassifier(n_jobs=0).fit(X, y)
    with pytest.raises(ValueError, match="two words for one thing"):
        ps.DistributedSGDClassifier(n_jobs=2, n_workers=2).fit(X, y)


# --- layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["avg", "async"])
def test_early_stopping_of_layers_keeps_the_best_weights(mode: str) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 4)), rng.integers(0, 2, 200)  # there is nothing to learn
    model = ps.DistributedMLPClassifier(
        (16,), mode=mode, early_stopping=True, learning_rate_init=0.05, max_iter=12, random_state=1
    ).fit(X, y)
    assert model.validation_scores_ is not None
    best = int(np.argmax(model.validation_scores_))
    assert best < model.n_iter_ - 1  # or nothing would be shown here
    shorter = clone(model).set_params(max_iter=best + 1).fit(X, y)
    for own, expected in zip(model.coefs_, shorter.coefs_, strict=True):
        np.testing.assert_array_equal(own, expected)
    score = model.best_validation_score_
    again = clone(model).set_params(warm_start=True, learning_rate_init=1e-12).fit(X, y)
    kept = [coef.copy() for coef in again.coefs_]
    again.fit(X, y)  # none of its rounds is better than what it starts from
    assert again.best_validation_score_ <= score
    for own, expected in zip(again.coefs_, kept, strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-9)


@pytest.mark.parametrize("mode", ["avg", "async"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_layers_have_each_activation(mode: str, activation: str) -> None:
    X, y = rows(300)
    model = ps.DistributedMLPClassifier(
        (8,), activation, learning_rate_init=0.05, batch_size=20, mode=mode, max_iter=25,
        random_state=0,
    )  # fmt: skip
    assert model.fit(X, y).score(X, y) > 0.8
    np.testing.assert_array_equal(model.to_sklearn().predict(X), model.predict(X))


@pytest.mark.parametrize("loss", ["squared_error", "poisson"] if HAS_POISSON else ["squared_error"])
def test_layers_predict_several_numbers_a_row_as_the_stock_estimator(loss: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 3))
    y = np.exp(0.5 * X)
    losses = {"loss": loss} if HAS_POISSON else {}
    how: dict[str, Any] = {
        "hidden_layer_sizes": (5,), "learning_rate_init": 0.01, "shuffle": False,
        "random_state": 0, **losses,
    }  # fmt: skip
    ours = ps.DistributedMLPRegressor(**how).partial_fit(X, y)
    stock = ours.to_sklearn()
    assert (ours.n_outputs_, ours.predict(X).shape) == (3, (120, 3))
    ours.set_params(solver="sgd", momentum=0).partial_fit(X, y)
    stock.set_params(solver="sgd", momentum=0).partial_fit(X, y)
    np.testing.assert_allclose(ours.predict(X), stock.predict(X), rtol=1e-12)
    # A full batch is looked at before its step there, after it here.
    assert stock.partial_fit(X, y).loss_ == pytest.approx(ours.loss_, rel=1e-6)
    more = clone(ours).set_params(max_iter=200, early_stopping=True, solver="adam").fit(X, y)
    assert more.score(X, y) > 0.3
    assert len(more.validation_scores_) == more.n_iter_
    whole = clone(ours).fit(X.astype(np.float32), y)
    assert whole.coefs_[-1].dtype == np.float32
    with pytest.raises(ValueError, match="2 numbers a row, and the parts before had 3"):
        ours.partial_fit(X, y[:, :2])
    with pytest.raises(ValueError, match=r"one number a row, and y is of shape \(120, 3\)"):
        clone(ours).set_params(mode="async", shuffle=True).fit(X, y)


@pytest.mark.parametrize("mode", ["avg", "async"])
def test_layers_learn_counts_as_the_stock_estimator(mode: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 3))
    y = rng.poisson(np.exp(0.5 * X[:, 0] - 0.3 * X[:, 1] + 0.5))
    how: dict[str, Any] = {
        "loss": "poisson", "hidden_layer_sizes": (8,), "learning_rate_init": 0.01, "max_iter": 40,
        "random_state": 0,
    }  # fmt: skip
    ours = ps.DistributedMLPRegressor(mode=mode, n_partitions=2, batch_size=50, **how)
    if not HAS_POISSON:
        with pytest.raises(ValueError, match=r"'loss' parameter .*'squared_error'"):
            ours.fit(X, y)
        return
    stock = MLPRegressor(**how).fit(X, y)
    ours.fit(X, y)
    assert (ours.predict(X) > 0).all()
    assert ours.score(X, y) > stock.score(X, y) - 0.05
    assert abs(ours.loss_ - stock.loss_) < 0.1
    again = ours.to_sklearn()
    assert (again.loss, again.out_activation_) == ("poisson", "exp")
    np.testing.assert_array_equal(again.predict(X), ours.predict(X))
    with pytest.raises(ValueError, match="1 values below 0"):
        ours.fit(X, np.where(np.arange(600) == 5, -1, y))
