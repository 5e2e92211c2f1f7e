"""Columns of mean 0 and deviation 1, and how to treat new rows in the same way. Arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Scaling:
    """Columns shifted and stretched: ``(X - mean) * factor``.

    Parameters
    ----------
    mean, factor : ndarray of shape (n_columns,), float64
    """

    mean: npt.NDArray[np.float64]
    factor: npt.NDArray[np.float64]

    def apply(self, X: npt.NDArray[Any]) -> None:
        """Scale rows in place, in their own dtype."""
        X -= self.mean.astype(X.dtype)
        X *= self.factor.astype(X.dtype)


@dataclass(frozen=True)
class Moments:
    """Number, means and sums of squared deviations of some rows; sums of them are of all rows.

    Parameters
    ----------
    n : int
    mean, squares : ndarray of shape (n_columns,), float64

    References
    ----------
    .. [1] Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance", eq. 2.1.
    """

    n: int
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]

    @classmethod
    def of(cls, X: npt.NDArray[Any]) -> Moments:
        """Look at rows; there may be none."""
        if not len(X):
            return cls(0, np.zeros(X.shape[1]), np.zeros(X.shape[1]))
        mean = X.mean(axis=0, dtype=np.float64)
        return cls(len(X), mean, X.var(axis=0, dtype=np.float64) * len(X))

    def __add__(self, other: Moments) -> Moments:
        n = self.n + other.n
        if not other.n:
            return self
        far = other.mean - self.mean
        mean = self.mean + far * (other.n / n)
        squares = self.squares + other.squares + far**2 * (self.n * other.n / n)
        return Moments(n, mean, squares)

    def scaling(self) -> Scaling:
        """Return what gives each column mean 0 and deviation 1; one that is constant becomes 0.

        References
        ----------
        .. [1] scikit-learn, ``_is_constant_feature``: below this bound a variance is rounding.
        """
        variance = self.squares / self.n
        eps = float(np.finfo(np.float64).eps)
        varies = variance > self.n * eps * variance + (self.n * self.mean * eps) ** 2
        deviation = np.sqrt(variance)
        return Scaling(
            self.mean, np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
        )


def standardise(X_train: npt.NDArray[Any], X_test: npt.NDArray[Any]) -> Scaling:
    """Give each column mean 0 and deviation 1 over the rows to train on, in place.

    A column that is constant there becomes 0.

    Returns
    -------
    Scaling
        What was done, for rows to come.

    Examples
    --------
    >>> import numpy as np
    >>> X, new = np.array([[1.0, 7.0], [3.0, 7.0]]), np.array([[5.0, 8.0]])
    >>> scaling = standardise(X, new)
    >>> X.tolist(), new.tolist(), scaling.mean.tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [[3.0, 0.0]], [2.0, 7.0])
    """
    scaling = Moments.of(X_train).scaling()
    for X in (X_train, X_test):
        scaling.apply(X)
    return scaling
