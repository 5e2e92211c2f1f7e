"""Perceptrons mixed after each pass learn what is separable; mixed once, they may not.

Theorem (iterative parameter mixing). Let all rows have norm at most R and be separated by a unit
vector with margin gamma. Let learner i make ``k[i, n]`` mistakes in its pass of round n, and let
the round be mixed with shares ``mu[i, n]`` that add up to 1. Then for any partitions and shares

    sum over n and i of  mu[i, n] * k[i, n]  <=  R^2 / gamma^2.

So the rounds with mistakes end, and what is left separates all rows. One mixture at the end of
separate trainings has no such bound.

References
----------
.. [1] McDonald, Hall, Mann (2010), "Distributed training strategies for the structured perceptron",
   theorem 3, and theorem 2 for the one-shot mixture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector
from tests.numerics.inprocess import average


@dataclass(frozen=True)
class Perceptron:
    """Rosenblatt's rule for labels +1 and -1, one row at a time, no intercept.

    The last weight counts mistakes. So the machine's own mixtures add up the left side of the
    theorem: each round adds the mean of the learners' mistakes, by the shares it was mixed with.
    """

    n_features: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    @property
    def size(self) -> int:
        return self.n_features + 1

    def start(self, rng: np.random.Generator) -> FloatVector:
        return np.zeros(self.size)

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        out[:] = 0
        if batch.y[0] * (batch.X[0] @ w[:-1]) <= 0:
            out[:-1] = -batch.y[0] * batch.X[0]
            out[-1] = -1

    def loss(self, w: FloatVector, data: Batch) -> float:
        return float(w[-1])

    def score(self, w: FloatVector, data: Batch) -> float:
        return float(np.mean(data.y * (data.X @ w[:-1]) > 0))


def mix(parts: list[Batch], rounds: int, **how: Any) -> FloatVector:
    """Train from zero, a pass over each partition a round."""
    learner = Perceptron(parts[0].X.shape[1])
    start = np.zeros(learner.size)
    return average(learner, parts, start, rounds=rounds, steps=None, lr=1.0, batch_size=1, **how)


def mistakes_allowed(parts: list[Batch], u: np.ndarray) -> float:
    """R^2 / gamma^2 of rows that the direction `u` separates."""
    X, y = np.concatenate([part.X for part in parts]), np.concatenate([part.y for part in parts])
    gamma = float(np.min(y * (X @ u)) / np.linalg.norm(u))
    assert gamma > 0
    return float(np.max(np.sum(X**2, axis=1))) / gamma**2


@st.composite
def separable(
    draw: st.DrawFn, max_rows: int = 12, least_gap: float = 0.05
) -> tuple[list[Batch], np.ndarray]:
    """Random rows on both sides of a gap, dealt out unequally; and a direction that separates."""
    sizes = draw(st.lists(st.integers(1, max_rows), min_size=1, max_size=5))
    d = draw(st.integers(1, 6))
    gap = draw(st.floats(least_gap, 2.0))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    u = rng.standard_normal(d)
    u /= np.linalg.norm(u)
    parts = []
    for n in sizes:
        X = rng.standard_normal((n, d)) * rng.choice([0.2, 1.0, 3.0])
        y = np.where(X @ u >= 0, 1, -1)
        parts.append(Batch(X + gap * y[:, None] * u, y))
    return parts, u


@given(data=separable(), seed=st.integers(0, 2**20), quorum=st.floats(0, 1))
def test_the_weighted_mistakes_are_bounded_whatever_the_partitions_and_the_mixture(
    data: tuple[list[Batch], np.ndarray], seed: int, quorum: float
) -> None:
    """The shares are those of the examples of whoever came in time, another choice each round."""
    parts, u = data
    p = len(parts)
    rng = np.random.default_rng(seed)
    w = mix(
        parts,
        25,
        seed=seed,
        wait_for=1 + round(quorum * (p - 1)),
        arrival=lambda _: list(rng.permutation(p)),
    )
    assert w[-1] <= mistakes_allowed(parts, u) * (1 + 1e-9)


@settings(max_examples=30)
@given(data=separable(max_rows=4, least_gap=1.0), seed=st.integers(0, 2**20))
def test_mixing_after_each_pass_ends_with_weights_that_separate_all_rows(
    data: tuple[list[Batch], np.ndarray], seed: int
) -> None:
    """Rounds with mistakes use up at least the smallest share each; one without is the last."""
    parts, u = data
    smallest = min(part.n for part in parts) / sum(part.n for part in parts)
    rounds = int(mistakes_allowed(parts, u) / smallest) + 1
    assume(rounds < 300)
    w = mix(parts, rounds, seed=seed)
    for part in parts:
        assert Perceptron(part.X.shape[1]).score(w, part) == 1.0


def test_the_bound_is_reached_by_orthogonal_rows() -> None:
    """n orthogonal unit rows have R = 1 and gamma = 1 / sqrt(n), and each is a mistake once."""
    n = 7
    rows = Batch(np.eye(n), np.ones(n))
    parts = [rows, rows, Batch(np.concatenate([rows.X, rows.X]), np.ones(2 * n))]
    assert np.isclose(mistakes_allowed(parts, np.ones(n)), n)
    assert np.isclose(mix(parts, 10)[-1], n)


def test_one_mixture_of_separate_trainings_may_separate_by_no_shares_at_all() -> None:
    """The example of McDonald, Hall and Mann's theorem 2, in the form of two classes."""
    parts = [
        Batch(np.array([[1.0, 1, 0], [0, 0, 1]]), np.array([1, -1])),
        Batch(np.array([[0.0, 1, 1], [1, 0, 0]]), np.array([1, -1])),
    ]
    learner = Perceptron(3)
    rounds = int(mistakes_allowed(parts, np.array([-1.0, 3, -1])) / 0.5) + 1
    apart = [mix([part], rounds) for part in parts]
    for w, part in zip(apart, parts, strict=True):
        assert learner.score(w, part) == 1.0  # each has learnt its own rows
    for share in np.linspace(0, 1, 101):
        once = share * apart[0] + (1 - share) * apart[1]
        assert min(learner.score(once, part) for part in parts) < 1.0
    # The machine's own single mixture of them, with the shares 1/2 and 1/2:
    once = average(learner, parts, np.zeros(4), rounds=1, steps=2 * rounds, lr=1.0, batch_size=1)
    assert np.array_equal(once, (apart[0] + apart[1]) / 2)
    # Mixed after each pass, the same learners separate them all.
    often = mix(parts, rounds)
    assert [learner.score(often, part) for part in parts] == [1.0, 1.0]
