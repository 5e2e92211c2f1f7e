"""Every learner keeps the promises of its protocol, and the check sees those who do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from paramserver.models.linear import Linear
from paramserver.models.mlp import MLP
from paramserver.models.softmax import Softmax
from paramserver.testing.learners import check_learner
from paramserver.training.learner import Batch, Learner
from paramserver.training.partitions import Epoch
from paramserver.training.row_pass import PlainPass
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


def test_compiled_kernels_take_single_precision_too() -> None:
    learner = Softmax(4, 3, 0.1, "float32", 0.02, "numba")
    check_learner(learner, sparse(weighted(rows_for(learner))))


def weighted(rows: Batch) -> Batch:
    weight = np.random.default_rng(2).uniform(0.2, 3, rows.n)
    return rows._replace(weight=weight.astype(rows.X.dtype))


def sparse(rows: Batch) -> Batch:
    X = np.where(np.random.default_rng(3).random(rows.X.shape) < 0.4, rows.X, 0)
    return rows._replace(X=csr_array(X.astype(rows.X.dtype)))


MODELS = [
    lambda dtype, kernel: Softmax(4, 3, 0.1, dtype, 0.02, kernel),
    lambda dtype, kernel: Linear(4, 1, "squared_error", 0.1, dtype, 0.02, kernel),
    lambda dtype, kernel: Linear(4, 1, "log_loss", 0.1, dtype, 0.0, kernel),
    lambda dtype, kernel: Linear(4, 3, "log_loss", 0.0, dtype, 0.02, kernel),
    lambda dtype, kernel: MLP(4, 3, (5,), "tanh", 0.1, dtype, 0.02),
    lambda dtype, kernel: MLP(4, 0, (5, 2), "tanh", 0.0, dtype),
]


@pytest.mark.parametrize(
    ("kernel", "dtype"), [("numpy", "float32"), ("numpy", "float64"), ("numba", "float64")]
)
@pytest.mark.parametrize("make", MODELS)
def test_the_models_are_learners(make: Any, kernel: str, dtype: str) -> None:
    learner = make(dtype, kernel)
    rows = rows_for(learner)
    for kind in (rows, weighted(rows), sparse(rows), sparse(weighted(rows))):
        check_learner(learner, kind)


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


class Deaf(Linear):
    """Looks at no weights."""

    def smooth_gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        super().smooth_gradient(w, batch._replace(weight=None), out)

    def loss(self, w: FloatVector, data: Batch) -> float:
        return super().loss(w, data._replace(weight=None))


class Normed(Linear):
    """Divides by the sum of the weights, not by the number of rows."""

    def loss(self, w: FloatVector, data: Batch) -> float:
        assert data.weight is not None
        return super().loss(w, data) / max(1e-9, float(data.weight.mean()))

    def smooth_gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        super().smooth_gradient(w, batch, out)
        if batch.weight is not None:
            out /= batch.weight.mean()


class Blind(Linear):
    """Misses the first feature of sparse rows."""

    def outputs(self, w: FloatVector, X: Any) -> Any:
        if not isinstance(X, np.ndarray):
            X = X.copy()
            X.data[X.indices == 0] = 0
        return super().outputs(w, X)


class Forgetful(Linear):
    """Leaves a feature out of what it touches."""

    def touched(self, batch: Batch) -> Any:
        return super().touched(batch)[1:]


class Unsorted(Linear):
    def touched(self, batch: Batch) -> Any:
        rows = super().touched(batch)
        return np.concatenate([rows[:-1][::-1], rows[-1:]])


class Lazy(Linear):
    """Forgets the penalty of the rows it touches."""

    def sparse_gradient(self, w_rows: Any, rows: Any, batch: Batch, out: Any) -> None:
        super().sparse_gradient(w_rows, rows, batch, out)
        out[:-1] -= self.l2 * w_rows[:-1]


class Skips(Linear):
    """Begins each cut of a pass one batch late."""

    def local_steps(self, w: FloatVector, epoch: Epoch, batches: range, lr: float) -> None:
        super().local_steps(w, epoch, batches[batches.start > 0 :], lr)


class Elsewhere(Linear):
    """Has a way through a pass that is one batch behind."""

    def row_pass(self, epoch: Epoch) -> Any:
        way = PlainPass(self, epoch)
        gradient = way.gradient
        way.gradient = lambda number, *others: gradient(0, *others)  # type: ignore[method-assign]
        return way


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Elsewhere, "row_pass: the gradient of batch . is not that of `sparse_gradient`"),
        (Deaf, "does not heed weights"),
        (Normed, "rows of weight 0 count|differently from rows without"),
        (Blind, "another one than the same rows made dense|away from the slope"),
        (Forgetful, "leaves rows out"),
        (Unsorted, "must be sorted"),
        (Lazy, "differs from the touched rows"),
        (Skips, "in two parts"),
    ],
)
def test_the_check_sees_what_is_wrong_with_weights_and_sparse_rows(make: Any, words: str) -> None:
    learner = make(4, 1, "log_loss", 0.5, "float64", kernel="numpy")
    with pytest.raises(AssertionError, match=words):
        check_learner(learner, sparse(weighted(rows_for(learner))))
