"""Learners of the estimators: the stock ones with the loss that they minimise. Arithmetic only.

Rule 1: one pass is one `partial_fit` of the stock estimator: its steps, its rates, its penalties.
Rule 2: the loss that is watched is the stock estimator's objective, penalty included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.special import xlogy

from paramserver.models.adapter import SklearnLearner
from paramserver.models.linear import Linear
from paramserver.models.losses import Array
from paramserver.models.outputs import mean
from paramserver.models.penalties import Penalty
from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector


def _huber(z: Array, t: Array, eps: float) -> Array:
    r: Array = np.abs(z - t)
    return np.where(r <= eps, 0.5 * r * r, eps * r - 0.5 * eps * eps)


def _modified_huber(z: Array, t: Array, _: float) -> Array:
    m = z * t
    return np.where(m >= -1, np.maximum(0, 1 - m) ** 2, -4 * m)


LOSSES: Final[dict[str, Callable[[Array, Array, float], Array]]] = {
    "hinge": lambda z, t, _: np.maximum(0, 1 - z * t),
    "squared_hinge": lambda z, t, _: np.maximum(0, 1 - z * t) ** 2,
    "perceptron": lambda z, t, _: np.maximum(0, -z * t),
    "log_loss": lambda z, t, _: np.logaddexp(0, -z * t),
    "modified_huber": _modified_huber,
    "squared_error": lambda z, t, _: 0.5 * (z - t) ** 2,
    "huber": _huber,
    "epsilon_insensitive": lambda z, t, eps: np.maximum(0, np.abs(z - t) - eps),
    "squared_epsilon_insensitive": lambda z, t, eps: np.maximum(0, np.abs(z - t) - eps) ** 2,
}
"""Of `SGDClassifier` and `SGDRegressor`, by their names: of (outputs, targets, epsilon)."""


@dataclass(frozen=True, eq=False)
class StockLinear(SklearnLearner):
    """`SGDClassifier` or `SGDRegressor`, by its own loss."""

    def loss(self, w: FloatVector, data: Batch) -> float:
        """Return the weighted mean loss, summed over outputs, and the penalty."""
        model = self.to_sklearn(w)
        targets = data.y[:, None]
        if self.classes is not None:
            own = self.classes if len(self.classes) > 2 else self.classes[1:]
            targets = np.where(targets == own, 1.0, -1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            z = (data.X @ model.coef_.reshape(-1, self.n_features).T) + model.intercept_
            each = LOSSES[model.loss](z, targets, model.epsilon).sum(axis=1)
            return mean(each, data.weight) + penalty_of(model).value([model.coef_])


@dataclass(frozen=True, eq=False)
class StockLayers(SklearnLearner):
    """`MLPClassifier` or `MLPRegressor`, by its own loss."""

    def loss(self, w: FloatVector, data: Batch) -> float:
        """Return the weighted mean loss by its name, or the log loss, and the penalty."""
        model = self.to_sklearn(w)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.classes is None:
                # As there: of several numbers the mean square, but the sum of deviances.
                found, y = (a.reshape(data.n, -1) for a in (model.predict(data.X), data.y))
                if model.out_activation_ == "exp":
                    each = (xlogy(y, y / found) - y + found).sum(axis=1)  # half the deviance
                else:
                    each = 0.5 * ((found - y) ** 2).mean(axis=1)
            else:
                p = model.predict_proba(data.X)[np.arange(data.n), data.y]
                each = -np.log(np.maximum(p, np.finfo(p.dtype).tiny))
            n = min(200, data.n) if model.batch_size == "auto" else model.batch_size
            return mean(each, data.weight) + Penalty(0.0, model.alpha / n).value(model.coefs_)


@dataclass(frozen=True)
class ThroughOrigin(Linear):
    """A linear learner without intercepts; for pushes, which ask for gradients alone."""

    def smooth_gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        """Write the gradient, which is zero for the intercepts."""
        super().smooth_gradient(w, batch, out)
        self._parts(out)[1][:] = 0

    def sparse_gradient(self, w_rows: Array, rows: Any, batch: Batch, out: Array) -> None:
        """Write the touched rows of the gradient; that of the intercepts is zero."""
        super().sparse_gradient(w_rows, rows, batch, out)
        out[-1] = 0


def penalty_of(settings: Any) -> Penalty:
    """Return the penalty that `penalty`, `alpha` and `l1_ratio` stand for in scikit-learn.

    Parameters
    ----------
    settings : object
        Has these three as attributes.
    """
    alpha, share = settings.alpha, settings.l1_ratio
    if settings.penalty == "elasticnet" and share is None:
        raise ValueError("l1_ratio must be set when penalty is 'elasticnet'")
    match settings.penalty:
        case "l2":
            return Penalty(0.0, alpha)
        case "l1":
            return Penalty(alpha, 0.0)
        case "elasticnet":
            return Penalty(alpha * share, alpha * (1 - share))
    return Penalty(0.0, 0.0)


def safe_rate(learner: Linear, rows: Batch, batch_size: int) -> float:
    """Return a learning rate for steps of one size that small batches do not make diverge.

    A part of one over the expected smoothness of a batch drawn without replacement [1]_: that of
    the mean loss where batches are large, that of the steepest example where they are single rows.

    Parameters
    ----------
    learner : Linear
    rows : Batch
        A sample.
    batch_size : int

    References
    ----------
    .. [1] Gower et al. (2019), "SGD: general analysis and improved rates", proposition 3.8.
    """
    n, b = rows.n, min(batch_size, rows.n)
    whole = float(learner.curvature(rows))
    squares = rows.X * rows.X if isinstance(rows.X, np.ndarray) else rows.X.multiply(rows.X)
    lengths = np.asarray(squares.sum(axis=1), np.float64).ravel() + 1.0
    if rows.weight is not None:
        lengths = lengths * rows.weight
    steepest = learner.output.bound * float(lengths.max()) + learner.penalty.l2
    share = (n - b) / (b * max(1, n - 1))  # how much of a batch's slope is that of single rows
    smoothness = n * (b - 1) / (b * max(1, n - 1)) * whole + share * steepest
    if n == 1:
        smoothness = steepest
    # Numbers to predict are noisy, and it is the last step that is kept.
    part = 0.5 if learner.output.is_for_classes else 0.1
    return part / max(smoothness, np.finfo(np.float64).tiny)
