"""Is this a learner? The promises of `training.learner`, checked one by one.

Rule 1: a promise that is broken is an AssertionError that says what to mend.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramserver.protocol import calls
from paramserver.training.learner import (
    Batch,
    FastLearner,
    Learner,
    Matrix,
    PassingLearner,
    SparseLearner,
    SteppingLearner,
)
from paramserver.training.partitions import Epoch
from paramserver.training.row_pass import PlainPass
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
        A few rows of the kind it is meant for: those with weights check that it heeds them, sparse
        ones that it computes the same as from dense ones.
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
    for name in ("loss", "score"):
        value = getattr(learner, name)(w, rows)
        assert isinstance(value, float), f"{name}: returns {type(value).__name__}, not float"
    if getattr(learner, "averages_only", False):
        assert isinstance(learner, FastLearner), "averages_only: has no local_epoch"
        _check_passes(learner, w, rows)
        return
    w = np.ascontiguousarray(w + 0.1 * rng.standard_normal(learner.size), dtype)
    _check_gradient(learner, w, rows)
    _check_scale(learner, w, rows)
    _check_travel(learner, w, rows)
    if rows.weight is not None:
        _check_weights(learner, w, rows)
    if not isinstance(rows.X, np.ndarray):
        _check_sparse_rows(learner, w, rows)
    if isinstance(learner, SparseLearner):
        _check_sparse_gradient(learner, w, rows)
    if isinstance(learner, PassingLearner):
        _check_row_pass(learner, w, rows)
    if isinstance(learner, FastLearner):
        _check_local_epoch(learner, w, rows)
    if isinstance(learner, SteppingLearner):
        _check_local_steps(learner, w, rows)


def _gradient(learner: Learner, w: FloatVector, rows: Batch, fill: float = 7.0) -> FloatVector:
    out = np.full(learner.size, fill, learner.dtype)
    learner.gradient(w, rows, out)
    return out


def _check_gradient(learner: Learner, w: FloatVector, rows: Batch) -> None:
    seen = {"w": w, "X": _dense(rows.X), "y": rows.y, "weight": rows.weight}
    kept = {name: None if x is None else x.copy() for name, x in seen.items()}
    g = _gradient(learner, w, rows)
    seen["X"] = _dense(rows.X)
    for name, before in kept.items():
        assert before is None or np.array_equal(before, seen[name]), f"gradient: changes {name}"
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
    twice = rows.take(np.tile(np.arange(rows.n), 2))
    one, two = _gradient(learner, w, rows), _gradient(learner, w, twice)
    assert np.allclose(one, two, rtol=1e-3, atol=1e-5), (
        "gradient: rows that come twice change it; it must be of the MEAN loss, not of the sum"
    )


def _check_passes(learner: FastLearner, w: FloatVector, rows: Batch) -> None:
    """What can be seen of a learner without gradients: passes that repeat, here and elsewhere."""
    copy: Any = calls.decode_value(calls.encode_value(learner, trusted=True), trusted=True)
    ends = []
    for each in (learner, learner, copy):
        end = w.copy()
        each.local_epoch(end, Epoch(rows, 4, 0, 3, 0), 1e-3)
        ends.append(end)
    assert not np.array_equal(ends[0], w), "local_epoch: changes nothing"
    assert ends[0].tobytes() == ends[1].tobytes(), (
        "local_epoch: a second call with the same arguments ends otherwise"
    )
    assert ends[0].tobytes() == ends[2].tobytes(), (
        "travel: a learner that has travelled ends a pass otherwise"
    )


def _check_travel(learner: Learner, w: FloatVector, rows: Batch) -> None:
    copy: Any = calls.decode_value(calls.encode_value(learner, trusted=True), trusted=True)
    assert np.array_equal(_gradient(copy, w, rows), _gradient(learner, w, rows)), (
        "travel: a learner that has travelled computes another gradient"
    )


def _check_weights(learner: Learner, w: FloatVector, rows: Batch) -> None:
    ones = np.ones(rows.n, learner.dtype)
    same = np.allclose(
        _gradient(learner, w, rows._replace(weight=ones)),
        _gradient(learner, w, rows._replace(weight=None)),
        rtol=1e-5,
        atol=1e-6,
    )
    assert same, "weight: rows that all have the weight 1 count differently from rows without"
    first = np.where(np.arange(rows.n) < rows.n // 2, ones, 0 * ones)
    parts = [
        learner.loss(w, rows._replace(weight=weight)) for weight in (first, ones - first, ones)
    ]
    nothing = learner.loss(w, rows._replace(weight=0 * ones))
    assert abs(parts[0] - parts[2]) > 1e-9, "loss: does not heed weights"
    assert np.isclose(parts[0] + parts[1], parts[2] + nothing, rtol=1e-4), (
        "loss: must be sum(weight * loss) / n, penalties apart; rows of weight 0 count"
    )


def _check_sparse_rows(learner: Learner, w: FloatVector, rows: Batch) -> None:
    dense = rows._replace(X=_dense(rows.X))
    for found, expected, what in (
        (_gradient(learner, w, rows), _gradient(learner, w, dense), "gradient"),
        (learner.loss(w, rows), learner.loss(w, dense), "loss"),
        (learner.score(w, rows), learner.score(w, dense), "score"),
    ):
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-5), (
            f"{what}: sparse rows give another one than the same rows made dense"
        )


def _check_local_epoch(learner: FastLearner, w: FloatVector, rows: Batch) -> None:
    fast, slow, lr = w.copy(), w.copy(), 1e-3
    epoch = Epoch(rows, 4, 0, 0, 0)
    learner.local_epoch(fast, epoch, lr)
    for batch in epoch.batches():
        slow -= lr * _gradient(learner, slow, batch)
    assert np.allclose(fast, slow, rtol=1e-4, atol=1e-6), (
        "local_epoch: ends with other weights than the same steps by `gradient`"
    )


def _check_local_steps(learner: SteppingLearner, w: FloatVector, rows: Batch) -> None:
    whole, cut, lr = w.copy(), w.copy(), 1e-3
    epoch = Epoch(rows, 4, 0, 0, 0)
    learner.local_epoch(whole, epoch, lr)
    middle = len(epoch) // 2
    for batches in (range(middle), range(middle, len(epoch))):
        learner.local_steps(cut, epoch, batches, lr)
    assert np.allclose(whole, cut, rtol=1e-5, atol=1e-7), (
        "local_steps: a pass in two parts ends with other weights than `local_epoch`"
    )


def _check_sparse_gradient(learner: SparseLearner, w: FloatVector, rows: Batch) -> None:
    width = learner.width
    assert learner.size % width == 0, f"width: {width} does not divide size, {learner.size}"
    few = rows.take(np.arange(min(2, rows.n)))
    touched = learner.touched(few)
    assert touched.dtype == np.int64, f"touched: {touched.dtype} numbers, not int64"
    last = learner.size // width - 1
    assert touched.size, "touched: empty, but the row of the intercepts always is"
    assert touched[0] >= 0, "touched: a negative row"
    assert touched[-1] == last, f"touched: the last row must be the intercepts', {last}"
    assert (np.diff(touched) > 0).all(), "touched: must be sorted, each row once"
    table = np.zeros((last + 1, width), learner.dtype)
    table[touched] = w.reshape(-1, width)[touched]
    whole = _gradient(learner, table.reshape(-1), few).reshape(-1, width)
    others = np.delete(whole, touched, axis=0)
    assert not others.any(), "touched: leaves rows out that the gradient has"
    out = np.full((touched.size, width), 7.0, learner.dtype)
    learner.sparse_gradient(table[touched], touched, few, out)
    assert np.allclose(whole[touched], out, rtol=1e-4, atol=1e-6), (
        "sparse_gradient: differs from the touched rows of `gradient`"
    )


def _check_row_pass(learner: PassingLearner, w: FloatVector, rows: Batch) -> None:
    epoch = Epoch(rows, 3, 1, 0, 0)
    own, plain = learner.row_pass(epoch), PlainPass(learner, epoch)
    table = w.reshape(-1, learner.width)
    for number in range(len(epoch)):
        touched = plain.touched(number)
        assert np.array_equal(own.touched(number), touched), (
            f"row_pass: batch {number} touches other rows than `touched` says"
        )
        found, expected = (
            np.full((touched.size, learner.width), fill, learner.dtype) for fill in (7.0, -3.0)
        )
        own.gradient(number, table[touched], touched, found)
        plain.gradient(number, table[touched], touched, expected)
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-6), (
            f"row_pass: the gradient of batch {number} is not that of `sparse_gradient`"
        )


def _dense(matrix: Matrix) -> Any:
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
