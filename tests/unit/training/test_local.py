"""Steps that a learner takes by itself."""

from __future__ import annotations

import numpy as np
import pytest

from paramserver.models.linear import Linear
from paramserver.training.learner import Batch, Learner
from paramserver.training.local import take_steps
from paramserver.training.optimizers import SGD
from paramserver.training.partitions import Epoch
from tests.numerics.learners import LeastSquares

N = 5
ROWS = Batch(np.random.default_rng(0).standard_normal((2 * N, 3)), np.arange(2.0 * N))


def asked_for(learner: Learner, steps: range, n_steps: int = 99) -> tuple[list[int], bool]:
    """Return which passes are asked for, and whether all steps were taken."""
    asked: list[int] = []
    left = iter(range(n_steps))

    def epoch(number: int) -> Epoch:
        asked.append(number)
        return Epoch(ROWS, 2, 0, number, 0)

    optimizer = SGD(0.01)
    optimizer.start(learner.size, learner.dtype)
    w, g = np.zeros((2, learner.size), learner.dtype)
    done = take_steps(
        learner, w, g, optimizer, epoch, N, steps, lambda: next(left, None) is not None
    )
    return asked, done


@pytest.mark.parametrize(
    ("learner", "asked"),
    [(LeastSquares(3), [1, 1, 2, 2]), (Linear(3, dtype_name="float64"), [1, 2])],
)
def test_no_other_pass_is_drawn_than_those_that_steps_belong_to(
    learner: Learner, asked: list[int]
) -> None:
    assert asked_for(learner, range(8, 12)) == (asked, True)
    assert asked_for(learner, range(8, 8)) == ([], True)


def test_steps_end_where_they_are_not_wanted_any_more() -> None:
    assert asked_for(LeastSquares(3), range(8, 12), n_steps=2) == ([1, 1], False)
    assert asked_for(Linear(3, dtype_name="float64"), range(8, 12), n_steps=1) == ([1], False)
