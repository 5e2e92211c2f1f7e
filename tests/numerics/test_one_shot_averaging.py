"""What a single average of independent models brings: less variance, and no less bias.

Theorem. Let k models be trained each on m examples of its own, drawn independently from one
distribution. Their mean has the expectation of one of them, so the bias stays what it is, and the
k-th part of the variance of one of them. (m is fixed: more models are more examples, too.)

References
----------
.. [1] Zinkevich, Weimer, Smola, Li (2010), "Parallelized stochastic gradient descent", section 3.
.. [2] Zhang, Duchi, Wainwright (2013), "Communication-efficient algorithms for statistical
   optimization", theorem 1: the bias is what limits one-shot averaging.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from paramserver.models.linear import Linear
from paramserver.training.learner import Batch
from tests.numerics.inprocess import average

N_COORDINATES, N_SEEDS = 20, 200
M = 40
LEARNER = Linear(N_COORDINATES, l2=0.5, dtype_name="float64")
"""The penalty pulls towards 0: that is the bias."""
TRUTH = np.linspace(-1.5, 1.5, N_COORDINATES)


def one_shot(k: int, seed: int) -> np.ndarray:
    """Return the mean of the coefficients of k models, by the machine, in a single round."""
    rng = np.random.default_rng([seed, k])
    parts = []
    for _ in range(k):
        X = rng.standard_normal((M, N_COORDINATES))
        parts.append(Batch(X, X @ TRUTH + rng.standard_normal(M)))
    w = average(LEARNER, parts, np.zeros(LEARNER.size), rounds=1, steps=30, lr=0.3)
    return w[:N_COORDINATES]


@cache
def sample(k: int) -> np.ndarray:
    """One row a seed, one column a coordinate."""
    return np.stack([one_shot(k, seed) for seed in range(N_SEEDS)])


def bias(k: int) -> float:
    """How much shorter than the truth the mean estimate is, in the direction of the truth."""
    return 1 - float(sample(k).mean(axis=0) @ TRUTH / (TRUTH @ TRUTH))


@pytest.mark.parametrize("k", [2, 4, 8])
def test_the_variance_falls_as_the_number_of_models(k: int) -> None:
    one, many = (float(sample(n).var(axis=0, ddof=1).mean()) for n in (1, k))
    assert 0.8 / k <= many / one <= 1.2 / k


@pytest.mark.parametrize("k", [2, 4, 8])
def test_the_bias_does_not_fall(k: int) -> None:
    # Its standard error is that of a mean over the seeds, projected on the truth.
    along = sample(1) @ TRUTH / (TRUTH @ TRUTH)
    error = float(along.std(ddof=1)) / N_SEEDS**0.5
    assert bias(1) > 20 * error
    assert bias(k) == pytest.approx(bias(1), abs=4 * error)
