"""What the outputs of a model stand for: numbers, counts, classes one-vs-all, probabilities.

Rule 1: an output says everything that depends on labels: losses, slopes, scores, and which labels
        fit. Models compute outputs ``z`` of shape (n, width) and know nothing of labels.
Rule 2: weights of examples act in `mean` and in scores, in the way scikit-learn's metrics do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from paramserver.errors import DataError
from paramserver.models.losses import Array, Loss, loss_by_name

MULTINOMIAL: Final = 6
"""Number of the softmax loss in the compiled kernels, behind those of `losses`."""
POISSON: Final = 7
"""A number that no compiled kernel knows."""


class Output(ABC):
    """How outputs are compared with labels."""

    is_for_classes: ClassVar[bool]

    @property
    @abstractmethod
    def code(self) -> int:
        """Number of its loss in the compiled kernels."""

    @property
    @abstractmethod
    def bound(self) -> float:
        """Bound on the largest eigenvalue of the Hessian by the outputs of one example."""

    @abstractmethod
    def each(self, z: Array, y: Array) -> Array:
        """Return the loss of each example, shape (n,)."""

    @abstractmethod
    def slope(self, z: Array, y: Array) -> Array:
        """Return the derivatives by the outputs, shape (n, width); may overwrite `z`."""

    @abstractmethod
    def score(self, z: Array, y: Array, weight: Array | None) -> float:
        """Return accuracy or R2."""

    @abstractmethod
    def check(self, y: Array) -> None:
        """Refuse labels that do not fit.

        Raises
        ------
        DataError
            It says which row, and what would fit.
        """


@dataclass(frozen=True)
class Numbers(Output):
    """One output that is the number to predict."""

    loss_name: str = "squared_error"

    is_for_classes: ClassVar[bool] = False

    @property
    def _loss(self) -> Loss:
        return loss_by_name(self.loss_name)

    @property
    def code(self) -> int:
        """Number of its loss in the compiled kernels."""
        return self._loss.code

    @property
    def bound(self) -> float:
        """Bound on the second derivative."""
        return self._loss.bound

    def each(self, z: Array, y: Array) -> Array:
        """Return the loss of each example."""
        return self._loss.each(z[:, 0], y)

    def slope(self, z: Array, y: Array) -> Array:
        """Return the derivatives by the output."""
        return self._loss.slope(z, y[:, None].astype(z.dtype, copy=False))

    def score(self, z: Array, y: Array, weight: Array | None) -> float:
        """Return R2; for labels that are all the same 1 or 0, as scikit-learn does."""
        return _r2(z[:, 0], y, weight)

    def check(self, y: Array) -> None:
        """Refuse labels that are not finite numbers."""
        _require_numbers(y)


@dataclass(frozen=True)
class Counts(Output):
    """One output whose exponential is the mean of a Poisson distribution: counts, or rates.

    The loss is half the deviance, as scikit-learn has it: 0 where the prediction is the label.
    """

    is_for_classes: ClassVar[bool] = False

    @property
    def code(self) -> int:
        """Number of its loss: there is no compiled kernel for it."""
        return POISSON

    @property
    def bound(self) -> float:
        """None is finite: the second derivative is the prediction itself."""
        return inf

    def each(self, z: Array, y: Array) -> Array:
        """Return half the deviance of each example."""
        z, y = z[:, 0], y.astype(z.dtype, copy=False)
        own: Array = y * np.log(np.where(y > 0, y, 1)) - y  # what is least to be had of this label
        own += np.exp(z) - y * z
        return own

    def slope(self, z: Array, y: Array) -> Array:
        """Return predictions minus labels, in the place of `z`."""
        with np.errstate(over="ignore"):  # weights that are not finite any more are noticed
            np.exp(z, out=z)
        z -= y[:, None]
        return z

    def score(self, z: Array, y: Array, weight: Array | None) -> float:
        """Return R2 of the predictions."""
        return _r2(np.exp(z[:, 0]), y, weight)

    def check(self, y: Array) -> None:
        """Refuse labels that are not finite numbers, 0 or more."""
        _require_numbers(y)
        bad = np.flatnonzero(y < 0)
        if bad.size:
            raise DataError(
                f"The label of row {bad[0]} is {y[bad[0]]}; {bad.size} of {y.size} are below 0, "
                "which no count and no rate is (loss 'poisson').",
                path="y",
            )


class _Classes(Output):
    """What one-vs-all and probabilities have in common: labels are class numbers."""

    is_for_classes: ClassVar[bool] = True

    @property
    @abstractmethod
    def n_classes(self) -> int:
        """How many there are, at least 2."""

    def score(self, z: Array, y: Array, weight: Array | None) -> float:
        """Return the accuracy."""
        found = z[:, 0] > 0 if z.shape[1] == 1 else z.argmax(axis=1)
        return float(np.average(found == y, weights=weight))

    def check(self, y: Array) -> None:
        """Refuse labels that are not class numbers from 0 on."""
        _require_vector(y)
        c = self.n_classes
        if y.dtype.kind not in "iub":
            raise DataError(
                f"The labels are {y.dtype}; this model wants class numbers, integers from 0 to "
                f"{c - 1}. classes, y = numpy.unique(y, return_inverse=True) makes them.",
                path="y",
            )
        bad = np.flatnonzero((y < 0) | (y >= c))
        if bad.size:
            raise DataError(
                f"The label of row {bad[0]} is {y[bad[0]]}, and the model has {c} classes: labels "
                f"must be from 0 to {c - 1}. classes, y = numpy.unique(y, return_inverse=True) "
                "makes such labels.",
                path="y",
            )


@dataclass(frozen=True)
class OneVsAll(_Classes):
    """One output for each class, or a single one for two; the loss is the sum over outputs."""

    width: int
    loss_name: str

    @property
    def _loss(self) -> Loss:
        return loss_by_name(self.loss_name)

    @property
    def n_classes(self) -> int:
        """How many there are."""
        return max(2, self.width)

    @property
    def code(self) -> int:
        """Number of its loss in the compiled kernels."""
        return self._loss.code

    @property
    def bound(self) -> float:
        """Bound on the second derivative."""
        return self._loss.bound

    def each(self, z: Array, y: Array) -> Array:
        """Return the loss of each example."""
        sums: Array = self._loss.each(z, self._signs(z, y)).sum(axis=1)
        return sums

    def slope(self, z: Array, y: Array) -> Array:
        """Return the derivatives by the outputs."""
        return self._loss.slope(z, self._signs(z, y))

    def _signs(self, z: Array, y: Array) -> Array:
        one = z.dtype.type(1)
        own = np.arange(self.width) if self.width > 1 else np.ones(1, np.intp)
        signs: Array = np.where(y[:, None] == own, one, -one)
        return signs


@dataclass(frozen=True)
class Multinomial(_Classes):
    """One output for each class, whose softmax is the probability of the class."""

    width: int

    @property
    def n_classes(self) -> int:
        """How many there are."""
        return self.width

    @property
    def code(self) -> int:
        """Number of its loss in the compiled kernels."""
        return MULTINOMIAL

    @property
    def bound(self) -> float:
        """Half, as Böhning (1992) shows in "Multinomial logistic regression algorithm"."""
        return 0.5

    def each(self, z: Array, y: Array) -> Array:
        """Return the cross-entropy of each example."""
        z = z - z.max(axis=1, keepdims=True)
        entropy: Array = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]
        return entropy

    def slope(self, z: Array, y: Array) -> Array:
        """Return probabilities minus indicators, in the place of `z`."""
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        z[np.arange(len(y)), y] -= 1
        return z


def mean(each: Array, weight: Array | None) -> float:
    """Return ``sum(weight * each) / n``, in double precision."""
    if weight is None:
        return float(np.mean(each, dtype=np.float64))
    return float(np.dot(each.astype(np.float64), weight.astype(np.float64)) / each.size)


def scale(slope: Array, weight: Array | None) -> Array:
    """Turn slopes of losses into slopes of their weighted mean, in place."""
    if weight is None:
        slope *= 1.0 / len(slope)
    else:
        slope *= (weight * (1.0 / len(slope)))[:, None]
    return slope


def _r2(found: Array, y: Array, weight: Array | None) -> float:
    """Return R2; for labels that are all the same 1 or 0."""
    found, y = found.astype(np.float64), y.astype(np.float64)
    rest = np.average((y - found) ** 2, weights=weight)
    spread = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)
    if spread == 0.0:
        return float(rest == 0.0)
    return float(1 - rest / spread)


def _require_numbers(y: npt.NDArray[Any]) -> None:
    _require_vector(y)
    if y.dtype.kind not in "fiub":
        raise DataError(
            f"The labels are {y.dtype}, and this model predicts numbers: make them numbers, or "
            "take a model for classes (softmax, logistic, hinge, mlp).",
            path="y",
        )
    bad = np.flatnonzero(~np.isfinite(y))
    if bad.size:
        raise DataError(
            f"The label of row {bad[0]} is {y[bad[0]]}; {bad.size} of {y.size} are not finite. "
            "Fill or remove such rows first.",
            path="y",
        )


def _require_vector(y: npt.NDArray[Any]) -> None:
    if y.ndim != 1:
        raise DataError(f"Labels must be one for each row, not of shape {y.shape}.", path="y")
