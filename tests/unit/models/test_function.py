"""A function of numpy arrays as a learner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paramserver.errors import ConfigError, ShapeMismatch
from paramserver.models.function import FunctionLearner
from paramserver.testing.learners import check_learner
from paramserver.training.learner import Batch


def squared(w: Any, X: Any, y: Any) -> Any:
    error = X @ w - y
    return 0.5 * np.mean(error**2), X.T @ error / len(y)


def weighted(w: Any, X: Any, y: Any, weight: Any) -> Any:
    error = X @ w - y
    scaled = error if weight is None else weight * error
    return 0.5 * np.mean(scaled * error), X.T @ scaled / len(y)


def random_start(rng: np.random.Generator) -> Any:
    return rng.standard_normal(3)


def rows(weight: Any = None) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(rng.standard_normal((20, 3)), rng.standard_normal(20), weight)


@pytest.mark.parametrize("start", [np.zeros(3), random_start])
def test_a_function_makes_a_learner(start: Any) -> None:
    check_learner(FunctionLearner(squared, start), rows())


def test_a_function_with_weights_heeds_them() -> None:
    check_learner(FunctionLearner(weighted, np.zeros(3)), rows(np.linspace(0.1, 2, 20)))


def test_weights_that_would_be_ignored_are_refused() -> None:
    with pytest.raises(ConfigError, match="argument named weight"):
        FunctionLearner(squared, np.zeros(3)).loss(np.zeros(3), rows(np.ones(20)))
    learner = FunctionLearner(weighted, np.zeros(3), score=lambda w, X, y: 1.0)
    with pytest.raises(ConfigError, match="<lambda> of this learner takes none"):
        learner.score(np.zeros(3), rows(np.ones(20)))


def test_scores_are_the_users_own_or_minus_the_loss() -> None:
    w = np.ones(3)
    learner = FunctionLearner(squared, np.zeros(3), score=lambda w, X, y: len(y))
    assert learner.score(w, rows()) == 20.0
    assert FunctionLearner(squared, np.zeros(3)).score(w, rows()) == -learner.loss(w, rows())
    heeding = FunctionLearner(weighted, np.zeros(3), score=lambda w, X, y, weight: weight.sum())
    assert heeding.score(w, rows(np.full(20, 2.0))) == 40.0


@pytest.mark.parametrize("start", [np.zeros((2, 2)), np.zeros(3, int), 1.0])
def test_a_start_that_is_no_vector_of_floats_is_refused(start: Any) -> None:
    with pytest.raises(ConfigError, match="one flat vector"):
        FunctionLearner(squared, start)


@pytest.mark.parametrize("g", [np.zeros(2), np.zeros(3, "float32"), np.zeros((3, 1)), 0.0])
def test_a_gradient_of_another_form_is_refused(g: Any) -> None:
    learner = FunctionLearner(lambda w, X, y: (0.0, g), np.zeros(3))
    with pytest.raises(ShapeMismatch, match="gradient that the function returns"):
        learner.gradient(np.zeros(3), rows(), np.zeros(3))
