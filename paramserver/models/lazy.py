"""Steps over sparse rows, with the penalties of features that do not occur settled later, exactly.

Rule 1: after the last step the weights are those of whole-gradient steps with proximal L1
        (`Model._plain_steps`), to rounding.
Rule 2: a step costs what its nonzeros cost, whatever the number of features.

While it runs, coefficients are kept as ``coef = s * v`` with one number s. A step shrinks s by
``1 - lr * l2``, which decays all of them at once. A step of L1 takes ``lr * l1`` off each size of a
coefficient, that is ``lr * l1 / s`` off that of v: these amounts are summed in `owed`, and a row of
v pays the difference to what it has paid before it is next used. Paying late is the same as paying
in time: what has come to 0 stays there as long as its feature does not occur.

References
----------
.. [1] Bottou (2012), "Stochastic gradient descent tricks", section 5.1 (the scale of L2).
.. [2] Langford, Li, Zhang (2009), "Sparse online learning via truncated gradient" (lazy L1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from paramserver.models.losses import Array
from paramserver.models.outputs import Output, scale
from paramserver.models.penalties import Penalty, soften
from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector

if TYPE_CHECKING:
    from paramserver.training.partitions import Epoch

LEAST_SCALE: Final = 1e-9
"""Below it (and for ``lr * l2 >= 1``) the scale is multiplied out: `v` would grow too large."""


class Affine(Protocol):
    """What is asked of a model here."""

    @property
    def width(self) -> int: ...

    @property
    def output(self) -> Output: ...

    @property
    def penalty(self) -> Penalty: ...

    def touched(self, batch: Batch) -> Any: ...


class LazyCoef:
    """Coefficients whose penalties are settled when they are used.

    Parameters
    ----------
    v : ndarray of shape (n_features, width)
        Taken over; `settle` leaves the coefficients in it.
    penalty : Penalty
    lr : float
    """

    def __init__(self, v: Array, penalty: Penalty, lr: float) -> None:
        self.v = v
        self.s = 1.0
        self._decay = 1.0 - lr * penalty.l2
        self._toll = lr * penalty.l1
        self._owed = 0.0
        self._paid = np.zeros(len(v) if penalty.l1 else 0)

    def rows(self, columns: Array) -> Array:
        """Return the coefficients of some features, as a copy."""
        self._pay(columns)
        coef: Array = self.v[columns]
        coef *= self.s
        return coef

    def step(self, columns: Array, change: Array) -> None:
        """Decay all coefficients, subtract from some, and take L1's toll of all."""
        self.s *= self._decay
        if self.s < LEAST_SCALE:
            self._multiply_out()
        change /= self.s
        self.v[columns] -= change
        self._owed += self._toll / self.s

    def settle(self) -> None:
        """Leave the coefficients in `v`."""
        self._multiply_out()

    def _multiply_out(self) -> None:
        self._pay(slice(None))
        self.v *= self.s
        self.s, self._owed = 1.0, 0.0
        self._paid[:] = 0.0

    def _pay(self, columns: Any) -> None:
        if self._toll:
            due = (self._owed - self._paid[columns])[:, None]
            v = self.v[columns]
            soften(v, due.astype(v.dtype))
            self.v[columns] = v
            self._paid[columns] = self._owed


def without_empty_columns(X: Any, columns: npt.NDArray[np.int64]) -> Any:
    """Return sparse X with only the columns named, which are all that are not empty."""
    places = np.searchsorted(columns, X.indices)
    return type(X)((X.data, places, X.indptr), shape=(X.shape[0], len(columns)))


def lazy_steps(model: Affine, w: FloatVector, epoch: Epoch, batches: range, lr: float) -> None:
    """Take steps over sparse rows, in place. See `Model.local_steps`."""
    cut = w.size - model.width
    coef = LazyCoef(w[:cut].reshape(-1, model.width), model.penalty, lr)
    intercept = w[cut:]
    with np.errstate(over="ignore", invalid="ignore"):
        for number in batches:
            batch = epoch.batch(number)
            columns = model.touched(batch)[:-1]
            X = without_empty_columns(batch.X, columns)
            z: Array = X @ coef.rows(columns)
            z += intercept
            slope = scale(model.output.slope(z, batch.y), batch.weight)
            slope *= lr
            coef.step(columns, X.T @ slope)
            intercept -= slope.sum(axis=0)
        coef.settle()
