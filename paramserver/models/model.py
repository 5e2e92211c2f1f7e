"""What all models here share: settings, losses, scores, and plain steps. Arithmetic only.

Rule 1: a model adds only how its weights lie and how outputs and gradients come from them.
Rule 2: which kernel runs follows from the settings and the rows, never from who computes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError, ShapeMismatch
from paramserver.models.kernels.choice import settle
from paramserver.models.losses import Array
from paramserver.models.outputs import Output, mean
from paramserver.models.penalties import Penalty
from paramserver.training.learner import Batch, Matrix
from paramserver.training.vector import FloatVector, Layout

if TYPE_CHECKING:
    from paramserver.training.partitions import Epoch


@dataclass(frozen=True)
class Model(ABC):
    """A learner with labels, penalties and coefficients.

    Parameters
    ----------
    n_features : int
    """

    n_features: int

    def _settle(self) -> None:
        """Check the settings that all models have, and fix what was left open."""
        if self.n_features < 1:
            raise ConfigError(
                f"n_features must be 1 or more, not {self.n_features}.",
                field="n_features",
                value=self.n_features,
            )
        if self._settings[2] not in ("float32", "float64"):
            raise ConfigError(
                f"dtype_name is 'float32' or 'float64', not '{self._settings[2]}'.",
                field="dtype_name",
                value=self._settings[2],
            )
        assert self.penalty is not None  # refuses what is no strength
        object.__setattr__(self, "kernel", settle(self._settings[3]))

    @property
    @abstractmethod
    def _settings(self) -> tuple[float, float, str, str]:
        """l1, l2, dtype_name, kernel: every model has these fields, behind its own."""

    @property
    @abstractmethod
    def output(self) -> Output:
        """What the outputs stand for."""

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Where the parts of the weights lie."""

    @abstractmethod
    def outputs(self, w: FloatVector, X: Matrix) -> Array:
        """Return what the model says about rows, of shape (n, number of outputs)."""

    @abstractmethod
    def coefs(self, w: FloatVector) -> list[Array]:
        """Return views of what is penalised."""

    @abstractmethod
    def smooth_gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        """Write the gradient of the mean loss and the L2 penalty."""

    @cached_property
    def penalty(self) -> Penalty:
        """On the coefficients."""
        return Penalty(*self._settings[:2])

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Of weights and gradients."""
        return np.dtype(self._settings[2])

    @cached_property
    def size(self) -> int:
        """Length of the flat weights."""
        return self.layout.size

    def kernel_for(self, rows: Batch, batch_size: int) -> str:
        """Say which kernel takes the steps of a pass over some rows: "numba" or "numpy"."""
        return "numpy"

    def check_labels(self, y: Array) -> None:
        """Refuse labels that do not fit the model.

        Raises
        ------
        DataError
            It names the first bad row and says what would fit.
        """
        self.output.check(y)

    def check_features(self, X: Matrix) -> None:
        """Refuse rows of another width.

        Raises
        ------
        ShapeMismatch
        """
        if X.ndim != 2 or X.shape[1] != self.n_features:
            raise ShapeMismatch(
                f"X has the shape {X.shape}; the model has {self.n_features} features."
            )

    def check_rows(self, rows: Batch) -> None:
        """Refuse rows that do not fit the model.

        Raises
        ------
        ShapeMismatch
            If they have another number of features.
        DataError
            If their labels do not fit.
        """
        self.check_features(rows.X)
        self.check_labels(rows.y)

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        """Write the gradient of the mean loss, penalties included."""
        self.smooth_gradient(w, batch, out)
        for coef, coef_out in zip(self.coefs(w), self.coefs(out), strict=True):
            self.penalty.add_l1(coef, coef_out)

    def loss(self, w: FloatVector, data: Batch) -> float:
        """Return the mean loss, penalties included."""
        each = self.output.each(self.outputs(w, data.X), data.y)
        return mean(each, data.weight) + self.penalty.value(self.coefs(w))

    def score(self, w: FloatVector, data: Batch) -> float:
        """Return the accuracy (classes) or R2 (numbers), weighted as scikit-learn's scores are."""
        return self.output.score(self.outputs(w, data.X), data.y, data.weight)

    def to_sklearn(self, w: FloatVector, classes: npt.ArrayLike | None = None) -> Any:
        """Return a stock estimator of scikit-learn that predicts the same; see `models.export`."""
        from paramserver.models.export import to_sklearn

        return to_sklearn(self, w, classes)

    def local_epoch(self, w: FloatVector, epoch: Epoch, lr: float) -> None:
        """Take the steps of a whole pass, in place."""
        self.local_steps(w, epoch, range(len(epoch)), lr)

    def local_steps(self, w: FloatVector, epoch: Epoch, batches: range, lr: float) -> None:
        """Take the steps of some batches of a pass, in place; proximal where there is L1."""
        self._plain_steps(w, epoch, batches, lr)

    def _plain_steps(self, w: FloatVector, epoch: Epoch, batches: range, lr: float) -> None:
        """Step by whole gradients: the definition that every faster way is tested against."""
        g = np.empty_like(w)
        with np.errstate(over="ignore", invalid="ignore"):  # the master looks for what diverges
            for number in batches:
                self.smooth_gradient(w, epoch.batch(number), g)
                g *= lr
                w -= g
                self.penalty.shrink(self.coefs(w), lr)
