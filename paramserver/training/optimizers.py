"""How a gradient changes the weights. Arithmetic only: no clock, no chance, no I/O.

Rule 1: an optimizer is settings plus, after `start`, state; settings are never changed.
Rule 2: a step writes the new weights where it is told, which may be where the old ones are.
Rule 3: a step says whether the new weights are finite. One with state must be given a finite
        gradient, for its state is changed in place; `is_stateless` says which kind it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError
from paramserver.training.vector import FloatVector, Workspace, blocks


class Optimizer(Protocol):
    """One rule of changing weights."""

    @property
    def is_stateless(self) -> bool:
        """Whether a step depends on nothing but its arguments."""

    def start(self, d: int, dtype: npt.DTypeLike) -> None:
        """Allocate what steps need, for vectors of this size; forget earlier steps."""

    def step(self, w: FloatVector, g: FloatVector, out: FloatVector, scale: float = 1.0) -> bool:
        """Write to `out` what `w` becomes by the gradient `g`.

        Parameters
        ----------
        w, g : ndarray of shape (d,)
            Weights, and the gradient of the mean loss.
        out : ndarray of shape (d,)
            Where the new weights go; may be `w`, must not be `g`.
        scale : float
            Factor on the learning rate of this step.

        Returns
        -------
        bool
            Whether all of `out` is finite.
        """


def check_lr(lr: float) -> None:
    """Refuse a learning rate that is no positive number.

    Raises
    ------
    ConfigError
    """
    if not (lr > 0 and np.isfinite(lr)):
        raise ConfigError(
            f"The learning rate must be above 0 and finite, not {lr}.", field="lr", value=lr
        )


@dataclass
class SGD:
    """Plain gradient descent: ``w - lr * g``.

    Parameters
    ----------
    lr : float
        Learning rate.
    """

    lr: float
    _workspace: Workspace = field(init=False, repr=False, compare=False)

    is_stateless = True

    def __post_init__(self) -> None:
        check_lr(self.lr)

    def start(self, d: int, dtype: npt.DTypeLike) -> None:
        """Allocate the scratch block."""
        self._workspace = Workspace(d, dtype)

    def step(self, w: FloatVector, g: FloatVector, out: FloatVector, scale: float = 1.0) -> bool:
        """Write ``w - scale * lr * g`` to `out`. One pass, 2 d flops; allocates nothing."""
        lr = self.lr * scale
        workspace = self._workspace
        finite = True
        with np.errstate(all="ignore"):
            for block in blocks(w.size):
                target = out[block]
                room = workspace.room[: target.size]
                np.multiply(g[block], lr, out=room)
                np.subtract(w[block], room, out=target)
                finite = workspace.is_finite(target) and finite
        return finite
