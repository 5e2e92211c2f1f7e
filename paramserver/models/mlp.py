"""Multi-layer perceptrons. Arithmetic only.

Rule 1: the weights are ``coef0, intercept0, coef1, ...`` from the input to the output.
Rule 2: the penalty is ``(l2 / 2) * ||coef||^2`` over all layers, inside the mean loss; intercepts
        are never penalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError
from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector, Layout

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class MLP:
    """A learner with hidden layers; softmax over classes, or one number.

    Parameters
    ----------
    n_features : int
    n_classes : int
        0 for regression.
    hidden : tuple of int, default=(128,)
        Units of the hidden layers.
    activation : {"relu", "tanh"}
    l2 : float, default=0
        Strength of the penalty.
    dtype_name : {"float32", "float64"}
    """

    n_features: int
    n_classes: int
    hidden: tuple[int, ...] = (128,)
    activation: str = "relu"
    l2: float = 0.0
    dtype_name: str = "float32"

    default_lr = 0.1
    """For plain steps; there is no bound on the curvature to choose it by."""

    def __post_init__(self) -> None:
        if self.activation not in ("relu", "tanh"):
            raise ConfigError(
                f"activation is 'relu' or 'tanh', not '{self.activation}'.",
                field="activation",
                value=self.activation,
            )

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of weights and gradients."""
        return np.dtype(self.dtype_name)

    @property
    def layout(self) -> Layout:
        """Where the layers lie."""
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (n_in, n_out) in enumerate(self._widths()):
            shapes[f"coef{i}"] = (n_in, n_out)
            shapes[f"intercept{i}"] = (n_out,)
        return Layout(shapes)

    @property
    def size(self) -> int:
        """Length of the flat weights."""
        return sum((n_in + 1) * n_out for n_in, n_out in self._widths())

    def start(self, rng: np.random.Generator) -> FloatVector:
        """Return uniform random weights of Glorot and Bengio's (2010) width."""
        w = np.zeros(self.size, self.dtype)
        for coef, _ in self._layers(w):
            bound = sqrt((6.0 if self.activation == "tanh" else 12.0) / sum(coef.shape))
            coef[...] = rng.uniform(-bound, bound, coef.shape)
        return w

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        """Write the gradient of the mean loss, by back-propagation."""
        layers, outs = self._layers(w), self._layers(out)
        inputs = [batch.X]
        for coef, intercept in layers[:-1]:
            inputs.append(self._activate(inputs[-1] @ coef + intercept))
        coef, intercept = layers[-1]
        delta = self._output_slope(inputs[-1] @ coef + intercept, batch.y)
        delta *= 1.0 / batch.n
        for i in range(len(layers) - 1, -1, -1):
            np.matmul(inputs[i].T, delta, out=outs[i][0])
            delta.sum(axis=0, out=outs[i][1])
            if self.l2:
                outs[i][0][...] += self.l2 * layers[i][0]
            if i:
                delta = delta @ layers[i][0].T
                delta *= self._slope(inputs[i])

    def loss(self, w: FloatVector, data: Batch) -> float:
        """Return the mean loss and the penalty."""
        z = self._outputs(w, data.X)
        if self.n_classes:
            z = z - z.max(axis=1, keepdims=True)
            each = np.log(np.exp(z).sum(axis=1)) - z[np.arange(data.n), data.y]
        else:
            each = 0.5 * (z[:, 0] - data.y) ** 2
        penalty = sum(float(np.vdot(coef, coef)) for coef, _ in self._layers(w))
        return float(np.mean(each, dtype=np.float64) + 0.5 * self.l2 * penalty)

    def score(self, w: FloatVector, data: Batch) -> float:
        """Return the accuracy, or R2 for regression."""
        z = self._outputs(w, data.X)
        if self.n_classes:
            return float(np.mean(z.argmax(axis=1) == data.y))
        rest = np.sum((z[:, 0] - data.y) ** 2, dtype=np.float64)
        return float(1 - rest / np.sum((data.y - data.y.mean()) ** 2, dtype=np.float64))

    # --- inside -----------------------------------------------------------------------------------

    def _widths(self) -> list[tuple[int, int]]:
        widths = [self.n_features, *self.hidden, self.n_classes or 1]
        return list(pairwise(widths))

    def _layers(self, w: FloatVector) -> list[tuple[Array, Array]]:
        layers, start = [], 0
        for n_in, n_out in self._widths():
            cut = start + n_in * n_out
            layers.append((w[start:cut].reshape(n_in, n_out), w[cut : cut + n_out]))
            start = cut + n_out
        return layers

    def _outputs(self, w: FloatVector, X: Array) -> Array:
        layers = self._layers(w)
        for coef, intercept in layers[:-1]:
            X = self._activate(X @ coef + intercept)
        coef, intercept = layers[-1]
        z: Array = X @ coef + intercept
        return z

    def _activate(self, z: Array) -> Array:
        if self.activation == "tanh":
            return np.tanh(z, out=z)
        return np.maximum(z, 0, out=z)

    def _slope(self, activated: Array) -> Array:
        if self.activation == "tanh":
            return 1 - activated * activated
        return activated > 0

    def _output_slope(self, z: Array, y: Array) -> Array:
        if not self.n_classes:
            z -= y[:, None]
            return z
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        z[np.arange(len(y)), y] -= 1
        return z
