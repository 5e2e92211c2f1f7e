"""The estimators pass scikit-learn's whole suite, but for what the stock ones fail themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

import paramserver as ps

WEIGHTS = dict.fromkeys(
    (
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weight_equivalence_on_sparse_data",
    ),
    "a row of weight 2 takes one step twice as long, two rows take two steps: as of the stock one",
)
SGD = [
    ps.DistributedSGDClassifier(max_iter=5),
    ps.DistributedSGDRegressor(max_iter=5),
    ps.DistributedSGDClassifier(max_iter=5, mode="async", batch_size=8),
    ps.DistributedSGDRegressor(max_iter=5, mode="async", batch_size=8),
    ps.AveragedEstimator(SGDClassifier(), max_iter=5),
    ps.AveragedEstimator(SGDRegressor(), max_iter=5),
]
LAYERS = [
    ps.DistributedMLPClassifier((10,), learning_rate_init=0.03, max_iter=15),
    ps.DistributedMLPRegressor(hidden_layer_sizes=(10,), learning_rate_init=0.03, max_iter=15),
    ps.DistributedMLPClassifier(
        (10,), learning_rate_init=0.03, batch_size=32, max_iter=30, mode="async"
    ),
    ps.DistributedMLPRegressor(
        hidden_layer_sizes=(10,), learning_rate_init=0.03, batch_size=32, max_iter=30, mode="async"
    ),
]


def checks(estimators: list[Any], expected: dict[str, str]) -> Any:
    """Return all checks but that of array types which are switched off here."""
    mark = parametrize_with_checks(estimators, expected_failed_checks=lambda _: expected)
    cases = [case for case in mark.args[1] if "check_array_api_input" not in repr(case)]
    return pytest.mark.parametrize(mark.args[0], cases, **mark.kwargs)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@checks(SGD, WEIGHTS)
def test_estimators_that_step_row_by_row_pass_each_check(
    estimator: Any, check: Callable[[Any], None]
) -> None:
    check(estimator)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:Got `batch_size` larger than sample size")  # as the stock ones
@checks(LAYERS, {})
def test_estimators_of_layers_pass_each_check(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.mark.parametrize("stock", [SGDClassifier(), SGDRegressor()])
@pytest.mark.parametrize("name", sorted(WEIGHTS))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_is_expected_to_fail_fails_in_the_stock_estimator_too(stock: Any, name: str) -> None:
    with pytest.raises(AssertionError):
        getattr(estimator_checks, name)(type(stock).__name__, stock)
