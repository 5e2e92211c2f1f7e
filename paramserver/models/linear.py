"""Linear models: least squares, logistic, hinge and their kin, one output a class. Arithmetic only.

Rule 1: the weights are ``coef`` (features, outputs) and ``intercept`` (outputs,), in this order.
Rule 2: penalties are those of `models.penalties`, inside the mean loss.
Rule 3: the losses mean what `SGDClassifier` and `SGDRegressor` mean by their names: several classes
        are one-vs-all, two classes are one output, and the loss of an example is the sum over
        outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from paramserver.errors import ConfigError
from paramserver.models.affine import Affine
from paramserver.models.losses import loss_by_name
from paramserver.models.outputs import Numbers, OneVsAll, Output


@dataclass(frozen=True)
class Linear(Affine):
    """A learner of ``X @ coef + intercept``.

    Parameters
    ----------
    n_features : int
    n_outputs : int, default=1
        1 for regression and for two classes, else the number of classes.
    loss_name : str, default="squared_error"
        squared_error or huber (numbers); log_loss, hinge, perceptron or modified_huber (classes).
    l2, l1 : float, default=0
        Strengths of the penalties; ridge regression is the squared error with L2.
    dtype_name : {"float32", "float64"}
    kernel : {"auto", "numpy", "numba"}
        What takes the steps of a pass: "auto" is numba where that is installed and pays, which
        `kernel_for` tells.
    """

    n_outputs: int = 1
    loss_name: str = "squared_error"
    l2: float = 0.0
    dtype_name: str = "float32"
    l1: float = 0.0
    kernel: str = "auto"

    def __post_init__(self) -> None:
        is_for_classes = loss_by_name(self.loss_name).is_for_classes
        if self.n_outputs < 1 or (self.n_outputs > 1 and not is_for_classes):
            raise ConfigError(
                f"n_outputs is {self.n_outputs}; it must be 1 for '{self.loss_name}'."
                if self.n_outputs > 1
                else f"n_outputs must be 1 or more, not {self.n_outputs}.",
                field="n_outputs",
                value=self.n_outputs,
            )
        self._settle()

    @property
    def _settings(self) -> tuple[float, float, str, str]:
        return self.l1, self.l2, self.dtype_name, self.kernel

    @property
    def width(self) -> int:
        """Number of outputs."""
        return self.n_outputs

    @cached_property
    def output(self) -> Output:
        """What the outputs stand for."""
        if loss_by_name(self.loss_name).is_for_classes:
            return OneVsAll(self.n_outputs, self.loss_name)
        return Numbers(self.loss_name)
