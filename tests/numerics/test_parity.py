"""Trained in parallel, a model is as good as the one that scikit-learn trains in one sequence.

Statement. With the same loss and penalty, on scaled features, the held-out score of either mode
(accuracy, or R2) is in the mean over 10 seeds not below that of scikit-learn's sequential
counterpart by more than 0.5 points, or two standard errors of the paired difference where those are
more. A seed is a split of the data, and the order of the rows; Fashion-MNIST comes with its split.

It may be above: an average is less noisy than the last step of one sequence. Both are given time to
converge: it is the model that is compared, not the way to it. A learner of p takes a p-th of the
steps of a pass, so averaging gets p times as many rounds as the sequence has passes.
"""

from __future__ import annotations

from functools import cache
from math import sqrt
from typing import Any

import numpy as np
import pytest

from paramserver.data.dataset import Dataset
from paramserver.data.datasets import load
from paramserver.models.linear import Linear
from paramserver.models.softmax import Softmax
from paramserver.training.intake import choose_lr
from paramserver.training.learner import Batch, Learner
from paramserver.training.optimizers import SGD
from paramserver.training.partitioning import cut
from tests.numerics.inprocess import Pushing, average

SEEDS = range(10)
SMALL_L2, LARGE_L2 = 0.01, 0.1
"""Raw pixels are far from centred: it takes a larger penalty to converge in the time there is."""
POINTS = 0.005
SMALL = [
    ("breast-cancer", "log_loss"), ("wine", "log_loss"), ("digits", "log_loss"),
    ("digits", "softmax"), ("diabetes", "squared_error"),
]  # fmt: skip
ALL = [
    *SMALL, ("breast-cancer", "hinge"), ("wine", "hinge"), ("wine", "softmax"),
    ("digits", "hinge"), ("breast-cancer", "softmax"), ("fashion-mnist", "log_loss"),
]  # fmt: skip


@cache
def data_of(name: str, seed: int) -> Dataset:
    if name == "fashion-mnist":
        return load(name) if seed == 0 else data_of(name, 0)
    return load(name, seed=seed, dtype=np.float64)


def l2_of(name: str) -> float:
    return LARGE_L2 if name == "fashion-mnist" else SMALL_L2


def passes_of_counterpart(name: str) -> int:
    return 10 if name == "fashion-mnist" else 60


def counterpart(loss: str, seed: int, name: str) -> Any:
    """Return scikit-learn's own, with the penalty that ours has, and time to converge."""
    from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor

    how = {"alpha": l2_of(name), "tol": None, "random_state": seed}
    how["max_iter"] = passes_of_counterpart(name)
    match loss:
        case "softmax":
            return LogisticRegression(max_iter=1000)  # its C follows from the number of rows
        case "squared_error":
            return SGDRegressor(**how)
        case _:
            return SGDClassifier(loss=loss, **how)


@cache
def scores_of_counterpart(name: str, loss: str) -> list[float]:
    scores = []
    for seed in SEEDS:
        data = data_of(name, seed)
        model = counterpart(loss, seed, name)
        if loss == "softmax":
            model.set_params(C=1 / (l2_of(name) * len(data.y_train)))
        model.fit(data.X_train, data.y_train)
        scores.append(float(model.score(data.X_test, data.y_test)))
    return scores


def learner_for(data: Dataset, loss: str) -> Learner:
    dtype_name = data.X_train.dtype.name
    l2 = l2_of(data.name)
    if loss == "softmax":
        return Softmax(data.n_features, data.n_classes, l2, dtype_name)
    n_outputs = data.n_classes if data.n_classes > 2 else 1
    return Linear(data.n_features, n_outputs, loss, l2, dtype_name)


def score_of_ours(mode: str, p: int, name: str, loss: str, seed: int) -> float:
    data = data_of(name, seed)
    is_large = name == "fashion-mnist"
    learner = learner_for(data, loss)
    rows = Batch(data.X_train, data.y_train)
    parts = [rows.take(part) for part in cut(rows.y, p, "shuffled", seed)]
    # Numbers to predict are noisy here: a small step, or the last one shows in R2.
    factor = 0.25 if data.n_classes else 0.05
    if is_large:  # its passes end with small batches, which show where no mean is taken
        factor = 0.5 if mode == "avg" else 0.125
    lr = choose_lr(learner, rows, seed) * factor
    batch_size = 64 if is_large else 32 if rows.n > 1000 else 16
    w = np.zeros(learner.size, learner.dtype)
    if mode == "avg":
        rounds = passes_of_counterpart(name) * p
        w = average(
            learner, parts, w, rounds=rounds, steps=None, lr=lr, batch_size=batch_size, seed=seed
        )
    else:
        rng = np.random.default_rng(seed)
        pushing = Pushing(learner, parts, w, SGD(lr), batch_size=batch_size, seed=seed)
        w = pushing.run(30, lambda able: int(rng.choice(able)))
    return learner.score(w, Batch(data.X_test, data.y_test))


def assert_parity(mode: str, p: int, name: str, loss: str) -> None:
    ours = [score_of_ours(mode, p, name, loss, seed) for seed in SEEDS]
    difference = np.array(ours) - scores_of_counterpart(name, loss)
    error = float(difference.std(ddof=1)) / sqrt(len(SEEDS))
    assert error < 0.01  # else two of them would excuse anything
    assert float(difference.mean()) >= -max(POINTS, 2 * error), (
        f"{name}, {loss}, {mode}, p={p}: {difference.mean():+.4f} +- {error:.4f}"
    )


@pytest.mark.parametrize("mode", ["avg", "async"])
@pytest.mark.parametrize(("name", "loss"), SMALL)
def test_two_learners_are_as_good_as_one_sequence(mode: str, name: str, loss: str) -> None:
    assert_parity(mode, 2, name, loss)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("p", range(1, 9))
@pytest.mark.parametrize("mode", ["avg", "async"])
@pytest.mark.parametrize(("name", "loss"), ALL)
def test_any_number_of_learners_is_as_good_as_one_sequence(
    mode: str, name: str, loss: str, p: int
) -> None:
    assert_parity(mode, p, name, loss)
