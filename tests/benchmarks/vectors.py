"""What rows 5 to 9 send around: vectors whose right end is known, and a learner that makes them.

Rule 1: nothing is computed that has to do with learning: the way of the data is measured.
Rule 2: each round, or each push, leaves a mark, so that the final vector shows what was applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from paramserver.training.learner import Batch
from paramserver.training.partitions import Epoch
from paramserver.training.vector import FloatVector

LR = 2.0**-10
"""A power of two, so that sums of steps are exact in float32."""


@dataclass(frozen=True)
class Marks:
    """A learner that marks both ends of a vector a round, and whose gradient is all ones."""

    size: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def start(self, rng: np.random.Generator) -> FloatVector:
        return np.zeros(self.size, self.dtype)

    def local_epoch(self, w: FloatVector, epoch: Epoch, lr: float) -> None:
        w[0] += 1.0
        w[-1] += 1.0

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        out[:] = 1.0  # written anew each time, as a real learner does

    def loss(self, w: FloatVector, data: Batch) -> float:
        return 0.0

    def score(self, w: FloatVector, data: Batch) -> float:
        return 0.0


def mark(w: FloatVector) -> FloatVector:
    """Do what a learner does in a round: return weights of its own."""
    result = w.copy()
    result[0] += 1.0
    result[-1] += 1.0
    return result


def require_marks(w: FloatVector, rounds: int) -> None:
    """Refuse a vector that `rounds` averaging rounds cannot have led to."""
    if not (w[0] == w[-1] == rounds and not w[1:-1].any()):
        raise AssertionError(f"wrong weights after {rounds} rounds: {w[:2]} ... {w[-2:]}")


class PlainServer:
    """A parameter server as a peer's user would write it: check, apply in place, answer.

    Its rate is between the first and the last update, so that starting up does not count.
    """

    def __init__(self, d: int) -> None:
        self.w = np.zeros(d, np.float32)
        self.n = 0
        self._first = self._last = 0.0

    def push_pull(self, g: FloatVector) -> FloatVector:
        """Apply a gradient, if it is finite, and return the new weights."""
        if not np.isfinite(g).all():
            raise ValueError("a gradient that is not finite")
        self.w -= LR * g
        self.n += 1
        self._last = perf_counter()
        if self.n == 1:
            self._first = self._last
        return self.w

    def rate(self, n: int) -> float:
        """Return updates a second, if the weights are what `n` updates lead to."""
        require_pushes(self.w, n)
        return (self.n - 1) / (self._last - self._first)


def require_pushes(w: FloatVector, n: int) -> None:
    """Refuse a vector that `n` pushes of ones cannot have led to."""
    if not (w == -n * LR).all():
        raise AssertionError(f"wrong weights after {n} pushes: {w[:2]}, not {-n * LR}")
