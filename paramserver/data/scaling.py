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
    mean = X_train.mean(axis=0, dtype=np.float64)
    deviation = X_train.std(axis=0, dtype=np.float64)
    factor = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    scaling = Scaling(mean, factor)
    for X in (X_train, X_test):
        scaling.apply(X)
    return scaling
