"""Steps over small dense batches, compiled: here numpy's calls would take longer than the work."""

from __future__ import annotations

from typing import Any

import numpy as np

from paramserver.models.kernels.jit import compiled
from paramserver.models.kernels.slopes import slope, slopes, target


@compiled
def steps(
    X: Any,
    y: Any,
    weight: Any,
    order: Any,
    batch_size: int,
    first: int,
    last: int,
    code: int,
    is_sign: bool,
    w: Any,
    width: int,
    lr: float,
    l1: float,
    l2: float,
) -> None:
    """Take the steps of the batches from `first` up to `last`.

    Notes
    -----
    4 n_features width flops an example and 3 a weight and step. Nothing is allocated in the loop.
    """
    v = w[:-width].reshape(-1, width)
    intercept = w[-width:]
    d = v.shape[0]
    decay, toll = w.dtype.type(1.0 - lr * l2), w.dtype.type(lr * l1)
    z = np.empty((min(batch_size, order.size), width), w.dtype)
    for number in range(first, last):
        start = number * batch_size
        rows = order[start : start + batch_size]
        for i in range(rows.size):
            zi, x = z[i], X[rows[i]]
            zi[:] = intercept
            for j in range(d):
                for c in range(width):
                    zi[c] += x[j] * v[j, c]
        for i in range(rows.size):
            zi = z[i]
            if width > 1:
                slopes(code, zi, int(y[rows[i]]))
            else:
                zi[0] = slope(code, zi[0], target(y[rows[i]], is_sign))
            change = lr / rows.size
            if weight.size:
                change *= weight[rows[i]]
            for c in range(width):
                zi[c] *= change
        if l2 > 0.0:
            for k in range(d * width):
                w[k] *= decay
        for i in range(rows.size):
            zi, x = z[i], X[rows[i]]
            for c in range(width):
                intercept[c] -= zi[c]
            for j in range(d):
                for c in range(width):
                    v[j, c] -= x[j] * zi[c]
        if toll > 0.0:
            for k in range(d * width):
                w[k] = max(w[k] - toll, 0.0) if w[k] > 0.0 else min(w[k] + toll, 0.0)
