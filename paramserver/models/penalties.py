"""Penalties on coefficients: ``l1 * |coef| + (l2 / 2) * coef^2`` (elastic net). Arithmetic only.

Rule 1: penalties are inside the mean loss; intercepts are never penalised.
Rule 2: a gradient holds the derivative of both; that of L1 at 0 is 0.
Rule 3: a step that a learner takes by itself is proximal: the gradient step of the loss and L2,
        then each coefficient goes ``lr * l1`` towards 0 and stops there. So coefficients become
        exactly 0, which no sum of gradients would make them. Both have the same minima.

References
----------
.. [1] Duchi, Singer (2009), "Efficient online and batch learning using forward backward splitting".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from paramserver.errors import ConfigError
from paramserver.models.losses import Array


@dataclass(frozen=True)
class Penalty:
    """Strengths of both, 0 or more."""

    l1: float
    l2: float

    def __post_init__(self) -> None:
        for name in ("l1", "l2"):
            value = getattr(self, name)
            if not (value >= 0 and isfinite(value)):
                raise ConfigError(
                    f"{name} must be 0 or more and finite, not {value}.", field=name, value=value
                )

    def value(self, coefs: Sequence[Array]) -> float:
        """Return what is added to the mean loss."""
        total = 0.0
        for coef in coefs:
            if self.l2:
                total += 0.5 * self.l2 * float(np.vdot(coef, coef))
            if self.l1:
                total += self.l1 * float(np.abs(coef).sum(dtype=np.float64))
        return total

    def add_l2(self, coef: Array, out: Array) -> None:
        """Add the derivative of the L2 part to a gradient."""
        if self.l2:
            out += self.l2 * coef

    def add_l1(self, coef: Array, out: Array) -> None:
        """Add the derivative of the L1 part to a gradient."""
        if self.l1:
            out += self.l1 * np.sign(coef)

    def shrink(self, coefs: Sequence[Array], lr: float) -> None:
        """Move coefficients towards 0 by the proximal step of L1, in place."""
        if self.l1:
            for coef in coefs:
                soften(coef, lr * self.l1)


def soften(x: Array, by: float | Array) -> None:
    """Soft-threshold in place: go `by` towards 0, and stop there."""
    size = np.abs(x)
    size -= by
    np.maximum(size, 0, out=size)
    np.copysign(size, x, out=x)
