"""Gradients of every model against central differences, bounds against the Hessian, and every way
to take a step against the plain one.

Rows are dense or sparse, with weights or without, and penalties are both kinds: at random.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from paramserver.models.linear import Linear
from paramserver.models.mlp import MLP
from paramserver.models.softmax import Softmax
from paramserver.training.learner import Batch
from paramserver.training.partitions import Epoch

KINDS = [
    "squared_error", "huber", "log_loss", "hinge", "perceptron", "modified_huber",
    "log_loss-ova", "hinge-ova", "softmax",
    "mlp-relu", "mlp-tanh", "mlp-logistic", "mlp-identity", "mlp-regression", "mlp-poisson",
]  # fmt: skip
WITH_KERNELS = [kind for kind in KINDS if not kind.startswith("mlp")]
NUMBERS = ("squared_error", "huber", "mlp-regression")


def make(
    kind: str, d: int, c: int, l2: float, l1: float = 0.0, kernel: str = "numpy"
) -> Linear | Softmax | MLP:
    match kind.split("-"):
        case ["softmax"]:
            return Softmax(d, c, l2, "float64", l1, kernel)
        case ["mlp", "regression"]:
            return MLP(d, 0, (4, 3), "tanh", l2, "float64", l1)
        case ["mlp", "poisson"]:
            return MLP(d, 0, (4, 3), "tanh", l2, "float64", l1, loss_name="poisson")
        case ["mlp", activation]:
            return MLP(d, c, (5,), activation, l2, "float64", l1)
        case [loss, "ova"]:
            return Linear(d, c, loss, l2, "float64", l1, kernel)
        case [loss]:
            return Linear(d, 1, loss, l2, "float64", l1, kernel)
    raise AssertionError(kind)


def batch_for(
    kind: str,
    n: int,
    d: int,
    c: int,
    rng: np.random.Generator,
    *,
    weighted: bool = False,
    sparse: bool = False,
) -> Batch:
    X = rng.standard_normal((n, d))
    weight = rng.uniform(0, 3, n) if weighted else None
    if sparse:
        X = csr_array(np.where(rng.random((n, d)) < 0.4, X, 0))
    if kind in NUMBERS:
        return Batch(X, rng.standard_normal(n), weight)
    if kind == "mlp-poisson":
        return Batch(X, rng.poisson(1.0, n), weight)
    n_classes = c if "-" in kind or kind == "softmax" else 2
    return Batch(X, rng.integers(0, n_classes, n), weight)


@pytest.mark.parametrize("kind", KINDS)
@given(
    n=st.integers(1, 9),
    d=st.integers(1, 6),
    c=st.integers(3, 5),
    l1=st.sampled_from([0.0, 0.2]),
    l2=st.sampled_from([0.0, 0.3]),
    weighted=st.booleans(),
    sparse=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_a_gradient_agrees_with_central_differences(
    kind: str,
    n: int,
    d: int,
    c: int,
    l1: float,
    l2: float,
    weighted: bool,
    sparse: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    learner = make(kind, d, c, l2, l1)
    batch = batch_for(kind, n, d, c, rng, weighted=weighted, sparse=sparse)
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


class Pass(NamedTuple):
    """What is drawn for a pass over sparse rows."""

    n: int
    d: int
    c: int
    batch_size: int
    l1: float
    l2: float
    weighted: bool
    seed: int


def passes(largest_batch: int, *l2: float) -> st.SearchStrategy[Pass]:
    """Draw one with some of these penalties."""
    return st.builds(
        Pass,
        n=st.integers(1, 30),
        d=st.integers(1, 12),
        c=st.integers(2, 5),
        batch_size=st.integers(1, largest_batch),
        l1=st.sampled_from([0.0, 0.1]),
        l2=st.sampled_from(l2),
        weighted=st.booleans(),
        seed=st.integers(0, 2**20),
    )


@pytest.mark.parametrize("kind", WITH_KERNELS)
@given(passes(9, 0.0, 0.2, 9.0, 11.0))
def test_every_way_through_a_pass_ends_with_the_same_weights(kind: str, drawn: Pass) -> None:
    """Also where the penalty of a step is so large that it turns coefficients round."""
    n, d, c, batch_size, l1, l2, weighted, seed = drawn
    rng = np.random.default_rng(seed)
    rows = batch_for(kind, n, d, c, rng, weighted=weighted, sparse=True)
    start = rng.standard_normal((d + 1) * (c if kind.endswith("ova") or kind == "softmax" else 1))
    dense = rows._replace(X=rows.X.toarray())
    plain = start.copy()
    epoch = Epoch(dense, batch_size, seed, 0, 0)
    make(kind, d, c, l2, l1)._plain_steps(plain, epoch, range(len(epoch)), 0.1)
    for kernel, each in (("numpy", rows), ("numba", rows), ("numba", dense)):
        w = start.copy()
        make(kind, d, c, l2, l1, kernel).local_epoch(w, Epoch(each, batch_size, seed, 0, 0), 0.1)
        assert np.abs(w - plain).max() <= 1e-11 * (1 + np.abs(plain).max()), kernel


@pytest.mark.parametrize("kind", WITH_KERNELS)
@given(passes(35, 0.0, 0.2))
def test_both_kernels_find_the_same_gradients_of_the_same_rows(kind: str, drawn: Pass) -> None:
    n, d, c, batch_size, l1, l2, weighted, seed = drawn
    rng = np.random.default_rng(seed)
    rows = batch_for(kind, n, d, c, rng, weighted=weighted, sparse=True)
    plain, fast = (
        make(kind, d, c, l2, l1, kernel).row_pass(Epoch(rows, batch_size, seed, 0, 0))
        for kernel in ("numpy", "numba")
    )
    assert (type(plain).__name__, type(fast).__name__) == ("PlainPass", "CompiledPass")
    width = make(kind, d, c, l2).width
    w = rng.standard_normal((d + 1, width))
    w[:: max(1, d // 2)] = 0.0
    for number in range(-(-n // batch_size)):
        touched = plain.touched(number)
        assert np.array_equal(fast.touched(number), touched)
        assert fast.touched(number).dtype == touched.dtype
        expected, found = np.full((2, touched.size, width), 7.0)
        plain.gradient(number, w[touched], touched, expected)
        fast.gradient(number, w[touched], touched, found)
        assert np.abs(found - expected).max() <= 1e-12 * (1 + np.abs(expected).max())


@pytest.mark.parametrize("kind", ["squared_error", "log_loss", "log_loss-ova", "softmax"])
@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_a_scale_that_has_become_too_small_is_multiplied_out(kind: str, kernel: str) -> None:
    rng = np.random.default_rng(0)
    rows = batch_for(kind, 200, 9, 3, rng, sparse=True)
    learner, plain = (make(kind, 9, 3, 3.0, 0.01, k) for k in (kernel, "numpy"))
    epoch = Epoch(rows, 1, 0, 0, 0)
    w, expected = (rng.standard_normal(learner.size),) * 2
    w, expected = w.copy(), expected.copy()
    learner.local_epoch(w, epoch, 0.1)  # 0.7 ** 200 is 1e-31
    plain._plain_steps(expected, epoch, range(200), 0.1)
    assert np.abs(w - expected).max() <= 1e-12


@pytest.mark.parametrize("kind", ["squared_error", "log_loss", "log_loss-ova", "softmax"])
@pytest.mark.parametrize("seed", range(5))
def test_the_curvature_bounds_the_hessian(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    learner = make(kind, 4, 3, 0.1)
    batch = batch_for(kind, 30, 4, 3, rng, weighted=seed > 2, sparse=seed % 2 == 1)
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
    assert isinstance(learner, Linear | Softmax)
    bound = learner.curvature(batch)
    assert largest <= bound * (1 + 1e-6)
    assert bound <= 20 * largest  # a bound that says nothing would pass, too


def test_float32_in_is_float32_out() -> None:
    rng = np.random.default_rng(0)
    for learner in (Softmax(3, 3), Linear(3, 3, "log_loss"), Linear(3), MLP(3, 3), MLP(3, 0)):
        assert learner.start(rng).dtype == np.float32
        w = learner.start(rng)
        assert learner.layout.size == learner.size == w.size
        assert sum(v.size for v in learner.layout.views(w).values()) == w.size
