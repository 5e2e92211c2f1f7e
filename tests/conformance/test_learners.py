"""Every learner keeps the promises of its protocol, and the check sees those who do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from paramserver.models.linear import Linear
from paramserver.models.mlp import MLP
from paramserver.models.softmax import Softmax
from paramserver.testing.learners import check_learner
from paramserver.training.learner import Batch, Learner
from paramserver.training.partitions import Epoch
from paramserver.training.vector import FloatVector
from tests.numerics.learners import LeastSquares


def rows_for(learner: Any) -> Batch:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((21, 4))
    n_classes = getattr(learner, "n_classes", getattr(learner, "n_outputs", 0))
    if getattr(learner, "loss_name", "") in ("log_loss", "hinge"):
        n_classes = max(2, n_classes)
    elif not hasattr(learner, "n_classes"):
        n_classes = 0
    y = rng.integers(0, n_classes, 21) if n_classes else rng.standard_normal(21)
    return Batch(X.astype(learner.dtype), y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: Softmax(4, 3, 0.1, dtype),
        lambda dtype: Linear(4, 1, "squared_error", 0.1, dtype),
        lambda dtype: Linear(4, 1, "log_loss", 0.1, dtype),
        lambda dtype: Linear(4, 3, "log_loss", 0.0, dtype),
        lambda dtype: MLP(4, 3, (5,), "tanh", 0.1, dtype),
        lambda dtype: MLP(4, 0, (5, 2), "tanh", 0.0, dtype),
    ],
)
def test_the_models_are_learners(make: Any, dtype: str) -> None:
    learner = make(dtype)
    check_learner(learner, rows_for(learner))


@dataclass(frozen=True)
class Fast(LeastSquares):
    """A learner with its own way through an epoch."""

    rate: float = 1.0

    def local_epoch(self, w: FloatVector, epoch: Epoch, lr: float) -> None:
        g = np.empty_like(w)
        for batch in epoch.batches():
            self.gradient(w, batch, g)
            w -= self.rate * lr * g


class Sum(LeastSquares):
    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        super().gradient(w, batch, out)
        out *= batch.n

    def loss(self, w: FloatVector, data: Batch) -> float:
        return data.n * super().loss(w, data)


class Half(LeastSquares):
    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        super().gradient(w, batch, out)
        out *= 0.5


class Adds(LeastSquares):
    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        out += batch.X.T @ (batch.X @ w - batch.y) / batch.n


class Writes(LeastSquares):
    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        super().gradient(w, batch, out)
        w[0] += 1


class Restless(LeastSquares):
    def start(self, rng: np.random.Generator) -> FloatVector:
        return np.random.default_rng().standard_normal(self.n_features)


class Short(LeastSquares):
    def start(self, rng: np.random.Generator) -> FloatVector:
        return np.zeros(1)


class Narrow(LeastSquares):
    def start(self, rng: np.random.Generator) -> FloatVector:
        return np.zeros(self.n_features, np.float32)


class Wordy(LeastSquares):
    def score(self, w: FloatVector, data: Batch) -> Any:
        return "good"


@pytest.mark.parametrize(
    ("learner", "words"),
    [
        (Sum(4), "MEAN"),
        (Half(4), "away from the slope"),
        (Adds(4), "what was in `out`"),
        (Writes(4), "changes w"),
        (Restless(4), "more than the generator"),
        (Short(4), "size is 4"),
        (Narrow(4), "float32 weights"),
        (Wordy(4), "score: returns str"),
        (Fast(4, rate=1.5), "local_epoch"),
    ],
)
def test_the_check_sees_what_is_wrong(learner: Learner, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_learner(learner, rows_for(learner))


def test_a_fast_learner_passes() -> None:
    check_learner(Fast(4), rows_for(Fast(4)))
