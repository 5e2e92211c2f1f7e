"""A wall clock that is another one by an hour whenever somebody reads it, in master and workers."""

from __future__ import annotations

import time
from collections.abc import Callable

from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector
from tests.numerics.learners import LeastSquares, Ledger


def let_the_clock_jump() -> None:
    """Let the wall clock of this process be an hour ahead, an hour behind, and so on."""
    for name in ("time", "time_ns"):
        read = getattr(time, name)
        if not hasattr(read, "jumps"):
            setattr(time, name, Jumping(read, 3600 if name == "time" else 3600 * 10**9))


class Jumping:
    """A clock that is never right, and never wrong in the same way twice."""

    jumps = True

    def __init__(self, read: Callable[[], float], by: float) -> None:
        self._read, self._by = read, by

    def __call__(self) -> float:
        self._by = -self._by
        return self._read() + self._by


class JumpingLedger(Ledger):
    """Lets the clock of its worker jump."""

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        let_the_clock_jump()
        super().gradient(w, batch, out)


class JumpingLeastSquares(LeastSquares):
    """Lets the clock of its worker jump."""

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        let_the_clock_jump()
        super().gradient(w, batch, out)
