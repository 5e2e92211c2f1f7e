"""The door to the compiled kernels: from a model and a pass to plain arrays. Imports numba.

Rule 1: a kernel is compiled for arrays that cannot be written to (the rows), which those that can
        be fit as well: so each kernel is compiled once for a dtype, by `warm_up`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from paramserver.models.kernels import dense, sparse
from paramserver.models.losses import Array
from paramserver.training.vector import FloatVector

_type_of: Any = numba.typeof

if TYPE_CHECKING:
    from paramserver.models.affine import Affine
    from paramserver.training.partitions import Epoch


def steps(model: Affine, w: FloatVector, epoch: Epoch, batches: range, lr: float) -> None:
    """Take the steps of consecutive batches of a pass, in place."""
    rows = epoch.rows
    output, penalty, dtype = model.output, model.penalty, model.dtype
    y = np.ascontiguousarray(rows.y, np.int64 if output.is_for_classes else dtype)
    weight = np.empty(0, dtype) if rows.weight is None else np.ascontiguousarray(rows.weight, dtype)
    which = (epoch.order, epoch.batch_size, batches.start, batches.stop, output.code)
    strengths = (float(lr), float(penalty.l1), float(penalty.l2))
    X = rows.X
    if isinstance(X, np.ndarray):
        is_sign = output.is_for_classes
        dense.steps(X, y, weight, *which, is_sign, w, model.width, *strengths)
        return
    parts = (X.indptr, X.indices, X.data, y, weight)
    if model.width == 1:
        sparse.one_output(*parts, *which, output.is_for_classes, w, *strengths)
    else:
        sparse.many_outputs(*parts, *which, w, model.width, *strengths)


def warm_up(dtype: np.dtype[Any], width: int, is_for_classes: bool) -> None:
    """Compile what `steps` will call for such models, or load it from the disk."""
    labels = _rows(np.int64 if is_for_classes else dtype)
    floats, numbers, w = _rows(dtype), _rows(np.int32), _type_of(np.empty(1, dtype))
    order = _type_of(np.empty(1, np.intp))
    i, f, b = numba.int64, numba.float64, numba.boolean
    which, strengths = (order, i, i, i, i), (f, f, f)
    table = _rows(dtype, ndim=2)
    dense.steps.compile((table, labels, floats, *which, b, w, i, *strengths))
    parts = (numbers, numbers, floats, labels, floats)
    if width == 1:
        sparse.one_output.compile((*parts, *which, b, w, *strengths))
    else:
        sparse.many_outputs.compile((*parts, *which, w, i, *strengths))


def _rows(dtype: Any, ndim: int = 1) -> Any:
    """Return numba's type of arrays that are read."""
    array: Array = np.empty((1,) * ndim, dtype)
    array.flags.writeable = False
    return _type_of(array)
