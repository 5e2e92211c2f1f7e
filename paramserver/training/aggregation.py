"""How the results of a round become new weights: a rule, and an outer optimizer. Arithmetic only.

Rule 1: a rule turns p vectors into one; it sees them in the order of the partitions.
Rule 2: the outer optimizer takes the difference ``old - aggregate`` for a gradient. Without one the
        aggregate *is* the new vector, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Protocol

import numpy as np
import numpy.typing as npt

from paramserver.training.optimizers import Optimizer
from paramserver.training.vector import BLOCK, FloatVector, Workspace, blocks, combine, require


class Rule(Protocol):
    """One way to aggregate."""

    def __call__(
        self,
        vectors: Sequence[FloatVector],
        coefficients: Sequence[float],
        out: FloatVector,
        workspace: Workspace,
    ) -> bool:
        """Write the aggregate to `out`; return whether it is finite.

        Parameters
        ----------
        vectors : sequence of ndarray of shape (d,)
        coefficients : sequence of float
            Share of the examples behind each vector; they sum up to 1.
        out : ndarray of shape (d,)
            None of the vectors.
        workspace : Workspace
        """


class Aggregation:
    """Makes the weights of the next round.

    Parameters
    ----------
    d : int
    dtype : dtype
    rule : Rule
        By default the mean, weighted by examples.
    outer : Optimizer, optional
        Applied to the aggregate; started here [1]_.

    References
    ----------
    .. [1] Reddi et al. (2021), "Adaptive federated optimization"; Douillard et al. (2023),
       "DiLoCo: distributed low-communication training of language models".
    """

    def __init__(
        self,
        d: int,
        dtype: npt.DTypeLike,
        *,
        rule: Rule = combine,
        outer: Optimizer | None = None,
    ) -> None:
        self._workspace = Workspace(d, dtype)
        self._rule = rule
        self._outer = outer
        self._delta: FloatVector | None = None
        if outer is not None:
            outer.start(d, dtype)
            self._delta = np.empty(d, dtype)

    def fold(
        self,
        old: FloatVector,
        vectors: Sequence[FloatVector],
        coefficients: Sequence[float],
        new: FloatVector,
    ) -> bool:
        """Write the new weights to `new`; return whether they are finite.

        One pass over each vector, and three more with an outer optimizer.
        """
        if self._outer is None or self._delta is None:
            return self._rule(vectors, coefficients, new, self._workspace)
        if not self._rule(vectors, coefficients, self._delta, self._workspace):
            return False
        np.subtract(old, self._delta, out=self._delta)
        return self._outer.step(old, self._delta, new)

    def state(self) -> tuple[int, list[FloatVector]]:
        """Return the steps of the outer optimizer, and what it remembers (no copies)."""
        return (0, []) if self._outer is None else (self._outer.n_steps, self._outer.state)

    def restore(self, n_steps: int, vectors: Sequence[FloatVector]) -> None:
        """Go on from what `state` has returned; the vectors are copied."""
        if self._outer is not None:
            self._outer.restore(n_steps, vectors)

    def is_finite(self, w: FloatVector) -> bool:
        """Say whether a vector has neither NaN nor infinity."""
        return self._workspace.all_finite(w)


def divergence(vectors: Sequence[FloatVector], coefficients: Sequence[float]) -> float:
    """Return how far the learners of a round are from each other.

    Parameters
    ----------
    vectors : sequence of ndarray of shape (d,)
    coefficients : sequence of float
        Share of the examples behind each vector; they sum up to 1.

    Returns
    -------
    float
        ``sum(c_i * ||w_i - mean||)``, where mean is ``sum(c_i * w_i)`` and the norm is the
        Euclidean one; 0 of a single vector.

    Notes
    -----
    The mean is made once more, whatever rule and outer optimizer have made of the vectors, block by
    block. One pass: each vector is read once, 6d flops a vector; squares are summed in float64.
    """
    if len(vectors) == 1:
        return 0.0
    size, dtype = min(vectors[0].size, BLOCK), vectors[0].dtype
    mean_room, workspace = np.empty(size, dtype), Workspace(size, dtype)
    squares = [0.0] * len(vectors)
    with np.errstate(all="ignore"):
        for block in blocks(vectors[0].size):
            pieces = [vector[block] for vector in vectors]
            mean = mean_room[: pieces[0].size]
            combine(pieces, coefficients, mean, workspace)
            for i, piece in enumerate(pieces):
                far = np.subtract(piece, mean, out=workspace.room[: mean.size])
                squares[i] += float(np.dot(far, far))
    return sum(c * sqrt(square) for c, square in zip(coefficients, squares, strict=True))


class TailMean:
    """The mean of the last weights of a training (Polyak, Ruppert).

    Parameters
    ----------
    d : int
    dtype : dtype
    first : int
        Number of the first round that counts.
    """

    def __init__(self, d: int, dtype: npt.DTypeLike, first: int) -> None:
        self.n = 0
        self._first = first
        self._mean = np.zeros(d, dtype)

    def add(self, round_number: int, w: FloatVector) -> None:
        """Take in the weights that a round has led to."""
        if round_number >= self._first:
            self.n += 1
            self._mean += (w - self._mean) / self.n

    def state(self) -> tuple[int, FloatVector]:
        """Return how many rounds have counted, and their mean (no copy)."""
        return self.n, self._mean

    def restore(self, n: int, mean: FloatVector) -> None:
        """Go on from what `state` has returned; the mean is copied."""
        require(mean, self._mean.size, self._mean.dtype, "The mean of the last weights")
        self.n = n
        np.copyto(self._mean, mean)

    def mean(self, w: FloatVector) -> FloatVector:
        """Return the mean; `w` itself as long as no round has counted."""
        return self._mean if self.n else w
