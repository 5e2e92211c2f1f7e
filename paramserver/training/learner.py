"""What can be trained: anything that turns weights and a batch into a gradient.

Rule 1: a learner is settings; it holds neither weights nor data, and calls change nothing of it
        that a second call could see. So it can be pickled to any worker and called there again.
Rule 2: gradients are of the MEAN loss over the batch, penalties included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from paramserver.training.csr import csr_between
from paramserver.training.vector import FloatVector

if TYPE_CHECKING:
    from paramserver.training.partitions import Epoch

Matrix: TypeAlias = Any
"""An ndarray, or a scipy.sparse.csr_array (not named here: its import costs 0.4 s)."""


class Batch(NamedTuple):
    """Rows of a data set.

    Attributes
    ----------
    X : ndarray of shape (n, n_features), or scipy.sparse.csr_array of that shape
    y : ndarray of shape (n,) or (n, k)
    weight : ndarray of shape (n,), optional
        By which factor the loss of each row counts: sample weight times class weight, 0 or more,
        taken as they were given; by default 1. The mean loss is ``sum(weight * loss) / n``, as in
        scikit-learn: factors that are 2 on average double the loss against the penalty.
    """

    X: Matrix
    y: npt.NDArray[Any]
    weight: npt.NDArray[Any] | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.y.shape[0])

    @property
    def n_bytes(self) -> int:
        """What they take in memory."""
        X = self.X
        parts = [X] if isinstance(X, np.ndarray) else [X.data, X.indices, X.indptr]
        return sum(part.nbytes for part in (*parts, self.y, self.weight) if part is not None)

    def between(self, start: int, stop: int) -> Batch:
        """Return consecutive rows, as views."""
        rows = slice(start, stop)
        X = self.X[rows] if isinstance(self.X, np.ndarray) else csr_between(self.X, start, stop)
        return Batch(X, self.y[rows], None if self.weight is None else self.weight[rows])

    def take(self, rows: npt.NDArray[np.intp]) -> Batch:
        """Gather the rows with these numbers, as copies."""
        X = self.X.take(rows, axis=0) if isinstance(self.X, np.ndarray) else self.X[rows]
        weight = None if self.weight is None else self.weight.take(rows)
        return Batch(X, self.y.take(rows, axis=0), weight)


@runtime_checkable
class Learner(Protocol):
    """A model's arithmetic.

    A learner may have more:

    - ``curvature(batch) -> float``, a bound on the largest eigenvalue of the Hessian over a batch,
      or ``default_lr``, for choosing a learning rate,
    - ``check_labels(y)``, which raises `DataError` where labels do not fit the model,
    - ``to_sklearn(w)``, which returns a stock estimator of scikit-learn with these weights,
    - ``averages_only = True``, if it has no gradients but only `FastLearner.local_epoch`,
    - ``kernel_for(rows, batch_size) -> str``, what will take the steps of a pass over such rows,
      and ``warm_up(rows, batch_size)``, called by each worker before it begins: compile, import;
      ``pass_kernel_for`` and ``warm_up_pass`` are the same for gradients of some rows,
    - and what `FastLearner`, `SteppingLearner` and `SparseLearner` name.

    Attributes
    ----------
    size : int
        Length d of the flat weight vector.
    dtype : dtype
        float32 or float64.
    """

    @property
    def size(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def start(self, rng: np.random.Generator) -> FloatVector:
        """Return the weights to start from."""

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        """Write the gradient of the mean loss over `batch` at `w` to `out`; `w` is untouched."""

    def loss(self, w: FloatVector, data: Batch) -> float:
        """Return the mean loss over `data`, penalties included."""

    def score(self, w: FloatVector, data: Batch) -> float:
        """Return how good `w` is on `data`: accuracy or R2, 1 is perfect."""


@runtime_checkable
class FastLearner(Learner, Protocol):
    """A learner with a faster way through a whole pass of plain SGD."""

    def local_epoch(self, w: FloatVector, epoch: Epoch, lr: float) -> None:
        """Take the steps ``w -= lr * gradient`` for all batches of a pass, in place."""


@runtime_checkable
class SteppingLearner(FastLearner, Protocol):
    """A learner whose faster way can begin and end at any batch of a pass."""

    def local_steps(self, w: FloatVector, epoch: Epoch, batches: range, lr: float) -> None:
        """Take the steps ``w -= lr * gradient`` for these batches of a pass, in place."""


@runtime_checkable
class SparseLearner(Learner, Protocol):
    """A learner whose gradient over few rows of sparse data touches few of the weights.

    Its weights are seen as ``w.reshape(-1, width)``: row j holds the coefficients of feature j, the
    last row the intercepts. A batch needs, and changes, only the rows that `touched` names, so a
    worker pulls and pushes no others.

    Notes
    -----
    Penalties act on touched rows alone: `sparse_gradient` is the gradient of the mean loss over the
    batch plus the penalties' derivatives *of these rows*, where `gradient` has those of all rows.
    So the penalty of a feature that occurs in a share q of the batches counts q times: in the mean
    over batches the objective is ``loss + sum(q[j] * penalty(coef[j]))``. For a batch of all rows
    both objectives have the same minimum, since a feature that never occurs keeps the coefficient
    0 that it starts with. Without penalties both gradients are the same to rounding.

    Attributes
    ----------
    width : int
        Numbers in a row; divides `size`.
    """

    @property
    def width(self) -> int: ...

    def touched(self, batch: Batch) -> npt.NDArray[np.int64]:
        """Return the rows of the weights that a batch touches: sorted, unique, intercepts last."""

    def sparse_gradient(
        self,
        w_rows: npt.NDArray[Any],
        rows: npt.NDArray[np.int64],
        batch: Batch,
        out: npt.NDArray[Any],
    ) -> None:
        """Write the touched rows of the gradient of the mean loss to `out`.

        Parameters
        ----------
        w_rows : ndarray of shape (k, width)
            The weights of `rows`; untouched.
        rows : ndarray of shape (k,)
            What `touched` has returned for this batch.
        batch : Batch
        out : ndarray of shape (k, width)
            Overwritten.
        """


class RowPass(Protocol):
    """The batches of one pass, as a worker goes through them: see `SparseLearner`."""

    def touched(self, number: int) -> npt.NDArray[np.int64]:
        """Return the rows of the weights that a batch touches."""

    def gradient(
        self,
        number: int,
        w_rows: npt.NDArray[Any],
        rows: npt.NDArray[np.int64],
        out: npt.NDArray[Any],
    ) -> None:
        """Write these rows of its gradient to `out`; the others as in `sparse_gradient`."""


@runtime_checkable
class PassingLearner(SparseLearner, Protocol):
    """A sparse learner with a faster way through the batches of a pass."""

    def row_pass(self, epoch: Epoch) -> RowPass:
        """Return what gives the same numbers as `touched` and `sparse_gradient`, to rounding."""
