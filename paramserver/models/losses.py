"""Losses of one output, and their slopes. Arithmetic only.

Rule 1: a name means what `SGDRegressor` and `SGDClassifier` mean by it.
Rule 2: a target is the number to predict, or +1 for the class of an output and -1 for others.
Rule 3: at a kink the slope is the one that `SGDClassifier` takes (the steeper one).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError

Array: TypeAlias = npt.NDArray[Any]
HUBER: Final = 0.1
"""From this distance on, `huber` is linear: `SGDRegressor`'s default epsilon."""


@dataclass(frozen=True)
class Loss:
    """One loss.

    Attributes
    ----------
    code : int
        Its number in the compiled kernels.
    each, slope : callable
        Value and derivative by the output, of arrays (output, target); elementwise.
    bound : float
        On the second derivative (for those that have none at a kink, a choice).
    is_for_classes : bool
    """

    code: int
    each: Callable[[Array, Array], Array]
    slope: Callable[[Array, Array], Array]
    bound: float
    is_for_classes: bool = True


def logistic(z: Array) -> Array:
    """Return ``1 / (1 + exp(-z))`` without overflow."""
    half: Array = np.tanh(z * 0.5)
    half += 1
    half *= 0.5
    return half


def _huber(z: Array, t: Array) -> Array:
    r: Array = np.abs(z - t)
    return np.where(r <= HUBER, 0.5 * r * r, HUBER * r - 0.5 * HUBER * HUBER)


def _modified_huber(z: Array, t: Array) -> Array:
    m = z * t
    return np.where(m >= -1, np.maximum(0, 1 - m) ** 2, -4 * m)


def _modified_huber_slope(z: Array, t: Array) -> Array:
    m = z * t
    steepness = np.where(m >= -1, 2 * np.maximum(0, 1 - m), z.dtype.type(4))
    slope: Array = -t * steepness
    return slope


def _hinge(code: int, margin: float) -> Loss:
    def each(z: Array, t: Array) -> Array:
        return np.maximum(0, margin - z * t)

    def slope(z: Array, t: Array) -> Array:
        return np.where(z * t <= margin, -t, z.dtype.type(0))

    return Loss(code, each, slope, 1.0)


SQUARED, LOGISTIC, HINGE, PERCEPTRON, MODIFIED_HUBER, HUBER_CODE = range(6)

LOSSES: Final[dict[str, Loss]] = {
    "squared_error": Loss(
        SQUARED, lambda z, t: 0.5 * (z - t) ** 2, lambda z, t: z - t, 1.0, is_for_classes=False
    ),
    "huber": Loss(
        HUBER_CODE, _huber, lambda z, t: np.clip(z - t, -HUBER, HUBER), 1.0, is_for_classes=False
    ),
    "log_loss": Loss(
        LOGISTIC,
        lambda z, t: np.logaddexp(0, -t * z),
        lambda z, t: -t * logistic(-t * z),
        0.25,
    ),
    "hinge": _hinge(HINGE, 1),
    "perceptron": _hinge(PERCEPTRON, 0),
    "modified_huber": Loss(MODIFIED_HUBER, _modified_huber, _modified_huber_slope, 2.0),
}
"""By name."""


def loss_by_name(name: str) -> Loss:
    """Return a loss.

    Raises
    ------
    ConfigError
        If there is none of this name; the error lists those there are.
    """
    if name not in LOSSES:
        raise ConfigError(
            f"There is no loss '{name}'. There are: {', '.join(LOSSES)}.",
            field="loss_name",
            value=name,
        )
    return LOSSES[name]
