"""Labels that fit, and scores, as scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, mean_poisson_deviance, r2_score

from paramserver.errors import ConfigError, DataError, ShapeMismatch
from paramserver.models.linear import Linear
from paramserver.models.mlp import MLP
from paramserver.models.outputs import Counts, Multinomial, Numbers, OneVsAll
from paramserver.models.softmax import Softmax
from paramserver.training.learner import Batch


@pytest.mark.parametrize(
    ("learner", "y", "words"),
    [
        (Softmax(2, 3), [0, 1, 3], "label of row 2 is 3, and the model has 3 classes"),
        (Softmax(2, 3), [0, -1], "label of row 1 is -1"),
        (Linear(2, 1, "hinge"), [0, 2], "must be from 0 to 1"),
        (MLP(2, 3), [0.0, 1.0], "integers from 0 to 2"),
        (Softmax(2, 3), ["a", "b"], "numpy.unique"),
        (Softmax(2, 3), [[0], [1]], "one for each row"),
        (Linear(2), [0.5, np.nan, np.inf], "row 1 is nan; 2 of 3"),
        (Linear(2), ["a", "b"], "this model predicts numbers"),
        (MLP(2, 0, loss_name="poisson"), [0, 3, -1], "row 2 is -1; 1 of 3 are below 0"),
        (MLP(2, 0, loss_name="poisson"), [0.0, np.nan], "row 1 is nan"),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_words(learner: Any, y: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        learner.check_labels(np.array(y))


@pytest.mark.parametrize(
    ("learner", "y"),
    [
        (Softmax(2, 3), np.array([0, 1, 2], np.uint8)),
        (Linear(2, 1, "log_loss"), np.array([True, False])),
        (Linear(2), np.array([1, 2])),
        (MLP(2, 0), np.array([0.5, 1.5])),
    ],
)
def test_labels_that_fit_are_taken(learner: Any, y: Any) -> None:
    learner.check_labels(y)


def test_rows_of_another_width_never_reach_a_compiled_loop() -> None:
    with pytest.raises(ShapeMismatch, match="2 features"):
        Softmax(2, 3).check_rows(Batch(np.zeros((4, 3)), np.zeros(4, int)))


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_those_of_scikit_learn(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    z, weight = rng.standard_normal((30, 3)), rng.random(30) if weighted else None
    y = rng.integers(0, 3, 30)
    expected = accuracy_score(y, z.argmax(axis=1), sample_weight=weight)
    assert Multinomial(3).score(z, y, weight) == pytest.approx(expected)
    binary = accuracy_score(y % 2, z[:, 0] > 0, sample_weight=weight)
    assert OneVsAll(1, "hinge").score(z[:, :1], y % 2, weight) == pytest.approx(binary)
    t = rng.standard_normal(30)
    r2 = r2_score(t, z[:, 0], sample_weight=weight)
    assert Numbers().score(z[:, :1], t, weight) == pytest.approx(r2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_counts_are_compared_by_half_the_deviance_of_scikit_learn(dtype: str) -> None:
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((30, 1)).astype(dtype), rng.poisson(1.0, 30)
    found = Counts().each(z, y)
    expected = [
        0.5 * mean_poisson_deviance([count], np.exp(out)) for count, out in zip(y, z, strict=True)
    ]
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(Counts().each(np.log([[2.0]]), np.array([2])), 0, atol=1e-15)
    assert Counts().score(z, y, None) == pytest.approx(r2_score(y, np.exp(z[:, 0])))
    assert Counts().slope(z.copy(), y).dtype == dtype


def test_r2_of_labels_that_are_all_the_same_is_one_or_zero_as_in_scikit_learn() -> None:
    y = np.full(3, 2.0)
    for found in (y, y + 1):
        assert Numbers().score(found[:, None], y, None) == r2_score(y, found)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(0),
        lambda: Linear(2, 0, "hinge"),
        lambda: Linear(2, 3),
        lambda: Linear(2, l2=-1.0),
        lambda: Linear(2, l1=float("nan")),
        lambda: Linear(2, dtype_name="float16"),
        lambda: Linear(2, loss_name="cauchy"),
        lambda: Softmax(2, 1),
        lambda: Softmax(2, 3, kernel="fortran"),
        lambda: MLP(2, 1),
        lambda: MLP(2, 3, (4, 0)),
        lambda: MLP(2, 3, kernel="numba"),
        lambda: MLP(2, 3, activation="sine"),
        lambda: MLP(2, 0, loss_name="gamma"),
    ],
)
def test_settings_that_make_no_model_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()
