"""The textbook cases that the two modes must coincide with.

Theorem (by inspection of the definitions). Bit for bit: asynchronous SGD by one worker is
sequential SGD; averaging over one partition is the local learner; the order of arrival does not
matter; waiting for all is the same as no quorum. But for rounding (rtol 1e-12 in float64): a
staleness bound of 0 is bulk-synchronous (one mean gradient, one step) for any optimizer; one
full-batch step a round, weighted by examples, is full-batch gradient descent; one local step a
round is mini-batch SGD of p times the batch.

References
----------
.. [1] Valiant (1990), "A bridging model for parallel computation": bulk-synchronous.
.. [2] Ho et al. (2013), "More effective distributed ML via a stale synchronous parallel parameter
   server", section 2: a bound of 0 is bulk-synchronous.
.. [3] Stich (2019), "Local SGD converges fast and communicates little", section 1: H = 1 is
   mini-batch SGD.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from paramserver.models.softmax import Softmax
from paramserver.training.learner import Batch, Learner
from paramserver.training.optimizers import SGD, make_optimizer
from paramserver.training.partitions import Epoch
from paramserver.training.push_pull import PushPullRules
from paramserver.training.vector import FloatVector, fingerprint
from tests.numerics.inprocess import Pushing, average
from tests.numerics.learners import LeastSquares

LEARNERS: dict[str, Callable[[], Learner]] = {
    "least squares": lambda: LeastSquares(5),
    "logistic": lambda: Softmax(5, 3, l2=0.01, dtype_name="float64"),
}


@pytest.fixture(params=sorted(LEARNERS))
def learner(request: pytest.FixtureRequest) -> Learner:
    return LEARNERS[request.param]()


def rows(learner: Learner, *sizes: int) -> list[Batch]:
    rng = np.random.default_rng(11)
    parts = []
    for n in sizes:
        X = rng.standard_normal((n, 5))
        y = rng.integers(0, 3, n) if isinstance(learner, Softmax) else rng.standard_normal(n)
        parts.append(Batch(X, y))
    return parts


def start(learner: Learner) -> FloatVector:
    return 0.1 * np.random.default_rng(2).standard_normal(learner.size)


def sequential(
    learner: Learner, part: Batch, w: FloatVector, *, epochs: int, batch_size: int, lr: float
) -> FloatVector:
    """Plain mini-batch SGD, written as a textbook would."""
    w, g = w.copy(), np.empty_like(w)
    for number in range(epochs):
        epoch = Epoch(part, batch_size, 0, number, 0)
        for b in range(len(epoch)):
            learner.gradient(w, epoch.batch(b), g)
            w -= lr * g
    return w


def joined(parts: list[Batch]) -> Batch:
    return Batch(np.concatenate([p.X for p in parts]), np.concatenate([p.y for p in parts]))


def test_async_with_one_worker_is_sequential_sgd_bit_for_bit(learner: Learner) -> None:
    [part] = rows(learner, 53)
    w = start(learner)
    ours = Pushing(learner, [part], w, SGD(0.05), batch_size=8).run(3)
    theirs = sequential(learner, part, w, epochs=3, batch_size=8, lr=0.05)
    assert fingerprint(ours) == fingerprint(theirs)


@pytest.mark.parametrize("steps", [1, 3, 7, 21])
def test_averaging_with_one_partition_is_the_local_learner_bit_for_bit(
    learner: Learner, steps: int
) -> None:
    [part] = rows(learner, 53)
    w = start(learner)
    ours = average(learner, [part], w, rounds=21 // steps, steps=steps, lr=0.05, batch_size=8)
    theirs = sequential(learner, part, w, epochs=3, batch_size=8, lr=0.05)
    assert fingerprint(ours) == fingerprint(theirs)


def test_the_order_of_arrival_changes_no_bit(learner: Learner) -> None:
    parts = rows(learner, 13, 29, 17)
    w = start(learner)
    settings = {"rounds": 6, "steps": 4, "lr": 0.05, "batch_size": 4}
    straight = average(learner, parts, w, **settings)
    rng = np.random.default_rng(0)
    mixed = average(learner, parts, w, **settings, arrival=lambda _: list(rng.permutation(3)))
    assert fingerprint(straight) == fingerprint(mixed)


def test_waiting_for_all_is_the_same_as_no_quorum_bit_for_bit(learner: Learner) -> None:
    parts = rows(learner, 13, 29, 17)
    w = start(learner)
    settings = {"rounds": 6, "steps": 4, "lr": 0.05, "batch_size": 4}
    assert fingerprint(average(learner, parts, w, **settings, wait_for=3)) == fingerprint(
        average(learner, parts, w, **settings)
    )


def test_a_full_step_a_round_is_full_gradient_descent_for_unequal_partitions(
    learner: Learner,
) -> None:
    parts = rows(learner, 5, 40, 17, 1)
    w = start(learner)
    ours = average(learner, parts, w, rounds=25, steps=1, lr=0.1)
    theirs, g = w.copy(), np.empty_like(w)
    for _ in range(25):
        learner.gradient(theirs, joined(parts), g)
        theirs -= 0.1 * g
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_one_local_step_is_minibatch_sgd_of_p_times_the_batch(learner: Learner) -> None:
    parts = rows(learner, 24, 24, 24)
    w = start(learner)
    ours = average(learner, parts, w, rounds=10, steps=1, lr=0.1, batch_size=8)
    theirs, g = w.copy(), np.empty_like(w)
    for s in range(10):
        batches = [Epoch(part, 8, 0, s // 3, k).batch(s % 3) for k, part in enumerate(parts)]
        learner.gradient(theirs, joined(batches), g)
        theirs -= 0.1 * g
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adagrad", "adam"])
def test_a_staleness_bound_of_zero_is_synchronous_whatever_the_optimizer(
    learner: Learner, name: str
) -> None:
    """One step by the mean gradient, weighted by examples, with the last batches unequal."""
    parts = rows(learner, 20, 22, 19)
    w = start(learner)
    rng = np.random.default_rng(4)
    optimizer = make_optimizer(name, 0.05)
    pushing = Pushing(
        learner, parts, w, optimizer, batch_size=8, rules=PushPullRules(staleness_bound=0)
    )
    ours = pushing.run(4, lambda able: int(rng.choice(able)))
    reference = make_optimizer(name, 0.05)
    reference.start(w.size, w.dtype)
    theirs, g = w.copy(), np.empty_like(w)
    for number in range(4):
        for b in range(3):
            batches = [Epoch(part, 8, 0, number, k).batch(b) for k, part in enumerate(parts)]
            learner.gradient(theirs, joined(batches), g)
            reference.step(theirs, g, theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert pushing.server.version == 12
    assert pushing.server.staleness == {0: 36}


def test_a_quorum_of_learners_with_the_same_rows_is_one_of_them(learner: Learner) -> None:
    """Whoever is late: the shares of those who are not add up to 1."""
    [rows_of_all] = rows(learner, 17)
    w = start(learner)
    rng = np.random.default_rng(3)
    ours = average(
        learner,
        [rows_of_all] * 5,
        w,
        rounds=8,
        steps=2,
        lr=0.1,
        wait_for=3,
        arrival=lambda _: list(rng.permutation(5)),
    )
    theirs = average(learner, [rows_of_all], w, rounds=1, steps=16, lr=0.1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
