"""Is this a learner? The promises of `training.learner.Learner`, checked one by one.

Rule 1: a promise that is broken is an AssertionError that says what to mend.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramserver.protocol import calls
from paramserver.training.learner import Batch, FastLearner, Learner
from paramserver.training.partitions import Epoch
from paramserver.training.vector import FloatVector

TOLERANCE = {"float32": 2e-2, "float64": 1e-5}
"""How far a gradient may be from central differences of the loss, by its norm."""


def check_learner(learner: Learner, rows: Batch, *, seed: int = 0) -> None:
    """Check that a learner keeps its promises on some rows.

    Parameters
    ----------
    learner : Learner
        Its weights should be few (hundreds): the loss is evaluated twice for each.
    rows : Batch
        A few rows of the kind it is meant for.
    seed : int
        Of the weights at which it is looked at.

    Raises
    ------
    AssertionError
        If it does not; the message says what to mend.

    Examples
    --------
    >>> import numpy as np
    >>> from paramserver.models.softmax import Softmax
    >>> from paramserver.testing.learners import check_learner
    >>> from paramserver.training.learner import Batch
    >>> rng = np.random.default_rng(0)
    >>> rows = Batch(rng.standard_normal((20, 3)), rng.integers(0, 4, 20))
    >>> check_learner(Softmax(3, 4, dtype_name="float64"), rows)
    """
    dtype = np.dtype(learner.dtype)
    assert dtype.name in TOLERANCE, f"dtype must be float32 or float64, not {dtype}"
    rng = np.random.default_rng(seed)
    w = learner.start(np.random.default_rng(seed))
    again = learner.start(np.random.default_rng(seed))
    assert w.shape == (learner.size,), f"start: shape {w.shape}, but size is {learner.size}"
    assert w.dtype == dtype, f"start: {w.dtype} weights, but dtype is {dtype}"
    assert np.array_equal(w, again), "start: depends on more than the generator it is given"
    w = np.ascontiguousarray(w + 0.1 * rng.standard_normal(learner.size), dtype)
    _check_gradient(learner, w, rows)
    _check_scale(learner, w, rows)
    _check_travel(learner, w, rows)
    for name in ("loss", "score"):
        value = getattr(learner, name)(w, rows)
        assert isinstance(value, float), f"{name}: returns {type(value).__name__}, not float"
    if isinstance(learner, FastLearner):
        _check_local_epoch(learner, w, rows)


def _gradient(learner: Learner, w: FloatVector, rows: Batch, fill: float = 7.0) -> FloatVector:
    out = np.full(learner.size, fill, learner.dtype)
    learner.gradient(w, rows, out)
    return out


def _check_gradient(learner: Learner, w: FloatVector, rows: Batch) -> None:
    kept = [x.copy() for x in (w, rows.X, rows.y)]
    g = _gradient(learner, w, rows)
    for name, before, after in zip(("w", "X", "y"), kept, (w, rows.X, rows.y), strict=True):
        assert np.array_equal(before, after), f"gradient: changes {name}"
    other = _gradient(learner, w, rows, fill=-3.0)
    assert np.array_equal(g, other), "gradient: depends on what was in `out`, or on earlier calls"
    step = 1e-2 if learner.dtype == np.float32 else 1e-6
    expected = np.empty(learner.size)
    for i in range(learner.size):
        moved = w.copy()
        moved[i] += step
        above, high = learner.loss(moved, rows), float(moved[i])
        moved[i] = w[i] - step
        expected[i] = (above - learner.loss(moved, rows)) / (high - float(moved[i]))
    far = np.linalg.norm(g - expected) / (1 + np.linalg.norm(expected))
    limit = TOLERANCE[np.dtype(learner.dtype).name]
    assert far <= limit, f"gradient: {far:.2g} away from the slope of `loss` (allowed: {limit:g})"


def _check_scale(learner: Learner, w: FloatVector, rows: Batch) -> None:
    twice = Batch(np.concatenate([rows.X, rows.X]), np.concatenate([rows.y, rows.y]))
    one, two = _gradient(learner, w, rows), _gradient(learner, w, twice)
    assert np.allclose(one, two, rtol=1e-3, atol=1e-5), (
        "gradient: rows that come twice change it; it must be of the MEAN loss, not of the sum"
    )


def _check_travel(learner: Learner, w: FloatVector, rows: Batch) -> None:
    copy: Any = calls.decode_value(calls.encode_value(learner, trusted=True), trusted=True)
    assert np.array_equal(_gradient(copy, w, rows), _gradient(learner, w, rows)), (
        "travel: a learner that has travelled computes another gradient"
    )


def _check_local_epoch(learner: FastLearner, w: FloatVector, rows: Batch) -> None:
    fast, slow, lr = w.copy(), w.copy(), 1e-3
    learner.local_epoch(fast, Epoch(rows, 4, 0, 0, 0), lr)
    epoch = Epoch(rows, 4, 0, 0, 0)
    for batch in epoch.batches():
        slow -= lr * _gradient(learner, slow, batch)
    assert np.allclose(fast, slow, rtol=1e-4, atol=1e-6), (
        "local_epoch: ends with other weights than the same steps by `gradient`"
    )
