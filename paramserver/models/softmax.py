"""Multinomial logistic regression (softmax). Arithmetic only.

Rule 1: the weights are ``coef`` (features, classes) and ``intercept`` (classes,), in this order.
Rule 2: penalties are those of `models.penalties`, inside the mean loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from paramserver.errors import ConfigError
from paramserver.models.affine import Affine
from paramserver.models.outputs import Multinomial


@dataclass(frozen=True)
class Softmax(Affine):
    """A learner of class probabilities ``softmax(X @ coef + intercept)``.

    Parameters
    ----------
    n_features, n_classes : int
        Labels are the integers from 0 to ``n_classes - 1``.
    l2, l1 : float, default=0
        Strengths of the penalties.
    dtype_name : {"float32", "float64"}
    kernel : {"auto", "numpy", "numba"}
        What takes the steps of a pass: "auto" is numba where that is installed and pays, which
        `kernel_for` tells.
    """

    n_classes: int
    l2: float = 0.0
    dtype_name: str = "float32"
    l1: float = 0.0
    kernel: str = "auto"

    def __post_init__(self) -> None:
        if self.n_classes < 2:
            raise ConfigError(
                f"There must be 2 classes or more, not {self.n_classes}.",
                field="n_classes",
                value=self.n_classes,
            )
        self._settle()

    @property
    def _settings(self) -> tuple[float, float, str, str]:
        return self.l1, self.l2, self.dtype_name, self.kernel

    @property
    def width(self) -> int:
        """One output a class."""
        return self.n_classes

    @cached_property
    def output(self) -> Multinomial:
        """What the outputs stand for."""
        return Multinomial(self.n_classes)
