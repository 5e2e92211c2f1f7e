"""Local SGD on noisy gradients: twice the steps, or twice the workers, halve what is missing.

Theorem (local SGD). For an L-smooth, mu-strongly convex loss with noisy gradients of variance
sigma^2, steps of ``4 / (mu (a + t))`` and the mean of all iterates of all p learners with weights
``(a + t)^2``, where ``a > max(16 L / mu, H)``, the gap to the optimum after T steps of each is
``O(sigma^2 / (mu p T))`` as long as the H steps between two averages are few compared with
``sqrt(T / p)``: it falls as 1/T, and p learners reach in T/p steps what one reaches in T.

References
----------
.. [1] Stich (2019), "Local SGD converges fast and communicates little", theorem 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest

from paramserver.training.learner import Batch
from paramserver.training.optimizers import SGD
from paramserver.training.vector import FloatVector
from tests.numerics.inprocess import average

D, N_SEEDS = 50, 20
CURVES = np.linspace(1.0, 1.5, D)
MU, A = 1.0, 25.0  # 16 L / mu = 24
TIMES = (200, 400, 800, 1600)


@dataclass(frozen=True)
class NoisyBowl:
    """``mean(sum(h * (w - x)^2)) / 2``: the optimum is the mean of the rows, which is 0."""

    size: int = D

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    def start(self, rng: np.random.Generator) -> FloatVector:
        return np.full(D, 0.2)

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        np.subtract(w, batch.X[0], out=out)
        out *= CURVES

    def loss(self, w: FloatVector, data: Batch) -> float:
        return 0.5 * float(np.mean(((w - data.X) ** 2) @ CURVES))

    def score(self, w: FloatVector, data: Batch) -> float:
        return -self.loss(w, data)


@dataclass
class StichSGD(SGD):
    """His steps; keeps the weighted sum of the iterates it has seen, at some times."""

    times: tuple[int, ...] = ()
    sums: dict[int, FloatVector] = field(default_factory=dict, init=False)

    def step(self, w: FloatVector, g: FloatVector, out: FloatVector, **scales: float) -> bool:
        t = self.n_steps
        if t == 0:
            self._sum = np.zeros_like(w)
        self._sum += (A + t) ** 2 * w
        if t + 1 in self.times:
            self.sums[t + 1] = self._sum.copy()
        return super().step(w, g, out, lr_scale=4 / (MU * (A + t)) / self.lr)


@cache
def gaps(p: int, local_steps: int) -> dict[int, float]:
    """Return the mean gap over the seeds after some numbers of steps of each of p learners."""
    n_steps = TIMES[-1]
    found = dict.fromkeys(TIMES, 0.0)
    for seed in range(N_SEEDS):
        rng = np.random.default_rng([seed, p, local_steps])
        # As many rows as steps: no row comes twice, so each gradient has fresh noise.
        parts = [Batch(rng.standard_normal((n_steps, D)), np.zeros(n_steps)) for _ in range(p)]
        optimizers = [StichSGD(1.0, times=TIMES) for _ in parts]
        average(
            NoisyBowl(),
            parts,
            NoisyBowl().start(rng),
            rounds=n_steps // local_steps,
            steps=local_steps,
            lr=1.0,
            batch_size=1,
            optimizers=optimizers,
        )
        for t in TIMES:
            weight = float(np.sum((A + np.arange(t)) ** 2))
            w = sum(optimizer.sums[t] for optimizer in optimizers) / (p * weight)
            found[t] += 0.5 * float(w**2 @ CURVES) / N_SEEDS
    return found


@pytest.mark.parametrize(("p", "local_steps"), [(1, 1), (4, 1), (4, 4)])
def test_the_gap_falls_as_one_over_the_steps(p: int, local_steps: int) -> None:
    found = gaps(p, local_steps)
    slope, _ = np.polyfit(np.log(list(found)), np.log(list(found.values())), 1)
    # Each gap is a mean over 20 seeds and 50 coordinates: some 5 % either way.
    assert slope == pytest.approx(-1.0, abs=0.12)


@pytest.mark.parametrize("local_steps", [1, 4])
def test_p_learners_reach_a_gap_in_a_p_th_of_the_steps(local_steps: int) -> None:
    alone, together = gaps(1, 1), gaps(4, local_steps)
    for t in (200, 400):
        assert together[t] == pytest.approx(alone[4 * t], rel=0.2)
