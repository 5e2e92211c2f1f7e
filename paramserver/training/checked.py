"""One array of the user's: numbers, all of them finite, or an error that says where it is not so.

Rule 1: nothing of the user's is changed, and nothing is copied that fits as it is.
Rule 2: looking for what is not finite takes one cheap pass.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.errors import DataError, ShapeMismatch
from paramserver.training.csr import index_dtype
from paramserver.training.learner import Learner, Matrix

CHECKED_AT_A_TIME: Final = 1 << 16
"""Values that are looked at in one go: they stay in the cache."""
NUMBERS: Final = "fiub"
"""Kinds of dtype that are numbers."""


def as_dense(X: Any, learner: Learner, name: str) -> npt.NDArray[Any]:
    """Return a C-contiguous array of the learner's dtype; tables of pandas become one."""
    names = getattr(X, "columns", None)
    given = as_numbers(X, f"X of {name}")
    if given.ndim < 1:
        raise ShapeMismatch(f"X of {name} must have rows; it is a single number.")
    with np.errstate(over="ignore"):  # said below, with its place
        dense = np.ascontiguousarray(given, learner.dtype)
    check_finite(dense, f"X of {name}", name, given, names)
    return dense


def as_csr_array(X: Any, learner: Learner, name: str) -> Matrix:
    """Return a csr_array with sorted columns, none of them twice in a row."""
    from scipy.sparse import csr_array

    if X.ndim != 2:
        raise ShapeMismatch(f"A sparse X of {name} must have two axes; it has the shape {X.shape}.")
    if X.dtype.kind not in NUMBERS:
        raise ShapeMismatch(f"X of {name} must hold numbers, not {X.dtype}.")
    with np.errstate(over="ignore"):
        csr = csr_array(X, dtype=learner.dtype)
    if not csr.has_canonical_format:
        csr = csr.copy()  # its arrays may be those of the user
        csr.sum_duplicates()
    dtype = index_dtype(csr.shape[1], csr.nnz)
    if csr.indices.dtype != dtype or csr.indptr.dtype != dtype:
        csr.indices, csr.indptr = csr.indices.astype(dtype), csr.indptr.astype(dtype)
    _refuse_sparse(csr, name)
    return csr


def _refuse_sparse(csr: Matrix, name: str) -> None:
    at = _first_bad(csr.data)
    if at is not None:
        row = int(np.searchsorted(csr.indptr, at, side="right")) - 1
        raise _not_finite(csr.data[at], None, f"X of {name}", (row, int(csr.indices[at])), name)


def as_numbers(values: Any, what: str) -> npt.NDArray[Any]:
    """Return an array of numbers; tables and columns of pandas become one as they are."""
    try:
        array = np.asarray(values)
    except ValueError as error:  # a list of lists of different lengths
        raise ShapeMismatch(f"{what} is no array: {error}") from error
    if array.dtype.kind == "O":
        array = _unboxed(values, array, what)
    if array.dtype.kind not in NUMBERS:
        hint = ""
        if what.startswith("y"):
            hint = " Number the labels: names, y = numpy.unique(y, return_inverse=True)."
        raise ShapeMismatch(f"{what} must hold numbers, not {array.dtype}.{hint}")
    return array


def _unboxed(values: Any, array: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    """Return the numbers in an array of objects, such as a table with columns of several types."""
    names = getattr(values, "columns", None)
    columns = array.T if array.ndim == 2 else [array]
    done = []
    for j, column in enumerate(columns):
        numbers = _numbers_or_none(column)
        if numbers is None:
            where = f"column {_column(j, names)} of {what}" if array.ndim == 2 else what
            found = next(v for v in column.flat if _numbers_or_none(np.array([v], object)) is None)
            raise ShapeMismatch(f"{where} must hold numbers; it holds {found!r:.60}.")
        done.append(numbers)
    return np.stack(done, axis=1) if array.ndim == 2 else done[0]


def _numbers_or_none(column: npt.NDArray[Any]) -> npt.NDArray[np.float64] | None:
    if any(isinstance(value, (str, bytes)) for value in column.flat):
        return None  # "1" is text here, even if float() could read it
    try:
        return column.astype(np.float64)
    except (TypeError, ValueError):
        return None


# --- is every value finite? ----------------------------------------------------------------------


def check_finite(
    array: npt.NDArray[Any],
    what: str,
    name: str,
    given: npt.NDArray[Any] | None = None,
    columns: Any = None,
) -> None:
    """Raise a DataError with the place of the first value that is not finite."""
    at = _first_bad(array)
    if at is None:
        return
    place = tuple(int(i) for i in np.unravel_index(at, array.shape))
    before = None if given is None else given[place]
    raise _not_finite(array[place], before, what, place, name, columns)


def first_unfit(weight: npt.NDArray[Any]) -> int | None:
    """Return the first row whose weight is not fit: weights of rows are finite, and 0 or more."""
    is_fit = np.isfinite(weight) & (weight >= 0)
    return None if is_fit.all() else int(np.argmin(is_fit))


def _first_bad(array: npt.NDArray[Any]) -> int | None:
    """Return the flat place of the first value that is not finite, in one cheap pass."""
    if array.dtype.kind != "f":
        return None
    flat = array.reshape(-1)
    for start in range(0, flat.size, CHECKED_AT_A_TIME):
        block = flat[start : start + CHECKED_AT_A_TIME]
        with np.errstate(all="ignore"):
            total = block.sum()
        if not np.isfinite(total):  # large finite numbers can do that, too
            bad = ~np.isfinite(block)
            if bad.any():
                return start + int(bad.argmax())
    return None


def _not_finite(
    value: Any,
    before: Any,
    what: str,
    place: tuple[int, ...],
    name: str,
    columns: Any = None,
) -> DataError:
    where = f"row {place[0]}"
    if len(place) > 1:
        where += f", column {_column(place[1], columns)}"
    if before is not None and np.isfinite(before):
        return DataError(
            f"{what} has {before:g} in {where}, which is too large for {value.dtype}. Scale it, or "
            "use a learner of float64.",
            path=name,
        )
    return DataError(
        f"{what} has {value} in {where} (counted from 0). Fill or remove such values first.",
        path=name,
    )


def _column(number: int, names: Any) -> str:
    return str(number) if names is None else f"'{names[number]}'"
