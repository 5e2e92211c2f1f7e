"""How gradients that count change the weights: checked, shrunk, weakened, summed. Arithmetic only.

Rule 1: a gradient that is refused has changed nothing: neither weights nor the optimizer's state.
Rule 2: a gradient of all weights makes a new vector beside the old one; one of some rows changes
        these rows in place, and costs nothing for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from paramserver.training.optimizers import Optimizer, norm
from paramserver.training.pushes import Gradient, PushPullRules, RowGradient, Verdict
from paramserver.training.vector import FloatVector, Workspace, combine


def fault_of(g: Gradient, w: FloatVector, width: int | None) -> Verdict | None:
    """Return what is wrong with a gradient for `w`, but for its numbers; None if nothing is.

    Parameters
    ----------
    g : ndarray of shape (d,), or RowGradient
    w : ndarray of shape (d,)
    width : int or None
        Length of a row of `w`, where gradients are of some rows.
    """
    if width is None:
        return _fault_of_array(g, w, (w.size,)) if isinstance(g, np.ndarray) else Verdict.MISSHAPEN
    if not isinstance(g, RowGradient):
        return Verdict.MISSHAPEN
    rows, values = g
    if rows.ndim != 1 or rows.dtype != np.int64:
        return Verdict.MISPLACED
    fault = _fault_of_array(values, w, (rows.size, width))
    return fault or (None if are_rows(rows, w.size // width) else Verdict.MISPLACED)


def _fault_of_array(x: FloatVector, w: FloatVector, shape: tuple[int, ...]) -> Verdict | None:
    if x.shape != shape or not x.flags.c_contiguous:
        return Verdict.MISSHAPEN
    return None if x.dtype == w.dtype else Verdict.MISTYPED


def are_rows(rows: FloatVector, n_rows: int) -> bool:
    """Say whether numbers of rows are sorted, unique and below `n_rows`."""
    n = rows.size
    if not n:
        return True
    is_inside = rows[0] >= 0 and rows[-1] < n_rows
    return bool(is_inside and (rows[1:] > rows[:-1]).all())


class Applier:
    """Applies gradients by one optimizer, under the rules of a parameter server.

    Parameters
    ----------
    optimizer : Optimizer
        Started here.
    w : ndarray of shape (d,)
        Weights of the size and dtype that come; not kept.
    rules : PushPullRules
    width : int or None
        Length of a row of the weights, where gradients are of some rows.

    Raises
    ------
    ConfigError
        If the optimizer cannot step by some rows.
    """

    def __init__(
        self, optimizer: Optimizer, w: FloatVector, rules: PushPullRules, width: int | None
    ) -> None:
        if width is not None:
            optimizer.require_sparse()
        self._optimizer = optimizer
        self._optimizer.start(w.size, w.dtype)
        self._rules = rules
        self._width = width
        self._workspace = Workspace(w.size, w.dtype)
        is_summed = rules.staleness_bound == 0 and width is None
        self._mean = np.empty_like(w) if is_summed else None

    def is_finite(self, g: Gradient) -> bool:
        """Say whether a gradient has neither NaN nor infinity. One pass."""
        values = g.values.reshape(-1) if isinstance(g, RowGradient) else g
        return self._workspace.all_finite(values)

    def step(self, w: FloatVector, g: Gradient, spare: FloatVector, staleness: int) -> Verdict:
        """Take one step.

        Parameters
        ----------
        w : ndarray of shape (d,)
            Rows of it are overwritten by a gradient of these rows; otherwise it is left alone.
        g : ndarray of shape (d,), or RowGradient
        spare : ndarray of shape (d,)
            Gets the new weights by a gradient of all of them; otherwise it is left alone.
        staleness : int

        Returns
        -------
        Verdict
            APPLIED, or NONFINITE or DIVERGED: then neither weights nor state have changed.
        """
        optimizer, rules = self._optimizer, self._rules
        lr_scale = 1.0 / max(1, staleness) if rules.staleness_aware else 1.0
        if isinstance(g, RowGradient):
            values = g.values.reshape(-1)
        else:
            values = g
            if not optimizer.is_stateless and not self._workspace.all_finite(g):
                return Verdict.NONFINITE
        g_scale = 1.0
        if rules.clip_norm is not None:
            length = norm(values)
            if not isfinite(length):
                return Verdict.NONFINITE
            g_scale = rules.clip_norm / length if length > rules.clip_norm else 1.0
        if isinstance(g, RowGradient):
            view = w.reshape(-1, self._width or 1)
            done = optimizer.sparse_step(view, *g, lr_scale=lr_scale, g_scale=g_scale)
        else:
            done = optimizer.step(w, g, spare, lr_scale=lr_scale, g_scale=g_scale)
        if done:
            return Verdict.APPLIED
        return Verdict.DIVERGED if self._workspace.all_finite(values) else Verdict.NONFINITE

    def mean(self, gradients: Sequence[Gradient], coefficients: Sequence[float]) -> Gradient:
        """Return the sum of ``coefficient * gradient``, in the order given.

        It is valid until the next call. Gradients of rows are summed without being made whole.
        """
        if self._mean is not None:
            whole = [g for g in gradients if not isinstance(g, RowGradient)]
            combine(whole, coefficients, self._mean, self._workspace)
            return self._mean
        parts = [g for g in gradients if isinstance(g, RowGradient)]
        rows = np.unique(np.concatenate([g.rows for g in parts]))
        values = np.zeros((rows.size, self._width or 1), parts[0].values.dtype)
        with np.errstate(all="ignore"):
            for g, coefficient in zip(parts, coefficients, strict=True):
                values[rows.searchsorted(g.rows)] += coefficient * g.values
        return RowGradient(rows, values)
