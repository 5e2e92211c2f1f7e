"""Steps over sparse rows, compiled. The law is `models.lazy`, whose names are used here.

Rule 1: a step costs what its nonzeros cost. Nothing is allocated in the loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramserver.models.kernels.jit import compiled
from paramserver.models.kernels.prefetch import AHEAD, LINE_BYTES, hint
from paramserver.models.kernels.slopes import slope, slopes, target
from paramserver.models.lazy import LEAST_SCALE


@compiled
def _pay(v: Any, due: float) -> None:
    """Take L1's toll of a row of coefficients."""
    for c in range(v.size):
        if v[c] > 0.0:
            v[c] = max(0.0, v[c] - due)
        elif v[c] < 0.0:
            v[c] = min(0.0, v[c] + due)


@compiled
def _multiply_out(v: Any, s: float, owed: float, paid: Any) -> None:
    """Leave the coefficients in `v`: what is owed is paid, and the scale is 1."""
    for j in range(paid.size):
        _pay(v[j], owed - paid[j])
        paid[j] = 0.0
    if s != 1.0:
        for j in range(v.shape[0]):
            for c in range(v.shape[1]):
                v[j, c] *= s


@compiled
def _expect(indptr: Any, indices: Any, data: Any, y: Any, order: Any, place: int) -> None:
    """Begin to load the row that is due soon, and where the rows behind it are."""
    if place + AHEAD < order.size:
        far, row = order[place + AHEAD], order[place]
        hint(indptr, far)
        hint(y, far)
        first, last = indptr[row], indptr[row + 1] - 1
        for k in range(first, last, LINE_BYTES // data.itemsize):
            hint(indices, k)
            hint(data, k)
        if last >= first:
            hint(indices, last)
            hint(data, last)


@compiled
def one_output(
    indptr: Any,
    indices: Any,
    data: Any,
    y: Any,
    weight: Any,
    order: Any,
    batch_size: int,
    first: int,
    last: int,
    code: int,
    is_sign: bool,
    w: Any,
    lr: float,
    l1: float,
    l2: float,
) -> None:
    """Take the steps of the batches from `first` up to `last`, for a single output."""
    v, intercept, s, owed = w[:-1], float(w[-1]), 1.0, 0.0
    table = v.reshape(-1, 1)
    decay, toll = 1.0 - lr * l2, lr * l1
    paid = np.zeros(v.size if toll > 0.0 else 0)
    z = np.empty(min(batch_size, order.size))
    for number in range(first, last):
        start = number * batch_size
        rows = order[start : start + batch_size]
        for i in range(rows.size):
            _expect(indptr, indices, data, y, order, start + i + AHEAD)
            total = 0.0
            for k in range(indptr[rows[i]], indptr[rows[i] + 1]):
                j = indices[k]
                if toll > 0.0:
                    _pay(table[j], owed - paid[j])
                    paid[j] = owed
                total += data[k] * v[j]
            z[i] = total * s + intercept
        s *= decay
        if s < LEAST_SCALE:
            _multiply_out(table, s, owed, paid)
            s, owed = 1.0, 0.0
        for i in range(rows.size):
            change = lr * slope(code, z[i], target(y[rows[i]], is_sign)) / rows.size
            if weight.size:
                change *= weight[rows[i]]
            intercept -= change
            change /= s
            if change != 0.0:
                for k in range(indptr[rows[i]], indptr[rows[i] + 1]):
                    v[indices[k]] -= change * data[k]
        owed += toll / s
    _multiply_out(table, s, owed, paid)
    w[-1] = intercept


@compiled
def many_outputs(
    indptr: Any,
    indices: Any,
    data: Any,
    y: Any,
    weight: Any,
    order: Any,
    batch_size: int,
    first: int,
    last: int,
    code: int,
    w: Any,
    width: int,
    lr: float,
    l1: float,
    l2: float,
) -> None:
    """Take the steps of the batches from `first` up to `last`, for several classes."""
    v = w[:-width].reshape(-1, width)
    intercept, s, owed = w[-width:], 1.0, 0.0
    decay, toll = 1.0 - lr * l2, lr * l1
    paid = np.zeros(v.shape[0] if toll > 0.0 else 0)
    z = np.empty((min(batch_size, order.size), width), w.dtype)
    for number in range(first, last):
        start = number * batch_size
        rows = order[start : start + batch_size]
        for i in range(rows.size):
            zi = z[i]
            zi[:] = 0.0
            _expect(indptr, indices, data, y, order, start + i + AHEAD)
            for k in range(indptr[rows[i]], indptr[rows[i] + 1]):
                j, x = indices[k], data[k]
                vj = v[j]
                if toll > 0.0:
                    _pay(vj, owed - paid[j])
                    paid[j] = owed
                for c in range(width):
                    zi[c] += x * vj[c]
            scale = zi.dtype.type(s)
            for c in range(width):
                zi[c] = zi[c] * scale + intercept[c]
        s *= decay
        if s < LEAST_SCALE:
            _multiply_out(v, s, owed, paid)
            s, owed = 1.0, 0.0
        for i in range(rows.size):
            zi = z[i]
            slopes(code, zi, y[rows[i]])
            change = lr / rows.size
            if weight.size:
                change *= weight[rows[i]]
            for c in range(width):
                zi[c] *= change
                intercept[c] -= zi[c]
                zi[c] /= s
            for k in range(indptr[rows[i]], indptr[rows[i] + 1]):
                x, vj = data[k], v[indices[k]]
                for c in range(width):
                    vj[c] -= x * zi[c]
        owed += toll / s
    _multiply_out(v, s, owed, paid)
