"""The same is done with a stock estimator and with ours: the same comes of it.

Which is a result of the same type and shape, or an error of the same type in the same words, and
the same warnings. What may differ stands in `docs/scikit-learn.md`.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.model_selection import cross_validate, learning_curve
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

import paramserver as ps

N = 90
RNG = np.random.default_rng(0)
NUMBERS = np.arange(N) % 3
LABELS = np.array(["ant", "bee", "cat"])[NUMBERS]
X = RNG.standard_normal((N, 4)) + 3 * np.eye(4)[NUMBERS]
TABLE = pd.DataFrame(X, columns=list("abcd"))
ONES = np.ones(N)
FEW: dict[str, Any] = {"max_iter": 3, "random_state": 0}
LAYERS: dict[str, Any] = {"hidden_layer_sizes": (4,), **FEW}
PAIRS = [
    (SGDClassifier(**FEW), ps.DistributedSGDClassifier(**FEW)),
    (SGDRegressor(**FEW), ps.DistributedSGDRegressor(**FEW)),
    (MLPClassifier(**LAYERS), ps.DistributedMLPClassifier(**LAYERS)),
    (MLPRegressor(**LAYERS), ps.DistributedMLPRegressor(**LAYERS)),
]
if "sample_weight" not in signature(MLPClassifier.fit).parameters:
    del PAIRS[2:]  # layers before scikit-learn 1.7 take no weights of rows


def is_for_labels(model: Any) -> bool:
    return bool(is_classifier(model))


def y_of(model: Any) -> Any:
    return LABELS if is_for_labels(model) else X[:, 0]


def fitted(model: Any, rows: Any = X, **how: Any) -> Any:
    return model.fit(rows, y_of(model), **how)


def part(model: Any, rows: Any = X, y: Any = None, **how: Any) -> Any:
    if is_for_labels(model):
        how = {"classes": ["ant", "bee", "cat"], **how}
    return model.partial_fit(rows, y_of(model) if y is None else y, **how)


def by_kind(model: Any, of_labels: Any, of_numbers: Any) -> Any:
    return of_labels if is_for_labels(model) else of_numbers


def with_routing(model: Any) -> Any:
    with sklearn.config_context(enable_metadata_routing=True):
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        return sorted(cross_validate(model, X, y_of(model), cv=2, params={"sample_weight": ONES}))


def read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


ACTIONS: dict[str, Callable[[Any], Any]] = {
    # names of columns
    "a table": lambda m: list(fitted(m, TABLE).feature_names_in_),
    "an array after a table": lambda m: fitted(m, TABLE).predict(X),
    "a table after an array": lambda m: fitted(m).predict(TABLE),
    "other order": lambda m: fitted(m, TABLE).predict(TABLE[["b", "a", "c", "d"]]),
    "a column less": lambda m: fitted(m, TABLE).predict(TABLE[["a", "b", "c"]]),
    "numbers for names": lambda m: hasattr(
        fitted(m, TABLE.set_axis(range(4), axis=1)), "feature_names_in_"
    ),
    "mixed names": lambda m: fitted(m, TABLE.set_axis(["a", 1, "c", "d"], axis=1)),
    "names are forgotten": lambda m: hasattr(fitted(fitted(m, TABLE)), "feature_names_in_"),
    # rows
    "a table that may lack values": lambda m: fitted(m, TABLE.convert_dtypes()).predict(X),
    "a table that lacks one": lambda m: fitted(m, TABLE.mask(TABLE > 3)),
    "a sparse table": lambda m: fitted(
        m, TABLE.clip(lower=0).astype(pd.SparseDtype("float", 0))
    ).predict(X),
    "a table of text": lambda m: fitted(m, TABLE.assign(a="x")),
    "truths": lambda m: fitted(m, X > 0).predict(X > 0),
    "integers": lambda m: fitted(m, (3 * X).astype(int)).predict(X),
    "objects": lambda m: fitted(m, X.astype(object)).predict(X),
    "text": lambda m: fitted(m, X.astype(str)).predict(X),
    "complex": lambda m: fitted(m, X.astype(complex)),
    "float16": lambda m: fitted(m, X.astype(np.float16)).predict(X),
    "infinite": lambda m: fitted(m, np.where(X > 4, np.inf, X)),
    "read-only": lambda m: m.fit(read_only(X), read_only(y_of(m))).predict(read_only(X)),
    "lists": lambda m: m.fit(X.tolist(), list(y_of(m))).predict(X.tolist()),
    "a matrix": lambda m: fitted(m, np.matrix(X)),
    "three dimensions": lambda m: fitted(m, X[None]),
    "one dimension": lambda m: fitted(m, X[:, 0]),
    "no rows": lambda m: m.fit(X[:0], y_of(m)[:0]),
    "no columns": lambda m: fitted(m, X[:, :0]),
    "integers in csr": lambda m: fitted(m, sparse.csr_matrix((2 * X).astype(int))).predict(X),
    "coo": lambda m: fitted(m, sparse.coo_matrix(X)).predict(sparse.coo_matrix(X)),
    "one row": lambda m: fitted(m).predict(X[:1]),
    "a row without its table": lambda m: fitted(m).predict(X[0]),
    "no row to predict": lambda m: fitted(m).predict(X[:0]),
    "nan to predict": lambda m: fitted(m).predict(np.full((2, 4), np.nan)),
    # what is to be predicted
    "a column": lambda m: m.fit(X, y_of(m).reshape(-1, 1)).predict(X),
    "a table of one": lambda m: m.fit(X, pd.DataFrame({"y": y_of(m)})).predict(X),
    "too few": lambda m: m.fit(X, y_of(m)[:-1]),
    "none": lambda m: m.fit(X, None),
    "infinite y": lambda m: m.fit(X, np.where(NUMBERS > 1, np.inf, X[:, 0])),
    "strings of pandas": lambda m: m.fit(
        X, pd.Series(LABELS, dtype="string") if is_for_labels(m) else X[:, 0]
    ).predict(X),
    "float labels": lambda m: m.fit(X, NUMBERS.astype(float)).predict(X),
    # weights of rows
    "weights in a list": lambda m: fitted(m, sample_weight=[1] * N).predict(X),
    "weights in a series": lambda m: fitted(
        m, sample_weight=pd.Series(ONES, index=range(5, 5 + N))
    ).predict(X),
    "one weight": lambda m: fitted(m, sample_weight=2.0).predict(X),
    "too few weights": lambda m: fitted(m, sample_weight=[1] * 5),
    "a column of weights": lambda m: fitted(m, sample_weight=ONES[:, None]),
    "weights of text": lambda m: fitted(m, sample_weight=["a"] * N),
    "a score with weights": lambda m: type(fitted(m).score(X, y_of(m), ONES)),
    # parts
    "parts": lambda m: (part(part(m)).t_, m.n_iter_),
    "a part after a fit": lambda m: (part(fitted(m)).t_, m.n_iter_),
    "a fit after a part": lambda m: (fitted(part(m)).t_, m.n_iter_),
    "a part of one row": lambda m: part(m, X[:1], y_of(m)[:1]).predict(X),
    "a part of other columns": lambda m: part(part(m), X[:, :2]),
    "a part without its names": lambda m: hasattr(part(part(m, TABLE)), "feature_names_in_"),
    "a part without classes": lambda m: m.partial_fit(X, y_of(m)),
    "a part with other classes": lambda m: (
        part(part(m), classes=["ant", "bee", "dog"]) if is_for_labels(m) else None
    ),
    "classes in any order": lambda m: (
        list(part(m, classes=["cat", "bee", "ant"]).classes_) if is_for_labels(m) else None
    ),
    # settings
    "another loss": lambda m: m.set_params(loss="other").fit(X, y_of(m)),
    "another rate": lambda m: m.set_params(learning_rate="other").fit(X, y_of(m)),
    "no rate": lambda m: m.set_params(learning_rate="constant", eta0=0.0).fit(X, y_of(m)),
    "a Generator": lambda m: m.set_params(random_state=RNG).fit(X, y_of(m)),
    "a RandomState": lambda m: fitted(m.set_params(random_state=np.random.RandomState(0))).predict(
        X
    ),
    # asked too early
    "not fitted": lambda m: m.predict(X),
    "not fitted to score": lambda m: m.score(X, y_of(m)),
    "what there is": lambda m: [
        hasattr(m, name) for name in ("predict_proba", "decision_function", "coef_", "transform")
    ],
    # as a part of others
    "a pickle": lambda m: pickle.loads(pickle.dumps(fitted(m))).predict(X),
    "shown": lambda m: repr(m.set_params(alpha=0.5)).split("(")[1],
    "a page": lambda m: len(estimator_html_repr(fitted(m))) > 1000,
    "a pipeline": lambda m: (
        make_pipeline(StandardScaler(), m)
        .set_output(transform="pandas")
        .fit(TABLE, y_of(m))
        .predict(TABLE)
    ),
    "votes": lambda m: (
        by_kind(m, VotingClassifier, VotingRegressor)([("a", m), ("b", clone(m))])
        .fit(TABLE, y_of(m))
        .predict(TABLE)
    ),
    "bags": lambda m: (
        by_kind(m, BaggingClassifier, BaggingRegressor)(m, 2).fit(X, y_of(m)).predict(X)
    ),
    "routed weights": with_routing,
    "estimators of a validation": lambda m: [
        each.predict(X)
        for each in cross_validate(m, X, y_of(m), cv=2, return_estimator=True)["estimator"]
    ],
    "a curve": lambda m: [a.shape for a in learning_curve(m, X, y_of(m), cv=2, train_sizes=[1.0])],
    "several at once": lambda m: (
        by_kind(m, MultiOutputClassifier, MultiOutputRegressor)(m)
        .fit(X, np.c_[y_of(m), y_of(m)])
        .predict(X)
    ),
}


OF_SETTINGS = {"another loss", "another rate", "no rate", "shown"}
"""An averaged estimator has none of its own."""
OF_COUNTS = {"parts", "a part after a fit", "a fit after a part"}
"""What it counts is on the estimator inside."""


def outcome(model: Any, action: Callable[[Any], Any]) -> tuple[Any, set[str]]:
    """Return what comes of it, and what is warned of, as one may see it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            came: Any = form(action(clone(model)))
        except Exception as error:
            words = str(error).replace("Distributed", "").split("Valid parameters")[0]
            came = type(error), words
    warned = {
        f"{each.category.__name__}: {each.message}".replace("Distributed", "")
        for each in caught
        if each.category is not ConvergenceWarning
    }
    return came, warned


def form(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape
    if isinstance(value, list):
        return [form(each) for each in value]
    return "an estimator" if hasattr(value, "fit") else value


@pytest.mark.parametrize("what", ACTIONS)
def test_the_same_comes_of_the_same(what: str) -> None:
    for stock, ours in PAIRS:
        expected, found = (outcome(model, ACTIONS[what]) for model in (stock, ours))
        assert found == expected, type(stock).__name__


@pytest.mark.parametrize("what", sorted(set(ACTIONS) - OF_SETTINGS - OF_COUNTS))
def test_the_same_comes_of_an_averaged_estimator(what: str) -> None:
    stock = SGDRegressor(**FEW)
    expected = outcome(stock, ACTIONS[what])
    (came, warned) = outcome(ps.AveragedEstimator(stock, **FEW), ACTIONS[what])
    if isinstance(came, tuple) and isinstance(came[0], type):
        came = came[0], came[1].replace("AveragedEstimator", "SGDRegressor")
    warned = {words.replace("AveragedEstimator", "SGDRegressor") for words in warned}
    assert (came, warned) == expected
