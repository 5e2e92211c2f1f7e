"""A learner from a function of numpy arrays: bring your own model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError
from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector, require


class FunctionLearner:
    """A learner whose loss and gradient are one function.

    Parameters
    ----------
    function : callable
        ``function(w, X, y) -> (loss, g)``: the mean loss over the rows, a number, and its gradient,
        of the shape and dtype of w. With a fourth argument named ``weight`` it is also given the
        weights of the rows, or None. It must be found by workers: a function of a module, or of
        the notebook.
    start : array-like of shape (d,), or callable
        The weights to start from, float32 or float64; or ``start(rng)`` that returns them.
    score : callable, optional
        ``score(w, X, y) -> float``, larger is better, with ``weight`` as the function; by default
        minus the loss.
    default_lr : float, optional
        The learning rate that ``lr="auto"`` takes.

    Examples
    --------
    >>> import numpy as np
    >>> import paramserver as ps
    >>> def absolute(w, X, y):
    ...     error = X @ w - y
    ...     return np.abs(error).mean(), X.T @ np.sign(error) / len(y)
    >>> X = np.random.default_rng(0).standard_normal((400, 2))
    >>> y = X @ [1.0, -2.0]
    >>> learner = ps.FunctionLearner(absolute, start=np.zeros(2))
    >>> with ps.LocalCluster(2) as cluster:
    ...     mode = ps.Averaging(rounds=40)
    ...     result = ps.fit(learner, (X, y), mode=mode, cluster=cluster, lr=0.02)
    >>> result.weights.round(1)
    array([ 1., -2.])
    """

    def __init__(
        self,
        function: Callable[..., tuple[Any, npt.NDArray[Any]]],
        start: npt.ArrayLike | Callable[[np.random.Generator], npt.NDArray[Any]],
        score: Callable[..., Any] | None = None,
        default_lr: float | None = None,
    ) -> None:
        self.function = function
        self._start = start if callable(start) else np.array(start)
        self._score = score
        self.default_lr = default_lr
        first = self.start(np.random.default_rng(0))
        if first.ndim != 1 or first.dtype.name not in ("float32", "float64"):
            raise ConfigError(
                "start must be one flat vector of float32 or float64 (or return one), not "
                f"{first.dtype} of shape {first.shape}.",
                field="start",
                value=str(first.dtype),
            )
        self.size = first.size
        self.dtype = first.dtype

    def start(self, rng: np.random.Generator) -> FloatVector:
        """Return the weights to start from."""
        start = self._start(rng) if callable(self._start) else self._start
        return np.array(start, order="C")

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        """Write what the function returns to `out`.

        Raises
        ------
        ShapeMismatch
            If that is no vector like the weights.
        """
        g = self._call(w, batch)[1]
        require(np.asarray(g), self.size, self.dtype, "The gradient that the function returns")
        np.copyto(out, g)

    def loss(self, w: FloatVector, data: Batch) -> float:
        """Return the loss that the function returns."""
        return float(self._call(w, data)[0])

    def score(self, w: FloatVector, data: Batch) -> float:
        """Return what `score` says, or minus the loss."""
        if self._score is None:
            return -self.loss(w, data)
        return float(_call(self._score, _heeds_weights(self._score), w, data))

    @cached_property
    def _heeds_weights(self) -> bool:
        return _heeds_weights(self.function)

    def _call(self, w: FloatVector, rows: Batch) -> tuple[Any, npt.NDArray[Any]]:
        found: tuple[Any, npt.NDArray[Any]] = _call(self.function, self._heeds_weights, w, rows)
        return found


def _heeds_weights(function: Callable[..., Any]) -> bool:
    return "weight" in inspect.signature(function).parameters


def _call(function: Callable[..., Any], heeds_weights: bool, w: FloatVector, rows: Batch) -> Any:
    """Call a function of the user's; weights that it would ignore are refused."""
    if heeds_weights:
        return function(w, rows.X, rows.y, weight=rows.weight)
    if rows.weight is not None:
        name = getattr(function, "__name__", "function")
        raise ConfigError(
            f"The rows have weights, and {name} of this learner takes none: give it a fourth "
            "argument named weight.",
            field="sample_weight",
            value=None,
        )
    return function(w, rows.X, rows.y)
