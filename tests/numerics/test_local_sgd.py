"""What local steps do to the fixed point: nothing when curvatures agree, a known bias when not.

Theorem. Let learner i descend ``h_i w^2 / 2 - b_i w`` by H steps of size lr a round, and let
``q_i = (1 - lr h_i)^H``. A round maps w to the mean of ``q_i w + (1 - q_i) b_i / h_i``, whose fixed
point is ``sum((1 - q_i) b_i / h_i) / sum(1 - q_i)``. Where all h_i are equal, so are the q_i: the
weights after T steps in all are then the same for every H that divides T.

References
----------
.. [1] Malinovskiy, Kovalev, Gasanov, Condat, Richtarik (2020), "From local SGD to local fixed-point
   methods for federated learning"; the formula is its fixed point in one dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector
from tests.numerics.inprocess import average

B = np.array([1.0, 2.0, -3.0, 5.0])


@dataclass(frozen=True)
class Parabola:
    """``0.5 * h * w**2 - b * w``; each partition is one row (h,), b."""

    size: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    def start(self, rng: np.random.Generator) -> FloatVector:
        return np.zeros(1)

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        out[0] = np.mean(batch.X[:, 0]) * w[0] - np.mean(batch.y)

    def loss(self, w: FloatVector, data: Batch) -> float:
        return float(np.mean(0.5 * data.X[:, 0] * w[0] ** 2 - data.y * w[0]))

    def score(self, w: FloatVector, data: Batch) -> float:
        return -self.loss(w, data)


def parts(h: list[float]) -> list[Batch]:
    return [Batch(np.array([[curve]]), np.array([b])) for curve, b in zip(h, B, strict=True)]


@pytest.mark.parametrize("local_steps", [1, 2, 8, 24])
def test_local_steps_do_not_matter_when_all_partitions_have_the_same_curvature(
    local_steps: int,
) -> None:
    w = average(
        Parabola(),
        parts([1.3] * 4),
        np.zeros(1),
        rounds=240 // local_steps,
        steps=local_steps,
        lr=0.1,
    )
    assert w[0] == pytest.approx(0.96153846, abs=5e-9)


@pytest.mark.parametrize(
    ("local_steps", "expected"), [(1, 1.0870), (2, 1.0631), (8, 1.0286), (24, 1.3654)]
)
def test_local_steps_bias_the_fixed_point_as_the_formula_says(
    local_steps: int, expected: float
) -> None:
    h, lr = np.array([0.1, 0.5, 1.0, 3.0]), 0.1
    q = (1 - lr * h) ** local_steps
    formula = np.sum((1 - q) * B / h) / np.sum(1 - q)
    assert formula == pytest.approx(expected, abs=5e-5)
    w = average(Parabola(), parts(list(h)), np.zeros(1), rounds=600, steps=local_steps, lr=lr)
    assert w[0] == pytest.approx(formula, rel=1e-9)
