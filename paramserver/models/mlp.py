"""Multi-layer perceptrons. Arithmetic only.

Rule 1: the weights are ``coef0, intercept0, coef1, ...`` from the input to the output.
Rule 2: penalties are those of `models.penalties`, over the coefficients of all layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import sqrt
from typing import Final

import numpy as np

from paramserver.errors import ConfigError
from paramserver.models.losses import Array, logistic
from paramserver.models.model import Model
from paramserver.models.outputs import Counts, Multinomial, Numbers, Output, scale
from paramserver.training.learner import Batch, Matrix
from paramserver.training.vector import FloatVector, Layout

GLOROT: Final = {"relu": 12.0, "tanh": 6.0, "logistic": 2.0, "identity": 6.0}
"""By activation: the squared bound of the weights to start from, times fan-in plus fan-out."""


@dataclass(frozen=True)
class MLP(Model):
    """A learner with hidden layers; softmax over classes, or one number.

    Parameters
    ----------
    n_features : int
    n_classes : int
        0 for regression.
    hidden : tuple of int, default=(128,)
        Units of the hidden layers.
    activation : {"relu", "tanh", "logistic", "identity"}
        Of the hidden layers.
    l2, l1 : float, default=0
        Strengths of the penalties.
    dtype_name : {"float32", "float64"}
    kernel : {"auto", "numpy"}
        There is only one: all work is in BLAS.
    loss_name : {"squared_error", "poisson"}
        Of regression: half the squared error, or half the Poisson deviance of the exponential.
    """

    n_classes: int
    hidden: tuple[int, ...] = (128,)
    activation: str = "relu"
    l2: float = 0.0
    dtype_name: str = "float32"
    l1: float = 0.0
    kernel: str = "numpy"
    loss_name: str = "squared_error"

    default_lr = 0.1
    """For plain steps; there is no bound on the curvature to choose it by."""

    def __post_init__(self) -> None:
        if self.activation not in GLOROT:
            raise ConfigError(
                f"activation is one of {', '.join(GLOROT)}, not '{self.activation}'.",
                field="activation",
                value=self.activation,
            )
        if self.loss_name not in ("squared_error", "poisson"):
            raise ConfigError(
                f"loss_name is 'squared_error' or 'poisson', not '{self.loss_name}'.",
                field="loss_name",
                value=self.loss_name,
            )
        if self.kernel not in ("auto", "numpy"):
            raise ConfigError(
                f"MLP has the kernel 'numpy' only, not '{self.kernel}': all its work is in BLAS.",
                field="kernel",
                value=self.kernel,
            )
        if self.n_classes < 0 or self.n_classes == 1 or min(self.hidden, default=1) < 1:
            raise ConfigError(
                f"n_classes is 0 (regression) or 2 and more, not {self.n_classes}; hidden layers "
                f"have 1 unit or more, not {self.hidden}.",
                field="n_classes",
                value=self.n_classes,
            )
        object.__setattr__(self, "kernel", "numpy")
        self._settle()

    @property
    def _settings(self) -> tuple[float, float, str, str]:
        return self.l1, self.l2, self.dtype_name, self.kernel

    @cached_property
    def output(self) -> Output:
        """What the outputs stand for."""
        if self.n_classes:
            return Multinomial(self.n_classes)
        return Counts() if self.loss_name == "poisson" else Numbers()

    @cached_property
    def layout(self) -> Layout:
        """Where the layers lie."""
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (n_in, n_out) in enumerate(self._widths):
            shapes[f"coef{i}"] = (n_in, n_out)
            shapes[f"intercept{i}"] = (n_out,)
        return Layout(shapes)

    def start(self, rng: np.random.Generator) -> FloatVector:
        """Return uniform random weights of Glorot and Bengio's (2010) width."""
        w = np.zeros(self.size, self.dtype)
        for coef in self.coefs(w):
            bound = sqrt(GLOROT[self.activation] / sum(coef.shape))
            coef[...] = rng.uniform(-bound, bound, coef.shape)
        return w

    def coefs(self, w: FloatVector) -> list[Array]:
        """Return views of the coefficients of all layers."""
        return [coef for coef, _ in self._layers(w)]

    def outputs(self, w: FloatVector, X: Matrix) -> Array:
        """Return what the last layer says."""
        return self._forward(self._layers(w), X)[-1]

    def smooth_gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        """Write the gradient of the mean loss and the L2 penalty, by back-propagation."""
        layers, outs = self._layers(w), self._layers(out)
        *inputs, z = self._forward(layers, batch.X)
        delta = scale(self.output.slope(z, batch.y), batch.weight)
        for i in range(len(layers) - 1, -1, -1):
            X = inputs[i]
            if isinstance(X, np.ndarray):
                np.matmul(X.T, delta, out=outs[i][0])
            else:
                outs[i][0][...] = X.T @ delta
            delta.sum(axis=0, out=outs[i][1])
            self.penalty.add_l2(layers[i][0], outs[i][0])
            if i:
                delta = delta @ layers[i][0].T
                delta *= self._slope(inputs[i])

    # --- inside -----------------------------------------------------------------------------------

    @cached_property
    def _widths(self) -> list[tuple[int, int]]:
        widths = [self.n_features, *self.hidden, self.n_classes or 1]
        return list(pairwise(widths))

    def _layers(self, w: FloatVector) -> list[tuple[Array, Array]]:
        layers, start = [], 0
        for n_in, n_out in self._widths:
            cut = start + n_in * n_out
            layers.append((w[start:cut].reshape(n_in, n_out), w[cut : cut + n_out]))
            start = cut + n_out
        return layers

    def _forward(self, layers: list[tuple[Array, Array]], X: Matrix) -> list[Array]:
        """Return the inputs of all layers, and what the last one puts out."""
        values = [X]
        for i, (coef, intercept) in enumerate(layers):
            z: Array = values[-1] @ coef
            z += intercept
            values.append(self._activate(z) if i + 1 < len(layers) else z)
        return values

    def _activate(self, z: Array) -> Array:
        match self.activation:
            case "relu":
                return np.maximum(z, 0, out=z)
            case "tanh":
                return np.tanh(z, out=z)
            case "logistic":
                return logistic(z)
        return z

    def _slope(self, activated: Array) -> Array | float:
        """Return the derivative of the activation, by what it has put out."""
        slope: Array | float = 1.0
        match self.activation:
            case "relu":
                slope = activated > 0
            case "tanh":
                slope = 1 - activated * activated
            case "logistic":
                slope = activated * (1 - activated)
        return slope
