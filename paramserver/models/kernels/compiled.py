"""The door to the compiled kernels: from a model and a pass to plain arrays. Imports numba.

Rule 1: a kernel sees rows of the dtype of the weights that it cannot write to, whatever they are
        outside: so it is compiled for one kind of arguments, by `warm_up`, and for none later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import numpy.typing as npt

from paramserver.models.kernels import dense, rows, sparse
from paramserver.models.losses import Array
from paramserver.training.vector import FloatVector

numba_type: Any = numba.typeof

if TYPE_CHECKING:
    from paramserver.models.affine import Affine
    from paramserver.training.learner import Batch, Matrix
    from paramserver.training.partitions import Epoch


def steps(model: Affine, w: FloatVector, epoch: Epoch, batches: range, lr: float) -> None:
    """Take the steps of consecutive batches of a pass, in place."""
    output, penalty = model.output, model.penalty
    parts = _arrays_of(model, epoch.rows)
    order = _read(epoch.order, np.intp)
    which = (order, epoch.batch_size, batches.start, batches.stop, output.code)
    strengths = (float(lr), float(penalty.l1), float(penalty.l2))
    if isinstance(epoch.rows.X, np.ndarray):
        dense.steps(*parts, *which, output.is_for_classes, w, model.width, *strengths)
    elif model.width == 1:
        sparse.one_output(*parts, *which, output.is_for_classes, w, *strengths)
    else:
        sparse.many_outputs(*parts, *which, w, model.width, *strengths)


def warm_up(model: Affine, X: Matrix) -> None:
    """Compile what `steps` will call for such rows, or load it from the disk."""
    parts = _types_of(model, X)
    i, f, b = numba.int64, numba.float64, numba.boolean
    which, strengths = (_type(np.intp), i, i, i, i), (f, f, f)
    w = numba_type(np.empty(1, model.dtype))
    if isinstance(X, np.ndarray):
        dense.steps.compile((*parts, *which, b, w, i, *strengths))
    elif model.width == 1:
        sparse.one_output.compile((*parts, *which, b, w, *strengths))
    else:
        sparse.many_outputs.compile((*parts, *which, w, i, *strengths))


class CompiledPass:
    """The batches of a pass over sparse rows; see `paramserver.training.learner.RowPass`.

    Parameters
    ----------
    model : Affine
    epoch : Epoch
    """

    def __init__(self, model: Affine, epoch: Epoch) -> None:
        self._n_features = model.n_features
        self._epoch = epoch
        self._rows = _arrays_of(model, epoch.rows)
        self._loss = (model.output.code, model.output.is_for_classes)
        self._strengths = (float(model.penalty.l1), float(model.penalty.l2))

    def touched(self, number: int) -> npt.NDArray[np.int64]:
        """Return the rows of the weights that a batch touches."""
        chosen = _read(self._epoch.numbers(number), np.intp)
        indptr, indices, *_ = self._rows
        found: npt.NDArray[np.int64] = rows.touched(indptr, indices, chosen, self._n_features)
        return found

    def gradient(
        self, number: int, w_rows: Array, touched: npt.NDArray[np.int64], out: Array
    ) -> None:
        """Write these rows of its gradient to `out`."""
        chosen = _read(self._epoch.numbers(number), np.intp)
        w_rows, touched = _read(w_rows, w_rows.dtype), _read(touched, np.int64)
        rows.gradient(*self._rows, chosen, *self._loss, touched, w_rows, out, *self._strengths)


def warm_up_pass(model: Affine, X: Matrix) -> None:
    """Compile what `CompiledPass` will call for such rows, or load it from the disk."""
    dtype, chosen, parts = model.dtype, _type(np.intp), _types_of(model, X)
    i, f, b = numba.int64, numba.float64, numba.boolean
    rows.touched.compile((*parts[:2], chosen, i))
    seen, out = _type(dtype, ndim=2), numba_type(np.empty((1, 1), dtype))
    rows.gradient.compile((*parts, chosen, i, b, _type(np.int64), seen, out, f, f))


def _arrays_of(model: Affine, given: Batch) -> tuple[Array, ...]:
    """Return rows as kernels take them: X (or indptr, indices and data), y and weights.

    Where all rows count the same, the weights are empty.

    Raises
    ------
    ShapeMismatch, DataError
        If rows do not fit the model: compiled loops look at no bounds.
    """
    model.check_rows(given)
    X, dtype = given.X, model.dtype
    y = _read(given.y, _label_dtype(model))
    weight = _read(np.empty(0) if given.weight is None else given.weight, dtype)
    if isinstance(X, np.ndarray):
        return _read(X, dtype), y, weight
    numbers = _index_dtype(X)
    return _read(X.indptr, numbers), _read(X.indices, numbers), _read(X.data, dtype), y, weight


def _types_of(model: Affine, X: Matrix) -> tuple[Any, ...]:
    """Return numba's types of what `_arrays_of` returns for such rows."""
    floats, labels = _type(model.dtype), _type(_label_dtype(model))
    if isinstance(X, np.ndarray):
        return _type(model.dtype, ndim=2), labels, floats
    numbers = _type(_index_dtype(X))
    return numbers, numbers, floats, labels, floats


def _label_dtype(model: Affine) -> Any:
    return np.int64 if model.output.is_for_classes else model.dtype


def _index_dtype(X: Matrix) -> Any:
    return np.int32 if X.indices.dtype == np.int32 else np.int64


def _read(array: Array, dtype: Any) -> Array:
    """Return an array as one of this dtype that cannot be written to; a view, if it fits."""
    seen = np.ascontiguousarray(array, dtype).view()
    seen.flags.writeable = False
    return seen


def _type(dtype: Any, ndim: int = 1) -> Any:
    """Return numba's type of what `_read` returns."""
    return numba_type(_read(np.empty((1,) * ndim), dtype))
