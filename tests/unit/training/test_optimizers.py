"""Each optimizer against its formula, element by element."""

from __future__ import annotations

import math

import numpy as np
import pytest

from paramserver.errors import ConfigError
from paramserver.training.optimizers import make_optimizer, norm
from paramserver.training.vector import BLOCK

NAMES = ["sgd", "momentum", "nesterov", "adagrad", "adam"]


def by_hand(name: str, gradients: list[float], lr: float) -> float:
    """One weight that starts at 1, by the papers' formulas in plain floats."""
    w, v, h, m = 1.0, 0.0, 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        match name:
            case "sgd":
                w -= lr * g
            case "momentum":
                v = 0.9 * v + g
                w -= lr * v
            case "nesterov":
                v = 0.9 * v + g
                w -= lr * (g + 0.9 * v)
            case "adagrad":
                h += g * g
                w -= lr * g / (math.sqrt(h) + 1e-8)
            case "adam":
                m = 0.9 * m + 0.1 * g
                h = 0.999 * h + 0.001 * g * g
                w -= lr * (m / (1 - 0.9**t)) / (math.sqrt(h / (1 - 0.999**t)) + 1e-8)
    return w


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_does_what_its_paper_says(name: str) -> None:
    rng = np.random.default_rng(0)
    d = BLOCK + 3
    gradients = [rng.standard_normal(d) for _ in range(5)]
    optimizer = make_optimizer(name, 0.1)
    optimizer.start(d, np.float64)
    w = np.ones(d)
    for g in gradients:
        out = np.empty(d)
        kept = g.copy()
        assert optimizer.step(w, g, out)
        assert np.array_equal(g, kept)
        w = out
    for i in (0, 1, BLOCK - 1, BLOCK, d - 1):
        expected = by_hand(name, [float(g[i]) for g in gradients], 0.1)
        assert w[i] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_in_place_is_the_same_step(name: str) -> None:
    rng = np.random.default_rng(0)
    beside, within = make_optimizer(name, 0.1), make_optimizer(name, 0.1)
    beside.start(9, np.float32)
    within.start(9, np.float32)
    w = v = np.ones(9, np.float32)
    for _ in range(3):
        g = rng.standard_normal(9).astype(np.float32)
        out = np.empty_like(w)
        beside.step(w, g, out)
        w = out
        v = v.copy()
        within.step(v, g, v)
    assert w.tobytes() == v.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_scales_act_on_the_rate_and_on_the_gradient(name: str) -> None:
    g = np.array([1.0, -2.0])
    scaled, plain = make_optimizer(name, 0.4), make_optimizer(name, 0.1)
    for optimizer in (scaled, plain):
        optimizer.start(2, np.float64)
    a, b = np.ones(2), np.ones(2)
    for _ in range(3):
        scaled.step(a, g, a, lr_scale=0.25, g_scale=0.5)
        plain.step(b, 0.5 * g, b)
    np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", [0, BLOCK, BLOCK + 2])
def test_a_step_tells_weights_that_are_not_finite(name: str, where: int) -> None:
    optimizer = make_optimizer(name, 0.1)
    optimizer.start(BLOCK + 3, np.float64)
    g = np.ones(BLOCK + 3)
    g[where] = np.nan
    assert not optimizer.step(np.ones(BLOCK + 3), g, np.empty(BLOCK + 3))


@pytest.mark.parametrize("lr", [0.0, -1.0, math.inf, math.nan])
def test_a_learning_rate_that_is_none_is_refused(lr: float) -> None:
    with pytest.raises(ConfigError, match="learning rate"):
        make_optimizer("adam", lr)


@pytest.mark.parametrize("name", ["sdg", ""])
def test_an_unknown_optimizer_is_named_beside_those_there_are(name: str) -> None:
    with pytest.raises(ConfigError, match="adagrad, adam, momentum, nesterov, sgd"):
        make_optimizer(name, 0.1)


def test_the_norm_of_a_long_vector_is_right_to_rounding() -> None:
    g = np.full(3 * BLOCK + 1, 1e-4, np.float32)
    assert norm(g) == pytest.approx(1e-4 * math.sqrt(3 * BLOCK + 1), rel=1e-5)


# --- gradients of some rows ----------------------------------------------------------------------

N_ROWS, WIDTH = 7, 3


def rows_and_values(
    rng: np.random.Generator, dtype: type
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some rows, their values, and the same gradient made whole."""
    rows = np.sort(rng.choice(N_ROWS, 4, replace=False)).astype(np.int64)
    values = rng.standard_normal((4, WIDTH)).astype(dtype)
    whole = np.zeros((N_ROWS, WIDTH), dtype)
    whole[rows] = values
    return rows, values, whole.reshape(-1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_a_step_by_some_rows_is_the_step_by_the_gradient_made_whole(name: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    sparse, dense = make_optimizer(name, 0.1), make_optimizer(name, 0.1)
    for optimizer in (sparse, dense):
        optimizer.start(N_ROWS * WIDTH, dtype)
    w = rng.standard_normal(N_ROWS * WIDTH).astype(dtype)
    v = w.copy()
    for _ in range(5):
        rows, values, whole = rows_and_values(rng, dtype)
        kept = values.copy()
        assert sparse.sparse_step(v.reshape(-1, WIDTH), rows, values, lr_scale=0.5, g_scale=0.7)
        assert np.array_equal(values, kept)
        assert dense.step(w, whole, w, lr_scale=0.5, g_scale=0.7)
        np.testing.assert_allclose(v, w, rtol=1e-6 if dtype is np.float32 else 1e-14)
    assert sparse.n_steps == dense.n_steps == 5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_a_step_by_some_rows_that_is_not_finite_changes_nothing(name: str, bad: float) -> None:
    rng = np.random.default_rng(0)
    optimizer = make_optimizer(name, 0.1)
    optimizer.start(N_ROWS * WIDTH, np.float32)
    w = np.ones((N_ROWS, WIDTH), np.float32)
    rows, values, _ = rows_and_values(rng, np.float32)
    optimizer.sparse_step(w, rows, values)
    before = (w.tobytes(), [state.tobytes() for state in optimizer.state], optimizer.n_steps)
    values[2, 1] = bad
    assert not optimizer.sparse_step(w, rows, values)
    after = (w.tobytes(), [state.tobytes() for state in optimizer.state], optimizer.n_steps)
    assert after == before


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adam"])
def test_an_optimizer_that_moves_all_weights_refuses_some_rows(name: str) -> None:
    optimizer = make_optimizer(name, 0.1)
    optimizer.start(6, np.float32)
    w = np.ones((2, 3), np.float32)
    with pytest.raises(ConfigError, match="SGD and Adagrad can"):
        optimizer.sparse_step(w, np.zeros(1, np.int64), np.ones((1, 3), np.float32))
    assert (w == 1).all()
