"""Multinomial logistic regression (softmax). Arithmetic only.

Rule 1: the weights are ``coef`` (features, classes) and ``intercept`` (classes,), in this order.
Rule 2: the penalty is ``(l2 / 2) * ||coef||^2`` inside the mean loss; intercepts are never
        penalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector, Layout


@dataclass(frozen=True)
class Softmax:
    """A learner of class probabilities ``softmax(X @ coef + intercept)``.

    Parameters
    ----------
    n_features, n_classes : int
        Labels are the integers from 0 to ``n_classes - 1``.
    l2 : float, default=0
        Strength of the penalty.
    dtype_name : {"float32", "float64"}
    """

    n_features: int
    n_classes: int
    l2: float = 0.0
    dtype_name: str = "float32"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of weights and gradients."""
        return np.dtype(self.dtype_name)

    @property
    def layout(self) -> Layout:
        """Where ``coef`` and ``intercept`` lie."""
        return Layout({"coef": (self.n_features, self.n_classes), "intercept": (self.n_classes,)})

    @property
    def size(self) -> int:
        """Length of the flat weights."""
        return (self.n_features + 1) * self.n_classes

    def start(self, rng: np.random.Generator) -> FloatVector:
        """Return zeros: the loss is convex."""
        return np.zeros(self.size, self.dtype)

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        """Write the gradient of the mean cross-entropy, ``X.T @ (P - Y) / n + l2 * coef``."""
        X, y = batch.X, batch.y
        coef, intercept = self._parts(w)
        coef_out, intercept_out = self._parts(out)
        p = self._probabilities(X, coef, intercept)
        p[np.arange(len(y)), y] -= 1
        p *= 1.0 / len(y)
        np.matmul(X.T, p, out=coef_out)
        p.sum(axis=0, out=intercept_out)
        if self.l2:
            coef_out += self.l2 * coef

    def loss(self, w: FloatVector, data: Batch) -> float:
        """Return the mean cross-entropy and the penalty."""
        coef, intercept = self._parts(w)
        z = data.X @ coef + intercept
        z -= z.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(z).sum(axis=1))
        mean = np.mean(log_sum - z[np.arange(data.n), data.y], dtype=np.float64)
        return float(mean + 0.5 * self.l2 * np.vdot(coef, coef))

    def score(self, w: FloatVector, data: Batch) -> float:
        """Return the accuracy."""
        coef, intercept = self._parts(w)
        return float(np.mean((data.X @ coef + intercept).argmax(axis=1) == data.y))

    def curvature(self, data: Batch) -> float:
        """Return a bound on the largest eigenvalue of the Hessian: half that of ``X.T @ X / n``.

        References
        ----------
        .. [1] Böhning (1992), "Multinomial logistic regression algorithm".
        """
        return 0.5 * largest_eigenvalue(data.X) + self.l2

    def _parts(self, w: FloatVector) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        cut = self.n_features * self.n_classes
        return w[:cut].reshape(self.n_features, self.n_classes), w[cut:]

    @staticmethod
    def _probabilities(
        X: npt.NDArray[Any],
        coef: npt.NDArray[Any],
        intercept: npt.NDArray[Any],
    ) -> npt.NDArray[Any]:
        p: npt.NDArray[Any] = X @ coef
        p += intercept
        p -= p.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        return p


def largest_eigenvalue(X: npt.NDArray[Any]) -> float:
    """Return the largest eigenvalue of ``X1.T @ X1 / n``, where X1 is X with a column of ones."""
    ones = np.ones((X.shape[0], 1), np.float64)
    X1 = np.hstack([X.astype(np.float64), ones])
    gram = X1.T @ X1 if X1.shape[0] >= X1.shape[1] else X1 @ X1.T
    return float(np.linalg.eigvalsh(gram)[-1] / X.shape[0])
