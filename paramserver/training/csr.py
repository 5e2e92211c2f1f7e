"""Sparse rows made of arrays that are there already: nothing is checked, nothing is copied."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

MAX_INT32: Final = 2**31 - 1


def as_csr(
    data: npt.NDArray[Any], indices: npt.NDArray[Any], indptr: npt.NDArray[Any], shape: Any
) -> Any:
    """Return a csr_array made of these very arrays, which must be canonical; none is read.

    The constructor would look through them, and copy those that are views of much larger ones.
    """
    from scipy.sparse import csr_array

    X = csr_array(shape, dtype=data.dtype)
    X.data, X.indices, X.indptr = data, indices, indptr
    X.has_sorted_indices = X.has_canonical_format = True
    return X


def csr_between(X: Any, start: int, stop: int) -> Any:
    """Return consecutive rows of a canonical csr_array as views of it; scipy's slices are copies.

    Only what says where rows begin is computed, and held in memory.
    """
    indptr = X.indptr[start : stop + 1]
    first, last = indptr[0], indptr[-1]
    shape = (len(indptr) - 1, X.shape[1])
    return as_csr(X.data[first:last], X.indices[first:last], indptr - first, shape)


def index_dtype(n_columns: int, n_entries: int) -> np.dtype[Any]:
    """Return the smallest integers that scipy counts columns and entries with."""
    return np.dtype(np.int32 if max(n_columns, n_entries) <= MAX_INT32 else np.int64)
