"""Gradients of every model against central differences, and bounds against the Hessian."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.models.linear import Linear
from paramserver.models.mlp import MLP
from paramserver.models.softmax import Softmax
from paramserver.training.learner import Batch, Learner

KINDS = [
    "squared_error", "log_loss", "hinge", "log_loss-ova", "hinge-ova", "softmax",
    "mlp-relu", "mlp-tanh", "mlp-regression",
]  # fmt: skip


def make(kind: str, d: int, c: int, l2: float) -> Learner:
    match kind.split("-"):
        case ["softmax"]:
            return Softmax(d, c, l2, "float64")
        case ["mlp", "regression"]:
            return MLP(d, 0, (4, 3), "tanh", l2, "float64")
        case ["mlp", activation]:
            return MLP(d, c, (5,), activation, l2, "float64")
        case [loss, "ova"]:
            return Linear(d, c, loss, l2, "float64")
        case [loss]:
            return Linear(d, 1, loss, l2, "float64")
    raise AssertionError(kind)


def batch_for(kind: str, n: int, d: int, c: int, rng: np.random.Generator) -> Batch:
    X = rng.standard_normal((n, d))
    if kind in ("squared_error", "mlp-regression"):
        return Batch(X, rng.standard_normal(n))
    return Batch(X, rng.integers(0, 2 if kind in ("log_loss", "hinge") else c, n))


@pytest.mark.parametrize("kind", KINDS)
@given(
    n=st.integers(1, 9),
    d=st.integers(1, 6),
    c=st.integers(3, 5),
    l2=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 2**20),
)
def test_a_gradient_agrees_with_central_differences(
    kind: str, n: int, d: int, c: int, l2: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    learner, batch = make(kind, d, c, l2), batch_for(kind, n, d, c, rng)
    w = rng.standard_normal(learner.size)
    g = np.full(learner.size, np.nan)
    kept = w.copy()
    learner.gradient(w, batch, g)
    assert np.array_equal(w, kept)
    step = 1e-6
    expected = np.empty_like(g)
    for i in range(learner.size):
        moved = w.copy()
        moved[i] += step
        above = learner.loss(moved, batch)
        moved[i] -= 2 * step
        expected[i] = (above - learner.loss(moved, batch)) / (2 * step)
    # A kink within a step of 1e-6 would spoil this; random rows have one in some 10^5 examples.
    assert np.linalg.norm(g - expected) <= 1e-6 * (1 + np.linalg.norm(g))


@pytest.mark.parametrize("kind", ["squared_error", "log_loss", "log_loss-ova", "softmax"])
@pytest.mark.parametrize("seed", range(5))
def test_the_curvature_bounds_the_hessian(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    learner, batch = make(kind, 4, 3, 0.1), batch_for(kind, 30, 4, 3, rng)
    w = 0.3 * rng.standard_normal(learner.size)
    hessian = np.empty((learner.size, learner.size))
    up, down = np.empty(learner.size), np.empty(learner.size)
    for i in range(learner.size):
        moved = w.copy()
        moved[i] += 1e-5
        learner.gradient(moved, batch, up)
        moved[i] -= 2e-5
        learner.gradient(moved, batch, down)
        hessian[i] = (up - down) / 2e-5
    largest = float(np.linalg.eigvalsh((hessian + hessian.T) / 2)[-1])
    bound = learner.curvature(batch)  # type: ignore[attr-defined]
    assert largest <= bound * (1 + 1e-6)
    assert bound <= 20 * largest  # a bound that says nothing would pass, too


def test_float32_in_is_float32_out() -> None:
    rng = np.random.default_rng(0)
    for learner in (Softmax(3, 3), Linear(3, 3, "log_loss"), Linear(3), MLP(3, 3), MLP(3, 0)):
        assert learner.start(rng).dtype == np.float32
        w = learner.start(rng)
        assert learner.layout.size == learner.size == w.size
        assert sum(v.size for v in learner.layout.views(w).values()) == w.size
