"""Derivatives of the losses, compiled: the same as in `models.losses` and `models.outputs`."""

from __future__ import annotations

from math import exp
from typing import Any

from paramserver.models.kernels.jit import compiled
from paramserver.models.losses import (
    HUBER,
    HUBER_CODE,
    LOGISTIC,
    MODIFIED_HUBER,
    PERCEPTRON,
    SQUARED,
)
from paramserver.models.outputs import MULTINOMIAL


@compiled
def target(label: Any, is_sign: bool) -> Any:
    """Return what a single output is compared with: the label, or +1 for class 1 and -1 for 0."""
    t = float(label)
    if is_sign:
        return 1.0 if t == 1.0 else -1.0
    return t


@compiled
def slope(code: int, z: Any, t: Any) -> Any:
    """Return the derivative of a loss by its output z, for the target t."""
    if code == SQUARED:
        return z - t
    if code == LOGISTIC:
        return -t / (1.0 + exp(z * t))
    if code == MODIFIED_HUBER:
        m = z * t
        return -4.0 * t if m < -1.0 else -2.0 * t * max(0.0, 1.0 - m)
    if code == HUBER_CODE:
        return min(max(z - t, -HUBER), HUBER)
    margin = 0.0 if code == PERCEPTRON else 1.0
    return -t if z * t <= margin else 0.0 * t


@compiled
def slopes(code: int, z: Any, label: int) -> None:
    """Turn the outputs of one example into slopes, in place, for several classes."""
    if code == MULTINOMIAL:
        largest = z.max()
        total = largest - largest
        for c in range(z.size):
            z[c] = exp(z[c] - largest)
            total += z[c]
        for c in range(z.size):
            z[c] /= total
        z[label] -= 1.0
    else:
        for c in range(z.size):
            z[c] = slope(code, z[c], 1.0 if c == label else -1.0)
