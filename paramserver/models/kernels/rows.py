"""The gradient of one batch of sparse rows by the rows of the weights that it touches, compiled.

The law is `Affine.touched` and `Affine.sparse_gradient`, whose names are used here.

Rule 1: it costs what the nonzeros of the batch cost, whatever the number of features: rows are read
        where they lie, and a feature's place among those touched is found by halving.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramserver.models.kernels.jit import compiled
from paramserver.models.kernels.slopes import slope, slopes, target


@compiled
def touched(indptr: Any, indices: Any, chosen: Any, n_features: int) -> Any:
    """Return the features that occur in the chosen rows, sorted, and the row of the intercepts."""
    n = 0
    for row in chosen:
        n += indptr[row + 1] - indptr[row]
    found = np.empty(n + 1, np.int64)
    n = 0
    for row in chosen:
        for k in range(indptr[row], indptr[row + 1]):
            found[n] = indices[k]
            n += 1
    found[:n].sort()
    n_kept = 0
    for i in range(n):
        if n_kept == 0 or found[i] != found[n_kept - 1]:
            found[n_kept] = found[i]
            n_kept += 1
    found[n_kept] = n_features
    return found[: n_kept + 1]


@compiled
def _place(rows: Any, n: int, feature: int) -> int:
    """Return the place of a feature among the first n rows, where it is."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if rows[middle] < feature:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _write_penalties(w_rows: Any, out: Any, n: int, l1: float, l2: float) -> None:
    """Write the derivatives of the penalties of the first n rows."""
    for p in range(n):
        for c in range(w_rows.shape[1]):
            v = w_rows[p, c]
            out[p, c] = l2 * v
            if l1 > 0.0 and v != 0.0:
                out[p, c] += l1 if v > 0.0 else -l1


@compiled
def gradient(
    indptr: Any,
    indices: Any,
    data: Any,
    y: Any,
    weight: Any,
    chosen: Any,
    code: int,
    is_sign: bool,
    rows: Any,
    w_rows: Any,
    out: Any,
    l1: float,
    l2: float,
) -> None:
    """Write the touched rows of the gradient of the mean loss over the chosen rows."""
    n_features, width = rows.size - 1, w_rows.shape[1]
    intercept, total = w_rows[n_features], out[n_features]
    total[:] = 0.0
    _write_penalties(w_rows, out, n_features, l1, l2)
    z = np.empty(width, w_rows.dtype)
    longest = 0
    for row in chosen:
        longest = max(longest, indptr[row + 1] - indptr[row])
    places = np.empty(longest, np.int64)
    for row in chosen:
        first, last = indptr[row], indptr[row + 1]
        z[:] = 0.0
        for k in range(first, last):
            p = _place(rows, n_features, indices[k])
            places[k - first] = p
            for c in range(width):
                z[c] += data[k] * w_rows[p, c]
        for c in range(width):
            z[c] += intercept[c]
        if width == 1:
            z[0] = slope(code, float(z[0]), target(y[row], is_sign))
        else:
            slopes(code, z, int(y[row]))
        share = 1.0 / chosen.size
        if weight.size:
            share *= weight[row]
        for c in range(width):
            z[c] *= share
            total[c] += z[c]
        for k in range(first, last):
            p = places[k - first]
            for c in range(width):
                out[p, c] += data[k] * z[c]
