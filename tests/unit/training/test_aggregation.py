"""From the results of a round to new weights."""

from __future__ import annotations

import numpy as np
import pytest

from paramserver.training.aggregation import Aggregation, TailMean, divergence
from paramserver.training.optimizers import SGD, Momentum
from paramserver.training.vector import BLOCK


def test_without_an_outer_optimizer_the_mean_is_assigned_bit_for_bit() -> None:
    vectors = [np.array([0.1, -0.0, 3.0]), np.array([0.2, -0.0, 5.0])]
    new = np.empty(3)
    assert Aggregation(3, np.float64).fold(np.ones(3), vectors, (0.25, 0.75), new)
    assert new.tobytes() == (0.25 * vectors[0] + 0.75 * vectors[1]).tobytes()
    assert np.signbit(new[1])


def test_plain_outer_steps_of_one_are_the_mean_to_rounding() -> None:
    vectors = [np.array([1.0, 2.0]), np.array([3.0, 5.0])]
    new = np.empty(2)
    Aggregation(2, np.float64, outer=SGD(1.0)).fold(np.full(2, 9.0), vectors, (0.5, 0.5), new)
    np.testing.assert_allclose(new, [2.0, 3.5], rtol=1e-15)


def test_the_outer_optimizer_takes_the_change_for_a_gradient_and_remembers() -> None:
    aggregation = Aggregation(1, np.float64, outer=Momentum(0.7, 0.9, nesterov=True))
    w, v = 0.0, 0.0
    old = np.zeros(1)
    for target in (1.0, 2.0, -1.0):
        new = np.empty(1)
        assert aggregation.fold(old, [np.array([target])], (1.0,), new)
        g = w - target
        v = 0.9 * v + g
        w -= 0.7 * (g + 0.9 * v)
        assert new[0] == pytest.approx(w, rel=1e-12)
        old = new


@pytest.mark.parametrize("outer", [None, SGD(1.0)])
def test_what_is_not_finite_is_told(outer: SGD | None) -> None:
    bad = [np.array([1.0, np.inf]), np.ones(2)]
    aggregation = Aggregation(2, np.float64, outer=outer)
    assert not aggregation.fold(np.ones(2), bad, (0.5, 0.5), np.empty(2))
    assert [aggregation.is_finite(v) for v in bad] == [False, True]


def test_the_tail_is_the_mean_of_the_last_rounds() -> None:
    tail = TailMean(1, np.float64, first=2)
    last = np.array([4.0])
    for number in range(5):
        assert tail.mean(last) is last or number > 2
        tail.add(number, np.array([float(number**2)]))
    assert tail.mean(last)[0] == pytest.approx((4 + 9 + 16) / 3, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 5, BLOCK + 3])
def test_divergence_is_the_mean_distance_of_the_results_from_their_mean(d: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal(d).astype(dtype) for _ in range(3)]
    coefficients = (0.5, 0.125, 0.375)
    mean = sum(c * v.astype("float64") for c, v in zip(coefficients, vectors, strict=True))
    expected = sum(c * np.linalg.norm(v - mean) for c, v in zip(coefficients, vectors, strict=True))
    before = [vector.copy() for vector in vectors]
    found = divergence(vectors, coefficients)
    assert found == pytest.approx(expected, rel=1e-5 if dtype == "float32" else 1e-12)
    assert all(map(np.array_equal, vectors, before))


def test_learners_that_agree_do_not_diverge() -> None:
    one = np.array([0.1, -3.0])
    assert divergence([one], (1.0,)) == 0.0
    assert divergence([one, one.copy()], (0.5, 0.5)) == 0.0
