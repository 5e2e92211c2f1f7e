"""Linear models: least squares, logistic and hinge, one output a class. Arithmetic only.

Rule 1: the weights are ``coef`` (features, outputs) and ``intercept`` (outputs,), in this order.
Rule 2: the penalty is ``(l2 / 2) * ||coef||^2`` inside the mean loss; intercepts are never
        penalised.
Rule 3: the losses mean what `SGDClassifier` and `SGDRegressor` mean by their names: several classes
        are one-vs-all, two classes are one output, and the loss of an example is the sum over
        outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError
from paramserver.models.softmax import largest_eigenvalue
from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector, Layout

CURVATURE: Final = {"squared_error": 1.0, "log_loss": 0.25, "hinge": 1.0}
"""Bounds on the second derivative of each loss (for the hinge, which has none, a choice)."""


@dataclass(frozen=True)
class Linear:
    """A learner of ``X @ coef + intercept``.

    Parameters
    ----------
    n_features : int
    n_outputs : int, default=1
        1 for regression and for two classes, else the number of classes.
    loss_name : {"squared_error", "log_loss", "hinge"}
    l2 : float, default=0
        Strength of the penalty.
    dtype_name : {"float32", "float64"}
    """

    n_features: int
    n_outputs: int = 1
    loss_name: str = "squared_error"
    l2: float = 0.0
    dtype_name: str = "float32"

    def __post_init__(self) -> None:
        if self.loss_name not in CURVATURE:
            raise ConfigError(
                f"There is no loss '{self.loss_name}'. There are: {', '.join(CURVATURE)}.",
                field="loss_name",
                value=self.loss_name,
            )

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of weights and gradients."""
        return np.dtype(self.dtype_name)

    @property
    def layout(self) -> Layout:
        """Where ``coef`` and ``intercept`` lie."""
        return Layout({"coef": (self.n_features, self.n_outputs), "intercept": (self.n_outputs,)})

    @property
    def size(self) -> int:
        """Length of the flat weights."""
        return (self.n_features + 1) * self.n_outputs

    def start(self, rng: np.random.Generator) -> FloatVector:
        """Return zeros: the loss is convex."""
        return np.zeros(self.size, self.dtype)

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        """Write the gradient of the mean loss, ``X.T @ loss'(Z) / n + l2 * coef``."""
        coef, intercept = self._parts(w)
        coef_out, intercept_out = self._parts(out)
        slope = self._slope(batch.X @ coef + intercept, self._targets(batch.y))
        slope *= 1.0 / batch.n
        np.matmul(batch.X.T, slope, out=coef_out)
        slope.sum(axis=0, out=intercept_out)
        if self.l2:
            coef_out += self.l2 * coef

    def loss(self, w: FloatVector, data: Batch) -> float:
        """Return the mean loss and the penalty."""
        coef, intercept = self._parts(w)
        z, t = data.X @ coef + intercept, self._targets(data.y)
        match self.loss_name:
            case "squared_error":
                each = 0.5 * (z - t) ** 2
            case "log_loss":
                each = np.logaddexp(0, -t * z)
            case _:
                each = np.maximum(0, 1 - t * z)
        mean = np.mean(each.sum(axis=1), dtype=np.float64)
        return float(mean + 0.5 * self.l2 * np.vdot(coef, coef))

    def score(self, w: FloatVector, data: Batch) -> float:
        """Return R2 (squared error) or the accuracy."""
        coef, intercept = self._parts(w)
        z = data.X @ coef + intercept
        if self.loss_name == "squared_error":
            rest = np.sum((z[:, 0] - data.y) ** 2, dtype=np.float64)
            return float(1 - rest / np.sum((data.y - data.y.mean()) ** 2, dtype=np.float64))
        found = z[:, 0] > 0 if self.n_outputs == 1 else z.argmax(axis=1)
        return float(np.mean(found == data.y))

    def curvature(self, data: Batch) -> float:
        """Return a bound on the largest eigenvalue of the Hessian."""
        return CURVATURE[self.loss_name] * largest_eigenvalue(data.X) + self.l2

    def _parts(self, w: FloatVector) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        cut = self.n_features * self.n_outputs
        return w[:cut].reshape(self.n_features, self.n_outputs), w[cut:]

    def _targets(self, y: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what each output should be: the numbers, or +1 and -1."""
        if self.loss_name == "squared_error":
            targets: npt.NDArray[Any] = y[:, None].astype(self.dtype, copy=False)
            return targets
        one = self.dtype.type(1)
        ones = np.arange(self.n_outputs) if self.n_outputs > 1 else np.ones(1)
        signs: npt.NDArray[Any] = np.where(y[:, None] == ones, one, -one)
        return signs

    def _slope(self, z: npt.NDArray[Any], t: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the derivative of the loss by each output; may overwrite `z`."""
        match self.loss_name:
            case "squared_error":
                z -= t
                return z
            case "log_loss":
                z *= t
                slope: npt.NDArray[Any] = -t * _logistic(-z)
                return slope
            case _:
                z *= t
                return np.where(z < 1, -t, self.dtype.type(0))


def _logistic(z: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``1 / (1 + exp(-z))`` without overflow."""
    half: npt.NDArray[Any] = np.tanh(z * 0.5)
    half += 1
    half *= 0.5
    return half
